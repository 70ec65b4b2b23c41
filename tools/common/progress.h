/* SPDX-License-Identifier: MIT */
/*
 * Shows the engine's progress on standard error: on a terminal one line that updates itself, after the first
 * second; elsewhere a plain line at most every ten seconds; nothing for short work. One thread.
 */
#ifndef TOOLS_PROGRESS_H
#define TOOLS_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "sosie/clock.h"
#include "sosie/progress.h"

struct progress {
	struct sosie_progress report; /* what the engine gets */
	struct sosie_clock *clock;
	FILE *out;
	bool terminal;
	char step[64];
	int64_t step_ms;    /* when the step began */
	uint64_t step_done; /* bytes done when it began */
	int64_t shown_ms;   /* last line */
	size_t width;       /* of the line that stands on the terminal, 0: none */
};

/* quiet: shows nothing. */
void progress_init(struct progress *p, struct sosie_clock *clock, FILE *out, bool terminal, bool quiet);
/* Takes the line off the terminal, so that other output can follow. */
void progress_clear(struct progress *p);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Shows the engine's progress on standard error: on a terminal one line that updates itself, after the first
 * second; elsewhere a plain line every ten seconds of the same step; nothing for short work. A step begins
 * when its name is new or what is done goes back; rate and time left count from there. One thread.
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
	uint64_t last_done; /* as last reported */
	int64_t shown_ms;   /* last line, or so that the next comes in time */
	bool working;       /* something was reported since the start, or since progress_clear */
	size_t width;       /* of the line that stands on the terminal, 0: none */
};

/* quiet: shows nothing. */
void progress_init(struct progress *p, struct sosie_clock *clock, FILE *out, bool terminal, bool quiet);
/* Takes the line off the terminal, so that other output can follow. */
void progress_clear(struct progress *p);

#endif

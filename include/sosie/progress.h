/* SPDX-License-Identifier: MIT */
/* How long work tells where it is: the engine calls report, the program decides what to show. NULL means
 * nobody listens. */
#ifndef SOSIE_PROGRESS_H
#define SOSIE_PROGRESS_H

#include <stdint.h>

struct sosie_progress {
	/* step: what is being done, borrowed for the call ("reading", "copying erp-0"); done and total in
	 * bytes, total 0 when not known. Called from one thread at a time, often; must be cheap. */
	void (*report)(struct sosie_progress *p, const char *step, uint64_t done, uint64_t total);
};

static inline void sosie_progress(struct sosie_progress *p, const char *step, uint64_t done, uint64_t total)
{
	if (p)
		p->report(p, step, done, total);
}

#endif

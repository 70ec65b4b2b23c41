/* SPDX-License-Identifier: MIT */
/*
 * A window is half a second or 64 records. At its end: most of it spent waiting for the link, one step up;
 * next to nothing, one step down, as long as encoding still is a share worth saving. Between the two lies a
 * band in which nothing changes, wide enough that one step does not cross it: so it comes to rest.
 */
#include "engine/replicate/level.h"

#define WINDOW_US 500000u
#define WINDOW_RECORDS 64u
#define UP_PERCENT 60u     /* of the window spent waiting, or more */
#define DOWN_PERCENT 35u   /* or less */
#define ENCODE_PERCENT 40u /* of the window spent encoding: below that a lower level saves nothing */

/* Not below -1: what a faster level saves there, encrypting and taking in its larger records costs
 * (measured). */
static const int steps[] = {-1, 1, 2, 3, 4, 5, 6};
#define STEPS (sizeof(steps) / sizeof(steps[0]))
#define FIRST_STEP 1u /* level 1 */

static void start_window(struct level *l)
{
	l->records = 0;
	l->encode_us = l->wait_us = l->other_us = 0;
}

void level_init(struct level *l, int level)
{
	*l = (struct level){.fixed = level != 0, .level = level, .step = FIRST_STEP};
	if (!l->fixed)
		l->level = steps[FIRST_STEP];
}

static bool go_to(struct level *l, unsigned step)
{
	bool changed = step != l->step;

	l->step = step;
	l->level = steps[step];
	return changed;
}

bool level_note(struct level *l, uint64_t encode_us, uint64_t wait_us, uint64_t all_us)
{
	uint64_t all, waited, encoded;

	if (l->fixed)
		return false;
	l->records++;
	l->encode_us += encode_us;
	l->wait_us += wait_us;
	l->other_us += all_us > encode_us + wait_us ? all_us - encode_us - wait_us : 0;
	all = l->encode_us + l->wait_us + l->other_us;
	if (all == 0 || (all < WINDOW_US && l->records < WINDOW_RECORDS))
		return false;
	waited = l->wait_us * 100 / all;
	encoded = l->encode_us * 100 / all;
	start_window(l);
	if (waited >= UP_PERCENT)
		return go_to(l, l->step + 1 < STEPS ? l->step + 1 : l->step);
	if (waited <= DOWN_PERCENT && encoded >= ENCODE_PERCENT)
		return go_to(l, l->step > 0 ? l->step - 1 : 0);
	return false;
}

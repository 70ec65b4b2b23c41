/* SPDX-License-Identifier: MIT */
/*
 * Which points stay: a pure function of their numbers, the standby's times and a policy. What a flood of
 * points can do to it is bounded by construction: a period has one slot, which its newest point has, so that
 * points of this hour never take the slot of an earlier one; `all` counts time, not points.
 */
#ifndef SOSIE_STORE_RETAIN_H
#define SOSIE_STORE_RETAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sosie/retention.h"

#define RETAIN_PERIODS 4u /* hour, day, ISO week, month; UTC */
struct retain_rule {
	bool set; /* false: a floor that holds nothing, a wish for everything */
	uint64_t all_ms;
	uint64_t last[RETAIN_PERIODS];
};
struct retain_policy {
	struct retain_rule floor, wish;
};

/* Times as retention counts them, in the order of the points: the greatest so far of those that are not in
 * the future. raw: as in the chain. */
struct retain_clock {
	int64_t now_ms, last_ms;
};
int64_t retain_time(struct retain_clock *c, int64_t raw_ms);

/* points ascend by number and time. Adds to `by` of each; what is set already (pins, a cutover) stays. One
 * pass. */
void retain_points(struct sosie_kept *points, size_t count, const struct retain_policy *policy,
                   int64_t now_ms);

/* How early a point goes when room is short: 0: never, then 1 (first) to 6 (last). */
unsigned retain_thin_rank(const struct sosie_kept *point);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * What cuts have cost, to say what the next one will: extents times the measured time for each, times the
 * rounds of clones that the last cut needed (1 under a pause), and what comes on top (the pause's own words).
 * Times are moving averages. Writers are held once in each round; the sum counts. Kept in a small file beside
 * the views, so that a restart still knows; the file is a hint, a damaged one is taken as none.
 */
#ifndef ENGINE_SOURCE_STALLS_H
#define ENGINE_SOURCE_STALLS_H

#include <stdbool.h>
#include <stdint.h>

#define STALLS_FIRST_NS 15000u /* an extent, before anything was measured */
#define STALLS_ROUNDS 16u
#define STALLS_GROWTH 8u /* cuts in a row with more extents than the one before: growing */

struct stalls {
	uint64_t extent_ns; /* 0: not measured */
	uint64_t fixed_us;
	unsigned rounds;                    /* of the last cut, 1 to STALLS_ROUNDS */
	bool known;                         /* at least one cut was measured */
	int64_t last_us, last_predicted_us; /* -1: none; not in the file */
	unsigned counts;                    /* of extents[], oldest first */
	uint64_t extents[STALLS_GROWTH + 1];
};
void stalls_init(struct stalls *s);
/* extents 0: they do not matter; then -1 until a cut was measured. */
int64_t stalls_predict(const struct stalls *s, uint64_t extents);
/* A cut: how long writers were held in all rounds, in the part of it that grows with extents, and the rounds.
 */
void stalls_note(struct stalls *s, uint64_t extents, int64_t predicted_us, int64_t held_us,
                 int64_t cloning_us, unsigned rounds);
bool stalls_growing(const struct stalls *s);

/* In folder fd; a failure to write costs a hint only. */
void stalls_load(struct stalls *s, int fd, const char *name);
void stalls_save(const struct stalls *s, int fd, const char *name, const char *temporary);

#endif

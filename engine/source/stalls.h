/* SPDX-License-Identifier: MIT */
/*
 * What cuts have cost, to say what the next one will: extents times the measured time for each, and what
 * comes on top (the pause's own words), both as moving averages. Kept in a small file beside the views, so
 * that a restart still knows; the file is a hint, a damaged one is taken as none.
 */
#ifndef ENGINE_SOURCE_STALLS_H
#define ENGINE_SOURCE_STALLS_H

#include <stdbool.h>
#include <stdint.h>

#define STALLS_FIRST_NS 15000u /* an extent, before anything was measured */
#define STALLS_GROWTH 8u       /* cuts in a row with more extents than the one before: growing */

struct stalls {
	uint64_t extent_ns; /* 0: not measured */
	uint64_t fixed_us;
	bool known;                         /* at least one cut was measured */
	int64_t last_us, last_predicted_us; /* -1: none; not in the file */
	unsigned counts;                    /* of extents[], oldest first */
	uint64_t extents[STALLS_GROWTH + 1];
};
void stalls_init(struct stalls *s);
/* extents 0: they do not matter; then -1 until a cut was measured. */
int64_t stalls_predict(const struct stalls *s, uint64_t extents);
/* A cut: how long writers were held in all, and in the part that grows with extents. */
void stalls_note(struct stalls *s, uint64_t extents, int64_t predicted_us, int64_t held_us,
                 int64_t cloning_us);
bool stalls_growing(const struct stalls *s);

/* In folder fd; a failure to write costs a hint only. */
void stalls_load(struct stalls *s, int fd, const char *name);
void stalls_save(const struct stalls *s, int fd, const char *name, const char *temporary);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * How hard a worker compresses: harder while the link is what it waits for, less while its processor is. A
 * pure state machine over times that its caller measured.
 */
#ifndef SOSIE_REPLICATE_LEVEL_H
#define SOSIE_REPLICATE_LEVEL_H

#include <stdbool.h>
#include <stdint.h>

struct level {
	bool fixed;
	unsigned step;      /* index of the level in use, when not fixed */
	int level;          /* zstd's, in use */
	unsigned records;   /* in the window */
	uint64_t encode_us; /* in the window: spent encoding */
	uint64_t wait_us;   /* in the window: spent waiting for the link */
	uint64_t other_us;  /* in the window: the rest, reads and digests among it */
};

/* level: zstd's, kept for ever; 0: automatic, from 1 on. */
void level_init(struct level *l, int level);
/* Notes one record: what its encoding and sending took, and the time since the record before it in all. True:
 * the level has changed. */
bool level_note(struct level *l, uint64_t encode_us, uint64_t wait_us, uint64_t all_us);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * I4 made decidable. Numbered blocks of 4 KiB go to two volumes in turn: n (from 1) to volume n % 2, each to
 * a place of its own until the volume is full, then round again in the same order. What a copy of both
 * volumes holds then says exactly which numbers were written up to some instant, and which are missing.
 *
 *   direct     every write is durable before the next is issued: the copy must be what the writer had made
 * when its newest number was written, and nothing else buffered   both volumes are fsynced after each
 * ORDER_BATCH numbers: of the newest number's batch any subset may be there, of all batches before it
 * everything
 */
#ifndef TESTS_ORDER_H
#define TESTS_ORDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ORDER_BLOCK 4096u
#define ORDER_BATCH 8u
#define ORDER_SLOTS_MIN 16u
#define ORDER_SLOTS_MAX (1u << 24)

struct order_map {
	uint64_t slots, seed, step, shift;
};
/* slots of each volume, ORDER_SLOTS_MIN to ORDER_SLOTS_MAX. */
void order_map_init(struct order_map *m, uint64_t seed, uint64_t slots);
/* Where number n lies in volume n % 2. */
uint64_t order_slot(const struct order_map *m, uint64_t n);
/* The largest number up to limit that goes to that place; 0: none. */
uint64_t order_newest_at(const struct order_map *m, unsigned volume, uint64_t slot, uint64_t limit);

void order_block_make(void *block, uint64_t seed, uint64_t n);
/* The number in a block, 0 where all is zero; false: the bytes are no block of this seed. */
bool order_block_read(const void *block, uint64_t seed, uint64_t *n);
/* The seed that a block claims; 0: it is none. */
uint64_t order_block_seed(const void *block);

struct order_verdict {
	uint64_t newest;  /* number in the copy */
	uint64_t durable; /* all up to this one must be in it */
	uint64_t present; /* places that hold a number */
	uint64_t missing; /* places that hold an older number than they must */
	uint64_t surplus; /* direct: places that hold another number than the newest's prefix says */
	uint64_t first;   /* the smallest number that is missing, 0: none */
};
/* held[v][slot]: the number found there. True when I4 holds and there is a number at all. */
bool order_judge(const struct order_map *m, bool buffered, uint64_t *const held[2],
                 struct order_verdict *out);

#endif

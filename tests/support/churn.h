/* SPDX-License-Identifier: MIT */
/*
 * A writer that does to one file all that a guest, its host or an administrator may do to a volume: O_DIRECT,
 * buffered and mapped writes, fallocate, punch, zero-range, collapse, insert, truncate both ways, reflink and
 * dedupe inside the file, defragment. What comes is decided by the seed alone. One thread at a time.
 */
#ifndef TESTS_CHURN_H
#define TESTS_CHURN_H

#include <stdint.h>

enum churn_op {
	CHURN_DIRECT,
	CHURN_BUFFERED,
	CHURN_MAPPED,
	CHURN_ALLOCATE,
	CHURN_PUNCH,
	CHURN_ZERO,
	CHURN_COLLAPSE,
	CHURN_INSERT,
	CHURN_SHRINK,
	CHURN_GROW,
	CHURN_REFLINK,
	CHURN_DEDUPE,
	CHURN_DEFRAG,
	CHURN_FLUSH,
	CHURN_OPS
};

struct churn;
/* Opens or makes the file at path, at most size_max bytes (1 MiB and more). NULL with errno. */
struct churn *churn_open(const char *path, uint64_t seed, uint64_t size_max);
void churn_close(struct churn *c);
/* One random operation. 0; or errno when the filesystem refused in a way that is not expected (not supported,
 * no space and invalid are counted only). */
int churn_step(struct churn *c);
/* A random 4 KiB inside the file written with O_DIRECT, at *offset. 0 or errno. */
int churn_block(struct churn *c, uint64_t *offset);
/* How many of an operation have succeeded. */
uint64_t churn_done(const struct churn *c, enum churn_op op);
const char *churn_name(enum churn_op op);
/* The next number of the writer's own sequence, below bound. */
uint64_t churn_random(struct churn *c, uint64_t bound);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * What the files engine/delta/rdiff*.c share: the talk with the child.
 *
 * Small fixed messages go over a socket that keeps their borders; content lies in memory that both have
 * mapped. The child may write to that memory at any time: the parent copies what it was told, within bounds
 * of its own, and judges the copy. A child that hostile content has taken over could read the memory that it
 * was forked with (other tenants' content, keys), so what it says must not carry any of that: a signature has
 * a fixed form and stays here, a delta is sent only if each literal in it is what the content has at that
 * place. A child is started anew after every irregularity, so that question and answer never lose step.
 */
#ifndef SOSIE_DELTA_RDIFF_INTERNAL_H
#define SOSIE_DELTA_RDIFF_INTERNAL_H

#include <stdbool.h>
#include <stdnoreturn.h>
#include <sys/types.h>

#include "engine/delta/rdiff.h"

#define RDIFF_REGION (1u << 20)    /* bytes of the largest region */
#define RDIFF_SIGNATURE_HEADER 12u /* magic, block length, strong length, big endian */

enum rdiff_op { RDIFF_OP_SIGNATURE, RDIFF_OP_DELTA, RDIFF_OPS };

struct rdiff_area {
	uint8_t in[RDIFF_REGION];
	uint8_t sig[RDIFF_SIGNATURE_MAX];
	uint8_t out[RDIFF_REGION];
};
struct rdiff_request {
	uint32_t number; /* 1 and up */
	uint32_t op;
	uint32_t in_len, sig_len; /* bytes in the area */
	uint32_t room;            /* for out */
};
struct rdiff_reply {
	uint32_t number;  /* of the request; 0: the child is ready for the first */
	uint32_t out_len; /* 0: nothing could be made */
};

/* The child's life: answers requests on fd until its other end is closed. Enters no sandbox itself. */
noreturn void rdiff_child_loop(int fd, struct rdiff_area *area);

/* Whether sig is whole and made with our magic and lengths, of at least 1 block; hostile. */
bool rdiff_signature_fits(const uint8_t *sig, size_t sig_len);

/* Whether delta is one that rdiff_apply takes for a basis of basis_len bytes and its literals are those of
 * plain at their places: then it carries nothing that is not in plain, but where copies come from. Hostile.
 */
bool rdiff_literals_match(const void *delta, size_t len, size_t basis_len, const void *plain,
                          size_t plain_len);

/* For tests: the child that runs now, 0 when none does; how many were started, and how many requests were
 * refused without asking, since rdiff_new. */
struct rdiff_counters {
	pid_t child;
	uint64_t started, refused;
};
void rdiff_counters(const struct rdiff *r, struct rdiff_counters *out);

#endif

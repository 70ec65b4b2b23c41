/* SPDX-License-Identifier: MIT */
/*
 * What the files engine/delta/rdiff*.c share: the talk with the child.
 *
 * How parent and child talk: sosie/child.h. A child that hostile content has taken over could read the memory
 * that it was forked with (other tenants' content, keys), so what it says must not carry any of that: a
 * signature has a fixed form and stays here, a delta is sent only if each literal in it is what the content
 * has at that place.
 */
#ifndef SOSIE_DELTA_RDIFF_INTERNAL_H
#define SOSIE_DELTA_RDIFF_INTERNAL_H

#include <stdbool.h>
#include <sys/types.h>

#include "engine/delta/rdiff.h"
#include "sosie/child.h"

#define RDIFF_REGION (1u << 20)    /* bytes of the largest region */
#define RDIFF_SIGNATURE_HEADER 12u /* magic, block length, strong length, big endian */

enum rdiff_op { RDIFF_OP_SIGNATURE, RDIFF_OP_DELTA, RDIFF_OPS };

struct rdiff_area {
	uint8_t in[RDIFF_REGION];
	uint8_t sig[RDIFF_SIGNATURE_MAX];
	uint8_t out[RDIFF_REGION];
};
/* Words of a question; the answer has one, the bytes in the area's out, 0 when nothing could be made. */
enum rdiff_word {
	RDIFF_WORD_OP,
	RDIFF_WORD_IN_LEN, /* bytes in the area */
	RDIFF_WORD_SIG_LEN,
	RDIFF_WORD_ROOM, /* for out */
	RDIFF_WORD_OUT_LEN = 0,
};

/* The child's life (struct sosie_child_kind). */
void rdiff_child_run(int socket, void *area);

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

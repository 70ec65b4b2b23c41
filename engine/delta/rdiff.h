/* SPDX-License-Identifier: MIT */
/*
 * librsync, confined: signatures and deltas are made in a disposable child process with limits on memory and
 * processor time (librsync aborts when memory runs out, and content can be built that makes it crawl; both
 * end the child, never us). Deltas are applied by our own strict reader of the format (rdiff_apply.c), which
 * allocates nothing and trusts nothing; librsync is not used for that.
 *
 * A region is one chunk (1 MiB, the last of a volume shorter). Block length and strong sum length are fixed,
 * so that the size of a signature follows from the size of its region.
 *
 * One object belongs to one thread.
 */
#ifndef SOSIE_DELTA_RDIFF_H
#define SOSIE_DELTA_RDIFF_H

#include <stddef.h>
#include <stdint.h>

#include "sosie/err.h"

#define RDIFF_BLOCK 512u /* bytes of a block of a signature */
#define RDIFF_STRONG 16u /* bytes of its BLAKE2 sum */
#define RDIFF_SIGNATURE_MAX (12u + (1u << 20) / RDIFF_BLOCK * (4u + RDIFF_STRONG))

struct rdiff;
/* Makes the object; the child is started when it is first needed, and again after it died. */
int rdiff_new(struct rdiff **out, struct sosie_err *err);
void rdiff_free(struct rdiff *r); /* ends the child; NULL is fine */
/* Ends the child and gives back descriptors and shared memory (2 MiB) until the next request, which costs a
 * start (some milliseconds). What earlier content has used up of the budgets stays. */
void rdiff_idle(struct rdiff *r);

/* The signature of a region of len bytes (1 to 1 MiB). *sig_len 0: none was made (the child died or took too
 * long): do without. Only failures of our own are errors. */
int rdiff_signature(struct rdiff *r, const void *region, size_t len, uint8_t sig[RDIFF_SIGNATURE_MAX],
                    size_t *sig_len, struct sosie_err *err);
/* The delta that makes plain of the region that sig is of, at most room bytes. *len 0: none (too large, or
 * the child's budget is spent): send the bytes. */
int rdiff_delta(struct rdiff *r, const uint8_t *sig, size_t sig_len, const void *plain, size_t plain_len,
                void *dst, size_t room, size_t *len, struct sosie_err *err);

/* Hostile delta: every command, position and length is checked before anything is copied; exactly plain_len
 * bytes come out, or SOSIE_ECORRUPT. No memory of its own. */
int rdiff_apply(const void *delta, size_t len, const void *basis, size_t basis_len, void *plain,
                size_t plain_len, struct sosie_err *err);

#endif

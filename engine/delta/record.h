/* SPDX-License-Identifier: MIT */
/* What the two ends of the record format share: sizes, the ranges' rules, digests. Bytes: docs/format.md,
 * "Segment". */
#ifndef SOSIE_DELTA_RECORD_H
#define SOSIE_DELTA_RECORD_H

#include <assert.h>

#include "sosie/bytes.h"
#include "sosie/segment.h"

#define RECORD_MAGIC "SREC"
#define RECORD_RAW 0
#define RECORD_ZSTD 1
#define ATTACHMENT_HEADER 12u

/*
 * Leaves that one data, patch or delta record can have. A leaf shorter than 4096 bytes is a volume's last, so
 * it ends a range: at most one for each of the 256 ranges. With at least one of them fewer than 1 MiB is left
 * for whole leaves: 255. Together 511, e.g. 256 volumes of which each gives 1 byte, and 255 whole leaves
 * before one of these. (Without short leaves: 256.)
 */
#define RECORD_LEAVES_MAX (SOSIE_RECORD_RANGES_MAX + (SOSIE_RECORD_PLAIN_MAX - 1) / SOSIE_LEAF)
static_assert(RECORD_LEAVES_MAX == 511, "sosie_decode promises its callers at most 512");

/* Leaf numbers beyond any volume are refused before they are added to or multiplied. */
#define RECORD_LEAF_LIMIT (UINT64_MAX / SOSIE_LEAF / 2)

/* Has leaves' digests and a payload that stands for them. */
static inline bool record_has_content(enum sosie_record_kind kind)
{
	return kind == SOSIE_RECORD_DATA || kind == SOSIE_RECORD_PATCH || kind == SOSIE_RECORD_DELTA;
}

/* Whether ordered ranges all lie in one chunk of one volume. */
bool record_one_chunk(const struct sosie_range *ranges, unsigned count);
/* Whether the ranges are stored: ascending, disjoint, none empty. Sizes of volumes are not looked at. */
bool record_ranges_ordered(const struct sosie_range *ranges, unsigned count);
void record_put_ranges(struct sosie_writer *w, const struct sosie_range *ranges, unsigned count);
/* The record digest; leaves NULL and 0 for zero and discard. */
void record_digest(struct sosie_hash *h, const struct sosie_digest *group_ctx, enum sosie_record_kind kind,
                   const struct sosie_range *ranges, unsigned count, const struct sosie_digest *leaves,
                   size_t leaf_count, struct sosie_digest *out);
/* Before a payload is looked at: its lengths are possible, and the ranges stand for exactly plain_len bytes,
 * so that there are at most RECORD_LEAVES_MAX leaves. For records with a payload. */
int record_check_lengths(const struct sosie_record *r, const struct sosie_extent_volume *volumes,
                         struct sosie_err *err);
/* Whether plain, which somebody unpacked, is the record's content: computes the leaf digests into leaves
 * (*count of them) and compares the record's digest; SOSIE_ECORRUPT otherwise. Any kind, lengths checked. */
int record_judge(struct sosie_hash *hash, const struct sosie_digest *group_ctx, const struct sosie_record *r,
                 const struct sosie_extent_volume *volumes, const void *plain, struct sosie_digest *leaves,
                 unsigned *count, struct sosie_err *err);
/* After a failure: nothing half checked stays. */
void record_forget(const struct sosie_record *r, void *plain, struct sosie_digest *leaves, unsigned count);
void record_attachment_digest(struct sosie_hash *h, const struct sosie_digest *group_ctx, const void *payload,
                              size_t len, struct sosie_digest *out);

#endif

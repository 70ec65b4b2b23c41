/* SPDX-License-Identifier: MIT */
/*
 * Takes records back (docs/format.md, "Segment"): lengths are checked, payloads unpacked (unpack.c), and what
 * came out is judged by its digests. After a failure content and digests are cleared so that nothing half
 * checked can be used. sosie_decode does all in this process; the standby unpacks in a child and does the
 * rest itself.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/delta/record.h"
#include "engine/delta/unpack.h"

struct sosie_decoder {
	struct sosie_digest group_ctx;
	struct sosie_hash *hash;
	struct unpacker *unpacker;
};

int sosie_decoder_new(const struct sosie_digest *group_ctx, struct sosie_decoder **out, struct sosie_err *err)
{
	struct sosie_decoder *dec = calloc(1, sizeof(*dec));
	int rc = 0;

	*out = NULL;
	if (dec)
		dec->hash = sosie_hash_new();
	if (!dec || !dec->hash)
		rc = sosie_err_set(err, SOSIE_ENOMEM, "no memory for a decoder");
	if (rc == 0)
		rc = unpacker_new(&dec->unpacker, err);
	if (rc != 0) {
		sosie_decoder_free(dec);
		return rc;
	}
	dec->group_ctx = *group_ctx;
	*out = dec;
	return 0;
}

void sosie_decoder_free(struct sosie_decoder *dec)
{
	if (!dec)
		return;
	unpacker_free(dec->unpacker);
	sosie_hash_free(dec->hash);
	free(dec);
}

/* The ranges' bytes must add up to plain_len before a single leaf is hashed; then there are at most
 * RECORD_LEAVES_MAX of them. */
static int check_total(const struct sosie_record *r, const struct sosie_extent_volume *volumes,
                       struct sosie_err *err)
{
	uint64_t bytes = 0, leaves = 0;

	if (r->range_count == 0 || r->range_count > SOSIE_RECORD_RANGES_MAX)
		return sosie_err_set(err, SOSIE_ECORRUPT, "record with an impossible number of ranges");
	for (unsigned i = 0; i < r->range_count; i++) {
		const struct sosie_range *range = &r->ranges[i];
		uint64_t size = volumes[range->volume].size;
		uint64_t total = size / SOSIE_LEAF + (size % SOSIE_LEAF != 0);

		if (range->leaves == 0 || range->leaf >= total || range->leaves > total - range->leaf)
			return sosie_err_set(err, SOSIE_ECORRUPT,
			                     "a range reaches past the end of its volume");
		bytes += sosie_range_bytes(range, size);
		leaves += range->leaves;
	}
	if (bytes != r->plain_len || leaves > RECORD_LEAVES_MAX)
		return sosie_err_set(err, SOSIE_ECORRUPT,
		                     "content and ranges of a record do not fit each other");
	return 0;
}

int record_check_lengths(const struct sosie_record *r, const struct sosie_extent_volume *volumes,
                         struct sosie_err *err)
{
	if (r->plain_len == 0 || r->plain_len > SOSIE_RECORD_PLAIN_MAX ||
	    r->payload_len > SOSIE_RECORD_PLAIN_MAX)
		return sosie_err_set(err, SOSIE_ECORRUPT, "record of an impossible length");
	if (!record_has_content(r->kind))
		return 0;
	if (r->kind == SOSIE_RECORD_DELTA && !record_one_chunk(r->ranges, r->range_count))
		return sosie_err_set(err, SOSIE_ECORRUPT, "record of an impossible place");
	return check_total(r, volumes, err);
}

static unsigned hash_leaves(struct sosie_hash *hash, const struct sosie_record *r,
                            const struct sosie_extent_volume *volumes, const uint8_t *plain,
                            struct sosie_digest *leaves)
{
	unsigned count = 0;

	for (unsigned i = 0; i < r->range_count; i++) {
		const struct sosie_range *range = &r->ranges[i];
		const struct sosie_extent_volume *volume = &volumes[range->volume];
		uint64_t left = sosie_range_bytes(range, volume->size);

		for (uint32_t k = 0; k < range->leaves; k++) {
			size_t len = left < SOSIE_LEAF ? (size_t)left : SOSIE_LEAF;

			sosie_digest_leaf(hash, &volume->ctx, range->leaf + k, plain, len, &leaves[count++]);
			plain += len;
			left -= len;
		}
	}
	return count;
}

int record_judge(struct sosie_hash *hash, const struct sosie_digest *group_ctx, const struct sosie_record *r,
                 const struct sosie_extent_volume *volumes, const void *plain, struct sosie_digest *leaves,
                 unsigned *count, struct sosie_err *err)
{
	struct sosie_digest digest;

	*count = 0;
	if (record_has_content(r->kind))
		*count = hash_leaves(hash, r, volumes, plain, leaves);
	if (r->kind == SOSIE_RECORD_ATTACHMENT)
		record_attachment_digest(hash, group_ctx, plain, r->plain_len, &digest);
	else
		record_digest(hash, group_ctx, r->kind, r->ranges, r->range_count, leaves, *count, &digest);
	if (!sosie_digest_equal(&digest, &r->digest))
		return sosie_err_set(err, SOSIE_ECORRUPT, "record's content is not what its digest says");
	return 0;
}

void record_forget(const struct sosie_record *r, void *plain, struct sosie_digest *leaves, unsigned count)
{
	/* plain_len is bounded by parse; an unparsed record with more failed before anything was written. */
	if (plain && r->plain_len <= SOSIE_RECORD_PLAIN_MAX)
		memset(plain, 0, r->plain_len);
	if (leaves)
		memset(leaves, 0, count * sizeof(*leaves));
}

static int unpack(struct sosie_decoder *dec, const struct sosie_record *r, const void *payload,
                  const void *basis, const struct sosie_extent_volume *volumes, void *plain,
                  struct sosie_err *err)
{
	struct sosie_range ranges[SOSIE_RECORD_RANGES_MAX];
	struct packed p = {.kind = r->kind,
	                   .encoding = r->encoding,
	                   .payload = payload,
	                   .payload_len = r->payload_len,
	                   .basis = basis,
	                   .plain_len = r->plain_len};
	/* Bounds first: nothing is written, no basis looked at, unless the ranges stand for plain_len bytes.
	 */
	int rc = record_check_lengths(r, volumes, err);

	if (rc != 0)
		return rc;
	if (r->kind == SOSIE_RECORD_PATCH || r->kind == SOSIE_RECORD_DELTA)
		sosie_record_basis(r, volumes, ranges, &p.basis_len);
	return unpacker_run(dec->unpacker, &p, plain, err);
}

int sosie_decode(struct sosie_decoder *dec, const struct sosie_record *record, const void *payload,
                 const void *basis, const struct sosie_extent_volume *volumes, void *plain,
                 struct sosie_digest *leaves, unsigned *leaf_count, struct sosie_err *err)
{
	unsigned count = 0;
	int rc = 0;

	if (record_has_content(record->kind) || record->kind == SOSIE_RECORD_ATTACHMENT)
		rc = unpack(dec, record, payload, basis, volumes, plain, err);
	if (rc == 0)
		rc = record_judge(dec->hash, &dec->group_ctx, record, volumes, plain, leaves, &count, err);
	if (rc != 0) {
		record_forget(record, plain, leaves, count);
		count = 0;
	}
	if (leaf_count)
		*leaf_count = count;
	return rc;
}

int sosie_attachment_parse(const void *plain, size_t len, uint32_t *index, uint64_t *offset,
                           const void **data, size_t *data_len, struct sosie_err *err)
{
	struct sosie_reader r;

	sosie_reader_init(&r, plain, len);
	*index = sosie_get_u32(&r);
	*offset = sosie_get_u64(&r);
	*data_len = r.left;
	*data = sosie_get_view(&r, r.left);
	if (r.failed || *data_len == 0 || *index >= SOSIE_ATTACHMENTS_MAX ||
	    *offset > SOSIE_ATTACHMENTS_BYTES || *data_len > SOSIE_ATTACHMENTS_BYTES - *offset)
		return sosie_err_set(err, SOSIE_ECORRUPT,
		                     "attachment record past the limits (%u attachments, %u bytes)",
		                     SOSIE_ATTACHMENTS_MAX, SOSIE_ATTACHMENTS_BYTES);
	return 0;
}

/* SPDX-License-Identifier: MIT */
/* Records: header and ranges, checked field by field before anything is sized by them (docs/format.md,
 * "Segment"). */
#include <string.h>

#include "engine/delta/record.h"

static_assert(SOSIE_RECORD_HEADER == 4 + 1 + 1 + 2 + 4 + 4 + SOSIE_DIGEST_LEN, "docs/format.md");

uint64_t sosie_range_bytes(const struct sosie_range *range, uint64_t volume_size)
{
	uint64_t start = range->leaf * SOSIE_LEAF, len = (uint64_t)range->leaves * SOSIE_LEAF;

	return len < volume_size - start ? len : volume_size - start;
}

/* --- digests
 * --------------------------------------------------------------------------------------------------- */

void record_digest(struct sosie_hash *h, const struct sosie_digest *group_ctx, enum sosie_record_kind kind,
                   const struct sosie_range *ranges, unsigned count, const struct sosie_digest *leaves,
                   size_t leaf_count, struct sosie_digest *out)
{
	uint8_t bytes[3 + SOSIE_RECORD_RANGES_MAX * SOSIE_RANGE_BYTES];
	struct sosie_writer w;

	sosie_writer_init(&w, bytes, sizeof(bytes));
	sosie_put_u8(&w, (uint8_t)kind);
	sosie_put_u16(&w, (uint16_t)count);
	record_put_ranges(&w, ranges, count);
	assert(!w.failed);
	sosie_hash_start(h, "sosie record v1");
	sosie_hash_add(h, group_ctx->b, sizeof(group_ctx->b));
	sosie_hash_add(h, bytes, w.len);
	if (leaf_count > 0)
		sosie_hash_add(h, leaves, leaf_count * sizeof(*leaves));
	sosie_hash_end(h, out);
}

void record_attachment_digest(struct sosie_hash *h, const struct sosie_digest *group_ctx, const void *payload,
                              size_t len, struct sosie_digest *out)
{
	sosie_hash_start(h, "sosie attach v1");
	sosie_hash_add(h, group_ctx->b, sizeof(group_ctx->b));
	sosie_hash_add(h, payload, len);
	sosie_hash_end(h, out);
}

/* --- the header
 * ------------------------------------------------------------------------------------------------ */

static int damaged(struct sosie_err *err, const char *why)
{
	return sosie_err_set(err, SOSIE_ECORRUPT, "damaged record: %s", why);
}

static int check_kind(unsigned kind, struct sosie_err *err)
{
	switch (kind) {
	case SOSIE_RECORD_DATA:
	case SOSIE_RECORD_ZERO:
	case SOSIE_RECORD_DISCARD:
	case SOSIE_RECORD_PATCH:
	case SOSIE_RECORD_DELTA:
	case SOSIE_RECORD_ATTACHMENT:
		return 0;
	default:
		return sosie_err_set(err, SOSIE_ECORRUPT, "damaged record: unknown kind %u", kind);
	}
}

static int check_shorter(const struct sosie_record *r, struct sosie_err *err)
{
	if (r->payload_len == 0 || r->payload_len >= r->plain_len)
		return damaged(err, "compressed payload is empty or not shorter than its content");
	return 0;
}

/* Lengths of a record that carries a payload. */
static int check_payload(const struct sosie_record *r, struct sosie_err *err)
{
	if (r->plain_len == 0 || r->plain_len > SOSIE_RECORD_PLAIN_MAX)
		return damaged(err, "plain length is not 1 byte to 1 MiB");
	if (r->kind == SOSIE_RECORD_PATCH && r->encoding != RECORD_ZSTD)
		return damaged(err, "patches are zstd only");
	switch (r->encoding) {
	case RECORD_RAW:
		if (r->kind == SOSIE_RECORD_DELTA)
			return check_shorter(r, err);
		return r->payload_len == r->plain_len
		               ? 0
		               : damaged(err, "raw payload of another length than its content");
	case RECORD_ZSTD:
		if (r->kind == SOSIE_RECORD_ATTACHMENT)
			return damaged(err, "attachments are raw only");
		return check_shorter(r, err);
	default:
		return damaged(err, "unknown encoding");
	}
}

static int check_header(const struct sosie_record *r, struct sosie_err *err)
{
	if (r->kind == SOSIE_RECORD_ATTACHMENT) {
		if (r->range_count != 0)
			return damaged(err, "attachment with ranges");
		if (r->plain_len <= ATTACHMENT_HEADER)
			return damaged(err, "attachment without data");
		return check_payload(r, err);
	}
	if (r->range_count == 0 || r->range_count > SOSIE_RECORD_RANGES_MAX)
		return damaged(err, "number of ranges is not 1 to 256");
	if (record_has_content(r->kind))
		return check_payload(r, err);
	if (r->encoding != RECORD_RAW || r->plain_len != 0 || r->payload_len != 0)
		return damaged(err, "zero or discard with a payload");
	return 0;
}

/* The number of ranges is checked. Packed is for what gets shorter by it. */
static int read_ranges_len(struct sosie_record *r, bool packed, uint32_t packed_len, struct sosie_err *err)
{
	const uint32_t each = r->range_count * SOSIE_RANGE_BYTES;

	if (packed && (packed_len == 0 || packed_len >= each))
		return damaged(err, "packed ranges are empty or not shorter than 16 bytes each");
	r->ranges_len = (uint16_t)(packed ? packed_len : each);
	return 0;
}

static int read_header(struct sosie_reader *r, struct sosie_record *out, struct sosie_err *err)
{
	uint8_t magic[4];
	unsigned kind, form;
	uint32_t plain;
	int rc;

	sosie_get_bytes(r, magic, sizeof(magic));
	kind = sosie_get_u8(r);
	form = sosie_get_u8(r);
	out->range_count = sosie_get_u16(r);
	plain = sosie_get_u32(r);
	out->payload_len = sosie_get_u32(r);
	sosie_get_bytes(r, out->digest.b, sizeof(out->digest.b));
	if (r->failed)
		return damaged(err, "cut short");
	if (memcmp(magic, RECORD_MAGIC, sizeof(magic)) != 0)
		return damaged(err, "the magic is wrong");
	rc = check_kind(kind, err);
	if (rc != 0)
		return rc;
	out->kind = (enum sosie_record_kind)kind;
	out->encoding = (uint8_t)(form & ~RECORD_PACKED);
	out->plain_len = form & RECORD_PACKED ? plain & RECORD_PLAIN_MASK : plain;
	rc = check_header(out, err);
	return rc == 0 ? read_ranges_len(out, form & RECORD_PACKED, plain >> RECORD_PLAIN_BITS, err) : rc;
}

int sosie_record_lengths(const void *header, uint32_t *ranges_len, uint32_t *payload_len,
                         struct sosie_err *err)
{
	struct sosie_reader r;
	struct sosie_record record = {0};
	int rc;

	*ranges_len = *payload_len = 0;
	sosie_reader_init(&r, header, SOSIE_RECORD_HEADER);
	rc = read_header(&r, &record, err);
	if (rc != 0)
		return rc;
	*ranges_len = record.ranges_len;
	*payload_len = record.payload_len;
	return 0;
}

/* --- the ranges
 * ------------------------------------------------------------------------------------------------ */

static int read_packed(struct sosie_reader *r, struct sosie_record *out, struct sosie_err *err)
{
	if (r->left != out->ranges_len || !record_unpack_ranges(r, out->ranges, out->range_count))
		return damaged(err,
		               "packed ranges are cut short, followed by something or not in their form");
	return 0;
}

static int read_ranges(struct sosie_reader *r, struct sosie_record *out, struct sosie_err *err)
{
	if (record_ranges_packed(out))
		return read_packed(r, out, err);
	for (unsigned i = 0; i < out->range_count; i++) {
		struct sosie_range *range = &out->ranges[i];

		range->leaf = sosie_get_u64(r);
		range->leaves = sosie_get_u32(r);
		range->volume = sosie_get_u16(r);
		if (sosie_get_u16(r) != 0)
			return damaged(err, "a reserved field of a range is set");
	}
	if (!sosie_reader_done(r))
		return damaged(err, "ranges cut short or followed by something");
	if (!record_ranges_ordered(out->ranges, out->range_count))
		return damaged(err, "ranges are empty, overlap or do not ascend");
	return 0;
}

static int read_head(const void *bytes, size_t len, struct sosie_record *out, struct sosie_err *err)
{
	struct sosie_reader r;
	int rc;

	sosie_reader_init(&r, bytes, len);
	rc = read_header(&r, out, err);
	return rc == 0 ? read_ranges(&r, out, err) : rc;
}

int sosie_record_ranges(const void *bytes, size_t len, struct sosie_record *out, struct sosie_err *err)
{
	int rc;

	memset(out, 0, sizeof(*out));
	rc = read_head(bytes, len, out, err);
	if (rc != 0)
		memset(out, 0, sizeof(*out));
	return rc;
}

/* All ranges inside their volumes; *bytes: what they stand for (at most 256 * 16 TiB: no overflow). */
static int check_places(const struct sosie_record *r, const struct sosie_extent_volume *volumes,
                        unsigned volume_count, uint64_t *bytes, struct sosie_err *err)
{
	*bytes = 0;
	for (unsigned i = 0; i < r->range_count; i++) {
		const struct sosie_range *range = &r->ranges[i];
		uint64_t size, total;

		if (range->volume >= volume_count)
			return damaged(err, "a range of a volume that the manifest does not list");
		size = volumes[range->volume].size;
		total = size / SOSIE_LEAF + (size % SOSIE_LEAF != 0);
		if (range->leaf >= total || range->leaves > total - range->leaf)
			return damaged(err, "a range reaches past the end of its volume");
		*bytes += sosie_range_bytes(range, size);
	}
	return 0;
}

static int parse(const void *bytes, size_t len, const struct sosie_extent_volume *volumes,
                 unsigned volume_count, struct sosie_record *out, struct sosie_err *err)
{
	uint64_t covered;
	int rc;

	rc = read_head(bytes, len, out, err);
	if (rc == 0)
		rc = check_places(out, volumes, volume_count, &covered, err);
	if (rc == 0 && record_has_content(out->kind) && covered != out->plain_len)
		rc = damaged(err, "its ranges stand for another number of bytes than its content");
	if (rc == 0 && out->kind == SOSIE_RECORD_DELTA && !record_one_chunk(out->ranges, out->range_count))
		rc = damaged(err, "the ranges of a delta do not lie in one chunk of one volume");
	return rc;
}

int sosie_record_parse(const void *bytes, size_t len, const struct sosie_extent_volume *volumes,
                       unsigned volume_count, struct sosie_record *out, struct sosie_err *err)
{
	int rc;

	memset(out, 0, sizeof(*out));
	rc = parse(bytes, len, volumes, volume_count, out, err);
	if (rc != 0)
		memset(out, 0, sizeof(*out));
	return rc;
}

/* --- what patches and deltas build on
 * ------------------------------------------------------------------------------------------------ */

unsigned sosie_record_basis(const struct sosie_record *record, const struct sosie_extent_volume *volumes,
                            struct sosie_range ranges[SOSIE_RECORD_RANGES_MAX], size_t *bytes)
{
	const struct sosie_range *first = &record->ranges[0];
	const uint64_t size = volumes[first->volume].size;
	const uint64_t chunk = first->leaf / SOSIE_FANOUT * SOSIE_FANOUT;
	uint64_t left;

	*bytes = 0;
	if (record->kind == SOSIE_RECORD_PATCH) {
		memcpy(ranges, record->ranges, record->range_count * sizeof(*ranges));
		*bytes = record->plain_len;
		return record->range_count;
	}
	if (record->kind != SOSIE_RECORD_DELTA)
		return 0;
	left = (size - chunk * SOSIE_LEAF + SOSIE_LEAF - 1) / SOSIE_LEAF;
	ranges[0] = (struct sosie_range){.leaf = chunk,
	                                 .leaves = left < SOSIE_FANOUT ? (uint32_t)left : SOSIE_FANOUT,
	                                 .volume = first->volume};
	*bytes = (size_t)sosie_range_bytes(&ranges[0], size);
	return 1;
}

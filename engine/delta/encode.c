/* SPDX-License-Identifier: MIT */
/*
 * Writes records (docs/format.md, "Segment"). The record is built in one buffer: header, ranges, payload;
 * zstd writes its frame straight into place. What callers pass is checked against the same rules as the
 * decoder's: a wrong record never leaves.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/delta/record.h"
#include "engine/delta/zstd.h"

struct sosie_encoder {
	struct sosie_digest group_ctx;
	struct sosie_hash *hash;
	struct zstd_packer *packer;
	uint8_t record[SOSIE_RECORD_MAX];
};

int sosie_encoder_new(const struct sosie_digest *group_ctx, int level, struct sosie_encoder **out,
                      struct sosie_err *err)
{
	struct sosie_encoder *enc = calloc(1, sizeof(*enc));
	int rc = 0;

	*out = NULL;
	if (enc)
		enc->hash = sosie_hash_new();
	if (!enc || !enc->hash)
		rc = sosie_err_set(err, SOSIE_ENOMEM, "no memory for an encoder");
	if (rc == 0)
		rc = zstd_packer_new(level, &enc->packer, err);
	if (rc != 0) {
		sosie_encoder_free(enc);
		return rc;
	}
	enc->group_ctx = *group_ctx;
	*out = enc;
	return 0;
}

void sosie_encoder_level(struct sosie_encoder *enc, int level)
{
	zstd_packer_level(enc->packer, level);
}

void sosie_encoder_free(struct sosie_encoder *enc)
{
	if (!enc)
		return;
	zstd_packer_free(enc->packer);
	sosie_hash_free(enc->hash);
	free(enc);
}

static int misuse(struct sosie_err *err, const char *why)
{
	return sosie_err_set(err, SOSIE_EINTERNAL, "record cannot be encoded: %s", why);
}

/* Header and ranges in front of the payload, which is in place. */
static void put_head(struct sosie_encoder *enc, const struct sosie_record *r,
                     const struct sosie_range *ranges, const void **out, size_t *len)
{
	struct sosie_writer w;

	sosie_writer_init(&w, enc->record, SOSIE_RECORD_HEADER + r->range_count * SOSIE_RANGE_BYTES);
	sosie_put_bytes(&w, RECORD_MAGIC, 4);
	sosie_put_u8(&w, (uint8_t)r->kind);
	sosie_put_u8(&w, r->encoding);
	sosie_put_u16(&w, r->range_count);
	sosie_put_u32(&w, r->plain_len);
	sosie_put_u32(&w, r->payload_len);
	sosie_put_bytes(&w, r->digest.b, sizeof(r->digest.b));
	record_put_ranges(&w, ranges, r->range_count);
	assert(!w.failed && w.len == w.size);
	*out = enc->record;
	*len = w.len + r->payload_len;
}

static int check_ranges(const struct sosie_range *ranges, unsigned count, struct sosie_err *err)
{
	if (count == 0 || count > SOSIE_RECORD_RANGES_MAX)
		return misuse(err, "number of ranges is not 1 to 256");
	if (!record_ranges_ordered(ranges, count))
		return misuse(err, "ranges are empty, overlap or do not ascend");
	return 0;
}

/* Leaves of all ranges, and whether plain_len can be their content: only a volume's last leaf is short. */
static int count_leaves(const struct sosie_range *ranges, unsigned count, size_t plain_len, size_t *out,
                        struct sosie_err *err)
{
	uint64_t leaves = 0, least = 0;

	for (unsigned i = 0; i < count; i++) {
		leaves += ranges[i].leaves;
		least += (uint64_t)(ranges[i].leaves - 1) * SOSIE_LEAF + 1;
	}
	if (plain_len == 0 || plain_len > SOSIE_RECORD_PLAIN_MAX)
		return misuse(err, "content is not 1 byte to 1 MiB");
	if (leaves > RECORD_LEAVES_MAX || plain_len < least || plain_len > leaves * SOSIE_LEAF)
		return misuse(err, "content and ranges do not fit each other");
	*out = (size_t)leaves;
	return 0;
}

int sosie_encode_data(struct sosie_encoder *enc, const struct sosie_range *ranges, unsigned count,
                      const struct sosie_digest *leaves, const void *plain, size_t plain_len,
                      const void **out, size_t *len, struct sosie_err *err)
{
	struct sosie_record head = {.kind = SOSIE_RECORD_DATA, .encoding = RECORD_ZSTD};
	uint8_t *payload = enc->record + SOSIE_RECORD_HEADER + (size_t)count * SOSIE_RANGE_BYTES;
	size_t leaf_count = 0, packed = 0;
	int rc = check_ranges(ranges, count, err);

	if (rc == 0)
		rc = count_leaves(ranges, count, plain_len, &leaf_count, err);
	if (rc == 0)
		rc = zstd_pack(enc->packer, plain, plain_len, payload, plain_len - (plain_len + 15) / 16,
		               &packed, err);
	if (rc != 0)
		return rc;
	if (packed == 0) {
		head.encoding = RECORD_RAW;
		memcpy(payload, plain, plain_len);
		packed = plain_len;
	}
	head.range_count = (uint16_t)count;
	head.plain_len = (uint32_t)plain_len;
	head.payload_len = (uint32_t)packed;
	record_digest(enc->hash, &enc->group_ctx, head.kind, ranges, count, leaves, leaf_count, &head.digest);
	put_head(enc, &head, ranges, out, len);
	return 0;
}

int sosie_encode_zero(struct sosie_encoder *enc, enum sosie_record_kind kind,
                      const struct sosie_range *ranges, unsigned count, const void **out, size_t *len,
                      struct sosie_err *err)
{
	struct sosie_record head = {.kind = kind, .encoding = RECORD_RAW, .range_count = (uint16_t)count};
	int rc = check_ranges(ranges, count, err);

	if (rc == 0 && kind != SOSIE_RECORD_ZERO && kind != SOSIE_RECORD_DISCARD)
		rc = misuse(err, "neither zero nor discard");
	if (rc != 0)
		return rc;
	record_digest(enc->hash, &enc->group_ctx, kind, ranges, count, NULL, 0, &head.digest);
	put_head(enc, &head, ranges, out, len);
	return 0;
}

int sosie_encode_attachment(struct sosie_encoder *enc, uint32_t index, uint64_t offset, const void *data,
                            size_t data_len, const void **out, size_t *len, struct sosie_err *err)
{
	struct sosie_record head = {.kind = SOSIE_RECORD_ATTACHMENT, .encoding = RECORD_RAW};
	uint8_t *payload = enc->record + SOSIE_RECORD_HEADER;
	struct sosie_writer w;

	if (data_len == 0 || data_len > SOSIE_RECORD_PLAIN_MAX - ATTACHMENT_HEADER)
		return misuse(err, "attachment data is not 1 byte to 1 MiB less 12 bytes");
	sosie_writer_init(&w, payload, SOSIE_RECORD_PLAIN_MAX);
	sosie_put_u32(&w, index);
	sosie_put_u64(&w, offset);
	sosie_put_bytes(&w, data, data_len);
	assert(!w.failed);
	head.plain_len = head.payload_len = (uint32_t)w.len;
	record_attachment_digest(enc->hash, &enc->group_ctx, payload, w.len, &head.digest);
	put_head(enc, &head, NULL, out, len);
	return 0;
}

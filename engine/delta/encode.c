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
	bool pack_ranges;
	uint8_t spare[SOSIE_RECORD_PLAIN_MAX]; /* the content as data, when a patch or delta may be larger */
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

void sosie_encoder_pack_ranges(struct sosie_encoder *enc, bool pack)
{
	enc->pack_ranges = pack;
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

/* Ranges to their place, in the shorter form that is allowed; returns their length. */
static size_t place_ranges(struct sosie_encoder *enc, const struct sosie_range *ranges, unsigned count)
{
	const size_t each = (size_t)count * SOSIE_RANGE_BYTES;
	const size_t room = each - 1 < RECORD_PACKED_MAX ? each - 1 : RECORD_PACKED_MAX;
	uint8_t *at = enc->record + SOSIE_RECORD_HEADER;
	size_t packed = enc->pack_ranges ? record_pack_ranges(ranges, count, at, room) : 0;
	struct sosie_writer w;

	if (packed > 0)
		return packed;
	sosie_writer_init(&w, at, each);
	record_put_ranges(&w, ranges, count);
	assert(!w.failed && w.len == each);
	return each;
}

/* The header in front of ranges and payload, which are in place. */
static void put_head(struct sosie_encoder *enc, const struct sosie_record *r, const void **out, size_t *len)
{
	const bool packed = record_ranges_packed(r);
	struct sosie_writer w;

	sosie_writer_init(&w, enc->record, SOSIE_RECORD_HEADER);
	sosie_put_bytes(&w, RECORD_MAGIC, 4);
	sosie_put_u8(&w, (uint8_t)r->kind);
	sosie_put_u8(&w, (uint8_t)(r->encoding | (packed ? RECORD_PACKED : 0)));
	sosie_put_u16(&w, r->range_count);
	sosie_put_u32(&w, r->plain_len | (packed ? (uint32_t)r->ranges_len << RECORD_PLAIN_BITS : 0));
	sosie_put_u32(&w, r->payload_len);
	sosie_put_bytes(&w, r->digest.b, sizeof(r->digest.b));
	assert(!w.failed && w.len == w.size);
	*out = enc->record;
	*len = w.len + r->ranges_len + r->payload_len;
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

/* A record with content under way: ranges and leaves as the caller gave them. */
struct content {
	const struct sosie_range *ranges;
	const struct sosie_digest *leaves;
	const uint8_t *plain;
	unsigned count;
	size_t plain_len, leaf_count, ranges_len; /* ranges are in place */
	uint8_t *payload;                         /* its place in the encoder's record */
};

static int content_init(struct content *c, struct sosie_encoder *enc, const struct sosie_range *ranges,
                        unsigned count, const struct sosie_digest *leaves, const void *plain,
                        size_t plain_len, struct sosie_err *err)
{
	int rc = check_ranges(ranges, count, err);

	*c = (struct content){
	        .ranges = ranges, .leaves = leaves, .plain = plain, .count = count, .plain_len = plain_len};
	if (rc == 0)
		rc = count_leaves(ranges, count, plain_len, &c->leaf_count, err);
	if (rc != 0)
		return rc;
	c->ranges_len = place_ranges(enc, ranges, count);
	c->payload = enc->record + SOSIE_RECORD_HEADER + c->ranges_len;
	return 0;
}

/* The payload is in place. */
static void finish(struct sosie_encoder *enc, const struct content *c, enum sosie_record_kind kind,
                   uint8_t encoding, size_t payload_len, const void **out, size_t *len)
{
	struct sosie_record head = {.kind = kind,
	                            .encoding = encoding,
	                            .range_count = (uint16_t)c->count,
	                            .ranges_len = (uint16_t)c->ranges_len};

	head.plain_len = (uint32_t)c->plain_len;
	head.payload_len = (uint32_t)payload_len;
	record_digest(enc->hash, &enc->group_ctx, kind, c->ranges, c->count, c->leaves, c->leaf_count,
	              &head.digest);
	put_head(enc, &head, out, len);
}

/* Room for a frame that is worth it. */
static size_t worth(size_t len)
{
	return len - (len + 15) / 16;
}

static int finish_data(struct sosie_encoder *enc, const struct content *c, const void **out, size_t *len,
                       struct sosie_err *err)
{
	size_t packed;
	int rc =
	        zstd_pack(enc->packer, c->plain, c->plain_len, c->payload, worth(c->plain_len), &packed, err);

	if (rc != 0)
		return rc;
	if (packed == 0)
		memcpy(c->payload, c->plain, c->plain_len);
	finish(enc, c, SOSIE_RECORD_DATA, packed ? RECORD_ZSTD : RECORD_RAW, packed ? packed : c->plain_len,
	       out, len);
	return 0;
}

/*
 * A patch or delta of payload_len bytes (0: none) is in place: it, or the content as data where that is
 * smaller. Data is tried unless it would have to shrink to less than an eighth.
 */
static int finish_smaller(struct sosie_encoder *enc, const struct content *c, enum sosie_record_kind kind,
                          uint8_t encoding, size_t payload_len, const void **out, size_t *len,
                          enum sosie_record_kind *chosen, struct sosie_err *err)
{
	size_t packed = 0;
	int rc = 0;

	if (chosen)
		*chosen = payload_len ? kind : SOSIE_RECORD_DATA;
	if (payload_len == 0)
		return finish_data(enc, c, out, len, err);
	if (payload_len > c->plain_len / 8)
		rc = zstd_pack(enc->packer, c->plain, c->plain_len, enc->spare, worth(c->plain_len), &packed,
		               err);
	if (rc != 0)
		return rc;
	if (packed == 0 || packed >= payload_len) {
		finish(enc, c, kind, encoding, payload_len, out, len);
		return 0;
	}
	if (chosen)
		*chosen = SOSIE_RECORD_DATA;
	memcpy(c->payload, enc->spare, packed);
	finish(enc, c, SOSIE_RECORD_DATA, RECORD_ZSTD, packed, out, len);
	return 0;
}

int sosie_encode_data(struct sosie_encoder *enc, const struct sosie_range *ranges, unsigned count,
                      const struct sosie_digest *leaves, const void *plain, size_t plain_len,
                      const void **out, size_t *len, struct sosie_err *err)
{
	struct content c;
	int rc = content_init(&c, enc, ranges, count, leaves, plain, plain_len, err);

	return rc ? rc : finish_data(enc, &c, out, len, err);
}

int sosie_encode_patch(struct sosie_encoder *enc, const struct sosie_range *ranges, unsigned count,
                       const struct sosie_digest *leaves, const void *plain, size_t plain_len,
                       const void *old, const void **out, size_t *len, enum sosie_record_kind *kind,
                       struct sosie_err *err)
{
	struct content c;
	size_t packed = 0;
	int rc = content_init(&c, enc, ranges, count, leaves, plain, plain_len, err);

	if (rc == 0)
		rc = zstd_pack_patch(enc->packer, plain, old, plain_len, c.payload, plain_len - 1, &packed,
		                     err);
	return rc ? rc
	          : finish_smaller(enc, &c, SOSIE_RECORD_PATCH, RECORD_ZSTD, packed, out, len, kind, err);
}

int sosie_encode_delta(struct sosie_encoder *enc, const struct sosie_range *ranges, unsigned count,
                       const struct sosie_digest *leaves, const void *plain, size_t plain_len,
                       const void *delta, size_t delta_len, const void **out, size_t *len,
                       struct sosie_err *err)
{
	struct content c;
	size_t packed = 0, room;
	int rc = content_init(&c, enc, ranges, count, leaves, plain, plain_len, err);

	if (rc == 0 && !record_one_chunk(ranges, count))
		rc = misuse(err, "the ranges of a delta do not lie in one chunk of one volume");
	if (rc == 0 && delta_len == 0)
		rc = misuse(err, "the delta is empty");
	if (rc != 0)
		return rc;
	room = worth(delta_len) < plain_len ? worth(delta_len) : plain_len - 1;
	if (delta_len <= SOSIE_RECORD_PLAIN_MAX && room > 0)
		rc = zstd_pack(enc->packer, delta, delta_len, c.payload, room, &packed, err);
	if (rc == 0 && packed == 0 && delta_len < plain_len) {
		memcpy(c.payload, delta, delta_len);
		return finish_smaller(enc, &c, SOSIE_RECORD_DELTA, RECORD_RAW, delta_len, out, len, NULL,
		                      err);
	}
	return rc ? rc
	          : finish_smaller(enc, &c, SOSIE_RECORD_DELTA, RECORD_ZSTD, packed, out, len, NULL, err);
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
	head.ranges_len = (uint16_t)place_ranges(enc, ranges, count);
	record_digest(enc->hash, &enc->group_ctx, kind, ranges, count, NULL, 0, &head.digest);
	put_head(enc, &head, out, len);
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
	put_head(enc, &head, out, len);
	return 0;
}

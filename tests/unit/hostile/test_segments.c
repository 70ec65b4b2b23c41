/* SPDX-License-Identifier: MIT */
/*
 * Segments of a hostile source: records by hand, with every digest above the lie made to fit. Each attack is
 * refused (or, where its name says so, accepted as exactly what its manifest claims), and costs the keeper a
 * bounded number of calls.
 */
#include <zstd.h>

#include "tests/unit/hostile/forge.h"

#define MIB (1u << 20)
#define LEAVES (BENCH_LARGE / SOSIE_LEAF) /* of volume 0 */

static uint8_t scratch[2 * SOSIE_RECORD_MAX];
static uint8_t zeros[SOSIE_RECORD_PLAIN_MAX];

/* --- frames and deltas by hand ----------------------------------------------------------------------------
 */

static size_t put_le(uint8_t *at, uint64_t v, unsigned width)
{
	for (unsigned i = 0; i < width; i++)
		at[i] = (uint8_t)(v >> 8 * i);
	return width;
}

static size_t put_be(uint8_t *at, uint64_t v, unsigned width)
{
	for (unsigned i = 0; i < width; i++)
		at[i] = (uint8_t)(v >> 8 * (width - 1 - i));
	return width;
}

/* A frame of `content` bytes of 7 in blocks that repeat one byte (RFC 8878), with header fields as wanted. */
struct frame {
	uint64_t content, says; /* what it holds, what its header says */
	int window;             /* descriptor byte, -1: single segment */
	uint8_t flags;          /* further bits of the header: 4 checksum, 8 reserved, 1 dictionary id */
};
static size_t make_frame(uint8_t *dst, const struct frame *f)
{
	size_t n = put_le(dst, ZSTD_MAGICNUMBER, 4);
	dst[n++] = (uint8_t)(0x80 | (f->window < 0 ? 0x20 : 0) | f->flags);
	if (f->window >= 0)
		dst[n++] = (uint8_t)f->window;
	if (f->flags & 1)
		dst[n++] = 42;
	n += put_le(dst + n, f->says, 4);
	for (uint64_t left = f->content; left;) {
		uint64_t len = left < 131072 ? left : 131072;
		left -= len;
		n += put_le(dst + n, (left == 0) | 1u << 1 | len << 3, 3);
		dst[n++] = 7;
	}
	if (f->flags & 4)
		n += put_le(dst + n, 0x12345678, 4); /* of nothing */
	return n;
}

/* A data record of one leaf whose payload is this. */
static void packed_leaf(struct forge *f, const void *payload, size_t len, uint32_t plain_len)
{
	static uint8_t plain[SOSIE_LEAF];
	static const struct sosie_range range = {.leaf = 3, .leaves = 1, .volume = 0};
	memset(plain, 7, sizeof(plain));
	memcpy(f->model.volumes[0].bytes + 3 * SOSIE_LEAF, plain, SOSIE_LEAF);
	forge_record(f, &(struct forged_record){SOSIE_RECORD_DATA, RECORD_ZSTD, &range, 1, plain, plain_len,
	                                        payload, (uint32_t)len});
}

static void delta_of(struct forge *f, const uint8_t *delta, size_t len)
{
	static const struct sosie_range range = {.leaf = 3, .leaves = 1, .volume = 0};
	const uint8_t *plain = f->model.volumes[0].bytes + 3 * SOSIE_LEAF;
	forge_record(f, &(struct forged_record){SOSIE_RECORD_DELTA, RECORD_RAW, &range, 1, plain, SOSIE_LEAF,
	                                        delta, (uint32_t)len});
}

/* --- attacks
 * ------------------------------------------------------------------------------------------------ */

static void honest(struct forge *f)
{
	f->model.volumes[0].bytes[5] ^= 1;
	forge_leaves(f, 0, 0, 2);
}

static void honest_frame(struct forge *f)
{
	uint8_t frame[64];
	packed_leaf(f, frame, make_frame(frame, &(struct frame){4096, 4096, -1, 0}), SOSIE_LEAF);
}

static void honest_delta(struct forge *f)
{
	uint8_t d[64];
	size_t n = put_be(d, 0x72730236, 4);
	n += put_be(d + n, 69 + 4 * 2 + 1, 1); /* copy, position of 4 bytes, length of 2 */
	n += put_be(d + n, 3 * SOSIE_LEAF, 4);
	n += put_be(d + n, SOSIE_LEAF, 2);
	d[n++] = 0;
	delta_of(f, d, n);
}

/* Ranges that would have to be refused before anything is placed by them. */
static const struct range_lie {
	const char *name;
	unsigned count;
	struct sosie_range ranges[2];
} range_lies[] = {
        {"ranges overlap", 2, {{0, 2, 0}, {1, 1, 0}}},
        {"ranges are equal", 2, {{4, 1, 0}, {4, 1, 0}}},
        {"ranges descend", 2, {{4, 1, 0}, {2, 1, 0}}},
        {"volumes descend", 2, {{0, 1, 1}, {0, 1, 0}}},
        {"a range of no leaves", 1, {{0, 0, 0}}},
        {"a range at the end", 1, {{LEAVES, 1, 0}}},
        {"a range past the end", 1, {{LEAVES - 1, 2, 0}}},
        {"a range of 2^32 - 1 leaves", 1, {{0, UINT32_MAX, 0}}},
        {"a leaf of 2^31", 1, {{1ull << 31, 1, 0}}},
        {"a leaf of 2^32 - 1", 1, {{UINT32_MAX, 1, 0}}},
        {"a leaf whose offset is 2^64", 1, {{1ull << 52, 1, 0}}},
        {"a leaf of 2^63", 1, {{1ull << 63, 1, 0}}},
        {"a leaf of 2^64 - 1", 1, {{UINT64_MAX, 1, 0}}},
        {"leaf and leaves overflow", 1, {{UINT64_MAX - 1, UINT32_MAX, 0}}},
        {"a volume that is not listed", 1, {{0, 1, 2}}},
        {"volume 255", 1, {{0, 1, 255}}},
        {"volume 65,535", 1, {{0, 1, UINT16_MAX}}},
};
#define RANGE_LIES (sizeof(range_lies) / sizeof(*range_lies))

/* Zeros there, as far as the places exist: what the manifest claims is what a keeper would make of the record
 * that did not look at its ranges. */
static bool claim_zeros(struct forge *f, const struct range_lie *lie, uint32_t *leaves)
{
	bool exist = true;
	*leaves = 0;
	for (unsigned i = 0; i < lie->count; i++) {
		const struct sosie_range *r = &lie->ranges[i];
		struct model_volume *v = &f->model.volumes[r->volume < 2 ? r->volume : 0];
		const uint64_t last = (v->size + SOSIE_LEAF - 1) / SOSIE_LEAF;
		exist &= r->volume < 2 && r->leaf < last && r->leaves <= last - r->leaf;
		*leaves += exist ? r->leaves : 1;
		for (uint32_t k = 0; exist && k < r->leaves; k++)
			memset(v->bytes + (r->leaf + k) * SOSIE_LEAF, 0, SOSIE_LEAF);
	}
	return exist;
}

/* As a record of each kind; its lengths and digest are right where they can be. */
static void lie_of_ranges(struct forge *f, const struct range_lie *lie, enum sosie_record_kind kind)
{
	struct forged_record r = {kind, RECORD_RAW, lie->ranges, lie->count, NULL, 0, NULL, 0};
	uint32_t leaves;
	const bool exist = claim_zeros(f, lie, &leaves);
	if (record_has_content(kind)) {
		r.plain_len = leaves * SOSIE_LEAF;
		r.plain = exist ? zeros : NULL;
		r.payload = zeros;
		r.payload_len = kind == SOSIE_RECORD_DATA || !leaves ? r.plain_len : r.plain_len - 1;
		r.encoding = kind == SOSIE_RECORD_PATCH ? RECORD_ZSTD : RECORD_RAW;
	}
	forge_record(f, &r);
}

static const struct frame_lie {
	const char *name;
	struct frame frame;
	uint32_t plain_len; /* of the record, 0: a leaf */
} frame_lies[] = {
        {"a frame that holds more than it says", {8192, 4096, -1, 0}, 0},
        {"a frame that holds less than it says", {2048, 4096, -1, 0}, 0},
        {"a frame that says more than its record", {4096, 8192, -1, 0}, 0},
        {"a frame that says 4 GiB", {4096, UINT32_MAX, 0x78, 0}, 0},
        {"a bomb of 64 MiB", {64ull << 20, 4096, -1, 0}, 0},
        {"a bomb of 64 MiB that says so", {64ull << 20, 64u << 20, -1, 0}, 0},
        {"a frame with a window of 2 MiB", {4096, 4096, 11 << 3, 0}, 0},
        {"a frame with a window of 128 MiB", {4096, 4096, 17 << 3, 0}, 0},
        {"a frame with a window of 3.75 TiB", {4096, 4096, 0xff, 0}, 0},
        {"a frame with a reserved bit", {4096, 4096, -1, 8}, 0},
        {"a frame with a dictionary id", {4096, 4096, -1, 1}, 0},
        {"a frame whose checksum is wrong", {4096, 4096, -1, 4}, 0},
        {"a record that says 1 byte", {4096, 4096, -1, 0}, 1},
        {"a record that says more than its ranges", {8192, 8192, -1, 0}, 8192},
        {"a record that says 1 MiB", {1u << 20, 1u << 20, -1, 0}, 1u << 20},
        {"a record that says 1 MiB and 1", {1u << 20, 1u << 20, -1, 0}, (1u << 20) + 1},
        {"a record that says 2^32 - 1", {4096, 4096, -1, 0}, UINT32_MAX},
};
#define FRAME_LIES (sizeof(frame_lies) / sizeof(*frame_lies))

static void lie_of_frame(struct forge *f, const struct frame_lie *lie)
{
	size_t n = make_frame(scratch, &lie->frame);
	uint64_t plain = f->m.plain;
	packed_leaf(f, scratch, n, lie->plain_len ? lie->plain_len : SOSIE_LEAF);
	/* The manifest can be written: it is not what lies here. */
	f->m.plain = f->m.data =
	        plain + (lie->plain_len && lie->plain_len <= MIB ? lie->plain_len : SOSIE_LEAF);
}

/* What stands around a good frame. */
static void skippable_in_front(struct forge *f)
{
	size_t n = put_le(scratch, 0x184D2A50, 4);
	n += put_le(scratch + n, 3, 4) + 3;
	n += make_frame(scratch + n, &(struct frame){4096, 4096, -1, 0});
	packed_leaf(f, scratch, n, SOSIE_LEAF);
}

static void skippable_only(struct forge *f)
{
	size_t n = put_le(scratch, 0x184D2A5F, 4);
	n += put_le(scratch + n, UINT32_MAX, 4);
	packed_leaf(f, scratch, n, SOSIE_LEAF);
}

static void two_frames(struct forge *f)
{
	size_t n = make_frame(scratch, &(struct frame){2048, 2048, -1, 0});
	n += make_frame(scratch + n, &(struct frame){2048, 2048, -1, 0});
	packed_leaf(f, scratch, n, SOSIE_LEAF);
}

static void byte_behind_frame(struct forge *f)
{
	size_t n = make_frame(scratch, &(struct frame){4096, 4096, -1, 0});
	scratch[n++] = 0;
	packed_leaf(f, scratch, n, SOSIE_LEAF);
}

static void frame_without_size(struct forge *f)
{
	size_t n = put_le(scratch, ZSTD_MAGICNUMBER, 4);
	n += put_le(scratch + n, 0, 2); /* no content size, a window of 1 KiB */
	n += put_le(scratch + n, 1 | 1u << 1 | 4096u << 3, 3);
	scratch[n++] = 7;
	packed_leaf(f, scratch, n, SOSIE_LEAF);
}

/* --- deltas
 * --------------------------------------------------------------------------------------------------- */

static const struct delta_lie {
	const char *name;
	unsigned len;      /* 0: up to the end of `bytes` as text */
	const char *bytes; /* behind the magic */
} delta_lies[] = {
        {"a copy past the basis", 8, "\x4e\x00\x02\xf0\x01\x20\x00\x00"},
        {"a copy at 2^32 - 1", 8, "\x4e\xff\xff\xff\xff\x10\x00\x00"},
        {"a copy whose end overflows", 18,
         "\x54\xff\xff\xff\xff\xff\xff\xff\xff\x7f\xff\xff\xff\xff\xff\xff\xff"},
        {"a copy of 2^63 bytes", 11, "\x48\x00\x80\x00\x00\x00\x00\x00\x00\x00\x00"},
        {"a copy of no bytes", 8, "\x4e\x00\x00\x00\x00\x00\x00\x00"},
        {"copies of more than the content", 15,
         "\x4e\x00\x00\x00\x00\x10\x00\x4e\x00\x00\x00\x00\x10\x00\x00"},
        {"copies of less than the content", 8, "\x4e\x00\x00\x00\x00\x0f\xff\x00"},
        {"a literal longer than the delta", 5, "\x42\x10\x00\x11\x22"},
        {"a literal of 2^64 - 1", 10, "\x44\xff\xff\xff\xff\xff\xff\xff\xff\x00"},
        {"a literal of no bytes", 4, "\x41\x00\x00\x00"},
        {"a command that does not exist", 3, "\x55\x00\x00"},
        {"command 255", 3, "\xff\x00\x00"},
        {"no end", 7, "\x4e\x00\x00\x00\x00\x10\x00"},
        {"bytes behind the end", 9, "\x4e\x00\x00\x30\x00\x10\x00\x00\x00"},
        {"nothing", 1, "\x00"},
        {"the right bytes from another place", 8, "\x4e\x00\x00\x00\x00\x10\x00\x00"},
};
#define DELTA_LIES (sizeof(delta_lies) / sizeof(*delta_lies))

static void lie_of_delta(struct forge *f, const struct delta_lie *lie)
{
	size_t n = put_be(scratch, 0x72730236, 4);
	memcpy(scratch + n, lie->bytes, lie->len);
	delta_of(f, scratch, n + lie->len);
}

/* A copy of one byte, 500,000 times: each costs the source three bytes and the keeper nothing that counts;
 * what it makes is longer than the content. */
static void bomb_of_copies(struct forge *f)
{
	size_t n = put_be(scratch, 0x72730236, 4);
	while (n < SOSIE_LEAF - 8) {
		scratch[n++] = 69; /* position and length of a byte each */
		scratch[n++] = 0;
		scratch[n++] = 255;
	}
	scratch[n++] = 0;
	delta_of(f, scratch, n);
}

static void delta_magic_of_weak_sums(struct forge *f)
{
	size_t n = put_be(scratch, 0x72730136, 4); /* a signature's magic, not a delta's */
	n += put_be(scratch + n, 0, 1);
	delta_of(f, scratch, n);
}

/* Two blocks with one weak sum: the delta copies the other one. The content's digest is the honest one. */
static void collision_of_weak_sums(struct forge *f)
{
	uint8_t d[16];
	size_t n = put_be(d, 0x72730236, 4);
	n += put_be(d + n, 69 + 4 * 2 + 1, 1);
	n += put_be(d + n, 5 * SOSIE_LEAF, 4);
	n += put_be(d + n, SOSIE_LEAF, 2);
	d[n++] = 0;
	delta_of(f, d, n);
}

static void delta_over_two_chunks(struct forge *f)
{
	static const struct sosie_range ranges[2] = {{3, 1, 0}, {0, 1, 1}};
	forge_record(f, &(struct forged_record){SOSIE_RECORD_DELTA, RECORD_RAW, ranges, 2, zeros,
	                                        2 * SOSIE_LEAF, zeros, 9});
}

/* A patch made with another content than the standby has. */
static void patch_on_wrong_base(struct forge *f)
{
	static const struct sosie_range range = {.leaf = 3, .leaves = 4, .volume = 0};
	uint8_t *plain = f->model.volumes[0].bytes + 3 * SOSIE_LEAF, *old = bench_noise(99, 4 * SOSIE_LEAF);
	ZSTD_CCtx *ctx = ZSTD_createCCtx();
	memcpy(plain, old, 4 * SOSIE_LEAF);
	plain[77] ^= 1;
	ZSTD_CCtx_setParameter(ctx, ZSTD_c_windowLog, 20);
	ZSTD_CCtx_refPrefix(ctx, old, 4 * SOSIE_LEAF);
	size_t n = ZSTD_compress2(ctx, scratch, sizeof(scratch), plain, 4 * SOSIE_LEAF);
	assert_false(ZSTD_isError(n));
	forge_record(f, &(struct forged_record){SOSIE_RECORD_PATCH, RECORD_ZSTD, &range, 1, plain,
	                                        4 * SOSIE_LEAF, scratch, (uint32_t)n});
	ZSTD_freeCCtx(ctx);
	free(old);
}

/* --- digests, parts, sizes
 * ---------------------------------------------------------------------------------- */

static void digest_of_record(struct forge *f)
{
	static const struct sosie_range range = {.leaf = 3, .leaves = 1, .volume = 0};
	const uint8_t *plain = f->model.volumes[0].bytes + 3 * SOSIE_LEAF;
	const struct forged_record r = {SOSIE_RECORD_DATA, RECORD_RAW, &range,    1, plain,
	                                SOSIE_LEAF,        plain,      SOSIE_LEAF};
	size_t n = forge_bytes(f, &r, scratch, sizeof(scratch));
	scratch[16] ^= 1;
	forge_raw(f, scratch, n);
	f->m.plain = f->m.data = SOSIE_LEAF;
}

/* A record of another group of the same tenant, digests and all. */
static void record_of_another_group(struct forge *f)
{
	struct sosie_digest mine = f->ctx, vmine = f->vctx[0];
	sosie_context_group(f->hash, "acme", "crm", &f->ctx);
	sosie_context_volume(f->hash, "acme", "crm", f->model.volumes[0].name.s, &f->vctx[0]);
	honest(f);
	f->ctx = mine;
	f->vctx[0] = vmine;
}

static void digest_of_part(struct forge *f)
{
	honest(f);
	f->parts[0].chain.b[31] ^= 0x80;
}

static void root_of_volume(struct forge *f)
{
	honest(f);
	f->model.volumes[0].bytes[9] ^= 1; /* the root tells of a byte that was not sent */
}

static void records_more(struct forge *f)
{
	honest(f);
	forge_leaves(f, 0, 9, 1);
	f->parts[0].records--;
}

static void record_cut_short(struct forge *f)
{
	honest(f);
	f->parts[0].len -= 100;
}

static void length_more_than_there(struct forge *f)
{
	honest(f);
	forge_edit(f, "length", 0, "9000");
}

static void lengths_sum_over_2_63(struct forge *f)
{
	char list[4000] = "[";
	honest(f);
	for (unsigned i = 0; i < 16; i++)
		snprintf(list + strlen(list), sizeof(list) - strlen(list),
		         "%s{\"length\":1152921504606846976,\"records\":24000000000000,\"digest\":"
		         "\"0000000000000000000000000000000000000000000000000000000000000000\"}",
		         i ? "," : "");
	strcat(list, "]");
	forge_edit(f, "parts", 0, list);
	forge_text(f);
}

static void part_missing(struct forge *f)
{
	honest(f);
	forge_part(f);
	forge_leaves(f, 0, 9, 1);
	forge_text(f);
	f->part_count = 1; /* the second is in the manifest only */
	free(f->parts[1].bytes);
}

static void parts_swapped(struct forge *f)
{
	honest(f);
	forge_part(f);
	forge_leaves(f, 0, 9, 1);
	forge_text(f);
	struct forged_part p = f->parts[0];
	f->parts[0] = f->parts[1];
	f->parts[1] = p;
}

static void plain_less_than_sent(struct forge *f)
{
	honest(f);
	f->m.plain -= 1;
	f->m.data -= 1;
}

static void zeros_over_and_over(struct forge *f)
{
	const struct sosie_range all = {.leaf = 0, .leaves = LEAVES, .volume = 0};
	memset(f->model.volumes[0].bytes, 0, BENCH_LARGE);
	for (unsigned i = 0; i < 4000; i++) /* 4000 x 192 KiB: more than 64 MiB and four times the volumes */
		forge_record(
		        f, &(struct forged_record){SOSIE_RECORD_ZERO, RECORD_RAW, &all, 1, NULL, 0, NULL, 0});
}

static void volumes_of_another_order(struct forge *f)
{
	struct model_volume v = f->model.volumes[0];
	forge_text(f);
	f->model.volumes[0] = f->model.volumes[1];
	f->model.volumes[1] = v;
	honest(f); /* bound to the other's context by its index */
	free(f->text);
	f->text = NULL;
	f->model.volumes[1] = f->model.volumes[0];
	f->model.volumes[0] = v;
}

/* --- attachments
 * ------------------------------------------------------------------------------------------------ */

static size_t put_attachment(uint8_t *dst, uint32_t index, uint64_t offset, const char *text)
{
	put_le(dst, index, 4);
	put_le(dst + 4, offset, 8);
	memcpy(dst + 12, text, strlen(text));
	return 12 + strlen(text);
}

static void attachment_piece(struct forge *f, uint32_t index, uint64_t offset, const char *text)
{
	uint8_t payload[200];
	size_t n = put_attachment(payload, index, offset, text);
	forge_record(f, &(struct forged_record){SOSIE_RECORD_ATTACHMENT, RECORD_RAW, NULL, 0, NULL,
	                                        (uint32_t)n, payload, (uint32_t)n});
}

static void list_attachment(struct forge *f, const char *name, const char *text)
{
	struct sosie_manifest_attachment *a = &f->attachments[f->m.attachment_count++];
	OK(f->b, sosie_name_set(&a->name, SOSIE_NAME_ATTACHMENT, name, &f->b->err));
	a->size = strlen(text);
	sosie_hash_plain(f->hash);
	sosie_hash_add(f->hash, text, strlen(text));
	sosie_hash_end(f->hash, &a->sha256);
}

static void attachment_honest(struct forge *f)
{
	list_attachment(f, "vm.xml", "<domain/>");
	attachment_piece(f, 0, 0, "<dom");
	attachment_piece(f, 0, 4, "ain/>");
}

static void attachment_index(struct forge *f)
{
	list_attachment(f, "vm.xml", "<domain/>");
	attachment_piece(f, 1, 0, "<domain/>");
}

static void attachment_index_max(struct forge *f)
{
	list_attachment(f, "vm.xml", "<domain/>");
	attachment_piece(f, UINT32_MAX, 0, "<domain/>");
}

static void attachment_offset(struct forge *f)
{
	list_attachment(f, "vm.xml", "<domain/>");
	attachment_piece(f, 0, 4, "ain/>");
}

static void attachment_offset_max(struct forge *f)
{
	list_attachment(f, "vm.xml", "<domain/>");
	attachment_piece(f, 0, 0, "<dom");
	attachment_piece(f, 0, UINT64_MAX, "ain/>");
}

static void attachment_order(struct forge *f)
{
	list_attachment(f, "a", "<domain/>");
	list_attachment(f, "b", "<domain/>");
	attachment_piece(f, 0, 0, "<dom");
	attachment_piece(f, 1, 0, "<dom");
	attachment_piece(f, 0, 4, "ain/>");
	attachment_piece(f, 1, 4, "ain/>");
}

static void attachment_longer(struct forge *f)
{
	list_attachment(f, "vm.xml", "<domain/>");
	attachment_piece(f, 0, 0, "<domain/>!");
}

static void attachment_shorter(struct forge *f)
{
	list_attachment(f, "vm.xml", "<domain/>");
	attachment_piece(f, 0, 0, "<domain");
}

static void attachment_missing(struct forge *f)
{
	list_attachment(f, "vm.xml", "<domain/>");
}

static void attachment_sha256(struct forge *f)
{
	attachment_honest(f);
	f->attachments[0].sha256.b[0] ^= 1;
}

static void attachment_not_listed(struct forge *f)
{
	attachment_piece(f, 0, 0, "<domain/>");
}

static void attachments_257(struct forge *f)
{
	char list[40000] = "[", name[16];
	honest(f);
	for (unsigned i = 0; i <= SOSIE_ATTACHMENTS_MAX; i++) {
		snprintf(name, sizeof(name), "a%u", i);
		snprintf(list + strlen(list), sizeof(list) - strlen(list),
		         "%s{\"name\":\"%s\",\"size\":0,\"sha256\":"
		         "\"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"}",
		         i ? "," : "", name);
	}
	strcat(list, "]");
	forge_edit(f, "attachments", 0, list);
	forge_text(f);
}

static void attachments_256(struct forge *f)
{
	char name[16];
	honest(f);
	for (unsigned i = 0; i < SOSIE_ATTACHMENTS_MAX; i++) {
		snprintf(name, sizeof(name), "a%u", i);
		list_attachment(f, name, "");
	}
}

static void attachment_packed(struct forge *f)
{
	uint8_t frame[64];
	size_t n = make_frame(frame, &(struct frame){4096, 4096, -1, 0});
	list_attachment(f, "vm.xml", "<domain/>");
	forge_record(f, &(struct forged_record){SOSIE_RECORD_ATTACHMENT, RECORD_ZSTD, NULL, 0, NULL, 4096,
	                                        frame, (uint32_t)n});
}

static const struct attack {
	const char *name;
	void (*forge)(struct forge *f);
	bool accepted;
} attacks[] = {
        {"no lie: raw data", honest, true},
        {"no lie: a frame", honest_frame, true},
        {"no lie: a delta", honest_delta, true},
        {"no lie: an attachment in two pieces", attachment_honest, true},
        {"no lie: 256 attachments", attachments_256, true},
        {"a skippable frame in front", skippable_in_front, false},
        {"a skippable frame of 4 GiB", skippable_only, false},
        {"two frames", two_frames, false},
        {"a byte behind the frame", byte_behind_frame, false},
        {"a frame without its size", frame_without_size, false},
        {"a bomb of copies", bomb_of_copies, false},
        {"a delta with a signature's magic", delta_magic_of_weak_sums, false},
        {"a delta that copies another block (equal weak sums)", collision_of_weak_sums, false},
        {"a delta over two volumes", delta_over_two_chunks, false},
        {"a patch on another content", patch_on_wrong_base, false},
        {"a record's digest", digest_of_record, false},
        {"a record of another group", record_of_another_group, false},
        {"a part's digest", digest_of_part, false},
        {"a volume's root", root_of_volume, false},
        {"a record more than told", records_more, false},
        {"a record cut short", record_cut_short, false},
        {"a part longer than it is", length_more_than_there, false},
        {"parts of 2^64 bytes in all", lengths_sum_over_2_63, false},
        {"a part that is not there", part_missing, false},
        {"parts swapped", parts_swapped, false},
        {"more content than told", plain_less_than_sent, false},
        {"zeros over and over", zeros_over_and_over, false},
        {"digests of volumes in another order", volumes_of_another_order, false},
        {"attachment 1 of 1", attachment_index, false},
        {"attachment 2^32 - 1", attachment_index_max, false},
        {"an attachment that begins in its middle", attachment_offset, false},
        {"an attachment's offset of 2^64 - 1", attachment_offset_max, false},
        {"attachments in turn", attachment_order, false},
        {"an attachment longer than told", attachment_longer, false},
        {"an attachment shorter than told", attachment_shorter, false},
        {"an attachment that does not come", attachment_missing, false},
        {"an attachment's SHA-256", attachment_sha256, false},
        {"an attachment that is not listed", attachment_not_listed, false},
        {"257 attachments", attachments_257, false},
        {"a packed attachment", attachment_packed, false},
};
#define ATTACKS (sizeof(attacks) / sizeof(*attacks))

/* --- tests
 * -------------------------------------------------------------------------------------------------------- */

static void finish(struct bench *b, const char *what, unsigned ran, unsigned least)
{
	print_message("%s: %u attacks\n", what, ran);
	assert_int_equal(ran, least);
	bench_intact(b);
	bench_free(b);
}

static void test_lies_inside_a_segment_are_refused(void **state)
{
	struct bench *b = bench_new(BENCH_CAPACITY, 0);
	unsigned ran = 0;
	(void)state;
	for (unsigned i = 0; i < ATTACKS; i++, ran++) {
		struct forge *f = forge_new(b);
		attacks[i].forge(f);
		forge_send(f);
		if (attacks[i].accepted)
			forge_accepted(f, attacks[i].name);
		else
			forge_refused(b, attacks[i].name);
		forge_free(f);
		bench_unchanged_but(b, ERP);
	}
	finish(b, "lies of a segment", ran, ATTACKS);
}

static void test_lies_of_ranges_are_refused_in_every_kind(void **state)
{
	static const enum sosie_record_kind kinds[] = {SOSIE_RECORD_DATA, SOSIE_RECORD_ZERO,
	                                               SOSIE_RECORD_DISCARD, SOSIE_RECORD_PATCH,
	                                               SOSIE_RECORD_DELTA};
	struct bench *b = bench_new(BENCH_CAPACITY, 0);
	unsigned ran = 0;
	(void)state;
	for (unsigned i = 0; i < RANGE_LIES * 5; i++, ran++) {
		char name[96];
		struct forge *f = forge_new(b);
		snprintf(name, sizeof(name), "%s (kind %d)", range_lies[i / 5].name, (int)kinds[i % 5]);
		lie_of_ranges(f, &range_lies[i / 5], kinds[i % 5]);
		forge_send(f);
		forge_refused(b, name);
		assert_true(strstr(b->result.last.what, "range") || strstr(b->result.last.what, "length"));
		forge_free(f);
	}
	finish(b, "lies of ranges", ran, RANGE_LIES * 5);
}

static void test_lies_of_frames_are_refused(void **state)
{
	struct bench *b = bench_new(BENCH_CAPACITY, 0);
	unsigned ran = 0;
	(void)state;
	for (unsigned i = 0; i < FRAME_LIES; i++, ran++) {
		struct forge *f = forge_new(b);
		lie_of_frame(f, &frame_lies[i]);
		forge_send(f);
		forge_refused(b, frame_lies[i].name);
		forge_free(f);
	}
	finish(b, "lies of frames", ran, FRAME_LIES);
}

static void test_lies_of_deltas_are_refused(void **state)
{
	struct bench *b = bench_new(BENCH_CAPACITY, 0);
	unsigned ran = 0;
	(void)state;
	for (unsigned i = 0; i < DELTA_LIES; i++, ran++) {
		struct forge *f = forge_new(b);
		lie_of_delta(f, &delta_lies[i]);
		forge_send(f);
		forge_refused(b, delta_lies[i].name);
		forge_free(f);
	}
	finish(b, "lies of deltas", ran, DELTA_LIES);
}

/* Each number of a record's header and range, the part's chain made anew over it. */
static const struct {
	const char *name;
	unsigned offset, width;
	uint64_t max;
} record_fields[] = {
        {"magic", 0, 4, 0},
        {"kind", 4, 1, 6},
        {"encoding", 5, 1, 1},
        {"number of ranges", 6, 2, 256},
        {"plain length", 8, 4, SOSIE_RECORD_PLAIN_MAX},
        {"payload length", 12, 4, SOSIE_RECORD_PLAIN_MAX},
        {"digest", 16, 8, 0},
        {"first leaf", 48, 8, LEAVES},
        {"leaves", 56, 4, LEAVES},
        {"volume", 60, 2, 2},
        {"zero", 62, 2, 0},
        {"content", 64, 8, 0},
};

static unsigned number_lies(struct bench *b, unsigned field)
{
	const unsigned offset = record_fields[field].offset, width = record_fields[field].width;
	const uint64_t max = record_fields[field].max;
	const uint64_t values[] = {0,          1,          max - 1,    max,       max + 1,
	                           1ull << 31, UINT32_MAX, 1ull << 63, UINT64_MAX};
	static const struct sosie_range range = {.leaf = 3, .leaves = 2, .volume = 0};
	unsigned ran = 0;
	for (unsigned i = 0; i < 9; i++) {
		struct forge *f = forge_new(b);
		const uint8_t *plain = f->model.volumes[0].bytes + 3 * SOSIE_LEAF;
		uint8_t before[8];
		size_t n = forge_bytes(f,
		                       &(struct forged_record){SOSIE_RECORD_DATA, RECORD_RAW, &range, 1,
		                                               plain, 2 * SOSIE_LEAF, plain, 2 * SOSIE_LEAF},
		                       scratch, sizeof(scratch));
		memcpy(before, scratch + offset, width);
		put_le(scratch + offset, values[i], width);
		if (memcmp(before, scratch + offset, width) != 0) {
			char name[80];
			snprintf(name, sizeof(name), "%s = %llu", record_fields[field].name,
			         (unsigned long long)values[i]);
			forge_raw(f, scratch, n);
			f->m.plain = f->m.data = 2 * SOSIE_LEAF;
			forge_send(f);
			forge_refused(b, name);
			ran++;
		}
		forge_free(f);
	}
	return ran;
}

static void test_every_number_of_a_record_is_checked(void **state)
{
	struct bench *b = bench_new(BENCH_CAPACITY, 0);
	unsigned ran = 0;
	(void)state;
	for (unsigned i = 0; i < sizeof(record_fields) / sizeof(*record_fields); i++)
		ran += number_lies(b, i);
	print_message("numbers of a record: %u attacks\n", ran);
	assert_true(ran > 90);
	bench_intact(b);
	bench_free(b);
}

/* Volumes that become huge and tiny and come and go: points of what they say, at a bounded price. */
static void test_absurd_shapes_of_volumes_cost_little(void **state)
{
	static const uint64_t sizes[] = {1,          4095,       4097,       1ull << 20,
	                                 1ull << 31, 1ull << 40, 1ull << 50, BENCH_SMALL};
	struct bench *b = bench_new(BENCH_CAPACITY, 0);
	unsigned ran = 0;
	(void)state;
	for (unsigned i = 0; i < sizeof(sizes) / sizeof(*sizes); i++, ran++) {
		char size[32], name[96];
		struct forge *f = forge_new(b);
		uint64_t calls = counted.calls;
		snprintf(size, sizeof(size), "%llu", (unsigned long long)sizes[i]);
		snprintf(name, sizeof(name), "a volume of %s bytes, with the root of another", size);
		honest(f);
		if (sizes[i] != BENCH_SMALL)
			forge_edit(f, "size", 1, size);
		else
			f->model.volumes[0].bytes[9] ^= 1;
		forge_send(f);
		forge_refused(b, name);
		print_message("    %llu calls\n", (unsigned long long)(counted.calls - calls));
		forge_free(f);
	}
	finish(b, "shapes", ran, sizeof(sizes) / sizeof(*sizes));
}

/* With the right roots they are points like any other; what was cut off does not come back. */
static void test_volumes_that_shrink_and_grow_are_what_they_say(void **state)
{
	static const uint64_t sizes[] = {1, 4097, 3u << 20, 4095, 1, 4096, BENCH_SMALL};
	struct bench *b = bench_new(BENCH_CAPACITY, 0);
	unsigned ran = 0;
	(void)state;
	for (unsigned i = 0; i < sizeof(sizes) / sizeof(*sizes); i++, ran++) {
		char name[96];
		struct forge *f = forge_new(b);
		snprintf(name, sizeof(name), "a volume of %llu bytes", (unsigned long long)sizes[i]);
		model_resize(&f->model, 1, sizes[i]);
		forge_send(f);
		forge_accepted(f, name);
		forge_free(f);
	}
	finish(b, "shrunk and grown", ran, sizeof(sizes) / sizeof(*sizes));
}

/* Nearly the whole disk, in records of 65 bytes that say 1 MiB each. */
static void claim_room(struct forge *f)
{
	const struct sosie_range range = {.leaf = 0, .leaves = 256, .volume = 0};
	for (unsigned i = 0; i < 254; i++)
		forge_record(f, &(struct forged_record){SOSIE_RECORD_DATA, RECORD_ZSTD, &range, 1, NULL, MIB,
		                                        "x", 1});
}

/* Where room is short, what the manifest counts is compared with the records before anything waits for it. */
static void test_claim_of_room_that_no_record_bears_out_is_refused(void **state)
{
	static const char *const claims[] = {"267000000", "266000001"};
	struct bench *b = bench_new(BENCH_CAPACITY, 0);
	unsigned ran = 0;
	(void)state;
	for (unsigned i = 0; i < sizeof(claims) / sizeof(*claims); i++, ran++) {
		const struct sosie_range range = {.leaf = 0, .leaves = 1, .volume = 0};
		struct forge *f = forge_new(b);
		for (unsigned k = 0; k < 256; k++) /* each could hold 1 MiB */
			forge_record(f, &(struct forged_record){SOSIE_RECORD_ZERO, RECORD_RAW, &range, 1,
			                                        NULL, 0, NULL, 0});
		forge_edit(f, "plain", 0, claims[i]);
		forge_send(f);
		forge_refused(b, "content that no record has");
		forge_free(f);
	}
	finish(b, "claims of room", ran, sizeof(claims) / sizeof(*claims));
}

/* A small upload that claims nearly the whole disk waits for room. It is not to keep the group from its
 * honest sender, who builds on the same head. */
static void test_claim_of_room_does_not_hold_the_group(void **state)
{
	struct bench *b = bench_new(BENCH_CAPACITY, 0);
	struct forge *f = forge_new(b);
	(void)state;
	claim_room(f);
	forge_send(f);
	struct sosie_accept_result r = bench_keep(b, ERP);
	assert_int_equal(r.waiting, 1);
	assert_int_equal(r.last.code, SOSIE_ENOSPACE);
	bench_honest(b, ERP);
	forge_refused(b, "the claim, behind the honest point");
	forge_free(f);
	bench_intact(b);
	bench_free(b);
}

/* What builds on one that waits is not taken for another writer's. */
static void test_uploads_behind_one_that_waits_wait_too(void **state)
{
	struct bench *b = bench_new(BENCH_CAPACITY, 0);
	struct forge *f = forge_new(b), *behind = forge_new(b);
	(void)state;
	claim_room(f);
	forge_send(f);
	behind->m.parent.b[0] ^= 1;
	honest(behind);
	forge_send(behind);
	for (unsigned i = 0; i < 3; i++) {
		struct sosie_accept_result r = bench_keep(b, ERP);
		assert_int_equal(r.waiting, 1);
		assert_int_equal(r.refused + r.accepted, 0);
		assert_int_equal(r.last.code, SOSIE_ENOSPACE);
	}
	forge_free(f);
	forge_free(behind);
	bench_honest(b, ERP);
	bench_intact(b);
	bench_free(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_lies_inside_a_segment_are_refused),
	        cmocka_unit_test(test_lies_of_ranges_are_refused_in_every_kind),
	        cmocka_unit_test(test_lies_of_frames_are_refused),
	        cmocka_unit_test(test_lies_of_deltas_are_refused),
	        cmocka_unit_test(test_every_number_of_a_record_is_checked),
	        cmocka_unit_test(test_absurd_shapes_of_volumes_cost_little),
	        cmocka_unit_test(test_volumes_that_shrink_and_grow_are_what_they_say),
	        cmocka_unit_test(test_claim_of_room_that_no_record_bears_out_is_refused),
	        cmocka_unit_test(test_claim_of_room_does_not_hold_the_group),
	        cmocka_unit_test(test_uploads_behind_one_that_waits_wait_too),
	};
	printf("seed %u\n", SEED);
	return cmocka_run_group_tests_name("hostile segments", tests, NULL, NULL);
}

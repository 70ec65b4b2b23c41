/* SPDX-License-Identifier: MIT */
/*
 * Patch and delta records: with the content that they were made against they give the new content to the
 * byte; with any other, or damaged, misplaced or lying, they are refused and leave nothing behind. Deltas are
 * put together here from the format's description, so that no encoder of a library is needed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sosie/bytes.h"
#include "sosie/segment.h"
#include "tests/support/rounds.h"

#define VOLUMES 4u
#define LEAVES 512
#define DELTA_ROOM (SOSIE_RECORD_PLAIN_MAX * 2)

static struct {
	struct sosie_digest ctx;
	struct sosie_hash *hash;
	struct sosie_encoder *enc;
	struct sosie_decoder *dec;
	struct sosie_extent_volume volumes[VOLUMES];
	uint8_t *old[VOLUMES], *now[VOLUMES];
	struct sosie_record record;
	struct sosie_range ranges[SOSIE_RECORD_RANGES_MAX];
	unsigned count;
	struct sosie_digest leaves[LEAVES], found[LEAVES];
	uint8_t plain[SOSIE_RECORD_PLAIN_MAX], basis[SOSIE_RECORD_PLAIN_MAX], back[SOSIE_RECORD_PLAIN_MAX];
	uint8_t delta[DELTA_ROOM], bytes[SOSIE_RECORD_MAX];
	size_t plain_len, len;
	enum sosie_record_kind kind;
	unsigned seed;
} f;

static const uint64_t sizes[VOLUMES] = {8u << 20, (3u << 20) + 777, 5000, 1};

static uint32_t rnd(uint32_t below)
{
	return (uint32_t)rand() % below;
}

static int setup(void **state)
{
	struct sosie_err err;

	(void)state;
	f.hash = sosie_hash_new();
	sosie_context_group(f.hash, "acme", "erp", &f.ctx);
	for (unsigned i = 0; i < VOLUMES; i++) {
		char name[16];

		snprintf(name, sizeof(name), "v%u", i);
		sosie_context_volume(f.hash, "acme", "erp", name, &f.volumes[i].ctx);
		f.volumes[i].size = sizes[i];
		f.old[i] = malloc(sizes[i]);
		f.now[i] = malloc(sizes[i]);
		assert_true(f.old[i] && f.now[i]);
	}
	assert_int_equal(sosie_encoder_new(&f.ctx, 1, &f.enc, &err), 0);
	assert_int_equal(sosie_decoder_new(&f.ctx, &f.dec, &err), 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	for (unsigned i = 0; i < VOLUMES; i++) {
		free(f.old[i]);
		free(f.now[i]);
	}
	sosie_encoder_free(f.enc);
	sosie_decoder_free(f.dec);
	sosie_hash_free(f.hash);
	return 0;
}

/* Volumes of noise or text, then edits: a few bytes, whole leaves, zeros, runs moved. */
static void change_volumes(unsigned edits)
{
	for (unsigned v = 0; v < VOLUMES; v++) {
		bool text = rnd(2);

		for (uint64_t i = 0; i < sizes[v]; i++)
			f.old[v][i] = text ? (uint8_t)("customer "[rnd(9)]) : (uint8_t)(rand() >> 7);
		memcpy(f.now[v], f.old[v], sizes[v]);
		for (unsigned e = 0; e < edits; e++) {
			uint64_t len = 1 + rnd(rnd(4) ? 100 : 9000), at = rnd((uint32_t)sizes[v]);

			len = len > sizes[v] - at ? sizes[v] - at : len;
			if (rnd(3) == 0)
				memset(f.now[v] + at, 0, len);
			else if (rnd(3) == 0)
				memmove(f.now[v] + at, f.now[v] + rnd((uint32_t)(sizes[v] - len + 1)), len);
			else
				for (uint64_t i = 0; i < len; i++)
					f.now[v][at + i] = (uint8_t)(rand() >> 7);
		}
	}
}

static uint64_t total_leaves(unsigned v)
{
	return (sizes[v] + SOSIE_LEAF - 1) / SOSIE_LEAF;
}

/* Ascending ranges of at most 1 MiB, in the chunk of volume v if one_chunk, else anywhere from volume v on.
 */
static void choose_ranges(unsigned v, bool one_chunk)
{
	uint64_t at = rnd((uint32_t)total_leaves(v)), end = total_leaves(v), left = SOSIE_FANOUT;

	if (one_chunk && end > (at / SOSIE_FANOUT + 1) * SOSIE_FANOUT)
		end = (at / SOSIE_FANOUT + 1) * SOSIE_FANOUT;
	for (f.count = 0; f.count < SOSIE_RECORD_RANGES_MAX && left > 0;) {
		uint64_t n = 1 + rnd(rnd(5) ? 2 : 64);

		if (at >= end) {
			if (one_chunk || ++v >= VOLUMES)
				break;
			at = 0;
			end = total_leaves(v);
		}
		n = n > end - at ? end - at : n;
		n = n > left ? left : n;
		f.ranges[f.count++] =
		        (struct sosie_range){.leaf = at, .leaves = (uint32_t)n, .volume = (uint16_t)v};
		left -= n;
		at += n + rnd(3);
	}
	assert_true(f.count > 0);
}

static size_t gather(uint8_t *dst, uint8_t *const *from, const struct sosie_range *ranges, unsigned count)
{
	size_t at = 0;

	for (unsigned i = 0; i < count; i++) {
		uint64_t n = sosie_range_bytes(&ranges[i], sizes[ranges[i].volume]);

		memcpy(dst + at, from[ranges[i].volume] + ranges[i].leaf * SOSIE_LEAF, n);
		at += n;
	}
	return at;
}

static void digest_leaves(void)
{
	unsigned n = 0;

	f.plain_len = gather(f.plain, f.now, f.ranges, f.count);
	for (unsigned i = 0; i < f.count; i++)
		for (uint32_t k = 0; k < f.ranges[i].leaves; k++) {
			const unsigned v = f.ranges[i].volume;
			uint64_t leaf = f.ranges[i].leaf + k, left = sizes[v] - leaf * SOSIE_LEAF;

			sosie_digest_leaf(f.hash, &f.volumes[v].ctx, leaf, f.now[v] + leaf * SOSIE_LEAF,
			                  left < SOSIE_LEAF ? left : SOSIE_LEAF, &f.leaves[n++]);
		}
}

static void keep(const void *out, size_t len)
{
	assert_true(len <= SOSIE_RECORD_MAX);
	memcpy(f.bytes, out, len);
	f.len = len;
}

static void encode_patch(void)
{
	struct sosie_err err;
	const void *out;
	size_t len;

	digest_leaves();
	gather(f.basis, f.old, f.ranges, f.count);
	assert_int_equal(sosie_encode_patch(f.enc, f.ranges, f.count, f.leaves, f.plain, f.plain_len, f.basis,
	                                    &out, &len, &f.kind, &err),
	                 0);
	keep(out, len);
}

/* Most significant byte first, as librsync writes. */
static void put_big(struct sosie_writer *w, uint64_t value, unsigned bytes)
{
	while (bytes-- > 0)
		sosie_put_u8(w, (uint8_t)(value >> (8 * bytes)));
}

static void put_copy(struct sosie_writer *w, uint64_t from, uint64_t len)
{
	sosie_put_u8(w, 69 + 4 * 2 + 2);
	put_big(w, from, 4);
	put_big(w, len, 4);
}

/* The ranges' content: 32 bytes literal where they differ from the same place of the chunk, else copied. */
static size_t make_delta(void)
{
	struct sosie_writer w;

	sosie_writer_init(&w, f.delta, sizeof(f.delta));
	put_big(&w, 0x72730236, 4);
	for (unsigned i = 0; i < f.count; i++) {
		const struct sosie_range *r = &f.ranges[i];
		uint64_t at = r->leaf * SOSIE_LEAF, end = at + sosie_range_bytes(r, sizes[r->volume]), n;

		for (; at < end; at += n) {
			n = end - at < 32 ? end - at : 32;
			if (memcmp(f.old[r->volume] + at, f.now[r->volume] + at, n) != 0) {
				sosie_put_u8(&w, (uint8_t)n);
				sosie_put_bytes(&w, f.now[r->volume] + at, n);
				continue;
			}
			while (at + n < end && f.old[r->volume][at + n] == f.now[r->volume][at + n])
				n++;
			put_copy(&w, at % SOSIE_CHUNK, n);
		}
	}
	sosie_put_u8(&w, 0);
	assert_false(w.failed);
	return w.len;
}

static void encode_delta(void)
{
	struct sosie_err err;
	const void *out;
	size_t len, delta_len;

	digest_leaves();
	delta_len = make_delta();
	assert_int_equal(sosie_encode_delta(f.enc, f.ranges, f.count, f.leaves, f.plain, f.plain_len, f.delta,
	                                    delta_len, &out, &len, &err),
	                 0);
	f.kind = (enum sosie_record_kind)((const uint8_t *)out)[4];
	keep(out, len);
}

/* As a keeper does it: lengths, parse, basis from the volumes as they were, decode. */
static int take_on(uint8_t *const *volumes)
{
	static uint8_t basis[SOSIE_RECORD_PLAIN_MAX];
	struct sosie_range ranges[SOSIE_RECORD_RANGES_MAX];
	struct sosie_err err;
	uint32_t ranges_len, payload_len;
	unsigned count;
	size_t bytes;
	int rc = sosie_record_lengths(f.bytes, &ranges_len, &payload_len, &err);

	if (rc == 0 && (size_t)SOSIE_RECORD_HEADER + ranges_len + payload_len != f.len)
		rc = -SOSIE_ECORRUPT;
	if (rc == 0)
		rc = sosie_record_parse(f.bytes, SOSIE_RECORD_HEADER + ranges_len, f.volumes, VOLUMES,
		                        &f.record, &err);
	if (rc != 0)
		return rc;
	count = sosie_record_basis(&f.record, f.volumes, ranges, &bytes);
	assert_true(bytes <= SOSIE_RECORD_PLAIN_MAX);
	if (count > 0)
		assert_int_equal(gather(basis, volumes, ranges, count), bytes);
	memset(f.back, 0xee, sizeof(f.back));
	rc = sosie_decode(f.dec, &f.record, f.bytes + SOSIE_RECORD_HEADER + ranges_len,
	                  count > 0 ? basis : NULL, f.volumes, f.back, f.found, NULL, &err);
	for (size_t i = f.record.plain_len; i < sizeof(f.back); i += 97)
		assert_int_equal(f.back[i], 0xee);
	if (rc != 0)
		assert_true(sosie_all_zero(f.back, f.record.plain_len));
	return rc;
}

static int take(void)
{
	return take_on(f.old);
}

static void expect_content(void)
{
	assert_int_equal(take(), 0);
	assert_int_equal(f.record.kind, f.kind);
	assert_int_equal(f.record.plain_len, f.plain_len);
	assert_memory_equal(f.back, f.plain, f.plain_len);
}

static void test_patch_random_edits_come_back_to_the_byte(void **state)
{
	unsigned patches = 0, datas = 0, rounds = test_rounds(12, 400);

	(void)state;
	for (unsigned round = 0; round < rounds; round++) {
		change_volumes(1 + rnd(60));
		for (unsigned i = 0; i < 8; i++) {
			sosie_encoder_level(f.enc, (int)rnd(4) + 1);
			choose_ranges(rnd(VOLUMES), false);
			encode_patch();
			expect_content();
			patches += f.kind == SOSIE_RECORD_PATCH;
			datas += f.kind == SOSIE_RECORD_DATA;
		}
	}
	print_message("%u patches, %u data\n", patches, datas);
	assert_true(patches > rounds);
}

static void test_delta_random_edits_come_back_to_the_byte(void **state)
{
	unsigned deltas = 0, packed = 0, rounds = test_rounds(12, 400);

	(void)state;
	for (unsigned round = 0; round < rounds; round++) {
		change_volumes(1 + rnd(60));
		for (unsigned i = 0; i < 8; i++) {
			choose_ranges(rnd(3), true);
			encode_delta();
			expect_content();
			deltas += f.kind == SOSIE_RECORD_DELTA;
			packed += f.kind == SOSIE_RECORD_DELTA && f.record.encoding == 1;
		}
	}
	print_message("%u deltas, %u of them packed\n", deltas, packed);
	assert_true(deltas > rounds && packed > 0 && packed < deltas);
}

/* What compresses well by itself, or has nothing to do with what was there, travels as data. */
static void test_patch_and_delta_are_never_larger_than_data(void **state)
{
	struct sosie_err err;
	const void *out;
	size_t data_len, seen = 0;
	unsigned kinds[8] = {0};

	(void)state;
	for (unsigned round = 0; round < test_rounds(12, 400); round++) {
		change_volumes(1 + rnd(3000));
		for (uint64_t at = 0; round % 3 == 0 && at < sizes[0]; at++)
			f.now[0][at] = (uint8_t)("replaced "[rnd(9)]);
		for (unsigned i = 0; i < 6; i++, seen++) {
			choose_ranges(rnd(2), true);
			digest_leaves();
			assert_int_equal(sosie_encode_data(f.enc, f.ranges, f.count, f.leaves, f.plain,
			                                   f.plain_len, &out, &data_len, &err),
			                 0);
			if (i % 2)
				encode_delta();
			else
				encode_patch();
			/* Below an eighth data is not tried; then a patch may be larger than a content of
			 * runs. */
			if (f.len > data_len)
				assert_true(f.len - SOSIE_RECORD_HEADER - f.count * SOSIE_RANGE_BYTES <=
				            f.plain_len / 8);
			kinds[f.kind]++;
			expect_content();
		}
	}
	assert_true(seen >= 6 && kinds[SOSIE_RECORD_DATA] > 0 && kinds[SOSIE_RECORD_PATCH] > 0 &&
	            kinds[SOSIE_RECORD_DELTA] > 0);
}

static void one_leaf_edit(void)
{
	change_volumes(0);
	for (uint64_t i = 0; i < sizes[0]; i++)
		f.old[0][i] = f.now[0][i] = (uint8_t)(rand() >> 7);
	for (unsigned i = 0; i < 40; i++)
		f.now[0][5 * SOSIE_LEAF + 1000 + i] ^= 0xff;
	f.count = 1;
	f.ranges[0] = (struct sosie_range){.leaf = 5, .leaves = 2, .volume = 0};
}

static void test_wrong_basis_is_refused(void **state)
{
	unsigned refused = 0;

	(void)state;
	one_leaf_edit();
	for (unsigned kind = 0; kind < 2; kind++) {
		if (kind)
			encode_delta();
		else
			encode_patch();
		assert_int_equal(f.kind, kind ? SOSIE_RECORD_DELTA : SOSIE_RECORD_PATCH);
		expect_content();
		for (uint64_t at = 5 * SOSIE_LEAF; at < 7 * SOSIE_LEAF; at += 500) {
			if (f.old[0][at] != f.now[0][at])
				continue; /* replaced: not copied from */
			f.old[0][at] ^= 1;
			refused += take() == -SOSIE_ECORRUPT;
			f.old[0][at] ^= 1;
		}
		refused += take_on(f.now) == 0; /* idempotent by luck or refused: never another content */
		assert_memory_equal(f.now[0] + 5 * SOSIE_LEAF, f.plain, f.plain_len);
	}
	print_message("%u refused\n", refused);
	assert_true(refused >= 32);
}

/* Header and ranges of one record, payload of the other. */
static void test_patch_records_swapped_are_refused(void **state)
{
	static uint8_t first[SOSIE_RECORD_MAX];
	const size_t head = SOSIE_RECORD_HEADER + SOSIE_RANGE_BYTES;
	size_t first_len;

	(void)state;
	one_leaf_edit();
	encode_patch();
	memcpy(first, f.bytes, f.len);
	first_len = f.len;
	f.ranges[0].leaf = 300;
	memset(f.now[0] + 301 * SOSIE_LEAF, 0x77, 40);
	encode_patch();
	expect_content();
	memmove(f.bytes + head, first + head, first_len - head);
	memcpy(f.bytes + 12, first + 12, 4); /* payload length */
	f.len = first_len;
	assert_int_equal(take(), -SOSIE_ECORRUPT);
	memcpy(f.bytes, first, first_len);
	f.bytes[SOSIE_RECORD_HEADER] = 6; /* one leaf further */
	assert_int_equal(take(), -SOSIE_ECORRUPT);
	f.bytes[SOSIE_RECORD_HEADER] = 5;
	assert_int_equal(take(), 0);
	f.bytes[4] = SOSIE_RECORD_DELTA;
	assert_int_equal(take(), -SOSIE_ECORRUPT);
	f.bytes[4] = SOSIE_RECORD_DATA;
	assert_int_equal(take(), -SOSIE_ECORRUPT);
}

static void test_any_bit_flipped_is_refused_or_harmless(void **state)
{
	unsigned refused = 0;
	size_t bits = 0;

	(void)state;
	one_leaf_edit();
	for (unsigned kind = 0; kind < 2; kind++) {
		if (kind)
			encode_delta();
		else
			encode_patch();
		for (size_t bit = 0; bit < f.len * 8; bit++, bits++) {
			f.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
			if (take() != 0)
				refused++;
			else
				assert_memory_equal(f.back, f.plain, f.plain_len);
			f.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
		}
		expect_content();
	}
	print_message("%u of %zu flips refused\n", refused, bits);
	assert_true(refused >= bits - 64);
}

static void set_u32(size_t at, uint32_t value)
{
	for (unsigned i = 0; i < 4; i++)
		f.bytes[at + i] = (uint8_t)(value >> (8 * i));
}

static int lengths(void)
{
	struct sosie_err err;
	uint32_t a, b;

	return sosie_record_lengths(f.bytes, &a, &b, &err);
}

static void test_patch_header_out_of_bounds_is_refused(void **state)
{
	const uint32_t bad_payload[] = {0, 8192, 8193, UINT32_MAX};
	const uint32_t bad_plain[] = {0, SOSIE_RECORD_PLAIN_MAX + 1, UINT32_MAX};
	unsigned refused = 0;

	(void)state;
	one_leaf_edit();
	for (unsigned kind = 0; kind < 2; kind++) {
		if (kind)
			encode_delta();
		else
			encode_patch();
		for (unsigned i = 0; i < 4; i++) {
			set_u32(12, bad_payload[i]);
			refused += lengths() == -SOSIE_ECORRUPT;
		}
		set_u32(12, (uint32_t)f.len - SOSIE_RECORD_HEADER - SOSIE_RANGE_BYTES);
		for (unsigned i = 0; i < 3; i++) {
			set_u32(8, bad_plain[i]);
			refused += lengths() == -SOSIE_ECORRUPT;
		}
		set_u32(8, 8191); /* not what the ranges stand for */
		refused += take() == -SOSIE_ECORRUPT;
		set_u32(8, 8192);
		f.bytes[5] = 2;
		refused += lengths() == -SOSIE_ECORRUPT;
		f.bytes[5] = 0; /* a patch is never raw */
		refused += kind || lengths() == -SOSIE_ECORRUPT;
	}
	assert_int_equal(refused, 20);
}

static void test_delta_outside_one_chunk_is_refused(void **state)
{
	const struct sosie_range bad[][2] = {
	        {{.leaf = 255, .leaves = 1, .volume = 0}, {.leaf = 256, .leaves = 1, .volume = 0}},
	        {{.leaf = 0, .leaves = 1, .volume = 0}, {.leaf = 255, .leaves = 2, .volume = 0}},
	        {{.leaf = 0, .leaves = 1, .volume = 0}, {.leaf = 0, .leaves = 1, .volume = 1}},
	};
	struct sosie_err err;
	const void *out;
	size_t len;
	unsigned refused = 0;

	(void)state;
	one_leaf_edit();
	for (unsigned i = 0; i < 3; i++) {
		f.count = 2;
		memcpy(f.ranges, bad[i], sizeof(bad[i]));
		digest_leaves();
		memcpy(f.delta, "rs\x02\x36", 5);
		refused += sosie_encode_delta(f.enc, f.ranges, 2, f.leaves, f.plain, f.plain_len, f.delta, 5,
		                              &out, &len, &err) == -SOSIE_EINTERNAL;
		encode_patch(); /* the very same as a patch is fine; its kind is not the digest's only */
		assert_int_equal(f.kind, SOSIE_RECORD_PATCH);
		f.bytes[4] = SOSIE_RECORD_DELTA;
		refused += take() == -SOSIE_ECORRUPT;
	}
	assert_int_equal(refused, 6);
}

/* A record of two leaves around a delta's bytes; its digest is right, only the delta is not. */
static int take_delta(const uint8_t *delta, size_t len)
{
	encode_delta();
	memcpy(f.bytes + SOSIE_RECORD_HEADER + SOSIE_RANGE_BYTES, delta, len);
	set_u32(12, (uint32_t)len);
	f.bytes[5] = 0;
	f.len = SOSIE_RECORD_HEADER + SOSIE_RANGE_BYTES + len;
	return take();
}

static void test_delta_hostile_commands_are_refused(void **state)
{
	static const uint8_t magic[] = {0x72, 0x73, 0x02, 0x36};
	static const struct {
		uint8_t bytes[20];
		size_t len;
	} bad[] = {
	        {{0}, 1},                                                  /* ends with nothing made */
	        {{1, 'x', 0}, 3},                                          /* too short */
	        {{79, 0, 0, 0, 0, 0, 0, 0x20, 1, 0}, 10},                  /* a byte too long */
	        {{79, 0, 0x0f, 0xff, 0xff, 0, 0, 0x20, 0, 0}, 10},         /* past the basis */
	        {{79, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, 9}, /* far past it */
	        {{79, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 10},                     /* of no bytes */
	        {{79, 0, 0, 0x50, 0, 0, 0, 0x20, 0}, 9},                   /* no end */
	        {{79, 0, 0, 0x50, 0, 0, 0, 0x20, 0, 0, 0}, 11},            /* something behind it */
	        {{85, 0}, 2},                                              /* reserved */
	        {{68, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, 9}, /* a literal of 2^64 - 1 */
	        {{64, 'x'}, 2},                                            /* a literal cut short */
	};
	uint8_t delta[32];
	unsigned refused = 0;

	(void)state;
	one_leaf_edit();
	memcpy(delta, magic, 4);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		memcpy(delta + 4, bad[i].bytes, bad[i].len);
		refused += take_delta(delta, 4 + bad[i].len) == -SOSIE_ECORRUPT;
	}
	assert_int_equal(refused, sizeof(bad) / sizeof(bad[0]));
	memcpy(f.now[0], f.old[0],
	       sizes[0]); /* and one that is right is taken, so the others failed for their own */
	memcpy(delta + 4, "\x4f\x00\x00\x50\x00\x00\x00\x20\x00\x00", 10);
	assert_int_equal(take_delta(delta, 14), 0);
}

static void test_basis_is_asked_for_as_the_format_says(void **state)
{
	struct sosie_range ranges[SOSIE_RECORD_RANGES_MAX];
	size_t bytes;

	(void)state;
	change_volumes(3);
	f.count = 1;
	f.ranges[0] = (struct sosie_range){.leaf = 768, .leaves = 1, .volume = 1};
	encode_patch();
	f.record.kind = SOSIE_RECORD_DELTA;
	f.record.range_count = 1;
	f.record.ranges[0] = f.ranges[0];
	assert_int_equal(sosie_record_basis(&f.record, f.volumes, ranges, &bytes), 1);
	assert_int_equal(bytes, 777); /* the last chunk, cut at the volume's end */
	assert_int_equal(ranges[0].leaf, 768);
	assert_int_equal(ranges[0].leaves, 1);
	f.record.ranges[0].leaf = 300;
	assert_int_equal(sosie_record_basis(&f.record, f.volumes, ranges, &bytes), 1);
	assert_int_equal(bytes, SOSIE_CHUNK);
	assert_int_equal(ranges[0].leaf, 256);
	f.record.kind = SOSIE_RECORD_PATCH;
	f.record.plain_len = SOSIE_LEAF;
	assert_int_equal(sosie_record_basis(&f.record, f.volumes, ranges, &bytes), 1);
	assert_int_equal(bytes, SOSIE_LEAF);
	assert_int_equal(ranges[0].leaf, 300);
	f.record.kind = SOSIE_RECORD_DATA;
	assert_int_equal(sosie_record_basis(&f.record, f.volumes, ranges, &bytes), 0);
	assert_int_equal(bytes, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_patch_random_edits_come_back_to_the_byte),
	        cmocka_unit_test(test_delta_random_edits_come_back_to_the_byte),
	        cmocka_unit_test(test_patch_and_delta_are_never_larger_than_data),
	        cmocka_unit_test(test_wrong_basis_is_refused),
	        cmocka_unit_test(test_patch_records_swapped_are_refused),
	        cmocka_unit_test(test_any_bit_flipped_is_refused_or_harmless),
	        cmocka_unit_test(test_patch_header_out_of_bounds_is_refused),
	        cmocka_unit_test(test_delta_outside_one_chunk_is_refused),
	        cmocka_unit_test(test_delta_hostile_commands_are_refused),
	        cmocka_unit_test(test_basis_is_asked_for_as_the_format_says),
	};

	srand(20261122);
	print_message("seed 20261122\n");
	return cmocka_run_group_tests(tests, setup, teardown);
}

/* SPDX-License-Identifier: MIT */
/* Records: what the encoder writes the decoder takes back to the byte; what is damaged, lying or too large is
 * refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sosie/segment.h"

#define LEAVES 512
#define SMALL (SOSIE_RECORD_HEADER + 2 * SOSIE_RANGE_BYTES)

static struct {
	struct sosie_digest ctx;
	struct sosie_hash *hash;
	struct sosie_encoder *enc;
	struct sosie_decoder *dec;
	struct sosie_extent_volume volumes[SOSIE_VOLUMES_MAX];
	struct sosie_record record;
	struct sosie_digest leaves[LEAVES], found[LEAVES];
	uint8_t plain[SOSIE_RECORD_PLAIN_MAX], back[SOSIE_RECORD_PLAIN_MAX];
	uint8_t bytes[SOSIE_RECORD_MAX + 64];
	size_t len;
} f;

static int setup(void **state)
{
	struct sosie_err err;

	(void)state;
	f.hash = sosie_hash_new();
	sosie_context_group(f.hash, "acme", "erp", &f.ctx);
	for (unsigned i = 0; i < SOSIE_VOLUMES_MAX; i++) {
		char name[16];

		snprintf(name, sizeof(name), "v%u", i);
		sosie_context_volume(f.hash, "acme", "erp", name, &f.volumes[i].ctx);
		f.volumes[i].size = i == 0 ? 4 << 20 : 1;
	}
	assert_int_equal(sosie_encoder_new(&f.ctx, 3, &f.enc, &err), 0);
	assert_int_equal(sosie_decoder_new(&f.ctx, &f.dec, &err), 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	sosie_encoder_free(f.enc);
	sosie_decoder_free(f.dec);
	sosie_hash_free(f.hash);
	return 0;
}

static unsigned digest_all(const struct sosie_range *ranges, unsigned count, size_t *plain_len)
{
	unsigned n = 0;
	size_t at = 0;

	for (unsigned i = 0; i < count; i++) {
		const struct sosie_extent_volume *v = &f.volumes[ranges[i].volume];
		uint64_t left = sosie_range_bytes(&ranges[i], v->size);

		for (uint32_t k = 0; k < ranges[i].leaves; k++) {
			size_t len = left < SOSIE_LEAF ? (size_t)left : SOSIE_LEAF;

			sosie_digest_leaf(f.hash, &v->ctx, ranges[i].leaf + k, f.plain + at, len,
			                  &f.leaves[n++]);
			at += len;
			left -= len;
		}
	}
	*plain_len = at;
	return n;
}

static void fill(bool compressible)
{
	for (size_t i = 0; i < sizeof(f.plain); i++)
		f.plain[i] = compressible ? (uint8_t)("sosie "[i % 6]) : (uint8_t)(rand() >> 7);
}

static unsigned encode(const struct sosie_range *ranges, unsigned count)
{
	struct sosie_err err;
	const void *out;
	size_t plain_len;
	unsigned leaves = digest_all(ranges, count, &plain_len);

	assert_int_equal(
	        sosie_encode_data(f.enc, ranges, count, f.leaves, f.plain, plain_len, &out, &f.len, &err), 0);
	assert_true(f.len <= SOSIE_RECORD_MAX);
	memcpy(f.bytes, out, f.len);
	return leaves;
}

/* As a receiver does it: lengths, parse, decode. */
static int take(const uint8_t *bytes, size_t len, unsigned *leaf_count)
{
	struct sosie_err err;
	uint32_t ranges_len, payload_len;
	int rc = sosie_record_lengths(bytes, &ranges_len, &payload_len, &err);

	if (rc == 0 && (size_t)SOSIE_RECORD_HEADER + ranges_len + payload_len != len)
		rc = -SOSIE_ECORRUPT;
	if (rc == 0)
		rc = sosie_record_parse(bytes, SOSIE_RECORD_HEADER + ranges_len, f.volumes, SOSIE_VOLUMES_MAX,
		                        &f.record, &err);
	if (rc == 0)
		rc = sosie_decode(f.dec, &f.record, bytes + SOSIE_RECORD_HEADER + ranges_len, NULL, f.volumes,
		                  f.back, f.found, leaf_count, &err);
	return rc;
}

static void round_trip(const struct sosie_range *ranges, unsigned count, unsigned expected)
{
	unsigned leaves = encode(ranges, count), found = 0;

	assert_int_equal(leaves, expected);
	assert_int_equal(take(f.bytes, f.len, &found), 0);
	assert_int_equal(found, leaves);
	assert_memory_equal(f.found, f.leaves, leaves * sizeof(f.leaves[0]));
	assert_memory_equal(f.back, f.plain, f.record.plain_len);
	assert_memory_equal(f.record.ranges, ranges, sizeof(*ranges)); /* the first */
}

static void test_data_round_trip_gives_content_and_leaves(void **state)
{
	struct sosie_range one = {.leaf = 3, .leaves = 256, .volume = 0};
	struct sosie_range two[] = {{.leaf = 1, .leaves = 1, .volume = 0},
	                            {.leaf = 0, .leaves = 1, .volume = 7}};

	(void)state;
	fill(true);
	round_trip(&one, 1, 256);
	assert_int_equal(f.record.encoding, 1);
	assert_true(f.len < 4096);
	round_trip(two, 2, 2);
	fill(false);
	round_trip(&one, 1, 256);
	assert_int_equal(f.record.encoding, 0);
	assert_int_equal(f.len, SOSIE_RECORD_HEADER + SOSIE_RANGE_BYTES + SOSIE_RECORD_PLAIN_MAX);
}

static void test_data_most_leaves_possible_is_511(void **state)
{
	static struct sosie_range ranges[SOSIE_RECORD_RANGES_MAX];
	uint64_t kept = f.volumes[0].size;

	(void)state;
	f.volumes[0].size = 255 * SOSIE_LEAF + 1;
	for (unsigned i = 0; i < SOSIE_RECORD_RANGES_MAX; i++)
		ranges[i] =
		        (struct sosie_range){.leaf = 0, .leaves = i == 0 ? 256 : 1, .volume = (uint16_t)i};
	fill(false);
	round_trip(ranges, SOSIE_RECORD_RANGES_MAX, 511);
	f.volumes[0].size = kept;
}

static void test_zero_and_discard_round_trip(void **state)
{
	struct sosie_range ranges[] = {{.leaf = 0, .leaves = 1024, .volume = 0},
	                               {.leaf = 0, .leaves = 1, .volume = 9}};
	enum sosie_record_kind kinds[] = {SOSIE_RECORD_ZERO, SOSIE_RECORD_DISCARD};
	struct sosie_err err;

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		const void *out;
		unsigned leaves = 99;

		assert_int_equal(sosie_encode_zero(f.enc, kinds[i], ranges, 2, &out, &f.len, &err), 0);
		assert_int_equal(f.len, SMALL);
		memcpy(f.bytes, out, f.len);
		assert_int_equal(take(f.bytes, f.len, &leaves), 0);
		assert_int_equal(leaves, 0);
		assert_int_equal(f.record.kind, kinds[i]);
		f.bytes[4] ^= 1; /* a zero is not a discard */
		assert_int_not_equal(take(f.bytes, f.len, &leaves), 0);
	}
}

static void test_attachment_round_trip_and_limits(void **state)
{
	struct sosie_err err;
	const void *out, *data;
	uint32_t index;
	uint64_t offset;
	size_t most = SOSIE_RECORD_PLAIN_MAX - 12, len;

	(void)state;
	fill(true);
	assert_int_equal(sosie_encode_attachment(f.enc, 5, 77, f.plain, most, &out, &f.len, &err), 0);
	memcpy(f.bytes, out, f.len);
	assert_int_equal(take(f.bytes, f.len, NULL), 0);
	assert_int_equal(
	        sosie_attachment_parse(f.back, f.record.plain_len, &index, &offset, &data, &len, &err), 0);
	assert_int_equal(index, 5);
	assert_int_equal(offset, 77);
	assert_int_equal(len, most);
	assert_memory_equal(data, f.plain, most);
	assert_int_not_equal(sosie_encode_attachment(f.enc, 5, 77, f.plain, most + 1, &out, &f.len, &err), 0);
	assert_int_not_equal(sosie_encode_attachment(f.enc, 5, 77, f.plain, 0, &out, &f.len, &err), 0);
	assert_int_not_equal(sosie_attachment_parse(f.back, 12, &index, &offset, &data, &len, &err), 0);
	assert_int_not_equal(sosie_attachment_parse(f.back, 11, &index, &offset, &data, &len, &err), 0);
}

/*
 * Every bit of a small record, one at a time: refused, or, where zstd has two ways to write the same, the
 * very same content. The part chain, which is over the stored bytes, differs for all.
 */
static void flip_all(unsigned *refused)
{
	struct sosie_digest whole = f.ctx, chain;

	*refused = 0;
	sosie_part_link(f.hash, f.bytes, f.len, &whole);
	for (size_t bit = 0; bit < f.len * 8; bit++) {
		f.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
		if (take(f.bytes, f.len, NULL) != 0) {
			++*refused;
		} else {
			assert_true(bit / 8 >= SOSIE_RECORD_HEADER + SOSIE_RANGE_BYTES && f.bytes[5] == 1);
			assert_memory_equal(f.back, f.plain, f.record.plain_len);
		}
		chain = f.ctx;
		sosie_part_link(f.hash, f.bytes, f.len, &chain);
		assert_false(sosie_digest_equal(&chain, &whole));
		f.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	assert_int_equal(take(f.bytes, f.len, NULL), 0);
}

static void test_record_any_bit_flipped_is_refused_or_harmless(void **state)
{
	struct sosie_range tiny = {.leaf = 0, .leaves = 1, .volume = 3},
	                   leaf = {.leaf = 5, .leaves = 1, .volume = 0};
	struct sosie_err err;
	const void *out;
	unsigned refused;

	(void)state;
	fill(true);
	encode(&leaf, 1);
	assert_int_equal(f.bytes[5], 1);
	flip_all(&refused);
	print_message("zstd: %u of %zu flips refused\n", refused, f.len * 8);
	assert_true(refused >= f.len * 8 - 4);
	encode(&tiny, 1);
	assert_int_equal(f.bytes[5], 0);
	flip_all(&refused);
	assert_int_equal(refused, f.len * 8);
	assert_int_equal(sosie_encode_zero(f.enc, SOSIE_RECORD_ZERO, &leaf, 1, &out, &f.len, &err), 0);
	memcpy(f.bytes, out, f.len);
	flip_all(&refused);
	assert_int_equal(refused, f.len * 8);
}

static void test_record_cut_or_extended_is_refused(void **state)
{
	struct sosie_range leaf = {.leaf = 5, .leaves = 1, .volume = 0};
	struct sosie_err err;
	unsigned refused = 0;

	(void)state;
	fill(true);
	encode(&leaf, 1);
	for (size_t len = 0; len < SOSIE_RECORD_HEADER + SOSIE_RANGE_BYTES; len++)
		refused +=
		        sosie_record_parse(f.bytes, len, f.volumes, SOSIE_VOLUMES_MAX, &f.record, &err) != 0;
	assert_int_equal(refused, SOSIE_RECORD_HEADER + SOSIE_RANGE_BYTES);
	assert_int_not_equal(sosie_record_parse(f.bytes, SOSIE_RECORD_HEADER + SOSIE_RANGE_BYTES + 1,
	                                        f.volumes, SOSIE_VOLUMES_MAX, &f.record, &err),
	                     0);
	assert_int_not_equal(sosie_record_parse(f.bytes, SOSIE_RECORD_HEADER + SOSIE_RANGE_BYTES, f.volumes,
	                                        0, &f.record, &err),
	                     0);
}

static void test_record_unknown_kinds_are_refused(void **state)
{
	struct sosie_range leaf = {.leaf = 5, .leaves = 1, .volume = 0};
	struct sosie_err err;
	unsigned refused = 0;
	uint32_t a, b;

	(void)state;
	fill(true);
	encode(&leaf, 1);
	for (unsigned kind = 0; kind < 256; kind++) {
		f.bytes[4] = (uint8_t)kind;
		refused += sosie_record_lengths(f.bytes, &a, &b, &err) == -SOSIE_ECORRUPT;
	}
	assert_int_equal(refused, 256 - 3); /* data, patch, delta; the others have no such lengths */
}

static void test_ranges_at_and_past_limits(void **state)
{
	static struct sosie_range ranges[SOSIE_RECORD_RANGES_MAX + 1];
	struct sosie_err err;
	const void *out;
	uint32_t a, b;
	unsigned refused = 0;
	const struct sosie_range bad[][2] = {
	        {{.leaf = 4, .leaves = 2, .volume = 0}, {.leaf = 5, .leaves = 1, .volume = 0}}, /* overlap */
	        {{.leaf = 4, .leaves = 1, .volume = 0}, {.leaf = 1, .leaves = 1, .volume = 0}}, /* descend */
	        {{.leaf = 0, .leaves = 1, .volume = 1}, {.leaf = 0, .leaves = 1, .volume = 0}}, /* descend */
	        {{.leaf = 0, .leaves = 0, .volume = 0}, {.leaf = 1, .leaves = 1, .volume = 0}}, /* empty */
	        {{.leaf = UINT64_MAX, .leaves = 1, .volume = 0}, {.leaf = 1, .leaves = 1, .volume = 1}},
	};

	(void)state;
	for (unsigned i = 0; i <= SOSIE_RECORD_RANGES_MAX; i++)
		ranges[i] = (struct sosie_range){.leaf = 2 * i, .leaves = 1, .volume = 0};
	assert_int_equal(sosie_encode_zero(f.enc, SOSIE_RECORD_ZERO, ranges, 256, &out, &f.len, &err), 0);
	memcpy(f.bytes, out, f.len);
	assert_int_equal(take(f.bytes, f.len, NULL), 0);
	assert_int_not_equal(sosie_encode_zero(f.enc, SOSIE_RECORD_ZERO, ranges, 257, &out, &f.len, &err), 0);
	assert_int_not_equal(sosie_encode_zero(f.enc, SOSIE_RECORD_ZERO, ranges, 0, &out, &f.len, &err), 0);
	f.bytes[6] = 1; /* 257 */
	assert_int_not_equal(sosie_record_lengths(f.bytes, &a, &b, &err), 0);
	for (unsigned i = 0; i < 5; i++)
		refused += sosie_encode_zero(f.enc, SOSIE_RECORD_ZERO, bad[i], 2, &out, &f.len, &err) != 0;
	assert_int_equal(refused, 5);
	ranges[0] =
	        (struct sosie_range){.leaf = 1023, .leaves = 2, .volume = 0}; /* volume 0 has 1024 leaves */
	assert_int_equal(sosie_encode_zero(f.enc, SOSIE_RECORD_ZERO, ranges, 1, &out, &f.len, &err), 0);
	memcpy(f.bytes, out, f.len);
	assert_int_not_equal(take(f.bytes, f.len, NULL), 0);
}

static void test_group_and_volume_of_another_are_refused(void **state)
{
	struct sosie_range leaf = {.leaf = 5, .leaves = 1, .volume = 0};
	struct sosie_digest kept = f.volumes[0].ctx;

	(void)state;
	fill(true);
	encode(&leaf, 1);
	f.volumes[0].ctx = f.volumes[1].ctx;
	assert_int_equal(take(f.bytes, f.len, NULL), -SOSIE_ECORRUPT);
	for (unsigned i = 0; i < SOSIE_LEAF; i++)
		assert_int_equal(f.back[i], 0); /* nothing unchecked is left behind */
	f.volumes[0].ctx = kept;
	assert_int_equal(take(f.bytes, f.len, NULL), 0);
}

static void test_part_chain_depends_on_order_and_part(void **state)
{
	struct sosie_digest ab, ba, other;

	(void)state;
	sosie_part_start(f.hash, &f.ctx, 0, &ab);
	ba = ab;
	sosie_part_start(f.hash, &f.ctx, 1, &other);
	assert_false(sosie_digest_equal(&ab, &other));
	sosie_part_link(f.hash, "a", 1, &ab);
	sosie_part_link(f.hash, "b", 1, &ab);
	sosie_part_link(f.hash, "b", 1, &ba);
	sosie_part_link(f.hash, "a", 1, &ba);
	assert_false(sosie_digest_equal(&ab, &ba));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_data_round_trip_gives_content_and_leaves),
	        cmocka_unit_test(test_data_most_leaves_possible_is_511),
	        cmocka_unit_test(test_zero_and_discard_round_trip),
	        cmocka_unit_test(test_attachment_round_trip_and_limits),
	        cmocka_unit_test(test_record_any_bit_flipped_is_refused_or_harmless),
	        cmocka_unit_test(test_record_cut_or_extended_is_refused),
	        cmocka_unit_test(test_record_unknown_kinds_are_refused),
	        cmocka_unit_test(test_ranges_at_and_past_limits),
	        cmocka_unit_test(test_group_and_volume_of_another_are_refused),
	        cmocka_unit_test(test_part_chain_depends_on_order_and_part),
	};

	srand(7);
	print_message("seed 7\n");
	return cmocka_run_group_tests(tests, setup, teardown);
}

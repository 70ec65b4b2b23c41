/* SPDX-License-Identifier: MIT */
/* Packed ranges: what is packed comes back, there is one form for each list, and anything else is refused;
 * records with them say the same as records without. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/delta/record.h"
#include "tests/support/rounds.h"

#define MOST SOSIE_RECORD_RANGES_MAX
#define ROOM 8192u /* for any 256 ranges */

static uint64_t rng_state = 20261122;

static uint64_t rng(void)
{
	rng_state ^= rng_state << 13;
	rng_state ^= rng_state >> 7;
	rng_state ^= rng_state << 17;
	return rng_state;
}

static bool unpack(const void *bytes, size_t len, struct sosie_range *ranges, unsigned count)
{
	struct sosie_reader r;

	sosie_reader_init(&r, bytes, len);
	return record_unpack_ranges(&r, ranges, count);
}

static bool same_ranges(const struct sosie_range *a, const struct sosie_range *b, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		if (a[i].leaf != b[i].leaf || a[i].leaves != b[i].leaves || a[i].volume != b[i].volume)
			return false;
	return true;
}

/* --- the form
 * -------------------------------------------------------------------------------------------------------- */

/* 0 to bits bits, edges often. */
static uint64_t number(unsigned bits)
{
	uint64_t v = rng() >> (64 - (1 + rng() % bits));

	return rng() % 3 == 0 ? UINT64_C(1) << rng() % bits : v;
}

/* Ordered ranges; the end of what leaves can be numbered is met now and then. */
static unsigned random_ranges(struct sosie_range *ranges)
{
	unsigned most = rng() % 4 ? 1 + (unsigned)(rng() % 20) : MOST, count = 0;
	unsigned bits = 1 + (unsigned)(rng() % 51), leaves_bits = 1 + (unsigned)(rng() % 32);
	uint64_t volume = rng() % 2 ? 0 : rng() % SOSIE_VOLUMES_MAX, end = 0;

	while (count < most) {
		uint64_t gap = rng() % 5 ? number(bits) : 0, leaves = number(leaves_bits);

		leaves = leaves == 0 ? 1 : leaves > UINT32_MAX ? UINT32_MAX : leaves;
		if (end + gap > RECORD_LEAF_LIMIT || rng() % 16 == 0) {
			volume += 1 + rng() % (rng() % 8 ? 2 : 200);
			end = 0;
			gap = rng() % 9 ? gap % (RECORD_LEAF_LIMIT + 1) : RECORD_LEAF_LIMIT;
		}
		if (volume >= SOSIE_VOLUMES_MAX)
			break;
		ranges[count++] = (struct sosie_range){
		        .leaf = end + gap, .leaves = (uint32_t)leaves, .volume = (uint16_t)volume};
		end += gap + leaves;
	}
	return count;
}

static void test_ranges_random_packed_come_back_and_only_whole(void **state)
{
	static struct sosie_range ranges[MOST], back[MOST];
	static uint8_t bytes[ROOM];
	unsigned lists = 0, most = 0;

	(void)state;
	for (unsigned n = 0; n < test_rounds_least(3000, 30000); n++) {
		unsigned count = random_ranges(ranges);
		size_t len;

		if (count == 0)
			continue;
		lists++;
		most = count > most ? count : most;
		assert_true(record_ranges_ordered(ranges, count));
		len = record_pack_ranges(ranges, count, bytes, sizeof(bytes) - 1);
		assert_in_range(len, 2 * count, sizeof(bytes) - 1);
		assert_true(unpack(bytes, len, back, count));
		assert_true(same_ranges(ranges, back, count));
		bytes[len] = (uint8_t)rng();
		assert_false(unpack(bytes, len + 1, back, count));
		assert_false(unpack(bytes, rng() % len, back, count));
		assert_false(unpack(bytes, len, back, count - 1));
		assert_int_equal(record_pack_ranges(ranges, count, back, len - 1), 0);
	}
	print_message("%u lists, the longest of %u\n", lists, most);
	assert_true(lists > 2000 && most == MOST);
}

/* Whatever is taken is ordered and is what the packer makes of it: one form for each list. */
static bool taken_in_one_form(const uint8_t *bytes, size_t len, unsigned count)
{
	static struct sosie_range ranges[MOST];
	static uint8_t again[ROOM];

	if (!unpack(bytes, len, ranges, count))
		return false;
	assert_true(record_ranges_ordered(ranges, count));
	assert_int_equal(record_pack_ranges(ranges, count, again, sizeof(again)), len);
	assert_memory_equal(again, bytes, len);
	return true;
}

static void test_ranges_random_bytes_are_taken_in_one_form_or_refused(void **state)
{
	static const uint8_t edges[] = {0, 1, 2, 0x7f, 0x80, 0x81, 0xff};
	static struct sosie_range ranges[MOST];
	static uint8_t bytes[ROOM];
	unsigned taken = 0, rounds = test_rounds(20000, 200000);

	(void)state;
	for (unsigned n = 0; n < rounds; n++) {
		size_t len = 2 + rng() % 24;

		for (size_t i = 0; i < len; i++)
			bytes[i] = rng() % 2 ? edges[rng() % sizeof(edges)] : (uint8_t)rng();
		taken += taken_in_one_form(bytes, len, 1 + (unsigned)(rng() % (len / 2)));
	}
	print_message("%u of %u of random bytes taken\n", taken, rounds);
	assert_in_range(taken, 100, rounds - 100);
	taken = 0;
	for (unsigned n = 0; n < rounds; n++) {
		unsigned count = random_ranges(ranges);
		size_t len = record_pack_ranges(ranges, count, bytes, sizeof(bytes));

		if (len == 0)
			continue;
		bytes[rng() % len] ^= (uint8_t)(1u << rng() % 8);
		taken += taken_in_one_form(bytes, len, count);
	}
	print_message("%u of %u with a changed bit taken\n", taken, rounds);
	assert_in_range(taken, 100, rounds - 100);
}

static void test_ranges_packed_bytes_are_those_of_the_format(void **state)
{
	static const struct {
		struct sosie_range ranges[3];
		unsigned count;
		uint8_t bytes[24];
		size_t len;
	} forms[] = {
	        {{{0, 1, 0}}, 1, {1, 0}, 2},
	        {{{0, 1, 1}}, 1, {0, 1, 1, 0}, 4},
	        {{{300, 2, 3}}, 1, {0, 3, 2, 0xac, 2}, 5},
	        {{{5, 1, 0}, {6, 1, 0}, {9, 128, 0}}, 3, {1, 5, 1, 0, 0x80, 1, 2}, 7},
	        {{{5, 1, 0}, {0, 1, 2}, {0, 1, 255}}, 3, {1, 5, 0, 2, 1, 0, 0, 0xfd, 1, 1, 0}, 11},
	        {{{RECORD_LEAF_LIMIT, UINT32_MAX, 0}},
	         1,
	         {0xff, 0xff, 0xff, 0xff, 0x0f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 3},
	         13},
	};
	struct sosie_range back[3];
	uint8_t bytes[64];

	(void)state;
	assert_true(RECORD_LEAF_LIMIT == (UINT64_C(1) << 51) - 1);
	for (unsigned i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		size_t len = record_pack_ranges(forms[i].ranges, forms[i].count, bytes, sizeof(bytes));

		assert_int_equal(len, forms[i].len);
		assert_memory_equal(bytes, forms[i].bytes, len);
		assert_true(unpack(bytes, len, back, forms[i].count));
		assert_true(same_ranges(back, forms[i].ranges, forms[i].count));
	}
}

static void test_ranges_not_in_their_form_are_refused(void **state)
{
	static const struct {
		const char *what;
		unsigned count;
		uint8_t bytes[24];
		size_t len;
	} bad[] = {
	        {"number of leaves longer than need be", 1, {0x81, 0, 0}, 3},
	        {"gap longer than need be", 1, {1, 0x80, 0}, 3},
	        {"gap of eight bytes for five", 1, {1, 0x85, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0}, 9},
	        {"gap of nine bytes", 1, {1, 0x81, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0}, 10},
	        {"step longer than need be", 1, {0, 0x81, 0, 1, 0}, 5},
	        {"no leaves", 1, {0, 0}, 2},
	        {"no leaves behind a step", 1, {0, 1, 0, 0}, 4},
	        {"two steps", 1, {0, 1, 0, 1, 1, 0}, 6},
	        {"a step of nothing", 1, {0, 0, 1, 0}, 4},
	        {"volume 256", 1, {0, 0x80, 2, 1, 0}, 5},
	        {"volume 256 by two", 2, {0, 0xff, 1, 1, 0, 0, 1, 1, 0}, 9},
	        {"2^32 leaves", 1, {0x80, 0x80, 0x80, 0x80, 0x10, 0}, 6},
	        {"leaf 2^51", 1, {1, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 4}, 9},
	        {"leaf 2^51 by two", 2, {1, 0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 3}, 11},
	        {"all ones", 1, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0}, 11},
	        {"cut in a gap", 1, {1, 0x80}, 2},
	        {"cut behind leaves", 1, {1}, 1},
	        {"cut behind a step", 1, {0, 1}, 2},
	        {"nothing", 1, {0}, 0},
	        {"a byte behind", 1, {1, 0, 0}, 3},
	        {"a range behind", 1, {1, 0, 1, 0}, 4},
	        {"a range too few", 2, {1, 0}, 2},
	};
	struct sosie_range back[2];

	(void)state;
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (unpack(bad[i].bytes, bad[i].len, back, bad[i].count))
			fail_msg("%s: taken", bad[i].what);
}

/* --- records
 * ---------------------------------------------------------------------------------------------------------
 */

static struct {
	struct sosie_hash *hash;
	struct sosie_encoder *enc;
	struct sosie_decoder *dec;
	struct sosie_extent_volume volumes[SOSIE_VOLUMES_MAX];
	struct sosie_record record;
	struct sosie_range ranges[MOST];
	struct sosie_digest leaves[RECORD_LEAVES_MAX + 1], found[RECORD_LEAVES_MAX + 1];
	uint8_t plain[SOSIE_RECORD_PLAIN_MAX], back[SOSIE_RECORD_PLAIN_MAX];
	uint8_t bytes[SOSIE_RECORD_MAX], loose[SOSIE_RECORD_MAX];
	size_t len, loose_len;
	uint32_t ranges_len, payload_len;
	struct sosie_err err;
} f;

static int setup(void **state)
{
	struct sosie_digest ctx;

	(void)state;
	f.hash = sosie_hash_new();
	sosie_context_group(f.hash, "acme", "erp", &ctx);
	for (unsigned i = 0; i < SOSIE_VOLUMES_MAX; i++) {
		char name[16];

		snprintf(name, sizeof(name), "v%u", i);
		sosie_context_volume(f.hash, "acme", "erp", name, &f.volumes[i].ctx);
		f.volumes[i].size = UINT64_C(1) << 50;
	}
	for (size_t i = 0; i < sizeof(f.plain); i++)
		f.plain[i] = (uint8_t)(rng() >> 9);
	assert_int_equal(sosie_encoder_new(&ctx, 1, &f.enc, &f.err), 0);
	return sosie_decoder_new(&ctx, &f.dec, &f.err);
}

static int teardown(void **state)
{
	(void)state;
	sosie_encoder_free(f.enc);
	sosie_decoder_free(f.dec);
	sosie_hash_free(f.hash);
	return 0;
}

static size_t encode(enum sosie_record_kind kind, unsigned count, bool pack, uint8_t *dst)
{
	unsigned n = 0;
	const void *out;
	size_t len;
	int rc;

	sosie_encoder_pack_ranges(f.enc, pack);
	for (unsigned i = 0; i < count && kind == SOSIE_RECORD_DATA; i++)
		for (uint32_t k = 0; k < f.ranges[i].leaves; k++, n++)
			sosie_digest_leaf(f.hash, &f.volumes[f.ranges[i].volume].ctx, f.ranges[i].leaf + k,
			                  f.plain + (size_t)n * SOSIE_LEAF, SOSIE_LEAF, &f.leaves[n]);
	rc = kind == SOSIE_RECORD_DATA ? sosie_encode_data(f.enc, f.ranges, count, f.leaves, f.plain,
	                                                   (size_t)n * SOSIE_LEAF, &out, &len, &f.err)
	                               : sosie_encode_zero(f.enc, kind, f.ranges, count, &out, &len, &f.err);
	assert_int_equal(rc, 0);
	assert_true(len <= SOSIE_RECORD_MAX);
	memcpy(dst, out, len);
	return len;
}

/* As a receiver does it. */
static int take(const uint8_t *bytes, size_t len)
{
	int rc = sosie_record_lengths(bytes, &f.ranges_len, &f.payload_len, &f.err);
	const size_t head = SOSIE_RECORD_HEADER + (size_t)f.ranges_len;

	if (rc == 0 && head + f.payload_len != len)
		rc = -SOSIE_ECORRUPT;
	if (rc == 0)
		rc = sosie_record_parse(bytes, head, f.volumes, SOSIE_VOLUMES_MAX, &f.record, &f.err);
	return rc ? rc
	          : sosie_decode(f.dec, &f.record, bytes + head, NULL, f.volumes, f.back, f.found, NULL,
	                         &f.err);
}

/* Both ways to write f.ranges say the same, and one is packed if `packed`. */
static void both_ways(enum sosie_record_kind kind, unsigned count, bool packed)
{
	f.loose_len = encode(kind, count, false, f.loose);
	f.len = encode(kind, count, true, f.bytes);
	assert_int_equal(f.loose[5] & 0x80, 0);
	assert_int_equal(f.bytes[5] & 0x80, packed ? 0x80 : 0);
	assert_int_equal(take(f.loose, f.loose_len), 0);
	assert_int_equal(f.ranges_len, count * SOSIE_RANGE_BYTES);
	assert_true(same_ranges(f.record.ranges, f.ranges, count));
	assert_int_equal(take(f.bytes, f.len), 0);
	assert_int_equal(f.loose_len - f.len, count * SOSIE_RANGE_BYTES - f.ranges_len);
	assert_true(packed == (f.len < f.loose_len));
	assert_int_equal(f.record.kind, kind);
	assert_int_equal(f.record.range_count, count);
	assert_int_equal(f.record.ranges_len, f.ranges_len);
	assert_true(same_ranges(f.record.ranges, f.ranges, count));
	assert_memory_equal(f.bytes + 16, f.loose + 16, SOSIE_DIGEST_LEN);
	assert_memory_equal(f.bytes + f.len - f.payload_len, f.loose + f.loose_len - f.payload_len,
	                    f.payload_len);
	if (kind == SOSIE_RECORD_DATA)
		assert_memory_equal(f.back, f.plain, f.record.plain_len);
	assert_int_equal(sosie_record_ranges(f.bytes, SOSIE_RECORD_HEADER + f.ranges_len, &f.record, &f.err),
	                 0);
	assert_true(same_ranges(f.record.ranges, f.ranges, count));
}

static void test_records_packed_and_not_say_the_same(void **state)
{
	static const enum sosie_record_kind kinds[] = {SOSIE_RECORD_DATA, SOSIE_RECORD_ZERO,
	                                               SOSIE_RECORD_DISCARD};
	static const unsigned counts[] = {1, 2, 7, 255, 256};

	(void)state;
	for (unsigned n = 0; n < 15; n++) {
		unsigned count = counts[n % 5];

		for (unsigned i = 0; i < count; i++)
			f.ranges[i] = (struct sosie_range){
			        .leaf = 3 + i * (1 + n), .leaves = 1, .volume = (uint16_t)(i * n / 16)};
		both_ways(kinds[n / 5], count, true);
	}
}

/* More than 2047 bytes packed cannot be told in the header. */
static void test_ranges_too_long_to_tell_are_not_packed(void **state)
{
	(void)state;
	for (unsigned i = 0; i < MOST; i++)
		f.ranges[i] = (struct sosie_range){
		        .leaf = i == 0 ? 1u << 28 : 1, .leaves = 1u << 28, .volume = (uint16_t)i};
	both_ways(SOSIE_RECORD_ZERO, MOST, false); /* 5 + 5, then 255 * (2 + 5 + 1) = 2050 */
	f.ranges[0].leaf = 0;
	f.ranges[1].leaves = 1;
	both_ways(SOSIE_RECORD_ZERO, MOST, true); /* 5 + 1, then 4 and 254 * 8: 2042 */
	f.ranges[0].leaf = UINT64_C(1) << 35;
	both_ways(SOSIE_RECORD_ZERO, MOST, true); /* 2047: the most */
	assert_int_equal(f.ranges_len, 2047);
	f.ranges[0].leaf = UINT64_C(1) << 37;
	both_ways(SOSIE_RECORD_ZERO, MOST, true);
	f.ranges[1].leaves = 128;
	both_ways(SOSIE_RECORD_ZERO, MOST, false);
}

static void test_record_packed_any_bit_flipped_in_its_head_is_refused(void **state)
{
	unsigned refused = 0;

	(void)state;
	for (unsigned i = 0; i < 5; i++)
		f.ranges[i] =
		        (struct sosie_range){.leaf = i * 100, .leaves = 1 + i, .volume = (uint16_t)(i / 3)};
	both_ways(SOSIE_RECORD_DATA, 5, true);
	for (size_t bit = 0; bit < (SOSIE_RECORD_HEADER + f.ranges_len) * 8; bit++) {
		f.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
		refused += take(f.bytes, f.len) != 0;
		f.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	assert_int_equal(take(f.bytes, f.len), 0);
	assert_int_equal(refused, (SOSIE_RECORD_HEADER + f.ranges_len) * 8);
}

static uint32_t word8(void)
{
	return f.bytes[8] | (uint32_t)f.bytes[9] << 8 | (uint32_t)f.bytes[10] << 16 |
	       (uint32_t)f.bytes[11] << 24;
}

static void set_word8(uint32_t v)
{
	for (unsigned i = 0; i < 4; i++)
		f.bytes[8 + i] = (uint8_t)(v >> (8 * i));
}

/* The header with another length of the ranges, in front of those that are there and of as many bytes as it
 * says: refused; whether it is taken for what it says. */
static bool lengths_with(uint32_t ranges_len)
{
	const uint32_t kept = word8();
	int rc;

	set_word8((kept & RECORD_PLAIN_MASK) | ranges_len << RECORD_PLAIN_BITS);
	assert_int_not_equal(sosie_record_ranges(f.bytes, SOSIE_RECORD_HEADER + 6, &f.record, &f.err), 0);
	rc = sosie_record_lengths(f.bytes, &f.ranges_len, &f.payload_len, &f.err);
	if (rc == 0)
		assert_int_not_equal(sosie_record_parse(f.bytes, SOSIE_RECORD_HEADER + (size_t)f.ranges_len,
		                                        f.volumes, SOSIE_VOLUMES_MAX, &f.record, &f.err),
		                     0);
	set_word8(kept);
	return rc == 0;
}

static void test_record_packed_of_another_length_is_refused(void **state)
{
	const void *out;
	size_t len;

	(void)state;
	for (unsigned i = 0; i < 3; i++)
		f.ranges[i] = (struct sosie_range){.leaf = 7 * i, .leaves = 1, .volume = 0};
	both_ways(SOSIE_RECORD_DATA, 3, true);
	assert_int_equal(f.ranges_len, 6);
	for (uint32_t n = 0; n <= RECORD_PACKED_MAX; n++)
		if (n != 6)
			assert_int_equal(lengths_with(n), n > 0 && n < 48);
	for (size_t n = 0; n < f.len; n++) /* cut, or with what follows */
		if (n != SOSIE_RECORD_HEADER + 6)
			assert_int_not_equal(sosie_record_parse(f.bytes, n, f.volumes, SOSIE_VOLUMES_MAX,
			                                        &f.record, &f.err),
			                     0);
	f.bytes[5] &= 0x7f; /* the length without the bit */
	assert_int_not_equal(sosie_record_lengths(f.bytes, &f.ranges_len, &f.payload_len, &f.err), 0);
	f.bytes[5] |= 0x80;
	set_word8(word8() & RECORD_PLAIN_MASK); /* the bit without the length */
	assert_int_not_equal(sosie_record_lengths(f.bytes, &f.ranges_len, &f.payload_len, &f.err), 0);
	assert_int_equal(sosie_encode_attachment(f.enc, 0, 0, "x", 1, &out, &len, &f.err), 0);
	memcpy(f.bytes, out, len);
	assert_int_equal(sosie_record_lengths(f.bytes, &f.ranges_len, &f.payload_len, &f.err), 0);
	assert_int_equal(f.ranges_len, 0);
	f.bytes[5] |= 0x80;
	for (uint32_t n = 0; n < 20; n++)
		assert_false(lengths_with(n));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_ranges_random_packed_come_back_and_only_whole),
	        cmocka_unit_test(test_ranges_random_bytes_are_taken_in_one_form_or_refused),
	        cmocka_unit_test(test_ranges_packed_bytes_are_those_of_the_format),
	        cmocka_unit_test(test_ranges_not_in_their_form_are_refused),
	        cmocka_unit_test(test_records_packed_and_not_say_the_same),
	        cmocka_unit_test(test_ranges_too_long_to_tell_are_not_packed),
	        cmocka_unit_test(test_record_packed_any_bit_flipped_in_its_head_is_refused),
	        cmocka_unit_test(test_record_packed_of_another_length_is_refused),
	};

	print_message("seed %llu\n", (unsigned long long)rng_state);
	return cmocka_run_group_tests(tests, setup, teardown);
}

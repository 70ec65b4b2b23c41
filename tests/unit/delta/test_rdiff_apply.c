/* SPDX-License-Identifier: MIT */
/*
 * The reader of deltas: commands built by hand, one wrong thing at a time, and random damage to good ones.
 * Each result lies between guards, and inputs have exactly their size in memory, so that a sanitizer sees any
 * step outside.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/delta/rdiff_internal.h"
#include "sosie/bytes.h"
#include "tests/support/rounds.h"

#define BASIS 1000u
#define PLAIN_MAX 4096u
#define GUARD 64u

static uint8_t basis[BASIS], delta[1 << 16], plain[PLAIN_MAX + GUARD];
static struct sosie_writer w;

static void begin(void)
{
	for (unsigned i = 0; i < BASIS; i++)
		basis[i] = (uint8_t)(i * 7);
	sosie_writer_init(&w, delta, sizeof(delta));
	sosie_put_bytes(&w, "rs\x02\x36", 4);
}

static void put_number(uint64_t v, unsigned width)
{
	for (unsigned i = width; i-- > 0;)
		sosie_put_u8(&w, (uint8_t)(v >> (8 * i)));
}

/* Widths of 1, 2, 4, 8 bytes, as 0 to 3. */
static void copy(uint64_t position, unsigned position_width, uint64_t len, unsigned len_width)
{
	sosie_put_u8(&w, (uint8_t)(69 + 4 * position_width + len_width));
	put_number(position, 1u << position_width);
	put_number(len, 1u << len_width);
}

static void literal(uint64_t len, unsigned len_width, const char *text)
{
	sosie_put_u8(&w, (uint8_t)(65 + len_width));
	put_number(len, 1u << len_width);
	sosie_put_bytes(&w, text, strlen(text));
}

/* From copies of exactly their sizes. The two readers must agree on the form: literals match what came out,
 * and nothing matches what was refused. */
static int apply(size_t len, size_t plain_len)
{
	uint8_t *d = malloc(len > 0 ? len : 1), *b = malloc(BASIS);
	struct sosie_err err;
	int rc;

	memcpy(d, delta, len);
	memcpy(b, basis, BASIS);
	memset(plain, 0xee, sizeof(plain));
	rc = rdiff_apply(d, len, b, BASIS, plain, plain_len, &err);
	for (size_t i = plain_len; i < sizeof(plain); i++)
		assert_int_equal(plain[i], 0xee);
	assert_memory_equal(b, basis, BASIS);
	if (rc == 0)
		assert_true(rdiff_literals_match(d, len, BASIS, plain, plain_len));
	else
		assert_int_equal(rc, -SOSIE_ECORRUPT);
	free(d);
	free(b);
	return rc;
}

static int apply_end(size_t plain_len)
{
	sosie_put_u8(&w, 0);
	assert_false(w.failed);
	return apply(w.len, plain_len);
}

static void test_apply_every_width_works(void **state)
{
	(void)state;
	for (unsigned a = 0; a < 4; a++)
		for (unsigned b = 0; b < 4; b++) {
			begin();
			copy(200, a, 100, b);
			literal(3, b, "abc");
			sosie_put_u8(&w, 2);
			sosie_put_bytes(&w, "de", 2);
			assert_int_equal(apply_end(105), 0);
			assert_memory_equal(plain, basis + 200, 100);
			assert_memory_equal(plain + 100, "abcde", 5);
		}
}

static void test_apply_every_short_literal_works(void **state)
{
	char text[65];

	(void)state;
	memset(text, 'x', sizeof(text));
	for (unsigned len = 1; len <= 64; len++) {
		begin();
		sosie_put_u8(&w, (uint8_t)len);
		sosie_put_bytes(&w, text, len);
		assert_int_equal(apply_end(len), 0);
		assert_memory_equal(plain, text, len);
	}
}

static void test_apply_copy_at_the_bounds_works(void **state)
{
	(void)state;
	begin();
	copy(0, 0, BASIS, 1);
	copy(BASIS - 1, 1, 1, 0);
	assert_int_equal(apply_end(BASIS + 1), 0);
	assert_int_equal(plain[BASIS], basis[BASIS - 1]);
}

static void test_apply_copy_outside_the_basis_is_refused(void **state)
{
	static const struct {
		uint64_t position, len;
	} outside[] = {
	        {BASIS, 1},      {0, BASIS + 1},  {BASIS - 1, 2},       {UINT64_MAX, 1},
	        {1, UINT64_MAX}, {UINT64_MAX, 2}, {UINT64_MAX - 9, 10}, {UINT64_C(1) << 63, 1000},
	        {900, 101},      {BASIS + 1, 1},  {1, UINT64_MAX - 1},  {500, UINT64_C(1) << 32},
	};
	unsigned refused = 0;

	(void)state;
	for (size_t i = 0; i < sizeof(outside) / sizeof(outside[0]); i++) {
		begin();
		copy(outside[i].position, 3, outside[i].len, 3);
		refused += apply_end(outside[i].len < PLAIN_MAX ? (size_t)outside[i].len : PLAIN_MAX) != 0;
	}
	assert_int_equal(refused, sizeof(outside) / sizeof(outside[0]));
}

static void test_apply_bomb_stops_at_the_declared_length(void **state)
{
	(void)state;
	begin();
	for (unsigned i = 0; i < 1000; i++)
		copy(0, 0, BASIS, 1);
	assert_int_equal(apply_end(PLAIN_MAX), -SOSIE_ECORRUPT);
}

static void test_apply_wrong_total_is_refused(void **state)
{
	(void)state;
	begin();
	copy(0, 0, 10, 0);
	literal(5, 0, "12345");
	assert_int_equal(apply_end(15), 0);
	assert_int_equal(apply(w.len, 14), -SOSIE_ECORRUPT);
	assert_int_equal(apply(w.len, 16), -SOSIE_ECORRUPT);
	assert_int_equal(apply(w.len, 9), -SOSIE_ECORRUPT);
	assert_int_equal(apply(w.len, 0), -SOSIE_ECORRUPT);
}

static void test_apply_zero_length_commands_are_refused(void **state)
{
	unsigned refused = 0;

	(void)state;
	for (unsigned width = 0; width < 4; width++) {
		begin();
		copy(0, 0, 10, 0);
		copy(0, 0, 0, width);
		refused += apply_end(10) != 0;
		begin();
		copy(0, 0, 10, 0);
		literal(0, width, "");
		refused += apply_end(10) != 0;
	}
	assert_int_equal(refused, 8);
}

static void test_apply_unknown_commands_are_refused(void **state)
{
	unsigned refused = 0;

	(void)state;
	for (unsigned op = 85; op < 256; op++) {
		begin();
		copy(0, 0, 10, 0);
		sosie_put_u8(&w, (uint8_t)op);
		sosie_put_bytes(&w, "\0\0\0\1\0\0\0\1\0\0\0\1\0\0\0\1", 16);
		refused += apply_end(10) != 0 && apply(w.len, 11) != 0;
	}
	assert_int_equal(refused, 256 - 85);
}

static void test_apply_anything_behind_the_end_is_refused(void **state)
{
	(void)state;
	begin();
	copy(0, 0, 10, 0);
	assert_int_equal(apply_end(10), 0);
	assert_int_equal(apply_end(10), -SOSIE_ECORRUPT); /* a second end */
}

static void test_apply_every_cut_is_refused(void **state)
{
	unsigned refused = 0;

	(void)state;
	begin();
	copy(3, 3, 10, 3);
	literal(5, 3, "12345");
	assert_int_equal(apply_end(15), 0);
	for (size_t len = 0; len < w.len; len++)
		refused += apply(len, 15) != 0;
	assert_int_equal(refused, w.len);
}

static void test_apply_literal_longer_than_the_input_is_refused(void **state)
{
	static const uint64_t lengths[] = {6, 7, 255, 65535, UINT32_MAX, UINT64_MAX, UINT64_C(1) << 63};

	(void)state;
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		begin();
		literal(lengths[i], 3, "12345");
		assert_int_equal(apply(w.len, PLAIN_MAX), -SOSIE_ECORRUPT);
	}
}

static void test_apply_foreign_magic_is_refused(void **state)
{
	(void)state;
	for (unsigned bit = 0; bit < 32; bit++) {
		begin();
		copy(0, 0, 10, 0);
		delta[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_int_equal(apply_end(10), -SOSIE_ECORRUPT);
	}
}

static void test_literals_of_something_else_do_not_match(void **state)
{
	static const uint8_t content[] = "12345";

	(void)state;
	begin();
	literal(5, 0, "12345");
	assert_int_equal(apply_end(5), 0);
	assert_true(rdiff_literals_match(delta, w.len, BASIS, content, 5));
	delta[8] ^= 1;
	assert_false(rdiff_literals_match(delta, w.len, BASIS, content, 5));
	delta[8] ^= 1;
	assert_false(rdiff_literals_match(delta, w.len, BASIS, content, 4));
	assert_false(rdiff_literals_match(delta, w.len - 1, BASIS, content, 5));
}

/* --- damage
 * ----------------------------------------------------------------------------------------------------- */

static uint64_t next_random(uint64_t *s)
{
	*s = *s * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return *s >> 33;
}

static size_t random_delta(uint64_t *s)
{
	size_t total = 0;
	char text[65];

	begin();
	while (total < PLAIN_MAX - 300) {
		unsigned len = 1 + (unsigned)(next_random(s) % 200), width = (unsigned)(next_random(s) % 4);

		if (next_random(s) % 2) {
			copy(next_random(s) % (BASIS - 200), width ? width : 1, len,
			     (unsigned)(next_random(s) % 4));
		} else {
			len = len % 64 + 1;
			memset(text, 'a' + (int)(len % 26), len);
			text[len] = '\0';
			literal(len, width, text);
		}
		total += len;
	}
	return total;
}

static void test_apply_damaged_delta_never_leaves_its_bounds(void **state)
{
	unsigned rounds = test_rounds(20000, 2000000);
	uint64_t s = 20261122;
	unsigned refused = 0, different = 0;
	uint8_t before[PLAIN_MAX];

	(void)state;
	for (unsigned i = 0; i < rounds; i++) {
		uint64_t start = s;
		size_t total = random_delta(&s), at;

		if (i % 64 == 0 && apply_end(total) != 0)
			fail_msg("a good delta was refused, seed %llu", (unsigned long long)start);
		else if (i % 64 != 0)
			sosie_put_u8(&w, 0);
		memcpy(before, plain, total);
		for (unsigned flips = 1 + i % 3; flips > 0; flips--) {
			at = next_random(&s) % w.len;
			delta[at] ^= (uint8_t)(1u << next_random(&s) % 8);
		}
		if (apply(w.len, total) != 0)
			refused++;
		else
			different += memcmp(before, plain, total) != 0;
	}
	assert_true(refused > rounds / 10 && (different > 0 || rounds < 100));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_apply_every_width_works),
	        cmocka_unit_test(test_apply_every_short_literal_works),
	        cmocka_unit_test(test_apply_copy_at_the_bounds_works),
	        cmocka_unit_test(test_apply_copy_outside_the_basis_is_refused),
	        cmocka_unit_test(test_apply_bomb_stops_at_the_declared_length),
	        cmocka_unit_test(test_apply_wrong_total_is_refused),
	        cmocka_unit_test(test_apply_zero_length_commands_are_refused),
	        cmocka_unit_test(test_apply_unknown_commands_are_refused),
	        cmocka_unit_test(test_apply_anything_behind_the_end_is_refused),
	        cmocka_unit_test(test_apply_every_cut_is_refused),
	        cmocka_unit_test(test_apply_literal_longer_than_the_input_is_refused),
	        cmocka_unit_test(test_apply_foreign_magic_is_refused),
	        cmocka_unit_test(test_literals_of_something_else_do_not_match),
	        cmocka_unit_test(test_apply_damaged_delta_never_leaves_its_bounds),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

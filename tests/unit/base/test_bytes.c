/* SPDX-License-Identifier: MIT */
/* Readers and writers at and beyond their ends. */
#include "tests/unit/base/check.h"

#include <string.h>

#include "sosie/bytes.h"

static size_t write_sample(uint8_t *dst, size_t size, bool *failed)
{
	struct sosie_writer w;

	sosie_writer_init(&w, dst, size);
	sosie_put_u8(&w, 0x12);
	sosie_put_u16(&w, 0x3456);
	sosie_put_u32(&w, 0x789abcde);
	sosie_put_u64(&w, 0x1122334455667788u);
	sosie_put_string(&w, "name");
	sosie_put_blob(&w, "\0\1", 2);
	*failed = w.failed;
	return w.len;
}

static bool read_sample(const uint8_t *src, size_t len)
{
	struct sosie_reader r;
	char name[5];
	size_t blob_len;

	sosie_reader_init(&r, src, len);
	bool same = sosie_get_u8(&r) == 0x12 && sosie_get_u16(&r) == 0x3456 &&
	            sosie_get_u32(&r) == 0x789abcde && sosie_get_u64(&r) == 0x1122334455667788u;
	sosie_get_string(&r, name, 4);
	const void *blob = sosie_get_blob(&r, 2, &blob_len);
	return same && strcmp(name, "name") == 0 && blob && blob_len == 2 && sosie_reader_done(&r);
}

static void test_bytes_written_come_back_and_every_cut_fails(void **state)
{
	uint8_t b[64];
	bool failed;
	size_t len = write_sample(b, sizeof(b), &failed);

	(void)state;
	assert_false(failed);
	assert_int_equal(len, 15 + 8 + 6);
	assert_int_equal(b[1], 0x56);
	assert_true(read_sample(b, len));
	for (size_t cut = 0; cut < len; cut++) {
		uint8_t c[64];
		assert_false(read_sample(b, cut));
		write_sample(c, cut, &failed);
		assert_true(failed);
	}
	assert_false(read_sample(b, len + 1));
}

static void test_bytes_string_with_nul_or_too_long_fails(void **state)
{
	static const uint8_t nul[] = {2, 0, 0, 0, 'a', 0}, huge[] = {0xff, 0xff, 0xff, 0xff, 'a'};
	struct sosie_reader r;
	char s[8];

	(void)state;
	sosie_reader_init(&r, nul, sizeof(nul));
	sosie_get_string(&r, s, 7);
	assert_true(r.failed);
	assert_string_equal(s, "");
	sosie_reader_init(&r, huge, sizeof(huge));
	sosie_get_string(&r, s, 7);
	assert_true(r.failed);
	memset(s, 'x', sizeof(s));
	sosie_get_bytes(&r, s, sizeof(s));
	assert_int_equal(s[7], 0);
	sosie_reader_init(&r, NULL, 0);
	assert_true(sosie_reader_done(&r));
	assert_int_equal(sosie_get_u8(&r), 0);
	assert_false(sosie_reader_done(&r));
}

static void test_sums_overflow_says_no(void **state)
{
	uint64_t v;

	(void)state;
	assert_true(sosie_add_u64(UINT64_MAX - 1, 1, &v));
	assert_false(sosie_add_u64(UINT64_MAX, 1, &v));
	assert_true(sosie_mul_u64(1ull << 32, (1ull << 32) - 1, &v));
	assert_false(sosie_mul_u64(1ull << 32, 1ull << 32, &v));
}

static void test_hex_only_exact_lower_case_is_taken(void **state)
{
	uint8_t b[2];
	char s[5];

	(void)state;
	sosie_hex(s, "\x0f\xa0", 2);
	assert_string_equal(s, "0fa0");
	assert_true(sosie_unhex(b, 2, s));
	assert_int_equal(b[1], 0xa0);
	assert_false(sosie_unhex(b, 2, "0fa"));
	assert_false(sosie_unhex(b, 2, "0fa00"));
	assert_false(sosie_unhex(b, 2, "0FA0"));
	assert_false(sosie_unhex(b, 2, ""));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_bytes_written_come_back_and_every_cut_fails),
	        cmocka_unit_test(test_bytes_string_with_nul_or_too_long_fails),
	        cmocka_unit_test(test_sums_overflow_says_no),
	        cmocka_unit_test(test_hex_only_exact_lower_case_is_taken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

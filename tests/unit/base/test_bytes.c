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

static void test_ssh_types_come_back_and_lying_lengths_fail(void **state)
{
	static const uint8_t huge[] = {0xff, 0xff, 0xff, 0xff, 'a'}, over[] = {0, 0, 0, 2, 'a'};
	struct sosie_writer w;
	struct sosie_reader r;
	uint8_t b[16];
	size_t len;

	(void)state;
	sosie_writer_init(&w, b, sizeof(b));
	sosie_put_ssh_u32(&w, 0x01020304);
	sosie_put_ssh_string(&w, "abc", 3);
	sosie_put_ssh_string(&w, "", 0);
	assert_false(w.failed);
	assert_int_equal(w.len, 4 + 7 + 4);
	assert_memory_equal(b, "\1\2\3\4\0\0\0\3abc\0\0\0", 15);
	sosie_put_ssh_u32(&w, 1);
	assert_true(w.failed);
	sosie_reader_init(&r, b, 15);
	assert_int_equal(sosie_get_ssh_u32(&r), 0x01020304);
	assert_memory_equal(sosie_get_ssh_string(&r, &len), "abc", 3);
	assert_int_equal(len, 3);
	assert_non_null(sosie_get_ssh_string(&r, &len));
	assert_int_equal(len, 0);
	assert_true(sosie_reader_done(&r));
	sosie_reader_init(&r, huge, sizeof(huge));
	assert_null(sosie_get_ssh_string(&r, &len));
	assert_int_equal(len, 0);
	assert_true(r.failed);
	sosie_reader_init(&r, over, sizeof(over));
	assert_null(sosie_get_ssh_string(&r, &len));
}

/* RFC 4648, section 10, and all bytes. */
static void test_base64_comes_back(void **state)
{
	static const char *const texts[] = {"", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"};
	uint8_t all[256], back[256];
	char text[SOSIE_BASE64_LEN(256) + 1];
	size_t len;

	(void)state;
	for (size_t n = 0; n < 7; n++) {
		sosie_base64(text, "foobar", n);
		assert_string_equal(text, texts[n]);
		assert_int_equal(strlen(text), SOSIE_BASE64_LEN(n));
	}
	for (size_t i = 0; i < sizeof(all); i++)
		all[i] = (uint8_t)(i * 167);
	for (size_t n = 1; n <= sizeof(all); n++) {
		sosie_base64(text, all, n);
		assert_true(sosie_unbase64(text, strlen(text), back, n, &len));
		assert_int_equal(len, n);
		assert_memory_equal(back, all, n);
		assert_false(sosie_unbase64(text, strlen(text), back, n - 1, &len));
	}
	sosie_base64(text,
	             "\x00\x10\x83\x10\x51\x87\x20\x92\x8b\x30\xd3\x8f\x41\x14\x93\x51\x55\x97\x61\x96"
	             "\x9b\x71\xd7\x9f\x82\x18\xa3\x92\x59\xa7\xa2\x9a\xab\xb2\xdb\xaf\xc3\x1c\xb3\xd3"
	             "\x5d\xb7\xe3\x9e\xbb\xf3\xdf\xbf",
	             48);
	assert_string_equal(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/");
}

static void test_base64_other_spellings_are_refused(void **state)
{
	static const char *const wrong[] = {"",     "Z",     "Zg",       "Zg=",      "Zg===",   "=Zg=",
	                                    "====", "Z===",  "Zh==",     "Zm9=",     "Zm 8",    "Zm-8",
	                                    "Zm_8", "Zm8\n", "Zg==Zg==", "Zg==Zm9v", "Zm8=Zm8="};
	char text[] = "Zm9v";
	uint8_t back[16];
	size_t len;
	unsigned taken = 0;

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_false(sosie_unbase64(wrong[i], strlen(wrong[i]), back, sizeof(back), &len));
	for (unsigned c = 0; c < 256; c++) {
		text[1] = (char)c;
		taken += sosie_unbase64(text, 4, back, sizeof(back), &len);
	}
	assert_int_equal(taken, 64);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_bytes_written_come_back_and_every_cut_fails),
	        cmocka_unit_test(test_bytes_string_with_nul_or_too_long_fails),
	        cmocka_unit_test(test_sums_overflow_says_no),
	        cmocka_unit_test(test_hex_only_exact_lower_case_is_taken),
	        cmocka_unit_test(test_ssh_types_come_back_and_lying_lengths_fail),
	        cmocka_unit_test(test_base64_comes_back),
	        cmocka_unit_test(test_base64_other_spellings_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

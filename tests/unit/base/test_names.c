/* SPDX-License-Identifier: MIT */
/* Names, sizes, durations. */
#include "tests/unit/base/check.h"

#include <string.h>

#include "sosie/names.h"

static void test_name_outside_set_is_refused(void **state)
{
	static const char *const bad[] = {"", ".", "..", "-x", "_x", "a/b", "a b", "\xc3\xa9", "a\n", "a.b"};
	struct sosie_name n;
	char longest[66];

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(sosie_name_set(&n, SOSIE_NAME_GROUP, bad[i], NULL), -SOSIE_ENAME);
	assert_int_equal(sosie_name_set(&n, SOSIE_NAME_VOLUME, "a.b", NULL), 0);
	assert_int_equal(sosie_name_set(&n, SOSIE_NAME_VOLUME, ".b", NULL), -SOSIE_ENAME);
	memset(longest, 'a', sizeof(longest));
	longest[63] = '\0';
	assert_int_equal(sosie_name_set(&n, SOSIE_NAME_TENANT, longest, NULL), 0);
	longest[63] = 'a';
	longest[64] = '\0';
	assert_int_equal(sosie_name_set(&n, SOSIE_NAME_TENANT, longest, NULL), -SOSIE_ENAME);
}

static void test_name_pair_needs_both_parts(void **state)
{
	struct sosie_name t, g;

	(void)state;
	assert_int_equal(sosie_name_pair("acme/erp", &t, &g, NULL), 0);
	assert_string_equal(t.s, "acme");
	assert_string_equal(g.s, "erp");
	assert_int_equal(sosie_name_pair("acme", &t, NULL, NULL), 0);
	assert_int_equal(sosie_name_pair("acme", &t, &g, NULL), -SOSIE_ENAME);
	assert_int_equal(sosie_name_pair("acme/", &t, &g, NULL), -SOSIE_ENAME);
	assert_int_equal(sosie_name_pair("a/b/c", &t, &g, NULL), -SOSIE_ENAME);
	assert_int_equal(sosie_name_pair("acme/erp", &t, NULL, NULL), -SOSIE_ENAME);
}

static void test_size_and_duration_parse_and_refuse(void **state)
{
	static const char *const bad[] = {"",         "G", "-1", "1.5G", "1GB", "1 G", "99999999999999999999",
	                                  "16777216T"};
	uint64_t v;

	(void)state;
	assert_true(sosie_size_parse("8G", &v, NULL) == 0 && v == 8ull << 30);
	assert_true(sosie_size_parse("17", &v, NULL) == 0 && v == 17);
	assert_true(sosie_size_parse("16777215T", &v, NULL) == 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(sosie_size_parse(bad[i], &v, NULL), -SOSIE_EUSAGE);
	assert_true(sosie_duration_parse("100ms", &v, NULL) == 0 && v == 100);
	assert_true(sosie_duration_parse("5", &v, NULL) == 0 && v == 5000);
	assert_true(sosie_duration_parse("7d", &v, NULL) == 0 && v == 604800000);
	assert_int_equal(sosie_duration_parse("5w", &v, NULL), -SOSIE_EUSAGE);
}

static void test_size_and_duration_text_read_well(void **state)
{
	char s[32];

	(void)state;
	assert_string_equal(sosie_size_text(s, sizeof(s), 17), "17 B");
	assert_string_equal(sosie_size_text(s, sizeof(s), 312 * 1024), "312 KiB");
	assert_string_equal(sosie_size_text(s, sizeof(s), 3ull << 29), "1.5 GiB");
	assert_string_equal(sosie_size_text(s, sizeof(s), (1ull << 20) - 1), "1 MiB");
	assert_string_equal(sosie_size_text(s, sizeof(s), UINT64_MAX), "16 EiB");
	assert_string_equal(sosie_duration_text(s, sizeof(s), 400), "0.4 s");
	assert_string_equal(sosie_duration_text(s, sizeof(s), 17), "17 ms");
	assert_string_equal(sosie_duration_text(s, sizeof(s), 72000), "1 m 12 s");
	assert_string_equal(sosie_duration_text(s, sizeof(s), 76 * 3600000ull), "3 d 4 h");
	assert_string_equal(sosie_duration_text(s, sizeof(s), 0), "0 s");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_name_outside_set_is_refused),
	        cmocka_unit_test(test_name_pair_needs_both_parts),
	        cmocka_unit_test(test_size_and_duration_parse_and_refuse),
	        cmocka_unit_test(test_size_and_duration_text_read_well),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

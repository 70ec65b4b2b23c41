/* SPDX-License-Identifier: MIT */
/* Errors: codes, texts, hostile bytes. */
#include "tests/unit/base/check.h"

#include <errno.h>
#include <string.h>

#include "sosie/err.h"

static void test_err_set_and_line_say_what_where_action(void **state)
{
	struct sosie_err err;
	char line[1200];

	(void)state;
	assert_int_equal(sosie_err_set(&err, SOSIE_EFENCED, "epoch %d is over", 3), -SOSIE_EFENCED);
	assert_string_equal(sosie_err_line(&err, line, sizeof(line)), "epoch 3 is over");
	assert_int_equal(sosie_err_where(&err, "acme/%s", "erp"), -SOSIE_EFENCED);
	assert_int_equal(sosie_err_action(&err, "run \"sosie status\""), -SOSIE_EFENCED);
	assert_int_equal(sosie_err_wrap(&err, "push %s", err.where), -SOSIE_EFENCED);
	assert_string_equal(sosie_err_line(&err, line, sizeof(line)),
	                    "push acme/erp: epoch 3 is over (acme/erp): run \"sosie status\"");
	sosie_err_clear(&err);
	assert_int_equal(err.code, SOSIE_OK);
}

static void test_err_null_object_returns_codes(void **state)
{
	(void)state;
	assert_int_equal(sosie_err_set(NULL, SOSIE_EIO, "x"), -SOSIE_EIO);
	assert_int_equal(sosie_err_sys(NULL, ENOSPC, "x"), -SOSIE_ENOSPACE);
	assert_int_equal(sosie_err_where(NULL, "x"), -SOSIE_EINTERNAL);
	assert_int_equal(sosie_err_wrap(NULL, "x"), -SOSIE_EINTERNAL);
}

static void test_err_sys_each_errno_gets_its_code(void **state)
{
	static const struct {
		int sys;
		enum sosie_code code;
	} rows[] = {
	        {ENOSPC, SOSIE_ENOSPACE}, {EDQUOT, SOSIE_ENOSPACE}, {EACCES, SOSIE_EDENIED},
	        {EPERM, SOSIE_EDENIED},   {EROFS, SOSIE_EDENIED},   {ENOENT, SOSIE_ENOTFOUND},
	        {ENOMEM, SOSIE_ENOMEM},   {EEXIST, SOSIE_EEXISTS},  {EOPNOTSUPP, SOSIE_EUNSUPPORTED},
	        {EIO, SOSIE_EIO},         {12345, SOSIE_EIO},
	};
	struct sosie_err err;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_int_equal(sosie_err_sys(&err, rows[i].sys, "cannot open"), -(int)rows[i].code);
		assert_int_equal(err.sys, rows[i].sys);
	}
	assert_string_equal(err.what, "cannot open: error 12345");
	sosie_err_sys(&err, ENOENT, "cannot open");
	assert_string_equal(err.what, "cannot open: No such file or directory");
}

static void test_err_hostile_bytes_are_escaped_and_cut(void **state)
{
	struct sosie_err err;
	char big[2000], small[8];

	(void)state;
	sosie_err_set(&err, SOSIE_EIO, "a\033[1m\n\xff \xc2\x9b \xc3\xa9 \xed\xa0\x80 \xc3");
	assert_string_equal(err.what, "a\\x1b[1m\\x0a\\xff \\xc2\\x9b \xc3\xa9 \\xed\\xa0\\x80 \\xc3");
	memset(big, '\n', sizeof(big));
	big[sizeof(big) - 1] = '\0';
	sosie_err_set(&err, SOSIE_EIO, "%s", big);
	assert_true(strlen(err.what) < sizeof(err.what) && strlen(err.what) > 500);
	assert_int_equal(strlen(err.what) % 4, 0);
	assert_string_equal(sosie_escape(small, sizeof(small), "ab\0cd", 5), "ab\\x00c");
	assert_string_equal(sosie_escape(small, sizeof(small), "abcdefghij", 10), "abcdefg");
}

static void test_code_names_round_trip_and_exit_codes(void **state)
{
	unsigned seen = 0;

	(void)state;
	for (int code = 0; code < 100; code++) {
		const char *name = sosie_code_name((enum sosie_code)code);
		if (strcmp(name, "unknown") == 0)
			continue;
		seen++;
		assert_int_equal(sosie_code_from_name(name), code);
	}
	assert_true(seen > 30);
	assert_int_equal(sosie_code_from_name("nonsense"), -1);
	assert_int_equal(sosie_code_exit(SOSIE_OK), 0);
	assert_int_equal(sosie_code_exit(SOSIE_ECORRUPT), 1);
	assert_int_equal(sosie_code_exit(SOSIE_EUSAGE), 2);
	assert_int_equal(sosie_code_exit(SOSIE_EFENCED), 3);
	assert_int_equal(sosie_code_exit(SOSIE_ENOSPACE), 4);
	assert_string_equal(sosie_class_name(sosie_code_class(SOSIE_EFENCED)), "operator");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_err_set_and_line_say_what_where_action),
	        cmocka_unit_test(test_err_null_object_returns_codes),
	        cmocka_unit_test(test_err_sys_each_errno_gets_its_code),
	        cmocka_unit_test(test_err_hostile_bytes_are_escaped_and_cut),
	        cmocka_unit_test(test_code_names_round_trip_and_exit_codes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

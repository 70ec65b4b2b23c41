/* SPDX-License-Identifier: MIT */
/* The command line's parser: what is taken, and what is refused with which words. Links
 * tools/common/options.c. */
#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tools/common/options.c"

static const struct option_spec specs[] = {
        {"store", "STORE", "TEST_OPTIONS_STORE", false, "folder of the store"},
        {"last", "N", NULL, false, "only the newest N"},
        {"accept", "NAME", NULL, true, "may be given often"},
        {"json", NULL, NULL, false, "print one JSON document"},
};

static int parse(struct options *o, struct sosie_err *err, int argc, ...)
{
	static char words[16][64];
	static char *argv[16];
	va_list ap;

	va_start(ap, argc);
	for (int i = 0; i < argc; i++) {
		snprintf(words[i], sizeof(words[i]), "%s", va_arg(ap, const char *));
		argv[i] = words[i];
	}
	va_end(ap);
	sosie_err_clear(err);
	return options_parse(o, "sosie test", specs, 4, argc, argv, 1, 2, "TENANT/GROUP", err);
}

static void assert_refused(const char *part, struct options *o, struct sosie_err *err, int rc)
{
	assert_int_equal(rc, -SOSIE_EUSAGE);
	assert_non_null(strstr(err->what, part));
	assert_string_equal(err->action, "see sosie test --help");
	assert_int_equal(sosie_code_exit(err->code), 2);
	options_fini(o);
}

static void test_options_before_and_after_operands_are_taken(void **state)
{
	struct options o;
	struct sosie_err err;

	(void)state;
	assert_int_equal(parse(&o, &err, 6, "--store", "/s", "a/b", "--last=3", "c", "--json"), 0);
	assert_string_equal(options_get(&o, "store"), "/s");
	assert_string_equal(options_get(&o, "last"), "3");
	assert_true(options_has(&o, "json"));
	assert_int_equal(o.operand_count, 2);
	assert_string_equal(o.operands[1], "c");
	options_fini(&o);
}

static void test_options_after_double_dash_are_operands(void **state)
{
	struct options o;
	struct sosie_err err;

	(void)state;
	assert_int_equal(parse(&o, &err, 3, "--", "--json", "-x"), 0);
	assert_false(options_has(&o, "json"));
	assert_string_equal(o.operands[0], "--json");
	options_fini(&o);
}

static void test_options_wrong_lines_are_refused(void **state)
{
	struct options o;
	struct sosie_err err;

	(void)state;
	assert_refused("unknown option --sture", &o, &err, parse(&o, &err, 2, "a/b", "--sture=1"));
	assert_refused("unknown option -x", &o, &err, parse(&o, &err, 2, "a/b", "-x"));
	assert_refused("--store needs a value: --store STORE", &o, &err,
	               parse(&o, &err, 2, "a/b", "--store"));
	assert_refused("--store needs a value", &o, &err, parse(&o, &err, 3, "a/b", "--store", "--json"));
	assert_refused("--store is given twice", &o, &err,
	               parse(&o, &err, 5, "a", "--store", "x", "--store", "x"));
	assert_refused("--json takes no value", &o, &err, parse(&o, &err, 2, "a", "--json=1"));
	assert_refused("the value of --store is empty", &o, &err, parse(&o, &err, 2, "a", "--store="));
	assert_refused("too much on the command line: \"c\"", &o, &err, parse(&o, &err, 3, "a", "b", "c"));
	assert_refused("something is missing on the command line: TENANT/GROUP", &o, &err,
	               parse(&o, &err, 1, "--json"));
}

static void test_options_environment_stands_in(void **state)
{
	const char *value;
	struct options o;
	struct sosie_err err;

	(void)state;
	unsetenv("TEST_OPTIONS_STORE");
	assert_int_equal(parse(&o, &err, 1, "a"), 0);
	assert_int_equal(options_need(&o, "store", &value, &err), -SOSIE_EUSAGE);
	assert_string_equal(err.what, "--store STORE is missing (or set TEST_OPTIONS_STORE)");
	setenv("TEST_OPTIONS_STORE", "/env", 1);
	assert_int_equal(options_need(&o, "store", &value, &err), 0);
	assert_string_equal(value, "/env");
	setenv("TEST_OPTIONS_STORE", "", 1);
	assert_null(options_get(&o, "store"));
	options_fini(&o);
	setenv("TEST_OPTIONS_STORE", "/env", 1);
	assert_int_equal(parse(&o, &err, 2, "a", "--store=/line"), 0);
	assert_string_equal(options_get(&o, "store"), "/line");
	options_fini(&o);
}

static void test_options_many_values_keep_their_order(void **state)
{
	struct options o;
	struct sosie_err err;

	(void)state;
	assert_int_equal(parse(&o, &err, 4, "--accept=x", "a", "--accept", "y"), 0);
	assert_string_equal(options_nth(&o, "accept", 0), "x");
	assert_string_equal(options_nth(&o, "accept", 1), "y");
	assert_null(options_nth(&o, "accept", 2));
	options_fini(&o);
}

static void test_options_numbers_are_bounded(void **state)
{
	static const char *const bad[] = {
	        "--last=0", "--last=11", "--last=-1", "--last=1x", "--last=99999999999999999999",
	        "--last=+1"};
	unsigned long long n = 7;
	struct options o;
	struct sosie_err err;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(parse(&o, &err, 2, "a", bad[i]), 0);
		assert_int_equal(options_number(&o, "last", 1, 10, &n, &err), -SOSIE_EUSAGE);
		assert_int_equal(n, 7);
		options_fini(&o);
	}
	assert_int_equal(parse(&o, &err, 2, "a", "--last=10"), 0);
	assert_int_equal(options_number(&o, "last", 1, 10, &n, &err), 0);
	assert_int_equal(n, 10);
	options_fini(&o);
	assert_int_equal(parse(&o, &err, 1, "a"), 0);
	n = 7;
	assert_int_equal(options_number(&o, "last", 1, 10, &n, &err), 0);
	assert_int_equal(n, 7);
	options_fini(&o);
}

static void test_options_help_holds_wherever_it_stands(void **state)
{
	struct options o;
	struct sosie_err err;

	(void)state;
	assert_int_equal(parse(&o, &err, 2, "--nonsense", "--help"), 0);
	assert_true(o.help);
	options_fini(&o);
	assert_int_not_equal(parse(&o, &err, 3, "--nonsense", "--", "--help"), 0);
	options_fini(&o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_options_before_and_after_operands_are_taken),
	        cmocka_unit_test(test_options_after_double_dash_are_operands),
	        cmocka_unit_test(test_options_wrong_lines_are_refused),
	        cmocka_unit_test(test_options_environment_stands_in),
	        cmocka_unit_test(test_options_many_values_keep_their_order),
	        cmocka_unit_test(test_options_numbers_are_bounded),
	        cmocka_unit_test(test_options_help_holds_wherever_it_stands),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

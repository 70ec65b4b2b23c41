/* SPDX-License-Identifier: MIT */
/* JSON: what is built comes back; what is not as demanded is refused. */
#include "tests/unit/base/check.h"

#include <stdlib.h>
#include <string.h>

#include "sosie/json.h"

static int parse(const char *text, struct sosie_json **out)
{
	return sosie_json_parse(text, strlen(text), 4096, out, NULL);
}

static void test_json_built_text_comes_back(void **state)
{
	struct sosie_json *doc = sosie_json_new(), *again, *arr, *item, *obj;
	struct sosie_err err;
	const char *s;
	char *text;
	uint64_t u;
	int64_t i;
	bool b;
	uint8_t bytes[2];
	size_t len, count;

	(void)state;
	sosie_json_set_str(doc, "s", "text");
	sosie_json_set_u64(doc, "u", 7);
	sosie_json_set_i64(doc, "i", -7);
	sosie_json_set_bool(doc, "b", true);
	sosie_json_set_hex(doc, "h", "\x01\xff", 2);
	sosie_json_set_str(doc, "n", NULL);
	sosie_json_set_str(doc, "bad", "\xff");
	sosie_json_set_u64(sosie_json_push_obj(sosie_json_add_arr(doc, "a")), "x", 1);
	sosie_json_set_real(sosie_json_add_obj(doc, "o"), "r", 0.1);
	assert_int_equal(sosie_json_text(doc, 0, &text, &len, &err), 0);
	assert_string_equal(text, "{\"s\":\"text\",\"u\":7,\"i\":-7,\"b\":true,\"h\":\"01ff\",\"n\":null,"
	                          "\"bad\":\"\\\\xff\",\"a\":[{\"x\":1}],\"o\":{\"r\":0.1}}");
	assert_int_equal(len, strlen(text));
	assert_int_equal(sosie_json_parse(text, len, len, &again, &err), 0);
	assert_int_equal(sosie_json_str(again, "s", 4, &s, &err), 0);
	assert_string_equal(s, "text");
	assert_int_equal(sosie_json_u64(again, "u", 7, &u, &err) | sosie_json_i64(again, "i", &i, &err), 0);
	assert_true(u == 7 && i == -7);
	assert_int_equal(sosie_json_bool(again, "b", &b, &err) | sosie_json_hex(again, "h", bytes, 2, &err),
	                 0);
	assert_true(b && bytes[1] == 0xff);
	assert_int_equal(sosie_json_arr(again, "a", 1, &arr, &count, &err), 0);
	assert_int_equal(sosie_json_at(arr, 0, &item, &err) | sosie_json_obj(again, "o", &obj, &err), 0);
	assert_true(sosie_json_has(item, "x") && sosie_json_has(obj, "r") && count == 1);
	assert_int_equal(sosie_json_at(arr, 1, &item, &err), -SOSIE_ECORRUPT);
	free(text);
	sosie_json_free(again);
	sosie_json_free(doc);
}

static void test_json_malformed_text_is_corrupt(void **state)
{
	static const char *const bad[] = {"",      "{",
	                                  "1",     "\"x\"",
	                                  "{} x",  "{\"a\":1,\"a\":2}",
	                                  "{a:1}", "{\"a\":\"\xff\"}",
	                                  "[1,]",  "{\"a\":99999999999999999999}"};
	struct sosie_json *doc;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(parse(bad[i], &doc), -SOSIE_ECORRUPT);
		assert_null(doc);
	}
	assert_int_equal(sosie_json_parse("{}", 2, 1, &doc, NULL), -SOSIE_ECORRUPT);
}

static void test_json_wrong_members_are_named(void **state)
{
	static const char *const keys[] = {"s", "n", "a", NULL}, *const fewer[] = {"s", "n", NULL};
	struct sosie_json *doc, *out;
	struct sosie_err err;
	const char *s;
	uint64_t u;
	size_t count;
	uint8_t b[2];

	(void)state;
	assert_int_equal(parse("{\"s\":\"01zz\",\"n\":-1,\"a\":[1,2]}", &doc), 0);
	assert_int_equal(sosie_json_str(doc, "s", 3, &s, &err), -SOSIE_ECORRUPT);
	assert_string_equal(err.what, "JSON member \"s\" is too long");
	assert_int_equal(sosie_json_str(doc, "none", 3, &s, &err), -SOSIE_ECORRUPT);
	assert_int_equal(sosie_json_u64(doc, "n", 9, &u, &err), -SOSIE_ECORRUPT);
	assert_int_equal(sosie_json_hex(doc, "s", b, 2, &err), -SOSIE_ECORRUPT);
	assert_int_equal(sosie_json_arr(doc, "a", 1, &out, &count, &err), -SOSIE_ECORRUPT);
	assert_int_equal(sosie_json_obj(doc, "a", &out, &err), -SOSIE_ECORRUPT);
	assert_int_equal(sosie_json_only(doc, keys, &err), 0);
	assert_int_equal(sosie_json_only(doc, fewer, &err), -SOSIE_ECORRUPT);
	sosie_json_free(doc);
}

static void test_json_number_above_range_fails_when_written(void **state)
{
	struct sosie_json *doc = sosie_json_new();
	char *text;

	(void)state;
	sosie_json_set_u64(doc, "u", UINT64_MAX);
	assert_int_equal(sosie_json_text(doc, 0, &text, NULL, NULL), -SOSIE_EINTERNAL);
	sosie_json_free(doc);
	sosie_json_set_u64(sosie_json_push_obj(NULL), "x", 1);
	assert_int_equal(sosie_json_text(NULL, 0, &text, NULL, NULL), -SOSIE_ENOMEM);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_json_built_text_comes_back),
	        cmocka_unit_test(test_json_malformed_text_is_corrupt),
	        cmocka_unit_test(test_json_wrong_members_are_named),
	        cmocka_unit_test(test_json_number_above_range_fails_when_written),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

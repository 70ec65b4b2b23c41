/* SPDX-License-Identifier: MIT */
/* Digests against values computed with another implementation (Python's hashlib) from the layouts in
 * docs/format.md. */
#include "tests/unit/base/check.h"

#include <string.h>

#include "sosie/bytes.h"
#include "sosie/digest.h"

static void assert_digest(const struct sosie_digest *d, const char *expected)
{
	char hex[2 * SOSIE_DIGEST_LEN + 1];

	sosie_hex(hex, d->b, SOSIE_DIGEST_LEN);
	assert_string_equal(hex, expected);
}

static void test_digest_known_inputs_match_other_implementation(void **state)
{
	struct sosie_hash *h = sosie_hash_new();
	static struct sosie_digest children[SOSIE_FANOUT];
	struct sosie_digest ctx, d, zero = {{0}};
	unsigned char data[SOSIE_LEAF];

	(void)state;
	assert_non_null(h);
	sosie_context_volume(h, "acme", "erp", "disk0", &ctx);
	assert_digest(&ctx, "e7d12792f23478d4ba980f415fde4606ec3efdff168572552e4a0bdc996cd4b6");
	memset(data, 0xab, sizeof(data));
	sosie_digest_leaf(h, &ctx, 7, data, sizeof(data), &children[0]);
	assert_digest(&children[0], "bd417e86f0d8edd1d000f285637320ed3c1b6969767817b6cb47d2faa5b4fc2e");
	sosie_digest_leaf(h, &ctx, 9, "x", 1, &d);
	assert_digest(&d, "33ee46d981bcf66bf9faffd71c9dacdffd073d200811f2985a2574873a97a7f6");
	sosie_digest_node(h, &ctx, 1, 3, children, &d);
	assert_digest(&d, "eab7be20748acced403eed576c7b16b22136a9feefa2883cd336468e31de8209");
	sosie_digest_root(h, &ctx, 123456, &zero, &d);
	assert_digest(&d, "24a97cf859749c309acbbd45d23baf7f714c29fc8e51b488b3d08f898076319f");
	sosie_hash_free(h);
}

static void test_digest_zero_content_is_zero_digest(void **state)
{
	static const struct sosie_digest children[SOSIE_FANOUT];
	static const unsigned char data[SOSIE_LEAF];
	struct sosie_hash *h = sosie_hash_new();
	struct sosie_digest ctx, d;

	(void)state;
	sosie_context_volume(h, "a", "b", "c", &ctx);
	sosie_digest_leaf(h, &ctx, 1, data, sizeof(data), &d);
	assert_true(sosie_digest_is_zero(&d));
	sosie_digest_node(h, &ctx, 1, 1, children, &d);
	assert_true(sosie_digest_is_zero(&d));
	assert_false(sosie_digest_is_zero(&ctx));
	sosie_hash_free(h);
}

static void test_all_zero_each_position_is_noticed(void **state)
{
	unsigned char data[80] = {0};
	unsigned checks = 0;

	(void)state;
	for (size_t len = 0; len <= sizeof(data); len++) {
		assert_true(sosie_all_zero(data, len));
		for (size_t i = 0; i < len; i++, checks++) {
			data[i] = 1;
			assert_false(sosie_all_zero(data, len));
			data[i] = 0;
		}
	}
	assert_int_equal(checks, 80 * 81 / 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_digest_known_inputs_match_other_implementation),
	        cmocka_unit_test(test_digest_zero_content_is_zero_digest),
	        cmocka_unit_test(test_all_zero_each_position_is_noticed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

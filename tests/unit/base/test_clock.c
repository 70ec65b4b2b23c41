/* SPDX-License-Identifier: MIT */
/* Clocks and times as text. */
#include "tests/unit/base/check.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "sosie/clock.h"

static void test_time_text_agrees_with_libc_and_comes_back(void **state)
{
	struct sosie_clock_virtual c;
	char text[SOSIE_TIME_TEXT], libc[64];
	int64_t ms, back;

	(void)state;
	sosie_clock_virtual_init(&c, 0, 42);
	for (unsigned i = 0; i < 2000; i++) {
		uint64_t r;
		sosie_random(&c.clock, &r, sizeof(r), NULL);
		ms = (int64_t)(r % 250000000000000u);
		time_t s = (time_t)(ms / 1000);
		struct tm tm;
		gmtime_r(&s, &tm);
		size_t n = strftime(libc, sizeof(libc), "%Y-%m-%dT%H:%M:%S", &tm);
		snprintf(libc + n, sizeof(libc) - n, ".%03dZ", (int)(ms % 1000));
		sosie_time_text(text, ms);
		assert_string_equal(text, libc);
		assert_int_equal(sosie_time_parse(text, &back, NULL), 0);
		assert_int_equal(back, ms);
	}
	sosie_time_text(text, -1);
	assert_string_equal(text, "1969-12-31T23:59:59.999Z");
}

static void test_time_parse_other_forms_are_refused(void **state)
{
	static const char *const bad[] = {"",
	                                  "2026-11-22T03:27:00Z",
	                                  "2026-02-29T00:00:00.000Z",
	                                  "2026-13-01T00:00:00.000Z",
	                                  "2026-00-01T00:00:00.000Z",
	                                  "2026-01-00T00:00:00.000Z",
	                                  "2026-01-01T24:00:00.000Z",
	                                  "2026-01-01T00:00:60.000Z",
	                                  "2026-01-01 00:00:00.000Z",
	                                  "2026-01-01T00:00:00.000Zx"};
	int64_t ms;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(sosie_time_parse(bad[i], &ms, NULL), -SOSIE_ECORRUPT);
	assert_int_equal(sosie_time_parse("2024-02-29T00:00:00.000Z", &ms, NULL), 0);
}

static void test_clock_virtual_sleep_advances_and_seed_repeats(void **state)
{
	struct sosie_clock_virtual a, b;
	uint64_t x, y;

	(void)state;
	sosie_clock_virtual_init(&a, 1000, 7);
	sosie_clock_virtual_init(&b, 1000, 7);
	sosie_sleep_ms(&a.clock, 250);
	assert_int_equal(sosie_wall_ms(&a.clock), 1250);
	assert_int_equal(sosie_mono_ms(&a.clock), 1250);
	sosie_random(&a.clock, &x, sizeof(x), NULL);
	sosie_random(&b.clock, &y, sizeof(y), NULL);
	assert_true(x == y);
}

static void test_clock_real_runs_and_random_differs(void **state)
{
	struct sosie_clock *c = sosie_clock_real();
	uint8_t x[16], y[16];
	int64_t before = sosie_mono_ms(c);

	(void)state;
	assert_true(sosie_wall_ms(c) > 1600000000000);
	assert_true(sosie_mono_ms(c) >= before);
	assert_int_equal(sosie_random(c, x, sizeof(x), NULL) | sosie_random(c, y, sizeof(y), NULL), 0);
	assert_memory_not_equal(x, y, sizeof(x));
}

static void test_boot_is_named_and_its_clock_goes_on(void **state)
{
	struct sosie_clock *real = sosie_clock_real();
	struct sosie_clock_virtual v;
	char a[SOSIE_BOOT_ID], b[SOSIE_BOOT_ID];
	(void)state;
	sosie_boot_id(real, a);
	sosie_boot_id(real, b);
	assert_int_equal(strlen(a), SOSIE_BOOT_ID - 1);
	assert_string_equal(a, b);
	const int64_t before = sosie_boot_ms(real);
	assert_true(before > 0 && sosie_boot_ms(real) >= before);
	sosie_clock_virtual_init(&v, 5000, 1);
	sosie_sleep_ms(&v.clock, 10);
	v.wall_skew_ms = 100;
	assert_int_equal(sosie_boot_ms(&v.clock), 10);
	assert_int_equal(sosie_mono_ms(&v.clock), 5010);
	assert_int_equal(sosie_wall_ms(&v.clock), 5110);
	sosie_boot_id(&v.clock, a);
	v.boots++;
	sosie_boot_id(&v.clock, b);
	assert_string_not_equal(a, b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_boot_is_named_and_its_clock_goes_on),
	        cmocka_unit_test(test_time_text_agrees_with_libc_and_comes_back),
	        cmocka_unit_test(test_time_parse_other_forms_are_refused),
	        cmocka_unit_test(test_clock_virtual_sleep_advances_and_seed_repeats),
	        cmocka_unit_test(test_clock_real_runs_and_random_differs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

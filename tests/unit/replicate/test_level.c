/* SPDX-License-Identifier: MIT */
/* The choice of a worker's compression level, on made-up times. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/replicate/level.h"

/* Records of all_us each, of which these shares are encoding and waiting; returns how often the level
 * changed. */
static unsigned feed(struct level *l, unsigned records, uint64_t all_us, unsigned encode_percent,
                     unsigned wait_percent)
{
	unsigned changes = 0;

	for (unsigned i = 0; i < records; i++)
		changes += level_note(l, all_us * encode_percent / 100, all_us * wait_percent / 100, all_us);
	return changes;
}

static void test_level_when_given_never_changes(void **state)
{
	struct level l;

	(void)state;
	level_init(&l, 7);
	assert_int_equal(feed(&l, 10000, 10000, 90, 0) + feed(&l, 10000, 10000, 0, 95), 0);
	assert_int_equal(l.level, 7);
	level_init(&l, -7);
	assert_int_equal(feed(&l, 10000, 10000, 0, 95), 0);
	assert_int_equal(l.level, -7);
}

static void test_level_automatic_starts_at_1(void **state)
{
	struct level l;

	(void)state;
	level_init(&l, 0);
	assert_int_equal(l.level, 1);
}

static void test_level_slow_link_rises_to_6_and_stays(void **state)
{
	static const int way[] = {2, 3, 4, 5, 6};
	struct level l;

	(void)state;
	level_init(&l, 0);
	for (unsigned i = 0; i < sizeof(way) / sizeof(way[0]); i++) {
		assert_int_equal(feed(&l, 10, 50000, 5, 90), 1);
		assert_int_equal(l.level, way[i]);
	}
	assert_int_equal(feed(&l, 1000, 50000, 5, 90), 0);
	assert_int_equal(l.level, 6);
}

static void test_level_busy_processor_falls_to_minus_1_and_stays(void **state)
{
	static const int way[] = {-1};
	struct level l;

	(void)state;
	level_init(&l, 0);
	for (unsigned i = 0; i < sizeof(way) / sizeof(way[0]); i++) {
		assert_int_equal(feed(&l, 64, 3000, 60, 5),
		                 1); /* 64 records end a window before its time does */
		assert_int_equal(l.level, way[i]);
	}
	assert_int_equal(feed(&l, 6400, 3000, 60, 5), 0);
	assert_int_equal(l.level, -1);
}

static void test_level_within_a_window_does_not_change(void **state)
{
	struct level l;

	(void)state;
	level_init(&l, 0);
	assert_int_equal(feed(&l, 63, 7900, 0, 100), 0);
	assert_int_equal(feed(&l, 1, 7900, 0, 100), 1);
}

static void test_level_between_the_limits_rests(void **state)
{
	struct level l;

	(void)state;
	level_init(&l, 0);
	assert_int_equal(feed(&l, 5000, 5000, 50, 45), 0); /* both work and wait */
	assert_int_equal(feed(&l, 5000, 5000, 10, 5),
	                 0); /* reading and digesting: compression is not what costs */
	assert_int_equal(feed(&l, 5000, 5000, 0, 0), 0);
	assert_int_equal(l.level, 1);
}

static void test_level_after_the_link_has_changed_comes_back(void **state)
{
	struct level l;

	(void)state;
	level_init(&l, 0);
	feed(&l, 1000, 50000, 5, 90);
	assert_int_equal(l.level, 6);
	assert_int_equal(feed(&l, 64 * 6, 5000, 70, 10), 6);
	assert_int_equal(l.level, -1);
}

static void test_level_times_that_do_not_add_up_are_taken(void **state)
{
	struct level l;

	(void)state;
	level_init(&l, 0);
	assert_false(level_note(&l, 0, 0, 0));
	assert_true(level_note(&l, 10, 900000, 5)); /* clocks differ: the parts may be more than the whole */
	assert_int_equal(l.level, 2);
	assert_true(level_note(&l, 0, UINT32_MAX, UINT32_MAX)); /* an hour for one record */
	assert_int_equal(l.level, 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_level_when_given_never_changes),
	        cmocka_unit_test(test_level_automatic_starts_at_1),
	        cmocka_unit_test(test_level_slow_link_rises_to_6_and_stays),
	        cmocka_unit_test(test_level_busy_processor_falls_to_minus_1_and_stays),
	        cmocka_unit_test(test_level_within_a_window_does_not_change),
	        cmocka_unit_test(test_level_between_the_limits_rests),
	        cmocka_unit_test(test_level_after_the_link_has_changed_comes_back),
	        cmocka_unit_test(test_level_times_that_do_not_add_up_are_taken),
	};

	return cmocka_run_group_tests_name("level", tests, NULL, NULL);
}

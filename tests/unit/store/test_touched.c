/* SPDX-License-Identifier: MIT */
/* The union of leaf ranges that settling digests: exact while it fits, never too little, never too large. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/store/core.h"

#define SEED 20261122u
#define LEAVES 20000u
#define VOLUMES 3u

static uint32_t seed_now = SEED;
static uint8_t model[VOLUMES][LEAVES];

static uint32_t rnd(uint32_t below)
{
	seed_now = seed_now * 1664525u + 1013904223u;
	return (uint32_t)((uint64_t)seed_now * below >> 32);
}

static void add(struct touched *t, unsigned volume, uint64_t first, uint64_t last)
{
	struct sosie_err err;
	if (touched_add(t, volume, first, last, &err))
		fail_msg("seed %u: %s", SEED, err.what);
	assert_true(t->count <= t->limit);
}

static void add_random(struct touched *t, unsigned count)
{
	memset(model, 0, sizeof(model));
	for (unsigned i = 0; i < count; i++) {
		const unsigned v = rnd(VOLUMES), first = rnd(LEAVES), len = rnd(rnd(20) ? 4 : 300);
		const unsigned last = first + len < LEAVES ? first + len : LEAVES;
		add(t, v, first, last);
		memset(model[v] + first, 1, last - first);
	}
	touched_order(t);
}

/* Leaves of the list that nothing touched; fails when one that was touched is not in the list. */
static uint64_t compare(const struct touched *t)
{
	static uint8_t listed[VOLUMES][LEAVES];
	uint64_t more = 0;
	memset(listed, 0, sizeof(listed));
	for (size_t k = 0; k < t->count; k++) {
		const struct touched_range *r = &t->ranges[k];
		assert_true(r->volume < VOLUMES && r->first < r->last);
		assert_true(k == 0 || t->ranges[k - 1].volume < r->volume ||
		            t->ranges[k - 1].last < r->first);
		for (uint64_t i = r->first; i < r->last && i < LEAVES; i++)
			listed[r->volume][i] = 1;
	}
	for (unsigned v = 0; v < VOLUMES; v++)
		for (unsigned i = 0; i < LEAVES; i++) {
			if (model[v][i] && !listed[v][i])
				fail_msg("seed %u: leaf %u of volume %u is not listed", SEED, i, v);
			more += listed[v][i] && !model[v][i];
		}
	return more;
}

static void test_touched_with_room_is_exact(void **state)
{
	struct touched t;
	(void)state;
	for (unsigned round = 0; round < 20; round++) {
		touched_init(&t, 1u << 16);
		add_random(&t, 1 + rnd(3000));
		assert_int_equal(compare(&t), 0);
		assert_int_equal(t.unit, 1);
		touched_fini(&t);
	}
}

static void test_touched_without_room_covers_all_in_its_limit(void **state)
{
	struct touched t;
	uint64_t more = 0;
	(void)state;
	for (unsigned round = 0; round < 20; round++) {
		touched_init(&t, 16 + rnd(500));
		add_random(&t, 3000);
		more += compare(&t);
		assert_true(t.unit > 1);
		touched_fini(&t);
	}
	assert_true(more > 0);
}

/* Many times the same, in any order, takes no more room than once and stays exact. */
static void test_touched_again_and_again_stays_exact(void **state)
{
	struct touched t;
	(void)state;
	memset(model, 0, sizeof(model));
	touched_init(&t, 128); /* half of it holds the 60 */
	for (unsigned i = 0; i < 100000; i++) {
		const unsigned first = rnd(20) * 1000;
		add(&t, i % VOLUMES, first, first + 10);
		memset(model[i % VOLUMES] + first, 1, 10);
	}
	touched_order(&t);
	assert_int_equal(t.count, 20 * VOLUMES);
	touched_fini(&t);
}

static void test_touched_nothing_and_largest_are_fine(void **state)
{
	const uint64_t leaves = SOSIE_VOLUME_MAX / SOSIE_LEAF;
	struct touched t;
	(void)state;
	touched_init(&t, 8);
	touched_order(&t);
	assert_int_equal(t.count, 0);
	add(&t, 0, 5, 5);
	assert_int_equal(t.count, 0);
	for (uint64_t i = 0; i < 1000; i++)
		add(&t, 255, i * 1000003 % leaves, i * 1000003 % leaves + 1);
	add(&t, 255, leaves - 1, leaves);
	touched_order(&t);
	assert_true(t.count >= 1 && t.count <= 8);
	assert_int_equal(t.ranges[0].first, 0);
	assert_true(t.ranges[t.count - 1].last >= leaves);
	touched_fini(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_touched_with_room_is_exact),
	        cmocka_unit_test(test_touched_without_room_covers_all_in_its_limit),
	        cmocka_unit_test(test_touched_again_and_again_stays_exact),
	        cmocka_unit_test(test_touched_nothing_and_largest_are_fine),
	};
	print_message("seed %u\n", SEED);
	return cmocka_run_group_tests_name("touched", tests, NULL, NULL);
}

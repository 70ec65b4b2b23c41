/* SPDX-License-Identifier: MIT */
/* Turns of tenants and groups, over counting fakes: each upload is one step, and how many others' steps one
 * waits for is counted. Includes tools/sosie-keeper/turns.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tools/sosie-keeper/turns.c"

#define TENANTS 4u
#define GROUPS 3u

struct fake {
	struct turns turns;
	struct watched_tenant tenants[TENANTS];
	struct watched_group groups[TENANTS][GROUPS];
	unsigned left[TENANTS][GROUPS], taken[TENANTS][GROUPS]; /* uploads */
	unsigned steps;
};

static void fake_init(struct fake *f)
{
	memset(f, 0, sizeof(*f));
	f->turns.tenants = f->tenants;
	for (unsigned t = 0; t < TENANTS; t++) {
		snprintf(f->tenants[t].name.s, sizeof(f->tenants[t].name.s), "t%u", t);
		f->tenants[t].next = t + 1 < TENANTS ? &f->tenants[t + 1] : NULL;
		f->tenants[t].groups = f->groups[t];
		for (unsigned g = 0; g < GROUPS; g++)
			f->groups[t][g].next = g + 1 < GROUPS ? &f->groups[t][g + 1] : NULL;
	}
}

static void put(struct fake *f, unsigned t, unsigned g, unsigned uploads)
{
	f->left[t][g] += uploads;
	f->groups[t][g].due = true;
}

/* One step, as the loop makes it. False: nothing to do. */
static bool step(struct fake *f, int64_t now_ms, unsigned *tenant)
{
	struct watched_tenant *t = turns_tenant(&f->turns, now_ms);
	struct watched_group *g = t ? turns_group(t, now_ms) : NULL;

	if (!g)
		return false;
	*tenant = (unsigned)(t - f->tenants);
	const unsigned which = (unsigned)(g - f->groups[*tenant]);
	assert_true(f->left[*tenant][which] > 0);
	f->left[*tenant][which]--;
	f->taken[*tenant][which]++;
	g->due = f->left[*tenant][which] > 0;
	f->steps++;
	return true;
}

static void test_turns_thousand_uploads_delay_another_tenant_by_one_step(void **state)
{
	struct fake f;
	unsigned who;

	(void)state;
	fake_init(&f);
	for (unsigned g = 0; g < GROUPS; g++)
		put(&f, 0, g, 1000);
	for (unsigned round = 0; round < 500; round++) {
		put(&f, 1 + round % (TENANTS - 1), round % GROUPS, 1);
		const unsigned before = f.steps;
		do
			assert_true(step(&f, 0, &who));
		while (who == 0);
		assert_in_range(f.steps - before, 1, 2);
	}
	while (step(&f, 0, &who))
		;
	assert_int_equal(f.steps, 3000 + 500);
}

static void test_turns_busy_tenants_get_the_same_number(void **state)
{
	struct fake f;
	unsigned who, of[TENANTS] = {0};

	(void)state;
	fake_init(&f);
	for (unsigned t = 0; t < TENANTS; t++)
		for (unsigned g = 0; g <= t % GROUPS; g++) /* more groups do not make more turns */
			put(&f, t, g, 1000);
	for (unsigned i = 0; i < 100 * TENANTS; i++) {
		assert_true(step(&f, 0, &who));
		of[who]++;
	}
	for (unsigned t = 0; t < TENANTS; t++)
		assert_int_equal(of[t], 100);
}

static void test_turns_busy_groups_of_a_tenant_get_the_same_number(void **state)
{
	struct fake f;
	unsigned who;

	(void)state;
	fake_init(&f);
	for (unsigned g = 0; g < GROUPS; g++)
		put(&f, 2, g, 1000);
	for (unsigned i = 0; i < 30 * GROUPS; i++)
		assert_true(step(&f, 0, &who));
	for (unsigned g = 0; g < GROUPS; g++)
		assert_int_equal(f.taken[2][g], 30);
}

static void test_turns_tenant_over_its_limits_has_none_until_its_time(void **state)
{
	struct fake f;
	unsigned who;

	(void)state;
	fake_init(&f);
	put(&f, 0, 0, 10);
	put(&f, 1, 0, 3);
	f.tenants[0].retry_ms = 50;
	f.groups[1][0].retry_ms = 20;
	assert_false(step(&f, 0, &who));
	assert_int_equal(turns_next_ms(&f.turns, 1000), 20);
	assert_int_equal(turns_next_ms(&f.turns, 5), 5);
	for (unsigned i = 0; i < 3; i++) {
		assert_true(step(&f, 20, &who));
		assert_int_equal(who, 1);
	}
	assert_false(step(&f, 49, &who));
	assert_int_equal(turns_next_ms(&f.turns, 1000), 50);
	assert_true(step(&f, 50, &who));
	assert_int_equal(who, 0);
}

static void test_turns_inbox_to_be_looked_at_is_a_turn(void **state)
{
	struct fake f;

	(void)state;
	fake_init(&f);
	assert_null(turns_tenant(&f.turns, 0));
	f.tenants[3].look = f.tenants[1].look = true;
	assert_ptr_equal(turns_tenant(&f.turns, 0), &f.tenants[1]);
	assert_ptr_equal(turns_tenant(&f.turns, 0), &f.tenants[3]);
	assert_ptr_equal(turns_tenant(&f.turns, 0), &f.tenants[1]);
	f.turns.tenants = NULL;
	f.turns.served = NULL;
	assert_null(turns_tenant(&f.turns, 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_turns_thousand_uploads_delay_another_tenant_by_one_step),
	        cmocka_unit_test(test_turns_busy_tenants_get_the_same_number),
	        cmocka_unit_test(test_turns_busy_groups_of_a_tenant_get_the_same_number),
	        cmocka_unit_test(test_turns_tenant_over_its_limits_has_none_until_its_time),
	        cmocka_unit_test(test_turns_inbox_to_be_looked_at_is_a_turn),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

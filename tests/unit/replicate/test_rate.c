/* SPDX-License-Identifier: MIT */
/* Read budgets on a virtual clock: a group's own, one that two groups share, and the end of a wait. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/replicate/internal.h"

struct lab {
	struct sosie_clock_virtual clock;
	struct sosie_budget *shared;
	struct sosie_replicator *r[2];
};

/* Bytes a second of each group, and of both; 0: no limit. */
static struct lab *lab_new(uint64_t own, uint64_t shared)
{
	struct lab *lab = calloc(1, sizeof(*lab));

	assert_non_null(lab);
	sosie_clock_virtual_init(&lab->clock, 1000000, 1);
	assert_int_equal(sosie_budget_new(shared, &lab->clock.clock, &lab->shared, NULL), 0);
	for (unsigned i = 0; i < 2; i++) {
		lab->r[i] = calloc(1, sizeof(*lab->r[i]));
		assert_non_null(lab->r[i]);
		pthread_mutex_init(&lab->r[i]->rate.lock, NULL);
		lab->r[i]->rate.per_second = own;
		lab->r[i]->o.clock = &lab->clock.clock;
		lab->r[i]->o.budget = shared ? lab->shared : NULL;
	}
	return lab;
}

static void lab_free(struct lab *lab)
{
	for (unsigned i = 0; i < 2; i++) {
		pthread_mutex_destroy(&lab->r[i]->rate.lock);
		free(lab->r[i]);
	}
	sosie_budget_free(lab->shared);
	free(lab);
}

/* Reads of `bytes` by the groups in turn; how long they took. */
static int64_t spend(struct lab *lab, unsigned groups, unsigned reads, uint64_t bytes)
{
	int64_t start = lab->clock.now_ms;

	for (unsigned i = 0; i < reads; i++)
		rate_wait(lab->r[i % groups], bytes);
	return lab->clock.now_ms - start;
}

static void test_rate_none_waits_for_nothing(void **state)
{
	struct lab *lab = lab_new(0, 0);

	(void)state;
	assert_int_equal(spend(lab, 1, 1000, 1u << 20), 0);
	lab_free(lab);
}

/* 4 KiB at 100 MB/s take 0.04 ms: small reads are not free. */
static void test_rate_small_reads_take_their_share(void **state)
{
	struct lab *lab = lab_new(100000000, 0);

	(void)state;
	assert_in_range(spend(lab, 1, 50000, 4096), 1900, 2100); /* 205 MB, less the burst */
	lab_free(lab);
}

static void test_rate_shared_budget_holds_for_both_groups_together(void **state)
{
	struct lab *lab = lab_new(0, 1000000);

	(void)state;
	assert_in_range(spend(lab, 2, 20, 100000), 1700, 2000);
	lab_free(lab);
}

static void test_rate_both_budgets_apply(void **state)
{
	struct lab *lab = lab_new(1000000, 100000000);

	(void)state;
	assert_in_range(spend(lab, 1, 20, 100000), 1700, 2000);
	lab_free(lab);
	lab = lab_new(100000000, 1000000);
	assert_in_range(spend(lab, 1, 20, 100000), 1700, 2000);
	lab_free(lab);
}

static void test_rate_stop_or_views_to_go_end_a_wait(void **state)
{
	struct lab *lab = lab_new(1000, 0);
	bool yes = true;

	(void)state;
	lab->r[0]->o.stop = &yes;
	assert_int_equal(spend(lab, 1, 10, 1u << 20), 0);
	lab->r[0]->o.stop = NULL;
	lab->r[0]->o.let_views_go = &yes;
	lab->r[0]->holds_views = true;
	assert_int_equal(spend(lab, 1, 10, 1u << 20), 0);
	lab->r[0]->holds_views = false;
	assert_true(spend(lab, 1, 1, 1) > 1000000); /* what was booked meanwhile */
	lab_free(lab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_rate_none_waits_for_nothing),
	        cmocka_unit_test(test_rate_small_reads_take_their_share),
	        cmocka_unit_test(test_rate_shared_budget_holds_for_both_groups_together),
	        cmocka_unit_test(test_rate_both_budgets_apply),
	        cmocka_unit_test(test_rate_stop_or_views_to_go_end_a_wait),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

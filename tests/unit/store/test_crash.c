/* SPDX-License-Identifier: MIT */
/*
 * The power goes at every operation of an acceptance (and of one that makes a generation), the disk comes
 * back in each of the four fates, and a new keeper goes on: the chain is whole, what was accepted stays,
 * every accepted point made anew equals the source (invariants I1, I2, I3). SOSIE_ROUNDS=full cuts at every
 * operation, else at a stride.
 */
#include "tests/unit/store/lab.h"

#include "tests/support/rounds.h"

static uint8_t noise[1u << 20];

enum scenario {
	SWEEP_SMALL,
	SWEEP_FOLD,
	SWEEP_RESHAPE,
	SWEEP_REFUSED,
	SWEEP_PATCH, /* points 2 and 3 are patches */
	SWEEP_DELTA, /* point 2 is patches, point 3 deltas that build on one another, and a fold */
};

static const struct change first_changes[] = {{0, 4096, 100000, noise}, {1, 0, 10000, noise + 77}};
static const struct change second_changes[] = {
        {0, 8192, 4096, noise + 5}, {0, 40960, 16384, NULL}, {1, 9000, 1000, noise}};
static const struct change third_changes[] = {{0, 4096, 60000, noise + 9}, {1, 0, 4096, noise + 2}};

/* Small edits of what the first point wrote; later ones of a segment lie where earlier ones wrote. */
static const struct change second_edits[] = {
        {0, 4100, 60, noise + 1000}, {0, 20000, 300, noise + 2000}, {1, 100, 200, noise + 3000}};
static const struct change third_edits[] = {{0, 4130, 100, noise + 4000},
                                            {0, 90000, 40, noise + 5000},
                                            {0, 4200, 50, noise + 6000},
                                            {1, 150, 20, noise + 7000}};

static bool not_data(enum scenario scenario)
{
	return scenario == SWEEP_PATCH || scenario == SWEEP_DELTA;
}

static bool folds(enum scenario scenario)
{
	return scenario == SWEEP_FOLD || scenario == SWEEP_DELTA;
}

/* Two points, the head left open; then a third upload in the inbox. */
static struct make_upload prepare(struct lab *l, enum scenario scenario)
{
	lab_init(l, 1u << 26, 0, scenario != SWEEP_SMALL);
	lab_accept(l);
	model_add(&l->model, "root", 300000);
	model_add(&l->model, "data", 10000);
	lab_point(l, first_changes, 2);
	struct make_upload u;
	lab_point_as(l, not_data(scenario) ? second_edits : second_changes, 3,
	             not_data(scenario) ? MAKE_PATCH : MAKE_DATA, &u);
	assert_int_equal(u.patches, not_data(scenario) ? 3 : 0);
	if (scenario == SWEEP_RESHAPE)
		model_resize(&l->model, 1, 17000);
	u = not_data(scenario) ? lab_upload(l, third_edits, 4) : lab_upload(l, third_changes, 2);
	u.as = scenario == SWEEP_PATCH ? MAKE_PATCH : scenario == SWEEP_DELTA ? MAKE_DELTA : MAKE_DATA;
	u.lie_root = scenario == SWEEP_REFUSED;
	make_upload(&u);
	assert_int_equal(u.patches, scenario == SWEEP_PATCH ? 4 : 0);
	assert_int_equal(u.deltas, scenario == SWEEP_DELTA ? 4 : 0);
	if (folds(scenario))
		l->store->info.policy.fold_points = 2;
	return u;
}

/* Power is back: a new process looks. The third point may or may not be there; after the keeper went on it
 * must be. */
static void check_after(struct lab *l, enum scenario scenario, bool told)
{
	lab_open(l);
	struct sosie_group *g = lab_group(l);
	uint64_t points = sosie_group_points(g);
	sosie_group_close(g);
	assert_true(points >= 2 && points <= (scenario == SWEEP_REFUSED ? 2u : 3u));
	if (told && scenario != SWEEP_REFUSED)
		assert_int_equal(points, 3);
	if (folds(scenario))
		l->store->info.policy.fold_points = 2;
	lab_accept(l);
	OK(l, sosie_keeper_settle(l->store, "acme", "erp", &l->err));
	if (scenario != SWEEP_REFUSED)
		lab_keep_point(l);
	lab_check_points(l);
	int state;
	uint64_t point;
	lab_head_state(l, &state, &point);
	if (state == SOSIE_HEAD_CLEAN) {
		assert_int_equal(point, l->point_count);
		lab_compare_dir(l, "/s/acme/erp/head", &l->points[l->point_count - 1]);
	} else {
		assert_true(scenario == SWEEP_REFUSED);
	}
	/* And on it goes. */
	if (scenario == SWEEP_REFUSED)
		return;
	lab_point_as(l, second_edits, 3, not_data(scenario) ? MAKE_PATCH : MAKE_DATA, NULL);
	lab_compare_dir(l, "/s/acme/erp/head", &l->model);
}

/* False when the cut did not fire: the work was done before. */
static bool cut_at(enum scenario scenario, uint64_t n, enum sosie_fate fate)
{
	struct lab l;
	struct sosie_accept_result r;
	prepare(&l, scenario);
	sosie_disk_cut_after(l.disk, n);
	int rc = sosie_keeper_accept(l.store, "acme", "erp", &r, &l.err);
	bool fired = sosie_disk_is_cut(l.disk);
	if (!fired)
		sosie_disk_cut_after(l.disk, 0);
	lab_close(&l);
	sosie_disk_restart(l.disk, fate);
	sosie_disk_cut_after(l.disk, UINT64_MAX);
	check_after(&l, scenario, rc == 0 && r.accepted == 1);
	lab_fini(&l);
	return fired;
}

static void sweep(enum scenario scenario, const char *name)
{
	uint64_t stride = test_stride(5, 10), cuts = 0;
	for (int fate = SOSIE_FATE_KEPT; fate <= SOSIE_FATE_REORDERED; fate++)
		for (uint64_t n = (uint64_t)fate % stride;; n += stride) {
			print_message("\r%s: fate %d, operation %llu   ", name, fate, (unsigned long long)n);
			if (!cut_at(scenario, n, (enum sosie_fate)fate))
				break;
			cuts++;
		}
	print_message("\r%s: %llu cuts fired, seed %u\n", name, (unsigned long long)cuts, SEED);
	print_message("rounds: %llu simulated-power-cuts\n", (unsigned long long)cuts);
	assert_true(cuts >= 8);
}

static void test_power_cut_in_small_accept_keeps_points(void **state)
{
	(void)state;
	sweep(SWEEP_SMALL, "small accept");
}

static void test_power_cut_in_accept_that_folds_keeps_points(void **state)
{
	(void)state;
	sweep(SWEEP_FOLD, "accept with generation");
}

static void test_power_cut_while_volumes_change_size_keeps_points(void **state)
{
	(void)state;
	sweep(SWEEP_RESHAPE, "accept that resizes");
}

static void test_power_cut_in_refusal_keeps_points(void **state)
{
	(void)state;
	sweep(SWEEP_REFUSED, "refusal");
}

static void test_power_cut_in_accept_of_patches_keeps_points(void **state)
{
	(void)state;
	sweep(SWEEP_PATCH, "accept of patches");
}

static void test_power_cut_in_accept_of_deltas_that_folds_keeps_points(void **state)
{
	(void)state;
	sweep(SWEEP_DELTA, "accept of deltas");
}

/* One call fails, the keeper tries again: the point comes or has come, nothing is lost. False when no call
 * was left to fail. */
static bool fail_at(enum scenario scenario, uint64_t n, int sys)
{
	struct lab l;
	struct sosie_io *faulty;
	struct sosie_fault_plan plan = {.kind = SOSIE_FAULT_NONE};
	struct sosie_accept_result r;
	prepare(&l, scenario);
	sosie_store_close(l.store);
	OK(&l, sosie_io_fault(l.io, &plan, &faulty, &l.err));
	OK(&l, sosie_store_open(faulty, &l.clock.clock, "/s", &l.store, &l.err));
	lab_lend_home(&l);
	l.store->info.policy.fold_points = 2;
	plan = (struct sosie_fault_plan){.kind = SOSIE_FAULT_ERROR, .at = n, .sys = sys};
	sosie_keeper_accept(l.store, "acme", "erp", &r, &l.err);
	bool fired = plan.fired > 0;
	assert_int_equal(r.refused, 0);
	plan = (struct sosie_fault_plan){.kind = SOSIE_FAULT_NONE};
	lab_accept(&l);
	OK(&l, sosie_keeper_settle(l.store, "acme", "erp", &l.err));
	lab_keep_point(&l);
	lab_check_points(&l);
	lab_point(&l, second_changes, 3);
	OK(&l, sosie_keeper_settle(l.store, "acme", "erp", &l.err));
	lab_compare_dir(&l, "/s/acme/erp/head", &l.model);
	sosie_store_close(l.store);
	sosie_io_free(faulty);
	l.store = NULL;
	lab_fini(&l);
	return fired;
}

static void fail_everywhere(enum scenario scenario, const char *name)
{
	static const int errors[] = {5, 28}; /* EIO, ENOSPC */
	uint64_t stride = test_stride(3, 18), fired = 0;
	for (unsigned e = 0; e < 2; e++)
		for (uint64_t n = e;; n += stride) {
			print_message("\r%s: failing call %llu with errno %d   ", name, (unsigned long long)n,
			              errors[e]);
			if (!fail_at(scenario, n, errors[e]))
				break;
			fired++;
		}
	print_message("\r%s: failed calls: %llu fired, seed %u\n", name, (unsigned long long)fired, SEED);
	print_message("rounds: %llu injected-faults\n", (unsigned long long)fired);
	assert_true(fired > 20);
}

static void test_failed_call_anywhere_in_accept_loses_nothing(void **state)
{
	(void)state;
	fail_everywhere(SWEEP_FOLD, "data");
}

static void test_failed_call_anywhere_in_accept_of_deltas_loses_nothing(void **state)
{
	(void)state;
	fail_everywhere(SWEEP_DELTA, "deltas");
}

static int setup(void **state)
{
	uint32_t x = SEED;
	(void)state;
	for (size_t i = 0; i < sizeof(noise); i++) {
		x = x * 1664525u + 1013904223u;
		noise[i] = (uint8_t)(x >> 24);
	}
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_power_cut_in_small_accept_keeps_points),
	        cmocka_unit_test(test_power_cut_in_accept_that_folds_keeps_points),
	        cmocka_unit_test(test_power_cut_while_volumes_change_size_keeps_points),
	        cmocka_unit_test(test_power_cut_in_refusal_keeps_points),
	        cmocka_unit_test(test_power_cut_in_accept_of_patches_keeps_points),
	        cmocka_unit_test(test_power_cut_in_accept_of_deltas_that_folds_keeps_points),
	        cmocka_unit_test(test_failed_call_anywhere_in_accept_loses_nothing),
	        cmocka_unit_test(test_failed_call_anywhere_in_accept_of_deltas_loses_nothing),
	};
	return cmocka_run_group_tests(tests, setup, NULL);
}

/* SPDX-License-Identifier: MIT */
/* Policies: what they inherit, what waits and for how long, what can be taken back; and the watch over the
 * clock that they and pruning stand on. */
#include "tests/unit/store/lab.h"

#include "engine/store/policy.h"
#include "sosie/alarm.h"
#include "sosie/audit.h"
#include "sosie/retention.h"

#define DAY 86400000ll
#define HOUR 3600000ll

static uint8_t noise[200000];
static const struct change first_changes[] = {{0, 4096, 100000, noise}};

static void start(struct lab *l)
{
	lab_init(l, 1u << 26, 0, true);
	lab_accept(l);
	model_add(&l->model, "root", 300000);
	lab_point(l, first_changes, 1);
	lab_point(l, first_changes, 1);
}

/* At a level: "", "acme", "acme/erp". Returns the time from which it holds, 0: now. */
static int64_t set_at(struct lab *l, const char *level, const char *text)
{
	enum sosie_policy_key key;
	uint64_t value;
	bool inherit;
	int64_t from = -1;
	OK(l, sosie_policy_parse(text, &key, &value, &inherit, &l->err));
	OK(l, sosie_policy_set(l->store, level[0] ? "acme" : NULL, strchr(level, '/') ? "erp" : NULL, key,
	                       value, inherit, &from, &l->err));
	return from;
}

static struct sosie_policy_view *view_of(struct lab *l, const char *tenant, const char *group)
{
	static struct sosie_policy_view view;
	OK(l, sosie_policy_view(l->store, tenant, group, &view, &l->err));
	return &view;
}

static uint64_t value_of(struct lab *l, enum sosie_policy_key key)
{
	return view_of(l, "acme", "erp")->values[key].value;
}

static enum sosie_policy_level level_of(struct lab *l, enum sosie_policy_key key)
{
	const struct sosie_policy_value *v = &view_of(l, "acme", "erp")->values[key];
	assert_true(v->set);
	return v->level;
}

static void test_values_are_inherited_key_by_key(void **state)
{
	struct lab l;
	(void)state;
	start(&l);
	assert_true(view_of(&l, "acme", "erp")->keeps_all);
	assert_int_equal(value_of(&l, SOSIE_POLICY_DELAY), 7 * DAY);
	assert_int_equal(value_of(&l, SOSIE_POLICY_FOLD_POINTS), 1000);
	assert_int_equal(set_at(&l, "", "rpo=15m"), 0);
	assert_int_equal(set_at(&l, "acme", "rpo=5m"), 0);
	assert_int_equal(set_at(&l, "", "fold_points=50"), 0);
	assert_int_equal(set_at(&l, "acme/erp", "fold_bytes=1M"), 0);
	assert_int_equal(value_of(&l, SOSIE_POLICY_RPO), 300000);
	assert_int_equal(level_of(&l, SOSIE_POLICY_RPO), SOSIE_LEVEL_TENANT);
	assert_int_equal(level_of(&l, SOSIE_POLICY_FOLD_POINTS), SOSIE_LEVEL_STORE);
	assert_int_equal(level_of(&l, SOSIE_POLICY_FOLD_BYTES), SOSIE_LEVEL_GROUP);
	assert_int_equal(set_at(&l, "acme", "rpo=inherit"), 0);
	assert_int_equal(value_of(&l, SOSIE_POLICY_RPO), 900000);
	/* They reach who folds. */
	struct sosie_policy fold;
	struct sosie_group *g = lab_group(&l);
	policy_fold(g, &fold);
	sosie_group_close(g);
	assert_int_equal(fold.fold_points, 50);
	assert_int_equal(fold.fold_bytes, 1u << 20);
	lab_fini(&l);
}

static void test_shortening_waits_and_lengthening_does_not(void **state)
{
	struct lab l;
	(void)state;
	start(&l);
	/* From keeping everything to anything less. */
	int64_t from = set_at(&l, "acme/erp", "wish.all=3d");
	assert_int_equal(from, l.clock.now_ms + 7 * DAY);
	assert_true(view_of(&l, "acme", "erp")->keeps_all);
	assert_int_equal(view_of(&l, "acme", "erp")->change_count, 1);
	l.clock.now_ms = from - 1;
	assert_true(view_of(&l, "acme", "erp")->keeps_all);
	l.clock.now_ms = from;
	assert_false(view_of(&l, "acme", "erp")->keeps_all);
	assert_int_equal(view_of(&l, "acme", "erp")->change_count, 0);
	assert_int_equal(value_of(&l, SOSIE_POLICY_WISH_ALL), 3 * DAY);
	/* More is at once; less waits; another key of the wish too is more now. */
	assert_int_equal(set_at(&l, "acme/erp", "wish.all=5d"), 0);
	assert_int_equal(set_at(&l, "acme/erp", "wish.daily=30"), 0);
	assert_int_equal(set_at(&l, "acme/erp", "floor.hourly=24"), 0);
	from = set_at(&l, "acme/erp", "wish.daily=29");
	assert_int_equal(from, l.clock.now_ms + 7 * DAY);
	assert_int_equal(value_of(&l, SOSIE_POLICY_WISH_DAILY), 30);
	/* The same key again takes its place. */
	assert_int_equal(set_at(&l, "acme/erp", "wish.daily=31"), 0);
	assert_int_equal(view_of(&l, "acme", "erp")->change_count, 0);
	l.clock.now_ms = from;
	assert_int_equal(value_of(&l, SOSIE_POLICY_WISH_DAILY), 31);
	/* Taking the group's own value away is less where what it inherits is less. */
	assert_true(set_at(&l, "acme/erp", "floor.hourly=inherit") > 0);
	lab_fini(&l);
}

/* By the delay that is in force; and a shorter delay is itself something that waits. */
static void test_delay_is_the_one_in_force(void **state)
{
	struct lab l;
	(void)state;
	start(&l);
	assert_int_equal(set_at(&l, "acme", "delay=30d"), 0);
	int64_t from = set_at(&l, "acme", "delay=0");
	assert_int_equal(from, l.clock.now_ms + 30 * DAY);
	assert_int_equal(set_at(&l, "acme/erp", "wish.all=0"), l.clock.now_ms + 30 * DAY);
	/* The store's change reaches the group, whose delay is longer than the store's. */
	assert_int_equal(set_at(&l, "", "wish.all=1h"), l.clock.now_ms + 30 * DAY);
	l.clock.now_ms = from;
	assert_int_equal(set_at(&l, "acme", "wish.hourly=0"), 0);
	lab_fini(&l);
}

/* What is more for one group may be less for another that inherits it. */
static void test_change_above_waits_when_it_shortens_any_group(void **state)
{
	struct lab l;
	(void)state;
	start(&l);
	int64_t from = set_at(&l, "acme/erp", "wish.all=3d");
	l.clock.now_ms = from;
	/* The tenant keeps everything, the group does not: for the group it would be more. */
	assert_true(set_at(&l, "acme", "wish.daily=5") > 0);
	assert_true(set_at(&l, "", "wish.daily=5") > 0);
	lab_fini(&l);
}

static void test_cancelled_change_never_holds(void **state)
{
	struct lab l;
	struct sosie_policy_change change;
	char id[17], other[17];
	(void)state;
	start(&l);
	int64_t from = set_at(&l, "acme/erp", "wish.all=3d");
	memcpy(id, view_of(&l, "acme", "erp")->changes[0].id, sizeof(id));
	assert_true(set_at(&l, "acme", "wish.hourly=1") > 0);
	memcpy(other, view_of(&l, "acme", NULL)->changes[0].id, sizeof(other));
	OK(&l, sosie_policy_cancel(l.store, id, &change, &l.err));
	assert_int_equal(change.key, SOSIE_POLICY_WISH_ALL);
	assert_int_equal(sosie_policy_cancel(l.store, id, &change, &l.err), -SOSIE_ENOTFOUND);
	l.clock.now_ms = from;
	assert_int_equal(value_of(&l, SOSIE_POLICY_WISH_ALL), 0);
	/* The other one has come into force: only another change takes it back. */
	l.clock.now_ms = from + DAY;
	assert_int_equal(sosie_policy_cancel(l.store, other, &change, &l.err), -SOSIE_ENOTFOUND);
	assert_int_equal(value_of(&l, SOSIE_POLICY_WISH_HOURLY), 1);
	lab_fini(&l);
}

static void test_quota_stays_in_tenant_json_and_less_waits_where_wishes_go(void **state)
{
	struct lab l;
	uint64_t quota;
	struct sosie_prune p;
	(void)state;
	start(&l);
	/* Nothing can go by it yet: at once. */
	assert_int_equal(set_at(&l, "acme", "quota=100M"), 0);
	OK(&l, tenant_quota(l.store, "acme", &quota, &l.err));
	assert_int_equal(quota, 100u << 20);
	int64_t from = set_at(&l, "acme/erp", "floor.all=1d");
	l.clock.now_ms = from;
	assert_int_equal(set_at(&l, "acme", "quota=120M"), 0);
	from = set_at(&l, "acme", "quota=90M");
	assert_int_equal(from, l.clock.now_ms + 7 * DAY);
	OK(&l, sosie_keeper_retain(l.store, "acme", "erp", &p, &l.err));
	OK(&l, tenant_quota(l.store, "acme", &quota, &l.err));
	assert_int_equal(quota, 120u << 20);
	l.clock.now_ms = from;
	OK(&l, sosie_keeper_retain(l.store, "acme", "erp", &p, &l.err));
	OK(&l, tenant_quota(l.store, "acme", &quota, &l.err));
	assert_int_equal(quota, 90u << 20);
	assert_int_equal(view_of(&l, "acme", NULL)->change_count, 0);
	lab_fini(&l);
}

static void test_wrong_words_and_levels_are_refused(void **state)
{
	static const char *const wrong[] = {"floor.all",
	                                    "floor.all=",
	                                    "floor.all=soon",
	                                    "wish.hourly=3d",
	                                    "wish.yearly=1",
	                                    "fold_bytes=0",
	                                    "wish.hourly=-1",
	                                    "=1",
	                                    "quota=lots",
	                                    "",
	                                    "wish.daily=99999999999999999999",
	                                    "wish.daily=1e3"};
	struct lab l;
	enum sosie_policy_key key;
	uint64_t value;
	bool inherit;
	int64_t from;
	(void)state;
	start(&l);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_int_equal(sosie_policy_parse(wrong[i], &key, &value, &inherit, &l.err), -SOSIE_EUSAGE);
	assert_int_equal(sosie_policy_set(l.store, NULL, NULL, SOSIE_POLICY_QUOTA, 1, false, &from, &l.err),
	                 -SOSIE_EUSAGE);
	assert_int_equal(sosie_policy_set(l.store, "acme", "none", SOSIE_POLICY_RPO, 1, false, &from, &l.err),
	                 -SOSIE_ENOTFOUND);
	assert_int_equal(sosie_policy_set(l.store, "none", NULL, SOSIE_POLICY_RPO, 1, false, &from, &l.err),
	                 -SOSIE_ENOTFOUND);
	lab_fini(&l);
}

/* A policy that cannot be read lets nothing go, and keeps nobody from accepting. */
static void test_damaged_policy_stops_pruning_only(void **state)
{
	static const char *const texts[] = {
	        "{",
	        "{\"format\":1}",
	        "{\"format\":1,\"values\":{\"wish.all\":\"x\"},\"changes\":[]}",
	        "{\"format\":1,\"values\":{\"wish.every\":1},\"changes\":[]}",
	        "{\"format\":1,\"values\":{\"wish.daily\":100001},\"changes\":[]}",
	        "{\"format\":1,\"values\":{},\"changes\":[{\"id\":\"00\"}]}"};
	struct lab l;
	(void)state;
	start(&l);
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct sosie_prune p = {0};
		OK(&l, sosie_io_write_file(l.io, "/s/acme/policy.json", texts[i], strlen(texts[i]), 0644,
		                           &l.err));
		struct sosie_group *g = lab_group(&l);
		OK(&l, sosie_group_lock(g, "test", 0, &l.err));
		assert_true(sosie_group_prune(g, &p, &l.err) < 0);
		sosie_group_close(g);
		lab_point(&l, first_changes, 1);
	}
	lab_fini(&l);
}

/* --- the clock
 * ----------------------------------------------------------------------------------------------------------
 */

static struct sosie_clock_state note(struct lab *l)
{
	struct sosie_clock_state c;
	OK(l, sosie_clock_note(l->store, &c, &l->err));
	return c;
}

static struct sosie_clock_state look(struct lab *l)
{
	struct sosie_clock_state c;
	OK(l, sosie_clock_look(l->store, &c, &l->err));
	return c;
}

static int open_clock(void *arg, const struct sosie_alarm *a)
{
	*(unsigned *)arg += !a->closed_ms && a->kind == SOSIE_ALARM_CLOCK;
	return 0;
}

static unsigned clock_alarms(struct lab *l)
{
	unsigned n = 0;
	OK(l, sosie_alarm_each(l->store, NULL, NULL, open_clock, &n, &l->err));
	return n;
}

static void test_step_of_the_clock_within_a_boot_is_a_jump(void **state)
{
	struct lab l;
	(void)state;
	for (int back = 0; back < 2; back++) {
		start(&l);
		assert_false(note(&l).known); /* the first */
		l.clock.now_ms += 100 * DAY;  /* no keeper ran: time passed, on both clocks */
		assert_false(note(&l).jumped);
		l.clock.wall_skew_ms += back ? -60000 : 60000;
		assert_false(note(&l).jumped);
		l.clock.wall_skew_ms += back ? -1 : 1;
		assert_true(look(&l).jumped);
		assert_int_equal(clock_alarms(&l), 0); /* who looks opens none */
		assert_true(note(&l).jumped);
		assert_int_equal(clock_alarms(&l), 1);
		/* Coming back does not make it good. */
		l.clock.wall_skew_ms = 0;
		l.clock.now_ms += DAY;
		assert_true(note(&l).jumped);
		assert_int_equal(clock_alarms(&l), 1);
		OK(&l, sosie_clock_accept(l.store, "looked at it", &l.err));
		assert_int_equal(clock_alarms(&l), 0);
		assert_false(note(&l).jumped);
		lab_fini(&l);
	}
}

/* Steps that are small each, one after every note, add up. */
static void test_small_steps_within_a_boot_add_up(void **state)
{
	struct lab l;
	unsigned steps = 0;
	(void)state;
	start(&l);
	while (!note(&l).jumped) {
		l.clock.now_ms += 3 * 60000;
		l.clock.wall_skew_ms += 20000;
		assert_true(++steps < 10);
	}
	assert_int_equal(steps, 4);
	lab_fini(&l);
}

static void restart(struct lab *l, int64_t away_ms, int64_t skew_ms)
{
	lab_close(l);
	l->clock.now_ms += away_ms;
	l->clock.wall_skew_ms += skew_ms;
	l->clock.boots++;
	l->clock.boot_at_ms = l->clock.now_ms;
	lab_open(l);
}

static void test_clock_across_boots_may_not_go_back_nor_far_ahead(void **state)
{
	static const struct {
		int64_t away, skew;
		bool jumped;
	} cases[] = {{HOUR, 0, false},      {HOUR, -HOUR - 60000, false}, {HOUR, -HOUR - 60001, true},
	             {6 * DAY, DAY, false}, {6 * DAY, DAY + 1, true},     {30 * DAY, 0, true}};
	struct lab l;
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		start(&l);
		note(&l);
		restart(&l, cases[i].away, cases[i].skew);
		assert_int_equal(look(&l).jumped, cases[i].jumped);
		assert_int_equal(note(&l).jumped, cases[i].jumped);
		lab_fini(&l);
	}
}

static int count_clock(void *arg, const struct sosie_audit_entry *e)
{
	*(unsigned *)arg += e->kind == SOSIE_AUDIT_CLOCK;
	return 0;
}

/* Nothing goes and nothing ripens by a clock that has jumped. */
static void test_jump_stops_pruning_and_ripening_until_accepted(void **state)
{
	struct lab l;
	struct sosie_prune p = {0};
	unsigned entries = 0;
	(void)state;
	start(&l);
	note(&l);
	set_at(&l, "acme/erp", "wish.hourly=1");
	l.clock.now_ms += HOUR;
	note(&l);
	l.clock.wall_skew_ms = 8 * DAY; /* the change would be of age */
	assert_true(view_of(&l, "acme", "erp")->keeps_all);
	struct sosie_group *g = lab_group(&l);
	OK(&l, sosie_group_lock(g, "test", 0, &l.err));
	assert_int_equal(sosie_group_prune(g, &p, &l.err), -SOSIE_ECLOCK);
	p.dry_run = true;
	assert_int_equal(sosie_group_prune(g, &p, &l.err), -SOSIE_ECLOCK);
	assert_true(view_of(&l, "acme", "erp")->keeps_all);
	OK(&l, sosie_keeper_retain(l.store, "acme", "erp", &p, &l.err));
	assert_int_equal(p.points, 0);
	OK(&l, sosie_audit_each(l.store, NULL, count_clock, &entries, &l.err));
	assert_int_equal(entries, 1);
	OK(&l, sosie_clock_accept(l.store, NULL, &l.err));
	assert_false(view_of(&l, "acme", "erp")->keeps_all);
	p.dry_run = false;
	OK(&l, sosie_group_prune(g, &p, &l.err));
	assert_int_equal(p.points, 1);
	sosie_group_close(g);
	lab_fini(&l);
}

/* A change that is asked for while the clock is wrong would be of age the moment it is right again. */
static void test_clock_that_went_back_takes_no_change_that_lets_points_go(void **state)
{
	static const struct {
		enum sosie_policy_key key;
		uint64_t value;
	} changes[] = {{SOSIE_POLICY_FLOOR_HOURLY, 1}, {SOSIE_POLICY_WISH_ALL, 0}, {SOSIE_POLICY_DELAY, 0}};
	struct lab l;
	int64_t from = -1;
	(void)state;
	start(&l);
	note(&l);
	struct sosie_group *g = lab_group(&l);
	OK(&l, sosie_pin_add(g, 1, NULL, &l.err));
	l.clock.wall_skew_ms = -40 * DAY;
	for (unsigned i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
		assert_int_equal(sosie_policy_set(l.store, "acme", "erp", changes[i].key, changes[i].value,
		                                  false, &from, &l.err),
		                 -SOSIE_ECLOCK);
		assert_non_null(strstr(l.err.what, "went back"));
		assert_non_null(strstr(l.err.action, "clock accept"));
	}
	assert_int_equal(sosie_pin_remove(g, 1, NULL, &from, &l.err), -SOSIE_ECLOCK);
	assert_non_null(strstr(l.err.action, "clock accept"));
	/* What keeps more is taken at any time. */
	assert_int_equal(set_at(&l, "acme/erp", "delay=30d"), 0);
	OK(&l, sosie_pin_add(g, 2, NULL, &l.err));
	/* Right again: nothing was let in, and what is asked for now waits from now on. */
	l.clock.wall_skew_ms = 0;
	assert_false(look(&l).jumped);
	assert_true(view_of(&l, "acme", "erp")->keeps_all);
	assert_int_equal(view_of(&l, "acme", "erp")->change_count, 0);
	assert_int_equal(set_at(&l, "acme/erp", "floor.hourly=1"), l.clock.now_ms + 30 * DAY);
	OK(&l, sosie_pin_remove(g, 1, NULL, &from, &l.err));
	assert_int_equal(from, l.clock.now_ms + 30 * DAY);
	sosie_group_close(g);
	lab_fini(&l);
}

/* Less of a quota lets wished points go, too. */
static void test_clock_that_went_back_takes_no_smaller_quota(void **state)
{
	struct lab l;
	int64_t from = -1;
	(void)state;
	start(&l);
	note(&l);
	l.clock.now_ms = set_at(&l, "acme", "wish.hourly=5");
	note(&l);
	l.clock.wall_skew_ms = -40 * DAY;
	assert_int_equal(
	        sosie_policy_set(l.store, "acme", NULL, SOSIE_POLICY_QUOTA, 1u << 20, false, &from, &l.err),
	        -SOSIE_ECLOCK);
	struct sosie_tenant_info info;
	OK(&l, sosie_tenant_info(l.store, "acme", &info, &l.err));
	assert_int_equal(info.quota, 0);
	lab_fini(&l);
}

static void test_note_of_the_clock_that_cannot_be_read_stops_pruning(void **state)
{
	struct lab l;
	struct sosie_prune p = {0};
	(void)state;
	start(&l);
	OK(&l, sosie_io_write_file(l.io, "/s/clock.json", "{}", 2, 0644, &l.err));
	struct sosie_group *g = lab_group(&l);
	OK(&l, sosie_group_lock(g, "test", 0, &l.err));
	assert_true(sosie_group_prune(g, &p, &l.err) < 0);
	assert_non_null(strstr(l.err.action, "clock accept"));
	OK(&l, sosie_clock_accept(l.store, NULL, &l.err));
	OK(&l, sosie_group_prune(g, &p, &l.err));
	sosie_group_close(g);
	lab_fini(&l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_values_are_inherited_key_by_key),
	        cmocka_unit_test(test_shortening_waits_and_lengthening_does_not),
	        cmocka_unit_test(test_delay_is_the_one_in_force),
	        cmocka_unit_test(test_change_above_waits_when_it_shortens_any_group),
	        cmocka_unit_test(test_cancelled_change_never_holds),
	        cmocka_unit_test(test_quota_stays_in_tenant_json_and_less_waits_where_wishes_go),
	        cmocka_unit_test(test_wrong_words_and_levels_are_refused),
	        cmocka_unit_test(test_damaged_policy_stops_pruning_only),
	        cmocka_unit_test(test_step_of_the_clock_within_a_boot_is_a_jump),
	        cmocka_unit_test(test_small_steps_within_a_boot_add_up),
	        cmocka_unit_test(test_clock_across_boots_may_not_go_back_nor_far_ahead),
	        cmocka_unit_test(test_jump_stops_pruning_and_ripening_until_accepted),
	        cmocka_unit_test(test_clock_that_went_back_takes_no_change_that_lets_points_go),
	        cmocka_unit_test(test_clock_that_went_back_takes_no_smaller_quota),
	        cmocka_unit_test(test_note_of_the_clock_that_cannot_be_read_stops_pruning),
	};
	uint32_t x = SEED;
	for (size_t i = 0; i < sizeof(noise); i++) {
		x = x * 1664525u + 1013904223u;
		noise[i] = (uint8_t)(x >> 24);
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}

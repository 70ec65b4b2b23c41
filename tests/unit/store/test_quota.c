/* SPDX-License-Identifier: MIT */
/* Limits of a tenant, each met once: who waits, who is refused, and that another tenant does not notice; the
 * reserve; the metrics. */
#include "tests/unit/store/lab.h"

#include <ctype.h>

#include "engine/store/alarm.h"
#include "engine/store/policy.h"
#include "engine/store/quota.h"
#include "sosie/audit.h"
#include "sosie/door.h"

#define MIB (1u << 20)

static uint8_t page[4096];

struct two {
	struct lab l;
	struct model other; /* of the tenant "other", group "erp" */
};

static void two_init(struct two *t, uint64_t capacity, bool reflink)
{
	lab_init(&t->l, capacity, 0, reflink);
	OK(&t->l, sosie_tenant_add(t->l.store, "other", 0, &t->l.err));
	lab_accept(&t->l);
	model_add(&t->l.model, "root", MIB);
	model_init(&t->other, "other", "erp");
	model_add(&t->other, "root", MIB);
}

static void two_fini(struct two *t)
{
	model_fini(&t->other);
	lab_fini(&t->l);
}

static void limit(struct lab *l, const char *text)
{
	struct sosie_limits limits;
	enum sosie_limit which;
	uint64_t value;
	bool inherit;
	OK(l, sosie_limit_parse(text, &which, &value, &inherit, &l->err));
	OK(l, sosie_limits_get(l->store, "acme", &limits, &l->err));
	if (which == SOSIE_LIMIT_QUOTA) { /* the policy's: now, as if its delay had passed */
		OK(l, tenant_set_quota(l->store, "acme", value, &l->err));
		return;
	}
	limits.value[which] = value;
	limits.set[which] = !inherit;
	OK(l, sosie_limits_set(l->store, "acme", &limits, &l->err));
}

static struct make_upload put(struct lab *l, struct model *m)
{
	const struct change c[] = {{0, 0, sizeof(page), page}};
	struct make_upload u = {.io = l->io,
	                        .clock = &l->clock.clock,
	                        .store = "/s",
	                        .model = m,
	                        .changes = c,
	                        .change_count = 1};
	struct sosie_group *g = NULL;
	page[0]++;
	OK(l, group_make(l->store, m->tenant, m->group, &l->err));
	OK(l, sosie_group_open(l->store, m->tenant, m->group, &g, &l->err));
	u.parent = *chain_head(g->chain);
	sosie_group_close(g);
	make_upload(&u);
	return u;
}

static struct sosie_accept_result take(struct lab *l, const struct model *m)
{
	struct sosie_accept_result r;
	OK(l, sosie_keeper_accept(l->store, m->tenant, m->group, &r, &l->err));
	return r;
}

static void accepted(struct lab *l, struct model *m)
{
	put(l, m);
	struct sosie_accept_result r = take(l, m);
	if (r.accepted != 1)
		fail_msg("not accepted: %s", r.last.what);
}

static int open_quota(void *arg, const struct sosie_alarm *a)
{
	*(unsigned *)arg += !a->closed_ms && a->kind == SOSIE_ALARM_QUOTA;
	return 0;
}

static unsigned quota_alarms(struct lab *l, const char *tenant)
{
	unsigned n = 0;
	OK(l, sosie_alarm_each(l->store, tenant, NULL, open_quota, &n, &l->err));
	return n;
}

static int open_space(void *arg, const struct sosie_alarm *a)
{
	*(unsigned *)arg += !a->closed_ms && a->kind == SOSIE_ALARM_SPACE;
	return 0;
}

static unsigned space_alarms(struct lab *l)
{
	unsigned n = 0;
	OK(l, sosie_alarm_each(l->store, NULL, NULL, open_space, &n, &l->err));
	return n;
}

static void expect_quota(struct two *t, const char *named)
{
	put(&t->l, &t->l.model);
	struct sosie_accept_result r = take(&t->l, &t->l.model);
	assert_int_equal(r.refused, 1);
	assert_int_equal(r.last.code, SOSIE_EQUOTA);
	if (!strstr(r.last.what, named))
		fail_msg("the limit %s is not named: %s", named, r.last.what);
	assert_int_equal(quota_alarms(&t->l, "acme"), 1);
	assert_int_equal(quota_alarms(&t->l, "other"), 0);
	accepted(&t->l, &t->other); /* does not notice */
}

/* --- declared
 * ------------------------------------------------------------------------------------------------------- */

static void test_segment_above_its_limit_is_refused(void **state)
{
	struct two t;
	(void)state;
	two_init(&t, 1u << 28, false);
	limit(&t.l, "segment=4096");
	accepted(&t.l, &t.l.model); /* the maximum itself */
	limit(&t.l, "segment=4095");
	expect_quota(&t, "segment");
	two_fini(&t);
}

static void test_volumes_of_a_group_above_their_limit_are_refused(void **state)
{
	struct two t;
	(void)state;
	two_init(&t, 1u << 28, false);
	limit(&t.l, "group_volumes=1");
	accepted(&t.l, &t.l.model);
	model_add(&t.l.model, "more", 4096);
	expect_quota(&t, "group_volumes");
	limit(&t.l, "group_volumes=2");
	accepted(&t.l, &t.l.model);
	two_fini(&t);
}

static void test_volumes_of_all_groups_above_their_limit_are_refused(void **state)
{
	struct two t;
	struct model second;
	(void)state;
	two_init(&t, 1u << 28, false);
	model_init(&second, "acme", "crm");
	model_add(&second, "root", MIB);
	limit(&t.l, "volumes=2");
	accepted(&t.l, &second);
	accepted(&t.l, &t.l.model);
	accepted(&t.l, &t.l.model); /* no more than it has */
	model_add(&t.l.model, "more", 4096);
	expect_quota(&t, "volumes");
	limit(&t.l, "volumes=3");
	accepted(&t.l, &t.l.model);
	model_fini(&second);
	two_fini(&t);
}

static void test_sizes_of_volumes_above_their_limit_are_refused(void **state)
{
	struct two t;
	struct model second;
	(void)state;
	two_init(&t, 1u << 28, false);
	model_init(&second, "acme", "crm");
	model_add(&second, "root", MIB);
	limit(&t.l, "volume_bytes=2M");
	accepted(&t.l, &second);
	accepted(&t.l, &t.l.model);
	model_add(&t.l.model, "more", 1);
	expect_quota(&t, "volume_bytes");
	model_fini(&second);
	two_fini(&t);
}

static void test_group_above_the_limit_waits_and_is_not_made(void **state)
{
	struct two t;
	struct sosie_accept_result r;
	(void)state;
	two_init(&t, 1u << 28, false);
	limit(&t.l, "groups=1");
	accepted(&t.l, &t.l.model);
	OK(&t.l, sosie_keeper_accept(t.l.store, "acme", "second", &r, &t.l.err));
	assert_int_equal(r.waiting, 1);
	assert_int_equal(r.last.code, SOSIE_EQUOTA);
	assert_false(sosie_io_exists(t.l.io, "/s/acme/second"));
	assert_int_equal(quota_alarms(&t.l, "acme"), 1);
	limit(&t.l, "groups=2");
	OK(&t.l, sosie_keeper_accept(t.l.store, "acme", "second", &r, &t.l.err));
	assert_int_equal(r.waiting, 0);
	assert_true(sosie_io_exists(t.l.io, "/s/acme/second"));
	two_fini(&t);
}

/* --- spent
 * ----------------------------------------------------------------------------------------------------------
 */

static void test_points_above_their_rate_wait_and_are_taken_in_time(void **state)
{
	struct two t;
	struct sosie_accept_result r;
	struct sosie_verdict *v = calloc(1, sizeof(*v));
	(void)state;
	assert_non_null(v);
	two_init(&t, 1u << 28, false);
	limit(&t.l, "points=3");
	for (unsigned i = 0; i < 3; i++)
		accepted(&t.l, &t.l.model);
	struct make_upload u = put(&t.l, &t.l.model);
	r = take(&t.l, &t.l.model);
	assert_int_equal(r.waiting, 1);
	assert_true(r.more);
	assert_int_equal(r.wait_ms, 20000);
	lab_verdict(&t.l, &u, v);
	assert_int_equal(v->kind, SOSIE_VERDICT_WAITING);
	assert_int_equal(v->error.code, SOSIE_EPENDING);
	assert_false(sosie_digest_is_zero(&v->committed)); /* a source that pins a key wants it */
	assert_non_null(strstr(v->error.what, "3 points a minute"));
	assert_int_equal(quota_alarms(&t.l, "acme"), 1);
	for (unsigned i = 0; i < 3; i++)
		accepted(&t.l, &t.other); /* has limits of its own */
	t.l.clock.now_ms += 19999;
	assert_int_equal(take(&t.l, &t.l.model).waiting, 1);
	t.l.clock.now_ms += 1;
	r = take(&t.l, &t.l.model);
	assert_int_equal(r.accepted, 1);
	assert_int_equal(r.wait_ms, 0);
	two_fini(&t);
	free(v);
}

static void test_processor_time_above_its_share_waits_a_minute_at_most(void **state)
{
	struct two t;
	struct sosie_accept_result r;
	(void)state;
	two_init(&t, 1u << 28, false);
	limit(&t.l, "cpu=10");
	accepted(&t.l, &t.l.model);
	quota_spend(t.l.store, "acme", 3600ull * 1000000000);
	put(&t.l, &t.l.model);
	r = take(&t.l, &t.l.model);
	assert_int_equal(r.waiting, 1);
	assert_in_range(r.wait_ms, 59000, 60001);
	assert_non_null(strstr(r.last.what, "10 s of processor time"));
	accepted(&t.l, &t.other);
	t.l.clock.now_ms += 59000;
	assert_int_equal(take(&t.l, &t.l.model).waiting, 1);
	t.l.clock.now_ms += 1001;
	assert_int_equal(take(&t.l, &t.l.model).accepted, 1);
	limit(&t.l, "cpu=1000");
	t.l.clock.now_ms += 60001;
	accepted(&t.l, &t.l.model);
	quota_spend(t.l.store, "acme", 3600ull * 1000000000);
	limit(&t.l, "cpu=10"); /* a debt of before is one by the new limit */
	put(&t.l, &t.l.model);
	assert_in_range(take(&t.l, &t.l.model).wait_ms, 59000, 60001);
	limit(&t.l, "cpu=none");
	assert_int_equal(take(&t.l, &t.l.model).accepted, 1);
	quota_spend(t.l.store, "acme", UINT64_MAX);
	accepted(&t.l, &t.l.model);
	two_fini(&t);
}

/* The greatest limits and the greatest sums: nothing overflows, as a sanitizer would show. */
static void test_greatest_limits_wait_for_nothing(void **state)
{
	struct two t;
	(void)state;
	two_init(&t, 1u << 28, false);
	limit(&t.l, "cpu=60000");
	limit(&t.l, "points=1048576");
	for (unsigned i = 0; i < 4; i++) {
		accepted(&t.l, &t.l.model);
		quota_spend(t.l.store, "acme", UINT64_MAX);
		quota_spend(t.l.store, "acme", 60000ull * 1000000000);
		t.l.clock.now_ms += 1ll << (10 + 10 * i);
		t.l.clock.now_ms += 60001;
	}
	two_fini(&t);
}

/* --- the alarm
 * ---------------------------------------------------------------------------------------------------- */

static void test_quota_alarm_is_over_when_something_is_accepted_and_it_was_quiet(void **state)
{
	struct two t;
	(void)state;
	two_init(&t, 1u << 28, false);
	limit(&t.l, "segment=1");
	expect_quota(&t, "segment");
	t.l.clock.now_ms += 1000000;
	OK(&t.l, sosie_keeper_watch_tenant(t.l.store, "acme", &t.l.err));
	assert_int_equal(quota_alarms(&t.l, "acme"), 1); /* nothing says that it is over */
	limit(&t.l, "segment=default");
	accepted(&t.l, &t.l.model);
	OK(&t.l, sosie_keeper_watch_tenant(t.l.store, "acme", &t.l.err));
	assert_int_equal(quota_alarms(&t.l, "acme"), 0);
	limit(&t.l, "segment=1");
	put(&t.l, &t.l.model);
	assert_int_equal(take(&t.l, &t.l.model).refused, 1);
	limit(&t.l, "segment=none");
	accepted(&t.l, &t.l.model);
	OK(&t.l, sosie_keeper_watch_tenant(t.l.store, "acme", &t.l.err));
	assert_int_equal(quota_alarms(&t.l, "acme"), 1); /* not quiet yet */
	two_fini(&t);
}

/* --- limits as text and file
 * ------------------------------------------------------------------------------------------ */

static int last_tenant_entry(void *arg, const struct sosie_audit_entry *e)
{
	if (e->kind == SOSIE_AUDIT_TENANT)
		snprintf(arg, 512, "%s", e->text);
	return 0;
}

static void test_limits_are_set_shown_and_audited(void **state)
{
	struct two t;
	struct sosie_limits l;
	char entry[512] = "", text[40], user[SOSIE_USER_MAX + 1], *file;
	size_t len;
	(void)state;
	two_init(&t, 1u << 28, false);
	OK(&t.l, sosie_limits_get(t.l.store, "acme", &l, &t.l.err));
	for (unsigned i = 0; i < SOSIE_LIMITS; i++) {
		assert_int_equal(l.set[i], i == SOSIE_LIMIT_QUOTA);
		assert_int_equal(l.value[i] == 0, i == SOSIE_LIMIT_QUOTA);
	}
	OK(&t.l, sosie_tenant_set_user(t.l.store, "acme", "rx", &t.l.err));
	limit(&t.l, "points=7");
	limit(&t.l, "groups=3");
	limit(&t.l, "quota=3G"); /* as a policy that ripens: what else the file has stays */
	OK(&t.l, sosie_audit_each(t.l.store, "acme", last_tenant_entry, entry, &t.l.err));
	assert_non_null(strstr(entry, "\"groups\":{\"from\":1024,\"to\":3}"));
	assert_null(strstr(entry, "points"));
	OK(&t.l, sosie_limits_get(t.l.store, "acme", &l, &t.l.err));
	assert_int_equal(l.value[SOSIE_LIMIT_POINTS], 7);
	assert_true(l.set[SOSIE_LIMIT_POINTS]);
	assert_string_equal(sosie_limit_text(text, sizeof(text), SOSIE_LIMIT_POINTS, 7), "7 a minute");
	limit(&t.l, "points=default");
	OK(&t.l, sosie_io_read_file(t.l.io, "/s/acme/tenant.json", 4096, &file, &len, &t.l.err));
	assert_non_null(strstr(file, "\"tenant\":\"acme\"")); /* the rest stays */
	assert_null(strstr(file, "points"));
	free(file);
	lab_close(&t.l);
	lab_open(&t.l);
	OK(&t.l, sosie_limits_get(t.l.store, "acme", &l, &t.l.err));
	assert_int_equal(l.value[SOSIE_LIMIT_QUOTA], 3221225472);
	assert_int_equal(l.value[SOSIE_LIMIT_GROUPS], 3);
	OK(&t.l, sosie_tenant_user(t.l.store, "acme", user, &t.l.err));
	assert_string_equal(user, "rx");
	two_fini(&t);
}

static void test_limits_that_are_wrong_are_refused(void **state)
{
	static const char *const bad[] = {
	        "",        "points",    "points=",           "points=0",      "points=-1",
	        "cpu=1.5", "cpu=60001", "quota=default",     "quota=many",    "nothing=1",
	        "=1",      "points=1K", "group_volumes=257", "quota=9999999T"};
	struct sosie_err err;
	enum sosie_limit which;
	uint64_t value;
	bool inherit;
	(void)state;
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (sosie_limit_parse(bad[i], &which, &value, &inherit, &err) != -SOSIE_EUSAGE)
			fail_msg("\"%s\" is taken", bad[i]);
}

/* --- space
 * ----------------------------------------------------------------------------------------------------------
 */

static void test_below_the_reserve_uploads_wait_and_an_alarm_is_open(void **state)
{
	struct two t;
	struct sosie_space s;
	struct sosie_file *f;
	static uint8_t filler[65536];
	(void)state;
	two_init(&t, 64u << 20, true);
	accepted(&t.l, &t.l.model);
	OK(&t.l, sosie_store_space(t.l.store, &s, &t.l.err));
	assert_int_equal(s.reserve_bytes, s.total_bytes / 64);
	OK(&t.l, sosie_keeper_watch_store(t.l.store, &t.l.err));
	assert_int_equal(space_alarms(&t.l), 0);
	memset(filler, 1, sizeof(filler));
	OK(&t.l,
	   sosie_io_openat(t.l.io, "/s/filler", SOSIE_READ | SOSIE_WRITE | SOSIE_CREATE, 0600, &f, &t.l.err));
	for (uint64_t at = 0; s.free_bytes >= s.reserve_bytes; at += sizeof(filler)) {
		OK(&t.l, sosie_io_pwrite(t.l.io, f, filler, sizeof(filler), at, &t.l.err));
		OK(&t.l, sosie_store_space(t.l.store, &s, &t.l.err));
	}
	/* There is room, but not above the reserve. */
	assert_true(s.free_bytes >= s.reserve_bytes - sizeof(filler));
	put(&t.l, &t.l.model);
	struct sosie_accept_result r = take(&t.l, &t.l.model);
	assert_int_equal(r.waiting, 1);
	assert_int_equal(r.last.code, SOSIE_ENOSPACE);
	OK(&t.l, sosie_keeper_watch_store(t.l.store, &t.l.err));
	assert_int_equal(space_alarms(&t.l), 1);
	sosie_io_close(t.l.io, f, NULL);
	OK(&t.l, sosie_io_unlink(t.l.io, "/s/filler", &t.l.err));
	OK(&t.l, sosie_keeper_watch_store(t.l.store, &t.l.err));
	assert_int_equal(space_alarms(&t.l), 0);
	assert_int_equal(take(&t.l, &t.l.model).accepted, 1);
	two_fini(&t);
}

static void test_reserve_without_reflinks_has_room_for_the_largest_images(void **state)
{
	static uint8_t noise[MIB];
	const struct change c[] = {{0, 0, sizeof(noise), noise}};
	struct two t;
	struct sosie_space s;
	(void)state;
	memset(noise, 3, sizeof(noise));
	two_init(&t, 1u << 28, false);
	lab_point(&t.l, c, 1);
	accepted(&t.l, &t.other);
	OK(&t.l, sosie_store_space(t.l.store, &s, &t.l.err));
	assert_in_range(s.reserve_bytes, s.total_bytes / 64, s.total_bytes / 64 + MIB);
	t.l.clock.now_ms += 60000; /* counted again */
	OK(&t.l, sosie_store_space(t.l.store, &s, &t.l.err));
	assert_in_range(s.reserve_bytes, s.total_bytes / 64 + MIB, s.total_bytes / 64 + 2 * MIB);
	two_fini(&t);
}

/* --- a keeper's steps, and metrics
 * ------------------------------------------------------------------------------------- */

static void test_step_takes_one_upload_and_says_that_there_are_more(void **state)
{
	struct two t;
	struct sosie_accept_result r;
	(void)state;
	two_init(&t, 1u << 28, false);
	for (unsigned i = 0; i < 3; i++) { /* two of them are on a parent that is not the head any more */
		put(&t.l, &t.l.model);
		t.l.clock.now_ms += 1;
	}
	for (unsigned i = 0; i < 3; i++) {
		OK(&t.l, sosie_keeper_step(t.l.store, "acme", "erp", &r, &t.l.err));
		assert_int_equal(r.accepted + r.refused, 1);
		assert_int_equal(r.more, i < 2);
	}
	OK(&t.l, sosie_keeper_step(t.l.store, "acme", "erp", &r, &t.l.err));
	assert_int_equal(r.accepted + r.refused + r.waiting, 0);
	assert_false(r.more);
	two_fini(&t);
}

/* NAME{LABEL="TEXT",…} NUMBER, or a comment. */
static bool is_sample(const char *line)
{
	const size_t name = strspn(line, "abcdefghijklmnopqrstuvwxyz_");
	const char *at = line + name;
	char *end;
	if (strncmp(line, "# HELP sosie_keeper_", 20) == 0 || strncmp(line, "# TYPE sosie_keeper_", 20) == 0)
		return true;
	if (name == 0)
		return false;
	if (*at == '{')
		do {
			at++;
			at += strspn(at, "abcdefghijklmnopqrstuvwxyz");
			if (strncmp(at, "=\"", 2) != 0)
				return false;
			at += 2;
			at += strcspn(at, "\"\\\n");
			if (*at++ != '"')
				return false;
		} while (*at == ',');
	if (*at == '}')
		at++;
	if (*at++ != ' ' || !isdigit((unsigned char)*at))
		return false;
	(void)strtod(at, &end);
	return *end == '\0';
}

static void test_metrics_have_every_group_tenant_and_alarm(void **state)
{
	static const char *const wanted[] = {
	        "sosie_keeper_point{tenant=\"acme\",group=\"erp\"} 2\n",
	        "sosie_keeper_point_age_seconds{tenant=\"acme\",group=\"erp\"} 7\n",
	        "sosie_keeper_rpo_seconds{tenant=\"acme\",group=\"erp\"} 7\n",
	        "sosie_keeper_rpo_objective_seconds{tenant=\"acme\",group=\"erp\"} 5\n",
	        "sosie_keeper_late{tenant=\"acme\",group=\"erp\"} 1\n",
	        "sosie_keeper_late{tenant=\"other\",group=\"erp\"} 0\n",
	        "sosie_keeper_points_accepted_total{tenant=\"acme\",group=\"erp\"} 2\n",
	        "sosie_keeper_uploads_refused_total{tenant=\"acme\",group=\"erp\"} 1\n",
	        "sosie_keeper_uploads_waiting{tenant=\"acme\",group=\"erp\"} 1\n",
	        "sosie_keeper_generations{tenant=\"acme\",group=\"erp\"} 0\n",
	        "sosie_keeper_quota_bytes{tenant=\"acme\"} 1073741824\n",
	        "sosie_keeper_alarms{kind=\"late\"} 1\n",
	        "sosie_keeper_alarms{kind=\"fork\"} 1\n",
	        "sosie_keeper_alarms{kind=\"space\"} 0\n",
	};
	struct two t;
	char *text, *line, *rest;
	size_t len;
	unsigned lines = 0;
	(void)state;
	two_init(&t, 1u << 28, false);
	limit(&t.l, "quota=1G");
	const char policy[] = "{\"format\":1,\"values\":{\"rpo\":5000},\"changes\":[]}";
	OK(&t.l, sosie_io_write_file(t.l.io, "/s/acme/policy.json", policy, strlen(policy), 0640, &t.l.err));
	accepted(&t.l, &t.other);
	accepted(&t.l, &t.l.model);
	put(&t.l, &t.l.model);
	t.l.clock.now_ms += 1;
	put(&t.l, &t.l.model); /* on the same parent: a fork */
	struct sosie_accept_result r = take(&t.l, &t.l.model);
	assert_int_equal(r.accepted + r.refused, 2);
	t.l.clock.now_ms += 6999;
	put(&t.l, &t.l.model);
	OK(&t.l, sosie_keeper_watch(t.l.store, "acme", "erp", &t.l.err));
	OK(&t.l, sosie_keeper_watch(t.l.store, "other", "erp", &t.l.err));
	OK(&t.l, sosie_keeper_metrics(t.l.store, &text, &len, &t.l.err));
	for (unsigned i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
		if (!strstr(text, wanted[i]))
			fail_msg("not there: %s in\n%s", wanted[i], text);
	assert_null(strstr(text, "sosie_keeper_rpo_objective_seconds{tenant=\"other\""));
	assert_int_equal(text[len - 1], '\n');
	for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest), lines++)
		if (!is_sample(line))
			fail_msg("no line of the format: %s", line);
	assert_true(lines > 50);
	free(text);
	two_fini(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_segment_above_its_limit_is_refused),
	        cmocka_unit_test(test_volumes_of_a_group_above_their_limit_are_refused),
	        cmocka_unit_test(test_volumes_of_all_groups_above_their_limit_are_refused),
	        cmocka_unit_test(test_sizes_of_volumes_above_their_limit_are_refused),
	        cmocka_unit_test(test_group_above_the_limit_waits_and_is_not_made),
	        cmocka_unit_test(test_points_above_their_rate_wait_and_are_taken_in_time),
	        cmocka_unit_test(test_processor_time_above_its_share_waits_a_minute_at_most),
	        cmocka_unit_test(test_greatest_limits_wait_for_nothing),
	        cmocka_unit_test(test_quota_alarm_is_over_when_something_is_accepted_and_it_was_quiet),
	        cmocka_unit_test(test_limits_are_set_shown_and_audited),
	        cmocka_unit_test(test_limits_that_are_wrong_are_refused),
	        cmocka_unit_test(test_below_the_reserve_uploads_wait_and_an_alarm_is_open),
	        cmocka_unit_test(test_reserve_without_reflinks_has_room_for_the_largest_images),
	        cmocka_unit_test(test_step_takes_one_upload_and_says_that_there_are_more),
	        cmocka_unit_test(test_metrics_have_every_group_tenant_and_alarm),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

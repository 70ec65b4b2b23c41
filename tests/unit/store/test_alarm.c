/* SPDX-License-Identifier: MIT */
/* Alarms: their life, their bounds, what a restart, damage and a flood leave of them; what makes them. */
#include "tests/unit/store/lab.h"

#include "engine/store/alarm.h"
#include "engine/store/quota.h"
#include "sosie/audit.h"

#define MIB (1u << 20)

struct seen {
	unsigned open, closed;
	struct sosie_alarm last;                       /* open or closed */
	struct sosie_alarm by_kind[SOSIE_ALARM_KINDS]; /* open ones */
};

static int see(void *arg, const struct sosie_alarm *a)
{
	struct seen *s = arg;
	s->open += a->closed_ms == 0;
	s->closed += a->closed_ms != 0;
	s->last = *a;
	if (!a->closed_ms)
		s->by_kind[a->kind] = *a;
	return 0;
}

static struct seen seen_at(struct lab *l, const char *tenant, const char *group)
{
	struct seen s = {.open = 0};
	OK(l, sosie_alarm_each(l->store, tenant, group, see, &s, &l->err));
	return s;
}

static struct seen seen_in_all(struct lab *l)
{
	struct seen s = {.open = 0};
	OK(l, sosie_alarm_walk(l->store, NULL, NULL, see, &s, &l->err));
	return s;
}

static void set(struct lab *l, enum sosie_alarm_kind kind, const char *text)
{
	OK(l, sosie_alarm_set(l->store, "acme", "erp", kind, text, &l->err));
}

static void start(struct lab *l)
{
	lab_init(l, 1u << 28, 0, false);
	lab_accept(l); /* makes the group */
	model_add(&l->model, "root", MIB);
}

static void reopen(struct lab *l)
{
	lab_close(l);
	lab_open(l);
}

static int count_entry(void *arg, const struct sosie_audit_entry *e)
{
	*(unsigned *)arg += e->kind == SOSIE_AUDIT_ALARM;
	return 0;
}

static unsigned audited(struct lab *l, const char *tenant)
{
	unsigned n = 0;
	OK(l, sosie_audit_each(l->store, tenant, count_entry, &n, &l->err));
	return n;
}

static void policy(struct lab *l, const char *path, uint64_t rpo_ms)
{
	char text[100];
	int n = snprintf(text, sizeof(text), "{\"format\":1,\"values\":{\"rpo\":%llu},\"changes\":[]}",
	                 (unsigned long long)rpo_ms);
	OK(l, sosie_io_write_file(l->io, path, text, (size_t)n, 0640, &l->err));
}

static void watch(struct lab *l)
{
	OK(l, sosie_keeper_watch(l->store, "acme", "erp", &l->err));
}

/* --- life
 * ---------------------------------------------------------------------------------------------------------
 */

static void test_alarm_opens_counts_and_closes_when_its_cause_is_over(void **state)
{
	struct lab l;
	(void)state;
	start(&l);
	set(&l, SOSIE_ALARM_LATE, "first");
	l.clock.now_ms += 5;
	set(&l, SOSIE_ALARM_LATE, "second");
	struct seen s = seen_at(&l, "acme", "erp");
	assert_int_equal(s.open, 1);
	assert_int_equal(s.last.number, 1);
	assert_int_equal(s.last.count, 2);
	assert_int_equal(s.last.seen_ms - s.last.since_ms, 5);
	assert_string_equal(s.last.text, "second");
	assert_string_equal(s.last.tenant.s, "acme");
	assert_string_equal(s.last.group.s, "erp");
	assert_int_equal(audited(&l, "acme"), 1);
	set(&l, SOSIE_ALARM_LATE, NULL);
	set(&l, SOSIE_ALARM_LATE, NULL);
	s = seen_at(&l, "acme", "erp");
	assert_int_equal(s.open, 0);
	assert_int_equal(s.last.closed_ms, l.clock.now_ms);
	assert_int_equal(audited(&l, "acme"), 2);
	set(&l, SOSIE_ALARM_LATE, "again");
	assert_int_equal(seen_at(&l, "acme", "erp").last.number, 2);
	lab_fini(&l);
}

static void test_alarm_numbers_are_unique_over_all_places(void **state)
{
	struct lab l;
	(void)state;
	start(&l);
	set(&l, SOSIE_ALARM_FORK, "of the group");
	OK(&l, sosie_alarm_set(l.store, "acme", NULL, SOSIE_ALARM_QUOTA, "of the tenant", &l.err));
	OK(&l, sosie_alarm_set(l.store, NULL, NULL, SOSIE_ALARM_CLOCK, "of the store", &l.err));
	reopen(&l);
	set(&l, SOSIE_ALARM_REFUSED, "of the group");
	struct seen s = seen_in_all(&l);
	assert_int_equal(s.open, 4);
	assert_int_equal(s.by_kind[SOSIE_ALARM_FORK].number, 1);
	assert_int_equal(s.by_kind[SOSIE_ALARM_QUOTA].number, 2);
	assert_int_equal(s.by_kind[SOSIE_ALARM_CLOCK].number, 3);
	assert_int_equal(s.by_kind[SOSIE_ALARM_REFUSED].number, 4);
	assert_int_equal(audited(&l, NULL), 1);
	assert_int_equal(audited(&l, "acme"), 3);
	lab_fini(&l);
}

/* The store's file is lost: numbers go on above what is there. */
static void test_alarm_number_after_the_stores_file_is_lost_is_new(void **state)
{
	struct lab l;
	(void)state;
	start(&l);
	set(&l, SOSIE_ALARM_FORK, "1");
	set(&l, SOSIE_ALARM_REFUSED, "2");
	OK(&l, sosie_io_unlink(l.io, "/s/alarms.json", &l.err));
	reopen(&l);
	set(&l, SOSIE_ALARM_DAMAGE, "3");
	assert_int_equal(seen_at(&l, "acme", "erp").by_kind[SOSIE_ALARM_DAMAGE].number, 3);
	lab_fini(&l);
}

static void test_alarm_closed_by_an_operator_keeps_the_reason(void **state)
{
	struct lab l;
	struct sosie_alarm a;
	(void)state;
	start(&l);
	set(&l, SOSIE_ALARM_FORK, "another writer");
	assert_int_equal(sosie_alarm_close(l.store, "A7", NULL, &a, &l.err), -SOSIE_ENOTFOUND);
	assert_int_equal(sosie_alarm_close(l.store, "17", NULL, &a, &l.err), -SOSIE_EUSAGE);
	assert_int_equal(sosie_alarm_close(l.store, "A01", NULL, &a, &l.err), -SOSIE_EUSAGE);
	OK(&l, sosie_alarm_close(l.store, "a1", "it was us", &a, &l.err));
	assert_int_equal(a.number, 1);
	assert_int_equal(sosie_alarm_close(l.store, "A1", NULL, &a, &l.err), -SOSIE_EEXISTS);
	struct seen s = seen_at(&l, "acme", "erp");
	assert_int_equal(s.open, 0);
	assert_string_equal(s.last.reason, "it was us");
	assert_int_equal(audited(&l, "acme"), 2);
	lab_fini(&l);
}

static void test_alarm_that_closes_by_itself_is_not_closed_by_an_operator(void **state)
{
	struct lab l;
	struct sosie_alarm a;
	(void)state;
	start(&l);
	set(&l, SOSIE_ALARM_LATE, "silence");
	assert_int_equal(sosie_alarm_close(l.store, "A1", NULL, &a, &l.err), -SOSIE_EREFUSED);
	assert_int_equal(seen_at(&l, "acme", "erp").open, 1);
	lab_fini(&l);
}

/* --- bounds
 * ------------------------------------------------------------------------------------------------------- */

static void test_alarm_flood_of_refusals_is_one_alarm_and_one_entry(void **state)
{
	struct lab l;
	(void)state;
	start(&l);
	for (unsigned i = 0; i < 300; i++) {
		struct make_upload u = lab_upload(&l, NULL, 0);
		memset(u.parent.b, 7, sizeof(u.parent.b));
		make_upload(&u);
		assert_int_equal(lab_accept(&l).refused, 1);
	}
	struct seen s = seen_at(&l, "acme", "erp");
	assert_int_equal(s.open, 1);
	assert_int_equal(s.closed, 0);
	assert_int_equal(s.last.kind, SOSIE_ALARM_FORK);
	assert_int_equal(s.last.count, 300);
	assert_int_equal(audited(&l, "acme"), 1);
	lab_fini(&l);
}

/* What comes and goes closes five times a minute and stays open else; the history has an end. */
static void test_alarm_that_comes_and_goes_fills_nothing(void **state)
{
	struct lab l;
	struct seen s;
	(void)state;
	start(&l);
	for (unsigned i = 0; i < 1000; i++) {
		set(&l, SOSIE_ALARM_LATE, "comes");
		set(&l, SOSIE_ALARM_LATE, NULL);
	}
	s = seen_at(&l, "acme", "erp");
	assert_int_equal(s.closed, 5);
	assert_int_equal(s.open, 1);
	assert_int_equal(audited(&l, "acme"), 11);
	for (unsigned minute = 0; minute < 10; minute++) {
		l.clock.now_ms += 60000;
		for (unsigned i = 0; i < 20; i++) {
			set(&l, SOSIE_ALARM_LATE, NULL);
			set(&l, SOSIE_ALARM_LATE, "comes");
		}
	}
	s = seen_at(&l, "acme", "erp");
	assert_int_equal(s.closed, SOSIE_ALARMS_CLOSED);
	assert_int_equal(s.open, 1);
	assert_int_equal(audited(&l, "acme"), 111);
	lab_fini(&l);
}

static void test_alarm_of_one_group_leaves_another_alone(void **state)
{
	struct lab l;
	(void)state;
	start(&l);
	OK(&l, group_make(l.store, "acme", "crm", &l.err));
	OK(&l, sosie_alarm_set(l.store, "acme", "crm", SOSIE_ALARM_DAMAGE, "rot", &l.err));
	for (unsigned i = 0; i < 50; i++) {
		l.clock.now_ms += 60000;
		set(&l, SOSIE_ALARM_LATE, "comes");
		set(&l, SOSIE_ALARM_LATE, NULL);
	}
	struct seen s = seen_at(&l, "acme", "crm");
	assert_int_equal(s.open, 1);
	assert_int_equal(s.closed, 0);
	assert_int_equal(s.last.number, 1);
	lab_fini(&l);
}

static void test_alarm_text_of_a_peer_is_cut(void **state)
{
	struct lab l;
	char text[2000];
	(void)state;
	start(&l);
	memset(text, 'x', sizeof(text));
	memcpy(text + SOSIE_ALARM_TEXT - 1, "\xc3\xa9", 2); /* the cut is inside of this */
	text[sizeof(text) - 1] = '\0';
	set(&l, SOSIE_ALARM_REFUSED, text);
	reopen(&l);
	struct seen s = seen_at(&l, "acme", "erp");
	assert_int_equal(s.open, 1);
	assert_int_equal(strlen(s.last.text), SOSIE_ALARM_TEXT - 1);
	lab_fini(&l);
}

/* --- restarts and damage
 * ------------------------------------------------------------------------------------------ */

/* As another process sees it. */
static uint64_t count_on_disk(struct lab *l)
{
	struct seen s = {.open = 0};
	struct sosie_store *other;
	OK(l, sosie_store_open(l->io, &l->clock.clock, "/s", &other, &l->err));
	OK(l, sosie_alarm_each(other, "acme", "erp", see, &s, &l->err));
	sosie_store_close(other);
	return s.last.count;
}

static void test_alarm_stays_open_over_a_restart_with_its_count(void **state)
{
	struct lab l;
	(void)state;
	start(&l);
	for (unsigned i = 0; i < 3; i++)
		set(&l, SOSIE_ALARM_REFUSED, "bad");
	sosie_alarm_flush(l.store, true);
	reopen(&l);
	assert_int_equal(seen_at(&l, "acme", "erp").last.count, 3);
	set(&l, SOSIE_ALARM_REFUSED, "bad");
	sosie_alarm_flush(l.store, false); /* not yet */
	struct seen s = seen_at(&l, "acme", "erp");
	assert_int_equal(s.last.count, 4);
	assert_int_equal(s.last.number, 1);
	assert_int_equal(count_on_disk(&l), 3);
	l.clock.now_ms += 10000;
	sosie_alarm_flush(l.store, false);
	assert_int_equal(count_on_disk(&l), 4);
	set(&l, SOSIE_ALARM_REFUSED, "bad");
	reopen(&l); /* an orderly end loses nothing */
	assert_int_equal(seen_at(&l, "acme", "erp").last.count, 5);
	lab_fini(&l);
}

/* Another process closes while this one has counted: what was counted is gone with it, and the next opens a
 * new one. */
static void test_alarm_closed_elsewhere_is_seen(void **state)
{
	struct lab l;
	struct sosie_store *other;
	struct sosie_alarm a;
	(void)state;
	start(&l);
	set(&l, SOSIE_ALARM_REFUSED, "bad");
	set(&l, SOSIE_ALARM_REFUSED, "bad");
	const uint64_t version = sosie_alarm_version(l.store);
	OK(&l, sosie_store_open(l.io, &l.clock.clock, "/s", &other, &l.err));
	OK(&l, sosie_alarm_close(other, "A1", NULL, &a, &l.err));
	sosie_store_close(other);
	sosie_alarm_flush(l.store, true);
	struct seen s = seen_at(&l, "acme", "erp");
	assert_int_equal(s.open, 0);
	assert_int_equal(s.closed, 1);
	assert_true(sosie_alarm_version(l.store) > version);
	set(&l, SOSIE_ALARM_REFUSED, "bad");
	assert_int_equal(seen_at(&l, "acme", "erp").last.number, 2);
	lab_fini(&l);
}

/* Another process opens one in the same file: what this one has counted is not lost with it. */
static void test_alarm_counted_here_survives_a_change_elsewhere(void **state)
{
	struct lab l;
	struct sosie_store *other;
	(void)state;
	start(&l);
	for (unsigned i = 0; i < 3; i++)
		set(&l, SOSIE_ALARM_REFUSED, "bad");
	OK(&l, sosie_store_open(l.io, &l.clock.clock, "/s", &other, &l.err));
	for (unsigned i = 0; i < 2; i++) {
		OK(&l, sosie_alarm_set(other, "acme", "erp", i ? SOSIE_ALARM_LATE : SOSIE_ALARM_DAMAGE, "rot",
		                       &l.err));
		assert_int_equal(seen_at(&l, "acme", "erp").by_kind[SOSIE_ALARM_REFUSED].count, 3);
	}
	sosie_store_close(other);
	reopen(&l);
	struct seen s = seen_at(&l, "acme", "erp");
	assert_int_equal(s.open, 3);
	assert_int_equal(s.by_kind[SOSIE_ALARM_REFUSED].count, 3);
	lab_fini(&l);
}

static void test_alarm_file_damaged_is_kept_aside_and_told(void **state)
{
	static const char *const bad[] = {
	        "{\"format\":1,\"alarms\":[{\"id\":1,\"ki",
	        "",
	        "{\"format\":1,\"alarms\":[{\"id\":1,\"kind\":\"nonsense\",\"since\":\"2026-11-22T00:00:00."
	        "000Z\","
	        "\"seen\":\"2026-11-22T00:00:00.000Z\",\"count\":1,\"text\":\"\",\"closed\":null,\"reason\":"
	        "null}]}",
	};
	(void)state;
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct lab l;
		struct seen s = {.open = 0};
		start(&l);
		set(&l, SOSIE_ALARM_FORK, "another writer");
		OK(&l, sosie_io_write_file(l.io, "/s/acme/erp/state/alarms.json", bad[i], strlen(bad[i]),
		                           0640, &l.err));
		assert_int_equal(sosie_alarm_each(l.store, "acme", "erp", see, &s, &l.err), -SOSIE_ECORRUPT);
		if (i == 0)
			set(&l, SOSIE_ALARM_LATE, NULL); /* as the keeper looks, each second */
		else
			set(&l, SOSIE_ALARM_REFUSED, "bad");
		s = seen_at(&l, "acme", "erp");
		assert_int_equal(s.open, i == 0 ? 1 : 2);
		assert_int_equal(s.by_kind[SOSIE_ALARM_DAMAGE].kind, SOSIE_ALARM_DAMAGE);
		assert_non_null(strstr(s.by_kind[SOSIE_ALARM_DAMAGE].text, "alarms.json.damaged"));
		assert_true(s.by_kind[SOSIE_ALARM_DAMAGE].number >= 2);
		assert_true(sosie_io_exists(l.io, "/s/acme/erp/state/alarms.json.damaged"));
		lab_fini(&l);
	}
}

/* Power goes at any instant of an opening and a closing: the file is whole, no number is used twice. */
static void test_alarm_power_cut_leaves_a_whole_file(void **state)
{
	unsigned cuts = 0;
	(void)state;
	for (uint64_t n = 0;; n++) {
		struct lab l;
		struct sosie_alarm a;
		start(&l);
		set(&l, SOSIE_ALARM_REFUSED, "before");
		sosie_disk_cut_after(l.disk, n);
		sosie_alarm_set(l.store, "acme", "erp", SOSIE_ALARM_FORK, "during", NULL);
		sosie_alarm_close(l.store, "A1", "x", &a, NULL);
		const bool cut = sosie_disk_is_cut(l.disk);
		lab_close(&l);
		sosie_disk_restart(l.disk, SOSIE_FATE_TORN);
		sosie_disk_cut_after(l.disk, UINT64_MAX);
		lab_open(&l);
		struct seen s = seen_at(&l, "acme", "erp");
		assert_in_range(s.open + s.closed, 1, 2);
		const uint64_t last = s.last.number;
		set(&l, SOSIE_ALARM_DAMAGE, "after");
		assert_true(seen_at(&l, "acme", "erp").last.number > last);
		lab_fini(&l);
		cuts += cut;
		if (!cut)
			break;
	}
	assert_true(cuts > 10);
}

/* --- what makes alarms
 * -------------------------------------------------------------------------------------------- */

static uint8_t page[4096];

static void point(struct lab *l)
{
	const struct change c[] = {{0, 0, sizeof(page), page}};
	page[0]++;
	lab_point(l, c, 1);
}

static void test_late_without_a_point_or_same_within_the_objective(void **state)
{
	struct lab l;
	(void)state;
	start(&l);
	policy(&l, "/s/acme/policy.json", 5000);
	watch(&l);
	l.clock.now_ms += 100000;
	watch(&l);
	assert_int_equal(seen_in_all(&l).open, 0); /* no point yet: nothing to be late with */
	point(&l);
	l.clock.now_ms += 5000;
	watch(&l);
	assert_int_equal(seen_in_all(&l).open, 0);
	l.clock.now_ms += 1;
	watch(&l);
	struct seen s = seen_at(&l, "acme", "erp");
	assert_int_equal(s.open, 1);
	assert_int_equal(s.last.kind, SOSIE_ALARM_LATE);
	reopen(&l); /* a keeper that begins sees it too, and it is the same */
	l.clock.now_ms += 1000;
	watch(&l);
	assert_int_equal(seen_at(&l, "acme", "erp").last.count, 2);
	point(&l);
	watch(&l);
	s = seen_at(&l, "acme", "erp");
	assert_int_equal(s.open, 0);
	assert_int_equal(s.closed, 1);
	lab_fini(&l);
}

static int64_t wall_back_ms; /* so much the wall clock was set back */

static int64_t wall_set_back(struct sosie_clock *clock)
{
	return sosie_mono_ms(clock) - wall_back_ms; /* both are one in the virtual clock */
}

/* Silence cannot hide behind a wall clock that was set back. */
static void test_late_is_seen_though_the_wall_clock_was_set_back(void **state)
{
	struct lab l;
	(void)state;
	start(&l);
	struct sosie_clock_ops ops = *l.clock.clock.ops;
	ops.wall_ms = wall_set_back;
	wall_back_ms = 0;
	l.clock.clock.ops = &ops;
	policy(&l, "/s/acme/policy.json", 5000);
	point(&l);
	watch(&l);
	wall_back_ms = 3600000;
	l.clock.now_ms += 5000;
	watch(&l);
	assert_int_equal(seen_in_all(&l).open, 0);
	l.clock.now_ms += 1;
	watch(&l);
	assert_int_equal(seen_in_all(&l).open, 1);
	lab_fini(&l);
}

static void test_late_is_not_said_of_a_group_without_an_objective(void **state)
{
	struct lab l;
	(void)state;
	start(&l);
	point(&l);
	l.clock.now_ms += 1000000000;
	watch(&l);
	assert_int_equal(seen_in_all(&l).open, 0);
	lab_fini(&l);
}

static void test_objective_is_the_nearest_levels(void **state)
{
	struct lab l;
	uint64_t rpo;
	(void)state;
	start(&l);
	struct sosie_group *g = lab_group(&l);
	OK(&l, group_objective(g, &rpo, &l.err));
	assert_int_equal(rpo, 0);
	policy(&l, "/s/policy.json", 1);
	OK(&l, group_objective(g, &rpo, &l.err));
	assert_int_equal(rpo, 1);
	policy(&l, "/s/acme/policy.json", 2);
	OK(&l, group_objective(g, &rpo, &l.err));
	assert_int_equal(rpo, 2);
	policy(&l, "/s/acme/erp/policy.json", 3);
	OK(&l, group_objective(g, &rpo, &l.err));
	assert_int_equal(rpo, 3);
	policy(&l, "/s/acme/erp/policy.json", 0); /* none, said at the group */
	OK(&l, group_objective(g, &rpo, &l.err));
	assert_int_equal(rpo, 0);
	sosie_group_close(g);
	lab_fini(&l);
}

/* A "same" of the head is as good as a point; of another state it is not. */
static void test_late_ends_with_same(void **state)
{
	struct lab l;
	char text[300], hex[65], stamp[SOSIE_TIME_TEXT];
	(void)state;
	start(&l);
	policy(&l, "/s/acme/policy.json", 5000);
	point(&l);
	l.clock.now_ms += 6000;
	watch(&l);
	assert_int_equal(seen_at(&l, "acme", "erp").open, 1);
	for (int right = 0; right < 2; right++) {
		struct sosie_digest head = lab_head(&l);
		head.b[0] ^= right ? 0 : 1;
		sosie_hex(hex, head.b, sizeof(head.b));
		sosie_time_text(stamp, l.clock.now_ms);
		int n = snprintf(
		        text, sizeof(text),
		        "{\"format\":1,\"time\":\"%s\",\"digest\":\"%s\",\"key\":\"0011223344556677\"}",
		        stamp, hex);
		OK(&l,
		   sosie_io_write_file(l.io, "/s/acme/erp/state/same.json", text, (size_t)n, 0640, &l.err));
		reopen(&l);
		watch(&l);
		assert_int_equal(seen_at(&l, "acme", "erp").open, right ? 0 : 1);
	}
	lab_fini(&l);
}

/* A receiver makes the folder of an inbox; the group is there when a keeper has taken something of it. */
static void test_group_that_is_only_in_the_inbox_is_no_alarm(void **state)
{
	struct lab l;
	(void)state;
	start(&l);
	policy(&l, "/s/policy.json", 1);
	OK(&l, sosie_io_ensure_dir(l.io, "/s/acme/_inbox/new", 0770, &l.err));
	OK(&l, sosie_keeper_watch(l.store, "acme", "new", &l.err));
	assert_int_equal(seen_in_all(&l).open, 0);
	lab_fini(&l);
}

static void test_refused_fork_and_repeat_make_their_alarms(void **state)
{
	struct lab l;
	struct seen s;
	(void)state;
	start(&l);
	point(&l);
	struct make_upload u = lab_upload(&l, NULL, 0);
	u.claim_part = 1ull << 50;
	make_upload(&u);
	lab_expect_refused(&l, &u, 0);
	s = seen_at(&l, "acme", "erp");
	assert_int_equal(s.open, 1);
	assert_int_equal(s.last.kind, SOSIE_ALARM_REFUSED);
	u = lab_upload(&l, NULL, 0);
	memset(u.parent.b, 9, sizeof(u.parent.b));
	make_upload(&u);
	lab_expect_refused(&l, &u, SOSIE_EPARENT);
	s = seen_at(&l, "acme", "erp");
	assert_int_equal(s.open, 2);
	assert_int_equal(s.last.kind, SOSIE_ALARM_FORK);
	point(&l); /* that does not end them: a person has to look */
	watch(&l);
	assert_int_equal(seen_at(&l, "acme", "erp").open, 2);
	lab_fini(&l);
}

/* One byte of our own images rots: the point is accepted after a second try, and said to have needed one. */
static void test_damage_of_the_working_images_is_told(void **state)
{
	struct lab l;
	struct sosie_file *f;
	(void)state;
	start(&l);
	point(&l);
	OK(&l, sosie_keeper_settle(l.store, "acme", "erp", &l.err));
	reopen(&l);
	OK(&l, sosie_io_openat(l.io, "/s/acme/erp/head/root.tree", SOSIE_READ | SOSIE_WRITE, 0, &f, &l.err));
	/* The digest of leaf 0: the fifth block (docs/format.md, "Tree file"). */
	OK(&l, sosie_io_pwrite(l.io, f, "rot", 3, 4096 + 4 * 8192, &l.err));
	sosie_io_close(l.io, f, NULL);
	const struct change c[] = {{0, 8192, sizeof(page), page}};
	lab_point(&l, c, 1);
	struct seen s = seen_at(&l, "acme", "erp");
	assert_int_equal(s.open, 1);
	assert_int_equal(s.last.kind, SOSIE_ALARM_DAMAGE);
	assert_non_null(strstr(s.last.text, "made anew"));
	lab_check_points(&l);
	lab_fini(&l);
}

static void test_chain_that_cannot_be_read_is_told(void **state)
{
	struct lab l;
	struct sosie_accept_result r;
	struct sosie_file *f;
	(void)state;
	start(&l);
	point(&l);
	point(&l);
	OK(&l,
	   sosie_io_openat(l.io, "/s/acme/erp/chain/000001.chain", SOSIE_READ | SOSIE_WRITE, 0, &f, &l.err));
	OK(&l, sosie_io_pwrite(l.io, f, "rot", 3, 0, &l.err));
	sosie_io_close(l.io, f, NULL);
	reopen(&l);
	assert_int_equal(sosie_keeper_accept(l.store, "acme", "erp", &r, &l.err), -SOSIE_ECORRUPT);
	assert_int_equal(seen_at(&l, "acme", "erp").last.kind, SOSIE_ALARM_DAMAGE);
	lab_fini(&l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_alarm_opens_counts_and_closes_when_its_cause_is_over),
	        cmocka_unit_test(test_alarm_numbers_are_unique_over_all_places),
	        cmocka_unit_test(test_alarm_number_after_the_stores_file_is_lost_is_new),
	        cmocka_unit_test(test_alarm_closed_by_an_operator_keeps_the_reason),
	        cmocka_unit_test(test_alarm_that_closes_by_itself_is_not_closed_by_an_operator),
	        cmocka_unit_test(test_alarm_flood_of_refusals_is_one_alarm_and_one_entry),
	        cmocka_unit_test(test_alarm_that_comes_and_goes_fills_nothing),
	        cmocka_unit_test(test_alarm_of_one_group_leaves_another_alone),
	        cmocka_unit_test(test_alarm_text_of_a_peer_is_cut),
	        cmocka_unit_test(test_alarm_stays_open_over_a_restart_with_its_count),
	        cmocka_unit_test(test_alarm_closed_elsewhere_is_seen),
	        cmocka_unit_test(test_alarm_counted_here_survives_a_change_elsewhere),
	        cmocka_unit_test(test_alarm_file_damaged_is_kept_aside_and_told),
	        cmocka_unit_test(test_alarm_power_cut_leaves_a_whole_file),
	        cmocka_unit_test(test_late_without_a_point_or_same_within_the_objective),
	        cmocka_unit_test(test_late_is_seen_though_the_wall_clock_was_set_back),
	        cmocka_unit_test(test_late_is_not_said_of_a_group_without_an_objective),
	        cmocka_unit_test(test_objective_is_the_nearest_levels),
	        cmocka_unit_test(test_late_ends_with_same),
	        cmocka_unit_test(test_group_that_is_only_in_the_inbox_is_no_alarm),
	        cmocka_unit_test(test_refused_fork_and_repeat_make_their_alarms),
	        cmocka_unit_test(test_damage_of_the_working_images_is_told),
	        cmocka_unit_test(test_chain_that_cannot_be_read_is_told),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

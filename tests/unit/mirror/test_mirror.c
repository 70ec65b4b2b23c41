/* SPDX-License-Identifier: MIT */
/* The mirror's schedule: what is looked at and replicated when, what stops a group and what does not, reload,
 * the metrics file. */
#include "tests/unit/mirror/fake.h"

#include <dirent.h>
#include <sys/resource.h>

/* --- tests
 * ---------------------------------------------------------------------------------------------------------
 */

static void test_mirror_idle_groups_one_same_message_for_all(void **state)
{
	(void)state;
	reset(20);
	struct sosie_mirror *m = start(make(20, 1, 4, 200));
	struct sosie_json *doc, *g;

	becomes(m, "acme/g7", "idle");
	reaches(&same_groups, 60);
	pthread_mutex_lock(&lock);
	unsigned messages = same_messages, groups = same_groups;
	pthread_mutex_unlock(&lock);
	assert_true(groups >= messages * 8); /* not one each */
	for (unsigned i = 0; i < 20; i++)
		assert_int_equal(peek(&fakes[i].cycles), 1);
	g = status_of(m, "acme/g7", &doc);
	int64_t rpo;
	assert_int_equal(sosie_json_i64(g, "rpo_ms", &rpo, NULL), 0); /* known */
	sosie_json_free(doc);
	assert_true(sosie_mirror_alive(m));
	stop(m);
}

static void test_mirror_standby_hangs_other_goes_on(void **state)
{
	(void)state;
	reset(6);
	for (unsigned i = 0; i < 6; i += 2)
		fakes[i].hang = true; /* all of standby0 */
	struct sosie_mirror *m = start(make(6, 2, 2, 100));

	reaches(&fakes[1].looks, 5);
	reaches(&fakes[3].looks, 5);
	reaches(&fakes[5].looks, 5);
	pthread_mutex_lock(&lock);
	assert_true(running <= 2); /* the slots of one standby */
	fakes[1].changed = true;
	pthread_mutex_unlock(&lock);
	reaches(&fakes[1].cycles, 2);
	assert_true(sosie_mirror_alive(m));
	for (unsigned i = 0; i < 6; i += 2)
		set(&fakes[i].hang, false);
	for (unsigned i = 0; i < 6; i += 2)
		reaches(&fakes[i].cycles, 1); /* also the one that waited for a slot */
	stop(m);
}

static void test_mirror_more_groups_than_slots_never_more_at_once(void **state)
{
	(void)state;
	reset(12);
	struct sosie_mirror *m = start(make(12, 1, 3, 100));

	for (unsigned round = 0; round < 5; round++) {
		for (unsigned i = 0; i < 12; i++)
			set(&fakes[i].changed, true);
		for (unsigned i = 0; i < 12; i++)
			reaches(&fakes[i].cycles, round + 1);
	}
	assert_in_range(peek(&most_running), 1, 3);
	stop(m);
}

static void test_mirror_retry_error_comes_back_and_is_told_once(void **state)
{
	(void)state;
	reset(1);
	fakes[0].fail = SOSIE_ENOSPACE;
	struct sosie_mirror *m = start(make(1, 1, 1, 100));

	reaches(&fakes[0].cycles, 2); /* the second try comes by itself */
	becomes(m, "acme/g0", "retrying");
	assert_int_equal(peek(&told_errors), 1);
	pthread_mutex_lock(&lock);
	fakes[0].fail = SOSIE_OK;
	pthread_mutex_unlock(&lock);
	becomes(m, "acme/g0", "idle");
	stop(m);
}

/* -1: not known (null). */
static void shows_backlog(struct sosie_mirror *m, const char *group, int64_t wanted)
{
	int64_t end = sosie_mono_ms(sosie_clock_real()) + WAIT_MS, bytes = -2;

	while (bytes != wanted) {
		struct sosie_json *doc, *g = status_of(m, group, &doc);

		if (g && sosie_json_i64(g, "backlog_bytes", &bytes, NULL) != 0)
			bytes = -1;
		sosie_json_free(doc);
		if (sosie_mono_ms(sosie_clock_real()) > end)
			fail_msg("backlog_bytes is %lld, not %lld", (long long)bytes, (long long)wanted);
		pause_briefly();
	}
}

/* The standby is away: the source is asked what differs, between cycles, and not at each try. */
static void test_mirror_behind_asks_the_source_and_shows_it(void **state)
{
	(void)state;
	reset(1);
	struct sosie_mirror *m = start(make(1, 1, 1, 100));

	becomes(m, "acme/g0", "idle");
	assert_int_equal(peek(&fakes[0].backlogs), 0);
	shows_backlog(m, "acme/g0", 0);
	pthread_mutex_lock(&lock);
	fakes[0].differs = 12345678;
	fakes[0].fail = SOSIE_EPEER;
	fakes[0].changed = true;
	unsigned cycles = fakes[0].cycles;
	pthread_mutex_unlock(&lock);
	reaches(&fakes[0].backlogs, 1);
	shows_backlog(m, "acme/g0", 12345678);
	reaches(&fakes[0].cycles, cycles + 3);
	assert_int_equal(peek(&fakes[0].backlogs), 1);
	pthread_mutex_lock(&lock);
	assert_false(fakes[0].asked_in_cycle);
	fakes[0].fail = SOSIE_OK;
	pthread_mutex_unlock(&lock);
	becomes(m, "acme/g0", "idle");
	shows_backlog(m, "acme/g0", 0);
	stop(m);
}

static void test_mirror_fenced_stops_cycling(void **state)
{
	(void)state;
	reset(2);
	fakes[0].fail = SOSIE_EFENCED;
	struct sosie_mirror *m = start(make(2, 1, 2, 100));

	becomes(m, "acme/g0", "fenced");
	reaches(&fakes[1].looks, 15); /* meanwhile many intervals pass */
	assert_int_equal(peek(&fakes[0].cycles), 1);
	assert_int_equal(peek(&told_errors), 1);
	stop(m);
}

static void test_mirror_idle_group_asks_for_the_head_and_is_fenced(void **state)
{
	(void)state;
	reset(3);
	/* A check each 100 ms at least, though they are looked at once in 5 s (the first time when the grid
	 * comes, anywhere in 5 s): nothing is cut for it. */
	struct sosie_mirror_options o = options_of();
	o.check_ms = 100;
	struct sosie_mirror *m = start_with(make(3, 1, 2, 5000), &o);

	for (unsigned i = 0; i < 3; i++) {
		reaches(&fakes[i].checks, 3);
		assert_in_range(peek(&fakes[i].cycles), 1, 2); /* the grid may have come */
	}
	becomes(m, "acme/g1", "idle");
	pthread_mutex_lock(&lock);
	fakes[1].check_fail = SOSIE_EFENCED;
	pthread_mutex_unlock(&lock);
	becomes(m, "acme/g1", "fenced");
	becomes(m, "acme/g0", "idle");
	reaches(&told_errors, 1); /* told a moment after it shows */
	assert_int_equal(peek(&told_errors), 1);
	stop(m);
}

static void test_mirror_one_fenced_all_of_its_standby_are_checked(void **state)
{
	(void)state;
	reset(8);
	struct sosie_mirror *m = start(make(8, 2, 4, 300)); /* a check a minute: none of its own here */

	for (unsigned i = 0; i < 8; i++)
		reaches(&fakes[i].looks, 3);
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(peek(&fakes[i].checks), 0);
	pthread_mutex_lock(&lock);
	for (unsigned i = 0; i < 8; i += 2)
		fakes[i].check_fail = fakes[i].fail = SOSIE_EFENCED; /* all of standby0 */
	fakes[0].changed = true;                                     /* which only this one sees by itself */
	pthread_mutex_unlock(&lock);
	for (unsigned i = 0; i < 8; i += 2) {
		char name[16];

		snprintf(name, sizeof(name), "acme/g%u", i);
		becomes(m, name, "fenced");
		assert_int_equal(peek(&fakes[i].checks), i > 0);
	}
	for (unsigned i = 1; i < 8; i += 2)
		assert_int_equal(peek(&fakes[i].checks), 0);
	reaches(&told_errors, 4);
	assert_int_equal(peek(&told_errors), 4);
	stop(m);
}

/* From the end of one cycle to the beginning of the next at least four times what it took. */
static void rested(const struct fake *f, unsigned one, unsigned next)
{
	pthread_mutex_lock(&lock);
	assert_true(next < TIMES && f->ended_ms[one] - f->begun_ms[one] >= f->read_ms);
	assert_true(f->begun_ms[next] - f->ended_ms[one] >= 4 * (f->ended_ms[one] - f->begun_ms[one]));
	pthread_mutex_unlock(&lock);
}

/* A volume that appears after the start is on a filesystem whose reserve counts; and what is read in place of
 * views rests four times as long as it takes. */
static void test_mirror_volume_appears_later_reserve_holds_and_scan_rests(void **state)
{
	char dir[] = "/tmp/sosie-mirror-XXXXXX", path[64], reason[200] = "";
	struct sosie_config *c = make(1, 1, 1, 100);
	struct sosie_json *doc, *g;
	const char *text;
	bool low;

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/image", dir);
	reset(1);
	configs_alive = 1;
	snprintf(c->groups[0].volumes[0].path, sizeof(c->groups[0].volumes[0].path), "%s", path);
	c->groups[0].source = SOSIE_SOURCE_REFLINK;
	c->view_bytes = UINT64_MAX / 4; /* more than any filesystem has free */
	struct sosie_mirror *m = start(c);

	reaches(&fakes[0].looks, 3);
	assert_int_equal(filesystems(m, &low), 0);
	assert_int_equal(peek(&fakes[0].opens), 1);
	pthread_mutex_lock(&lock);
	fakes[0].read_ms = 200;
	pthread_mutex_unlock(&lock);
	FILE *f = fopen(path, "we");
	assert_non_null(f);
	fclose(f);
	reaches(&fakes[0].opens, 2);
	assert_int_equal(filesystems(m, &low), 1);
	assert_true(low);
	g = status_of(m, "acme/g0", &doc);
	assert_int_equal(sosie_json_str(g, "driver_reason", 200, &text, NULL), 0);
	snprintf(reason, sizeof(reason), "%s", text);
	sosie_json_free(doc);
	assert_non_null(strstr(reason, "below view_space"));
	assert_non_null(strstr(reason, "a fifth of the time"));
	unsigned before = peek(&fakes[0].cycles);
	set(&fakes[0].keep_changed, true);
	set(&fakes[0].changed, true);
	reaches(&fakes[0].cycles, before + 2);
	rested(&fakes[0], before, before + 1);
	stop(m);
	unlink(path);
	rmdir(dir);
}

static void test_mirror_restarted_shows_what_is_recorded(void **state)
{
	(void)state;
	reset(1);
	fakes[0].cut_wall_ms = 1763782020123;
	fakes[0].hang = true;
	struct sosie_mirror *m = start(make(1, 1, 1, 100));
	struct sosie_json *doc, *g;
	const char *text;

	reaches(&fakes[0].cycles, 1); /* no point of this process yet */
	g = status_of(m, "acme/g0", &doc);
	assert_int_equal(sosie_json_str(g, "last_change", 64, &text, NULL), 0);
	assert_string_equal(text, "2025-11-22T03:27:00.123Z");
	assert_int_equal(sosie_json_str(g, "consistency", 64, &text, NULL), 0);
	assert_string_equal(text, "fuzzy");
	sosie_json_free(doc);
	stop(m);
}

static void test_mirror_operator_error_needs_you(void **state)
{
	(void)state;
	reset(1);
	fakes[0].fail = SOSIE_EVOLUME;
	struct sosie_mirror *m = start(make(1, 1, 1, 100));
	struct sosie_json *doc, *g, *e;
	const char *code;

	becomes(m, "acme/g0", "needs you");
	g = status_of(m, "acme/g0", &doc);
	assert_int_equal(sosie_json_obj(g, "error", &e, NULL), 0);
	assert_int_equal(sosie_json_str(e, "code", 64, &code, NULL), 0);
	assert_string_equal(code, "volume-changed");
	sosie_json_free(doc);
	stop(m);
}

static void test_mirror_long_cut_stop_makes_none(void **state)
{
	(void)state;
	reset(2);
	fakes[0].stall_us = 500000;
	fakes[1].stall_us = 50000;
	struct sosie_config *c = make(2, 1, 2, 100);
	for (unsigned i = 0; i < 2; i++) {
		c->groups[i].max_stall_ms = 100;
		c->groups[i].on_long_cut = SOSIE_LONG_CUT_STOP;
	}
	struct sosie_mirror *m = start(c);

	becomes(m, "acme/g0", "stopped");
	reaches(&fakes[1].looks, 5);
	assert_int_equal(peek(&fakes[0].cycles), 0);
	assert_int_equal(peek(&fakes[1].cycles), 1);
	stop(m);
}

static void test_mirror_long_cut_cut_holds_writers_one_percent(void **state)
{
	(void)state;
	reset(1);
	fakes[0].stall_us = 20000; /* allowed again after 2 s */
	struct sosie_config *c = make(1, 1, 1, 100);
	c->groups[0].max_stall_ms = 10;
	fakes[0].keep_changed = true;
	struct sosie_mirror *m = start(c);

	reaches(&fakes[0].cycles, 2);
	assert_true(fakes[0].begun_ms[1] - fakes[0].begun_ms[0] >= 2000);
	stop(m);
}

/* Longer than the interval: on the grid there would be at least 700 ms between two cycles, each time. */
static void test_mirror_cycle_longer_than_interval_next_begins_at_once(void **state)
{
	(void)state;
	reset(1);
	fakes[0].keep_changed = true;
	fakes[0].read_ms = 1100;
	struct sosie_mirror *m = start(make(1, 1, 1, 1000));
	bool at_once = false;

	reaches(&fakes[0].cycles, 6);
	pthread_mutex_lock(&lock);
	for (unsigned n = 1; n < 6; n++)
		at_once |= fakes[0].begun_ms[n] - fakes[0].ended_ms[n - 1] < 100;
	pthread_mutex_unlock(&lock);
	assert_true(at_once);
	stop(m);
}

/* Scan cannot say what has changed meanwhile: nothing is claimed, least of all 0. */
static void test_mirror_scan_behind_a_lost_standby_has_no_known_backlog(void **state)
{
	(void)state;
	reset(1);
	struct sosie_config *c = make(1, 1, 1, 100);
	c->groups[0].source = SOSIE_SOURCE_SCAN;
	fakes[0].keep_changed = true;
	struct sosie_mirror *m = start(c);

	shows_backlog(m, "acme/g0", 0);
	pthread_mutex_lock(&lock);
	fakes[0].fail = SOSIE_EPEER;
	pthread_mutex_unlock(&lock);
	shows_backlog(m, "acme/g0", -1);
	stop(m);
}

static void test_mirror_reload_same_changed_gone_new(void **state)
{
	(void)state;
	reset(4);
	struct sosie_mirror *m = start(make(3, 1, 2, 100)); /* g0, g1, g2 */
	struct sosie_err err = {0};

	for (unsigned i = 0; i < 3; i++)
		reaches(&fakes[i].looks, 3);
	struct sosie_config *c = make(4, 1, 2, 100); /* g0 the same, g1 changed, g2 gone, g3 new */
	c->groups[1].interval_ms = 150;
	struct sosie_config_group gone = c->groups[2];
	c->groups[2] = c->groups[3];
	c->group_count = 3;
	free(gone.state);
	free(gone.volumes);
	assert_int_equal(sosie_mirror_reload(m, c, &err), 0);
	reaches(&fakes[3].cycles, 1);
	reaches(&fakes[1].opens, 2);
	reaches(&fakes[2].drops, 1);
	reaches(&fakes[2].closed, 1);
	assert_int_equal(peek(&fakes[0].opens), 1);
	assert_int_equal(peek(&fakes[0].drops), 0);
	assert_int_equal(peek(&fakes[1].drops), 0);
	assert_int_equal(peek(&fakes[1].cycles), 1); /* it goes on from what it had */
	struct sosie_json *doc;
	assert_null(status_of(m, "acme/g2", &doc));
	sosie_json_free(doc);
	stop(m);
}

static void test_mirror_reload_during_cycle_waits_for_it(void **state)
{
	(void)state;
	reset(2);
	fakes[0].hang = true;
	struct sosie_mirror *m = start(make(2, 1, 2, 100));
	struct sosie_err err = {0};
	struct sosie_config *c = make(2, 1, 3, 100); /* another number of cycles: another standby */

	reaches(&fakes[0].cycles, 1);
	assert_int_equal(sosie_mirror_reload(m, c, &err), 0);
	reaches(&fakes[1].opens, 2);
	assert_int_equal(peek(&fakes[0].opens), 1); /* its cycle is not disturbed */
	set(&fakes[0].hang, false);
	reaches(&fakes[0].opens, 2);
	becomes(m, "acme/g0", "idle");
	stop(m);
}

static void test_mirror_stop_during_cycle_ends_soon(void **state)
{
	(void)state;
	reset(2);
	fakes[0].hang = true;
	struct sosie_mirror *m = start(make(2, 1, 2, 100));

	reaches(&fakes[0].cycles, 1);
	stop(m); /* which sees that all was freed */
}

/* Entries of dir besides . and .. */
static unsigned entries_of(const char *dir)
{
	DIR *d = opendir(dir);
	unsigned n = 0;

	assert_non_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n - 2;
}

static ino_t inode_of(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0 ? st.st_ino : 0;
}

static bool is_link(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0 && S_ISLNK(st.st_mode);
}

/*
 * What another user could lay beside the metrics file: a pipe, or a file of his, of the name that was the
 * temporary one's once (with the process id), and a link of the file's own name. None is opened.
 */
static void test_mirror_metrics_planted_files_are_not_opened(void **state)
{
	(void)state;
	char dir[] = "/tmp/sosie-mirror-XXXXXX", metrics[64], planted[96], victim[64];
	struct stat st;

	assert_non_null(mkdtemp(dir));
	snprintf(metrics, sizeof(metrics), "%s/metrics", dir);
	snprintf(victim, sizeof(victim), "%s/victim", dir);
	snprintf(planted, sizeof(planted), "%s.tmp.%ld", metrics, (long)getpid());
	FILE *f = fopen(victim, "we");
	assert_non_null(f);
	fputs("as it was", f);
	fclose(f);
	for (unsigned round = 0; round < 2; round++) {
		assert_int_equal(round == 0 ? mkfifo(planted, 0666) : link(victim, planted), 0);
		assert_int_equal(symlink(victim, metrics), 0);
		reset(1);
		struct sosie_config *c = make(1, 1, 1, 100);
		c->metrics = strdup(metrics);
		struct sosie_mirror *m = start(c);
		for (unsigned i = 0; i < WAIT_MS / 5 && is_link(metrics); i++)
			sosie_sleep_ms(sosie_clock_real(), 5);
		file_gets(metrics, "sosie_metrics_timestamp_seconds ");
		stop(m);
		assert_int_equal(lstat(metrics, &st), 0);
		assert_true(S_ISREG(st.st_mode));
		assert_true(st.st_ino != inode_of(victim));
		assert_int_equal(lstat(planted, &st), 0);
		assert_true(S_ISFIFO(st.st_mode) || st.st_ino == inode_of(victim));
		assert_true(file_has(victim, "as it was"));
		assert_int_equal(entries_of(dir), 3); /* nothing of ours is left */
		unlink(planted);
		unlink(metrics);
	}
	unlink(victim);
	rmdir(dir);
}

/* A folder stands where the file is to go: the rename fails, and the new file is taken away. */
static void test_mirror_metrics_cannot_be_put_in_place_leaves_nothing(void **state)
{
	(void)state;
	char dir[] = "/tmp/sosie-mirror-XXXXXX", metrics[64];

	assert_non_null(mkdtemp(dir));
	snprintf(metrics, sizeof(metrics), "%s/metrics", dir);
	assert_int_equal(mkdir(metrics, 0700), 0);
	reset(1);
	struct timespec before, after;
	struct stat st;
	assert_int_equal(stat(dir, &st), 0);
	before = st.st_mtim;
	struct sosie_config *c = make(1, 1, 1, 100);
	c->metrics = strdup(metrics);
	struct sosie_mirror *m = start(c);
	reaches(&fakes[0].cycles, 1);
	/* The folder's time tells that a file was made in it. */
	for (unsigned i = 0; i < WAIT_MS / 5; i++) {
		assert_int_equal(stat(dir, &st), 0);
		after = st.st_mtim;
		if (after.tv_sec != before.tv_sec || after.tv_nsec != before.tv_nsec)
			break;
		sosie_sleep_ms(sosie_clock_real(), 5);
	}
	stop(m);
	assert_true(after.tv_sec != before.tv_sec || after.tv_nsec != before.tv_nsec);
	assert_int_equal(entries_of(dir), 1);
	assert_int_equal(rmdir(metrics), 0);
	rmdir(dir);
}

/* The scheduling alone: none is looked at more often than its interval says, by few threads, in little
 * memory. What that costs in processor time bench/idle.sh measures. */
static void test_mirror_thousand_idle_groups_cost_little(void **state)
{
	(void)state;
	reset(GROUPS_MAX);
	struct sosie_mirror *m = start(make(GROUPS_MAX, 1, 4, 1000));
	unsigned looks[GROUPS_MAX];
	struct sosie_json *doc;
	struct rusage u;
	uint64_t threads = 0;

	for (unsigned i = 0; i < GROUPS_MAX; i++)
		reaches(&fakes[i].looks, 2);
	int64_t began = sosie_mono_ms(sosie_clock_real());
	for (unsigned i = 0; i < GROUPS_MAX; i++)
		looks[i] = peek(&fakes[i].looks);
	sosie_sleep_ms(sosie_clock_real(), 4000);
	reaches(&fakes[500].looks, looks[500] + 1);
	for (unsigned i = 0; i < GROUPS_MAX; i++) {
		unsigned now = peek(&fakes[i].looks);
		int64_t intervals = (sosie_mono_ms(sosie_clock_real()) - began) / 1000;

		assert_in_range(now - looks[i], 0, intervals + 2); /* one late from before, one in this one */
	}
	status_of(m, "acme/g0", &doc);
	assert_int_equal(sosie_json_u64(doc, "threads", 2000, &threads, NULL), 0);
	sosie_json_free(doc);
	getrusage(RUSAGE_SELF, &u);
	print_message("1,000 idle groups: %ld MiB, %u threads\n", u.ru_maxrss / 1024, (unsigned)threads);
	assert_true(threads < 40);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	assert_true(u.ru_maxrss < 256 * 1024);
#endif
	stop(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_mirror_idle_groups_one_same_message_for_all),
	        cmocka_unit_test(test_mirror_standby_hangs_other_goes_on),
	        cmocka_unit_test(test_mirror_more_groups_than_slots_never_more_at_once),
	        cmocka_unit_test(test_mirror_retry_error_comes_back_and_is_told_once),
	        cmocka_unit_test(test_mirror_behind_asks_the_source_and_shows_it),
	        cmocka_unit_test(test_mirror_fenced_stops_cycling),
	        cmocka_unit_test(test_mirror_idle_group_asks_for_the_head_and_is_fenced),
	        cmocka_unit_test(test_mirror_one_fenced_all_of_its_standby_are_checked),
	        cmocka_unit_test(test_mirror_volume_appears_later_reserve_holds_and_scan_rests),
	        cmocka_unit_test(test_mirror_restarted_shows_what_is_recorded),
	        cmocka_unit_test(test_mirror_operator_error_needs_you),
	        cmocka_unit_test(test_mirror_long_cut_stop_makes_none),
	        cmocka_unit_test(test_mirror_long_cut_cut_holds_writers_one_percent),
	        cmocka_unit_test(test_mirror_cycle_longer_than_interval_next_begins_at_once),
	        cmocka_unit_test(test_mirror_scan_behind_a_lost_standby_has_no_known_backlog),
	        cmocka_unit_test(test_mirror_reload_same_changed_gone_new),
	        cmocka_unit_test(test_mirror_reload_during_cycle_waits_for_it),
	        cmocka_unit_test(test_mirror_stop_during_cycle_ends_soon),
	        cmocka_unit_test(test_mirror_metrics_planted_files_are_not_opened),
	        cmocka_unit_test(test_mirror_metrics_cannot_be_put_in_place_leaves_nothing),
	        cmocka_unit_test(test_mirror_thousand_idle_groups_cost_little),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

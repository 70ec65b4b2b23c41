/* SPDX-License-Identifier: MIT */
/* What the mirror does when something hangs, fails or runs out: a standby, the log, the alarm program, free
 * space, clones that cost too much; and that its watchdog's question is answered truly. */
#include "tests/unit/mirror/fake.h"

/* --- a clock that can be turned on
 * ------------------------------------------------------------------------------------------- */

static pthread_mutex_t clock_lock = PTHREAD_MUTEX_INITIALIZER; /* held: every other thread's look waits */
static int64_t clock_ahead;
static _Thread_local bool clock_mine;

static int64_t turned_mono(struct sosie_clock *c)
{
	int64_t now;

	(void)c;
	if (!clock_mine)
		pthread_mutex_lock(&clock_lock);
	now = sosie_mono_ms(sosie_clock_real()) + clock_ahead;
	if (!clock_mine)
		pthread_mutex_unlock(&clock_lock);
	return now;
}

static int64_t turned_wall(struct sosie_clock *c)
{
	(void)c;
	return sosie_wall_ms(sosie_clock_real());
}

static void turned_sleep(struct sosie_clock *c, int64_t ms)
{
	(void)c;
	sosie_sleep_ms(sosie_clock_real(), ms);
}

static int turned_random(struct sosie_clock *c, void *dst, size_t len, struct sosie_err *err)
{
	(void)c;
	return sosie_random(sosie_clock_real(), dst, len, err);
}

static const struct sosie_clock_ops turned_ops = {
        .wall_ms = turned_wall, .mono_ms = turned_mono, .sleep_ms = turned_sleep, .random = turned_random};
static struct sosie_clock turned = {&turned_ops};

static void turn_clock(int64_t ms)
{
	pthread_mutex_lock(&clock_lock);
	clock_ahead += ms;
	pthread_mutex_unlock(&clock_lock);
}

static struct sosie_mirror *start_turned(struct sosie_config *c)
{
	struct sosie_mirror_options o = options_of();

	clock_ahead = 0;
	o.clock = &turned;
	return start_with(c, &o);
}

static void becomes_alive(struct sosie_mirror *m, bool wanted)
{
	for (unsigned i = 0; sosie_mirror_alive(m) != wanted; i++) {
		if (i > WAIT_MS / 5)
			fail_msg("it stays %s", wanted ? "dead" : "alive");
		pause_briefly();
	}
}

/* --- files
 * ------------------------------------------------------------------------------------------------------------
 */

struct place {
	char dir[64], image[96], program[96], told[96], metrics[96];
};

static void place_make(struct place *p)
{
	snprintf(p->dir, sizeof(p->dir), "/tmp/sosie-faults-XXXXXX");
	assert_non_null(mkdtemp(p->dir));
	snprintf(p->image, sizeof(p->image), "%s/image", p->dir);
	snprintf(p->program, sizeof(p->program), "%s/alarm", p->dir);
	snprintf(p->told, sizeof(p->told), "%s/told", p->dir);
	snprintf(p->metrics, sizeof(p->metrics), "%s/metrics", p->dir);
	FILE *f = fopen(p->image, "we");
	assert_non_null(f);
	fclose(f);
}

/* first: what the program does before it takes its input. */
static void place_program(const struct place *p, const char *first)
{
	FILE *f = fopen(p->program, "we");

	assert_non_null(f);
	fprintf(f, "#!/bin/sh\n%s\ncat >>%s\necho >>%s\n", first, p->told, p->told);
	fclose(f);
	assert_int_equal(chmod(p->program, 0700), 0);
}

static void place_remove(const struct place *p)
{
	char flag[96];

	snprintf(flag, sizeof(flag), "%s/flag", p->dir);
	unlink(flag);
	unlink(p->image);
	unlink(p->program);
	unlink(p->told);
	unlink(p->metrics);
	assert_int_equal(rmdir(p->dir), 0);
}

static void use_image(struct sosie_config *c, unsigned group, const struct place *p)
{
	snprintf(c->groups[group].volumes[0].path, sizeof(c->groups[group].volumes[0].path), "%s", p->image);
}

static unsigned times_in(const char *path, const char *word)
{
	char text[65536];
	FILE *f = fopen(path, "re");
	size_t n = f ? fread(text, 1, sizeof(text) - 1, f) : 0;
	unsigned count = 0;

	if (f)
		fclose(f);
	text[n] = '\0';
	for (const char *at = text; (at = strstr(at, word)) != NULL; at += strlen(word))
		count++;
	return count;
}

static void file_gets_times(const char *path, const char *word, unsigned wanted)
{
	for (unsigned i = 0; times_in(path, word) < wanted; i++) {
		if (i > WAIT_MS / 5)
			fail_msg("%s has \"%s\" %u times only", path, word, times_in(path, word));
		pause_briefly();
	}
}

static bool log_has(const char *a, const char *b)
{
	bool has = false;

	pthread_mutex_lock(&lock);
	for (unsigned i = 0; i < logged_count; i++)
		has = has || (strstr(logged[i], a) && strstr(logged[i], b));
	pthread_mutex_unlock(&lock);
	return has;
}

static void log_gets(const char *a, const char *b)
{
	for (unsigned i = 0; !log_has(a, b); i++) {
		if (i > WAIT_MS / 5)
			fail_msg("the log does not get \"%s\" with \"%s\"", a, b);
		pause_briefly();
	}
}

/* member of group g0 */
static void shows(struct sosie_mirror *m, const char *member, char *dst, size_t size)
{
	struct sosie_json *doc, *g = status_of(m, "acme/g0", &doc);
	const char *text;

	assert_non_null(g);
	assert_int_equal(sosie_json_str(g, member, 400, &text, NULL), 0);
	snprintf(dst, size, "%s", text);
	sosie_json_free(doc);
}

static unsigned alarms_open(struct sosie_mirror *m)
{
	struct sosie_json *doc, *list;
	size_t count;

	status_of(m, "", &doc);
	assert_int_equal(sosie_json_arr(doc, "alarms", 1000, &list, &count, NULL), 0);
	sosie_json_free(doc);
	return (unsigned)count;
}

static void has_filesystems(struct sosie_mirror *m, int64_t wanted)
{
	bool low;

	for (unsigned i = 0; filesystems(m, &low) != wanted; i++) {
		if (i > WAIT_MS / 5)
			fail_msg("%d filesystems are watched", (int)filesystems(m, &low));
		pause_briefly();
	}
}

/* --- free space
 * ---------------------------------------------------------------------------------------------------------
 */

/* scan is auto's own choice there: nothing is dropped, nothing rests, and the reason is the driver's. */
static void test_mirror_auto_is_scan_free_space_does_not_matter(void **state)
{
	struct sosie_config *c = make(1, 1, 1, 100);
	struct place p;
	char text[200];
	bool low;

	(void)state;
	place_make(&p);
	reset(1);
	configs_alive = 1;
	use_image(c, 0, &p);
	disk_total = 1ull << 40;
	disk_free = 1;
	fakes[0].scan = fakes[0].keep_changed = true;
	fakes[0].read_ms = 300;
	struct sosie_mirror *m = start(c);

	reaches(&fakes[0].cycles, 3);
	assert_int_equal(filesystems(m, &low), 0);
	assert_int_equal(alarms_open(m), 0);
	assert_int_equal(peek(&fakes[0].opens), 1);
	shows(m, "driver_reason", text, sizeof(text));
	assert_string_equal(text, "fake: because");
	reaches(&fakes[0].cycles, 8);
	unsigned without_rest = 0;
	pthread_mutex_lock(&lock);
	for (unsigned i = 0; i < 7; i++)
		without_rest += fakes[0].begun_ms[i + 1] - fakes[0].ended_ms[i] <
		                4 * (fakes[0].ended_ms[i] - fakes[0].begun_ms[i]);
	pthread_mutex_unlock(&lock);
	assert_true(without_rest > 0);
	stop(m);
	place_remove(&p);
}

static void test_mirror_auto_scan_in_place_of_clones_rests(void **state)
{
	struct sosie_config *c = make(1, 1, 1, 100);

	(void)state;
	reset(1);
	configs_alive = 1;
	fakes[0].scan = fakes[0].stands_in = fakes[0].keep_changed = true;
	fakes[0].read_ms = 100;
	struct sosie_mirror *m = start(c);

	reaches(&fakes[0].cycles, 3);
	pthread_mutex_lock(&lock);
	for (unsigned i = 0; i < 2; i++)
		assert_true(fakes[0].begun_ms[i + 1] - fakes[0].ended_ms[i] >=
		            4 * (fakes[0].ended_ms[i] - fakes[0].begun_ms[i]));
	pthread_mutex_unlock(&lock);
	stop(m);
}

static void test_mirror_filesystem_of_no_group_is_not_watched(void **state)
{
	struct sosie_config *c = make(2, 1, 2, 100), *without = make(2, 1, 2, 100);
	struct place p;

	(void)state;
	place_make(&p);
	reset(2);
	configs_alive = 2;
	use_image(c, 1, &p);
	disk_total = 1ull << 40;
	disk_free = 1ull << 34; /* 1 % is the reserve: near enough for many looks */
	struct sosie_mirror *m = start(c);

	has_filesystems(m, 1);
	remove_group(without, 1);
	reload(m, without);
	has_filesystems(m, 0);
	unsigned looks = peek(&statvfs_calls);
	unsigned others = peek(&fakes[0].looks);
	reaches(&fakes[0].looks, others + 15);
	assert_int_equal(peek(&statvfs_calls), looks);
	/* The same group again is watched again. */
	c = make(2, 1, 2, 100);
	use_image(c, 1, &p);
	reload(m, c);
	has_filesystems(m, 1);
	stop(m);
	place_remove(&p);
}

/* A second at the most and, far from the reserve, at the least. */
static void test_mirror_far_from_the_reserve_looks_are_rare(void **state)
{
	struct sosie_config *c = make(1, 1, 1, 100);
	struct place p;

	(void)state;
	place_make(&p);
	reset(1);
	configs_alive = 1;
	use_image(c, 0, &p);
	disk_total = 1ull << 40;
	disk_free = disk_total / 100 * 31;
	struct sosie_mirror *m = start(c);

	reaches(&statvfs_calls, 4); /* the first is the turn's */
	pthread_mutex_lock(&lock);
	for (unsigned i = 2; i < 4; i++)
		assert_true(statvfs_ms[i] - statvfs_ms[i - 1] >= 999);
	disk_free = disk_total / 100 + 1000; /* the reserve is all but reached */
	pthread_mutex_unlock(&lock);
	reaches(&statvfs_calls, 40);
	stop(m);
	place_remove(&p);
}

static void test_mirror_clones_grow_scan_is_opened(void **state)
{
	struct sosie_config *c = make(1, 1, 1, 100);
	char text[200];

	(void)state;
	reset(1);
	configs_alive = 1;
	c->groups[0].max_stall_ms = 10;
	fakes[0].stall_us = 20000;
	fakes[0].growing = true;
	struct sosie_mirror *m = start(c);

	reaches(&fakes[0].opens, 2);
	reaches(&fakes[0].cycles, 1);
	shows(m, "driver", text, sizeof(text));
	assert_string_equal(text, "scan");
	shows(m, "driver_reason", text, sizeof(text));
	assert_non_null(strstr(text, "above max_stall, and longer each time"));
	shows(m, "untracked", text, sizeof(text)); /* what the driver says of its last cut goes with it */
	assert_string_equal(text, "the fake lost it");
	stop(m);
}

/* --- a group that goes
 * ------------------------------------------------------------------------------------------------- */

/* A courier that hangs speaks for it: nothing is opened again and again meanwhile. */
static void test_mirror_group_goes_while_a_courier_hangs_waits_quietly(void **state)
{
	struct sosie_config *c;

	(void)state;
	reset(4);
	struct sosie_mirror *m = start(make(4, 2, 2, 100)); /* g0 and g2 are standby0's */

	set(&same_hangs, true);
	becomes_true(&same_waits);
	for (unsigned i = 0; i < 4; i++)
		reaches(&fakes[i].looks, 3);
	c = make(4, 2, 2, 100);
	for (unsigned i = 4; i > 0; i--)
		if (i != 2)
			remove_group(c, i - 1);
	reload(m, c); /* g1 stays */
	unsigned looks = peek(&fakes[1].looks);
	reaches(&fakes[1].looks, looks + 10);
	for (unsigned i = 0; i < 4; i += 2)
		assert_in_range(peek(&fakes[i].opens), 1, 1);
	set(&same_hangs, false);
	reaches(&fakes[0].drops, 1);
	reaches(&fakes[0].closed, 1);
	reaches(&fakes[2].closed, 1);
	assert_int_equal(peek(&fakes[0].opens), 1);
	stop(m);
}

static void test_mirror_group_goes_views_stay_and_that_is_told(void **state)
{
	struct sosie_config *c = make(2, 1, 2, 100);

	(void)state;
	reset(2);
	struct sosie_mirror *m = start(make(2, 1, 2, 100));

	configs_alive = 2;
	reaches(&fakes[0].looks, 2);
	set(&fakes[0].drops_fail, true);
	remove_group(c, 0);
	reload(m, c);
	log_gets("acme/g0: views that it has left may hold space for good: the view stays",
	         "remove acme.g0.");
	stop(m);
}

/* The configuration changes three times while one cycle runs, the standby that was to come among it. */
static void test_mirror_reload_thrice_during_a_cycle_frees_once(void **state)
{
	struct sosie_config *c;

	(void)state;
	reset(2);
	fakes[0].hang = true;
	struct sosie_mirror *m = start(make(2, 2, 2, 100));

	reaches(&fakes[0].cycles, 1);
	for (unsigned round = 0; round < 3; round++) {
		c = make(2, 2, 3 + round, 100); /* other standbys each time */
		if (round == 1)
			remove_group(c, 0);
		else if (round == 2)
			c->groups[0].interval_ms = 200;
		if (round == 2)
			remove_group(c, 0);
		reload(m, c);
		unsigned looks = peek(&fakes[1].looks);
		reaches(&fakes[1].looks, looks + 3);
	}
	set(&fakes[0].hang, false);
	reaches(&fakes[0].closed, 1);
	reaches(&frees, 4); /* two rounds of standbys that nobody has any more */
	stop(m);
}

static void test_mirror_same_each_cycle_is_told_once(void **state)
{
	(void)state;
	reset(1);
	fakes[0].says_same = fakes[0].keep_changed = true;
	struct sosie_mirror *m = start(make(1, 1, 1, 100));

	reaches(&fakes[0].cycles, 5);
	assert_int_equal(peek(&told_same), 1);
	assert_int_equal(peek(&told_points), 0);
	stop(m);
}

/* --- a standby that is gone
 * --------------------------------------------------------------------------------------------- */

static void test_mirror_standby_lost_alarm_opens_and_closes(void **state)
{
	struct sosie_config *c = make(1, 1, 1, 100);
	struct place p;

	(void)state;
	place_make(&p);
	place_program(&p, ":");
	reset(1);
	configs_alive = 1;
	c->groups[0].rpo_ms = 200;
	c->on_alarm = strdup(p.program);
	struct sosie_mirror *m = start(c);

	becomes(m, "acme/g0", "idle");
	set(&pool_fails, true); /* "same" does not get through, and nothing else is sent */
	file_gets(p.told, "\"state\":\"open\",\"kind\":\"standby-lost\"");
	assert_true(file_has(p.told, "not reached: gone"));
	becomes(m, "acme/g0", "waiting for standby");
	set(&pool_fails, false);
	file_gets(p.told, "\"state\":\"closed\",\"kind\":\"standby-lost\"");
	becomes(m, "acme/g0", "idle");
	stop(m);
	place_remove(&p);
}

static void test_mirror_standby_away_nothing_is_cut(void **state)
{
	(void)state;
	reset(1);
	struct sosie_mirror *m = start(make(1, 1, 1, 100));

	becomes(m, "acme/g0", "idle");
	pthread_mutex_lock(&lock);
	fakes[0].fail = SOSIE_EPEER;
	fakes[0].changed = true;
	pthread_mutex_unlock(&lock);
	becomes(m, "acme/g0", "waiting for standby");
	pthread_mutex_lock(&lock);
	pool_pause = 20;
	unsigned cycles = fakes[0].cycles, looks = fakes[0].looks;
	pthread_mutex_unlock(&lock);
	reaches(&fakes[0].looks, looks + 10);
	assert_in_range(peek(&fakes[0].cycles), cycles, cycles + 1); /* one may have begun just before */
	pthread_mutex_lock(&lock);
	pool_pause = 0;
	fakes[0].fail = SOSIE_OK;
	pthread_mutex_unlock(&lock);
	becomes(m, "acme/g0", "idle");
	stop(m);
}

/* --- alarms
 * --------------------------------------------------------------------------------------------------------------
 */

static void test_mirror_alarm_program_told_at_opening_and_closing(void **state)
{
	struct sosie_config *c = make(1, 1, 1, 100);
	struct place p;
	char id[64];

	(void)state;
	place_make(&p);
	place_program(&p, ":");
	reset(1);
	configs_alive = 1;
	fakes[0].fail = SOSIE_EREFUSED;
	fakes[0].no_facts = true;
	c->groups[0].rpo_ms = 200;
	c->on_alarm = strdup(p.program);
	c->metrics = strdup(p.metrics);
	int64_t began = sosie_wall_ms(sosie_clock_real());
	struct sosie_mirror *m = start(c);

	file_gets(p.told, "\"kind\":\"refused\"");
	file_gets(p.told, "\"kind\":\"rpo\"");
	assert_false(file_has(p.told, "closed\",\"kind"));
	sosie_mirror_config_alarm(m, "/etc/x.yaml", "bad");
	file_gets(p.told, "\"about\":\"/etc/x.yaml\"");
	sosie_mirror_config_alarm(m, "/etc/x.yaml", NULL);
	file_gets(p.told, "\"state\":\"closed\",\"kind\":\"config\"");
	/* Ids go on above those of any process before: the wall clock's milliseconds have their digits. */
	snprintf(id, sizeof(id), "\"id\":%lld", (long long)(began / 1000000));
	assert_true(file_has(p.told, id));
	file_gets(p.metrics, "sosie_metrics_timestamp_seconds ");
	file_gets(p.metrics, "sosie_errors_total{group=\"acme/g0\",standby=\"standby0\"}");
	assert_false(file_has(p.metrics, "sosie_extents{")); /* not known */
	assert_false(file_has(p.metrics, "sosie_view_bytes{"));
	stop(m);
	place_remove(&p);
}

static bool is_late(struct sosie_mirror *m, int64_t *worst)
{
	struct sosie_json *doc, *g = status_of(m, "acme/g0", &doc);
	bool late;

	assert_non_null(g);
	assert_int_equal(sosie_json_bool(g, "late", &late, NULL), 0);
	if (sosie_json_i64(g, "rpo_worst_hour_ms", worst, NULL) != 0)
		*worst = -1;
	sosie_json_free(doc);
	return late;
}

/* One group whose newest point was cut an hour ago, by another process; objective 5 s. */
static struct sosie_config *restarted(void)
{
	struct sosie_config *c;

	reset(1);
	c = make(1, 1, 1, 100);
	c->groups[0].rpo_ms = 5000;
	fakes[0].cut_wall_ms = 1;
	fakes[0].cut_age_ms = 3600000;
	fakes[0].says_same = true;
	return c;
}

static void goes_well(struct sosie_mirror *m)
{
	int64_t worst;

	pthread_mutex_lock(&lock);
	fakes[0].hang = false;
	fakes[0].fail = SOSIE_OK;
	pthread_mutex_unlock(&lock);
	becomes(m, "acme/g0", "idle");
	assert_false(is_late(m, &worst));
	assert_in_range(worst, 0, 1800000); /* the standby's state was never an hour old */
}

/* The recorded cut of a group that was idle says nothing of how old the standby's state is. */
static void test_mirror_restart_of_an_idle_group_is_not_late(void **state)
{
	struct sosie_config *c = restarted();
	int64_t worst;

	(void)state;
	fakes[0].hang = true;
	struct sosie_mirror *m = start(c);

	reaches(&fakes[0].cycles, 1);
	assert_false(is_late(m, &worst));
	goes_well(m);
	stop(m);
}

/* Nor is it excused when the standby cannot be asked. */
static void test_mirror_restart_without_standby_is_late(void **state)
{
	struct sosie_config *c = restarted();
	int64_t worst;

	(void)state;
	fakes[0].fail = SOSIE_EPEER;
	struct sosie_mirror *m = start(c);

	becomes(m, "acme/g0", "waiting for standby");
	assert_true(is_late(m, &worst));
	goes_well(m);
	stop(m);
}

static void test_mirror_alarm_is_repeated_while_open(void **state)
{
	struct sosie_config *c = make(1, 1, 1, 100);
	struct place p;

	(void)state;
	place_make(&p);
	place_program(&p, ":");
	reset(1);
	configs_alive = 1;
	c->alarm_repeat_ms = 50;
	c->on_alarm = strdup(p.program);
	struct sosie_mirror *m = start(c);

	sosie_mirror_config_alarm(m, "/etc/x.yaml", "bad");
	file_gets_times(p.told, "\"state\":\"open\",\"kind\":\"config\"", 3);
	sosie_mirror_config_alarm(m, "/etc/x.yaml", NULL);
	file_gets(p.told, "\"state\":\"closed\"");
	sosie_mirror_config_alarm(m, "/etc/y.yaml", "bad");
	file_gets_times(p.told, "y.yaml", 3);
	assert_int_equal(times_in(p.told, "\"state\":\"closed\""), 1); /* that once only */
	stop(m);
	place_remove(&p);
}

/* Every second call fails: the opening and the closing get there all the same, long before the repetition. */
static void test_mirror_alarm_program_fails_is_tried_again(void **state)
{
	struct sosie_config *c = make(1, 1, 1, 100);
	struct sosie_mirror_options o = options_of();
	struct place p;
	char first[256];

	(void)state;
	place_make(&p);
	snprintf(first, sizeof(first), "[ -e %s/flag ] || { touch %s/flag; exit 1; }; rm %s/flag", p.dir,
	         p.dir, p.dir);
	place_program(&p, first);
	reset(1);
	configs_alive = 1;
	c->on_alarm = strdup(p.program);
	c->alarm_repeat_ms = 3600000;
	o.alarm_again_ms = 20;
	struct sosie_mirror *m = start_with(c, &o);

	sosie_mirror_config_alarm(m, "/etc/x.yaml", "bad");
	file_gets(p.told, "\"state\":\"open\"");
	sosie_mirror_config_alarm(m, "/etc/x.yaml", NULL);
	file_gets(p.told, "\"state\":\"closed\"");
	log_gets("the alarm program failed", "exit status 1");
	stop(m);
	assert_int_equal(times_in(p.told, "\"state\":\"open\""), 1);
	place_remove(&p);
}

static void test_mirror_reload_names_a_program_open_alarms_are_told(void **state)
{
	struct sosie_config *c = make(1, 1, 1, 100);
	struct place p;

	(void)state;
	place_make(&p);
	place_program(&p, ":");
	reset(1);
	struct sosie_mirror *m = start(make(1, 1, 1, 100));

	configs_alive = 2;
	sosie_mirror_config_alarm(m, "/etc/x.yaml", "bad");
	unsigned looks = peek(&fakes[0].looks);
	reaches(&fakes[0].looks, looks + 3); /* its time has passed: the next would be in a minute */
	c->on_alarm = strdup(p.program);
	reload(m, c);
	file_gets(p.told, "\"state\":\"open\",\"kind\":\"config\"");
	stop(m);
	place_remove(&p);
}

/* --- what hangs
 * -------------------------------------------------------------------------------------------------------------
 */

static void test_mirror_log_hangs_turns_go_on(void **state)
{
	struct sosie_mirror_options o = options_of();

	(void)state;
	reset(2);
	o.tell = NULL; /* the log gets it */
	fakes[0].keep_changed = fakes[1].keep_changed = true;
	fakes[1].fail = SOSIE_EIO;
	log_hangs = true;
	struct sosie_mirror *m = start_with(make(2, 1, 2, 100), &o);

	becomes_true(&log_waits);
	unsigned cycles = peek(&fakes[0].cycles);
	reaches(&fakes[0].cycles, cycles + 5);
	assert_true(sosie_mirror_alive(m));
	set(&log_hangs, false);
	log_gets("acme/g0: point 1 accepted", "");
	log_gets("acme/g1", "fails as told");
	stop(m);
}

static void test_mirror_scheduler_hangs_is_not_alive(void **state)
{
	(void)state;
	reset(1);
	struct sosie_mirror *m = start_turned(make(1, 1, 1, 100));

	becomes_alive(m, true);
	pthread_mutex_lock(&clock_lock); /* whoever asks for the time waits: the scheduler too */
	clock_mine = true;
	clock_ahead += 11000;
	bool alive = sosie_mirror_alive(m);
	clock_mine = false;
	pthread_mutex_unlock(&clock_lock);
	assert_false(alive);
	becomes_alive(m, true);
	stop(m);
}

/* A message has its own limits: a courier in one is given five minutes, not more. */
static void test_mirror_courier_hangs_is_not_alive_after_its_limit(void **state)
{
	(void)state;
	reset(1);
	struct sosie_mirror *m = start_turned(make(1, 1, 1, 100));

	set(&same_hangs, true);
	becomes_true(&same_waits);
	turn_clock(200000);
	becomes_alive(m, true);
	turn_clock(110000);
	becomes_alive(m, false);
	set(&same_hangs, false);
	becomes_alive(m, true);
	stop(m);
}

static struct sosie_mirror *tidied;
static unsigned sessions_left;
static bool alive_at_last;

/* Each session takes two seconds to close: four hundred in all. */
static unsigned close_one(void)
{
	if (sessions_left == 0)
		return 0;
	turn_clock(2000);
	if (--sessions_left == 0) {
		becomes_alive(tidied,
		              true); /* the scheduler needs a moment after so many turns of the clock */
		set(&alive_at_last, true);
	}
	return sessions_left;
}

static void test_mirror_many_sessions_close_slowly_is_alive(void **state)
{
	(void)state;
	reset(1);
	tidied = start_turned(make(1, 1, 1, 100));
	pthread_mutex_lock(&lock);
	alive_at_last = false;
	sessions_left = 200;
	on_tidy = close_one;
	pthread_mutex_unlock(&lock);
	turn_clock(31000);
	becomes_true(&alive_at_last);
	assert_true(peek(&tidies) >= 200);
	stop(tidied);
}

/* Closing the sessions of a standby that hangs is its courier's affair: the scheduler goes on. */
static void test_mirror_gone_standby_hangs_at_its_end_is_alive(void **state)
{
	struct sosie_config *c = make(2, 2, 2, 100);
	struct sosie_json *doc, *list;
	size_t count;

	(void)state;
	reset(2);
	struct sosie_mirror *m = start_turned(make(2, 2, 2, 100));

	configs_alive = 2;
	reaches(&fakes[1].looks, 2);
	set(&free_hangs, true);
	remove_group(c, 1);
	c->standby_count = 1;
	reload(m, c);
	reaches(&fakes[1].closed, 1);
	for (size_t left = 2; left > 1; left = count) {
		status_of(m, "", &doc);
		assert_int_equal(sosie_json_arr(doc, "standbys", 10, &list, &count, NULL), 0);
		sosie_json_free(doc);
	}
	for (unsigned i = 0; i < 40; i++) {
		turn_clock(11000);
		becomes_alive(m, true);
	}
	assert_int_equal(peek(&frees), 0);
	set(&free_hangs, false);
	reaches(&frees, 1);
	stop(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_mirror_auto_is_scan_free_space_does_not_matter),
	        cmocka_unit_test(test_mirror_auto_scan_in_place_of_clones_rests),
	        cmocka_unit_test(test_mirror_filesystem_of_no_group_is_not_watched),
	        cmocka_unit_test(test_mirror_far_from_the_reserve_looks_are_rare),
	        cmocka_unit_test(test_mirror_clones_grow_scan_is_opened),
	        cmocka_unit_test(test_mirror_group_goes_while_a_courier_hangs_waits_quietly),
	        cmocka_unit_test(test_mirror_group_goes_views_stay_and_that_is_told),
	        cmocka_unit_test(test_mirror_reload_thrice_during_a_cycle_frees_once),
	        cmocka_unit_test(test_mirror_same_each_cycle_is_told_once),
	        cmocka_unit_test(test_mirror_standby_lost_alarm_opens_and_closes),
	        cmocka_unit_test(test_mirror_standby_away_nothing_is_cut),
	        cmocka_unit_test(test_mirror_alarm_program_told_at_opening_and_closing),
	        cmocka_unit_test(test_mirror_restart_of_an_idle_group_is_not_late),
	        cmocka_unit_test(test_mirror_restart_without_standby_is_late),
	        cmocka_unit_test(test_mirror_alarm_is_repeated_while_open),
	        cmocka_unit_test(test_mirror_alarm_program_fails_is_tried_again),
	        cmocka_unit_test(test_mirror_reload_names_a_program_open_alarms_are_told),
	        cmocka_unit_test(test_mirror_log_hangs_turns_go_on),
	        cmocka_unit_test(test_mirror_scheduler_hangs_is_not_alive),
	        cmocka_unit_test(test_mirror_courier_hangs_is_not_alive_after_its_limit),
	        cmocka_unit_test(test_mirror_many_sessions_close_slowly_is_alive),
	        cmocka_unit_test(test_mirror_gone_standby_hangs_at_its_end_is_alive),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/*
 * The mirror's tests over fakes of what it drives: sources, replicators, pools, the log and statvfs are
 * defined here, so that the linker takes them in place of the engine's and the system's. Each fake group
 * counts its cycles, and can be told to fail, to hang until released, to have changed, or to predict a long
 * cut. Included by each program once.
 */
#ifndef TESTS_MIRROR_FAKE_H
#define TESTS_MIRROR_FAKE_H

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "sosie/json.h"
#include "sosie/log.h"
#include "sosie/mirror.h"

#define GROUPS_MAX 1000
#define WAIT_MS 20000
#define TIMES 16
#define LOGGED 64

/* --- fakes
 * ---------------------------------------------------------------------------------------------------------
 */

struct fake {
	char name[64];
	bool changed, hang, keep_changed;
	enum sosie_code fail;
	int64_t stall_us;
	unsigned cycles, opens, looks, drops, closed;
	unsigned checks, read_ms; /* read_ms: how long a cycle takes */
	bool scan, stands_in;     /* what auto chooses, and why */
	bool growing, no_facts, drops_fail;
	bool says_same;                           /* cycles find nothing changed */
	int64_t begun_ms[TIMES], ended_ms[TIMES]; /* of the first cycles, from the first on */
	enum sosie_code check_fail;
	int64_t cut_wall_ms; /* of the point that is recorded; 0: none */
	int64_t cut_age_ms;  /* and how old that cut is; 0: not known */
	uint64_t differs;    /* from the accepted view, when asked */
	unsigned backlogs;   /* how often asked */
	bool cycling, asked_in_cycle;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct fake fakes[GROUPS_MAX];
static unsigned fake_count, running, most_running, same_messages, same_groups, told_errors, told_points;
static unsigned told_same, tidies, statvfs_calls, frees;
static bool pool_fails, same_hangs, same_waits, free_hangs, log_hangs, log_waits;
static int64_t pool_pause, statvfs_ms[TIMES];
static unsigned (*on_tidy)(void);      /* sessions that are left */
static uint64_t disk_free, disk_total; /* 0: what the machine has */
static char logged[LOGGED][1200];
static unsigned logged_count;

static inline void pause_briefly(void)
{
	const struct timespec ts = {.tv_nsec = 5000000};

	nanosleep(&ts, NULL);
}

/* Says in *waits that it is waited until *flag is false. */
static inline void wait_while(const bool *flag, bool *waits)
{
	pthread_mutex_lock(&lock);
	while (*flag) {
		*waits = true;
		pthread_mutex_unlock(&lock);
		pause_briefly();
		pthread_mutex_lock(&lock);
	}
	*waits = false;
	pthread_mutex_unlock(&lock);
}

void sosie_log(enum sosie_log_level level, const char *fmt, ...)
{
	char text[1200];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	wait_while(&log_hangs, &log_waits);
	pthread_mutex_lock(&lock);
	if (level <= SOSIE_LOG_INFO && logged_count < LOGGED)
		memcpy(logged[logged_count++], text, sizeof(text));
	pthread_mutex_unlock(&lock);
}

int statvfs(const char *path, struct statvfs *out)
{
	struct stat st;

	*out = (struct statvfs){.f_frsize = 1, .f_bavail = 1ull << 40, .f_blocks = 1ull << 40};
	pthread_mutex_lock(&lock);
	if (disk_total > 0) {
		out->f_bavail = disk_free;
		out->f_blocks = disk_total;
	}
	if (statvfs_calls < TIMES)
		statvfs_ms[statvfs_calls] = sosie_mono_ms(sosie_clock_real());
	statvfs_calls++;
	pthread_mutex_unlock(&lock);
	return stat(path, &st);
}

static inline struct fake *fake_of(const char *name)
{
	for (unsigned i = 0; i < fake_count; i++)
		if (strcmp(fakes[i].name, name) == 0)
			return &fakes[i];
	abort();
}

struct sosie_pool {
	int none;
};
struct sosie_replicator {
	struct fake *f;
	const bool *stop;
};
struct fake_source {
	struct sosie_source source;
	struct fake *f;
};

int sosie_pool_new(struct sosie_connector *connector, struct sosie_clock *clock, const char *standby,
                   struct sosie_pool **out, struct sosie_err *err)
{
	(void)connector;
	(void)clock;
	(void)standby;
	(void)err;
	*out = calloc(1, sizeof(**out));
	return 0;
}

void sosie_pool_free(struct sosie_pool *pool)
{
	bool waits;

	wait_while(&free_hangs, &waits);
	free(pool);
	pthread_mutex_lock(&lock);
	frees++;
	pthread_mutex_unlock(&lock);
}

int sosie_pool_trust(struct sosie_pool *pool, const char *signing, const char *standby_key,
                     struct sosie_err *err)
{
	(void)pool;
	(void)signing;
	(void)standby_key;
	(void)err;
	return 0;
}

int64_t sosie_pool_pause_ms(struct sosie_pool *pool)
{
	int64_t pause;

	(void)pool;
	pthread_mutex_lock(&lock);
	pause = pool_pause;
	pthread_mutex_unlock(&lock);
	return pause;
}

bool sosie_pool_tidy(struct sosie_pool *pool)
{
	unsigned (*left)(void);

	(void)pool;
	pthread_mutex_lock(&lock);
	tidies++;
	left = on_tidy;
	pthread_mutex_unlock(&lock);
	return left && left() > 0;
}

int sosie_pool_same(struct sosie_pool *pool, const char *tenant, const struct sosie_same *list,
                    unsigned count, struct sosie_err *err)
{
	(void)pool;
	(void)list;
	assert_string_equal(tenant, "acme");
	pthread_mutex_lock(&lock);
	same_messages++;
	same_groups += count;
	bool fails = pool_fails;
	pthread_mutex_unlock(&lock);
	wait_while(&same_hangs, &same_waits);
	return fails ? sosie_err_set(err, SOSIE_EPEER, "gone") : 0;
}

int sosie_budget_new(uint64_t rate, struct sosie_clock *clock, struct sosie_budget **out,
                     struct sosie_err *err)
{
	(void)rate;
	(void)clock;
	(void)err;
	*out = NULL;
	return 0;
}

void sosie_budget_free(struct sosie_budget *b)
{
	(void)b;
}

static inline int fake_facts(struct sosie_source *s, struct sosie_cut_facts *out, struct sosie_err *err)
{
	struct fake *f = ((struct fake_source *)s)->f;

	(void)err;
	pthread_mutex_lock(&lock);
	*out = (struct sosie_cut_facts){
	        .extents = 7,
	        .stall_us = f->stall_us,
	        .last_us = 10,
	        .last_predicted_us = 20,
	        .growing = f->growing,
	        .untracked = "the fake lost it",
	};
	bool none = f->no_facts;
	pthread_mutex_unlock(&lock);
	return none ? -SOSIE_EIO : 0;
}

static inline void fake_destroy(struct sosie_source *s)
{
	free(s);
}

static inline int fake_backlog(struct sosie_source *s, const struct sosie_view_id *id, uint64_t *bytes,
                               struct sosie_err *err)
{
	struct fake *f = ((struct fake_source *)s)->f;

	(void)err;
	assert_string_equal(id->s, "r10123456789abcd");
	pthread_mutex_lock(&lock);
	f->asked_in_cycle |= f->cycling;
	*bytes = f->differs;
	f->backlogs++;
	pthread_mutex_unlock(&lock);
	return 0;
}

static const struct sosie_source_ops fake_ops = {
        .name = "fake", .facts = fake_facts, .destroy = fake_destroy, .backlog = fake_backlog};
static const struct sosie_source_ops fake_scan_ops = {
        .name = "scan", .facts = fake_facts, .destroy = fake_destroy};

int sosie_source_open(const struct sosie_source_options *options, struct sosie_source **out, char *reason,
                      size_t size, struct sosie_err *err)
{
	struct fake_source *s = calloc(1, sizeof(*s));

	(void)err;
	assert_int_equal(strlen(options->tag), 8);
	pthread_mutex_lock(&lock);
	s->f = fake_of(options->group);
	bool scan = options->kind == SOSIE_SOURCE_SCAN || (options->kind == SOSIE_SOURCE_AUTO && s->f->scan);
	s->source.ops = scan ? &fake_scan_ops : &fake_ops;
	s->source.stands_in = options->kind == SOSIE_SOURCE_AUTO && s->f->stands_in;
	s->f->opens++;
	pthread_mutex_unlock(&lock);
	snprintf(reason, size, "fake: because");
	*out = &s->source;
	return 0;
}

int sosie_replicator_open(const struct sosie_replicate_options *options, struct sosie_replicator **out,
                          struct sosie_err *err)
{
	struct sosie_replicator *r = calloc(1, sizeof(*r));

	(void)err;
	assert_true(options->drop_missing);
	pthread_mutex_lock(&lock);
	r->f = fake_of(options->group);
	pthread_mutex_unlock(&lock);
	r->stop = options->stop;
	*out = r;
	return 0;
}

static inline unsigned peek(const unsigned *value)
{
	pthread_mutex_lock(&lock);
	unsigned now = *value;
	pthread_mutex_unlock(&lock);
	return now;
}

static inline bool hangs(struct sosie_replicator *r)
{
	bool hang;

	pthread_mutex_lock(&lock);
	hang = r->f->hang;
	pthread_mutex_unlock(&lock);
	return hang && !__atomic_load_n(r->stop, __ATOMIC_RELAXED);
}

int sosie_replicator_cycle(struct sosie_replicator *r, struct sosie_cycle_result *out, struct sosie_err *err)
{
	enum sosie_code fail;

	pthread_mutex_lock(&lock);
	if (++running > most_running)
		most_running = running;
	unsigned n = r->f->cycles++;
	r->f->cycling = true;
	int64_t cut = sosie_mono_ms(sosie_clock_real());
	if (n < TIMES)
		r->f->begun_ms[n] = cut;
	pthread_mutex_unlock(&lock);
	while (hangs(r) || sosie_mono_ms(sosie_clock_real()) - cut < peek(&r->f->read_ms))
		pause_briefly();
	pthread_mutex_lock(&lock);
	running--;
	r->f->cycling = false;
	fail = r->f->fail;
	*out = (struct sosie_cycle_result){.point = r->f->cycles, .cut_mono_ms = cut, .read_bytes = 4096};
	out->done_mono_ms = sosie_mono_ms(sosie_clock_real());
	out->same = r->f->says_same;
	if (n < TIMES)
		r->f->ended_ms[n] = out->done_mono_ms;
	r->f->changed = fail != 0 || r->f->keep_changed;
	pthread_mutex_unlock(&lock);
	return fail == 0 ? 0 : sosie_err_set(err, fail, "%s fails as told", r->f->name);
}

int sosie_replicator_check(struct sosie_replicator *r, struct sosie_err *err)
{
	enum sosie_code fail;

	pthread_mutex_lock(&lock);
	r->f->checks++;
	fail = r->f->check_fail;
	pthread_mutex_unlock(&lock);
	return fail == 0 ? 0 : sosie_err_set(err, fail, "%s is found so", r->f->name);
}

bool sosie_replicator_unchanged(struct sosie_replicator *r, struct sosie_same *out)
{
	bool same;

	pthread_mutex_lock(&lock);
	r->f->looks++;
	same = !r->f->changed && r->f->cycles > 0;
	*out = (struct sosie_same){.point = r->f->cycles, .mono_ms = sosie_mono_ms(sosie_clock_real())};
	pthread_mutex_unlock(&lock);
	return same;
}

void sosie_replicator_status(const struct sosie_replicator *r, struct sosie_replicator_status *out)
{
	pthread_mutex_lock(&lock);
	*out = (struct sosie_replicator_status){.exists = r->f->cycles > 0 || r->f->cut_wall_ms > 0,
	                                        .point = r->f->cycles,
	                                        .age_ms = r->f->cut_age_ms > 0 ? r->f->cut_age_ms : -1,
	                                        .cut_wall_ms = r->f->cut_wall_ms,
	                                        .labelled = r->f->cut_wall_ms > 0,
	                                        .consistency = SOSIE_CONSISTENCY_FUZZY};
	if (r->f->differs > 0)
		snprintf(out->view.s, sizeof(out->view.s), "r10123456789abcd");
	pthread_mutex_unlock(&lock);
}

int sosie_replicator_drop_views(struct sosie_replicator *r, struct sosie_err *err)
{
	pthread_mutex_lock(&lock);
	r->f->drops++;
	bool fails = r->f->drops_fail;
	pthread_mutex_unlock(&lock);
	return fails ? sosie_err_set(err, SOSIE_EIO, "the view stays") : 0;
}

void sosie_replicator_close(struct sosie_replicator *r)
{
	if (!r)
		return;
	pthread_mutex_lock(&lock);
	r->f->closed++;
	pthread_mutex_unlock(&lock);
	free(r);
}

static inline int fake_connect(void *arg, const struct sosie_config_standby *standby,
                               struct sosie_connector **out, struct sosie_err *err)
{
	(void)arg;
	(void)standby;
	(void)err;
	*out = calloc(1, sizeof(**out));
	return 0;
}

static inline void fake_disconnect(void *arg, struct sosie_connector *connector)
{
	(void)arg;
	free(connector);
}

/* --- the place
 * ----------------------------------------------------------------------------------------------------- */

static unsigned configs_alive;

static inline void free_config(struct sosie_config *c)
{
	pthread_mutex_lock(&lock);
	configs_alive--;
	pthread_mutex_unlock(&lock);
	for (unsigned i = 0; i < c->group_count; i++) {
		free(c->groups[i].state);
		free(c->groups[i].volumes);
	}
	free(c->groups);
	free(c->standbys);
	free(c->on_alarm);
	free(c->metrics);
	free(c);
}

/* Groups g0 … on standbys in turn, each with one volume that is not there (no filesystem to watch). */
static inline struct sosie_config *make(unsigned groups, unsigned standbys, unsigned cycles,
                                        uint64_t interval_ms)
{
	struct sosie_config *c = calloc(1, sizeof(*c));

	configs_alive++;
	c->alarm_repeat_ms = 60000;
	c->view_percent = 1;
	c->standbys = calloc(standbys, sizeof(*c->standbys));
	c->standby_count = standbys;
	for (unsigned i = 0; i < standbys; i++) {
		snprintf(c->standbys[i].name.s, sizeof(c->standbys[i].name.s), "standby%u", i);
		snprintf(c->standbys[i].to.host, sizeof(c->standbys[i].to.host), "host%u", i);
		c->standbys[i].cycles = cycles;
	}
	c->groups = calloc(groups, sizeof(*c->groups));
	c->group_count = groups;
	for (unsigned i = 0; i < groups; i++) {
		struct sosie_config_group *g = &c->groups[i];

		snprintf(g->tenant.s, sizeof(g->tenant.s), "acme");
		snprintf(g->group.s, sizeof(g->group.s), "g%u", i);
		g->state = malloc(64);
		snprintf(g->state, 64, "/nowhere/g%u", i);
		g->standby = &c->standbys[i % standbys];
		g->interval_ms = interval_ms;
		g->volumes = calloc(1, sizeof(*g->volumes));
		snprintf(g->volumes->path, sizeof(g->volumes->path), "/nowhere/image");
		g->volume_count = 1;
	}
	return c;
}

static inline void reset(unsigned count)
{
	memset(fakes, 0, sizeof(fakes));
	fake_count = count;
	for (unsigned i = 0; i < count; i++) {
		snprintf(fakes[i].name, sizeof(fakes[i].name), "g%u", i);
		fakes[i].stall_us = -1;
	}
	running = most_running = same_messages = same_groups = told_errors = told_points = 0;
	told_same = tidies = statvfs_calls = frees = logged_count = 0;
	pool_fails = same_hangs = free_hangs = log_hangs = false;
	pool_pause = 0;
	on_tidy = NULL;
	disk_free = disk_total = 0;
	configs_alive = 0;
}

static inline void on_tell(void *arg, const struct sosie_config_group *group,
                           const struct sosie_cycle_result *result, const struct sosie_err *error)
{
	(void)arg;
	(void)group;
	pthread_mutex_lock(&lock);
	told_points += result && !result->same;
	told_same += result && result->same;
	told_errors += error != NULL;
	pthread_mutex_unlock(&lock);
}

/* What most tests run with; a test may change some of it. */
static inline struct sosie_mirror_options options_of(void)
{
	return (struct sosie_mirror_options){
	        .clock = sosie_clock_real(),
	        .connect = fake_connect,
	        .disconnect = fake_disconnect,
	        .free_config = free_config,
	        .tell = on_tell,
	};
}

static inline struct sosie_mirror *start_with(struct sosie_config *c, const struct sosie_mirror_options *o)
{
	struct sosie_mirror *m;
	struct sosie_err err = {0};

	if (sosie_mirror_start(c, o, &m, &err) != 0)
		fail_msg("%s", err.what);
	return m;
}

static inline struct sosie_mirror *start(struct sosie_config *c)
{
	const struct sosie_mirror_options o = options_of();

	return start_with(c, &o);
}

static inline void stop(struct sosie_mirror *m)
{
	sosie_mirror_stop(m);
	assert_int_equal(configs_alive, 0);
}

/* *value, written under the lock, becomes at least wanted in time. */
static inline void reaches(const unsigned *value, unsigned wanted)
{
	int64_t end = sosie_mono_ms(sosie_clock_real()) + WAIT_MS;

	for (;;) {
		unsigned now = peek(value);

		if (now >= wanted)
			return;
		if (sosie_mono_ms(sosie_clock_real()) > end)
			fail_msg("%u in place of %u after %d ms", now, wanted, WAIT_MS);
		pause_briefly();
	}
}

/* The group leaves the configuration; the order of the others may change. */
static inline void remove_group(struct sosie_config *c, unsigned i)
{
	free(c->groups[i].state);
	free(c->groups[i].volumes);
	c->groups[i] = c->groups[--c->group_count];
}

static inline void reload(struct sosie_mirror *m, struct sosie_config *c)
{
	struct sosie_err err = {0};

	if (sosie_mirror_reload(m, c, &err) != 0)
		fail_msg("%s", err.what);
}

static inline void becomes_true(const bool *flag)
{
	for (unsigned i = 0;; i++) {
		pthread_mutex_lock(&lock);
		bool now = *flag;
		pthread_mutex_unlock(&lock);
		if (now)
			return;
		if (i > WAIT_MS / 5)
			fail_msg("it does not happen");
		pause_briefly();
	}
}

static inline void set(bool *flag, bool value)
{
	pthread_mutex_lock(&lock);
	*flag = value;
	pthread_mutex_unlock(&lock);
}

static inline struct sosie_json *status_of(struct sosie_mirror *m, const char *group, struct sosie_json **doc)
{
	struct sosie_json *list, *g;
	struct sosie_err err = {0};
	size_t len, count;
	const char *name;
	char *text;

	assert_int_equal(sosie_mirror_status(m, &text, &len, &err), 0);
	assert_int_equal(sosie_json_parse(text, len, 64u << 20, doc, &err), 0);
	free(text);
	assert_int_equal(sosie_json_arr(*doc, "groups", 2000, &list, &count, &err), 0);
	for (size_t i = 0; i < count; i++) {
		assert_int_equal(sosie_json_at(list, i, &g, &err), 0);
		assert_int_equal(sosie_json_str(g, "group", 200, &name, &err), 0);
		if (strcmp(name, group) == 0)
			return g;
	}
	return NULL;
}

static inline void becomes(struct sosie_mirror *m, const char *group, const char *state)
{
	int64_t end = sosie_mono_ms(sosie_clock_real()) + WAIT_MS;
	char last[64] = "";

	while (sosie_mono_ms(sosie_clock_real()) < end) {
		struct sosie_json *doc, *g = status_of(m, group, &doc);
		const char *word = "";

		if (g && sosie_json_str(g, "state", 60, &word, NULL) == 0)
			snprintf(last, sizeof(last), "%s", word);
		sosie_json_free(doc);
		if (strcmp(last, state) == 0)
			return;
		pause_briefly();
	}
	fail_msg("%s is \"%s\", not \"%s\"", group, last, state);
}

static inline bool file_has(const char *path, const char *word)
{
	char text[65536];
	FILE *f = fopen(path, "re");
	size_t n = f ? fread(text, 1, sizeof(text) - 1, f) : 0;

	if (f)
		fclose(f);
	text[n] = '\0';
	return strstr(text, word) != NULL;
}

static inline void file_gets(const char *path, const char *word)
{
	int64_t end = sosie_mono_ms(sosie_clock_real()) + WAIT_MS;

	while (!file_has(path, word)) {
		if (sosie_mono_ms(sosie_clock_real()) > end)
			fail_msg("%s does not get %s", path, word);
		pause_briefly();
	}
}

static inline int64_t filesystems(struct sosie_mirror *m, bool *low)
{
	struct sosie_json *doc, *list, *fs;
	size_t count = 0;

	status_of(m, "", &doc);
	assert_int_equal(sosie_json_arr(doc, "filesystems", 100, &list, &count, NULL), 0);
	*low = false;
	if (count > 0 && sosie_json_at(list, 0, &fs, NULL) == 0)
		assert_int_equal(sosie_json_bool(fs, "low", low, NULL), 0);
	sosie_json_free(doc);
	return (int64_t)count;
}

#endif

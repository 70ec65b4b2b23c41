/* SPDX-License-Identifier: MIT */
/*
 * One thread, which never waits for a program or the metrics file. A receiver's poke is a byte in its
 * tenant's FIFO; it is only a hint: every SCAN_MS all inboxes are looked at anyway, which also finds new
 * tenants. The FIFO is opened for reading and writing, so that it never shows an end.
 */
#include "tools/sosie-keeper/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sosie/alarm.h"
#include "sosie/metrics.h"
#include "sosie/quota.h"
#include "sosie/retention.h"
#include "tools/sosie-keeper/turns.h"

#define SCAN_MS 2000
#define IDLE_MS 2000
#define SAME_MS 250   /* at least, from one look for "same" to the next */
#define SAME_SHARE 10 /* and so many times what the last look took */
#define WATCH_MS 1000 /* at least, from one look whether groups are late to the next */
#define WATCH_SHARE 10
#define ONCE_STEPS 1000 /* of pruning, in a run that ends */
#define BACKOFF_MIN_MS 1000
#define BACKOFF_MAX_MS 60000
#define TURN_MIN_MS 10  /* at least, until a tenant over its limits is tried again */
#define REFUSED_MS 1000 /* at least, from one refusal in the log to the next of a group */

struct loop {
	struct sosie_store *store;
	struct sosie_clock *clock;
	const struct loop_outputs *outputs;
	struct turns turns;
	size_t tenant_count;
	struct watched_tenant *now; /* whose groups are listed */
	bool begin;                 /* all groups are due once: their statements are written anew */
	int64_t scan_ms, watch_ms, metrics_ms; /* the next of each */
	uint64_t alarms_told;                  /* version of the alarms that the herald has */
	bool space_unknown;                    /* the store could not be looked at, and that was logged */
	bool (*stop)(void);
};

static bool stopping(const struct loop *l)
{
	return l->stop && l->stop();
}

/* --- logging
 * -------------------------------------------------------------------------------------------------------- */

static void log_points(struct loop *l, const char *tenant, const char *group,
                       const struct sosie_accept_result *r, int64_t ms)
{
	struct sosie_group *g = NULL;
	struct sosie_err err;
	char size[32];
	uint64_t first = r->point > r->accepted ? r->point - r->accepted + 1 : 1;
	if (r->accepted == 0 || sosie_group_open(l->store, tenant, group, &g, &err))
		return;
	for (uint64_t n = first; n <= r->point; n++) {
		struct sosie_point p;
		if (!sosie_group_point(g, n, &p, &err))
			sosie_log(SOSIE_LOG_INFO, "%s/%s: point %llu accepted, %s in %lld ms", tenant, group,
			          (unsigned long long)n, sosie_size_text(size, sizeof(size), p.stored),
			          (long long)(ms / (int64_t)r->accepted));
	}
	sosie_group_close(g);
}

static void log_trouble(const char *tenant, const char *group, const char *word, const struct sosie_err *err)
{
	char line[1100];
	sosie_log(SOSIE_LOG_WARNING, "%s/%s: %s: %s", tenant, group, word,
	          sosie_err_line(err, line, sizeof(line)));
}

/* --- what is watched
 * -------------------------------------------------------------------------------------------------- */

static struct watched_group *group_of(struct watched_tenant *t, const struct sosie_name *name)
{
	struct watched_group *g = t->groups;
	while (g && strcmp(g->name.s, name->s) != 0)
		g = g->next;
	if (g || !(g = calloc(1, sizeof(*g))))
		return g;
	g->name = *name;
	g->next = t->groups;
	t->groups = g;
	return g;
}

static int open_fifo(const char *store, const char *tenant)
{
	char path[4096];
	struct stat st;
	int n = snprintf(path, sizeof(path), "%s/%s/_inbox/notify", store, tenant);
	if (n < 0 || (size_t)n >= sizeof(path))
		return -1;
	int fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);
	if (fd >= 0 && (fstat(fd, &st) != 0 || !S_ISFIFO(st.st_mode))) {
		close(fd);
		fd = -1;
	}
	return fd;
}

static int watch_tenant(void *arg, const struct sosie_name *name)
{
	struct loop *l = arg;
	struct sosie_store_info info;
	struct sosie_err err;
	struct watched_tenant *t = l->turns.tenants;
	while (t && strcmp(t->name.s, name->s) != 0)
		t = t->next;
	if (t)
		return 0;
	t = calloc(1, sizeof(*t));
	if (!t)
		return 1; /* at the next scan again */
	sosie_store_info(l->store, &info);
	t->name = *name;
	t->fifo = open_fifo(info.path, name->s);
	t->look = true;
	t->next = l->turns.tenants;
	l->turns.tenants = t;
	l->tenant_count++;
	if (sosie_keeper_tenant(l->store, name->s, &err))
		log_trouble(name->s, "", "its receivers cannot be told their limits", &err);
	if (t->fifo < 0)
		sosie_log(SOSIE_LOG_WARNING,
		          "%s: no FIFO to be poked through; its inbox is looked at every %d ms", name->s,
		          SCAN_MS);
	return 0;
}

/* A group that is there, or has something in the inbox. */
static int watch_group(void *arg, const struct sosie_name *name)
{
	struct loop *l = arg;
	struct watched_group *g = group_of(l->now, name);
	if (g)
		g->due |= l->begin;
	return 0;
}

static int due_group(void *arg, const struct sosie_name *name)
{
	struct loop *l = arg;
	struct watched_group *g = group_of(l->now, name);
	if (g)
		g->due = true;
	return 0;
}

static void free_all(struct loop *l)
{
	while (l->turns.tenants) {
		struct watched_tenant *t = l->turns.tenants;
		l->turns.tenants = t->next;
		while (t->groups) {
			struct watched_group *g = t->groups;
			t->groups = g->next;
			free(g);
		}
		if (t->fifo >= 0)
			close(t->fifo);
		free(t);
	}
}

/* --- steps
 * --------------------------------------------------------------------------------------------------------------
 */

static void later(struct loop *l, struct watched_group *g)
{
	g->delay_ms = g->delay_ms ? 2 * g->delay_ms : BACKOFF_MIN_MS;
	if (g->delay_ms > BACKOFF_MAX_MS)
		g->delay_ms = BACKOFF_MAX_MS;
	g->retry_ms = sosie_mono_ms(l->clock) + g->delay_ms;
}

/* A hostile source has as many refused as it likes: of a group one a second is logged, the others counted. */
static void log_refusal(struct loop *l, const struct watched_tenant *t, struct watched_group *g,
                        const struct sosie_err *why)
{
	char word[64] = "refused";
	const int64_t now = sosie_mono_ms(l->clock);
	if (g->told_ms && now - g->told_ms < REFUSED_MS) {
		g->untold++;
		return;
	}
	if (g->untold)
		snprintf(word, sizeof(word), "refused, after %u more that were not logged", g->untold);
	g->untold = 0;
	g->told_ms = now ? now : 1;
	log_trouble(t->name.s, g->name.s, word, why);
}

static void log_result(struct loop *l, const struct watched_tenant *t, struct watched_group *g,
                       const struct sosie_accept_result *r)
{
	if (r->refused)
		log_refusal(l, t, g, &r->last);
	else if (r->last.code && r->wait_ms)
		sosie_log(SOSIE_LOG_DEBUG, "%s/%s: waits: %s", t->name.s, g->name.s, r->last.what);
	else if (r->last.code)
		log_trouble(t->name.s, g->name.s, r->waiting ? "waits" : "no generation was made", &r->last);
}

/* One upload of the group. */
static void step_group(struct loop *l, struct watched_tenant *t, struct watched_group *g)
{
	struct sosie_accept_result r;
	struct sosie_err err;
	int64_t start = sosie_mono_ms(l->clock);
	sosie_err_clear(&err);
	int rc = sosie_keeper_step(l->store, t->name.s, g->name.s, &r, &err);
	int64_t end = sosie_mono_ms(l->clock);
	log_points(l, t->name.s, g->name.s, &r, end - start);
	log_result(l, t, g, &r);
	if (rc)
		log_trouble(t->name.s, g->name.s, "not worked on", &err);
	g->due = rc || r.more || r.waiting;
	if (r.wait_ms)
		t->retry_ms = end + (r.wait_ms > TURN_MIN_MS ? r.wait_ms : TURN_MIN_MS);
	else if (rc || (r.waiting && !r.accepted)) /* one beside it was taken: at once again */
		later(l, g);
	else
		g->retry_ms = g->delay_ms = 0;
	if (r.accepted)
		g->touched_ms = end ? end : 1;
}

/* One tenant's turn: a look into its inbox, where there was a poke, and one upload. False: nobody has
 * anything. */
static bool take_turn(struct loop *l)
{
	struct sosie_err err;
	struct watched_tenant *t = turns_tenant(&l->turns, sosie_mono_ms(l->clock));
	if (!t)
		return false;
	if (t->look) {
		t->look = false;
		l->now = t;
		if (sosie_keeper_due(l->store, t->name.s, due_group, l, &err))
			log_trouble(t->name.s, "_inbox", "cannot be looked at", &err);
	}
	struct watched_group *g = turns_group(t, sosie_mono_ms(l->clock));
	if (g)
		step_group(l, t, g);
	return true;
}

/* All tenants; when beginning all groups too, also those that have nothing in the inbox. */
static void scan(struct loop *l)
{
	struct sosie_err err;
	if (sosie_store_tenants(l->store, watch_tenant, l, &err))
		sosie_log_err(SOSIE_LOG_WARNING, &err);
	for (struct watched_tenant *t = l->turns.tenants; t && !stopping(l); t = t->next) {
		t->look = true;
		l->now = t;
		if (l->begin && sosie_store_groups(l->store, t->name.s, watch_group, l, &err))
			sosie_log_err(SOSIE_LOG_WARNING, &err);
		sosie_keeper_keys(l->store, t->name.s,
		                  NULL); /* a log that cannot be read is told by others */
	}
	l->begin = false;
}

/* --- alarms and metrics
 * ---------------------------------------------------------------------------------------------- */

static void watch_one(struct loop *l, struct watched_tenant *t, struct watched_group *g)
{
	struct sosie_err err;
	int rc = sosie_keeper_watch(l->store, t->name.s, g->name.s, &err);
	if (rc && !g->unwatched)
		log_trouble(t->name.s, g->name.s, "cannot be watched", &err);
	g->unwatched = rc != 0;
}

struct snapshot {
	struct sosie_alarm *list;
	size_t count, room;
	bool no_memory;
};

static int add_alarm(void *arg, const struct sosie_alarm *a)
{
	struct snapshot *s = arg;
	if (s->count == s->room) {
		size_t room = s->room ? 2 * s->room : 16;
		struct sosie_alarm *grown = reallocarray(s->list, room, sizeof(*grown));
		s->no_memory = !grown;
		if (!grown)
			return 1;
		s->list = grown;
		s->room = room;
	}
	s->list[s->count++] = *a;
	return 0;
}

static void tell_alarms(struct loop *l)
{
	struct snapshot s = {.list = NULL};
	const uint64_t version = sosie_alarm_version(l->store);
	if (!l->outputs->herald || version == l->alarms_told)
		return;
	int rc = sosie_alarm_walk(l->store, NULL, NULL, add_alarm, &s, NULL);
	/* Half a list would close what is missing in it. What cannot be read is kept aside at the next
	 * change. */
	if (!s.no_memory && !rc) {
		herald_alarms(l->outputs->herald, s.list, s.count);
		l->alarms_told = version;
	}
	free(s.list);
}

static void write_metrics(struct loop *l)
{
	const int64_t now = sosie_mono_ms(l->clock);
	struct sosie_err err;
	char *text;
	size_t len;
	if (!l->outputs->scribe || now < l->metrics_ms)
		return;
	l->metrics_ms = now + SOSIE_METRICS_EVERY_MS;
	if (sosie_keeper_metrics(l->store, &text, &len, &err))
		sosie_log_err(SOSIE_LOG_WARNING, &err);
	else
		scribe_take(l->outputs->scribe, text, len);
}

static void watch(struct loop *l)
{
	const int64_t start = sosie_mono_ms(l->clock);
	struct sosie_err err;
	for (struct watched_tenant *t = l->turns.tenants; t && !stopping(l); t = t->next) {
		for (struct watched_group *g = t->groups; g && !stopping(l); g = g->next)
			watch_one(l, t, g);
		sosie_keeper_watch_tenant(l->store, t->name.s, NULL); /* at the next look again */
	}
	int rc = sosie_keeper_watch_store(l->store, &err);
	if (rc && !l->space_unknown)
		sosie_log_err(SOSIE_LOG_WARNING, &err);
	l->space_unknown = rc != 0;
	sosie_alarm_flush(l->store, false);
	tell_alarms(l);
	write_metrics(l);
	const int64_t end = sosie_mono_ms(l->clock), pause = WATCH_SHARE * (end - start);
	l->watch_ms = end + (pause > WATCH_MS ? pause : WATCH_MS);
}

static void settle(struct loop *l, bool all)
{
	struct sosie_err err;
	int64_t now = sosie_mono_ms(l->clock);
	for (struct watched_tenant *t = l->turns.tenants; t; t = t->next)
		for (struct watched_group *g = t->groups; g; g = g->next) {
			if (!all && g->touched_ms && now - g->touched_ms < IDLE_MS)
				continue;
			g->touched_ms = 0;
			sosie_err_clear(&err);
			if (sosie_keeper_settle(l->store, t->name.s, g->name.s, &err) &&
			    err.code != SOSIE_EBUSY && err.code != SOSIE_ENOTFOUND) /* not made yet */
				log_trouble(t->name.s, g->name.s, "not settled", &err);
		}
}

static void log_pruned(const char *tenant, const char *group, const struct sosie_prune *p)
{
	char size[32];
	if (p->points)
		sosie_log(SOSIE_LOG_INFO, "%s/%s: %llu points pruned, about %s freed", tenant, group,
		          (unsigned long long)p->points, sosie_size_text(size, sizeof(size), p->bytes));
	if (p->generations)
		sosie_log(SOSIE_LOG_INFO, "%s/%s: %llu generations made for points that stay", tenant, group,
		          (unsigned long long)p->generations);
}

/* A jump of the clock is told when it is found, not at each look. */
static void log_not_pruned(struct watched_group *g, const char *tenant, const struct sosie_err *err)
{
	if (g->not_pruned != err->code)
		log_trouble(tenant, g->name.s, "not pruned", err);
	g->not_pruned = err->code;
}

/* Idle work: a bounded step for each group for which one is due. True: some group has more to do. */
static bool retain(struct loop *l)
{
	bool more = false;
	struct sosie_prune p;
	struct sosie_err err;
	for (struct watched_tenant *t = l->turns.tenants; t && !stopping(l); t = t->next)
		for (struct watched_group *g = t->groups; g && !stopping(l); g = g->next) {
			sosie_err_clear(&err);
			if (sosie_keeper_retain(l->store, t->name.s, g->name.s, &p, &err))
				log_not_pruned(g, t->name.s, &err);
			else if (p.looked)
				g->not_pruned = SOSIE_OK;
			log_pruned(t->name.s, g->name.s, &p);
			if (p.points)
				g->retry_ms = 0; /* an upload may have waited for the room */
			more |= p.more;
		}
	return more;
}

/* A poke may mean "same": the RPO that status shows must not wait for the next scan. Settling tells of
 * errors. */
static void take_same(struct loop *l, struct watched_tenant *t)
{
	int64_t start = sosie_mono_ms(l->clock), pause;
	if (!t->same_due || start < t->same_ms)
		return;
	t->same_due = false;
	for (struct watched_group *g = t->groups; g && !stopping(l); g = g->next)
		sosie_keeper_same(l->store, t->name.s, g->name.s, NULL);
	pause = SAME_SHARE * (sosie_mono_ms(l->clock) - start);
	t->same_ms = start + (pause > SAME_MS ? pause : SAME_MS);
}

/* Waits for a poke, at most until deadline or the next look for "same"; takes what came. */
static void wait_pokes(struct loop *l, int64_t deadline)
{
	struct pollfd *fds = calloc(l->tenant_count ? l->tenant_count : 1, sizeof(*fds));
	int64_t left;
	char bytes[4096];
	size_t n = 0;
	if (!fds)
		return;
	for (struct watched_tenant *t = l->turns.tenants; t; t = t->next) {
		fds[n++] = (struct pollfd){.fd = t->fifo, .events = POLLIN};
		if (t->same_due && t->same_ms < deadline)
			deadline = t->same_ms;
	}
	left = deadline - sosie_mono_ms(l->clock);
	if (poll(fds, n, left > 0 ? (int)left : 0) > 0) {
		n = 0;
		for (struct watched_tenant *t = l->turns.tenants; t; t = t->next, n++)
			if (fds[n].revents & POLLIN) {
				/* Once: who writes without end does not hold us here. */
				if (read(t->fifo, bytes, sizeof(bytes)) < 0)
					continue;
				sosie_log(SOSIE_LOG_DEBUG, "%s: poked", t->name.s);
				t->look = t->same_due = true;
			}
	}
	for (struct watched_tenant *t = l->turns.tenants; t && !stopping(l); t = t->next)
		take_same(l, t);
	free(fds);
}

static void begin(struct loop *l, struct sosie_store *store, const struct loop_outputs *outputs)
{
	memset(l, 0, sizeof(*l));
	l->store = store;
	l->clock = sosie_clock_real();
	l->outputs = outputs;
	l->begin = true;
	l->alarms_told = UINT64_MAX;
	scan(l);
}

static void end(struct loop *l)
{
	settle(l, true);
	free_all(l);
}

int loop_once(struct sosie_store *store, const struct loop_outputs *outputs, struct sosie_err *err)
{
	struct loop l;
	(void)err;
	begin(&l, store, outputs);
	while (take_turn(&l))
		;
	settle(&l, true);
	for (unsigned i = 0; i < ONCE_STEPS && retain(&l); i++)
		;
	while (take_turn(&l)) /* what waited for the room that there is now */
		;
	watch(&l);
	end(&l);
	return 0;
}

/* What is to be done now and then, in between turns. */
static void now_and_then(struct loop *l)
{
	const int64_t now = sosie_mono_ms(l->clock);
	if (now >= l->scan_ms) {
		scan(l);
		settle(l, false);
		retain(l);
		l->scan_ms = sosie_mono_ms(l->clock) + SCAN_MS;
	}
	if (now >= l->watch_ms)
		watch(l);
}

int loop_run(struct sosie_store *store, const struct loop_outputs *outputs, bool (*stop)(void),
             struct sosie_err *err)
{
	struct loop l;
	(void)err;
	begin(&l, store, outputs);
	l.stop = stop;
	l.scan_ms = sosie_mono_ms(l.clock) + SCAN_MS;
	while (!stopping(&l)) {
		const bool busy = take_turn(&l);
		int64_t next = l.scan_ms < l.watch_ms ? l.scan_ms : l.watch_ms;
		wait_pokes(&l, busy ? 0 : turns_next_ms(&l.turns, next));
		if (!stopping(&l))
			now_and_then(&l);
	}
	end(&l);
	sosie_log(SOSIE_LOG_INFO, "ended, heads are settled");
	return 0;
}

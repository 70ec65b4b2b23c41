/* SPDX-License-Identifier: MIT */
/*
 * One thread. A receiver's poke is a byte in its tenant's FIFO; it is only a hint: every SCAN_MS all inboxes
 * are looked at anyway, which also finds new tenants. The FIFO is opened for reading and writing, so that it
 * never shows an end.
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

#include "sosie/retention.h"

#define SCAN_MS 2000
#define IDLE_MS 2000
#define SAME_MS 250     /* at least, from one look for "same" to the next */
#define SAME_SHARE 10   /* and so many times what the last look took */
#define ONCE_STEPS 1000 /* of pruning, in a run that ends */
#define BACKOFF_MIN_MS 1000
#define BACKOFF_MAX_MS 60000

struct watched_group {
	struct watched_group *next;
	struct sosie_name name;
	int64_t retry_ms, delay_ms; /* not before; 0: at once */
	int64_t touched_ms;         /* last acceptance; 0: settled */
	enum sosie_code not_pruned; /* why, as told last */
};
struct watched_tenant {
	struct watched_tenant *next;
	struct sosie_name name;
	int fifo; /* -1: none */
	struct watched_group *groups;
	bool same_due;   /* poked since the last look for "same" */
	int64_t same_ms; /* the next look, at the earliest */
};
struct loop {
	struct sosie_store *store;
	struct sosie_clock *clock;
	struct watched_tenant *tenants;
	size_t tenant_count;
	struct watched_tenant *now; /* whose groups are listed */
	bool more;                  /* a group has uploads left: another round, after everybody's turn */
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
	struct watched_tenant *t = l->tenants;
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
	t->next = l->tenants;
	l->tenants = t;
	l->tenant_count++;
	if (sosie_keeper_tenant(l->store, name->s, &err))
		log_trouble(name->s, "", "its receivers cannot be told their limits", &err);
	if (t->fifo < 0)
		sosie_log(SOSIE_LOG_WARNING,
		          "%s: no FIFO to be poked through; its inbox is looked at every %d ms", name->s,
		          SCAN_MS);
	return 0;
}

static int watch_group(void *arg, const struct sosie_name *name)
{
	struct loop *l = arg;
	group_of(l->now, name);
	return 0;
}

static void free_all(struct loop *l)
{
	while (l->tenants) {
		struct watched_tenant *t = l->tenants;
		l->tenants = t->next;
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

static void accept_group(struct loop *l, struct watched_tenant *t, struct watched_group *g)
{
	struct sosie_accept_result r;
	struct sosie_err err;
	int64_t start = sosie_mono_ms(l->clock);
	if (g->retry_ms > start)
		return;
	sosie_err_clear(&err);
	int rc = sosie_keeper_accept(l->store, t->name.s, g->name.s, &r, &err);
	int64_t end = sosie_mono_ms(l->clock);
	log_points(l, t->name.s, g->name.s, &r, end - start);
	if (r.refused)
		log_trouble(t->name.s, g->name.s, "refused", &r.last);
	else if (r.last.code)
		log_trouble(t->name.s, g->name.s, r.waiting ? "waits" : "no generation was made", &r.last);
	if (rc)
		log_trouble(t->name.s, g->name.s, "not worked on", &err);
	if (rc || r.waiting)
		later(l, g);
	else
		g->retry_ms = g->delay_ms = 0;
	if (r.accepted)
		g->touched_ms = end ? end : 1;
	l->more |= !rc && r.more;
}

static int accept_due(void *arg, const struct sosie_name *name)
{
	struct loop *l = arg;
	struct watched_group *g = group_of(l->now, name);
	if (g)
		accept_group(l, l->now, g);
	return stopping(l);
}

static void accept_tenant(struct loop *l, struct watched_tenant *t)
{
	struct sosie_err err;
	l->now = t;
	if (sosie_keeper_due(l->store, t->name.s, accept_due, l, &err))
		log_trouble(t->name.s, "_inbox", "cannot be looked at", &err);
}

/* A group that has more than one round's uploads waits for its next behind all others. */
static void next_round(struct loop *l)
{
	if (!l->more)
		return;
	l->more = false;
	for (struct watched_tenant *t = l->tenants; t && !stopping(l); t = t->next)
		accept_tenant(l, t);
}

/* All tenants and groups, also those that have nothing in the inbox: their statements are written anew once.
 */
static void scan(struct loop *l, bool groups)
{
	struct sosie_err err;
	if (sosie_store_tenants(l->store, watch_tenant, l, &err))
		sosie_log_err(SOSIE_LOG_WARNING, &err);
	for (struct watched_tenant *t = l->tenants; t && !stopping(l); t = t->next) {
		l->now = t;
		if (groups && sosie_store_groups(l->store, t->name.s, watch_group, l, &err))
			sosie_log_err(SOSIE_LOG_WARNING, &err);
		for (struct watched_group *g = groups ? t->groups : NULL; g && !stopping(l); g = g->next)
			accept_group(l, t, g);
		sosie_keeper_keys(l->store, t->name.s,
		                  NULL); /* a log that cannot be read is told by others */
		accept_tenant(l, t);
	}
}

static void settle(struct loop *l, bool all)
{
	struct sosie_err err;
	int64_t now = sosie_mono_ms(l->clock);
	for (struct watched_tenant *t = l->tenants; t; t = t->next)
		for (struct watched_group *g = t->groups; g; g = g->next) {
			if (!all && g->touched_ms && now - g->touched_ms < IDLE_MS)
				continue;
			g->touched_ms = 0;
			sosie_err_clear(&err);
			if (sosie_keeper_settle(l->store, t->name.s, g->name.s, &err) &&
			    err.code != SOSIE_EBUSY)
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
	for (struct watched_tenant *t = l->tenants; t && !stopping(l); t = t->next)
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
	for (struct watched_tenant *t = l->tenants; t; t = t->next) {
		fds[n++] = (struct pollfd){.fd = t->fifo, .events = POLLIN};
		if (t->same_due && t->same_ms < deadline)
			deadline = t->same_ms;
	}
	left = l->more ? 0 : deadline - sosie_mono_ms(l->clock);
	if (poll(fds, n, left > 0 ? (int)left : 0) > 0) {
		n = 0;
		for (struct watched_tenant *t = l->tenants; t && !stopping(l); t = t->next, n++)
			if (fds[n].revents & POLLIN) {
				while (read(t->fifo, bytes, sizeof(bytes)) == (ssize_t)sizeof(bytes))
					;
				sosie_log(SOSIE_LOG_DEBUG, "%s: poked", t->name.s);
				accept_tenant(l, t);
				t->same_due = true;
			}
	}
	next_round(l);
	for (struct watched_tenant *t = l->tenants; t && !stopping(l); t = t->next)
		take_same(l, t);
	free(fds);
}

/* Uploads that waited for room are looked at again when there is some. */
static void accept_pruned(struct loop *l)
{
	for (struct watched_tenant *t = l->tenants; t && !stopping(l); t = t->next)
		for (struct watched_group *g = t->groups; g && !stopping(l); g = g->next) {
			l->now = t;
			if (g->delay_ms && g->retry_ms == 0)
				accept_group(l, t, g);
		}
}

int loop_once(struct sosie_store *store, struct sosie_err *err)
{
	struct loop l = {.store = store, .clock = sosie_clock_real()};
	(void)err;
	scan(&l, true);
	while (l.more)
		next_round(&l);
	settle(&l, true);
	for (unsigned i = 0; i < ONCE_STEPS && retain(&l); i++)
		;
	accept_pruned(&l);
	free_all(&l);
	return 0;
}

int loop_run(struct sosie_store *store, bool (*stop)(void), struct sosie_err *err)
{
	struct loop l = {.store = store, .clock = sosie_clock_real(), .stop = stop};
	(void)err;
	scan(&l, true);
	while (!stopping(&l)) {
		int64_t next = sosie_mono_ms(l.clock) + SCAN_MS;
		while (!stopping(&l) && sosie_mono_ms(l.clock) < next)
			wait_pokes(&l, next);
		if (!stopping(&l)) {
			scan(&l, false);
			settle(&l, false);
			retain(&l);
		}
	}
	settle(&l, true);
	free_all(&l);
	sosie_log(SOSIE_LOG_INFO, "ended, heads are settled");
	return 0;
}

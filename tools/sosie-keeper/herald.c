/* SPDX-License-Identifier: MIT */
/*
 * Alarms on their way to the operator's program. Tenants take turns here too, and one tenant's alarms are at
 * least SPACING_MS apart: who makes many holds up its own only. An alarm that closed before its opening was
 * told is never told.
 */
#include "tools/sosie-keeper/herald.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "sosie/clock.h"
#include "sosie/log.h"
#include "sosie/telling.h"
#include "sosie/thread.h"

#define SPACING_MS 2000

struct told {
	struct told *next;
	struct sosie_alarm a;
	struct sosie_telling telling;
	bool there; /* in the list that was given last */
};
struct spacing {
	struct spacing *next;
	struct sosie_name tenant;
	int64_t last_ms; /* when one of its alarms was told last; INT64_MIN: never */
};
struct herald {
	pthread_mutex_t lock;
	pthread_cond_t wake;
	pthread_t thread;
	char *program;
	int64_t repeat_ms, again_ms, spacing_ms;
	struct told *alarms;
	struct spacing *tenants;
	bool stopping; /* atomic too: a run under way looks at it */
	bool failing;  /* the program has failed, and that was logged */
};

static int64_t now_ms(void)
{
	return sosie_mono_ms(sosie_clock_real());
}

static struct spacing *spacing_of(struct herald *h, const struct sosie_name *tenant)
{
	struct spacing *s = h->tenants;

	while (s && strcmp(s->tenant.s, tenant->s) != 0)
		s = s->next;
	if (s || !(s = calloc(1, sizeof(*s))))
		return s;
	s->tenant = *tenant;
	s->last_ms = INT64_MIN;
	s->next = h->tenants;
	h->tenants = s;
	return s;
}

/* When the alarm may be told: its own time, and its tenant's. */
static int64_t due_ms(const struct herald *h, const struct told *t, const struct spacing *s)
{
	const int64_t own = t->telling.due_ms;

	if (s->last_ms == INT64_MIN || !t->a.tenant.s[0])
		return own;
	return own > s->last_ms + h->spacing_ms ? own : s->last_ms + h->spacing_ms;
}

/* The next to be told at that time: of the tenant that was told longest ago. NULL: none; *until: when to look
 * again. */
static struct told *pick(struct herald *h, int64_t now, int64_t *until)
{
	struct told *best = NULL;
	int64_t best_last = 0;

	*until = INT64_MAX;
	for (struct told *t = h->alarms; t; t = t->next) {
		struct spacing *s = spacing_of(h, &t->a.tenant);
		const int64_t due = s ? due_ms(h, t, s) : INT64_MAX;

		if (due > now) {
			*until = due < *until ? due : *until;
			continue;
		}
		if (!best || s->last_ms < best_last ||
		    (s->last_ms == best_last && t->telling.due_ms < best->telling.due_ms)) {
			best = t;
			best_last = s->last_ms;
		}
	}
	return best;
}

static void wait_until(struct herald *h, int64_t until_ms)
{
	struct timespec ts = {.tv_sec = (time_t)(until_ms / 1000), .tv_nsec = (until_ms % 1000) * 1000000};

	if (until_ms == INT64_MAX)
		pthread_cond_wait(&h->wake, &h->lock);
	else
		pthread_cond_timedwait(&h->wake, &h->lock, &ts);
}

static struct told **find(struct herald *h, uint64_t number)
{
	struct told **at = &h->alarms;

	while (*at && (*at)->a.number != number)
		at = &(*at)->next;
	return at;
}

static void forget(struct told **at)
{
	struct told *t = *at;

	*at = t->next;
	free(t);
}

static int run(struct herald *h, const struct sosie_alarm *a)
{
	struct sosie_json *doc = sosie_telling_doc();
	struct sosie_err err;
	char line[1100];

	sosie_alarm_json(doc, a);
	const int rc = sosie_telling_run(h->program, doc, &h->stopping, &err);
	if (rc != 0 && rc != -SOSIE_EINTR && !h->failing)
		sosie_log(SOSIE_LOG_ERROR, "the alarm program failed, and is tried again: %s",
		          sosie_err_line(&err, line, sizeof(line)));
	h->failing = rc != 0;
	return rc;
}

/* With the lock held, which is given up for the run. */
static void tell(struct herald *h, struct told *t)
{
	const struct sosie_alarm copy = t->a;
	struct spacing *s = spacing_of(h, &t->a.tenant);

	t->telling.begun = true;
	s->last_ms = now_ms();
	pthread_mutex_unlock(&h->lock);
	const bool taken = run(h, &copy) == 0;
	pthread_mutex_lock(&h->lock);
	struct told **at = find(h, copy.number);
	if (*at && sosie_telling_settle(&(*at)->telling, copy.closed_ms != 0, (*at)->a.closed_ms != 0, taken,
	                                now_ms(), h->repeat_ms, h->again_ms))
		forget(at);
}

static void *herald_run(void *arg)
{
	struct herald *h = arg;

	pthread_mutex_lock(&h->lock);
	while (!h->stopping) {
		int64_t until;
		struct told *t = pick(h, now_ms(), &until);

		if (t)
			tell(h, t);
		else
			wait_until(h, until);
	}
	pthread_mutex_unlock(&h->lock);
	return NULL;
}

/* --- what the keeper gives
 * ------------------------------------------------------------------------------------------- */

static void close_told(struct told *t, int64_t closed_ms)
{
	if (t->a.closed_ms)
		return;
	t->a.closed_ms = closed_ms;
	t->telling.due_ms = 0;
}

static void take_one(struct herald *h, const struct sosie_alarm *a)
{
	struct told **at = find(h, a->number), *t = *at;
	const struct sosie_alarm before = t ? t->a : (struct sosie_alarm){0};

	if (!t && a->closed_ms)
		return; /* told long ago, or never to be */
	if (!t) {
		t = calloc(1, sizeof(*t));
		if (!t)
			return; /* with the next list */
		*at = t;
	}
	t->a = *a;
	t->a.closed_ms = before.closed_ms;
	t->there = true;
	if (a->closed_ms)
		close_told(t, a->closed_ms);
}

void herald_alarms(struct herald *h, const struct sosie_alarm *list, size_t count)
{
	pthread_mutex_lock(&h->lock);
	for (struct told *t = h->alarms; t; t = t->next)
		t->there = false;
	for (size_t i = 0; i < count; i++)
		take_one(h, &list[i]);
	for (struct told **at = &h->alarms; *at;) {
		if (!(*at)->there)
			close_told(*at, sosie_wall_ms(sosie_clock_real()));
		if ((*at)->a.closed_ms && !(*at)->telling.begun)
			forget(at);
		else
			at = &(*at)->next;
	}
	pthread_cond_signal(&h->wake);
	pthread_mutex_unlock(&h->lock);
}

static void herald_free(struct herald *h)
{
	while (h->alarms)
		forget(&h->alarms);
	while (h->tenants) {
		struct spacing *s = h->tenants;
		h->tenants = s->next;
		free(s);
	}
	pthread_cond_destroy(&h->wake);
	pthread_mutex_destroy(&h->lock);
	free(h->program);
	free(h);
}

int herald_start(const char *program, int64_t repeat_ms, struct herald **out, struct sosie_err *err)
{
	pthread_condattr_t attr;
	struct herald *h = calloc(1, sizeof(*h));

	*out = NULL;
	if (!h)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for alarms");
	pthread_mutex_init(&h->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&h->wake, &attr);
	pthread_condattr_destroy(&attr);
	h->program = strdup(program);
	h->repeat_ms = repeat_ms;
	h->again_ms = SOSIE_TELLING_AGAIN_MS;
	h->spacing_ms = SPACING_MS;
	const int sys = h->program ? sosie_thread_start(&h->thread, NULL, herald_run, h) : ENOMEM;
	if (sys != 0) {
		herald_free(h);
		return sosie_err_sys(err, sys, "cannot start the thread that tells alarms");
	}
	*out = h;
	return 0;
}

void herald_stop(struct herald *h)
{
	if (!h)
		return;
	pthread_mutex_lock(&h->lock);
	__atomic_store_n(&h->stopping, true, __ATOMIC_RELAXED);
	pthread_cond_signal(&h->wake);
	pthread_mutex_unlock(&h->lock);
	pthread_join(h->thread, NULL);
	herald_free(h);
}

/* SPDX-License-Identifier: MIT */
/*
 * One standby: its sessions, its slots for cycles, and the courier that says "same" for its idle groups, one
 * message for all of a tenant, at most once an interval.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/mirror/internal.h"

#define GATHER_MS 30 /* after the first group of a batch: those of the same interval come together */
#define COURIER_NAP_MS 2000
#define TIDY_MS 30000

int standby_new(struct sosie_mirror *m, const struct sosie_config_standby *config, struct config_ref *ref,
                struct mirror_standby **out, struct sosie_err *err)
{
	struct mirror_standby *s = calloc(1, sizeof(*s));
	int rc;

	*out = NULL;
	if (!s || mirror_cond_init(&s->wake) != 0) {
		free(s);
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for standby %s", config->name.s);
	}
	s->m = m;
	s->config = config;
	s->lost_ms = -1;
	s->sent_ms = INT64_MIN / 2;
	s->stamp_ms = s->tidied_ms = mirror_now(m);
	s->shortest_ms = UINT64_MAX;
	s->queue_end = &s->queue;
	sosie_target_text(s->label, sizeof(s->label), &config->to);
	rc = m->o.connect(m->o.arg, config, &s->connector, err);
	if (rc == 0)
		rc = sosie_pool_new(s->connector, m->clock, s->label, &s->pool, err);
	if (rc == 0)
		rc = sosie_pool_trust(s->pool, config->signing, config->standby_key, err);
	if (rc != 0) {
		standby_free(s);
		return rc;
	}
	s->ref = ref;
	ref->refs++;
	*out = s;
	return 0;
}

void standby_free(struct mirror_standby *s)
{
	sosie_pool_free(s->pool);
	if (s->connector)
		s->m->o.disconnect(s->m->o.arg, s->connector);
	pthread_cond_destroy(&s->wake);
	free(s);
}

/* --- slots
 * ---------------------------------------------------------------------------------------------------------
 */

bool standby_slot_take(struct mirror_group *g)
{
	struct mirror_standby *s = g->standby;

	if (g->has_slot)
		return true;
	if (s->running < s->config->cycles) {
		s->running++;
		g->has_slot = true;
		return true;
	}
	g->turn = TURN_QUEUE;
	g->queue_next = NULL;
	*s->queue_end = g;
	s->queue_end = &g->queue_next;
	return false;
}

/* The slot goes to who waits longest. */
void standby_slot_give(struct mirror_group *g)
{
	struct mirror_standby *s = g->standby;
	struct mirror_group *first = s->queue;

	if (!g->has_slot)
		return;
	g->has_slot = false;
	if (!first) {
		s->running--;
		return;
	}
	standby_unqueue(first);
	first->has_slot = true;
	heap_push(first, mirror_now(s->m));
}

void standby_unqueue(struct mirror_group *g)
{
	struct mirror_standby *s = g->standby;
	struct mirror_group **at = &s->queue;

	while (*at && *at != g)
		at = &(*at)->queue_next;
	if (!*at)
		return;
	*at = g->queue_next;
	if (s->queue_end == &g->queue_next)
		s->queue_end = at;
	g->turn = TURN_BUSY;
}

/* --- whether it answers
 * -------------------------------------------------------------------------------------------- */

bool standby_is_loss(enum sosie_code code)
{
	return code == SOSIE_EPEER || code == SOSIE_ETIMEOUT;
}

void standby_failed(struct mirror_standby *s, const struct sosie_err *err)
{
	if (!standby_is_loss(err->code))
		return;
	s->error = *err;
	if (s->lost_ms < 0)
		s->lost_ms = mirror_now(s->m);
}

void standby_answered(struct mirror_standby *s)
{
	s->lost_ms = -1;
	sosie_err_clear(&s->error);
}

/* --- "same"
 * -------------------------------------------------------------------------------------------------------- */

void standby_same_add(struct mirror_group *g, const struct sosie_same *same)
{
	struct mirror_standby *s = g->standby;

	g->same = *same;
	if (g->same_pending)
		return;
	g->same_pending = true;
	if (s->batch++ == 0) {
		s->batch_ms = mirror_now(s->m);
		pthread_cond_signal(&s->wake);
	}
}

/* Of one tenant: a key, and so a standby, belongs to one. */
struct letter {
	struct sosie_name tenant; /* copied: a held group's configuration may be exchanged meanwhile */
	struct mirror_group **groups;
	struct sosie_same *same;
	unsigned count;
};

/* A reload may give a standby to another tenant while groups of the one before are still on their way out:
 * these wait for a letter of their own. */
static bool is_of(const struct letter *l, const struct mirror_group *g)
{
	return l->count == 0 || strcmp(l->tenant.s, g->config->tenant.s) == 0;
}

/* Takes what the groups have to say; they are held until post has ended. */
static bool gather(struct mirror_standby *s, struct letter *l)
{
	unsigned left = 0;

	l->groups = malloc(s->batch * sizeof(struct mirror_group *));
	l->same = malloc(s->batch * sizeof(*l->same));
	if (!l->groups || !l->same)
		return false;
	for (struct mirror_group *g = s->m->groups; g && l->count < s->batch; g = g->next) {
		if (g->standby != s || !g->same_pending)
			continue;
		if (!g->leaving && !is_of(l, g)) {
			left++;
			continue;
		}
		g->same_pending = false;
		if (g->leaving)
			continue;
		g->refs++;
		l->tenant = g->config->tenant;
		l->same[l->count] = g->same;
		l->groups[l->count++] = g;
	}
	s->batch = left;
	return true;
}

/* With the lock held, which is let go meanwhile. */
static int send_letter(struct mirror_standby *s, const struct letter *l, struct sosie_err *err)
{
	int rc;

	pthread_mutex_unlock(&s->m->lock);
	rc = sosie_pool_same(s->pool, l->tenant.s, l->same, l->count, err);
	pthread_mutex_lock(&s->m->lock);
	if (rc != 0) {
		standby_failed(s, err);
		return rc;
	}
	s->same_messages++;
	standby_answered(s);
	for (unsigned i = 0; i < l->count; i++)
		if (l->groups[i]->point == l->same[i].point)
			group_accepted(l->groups[i], l->same[i].mono_ms);
	return 0;
}

static void tell_failure(struct mirror_standby *s, const struct sosie_err *err, bool *told)
{
	char line[1100];

	if (!*told && err->code != SOSIE_EINTR)
		mirror_say(s->m, SOSIE_LOG_WARNING, "%s: unchanged groups could not be reported: %s",
		           s->config->name.s, sosie_err_line(err, line, sizeof(line)));
	*told = true;
}

static void post(struct mirror_standby *s, bool *told)
{
	struct letter l = {.count = 0};
	struct sosie_err err = {0};

	s->sending = true;
	s->sent_ms = mirror_now(s->m);
	if (gather(s, &l) && l.count > 0) {
		if (send_letter(s, &l, &err) == 0)
			*told = false;
		else if (!s->m->stopping)
			tell_failure(s, &err, told);
	}
	for (unsigned i = 0; i < l.count; i++)
		l.groups[i]->refs--;
	s->sending = false;
	free(l.groups);
	free(l.same);
}

/* When the next message may go: groups gathered, an interval since the last, and the standby not paused. */
static int64_t post_due(const struct mirror_standby *s)
{
	int64_t due = s->batch_ms + GATHER_MS, next, pause = sosie_pool_pause_ms(s->pool);

	if (s->batch == 0)
		return NEVER;
	next = s->shortest_ms > INT32_MAX ? due : s->sent_ms + (int64_t)s->shortest_ms - GATHER_MS;
	if (next > due)
		due = next;
	if (pause > 0 && mirror_now(s->m) + pause > due)
		due = mirror_now(s->m) + pause;
	return due;
}

static void stamp(struct mirror_standby *s)
{
	__atomic_store_n(&s->stamp_ms, mirror_now(s->m), __ATOMIC_RELAXED);
}

/* With the lock held, which is let go meanwhile: a standby that hangs is waited for, with each session. */
static void tidy(struct mirror_standby *s)
{
	s->sending = true;
	pthread_mutex_unlock(&s->m->lock);
	while (sosie_pool_tidy(s->pool) && !__atomic_load_n(&s->m->stopping, __ATOMIC_RELAXED))
		stamp(s);
	pthread_mutex_lock(&s->m->lock);
	s->sending = false;
	s->tidied_ms = mirror_now(s->m);
}

/* Nobody uses it any more, and nobody finds it from now on. With the lock held, which is let go meanwhile:
 * closing its sessions takes long where it hangs, so its courier does that, and no other thread. */
static void end_standby(struct mirror_standby *s)
{
	struct sosie_mirror *m = s->m;
	struct mirror_standby **at = &m->standbys;

	while (*at != s)
		at = &(*at)->next;
	*at = s->next;
	if (s->alarmed)
		alarm_set(m, ALARM_STANDBY, s->config->name.s, NULL);
	config_ref_drop(s->ref);
	pthread_mutex_unlock(&m->lock);
	standby_free(s);
	pthread_mutex_lock(&m->lock);
}

static void *courier_run(void *arg)
{
	struct mirror_standby *s = arg;
	struct sosie_mirror *m = s->m;
	bool told = false;

	pthread_mutex_lock(&m->lock);
	while (!m->stopping && !(s->leaving && s->groups == 0)) {
		int64_t now = mirror_now(m), due = post_due(s);

		stamp(s);
		if (due <= now)
			post(s, &told);
		else if (now - s->tidied_ms >= TIDY_MS)
			tidy(s);
		else
			mirror_wait(m, &s->wake, due < now + COURIER_NAP_MS ? due : now + COURIER_NAP_MS);
	}
	if (!m->stopping) /* else the mirror's end frees it */
		end_standby(s);
	mirror_thread_ended(m);
	pthread_mutex_unlock(&m->lock);
	return NULL;
}

int standby_start(struct mirror_standby *s, struct sosie_err *err)
{
	return mirror_thread(s->m, courier_run, s, err);
}

/* SPDX-License-Identifier: MIT */
/*
 * A group's turn: what has been decided about it (gone, changed), looking whether anything was written, the
 * cycle, and when it is due again. One thread; it may hang here as long as it likes without harm to others.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/mirror/internal.h"

#define NEEDS_MS 60000
#define HELD_MS 100
#define REST_TIMES 4

/* A new configuration that a turn has taken. */
struct next {
	const struct sosie_config_group *config;
	struct config_ref *ref;
	struct mirror_standby *standby;
};

/* Ends the turn: back on the heap, or at once when something has been decided meanwhile. */
static void done_locked(struct mirror_group *g, int64_t due_ms)
{
	standby_slot_give(g);
	heap_push(g, g->leaving || g->new_config ? mirror_now(g->m) : due_ms);
}

static void done(struct mirror_group *g, int64_t due_ms)
{
	pthread_mutex_lock(&g->m->lock);
	done_locked(g, due_ms);
	pthread_mutex_unlock(&g->m->lock);
}

/* --- gone, changed
 * ------------------------------------------------------------------------------------------------- */

static void unlink_group(struct mirror_group *g)
{
	struct mirror_group **at = &g->m->groups;

	while (*at != g)
		at = &(*at)->next;
	*at = g->next;
	g->m->group_count--;
	if (--g->standby->groups == 0)
		pthread_cond_signal(&g->standby->wake);
}

/* Nobody will look for them any more. */
static void views_stay(struct mirror_group *g, const struct sosie_err *err)
{
	char line[900], tag[SOSIE_MIRROR_TAG];
	struct sosie_source_options o;

	if (sosie_mirror_source(g->config, tag, &o, NULL) != 0)
		return;
	pthread_mutex_lock(&g->m->lock);
	mirror_say(g->m, SOSIE_LOG_WARNING,
	           "%s: views that it has left may hold space for good: %s; remove %s.%s.%s.* in the folders "
	           ".sosie beside its volumes, or at the top of their filesystem",
	           g->label, sosie_err_line(err, line, sizeof(line)), g->config->tenant.s, g->config->group.s,
	           tag);
	pthread_mutex_unlock(&g->m->lock);
}

/* True: a courier speaks for the group, so it goes a little later. None begins to, once it is leaving. */
static bool is_held(struct mirror_group *g)
{
	bool held;

	pthread_mutex_lock(&g->m->lock);
	held = g->refs > 0;
	if (held) {
		standby_slot_give(g);
		heap_push(g, mirror_now(g->m) + HELD_MS);
	}
	pthread_mutex_unlock(&g->m->lock);
	return held;
}

static void leave(struct mirror_group *g)
{
	struct sosie_mirror *m = g->m;
	struct sosie_err err = {0};
	int rc;

	if (is_held(g))
		return;
	rc = g->replicator ? 0 : group_open(g, &err); /* only to take its views away */
	if (rc == 0)
		rc = group_close(g, true, &err);
	if (rc != 0)
		views_stay(g, &err);
	pthread_mutex_lock(&m->lock);
	standby_slot_give(g);
	alarm_group_gone(g);
	unlink_group(g);
	group_free(g);
	pthread_mutex_unlock(&m->lock);
}

/* Nobody would look for views beside a volume that is in the group no longer. */
static bool volume_leaves(const struct sosie_config_group *old, const struct sosie_config_group *new)
{
	for (unsigned i = 0; i < old->volume_count; i++) {
		bool stays = false;

		for (unsigned k = 0; k < new->volume_count && !stays; k++)
			stays = strcmp(old->volumes[i].path, new->volumes[k].path) == 0;
		if (!stays)
			return true;
	}
	return false;
}

/* With the lock held. The new standby is this group's from now on: it does not end meanwhile. */
static void take_next(struct mirror_group *g, struct next *next)
{
	*next = (struct next){g->new_config, g->new_ref, g->new_standby};
	g->new_config = NULL;
	g->new_ref = NULL;
	g->new_standby = NULL;
	g->changing = next->config != NULL;
	if (next->config)
		next->standby->groups++;
}

static void change(struct mirror_group *g, const struct next *next)
{
	struct mirror_standby *old = g->standby;
	struct config_ref *old_ref = g->ref;
	struct sosie_err err = {0};

	if (group_close(g, volume_leaves(g->config, next->config), &err) != 0)
		views_stay(g, &err);
	pthread_mutex_lock(&g->m->lock);
	standby_slot_give(g);
	g->config = next->config;
	g->ref = next->ref;
	g->standby = next->standby;
	g->changing = false;
	if (--old->groups == 0)
		pthread_cond_signal(&old->wake);
	mirror_recount(g->m);
	g->backoff_ms = 0;
	g->forced_until_ms = 0;
	g->told[0] = '\0';
	free(g->fs);
	g->fs = NULL;
	g->fs_count = 0;
	g->check_ms = g->checked_ms = 0;
	g->same_pending = false;
	config_ref_drop(old_ref);
	pthread_mutex_unlock(&g->m->lock);
}

/* --- errors
 * -------------------------------------------------------------------------------------------------------- */

/* Half of the time fixed, half random: many groups do not come back in step. */
static int64_t back_off(struct mirror_group *g)
{
	uint16_t dice = 0;

	g->backoff_ms = g->backoff_ms == 0 ? RETRY_MIN_MS : g->backoff_ms * 2;
	if (g->backoff_ms > RETRY_MAX_MS)
		g->backoff_ms = RETRY_MAX_MS;
	(void)sosie_random(g->m->clock, &dice, sizeof(dice), NULL);
	return g->backoff_ms / 2 + g->backoff_ms / 2 * dice / UINT16_MAX;
}

/* With the lock held. The alarms that go with an error; others of the kind are closed. */
static void error_alarms(struct mirror_group *g, const struct sosie_err *err)
{
	bool operator_ = err->code != 0 && sosie_code_class(err->code) != SOSIE_CLASS_RETRY;
	bool fenced = err->code == SOSIE_EFENCED, refused = err->code == SOSIE_EREFUSED;
	char line[1100];

	sosie_err_line(err, line, sizeof(line));
	alarm_group(g, ALARM_FENCED, fenced, "%.590s", line);
	alarm_group(g, ALARM_REFUSED, refused, "%.590s", line);
	alarm_group(g, ALARM_NEEDS, operator_ && !fenced && !refused, "%.590s", line);
}

static int64_t error_state(struct mirror_group *g, const struct sosie_err *err)
{
	int64_t now = mirror_now(g->m), pause;

	if (err->code == SOSIE_EFENCED) {
		g->state = GROUP_FENCED;
		check_all(g->standby);
		return NEVER;
	}
	if (sosie_code_class(err->code) != SOSIE_CLASS_RETRY) {
		g->state = GROUP_NEEDS;
		/* What is missing or failed may be there again soon; what a person decides takes its time. */
		return now + (sosie_code_class(err->code) == SOSIE_CLASS_FATAL ? back_off(g) : NEEDS_MS);
	}
	g->state = standby_is_loss(err->code) ? GROUP_WAITING : GROUP_RETRYING;
	if (err->code == SOSIE_ENOSPACE && __atomic_load_n(&g->let_views_go, __ATOMIC_RELAXED))
		return now; /* its views go with the next turn */
	pause = standby_is_loss(err->code) ? sosie_pool_pause_ms(g->standby->pool) : 0;
	if (pause > 0) /* the pool backs off for all of its groups */
		return now + pause + 1;
	return now + back_off(g);
}

static void failed(struct mirror_group *g, const struct sosie_err *err)
{
	bool news = strcmp(g->told, err->what) != 0;
	int64_t due;

	pthread_mutex_lock(&g->m->lock);
	if (err->code == SOSIE_EINTR || g->m->stopping) { /* told to end */
		done_locked(g, mirror_now(g->m) + HELD_MS);
		pthread_mutex_unlock(&g->m->lock);
		return;
	}
	/* The loss of a standby is told once, not by each of its groups. */
	if (standby_is_loss(err->code) && g->standby->lost_ms >= 0 && !g->m->o.tell)
		news = false;
	if (g->error.code != err->code || g->error_wall_ms == 0)
		g->error_wall_ms = sosie_wall_ms(g->m->clock);
	g->error = *err;
	g->count.errors++;
	g->unchanged = false;
	standby_failed(g->standby, err);
	error_alarms(g, err);
	due = error_state(g, err);
	pthread_mutex_unlock(&g->m->lock);
	if (news)
		mirror_tell(g, NULL, err);
	snprintf(g->told, sizeof(g->told), "%s", err->what);
	done(g, due);
}

/* With the lock held. */
static void fine(struct mirror_group *g)
{
	if (g->error.code != 0 || g->alarms != 0) {
		static const struct sosie_err none;

		sosie_err_clear(&g->error);
		error_alarms(g, &none);
	}
	g->error_wall_ms = 0;
	g->backoff_ms = 0;
	g->behind_known = false;
}

/* --- nothing was written
 * ------------------------------------------------------------------------------------------- */

static void is_idle(struct mirror_group *g, const struct sosie_same *same)
{
	struct sosie_cycle_result r = {.same = true, .point = same->point};
	int64_t due;
	bool first;

	pthread_mutex_lock(&g->m->lock);
	fine(g);
	first = !g->unchanged;
	g->unchanged = true;
	g->exists = true;
	g->point = same->point;
	g->state = g->standby->lost_ms >= 0 ? GROUP_WAITING : GROUP_IDLE;
	g->count.looks++;
	standby_same_add(g, same);
	g->look_ms = group_grid(g, mirror_now(g->m));
	due = check_due(g, g->look_ms);
	if (!first)
		done_locked(g, due);
	pthread_mutex_unlock(&g->m->lock);
	if (!first)
		return;
	r.cut_mono_ms = r.done_mono_ms = same->mono_ms;
	mirror_tell(g, &r, NULL);
	g->told[0] = '\0';
	done(g, due);
}

/* --- the cycle
 * ----------------------------------------------------------------------------------------------------- */

/* True: the cycle or look before found nothing either. */
static bool begin_cycle(struct mirror_group *g)
{
	bool was_idle;
	int64_t now = mirror_now(g->m), age, behind = 3 * (int64_t)g->config->interval_ms;

	pthread_mutex_lock(&g->progress_lock);
	g->step_done = g->step_total = g->step_first = 0;
	g->step_ms = now;
	pthread_mutex_unlock(&g->progress_lock);
	pthread_mutex_lock(&g->m->lock);
	age = group_age(g, now);
	was_idle = g->unchanged;
	g->unchanged = false;
	g->state = !g->exists                                         ? GROUP_FIRST
	           : age < 0 || age > (behind > 3000 ? behind : 3000) ? GROUP_CATCHING
	                                                              : GROUP_MIRRORING;
	pthread_mutex_unlock(&g->m->lock);
	return was_idle;
}

/* With the lock held. */
static void count_result(struct mirror_group *g, const struct sosie_cycle_result *r)
{
	int64_t now = mirror_now(g->m);

	g->count.cycles++;
	g->count.read += r->read_bytes;
	g->count.changed += r->changed_bytes;
	g->count.wire += r->wire_bytes;
	g->exists = true;
	g->point = r->point;
	g->backlog = 0;
	g->unchanged = r->same;
	g->state = r->same ? GROUP_IDLE : GROUP_MIRRORING;
	group_accepted(g, r->cut_mono_ms);
	if (r->same)
		return;
	g->labelled = true;
	g->consistency = r->consistency;
	g->change_wall_ms = sosie_wall_ms(g->m->clock) - (now - r->cut_mono_ms);
	alarm_group(g, ALARM_FUZZY,
	            r->consistency == SOSIE_CONSISTENCY_FUZZY && g->config->volume_count > 1 &&
	                    strcmp(g->driver, "reflink") == 0,
	            "the volumes are written faster than two rounds of clones: points are fuzzy; configure "
	            "pause");
}

static void after_cycle(struct mirror_group *g, int64_t began_ms, uint64_t left)
{
	struct sosie_replicator_status st = {0};

	sosie_replicator_status(g->replicator, &st);
	pthread_mutex_lock(&g->m->lock);
	g->view_held = st.view.s[0] != '\0';
	g->cycle_ms = mirror_now(g->m) - began_ms;
	if (left > 0)
		g->backlog = left;
	pthread_mutex_unlock(&g->m->lock);
}

static uint64_t end_progress(struct mirror_group *g, int rc)
{
	uint64_t left;

	pthread_mutex_lock(&g->progress_lock);
	left = rc != 0 ? g->step_total : 0;
	g->step_done = g->step_total = 0;
	pthread_mutex_unlock(&g->progress_lock);
	return left;
}

/* Reads all each time in place of views: from one end to the next beginning four times as long as it took. */
static bool is_fallback(const struct mirror_group *g)
{
	if (strcmp(g->driver, "scan") != 0 || g->config->source == SOSIE_SOURCE_SCAN)
		return false;
	return g->opened_kind == SOSIE_SOURCE_SCAN || g->source->stands_in;
}

static void rest(struct mirror_group *g, int64_t began, const struct sosie_cycle_result *r)
{
	int64_t now = mirror_now(g->m);

	if (!is_fallback(g) || r->read_bytes == 0)
		return;
	pthread_mutex_lock(&g->m->lock);
	g->rest_ms = now + REST_TIMES * (now - began);
	pthread_mutex_unlock(&g->m->lock);
}

/* Until then nothing is read; 0: now. Another driver is opened when that may be, rest or not. */
static int64_t rest_end(const struct mirror_group *g, int64_t now)
{
	if (!is_fallback(g) || now >= g->rest_ms)
		return 0;
	return g->forced_until_ms > now && g->forced_until_ms < g->rest_ms ? g->forced_until_ms : g->rest_ms;
}

/* On the interval's grid. What took longer than the interval is followed at once: every moment of waiting
 * would make the next change larger, and that cycle longer. */
static int64_t next_cycle(struct mirror_group *g, int64_t began)
{
	int64_t now = mirror_now(g->m), end = rest_end(g, now);
	int64_t next = now - began > (int64_t)g->config->interval_ms ? now : group_grid(g, now);

	return next > end ? next : end;
}

static void cycle(struct mirror_group *g)
{
	struct sosie_cycle_result r = {0};
	struct sosie_err err = {0};
	int64_t began = mirror_now(g->m);
	bool was_idle = begin_cycle(g), news;
	int rc;

	rc = sosie_replicator_cycle(g->replicator, &r, &err);
	after_cycle(g, began, end_progress(g, rc));
	g->last_cut_ms = rc == 0 && !r.same ? r.cut_mono_ms : began;
	cut_measured(g);
	rest(g, began, &r);
	if (rc != 0) {
		failed(g, &err);
		return;
	}
	pthread_mutex_lock(&g->m->lock);
	news = !r.same || !was_idle || r.compared;
	fine(g);
	standby_answered(g->standby);
	count_result(g, &r);
	check_later(g);
	pthread_mutex_unlock(&g->m->lock);
	if (news)
		mirror_tell(g, &r, NULL);
	g->told[0] = '\0';
	done(g, next_cycle(g, began));
}

/* The standby is known to be away: nothing is cut; what changes meanwhile comes with the next point. */
static bool standby_away(struct mirror_group *g)
{
	int64_t pause = sosie_pool_pause_ms(g->standby->pool);
	bool away;

	pthread_mutex_lock(&g->m->lock);
	away = pause > 0 && g->standby->lost_ms >= 0 && g->exists;
	if (away)
		g->state = GROUP_WAITING;
	if (away && g->error.code == 0) {
		g->error = g->standby->error;
		g->error_wall_ms = sosie_wall_ms(g->m->clock);
	}
	if (away)
		done_locked(g, mirror_now(g->m) + pause + 1);
	pthread_mutex_unlock(&g->m->lock);
	return away;
}

/* True: it ended well, or there was nothing to do. False: the turn is over. */
static bool check(struct mirror_group *g)
{
	struct sosie_err err = {0};
	int rc;

	if (!check_begin(g))
		return true;
	rc = sosie_replicator_check(g->replicator, &err);
	check_done(g, rc);
	if (rc != 0)
		failed(g, &err);
	return rc == 0;
}

/* Only to ask for the head, or woken for nothing: it is not looked at before its time. */
static void early_turn(struct mirror_group *g)
{
	int64_t due;

	if (!check(g))
		return;
	pthread_mutex_lock(&g->m->lock);
	due = check_due(g, g->look_ms);
	done_locked(g, due);
	pthread_mutex_unlock(&g->m->lock);
}

/* True: the turn is over. */
static bool idle_turn(struct mirror_group *g)
{
	struct sosie_same same;

	if (g->unchanged && mirror_now(g->m) < g->look_ms) {
		early_turn(g);
		return true;
	}
	if (!sosie_replicator_unchanged(g->replicator, &same))
		return false;
	if (check_is_due(g)) {
		if (!check(g))
			return true;
		if (!sosie_replicator_unchanged(g->replicator, &same))
			return false;
	}
	is_idle(g, &same);
	return true;
}

void turn_run(struct mirror_group *g)
{
	struct sosie_err err = {0};
	bool leaving, mine;
	struct next next = {0};
	int64_t due = 0;

	pthread_mutex_lock(&g->m->lock);
	leaving = g->leaving;
	if (!leaving)
		take_next(g, &next);
	if (leaving || next.config || !g->replicator)
		mirror_hand_over(g->m);
	pthread_mutex_unlock(&g->m->lock);
	if (leaving) {
		leave(g);
		return;
	}
	if (next.config)
		change(g, &next);
	if (group_open(g, &err) != 0) {
		failed(g, &err);
		return;
	}
	if (idle_turn(g))
		return;
	due = rest_end(g, mirror_now(g->m));
	if (due > 0) {
		done(g, due);
		return;
	}
	behind_look(g);
	if (standby_away(g))
		return;
	pthread_mutex_lock(&g->m->lock);
	mine = standby_slot_take(g);
	if (mine)
		mirror_hand_over(g->m);
	pthread_mutex_unlock(&g->m->lock);
	if (!mine)
		return;
	if (cut_allowed(g, &due))
		cycle(g);
	else
		done(g, due);
}

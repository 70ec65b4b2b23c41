/* SPDX-License-Identifier: MIT */
/*
 * How old the newest accepted state of a group is. Age grows between acceptances, so its worst is seen just
 * before each; the scheduler notes it every second too, which is what a group that gets nothing through
 * needs.
 */
#include "engine/mirror/internal.h"

#define GUESS_MS 300000

void rpo_init(struct rpo_window *w)
{
	w->minute = 0;
	for (unsigned i = 0; i < RPO_MINUTES; i++)
		w->worst_ms[i] = -1;
}

static void advance(struct rpo_window *w, int64_t minute)
{
	int64_t gap = minute - w->minute;

	for (int64_t i = 0; i < gap && i < RPO_MINUTES; i++)
		w->worst_ms[(minute - i) % RPO_MINUTES] = -1;
	if (gap > 0)
		w->minute = minute;
}

static void note(struct rpo_window *w, int64_t now_ms, int64_t age_ms)
{
	int64_t *worst;

	advance(w, now_ms / 60000);
	worst = &w->worst_ms[w->minute % RPO_MINUTES];
	if (age_ms > *worst)
		*worst = age_ms;
}

int64_t rpo_worst(const struct rpo_window *w, int64_t now_ms)
{
	int64_t worst = -1, minute = now_ms / 60000;

	for (int64_t i = 0; i < RPO_MINUTES; i++)
		if (w->minute - i > minute - RPO_MINUTES && w->minute - i >= 0 &&
		    w->worst_ms[(w->minute - i) % RPO_MINUTES] > worst)
			worst = w->worst_ms[(w->minute - i) % RPO_MINUTES];
	return worst;
}

int64_t group_age(const struct mirror_group *g, int64_t now_ms)
{
	if (g->accepted_ms == INT64_MIN)
		return -1;
	return now_ms > g->accepted_ms ? now_ms - g->accepted_ms : 0;
}

/* Of a group that was idle for long, the recorded cut is old and the standby's state is not: the first cycle
 * tells, however it ends; it is given so long. */
static bool is_excused(const struct mirror_group *g, int64_t now_ms)
{
	return g->accepted_guessed && g->count.errors == 0 && now_ms - g->since_ms < GUESS_MS;
}

/* What is sure of a guess: that nothing was accepted since this process began. */
static void note_age(struct mirror_group *g, int64_t now_ms)
{
	int64_t age = group_age(g, now_ms), here = now_ms - g->since_ms;

	if (age >= 0)
		note(&g->rpo, now_ms, g->accepted_guessed && age > here ? here : age);
}

bool group_late(const struct mirror_group *g, int64_t now_ms)
{
	int64_t age = group_age(g, now_ms);

	if (g->config->rpo_ms == 0 || is_excused(g, now_ms))
		return false;
	return (age >= 0 ? age : now_ms - g->since_ms) > (int64_t)g->config->rpo_ms;
}

/* Never backwards: a "same" may be acknowledged after a younger point was accepted. */
void group_accepted(struct mirror_group *g, int64_t cut_ms)
{
	note_age(g, mirror_now(g->m));
	g->accepted_guessed = false;
	if (cut_ms > g->accepted_ms)
		g->accepted_ms = cut_ms;
}

static void sample(struct mirror_group *g, int64_t now_ms)
{
	int64_t age = group_age(g, now_ms);
	bool late = group_late(g, now_ms);
	char wanted[32];

	note_age(g, now_ms);
	if (late == ((g->alarms >> ALARM_RPO & 1) != 0))
		return;
	sosie_duration_text(wanted, sizeof(wanted), g->config->rpo_ms);
	alarm_group(g, ALARM_RPO, late, "%s of %s; %s",
	            age >= 0 ? "the newest accepted state is older than the objective"
	                     : "no state is known to be accepted, for longer than the objective",
	            wanted, group_state_name(g->state));
}

void rpo_sample(struct sosie_mirror *m, int64_t now_ms)
{
	for (struct mirror_group *g = m->groups; g; g = g->next)
		if (!g->leaving)
			sample(g, now_ms);
}

/* So many bytes have changed and are not accepted: what is left of the cycle under way, or what a look found
 * while the group was behind (what was written since that look is not in it); before a look, at most what
 * views hold back. */
uint64_t group_backlog(struct mirror_group *g, uint64_t *catch_up_ms, bool *known)
{
	uint64_t backlog, rate;

	pthread_mutex_lock(&g->progress_lock);
	backlog = g->step_total > g->step_done ? g->step_total - g->step_done : 0;
	rate = g->rate;
	pthread_mutex_unlock(&g->progress_lock);
	if (g->behind_known)
		backlog = g->behind_bytes > backlog ? g->behind_bytes : backlog;
	else if (g->backlog > backlog)
		backlog = g->backlog;
	if (!g->behind_known && g->error.code != 0 && g->facts_known && g->facts.view_bytes > backlog)
		backlog = g->facts.view_bytes;
	/* Of a driver that cannot look, what has changed meanwhile is not known once a cycle has failed. */
	*known = backlog > 0 || (g->exists && (g->error.code == 0 || g->behind_known));
	*catch_up_ms = rate > 0 ? backlog / rate * 1000 + backlog % rate * 1000 / rate : 0;
	if (rate == 0 && backlog > 0)
		*catch_up_ms = UINT64_MAX;
	return backlog;
}

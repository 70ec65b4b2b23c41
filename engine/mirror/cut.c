/* SPDX-License-Identifier: MIT */
/*
 * May a cut be made now? A clone holds the writers for a time that grows with the volumes' extents; waiting
 * does not make it cheaper. Above max_stall the operator's choice holds: seldom enough that writers are held
 * for at most 1 % of the time, or not at all.
 */
#include "engine/mirror/internal.h"

#define STALL_SHARE 100
#define STOPPED_MS 10000

bool cut_look(struct mirror_group *g, struct sosie_cut_facts *facts)
{
	bool known = g->source->ops->facts(g->source, facts, NULL) == 0;

	pthread_mutex_lock(&g->m->lock);
	g->facts_known = known;
	if (known)
		g->facts = *facts;
	pthread_mutex_unlock(&g->m->lock);
	return known;
}

static void say(struct mirror_group *g, bool open, int64_t predicted_us, bool stopped)
{
	pthread_mutex_lock(&g->m->lock);
	if (open && stopped)
		g->state = GROUP_STOPPED;
	alarm_group(g, ALARM_LONG_CUT, open,
	            "a cut would hold writers for about %lld ms, max_stall is %llu ms: %s",
	            (long long)predicted_us / 1000, (unsigned long long)g->config->max_stall_ms,
	            stopped ? "none is made (on_long_cut: stop)" : "cuts are made less often");
	pthread_mutex_unlock(&g->m->lock);
}

/* An upload that is under way is finished from the view that it has: that needs no cut. */
static bool is_pending(struct mirror_group *g)
{
	struct sosie_replicator_status st = {0};

	sosie_replicator_status(g->replicator, &st);
	return st.pending;
}

bool cut_allowed(struct mirror_group *g, int64_t *due_ms)
{
	const uint64_t limit_us = g->config->max_stall_ms * 1000;
	struct sosie_cut_facts f = {0};
	int64_t now = mirror_now(g->m), next;

	if (!cut_look(g, &f) || limit_us == 0 || f.stall_us <= (int64_t)limit_us) {
		say(g, false, 0, false);
		return true;
	}
	if (is_pending(g))
		return true;
	if (g->opened_kind == SOSIE_SOURCE_AUTO && f.growing) { /* another driver, at once */
		g->forced_until_ms = now + LOOK_AGAIN_MS;
		*due_ms = now;
		return false;
	}
	if (g->config->on_long_cut == SOSIE_LONG_CUT_STOP) {
		say(g, true, f.stall_us, true);
		*due_ms = now + (g->config->interval_ms > STOPPED_MS ? (int64_t)g->config->interval_ms
		                                                     : STOPPED_MS);
		return false;
	}
	say(g, true, f.stall_us, false);
	next = g->last_cut_ms < 0 ? now : g->last_cut_ms + f.stall_us / 1000 * STALL_SHARE;
	*due_ms = next;
	return now >= next;
}

void cut_measured(struct mirror_group *g)
{
	struct sosie_cut_facts f = {0};

	if (!cut_look(g, &f) || f.last_us < 0 || f.cuts == g->cuts_counted)
		return;
	pthread_mutex_lock(&g->m->lock);
	g->count.stall_us += (uint64_t)f.last_us;
	g->cuts_counted = f.cuts;
	pthread_mutex_unlock(&g->m->lock);
}

/* SPDX-License-Identifier: MIT */
/*
 * Idle groups ask for the standby's head now and then: "same" is acknowledged by the inbox, which knows
 * nothing of a cutover. Spread over the groups, one at a time for each standby; at once for all of a standby
 * when one of them is found fenced. A check is a turn's: it may hang without harm to others.
 */
#include "engine/mirror/internal.h"

#define PERIOD_MS 60000
#define EACH_MS 300
#define AGAIN_MS 1000  /* another group of the standby asks just now */
#define RECENT_MS 5000 /* after that a check counts no more when another group is found fenced */

static int64_t period(const struct sosie_mirror *m)
{
	int64_t least = m->o.check_ms > 0 && m->o.check_ms < INT32_MAX ? (int64_t)m->o.check_ms : PERIOD_MS,
	        all = (int64_t)m->group_count * EACH_MS;

	return all > least && m->o.check_ms == 0 ? all : least;
}

/* With the lock held. A standby that is away is not asked: who says "same" finds when it is back. */
static bool is_due(struct mirror_group *g)
{
	return g->check_ms <= mirror_now(g->m) && g->standby->lost_ms < 0 &&
	       sosie_pool_pause_ms(g->standby->pool) == 0;
}

bool check_is_due(struct mirror_group *g)
{
	bool due;

	pthread_mutex_lock(&g->m->lock);
	due = is_due(g);
	pthread_mutex_unlock(&g->m->lock);
	return due;
}

bool check_begin(struct mirror_group *g)
{
	bool mine;

	pthread_mutex_lock(&g->m->lock);
	mine = is_due(g) && !g->standby->checking;
	if (mine) {
		g->standby->checking = true;
		mirror_hand_over(g->m);
	}
	pthread_mutex_unlock(&g->m->lock);
	return mine;
}

void check_done(struct mirror_group *g, int rc)
{
	pthread_mutex_lock(&g->m->lock);
	g->standby->checking = false;
	if (rc == 0) {
		standby_answered(g->standby);
		check_later(g);
		g->checked_ms = mirror_now(g->m);
	}
	pthread_mutex_unlock(&g->m->lock);
}

void check_later(struct mirror_group *g)
{
	int64_t half = period(g->m) / 2;
	uint16_t dice = 0;

	(void)sosie_random(g->m->clock, &dice, sizeof(dice), NULL);
	g->check_ms = mirror_now(g->m) + half + half * dice / UINT16_MAX;
}

void check_all(struct mirror_standby *s)
{
	int64_t now = mirror_now(s->m);

	for (struct mirror_group *g = s->m->groups; g; g = g->next) {
		if (g->standby != s || !g->unchanged || g->leaving ||
		    (g->checked_ms > 0 && now - g->checked_ms < RECENT_MS))
			continue;
		if (g->check_ms > now)
			g->check_ms = now;
		if (g->turn == TURN_HEAP && g->due_ms > now)
			heap_wake(g, false);
	}
}

int64_t check_due(struct mirror_group *g, int64_t due_ms)
{
	int64_t now = mirror_now(g->m), at = g->check_ms > now ? g->check_ms : now + AGAIN_MS;

	if (g->standby->lost_ms >= 0 || at > due_ms)
		return due_ms;
	return at;
}

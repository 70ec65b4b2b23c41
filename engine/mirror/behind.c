/* SPDX-License-Identifier: MIT */
/*
 * How far behind a group is that gets nothing through: its standby is away, or its last cycle took long. Its
 * source then compares the accepted view with the volumes as they are, now and then, between cycles: a source
 * is one thread's, and a cycle has it to itself.
 */
#include "engine/mirror/internal.h"

#define LOOK_EVERY_MS 30000
#define LONG_CYCLE_MS 10000

/* True: to be looked at now. What takes long begins: another worker watches the heap. */
static bool due(struct mirror_group *g)
{
	int64_t now = mirror_now(g->m);
	bool is;

	pthread_mutex_lock(&g->m->lock);
	is = g->standby->lost_ms >= 0 || g->cycle_ms > LONG_CYCLE_MS;
	is = is && (!g->behind_looked || now - g->behind_ms >= LOOK_EVERY_MS);
	if (is) {
		g->behind_looked = true;
		g->behind_ms = now;
		mirror_hand_over(g->m);
	}
	pthread_mutex_unlock(&g->m->lock);
	return is;
}

void behind_look(struct mirror_group *g)
{
	const struct sosie_source_ops *ops = g->source->ops;
	struct sosie_replicator_status st = {0};
	struct sosie_cut_facts facts = {0};
	uint64_t bytes;
	int rc;

	if (!ops->backlog || !due(g))
		return;
	sosie_replicator_status(g->replicator, &st);
	if (!st.view.s[0])
		return;
	rc = ops->backlog(g->source, &st.view, &bytes, NULL);
	(void)cut_look(g, &facts);
	pthread_mutex_lock(&g->m->lock);
	g->behind_known = rc == 0;
	if (rc == 0)
		g->behind_bytes = bytes;
	pthread_mutex_unlock(&g->m->lock);
}

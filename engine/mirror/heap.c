/* SPDX-License-Identifier: MIT */
/* Groups by the time at which they are due: a binary heap, every group knows its place. */
#include <assert.h>
#include <stdlib.h>

#include "engine/mirror/internal.h"

int heap_reserve(struct sosie_mirror *m, size_t count, struct sosie_err *err)
{
	struct mirror_group **bigger;

	if (count <= m->heap_size)
		return 0;
	bigger = realloc(m->heap, count * sizeof(struct mirror_group *));
	if (!bigger)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for a schedule of %zu groups", count);
	m->heap = bigger;
	m->heap_size = count;
	return 0;
}

static void put(struct sosie_mirror *m, size_t at, struct mirror_group *g)
{
	m->heap[at] = g;
	g->heap_at = at;
}

static void move_up(struct sosie_mirror *m, size_t at)
{
	struct mirror_group *g = m->heap[at];

	while (at > 0 && m->heap[(at - 1) / 2]->due_ms > g->due_ms) {
		put(m, at, m->heap[(at - 1) / 2]);
		at = (at - 1) / 2;
	}
	put(m, at, g);
}

static void move_down(struct sosie_mirror *m, size_t at)
{
	struct mirror_group *g = m->heap[at];

	for (;;) {
		size_t child = 2 * at + 1;

		if (child + 1 < m->heap_len && m->heap[child + 1]->due_ms < m->heap[child]->due_ms)
			child++;
		if (child >= m->heap_len || m->heap[child]->due_ms >= g->due_ms)
			break;
		put(m, at, m->heap[child]);
		at = child;
	}
	put(m, at, g);
}

void heap_push(struct mirror_group *g, int64_t due_ms)
{
	struct sosie_mirror *m = g->m;

	assert(m->heap_len < m->heap_size);
	g->turn = TURN_HEAP;
	g->due_ms = due_ms;
	put(m, m->heap_len++, g);
	move_up(m, g->heap_at);
	if (m->heap[0] == g)
		pthread_cond_signal(&m->work);
}

void heap_remove(struct mirror_group *g)
{
	struct sosie_mirror *m = g->m;
	size_t at = g->heap_at;

	assert(g->turn == TURN_HEAP && m->heap[at] == g);
	if (at != --m->heap_len) {
		put(m, at, m->heap[m->heap_len]);
		move_down(m, at);
		move_up(m, at);
	}
}

void heap_wake(struct mirror_group *g, bool sleepers)
{
	if (g->turn == TURN_QUEUE)
		standby_unqueue(g);
	else if (g->turn == TURN_HEAP && (sleepers || g->due_ms != NEVER))
		heap_remove(g);
	else
		return;
	heap_push(g, mirror_now(g->m));
}

struct mirror_group *heap_take(struct sosie_mirror *m, int64_t now_ms)
{
	struct mirror_group *g = m->heap_len > 0 ? m->heap[0] : NULL;

	if (!g || g->due_ms > now_ms)
		return NULL;
	heap_remove(g);
	g->turn = TURN_BUSY;
	return g;
}

int64_t heap_next(const struct sosie_mirror *m)
{
	return m->heap_len > 0 ? m->heap[0]->due_ms : NEVER;
}

/* SPDX-License-Identifier: MIT */
/*
 * The pool of workers. One idle worker, the leader, waits for the next group to be due; the others wait for
 * the leader to take one. So a thousand idle groups cost one thread that wakes once an interval.
 */
#include "engine/mirror/internal.h"

#define IDLE_MS 30000
#define GROW_MS 100

/* Waits for something to do; false: nothing came for long, and others are there. */
static bool wait_for_work(struct sosie_mirror *m, int64_t idle_since)
{
	int64_t now = mirror_now(m), limit = idle_since + IDLE_MS, next = heap_next(m);

	if (now >= limit && m->workers > 1)
		return false;
	if (limit <= now)
		limit = now + IDLE_MS;
	m->idle_workers++;
	if (!m->leader) {
		m->leader = true;
		mirror_wait(m, &m->work, next < limit ? next : limit);
		m->leader = false;
	} else {
		mirror_wait(m, &m->spare, limit);
	}
	m->idle_workers--;
	return true;
}

/* What takes longer than a look begins: an idle worker becomes the leader. Looks are not worth a switch. */
void mirror_hand_over(struct sosie_mirror *m)
{
	if (m->idle_workers > 0 && !m->leader)
		pthread_cond_signal(&m->spare);
}

void *mirror_worker(void *arg)
{
	struct sosie_mirror *m = arg;
	int64_t idle_since;

	pthread_mutex_lock(&m->lock);
	idle_since = mirror_now(m);
	while (!m->stopping) {
		struct mirror_group *g = heap_take(m, mirror_now(m));

		if (!g) {
			if (!wait_for_work(m, idle_since))
				break;
			continue;
		}
		pthread_mutex_unlock(&m->lock);
		turn_run(g);
		pthread_mutex_lock(&m->lock);
		idle_since = mirror_now(m);
	}
	m->workers--;
	mirror_hand_over(m);
	mirror_thread_ended(m);
	pthread_mutex_unlock(&m->lock);
	return NULL;
}

/* All workers are inside groups and something has been due for a while: one more. */
void mirror_grow(struct sosie_mirror *m, int64_t now_ms)
{
	if (heap_next(m) > now_ms - GROW_MS)
		return;
	mirror_hand_over(m); /* a look that hangs */
	if (m->idle_workers > 0 || m->workers > m->group_count)
		return;
	if (mirror_thread(m, mirror_worker, m, NULL) == 0) /* else the next tick tries again */
		m->workers++;
}

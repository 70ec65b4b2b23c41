/* SPDX-License-Identifier: MIT */
/*
 * What the mirror says in the log: handed to one thread, because standard error may hang, and nobody who has
 * the lock or a group's turn is to hang with it.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/mirror/internal.h"

#define LINES_MAX 1000 /* that wait; what more comes is counted, and in the status */

struct log_line {
	struct log_line *next;
	enum sosie_log_level level;
	char text[1200];
};

void mirror_say(struct sosie_mirror *m, enum sosie_log_level level, const char *fmt, ...)
{
	struct log_line *l = m->line_count < LINES_MAX ? calloc(1, sizeof(*l)) : NULL;
	va_list ap;

	if (!l) {
		m->lines_lost++;
		return;
	}
	l->level = level;
	va_start(ap, fmt);
	vsnprintf(l->text, sizeof(l->text), fmt, ap);
	va_end(ap);
	*m->lines_end = l;
	m->lines_end = &l->next;
	m->line_count++;
	pthread_cond_signal(&m->crier_wake);
}

/* The next line, unlinked; NULL: none. *lost: so many could not be kept before. With the lock held. */
static struct log_line *take(struct sosie_mirror *m, unsigned *lost)
{
	struct log_line *l = m->lines;

	*lost = m->lines_lost;
	m->lines_lost = 0;
	if (!l)
		return NULL;
	m->lines = l->next;
	if (!m->lines)
		m->lines_end = &m->lines;
	m->line_count--;
	return l;
}

static void cry(struct log_line *l, unsigned lost)
{
	if (lost > 0)
		sosie_log(SOSIE_LOG_WARNING, "%u lines were lost: the log did not take them in time", lost);
	sosie_log(l->level, "%s", l->text);
	free(l);
}

void *crier_run(void *arg)
{
	struct sosie_mirror *m = arg;

	pthread_mutex_lock(&m->lock);
	while (m->lines || !m->stopping) {
		unsigned lost;
		struct log_line *l = m->lines ? take(m, &lost) : NULL;

		if (!l) {
			mirror_wait(m, &m->crier_wake, NEVER);
			continue;
		}
		pthread_mutex_unlock(&m->lock);
		cry(l, lost);
		pthread_mutex_lock(&m->lock);
	}
	mirror_thread_ended(m);
	pthread_mutex_unlock(&m->lock);
	return NULL;
}

/* What was said after the crier's end. */
void mirror_say_rest(struct sosie_mirror *m)
{
	struct log_line *l;
	unsigned lost;

	while ((l = take(m, &lost)) != NULL)
		cry(l, lost);
}

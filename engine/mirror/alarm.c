/* SPDX-License-Identifier: MIT */
/*
 * Alarms: opened and closed by whoever notices, told to the operator's program by the herald alone: once at
 * the opening, again each alarm_repeat_ms, once at the closing; what the program fails to take is tried again
 * after half a minute. An alarm that closed before its opening was told is never told.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/mirror/internal.h"

#define CLOSED_MAX 1000 /* closings that the program has not taken yet; the oldest is forgotten */

static const char *kind_name(enum alarm_kind kind)
{
	static const char *const names[ALARM_KINDS] = {
	        [ALARM_RPO] = "rpo",         [ALARM_STANDBY] = "standby-lost", [ALARM_FENCED] = "fenced",
	        [ALARM_REFUSED] = "refused", [ALARM_NEEDS] = "needs-you",      [ALARM_LONG_CUT] = "long-cut",
	        [ALARM_FUZZY] = "fuzzy",     [ALARM_SPACE] = "view-space",     [ALARM_CONFIG] = "config",
	};
	return names[kind];
}

static bool about_group(enum alarm_kind kind)
{
	return kind != ALARM_STANDBY && kind != ALARM_SPACE && kind != ALARM_CONFIG;
}

void alarm_json(struct sosie_json *obj, const struct alarm *a)
{
	char since[SOSIE_TIME_TEXT];

	sosie_time_text(since, a->since_wall_ms);
	sosie_json_set_u64(obj, "id", a->id);
	sosie_json_set_str(obj, "state", a->closed_wall_ms ? "closed" : "open");
	sosie_json_set_str(obj, "kind", kind_name(a->kind));
	sosie_json_set_str(obj, "group", about_group(a->kind) ? a->about : NULL);
	sosie_json_set_str(obj, "about", a->about);
	sosie_json_set_str(obj, "since", since);
	if (a->closed_wall_ms)
		sosie_time_text(since, a->closed_wall_ms);
	sosie_json_set_str(obj, "closed", a->closed_wall_ms ? since : NULL);
	sosie_json_set_str(obj, "text", a->text);
}

static struct alarm **find_open(struct sosie_mirror *m, enum alarm_kind kind, const char *about)
{
	struct alarm **at = &m->alarms;

	while (*at && ((*at)->kind != kind || (*at)->closed_wall_ms || strcmp((*at)->about, about) != 0))
		at = &(*at)->next;
	return at;
}

static void log_alarm(struct sosie_mirror *m, const struct alarm *a)
{
	if (a->kind == ALARM_FENCED || a->kind == ALARM_REFUSED || a->kind == ALARM_NEEDS ||
	    a->kind == ALARM_CONFIG)
		return; /* told as the error that it is */
	if (a->closed_wall_ms)
		mirror_say(m, SOSIE_LOG_NOTICE, "%s: alarm %s closed", a->about, kind_name(a->kind));
	else
		mirror_say(m, SOSIE_LOG_WARNING, "%s: alarm %s: %s", a->about, kind_name(a->kind), a->text);
}

static void bound_closed(struct sosie_mirror *m)
{
	struct alarm **oldest = NULL, *a;
	unsigned count = 0;

	for (struct alarm **at = &m->alarms; *at; at = &(*at)->next)
		if ((*at)->closed_wall_ms) {
			oldest = oldest ? oldest : at;
			count++;
		}
	if (count <= CLOSED_MAX)
		return;
	a = *oldest;
	*oldest = a->next;
	free(a);
}

static void close_alarm(struct sosie_mirror *m, struct alarm **at)
{
	struct alarm *a = *at;

	a->closed_wall_ms = sosie_wall_ms(m->clock);
	a->telling.due_ms = 0;
	log_alarm(m, a);
	if (!a->telling.begun) {
		*at = a->next;
		free(a);
	}
	bound_closed(m);
	pthread_cond_signal(&m->herald_wake);
}

void alarm_set(struct sosie_mirror *m, enum alarm_kind kind, const char *about, const char *text)
{
	char key[sizeof(((struct alarm *)0)->about)];
	struct alarm **at, *a;

	snprintf(key, sizeof(key), "%s", about);
	at = find_open(m, kind, key);
	a = *at;
	if (!text) {
		if (a)
			close_alarm(m, at);
		return;
	}
	if (a) {
		snprintf(a->text, sizeof(a->text), "%s", text);
		return;
	}
	a = calloc(1, sizeof(*a));
	if (!a)
		return; /* state and log still tell */
	a->id = ++m->alarm_next;
	a->kind = kind;
	a->since_wall_ms = sosie_wall_ms(m->clock);
	memcpy(a->about, key, sizeof(key));
	snprintf(a->text, sizeof(a->text), "%s", text);
	*at = a; /* at the end: they are told in order */
	log_alarm(m, a);
	pthread_cond_signal(&m->herald_wake);
}

void alarm_group(struct mirror_group *g, enum alarm_kind kind, bool open, const char *fmt, ...)
{
	char text[600];
	va_list ap;

	if (!open && !(g->alarms >> kind & 1))
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	g->alarms = open ? g->alarms | 1u << kind : g->alarms & ~(1u << kind);
	alarm_set(g->m, kind, g->label, open ? text : NULL);
}

void alarm_group_gone(struct mirror_group *g)
{
	for (unsigned kind = 0; kind < ALARM_KINDS; kind++)
		alarm_group(g, (enum alarm_kind)kind, false, " ");
}

void sosie_mirror_config_alarm(struct sosie_mirror *m, const char *file, const char *text)
{
	pthread_mutex_lock(&m->lock);
	alarm_set(m, ALARM_CONFIG, file, text);
	pthread_mutex_unlock(&m->lock);
}

void alarms_free(struct sosie_mirror *m)
{
	while (m->alarms) {
		struct alarm *a = m->alarms;

		m->alarms = a->next;
		free(a);
	}
}

/* --- the herald
 * ---------------------------------------------------------------------------------------------------- */

/* The alarm to be told next; *due_ms: when, NEVER if there is none. */
static struct alarm *next_alarm(struct sosie_mirror *m, int64_t *due_ms)
{
	struct alarm *first = NULL;

	*due_ms = NEVER;
	for (struct alarm *a = m->alarms; a; a = a->next)
		if (a->telling.due_ms < *due_ms) {
			*due_ms = a->telling.due_ms;
			first = a;
		}
	return first;
}

/* *failing: the program has failed before, and that was said. */
static int run_program(struct sosie_mirror *m, const char *program, const struct alarm *a, bool *failing)
{
	struct sosie_json *doc = sosie_telling_doc();
	struct sosie_err err = {0};
	char line[1100];
	int rc;

	alarm_json(doc, a);
	rc = sosie_telling_run(program, doc, &m->stopping, &err);
	if (rc != 0 && rc != -SOSIE_EINTR && !*failing) {
		pthread_mutex_lock(&m->lock);
		mirror_say(m, SOSIE_LOG_ERROR, "the alarm program failed, and is tried again: %s",
		           sosie_err_line(&err, line, sizeof(line)));
		pthread_mutex_unlock(&m->lock);
	}
	*failing = rc != 0;
	return rc;
}

static void settle(struct sosie_mirror *m, const struct alarm *told, bool taken)
{
	uint64_t again = m->o.alarm_again_ms > 0 ? m->o.alarm_again_ms : SOSIE_TELLING_AGAIN_MS;
	struct alarm **at = &m->alarms, *a;

	while (*at && (*at)->id != told->id)
		at = &(*at)->next;
	a = *at;
	if (!a)
		return;
	if (sosie_telling_settle(&a->telling, told->closed_wall_ms != 0, a->closed_wall_ms != 0, taken,
	                         mirror_now(m), (int64_t)m->config->config->alarm_repeat_ms,
	                         (int64_t)again)) {
		*at = a->next;
		free(a);
	}
}

void alarms_tell_again(struct sosie_mirror *m)
{
	for (struct alarm *a = m->alarms; a; a = a->next)
		if (!a->telling.begun)
			a->telling.due_ms = 0;
	pthread_cond_signal(&m->herald_wake);
}

void *herald_run(void *arg)
{
	struct sosie_mirror *m = arg;
	bool failing = false;

	pthread_mutex_lock(&m->lock);
	while (!m->stopping) {
		int64_t due;
		struct alarm *a = next_alarm(m, &due), copy;
		const char *name = m->config->config->on_alarm;
		char *program;
		int rc = 0;

		if (!a || due > mirror_now(m)) {
			mirror_wait(m, &m->herald_wake, due);
			continue;
		}
		a->telling.begun = name != NULL; /* without a program a closed alarm just goes */
		copy = *a;
		program = name ? strdup(name) : NULL;
		pthread_mutex_unlock(&m->lock);
		if (program)
			rc = run_program(m, program, &copy, &failing);
		free(program);
		pthread_mutex_lock(&m->lock);
		settle(m, &copy, rc == 0);
	}
	mirror_thread_ended(m);
	pthread_mutex_unlock(&m->lock);
	return NULL;
}

/* SPDX-License-Identifier: MIT */
/*
 * Alarms: opened and closed by whoever notices, told to the operator's program by the herald alone: once at
 * the opening, again each alarm_repeat_ms, once at the closing. An alarm that closed before its opening was
 * told is never told.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/mirror/internal.h"
#include "sosie/command.h"
#include "sosie/log.h"

#define PROGRAM_LIMIT_MS 30000

const char *alarm_kind_name(enum alarm_kind kind)
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
	sosie_json_set_str(obj, "kind", alarm_kind_name(a->kind));
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

/* --- what is said of alarms in the log: stderr may hang, so not by whoever has the lock
 * ---------------------------------------------------------------------------------------------- */

#define LINES_MAX 1000 /* that wait; what more comes is in the status only */

struct log_line {
	struct log_line *next;
	enum sosie_log_level level;
	char text[900];
};

static void say(struct sosie_mirror *m, enum sosie_log_level level, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));

static void say(struct sosie_mirror *m, enum sosie_log_level level, const char *fmt, ...)
{
	struct log_line **at = &m->lines, *l;
	unsigned waiting = 0;
	va_list ap;

	for (; *at; at = &(*at)->next)
		waiting++;
	l = waiting < LINES_MAX ? calloc(1, sizeof(*l)) : NULL;
	if (!l)
		return;
	l->level = level;
	va_start(ap, fmt);
	vsnprintf(l->text, sizeof(l->text), fmt, ap);
	va_end(ap);
	*at = l;
	pthread_cond_signal(&m->crier_wake);
}

void *crier_run(void *arg)
{
	struct sosie_mirror *m = arg;

	pthread_mutex_lock(&m->lock);
	while (m->lines || !m->stopping) {
		struct log_line *l = m->lines;

		if (!l) {
			mirror_wait(m, &m->crier_wake, NEVER);
			continue;
		}
		m->lines = l->next;
		pthread_mutex_unlock(&m->lock);
		sosie_log(l->level, "%s", l->text);
		free(l);
		pthread_mutex_lock(&m->lock);
	}
	mirror_thread_ended(m);
	pthread_mutex_unlock(&m->lock);
	return NULL;
}

static void log_alarm(struct sosie_mirror *m, const struct alarm *a)
{
	if (a->kind == ALARM_FENCED || a->kind == ALARM_REFUSED || a->kind == ALARM_NEEDS ||
	    a->kind == ALARM_CONFIG)
		return; /* told as the error that it is */
	if (a->closed_wall_ms)
		say(m, SOSIE_LOG_NOTICE, "%s: alarm %s closed", a->about, alarm_kind_name(a->kind));
	else
		say(m, SOSIE_LOG_WARNING, "%s: alarm %s: %s", a->about, alarm_kind_name(a->kind), a->text);
}

static void close_alarm(struct sosie_mirror *m, struct alarm **at)
{
	struct alarm *a = *at;

	a->closed_wall_ms = sosie_wall_ms(m->clock);
	a->send_ms = 0;
	log_alarm(m, a);
	if (!a->opening_sent) {
		*at = a->next;
		free(a);
	}
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
	while (m->lines) { /* said to nobody: the crier did not run */
		struct log_line *l = m->lines;

		m->lines = l->next;
		free(l);
	}
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
		if (a->send_ms < *due_ms) {
			*due_ms = a->send_ms;
			first = a;
		}
	return first;
}

static void run_program(struct sosie_mirror *m, const char *program, const struct alarm *a)
{
	struct sosie_json *doc = sosie_json_new();
	struct sosie_command command = {
	        .program = program, .limit_ms = PROGRAM_LIMIT_MS, .stop = &m->stopping};
	struct sosie_err err = {0};
	char *text = NULL, line[1100];
	int rc;

	sosie_json_set_u64(doc, "format", 1);
	alarm_json(doc, a);
	rc = doc ? sosie_json_text(doc, 0, &text, &command.input_len, &err)
	         : sosie_err_set(&err, SOSIE_ENOMEM, "no memory for an alarm");
	if (rc == 0) {
		command.input = text;
		rc = sosie_command_run(&command, &err);
	}
	if (rc != 0 && rc != -SOSIE_EINTR && !m->herald_failed)
		sosie_log(SOSIE_LOG_ERROR, "the alarm program failed: %s",
		          sosie_err_line(&err, line, sizeof(line)));
	m->herald_failed = rc != 0; /* only this thread uses it */
	free(text);
	sosie_json_free(doc);
}

static void settle(struct sosie_mirror *m, const struct alarm *told)
{
	struct alarm **at = &m->alarms;

	while (*at && (*at)->id != told->id)
		at = &(*at)->next;
	if (*at && told->closed_wall_ms) {
		struct alarm *a = *at;

		*at = a->next;
		free(a);
	} else if (*at && !(*at)->closed_wall_ms) {
		(*at)->send_ms = mirror_now(m) + (int64_t)m->config->config->alarm_repeat_ms;
	}
}

void *herald_run(void *arg)
{
	struct sosie_mirror *m = arg;

	pthread_mutex_lock(&m->lock);
	while (!m->stopping) {
		int64_t due;
		struct alarm *a = next_alarm(m, &due), copy;
		const char *name = m->config->config->on_alarm;
		char *program;

		if (!a || due > mirror_now(m)) {
			mirror_wait(m, &m->herald_wake, due);
			continue;
		}
		a->opening_sent = name != NULL; /* without a program a closed alarm just goes */
		copy = *a;
		program = name ? strdup(name) : NULL;
		pthread_mutex_unlock(&m->lock);
		if (program)
			run_program(m, program, &copy);
		free(program);
		pthread_mutex_lock(&m->lock);
		settle(m, &copy);
	}
	mirror_thread_ended(m);
	pthread_mutex_unlock(&m->lock);
	return NULL;
}

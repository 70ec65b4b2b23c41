/* SPDX-License-Identifier: MIT */
/*
 * The metrics file, in the text format of Prometheus (its documentation, "Exposition formats"), replaced
 * whole every 15 s: a reader, such as the node exporter's textfile collector, never sees half of one. Its own
 * time is in it, so that a daemon that has ended is told from one that is fine.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/mirror/internal.h"
#include "sosie/metrics.h"

struct metric {
	const char *name, *type, *help;
	double (*value)(struct mirror_group *g, int64_t now_ms); /* negative: left out */
};

static double rpo(struct mirror_group *g, int64_t now_ms)
{
	int64_t age = group_age(g, now_ms);

	return age < 0 ? -1 : (double)age / 1000;
}

static double objective(struct mirror_group *g, int64_t now_ms)
{
	(void)now_ms;
	return g->config->rpo_ms > 0 ? (double)g->config->rpo_ms / 1000 : -1;
}

static double late(struct mirror_group *g, int64_t now_ms)
{
	return group_late(g, now_ms);
}

static double needs(struct mirror_group *g, int64_t now_ms)
{
	(void)now_ms;
	return g->state == GROUP_NEEDS || g->state == GROUP_FENCED || g->state == GROUP_STOPPED;
}

static double backlog(struct mirror_group *g, int64_t now_ms)
{
	uint64_t catch_up, bytes;
	bool known;

	(void)now_ms;
	bytes = group_backlog(g, &catch_up, &known);
	return known ? (double)bytes : -1;
}

#define FIELD(function, expression)                                                                          \
	static double function(struct mirror_group *g, int64_t now_ms)                                       \
	{                                                                                                    \
		(void)now_ms;                                                                                \
		return (double)(expression);                                                                 \
	}
FIELD(point, g->point)
FIELD(bytes_read, g->count.read)
FIELD(bytes_changed, g->count.changed)
FIELD(bytes_wire, g->count.wire)
FIELD(cycles, g->count.cycles)
FIELD(unchanged, g->count.looks)
FIELD(errors, g->count.errors)
FIELD(stall, (double)g->count.stall_us / 1e6)
FIELD(extents, g->facts_known && g->facts.extents > 0 ? (double)g->facts.extents : -1.0)
FIELD(view_bytes, g->facts_known ? (double)g->facts.view_bytes : -1.0)

static const struct metric metrics[] = {
        {"sosie_rpo_seconds", "gauge", "Age of the newest state that the standby has accepted.", rpo},
        {"sosie_rpo_objective_seconds", "gauge", "What the age is to stay below.", objective},
        {"sosie_late", "gauge", "1 while the objective is not met.", late},
        {"sosie_needs_operator", "gauge", "1 while nothing is replicated until a person decides.", needs},
        {"sosie_point", "gauge", "Number of the newest accepted point.", point},
        {"sosie_backlog_bytes", "gauge", "What had changed and was not accepted when last looked at.",
         backlog},
        {"sosie_read_bytes_total", "counter", "Bytes read from the volumes.", bytes_read},
        {"sosie_changed_bytes_total", "counter", "Bytes found changed.", bytes_changed},
        {"sosie_wire_bytes_total", "counter", "Bytes sent.", bytes_wire},
        {"sosie_cycles_total", "counter", "Cycles that ended well.", cycles},
        {"sosie_unchanged_total", "counter", "Looks that found nothing written.", unchanged},
        {"sosie_errors_total", "counter", "Cycles and looks that failed.", errors},
        {"sosie_stall_seconds_total", "counter", "How long cuts have held the writers.", stall},
        {"sosie_extents", "gauge", "Extents of the volumes, as far as they matter to the driver.", extents},
        {"sosie_view_bytes", "gauge", "What kept views held back when last looked at.", view_bytes},
};

static void one(FILE *out, const struct metric *x, struct mirror_group *g, int64_t now)
{
	double value = x->value(g, now);

	if (g->leaving || value < 0)
		return;
	sosie_metrics_sample(out, x->name, value, "group", g->label, "standby", g->standby->config->name.s,
	                     SOSIE_METRICS_END);
}

static void standbys(FILE *out, const struct sosie_mirror *m)
{
	sosie_metrics_family(out, "sosie_standby_lost", "gauge", "1 while the standby is not reached.");
	for (const struct mirror_standby *s = m->standbys; s; s = s->next) {
		if (!s->leaving)
			sosie_metrics_sample(out, "sosie_standby_lost", s->lost_ms >= 0, "standby",
			                     s->config->name.s, SOSIE_METRICS_END);
	}
}

static void write_all(FILE *out, struct sosie_mirror *m)
{
	int64_t now = mirror_now(m);
	unsigned alarms = 0;

	sosie_metrics_time(out, "sosie_metrics_timestamp_seconds", sosie_wall_ms(m->clock));
	for (size_t i = 0; i < sizeof(metrics) / sizeof(metrics[0]); i++) {
		sosie_metrics_family(out, metrics[i].name, metrics[i].type, metrics[i].help);
		for (struct mirror_group *g = m->groups; g; g = g->next)
			one(out, &metrics[i], g, now);
	}
	standbys(out, m);
	for (const struct alarm *a = m->alarms; a; a = a->next)
		alarms += a->closed_wall_ms == 0;
	sosie_metrics_family(out, "sosie_alarms", "gauge", "Open alarms.");
	sosie_metrics_sample(out, "sosie_alarms", alarms, SOSIE_METRICS_END);
}

static void scribe(struct sosie_mirror *m, const char *path, bool *failed)
{
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);
	int rc = ENOMEM;

	if (out) {
		pthread_mutex_lock(&m->lock);
		write_all(out, m);
		pthread_mutex_unlock(&m->lock);
		rc = fclose(out) == 0 ? sosie_metrics_replace(path, text, len) : ENOMEM;
	}
	if (rc != 0 && !*failed) {
		pthread_mutex_lock(&m->lock);
		mirror_say(m, SOSIE_LOG_ERROR, "the metrics file %s cannot be written: %s", path,
		           strerror(rc));
		pthread_mutex_unlock(&m->lock);
	}
	*failed = rc != 0;
	free(text);
}

void *scribe_run(void *arg)
{
	struct sosie_mirror *m = arg;
	bool failed = false;

	pthread_mutex_lock(&m->lock);
	while (!m->stopping) {
		char *path = m->config->config->metrics ? strdup(m->config->config->metrics) : NULL;

		pthread_mutex_unlock(&m->lock);
		if (path)
			scribe(m, path, &failed);
		pthread_mutex_lock(&m->lock);
		if (!m->stopping)
			mirror_wait(m, &m->scribe_wake,
			            path ? mirror_now(m) + SOSIE_METRICS_EVERY_MS : NEVER);
		free(path);
	}
	mirror_thread_ended(m);
	pthread_mutex_unlock(&m->lock);
	return NULL;
}

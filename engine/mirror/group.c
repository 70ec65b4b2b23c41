/* SPDX-License-Identifier: MIT */
/* One group: its source and replicator, opened when its first turn comes and again when another driver is
 * due. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/mirror/internal.h"

/* --- progress of the cycle: the engine's threads call this
 * ---------------------------------------------------------------- */

static void on_progress(struct sosie_progress *p, const char *step, uint64_t done, uint64_t total)
{
	struct mirror_group *g = (struct mirror_group *)p; /* the first member */
	int64_t now = mirror_now(g->m);

	pthread_mutex_lock(&g->progress_lock);
	if (total != g->step_total || done < g->step_done) {
		g->step_ms = now;
		g->step_first = done;
	}
	g->step_done = done;
	g->step_total = total;
	if (now - g->step_ms >= 200 && done > g->step_first)
		g->rate = (done - g->step_first) / (uint64_t)(now - g->step_ms) * 1000;
	pthread_mutex_unlock(&g->progress_lock);
	sosie_progress(g->m->o.progress, step, done, total);
}

int group_new(struct sosie_mirror *m, struct mirror_standby *s, const struct sosie_config_group *config,
              struct config_ref *ref, struct mirror_group **out, struct sosie_err *err)
{
	struct mirror_group *g = calloc(1, sizeof(*g));

	*out = NULL;
	if (!g || pthread_mutex_init(&g->progress_lock, NULL) != 0) {
		free(g);
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for group %s/%s", config->tenant.s,
		                     config->group.s);
	}
	g->progress.report = on_progress;
	g->m = m;
	g->standby = s;
	g->config = config;
	g->ref = ref;
	ref->refs++;
	g->accepted_ms = INT64_MIN;
	g->last_cut_ms = -1;
	g->facts.stall_us = g->facts.last_us = g->facts.last_predicted_us = -1;
	rpo_init(&g->rpo);
	snprintf(g->label, sizeof(g->label), "%s/%s", config->tenant.s, config->group.s);
	*out = g;
	return 0;
}

/* With the lock held, or when no thread is left. */
void group_free(struct mirror_group *g)
{
	config_ref_drop(g->ref);
	config_ref_drop(g->new_ref);
	pthread_mutex_destroy(&g->progress_lock);
	free(g->fs);
	free(g);
}

int64_t group_grid(const struct mirror_group *g, int64_t now_ms)
{
	int64_t step = g->config->interval_ms > 0 ? (int64_t)g->config->interval_ms : 1;

	return (now_ms / step + 1) * step;
}

/* --- opening
 * ------------------------------------------------------------------------------------------------------- */

static int open_source(struct mirror_group *g, enum sosie_source_kind kind, struct sosie_source **out,
                       char reason[200], struct sosie_err *err)
{
	struct sosie_source_options o;
	char tag[SOSIE_MIRROR_TAG];
	int rc = sosie_mirror_source(g->config, tag, &o, err);

	*out = NULL;
	o.kind = kind;
	return rc == 0 ? sosie_source_open(&o, out, reason, 200, err) : rc;
}

static void close_source(struct mirror_group *g)
{
	if (g->source)
		g->source->ops->destroy(g->source);
	g->source = NULL;
}

static bool is_scan(const struct sosie_source *s)
{
	return strcmp(s->ops->name, "scan") == 0;
}

/* Which one is to be open now: in place of views, scan while a clone costs too much, and below the reserve of
 * free space. Where no views are held, also by auto's own choice, no filesystem matters. */
static int wanted_kind(struct mirror_group *g, enum sosie_source_kind *kind, struct sosie_err *err)
{
	bool forced = mirror_now(g->m) < g->forced_until_ms;
	int rc;

	*kind = forced ? SOSIE_SOURCE_SCAN : g->config->source;
	if (*kind == SOSIE_SOURCE_SCAN ||
	    (g->source && is_scan(g->source) && g->opened_kind == SOSIE_SOURCE_AUTO)) {
		space_forget(g);
		return 0;
	}
	rc = space_find(g, err);
	pthread_mutex_lock(&g->m->lock);
	if (space_low(g))
		*kind = SOSIE_SOURCE_SCAN;
	pthread_mutex_unlock(&g->m->lock);
	return rc;
}

static int open_kind(struct mirror_group *g, enum sosie_source_kind kind, struct sosie_err *err)
{
	char reason[200] = "";
	int rc;

	close_source(g);
	rc = open_source(g, kind, &g->source, reason, err);
	if (rc != 0)
		return rc;
	g->opened_kind = kind;
	pthread_mutex_lock(&g->m->lock);
	memcpy(g->reason, reason, sizeof(g->reason));
	pthread_mutex_unlock(&g->m->lock);
	return 0;
}

/* auto is asked first: what it chooses decides whether free space matters. */
static int open_wanted(struct mirror_group *g, struct sosie_err *err)
{
	enum sosie_source_kind kind;
	int rc = 0;

	if (g->config->source == SOSIE_SOURCE_AUTO && mirror_now(g->m) >= g->forced_until_ms)
		rc = open_kind(g, SOSIE_SOURCE_AUTO, err);
	if (rc == 0)
		rc = wanted_kind(g, &kind, err);
	if (rc == 0 && (!g->source || kind != g->opened_kind))
		rc = open_kind(g, kind, err);
	return rc;
}

static void consents(const struct sosie_mirror *m, struct sosie_replicate_options *o)
{
	const struct sosie_replicate_options *c = m->o.consents;

	o->drop_missing = c ? c->drop_missing : true;
	if (!c)
		return;
	o->accept_volumes = c->accept_volumes;
	o->accept_volume_count = c->accept_volume_count;
	o->drop_volumes = c->drop_volumes;
	o->drop_volume_count = c->drop_volume_count;
	o->allow_shrink = c->allow_shrink;
	o->accept_standby_loss = c->accept_standby_loss;
}

static int open_replicator(struct mirror_group *g, struct sosie_err *err)
{
	const struct sosie_config_group *c = g->config;
	struct sosie_replicate_options o = {
	        .pool = g->standby->pool,
	        .clock = g->m->clock,
	        .source = g->source,
	        .volumes = c->volumes,
	        .volume_count = c->volume_count,
	        .attachments = (const char *const *)c->attach,
	        .attachment_count = c->attach_count,
	        .tenant = c->tenant.s,
	        .group = c->group.s,
	        .state = c->state,
	        .standby = g->standby->label,
	        .streams = c->streams,
	        .level = c->level,
	        .read_rate = c->read_rate,
	        .accept_wait_ms = c->accept_wait_ms,
	        .progress = &g->progress,
	        .stop = &g->stop,
	        .let_views_go = &g->let_views_go,
	};

	consents(g->m, &o);
	pthread_mutex_lock(&g->m->lock);
	o.budget = g->m->budgets->budget;
	pthread_mutex_unlock(&g->m->lock);
	return sosie_replicator_open(&o, &g->replicator, err);
}

static void take_status(struct mirror_group *g)
{
	enum sosie_source_kind kind = g->opened_kind;
	struct sosie_replicator_status st = {0};
	int64_t now = mirror_now(g->m);

	sosie_replicator_status(g->replicator, &st);
	pthread_mutex_lock(&g->m->lock);
	g->cuts_counted = 0;
	g->opened_ms = now;
	g->exists = st.exists;
	g->point = st.exists ? st.point : 0;
	g->view_held = st.view.s[0] != '\0';
	if (st.exists && st.age_ms >= 0 && g->accepted_ms == INT64_MIN) {
		g->accepted_ms = now - st.age_ms;
		g->accepted_guessed = true;
	}
	if (st.exists && g->change_wall_ms == 0) { /* what another process saw accepted */
		g->change_wall_ms = st.cut_wall_ms;
		g->labelled = st.labelled;
		g->consistency = st.consistency;
	}
	snprintf(g->driver, sizeof(g->driver), "%s", g->source->ops->name);
	if (kind == SOSIE_SOURCE_SCAN && g->config->source != SOSIE_SOURCE_SCAN) {
		snprintf(g->reason, sizeof(g->reason), "%s",
		         space_low(g)
		                 ? "scan: the filesystem's free space is below view_space, so no views are "
		                   "held; reads at most a fifth of the time"
		                 : "scan: a clone would hold writers above max_stall, and longer each time; "
		                   "reads at most a fifth of the time");
		size_t len = strlen(g->reason);

		if ((g->config->pause.kind == SOSIE_PAUSE_CGROUP ||
		     g->config->pause.kind == SOSIE_PAUSE_QMP) &&
		    !g->config->hooks.view)
			snprintf(g->reason + len, sizeof(g->reason) - len, "; pause is not used");
	}
	if (kind == SOSIE_SOURCE_SCAN || !space_low(g)) /* no view is there, or they may stay */
		__atomic_store_n(&g->let_views_go, false, __ATOMIC_RELAXED);
	pthread_mutex_unlock(&g->m->lock);
}

/* kind auto, after an hour: would another driver be chosen today? */
static bool another_driver(struct mirror_group *g)
{
	struct sosie_source *probe;
	char reason[200] = "";
	bool differs;

	if (g->opened_kind != SOSIE_SOURCE_AUTO || mirror_now(g->m) - g->opened_ms < LOOK_AGAIN_MS)
		return false;
	g->opened_ms = mirror_now(g->m);
	if (open_source(g, SOSIE_SOURCE_AUTO, &probe, reason, NULL) != 0)
		return false;
	differs = strcmp(probe->ops->name, g->source->ops->name) != 0;
	probe->ops->destroy(probe);
	return differs;
}

int group_open(struct mirror_group *g, struct sosie_err *err)
{
	enum sosie_source_kind kind;
	int rc = g->replicator ? wanted_kind(g, &kind, err) : 0;
	bool go;

	if (rc != 0)
		return rc;
	/* Views that had to go may be gone already, and the space be enough again: the state is to know. */
	go = __atomic_load_n(&g->let_views_go, __ATOMIC_RELAXED);
	if (g->replicator && (go || kind != g->opened_kind || another_driver(g)))
		(void)group_close(g, go || kind == SOSIE_SOURCE_SCAN,
		                  NULL); /* views that stay the next one removes */
	if (g->replicator)
		return 0;
	rc = open_wanted(g, err);
	if (rc == 0)
		rc = open_replicator(g, err);
	if (rc != 0)
		(void)group_close(g, false, NULL);
	else
		take_status(g);
	return rc;
}

int group_close(struct mirror_group *g, bool drop_views, struct sosie_err *err)
{
	int rc = g->replicator && drop_views ? sosie_replicator_drop_views(g->replicator, err) : 0;

	sosie_replicator_close(g->replicator);
	g->replicator = NULL;
	close_source(g);
	g->look_ms = 0;
	pthread_mutex_lock(&g->m->lock);
	g->rest_ms = 0;
	g->facts_known = false;
	pthread_mutex_unlock(&g->m->lock);
	return rc;
}

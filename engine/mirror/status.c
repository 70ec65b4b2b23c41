/* SPDX-License-Identifier: MIT */
/* Status as JSON: docs/operating.md, "Status of the source", tells every member. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/mirror/internal.h"

const char *group_state_name(enum group_state state)
{
	static const char *const names[GROUP_STATES] = {
	        [GROUP_STARTING] = "starting",    [GROUP_FIRST] = "first copy",
	        [GROUP_MIRRORING] = "mirroring",  [GROUP_IDLE] = "idle",
	        [GROUP_CATCHING] = "catching up", [GROUP_WAITING] = "waiting for standby",
	        [GROUP_RETRYING] = "retrying",    [GROUP_STOPPED] = "stopped",
	        [GROUP_NEEDS] = "needs you",      [GROUP_FENCED] = "fenced",
	};
	return names[state];
}

static void set_known(struct sosie_json *obj, const char *key, int64_t value, bool known)
{
	if (known)
		sosie_json_set_i64(obj, key, value);
	else
		sosie_json_set_null(obj, key);
}

static void set_error(struct sosie_json *obj, const struct sosie_err *e, int64_t since_wall_ms)
{
	struct sosie_json *o = sosie_json_set_error(obj, "error", e);

	if (o)
		sosie_json_set_time(o, "since", since_wall_ms);
}

static void set_rpo(struct sosie_json *o, struct mirror_group *g, int64_t now)
{
	int64_t age = group_age(g, now), worst = rpo_worst(&g->rpo, now);
	uint64_t backlog, catch_up;
	bool known;

	set_known(o, "rpo_ms", age, age >= 0);
	set_known(o, "rpo_worst_hour_ms", worst > age ? worst : age, worst >= 0 || age >= 0);
	set_known(o, "objective_ms", (int64_t)g->config->rpo_ms, g->config->rpo_ms > 0);
	sosie_json_set_bool(o, "late", group_late(g, now));
	sosie_json_set_time(o, "last_change", g->change_wall_ms);
	backlog = group_backlog(g, &catch_up, &known);
	set_known(o, "backlog_bytes", (int64_t)backlog, known);
	set_known(o, "catch_up_ms", (int64_t)catch_up, known && catch_up != UINT64_MAX);
}

static void set_cuts(struct sosie_json *o, const struct mirror_group *g)
{
	const struct sosie_cut_facts *f = &g->facts;
	bool both = f->last_us >= 0 && f->last_predicted_us > 0;

	sosie_json_set_str(o, "driver", g->driver[0] ? g->driver : NULL);
	sosie_json_set_str(o, "driver_reason", g->reason[0] ? g->reason : NULL);
	sosie_json_set_str(o, "untracked", g->facts_known && f->untracked[0] ? f->untracked : NULL);
	set_known(o, "extents", (int64_t)f->extents, g->facts_known && f->extents > 0);
	set_known(o, "stall_predicted_us", f->stall_us, f->stall_us >= 0);
	set_known(o, "stall_measured_us", f->last_us, f->last_us >= 0);
	if (both)
		sosie_json_set_real(o, "stall_error",
		                    (double)(f->last_us - f->last_predicted_us) /
		                            (double)f->last_predicted_us);
	else
		sosie_json_set_null(o, "stall_error");
	sosie_json_set_u64(o, "view_bytes", g->facts_known ? f->view_bytes : 0);
	sosie_json_set_bool(o, "view_held", g->view_held);
	sosie_json_set_str(o, "consistency", g->labelled ? sosie_consistency_name(g->consistency) : NULL);
}

static void set_counters(struct sosie_json *obj, const struct group_counters *c)
{
	struct sosie_json *o = sosie_json_add_obj(obj, "counters");

	sosie_json_set_u64(o, "cycles", c->cycles);
	sosie_json_set_u64(o, "unchanged", c->looks);
	sosie_json_set_u64(o, "errors", c->errors);
	sosie_json_set_u64(o, "read_bytes", c->read);
	sosie_json_set_u64(o, "changed_bytes", c->changed);
	sosie_json_set_u64(o, "wire_bytes", c->wire);
	sosie_json_set_u64(o, "stall_us", c->stall_us);
}

static void set_group(struct sosie_json *o, struct mirror_group *g, int64_t now)
{
	sosie_json_set_str(o, "group", g->label);
	sosie_json_set_str(o, "standby", g->standby->config->name.s);
	sosie_json_set_str(o, "state", group_state_name(g->state));
	set_known(o, "point", (int64_t)g->point, g->exists);
	set_rpo(o, g, now);
	set_error(o, &g->error, g->error_wall_ms);
	set_cuts(o, g);
	set_counters(o, &g->count);
}

static void set_standby(struct sosie_json *o, const struct mirror_standby *s, int64_t now, int64_t wall)
{
	sosie_json_set_str(o, "standby", s->config->name.s);
	sosie_json_set_str(o, "to", s->label);
	sosie_json_set_str(o, "state", s->lost_ms >= 0 ? "lost" : "fine");
	sosie_json_set_u64(o, "groups", s->groups);
	sosie_json_set_u64(o, "cycles_running", s->running);
	sosie_json_set_u64(o, "same_messages", s->same_messages);
	sosie_json_set_i64(o, "retry_ms", sosie_pool_pause_ms(s->pool));
	set_error(o, &s->error, s->lost_ms >= 0 ? wall - (now - s->lost_ms) : 0);
}

static void set_filesystem(struct sosie_json *o, const struct mirror_fs *fs, int64_t now)
{
	sosie_json_set_str(o, "path", fs->path);
	sosie_json_set_u64(o, "free_bytes", fs->free_bytes);
	sosie_json_set_u64(o, "total_bytes", fs->total_bytes);
	sosie_json_set_u64(o, "reserve_bytes", fs->reserve_bytes);
	sosie_json_set_bool(o, "low", fs->low);
	sosie_json_set_u64(o, "times_low", fs->drops);
	sosie_json_set_bool(o, "hangs", now - fs->looked_ms > 10000);
}

/* With the lock held. */
static struct sosie_json *document(struct sosie_mirror *m)
{
	struct sosie_json *doc = sosie_json_new(), *list;
	int64_t now = mirror_now(m), wall = sosie_wall_ms(m->clock);

	if (!doc)
		return NULL;
	sosie_json_set_u64(doc, "format", 1);
	sosie_json_set_i64(doc, "pid", getpid());
	sosie_json_set_time(doc, "started", m->started_wall_ms);
	sosie_json_set_time(doc, "time", wall);
	sosie_json_set_u64(doc, "threads", m->threads);
	list = sosie_json_add_arr(doc, "groups");
	for (struct mirror_group *g = m->groups; g; g = g->next)
		if (!g->leaving)
			set_group(sosie_json_push_obj(list), g, now);
	list = sosie_json_add_arr(doc, "standbys");
	for (const struct mirror_standby *s = m->standbys; s; s = s->next)
		if (!s->leaving)
			set_standby(sosie_json_push_obj(list), s, now, wall);
	list = sosie_json_add_arr(doc, "filesystems");
	for (const struct mirror_fs *fs = m->filesystems; fs; fs = fs->next)
		if (!fs->gone)
			set_filesystem(sosie_json_push_obj(list), fs, now);
	list = sosie_json_add_arr(doc, "alarms");
	for (const struct alarm *a = m->alarms; a; a = a->next)
		if (!a->closed_wall_ms)
			alarm_json(sosie_json_push_obj(list), a);
	return doc;
}

int sosie_mirror_status(struct sosie_mirror *m, char **text, size_t *len, struct sosie_err *err)
{
	struct sosie_json *doc;
	int rc;

	*text = NULL;
	pthread_mutex_lock(&m->lock);
	doc = document(m);
	pthread_mutex_unlock(&m->lock);
	if (!doc)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for the status");
	rc = sosie_json_text(doc, 0, text, len, err);
	sosie_json_free(doc);
	return rc;
}

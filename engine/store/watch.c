/* SPDX-License-Identifier: MIT */
/*
 * Watching groups: how old the newest state is, by this standby's clocks, against the objective.
 *
 * The age is the larger of two: by the wall clock, and by the monotonic one since this process saw the state
 * become the newest. A wall clock that is set back hides no silence then; one that is set forward makes a
 * group late that is not, and is an alarm of its own.
 *
 * A group's chain is read again only when its files have changed.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/store/chain.h"
#include "engine/store/quota.h"
#include "engine/store/status.h"

#define OBJECTIVE_MS 5000 /* how long an objective that was read holds */
#define SETTLED_MS 1000   /* a change in the same tick of the file system's clock does not show */

static bool is_of(const struct group_watch *w, const char *tenant, const char *group)
{
	return strcmp(w->group.s, group) == 0 && strcmp(w->tenant.s, tenant) == 0;
}

static struct group_watch *look_up(struct watch_book *book, const char *tenant, const char *group)
{
	struct group_watch *w = book->found ? book->found->next : NULL;
	if (!w || !is_of(w, tenant, group))
		for (w = book->first; w && !is_of(w, tenant, group);)
			w = w->next;
	if (w)
		book->found = w;
	return w;
}

static int make_book(struct sosie_store *store, struct sosie_err *err)
{
	if (store->watches)
		return 0;
	store->watches = calloc(1, sizeof(*store->watches));
	if (!store->watches)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory to watch groups");
	store->watches->end = &store->watches->first;
	return 0;
}

static int find(struct sosie_store *store, const char *tenant, const char *group, struct group_watch **out,
                struct sosie_err *err)
{
	int rc = make_book(store, err);
	struct group_watch *w = rc ? NULL : look_up(store->watches, tenant, group);
	*out = w;
	if (rc || w)
		return rc;
	w = calloc(1, sizeof(*w));
	if (!w)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory to watch %s/%s", tenant, group);
	rc = sosie_name_set(&w->tenant, SOSIE_NAME_TENANT, tenant, err);
	if (!rc)
		rc = sosie_name_set(&w->group, SOSIE_NAME_GROUP, group, err);
	if (rc) {
		free(w);
		return rc;
	}
	w->age_ms = -1;
	*store->watches->end = *out = w;
	store->watches->end = &w->next;
	return 0;
}

void watch_free(struct sosie_store *store)
{
	while (store->watches && store->watches->first) {
		struct group_watch *w = store->watches->first;
		store->watches->first = w->next;
		free(w);
	}
	free(store->watches);
	store->watches = NULL;
}

/* --- what the chain says
 * ------------------------------------------------------------------------------------------ */

static void seen_fresh(struct sosie_store *store, struct group_watch *w, int64_t fresh_ms)
{
	const int64_t wall = sosie_wall_ms(store->clock);
	if (fresh_ms <= w->fresh_ms)
		return;
	w->fresh_ms = fresh_ms;
	w->fresh_mono_ms = sosie_mono_ms(store->clock) - (wall > fresh_ms ? wall - fresh_ms : 0);
}

static int read_newest(struct sosie_group *g, struct group_watch *w, struct sosie_err *err)
{
	struct sosie_manifest m = {0};
	struct sosie_point p = {0};
	int rc = sosie_group_point(g, chain_newest_point(g->chain), &p, err);
	if (!rc)
		rc = sosie_group_manifest(g, p.point, &m, err);
	w->volumes = m.volume_count;
	w->volume_bytes = 0;
	for (unsigned i = 0; i < m.volume_count; i++)
		if (!sosie_add_u64(w->volume_bytes, m.volumes[i].size, &w->volume_bytes))
			w->volume_bytes = UINT64_MAX;
	sosie_manifest_fini(&m);
	if (rc)
		return rc;
	w->cut_over = p.epoch < w->epoch;
	w->cut_ms = p.cut_ms;
	seen_fresh(g->store, w, p.cut_ms);
	seen_fresh(g->store, w, status_same(g));
	return 0;
}

static int take_chain(struct sosie_group *g, struct group_watch *w, struct sosie_err *err)
{
	char path[STORE_PATH];
	struct sosie_stat st;
	w->point = chain_newest_point(g->chain);
	w->epoch = chain_epoch(g->chain);
	w->head = *chain_head(g->chain);
	w->known = false;
	if (w->point == 0) {
		w->volumes = 0;
		w->volume_bytes = 0;
		w->cut_over = false;
	}
	int rc = w->point ? read_newest(g, w, err) : 0;
	if (rc)
		return rc;
	w->known = !store_path(path, NULL, "%s/chain", g->dir) &&
	           !sosie_io_stat(g->store->io, path, &st, NULL) &&
	           sosie_wall_ms(g->store->clock) - st.mtime_ms > SETTLED_MS;
	w->chain_dir_ms = w->known ? st.mtime_ms : 0;
	w->chain_file = g->chain->newest_file;
	w->chain_size = g->chain->newest_size;
	return 0;
}

static bool as_known(struct sosie_store *store, const struct group_watch *w)
{
	char path[STORE_PATH];
	struct sosie_stat dir, file;
	if (!w->known || store_path(path, NULL, "%s/%s/%s/chain", store->path, w->tenant.s, w->group.s) ||
	    sosie_io_stat(store->io, path, &dir, NULL) || dir.mtime_ms != w->chain_dir_ms)
		return false;
	if (w->chain_file == 0)
		return true; /* none yet */
	return !store_path(path, NULL, "%s/%s/%s/chain/%06u.chain", store->path, w->tenant.s, w->group.s,
	                   w->chain_file) &&
	       !sosie_io_stat(store->io, path, &file, NULL) && file.size == w->chain_size;
}

int watch_get(struct sosie_store *store, const char *tenant, const char *group, struct group_watch **out,
              struct sosie_err *err)
{
	struct sosie_group *g = NULL;
	int rc = find(store, tenant, group, out, err);
	if (rc || as_known(store, *out))
		return rc;
	rc = sosie_group_open(store, tenant, group, &g, err);
	if (!rc)
		rc = take_chain(g, *out, err);
	sosie_group_close(g);
	return rc;
}

void watch_take(struct sosie_group *g, const struct sosie_accept_result *r)
{
	struct group_watch *w;
	if (find(g->store, g->tenant.s, g->name.s, &w, NULL))
		return;
	w->accepted += r->accepted;
	w->refused += r->refused;
	if (r->accepted)
		take_chain(g, w, NULL);
}

/* --- alarms
 * ------------------------------------------------------------------------------------------------------- */

static int read_objective(struct sosie_store *store, struct group_watch *w, struct sosie_err *err)
{
	struct sosie_group g = {.store = store, .tenant = w->tenant, .name = w->group};
	const int64_t now = sosie_mono_ms(store->clock);
	if (w->objective_known && now - w->objective_at_ms < OBJECTIVE_MS)
		return 0;
	int rc = store_path(g.dir, err, "%s/%s/%s", store->path, w->tenant.s, w->group.s);
	if (!rc)
		rc = group_objective(&g, &w->objective_ms, err);
	w->objective_known = !rc;
	w->objective_at_ms = now;
	return rc;
}

static int64_t age(struct sosie_store *store, const struct group_watch *w)
{
	const int64_t wall = sosie_wall_ms(store->clock) - w->fresh_ms;
	const int64_t mono = sosie_mono_ms(store->clock) - w->fresh_mono_ms;
	const int64_t more = wall > mono ? wall : mono;
	return w->point == 0 || w->cut_over ? -1 : more > 0 ? more : 0;
}

static int judge(struct sosie_store *store, struct group_watch *w, struct sosie_err *err)
{
	char text[200], old[32], may[32];
	w->age_ms = age(store, w);
	w->late = w->age_ms >= 0 && w->objective_ms > 0 && (uint64_t)w->age_ms > w->objective_ms;
	if (!w->late)
		return sosie_alarm_set(store, w->tenant.s, w->group.s, SOSIE_ALARM_LATE, NULL, err);
	snprintf(text, sizeof(text),
	         "the newest state is %s old, and may be %s: neither a point nor word that nothing has "
	         "changed",
	         sosie_duration_text(old, sizeof(old), (uint64_t)w->age_ms / 1000 * 1000),
	         sosie_duration_text(may, sizeof(may), w->objective_ms));
	return sosie_alarm_set(store, w->tenant.s, w->group.s, SOSIE_ALARM_LATE, text, err);
}

/* Not: only its inbox is, or it was taken away. */
static bool group_there(struct sosie_store *store, const char *tenant, const char *group)
{
	char dir[STORE_PATH];
	return !store_path(dir, NULL, "%s/%s/%s", store->path, tenant, group) &&
	       sosie_io_exists(store->io, dir);
}

int sosie_keeper_watch(struct sosie_store *store, const char *tenant, const char *group,
                       struct sosie_err *err)
{
	struct group_watch *w;
	int rc = watch_get(store, tenant, group, &w, err);
	if (!rc)
		rc = read_objective(store, w, err);
	if (rc == -SOSIE_ENOTFOUND && !group_there(store, tenant, group))
		return 0;
	if (rc) {
		watch_trouble(store, tenant, group, rc, err);
		return rc;
	}
	seen_fresh(store, w, same_newest(store, tenant, group, &w->head));
	return judge(store, w, err);
}

/* What passes by itself, and is tried again, is none: no memory, a busy lock, the wish to end. */
void watch_trouble(struct sosie_store *store, const char *tenant, const char *group, int rc,
                   const struct sosie_err *err)
{
	char line[SOSIE_ALARM_TEXT + 1];
	if (rc == 0)
		sosie_alarm_set(store, tenant, group, SOSIE_ALARM_KEEPER, NULL, NULL);
	else if (err && sosie_code_class((enum sosie_code) - rc) != SOSIE_CLASS_RETRY)
		sosie_alarm_set(store, tenant, group,
		                rc == -SOSIE_ECORRUPT ? SOSIE_ALARM_DAMAGE : SOSIE_ALARM_KEEPER,
		                sosie_err_line(err, line, sizeof(line)), NULL);
}

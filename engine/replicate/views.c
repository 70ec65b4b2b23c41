/* SPDX-License-Identifier: MIT */
/*
 * Views that are kept: the accepted one (state.view), that of the pending upload (state.pending.view), and
 * while a cycle runs the one that it works on. Invariants:
 *   - state.view, when it is there, holds exactly what the trees say, and no leaf of them is unknown;
 *   - an upload's view is named by the state (state.now: for a kill) before any of its data is sent, so that
 *     after a kill either the upload is finished from it, or nothing had been sent;
 *   - a view is removed only when the state names it no longer, state.json too; except the accepted view once
 *     its successor was accepted: state.json, if a power cut brings it back, then shows the successor as that
 *     of a committed upload, which the head confirms.
 * Whatever is lost costs that all is read and compared with the trees here.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/replicate/internal.h"
#include "sosie/log.h"

static bool same_view(const struct sosie_view_id *a, const struct sosie_view_id *b)
{
	return strcmp(a->s, b->s) == 0;
}

static const struct sosie_source_ops *ops_of(const struct sosie_replicator *r)
{
	return r->o.source->ops;
}

/* --- at the first cycle
 * ----------------------------------------------------------------------------------------- */

/* A view of another driver lies there until no state names it. */
static int settle_again(struct sosie_replicator *r, bool pending_named, struct sosie_err *err)
{
	struct sosie_view_id ids[2] = {r->state.view};
	bool held[2];
	int rc = r->state.exists ? replicator_save(r, true, err) : 0;

	if (rc == 0 && pending_named)
		ids[1] = r->state.pending.view;
	return rc == 0 ? ops_of(r)->settle(r->o.source, ids, 2, held, err) : rc;
}

int views_settle(struct sosie_replicator *r, struct sosie_err *err)
{
	struct state *s = &r->state;
	struct sosie_view_id ids[2] = {s->view};
	bool held[2] = {false}, lost;
	int rc = 0;

	if (r->state_unsaved && s->exists)
		rc = replicator_save(r, true, err);
	if (rc != 0 || r->views_settled)
		return rc;
	if (s->pending.present)
		ids[1] = s->pending.view;
	rc = ops_of(r)->settle(r->o.source, ids, 2, held, err);
	if (rc != 0)
		return sosie_err_wrap(err, "views of before");
	lost = s->view.s[0] && !held[0];
	if (lost)
		s->view = (struct sosie_view_id){""};
	r->pending_held = ids[1].s[0] && held[1];
	if (lost)
		rc = settle_again(r, s->pending.present, err);
	r->views_settled = rc == 0;
	return rc;
}

/* --- the cut, and its end
 * --------------------------------------------------------------------------------------- */

static void note_cut(struct sosie_replicator *r)
{
	struct sosie_session_info info = {0};
	int64_t now = sosie_mono_ms(r->o.clock);

	sosie_session_info(r->sessions[0], &info);
	r->cut = (struct state_cut){.wall_ms = sosie_wall_ms(r->o.clock),
	                            .standby_at_ms = info.standby_ms,
	                            .standby_plus_ms = now - info.mono_ms,
	                            .boot_ms = state_boot_ms()};
	memcpy(r->cut.boot, r->dir.boot, sizeof(r->cut.boot));
	r->result->cut_mono_ms = now;
}

/* The view of an upload that is gone on with: its times and its label are those that its cut had. */
static int reopen(struct sosie_replicator *r, const struct sosie_view_id *base, struct sosie_view **view,
                  struct sosie_err *err)
{
	const struct state_pending *p = &r->state.pending;
	int64_t age;
	int rc = ops_of(r)->reopen(r->o.source, base, &p->view, view, err);

	if (rc != 0)
		return rc;
	r->cut = p->cut;
	r->view_id = p->view;
	age = strcmp(r->cut.boot, r->dir.boot) == 0 && r->dir.boot[0]
	              ? state_boot_ms() - r->cut.boot_ms
	              : sosie_wall_ms(r->o.clock) - r->cut.wall_ms;
	r->result->cut_mono_ms = sosie_mono_ms(r->o.clock) - (age > 0 ? age : 0);
	return 0;
}

static bool base_fits(const struct sosie_replicator *r)
{
	const struct state *s = &r->state;

	if (!s->exists || s->doubted || !s->view.s[0])
		return false;
	for (unsigned i = 0; i < r->volume_count; i++) {
		const struct state_volume *v = state_volumes_find(&s->volumes, r->volumes[i].given->name.s);

		if (v && !sosie_identity_same(&v->identity, &r->volumes[i].identity))
			return false;
	}
	return true;
}

int views_cut(struct sosie_replicator *r, bool with_base, struct sosie_view **view, struct sosie_err *err)
{
	const struct sosie_view_id *base = with_base && base_fits(r) ? &r->state.view : NULL;
	const struct state_pending *p = &r->state.pending;
	int rc;

	if (p->present && p->view.s[0] && r->pending_held) {
		rc = reopen(r, base, view, err);
	} else {
		/* What was sent of an upload without a view may have gone back to what the base holds: that
		 * shows only when all is read. */
		if (p->present)
			base = NULL;
		note_cut(r);
		rc = ops_of(r)->cut(r->o.source, base, view, err);
		if (rc == 0)
			ops_of(r)->id(*view, &r->view_id);
	}
	if (rc != 0)
		return rc;
	r->holds_views = r->holds_views || r->view_id.s[0];
	return 0;
}

static bool is_whole(struct sosie_replicator *r, const char *path, uint64_t size)
{
	struct sosie_stat st;

	return !path ||
	       (sosie_io_stat(r->io, path, &st, NULL) == 0 && st.kind == SOSIE_KIND_FILE && st.size == size);
}

/* Who gives a view's space back takes its name away first and empties it then (engine/source/give_up.c). So a
 * name that is there after the last read says that all reads saw the view as it was cut. */
int views_whole(struct sosie_replicator *r,
                int (*gone)(const struct sosie_replicator *r, struct sosie_err *err), struct sosie_err *err)
{
	bool whole = true;

	if (!r->view_id.s[0]) /* the volumes themselves, or views of the operator's */
		return 0;
	for (unsigned i = 0; i < r->volume_count && whole; i++) {
		const struct volume *v = &r->volumes[i];

		whole = is_whole(r, v->path, v->size) && is_whole(r, v->base_path, v->base_size);
	}
	if (whole)
		return 0;
	r->views_emptied = true;
	r->views_settled = false;
	return gone(r, err);
}

/* Needed later: to finish the upload that was begun from it, or as what the next changes are told against. */
static bool is_needed(const struct sosie_replicator *r, int rc)
{
	const struct state_pending *p = &r->state.pending;

	if (!r->view_id.s[0] || (rc != 0 && sosie_code_class((enum sosie_code) - rc) != SOSIE_CLASS_RETRY))
		return false;
	return rc == 0 || (rc != -SOSIE_ENOSPACE && p->present && same_view(&p->view, &r->view_id));
}

void views_release(struct sosie_replicator *r, struct sosie_view *view, int rc, struct sosie_err *hook_err)
{
	struct state_pending *p = &r->state.pending;
	enum sosie_consistency label = SOSIE_CONSISTENCY_FUZZY;
	bool keep = is_needed(r, rc),
	     pending = p->present && r->view_id.s[0] && same_view(&p->view, &r->view_id);

	/* A hook that failed afterwards takes nothing from the point: it is told at the end. */
	if (ops_of(r)->release(view, keep, &label, hook_err) == 0)
		sosie_err_clear(hook_err);
	if (!r->cut.labelled) {
		r->cut.labelled = true;
		r->cut.consistency = label;
	}
	r->result->consistency = r->cut.consistency;
	if (pending) {
		p->cut = r->cut;
		if (rc != 0)
			replicator_save(r, true, NULL); /* else with what the commit saves */
		r->pending_held = keep;
	}
	if (!keep)
		r->view_id = (struct sosie_view_id){""};
}

int views_replace(struct sosie_replicator *r, struct sosie_err *err)
{
	struct sosie_view_id old = r->state.view;
	int rc;

	if (same_view(&old, &r->view_id))
		return 0;
	r->state.view = r->view_id;
	rc = replicator_save(r, true, err);
	if (rc == 0)
		views_drop(r, &old);
	return rc;
}

void views_drop(struct sosie_replicator *r, const struct sosie_view_id *id)
{
	struct sosie_err err;

	if (!id->s[0] || ops_of(r)->drop(r->o.source, id, &err) == 0)
		return;
	r->views_settled = false; /* the next cycle removes what no state names */
	sosie_err_wrap(&err, "%s/%s: a view that is needed no longer", r->o.tenant, r->o.group);
	sosie_log_err(SOSIE_LOG_WARNING, &err);
}

void views_end(struct sosie_replicator *r)
{
	const struct state *s = &r->state;

	if (r->view_id.s[0] && !same_view(&r->view_id, &s->view) &&
	    !(s->pending.present && same_view(&r->view_id, &s->pending.view)))
		views_drop(r, &r->view_id);
	r->view_id = (struct sosie_view_id){""};
}

int sosie_replicator_drop_views(struct sosie_replicator *r, struct sosie_err *err)
{
	int rc = 0;

	if (!r->dir.io)
		return 0;
	r->state.view = r->state.pending.view = (struct sosie_view_id){""};
	r->pending_held = false;
	if (r->state.exists)
		rc = replicator_save(r, true, err);
	if (rc == 0)
		rc = ops_of(r)->settle(r->o.source, NULL, 0, NULL, err);
	r->views_settled = rc == 0;
	return rc;
}

/* --- doubtful chunks
 * -------------------------------------------------------------------------------------------- */

/* The first doubtful chunk of the volume that ends behind `from`. */
static const struct doubtful *find_doubtful(const struct sosie_replicator *r, unsigned volume, uint64_t from)
{
	uint64_t chunk = from / SOSIE_CHUNK;
	size_t low = 0, high = r->doubtful_count;

	while (low < high) {
		size_t i = low + (high - low) / 2;
		const struct doubtful *d = &r->doubtful[i];

		if (d->volume < volume || (d->volume == volume && d->chunk < chunk))
			low = i + 1;
		else
			high = i;
	}
	return low < r->doubtful_count && r->doubtful[low].volume == volume ? &r->doubtful[low] : NULL;
}

int views_next(struct sosie_replicator *r, struct sosie_view *view, unsigned volume, struct sosie_io *io,
               struct sosie_file *file, uint64_t from, struct sosie_extent *out, struct sosie_err *err)
{
	const struct doubtful *d;
	uint64_t start, end;
	int rc = ops_of(r)->next(view, volume, io, file, from, out, err);

	if (rc != 0 || out->kind != SOSIE_EXTENT_SAME || out->end <= from)
		return rc;
	start = out->start > from ? out->start : from;
	d = find_doubtful(r, volume, start);
	if (!d || d->chunk * SOSIE_CHUNK >= out->end)
		return 0;
	if (d->chunk * SOSIE_CHUNK > start) {
		out->end = d->chunk * SOSIE_CHUNK;
		return 0;
	}
	end = (d->chunk + 1) * SOSIE_CHUNK;
	*out = (struct sosie_extent){SOSIE_EXTENT_DATA, start, end < out->end ? end : out->end};
	return 0;
}

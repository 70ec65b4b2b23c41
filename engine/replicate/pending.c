/* SPDX-License-Identifier: MIT */
/*
 * The pending upload in the state: begun, accepted, dropped.
 *
 *   - (none) --begin, state saved--> open
 *   - open --manifest written, state durable--> committed
 *   - committed --the head shows the manifest--> accepted: layers merged, state saved
 *   - open, committed --refused, gone, does not fit any more--> dropped: state durable, then layers removed
 *
 * Two kinds. logged: redo.log has all changes, is fsynced before commit, and layers and bases are not
 * (redo.c). Else (a first upload, sizes that changed, a very large one): the layers are fsynced before
 * commit, with the bases synced before that, and the bases are fsynced with the merge.
 *
 * begin and accepted flush nothing. A power cut after begin: the upload is not known, and begun anew. After
 * accepted: state.json shows the upload as committed, and the head says that it was accepted; redo.log still
 * has it then, whatever came behind it since.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/replicate/internal.h"
#include "sosie/log.h"

#define LAYER_HEADER 4096u

/* Do the log's changes lead from the bases as they are to the new ones, volume by volume? */
static bool can_be_logged(const struct sosie_replicator *r)
{
	return r->dir.boot[0] && !r->resized && !r->state.doubted && volumes_are(r, &r->state.volumes);
}

/* What is there of the log is less than what it should have: somebody removed it. */
static int start_log(struct sosie_replicator *r, struct sosie_err *err)
{
	struct state_redo *redo = &r->state.redo;
	struct journal *j = &r->upload.journal;
	char path[STATE_FILE_MAX];
	int rc;

	state_file(&r->dir, path, "redo", ".log");
	rc = journal_open(j, r->dir.io, path, redo->bytes, true, err);
	if (rc != 0 || j->start == redo->bytes)
		return rc;
	rc = redo_sync_bases(r, err);
	redo->from = redo->bytes = j->start;
	return rc;
}

int pending_begin(struct sosie_replicator *r, struct sosie_session *s, struct sosie_err *err)
{
	struct state_pending *p = &r->state.pending;
	int rc = volumes_list(r, &p->volumes, err);

	p->base = r->state.digest;
	p->epoch = r->state.epoch;
	p->committed = false;
	p->logged = r->upload.logged = can_be_logged(r);
	p->log_end = 0;
	memset(&p->manifest, 0, sizeof(p->manifest));
	memcpy(p->boot, r->dir.boot, sizeof(p->boot));
	p->view = r->view_id;
	p->cut = r->cut;
	if (rc == 0)
		rc = sosie_session_begin(s, r->o.group, SOSIE_UPLOAD_SEGMENT, &p->base, p->epoch, &p->upload,
		                         err);
	pthread_mutex_lock(&r->lock);
	if (rc == 0)
		rc = start_log(r, err);
	if (rc == 0) {
		p->present = true;
		r->pending_held = p->view.s[0] != '\0';
		/* After a power cut the upload is not gone on with anyway, and a view that no state names is
		 * removed. */
		rc = replicator_save(r, false, err);
	}
	pthread_mutex_unlock(&r->lock);
	r->upload.begun = rc == 0;
	return rc;
}

/* Nothing was put into it: an empty layer is its header alone (docs/format.md, "Tree file"). */
static bool is_untouched(const struct sosie_replicator *r, const struct state_volume *v, const char *layer)
{
	const struct state_volume *before = state_volumes_find(&r->state.volumes, v->name.s);
	struct sosie_stat st;

	return before && before->identity.size == v->identity.size &&
	       sosie_io_stat(r->dir.io, layer, &st, NULL) == 0 && st.size == LAYER_HEADER;
}

static int merge_layers(struct sosie_replicator *r, struct sosie_err *err)
{
	const struct state_volumes *list = &r->state.pending.volumes;

	for (unsigned i = 0; i < list->count; i++) {
		char base[STATE_FILE_MAX], layer[STATE_FILE_MAX];
		struct sosie_digest ctx;
		int rc;

		state_file(&r->dir, base, list->v[i].name.s, ".tree");
		state_file(&r->dir, layer, list->v[i].name.s, ".layer");
		sosie_context_volume(r->hash, r->o.tenant, r->o.group, list->v[i].name.s, &ctx);
		rc = sosie_io_exists(r->dir.io, layer) && !is_untouched(r, &list->v[i], layer)
		             ? sosie_tree_merge(r->dir.io, base, layer, &ctx, err)
		             : 0;
		if (rc != 0)
			return sosie_err_wrap(err, "accepted digests of volume %s", list->v[i].name.s);
	}
	return 0;
}

static int merge(struct sosie_replicator *r, struct sosie_err *err)
{
	const struct state_pending *p = &r->state.pending;
	int rc;

	if (r->state.doubted)
		return 0; /* what the trees have is not used any more */
	rc = p->logged ? redo_merge(r, err) : merge_layers(r, err);
	if (rc != -SOSIE_ECORRUPT || !p->logged)
		return rc;
	sosie_err_wrap(err, "%s/%s: digests are compared with the standby", r->o.tenant, r->o.group);
	sosie_log_err(SOSIE_LOG_WARNING, err);
	sosie_err_clear(err);
	r->state.doubted = true;
	return 0;
}

/* What redo.log has to hold from here on. */
static void settle_log(struct sosie_replicator *r)
{
	struct state *s = &r->state;

	if (s->doubted)
		return;
	if (!s->pending.logged) {
		redo_join(r);
		s->redo = (struct state_redo){0};
		r->redo_cut = 0;
		r->redo_points = 0;
		return;
	}
	s->redo.bytes = s->pending.log_end;
	memcpy(s->redo.boot, r->dir.boot, sizeof(s->redo.boot));
	redo_accepted(r);
}

/* Files of volumes that are in the group no longer. */
static void remove_files(struct sosie_replicator *r)
{
	static const char *const endings[] = {".tree", ".layer", ".signatures"};
	const struct state *s = &r->state;

	for (unsigned i = 0; i < s->volumes.count; i++) {
		char path[STATE_FILE_MAX];

		if (state_volumes_find(&s->pending.volumes, s->volumes.v[i].name.s))
			continue;
		for (unsigned k = 0; k < sizeof(endings) / sizeof(endings[0]); k++) {
			state_file(&r->dir, path, s->volumes.v[i].name.s, endings[k]);
			sosie_io_unlink(r->dir.io, path, NULL); /* one that stays is made anew */
		}
	}
}

static void close_upload(struct sosie_replicator *r)
{
	trees_close(r);
	journal_close(&r->upload.journal);
	r->upload.begun = false;
}

/* The pending upload has none any more. One that was named and not there may be another driver's: looked for
 * at the next cycle. */
static void forget_view(struct sosie_replicator *r)
{
	if (r->state.pending.view.s[0] && !r->pending_held)
		r->views_settled = false;
	r->state.pending.view = (struct sosie_view_id){""};
	r->pending_held = false;
}

int pending_accepted(struct sosie_replicator *r, const struct sosie_head *head, struct sosie_err *err)
{
	struct state *s = &r->state;
	struct sosie_view_id old = s->view;
	bool logged;
	int rc;

	close_upload(r);
	rc = merge(r, err);
	if (rc != 0)
		return rc;
	logged = s->pending.logged;
	settle_log(r);
	remove_files(r);
	free(s->volumes.v);
	s->volumes = s->pending.volumes;
	s->pending.volumes = (struct state_volumes){0};
	s->pending.present = false;
	s->view = r->pending_held ? s->pending.view : (struct sosie_view_id){""};
	s->cut = s->pending.cut;
	forget_view(r);
	s->attachments = s->pending.attachments;
	s->epoch = head->epoch;
	s->point = head->point;
	s->digest = head->digest;
	s->manifest = head->manifest;
	/* Not logged: durable before the layers are used again: a power cut must not bring back the committed
	 * upload, whose layers they would be taken for. */
	rc = replicator_save(r, !logged, err);
	if (rc == 0 && strcmp(old.s, s->view.s) != 0)
		views_drop(r, &old);
	/* Layers stay, empty, for the next upload. */
	if (rc == 0)
		rc = state_clean_upload(&r->dir, err);
	r->layers_dirty = rc != 0;
	return rc;
}

int pending_drop(struct sosie_replicator *r, struct sosie_err *err)
{
	struct sosie_view_id old = r->state.pending.view;
	int rc;

	close_upload(r);
	r->state.pending.present = false;
	forget_view(r);
	rc = replicator_save(r, true, err);
	if (rc == 0)
		views_drop(r, &old);
	if (rc == 0)
		rc = state_clean(&r->dir, err);
	r->layers_dirty = rc != 0;
	return rc;
}

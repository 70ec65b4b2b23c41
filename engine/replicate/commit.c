/* SPDX-License-Identifier: MIT */
/*
 * The end of a point: roots, manifest, commit, verdict. The state names the manifest, durably, before commit
 * is sent: a kill between the two finds it, and the head that the standby shows tells which of them holds.
 *
 * Flushes of a cycle, all before commit is sent: redo.log (what a repair makes the trees of), state.json
 * (that there is a commit whose outcome has to be asked for), its folder (the new name; and that of redo.log
 * when it is new). Begin and accepted need none: pending.c.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/replicate/internal.h"

static int set_volumes(struct sosie_replicator *r, struct sosie_manifest *m, struct sosie_err *err)
{
	m->volumes = calloc(r->volume_count, sizeof(*m->volumes));
	m->attachments = calloc(r->attachment_count + 1, sizeof(*m->attachments));
	m->parts = calloc(r->upload.part_count + 1, sizeof(*m->parts));
	if (!m->volumes || !m->attachments || !m->parts)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for a manifest");
	m->volume_count = r->volume_count;
	for (unsigned i = 0; i < r->volume_count; i++) {
		int rc;

		m->volumes[i].name = r->volumes[i].given->name;
		m->volumes[i].size = r->volumes[i].size;
		rc = sosie_tree_root(r->volumes[i].tree, &m->volumes[i].root, err);
		if (rc != 0)
			return sosie_err_wrap(err, "digests of volume %s", r->volumes[i].given->name.s);
	}
	return 0;
}

static void set_lists(struct sosie_replicator *r, struct sosie_manifest *m)
{
	const struct upload *u = &r->upload;

	m->attachment_count = r->attachment_count;
	for (unsigned i = 0; i < m->attachment_count; i++)
		m->attachments[i] = r->attachments[i].entry;
	m->part_count = u->part_count;
	for (unsigned i = 0; i < u->part_count; i++)
		m->parts[i] = (struct sosie_manifest_part){u->parts[i].length, u->parts[i].records,
		                                           u->parts[i].digest};
	m->plain = u->counters.plain;
	m->data = u->counters.data;
	m->zero = u->counters.zero;
	m->discard = u->counters.discard;
}

static void set_head(struct sosie_replicator *r, struct sosie_manifest *m, enum sosie_consistency label)
{
	m->kind = SOSIE_MANIFEST_SEGMENT;
	snprintf(m->tenant.s, sizeof(m->tenant.s), "%s", r->o.tenant);
	snprintf(m->group.s, sizeof(m->group.s), "%s", r->o.group);
	m->epoch = r->state.pending.epoch;
	m->parent = r->state.pending.base;
	m->cut_ms = r->cut.wall_ms;
	m->standby_at_ms = r->cut.standby_at_ms;
	m->standby_plus_ms = r->cut.standby_plus_ms;
	m->consistency = label;
	snprintf(m->software, sizeof(m->software), "%s", SOFTWARE);
}

/* One sequential fsync; what the layers have is in the page cache, for a kill. */
static int keep_log(struct sosie_replicator *r, struct sosie_err *err)
{
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < r->volume_count; i++)
		rc = sosie_tree_flush(r->volumes[i].tree, err);
	if (rc == 0)
		rc = journal_flush(&r->upload.journal, err);
	r->state.pending.log_end = r->upload.journal.size;
	return rc;
}

/* The bases first: redo.log must have nothing then that a repair would put over what is merged from layers.
 */
static int keep_layers(struct sosie_replicator *r, struct sosie_err *err)
{
	int rc = redo_sync_bases(r, err);

	for (unsigned i = 0; rc == 0 && i < r->volume_count; i++)
		rc = sosie_tree_sync(r->volumes[i].tree, err);
	r->state.pending.log_end = 0;
	return rc;
}

/* Of the manifest alone, whoever signed it. */
static void text_digest(struct sosie_replicator *r, const char *text, size_t len, struct sosie_digest *out)
{
	sosie_manifest_digest(r->hash, text, sosie_signed_text(text, len), out);
}

static int keep_manifest(struct sosie_replicator *r, const char *text, size_t len, struct sosie_err *err)
{
	struct state_pending *p = &r->state.pending;
	char path[STATE_FILE_MAX];
	int rc = 0;

	p->logged = r->upload.logged;
	rc = p->logged ? keep_log(r, err) : keep_layers(r, err);
	/* Not flushed: read_manifest. */
	state_file(&r->dir, path, "pending", ".manifest");
	if (rc == 0)
		rc = state_put(&r->dir, path, text, len, false, err);
	if (rc != 0)
		return rc;
	for (unsigned i = 0; i < r->volume_count && i < p->volumes.count; i++)
		p->volumes.v[i].identity = r->volumes[i].identity;
	p->attachments = r->attachments_digest;
	p->cut = r->cut;
	/* Begun from no view that was kept, or from one that is gone, and finished from this one: all was
	 * read. */
	p->view = r->view_id;
	r->pending_held = p->view.s[0] != '\0';
	p->committed = true;
	text_digest(r, text, len, &p->manifest);
	sosie_commit_digest(r->hash, text, len, &r->committed);
	return replicator_save(r, true, err);
}

static int make_manifest(struct sosie_replicator *r, enum sosie_consistency label, struct sosie_err *err)
{
	struct sosie_manifest m = {0};
	char *text = NULL;
	size_t len = 0;
	int rc;

	set_head(r, &m, label);
	rc = set_volumes(r, &m, err);
	if (rc == 0) {
		set_lists(r, &m);
		rc = sosie_manifest_text(&m, &text, &len, err);
	}
	if (rc == 0)
		rc = trust_sign(r->o.pool, SOSIE_SIGN_MANIFEST, &text, &len, err);
	if (rc == 0)
		rc = keep_manifest(r, text, len, err);
	free(text);
	sosie_manifest_fini(&m);
	return rc;
}

static int begin_without_data(struct sosie_replicator *r, struct sosie_err *err)
{
	struct sosie_session *s;
	int rc = session_get(r, 0, &s, err);

	if (rc != 0 || r->upload.begun)
		return rc;
	pthread_mutex_lock(&r->upload.lock);
	rc = pending_begin(r, s, err);
	pthread_mutex_unlock(&r->upload.lock);
	return rc;
}

static int send_attachments(struct sosie_replicator *r, struct sosie_err *err)
{
	struct sender *s;
	int rc;

	if (r->attachment_count == 0)
		return 0;
	r->part_at_risk = true;
	rc = sender_new(r, 0, &s, err);
	if (rc == 0)
		rc = sender_attachments(s, err);
	if (rc == 0)
		rc = sender_end(s, err);
	sender_free(s);
	r->part_at_risk = rc != 0;
	return rc;
}

/* --- commit and verdict
 * -------------------------------------------------------------------------------------------------------------
 */

/* The head of an accepted verdict goes into the state: it must be this store's, this group's, and the point
 * that was committed. */
static bool verdict_fits(const struct sosie_replicator *r, const struct sosie_head *head)
{
	const struct state_pending *p = &r->state.pending;

	return sosie_digest_equal(&head->manifest, &p->manifest) && head->epoch == p->epoch &&
	       head->point == r->state.point + 1 &&
	       memcmp(&head->store, &r->state.store, sizeof(head->store)) == 0 &&
	       strcmp(head->tenant.s, r->o.tenant) == 0 && strcmp(head->group.s, r->o.group) == 0;
}

static int take_verdict(struct sosie_replicator *r, const struct sosie_verdict *v, struct sosie_err *err)
{
	int rc;

	if (v->kind == SOSIE_VERDICT_REFUSED) {
		rc = verdict_error(r, v, err);
		/* What was sent does not have the roots that were made of our digests: the same would come of
		 * them again. */
		if (v->error.code == SOSIE_ECORRUPT) {
			r->state.doubted = true;
			sosie_err_action(err, "the upload was dropped here; all digests are compared with "
			                      "the standby before more is sent");
		}
		return pending_drop(r, NULL) == 0 ? rc
		                                  : sosie_err_wrap(err, "and the state could not be cleaned");
	}
	if (v->kind != SOSIE_VERDICT_ACCEPTED || !verdict_fits(r, &v->head))
		return sosie_err_set(err, SOSIE_EPROTO,
		                     "the standby's verdict does not fit what was committed");
	r->result->point = v->head.point;
	return pending_accepted(r, &v->head, err);
}

/* The state knows its digest; the text itself is not flushed, and may be lost in a power cut: SOSIE_ECORRUPT.
 */
static int read_manifest(struct sosie_replicator *r, char **text, size_t *len, struct sosie_err *err)
{
	struct sosie_digest digest;
	char path[STATE_FILE_MAX];
	int rc;

	state_file(&r->dir, path, "pending", ".manifest");
	rc = sosie_io_read_file(r->dir.io, path, SOSIE_MANIFEST_MAX, text, len, err);
	if (rc == -SOSIE_ENOTFOUND)
		return sosie_err_set(err, SOSIE_ECORRUPT, "the pending upload's manifest is gone");
	if (rc != 0)
		return rc;
	text_digest(r, *text, *len, &digest);
	if (sosie_digest_equal(&digest, &r->state.pending.manifest))
		return 0;
	free(*text);
	*text = NULL;
	return sosie_err_set(err, SOSIE_ECORRUPT, "the pending upload's manifest is damaged");
}

static int send_commit(struct sosie_replicator *r, struct sosie_session *s, struct sosie_err *err)
{
	char *text = NULL;
	size_t len = 0;
	int rc = read_manifest(r, &text, &len, err);

	if (rc == 0)
		rc = sosie_session_commit(s, r->o.group, &r->state.pending.upload, text, len, &r->keeper,
		                          err);
	free(text);
	return rc;
}

static bool part_is_there(const struct sosie_part_state *parts, uint32_t count, uint32_t index,
                          uint64_t length)
{
	for (uint32_t i = 0; i < count; i++)
		if (parts[i].index == index)
			return parts[i].durable >= length;
	return false;
}

/* Names of parts are durable with the commit only: a power loss at the standby before it may have taken some.
 */
static int parts_are_there(struct sosie_replicator *r, const struct sosie_part_state *parts, uint32_t count,
                           bool *all, struct sosie_err *err)
{
	struct sosie_manifest m = {0};
	char *text = NULL;
	size_t len = 0;
	int rc = read_manifest(r, &text, &len, err);

	if (rc == -SOSIE_ECORRUPT) {
		*all = false; /* the commit cannot be sent again: a new one is made */
		return 0;
	}
	if (rc == 0)
		rc = sosie_manifest_parse(text, sosie_signed_text(text, len), &m, err);
	*all = rc == 0;
	for (uint32_t i = 0; *all && i < m.part_count; i++)
		*all = part_is_there(parts, count, i, m.parts[i].length);
	sosie_manifest_fini(&m);
	free(text);
	return rc;
}

/* The commit never came about: the upload is gone on with like any that was cut off. */
static int reopen_pending(struct sosie_replicator *r, struct sosie_err *err)
{
	r->state.pending.committed = false;
	return replicator_save(r, true, err);
}

/* Of a commit that another process made: its bytes are in the state folder, unless the power went. */
static void know_committed(struct sosie_replicator *r)
{
	char *text = NULL;
	size_t len = 0;

	memset(&r->committed, 0, sizeof(r->committed));
	if (read_manifest(r, &text, &len, NULL) == 0)
		sosie_commit_digest(r->hash, text, len, &r->committed);
	free(text);
}

int commit_pending(struct sosie_replicator *r, struct sosie_err *err)
{
	const struct sosie_upload_id id = r->state.pending.upload;
	struct sosie_part_state *parts = NULL;
	struct sosie_verdict *v = calloc(1, sizeof(*v));
	struct sosie_session *s;
	bool committed = false;
	uint32_t count;
	char *text = NULL;
	size_t len = 0;
	int rc = v ? session_get(r, 0, &s, err) : sosie_err_set(err, SOSIE_ENOMEM, "no memory for a verdict");

	know_committed(r);
	if (rc == 0)
		rc = sosie_session_wait(s, r->o.group, &id, 0, &text, &len, &r->keeper, err);
	if (rc == 0 && !text) {
		bool all = true;

		rc = sosie_session_join(s, r->o.group, &id, &committed, &parts, &count, err);
		if (rc == 0 && !committed)
			rc = parts_are_there(r, parts, count, &all, err);
		if (rc == 0 && !all) {
			rc = reopen_pending(r, err);
			goto free_all;
		}
		if (rc == 0 && !committed)
			rc = send_commit(r, s, err);
		if (rc == -SOSIE_ENOTFOUND) {
			/* Neither there nor decided: nothing will come of it. */
			rc = pending_drop(r, err);
			goto free_all;
		}
	}
	if (rc == 0)
		rc = verdict_wait(r, &id, &r->committed, v, err);
	if (rc == 0)
		rc = take_verdict(r, v, err);

free_all:
	free(parts);
	free(text);
	free(v);
	return rc;
}

int commit_point(struct sosie_replicator *r, enum sosie_consistency label, struct sosie_err *err)
{
	struct sosie_verdict *v = NULL;
	struct sosie_session *s;
	int rc = begin_without_data(r, err);

	if (rc == 0)
		rc = send_attachments(r, err);
	if (rc == 0)
		rc = make_manifest(r, label, err);
	if (rc == 0)
		rc = session_get(r, 0, &s, err);
	if (rc == 0)
		rc = send_commit(r, s, err);
	if (rc != 0)
		return rc;
	v = calloc(1, sizeof(*v));
	if (!v)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for a verdict");
	sosie_progress(r->o.progress, "waiting for accepted", 0, 0);
	rc = verdict_wait(r, &r->state.pending.upload, &r->committed, v, err);
	if (rc == 0)
		rc = take_verdict(r, v, err);
	free(v);
	return rc;
}

/* Nothing about it is new; sizes come with points. */
static bool as_recorded(const struct sosie_identity *old, const struct sosie_identity *now)
{
	return sosie_identity_same(old, now) && old->dev == now->dev && old->detailed == now->detailed &&
	       old->filesystem == now->filesystem;
}

/* A volume that was accepted (--accept-volume), or is mounted anew, is the recorded one from here on, though
 * no point was made. */
static int record_identities(struct sosie_replicator *r, struct sosie_err *err)
{
	bool changed = false;

	for (unsigned i = 0; i < r->volume_count; i++)
		for (unsigned k = 0; k < r->state.volumes.count; k++) {
			struct state_volume *old = &r->state.volumes.v[k];

			if (strcmp(old->name.s, r->volumes[i].given->name.s) != 0 ||
			    as_recorded(&old->identity, &r->volumes[i].identity))
				continue;
			old->identity = r->volumes[i].identity;
			snprintf(old->path, sizeof(old->path), "%s", r->volumes[i].given->path);
			changed = true;
		}
	return changed ? replicator_save(r, true, err) : 0;
}

int commit_same(struct sosie_replicator *r, struct sosie_err *err)
{
	struct sosie_same one = {
	        .digest = r->state.digest, .point = r->head->point, .mono_ms = r->result->cut_mono_ms};
	struct sosie_session *s;
	unsigned taken;
	int rc = sosie_name_set(&one.group, SOSIE_NAME_GROUP, r->o.group, err);

	if (rc == 0)
		rc = session_get(r, 0, &s, err);
	if (rc == 0)
		rc = same_send(r->o.pool, s, r->o.clock, &one, 1, &taken, &r->keeper, err);
	return rc == 0 ? record_identities(r, err) : rc;
}

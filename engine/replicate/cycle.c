/* SPDX-License-Identifier: MIT */
/*
 * One cycle: ask for the head, judge it, finish what is pending, cut, read and send, commit. At its end trees
 * and journal are closed, sessions go back to the pool, and what it needed is freed; the state decides how
 * the next cycle goes on, after an error exactly as after a kill.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/delta/rdiff.h"
#include "engine/replicate/internal.h"
#include "sosie/log.h"

const char *group_name(const struct sosie_replicator *r, char *dst, size_t size)
{
	snprintf(dst, size, "%s/%s", r->o.tenant, r->o.group);
	return dst;
}

int replicator_save(struct sosie_replicator *r, bool durable, struct sosie_err *err)
{
	int rc = state_save(&r->dir, &r->state, durable, err);

	/* One that need not last does not make good one that had to. */
	r->state_unsaved = rc != 0 || (r->state_unsaved && !durable);
	return rc;
}

static bool is_set(const bool *flag)
{
	return flag && __atomic_load_n(flag, __ATOMIC_RELAXED);
}

bool stop_asked(const struct sosie_replicator *r)
{
	return is_set(r->o.stop) || (r->holds_views && is_set(r->o.let_views_go));
}

int stop_error(struct sosie_err *err)
{
	sosie_err_set(err, SOSIE_EINTR, "stopped by a signal");
	return sosie_err_action(err, "run again: what is durable at the standby is not sent twice");
}

static int error_let_go(const struct sosie_replicator *r, struct sosie_err *err)
{
	sosie_err_set(err, SOSIE_ENOSPACE, "the source's filesystem is below its reserve: views were let go");
	sosie_err_where(err, "%s/%s", r->o.tenant, r->o.group);
	return sosie_err_action(err, "free space there; until then changes are found by comparing digests");
}

static bool views_must_go(const struct sosie_replicator *r)
{
	return r->holds_views && !is_set(r->o.stop) && is_set(r->o.let_views_go);
}

/* Stopped, but not by a signal: views are to go. */
static int tell_why(const struct sosie_replicator *r, int rc, struct sosie_err *err)
{
	return rc == -SOSIE_EINTR && views_must_go(r) ? error_let_go(r, err) : rc;
}

/* Who gives up their space may have emptied them under our reads. */
static int tell_why_read(const struct sosie_replicator *r, int rc, struct sosie_err *err)
{
	if ((rc != -SOSIE_ESHRUNK && rc != -SOSIE_EIO && rc != -SOSIE_ENOTFOUND) || !views_must_go(r))
		return tell_why(r, rc, err);
	sosie_log_err(SOSIE_LOG_INFO, err);
	return error_let_go(r, err);
}

/* --- open and close
 * -----------------------------------------------------------------------------------------------------------
 */

static int check_options(struct sosie_replicate_options *o, struct sosie_err *err)
{
	o->streams = o->streams == 0 ? 1 : o->streams;
	o->accept_wait_ms = o->accept_wait_ms == 0 ? 30000 : o->accept_wait_ms;
	if (o->volume_count == 0 || o->volume_count > SOSIE_VOLUMES_MAX)
		return sosie_err_set(err, SOSIE_EUSAGE, "a group has 1 to %u volumes, not %u",
		                     SOSIE_VOLUMES_MAX, o->volume_count);
	if (o->attachment_count > SOSIE_ATTACHMENTS_MAX)
		return sosie_err_set(err, SOSIE_EUSAGE, "at most %u attachments", SOSIE_ATTACHMENTS_MAX);
	if (o->streams > STREAMS_MAX)
		return sosie_err_set(err, SOSIE_EUSAGE, "at most %u streams", STREAMS_MAX);
	if (strlen(o->state) + SOSIE_NAME_MAX + 16 > STATE_PATH_MAX)
		return sosie_err_set(err, SOSIE_EUSAGE,
		                     "the path of the state folder is longer than %u bytes",
		                     STATE_PATH_MAX - SOSIE_NAME_MAX - 16);
	for (unsigned i = 0; i < o->volume_count; i++)
		for (unsigned k = 0; k < i; k++)
			if (strcmp(o->volumes[i].name.s, o->volumes[k].name.s) == 0) {
				sosie_err_set(err, SOSIE_EUSAGE, "two volumes are named %s",
				              o->volumes[i].name.s);
				return sosie_err_action(err, "name them apart: NAME=PATH");
			}
	return 0;
}

static int allocate(struct sosie_replicator *r, struct sosie_err *err)
{
	r->hash = sosie_hash_new();
	r->volumes = calloc(r->o.volume_count, sizeof(*r->volumes));
	if (!r->hash || !r->volumes)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for a replicator");
	r->volume_count = r->o.volume_count;
	for (unsigned i = 0; i < STREAMS_MAX; i++)
		level_init(&r->levels[i], r->o.level);
	sosie_context_group(r->hash, r->o.tenant, r->o.group, &r->group_ctx);
	for (unsigned i = 0; i < r->volume_count; i++) {
		r->volumes[i].given = &r->o.volumes[i];
		sosie_context_volume(r->hash, r->o.tenant, r->o.group, r->o.volumes[i].name.s,
		                     &r->volumes[i].ctx);
	}
	return 0;
}

static int open_folder(struct sosie_replicator *r, struct sosie_io *io, const char *boot,
                       struct sosie_err *err)
{
	int rc;

	r->dir = (struct state_dir){.io = io,
	                            .given = io != NULL,
	                            .tenant = r->o.tenant,
	                            .group = r->o.group,
	                            .standby = r->o.standby};
	snprintf(r->dir.boot, sizeof(r->dir.boot), "%s", boot);
	snprintf(r->dir.path, sizeof(r->dir.path), "%s", r->o.state);
	rc = state_dir_open(&r->dir, err);
	return rc == 0 ? state_load(&r->dir, &r->state, err) : rc;
}

int sosie_replicator_open(const struct sosie_replicate_options *options, struct sosie_replicator **out,
                          struct sosie_err *err)
{
	char boot[40];

	state_boot_id(boot);
	return replicator_open_on(options, NULL, boot, out, err);
}

int replicator_open_on(const struct sosie_replicate_options *options, struct sosie_io *io, const char *boot,
                       struct sosie_replicator **out, struct sosie_err *err)
{
	struct sosie_replicator *r = calloc(1, sizeof(*r));
	int rc;

	*out = NULL;
	if (!r) {
		sosie_io_free(io);
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for a replicator");
	}
	r->o = *options;
	r->redo_points_max = REDO_POINTS;
	pthread_mutex_init(&r->lock, NULL);
	pthread_mutex_init(&r->upload.lock, NULL);
	pthread_mutex_init(&r->rate.lock, NULL);
	r->rate.per_second = options->read_rate;
	rc = check_options(&r->o, err);
	if (rc == 0)
		rc = allocate(r, err);
	if (rc == 0)
		rc = sosie_io_posix(&r->io, err);
	if (rc == 0)
		rc = open_folder(r, io, boot, err);
	else
		sosie_io_free(io);
	r->layers_dirty = true;
	if (rc != 0)
		sosie_replicator_close(r);
	else
		*out = r;
	return rc;
}

void sosie_replicator_close(struct sosie_replicator *r)
{
	if (!r)
		return;
	if (r->dir.io) {
		trees_close(r);
		journal_close(&r->upload.journal);
		redo_end(r);
		state_dir_close(&r->dir);
	}
	sosie_io_free(r->io);
	state_fini(&r->state);
	sosie_hash_free(r->hash);
	free(r->volumes);
	attachments_free(r);
	for (unsigned i = 0; i < STREAMS_MAX; i++)
		rdiff_free(r->rdiffs[i]);
	pthread_mutex_destroy(&r->lock);
	pthread_mutex_destroy(&r->upload.lock);
	pthread_mutex_destroy(&r->rate.lock);
	free(r);
}

/* --- before the cut
 * ---------------------------------------------------------------------------------------------------------------
 */

static void close_files(struct sosie_replicator *r)
{
	trees_close(r);
	journal_close(&r->upload.journal);
}

/* A state that begins at the head: nothing is known, or (compare) will be known after the comparison. */
static int start_anew(struct sosie_replicator *r, bool compare, struct sosie_err *err)
{
	struct sosie_view_id accepted = r->state.view, pending = r->state.pending.view;
	int rc;

	close_files(r);
	redo_join(r);
	rc = state_forget(&r->dir, &r->state, err);
	r->redo_cut = 0;
	r->redo_points = 0;
	r->pending_held = false;
	r->views_settled = r->views_settled && rc == 0;
	if (rc != 0)
		return rc;
	views_drop(r, &accepted);
	views_drop(r, &pending);
	r->state.exists = !compare;
	r->state.store = r->head->store;
	r->state.epoch = r->head->epoch;
	r->state.point = r->head->point;
	r->state.digest = r->head->digest;
	r->state.manifest = r->head->manifest;
	return 0;
}

/* Goes on with a pending upload that the head knows nothing of yet. */
static int handle_pending(struct sosie_replicator *r, bool *again, struct sosie_err *err)
{
	*again = false;
	if (!r->state.pending.present)
		return 0;
	if (!r->state.pending.committed)
		return resume_pending(r, &r->result->resumed, err);
	r->result->resumed = true;
	*again = true; /* the head has moved, or the upload is gone: judge anew */
	return commit_pending(r, err);
}

static int settle_head(struct sosie_replicator *r, bool *compare, struct sosie_err *err)
{
	bool again = true;
	int rc = 0;

	*compare = false;
	for (unsigned round = 0; rc == 0 && again; round++) {
		enum judgement j;

		again = false;
		if (round == 4)
			return sosie_err_set(err, SOSIE_EPENDING, "the standby's head keeps changing");
		rc = session_ask_head(r, r->head, err);
		if (rc == 0)
			rc = judge_head(r, r->head, &j, err);
		if (rc == 0)
			rc = volumes_all_given(r, r->head, err);
		if (rc != 0)
			return rc;
		*compare = j == JUDGE_COMPARE;
		if (j == JUDGE_FRESH || j == JUDGE_COMPARE) {
			rc = start_anew(r, *compare, err);
		} else if (j == JUDGE_PENDING_ACCEPTED) {
			r->result->resumed = true;
			rc = pending_accepted(r, r->head, err);
			again = r->state.doubted;
		} else {
			rc = handle_pending(r, &again, err);
		}
	}
	return rc;
}

static void forget_upload(struct sosie_replicator *r)
{
	r->upload.begun = false;
	r->upload.part_count = 0;
	r->upload.counters = (struct counters){0};
}

/* Layers without a pending upload are left-overs of a cycle that failed before it sent anything. */
static int clean_layers(struct sosie_replicator *r, struct sosie_err *err)
{
	int rc;

	if (r->state.pending.present || !r->layers_dirty)
		return 0;
	trees_close(r);
	rc = state_clean(&r->dir, err);
	r->layers_dirty = rc != 0;
	return rc;
}

/* --- the cut and what follows
 * ----------------------------------------------------------------------------------------------------- */

/* An upload that is gone on with was made for these sizes: a leaf at the end would mean other bytes. */
static int check_sizes(struct sosie_replicator *r, struct sosie_err *err)
{
	bool changed = false;
	int rc;

	for (unsigned i = 0; i < r->volume_count; i++)
		changed = changed || sosie_tree_size(r->volumes[i].tree) != r->volumes[i].size;
	if (!changed || !r->upload.begun)
		return 0;
	r->result->resumed = false;
	forget_upload(r);
	rc = pending_drop(r, err);
	return rc == 0 ? trees_open(r, err) : rc;
}

static int read_view(struct sosie_replicator *r, struct sosie_view *view, bool compare, struct sosie_err *err)
{
	int rc = volumes_measure(r, view, err);

	if (rc == 0 && compare) {
		r->result->compared = true;
		rc = compare_volumes(r, view, err);
	}
	if (rc == 0)
		rc = trees_open(r, err);
	if (rc == 0)
		rc = check_sizes(r, err);
	if (rc == 0)
		rc = trees_resize(r, err);
	if (rc == 0)
		rc = pass_run(r, view, PASS_SEND, err);
	return rc == 0 ? views_whole(r, error_let_go, err) : rc;
}

/* The kept view of a pending upload is gone after all: what was sent of it is let go. */
static int cut_anew(struct sosie_replicator *r, struct sosie_view **view, struct sosie_err *err)
{
	int rc;

	r->pending_held = false;
	r->result->resumed = false;
	forget_upload(r);
	rc = pending_drop(r, err);
	if (rc == 0)
		rc = trees_open(r, err);
	return rc == 0 ? views_cut(r, true, view, err) : rc;
}

static int cut_and_read(struct sosie_replicator *r, bool compare, struct sosie_err *hook_err,
                        struct sosie_err *err)
{
	struct sosie_view *view;
	int rc = views_cut(r, !compare, &view, err);

	if (rc == -SOSIE_ENOTFOUND && r->pending_held)
		rc = cut_anew(r, &view, err);
	if (rc != 0)
		return rc;
	r->part_at_risk = true;
	rc = tell_why_read(r, read_view(r, view, compare, err), err);
	r->part_at_risk = rc != 0;
	views_release(r, view, rc, hook_err);
	if (!r->views_emptied)
		return rc;
	r->result->resumed = false;
	forget_upload(r);
	return r->state.pending.present && pending_drop(r, NULL) != 0
	               ? sosie_err_wrap(err, "and the state could not be cleaned")
	               : rc;
}

static int finish(struct sosie_replicator *r, struct sosie_err *err)
{
	bool same = !r->upload.begun && !volumes_changed(r) && r->head->point > 0 &&
	            sosie_digest_equal(&r->attachments_digest, &r->state.attachments);
	int rc;

	if (!same) {
		volumes_note_changes(r);
		return commit_point(r, r->result->consistency, err);
	}
	rc = commit_same(r, err);
	if (rc == 0 && r->view_id.s[0])
		rc = views_replace(r, err);
	r->result->same = true;
	r->result->point = r->head->point;
	return rc;
}

static int cycle(struct sosie_replicator *r, struct sosie_err *err)
{
	struct sosie_err hook_err = {0};
	bool compare;
	int rc;

	forget_upload(r);
	r->view_id = (struct sosie_view_id){""};
	rc = redo_settle(r, err);
	if (rc == 0)
		rc = views_settle(r, err);
	r->holds_views = r->state.view.s[0] || r->state.pending.view.s[0];
	if (rc == 0)
		rc = volumes_identify(r, err);
	if (rc == 0)
		rc = attachments_measure(r, err);
	if (rc == 0)
		rc = settle_head(r, &compare, err);
	if (rc == 0)
		rc = clean_layers(r, err);
	if (rc == 0 && !compare)
		rc = trees_open(r, err);
	if (rc == 0)
		rc = cut_and_read(r, compare, &hook_err, err);
	if (rc == 0)
		rc = finish(r, err);
	views_end(r);
	if (rc == 0 && hook_err.code != SOSIE_OK) {
		if (err)
			*err = hook_err;
		rc = -(int)hook_err.code;
	}
	return rc;
}

/* The standby refused roots made of our digests: something here was damaged. Once more, by comparison; a
 * second refusal is told. */
static int cycle_again(struct sosie_replicator *r, struct sosie_err *err)
{
	sosie_log_err(SOSIE_LOG_WARNING, err);
	memset(r->result, 0, sizeof(*r->result));
	sosie_err_clear(err);
	return cycle(r, err);
}

/* Somebody removed the state folder under us: a new one, as at a first start. What the standby has tells the
 * rest. */
static int open_new_folder(struct sosie_replicator *r, struct sosie_err *err)
{
	int rc;

	sosie_log(SOSIE_LOG_WARNING,
	          "%s/%s: the state folder %s was removed; a new one is made, and digests are compared",
	          r->o.tenant, r->o.group, r->dir.path);
	close_files(r);
	redo_join(r);
	state_fini(&r->state);
	state_dir_close(&r->dir);
	r->dir.given = false;
	r->redo_checked = false;
	r->redo_cut = 0;
	r->views_settled = r->pending_held = r->state_unsaved = false;
	rc = state_dir_open(&r->dir, err);
	if (rc == 0)
		rc = state_load(&r->dir, &r->state, err);
	r->layers_dirty = true;
	return rc;
}

/* The folder may also go while the cycle runs: then once more. */
static int cycle_in_folder(struct sosie_replicator *r, struct sosie_err *err)
{
	int rc = 0;

	if (!r->dir.io) /* an earlier attempt at a new folder failed */
		rc = state_dir_open(&r->dir, err) == 0 ? state_load(&r->dir, &r->state, err)
		                                       : -(int)err->code;
	if (rc == 0 && state_dir_gone(&r->dir))
		rc = open_new_folder(r, err);
	if (rc == 0)
		rc = cycle(r, err);
	if (rc == 0 || rc == -SOSIE_EINTR || !r->dir.io || !state_dir_gone(&r->dir))
		return rc;
	memset(r->result, 0, sizeof(*r->result));
	sosie_err_clear(err);
	rc = open_new_folder(r, err);
	return rc == 0 ? cycle(r, err) : rc;
}

/* --- one cycle, from what it needs to what it leaves
 * ------------------------------------------------------------ */

static int begin_cycle(struct sosie_replicator *r, struct sosie_cycle_result *out, struct sosie_err *err)
{
	memset(out, 0, sizeof(*out));
	r->result = out;
	r->sent_bytes = 0;
	r->steady = r->part_at_risk = r->holds_views = r->session_kept = r->views_emptied = false;
	r->head = calloc(1, sizeof(*r->head));
	r->upload.parts = calloc(SOSIE_PARTS_MAX, sizeof(*r->upload.parts));
	if (!r->head || !r->upload.parts)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for a cycle of %s/%s", r->o.tenant,
		                     r->o.group);
	return stop_asked(r) ? stop_error(err) : 0;
}

/* Errors that come as a whole answer, between parts: the sessions are as good as before. */
static bool sessions_whole(const struct sosie_replicator *r, int rc)
{
	switch (-rc) {
	case SOSIE_OK:
		return true;
	case SOSIE_EPENDING:
	case SOSIE_ENOKEEPER:
	case SOSIE_EREFUSED:
	case SOSIE_EFENCED:
	case SOSIE_EPARENT:
	case SOSIE_ELOSS:
	case SOSIE_EVOLUME:
	case SOSIE_ESHRUNK:
		return !r->part_at_risk;
	default:
		return false;
	}
}

static void end_cycle(struct sosie_replicator *r, int rc)
{
	close_files(r);
	sessions_give(r, sessions_whole(r, rc));
	free(r->head);
	free(r->upload.parts);
	free(r->doubtful);
	r->head = NULL;
	r->upload.parts = NULL;
	r->doubtful = NULL;
	r->doubtful_count = 0;
	r->steady = rc == 0;
	r->layers_dirty = r->layers_dirty || rc != 0;
	r->holds_views = false;
	r->result = NULL;
}

int sosie_replicator_cycle(struct sosie_replicator *r, struct sosie_cycle_result *out, struct sosie_err *err)
{
	struct sosie_err mine = {0};
	int rc = begin_cycle(r, out, &mine);

	if (rc == 0)
		rc = cycle_in_folder(r, &mine);
	if (rc == -SOSIE_EREFUSED && r->state.doubted && !out->compared)
		rc = cycle_again(r, &mine);
	rc = tell_why(r, rc, &mine);
	out->done_mono_ms = sosie_mono_ms(r->o.clock);
	out->wire_bytes = sessions_sent(r);
	end_cycle(r, rc);
	if (rc == 0)
		r->o.accept_standby_loss = false; /* one loss, once: the next is to be shown first */
	else if (err)
		*err = mine;
	return rc;
}

/* --- between cycles
 * --------------------------------------------------------------------------------------------- */

bool sosie_replicator_unchanged(struct sosie_replicator *r, struct sosie_same *out)
{
	const struct state *s = &r->state;

	memset(out, 0, sizeof(*out));
	out->mono_ms = sosie_mono_ms(r->o.clock);
	/* steady: this process has seen the standby's head since. */
	if (!r->steady || !r->dir.io || !s->exists || s->point == 0 || s->pending.present || s->doubted ||
	    !r->views_settled || !s->view.s[0] || !volumes_are(r, &s->volumes) || state_dir_gone(&r->dir))
		return false;
	if (!r->o.source->ops->unchanged(r->o.source, &s->view) || !attachments_unchanged(r))
		return false;
	snprintf(out->group.s, sizeof(out->group.s), "%s", r->o.group);
	out->digest = s->digest;
	out->point = s->point;
	return true;
}

/* What it finds new is a cycle's to follow; so is an error that a person must see, until one ends well. */
static int check(struct sosie_replicator *r, struct sosie_err *err)
{
	enum judgement j = JUDGE_GO_ON;
	int rc = session_ask_head(r, r->head, err);

	if (rc == 0)
		rc = judge_head(r, r->head, &j, err);
	if (rc == 0)
		rc = volumes_all_given(r, r->head, err);
	r->steady = r->steady && j == JUDGE_GO_ON &&
	            (rc == 0 || sosie_code_class((enum sosie_code) - rc) == SOSIE_CLASS_RETRY);
	return rc;
}

int sosie_replicator_check(struct sosie_replicator *r, struct sosie_err *err)
{
	struct sosie_cycle_result unused = {0};
	int rc;

	if (is_set(r->o.stop))
		return stop_error(err);
	r->head = calloc(1, sizeof(*r->head));
	if (!r->head)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for the head of %s/%s", r->o.tenant,
		                     r->o.group);
	r->result = &unused;
	r->sent_bytes = 0;
	r->part_at_risk = r->session_kept = false;
	rc = check(r, err);
	sessions_give(r, sessions_whole(r, rc));
	free(r->head);
	r->head = NULL;
	r->result = NULL;
	return rc;
}

void sosie_replicator_status(const struct sosie_replicator *r, struct sosie_replicator_status *out)
{
	const struct state *s = &r->state;
	bool known = s->cut.boot[0] != '\0', ours = known && strcmp(s->cut.boot, r->dir.boot) == 0;

	*out = (struct sosie_replicator_status){.age_ms = -1};
	out->exists = s->exists && s->point > 0;
	out->pending = s->pending.present;
	out->view = s->view;
	if (!out->exists)
		return;
	out->point = s->point;
	out->cut_wall_ms = s->cut.wall_ms;
	out->labelled = known && s->cut.labelled;
	out->consistency = s->cut.consistency;
	if (ours)
		out->age_ms = state_boot_ms() - s->cut.boot_ms;
}

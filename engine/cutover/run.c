/* SPDX-License-Identifier: MIT */
/*
 * The steps of a cutover as a table of edges. Each edge leaves its result durable and may be run again from
 * any point inside it; after it the record is written. A kill or a power cut at any instant is followed by
 * the same edge again.
 *
 *   none ─begin→ planned ─materialise→ materialised ─check→ checked
 *        ─fence→ fenced ─activate→ activated ─clean up→ done
 *
 * Invariants: nothing that a sender can notice before fence (I5: the new epoch is in the chain, durably,
 * before an image has its final name). With the method rename head/ stays the head, usable and clean, until
 * one rename of the whole folder takes it away: no instant at which the images are in neither place, nor at
 * which a keeper could mistake what is left of them for a head.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/cutover/internal.h"
#include "engine/store/core.h"

struct run {
	struct sosie_group *g;
	struct sosie_io *io;
	struct sosie_cutover *c;
	struct cutover_record r;
	struct sosie_manifest m; /* of the chosen point */
	char final_dir[STORE_PATH], temp_dir[STORE_PATH], head_dir[STORE_PATH], live_dir[STORE_PATH];
	struct sosie_progress *progress;
};

static bool exists(struct run *run, const char *path)
{
	return sosie_io_exists(run->io, path);
}

static int volume_path(const char *dir, const struct sosie_manifest *m, unsigned i, const char *ending,
                       char dst[STORE_PATH], struct sosie_err *err)
{
	return store_path(dst, err, "%s/%s.%s", dir, m->volumes[i].name.s, ending);
}

/* The folder that holds the temporary one. */
static const char *parent_dir(const struct run *run)
{
	return run->r.into[0] ? run->r.into : run->live_dir;
}

/* This process may hold the head open from accepting the inbox: not across what follows. */
static void let_go_of_head(struct run *run)
{
	struct store_memo *memo = memo_find(run->g->store, run->g->tenant.s, run->g->name.s);

	if (memo)
		memo_drop_head(memo);
}

/* head/ whole, durable and with the roots of the newest point. */
static int make_head_sound(struct run *run, struct sosie_err *err)
{
	struct image_set *set = NULL;
	int rc = head_ready(run->g, run->progress, err);

	if (rc == 0)
		rc = head_clean(run->g, err);
	let_go_of_head(run);
	if (rc == 0)
		rc = images_open(run->g, run->head_dir, &run->m, false, &set, err);
	if (rc < 0)
		return rc;
	rc = images_check_roots(set, &run->m, err);
	int closed = images_close(set, rc < 0 ? NULL : err);
	return rc < 0 ? rc : closed;
}

/* --- materialise
 * ---------------------------------------------------------------------------------------------------- */

/* The newest point's images and trees out of head/, which needs no segment applied. */
static int copy_head(struct run *run, const char *dir, struct sosie_err *err)
{
	int rc = make_head_sound(run, err);

	if (rc == 0)
		rc = sosie_io_mkdir(run->io, dir, 0700, err);
	if (rc == 0)
		rc = images_copy(run->io, run->head_dir, dir, &run->m, run->progress, err);
	return rc == 0 ? sosie_io_sync_dir(run->io, dir, err) : rc;
}

static int check_space(struct run *run, struct sosie_err *err)
{
	uint64_t left, total;
	char need[32], have[32];
	int rc;

	if (run->r.method != SOSIE_CUTOVER_COPY)
		return 0;
	rc = sosie_io_space(run->io, parent_dir(run), &left, &total, err);
	if (rc < 0 || left >= run->c->bytes)
		return rc;
	sosie_err_set(err, SOSIE_ENOSPACE, "%s/%s: the images need %s in %s, where %s are free",
	              run->g->tenant.s, run->g->name.s, sosie_size_text(need, sizeof(need), run->c->bytes),
	              parent_dir(run), sosie_size_text(have, sizeof(have), left));
	return sosie_err_action(err,
	                        "make room, or choose another folder with --into; nothing has been changed");
}

/* Under another name until they are whole: what is in the temporary folder later is never half of an image.
 */
static int make_images(struct run *run, struct sosie_err *err)
{
	char part[STORE_PATH];
	int rc = sosie_io_ensure_dir(run->io, parent_dir(run), 0700, err);

	if (rc == 0)
		rc = cutover_part_dir(run->temp_dir, part, err);
	if (rc == 0)
		rc = sosie_io_remove_tree(run->io, part, err);
	if (rc == 0)
		rc = sosie_io_remove_tree(run->io, run->temp_dir, err);
	if (rc == 0)
		rc = check_space(run, err);
	if (rc < 0)
		return rc;
	if (run->r.point == sosie_group_points(run->g))
		rc = copy_head(run, part, err);
	else
		rc = images_materialise(run->g, run->r.point, part, run->progress, err);
	if (rc == 0)
		rc = sosie_io_rename(run->io, part, run->temp_dir, err);
	return rc == 0 ? sosie_io_sync_dir(run->io, parent_dir(run), err) : rc;
}

static int edge_begin(struct run *run, struct sosie_err *err)
{
	(void)run;
	(void)err;
	return 0; /* the record says it all */
}

static int edge_materialise(struct run *run, struct sosie_err *err)
{
	if (run->r.method == SOSIE_CUTOVER_RENAME)
		return make_head_sound(run, err);
	return make_images(run, err);
}

/* --- check
 * ------------------------------------------------------------------------------------------------------------
 */

static int edge_check(struct run *run, struct sosie_err *err)
{
	struct image_set *set = NULL;
	int rc;

	if (run->r.method == SOSIE_CUTOVER_RENAME)
		return make_head_sound(run, err);
	if (!exists(run, run->temp_dir)) {
		rc = make_images(run, err); /* thrown away since: nothing is lost but time */
		if (rc < 0)
			return rc;
	}
	rc = images_open(run->g, run->temp_dir, &run->m, false, &set, err);
	if (rc < 0)
		return rc;
	rc = images_check_roots(set, &run->m, err);
	int closed = images_close(set, rc < 0 ? NULL : err);
	return rc < 0 ? rc : closed;
}

/* --- fence
 * ------------------------------------------------------------------------------------------------------------
 */

static int edge_fence(struct run *run, struct sosie_err *err)
{
	char reason[128];
	int rc;

	if (chain_epoch(run->g->chain) >= run->r.to_epoch)
		return 0;
	/* Last look at everything that could still stop the way of the images. */
	rc = cutover_names_free(run->g, &run->r, &run->m, err);
	if (rc == 0)
		rc = sosie_io_ensure_dir(run->io, parent_dir(run), 0700, err);
	if (rc < 0)
		return rc;
	snprintf(reason, sizeof(reason), "cutover to point %llu", (unsigned long long)run->r.point);
	return group_raise_epoch(run->g, run->r.to_epoch, run->r.point, "sosie cutover", reason, err);
}

/* --- activate
 * -----------------------------------------------------------------------------------------------------------
 */

struct strip {
	struct run *run;
	struct sosie_err *err;
	int rc;
};

static bool is_image(const struct sosie_manifest *m, const char *name)
{
	const size_t len = strlen(name);

	for (unsigned i = 0; i < m->volume_count; i++) {
		const size_t volume = strlen(m->volumes[i].name.s);
		if (len == volume + 4 && memcmp(name, m->volumes[i].name.s, volume) == 0 &&
		    strcmp(name + volume, ".raw") == 0)
			return true;
	}
	return false;
}

static int strip_one(void *arg, const char *name, enum sosie_file_kind kind)
{
	struct strip *s = arg;
	char path[STORE_PATH];

	(void)kind;
	if (is_image(&s->run->m, name))
		return 0;
	s->rc = store_path(path, s->err, "%s/%s", s->run->temp_dir, name);
	if (s->rc == 0)
		s->rc = sosie_io_remove_tree(s->run->io, path, s->err);
	return s->rc;
}

/* The tenant's own from now on: its mode too is durable. */
static int make_writable(struct run *run, const char *path, struct sosie_err *err)
{
	struct sosie_file *file = NULL;
	int rc = sosie_io_chmod(run->io, path, 0600, err);

	if (rc == 0)
		rc = sosie_io_openat(run->io, path, SOSIE_READ | SOSIE_WRITE, 0, &file, err);
	if (rc < 0)
		return rc;
	rc = sosie_io_fsync(run->io, file, err);
	int closed = sosie_io_close(run->io, file, rc < 0 ? NULL : err);
	return rc < 0 ? rc : closed;
}

/* Leaves nothing but the images in the temporary folder. */
static int strip_to_images(struct run *run, struct sosie_err *err)
{
	struct strip s = {run, err, 0};
	char path[STORE_PATH];
	int rc = sosie_io_list(run->io, run->temp_dir, strip_one, &s, err);

	rc = s.rc < 0 ? s.rc : rc;
	for (unsigned i = 0; rc >= 0 && i < run->m.volume_count; i++) {
		rc = volume_path(run->temp_dir, &run->m, i, "raw", path, err);
		if (rc == 0)
			rc = make_writable(run, path, err);
	}
	return rc < 0 ? rc : sosie_io_sync_dir(run->io, run->temp_dir, err);
}

/* head/ becomes live/E.tmp/: first the new name is durable, then the old one is gone for good. */
static int take_head(struct run *run, struct sosie_err *err)
{
	int rc = make_head_sound(run, err);

	if (rc == 0)
		rc = sosie_io_rename(run->io, run->head_dir, run->temp_dir, err);
	if (rc == 0)
		rc = sosie_io_sync_dir(run->io, run->live_dir, err);
	return rc == 0 ? sosie_io_sync_dir(run->io, run->g->dir, err) : rc;
}

static int activate_live(struct run *run, struct sosie_err *err)
{
	int rc = 0;

	if (exists(run, run->final_dir))
		return sosie_io_sync_dir(run->io, run->live_dir, err);
	if (!exists(run, run->temp_dir))
		rc = run->r.method == SOSIE_CUTOVER_RENAME ? take_head(run, err) : make_images(run, err);
	if (rc == 0)
		rc = strip_to_images(run, err);
	if (rc == 0)
		rc = sosie_io_rename(run->io, run->temp_dir, run->final_dir, err);
	return rc == 0 ? sosie_io_sync_dir(run->io, run->live_dir, err) : rc;
}

/* How many of the images are in DIR, how many still in the temporary folder. */
static int count_places(struct run *run, unsigned *ready, unsigned *waiting, struct sosie_err *err)
{
	char path[STORE_PATH];
	int rc = 0;

	*ready = *waiting = 0;
	for (unsigned i = 0; rc == 0 && i < run->m.volume_count; i++) {
		rc = volume_path(run->final_dir, &run->m, i, "raw", path, err);
		if (rc == 0 && exists(run, path))
			*ready += 1;
		if (rc == 0)
			rc = volume_path(run->temp_dir, &run->m, i, "raw", path, err);
		if (rc == 0 && exists(run, path))
			*waiting += 1;
	}
	return rc;
}

static int refuse_taken_name(struct run *run, const char *path, struct sosie_err *err)
{
	sosie_err_set(err, SOSIE_EEXISTS, "%s/%s: %s has appeared since the cutover began and is not its own",
	              run->g->tenant.s, run->g->name.s, path);
	return sosie_err_action(err, "move it away, then run the same command again: it goes on here");
}

static int refuse_missing(struct run *run, const char *path, struct sosie_err *err)
{
	sosie_err_set(err, SOSIE_ENOTFOUND, "%s/%s: the image is neither in %s nor beside it",
	              run->g->tenant.s, run->g->name.s, path);
	sosie_err_where(err, "%s", path);
	return sosie_err_action(
	        err, "somebody took it away; get it again: sosie export --point %llu --into OTHERDIR %s/%s",
	        (unsigned long long)run->r.point, run->g->tenant.s, run->g->name.s);
}

static int activate_one(struct run *run, unsigned i, struct sosie_err *err)
{
	char from[STORE_PATH], to[STORE_PATH];
	int rc = volume_path(run->temp_dir, &run->m, i, "raw", from, err);

	if (rc == 0)
		rc = volume_path(run->final_dir, &run->m, i, "raw", to, err);
	if (rc < 0)
		return rc;
	if (!exists(run, from))
		return exists(run, to) ? 0 : refuse_missing(run, to, err);
	if (exists(run, to))
		return refuse_taken_name(run, to, err);
	rc = make_writable(run, from, err);
	return rc == 0 ? sosie_io_rename(run->io, from, to, err) : rc;
}

static int activate_into(struct run *run, struct sosie_err *err)
{
	unsigned ready, waiting;
	int rc = count_places(run, &ready, &waiting, err);

	if (rc == 0 && ready == 0 && waiting < run->m.volume_count)
		rc = make_images(run, err);
	for (unsigned i = 0; rc == 0 && i < run->m.volume_count; i++)
		rc = activate_one(run, i, err);
	return rc == 0 ? sosie_io_sync_dir(run->io, run->final_dir, err) : rc;
}

static int edge_activate(struct run *run, struct sosie_err *err)
{
	int rc = outbox_head(run->g, err); /* senders of the old epoch are told why they are refused */

	if (rc < 0)
		return rc;
	return run->r.into[0] ? activate_into(run, err) : activate_live(run, err);
}

static int edge_clean_up(struct run *run, struct sosie_err *err)
{
	char part[STORE_PATH];
	int rc = run->r.into[0] ? sosie_io_remove_tree(run->io, run->temp_dir, err) : 0;

	if (rc == 0)
		rc = cutover_part_dir(run->temp_dir, part, err);
	if (rc == 0)
		rc = sosie_io_remove_tree(run->io, part, err);
	return rc == 0 ? sosie_io_sync_dir(run->io, parent_dir(run), err) : rc;
}

/* --- the machine
 * ----------------------------------------------------------------------------------------------------------
 */

static const struct {
	const char *doing; /* for progress and for messages */
	int (*run)(struct run *run, struct sosie_err *err);
} edges[] = {
        [SOSIE_CUTOVER_NONE] = {"planning", edge_begin},
        [SOSIE_CUTOVER_PLANNED] = {"making the images", edge_materialise},
        [SOSIE_CUTOVER_MATERIALISED] = {"checking the images", edge_check},
        [SOSIE_CUTOVER_CHECKED] = {"raising the epoch", edge_fence},
        [SOSIE_CUTOVER_FENCED] = {"putting the images into place", edge_activate},
        [SOSIE_CUTOVER_ACTIVATED] = {"cleaning up", edge_clean_up},
};

static int run_edges(struct run *run, struct sosie_err *err)
{
	while (run->r.step < SOSIE_CUTOVER_DONE) {
		const enum sosie_cutover_step from = run->r.step;
		int rc;
		sosie_progress(run->progress, edges[from].doing, 0, 0);
		rc = edges[from].run(run, err);
		if (rc == 0) {
			run->r.step = (enum sosie_cutover_step)(from + 1);
			rc = cutover_record_write(run->g, &run->r, err);
		}
		if (rc < 0) {
			run->c->step = from;
			return sosie_err_wrap(err, "%s", edges[from].doing);
		}
		run->c->step = run->r.step;
	}
	return 0;
}

/* What an earlier run left in another temporary folder goes; its choice was never made. A folder that cannot
 * be reached any more does not hold up a cutover. */
static void drop_earlier(struct run *run, const struct cutover_record *old)
{
	char dir[STORE_PATH], part[STORE_PATH];

	if (old->step == SOSIE_CUTOVER_NONE || old->step >= SOSIE_CUTOVER_FENCED ||
	    old->method == SOSIE_CUTOVER_RENAME)
		return;
	if (cutover_temp_dir(run->g, old, dir, NULL) != 0)
		return;
	(void)sosie_io_remove_tree(run->io, dir, NULL);
	if (cutover_part_dir(dir, part, NULL) == 0)
		(void)sosie_io_remove_tree(run->io, part, NULL);
}

static int new_record(struct run *run, struct sosie_err *err)
{
	struct cutover_record *r = &run->r;
	uint8_t id[8];
	int rc = sosie_random(run->g->store->clock, id, sizeof(id), err);

	drop_earlier(run, r);
	if (rc < 0)
		return rc;
	memset(r, 0, sizeof(*r));
	sosie_hex(r->id, id, sizeof(id));
	r->point = run->c->chosen.point;
	r->from_epoch = run->c->from_epoch;
	r->to_epoch = run->c->to_epoch;
	r->method = run->c->method;
	r->started_ms = sosie_wall_ms(run->g->store->clock);
	memcpy(r->into, run->c->into, strlen(run->c->into) + 1);
	return 0;
}

/* Goes on with the record that is there when it is the same cutover, else begins one. */
static int take_record(struct run *run, struct sosie_err *err)
{
	struct cutover_record *r = &run->r;
	bool past = false;
	int rc = cutover_record_read(run->g, r, err);

	if (rc == 0)
		rc = cutover_record_is_past(run->g, r, &past, err);
	if (rc < 0)
		return rc;
	if (r->step >= SOSIE_CUTOVER_FENCED && !past)
		return 0;
	if (past || r->step == SOSIE_CUTOVER_NONE || r->point != run->c->chosen.point ||
	    r->method != run->c->method || strcmp(r->into, run->c->into) != 0 ||
	    r->to_epoch != run->c->to_epoch)
		return new_record(run, err);
	if (r->step == SOSIE_CUTOVER_CHECKED)
		r->step = SOSIE_CUTOVER_MATERIALISED; /* a check of an earlier run says nothing about now */
	return 0;
}

static int set_paths(struct run *run, struct sosie_err *err)
{
	int rc = cutover_final_dir(run->g, &run->r, run->final_dir, err);

	if (rc == 0)
		rc = cutover_temp_dir(run->g, &run->r, run->temp_dir, err);
	if (rc == 0)
		rc = store_path(run->head_dir, err, "%s/head", run->g->dir);
	if (rc == 0)
		rc = store_path(run->live_dir, err, "%s/live", run->g->dir);
	return rc;
}

static int list_images(struct run *run, struct sosie_err *err)
{
	struct sosie_cutover *c = run->c;

	free(c->images);
	c->image_count = 0;
	c->images = calloc(run->m.volume_count, sizeof(*c->images));
	if (!c->images)
		return sosie_err_sys(err, ENOMEM, "cannot list the images");
	for (unsigned i = 0; i < run->m.volume_count; i++) {
		c->images[i].volume = run->m.volumes[i].name;
		c->images[i].size = run->m.volumes[i].size;
		int rc = volume_path(run->final_dir, &run->m, i, "raw", c->images[i].path, err);
		if (rc < 0)
			return rc;
	}
	c->image_count = run->m.volume_count;
	return 0;
}

static int run_prepared(struct run *run, struct sosie_err *err)
{
	int rc = take_record(run, err);

	if (rc == 0)
		rc = sosie_group_manifest(run->g, run->r.point, &run->m, err);
	if (rc < 0)
		return rc;
	run->c->already_done = run->r.step == SOSIE_CUTOVER_DONE;
	rc = set_paths(run, err);
	if (rc == 0)
		rc = run_edges(run, err);
	if (rc == 0)
		rc = list_images(run, err);
	sosie_manifest_fini(&run->m);
	return rc;
}

int sosie_cutover_run(struct sosie_group *g, struct sosie_cutover *c, struct sosie_progress *progress,
                      struct sosie_err *err)
{
	const int64_t start_ms = sosie_mono_ms(g->store->clock);
	struct run *run;
	int rc;

	assert(g->lock && c->chosen.point > 0);
	run = calloc(1, sizeof(*run));
	if (!run)
		return sosie_err_sys(err, ENOMEM, "cannot begin the cutover");
	run->g = g;
	run->io = g->store->io;
	run->c = c;
	run->progress = progress;
	rc = run_prepared(run, err);
	c->elapsed_ms = sosie_mono_ms(g->store->clock) - start_ms;
	free(run);
	return rc;
}

/* SPDX-License-Identifier: MIT */
/*
 * The reflink driver: a cut clones each volume (FICLONE, ioctl_ficlone(2)) into ".sosie" beside it. A clone
 * is an instant of one file: the kernel waits for writes under way, flushes what is dirty and holds new ones.
 * Each round of clones holds the writers anew: the stall of a cut is the sum of its rounds.
 *
 * Several volumes: under a pause, all clones lie between hold and let go. Without one, or where another holds
 * the writers and may let them go at any time, all are cloned, and all again: where the mappings of each pair
 * are equal, no volume was written between its two clones, so that all had this content at the instant
 * between the rounds. Up to three more rounds, then the cut is fuzzy.
 *
 * Files are made before writers are held, and made durable and named after: only the clones themselves count.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "engine/source/views.h"

#define ROUNDS_MAX 5u

/* One clone of each volume, under temporary names. */
struct round {
	struct sosie_view_id id;
	int *clones; /* -1: none */
};

struct cutting {
	struct tracked *t;
	struct sosie_view *view;
	int *stores, *sources; /* descriptors, one for each volume; -1: none */
	struct round rounds[2];
	unsigned newest; /* of rounds */
	enum sosie_consistency label;
};

/* --- extents
 * --------------------------------------------------------------------------------------------------- */

static int count_extents(int fd, bool btrfs, uint64_t *out)
{
	struct fsxattr attributes;
	struct fiemap map = {.fm_length = FIEMAP_MAX_OFFSET};

	if (!btrfs && ioctl(fd, FS_IOC_FSGETXATTR, &attributes) == 0) {
		*out = attributes.fsx_nextents;
		return 0;
	}
	if (ioctl(fd, FS_IOC_FIEMAP, &map) != 0)
		return -1;
	*out = map.fm_mapped_extents;
	return 0;
}

static int volume_error(const struct tracked *t, unsigned i, int sys, const char *what, struct sosie_err *err)
{
	int rc = sosie_err_sys(err, sys, "%s volume %s", what, t->volumes[i].name.s);

	sosie_err_where(err, "%s", t->volumes[i].path);
	return rc;
}

static int reflink_extents(struct tracked *t, uint64_t *out, struct sosie_err *err)
{
	*out = 0;
	for (unsigned i = 0; i < t->count; i++) {
		uint64_t n = 0;
		int fd = open(t->volumes[i].path, O_RDONLY | O_CLOEXEC), rc, sys;

		if (fd < 0)
			return volume_error(t, i, errno, "opening", err);
		rc = count_extents(fd, t->places[i].btrfs, &n);
		sys = errno;
		close(fd);
		if (rc != 0)
			return volume_error(t, i, sys, "counting the extents of", err);
		*out += n;
	}
	return 0;
}

/* --- files of a round
 * ------------------------------------------------------------------------------------------ */

static void name_of(const struct tracked *t, const struct sosie_view_id *id, unsigned i, bool temporary,
                    char dst[VIEW_NAME_SIZE])
{
	snprintf(dst, VIEW_NAME_SIZE, "%s%s%s.%s", temporary ? "~" : "", t->prefix, id->s,
	         t->volumes[i].name.s);
}

static void reflink_path_in(const struct tracked *t, const struct sosie_view_id *id, unsigned i, char *dst,
                            size_t size)
{
	char name[VIEW_NAME_SIZE];

	name_of(t, id, i, false, name);
	snprintf(dst, size, "%s/%s", t->places[i].store, name);
}

/* A clone of a file without copy-on-write must be such a file too, and no other may (btrfs). */
static int match_nodatacow(int source, int clone)
{
	int theirs, ours;

	if (ioctl(source, FS_IOC_GETFLAGS, &theirs) != 0 || ioctl(clone, FS_IOC_GETFLAGS, &ours) != 0)
		return -1;
	if (((theirs ^ ours) & FS_NOCOW_FL) == 0)
		return 0;
	ours ^= FS_NOCOW_FL;
	return ioctl(clone, FS_IOC_SETFLAGS, &ours);
}

static int make_clone_file(struct cutting *c, struct round *r, unsigned i, struct sosie_err *err)
{
	char name[VIEW_NAME_SIZE];

	name_of(c->t, &r->id, i, true, name);
	r->clones[i] = openat(c->stores[i], name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0400);
	if (r->clones[i] < 0)
		return volume_error(c->t, i, errno, "no file for the view of", err);
	if (c->t->places[i].btrfs && match_nodatacow(c->sources[i], r->clones[i]) != 0)
		return volume_error(c->t, i, errno, "no file without copy-on-write for the view of", err);
	return 0;
}

static void remove_round(struct cutting *c, struct round *r)
{
	char name[VIEW_NAME_SIZE];

	for (unsigned i = 0; i < c->t->count; i++) {
		if (r->clones[i] < 0)
			continue;
		close(r->clones[i]);
		r->clones[i] = -1;
		name_of(c->t, &r->id, i, true, name);
		(void)unlinkat(c->stores[i], name, 0); /* else the next settle does */
	}
}

static int prepare_round(struct cutting *c, struct round *r, struct sosie_err *err)
{
	int rc;

	remove_round(c, r);
	rc = view_id_make(&r->id, 'r', SOSIE_CONSISTENCY_CRASH, err);
	for (unsigned i = 0; rc == 0 && i < c->t->count; i++)
		rc = make_clone_file(c, r, i, err);
	return rc;
}

static int clone_error(const struct cutting *c, unsigned i, int sys, struct sosie_err *err)
{
	int rc = volume_error(c->t, i, sys, "cloning", err);

	if (sys == ENOSPC || sys == EDQUOT)
		sosie_err_action(
		        err,
		        "the filesystem of the volume is full: free space there; nothing was sent, and the "
		        "volume is as it was");
	else if (sys == EXDEV)
		sosie_err_action(
		        err,
		        "the volume and the folder it lies in are not of one filesystem: use source scan");
	else
		sosie_err_action(err, "source: scan reads volumes that cannot be cloned");
	return rc;
}

static int clone_round(struct cutting *c, struct round *r, struct sosie_err *err)
{
	int64_t begun = sosie_clock_ns(CLOCK_MONOTONIC), took_us;

	for (unsigned i = 0; i < c->t->count; i++)
		if (ioctl(r->clones[i], FICLONE, c->sources[i]) != 0)
			return clone_error(c, i, errno, err);
	took_us = (sosie_clock_ns(CLOCK_MONOTONIC) - begun) / 1000;
	c->view->cloning_us += took_us;
	c->view->held_us += took_us;
	c->view->rounds++;
	return 0;
}

/* --- the instant
 * ------------------------------------------------------------------------------------------------ */

/* In doubt not: comparing on btrfs needs rights that cloning does not. */
static bool rounds_equal(const struct cutting *c)
{
	bool equal = true;

	for (unsigned i = 0; equal && i < c->t->count; i++)
		if (changes_equal_mappings(c->rounds[0].clones[i], c->rounds[1].clones[i], &equal, NULL) != 0)
			return false;
	return equal;
}

/* Without a pause: the newest round is always the first of the next pair. */
static int cut_by_pairs(struct cutting *c, struct sosie_err *err)
{
	bool equal = false;
	int rc = prepare_round(c, &c->rounds[0], err);

	if (rc == 0)
		rc = prepare_round(c, &c->rounds[1], err);
	if (rc == 0)
		rc = clone_round(c, &c->rounds[0], err);
	for (unsigned n = 1; rc == 0 && !equal && n < ROUNDS_MAX; n++) {
		c->newest ^= 1;
		if (n > 1)
			rc = prepare_round(c, &c->rounds[c->newest], err);
		if (rc == 0)
			rc = clone_round(c, &c->rounds[c->newest], err);
		equal = rc == 0 && rounds_equal(c);
	}
	c->label = equal ? SOSIE_CONSISTENCY_CRASH : SOSIE_CONSISTENCY_FUZZY;
	return rc;
}

static int cut_one(struct cutting *c, struct sosie_err *err)
{
	int rc = prepare_round(c, &c->rounds[0], err);

	if (rc == 0)
		rc = clone_round(c, &c->rounds[0], err);
	return rc;
}

static int cut_unheld(struct cutting *c, struct sosie_err *err)
{
	return c->t->count == 1 ? cut_one(c, err) : cut_by_pairs(c, err);
}

static int cut_held(struct cutting *c, struct sosie_err *err)
{
	struct tracked *t = c->t;
	struct sosie_err let_go_err = {0};
	bool passed = false;
	int rc, rc_let_go;

	rc = prepare_round(c, &c->rounds[0], err);
	if (rc == 0)
		rc = pause_hold(&t->pause, err);
	if (rc != 0)
		return rc;
	if (!t->pause.ours)
		return cut_unheld(c, err);
	rc = clone_round(c, &c->rounds[0], err);
	rc_let_go = pause_let_go(&t->pause, &passed, &let_go_err);
	c->view->held_us = (sosie_clock_ns(CLOCK_MONOTONIC) - t->pause.begun_ns) / 1000;
	if (rc_let_go != 0) { /* worse than whatever else has failed */
		if (err)
			*err = let_go_err;
		return rc_let_go;
	}
	if (rc == 0 && passed)
		return tracked_too_late(c->view, err);
	c->label = t->pause.kind == SOSIE_PAUSE_COMMANDS ? SOSIE_CONSISTENCY_APP : SOSIE_CONSISTENCY_CRASH;
	return rc;
}

/* --- durable
 * ----------------------------------------------------------------------------------------------------- */

/* Data, then names, then the folders. */
static int name_round(struct cutting *c, struct round *r, const struct sosie_view_id *id,
                      struct sosie_err *err)
{
	char from[VIEW_NAME_SIZE], to[VIEW_NAME_SIZE];
	struct tracked *t = c->t;

	for (unsigned i = 0; i < t->count; i++)
		if (fsync(r->clones[i]) != 0)
			return volume_error(t, i, errno, "syncing the view of", err);
	for (unsigned i = 0; i < t->count; i++) {
		name_of(t, &r->id, i, true, from);
		name_of(t, id, i, false, to);
		if (renameat(c->stores[i], from, c->stores[i], to) != 0)
			return volume_error(t, i, errno, "naming the view of", err);
		close(r->clones[i]);
		r->clones[i] = -1;
	}
	for (unsigned i = 0; i < t->count; i++)
		if (fsync(c->stores[i]) != 0)
			return volume_error(t, i, errno, "syncing the folder of views of", err);
	return 0;
}

/* --- a cut
 * -------------------------------------------------------------------------------------------------------- */

static void cutting_fini(struct cutting *c)
{
	for (unsigned r = 0; r < 2; r++) {
		if (c->rounds[r].clones)
			remove_round(c, &c->rounds[r]);
		free(c->rounds[r].clones);
	}
	for (unsigned i = 0; c->stores && c->sources && i < c->t->count; i++) {
		if (c->stores[i] >= 0)
			close(c->stores[i]);
		if (c->sources[i] >= 0)
			close(c->sources[i]);
	}
	free(c->stores);
	free(c->sources);
}

static int *none(unsigned count)
{
	int *fds = malloc(count * sizeof(*fds));

	for (unsigned i = 0; fds && i < count; i++)
		fds[i] = -1;
	return fds;
}

static int cutting_init(struct cutting *c, struct tracked *t, struct sosie_view *v, struct sosie_err *err)
{
	int rc = 0;

	*c = (struct cutting){.t = t, .view = v, .stores = none(t->count), .sources = none(t->count)};
	c->rounds[0].clones = none(t->count);
	c->rounds[1].clones = none(t->count);
	if (!c->stores || !c->sources || !c->rounds[0].clones || !c->rounds[1].clones)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for a cut");
	for (unsigned i = 0; rc == 0 && i < t->count; i++) {
		rc = store_open(t->places[i].store, t->places[i].btrfs, true, &c->stores[i], err);
		if (rc != 0)
			break;
		c->sources[i] = open(t->volumes[i].path, O_RDONLY | O_CLOEXEC);
		if (c->sources[i] < 0)
			rc = volume_error(t, i, errno, "opening", err);
		else
			flush_before(c->sources[i]);
	}
	return rc;
}

static int reflink_remove(const struct tracked *t, const struct sosie_view_id *id, struct sosie_err *err)
{
	char name[VIEW_NAME_SIZE];
	int rc = 0, one;

	for (unsigned i = 0; i < t->count; i++) {
		name_of(t, id, i, false, name);
		one = store_remove_at(t->places[i].store, t->places[i].btrfs, name, rc == 0 ? err : NULL);
		rc = rc == 0 ? one : rc;
	}
	return rc;
}

static int reflink_take(struct tracked *t, struct sosie_view *v, struct sosie_err *err)
{
	struct cutting c;
	int64_t begun_ns = sosie_clock_ns(CLOCK_REALTIME);
	int rc = cutting_init(&c, t, v, err);

	if (rc == 0)
		rc = t->pause.kind != SOSIE_PAUSE_NONE ? cut_held(&c, err) : cut_unheld(&c, err);
	if (rc == 0)
		tracked_stamp(v, begun_ns);
	if (rc == 0)
		rc = view_id_make(&v->id, 'r', c.label, err);
	if (rc == 0) {
		rc = name_round(&c, &c.rounds[c.newest], &v->id, err);
		if (rc != 0) /* some may have their final names already */
			reflink_remove(t, &v->id, NULL);
	}
	cutting_fini(&c);
	return rc;
}

/* --- comparing
 * ----------------------------------------------------------------------------------------------------- */

static int compare_volume(const struct tracked *t, unsigned i, struct view_volume *f, struct sosie_err *err)
{
	int old_fd = open(f->base_path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	int new_fd = open(f->path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	int rc;

	if (old_fd < 0 || new_fd < 0)
		rc = volume_error(t, i, errno, "the views of", err);
	else if (t->places[i].btrfs)
		rc = changes_by_items(old_fd, new_fd, f->changes, err);
	else
		rc = changes_by_fiemap(old_fd, new_fd, f->changes, err);
	if (old_fd >= 0)
		close(old_fd);
	if (new_fd >= 0)
		close(new_fd);
	return rc;
}

static int reflink_compare(struct tracked *t, struct sosie_view *v, struct sosie_err *err)
{
	int rc = 0, one;

	for (unsigned i = 0; i < t->count; i++) {
		if (!v->volumes[i].base_path)
			continue;
		one = compare_volume(t, i, &v->volumes[i], rc == 0 ? err : NULL);
		if (one != 0)
			changes_all(v->volumes[i].changes);
		rc = rc == 0 ? one : rc;
	}
	return rc;
}

/* --- what is its own
 * -------------------------------------------------------------------------------------------------------- */

static const struct tracked_ops reflink_tracked = {
        .name = "reflink",
        .letter = 'r',
        .take = reflink_take,
        .compare = reflink_compare,
        .path_in = reflink_path_in,
        .remove = reflink_remove,
        .extents = reflink_extents,
};

/* --- is it possible?
 * --------------------------------------------------------------------------------------------------- */

static const char *filesystem(const char *path)
{
	struct statfs fs;

	if (statfs(path, &fs) != 0)
		return "the filesystem";
	switch ((unsigned long)fs.f_type) {
	case EXT4_SUPER_MAGIC:
		return "ext4";
	case XFS_SUPER_MAGIC:
		return "this XFS";
	case BTRFS_SUPER_MAGIC:
		return "this btrfs";
	case TMPFS_MAGIC:
		return "tmpfs";
	default:
		return "the filesystem";
	}
}

/* Whether a small file can be cloned there: 0, or why not. */
static int try_clone(int store, const char *prefix)
{
	static const char byte[4096];
	char from[VIEW_NAME_SIZE], to[VIEW_NAME_SIZE];
	int a, b, sys = 0;

	snprintf(from, sizeof(from), "~%sprobe.a", prefix);
	snprintf(to, sizeof(to), "~%sprobe.b", prefix);
	(void)unlinkat(store, from, 0);
	(void)unlinkat(store, to, 0);
	a = openat(store, from, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	b = a < 0 ? -1 : openat(store, to, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (a < 0 || b < 0 || write(a, byte, sizeof(byte)) != (ssize_t)sizeof(byte) ||
	    ioctl(b, FICLONE, a) != 0)
		sys = errno ? errno : EIO;
	if (a >= 0)
		close(a);
	if (b >= 0)
		close(b);
	(void)unlinkat(store, from, 0);
	(void)unlinkat(store, to, 0);
	return sys;
}

/* A store that an earlier volume shares has answered for this one too. */
static bool is_probed(const struct tracked *t, unsigned i)
{
	for (unsigned k = 0; k < i; k++)
		if (t->places[k].dev == t->places[i].dev &&
		    strcmp(t->places[k].store, t->places[i].store) == 0)
			return true;
	return false;
}

static int probe(struct tracked *t, unsigned i, struct sosie_err *err)
{
	const struct place *p = &t->places[i];
	int store, sys, rc;

	if (!p->regular)
		return sosie_err_set(err, SOSIE_EUNSUPPORTED, "volume %s is no regular file",
		                     t->volumes[i].name.s);
	if (is_probed(t, i))
		return 0;
	rc = store_open(p->store, p->btrfs, true, &store, err);
	if (rc != 0)
		return tracked_no_store(rc, err);
	sys = try_clone(store, t->prefix);
	close(store);
	if (sys == 0)
		return 0;
	if (sys == EOPNOTSUPP || sys == EINVAL || sys == ENOTTY)
		return sosie_err_set(err, SOSIE_EUNSUPPORTED, "%s has no reflink",
		                     filesystem(t->volumes[i].path));
	return volume_error(t, i, sys, "a trial clone beside", err);
}

/* What the cuts before needed counts only where this one is of their kind. */
static void least_rounds(struct tracked *t)
{
	if (t->pause.kind != SOSIE_PAUSE_NONE || t->count == 1)
		t->stalls.rounds = 1;
	else if (t->stalls.rounds < 2)
		t->stalls.rounds = 2;
}

int reflink_open(const struct sosie_source_options *o, struct sosie_source **out, struct sosie_err *err)
{
	struct tracked *t = calloc(1, sizeof(*t));
	int rc;

	*out = NULL;
	if (!t)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for the reflink driver");
	rc = tracked_init(t, o, &reflink_tracked, err);
	for (unsigned i = 0; rc == 0 && i < t->count; i++)
		rc = probe(t, i, err);
	if (rc == 0) {
		tracked_use_stalls(t, t->places[0].store);
		least_rounds(t);
		*out = &t->base;
	} else {
		tracked_destroy(&t->base);
	}
	return rc;
}

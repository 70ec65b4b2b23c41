/* SPDX-License-Identifier: MIT */
/*
 * The btrfs driver: all volumes lie in one subvolume, and a cut is one read-only snapshot of it in ".sosie"
 * at its top: one instant for all, whatever their number and extents, durable when the call returns. Changes
 * are the kernel's own difference of two snapshots. Needs CAP_SYS_ADMIN (send).
 *
 * Unchanged is told by what stat said at a cut of this process, as in reflink, and by nothing else. Not by
 * the subvolume's generation: measured, every snapshot of the subvolume, also another group's, raises that by
 * itself, and a write does only when it is committed, up to 30 s later. Not after a restart by the times in
 * the snapshot: how long its flush and commit took is not known then, so that a write may hide behind an
 * older ctime.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/btrfs.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/source/views.h"

static void snapshot_name(const struct tracked *t, const struct sosie_view_id *id, char dst[VIEW_NAME_SIZE])
{
	snprintf(dst, VIEW_NAME_SIZE, "%s%s", t->prefix, id->s);
}

static void snapshot_path(const struct tracked *t, const struct sosie_view_id *id, char *dst, size_t size)
{
	char name[VIEW_NAME_SIZE], store[4096];

	snapshot_name(t, id, name);
	if (!place_top_store(&t->places[0], store, sizeof(store)))
		store[0] = '\0';
	snprintf(dst, size, "%s/%s", store, name);
}

static void btrfs_path_in(const struct tracked *t, const struct sosie_view_id *id, unsigned i, char *dst,
                          size_t size)
{
	size_t len;

	snapshot_path(t, id, dst, size);
	len = strlen(dst);
	snprintf(dst + len, size - len, "/%s", t->places[i].inside);
}

static int open_top(const struct tracked *t, int *fd, struct sosie_err *err)
{
	int rc;

	*fd = open(t->places[0].top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (*fd >= 0)
		return 0;
	rc = sosie_err_sys(err, errno, "the volumes' subvolume cannot be opened");
	sosie_err_where(err, "%s", t->places[0].top);
	return rc;
}

static int open_store(const struct tracked *t, bool create, int *fd, struct sosie_err *err)
{
	char path[4096];

	*fd = -1;
	if (!place_top_store(&t->places[0], path, sizeof(path)))
		return sosie_err_set(err, SOSIE_EUNSUPPORTED, "the top of the subvolume cannot be reached");
	return store_open(path, true, create, fd, err);
}

/* --- a cut
 * ------------------------------------------------------------------------------------------------------ */

/*
 * Two things before the snapshot. What is dirty in the page cache goes to disk before writers are held, not
 * meanwhile. And a file whose ctime may be trusted afterwards (tracked_stamp) gets fdatasync, which passes
 * every writer that holds the file's lock: a write whose ctime is older than its beginning has been handed to
 * the disk when it returns, and the snapshot waits for that. (ctime is set before the data moves, and a
 * snapshot does not take the file's lock.) A file that is being written has a young ctime, is not trusted,
 * and is spared it: the log of thousands of new extents took a third of a second, for nothing.
 */
static void flush_volumes(const struct tracked *t, int64_t begun_ns)
{
	for (unsigned i = 0; i < t->count; i++) {
		int fd = open(t->volumes[i].path, O_RDONLY | O_CLOEXEC);
		struct stamp stamp;

		if (fd < 0)
			continue;
		if (stamp_of(t->volumes[i].path, &stamp) && stamp_is_quiet(&stamp, begun_ns))
			(void)fdatasync(fd);
		else
			flush_before(fd);
		close(fd);
	}
}

static int snapshot_error(const struct tracked *t, int sys, struct sosie_err *err)
{
	int rc = sosie_err_sys(err, sys, "the subvolume of the volumes cannot be snapshotted");

	sosie_err_where(err, "%s", t->places[0].top);
	if (sys == ENOSPC || sys == EDQUOT)
		sosie_err_action(err, "the filesystem is full: free space there; nothing was sent");
	else
		sosie_err_action(err, "source: reflink or scan need no snapshot");
	return rc;
}

/* Writers that are still held are worse than whatever else has failed. */
static int judge(struct tracked *t, struct sosie_view *v, int sys, int rc_let_go,
                 const struct sosie_err *let_go_err, bool passed, struct sosie_err *err)
{
	if (rc_let_go != 0) {
		if (err)
			*err = *let_go_err;
		return rc_let_go;
	}
	if (sys != 0)
		return snapshot_error(t, sys, err);
	return passed ? tracked_too_late(v, err) : 0;
}

static int hold_and_snapshot(struct tracked *t, struct sosie_view *v, int top, int store,
                             struct sosie_err *err)
{
	struct btrfs_ioctl_vol_args_v2 args = {.fd = top, .flags = BTRFS_SUBVOL_RDONLY};
	struct sosie_err let_go_err = {0};
	bool passed = false;
	int64_t begun;
	int rc, sys = 0;

	snapshot_name(t, &v->id, args.name);
	rc = pause_hold(&t->pause, err);
	if (rc != 0)
		return rc;
	begun = sosie_clock_ns(CLOCK_MONOTONIC);
	if (ioctl(store, BTRFS_IOC_SNAP_CREATE_V2, &args) != 0)
		sys = errno;
	v->cloning_us = v->held_us = (sosie_clock_ns(CLOCK_MONOTONIC) - begun) / 1000;
	rc = pause_let_go(&t->pause, &passed, &let_go_err);
	if (t->pause.kind != SOSIE_PAUSE_NONE && t->pause.ours)
		v->held_us = (sosie_clock_ns(CLOCK_MONOTONIC) - t->pause.begun_ns) / 1000;
	rc = judge(t, v, sys, rc, &let_go_err, passed, err);
	if (rc != 0 && sys == 0)
		store_remove(store, args.name, NULL);
	return rc;
}

static int btrfs_take(struct tracked *t, struct sosie_view *v, struct sosie_err *err)
{
	int64_t begun_ns = sosie_clock_ns(CLOCK_REALTIME);
	int top, store, rc = open_top(t, &top, err);

	if (rc != 0)
		return rc;
	rc = open_store(t, true, &store, err);
	if (rc == 0)
		rc = view_id_make(&v->id, 'b',
		                  t->pause.kind == SOSIE_PAUSE_COMMANDS ? SOSIE_CONSISTENCY_APP
		                                                        : SOSIE_CONSISTENCY_CRASH,
		                  err);
	if (rc == 0) {
		flush_volumes(t, begun_ns);
		rc = hold_and_snapshot(t, v, top, store, err);
	}
	if (rc == 0) {
		tracked_stamp(v, begun_ns);
		(void)cleaner_after_cut(&t->cleaner, top, sosie_clock_ns(CLOCK_MONOTONIC));
	}
	if (store >= 0)
		close(store);
	close(top);
	return rc;
}

/* --- comparing
 * ----------------------------------------------------------------------------------------------------- */

static int open_snapshot(const struct tracked *t, const struct sosie_view_id *id, int *fd,
                         struct sosie_err *err)
{
	char path[4096 + VIEW_NAME_SIZE];

	snapshot_path(t, id, path, sizeof(path));
	*fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return *fd >= 0 ? 0 : sosie_err_sys(err, errno, "snapshot %s", id->s);
}

static int compare_snapshots(struct tracked *t, struct sosie_view *v, int old_fd, int new_fd,
                             struct sosie_err *err)
{
	struct changes_file *files = calloc(t->count, sizeof(*files));
	unsigned n = 0;
	int rc;

	if (!files)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory to compare snapshots");
	for (unsigned i = 0; i < t->count; i++)
		if (v->volumes[i].base_path)
			files[n++] = (struct changes_file){t->places[i].inside, v->volumes[i].changes};
	rc = changes_by_send(old_fd, new_fd, files, n, err);
	free(files);
	return rc;
}

static int open_and_compare(struct tracked *t, struct sosie_view *v, struct sosie_err *err)
{
	int old_fd, new_fd, rc = open_snapshot(t, &v->base, &old_fd, err);

	if (rc != 0)
		return rc;
	rc = open_snapshot(t, &v->id, &new_fd, err);
	if (rc == 0) {
		rc = compare_snapshots(t, v, old_fd, new_fd, err);
		close(new_fd);
	}
	close(old_fd);
	return rc;
}

static int btrfs_compare(struct tracked *t, struct sosie_view *v, struct sosie_err *err)
{
	int rc = open_and_compare(t, v, err);

	for (unsigned i = 0; rc != 0 && i < t->count; i++)
		changes_all(v->volumes[i].changes);
	return rc;
}

static int btrfs_remove(const struct tracked *t, const struct sosie_view_id *id, struct sosie_err *err)
{
	char name[VIEW_NAME_SIZE], store[4096];

	snapshot_name(t, id, name);
	return place_top_store(&t->places[0], store, sizeof(store)) ? store_remove_at(store, true, name, err)
	                                                            : 0;
}

/* --- what is its own
 * ------------------------------------------------------------------------------------------------------- */

static const struct tracked_ops btrfs_tracked = {
        .name = "btrfs",
        .letter = 'b',
        .take = btrfs_take,
        .compare = btrfs_compare,
        .path_in = btrfs_path_in,
        .remove = btrfs_remove,
};

/* --- is it possible?
 * ---------------------------------------------------------------------------------------------------- */

/* send needs CAP_SYS_ADMIN (capabilities(7)). */
static bool may_send(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {{0}, {0}};

	return syscall(SYS_capget, &header, data) == 0 && (data[0].effective & 1u << CAP_SYS_ADMIN) != 0;
}

static int check_places(const struct tracked *t, struct sosie_err *err)
{
	for (unsigned i = 0; i < t->count; i++) {
		const struct place *p = &t->places[i];

		if (!p->btrfs)
			return sosie_err_set(err, SOSIE_EUNSUPPORTED, "volume %s is no file on btrfs",
			                     t->volumes[i].name.s);
		if (p->dev != t->places[0].dev || strcmp(p->top, t->places[0].top) != 0)
			return sosie_err_set(err, SOSIE_EUNSUPPORTED,
			                     "volumes %s and %s lie in different subvolumes",
			                     t->volumes[0].name.s, t->volumes[i].name.s);
		if (!p->top[0])
			return sosie_err_set(err, SOSIE_EUNSUPPORTED,
			                     "the top of volume %s's subvolume is not mounted",
			                     t->volumes[i].name.s);
	}
	if (!may_send())
		return sosie_err_set(err, SOSIE_EUNSUPPORTED, "btrfs snapshots are compared by root only");
	return 0;
}

static int subvolume_info(const char *path, struct btrfs_ioctl_get_subvol_info_args *info)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), rc;

	memset(info, 0, sizeof(*info));
	if (fd < 0)
		return -1;
	rc = ioctl(fd, BTRFS_IOC_GET_SUBVOL_INFO, info); /* measured: 1 where nothing follows in the tree */
	close(fd);
	return rc < 0 ? -1 : 0;
}

/* The folder of snapshots can be made, and the kernel answers. */
static int check_store(const struct tracked *t, char *reason, size_t size, struct sosie_err *err)
{
	struct btrfs_ioctl_get_subvol_info_args info;
	int store, rc = open_store(t, true, &store, err);

	if (rc != 0)
		return tracked_no_store(rc, err);
	close(store);
	if (subvolume_info(t->places[0].top, &info) != 0)
		return sosie_err_set(err, SOSIE_EUNSUPPORTED, "the kernel does not describe subvolumes");
	snprintf(reason, size, "btrfs: all volumes lie in subvolume %llu", (unsigned long long)info.treeid);
	return 0;
}

int btrfs_open(const struct sosie_source_options *o, struct sosie_source **out, char *reason, size_t size,
               struct sosie_err *err)
{
	struct tracked *t = calloc(1, sizeof(*t));
	char store[4096];
	int rc;

	*out = NULL;
	if (!t)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for the btrfs driver");
	rc = tracked_init(t, o, &btrfs_tracked, err);
	if (rc == 0)
		rc = check_places(t, err);
	if (rc == 0)
		rc = check_store(t, reason, size, err);
	if (rc == 0) {
		if (place_top_store(&t->places[0], store, sizeof(store)))
			tracked_use_stalls(t, store);
		*out = &t->base;
	} else {
		tracked_destroy(&t->base);
	}
	return rc;
}

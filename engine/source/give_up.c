/* SPDX-License-Identifier: MIT */
/*
 * Space that views hold, given back at once, while cycles may still be reading from them or wait for a
 * standby with files open: unlinking alone would leave the blocks to those. So clones lose their name and are
 * then emptied; snapshots get another name, are made writable, the volumes in them emptied, and then go.
 * Touches no source object.
 */
#include <fcntl.h>
#include <linux/btrfs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/source/places.h"

/* A clone is of mode 0400: its owner may change that where root's rights are not there. */
static void empty_file(int fd, const char *name, bool unlink_it)
{
	int file = openat(fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC), writable;

	if (file < 0)
		return;
	(void)fchmod(file, 0600);
	writable = openat(fd, name, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
	close(file);
	if (unlink_it)
		(void)unlinkat(fd, name, 0);
	if (writable < 0)
		return;
	(void)ftruncate(writable, 0);
	close(writable);
}

static void empty_snapshot(int fd, const char *name, const struct place *p)
{
	char other[VIEW_NAME_SIZE + 1];
	uint64_t flags = 0;
	int top;

	snprintf(other, sizeof(other), "%s%.*s", name[0] == '~' ? "" : "~", VIEW_NAME_SIZE - 1, name);
	if (name[0] != '~' && renameat(fd, name, fd, other) != 0)
		return;
	top = openat(fd, other, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (top < 0)
		return;
	if (ioctl(top, BTRFS_IOC_SUBVOL_SETFLAGS, &flags) == 0)
		empty_file(top, p->inside, false);
	close(top);
}

static int empty_one(const struct place_walk *w, const struct place *p, int fd, const char *name,
                     const struct sosie_view_id *id, struct sosie_err *err)
{
	struct stat st;

	(void)w;
	(void)id;
	(void)err;
	if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return 0;
	if (S_ISDIR(st.st_mode))
		empty_snapshot(fd, name, p);
	else if (S_ISREG(st.st_mode))
		empty_file(fd, name, true);
	return 0;
}

/* btrfs gives blocks back when it commits; its cleaner is woken by that too. */
static void commit_btrfs(const struct place *p)
{
	int fd = store_parent_open(p->store);

	if (fd < 0)
		return;
	(void)ioctl(fd, BTRFS_IOC_SYNC, NULL);
	close(fd);
}

/* False: no file, or not there, and then no folder of views beside it is known. */
static bool find(const struct sosie_source_options *o, unsigned i, struct place *out)
{
	return place_find(&o->volumes[i], out, NULL) == 0 && out->regular;
}

int sosie_source_give_up(const struct sosie_source_options *o, struct sosie_err *err)
{
	const struct place_walk empty = {.each = empty_one};
	char prefix[PREFIX_SIZE];
	struct place place;
	int one, rc = prefix_make(prefix, o, err);

	if (rc != 0)
		return rc;
	for (unsigned i = 0; i < o->count; i++)
		if (find(o, i, &place))
			(void)place_walk(&place, prefix, &empty, NULL);
	for (unsigned i = 0; i < o->count; i++) {
		one = find(o, i, &place) ? place_sweep(&place, prefix, NULL, 0, rc == 0 ? err : NULL) : 0;
		rc = rc == 0 ? one : rc;
	}
	for (unsigned i = 0; i < o->count; i++)
		if (find(o, i, &place) && place.btrfs)
			commit_btrfs(&place);
	return rc;
}

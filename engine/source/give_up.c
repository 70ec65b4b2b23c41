/* SPDX-License-Identifier: MIT */
/*
 * Space that views hold, given back at once, while cycles may still be reading from them or wait for a
 * standby with files open: unlinking alone would leave the blocks to those. So clones lose their name and are
 * then emptied; snapshots get another name, are made writable, the volumes in them emptied, and then go.
 * Touches no source object.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/btrfs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/source/places.h"

struct give_up {
	const struct place *place;
	const char *prefix;
	bool done; /* something held space */
};

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

static void empty_snapshot(int fd, const char *name, const struct give_up *g)
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
		empty_file(top, g->place->inside, false);
	close(top);
}

/* Names of views and of what is half made; what cuts have cost stays. */
static bool is_ours(const char *name, const char *prefix)
{
	size_t len = strlen(name), end = strlen(".stalls");

	name += name[0] == '~';
	return strncmp(name, prefix, strlen(prefix)) == 0 &&
	       !(len > end && strcmp(name + strlen(name) - end, ".stalls") == 0);
}

static void empty_folder(const char *path, struct give_up *g)
{
	struct dirent *entry;
	struct stat st;
	DIR *dir;
	int fd;

	if (store_open(path, g->place->btrfs, false, &fd, NULL) != 0)
		return;
	dir = fdopendir(fd);
	if (!dir) {
		close(fd);
		return;
	}
	while ((entry = readdir(dir)) != NULL) {
		if (!is_ours(entry->d_name, g->prefix) ||
		    fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
			continue;
		g->done = true;
		if (S_ISDIR(st.st_mode))
			empty_snapshot(fd, entry->d_name, g);
		else if (S_ISREG(st.st_mode))
			empty_file(fd, entry->d_name, true);
	}
	closedir(dir);
}

/* btrfs gives blocks back when it commits; its cleaner is woken by that too. */
static void commit_btrfs(const struct place *p)
{
	char parent[4096];
	int fd;

	snprintf(parent, sizeof(parent), "%.*s", (int)(strlen(p->store) - strlen("/" STORE_NAME)), p->store);
	fd = open(parent[0] ? parent : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return;
	(void)ioctl(fd, BTRFS_IOC_SYNC, NULL);
	close(fd);
}

static void empty_place(struct give_up *g)
{
	char top[4096];

	empty_folder(g->place->store, g);
	if (place_top_store(g->place, top, sizeof(top)) && strcmp(top, g->place->store) != 0)
		empty_folder(top, g);
}

int sosie_source_give_up(const struct sosie_source_options *o, struct sosie_err *err)
{
	char prefix[PREFIX_SIZE];
	bool done = false;
	int rc = prefix_make(prefix, o, err);

	for (unsigned round = 0; rc == 0 && round < 2; round++)
		for (unsigned i = 0; rc == 0 && i < o->count; i++) {
			struct place place;
			struct give_up g = {.place = &place, .prefix = prefix};

			if (place_find(&o->volumes[i], &place, NULL) != 0 || !place.regular)
				continue;
			if (round == 0)
				empty_place(&g);
			else
				rc = place_sweep(&place, prefix, NULL, 0, err);
			done |= g.done;
			if (round == 1 && done && place.btrfs && i + 1 == o->count)
				commit_btrfs(&place);
		}
	return rc;
}

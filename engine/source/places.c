/* SPDX-License-Identifier: MIT */
/* The folders .sosie: finding, making and clearing them. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/btrfs.h>
#include <linux/magic.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "engine/source/places.h"
#include "sosie/bytes.h"

#define SUBVOLUME_INODE 256u /* of the top folder of each subvolume (BTRFS_FIRST_FREE_OBJECTID) */

#define MAKE_TRIES 5u /* of a folder that others make and renew too */
#define HALF_MADE_LOOKS 20u
#define HALF_MADE_LOOK_MS 10

/* --- where -------------------------------------------------------------------------------------------------
 */

static bool on_btrfs(const char *path)
{
	struct statfs fs;

	return statfs(path, &fs) == 0 && (unsigned long)fs.f_type == BTRFS_SUPER_MAGIC;
}

/* Upwards from a folder of the subvolume to its top; another filesystem first means that it is not there. */
static void find_top(struct place *p, const char *real)
{
	char path[4096];
	struct stat st;

	snprintf(path, sizeof(path), "%s", real);
	for (;;) {
		char *slash = strrchr(path, '/');

		if (!slash || !path[0])
			return;
		*slash = '\0';
		if (stat(path[0] ? path : "/", &st) != 0 || st.st_dev != p->dev)
			return;
		if (st.st_ino == SUBVOLUME_INODE)
			break;
	}
	snprintf(p->top, sizeof(p->top), "%s", path[0] ? path : "/");
	snprintf(p->inside, sizeof(p->inside), "%s", real + strlen(path) + 1);
}

int place_find(const struct sosie_volume *v, struct place *out, struct sosie_err *err)
{
	char real[PATH_MAX];
	struct stat st;
	char *slash;

	memset(out, 0, sizeof(*out));
	if (!realpath(v->path, real) || stat(real, &st) != 0) {
		sosie_err_sys(err, errno, "volume %s", v->name.s);
		sosie_err_where(err, "%s", v->path);
		return sosie_err_action(err, "is it mounted, spelled right?");
	}
	out->dev = st.st_dev;
	out->regular = S_ISREG(st.st_mode);
	if (!out->regular)
		return 0;
	slash = strrchr(real, '/');
	if ((size_t)(slash - real) + sizeof("/" STORE_NAME) > sizeof(out->store))
		return sosie_err_set(err, SOSIE_ECONFIG, "the path of volume %s is too long", v->name.s);
	snprintf(out->store, sizeof(out->store), "%.*s/" STORE_NAME, (int)(slash - real), real);
	out->btrfs = on_btrfs(real);
	if (out->btrfs)
		find_top(out, real);
	return 0;
}

bool place_top_store(const struct place *p, char *dst, size_t size)
{
	int n = snprintf(dst, size, "%s/" STORE_NAME, strcmp(p->top, "/") == 0 ? "" : p->top);

	return p->top[0] && n > 0 && (size_t)n < size;
}

/* --- names ------------------------------------------------------------------------------------------------
 */

int prefix_make(char dst[PREFIX_SIZE], const struct sosie_source_options *o, struct sosie_err *err)
{
	struct sosie_name checked;
	uint8_t tag[4];
	int rc = sosie_name_set(&checked, SOSIE_NAME_TENANT, o->tenant, err);

	if (rc == 0)
		rc = sosie_name_set(&checked, SOSIE_NAME_GROUP, o->group, err);
	if (rc == 0 && !sosie_unhex(tag, sizeof(tag), o->tag))
		rc = sosie_err_set(err, SOSIE_EINTERNAL, "the tag of views is not 8 hex digits");
	if (rc == 0)
		snprintf(dst, PREFIX_SIZE, "%s.%s.%s.", o->tenant, o->group, o->tag);
	return rc;
}

int view_id_make(struct sosie_view_id *id, char letter, enum sosie_consistency label, struct sosie_err *err)
{
	uint8_t random[7];

	if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
		return sosie_err_sys(err, errno, "no random numbers for the name of a view");
	id->s[0] = letter;
	id->s[1] = (char)('0' + (int)label);
	sosie_hex(id->s + 2, random, sizeof(random));
	return 0;
}

bool view_id_valid(const struct sosie_view_id *id, char letter)
{
	static const char hex[] = "0123456789abcdef";

	if (letter ? id->s[0] != letter : id->s[0] != 'r' && id->s[0] != 'b')
		return false;
	if (id->s[1] < '0' || id->s[1] > '2')
		return false;
	return strspn(id->s + 1, hex) == SOSIE_VIEW_ID - 2 && id->s[SOSIE_VIEW_ID - 1] == '\0';
}

enum sosie_consistency view_id_label(const struct sosie_view_id *id)
{
	return (enum sosie_consistency)(id->s[1] - '0');
}

/* The view that a name in .sosie belongs to: false when it is none of ours. */
static bool name_view(const char *name, const char *prefix, struct sosie_view_id *id)
{
	size_t len = strlen(prefix);

	if (strncmp(name, prefix, len) != 0 || strlen(name + len) < SOSIE_VIEW_ID - 1)
		return false;
	memcpy(id->s, name + len, SOSIE_VIEW_ID - 1);
	id->s[SOSIE_VIEW_ID - 1] = '\0';
	name += len + SOSIE_VIEW_ID - 1;
	return view_id_valid(id, 0) && (*name == '\0' || *name == '.');
}

static bool name_temporary(const char *name, const char *prefix)
{
	return name[0] == '~' && strncmp(name + 1, prefix, strlen(prefix)) == 0;
}

/* --- the folder
 * --------------------------------------------------------------------------------------------- */

static int make_subvolume(int parent)
{
	struct btrfs_ioctl_vol_args args = {.name = STORE_NAME};

	return ioctl(parent, BTRFS_IOC_SUBVOL_CREATE, &args);
}

/* What is there under that name must be ours alone: whoever owns it could swap what we read. A subvolume is
 * open to all for the moment between its making and its maker's chmod: looked at again for a while. */
static int check_store(int fd, const char *path, struct sosie_err *err)
{
	struct stat st;

	for (unsigned looks = 0;; looks++) {
		if (fstat(fd, &st) != 0)
			return sosie_err_sys(err, errno, "the folder of views");
		if (st.st_uid == geteuid() && (st.st_mode & 077) == 0)
			return 0;
		if (st.st_uid != geteuid() || st.st_ino != SUBVOLUME_INODE || looks == HALF_MADE_LOOKS)
			break;
		poll(NULL, 0, HALF_MADE_LOOK_MS);
	}
	sosie_err_set(err, SOSIE_EDENIED, "the folder of views is not ours alone (owner %u, mode %04o)",
	              (unsigned)st.st_uid, (unsigned)st.st_mode & 07777);
	sosie_err_where(err, "%s", path);
	return sosie_err_action(err, "remove it, or give it to the user that runs this, mode 0700");
}

/* Another process may make it at the same time: that is fine too, and so is one that has gone again. */
static int make_store(const char *path, bool btrfs, struct sosie_err *err)
{
	char parent[4096];
	int fd, own, rc, sys = 0;

	snprintf(parent, sizeof(parent), "%.*s", (int)(strlen(path) - strlen("/" STORE_NAME)), path);
	fd = open(parent[0] ? parent : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return sosie_err_sys(err, errno, "the folder of the volume");
	rc = btrfs ? make_subvolume(fd) : -1;
	if (rc != 0)
		rc = mkdirat(fd, STORE_NAME, 0700);
	sys = rc != 0 ? errno : 0;
	if (sys == 0) {
		own = openat(fd, STORE_NAME, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (own < 0 && errno == ENOENT) {
			close(fd);
			return 0;
		}
		if (own < 0 || fchmod(own, 0700) != 0 || fsync(own) != 0 || fsync(fd) != 0)
			sys = errno;
		if (own >= 0)
			close(own);
	}
	close(fd);
	if (sys == 0 || sys == EEXIST)
		return 0;
	sosie_err_sys(err, sys, "the folder of views cannot be made");
	sosie_err_where(err, "%s", path);
	return sosie_err_action(err, "it must be writable for the user that runs this");
}

/* An empty ordinary folder on btrfs becomes a subvolume. */
static void renew_empty(const char *path, bool btrfs)
{
	struct stat st;

	if (btrfs && lstat(path, &st) == 0 && S_ISDIR(st.st_mode) && st.st_ino != SUBVOLUME_INODE)
		(void)rmdir(path);
}

int store_open(const char *path, bool btrfs, bool create, int *fd, struct sosie_err *err)
{
	int rc = 0;

	if (create)
		renew_empty(path, btrfs);
	*fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	for (unsigned tries = 0; *fd < 0 && errno == ENOENT && create && tries < MAKE_TRIES; tries++) {
		rc = make_store(path, btrfs, err);
		if (rc != 0)
			return rc;
		*fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	}
	if (*fd < 0) {
		sosie_err_sys(err, errno, "the folder of views cannot be opened");
		return sosie_err_where(err, "%s", path);
	}
	rc = check_store(*fd, path, err);
	if (rc != 0) {
		close(*fd);
		*fd = -1;
	}
	return rc;
}

int store_remove(int fd, const char *name, struct sosie_err *err)
{
	struct btrfs_ioctl_vol_args args = {0};
	struct stat st;
	int rc;

	if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return errno == ENOENT ? 0 : sosie_err_sys(err, errno, "view %s", name);
	if (S_ISDIR(st.st_mode)) {
		snprintf(args.name, sizeof(args.name), "%s", name);
		rc = ioctl(fd, BTRFS_IOC_SNAP_DESTROY, &args);
	} else {
		rc = unlinkat(fd, name, 0);
	}
	/* On a filesystem that nobody can write to it holds nothing back either. */
	return rc == 0 || errno == ENOENT || errno == EROFS
	               ? 0
	               : sosie_err_sys(err, errno, "view %s cannot be removed", name);
}

/* --- clearing
 * ------------------------------------------------------------------------------------------------ */

/* only: what belongs to this view goes; NULL: what belongs to none of ids. */
struct sweep {
	const char *prefix;
	const struct sosie_view_id *only, *ids;
	unsigned count;
};

static bool goes(const struct sweep *w, const char *name)
{
	struct sosie_view_id id;

	if (name_temporary(name, w->prefix))
		return !w->only;
	if (!name_view(name, w->prefix, &id))
		return false;
	if (w->only)
		return strcmp(id.s, w->only->s) == 0;
	for (unsigned i = 0; i < w->count; i++)
		if (strncmp(id.s, w->ids[i].s, SOSIE_VIEW_ID) == 0)
			return false;
	return true;
}

/* Goes on behind what cannot be removed; the first failure is told. */
static int sweep_folder(const char *path, bool btrfs, const struct sweep *w, struct sosie_err *err)
{
	struct dirent *entry;
	DIR *dir;
	int fd, one, rc;

	rc = store_open(path, btrfs, false, &fd, err);
	if (rc != 0) /* a folder that is not ours has no views of ours */
		return rc == -SOSIE_ENOTFOUND || rc == -SOSIE_EDENIED ? 0 : rc;
	dir = fdopendir(fd);
	if (!dir) {
		close(fd);
		return sosie_err_sys(err, errno, "the folder of views cannot be listed");
	}
	while ((entry = readdir(dir)) != NULL) {
		if (!goes(w, entry->d_name))
			continue;
		one = store_remove(dirfd(dir), entry->d_name, rc == 0 ? err : NULL);
		if (rc == 0 && one != 0)
			rc = sosie_err_where(err, "%s", path);
	}
	closedir(dir);
	return rc;
}

static int sweep_place(const struct place *p, const struct sweep *w, struct sosie_err *err)
{
	char top[4096];
	int rc;

	if (!p->regular)
		return 0;
	rc = sweep_folder(p->store, p->btrfs, w, err);
	if (rc == 0 && place_top_store(p, top, sizeof(top)) && strcmp(top, p->store) != 0)
		rc = sweep_folder(top, p->btrfs, w, err);
	return rc;
}

int place_sweep(const struct place *p, const char *prefix, const struct sosie_view_id *ids, unsigned count,
                struct sosie_err *err)
{
	const struct sweep w = {.prefix = prefix, .ids = ids, .count = count};

	return sweep_place(p, &w, err);
}

int place_remove(const struct place *p, const char *prefix, const struct sosie_view_id *id,
                 struct sosie_err *err)
{
	const struct sweep w = {.prefix = prefix, .only = id};

	return id->s[0] ? sweep_place(p, &w, err) : 0;
}

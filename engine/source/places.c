/* SPDX-License-Identifier: MIT */
/* The folders .sosie: finding, making and clearing them. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/btrfs.h>
#include <linux/magic.h>
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
#define HALF_MADE_NAME STORE_NAME "~"

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
	int rc;

	memset(out, 0, sizeof(*out));
	if (!realpath(v->path, real) || stat(real, &st) != 0) {
		rc = sosie_err_sys(err, errno, "volume %s", v->name.s);
		sosie_err_where(err, "%s", v->path);
		sosie_err_action(err, "is it mounted, spelled right?");
		return rc;
	}
	out->dev = st.st_dev;
	out->regular = S_ISREG(st.st_mode);
	if (!out->regular)
		return 0;
	slash = strrchr(real, '/');
	if ((size_t)(slash - real) + sizeof("/" STORE_NAME) > sizeof(out->store)) {
		sosie_err_set(err, SOSIE_ECONFIG, "the path of volume %s is too long", v->name.s);
		sosie_err_where(err, "%s", v->path);
		sosie_err_action(err, "its folder's path may have %zu bytes",
		                 sizeof(out->store) - sizeof("/" STORE_NAME));
		return -SOSIE_ECONFIG;
	}
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

/* What is there under that name must be ours alone: whoever owns it could swap what we read. */
static int check_store(int fd, const char *path, struct sosie_err *err)
{
	struct stat st;
	int rc;

	if (fstat(fd, &st) != 0) {
		rc = sosie_err_sys(err, errno, "the folder of views");
		sosie_err_where(err, "%s", path);
		return rc;
	}
	if (st.st_uid == geteuid() && (st.st_mode & 077) == 0)
		return 0;
	sosie_err_set(err, SOSIE_EDENIED, "the folder of views is not ours alone (owner %u, mode %04o)",
	              (unsigned)st.st_uid, (unsigned)st.st_mode & 07777);
	sosie_err_where(err, "%s", path);
	sosie_err_action(err, "remove it, or give it to the user that runs this, mode 0700");
	return -SOSIE_EDENIED;
}

int store_parent_open(const char *store)
{
	char parent[4096];

	snprintf(parent, sizeof(parent), "%.*s", (int)(strlen(store) - strlen("/" STORE_NAME)), store);
	return open(parent[0] ? parent : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static int lock_down(int fd)
{
	struct stat st;

	if (fstat(fd, &st) != 0)
		return errno;
	if (st.st_uid != geteuid())
		return EPERM;
	return fchmod(fd, 0700) == 0 && fsync(fd) == 0 ? 0 : errno;
}

/* The kernel makes a subvolume open to all by the umask, so it gets its name only once it is ours alone. The
 * temporary name is one for all who make it at the same time: whoever is first names it, and one that was
 * left half made is used by the next. Returns an errno; EOPNOTSUPP: an ordinary folder must do. */
static int make_subvolume(int parent)
{
	struct btrfs_ioctl_vol_args args = {.name = HALF_MADE_NAME};
	int fd, sys;

	if (ioctl(parent, BTRFS_IOC_SUBVOL_CREATE, &args) != 0 && errno != EEXIST)
		return EOPNOTSUPP;
	fd = openat(parent, HALF_MADE_NAME, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : errno;
	sys = lock_down(fd);
	close(fd);
	if (sys == 0 && renameat2(parent, HALF_MADE_NAME, parent, STORE_NAME, RENAME_NOREPLACE) != 0)
		sys = errno;
	if (sys == EEXIST)
		(void)unlinkat(parent, HALF_MADE_NAME, AT_REMOVEDIR);
	return sys == EEXIST || sys == ENOENT ? 0 : sys;
}

static int make_folder(int parent)
{
	return mkdirat(parent, STORE_NAME, 0700) == 0 || errno == EEXIST ? 0 : errno;
}

/* Another process may make it at the same time: that is fine too, and so is one that has gone again. */
static int make_store(const char *path, bool btrfs, struct sosie_err *err)
{
	int fd = store_parent_open(path), rc, sys;

	sys = fd < 0 ? errno : btrfs ? make_subvolume(fd) : EOPNOTSUPP;
	if (sys == EOPNOTSUPP)
		sys = make_folder(fd);
	if (sys == 0 && fsync(fd) != 0)
		sys = errno;
	if (fd >= 0)
		close(fd);
	if (sys == 0)
		return 0;
	rc = sosie_err_sys(err, sys, "the folder of views cannot be made");
	sosie_err_where(err, "%s", path);
	sosie_err_action(err, "the folder of the volume must be writable for the user that runs this");
	return rc;
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
		rc = sosie_err_sys(err, errno, "the folder of views cannot be opened");
		sosie_err_where(err, "%s", path);
		sosie_err_action(err, "it must be a folder of the user that runs this");
		return rc;
	}
	rc = check_store(*fd, path, err);
	if (rc != 0) {
		close(*fd);
		*fd = -1;
	}
	return rc;
}

static int remove_failed(int fd, const char *name, int sys, struct sosie_err *err)
{
	char link[64], path[PATH_MAX];
	ssize_t len;
	int rc = sosie_err_sys(err, sys, "view %s cannot be removed", name);

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	len = readlink(link, path, sizeof(path));
	if (len > 0)
		sosie_err_where(err, "%.*s", (int)len, path);
	sosie_err_action(
	        err,
	        "it holds back space: remove it by hand (btrfs subvolume delete, where it is a snapshot)");
	return rc;
}

int store_remove(int fd, const char *name, struct sosie_err *err)
{
	struct btrfs_ioctl_vol_args args = {0};
	struct stat st;
	int rc;

	if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return errno == ENOENT ? 0 : remove_failed(fd, name, errno, err);
	if (S_ISDIR(st.st_mode)) {
		snprintf(args.name, sizeof(args.name), "%s", name);
		rc = ioctl(fd, BTRFS_IOC_SNAP_DESTROY, &args);
	} else {
		rc = unlinkat(fd, name, 0);
	}
	/* On a filesystem that nobody can write to it holds nothing back either. */
	return rc == 0 || errno == ENOENT || errno == EROFS ? 0 : remove_failed(fd, name, errno, err);
}

/* --- clearing
 * ------------------------------------------------------------------------------------------------ */

/* A folder that is not there, or not ours, has no views of ours: *fd is -1 then. */
static int open_existing(const char *path, bool btrfs, int *fd, struct sosie_err *err)
{
	struct sosie_err why = {0};
	int rc = store_open(path, btrfs, false, fd, &why);

	if (rc == -SOSIE_ENOTFOUND || rc == -SOSIE_EDENIED)
		return 0;
	if (rc != 0 && err)
		*err = why;
	return rc;
}

int store_remove_at(const char *store, bool btrfs, const char *name, struct sosie_err *err)
{
	int fd, rc = open_existing(store, btrfs, &fd, err);

	if (fd < 0)
		return rc;
	rc = store_remove(fd, name, err);
	close(fd);
	return rc;
}

static int open_list(const char *path, bool btrfs, DIR **out, struct sosie_err *err)
{
	int fd, rc = open_existing(path, btrfs, &fd, err);

	*out = NULL;
	if (fd < 0)
		return rc;
	*out = fdopendir(fd);
	if (*out)
		return 0;
	close(fd);
	rc = sosie_err_sys(err, errno, "the folder of views cannot be listed");
	sosie_err_where(err, "%s", path);
	sosie_err_action(err, "views that are left in it hold back space");
	return rc;
}

static int walk_folder(const char *path, const struct place *p, const char *prefix,
                       const struct place_walk *w, struct sosie_err *err)
{
	struct sosie_view_id id;
	struct dirent *entry;
	DIR *dir;
	int one, rc = open_list(path, p->btrfs, &dir, err);

	while (dir && (entry = readdir(dir)) != NULL) {
		bool temporary = name_temporary(entry->d_name, prefix);

		if (!temporary && !name_view(entry->d_name, prefix, &id))
			continue;
		one = w->each(w, p, dirfd(dir), entry->d_name, temporary ? NULL : &id, rc == 0 ? err : NULL);
		rc = rc == 0 ? one : rc;
	}
	if (dir)
		closedir(dir);
	return rc;
}

int place_walk(const struct place *p, const char *prefix, const struct place_walk *w, struct sosie_err *err)
{
	char top[4096];
	int rc, one = 0;

	if (!p->regular)
		return 0;
	rc = walk_folder(p->store, p, prefix, w, err);
	if (place_top_store(p, top, sizeof(top)) && strcmp(top, p->store) != 0)
		one = walk_folder(top, p, prefix, w, rc == 0 ? err : NULL);
	return rc == 0 ? one : rc;
}

/* only: what belongs to this view goes; NULL: what belongs to none of ids. */
struct sweep {
	struct place_walk walk;
	const struct sosie_view_id *only, *ids;
	unsigned count;
};

static bool goes(const struct sweep *w, const struct sosie_view_id *id)
{
	if (!id)
		return !w->only;
	if (w->only)
		return strcmp(id->s, w->only->s) == 0;
	for (unsigned i = 0; i < w->count; i++)
		if (strncmp(id->s, w->ids[i].s, SOSIE_VIEW_ID) == 0)
			return false;
	return true;
}

static int sweep_one(const struct place_walk *walk, const struct place *p, int fd, const char *name,
                     const struct sosie_view_id *id, struct sosie_err *err)
{
	(void)p;
	return goes((const struct sweep *)walk, id) ? store_remove(fd, name, err) : 0;
}

int place_sweep(const struct place *p, const char *prefix, const struct sosie_view_id *ids, unsigned count,
                struct sosie_err *err)
{
	const struct sweep w = {.walk.each = sweep_one, .ids = ids, .count = count};

	return place_walk(p, prefix, &w.walk, err);
}

int place_remove(const struct place *p, const char *prefix, const struct sosie_view_id *id,
                 struct sosie_err *err)
{
	const struct sweep w = {.walk.each = sweep_one, .only = id};

	return id->s[0] ? place_walk(p, prefix, &w.walk, err) : 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * What each file and folder of the store should be, and one of them compared with it. Whoever may write in a
 * folder can put another thing under a name at any instant, so a name is opened once (O_PATH, no link
 * followed), and everything is asked of, and done to, that descriptor.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "engine/store/door.h"

enum side { ANY, KEEPER, RECEIVERS };
struct rule {
	mode_t kind;
	enum side owner, group;
	mode_t must, may;         /* bits with two users */
	mode_t one_must, one_may; /* bits where receivers run as the keeper */
};
static const struct rule rules[] = {
        [DOOR_STORE] = {S_IFDIR, KEEPER, ANY, 0711, 0755, 0700, 0755},
        [DOOR_STORE_JSON] = {S_IFREG, KEEPER, ANY, 0444, 0644, 0400, 0644},
        [DOOR_OWN_FILE] = {S_IFREG, KEEPER, KEEPER, 0600, 0640, 0600, 0644},
        [DOOR_TENANT] = {S_IFDIR, KEEPER, RECEIVERS, 0750, 0750, 0700, 0755},
        [DOOR_TENANT_JSON] = {S_IFREG, KEEPER, ANY, 0600, 0640, 0600, 0644},
        [DOOR_INBOX] = {S_IFDIR, RECEIVERS, KEEPER, 02770, 02770, 0700, 02770},
        [DOOR_BELL] = {S_IFIFO, KEEPER, RECEIVERS, 0660, 0660, 0600, 0660},
        [DOOR_INBOX_GROUP] = {S_IFDIR, RECEIVERS, KEEPER, 02770, 02770, 0700, 02770},
        [DOOR_INBOX_FILE] = {S_IFREG, RECEIVERS, KEEPER, 0660, 0660, 0600, 0660},
        [DOOR_OUTBOX] = {S_IFDIR, KEEPER, RECEIVERS, 02750, 02750, 0700, 02755},
        [DOOR_OUTBOX_FILE] = {S_IFREG, KEEPER, RECEIVERS, 0640, 0640, 0600, 0644},
        [DOOR_GROUP] = {S_IFDIR, KEEPER, KEEPER, 0700, 0700, 0700, 0750},
        [DOOR_GROUP_DIR] = {S_IFDIR, KEEPER, ANY, 0700, 0755, 0700, 0755},
        [DOOR_GROUP_FILE] = {S_IFREG, KEEPER, ANY, 0400, 0644, 0400, 0644},
        [DOOR_SECRET] = {S_IFREG, KEEPER, ANY, 0400, 0600, 0400, 0600},
        [DOOR_OTHER_DIR] = {S_IFDIR, KEEPER, ANY, 0, 07755, 0, 07755},
        [DOOR_OTHER_FILE] = {S_IFREG, KEEPER, ANY, 0, 07755, 0, 07755},
};

void door_found(struct door *d, const char *code, const char *path, bool mended, const char *what,
                const char *mend, ...)
{
	char command[3 * STORE_PATH];
	struct sosie_finding f = {code, path, what, command, mended};
	va_list ap;
	va_start(ap, mend);
	vsnprintf(command, sizeof(command), mend, ap);
	va_end(ap);
	if (mended)
		d->check->mended++;
	else
		d->check->findings++;
	if (d->check->found)
		d->check->found(d->check->arg, &f);
}

const char *door_quote(char dst[2 * STORE_PATH], const char *path)
{
	static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/._-+";
	const char *quote = path[strspn(path, plain)] ? "'" : "";
	size_t n = 0;
	dst[n] = '\0';
	if (*quote)
		dst[n++] = '\'';
	for (const char *p = path; *p && n + 6 < 2 * STORE_PATH; p++) {
		if (*p == '\'')
			n += (size_t)snprintf(dst + n, 5, "'\\''");
		else
			dst[n++] = *p;
	}
	snprintf(dst + n, 2, "%s", quote);
	return dst;
}

/* A name where there is one, else the number. */
static const char *owner_text(char dst[80], uid_t uid, gid_t gid)
{
	const struct passwd *user = getpwuid(uid);
	int n = user ? snprintf(dst, 40, "%s", user->pw_name) : snprintf(dst, 40, "%u", (unsigned)uid);
	size_t at = n < 0 ? 0 : n < 40 ? (size_t)n : 39;
	const struct group *group = gid == (gid_t)-1 ? NULL : getgrgid(gid);
	if (group)
		snprintf(dst + at, 40, ":%s", group->gr_name);
	else if (gid != (gid_t)-1)
		snprintf(dst + at, 40, ":%u", (unsigned)gid);
	return dst;
}

/* A descriptor of O_PATH has most of its calls through this name only. */
static const char *own_path(char dst[40], int fd)
{
	snprintf(dst, 40, "/proc/self/fd/%d", fd);
	return dst;
}

static uid_t owner_of(const struct door *d, enum side side)
{
	return side == RECEIVERS && d->apart ? d->user : d->keeper;
}

/* -1: any. */
static gid_t group_of(const struct door *d, enum side side)
{
	if (side == ANY || !d->apart)
		return (gid_t)-1;
	return side == RECEIVERS ? d->group : d->keeper_group;
}

/* Only what belongs to somebody of this store is given to another of them: a foreign thing may be anything,
 * and so may a file with another name elsewhere. */
static bool may_give(const struct door *d, const struct stat *st)
{
	return d->check->mend && (!S_ISREG(st->st_mode) || st->st_nlink == 1) &&
	       (st->st_uid == 0 || st->st_uid == d->keeper || (d->apart && st->st_uid == d->user));
}

static void look_owner(struct door *d, int fd, const char *path, const struct rule *rule,
                       const struct stat *st)
{
	uid_t uid = owner_of(d, rule->owner);
	gid_t gid = group_of(d, rule->group);
	char is[80], should[80], what[200], quoted[2 * STORE_PATH];
	if (st->st_uid == uid && (gid == (gid_t)-1 || st->st_gid == gid))
		return;
	bool mended = may_give(d, st) && fchownat(fd, "", uid, gid, AT_EMPTY_PATH) == 0;
	owner_text(is, st->st_uid, gid == (gid_t)-1 ? gid : st->st_gid);
	owner_text(should, uid, gid);
	snprintf(what, sizeof(what), "belongs to %s, meant is %s", is, should);
	door_found(d, st->st_uid == uid ? "group" : "owner", path, mended, what, "chown -h %s %s", should,
	           door_quote(quoted, path));
}

static void look_mode(struct door *d, int fd, const char *path, const struct rule *rule,
                      const struct stat *st)
{
	mode_t must = d->apart ? rule->must : rule->one_must, may = d->apart ? rule->may : rule->one_may;
	mode_t is = st->st_mode & 07777;
	char what[200], self[40], quoted[2 * STORE_PATH];
	const char *code = is & ~may & 0002     ? "world-writable"
	                   : is & ~may & 0020   ? "group-writable"
	                   : is & ~may & 0077   ? "open"
	                   : must & ~is & 02000 ? "setgid"
	                                        : "mode";
	if ((is & must) == must && (is & ~may) == 0)
		return;
	/* chown takes setgid away, so that this comes after it. */
	bool mended = may_give(d, st) && chmod(own_path(self, fd), (is & may) | must) == 0;
	snprintf(what, sizeof(what), "has mode %04o, meant is %04o", (unsigned)is,
	         (unsigned)((is & may) | must));
	/* chmod(1) takes setgid from a folder only when it is told five digits. */
	door_found(d, code, path, mended, what, rule->kind == S_IFDIR ? "chmod %05o %s" : "chmod %04o %s",
	           (unsigned)((is & may) | must), door_quote(quoted, path));
}

/* An access list can let in whom the mode does not show. */
static void look_acl(struct door *d, int fd, const char *path)
{
	static const char *const names[] = {"system.posix_acl_access", "system.posix_acl_default"};
	char self[40], quoted[2 * STORE_PATH];
	own_path(self, fd);
	for (unsigned i = 0; i < 2; i++)
		if (getxattr(self, names[i], NULL, 0) > 0)
			door_found(d, "acl", path, d->check->mend && removexattr(self, names[i]) == 0,
			           "has an access list beside its mode", "setfacl -b %s",
			           door_quote(quoted, path));
}

static const char *kind_text(mode_t mode)
{
	return S_ISLNK(mode)    ? "is a symbolic link"
	       : S_ISDIR(mode)  ? "is a folder"
	       : S_ISFIFO(mode) ? "is a FIFO"
	       : S_ISREG(mode)  ? "is a regular file"
	                        : "is a device or a socket";
}

static bool look_kind(struct door *d, const char *path, const struct rule *rule, const struct stat *st)
{
	char quoted[2 * STORE_PATH];
	if ((st->st_mode & S_IFMT) == rule->kind)
		return true;
	door_found(d, S_ISLNK(st->st_mode) ? "symlink" : "kind", path, false, kind_text(st->st_mode),
	           "find out who put it there (ls -ld %s); nothing of sosie's is like that: move it away",
	           door_quote(quoted, path));
	return false;
}

static void look_links(struct door *d, const char *path, const struct stat *st)
{
	char what[80], quoted[2 * STORE_PATH];
	if (!S_ISREG(st->st_mode) || st->st_nlink <= 1)
		return;
	snprintf(what, sizeof(what), "has %lu names: who has another one may change it",
	         (unsigned long)st->st_nlink);
	door_quote(quoted, path);
	door_found(d, "links", path, false, what,
	           "cp -p --reflink=auto %s %s.one && mv %s.one %s (others: find / -xdev -samefile %s)",
	           quoted, quoted, quoted, quoted, quoted);
}

static bool make_fifo(int dir, const char *name, uid_t uid, gid_t gid, mode_t mode)
{
	char self[40];
	struct stat st;
	int fd = mkfifoat(dir, name, 0) == 0 ? openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC) : -1;
	bool made = fd >= 0 && fstat(fd, &st) == 0 && S_ISFIFO(st.st_mode) && st.st_uid == geteuid() &&
	            fchownat(fd, "", uid, gid, AT_EMPTY_PATH) == 0 && chmod(own_path(self, fd), mode) == 0;
	if (fd >= 0)
		close(fd);
	return made;
}

static void missing(struct door *d, int dir, const char *name, const char *path, const struct rule *rule)
{
	char owner[80], quoted[2 * STORE_PATH];
	const bool fifo = rule->kind == S_IFIFO, folder = rule->kind == S_IFDIR;
	const mode_t mode = d->apart ? rule->must : rule->one_may;
	uid_t uid = owner_of(d, rule->owner);
	bool mended = d->check->mend && fifo && make_fifo(dir, name, uid, group_of(d, rule->group), mode);
	owner_text(owner, uid, group_of(d, rule->group));
	door_quote(quoted, path);
	if (fifo || folder)
		door_found(d, "missing", path, mended, "is not there",
		           "%s %s && chown %s %s && chmod %04o %s", fifo ? "mkfifo" : "mkdir", quoted, owner,
		           quoted, (unsigned)mode, quoted);
	else
		door_found(d, "missing", path, false, "is not there", "restore %s from a copy of the store",
		           quoted);
}

int door_look(struct door *d, int dir, const char *name, const char *path, enum door_rule which,
              bool optional)
{
	const struct rule *rule = &rules[which];
	struct stat st;
	int fd = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT) {
		if (!optional)
			missing(d, dir, name, path, rule);
		return -1;
	}
	d->check->looked++;
	if (fd < 0 || fstat(fd, &st) != 0) {
		door_found(d, "unreadable", path, false, strerrordesc_np(errno), "run it as root");
		goto close_it;
	}
	if (!look_kind(d, path, rule, &st))
		goto close_it;
	look_links(d, path, &st);
	look_owner(d, fd, path, rule, &st);
	look_acl(d, fd, path);
	look_mode(d, fd, path, rule, &st);
	return fd;

close_it:
	if (fd >= 0)
		close(fd);
	return -1;
}

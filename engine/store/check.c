/* SPDX-License-Identifier: MIT */
/*
 * The walk of "sosie store check": the store's folder and what leads there, each tenant's two sides, each
 * group's folders. It takes no lock and may run beside a keeper and receivers: what goes while it looks is
 * not missed.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/store/door.h"

#define GROUPS_MAX 256 /* groups that a user is in */

/* A tenant's user that was seen, so that no two share one. */
struct seen {
	struct seen *next;
	uid_t uid;
	gid_t gid;
	struct sosie_name tenant;
};
struct walk {
	struct door door;
	struct seen *seen;
	bool any_apart;
	int top; /* descriptor of the store's folder */
	int rc;
	struct sosie_err *err;
};

/* --- folders
 * ---------------------------------------------------------------------------------------------------------
 */

typedef void (*entry_fn)(struct door *d, int dir, const char *path, const char *name, bool folder);

static bool is_folder(int dir, const struct dirent *e)
{
	struct stat st;
	if (e->d_type != DT_UNKNOWN)
		return e->d_type == DT_DIR;
	return fstatat(dir, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
}

/* All entries of the folder that fd (O_PATH, may be -1: nothing) is; closes it. path is the folder's. */
static void each(struct door *d, int fd, const char *path, entry_fn fn)
{
	char below[STORE_PATH], quoted[2 * STORE_PATH];
	int list = fd < 0 ? -1 : openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = list < 0 ? NULL : fdopendir(list);
	if (fd >= 0 && !dir)
		door_found(d, "unreadable", path, false, strerrordesc_np(errno), "run it as root (ls -la %s)",
		           door_quote(quoted, path));
	for (struct dirent *e = dir ? readdir(dir) : NULL; e; e = readdir(dir)) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (!store_path(below, NULL, "%s/%s", path, e->d_name))
			fn(d, list, below, e->d_name, is_folder(list, e));
	}
	if (dir)
		closedir(dir);
	else if (list >= 0)
		close(list);
	if (fd >= 0)
		close(fd);
}

static void drop(int fd)
{
	if (fd >= 0)
		close(fd);
}

static void on_other(struct door *d, int dir, const char *path, const char *name, bool folder)
{
	drop(door_look(d, dir, name, path, folder ? DOOR_OTHER_DIR : DOOR_OTHER_FILE, true));
}

static void on_inbox_file(struct door *d, int dir, const char *path, const char *name, bool folder)
{
	(void)folder; /* a receiver of ours makes none here */
	drop(door_look(d, dir, name, path, DOOR_INBOX_FILE, true));
}

static void on_inbox(struct door *d, int dir, const char *path, const char *name, bool folder)
{
	if (folder)
		each(d, door_look(d, dir, name, path, DOOR_INBOX_GROUP, true), path, on_inbox_file);
	else if (strcmp(name, "notify") != 0)
		on_inbox_file(d, dir, path, name, folder);
}

static void on_outbox_file(struct door *d, int dir, const char *path, const char *name, bool folder)
{
	(void)folder;
	drop(door_look(d, dir, name, path, DOOR_OUTBOX_FILE, true));
}

static void on_outbox(struct door *d, int dir, const char *path, const char *name, bool folder)
{
	if (folder)
		each(d, door_look(d, dir, name, path, DOOR_OUTBOX, true), path, on_outbox_file);
	else
		on_outbox_file(d, dir, path, name, folder);
}

/* journal/, chain/, head/ …: files, and in generations/ folders of files. */
static void on_group_file(struct door *d, int dir, const char *path, const char *name, bool folder)
{
	if (folder)
		each(d, door_look(d, dir, name, path, DOOR_GROUP_DIR, true), path, on_group_file);
	else
		drop(door_look(d, dir, name, path, DOOR_GROUP_FILE, true));
}

static void on_private(struct door *d, int dir, const char *path, const char *name, bool folder)
{
	(void)folder;
	drop(door_look(d, dir, name, path, strstr(name, ".pub") ? DOOR_GROUP_FILE : DOOR_SECRET, true));
}

static void on_group(struct door *d, int dir, const char *path, const char *name, bool folder)
{
	if (strcmp(name, "live") == 0) /* what is in there was given away */
		drop(door_look(d, dir, name, path, DOOR_GROUP_DIR, true));
	else
		on_group_file(d, dir, path, name, folder);
}

/* In the store's folder and in a tenant's. */
static bool own_file(const char *name)
{
	static const char *const names[] = {"alarms.json", "alarms.json.damaged", "alarms.lock",
	                                    "policy.json", "policy.lock",         "clock.json"};
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return false;
}

static void on_tenant(struct door *d, int dir, const char *path, const char *name, bool folder)
{
	struct sosie_name group;
	if (strcmp(name, "_inbox") == 0 || strcmp(name, "_outbox") == 0 || strcmp(name, "_keys") == 0 ||
	    strcmp(name, "tenant.json") == 0)
		return;
	if (folder && sosie_name_set(&group, SOSIE_NAME_GROUP, name, NULL) == 0)
		each(d, door_look(d, dir, name, path, DOOR_GROUP, true), path, on_group);
	else if (folder && strcmp(name, "_audit") == 0)
		each(d, door_look(d, dir, name, path, DOOR_GROUP, true), path, on_group_file);
	else if (own_file(name))
		drop(door_look(d, dir, name, path, DOOR_OWN_FILE, true));
	else
		on_other(d, dir, path, name, folder);
}

/* --- users
 * -----------------------------------------------------------------------------------------------------------
 */

static void same_user(struct walk *w, const char *tenant, const char *path, const char *what)
{
	char quoted[2 * STORE_PATH];
	door_found(&w->door, "one-user", path, false, what,
	           "make a user for it and run, as root: sosie tenant add --store %s %s --user NAME",
	           door_quote(quoted, w->door.store->path), tenant);
}

static void in_groups(struct walk *w, const char *user)
{
	gid_t groups[GROUPS_MAX];
	int count = GROUPS_MAX;
	char what[160];
	if (getgrouplist(user, w->door.group, groups, &count) < 0)
		count = GROUPS_MAX;
	for (int i = 0; i < count; i++) {
		const struct group *g =
		        groups[i] == w->door.keeper_group || groups[i] == 0 ? getgrgid(groups[i]) : NULL;
		if (!g)
			continue;
		snprintf(what, sizeof(what), "is in the group %s, and must not be", g->gr_name);
		door_found(&w->door, "user-group", user, false, what, "gpasswd -d %s %s", user, g->gr_name);
	}
}

/* Its group is what lets it read the tenant's outbox: nobody else is in it. */
static void others_in_group(struct walk *w, const char *user)
{
	const struct group *g = getgrgid(w->door.group);
	char what[200];
	for (char **name = g ? g->gr_mem : NULL; name && *name; name++) {
		if (strcmp(*name, user) == 0)
			continue;
		snprintf(what, sizeof(what), "has a group that %.32s is in too", *name);
		door_found(&w->door, "user-group", user, false, what, "gpasswd -d %s %s", *name, g->gr_name);
	}
	setpwent();
	for (const struct passwd *pw = getpwent(); pw; pw = getpwent()) {
		if (pw->pw_gid != w->door.group || pw->pw_uid == w->door.user)
			continue;
		snprintf(what, sizeof(what), "has a group that is also that of %.32s", pw->pw_name);
		door_found(&w->door, "user-group", user, false, what,
		           "give each of the two a group of its own (usermod -g), then sosie store check "
		           "--mend");
	}
	endpwent();
}

static void shares(struct walk *w, const struct sosie_name *tenant, const char *user)
{
	char what[200];
	struct door *d = &w->door;
	for (const struct seen *s = w->seen; s; s = s->next) {
		if (s->uid != d->user && s->gid != d->group)
			continue;
		snprintf(what, sizeof(what), "of the tenant %s has the same %s as that of %s", tenant->s,
		         s->uid == d->user ? "number" : "group", s->tenant.s);
		door_found(d, "user-shared", user, false, what,
		           "give each tenant a user and a group of its own");
	}
	struct seen *s = calloc(1, sizeof(*s));
	if (!s) {
		w->rc = sosie_err_set(w->err, SOSIE_ENOMEM, "no memory to check the store");
		return;
	}
	*s = (struct seen){w->seen, d->user, d->group, *tenant};
	w->seen = s;
}

/* Who the tenant's receivers are: fills in the door. */
static void meet(struct walk *w, const struct sosie_name *tenant, const char *path)
{
	struct door *d = &w->door;
	char name[SOSIE_USER_MAX + 1];
	struct sosie_err why;
	sosie_err_clear(&why);
	d->apart = false;
	if (sosie_tenant_user(d->store, tenant->s, name, &why)) {
		door_found(d, "tenant", path, false, why.what, "%s",
		           why.action[0] ? why.action : "restore its tenant.json from a copy of the store");
		return;
	}
	const struct passwd *user = name[0] ? getpwnam(name) : NULL;
	if (!name[0]) {
		same_user(w, tenant->s, path,
		          "receivers and keeper are the same user: fine for a try, not for production");
		return;
	}
	if (!user) {
		door_found(d, "user-missing", name, false, "is no user of this machine",
		           "useradd --system --user-group --no-create-home --home-dir /nonexistent --shell "
		           "/bin/sh %s",
		           name);
		return;
	}
	d->check->users++;
	d->user = user->pw_uid;
	d->group = user->pw_gid;
	if (d->user == d->keeper || d->user == 0 || d->group == d->keeper_group || d->group == 0) {
		same_user(w, tenant->s, path,
		          d->user == 0 || d->group == 0
		                  ? "its receivers run as root, or with root's group"
		                  : "its receivers run as the keeper's user, or with the keeper's group");
		return;
	}
	d->apart = w->any_apart = true;
	in_groups(w, name);
	others_in_group(w, name);
	shares(w, tenant, name);
}

/* --- tenants, the store
 * ------------------------------------------------------------------------------------------------ */

static int look_below(struct door *d, int dir, const char *path, const char *name, enum door_rule rule)
{
	char below[STORE_PATH];
	return store_path(below, NULL, "%s/%s", path, name) ? -1
	                                                    : door_look(d, dir, name, below, rule, false);
}

static void each_below(struct door *d, int dir, const char *path, const char *name, enum door_rule rule,
                       entry_fn fn)
{
	char below[STORE_PATH];
	int fd = look_below(d, dir, path, name, rule);
	if (fd >= 0 && !store_path(below, NULL, "%s/%s", path, name))
		each(d, fd, below, fn);
	else
		drop(fd);
}

/* The bell hangs in the inbox, and is the keeper's. */
static void look_bell(struct door *d, int tenant, const char *path)
{
	char below[STORE_PATH];
	int inbox = openat(tenant, "_inbox", O_PATH | O_NOFOLLOW | O_DIRECTORY | O_CLOEXEC);
	if (inbox >= 0 && !store_path(below, NULL, "%s/_inbox/notify", path))
		drop(door_look(d, inbox, "notify", below, DOOR_BELL, false));
	drop(inbox);
}

static int check_tenant(void *arg, const struct sosie_name *tenant)
{
	struct walk *w = arg;
	struct door *d = &w->door;
	char path[STORE_PATH];
	if (d->check->tenant && strcmp(d->check->tenant, tenant->s) != 0)
		return 0;
	if ((w->rc = store_path(path, w->err, "%s/%s", d->store->path, tenant->s)))
		return 1;
	d->check->tenants++;
	meet(w, tenant, path);
	int fd = door_look(d, w->top, tenant->s, path, DOOR_TENANT, false);
	if (fd >= 0) {
		drop(look_below(d, fd, path, "tenant.json", DOOR_TENANT_JSON));
		each_below(d, fd, path, "_inbox", DOOR_INBOX, on_inbox);
		look_bell(d, fd, path);
		each_below(d, fd, path, "_outbox", DOOR_OUTBOX, on_outbox);
		each_below(d, fd, path, "_keys", DOOR_OUTBOX, on_outbox_file);
		each(d, fd, path, on_tenant);
	}
	d->apart = false;
	return w->rc != 0;
}

static void on_store(struct door *d, int dir, const char *path, const char *name, bool folder)
{
	struct sosie_name tenant;
	if (strcmp(name, "sosie.json") == 0 || strcmp(name, "keeper.lock") == 0)
		return;
	if (strcmp(name, "standby.pub") == 0)
		drop(door_look(d, dir, name, path, DOOR_STORE_JSON, true));
	else if (own_file(name))
		drop(door_look(d, dir, name, path, DOOR_OWN_FILE, true));
	else if (folder && strcmp(name, "_audit") == 0)
		each(d, door_look(d, dir, name, path, DOOR_GROUP, true), path, on_group_file);
	else if (folder && strcmp(name, "_private") == 0)
		each(d, door_look(d, dir, name, path, DOOR_GROUP, true), path, on_private);
	else if (!folder || sosie_name_set(&tenant, SOSIE_NAME_TENANT, name, NULL) != 0)
		on_other(d, dir, path, name, folder);
}

/* The folders above: receivers pass through them, and nobody else may exchange what is in them. */
static void look_above(struct walk *w)
{
	char path[STORE_PATH], quoted[2 * STORE_PATH];
	struct stat st;
	snprintf(path, sizeof(path), "%s", w->door.store->path);
	for (char *slash = strrchr(path, '/'); slash && path[1]; slash = strrchr(path, '/')) {
		slash[slash == path ? 1 : 0] = '\0';
		if (stat(path, &st) != 0)
			continue;
		w->door.check->looked++;
		door_quote(quoted, path);
		if (w->any_apart && !(st.st_mode & 0001))
			door_found(&w->door, "reach", path, false,
			           "lets others not pass, so that receivers do not reach the store",
			           "chmod o+x %s", quoted);
		if (st.st_mode & 0022 && !(st.st_mode & S_ISVTX))
			door_found(&w->door, "above", path, false,
			           "may be written by others, who can put another store in its place",
			           "chmod go-w %s", quoted);
		if (st.st_uid != 0 && st.st_uid != w->door.keeper)
			door_found(&w->door, "above", path, false,
			           "belongs to somebody who can put another store in its place",
			           "chown root %s", quoted);
	}
}

static void check_top(struct walk *w)
{
	struct door *d = &w->door;
	const char *path = d->store->path;
	char below[STORE_PATH];
	d->apart = w->any_apart; /* whether others must pass */
	drop(door_look(d, AT_FDCWD, path, path, DOOR_STORE, false));
	drop(look_below(d, w->top, path, "sosie.json", DOOR_STORE_JSON));
	if (!store_path(below, NULL, "%s/keeper.lock", path))
		drop(door_look(d, w->top, "keeper.lock", below, DOOR_OWN_FILE, true));
	each(d, openat(w->top, ".", O_PATH | O_CLOEXEC), path, on_store);
	look_above(w);
}

static void know_keeper(struct walk *w, const struct stat *st)
{
	const struct passwd *keeper = getpwuid(st->st_uid);
	w->door.keeper = st->st_uid;
	w->door.keeper_group = keeper ? keeper->pw_gid : st->st_gid;
	if (!keeper)
		door_found(&w->door, "owner", w->door.store->path, false, "belongs to nobody of this machine",
		           "make the keeper's user, then: chown -R");
}

int sosie_store_check(struct sosie_store *store, struct sosie_check *check, struct sosie_err *err)
{
	struct walk w = {.door = {.store = store, .check = check}, .err = err};
	struct stat st;
	check->looked = check->findings = check->mended = 0;
	check->tenants = check->users = 0;
	w.top = open(store->path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (w.top < 0 || fstat(w.top, &st) != 0) {
		w.rc = sosie_err_sys(err, errno, "the store %s cannot be looked at", store->path);
		drop(w.top);
		return w.rc;
	}
	know_keeper(&w, &st);
	int rc = sosie_store_tenants(store, check_tenant, &w, err);
	if (!rc)
		rc = w.rc;
	if (!rc && !check->tenant)
		check_top(&w);
	if (!rc && check->tenant && check->tenants == 0)
		rc = sosie_err_set(err, SOSIE_ENOTFOUND, "the store %s has no tenant %s", store->path,
		                   check->tenant);
	while (w.seen) {
		struct seen *next = w.seen->next;
		free(w.seen);
		w.seen = next;
	}
	close(w.top);
	return rc;
}

/* SPDX-License-Identifier: MIT */
/* Tenants: their folders, quota and the limits told to receivers. The folder appears whole, by a rename. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/store/policy.h"
#include "engine/store/quota.h"
#include "sosie/door.h"

/* The FIFO cannot be made through the table of I/O operations, and a simulated disk has none: there, nobody
 * waits on it. */
static int make_fifo(struct sosie_io *io, const char *dir, struct sosie_err *err)
{
	char path[STORE_PATH];
	struct stat st;
	int rc = store_path(path, err, "%s/_inbox/notify", dir);
	if (rc || strcmp(io->ops->name, "sim") == 0 || stat(dir, &st) != 0)
		return rc;
	if (mkfifo(path, 0660) != 0 ||
	    chmod(path, 0660) != 0) /* the umask does not know that receivers are others */
		return sosie_err_sys(err, errno, "cannot make the FIFO %s", path);
	return 0;
}

/* What receivers read now says the same, or nearly: a quota's rest may be off by a hundredth before it is
 * worth a flush. */
static bool limits_hold(struct sosie_store *store, const char *path, const char *id, uint64_t quota,
                        uint64_t left)
{
	char *text = NULL, same[48];
	size_t len = 0;
	unsigned long long told = 0;
	if (sosie_io_read_file(store->io, path, 4096, &text, &len, NULL))
		return false;
	snprintf(same, sizeof(same), "store=%s\n", id);
	const char *at = strstr(text, "\nupload_bytes=");
	bool holds = strncmp(text, same, strlen(same)) == 0 && strstr(text, "\nparts=") &&
	             strstr(text, "\npacked=1\n") && at && sscanf(at, "\nupload_bytes=%llu", &told) == 1;
	uint64_t apart = told > left ? told - left : left - told;
	holds = holds && (told == 0) == (quota == 0) && apart <= quota / 100;
	free(text);
	return holds;
}

/* Durable: a receiver serves nobody without it. */
int tenant_limits(struct sosie_store *store, const char *tenant, uint64_t quota, uint64_t used,
                  struct sosie_err *err)
{
	char path[STORE_PATH], text[256], id[33];
	uint64_t left = quota == 0 ? 0 : quota > used ? quota - used : 1;
	sosie_hex(id, store->info.id.b, sizeof(store->info.id.b));
	int n = snprintf(text, sizeof(text), "store=%s\nupload_bytes=%llu\nuploads=%u\nparts=%u\npacked=1\n",
	                 id, (unsigned long long)left, KEEPER_UPLOADS, SOSIE_PARTS_MAX);
	int rc = store_path(path, err, "%s/%s/_outbox/limits", store->path, tenant);
	if (rc || limits_hold(store, path, id, quota, left))
		return rc;
	return sosie_io_write_file(store->io, path, text, (size_t)n, 0640, err);
}

/* tenant.json, as far as this file goes by it; limits.c reads the rest. */
struct tenant_file {
	int64_t created_ms;
	uint64_t quota;
	char user[SOSIE_USER_MAX + 1]; /* of its receivers; empty: the keeper's */
};

static int write_document(struct sosie_store *s, const char *dir, struct sosie_json *j, struct sosie_err *err)
{
	char path[STORE_PATH];
	int rc = store_path(path, err, "%s/tenant.json", dir);
	if (!rc)
		return layout_write_json(s->io, path, j, 0640, err);
	sosie_json_free(j);
	return rc;
}

int tenant_rewrite(struct sosie_store *s, const char *tenant, struct sosie_json *j, struct sosie_err *err)
{
	char dir[STORE_PATH];
	int rc = store_path(dir, err, "%s/%s", s->path, tenant);
	if (!rc)
		return write_document(s, dir, j, err);
	sosie_json_free(j);
	return rc;
}

static int write_tenant(struct sosie_store *s, const char *dir, const char *tenant,
                        const struct tenant_file *t, struct sosie_err *err)
{
	struct sosie_json *j = sosie_json_new();
	sosie_json_set_u64(j, "format", STORE_FORMAT);
	sosie_json_set_str(j, "tenant", tenant);
	layout_set_time(j, "created", t->created_ms);
	sosie_json_set_u64(j, "quota", t->quota);
	if (t->user[0])
		sosie_json_set_str(j, "user", t->user);
	return write_document(s, dir, j, err);
}

/* What a command line, a shell and passwd(5) take alike. */
static bool user_ok(const char *user)
{
	static const char first[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_";
	static const char rest[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-";
	return strlen(user) <= SOSIE_USER_MAX && user[0] && strchr(first, user[0]) &&
	       user[strspn(user, rest)] == '\0';
}

static int read_user(const struct sosie_json *j, struct tenant_file *t, struct sosie_err *err)
{
	const char *user;
	if (!sosie_json_has(j, "user"))
		return 0;
	int rc = sosie_json_str(j, "user", SOSIE_USER_MAX, &user, err);
	if (!rc && !user_ok(user))
		rc = sosie_err_set(err, SOSIE_ECORRUPT, "\"user\" of a tenant is no name of a user");
	if (!rc)
		snprintf(t->user, sizeof(t->user), "%s", user);
	return rc;
}

int tenant_document(struct sosie_store *s, const char *tenant, struct sosie_json **out, struct sosie_err *err)
{
	static const char *const keys[] = {"format", "tenant", "created", "quota", "user", "limits", NULL};
	char path[STORE_PATH];
	int rc = store_path(path, err, "%s/%s/tenant.json", s->path, tenant);
	if (!rc)
		rc = layout_read_json(s->io, path, keys, out, err);
	if (rc == -SOSIE_ENOTFOUND) {
		sosie_err_set(err, SOSIE_ENOTFOUND, "the store %s has no tenant %s", s->path, tenant);
		return sosie_err_action(err, "run \"sosie tenant add %s --quota SIZE\"", tenant);
	}
	return rc;
}

static int read_tenant(struct sosie_store *s, const char *tenant, struct tenant_file *t,
                       struct sosie_err *err)
{
	struct sosie_json *j = NULL;
	memset(t, 0, sizeof(*t));
	int rc = tenant_document(s, tenant, &j, err);
	if (!rc)
		rc = sosie_json_u64(j, "quota", INT64_MAX, &t->quota, err);
	if (!rc)
		rc = layout_json_time(j, "created", &t->created_ms, err);
	if (!rc)
		rc = read_user(j, t, err);
	sosie_json_free(j);
	return rc;
}

int tenant_set_quota(struct sosie_store *store, const char *tenant, uint64_t quota, struct sosie_err *err)
{
	struct sosie_json *j = NULL;
	int rc = tenant_document(store, tenant, &j, err);
	if (rc)
		return rc;
	sosie_json_set_u64(j, "quota", quota);
	return tenant_rewrite(store, tenant, j, err);
}

static int already_there(struct sosie_store *s, const char *tenant, uint64_t quota, struct sosie_err *err)
{
	struct tenant_file old;
	int rc = read_tenant(s, tenant, &old, err);
	if (rc)
		return rc;
	if (old.quota != quota)
		return sosie_err_set(err, SOSIE_EEXISTS,
		                     "the tenant %s is there with a quota of %llu bytes, not %llu", tenant,
		                     (unsigned long long)old.quota, (unsigned long long)quota);
	return sosie_err_set(err, SOSIE_EEXISTS, "the tenant %s is there", tenant);
}

/* Closed to everybody but the group; what a user of the receivers may do beyond that is set by
 * sosie_store_check (mend), which needs root. */
static int fill_tenant(struct sosie_store *s, const char *tmp, const char *tenant,
                       const struct tenant_file *t, struct sosie_err *err)
{
	static const char *const subs[] = {"_keys", "_inbox", "_outbox"};
	char tmp_name[SOSIE_NAME_MAX + 5], path[STORE_PATH];
	int rc = sosie_io_remove_tree(s->io, tmp, err);
	if (!rc)
		rc = sosie_io_mkdir(s->io, tmp, 0750, err);
	for (unsigned i = 0; !rc && i < 3; i++) {
		rc = store_path(path, err, "%s/%s", tmp, subs[i]);
		if (!rc)
			rc = sosie_io_mkdir(s->io, path, 0750, err);
		if (!rc && i == 1)
			rc = sosie_io_chmod(s->io, path, 0770, err);
	}
	snprintf(tmp_name, sizeof(tmp_name), "%s.tmp", tenant);
	if (!rc)
		rc = make_fifo(s->io, tmp, err);
	if (!rc)
		rc = tenant_limits(s, tmp_name, t->quota, 0, err);
	if (!rc)
		rc = write_tenant(s, tmp, tenant, t, err);
	for (unsigned i = 1; !rc && i < 3; i++) {
		rc = store_path(path, err, "%s/%s", tmp, subs[i]);
		if (!rc)
			rc = sosie_io_sync_dir(s->io, path, err);
	}
	return rc ? rc : sosie_io_sync_dir(s->io, tmp, err);
}

static int set_user(struct tenant_file *t, const char *user, struct sosie_err *err)
{
	if (!user_ok(user)) {
		sosie_err_set(err, SOSIE_ENAME, "the user of the receivers has a name that is not allowed");
		return sosie_err_action(err, "a letter or _, then letters, digits, _, . and -, at most %u",
		                        SOSIE_USER_MAX);
	}
	snprintf(t->user, sizeof(t->user), "%s", user);
	return 0;
}

int sosie_tenant_add(struct sosie_store *store, const char *tenant, uint64_t quota, struct sosie_err *err)
{
	return sosie_tenant_add_user(store, tenant, quota, NULL, err);
}

int sosie_tenant_add_user(struct sosie_store *store, const char *tenant, uint64_t quota, const char *user,
                          struct sosie_err *err)
{
	char dir[STORE_PATH], tmp[STORE_PATH];
	struct tenant_file t = {.created_ms = sosie_wall_ms(store->clock), .quota = quota};
	struct sosie_name name;
	int rc = sosie_name_set(&name, SOSIE_NAME_TENANT, tenant, err);
	if (!rc && user)
		rc = set_user(&t, user, err);
	if (!rc && quota > INT64_MAX)
		rc = sosie_err_set(err, SOSIE_EUSAGE, "a quota of %llu bytes is too large",
		                   (unsigned long long)quota);
	if (!rc)
		rc = store_path(dir, err, "%s/%s", store->path, tenant);
	if (!rc)
		rc = store_path(tmp, err, "%s.tmp", dir);
	if (rc)
		return rc;
	if (sosie_io_exists(store->io, dir))
		return already_there(store, tenant, quota, err);
	rc = fill_tenant(store, tmp, tenant, &t, err);
	if (!rc)
		rc = sosie_io_rename(store->io, tmp, dir, err);
	return rc ? rc : sosie_io_sync_dir(store->io, store->path, err);
}

int sosie_tenant_user(struct sosie_store *store, const char *tenant, char user[SOSIE_USER_MAX + 1],
                      struct sosie_err *err)
{
	struct tenant_file t;
	int rc = read_tenant(store, tenant, &t, err);
	memcpy(user, t.user, sizeof(t.user));
	return rc;
}

int sosie_tenant_set_user(struct sosie_store *store, const char *tenant, const char *user,
                          struct sosie_err *err)
{
	struct sosie_json *j = NULL;
	struct tenant_file t;
	int rc = read_tenant(store, tenant, &t, err);
	if (!rc && strcmp(t.user, user) == 0)
		return 0;
	if (!rc && t.user[0])
		rc = sosie_err_set(err, SOSIE_EEXISTS, "the receivers of the tenant %s run as %s already",
		                   tenant, t.user);
	if (!rc)
		rc = set_user(&t, user, err);
	if (!rc)
		rc = tenant_document(store, tenant, &j, err);
	if (rc)
		return rc;
	sosie_json_set_str(j, "user", user);
	return tenant_rewrite(store, tenant, j, err);
}

int tenant_quota(struct sosie_store *store, const char *tenant, uint64_t *quota, struct sosie_err *err)
{
	struct tenant_file t;
	int rc = read_tenant(store, tenant, &t, err);
	*quota = t.quota;
	return rc;
}

struct usage {
	struct sosie_store *store;
	const char *tenant;
	char dir[STORE_PATH];
	uint64_t used;
	int rc;
	struct sosie_err *err;
};

static int add_file(void *arg, const char *name, enum sosie_file_kind kind)
{
	struct usage *u = arg;
	char path[STORE_PATH];
	struct sosie_stat st;
	if (kind != SOSIE_KIND_FILE)
		return 0;
	if (!store_path(path, NULL, "%s/%s", u->dir, name) && !sosie_io_stat(u->store->io, path, &st, NULL) &&
	    !sosie_add_u64(u->used, st.allocated, &u->used))
		u->used = UINT64_MAX;
	return 0;
}

static int add_folder(struct usage *u, const char *group_dir, const char *name)
{
	int rc = store_path(u->dir, u->err, "%s/%s", group_dir, name);
	if (rc || !sosie_io_exists(u->store->io, u->dir))
		return rc;
	int listed = sosie_io_list(u->store->io, u->dir, add_file, u, u->err);
	return listed < 0 ? listed : 0;
}

struct generations {
	struct usage *u;
	const char *dir;
};

static int add_generation(void *arg, const char *name, enum sosie_file_kind kind)
{
	struct generations *all = arg;
	if (kind == SOSIE_KIND_DIR)
		all->u->rc = add_folder(all->u, all->dir, name);
	return all->u->rc != 0;
}

/* Generations that are copies. With reflinks they share what they have with the head. */
static int add_generations(struct usage *u, const char *group_dir)
{
	char dir[STORE_PATH];
	struct generations all = {.u = u, .dir = dir};
	int rc = u->store->info.reflink ? 1 : store_path(dir, u->err, "%s/generations", group_dir);
	if (rc || !sosie_io_exists(u->store->io, dir))
		return rc > 0 ? 0 : rc;
	rc = sosie_io_list(u->store->io, dir, add_generation, &all, u->err);
	return u->rc ? u->rc : rc < 0 ? rc : 0;
}

/* Journal, head, chain, copied generations. The journal's bytes from the memo where it is current, else
 * counted. */
static int add_group(void *arg, const struct sosie_name *name)
{
	struct usage *u = arg;
	struct sosie_group g = {.store = u->store, .tenant = {{0}}, .name = *name};
	uint64_t journal = 0;
	u->rc = sosie_name_set(&g.tenant, SOSIE_NAME_TENANT, u->tenant, u->err);
	if (!u->rc)
		u->rc = store_path(g.dir, u->err, "%s/%s/%s", u->store->path, u->tenant, name->s);
	struct store_memo *memo = memo_find(u->store, u->tenant, name->s);
	if (memo && memo->counted)
		journal = memo->journal_bytes;
	else if (!u->rc)
		u->rc = journal_usage(&g, 0, &journal, NULL, u->err);
	if (!sosie_add_u64(u->used, journal, &u->used))
		u->used = UINT64_MAX;
	if (!u->rc)
		u->rc = add_folder(u, g.dir, "head");
	if (!u->rc)
		u->rc = add_folder(u, g.dir, "chain");
	if (!u->rc)
		u->rc = add_generations(u, g.dir);
	return u->rc;
}

int tenant_usage(struct sosie_store *store, const char *tenant, uint64_t *used, struct sosie_err *err)
{
	struct usage u = {.store = store, .tenant = tenant, .err = err};
	int rc = sosie_store_groups(store, tenant, add_group, &u, err);
	*used = u.used;
	return rc ? rc : u.rc;
}

static int count_key(void *arg, const char *name, enum sosie_file_kind kind)
{
	size_t len = strlen(name);
	if (kind == SOSIE_KIND_FILE && len == 21 && strcmp(name + 16, ".json") == 0)
		++*(unsigned *)arg;
	return 0;
}

int sosie_tenant_info(struct sosie_store *store, const char *tenant, struct sosie_tenant_info *out,
                      struct sosie_err *err)
{
	char dir[STORE_PATH];
	memset(out, 0, sizeof(*out));
	int rc = sosie_name_set(&out->name, SOSIE_NAME_TENANT, tenant, err);
	if (!rc)
		rc = tenant_quota(store, tenant, &out->quota, err);
	if (!rc)
		rc = store_path(dir, err, "%s/%s/_keys", store->path, tenant);
	if (!rc && (rc = sosie_io_list(store->io, dir, count_key, &out->keys, err)) > 0)
		rc = 0;
	return rc < 0 ? rc : tenant_usage(store, tenant, &out->used, err);
}

/* SPDX-License-Identifier: MIT */
/* The store as a whole: making, opening, listing. sosie.json is written last, so that a folder is a store or
 * is not. */
#include <stdlib.h>
#include <string.h>

#include "engine/store/alarm.h"
#include "engine/store/audit.h"
#include "engine/store/quota.h"

static int count_names(void *arg, const char *name, enum sosie_file_kind kind)
{
	(void)name;
	(void)kind;
	++*(unsigned *)arg;
	return 1;
}

static int make_root(struct sosie_io *io, const char *path, struct sosie_err *err)
{
	struct sosie_stat st;
	unsigned names = 0;
	if (sosie_io_stat(io, path, &st, NULL))
		return sosie_io_ensure_dir(io, path, 0755, err);
	if (st.kind != SOSIE_KIND_DIR)
		return sosie_err_set(err, SOSIE_EEXISTS, "%s is there and no folder", path);
	int rc = sosie_io_list(io, path, count_names, &names, err);
	if (rc < 0)
		return rc;
	if (names == 0)
		return 0;
	sosie_err_set(err, SOSIE_EEXISTS, "%s is not empty", path);
	return sosie_err_action(err, "give a folder that does not exist yet, or an empty one");
}

int sosie_store_init(struct sosie_io *io, struct sosie_clock *clock, const char *path, struct sosie_err *err)
{
	struct sosie_store_id id;
	char file[STORE_PATH];
	int rc = store_path(file, err, "%s/sosie.json", path);
	if (!rc)
		rc = make_root(io, path, err);
	if (!rc)
		rc = sosie_random(clock, id.b, sizeof(id.b), err);
	if (rc)
		return rc;
	struct sosie_json *j = sosie_json_new();
	sosie_json_set_u64(j, "format", STORE_FORMAT);
	sosie_json_set_hex(j, "store", id.b, sizeof(id.b));
	layout_set_time(j, "created", sosie_wall_ms(clock));
	struct sosie_json *policy = sosie_json_add_obj(j, "policy");
	sosie_json_set_u64(policy, "fold_bytes", 1ull << 30);
	sosie_json_set_u64(policy, "fold_points", 1000);
	return layout_write_json(io, file, j, 0644, err);
}

static int read_store(struct sosie_store *s, struct sosie_err *err)
{
	static const char *const keys[] = {"format", "store", "created", "policy", NULL};
	static const char *const policy_keys[] = {"fold_bytes", "fold_points", NULL};
	char file[STORE_PATH];
	struct sosie_json *j, *policy = NULL;
	int rc = store_path(file, err, "%s/sosie.json", s->path);
	if (!rc)
		rc = layout_read_json(s->io, file, keys, &j, err);
	if (rc == -SOSIE_ENOTFOUND) {
		sosie_err_set(err, SOSIE_ENOTSTORE, "%s is not a sosie store: it has no sosie.json", s->path);
		return sosie_err_action(err, "make one with \"sosie store init\", or give the right folder");
	}
	if (rc)
		return rc;
	rc = sosie_json_hex(j, "store", s->info.id.b, sizeof(s->info.id.b), err);
	if (!rc)
		rc = layout_json_time(j, "created", &s->info.created_ms, err);
	if (!rc)
		rc = sosie_json_obj(j, "policy", &policy, err);
	if (!rc)
		rc = sosie_json_only(policy, policy_keys, err);
	if (!rc)
		rc = sosie_json_u64(policy, "fold_bytes", INT64_MAX / 8, &s->info.policy.fold_bytes, err);
	if (!rc)
		rc = sosie_json_u64(policy, "fold_points", INT64_MAX / 8, &s->info.policy.fold_points, err);
	sosie_json_free(j);
	if (rc)
		sosie_err_where(err, "%s", file);
	return rc;
}

/* Whether the store's filesystem clones. Who may not write there learns "no": it matters to writers only. */
static bool probe_reflink(struct sosie_store *s)
{
	char a[STORE_PATH], b[STORE_PATH];
	struct sosie_file *fa = NULL, *fb = NULL;
	static const uint8_t block[SOSIE_LEAF] = {1};
	unsigned flags = SOSIE_READ | SOSIE_WRITE | SOSIE_CREATE | SOSIE_TRUNC;
	bool yes = false;
	if (store_path(a, NULL, "%s/_probe.src", s->path) || store_path(b, NULL, "%s/_probe.dst", s->path))
		return false;
	if (!sosie_io_openat(s->io, a, flags, 0600, &fa, NULL) &&
	    !sosie_io_openat(s->io, b, flags, 0600, &fb, NULL) &&
	    !sosie_io_pwrite(s->io, fa, block, sizeof(block), 0, NULL))
		yes = sosie_io_clone(s->io, fa, fb, NULL) == 0;
	sosie_io_close(s->io, fa, NULL);
	sosie_io_close(s->io, fb, NULL);
	if (fa)
		sosie_io_unlink(s->io, a, NULL);
	if (fb)
		sosie_io_unlink(s->io, b, NULL);
	return yes;
}

int sosie_store_open(struct sosie_io *io, struct sosie_clock *clock, const char *path,
                     struct sosie_store **out, struct sosie_err *err)
{
	*out = NULL;
	struct sosie_store *s = calloc(1, sizeof(*s));
	if (!s)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory to open the store %s", path);
	s->io = io;
	s->clock = clock;
	s->chains_limit = CHAINS_KEPT_BYTES;
	s->path = strdup(path);
	int rc = s->path ? read_store(s, err)
	                 : sosie_err_set(err, SOSIE_ENOMEM, "no memory to open the store");
	if (!rc)
		rc = store_read_standby(s, err);
	if (rc) {
		sosie_store_close(s);
		return rc;
	}
	s->info.path = s->path;
	s->info.reflink = probe_reflink(s);
	*out = s;
	return 0;
}

int store_home(struct sosie_store *store, struct confined_home **out, struct sosie_err *err)
{
	int rc = store->home ? 0 : confined_home_new(&confined_kind, &store->home, err);
	*out = store->home;
	return rc;
}

void sosie_store_close(struct sosie_store *store)
{
	if (!store)
		return;
	sosie_alarm_flush(store, true);
	memo_free_all(store);
	chain_cache_free(store);
	same_free_all(store);
	audit_free_all(store);
	alarm_book_free(store);
	watch_free(store);
	quota_free(store);
	space_free(store);
	apply_pool_free(store->pool);
	if (!store->home_lent)
		confined_home_free(store->home);
	sosie_io_close(store->io, store->keeper_lock, NULL);
	free(store->path);
	free(store);
}

void sosie_store_info(const struct sosie_store *store, struct sosie_store_info *out)
{
	*out = store->info;
}

/* Names of one kind in a folder, collected and sorted. */
struct names {
	enum sosie_name_kind kind;
	struct sosie_name *list;
	size_t count, room;
	bool no_memory;
};

static int collect_name(void *arg, const char *name, enum sosie_file_kind kind)
{
	struct names *n = arg;
	struct sosie_name checked;
	if (kind != SOSIE_KIND_DIR || name[0] == '_' || sosie_name_set(&checked, n->kind, name, NULL))
		return 0;
	if (n->count == n->room) {
		size_t room = n->room ? 2 * n->room : 16;
		struct sosie_name *grown = reallocarray(n->list, room, sizeof(*grown));
		n->no_memory = !grown;
		if (!grown)
			return 1;
		n->list = grown;
		n->room = room;
	}
	n->list[n->count++] = checked;
	return 0;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(((const struct sosie_name *)a)->s, ((const struct sosie_name *)b)->s);
}

static int each_name(struct sosie_store *store, const char *dir, enum sosie_name_kind kind, sosie_name_fn fn,
                     void *arg, struct sosie_err *err)
{
	struct names n = {.kind = kind};
	int rc = sosie_io_list(store->io, dir, collect_name, &n, err);
	if (rc >= 0)
		rc = n.no_memory ? sosie_err_set(err, SOSIE_ENOMEM, "no memory to list %s", dir) : 0;
	if (!rc && n.count)
		qsort(n.list, n.count, sizeof(*n.list), compare_names);
	for (size_t i = 0; !rc && i < n.count; i++)
		if (fn(arg, &n.list[i]))
			break;
	free(n.list);
	return rc;
}

int sosie_store_tenants(struct sosie_store *store, sosie_name_fn fn, void *arg, struct sosie_err *err)
{
	return each_name(store, store->path, SOSIE_NAME_TENANT, fn, arg, err);
}

int sosie_store_groups(struct sosie_store *store, const char *tenant, sosie_name_fn fn, void *arg,
                       struct sosie_err *err)
{
	char dir[STORE_PATH];
	int rc = store_path(dir, err, "%s/%s", store->path, tenant);
	return rc ? rc : each_name(store, dir, SOSIE_NAME_GROUP, fn, arg, err);
}

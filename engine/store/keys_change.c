/* SPDX-License-Identifier: MIT */
/*
 * Adding and revoking keys: the entry first, then the copy for receivers (keys.h). Of a signing key's groups
 * the locks are held from the look at their newest points until the revocation is in the log: no point that
 * it signed is accepted in between, and none that was accepted is left out. Groups that are made meanwhile
 * are held too.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/store/keys.h"

#define GROUP_WAIT_MS 60000
#define POINTS_IN_ENTRY 512u /* of at most 63 + 24 bytes: an entry has room for them and for the rest */
#define REASON_MAX 512u
#define HOLD_ROUNDS 16u

/* --- entries
 * ---------------------------------------------------------------------------------------------------- */

static struct sosie_json *add_body(const struct sosie_key *k)
{
	struct sosie_json *j = sosie_json_new(), *groups;
	sosie_json_set_str(j, "key", k->info.id);
	sosie_json_set_str(j, "use", key_use_name(k->use));
	sosie_json_set_str(j, "type", k->info.type);
	sosie_json_set_str(j, "blob", k->info.blob);
	sosie_json_set_str(j, "comment", k->info.comment);
	sosie_json_set_str(j, "fingerprint", k->info.fingerprint);
	groups = k->group_count ? sosie_json_add_arr(j, "groups") : NULL;
	for (unsigned i = 0; i < k->group_count; i++)
		sosie_json_push_str(groups, k->groups[i].s);
	return j;
}

int keys_record_found(struct sosie_store *store, struct audit_log *log, struct sosie_err *err)
{
	struct key_fold *fold;
	struct sosie_key *found = NULL;
	unsigned count = 0;
	int rc = keys_fold(store, log, &fold, err);
	if (!rc)
		rc = keys_found(store, log->tenant.s, fold, &found, &count, err);
	for (unsigned i = 0; !rc && i < count; i++) {
		struct sosie_json *body = add_body(&found[i]);
		if (body)
			layout_set_time(body, "added", found[i].added_ms);
		rc = audit_append_locked(store, log, SOSIE_AUDIT_KEY_ADD, body, NULL, err);
	}
	free(found);
	return rc;
}

/* The log, locked, with what it says of keys. */
static int begin(struct sosie_store *store, const char *tenant, struct audit_log **log,
                 struct sosie_file **lock, struct key_fold **fold, struct sosie_err *err)
{
	*lock = NULL;
	int rc = audit_log_get(store, tenant, log, err);
	if (!rc)
		rc = audit_lock(store, *log, AUDIT_WAIT_MS, lock, err);
	if (!rc)
		rc = keys_record_found(store, *log, err);
	return rc ? rc : keys_fold(store, *log, fold, err);
}

/* --- copies
 * ----------------------------------------------------------------------------------------------------- */

static int write_copy(struct sosie_store *store, const char *tenant, const struct sosie_key *k,
                      struct sosie_err *err)
{
	char path[STORE_PATH];
	int rc = keys_copy_path(store, tenant, k->info.id, path, err);
	if (rc || sosie_io_exists(store->io, path))
		return rc;
	struct sosie_json *j = sosie_json_new();
	sosie_json_set_u64(j, "format", STORE_FORMAT);
	sosie_json_set_str(j, "use", "ssh");
	sosie_json_set_str(j, "type", k->info.type);
	sosie_json_set_str(j, "blob", k->info.blob);
	sosie_json_set_str(j, "comment", k->info.comment);
	sosie_json_set_str(j, "fingerprint", k->info.fingerprint);
	layout_set_time(j, "added", sosie_wall_ms(store->clock));
	return layout_write_json(store->io, path, j, 0640, err);
}

/* Also when it is gone already: that may not have been flushed. */
static int remove_copy(struct sosie_store *store, const char *tenant, const char *id, struct sosie_err *err)
{
	char path[STORE_PATH], dir[STORE_PATH];
	int rc = keys_copy_path(store, tenant, id, path, err);
	if (!rc)
		rc = store_path(dir, err, "%s/%s/_keys", store->path, tenant);
	if (!rc)
		rc = layout_remove(store->io, path, err);
	return rc ? rc : sosie_io_sync_dir(store->io, dir, err);
}

/* The id of a revoked SSH key that has a copy; NULL: there is none. */
static const char *left_copy(struct sosie_store *store, const char *tenant, const struct key_fold *fold)
{
	char path[STORE_PATH];
	for (unsigned i = 0; i < fold->count; i++) {
		const struct sosie_key *k = &fold->records[i].key;
		if (k->use == SOSIE_KEY_SSH && k->revoked_ms &&
		    !keys_copy_path(store, tenant, k->info.id, path, NULL) &&
		    sosie_io_exists(store->io, path))
			return k->info.id;
	}
	return NULL;
}

int keys_mend(struct sosie_store *store, const char *tenant, struct sosie_err *err)
{
	struct audit_log *log;
	struct key_fold *fold = NULL;
	struct sosie_file *lock = NULL;
	const char *id;
	int rc = audit_log_get(store, tenant, &log, err);
	if (!rc)
		rc = keys_fold(store, log, &fold, err);
	if (rc || log->keys_mended)
		return rc;
	if (left_copy(store, tenant, fold)) {
		/* Under the lock, and looked at anew: it may have been added again just now. */
		rc = audit_lock(store, log, 0, &lock, err);
		if (rc == -SOSIE_EBUSY)
			return 0;
		if (!rc)
			rc = keys_fold(store, log, &fold, err);
		while (!rc && (id = left_copy(store, tenant, fold)))
			rc = remove_copy(store, tenant, id, err);
		sosie_io_close(store->io, lock, NULL);
	}
	log->keys_mended = !rc;
	return rc;
}

/* --- adding
 * ----------------------------------------------------------------------------------------------------- */

static int set_groups(struct sosie_key *k, const struct sosie_name *groups, unsigned count,
                      struct sosie_err *err)
{
	int rc = count <= SOSIE_KEY_GROUPS_MAX
	                 ? 0
	                 : sosie_err_set(err, SOSIE_EUSAGE, "a key is for %u groups at most, or for all",
	                                 SOSIE_KEY_GROUPS_MAX);
	for (unsigned i = 0; !rc && i < count; i++) {
		if (k->group_count && keys_cover(k, groups[i].s))
			continue; /* named twice */
		rc = sosie_name_set(&k->groups[k->group_count++], SOSIE_NAME_GROUP, groups[i].s, err);
	}
	return rc;
}

static bool same_groups(const struct sosie_key *a, const struct sosie_key *b)
{
	if (a->group_count != b->group_count)
		return false;
	for (unsigned i = 0; i < a->group_count; i++)
		if (!keys_cover(b, a->groups[i].s))
			return false;
	return true;
}

static int check_use(const struct sosie_key *k, struct sosie_err *err)
{
	if (k->use != SOSIE_KEY_SIGNING || strcmp(k->info.type, "ssh-ed25519") == 0)
		return 0;
	sosie_err_set(err, SOSIE_ECONFIG, "a signing key is of the type ssh-ed25519, not %s", k->info.type);
	return sosie_err_action(err, "make one with: sosie keygen, or ssh-keygen -t ed25519");
}

/* *there: nothing has to be appended. */
static int check_place(const struct key_fold *fold, const char *tenant, const struct sosie_key *k,
                       bool *there, struct sosie_err *err)
{
	const struct key_record *r = keys_find(fold, k->info.id, k->use);
	*there = r && !r->key.revoked_ms;
	if (*there && !same_groups(&r->key, k)) {
		sosie_err_set(err, SOSIE_EEXISTS,
		              "the key %s of the tenant %s is registered already, for other groups",
		              k->info.id, tenant);
		return sosie_err_action(err, "revoke it, then add it anew: sosie key revoke %s %s", tenant,
		                        k->info.id);
	}
	if (!r && fold->count >= SOSIE_KEYS_MAX)
		return sosie_err_set(err, SOSIE_ECONFIG,
		                     "the tenant %s has %u keys, revoked ones included: no more are taken",
		                     tenant, SOSIE_KEYS_MAX);
	return 0;
}

static int add(struct sosie_store *store, const char *tenant, const struct sosie_key *k,
               struct sosie_err *err)
{
	struct audit_log *log;
	struct key_fold *fold;
	struct sosie_file *lock;
	bool there = false;
	int rc = begin(store, tenant, &log, &lock, &fold, err);
	if (!rc)
		rc = check_place(fold, tenant, k, &there, err);
	if (!rc && !there)
		rc = audit_append_locked(store, log, SOSIE_AUDIT_KEY_ADD, add_body(k), NULL, err);
	if (!rc && k->use == SOSIE_KEY_SSH)
		rc = write_copy(store, tenant, k, err);
	sosie_io_close(store->io, lock, NULL);
	return rc;
}

int sosie_key_add(struct sosie_store *store, const char *tenant, const char *line, size_t len,
                  enum sosie_key_use use, const struct sosie_name *groups, unsigned group_count,
                  struct sosie_key_info *out, struct sosie_err *err)
{
	struct sosie_key k;
	struct sosie_name name;
	uint64_t quota;
	memset(&k, 0, sizeof(k));
	k.use = use;
	int rc = sosie_name_set(&name, SOSIE_NAME_TENANT, tenant, err);
	if (!rc)
		rc = tenant_quota(store, tenant, &quota, err);
	if (!rc)
		rc = key_parse(line, len, &k.info, err);
	if (!rc)
		rc = check_use(&k, err);
	if (!rc)
		rc = set_groups(&k, groups, group_count, err);
	if (!rc)
		rc = add(store, tenant, &k, err);
	if (!rc)
		*out = k.info;
	return rc;
}

/* --- revoking
 * --------------------------------------------------------------------------------------------------- */

struct held {
	struct sosie_name name;
	/* Locked, or NULL: its chain cannot be read, so nothing is accepted, and nobody knows how many points
	 * it has. */
	struct sosie_group *group;
};

struct revoking {
	struct sosie_store *store;
	const char *tenant;
	struct sosie_key signing; /* the key as it signs, when it does: as the log says, under its lock */
	bool signs;
	struct held *held; /* ascending by name */
	unsigned known;    /* of which so many were there before the last listing */
	unsigned count, room;
	int rc;
	struct sosie_err *err;
};

static int by_name(const void *a, const void *b)
{
	const struct held *x = a, *y = b;
	return strcmp(x->name.s, y->name.s);
}

static int note_group(void *arg, const struct sosie_name *name)
{
	struct revoking *r = arg;
	const struct held wanted = {.name = *name};
	if (!keys_cover(&r->signing, name->s) ||
	    (r->known && bsearch(&wanted, r->held, r->known, sizeof(wanted), by_name)))
		return 0;
	if (r->count == r->room) {
		unsigned room = r->room ? 2 * r->room : 16;
		struct held *grown = reallocarray(r->held, room, sizeof(*grown));
		if (!grown)
			r->rc = sosie_err_set(r->err, SOSIE_ENOMEM, "no memory for a tenant's groups");
		if (!grown)
			return 1;
		r->held = grown;
		r->room = room;
	}
	r->held[r->count++] = (struct held){.name = *name};
	return 0;
}

/* The groups that the key is for and that are not held yet, behind those that are. */
static int list_groups(struct revoking *r)
{
	r->known = r->count;
	int rc = sosie_store_groups(r->store, r->tenant, note_group, r, r->err);
	return r->rc ? r->rc : rc;
}

/* In the order of their names, as every revocation does. A group whose chain is damaged holds up nothing. */
static int hold_listed(struct revoking *r)
{
	int rc = 0;
	for (unsigned i = r->known; !rc && i < r->count; i++) {
		struct held *h = &r->held[i];
		rc = sosie_group_open(r->store, r->tenant, h->name.s, &h->group, r->err);
		if (!rc)
			rc = sosie_group_lock(h->group, "sosie key revoke", GROUP_WAIT_MS, r->err);
		if (rc == -SOSIE_ECORRUPT) {
			sosie_group_close(h->group);
			h->group = NULL;
			rc = 0;
		}
	}
	if (rc == -SOSIE_EBUSY)
		sosie_err_action(r->err, "the key is NOT revoked: run the same command again, or stop "
		                         "sosie-keeper first");
	if (r->count > 1)
		qsort(r->held, r->count, sizeof(*r->held), by_name);
	return rc;
}

static void let_go(struct revoking *r)
{
	for (unsigned i = 0; i < r->count; i++)
		sosie_group_close(r->held[i].group);
	free(r->held);
	r->held = NULL;
	r->count = r->known = r->room = 0;
}

static struct sosie_json *revoke_body(const struct revoking *r, const char *id, const char *reason,
                                      unsigned first, unsigned end)
{
	char text[REASON_MAX];
	struct sosie_json *j = sosie_json_new(), *points = NULL, *unknown = NULL;
	sosie_json_set_str(j, "key", id);
	sosie_json_set_str(j, "reason",
	                   reason ? sosie_escape(text, sizeof(text), reason, strlen(reason)) : NULL);
	if (r->signs)
		points = sosie_json_add_obj(j, "points");
	for (unsigned i = first; i < end; i++) {
		if (!keys_cover(&r->signing, r->held[i].name.s))
			continue; /* not any more, since it was held */
		if (r->held[i].group)
			sosie_json_set_u64(points, r->held[i].name.s, sosie_group_points(r->held[i].group));
		else if (unknown || (unknown = sosie_json_add_arr(j, "unknown")))
			sosie_json_push_str(unknown, r->held[i].name.s);
	}
	if (end < r->count)
		sosie_json_set_bool(j, "more", true);
	return j;
}

static int append_revoke(const struct revoking *r, struct audit_log *log, const char *id, const char *reason)
{
	unsigned first = 0;
	int rc;
	do {
		unsigned end = r->count - first > POINTS_IN_ENTRY ? first + POINTS_IN_ENTRY : r->count;
		rc = audit_append_locked(r->store, log, SOSIE_AUDIT_KEY_REVOKE,
		                         revoke_body(r, id, reason, first, end), NULL, r->err);
		first = end;
	} while (!rc && first < r->count);
	return rc;
}

static bool active(const struct key_fold *fold, const char *id, enum sosie_key_use use)
{
	const struct key_record *k = keys_find(fold, id, use);
	return k && !k->key.revoked_ms;
}

/*
 * The log, locked, with all groups held that the key is for. A group may have come while locks were waited
 * for: the log's is let go to hold it too, since a group's comes before the log's. What comes between the
 * last listing and the entry is refused by the acceptance's second look at the key.
 */
static int hold_all(struct revoking *r, const char *id, struct audit_log **log, struct key_fold **fold,
                    struct sosie_file **lock)
{
	for (unsigned round = 0; round < HOLD_ROUNDS; round++) {
		int rc = begin(r->store, r->tenant, log, lock, fold, r->err);
		const struct key_record *k = rc ? NULL : keys_find(*fold, id, SOSIE_KEY_SIGNING);
		r->signs = k && !k->key.revoked_ms;
		if (!r->signs)
			let_go(r);
		if (!r->signs)
			return rc;
		r->signing = k->key;
		rc = list_groups(r);
		if (rc || r->known == r->count)
			return rc;
		sosie_io_close(r->store->io, *lock, NULL);
		*lock = NULL;
		rc = hold_listed(r);
		if (rc)
			return rc;
	}
	sosie_err_set(r->err, SOSIE_EBUSY, "groups of the tenant %s come faster than they can be locked",
	              r->tenant);
	return sosie_err_action(r->err,
	                        "the key is NOT revoked: stop sosie-keeper, then run the same command "
	                        "again");
}

/* On a full disk what needs no room is done all the same: who has the key stays out. */
static int shut_out(struct revoking *r, const char *id)
{
	char path[STORE_PATH];
	if (keys_copy_path(r->store, r->tenant, id, path, NULL) || !sosie_io_exists(r->store->io, path) ||
	    remove_copy(r->store, r->tenant, id, NULL))
		return -SOSIE_ENOSPACE;
	return sosie_err_action(
	        r->err, "receivers refuse the key from now on (its file in _keys is removed), but the "
	                "log does not say so: make room, then run the same command again");
}

static int revoke(struct revoking *r, const char *id, const char *reason)
{
	struct audit_log *log;
	struct key_fold *fold;
	struct sosie_file *lock = NULL;
	int rc = hold_all(r, id, &log, &fold, &lock);
	if (!rc && (active(fold, id, SOSIE_KEY_SSH) || r->signs))
		rc = append_revoke(r, log, id, reason);
	if (!rc)
		rc = remove_copy(r->store, r->tenant, id, r->err);
	else if (rc == -SOSIE_ENOSPACE)
		rc = shut_out(r, id);
	sosie_io_close(r->store->io, lock, NULL);
	return rc;
}

/* The key's id. */
static int find_key(struct revoking *r, const char *wanted, char id[17])
{
	struct sosie_key *keys;
	unsigned count;
	char shown[80];
	int rc = sosie_keys(r->store, r->tenant, &keys, &count, r->err);
	id[0] = '\0';
	for (unsigned i = 0; !rc && i < count; i++) {
		const struct sosie_key *k = &keys[i];
		if (strcmp(k->info.id, wanted) != 0 && strcmp(k->info.fingerprint, wanted) != 0)
			continue;
		memcpy(id, k->info.id, sizeof(k->info.id));
	}
	free(keys);
	if (rc || id[0])
		return rc;
	sosie_err_set(r->err, SOSIE_ENOTFOUND, "the tenant %s has no key %s", r->tenant,
	              sosie_escape(shown, sizeof(shown), wanted, strlen(wanted)));
	return sosie_err_action(r->err, "see them with: sosie key list %s", r->tenant);
}

int sosie_key_revoke(struct sosie_store *store, const char *tenant, const char *id, const char *reason,
                     struct sosie_err *err)
{
	struct revoking r = {.store = store, .tenant = tenant, .err = err};
	struct sosie_name name;
	uint64_t quota;
	char found[17];
	int rc = sosie_name_set(&name, SOSIE_NAME_TENANT, tenant, err);
	if (!rc)
		rc = tenant_quota(store, tenant, &quota, err);
	if (!rc)
		rc = find_key(&r, id, found);
	if (!rc)
		rc = revoke(&r, found, reason);
	let_go(&r);
	return rc;
}

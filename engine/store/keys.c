/* SPDX-License-Identifier: MIT */
/* Which keys a tenant has: key-add and key-revoke entries of its log, folded (keys.h). */
#include <stdlib.h>
#include <string.h>

#include "engine/store/keys.h"

#define COPY_NAME 21u /* "0123456789abcdef.json" */
#define LIMITS_MAX 65536u

const char *key_use_name(enum sosie_key_use use)
{
	return use == SOSIE_KEY_SIGNING ? "signing" : "ssh";
}

/* --- reading members
 * -------------------------------------------------------------------------------------------- */

static int copy_text(const struct sosie_json *obj, const char *key, char *dst, size_t size,
                     struct sosie_err *err)
{
	const char *text;
	int rc = sosie_json_str(obj, key, size - 1, &text, err);
	if (!rc)
		memcpy(dst, text, strlen(text) + 1);
	return rc;
}

static int read_id(const struct sosie_json *obj, char id[17], struct sosie_err *err)
{
	uint8_t bytes[8];
	int rc = sosie_json_hex(obj, "key", bytes, sizeof(bytes), err);
	if (!rc)
		sosie_hex(id, bytes, sizeof(bytes));
	return rc;
}

static int read_use(const struct sosie_json *obj, enum sosie_key_use *use, struct sosie_err *err)
{
	const char *text;
	int rc = sosie_json_str(obj, "use", 16, &text, err);
	if (rc)
		return rc;
	*use = strcmp(text, "signing") == 0 ? SOSIE_KEY_SIGNING : SOSIE_KEY_SSH;
	if (*use == SOSIE_KEY_SSH && strcmp(text, "ssh") != 0)
		return sosie_err_set(err, SOSIE_ECORRUPT, "the use of key is not known");
	return 0;
}

static int read_groups(const struct sosie_json *obj, struct sosie_key *k, struct sosie_err *err)
{
	struct sosie_json *groups;
	const char *name;
	size_t count;
	int rc;
	if (!sosie_json_has(obj, "groups"))
		return 0;
	rc = sosie_json_arr(obj, "groups", SOSIE_KEY_GROUPS_MAX, &groups, &count, err);
	for (size_t i = 0; !rc && i < count; i++) {
		rc = sosie_json_str_at(groups, i, SOSIE_NAME_MAX, &name, err);
		if (!rc)
			rc = sosie_name_set(&k->groups[k->group_count++], SOSIE_NAME_GROUP, name, err);
	}
	return rc;
}

/* type, blob, comment, fingerprint: of an entry and of a copy alike. */
static int read_info(const struct sosie_json *obj, struct sosie_key_info *info, struct sosie_err *err)
{
	int rc = copy_text(obj, "type", info->type, sizeof(info->type), err);
	if (!rc)
		rc = copy_text(obj, "blob", info->blob, sizeof(info->blob), err);
	if (!rc)
		rc = copy_text(obj, "comment", info->comment, sizeof(info->comment), err);
	return rc ? rc : copy_text(obj, "fingerprint", info->fingerprint, sizeof(info->fingerprint), err);
}

/* --- the fold
 * --------------------------------------------------------------------------------------------------- */

struct key_record *keys_find(const struct key_fold *fold, const char *id, enum sosie_key_use use)
{
	for (unsigned i = 0; i < fold->count; i++)
		if (fold->records[i].key.use == use && strcmp(fold->records[i].key.info.id, id) == 0)
			return &fold->records[i];
	return NULL;
}

bool keys_cover(const struct sosie_key *key, const char *group)
{
	for (unsigned i = 0; i < key->group_count; i++)
		if (strcmp(key->groups[i].s, group) == 0)
			return true;
	return key->group_count == 0;
}

static int record_new(struct key_fold *fold, struct key_record **out, struct sosie_err *err)
{
	if (fold->count == SOSIE_KEYS_MAX)
		return sosie_err_set(err, SOSIE_ECORRUPT, "more than %u keys are in the audit log",
		                     SOSIE_KEYS_MAX);
	if (fold->count == fold->room) {
		unsigned room = fold->room ? 2 * fold->room : 4;
		struct key_record *grown = reallocarray(fold->records, room, sizeof(*grown));
		if (!grown)
			return sosie_err_set(err, SOSIE_ENOMEM, "no memory for a tenant's keys");
		fold->records = grown;
		fold->room = room;
	}
	*out = &fold->records[fold->count++];
	memset(*out, 0, sizeof(**out));
	return 0;
}

/* Where the group's limit is, or would be. */
static bool limit_find(const struct key_record *r, const char *name, unsigned *at)
{
	unsigned low = 0, high = r->limit_count;
	while (low < high) {
		unsigned i = low + (high - low) / 2;
		if (strcmp(r->limits[i].group.s, name) < 0)
			low = i + 1;
		else
			high = i;
	}
	*at = low;
	return low < r->limit_count && strcmp(r->limits[low].group.s, name) == 0;
}

/* The group's limit, made when there is none. */
static int limit_of(struct key_record *r, const char *name, struct key_limit **out, struct sosie_err *err)
{
	struct sosie_name group;
	unsigned at;
	int rc = sosie_name_set(&group, SOSIE_NAME_GROUP, name, err);
	if (rc)
		return rc;
	bool there = limit_find(r, name, &at);
	if (!there && r->limit_count == r->limit_room) {
		unsigned room = r->limit_room ? 2 * r->limit_room : 8;
		struct key_limit *grown =
		        room > LIMITS_MAX ? NULL : reallocarray(r->limits, room, sizeof(*grown));
		if (!grown)
			return sosie_err_set(err, SOSIE_ENOMEM, "no memory for the points of a key");
		r->limits = grown;
		r->limit_room = room;
	}
	*out = &r->limits[at];
	if (there)
		return 0;
	memmove(*out + 1, *out, (r->limit_count++ - at) * sizeof(**out));
	**out = (struct key_limit){.group = group};
	return 0;
}

/* What it is for from now on, beside what it was for. */
static int take_key(struct key_record *r, const struct sosie_key *k, struct sosie_err *err)
{
	struct key_limit *limit;
	int rc = 0;
	for (unsigned i = 0; !rc && i < k->group_count; i++)
		rc = limit_of(r, k->groups[i].s, &limit, err);
	r->ever_all |= k->group_count == 0;
	r->key = *k;
	return rc;
}

static int fold_add(struct key_fold *fold, const struct sosie_json *body, int64_t time_ms,
                    struct sosie_err *err)
{
	struct sosie_key k;
	memset(&k, 0, sizeof(k));
	int rc = read_id(body, k.info.id, err);
	if (!rc)
		rc = read_use(body, &k.use, err);
	if (!rc)
		rc = read_info(body, &k.info, err);
	if (!rc)
		rc = read_groups(body, &k, err);
	k.added_ms = time_ms;
	if (!rc && sosie_json_has(body, "added"))
		rc = layout_json_time(body, "added", &k.added_ms, err);
	if (rc)
		return rc;
	struct key_record *r = keys_find(fold, k.info.id, k.use);
	if (!r)
		rc = record_new(fold, &r, err);
	return rc ? rc : take_key(r, &k, err);
}

struct limits {
	struct key_record *record;
	const struct sosie_json *points;
	struct sosie_err *err;
};

/* Of two revocations the later one tells the higher point: chains only grow. */
static int take_limit(void *arg, const char *name)
{
	const struct limits *l = arg;
	struct key_limit *limit;
	uint64_t point;
	int rc = limit_of(l->record, name, &limit, l->err);
	if (!rc)
		rc = sosie_json_u64(l->points, name, INT64_MAX, &point, l->err);
	if (!rc && point > limit->until)
		limit->until = point;
	return rc;
}

/* Groups whose chains could not be read: the time says which points were there. */
static int take_unknown(struct key_record *r, const struct sosie_json *body, int64_t time_ms,
                        struct sosie_err *err)
{
	struct sosie_json *names;
	struct key_limit *limit;
	const char *name;
	size_t count;
	int rc = sosie_json_arr(body, "unknown", LIMITS_MAX, &names, &count, err);
	for (size_t i = 0; !rc && i < count; i++) {
		rc = sosie_json_str_at(names, i, SOSIE_NAME_MAX, &name, err);
		if (!rc)
			rc = limit_of(r, name, &limit, err);
		if (!rc && time_ms > limit->until_ms)
			limit->until_ms = time_ms;
	}
	return rc;
}

/* An entry with "more" only tells points: there were too many groups for one. */
static int fold_revoke(struct key_fold *fold, const struct sosie_json *body, int64_t time_ms,
                       struct sosie_err *err)
{
	static const enum sosie_key_use uses[] = {SOSIE_KEY_SSH, SOSIE_KEY_SIGNING};
	char id[17];
	struct sosie_json *points = NULL;
	int rc = read_id(body, id, err);
	if (!rc && sosie_json_has(body, "points"))
		rc = sosie_json_obj(body, "points", &points, err);
	for (unsigned i = 0; !rc && i < 2; i++) {
		struct limits l = {.record = keys_find(fold, id, uses[i]), .points = points, .err = err};
		if (!l.record || l.record->key.revoked_ms)
			continue;
		if (points && uses[i] == SOSIE_KEY_SIGNING)
			rc = sosie_json_names(points, take_limit, &l);
		if (!rc && uses[i] == SOSIE_KEY_SIGNING && sosie_json_has(body, "unknown"))
			rc = take_unknown(l.record, body, time_ms, err);
		if (!rc && !sosie_json_has(body, "more"))
			l.record->key.revoked_ms = time_ms > 0 ? time_ms : 1;
	}
	return rc;
}

struct folding {
	struct key_fold *fold;
	const struct audit_log *log;
	int rc;
	struct sosie_err *err;
};

static int fold_entry(void *arg, const struct chain_entry *e, const void *text)
{
	struct folding *f = arg;
	struct sosie_json *body;
	if (e->kind != SOSIE_AUDIT_KEY_ADD && e->kind != SOSIE_AUDIT_KEY_REVOKE)
		return 0;
	f->rc = sosie_json_parse(text, e->body_len, AUDIT_BODY_MAX, &body, f->err);
	if (!f->rc) {
		f->rc = e->kind == SOSIE_AUDIT_KEY_ADD ? fold_add(f->fold, body, e->time_ms, f->err)
		                                       : fold_revoke(f->fold, body, e->time_ms, f->err);
		sosie_json_free(body);
	}
	if (f->rc) {
		sosie_err_wrap(f->err, "entry %llu of the audit log", (unsigned long long)e->point);
		sosie_err_where(f->err, "%s", f->log->dir);
	}
	return f->rc != 0;
}

void keys_fold_free(struct key_fold *fold)
{
	if (!fold)
		return;
	for (unsigned i = 0; i < fold->count; i++)
		free(fold->records[i].limits);
	free(fold->records);
	free(fold);
}

int keys_fold(struct sosie_store *store, struct audit_log *log, struct key_fold **out, struct sosie_err *err)
{
	struct audit_stamp now;
	int rc = audit_stamp_now(store, log, &now, err);
	*out = log->keys;
	if (rc || (log->keys && now.file == log->keys->stamp.file && now.ino == log->keys->stamp.ino &&
	           now.size == log->keys->stamp.size))
		return rc;
	keys_fold_free(log->keys);
	log->keys_mended = false;
	log->keys = calloc(1, sizeof(*log->keys));
	if (!log->keys)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for a tenant's keys");
	struct folding f = {.fold = log->keys, .log = log, .err = err};
	rc = audit_read(store, log, fold_entry, &f, &log->keys->stamp, err);
	rc = f.rc ? f.rc : rc;
	if (rc < 0) {
		keys_fold_free(log->keys);
		log->keys = NULL;
	}
	*out = log->keys;
	return rc;
}

/* --- copies without an entry
 * ------------------------------------------------------------------------------------ */

int keys_copy_path(const struct sosie_store *store, const char *tenant, const char *id, char dst[STORE_PATH],
                   struct sosie_err *err)
{
	return store_path(dst, err, "%s/%s/_keys/%s.json", store->path, tenant, id);
}

static int read_copy(struct sosie_store *store, const char *path, struct sosie_key *k, struct sosie_err *err)
{
	static const char *const keys[] = {"format",  "use",         "type",  "blob",
	                                   "comment", "fingerprint", "added", NULL};
	struct sosie_json *j;
	int rc = layout_read_json(store->io, path, keys, &j, err);
	if (rc)
		return rc;
	k->use = SOSIE_KEY_SSH;
	rc = read_info(j, &k->info, err);
	if (!rc)
		rc = layout_json_time(j, "added", &k->added_ms, err);
	if (rc)
		sosie_err_where(err, "%s", path);
	sosie_json_free(j);
	return rc;
}

struct search {
	struct sosie_store *store;
	const char *tenant;
	const struct key_fold *fold;
	struct sosie_key *list;
	unsigned count;
	int rc;
	struct sosie_err *err;
};

static int find_copy(void *arg, const char *name, enum sosie_file_kind kind)
{
	struct search *s = arg;
	struct sosie_key *grown, *k;
	char path[STORE_PATH], id[17];
	uint8_t bytes[8];
	if (kind != SOSIE_KIND_FILE || strlen(name) != COPY_NAME || strcmp(name + 16, ".json") != 0)
		return 0;
	memcpy(id, name, 16);
	id[16] = '\0';
	if (!sosie_unhex(bytes, sizeof(bytes), id) || keys_find(s->fold, id, SOSIE_KEY_SSH))
		return 0;
	if (s->fold->count + s->count >= SOSIE_KEYS_MAX)
		s->rc = sosie_err_set(s->err, SOSIE_ECONFIG, "the tenant %s has more than %u keys", s->tenant,
		                      SOSIE_KEYS_MAX);
	grown = s->rc ? NULL : reallocarray(s->list, s->count + 1, sizeof(*grown));
	if (!grown && !s->rc)
		s->rc = sosie_err_set(s->err, SOSIE_ENOMEM, "no memory for a tenant's keys");
	if (s->rc)
		return 1;
	s->list = grown;
	k = &grown[s->count++];
	memset(k, 0, sizeof(*k));
	memcpy(k->info.id, id, sizeof(id));
	s->rc = keys_copy_path(s->store, s->tenant, id, path, s->err);
	if (!s->rc)
		s->rc = read_copy(s->store, path, k, s->err);
	return s->rc != 0;
}

static int oldest_first(const void *a, const void *b)
{
	const struct sosie_key *x = a, *y = b;
	return x->added_ms != y->added_ms ? (x->added_ms > y->added_ms) - (x->added_ms < y->added_ms)
	                                  : strcmp(x->info.id, y->info.id);
}

int keys_found(struct sosie_store *store, const char *tenant, const struct key_fold *fold,
               struct sosie_key **out, unsigned *count, struct sosie_err *err)
{
	struct search s = {.store = store, .tenant = tenant, .fold = fold, .err = err};
	char dir[STORE_PATH];
	*out = NULL;
	*count = 0;
	int rc = store_path(dir, err, "%s/%s/_keys", store->path, tenant);
	if (!rc)
		rc = sosie_io_list(store->io, dir, find_copy, &s, err);
	rc = s.rc ? s.rc : rc < 0 ? rc : 0;
	if (rc) {
		free(s.list);
		return rc;
	}
	if (s.count > 1)
		qsort(s.list, s.count, sizeof(*s.list), oldest_first);
	*out = s.list;
	*count = s.count;
	return 0;
}

/* --- telling
 * ---------------------------------------------------------------------------------------------------- */

int sosie_keys(struct sosie_store *store, const char *tenant, struct sosie_key **keys, unsigned *count,
               struct sosie_err *err)
{
	struct audit_log *log;
	struct key_fold *fold = NULL;
	struct sosie_key *all, *found;
	unsigned n = 0;
	*keys = NULL;
	*count = 0;
	int rc = audit_log_get(store, tenant, &log, err);
	if (!rc)
		rc = keys_fold(store, log, &fold, err);
	if (!rc)
		rc = keys_found(store, tenant, fold, &found, &n, err);
	if (rc || n + fold->count == 0)
		return rc;
	all = reallocarray(found, n + fold->count, sizeof(*all));
	if (!all) {
		free(found);
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for a tenant's keys");
	}
	for (unsigned i = 0; i < fold->count; i++)
		all[n++] = fold->records[i].key;
	*keys = all;
	*count = n;
	return 0;
}

bool keys_signing(const struct key_record *r, const char *group, struct sosie_signing_key *out)
{
	unsigned at;
	memset(out, 0, sizeof(*out));
	if (r->key.use != SOSIE_KEY_SIGNING)
		return false;
	if (limit_find(r, group, &at)) {
		out->until = r->limits[at].until;
		out->until_ms = r->limits[at].until_ms;
	} else if (!r->ever_all) {
		return false;
	}
	if (!r->key.revoked_ms && keys_cover(&r->key, group))
		out->until = UINT64_MAX;
	memcpy(out->id, r->key.info.id, sizeof(out->id));
	return key_ed25519(&r->key.info, out->key);
}

int sosie_signing_keys(struct sosie_store *store, const char *tenant, const char *group,
                       struct sosie_signing_key **keys, unsigned *count, struct sosie_err *err)
{
	struct audit_log *log;
	struct key_fold *fold = NULL;
	*keys = NULL;
	*count = 0;
	int rc = audit_log_get(store, tenant, &log, err);
	if (!rc)
		rc = keys_fold(store, log, &fold, err);
	for (unsigned i = 0; !rc && i < fold->count; i++) {
		struct sosie_signing_key k;
		if (!keys_signing(&fold->records[i], group, &k))
			continue;
		if (!*keys && !(*keys = calloc(fold->count, sizeof(**keys))))
			rc = sosie_err_set(err, SOSIE_ENOMEM, "no memory for a tenant's keys");
		else
			(*keys)[(*count)++] = k;
	}
	return rc;
}

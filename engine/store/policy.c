/* SPDX-License-Identifier: MIT */
/*
 * Policies: STORE/policy.json, STORE/TENANT/policy.json, STORE/TENANT/GROUP/policy.json (docs/format.md,
 * "Policies"), each read whole and replaced durably under STORE/policy.lock. What holds for a group is put
 * together key by key, the nearest level first. Changes that wait are in the file of their level and count
 * from their time on, whoever reads; they become values when the file is written next.
 *
 * The audit entry comes before the file: a change in force is always in the log.
 */
#include "engine/store/policy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sosie/audit.h"

#define DELAY_MS (7ull * 86400000)
#define LOCK_POLL_MS 20
#define LOCK_WAIT_MS 10000
#define SLOTS_MAX 100000u                      /* of hours, days … */
#define SPAN_MAX_MS (1000ull * 366 * 86400000) /* durations: a thousand years */

static const struct {
	const char *name;
	enum sosie_policy_unit unit;
	uint64_t max;
} keys[SOSIE_POLICY_KEYS] = {
        [SOSIE_POLICY_FLOOR_ALL] = {"floor.all", SOSIE_POLICY_MS, SPAN_MAX_MS},
        [SOSIE_POLICY_FLOOR_HOURLY] = {"floor.hourly", SOSIE_POLICY_COUNT, SLOTS_MAX},
        [SOSIE_POLICY_FLOOR_DAILY] = {"floor.daily", SOSIE_POLICY_COUNT, SLOTS_MAX},
        [SOSIE_POLICY_FLOOR_WEEKLY] = {"floor.weekly", SOSIE_POLICY_COUNT, SLOTS_MAX},
        [SOSIE_POLICY_FLOOR_MONTHLY] = {"floor.monthly", SOSIE_POLICY_COUNT, SLOTS_MAX},
        [SOSIE_POLICY_WISH_ALL] = {"wish.all", SOSIE_POLICY_MS, SPAN_MAX_MS},
        [SOSIE_POLICY_WISH_HOURLY] = {"wish.hourly", SOSIE_POLICY_COUNT, SLOTS_MAX},
        [SOSIE_POLICY_WISH_DAILY] = {"wish.daily", SOSIE_POLICY_COUNT, SLOTS_MAX},
        [SOSIE_POLICY_WISH_WEEKLY] = {"wish.weekly", SOSIE_POLICY_COUNT, SLOTS_MAX},
        [SOSIE_POLICY_WISH_MONTHLY] = {"wish.monthly", SOSIE_POLICY_COUNT, SLOTS_MAX},
        [SOSIE_POLICY_RPO] = {"rpo", SOSIE_POLICY_MS, SPAN_MAX_MS},
        [SOSIE_POLICY_FOLD_BYTES] = {"fold_bytes", SOSIE_POLICY_BYTES, INT64_MAX / 8},
        [SOSIE_POLICY_FOLD_POINTS] = {"fold_points", SOSIE_POLICY_COUNT, INT64_MAX / 8},
        [SOSIE_POLICY_DELAY] = {"delay", SOSIE_POLICY_MS, SPAN_MAX_MS},
        [SOSIE_POLICY_QUOTA] = {"quota", SOSIE_POLICY_BYTES, INT64_MAX},
};

const char *sosie_policy_name(enum sosie_policy_key key)
{
	return keys[key].name;
}

enum sosie_policy_unit sosie_policy_unit(enum sosie_policy_key key)
{
	return keys[key].unit;
}

/* --- values as text
 * --------------------------------------------------------------------------------------------------- */

static bool find_key(const char *name, size_t len, enum sosie_policy_key *out)
{
	for (unsigned i = 0; i < SOSIE_POLICY_KEYS; i++)
		if (strlen(keys[i].name) == len && memcmp(keys[i].name, name, len) == 0) {
			*out = (enum sosie_policy_key)i;
			return true;
		}
	return false;
}

static int parse_count(const char *text, uint64_t *value, struct sosie_err *err)
{
	char shown[64];
	if (layout_number(text, "", value))
		return 0;
	return sosie_err_set(err, SOSIE_EUSAGE, "\"%s\" is no number of periods",
	                     sosie_escape(shown, sizeof(shown), text, strlen(text)));
}

static int parse_value(enum sosie_policy_key key, const char *text, uint64_t *value, struct sosie_err *err)
{
	int rc = keys[key].unit == SOSIE_POLICY_MS      ? sosie_duration_parse(text, value, err)
	         : keys[key].unit == SOSIE_POLICY_BYTES ? sosie_size_parse(text, value, err)
	                                                : parse_count(text, value, err);
	if (!rc && *value > keys[key].max)
		rc = sosie_err_set(err, SOSIE_EUSAGE, "the value of %s is too large", keys[key].name);
	if (!rc && *value == 0 && (key == SOSIE_POLICY_FOLD_BYTES || key == SOSIE_POLICY_FOLD_POINTS))
		rc = sosie_err_set(err, SOSIE_EUSAGE, "%s cannot be 0", keys[key].name);
	return rc;
}

int sosie_policy_parse(const char *text, enum sosie_policy_key *key, uint64_t *value, bool *inherit,
                       struct sosie_err *err)
{
	const char *equals = strchr(text, '=');
	char shown[64];
	*value = 0;
	*inherit = false;
	if (!equals || !find_key(text, (size_t)(equals - text), key)) {
		sosie_err_set(err, SOSIE_EUSAGE, "\"%s\" is no KEY=VALUE of a policy",
		              sosie_escape(shown, sizeof(shown), text, strlen(text)));
		return sosie_err_action(err,
		                        "keys: floor. or wish. with all, hourly, daily, weekly, monthly; "
		                        "rpo, quota, fold_bytes, fold_points, delay");
	}
	*inherit = strcmp(equals + 1, "inherit") == 0;
	return *inherit ? 0 : parse_value(*key, equals + 1, value, err);
}

const char *sosie_policy_text(char *dst, size_t size, enum sosie_policy_key key, uint64_t value)
{
	if (key == SOSIE_POLICY_QUOTA && value == 0)
		snprintf(dst, size, "none");
	else if (keys[key].unit == SOSIE_POLICY_MS)
		sosie_duration_text(dst, size, value);
	else if (keys[key].unit == SOSIE_POLICY_BYTES)
		sosie_size_text(dst, size, value);
	else
		snprintf(dst, size, "%llu", (unsigned long long)value);
	return dst;
}

/* --- one file
 * ---------------------------------------------------------------------------------------------------------
 */

struct level {
	enum sosie_policy_level level;
	char dir[STORE_PATH];
	bool set[SOSIE_POLICY_KEYS];
	uint64_t value[SOSIE_POLICY_KEYS];
	unsigned change_count;
	struct sosie_policy_change changes[SOSIE_POLICY_PENDING_MAX];
};
/* The levels of a store, a tenant, a group; those that are not asked for are empty. */
struct levels {
	struct sosie_store *store;
	char tenant[SOSIE_NAME_MAX + 1];
	struct level at[3];
	uint64_t quota; /* tenant.json's */
};

static int level_path(const struct level *l, char dst[STORE_PATH], struct sosie_err *err)
{
	return store_path(dst, err, "%s/policy.json", l->dir);
}

static int read_values(const struct sosie_json *j, struct level *l, struct sosie_err *err)
{
	const char *names[SOSIE_POLICY_KEYS + 1] = {NULL};
	struct sosie_json *values;
	for (unsigned i = 0; i < SOSIE_POLICY_KEYS; i++)
		names[i] = keys[i].name;
	int rc = sosie_json_obj(j, "values", &values, err);
	if (!rc)
		rc = sosie_json_only(values, names, err);
	for (unsigned i = 0; !rc && i < SOSIE_POLICY_KEYS; i++)
		if ((l->set[i] = sosie_json_has(values, keys[i].name)))
			rc = sosie_json_u64(values, keys[i].name, keys[i].max, &l->value[i], err);
	return rc;
}

static int read_change(const struct sosie_json *obj, struct sosie_policy_change *c, struct sosie_err *err)
{
	static const char *const members[] = {"id", "key", "value", "asked", "from", NULL};
	const char *name = NULL;
	uint8_t id[8];
	int rc = sosie_json_only(obj, members, err);
	if (!rc)
		rc = sosie_json_hex(obj, "id", id, sizeof(id), err);
	if (!rc)
		rc = sosie_json_str(obj, "key", 32, &name, err);
	if (!rc && !find_key(name, strlen(name), &c->key))
		rc = sosie_err_set(err, SOSIE_ECORRUPT, "\"%s\" is no key of a policy", name);
	if (!rc)
		c->inherit = sosie_json_is_null(obj, "value");
	if (!rc && !c->inherit)
		rc = sosie_json_u64(obj, "value", keys[c->key].max, &c->value, err);
	if (!rc)
		rc = layout_json_time(obj, "asked", &c->asked_ms, err);
	if (!rc)
		rc = layout_json_time(obj, "from", &c->from_ms, err);
	if (!rc)
		sosie_hex(c->id, id, sizeof(id));
	return rc;
}

static int read_changes(const struct sosie_json *j, struct level *l, struct sosie_err *err)
{
	struct sosie_json *list, *one;
	size_t count = 0;
	int rc = sosie_json_arr(j, "changes", SOSIE_POLICY_PENDING_MAX, &list, &count, err);
	for (size_t i = 0; !rc && i < count; i++) {
		rc = sosie_json_at(list, i, &one, err);
		if (!rc)
			rc = read_change(one, &l->changes[i], err);
		l->changes[i].level = l->level;
	}
	l->change_count = rc ? 0 : (unsigned)count;
	return rc;
}

static int level_read(struct sosie_store *store, struct level *l, struct sosie_err *err)
{
	static const char *const members[] = {"format", "values", "changes", NULL};
	char path[STORE_PATH];
	struct sosie_json *j = NULL;
	int rc = level_path(l, path, err);
	if (!rc)
		rc = layout_read_json(store->io, path, members, &j, err);
	if (rc == -SOSIE_ENOTFOUND)
		return 0;
	if (!rc)
		rc = read_values(j, l, err);
	if (!rc)
		rc = read_changes(j, l, err);
	sosie_json_free(j);
	if (!rc)
		return 0;
	sosie_err_where(err, "%s", path);
	return sosie_err_action(err, "nothing is pruned until it is mended: the audit log has all changes");
}

static void write_change(struct sosie_json *list, const struct sosie_policy_change *c)
{
	struct sosie_json *obj = sosie_json_push_obj(list);
	sosie_json_set_str(obj, "id", c->id);
	sosie_json_set_str(obj, "key", keys[c->key].name);
	if (c->inherit)
		sosie_json_set_null(obj, "value");
	else
		sosie_json_set_u64(obj, "value", c->value);
	layout_set_time(obj, "asked", c->asked_ms);
	layout_set_time(obj, "from", c->from_ms);
}

static int level_write(struct sosie_store *store, const struct level *l, struct sosie_err *err)
{
	char path[STORE_PATH];
	int rc = level_path(l, path, err);
	if (rc)
		return rc;
	struct sosie_json *j = sosie_json_new();
	sosie_json_set_u64(j, "format", STORE_FORMAT);
	struct sosie_json *values = sosie_json_add_obj(j, "values");
	for (unsigned i = 0; i < SOSIE_POLICY_KEYS; i++)
		if (l->set[i])
			sosie_json_set_u64(values, keys[i].name, l->value[i]);
	struct sosie_json *changes = sosie_json_add_arr(j, "changes");
	for (unsigned i = 0; i < l->change_count; i++)
		write_change(changes, &l->changes[i]);
	return layout_write_json(store->io, path, j, 0640, err);
}

static void drop_change(struct level *l, unsigned i)
{
	l->change_count--;
	memmove(&l->changes[i], &l->changes[i + 1], (l->change_count - i) * sizeof(l->changes[0]));
}

static void level_put(struct level *l, enum sosie_policy_key key, uint64_t value, bool inherit)
{
	l->set[key] = !inherit;
	l->value[key] = inherit ? 0 : value;
}

/* What has come of age becomes a value. A quota waits for tenant.json (policy_ripen_quota). */
static void level_ripen(struct level *l, int64_t good_ms)
{
	for (unsigned i = 0; i < l->change_count;) {
		const struct sosie_policy_change *c = &l->changes[i];
		if (c->from_ms > good_ms || c->key == SOSIE_POLICY_QUOTA) {
			i++;
			continue;
		}
		level_put(l, c->key, c->value, c->inherit);
		drop_change(l, i);
	}
}

/* --- levels together
 * -------------------------------------------------------------------------------------------------- */

static int levels_read(struct sosie_store *store, const char *tenant, const char *group, struct levels *out,
                       struct sosie_err *err)
{
	memset(out, 0, sizeof(*out));
	out->store = store;
	for (unsigned i = 0; i < 3; i++)
		out->at[i].level = (enum sosie_policy_level)(SOSIE_LEVEL_STORE + i);
	int rc = store_path(out->at[0].dir, err, "%s", store->path);
	if (!rc)
		rc = level_read(store, &out->at[0], err);
	if (rc || !tenant)
		return rc;
	snprintf(out->tenant, sizeof(out->tenant), "%s", tenant);
	rc = tenant_quota(store, tenant, &out->quota, err);
	if (!rc)
		rc = store_path(out->at[1].dir, err, "%s/%s", store->path, tenant);
	if (!rc)
		rc = level_read(store, &out->at[1], err);
	if (rc || !group)
		return rc;
	rc = store_path(out->at[2].dir, err, "%s/%s/%s", store->path, tenant, group);
	return rc ? rc : level_read(store, &out->at[2], err);
}

/* The value of one level at a time, its changes that are of age by then taken into account. */
static bool level_value(const struct level *l, enum sosie_policy_key key, int64_t at_ms, uint64_t *value)
{
	bool set = l->set[key];
	int64_t from_ms = INT64_MIN;
	*value = l->value[key];
	for (unsigned i = 0; i < l->change_count; i++) {
		const struct sosie_policy_change *c = &l->changes[i];
		if (c->key != key || c->from_ms > at_ms || c->from_ms < from_ms)
			continue;
		from_ms = c->from_ms;
		set = !c->inherit;
		*value = c->value;
	}
	return set;
}

static uint64_t default_value(const struct levels *l, enum sosie_policy_key key)
{
	switch (key) {
	case SOSIE_POLICY_FOLD_BYTES:
		return l->store->info.policy.fold_bytes;
	case SOSIE_POLICY_FOLD_POINTS:
		return l->store->info.policy.fold_points;
	case SOSIE_POLICY_DELAY:
		return DELAY_MS;
	case SOSIE_POLICY_QUOTA:
		return l->quota;
	default:
		return 0;
	}
}

static struct sosie_policy_value value_at(const struct levels *l, enum sosie_policy_key key, int64_t at_ms)
{
	struct sosie_policy_value v = {.value = default_value(l, key),
	                               .set = key >= SOSIE_POLICY_FOLD_BYTES,
	                               .level = key == SOSIE_POLICY_QUOTA && l->tenant[0]
	                                                ? SOSIE_LEVEL_TENANT
	                                                : SOSIE_LEVEL_DEFAULT};
	for (unsigned i = 3; i-- > 0;) {
		uint64_t value;
		if (!level_value(&l->at[i], key, at_ms, &value))
			continue;
		v = (struct sosie_policy_value){.value = value, .set = true, .level = l->at[i].level};
		break;
	}
	return v;
}

static void view_at(const struct levels *l, int64_t at_ms, struct sosie_policy_view *out)
{
	memset(out, 0, sizeof(*out));
	out->keeps_all = out->wishes_all = true;
	for (unsigned i = 0; i < SOSIE_POLICY_KEYS; i++) {
		out->values[i] = value_at(l, (enum sosie_policy_key)i, at_ms);
		if (i <= SOSIE_POLICY_WISH_MONTHLY && out->values[i].set)
			out->keeps_all = false;
		if (i >= SOSIE_POLICY_WISH_ALL && i <= SOSIE_POLICY_WISH_MONTHLY && out->values[i].set)
			out->wishes_all = false;
	}
	for (unsigned k = 0; k < 3; k++)
		for (unsigned i = 0; i < l->at[k].change_count; i++)
			if (l->at[k].changes[i].from_ms > at_ms ||
			    l->at[k].changes[i].key == SOSIE_POLICY_QUOTA)
				out->changes[out->change_count++] = l->at[k].changes[i];
}

static int read_view(struct sosie_store *store, const char *tenant, const char *group, int64_t good_ms,
                     struct sosie_policy_view *out, struct sosie_err *err)
{
	struct levels *l = malloc(sizeof(*l));
	int rc = l ? levels_read(store, tenant, group, l, err)
	           : sosie_err_set(err, SOSIE_ENOMEM, "no memory to read a policy");
	if (!rc)
		view_at(l, good_ms, out);
	free(l);
	return rc;
}

int sosie_policy_view(struct sosie_store *store, const char *tenant, const char *group,
                      struct sosie_policy_view *out, struct sosie_err *err)
{
	struct sosie_clock_state clock;
	int rc = sosie_clock_look(store, &clock, err);
	return rc ? rc : read_view(store, tenant, group, clock.good_ms, out, err);
}

int policy_of_group(struct sosie_group *g, int64_t good_ms, struct sosie_policy_view *out,
                    struct sosie_err *err)
{
	return read_view(g->store, g->tenant.s, g->name.s, good_ms, out, err);
}

static void rule_of(const struct sosie_policy_view *view, enum sosie_policy_key first,
                    struct retain_rule *out)
{
	memset(out, 0, sizeof(*out));
	for (unsigned i = 0; i <= RETAIN_PERIODS; i++)
		out->set |= view->values[first + i].set;
	out->all_ms = view->values[first].value;
	for (unsigned i = 0; i < RETAIN_PERIODS; i++)
		out->last[i] = view->values[first + 1 + i].value;
}

void policy_rules(const struct sosie_policy_view *view, struct retain_policy *out)
{
	rule_of(view, SOSIE_POLICY_FLOOR_ALL, &out->floor);
	rule_of(view, SOSIE_POLICY_WISH_ALL, &out->wish);
}

void policy_fold(struct sosie_group *g, struct sosie_policy *out)
{
	struct sosie_policy_view *view = malloc(sizeof(*view));
	*out = g->store->info.policy;
	if (view && !policy_of_group(g, sosie_wall_ms(g->store->clock), view, NULL)) {
		out->fold_bytes = view->values[SOSIE_POLICY_FOLD_BYTES].value;
		out->fold_points = view->values[SOSIE_POLICY_FOLD_POINTS].value;
	}
	free(view);
}

/* --- may a point go by a change?
 * ---------------------------------------------------------------------------------------- */

/* Whether some point that stays by `was` may go by `now`, whatever the points are. */
static bool shortens(const struct sosie_policy_view *was, const struct sosie_policy_view *now)
{
	const struct sosie_policy_value *a = was->values, *b = now->values;
	if (b[SOSIE_POLICY_DELAY].value < a[SOSIE_POLICY_DELAY].value)
		return true;
	if (now->keeps_all)
		return false;
	if (was->keeps_all || (was->wishes_all && !now->wishes_all))
		return true;
	for (unsigned i = SOSIE_POLICY_FLOOR_ALL; i <= SOSIE_POLICY_FLOOR_MONTHLY; i++)
		if (b[i].value < a[i].value)
			return true;
	for (unsigned i = SOSIE_POLICY_WISH_ALL; !now->wishes_all && i <= SOSIE_POLICY_WISH_MONTHLY; i++)
		if (b[i].value < a[i].value)
			return true;
	/* Less room thins wishes. */
	const uint64_t quota = a[SOSIE_POLICY_QUOTA].value, less = b[SOSIE_POLICY_QUOTA].value;
	return less != quota && less != 0 && (quota == 0 || less < quota);
}

/* A change and all groups that it reaches. */
struct reach {
	struct sosie_store *store;
	const char *tenant;
	unsigned index; /* of the level that changes */
	const struct sosie_policy_change *change;
	int64_t good_ms;
	bool shortens;
	uint64_t delay_ms; /* the longest of those in force */
	struct levels *levels;
	struct sosie_policy_view *was, *now;
	int rc;
	struct sosie_err *err;
};

static void drop_key(struct level *l, enum sosie_policy_key key)
{
	for (unsigned i = 0; i < l->change_count;)
		if (l->changes[i].key == key)
			drop_change(l, i);
		else
			i++;
}

static void put_change(struct level *l, const struct sosie_policy_change *change)
{
	drop_key(l, change->key);
	level_put(l, change->key, change->value, change->inherit);
}

static int reach_one(struct reach *r, const char *tenant, const char *group)
{
	struct sosie_policy_view *was = r->was, *now = r->now;
	r->rc = levels_read(r->store, tenant, group, r->levels, r->err);
	if (r->rc)
		return r->rc;
	view_at(r->levels, r->good_ms, was);
	if (was->values[SOSIE_POLICY_DELAY].value > r->delay_ms)
		r->delay_ms = was->values[SOSIE_POLICY_DELAY].value;
	if (r->change->key == SOSIE_POLICY_QUOTA) {
		*now = *was;
		now->values[SOSIE_POLICY_QUOTA].value = r->change->value;
	} else {
		put_change(&r->levels->at[r->index], r->change);
		view_at(r->levels, r->good_ms, now);
	}
	r->shortens |= shortens(was, now);
	return 0;
}

static int reach_group(void *arg, const struct sosie_name *name)
{
	struct reach *r = arg;
	return reach_one(r, r->tenant, name->s) != 0;
}

static int reach_tenant(void *arg, const struct sosie_name *name)
{
	struct reach *r = arg;
	r->tenant = name->s;
	if (!reach_one(r, name->s, NULL)) {
		int rc = sosie_store_groups(r->store, name->s, reach_group, r, r->err);
		r->rc = r->rc ? r->rc : rc;
	}
	return r->rc != 0;
}

static int reach_all(struct reach *r, const char *tenant, const char *group)
{
	r->tenant = tenant;
	int rc = reach_one(r, tenant, group);
	if (!rc && tenant && !group)
		rc = sosie_store_groups(r->store, tenant, reach_group, r, r->err);
	else if (!rc && !tenant)
		rc = sosie_store_tenants(r->store, reach_tenant, r, r->err);
	return r->rc ? r->rc : rc;
}

/* --- changing
 * ---------------------------------------------------------------------------------------------------------
 */

int policy_lock(struct sosie_store *store, bool exclusive, int64_t wait_ms, struct sosie_file **out,
                struct sosie_err *err)
{
	const int64_t end = sosie_mono_ms(store->clock) + wait_ms;
	char path[STORE_PATH];
	*out = NULL;
	int rc = store_path(path, err, "%s/policy.lock", store->path);
	if (!rc)
		rc = sosie_io_openat(store->io, path, SOSIE_READ | SOSIE_WRITE | SOSIE_CREATE, 0640, out,
		                     err);
	if (rc)
		return rc;
	rc = sosie_io_lock(store->io, *out, exclusive, err);
	while (rc == -SOSIE_EBUSY && sosie_mono_ms(store->clock) < end) {
		sosie_sleep_ms(store->clock, LOCK_POLL_MS);
		rc = sosie_io_lock(store->io, *out, exclusive, err);
	}
	if (!rc)
		return 0;
	sosie_io_close(store->io, *out, NULL);
	*out = NULL;
	if (rc == -SOSIE_EBUSY) {
		sosie_err_set(err, SOSIE_EBUSY, "another process %s",
		              exclusive ? "prunes or changes a policy" : "changes a policy");
		rc = sosie_err_action(err, "try again");
	}
	return rc;
}

static int audit_change(struct sosie_store *store, const char *tenant, const char *group, const char *what,
                        const struct sosie_policy_change *c, struct sosie_err *err)
{
	struct sosie_json *j = sosie_json_new();
	sosie_json_set_str(j, "what", what);
	sosie_json_set_str(j, "group", group);
	sosie_json_set_str(j, "id", c->id);
	sosie_json_set_str(j, "key", keys[c->key].name);
	if (c->inherit)
		sosie_json_set_null(j, "value");
	else
		sosie_json_set_u64(j, "value", c->value);
	sosie_json_set_time(j, "from", c->from_ms);
	return sosie_audit_append(store, tenant, SOSIE_AUDIT_POLICY, j, NULL, err);
}

static int check_level(struct sosie_store *store, const char *tenant, const char *group,
                       enum sosie_policy_key key, bool inherit, struct sosie_err *err)
{
	char dir[STORE_PATH];
	if (key == SOSIE_POLICY_QUOTA && (!tenant || group || inherit)) {
		sosie_err_set(err, SOSIE_EUSAGE,
		              "a quota belongs to a tenant as a whole, and is not inherited");
		return sosie_err_action(err, "sosie policy set TENANT quota=SIZE; 0 for none");
	}
	if (!group)
		return 0; /* a tenant's tenant.json is read in any case */
	int rc = store_path(dir, err, "%s/%s/%s", store->path, tenant, group);
	if (rc || sosie_io_exists(store->io, dir))
		return rc;
	sosie_err_set(err, SOSIE_ENOTFOUND, "the tenant %s has no group %s", tenant, group);
	return sosie_err_action(err, "a group appears with its first point; a policy of the tenant holds for "
	                             "it from then on");
}

/* Receivers are told at once what is left of it. */
static int put_quota(struct sosie_store *store, const char *tenant, uint64_t quota, struct sosie_err *err)
{
	int rc = tenant_set_quota(store, tenant, quota, err);
	if (!rc)
		sosie_keeper_tenant(store, tenant, NULL);
	return rc;
}

/* The change into its file: as a value at once, or among those that wait; it takes the place of one of its
 * key that waits. */
static int store_change(struct sosie_store *store, struct level *l, const struct sosie_policy_change *c,
                        int64_t good_ms, struct sosie_err *err)
{
	const bool waits = c->from_ms != 0;
	level_ripen(l, good_ms);
	drop_key(l, c->key);
	if (waits && l->change_count == SOSIE_POLICY_PENDING_MAX)
		return sosie_err_set(err, SOSIE_EINTERNAL, "too many changes of a policy wait");
	if (waits)
		l->changes[l->change_count++] = *c;
	else if (c->key != SOSIE_POLICY_QUOTA)
		level_put(l, c->key, c->value, c->inherit);
	return level_write(store, l, err);
}

static int set_locked(struct reach *r, const char *tenant, const char *group, struct sosie_policy_change *c,
                      struct sosie_err *err)
{
	struct sosie_clock_state clock;
	struct sosie_store *store = r->store;
	uint8_t id[8];
	int rc = sosie_clock_look(store, &clock, err);
	if (!rc)
		rc = sosie_random(store->clock, id, sizeof(id), err);
	if (rc)
		return rc;
	sosie_hex(c->id, id, sizeof(id));
	r->good_ms = clock.good_ms;
	rc = reach_all(r, tenant, group);
	if (rc)
		return rc;
	/* What is asked for by a wrong clock would ripen at once when it is set right. */
	if (r->shortens && clock.jumped)
		return clock_refuse(&clock, "no change is taken that may let points go", err);
	c->asked_ms = clock.good_ms;
	c->from_ms = r->shortens && r->delay_ms ? c->asked_ms + (int64_t)r->delay_ms : 0;
	rc = audit_change(store, tenant, group, "set", c, err);
	if (!rc)
		rc = levels_read(store, tenant, group, r->levels, err);
	if (!rc && c->key == SOSIE_POLICY_QUOTA && c->from_ms == 0)
		rc = put_quota(store, tenant, c->value, err);
	return rc ? rc : store_change(store, &r->levels->at[r->index], c, clock.good_ms, err);
}

int sosie_policy_set(struct sosie_store *store, const char *tenant, const char *group,
                     enum sosie_policy_key key, uint64_t value, bool inherit, int64_t *from_ms,
                     struct sosie_err *err)
{
	struct sosie_policy_change change = {.key = key, .value = inherit ? 0 : value, .inherit = inherit};
	const unsigned index = group ? 2 : tenant ? 1 : 0;
	struct reach r = {.store = store, .index = index, .change = &change, .err = err};
	struct sosie_file *lock = NULL;
	int rc = check_level(store, tenant, group, key, inherit, err);
	change.level = (enum sosie_policy_level)(SOSIE_LEVEL_STORE + index);
	if (rc)
		return rc;
	r.levels = malloc(sizeof(*r.levels));
	r.was = malloc(sizeof(*r.was));
	r.now = malloc(sizeof(*r.now));
	rc = r.levels && r.was && r.now ? policy_lock(store, true, LOCK_WAIT_MS, &lock, err)
	                                : sosie_err_set(err, SOSIE_ENOMEM, "no memory to change a policy");
	if (!rc)
		rc = set_locked(&r, tenant, group, &change, err);
	sosie_io_close(store->io, lock, NULL);
	free(r.levels);
	free(r.was);
	free(r.now);
	if (from_ms)
		*from_ms = change.from_ms;
	return rc;
}

int policy_ripen_quota(struct sosie_store *store, const char *tenant, int64_t good_ms, struct sosie_err *err)
{
	struct levels *l = malloc(sizeof(*l));
	struct sosie_file *lock = NULL;
	int rc = l ? levels_read(store, tenant, NULL, l, err)
	           : sosie_err_set(err, SOSIE_ENOMEM, "no memory to read a policy");
	for (unsigned i = 0; !rc && i < l->at[1].change_count; i++) {
		if (l->at[1].changes[i].key != SOSIE_POLICY_QUOTA || l->at[1].changes[i].from_ms > good_ms)
			continue;
		rc = policy_lock(store, true, 0, &lock, err);
		if (!rc)
			rc = levels_read(store, tenant, NULL, l, err);
		if (!rc && i < l->at[1].change_count && l->at[1].changes[i].key == SOSIE_POLICY_QUOTA &&
		    l->at[1].changes[i].from_ms <= good_ms) {
			rc = put_quota(store, tenant, l->at[1].changes[i].value, err);
			drop_change(&l->at[1], i);
			if (!rc)
				rc = level_write(store, &l->at[1], err);
		}
		break;
	}
	sosie_io_close(store->io, lock, NULL);
	free(l);
	return rc;
}

/* --- cancelling
 * ------------------------------------------------------------------------------------------------------- */

struct cancelling {
	struct sosie_store *store;
	const char *id, *tenant;
	struct levels *levels;
	struct sosie_policy_change *out;
	int64_t good_ms;
	bool found;
	int rc;
	struct sosie_err *err;
};

/* In the file of one level; the lock is held. */
static int cancel_at(struct cancelling *x, const char *tenant, const char *group)
{
	const unsigned index = group ? 2 : tenant ? 1 : 0;
	struct level *l = &x->levels->at[index];
	x->rc = levels_read(x->store, tenant, group, x->levels, x->err);
	level_ripen(l, x->good_ms);
	for (unsigned i = 0; !x->rc && !x->found && i < l->change_count; i++) {
		if (strcmp(l->changes[i].id, x->id) != 0)
			continue;
		*x->out = l->changes[i];
		x->found = true;
		x->rc = audit_change(x->store, tenant, group, "cancel", x->out, x->err);
		drop_change(l, i);
		if (!x->rc)
			x->rc = level_write(x->store, l, x->err);
	}
	return x->rc || x->found;
}

static int cancel_group(void *arg, const struct sosie_name *name)
{
	struct cancelling *x = arg;
	return cancel_at(x, x->tenant, name->s);
}

static int cancel_tenant(void *arg, const struct sosie_name *name)
{
	struct cancelling *x = arg;
	x->tenant = name->s;
	if (!cancel_at(x, name->s, NULL)) {
		int rc = sosie_store_groups(x->store, name->s, cancel_group, x, x->err);
		x->rc = x->rc ? x->rc : rc;
	}
	return x->rc || x->found;
}

/* A change whose time has come is in force, and only another change takes it back. */
static int cancel_locked(struct cancelling *x, struct sosie_err *err)
{
	struct sosie_clock_state clock;
	char shown[64];
	int rc = sosie_clock_look(x->store, &clock, err);
	if (rc)
		return rc;
	x->good_ms = clock.good_ms;
	if (!cancel_at(x, NULL, NULL)) {
		rc = sosie_store_tenants(x->store, cancel_tenant, x, err);
		x->rc = x->rc ? x->rc : rc;
	}
	if (x->rc || x->found)
		return x->rc;
	sosie_err_set(err, SOSIE_ENOTFOUND, "no change %s of a policy waits",
	              sosie_escape(shown, sizeof(shown), x->id, strlen(x->id)));
	return sosie_err_action(err, "\"sosie policy show\" lists those that do");
}

int sosie_policy_cancel(struct sosie_store *store, const char *id, struct sosie_policy_change *out,
                        struct sosie_err *err)
{
	struct cancelling x = {.store = store, .id = id, .out = out, .err = err};
	struct sosie_file *lock = NULL;
	x.levels = malloc(sizeof(*x.levels));
	int rc = x.levels ? policy_lock(store, true, LOCK_WAIT_MS, &lock, err)
	                  : sosie_err_set(err, SOSIE_ENOMEM, "no memory to change a policy");
	if (!rc)
		rc = cancel_locked(&x, err);
	sosie_io_close(store->io, lock, NULL);
	free(x.levels);
	return rc;
}

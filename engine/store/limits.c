/* SPDX-License-Identifier: MIT */
/* Limits of a tenant as tenant.json has them: "quota", and "limits" with those that were set. */
#include <stdio.h>
#include <string.h>

#include "engine/store/policy.h"
#include "engine/store/quota.h"
#include "sosie/audit.h"

#define LOCK_WAIT_MS 10000

enum unit { UNIT_BYTES, UNIT_COUNT, UNIT_RATE, UNIT_SECONDS };

/* Rates are bounded so that what a bucket holds (quota.c) fits 63 bits. */
static const struct {
	const char *name;
	enum unit unit;
	uint64_t max, standard;
} limits[SOSIE_LIMITS] = {
        [SOSIE_LIMIT_QUOTA] = {"quota", UNIT_BYTES, INT64_MAX, 0},
        [SOSIE_LIMIT_SEGMENT] = {"segment", UNIT_BYTES, INT64_MAX, 64ull << 40},
        [SOSIE_LIMIT_VOLUME_BYTES] = {"volume_bytes", UNIT_BYTES, INT64_MAX, 256ull << 40},
        [SOSIE_LIMIT_GROUPS] = {"groups", UNIT_COUNT, 1u << 20, 1024},
        [SOSIE_LIMIT_GROUP_VOLUMES] = {"group_volumes", UNIT_COUNT, SOSIE_VOLUMES_MAX, SOSIE_VOLUMES_MAX},
        [SOSIE_LIMIT_VOLUMES] = {"volumes", UNIT_COUNT, 1u << 24, 16384},
        [SOSIE_LIMIT_POINTS] = {"points", UNIT_RATE, 1u << 20, 6000},
        [SOSIE_LIMIT_CPU] = {"cpu", UNIT_SECONDS, 60000, 60},
};

const char *sosie_limit_name(enum sosie_limit limit)
{
	return limits[limit].name;
}

/* --- as text
 * ------------------------------------------------------------------------------------------------------ */

static bool find_limit(const char *name, size_t len, enum sosie_limit *out)
{
	for (unsigned i = 0; i < SOSIE_LIMITS; i++)
		if (strlen(limits[i].name) == len && memcmp(limits[i].name, name, len) == 0) {
			*out = (enum sosie_limit)i;
			return true;
		}
	return false;
}

static int parse_value(enum sosie_limit limit, const char *text, uint64_t *value, struct sosie_err *err)
{
	char shown[64];
	if (limits[limit].unit == UNIT_BYTES) {
		int rc = sosie_size_parse(text, value, err);
		if (rc)
			return rc;
	} else if (!layout_number(text, "", value)) {
		return sosie_err_set(err, SOSIE_EUSAGE, "\"%s\" is no whole number",
		                     sosie_escape(shown, sizeof(shown), text, strlen(text)));
	}
	if (*value > 0 && *value <= limits[limit].max)
		return 0;
	return sosie_err_set(err, SOSIE_EUSAGE, "%s takes 1 to %llu, or none", limits[limit].name,
	                     (unsigned long long)limits[limit].max);
}

int sosie_limit_parse(const char *text, enum sosie_limit *limit, uint64_t *value, bool *inherit,
                      struct sosie_err *err)
{
	const char *equals = strchr(text, '=');
	char shown[64];
	*value = 0;
	*inherit = false;
	if (!equals || !find_limit(text, (size_t)(equals - text), limit)) {
		sosie_err_set(err, SOSIE_EUSAGE, "\"%s\" is no KEY=VALUE of a tenant's limits",
		              sosie_escape(shown, sizeof(shown), text, strlen(text)));
		return sosie_err_action(err, "keys: quota, segment, volume_bytes, groups, group_volumes, "
		                             "volumes, points, cpu");
	}
	*inherit = strcmp(equals + 1, "default") == 0;
	if (*inherit && *limit == SOSIE_LIMIT_QUOTA)
		return sosie_err_set(err, SOSIE_EUSAGE, "a quota has no default: write a size, or none");
	return *inherit || strcmp(equals + 1, "none") == 0 ? 0 : parse_value(*limit, equals + 1, value, err);
}

const char *sosie_limit_text(char *dst, size_t size, enum sosie_limit limit, uint64_t value)
{
	if (value == 0)
		snprintf(dst, size, "none");
	else if (limits[limit].unit == UNIT_BYTES)
		sosie_size_text(dst, size, value);
	else
		snprintf(dst, size, "%llu%s", (unsigned long long)value,
		         limits[limit].unit == UNIT_RATE      ? " a minute"
		         : limits[limit].unit == UNIT_SECONDS ? " s a minute"
		                                              : "");
	return dst;
}

/* --- the file
 * ----------------------------------------------------------------------------------------------------- */

static int read_limits(const struct sosie_json *j, struct sosie_limits *out, struct sosie_err *err)
{
	const char *names[SOSIE_LIMITS + 1] = {NULL};
	struct sosie_json *obj;
	if (!sosie_json_has(j, "limits"))
		return 0;
	for (unsigned i = 1; i < SOSIE_LIMITS; i++)
		names[i - 1] = limits[i].name;
	int rc = sosie_json_obj(j, "limits", &obj, err);
	if (!rc)
		rc = sosie_json_only(obj, names, err);
	for (unsigned i = 1; !rc && i < SOSIE_LIMITS; i++)
		if (sosie_json_has(obj, limits[i].name)) {
			out->set[i] = true;
			rc = sosie_json_u64(obj, limits[i].name, limits[i].max, &out->value[i], err);
		}
	return rc;
}

int sosie_limits_get(struct sosie_store *store, const char *tenant, struct sosie_limits *out,
                     struct sosie_err *err)
{
	struct sosie_json *j = NULL;
	memset(out, 0, sizeof(*out));
	for (unsigned i = 0; i < SOSIE_LIMITS; i++)
		out->value[i] = limits[i].standard;
	out->set[SOSIE_LIMIT_QUOTA] = true;
	int rc = tenant_document(store, tenant, &j, err);
	if (!rc)
		rc = sosie_json_u64(j, "quota", INT64_MAX, &out->value[SOSIE_LIMIT_QUOTA], err);
	if (!rc)
		rc = read_limits(j, out, err);
	sosie_json_free(j);
	return rc;
}

static struct sosie_json *audit_body(const struct sosie_limits *old, const struct sosie_limits *now)
{
	struct sosie_json *j = sosie_json_new();
	sosie_json_set_str(j, "what", "limits");
	for (unsigned i = 1; i < SOSIE_LIMITS; i++)
		if (old->value[i] != now->value[i] || old->set[i] != now->set[i]) {
			struct sosie_json *change = sosie_json_add_obj(j, limits[i].name);
			sosie_json_set_u64(change, "from", old->value[i]);
			sosie_json_set_u64(change, "to", now->value[i]);
		}
	return j;
}

static bool same_limits(const struct sosie_limits *a, const struct sosie_limits *b)
{
	for (unsigned i = 1; i < SOSIE_LIMITS; i++)
		if (a->value[i] != b->value[i] || a->set[i] != b->set[i])
			return false;
	return true;
}

/* The lock of policies is held: a quota that ripens goes into the same file. */
static int set_locked(struct sosie_store *store, const char *tenant, const struct sosie_limits *now,
                      struct sosie_err *err)
{
	struct sosie_limits old;
	struct sosie_json *j = NULL;
	int rc = sosie_limits_get(store, tenant, &old, err);
	if (rc || same_limits(&old, now))
		return rc;
	rc = tenant_document(store, tenant, &j, err);
	if (!rc)
		rc = sosie_audit_append(store, tenant, SOSIE_AUDIT_TENANT, audit_body(&old, now), NULL, err);
	if (rc) {
		sosie_json_free(j);
		return rc;
	}
	struct sosie_json *obj = sosie_json_add_obj(j, "limits");
	for (unsigned i = 1; i < SOSIE_LIMITS; i++)
		if (now->set[i])
			sosie_json_set_u64(obj, limits[i].name, now->value[i]);
	return tenant_rewrite(store, tenant, j, err);
}

int sosie_limits_set(struct sosie_store *store, const char *tenant, const struct sosie_limits *now,
                     struct sosie_err *err)
{
	struct sosie_file *lock = NULL;
	int rc = policy_lock(store, true, LOCK_WAIT_MS, &lock, err);
	if (!rc)
		rc = set_locked(store, tenant, now, err);
	sosie_io_close(store->io, lock, NULL);
	return rc;
}

/* SPDX-License-Identifier: MIT */
/*
 * What an upload may take, by the limits of its tenant, and what tenants have spent.
 *
 * Points and processor time are counted in buckets: each fills at its limit's rate, holds a minute of it, and
 * is what uploads take from. One upload cannot be stopped half-way for what it costs: it may leave a debt,
 * which is never more than a minute's worth, so that an expensive first copy does not make its tenant late
 * for hours. Buckets live in memory: a keeper that begins finds them full.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/store/quota.h"

#define MINUTE_MS 60000
#define SECOND_NS 1000000000ll
#define QUIET_MS (3 * MINUTE_MS) /* after which the alarm is over, once something was accepted */

/* level: in sixty-thousandths of what is counted, so that each millisecond adds a whole number. At most
 * limit * MINUTE_MS either way; limits.c keeps that within 63 bits. */
struct bucket {
	int64_t level, at_ms, limit; /* limit 0: none */
	bool begun;
};

struct quota_meter {
	struct quota_meter *next;
	struct sosie_name tenant;
	struct bucket points, cpu;
	int64_t met_ms;   /* monotonic: when a limit was met last, 0: never */
	bool taken_since; /* something was accepted since then */
};

static struct quota_meter *meter_of(struct sosie_store *store, const char *tenant)
{
	struct quota_meter *m = store->meters;
	while (m && strcmp(m->tenant.s, tenant) != 0)
		m = m->next;
	if (m)
		return m;
	m = calloc(1, sizeof(*m));
	if (!m || sosie_name_set(&m->tenant, SOSIE_NAME_TENANT, tenant, NULL)) {
		free(m);
		return NULL;
	}
	m->next = store->meters;
	store->meters = m;
	return m;
}

void quota_free(struct sosie_store *store)
{
	while (store->meters) {
		struct quota_meter *m = store->meters;
		store->meters = m->next;
		free(m);
	}
}

/* --- buckets
 * ------------------------------------------------------------------------------------------------------ */

static void bucket_fill(struct bucket *b, int64_t limit, int64_t now_ms)
{
	const int64_t full = limit * MINUTE_MS;
	int64_t passed = now_ms - b->at_ms;
	if (!b->begun || passed > 2 * MINUTE_MS)
		b->level = full;
	else if (passed > 0 && b->level < full)
		b->level = full - b->level <= limit * passed ? full : b->level + limit * passed;
	b->level = b->level > full ? full : b->level < -full ? -full : b->level;
	b->limit = limit;
	b->at_ms = now_ms;
	b->begun = true;
}

static void bucket_take(struct bucket *b, uint64_t amount)
{
	const int64_t full = b->limit * MINUTE_MS;
	if (b->limit == 0)
		return;
	int64_t most = 2 * b->limit; /* from full to the deepest debt */
	int64_t taken = (amount > (uint64_t)most ? most : (int64_t)amount) * MINUTE_MS;
	b->level = b->level + full < taken ? -full : b->level - taken;
}

/* How long until there is as much again, 0: there is now. */
static int64_t bucket_wait(const struct bucket *b, int64_t level)
{
	return b->limit == 0 || b->level >= level ? 0 : (level - b->level + b->limit - 1) / b->limit;
}

static int fill_all(struct sosie_store *store, struct quota_meter *m, struct sosie_err *err)
{
	struct sosie_limits limits;
	const int64_t now = sosie_mono_ms(store->clock);
	int rc = sosie_limits_get(store, m->tenant.s, &limits, err);
	if (rc)
		return rc;
	bucket_fill(&m->points, (int64_t)limits.value[SOSIE_LIMIT_POINTS], now);
	bucket_fill(&m->cpu, (int64_t)limits.value[SOSIE_LIMIT_CPU] * SECOND_NS, now);
	return 0;
}

void quota_spend(struct sosie_store *store, const char *tenant, uint64_t cpu_ns)
{
	struct quota_meter *m = meter_of(store, tenant);
	if (m)
		bucket_take(&m->cpu, cpu_ns);
}

void quota_point(struct sosie_store *store, const char *tenant)
{
	struct quota_meter *m = meter_of(store, tenant);
	if (!m)
		return;
	bucket_take(&m->points, 1);
	m->taken_since = true;
}

int quota_turn(struct sosie_store *store, const char *tenant, int64_t *wait_ms, struct sosie_err *err)
{
	struct quota_meter *m = meter_of(store, tenant);
	*wait_ms = 0;
	if (!m)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory to count what %s takes", tenant);
	int rc = fill_all(store, m, err);
	if (rc)
		return rc;
	const int64_t points = bucket_wait(&m->points, MINUTE_MS), cpu = bucket_wait(&m->cpu, 1);
	if (points == 0 && cpu == 0)
		return 0;
	*wait_ms = points > cpu ? points : cpu;
	if (points > cpu)
		sosie_err_set(err, SOSIE_EPENDING, "the tenant %s may make %lld points a minute, and has",
		              tenant, (long long)m->points.limit);
	else
		sosie_err_set(err, SOSIE_EPENDING,
		              "the tenant %s may take %lld s of processor time a minute, and has", tenant,
		              (long long)(m->cpu.limit / SECOND_NS));
	return sosie_err_action(err,
	                        "the upload is kept and taken in its turn; nothing has to be sent again");
}

/* --- declared sizes
 * ----------------------------------------------------------------------------------------------- */

static int refuse(struct sosie_err *err, const struct sosie_group *g, const char *what, uint64_t has,
                  enum sosie_limit limit, uint64_t may)
{
	sosie_err_set(err, SOSIE_EQUOTA,
	              "the tenant %s may have %llu %s (limit %s), this segment makes it %llu", g->tenant.s,
	              (unsigned long long)may, what, sosie_limit_name(limit), (unsigned long long)has);
	return sosie_err_action(err, "ask the standby's operator for a larger limit (sosie tenant set)");
}

static bool over(const struct sosie_limits *l, enum sosie_limit limit, uint64_t value)
{
	return l->value[limit] && value > l->value[limit];
}

struct totals {
	struct sosie_group *g;
	uint64_t volumes, bytes;
	int rc;
	struct sosie_err *err;
};

static int add_group(void *arg, const struct sosie_name *name)
{
	struct totals *t = arg;
	struct group_watch *w;
	if (strcmp(name->s, t->g->name.s) == 0)
		return 0;
	t->rc = watch_get(t->g->store, t->g->tenant.s, name->s, &w, t->err);
	if (t->rc == -SOSIE_ECORRUPT) { /* its own alarm: no reason to refuse others */
		t->rc = 0;
		return 0;
	}
	if (t->rc)
		return 1;
	t->volumes += w->volumes;
	if (!sosie_add_u64(t->bytes, w->volume_bytes, &t->bytes))
		t->bytes = UINT64_MAX;
	return 0;
}

static uint64_t sizes(const struct sosie_manifest *m)
{
	uint64_t all = 0;
	for (unsigned i = 0; i < m->volume_count; i++)
		if (!sosie_add_u64(all, m->volumes[i].size, &all))
			return UINT64_MAX;
	return all;
}

/* Of all groups together: looked at when this group grows only. */
static int check_totals(struct sosie_group *g, const struct sosie_manifest *m, const struct sosie_limits *l,
                        struct sosie_err *err)
{
	struct totals t = {.g = g, .volumes = m->volume_count, .bytes = sizes(m), .err = err};
	struct group_watch *w;
	int rc = watch_get(g->store, g->tenant.s, g->name.s, &w, err);
	if (rc || (m->volume_count <= w->volumes && t.bytes <= w->volume_bytes))
		return rc;
	rc = sosie_store_groups(g->store, g->tenant.s, add_group, &t, err);
	if (rc || t.rc)
		return rc ? rc : t.rc;
	if (over(l, SOSIE_LIMIT_VOLUMES, t.volumes))
		return refuse(err, g, "volumes", t.volumes, SOSIE_LIMIT_VOLUMES,
		              l->value[SOSIE_LIMIT_VOLUMES]);
	if (over(l, SOSIE_LIMIT_VOLUME_BYTES, t.bytes))
		return refuse(err, g, "bytes of volumes", t.bytes, SOSIE_LIMIT_VOLUME_BYTES,
		              l->value[SOSIE_LIMIT_VOLUME_BYTES]);
	return 0;
}

int quota_manifest(struct sosie_group *g, const struct sosie_manifest *m, struct sosie_err *err)
{
	struct sosie_limits l;
	int rc = sosie_limits_get(g->store, g->tenant.s, &l, err);
	if (rc)
		return rc;
	if (over(&l, SOSIE_LIMIT_SEGMENT, m->plain))
		return refuse(err, g, "bytes in a segment", m->plain, SOSIE_LIMIT_SEGMENT,
		              l.value[SOSIE_LIMIT_SEGMENT]);
	if (over(&l, SOSIE_LIMIT_GROUP_VOLUMES, m->volume_count))
		return refuse(err, g, "volumes in a group", m->volume_count, SOSIE_LIMIT_GROUP_VOLUMES,
		              l.value[SOSIE_LIMIT_GROUP_VOLUMES]);
	return check_totals(g, m, &l, err);
}

static int count_group(void *arg, const struct sosie_name *name)
{
	(void)name;
	++*(uint64_t *)arg;
	return 0;
}

int quota_group(struct sosie_store *store, const char *tenant, const char *group, struct sosie_err *err)
{
	struct sosie_limits l;
	char dir[STORE_PATH];
	uint64_t count = 0;
	int rc = store_path(dir, err, "%s/%s/%s", store->path, tenant, group);
	if (rc || sosie_io_exists(store->io, dir))
		return rc;
	rc = sosie_limits_get(store, tenant, &l, err);
	if (!rc)
		rc = sosie_store_groups(store, tenant, count_group, &count, err);
	if (rc || !over(&l, SOSIE_LIMIT_GROUPS, count + 1))
		return rc;
	sosie_err_set(err, SOSIE_EQUOTA,
	              "the tenant %s may have %llu groups (limit groups) and has them: uploads of %s wait",
	              tenant, (unsigned long long)l.value[SOSIE_LIMIT_GROUPS], group);
	return sosie_err_action(err, "ask the standby's operator for a larger limit (sosie tenant set)");
}

/* --- the alarm
 * ---------------------------------------------------------------------------------------------------- */

void quota_met(struct sosie_store *store, const char *tenant, const struct sosie_err *why)
{
	struct quota_meter *m = meter_of(store, tenant);
	const int64_t now = sosie_mono_ms(store->clock);
	if (m) {
		m->met_ms = now ? now : 1;
		m->taken_since = false;
	}
	sosie_alarm_set(store, tenant, NULL, SOSIE_ALARM_QUOTA, why->what, NULL);
}

/* Over: nothing has met a limit for a while, and something was accepted since. (After a restart of the keeper
 * the while begins anew.) */
int sosie_keeper_watch_tenant(struct sosie_store *store, const char *tenant, struct sosie_err *err)
{
	struct quota_meter *m = meter_of(store, tenant);
	const int64_t now = sosie_mono_ms(store->clock);
	if (!m)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory to watch %s", tenant);
	if (!m->met_ms)
		m->met_ms = now ? now : 1;
	if (!m->taken_since || now - m->met_ms < QUIET_MS)
		return 0;
	return sosie_alarm_set(store, tenant, NULL, SOSIE_ALARM_QUOTA, NULL, err);
}

/* SPDX-License-Identifier: MIT */
/* What the keeper tells Prometheus of its store. Names need no care: tenants and groups have letters, digits
 * and a few marks, and are escaped all the same. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/store/quota.h"
#include "sosie/metrics.h"

/* A group as it is when the file is made. */
struct sample {
	struct group_watch *w;
	int64_t now_ms;
	uint64_t waiting, generations;
};
struct metric {
	const char *name, *type, *help;
	double (*value)(const struct sample *s); /* negative: left out */
};

#define FIELD(function, expression)                                                                          \
	static double function(const struct sample *s)                                                       \
	{                                                                                                    \
		return (double)(expression);                                                                 \
	}
FIELD(point, s->w->point)
FIELD(point_age,
      s->w->point ? (double)(s->now_ms > s->w->cut_ms ? s->now_ms - s->w->cut_ms : 0) / 1000 : -1.0)
FIELD(rpo, s->w->age_ms < 0 ? -1.0 : (double)s->w->age_ms / 1000)
FIELD(objective, s->w->objective_ms ? (double)s->w->objective_ms / 1000 : -1.0)
FIELD(late, s->w->late)
FIELD(accepted, s->w->accepted)
FIELD(refused, s->w->refused)
FIELD(waiting, s->waiting)
FIELD(journal, s->w->journal_known ? (double)s->w->journal_bytes : -1.0)
FIELD(generations, s->generations)

static const struct metric metrics[] = {
        {"sosie_keeper_point", "gauge", "Number of the newest point.", point},
        {"sosie_keeper_point_age_seconds", "gauge", "Age of the newest point, since its cut.", point_age},
        {"sosie_keeper_rpo_seconds", "gauge",
         "Age of the newest state: a point, or word that nothing has changed.", rpo},
        {"sosie_keeper_rpo_objective_seconds", "gauge", "What that age is to stay below.", objective},
        {"sosie_keeper_late", "gauge", "1 while the objective is not met.", late},
        {"sosie_keeper_points_accepted_total", "counter", "Uploads that became points.", accepted},
        {"sosie_keeper_uploads_refused_total", "counter", "Uploads that were refused.", refused},
        {"sosie_keeper_uploads_waiting", "gauge", "Whole uploads in the inbox.", waiting},
        {"sosie_keeper_journal_bytes", "gauge", "Segments kept.", journal},
        {"sosie_keeper_generations", "gauge", "Complete sets of images kept.", generations},
};

/* --- looking
 * ------------------------------------------------------------------------------------------------------ */

static int count_upload(void *arg, const char *name, enum sosie_file_kind kind)
{
	const size_t len = strlen(name);
	(void)kind;
	*(uint64_t *)arg += len == UPLOAD_HEX + 9 && strcmp(name + UPLOAD_HEX, ".manifest") == 0;
	return 0;
}

static int count_generation(void *arg, const char *name, enum sosie_file_kind kind)
{
	uint64_t number;
	*(uint64_t *)arg += kind == SOSIE_KIND_DIR && layout_number(name, "", &number);
	return 0;
}

/* Counted once by listing; what is accepted here since is added by accept.c. */
static void look_at_journal(struct sosie_store *store, struct group_watch *w)
{
	struct sosie_group g = {.store = store, .tenant = w->tenant, .name = w->group};
	struct store_memo *memo = memo_find(store, w->tenant.s, w->group.s);
	if (memo && memo->counted) {
		w->journal_bytes = memo->journal_bytes;
		w->journal_known = true;
	} else if (!w->journal_known || w->journal_point != w->point) {
		w->journal_known =
		        !store_path(g.dir, NULL, "%s/%s/%s", store->path, w->tenant.s, w->group.s) &&
		        !journal_usage(&g, 0, &w->journal_bytes, NULL, NULL);
	}
	w->journal_point = w->point;
}

static struct sample look(struct sosie_store *store, struct group_watch *w)
{
	struct sample s = {.w = w, .now_ms = sosie_wall_ms(store->clock)};
	char dir[STORE_PATH];
	if (!store_path(dir, NULL, "%s/%s/_inbox/%s", store->path, w->tenant.s, w->group.s))
		sosie_io_list(store->io, dir, count_upload, &s.waiting, NULL);
	if (!store_path(dir, NULL, "%s/%s/%s/generations", store->path, w->tenant.s, w->group.s))
		sosie_io_list(store->io, dir, count_generation, &s.generations, NULL);
	look_at_journal(store, w);
	return s;
}

/* --- writing
 * ------------------------------------------------------------------------------------------------------ */

static int write_groups(struct sosie_store *store, FILE *out, struct sosie_err *err)
{
	size_t count = 0, n = 0;
	struct group_watch *first = store->watches ? store->watches->first : NULL;
	for (struct group_watch *w = first; w; w = w->next)
		count++;
	struct sample *all = calloc(count ? count : 1, sizeof(*all));
	if (!all)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for metrics");
	for (struct group_watch *w = first; w; w = w->next)
		all[n++] = look(store, w);
	for (size_t i = 0; i < sizeof(metrics) / sizeof(metrics[0]); i++) {
		sosie_metrics_family(out, metrics[i].name, metrics[i].type, metrics[i].help);
		for (n = 0; n < count; n++) {
			double value = metrics[i].value(&all[n]);
			if (value >= 0)
				sosie_metrics_sample(out, metrics[i].name, value, "tenant",
				                     all[n].w->tenant.s, "group", all[n].w->group.s,
				                     SOSIE_METRICS_END);
		}
	}
	free(all);
	return 0;
}

struct tenants {
	struct sosie_store *store;
	FILE *out;
	bool quota; /* else what is used */
};

static int write_tenant(void *arg, const struct sosie_name *name)
{
	struct tenants *t = arg;
	uint64_t value = 0;
	int rc = t->quota ? tenant_quota(t->store, name->s, &value, NULL)
	                  : tenant_usage(t->store, name->s, &value, NULL);
	if (!rc && (value || !t->quota))
		sosie_metrics_sample(t->out,
		                     t->quota ? "sosie_keeper_quota_bytes" : "sosie_keeper_used_bytes",
		                     (double)value, "tenant", name->s, SOSIE_METRICS_END);
	return 0;
}

static int write_tenants(struct sosie_store *store, FILE *out, struct sosie_err *err)
{
	struct tenants t = {.store = store, .out = out};
	sosie_metrics_family(out, "sosie_keeper_used_bytes", "gauge",
	                     "What counts towards a tenant's quota.");
	int rc = sosie_store_tenants(store, write_tenant, &t, err);
	t.quota = true;
	sosie_metrics_family(out, "sosie_keeper_quota_bytes", "gauge",
	                     "A tenant's quota; left out where there is none.");
	return rc ? rc : sosie_store_tenants(store, write_tenant, &t, err);
}

static int count_open(void *arg, const struct sosie_alarm *a)
{
	unsigned *open = arg;
	open[a->kind] += a->closed_ms == 0;
	return 0;
}

static int write_store(struct sosie_store *store, FILE *out, struct sosie_err *err)
{
	unsigned open[SOSIE_ALARM_KINDS] = {0};
	struct sosie_space s;
	int rc = sosie_store_space(store, &s, err);
	if (rc)
		return rc;
	sosie_metrics_family(out, "sosie_keeper_free_bytes", "gauge", "Free in the store's filesystem.");
	sosie_metrics_sample(out, "sosie_keeper_free_bytes", (double)s.free_bytes, SOSIE_METRICS_END);
	sosie_metrics_family(out, "sosie_keeper_reserve_bytes", "gauge", "Below that uploads wait.");
	sosie_metrics_sample(out, "sosie_keeper_reserve_bytes", (double)s.reserve_bytes, SOSIE_METRICS_END);
	sosie_metrics_family(out, "sosie_keeper_alarms", "gauge", "Open alarms of each kind.");
	sosie_alarm_walk(store, NULL, NULL, count_open, open, NULL); /* what cannot be read is an alarm too */
	for (unsigned k = 0; k < SOSIE_ALARM_KINDS; k++)
		sosie_metrics_sample(out, "sosie_keeper_alarms", open[k], "kind",
		                     sosie_alarm_kind_name((enum sosie_alarm_kind)k), SOSIE_METRICS_END);
	return 0;
}

int sosie_keeper_metrics(struct sosie_store *store, char **text, size_t *len, struct sosie_err *err)
{
	*text = NULL;
	*len = 0;
	FILE *out = open_memstream(text, len);
	if (!out)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for metrics");
	sosie_metrics_time(out, "sosie_keeper_metrics_timestamp_seconds", sosie_wall_ms(store->clock));
	int rc = write_groups(store, out, err);
	if (!rc)
		rc = write_tenants(store, out, err);
	if (!rc)
		rc = write_store(store, out, err);
	if (fclose(out) != 0 && !rc)
		rc = sosie_err_set(err, SOSIE_ENOMEM, "no memory for metrics");
	if (rc) {
		free(*text);
		*text = NULL;
	}
	return rc;
}

/* SPDX-License-Identifier: MIT */
#include "engine/store/pruned.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PRUNED_TEXT_MAX ((size_t)PRUNED_RANGES_MAX * 160)
#define DAY_MS 86400000
#define MERGE_ABOVE 4096u /* ranges, from which on neighbours become one whatever their day */

static int pruned_path(const struct sosie_group *g, char dst[STORE_PATH], struct sosie_err *err)
{
	return store_path(dst, err, "%s/state/pruned.json", g->dir);
}

static int read_range(const struct sosie_json *obj, struct sosie_pruned *r, uint64_t after,
                      struct sosie_err *err)
{
	static const char *const keys[] = {"first", "last", "time", "why", NULL};
	const char *why = NULL;
	int rc = sosie_json_only(obj, keys, err);
	if (!rc)
		rc = sosie_json_u64(obj, "first", INT64_MAX, &r->first, err);
	if (!rc)
		rc = sosie_json_u64(obj, "last", INT64_MAX, &r->last, err);
	if (!rc)
		rc = layout_json_time(obj, "time", &r->time_ms, err);
	if (!rc)
		rc = sosie_json_str(obj, "why", sizeof(r->why) - 1, &why, err);
	if (!rc && (r->first <= after || r->last < r->first))
		rc = sosie_err_set(err, SOSIE_ECORRUPT, "the ranges of points do not ascend");
	if (!rc)
		snprintf(r->why, sizeof(r->why), "%s", why);
	return rc;
}

static int parse(const char *text, size_t len, struct pruned *out, struct sosie_err *err)
{
	static const char *const keys[] = {"format", "ranges", NULL};
	struct sosie_json *j = NULL, *list = NULL, *one;
	uint64_t format = 0;
	size_t count = 0;
	int rc = sosie_json_parse(text, len, PRUNED_TEXT_MAX, &j, err);
	if (!rc)
		rc = sosie_json_u64(j, "format", UINT32_MAX, &format, err);
	if (!rc && format > STORE_FORMAT)
		rc = sosie_err_set(err, SOSIE_ENEWER, "it is of format %llu", (unsigned long long)format);
	if (!rc)
		rc = sosie_json_only(j, keys, err);
	if (!rc)
		rc = sosie_json_arr(j, "ranges", PRUNED_RANGES_MAX, &list, &count, err);
	if (!rc && !(out->ranges = calloc(count + 1, sizeof(*out->ranges))))
		rc = sosie_err_set(err, SOSIE_ENOMEM, "no memory for %zu ranges of points", count);
	for (out->count = 0; !rc && out->count < count; out->count++) {
		rc = sosie_json_at(list, out->count, &one, err);
		if (!rc)
			rc = read_range(one, &out->ranges[out->count],
			                out->count ? out->ranges[out->count - 1].last : 0, err);
	}
	sosie_json_free(j);
	return rc;
}

int pruned_read(struct sosie_group *g, struct pruned *out, struct sosie_err *err)
{
	char path[STORE_PATH];
	char *text = NULL;
	size_t len = 0;
	memset(out, 0, sizeof(*out));
	int rc = pruned_path(g, path, err);
	if (!rc)
		rc = sosie_io_read_file(g->store->io, path, PRUNED_TEXT_MAX, &text, &len, err);
	if (rc == -SOSIE_ENOTFOUND)
		return 0;
	if (!rc)
		rc = parse(text, len, out, err);
	free(text);
	if (!rc)
		return 0;
	pruned_fini(out);
	sosie_err_wrap(err, "%s/%s: what was pruned cannot be told", g->tenant.s, g->name.s);
	sosie_err_where(err, "%s", path);
	return sosie_err_action(err, "restore this file; its ranges are in the audit log, as \"prune\"");
}

void pruned_fini(struct pruned *p)
{
	free(p->ranges);
	memset(p, 0, sizeof(*p));
}

/* The first range whose end is at or behind the point. */
static size_t at_or_behind(const struct pruned *p, uint64_t point)
{
	size_t low = 0, high = p->count;
	while (low < high) {
		size_t mid = low + (high - low) / 2;
		if (p->ranges[mid].last < point)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

const struct sosie_pruned *pruned_find(const struct pruned *p, uint64_t point)
{
	const size_t i = at_or_behind(p, point);
	return i < p->count && p->ranges[i].first <= point ? &p->ranges[i] : NULL;
}

bool pruned_any(const struct pruned *p, uint64_t first, uint64_t last)
{
	const size_t i = at_or_behind(p, first);
	return first <= last && i < p->count && p->ranges[i].first <= last;
}

static bool joins(const struct sosie_pruned *a, const struct sosie_pruned *b, bool any_day)
{
	return a->last + 1 == b->first &&
	       (any_day || (a->time_ms / DAY_MS == b->time_ms / DAY_MS && strcmp(a->why, b->why) == 0));
}

static void join(struct pruned *p, bool any_day)
{
	size_t n = 0;
	for (size_t i = 0; i < p->count; i++) {
		struct sosie_pruned *last = n ? &p->ranges[n - 1] : NULL;
		if (!last || !joins(last, &p->ranges[i], any_day)) {
			p->ranges[n++] = p->ranges[i];
			continue;
		}
		last->last = p->ranges[i].last;
		if (p->ranges[i].time_ms > last->time_ms) {
			last->time_ms = p->ranges[i].time_ms;
			memcpy(last->why, p->ranges[i].why, sizeof(last->why));
		}
	}
	p->count = n;
}

int pruned_add(struct pruned *p, const struct sosie_pruned *ranges, size_t count, struct sosie_err *err)
{
	struct sosie_pruned *all = calloc(p->count + count + 1, sizeof(*all));
	size_t n = 0, i = 0, k = 0;
	if (!all)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for %zu ranges of points", count);
	while (i < p->count || k < count)
		all[n++] = k == count || (i < p->count && p->ranges[i].first < ranges[k].first)
		                   ? p->ranges[i++]
		                   : ranges[k++];
	free(p->ranges);
	p->ranges = all;
	p->count = n;
	join(p, false);
	if (p->count > MERGE_ABOVE)
		join(p, true);
	if (p->count > PRUNED_RANGES_MAX)
		return sosie_err_set(err, SOSIE_ESIZE, "the points that stay lie too far apart: %zu gaps",
		                     p->count);
	return 0;
}

int pruned_write(struct sosie_group *g, const struct pruned *p, struct sosie_err *err)
{
	char path[STORE_PATH];
	int rc = pruned_path(g, path, err);
	if (rc)
		return rc;
	struct sosie_json *j = sosie_json_new();
	sosie_json_set_u64(j, "format", STORE_FORMAT);
	struct sosie_json *list = sosie_json_add_arr(j, "ranges");
	for (size_t i = 0; i < p->count; i++) {
		struct sosie_json *obj = sosie_json_push_obj(list);
		sosie_json_set_u64(obj, "first", p->ranges[i].first);
		sosie_json_set_u64(obj, "last", p->ranges[i].last);
		layout_set_time(obj, "time", p->ranges[i].time_ms);
		sosie_json_set_str(obj, "why", p->ranges[i].why);
	}
	return layout_write_json(g->store->io, path, j, 0644, err);
}

int pruned_refuse(struct sosie_group *g, const struct pruned *p, uint64_t point, struct sosie_err *err)
{
	const struct sosie_pruned *r = pruned_find(p, point);
	const size_t i = at_or_behind(p, point);
	char time[SOSIE_TIME_TEXT], before[32] = "", after[32] = "";
	uint64_t low = r->first - 1, high = r->last + 1;
	for (size_t k = i; k > 0 && p->ranges[k - 1].last == low; k--)
		low = p->ranges[k - 1].first - 1;
	for (size_t k = i + 1; k < p->count && p->ranges[k].first == high; k++)
		high = p->ranges[k].last + 1;
	if (low > 0)
		snprintf(before, sizeof(before), "%llu", (unsigned long long)low);
	if (high <= chain_newest_point(g->chain))
		snprintf(after, sizeof(after), "%s%llu", low > 0 ? " and " : "", (unsigned long long)high);
	sosie_time_text(time, r->time_ms);
	sosie_err_set(err, SOSIE_ENOTFOUND, "%s/%s: point %llu was pruned at %.16s UTC by %s", g->tenant.s,
	              g->name.s, (unsigned long long)point, time,
	              strcmp(r->why, "space") == 0 ? "want of room" : "the policy");
	return sosie_err_action(err, "the nearest that %s there: %s%s", low > 0 && after[0] ? "are" : "is",
	                        before, after);
}

int sosie_group_pruned(struct sosie_group *g, struct sosie_pruned **ranges, size_t *count,
                       struct sosie_err *err)
{
	struct pruned p;
	int rc = pruned_read(g, &p, err);
	*ranges = p.ranges;
	*count = p.count;
	return rc;
}

int sosie_group_reachable(struct sosie_group *g, uint64_t point, struct sosie_err *err)
{
	struct pruned p;
	if (point == 0 || point > chain_newest_point(g->chain)) {
		sosie_err_set(err, SOSIE_ENOTFOUND, "%s/%s has no point %llu: the newest is %llu",
		              g->tenant.s, g->name.s, (unsigned long long)point,
		              (unsigned long long)chain_newest_point(g->chain));
		return sosie_err_action(err, "see them with: sosie points %s/%s", g->tenant.s, g->name.s);
	}
	int rc = pruned_read(g, &p, NULL) ? 0 : pruned_find(&p, point) ? pruned_refuse(g, &p, point, err) : 0;
	pruned_fini(&p);
	return rc;
}

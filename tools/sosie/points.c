/* SPDX-License-Identifier: MIT */
/* points: what can be cut over to, why it stays, and what went. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sosie/retention.h"
#include "tools/sosie/command.h"

struct listing {
	struct command *c;
	struct sosie_json *points, *pruned;
	struct sosie_pruned *ranges; /* that went */
	size_t range_count;
	struct sosie_kept *kept; /* NULL: why points stay cannot be told */
	size_t kept_count;
	size_t range, at; /* the next of each */
};

static void show(struct command *c, const struct sosie_point *p, const char *kept)
{
	char time[COMMAND_TIME], age[32], bytes[32];

	printf("%8llu  %-23s  %-12s  %-11s  %5s  %10s  %s\n", (unsigned long long)p->point,
	       command_time(time, p->cut_ms),
	       sosie_duration_text(age, sizeof(age), (uint64_t)command_age_ms(c, p->cut_ms) / 1000 * 1000),
	       sosie_consistency_name(p->consistency), p->verified ? "yes" : "no",
	       sosie_size_text(bytes, sizeof(bytes), p->stored), kept);
}

static void show_pruned(struct listing *l, const struct sosie_pruned *r)
{
	struct sosie_json *obj = sosie_json_push_obj(l->pruned);
	char numbers[48], time[COMMAND_TIME];

	sosie_json_set_u64(obj, "first", r->first);
	sosie_json_set_u64(obj, "last", r->last);
	sosie_json_set_time(obj, "time", r->time_ms);
	sosie_json_set_str(obj, "why", r->why);
	if (l->c->json)
		return;
	if (r->first == r->last)
		snprintf(numbers, sizeof(numbers), "%llu", (unsigned long long)r->first);
	else
		snprintf(numbers, sizeof(numbers), "%llu-%llu", (unsigned long long)r->first,
		         (unsigned long long)r->last);
	printf("%8s  pruned %s by %s\n", numbers, command_time(time, r->time_ms),
	       strcmp(r->why, "space") == 0 ? "want of room" : "policy");
}

/* Why the point stays: both lists ascend. */
static const char *why_kept(struct listing *l, uint64_t point, char text[SOSIE_KEPT_TEXT])
{
	while (l->at < l->kept_count && l->kept[l->at].point < point)
		l->at++;
	if (l->at == l->kept_count || l->kept[l->at].point != point)
		return "";
	return l->kept[l->at].by ? sosie_kept_text(text, l->kept[l->at].by) : "goes next";
}

static int show_point(struct listing *l, uint64_t point, struct sosie_err *err)
{
	struct sosie_point p;
	char text[SOSIE_KEPT_TEXT];
	int rc = sosie_group_point(l->c->group, point, &p, err);

	if (rc < 0)
		return rc;
	const char *kept = why_kept(l, point, text);
	if (l->c->json) {
		struct sosie_json *obj = sosie_json_push_obj(l->points);
		command_point_json(l->c, obj, &p);
		sosie_json_set_str(obj, "kept", kept[0] ? kept : NULL);
	} else {
		show(l->c, &p, kept);
	}
	return 0;
}

static int show_all(struct listing *l, uint64_t from, uint64_t newest, struct sosie_err *err)
{
	int rc = 0;

	for (uint64_t n = from; rc == 0 && n <= newest;) {
		while (l->range < l->range_count && l->ranges[l->range].last < n)
			l->range++;
		if (l->range < l->range_count && l->ranges[l->range].first <= n) {
			show_pruned(l, &l->ranges[l->range]);
			n = l->ranges[l->range].last + 1;
			continue;
		}
		rc = show_point(l, n++, err);
	}
	return rc;
}

/* Points are listed also when the small files beside them cannot be read: that is told, no more. */
static void read_retention(struct listing *l)
{
	struct sosie_err err;
	char line[1100];

	if (sosie_group_pruned(l->c->group, &l->ranges, &l->range_count, &err) < 0 ||
	    sosie_group_kept(l->c->group, &l->kept, &l->kept_count, &err) < 0)
		fprintf(stderr, "sosie: warning: %s\n", sosie_err_line(&err, line, sizeof(line)));
}

int verb_points(struct command *c, struct sosie_err *err)
{
	struct listing l = {.c = c};
	unsigned long long last = UINT64_MAX;
	int rc = options_number(&c->options, "last", 1, UINT64_MAX - 1, &last, err);

	if (rc == 0)
		rc = command_open_group(c, err);
	if (rc < 0)
		return rc;
	const uint64_t newest = sosie_group_points(c->group);
	l.points = sosie_json_add_arr(c->doc, "points");
	l.pruned = sosie_json_add_arr(c->doc, "pruned");
	read_retention(&l);
	if (!c->json && newest == 0)
		printf("%s/%s has no point yet\n", c->tenant.s, c->name.s);
	else if (!c->json)
		printf("%8s  %-23s  %-12s  %-11s  %5s  %10s  %s\n", "POINT", "CUT", "AGE", "CONSISTENCY",
		       "WHOLE", "BYTES", "KEPT");
	rc = show_all(&l, newest > last ? newest - last + 1 : 1, newest, err);
	free(l.ranges);
	free(l.kept);
	if (rc == 0 && !c->json && c->alarms)
		command_alarms_show(c->alarms, ""); /* whole is not clean */
	return rc;
}

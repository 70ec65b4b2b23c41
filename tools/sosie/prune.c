/* SPDX-License-Identifier: MIT */
/* prune: lets go of what the policy does not keep, or says what would go; clock accept. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sosie/bytes.h"
#include "sosie/retention.h"
#include "tools/common/stop.h"
#include "tools/sosie/command.h"

#define LOCK_WAIT_MS 10000
#define PAUSE_MS 100 /* for who waits for the group */

struct pruning {
	struct command *c;
	struct sosie_json *groups;
	const char *tenant;
	bool dry_run;
	unsigned seen;
	int rc;
	struct sosie_err *err;
};

/* --- what would go
 * --------------------------------------------------------------------------------------------------- */

static void show_run(const struct sosie_kept *first, const struct sosie_kept *last)
{
	char numbers[48], by[SOSIE_KEPT_TEXT], time[COMMAND_TIME];

	if (first->point == last->point)
		snprintf(numbers, sizeof(numbers), "%llu", (unsigned long long)first->point);
	else
		snprintf(numbers, sizeof(numbers), "%llu-%llu", (unsigned long long)first->point,
		         (unsigned long long)last->point);
	if (first->by)
		printf("  %-16s stays: %s (accepted %s)\n", numbers, sosie_kept_text(by, first->by),
		       command_time(time, last->time_ms));
	else
		printf("  %-16s goes: %s (accepted %s)\n", numbers,
		       first->space ? "room is short, and it is only wished"
		                    : "no rule of the policy keeps it",
		       command_time(time, last->time_ms));
}

static bool alike(const struct sosie_kept *a, const struct sosie_kept *b)
{
	return a->point + 1 == b->point && a->by == b->by && a->space == b->space;
}

/* Neighbours that stay or go for the same reason are one line. */
static int show_points(struct pruning *p, struct sosie_group *g, struct sosie_json *obj)
{
	struct sosie_json *list = sosie_json_add_arr(obj, "ranges");
	struct sosie_kept *points = NULL;
	size_t count = 0, from = 0;
	char by[SOSIE_KEPT_TEXT];
	int rc = sosie_group_kept(g, &points, &count, p->err);

	for (size_t i = 0; rc == 0 && i < count; i++) {
		if (i + 1 < count && alike(&points[i], &points[i + 1]))
			continue;
		struct sosie_json *range = sosie_json_push_obj(list);
		sosie_json_set_u64(range, "first", points[from].point);
		sosie_json_set_u64(range, "last", points[i].point);
		sosie_json_set_bool(range, "goes", points[i].by == 0);
		sosie_json_set_str(range, "kept", points[i].by ? sosie_kept_text(by, points[i].by) : NULL);
		sosie_json_set_bool(range, "space", points[i].space);
		if (!p->c->json)
			show_run(&points[from], &points[i]);
		from = i + 1;
	}
	free(points);
	return rc;
}

/* --- pruning
 * ---------------------------------------------------------------------------------------------------------
 */

/* Step after step; between them who waits gets the group. */
static int prune_all(struct sosie_group *g, struct sosie_prune *sum, struct sosie_err *err)
{
	struct sosie_prune step;
	int rc;

	memset(sum, 0, sizeof(*sum));
	do {
		memset(&step, 0, sizeof(step));
		rc = sosie_group_lock(g, "sosie prune", LOCK_WAIT_MS, err);
		if (rc == 0)
			rc = sosie_group_prune(g, &step, err);
		sosie_group_unlock(g);
		sum->points += step.points;
		sum->bytes += step.bytes;
		sum->generations += step.generations;
		sum->keeps_all = step.keeps_all;
		if (step.more)
			sosie_sleep_ms(sosie_clock_real(), PAUSE_MS);
	} while (rc == -SOSIE_EBUSY && step.more && !stop_wanted());
	return rc;
}

static int dry_run(struct pruning *p, struct sosie_group *g, struct sosie_json *obj, struct sosie_prune *sum)
{
	int rc;

	memset(sum, 0, sizeof(*sum));
	sum->dry_run = true;
	rc = sosie_group_prune(g, sum, p->err);
	return rc < 0 ? rc : show_points(p, g, obj);
}

static void show_sum(const struct pruning *p, const char *group, const struct sosie_prune *sum)
{
	char points[COMMAND_COUNT], generations[COMMAND_COUNT], size[32];

	if (sum->points == 0 && sum->generations == 0) {
		printf("%s/%s: nothing %s%s\n", p->tenant, group, p->dry_run ? "would go" : "went",
		       sum->keeps_all ? ": the policy keeps everything" : "");
		return;
	}
	printf("%s/%s: %s %s, about %s; %s %s made for points that stay\n", p->tenant, group,
	       command_count(points, sum->points, "point"), p->dry_run ? "would go" : "went",
	       sosie_size_text(size, sizeof(size), sum->bytes),
	       command_count(generations, sum->generations, "generation"), p->dry_run ? "would be" : "were");
}

static int prune_group(void *arg, const struct sosie_name *name)
{
	struct pruning *p = arg;
	struct sosie_json *obj = sosie_json_push_obj(p->groups);
	struct sosie_group *g = NULL;
	struct sosie_prune sum;

	p->seen++;
	sosie_json_set_str(obj, "tenant", p->tenant);
	sosie_json_set_str(obj, "group", name->s);
	p->rc = sosie_group_open(p->c->store, p->tenant, name->s, &g, p->err);
	if (p->rc == 0)
		p->rc = p->dry_run ? dry_run(p, g, obj, &sum) : prune_all(g, &sum, p->err);
	sosie_group_close(g);
	if (p->rc < 0)
		return 1;
	sosie_json_set_u64(obj, "points", sum.points);
	sosie_json_set_u64(obj, "bytes", sum.bytes);
	sosie_json_set_u64(obj, "generations", sum.generations);
	sosie_json_set_bool(obj, "keeps_everything", sum.keeps_all);
	if (!p->c->json)
		show_sum(p, name->s, &sum);
	return stop_wanted();
}

static int prune_tenant(void *arg, const struct sosie_name *name)
{
	struct pruning *p = arg;
	int rc;

	p->tenant = name->s;
	rc = sosie_store_groups(p->c->store, name->s, prune_group, p, p->err);
	p->rc = p->rc < 0 ? p->rc : rc;
	return p->rc != 0 || stop_wanted();
}

int verb_prune(struct command *c, struct sosie_err *err)
{
	const char *text = c->options.operand_count ? c->options.operands[0] : NULL;
	struct pruning p = {.c = c, .dry_run = options_has(&c->options, "dry-run"), .err = err};
	const bool group = text && strchr(text, '/');
	int rc = text ? sosie_name_pair(text, &c->tenant, group ? &c->name : NULL, err) : 0;

	if (rc == 0)
		rc = command_open_store(c, err);
	if (rc < 0)
		return rc;
	sosie_json_set_str(c->doc, "store", c->store_path);
	sosie_json_set_bool(c->doc, "dry_run", p.dry_run);
	p.groups = sosie_json_add_arr(c->doc, "groups");
	p.tenant = c->tenant.s;
	if (group)
		(void)prune_group(&p, &c->name);
	else if (text)
		(void)prune_tenant(&p, &c->tenant);
	else
		rc = sosie_store_tenants(c->store, prune_tenant, &p, err);
	rc = p.rc < 0 ? p.rc : rc;
	if (rc == 0 && p.seen == 0 && !c->json)
		printf("There is no group yet\n");
	return rc;
}

/* --- the clock
 * ------------------------------------------------------------------------------------------------------- */

int verb_clock_accept(struct command *c, struct sosie_err *err)
{
	struct sosie_clock_state clock;
	char time[COMMAND_TIME];
	int rc = command_open_store(c, err);

	if (rc < 0)
		return rc;
	memset(&clock, 0, sizeof(clock));
	if (sosie_clock_look(c->store, &clock, NULL) < 0)
		snprintf(clock.what, sizeof(clock.what), "its note could not be read");
	rc = sosie_clock_accept(c->store, options_get(&c->options, "reason"), err);
	if (rc < 0)
		return rc;
	sosie_json_set_str(c->doc, "store", c->store_path);
	sosie_json_set_bool(c->doc, "jumped", clock.jumped);
	sosie_json_set_str(c->doc, "what", clock.what[0] ? clock.what : NULL);
	sosie_json_set_time(c->doc, "time", sosie_wall_ms(c->clock));
	if (c->json)
		return 0;
	if (clock.what[0])
		printf("Was: %s\n", clock.what);
	printf("From now on %s counts as right; pruning goes on by it\n",
	       command_time(time, sosie_wall_ms(c->clock)));
	return 0;
}

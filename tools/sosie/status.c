/* SPDX-License-Identifier: MIT */
/* status: how each group stands, and what the operator has to do. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sosie/bytes.h"
#include "sosie/retention.h"
#include "tools/sosie/command.h"

struct overview {
	struct command *c;
	struct sosie_json *groups, *tenants;
	bool keeper, one; /* one: a single group was asked for, and its failure is the command's */
	unsigned shown, failed, alarms;
	struct command_alarms open; /* of what is shown */
	struct sosie_err first;     /* of what failed */
	struct sosie_err err;       /* that ends the walk */
	int rc;
};

static bool refused_lately(const struct sosie_group_status *s)
{
	return s->refused[0] && s->refused_ms > s->newest.accepted_ms;
}

/* What makes status end with 5. */
static bool has_alarm(const struct overview *o, const struct sosie_group_status *s)
{
	return o->open.count > 0 || (!s->keeper && s->uploads_committed > 0) || s->waiting[0] ||
	       refused_lately(s);
}

static const char *state_word(const struct sosie_group_status *s)
{
	if (s->cut_over)
		return "cut-over";
	if (s->head.epoch > 1)
		return "cutover-unfinished";
	if (refused_lately(s))
		return "refused";
	if (s->waiting[0])
		return "waiting";
	if (s->uploads_committed > 0 && !s->keeper)
		return "needs-keeper";
	return s->newest.point ? "replicating" : "empty";
}

static const char *head_word(const struct sosie_group_status *s)
{
	static const char *const words[] = {
	        [SOSIE_HEAD_CLEAN] = "clean",
	        [SOSIE_HEAD_OPEN] = "open",
	        [SOSIE_HEAD_VOID] = "void",
	        [SOSIE_HEAD_NONE] = "none",
	};
	return words[s->head_state];
}

/* Why there is no RPO. */
static const char *rpo_none(const struct sosie_group_status *s)
{
	return s->newest.point ? "cut over" : "no point yet";
}

/* --- retention
 * ----------------------------------------------------------------------------------------------------------
 */

/* What stays of a group. */
struct retention {
	struct sosie_policy_view view;
	uint64_t kept, going, pruned;
	bool known;
	struct sosie_err failure;
};

static void count_points(struct sosie_group *g, struct retention *r)
{
	struct sosie_kept *kept = NULL;
	struct sosie_pruned *ranges = NULL;
	size_t count = 0;
	int rc = sosie_group_kept(g, &kept, &count, &r->failure);

	for (size_t i = 0; rc == 0 && i < count; i++) {
		r->kept += kept[i].by != 0;
		r->going += kept[i].by == 0;
	}
	free(kept);
	if (rc == 0)
		rc = sosie_group_pruned(g, &ranges, &count, &r->failure);
	for (size_t i = 0; rc == 0 && i < count; i++)
		r->pruned += ranges[i].last - ranges[i].first + 1;
	free(ranges);
	r->known = rc == 0;
}

static void look_at_retention(struct command *c, struct sosie_group *g, const struct sosie_name *tenant,
                              const struct sosie_name *group, struct retention *r)
{
	memset(r, 0, sizeof(*r));
	sosie_err_clear(&r->failure);
	if (sosie_policy_view(c->store, tenant->s, group->s, &r->view, &r->failure) == 0)
		count_points(g, r);
}

/* The objective, where one is set; late: the newest point is older. */
static bool objective_of(const struct retention *r, const struct sosie_group_status *s, uint64_t *ms,
                         bool *late)
{
	*ms = r->view.values[SOSIE_POLICY_RPO].value;
	*late = s->rpo_ms >= 0 && (uint64_t)s->rpo_ms > *ms;
	return r->known && r->view.values[SOSIE_POLICY_RPO].set && *ms > 0;
}

static void document_retention(struct sosie_json *obj, const struct retention *r,
                               const struct sosie_group_status *s)
{
	uint64_t objective;
	bool late;

	if (objective_of(r, s, &objective, &late)) {
		sosie_json_set_u64(obj, "objective_s", objective / 1000);
		sosie_json_set_bool(obj, "late", late);
	} else {
		sosie_json_set_null(obj, "objective_s");
		sosie_json_set_null(obj, "late");
	}
	if (!r->known) {
		(void)sosie_json_set_error(obj, "retention", &r->failure);
		return;
	}
	struct sosie_json *kept = sosie_json_add_obj(obj, "retention");
	sosie_json_set_bool(kept, "keeps_everything", r->view.keeps_all);
	sosie_json_set_u64(kept, "points", r->kept);
	sosie_json_set_u64(kept, "going", r->going);
	sosie_json_set_u64(kept, "pruned", r->pruned);
	sosie_json_set_u64(kept, "changes_waiting", r->view.change_count);
}

static void show_retention(const struct retention *r)
{
	char points[COMMAND_COUNT], waiting[COMMAND_COUNT], line[1100], time[COMMAND_TIME];

	if (!r->known) {
		printf("  retention      cannot be told: %s\n",
		       sosie_err_line(&r->failure, line, sizeof(line)));
		return;
	}
	printf("  retention      %s kept%s, %llu pruned", command_count(points, r->kept, "point"),
	       r->view.keeps_all ? " (the policy keeps everything)" : "", (unsigned long long)r->pruned);
	if (r->going)
		printf(", %llu to go", (unsigned long long)r->going);
	if (r->view.change_count)
		printf("; %s of the policy wait%s: sosie policy show",
		       command_count(waiting, r->view.change_count, "change"),
		       r->view.change_count == 1 ? "s" : "");
	printf("\n");
	for (unsigned i = 0; i < r->view.change_count; i++)
		printf("                 from %s: %s\n", command_time(time, r->view.changes[i].from_ms),
		       policy_change_text(line, sizeof(line), &r->view.changes[i]));
}

static void show_objective(const struct retention *r, const struct sosie_group_status *s)
{
	uint64_t objective;
	char text[32];
	bool late;

	if (s->rpo_ms >= 0 && objective_of(r, s, &objective, &late))
		printf("  objective      %s: %s\n", sosie_duration_text(text, sizeof(text), objective),
		       late ? "LATE" : "not late");
}

/* A clock that has jumped needs somebody. True: it has. */
static bool show_clock(struct command *c, struct sosie_json *store)
{
	struct sosie_clock_state clock;
	struct sosie_err err;
	char line[1100];

	if (sosie_clock_look(c->store, &clock, &err) < 0) {
		sosie_json_set_str(store, "clock", err.what);
		if (!c->json)
			printf("  clock          %s\n", sosie_err_line(&err, line, sizeof(line)));
		return true;
	}
	sosie_json_set_str(store, "clock", clock.jumped ? clock.what : NULL);
	if (clock.jumped && !c->json)
		printf("  clock          has JUMPED: %s. Nothing is pruned\n"
		       "                 until you have run sosie clock accept\n",
		       clock.what);
	return clock.jumped;
}

/* --- document
 * ------------------------------------------------------------------------------------------------------------
 */

static void document_numbers(struct sosie_json *obj, const struct sosie_group_status *s)
{
	sosie_json_set_u64(obj, "journal_bytes", s->journal_bytes);
	sosie_json_set_u64(obj, "generations", s->generations);
	sosie_json_set_u64(obj, "newest_generation", s->newest_generation);
	sosie_json_set_u64(obj, "image_bytes", s->image_bytes);
	sosie_json_set_u64(obj, "uploads_committed", s->uploads_committed);
	sosie_json_set_u64(obj, "uploads_open", s->uploads_open);
	sosie_json_set_u64(obj, "inbox_bytes", s->inbox_bytes);
}

static void document_group(struct overview *o, struct sosie_json *obj, const struct sosie_group_status *s)
{
	sosie_json_set_str(obj, "state", state_word(s));
	sosie_json_set_bool(obj, "alarm", has_alarm(o, s));
	command_alarms_json(obj, &o->open);
	sosie_json_set_u64(obj, "epoch", s->head.epoch);
	if (s->newest.point)
		command_point_json(o->c, sosie_json_add_obj(obj, "point"), &s->newest);
	else
		sosie_json_set_null(obj, "point");
	if (s->rpo_ms >= 0)
		sosie_json_set_i64(obj, "rpo_s", s->rpo_ms / 1000);
	else
		sosie_json_set_null(obj, "rpo_s");
	sosie_json_set_str(obj, "rpo_none", s->rpo_ms < 0 ? rpo_none(s) : NULL);
	sosie_json_set_time(obj, "same_time", s->same_ms);
	document_numbers(obj, s);
	sosie_json_set_str(obj, "waiting", s->waiting[0] ? s->waiting : NULL);
	sosie_json_set_str(obj, "refused", s->refused[0] ? s->refused : NULL);
	sosie_json_set_time(obj, "refused_time", s->refused_ms);
	sosie_json_set_str(obj, "head", head_word(s));
	sosie_json_set_str(obj, "live", s->cut_over ? s->live : NULL);
}

/* --- for people
 * --------------------------------------------------------------------------------------------------------------
 */

static void show_state(const struct overview *o, const struct sosie_group_status *s)
{
	const char *word = state_word(s);

	if (s->cut_over)
		printf("  state          cut over, epoch %llu; images in %s\n",
		       (unsigned long long)s->head.epoch, s->live);
	else if (strcmp(word, "cutover-unfinished") == 0)
		printf("  state          a cutover to epoch %llu is not finished: run sosie cutover again\n",
		       (unsigned long long)s->head.epoch);
	else if (strcmp(word, "needs-keeper") == 0)
		printf("  state          uploads wait and no keeper runs: start sosie-keeper\n"
		       "                 --store %s\n",
		       o->c->store_path);
	else if (strcmp(word, "empty") == 0)
		printf("  state          no point yet%s\n",
		       s->uploads_open > 0 ? ": its first upload is not complete" : "");
	else
		printf("  state          %s\n", word);
}

static void show_point(const struct overview *o, const struct sosie_group_status *s)
{
	char time[COMMAND_TIME], text[32];

	if (!s->newest.point)
		return;
	printf("  newest point   %llu, cut %s, %s\n", (unsigned long long)s->newest.point,
	       command_time(time, s->newest.cut_ms), sosie_consistency_name(s->newest.consistency));
	if (s->rpo_ms < 0) {
		printf("  RPO now        - (%s: nothing more is taken from the source)\n", rpo_none(s));
		return;
	}
	sosie_duration_text(text, sizeof(text), (uint64_t)s->rpo_ms / 1000 * 1000);
	printf("  RPO now        %s", text);
	if (s->same_ms > s->newest.cut_ms) {
		sosie_duration_text(text, sizeof(text),
		                    (uint64_t)command_age_ms(o->c, s->same_ms) / 1000 * 1000);
		printf(" (the source said %s ago that nothing had changed)", text);
	}
	printf("\n");
}

static void show_inbox(const struct sosie_group_status *s)
{
	char whole[COMMAND_COUNT], size[32];

	printf("  inbox          %s, %u incomplete, %s\n",
	       command_count(whole, s->uploads_committed, "whole upload"), s->uploads_open,
	       sosie_size_text(size, sizeof(size), s->inbox_bytes));
}

static void show_rest(const struct sosie_group_status *s)
{
	char a[32], b[32], time[COMMAND_TIME];

	printf("  kept           journal %s, %llu generation%s",
	       sosie_size_text(a, sizeof(a), s->journal_bytes), (unsigned long long)s->generations,
	       s->generations == 1 ? "" : "s");
	if (s->newest_generation)
		printf(" (newest: %llu)", (unsigned long long)s->newest_generation);
	printf(", images %s\n", sosie_size_text(b, sizeof(b), s->image_bytes));
	show_inbox(s);
	if (s->waiting[0])
		printf("  waiting        %s\n", s->waiting);
	if (s->refused[0])
		printf("  last refusal   %s: %s\n", command_time(time, s->refused_ms), s->refused);
	if (s->head_state == SOSIE_HEAD_VOID)
		printf("  head           void: it is rebuilt before the next point is accepted\n");
}

static void show_group(const struct overview *o, const struct sosie_name *tenant,
                       const struct sosie_name *group, const struct sosie_group_status *s,
                       const struct retention *r)
{
	printf("\n%s/%s\n", tenant->s, group->s);
	show_state(o, s);
	command_alarms_show(&o->open, "  ");
	show_point(o, s);
	if (s->head.epoch > 0) {
		show_objective(r, s);
		show_rest(s);
		show_retention(r);
	} else {
		show_inbox(s);
	}
}

/* --- the walk
 * -------------------------------------------------------------------------------------------------------------------
 */

static void one_failed(struct overview *o, const struct sosie_name *tenant, const struct sosie_name *group,
                       struct sosie_json *obj, const struct sosie_err *failure)
{
	char line[1100];

	if (o->failed++ == 0)
		o->first = *failure;
	(void)sosie_json_set_error(obj, "error", failure);
	if (!o->c->json && !o->one)
		printf("\n%s/%s\n  cannot be read: %s\n", tenant->s, group->s,
		       sosie_err_line(failure, line, sizeof(line)));
}

static void one_group(struct overview *o, const struct sosie_name *tenant, const struct sosie_name *group)
{
	static struct sosie_group_status s;
	static struct retention r;
	struct sosie_json *obj = sosie_json_push_obj(o->groups);
	struct sosie_group *g = NULL;
	struct sosie_err failure;
	int rc = sosie_group_open(o->c->store, tenant->s, group->s, &g, &failure);

	sosie_json_set_str(obj, "tenant", tenant->s);
	sosie_json_set_str(obj, "group", group->s);
	if (rc == 0)
		rc = sosie_group_status(g, &s, &failure);
	const bool opened = g != NULL;
	if (opened)
		look_at_retention(o->c, g, tenant, group, &r);
	sosie_group_close(g);
	memset(&o->open, 0, sizeof(o->open));
	if (opened && rc == 0)
		rc = command_alarms(o->c, tenant->s, group->s, &o->open, &failure);
	o->c->alarms = &o->open;
	if (rc == -SOSIE_ENOTFOUND && !opened &&
	    sosie_inbox_status(o->c->store, tenant->s, group->s, &s, NULL) == 0)
		rc = 0; /* its first upload waits for a keeper */
	if (rc < 0) {
		one_failed(o, tenant, group, obj, &failure);
		return;
	}
	o->shown++;
	o->alarms += has_alarm(o, &s);
	document_group(o, obj, &s);
	if (opened)
		document_retention(obj, &r, &s);
	if (!o->c->json)
		show_group(o, tenant, group, &s, &r);
}

struct group_walk {
	struct overview *o;
	const struct sosie_name *tenant;
};

static int on_group(void *arg, const struct sosie_name *name)
{
	struct group_walk *walk = arg;

	one_group(walk->o, walk->tenant, name);
	return 0;
}

/* What a tenant may take, where that is worth a word: alarms, and a quota that there is not. */
static void one_tenant(struct overview *o, const struct sosie_name *tenant)
{
	struct sosie_json *obj = sosie_json_push_obj(o->tenants);
	struct sosie_tenant_info info;
	struct sosie_err failure;
	char line[1100];
	int rc = sosie_tenant_info(o->c->store, tenant->s, &info, &failure);

	sosie_json_set_str(obj, "tenant", tenant->s);
	if (rc == 0)
		rc = command_alarms(o->c, tenant->s, NULL, &o->open, &failure);
	if (rc < 0) {
		if (o->failed++ == 0)
			o->first = failure;
		(void)sosie_json_set_error(obj, "error", &failure);
		if (!o->c->json)
			printf("\ntenant %s\n  cannot be read: %s\n", tenant->s,
			       sosie_err_line(&failure, line, sizeof(line)));
		return;
	}
	if (info.quota)
		sosie_json_set_u64(obj, "quota", info.quota);
	else
		sosie_json_set_null(obj, "quota");
	sosie_json_set_u64(obj, "used", info.used);
	command_alarms_json(obj, &o->open);
	o->alarms += o->open.count > 0;
	if (o->c->json || (info.quota && o->open.count == 0))
		return;
	printf("\ntenant %s\n", tenant->s);
	if (!info.quota)
		printf("  quota          NONE: its sources can fill the disk (sosie tenant set %s "
		       "quota=SIZE)\n",
		       tenant->s);
	command_alarms_show(&o->open, "  ");
}

static int on_tenant(void *arg, const struct sosie_name *name)
{
	struct overview *o = arg;
	struct group_walk walk = {o, name};
	const unsigned before = o->shown + o->failed;

	one_tenant(o, name);
	o->rc = sosie_store_groups(o->c->store, name->s, on_group, &walk, &o->err);
	if (o->rc == 0)
		o->rc = sosie_inbox_groups(o->c->store, name->s, on_group, &walk, &o->err);
	if (!o->c->json && o->rc == 0 && before == o->shown + o->failed)
		printf("\n%s\n  no group yet: one appears with its first upload\n", name->s);
	return o->rc;
}

/* Free space, the reserve, and the alarms of the store itself. */
static void show_space(struct overview *o, struct sosie_json *obj, const struct sosie_space *s)
{
	char a[32], b[32];

	sosie_json_set_u64(obj, "free_bytes", s->free_bytes);
	sosie_json_set_u64(obj, "reserve_bytes", s->reserve_bytes);
	command_alarms_json(obj, &o->open);
	o->alarms += o->open.count > 0;
	if (o->c->json)
		return;
	printf("  space          %s free; uploads wait below the reserve of %s\n",
	       sosie_size_text(a, sizeof(a), s->free_bytes), sosie_size_text(b, sizeof(b), s->reserve_bytes));
	command_alarms_show(&o->open, "  ");
}

static int show_store(struct overview *o, struct sosie_err *err)
{
	struct sosie_json *obj = sosie_json_add_obj(o->c->doc, "store");
	struct sosie_store_info info;
	struct sosie_space space;
	int pid;
	int rc = sosie_store_keeper(o->c->store, &o->keeper, &pid, err);

	if (rc == 0)
		rc = sosie_store_space(o->c->store, &space, err);
	if (rc == 0)
		rc = command_alarms(o->c, NULL, NULL, &o->open, err);
	if (rc < 0)
		return rc;
	sosie_store_info(o->c->store, &info);
	sosie_json_set_str(obj, "path", o->c->store_path);
	sosie_json_set_hex(obj, "id", info.id.b, sizeof(info.id.b));
	sosie_json_set_time(obj, "created", info.created_ms);
	sosie_json_set_bool(obj, "reflink", info.reflink);
	sosie_json_set_str(obj, "io", o->c->io_reason);
	sosie_json_set_bool(obj, "keeper", o->keeper);
	sosie_json_set_i64(obj, "keeper_pid", pid);
	sosie_json_set_u64(obj, "fold_bytes", info.policy.fold_bytes);
	sosie_json_set_u64(obj, "fold_points", info.policy.fold_points);
	if (o->c->json) {
		show_space(o, obj, &space);
		o->alarms += show_clock(o->c, obj);
		return 0;
	}
	printf("store %s\n", o->c->store_path);
	if (o->keeper)
		printf("  keeper         running, process %d\n", pid);
	else
		printf("  keeper         NOT running: nothing is accepted. Start sosie-keeper\n");
	printf("  generations    made by %s\n",
	       info.reflink ? "reflink" : "copy (this filesystem has no reflink)");
	printf("  I/O            %s (of this command; the keeper's is in its log)\n", o->c->io_reason);
	show_space(o, obj, &space);
	o->alarms += show_clock(o->c, obj);
	return 0;
}

static int finish(struct overview *o, struct sosie_err *err)
{
	if (o->failed > 0) {
		*err = o->first;
		if (o->shown == 0)
			return -(int)err->code;
		o->c->some = err;
		return COMMAND_SOME;
	}
	return o->alarms > 0 ? COMMAND_FOUND : 0;
}

int verb_status(struct command *c, struct sosie_err *err)
{
	static struct overview o;
	const char *file = options_get(&c->options, "config"), *state = options_get(&c->options, "state");
	int rc;

	if (file && state)
		return options_usage(&c->options, err,
		                     "--config names the state folder: no --state beside it");
	if ((file || state) && options_nth(&c->options, "store", 0))
		return options_usage(&c->options, err,
		                     "--store is the standby's, %s the source's: one of both",
		                     file ? "--config" : "--state");
	if (file || state)
		return status_of_source(c, file, state, err);
	if (options_has(&c->options, "watch"))
		return options_usage(&c->options, err, "--watch goes with --config or --state");
	o.c = c;
	o.one = c->options.operand_count > 0;
	rc = o.one ? command_group_name(c, err) : 0;
	if (rc == 0)
		rc = command_open_store(c, err);
	if (rc == 0)
		rc = show_store(&o, err);
	if (rc < 0)
		return rc;
	o.tenants = sosie_json_add_arr(c->doc, "tenants");
	o.groups = sosie_json_add_arr(c->doc, "groups");
	if (o.one) {
		one_group(&o, &c->tenant, &c->name);
		if (o.shown > 0)
			one_tenant(&o, &c->tenant);
	} else {
		rc = sosie_store_tenants(c->store, on_tenant, &o, err);
		if (rc == 0 && o.rc < 0) {
			*err = o.err;
			rc = o.rc;
		}
	}
	return rc < 0 ? rc : finish(&o, err);
}

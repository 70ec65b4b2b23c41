/* SPDX-License-Identifier: MIT */
/* status: how each group stands, and what the operator has to do. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sosie/bytes.h"
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
                       const struct sosie_name *group, const struct sosie_group_status *s)
{
	printf("\n%s/%s\n", tenant->s, group->s);
	show_state(o, s);
	command_alarms_show(&o->open, "  ");
	show_point(o, s);
	if (s->head.epoch > 0)
		show_rest(s);
	else
		show_inbox(s);
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
	struct sosie_json *obj = sosie_json_push_obj(o->groups);
	struct sosie_group *g = NULL;
	struct sosie_err failure;
	int rc = sosie_group_open(o->c->store, tenant->s, group->s, &g, &failure);

	sosie_json_set_str(obj, "tenant", tenant->s);
	sosie_json_set_str(obj, "group", group->s);
	if (rc == 0)
		rc = sosie_group_status(g, &s, &failure);
	const bool opened = g != NULL;
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
	if (!o->c->json)
		show_group(o, tenant, group, &s);
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

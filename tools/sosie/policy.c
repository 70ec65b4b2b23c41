/* SPDX-License-Identifier: MIT */
/* policy show, set, cancel: what the standby keeps, and what waits to change that. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sosie/retention.h"
#include "tools/sosie/command.h"

static const char *const level_names[] = {
        [SOSIE_LEVEL_DEFAULT] = "default",
        [SOSIE_LEVEL_STORE] = "store",
        [SOSIE_LEVEL_TENANT] = "tenant",
        [SOSIE_LEVEL_GROUP] = "group",
};

/* What a verb is about: the store, a tenant, a group. */
struct target {
	const char *tenant, *group; /* NULL where it is not named */
	char text[2 * SOSIE_NAME_MAX + 16];
};

static int take_target(struct command *c, const char *text, struct target *t, struct sosie_err *err)
{
	int rc = 0;

	memset(t, 0, sizeof(*t));
	snprintf(t->text, sizeof(t->text), "the store");
	if (!text)
		return 0;
	rc = sosie_name_pair(text, &c->tenant, strchr(text, '/') ? &c->name : NULL, err);
	if (rc < 0)
		return rc;
	t->tenant = c->tenant.s;
	t->group = strchr(text, '/') ? c->name.s : NULL;
	snprintf(t->text, sizeof(t->text), "%s%s%s", t->tenant, t->group ? "/" : "",
	         t->group ? t->group : "");
	return 0;
}

static void document_target(struct command *c, const struct target *t)
{
	sosie_json_set_str(c->doc, "store", c->store_path);
	sosie_json_set_str(c->doc, "tenant", t->tenant);
	sosie_json_set_str(c->doc, "group", t->group);
}

/* --- show
 * -----------------------------------------------------------------------------------------------------------
 */

static void show_value(struct command *c, struct sosie_json *values, enum sosie_policy_key key,
                       const struct sosie_policy_value *v)
{
	struct sosie_json *obj = sosie_json_add_obj(values, sosie_policy_name(key));
	char text[32] = "-";

	if (v->set)
		sosie_json_set_u64(obj, "value", v->value);
	else
		sosie_json_set_null(obj, "value");
	sosie_json_set_str(obj, "from", v->set ? level_names[v->level] : NULL);
	if (c->json)
		return;
	if (v->set)
		(void)sosie_policy_text(text, sizeof(text), key, v->value);
	printf("  %-14s %-12s %s\n", sosie_policy_name(key), text, v->set ? level_names[v->level] : "");
}

const char *policy_change_text(char *dst, size_t size, const struct sosie_policy_change *change)
{
	char value[32] = "inherit";

	if (!change->inherit)
		(void)sosie_policy_text(value, sizeof(value), change->key, change->value);
	snprintf(dst, size, "%s = %s (%s)", sosie_policy_name(change->key), value,
	         level_names[change->level]);
	return dst;
}

static void document_change(struct sosie_json *obj, const struct sosie_policy_change *change)
{
	sosie_json_set_str(obj, "id", change->id);
	sosie_json_set_str(obj, "level", level_names[change->level]);
	sosie_json_set_str(obj, "key", sosie_policy_name(change->key));
	if (change->inherit)
		sosie_json_set_null(obj, "value");
	else
		sosie_json_set_u64(obj, "value", change->value);
	sosie_json_set_time(obj, "asked", change->asked_ms);
	sosie_json_set_time(obj, "from", change->from_ms);
}

static void show_changes(struct command *c, const struct sosie_policy_view *view)
{
	struct sosie_json *list = sosie_json_add_arr(c->doc, "changes");
	char text[96], time[COMMAND_TIME];

	for (unsigned i = 0; i < view->change_count; i++) {
		const struct sosie_policy_change *change = &view->changes[i];
		document_change(sosie_json_push_obj(list), change);
		if (c->json)
			continue;
		if (i == 0)
			printf("\nThese changes wait (sosie policy cancel ID takes one back):\n");
		printf("  %s  from %s: %s\n", change->id, command_time(time, change->from_ms),
		       policy_change_text(text, sizeof(text), change));
	}
}

static int show_clock(struct command *c, struct sosie_err *err)
{
	struct sosie_clock_state clock;
	int rc = sosie_clock_look(c->store, &clock, err);

	if (rc < 0)
		return rc;
	sosie_json_set_str(c->doc, "clock", clock.jumped ? clock.what : NULL);
	if (clock.jumped && !c->json)
		printf("\nNothing is pruned and no change ripens: %s.\n"
		       "When the clock is right, run \"sosie clock accept\"\n",
		       clock.what);
	return 0;
}

int verb_policy_show(struct command *c, struct sosie_err *err)
{
	static struct sosie_policy_view view;
	struct target t;
	int rc = take_target(c, c->options.operand_count ? c->options.operands[0] : NULL, &t, err);

	if (rc == 0)
		rc = command_open_store(c, err);
	if (rc == 0)
		rc = sosie_policy_view(c->store, t.tenant, t.group, &view, err);
	if (rc < 0)
		return rc;
	document_target(c, &t);
	sosie_json_set_bool(c->doc, "keeps_everything", view.keeps_all);
	struct sosie_json *values = sosie_json_add_obj(c->doc, "values");
	if (!c->json)
		printf("Policy of %s\n", t.text);
	for (unsigned i = 0; i < SOSIE_POLICY_KEYS; i++)
		if (i != SOSIE_POLICY_QUOTA || t.tenant)
			show_value(c, values, (enum sosie_policy_key)i, &view.values[i]);
	if (!c->json && view.keeps_all)
		printf("\nEvery point is kept: there is no floor and no wish.\n");
	else if (!c->json && view.wishes_all)
		printf("\nEvery point is kept while there is room, the floor whatever comes.\n");
	else if (!c->json)
		printf("\nThe floor is kept whatever comes, the wish while there is room; the rest goes.\n");
	show_changes(c, &view);
	return show_clock(c, err);
}

/* --- set
 * ------------------------------------------------------------------------------------------------------------
 */

static int set_one(struct command *c, const struct target *t, const char *text, struct sosie_json *list,
                   struct sosie_err *err)
{
	enum sosie_policy_key key;
	uint64_t value;
	bool inherit;
	int64_t from_ms = 0;
	char time[COMMAND_TIME];
	int rc = sosie_policy_parse(text, &key, &value, &inherit, err);

	if (rc == 0)
		rc = sosie_policy_set(c->store, t->tenant, t->group, key, value, inherit, &from_ms, err);
	if (rc < 0)
		return rc;
	struct sosie_json *obj = sosie_json_push_obj(list);
	sosie_json_set_str(obj, "key", sosie_policy_name(key));
	if (inherit)
		sosie_json_set_null(obj, "value");
	else
		sosie_json_set_u64(obj, "value", value);
	sosie_json_set_time(obj, "from", from_ms);
	if (c->json)
		return 0;
	if (from_ms == 0)
		printf("%s: %s holds now\n", t->text, text);
	else
		printf("%s: %s holds from %s on: points may go by it.\n"
		       "  Until then \"sosie policy show\" lists it, and \"sosie policy cancel\" takes it "
		       "back\n",
		       t->text, text, command_time(time, from_ms));
	return 0;
}

/* All are looked at before the first is made: a mistyped one changes nothing. */
static int check_all(struct command *c, size_t first, struct sosie_err *err)
{
	enum sosie_policy_key key;
	uint64_t value;
	bool inherit;
	int rc = 0;

	if (first >= c->options.operand_count)
		return options_usage(&c->options, err, "which KEY=VALUE?");
	for (size_t i = first; rc == 0 && i < c->options.operand_count; i++)
		rc = sosie_policy_parse(c->options.operands[i], &key, &value, &inherit, err);
	return rc;
}

int verb_policy_set(struct command *c, struct sosie_err *err)
{
	const size_t first = strchr(c->options.operands[0], '=') ? 0 : 1;
	struct target t;
	int rc = take_target(c, first ? c->options.operands[0] : NULL, &t, err);

	if (rc == 0)
		rc = check_all(c, first, err);
	if (rc == 0)
		rc = command_open_store(c, err);
	if (rc < 0)
		return rc;
	document_target(c, &t);
	struct sosie_json *list = sosie_json_add_arr(c->doc, "set");
	for (size_t i = first; rc == 0 && i < c->options.operand_count; i++)
		rc = set_one(c, &t, c->options.operands[i], list, err);
	return rc;
}

int verb_policy_cancel(struct command *c, struct sosie_err *err)
{
	struct sosie_policy_change change;
	char text[96];
	int rc = command_open_store(c, err);

	if (rc == 0)
		rc = sosie_policy_cancel(c->store, c->options.operands[0], &change, err);
	if (rc < 0)
		return rc;
	sosie_json_set_str(c->doc, "store", c->store_path);
	document_change(sosie_json_add_obj(c->doc, "change"), &change);
	if (!c->json)
		printf("Taken back: %s\n", policy_change_text(text, sizeof(text), &change));
	return 0;
}

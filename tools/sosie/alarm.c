/* SPDX-License-Identifier: MIT */
/* alarm list, alarm close; and the alarms of a group as other verbs show them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sosie/alarm.h"
#include "tools/sosie/command.h"

struct listing {
	struct command *c;
	struct sosie_json *list;
	bool all; /* closed ones too */
	unsigned shown, open;
};

/* Empty for the store's own. */
static const char *place(char *dst, size_t size, const struct sosie_alarm *a)
{
	snprintf(dst, size, "%s%s%s", a->tenant.s[0] ? a->tenant.s : "(store)", a->group.s[0] ? "/" : "",
	         a->group.s);
	return dst;
}

static void show(const struct sosie_alarm *a)
{
	char id[SOSIE_ALARM_ID], where[2 * SOSIE_NAME_MAX + 8], since[COMMAND_TIME], seen[COMMAND_TIME];

	printf("%-6s %-8s %s\n", sosie_alarm_id(id, a->number), sosie_alarm_kind_name(a->kind),
	       place(where, sizeof(where), a));
	printf("       %s\n       since %s", a->text, command_time(since, a->since_ms));
	if (a->count > 1)
		printf(", seen %llu times, last %s", (unsigned long long)a->count,
		       command_time(seen, a->seen_ms));
	printf("\n");
	if (a->closed_ms)
		printf("       closed %s%s%s\n", command_time(seen, a->closed_ms), a->reason[0] ? ": " : "",
		       a->reason);
}

static int on_alarm(void *arg, const struct sosie_alarm *a)
{
	struct listing *l = arg;

	l->open += a->closed_ms == 0;
	if (a->closed_ms && !l->all)
		return 0;
	l->shown++;
	if (l->c->json)
		sosie_alarm_json(sosie_json_push_obj(l->list), a);
	else
		show(a);
	return 0;
}

/* "TENANT" or "TENANT/GROUP"; nothing: all of the store. */
static int read_place(struct command *c, struct sosie_err *err)
{
	if (c->options.operand_count == 0)
		return 0;
	if (strchr(c->options.operands[0], '/'))
		return sosie_name_pair(c->options.operands[0], &c->tenant, &c->name, err);
	return sosie_name_set(&c->tenant, SOSIE_NAME_TENANT, c->options.operands[0], err);
}

/* Something that is not there has no alarms, and that would be a comfort that is none. */
static int check_place(struct command *c, struct sosie_err *err)
{
	struct sosie_tenant_info tenant;
	struct sosie_group *g = NULL;
	int rc = c->tenant.s[0] ? sosie_tenant_info(c->store, c->tenant.s, &tenant, err) : 0;

	if (rc == 0 && c->name.s[0]) {
		rc = sosie_group_open(c->store, c->tenant.s, c->name.s, &g, err);
		sosie_group_close(g);
		rc = rc == -SOSIE_ECORRUPT ? 0 : rc; /* its alarms tell of that */
	}
	return rc;
}

int verb_alarm_list(struct command *c, struct sosie_err *err)
{
	struct listing l = {.c = c, .all = options_has(&c->options, "all")};
	int rc = read_place(c, err);

	if (rc == 0)
		rc = command_open_store(c, err);
	if (rc == 0)
		rc = check_place(c, err);
	if (rc < 0)
		return rc;
	sosie_json_set_str(c->doc, "store", c->store_path);
	l.list = sosie_json_add_arr(c->doc, "alarms");
	rc = sosie_alarm_walk(c->store, c->tenant.s[0] ? c->tenant.s : NULL, c->name.s[0] ? c->name.s : NULL,
	                      on_alarm, &l, err);
	sosie_json_set_u64(c->doc, "open", l.open);
	if (!c->json && rc == 0 && l.shown == 0)
		printf("no alarm%s\n", l.all ? "" : " is open (--all shows those that were closed)");
	return rc;
}

int verb_alarm_close(struct command *c, struct sosie_err *err)
{
	const char *reason = options_get(&c->options, "reason");
	char text[SOSIE_ALARM_REASON + 1], id[SOSIE_ALARM_ID], where[2 * SOSIE_NAME_MAX + 8];
	struct sosie_alarm a;
	int rc = command_open_store(c, err);

	if (rc == 0 && reason && strlen(reason) > SOSIE_ALARM_REASON)
		rc = options_usage(&c->options, err, "--reason takes at most %u bytes", SOSIE_ALARM_REASON);
	if (rc == 0)
		rc = sosie_alarm_close(
		        c->store, c->options.operands[0],
		        reason ? sosie_escape(text, sizeof(text), reason, strlen(reason)) : NULL, &a, err);
	if (rc < 0)
		return rc;
	sosie_json_set_str(c->doc, "store", c->store_path);
	sosie_alarm_json(sosie_json_add_obj(c->doc, "alarm"), &a);
	if (!c->json)
		printf("Closed %s (%s, %s). Should its cause go on, another one is opened.\n",
		       sosie_alarm_id(id, a.number), sosie_alarm_kind_name(a.kind),
		       place(where, sizeof(where), &a));
	return 0;
}

/* --- for other verbs
 * ------------------------------------------------------------------------------------------------ */

static int gather(void *arg, const struct sosie_alarm *a)
{
	struct command_alarms *out = arg;

	if (!a->closed_ms && out->count < SOSIE_ALARM_KINDS)
		out->list[out->count++] = *a;
	return 0;
}

int command_alarms(struct command *c, const char *tenant, const char *group, struct command_alarms *out,
                   struct sosie_err *err)
{
	memset(out, 0, sizeof(*out));
	return sosie_alarm_each(c->store, tenant, group, gather, out, err);
}

void command_alarms_json(struct sosie_json *obj, const struct command_alarms *alarms)
{
	struct sosie_json *list = sosie_json_add_arr(obj, "alarms");

	for (unsigned i = 0; i < alarms->count; i++)
		sosie_alarm_json(sosie_json_push_obj(list), &alarms->list[i]);
}

void command_alarms_show(const struct command_alarms *alarms, const char *indent)
{
	char id[SOSIE_ALARM_ID], since[COMMAND_TIME];

	for (unsigned i = 0; i < alarms->count; i++) {
		const struct sosie_alarm *a = &alarms->list[i];
		printf("%s%-14s %s %s, since %s: %s\n", indent, "ALARM", sosie_alarm_id(id, a->number),
		       sosie_alarm_kind_name(a->kind), command_time(since, a->since_ms), a->text);
	}
}

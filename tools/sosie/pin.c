/* SPDX-License-Identifier: MIT */
/* pin, unpin, pin list: points that stay until an operator lets them go. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sosie/retention.h"
#include "tools/sosie/command.h"

static int open_point(struct command *c, uint64_t *point, struct sosie_err *err)
{
	int rc = command_point(c, point, err);

	if (rc == 0 && !options_has(&c->options, "point"))
		rc = options_usage(&c->options, err, "--point is missing: which point?");
	if (rc == 0)
		rc = command_open_group(c, err);
	if (rc == 0 && *point == 0)
		*point = sosie_group_points(c->group);
	return rc;
}

int verb_pin(struct command *c, struct sosie_err *err)
{
	const char *reason = options_get(&c->options, "reason");
	uint64_t point;
	int rc = open_point(c, &point, err);

	if (rc == 0)
		rc = sosie_pin_add(c->group, point, reason ? reason : "", err);
	if (rc < 0)
		return rc;
	sosie_json_set_u64(c->doc, "point", point);
	if (!c->json)
		printf("%s/%s: point %llu stays until it is unpinned\n", c->tenant.s, c->name.s,
		       (unsigned long long)point);
	return 0;
}

int verb_unpin(struct command *c, struct sosie_err *err)
{
	const char *reason = options_get(&c->options, "reason");
	char time[COMMAND_TIME];
	uint64_t point;
	int64_t from_ms = 0;
	int rc = open_point(c, &point, err);

	if (rc == 0)
		rc = sosie_pin_remove(c->group, point, reason ? reason : "", &from_ms, err);
	if (rc < 0)
		return rc;
	sosie_json_set_u64(c->doc, "point", point);
	sosie_json_set_time(c->doc, "from", from_ms);
	if (!c->json)
		printf("%s/%s: point %llu may go from %s on; to keep it, pin it again\n", c->tenant.s,
		       c->name.s, (unsigned long long)point, command_time(time, from_ms));
	return 0;
}

struct listing {
	struct command *c;
	struct sosie_json *list;
	const char *tenant;
	unsigned shown;
	int rc;
	struct sosie_err *err;
};

static void show_pin(struct listing *l, const char *group, const struct sosie_pin *pin)
{
	struct sosie_json *obj = sosie_json_push_obj(l->list);
	char since[COMMAND_TIME], until[COMMAND_TIME + 16] = "", time[COMMAND_TIME];

	l->shown++;
	sosie_json_set_str(obj, "tenant", l->tenant);
	sosie_json_set_str(obj, "group", group);
	sosie_json_set_u64(obj, "point", pin->point);
	sosie_json_set_time(obj, "since", pin->since_ms);
	sosie_json_set_time(obj, "until", pin->until_ms);
	sosie_json_set_str(obj, "reason", pin->reason);
	if (l->c->json)
		return;
	if (pin->until_ms)
		snprintf(until, sizeof(until), ", until %s", command_time(time, pin->until_ms));
	printf("%s/%s  point %llu  since %s%s%s%s\n", l->tenant, group, (unsigned long long)pin->point,
	       command_time(since, pin->since_ms), until, pin->reason[0] ? ": " : "", pin->reason);
}

static int list_group(void *arg, const struct sosie_name *name)
{
	struct listing *l = arg;
	struct sosie_group *g = NULL;
	struct sosie_pin *pins = NULL;
	unsigned count = 0;

	l->rc = sosie_group_open(l->c->store, l->tenant, name->s, &g, l->err);
	if (l->rc == 0)
		l->rc = sosie_pins(g, &pins, &count, l->err);
	for (unsigned i = 0; l->rc == 0 && i < count; i++)
		show_pin(l, name->s, &pins[i]);
	free(pins);
	sosie_group_close(g);
	return l->rc;
}

static int list_tenant(void *arg, const struct sosie_name *name)
{
	struct listing *l = arg;
	int rc;

	l->tenant = name->s;
	rc = sosie_store_groups(l->c->store, name->s, list_group, l, l->err);
	l->rc = l->rc < 0 ? l->rc : rc;
	return l->rc;
}

int verb_pin_list(struct command *c, struct sosie_err *err)
{
	struct listing l = {.c = c, .err = err};
	const bool one = c->options.operand_count > 0;
	int rc = one ? command_group_name(c, err) : 0;

	if (rc == 0)
		rc = command_open_store(c, err);
	if (rc < 0)
		return rc;
	sosie_json_set_str(c->doc, "store", c->store_path);
	l.list = sosie_json_add_arr(c->doc, "pins");
	l.tenant = c->tenant.s;
	if (one)
		(void)list_group(&l, &c->name);
	else
		rc = sosie_store_tenants(c->store, list_tenant, &l, err);
	rc = l.rc < 0 ? l.rc : rc;
	if (rc == 0 && l.shown == 0 && !c->json)
		printf("No point is pinned\n");
	return rc;
}

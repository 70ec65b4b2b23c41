/* SPDX-License-Identifier: MIT */
/* tenant set, tenant show: what a tenant may take. */
#include <stdio.h>
#include <string.h>

#include "sosie/retention.h"
#include "tools/sosie/command.h"

/* All values of the command line, before anything is opened. */
static int read_changes(struct command *c, struct sosie_limits *values, bool given[SOSIE_LIMITS],
                        struct sosie_err *err)
{
	for (size_t i = 1; i < c->options.operand_count; i++) {
		enum sosie_limit limit;
		uint64_t value;
		bool inherit;
		int rc = sosie_limit_parse(c->options.operands[i], &limit, &value, &inherit, err);

		if (rc < 0)
			return rc;
		if (given[limit])
			return options_usage(&c->options, err, "%s is given twice", sosie_limit_name(limit));
		given[limit] = true;
		values->value[limit] = value;
		values->set[limit] = !inherit;
	}
	return 0;
}

static void show_limits(struct command *c, const struct sosie_limits *l)
{
	struct sosie_json *obj = sosie_json_add_obj(c->doc, "limits");
	char text[40];

	for (unsigned i = 0; i < SOSIE_LIMITS; i++) {
		const enum sosie_limit limit = (enum sosie_limit)i;
		if (l->value[i])
			sosie_json_set_u64(obj, sosie_limit_name(limit), l->value[i]);
		else
			sosie_json_set_null(obj, sosie_limit_name(limit));
		if (!c->json)
			printf("  %-14s %s%s\n", sosie_limit_name(limit),
			       sosie_limit_text(text, sizeof(text), limit, l->value[i]),
			       l->set[i] ? "" : " (default)");
	}
	if (!c->json && !l->value[SOSIE_LIMIT_QUOTA])
		printf("  Without a quota its sources can fill the disk.\n");
}

static int open_tenant(struct command *c, struct sosie_limits *l, struct sosie_err *err)
{
	int rc = sosie_name_set(&c->tenant, SOSIE_NAME_TENANT, c->options.operands[0], err);

	if (rc == 0)
		rc = command_open_store(c, err);
	if (rc == 0)
		rc = sosie_limits_get(c->store, c->tenant.s, l, err);
	if (rc < 0)
		return rc;
	sosie_json_set_str(c->doc, "store", c->store_path);
	sosie_json_set_str(c->doc, "tenant", c->tenant.s);
	return 0;
}

/* As "sosie policy set TENANT quota=" does it: points may go by a smaller one, which waits. */
static int set_quota(struct command *c, uint64_t quota, struct sosie_err *err)
{
	char time[COMMAND_TIME], size[32];
	int64_t from_ms = 0;
	int rc = sosie_policy_set(c->store, c->tenant.s, NULL, SOSIE_POLICY_QUOTA, quota, false, &from_ms,
	                          err);

	if (rc < 0)
		return rc;
	sosie_json_set_time(c->doc, "quota_from", from_ms);
	if (from_ms && !c->json)
		printf("The quota of %s holds from %s on: points may go by it.\n"
		       "  Until then \"sosie policy show\" lists it, and \"sosie policy cancel\" takes it "
		       "back\n",
		       sosie_size_text(size, sizeof(size), quota), command_time(time, from_ms));
	return 0;
}

int verb_tenant_set(struct command *c, struct sosie_err *err)
{
	struct sosie_limits changes = {.value = {0}}, l;
	bool given[SOSIE_LIMITS] = {false};
	int rc = read_changes(c, &changes, given, err);

	if (rc == 0)
		rc = open_tenant(c, &l, err);
	for (unsigned i = 0; rc == 0 && i < SOSIE_LIMITS; i++)
		if (given[i]) {
			l.value[i] = changes.value[i];
			l.set[i] = changes.set[i];
		}
	if (rc == 0)
		rc = sosie_limits_set(c->store, c->tenant.s, &l, err);
	if (rc == 0 && given[SOSIE_LIMIT_QUOTA])
		rc = set_quota(c, changes.value[SOSIE_LIMIT_QUOTA], err);
	if (rc == 0) /* with the defaults */
		rc = sosie_limits_get(c->store, c->tenant.s, &l, err);
	if (rc < 0)
		return rc;
	if (!c->json)
		printf("The tenant %s may take from now on:\n", c->tenant.s);
	show_limits(c, &l);
	return 0;
}

int verb_tenant_show(struct command *c, struct sosie_err *err)
{
	struct sosie_tenant_info info;
	struct sosie_limits l;
	char size[32];
	int rc = open_tenant(c, &l, err);

	if (rc == 0)
		rc = sosie_tenant_info(c->store, c->tenant.s, &info, err);
	if (rc < 0)
		return rc;
	sosie_json_set_u64(c->doc, "used", info.used);
	sosie_json_set_u64(c->doc, "keys", info.keys);
	if (!c->json)
		printf("tenant %s: %s used, %u keys\n", c->tenant.s,
		       sosie_size_text(size, sizeof(size), info.used), info.keys);
	show_limits(c, &l);
	return 0;
}

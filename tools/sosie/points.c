/* SPDX-License-Identifier: MIT */
/* points: what can be cut over to. */
#include <stdio.h>
#include <string.h>

#include "tools/sosie/command.h"

static void show(struct command *c, const struct sosie_point *p)
{
	char time[COMMAND_TIME], age[32], bytes[32];

	printf("%8llu  %-23s  %-12s  %-11s  %8s  %10s\n", (unsigned long long)p->point,
	       command_time(time, p->cut_ms),
	       sosie_duration_text(age, sizeof(age), (uint64_t)command_age_ms(c, p->cut_ms) / 1000 * 1000),
	       sosie_consistency_name(p->consistency), p->verified ? "yes" : "no",
	       sosie_size_text(bytes, sizeof(bytes), p->stored));
}

int verb_points(struct command *c, struct sosie_err *err)
{
	unsigned long long last = UINT64_MAX;
	int rc = options_number(&c->options, "last", 1, UINT64_MAX - 1, &last, err);

	if (rc == 0)
		rc = command_open_group(c, err);
	if (rc < 0)
		return rc;
	const uint64_t newest = sosie_group_points(c->group);
	struct sosie_json *list = sosie_json_add_arr(c->doc, "points");
	if (!c->json && newest == 0)
		printf("%s/%s has no point yet\n", c->tenant.s, c->name.s);
	else if (!c->json)
		printf("%8s  %-23s  %-12s  %-11s  %8s  %10s\n", "POINT", "CUT", "AGE", "CONSISTENCY",
		       "VERIFIED", "BYTES");
	for (uint64_t n = newest > last ? newest - last + 1 : 1; rc == 0 && n <= newest; n++) {
		struct sosie_point p;
		rc = sosie_group_point(c->group, n, &p, err);
		if (rc == 0 && c->json)
			command_point_json(c, sosie_json_push_obj(list), &p);
		else if (rc == 0)
			show(c, &p);
	}
	if (rc == 0 && !c->json && c->alarms)
		command_alarms_show(c->alarms, ""); /* verified is not clean */
	return rc;
}

/* SPDX-License-Identifier: MIT */
/* export: the images of a point as files of the operator's own. */
#include <stdio.h>
#include <stdlib.h>

#include "tools/sosie/command.h"

/* The content leaves the store: said before it does. */
static void audit_export(struct command *c, uint64_t point, const char *into)
{
	struct sosie_json *body = sosie_json_new();

	sosie_json_set_str(body, "command", "export");
	sosie_json_set_str(body, "group", c->name.s);
	sosie_json_set_u64(body, "point", point);
	sosie_json_set_str(body, "into", into);
	command_audit_try(c, c->tenant.s, SOSIE_AUDIT_COMMAND, body);
}

int verb_export(struct command *c, struct sosie_err *err)
{
	struct sosie_image *images = NULL;
	struct sosie_point p;
	char into[COMMAND_PATH];
	const char *given;
	unsigned count = 0;
	uint64_t point;
	int rc = options_need(&c->options, "into", &given, err);

	if (rc == 0)
		rc = command_point(c, &point, err);
	if (rc == 0)
		rc = command_into(c, into, err);
	if (rc == 0)
		rc = command_open_group(c, err);
	if (rc < 0)
		return rc;
	if (point == 0)
		point = sosie_group_points(c->group);
	audit_export(c, point, into);
	rc = sosie_group_export(c->group, point, into, &c->progress.report, &images, &count, err);
	progress_clear(&c->progress);
	if (rc == 0)
		rc = sosie_group_point(c->group, point, &p, err);
	if (rc == 0) {
		command_point_json(c, sosie_json_add_obj(c->doc, "point"), &p);
		sosie_json_set_str(c->doc, "into", into);
		if (!c->json)
			printf("Exported point %llu of %s/%s (%s):\n", (unsigned long long)point, c->tenant.s,
			       c->name.s, sosie_consistency_name(p.consistency));
		rc = command_images(c, images, count, options_has(&c->options, "digest"), err);
	}
	free(images);
	return rc;
}

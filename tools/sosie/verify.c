/* SPDX-License-Identifier: MIT */
/* verify: reads what the store holds of a group and compares it with its digests. */
#include <stdio.h>
#include <string.h>

#include "tools/sosie/command.h"

#define LISTED_MAX 1000u /* damaged places in the document; all are counted */

struct damage {
	struct command *c;
	struct sosie_json *list;
	uint64_t count;
	char first[SOSIE_ALARM_TEXT + 1]; /* as the alarm tells it */
};

static void on_damage(void *arg, const char *where, const char *what)
{
	struct damage *d = arg;

	if (d->count == 0)
		snprintf(d->first, sizeof(d->first), "verify found damage: %.150s: %.140s", where, what);
	if (d->count++ < LISTED_MAX && d->c->json) {
		struct sosie_json *obj = sosie_json_push_obj(d->list);
		sosie_json_set_str(obj, "where", where);
		sosie_json_set_str(obj, "what", what);
	}
	if (d->c->json)
		return;
	progress_clear(&d->c->progress);
	printf("damaged: %s: %s\n", where, what);
}

static void show(struct command *c, const struct sosie_verify *v)
{
	char parts[32], images[32], points[COMMAND_COUNT], files[COMMAND_COUNT], generations[COMMAND_COUNT];

	printf("%s/%s: %s, %llu chain entr%s, %s (%s), %s", c->tenant.s, c->name.s,
	       command_count(points, v->points, "point"), (unsigned long long)v->entries,
	       v->entries == 1 ? "y" : "ies", command_count(files, v->parts, "journal file"),
	       sosie_size_text(parts, sizeof(parts), v->part_bytes),
	       command_count(generations, v->generations, "generation"));
	if (v->full)
		printf(", %s of images read", sosie_size_text(images, sizeof(images), v->image_bytes));
	printf("\n");
	if (v->damaged == 0) {
		printf("no damage found%s\n", v->full ? "" : " (--full reads every byte of the images too)");
		return;
	}
	printf("%llu damaged place%s: points that do not need them are whole. Check one with\n"
	       "--point N, export it while it is; find out what the disk says\n",
	       (unsigned long long)v->damaged, v->damaged == 1 ? "" : "s");
}

static void document(struct command *c, const struct sosie_verify *v)
{
	sosie_json_set_bool(c->doc, "full", v->full);
	sosie_json_set_u64(c->doc, "entries", v->entries);
	sosie_json_set_u64(c->doc, "points", v->points);
	sosie_json_set_u64(c->doc, "parts", v->parts);
	sosie_json_set_u64(c->doc, "part_bytes", v->part_bytes);
	sosie_json_set_u64(c->doc, "generations", v->generations);
	sosie_json_set_u64(c->doc, "image_bytes", v->image_bytes);
	sosie_json_set_u64(c->doc, "damaged", v->damaged);
}

/* Who may only read the store is told that nobody else will hear of it. */
static void raise_alarm(struct command *c, const struct damage *d)
{
	struct sosie_err err;
	char line[1100];

	if (d->count > 0 &&
	    sosie_alarm_set(c->store, c->tenant.s, c->name.s, SOSIE_ALARM_DAMAGE, d->first, &err) < 0)
		fprintf(stderr, "sosie: warning: no alarm could be opened for this: %s\n",
		        sosie_err_line(&err, line, sizeof(line)));
}

/* A chain that cannot be read at all is damage too; then nothing else can be checked. */
static int chain_unreadable(struct command *c, struct sosie_verify *v, const struct sosie_err *failure)
{
	struct damage d = {.c = c, .list = sosie_json_add_arr(c->doc, "damage")};

	v->damaged = 1;
	on_damage(&d, failure->where[0] ? failure->where : c->store_path, failure->what);
	raise_alarm(c, &d);
	document(c, v);
	if (!c->json)
		printf("nothing else of %s/%s can be checked without its chain\n", c->tenant.s, c->name.s);
	return COMMAND_FOUND;
}

int verb_verify(struct command *c, struct sosie_err *err)
{
	struct sosie_verify v;
	struct damage d = {.c = c};
	int rc;

	memset(&v, 0, sizeof(v));
	v.full = options_has(&c->options, "full");
	rc = command_point(c, &v.point, err);
	if (rc == 0)
		rc = command_open_group(c, err);
	if (rc == -SOSIE_ECORRUPT && c->store)
		return chain_unreadable(c, &v, err);
	if (rc < 0)
		return rc;
	if (v.point == 0 && options_has(&c->options, "point"))
		v.point = sosie_group_points(c->group);
	v.progress = &c->progress.report;
	v.damage = on_damage;
	v.arg = &d;
	d.list = sosie_json_add_arr(c->doc, "damage");
	rc = sosie_group_verify(c->group, &v, err);
	progress_clear(&c->progress);
	document(c, &v);
	raise_alarm(c, &d);
	if (rc < 0)
		return rc;
	if (!c->json)
		show(c, &v);
	return v.damaged ? COMMAND_FOUND : 0;
}

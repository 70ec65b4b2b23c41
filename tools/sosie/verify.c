/* SPDX-License-Identifier: MIT */
/* verify: reads what the store holds of a group and compares it with its digests. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sosie/audit.h"
#include "tools/sosie/command.h"

#define KEYS_FILE_MAX (64u << 10)
#define HEAD_FILE_MAX (64u << 10)

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
	if (v->point == 0)
		printf(", %llu audit entr%s", (unsigned long long)v->audit_entries,
		       v->audit_entries == 1 ? "y" : "ies");
	if (v->full)
		printf(", %s of images read", sosie_size_text(images, sizeof(images), v->image_bytes));
	printf("\n%llu of them signed by the source, %llu by the standby\n",
	       (unsigned long long)v->signed_points, (unsigned long long)v->countersigned);
	if (v->unattributed)
		printf("%llu signed, but whose key it was cannot be told without the audit log\n",
		       (unsigned long long)v->unattributed);
	if (v->audit_denied)
		printf("the audit logs may not be read by this user: not checked\n");
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
	sosie_json_set_u64(c->doc, "signed_by_source", v->signed_points);
	sosie_json_set_u64(c->doc, "signed_by_standby", v->countersigned);
	sosie_json_set_u64(c->doc, "signed_by_unknown", v->unattributed);
	sosie_json_set_u64(c->doc, "parts", v->parts);
	sosie_json_set_u64(c->doc, "part_bytes", v->part_bytes);
	sosie_json_set_u64(c->doc, "generations", v->generations);
	sosie_json_set_u64(c->doc, "image_bytes", v->image_bytes);
	sosie_json_set_u64(c->doc, "audit_entries", v->audit_entries);
	sosie_json_set_bool(c->doc, "audit_denied", v->audit_denied);
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

/* --- who must have signed
 * ------------------------------------------------------------------------------------------------ */

struct trusted {
	struct sosie_signing_key *sources;
	unsigned count;
	struct sosie_public standby;
	bool has_standby;
};

static int take_key(struct trusted *t, const char *line, unsigned number, struct sosie_err *err)
{
	const bool source = strncmp(line, "source ", 7) == 0;
	struct sosie_public key;
	int rc;

	if (!source && strncmp(line, "standby ", 8) != 0)
		return sosie_err_set(err, SOSIE_ECONFIG,
		                     "line %u: it begins with neither \"standby\" nor \"source\"", number);
	line += source ? 7 : 8;
	rc = sosie_public_parse(line, strlen(line), &key, NULL, err);
	if (rc != 0)
		return sosie_err_wrap(err, "line %u", number);
	if (!source && t->has_standby)
		return sosie_err_set(err, SOSIE_ECONFIG, "line %u: a store has one key, this is the second",
		                     number);
	if (!source) {
		t->standby = key;
		t->has_standby = true;
		return 0;
	}
	t->sources = reallocarray(t->sources, t->count + 1, sizeof(*t->sources));
	if (!t->sources)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for keys");
	memset(&t->sources[t->count], 0, sizeof(*t->sources));
	memcpy(t->sources[t->count].key, key.b, sizeof(key.b));
	t->sources[t->count++].until = UINT64_MAX;
	return 0;
}

static int read_keys(struct command *c, const char *path, struct trusted *t, struct sosie_err *err)
{
	char *text = NULL, *line, *rest;
	size_t len = 0;
	unsigned number = 0;
	int rc = sosie_io_read_file(c->io, path, KEYS_FILE_MAX, &text, &len, err);

	rest = text;
	while (rc == 0 && (line = strsep(&rest, "\n")) != NULL) {
		number++;
		if (line[0] && line[0] != '#')
			rc = take_key(t, line, number, err);
	}
	free(text);
	if (rc == 0 && (!t->has_standby || t->count == 0))
		rc = sosie_err_set(err, SOSIE_ECONFIG, "it names no %s key",
		                   t->has_standby ? "source's" : "standby's");
	return rc == 0 ? 0 : sosie_err_where(err, "%s", path);
}

static int check_head(struct command *c, const char *path, const struct trusted *t, struct damage *d,
                      struct sosie_verify *v, struct sosie_err *err)
{
	struct sosie_exported_head head;
	char *text = NULL, when[COMMAND_TIME];
	size_t len = 0;
	int rc = sosie_io_read_file(c->io, path, HEAD_FILE_MAX, &text, &len, err);

	if (rc == 0)
		rc = sosie_group_check_head(c->group, text, len, t->has_standby ? &t->standby : NULL, &head,
		                            err);
	free(text);
	if (rc == -SOSIE_ECORRUPT || rc == -SOSIE_EAUTH) {
		v->damaged++;
		on_damage(d, path, err->what);
		return 0;
	}
	if (rc != 0)
		return sosie_err_where(err, "%s", path);
	sosie_json_set_u64(c->doc, "head_entries", head.entries);
	sosie_json_set_time(c->doc, "head_time", head.time_ms);
	if (!c->json)
		printf("the chain still has what it ended with at %s (point %llu, %llu entries)\n",
		       command_time(when, head.time_ms), (unsigned long long)head.point,
		       (unsigned long long)head.entries);
	return 0;
}

static int verify(struct command *c, struct sosie_verify *v, struct damage *d, struct trusted *t,
                  struct sosie_err *err)
{
	const char *keys = options_get(&c->options, "keys"), *head = options_get(&c->options, "head");
	int rc = keys ? read_keys(c, keys, t, err) : 0;

	if (keys) {
		v->source_keys = t->sources;
		v->source_key_count = t->count;
		v->standby = &t->standby;
	}
	if (rc == 0)
		rc = sosie_group_verify(c->group, v, err);
	if (rc == 0 && head)
		rc = check_head(c, head, t, d, v, err);
	return rc;
}

int verb_verify(struct command *c, struct sosie_err *err)
{
	struct sosie_verify v;
	struct damage d = {.c = c};
	struct trusted trusted = {0};
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
	rc = verify(c, &v, &d, &trusted, err);
	free(trusted.sources);
	progress_clear(&c->progress);
	document(c, &v);
	raise_alarm(c, &d);
	if (rc < 0)
		return rc;
	if (!c->json)
		show(c, &v);
	return v.damaged ? COMMAND_FOUND : 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * state.json, an object:
 *   - "format": 1; "tenant"; "group"; "standby"; "store": hex32
 *   - "accepted": {"epoch", "point", "digest", "manifest", "attachments"}
 *   - "serial"; "boot": of the boot that wrote it; in state.now it decides
 *   - "redo": {"boot", "from", "bytes"}
 *   - "doubted": true, or missing
 *   - "view": VIEW; "cut": CUT; "volumes": [VOLUME]
 *   - "pending": null, or {"upload": hex32, "base", "epoch", "committed", "logged", "log_end", "manifest",
 *     "attachments", "boot", "view": VIEW, "cut": CUT, "volumes": [VOLUME]}
 * VOLUME: {"name", "path", "device": bool, "dev", "ino", "serial", "size", "generation", "filesystem": hex16,
 * "xfs": bool}; the last three of files, all or none (an older release's).
 * VIEW: a view's id or "".
 * CUT: {"wall_ms", "standby_at_ms", "standby_plus_ms", "boot_ms", "boot", "consistency"}; consistency is
 * missing while it is not known.
 * view, cut, serial, boot, redo, logged and log_end may be missing (an older release's). Digests are hex64.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/replicate/state.h"
#include "sosie/tree.h"

#define STATE_JSON_MAX (8u << 20)

/* --- writing
 * ---------------------------------------------------------------------------------------------------------
 */

static void set_digest(struct sosie_json *obj, const char *key, const struct sosie_digest *d)
{
	sosie_json_set_hex(obj, key, d->b, sizeof(d->b));
}

static void set_details(struct sosie_json *o, const struct sosie_identity *id)
{
	uint8_t filesystem[8];

	if (!id->detailed)
		return;
	for (unsigned i = 0; i < 8; i++)
		filesystem[i] = (uint8_t)(id->filesystem >> (56 - 8 * i));
	sosie_json_set_u64(o, "generation", id->generation);
	sosie_json_set_hex(o, "filesystem", filesystem, sizeof(filesystem)); /* a number may be too large */
	sosie_json_set_bool(o, "xfs", id->xfs);
}

static void set_volumes(struct sosie_json *obj, const struct state_volumes *list)
{
	struct sosie_json *arr = sosie_json_add_arr(obj, "volumes");

	for (unsigned i = 0; i < list->count; i++) {
		const struct state_volume *v = &list->v[i];
		struct sosie_json *o = sosie_json_push_obj(arr);

		sosie_json_set_str(o, "name", v->name.s);
		sosie_json_set_str(o, "path", v->path);
		sosie_json_set_bool(o, "device", v->identity.device);
		sosie_json_set_u64(o, "dev", v->identity.dev);
		sosie_json_set_u64(o, "ino", v->identity.ino);
		sosie_json_set_str(o, "serial", v->identity.serial);
		sosie_json_set_u64(o, "size", v->identity.size);
		set_details(o, &v->identity);
	}
}

static void set_cut(struct sosie_json *obj, const struct state_cut *cut)
{
	struct sosie_json *o;

	if (!cut->boot[0])
		return;
	o = sosie_json_add_obj(obj, "cut");
	sosie_json_set_i64(o, "wall_ms", cut->wall_ms);
	sosie_json_set_i64(o, "standby_at_ms", cut->standby_at_ms);
	sosie_json_set_i64(o, "standby_plus_ms", cut->standby_plus_ms);
	sosie_json_set_i64(o, "boot_ms", cut->boot_ms);
	sosie_json_set_str(o, "boot", cut->boot);
	if (cut->labelled)
		sosie_json_set_u64(o, "consistency", cut->consistency);
}

static void set_pending(struct sosie_json *doc, const struct state_pending *p)
{
	struct sosie_json *o;

	if (!p->present) {
		sosie_json_set_null(doc, "pending");
		return;
	}
	o = sosie_json_add_obj(doc, "pending");
	sosie_json_set_hex(o, "upload", p->upload.b, sizeof(p->upload.b));
	set_digest(o, "base", &p->base);
	sosie_json_set_u64(o, "epoch", p->epoch);
	sosie_json_set_bool(o, "committed", p->committed);
	sosie_json_set_bool(o, "logged", p->logged);
	sosie_json_set_u64(o, "log_end", p->log_end);
	set_digest(o, "manifest", &p->manifest);
	set_digest(o, "attachments", &p->attachments);
	sosie_json_set_str(o, "boot", p->boot);
	sosie_json_set_str(o, "view", p->view.s);
	set_cut(o, &p->cut);
	set_volumes(o, &p->volumes);
}

static void set_accepted(struct sosie_json *doc, const struct state *s)
{
	struct sosie_json *o = sosie_json_add_obj(doc, "accepted");

	sosie_json_set_u64(o, "epoch", s->epoch);
	sosie_json_set_u64(o, "point", s->point);
	set_digest(o, "digest", &s->digest);
	set_digest(o, "manifest", &s->manifest);
	set_digest(o, "attachments", &s->attachments);
}

static int make_text(const struct state_dir *d, const struct state *s, char **text, size_t *len,
                     struct sosie_err *err)
{
	struct sosie_json *doc = sosie_json_new(), *o;
	int rc;

	if (!doc)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for state.json");
	sosie_json_set_u64(doc, "format", 1);
	sosie_json_set_str(doc, "tenant", d->tenant);
	sosie_json_set_str(doc, "group", d->group);
	sosie_json_set_str(doc, "standby", d->standby);
	sosie_json_set_hex(doc, "store", s->store.b, sizeof(s->store.b));
	sosie_json_set_u64(doc, "serial", s->serial);
	sosie_json_set_str(doc, "boot", d->boot);
	set_accepted(doc, s);
	o = sosie_json_add_obj(doc, "redo");
	sosie_json_set_str(o, "boot", s->redo.boot);
	sosie_json_set_u64(o, "from", s->redo.from);
	sosie_json_set_u64(o, "bytes", s->redo.bytes);
	if (s->doubted)
		sosie_json_set_bool(doc, "doubted", true);
	sosie_json_set_str(doc, "view", s->view.s);
	set_cut(doc, &s->cut);
	set_volumes(doc, &s->volumes);
	set_pending(doc, &s->pending);
	rc = sosie_json_text(doc, 1, text, len, err);
	sosie_json_free(doc);
	return rc;
}

int state_save(const struct state_dir *d, struct state *s, bool durable, struct sosie_err *err)
{
	char path[STATE_FILE_MAX], *text = NULL;
	size_t len = 0;
	int rc;

	durable = durable || !s->saved || !d->boot[0];
	s->serial++;
	rc = make_text(d, s, &text, &len, err);
	state_file(d, path, "state", durable ? ".json" : ".now");
	if (rc == 0)
		rc = state_put(d, path, text, len, durable, err);
	free(text);
	if (rc == 0 && durable)
		rc = sosie_io_sync_dir(d->io, d->path, err);
	if (rc != 0 || !durable)
		return rc;
	s->saved = true;
	s->durable_from = s->redo.from;
	return 0;
}

/* --- reading
 * ---------------------------------------------------------------------------------------------------------
 */

static int get_digest(const struct sosie_json *obj, const char *key, struct sosie_digest *out,
                      struct sosie_err *err)
{
	return sosie_json_hex(obj, key, out->b, sizeof(out->b), err);
}

static int get_text(const struct sosie_json *obj, const char *key, char *dst, size_t size,
                    struct sosie_err *err)
{
	const char *text;
	int rc = sosie_json_str(obj, key, size - 1, &text, err);

	if (rc == 0)
		memcpy(dst, text, strlen(text) + 1);
	return rc;
}

static int get_details(const struct sosie_json *o, struct sosie_identity *id, struct sosie_err *err)
{
	uint8_t filesystem[8];
	uint64_t generation;
	int rc;

	id->detailed = sosie_json_has(o, "generation");
	if (!id->detailed)
		return 0;
	rc = sosie_json_u64(o, "generation", UINT32_MAX, &generation, err);
	if (rc == 0)
		rc = sosie_json_hex(o, "filesystem", filesystem, sizeof(filesystem), err);
	if (rc == 0)
		rc = sosie_json_bool(o, "xfs", &id->xfs, err);
	if (rc != 0)
		return rc;
	id->generation = (uint32_t)generation;
	for (unsigned i = 0; i < 8; i++)
		id->filesystem = id->filesystem << 8 | filesystem[i];
	return 0;
}

static int get_volume(const struct sosie_json *o, struct state_volume *v, struct sosie_err *err)
{
	const char *name;
	int rc = sosie_json_str(o, "name", SOSIE_NAME_MAX, &name, err);

	if (rc == 0)
		rc = sosie_name_set(&v->name, SOSIE_NAME_VOLUME, name, err);
	if (rc == 0)
		rc = get_text(o, "path", v->path, sizeof(v->path), err);
	if (rc == 0)
		rc = sosie_json_bool(o, "device", &v->identity.device, err);
	if (rc == 0)
		rc = sosie_json_u64(o, "dev", UINT64_MAX, &v->identity.dev, err);
	if (rc == 0)
		rc = sosie_json_u64(o, "ino", UINT64_MAX, &v->identity.ino, err);
	if (rc == 0)
		rc = get_text(o, "serial", v->identity.serial, sizeof(v->identity.serial), err);
	if (rc == 0)
		rc = sosie_json_u64(o, "size", SOSIE_VOLUME_MAX, &v->identity.size, err);
	return rc == 0 ? get_details(o, &v->identity, err) : rc;
}

static int get_volumes(const struct sosie_json *obj, struct state_volumes *list, struct sosie_err *err)
{
	struct sosie_json *arr, *o;
	size_t count;
	int rc = sosie_json_arr(obj, "volumes", SOSIE_VOLUMES_MAX, &arr, &count, err);

	if (rc != 0)
		return rc;
	list->v = calloc(count ? count : 1, sizeof(*list->v));
	if (!list->v)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for the list of volumes");
	list->count = (unsigned)count;
	for (size_t i = 0; rc == 0 && i < count; i++) {
		rc = sosie_json_at(arr, i, &o, err);
		if (rc == 0)
			rc = get_volume(o, &list->v[i], err);
	}
	return rc;
}

/* Missing: an older release wrote it; none. */
static int get_view(const struct sosie_json *obj, struct sosie_view_id *out, struct sosie_err *err)
{
	return sosie_json_has(obj, "view") ? get_text(obj, "view", out->s, sizeof(out->s), err) : 0;
}

static int get_label(const struct sosie_json *o, struct state_cut *cut, struct sosie_err *err)
{
	uint64_t label = 0;
	int rc;

	cut->labelled = sosie_json_has(o, "consistency");
	if (!cut->labelled)
		return 0;
	rc = sosie_json_u64(o, "consistency", SOSIE_CONSISTENCY_FUZZY, &label, err);
	cut->consistency = (enum sosie_consistency)label;
	return rc;
}

static int get_cut(const struct sosie_json *obj, struct state_cut *cut, struct sosie_err *err)
{
	struct sosie_json *o;
	int rc;

	if (!sosie_json_has(obj, "cut"))
		return 0;
	rc = sosie_json_obj(obj, "cut", &o, err);
	if (rc == 0)
		rc = sosie_json_i64(o, "wall_ms", &cut->wall_ms, err);
	if (rc == 0)
		rc = sosie_json_i64(o, "standby_at_ms", &cut->standby_at_ms, err);
	if (rc == 0)
		rc = sosie_json_i64(o, "standby_plus_ms", &cut->standby_plus_ms, err);
	if (rc == 0)
		rc = sosie_json_i64(o, "boot_ms", &cut->boot_ms, err);
	if (rc == 0)
		rc = get_text(o, "boot", cut->boot, sizeof(cut->boot), err);
	return rc == 0 ? get_label(o, cut, err) : rc;
}

/* An older release's log is not read: its upload is not gone on with, and once committed its layers are
 * durable. */
static int get_log(const struct sosie_json *o, struct state_pending *p, struct sosie_err *err)
{
	int rc;

	if (!sosie_json_has(o, "logged")) {
		if (!p->committed)
			p->boot[0] = '\0';
		return 0;
	}
	rc = sosie_json_bool(o, "logged", &p->logged, err);
	return rc == 0 ? sosie_json_u64(o, "log_end", INT64_MAX, &p->log_end, err) : rc;
}

static int get_pending(const struct sosie_json *doc, struct state_pending *p, struct sosie_err *err)
{
	struct sosie_json *o;
	int rc;

	if (sosie_json_obj(doc, "pending", &o, NULL) != 0)
		return 0; /* null */
	rc = sosie_json_hex(o, "upload", p->upload.b, sizeof(p->upload.b), err);
	if (rc == 0)
		rc = get_digest(o, "base", &p->base, err);
	if (rc == 0)
		rc = sosie_json_u64(o, "epoch", INT64_MAX, &p->epoch, err);
	if (rc == 0)
		rc = sosie_json_bool(o, "committed", &p->committed, err);
	if (rc == 0)
		rc = get_digest(o, "manifest", &p->manifest, err);
	if (rc == 0)
		rc = get_digest(o, "attachments", &p->attachments, err);
	if (rc == 0)
		rc = get_text(o, "boot", p->boot, sizeof(p->boot), err);
	if (rc == 0)
		rc = get_view(o, &p->view, err);
	if (rc == 0)
		rc = get_cut(o, &p->cut, err);
	if (rc == 0)
		rc = get_volumes(o, &p->volumes, err);
	if (rc == 0)
		rc = get_log(o, p, err);
	p->present = rc == 0;
	return rc;
}

static int get_redo(const struct sosie_json *doc, struct state *s, struct sosie_err *err)
{
	struct sosie_json *o;
	int rc = 0;

	if (sosie_json_has(doc, "serial"))
		rc = sosie_json_u64(doc, "serial", INT64_MAX, &s->serial, err);
	if (rc != 0 || !sosie_json_has(doc, "redo"))
		return rc;
	rc = sosie_json_obj(doc, "redo", &o, err);
	if (rc == 0)
		rc = get_text(o, "boot", s->redo.boot, sizeof(s->redo.boot), err);
	if (rc == 0)
		rc = sosie_json_u64(o, "bytes", INT64_MAX, &s->redo.bytes, err);
	return rc == 0 ? sosie_json_u64(o, "from", s->redo.bytes, &s->redo.from, err) : rc;
}

static int check_owner(const struct state_dir *d, const struct sosie_json *doc, struct sosie_err *err)
{
	const char *tenant, *group;
	int rc = sosie_json_str(doc, "tenant", SOSIE_NAME_MAX, &tenant, err);

	if (rc == 0)
		rc = sosie_json_str(doc, "group", SOSIE_NAME_MAX, &group, err);
	if (rc != 0 || (strcmp(tenant, d->tenant) == 0 && strcmp(group, d->group) == 0))
		return rc;
	sosie_err_set(err, SOSIE_ECONFIG, "the state folder belongs to %s/%s, not to %s/%s", tenant, group,
	              d->tenant, d->group);
	sosie_err_where(err, "%s", d->path);
	return sosie_err_action(err, "give each group a --state folder of its own");
}

static int get_state(const struct state_dir *d, const struct sosie_json *doc, struct state *s,
                     struct sosie_err *err)
{
	struct sosie_json *o;
	int rc = check_owner(d, doc, err);

	if (rc == 0)
		rc = sosie_json_hex(doc, "store", s->store.b, sizeof(s->store.b), err);
	if (rc == 0)
		rc = sosie_json_obj(doc, "accepted", &o, err);
	if (rc == 0)
		rc = sosie_json_u64(o, "epoch", INT64_MAX, &s->epoch, err);
	if (rc == 0)
		rc = sosie_json_u64(o, "point", INT64_MAX, &s->point, err);
	if (rc == 0)
		rc = get_digest(o, "digest", &s->digest, err);
	if (rc == 0)
		rc = get_digest(o, "manifest", &s->manifest, err);
	if (rc == 0)
		rc = get_digest(o, "attachments", &s->attachments, err);
	if (rc == 0 && sosie_json_bool(doc, "doubted", &s->doubted, NULL) != 0)
		s->doubted = false; /* not there: the usual case */
	if (rc == 0)
		rc = get_redo(doc, s, err);
	if (rc == 0)
		rc = get_view(doc, &s->view, err);
	if (rc == 0)
		rc = get_cut(doc, &s->cut, err);
	if (rc == 0)
		rc = get_volumes(doc, &s->volumes, err);
	if (rc == 0)
		rc = get_pending(doc, &s->pending, err);
	return rc;
}

static int parse(const struct state_dir *d, const char *text, size_t len, struct state *s, char boot[40],
                 struct sosie_err *err)
{
	struct sosie_json *doc = NULL;
	uint64_t format = 0;
	int rc = sosie_json_parse(text, len, STATE_JSON_MAX, &doc, err);

	boot[0] = '\0';
	if (rc == 0)
		rc = sosie_json_u64(doc, "format", UINT32_MAX, &format, err);
	if (rc == 0 && format > 1)
		rc = sosie_err_set(err, SOSIE_ENEWER, "state.json is of format %llu, this release reads 1",
		                   (unsigned long long)format);
	if (rc == 0)
		rc = get_state(d, doc, s, err);
	if (rc == 0 && sosie_json_has(doc, "boot"))
		rc = get_text(doc, "boot", boot, 40, err);
	sosie_json_free(doc);
	return rc;
}

static int load(const struct state_dir *d, const char *ending, struct state *s, char boot[40],
                struct sosie_err *err)
{
	char path[STATE_FILE_MAX], *text = NULL;
	size_t len = 0;
	int rc;

	*s = (struct state){0};
	state_file(d, path, "state", ending);
	rc = sosie_io_read_file(d->io, path, STATE_JSON_MAX, &text, &len, err);
	if (rc == 0)
		rc = parse(d, text, len, s, boot, err);
	free(text);
	s->exists = s->saved = rc == 0;
	if (rc != 0)
		state_fini(s);
	return rc;
}

/* state.now, where it holds. What a power cut left of one is not looked at closely. */
static void take_newer(const struct state_dir *d, struct state *s)
{
	struct state now;
	char boot[40];

	if (load(d, ".now", &now, boot, NULL) != 0)
		return;
	if (!d->boot[0] || strcmp(boot, d->boot) != 0 || now.serial <= s->serial) {
		state_fini(&now);
		return;
	}
	now.durable_from = s->durable_from;
	state_fini(s);
	*s = now;
}

int state_load(const struct state_dir *d, struct state *s, struct sosie_err *err)
{
	char path[STATE_FILE_MAX], boot[40];
	int rc;

	*s = (struct state){0};
	state_file(d, path, "state", ".json");
	if (!sosie_io_exists(d->io, path)) {
		state_file(d, path, "state", ".now");
		return sosie_io_exists(d->io, path) ? sosie_io_unlink(d->io, path, err) : 0;
	}
	rc = load(d, ".json", s, boot, err);
	if (rc == 0) {
		s->durable_from = s->redo.from;
		take_newer(d, s);
		return 0;
	}
	sosie_err_wrap(err, "state of %s/%s", d->tenant, d->group);
	sosie_err_where(err, "%.200s", path);
	if (rc == -SOSIE_ECORRUPT)
		sosie_err_action(err, "remove the folder: digests are compared with the standby then, "
		                      "nothing is sent twice");
	return rc;
}

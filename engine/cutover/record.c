/* SPDX-License-Identifier: MIT */
/*
 * state/cutover.json:
 * {"format":1,"id":hex16,"step","point","from_epoch","to_epoch","method","into","started","updated"}. Written
 * whole and durably (temporary file, fsync, rename, fsync of the folder) by whoever holds the group's lock;
 * read by anybody.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/cutover/internal.h"
#include "sosie/bytes.h"

#define RECORD_MAX (16u << 10)

static const char *const step_names[] = {
        [SOSIE_CUTOVER_NONE] = "none",
        [SOSIE_CUTOVER_PLANNED] = "planned",
        [SOSIE_CUTOVER_MATERIALISED] = "materialised",
        [SOSIE_CUTOVER_CHECKED] = "checked",
        [SOSIE_CUTOVER_FENCED] = "fenced",
        [SOSIE_CUTOVER_ACTIVATED] = "activated",
        [SOSIE_CUTOVER_DONE] = "done",
};
static const char *const method_names[] = {
        [SOSIE_CUTOVER_RENAME] = "rename",
        [SOSIE_CUTOVER_CLONE] = "clone",
        [SOSIE_CUTOVER_COPY] = "copy",
};

const char *sosie_cutover_step_name(enum sosie_cutover_step step)
{
	return step_names[step];
}

const char *sosie_cutover_method_name(enum sosie_cutover_method method)
{
	return method_names[method];
}

static int record_path(const struct sosie_group *g, char dst[STORE_PATH], struct sosie_err *err)
{
	return store_path(dst, err, "%s/state/cutover.json", g->dir);
}

/* Index of the word in names[1 - skip …], or a refusal that names the member. */
static int parse_word(const struct sosie_json *doc, const char *key, const char *const *names, unsigned count,
                      unsigned *out, struct sosie_err *err)
{
	const char *word;
	int rc = sosie_json_str(doc, key, 32, &word, err);

	if (rc < 0)
		return rc;
	for (unsigned i = 0; i < count; i++)
		if (strcmp(word, names[i]) == 0) {
			*out = i;
			return 0;
		}
	return sosie_err_set(err, SOSIE_ECORRUPT, "\"%s\" is no %s of a cutover", word, key);
}

static int parse_time(const struct sosie_json *doc, const char *key, int64_t *out, struct sosie_err *err)
{
	const char *text;
	int rc = sosie_json_str(doc, key, SOSIE_TIME_TEXT, &text, err);

	return rc < 0 ? rc : sosie_time_parse(text, out, err);
}

static int parse_numbers(const struct sosie_json *doc, struct cutover_record *r, struct sosie_err *err)
{
	int rc = sosie_json_u64(doc, "point", INT64_MAX, &r->point, err);

	if (rc == 0)
		rc = sosie_json_u64(doc, "from_epoch", INT64_MAX - 1, &r->from_epoch, err);
	if (rc == 0)
		rc = sosie_json_u64(doc, "to_epoch", INT64_MAX, &r->to_epoch, err);
	if (rc == 0 && (r->point == 0 || r->to_epoch != r->from_epoch + 1))
		rc = sosie_err_set(err, SOSIE_ECORRUPT, "point or epochs are not those of a cutover");
	return rc;
}

static int parse_texts(const struct sosie_json *doc, struct cutover_record *r, struct sosie_err *err)
{
	const char *into = NULL;
	uint8_t id[8];
	int rc = sosie_json_hex(doc, "id", id, sizeof(id), err);

	if (rc == 0)
		rc = sosie_json_str(doc, "into", sizeof(r->into) - 1, &into, err);
	if (rc < 0)
		return rc;
	if (into[0] && into[0] != '/')
		return sosie_err_set(err, SOSIE_ECORRUPT,
		                     "the folder of the cutover is not an absolute path");
	sosie_hex(r->id, id, sizeof(id));
	memcpy(r->into, into, strlen(into) + 1);
	return 0;
}

static int parse(const struct sosie_json *doc, struct cutover_record *r, struct sosie_err *err)
{
	static const char *const known[] = {"format", "id",   "step",    "point",   "from_epoch", "to_epoch",
	                                    "method", "into", "started", "updated", NULL};
	unsigned step = 0, method = 0;
	uint64_t format;
	int rc = sosie_json_u64(doc, "format", INT64_MAX, &format, err);

	if (rc == 0 && format != 1)
		return sosie_err_set(err, SOSIE_ENEWER, "written by a newer release (format %llu)",
		                     (unsigned long long)format);
	if (rc == 0)
		rc = sosie_json_only(doc, known, err);
	if (rc == 0)
		rc = parse_word(doc, "step", step_names, SOSIE_CUTOVER_DONE + 1, &step, err);
	if (rc == 0)
		rc = parse_word(doc, "method", method_names, SOSIE_CUTOVER_COPY + 1, &method, err);
	if (rc == 0)
		rc = parse_numbers(doc, r, err);
	if (rc == 0)
		rc = parse_texts(doc, r, err);
	if (rc == 0)
		rc = parse_time(doc, "started", &r->started_ms, err);
	if (rc == 0)
		rc = parse_time(doc, "updated", &r->updated_ms, err);
	r->step = (enum sosie_cutover_step)step;
	r->method = (enum sosie_cutover_method)method;
	return rc;
}

int cutover_record_read(struct sosie_group *g, struct cutover_record *out, struct sosie_err *err)
{
	struct sosie_json *doc = NULL;
	char path[STORE_PATH];
	char *text = NULL;
	size_t len;
	int rc;

	memset(out, 0, sizeof(*out));
	rc = record_path(g, path, err);
	if (rc < 0)
		return rc;
	rc = sosie_io_read_file(g->store->io, path, RECORD_MAX, &text, &len, err);
	if (rc == -SOSIE_ENOTFOUND) {
		sosie_err_clear(err);
		return 0;
	}
	if (rc == 0)
		rc = sosie_json_parse(text, len, RECORD_MAX, &doc, err);
	if (rc == 0)
		rc = parse(doc, out, err);
	sosie_json_free(doc);
	free(text);
	if (rc < 0) {
		sosie_err_wrap(err, "%s/%s: the record of the cutover cannot be read", g->tenant.s,
		               g->name.s);
		return sosie_err_where(err, "%s", path);
	}
	if (out->step > SOSIE_CUTOVER_NONE && out->step < SOSIE_CUTOVER_FENCED &&
	    chain_epoch(g->chain) >= out->to_epoch)
		out->step = SOSIE_CUTOVER_FENCED;
	return 0;
}

static void set_time(struct sosie_json *doc, const char *key, int64_t ms)
{
	char text[SOSIE_TIME_TEXT];

	sosie_time_text(text, ms);
	sosie_json_set_str(doc, key, text);
}

int cutover_record_write(struct sosie_group *g, struct cutover_record *r, struct sosie_err *err)
{
	struct sosie_json *doc = sosie_json_new();
	char path[STORE_PATH];
	char *text = NULL;
	size_t len;
	int rc;

	r->updated_ms = sosie_wall_ms(g->store->clock);
	sosie_json_set_u64(doc, "format", 1);
	sosie_json_set_str(doc, "id", r->id);
	sosie_json_set_str(doc, "step", step_names[r->step]);
	sosie_json_set_u64(doc, "point", r->point);
	sosie_json_set_u64(doc, "from_epoch", r->from_epoch);
	sosie_json_set_u64(doc, "to_epoch", r->to_epoch);
	sosie_json_set_str(doc, "method", method_names[r->method]);
	sosie_json_set_str(doc, "into", r->into);
	set_time(doc, "started", r->started_ms);
	set_time(doc, "updated", r->updated_ms);
	rc = sosie_json_text(doc, 0, &text, &len, err);
	sosie_json_free(doc);
	if (rc == 0)
		rc = record_path(g, path, err);
	if (rc == 0)
		rc = sosie_io_write_file(g->store->io, path, text, len, 0640, err);
	free(text);
	return rc;
}

int cutover_record_is_past(struct sosie_group *g, const struct cutover_record *r, bool *past,
                           struct sosie_err *err)
{
	struct sosie_point newest;
	int rc;

	*past = false;
	if (r->step != SOSIE_CUTOVER_DONE || sosie_group_points(g) == 0)
		return 0;
	rc = sosie_group_point(g, sosie_group_points(g), &newest, err);
	*past = rc == 0 && newest.epoch >= r->to_epoch;
	return rc;
}

int cutover_final_dir(const struct sosie_group *g, const struct cutover_record *r, char dst[STORE_PATH],
                      struct sosie_err *err)
{
	if (r->into[0])
		return store_path(dst, err, "%s", r->into);
	return store_path(dst, err, "%s/live/%llu", g->dir, (unsigned long long)r->to_epoch);
}

int cutover_temp_dir(const struct sosie_group *g, const struct cutover_record *r, char dst[STORE_PATH],
                     struct sosie_err *err)
{
	if (r->into[0])
		return store_path(dst, err, "%s/.sosie-cutover-%s.tmp", r->into, r->id);
	return store_path(dst, err, "%s/live/%llu.tmp", g->dir, (unsigned long long)r->to_epoch);
}

int cutover_part_dir(const char *temp_dir, char dst[STORE_PATH], struct sosie_err *err)
{
	return store_path(dst, err, "%s.part", temp_dir);
}

static int refuse_name(const struct sosie_group *g, const char *path, struct sosie_err *err)
{
	sosie_err_set(err, SOSIE_EEXISTS, "%s/%s: the cutover would make %s, which exists and is not its own",
	              g->tenant.s, g->name.s, path);
	return sosie_err_action(err, "move it away, or choose another folder with --into");
}

int cutover_names_free(struct sosie_group *g, const struct cutover_record *r, const struct sosie_manifest *m,
                       struct sosie_err *err)
{
	char dir[STORE_PATH], path[STORE_PATH];
	int rc = cutover_final_dir(g, r, dir, err);

	if (rc < 0)
		return rc;
	if (!r->into[0])
		return sosie_io_exists(g->store->io, dir) ? refuse_name(g, dir, err) : 0;
	for (unsigned i = 0; i < m->volume_count; i++) {
		rc = store_path(path, err, "%s/%s.raw", dir, m->volumes[i].name.s);
		if (rc < 0)
			return rc;
		if (sosie_io_exists(g->store->io, path))
			return refuse_name(g, path, err);
	}
	return 0;
}

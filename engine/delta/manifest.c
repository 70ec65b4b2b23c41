/* SPDX-License-Identifier: MIT */
/*
 * Manifests as JSON (docs/format.md, "Manifest"). Reading bounds every list before it is allocated; what the
 * numbers and names mean is checked over the struct, so that also one that a child made can be judged
 * (manifest.h). Writing ends with reading what was written: no manifest leaves that the other end would
 * refuse.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/delta/manifest.h"
#include "sosie/clock.h"
#include "sosie/sign.h"
#include "sosie/tree.h"

#define MANIFEST_FORMAT 1u

static const char *const segment_keys[] = {
        "format",      "kind",    "tenant",      "group", "epoch",    "parent",   "cut_time", "standby_clock",
        "consistency", "volumes", "attachments", "parts", "counters", "software", NULL};
static const char *const compare_keys[] = {"format",  "kind",  "tenant", "group", "parent",
                                           "volumes", "parts", "asks",   NULL};
static const char *const consistency_names[] = {
        [SOSIE_CONSISTENCY_CRASH] = "crash",
        [SOSIE_CONSISTENCY_APP] = "app",
        [SOSIE_CONSISTENCY_FUZZY] = "fuzzy",
};
#define CONSISTENCIES (sizeof(consistency_names) / sizeof(*consistency_names))

const char *sosie_consistency_name(enum sosie_consistency c)
{
	return consistency_names[c];
}

static int damaged(struct sosie_err *err, const char *why)
{
	return sosie_err_set(err, SOSIE_ECORRUPT, "manifest refused: %s", why);
}

/* --- reading: JSON to struct
 * ----------------------------------------------------------------------------------- */

static int get_name(const struct sosie_json *obj, const char *key, struct sosie_name *out,
                    struct sosie_err *err)
{
	const char *text;
	int rc = sosie_json_str(obj, key, SOSIE_NAME_MAX, &text, err);

	if (rc == 0)
		strncpy(out->s, text, SOSIE_NAME_MAX);
	return rc;
}

/* Array member of at most max objects; *items: zeroed memory for them, NULL when there is none. */
static int get_list(const struct sosie_json *doc, const char *key, size_t max, size_t item,
                    struct sosie_json **arr, void **items, unsigned *count, struct sosie_err *err)
{
	size_t n;
	int rc = sosie_json_arr(doc, key, max, arr, &n, err);

	if (rc != 0 || n == 0)
		return rc;
	*items = calloc(n, item);
	if (!*items)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory to read a manifest");
	*count = (unsigned)n;
	return 0;
}

static int get_volume(const struct sosie_json *obj, bool with_root, struct sosie_manifest_volume *v,
                      struct sosie_err *err)
{
	static const char *const keys[] = {"name", "size", "root", NULL}, *const short_keys[] = {
	                                                                          "name", "size", NULL};
	int rc = sosie_json_only(obj, with_root ? keys : short_keys, err);

	if (rc == 0)
		rc = get_name(obj, "name", &v->name, err);
	if (rc == 0)
		rc = sosie_json_u64(obj, "size", SOSIE_VOLUME_MAX, &v->size, err);
	if (rc == 0 && with_root)
		rc = sosie_json_hex(obj, "root", v->root.b, sizeof(v->root.b), err);
	return rc;
}

static int get_volumes(const struct sosie_json *doc, struct sosie_manifest *m, struct sosie_err *err)
{
	struct sosie_json *arr, *obj;
	void *items = NULL;
	int rc = get_list(doc, "volumes", SOSIE_VOLUMES_MAX, sizeof(*m->volumes), &arr, &items,
	                  &m->volume_count, err);

	m->volumes = items;
	for (unsigned i = 0; rc == 0 && i < m->volume_count; i++) {
		rc = sosie_json_at(arr, i, &obj, err);
		if (rc == 0)
			rc = get_volume(obj, m->kind == SOSIE_MANIFEST_SEGMENT, &m->volumes[i], err);
	}
	return rc;
}

static int get_attachment(const struct sosie_json *obj, struct sosie_manifest_attachment *a,
                          struct sosie_err *err)
{
	static const char *const keys[] = {"name", "size", "sha256", NULL};
	int rc = sosie_json_only(obj, keys, err);

	if (rc == 0)
		rc = get_name(obj, "name", &a->name, err);
	if (rc == 0)
		rc = sosie_json_u64(obj, "size", SOSIE_ATTACHMENTS_BYTES, &a->size, err);
	return rc == 0 ? sosie_json_hex(obj, "sha256", a->sha256.b, sizeof(a->sha256.b), err) : rc;
}

static int get_attachments(const struct sosie_json *doc, struct sosie_manifest *m, struct sosie_err *err)
{
	struct sosie_json *arr, *obj;
	void *items = NULL;
	int rc = get_list(doc, "attachments", SOSIE_ATTACHMENTS_MAX, sizeof(*m->attachments), &arr, &items,
	                  &m->attachment_count, err);

	m->attachments = items;
	for (unsigned i = 0; rc == 0 && i < m->attachment_count; i++) {
		rc = sosie_json_at(arr, i, &obj, err);
		if (rc == 0)
			rc = get_attachment(obj, &m->attachments[i], err);
	}
	return rc;
}

static int get_part(const struct sosie_json *obj, struct sosie_manifest_part *p, struct sosie_err *err)
{
	static const char *const keys[] = {"length", "records", "digest", NULL};
	int rc = sosie_json_only(obj, keys, err);

	if (rc == 0)
		rc = sosie_json_u64(obj, "length", MANIFEST_BYTES_MAX, &p->length, err);
	if (rc == 0)
		rc = sosie_json_u64(obj, "records", MANIFEST_BYTES_MAX, &p->records, err);
	return rc == 0 ? sosie_json_hex(obj, "digest", p->digest.b, sizeof(p->digest.b), err) : rc;
}

static int get_parts(const struct sosie_json *doc, struct sosie_manifest *m, struct sosie_err *err)
{
	struct sosie_json *arr, *obj;
	void *items = NULL;
	int rc =
	        get_list(doc, "parts", SOSIE_PARTS_MAX, sizeof(*m->parts), &arr, &items, &m->part_count, err);

	m->parts = items;
	for (unsigned i = 0; rc == 0 && i < m->part_count; i++) {
		rc = sosie_json_at(arr, i, &obj, err);
		if (rc == 0)
			rc = get_part(obj, &m->parts[i], err);
	}
	return rc;
}

static int get_ask(const struct sosie_json *obj, struct sosie_manifest_ask *a, struct sosie_err *err)
{
	static const char *const keys[] = {"volume", "level", "first", "count", NULL};
	uint64_t volume = 0, level = 0;
	int rc = sosie_json_only(obj, keys, err);

	if (rc == 0)
		rc = sosie_json_u64(obj, "volume", SOSIE_VOLUMES_MAX - 1, &volume, err);
	if (rc == 0)
		rc = sosie_json_u64(obj, "level", SOSIE_TREE_LEVELS - 1, &level, err);
	if (rc == 0)
		rc = sosie_json_u64(obj, "first", SOSIE_VOLUME_MAX, &a->first, err);
	if (rc == 0)
		rc = sosie_json_u64(obj, "count", SOSIE_VOLUME_MAX, &a->count, err);
	a->volume = (uint16_t)volume;
	a->level = (uint16_t)level;
	return rc;
}

static int get_asks(const struct sosie_json *doc, struct sosie_manifest *m, struct sosie_err *err)
{
	struct sosie_json *arr, *obj;
	void *items = NULL;
	int rc = get_list(doc, "asks", MANIFEST_ASKS_MAX, sizeof(*m->asks), &arr, &items, &m->ask_count, err);

	m->asks = items;
	for (unsigned i = 0; rc == 0 && i < m->ask_count; i++) {
		rc = sosie_json_at(arr, i, &obj, err);
		if (rc == 0)
			rc = get_ask(obj, &m->asks[i], err);
	}
	return rc;
}

static int get_standby_clock(const struct sosie_json *doc, struct sosie_manifest *m, struct sosie_err *err)
{
	static const char *const keys[] = {"at_ms", "plus_ms", NULL};
	struct sosie_json *obj;
	uint64_t at = 0;
	int rc = sosie_json_obj(doc, "standby_clock", &obj, err);

	if (rc == 0)
		rc = sosie_json_only(obj, keys, err);
	if (rc == 0)
		rc = sosie_json_u64(obj, "at_ms", (uint64_t)MANIFEST_CLOCK_MAX, &at, err);
	if (rc == 0)
		rc = sosie_json_i64(obj, "plus_ms", &m->standby_plus_ms, err);
	m->standby_at_ms = (int64_t)at;
	return rc;
}

static int get_counters(const struct sosie_json *doc, struct sosie_manifest *m, struct sosie_err *err)
{
	static const char *const keys[] = {"plain", "data", "zero", "discard", NULL};
	struct sosie_json *obj;
	int rc = sosie_json_obj(doc, "counters", &obj, err);

	if (rc == 0)
		rc = sosie_json_only(obj, keys, err);
	if (rc == 0)
		rc = sosie_json_u64(obj, "plain", MANIFEST_BYTES_MAX, &m->plain, err);
	if (rc == 0)
		rc = sosie_json_u64(obj, "data", MANIFEST_BYTES_MAX, &m->data, err);
	if (rc == 0)
		rc = sosie_json_u64(obj, "zero", MANIFEST_BYTES_MAX, &m->zero, err);
	if (rc == 0)
		rc = sosie_json_u64(obj, "discard", MANIFEST_BYTES_MAX, &m->discard, err);
	return rc;
}

static int get_consistency(const struct sosie_json *doc, enum sosie_consistency *out, struct sosie_err *err)
{
	const char *text;
	int rc = sosie_json_str(doc, "consistency", 16, &text, err);

	for (unsigned i = 0; rc == 0 && i < CONSISTENCIES; i++)
		if (strcmp(text, consistency_names[i]) == 0) {
			*out = (enum sosie_consistency)i;
			return 0;
		}
	return rc == 0 ? damaged(err, "unknown consistency") : rc;
}

static int get_software(const struct sosie_json *doc, struct sosie_manifest *m, struct sosie_err *err)
{
	const char *text;
	int rc = sosie_json_str(doc, "software", sizeof(m->software) - 1, &text, err);

	if (rc == 0)
		strncpy(m->software, text, sizeof(m->software) - 1);
	return rc;
}

static int get_cut_time(const struct sosie_json *doc, int64_t *out, struct sosie_err *err)
{
	const char *text;
	int rc = sosie_json_str(doc, "cut_time", SOSIE_TIME_TEXT, &text, err);

	return rc == 0 ? sosie_time_parse(text, out, err) : rc;
}

/* What only a segment has, after names, volumes and parts. */
static int get_segment(const struct sosie_json *doc, struct sosie_manifest *m, struct sosie_err *err)
{
	int rc = sosie_json_u64(doc, "epoch", INT64_MAX, &m->epoch, err);

	if (rc == 0)
		rc = get_cut_time(doc, &m->cut_ms, err);
	if (rc == 0)
		rc = get_standby_clock(doc, m, err);
	if (rc == 0)
		rc = get_consistency(doc, &m->consistency, err);
	if (rc == 0)
		rc = get_attachments(doc, m, err);
	if (rc == 0)
		rc = get_counters(doc, m, err);
	return rc == 0 ? get_software(doc, m, err) : rc;
}

static int get_kind(const struct sosie_json *doc, enum sosie_manifest_kind *out, struct sosie_err *err)
{
	uint64_t format = 0;
	const char *kind;
	int rc = sosie_json_u64(doc, "format", UINT32_MAX, &format, err);

	if (rc == 0 && format > MANIFEST_FORMAT)
		return sosie_err_set(err, SOSIE_ENEWER, "manifest of format %llu: this release reads %u",
		                     (unsigned long long)format, MANIFEST_FORMAT);
	if (rc == 0)
		rc = sosie_json_str(doc, "kind", 16, &kind, err);
	if (rc != 0)
		return rc;
	*out = strcmp(kind, "compare") == 0 ? SOSIE_MANIFEST_COMPARE : SOSIE_MANIFEST_SEGMENT;
	if (format == 0 || (*out == SOSIE_MANIFEST_SEGMENT && strcmp(kind, "segment") != 0))
		return damaged(err, "unknown format or kind");
	return sosie_json_only(doc, *out == SOSIE_MANIFEST_SEGMENT ? segment_keys : compare_keys, err);
}

static int get_all(const struct sosie_json *doc, struct sosie_manifest *m, struct sosie_err *err)
{
	int rc = get_kind(doc, &m->kind, err);

	if (rc == 0)
		rc = get_name(doc, "tenant", &m->tenant, err);
	if (rc == 0)
		rc = get_name(doc, "group", &m->group, err);
	if (rc == 0)
		rc = sosie_json_hex(doc, "parent", m->parent.b, sizeof(m->parent.b), err);
	if (rc == 0)
		rc = get_volumes(doc, m, err);
	if (rc == 0)
		rc = get_parts(doc, m, err);
	if (rc != 0)
		return rc;
	return m->kind == SOSIE_MANIFEST_SEGMENT ? get_segment(doc, m, err) : get_asks(doc, m, err);
}

int manifest_get(const void *text, size_t len, struct sosie_manifest *out, struct sosie_err *err)
{
	struct sosie_json *doc = NULL;
	int rc;

	memset(out, 0, sizeof(*out));
	rc = sosie_json_parse(text, len, SOSIE_MANIFEST_MAX, &doc, err);
	if (rc != 0)
		return rc;
	rc = get_all(doc, out, err);
	sosie_json_free(doc);
	if (rc != 0)
		sosie_manifest_fini(out);
	return rc;
}

int sosie_manifest_parse(const void *text, size_t len, struct sosie_manifest *out, struct sosie_err *err)
{
	int rc = manifest_get(text, len, out, err);

	if (rc == 0)
		rc = manifest_check(out, err);
	if (rc != 0)
		sosie_manifest_fini(out);
	return rc;
}

void sosie_manifest_fini(struct sosie_manifest *m)
{
	free(m->volumes);
	free(m->attachments);
	free(m->parts);
	free(m->asks);
	memset(m, 0, sizeof(*m));
}

/* --- writing
 * --------------------------------------------------------------------------------------------------- */

static void set_digest(struct sosie_json *obj, const char *key, const struct sosie_digest *d)
{
	sosie_json_set_hex(obj, key, d->b, sizeof(d->b));
}

static void set_volumes(struct sosie_json *doc, const struct sosie_manifest *m)
{
	struct sosie_json *arr = sosie_json_add_arr(doc, "volumes");

	for (unsigned i = 0; i < m->volume_count; i++) {
		struct sosie_json *obj = sosie_json_push_obj(arr);

		sosie_json_set_str(obj, "name", m->volumes[i].name.s);
		sosie_json_set_u64(obj, "size", m->volumes[i].size);
		if (m->kind == SOSIE_MANIFEST_SEGMENT)
			set_digest(obj, "root", &m->volumes[i].root);
	}
}

static void set_attachments(struct sosie_json *doc, const struct sosie_manifest *m)
{
	struct sosie_json *arr = sosie_json_add_arr(doc, "attachments");

	for (unsigned i = 0; i < m->attachment_count; i++) {
		struct sosie_json *obj = sosie_json_push_obj(arr);

		sosie_json_set_str(obj, "name", m->attachments[i].name.s);
		sosie_json_set_u64(obj, "size", m->attachments[i].size);
		set_digest(obj, "sha256", &m->attachments[i].sha256);
	}
}

static void set_parts(struct sosie_json *doc, const struct sosie_manifest *m)
{
	struct sosie_json *arr = sosie_json_add_arr(doc, "parts");

	for (unsigned i = 0; i < m->part_count; i++) {
		struct sosie_json *obj = sosie_json_push_obj(arr);

		sosie_json_set_u64(obj, "length", m->parts[i].length);
		sosie_json_set_u64(obj, "records", m->parts[i].records);
		set_digest(obj, "digest", &m->parts[i].digest);
	}
}

static void set_asks(struct sosie_json *doc, const struct sosie_manifest *m)
{
	struct sosie_json *arr = sosie_json_add_arr(doc, "asks");

	for (unsigned i = 0; i < m->ask_count; i++) {
		struct sosie_json *obj = sosie_json_push_obj(arr);

		sosie_json_set_u64(obj, "volume", m->asks[i].volume);
		sosie_json_set_u64(obj, "level", m->asks[i].level);
		sosie_json_set_u64(obj, "first", m->asks[i].first);
		sosie_json_set_u64(obj, "count", m->asks[i].count);
	}
}

static void set_counters(struct sosie_json *doc, const struct sosie_manifest *m)
{
	struct sosie_json *obj = sosie_json_add_obj(doc, "counters");

	sosie_json_set_u64(obj, "plain", m->plain);
	sosie_json_set_u64(obj, "data", m->data);
	sosie_json_set_u64(obj, "zero", m->zero);
	sosie_json_set_u64(obj, "discard", m->discard);
	sosie_json_set_str(doc, "software", m->software);
}

static void set_times(struct sosie_json *doc, const struct sosie_manifest *m)
{
	char text[SOSIE_TIME_TEXT];
	struct sosie_json *obj;

	sosie_time_text(text, m->cut_ms);
	sosie_json_set_str(doc, "cut_time", text);
	obj = sosie_json_add_obj(doc, "standby_clock");
	sosie_json_set_i64(obj, "at_ms", m->standby_at_ms);
	sosie_json_set_i64(obj, "plus_ms", m->standby_plus_ms);
	sosie_json_set_str(doc, "consistency", sosie_consistency_name(m->consistency));
}

static void set_manifest(struct sosie_json *doc, const struct sosie_manifest *m)
{
	bool segment = m->kind == SOSIE_MANIFEST_SEGMENT;

	sosie_json_set_u64(doc, "format", MANIFEST_FORMAT);
	sosie_json_set_str(doc, "kind", segment ? "segment" : "compare");
	sosie_json_set_str(doc, "tenant", m->tenant.s);
	sosie_json_set_str(doc, "group", m->group.s);
	if (segment)
		sosie_json_set_u64(doc, "epoch", m->epoch);
	set_digest(doc, "parent", &m->parent);
	if (segment)
		set_times(doc, m);
	set_volumes(doc, m);
	if (segment)
		set_attachments(doc, m);
	set_parts(doc, m);
	if (segment)
		set_counters(doc, m);
	else
		set_asks(doc, m);
}

static int write_text(const struct sosie_manifest *m, char **out, size_t *len, struct sosie_err *err)
{
	struct sosie_json *doc = sosie_json_new();
	int rc;

	*out = NULL;
	if (!doc)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory to write a manifest");
	set_manifest(doc, m);
	rc = sosie_json_text(doc, 0, out, len, err);
	sosie_json_free(doc);
	return rc;
}

int manifest_is_text(const struct sosie_manifest *m, const void *text, size_t len, struct sosie_err *err)
{
	char *ours = NULL;
	size_t our_len = 0;
	int rc = write_text(m, &ours, &our_len, err);

	if (rc == 0 && (our_len != len || memcmp(ours, text, len) != 0))
		rc = damaged(err, "it is not written as sosie writes it");
	free(ours);
	return rc;
}

int sosie_manifest_text(const struct sosie_manifest *m, char **out, size_t *len, struct sosie_err *err)
{
	struct sosie_manifest again;
	int rc = write_text(m, out, len, err);

	if (rc != 0)
		return rc;
	rc = *len > SOSIE_MANIFEST_MAX - SOSIE_SIGNATURE_MAX
	             ? sosie_err_set(err, SOSIE_ESIZE,
	                             "a manifest of %zu bytes is larger than the %u allowed", *len,
	                             SOSIE_MANIFEST_MAX - SOSIE_SIGNATURE_MAX)
	             : sosie_manifest_parse(*out, *len, &again, err);
	if (rc == 0) {
		sosie_manifest_fini(&again);
		return 0;
	}
	free(*out);
	*out = NULL;
	return rc;
}

void sosie_manifest_digest(struct sosie_hash *h, const void *text, size_t len, struct sosie_digest *out)
{
	sosie_hash_start(h, "sosie manif. v1");
	sosie_hash_add(h, text, len);
	sosie_hash_end(h, out);
}

void sosie_commit_digest(struct sosie_hash *h, const void *bytes, size_t len, struct sosie_digest *out)
{
	sosie_hash_start(h, "sosie commit v1");
	sosie_hash_add(h, bytes, len);
	sosie_hash_end(h, out);
}

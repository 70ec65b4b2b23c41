/* SPDX-License-Identifier: MIT */
/*
 * Manifests as JSON (docs/format.md, "Manifest"). Reading bounds every list before it is allocated and every
 * number before it is summed. Writing ends with reading what was written: no manifest leaves that the other
 * end would refuse.
 */
#include <stdlib.h>
#include <string.h>

#include "sosie/clock.h"
#include "sosie/segment.h"
#include "sosie/sign.h"
#include "sosie/tree.h"

#define MANIFEST_FORMAT 1u
#define ASKS_MAX 16384u
#define BYTES_MAX                                                                                            \
	((uint64_t)1 << 60) /* of a part, of a counter: 4096 parts cannot overflow when summed with a check  \
	                     */

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

const char *sosie_consistency_name(enum sosie_consistency c)
{
	return consistency_names[c];
}

static int damaged(struct sosie_err *err, const char *why)
{
	return sosie_err_set(err, SOSIE_ECORRUPT, "manifest refused: %s", why);
}

/* --- reading
 * --------------------------------------------------------------------------------------------------- */

static int get_name(const struct sosie_json *obj, const char *key, enum sosie_name_kind kind,
                    struct sosie_name *out, struct sosie_err *err)
{
	const char *text;
	int rc = sosie_json_str(obj, key, SOSIE_NAME_MAX, &text, err);

	return rc == 0 ? sosie_name_set(out, kind, text, err) : rc;
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
		rc = get_name(obj, "name", SOSIE_NAME_VOLUME, &v->name, err);
	if (rc == 0)
		rc = sosie_json_u64(obj, "size", SOSIE_VOLUME_MAX, &v->size, err);
	if (rc == 0 && v->size == 0)
		rc = damaged(err, "a volume of size 0");
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
	if (rc == 0 && m->volume_count == 0)
		rc = damaged(err, "no volume");
	for (unsigned i = 0; rc == 0 && i < m->volume_count; i++) {
		rc = sosie_json_at(arr, i, &obj, err);
		if (rc == 0)
			rc = get_volume(obj, m->kind == SOSIE_MANIFEST_SEGMENT, &m->volumes[i], err);
		for (unsigned k = 0; rc == 0 && k < i; k++)
			if (strcmp(m->volumes[k].name.s, m->volumes[i].name.s) == 0)
				rc = damaged(err, "a volume is listed twice");
	}
	return rc;
}

static int get_attachment(const struct sosie_json *obj, struct sosie_manifest_attachment *a,
                          struct sosie_err *err)
{
	static const char *const keys[] = {"name", "size", "sha256", NULL};
	int rc = sosie_json_only(obj, keys, err);

	if (rc == 0)
		rc = get_name(obj, "name", SOSIE_NAME_ATTACHMENT, &a->name, err);
	if (rc == 0)
		rc = sosie_json_u64(obj, "size", SOSIE_ATTACHMENTS_BYTES, &a->size, err);
	return rc == 0 ? sosie_json_hex(obj, "sha256", a->sha256.b, sizeof(a->sha256.b), err) : rc;
}

static int get_attachments(const struct sosie_json *doc, struct sosie_manifest *m, struct sosie_err *err)
{
	struct sosie_json *arr, *obj;
	uint64_t total = 0; /* at most 256 * 64 MiB */
	void *items = NULL;
	int rc = get_list(doc, "attachments", SOSIE_ATTACHMENTS_MAX, sizeof(*m->attachments), &arr, &items,
	                  &m->attachment_count, err);

	m->attachments = items;
	for (unsigned i = 0; rc == 0 && i < m->attachment_count; i++) {
		rc = sosie_json_at(arr, i, &obj, err);
		if (rc == 0)
			rc = get_attachment(obj, &m->attachments[i], err);
		for (unsigned k = 0; rc == 0 && k < i; k++)
			if (strcmp(m->attachments[k].name.s, m->attachments[i].name.s) == 0)
				rc = damaged(err, "an attachment is listed twice");
		total += m->attachments[i].size;
	}
	if (rc == 0 && total > SOSIE_ATTACHMENTS_BYTES)
		rc = damaged(err, "attachments of more than 64 MiB");
	return rc;
}

/* Length and number of records must be possible together. */
static bool part_fits(const struct sosie_manifest *m, const struct sosie_manifest_part *p)
{
	uint64_t least = SOSIE_RECORD_HEADER, most = SOSIE_RECORD_MAX;

	if (m->kind == SOSIE_MANIFEST_COMPARE)
		least = most = SOSIE_COMPARE_ENTRY;
	if (p->records > BYTES_MAX / least)
		return false;
	return p->length >= p->records * least && p->length / most + (p->length % most != 0) <= p->records;
}

static int get_part(const struct sosie_json *obj, const struct sosie_manifest *m,
                    struct sosie_manifest_part *p, struct sosie_err *err)
{
	static const char *const keys[] = {"length", "records", "digest", NULL};
	int rc = sosie_json_only(obj, keys, err);

	if (rc == 0)
		rc = sosie_json_u64(obj, "length", BYTES_MAX, &p->length, err);
	if (rc == 0)
		rc = sosie_json_u64(obj, "records", BYTES_MAX, &p->records, err);
	if (rc == 0)
		rc = sosie_json_hex(obj, "digest", p->digest.b, sizeof(p->digest.b), err);
	if (rc == 0 && !part_fits(m, p))
		rc = damaged(err, "length and number of records of a part do not fit each other");
	return rc;
}

static int get_parts(const struct sosie_json *doc, struct sosie_manifest *m, struct sosie_err *err)
{
	struct sosie_json *arr, *obj;
	uint64_t total = 0; /* at most 4096 * 2^60 / 48 records, 2^60 bytes */
	void *items = NULL;
	int rc =
	        get_list(doc, "parts", SOSIE_PARTS_MAX, sizeof(*m->parts), &arr, &items, &m->part_count, err);

	m->parts = items;
	if (rc == 0 && m->kind == SOSIE_MANIFEST_COMPARE && m->part_count != 1)
		rc = damaged(err, "a comparison has exactly one part");
	for (unsigned i = 0; rc == 0 && i < m->part_count; i++) {
		rc = sosie_json_at(arr, i, &obj, err);
		if (rc == 0)
			rc = get_part(obj, m, &m->parts[i], err);
		total += m->parts[i].length;
		if (rc == 0 && total > BYTES_MAX)
			rc = damaged(err, "parts of an impossible length in all");
	}
	return rc;
}

/* Blocks of the level that a volume of this size has; at least 1. */
static uint64_t blocks_of(uint64_t size, uint64_t level)
{
	uint64_t each = (uint64_t)SOSIE_CHUNK << (8 * level);

	return size / each + (size % each != 0);
}

static int get_ask(const struct sosie_json *obj, const struct sosie_manifest *m, struct sosie_manifest_ask *a,
                   struct sosie_err *err)
{
	static const char *const keys[] = {"volume", "level", "first", "count", NULL};
	uint64_t volume = 0, level = 0, blocks;
	int rc = sosie_json_only(obj, keys, err);

	if (rc == 0)
		rc = sosie_json_u64(obj, "volume", m->volume_count - 1, &volume, err);
	if (rc == 0)
		rc = sosie_json_u64(obj, "level", SOSIE_TREE_LEVELS - 1, &level, err);
	if (rc == 0)
		rc = sosie_json_u64(obj, "first", SOSIE_VOLUME_MAX, &a->first, err);
	if (rc == 0)
		rc = sosie_json_u64(obj, "count", SOSIE_VOLUME_MAX, &a->count, err);
	if (rc != 0)
		return rc;
	a->volume = (uint16_t)volume;
	a->level = (uint16_t)level;
	blocks = blocks_of(m->volumes[volume].size, level);
	if (a->count == 0 || a->first >= blocks || a->count > blocks - a->first)
		return damaged(err, "a comparison asks for blocks that its volume does not have");
	return 0;
}

static int get_asks(const struct sosie_json *doc, struct sosie_manifest *m, struct sosie_err *err)
{
	struct sosie_json *arr, *obj;
	void *items = NULL;
	int rc = get_list(doc, "asks", ASKS_MAX, sizeof(*m->asks), &arr, &items, &m->ask_count, err);

	m->asks = items;
	if (rc == 0 && m->ask_count == 0)
		rc = damaged(err, "a comparison that asks for nothing");
	for (unsigned i = 0; rc == 0 && i < m->ask_count; i++) {
		rc = sosie_json_at(arr, i, &obj, err);
		if (rc == 0)
			rc = get_ask(obj, m, &m->asks[i], err);
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
		rc = sosie_json_u64(obj, "at_ms", (uint64_t)1 << 53, &at, err);
	if (rc == 0)
		rc = sosie_json_i64(obj, "plus_ms", &m->standby_plus_ms, err);
	m->standby_at_ms = (int64_t)at;
	if (rc == 0 && (m->standby_plus_ms > (int64_t)1 << 53 || m->standby_plus_ms < -((int64_t)1 << 53)))
		rc = damaged(err, "a time beyond all clocks");
	return rc;
}

static int get_counters(const struct sosie_json *doc, struct sosie_manifest *m, struct sosie_err *err)
{
	static const char *const keys[] = {"plain", "data", "zero", "discard", NULL};
	uint64_t records = 0;
	struct sosie_json *obj;
	int rc = sosie_json_obj(doc, "counters", &obj, err);

	if (rc == 0)
		rc = sosie_json_only(obj, keys, err);
	if (rc == 0)
		rc = sosie_json_u64(obj, "plain", BYTES_MAX, &m->plain, err);
	if (rc == 0)
		rc = sosie_json_u64(obj, "data", BYTES_MAX, &m->data, err);
	if (rc == 0)
		rc = sosie_json_u64(obj, "zero", BYTES_MAX, &m->zero, err);
	if (rc == 0)
		rc = sosie_json_u64(obj, "discard", BYTES_MAX, &m->discard, err);
	for (unsigned i = 0; i < m->part_count; i++)
		records += m->parts[i].records; /* bounded with the sum of lengths */
	if (rc == 0 && (m->data > m->plain || m->plain / SOSIE_RECORD_PLAIN_MAX > records ||
	                (m->plain > 0 && records == 0)))
		rc = damaged(err, "counters that its parts cannot hold");
	return rc;
}

static int get_consistency(const struct sosie_json *doc, enum sosie_consistency *out, struct sosie_err *err)
{
	const char *text;
	int rc = sosie_json_str(doc, "consistency", 16, &text, err);

	for (unsigned i = 0; rc == 0 && i < sizeof(consistency_names) / sizeof(*consistency_names); i++)
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

	for (size_t i = 0; rc == 0 && text[i]; i++) {
		if (text[i] < ' ' || text[i] > '~')
			return damaged(err, "software is not named in printable ASCII");
		m->software[i] = text[i];
	}
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

	if (rc == 0 && m->epoch == 0)
		rc = damaged(err, "epoch 0");
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

static int get_manifest(const struct sosie_json *doc, struct sosie_manifest *m, struct sosie_err *err)
{
	int rc = get_kind(doc, &m->kind, err);

	if (rc == 0)
		rc = get_name(doc, "tenant", SOSIE_NAME_TENANT, &m->tenant, err);
	if (rc == 0)
		rc = get_name(doc, "group", SOSIE_NAME_GROUP, &m->group, err);
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

int sosie_manifest_parse(const void *text, size_t len, struct sosie_manifest *out, struct sosie_err *err)
{
	struct sosie_json *doc = NULL;
	int rc;

	memset(out, 0, sizeof(*out));
	rc = sosie_json_parse(text, len, SOSIE_MANIFEST_MAX, &doc, err);
	if (rc != 0)
		return rc;
	rc = get_manifest(doc, out, err);
	sosie_json_free(doc);
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

int sosie_manifest_text(const struct sosie_manifest *m, char **out, size_t *len, struct sosie_err *err)
{
	struct sosie_json *doc = sosie_json_new();
	struct sosie_manifest again;
	int rc;

	*out = NULL;
	if (!doc)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory to write a manifest");
	set_manifest(doc, m);
	rc = sosie_json_text(doc, 0, out, len, err);
	sosie_json_free(doc);
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

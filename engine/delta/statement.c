/* SPDX-License-Identifier: MIT */
/*
 * Statements of the standby's keeper as JSON (docs/format.md, "Statements"). They cross receivers as opaque
 * bytes, so the source reads them as hostile: bounded, strict, texts escaped. Writing ends with reading what
 * was written.
 */
#include <stdlib.h>
#include <string.h>

#include "sosie/clock.h"
#include "sosie/segment.h"
#include "sosie/tree.h"

#define STATEMENT_FORMAT 1u

static const char *const verdict_names[] = {
        [SOSIE_VERDICT_ACCEPTED] = "accepted",
        [SOSIE_VERDICT_REFUSED] = "refused",
        [SOSIE_VERDICT_WAITING] = "waiting",
        [SOSIE_VERDICT_DIFFERS] = "differs",
};

static int damaged(struct sosie_err *err, const char *why)
{
	return sosie_err_set(err, SOSIE_ECORRUPT, "statement of the standby not understood: %s", why);
}

/* --- reading
 * --------------------------------------------------------------------------------------------------- */

static int get_kind(const struct sosie_json *doc, const char *expected, struct sosie_err *err)
{
	uint64_t format = 0;
	const char *kind;
	int rc = sosie_json_u64(doc, "format", UINT32_MAX, &format, err);

	if (rc == 0 && format > STATEMENT_FORMAT)
		return sosie_err_set(err, SOSIE_ENEWER, "statement of format %llu: this release reads %u",
		                     (unsigned long long)format, STATEMENT_FORMAT);
	if (rc == 0)
		rc = sosie_json_str(doc, "kind", 16, &kind, err);
	if (rc == 0 && (format == 0 || strcmp(kind, expected) != 0))
		rc = damaged(err, "unknown format or kind");
	return rc;
}

static int get_name(const struct sosie_json *obj, const char *key, enum sosie_name_kind kind,
                    struct sosie_name *out, struct sosie_err *err)
{
	const char *text;
	int rc = sosie_json_str(obj, key, SOSIE_NAME_MAX, &text, err);

	return rc == 0 ? sosie_name_set(out, kind, text, err) : rc;
}

static int get_time(const struct sosie_json *obj, int64_t *out, struct sosie_err *err)
{
	const char *text;
	int rc = sosie_json_str(obj, "time", SOSIE_TIME_TEXT, &text, err);

	return rc == 0 ? sosie_time_parse(text, out, err) : rc;
}

/* The newest manifest: null, and zero here, exactly when there is no point yet. */
static int get_manifest(const struct sosie_json *obj, struct sosie_head *h, struct sosie_err *err)
{
	int rc;

	if (h->point == 0)
		return sosie_json_is_null(obj, "manifest") ? 0 : damaged(err, "a manifest without a point");
	rc = sosie_json_hex(obj, "manifest", h->manifest.b, sizeof(h->manifest.b), err);
	if (rc == 0 && sosie_digest_is_zero(&h->manifest))
		rc = damaged(err, "a point without a manifest");
	return rc;
}

static int get_volume(const struct sosie_json *obj, struct sosie_name *name, uint64_t *size,
                      struct sosie_err *err)
{
	static const char *const keys[] = {"name", "size", NULL};
	int rc = sosie_json_only(obj, keys, err);

	if (rc == 0)
		rc = get_name(obj, "name", SOSIE_NAME_VOLUME, name, err);
	if (rc == 0)
		rc = sosie_json_u64(obj, "size", SOSIE_VOLUME_MAX, size, err);
	if (rc == 0 && *size == 0)
		rc = damaged(err, "a volume of size 0");
	return rc;
}

static int get_volumes(const struct sosie_json *obj, struct sosie_head *h, struct sosie_err *err)
{
	struct sosie_json *arr, *item;
	size_t count;
	int rc = sosie_json_arr(obj, "volumes", SOSIE_VOLUMES_MAX, &arr, &count, err);

	if (rc != 0)
		return rc;
	h->volume_count = (unsigned)count;
	for (unsigned i = 0; rc == 0 && i < h->volume_count; i++) {
		rc = sosie_json_at(arr, i, &item, err);
		if (rc == 0)
			rc = get_volume(item, &h->volumes[i].name, &h->volumes[i].size, err);
		for (unsigned k = 0; rc == 0 && k < i; k++)
			if (strcmp(h->volumes[k].name.s, h->volumes[i].name.s) == 0)
				rc = damaged(err, "a volume is listed twice");
	}
	if (rc == 0 && (count == 0) != (h->point == 0))
		rc = damaged(err, "volumes without a point, or a point without volumes");
	return rc;
}

static int get_head(const struct sosie_json *obj, struct sosie_head *h, struct sosie_err *err)
{
	static const char *const keys[] = {"format", "kind",   "store",    "tenant", "group",   "epoch",
	                                   "point",  "digest", "manifest", "time",   "volumes", NULL};
	int rc = get_kind(obj, "head", err);

	if (rc == 0)
		rc = sosie_json_only(obj, keys, err);
	if (rc == 0)
		rc = sosie_json_hex(obj, "store", h->store.b, sizeof(h->store.b), err);
	if (rc == 0)
		rc = get_name(obj, "tenant", SOSIE_NAME_TENANT, &h->tenant, err);
	if (rc == 0)
		rc = get_name(obj, "group", SOSIE_NAME_GROUP, &h->group, err);
	if (rc == 0)
		rc = sosie_json_u64(obj, "epoch", INT64_MAX, &h->epoch, err);
	if (rc == 0 && h->epoch == 0)
		rc = damaged(err, "epoch 0");
	if (rc == 0)
		rc = sosie_json_u64(obj, "point", INT64_MAX, &h->point, err);
	if (rc == 0)
		rc = sosie_json_hex(obj, "digest", h->digest.b, sizeof(h->digest.b), err);
	if (rc == 0)
		rc = get_manifest(obj, h, err);
	if (rc == 0)
		rc = get_time(obj, &h->time_ms, err);
	return rc == 0 ? get_volumes(obj, h, err) : rc;
}

int sosie_head_parse(const void *text, size_t len, struct sosie_head *out, struct sosie_err *err)
{
	struct sosie_json *doc = NULL;
	int rc;

	memset(out, 0, sizeof(*out));
	rc = sosie_json_parse(text, len, SOSIE_STATEMENT_MAX, &doc, err);
	if (rc == 0)
		rc = get_head(doc, out, err);
	sosie_json_free(doc);
	if (rc != 0)
		memset(out, 0, sizeof(*out));
	return rc;
}

/* Printable ASCII as it is, anything else escaped, cut to size: the same going out and coming in, so that a
 * text stays what it is. */
static void copy_text(char *dst, size_t size, const char *text)
{
	size_t len = 0;

	while (text[len] >= ' ' && text[len] <= '~')
		len++;
	if (text[len] == 0 && len < size)
		memcpy(dst, text, len + 1);
	else
		sosie_escape(dst, size, text, strlen(text));
}

static int get_text(const struct sosie_json *obj, const char *key, char *dst, size_t size,
                    struct sosie_err *err)
{
	const char *text;
	int rc = sosie_json_str(obj, key, size - 1, &text, err);

	if (rc == 0)
		copy_text(dst, size, text);
	return rc;
}

/* A code that this release does not know keeps the verdict's sense. */
static int get_error(const struct sosie_json *doc, struct sosie_verdict *v, struct sosie_err *err)
{
	static const char *const keys[] = {"code", "what", "action", NULL};
	struct sosie_json *obj;
	const char *name;
	int code, rc = sosie_json_obj(doc, "error", &obj, err);

	if (rc == 0)
		rc = sosie_json_only(obj, keys, err);
	if (rc == 0)
		rc = sosie_json_str(obj, "code", 32, &name, err);
	if (rc != 0)
		return rc;
	code = sosie_code_from_name(name);
	if (code <= 0)
		code = v->kind == SOSIE_VERDICT_WAITING ? SOSIE_EPENDING : SOSIE_EREFUSED;
	v->error.code = (enum sosie_code)code;
	rc = get_text(obj, "what", v->error.what, sizeof(v->error.what), err);
	return rc == 0 ? get_text(obj, "action", v->error.action, sizeof(v->error.action), err) : rc;
}

static int get_verdict_kind(const struct sosie_json *doc, enum sosie_verdict_kind *out, struct sosie_err *err)
{
	const char *text;
	int rc = sosie_json_str(doc, "verdict", 16, &text, err);

	for (unsigned i = 0; rc == 0 && i < sizeof(verdict_names) / sizeof(*verdict_names); i++)
		if (strcmp(text, verdict_names[i]) == 0) {
			*out = (enum sosie_verdict_kind)i;
			return 0;
		}
	return rc == 0 ? damaged(err, "unknown verdict") : rc;
}

static bool has_head(enum sosie_verdict_kind kind)
{
	return kind == SOSIE_VERDICT_ACCEPTED || kind == SOSIE_VERDICT_DIFFERS;
}

static int get_verdict(const struct sosie_json *doc, struct sosie_verdict *v, struct sosie_err *err)
{
	static const char *const with_head[] = {"format",    "kind", "upload", "verdict",
	                                        "committed", "time", "head",   NULL};
	static const char *const with_error[] = {"format",    "kind", "upload", "verdict",
	                                         "committed", "time", "error",  NULL};
	struct sosie_json *head;
	int rc = get_kind(doc, "verdict", err);

	if (rc == 0)
		rc = get_verdict_kind(doc, &v->kind, err);
	if (rc == 0)
		rc = sosie_json_only(doc, has_head(v->kind) ? with_head : with_error, err);
	if (rc == 0)
		rc = sosie_json_hex(doc, "upload", v->upload.b, sizeof(v->upload.b), err);
	if (rc == 0 && sosie_json_has(doc, "committed"))
		rc = sosie_json_hex(doc, "committed", v->committed.b, sizeof(v->committed.b), err);
	if (rc == 0)
		rc = get_time(doc, &v->time_ms, err);
	if (rc != 0 || !has_head(v->kind))
		return rc == 0 ? get_error(doc, v, err) : rc;
	rc = sosie_json_obj(doc, "head", &head, err);
	return rc == 0 ? get_head(head, &v->head, err) : rc;
}

int sosie_verdict_parse(const void *text, size_t len, struct sosie_verdict *out, struct sosie_err *err)
{
	struct sosie_json *doc = NULL;
	int rc;

	memset(out, 0, sizeof(*out));
	rc = sosie_json_parse(text, len, SOSIE_STATEMENT_MAX, &doc, err);
	if (rc == 0)
		rc = get_verdict(doc, out, err);
	sosie_json_free(doc);
	if (rc != 0)
		memset(out, 0, sizeof(*out));
	return rc;
}

/* --- writing
 * --------------------------------------------------------------------------------------------------- */

static void set_time(struct sosie_json *obj, int64_t time_ms)
{
	char text[SOSIE_TIME_TEXT];

	sosie_time_text(text, time_ms);
	sosie_json_set_str(obj, "time", text);
}

static void set_head(struct sosie_json *obj, const struct sosie_head *h)
{
	struct sosie_json *arr;

	sosie_json_set_u64(obj, "format", STATEMENT_FORMAT);
	sosie_json_set_str(obj, "kind", "head");
	sosie_json_set_hex(obj, "store", h->store.b, sizeof(h->store.b));
	sosie_json_set_str(obj, "tenant", h->tenant.s);
	sosie_json_set_str(obj, "group", h->group.s);
	sosie_json_set_u64(obj, "epoch", h->epoch);
	sosie_json_set_u64(obj, "point", h->point);
	sosie_json_set_hex(obj, "digest", h->digest.b, sizeof(h->digest.b));
	if (sosie_digest_is_zero(&h->manifest))
		sosie_json_set_null(obj, "manifest");
	else
		sosie_json_set_hex(obj, "manifest", h->manifest.b, sizeof(h->manifest.b));
	set_time(obj, h->time_ms);
	arr = sosie_json_add_arr(obj, "volumes");
	for (unsigned i = 0; i < h->volume_count; i++) {
		struct sosie_json *volume = sosie_json_push_obj(arr);

		sosie_json_set_str(volume, "name", h->volumes[i].name.s);
		sosie_json_set_u64(volume, "size", h->volumes[i].size);
	}
}

static void set_verdict(struct sosie_json *doc, const struct sosie_verdict *v)
{
	struct sosie_json *obj;
	char what[sizeof(v->error.what)], action[sizeof(v->error.action)];

	sosie_json_set_u64(doc, "format", STATEMENT_FORMAT);
	sosie_json_set_str(doc, "kind", "verdict");
	sosie_json_set_hex(doc, "upload", v->upload.b, sizeof(v->upload.b));
	sosie_json_set_str(doc, "verdict", verdict_names[v->kind]);
	if (!sosie_digest_is_zero(&v->committed))
		sosie_json_set_hex(doc, "committed", v->committed.b, sizeof(v->committed.b));
	set_time(doc, v->time_ms);
	obj = sosie_json_add_obj(doc, has_head(v->kind) ? "head" : "error");
	if (has_head(v->kind)) {
		set_head(obj, &v->head);
		return;
	}
	sosie_json_set_str(obj, "code", sosie_code_name(v->error.code));
	/* Cut to what the reader takes: a text that was cut inside a character would grow in JSON. */
	copy_text(what, sizeof(what), v->error.what);
	copy_text(action, sizeof(action), v->error.action);
	sosie_json_set_str(obj, "what", what);
	sosie_json_set_str(obj, "action", action);
}

/* Ends a document: text, and the document freed. */
static int finish(struct sosie_json *doc, char **out, size_t *len, struct sosie_err *err)
{
	int rc = sosie_json_text(doc, 0, out, len, err);

	sosie_json_free(doc);
	return rc;
}

static int take_back(char **out, int rc)
{
	if (rc != 0) {
		free(*out);
		*out = NULL;
	}
	return rc;
}

int sosie_head_text(const struct sosie_head *head, char **out, size_t *len, struct sosie_err *err)
{
	struct sosie_json *doc = sosie_json_new();
	struct sosie_head again;
	int rc;

	*out = NULL;
	if (!doc)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory to write a statement");
	set_head(doc, head);
	rc = finish(doc, out, len, err);
	return rc == 0 ? take_back(out, sosie_head_parse(*out, *len, &again, err)) : rc;
}

int sosie_verdict_text(const struct sosie_verdict *v, char **out, size_t *len, struct sosie_err *err)
{
	struct sosie_json *doc = sosie_json_new();
	struct sosie_verdict again;
	int rc;

	*out = NULL;
	if (!doc)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory to write a statement");
	set_verdict(doc, v);
	rc = finish(doc, out, len, err);
	return rc == 0 ? take_back(out, sosie_verdict_parse(*out, *len, &again, err)) : rc;
}

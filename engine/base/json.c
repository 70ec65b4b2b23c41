/* SPDX-License-Identifier: MIT */
/*
 * JSON over jansson. A struct sosie_json is a handle: the document's own one owns the tree, the handles of
 * members are chained to it and freed with it. Every handle knows its document, which remembers the first
 * failure of building.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "sosie/bytes.h"
#include "sosie/json.h"

struct sosie_json {
	json_t *value;           /* owned by the document; borrowed otherwise */
	struct sosie_json *doc;  /* the document's handle, which may be this one */
	struct sosie_json *next; /* document: the handles it owns; others: the next of them */
	enum sosie_code failed;  /* document: what went wrong while building, or SOSIE_OK */
};

static struct sosie_json *handle_new(struct sosie_json *doc, json_t *value)
{
	struct sosie_json *h = calloc(1, sizeof(*h));

	if (!h)
		return NULL;
	h->value = value;
	h->doc = doc ? doc : h;
	if (doc) {
		h->next = doc->next;
		doc->next = h;
	}
	return h;
}

int sosie_json_parse(const void *text, size_t len, size_t max, struct sosie_json **out, struct sosie_err *err)
{
	json_error_t why;
	char shown[JSON_ERROR_TEXT_LENGTH * 4];

	*out = NULL;
	if (len > max)
		return sosie_err_set(err, SOSIE_ECORRUPT, "JSON of %zu bytes is longer than the %zu allowed",
		                     len, max);
	json_t *value = json_loadb(text, len, JSON_REJECT_DUPLICATES, &why);
	if (!value && json_error_code(&why) == json_error_out_of_memory)
		return sosie_err_sys(err, ENOMEM, "cannot read JSON");
	if (!value)
		return sosie_err_set(err, SOSIE_ECORRUPT, "not valid JSON at line %d, column %d: %s",
		                     why.line, why.column,
		                     sosie_escape(shown, sizeof(shown), why.text, strlen(why.text)));
	*out = handle_new(NULL, value);
	if (!*out) {
		json_decref(value);
		return sosie_err_sys(err, ENOMEM, "cannot read JSON");
	}
	return 0;
}

/* The seed of the tables, from the system's randomness; jansson keeps the first for the life of the process.
 */
void sosie_json_ready(void)
{
	json_object_seed(0);
}

void sosie_json_free(struct sosie_json *doc)
{
	if (!doc)
		return;
	json_decref(doc->value);
	for (struct sosie_json *next; doc; doc = next) {
		next = doc->next;
		free(doc);
	}
}

bool sosie_json_has(const struct sosie_json *obj, const char *key)
{
	return json_object_get(obj->value, key) != NULL;
}

bool sosie_json_is_null(const struct sosie_json *obj, const char *key)
{
	return json_is_null(json_object_get(obj->value, key));
}

static int wrong(struct sosie_err *err, const char *key, const char *need)
{
	return sosie_err_set(err, SOSIE_ECORRUPT, "JSON member \"%s\" %s", key, need);
}

int sosie_json_str(const struct sosie_json *obj, const char *key, size_t max_len, const char **out,
                   struct sosie_err *err)
{
	const json_t *v = json_object_get(obj->value, key);

	if (!v)
		return wrong(err, key, "is missing");
	if (!json_is_string(v))
		return wrong(err, key, "is not a string");
	if (json_string_length(v) > max_len)
		return wrong(err, key, "is too long");
	*out = json_string_value(v);
	return 0;
}

int sosie_json_i64(const struct sosie_json *obj, const char *key, int64_t *out, struct sosie_err *err)
{
	const json_t *v = json_object_get(obj->value, key);

	if (!v)
		return wrong(err, key, "is missing");
	if (!json_is_integer(v))
		return wrong(err, key, "is not a whole number");
	*out = json_integer_value(v);
	return 0;
}

int sosie_json_u64(const struct sosie_json *obj, const char *key, uint64_t max, uint64_t *out,
                   struct sosie_err *err)
{
	int64_t v = 0;
	int rc = sosie_json_i64(obj, key, &v, err);

	if (rc != 0)
		return rc;
	if (v < 0 || (uint64_t)v > max)
		return wrong(err, key, "is out of its bounds");
	*out = (uint64_t)v;
	return 0;
}

int sosie_json_bool(const struct sosie_json *obj, const char *key, bool *out, struct sosie_err *err)
{
	const json_t *v = json_object_get(obj->value, key);

	if (!v)
		return wrong(err, key, "is missing");
	if (!json_is_boolean(v))
		return wrong(err, key, "is neither true nor false");
	*out = json_is_true(v);
	return 0;
}

int sosie_json_hex(const struct sosie_json *obj, const char *key, void *out, size_t len,
                   struct sosie_err *err)
{
	const char *text = NULL;
	int rc = sosie_json_str(obj, key, 2 * len, &text, err);

	if (rc != 0)
		return rc;
	if (strlen(text) != 2 * len || !sosie_unhex(out, len, text))
		return wrong(err, key, "is not hexadecimal of the right length");
	return 0;
}

static int borrow(const struct sosie_json *from, json_t *value, struct sosie_json **out,
                  struct sosie_err *err)
{
	*out = handle_new(from->doc, value);
	return *out ? 0 : sosie_err_sys(err, ENOMEM, "cannot read JSON");
}

int sosie_json_obj(const struct sosie_json *obj, const char *key, struct sosie_json **out,
                   struct sosie_err *err)
{
	json_t *v = json_object_get(obj->value, key);

	*out = NULL;
	if (!v)
		return wrong(err, key, "is missing");
	if (!json_is_object(v))
		return wrong(err, key, "is not an object");
	return borrow(obj, v, out, err);
}

int sosie_json_arr(const struct sosie_json *obj, const char *key, size_t max, struct sosie_json **out,
                   size_t *count, struct sosie_err *err)
{
	json_t *v = json_object_get(obj->value, key);

	*out = NULL;
	*count = 0;
	if (!v)
		return wrong(err, key, "is missing");
	if (!json_is_array(v))
		return wrong(err, key, "is not an array");
	if (json_array_size(v) > max)
		return wrong(err, key, "has too many elements");
	*count = json_array_size(v);
	return borrow(obj, v, out, err);
}

int sosie_json_at(const struct sosie_json *arr, size_t i, struct sosie_json **out, struct sosie_err *err)
{
	json_t *v = json_array_get(arr->value, i);

	*out = NULL;
	if (!v)
		return sosie_err_set(err, SOSIE_ECORRUPT, "JSON array has no element %zu", i);
	if (!json_is_object(v))
		return sosie_err_set(err, SOSIE_ECORRUPT, "element %zu of a JSON array is not an object", i);
	return borrow(arr, v, out, err);
}

int sosie_json_str_at(const struct sosie_json *arr, size_t i, size_t max_len, const char **out,
                      struct sosie_err *err)
{
	const json_t *v = json_array_get(arr->value, i);

	*out = NULL;
	if (!json_is_string(v))
		return sosie_err_set(err, SOSIE_ECORRUPT, "element %zu of a JSON array is not a string", i);
	if (json_string_length(v) > max_len)
		return sosie_err_set(err, SOSIE_ECORRUPT, "element %zu of a JSON array is too long", i);
	*out = json_string_value(v);
	return 0;
}

int sosie_json_names(const struct sosie_json *obj, int (*fn)(void *arg, const char *name), void *arg)
{
	for (void *at = json_object_iter(obj->value); at; at = json_object_iter_next(obj->value, at)) {
		const int rc = fn(arg, json_object_iter_key(at));
		if (rc != 0)
			return rc;
	}
	return 0;
}

static bool listed(const char *key, const char *const *keys)
{
	for (; *keys; keys++)
		if (strcmp(key, *keys) == 0)
			return true;
	return false;
}

int sosie_json_only(const struct sosie_json *obj, const char *const *keys, struct sosie_err *err)
{
	const char *key;
	json_t *value;
	char shown[128];

	if (!json_is_object(obj->value))
		return sosie_err_set(err, SOSIE_ECORRUPT, "JSON value is not an object");
	json_object_foreach(obj->value, key, value) if (!listed(key, keys)) return wrong(
	        err, sosie_escape(shown, sizeof(shown), key, strlen(key)), "is not known");
	return 0;
}

static void fail(struct sosie_json *h, enum sosie_code code)
{
	if (h && h->doc->failed == SOSIE_OK)
		h->doc->failed = code;
}

struct sosie_json *sosie_json_new(void)
{
	json_t *value = json_object();
	struct sosie_json *doc = value ? handle_new(NULL, value) : NULL;

	if (!doc)
		json_decref(value);
	return doc;
}

/* Takes the reference to value, which may be NULL after a failed allocation. */
static void set(struct sosie_json *obj, const char *key, json_t *value)
{
	if (!obj)
		json_decref(value);
	else if (json_object_set_new(obj->value, key, value) != 0)
		fail(obj, SOSIE_ENOMEM);
}

/* Bytes that are not UTF-8 (a file's name) cannot stand in JSON: they are escaped. */
static json_t *string_value(const char *text)
{
	json_t *v;
	char *escaped;

	if (!text)
		return json_null();
	v = json_string(text);
	if (v)
		return v;
	escaped = malloc(4 * strlen(text) + 1);
	if (!escaped)
		return NULL;
	v = json_string(sosie_escape(escaped, 4 * strlen(text) + 1, text, strlen(text)));
	free(escaped);
	return v;
}

void sosie_json_set_str(struct sosie_json *obj, const char *key, const char *value)
{
	set(obj, key, string_value(value));
}

void sosie_json_set_u64(struct sosie_json *obj, const char *key, uint64_t value)
{
	if (value > INT64_MAX)
		fail(obj, SOSIE_EINTERNAL);
	else
		set(obj, key, json_integer((json_int_t)value));
}

void sosie_json_set_i64(struct sosie_json *obj, const char *key, int64_t value)
{
	set(obj, key, json_integer(value));
}

void sosie_json_set_real(struct sosie_json *obj, const char *key, double value)
{
	set(obj, key, isfinite(value) ? json_real(value) : json_null());
}

void sosie_json_set_bool(struct sosie_json *obj, const char *key, bool value)
{
	set(obj, key, json_boolean(value));
}

void sosie_json_set_null(struct sosie_json *obj, const char *key)
{
	set(obj, key, json_null());
}

void sosie_json_set_hex(struct sosie_json *obj, const char *key, const void *bytes, size_t len)
{
	char *text = malloc(2 * len + 1);

	if (text)
		sosie_hex(text, bytes, len);
	set(obj, key, text ? json_string(text) : NULL);
	free(text);
}

/* A handle for the container just added to parent, or NULL with the failure remembered. */
static struct sosie_json *added(struct sosie_json *parent, json_t *value, int rc)
{
	struct sosie_json *h = rc == 0 ? handle_new(parent->doc, value) : NULL;

	if (!h)
		fail(parent, SOSIE_ENOMEM);
	return h;
}

struct sosie_json *sosie_json_add_obj(struct sosie_json *obj, const char *key)
{
	json_t *value;

	if (!obj)
		return NULL;
	value = json_object();
	return added(obj, value, json_object_set_new(obj->value, key, value));
}

struct sosie_json *sosie_json_add_arr(struct sosie_json *obj, const char *key)
{
	json_t *value;

	if (!obj)
		return NULL;
	value = json_array();
	return added(obj, value, json_object_set_new(obj->value, key, value));
}

struct sosie_json *sosie_json_push_obj(struct sosie_json *arr)
{
	json_t *value;

	if (!arr)
		return NULL;
	value = json_object();
	return added(arr, value, json_array_append_new(arr->value, value));
}

void sosie_json_push_str(struct sosie_json *arr, const char *value)
{
	json_t *v = string_value(value);

	if (!arr)
		json_decref(v);
	else if (json_array_append_new(arr->value, v) != 0)
		fail(arr, SOSIE_ENOMEM);
}

int sosie_json_text(const struct sosie_json *doc, unsigned indent, char **out, size_t *len,
                    struct sosie_err *err)
{
	size_t flags = JSON_REAL_PRECISION(15) | (indent ? JSON_INDENT(indent) : JSON_COMPACT);

	*out = NULL;
	if (doc && doc->doc->failed == SOSIE_EINTERNAL)
		return sosie_err_set(err, SOSIE_EINTERNAL,
		                     "a number above 2^63 - 1 cannot be written as JSON");
	if (doc && doc->doc->failed == SOSIE_OK)
		*out = json_dumps(doc->value, flags);
	if (!*out)
		return sosie_err_sys(err, ENOMEM, "cannot write JSON");
	if (len)
		*len = strlen(*out);
	return 0;
}

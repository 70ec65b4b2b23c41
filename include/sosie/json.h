/* SPDX-License-Identifier: MIT */
/*
 * JSON documents, over jansson, which only engine/base/json.c includes. Reading is strict: a missing member,
 * another type, a number outside the bounds given or a string outside the lengths given is an error of code
 * SOSIE_ECORRUPT that names the member. Not for use from two threads at once on one document.
 */
#ifndef SOSIE_JSON_H
#define SOSIE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sosie/err.h"

struct sosie_json; /* a document, an object, an array or a value; members are borrowed from their document */

/* Parses exactly one JSON object or array of at most max bytes, duplicates of a key refused. Free with
 * sosie_json_free. */
int sosie_json_parse(const void *text, size_t len, size_t max, struct sosie_json **out,
                     struct sosie_err *err);
/* Before a process that will read JSON gives up opening files: what the first document needs of the system is
 * fetched. More than once is fine, from any thread. */
void sosie_json_ready(void);
void sosie_json_free(struct sosie_json *doc); /* documents only, never borrowed members; NULL does nothing */

bool sosie_json_has(const struct sosie_json *obj, const char *key);
bool sosie_json_is_null(const struct sosie_json *obj, const char *key); /* there, and null */
int sosie_json_str(const struct sosie_json *obj, const char *key, size_t max_len, const char **out,
                   struct sosie_err *err);
int sosie_json_u64(const struct sosie_json *obj, const char *key, uint64_t max, uint64_t *out,
                   struct sosie_err *err);
int sosie_json_i64(const struct sosie_json *obj, const char *key, int64_t *out, struct sosie_err *err);
int sosie_json_bool(const struct sosie_json *obj, const char *key, bool *out, struct sosie_err *err);
/* A string of exactly 2 * len lower-case hexadecimal digits. */
int sosie_json_hex(const struct sosie_json *obj, const char *key, void *out, size_t len,
                   struct sosie_err *err);
int sosie_json_obj(const struct sosie_json *obj, const char *key, struct sosie_json **out,
                   struct sosie_err *err);
int sosie_json_arr(const struct sosie_json *obj, const char *key, size_t max, struct sosie_json **out,
                   size_t *count, struct sosie_err *err);
/* Element i of an array, which must be an object. */
int sosie_json_at(const struct sosie_json *arr, size_t i, struct sosie_json **out, struct sosie_err *err);
/* Element i of an array, which must be a string of at most max_len bytes. */
int sosie_json_str_at(const struct sosie_json *arr, size_t i, size_t max_len, const char **out,
                      struct sosie_err *err);
/* The names of all members, in their order; return non-zero to stop, which is then returned. */
int sosie_json_names(const struct sosie_json *obj, int (*fn)(void *arg, const char *name), void *arg);
/* Refuses members that are not in the NULL-terminated list. */
int sosie_json_only(const struct sosie_json *obj, const char *const *keys, struct sosie_err *err);

/* Building. Out of memory is remembered by the document and told by sosie_json_text, so setters return
 * nothing. Members keep the order in which they were set. NULL strings become null. */
struct sosie_json *sosie_json_new(void);
void sosie_json_set_str(struct sosie_json *obj, const char *key, const char *value);
void sosie_json_set_u64(struct sosie_json *obj, const char *key, uint64_t value);
void sosie_json_set_i64(struct sosie_json *obj, const char *key, int64_t value);
void sosie_json_set_real(struct sosie_json *obj, const char *key, double value);
void sosie_json_set_bool(struct sosie_json *obj, const char *key, bool value);
void sosie_json_set_null(struct sosie_json *obj, const char *key);
void sosie_json_set_hex(struct sosie_json *obj, const char *key, const void *bytes, size_t len);
struct sosie_json *sosie_json_add_obj(struct sosie_json *obj, const char *key); /* borrowed */
struct sosie_json *sosie_json_add_arr(struct sosie_json *obj, const char *key); /* borrowed */
struct sosie_json *sosie_json_push_obj(struct sosie_json *arr);                 /* borrowed */
void sosie_json_push_str(struct sosie_json *arr, const char *value);
/* A time as RFC 3339 text; null for 0. */
void sosie_json_set_time(struct sosie_json *obj, const char *key, int64_t wall_ms);
/* code, class, what, where and action of an error: the object, borrowed. NULL, and null under key, when e is
 * NULL or no error. */
struct sosie_json *sosie_json_set_error(struct sosie_json *obj, const char *key, const struct sosie_err *e);
/* Compact text (indent 0) or indented; malloc'd, NUL-terminated, the caller frees. */
int sosie_json_text(const struct sosie_json *doc, unsigned indent, char **out, size_t *len,
                    struct sosie_err *err);

#endif

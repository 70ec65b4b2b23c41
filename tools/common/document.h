/* SPDX-License-Identifier: MIT */
/*
 * What --json prints: exactly one document, on success and on failure:
 *   {"schema": "sosie/points/1", "ok": true, …, "error": null}
 *   {"schema": "sosie/points/1", "ok": false, …, "error": {"code", "class", "what", "where", "action"}}
 */
#ifndef TOOLS_DOCUMENT_H
#define TOOLS_DOCUMENT_H

#include "sosie/json.h"

/* verb: "points". NULL when memory is short (every setter of json.h then does nothing). */
struct sosie_json *document_new(const char *verb);
/* Adds "error" to any object: null when e is NULL or no error. */
void document_error(struct sosie_json *obj, const struct sosie_err *e);
/* Sets ok and error, prints the document and a newline on standard output, frees it. Negative when it could
 * not be printed (then err says why). */
int document_print(struct sosie_json *doc, const struct sosie_err *failure, struct sosie_err *err);
/* A time as RFC 3339 text; null for 0. */
void document_time(struct sosie_json *obj, const char *key, int64_t wall_ms);

#endif

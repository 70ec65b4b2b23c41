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
/* Sets ok and error, prints the document and a newline on standard output, frees it. Negative when it could
 * not be printed (then err says why). */
int document_print(struct sosie_json *doc, const struct sosie_err *failure, struct sosie_err *err);

#endif

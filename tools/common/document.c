/* SPDX-License-Identifier: MIT */
/* Documents of --json. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "sosie/clock.h"
#include "tools/common/document.h"

struct sosie_json *document_new(const char *verb)
{
	struct sosie_json *doc = sosie_json_new();
	char schema[64];

	snprintf(schema, sizeof(schema), "sosie/%s/1", verb);
	if (doc) {
		sosie_json_set_str(doc, "schema", schema);
		sosie_json_set_bool(doc, "ok", true); /* keeps its place; document_print sets the value */
	}
	return doc;
}

void document_error(struct sosie_json *obj, const struct sosie_err *e)
{
	struct sosie_json *error;

	if (!e || e->code == SOSIE_OK) {
		sosie_json_set_null(obj, "error");
		return;
	}
	error = sosie_json_add_obj(obj, "error");
	sosie_json_set_str(error, "code", sosie_code_name(e->code));
	sosie_json_set_str(error, "class", sosie_class_name(sosie_code_class(e->code)));
	sosie_json_set_str(error, "what", e->what);
	sosie_json_set_str(error, "where", e->where);
	sosie_json_set_str(error, "action", e->action);
}

int document_print(struct sosie_json *doc, const struct sosie_err *failure, struct sosie_err *err)
{
	char *text = NULL;
	size_t len;
	int rc;

	if (!doc)
		return sosie_err_sys(err, ENOMEM, "cannot print the result");
	sosie_json_set_bool(doc, "ok", !failure || failure->code == SOSIE_OK);
	document_error(doc, failure);
	rc = sosie_json_text(doc, 2, &text, &len, err);
	sosie_json_free(doc);
	if (rc == 0 && (fwrite(text, 1, len, stdout) != len || putchar('\n') == EOF || fflush(stdout) != 0))
		rc = sosie_err_sys(err, errno, "cannot print the result");
	free(text);
	return rc;
}

void document_time(struct sosie_json *obj, const char *key, int64_t wall_ms)
{
	char text[SOSIE_TIME_TEXT];

	sosie_time_text(text, wall_ms);
	sosie_json_set_str(obj, key, wall_ms ? text : NULL);
}

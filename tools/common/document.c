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

int document_print(struct sosie_json *doc, const struct sosie_err *failure, struct sosie_err *err)
{
	char *text = NULL;
	size_t len;
	int rc;

	if (!doc)
		return sosie_err_sys(err, ENOMEM, "cannot print the result");
	sosie_json_set_bool(doc, "ok", !failure || failure->code == SOSIE_OK);
	(void)sosie_json_set_error(doc, "error", failure);
	rc = sosie_json_text(doc, 2, &text, &len, err);
	sosie_json_free(doc);
	if (rc == 0 && (fwrite(text, 1, len, stdout) != len || putchar('\n') == EOF || fflush(stdout) != 0))
		rc = sosie_err_sys(err, errno, "cannot print the result");
	free(text);
	return rc;
}

/* SPDX-License-Identifier: MIT */
/* One run of the alarm program, and when the next one is due (sosie/telling.h). */
#include <stdlib.h>

#include "sosie/command.h"
#include "sosie/telling.h"

struct sosie_json *sosie_telling_doc(void)
{
	struct sosie_json *doc = sosie_json_new();

	sosie_json_set_u64(doc, "format", 1);
	return doc;
}

int sosie_telling_run(const char *program, struct sosie_json *doc, const bool *stop, struct sosie_err *err)
{
	struct sosie_command command = {.program = program, .limit_ms = SOSIE_TELLING_LIMIT_MS, .stop = stop};
	char *text = NULL;
	int rc = doc ? sosie_json_text(doc, 0, &text, &command.input_len, err)
	             : sosie_err_set(err, SOSIE_ENOMEM, "no memory for an alarm");

	if (rc == 0) {
		command.input = text;
		rc = sosie_command_run(&command, err);
	}
	free(text);
	sosie_json_free(doc);
	return rc;
}

bool sosie_telling_settle(struct sosie_telling *t, bool told_closed, bool closed, bool taken, int64_t now_ms,
                          int64_t repeat_ms, int64_t again_ms)
{
	if (taken && told_closed)
		return true;
	if (told_closed || !closed) /* else the closing is due */
		t->due_ms = now_ms + (taken ? repeat_ms : again_ms);
	return false;
}

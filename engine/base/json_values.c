/* SPDX-License-Identifier: MIT */
/* Times and errors as every document of --json and of the daemon shows them. */
#include "sosie/clock.h"
#include "sosie/json.h"

void sosie_json_set_time(struct sosie_json *obj, const char *key, int64_t wall_ms)
{
	char text[SOSIE_TIME_TEXT];

	sosie_time_text(text, wall_ms);
	sosie_json_set_str(obj, key, wall_ms > 0 ? text : NULL);
}

struct sosie_json *sosie_json_set_error(struct sosie_json *obj, const char *key, const struct sosie_err *e)
{
	struct sosie_json *o;

	if (!e || e->code == SOSIE_OK) {
		sosie_json_set_null(obj, key);
		return NULL;
	}
	o = sosie_json_add_obj(obj, key);
	sosie_json_set_str(o, "code", sosie_code_name(e->code));
	sosie_json_set_str(o, "class", sosie_class_name(sosie_code_class(e->code)));
	sosie_json_set_str(o, "what", e->what);
	sosie_json_set_str(o, "where", e->where);
	sosie_json_set_str(o, "action", e->action);
	return o;
}

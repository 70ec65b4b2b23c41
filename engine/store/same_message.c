/* SPDX-License-Identifier: MIT */
/* "same" messages: anything odd in one is "no", for the group or for all of it. */
#include <stdlib.h>
#include <string.h>

#include "engine/store/internal.h"
#include "engine/store/same_message.h"

static int refused(struct sosie_err *err, const char *why)
{
	return sosie_err_set(err, SOSIE_ECORRUPT, "\"same\" message refused: %s", why);
}

/* --- in the child
 * ------------------------------------------------------------------------------------------------ */

static bool get_group(const struct sosie_json *groups, size_t i, struct same_group *out)
{
	struct sosie_json *one;
	const char *name;
	memset(out, 0, sizeof(*out));
	if (sosie_json_at(groups, i, &one, NULL) ||
	    sosie_json_str(one, "group", SOSIE_NAME_MAX, &name, NULL) ||
	    sosie_json_hex(one, "digest", out->digest.b, sizeof(out->digest.b), NULL) ||
	    (sosie_json_has(one, "ago_ms") &&
	     sosie_json_u64(one, "ago_ms", (uint64_t)SAME_TIME_MAX, &out->ago_ms, NULL)))
		return false;
	strncpy(out->group.s, name, SOSIE_NAME_MAX);
	return true;
}

static int get_clock(const struct sosie_json *j, struct same_summary *out, struct sosie_err *err)
{
	struct sosie_json *clock;
	out->has_clock = sosie_json_has(j, "standby_clock");
	if (!out->has_clock)
		return 0;
	int rc = sosie_json_obj(j, "standby_clock", &clock, err);
	if (!rc)
		rc = sosie_json_i64(clock, "at_ms", &out->at_ms, err);
	return rc ? rc : sosie_json_i64(clock, "plus_ms", &out->plus_ms, err);
}

static int get_all(const struct sosie_json *j, struct same_summary *out, struct sosie_err *err)
{
	static const char *const keys[] = {"format", "kind", "cut_time", "standby_clock", "groups", NULL};
	struct sosie_json *groups;
	const char *kind;
	size_t count = 0;
	uint64_t format;
	int rc = sosie_json_only(j, keys, err);
	if (!rc)
		rc = sosie_json_u64(j, "format", STORE_FORMAT, &format, err);
	if (!rc)
		rc = sosie_json_str(j, "kind", 8, &kind, err);
	if (!rc && strcmp(kind, "same") != 0)
		rc = refused(err, "it is of another kind");
	if (!rc)
		rc = sosie_json_arr(j, "groups", SAME_GROUPS, &groups, &count, err);
	if (!rc)
		rc = get_clock(j, out, err);
	for (size_t i = 0; !rc && i < count; i++)
		out->count += get_group(groups, i, &out->groups[out->count]);
	return rc;
}

int same_get(const void *text, size_t len, struct same_summary *out, struct sosie_err *err)
{
	struct sosie_json *j = NULL;
	int rc = sosie_json_parse(text, len, SAME_BYTES, &j, err);
	out->count = out->has_clock = 0;
	out->at_ms = out->plus_ms = 0;
	if (!rc)
		rc = get_all(j, out, err);
	sosie_json_free(j);
	return rc;
}

/* --- in the keeper
 * ----------------------------------------------------------------------------------------------- */

static bool judge_group(const struct same_group *from, struct same_group *out)
{
	if (!memchr(from->group.s, '\0', sizeof(from->group.s)) ||
	    sosie_name_set(&out->group, SOSIE_NAME_GROUP, from->group.s, NULL) ||
	    from->ago_ms > (uint64_t)SAME_TIME_MAX)
		return false;
	out->digest = from->digest;
	out->ago_ms = from->ago_ms;
	return true;
}

int same_judge(const struct same_summary *s, struct same_said *out, struct sosie_err *err)
{
	*out = (struct same_said){.has_clock = s->has_clock != 0};
	if (s->count > SAME_GROUPS)
		return refused(err, "it names more groups than any can");
	if (out->has_clock &&
	    (s->at_ms <= 0 || s->at_ms > SAME_TIME_MAX || s->plus_ms < 0 || s->plus_ms > SAME_TIME_MAX))
		return refused(err, "a time beyond all clocks");
	out->at_ms = out->has_clock ? s->at_ms : 0;
	out->plus_ms = out->has_clock ? s->plus_ms : 0;
	out->groups = calloc(s->count + 1u, sizeof(*out->groups));
	if (!out->groups)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory to read a \"same\" message");
	for (unsigned i = 0; i < s->count; i++)
		out->count += judge_group(&s->groups[i], &out->groups[out->count]);
	return 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * The message "same" (docs/protocol.md): groups that have not changed since their head. Times are told on the
 * standby's clock: what it said last, our monotonic ms from there to the message, and how long before the
 * message each group was seen.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/replicate/internal.h"

/* {"group":"","digest":"","ago_ms":},  with 64 digits of digest and 19 of time: at most */
#define ENTRY_BYTES (40u + SOSIE_NAME_MAX + 2u * SOSIE_DIGEST_LEN + 19u)
#define FRAME_BYTES 512u /* what is around the list */

static void add_group(struct sosie_json *groups, const struct sosie_same *one, int64_t now)
{
	struct sosie_json *o = sosie_json_push_obj(groups);

	sosie_json_set_str(o, "group", one->group.s);
	sosie_json_set_hex(o, "digest", one->digest.b, SOSIE_DIGEST_LEN);
	sosie_json_set_u64(o, "ago_ms", now > one->mono_ms ? (uint64_t)(now - one->mono_ms) : 0);
}

static struct sosie_json *start(const struct sosie_session_info *info, struct sosie_clock *clock, int64_t now,
                                struct sosie_json **groups)
{
	struct sosie_json *doc = sosie_json_new(), *o;
	char time[SOSIE_TIME_TEXT];

	if (!doc)
		return NULL;
	sosie_time_text(time, sosie_wall_ms(clock));
	sosie_json_set_u64(doc, "format", 1);
	sosie_json_set_str(doc, "kind", "same");
	sosie_json_set_str(doc, "cut_time", time);
	o = sosie_json_add_obj(doc, "standby_clock");
	sosie_json_set_i64(o, "at_ms", info->standby_ms);
	sosie_json_set_i64(o, "plus_ms", now - info->mono_ms);
	*groups = sosie_json_add_arr(doc, "groups");
	return doc;
}

/* As many groups of the list as one message holds. */
static unsigned fill(struct sosie_json *groups, const struct sosie_same *list, unsigned count, int64_t now)
{
	size_t room = SOSIE_SAME_MAX - FRAME_BYTES - SOSIE_SIGNATURE_MAX;
	unsigned i = 0;

	for (; i < count && room >= ENTRY_BYTES; i++) {
		add_group(groups, &list[i], now);
		room -= ENTRY_BYTES - SOSIE_NAME_MAX + strlen(list[i].group.s);
	}
	return i;
}

int same_send(struct sosie_pool *pool, struct sosie_session *s, struct sosie_clock *clock,
              const struct sosie_same *list, unsigned count, unsigned *taken, bool *keeper,
              struct sosie_err *err)
{
	struct sosie_session_info info;
	struct sosie_json *doc, *groups;
	int64_t now = sosie_mono_ms(clock);
	char *text = NULL;
	size_t len = 0;
	int rc;

	sosie_session_info(s, &info);
	doc = start(&info, clock, now, &groups);
	if (!doc)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for a message");
	*taken = fill(groups, list, count, now);
	rc = sosie_json_text(doc, 0, &text, &len, err);
	sosie_json_free(doc);
	if (rc == 0)
		rc = trust_sign(pool, SOSIE_SIGN_SAME, &text, &len, err);
	if (rc == 0)
		rc = sosie_session_same(s, text, len, keeper, err);
	free(text);
	return rc;
}

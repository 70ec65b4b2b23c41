/* SPDX-License-Identifier: MIT */
/*
 * Is the wall clock to be trusted? STORE/clock.json has what it said, what CLOCK_BOOTTIME said, and in which
 * boot of the machine; both go on at the same pace, so that a step of the wall clock shows as a difference.
 * Differences within a boot add up (drift_ms): many small steps count as one large one. Across boots only
 * going back, and going far forward, can be told.
 *
 * A jump is sticky: it is noted durably, and holds until an operator accepts the clock, also when it has come
 * back meanwhile. Points accepted with a wrong clock are not told apart from others, so nothing may go by
 * them before a person has looked.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/store/policy.h"
#include "sosie/alarm.h"
#include "sosie/audit.h"
#include "sosie/retention.h"

#define STEP_MAX_MS 60000            /* within a boot, all steps together; and back across boots */
#define AWAY_MAX_MS (7ll * 86400000) /* forward across boots */
#define NOTE_MS 120000               /* how old a note may get */

struct note {
	bool there;
	int64_t wall_ms, boot_ms, drift_ms;
	char boot[SOSIE_BOOT_ID];
	bool jumped;
	int64_t found_ms;
	char what[200];
};

static int note_path(const struct sosie_store *store, char dst[STORE_PATH], struct sosie_err *err)
{
	return store_path(dst, err, "%s/clock.json", store->path);
}

static int parse_jump(const struct sosie_json *j, struct note *n, struct sosie_err *err)
{
	static const char *const keys[] = {"found", "what", NULL};
	struct sosie_json *jump;
	const char *text = NULL;
	if (sosie_json_is_null(j, "jump"))
		return 0;
	int rc = sosie_json_obj(j, "jump", &jump, err);
	if (!rc)
		rc = sosie_json_only(jump, keys, err);
	if (!rc)
		rc = layout_json_time(jump, "found", &n->found_ms, err);
	if (!rc)
		rc = sosie_json_str(jump, "what", sizeof(n->what) - 1, &text, err);
	if (!rc) {
		n->jumped = true;
		snprintf(n->what, sizeof(n->what), "%s", text);
	}
	return rc;
}

static int read_note(struct sosie_store *store, struct note *n, struct sosie_err *err)
{
	static const char *const keys[] = {"format", "wall", "boottime_ms", "boot", "drift_ms", "jump", NULL};
	char path[STORE_PATH];
	struct sosie_json *j = NULL;
	const char *boot = NULL;
	memset(n, 0, sizeof(*n));
	int rc = note_path(store, path, err);
	if (!rc)
		rc = layout_read_json(store->io, path, keys, &j, err);
	if (rc == -SOSIE_ENOTFOUND)
		return 0;
	if (!rc)
		rc = layout_json_time(j, "wall", &n->wall_ms, err);
	if (!rc)
		rc = sosie_json_i64(j, "boottime_ms", &n->boot_ms, err);
	if (!rc)
		rc = sosie_json_i64(j, "drift_ms", &n->drift_ms, err);
	if (!rc)
		rc = sosie_json_str(j, "boot", sizeof(n->boot) - 1, &boot, err);
	if (!rc) {
		snprintf(n->boot, sizeof(n->boot), "%s", boot);
		rc = parse_jump(j, n, err);
	}
	n->there = !rc;
	sosie_json_free(j);
	if (!rc)
		return 0;
	sosie_err_where(err, "%s", path);
	return sosie_err_action(err,
	                        "nothing is pruned; when the clock is right, run \"sosie clock accept\"");
}

static int write_note(struct sosie_store *store, const struct note *n, struct sosie_err *err)
{
	char path[STORE_PATH];
	int rc = note_path(store, path, err);
	if (rc)
		return rc;
	struct sosie_json *j = sosie_json_new();
	sosie_json_set_u64(j, "format", STORE_FORMAT);
	layout_set_time(j, "wall", n->wall_ms);
	sosie_json_set_i64(j, "boottime_ms", n->boot_ms);
	sosie_json_set_str(j, "boot", n->boot);
	sosie_json_set_i64(j, "drift_ms", n->drift_ms);
	if (n->jumped) {
		struct sosie_json *jump = sosie_json_add_obj(j, "jump");
		layout_set_time(jump, "found", n->found_ms);
		sosie_json_set_str(jump, "what", n->what);
	} else {
		sosie_json_set_null(j, "jump");
	}
	return layout_write_json(store->io, path, j, 0640, err);
}

static void tell(struct note *n, int64_t by_ms, const char *when)
{
	char text[32];
	sosie_duration_text(text, sizeof(text), by_ms < 0 ? 0 - (uint64_t)by_ms : (uint64_t)by_ms);
	snprintf(n->what, sizeof(n->what), "the wall clock went %s by %s %s", by_ms < 0 ? "back" : "forward",
	         text, when);
	n->jumped = true;
}

/* What the clocks say now, and whether that can follow on the note. A difference that does not fit counts as
 * the greatest. */
static void compare(struct sosie_store *store, const struct note *was, struct note *now)
{
	int64_t wall, boot, drift;
	memset(now, 0, sizeof(*now));
	now->there = true;
	now->wall_ms = sosie_wall_ms(store->clock);
	now->boot_ms = sosie_boot_ms(store->clock);
	sosie_boot_id(store->clock, now->boot);
	if (!was->there)
		return;
	if (__builtin_sub_overflow(now->wall_ms, was->wall_ms, &wall))
		wall = INT64_MAX;
	if (was->boot[0] && strcmp(was->boot, now->boot) == 0) {
		if (__builtin_sub_overflow(now->boot_ms, was->boot_ms, &boot) ||
		    __builtin_sub_overflow(wall, boot, &drift) ||
		    __builtin_add_overflow(drift, was->drift_ms, &drift))
			drift = INT64_MAX;
		now->drift_ms = drift;
		if (drift > STEP_MAX_MS || drift < -STEP_MAX_MS)
			tell(now, drift, "against the time since the machine was started");
	} else if (wall < -STEP_MAX_MS) {
		tell(now, wall, "while the machine was restarted");
	} else if (wall > AWAY_MAX_MS) {
		tell(now, wall, "while no keeper noted it, across a restart of the machine");
	}
	if (was->jumped) {
		now->jumped = true;
		now->found_ms = was->found_ms;
		memcpy(now->what, was->what, sizeof(now->what));
	}
}

static void state_of(const struct note *was, const struct note *now, struct sosie_clock_state *out)
{
	memset(out, 0, sizeof(*out));
	out->known = was->there;
	out->jumped = now->jumped;
	out->good_ms = now->jumped ? was->wall_ms : now->wall_ms;
	out->found_ms = now->found_ms;
	memcpy(out->what, now->what, sizeof(out->what));
}

int clock_refuse(const struct sosie_clock_state *clock, const char *what, struct sosie_err *err)
{
	sosie_err_set(err, SOSIE_ECLOCK, "%s: %s", what, clock->what);
	return sosie_err_action(err, "look at \"date\"; when it is right, run \"sosie clock accept\"");
}

int sosie_clock_look(struct sosie_store *store, struct sosie_clock_state *out, struct sosie_err *err)
{
	struct note was, now;
	int rc = read_note(store, &was, err);
	if (rc)
		return rc;
	compare(store, &was, &now);
	state_of(&was, &now, out);
	return 0;
}

static struct sosie_json *jump_body(const struct note *was, const struct note *now)
{
	struct sosie_json *j = sosie_json_new();
	sosie_json_set_str(j, "what", "jumped");
	sosie_json_set_str(j, "text", now->what);
	layout_set_time(j, "last_good", was->wall_ms);
	layout_set_time(j, "wall", now->wall_ms);
	return j;
}

/* A jump keeps the time of the last good note: changes ripen up to there. */
static int note_jump(struct sosie_store *store, const struct note *was, struct note *now,
                     struct sosie_err *err)
{
	int rc = sosie_audit_append(store, NULL, SOSIE_AUDIT_CLOCK, jump_body(was, now), NULL, err);
	struct note kept = *was;
	if (rc)
		return rc;
	kept.jumped = true;
	kept.found_ms = now->found_ms = now->wall_ms;
	memcpy(kept.what, now->what, sizeof(kept.what));
	return write_note(store, &kept, err);
}

int sosie_clock_note(struct sosie_store *store, struct sosie_clock_state *out, struct sosie_err *err)
{
	struct note was, now;
	int rc = read_note(store, &was, err);
	if (rc)
		return rc;
	compare(store, &was, &now);
	if (now.jumped && !was.jumped)
		rc = note_jump(store, &was, &now, err);
	else if (!now.jumped && (!was.there || strcmp(was.boot, now.boot) != 0 ||
	                         now.wall_ms - was.wall_ms >= NOTE_MS || now.wall_ms < was.wall_ms))
		rc = write_note(store, &now, err);
	sosie_alarm_set(store, NULL, NULL, SOSIE_ALARM_CLOCK, now.jumped ? now.what : NULL, NULL);
	state_of(&was, &now, out);
	return rc;
}

/* Also the way out when the note cannot be read. */
int sosie_clock_accept(struct sosie_store *store, const char *reason, struct sosie_err *err)
{
	struct note was, now;
	struct sosie_json *j = sosie_json_new();
	const bool readable = read_note(store, &was, NULL) == 0;
	const struct note none = {0};
	compare(store, &none, &now);
	sosie_json_set_str(j, "what", "accepted");
	sosie_json_set_str(j, "text", readable && was.jumped ? was.what : NULL);
	if (readable && was.there)
		layout_set_time(j, "last_good", was.wall_ms);
	layout_set_time(j, "wall", now.wall_ms);
	sosie_json_set_str(j, "reason", reason);
	int rc = sosie_audit_append(store, NULL, SOSIE_AUDIT_CLOCK, j, NULL, err);
	if (!rc)
		rc = write_note(store, &now, err);
	if (!rc)
		sosie_alarm_set(store, NULL, NULL, SOSIE_ALARM_CLOCK, NULL, NULL);
	return rc;
}

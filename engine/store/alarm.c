/* SPDX-License-Identifier: MIT */
/*
 * Alarms of the store, its tenants and its groups (sosie/alarm.h).
 *
 *   none ──cause──► open ──seen again──► open (counted)
 *                    ├──cause over, at most five a minute and place──► closed
 *                    └──an operator──► closed ──cause──► another one
 *
 * Opening: the number is taken durably from the store's file, then the alarm is in its place's file, then in
 * the audit log: what a crash leaves out is a number, or the entry. Closing: the entry first.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/store/alarm.h"
#include "engine/store/audit.h"

#define MINUTE_MS 60000
#define CLOSINGS_A_MINUTE 5u
#define UNSAVED_MS 10000
/* How long a held audit log is waited for. The keeper's work must not: an opening may lack its entry, and
 * what closes by itself does so at its next look. */
#define OPEN_WAIT_MS 300
#define CLOSE_WAIT_MS 1500 /* of an operator; under the lock of alarms */

static const char file_was_damaged[] =
        "the file of alarms was damaged: those of before are in alarms.json.damaged beside it";

static const char *const kinds[SOSIE_ALARM_KINDS] = {
#define SOSIE_X(id, text) [id] = (text),
        SOSIE_ALARM_KIND_LIST(SOSIE_X)
#undef SOSIE_X
};

/* Closed when its cause is over only: an operator's word would not make it so. */
static bool by_itself(enum sosie_alarm_kind kind)
{
	return kind == SOSIE_ALARM_LATE || kind == SOSIE_ALARM_SPACE;
}

const char *sosie_alarm_kind_name(enum sosie_alarm_kind kind)
{
	return kinds[kind];
}

const char *sosie_alarm_id(char dst[SOSIE_ALARM_ID], uint64_t number)
{
	snprintf(dst, SOSIE_ALARM_ID, "A%llu", (unsigned long long)number);
	return dst;
}

void sosie_alarm_json(struct sosie_json *obj, const struct sosie_alarm *a)
{
	char id[SOSIE_ALARM_ID];
	sosie_json_set_str(obj, "id", sosie_alarm_id(id, a->number));
	sosie_json_set_str(obj, "state", a->closed_ms ? "closed" : "open");
	sosie_json_set_str(obj, "kind", sosie_alarm_kind_name(a->kind));
	sosie_json_set_str(obj, "tenant", a->tenant.s[0] ? a->tenant.s : NULL);
	sosie_json_set_str(obj, "group", a->group.s[0] ? a->group.s : NULL);
	sosie_json_set_time(obj, "since", a->since_ms);
	sosie_json_set_time(obj, "seen", a->seen_ms);
	sosie_json_set_time(obj, "closed", a->closed_ms);
	sosie_json_set_u64(obj, "count", a->count);
	sosie_json_set_str(obj, "text", a->text);
	sosie_json_set_str(obj, "reason", a->reason[0] ? a->reason : NULL);
}

uint64_t sosie_alarm_version(const struct sosie_store *store)
{
	return store->alarms ? store->alarms->version : 0;
}

/* --- the audit log
 * ------------------------------------------------------------------------------------------------ */

static int audit(struct sosie_store *store, const struct sosie_alarm *a, const char *what, int64_t wait_ms,
                 struct sosie_err *err)
{
	struct audit_log *log;
	int rc = audit_log_get(store, a->tenant.s[0] ? a->tenant.s : NULL, &log, err);
	if (rc)
		return rc;
	char id[SOSIE_ALARM_ID];
	struct sosie_json *j = sosie_json_new();
	sosie_json_set_str(j, "alarm", sosie_alarm_id(id, a->number));
	sosie_json_set_str(j, "what", what);
	sosie_json_set_str(j, "kind", sosie_alarm_kind_name(a->kind));
	sosie_json_set_str(j, "group", a->group.s[0] ? a->group.s : NULL);
	sosie_json_set_str(j, "text", a->text);
	sosie_json_set_u64(j, "count", a->count);
	sosie_json_set_str(j, "reason", a->reason[0] ? a->reason : NULL);
	return audit_append(store, log, SOSIE_AUDIT_ALARM, j, wait_ms, NULL, err);
}

/* --- numbers
 * ------------------------------------------------------------------------------------------------------ */

static int above(void *arg, const struct sosie_alarm *a)
{
	uint64_t *next = arg;
	if (a->number >= *next)
		*next = a->number + 1;
	return 0;
}

/* The next number, durably taken. Where the store's file does not say it (a new store, or the file was lost),
 * it is above all that are there. */
static int take_number(struct sosie_store *store, uint64_t *out, struct sosie_err *err)
{
	struct alarm_place *own;
	int rc = alarm_place_get(store, NULL, NULL, &own, err);
	if (!rc)
		rc = alarm_place_ready(store, own, err);
	if (rc)
		return rc;
	if (own->next_number == 0) {
		uint64_t next = 1;
		sosie_alarm_walk(store, NULL, NULL, above, &next, NULL); /* what cannot be read has no say */
		own->next_number = next;
	}
	*out = own->next_number++;
	return alarm_place_write(store, own, err);
}

/* --- opening
 * ------------------------------------------------------------------------------------------------------ */

static void set_text(char *dst, size_t size, const char *text)
{
	snprintf(dst, size, "%.*s", (int)size - 1, text);
	/* Cut inside a character of several bytes: it goes. */
	size_t len = strlen(dst);
	while (len + 1 == size && len > 0 && ((unsigned char)dst[len - 1] & 0x80) != 0)
		dst[--len] = '\0';
}

static void see_again(struct sosie_store *store, struct alarm_place *p, struct held_alarm *h,
                      const char *text)
{
	int64_t now = sosie_mono_ms(store->clock);
	h->a.seen_ms = sosie_wall_ms(store->clock);
	h->a.count++;
	h->unsaved++;
	set_text(h->a.text, sizeof(h->a.text), text);
	if (!p->unsaved_ms)
		p->unsaved_ms = now ? now : 1;
}

static int add_open(struct sosie_store *store, struct alarm_place *p, enum sosie_alarm_kind kind,
                    const char *text, struct sosie_alarm *opened, struct sosie_err *err)
{
	uint64_t number;
	int rc = take_number(store, &number, err);
	struct held_alarm *h = rc ? NULL : alarm_place_add(p, number, kind);
	if (!rc && !h)
		rc = sosie_err_set(err, SOSIE_ENOMEM, "no memory for an alarm");
	if (rc)
		return rc;
	h->a.since_ms = h->a.seen_ms = sosie_wall_ms(store->clock);
	h->a.count = 1;
	set_text(h->a.text, sizeof(h->a.text), text);
	*opened = h->a;
	return alarm_place_write(store, p, err);
}

/* Under the lock. *opened has a number when it was opened now. */
static int open_locked(struct sosie_store *store, struct alarm_place *p, enum sosie_alarm_kind kind,
                       const char *text, struct sosie_alarm *opened, struct sosie_err *err)
{
	int rc = alarm_place_ready(store, p, err);
	struct held_alarm *h = rc ? NULL : alarm_place_open(p, kind);
	if (h)
		see_again(store, p, h, text); /* another process was first */
	return rc || h ? rc : add_open(store, p, kind, text, opened, err);
}

static int open_alarm(struct sosie_store *store, struct alarm_place *p, enum sosie_alarm_kind kind,
                      const char *text, struct sosie_err *err)
{
	struct sosie_alarm opened = {.number = 0}, lost = {.number = 0};
	struct sosie_file *lock = NULL;
	int rc = alarm_lock(store, &lock, err);
	if (!rc)
		rc = open_locked(store, p, kind, text, &opened, err);
	if (!rc && p->damaged && kind != SOSIE_ALARM_DAMAGE)
		rc = open_locked(store, p, SOSIE_ALARM_DAMAGE, file_was_damaged, &lost, err);
	p->damaged = false;
	sosie_io_close(store->io, lock, NULL);
	if (!rc && opened.number)
		rc = audit(store, &opened, "opened", OPEN_WAIT_MS, err);
	if (!rc && lost.number)
		rc = audit(store, &lost, "opened", OPEN_WAIT_MS, err);
	return rc;
}

/* --- closing
 * ------------------------------------------------------------------------------------------------------ */

/* By the wall clock, which may jump: then a minute is a little longer or shorter once. */
static bool closed_often(struct sosie_store *store, const struct alarm_place *p)
{
	const int64_t now = sosie_wall_ms(store->clock);
	unsigned lately = 0;
	for (unsigned i = 0; i < p->count; i++)
		lately += p->list[i].a.closed_ms > now - MINUTE_MS && p->list[i].a.closed_ms <= now;
	return lately >= CLOSINGS_A_MINUTE;
}

static int close_locked(struct sosie_store *store, struct alarm_place *p, uint64_t number, const char *reason,
                        int64_t wait_ms, struct sosie_alarm *out, struct sosie_err *err)
{
	struct held_alarm *h = NULL;
	int rc = alarm_place_ready(store, p, err);
	for (unsigned i = 0; !rc && i < p->count; i++)
		if (p->list[i].a.number == number && !p->list[i].a.closed_ms)
			h = &p->list[i];
	if (rc || !h)
		return rc; /* another process was first */
	struct sosie_alarm closed = h->a;
	closed.closed_ms = sosie_wall_ms(store->clock);
	if (reason)
		set_text(closed.reason, sizeof(closed.reason), reason);
	rc = audit(store, &closed, "closed", wait_ms, err);
	if (rc)
		return rc;
	h->a = closed;
	if (out)
		*out = closed;
	return alarm_place_write(store, p, err);
}

static int close_alarm(struct sosie_store *store, struct alarm_place *p, uint64_t number, const char *reason,
                       int64_t wait_ms, struct sosie_alarm *out, struct sosie_err *err)
{
	struct sosie_file *lock = NULL;
	int rc = alarm_lock(store, &lock, err);
	if (!rc)
		rc = close_locked(store, p, number, reason, wait_ms, out, err);
	sosie_io_close(store->io, lock, NULL);
	return rc;
}

int sosie_alarm_set(struct sosie_store *store, const char *tenant, const char *group,
                    enum sosie_alarm_kind kind, const char *text, struct sosie_err *err)
{
	struct alarm_place *p;
	int rc = alarm_place_get(store, tenant, group, &p, err);
	if (!rc)
		rc = alarm_place_read(store, p, err);
	if (rc == -SOSIE_ECORRUPT)
		return open_alarm(store, p, text ? kind : SOSIE_ALARM_DAMAGE, text ? text : file_was_damaged,
		                  err);
	struct held_alarm *h = rc ? NULL : alarm_place_open(p, kind);
	if (rc || (!text && !h))
		return rc;
	if (!h)
		return open_alarm(store, p, kind, text, err);
	if (text)
		see_again(store, p, h, text);
	else if (!closed_often(store, p))
		return close_alarm(store, p, h->a.number, NULL, 0, NULL, err);
	return 0;
}

void sosie_alarm_flush(struct sosie_store *store, bool all)
{
	const int64_t now = sosie_mono_ms(store->clock);
	for (struct alarm_place *p = store->alarms ? store->alarms->places : NULL; p; p = p->next) {
		struct sosie_file *lock = NULL;
		if (!p->unsaved_ms || (!all && now - p->unsaved_ms < UNSAVED_MS))
			continue;
		p->unsaved_ms = now ? now : 1; /* where it fails: later again */
		if (!alarm_lock(store, &lock, NULL) && !alarm_place_ready(store, p, NULL))
			alarm_place_write(store, p, NULL);
		sosie_io_close(store->io, lock, NULL);
	}
}

/* --- by number
 * ------------------------------------------------------------------------------------------------------ */

struct search {
	uint64_t number;
	struct sosie_alarm found;
};

static int match(void *arg, const struct sosie_alarm *a)
{
	struct search *s = arg;
	if (a->number == s->number)
		s->found = *a;
	return a->number == s->number;
}

static int refuse_close(const struct sosie_alarm *a, struct sosie_err *err)
{
	char id[SOSIE_ALARM_ID], stamp[SOSIE_TIME_TEXT];
	sosie_alarm_id(id, a->number);
	if (a->closed_ms) {
		sosie_time_text(stamp, a->closed_ms);
		return sosie_err_set(err, SOSIE_EEXISTS, "the alarm %s was closed at %s", id, stamp);
	}
	sosie_err_set(err, SOSIE_EREFUSED, "the alarm %s (%s) is closed by the keeper when its cause is over",
	              id, sosie_alarm_kind_name(a->kind));
	return sosie_err_action(err, "end its cause: %.200s", a->text);
}

int sosie_alarm_close(struct sosie_store *store, const char *id, const char *reason, struct sosie_alarm *out,
                      struct sosie_err *err)
{
	struct search s = {.number = 0};
	struct alarm_place *p;
	char shown[40];
	int rc;
	if ((id[0] != 'A' && id[0] != 'a') || !layout_number(id + 1, "", &s.number) || s.number == 0) {
		sosie_err_set(err, SOSIE_EUSAGE, "\"%s\" is no id of an alarm",
		              sosie_escape(shown, sizeof(shown), id, strlen(id)));
		return sosie_err_action(err, "they look like A17: see \"sosie alarm list\"");
	}
	rc = sosie_alarm_walk(store, NULL, NULL, match, &s, err);
	if (!s.found.number && rc)
		return rc;
	if (!s.found.number) {
		sosie_err_set(err, SOSIE_ENOTFOUND, "the store has no alarm A%llu",
		              (unsigned long long)s.number);
		return sosie_err_action(err, "see \"sosie alarm list --all\"");
	}
	*out = s.found;
	if (s.found.closed_ms || by_itself(s.found.kind))
		return refuse_close(&s.found, err);
	const char *tenant = s.found.tenant.s[0] ? s.found.tenant.s : NULL;
	rc = alarm_place_get(store, tenant, s.found.group.s[0] ? s.found.group.s : NULL, &p, err);
	return rc ? rc : close_alarm(store, p, s.number, reason, CLOSE_WAIT_MS, out, err);
}

/* --- listing
 * ------------------------------------------------------------------------------------------------------ */

int sosie_alarm_each(struct sosie_store *store, const char *tenant, const char *group, sosie_alarm_fn fn,
                     void *arg, struct sosie_err *err)
{
	struct alarm_place *p;
	int rc = alarm_place_get(store, tenant, group, &p, err);
	if (!rc)
		rc = alarm_place_read(store, p, err);
	for (unsigned i = 0; !rc && i < p->count; i++)
		if (fn(arg, &p->list[i].a))
			return 1;
	return rc;
}

struct walk {
	struct sosie_store *store;
	const char *tenant;
	sosie_alarm_fn fn;
	void *arg;
	int rc, failed; /* failed: the first place that could not be read */
	struct sosie_err *err;
};

static int walk_place(struct walk *w, const char *group)
{
	struct sosie_err err;
	int rc = sosie_alarm_each(w->store, w->tenant, group, w->fn, w->arg, &err);
	if (rc < 0 && !w->failed) {
		w->failed = rc;
		if (w->err)
			*w->err = err;
	}
	w->rc = rc > 0;
	return w->rc;
}

static int walk_group(void *arg, const struct sosie_name *name)
{
	return walk_place(arg, name->s);
}

static int walk_tenant(void *arg, const struct sosie_name *name)
{
	struct walk *w = arg;
	struct sosie_err err;
	w->tenant = name->s;
	if (walk_place(w, NULL))
		return 1;
	int rc = sosie_store_groups(w->store, name->s, walk_group, w, &err);
	if (rc < 0 && !w->failed) {
		w->failed = rc;
		if (w->err)
			*w->err = err;
	}
	return w->rc;
}

int sosie_alarm_walk(struct sosie_store *store, const char *tenant, const char *group, sosie_alarm_fn fn,
                     void *arg, struct sosie_err *err)
{
	struct walk w = {.store = store, .tenant = tenant, .fn = fn, .arg = arg, .err = err};
	struct sosie_name name;
	int rc = 0;
	if (group)
		walk_place(&w, group);
	else if (tenant && !(rc = sosie_name_set(&name, SOSIE_NAME_TENANT, tenant, err)))
		walk_tenant(&w, &name);
	else if (!tenant && !walk_place(&w, NULL))
		rc = sosie_store_tenants(store, walk_tenant, &w, err);
	return rc < 0 ? rc : w.failed;
}

/* SPDX-License-Identifier: MIT */
/*
 * Pins: points that stay until an operator lets them go. The audit log of the tenant is the truth (pin: point
 * and reason; unpin: point, and from when on); state/pins.json is what it comes to, for who only looks.
 * Changes are made under the group's lock, as pruning is: a pin that was told is seen by the next prune.
 */
#include "engine/store/pins.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/store/policy.h"
#include "sosie/audit.h"

#define PROGRAM "sosie pin"
#define LOCK_WAIT_MS 10000
#define PINS_TEXT_MAX ((size_t)SOSIE_PINS_MAX * 1024)

struct pins {
	struct sosie_pin *list; /* ascending; SOSIE_PINS_MAX */
	unsigned count;
};

static int pins_new(struct pins *p, struct sosie_err *err)
{
	p->count = 0;
	p->list = calloc(SOSIE_PINS_MAX, sizeof(*p->list));
	return p->list ? 0 : sosie_err_set(err, SOSIE_ENOMEM, "no memory for the list of pins");
}

/* Where the point is, or belongs. */
static unsigned place_of(const struct pins *p, uint64_t point)
{
	unsigned i = 0;
	while (i < p->count && p->list[i].point < point)
		i++;
	return i;
}

static struct sosie_pin *find(const struct pins *p, uint64_t point)
{
	const unsigned i = place_of(p, point);
	return i < p->count && p->list[i].point == point ? &p->list[i] : NULL;
}

static void drop(struct pins *p, unsigned i)
{
	p->count--;
	memmove(&p->list[i], &p->list[i + 1], (p->count - i) * sizeof(p->list[0]));
}

static bool over(const struct sosie_pin *pin, int64_t good_ms)
{
	return pin->until_ms != 0 && pin->until_ms <= good_ms;
}

static struct sosie_pin *insert(struct pins *p, uint64_t point, int64_t good_ms)
{
	struct sosie_pin *pin = find(p, point);
	if (pin)
		return pin;
	for (unsigned i = 0; p->count == SOSIE_PINS_MAX && i < p->count; i++)
		if (over(&p->list[i], good_ms))
			drop(p, i);
	if (p->count == SOSIE_PINS_MAX)
		return NULL;
	const unsigned i = place_of(p, point);
	memmove(&p->list[i + 1], &p->list[i], (p->count - i) * sizeof(p->list[0]));
	p->count++;
	memset(&p->list[i], 0, sizeof(p->list[i]));
	p->list[i].point = point;
	return &p->list[i];
}

/* --- from the log
 * --------------------------------------------------------------------------------------------------- */

struct replay {
	struct sosie_group *g;
	struct pins *pins;
	int64_t good_ms;
	int rc;
	struct sosie_err *err;
};

static int replay_pin(struct replay *r, const struct sosie_audit_entry *e, const struct sosie_json *j,
                      uint64_t point)
{
	const char *reason = NULL;
	struct sosie_pin *pin = insert(r->pins, point, r->good_ms);
	if (!pin)
		return sosie_err_set(r->err, SOSIE_ESIZE, "more than %u points are pinned", SOSIE_PINS_MAX);
	pin->since_ms = e->time_ms;
	pin->until_ms = 0;
	if (!sosie_json_is_null(j, "reason") && !sosie_json_str(j, "reason", SOSIE_PIN_REASON, &reason, NULL))
		snprintf(pin->reason, sizeof(pin->reason), "%s", reason);
	return 0;
}

static int replay_body(struct replay *r, const struct sosie_audit_entry *e, const struct sosie_json *j)
{
	const char *group = NULL;
	uint64_t point = 0;
	int64_t until = 0;
	int rc = sosie_json_str(j, "group", SOSIE_NAME_MAX, &group, r->err);
	if (rc || strcmp(group, r->g->name.s) != 0)
		return rc;
	rc = sosie_json_u64(j, "point", INT64_MAX, &point, r->err);
	if (rc)
		return rc;
	if (e->kind == SOSIE_AUDIT_PIN)
		return replay_pin(r, e, j, point);
	rc = layout_json_time(j, "from", &until, r->err);
	struct sosie_pin *pin = find(r->pins, point);
	if (!rc && pin)
		pin->until_ms = until ? until : 1;
	return rc;
}

static int replay_entry(void *arg, const struct sosie_audit_entry *e)
{
	struct replay *r = arg;
	struct sosie_json *j = NULL;
	if (e->kind != SOSIE_AUDIT_PIN && e->kind != SOSIE_AUDIT_UNPIN)
		return 0;
	r->rc = sosie_json_parse(e->text, e->len, STORE_SMALL_FILE, &j, r->err);
	if (!r->rc)
		r->rc = replay_body(r, e, j);
	sosie_json_free(j);
	return r->rc != 0;
}

static int replay_log(struct sosie_group *g, int64_t good_ms, struct pins *pins, struct sosie_err *err)
{
	struct replay r = {.g = g, .pins = pins, .good_ms = good_ms, .err = err};
	int rc = pins_new(pins, err);
	if (!rc)
		rc = sosie_audit_each(g->store, g->tenant.s, replay_entry, &r, err);
	rc = rc ? rc : r.rc;
	if (rc)
		sosie_err_wrap(err, "%s/%s: its pins cannot be told", g->tenant.s, g->name.s);
	return rc;
}

/* --- the copy
 * ------------------------------------------------------------------------------------------------------- */

static int copy_path(const struct sosie_group *g, char dst[STORE_PATH], struct sosie_err *err)
{
	return store_path(dst, err, "%s/state/pins.json", g->dir);
}

static int copy_write(struct sosie_group *g, const struct pins *p, struct sosie_err *err)
{
	char path[STORE_PATH];
	int rc = copy_path(g, path, err);
	if (rc)
		return rc;
	struct sosie_json *j = sosie_json_new();
	sosie_json_set_u64(j, "format", STORE_FORMAT);
	struct sosie_json *list = sosie_json_add_arr(j, "pins");
	for (unsigned i = 0; i < p->count; i++) {
		struct sosie_json *obj = sosie_json_push_obj(list);
		sosie_json_set_u64(obj, "point", p->list[i].point);
		layout_set_time(obj, "since", p->list[i].since_ms);
		sosie_json_set_time(obj, "until", p->list[i].until_ms);
		sosie_json_set_str(obj, "reason", p->list[i].reason);
	}
	return layout_write_json(g->store->io, path, j, 0644, err);
}

static int copy_one(const struct sosie_json *obj, struct sosie_pin *pin, struct sosie_err *err)
{
	static const char *const keys[] = {"point", "since", "until", "reason", NULL};
	const char *reason = NULL;
	int rc = sosie_json_only(obj, keys, err);
	if (!rc)
		rc = sosie_json_u64(obj, "point", INT64_MAX, &pin->point, err);
	if (!rc)
		rc = layout_json_time(obj, "since", &pin->since_ms, err);
	if (!rc && !sosie_json_is_null(obj, "until"))
		rc = layout_json_time(obj, "until", &pin->until_ms, err);
	if (!rc)
		rc = sosie_json_str(obj, "reason", SOSIE_PIN_REASON, &reason, err);
	if (!rc)
		snprintf(pin->reason, sizeof(pin->reason), "%s", reason);
	return rc;
}

static int copy_parse(const char *text, size_t len, struct pins *p, struct sosie_err *err)
{
	static const char *const keys[] = {"format", "pins", NULL};
	struct sosie_json *j = NULL, *list = NULL, *one;
	uint64_t format = 0;
	size_t count = 0;
	int rc = sosie_json_parse(text, len, PINS_TEXT_MAX, &j, err);
	if (!rc)
		rc = sosie_json_u64(j, "format", STORE_FORMAT, &format, err);
	if (!rc)
		rc = sosie_json_only(j, keys, err);
	if (!rc)
		rc = sosie_json_arr(j, "pins", SOSIE_PINS_MAX, &list, &count, err);
	for (size_t i = 0; !rc && i < count; i++) {
		rc = sosie_json_at(list, i, &one, err);
		if (!rc)
			rc = copy_one(one, &p->list[p->count], err);
		p->count += !rc;
	}
	sosie_json_free(j);
	return rc;
}

static int copy_read(struct sosie_group *g, struct pins *p, struct sosie_err *err)
{
	char path[STORE_PATH];
	char *text = NULL;
	size_t len = 0;
	int rc = copy_path(g, path, err);
	if (!rc)
		rc = pins_new(p, err);
	if (rc)
		return rc;
	rc = sosie_io_read_file(g->store->io, path, PINS_TEXT_MAX, &text, &len, err);
	if (rc == -SOSIE_ENOTFOUND)
		return 0;
	if (!rc)
		rc = copy_parse(text, len, p, err);
	free(text);
	return rc ? sosie_err_where(err, "%s", path) : 0;
}

static bool same_pins(const struct pins *a, const struct pins *b)
{
	if (a->count != b->count)
		return false;
	for (unsigned i = 0; i < a->count; i++)
		if (a->list[i].point != b->list[i].point || a->list[i].since_ms != b->list[i].since_ms ||
		    a->list[i].until_ms != b->list[i].until_ms ||
		    strcmp(a->list[i].reason, b->list[i].reason) != 0)
			return false;
	return true;
}

/* --- asking
 * ---------------------------------------------------------------------------------------------------------
 */

/* What is over goes; the caller has the list. */
static void keep_valid(struct pins *p, int64_t good_ms)
{
	for (unsigned i = 0; i < p->count;)
		if (over(&p->list[i], good_ms))
			drop(p, i);
		else
			i++;
}

int sosie_pins(struct sosie_group *g, struct sosie_pin **pins, unsigned *count, struct sosie_err *err)
{
	struct sosie_clock_state clock;
	struct pins p = {0};
	int rc = sosie_clock_look(g->store, &clock, err);
	if (!rc)
		rc = copy_read(g, &p, err);
	if (!rc)
		keep_valid(&p, clock.good_ms);
	*pins = NULL;
	*count = 0;
	if (rc) {
		free(p.list);
		return rc;
	}
	*pins = p.list;
	*count = p.count;
	return 0;
}

/* The log only grows: one that lacks a pin which its copy has was cut, or not read. */
static int check_log(const struct sosie_group *g, const struct pins *log, const struct pins *copy,
                     int64_t good_ms, struct sosie_err *err)
{
	for (unsigned i = 0; i < copy->count; i++) {
		if (over(&copy->list[i], good_ms) || find(log, copy->list[i].point))
			continue;
		sosie_err_set(
		        err, SOSIE_ECORRUPT,
		        "%s/%s: the audit log does not have the pin of point %llu that state/pins.json has",
		        g->tenant.s, g->name.s, (unsigned long long)copy->list[i].point);
		return sosie_err_action(err, "see what the log lacks: sosie verify %s/%s", g->tenant.s,
		                        g->name.s);
	}
	return 0;
}

/* One that makes no sense counts for nothing and is made anew; one that cannot be read stops the prune. */
static int compare_copy(struct sosie_group *g, const struct pins *log, int64_t good_ms, struct sosie_err *err)
{
	struct pins copy = {0};
	int rc = copy_read(g, &copy, err);
	if (rc == -SOSIE_ECORRUPT) {
		copy.count = 0;
		rc = 0;
	}
	if (!rc)
		rc = check_log(g, log, &copy, good_ms, err);
	/* A copy that cannot be written stops no prune: only the log counts there. */
	if (!rc && g->lock && !same_pins(log, &copy))
		copy_write(g, log, NULL);
	free(copy.list);
	return rc;
}

int pins_of_log(struct sosie_group *g, int64_t good_ms, struct sosie_pin **pins, unsigned *count,
                struct sosie_err *err)
{
	struct pins truth = {0};
	int rc = replay_log(g, good_ms, &truth, err);
	if (!rc)
		rc = compare_copy(g, &truth, good_ms, err);
	if (!rc)
		keep_valid(&truth, good_ms);
	*pins = NULL;
	*count = 0;
	if (rc) {
		free(truth.list);
		return rc;
	}
	*pins = truth.list;
	*count = truth.count;
	return 0;
}

/* --- changing
 * -----------------------------------------------------------------------------------------------------------
 */

static int tell_log(struct sosie_group *g, enum sosie_audit_kind kind, uint64_t point, const char *reason,
                    int64_t from_ms, struct sosie_err *err)
{
	struct sosie_json *j = sosie_json_new();
	sosie_json_set_str(j, "group", g->name.s);
	sosie_json_set_u64(j, "point", point);
	if (kind == SOSIE_AUDIT_UNPIN)
		layout_set_time(j, "from", from_ms);
	sosie_json_set_str(j, "reason", reason);
	return sosie_audit_append(g->store, g->tenant.s, kind, j, NULL, err);
}

/* The log has it: the copy follows. */
static int follow(struct sosie_group *g, int64_t good_ms, struct sosie_err *err)
{
	struct pins p = {0};
	int rc = replay_log(g, good_ms, &p, err);
	if (!rc)
		rc = copy_write(g, &p, err);
	free(p.list);
	return rc;
}

static int add_locked(struct sosie_group *g, uint64_t point, const char *reason, struct sosie_err *err)
{
	struct sosie_clock_state clock;
	struct pins p = {0};
	int rc = sosie_group_reachable(g, point, err);
	if (!rc)
		rc = sosie_clock_look(g->store, &clock, err);
	if (!rc)
		rc = replay_log(g, clock.good_ms, &p, err);
	const struct sosie_pin *pin = rc ? NULL : find(&p, point);
	const bool there = pin && pin->until_ms == 0 && strcmp(pin->reason, reason) == 0;
	if (!rc && !insert(&p, point, clock.good_ms))
		rc = sosie_err_set(err, SOSIE_EEXISTS, "%s/%s has %u pins already, the most there may be",
		                   g->tenant.s, g->name.s, SOSIE_PINS_MAX);
	free(p.list);
	if (!rc && !there)
		rc = tell_log(g, SOSIE_AUDIT_PIN, point, reason, 0, err);
	return rc ? rc : follow(g, clock.good_ms, err);
}

static int check_reason(const char *reason, struct sosie_err *err)
{
	const size_t len = strlen(reason);
	bool plain = len <= SOSIE_PIN_REASON;
	for (size_t i = 0; plain && i < len; i++)
		plain = reason[i] >= ' ' && reason[i] <= '~';
	return plain ? 0
	             : sosie_err_set(err, SOSIE_EUSAGE,
	                             "a reason is at most %u printable ASCII characters long",
	                             SOSIE_PIN_REASON);
}

int sosie_pin_add(struct sosie_group *g, uint64_t point, const char *reason, struct sosie_err *err)
{
	const bool held = g->lock != NULL;
	int rc = check_reason(reason ? reason : "", err);
	if (!rc)
		rc = sosie_group_lock(g, PROGRAM, LOCK_WAIT_MS, err);
	if (rc)
		return rc;
	rc = add_locked(g, point, reason ? reason : "", err);
	if (!held)
		sosie_group_unlock(g);
	return rc;
}

static int delay_of(struct sosie_group *g, uint64_t *delay_ms, struct sosie_err *err)
{
	struct sosie_policy_view *view = malloc(sizeof(*view));
	int rc = view ? sosie_policy_view(g->store, g->tenant.s, g->name.s, view, err)
	              : sosie_err_set(err, SOSIE_ENOMEM, "no memory to read a policy");
	*delay_ms = rc ? 0 : view->values[SOSIE_POLICY_DELAY].value;
	free(view);
	return rc;
}

static int remove_locked(struct sosie_group *g, uint64_t point, const char *reason, int64_t *from_ms,
                         struct sosie_err *err)
{
	struct sosie_clock_state clock;
	struct pins p = {0};
	uint64_t delay_ms = 0;
	int rc = sosie_clock_look(g->store, &clock, err);
	if (!rc)
		rc = delay_of(g, &delay_ms, err);
	if (!rc)
		rc = replay_log(g, clock.good_ms, &p, err);
	const struct sosie_pin *pin = rc ? NULL : find(&p, point);
	*from_ms = pin ? pin->until_ms : 0;
	if (!rc && (!pin || over(pin, clock.good_ms))) {
		sosie_err_set(err, SOSIE_ENOTFOUND, "%s/%s: point %llu is not pinned", g->tenant.s, g->name.s,
		              (unsigned long long)point);
		rc = sosie_err_action(err, "see them with: sosie pin list %s/%s", g->tenant.s, g->name.s);
	}
	free(p.list);
	if (rc || *from_ms)
		return rc; /* it waits already */
	if (clock.jumped)
		return clock_refuse(&clock, "nothing is unpinned", err);
	*from_ms = clock.good_ms + (int64_t)delay_ms;
	rc = tell_log(g, SOSIE_AUDIT_UNPIN, point, reason, *from_ms, err);
	return rc ? rc : follow(g, clock.good_ms, err);
}

int sosie_pin_remove(struct sosie_group *g, uint64_t point, const char *reason, int64_t *from_ms,
                     struct sosie_err *err)
{
	const bool held = g->lock != NULL;
	*from_ms = 0;
	int rc = check_reason(reason ? reason : "", err);
	if (!rc)
		rc = sosie_group_lock(g, PROGRAM, LOCK_WAIT_MS, err);
	if (rc)
		return rc;
	rc = remove_locked(g, point, reason ? reason : "", from_ms, err);
	if (!held)
		sosie_group_unlock(g);
	return rc;
}

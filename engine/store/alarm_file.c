/* SPDX-License-Identifier: MIT */
/*
 * Files of alarms: STORE/alarms.json, STORE/TENANT/alarms.json, STORE/TENANT/GROUP/state/alarms.json
 * (docs/format.md, "Alarms"). Each is replaced whole and durably under STORE/alarms.lock, and read without a
 * lock. One that cannot be read is kept aside by the next who writes; nothing else rests on it.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/store/alarm.h"

#define LOCK_WAIT_MS 2000
#define LOCK_POLL_MS 5
#define LOCK_MODE 0600u
#define FILE_MODE 0640u

static int place_path(const struct sosie_store *store, const struct alarm_place *p, char dst[STORE_PATH],
                      struct sosie_err *err)
{
	if (p->group.s[0])
		return store_path(dst, err, "%s/%s/%s/state/alarms.json", store->path, p->tenant.s,
		                  p->group.s);
	return store_path(dst, err, "%s%s%s/alarms.json", store->path, p->tenant.s[0] ? "/" : "",
	                  p->tenant.s);
}

static int book_get(struct sosie_store *store, struct sosie_err *err)
{
	if (store->alarms)
		return 0;
	store->alarms = calloc(1, sizeof(*store->alarms));
	if (!store->alarms)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for alarms");
	store->alarms->end = &store->alarms->places;
	return 0;
}

static bool is_of(const struct alarm_place *p, const char *tenant, const char *group)
{
	return strcmp(p->group.s, group) == 0 && strcmp(p->tenant.s, tenant) == 0;
}

static struct alarm_place *look_up(struct alarm_book *book, const char *tenant, const char *group)
{
	struct alarm_place *p = book->found ? book->found->next : NULL;
	if (!p || !is_of(p, tenant, group))
		for (p = book->places; p && !is_of(p, tenant, group);)
			p = p->next;
	if (p)
		book->found = p;
	return p;
}

int alarm_place_get(struct sosie_store *store, const char *tenant, const char *group,
                    struct alarm_place **out, struct sosie_err *err)
{
	int rc = book_get(store, err);
	struct alarm_place *p = rc ? NULL : look_up(store->alarms, tenant ? tenant : "", group ? group : "");
	*out = p;
	if (p || rc)
		return rc;
	p = calloc(1, sizeof(*p));
	if (!p)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for alarms");
	if (tenant)
		rc = sosie_name_set(&p->tenant, SOSIE_NAME_TENANT, tenant, err);
	if (!rc && group)
		rc = sosie_name_set(&p->group, SOSIE_NAME_GROUP, group, err);
	if (rc) {
		free(p);
		return rc;
	}
	*store->alarms->end = *out = p;
	store->alarms->end = &p->next;
	return 0;
}

void alarm_book_free(struct sosie_store *store)
{
	while (store->alarms && store->alarms->places) {
		struct alarm_place *p = store->alarms->places;
		store->alarms->places = p->next;
		free(p->list);
		free(p);
	}
	free(store->alarms);
	store->alarms = NULL;
}

/* --- reading
 * ---------------------------------------------------------------------------------------------------- */

static bool kind_of(const char *name, enum sosie_alarm_kind *out)
{
	for (unsigned k = 0; k < SOSIE_ALARM_KINDS; k++)
		if (strcmp(sosie_alarm_kind_name((enum sosie_alarm_kind)k), name) == 0) {
			*out = (enum sosie_alarm_kind)k;
			return true;
		}
	return false;
}

static int read_text(const struct sosie_json *obj, const char *key, char *dst, size_t max,
                     struct sosie_err *err)
{
	const char *text = NULL;
	if (sosie_json_is_null(obj, key))
		return 0;
	int rc = sosie_json_str(obj, key, max, &text, err);
	if (!rc)
		memcpy(dst, text, strlen(text) + 1);
	return rc;
}

static int read_alarm(const struct sosie_json *obj, struct sosie_alarm *a, struct sosie_err *err)
{
	static const char *const keys[] = {"id",   "kind",   "since",  "seen", "count",
	                                   "text", "closed", "reason", NULL};
	const char *kind = NULL;
	int rc = sosie_json_only(obj, keys, err);
	if (!rc)
		rc = sosie_json_u64(obj, "id", INT64_MAX - 1, &a->number, err);
	if (!rc)
		rc = sosie_json_str(obj, "kind", 16, &kind, err);
	if (!rc && !kind_of(kind, &a->kind))
		rc = sosie_err_set(err, SOSIE_ECORRUPT, "an alarm is of a kind that is not known");
	if (!rc)
		rc = layout_json_time(obj, "since", &a->since_ms, err);
	if (!rc)
		rc = layout_json_time(obj, "seen", &a->seen_ms, err);
	if (!rc)
		rc = sosie_json_u64(obj, "count", INT64_MAX, &a->count, err);
	if (!rc)
		rc = read_text(obj, "text", a->text, SOSIE_ALARM_TEXT, err);
	if (!rc && !sosie_json_is_null(obj, "closed"))
		rc = layout_json_time(obj, "closed", &a->closed_ms, err);
	return rc ? rc : read_text(obj, "reason", a->reason, SOSIE_ALARM_REASON, err);
}

/* Two open ones of a kind, or numbers that do not ascend: not what we write. */
static int check_order(const struct held_alarm *list, size_t i, struct sosie_err *err)
{
	bool odd = i > 0 && list[i - 1].a.number >= list[i].a.number;
	for (size_t k = 0; k < i; k++)
		odd |= !list[k].a.closed_ms && !list[i].a.closed_ms && list[k].a.kind == list[i].a.kind;
	return odd ? sosie_err_set(err, SOSIE_ECORRUPT, "alarms are not in order") : 0;
}

static int parse(const struct sosie_json *j, const struct alarm_place *p, struct alarm_place *out,
                 struct sosie_err *err)
{
	struct sosie_json *arr = NULL, *one;
	size_t count = 0;
	int rc = sosie_json_arr(j, "alarms", ALARM_LIST_MAX, &arr, &count, err);
	if (!rc && sosie_json_has(j, "next"))
		rc = sosie_json_u64(j, "next", INT64_MAX - 1, &out->next_number, err);
	out->list = calloc(count ? count : 1, sizeof(*out->list));
	if (!rc && !out->list)
		rc = sosie_err_set(err, SOSIE_ENOMEM, "no memory for alarms");
	for (size_t i = 0; !rc && i < count; i++) {
		out->list[i].a.tenant = p->tenant;
		out->list[i].a.group = p->group;
		rc = sosie_json_at(arr, i, &one, err);
		if (!rc)
			rc = read_alarm(one, &out->list[i].a, err);
		if (!rc)
			rc = check_order(out->list, i, err);
	}
	out->count = rc ? 0 : (unsigned)count;
	return rc;
}

/* What this process has counted and not written stays with alarms that are still open. */
static void take_over(struct alarm_place *p, struct alarm_place *now)
{
	for (unsigned i = 0; i < p->count; i++)
		for (unsigned k = 0; p->list[i].unsaved && k < now->count; k++) {
			struct held_alarm *to = &now->list[k], *from = &p->list[i];
			if (to->a.number != from->a.number || to->a.closed_ms)
				continue;
			to->unsaved = from->unsaved;
			to->a.count += from->unsaved;
			to->a.seen_ms = from->a.seen_ms;
			memcpy(to->a.text, from->a.text, sizeof(to->a.text));
		}
	free(p->list);
	p->list = now->list;
	p->count = now->count;
	p->next_number = now->next_number;
}

static void note_file(struct sosie_store *store, struct alarm_place *p, const char *path)
{
	struct sosie_stat st;
	p->there = !sosie_io_stat(store->io, path, &st, NULL);
	p->ino = p->there ? st.ino : 0;
	p->size = p->there ? st.size : 0;
	p->ctime_ns = p->there ? st.ctime_ns : 0;
	store->alarms->version++;
}

int alarm_place_read(struct sosie_store *store, struct alarm_place *p, struct sosie_err *err)
{
	static const char *const keys[] = {"format", "next", "alarms", NULL};
	struct alarm_place now = {.next_number = 0};
	struct sosie_json *j = NULL;
	struct sosie_stat st;
	char path[STORE_PATH];
	int rc = place_path(store, p, path, err);
	if (rc)
		return rc;
	if (sosie_io_stat(store->io, path, &st, NULL)) {
		if (p->there) {
			take_over(p, &now);
			note_file(store, p, path);
		}
		return 0;
	}
	if (p->there && p->ino == st.ino && p->size == st.size && p->ctime_ns == st.ctime_ns)
		return 0;
	rc = layout_read_json(store->io, path, keys, &j, err);
	if (!rc)
		rc = parse(j, p, &now, err);
	sosie_json_free(j);
	if (rc) {
		free(now.list);
		sosie_err_where(err, "%s", path);
		return rc;
	}
	take_over(p, &now);
	note_file(store, p, path);
	return 0;
}

int alarm_place_ready(struct sosie_store *store, struct alarm_place *p, struct sosie_err *err)
{
	char path[STORE_PATH], aside[STORE_PATH];
	struct alarm_place none = {.next_number = 0};
	int rc = alarm_place_read(store, p, err);
	if (rc != -SOSIE_ECORRUPT)
		return rc;
	rc = place_path(store, p, path, err);
	if (!rc)
		rc = store_path(aside, err, "%s.damaged", path);
	if (!rc)
		rc = sosie_io_rename(store->io, path, aside, err);
	if (rc)
		return rc;
	take_over(p, &none);
	note_file(store, p, path);
	p->damaged = true;
	return 0;
}

/* --- writing
 * ---------------------------------------------------------------------------------------------------- */

/* The closed one that was closed first. */
static void forget_closed(struct alarm_place *p)
{
	for (;;) {
		unsigned closed = 0, oldest = 0;
		for (unsigned i = 0; i < p->count; i++) {
			if (!p->list[i].a.closed_ms)
				continue;
			if (closed++ == 0 || p->list[i].a.closed_ms < p->list[oldest].a.closed_ms)
				oldest = i;
		}
		if (closed <= SOSIE_ALARMS_CLOSED)
			return;
		memmove(&p->list[oldest], &p->list[oldest + 1], (p->count - oldest - 1) * sizeof(*p->list));
		p->count--;
	}
}

static void put_alarm(struct sosie_json *obj, const struct sosie_alarm *a)
{
	sosie_json_set_u64(obj, "id", a->number);
	sosie_json_set_str(obj, "kind", sosie_alarm_kind_name(a->kind));
	layout_set_time(obj, "since", a->since_ms);
	layout_set_time(obj, "seen", a->seen_ms);
	sosie_json_set_u64(obj, "count", a->count);
	sosie_json_set_str(obj, "text", a->text);
	sosie_json_set_time(obj, "closed", a->closed_ms);
	sosie_json_set_str(obj, "reason", a->reason[0] ? a->reason : NULL);
}

int alarm_place_write(struct sosie_store *store, struct alarm_place *p, struct sosie_err *err)
{
	char path[STORE_PATH];
	int rc = place_path(store, p, path, err);
	if (rc)
		return rc;
	forget_closed(p);
	struct sosie_json *j = sosie_json_new();
	sosie_json_set_u64(j, "format", STORE_FORMAT);
	if (!p->tenant.s[0])
		sosie_json_set_u64(j, "next", p->next_number);
	struct sosie_json *arr = sosie_json_add_arr(j, "alarms");
	for (unsigned i = 0; i < p->count; i++)
		put_alarm(sosie_json_push_obj(arr), &p->list[i].a);
	rc = layout_write_json(store->io, path, j, FILE_MODE, err);
	if (rc) {
		p->there = true; /* what is there, if anything, is read again */
		p->ino = p->size = 0;
		return rc;
	}
	for (unsigned i = 0; i < p->count; i++)
		p->list[i].unsaved = 0;
	p->unsaved_ms = 0;
	note_file(store, p, path);
	return 0;
}

struct held_alarm *alarm_place_open(const struct alarm_place *p, enum sosie_alarm_kind kind)
{
	for (unsigned i = 0; i < p->count; i++)
		if (p->list[i].a.kind == kind && !p->list[i].a.closed_ms)
			return &p->list[i];
	return NULL;
}

struct held_alarm *alarm_place_add(struct alarm_place *p, uint64_t number, enum sosie_alarm_kind kind)
{
	struct held_alarm *grown = reallocarray(p->list, p->count + 1, sizeof(*grown));
	if (!grown)
		return NULL;
	p->list = grown;
	memset(&grown[p->count], 0, sizeof(*grown));
	grown[p->count].a =
	        (struct sosie_alarm){.number = number, .kind = kind, .tenant = p->tenant, .group = p->group};
	return &grown[p->count++];
}

int alarm_lock(struct sosie_store *store, struct sosie_file **lock, struct sosie_err *err)
{
	const int64_t end = sosie_mono_ms(store->clock) + LOCK_WAIT_MS;
	char path[STORE_PATH];
	*lock = NULL;
	int rc = store_path(path, err, "%s/alarms.lock", store->path);
	if (!rc)
		rc = sosie_io_openat(store->io, path, SOSIE_READ | SOSIE_WRITE | SOSIE_CREATE, LOCK_MODE,
		                     lock, err);
	if (rc)
		return rc;
	rc = sosie_io_lock(store->io, *lock, true, err);
	while (rc == -SOSIE_EBUSY && sosie_mono_ms(store->clock) < end) {
		sosie_sleep_ms(store->clock, LOCK_POLL_MS);
		rc = sosie_io_lock(store->io, *lock, true, err);
	}
	if (!rc)
		return 0;
	sosie_io_close(store->io, *lock, NULL);
	*lock = NULL;
	sosie_err_where(err, "%s", path);
	return rc;
}

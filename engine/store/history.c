/* SPDX-License-Identifier: MIT */
/*
 * The whole history: audit logs and the chains of groups, merged by time. Of chains only the index is held
 * while it is told, of audit logs the entries; each source keeps its own order where times are equal.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/store/audit.h"

/* One log, or the chain of one group. */
struct source {
	struct source *next;
	struct sosie_name tenant;
	struct sosie_group *group; /* NULL: an audit log */
};

struct item {
	int64_t time_ms;
	uint64_t order; /* in which it was found */
	const struct source *source;
	uint64_t index; /* of a chain: the entry's */
	struct sosie_audit_entry entry;
	char *text; /* of a log, owned */
};

struct history {
	struct sosie_store *store;
	int64_t since_ms;
	struct source *sources, *now;
	struct item *items;
	size_t count, room;
	int rc;                 /* no memory: ends it */
	struct sosie_err *err;  /* the caller's */
	struct sosie_err first; /* what could not be read, the first of it */
};

static void unreadable(struct history *h, int rc, const struct sosie_err *err)
{
	if (rc && !h->first.code)
		h->first = *err;
}

static struct item *item_new(struct history *h, int64_t time_ms)
{
	if (h->count == h->room) {
		size_t room = h->room ? 2 * h->room : 256;
		struct item *grown = reallocarray(h->items, room, sizeof(*grown));
		if (!grown) {
			h->rc = sosie_err_set(h->err, SOSIE_ENOMEM, "no memory for %zu audit entries", room);
			return NULL;
		}
		h->items = grown;
		h->room = room;
	}
	struct item *item = &h->items[h->count];
	memset(item, 0, sizeof(*item));
	item->time_ms = time_ms;
	item->order = h->count++;
	item->source = h->now;
	return item;
}

static bool source_new(struct history *h, const char *tenant, struct sosie_group *group)
{
	struct source *s = calloc(1, sizeof(*s));
	if (!s) {
		h->rc = sosie_err_set(h->err, SOSIE_ENOMEM, "no memory for the history");
		sosie_group_close(group);
		return false;
	}
	if (tenant)
		sosie_name_set(&s->tenant, SOSIE_NAME_TENANT, tenant, NULL);
	s->group = group;
	s->next = h->sources;
	h->sources = h->now = s;
	return true;
}

/* --- finding
 * ---------------------------------------------------------------------------------------------------- */

static int on_log_entry(void *arg, const struct sosie_audit_entry *e)
{
	struct history *h = arg;
	struct item *item;
	if (e->time_ms < h->since_ms)
		return 0;
	item = item_new(h, e->time_ms);
	if (!item)
		return 1;
	item->entry = *e;
	item->text = malloc(e->len + 1);
	if (!item->text) {
		h->rc = sosie_err_set(h->err, SOSIE_ENOMEM, "no memory for the audit entries");
		return 1;
	}
	memcpy(item->text, e->text, e->len);
	item->text[e->len] = '\0';
	item->entry.text = item->text;
	return 0;
}

static void look_at_log(struct history *h, const char *tenant)
{
	struct sosie_err err;
	sosie_err_clear(&err);
	if (h->rc || !source_new(h, tenant, NULL))
		return;
	unreadable(h, sosie_audit_each(h->store, tenant, on_log_entry, h, &err), &err);
}

static int look_at_group(void *arg, const struct sosie_name *name)
{
	struct history *h = arg;
	const char *tenant = h->now->tenant.s;
	struct sosie_group *g;
	struct sosie_err err;
	int rc = sosie_group_open(h->store, tenant, name->s, &g, &err);
	unreadable(h, rc, &err);
	if (rc || !source_new(h, tenant, g))
		return h->rc != 0;
	for (uint64_t i = 0; !h->rc && i < chain_entries(g->chain); i++) {
		const struct chain_entry *e = chain_entry(g->chain, i);
		struct item *item = e->time_ms < h->since_ms ? NULL : item_new(h, e->time_ms);
		if (!item)
			continue;
		item->index = i;
		item->entry.number = e->point;
		item->entry.time_ms = e->time_ms;
		item->entry.digest = e->digest;
	}
	return h->rc != 0;
}

static int look_at_tenant(void *arg, const struct sosie_name *name)
{
	struct history *h = arg;
	struct sosie_err err;
	look_at_log(h, name->s);
	if (!h->rc)
		unreadable(h, sosie_store_groups(h->store, name->s, look_at_group, h, &err), &err);
	return h->rc != 0;
}

/* --- telling
 * ---------------------------------------------------------------------------------------------------- */

static int by_time(const void *a, const void *b)
{
	const struct item *x = a, *y = b;
	return x->time_ms != y->time_ms ? (x->time_ms > y->time_ms) - (x->time_ms < y->time_ms)
	                                : (x->order > y->order) - (x->order < y->order);
}

static const char *chain_kind_name(unsigned kind)
{
	return kind == CHAIN_POINT ? "acceptance" : kind == CHAIN_EPOCH ? "epoch" : "key";
}

/* The JSON of a chain's entry; the body is the caller's to free. */
static int chain_text(struct item *item, const struct chain_entry *e, void **body, struct sosie_err *err)
{
	const void *manifest, *acceptance;
	uint32_t manifest_len, len;
	int rc = chain_body(item->source->group->chain, e, body, err);
	if (!rc && e->kind != CHAIN_POINT) {
		item->entry.text = *body;
		item->entry.len = e->body_len;
	} else if (!rc) {
		rc = chain_point_body(*body, e->body_len, &manifest, &manifest_len, &acceptance, &len, err);
		item->entry.text = acceptance;
		item->entry.len = len;
	}
	if (!rc) /* the signature is verify's business */
		item->entry.len = sosie_signed_text(item->entry.text, item->entry.len);
	return rc;
}

static int tell(struct history *h, struct item *item, sosie_history_fn fn, void *arg)
{
	const struct source *s = item->source;
	const struct chain_entry *e = s->group ? chain_entry(s->group->chain, item->index) : NULL;
	struct sosie_history told = {.tenant = s->tenant.s[0] ? s->tenant.s : NULL,
	                             .group = s->group ? s->group->name.s : NULL};
	struct sosie_err err;
	void *body = NULL;
	int stop = 0, rc = e ? chain_text(item, e, &body, &err) : 0;
	unreadable(h, rc, &err);
	if (!rc) {
		told.kind = e ? chain_kind_name(e->kind) : sosie_audit_name(item->entry.kind);
		told.entry = item->entry;
		stop = fn(arg, &told);
	}
	free(body);
	return stop;
}

static void history_fini(struct history *h)
{
	for (size_t i = 0; i < h->count; i++)
		free(h->items[i].text);
	free(h->items);
	while (h->sources) {
		struct source *s = h->sources;
		h->sources = s->next;
		sosie_group_close(s->group);
		free(s);
	}
}

static int find(struct history *h, const char *tenant)
{
	struct sosie_name name;
	int rc;
	if (!tenant) {
		look_at_log(h, NULL);
		rc = h->rc ? 0 : sosie_store_tenants(h->store, look_at_tenant, h, h->err);
	} else {
		rc = sosie_name_set(&name, SOSIE_NAME_TENANT, tenant, h->err);
		if (!rc)
			look_at_tenant(h, &name);
	}
	return h->rc ? h->rc : rc;
}

int sosie_audit_history(struct sosie_store *store, const char *tenant, int64_t since_ms, sosie_history_fn fn,
                        void *arg, struct sosie_err *err)
{
	struct history h = {.store = store, .since_ms = since_ms, .err = err};
	int rc = find(&h, tenant);
	if (!rc && h.count > 1)
		qsort(h.items, h.count, sizeof(*h.items), by_time);
	for (size_t i = 0; !rc && i < h.count; i++)
		if (tell(&h, &h.items[i], fn, arg))
			break;
	history_fini(&h);
	if (!rc && h.first.code) {
		if (err)
			*err = h.first;
		rc = -(int)h.first.code;
	}
	return rc;
}

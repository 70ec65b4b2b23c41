/* SPDX-License-Identifier: MIT */
/*
 * What the keeper says, for receivers to relay: head statements and verdicts. They follow from the chain and
 * are written without a flush; what a crash tore is removed or written anew at the keeper's next start.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/store/core.h"

int outbox_path(const struct sosie_group *g, const char *name, char dst[STORE_PATH], struct sosie_err *err)
{
	return store_path(dst, err, "%s/%s/_outbox/%s/%s", g->store->path, g->tenant.s, g->name.s, name);
}

int outbox_head(struct sosie_group *g, struct sosie_err *err)
{
	struct sosie_head *head = calloc(1, sizeof(*head));
	char path[STORE_PATH], *text = NULL;
	size_t len = 0;
	if (!head)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for a head statement");
	sosie_group_head(g, head);
	int rc = sosie_head_text(head, &text, &len, err);
	if (!rc)
		rc = store_sign(g->store, SOSIE_SIGN_STATEMENT, &text, &len, err);
	if (!rc)
		rc = outbox_path(g, "head", path, err);
	if (!rc)
		rc = layout_put(g->store->io, path, text, len, 0640, err);
	free(text);
	free(head);
	return rc;
}

int outbox_verdict(struct sosie_group *g, const struct sosie_upload_id *id,
                   const struct sosie_digest *committed, enum sosie_verdict_kind kind,
                   const struct sosie_err *why, struct sosie_err *err)
{
	struct sosie_verdict *v = calloc(1, sizeof(*v));
	char name[UPLOAD_HEX + 16], path[STORE_PATH], *text = NULL;
	size_t len = 0;
	if (!v)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for a verdict");
	v->kind = kind;
	v->upload = *id;
	v->committed = *committed;
	v->time_ms = sosie_wall_ms(g->store->clock);
	if (why)
		v->error = *why;
	else
		sosie_group_head(g, &v->head);
	int rc = sosie_verdict_text(v, &text, &len, err);
	if (!rc)
		rc = store_sign(g->store, SOSIE_SIGN_STATEMENT, &text, &len, err);
	sosie_hex(name, id->b, sizeof(id->b));
	memcpy(name + UPLOAD_HEX, ".verdict", 9);
	if (!rc)
		rc = outbox_path(g, name, path, err);
	if (!rc)
		rc = layout_put(g->store->io, path, text, len, 0640, err);
	free(text);
	free(v);
	return rc;
}

struct said {
	char name[UPLOAD_HEX + 16];
	int64_t mtime_ms;
};
struct box {
	struct sosie_group *g;
	char dir[STORE_PATH];
	struct said *list;
	size_t count, room;
	bool no_memory;
};

static bool has_suffix(const char *name, const char *suffix)
{
	return strlen(name) == UPLOAD_HEX + strlen(suffix) && strcmp(name + UPLOAD_HEX, suffix) == 0;
}

static int add_said(void *arg, const char *name, enum sosie_file_kind kind)
{
	struct box *b = arg;
	char path[STORE_PATH];
	struct sosie_stat st;
	size_t len = strlen(name);
	(void)kind;
	if (len > 4 && strcmp(name + len - 4, ".tmp") == 0 && !store_path(path, NULL, "%s/%s", b->dir, name))
		sosie_io_unlink(b->g->store->io, path, NULL);
	if (!has_suffix(name, ".verdict") || store_path(path, NULL, "%s/%s", b->dir, name) ||
	    sosie_io_stat(b->g->store->io, path, &st, NULL))
		return 0;
	if (b->count == b->room) {
		size_t room = b->room ? 2 * b->room : 128;
		struct said *grown = reallocarray(b->list, room, sizeof(*grown));
		b->no_memory = !grown;
		if (!grown)
			return 1;
		b->list = grown;
		b->room = room;
	}
	memcpy(b->list[b->count].name, name, strlen(name) + 1);
	b->list[b->count++].mtime_ms = st.mtime_ms;
	return 0;
}

static int compare_said(const void *a, const void *b)
{
	const struct said *x = a, *y = b;
	if (x->mtime_ms != y->mtime_ms)
		return x->mtime_ms < y->mtime_ms ? -1 : 1;
	return strcmp(x->name, y->name);
}

static int open_box(struct sosie_group *g, struct box *b, struct sosie_err *err)
{
	memset(b, 0, sizeof(*b));
	b->g = g;
	int rc = store_path(b->dir, err, "%s/%s/_outbox/%s", g->store->path, g->tenant.s, g->name.s);
	if (!rc)
		rc = sosie_io_list(g->store->io, b->dir, add_said, b, err);
	if (rc < 0)
		return rc;
	if (b->no_memory)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory to list %s", b->dir);
	if (b->count)
		qsort(b->list, b->count, sizeof(*b->list), compare_said);
	return 0;
}

static int forget(struct box *b, const struct said *s, struct sosie_err *err)
{
	char path[STORE_PATH];
	int rc = store_path(path, err, "%s/%.32s.differs", b->dir, s->name);
	if (!rc)
		rc = layout_remove(b->g->store->io, path, err);
	if (!rc)
		rc = store_path(path, err, "%s/%s", b->dir, s->name);
	return rc ? rc : layout_remove(b->g->store->io, path, err);
}

int outbox_trim(struct sosie_group *g, struct sosie_err *err)
{
	struct box b;
	int rc = open_box(g, &b, err);
	for (size_t i = 0; !rc && i + STORE_VERDICTS_KEPT < b.count; i++)
		rc = forget(&b, &b.list[i], err);
	free(b.list);
	return rc;
}

static bool readable(struct box *b, const struct said *s)
{
	struct sosie_verdict *v = calloc(1, sizeof(*v));
	char path[STORE_PATH], *text = NULL;
	size_t len;
	bool ok = v && !store_path(path, NULL, "%s/%s", b->dir, s->name) &&
	          !sosie_io_read_file(b->g->store->io, path, SOSIE_STATEMENT_MAX, &text, &len, NULL) &&
	          !sosie_verdict_parse(text, sosie_signed_text(text, len), v, NULL);
	free(text);
	free(v);
	return ok;
}

int outbox_start(struct sosie_group *g, struct sosie_err *err)
{
	struct box b;
	int rc = open_box(g, &b, err);
	for (size_t i = 0; !rc && i < b.count; i++)
		if (!readable(&b, &b.list[i]))
			rc = forget(&b, &b.list[i], err);
	free(b.list);
	return rc ? rc : outbox_head(g, err);
}

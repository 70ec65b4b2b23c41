/* SPDX-License-Identifier: MIT */
/*
 * Attachments: files, and the regular files in folders (one level, by name, no links followed). Names, sizes
 * and SHA-256 are measured when stat shows a change, and kept between cycles. One digest over all tells
 * whether any changed since the accepted point.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/replicate/internal.h"

#define READ_BYTES (256u << 10)
#define SETTLED_MS 20 /* changes within a tick of the filesystem's clock do not show */

struct gathering {
	struct sosie_replicator *r;
	struct attachment *list;
	unsigned count;
	struct attachment_folder *folders;
	unsigned folder_count;
	const char *folder; /* that is listed now */
	uint8_t *buf;
	struct sosie_err *err;
};

/* --- looking
 * ---------------------------------------------------------------------------------------------------- */

static void note_stat(struct sosie_replicator *r, const struct sosie_stat *st, struct seen_file *out)
{
	*out = (struct seen_file){.dev = st->dev,
	                          .ino = st->ino,
	                          .size = st->size,
	                          .mtime_ms = st->mtime_ms,
	                          .ctime_ns = st->ctime_ns};
	out->sure = sosie_wall_ms(r->o.clock) - st->ctime_ns / 1000000 > SETTLED_MS;
}

static bool as_seen(const struct seen_file *a, const struct seen_file *b)
{
	return a->dev == b->dev && a->ino == b->ino && a->size == b->size && a->mtime_ms == b->mtime_ms &&
	       a->ctime_ns == b->ctime_ns;
}

/* A file as it is now; a link is followed where the operator named it. */
static int look(struct sosie_replicator *r, const char *path, bool follow, struct seen_file *out,
                enum sosie_file_kind *kind, struct sosie_err *err)
{
	struct sosie_io *io = r->io;
	struct sosie_file *file;
	struct sosie_stat st;
	int rc = sosie_io_stat(io, path, &st, err);

	if (rc == 0 && st.kind == SOSIE_KIND_OTHER && follow) {
		rc = sosie_io_openat(io, path, SOSIE_READ | SOSIE_FOLLOW, 0, &file, err);
		if (rc != 0)
			return rc;
		rc = sosie_io_fstat(io, file, &st, err);
		sosie_io_close(io, file, NULL);
	}
	if (rc != 0)
		return rc;
	*kind = st.kind;
	note_stat(r, &st, out);
	return 0;
}

static bool is_as_before(struct sosie_replicator *r, const char *path, bool follow,
                         const struct seen_file *before)
{
	enum sosie_file_kind kind;
	struct seen_file now;

	return before->sure && look(r, path, follow, &now, &kind, NULL) == 0 && as_seen(&now, before);
}

bool attachments_unchanged(struct sosie_replicator *r)
{
	bool same = r->attachments_known;

	for (unsigned i = 0; same && i < r->folder_count; i++)
		same = is_as_before(r, r->folders[i].path, false, &r->folders[i].seen);
	for (unsigned i = 0; same && i < r->attachment_count; i++)
		same = is_as_before(r, r->attachments[i].path, r->attachments[i].follow,
		                    &r->attachments[i].seen);
	return same;
}

/* --- measuring
 * -------------------------------------------------------------------------------------------------- */

static int hash_file(struct gathering *g, struct attachment *a, struct sosie_file *file)
{
	struct sosie_io *io = g->r->io;
	struct sosie_hash *hash = g->r->hash;
	uint64_t size = 0;
	size_t got = 1;
	int rc = 0;

	sosie_hash_start(hash, NULL);
	while (rc == 0 && got > 0 && size <= SOSIE_ATTACHMENTS_BYTES) {
		rc = sosie_io_pread(io, file, g->buf, READ_BYTES, size, &got, g->err);
		if (rc == 0)
			sosie_hash_add(hash, g->buf, got);
		size += rc == 0 ? got : 0;
	}
	sosie_hash_end(hash, &a->entry.sha256);
	a->entry.size = size;
	return rc;
}

static int measure(struct gathering *g, struct attachment *a)
{
	struct sosie_io *io = g->r->io;
	struct seen_file after;
	struct sosie_file *file;
	struct sosie_stat st;
	int rc = sosie_io_openat(io, a->path, SOSIE_READ | (a->follow ? SOSIE_FOLLOW : 0u), 0, &file, g->err);

	if (rc != 0)
		return sosie_err_wrap(g->err, "attachment %s", a->entry.name.s);
	rc = sosie_io_fstat(io, file, &st, g->err);
	if (rc == 0) {
		note_stat(g->r, &st, &a->seen);
		rc = hash_file(g, a, file);
	}
	if (rc == 0)
		rc = sosie_io_fstat(io, file, &st, g->err);
	if (rc == 0) {
		note_stat(g->r, &st, &after);
		a->seen.sure = a->seen.sure && as_seen(&a->seen, &after);
	}
	sosie_io_close(io, file, NULL);
	return rc == 0 ? 0 : sosie_err_wrap(g->err, "attachment %s", a->entry.name.s);
}

static const struct attachment *measured_before(const struct gathering *g, const struct attachment *a)
{
	const struct sosie_replicator *r = g->r;

	for (unsigned i = 0; i < r->attachment_count; i++)
		if (strcmp(r->attachments[i].path, a->path) == 0)
			return r->attachments[i].seen.sure && r->attachments[i].follow == a->follow
			               ? &r->attachments[i]
			               : NULL;
	return NULL;
}

static int measure_if_changed(struct gathering *g, struct attachment *a)
{
	const struct attachment *before = measured_before(g, a);

	if (!before || !is_as_before(g->r, a->path, a->follow, &before->seen))
		return measure(g, a);
	a->seen = before->seen;
	a->entry.size = before->entry.size;
	a->entry.sha256 = before->entry.sha256;
	return 0;
}

/* --- gathering
 * -------------------------------------------------------------------------------------------------- */

static int check_name(struct gathering *g, struct attachment *a)
{
	const char *slash = strrchr(a->path, '/');
	int rc = sosie_name_set(&a->entry.name, SOSIE_NAME_ATTACHMENT, slash ? slash + 1 : a->path, g->err);

	if (rc != 0)
		return sosie_err_wrap(g->err, "attachment %.200s", a->path);
	for (unsigned i = 0; i < g->count; i++)
		if (strcmp(g->list[i].entry.name.s, a->entry.name.s) == 0) {
			sosie_err_set(g->err, SOSIE_EUSAGE, "two attachments are named %s", a->entry.name.s);
			return sosie_err_action(g->err, "rename one, or leave it out");
		}
	return 0;
}

/* path: malloc'd, taken over. */
static int add(struct gathering *g, char *path, bool follow)
{
	struct attachment *a, *list;
	int rc;

	if (!path || g->count == SOSIE_ATTACHMENTS_MAX) {
		bool memory = !path;

		free(path);
		return memory ? sosie_err_set(g->err, SOSIE_ENOMEM, "no memory for attachments")
		              : sosie_err_set(g->err, SOSIE_EUSAGE, "at most %u attachments",
		                              SOSIE_ATTACHMENTS_MAX);
	}
	list = realloc(g->list, (g->count + 1) * sizeof(*list));
	if (!list) {
		free(path);
		return sosie_err_set(g->err, SOSIE_ENOMEM, "no memory for attachments");
	}
	g->list = list;
	a = &list[g->count];
	*a = (struct attachment){.path = path, .follow = follow};
	rc = check_name(g, a);
	g->count++; /* owned from here on, also when the name is not fit */
	return rc;
}

static int add_file_of_folder(void *arg, const char *name, enum sosie_file_kind kind)
{
	struct gathering *g = arg;
	char *path = NULL;

	if (kind != SOSIE_KIND_FILE)
		return 0;
	if (asprintf(&path, "%s/%s", g->folder, name) < 0)
		path = NULL;
	return add(g, path, false) != 0;
}

static int by_name(const void *a, const void *b)
{
	const struct attachment *x = a, *y = b;

	return strcmp(x->entry.name.s, y->entry.name.s);
}

static int add_folder(struct gathering *g, const char *path, const struct seen_file *seen)
{
	unsigned first = g->count;
	int rc;

	g->folders[g->folder_count++] = (struct attachment_folder){path, *seen};
	g->folder = path;
	rc = sosie_io_list(g->r->io, path, add_file_of_folder, g, g->err);
	if (rc > 0)
		return g->err ? -(int)g->err->code : -SOSIE_EUSAGE;
	if (rc == 0 && g->count > first)
		qsort(g->list + first, g->count - first, sizeof(*g->list), by_name);
	return rc < 0 ? sosie_err_wrap(g->err, "attachments in %.200s", path) : 0;
}

static int gather(struct gathering *g)
{
	const struct sosie_replicate_options *o = &g->r->o;
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < o->attachment_count; i++) {
		enum sosie_file_kind kind;
		struct seen_file seen;

		rc = look(g->r, o->attachments[i], true, &seen, &kind, g->err);
		if (rc != 0)
			return sosie_err_wrap(g->err, "attachment %.200s", o->attachments[i]);
		rc = kind == SOSIE_KIND_DIR ? add_folder(g, o->attachments[i], &seen)
		                            : add(g, strdup(o->attachments[i]), true);
	}
	return rc;
}

static int measure_all(struct gathering *g)
{
	uint64_t total = 0;
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < g->count; i++) {
		rc = measure_if_changed(g, &g->list[i]);
		total += rc == 0 ? g->list[i].entry.size : 0;
		if (rc == 0 && total > SOSIE_ATTACHMENTS_BYTES)
			rc = sosie_err_set(g->err, SOSIE_ESIZE,
			                   "attachments are larger than 64 MiB in all, with %s",
			                   g->list[i].entry.name.s);
	}
	return rc;
}

static void sum_up(struct sosie_replicator *r)
{
	memset(&r->attachments_digest, 0, sizeof(r->attachments_digest));
	if (r->attachment_count == 0)
		return;
	sosie_hash_start(r->hash, "sosie attach set");
	for (unsigned i = 0; i < r->attachment_count; i++) {
		sosie_hash_add_text(r->hash, r->attachments[i].entry.name.s);
		sosie_hash_add_u64(r->hash, r->attachments[i].entry.size);
		sosie_hash_add(r->hash, r->attachments[i].entry.sha256.b, SOSIE_DIGEST_LEN);
	}
	sosie_hash_end(r->hash, &r->attachments_digest);
}

static void free_list(struct attachment *list, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		free(list[i].path);
	free(list);
}

void attachments_free(struct sosie_replicator *r)
{
	free_list(r->attachments, r->attachment_count);
	free(r->folders);
	r->attachments = NULL;
	r->folders = NULL;
	r->attachment_count = r->folder_count = 0;
	r->attachments_known = false;
}

int attachments_measure(struct sosie_replicator *r, struct sosie_err *err)
{
	struct gathering g = {.r = r, .err = err};
	int rc;

	if (r->o.attachment_count == 0)
		r->attachments_known = true;
	if (attachments_unchanged(r))
		return 0;
	g.buf = malloc(READ_BYTES);
	g.folders = calloc(r->o.attachment_count, sizeof(*g.folders));
	rc = g.buf && g.folders ? gather(&g) : sosie_err_set(err, SOSIE_ENOMEM, "no memory for attachments");
	if (rc == 0)
		rc = measure_all(&g);
	free(g.buf);
	if (rc != 0) {
		free_list(g.list, g.count);
		free(g.folders);
		return rc;
	}
	attachments_free(r);
	r->attachments = g.list;
	r->attachment_count = g.count;
	r->folders = g.folders;
	r->folder_count = g.folder_count;
	r->attachments_known = true;
	sum_up(r);
	return 0;
}

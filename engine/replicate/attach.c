/* SPDX-License-Identifier: MIT */
/*
 * Attachments: files, and the regular files in folders (one level, by name, no links followed). Names, sizes
 * and SHA-256 are measured when stat shows a change, and kept between cycles. One digest over all tells
 * whether any changed since the accepted point. Files that the operator named come first, and what is wrong
 * with one is an error. What lies in a folder may be anybody's doing: a file there that cannot travel (unfit
 * name, a name that is taken, no room) is left out with a warning, the same ones whatever the order of
 * listing.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/replicate/internal.h"
#include "sosie/log.h"

#define READ_BYTES (256u << 10)
#define SETTLED_MS 20 /* changes within a tick of the filesystem's clock do not show */

struct gathering {
	struct sosie_replicator *r;
	struct attachment *list;
	unsigned count;
	struct attachment_folder *folders;
	unsigned folder_count;
	const char *folder; /* that is listed now */
	unsigned first;     /* its first file in list; from there on sorted by name */
	int failed;         /* in the listing: a code, err is set */
	unsigned skipped;
	uint64_t skipped_sum;
	char skipped_one[400]; /* one of them, and why */
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

static int refuse_link_to_folder(const char *path, struct sosie_err *err)
{
	sosie_err_set(err, SOSIE_ECONFIG, "%.200s is a link to a folder", path);
	return sosie_err_action(err, "name the folder itself");
}

/* The path with "." behind it is the folder that a link leads to. */
static bool leads_to_folder(struct sosie_io *io, const char *link)
{
	struct sosie_stat st;
	char *inside;
	bool folder;

	if (asprintf(&inside, "%s/.", link) < 0)
		return false;
	folder = sosie_io_stat(io, inside, &st, NULL) == 0 && st.kind == SOSIE_KIND_DIR;
	free(inside);
	return folder;
}

/* A file as it is now; a link to one is followed where the operator named it. */
static int look(struct sosie_replicator *r, const char *path, bool follow, struct seen_file *out,
                enum sosie_file_kind *kind, struct sosie_err *err)
{
	struct sosie_io *io = r->io;
	struct sosie_file *file;
	struct sosie_stat st;
	int rc = sosie_io_stat(io, path, &st, err);

	if (rc == 0 && st.kind == SOSIE_KIND_OTHER && follow) {
		if (leads_to_folder(io, path))
			return refuse_link_to_folder(path, err);
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

static bool name_taken(const struct gathering *g, unsigned count, const char *name)
{
	for (unsigned i = 0; i < count; i++)
		if (strcmp(g->list[i].entry.name.s, name) == 0)
			return true;
	return false;
}

/* Room for one more at index at; path: malloc'd or NULL, taken over. */
static int insert(struct gathering *g, unsigned at, char *path, bool follow, const struct sosie_name *name)
{
	struct attachment *list = path ? realloc(g->list, (g->count + 1) * sizeof(*list)) : NULL;

	if (!list) {
		free(path);
		return sosie_err_set(g->err, SOSIE_ENOMEM, "no memory for attachments");
	}
	g->list = list;
	memmove(list + at + 1, list + at, (g->count - at) * sizeof(*list));
	list[at] = (struct attachment){.path = path, .follow = follow, .entry = {.name = *name}};
	g->count++;
	return 0;
}

static int add_named(struct gathering *g, const char *path)
{
	const char *slash = strrchr(path, '/');
	struct sosie_name name;
	int rc = sosie_name_set(&name, SOSIE_NAME_ATTACHMENT, slash ? slash + 1 : path, g->err);

	if (rc != 0)
		return sosie_err_wrap(g->err, "attachment %.200s", path);
	if (name_taken(g, g->count, name.s)) {
		sosie_err_set(g->err, SOSIE_EUSAGE, "two attachments are named %s", name.s);
		return sosie_err_action(g->err, "rename one, or leave it out");
	}
	if (g->count == SOSIE_ATTACHMENTS_MAX)
		return sosie_err_set(g->err, SOSIE_EUSAGE, "at most %u attachments", SOSIE_ATTACHMENTS_MAX);
	return insert(g, g->count, strdup(path), true, &name);
}

static void skip(struct gathering *g, const char *name, const char *why)
{
	uint64_t sum =
	        14695981039346656037u; /* FNV-1a: only to see whether others are left out than before */
	char shown[300];

	for (const char *c = g->folder; *c; c++)
		sum = (sum ^ (uint8_t)*c) * 1099511628211u;
	for (const char *c = name; *c; c++)
		sum = (sum ^ (uint8_t)*c) * 1099511628211u;
	g->skipped_sum += sum;
	if (g->skipped++ == 0)
		snprintf(g->skipped_one, sizeof(g->skipped_one), "%s: %s",
		         sosie_escape(shown, sizeof(shown), name, strlen(name)), why);
}

/* Of a full list the last names give way. */
static bool make_room(struct gathering *g, const char *name)
{
	const char *over = name;
	bool room = g->count < SOSIE_ATTACHMENTS_MAX;
	char why[80];

	if (room)
		return true;
	room = g->count > g->first && strcmp(name, g->list[g->count - 1].entry.name.s) < 0;
	if (room)
		over = g->list[g->count - 1].entry.name.s;
	snprintf(why, sizeof(why), "at most %u attachments travel", SOSIE_ATTACHMENTS_MAX);
	skip(g, over, why);
	if (room)
		free(g->list[--g->count].path);
	return room;
}

static int add_file_of_folder(void *arg, const char *text, enum sosie_file_kind kind)
{
	struct gathering *g = arg;
	struct sosie_name name;
	char *path = NULL;
	unsigned at;

	if (kind != SOSIE_KIND_FILE)
		return 0;
	if (sosie_name_set(&name, SOSIE_NAME_ATTACHMENT, text, NULL) != 0)
		skip(g, text,
		     "allowed are a letter or digit, then letters, digits, '.', '_' and '-', 63 in all");
	else if (name_taken(g, g->first, name.s))
		skip(g, text, "another attachment has that name");
	else if (make_room(g, name.s)) {
		for (at = g->count; at > g->first && strcmp(g->list[at - 1].entry.name.s, name.s) > 0; at--)
			;
		if (asprintf(&path, "%s/%s", g->folder, name.s) < 0)
			path = NULL;
		g->failed = insert(g, at, path, false, &name);
	}
	return g->failed != 0;
}

static int add_folder(struct gathering *g, const char *path)
{
	int rc;

	g->folder = path;
	g->first = g->count;
	rc = sosie_io_list(g->r->io, path, add_file_of_folder, g, g->err);
	if (g->failed != 0)
		rc = g->failed;
	return rc != 0 ? sosie_err_wrap(g->err, "attachments in %.200s", path) : 0;
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
		if (kind == SOSIE_KIND_DIR)
			g->folders[g->folder_count++] = (struct attachment_folder){o->attachments[i], seen};
		else
			rc = add_named(g, o->attachments[i]);
	}
	for (unsigned i = 0; rc == 0 && i < g->folder_count; i++)
		rc = add_folder(g, g->folders[i].path);
	return rc;
}

/* Once for each set of files left out, not at every cycle. */
static void warn_of_skipped(const struct gathering *g)
{
	struct sosie_replicator *r = g->r;

	if (g->skipped > 0 && g->skipped_sum != r->attachments_skipped)
		sosie_log(SOSIE_LOG_WARNING,
		          "%s/%s: %u files in folders of attachments are left out, one is %s: rename or move "
		          "what is to travel",
		          r->o.tenant, r->o.group, g->skipped, g->skipped_one);
	r->attachments_skipped = g->skipped_sum;
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
	warn_of_skipped(&g);
	sum_up(r);
	return 0;
}

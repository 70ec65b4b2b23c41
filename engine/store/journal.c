/* SPDX-License-Identifier: MIT */
/* The journal: part files of points. N.seg is part 0 of point N, N.K.seg part K. Files are the keeper's own
 * and never change. */
#include <stdlib.h>
#include <string.h>

#include "engine/store/core.h"

int journal_path(const char *group_dir, uint64_t point, unsigned part, char dst[STORE_PATH],
                 struct sosie_err *err)
{
	if (part == 0)
		return store_path(dst, err, "%s/journal/%llu.seg", group_dir, (unsigned long long)point);
	return store_path(dst, err, "%s/journal/%llu.%u.seg", group_dir, (unsigned long long)point, part);
}

int journal_part_path(const struct sosie_group *g, uint64_t point, unsigned part, char dst[STORE_PATH],
                      struct sosie_err *err)
{
	return journal_path(g->dir, point, part, dst, err);
}

/* The point a journal file belongs to; false for other names. */
static bool parse_name(const char *name, uint64_t *point)
{
	char head[24];
	uint64_t part;
	const char *dot = strchr(name, '.');
	size_t len = dot ? (size_t)(dot - name) : sizeof(head);
	if (len == 0 || len >= sizeof(head))
		return false;
	memcpy(head, name, len);
	head[len] = '\0';
	if (!layout_number(head, "", point))
		return false;
	return strcmp(dot, ".seg") == 0 || layout_number(dot + 1, ".seg", &part);
}

struct removal {
	struct sosie_group *g;
	uint64_t low, high; /* points to remove */
	bool any;
	int rc;
	struct sosie_err *err;
};

static int remove_one(void *arg, const char *name, enum sosie_file_kind kind)
{
	struct removal *r = arg;
	char path[STORE_PATH];
	uint64_t point;
	(void)kind;
	if (!parse_name(name, &point) || point < r->low || point > r->high)
		return 0;
	r->any = true;
	r->rc = store_path(path, r->err, "%s/journal/%s", r->g->dir, name);
	if (!r->rc)
		r->rc = layout_remove(r->g->store->io, path, r->err);
	return r->rc != 0;
}

/* Listing while removing may skip names, so until a pass finds none. */
static int remove_range(struct sosie_group *g, uint64_t low, uint64_t high, struct sosie_err *err)
{
	struct removal r = {.g = g, .low = low, .high = high, .err = err};
	char dir[STORE_PATH];
	int rc = store_path(dir, err, "%s/journal", g->dir);
	do {
		r.any = false;
		if (!rc)
			rc = sosie_io_list(g->store->io, dir, remove_one, &r, err);
		rc = r.rc ? r.rc : rc < 0 ? rc : 0;
	} while (!rc && r.any);
	return rc;
}

int journal_drop_stale(struct sosie_group *g, struct sosie_err *err)
{
	return remove_range(g, chain_newest_point(g->chain) + 1, UINT64_MAX, err);
}

int journal_remove(struct sosie_group *g, uint64_t point, struct sosie_err *err)
{
	return remove_range(g, point, point, err);
}

struct sweep {
	struct sosie_group *g;
	bool (*gone)(void *arg, uint64_t point);
	bool (*stop)(void *arg);
	void *arg;
	bool any, stopped;
	int rc;
	struct sosie_err *err;
};

static int sweep_one(void *arg, const char *name, enum sosie_file_kind kind)
{
	struct sweep *s = arg;
	char path[STORE_PATH];
	uint64_t point;
	(void)kind;
	if (!parse_name(name, &point) || !s->gone(s->arg, point))
		return 0;
	s->stopped = s->stop && s->stop(s->arg);
	if (s->stopped)
		return 1;
	s->any = true;
	s->rc = store_path(path, s->err, "%s/journal/%s", s->g->dir, name);
	if (!s->rc)
		s->rc = layout_remove(s->g->store->io, path, s->err);
	return s->rc != 0;
}

int journal_sweep(struct sosie_group *g, bool (*gone)(void *arg, uint64_t point), bool (*stop)(void *arg),
                  void *arg, struct sosie_err *err)
{
	struct sweep s = {.g = g, .gone = gone, .stop = stop, .arg = arg, .err = err};
	char dir[STORE_PATH];
	int rc = store_path(dir, err, "%s/journal", g->dir);
	do {
		s.any = false;
		if (!rc)
			rc = sosie_io_list(g->store->io, dir, sweep_one, &s, err);
		rc = s.rc ? s.rc : rc < 0 ? rc : 0;
	} while (!rc && s.any && !s.stopped);
	if (!rc && s.stopped)
		rc = sosie_err_set(err, SOSIE_EBUSY, "stopped because another process waits for the group");
	return rc;
}

/* Exactly length bytes: the source may be longer, and may change while we read; digests are checked on our
 * copy. */
static int copy_bytes(struct sosie_io *io, struct sosie_file *src, struct sosie_file *dst, uint64_t length,
                      struct sosie_err *err)
{
	uint8_t *block = aligned_alloc(SOSIE_LEAF, STORE_BLOCK);
	size_t got = 0;
	int rc = block ? 0 : sosie_err_set(err, SOSIE_ENOMEM, "no memory to copy a part");
	for (uint64_t at = 0; !rc && at < length; at += got) {
		size_t len = length - at < STORE_BLOCK ? (size_t)(length - at) : STORE_BLOCK;
		rc = sosie_io_pread(io, src, block, len, at, &got, err);
		if (!rc && got == 0)
			break; /* it became shorter: the digest will tell */
		if (!rc)
			rc = sosie_io_pwrite(io, dst, block, got, at, err);
	}
	free(block);
	return rc;
}

int journal_take(struct sosie_group *g, uint64_t point, unsigned part, struct sosie_file *src,
                 uint64_t length, struct sosie_err *err)
{
	struct sosie_io *io = g->store->io;
	struct sosie_file *dst = NULL;
	char path[STORE_PATH];
	int rc = journal_part_path(g, point, part, path, err);
	if (!rc)
		rc = sosie_io_openat(io, path, SOSIE_READ | SOSIE_WRITE | SOSIE_CREATE | SOSIE_EXCL, 0440,
		                     &dst, err);
	if (rc)
		return rc;
	rc = g->store->info.reflink && length ? sosie_io_clone(io, src, dst, NULL) : -SOSIE_EUNSUPPORTED;
	rc = rc ? copy_bytes(io, src, dst, length, err) : 0;
	if (!rc)
		rc = sosie_io_truncate(io, dst, length, err);
	if (!rc)
		rc = sosie_io_fsync(io, dst, err);
	int closed = sosie_io_close(io, dst, rc ? NULL : err);
	return rc ? rc : closed;
}

int journal_sync(struct sosie_group *g, struct sosie_err *err)
{
	char dir[STORE_PATH];
	int rc = store_path(dir, err, "%s/journal", g->dir);
	return rc ? rc : sosie_io_sync_dir(g->store->io, dir, err);
}

struct telling {
	struct sosie_group *g;
	void (*fn)(void *arg, uint64_t point, uint64_t bytes);
	void *arg;
};

static int tell_one(void *arg, const char *name, enum sosie_file_kind kind)
{
	struct telling *t = arg;
	char path[STORE_PATH];
	struct sosie_stat st;
	uint64_t point;
	if (kind == SOSIE_KIND_FILE && parse_name(name, &point) &&
	    !store_path(path, NULL, "%s/journal/%s", t->g->dir, name) &&
	    !sosie_io_stat(t->g->store->io, path, &st, NULL))
		t->fn(t->arg, point, st.size);
	return 0;
}

int journal_files(struct sosie_group *g, void (*fn)(void *arg, uint64_t point, uint64_t bytes), void *arg,
                  struct sosie_err *err)
{
	struct telling t = {.g = g, .fn = fn, .arg = arg};
	char dir[STORE_PATH];
	int rc = store_path(dir, err, "%s/journal", g->dir);
	if (!rc)
		rc = sosie_io_list(g->store->io, dir, tell_one, &t, err);
	return rc < 0 ? rc : 0;
}

struct counting {
	uint64_t after, total, since;
};

static void count_one(void *arg, uint64_t point, uint64_t bytes)
{
	struct counting *c = arg;
	c->total += bytes;
	c->since += point > c->after ? bytes : 0;
}

int journal_usage(struct sosie_group *g, uint64_t after, uint64_t *total, uint64_t *since,
                  struct sosie_err *err)
{
	struct counting c = {.after = after};
	int rc = journal_files(g, count_one, &c, err);
	if (total)
		*total = c.total;
	if (since)
		*since = c.since;
	return rc;
}

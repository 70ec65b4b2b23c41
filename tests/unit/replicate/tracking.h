/* SPDX-License-Identifier: MIT */
/*
 * A source driver for tests that keeps views: a view is a folder with copies of the volumes, changes are
 * found by comparing two copies leaf by leaf. It counts what is asked of it, and can be "dead": then nothing
 * that would clean up after a failure happens, as after a kill.
 */
#ifndef TESTS_REPLICATE_TRACKING_H
#define TESTS_REPLICATE_TRACKING_H

#include "engine/replicate/internal.h"
#include "tests/unit/replicate/harness.h"

#define TRACKED_LEAF 4096u

struct tracking {
	struct sosie_source base;
	struct harness *h;
	char dir[128];
};

/* Over all instances: a test has one at a time. */
static struct {
	bool dead;
	bool with_base; /* the last cut was asked for with one: its changes are told */
	enum sosie_consistency label;
	unsigned cuts, reopened, based, dropped;
	unsigned serial;
	/* At the end of the last volume, the first one's file in the view (or the base) loses its name and is
	 * emptied, as by who gives space back; taken back once it was done. */
	bool empty_view, empty_base;
} tracked;

struct sosie_view {
	struct tracking *t;
	struct sosie_view_id id, base; /* base empty: none */
	unsigned count;
	char path[4][224], base_path[4][224];
	uint64_t size[4], base_size[4];
};

static void tracked_name(const struct tracking *t, const struct sosie_view_id *id, const char *volume,
                         char dst[224])
{
	snprintf(dst, 224, "%s/%s%s%s", t->dir, id->s, volume ? "/" : "", volume ? volume : "");
}

static bool tracked_there(struct tracking *t, const struct sosie_view_id *id)
{
	char path[224];

	if (!id || !id->s[0])
		return false;
	tracked_name(t, id, NULL, path);
	return sosie_io_exists(t->h->io, path);
}

static unsigned tracked_views(struct harness *h); /* how many there are */

struct tracked_sweep {
	const struct sosie_view_id *ids;
	unsigned count, found;
	char names[16][SOSIE_VIEW_ID];
	unsigned strays;
};

static int tracked_look(void *arg, const char *name, enum sosie_file_kind kind)
{
	struct tracked_sweep *s = arg;
	bool named = false;

	(void)kind;
	s->found++;
	for (unsigned i = 0; i < s->count; i++)
		named = named || strcmp(s->ids[i].s, name) == 0;
	if (!named && s->strays < 16)
		snprintf(s->names[s->strays++], SOSIE_VIEW_ID, "%s", name);
	return 0;
}

static int tracked_drop(struct sosie_source *source, const struct sosie_view_id *id, struct sosie_err *err)
{
	struct tracking *t = (struct tracking *)source;
	char path[224];

	if (tracked.dead)
		return 0;
	tracked.dropped++;
	tracked_name(t, id, NULL, path);
	return sosie_io_remove_tree(t->h->io, path, err);
}

static int tracked_settle(struct sosie_source *source, const struct sosie_view_id *ids, unsigned count,
                          bool *held, struct sosie_err *err)
{
	struct tracking *t = (struct tracking *)source;
	struct tracked_sweep s = {.ids = ids, .count = count};
	int rc = sosie_io_list(t->h->io, t->dir, tracked_look, &s, err);

	for (unsigned i = 0; rc == 0 && i < s.strays; i++) {
		struct sosie_view_id id;

		snprintf(id.s, sizeof(id.s), "%s", s.names[i]);
		rc = tracked_drop(source, &id, err);
	}
	for (unsigned i = 0; i < count; i++)
		held[i] = tracked_there(t, &ids[i]);
	return rc;
}

static bool equal_files(const char *a, const char *b)
{
	char x[TRACKED_LEAF], y[TRACKED_LEAF];
	FILE *f = fopen(a, "re"), *g = fopen(b, "re");
	bool same = f && g;
	size_t n = 1;

	while (same && n > 0) {
		n = fread(x, 1, sizeof(x), f);
		same = fread(y, 1, sizeof(y), g) == n && memcmp(x, y, n) == 0;
	}
	if (f)
		fclose(f);
	if (g)
		fclose(g);
	return same;
}

static bool tracked_unchanged(struct sosie_source *source, const struct sosie_view_id *id)
{
	struct tracking *t = (struct tracking *)source;
	char path[224];

	for (unsigned i = 0; i < t->h->volume_count; i++) {
		tracked_name(t, id, t->h->volumes[i].name.s, path);
		if (!equal_files(path, t->h->volumes[i].path))
			return false;
	}
	return true;
}

static int tracked_facts(struct sosie_source *s, struct sosie_cut_facts *out, struct sosie_err *err)
{
	(void)s;
	(void)err;
	*out = (struct sosie_cut_facts){0};
	return 0;
}

static struct sosie_view *tracked_view(struct tracking *t, const struct sosie_view_id *base,
                                       const struct sosie_view_id *id)
{
	struct sosie_view *v = calloc(1, sizeof(*v));
	struct stat st;

	assert_non_null(v);
	v->t = t;
	v->id = *id;
	v->count = t->h->volume_count;
	if (tracked_there(t, base)) {
		v->base = *base;
		tracked.based++;
	}
	for (unsigned i = 0; i < v->count; i++) {
		tracked_name(t, id, t->h->volumes[i].name.s, v->path[i]);
		if (stat(v->path[i], &st) == 0)
			v->size[i] = (uint64_t)st.st_size;
		if (!v->base.s[0])
			continue;
		tracked_name(t, base, t->h->volumes[i].name.s, v->base_path[i]);
		if (stat(v->base_path[i], &st) == 0)
			v->base_size[i] = (uint64_t)st.st_size;
		else
			v->base_path[i][0] = '\0';
	}
	return v;
}

static void copy_file(struct harness *h, const char *from, const char *to)
{
	struct sosie_file *src, *dst;
	bool cloned;

	must(sosie_io_openat(h->io, from, SOSIE_READ, 0, &src, &h->err), &h->err);
	must(sosie_io_openat(h->io, to, SOSIE_WRITE | SOSIE_READ | SOSIE_CREATE | SOSIE_EXCL, 0600, &dst,
	                     &h->err),
	     &h->err);
	must(sosie_io_copy(h->io, src, dst, &cloned, NULL, &h->err), &h->err);
	sosie_io_close(h->io, src, NULL);
	sosie_io_close(h->io, dst, NULL);
}

static int tracked_cut(struct sosie_source *source, const struct sosie_view_id *base,
                       struct sosie_view **view, struct sosie_err *err)
{
	struct tracking *t = (struct tracking *)source;
	struct sosie_view_id id;
	char path[224];

	(void)err;
	snprintf(id.s, sizeof(id.s), "f%015x", ++tracked.serial);
	tracked_name(t, &id, NULL, path);
	must(sosie_io_mkdir(t->h->io, path, 0700, &t->h->err), &t->h->err);
	for (unsigned i = 0; i < t->h->volume_count; i++) {
		tracked_name(t, &id, t->h->volumes[i].name.s, path);
		copy_file(t->h, t->h->volumes[i].path, path);
	}
	tracked.cuts++;
	tracked.with_base = base != NULL;
	*view = tracked_view(t, base, &id);
	return 0;
}

static int tracked_reopen(struct sosie_source *source, const struct sosie_view_id *base,
                          const struct sosie_view_id *id, struct sosie_view **view, struct sosie_err *err)
{
	struct tracking *t = (struct tracking *)source;

	if (!tracked_there(t, id))
		return sosie_err_set(err, SOSIE_ENOTFOUND, "no view %s", id->s);
	tracked.reopened++;
	tracked.with_base = base != NULL;
	*view = tracked_view(t, base, id);
	return 0;
}

static void tracked_id(const struct sosie_view *view, struct sosie_view_id *out)
{
	*out = view->id;
}

static int tracked_path(struct sosie_view *view, unsigned volume, const char **path, uint64_t *size,
                        struct sosie_err *err)
{
	(void)err;
	*path = view->path[volume];
	*size = view->size[volume];
	return 0;
}

static const char *tracked_base_path(struct sosie_view *view, unsigned volume, uint64_t *size)
{
	*size = view->base_size[volume];
	return view->base_path[volume][0] ? view->base_path[volume] : NULL;
}

static bool leaf_same(const struct sosie_view *v, unsigned i, uint64_t at)
{
	uint8_t x[TRACKED_LEAF], y[TRACKED_LEAF];
	int a = open(v->path[i], O_RDONLY | O_CLOEXEC), b = open(v->base_path[i], O_RDONLY | O_CLOEXEC);
	ssize_t n = a < 0 ? -1 : pread(a, x, sizeof(x), (off_t)at),
	        m = b < 0 ? -1 : pread(b, y, sizeof(y), (off_t)at);

	if (a >= 0)
		close(a);
	if (b >= 0)
		close(b);
	return n > 0 && n == m && memcmp(x, y, (size_t)n) == 0;
}

static void tracked_empty(bool *asked, const char *path)
{
	int fd = *asked ? open(path, O_WRONLY | O_CLOEXEC) : -1;

	if (!*asked)
		return;
	*asked = false;
	assert_true(fd >= 0);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(ftruncate(fd, 0), 0);
	close(fd);
}

/* Extents of one kind, leaf by leaf; without a base all is data. */
static int tracked_next(struct sosie_view *v, unsigned i, struct sosie_io *io, struct sosie_file *file,
                        uint64_t from, struct sosie_extent *out, struct sosie_err *err)
{
	uint64_t end;
	bool same;

	(void)io;
	(void)file;
	(void)err;
	*out = (struct sosie_extent){SOSIE_EXTENT_END, v->size[i], v->size[i]};
	if (from >= v->size[i]) {
		if (i + 1 == v->count)
			tracked_empty(&tracked.empty_view, v->path[0]);
		if (i + 1 == v->count && v->base.s[0])
			tracked_empty(&tracked.empty_base, v->base_path[0]);
		return 0;
	}
	*out = (struct sosie_extent){SOSIE_EXTENT_DATA, from, v->size[i]};
	if (!v->base_path[i][0])
		return 0;
	same = leaf_same(v, i, from);
	for (end = from; end < v->size[i] && leaf_same(v, i, end) == same;)
		end += TRACKED_LEAF - end % TRACKED_LEAF;
	out->end = end < v->size[i] ? end : v->size[i];
	out->kind = same ? SOSIE_EXTENT_SAME : SOSIE_EXTENT_DATA;
	return 0;
}

static int tracked_release(struct sosie_view *view, bool keep, enum sosie_consistency *consistency,
                           struct sosie_err *err)
{
	int rc = keep ? 0 : tracked_drop(&view->t->base, &view->id, err);

	*consistency = tracked.label;
	free(view);
	return rc;
}

static void tracked_destroy(struct sosie_source *source)
{
	free(source);
}

static const struct sosie_source_ops tracking_ops = {
        "tracking",      tracked_settle, tracked_unchanged, tracked_facts, tracked_cut,     tracked_reopen,
        tracked_id,      tracked_path,   tracked_base_path, tracked_next,  tracked_release, tracked_drop,
        tracked_destroy, NULL,
};

static struct sosie_source *make_tracking(struct harness *h)
{
	struct tracking *t = calloc(1, sizeof(*t));

	assert_non_null(t);
	t->base.ops = &tracking_ops;
	t->h = h;
	snprintf(t->dir, sizeof(t->dir), "%s/views", h->dir);
	must(sosie_io_ensure_dir(h->io, t->dir, 0700, &h->err), &h->err);
	return &t->base;
}

/* As a process that is killed: no orderly close makes good what was not saved, no view is removed. */
static inline void tracked_kill(struct harness *h)
{
	h->r->redo_checked = false; /* redo_end saves nothing */
	tracked.dead = true;
	close_replicator(h);
	tracked.dead = false;
}

static unsigned tracked_views(struct harness *h)
{
	struct tracked_sweep s = {0};
	char dir[128];

	snprintf(dir, sizeof(dir), "%s/views", h->dir);
	must(sosie_io_list(h->io, dir, tracked_look, &s, &h->err), &h->err);
	return s.found;
}

#endif

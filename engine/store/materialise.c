/* SPDX-License-Identifier: MIT */
/* Making a point's images in a folder of their own: the nearest generation, then the journal. A generation
 * that turns out damaged is passed over for an older one, as far back as no point between was pruned: the
 * journal leads to the same point from each. */
#include <string.h>

#include "engine/store/pruned.h"

/* How often the way is looked for anew, because a prune took the generation that was tried. */
#define PRUNED_UNDER_US 3

struct stop {
	bool (*fn)(void *arg);
	void *arg;
};

static int copy_file(struct sosie_io *io, const char *from, const char *to, struct sosie_progress *progress,
                     struct sosie_err *err)
{
	struct sosie_file *src = NULL, *dst = NULL;
	bool cloned;
	int rc = sosie_io_openat(io, from, SOSIE_READ, 0, &src, err);
	if (!rc)
		rc = sosie_io_openat(io, to, SOSIE_READ | SOSIE_WRITE | SOSIE_CREATE | SOSIE_EXCL, 0640, &dst,
		                     err);
	if (!rc)
		rc = sosie_io_copy(io, src, dst, &cloned, progress, err);
	if (!rc)
		rc = sosie_io_fsync(io, dst, err);
	sosie_io_close(io, src, NULL);
	int closed = sosie_io_close(io, dst, rc ? NULL : err);
	return rc ? rc : closed;
}

int images_copy(struct sosie_io *io, const char *from, const char *to, const struct sosie_manifest *m,
                struct sosie_progress *progress, struct sosie_err *err)
{
	static const char *const suffixes[] = {"raw", "tree"};
	char src[STORE_PATH], dst[STORE_PATH];
	int rc = 0;
	for (unsigned i = 0; !rc && i < 2 * m->volume_count; i++) {
		rc = store_path(src, err, "%s/%s.%s", from, m->volumes[i / 2].name.s, suffixes[i % 2]);
		if (!rc)
			rc = store_path(dst, err, "%s/%s.%s", to, m->volumes[i / 2].name.s, suffixes[i % 2]);
		if (!rc)
			rc = copy_file(io, src, dst, progress, err);
	}
	return rc;
}

/* The set in the shape of m: as it is, or made durable, closed and opened anew. So too when it made images in
 * the segment before: patches and deltas read what was just written, which must not wait for the disk. */
static int follow_shape(struct sosie_group *g, const char *dir, const struct sosie_manifest *m,
                        struct image_set **set, struct sosie_err *err)
{
	if (*set && !(*set)->direct && images_match(*set, m))
		return 0;
	int rc = *set ? images_sync(*set, err) : 0;
	int closed = images_close(*set, rc ? NULL : err);
	*set = NULL;
	rc = rc ? rc : closed;
	return rc ? rc : images_open_mode(g, dir, m, IMAGES_CREATE, set, err);
}

static int replay(struct sosie_group *g, uint64_t generation, uint64_t point, const char *dir,
                  const struct stop *stop, struct sosie_progress *progress, struct sosie_err *err)
{
	struct image_set *set = NULL;
	int rc = 0;
	for (uint64_t p = generation ? generation : 1; !rc && p <= point; p++) {
		struct sosie_manifest m = {0};
		rc = sosie_group_manifest(g, p, &m, err);
		if (!rc)
			rc = follow_shape(g, dir, &m, &set, err);
		if (!rc && p > generation)
			rc = images_apply(set, &m, p, stop->fn, stop->arg, progress, err);
		if (!rc && p == point)
			rc = images_check_roots(set, &m, err);
		sosie_manifest_fini(&m);
	}
	if (!rc && set)
		rc = images_sync(set, err);
	int closed = images_close(set, rc ? NULL : err);
	return rc ? rc : closed;
}

static int attempt(struct sosie_group *g, uint64_t generation, uint64_t point, const char *dir,
                   const struct stop *stop, struct sosie_progress *progress, struct sosie_err *err)
{
	struct sosie_manifest m = {0};
	char from[STORE_PATH];
	int rc = sosie_io_mkdir(g->store->io, dir, 0750, err);
	if (rc)
		return rc;
	if (generation) {
		rc = sosie_group_manifest(g, generation, &m, err);
		if (!rc)
			rc = store_path(from, err, "%s/generations/%llu", g->dir,
			                (unsigned long long)generation);
		if (!rc)
			rc = images_copy(g->store->io, from, dir, &m, progress, err);
		sosie_manifest_fini(&m);
	}
	if (!rc)
		rc = replay(g, generation, point, dir, stop, progress, err);
	if (!rc)
		rc = sosie_io_sync_dir(g->store->io, dir, err);
	if (rc)
		sosie_io_remove_tree(g->store->io, dir, NULL);
	return rc;
}

static int no_way(const struct sosie_group *g, uint64_t generation, uint64_t point, struct sosie_err *err)
{
	sosie_err_set(
	        err, SOSIE_ECORRUPT,
	        "%s/%s: the generation that point %llu is made of is missing: points between %llu and it "
	        "were pruned",
	        g->tenant.s, g->name.s, (unsigned long long)point, (unsigned long long)generation);
	return sosie_err_action(err, "see what else is missing: sosie verify %s/%s", g->tenant.s, g->name.s);
}

/* Each generation from the nearest back. *nearest: the one that was tried first. */
static int try_all(struct sosie_group *g, const struct pruned *gone, uint64_t point, const char *dir,
                   const struct stop *stop, uint64_t *nearest, struct sosie_progress *progress,
                   struct sosie_err *err)
{
	uint64_t limit = point, generation;
	bool first = true;
	int rc;
	do {
		rc = sosie_group_generation(g, limit, &generation, first ? err : NULL);
		if (rc)
			return rc;
		if (pruned_any(gone, generation + 1, point))
			return first ? no_way(g, generation, point, err) : -(int)err->code;
		rc = attempt(g, generation, point, dir, stop, progress, err);
		*nearest = first ? generation : *nearest;
		first = false;
		limit = generation ? generation - 1 : 0;
	} while ((rc == -SOSIE_ECORRUPT || rc == -SOSIE_ENOTFOUND) && generation > 0);
	return rc;
}

int images_materialise_until(struct sosie_group *g, uint64_t point, const char *dir, bool (*stop)(void *arg),
                             void *arg, struct sosie_progress *progress, struct sosie_err *err)
{
	const struct stop when = {stop, arg};
	struct sosie_err mine;
	struct pruned gone;
	uint64_t nearest = 0, now = 0;
	int rc = 0;
	sosie_err_clear(&mine);
	for (int i = 0; i < PRUNED_UNDER_US; i++) {
		/* A record that cannot be read keeps nobody from what is there. */
		if (pruned_read(g, &gone, NULL))
			memset(&gone, 0, sizeof(gone));
		rc = pruned_find(&gone, point)
		             ? pruned_refuse(g, &gone, point, &mine)
		             : try_all(g, &gone, point, dir, &when, &nearest, progress, &mine);
		const bool refused = pruned_find(&gone, point) != NULL;
		pruned_fini(&gone);
		if (refused || rc != -SOSIE_ENOTFOUND || sosie_group_generation(g, point, &now, NULL) ||
		    now == nearest)
			break;
	}
	if (rc && err)
		*err = mine;
	return rc;
}

int images_materialise(struct sosie_group *g, uint64_t point, const char *dir,
                       struct sosie_progress *progress, struct sosie_err *err)
{
	return images_materialise_until(g, point, dir, NULL, NULL, progress, err);
}

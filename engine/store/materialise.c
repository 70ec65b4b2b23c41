/* SPDX-License-Identifier: MIT */
/* Making a point's images in a folder of their own: the nearest generation, then the journal. A generation
 * that turns out damaged is passed over for an older one: the journal leads to the same point from each. */
#include <string.h>

#include "engine/store/core.h"

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
                  struct sosie_progress *progress, struct sosie_err *err)
{
	struct image_set *set = NULL;
	int rc = 0;
	for (uint64_t p = generation ? generation : 1; !rc && p <= point; p++) {
		struct sosie_manifest m = {0};
		rc = sosie_group_manifest(g, p, &m, err);
		if (!rc)
			rc = follow_shape(g, dir, &m, &set, err);
		if (!rc && p > generation)
			rc = images_apply(set, &m, p, NULL, NULL, progress, err);
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
                   struct sosie_progress *progress, struct sosie_err *err)
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
		rc = replay(g, generation, point, dir, progress, err);
	if (!rc)
		rc = sosie_io_sync_dir(g->store->io, dir, err);
	if (rc)
		sosie_io_remove_tree(g->store->io, dir, NULL);
	return rc;
}

int images_materialise(struct sosie_group *g, uint64_t point, const char *dir,
                       struct sosie_progress *progress, struct sosie_err *err)
{
	uint64_t limit = point, generation;
	int rc;
	do {
		rc = sosie_group_generation(g, limit, &generation, err);
		if (!rc)
			rc = attempt(g, generation, point, dir, progress, err);
		limit = generation ? generation - 1 : 0;
	} while ((rc == -SOSIE_ECORRUPT || rc == -SOSIE_ENOTFOUND) && generation > 0);
	return rc;
}

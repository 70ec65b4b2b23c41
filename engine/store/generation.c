/* SPDX-License-Identifier: MIT */
/* Generations: complete, immutable images of a point, made from a clean head. One appears whole, by a rename.
 */
#include <string.h>

#include "engine/store/core.h"

#define NO_REFLINK_FACTOR 8u

static int count_usage(struct sosie_group *g, struct store_memo **out, struct sosie_err *err)
{
	uint64_t newest = chain_newest_point(g->chain), generation;
	struct store_memo *memo;
	int rc = memo_get(g->store, g->tenant.s, g->name.s, &memo, err);
	if (!rc)
		rc = sosie_group_generation(g, newest, &generation, err);
	if (rc)
		return rc;
	*out = memo;
	if (memo->counted && memo->counted_point == newest && memo->counted_generation == generation)
		return 0;
	rc = journal_usage(g, generation, &memo->journal_bytes, &memo->since_bytes, err);
	memo->counted = !rc;
	memo->counted_point = newest;
	memo->counted_generation = generation;
	return rc;
}

int generation_due(struct sosie_group *g, bool *due, struct sosie_err *err)
{
	const struct sosie_policy *policy = &g->store->info.policy;
	uint64_t factor = g->store->info.reflink ? 1 : NO_REFLINK_FACTOR;
	struct store_memo *memo;
	*due = false;
	int rc = count_usage(g, &memo, err);
	if (!rc && memo->counted_point > memo->counted_generation)
		*due = memo->since_bytes > policy->fold_bytes * factor ||
		       memo->counted_point - memo->counted_generation > policy->fold_points * factor;
	return rc;
}

static int remove_leftover(void *arg, const char *name, enum sosie_file_kind kind)
{
	struct sosie_group *g = arg;
	char path[STORE_PATH];
	size_t len = strlen(name);
	(void)kind;
	if (len > 4 && strcmp(name + len - 4, ".tmp") == 0 &&
	    !store_path(path, NULL, "%s/generations/%s", g->dir, name))
		sosie_io_remove_tree(g->store->io, path, NULL);
	return 0;
}

static int seal(struct sosie_group *g, const char *dir, const struct sosie_manifest *m,
                const struct sosie_point *p, struct sosie_err *err)
{
	char path[STORE_PATH];
	int rc = store_path(path, err, "%s/generation.json", dir);
	if (rc)
		return rc;
	struct sosie_json *j = sosie_json_new();
	sosie_json_set_u64(j, "format", STORE_FORMAT);
	sosie_json_set_u64(j, "point", p->point);
	sosie_json_set_hex(j, "manifest", p->manifest.b, sizeof(p->manifest.b));
	layout_set_time(j, "time", sosie_wall_ms(g->store->clock));
	rc = layout_write_json(g->store->io, path, j, 0440, err);
	for (unsigned i = 0; !rc && i < 2 * m->volume_count; i++) {
		rc = store_path(path, err, "%s/%s.%s", dir, m->volumes[i / 2].name.s, i % 2 ? "tree" : "raw");
		if (!rc)
			rc = sosie_io_chmod(g->store->io, path, 0440, err);
	}
	return rc ? rc : sosie_io_sync_dir(g->store->io, dir, err);
}

static int fill(struct sosie_group *g, const char *tmp, uint64_t point, struct sosie_progress *progress,
                struct sosie_err *err)
{
	char head[STORE_PATH];
	struct sosie_manifest m = {0};
	struct sosie_point p;
	int rc = store_path(head, err, "%s/head", g->dir);
	if (!rc)
		rc = sosie_group_point(g, point, &p, err);
	if (!rc)
		rc = sosie_group_manifest(g, point, &m, err);
	if (!rc)
		rc = sosie_io_mkdir(g->store->io, tmp, 0750, err);
	if (!rc)
		rc = images_copy(g->store->io, head, tmp, &m, progress, err);
	if (!rc)
		rc = seal(g, tmp, &m, &p, err);
	sosie_manifest_fini(&m);
	return rc;
}

int generation_make(struct sosie_group *g, struct sosie_progress *progress, struct sosie_err *err)
{
	struct sosie_io *io = g->store->io;
	uint64_t point = chain_newest_point(g->chain);
	char parent[STORE_PATH], dir[STORE_PATH], tmp[STORE_PATH];
	if (point == 0)
		return sosie_err_set(err, SOSIE_ENOTFOUND, "%s/%s has no point to make a generation of",
		                     g->tenant.s, g->name.s);
	int rc = store_path(parent, err, "%s/generations", g->dir);
	if (!rc)
		rc = store_path(dir, err, "%s/%llu", parent, (unsigned long long)point);
	if (!rc)
		rc = store_path(tmp, err, "%s.tmp", dir);
	if (rc || sosie_io_exists(io, dir))
		return rc;
	rc = sosie_io_list(io, parent, remove_leftover, g, err);
	rc = rc < 0 ? rc : head_clean(g, err);
	if (!rc)
		rc = fill(g, tmp, point, progress, err);
	if (!rc)
		rc = sosie_io_rename(io, tmp, dir, err);
	if (!rc)
		rc = sosie_io_sync_dir(io, parent, err);
	if (rc)
		sosie_io_remove_tree(io, tmp, NULL);
	return rc;
}

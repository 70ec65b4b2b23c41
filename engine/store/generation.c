/* SPDX-License-Identifier: MIT */
/* Generations: complete, immutable images of a point, made from a clean head, or (for points that retention
 * keeps) from the generation before and the journal. One appears whole, and goes, by a rename. */
#include <stdlib.h>
#include <string.h>

#include "engine/store/policy.h"

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
	struct sosie_policy policy;
	uint64_t factor = g->store->info.reflink ? 1 : NO_REFLINK_FACTOR;
	struct store_memo *memo;
	*due = false;
	policy_fold(g, &policy);
	int rc = count_usage(g, &memo, err);
	if (!rc && memo->counted_point > memo->counted_generation)
		*due = memo->since_bytes > policy.fold_bytes * factor ||
		       memo->counted_point - memo->counted_generation > policy.fold_points * factor;
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

/* Where images come from: the head, which is at the point, or the journal. */
struct making {
	uint64_t point;
	bool of_head;
	bool (*stop)(void *arg);
	void *arg;
	struct sosie_progress *progress;
};

static int fill(struct sosie_group *g, const char *tmp, const struct making *how, struct sosie_err *err)
{
	char head[STORE_PATH];
	struct sosie_manifest m = {0};
	struct sosie_point p;
	int rc = store_path(head, err, "%s/head", g->dir);
	if (!rc)
		rc = sosie_group_point(g, how->point, &p, err);
	if (!rc)
		rc = sosie_group_manifest(g, how->point, &m, err);
	if (!rc && how->of_head)
		rc = sosie_io_mkdir(g->store->io, tmp, 0750, err);
	if (!rc)
		rc = how->of_head ? images_copy(g->store->io, head, tmp, &m, how->progress, err)
		                  : images_materialise_until(g, how->point, tmp, how->stop, how->arg,
		                                             how->progress, err);
	if (!rc)
		rc = seal(g, tmp, &m, &p, err);
	sosie_manifest_fini(&m);
	return rc;
}

static int make(struct sosie_group *g, const struct making *how, struct sosie_err *err)
{
	struct sosie_io *io = g->store->io;
	char parent[STORE_PATH], dir[STORE_PATH], tmp[STORE_PATH];
	int rc = store_path(parent, err, "%s/generations", g->dir);
	if (!rc)
		rc = store_path(dir, err, "%s/%llu", parent, (unsigned long long)how->point);
	if (!rc)
		rc = store_path(tmp, err, "%s.tmp", dir);
	if (rc || sosie_io_exists(io, dir))
		return rc;
	rc = generation_sweep(g, err);
	if (!rc && how->of_head)
		rc = head_clean(g, err);
	if (!rc)
		rc = fill(g, tmp, how, err);
	if (!rc)
		rc = sosie_io_rename(io, tmp, dir, err);
	if (!rc)
		rc = sosie_io_sync_dir(io, parent, err);
	if (rc)
		sosie_io_remove_tree(io, tmp, NULL);
	return rc;
}

int generation_make(struct sosie_group *g, struct sosie_progress *progress, struct sosie_err *err)
{
	const struct making how = {
	        .point = chain_newest_point(g->chain), .of_head = true, .progress = progress};
	if (how.point == 0)
		return sosie_err_set(err, SOSIE_ENOTFOUND, "%s/%s has no point to make a generation of",
		                     g->tenant.s, g->name.s);
	return make(g, &how, err);
}

int generation_make_at(struct sosie_group *g, uint64_t point, bool (*stop)(void *arg), void *arg,
                       struct sosie_progress *progress, struct sosie_err *err)
{
	const struct making how = {.point = point, .stop = stop, .arg = arg, .progress = progress};
	return make(g, &how, err);
}

int generation_check(struct sosie_group *g, uint64_t point, struct sosie_err *err)
{
	struct sosie_manifest m = {0};
	struct image_set *set = NULL;
	char dir[STORE_PATH];
	int rc = store_path(dir, err, "%s/generations/%llu", g->dir, (unsigned long long)point);
	if (!rc)
		rc = sosie_group_manifest(g, point, &m, err);
	if (!rc)
		rc = images_open(g, dir, &m, false, &set, err);
	if (!rc)
		rc = images_check_roots(set, &m, err);
	images_close(set, NULL);
	sosie_manifest_fini(&m);
	return rc;
}

/* --- those that are there
 * ------------------------------------------------------------------------------------------------ */

struct numbers {
	uint64_t *list;
	size_t count, room;
	bool no_memory;
};

static int collect(void *arg, const char *name, enum sosie_file_kind kind)
{
	struct numbers *n = arg;
	uint64_t number;
	if (kind != SOSIE_KIND_DIR || !layout_number(name, "", &number) || number == 0)
		return 0;
	if (n->count == n->room) {
		size_t room = n->room ? 2 * n->room : 16;
		uint64_t *grown = reallocarray(n->list, room, sizeof(*grown));
		n->no_memory = !grown;
		if (!grown)
			return 1;
		n->list = grown;
		n->room = room;
	}
	n->list[n->count++] = number;
	return 0;
}

static int ascending(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

int generation_list(struct sosie_group *g, uint64_t **list, size_t *count, struct sosie_err *err)
{
	struct numbers n = {0};
	char dir[STORE_PATH];
	*list = NULL;
	*count = 0;
	int rc = store_path(dir, err, "%s/generations", g->dir);
	if (!rc)
		rc = sosie_io_list(g->store->io, dir, collect, &n, err);
	if (rc >= 0 && n.no_memory)
		rc = sosie_err_set(err, SOSIE_ENOMEM, "no memory to list the generations");
	if (rc < 0 && rc != -SOSIE_ENOTFOUND) {
		free(n.list);
		return rc;
	}
	if (n.count)
		qsort(n.list, n.count, sizeof(*n.list), ascending);
	*list = n.list;
	*count = n.count;
	return 0;
}

int generation_sweep(struct sosie_group *g, struct sosie_err *err)
{
	char dir[STORE_PATH];
	int rc = store_path(dir, err, "%s/generations", g->dir);
	if (!rc)
		rc = sosie_io_list(g->store->io, dir, remove_leftover, g, err);
	return rc < 0 ? rc : 0;
}

int generation_remove(struct sosie_group *g, uint64_t point, struct sosie_err *err)
{
	char dir[STORE_PATH], tmp[STORE_PATH];
	int rc = store_path(dir, err, "%s/generations/%llu", g->dir, (unsigned long long)point);
	if (!rc)
		rc = store_path(tmp, err, "%s.tmp", dir);
	if (!rc)
		rc = sosie_io_remove_tree(g->store->io, tmp, err);
	if (!rc)
		rc = sosie_io_rename(g->store->io, dir, tmp, err);
	return rc ? rc : sosie_io_remove_tree(g->store->io, tmp, err);
}

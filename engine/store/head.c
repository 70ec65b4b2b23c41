/* SPDX-License-Identifier: MIT */
/*
 * head/: the working images (docs/format.md, "head/").
 *
 *   none ──rebuild──► clean ──head_open_mark──► open ──head_clean──► clean
 *                                                │ ▲ accepted segments
 *                                                ├──head_void──► void ──rebuild──► clean
 *                                                └─unclean stop: settle──► clean, or rebuild
 *
 * An open head is trusted by the process that holds it open, and only while mark.json is the very file that
 * this process wrote and the chain ends where this process left it (the memo). Everybody else settles. A
 * change of the volumes' shape is never settled: it is made durable at once.
 */
#include <string.h>

#include "engine/store/core.h"

static int head_dir(const struct sosie_group *g, char dst[STORE_PATH], struct sosie_err *err)
{
	return store_path(dst, err, "%s/head", g->dir);
}

static int write_mark(struct sosie_group *g, const char *dir, const char *state, uint64_t point,
                      struct sosie_err *err)
{
	char path[STORE_PATH];
	int rc = store_path(path, err, "%s/mark.json", dir);
	if (rc)
		return rc;
	struct sosie_json *j = sosie_json_new();
	sosie_json_set_u64(j, "format", STORE_FORMAT);
	sosie_json_set_str(j, "state", state);
	if (strcmp(state, "void") != 0)
		sosie_json_set_u64(j, "point", point);
	return layout_write_json(g->store->io, path, j, 0640, err);
}

static int parse_mark(const struct sosie_json *j, int *state, uint64_t *point)
{
	static const char *const names[] = {"clean", "open", "void"};
	static const int states[] = {SOSIE_HEAD_CLEAN, SOSIE_HEAD_OPEN, SOSIE_HEAD_VOID};
	const char *text;
	int rc = sosie_json_str(j, "state", 16, &text, NULL);
	*state = SOSIE_HEAD_VOID;
	*point = 0;
	if (rc)
		return rc;
	for (int i = 0; i < 3; i++)
		if (strcmp(text, names[i]) == 0)
			*state = states[i];
	return *state == SOSIE_HEAD_VOID ? 0 : sosie_json_u64(j, "point", INT64_MAX, point, NULL);
}

int head_state(struct sosie_group *g, int *state, uint64_t *point, struct sosie_err *err)
{
	static const char *const keys[] = {"format", "state", "point", NULL};
	char dir[STORE_PATH], path[STORE_PATH];
	struct sosie_json *j = NULL;
	*state = SOSIE_HEAD_NONE;
	*point = 0;
	int rc = head_dir(g, dir, err);
	if (!rc)
		rc = store_path(path, err, "%s/mark.json", dir);
	if (rc || !sosie_io_exists(g->store->io, dir))
		return rc;
	rc = layout_read_json(g->store->io, path, keys, &j, err);
	*state = SOSIE_HEAD_VOID;
	if (rc == -SOSIE_ENOTFOUND || rc == -SOSIE_ECORRUPT)
		return 0; /* a head without a readable mark is in doubt */
	if (!rc && parse_mark(j, state, point))
		*state = SOSIE_HEAD_VOID;
	sosie_json_free(j);
	return rc;
}

static int mark_identity(struct sosie_group *g, uint64_t *ino, int64_t *ctime_ns)
{
	char path[STORE_PATH];
	struct sosie_stat st;
	int rc = store_path(path, NULL, "%s/head/mark.json", g->dir);
	if (!rc)
		rc = sosie_io_stat(g->store->io, path, &st, NULL);
	*ino = rc ? 0 : st.ino;
	*ctime_ns = rc ? 0 : st.ctime_ns;
	return rc;
}

/* Is the head open in this process's hands, as it left it? Forgets it when not. */
static bool head_is_ours(struct sosie_group *g, struct store_memo *memo)
{
	uint64_t ino;
	int64_t ctime_ns;
	if (!memo->mark_ino)
		return false;
	if (!mark_identity(g, &ino, &ctime_ns) && ino == memo->mark_ino && ctime_ns == memo->mark_ctime_ns &&
	    memo->point == chain_newest_point(g->chain))
		return true;
	memo_drop_head(memo);
	return false;
}

/* No room for another mark: a head without one is void too. Settling it would trust what the page cache
 * shows of an image whose fsync failed. */
static int remove_mark(struct sosie_group *g, const char *dir, int failed)
{
	char path[STORE_PATH];
	int rc = store_path(path, NULL, "%s/mark.json", dir);
	if (!rc)
		rc = layout_remove(g->store->io, path, NULL);
	if (!rc)
		rc = sosie_io_sync_dir(g->store->io, dir, NULL);
	return rc ? failed : 0;
}

int head_void(struct sosie_group *g, struct sosie_err *err)
{
	char dir[STORE_PATH];
	struct store_memo *memo = memo_find(g->store, g->tenant.s, g->name.s);
	if (memo)
		memo_drop_head(memo);
	int rc = head_dir(g, dir, err);
	if (rc || !sosie_io_exists(g->store->io, dir))
		return rc;
	rc = write_mark(g, dir, "void", 0, err);
	return rc ? remove_mark(g, dir, rc) : 0;
}

int head_rebuild(struct sosie_group *g, struct sosie_progress *progress, struct sosie_err *err)
{
	struct sosie_io *io = g->store->io;
	char dir[STORE_PATH], tmp[STORE_PATH];
	uint64_t newest = chain_newest_point(g->chain);
	int rc = head_void(g, err);
	if (!rc)
		rc = head_dir(g, dir, err);
	if (!rc)
		rc = store_path(tmp, err, "%s.tmp", dir);
	if (!rc)
		rc = sosie_io_remove_tree(io, tmp, err);
	if (!rc)
		rc = images_materialise(g, newest, tmp, progress, err);
	if (!rc)
		rc = write_mark(g, tmp, "clean", newest, err);
	if (!rc)
		rc = sosie_io_remove_tree(io, dir, err);
	if (!rc)
		rc = sosie_io_rename(io, tmp, dir, err);
	return rc ? rc : sosie_io_sync_dir(io, g->dir, err);
}

/* Settling knows leaves, not shapes: the volumes must have stayed as they were since the clean point. */
static int shape_kept(struct sosie_group *g, uint64_t from, const struct sosie_manifest *newest,
                      struct sosie_err *err)
{
	if (from == 0)
		return sosie_err_set(err, SOSIE_ECORRUPT,
		                     "the working images were not durable at any point yet");
	for (uint64_t p = from; p < chain_newest_point(g->chain); p++) {
		struct sosie_manifest m = {0};
		int rc = sosie_group_manifest(g, p, &m, err);
		bool same = !rc && images_same_shape(&m, newest);
		sosie_manifest_fini(&m);
		if (rc)
			return rc;
		if (!same)
			return sosie_err_set(err, SOSIE_ECORRUPT, "the volumes changed after point %llu",
			                     (unsigned long long)from);
	}
	return 0;
}

static int settle(struct sosie_group *g, uint64_t from, struct sosie_err *err)
{
	char dir[STORE_PATH];
	struct sosie_manifest m = {0};
	struct image_set *set = NULL;
	uint64_t newest = chain_newest_point(g->chain);
	int rc = head_dir(g, dir, err);
	if (!rc)
		rc = sosie_group_manifest(g, newest, &m, err);
	if (!rc)
		rc = shape_kept(g, from, &m, err);
	if (!rc)
		rc = images_prune(g->store->io, dir, &m, NULL, err);
	if (!rc)
		rc = images_open_mode(g, dir, &m, IMAGES_UPDATE, &set, err);
	if (!rc)
		rc = images_redigest(set, g, from + 1, newest, err);
	if (!rc)
		rc = images_check_roots(set, &m, err);
	if (!rc)
		rc = images_sync(set, err);
	int closed = images_close(set, rc ? NULL : err);
	rc = rc ? rc : closed;
	if (!rc)
		rc = write_mark(g, dir, "clean", newest, err);
	sosie_manifest_fini(&m);
	return rc;
}

int head_ready(struct sosie_group *g, struct sosie_progress *progress, struct sosie_err *err)
{
	struct store_memo *memo;
	char dir[STORE_PATH];
	uint64_t newest = chain_newest_point(g->chain), point;
	int state;
	int rc = memo_get(g->store, g->tenant.s, g->name.s, &memo, err);
	if (rc || head_is_ours(g, memo))
		return rc;
	memo_drop_head(memo);
	rc = head_state(g, &state, &point, err);
	if (!rc)
		rc = head_dir(g, dir, err);
	if (rc)
		return rc;
	if (newest == 0)
		return state == SOSIE_HEAD_NONE ? 0 : sosie_io_remove_tree(g->store->io, dir, err);
	if (state == SOSIE_HEAD_CLEAN && point == newest)
		return 0;
	if (state == SOSIE_HEAD_OPEN && point <= newest && !settle(g, point, NULL))
		return 0;
	return head_rebuild(g, progress, err);
}

int head_open_mark(struct sosie_group *g, struct sosie_err *err)
{
	struct store_memo *memo;
	char dir[STORE_PATH];
	int rc = memo_get(g->store, g->tenant.s, g->name.s, &memo, err);
	if (rc || head_is_ours(g, memo))
		return rc;
	memo->closed = false;
	rc = head_dir(g, dir, err);
	if (!rc)
		rc = sosie_io_ensure_dir(g->store->io, dir, 0750, err);
	if (!rc)
		rc = write_mark(g, dir, "open", chain_newest_point(g->chain), err);
	if (!rc)
		rc = mark_identity(g, &memo->mark_ino, &memo->mark_ctime_ns);
	if (!rc) {
		memo->point = chain_newest_point(g->chain);
		memo->applied = 0;
		memo->touched_ms = sosie_mono_ms(g->store->clock);
	}
	return rc;
}

/* What is in memory of the old shape goes to the disk before the files are opened anew. */
static int leave_shape(struct store_memo *memo, struct sosie_err *err)
{
	int rc = images_sync(memo->set, err);
	int closed = images_close(memo->set, rc ? NULL : err);
	memo->set = NULL;
	return rc ? rc : closed;
}

int head_images(struct sosie_group *g, const struct sosie_manifest *m, struct image_set **out, bool *reshaped,
                struct sosie_err *err)
{
	struct store_memo *memo;
	struct sosie_manifest newest = {0};
	char dir[STORE_PATH];
	*out = NULL;
	*reshaped = true;
	int rc = memo_get(g->store, g->tenant.s, g->name.s, &memo, err);
	if (!rc)
		rc = head_dir(g, dir, err);
	if (!rc && memo->set && images_match(memo->set, m)) {
		*reshaped = false;
		*out = memo->set;
		return 0;
	}
	if (!rc && memo->set)
		rc = leave_shape(memo, err);
	if (!rc && chain_newest_point(g->chain)) {
		rc = sosie_group_manifest(g, chain_newest_point(g->chain), &newest, err);
		*reshaped = rc || !images_same_shape(&newest, m);
		sosie_manifest_fini(&newest);
	}
	if (!rc)
		rc = images_open_mode(g, dir, m, *reshaped ? IMAGES_CREATE : IMAGES_UPDATE, &memo->set, err);
	*out = memo->set;
	return rc;
}

int head_advanced(struct sosie_group *g, uint64_t bytes, struct sosie_err *err)
{
	struct store_memo *memo;
	int rc = memo_get(g->store, g->tenant.s, g->name.s, &memo, err);
	if (rc)
		return rc;
	memo->point = chain_newest_point(g->chain);
	memo->applied += bytes;
	memo->touched_ms = sosie_mono_ms(g->store->clock);
	rc = memo->set ? images_park(memo->set, err) : 0;
	if (rc)
		head_void(g, NULL);
	return rc;
}

int head_clean(struct sosie_group *g, struct sosie_err *err)
{
	struct store_memo *memo;
	char dir[STORE_PATH];
	uint64_t newest = chain_newest_point(g->chain);
	int rc = memo_get(g->store, g->tenant.s, g->name.s, &memo, err);
	if (rc)
		return rc;
	if (newest == 0 || !head_is_ours(g, memo))
		return head_ready(g, NULL, err); /* settled or rebuilt: clean */
	rc = memo->set ? images_sync(memo->set, err) : 0;
	if (!rc)
		rc = memo->set ? images_park(memo->set, err) : 0;
	if (!rc)
		rc = head_dir(g, dir, err);
	if (!rc)
		rc = write_mark(g, dir, "clean", newest, err);
	if (rc)
		head_void(g, NULL);
	else
		memo_drop_head(memo);
	return rc;
}

/* SPDX-License-Identifier: MIT */
/*
 * Ranges of a tree: put_leaves, resize, next, refresh. Whole subtrees are zeroed by a zero slot and a punched
 * range, found by their slot and skipped by it; nothing here costs more than the blocks that differ and one
 * path. Invariants in tree_path.h.
 */
#include <string.h>

#include "engine/delta/tree_path.h"

/* --- put_leaves
 * ------------------------------------------------------------------------------------------------ */

/* Leaves [from, to) of block (0, index). */
static int put_part(struct sosie_tree *t, uint64_t index, unsigned from, unsigned to,
                    const struct sosie_digest *digests, struct sosie_err *err)
{
	struct tree_block block;
	int rc = tree_seek(t, 0, index, err);

	if (rc != 0)
		return rc;
	block = t->level[0].block;
	if (digests)
		memcpy(&block.d[from], digests, (to - from) * sizeof(*digests));
	else
		memset(&block.d[from], 0, (to - from) * sizeof(*digests));
	return sosie_tree_put(t, index, block.d, err);
}

/* Children [first, last] of block (level, index) become zero, with all that lies below them. */
static int zero_children(struct sosie_tree *t, unsigned level, uint64_t index, unsigned first, unsigned last,
                         struct sosie_err *err)
{
	struct tree_level *l = &t->level[level];
	uint64_t offset, end;
	int rc = tree_seek_alone(t, level, index, err);

	if (rc != 0)
		return rc;
	tree_child_bytes(level, index, first, last, &offset, &end);
	rc = tree_file_zero(tree_target(t), offset, end, err);
	if (rc != 0) {
		t->failed = (enum sosie_code) - rc;
		return rc;
	}
	if (sosie_all_zero(&l->block.d[first], (last - first + 1) * sizeof(l->block.d[0])))
		return 0;
	memset(&l->block.d[first], 0, (last - first + 1) * sizeof(l->block.d[0]));
	tree_touch(t, level);
	return 0;
}

/*
 * Leaf blocks [from, to) under block (level, index) become zero: whole children in one go, and at most one
 * child at each end that reaches over. from and to count leaf blocks of the volume and lie under the block.
 * At most two calls a level: depth 4.
 */
static int zero_under(struct sosie_tree *t, unsigned level, uint64_t index, uint64_t from, uint64_t to,
                      struct sosie_err *err)
{
	uint64_t each = tree_leaf_blocks(level - 1), child0 = index * SOSIE_FANOUT;
	uint64_t whole_from = (from + each - 1) / each, whole_to = to / each;
	int rc = 0;

	if (whole_from > whole_to) /* inside one child */
		return zero_under(t, level - 1, from / each, from, to, err);
	if (whole_from < whole_to)
		rc = zero_children(t, level, index, (unsigned)(whole_from - child0),
		                   (unsigned)(whole_to - 1 - child0), err);
	if (rc == 0 && from < whole_from * each)
		rc = zero_under(t, level - 1, from / each, from, whole_from * each, err);
	if (rc == 0 && to > whole_to * each)
		rc = zero_under(t, level - 1, whole_to, whole_to * each, to, err);
	return rc;
}

int sosie_tree_put_leaves(struct sosie_tree *tree, uint64_t first, uint64_t count,
                          const struct sosie_digest *digests, struct sosie_err *err)
{
	uint64_t last, at = first;
	int rc = tree_may_write(tree, err);

	if (rc != 0 || count == 0)
		return rc;
	last = tree_leaves(SOSIE_VOLUME_MAX);
	if (first > last || count > last - first)
		return sosie_err_set(err, SOSIE_ESIZE, "leaves past the largest volume");
	last = first + count;
	while (rc == 0 && at < last) {
		uint64_t index = at / SOSIE_FANOUT, stop = (index + 1) * SOSIE_FANOUT;

		if (!digests && at % SOSIE_FANOUT == 0 && last - at >= SOSIE_FANOUT) {
			stop = last - last % SOSIE_FANOUT;
			rc = zero_under(tree, TREE_TOP, 0, index, stop / SOSIE_FANOUT, err);
		} else {
			stop = stop < last ? stop : last;
			rc = put_part(tree, index, (unsigned)(at % SOSIE_FANOUT),
			              (unsigned)(stop - index * SOSIE_FANOUT),
			              digests ? digests + (at - first) : NULL, err);
		}
		at = stop;
	}
	return rc;
}

int sosie_tree_resize(struct sosie_tree *tree, uint64_t size, struct sosie_err *err)
{
	uint64_t before = tree_leaves(tree->size), after = tree_leaves(size);
	int rc = tree_may_write(tree, err);

	if (rc == 0 && size > SOSIE_VOLUME_MAX)
		rc = sosie_err_set(err, SOSIE_ESIZE, "a volume is at most 1 PiB");
	if (rc == 0 && after < before)
		rc = sosie_tree_put_leaves(tree, after, before - after, NULL, err);
	if (rc != 0 || size == tree->size)
		return rc;
	tree->size = size;
	tree->header_dirty = true;
	return 0;
}

/* --- next
 * ------------------------------------------------------------------------------------------------------ */

/* First slot at or after `from` that is not zero; SOSIE_FANOUT when none. */
static unsigned find_slot(const struct tree_block *block, unsigned from)
{
	while (from < SOSIE_FANOUT && sosie_digest_is_zero(&block->d[from]))
		from++;
	return from;
}

int sosie_tree_next(struct sosie_tree *tree, uint64_t from, uint64_t *leaf, struct sosie_err *err)
{
	unsigned level = TREE_TOP;

	*leaf = UINT64_MAX;
	tree_settle(tree);
	/* At each step all digests before leaf number `from` are known to be zero; digests of `level` are
	 * looked at. */
	while (from < tree_leaves(SOSIE_VOLUME_MAX)) {
		uint64_t at = from >> (8 * level);
		unsigned slot;
		int rc = tree_seek(tree, level, at / SOSIE_FANOUT, err);

		if (rc != 0)
			return rc;
		slot = find_slot(&tree->level[level].block, (unsigned)(at % SOSIE_FANOUT));
		if (slot == SOSIE_FANOUT) {
			from = (at / SOSIE_FANOUT + 1) << (8 * (level + 1));
			level = level < TREE_TOP ? level + 1 : level;
			continue;
		}
		if (slot != at % SOSIE_FANOUT)
			from = (at - at % SOSIE_FANOUT + slot) << (8 * level);
		if (level == 0) {
			*leaf = from;
			return 0;
		}
		level--;
	}
	return 0;
}

/* --- refresh
 * --------------------------------------------------------------------------------------------------- */

static int is_hole(struct tree_file *f, uint64_t offset, uint64_t end, bool *hole, struct sosie_err *err)
{
	uint64_t start, stop;
	int rc = tree_file_data(f, offset, end, &start, &stop, err);

	*hole = rc == 0 && start == end;
	return rc;
}

/* Does nothing at all lie in the files for this child? Below a layer only the base's bytes that are not
 * masked count. */
static int child_is_hole(struct sosie_tree *t, unsigned level, uint64_t index, bool *hole,
                         struct sosie_err *err)
{
	unsigned slot = (unsigned)(index % SOSIE_FANOUT);
	uint64_t offset, end;
	int rc = tree_seek(t, level + 1, index / SOSIE_FANOUT, err);

	if (rc != 0)
		return rc;
	tree_child_bytes(level + 1, index / SOSIE_FANOUT, slot, slot, &offset, &end);
	rc = is_hole(tree_target(t), offset, end, hole, err);
	if (rc == 0 && *hole && tree_layered(t) && !sosie_digest_is_zero(&t->level[level + 1].block.d[slot]))
		rc = is_hole(&t->base, offset, end, hole, err);
	return rc;
}

/* The path from `level` up is hashed anew when it is left, whatever its slots say. */
static void mark_path(struct sosie_tree *t, unsigned level)
{
	for (unsigned k = level; k < SOSIE_TREE_LEVELS; k++)
		t->level[k].unhashed = true;
}

/* The largest hole that begins with leaf block `at` and ends by `end`: skipped, its digest set to zero.
 * *skipped = 0: none. */
static int refresh_hole(struct sosie_tree *t, uint64_t at, uint64_t end, uint64_t *skipped,
                        struct sosie_err *err)
{
	*skipped = 0;
	for (unsigned k = TREE_TOP; k-- > 0;) {
		uint64_t each = tree_leaf_blocks(k), index = at / each;
		bool hole;
		int rc;

		if (at % each != 0 || end - at < each)
			continue;
		rc = child_is_hole(t, k, index, &hole, err);
		if (rc == 0 && hole)
			rc = zero_children(t, k + 1, index / SOSIE_FANOUT, (unsigned)(index % SOSIE_FANOUT),
			                   (unsigned)(index % SOSIE_FANOUT), err);
		if (rc != 0)
			return rc;
		if (hole) {
			mark_path(t, k + 1);
			*skipped = each;
			return 0;
		}
	}
	return 0;
}

int sosie_tree_refresh(struct sosie_tree *tree, uint64_t first_block, uint64_t count, struct sosie_err *err)
{
	uint64_t at = first_block, end, skipped;
	int rc = tree_may_write(tree, err);

	if (rc != 0)
		return rc;
	if (first_block > TREE_LEAF_BLOCKS_MAX || count > TREE_LEAF_BLOCKS_MAX - first_block)
		return sosie_err_set(err, SOSIE_ESIZE, "tree blocks past the largest volume");
	end = first_block + count;
	/* What is cached and not yet written must be in the file before holes are asked for. */
	rc = tree_seek_alone(tree, TREE_TOP, 0, err);
	while (rc == 0 && at < end) {
		rc = refresh_hole(tree, at, end, &skipped, err);
		if (rc != 0 || skipped > 0) {
			at += skipped;
			continue;
		}
		rc = tree_seek(tree, 0, at, err);
		if (rc == 0)
			mark_path(tree, 0);
		at++;
	}
	return rc;
}

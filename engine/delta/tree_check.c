/* SPDX-License-Identifier: MIT */
/*
 * Compares every node of a tree with what lies below it, bottom up. Zero subtrees are not walked; that
 * nothing is stored below them is seen from the file's extents.
 */
#include <limits.h>
#include <string.h>

#include "engine/delta/tree_path.h"

struct check {
	struct sosie_tree *tree;
	unsigned bad_level; /* UINT_MAX: none so far */
	uint64_t bad_index;
};

static void found_bad(struct check *c, unsigned level, uint64_t index)
{
	c->bad_level = level;
	c->bad_index = index;
}

/* Whether the stored block at this place says something other than zeros. */
static int stored_nonzero(struct check *c, uint64_t offset, bool *nonzero, struct sosie_err *err)
{
	struct tree_block block;
	int rc = tree_file_read(tree_target(c->tree), offset, &block, err);

	*nonzero = rc == 0 && !sosie_all_zero(&block, sizeof(block));
	if (*nonzero && tree_layered(c->tree)) {
		tree_invert(&block);
		*nonzero = !sosie_all_zero(&block, sizeof(block));
	}
	return rc;
}

/* Nothing may be stored in the bytes [offset, end) of zero subtrees; the first block that is there names the
 * bad node above it. */
static int check_zero(struct check *c, uint64_t offset, uint64_t end, struct sosie_err *err)
{
	const uint64_t size = sizeof(struct tree_block);

	while (offset < end && c->bad_level == UINT_MAX) {
		uint64_t start, stop;
		int rc = tree_file_data(tree_target(c->tree), offset, end, &start, &stop, err);

		if (rc != 0)
			return rc;
		/* An extent may begin or end inside a block. */
		start = TREE_HEADER + (start - TREE_HEADER) / size * size;
		for (offset = start; offset < stop && c->bad_level == UINT_MAX; offset += size) {
			unsigned level;
			uint64_t index;
			bool nonzero;

			rc = stored_nonzero(c, offset, &nonzero, err);
			if (rc != 0)
				return rc;
			tree_locate((offset - TREE_HEADER) / size, &level, &index);
			if (nonzero)
				found_bad(c, level + 1, index);
		}
	}
	return 0;
}

static int check_children(struct check *c, unsigned level, uint64_t index, struct sosie_err *err);

/* Child block (level, index), whose digest its parent gives as `expected`. */
static int check_child(struct check *c, unsigned level, uint64_t index, const struct sosie_digest *expected,
                       struct sosie_err *err)
{
	struct sosie_tree *t = c->tree;
	struct sosie_digest digest;
	int rc = check_children(c, level, index, err);

	if (rc != 0 || c->bad_level != UINT_MAX)
		return rc;
	rc = tree_seek(t, level, index, err);
	if (rc != 0)
		return rc;
	sosie_digest_node(t->hash, &t->ctx, level + 1, index, t->level[level].block.d, &digest);
	if (!sosie_digest_equal(&digest, expected))
		found_bad(c, level + 1, index);
	return 0;
}

/* A run of zero slots from `slot` on; returns the slot behind it in *next. */
static int check_zero_run(struct check *c, unsigned level, uint64_t index, unsigned slot, unsigned *next,
                          struct sosie_err *err)
{
	const struct tree_block *block = &c->tree->level[level].block;
	uint64_t offset, end;
	unsigned last = slot;

	while (last + 1 < SOSIE_FANOUT && sosie_digest_is_zero(&block->d[last + 1]))
		last++;
	*next = last + 1;
	tree_child_bytes(level, index, slot, last, &offset, &end);
	return check_zero(c, offset, end, err);
}

static int check_children(struct check *c, unsigned level, uint64_t index, struct sosie_err *err)
{
	unsigned slot = 0;

	while (level > 0 && slot < SOSIE_FANOUT && c->bad_level == UINT_MAX) {
		struct sosie_digest expected;
		int rc = tree_seek(c->tree, level, index, err);

		if (rc != 0)
			return rc;
		expected = c->tree->level[level].block.d[slot];
		if (sosie_digest_is_zero(&expected)) {
			rc = check_zero_run(c, level, index, slot, &slot, err);
		} else {
			rc = check_child(c, level - 1, index * SOSIE_FANOUT + slot, &expected, err);
			slot++;
		}
		if (rc != 0)
			return rc;
	}
	return 0;
}

int sosie_tree_check(struct sosie_tree *tree, unsigned *bad_level, uint64_t *bad_index, struct sosie_err *err)
{
	struct check c = {.tree = tree, .bad_level = UINT_MAX};
	int rc = tree_seek_alone(tree, TREE_TOP, 0, err);

	if (rc == 0)
		rc = check_children(&c, TREE_TOP, 0, err);
	*bad_level = c.bad_level;
	*bad_index = c.bad_index;
	return rc;
}

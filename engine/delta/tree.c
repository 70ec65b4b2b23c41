/* SPDX-License-Identifier: MIT */
/* The digests of one volume: opening, the cached path, single blocks, root. Invariants in tree_path.h. */
#include <stdlib.h>
#include <string.h>

#include "engine/delta/tree_path.h"

/* --- making and ending
 * ----------------------------------------------------------------------------------------- */

int tree_new(struct sosie_io *io, const struct sosie_digest *ctx, struct sosie_tree **out,
             struct sosie_err *err)
{
	struct sosie_tree *t = calloc(1, sizeof(*t));

	if (t)
		t->hash = sosie_hash_new();
	if (!t || !t->hash) {
		free(t);
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for a tree of digests");
	}
	t->base.io = t->layer.io = io;
	t->ctx = *ctx;
	*out = t;
	return 0;
}

void tree_destroy(struct sosie_tree *t)
{
	sosie_hash_free(t->hash);
	free(t);
}

int sosie_tree_create(struct sosie_io *io, const char *path, const struct sosie_digest *ctx, uint64_t size,
                      struct sosie_tree **out, struct sosie_err *err)
{
	struct sosie_tree *t;
	int rc;

	*out = NULL;
	if (size > SOSIE_VOLUME_MAX)
		return sosie_err_set(err, SOSIE_ESIZE, "a volume is at most 1 PiB");
	rc = tree_new(io, ctx, &t, err);
	if (rc != 0)
		return rc;
	rc = tree_file_create(&t->base, io, path, ctx, size, err);
	if (rc != 0) {
		tree_destroy(t);
		return rc;
	}
	t->size = size;
	t->writable = true;
	*out = t;
	return 0;
}

int sosie_tree_open(struct sosie_io *io, const char *path, const struct sosie_digest *ctx, bool writable,
                    struct sosie_tree **out, struct sosie_err *err)
{
	struct sosie_tree *t;
	int rc = tree_new(io, ctx, &t, err);

	*out = NULL;
	if (rc != 0)
		return rc;
	rc = tree_file_open(&t->base, io, path, ctx, writable, err);
	if (rc != 0) {
		tree_destroy(t);
		return rc;
	}
	t->size = t->base.volume_size;
	t->writable = writable;
	*out = t;
	return 0;
}

uint64_t sosie_tree_size(const struct sosie_tree *tree)
{
	return tree->size;
}

uint64_t tree_leaves(uint64_t size)
{
	return size / SOSIE_LEAF + (size % SOSIE_LEAF != 0);
}

int tree_may_write(const struct sosie_tree *t, struct sosie_err *err)
{
	if (!t->writable)
		return sosie_err_set(err, SOSIE_EINTERNAL, "change of a tree that was opened to be read");
	if (t->failed != SOSIE_OK)
		return sosie_err_set(err, t->failed, "an earlier write of this tree failed");
	return 0;
}

/* --- the path
 * -------------------------------------------------------------------------------------------------- */

void tree_invert(struct tree_block *block)
{
	uint64_t word;
	uint8_t *at = (uint8_t *)block;

	for (size_t i = 0; i < sizeof(*block); i += sizeof(word)) {
		memcpy(&word, at + i, sizeof(word));
		word = ~word;
		memcpy(at + i, &word, sizeof(word));
	}
}

void tree_touch(struct sosie_tree *t, unsigned level)
{
	assert(t->level[level].loaded);
	t->level[level].dirty = true;
	t->level[level].unhashed = true;
}

static struct sosie_digest *slot_of(struct sosie_tree *t, unsigned level, uint64_t index)
{
	struct tree_level *up = &t->level[level + 1];

	assert(up->loaded && up->index == index / SOSIE_FANOUT);
	return &up->block.d[index % SOSIE_FANOUT];
}

static void hash_level(struct sosie_tree *t, unsigned level)
{
	struct tree_level *l = &t->level[level];
	struct sosie_digest digest, *slot;

	if (!l->loaded || !l->unhashed || level == TREE_TOP)
		return;
	sosie_digest_node(t->hash, &t->ctx, level + 1, l->index, l->block.d, &digest);
	slot = slot_of(t, level, l->index);
	if (!sosie_digest_equal(slot, &digest)) {
		*slot = digest;
		tree_touch(t, level + 1);
	}
	l->unhashed = false;
}

void tree_settle(struct sosie_tree *t)
{
	for (unsigned k = 0; k < TREE_TOP; k++)
		hash_level(t, k);
}

static int store_block(struct sosie_tree *t, unsigned level, struct sosie_err *err)
{
	const struct tree_block *block = &t->level[level].block;
	uint64_t offset = tree_offset(level, t->level[level].index);
	struct tree_block inverted;

	if (tree_layered(t)) {
		inverted = *block;
		tree_invert(&inverted);
		if (t->layer_end < offset + sizeof(inverted))
			t->layer_end = offset + sizeof(inverted);
		return tree_file_write(&t->layer, offset, &inverted, err);
	}
	if (sosie_all_zero(block, sizeof(*block)))
		return tree_file_zero(&t->base, offset, offset + sizeof(*block), err);
	return tree_file_write(&t->base, offset, block, err);
}

static int write_level(struct sosie_tree *t, unsigned level, struct sosie_err *err)
{
	int rc;

	if (!t->level[level].loaded || !t->level[level].dirty)
		return 0;
	rc = tree_may_write(t, err);
	if (rc != 0)
		return rc;
	rc = store_block(t, level, err);
	if (rc != 0)
		t->failed = (enum sosie_code) - rc;
	else
		t->level[level].dirty = false;
	return rc;
}

/* Lets levels 0 to `level` go. */
static int drop_levels(struct sosie_tree *t, unsigned level, struct sosie_err *err)
{
	for (unsigned k = 0; k <= level; k++) {
		int rc;

		hash_level(t, k);
		rc = write_level(t, k, err);
		if (rc != 0)
			return rc;
		t->level[k].loaded = false;
		t->level[k].unhashed = false;
	}
	return 0;
}

/* What the layer has of a block; *found false: nothing. Most blocks lie behind all that was put into it. */
static int fetch_layered(struct sosie_tree *t, uint64_t offset, struct tree_block *out, bool *found,
                         struct sosie_err *err)
{
	int rc;

	*found = false;
	if (offset >= t->layer_end)
		return 0;
	rc = tree_file_read(&t->layer, offset, out, err);
	*found = rc == 0 && !sosie_all_zero(out, sizeof(*out));
	if (*found)
		tree_invert(out);
	return rc;
}

static int fetch_block(struct sosie_tree *t, unsigned level, uint64_t index, struct tree_block *out,
                       struct sosie_err *err)
{
	uint64_t offset = tree_offset(level, index);

	if (tree_layered(t)) {
		bool found;
		int rc = fetch_layered(t, offset, out, &found, err);

		if (rc != 0 || found)
			return rc;
		if (level < TREE_TOP && sosie_digest_is_zero(slot_of(t, level, index))) {
			memset(out, 0, sizeof(*out)); /* masked */
			return 0;
		}
	}
	return tree_file_read(&t->base, offset, out, err);
}

int tree_seek(struct sosie_tree *t, unsigned level, uint64_t index, struct sosie_err *err)
{
	if (level > TREE_TOP || index >= tree_leaf_blocks(TREE_TOP - level))
		return sosie_err_set(err, SOSIE_ESIZE, "tree block (%u, %llu) lies past the largest volume",
		                     level, (unsigned long long)index);
	for (unsigned k = TREE_TOP + 1; k-- > level;) {
		struct tree_level *l = &t->level[k];
		uint64_t want = index >> (8 * (k - level));
		int rc;

		if (l->loaded && l->index == want)
			continue;
		rc = drop_levels(t, k, err);
		if (rc == 0)
			rc = fetch_block(t, k, want, &l->block, err);
		if (rc != 0)
			return rc;
		l->index = want;
		l->loaded = true;
	}
	return 0;
}

int tree_seek_alone(struct sosie_tree *t, unsigned level, uint64_t index, struct sosie_err *err)
{
	int rc = tree_seek(t, level, index, err);

	return rc == 0 && level > 0 ? drop_levels(t, level - 1, err) : rc;
}

void tree_child_bytes(unsigned level, uint64_t index, unsigned first, unsigned last, uint64_t *offset,
                      uint64_t *end)
{
	uint64_t child = index * SOSIE_FANOUT;

	assert(level >= 1 && first <= last && last < SOSIE_FANOUT);
	*offset = tree_offset(level - 1, child + first);
	*end = tree_offset(level - 1, child + last) + tree_span(level - 1) * sizeof(struct tree_block);
}

/* --- single blocks, root
 * ----------------------------------------------------------------------------------------- */

int sosie_tree_get(struct sosie_tree *tree, unsigned level, uint64_t index,
                   struct sosie_digest out[SOSIE_FANOUT], struct sosie_err *err)
{
	int rc = tree_seek(tree, level, index, err);

	if (rc != 0)
		return rc;
	if (level > 0)
		tree_settle(tree);
	memcpy(out, tree->level[level].block.d, sizeof(struct tree_block));
	return 0;
}

/* Digests of leaves past the volume's end must be zero: a root over them would stand for no volume. */
static int check_end(const struct sosie_tree *t, uint64_t index,
                     const struct sosie_digest leaves[SOSIE_FANOUT], struct sosie_err *err)
{
	uint64_t total = tree_leaves(t->size), first = index * SOSIE_FANOUT;
	uint64_t inside = total <= first ? 0 : total - first;

	if (inside >= SOSIE_FANOUT ||
	    sosie_all_zero(leaves + inside, (SOSIE_FANOUT - inside) * sizeof(*leaves)))
		return 0;
	return sosie_err_set(err, SOSIE_ESIZE,
	                     "digest of a leaf past the volume's end (block %llu of a volume of %llu bytes)",
	                     (unsigned long long)index, (unsigned long long)t->size);
}

int sosie_tree_put(struct sosie_tree *tree, uint64_t index, const struct sosie_digest leaves[SOSIE_FANOUT],
                   struct sosie_err *err)
{
	int rc = tree_may_write(tree, err);

	if (rc == 0 && index >= TREE_LEAF_BLOCKS_MAX)
		rc = sosie_err_set(err, SOSIE_ESIZE, "tree block %llu lies past the largest volume",
		                   (unsigned long long)index);
	if (rc == 0)
		rc = check_end(tree, index, leaves, err);
	if (rc == 0)
		rc = tree_seek(tree, 0, index, err);
	if (rc != 0 || memcmp(tree->level[0].block.d, leaves, sizeof(struct tree_block)) == 0)
		return rc;
	memcpy(tree->level[0].block.d, leaves, sizeof(struct tree_block));
	tree_touch(tree, 0);
	return 0;
}

int sosie_tree_write_leaves(struct sosie_tree *tree, uint64_t first, uint64_t count,
                            const struct sosie_digest *digests, struct sosie_err *err)
{
	static const struct tree_block zeros;
	int rc = tree_may_write(tree, err);

	if (rc != 0 || count == 0)
		return rc;
	if (tree_layered(tree))
		return sosie_err_set(err, SOSIE_EINTERNAL, "leaves written under a layer");
	if (count > SOSIE_FANOUT - first % SOSIE_FANOUT || first >= tree_leaves(tree->size) ||
	    count > tree_leaves(tree->size) - first)
		return sosie_err_set(err, SOSIE_ESIZE, "leaves past the end of a block or the volume");
	rc = drop_levels(tree, TREE_TOP, err);
	if (rc == 0)
		rc = sosie_io_pwrite(
		        tree->base.io, tree->base.file, digests ? digests : zeros.d,
		        (size_t)count * sizeof(*digests),
		        tree_offset(0, first / SOSIE_FANOUT) + first % SOSIE_FANOUT * sizeof(*digests), err);
	if (rc != 0)
		tree->failed = (enum sosie_code) - rc;
	return rc;
}

int sosie_tree_root(struct sosie_tree *tree, struct sosie_digest *out, struct sosie_err *err)
{
	struct sosie_digest top;
	int rc = tree_seek(tree, TREE_TOP, 0, err);

	if (rc != 0)
		return rc;
	tree_settle(tree);
	sosie_digest_node(tree->hash, &tree->ctx, TREE_TOP + 1, 0, tree->level[TREE_TOP].block.d, &top);
	sosie_digest_root(tree->hash, &tree->ctx, tree->size, &top, out);
	return 0;
}

/* --- to the disk
 * ----------------------------------------------------------------------------------------------- */

int sosie_tree_flush(struct sosie_tree *t, struct sosie_err *err)
{
	int rc = tree_may_write(t, err);

	if (rc != 0)
		return rc;
	tree_settle(t);
	for (unsigned k = 0; k < SOSIE_TREE_LEVELS && rc == 0; k++)
		rc = write_level(t, k, err);
	if (rc == 0 && t->header_dirty) {
		tree_target(t)->volume_size = t->size;
		rc = tree_file_put_header(tree_target(t), &t->ctx, err);
		if (rc != 0)
			t->failed = (enum sosie_code) - rc;
		else
			t->header_dirty = false;
	}
	return rc;
}

int sosie_tree_sync(struct sosie_tree *tree, struct sosie_err *err)
{
	int rc = sosie_tree_flush(tree, err);

	if (rc != 0)
		return rc;
	rc = sosie_io_fsync(tree_target(tree)->io, tree_target(tree)->file, err);
	if (rc != 0)
		tree->failed = (enum sosie_code) - rc; /* the file is lost: never asked again */
	return rc;
}

int sosie_tree_close(struct sosie_tree *tree, struct sosie_err *err)
{
	int rc, rc_layer = 0, rc_base;

	if (!tree)
		return 0;
	rc = tree->writable ? sosie_tree_flush(tree, err) : 0;
	if (tree_layered(tree))
		rc_layer = tree_file_close(&tree->layer, rc == 0 ? err : NULL);
	rc = rc == 0 ? rc_layer : rc;
	rc_base = tree_file_close(&tree->base, rc == 0 ? err : NULL);
	rc = rc == 0 ? rc_base : rc;
	tree_destroy(tree);
	return rc;
}

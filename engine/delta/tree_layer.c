/* SPDX-License-Identifier: MIT */
/*
 * Layers: opening, taking a block back, merging into the base. The rule that says which block holds is in
 * tree_path.h.
 *
 * Merging goes through the layer's blocks in file order, parents before children. For each node block, what
 * lies in the base under its zero slots is punched; then the block itself is written. Every step only depends
 * on the layer, so the whole may be run again after a crash at any place; the layer is emptied after the base
 * is durable.
 */
#include <string.h>

#include "engine/delta/tree_path.h"

int sosie_tree_open_layer(struct sosie_io *io, const char *path, const char *layer,
                          const struct sosie_digest *ctx, struct sosie_tree **out, struct sosie_err *err)
{
	struct sosie_tree *t;
	struct sosie_stat st;
	int rc = tree_new(io, ctx, &t, err);

	*out = NULL;
	if (rc != 0)
		return rc;
	rc = tree_file_open(&t->base, io, path, ctx, false, err);
	if (rc != 0)
		goto destroy_tree;
	rc = tree_file_open_or_create(&t->layer, io, layer, ctx, t->base.volume_size, err);
	if (rc != 0)
		goto close_base;
	rc = sosie_io_fstat(io, t->layer.file, &st, err);
	if (rc != 0)
		goto close_layer;
	t->layer_end = st.size;
	t->size = t->layer.volume_size;
	t->writable = true;
	*out = t;
	return 0;

close_layer:
	tree_file_close(&t->layer, NULL);
close_base:
	tree_file_close(&t->base, NULL);
destroy_tree:
	tree_destroy(t);
	return rc;
}

int sosie_tree_revert(struct sosie_tree *tree, uint64_t index, struct sosie_err *err)
{
	struct tree_block block;
	int rc = tree_may_write(tree, err);

	if (rc != 0)
		return rc;
	if (!tree_layered(tree))
		return sosie_err_set(err, SOSIE_EINTERNAL, "revert of a tree without a layer");
	if (index >= TREE_LEAF_BLOCKS_MAX)
		return sosie_err_set(err, SOSIE_ESIZE, "tree block past the largest volume");
	rc = tree_file_read(&tree->base, tree_offset(0, index), &block, err);
	return rc == 0 ? sosie_tree_put(tree, index, block.d, err) : rc;
}

/* --- merge
 * ----------------------------------------------------------------------------------------------------- */

/* Punches in the base what lies under the zero slots of a node block of the layer. */
static int punch_masked(struct tree_file *base, unsigned level, uint64_t index,
                        const struct tree_block *block, struct sosie_err *err)
{
	unsigned first = 0;
	int rc = 0;

	while (rc == 0 && first < SOSIE_FANOUT) {
		uint64_t offset, end;
		unsigned last = first;

		if (!sosie_digest_is_zero(&block->d[first])) {
			first++;
			continue;
		}
		while (last + 1 < SOSIE_FANOUT && sosie_digest_is_zero(&block->d[last + 1]))
			last++;
		tree_child_bytes(level, index, first, last, &offset, &end);
		rc = tree_file_zero(base, offset, end, err);
		first = last + 1;
	}
	return rc;
}

static int merge_block(struct tree_file *base, struct tree_file *layer, uint64_t offset,
                       struct sosie_err *err)
{
	struct tree_block block;
	unsigned level;
	uint64_t index;
	int rc = tree_file_read(layer, offset, &block, err);

	if (rc != 0 || sosie_all_zero(&block, sizeof(block)))
		return rc; /* not in the layer */
	tree_invert(&block);
	tree_locate((offset - TREE_HEADER) / sizeof(block), &level, &index);
	if (level > 0)
		rc = punch_masked(base, level, index, &block, err);
	if (rc != 0)
		return rc;
	if (sosie_all_zero(&block, sizeof(block)))
		return tree_file_zero(base, offset, offset + sizeof(block), err);
	return tree_file_write(base, offset, &block, err);
}

static int merge_blocks(struct tree_file *base, struct tree_file *layer, struct sosie_err *err)
{
	const uint64_t size = sizeof(struct tree_block);
	uint64_t at = TREE_HEADER, end = TREE_HEADER + tree_span(TREE_TOP) * size;

	while (at < end) {
		uint64_t start, stop;
		int rc = tree_file_data(layer, at, end, &start, &stop, err);

		if (rc != 0)
			return rc;
		if (start >= end)
			return 0;
		/* An extent may begin inside a block that was merged as the end of the one before. */
		start = TREE_HEADER + (start - TREE_HEADER) / size * size;
		for (at = start < at ? at : start; at < stop; at += size) {
			rc = merge_block(base, layer, at, err);
			if (rc != 0)
				return rc;
		}
	}
	return 0;
}

static int empty_layer(struct tree_file *layer, struct sosie_err *err)
{
	int rc = sosie_io_truncate(layer->io, layer->file, TREE_HEADER, err);

	return rc == 0 ? sosie_io_fsync(layer->io, layer->file, err) : rc;
}

int sosie_tree_merge(struct sosie_io *io, const char *path, const char *layer, const struct sosie_digest *ctx,
                     struct sosie_err *err)
{
	struct tree_file base, changes;
	int rc, rc_close;

	rc = tree_file_open(&base, io, path, ctx, true, err);
	if (rc != 0)
		return rc;
	rc = tree_file_open(&changes, io, layer, ctx, true, err);
	if (rc != 0)
		goto close_base;
	rc = merge_blocks(&base, &changes, err);
	base.volume_size = changes.volume_size;
	if (rc == 0)
		rc = tree_file_put_header(&base, ctx, err);
	if (rc == 0)
		rc = sosie_io_fsync(base.io, base.file, err);
	if (rc == 0)
		rc = empty_layer(&changes, err);
	rc_close = tree_file_close(&changes, rc == 0 ? err : NULL);
	rc = rc == 0 ? rc_close : rc;
close_base:
	rc_close = tree_file_close(&base, rc == 0 ? err : NULL);
	return rc == 0 ? rc_close : rc;
}

/* --- merge of known blocks
 * ----------------------------------------------------------------------------------------- */

/* What differs of a block, from the first such digest to the last. */
static int write_difference(struct tree_file *base, uint64_t offset, const struct tree_block *block,
                            struct sosie_err *err)
{
	struct tree_block before;
	unsigned first = 0, last = SOSIE_FANOUT;
	int rc = tree_file_read(base, offset, &before, err);

	if (rc != 0)
		return rc;
	while (first < SOSIE_FANOUT && sosie_digest_equal(&before.d[first], &block->d[first]))
		first++;
	while (last > first && sosie_digest_equal(&before.d[last - 1], &block->d[last - 1]))
		last--;
	if (first == last)
		return 0;
	return sosie_io_pwrite(base->io, base->file, &block->d[first], (last - first) * sizeof(block->d[0]),
	                       offset + first * sizeof(block->d[0]), err);
}

static int merge_known(struct tree_file *base, struct tree_file *layer, unsigned level, uint64_t index,
                       struct sosie_err *err)
{
	uint64_t offset = tree_offset(level, index);
	struct tree_block block;
	int rc = tree_file_read(layer, offset, &block, err);

	if (rc != 0 || sosie_all_zero(&block, sizeof(block)))
		return rc; /* not in the layer */
	tree_invert(&block);
	if (sosie_all_zero(&block, sizeof(block)))
		return tree_file_zero(base, offset, offset + sizeof(block), err);
	return write_difference(base, offset, &block, err);
}

static int merge_list(struct tree_file *base, struct tree_file *layer, const uint64_t *blocks, size_t count,
                      struct sosie_err *err)
{
	int rc = 0;

	for (unsigned level = 0; level <= TREE_TOP; level++)
		for (size_t i = 0; rc == 0 && i < count; i++) {
			uint64_t index = blocks[i] >> (8 * level);

			if (i == 0 || index != blocks[i - 1] >> (8 * level))
				rc = merge_known(base, layer, level, index, err);
		}
	return rc;
}

int sosie_tree_merge_blocks(struct sosie_io *io, const char *path, const char *layer,
                            const struct sosie_digest *ctx, const uint64_t *blocks, size_t count,
                            struct sosie_err *err)
{
	struct tree_file base, changes;
	int rc, rc_close;

	for (size_t i = 0; i < count; i++)
		if (blocks[i] >= TREE_LEAF_BLOCKS_MAX || (i > 0 && blocks[i] <= blocks[i - 1]))
			return sosie_err_set(err, SOSIE_EINTERNAL, "blocks to merge are out of order");
	rc = tree_file_open(&base, io, path, ctx, true, err);
	if (rc != 0)
		return rc;
	rc = tree_file_open(&changes, io, layer, ctx, true, err);
	if (rc != 0)
		goto close_base;
	if (base.volume_size != changes.volume_size)
		rc = sosie_err_set(err, SOSIE_EINTERNAL, "a layer of another size is merged whole");
	if (rc == 0)
		rc = merge_list(&base, &changes, blocks, count, err);
	if (rc == 0)
		rc = sosie_io_truncate(io, changes.file, TREE_HEADER, err);
	rc_close = tree_file_close(&changes, rc == 0 ? err : NULL);
	rc = rc == 0 ? rc_close : rc;
close_base:
	rc_close = tree_file_close(&base, rc == 0 ? err : NULL);
	return rc == 0 ? rc_close : rc;
}

/* SPDX-License-Identifier: MIT */
/*
 * The cached path of a tree, shared by the files that make up engine/delta/tree*.c.
 *
 * Invariants:
 *  - Loaded blocks lie on one path: if level k is loaded, so are all above it, and index[k + 1] = index[k] /
 * 256.
 *  - A block that is not loaded has its digest in its parent's slot; only the slots of loaded blocks marked
 * `unhashed` may be old.
 *  - Base files: below a zero slot everything reads as zeros (zeroing a subtree punches it). So what a base
 * block holds never depends on the slots above, and refresh after a crash may start from the leaf blocks
 * alone.
 *  - Layers: a block present in the layer holds; else it is zero if its slot in the (layered) parent is zero;
 * else the base's block holds. A zeroed subtree is a zero slot and no blocks of the layer below: it masks the
 * base however large it is.
 */
#ifndef SOSIE_DELTA_TREE_PATH_H
#define SOSIE_DELTA_TREE_PATH_H

#include "engine/delta/tree_file.h"

struct tree_level {
	struct tree_block block;
	uint64_t index;
	bool loaded;
	bool dirty;    /* differs from the file */
	bool unhashed; /* the parent's slot may be old */
};

struct sosie_tree {
	struct tree_file base;
	struct tree_file layer; /* layer.file is NULL without a layer */
	uint64_t layer_end;     /* nothing of the layer lies at or behind this byte */
	struct sosie_digest ctx;
	struct sosie_hash *hash;
	uint64_t size; /* of the volume */
	bool writable;
	bool header_dirty;
	enum sosie_code failed; /* a write failed: nothing more is written, close says so */
	struct tree_level level[SOSIE_TREE_LEVELS];
};

int tree_new(struct sosie_io *io, const struct sosie_digest *ctx, struct sosie_tree **out,
             struct sosie_err *err);
void tree_destroy(struct sosie_tree *t);
static inline bool tree_layered(const struct sosie_tree *t)
{
	return t->layer.file != NULL;
}
/* The file that writes go to. */
static inline struct tree_file *tree_target(struct sosie_tree *t)
{
	return tree_layered(t) ? &t->layer : &t->base;
}
/* What every call that changes something asks first. */
int tree_may_write(const struct sosie_tree *t, struct sosie_err *err);
/* Loads the path down to block (level, index); lower levels stay cached where they lie under it. */
int tree_seek(struct sosie_tree *t, unsigned level, uint64_t index, struct sosie_err *err);
/* As seek, and nothing below stays cached: all slots of the block are right. */
int tree_seek_alone(struct sosie_tree *t, unsigned level, uint64_t index, struct sosie_err *err);
/* Brings all slots up to date, writes nothing. */
void tree_settle(struct sosie_tree *t);
/* Marks a loaded block as changed. */
void tree_touch(struct sosie_tree *t, unsigned level);
/* A layer's block as stored is inverted. */
void tree_invert(struct tree_block *block);
/* Bytes that the subtrees of children [first, last] of block (level, index) take in the file; level >= 1. */
void tree_child_bytes(unsigned level, uint64_t index, unsigned first, unsigned last, uint64_t *offset,
                      uint64_t *end);
/* Leaves of the volume, whole and short. */
uint64_t tree_leaves(uint64_t size);

#endif

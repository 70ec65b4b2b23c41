/* SPDX-License-Identifier: MIT */
/*
 * The digests of one volume in a sparse file (docs/format.md, "Tree file"), and a layer of changes over it.
 *
 * Memory is constant: one block of each level is held. Writes go through a cached path from leaf block to
 * top: ascending order hashes each block once, any other order is as correct. A layer is a second file of the
 * same layout in which a block that was never written reads as zeros and a written one is stored inverted
 * (all bits), so that presence needs no index; reads look there first, writes only go there.
 *
 * One tree belongs to one thread.
 */
#ifndef SOSIE_TREE_H
#define SOSIE_TREE_H

#include "sosie/digest.h"
#include "sosie/io.h"

#define SOSIE_TREE_LEVELS 5 /* levels 0 to 4 have blocks; the top digest is that of block (4, 0) */
#define SOSIE_VOLUME_MAX ((uint64_t)1 << 50) /* 1 PiB */

struct sosie_tree;

/* Creates PATH (must not exist) for an all-zero volume of size bytes; or opens it. ctx is the volume context;
 * opening compares it (SOSIE_ECORRUPT). io is borrowed until close. */
int sosie_tree_create(struct sosie_io *io, const char *path, const struct sosie_digest *ctx, uint64_t size,
                      struct sosie_tree **out, struct sosie_err *err);
int sosie_tree_open(struct sosie_io *io, const char *path, const struct sosie_digest *ctx, bool writable,
                    struct sosie_tree **out, struct sosie_err *err);
/* Opens PATH as the base, read only, and LAYER (made when missing) over it. A layer that was made is not
 * durable, nor its name: sosie_tree_sync, and the folder is the caller's to fsync. */
int sosie_tree_open_layer(struct sosie_io *io, const char *path, const char *layer,
                          const struct sosie_digest *ctx, struct sosie_tree **out, struct sosie_err *err);
/* Flushes what is cached and closes; says whether all writes worked. NULL is fine. */
int sosie_tree_close(struct sosie_tree *tree, struct sosie_err *err);

uint64_t sosie_tree_size(const struct sosie_tree *tree); /* of the volume, bytes */
/* A new volume size: digests past the end become zero, nodes above follow. The last leaf's digest is the
 * caller's to put anew. */
int sosie_tree_resize(struct sosie_tree *tree, uint64_t size, struct sosie_err *err);

/* The 256 digests of block (level, index). */
int sosie_tree_get(struct sosie_tree *tree, unsigned level, uint64_t index,
                   struct sosie_digest out[SOSIE_FANOUT], struct sosie_err *err);
/* Replaces all 256 leaf digests of block (0, index); nodes above follow lazily. Equal content costs nothing.
 */
int sosie_tree_put(struct sosie_tree *tree, uint64_t index, const struct sosie_digest leaves[SOSIE_FANOUT],
                   struct sosie_err *err);
/* Replaces count leaf digests from leaf `first` on (may cross blocks); NULL digests: zeros, quickly also over
 * huge ranges. */
int sosie_tree_put_leaves(struct sosie_tree *tree, uint64_t first, uint64_t count,
                          const struct sosie_digest *digests, struct sosie_err *err);
/* The first non-zero leaf at or after from; *leaf = UINT64_MAX when none. Whole zero subtrees are skipped. */
int sosie_tree_next(struct sosie_tree *tree, uint64_t from, uint64_t *leaf, struct sosie_err *err);
/* The root digest; hashes what is pending. */
int sosie_tree_root(struct sosie_tree *tree, struct sosie_digest *out, struct sosie_err *err);
/* Hashes and writes what is pending: a kill loses nothing of it then. */
int sosie_tree_flush(struct sosie_tree *tree, struct sosie_err *err);
/* As flush, and fsyncs the file (with a layer: that). */
int sosie_tree_sync(struct sosie_tree *tree, struct sosie_err *err);
/* Repair of a base: leaf digests of one block straight into the file; nodes above do not follow, so that
 * refresh of the block is to be called before anything else. NULL: zeros. */
int sosie_tree_write_leaves(struct sosie_tree *tree, uint64_t first, uint64_t count,
                            const struct sosie_digest *digests, struct sosie_err *err);
/* Recomputes every node above the leaf blocks in [first, first + count) from what the blocks hold: after a
 * crash. */
int sosie_tree_refresh(struct sosie_tree *tree, uint64_t first_block, uint64_t count, struct sosie_err *err);
/* Compares all nodes with their children, bottom up (verify). *bad_level, *bad_index name the first wrong
 * node; *bad_level = UINT_MAX: none. */
int sosie_tree_check(struct sosie_tree *tree, unsigned *bad_level, uint64_t *bad_index,
                     struct sosie_err *err);

/* Layers: one block back to what the base holds; all changes into the base (idempotent: may be run again
 * after a crash; base is synced); the layer emptied. Merging works on closed files. */
int sosie_tree_revert(struct sosie_tree *tree, uint64_t index, struct sosie_err *err);
int sosie_tree_merge(struct sosie_io *io, const char *path, const char *layer, const struct sosie_digest *ctx,
                     struct sosie_err *err);
/* As merge, but only the leaf blocks of the list (ascending, each once) and the nodes above them, which must
 * be all that the layer holds, by put alone and with no change of size. Nothing is fsynced: the caller has
 * the changes elsewhere until the base is. The layer is emptied. */
int sosie_tree_merge_blocks(struct sosie_io *io, const char *path, const char *layer,
                            const struct sosie_digest *ctx, const uint64_t *blocks, size_t count,
                            struct sosie_err *err);

#endif

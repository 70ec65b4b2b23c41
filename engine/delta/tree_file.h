/* SPDX-License-Identifier: MIT */
/*
 * One file of tree blocks (docs/format.md, "Tree file"): its header, where a block lies, and raw reads and
 * writes. Knows nothing of hashing or layers. A place that was never written, also past the end of the file,
 * reads as zeros.
 */
#ifndef SOSIE_DELTA_TREE_FILE_H
#define SOSIE_DELTA_TREE_FILE_H

#include <assert.h>

#include "sosie/tree.h"

#define TREE_HEADER 4096u
#define TREE_TOP (SOSIE_TREE_LEVELS - 1)
#define TREE_LEAF_BLOCKS_MAX (SOSIE_VOLUME_MAX / SOSIE_CHUNK)

struct tree_block {
	struct sosie_digest d[SOSIE_FANOUT];
};
static_assert(sizeof(struct tree_block) == 8192, "a block on disk is 256 digests and nothing more");

struct tree_file {
	struct sosie_io *io;     /* borrowed */
	struct sosie_file *file; /* owned */
	uint64_t volume_size;    /* bytes, as the header says */
};

/* Blocks that one subtree of the level takes in the file, itself included: S(k). */
uint64_t tree_span(unsigned level);
/* Leaf blocks under one block of the level: 256^k. */
uint64_t tree_leaf_blocks(unsigned level);
/* Place of a block in bytes, and back from a block's number in the file (the first is 0). */
uint64_t tree_offset(unsigned level, uint64_t index);
void tree_locate(uint64_t number, unsigned *level, uint64_t *index);

/* Makes the file (header and name durable), or opens it and compares ctx. */
int tree_file_create(struct tree_file *f, struct sosie_io *io, const char *path,
                     const struct sosie_digest *ctx, uint64_t volume_size, struct sosie_err *err);
int tree_file_open(struct tree_file *f, struct sosie_io *io, const char *path, const struct sosie_digest *ctx,
                   bool writable, struct sosie_err *err);
/* Opens what is there or makes it, without flushing anything; a file whose first write was lost in a crash
 * counts as missing. */
int tree_file_open_or_create(struct tree_file *f, struct sosie_io *io, const char *path,
                             const struct sosie_digest *ctx, uint64_t volume_size, struct sosie_err *err);
int tree_file_close(struct tree_file *f, struct sosie_err *err);
int tree_file_put_header(struct tree_file *f, const struct sosie_digest *ctx, struct sosie_err *err);

int tree_file_read(struct tree_file *f, uint64_t offset, struct tree_block *out, struct sosie_err *err);
int tree_file_write(struct tree_file *f, uint64_t offset, const struct tree_block *block,
                    struct sosie_err *err);
/* [offset, end) reads as zeros afterwards; holes cost nothing. */
int tree_file_zero(struct tree_file *f, uint64_t offset, uint64_t end, struct sosie_err *err);
/* The first extent with data in [offset, end); *start = *stop = end when there is none. */
int tree_file_data(struct tree_file *f, uint64_t offset, uint64_t end, uint64_t *start, uint64_t *stop,
                   struct sosie_err *err);

#endif

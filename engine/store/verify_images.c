/* SPDX-License-Identifier: MIT */
/*
 * Images and trees against a manifest. With full every byte of an image is read (past the page cache where
 * that can be, which would show lost bytes as if they were there) and compared leaf by leaf; holes are not
 * read where the tree says zero.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "engine/store/verify.h"

struct volume_check {
	struct verify *w;
	const struct sosie_manifest_volume *named;
	struct sosie_digest ctx;
	char image_path[STORE_PATH], tree_path[STORE_PATH];
	struct sosie_tree *tree;
	struct sosie_file *image;
	bool (*still)(void *arg);
	void *arg;
	bool gone;                 /* the folder was changed by its owner: nothing more to say */
	uint64_t bad_from, bad_to; /* run of wrong leaves not told yet, bytes; equal: none */
};

static bool is_still(struct volume_check *c)
{
	if (!c->gone && c->still && !c->still(c->arg))
		c->gone = true;
	return !c->gone;
}

static int failed(struct volume_check *c, int rc, const char *where, const struct sosie_err *failure,
                  struct sosie_err *err)
{
	return is_still(c) ? verify_failure(c->w, rc, where, failure, err) : 0;
}

/* --- every byte
 * ---------------------------------------------------------------------------------------------------------
 */

static void flush_bad_run(struct volume_check *c)
{
	if (c->bad_to > c->bad_from && is_still(c))
		verify_damage(c->w, c->image_path,
		              "%llu bytes at offset %llu are not what they were when the point was accepted",
		              (unsigned long long)(c->bad_to - c->bad_from), (unsigned long long)c->bad_from);
	c->bad_from = c->bad_to = 0;
}

static void add_bad(struct volume_check *c, uint64_t offset, uint64_t len)
{
	if (c->bad_to != offset || c->bad_to == c->bad_from) {
		flush_bad_run(c);
		c->bad_from = offset;
	}
	c->bad_to = offset + len;
}

/* Compares one chunk (256 leaves) with its block of the tree. */
static int check_chunk(struct volume_check *c, uint64_t block, struct sosie_err *err)
{
	struct sosie_digest named[SOSIE_FANOUT], found;
	const uint64_t start = block * SOSIE_CHUNK, left = c->named->size - start;
	const size_t len = left < SOSIE_CHUNK ? (size_t)left : SOSIE_CHUNK;
	const size_t ask =
	        (len + SOSIE_LEAF - 1) / SOSIE_LEAF * SOSIE_LEAF; /* whole blocks, for direct reads */
	size_t got;
	int rc = sosie_tree_get(c->tree, 0, block, named, err);

	if (rc == 0)
		rc = sosie_io_pread(c->w->io, c->image, c->w->chunk, ask, start, &got, err);
	if (rc < 0)
		return rc;
	if (got < len)
		return sosie_err_set(err, SOSIE_ECORRUPT, "the image ends at %llu",
		                     (unsigned long long)(start + got));
	for (size_t at = 0; at < len; at += SOSIE_LEAF) {
		const size_t n = len - at < SOSIE_LEAF ? len - at : SOSIE_LEAF;
		sosie_digest_leaf(c->w->g->hash, &c->ctx, (start + at) / SOSIE_LEAF, c->w->chunk + at, n,
		                  &found);
		if (!sosie_digest_equal(&found, &named[at / SOSIE_LEAF]))
			add_bad(c, start + at, n);
	}
	c->w->v->image_bytes += len;
	sosie_progress(c->w->v->progress, c->named->name.s, start + len, c->named->size);
	return 0;
}

/* The next chunk at or after offset that has data in the file or digests in the tree; UINT64_MAX when none.
 */
static int next_chunk(struct volume_check *c, uint64_t offset, uint64_t *block, struct sosie_err *err)
{
	uint64_t start, end, leaf;
	int rc = sosie_io_next_data(c->w->io, c->image, offset, &start, &end, err);

	if (rc == 0)
		rc = sosie_tree_next(c->tree, offset / SOSIE_LEAF, &leaf, err);
	if (rc < 0)
		return rc;
	*block = start < end && start < c->named->size ? start / SOSIE_CHUNK : UINT64_MAX;
	if (leaf != UINT64_MAX && leaf / SOSIE_FANOUT < *block &&
	    leaf < (c->named->size + SOSIE_LEAF - 1) / SOSIE_LEAF)
		*block = leaf / SOSIE_FANOUT;
	return 0;
}

static int check_bytes(struct volume_check *c, struct sosie_err *err)
{
	uint64_t offset = 0, block;
	int rc = 0;

	while (rc == 0 && offset < c->named->size && !c->gone) {
		rc = next_chunk(c, offset, &block, err);
		if (rc < 0 || block == UINT64_MAX)
			break;
		rc = check_chunk(c, block, err);
		if (rc == -SOSIE_EIO && err->sys != ECANCELED) {
			/* A place that cannot be read: told, and on behind it. */
			add_bad(c, block * SOSIE_CHUNK,
			        c->named->size - block * SOSIE_CHUNK < SOSIE_CHUNK
			                ? c->named->size - block * SOSIE_CHUNK
			                : SOSIE_CHUNK);
			rc = 0;
		}
		offset = (block + 1) * SOSIE_CHUNK;
	}
	flush_bad_run(c);
	return rc;
}

/* --- one volume
 * ------------------------------------------------------------------------------------------------------------
 */

static int check_tree(struct volume_check *c, struct sosie_err *err)
{
	struct sosie_digest root;
	unsigned level = UINT_MAX;
	uint64_t index = 0;
	int rc = sosie_tree_check(c->tree, &level, &index, err);

	if (rc < 0)
		return rc;
	if (level != UINT_MAX) {
		if (is_still(c))
			verify_damage(c->w, c->tree_path,
			              "the digest of level %u, index %llu is not that of what lies below it",
			              level, (unsigned long long)index);
		return 0;
	}
	rc = sosie_tree_root(c->tree, &root, err);
	if (rc == 0 &&
	    (sosie_tree_size(c->tree) != c->named->size || !sosie_digest_equal(&root, &c->named->root)) &&
	    is_still(c))
		verify_damage(c->w, c->tree_path, "its root is not that of the point's manifest");
	return rc;
}

static int check_image(struct volume_check *c, struct sosie_err *err)
{
	struct sosie_stat st;
	int rc = sosie_io_openat(c->w->io, c->image_path, SOSIE_READ | (c->w->v->full ? SOSIE_DIRECT : 0), 0,
	                         &c->image, err);

	if (rc < 0)
		return rc;
	rc = sosie_io_fstat(c->w->io, c->image, &st, err);
	if (rc == 0 && st.size != c->named->size)
		rc = sosie_err_set(err, SOSIE_ECORRUPT, "it has %llu bytes, the manifest says %llu",
		                   (unsigned long long)st.size, (unsigned long long)c->named->size);
	if (rc == 0 && c->w->v->full && c->tree)
		rc = check_bytes(c, err);
	(void)sosie_io_close(c->w->io, c->image, NULL);
	return rc;
}

static int check_volume(struct volume_check *c, struct sosie_err *err)
{
	struct sosie_err failure;
	int rc = sosie_tree_open(c->w->io, c->tree_path, &c->ctx, false, &c->tree, &failure);

	if (rc == 0)
		rc = check_tree(c, &failure);
	if (rc < 0)
		rc = failed(c, rc, c->tree_path, &failure, err);
	if (rc == 0 && !c->gone) {
		rc = check_image(c, &failure);
		if (rc < 0)
			rc = failed(c, rc, c->image_path, &failure, err);
	}
	(void)sosie_tree_close(c->tree, NULL);
	return rc;
}

int verify_images(struct verify *w, const char *dir, const struct sosie_manifest *m, bool (*still)(void *arg),
                  void *arg, struct sosie_err *err)
{
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < m->volume_count; i++) {
		struct volume_check c = {.w = w, .named = &m->volumes[i], .still = still, .arg = arg};
		rc = store_path(c.image_path, err, "%s/%s.raw", dir, c.named->name.s);
		if (rc == 0)
			rc = store_path(c.tree_path, err, "%s/%s.tree", dir, c.named->name.s);
		if (rc < 0)
			return rc;
		sosie_context_volume(w->g->hash, w->g->tenant.s, w->g->name.s, c.named->name.s, &c.ctx);
		rc = check_volume(&c, err);
		if (c.gone)
			break;
	}
	return rc;
}

/* SPDX-License-Identifier: MIT */
/*
 * Digesting anew what a segment may have changed, after an unclean stop. Only the records' range lists are
 * read, and more loosely than when they are applied: a leaf too many costs time, one too few would hide a
 * torn write.
 *
 * A segment that was not accepted has no manifest here, so that its volume numbers mean nothing: its leaves
 * are looked at in all volumes. Apply stops at the first record that it cannot read, and so does this, not
 * before.
 */
#include <stdlib.h>

#include "engine/store/core.h"

struct redigest {
	struct image_set *set;
	uint8_t *block; /* SOSIE_CHUNK, aligned */
	struct sosie_digest leaves[SOSIE_FANOUT];
	bool unknown;
};

/* Leaves [first, last) of one image, all within data. */
static int digest_data(struct redigest *r, unsigned i, uint64_t first, uint64_t last, struct sosie_err *err)
{
	struct image *im = &r->set->images[i];
	struct sosie_tree *tree;
	int rc = images_tree(r->set, i, &tree, err);
	for (uint64_t at = first; !rc && at < last;) {
		uint64_t count = last - at < SOSIE_FANOUT ? last - at : SOSIE_FANOUT;
		uint64_t left = im->size - at * SOSIE_LEAF;
		size_t len = left < count * SOSIE_LEAF ? (size_t)left : (size_t)count * SOSIE_LEAF, got = 0;
		rc = sosie_io_pread(r->set->store->io, im->file, r->block, len, at * SOSIE_LEAF, &got, err);
		if (!rc && got < len)
			rc = sosie_err_set(err, SOSIE_ECORRUPT, "the image of volume %s became shorter",
			                   im->name.s);
		for (uint64_t k = 0; !rc && k < count; k++) {
			size_t off = (size_t)k * SOSIE_LEAF,
			       n = len - off < SOSIE_LEAF ? len - off : SOSIE_LEAF;
			sosie_digest_leaf(r->set->hash, &im->ctx, at + k, r->block + off, n, &r->leaves[k]);
		}
		if (!rc)
			rc = sosie_tree_put_leaves(tree, at, count, r->leaves, err);
		at += count;
	}
	return rc;
}

/* Holes read as zeros and need no reading. */
static int digest_range(struct redigest *r, unsigned i, uint64_t first, uint64_t last, struct sosie_err *err)
{
	struct image *im = &r->set->images[i];
	struct sosie_tree *tree;
	int rc = images_tree(r->set, i, &tree, err);
	for (uint64_t at = first; !rc && at < last;) {
		uint64_t start, end, from, to;
		rc = sosie_io_next_data(r->set->store->io, im->file, at * SOSIE_LEAF, &start, &end, err);
		if (rc)
			break;
		bool none = start >= end;
		from = none || start / SOSIE_LEAF >= last ? last : start / SOSIE_LEAF;
		to = none ? last : (end + SOSIE_LEAF - 1) / SOSIE_LEAF;
		from = from < at ? at : from;
		to = to > last ? last : to;
		if (from > at)
			rc = sosie_tree_put_leaves(tree, at, from - at, NULL, err);
		if (!rc && to > from)
			rc = digest_data(r, i, from, to, err);
		at = to > from ? to : from;
	}
	if (!rc)
		rc = sosie_tree_refresh(tree, first / SOSIE_FANOUT,
		                        (last - 1) / SOSIE_FANOUT - first / SOSIE_FANOUT + 1, err);
	return rc;
}

static int clip_and_digest(struct redigest *r, unsigned i, uint64_t leaf, uint32_t leaves,
                           struct sosie_err *err)
{
	uint64_t all = (r->set->images[i].size + SOSIE_LEAF - 1) / SOSIE_LEAF;
	uint64_t last;
	if (leaf >= all || leaves == 0)
		return 0;
	last = leaves > all - leaf ? all : leaf + leaves;
	return digest_range(r, i, leaf, last, err);
}

static int redigest_record(struct redigest *r, const uint8_t *bytes, size_t len, struct sosie_err *err)
{
	struct sosie_reader in;
	uint32_t ranges_len, payload_len;
	int rc = sosie_record_lengths(bytes, &ranges_len, &payload_len, err);
	if (rc)
		return rc;
	sosie_reader_init(&in, bytes, len);
	sosie_get_view(&in, SOSIE_RECORD_HEADER);
	for (uint32_t at = 0; !rc && at < ranges_len && !in.failed; at += SOSIE_RANGE_BYTES) {
		uint64_t leaf = sosie_get_u64(&in);
		uint32_t leaves = sosie_get_u32(&in);
		uint16_t volume = sosie_get_u16(&in);
		sosie_get_u16(&in);
		if (in.failed || (!r->unknown && volume >= r->set->count))
			return sosie_err_set(err, SOSIE_ECORRUPT, "a record in the journal is damaged");
		unsigned first = r->unknown ? 0 : volume, last = r->unknown ? r->set->count : volume + 1u;
		for (unsigned i = first; !rc && i < last; i++)
			rc = clip_and_digest(r, i, leaf, leaves, err);
	}
	return rc;
}

/* *end: the part cannot be read further. */
static int redigest_part(struct redigest *r, uint64_t point, unsigned part, bool *end, struct sosie_err *err)
{
	struct sosie_io *io = r->set->store->io;
	struct apply_pool *pool;
	struct part_stream *s = calloc(1, sizeof(*s));
	struct sosie_file *f = NULL;
	struct sosie_stat st;
	char path[STORE_PATH];
	int rc = s ? apply_pool_get(r->set->store, &pool, err)
	           : sosie_err_set(err, SOSIE_ENOMEM, "no memory to read a part");
	if (!rc)
		rc = journal_path(r->set->group_dir, point, part, path, err);
	if (!rc)
		rc = sosie_io_openat(io, path, SOSIE_READ, 0, &f, err);
	if (!rc)
		rc = sosie_io_fstat(io, f, &st, err);
	if (!rc) {
		stream_start(s, io, f, st.size, apply_pool_ring(pool), apply_pool_scratch(pool));
		const uint8_t *bytes;
		size_t len = 1;
		while (!rc && len) {
			rc = stream_record(s, &bytes, &len, err);
			*end = rc == -SOSIE_ECORRUPT;
			if (!rc && len)
				rc = redigest_record(r, bytes, len, err);
			if (!rc)
				stream_skip(s, len);
		}
		stream_stop(s);
	}
	sosie_io_close(io, f, NULL);
	free(s);
	return rc;
}

static int redigest_parts(struct image_set *set, uint64_t point, unsigned parts, bool unknown,
                          struct sosie_err *err)
{
	struct redigest *r = calloc(1, sizeof(*r));
	bool end = false;
	int rc = 0;
	if (!r || !(r->block = aligned_alloc(SOSIE_LEAF, SOSIE_CHUNK))) {
		free(r);
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory to digest images anew");
	}
	r->set = set;
	r->unknown = unknown;
	for (unsigned i = 0; i < set->count; i++)
		set->images[i].dirty = set->images[i].tree_dirty = true;
	for (unsigned i = 0; !rc && !end && i < parts; i++)
		rc = redigest_part(r, point, i, &end, err);
	free(r->block);
	free(r);
	return unknown && end ? 0 : rc;
}

int images_redigest(struct image_set *set, const struct sosie_manifest *m, uint64_t point,
                    struct sosie_err *err)
{
	return redigest_parts(set, point, m->part_count, false, err);
}

int images_redigest_unknown(struct image_set *set, uint64_t point, struct sosie_err *err)
{
	char path[STORE_PATH];
	unsigned parts = 0;
	for (; parts < SOSIE_PARTS_MAX; parts++) {
		int rc = journal_path(set->group_dir, point, parts, path, err);
		if (rc)
			return rc;
		if (!sosie_io_exists(set->store->io, path))
			break;
	}
	return redigest_parts(set, point, parts, true, err);
}

/* SPDX-License-Identifier: MIT */
/*
 * Digesting anew what segments may have changed, after an unclean stop. Only the records' range lists are
 * read, and more loosely than when they are applied (ranges may lie outside their volumes): a leaf too many
 * costs time, one too few would hide a torn write. All segments are read first; what they touched is digested
 * once, however often they touch it: the work is bounded by what the images hold.
 *
 * A segment that was not accepted has no manifest here, so that its volume numbers mean nothing: its leaves
 * are looked at in all volumes. Apply stops at the first record that it cannot read, and so does this, not
 * before.
 */
#include <stdlib.h>

#include "engine/store/core.h"

#define TOUCHED_MAX ((size_t)256 << 10) /* 24 bytes each */
#define TOUCHED_MIN ((size_t)1 << 10)

struct redigest {
	struct image_set *set;
	uint8_t *block; /* SOSIE_CHUNK, aligned */
	struct sosie_digest leaves[SOSIE_FANOUT];
	struct touched known, unknown; /* unknown: of every volume, its number is 0 */
	bool no_manifest;              /* the segment that is being read has none */
	struct sosie_record record;    /* the one that is being read */
	/* Blocks of the trees that were put and whose nodes above are not yet refreshed: [from, to). */
	uint64_t refresh_from, refresh_to;
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
	return rc;
}

static int refresh_blocks(struct redigest *r, unsigned i, struct sosie_err *err)
{
	struct sosie_tree *tree;
	int rc = r->refresh_to > r->refresh_from ? images_tree(r->set, i, &tree, err) : 0;
	if (!rc && r->refresh_to > r->refresh_from)
		rc = sosie_tree_refresh(tree, r->refresh_from, r->refresh_to - r->refresh_from, err);
	r->refresh_from = r->refresh_to = 0;
	return rc;
}

static uint64_t image_leaves(const struct image *im)
{
	return (im->size + SOSIE_LEAF - 1) / SOSIE_LEAF;
}

/* Ranges come in order: those in the same or the next block of the tree are refreshed together. */
static int clip_and_digest(struct redigest *r, unsigned i, const struct touched_range *range,
                           struct sosie_err *err)
{
	const uint64_t all = image_leaves(&r->set->images[i]);
	const uint64_t last = range->last < all ? range->last : all;
	int rc = 0;
	if (range->first >= last)
		return 0;
	if (range->first / SOSIE_FANOUT > r->refresh_to)
		rc = refresh_blocks(r, i, err);
	if (!rc)
		rc = digest_range(r, i, range->first, last, err);
	if (r->refresh_to == 0)
		r->refresh_from = range->first / SOSIE_FANOUT;
	r->refresh_to = (last - 1) / SOSIE_FANOUT + 1;
	return rc;
}

static int digest_known(struct redigest *r, struct sosie_err *err)
{
	int rc = 0;
	unsigned at = 0;
	touched_order(&r->known);
	for (size_t k = 0; !rc && k < r->known.count; k++) {
		const struct touched_range *range = &r->known.ranges[k];
		if (range->volume != at)
			rc = refresh_blocks(r, at, err);
		at = range->volume;
		if (!rc)
			rc = clip_and_digest(r, at, range, err);
	}
	return rc ? rc : refresh_blocks(r, at, err);
}

static int digest_unknown(struct redigest *r, struct sosie_err *err)
{
	int rc = 0;
	touched_order(&r->unknown);
	for (unsigned i = 0; !rc && i < r->set->count; i++) {
		for (size_t k = 0; !rc && k < r->unknown.count; k++)
			rc = clip_and_digest(r, i, &r->unknown.ranges[k], err);
		if (!rc)
			rc = refresh_blocks(r, i, err);
	}
	return rc;
}

static int note_range(struct redigest *r, uint16_t volume, uint64_t leaf, uint32_t leaves,
                      struct sosie_err *err)
{
	uint64_t all = 0;
	if (r->no_manifest)
		for (unsigned i = 0; i < r->set->count; i++) {
			const uint64_t of_one = image_leaves(&r->set->images[i]);
			all = of_one > all ? of_one : all;
		}
	else
		all = image_leaves(&r->set->images[volume]);
	if (leaf >= all)
		return 0;
	return touched_add(r->no_manifest ? &r->unknown : &r->known, r->no_manifest ? 0 : volume, leaf,
	                   leaves > all - leaf ? all : leaf + leaves, err);
}

static int read_ranges(struct redigest *r, const uint8_t *bytes, struct sosie_err *err)
{
	uint32_t ranges_len, payload_len;
	int rc = sosie_record_lengths(bytes, &ranges_len, &payload_len, err);
	return rc ? rc
	          : sosie_record_ranges(bytes, SOSIE_RECORD_HEADER + (size_t)ranges_len, &r->record, err);
}

/* Of the record that was read. */
static int note_ranges(struct redigest *r, struct sosie_err *err)
{
	int rc = 0;
	for (unsigned i = 0; !rc && i < r->record.range_count; i++) {
		const struct sosie_range *range = &r->record.ranges[i];
		if (!r->no_manifest && range->volume >= r->set->count)
			return sosie_err_set(err, SOSIE_ECORRUPT, "a record in the journal is damaged");
		rc = note_range(r, range->volume, range->leaf, range->leaves, err);
	}
	return rc;
}

/* *end: the part cannot be read further. */
static int note_part(struct redigest *r, uint64_t point, unsigned part, bool *end, struct sosie_err *err)
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
			if (!rc && len)
				rc = read_ranges(r, bytes, err);
			*end = rc == -SOSIE_ECORRUPT;
			if (!rc && len)
				rc = note_ranges(r, err);
			if (!rc)
				stream_skip(s, len);
		}
		stream_stop(s);
	}
	sosie_io_close(io, f, NULL);
	free(s);
	return rc;
}

static int note_unknown(struct redigest *r, uint64_t point, struct sosie_err *err)
{
	char path[STORE_PATH];
	bool end = false;
	int rc = 0;
	r->no_manifest = true;
	for (unsigned part = 0; !rc && part < SOSIE_PARTS_MAX; part++) {
		rc = journal_path(r->set->group_dir, point, part, path, err);
		if (rc || !sosie_io_exists(r->set->store->io, path))
			break;
		rc = note_part(r, point, part, &end, err);
	}
	return end ? 0 : rc;
}

static int note_segments(struct redigest *r, struct sosie_group *g, uint64_t from, uint64_t to,
                         struct sosie_err *err)
{
	bool end;
	int rc = 0;
	for (uint64_t p = from; !rc && p <= to; p++) {
		struct sosie_manifest m = {0};
		rc = sosie_group_manifest(g, p, &m, err);
		for (unsigned i = 0; !rc && i < m.part_count; i++)
			rc = note_part(r, p, i, &end, err);
		sosie_manifest_fini(&m);
	}
	return rc ? rc : note_unknown(r, to + 1, err);
}

int images_redigest(struct image_set *set, struct sosie_group *g, uint64_t from, uint64_t to,
                    struct sosie_err *err)
{
	struct redigest *r = calloc(1, sizeof(*r));
	if (!r || !(r->block = aligned_alloc(SOSIE_LEAF, SOSIE_CHUNK))) {
		free(r);
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory to digest images anew");
	}
	const size_t each = TOUCHED_MAX / (set->count ? set->count : 1);
	r->set = set;
	touched_init(&r->known, TOUCHED_MAX);
	touched_init(&r->unknown, each > TOUCHED_MIN ? each : TOUCHED_MIN);
	for (unsigned i = 0; i < set->count; i++)
		set->images[i].dirty = set->images[i].tree_dirty = true;
	int rc = note_segments(r, g, from, to, err);
	if (!rc)
		rc = digest_known(r, err);
	if (!rc)
		rc = digest_unknown(r, err);
	touched_fini(&r->known);
	touched_fini(&r->unknown);
	free(r->block);
	free(r);
	return rc;
}

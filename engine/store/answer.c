/* SPDX-License-Identifier: MIT */
/*
 * Answering a comparison: the upload lists blocks of digests of the source's trees within intervals that it
 * asks about; an interval's blocks that it does not list are zero there. We tell which children differ from
 * the head's. Work is bounded by the entries listed and by our own blocks that are not zero: whole zero
 * subtrees are skipped.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/store/core.h"

#define OUT_ENTRIES 1024u

struct answer {
	struct sosie_group *g;
	const struct sosie_manifest *m;
	struct part_stream *in;
	struct sosie_hash *hash;
	struct sosie_digest chain;
	uint64_t records;
	/* The next listed entry, when have. */
	bool have;
	struct sosie_compare_entry entry;
	/* Our tree of the volume asked about; NULL: all zero. */
	struct image_set *set;
	struct sosie_digest ours[SOSIE_FANOUT];
	/* Output. */
	struct sosie_file *out;
	uint64_t out_at;
	size_t out_len;
	uint8_t buffer[OUT_ENTRIES * SOSIE_DIFFERS_ENTRY];
	bool bad;
};

static int wrong(struct answer *a, struct sosie_err *err, const char *what)
{
	a->bad = true;
	return sosie_err_set(err, SOSIE_EPROTO, "the comparison is not well formed: %s", what);
}

static int next_entry(struct answer *a, struct sosie_err *err)
{
	const uint8_t *bytes;
	struct sosie_compare_entry last = a->entry;
	bool first = a->records == 0;
	a->have = false;
	if (a->in->at == a->in->length)
		return 0;
	int rc = stream_need(a->in, SOSIE_COMPARE_ENTRY, &bytes, err);
	if (!rc)
		rc = sosie_compare_get(bytes, &a->entry, err);
	if (rc) {
		a->bad = rc == -SOSIE_ECORRUPT || rc == -SOSIE_EPROTO;
		return rc;
	}
	sosie_part_link(a->hash, bytes, SOSIE_COMPARE_ENTRY, &a->chain);
	stream_skip(a->in, SOSIE_COMPARE_ENTRY);
	a->records++;
	a->have = true;
	const struct sosie_compare_entry *e = &a->entry;
	bool ascends = first || e->volume > last.volume ||
	               (e->volume == last.volume &&
	                (e->level > last.level || (e->level == last.level && e->block > last.block)));
	return ascends ? 0 : wrong(a, err, "entries do not ascend");
}

static int flush_out(struct answer *a, struct sosie_err *err)
{
	int rc = a->out_len ? sosie_io_pwrite(a->g->store->io, a->out, a->buffer, a->out_len, a->out_at, err)
	                    : 0;
	a->out_at += a->out_len;
	a->out_len = 0;
	return rc;
}

/* Compares ours (in a->ours) with theirs (NULL: zeros). */
static int tell(struct answer *a, unsigned volume, unsigned level, uint64_t block,
                const struct sosie_digest *theirs, struct sosie_err *err)
{
	struct sosie_differs_entry d = {.volume = (uint16_t)volume, .level = (uint16_t)level, .block = block};
	bool any = false;
	for (unsigned i = 0; i < SOSIE_FANOUT; i++) {
		bool same = theirs ? sosie_digest_equal(&a->ours[i], &theirs[i])
		                   : sosie_digest_is_zero(&a->ours[i]);
		if (!same)
			d.bitmap[i / 8] = (uint8_t)(d.bitmap[i / 8] | 1u << i % 8);
		any |= !same;
	}
	if (!any)
		return 0;
	sosie_differs_put(a->buffer + a->out_len, &d);
	a->out_len += SOSIE_DIFFERS_ENTRY;
	return a->out_len == sizeof(a->buffer) ? flush_out(a, err) : 0;
}

/* Bytes of a volume that one block of a level covers; the level is at most 4. */
static uint64_t covers(unsigned level)
{
	return (uint64_t)SOSIE_CHUNK << 8 * level;
}

static int our_block(struct answer *a, struct sosie_tree *tree, unsigned level, uint64_t block,
                     struct sosie_err *err)
{
	memset(a->ours, 0, sizeof(a->ours));
	if (!tree || block > sosie_tree_size(tree) / covers(level))
		return 0;
	return sosie_tree_get(tree, level, block, a->ours, err);
}

/* The first block of the level at or after from that is not zero with us; UINT64_MAX: none. Descends from the
 * top. */
static int next_block(struct answer *a, struct sosie_tree *tree, unsigned level, uint64_t from, uint64_t *out,
                      struct sosie_err *err)
{
	uint64_t parent = from / SOSIE_FANOUT;
	unsigned child = (unsigned)(from % SOSIE_FANOUT);
	*out = UINT64_MAX;
	if (!tree || from > sosie_tree_size(tree) / covers(level))
		return 0;
	if (level == SOSIE_TREE_LEVELS - 1) {
		*out = from == 0 ? 0 : UINT64_MAX;
		return 0;
	}
	while (parent != UINT64_MAX) {
		int rc = our_block(a, tree, level + 1, parent, err);
		if (rc)
			return rc;
		for (; child < SOSIE_FANOUT; child++)
			if (!sosie_digest_is_zero(&a->ours[child])) {
				*out = parent * SOSIE_FANOUT + child;
				return 0;
			}
		child = 0;
		rc = next_block(a, tree, level + 1, parent + 1, &parent, err);
		if (rc)
			return rc;
	}
	return 0;
}

/* Blocks [from, to) that the source says are zero. */
static int tell_ours(struct answer *a, struct sosie_tree *tree, const struct sosie_manifest_ask *ask,
                     uint64_t from, uint64_t to, struct sosie_err *err)
{
	while (from < to) {
		uint64_t block;
		int rc = next_block(a, tree, ask->level, from, &block, err);
		if (rc || block >= to)
			return rc;
		rc = our_block(a, tree, ask->level, block, err);
		if (!rc)
			rc = tell(a, ask->volume, ask->level, block, NULL, err);
		if (rc)
			return rc;
		from = block + 1;
	}
	return 0;
}

static int our_tree(struct answer *a, unsigned volume, struct sosie_tree **out, struct sosie_err *err)
{
	*out = NULL;
	for (unsigned i = 0; a->set && i < a->set->count; i++)
		if (strcmp(a->set->images[i].name.s, a->m->volumes[volume].name.s) == 0)
			return images_tree(a->set, i, out, err);
	return 0;
}

static int answer_ask(struct answer *a, const struct sosie_manifest_ask *ask, struct sosie_err *err)
{
	struct sosie_tree *tree;
	uint64_t at = ask->first, end = ask->first + ask->count;
	int rc = our_tree(a, ask->volume, &tree, err);
	while (!rc && a->have && a->entry.volume == ask->volume && a->entry.level == ask->level &&
	       a->entry.block < end) {
		if (a->entry.block < at)
			return wrong(a, err, "an entry that was not asked about");
		rc = tell_ours(a, tree, ask, at, a->entry.block, err);
		if (!rc)
			rc = our_block(a, tree, ask->level, a->entry.block, err);
		if (!rc)
			rc = tell(a, ask->volume, ask->level, a->entry.block, a->entry.children, err);
		at = a->entry.block + 1;
		if (!rc)
			rc = next_entry(a, err);
	}
	return rc ? rc : tell_ours(a, tree, ask, at, end, err);
}

static bool asks_ascend(const struct sosie_manifest *m)
{
	for (unsigned i = 0; i < m->ask_count; i++) {
		const struct sosie_manifest_ask *y = &m->asks[i], *x = i ? &m->asks[i - 1] : NULL;
		uint64_t end;
		if (y->volume >= m->volume_count || y->level >= SOSIE_TREE_LEVELS ||
		    !sosie_add_u64(y->first, y->count, &end))
			return false;
		if (x && (y->volume < x->volume || (y->volume == x->volume && y->level < x->level) ||
		          (y->volume == x->volume && y->level == x->level && y->first < x->first + x->count)))
			return false;
	}
	return true;
}

static int answer_all(struct answer *a, struct sosie_err *err)
{
	if (a->m->part_count > 1 || !asks_ascend(a->m))
		return wrong(a, err, "asks do not ascend, or there is more than one part");
	sosie_part_start(a->hash, &a->set->group_ctx, 0, &a->chain);
	int rc = a->in ? next_entry(a, err) : 0;
	for (unsigned i = 0; !rc && i < a->m->ask_count; i++)
		rc = answer_ask(a, &a->m->asks[i], err);
	if (!rc && a->have)
		rc = wrong(a, err, "an entry that was not asked about");
	if (!rc && a->in &&
	    (a->records != a->m->parts[0].records || !sosie_digest_equal(&a->chain, &a->m->parts[0].digest)))
		rc = wrong(a, err, "the part does not have the digest of its manifest");
	return rc ? rc : flush_out(a, err);
}

/* The head's trees, or an empty set when there is no point yet. */
static int open_head(struct answer *a, struct sosie_err *err)
{
	struct sosie_manifest m = {0};
	char dir[STORE_PATH];
	int rc = head_ready(a->g, NULL, err);
	if (!rc)
		rc = store_path(dir, err, "%s/head", a->g->dir);
	if (!rc && sosie_group_points(a->g))
		rc = sosie_group_manifest(a->g, sosie_group_points(a->g), &m, err);
	if (!rc)
		rc = images_open_mode(a->g, dir, &m, IMAGES_READ, &a->set, err);
	sosie_manifest_fini(&m);
	return rc;
}

static int open_input(struct answer *a, const struct upload *u, struct sosie_file **f, struct sosie_err *err)
{
	struct apply_pool *pool;
	if (a->m->part_count == 0)
		return 0;
	int rc = upload_open_part(a->g, u, 0, a->m->parts[0].length, f, err);
	a->bad = rc == -SOSIE_EPROTO;
	if (!rc)
		rc = apply_pool_get(a->g->store, &pool, err);
	if (!rc && !(a->in = calloc(1, sizeof(*a->in))))
		rc = sosie_err_set(err, SOSIE_ENOMEM, "no memory to answer a comparison");
	if (!rc)
		stream_start(a->in, a->g->store->io, *f, a->m->parts[0].length, apply_pool_ring(pool),
		             apply_pool_scratch(pool));
	return rc;
}

static int run(struct answer *a, const struct upload *u, const char *path, struct sosie_err *err)
{
	struct sosie_file *f = NULL;
	struct sosie_io *io = a->g->store->io;
	char tmp[STORE_PATH];
	a->hash = sosie_hash_new();
	int rc = a->hash ? store_path(tmp, err, "%s.tmp", path)
	                 : sosie_err_set(err, SOSIE_ENOMEM, "no memory to answer");
	if (!rc)
		rc = open_head(a, err);
	if (!rc)
		rc = open_input(a, u, &f, err);
	if (!rc)
		rc = sosie_io_openat(io, tmp, SOSIE_WRITE | SOSIE_CREATE | SOSIE_TRUNC, 0640, &a->out, err);
	if (!rc)
		rc = answer_all(a, err);
	if (a->in)
		stream_stop(a->in);
	int closed = sosie_io_close(io, a->out, rc ? NULL : err);
	rc = rc ? rc : closed;
	if (!rc)
		rc = sosie_io_rename(io, tmp, path, err);
	else if (a->out)
		sosie_io_unlink(io, tmp, NULL);
	sosie_io_close(io, f, NULL);
	images_close(a->set, NULL);
	sosie_hash_free(a->hash);
	free(a->in);
	return rc;
}

int answer_compare(struct sosie_group *g, const struct upload *u, const struct sosie_manifest *m, bool *bad,
                   struct sosie_err *err)
{
	struct answer *a = calloc(1, sizeof(*a));
	struct sosie_digest digest;
	char name[UPLOAD_HEX + 16], path[STORE_PATH];
	*bad = false;
	if (!a)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory to answer a comparison");
	a->g = g;
	a->m = m;
	sosie_hex(name, u->id.b, sizeof(u->id.b));
	memcpy(name + UPLOAD_HEX, ".differs", 9);
	int rc = outbox_path(g, name, path, err);
	if (!rc)
		rc = run(a, u, path, err);
	*bad = a->bad;
	free(a);
	sosie_commit_digest(g->hash, u->manifest, u->manifest_len, &digest);
	return rc ? rc : outbox_verdict(g, &u->id, &digest, SOSIE_VERDICT_DIFFERS, NULL, err);
}

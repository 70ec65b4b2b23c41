/* SPDX-License-Identifier: MIT */
/*
 * A worker: takes pieces, keeps several reads in flight, digests each leaf once and gives what differs from
 * the tree to its sender. It owns its ring, buffers and sender; trees are shared and read under the
 * replicator's lock. Reads are processed in the order of submission, so that leaves reach the sender
 * ascending.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/replicate/internal.h"

#define SLOTS 4u
#define SLOT_BYTES SOSIE_CHUNK

struct slot {
	struct sosie_req req;
	bool busy, done;
	uint64_t start, len; /* bytes of the volume; inside one chunk */
	uint8_t *buf;
};

struct worker {
	struct pass *pass;
	struct sosie_replicator *r;
	struct sosie_io *io;
	struct sosie_hash *hash;
	struct sender *sender;
	struct sosie_file *file; /* of volume `volume`; NULL: none */
	unsigned volume;
	struct piece piece; /* data not yet submitted: [start, end) */
	bool ended;         /* the queue is empty */
	uint8_t *buffers;
	struct slot slots[SLOTS];
	unsigned first, count; /* in flight: a ring */
	struct sosie_digest old[SOSIE_FANOUT];
};

int worker_new(struct pass *p, unsigned number, struct worker **out, struct sosie_err *err)
{
	struct worker *w = calloc(1, sizeof(*w));
	int rc;

	*out = w;
	if (!w)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for a worker");
	w->pass = p;
	w->r = p->r;
	w->piece.kind = PIECE_NONE;
	w->hash = sosie_hash_new();
	w->buffers = aligned_alloc(SOSIE_LEAF, SLOTS * SLOT_BYTES);
	if (!w->hash || !w->buffers)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for a worker");
	rc = sosie_io_open(SLOTS, &w->io, NULL, 0, err);
	if (rc == 0)
		rc = sosie_io_buffers(w->io, w->buffers, SLOTS * SLOT_BYTES, err);
	if (rc == 0 && p->mode == PASS_SEND)
		rc = sender_new(w->r, number, &w->sender, err);
	for (unsigned i = 0; i < SLOTS; i++)
		w->slots[i].buf = w->buffers + i * SLOT_BYTES;
	return rc;
}

void worker_free(struct worker *w)
{
	if (!w)
		return;
	sender_free(w->sender);
	if (w->file)
		sosie_io_close(w->io, w->file, NULL);
	sosie_io_free(w->io);
	sosie_hash_free(w->hash);
	free(w->buffers);
	free(w);
}

/* --- leaves
 * ------------------------------------------------------------------------------------------------------------------
 */

static int get_block(struct worker *w, uint64_t chunk, struct sosie_err *err)
{
	int rc;

	pthread_mutex_lock(&w->r->lock);
	rc = sosie_tree_get(w->r->volumes[w->volume].tree, 0, chunk, w->old, err);
	pthread_mutex_unlock(&w->r->lock);
	return rc;
}

static int send_leaves(struct worker *w, const struct slot *s, struct sosie_err *err)
{
	const struct volume *v = &w->r->volumes[w->volume];
	uint64_t first = s->start / SOSIE_LEAF;
	int rc = get_block(w, s->start / SOSIE_CHUNK, err);

	for (uint64_t at = 0; rc == 0 && at < s->len; at += SOSIE_LEAF) {
		uint64_t leaf = first + at / SOSIE_LEAF;
		size_t len = s->len - at < SOSIE_LEAF ? (size_t)(s->len - at) : SOSIE_LEAF;
		const struct sosie_digest *old = &w->old[leaf % SOSIE_FANOUT];
		struct sosie_digest digest;

		if (v->only_unknown && !sosie_digest_equal(old, &leaf_unknown))
			continue;
		sosie_digest_leaf(w->hash, &v->ctx, leaf, s->buf + at, len, &digest);
		if (sosie_digest_equal(&digest, old))
			continue;
		if (sosie_digest_is_zero(&digest))
			rc = sender_zero(w->sender, SOSIE_RECORD_ZERO, w->volume, leaf, err);
		else
			rc = sender_data(w->sender, w->volume, leaf, &digest, s->buf + at, len, err);
	}
	return rc;
}

static int digest_leaves(struct worker *w, const struct slot *s, struct sosie_err *err)
{
	const struct volume *v = &w->r->volumes[w->volume];
	uint64_t first = s->start / SOSIE_LEAF, count = 0;
	int rc;

	for (uint64_t at = 0; at < s->len; at += SOSIE_LEAF, count++) {
		size_t len = s->len - at < SOSIE_LEAF ? (size_t)(s->len - at) : SOSIE_LEAF;

		sosie_digest_leaf(w->hash, &v->ctx, first + count, s->buf + at, len, &w->old[count]);
	}
	pthread_mutex_lock(&w->r->lock);
	rc = sosie_tree_put_leaves(v->tree, first, count, w->old, err);
	pthread_mutex_unlock(&w->r->lock);
	return rc;
}

/* A hole: what the tree has there that is not zero is gone. Nothing is read. */
static int discard_hole(struct worker *w, struct sosie_err *err)
{
	struct sosie_tree *tree = w->r->volumes[w->volume].tree;
	uint64_t leaf = w->piece.start / SOSIE_LEAF, end = (w->piece.end + SOSIE_LEAF - 1) / SOSIE_LEAF;

	while (w->pass->mode == PASS_SEND && leaf < end) {
		int rc;

		pthread_mutex_lock(&w->r->lock);
		rc = sosie_tree_next(tree, leaf, &leaf, err);
		if (rc == 0 && leaf < end)
			rc = sosie_tree_get(tree, 0, leaf / SOSIE_FANOUT, w->old, err);
		pthread_mutex_unlock(&w->r->lock);
		if (rc != 0 || leaf >= end)
			return rc;
		if (stop_asked(w->r))
			return stop_error(err);
		do {
			if (!sosie_digest_is_zero(&w->old[leaf % SOSIE_FANOUT]))
				rc = sender_zero(w->sender, SOSIE_RECORD_DISCARD, w->volume, leaf, err);
			leaf++;
		} while (rc == 0 && leaf < end && leaf % SOSIE_FANOUT != 0);
		if (rc != 0)
			return rc;
	}
	return 0;
}

/* --- reads
 * --------------------------------------------------------------------------------------------------------------------
 */

static void read_done(struct sosie_req *req)
{
	struct slot *s = (struct slot *)req;

	s->done = true;
}

static void submit_read(struct worker *w, uint64_t start, uint64_t len)
{
	struct slot *s = &w->slots[(w->first + w->count) % SLOTS];

	rate_wait(w->r, len);
	s->start = start;
	s->len = len;
	s->busy = true;
	s->done = false;
	memset(&s->req, 0, sizeof(s->req));
	s->req.op = SOSIE_OP_READ;
	s->req.file = w->file;
	s->req.buf = s->buf;
	s->req.len = (len + SOSIE_LEAF - 1) / SOSIE_LEAF *
	             SOSIE_LEAF; /* whole leaves: direct I/O; the end of file cuts it */
	s->req.offset = start;
	s->req.done = read_done;
	w->count++;
	sosie_io_submit(w->io, &s->req);
}

static int check_read(const struct worker *w, const struct slot *s, struct sosie_err *err)
{
	const struct volume *v = &w->r->volumes[w->volume];

	if (s->req.sys != 0) {
		sosie_err_sys(err, s->req.sys, "volume %s cannot be read at byte %llu", v->given->name.s,
		              (unsigned long long)s->start);
		sosie_err_where(err, "%.250s", v->path);
		return sosie_err_action(err, "the point was not made; look at the disk under it");
	}
	if (s->req.got >= s->len)
		return 0;
	sosie_err_set(err, SOSIE_ESHRUNK,
	              "volume %s became smaller while it was read: it ends at byte %llu of %llu",
	              v->given->name.s, (unsigned long long)(s->start + s->req.got),
	              (unsigned long long)v->size);
	sosie_err_where(err, "%.250s", v->path);
	return sosie_err_action(err, "nothing was committed; run again when its size no longer changes");
}

static void tell_progress(struct worker *w, uint64_t bytes)
{
	pthread_mutex_lock(&w->r->lock);
	w->r->result->read_bytes += bytes;
	sosie_progress(w->r->o.progress, w->pass->mode == PASS_DIGEST ? "digesting" : "reading",
	               w->r->result->read_bytes, w->r->total_bytes);
	pthread_mutex_unlock(&w->r->lock);
}

/* Waits for the oldest read and works on it. */
static int finish_oldest(struct worker *w, struct sosie_err *err)
{
	struct slot *s = &w->slots[w->first];
	int rc = 0;

	while (!s->done && rc >= 0)
		rc = sosie_io_reap(w->io, 1, err);
	if (rc < 0)
		return rc;
	s->busy = false;
	w->first = (w->first + 1) % SLOTS;
	w->count--;
	rc = check_read(w, s, err);
	if (rc != 0)
		return rc;
	tell_progress(w, s->len);
	return w->pass->mode == PASS_DIGEST ? digest_leaves(w, s, err) : send_leaves(w, s, err);
}

/* Before buffers and files go: nothing may be in flight. */
static void abandon_reads(struct worker *w)
{
	for (; w->count > 0; w->count--, w->first = (w->first + 1) % SLOTS)
		while (!w->slots[w->first].done && sosie_io_reap(w->io, 1, NULL) >= 0)
			;
}

static int switch_volume(struct worker *w, unsigned volume, struct sosie_err *err)
{
	const struct volume *v = &w->r->volumes[volume];
	int rc = 0;

	while (rc == 0 && w->count > 0)
		rc = finish_oldest(w, err);
	if (rc != 0)
		return rc;
	if (w->file)
		sosie_io_close(w->io, w->file, NULL);
	w->file = NULL;
	w->volume = volume;
	rc = sosie_io_openat(w->io, v->path, SOSIE_READ | SOSIE_DIRECT | SOSIE_DEVICE | SOSIE_FOLLOW, 0,
	                     &w->file, err);
	if (rc == 0)
		return 0;
	w->file = NULL;
	return sosie_err_wrap(err, "volume %s", v->given->name.s);
}

/* Must the chunk be read at all? Not when it was read for the comparison and nothing in it is unknown. */
static int is_wanted(struct worker *w, uint64_t chunk, bool *wanted, struct sosie_err *err)
{
	int rc;

	*wanted = true;
	if (w->pass->mode == PASS_DIGEST)
		*wanted = w->r->volumes[w->volume].compare;
	if (w->pass->mode == PASS_DIGEST || !w->r->volumes[w->volume].only_unknown)
		return 0;
	rc = get_block(w, chunk, err);
	*wanted = false;
	for (unsigned i = 0; rc == 0 && i < SOSIE_FANOUT && !*wanted; i++)
		*wanted = sosie_digest_equal(&w->old[i], &leaf_unknown);
	return rc;
}

/* Submits the next chunk of the piece, or takes another piece. */
static int advance(struct worker *w, struct sosie_err *err)
{
	uint64_t start = w->piece.start, stop = (start / SOSIE_CHUNK + 1) * SOSIE_CHUNK;
	bool wanted;
	int rc;

	if (w->piece.kind != PIECE_DATA || start >= w->piece.end) {
		rc = pass_take(w->pass, w->io, w->file, w->volume, &w->piece, err);
		w->ended = rc == 0 && w->piece.kind == PIECE_NONE;
		if (rc == 0 && w->piece.kind == PIECE_SWITCH)
			rc = switch_volume(w, w->piece.volume, err);
		if (rc == 0 && w->piece.kind == PIECE_HOLE)
			rc = discard_hole(w, err);
		return rc;
	}
	stop = stop < w->piece.end ? stop : w->piece.end;
	w->piece.start = stop;
	rc = is_wanted(w, start / SOSIE_CHUNK, &wanted, err);
	if (rc == 0 && wanted)
		submit_read(w, start, stop - start);
	return rc;
}

int worker_run(struct worker *w, struct sosie_err *err)
{
	int rc = 0;

	while (rc == 0 && (!w->ended || w->count > 0)) {
		if (stop_asked(w->r))
			rc = stop_error(err);
		else if (!w->ended && w->count < SLOTS)
			rc = advance(w, err);
		else
			rc = finish_oldest(w, err);
	}
	abandon_reads(w);
	return rc;
}

/* Attachments follow in a part of their own, once it is known that a point is made (commit.c). */
int worker_finish(struct worker *w, struct sosie_err *err)
{
	int rc = sender_flush(w->sender, err);

	return rc == 0 ? sender_end(w->sender, err) : rc;
}

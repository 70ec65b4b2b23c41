/* SPDX-License-Identifier: MIT */
/*
 * A worker: takes batches of pieces, keeps several slots of reads in flight and works on what was read, in
 * the order of submission, so that leaves reach the sender ascending. It owns its ring, buffers and sender;
 * trees are shared and read under the replicator's lock.
 *
 * A slot is 1 MiB and up to 128 reads of one volume: one dense chunk, or the scattered leaves of many chunks.
 * A chunk's leaves are all in one slot (half of its leaves, every other one, is the most reads that a chunk
 * takes: 128), so that its block of the tree is looked up once. Memory: SLOTS MiB, from the first read on.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "engine/replicate/pass.h"

#define SLOTS 4u
#define SLOT_BYTES SOSIE_CHUNK
#define SLOT_READS (SOSIE_FANOUT / 2)
#define RING_DEPTH 256u

struct slot;
struct read {
	struct sosie_req req;
	struct slot *slot;
	uint64_t start, len; /* bytes of the volume; inside one chunk */
};

struct slot {
	struct read reads[SLOT_READS]; /* ascending */
	unsigned count, pending;       /* pending: not completed */
	size_t used;                   /* of buf */
	uint64_t bytes;                /* of the volume */
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
	struct batch batch;
	unsigned next; /* piece of the batch that is worked on */
	uint64_t at;   /* byte in it */
	bool ended;    /* the queue is empty */
	uint8_t *buffers;
	struct slot slots[SLOTS];
	unsigned first, count; /* in flight: a ring */
	struct chunk_leaves leaves;
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
	w->hash = sosie_hash_new();
	if (!w->hash)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for a worker");
	rc = sosie_io_open(RING_DEPTH, &w->io, NULL, 0, err);
	if (rc == 0 && p->mode == PASS_SEND)
		rc = sender_new(w->r, number, &w->sender, err);
	if (rc == 0 && w->sender)
		sender_reads_with(w->sender, w->io);
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

static int make_buffers(struct worker *w, struct sosie_err *err)
{
	if (w->buffers)
		return 0;
	w->buffers = aligned_alloc(SOSIE_LEAF, SLOTS * SLOT_BYTES);
	if (!w->buffers)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory to read into");
	for (unsigned i = 0; i < SLOTS; i++)
		w->slots[i].buf = w->buffers + i * SLOT_BYTES;
	return sosie_io_buffers(w->io, w->buffers, SLOTS * SLOT_BYTES, err);
}

/* --- what was read
 * ---------------------------------------------------------------------------------------------- */

static const uint8_t *bytes_of(const struct read *read)
{
	return read->req.buf;
}

static int send_chunk(struct worker *w, const struct read *reads, unsigned count, struct sosie_err *err)
{
	int rc = leaves_load(w->r, w->volume, reads[0].start / SOSIE_CHUNK, &w->leaves, err);

	if (rc != 0)
		return rc;
	for (unsigned i = 0; i < count; i++)
		leaves_add(w->r, &w->leaves, w->hash, reads[i].start, reads[i].len, bytes_of(&reads[i]));
	return leaves_send(w->r, &w->leaves, w->sender, w->file, err);
}

static int digest_chunk(struct worker *w, const struct read *reads, unsigned count, struct sosie_err *err)
{
	const struct volume *v = &w->r->volumes[w->volume];
	struct sosie_digest *digests = w->leaves.fresh;
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < count; i++) {
		uint64_t first = reads[i].start / SOSIE_LEAF, n = 0;

		for (uint64_t at = 0; at < reads[i].len; at += SOSIE_LEAF, n++)
			sosie_digest_leaf(w->hash, &v->ctx, first + n, bytes_of(&reads[i]) + at,
			                  leaf_bytes(v, first + n), &digests[n]);
		pthread_mutex_lock(&w->r->lock);
		rc = sosie_tree_put_leaves(v->tree, first, n, digests, err);
		pthread_mutex_unlock(&w->r->lock);
	}
	return rc;
}

static int work_on(struct worker *w, const struct slot *s, struct sosie_err *err)
{
	unsigned end;
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < s->count; i = end) {
		uint64_t chunk = s->reads[i].start / SOSIE_CHUNK;

		for (end = i + 1; end < s->count && s->reads[end].start / SOSIE_CHUNK == chunk; end++)
			;
		if (w->pass->mode == PASS_DIGEST)
			rc = digest_chunk(w, &s->reads[i], end - i, err);
		else
			rc = send_chunk(w, &s->reads[i], end - i, err);
	}
	return rc;
}

/* A hole: what the tree has there that is not zero is gone. Nothing is read. */
static int discard_hole(struct worker *w, uint64_t start, uint64_t stop, struct sosie_err *err)
{
	struct sosie_tree *tree = w->r->volumes[w->volume].tree;
	struct sosie_digest *old = w->leaves.old;
	uint64_t leaf = start / SOSIE_LEAF, end = (stop + SOSIE_LEAF - 1) / SOSIE_LEAF;

	while (w->pass->mode == PASS_SEND && leaf < end) {
		int rc;

		pthread_mutex_lock(&w->r->lock);
		rc = sosie_tree_next(tree, leaf, &leaf, err);
		if (rc == 0 && leaf < end)
			rc = sosie_tree_get(tree, 0, leaf / SOSIE_FANOUT, old, err);
		pthread_mutex_unlock(&w->r->lock);
		if (rc != 0 || leaf >= end)
			return rc;
		if (stop_asked(w->r))
			return stop_error(err);
		do {
			if (!sosie_digest_is_zero(&old[leaf % SOSIE_FANOUT]))
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
	((struct read *)req)->slot->pending--;
}

static uint64_t whole_leaves(uint64_t len)
{
	return (len + SOSIE_LEAF - 1) / SOSIE_LEAF * SOSIE_LEAF;
}

/* One more read, or the last one longer. */
static void add_read(struct slot *s, uint64_t start, uint64_t end)
{
	struct read *last = s->count ? &s->reads[s->count - 1] : NULL;

	if (last && last->start + last->len == start && start % SOSIE_CHUNK != 0) {
		last->len += end - start;
	} else {
		assert(s->count < SLOT_READS);
		last = &s->reads[s->count++];
		*last = (struct read){.slot = s, .start = start, .len = end - start};
		last->req.buf = s->buf + s->used;
	}
	s->used += whole_leaves(end - start);
	s->bytes += end - start;
	assert(s->used <= SLOT_BYTES);
}

static void submit(struct worker *w, struct slot *s)
{
	rate_wait(w->r, s->bytes);
	s->pending = s->count;
	w->count++;
	for (unsigned i = 0; i < s->count; i++) {
		struct sosie_req *req = &s->reads[i].req;

		req->op = SOSIE_OP_READ;
		req->file = w->file;
		/* Whole leaves, as direct I/O wants; the end of the file cuts it. */
		req->len = whole_leaves(s->reads[i].len);
		req->offset = s->reads[i].start;
		req->done = read_done;
		sosie_io_submit(w->io, req);
	}
}

static int check_read(const struct worker *w, const struct read *read, struct sosie_err *err)
{
	const struct volume *v = &w->r->volumes[w->volume];

	if (read->req.sys != 0) {
		sosie_err_sys(err, read->req.sys, "volume %s cannot be read at byte %llu", v->given->name.s,
		              (unsigned long long)read->start);
		sosie_err_where(err, "%.250s", v->path);
		return sosie_err_action(err, "the point was not made; look at the disk under it");
	}
	if (read->req.got >= read->len)
		return 0;
	sosie_err_set(err, SOSIE_ESHRUNK,
	              "volume %s became smaller while it was read: it ends at byte %llu of %llu",
	              v->given->name.s, (unsigned long long)(read->start + read->req.got),
	              (unsigned long long)v->size);
	sosie_err_where(err, "%.250s", v->path);
	return sosie_err_action(err, "nothing was committed; run again when its size no longer changes");
}

static void tell_progress(struct worker *w, uint64_t bytes)
{
	struct pass *p = w->pass;
	uint64_t total = __atomic_load_n(&p->total, __ATOMIC_RELAXED);

	pthread_mutex_lock(&w->r->lock);
	w->r->result->read_bytes += bytes;
	p->done += bytes;
	sosie_progress(w->r->o.progress, p->mode == PASS_DIGEST ? "digesting" : "reading", p->done,
	               total > p->done ? total : p->done);
	pthread_mutex_unlock(&w->r->lock);
}

/* Waits for the oldest slot and works on it. */
static int finish_oldest(struct worker *w, struct sosie_err *err)
{
	struct slot *s = &w->slots[w->first];
	int rc = 0;

	while (s->pending > 0 && rc >= 0)
		rc = sosie_io_reap(w->io, 1, err);
	if (rc < 0)
		return rc;
	w->first = (w->first + 1) % SLOTS;
	w->count--;
	rc = 0;
	for (unsigned i = 0; rc == 0 && i < s->count; i++)
		rc = check_read(w, &s->reads[i], err);
	if (rc != 0)
		return rc;
	tell_progress(w, s->bytes);
	return work_on(w, s, err);
}

/* Before buffers and files go: nothing may be in flight. */
static void abandon_reads(struct worker *w)
{
	for (; w->count > 0; w->count--, w->first = (w->first + 1) % SLOTS)
		while (w->slots[w->first].pending > 0 && sosie_io_reap(w->io, 1, NULL) >= 0)
			;
}

/* --- filling slots from the batch
 * ---------------------------------------------------------------------------------------- */

static uint64_t chunk_end(uint64_t chunk)
{
	return (chunk + 1) * SOSIE_CHUNK;
}

static void go_to(struct worker *w, uint64_t at)
{
	w->at = at;
	if (at >= w->batch.pieces[w->next].end && ++w->next < w->batch.count)
		w->at = w->batch.pieces[w->next].start;
}

/* What reading the rest of the batch's data in this chunk takes. */
static void weigh_chunk(const struct worker *w, uint64_t chunk, size_t *bytes, unsigned *reads)
{
	uint64_t start = w->at, before = UINT64_MAX;

	*bytes = 0;
	*reads = 0;
	for (unsigned i = w->next; i < w->batch.count; i++) {
		const struct piece *p = &w->batch.pieces[i];
		uint64_t end = p->end < chunk_end(chunk) ? p->end : chunk_end(chunk);

		if (i > w->next)
			start = p->start;
		if (start / SOSIE_CHUNK != chunk)
			return;
		if (!p->data)
			continue;
		*bytes += (size_t)whole_leaves(end - start);
		*reads += start != before;
		before = end;
	}
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
	rc = leaves_load(w->r, w->volume, chunk, &w->leaves, err);
	*wanted = false;
	for (unsigned i = 0; rc == 0 && i < SOSIE_FANOUT && !*wanted; i++)
		*wanted = sosie_digest_equal(&w->leaves.old[i], &leaf_unknown);
	return rc;
}

/* The batch's pieces in this chunk: data into the slot, holes at once and whole. */
static int gather_chunk(struct worker *w, struct slot *s, uint64_t chunk, struct sosie_err *err)
{
	bool wanted;
	int rc = is_wanted(w, chunk, &wanted, err);

	while (rc == 0 && w->next < w->batch.count && w->at / SOSIE_CHUNK == chunk) {
		const struct piece *p = &w->batch.pieces[w->next];
		uint64_t start = w->at, end = p->end;

		if (p->data) {
			end = end < chunk_end(chunk) ? end : chunk_end(chunk);
			if (wanted)
				add_read(s, start, end);
		} else {
			rc = discard_hole(w, start, end, err);
		}
		go_to(w, end);
	}
	return rc;
}

static int fill_slot(struct worker *w, struct sosie_err *err)
{
	struct slot *s = &w->slots[(w->first + w->count) % SLOTS];
	int rc = make_buffers(w, err);

	s->count = s->pending = 0;
	s->used = 0;
	s->bytes = 0;
	while (rc == 0 && w->next < w->batch.count) {
		size_t bytes;
		unsigned reads;

		weigh_chunk(w, w->at / SOSIE_CHUNK, &bytes, &reads);
		if (s->used + bytes > SLOT_BYTES || s->count + reads > SLOT_READS)
			break;
		rc = gather_chunk(w, s, w->at / SOSIE_CHUNK, err);
	}
	if (rc == 0 && s->count > 0)
		submit(w, s);
	return rc;
}

/* --- the run
 * ------------------------------------------------------------------------------------------------------ */

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

static int take_batch(struct worker *w, struct sosie_err *err)
{
	int rc = pass_take(w->pass, w->io, w->file, w->volume, &w->batch, err);

	w->next = 0;
	if (rc != 0)
		return rc;
	w->ended = w->batch.kind == BATCH_END;
	if (w->batch.kind == BATCH_SWITCH)
		return switch_volume(w, w->batch.volume, err);
	if (w->batch.kind == BATCH_WORK)
		w->at = w->batch.pieces[0].start;
	return 0;
}

int worker_run(struct worker *w, struct sosie_err *err)
{
	int rc = 0;

	while (rc == 0 && (!w->ended || w->count > 0)) {
		if (stop_asked(w->r))
			rc = stop_error(err);
		else if (w->ended || w->count == SLOTS)
			rc = finish_oldest(w, err);
		else if (w->next < w->batch.count)
			rc = fill_slot(w, err);
		else
			rc = take_batch(w, err);
	}
	abandon_reads(w);
	return rc;
}

int worker_finish(struct worker *w, struct sosie_err *err)
{
	int rc = sender_flush(w->sender, err);

	return rc == 0 ? sender_end(w->sender, err) : rc;
}

/* SPDX-License-Identifier: MIT */
/*
 * One pass over all volumes of a view: a cursor over their extents, from which workers take batches of
 * pieces, and the workers' threads.
 *
 * Extents may begin and end anywhere; leaves are whole. What is not told SAME is rounded outward: a leaf that
 * lies wholly in one hole is a hole, any other that a hole or data touches is data. SAME is rounded inward,
 * by handing out nothing. Each leaf is handed out once: `covered` only grows. A leaf whose digest depends on
 * the volume's size (the last one, when it is short; the one in which the base view ended) is data whatever
 * is told.
 *
 * Production first: workers read at the lowest best-effort I/O priority (ioprio_set(2)), which schedulers
 * that know priorities (BFQ, mq-deadline) put behind that of the machines.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/replicate/pass.h"
#include "sosie/thread.h"

/* ioprio_set(2) has no declaration in the C library. */
#define IOPRIO_THREAD 1             /* IOPRIO_WHO_PROCESS: with 0 the calling thread */
#define IOPRIO_LOWEST (2 << 13 | 7) /* best effort, level 7 */

static uint64_t leaf_down(uint64_t bytes)
{
	return bytes - bytes % SOSIE_LEAF;
}

static uint64_t leaf_up(uint64_t bytes, uint64_t size)
{
	uint64_t up = bytes % SOSIE_LEAF ? leaf_down(bytes) + SOSIE_LEAF : bytes;

	return up < size ? up : size;
}

/* --- the cursor
 * --------------------------------------------------------------------------------------------- */

/* Of a hole [at.start, at.end): the leaves at its edges are data, those inside are not. */
static void cut_hole(const struct pass *p, uint64_t size, struct piece *out)
{
	uint64_t first = leaf_up(p->at.start, size), last = p->at.end == size ? size : leaf_down(p->at.end);

	out->data = true;
	if (out->start < first && first < out->end) {
		out->end = first;
	} else if (out->start >= first && out->start < last) {
		out->data = false;
		out->end = last;
	}
}

/* Of an extent told SAME: only a leaf whose digest follows the volume's size. */
static bool cut_same(const struct pass *p, uint64_t size, struct piece *out)
{
	const struct volume *v = &p->r->volumes[p->volume];
	uint64_t ends[] = {v->base_path && v->base_size < size ? v->base_size : 0, size};

	for (unsigned i = 0; i < 2; i++) {
		uint64_t leaf = leaf_down(ends[i]);

		if (ends[i] % SOSIE_LEAF == 0 || leaf < out->start || leaf >= out->end)
			continue;
		*out = (struct piece){true, leaf, leaf_up(ends[i], size)};
		return true;
	}
	return false;
}

/* What comes next of the cursor's extent: false when nothing does. */
static bool rest_of_extent(const struct pass *p, struct piece *out)
{
	uint64_t size = p->r->volumes[p->volume].size;

	*out = (struct piece){true, leaf_down(p->at.start), leaf_up(p->at.end, size)};
	if (out->start < p->covered)
		out->start = p->covered;
	if (out->start >= out->end)
		return false;
	if (p->at.kind == SOSIE_EXTENT_SAME && p->mode == PASS_SEND)
		return cut_same(p, size, out);
	if (p->at.kind == SOSIE_EXTENT_HOLE)
		cut_hole(p, size, out);
	return true;
}

static void next_volume(struct pass *p)
{
	p->volume++;
	p->covered = 0;
	p->at = (struct sosie_extent){SOSIE_EXTENT_HOLE, 0, 0};
}

static int next_extent(struct pass *p, struct sosie_io *io, struct sosie_file *file, struct sosie_err *err)
{
	uint64_t from = p->at.end;
	int rc = views_next(p->r, p->view, p->volume, io, file, from, &p->at, err);

	if (rc == 0 && p->at.kind != SOSIE_EXTENT_END && p->at.end <= from)
		rc = sosie_err_set(err, SOSIE_EINTERNAL, "the %s driver told an empty extent",
		                   p->r->o.source->ops->name);
	if (rc != 0)
		return rc;
	if (p->at.kind == SOSIE_EXTENT_END)
		next_volume(p);
	else if (p->at.kind == SOSIE_EXTENT_HOLE || (p->at.kind == SOSIE_EXTENT_SAME && p->mode == PASS_SEND))
		__atomic_fetch_sub(&p->total, p->at.end - from, __ATOMIC_RELAXED);
	return 0;
}

static bool is_full(const struct batch *b)
{
	return b->count >= BATCH_FULL || b->bytes >= BATCH_BYTES;
}

/* Room in the batch for this piece? A full one only takes what is left of its last chunk. */
static bool belongs(const struct batch *b, const struct piece *piece)
{
	return !is_full(b) || (b->pieces[b->count - 1].end - 1) / SOSIE_CHUNK == piece->start / SOSIE_CHUNK;
}

static void add_piece(struct pass *p, struct batch *b, struct piece piece)
{
	uint64_t step = is_full(b) ? SOSIE_CHUNK : BATCH_BYTES, stop = (piece.start / step + 1) * step;

	if ((piece.data || is_full(b)) && stop < piece.end)
		piece.end = stop;
	assert(b->count < BATCH_PIECES);
	b->pieces[b->count++] = piece;
	if (piece.data)
		b->bytes += piece.end - piece.start;
	p->covered = piece.end;
}

static int take(struct pass *p, struct sosie_io *io, struct sosie_file *file, unsigned volume,
                struct batch *b, struct sosie_err *err)
{
	while (!p->failed && p->volume < p->r->volume_count) {
		struct piece piece;
		int rc;

		if (!file || volume != p->volume) {
			if (b->count == 0)
				b->kind = BATCH_SWITCH;
			b->volume = b->count == 0 ? p->volume : volume;
			return 0;
		}
		if (rest_of_extent(p, &piece)) {
			if (!belongs(b, &piece))
				return 0;
			b->kind = BATCH_WORK;
			b->volume = volume;
			add_piece(p, b, piece);
			continue;
		}
		rc = next_extent(p, io, file, err);
		if (rc != 0)
			return rc;
	}
	return 0;
}

static void start_helpers(struct pass *p);

int pass_take(struct pass *p, struct sosie_io *io, struct sosie_file *file, unsigned volume,
              struct batch *out, struct sosie_err *err)
{
	bool help;
	int rc;

	out->kind = BATCH_END;
	out->count = 0;
	out->bytes = 0;
	if (stop_asked(p->r))
		return stop_error(err);
	pthread_mutex_lock(&p->lock);
	rc = take(p, io, file, volume, out, err);
	help = rc == 0 && out->count > 0 && is_full(out) && !p->helped;
	p->helped = p->helped || help;
	pthread_mutex_unlock(&p->lock);
	if (help)
		start_helpers(p);
	return rc;
}

/* --- threads
 * --------------------------------------------------------------------------------------------------------------
 */

static void note_failure(struct pass *p, int rc, const struct sosie_err *err)
{
	pthread_mutex_lock(&p->lock);
	if (!p->failed) {
		p->failed = true;
		p->rc = rc;
		p->err = *err;
	}
	pthread_mutex_unlock(&p->lock);
}

static bool has_failed(struct pass *p)
{
	bool failed;

	pthread_mutex_lock(&p->lock);
	failed = p->failed;
	pthread_mutex_unlock(&p->lock);
	return failed;
}

/* A thread that may not have its priority lowered reads at the one that it has. */
static long lower_priority(void)
{
	long before = syscall(SYS_ioprio_get, IOPRIO_THREAD, 0);

	(void)syscall(SYS_ioprio_set, IOPRIO_THREAD, 0, IOPRIO_LOWEST);
	return before;
}

static void *sit(void *arg)
{
	struct seat *seat = arg;
	struct pass *p = seat->pass;
	struct worker *w;
	struct sosie_err err = {0};
	long priority = lower_priority();
	int rc = worker_new(p, seat->number, &w, &err);

	if (rc == 0)
		rc = worker_run(w, &err);
	if (rc == 0 && p->mode == PASS_SEND && !has_failed(p))
		rc = worker_finish(w, &err);
	if (rc != 0)
		note_failure(p, rc, &err);
	worker_free(w);
	if (priority >= 0) /* the first seat's thread has another life */
		(void)syscall(SYS_ioprio_set, IOPRIO_THREAD, 0, priority);
	return NULL;
}

/* Once there is more than one batch; a small change is one worker's, whose session and buffers suffice.
 * Called by the only worker that there is. A thread that cannot be had costs speed only. */
static void start_helpers(struct pass *p)
{
	for (unsigned i = 1; i < p->r->o.streams; i++) {
		p->seats[i].pass = p;
		p->seats[i].number = i;
		p->seats[i].started = sosie_thread_start(&p->seats[i].thread, NULL, sit, &p->seats[i]) == 0;
	}
}

void pass_init(struct pass *p, struct sosie_replicator *r, struct sosie_view *view, enum pass_mode mode)
{
	*p = (struct pass){.r = r, .view = view, .mode = mode, .at = {SOSIE_EXTENT_HOLE, 0, 0}};
	pthread_mutex_init(&p->lock, NULL);
	for (unsigned i = 0; i < r->volume_count; i++)
		p->total += r->volumes[i].size;
}

void pass_fini(struct pass *p)
{
	pthread_mutex_destroy(&p->lock);
}

int pass_run(struct sosie_replicator *r, struct sosie_view *view, enum pass_mode mode, struct sosie_err *err)
{
	struct pass p;
	int rc;

	pass_init(&p, r, view, mode);
	p.seats[0].pass = &p;
	sit(&p.seats[0]);
	for (unsigned i = 1; i < r->o.streams; i++)
		if (p.seats[i].started)
			pthread_join(p.seats[i].thread, NULL);
	rc = p.failed ? p.rc : 0;
	if (rc != 0 && err)
		*err = p.err;
	pass_fini(&p);
	return rc;
}

/* SPDX-License-Identifier: MIT */
/*
 * One pass over all volumes of a view: a cursor over their extents, from which workers take pieces, and the
 * workers' threads.
 *
 * Extents may begin and end anywhere; leaves are whole. A leaf that any data touches is data, and each leaf
 * is handed out once: `covered` only grows, and a hole gives up the leaves at its edges.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/replicate/internal.h"

#define PIECE_BYTES ((uint64_t)16 << 20)

static uint64_t leaf_down(uint64_t bytes)
{
	return bytes - bytes % SOSIE_LEAF;
}

static uint64_t leaf_up(uint64_t bytes, uint64_t size)
{
	uint64_t up = bytes % SOSIE_LEAF ? leaf_down(bytes) + SOSIE_LEAF : bytes;

	return up < size ? up : size;
}

/* What is left of the cursor's extent, on whole leaves: false when nothing is. */
static bool rest_of_extent(struct pass *p, uint64_t size, uint64_t *start, uint64_t *end)
{
	bool data = p->at.kind == SOSIE_EXTENT_DATA;

	*start = data ? leaf_down(p->at.start) : leaf_up(p->at.start, size);
	*end = data || p->at.end == size ? leaf_up(p->at.end, size) : leaf_down(p->at.end);
	if (*start < p->covered)
		*start = p->covered;
	return *start < *end;
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
	int rc = p->r->o.source->ops->next(p->view, p->volume, io, file, from, &p->at, err);

	if (rc == 0 && p->at.kind != SOSIE_EXTENT_END && p->at.end <= from)
		rc = sosie_err_set(err, SOSIE_EINTERNAL, "the %s driver told an empty extent",
		                   p->r->o.source->ops->name);
	if (rc == 0 && p->at.kind == SOSIE_EXTENT_END)
		next_volume(p);
	return rc;
}

static void cut_piece(struct pass *p, uint64_t start, uint64_t end, struct piece *out)
{
	bool data = p->at.kind == SOSIE_EXTENT_DATA;
	uint64_t stop = data ? (start / PIECE_BYTES + 1) * PIECE_BYTES : end;

	stop = stop < end ? stop : end;
	*out = (struct piece){data ? PIECE_DATA : PIECE_HOLE, p->volume, start, stop};
	p->covered = stop;
}

static int take(struct pass *p, struct sosie_io *io, struct sosie_file *file, unsigned volume,
                struct piece *out, struct sosie_err *err)
{
	uint64_t start, end;

	for (;;) {
		int rc;

		*out = (struct piece){.kind = PIECE_NONE};
		if (p->failed || p->volume == p->r->volume_count)
			return 0;
		if (rest_of_extent(p, p->r->volumes[p->volume].size, &start, &end)) {
			cut_piece(p, start, end, out);
			if (!file || volume != p->volume) {
				p->covered = start;
				*out = (struct piece){.kind = PIECE_SWITCH, .volume = p->volume};
			}
			return 0;
		}
		if (!file || volume != p->volume) {
			*out = (struct piece){.kind = PIECE_SWITCH, .volume = p->volume};
			return 0;
		}
		rc = next_extent(p, io, file, err);
		if (rc != 0)
			return rc;
	}
}

int pass_take(struct pass *p, struct sosie_io *io, struct sosie_file *file, unsigned volume,
              struct piece *out, struct sosie_err *err)
{
	int rc;

	if (stop_asked(p->r))
		return stop_error(err);
	pthread_mutex_lock(&p->lock);
	rc = take(p, io, file, volume, out, err);
	pthread_mutex_unlock(&p->lock);
	return rc;
}

/* --- threads
 * --------------------------------------------------------------------------------------------------------------
 */

struct seat {
	struct pass *pass;
	struct worker *worker;
	pthread_t thread;
	bool started;
};

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

static void *sit(void *arg)
{
	struct seat *seat = arg;
	struct sosie_err err;
	int rc = worker_run(seat->worker, &err);

	if (rc == 0 && seat->pass->mode == PASS_SEND && !has_failed(seat->pass))
		rc = worker_finish(seat->worker, &err);
	if (rc != 0)
		note_failure(seat->pass, rc, &err);
	return NULL;
}

static int start_seats(struct pass *p, struct seat *seats, unsigned count, struct sosie_err *err)
{
	for (unsigned i = 0; i < count; i++) {
		int rc;

		seats[i].pass = p;
		rc = worker_new(p, i, &seats[i].worker, err);
		if (rc != 0)
			return rc;
	}
	/* A thread that cannot be had costs speed only. */
	for (unsigned i = 1; i < count; i++)
		seats[i].started = pthread_create(&seats[i].thread, NULL, sit, &seats[i]) == 0;
	sit(&seats[0]);
	return 0;
}

int pass_run(struct sosie_replicator *r, struct sosie_view *view, enum pass_mode mode, struct sosie_err *err)
{
	struct pass p = {.r = r, .view = view, .mode = mode, .at = {SOSIE_EXTENT_HOLE, 0, 0}};
	struct seat seats[STREAMS_MAX] = {0};
	int rc;

	pthread_mutex_init(&p.lock, NULL);
	rc = start_seats(&p, seats, r->o.streams, err);
	for (unsigned i = 0; i < r->o.streams; i++)
		if (seats[i].started)
			pthread_join(seats[i].thread, NULL);
	for (unsigned i = 0; i < r->o.streams; i++)
		worker_free(seats[i].worker);
	pthread_mutex_destroy(&p.lock);
	if (rc == 0 && p.failed) {
		rc = p.rc;
		if (err)
			*err = p.err;
	}
	return rc;
}

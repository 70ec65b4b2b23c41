/* SPDX-License-Identifier: MIT */
/*
 * The bases and redo.log. Accepted changes are merged into the bases without a flush, since redo.log, which
 * was fsynced before commit, has them; the bases are fsynced when the log has grown, by a thread of its own
 * beside the cycles, and what that covers is cut off (a hole at the log's start). After the machine went down
 * the log is replayed before anything else.
 *
 * Repair: leaves that the log names get its digests, nodes above all chunks that it names are computed anew.
 * That mends torn blocks too: a leaf that no entry names is the same in all versions that the file may show.
 * Chunks of a committed upload count among them, since it may have been merged already, or in part. When the
 * log is not whole, digests are compared with the standby.
 *
 * The thread has its own instance of posix I/O and its own copies of the paths; `done` is all that it shares.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/replicate/internal.h"
#include "sosie/log.h"
#include "sosie/thread.h"

#define VOLUME_SHIFT 32 /* a chunk's number has 32 bits in redo.log */

/* --- fsync of the bases
 * ------------------------------------------------------------------------------------------------ */

struct redo_sync {
	pthread_t thread;
	uint64_t upto; /* what the bases have when it is done */
	unsigned count;
	char (*paths)[STATE_FILE_MAX];
	bool done; /* atomic */
	int rc;    /* valid once done, as err */
	struct sosie_err err;
};

static int sync_file(struct sosie_io *io, const char *path, struct sosie_err *err)
{
	struct sosie_file *f;
	int rc = sosie_io_openat(io, path, SOSIE_READ | SOSIE_WRITE, 0, &f, err), rc_close;

	if (rc != 0)
		return rc;
	rc = sosie_io_fsync(io, f, err);
	rc_close = sosie_io_close(io, f, rc == 0 ? err : NULL);
	return rc == 0 ? rc_close : rc;
}

static void *sync_thread(void *arg)
{
	struct redo_sync *s = arg;
	struct sosie_io *io = NULL;

	s->rc = sosie_io_posix(&io, &s->err);
	for (unsigned i = 0; s->rc == 0 && i < s->count; i++)
		s->rc = sync_file(io, s->paths[i], &s->err);
	sosie_io_free(io);
	__atomic_store_n(&s->done, true, __ATOMIC_RELEASE);
	return NULL;
}

/* After a failed fsync what the file has is not known, and asking again would say nothing true. */
static void note_sync(struct sosie_replicator *r, int rc, uint64_t upto, struct sosie_err *err)
{
	struct state_redo *redo = &r->state.redo;

	if (rc == 0) {
		redo->from = upto;
		if (redo->from == redo->bytes)
			redo->boot[0] = '\0';
		return;
	}
	r->state.doubted = true;
	sosie_err_wrap(err,
	               "%s/%s: digests of before could not be made durable: all are compared with the "
	               "standby",
	               r->o.tenant, r->o.group);
	sosie_log_err(SOSIE_LOG_WARNING, err);
}

void redo_join(struct sosie_replicator *r)
{
	struct redo_sync *s = r->redo_sync;

	if (!s)
		return;
	pthread_join(s->thread, NULL);
	note_sync(r, s->rc, s->upto, &s->err);
	free(s->paths);
	free(s);
	r->redo_sync = NULL;
}

static int sync_here(struct sosie_replicator *r, struct sosie_err *err)
{
	const struct state_volumes *list = &r->state.volumes;
	char path[STATE_FILE_MAX];
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < list->count; i++) {
		state_file(&r->dir, path, list->v[i].name.s, ".tree");
		rc = sync_file(r->dir.io, path, err);
	}
	return rc;
}

int redo_sync_bases(struct sosie_replicator *r, struct sosie_err *err)
{
	struct sosie_err mine = {0};
	int rc;

	redo_join(r);
	if (r->state.redo.boot[0] && !r->state.doubted) {
		rc = sync_here(r, &mine);
		note_sync(r, rc, r->state.redo.bytes, &mine);
	}
	if (r->state.doubted)
		return sosie_err_set(err, SOSIE_EIO,
		                     "the digests of the accepted point are lost; they are "
		                     "compared with the standby at the next cycle");
	return 0;
}

static int start_thread(struct sosie_replicator *r)
{
	const struct state_volumes *list = &r->state.volumes;
	struct redo_sync *s = calloc(1, sizeof(*s));

	if (s)
		s->paths = calloc(list->count ? list->count : 1, sizeof(*s->paths));
	if (s && s->paths) {
		s->upto = r->state.redo.bytes;
		s->count = list->count;
		for (unsigned i = 0; i < list->count; i++)
			state_file(&r->dir, s->paths[i], list->v[i].name.s, ".tree");
		if (sosie_thread_start(&s->thread, NULL, sync_thread, s) == 0) {
			r->redo_sync = s;
			return 0;
		}
	}
	if (s)
		free(s->paths);
	free(s);
	return -1;
}

/* Nothing needs what lies before the start that state.json names: its blocks are given back. */
static void cut_off(struct sosie_replicator *r)
{
	const uint64_t from = r->redo_cut, to = r->state.durable_from;
	char path[STATE_FILE_MAX];
	struct sosie_file *f;

	if (to <= from)
		return;
	state_file(&r->dir, path, "redo", ".log");
	if (sosie_io_openat(r->dir.io, path, SOSIE_READ | SOSIE_WRITE, 0, &f, NULL) != 0)
		return;
	if (sosie_io_punch(r->dir.io, f, from, to - from, NULL) == 0)
		r->redo_cut = to;
	sosie_io_close(r->dir.io, f, NULL);
}

void redo_accepted(struct sosie_replicator *r)
{
	const struct state_redo *redo = &r->state.redo;
	uint64_t bytes;

	r->redo_points++;
	if (r->redo_sync && __atomic_load_n(&r->redo_sync->done, __ATOMIC_ACQUIRE))
		redo_join(r);
	cut_off(r);
	bytes = redo->bytes - redo->from;
	if (r->redo_sync && bytes > REDO_BYTES * 4)
		redo_join(r); /* the disk does not keep up */
	if (r->redo_sync || (bytes <= REDO_BYTES && r->redo_points < r->redo_points_max))
		return;
	r->redo_points = 0;
	if (r->dir.given || start_thread(r) != 0)
		redo_sync_bases(r, NULL);
}

void redo_end(struct sosie_replicator *r)
{
	struct state *s = &r->state;

	redo_join(r);
	if (!s->saved || s->doubted || !s->redo.boot[0] || !r->redo_checked || state_dir_gone(&r->dir) ||
	    redo_sync_bases(r, NULL) != 0)
		return;
	if (!s->pending.present)
		s->redo.from = s->redo.bytes = 0;
	replicator_save(r, true, NULL);
}

/* --- the chunks that an upload touched
 * ------------------------------------------------------------------------------------------------- */

static int open_log(struct sosie_replicator *r, struct journal *j, struct sosie_err *err)
{
	char path[STATE_FILE_MAX];

	state_file(&r->dir, path, "redo", ".log");
	return journal_open(j, r->dir.io, path, r->state.redo.bytes, false, err);
}

/* Chunks of all volumes. list_touched makes it; volumes are then asked for in their order. */
struct touched {
	uint64_t
	        *places; /* volume << VOLUME_SHIFT | chunk; ascending, each once; the chunk alone once told */
	size_t count, size;
	size_t told; /* of volumes asked for */
};

struct chunks {
	const uint64_t *list; /* ascending, each once; of the struct touched */
	size_t count;
};

static int note_chunk(void *arg, const struct journal_entry *e, const struct sosie_digest *digests)
{
	struct touched *t = arg;

	(void)digests;
	if (e->volume == JOURNAL_ATTACHMENT)
		return 0;
	if (t->count == t->size) {
		size_t size = t->size ? t->size * 2 : 1024;
		uint64_t *bigger = realloc(t->places, size * sizeof(*bigger));

		if (!bigger)
			return -SOSIE_ENOMEM;
		t->places = bigger;
		t->size = size;
	}
	t->places[t->count++] = (uint64_t)e->volume << VOLUME_SHIFT | e->chunk;
	return 0;
}

static int by_number(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static void sort_once(struct touched *t)
{
	size_t kept = 0;

	if (t->count > 1)
		qsort(t->places, t->count, sizeof(*t->places), by_number);
	for (size_t i = 0; i < t->count; i++)
		if (i == 0 || t->places[i] != t->places[i - 1])
			t->places[kept++] = t->places[i];
	t->count = kept;
}

/* What [from, to) of the log touched. */
static int list_touched(struct journal *j, uint64_t from, uint64_t to, struct touched *t,
                        struct sosie_err *err)
{
	uint64_t end;
	int rc;

	*t = (struct touched){0};
	rc = journal_each(j, from, to, note_chunk, t, &end, err);
	if (rc == -SOSIE_ENOMEM)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for a list of chunks");
	if (rc == 0 && end != to)
		return sosie_err_set(err, SOSIE_ECORRUPT, "redo.log is damaged");
	sort_once(t);
	return rc;
}

static struct chunks chunks_of(struct touched *t, uint16_t volume)
{
	struct chunks out = {.list = t->places + t->told};

	for (; t->told < t->count && t->places[t->told] >> VOLUME_SHIFT == volume; t->told++, out.count++)
		t->places[t->told] &= UINT32_MAX;
	return out;
}

static int merge_volume(struct sosie_replicator *r, const char *name, const struct chunks *c,
                        struct sosie_err *err)
{
	char base[STATE_FILE_MAX], layer[STATE_FILE_MAX];
	struct sosie_digest ctx;
	int rc;

	if (c->count == 0)
		return 0;
	state_file(&r->dir, base, name, ".tree");
	state_file(&r->dir, layer, name, ".layer");
	sosie_context_volume(r->hash, r->o.tenant, r->o.group, name, &ctx);
	rc = sosie_tree_merge_blocks(r->dir.io, base, layer, &ctx, c->list, c->count, err);
	return rc == 0 ? 0 : sosie_err_wrap(err, "accepted digests of volume %s", name);
}

int redo_merge(struct sosie_replicator *r, struct sosie_err *err)
{
	const struct state_pending *p = &r->state.pending;
	struct touched touched = {0};
	struct journal j = {0};
	int rc = open_log(r, &j, err);

	if (rc == 0)
		rc = list_touched(&j, r->state.redo.bytes, p->log_end, &touched, err);
	for (unsigned i = 0; rc == 0 && i < p->volumes.count; i++) {
		struct chunks chunks = chunks_of(&touched, (uint16_t)i);

		rc = merge_volume(r, p->volumes.v[i].name.s, &chunks, err);
	}
	free(touched.places);
	journal_close(&j);
	return rc;
}

/* --- repair
 * ------------------------------------------------------------------------------------------------------ */

struct replay {
	struct sosie_tree *tree;
	uint16_t volume;
	bool layered; /* by put, and nodes follow */
	struct sosie_err *err;
};

static int replay_run(struct replay *x, uint64_t first, unsigned count, const struct sosie_digest *digests)
{
	return x->layered ? sosie_tree_put_leaves(x->tree, first, count, digests, x->err)
	                  : sosie_tree_write_leaves(x->tree, first, count, digests, x->err);
}

/* digests NULL: zeros. */
static int replay_entry(void *arg, const struct journal_entry *e, const struct sosie_digest *digests)
{
	struct replay *x = arg;
	uint64_t leaves = (sosie_tree_size(x->tree) - 1) / SOSIE_LEAF + 1, first = e->chunk * SOSIE_FANOUT;
	unsigned in_chunk;
	int rc = 0;

	if (e->volume != x->volume)
		return 0;
	if (!e->logged)
		return sosie_err_set(x->err, SOSIE_ECORRUPT, "an entry of redo.log has no digests");
	if (first >= leaves)
		return sosie_err_set(x->err, SOSIE_ECORRUPT, "an entry of redo.log fits no volume");
	/* An entry of a whole chunk names leaves also where the volume has ended. */
	in_chunk = leaves - first < SOSIE_FANOUT ? (unsigned)(leaves - first) : SOSIE_FANOUT;
	for (unsigned i = 0, end; rc == 0 && i < in_chunk; i = end + 1) {
		for (end = i; end < in_chunk && journal_has(e, end); end++)
			;
		if (end > i)
			rc = replay_run(x, first + i, end - i, digests);
		if (digests)
			digests += end - i;
	}
	return rc;
}

static int refresh_chunks(struct sosie_tree *tree, const struct chunks *c, struct sosie_err *err)
{
	struct trees_refresh refresh = {0};
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < c->count; i++)
		rc = trees_refresh_add(&refresh, tree, c->list[i], err);
	return rc == 0 ? trees_refresh_end(&refresh, err) : rc;
}

static int repair_base(struct sosie_replicator *r, struct journal *j, const char *name, uint16_t volume,
                       const struct chunks *touched, struct sosie_err *err)
{
	const struct state_redo *redo = &r->state.redo;
	struct replay x = {.volume = volume, .err = err};
	char path[STATE_FILE_MAX];
	struct sosie_digest ctx;
	int rc, rc_close;

	state_file(&r->dir, path, name, ".tree");
	sosie_context_volume(r->hash, r->o.tenant, r->o.group, name, &ctx);
	rc = sosie_tree_open(r->dir.io, path, &ctx, true, &x.tree, err);
	if (rc == 0)
		rc = journal_each(j, redo->from, redo->bytes, replay_entry, &x, NULL, err);
	if (rc == 0)
		rc = refresh_chunks(x.tree, touched, err);
	if (rc == 0)
		rc = sosie_tree_sync(x.tree, err);
	rc_close = sosie_tree_close(x.tree, rc == 0 ? err : NULL);
	return rc == 0 ? rc_close : rc;
}

/* The layer of a committed upload, over a base that is repaired. */
static int rebuild_layer(struct sosie_replicator *r, struct journal *j, const char *name, uint16_t volume,
                         struct sosie_err *err)
{
	const struct state_pending *p = &r->state.pending;
	struct replay x = {.volume = volume, .layered = true, .err = err};
	char base[STATE_FILE_MAX], layer[STATE_FILE_MAX];
	struct sosie_digest ctx;
	int rc = 0, rc_close;

	state_file(&r->dir, base, name, ".tree");
	state_file(&r->dir, layer, name, ".layer");
	sosie_context_volume(r->hash, r->o.tenant, r->o.group, name, &ctx);
	if (sosie_io_exists(r->dir.io, layer))
		rc = sosie_io_unlink(r->dir.io, layer, err);
	if (rc == 0)
		rc = sosie_tree_open_layer(r->dir.io, base, layer, &ctx, &x.tree, err);
	if (rc == 0)
		rc = journal_each(j, r->state.redo.bytes, p->log_end, replay_entry, &x, NULL, err);
	rc_close = sosie_tree_close(x.tree, rc == 0 ? err : NULL);
	return rc == 0 ? rc_close : rc;
}

static int repair(struct sosie_replicator *r, bool pending, struct sosie_err *err)
{
	const struct state *s = &r->state;
	const struct state_volumes *list = pending ? &s->pending.volumes : &s->volumes;
	uint64_t end = pending ? s->pending.log_end : s->redo.bytes;
	struct touched touched = {0};
	struct journal j = {0};
	int rc = open_log(r, &j, err);

	if (rc == 0)
		rc = list_touched(&j, s->redo.from, end, &touched, err);
	for (unsigned i = 0; rc == 0 && i < list->count; i++) {
		const char *name = list->v[i].name.s;
		struct chunks chunks = chunks_of(&touched, (uint16_t)i);

		rc = repair_base(r, &j, name, (uint16_t)i, &chunks, err);
		if (rc == 0 && pending)
			rc = rebuild_layer(r, &j, name, (uint16_t)i, err);
		if (rc != 0)
			sosie_err_wrap(err, "digests of volume %s", name);
	}
	free(touched.places);
	journal_close(&j);
	return rc;
}

static bool of_another_boot(const struct sosie_replicator *r, const char *boot)
{
	return boot[0] && (!r->dir.boot[0] || strcmp(boot, r->dir.boot) != 0);
}

int redo_settle(struct sosie_replicator *r, struct sosie_err *err)
{
	struct state *s = &r->state;
	const struct state_pending *p = &s->pending;
	bool pending = p->present && p->committed && p->logged;
	bool needed = of_another_boot(r, s->redo.boot) || (pending && of_another_boot(r, p->boot));
	struct sosie_err mine = {0};
	int rc;

	if (r->redo_checked || !s->saved || s->doubted || !needed) {
		r->redo_checked = true;
		return 0;
	}
	sosie_log(SOSIE_LOG_INFO, "%s/%s: the machine went down: digests are taken from redo.log",
	          r->o.tenant, r->o.group);
	rc = repair(r, pending, &mine);
	if (rc == -SOSIE_ECORRUPT || rc == -SOSIE_ENOTFOUND) {
		sosie_err_wrap(&mine, "%s/%s: digests are compared with the standby", r->o.tenant,
		               r->o.group);
		sosie_log_err(SOSIE_LOG_WARNING, &mine);
		s->doubted = true;
	} else if (rc != 0) {
		if (err)
			*err = mine;
		return rc;
	}
	s->redo.boot[0] = '\0';
	s->redo.from = s->redo.bytes;
	rc = replicator_save(r, true, err);
	r->redo_checked = rc == 0;
	return rc;
}

/* SPDX-License-Identifier: MIT */
/*
 * Going on with an upload that was cut off. The standby says how many bytes of each part are durable; the
 * journal says which records those are. Each part ends at its last whole record there; what the records
 * behind it had put into the layers is taken back:
 *   - a chunk that only records behind the end touched: back to what the tree under the layer says;
 *   - a chunk that records on both sides of the end touched, or whose digests in the layer are not those that
 * the journal's check names (the layer's last block was not written before the kill): unknown, hence sent
 * again. Memory: the chunks that are taken back or in doubt, bounded; above the bound, or when anything does
 * not fit together, the upload is dropped and a new one begun: that costs sending again, never a wrong point
 * (the keeper compares the roots).
 */
#include <stdlib.h>
#include <string.h>

#include "engine/replicate/internal.h"

#define DOUBTS_MAX (1u << 20)
#define PARTS_RESUMED_MAX (SOSIE_PARTS_MAX - STREAMS_MAX - 1)

enum doubt { DOUBT_NONE, DOUBT_REVERT, DOUBT_UNKNOWN };

struct doubt_slot {
	uint64_t chunk;
	uint16_t volume;
	uint8_t kind; /* enum doubt */
	uint8_t used;
};

struct doubts {
	struct doubt_slot *slots;
	size_t size, used; /* size: a power of two */
};

struct tail {             /* of a part */
	struct part last; /* its last valid record */
	uint64_t durable;
	bool ended; /* an entry behind the end was seen */
};

struct resume {
	struct sosie_replicator *r;
	struct tail *tails; /* SOSIE_PARTS_MAX */
	struct counters counters;
	struct doubts doubts;
	bool unfit; /* drop the upload */
	struct trees_refresh refresh;
	struct sosie_err *err;
};

/* --- doubts: a set of chunks
 * ------------------------------------------------------------------------------------------------- */

static struct doubt_slot *doubt_find(const struct doubts *d, uint16_t volume, uint64_t chunk)
{
	uint64_t h = (chunk * 0x9e3779b97f4a7c15u) ^ ((uint64_t)volume * 0xc2b2ae3d27d4eb4fu);
	size_t i = (size_t)(h >> 20) & (d->size - 1);

	while (d->slots[i].used && (d->slots[i].chunk != chunk || d->slots[i].volume != volume))
		i = (i + 1) & (d->size - 1);
	return &d->slots[i];
}

static int doubts_grow(struct doubts *d)
{
	struct doubts bigger = {.size = d->size ? d->size * 2 : 1024};

	bigger.slots = calloc(bigger.size, sizeof(*bigger.slots));
	if (!bigger.slots)
		return -SOSIE_ENOMEM;
	for (size_t i = 0; i < d->size; i++)
		if (d->slots[i].used) {
			*doubt_find(&bigger, d->slots[i].volume, d->slots[i].chunk) = d->slots[i];
			bigger.used++;
		}
	free(d->slots);
	*d = bigger;
	return 0;
}

static int doubt_set(struct resume *x, uint16_t volume, uint64_t chunk, enum doubt kind)
{
	struct doubts *d = &x->doubts;
	struct doubt_slot *slot;

	if (d->used * 2 >= d->size && (d->size / 2 >= DOUBTS_MAX || doubts_grow(d) != 0)) {
		x->unfit = true;
		return 1;
	}
	slot = doubt_find(d, volume, chunk);
	d->used += !slot->used;
	*slot = (struct doubt_slot){.chunk = chunk, .volume = volume, .kind = (uint8_t)kind, .used = 1};
	return 0;
}

static enum doubt doubt_get(const struct resume *x, uint16_t volume, uint64_t chunk)
{
	return x->doubts.size ? (enum doubt)doubt_find(&x->doubts, volume, chunk)->kind : DOUBT_NONE;
}

/* --- the journal, three times: where parts end; nodes above what was written; which chunks hold
 * ------------------------------- */

static bool fits(const struct resume *x, const struct journal_entry *e)
{
	const struct sosie_replicator *r = x->r;

	if (e->volume == JOURNAL_ATTACHMENT)
		return true;
	return e->volume < r->volume_count &&
	       e->chunk <= (sosie_tree_size(r->volumes[e->volume].tree) - 1) / SOSIE_CHUNK;
}

/* A part of which the standby shows nothing keeps its number: under a second part of that number the
 * journal's entries of the first would be taken for its own. */
static bool keep_number(struct resume *x, unsigned part)
{
	struct upload *u = &x->r->upload;

	if (part >= PARTS_RESUMED_MAX)
		return false;
	for (; u->part_count <= part; u->part_count++)
		sosie_part_start(x->r->hash, &x->r->group_ctx, u->part_count,
		                 &x->tails[u->part_count].last.digest);
	return true;
}

static int find_end(void *arg, const struct journal_entry *e, const struct sosie_digest *digests)
{
	struct resume *x = arg;
	struct tail *t = &x->tails[e->part];

	(void)digests;
	if (e->volume != JOURNAL_ATTACHMENT && !e->logged)
		x->r->upload.logged = false;
	if (e->kind == JOURNAL_CHUNK)
		return 0;
	if (!fits(x, e) || !keep_number(x, e->part)) {
		x->unfit = true;
		return 1;
	}
	if (e->volume == JOURNAL_ATTACHMENT || e->end > t->durable)
		t->ended = true;
	if (t->ended)
		return e->volume == JOURNAL_ATTACHMENT ? 0 : doubt_set(x, e->volume, e->chunk, DOUBT_REVERT);
	if (e->end != t->last.length)
		t->last.records++;
	t->last.length = e->end;
	t->last.digest = e->chain;
	return 0;
}

static int refresh_entry(void *arg, const struct journal_entry *e, const struct sosie_digest *digests)
{
	struct resume *x = arg;

	(void)digests;
	if (e->volume == JOURNAL_ATTACHMENT || e->kind == JOURNAL_CHUNK)
		return 0;
	return trees_refresh_add(&x->refresh, x->r->volumes[e->volume].tree, e->chunk, x->err);
}

static void count_entry(struct resume *x, const struct journal_entry *e)
{
	uint64_t bytes = journal_bytes(e, sosie_tree_size(x->r->volumes[e->volume].tree));

	if (e->kind == SOSIE_RECORD_DATA) {
		x->counters.data += bytes;
		x->counters.plain += bytes;
	} else if (e->kind == SOSIE_RECORD_ZERO) {
		x->counters.zero += bytes;
	} else {
		x->counters.discard += bytes;
	}
}

/* The last valid entry of a chunk decides: its check tells whether the layer has what it put. */
static int check_entry(void *arg, const struct journal_entry *e, const struct sosie_digest *digests)
{
	struct resume *x = arg;
	struct sosie_digest block[SOSIE_FANOUT];
	int rc;

	(void)digests;
	if (e->volume == JOURNAL_ATTACHMENT || e->kind == JOURNAL_CHUNK ||
	    e->end > x->tails[e->part].last.length)
		return 0;
	if (stop_asked(x->r))
		return stop_error(x->err);
	count_entry(x, e);
	if (doubt_get(x, e->volume, e->chunk) == DOUBT_REVERT)
		return doubt_set(x, e->volume, e->chunk, DOUBT_UNKNOWN);
	rc = sosie_tree_get(x->r->volumes[e->volume].tree, 0, e->chunk, block, x->err);
	if (rc != 0)
		return rc;
	if (journal_check(block) != e->check)
		return doubt_set(x, e->volume, e->chunk, DOUBT_UNKNOWN);
	if (doubt_get(x, e->volume, e->chunk) == DOUBT_UNKNOWN)
		return doubt_set(x, e->volume, e->chunk, DOUBT_NONE);
	return 0;
}

static int forget_chunk(struct resume *x, const struct doubt_slot *d)
{
	struct sosie_tree *tree = x->r->volumes[d->volume].tree;
	struct sosie_digest block[SOSIE_FANOUT] = {{{0}}};
	uint64_t leaves = (sosie_tree_size(tree) - 1) / SOSIE_LEAF + 1, first = d->chunk * SOSIE_FANOUT;

	for (unsigned i = 0; i < SOSIE_FANOUT && first + i < leaves; i++)
		block[i] = leaf_unknown;
	return sosie_tree_put(tree, d->chunk, block, x->err);
}

static int by_place(const void *a, const void *b)
{
	const struct doubtful *x = a, *y = b;

	if (x->volume != y->volume)
		return x->volume < y->volume ? -1 : 1;
	return x->chunk < y->chunk ? -1 : x->chunk > y->chunk;
}

/* What is unknown is read also where the view says that it did not change. */
static int list_unknown(struct resume *x)
{
	struct sosie_replicator *r = x->r;
	size_t count = 0;

	for (size_t i = 0; i < x->doubts.size; i++)
		count += x->doubts.slots[i].used && x->doubts.slots[i].kind == DOUBT_UNKNOWN;
	free(r->doubtful);
	r->doubtful_count = 0;
	r->doubtful = malloc((count ? count : 1) * sizeof(*r->doubtful));
	if (!r->doubtful)
		return sosie_err_set(x->err, SOSIE_ENOMEM, "no memory to resume");
	for (size_t i = 0; i < x->doubts.size; i++) {
		const struct doubt_slot *d = &x->doubts.slots[i];

		if (d->used && d->kind == DOUBT_UNKNOWN)
			r->doubtful[r->doubtful_count++] = (struct doubtful){d->volume, d->chunk};
	}
	if (count > 1)
		qsort(r->doubtful, count, sizeof(*r->doubtful), by_place);
	return 0;
}

/* The entries of records that are taken back stay in the log: what became of the chunk follows them. */
static int log_chunk(struct resume *x, const struct doubt_slot *d)
{
	struct journal_entry e = {.volume = d->volume,
	                          .kind = JOURNAL_CHUNK,
	                          .chunk = d->chunk,
	                          .end = 1,
	                          .leaves = SOSIE_FANOUT};
	struct sosie_digest block[SOSIE_FANOUT];
	int rc = sosie_tree_get(x->r->volumes[d->volume].tree, 0, d->chunk, block, x->err);

	e.check = journal_check(block);
	memset(e.map, 0xff, sizeof(e.map));
	return rc == 0 ? upload_append(&x->r->upload, &e, block, x->err) : rc;
}

static int settle_doubts(struct resume *x)
{
	int rc = list_unknown(x);

	for (size_t i = 0; rc == 0 && i < x->doubts.size; i++) {
		const struct doubt_slot *d = &x->doubts.slots[i];

		if (stop_asked(x->r))
			return stop_error(x->err);
		if (d->used && d->kind == DOUBT_REVERT)
			rc = sosie_tree_revert(x->r->volumes[d->volume].tree, d->chunk, x->err);
		else if (d->used && d->kind == DOUBT_UNKNOWN)
			rc = forget_chunk(x, d);
		if (rc == 0 && d->used && d->kind != DOUBT_NONE)
			rc = log_chunk(x, d);
	}
	return rc;
}

/* An entry that was being written at the kill: its record was not sent. */
static int cut_torn(struct resume *x, uint64_t end)
{
	struct journal *j = &x->r->upload.journal;
	int rc = end < j->size ? sosie_io_truncate(j->io, j->file, end, x->err) : 0;

	j->size = rc == 0 ? end : j->size;
	return rc;
}

static int read_journal(struct resume *x)
{
	struct journal *j = &x->r->upload.journal;
	uint64_t end;
	int rc = journal_each(j, j->start, j->size, find_end, x, &end, x->err);

	if (rc == 0)
		rc = cut_torn(x, end);
	if (rc == 0)
		rc = journal_each(j, j->start, j->size, refresh_entry, x, NULL, x->err);
	if (rc == 0)
		rc = trees_refresh_end(&x->refresh, x->err);
	if (rc == 0)
		rc = journal_each(j, j->start, j->size, check_entry, x, NULL, x->err);
	if (rc == 0)
		rc = settle_doubts(x);
	return rc > 0 ? 0 : rc; /* positive: unfit */
}

/* --- the upload
 * -------------------------------------------------------------------------------------------------------------------
 */

static bool usable(const struct sosie_replicator *r)
{
	const struct state_pending *p = &r->state.pending;

	/* Its view is gone, but what changed can be found from the accepted one: sooner done anew than by
	 * reading all. */
	if (p->view.s[0] && !r->pending_held && r->state.view.s[0])
		return false;
	return volumes_are(r, &p->volumes) && r->dir.boot[0] && strcmp(r->dir.boot, p->boot) == 0 &&
	       p->epoch == r->head->epoch && sosie_digest_equal(&p->base, &r->head->digest);
}

static void start_tails(struct resume *x, const struct sosie_part_state *parts, uint32_t count)
{
	struct upload *u = &x->r->upload;

	u->part_count = 0;
	for (uint32_t i = 0; i < count && !x->unfit; i++) {
		if (parts[i].index >= PARTS_RESUMED_MAX) {
			x->unfit = true;
			break;
		}
		x->tails[parts[i].index].durable = parts[i].durable;
		if (parts[i].index >= u->part_count)
			u->part_count = parts[i].index + 1;
	}
	for (uint32_t i = 0; i < u->part_count; i++)
		sosie_part_start(x->r->hash, &x->r->group_ctx, i, &x->tails[i].last.digest);
}

/* Numbers that were given but never reached the standby: made there, empty. */
static int fill_gaps(struct resume *x, struct sosie_session *s, const struct sosie_part_state *parts,
                     uint32_t count)
{
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < x->r->upload.part_count; i++) {
		bool there = false;

		for (uint32_t k = 0; k < count; k++)
			there = there || parts[k].index == i;
		if (there)
			continue;
		rc = sosie_session_part(s, x->r->o.group, &x->r->state.pending.upload, i, x->err);
		if (rc == 0)
			rc = sosie_session_part_end(s, 0, x->err);
	}
	return rc;
}

static int go_on(struct resume *x, struct sosie_session *s, const struct sosie_part_state *parts,
                 uint32_t count)
{
	struct upload *u = &x->r->upload;
	char path[STATE_FILE_MAX];
	int rc;

	x->tails = calloc(SOSIE_PARTS_MAX, sizeof(*x->tails));
	if (!x->tails)
		return sosie_err_set(x->err, SOSIE_ENOMEM, "no memory to resume");
	start_tails(x, parts, count);
	u->logged = x->r->state.pending.logged;
	state_file(&x->r->dir, path, "redo", ".log");
	rc = x->unfit ? 0
	              : journal_open(&u->journal, x->r->dir.io, path, x->r->state.redo.bytes, false, x->err);
	x->unfit = x->unfit || (rc == 0 && u->journal.start != x->r->state.redo.bytes);
	if (rc == 0 && !x->unfit)
		rc = read_journal(x);
	if (rc == 0 && !x->unfit)
		rc = fill_gaps(x, s, parts, count);
	if (rc != 0 || x->unfit)
		return rc;
	for (uint32_t i = 0; i < u->part_count; i++)
		u->parts[i] = x->tails[i].last;
	u->counters = x->counters;
	u->begun = true;
	return 0;
}

int resume_pending(struct sosie_replicator *r, bool *resumed, struct sosie_err *err)
{
	struct resume x = {.r = r, .err = err};
	struct sosie_part_state *parts = NULL;
	struct sosie_session *s;
	uint32_t count = 0;
	bool committed = false;
	int rc;

	*resumed = false;
	if (!usable(r))
		return pending_drop(r, err);
	rc = session_get(r, 0, &s, err);
	if (rc == 0)
		rc = sosie_session_join(s, r->o.group, &r->state.pending.upload, &committed, &parts, &count,
		                        err);
	if (rc == -SOSIE_ENOTFOUND || (rc == 0 && committed)) {
		free(parts);
		return pending_drop(r, err);
	}
	if (rc == 0)
		rc = trees_open(r, err);
	if (rc == 0)
		rc = go_on(&x, s, parts, count);
	free(parts);
	free(x.tails);
	free(x.doubts.slots);
	if (rc == -SOSIE_ECORRUPT)
		x.unfit = true;
	if (x.unfit)
		return pending_drop(r, err);
	*resumed = rc == 0;
	return rc;
}

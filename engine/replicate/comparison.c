/* SPDX-License-Identifier: MIT */
/*
 * Tracking was lost: the view is read once into new trees, then the standby is asked, from the upper levels
 * down, which digests differ. Leaves that differ become unknown in the tree, all others are known to be
 * there. Sending is the ordinary pass's work afterwards.
 *
 * Bounded: one question lists at most QUESTION_WEIGHT blocks and QUESTION_ASKS intervals; what differs of one
 * question is asked in detail before the next one is put, so that at most one question a level is in memory.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/replicate/internal.h"

#define QUESTION_ASKS 2048u
#define QUESTION_WEIGHT 16384u
#define NODE_WEIGHT 16u /* a block above the leaves leads to 256 blocks below */
#define SEND_ENTRIES 64u
#define SMALL_VOLUME ((uint64_t)1 << 40)

struct asks {
	struct sosie_manifest_ask *a;
	size_t count, size;
};

struct comparison {
	struct sosie_replicator *r;
	struct sosie_session *session;
	struct part part;              /* of the question under way */
	struct sosie_digest committed; /* the same */
	uint8_t *buffer;               /* SEND_ENTRIES entries */
	size_t buffered;
	struct sosie_compare_entry entry;
	struct sosie_err *err;
};

static int add_ask(struct asks *l, uint16_t volume, uint16_t level, uint64_t first, uint64_t count,
                   struct sosie_err *err)
{
	struct sosie_manifest_ask *last = l->count ? &l->a[l->count - 1] : NULL;

	if (last && last->volume == volume && last->level == level && last->first + last->count == first) {
		last->count += count;
		return 0;
	}
	if (l->count == l->size) {
		size_t size = l->size ? l->size * 2 : 64;
		struct sosie_manifest_ask *a = realloc(l->a, size * sizeof(*a));

		if (!a)
			return sosie_err_set(err, SOSIE_ENOMEM, "no memory to compare digests");
		l->a = a;
		l->size = size;
	}
	l->a[l->count++] = (struct sosie_manifest_ask){volume, level, first, count};
	return 0;
}

/* Leaves under one block of a level, as a shift. */
static unsigned block_shift(unsigned level)
{
	return 8 * (level + 1);
}

/* --- one question
 * ----------------------------------------------------------------------------------------------------------------
 */

static int send_buffered(struct comparison *c)
{
	int rc = c->buffered ? sosie_session_data(c->session, c->buffer, c->buffered * SOSIE_COMPARE_ENTRY,
	                                          c->err)
	                     : 0;

	c->buffered = 0;
	return rc;
}

static int send_entry(struct comparison *c)
{
	uint8_t *at = c->buffer + c->buffered * SOSIE_COMPARE_ENTRY;

	sosie_compare_put(at, &c->entry);
	sosie_part_link(c->r->hash, at, SOSIE_COMPARE_ENTRY, &c->part.digest);
	c->part.length += SOSIE_COMPARE_ENTRY;
	c->part.records++;
	c->buffered++;
	return c->buffered == SEND_ENTRIES ? send_buffered(c) : 0;
}

/* The blocks of an interval that are not zero. */
static int send_interval(struct comparison *c, const struct sosie_manifest_ask *ask)
{
	struct sosie_tree *tree = c->r->volumes[ask->volume].tree;
	unsigned shift = block_shift(ask->level);
	uint64_t block = ask->first, leaf;

	while (block < ask->first + ask->count) {
		int rc = sosie_tree_next(tree, block << shift, &leaf, c->err);

		if (rc != 0)
			return rc;
		block = leaf >> shift;
		if (leaf == UINT64_MAX || block >= ask->first + ask->count)
			return 0;
		c->entry.volume = ask->volume;
		c->entry.level = ask->level;
		c->entry.block = block++;
		rc = sosie_tree_get(tree, ask->level, c->entry.block, c->entry.children, c->err);
		if (rc == 0)
			rc = send_entry(c);
		if (rc != 0)
			return rc;
		if (stop_asked(c->r))
			return stop_error(c->err);
	}
	return 0;
}

static int commit_question(struct comparison *c, const struct sosie_upload_id *id,
                           const struct sosie_manifest_ask *asks, size_t count)
{
	struct sosie_replicator *r = c->r;
	struct sosie_manifest m = {
	        .kind = SOSIE_MANIFEST_COMPARE, .parent = r->head->digest, .epoch = r->head->epoch};
	struct sosie_manifest_part part = {c->part.length, c->part.records, c->part.digest};
	char *text = NULL;
	size_t len = 0;
	int rc = 0;

	m.volumes = calloc(r->volume_count, sizeof(*m.volumes));
	m.asks = malloc(count * sizeof(*m.asks));
	m.parts = &part;
	m.part_count = 1;
	m.volume_count = r->volume_count;
	m.ask_count = (unsigned)count;
	if (!m.volumes || !m.asks)
		rc = sosie_err_set(c->err, SOSIE_ENOMEM, "no memory to compare digests");
	for (unsigned i = 0; rc == 0 && i < r->volume_count; i++) {
		m.volumes[i].name = r->volumes[i].given->name;
		m.volumes[i].size = r->volumes[i].size;
	}
	if (rc == 0) {
		memcpy(m.asks, asks, count * sizeof(*m.asks));
		snprintf(m.tenant.s, sizeof(m.tenant.s), "%s", r->o.tenant);
		snprintf(m.group.s, sizeof(m.group.s), "%s", r->o.group);
		snprintf(m.software, sizeof(m.software), "%s", SOFTWARE);
		rc = sosie_manifest_text(&m, &text, &len, c->err);
	}
	if (rc == 0)
		rc = trust_sign(r->o.pool, SOSIE_SIGN_MANIFEST, &text, &len, c->err);
	if (rc == 0)
		sosie_commit_digest(r->hash, text, len, &c->committed);
	if (rc == 0)
		rc = sosie_session_commit(c->session, r->o.group, id, text, len, &r->keeper, c->err);
	free(text);
	free(m.volumes);
	free(m.asks);
	return rc;
}

static int await_answer(struct comparison *c, const struct sosie_upload_id *id)
{
	struct sosie_verdict *v = malloc(sizeof(*v));
	int rc = v ? verdict_wait(c->r, id, &c->committed, v, c->err)
	           : sosie_err_set(c->err, SOSIE_ENOMEM, "no memory for a verdict");

	if (rc == -SOSIE_EPENDING || rc == -SOSIE_ENOKEEPER)
		sosie_err_wrap(c->err, "comparison of digests (this source has no state)");
	else if (rc == 0 && v->kind == SOSIE_VERDICT_REFUSED)
		rc = verdict_error(c->r, v, c->err);
	else if (rc == 0 && v->kind != SOSIE_VERDICT_DIFFERS)
		rc = sosie_err_set(c->err, SOSIE_EPROTO,
		                   "the standby's verdict on a comparison is not an answer");
	free(v);
	return rc;
}

static int put_question(struct comparison *c, const struct sosie_manifest_ask *asks, size_t count,
                        uint64_t blocks, void **answer, size_t *len)
{
	struct sosie_replicator *r = c->r;
	struct sosie_upload_id id;
	int rc = session_get(r, 0, &c->session, c->err);

	if (rc == 0)
		rc = sosie_session_begin(c->session, r->o.group, SOSIE_UPLOAD_COMPARE, &r->head->digest,
		                         r->head->epoch, &id, c->err);
	if (rc == 0)
		rc = sosie_session_part(c->session, r->o.group, &id, 0, c->err);
	c->part = (struct part){0};
	sosie_part_start(r->hash, &r->group_ctx, 0, &c->part.digest);
	for (size_t i = 0; rc == 0 && i < count; i++)
		rc = send_interval(c, &asks[i]);
	if (rc == 0)
		rc = send_buffered(c);
	if (rc == 0)
		rc = sosie_session_part_end(c->session, c->part.length, c->err);
	if (rc == 0)
		rc = commit_question(c, &id, asks, count);
	if (rc == 0)
		rc = await_answer(c, &id);
	if (rc == 0)
		rc = sosie_session_differs(c->session, r->o.group, &id, (size_t)blocks * SOSIE_DIFFERS_ENTRY,
		                           answer, len, c->err);
	return rc;
}

/* --- answers
 * ------------------------------------------------------------------------------------------------------------------------
 */

static bool differs(const struct sosie_differs_entry *e, unsigned i)
{
	return e->bitmap[i / 8] >> (i % 8) & 1;
}

/* Leaves that differ: unknown from here on. */
static int take_leaves(struct comparison *c, const struct sosie_differs_entry *e)
{
	struct volume *v = &c->r->volumes[e->volume];
	uint64_t leaves = (v->size - 1) / SOSIE_LEAF + 1, first = e->block * SOSIE_FANOUT;
	int rc = sosie_tree_get(v->tree, 0, e->block, c->entry.children, c->err);

	for (unsigned i = 0; i < SOSIE_FANOUT && first + i < leaves; i++)
		if (differs(e, i))
			c->entry.children[i] = leaf_unknown;
	return rc == 0 ? sosie_tree_put(v->tree, e->block, c->entry.children, c->err) : rc;
}

static int take_nodes(struct comparison *c, const struct sosie_differs_entry *e, struct asks *below)
{
	uint64_t leaves = (c->r->volumes[e->volume].size - 1) / SOSIE_LEAF + 1;
	unsigned shift = block_shift(e->level - 1u);

	for (unsigned i = 0; i < SOSIE_FANOUT; i++) {
		uint64_t block = e->block * SOSIE_FANOUT + i;
		int rc = 0;

		if (block << shift >= leaves)
			return 0;
		if (differs(e, i))
			rc = add_ask(below, e->volume, (uint16_t)(e->level - 1), block, 1, c->err);
		if (rc != 0)
			return rc;
	}
	return 0;
}

static bool was_asked(const struct sosie_manifest_ask *asks, size_t count,
                      const struct sosie_differs_entry *e)
{
	size_t low = 0, high = count;

	while (low < high) {
		size_t i = low + (high - low) / 2;
		const struct sosie_manifest_ask *a = &asks[i];

		if (a->volume == e->volume && a->level == e->level && e->block >= a->first &&
		    e->block - a->first < a->count)
			return true;
		if (a->volume < e->volume ||
		    (a->volume == e->volume &&
		     (a->level < e->level || (a->level == e->level && a->first < e->block))))
			low = i + 1;
		else
			high = i;
	}
	return false;
}

static int take_answer(struct comparison *c, const uint8_t *bytes, size_t len,
                       const struct sosie_manifest_ask *asks, size_t count, struct asks *below)
{
	if (len % SOSIE_DIFFERS_ENTRY != 0)
		return sosie_err_set(c->err, SOSIE_EPROTO, "the standby's answer to a comparison is cut off");
	for (size_t at = 0; at < len; at += SOSIE_DIFFERS_ENTRY) {
		struct sosie_differs_entry e;
		int rc = stop_asked(c->r) ? stop_error(c->err) : sosie_differs_get(bytes + at, &e, c->err);

		if (rc != 0)
			return rc;
		if (!was_asked(asks, count, &e))
			return sosie_err_set(c->err, SOSIE_EPROTO,
			                     "the standby answers to digests that it was not asked about");
		rc = e.level == 0 ? take_leaves(c, &e) : take_nodes(c, &e, below);
		if (rc != 0)
			return rc;
	}
	return 0;
}

static int descend(struct comparison *c, struct asks *list);

static int ask_batch(struct comparison *c, const struct sosie_manifest_ask *asks, size_t count,
                     uint64_t blocks)
{
	struct asks below = {0};
	void *answer = NULL;
	size_t len = 0;
	int rc = put_question(c, asks, count, blocks, &answer, &len);

	if (rc == 0)
		rc = take_answer(c, answer, len, asks, count, &below);
	free(answer);
	if (rc == 0 && below.count > 0)
		rc = descend(c, &below);
	free(below.a);
	return rc;
}

/* Takes intervals from the list's front, cut where a question is full. Recursion: one call a level. */
static int descend(struct comparison *c, struct asks *list)
{
	struct asks batch = {0};
	size_t i = 0;
	int rc = 0;

	while (rc == 0 && i < list->count) {
		uint64_t weight = 0, blocks = 0;

		batch.count = 0;
		while (rc == 0 && i < list->count && batch.count < QUESTION_ASKS &&
		       weight < QUESTION_WEIGHT) {
			struct sosie_manifest_ask *a = &list->a[i];
			uint64_t each = a->level > 0 ? NODE_WEIGHT : 1,
			         fit = (QUESTION_WEIGHT - weight + each - 1) / each;
			uint64_t n = a->count < fit ? a->count : fit;

			rc = add_ask(&batch, a->volume, a->level, a->first, n, c->err);
			a->first += n;
			a->count -= n;
			i += a->count == 0;
			weight += n * each;
			blocks += n;
		}
		if (rc == 0)
			rc = ask_batch(c, batch.a, batch.count, blocks);
		sosie_progress(c->r->o.progress, "comparing digests", i, list->count);
	}
	free(batch.a);
	return rc;
}

static int ask_all(struct comparison *c)
{
	struct sosie_replicator *r = c->r;
	struct asks top = {0};
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < r->volume_count; i++) {
		uint16_t level = r->volumes[i].size <= SMALL_VOLUME ? 1 : 2;
		uint64_t leaves = (r->volumes[i].size - 1) / SOSIE_LEAF + 1;

		if (r->volumes[i].compare)
			rc = add_ask(&top, (uint16_t)i, level, 0, ((leaves - 1) >> block_shift(level)) + 1,
			             c->err);
	}
	if (rc == 0)
		rc = descend(c, &top);
	free(top.a);
	return rc;
}

/* --- all of it
 * --------------------------------------------------------------------------------------------------------------------------
 */

static int record_head(struct sosie_replicator *r, struct sosie_err *err)
{
	struct state *s = &r->state;
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < r->volume_count; i++)
		rc = sosie_tree_sync(r->volumes[i].tree, err);
	if (rc == 0)
		rc = volumes_list(r, &s->volumes, err);
	s->store = r->head->store;
	s->epoch = r->head->epoch;
	s->point = r->head->point;
	s->digest = r->head->digest;
	s->manifest = r->head->manifest;
	if (rc == 0)
		rc = replicator_save(r, true, err);
	s->exists = rc == 0;
	return rc;
}

int compare_volumes(struct sosie_replicator *r, struct sosie_view *view, struct sosie_err *err)
{
	struct comparison *c = calloc(1, sizeof(*c));
	int rc = c ? trees_create_bases(r, err)
	           : sosie_err_set(err, SOSIE_ENOMEM, "no memory to compare digests");

	if (rc == 0) {
		c->r = r;
		c->err = err;
		c->buffer = malloc(SEND_ENTRIES * SOSIE_COMPARE_ENTRY);
		rc = c->buffer ? pass_run(r, view, PASS_DIGEST, err)
		               : sosie_err_set(err, SOSIE_ENOMEM, "no memory to compare digests");
	}
	if (rc == 0)
		rc = ask_all(c);
	if (rc == 0)
		rc = record_head(r, err);
	trees_close(r);
	for (unsigned i = 0; i < r->volume_count; i++)
		r->volumes[i].only_unknown = rc == 0 && r->volumes[i].compare;
	if (c)
		free(c->buffer);
	free(c);
	return rc;
}

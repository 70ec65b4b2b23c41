/* SPDX-License-Identifier: MIT */
/*
 * One worker's end of the upload: gathers leaves into records, and for each record, in this order: journal,
 * layer, send. A kill between any two leaves either an entry behind the durable end (taken back on resume) or
 * a record that journal and layer both know.
 *
 * Packs: data, patch and delta (up to 1 MiB of content each), zero and discard. Leaves come ascending by
 * (volume, leaf) for each pack. A leaf is in one pack only, and a chunk comes from one worker only, so what a
 * patch or a delta needs at its place in the segment is what the tree had when the leaf was given:
 *   patch   leaves of one volume of which the base view has the content that the tree says (old.c); else the
 *           pack goes as data
 *   delta   one chunk, sent at once, before anything else that the packs hold of this chunk
 * For journal and counters all three are data: what resuming needs is that the leaves have these digests.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/replicate/pass.h"

#define PACK_LEAVES (SOSIE_RECORD_PLAIN_MAX / SOSIE_LEAF)
#define ZERO_LEAVES_MAX (1u << 20) /* of one zero or discard record: bounds its journal entries */
#define PATCH_MISSES_MAX 3u
#define PATCH_REST 31u
#define ATTACHMENT_BYTES (256u << 10)

/* Of a pack with content; made when it is first needed. */
struct content {
	struct sosie_digest digests[PACK_LEAVES];
	struct sosie_digest old[PACK_LEAVES]; /* of patch */
	size_t len;
	uint8_t plain[SOSIE_RECORD_PLAIN_MAX];
};

struct pack {
	enum sosie_record_kind kind;
	struct sosie_range ranges[SOSIE_RECORD_RANGES_MAX];
	unsigned count;
	uint64_t leaves;
	struct content *content; /* NULL: zero, discard, or not needed yet */
};

struct sender {
	struct sosie_replicator *r;
	unsigned number;
	struct sosie_session *session;
	struct sosie_encoder *enc; /* made with the first record */
	struct sosie_hash *hash;
	bool open; /* a part is */
	uint32_t part;
	struct part progress; /* of the open part */
	struct counters counters;
	struct pack data, patch, delta, zero, discard;
	const void *delta_bytes; /* of the pack that is being sent */
	size_t delta_len;
	struct sosie_io *io; /* to read old content with; NULL: none is read */
	struct old *old;     /* made when first needed, as the next */
	struct chunk_delta *chunk_delta;
	uint64_t noted_us;  /* when the costs of a record were noted last */
	uint64_t waited_us; /* for the link, since then */
};

/* --- what a record costs: the worker's level follows it
 * -------------------------------------------------------------------------- */

static uint64_t now_us(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* What passes while the thread does not run; encrypting is work, not waiting. */
static int send_timed(struct sender *s, const void *data, size_t len, struct sosie_err *err)
{
	uint64_t wall = now_us(CLOCK_MONOTONIC), cpu = now_us(CLOCK_THREAD_CPUTIME_ID);
	int rc = sosie_session_data(s->session, data, len, err);

	wall = now_us(CLOCK_MONOTONIC) - wall;
	cpu = now_us(CLOCK_THREAD_CPUTIME_ID) - cpu;
	s->waited_us += wall > cpu ? wall - cpu : 0;
	return rc;
}

static void note_costs(struct sender *s, uint64_t encode_us)
{
	struct level *l = &s->r->levels[s->number];
	uint64_t now = now_us(CLOCK_MONOTONIC);

	if (level_note(l, encode_us, s->waited_us, now - s->noted_us))
		sosie_encoder_level(s->enc, l->level);
	s->noted_us = now;
	s->waited_us = 0;
}

int sender_new(struct sosie_replicator *r, unsigned number, struct sender **out, struct sosie_err *err)
{
	struct sender *s = calloc(1, sizeof(*s));

	*out = s;
	if (!s)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for a worker");
	s->r = r;
	s->number = number;
	s->data.kind = SOSIE_RECORD_DATA;
	s->patch.kind = SOSIE_RECORD_PATCH;
	s->delta.kind = SOSIE_RECORD_DELTA;
	s->zero.kind = SOSIE_RECORD_ZERO;
	s->discard.kind = SOSIE_RECORD_DISCARD;
	s->hash = sosie_hash_new();
	s->noted_us = now_us(CLOCK_MONOTONIC);
	return s->hash ? 0 : sosie_err_set(err, SOSIE_ENOMEM, "no memory for a worker");
}

void sender_reads_with(struct sender *s, struct sosie_io *io)
{
	s->io = io;
}

void sender_free(struct sender *s)
{
	if (!s)
		return;
	sosie_encoder_free(s->enc);
	sosie_hash_free(s->hash);
	old_free(s->old);
	chunk_delta_free(s->chunk_delta);
	free(s->data.content);
	free(s->patch.content);
	free(s->delta.content);
	free(s);
}

/* --- part
 * ------------------------------------------------------------------------------------------------------------------
 */

static int give_number(struct sender *s, struct sosie_err *err)
{
	struct upload *u = &s->r->upload;
	int rc = 0;

	pthread_mutex_lock(&u->lock);
	if (!u->begun)
		rc = pending_begin(s->r, s->session, err);
	if (rc == 0 && u->part_count == SOSIE_PARTS_MAX)
		rc = sosie_err_set(err, SOSIE_EPROTO, "the upload has %u parts already", SOSIE_PARTS_MAX);
	if (rc == 0)
		s->part = u->part_count++;
	pthread_mutex_unlock(&u->lock);
	return rc;
}

static int open_part(struct sender *s, struct sosie_err *err)
{
	struct sosie_session_info info;
	int rc =
	        s->enc ? 0 : sosie_encoder_new(&s->r->group_ctx, s->r->levels[s->number].level, &s->enc, err);

	if (rc == 0)
		rc = session_get(s->r, s->number, &s->session, err);
	if (rc == 0)
		rc = give_number(s, err);
	if (rc == 0)
		rc = sosie_session_part(s->session, s->r->o.group, &s->r->state.pending.upload, s->part, err);
	if (rc != 0)
		return rc;
	sosie_session_info(s->session, &info);
	sosie_encoder_pack_ranges(s->enc, (info.capabilities & SOSIE_CAP_PACKED) != 0);
	s->open = true;
	s->progress = (struct part){0};
	sosie_part_start(s->hash, &s->r->group_ctx, s->part, &s->progress.digest);
	return 0;
}

int sender_end(struct sender *s, struct sosie_err *err)
{
	struct upload *u = &s->r->upload;
	int rc;

	if (!s->open)
		return 0;
	rc = sosie_session_part_end(s->session, s->progress.length, err);
	s->open = false;
	s->r->session_used_ms[s->number] = sosie_mono_ms(s->r->o.clock);
	if (rc != 0)
		return rc;
	pthread_mutex_lock(&u->lock);
	u->parts[s->part] = s->progress;
	u->counters.plain += s->counters.plain;
	u->counters.data += s->counters.data;
	u->counters.zero += s->counters.zero;
	u->counters.discard += s->counters.discard;
	pthread_mutex_unlock(&u->lock);
	s->counters = (struct counters){0};
	return 0;
}

/* --- journal and layer
 * ------------------------------------------------------------------------------------------------------ */

/* The chunk that is being noted. */
struct note {
	struct journal_entry entry;
	struct sosie_digest block[SOSIE_FANOUT];
	bool loaded;
};

int upload_append(struct upload *u, struct journal_entry *e, const struct sosie_digest *block,
                  struct sosie_err *err)
{
	/* Very much at once: the layers are fsynced instead. */
	if (u->journal.size - u->journal.start > JOURNAL_UPLOAD_MAX)
		u->logged = false;
	e->logged = u->logged;
	return journal_append(&u->journal, e, block, err);
}

static int note_end(struct sender *s, struct note *n, struct sosie_err *err)
{
	int rc;

	if (!n->loaded)
		return 0;
	n->loaded = false;
	n->entry.check = journal_check(n->block);
	rc = upload_append(&s->r->upload, &n->entry, n->block, err);
	if (rc != 0)
		return sosie_err_wrap(err, "journal of what was sent");
	return sosie_tree_put(s->r->volumes[n->entry.volume].tree, n->entry.chunk, n->block, err);
}

static int note_start(struct sender *s, struct note *n, uint16_t volume, uint64_t chunk,
                      struct sosie_err *err)
{
	int rc = note_end(s, n, err);

	if (rc != 0)
		return rc;
	n->entry.volume = volume;
	n->entry.chunk = chunk;
	n->entry.leaves = 0;
	n->entry.last_leaf = false;
	memset(n->entry.map, 0, sizeof(n->entry.map));
	n->loaded = true;
	return sosie_tree_get(s->r->volumes[volume].tree, 0, chunk, n->block, err);
}

static int note_range(struct sender *s, struct note *n, const struct sosie_range *range,
                      const struct sosie_digest *digests, struct sosie_err *err)
{
	uint64_t last = (s->r->volumes[range->volume].size - 1) / SOSIE_LEAF;

	for (uint64_t i = 0; i < range->leaves; i++) {
		uint64_t leaf = range->leaf + i, chunk = leaf / SOSIE_FANOUT;
		int rc = 0;

		if (!n->loaded || n->entry.volume != range->volume || n->entry.chunk != chunk)
			rc = note_start(s, n, range->volume, chunk, err);
		if (rc != 0)
			return rc;
		n->block[leaf % SOSIE_FANOUT] = digests ? digests[i] : (struct sosie_digest){{0}};
		n->entry.map[leaf % SOSIE_FANOUT / 8] |= (uint8_t)(1u << leaf % 8);
		n->entry.leaves++;
		n->entry.last_leaf |= leaf == last;
	}
	return 0;
}

static bool has_content(const struct pack *p)
{
	return p->kind == SOSIE_RECORD_DATA || p->kind == SOSIE_RECORD_PATCH || p->kind == SOSIE_RECORD_DELTA;
}

static int note_pack(struct sender *s, const struct pack *p, const struct part *after, struct sosie_err *err)
{
	struct note n = {.entry = {.part = s->part,
	                           .kind = has_content(p) ? SOSIE_RECORD_DATA : p->kind,
	                           .end = after->length,
	                           .chain = after->digest}};
	const struct sosie_digest *digests = has_content(p) ? p->content->digests : NULL;
	int rc = 0;

	pthread_mutex_lock(&s->r->lock);
	for (unsigned i = 0; rc == 0 && i < p->count; i++) {
		rc = note_range(s, &n, &p->ranges[i], digests, err);
		if (digests)
			digests += p->ranges[i].leaves;
	}
	if (rc == 0)
		rc = note_end(s, &n, err);
	pthread_mutex_unlock(&s->r->lock);
	return rc;
}

/* --- records
 * ------------------------------------------------------------------------------------------------------------------
 */

static struct part part_after(struct sender *s, const void *record, size_t len)
{
	struct part after = s->progress;

	sosie_part_link(s->hash, record, len, &after.digest);
	after.length += len;
	after.records++;
	return after;
}

static int send_record(struct sender *s, const void *record, size_t len, const struct part *after,
                       struct sosie_err *err)
{
	const uint8_t *at = record;

	s->progress = *after;
	while (len > 0) {
		size_t n = len < SOSIE_DATA_MAX ? len : SOSIE_DATA_MAX;
		int rc = send_timed(s, at, n, err);

		if (rc != 0)
			return rc;
		at += n;
		len -= n;
	}
	return 0;
}

static void count_pack(struct sender *s, const struct pack *p)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < p->count; i++)
		bytes += sosie_range_bytes(&p->ranges[i], s->r->volumes[p->ranges[i].volume].size);
	if (has_content(p)) {
		s->counters.data += bytes;
		s->counters.plain += bytes;
	} else if (p->kind == SOSIE_RECORD_ZERO) {
		s->counters.zero += bytes;
	} else {
		s->counters.discard += bytes;
	}
	pthread_mutex_lock(&s->r->lock);
	s->r->result->changed_bytes += bytes;
	pthread_mutex_unlock(&s->r->lock);
}

struct record {
	const void *bytes;
	size_t len;
	uint64_t encode_us; /* reads of old content are no encoding */
};

static int fetch_old(struct sender *s, const struct pack *p, const void **old, struct sosie_err *err)
{
	int rc = s->old ? 0 : old_new(s->r, s->io, &s->old, err);

	*old = NULL;
	return rc == 0 ? old_fetch(s->old, p->ranges, p->count, p->content->old, old, err) : rc;
}

/* Noise over noise: after some patches in vain the next records go as data, then one is tried again. */
static bool old_may_help(struct sender *s)
{
	struct patch_habit *h = &s->r->habits[s->number];

	if (h->rest == 0)
		return true;
	h->rest--;
	return false;
}

static void note_patch(struct sender *s, enum sosie_record_kind kind)
{
	struct patch_habit *h = &s->r->habits[s->number];

	if (kind == SOSIE_RECORD_PATCH)
		h->misses = 0;
	else if (++h->misses >= PATCH_MISSES_MAX)
		*h = (struct patch_habit){.misses = PATCH_MISSES_MAX - 1, .rest = PATCH_REST};
}

static int encode(struct sender *s, const struct pack *p, struct record *out, struct sosie_err *err)
{
	const struct content *c = p->content;
	enum sosie_record_kind kind;
	const void *old = NULL;
	int rc = p->kind == SOSIE_RECORD_PATCH && old_may_help(s) ? fetch_old(s, p, &old, err) : 0;

	if (rc != 0)
		return rc;
	out->encode_us = now_us(CLOCK_MONOTONIC);
	if (!has_content(p))
		rc = sosie_encode_zero(s->enc, p->kind, p->ranges, p->count, &out->bytes, &out->len, err);
	else if (old)
		rc = sosie_encode_patch(s->enc, p->ranges, p->count, c->digests, c->plain, c->len, old,
		                        &out->bytes, &out->len, &kind, err);
	else if (p->kind == SOSIE_RECORD_DELTA)
		rc = sosie_encode_delta(s->enc, p->ranges, p->count, c->digests, c->plain, c->len,
		                        s->delta_bytes, s->delta_len, &out->bytes, &out->len, err);
	else
		rc = sosie_encode_data(s->enc, p->ranges, p->count, c->digests, c->plain, c->len, &out->bytes,
		                       &out->len, err);
	out->encode_us = now_us(CLOCK_MONOTONIC) - out->encode_us;
	if (rc == 0 && old)
		note_patch(s, kind);
	return rc;
}

static void empty_pack(struct pack *p)
{
	p->count = 0;
	p->leaves = 0;
	if (p->content)
		p->content->len = 0;
}

static int flush_pack(struct sender *s, struct pack *p, struct sosie_err *err)
{
	struct record record;
	struct part after;
	int rc = 0;

	if (p->count == 0)
		return 0;
	if (!s->open)
		rc = open_part(s, err);
	if (rc == 0)
		rc = encode(s, p, &record, err);
	if (rc != 0)
		return rc;
	after = part_after(s, record.bytes, record.len);
	rc = note_pack(s, p, &after, err);
	if (rc == 0)
		rc = send_record(s, record.bytes, record.len, &after, err);
	if (rc != 0)
		return rc;
	if (has_content(p))
		note_costs(s, record.encode_us);
	count_pack(s, p);
	empty_pack(p);
	return 0;
}

/* Room for one leaf more, which then is in the pack. */
static int add_leaf(struct sender *s, struct pack *p, unsigned volume, uint64_t leaf, uint64_t leaves_max,
                    struct sosie_err *err)
{
	struct sosie_range *last = p->count ? &p->ranges[p->count - 1] : NULL;
	bool adjacent = last && last->volume == volume && last->leaf + last->leaves == leaf;

	if (p->leaves == leaves_max || (!adjacent && p->count == SOSIE_RECORD_RANGES_MAX)) {
		int rc = flush_pack(s, p, err);

		if (rc != 0)
			return rc;
		adjacent = false;
	}
	if (adjacent)
		p->ranges[p->count - 1].leaves++;
	else
		p->ranges[p->count++] =
		        (struct sosie_range){.leaf = leaf, .leaves = 1, .volume = (uint16_t)volume};
	p->leaves++;
	return 0;
}

static int add_content(struct sender *s, struct pack *p, unsigned volume, uint64_t leaf,
                       const struct sosie_digest *digest, const struct sosie_digest *old, const void *bytes,
                       size_t len, struct sosie_err *err)
{
	struct content *c = p->content;
	int rc;

	if (!c) {
		p->content = c = malloc(sizeof(*c));
		if (!c)
			return sosie_err_set(err, SOSIE_ENOMEM, "no memory for a record");
		c->len = 0;
	}
	rc = add_leaf(s, p, volume, leaf, PACK_LEAVES, err);
	if (rc != 0)
		return rc;
	c->digests[p->leaves - 1] = *digest;
	c->old[p->leaves - 1] = *old;
	memcpy(c->plain + c->len, bytes, len);
	c->len += len;
	return 0;
}

int sender_leaf(struct sender *s, unsigned volume, uint64_t leaf, const struct sosie_digest *digest,
                const struct sosie_digest *old, const void *bytes, size_t len, struct sosie_err *err)
{
	const struct volume *v = &s->r->volumes[volume];
	bool known = !sosie_digest_is_zero(old) && !sosie_digest_equal(old, &leaf_unknown);
	int rc = 0;

	if (!s->io || !v->base_path || !known || leaf * SOSIE_LEAF >= v->base_size)
		return add_content(s, &s->data, volume, leaf, digest, old, bytes, len, err);
	if (s->patch.count > 0 && s->patch.ranges[0].volume != volume)
		rc = flush_pack(s, &s->patch, err);
	return rc == 0 ? add_content(s, &s->patch, volume, leaf, digest, old, bytes, len, err) : rc;
}

int sender_zero(struct sender *s, enum sosie_record_kind kind, unsigned volume, uint64_t leaf,
                struct sosie_err *err)
{
	return add_leaf(s, kind == SOSIE_RECORD_ZERO ? &s->zero : &s->discard, volume, leaf, ZERO_LEAVES_MAX,
	                err);
}

int sender_flush(struct sender *s, struct sosie_err *err)
{
	struct pack *packs[] = {&s->data, &s->patch, &s->zero, &s->discard};
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < sizeof(packs) / sizeof(packs[0]); i++)
		rc = flush_pack(s, packs[i], err);
	return rc;
}

/* --- deltas
 * ------------------------------------------------------------------------------------------------------- */

static int want_chunk_delta(struct sender *s, struct sosie_err *err)
{
	return s->chunk_delta ? 0 : chunk_delta_new(s->r, s->number, &s->chunk_delta, err);
}

int sender_delta(struct sender *s, const struct chunk_leaves *c, bool *sent, struct sosie_err *err)
{
	const struct volume *v = &s->r->volumes[c->volume];
	struct pack *p = &s->delta;
	bool found = false;
	int rc = want_chunk_delta(s, err);

	*sent = false;
	if (rc == 0)
		rc = chunk_delta_find(s->chunk_delta, c, &found, err);
	if (rc != 0 || !found)
		return rc;
	empty_pack(p);
	for (unsigned i = 0; rc == 0 && i < c->count; i++) {
		uint64_t leaf = c->chunk * SOSIE_FANOUT + i;

		if (c->changed[i] && !sosie_digest_is_zero(&c->fresh[i]))
			rc = add_content(s, p, c->volume, leaf, &c->fresh[i], &c->old[i], c->bytes[i],
			                 leaf_bytes(v, leaf), err);
	}
	if (rc == 0)
		rc = chunk_delta_make(s->chunk_delta, p->content->plain, p->content->len, &s->delta_bytes,
		                      &s->delta_len, err);
	if (rc != 0 || s->delta_len == 0)
		return rc;
	*sent = true;
	return flush_pack(s, p, err);
}

int sender_sign(struct sender *s, const struct chunk_leaves *c, struct sosie_file *file,
                struct sosie_err *err)
{
	int rc = want_chunk_delta(s, err);

	return rc == 0 ? chunk_delta_sign(s->chunk_delta, c, s->io, file, err) : rc;
}

/* --- attachments: last in the part, so that a resume can end the part before them
 * ---------------------------------------------- */

static int send_attachment_record(struct sender *s, uint32_t index, uint64_t offset, const void *data,
                                  size_t len, struct sosie_err *err)
{
	struct journal_entry e = {
	        .part = s->part, .volume = JOURNAL_ATTACHMENT, .kind = SOSIE_RECORD_ATTACHMENT};
	const void *record;
	struct part after;
	size_t record_len;
	int rc = sosie_encode_attachment(s->enc, index, offset, data, len, &record, &record_len, err);

	if (rc != 0)
		return rc;
	after = part_after(s, record, record_len);
	e.end = after.length;
	e.chain = after.digest;
	pthread_mutex_lock(&s->r->lock);
	rc = journal_append(&s->r->upload.journal, &e, NULL, err);
	pthread_mutex_unlock(&s->r->lock);
	s->counters.plain += len + 12;
	return rc == 0 ? send_record(s, record, record_len, &after, err) : rc;
}

static int send_attachment(struct sender *s, uint32_t index, struct sosie_io *io, uint8_t *buf,
                           struct sosie_err *err)
{
	const struct attachment *a = &s->r->attachments[index];
	struct sosie_file *file;
	uint64_t at = 0;
	size_t got = 1;
	int rc = sosie_io_openat(io, a->path, SOSIE_READ | (a->follow ? SOSIE_FOLLOW : 0u), 0, &file, err);

	if (rc != 0)
		return sosie_err_wrap(err, "attachment %s", a->entry.name.s);
	while (rc == 0 && at < a->entry.size && got > 0) {
		uint64_t left = a->entry.size - at;

		rc = sosie_io_pread(io, file, buf, left < ATTACHMENT_BYTES ? (size_t)left : ATTACHMENT_BYTES,
		                    at, &got, err);
		if (rc == 0 && got > 0)
			rc = send_attachment_record(s, index, at, buf, got, err);
		at += got;
	}
	sosie_io_close(io, file, NULL);
	if (rc == 0 && at < a->entry.size)
		rc = sosie_err_set(err, SOSIE_EBUSY, "attachment %s became smaller while it was sent",
		                   a->entry.name.s);
	return rc;
}

int sender_attachments(struct sender *s, struct sosie_err *err)
{
	struct sosie_io *io = NULL;
	uint8_t *buf;
	int rc = 0;

	if (s->r->attachment_count == 0)
		return 0;
	if (!s->open)
		rc = open_part(s, err);
	if (rc == 0)
		rc = sosie_io_posix(&io, err);
	if (rc != 0)
		return rc;
	buf = malloc(ATTACHMENT_BYTES);
	if (!buf)
		rc = sosie_err_set(err, SOSIE_ENOMEM, "no memory for attachments");
	for (uint32_t i = 0; rc == 0 && i < s->r->attachment_count; i++)
		rc = send_attachment(s, i, io, buf, err);
	free(buf);
	sosie_io_free(io);
	return rc;
}

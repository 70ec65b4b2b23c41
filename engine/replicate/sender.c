/* SPDX-License-Identifier: MIT */
/*
 * One worker's end of the upload: gathers leaves into records, and for each record, in this order: journal,
 * layer, send. A kill between any two leaves either an entry behind the durable end (taken back on resume) or
 * a record that journal and layer both know.
 *
 * Three packs: data (up to 1 MiB of content), zero and discard. Leaves come ascending by (volume, leaf) for
 * each pack.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/replicate/internal.h"

#define PACK_LEAVES (SOSIE_RECORD_PLAIN_MAX / SOSIE_LEAF)
#define ZERO_LEAVES_MAX (1u << 20) /* of one zero or discard record: bounds its journal entries */
#define ATTACHMENT_BYTES (256u << 10)

struct pack {
	enum sosie_record_kind kind;
	struct sosie_range ranges[SOSIE_RECORD_RANGES_MAX];
	unsigned count;
	uint64_t leaves;
};

struct sender {
	struct sosie_replicator *r;
	unsigned number;
	struct sosie_session *session;
	struct sosie_encoder *enc;
	struct sosie_hash *hash;
	bool open; /* a part is */
	uint32_t part;
	struct part progress; /* of the open part */
	struct counters counters;
	struct pack data, zero, discard;
	struct sosie_digest digests[PACK_LEAVES]; /* of data */
	uint8_t *plain;
	size_t plain_len;
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
	int rc;

	*out = s;
	if (!s)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for a worker");
	s->r = r;
	s->number = number;
	s->data.kind = SOSIE_RECORD_DATA;
	s->zero.kind = SOSIE_RECORD_ZERO;
	s->discard.kind = SOSIE_RECORD_DISCARD;
	s->plain = malloc(SOSIE_RECORD_PLAIN_MAX);
	s->hash = sosie_hash_new();
	if (!s->plain || !s->hash)
		rc = sosie_err_set(err, SOSIE_ENOMEM, "no memory for a worker");
	else
		rc = sosie_encoder_new(&r->group_ctx, r->levels[number].level, &s->enc, err);
	s->noted_us = now_us(CLOCK_MONOTONIC);
	return rc;
}

void sender_free(struct sender *s)
{
	if (!s)
		return;
	sosie_encoder_free(s->enc);
	sosie_hash_free(s->hash);
	free(s->plain);
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
	int rc = session_get(s->r, s->number, &s->session, err);

	if (rc == 0)
		rc = give_number(s, err);
	if (rc == 0)
		rc = sosie_session_part(s->session, s->r->o.group, &s->r->state.pending.upload, s->part, err);
	if (rc != 0)
		return rc;
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

static int note_end(struct sender *s, struct note *n, struct sosie_err *err)
{
	int rc;

	if (!n->loaded)
		return 0;
	n->loaded = false;
	n->entry.check = journal_check(n->block);
	rc = journal_append(&s->r->upload.journal, &n->entry, err);
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
		n->entry.leaves++;
		n->entry.last_leaf |= leaf == last;
	}
	return 0;
}

static int note_pack(struct sender *s, const struct pack *p, const struct part *after, struct sosie_err *err)
{
	struct note n = {
	        .entry = {.part = s->part, .kind = p->kind, .end = after->length, .chain = after->digest}};
	const struct sosie_digest *digests = p->kind == SOSIE_RECORD_DATA ? s->digests : NULL;
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
	if (p->kind == SOSIE_RECORD_DATA) {
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

static int flush_pack(struct sender *s, struct pack *p, struct sosie_err *err)
{
	const void *record;
	struct part after;
	uint64_t encode_us;
	size_t len;
	int rc = 0;

	if (p->count == 0)
		return 0;
	if (!s->open)
		rc = open_part(s, err);
	encode_us = now_us(CLOCK_MONOTONIC);
	if (rc == 0 && p->kind == SOSIE_RECORD_DATA)
		rc = sosie_encode_data(s->enc, p->ranges, p->count, s->digests, s->plain, s->plain_len,
		                       &record, &len, err);
	else if (rc == 0)
		rc = sosie_encode_zero(s->enc, p->kind, p->ranges, p->count, &record, &len, err);
	if (rc != 0)
		return rc;
	encode_us = now_us(CLOCK_MONOTONIC) - encode_us;
	after = part_after(s, record, len);
	rc = note_pack(s, p, &after, err);
	if (rc == 0)
		rc = send_record(s, record, len, &after, err);
	if (rc != 0)
		return rc;
	if (p->kind == SOSIE_RECORD_DATA)
		note_costs(s, encode_us);
	count_pack(s, p);
	p->count = 0;
	p->leaves = 0;
	if (p->kind == SOSIE_RECORD_DATA)
		s->plain_len = 0;
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

int sender_data(struct sender *s, unsigned volume, uint64_t leaf, const struct sosie_digest *digest,
                const void *bytes, size_t len, struct sosie_err *err)
{
	int rc = add_leaf(s, &s->data, volume, leaf, PACK_LEAVES, err);

	if (rc != 0)
		return rc;
	s->digests[s->data.leaves - 1] = *digest;
	memcpy(s->plain + s->plain_len, bytes, len);
	s->plain_len += len;
	return 0;
}

int sender_zero(struct sender *s, enum sosie_record_kind kind, unsigned volume, uint64_t leaf,
                struct sosie_err *err)
{
	return add_leaf(s, kind == SOSIE_RECORD_ZERO ? &s->zero : &s->discard, volume, leaf, ZERO_LEAVES_MAX,
	                err);
}

int sender_flush(struct sender *s, struct sosie_err *err)
{
	int rc = flush_pack(s, &s->data, err);

	if (rc == 0)
		rc = flush_pack(s, &s->zero, err);
	return rc == 0 ? flush_pack(s, &s->discard, err) : rc;
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
	rc = journal_append(&s->r->upload.journal, &e, err);
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
	int rc = sosie_io_openat(io, a->path, SOSIE_READ | SOSIE_FOLLOW, 0, &file, err);

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

	if (s->r->o.attachment_count == 0)
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
	for (uint32_t i = 0; rc == 0 && i < s->r->o.attachment_count; i++)
		rc = send_attachment(s, i, io, buf, err);
	free(buf);
	sosie_io_free(io);
	return rc;
}

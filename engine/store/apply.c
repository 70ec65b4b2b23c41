/* SPDX-License-Identifier: MIT */
/*
 * Applying a segment to a set of images, as a pipeline over APPLY_SLOTS slots, used in turn: parts are read
 * with requests in flight (stream.c), each record is copied into a slot and given to the decoders
 * (decoders.c), and in the order of the records what is decoded goes on: leaves into the trees, content to
 * the images with further requests in flight. All I/O and all of the trees is this thread's. Records are in
 * order where they overlap: a record that touches what is still being written waits for it. Memory is the
 * pool's, whatever the volume's size.
 *
 * A patch or delta builds on what its places hold after all records before it. That is read here, with
 * requests in flight, and the record goes to the decoders from the last read's completion. Before the first
 * read everything earlier that overlaps it is taken out of the decoders, applied, and written to the end:
 * what is read never depends on who was faster, so that a segment applied again gives the same bytes.
 *
 * Every byte of a part is a peer's. Whatever is wrong with them sets bad_segment, so that our own damage is
 * told apart. The first failure in the order of the records is the one that is told.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "engine/store/core.h"

#define APPLY_SLOTS 10u
#define DECODING_MAX 6u           /* the other slots are being written */
#define SLACK_BYTES (64ull << 20) /* of zeros and of basis in a segment, beyond what volumes account for */
#define THREADS_FROM (4ull << 20) /* bytes of content below which threads cost more than they save */

struct apply_slot;
struct slot_req {
	struct sosie_req req; /* first: done() casts */
	struct apply_slot *slot;
};
/* One record on its way to the images: basis is the kernel's while reading; then it is the decoders' until
 * waited for; then plain is the kernel's while writing. */
struct apply_slot {
	struct decode_job job;
	struct decode_pool *decoders; /* to give the job to when the basis is read; NULL: do not */
	uint8_t *packed;              /* SOSIE_RECORD_PLAIN_MAX: the payload */
	uint8_t *basis;               /* SOSIE_RECORD_PLAIN_MAX: what a patch or delta builds on */
	unsigned reading, writing;    /* requests in flight, never both */
	bool cut;                     /* a read ended before its length */
	int read_sys, write_sys;      /* of a request that failed */
	struct slot_req reqs[SOSIE_RECORD_RANGES_MAX];
};
struct apply_pool {
	uint8_t *memory, *ring, *scratch;
	struct apply_slot slots[APPLY_SLOTS];
	unsigned oldest,
	        decoding; /* slots being read for or at the decoders: [oldest, oldest + decoding) in turn */
	struct sosie_extent_volume volumes[SOSIE_VOLUMES_MAX];
};

#define SCRATCH_BYTES (2u * STORE_BLOCK)
#define SLOT_BYTES (3u * STORE_BLOCK)
#define POOL_BYTES ((size_t)STREAM_BLOCKS * STORE_BLOCK + SCRATCH_BYTES + (size_t)APPLY_SLOTS * SLOT_BYTES)
static_assert(SOSIE_RECORD_PLAIN_MAX == STORE_BLOCK, "a slot holds a content, a payload and a basis");

struct apply_attachments {
	const struct sosie_manifest *m;
	struct sosie_hash *hash; /* of the one that is under way */
	uint32_t index;
	uint64_t at;
	bool done[SOSIE_ATTACHMENTS_MAX];
};
/* Bytes of a kind of record in the segment so far. An honest sender covers each leaf once, and some again
 * when it resumes. UINT64_MAX: no limit. */
struct apply_budget {
	uint64_t used, limit;
};
struct apply {
	struct image_set *set;
	const struct sosie_manifest *m;
	struct apply_pool *pool;
	struct decode_pool *decoders;
	struct sosie_hash *hash;
	struct apply_attachments attachments;
	struct apply_budget zeros, patched, delta_basis;
	bool (*stop)(void *arg);
	void *arg;
	struct sosie_progress *progress;
	uint64_t read, total;
};

/* Not for children: a page that is being read into around the page cache must not be shared with one
 * (open(2), O_DIRECT and fork: the bytes could land in the child's copy), other tenants' content is in them,
 * and forking is quicker without. */
static uint8_t *map_buffers(void)
{
	void *memory = mmap(NULL, POOL_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		return NULL;
	if (madvise(memory, POOL_BYTES, MADV_DONTFORK) == 0)
		return memory;
	munmap(memory, POOL_BYTES);
	return NULL;
}

int apply_pool_get(struct sosie_store *store, struct apply_pool **out, struct sosie_err *err)
{
	struct apply_pool *p = store->pool;
	*out = p;
	if (p)
		return 0;
	p = calloc(1, sizeof(*p));
	if (p)
		p->memory = map_buffers();
	if (!p || !p->memory) {
		free(p);
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for the buffers to apply segments");
	}
	p->ring = p->memory;
	p->scratch = p->ring + (size_t)STREAM_BLOCKS * STORE_BLOCK;
	for (unsigned i = 0; i < APPLY_SLOTS; i++) {
		p->slots[i].job.plain = p->scratch + SCRATCH_BYTES + (size_t)i * SLOT_BYTES;
		p->slots[i].packed = p->slots[i].job.plain + STORE_BLOCK;
		p->slots[i].basis = p->slots[i].packed + STORE_BLOCK;
	}
	*out = store->pool = p;
	return 0;
}

void apply_pool_free(struct apply_pool *pool)
{
	if (!pool)
		return;
	munmap(pool->memory, POOL_BYTES);
	free(pool);
}

uint8_t *apply_pool_ring(struct apply_pool *pool)
{
	return pool->ring;
}

uint8_t *apply_pool_scratch(struct apply_pool *pool)
{
	return pool->scratch;
}

static void write_done(struct sosie_req *req)
{
	struct apply_slot *slot = ((struct slot_req *)req)->slot;
	slot->writing--;
	if (req->sys)
		slot->write_sys = req->sys;
}

static void read_done(struct sosie_req *req)
{
	struct apply_slot *slot = ((struct slot_req *)req)->slot;
	slot->reading--;
	if (req->sys)
		slot->read_sys = req->sys;
	else if (req->got < req->len)
		slot->cut = true;
	if (slot->reading == 0 && !slot->read_sys && !slot->cut && slot->decoders)
		decode_pool_give(slot->decoders, &slot->job);
}

static int bad(struct apply *a, int rc)
{
	if (rc == -SOSIE_ECORRUPT || rc == -SOSIE_EPROTO || rc == -SOSIE_EUNSUPPORTED)
		a->set->bad_segment = true;
	return rc;
}

static int wait_slot(struct apply *a, struct apply_slot *slot, struct sosie_err *err)
{
	while (slot->reading || slot->writing) {
		int n = sosie_io_reap(a->set->store->io, 1, err);
		if (n < 0)
			return n;
	}
	if (slot->read_sys)
		return sosie_err_sys(err, slot->read_sys, "cannot read an image in %s", a->set->dir);
	if (slot->write_sys)
		return sosie_err_sys(err, slot->write_sys, "cannot write an image in %s", a->set->dir);
	if (slot->cut)
		return sosie_err_set(err, SOSIE_ECORRUPT, "an image in %s became shorter", a->set->dir);
	return 0;
}

/* Nothing that is still read for goes to the decoders. */
static int drain(struct apply *a, struct sosie_err *err)
{
	int rc = 0;
	for (unsigned i = 0; i < APPLY_SLOTS; i++)
		a->pool->slots[i].decoders = NULL;
	for (unsigned i = 0; i < APPLY_SLOTS; i++) {
		int one = wait_slot(a, &a->pool->slots[i], rc ? NULL : err);
		rc = rc ? rc : one;
	}
	return rc;
}

static bool before(const struct sosie_range *a, const struct sosie_range *b)
{
	return a->volume < b->volume || (a->volume == b->volume && a->leaf + a->leaves <= b->leaf);
}

/* Both lists ascend. */
static bool overlap(const struct sosie_range *a, unsigned na, const struct sosie_range *b, unsigned nb)
{
	if (!na || !nb || before(&a[na - 1], &b[0]) || before(&b[nb - 1], &a[0]))
		return false;
	for (unsigned i = 0, k = 0; i < na && k < nb;) {
		if (before(&a[i], &b[k]))
			i++;
		else if (before(&b[k], &a[i]))
			k++;
		else
			return true;
	}
	return false;
}

static int wait_overlapping(struct apply *a, const struct sosie_range *ranges, unsigned count,
                            struct sosie_err *err)
{
	for (unsigned i = 0; i < APPLY_SLOTS; i++) {
		struct apply_slot *s = &a->pool->slots[i];
		const struct sosie_record *w = &s->job.record;
		int rc = s->writing && overlap(w->ranges, w->range_count, ranges, count)
		                 ? wait_slot(a, s, err)
		                 : 0;
		if (rc)
			return rc;
	}
	return 0;
}

/* Digests of the record's leaves into the trees; NULL leaves: zeros. */
static int put_leaves(struct apply *a, const struct sosie_record *r, const struct sosie_digest *leaves,
                      struct sosie_err *err)
{
	for (unsigned i = 0; i < r->range_count; i++) {
		const struct sosie_range *range = &r->ranges[i];
		struct sosie_tree *tree;
		int rc = images_tree(a->set, range->volume, &tree, err);
		a->set->images[range->volume].tree_dirty = true;
		if (!rc)
			rc = sosie_tree_put_leaves(tree, range->leaf, range->leaves, leaves, err);
		if (rc)
			return rc;
		leaves = leaves ? leaves + range->leaves : NULL;
	}
	return 0;
}

/* One request for each run of adjacent ranges: their content is adjacent in buf too. */
static void submit_ranges(struct apply *a, struct apply_slot *slot, const struct sosie_range *ranges,
                          unsigned count, struct sosie_req like, unsigned *in_flight)
{
	unsigned n = 0;
	uint8_t *at = like.buf;
	for (unsigned i = 0; i < count; n++) {
		const struct sosie_range *first = &ranges[i];
		const struct image *im = &a->set->images[first->volume];
		uint64_t end = first->leaf, bytes = 0;
		for (; i < count && ranges[i].volume == first->volume && ranges[i].leaf == end; i++) {
			bytes += sosie_range_bytes(&ranges[i], im->size);
			end += ranges[i].leaves;
		}
		slot->reqs[n].slot = slot;
		slot->reqs[n].req = like;
		slot->reqs[n].req.file = im->file;
		slot->reqs[n].req.buf = at;
		slot->reqs[n].req.len = (size_t)bytes;
		slot->reqs[n].req.offset = first->leaf * SOSIE_LEAF;
		at += bytes;
	}
	*in_flight = n; /* before the first: what counts it down is never early */
	for (unsigned i = 0; i < n; i++)
		sosie_io_submit(a->set->store->io, &slot->reqs[i].req);
}

static void submit_writes(struct apply *a, struct apply_slot *slot)
{
	const struct sosie_record *r = &slot->job.record;
	const struct sosie_req like = {.op = SOSIE_OP_WRITE, .buf = slot->job.plain, .done = write_done};
	for (unsigned i = 0; i < r->range_count; i++)
		a->set->images[r->ranges[i].volume].dirty = true;
	a->set->applied += r->plain_len;
	submit_ranges(a, slot, r->ranges, r->range_count, like, &slot->writing);
}

static int apply_data(struct apply *a, struct apply_slot *slot, struct sosie_err *err)
{
	const struct sosie_record *r = &slot->job.record;
	int rc = wait_overlapping(a, r->ranges, r->range_count, err);
	if (!rc)
		rc = put_leaves(a, r, slot->job.leaves, err);
	if (!rc)
		submit_writes(a, slot);
	return rc;
}

static int apply_zero(struct apply *a, struct apply_slot *slot, struct sosie_err *err)
{
	const struct sosie_record *r = &slot->job.record;
	int rc = wait_overlapping(a, r->ranges, r->range_count, err);
	for (unsigned i = 0; !rc && i < r->range_count; i++) {
		struct image *im = &a->set->images[r->ranges[i].volume];
		uint64_t bytes = sosie_range_bytes(&r->ranges[i], im->size);
		im->dirty = true;
		rc = sosie_io_punch(a->set->store->io, im->file, r->ranges[i].leaf * SOSIE_LEAF, bytes, err);
	}
	return rc ? rc : put_leaves(a, r, NULL, err);
}

static int attachment_end(struct apply_attachments *t, struct sosie_err *err)
{
	const struct sosie_manifest_attachment *want = &t->m->attachments[t->index];
	struct sosie_digest d;
	sosie_hash_end(t->hash, &d);
	t->done[t->index] = sosie_digest_equal(&d, &want->sha256);
	if (!t->done[t->index])
		return sosie_err_set(err, SOSIE_ECORRUPT,
		                     "the attachment %s does not have the SHA-256 of the manifest",
		                     want->name.s);
	return 0;
}

/* Bytes come in order; one that begins again at 0 replaces what came of it before (a resumed upload). */
static int take_attachment(struct apply_attachments *t, const uint8_t *plain, size_t len,
                           struct sosie_err *err)
{
	uint32_t index;
	uint64_t offset;
	const void *data;
	size_t n;
	int rc = sosie_attachment_parse(plain, len, &index, &offset, &data, &n, err);
	if (rc)
		return rc;
	if (index >= t->m->attachment_count)
		return sosie_err_set(err, SOSIE_ECORRUPT, "attachment %u of %u", index,
		                     t->m->attachment_count);
	if (offset == 0) {
		t->index = index;
		t->at = 0;
		t->done[index] = false;
		sosie_hash_plain(t->hash);
	} else if (index != t->index || offset != t->at || t->done[index]) {
		return sosie_err_set(err, SOSIE_ECORRUPT, "the bytes of attachment %s are not in order",
		                     t->m->attachments[index].name.s);
	}
	if (n > t->m->attachments[index].size - t->at)
		return sosie_err_set(err, SOSIE_ECORRUPT, "attachment %s is longer than the manifest says",
		                     t->m->attachments[index].name.s);
	sosie_hash_add(t->hash, data, n);
	t->at += n;
	return t->at == t->m->attachments[index].size ? attachment_end(t, err) : 0;
}

static int finish_attachments(struct apply_attachments *t, struct sosie_err *err)
{
	for (uint32_t i = 0; i < t->m->attachment_count; i++) {
		int rc = 0;
		if (!t->done[i] && t->m->attachments[i].size == 0) {
			t->index = i;
			sosie_hash_plain(t->hash);
			rc = attachment_end(t, err);
		} else if (!t->done[i]) {
			rc = sosie_err_set(err, SOSIE_ECORRUPT, "the attachment %s is not complete",
			                   t->m->attachments[i].name.s);
		}
		if (rc)
			return rc;
	}
	return 0;
}

/* Waits until the record is decoded. A patch or delta that fails may do so because of our images: that is not
 * yet the segment's fault. */
static int await_decoded(struct apply *a, struct apply_slot *slot, struct sosie_err *err)
{
	const enum sosie_record_kind kind = slot->job.record.kind;
	int rc = wait_slot(a, slot, err);
	if (rc)
		return rc;
	decode_pool_wait(a->decoders, &slot->job);
	if (!slot->job.rc)
		return 0;
	if (err)
		*err = slot->job.err;
	return kind == SOSIE_RECORD_PATCH || kind == SOSIE_RECORD_DELTA ? slot->job.rc : bad(a, slot->job.rc);
}

/* The oldest record goes on from the decoders to trees and images. */
static int apply_oldest(struct apply *a, struct sosie_err *err)
{
	struct apply_pool *p = a->pool;
	struct apply_slot *slot = &p->slots[p->oldest];
	p->oldest = (p->oldest + 1) % APPLY_SLOTS;
	p->decoding--;
	int rc = await_decoded(a, slot, err);
	if (rc)
		return rc;
	switch (slot->job.record.kind) {
	case SOSIE_RECORD_DATA:
	case SOSIE_RECORD_PATCH:
	case SOSIE_RECORD_DELTA:
		return apply_data(a, slot, err);
	case SOSIE_RECORD_ZERO:
	case SOSIE_RECORD_DISCARD:
		return apply_zero(a, slot, err);
	case SOSIE_RECORD_ATTACHMENT:
		return bad(a, take_attachment(&a->attachments, slot->job.plain, slot->job.record.plain_len,
		                              err));
	}
	return sosie_err_set(err, SOSIE_EINTERNAL, "a record of kind %d was decoded",
	                     (int)slot->job.record.kind);
}

static int apply_decoded(struct apply *a, unsigned leave, struct sosie_err *err)
{
	int rc = 0;
	while (!rc && a->pool->decoding > leave)
		rc = apply_oldest(a, err);
	return rc;
}

/* Small records can cost much: a hole punched, up to 1 MiB read. */
static int spend(struct apply *a, const struct sosie_record *r, struct sosie_err *err)
{
	struct sosie_range basis[SOSIE_RECORD_RANGES_MAX];
	struct apply_budget *b = NULL;
	uint64_t bytes = 0;
	size_t read = 0;
	if (r->kind == SOSIE_RECORD_ZERO || r->kind == SOSIE_RECORD_DISCARD) {
		b = &a->zeros;
		for (unsigned i = 0; i < r->range_count; i++)
			bytes += sosie_range_bytes(&r->ranges[i], a->pool->volumes[r->ranges[i].volume].size);
	} else if (sosie_record_basis(r, a->pool->volumes, basis, &read)) {
		b = r->kind == SOSIE_RECORD_DELTA ? &a->delta_basis : &a->patched;
		bytes = read;
	}
	if (!b || b->limit == UINT64_MAX)
		return 0;
	if (bytes <= b->limit - b->used) {
		b->used += bytes;
		return 0;
	}
	sosie_err_set(err, SOSIE_ECORRUPT,
	              "the segment's %s cover more than %llu bytes, far more than its volumes have",
	              b == &a->zeros     ? "zero and discard records"
	              : b == &a->patched ? "patches"
	                                 : "deltas",
	              (unsigned long long)b->limit);
	return sosie_err_action(err, "the source must send each block once");
}

/* Into the slot. What fails here is the peer's bytes. */
static int parse_record(struct apply *a, struct apply_slot *slot, const uint8_t *bytes, struct sosie_err *err)
{
	struct decode_job *job = &slot->job;
	uint32_t ranges_len, payload_len;
	int rc = sosie_record_lengths(bytes, &ranges_len, &payload_len, err);
	const size_t head = rc ? 0 : SOSIE_RECORD_HEADER + (size_t)ranges_len;
	if (!rc)
		rc = sosie_record_parse(bytes, head, a->pool->volumes, a->set->count, &job->record, err);
	if (!rc && payload_len > STORE_BLOCK)
		rc = sosie_err_set(err, SOSIE_ECORRUPT, "a record with %u bytes of payload", payload_len);
	if (!rc)
		rc = spend(a, &job->record, err);
	if (rc)
		return rc;
	memcpy(slot->packed, bytes + head, payload_len);
	job->payload = slot->packed;
	return 0;
}

/* What earlier records make of these ranges is in the images: applied up to the last that overlaps, and
 * written. */
static int settle_ranges(struct apply *a, const struct sosie_range *ranges, unsigned count,
                         struct sosie_err *err)
{
	struct apply_pool *p = a->pool;
	int rc = 0;
	for (unsigned younger = 0; !rc && younger < p->decoding; younger++) {
		const unsigned at = (p->oldest + p->decoding - 1 - younger) % APPLY_SLOTS;
		const struct sosie_record *r = &p->slots[at].job.record;
		if (overlap(r->ranges, r->range_count, ranges, count))
			rc = apply_decoded(a, younger, err);
	}
	return rc ? rc : wait_overlapping(a, ranges, count, err);
}

/* The record that was parsed into the next slot goes to the decoders, at once or when its basis is read. What
 * fails here is an earlier record or our own. */
static int start_record(struct apply *a, struct sosie_err *err)
{
	struct sosie_range ranges[SOSIE_RECORD_RANGES_MAX];
	struct apply_pool *p = a->pool;
	struct apply_slot *slot = &p->slots[(p->oldest + p->decoding) % APPLY_SLOTS];
	const struct sosie_req like = {.op = SOSIE_OP_READ, .buf = slot->basis, .done = read_done};
	size_t bytes;
	unsigned count = sosie_record_basis(&slot->job.record, p->volumes, ranges, &bytes);
	slot->job.basis = count ? slot->basis : NULL;
	int rc = count ? settle_ranges(a, ranges, count, err) : 0;
	if (rc)
		return rc;
	if (count)
		submit_ranges(a, slot, ranges, count, like, &slot->reading);
	else
		decode_pool_give(a->decoders, &slot->job);
	p->decoding++;
	return 0;
}

/* The next record of the part into the next slot; *len 0: there is none. *peer: the failure is of its bytes.
 */
static int take_record(struct apply *a, struct part_stream *s, struct sosie_digest *chain, size_t *len,
                       bool *peer, struct sosie_err *err)
{
	struct apply_pool *p = a->pool;
	struct apply_slot *slot = &p->slots[(p->oldest + p->decoding) % APPLY_SLOTS];
	const uint8_t *bytes;
	int rc = wait_slot(a, slot, err);
	*len = 0;
	*peer = false;
	if (rc)
		return rc;
	*peer = true;
	rc = stream_record(s, &bytes, len, err);
	if (rc || *len == 0)
		return rc;
	sosie_part_link(a->hash, bytes, *len, chain);
	rc = parse_record(a, slot, bytes, err);
	stream_skip(s, *len);
	return rc;
}

/* Whether the part is what its manifest says. */
static int check_part(const struct apply *a, unsigned part, uint64_t records,
                      const struct sosie_digest *chain, struct sosie_err *err)
{
	const struct sosie_manifest_part *want = &a->m->parts[part];
	if (records == want->records && sosie_digest_equal(chain, &want->digest))
		return 0;
	return sosie_err_set(err, SOSIE_ECORRUPT,
	                     "the part does not have the digest and number of records of its manifest");
}

/* A failure to take a record waits until those before it have gone on: theirs come first. */
static int apply_records(struct apply *a, struct part_stream *s, unsigned part, struct sosie_err *err)
{
	struct sosie_err taking;
	struct sosie_digest chain;
	uint64_t records = 0;
	size_t len = 1;
	bool peer = false;
	int rc = 0, taken = 0;
	sosie_err_clear(&taking);
	sosie_part_start(a->hash, &a->set->group_ctx, part, &chain);
	while (!rc && !taken && len) {
		if (a->stop && a->stop(a->arg))
			return sosie_err_set(err, SOSIE_EBUSY,
			                     "stopped because another process waits for the group");
		rc = apply_decoded(a, DECODING_MAX - 1, err);
		if (!rc)
			taken = take_record(a, s, &chain, &len, &peer, &taking);
		if (!rc && !taken && len)
			rc = start_record(a, err);
		records += !rc && !taken && len;
		sosie_progress(a->progress, "applying", a->read + s->at, a->total);
	}
	if (!rc)
		rc = apply_decoded(a, 0, err);
	if (!rc && taken) {
		*err = taking;
		return peer ? bad(a, taken) : taken;
	}
	return rc ? rc : bad(a, check_part(a, part, records, &chain, err));
}

static int apply_part(struct apply *a, uint64_t point, unsigned part, struct sosie_err *err)
{
	struct sosie_io *io = a->set->store->io;
	struct part_stream *s = calloc(1, sizeof(*s));
	struct sosie_file *f = NULL;
	struct sosie_stat st;
	char path[STORE_PATH];
	int rc = s ? 0 : sosie_err_set(err, SOSIE_ENOMEM, "no memory to read a part");
	if (!rc)
		rc = journal_path(a->set->group_dir, point, part, path, err);
	if (!rc)
		rc = sosie_io_openat(io, path, SOSIE_READ, 0, &f, err);
	if (!rc)
		rc = sosie_io_fstat(io, f, &st, err);
	if (!rc && st.size != a->m->parts[part].length)
		rc = bad(a,
		         sosie_err_set(err, SOSIE_ECORRUPT, "the part has %llu bytes, its manifest says %llu",
		                       (unsigned long long)st.size,
		                       (unsigned long long)a->m->parts[part].length));
	if (!rc) {
		stream_start(s, io, f, st.size, a->pool->ring, a->pool->scratch);
		rc = apply_records(a, s, part, err);
		stream_stop(s);
		a->read += st.size;
	}
	if (rc && rc != -SOSIE_EBUSY)
		sosie_err_where(err, "part %u of point %llu", part, (unsigned long long)point);
	sosie_io_close(io, f, NULL);
	free(s);
	return rc;
}

static uint64_t saturated(uint64_t sum, uint64_t times)
{
	uint64_t product;
	if (__builtin_mul_overflow(sum, times, &product) || !sosie_add_u64(product, SLACK_BYTES, &product))
		return UINT64_MAX;
	return product;
}

static void set_budgets(struct apply *a)
{
	uint64_t sum = a->set->bounded ? 0 : UINT64_MAX;
	for (unsigned i = 0; i < a->set->count; i++)
		if (!sosie_add_u64(sum, a->set->images[i].size, &sum))
			sum = UINT64_MAX;
	a->zeros.limit = saturated(sum, 4);
	a->patched.limit = a->delta_basis.limit = saturated(sum, 2);
}

static int prepare(struct apply *a, struct sosie_err *err)
{
	struct image_set *set = a->set;
	int rc = apply_pool_get(set->store, &a->pool, err);
	if (rc)
		return rc;
	a->hash = sosie_hash_new();
	a->attachments.hash = sosie_hash_new();
	a->attachments.m = a->m;
	if (!a->hash || !a->attachments.hash)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory to apply a segment");
	for (unsigned i = 0; i < set->count; i++)
		a->pool->volumes[i] =
		        (struct sosie_extent_volume){.ctx = set->images[i].ctx, .size = set->images[i].size};
	set_budgets(a);
	for (unsigned i = 0; i < a->m->part_count; i++)
		a->total += a->m->parts[i].length;
	struct decode_place place = {
	        .clock = set->store->clock, .tenant = set->tenant.s, .group_ctx = &set->group_ctx};
	rc = store_home(set->store, &place.home, err);
	if (!rc)
		rc = decode_pool_new(&place, a->pool->volumes, a->m->plain >= THREADS_FROM, &a->decoders,
		                     err);
	a->pool->oldest = a->pool->decoding = 0;
	for (unsigned i = 0; i < APPLY_SLOTS; i++) {
		struct apply_slot *slot = &a->pool->slots[i];
		slot->read_sys = slot->write_sys = 0;
		slot->cut = false;
		slot->decoders = a->decoders;
	}
	return rc;
}

int images_apply(struct image_set *set, const struct sosie_manifest *m, uint64_t point,
                 bool (*stop)(void *arg), void *arg, struct sosie_progress *progress, struct sosie_err *err)
{
	struct sosie_err mine;
	struct apply a = {.set = set, .m = m, .stop = stop, .arg = arg, .progress = progress};
	sosie_err_clear(&mine);
	set->bad_segment = false;
	set->applied = 0;
	if (!images_match(set, m))
		return sosie_err_set(err, SOSIE_EINTERNAL, "the images in %s are not of the segment's shape",
		                     set->dir);
	int rc = prepare(&a, &mine);
	for (unsigned i = 0; !rc && i < m->part_count; i++)
		rc = apply_part(&a, point, i, &mine);
	if (!rc)
		rc = bad(&a, finish_attachments(&a.attachments, &mine));
	int drained = a.pool ? drain(&a, rc ? NULL : &mine) : 0;
	set->unpack_ns = decode_pool_free(a.decoders); /* with what was given in vain, after a failure */
	rc = rc ? rc : drained;
	sosie_hash_free(a.hash);
	sosie_hash_free(a.attachments.hash);
	if (rc && err)
		*err = mine;
	return rc;
}

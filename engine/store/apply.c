/* SPDX-License-Identifier: MIT */
/*
 * Applying a segment to a set of images: parts are read with requests in flight (stream.c), each record is
 * decoded into one of APPLY_SLOTS buffers and written from there with further requests in flight. Records are
 * in order where they overlap: a record that touches what is still being written waits for it. Memory is the
 * pool's, whatever the volume's size.
 *
 * Every byte of a part is a peer's. Whatever is wrong with them sets bad_segment, so that our own damage is
 * told apart.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/store/core.h"

#define APPLY_SLOTS 6u
#define APPLY_LEAVES 512u

struct apply_slot;
struct write_req {
	struct sosie_req req; /* first: done() casts */
	struct apply_slot *slot;
};
/* One record on its way to the images: plain is the kernel's while pending. */
struct apply_slot {
	uint8_t *plain;
	unsigned pending, range_count;
	struct sosie_range ranges[SOSIE_RECORD_RANGES_MAX];
	struct write_req reqs[SOSIE_RECORD_RANGES_MAX];
	int sys; /* of a write that failed */
};
struct apply_pool {
	uint8_t *memory, *ring, *scratch;
	struct apply_slot slots[APPLY_SLOTS];
	struct sosie_record record;
	struct sosie_digest leaves[APPLY_LEAVES];
	struct sosie_extent_volume volumes[SOSIE_VOLUMES_MAX];
};

#define SCRATCH_BYTES (2u * STORE_BLOCK)
#define POOL_BYTES ((size_t)(STREAM_BLOCKS + APPLY_SLOTS) * STORE_BLOCK + SCRATCH_BYTES)

struct apply_attachments {
	const struct sosie_manifest *m;
	struct sosie_hash *hash; /* of the one that is under way */
	uint32_t index;
	uint64_t at;
	bool done[SOSIE_ATTACHMENTS_MAX];
};
struct apply {
	struct image_set *set;
	const struct sosie_manifest *m;
	struct apply_pool *pool;
	struct sosie_decoder *decoder;
	struct sosie_hash *hash;
	struct apply_attachments attachments;
	bool (*stop)(void *arg);
	void *arg;
	struct sosie_progress *progress;
	uint64_t read, total;
};

int apply_pool_get(struct sosie_store *store, struct apply_pool **out, struct sosie_err *err)
{
	struct apply_pool *p = store->pool;
	*out = p;
	if (p)
		return 0;
	p = calloc(1, sizeof(*p));
	if (p)
		p->memory = aligned_alloc(SOSIE_LEAF, POOL_BYTES);
	if (!p || !p->memory) {
		free(p);
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for the buffers to apply segments");
	}
	p->ring = p->memory;
	p->scratch = p->ring + (size_t)STREAM_BLOCKS * STORE_BLOCK;
	for (unsigned i = 0; i < APPLY_SLOTS; i++)
		p->slots[i].plain = p->scratch + SCRATCH_BYTES + (size_t)i * STORE_BLOCK;
	*out = store->pool = p;
	return 0;
}

void apply_pool_free(struct apply_pool *pool)
{
	if (!pool)
		return;
	free(pool->memory);
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
	struct apply_slot *slot = ((struct write_req *)req)->slot;
	slot->pending--;
	if (req->sys)
		slot->sys = req->sys;
}

static int bad(struct apply *a, int rc)
{
	if (rc == -SOSIE_ECORRUPT || rc == -SOSIE_EPROTO || rc == -SOSIE_EUNSUPPORTED)
		a->set->bad_segment = true;
	return rc;
}

static int wait_slot(struct apply *a, struct apply_slot *slot, struct sosie_err *err)
{
	while (slot->pending) {
		int n = sosie_io_reap(a->set->store->io, 1, err);
		if (n < 0)
			return n;
	}
	return slot->sys ? sosie_err_sys(err, slot->sys, "cannot write an image in %s", a->set->dir) : 0;
}

static int drain(struct apply *a, struct sosie_err *err)
{
	int rc = 0;
	for (unsigned i = 0; i < APPLY_SLOTS; i++) {
		int one = wait_slot(a, &a->pool->slots[i], rc ? NULL : err);
		rc = rc ? rc : one;
	}
	return rc;
}

static struct apply_slot *free_slot(struct apply *a, struct sosie_err *err)
{
	for (;;) {
		for (unsigned i = 0; i < APPLY_SLOTS; i++)
			if (!a->pool->slots[i].pending && !a->pool->slots[i].sys)
				return &a->pool->slots[i];
		for (unsigned i = 0; i < APPLY_SLOTS; i++)
			if (a->pool->slots[i].sys)
				return wait_slot(a, &a->pool->slots[i], err) ? NULL : &a->pool->slots[i];
		if (sosie_io_reap(a->set->store->io, 1, err) < 0)
			return NULL;
	}
}

static bool before(const struct sosie_range *a, const struct sosie_range *b)
{
	return a->volume < b->volume || (a->volume == b->volume && a->leaf + a->leaves <= b->leaf);
}

/* Both lists ascend. */
static bool overlap(const struct sosie_range *a, unsigned na, const struct sosie_range *b, unsigned nb)
{
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

static int wait_overlapping(struct apply *a, const struct sosie_record *r, struct sosie_err *err)
{
	for (unsigned i = 0; i < APPLY_SLOTS; i++) {
		struct apply_slot *s = &a->pool->slots[i];
		int rc = s->pending && overlap(s->ranges, s->range_count, r->ranges, r->range_count)
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

/* One request for each run of adjacent ranges: their content is adjacent in plain too. */
static void submit_writes(struct apply *a, struct apply_slot *slot)
{
	unsigned n = 0;
	size_t at = 0;
	for (unsigned i = 0; i < slot->range_count; n++) {
		const struct sosie_range *first = &slot->ranges[i];
		struct image *im = &a->set->images[first->volume];
		uint64_t end = first->leaf, bytes = 0;
		for (; i < slot->range_count && slot->ranges[i].volume == first->volume &&
		       slot->ranges[i].leaf == end;
		     i++) {
			bytes += sosie_range_bytes(&slot->ranges[i], im->size);
			end += slot->ranges[i].leaves;
		}
		slot->reqs[n].slot = slot;
		slot->reqs[n].req = (struct sosie_req){.op = SOSIE_OP_WRITE,
		                                       .file = im->file,
		                                       .buf = slot->plain + at,
		                                       .len = (size_t)bytes,
		                                       .offset = first->leaf * SOSIE_LEAF,
		                                       .done = write_done};
		im->dirty = true;
		at += (size_t)bytes;
		a->set->applied += bytes;
		slot->pending++;
		sosie_io_submit(a->set->store->io, &slot->reqs[n].req);
	}
}

static int apply_data(struct apply *a, const struct sosie_record *r, const uint8_t *payload,
                      struct sosie_err *err)
{
	unsigned leaf_count = 0;
	struct apply_slot *slot = free_slot(a, err);
	if (!slot)
		return err && err->code ? -(int)err->code : -SOSIE_EIO;
	int rc = bad(a, sosie_decode(a->decoder, r, payload, a->pool->volumes, slot->plain, a->pool->leaves,
	                             &leaf_count, err));
	if (!rc)
		rc = wait_overlapping(a, r, err);
	if (!rc)
		rc = put_leaves(a, r, a->pool->leaves, err);
	if (rc)
		return rc;
	slot->range_count = r->range_count;
	memcpy(slot->ranges, r->ranges, r->range_count * sizeof(*r->ranges));
	submit_writes(a, slot);
	return 0;
}

static int apply_zero(struct apply *a, const struct sosie_record *r, const uint8_t *payload,
                      struct sosie_err *err)
{
	unsigned none = 0;
	int rc = bad(
	        a, sosie_decode(a->decoder, r, payload, a->pool->volumes, NULL, a->pool->leaves, &none, err));
	if (!rc)
		rc = wait_overlapping(a, r, err);
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

static int apply_attachment(struct apply *a, const struct sosie_record *r, const uint8_t *payload,
                            struct sosie_err *err)
{
	unsigned none = 0;
	struct apply_slot *slot = free_slot(a, err);
	if (!slot)
		return err && err->code ? -(int)err->code : -SOSIE_EIO;
	int rc = sosie_decode(a->decoder, r, payload, a->pool->volumes, slot->plain, a->pool->leaves, &none,
	                      err);
	if (!rc)
		rc = take_attachment(&a->attachments, slot->plain, r->plain_len, err);
	return bad(a, rc);
}

static int apply_record(struct apply *a, const uint8_t *bytes, struct sosie_err *err)
{
	struct sosie_record *r = &a->pool->record;
	uint32_t ranges_len, payload_len;
	int rc = bad(a, sosie_record_lengths(bytes, &ranges_len, &payload_len, err));
	const size_t head = rc ? 0 : SOSIE_RECORD_HEADER + (size_t)ranges_len;
	if (!rc)
		rc = bad(a, sosie_record_parse(bytes, head, a->pool->volumes, a->set->count, r, err));
	if (rc)
		return rc;
	const uint8_t *payload = bytes + head;
	switch (r->kind) {
	case SOSIE_RECORD_DATA:
		return apply_data(a, r, payload, err);
	case SOSIE_RECORD_ZERO:
	case SOSIE_RECORD_DISCARD:
		return apply_zero(a, r, payload, err);
	case SOSIE_RECORD_ATTACHMENT:
		return apply_attachment(a, r, payload, err);
	case SOSIE_RECORD_PATCH:
	case SOSIE_RECORD_DELTA:
		break;
	}
	return bad(a,
	           sosie_err_set(err, SOSIE_EUNSUPPORTED,
	                         "a record is of kind %d, which this release does not know", (int)r->kind));
}

static int apply_records(struct apply *a, struct part_stream *s, unsigned part, struct sosie_err *err)
{
	const struct sosie_manifest_part *want = &a->m->parts[part];
	struct sosie_digest chain;
	uint64_t records = 0;
	sosie_part_start(a->hash, &a->set->group_ctx, part, &chain);
	for (;;) {
		const uint8_t *bytes;
		size_t len;
		if (a->stop && a->stop(a->arg))
			return sosie_err_set(err, SOSIE_EBUSY,
			                     "stopped because another process waits for the group");
		int rc = bad(a, stream_record(s, &bytes, &len, err));
		if (rc)
			return rc;
		if (len == 0)
			break;
		sosie_part_link(a->hash, bytes, len, &chain);
		rc = apply_record(a, bytes, err);
		if (rc)
			return rc;
		records++;
		stream_skip(s, len);
		sosie_progress(a->progress, "applying", a->read + s->at, a->total);
	}
	if (records != want->records || !sosie_digest_equal(&chain, &want->digest))
		return bad(
		        a,
		        sosie_err_set(
		                err, SOSIE_ECORRUPT,
		                "the part does not have the digest and number of records of its manifest"));
	return 0;
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
	for (unsigned i = 0; i < APPLY_SLOTS; i++)
		a->pool->slots[i].sys = 0;
	for (unsigned i = 0; i < set->count; i++)
		a->pool->volumes[i] =
		        (struct sosie_extent_volume){.ctx = set->images[i].ctx, .size = set->images[i].size};
	for (unsigned i = 0; i < a->m->part_count; i++)
		a->total += a->m->parts[i].length;
	return sosie_decoder_new(&set->group_ctx, &a->decoder, err);
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
	rc = rc ? rc : drained;
	sosie_decoder_free(a.decoder);
	sosie_hash_free(a.hash);
	sosie_hash_free(a.attachments.hash);
	if (rc && err)
		*err = mine;
	return rc;
}

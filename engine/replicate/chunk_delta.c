/* SPDX-License-Identifier: MIT */
/*
 * Deltas for a source without views (scan): signatures of what was sent, kept in NAME.signatures, give what a
 * base view would give. A signature counts only for the digests that the tree has of the chunk at this very
 * place in the segment (signatures.h), so a delta's basis is what the standby has.
 *
 * Signatures that cannot be read or written are no error: without one the leaves are sent as they are.
 *
 * A chunk gets its first signature when it is first changed after the first copy: making one costs 3 ms, and
 * doing that for a whole first copy (3 s a GiB) would make it several times as long for chunks of which most
 * never change.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/replicate/pass.h"
#include "engine/replicate/signatures.h"
#include "sosie/log.h"

struct chunk_delta {
	struct sosie_replicator *r;
	struct rdiff *rdiff; /* the replicator's, of this worker */
	struct sosie_hash *hash;
	struct sosie_digest digests[SOSIE_FANOUT];
	uint8_t sig[RDIFF_SIGNATURE_MAX];
	size_t sig_len;
	uint8_t *delta;  /* SOSIE_CHUNK */
	uint8_t *region; /* SOSIE_CHUNK: read again where not all of a chunk was read */
};

int chunk_delta_new(struct sosie_replicator *r, unsigned worker, struct chunk_delta **out,
                    struct sosie_err *err)
{
	struct chunk_delta *d = calloc(1, sizeof(*d));
	int rc;

	*out = d;
	if (d) {
		d->r = r;
		d->hash = sosie_hash_new();
		d->delta = malloc(SOSIE_CHUNK);
		d->region = aligned_alloc(SOSIE_LEAF, SOSIE_CHUNK);
	}
	if (!d || !d->hash || !d->delta || !d->region)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for deltas");
	rc = r->rdiffs[worker] ? 0 : rdiff_new(&r->rdiffs[worker], err);
	d->rdiff = r->rdiffs[worker];
	return rc;
}

void chunk_delta_free(struct chunk_delta *d)
{
	if (!d)
		return;
	if (d->rdiff)
		rdiff_idle(d->rdiff);
	sosie_hash_free(d->hash);
	free(d->delta);
	free(d->region);
	free(d);
}

bool chunk_delta_serves(const struct sosie_replicator *r, const struct chunk_leaves *c)
{
	return !r->volumes[c->volume].base_path && r->view_id.s[0] == '\0' &&
	       !sosie_all_zero(c->old, sizeof(c->old));
}

static size_t region_len(const struct volume *v, uint64_t chunk)
{
	uint64_t left = v->size - chunk * SOSIE_CHUNK;

	return left < SOSIE_CHUNK ? (size_t)left : SOSIE_CHUNK;
}

/* Opened when first needed; closed with the tree. r->lock is held. */
static int open_signatures(struct sosie_replicator *r, struct volume *v, struct sosie_err *err)
{
	char path[STATE_FILE_MAX];

	if (v->signatures)
		return 0;
	state_file(&r->dir, path, v->given->name.s, ".signatures");
	return signatures_open(r->dir.io, path, &v->ctx, &v->signatures, err);
}

/* Signatures that cannot be used cost bytes, not the cycle. r->lock is held. */
static int do_without(struct sosie_replicator *r, struct volume *v, int rc, struct sosie_err *why,
                      struct sosie_err *err)
{
	if (rc == -SOSIE_ENOMEM) {
		if (err)
			*err = *why;
		return rc;
	}
	if (!v->signatures_told) {
		sosie_err_wrap(why, "%s/%s: signatures of volume %s: changes go without deltas", r->o.tenant,
		               r->o.group, v->given->name.s);
		sosie_log_err(SOSIE_LOG_WARNING, why);
	}
	v->signatures_told = true;
	return 0;
}

int chunk_delta_find(struct chunk_delta *d, const struct chunk_leaves *c, bool *found, struct sosie_err *err)
{
	struct volume *v = &d->r->volumes[c->volume];
	struct sosie_err why = {0};
	int rc;

	d->sig_len = 0;
	pthread_mutex_lock(&d->r->lock);
	rc = open_signatures(d->r, v, &why);
	if (rc == 0)
		rc = signatures_get(v->signatures, c->chunk, c->old, region_len(v, c->chunk), d->sig,
		                    &d->sig_len, &why);
	if (rc != 0) {
		d->sig_len = 0;
		rc = do_without(d->r, v, rc, &why, err);
	}
	pthread_mutex_unlock(&d->r->lock);
	*found = d->sig_len > 0;
	return rc;
}

int chunk_delta_make(struct chunk_delta *d, const void *plain, size_t plain_len, const void **delta,
                     size_t *len, struct sosie_err *err)
{
	*delta = d->delta;
	return rdiff_delta(d->rdiff, d->sig, d->sig_len, plain, plain_len, d->delta, SOSIE_CHUNK, len, err);
}

/* The whole chunk and its digests: from what was read, or read again. A source that is not held still may
 * show another content then: it has other digests than the tree will have, and so the signature never
 * counts. */
static int get_region(struct chunk_delta *d, const struct chunk_leaves *c, struct sosie_io *io,
                      struct sosie_file *file, const uint8_t **region, struct sosie_err *err)
{
	const struct volume *v = &d->r->volumes[c->volume];
	size_t len = region_len(v, c->chunk), want = (len + SOSIE_LEAF - 1) / SOSIE_LEAF * SOSIE_LEAF, got;
	int rc;

	*region = c->bytes[0];
	memset(d->digests, 0, sizeof(d->digests));
	if (c->read == c->count) { /* then it was one read */
		memcpy(d->digests, c->fresh, c->count * sizeof(d->digests[0]));
		return 0;
	}
	*region = NULL;
	rate_wait(d->r, want);
	rc = sosie_io_pread(io, file, d->region, want, c->chunk * SOSIE_CHUNK, &got, err);
	if (rc != 0 || got < len)
		return rc;
	pthread_mutex_lock(&d->r->lock);
	d->r->result->read_bytes += len;
	pthread_mutex_unlock(&d->r->lock);
	for (unsigned i = 0; i < c->count; i++) {
		uint64_t leaf = c->chunk * SOSIE_FANOUT + i;

		sosie_digest_leaf(d->hash, &v->ctx, leaf, d->region + (size_t)i * SOSIE_LEAF,
		                  leaf_bytes(v, leaf), &d->digests[i]);
	}
	*region = d->region;
	return 0;
}

int chunk_delta_sign(struct chunk_delta *d, const struct chunk_leaves *c, struct sosie_io *io,
                     struct sosie_file *file, struct sosie_err *err)
{
	struct volume *v = &d->r->volumes[c->volume];
	struct sosie_err why = {0};
	const uint8_t *region;
	size_t len = region_len(v, c->chunk);
	int rc = get_region(d, c, io, file, &region, err);

	d->sig_len = 0;
	if (rc == 0 && region)
		rc = rdiff_signature(d->rdiff, region, len, d->sig, &d->sig_len, err);
	if (rc != 0 || d->sig_len == 0)
		return rc;
	pthread_mutex_lock(&d->r->lock);
	rc = open_signatures(d->r, v, &why);
	if (rc == 0)
		rc = signatures_put(v->signatures, c->chunk, d->digests, len, d->sig, d->sig_len, &why);
	if (rc != 0)
		rc = do_without(d->r, v, rc, &why, err);
	pthread_mutex_unlock(&d->r->lock);
	return rc;
}

/* SPDX-License-Identifier: MIT */
/*
 * The content of before, read from the base view for patches: all ranges of a pack at once, directly, on the
 * read budget like the new content. It is taken only when its digests are those of the tree, so a patch is
 * never made against anything but what the standby has, whatever a driver says the base view is. What cannot
 * be read is no error: the leaves are sent as they are.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/replicate/pass.h"
#include "sosie/log.h"

struct fetch {
	struct sosie_req req;
	struct old *old;
};

struct old {
	struct sosie_replicator *r;
	struct sosie_io *io;
	struct sosie_hash *hash;
	struct sosie_file *file; /* base of volume `volume`; NULL: none */
	unsigned volume;
	bool told;        /* that it cannot be read */
	unsigned pending; /* reads under way */
	struct fetch fetches[SOSIE_RECORD_RANGES_MAX];
	uint8_t *buf; /* SOSIE_RECORD_PLAIN_MAX */
};

int old_new(struct sosie_replicator *r, struct sosie_io *io, struct old **out, struct sosie_err *err)
{
	struct old *o = calloc(1, sizeof(*o));

	*out = o;
	if (o) {
		o->r = r;
		o->io = io;
		o->hash = sosie_hash_new();
		o->buf = aligned_alloc(SOSIE_LEAF, SOSIE_RECORD_PLAIN_MAX);
	}
	return o && o->hash && o->buf ? 0 : sosie_err_set(err, SOSIE_ENOMEM, "no memory for patches");
}

void old_free(struct old *o)
{
	if (!o)
		return;
	/* After a ring that failed: what still is under way writes into buf. */
	while (o->pending > 0 && sosie_io_reap(o->io, 1, NULL) >= 0)
		;
	if (o->file)
		sosie_io_close(o->io, o->file, NULL);
	sosie_hash_free(o->hash);
	free(o->buf);
	free(o);
}

static void tell(struct old *o, const struct sosie_err *err)
{
	if (!o->told)
		sosie_log_err(SOSIE_LOG_WARNING, err);
	o->told = true;
}

static int open_base(struct old *o, unsigned volume, struct sosie_err *err)
{
	int rc;

	if (o->file && o->volume == volume)
		return 0;
	if (o->file)
		sosie_io_close(o->io, o->file, NULL);
	o->volume = volume;
	rc = sosie_io_openat(o->io, o->r->volumes[volume].base_path,
	                     SOSIE_READ | SOSIE_DIRECT | SOSIE_DEVICE | SOSIE_FOLLOW, 0, &o->file, err);
	if (rc != 0)
		o->file = NULL;
	return rc == 0 ? 0
	               : sosie_err_wrap(err, "what volume %s held before",
	                                o->r->volumes[volume].given->name.s);
}

static void fetched(struct sosie_req *req)
{
	((struct fetch *)req)->old->pending--;
}

static void submit(struct old *o, const struct sosie_range *ranges, unsigned count)
{
	size_t used = 0;

	o->pending = count;
	for (unsigned i = 0; i < count; i++) {
		size_t len = (size_t)ranges[i].leaves * SOSIE_LEAF;

		o->fetches[i] = (struct fetch){.req = {.op = SOSIE_OP_READ,
		                                       .file = o->file,
		                                       .buf = o->buf + used,
		                                       .len = len,
		                                       .offset = ranges[i].leaf * SOSIE_LEAF,
		                                       .done = fetched},
		                               .old = o};
		sosie_io_submit(o->io, &o->fetches[i].req);
		used += len;
	}
}

/* An error only where the ring fails; *why tells of a base that cannot be read. */
static int read_ranges(struct old *o, const struct sosie_range *ranges, unsigned count, struct sosie_err *why,
                       struct sosie_err *err)
{
	uint64_t bytes = 0;
	int rc = 0;

	for (unsigned i = 0; i < count; i++)
		bytes += (uint64_t)ranges[i].leaves * SOSIE_LEAF;
	rate_wait(o->r, bytes);
	submit(o, ranges, count);
	while (o->pending > 0 && rc >= 0)
		rc = sosie_io_reap(o->io, 1, err);
	if (rc < 0)
		return rc;
	pthread_mutex_lock(&o->r->lock);
	o->r->result->read_bytes += bytes;
	pthread_mutex_unlock(&o->r->lock);
	for (unsigned i = 0; i < count && why->code == SOSIE_OK; i++) {
		struct sosie_req *req = &o->fetches[i].req;

		if (req->sys != 0)
			sosie_err_sys(why, req->sys, "%s cannot be read at byte %llu",
			              o->r->volumes[o->volume].base_path, (unsigned long long)req->offset);
		else
			memset((uint8_t *)req->buf + req->got, 0, req->len - req->got);
	}
	return 0;
}

/* Digests as they were made: of a leaf as long as it was then. */
static bool is_as_digested(struct old *o, const struct sosie_range *ranges, unsigned count,
                           const struct sosie_digest *digests)
{
	const struct volume *v = &o->r->volumes[o->volume];
	const uint8_t *at = o->buf;

	for (unsigned i = 0; i < count; i++)
		for (uint64_t leaf = ranges[i].leaf; leaf < ranges[i].leaf + ranges[i].leaves; leaf++) {
			uint64_t start = leaf * SOSIE_LEAF, left = v->base_size - start;
			struct sosie_digest d;

			if (start >= v->base_size)
				return false;
			sosie_digest_leaf(o->hash, &v->ctx, leaf, at,
			                  left < SOSIE_LEAF ? (size_t)left : SOSIE_LEAF, &d);
			if (!sosie_digest_equal(&d, digests++))
				return false;
			at += SOSIE_LEAF;
		}
	return true;
}

int old_fetch(struct old *o, const struct sosie_range *ranges, unsigned count,
              const struct sosie_digest *digests, const void **bytes, struct sosie_err *err)
{
	struct sosie_err why = {0};
	int rc = 0;

	*bytes = NULL;
	if (open_base(o, ranges[0].volume, &why) == 0)
		rc = read_ranges(o, ranges, count, &why, err);
	if (rc == 0 && stop_asked(o->r))
		rc = stop_error(err);
	if (rc != 0)
		return rc;
	if (why.code != SOSIE_OK)
		tell(o, &why);
	else if (is_as_digested(o, ranges, count, digests))
		*bytes = o->buf;
	return 0;
}

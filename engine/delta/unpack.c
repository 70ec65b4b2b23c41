/* SPDX-License-Identifier: MIT */
/* Payloads become content (docs/format.md, "Segment"): as they are, by zstd, by our reader of deltas. */
#include <stdlib.h>
#include <string.h>

#include "engine/delta/rdiff.h"
#include "engine/delta/record.h"
#include "engine/delta/unpack.h"
#include "engine/delta/zstd.h"

struct unpacker {
	struct zstd_unpacker *zstd;
	uint8_t *delta; /* SOSIE_RECORD_PLAIN_MAX: a delta that came packed */
};

int unpacker_new(struct unpacker **out, struct sosie_err *err)
{
	struct unpacker *u = calloc(1, sizeof(*u));
	int rc;

	*out = NULL;
	if (u)
		u->delta = malloc(SOSIE_RECORD_PLAIN_MAX); /* costs nothing until there is such a delta */
	if (!u || !u->delta) {
		free(u);
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for a decoder");
	}
	rc = zstd_unpacker_new(&u->zstd, err);
	if (rc != 0) {
		unpacker_free(u);
		return rc;
	}
	*out = u;
	return 0;
}

void unpacker_free(struct unpacker *u)
{
	if (!u)
		return;
	zstd_unpacker_free(u->zstd);
	free(u->delta);
	free(u);
}

bool record_is_packed(const struct sosie_record *r)
{
	return r->kind == SOSIE_RECORD_PATCH || r->kind == SOSIE_RECORD_DELTA ||
	       (r->kind == SOSIE_RECORD_DATA && r->encoding != RECORD_RAW);
}

static int impossible(struct sosie_err *err, const char *what)
{
	return sosie_err_set(err, SOSIE_ECORRUPT, "record of an impossible %s", what);
}

static int unpack_data(struct unpacker *u, const struct packed *p, void *plain, struct sosie_err *err)
{
	if (p->encoding == RECORD_ZSTD)
		return zstd_unpack(u->zstd, p->payload, p->payload_len, plain, p->plain_len, err);
	if (p->encoding != RECORD_RAW || p->payload_len != p->plain_len)
		return impossible(err, "encoding");
	memcpy(plain, p->payload, p->plain_len);
	return 0;
}

static int unpack_patch(struct unpacker *u, const struct packed *p, void *plain, struct sosie_err *err)
{
	if (p->encoding != RECORD_ZSTD || p->basis_len != p->plain_len)
		return impossible(err, "encoding");
	return zstd_unpack_patch(u->zstd, p->payload, p->payload_len, p->basis, plain, p->plain_len, err);
}

static int unpack_delta(struct unpacker *u, const struct packed *p, void *plain, struct sosie_err *err)
{
	const void *delta = p->payload;
	size_t len = p->payload_len;
	int rc = 0;

	if (p->encoding == RECORD_ZSTD) {
		rc = zstd_unpack_upto(u->zstd, p->payload, len, u->delta, SOSIE_RECORD_PLAIN_MAX, &len, err);
		delta = u->delta;
	} else if (p->encoding != RECORD_RAW) {
		rc = impossible(err, "encoding");
	}
	return rc ? rc : rdiff_apply(delta, len, p->basis, p->basis_len, plain, p->plain_len, err);
}

int unpacker_run(struct unpacker *u, const struct packed *p, void *plain, struct sosie_err *err)
{
	if (p->plain_len == 0 || p->plain_len > SOSIE_RECORD_PLAIN_MAX)
		return impossible(err, "length");
	if (p->kind == SOSIE_RECORD_DATA || p->kind == SOSIE_RECORD_ATTACHMENT)
		return unpack_data(u, p, plain, err);
	if (!p->basis)
		return sosie_err_set(err, SOSIE_EINTERNAL, "a patch or delta is decoded without its basis");
	if (p->kind == SOSIE_RECORD_PATCH)
		return unpack_patch(u, p, plain, err);
	if (p->kind == SOSIE_RECORD_DELTA)
		return unpack_delta(u, p, plain, err);
	return impossible(err, "kind");
}

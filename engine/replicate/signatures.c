/* SPDX-License-Identifier: MIT */
/*
 * The file of signatures. Header, 4096 bytes:
 *   0   8  magic "SOSISIGS"      8  u32 version 1       12  u32 block length     16  u32 strong length
 *   20  4  u32 chunk length     24  u32 slot length     28  u32 zero             32  32 volume context
 *   64     zeros to 4096
 * Then a slot for each chunk, of a fixed length that is a multiple of 4096:
 *   0  16  sum: start of a SHA-256 (domain, volume context, chunk) over the rest of the slot in use
 *   16 16  content: start of a SHA-256 (domain) over the region's length and its 256 leaf digests
 *   32  4  region length        36  4  signature length        40  the signature
 *
 * Nothing is ever flushed, and no call moves more than one slot. A slot that is torn, of another chunk, of
 * another volume or of other content fails its sums: there is no signature then, and that is all that can
 * happen. Little endian, like every format here.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "engine/replicate/signatures.h"
#include "sosie/bytes.h"
#include "sosie/segment.h"
#include "sosie/tree.h"

#define MAGIC "SOSISIGS"
#define VERSION 1u
#define HEADER 4096u
#define SLOT_HEADER 40u
#define SUM 16u
#define SLOT ((SLOT_HEADER + RDIFF_SIGNATURE_MAX + 4095u) / 4096u * 4096u)
#define CHUNKS_MAX (SOSIE_VOLUME_MAX / SOSIE_CHUNK)

static_assert(CHUNKS_MAX <= (INT64_MAX - HEADER) / SLOT, "every slot has a place in a file");

struct signatures {
	struct sosie_io *io;     /* borrowed */
	struct sosie_file *file; /* owned */
	struct sosie_hash *hash;
	struct sosie_digest ctx;
	uint8_t slot[SLOT]; /* of the call under way */
};

static uint64_t slot_offset(uint64_t chunk)
{
	return HEADER + chunk * SLOT;
}

/* --- opening
 * ---------------------------------------------------------------------------------------------------- */

static void make_header(const struct signatures *s, uint8_t header[HEADER])
{
	struct sosie_writer w;

	memset(header, 0, HEADER);
	sosie_writer_init(&w, header, HEADER);
	sosie_put_bytes(&w, MAGIC, 8);
	sosie_put_u32(&w, VERSION);
	sosie_put_u32(&w, RDIFF_BLOCK);
	sosie_put_u32(&w, RDIFF_STRONG);
	sosie_put_u32(&w, SOSIE_CHUNK);
	sosie_put_u32(&w, SLOT);
	sosie_put_u32(&w, 0);
	sosie_put_bytes(&w, s->ctx.b, sizeof(s->ctx.b));
	assert(!w.failed && w.len == 64);
}

/* A file with any other first bytes, or that cannot be read, becomes an empty one. */
static int take_or_replace(struct signatures *s, struct sosie_err *err)
{
	uint8_t wanted[HEADER], found[HEADER];
	size_t got = 0;
	int rc;

	make_header(s, wanted);
	if (sosie_io_pread(s->io, s->file, found, HEADER, 0, &got, err) == 0 && got == HEADER &&
	    memcmp(found, wanted, HEADER) == 0)
		return 0;
	rc = sosie_io_truncate(s->io, s->file, 0, err);
	if (rc == 0)
		rc = sosie_io_pwrite(s->io, s->file, wanted, HEADER, 0, err);
	return rc;
}

int signatures_open(struct sosie_io *io, const char *path, const struct sosie_digest *volume_ctx,
                    struct signatures **out, struct sosie_err *err)
{
	struct signatures *s = calloc(1, sizeof(*s));
	int rc = 0;

	*out = NULL;
	if (s)
		s->hash = sosie_hash_new();
	if (!s || !s->hash)
		rc = sosie_err_set(err, SOSIE_ENOMEM, "no memory for the signatures of a volume");
	if (rc == 0) {
		s->io = io;
		s->ctx = *volume_ctx;
		rc = sosie_io_openat(io, path, SOSIE_READ | SOSIE_WRITE | SOSIE_CREATE, 0600, &s->file, err);
	}
	if (rc == 0)
		rc = take_or_replace(s, err);
	if (rc != 0) {
		signatures_close(s);
		return rc;
	}
	*out = s;
	return 0;
}

/* What the system says to the close does not matter: nothing here must last. */
void signatures_close(struct signatures *s)
{
	if (!s)
		return;
	if (s->file)
		sosie_io_close(s->io, s->file, NULL);
	sosie_hash_free(s->hash);
	free(s);
}

/* --- slots
 * ------------------------------------------------------------------------------------------------------ */

static void content_sum(struct signatures *s, const struct sosie_digest block[SOSIE_FANOUT],
                        size_t region_len, uint8_t out[SUM])
{
	struct sosie_digest d;

	sosie_hash_start(s->hash, "sosie sigof v1");
	sosie_hash_add_u64(s->hash, region_len);
	sosie_hash_add(s->hash, block, SOSIE_FANOUT * sizeof(block[0]));
	sosie_hash_end(s->hash, &d);
	memcpy(out, d.b, SUM);
}

/* Over the slot's first len bytes, but the sum itself. */
static void slot_sum(struct signatures *s, uint64_t chunk, size_t len, uint8_t out[SUM])
{
	struct sosie_digest d;

	sosie_hash_start(s->hash, "sosie slot v1");
	sosie_hash_add(s->hash, s->ctx.b, sizeof(s->ctx.b));
	sosie_hash_add_u64(s->hash, chunk);
	sosie_hash_add(s->hash, s->slot + SUM, len - SUM);
	sosie_hash_end(s->hash, &d);
	memcpy(out, d.b, SUM);
}

/* Bytes of a signature of a region; 0 when there is none of such a length. */
static size_t signature_len(size_t region_len)
{
	if (region_len == 0 || region_len > SOSIE_CHUNK)
		return 0;
	return RDIFF_SIGNATURE_MAX -
	       (SOSIE_CHUNK / RDIFF_BLOCK - (region_len + RDIFF_BLOCK - 1) / RDIFF_BLOCK) *
	               (4 + RDIFF_STRONG);
}

int signatures_get(struct signatures *s, uint64_t chunk, const struct sosie_digest block[SOSIE_FANOUT],
                   size_t region_len, uint8_t sig[RDIFF_SIGNATURE_MAX], size_t *len, struct sosie_err *err)
{
	size_t expected = signature_len(region_len), got = 0;
	uint8_t sum[SUM], stored[SUM], content[SUM], wanted[SUM];
	struct sosie_reader r;
	int rc;

	*len = 0;
	if (expected == 0 || chunk >= CHUNKS_MAX)
		return 0;
	rc = sosie_io_pread(s->io, s->file, s->slot, SLOT_HEADER + expected, slot_offset(chunk), &got, err);
	if (rc != 0 || got != SLOT_HEADER + expected)
		return rc;
	sosie_reader_init(&r, s->slot, SLOT_HEADER);
	sosie_get_bytes(&r, stored, SUM);
	sosie_get_bytes(&r, content, SUM);
	if (sosie_get_u32(&r) != region_len || sosie_get_u32(&r) != expected)
		return 0;
	content_sum(s, block, region_len, wanted);
	if (memcmp(content, wanted, SUM) != 0)
		return 0;
	slot_sum(s, chunk, SLOT_HEADER + expected, sum);
	if (memcmp(sum, stored, SUM) != 0)
		return 0;
	memcpy(sig, s->slot + SLOT_HEADER, expected);
	*len = expected;
	return 0;
}

int signatures_put(struct signatures *s, uint64_t chunk, const struct sosie_digest block[SOSIE_FANOUT],
                   size_t region_len, const uint8_t *sig, size_t len, struct sosie_err *err)
{
	uint8_t content[SUM];
	struct sosie_writer w;

	if (chunk >= CHUNKS_MAX || len == 0 || len != signature_len(region_len))
		return sosie_err_set(err, SOSIE_EINTERNAL, "signature of %zu bytes for a region of %zu", len,
		                     region_len);
	content_sum(s, block, region_len, content);
	sosie_writer_init(&w, s->slot, SLOT);
	sosie_put_bytes(&w, (uint8_t[SUM]){0}, SUM);
	sosie_put_bytes(&w, content, SUM);
	sosie_put_u32(&w, (uint32_t)region_len);
	sosie_put_u32(&w, (uint32_t)len);
	assert(w.len == SLOT_HEADER);
	sosie_put_bytes(&w, sig, len);
	assert(!w.failed);
	slot_sum(s, chunk, w.len, s->slot);
	return sosie_io_pwrite(s->io, s->file, s->slot, w.len, slot_offset(chunk), err);
}

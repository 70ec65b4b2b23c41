/* SPDX-License-Identifier: MIT */
/*
 * A part file read front to back: STREAM_BLOCKS requests of 1 MiB in flight into a ring. Block b of the file
 * stands at ring slot b % STREAM_BLOCKS until the reader has passed its end.
 */
#include <assert.h>
#include <string.h>

#include "engine/store/core.h"

static_assert(SOSIE_RECORD_MAX <= (STREAM_BLOCKS - 1) * STORE_BLOCK,
              "a record fits the ring wherever it begins");

static void block_done(struct sosie_req *req)
{
	((struct stream_block *)req)->busy = false;
}

void stream_start(struct part_stream *s, struct sosie_io *io, struct sosie_file *file, uint64_t length,
                  uint8_t *ring, uint8_t *scratch)
{
	memset(s, 0, sizeof(*s));
	s->io = io;
	s->file = file;
	s->length = length;
	s->ring = ring;
	s->scratch = scratch;
}

static void fill(struct part_stream *s)
{
	uint64_t limit = (s->at / STORE_BLOCK + STREAM_BLOCKS) * STORE_BLOCK;
	while (s->issued < s->length && s->issued < limit) {
		unsigned slot = (unsigned)(s->issued / STORE_BLOCK % STREAM_BLOCKS);
		struct stream_block *b = &s->blocks[slot];
		uint64_t left = s->length - s->issued;
		b->req = (struct sosie_req){.op = SOSIE_OP_READ,
		                            .file = s->file,
		                            .buf = s->ring + (size_t)slot * STORE_BLOCK,
		                            .len = left < STORE_BLOCK ? (size_t)left : STORE_BLOCK,
		                            .offset = s->issued,
		                            .done = block_done};
		b->busy = true;
		s->issued += b->req.len;
		sosie_io_submit(s->io, &b->req);
	}
}

static int await(struct part_stream *s, struct stream_block *b, struct sosie_err *err)
{
	while (b->busy) {
		int n = sosie_io_reap(s->io, 1, err);
		if (n < 0)
			return n;
	}
	if (b->req.sys)
		return sosie_err_sys(err, b->req.sys, "cannot read a part of the journal");
	if (b->req.got < b->req.len)
		return sosie_err_set(err, SOSIE_ECORRUPT,
		                     "a part in the journal is shorter than its manifest says");
	return 0;
}

int stream_need(struct part_stream *s, size_t len, const uint8_t **out, struct sosie_err *err)
{
	if (len > s->length - s->at)
		return sosie_err_set(err, SOSIE_ECORRUPT, "a part ends within a record");
	fill(s);
	uint64_t first = s->at / STORE_BLOCK, last = (s->at + (len ? len - 1 : 0)) / STORE_BLOCK;
	for (uint64_t b = first; b <= last; b++) {
		int rc = await(s, &s->blocks[b % STREAM_BLOCKS], err);
		if (rc)
			return rc;
	}
	size_t ring_at = (size_t)(s->at % ((uint64_t)STREAM_BLOCKS * STORE_BLOCK));
	size_t to_end = (size_t)STREAM_BLOCKS * STORE_BLOCK - ring_at;
	*out = s->ring + ring_at;
	if (len > to_end) {
		memcpy(s->scratch, s->ring + ring_at, to_end);
		memcpy(s->scratch + to_end, s->ring, len - to_end);
		*out = s->scratch;
	}
	return 0;
}

void stream_skip(struct part_stream *s, size_t len)
{
	s->at += len;
}

void stream_stop(struct part_stream *s)
{
	for (unsigned i = 0; i < STREAM_BLOCKS; i++)
		while (s->blocks[i].busy && sosie_io_reap(s->io, 1, NULL) >= 0)
			;
}

int stream_record(struct part_stream *s, const uint8_t **out, size_t *len, struct sosie_err *err)
{
	uint32_t ranges_len, payload_len;
	*len = 0;
	if (s->at == s->length)
		return 0;
	int rc = stream_need(s, SOSIE_RECORD_HEADER, out, err);
	if (!rc)
		rc = sosie_record_lengths(*out, &ranges_len, &payload_len, err);
	if (rc)
		return rc;
	size_t total = SOSIE_RECORD_HEADER + (size_t)ranges_len + payload_len;
	if (total > SOSIE_RECORD_MAX)
		return sosie_err_set(err, SOSIE_ECORRUPT,
		                     "a record of %zu bytes is larger than the %u allowed", total,
		                     SOSIE_RECORD_MAX);
	rc = stream_need(s, total, out, err);
	if (!rc)
		*len = total;
	return rc;
}

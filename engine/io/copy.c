/* SPDX-License-Identifier: MIT */
/*
 * Copies a file: a reflink where there is one, else the bytes, with several requests in flight and holes
 * kept. Each slot reads a piece, then writes it; slots do not wait for each other. After the first failure no
 * piece is begun, and what is in flight is waited for.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/io/file.h"
#include "sosie/digest.h"
#include "sosie/progress.h"

#define SLOTS 8
#define PIECE (1u << 20)

struct copy;

struct slot {
	struct sosie_req req; /* first member: done finds the slot */
	struct copy *copy;
	char *buf;
	bool busy;
};

struct copy {
	struct sosie_io *io;
	struct sosie_file *src, *dst;
	uint64_t size;       /* of src */
	uint64_t start, end; /* what is left of the extent being read */
	uint64_t copied;     /* bytes behind us, holes included */
	bool fresh;          /* dst reads as zeros wherever nothing was written: zeros need no write */
	unsigned busy;
	int rc; /* the first failure */
	struct sosie_err *err;
	struct slot slots[SLOTS];
};

static void fail_sys(struct copy *c, int sys, const char *what, const char *path)
{
	if (c->rc != 0)
		return;
	c->rc = sosie_err_sys(c->err, sys, "cannot %s while copying", what);
	sosie_err_where(c->err, "%s", path);
}

static void slot_rest(struct slot *s)
{
	s->busy = false;
	s->copy->busy--;
}

static void wrote(struct sosie_req *req)
{
	struct slot *s = (struct slot *)req;

	if (req->sys != 0)
		fail_sys(s->copy, req->sys, "write", s->copy->dst->path);
	slot_rest(s);
}

static void have_read(struct sosie_req *req)
{
	struct slot *s = (struct slot *)req;
	struct copy *c = s->copy;

	if (req->sys != 0) {
		fail_sys(c, req->sys, "read", c->src->path);
	} else if (req->got < req->len && c->rc == 0) {
		c->rc = sosie_err_set(c->err, SOSIE_EIO, "file became shorter while it was copied");
		sosie_err_where(c->err, "%s", c->src->path);
	}
	if (c->rc != 0 || (c->fresh && sosie_all_zero(s->buf, req->len))) {
		slot_rest(s);
		return;
	}
	req->op = SOSIE_OP_WRITE;
	req->file = c->dst;
	req->done = wrote;
	sosie_io_submit(c->io, req);
}

/* Goes to the next extent with data; a hole in front of it is made in dst where dst may hold something. */
static void next_extent(struct copy *c)
{
	const uint64_t from = c->end;

	c->rc = sosie_io_next_data(c->io, c->src, from, &c->start, &c->end, c->err);
	if (c->rc != 0)
		return;
	if (c->end > c->size || c->start >= c->size || c->start == c->end)
		c->end = c->size;
	if (c->start > c->size || c->start == c->end)
		c->start = c->size;
	if (!c->fresh && c->start > from)
		c->rc = sosie_io_punch(c->io, c->dst, from, c->start - from, c->err);
}

static struct slot *idle_slot(struct copy *c)
{
	for (unsigned i = 0; i < SLOTS; i++)
		if (!c->slots[i].busy)
			return &c->slots[i];
	return NULL;
}

/* Pieces end at multiples of PIECE, so that direct I/O stays aligned. */
static void begin_piece(struct copy *c, struct slot *s)
{
	const uint64_t room = PIECE - c->start % PIECE, left = c->end - c->start;

	s->req = (struct sosie_req){
	        .op = SOSIE_OP_READ,
	        .file = c->src,
	        .buf = s->buf,
	        .len = (size_t)(left < room ? left : room),
	        .offset = c->start,
	        .done = have_read,
	};
	s->busy = true;
	c->busy++;
	c->start += s->req.len;
	c->copied = c->start;
	sosie_io_submit(c->io, &s->req);
}

static void begin_pieces(struct copy *c)
{
	while (c->rc == 0 && c->busy < SLOTS) {
		if (c->start == c->end && c->end < c->size)
			next_extent(c);
		if (c->rc != 0 || c->start == c->end)
			return;
		begin_piece(c, idle_slot(c));
	}
}

static void pump(struct copy *c, struct sosie_progress *progress)
{
	for (;;) {
		begin_pieces(c);
		if (c->busy == 0 && (c->rc != 0 || c->start == c->size))
			return;
		int n = sosie_io_reap(c->io, c->busy > 0 ? 1 : 0, NULL);
		assert(n >= 0); /* else the kernel keeps our buffers, and there is no way on */
		(void)n;
		sosie_progress(progress, "copying", c->copied, c->size);
	}
}

static int prepare_target(struct copy *c, struct sosie_err *err)
{
	struct sosie_stat st;
	int rc = sosie_io_fstat(c->io, c->dst, &st, err);

	if (rc != 0)
		return rc;
	c->fresh = st.kind == SOSIE_KIND_FILE;
	if (c->fresh) {
		rc = sosie_io_truncate(c->io, c->dst, 0, err);
		return rc != 0 ? rc : sosie_io_truncate(c->io, c->dst, c->size, err);
	}
	if (st.size >= c->size)
		return 0;
	sosie_err_set(err, SOSIE_ENOSPACE, "device of %llu bytes is too small for %llu",
	              (unsigned long long)st.size, (unsigned long long)c->size);
	sosie_err_where(err, "%s", c->dst->path);
	return -SOSIE_ENOSPACE;
}

static int copy_bytes(struct copy *c, struct sosie_progress *progress, struct sosie_err *err)
{
	struct sosie_stat st;
	void *memory = NULL;
	int rc = sosie_io_fstat(c->io, c->src, &st, err);

	if (rc != 0)
		return rc;
	c->size = st.size;
	rc = prepare_target(c, err);
	if (rc != 0)
		return rc;
	if (posix_memalign(&memory, 4096, (size_t)SLOTS * PIECE) != 0)
		return sosie_err_sys(err, ENOMEM, "cannot copy");
	for (unsigned i = 0; i < SLOTS; i++) {
		c->slots[i].copy = c;
		c->slots[i].buf = (char *)memory + (size_t)i * PIECE;
	}
	pump(c, progress);
	free(memory);
	return c->rc;
}

int sosie_io_copy(struct sosie_io *io, struct sosie_file *src, struct sosie_file *dst, bool *cloned,
                  struct sosie_progress *progress, struct sosie_err *err)
{
	struct copy c = {.io = io, .src = src, .dst = dst, .err = err};
	int rc = sosie_io_clone(io, src, dst, err);

	*cloned = rc == 0;
	if (rc != -SOSIE_EUNSUPPORTED)
		return rc;
	sosie_err_clear(err);
	return copy_bytes(&c, progress, err);
}

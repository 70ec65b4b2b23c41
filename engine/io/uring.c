/* SPDX-License-Identifier: MIT */
/*
 * Requests carried by io_uring; everything else is posix. The only file that knows liburing.
 *
 * Invariants: no more than depth requests are in the ring, and its completion queue holds twice that, so it
 * never overflows; what is above waits in queue, in order. A write and an fsync of one file are never in the
 * ring together unless the write was submitted after the fsync (posix_may_start): no links, no drains. A
 * completion is taken off the ring before its callback runs, so callbacks may submit and reap.
 *
 * Waiting never trusts the kernel for ever. Linux 6.18 was seen to leave reads that it had put aside for its
 * worker threads with no such thread alive, so that they never ended (tmpfs, twice in a day of tests);
 * the next request handed to those threads brought them back. So after PATIENCE without a completion one
 * empty request is handed to them, once until it has come back: a slow disk costs one such request.
 */
#include <assert.h>
#include <errno.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/io/posix.h"

#define BATCH 8                  /* prepared entries that are worth a system call of their own */
#define REGION_PART (1ull << 30) /* the kernel's limit for one registered buffer */
#define REGION_PARTS_MAX 64
#define PATIENCE_S 2

struct uring_io {
	struct posix_io base;
	struct sosie_io_ops ops;
	struct io_uring ring;
	unsigned depth;
	unsigned in_ring;      /* prepared or in the kernel, completion not yet taken */
	unsigned prepared;     /* of these, not yet given to the kernel */
	bool kicked;           /* an empty request is under way; its completion carries no request of ours */
	struct req_list queue; /* waiting for a place in the ring */
	uintptr_t region;      /* registered memory, 0 when there is none */
	size_t region_len;
};

static struct uring_io *as_uring(struct sosie_io *io)
{
	return (struct uring_io *)io;
}

/* The registered part that holds all of [at, at + len), or -1. */
static int region_part(const struct uring_io *u, const char *at, size_t len)
{
	const uintptr_t p = (uintptr_t)at;
	size_t from, to;

	if (!u->region || p < u->region || p - u->region >= u->region_len ||
	    len > u->region_len - (p - u->region))
		return -1;
	from = (p - u->region) / REGION_PART;
	to = (p - u->region + len - 1) / REGION_PART;
	return from == to ? (int)from : -1;
}

static void prepare(struct uring_io *u, struct sosie_req *req)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
	const size_t left = req->len - req->moved;
	const unsigned n = left < POSIX_STEP_MAX ? (unsigned)left : POSIX_STEP_MAX;
	char *at = (char *)req->buf + req->moved;
	const uint64_t offset = req->offset + req->moved;
	const int fd = posix_descriptor(req);
	const int part = req->op == SOSIE_OP_FSYNC ? -1 : region_part(u, at, n);

	assert(sqe); /* in_ring < depth, which is at most the queue's size, and prepared entries are counted
	                in it */
	if (req->op == SOSIE_OP_FSYNC)
		io_uring_prep_fsync(sqe, fd, 0);
	else if (req->op == SOSIE_OP_READ && part >= 0)
		io_uring_prep_read_fixed(sqe, fd, at, n, offset, part);
	else if (req->op == SOSIE_OP_READ)
		io_uring_prep_read(sqe, fd, at, n, offset);
	else if (part >= 0)
		io_uring_prep_write_fixed(sqe, fd, at, n, offset, part);
	else
		io_uring_prep_write(sqe, fd, at, n, offset);
	io_uring_sqe_set_data(sqe, req);
	u->in_ring++;
	u->prepared++;
}

static void fill_ring(struct uring_io *u)
{
	while (u->queue.head && u->in_ring < u->depth)
		prepare(u, req_list_pop(&u->queue));
}

/* Wakes the kernel's worker threads by something to do. */
static void kick(struct uring_io *u)
{
	struct io_uring_sqe *sqe = u->kicked || u->prepared > 0 ? NULL : io_uring_get_sqe(&u->ring);

	if (!sqe)
		return;
	io_uring_prep_nop(sqe);
	sqe->flags |= IOSQE_ASYNC;
	io_uring_sqe_set_data(sqe, NULL);
	u->kicked = true;
	(void)io_uring_submit(&u->ring); /* what is refused stays in the ring, and goes with the next */
}

/* Gives the kernel what is prepared, waiting for wait completions. EAGAIN and EBUSY mean that completions
 * must be taken first; what was not taken stays prepared. */
static int give(struct uring_io *u, unsigned wait, struct sosie_err *err)
{
	struct __kernel_timespec patience = {.tv_sec = PATIENCE_S};
	struct io_uring_cqe *cqe;
	int n = wait ? io_uring_submit_and_wait_timeout(&u->ring, &cqe, wait, &patience, NULL)
	             : io_uring_submit(&u->ring);

	u->prepared = io_uring_sq_ready(&u->ring);
	if (n == -ETIME) {
		kick(u);
		return 0;
	}
	if (n >= 0 || n == -EINTR || n == -EAGAIN || n == -EBUSY)
		return 0;
	return sosie_err_sys(err, -n, "io_uring refused to take requests");
}

static void complete(struct uring_io *u, struct sosie_req *req)
{
	posix_release(req, &u->queue);
	req_list_push(&u->base.done, req);
}

/* Takes what has completed: to base.done, or back to the queue when it was not all. Returns how many were
 * taken. */
static unsigned take_completions(struct uring_io *u)
{
	struct io_uring_cqe *cqe;
	unsigned taken = 0;

	while (io_uring_peek_cqe(&u->ring, &cqe) == 0 && cqe) {
		struct sosie_req *req = io_uring_cqe_get_data(cqe);
		long result = cqe->res;

		io_uring_cqe_seen(&u->ring, cqe);
		if (!req) {
			u->kicked = false;
			continue;
		}
		u->in_ring--;
		taken++;
		if (posix_advance(req, result))
			complete(u, req);
		else
			req_list_push(&u->queue, req);
	}
	return taken;
}

static void uring_submit(struct sosie_io *io, struct sosie_req *req)
{
	struct uring_io *u = as_uring(io);

	u->base.in_flight++;
	if (posix_begin(req)) {
		req_list_push(&u->base.done, req);
		return;
	}
	if (!posix_may_start(req))
		return; /* held by its file until posix_release */
	req_list_push(&u->queue, req);
	fill_ring(u);
	if (u->prepared >= BATCH || u->in_ring == u->prepared)
		(void)give(u, 0, NULL); /* what is refused stays prepared: reap tells */
}

static int uring_reap(struct sosie_io *io, unsigned min, struct sosie_err *err)
{
	struct uring_io *u = as_uring(io);
	unsigned count = 0;

	for (;;) {
		unsigned taken = take_completions(u);
		bool enough;
		int rc = 0;

		count += (unsigned)posix_run_done(&u->base, 0);
		fill_ring(u);
		enough = count >= min || u->base.in_flight == 0;
		if (u->prepared > 0 || (!enough && taken == 0 && !u->base.done.head))
			rc = give(u, enough || u->base.done.head ? 0 : 1, err);
		if (rc != 0)
			return rc;
		if (enough)
			return (int)count;
	}
}

static int uring_buffers(struct sosie_io *io, void *base, size_t len, struct sosie_err *err)
{
	struct uring_io *u = as_uring(io);
	struct iovec parts[REGION_PARTS_MAX];
	unsigned count = 0;

	(void)err;
	assert(!u->region);
	for (size_t at = 0; at < len; at += parts[count++].iov_len) {
		if (count == REGION_PARTS_MAX)
			return 0;
		parts[count].iov_base = (char *)base + at;
		parts[count].iov_len = len - at < REGION_PART ? len - at : REGION_PART;
	}
	if (io_uring_register_buffers(&u->ring, parts, count) == 0) {
		u->region = (uintptr_t)base;
		u->region_len = len;
	}
	return 0; /* refused (the limit on locked memory): the requests go the usual way */
}

static void uring_destroy(struct sosie_io *io)
{
	struct uring_io *u = as_uring(io);

	assert(u->base.in_flight == 0 && u->in_ring == 0);
	io_uring_queue_exit(&u->ring);
	free(u);
}

static int check_operations(struct io_uring *ring, struct sosie_err *err)
{
	static const int needed[] = {IORING_OP_READ, IORING_OP_WRITE, IORING_OP_FSYNC, IORING_OP_READ_FIXED,
	                             IORING_OP_WRITE_FIXED};
	struct io_uring_probe *probe = io_uring_get_probe_ring(ring);
	int rc = 0;

	if (!probe)
		return sosie_err_set(err, SOSIE_EUNSUPPORTED, "io_uring does not say what it can do");
	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++)
		if (!io_uring_opcode_supported(probe, needed[i]))
			rc = sosie_err_set(err, SOSIE_EUNSUPPORTED, "io_uring lacks operation %d", needed[i]);
	io_uring_free_probe(probe);
	return rc;
}

int sosie_io_uring(unsigned depth, struct sosie_io **out, struct sosie_err *err)
{
	struct uring_io *u = calloc(1, sizeof(*u));
	int rc;

	assert(depth >= 1 && depth <= 4096);
	if (!u)
		return sosie_err_sys(err, ENOMEM, "cannot start I/O");
	rc = io_uring_queue_init(depth + 1, &u->ring, 0); /* one for kick */
	if (rc != 0) {
		free(u);
		return sosie_err_sys(err, -rc, "io_uring refused");
	}
	rc = check_operations(&u->ring, err);
	if (rc != 0) {
		io_uring_queue_exit(&u->ring);
		free(u);
		return rc;
	}
	u->depth = depth;
	u->ops = posix_ops;
	u->ops.name = "uring";
	u->ops.destroy = uring_destroy;
	u->ops.submit = uring_submit;
	u->ops.reap = uring_reap;
	u->ops.buffers = uring_buffers;
	u->base.io.ops = &u->ops;
	*out = &u->base.io;
	return 0;
}

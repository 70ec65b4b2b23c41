/* SPDX-License-Identifier: MIT */
/*
 * A filter over another back end that makes the n-th call go wrong. For tests.
 *
 * - ERROR: the call is not made and fails with plan->sys (a close is made all the same: the file is gone).
 * - SHORT: a read ends early, as at the end of the file; a write moves its first half and then fails with
 *   plan->sys (ENOSPC when that is 0).
 * - CORRUPT: one bit of what a read or write carries is another one.
 *
 * ERROR counts every call, SHORT and CORRUPT count the requests that they can hit.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/io/file.h"

struct fault_io {
	struct sosie_io io;
	struct sosie_io *next;
	struct sosie_fault_plan *plan;
	struct req_list done; /* hit by an error, never given to next */
};

/* Stands for a request in next, and carries the results back. */
struct carrier {
	struct sosie_req req;
	struct sosie_req *outer;
	void *copy; /* corrupted data of a write, or NULL */
	bool corrupt, fail;
	int sys; /* with fail: what the outer request ends with */
};

static struct fault_io *as_fault(struct sosie_io *io)
{
	return (struct fault_io *)io;
}

static struct sosie_io *next_of(struct sosie_io *io)
{
	return as_fault(io)->next;
}

/* Counts a call that the plan's kind applies to; true when it is hit. */
static bool hit(struct fault_io *f)
{
	const uint64_t number = f->plan->calls++;
	const bool now = number == f->plan->at || (f->plan->onwards && number > f->plan->at);

	f->plan->fired += now;
	return now;
}

static int fails(struct sosie_io *io, const char *call, struct sosie_err *err)
{
	struct fault_io *f = as_fault(io);

	if (f->plan->kind != SOSIE_FAULT_ERROR || !hit(f))
		return 0;
	return sosie_err_sys(err, f->plan->sys, "injected fault in %s", call);
}

#define FORWARD(call, ...)                                                                                   \
	do {                                                                                                 \
		int rc_ = fails(io, #call, err);                                                             \
		return rc_ != 0 ? rc_ : next_of(io)->ops->call(next_of(io), __VA_ARGS__, err);               \
	} while (0)

static int fault_open(struct sosie_io *io, const char *path, unsigned flags, uint32_t mode,
                      struct sosie_file **out, struct sosie_err *err)
{
	FORWARD(open, path, flags, mode, out);
}

static int fault_close(struct sosie_io *io, struct sosie_file *file, struct sosie_err *err)
{
	int rc = fails(io, "close", err);
	int closed = next_of(io)->ops->close(next_of(io), file, rc != 0 ? NULL : err);

	return rc != 0 ? rc : closed;
}

static int fault_fstat(struct sosie_io *io, struct sosie_file *file, struct sosie_stat *out,
                       struct sosie_err *err)
{
	FORWARD(fstat, file, out);
}

static int fault_truncate(struct sosie_io *io, struct sosie_file *file, uint64_t size, struct sosie_err *err)
{
	FORWARD(truncate, file, size);
}

static int fault_punch(struct sosie_io *io, struct sosie_file *file, uint64_t off, uint64_t len,
                       struct sosie_err *err)
{
	FORWARD(punch, file, off, len);
}

static int fault_next_data(struct sosie_io *io, struct sosie_file *file, uint64_t from, uint64_t *start,
                           uint64_t *end, struct sosie_err *err)
{
	FORWARD(next_data, file, from, start, end);
}

static int fault_clone(struct sosie_io *io, struct sosie_file *src, struct sosie_file *dst,
                       struct sosie_err *err)
{
	FORWARD(clone, src, dst);
}

static int fault_lock(struct sosie_io *io, struct sosie_file *file, bool exclusive, struct sosie_err *err)
{
	FORWARD(lock, file, exclusive);
}

static int fault_stat(struct sosie_io *io, const char *path, struct sosie_stat *out, struct sosie_err *err)
{
	FORWARD(stat, path, out);
}

static int fault_mkdir(struct sosie_io *io, const char *path, uint32_t mode, struct sosie_err *err)
{
	FORWARD(mkdir, path, mode);
}

static int fault_rename(struct sosie_io *io, const char *from, const char *to, struct sosie_err *err)
{
	FORWARD(rename, from, to);
}

static int fault_unlink(struct sosie_io *io, const char *path, struct sosie_err *err)
{
	FORWARD(unlink, path);
}

static int fault_rmdir(struct sosie_io *io, const char *path, struct sosie_err *err)
{
	FORWARD(rmdir, path);
}

static int fault_chmod(struct sosie_io *io, const char *path, uint32_t mode, struct sosie_err *err)
{
	FORWARD(chmod, path, mode);
}

static int fault_sync_dir(struct sosie_io *io, const char *path, struct sosie_err *err)
{
	FORWARD(sync_dir, path);
}

static int fault_list(struct sosie_io *io, const char *path, sosie_list_fn fn, void *arg,
                      struct sosie_err *err)
{
	FORWARD(list, path, fn, arg);
}

static int fault_space(struct sosie_io *io, const char *path, uint64_t *available, uint64_t *total,
                       struct sosie_err *err)
{
	FORWARD(space, path, available, total);
}

static int fault_buffers(struct sosie_io *io, void *base, size_t len, struct sosie_err *err)
{
	return next_of(io)->ops->buffers(next_of(io), base, len, err);
}

static void end_at_once(struct fault_io *f, struct sosie_req *req, int sys)
{
	req->sys = sys;
	req->got = 0;
	req_list_push(&f->done, req);
}

static void flip_a_bit(void *data, size_t len)
{
	((unsigned char *)data)[len / 2] ^= 0x10u;
}

static void carried(struct sosie_req *req)
{
	struct carrier *c = (struct carrier *)req;
	struct sosie_req *outer = c->outer;

	outer->sys = c->fail && req->sys == 0 ? c->sys : req->sys;
	outer->got = req->got;
	if (c->corrupt && req->op == SOSIE_OP_READ && req->got > 0)
		flip_a_bit(outer->buf, req->got);
	free(c->copy);
	free(c);
	outer->done(outer);
}

/* Changes what next is asked to do; false when memory is short. */
static bool apply(const struct fault_io *f, struct carrier *c)
{
	struct sosie_req *req = &c->req;

	if (f->plan->kind == SOSIE_FAULT_SHORT) {
		req->len /= 2;
		c->fail = req->op == SOSIE_OP_WRITE;
		c->sys = f->plan->sys ? f->plan->sys : ENOSPC;
		return true;
	}
	c->corrupt = true;
	if (req->op == SOSIE_OP_READ)
		return true;
	if (posix_memalign(&c->copy, 4096, req->len) != 0)
		return false;
	memcpy(c->copy, req->buf, req->len);
	flip_a_bit(c->copy, req->len);
	req->buf = c->copy;
	return true;
}

static void fault_submit(struct sosie_io *io, struct sosie_req *req)
{
	struct fault_io *f = as_fault(io);
	const bool data = req->op != SOSIE_OP_FSYNC && req->len > 0;
	struct carrier *c;

	if (f->plan->kind == SOSIE_FAULT_ERROR && hit(f)) {
		end_at_once(f, req, f->plan->sys);
		return;
	}
	c = calloc(1, sizeof(*c));
	if (!c) {
		end_at_once(f, req, ENOMEM);
		return;
	}
	c->outer = req;
	c->req = *req;
	c->req.done = carried;
	if (data && (f->plan->kind == SOSIE_FAULT_SHORT || f->plan->kind == SOSIE_FAULT_CORRUPT) && hit(f) &&
	    !apply(f, c)) {
		free(c);
		end_at_once(f, req, ENOMEM);
		return;
	}
	f->next->ops->submit(f->next, &c->req);
}

static unsigned run_done(struct fault_io *f)
{
	const struct sosie_req *last = f->done.tail;
	struct sosie_req *req;
	unsigned count = 0;
	bool more = true;

	while (more && (req = req_list_pop(&f->done)) != NULL) {
		more = req != last;
		count++;
		req->done(req);
	}
	return count;
}

static int fault_reap(struct sosie_io *io, unsigned min, struct sosie_err *err)
{
	struct fault_io *f = as_fault(io);
	unsigned count = 0;

	for (;;) {
		unsigned before = count;
		int n;

		count += run_done(f);
		n = f->next->ops->reap(f->next, count < min && !f->done.head ? min - count : 0, err);
		if (n < 0)
			return n;
		count += (unsigned)n;
		if (count >= min || (count == before && !f->done.head))
			return (int)count;
	}
}

static void fault_destroy(struct sosie_io *io)
{
	assert(!as_fault(io)->done.head);
	free(io);
}

static const struct sosie_io_ops fault_ops = {
        .name = "fault",
        .destroy = fault_destroy,
        .open = fault_open,
        .close = fault_close,
        .fstat = fault_fstat,
        .truncate = fault_truncate,
        .punch = fault_punch,
        .next_data = fault_next_data,
        .clone = fault_clone,
        .lock = fault_lock,
        .stat = fault_stat,
        .mkdir = fault_mkdir,
        .rename = fault_rename,
        .unlink = fault_unlink,
        .rmdir = fault_rmdir,
        .chmod = fault_chmod,
        .sync_dir = fault_sync_dir,
        .list = fault_list,
        .space = fault_space,
        .buffers = fault_buffers,
        .submit = fault_submit,
        .reap = fault_reap,
};

int sosie_io_fault(struct sosie_io *next, struct sosie_fault_plan *plan, struct sosie_io **out,
                   struct sosie_err *err)
{
	struct fault_io *f = calloc(1, sizeof(*f));

	if (!f)
		return sosie_err_sys(err, ENOMEM, "cannot start I/O");
	f->io.ops = &fault_ops;
	f->next = next;
	f->plan = plan;
	*out = &f->io;
	return 0;
}

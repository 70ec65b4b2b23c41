/* SPDX-License-Identifier: MIT */
/*
 * The filter of stop.h: hands everything through, except that after the wish to stop a read or write is not
 * begun but completed with ECANCELED at the next reap (never from submit, as io.h demands).
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "tools/common/stop.h"

struct stop_filter {
	struct sosie_io io;
	struct sosie_io *next;
	struct sosie_req *refused; /* waiting for reap, newest first */
};

static struct stop_filter *filter_of(struct sosie_io *io)
{
	return (struct stop_filter *)io; /* io is the first member */
}

static const struct sosie_io_ops *next_ops(struct sosie_io *io)
{
	return filter_of(io)->next->ops;
}

#define NEXT(io) (filter_of(io)->next)

static void pass_destroy(struct sosie_io *io)
{
	assert(!filter_of(io)->refused);
	free(filter_of(io));
}

static int pass_open(struct sosie_io *io, const char *path, unsigned flags, uint32_t mode,
                     struct sosie_file **out, struct sosie_err *err)
{
	return next_ops(io)->open(NEXT(io), path, flags, mode, out, err);
}

static int pass_close(struct sosie_io *io, struct sosie_file *file, struct sosie_err *err)
{
	return next_ops(io)->close(NEXT(io), file, err);
}

static int pass_fstat(struct sosie_io *io, struct sosie_file *file, struct sosie_stat *out,
                      struct sosie_err *err)
{
	return next_ops(io)->fstat(NEXT(io), file, out, err);
}

static int pass_truncate(struct sosie_io *io, struct sosie_file *file, uint64_t size, struct sosie_err *err)
{
	return next_ops(io)->truncate(NEXT(io), file, size, err);
}

static int pass_punch(struct sosie_io *io, struct sosie_file *file, uint64_t off, uint64_t len,
                      struct sosie_err *err)
{
	return next_ops(io)->punch(NEXT(io), file, off, len, err);
}

static int pass_next_data(struct sosie_io *io, struct sosie_file *file, uint64_t from, uint64_t *start,
                          uint64_t *end, struct sosie_err *err)
{
	return next_ops(io)->next_data(NEXT(io), file, from, start, end, err);
}

static int pass_clone(struct sosie_io *io, struct sosie_file *src, struct sosie_file *dst,
                      struct sosie_err *err)
{
	return next_ops(io)->clone(NEXT(io), src, dst, err);
}

static int pass_lock(struct sosie_io *io, struct sosie_file *file, bool exclusive, struct sosie_err *err)
{
	return next_ops(io)->lock(NEXT(io), file, exclusive, err);
}

static int pass_stat(struct sosie_io *io, const char *path, struct sosie_stat *out, struct sosie_err *err)
{
	return next_ops(io)->stat(NEXT(io), path, out, err);
}

static int pass_mkdir(struct sosie_io *io, const char *path, uint32_t mode, struct sosie_err *err)
{
	return next_ops(io)->mkdir(NEXT(io), path, mode, err);
}

static int pass_rename(struct sosie_io *io, const char *from, const char *to, struct sosie_err *err)
{
	return next_ops(io)->rename(NEXT(io), from, to, err);
}

static int pass_unlink(struct sosie_io *io, const char *path, struct sosie_err *err)
{
	return next_ops(io)->unlink(NEXT(io), path, err);
}

static int pass_rmdir(struct sosie_io *io, const char *path, struct sosie_err *err)
{
	return next_ops(io)->rmdir(NEXT(io), path, err);
}

static int pass_chmod(struct sosie_io *io, const char *path, uint32_t mode, struct sosie_err *err)
{
	return next_ops(io)->chmod(NEXT(io), path, mode, err);
}

static int pass_sync_dir(struct sosie_io *io, const char *path, struct sosie_err *err)
{
	return next_ops(io)->sync_dir(NEXT(io), path, err);
}

static int pass_list(struct sosie_io *io, const char *path, sosie_list_fn fn, void *arg,
                     struct sosie_err *err)
{
	return next_ops(io)->list(NEXT(io), path, fn, arg, err);
}

static int pass_space(struct sosie_io *io, const char *path, uint64_t *free_bytes, uint64_t *total,
                      struct sosie_err *err)
{
	return next_ops(io)->space(NEXT(io), path, free_bytes, total, err);
}

static int pass_buffers(struct sosie_io *io, void *base, size_t len, struct sosie_err *err)
{
	return next_ops(io)->buffers(NEXT(io), base, len, err);
}

static void stop_submit(struct sosie_io *io, struct sosie_req *req)
{
	struct stop_filter *f = filter_of(io);

	if (!stop_wanted() || req->op == SOSIE_OP_FSYNC) {
		f->next->ops->submit(f->next, req);
		return;
	}
	req->next = f->refused;
	f->refused = req;
}

/* Completes what was refused up to now; what its completions submit waits for the next reap. */
static unsigned complete_refused(struct stop_filter *f)
{
	struct sosie_req *req = f->refused;
	unsigned n = 0;

	f->refused = NULL;
	while (req) {
		struct sosie_req *after = req->next;
		req->next = NULL;
		req->sys = ECANCELED;
		req->got = 0;
		req->done(req);
		req = after;
		n++;
	}
	return n;
}

static int stop_reap(struct sosie_io *io, unsigned min, struct sosie_err *err)
{
	struct stop_filter *f = filter_of(io);
	unsigned n = complete_refused(f);
	int rc = f->next->ops->reap(f->next, n < min ? min - n : 0, err);

	return rc < 0 ? rc : rc + (int)n;
}

static const struct sosie_io_ops stop_ops = {
        .name = "stop",
        .destroy = pass_destroy,
        .open = pass_open,
        .close = pass_close,
        .fstat = pass_fstat,
        .truncate = pass_truncate,
        .punch = pass_punch,
        .next_data = pass_next_data,
        .clone = pass_clone,
        .lock = pass_lock,
        .stat = pass_stat,
        .mkdir = pass_mkdir,
        .rename = pass_rename,
        .unlink = pass_unlink,
        .rmdir = pass_rmdir,
        .chmod = pass_chmod,
        .sync_dir = pass_sync_dir,
        .list = pass_list,
        .space = pass_space,
        .buffers = pass_buffers,
        .submit = stop_submit,
        .reap = stop_reap,
};

int stop_io(struct sosie_io *next, struct sosie_io **out, struct sosie_err *err)
{
	struct stop_filter *f = calloc(1, sizeof(*f));

	*out = NULL;
	if (!f)
		return sosie_err_sys(err, ENOMEM, "cannot set up input and output");
	f->io.ops = &stop_ops;
	f->next = next;
	*out = &f->io;
	return 0;
}

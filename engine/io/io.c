/* SPDX-License-Identifier: MIT */
/*
 * The checked wrappers, one a back-end call: they assert the contract and name the path in errors. What is
 * made of several calls is in whole.c (files and trees) and copy.c.
 */
#include <assert.h>

#include "engine/io/file.h"

#define OFFSET_MAX ((uint64_t)INT64_MAX)

static int named(int rc, struct sosie_err *err, const char *path)
{
	if (rc < 0 && err && !err->where[0])
		sosie_err_where(err, "%s", path);
	return rc;
}

void sosie_io_free(struct sosie_io *io)
{
	if (io)
		io->ops->destroy(io);
}

int sosie_io_openat(struct sosie_io *io, const char *path, unsigned flags, uint32_t mode,
                    struct sosie_file **out, struct sosie_err *err)
{
	assert(flags & (SOSIE_READ | SOSIE_WRITE));
	assert((flags & SOSIE_CREATE) || !(flags & SOSIE_EXCL));
	assert((flags & SOSIE_WRITE) || !(flags & (SOSIE_CREATE | SOSIE_TRUNC)));
	assert(mode <= 07777);
	*out = NULL;
	return named(io->ops->open(io, path, flags, mode, out, err), err, path);
}

int sosie_io_close(struct sosie_io *io, struct sosie_file *file, struct sosie_err *err)
{
	char path[sizeof(err->where)];

	if (!file)
		return 0;
	sosie_escape(path, sizeof(path), file->path, __builtin_strlen(file->path));
	return named(io->ops->close(io, file, err), err, path);
}

int sosie_io_fstat(struct sosie_io *io, struct sosie_file *file, struct sosie_stat *out,
                   struct sosie_err *err)
{
	return named(io->ops->fstat(io, file, out, err), err, file->path);
}

int sosie_io_stat(struct sosie_io *io, const char *path, struct sosie_stat *out, struct sosie_err *err)
{
	return named(io->ops->stat(io, path, out, err), err, path);
}

int sosie_io_truncate(struct sosie_io *io, struct sosie_file *file, uint64_t size, struct sosie_err *err)
{
	assert(size <= OFFSET_MAX);
	return named(io->ops->truncate(io, file, size, err), err, file->path);
}

int sosie_io_punch(struct sosie_io *io, struct sosie_file *file, uint64_t off, uint64_t len,
                   struct sosie_err *err)
{
	assert(off <= OFFSET_MAX && len <= OFFSET_MAX - off);
	return named(io->ops->punch(io, file, off, len, err), err, file->path);
}

int sosie_io_next_data(struct sosie_io *io, struct sosie_file *file, uint64_t from, uint64_t *start,
                       uint64_t *end, struct sosie_err *err)
{
	int rc;

	assert(from <= OFFSET_MAX);
	rc = named(io->ops->next_data(io, file, from, start, end, err), err, file->path);
	assert(rc != 0 || *start <= *end);
	return rc;
}

int sosie_io_clone(struct sosie_io *io, struct sosie_file *src, struct sosie_file *dst, struct sosie_err *err)
{
	assert(src != dst);
	return named(io->ops->clone(io, src, dst, err), err, dst->path);
}

int sosie_io_lock(struct sosie_io *io, struct sosie_file *file, bool exclusive, struct sosie_err *err)
{
	return named(io->ops->lock(io, file, exclusive, err), err, file->path);
}

int sosie_io_mkdir(struct sosie_io *io, const char *path, uint32_t mode, struct sosie_err *err)
{
	assert(mode <= 07777);
	return named(io->ops->mkdir(io, path, mode, err), err, path);
}

int sosie_io_rename(struct sosie_io *io, const char *from, const char *to, struct sosie_err *err)
{
	return named(io->ops->rename(io, from, to, err), err, from);
}

int sosie_io_unlink(struct sosie_io *io, const char *path, struct sosie_err *err)
{
	return named(io->ops->unlink(io, path, err), err, path);
}

int sosie_io_rmdir(struct sosie_io *io, const char *path, struct sosie_err *err)
{
	return named(io->ops->rmdir(io, path, err), err, path);
}

int sosie_io_chmod(struct sosie_io *io, const char *path, uint32_t mode, struct sosie_err *err)
{
	assert(mode <= 07777);
	return named(io->ops->chmod(io, path, mode, err), err, path);
}

int sosie_io_sync_dir(struct sosie_io *io, const char *path, struct sosie_err *err)
{
	return named(io->ops->sync_dir(io, path, err), err, path);
}

int sosie_io_list(struct sosie_io *io, const char *path, sosie_list_fn fn, void *arg, struct sosie_err *err)
{
	return named(io->ops->list(io, path, fn, arg, err), err, path);
}

int sosie_io_space(struct sosie_io *io, const char *path, uint64_t *available, uint64_t *total,
                   struct sosie_err *err)
{
	return named(io->ops->space(io, path, available, total, err), err, path);
}

int sosie_io_buffers(struct sosie_io *io, void *base, size_t len, struct sosie_err *err)
{
	assert(len > 0 && len % 4096 == 0 && (uintptr_t)base % 4096 == 0);
	return io->ops->buffers(io, base, len, err);
}

void sosie_io_submit(struct sosie_io *io, struct sosie_req *req)
{
	assert(req->file && req->done);
	assert(req->op == SOSIE_OP_FSYNC || req->offset <= OFFSET_MAX);
	assert(req->op == SOSIE_OP_FSYNC || req->len <= OFFSET_MAX - req->offset);
	io->ops->submit(io, req);
}

int sosie_io_reap(struct sosie_io *io, unsigned min, struct sosie_err *err)
{
	return io->ops->reap(io, min, err);
}

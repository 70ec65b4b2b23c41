/* SPDX-License-Identifier: MIT */
/* Tree blocks in a file: see tree_file.h. */
#include <string.h>

#include "engine/delta/tree_file.h"
#include "sosie/bytes.h"

#define TREE_MAGIC "SOSITREE"
#define TREE_VERSION 1u
#define TREE_HEADER_USED 56u
#define PATH_LIMIT 4096u

static const uint64_t spans[SOSIE_TREE_LEVELS] = {1, 257, 65793, 16843009, 4311810305};

uint64_t tree_span(unsigned level)
{
	assert(level < SOSIE_TREE_LEVELS);
	return spans[level];
}

uint64_t tree_leaf_blocks(unsigned level)
{
	assert(level < SOSIE_TREE_LEVELS);
	return UINT64_C(1) << (8 * level);
}

uint64_t tree_offset(unsigned level, uint64_t index)
{
	uint64_t number = 0;

	for (unsigned k = TREE_TOP; k > level; k--) {
		uint64_t slot = (index >> (8 * (k - 1 - level))) % SOSIE_FANOUT;

		number += 1 + slot * spans[k - 1];
	}
	return TREE_HEADER + number * sizeof(struct tree_block);
}

void tree_locate(uint64_t number, unsigned *level, uint64_t *index)
{
	unsigned k = TREE_TOP;
	uint64_t i = 0;

	while (number > 0) {
		uint64_t slot = (number - 1) / spans[k - 1];

		number = (number - 1) % spans[k - 1];
		i = i * SOSIE_FANOUT + slot;
		k--;
	}
	*level = k;
	*index = i;
}

/* --- header
 * ---------------------------------------------------------------------------------------------------- */

int tree_file_put_header(struct tree_file *f, const struct sosie_digest *ctx, struct sosie_err *err)
{
	uint8_t header[TREE_HEADER] = {0};
	struct sosie_writer w;

	sosie_writer_init(&w, header, sizeof(header));
	sosie_put_bytes(&w, TREE_MAGIC, 8);
	sosie_put_u32(&w, TREE_VERSION);
	sosie_put_u32(&w, 0);
	sosie_put_bytes(&w, ctx->b, sizeof(ctx->b));
	sosie_put_u64(&w, f->volume_size);
	assert(!w.failed && w.len == TREE_HEADER_USED);
	return sosie_io_pwrite(f->io, f->file, header, sizeof(header), 0, err);
}

static int check_header(struct tree_file *f, const uint8_t header[TREE_HEADER],
                        const struct sosie_digest *ctx, struct sosie_err *err)
{
	struct sosie_reader r;
	struct sosie_digest found;
	uint8_t magic[8];
	uint32_t version, zero;

	sosie_reader_init(&r, header, TREE_HEADER);
	sosie_get_bytes(&r, magic, sizeof(magic));
	version = sosie_get_u32(&r);
	zero = sosie_get_u32(&r);
	sosie_get_bytes(&r, found.b, sizeof(found.b));
	f->volume_size = sosie_get_u64(&r);
	if (memcmp(magic, TREE_MAGIC, sizeof(magic)) != 0)
		return sosie_err_set(err, SOSIE_ECORRUPT, "not a tree file: the magic is wrong");
	if (version > TREE_VERSION)
		return sosie_err_set(err, SOSIE_ENEWER, "tree file of version %u: this release reads %u",
		                     version, TREE_VERSION);
	if (version == 0 || zero != 0 || f->volume_size > SOSIE_VOLUME_MAX ||
	    !sosie_all_zero(header + TREE_HEADER_USED, TREE_HEADER - TREE_HEADER_USED))
		return sosie_err_set(err, SOSIE_ECORRUPT, "tree file with a damaged header");
	if (!sosie_digest_equal(&found, ctx))
		return sosie_err_set(err, SOSIE_ECORRUPT, "tree file of another volume: its context differs");
	return 0;
}

/* --- opening
 * --------------------------------------------------------------------------------------------------- */

static int sync_parent(struct sosie_io *io, const char *path, struct sosie_err *err)
{
	char dir[PATH_LIMIT] = ".";
	const char *slash = strrchr(path, '/');

	if (slash) {
		size_t len = slash == path ? 1 : (size_t)(slash - path);

		if (len >= sizeof(dir))
			return sosie_err_set(err, SOSIE_ECONFIG, "path of a tree file is too long");
		memcpy(dir, path, len);
		dir[len] = 0;
	}
	return sosie_io_sync_dir(io, dir, err);
}

static int start_file(struct tree_file *f, const char *path, const struct sosie_digest *ctx,
                      struct sosie_err *err)
{
	int rc = tree_file_put_header(f, ctx, err);

	if (rc == 0)
		rc = sosie_io_fsync(f->io, f->file, err);
	return rc == 0 ? sync_parent(f->io, path, err) : rc;
}

static int open_as(struct tree_file *f, struct sosie_io *io, const char *path, unsigned flags,
                   struct sosie_err *err)
{
	*f = (struct tree_file){.io = io};
	return sosie_io_openat(io, path, flags, 0640, &f->file, err);
}

/* Gives the file up after a failure; keeps the error that is told. */
static int abandon(struct tree_file *f, const char *path, int rc, struct sosie_err *err)
{
	sosie_io_close(f->io, f->file, NULL);
	f->file = NULL;
	if (err && !err->where[0])
		sosie_err_where(err, "%s", path);
	return rc;
}

int tree_file_create(struct tree_file *f, struct sosie_io *io, const char *path,
                     const struct sosie_digest *ctx, uint64_t volume_size, struct sosie_err *err)
{
	int rc = open_as(f, io, path, SOSIE_READ | SOSIE_WRITE | SOSIE_CREATE | SOSIE_EXCL, err);

	if (rc != 0)
		return rc;
	f->volume_size = volume_size;
	rc = start_file(f, path, ctx, err);
	return rc == 0 ? 0 : abandon(f, path, rc, err);
}

static int read_header(struct tree_file *f, uint8_t header[TREE_HEADER], struct sosie_err *err)
{
	size_t got = 0;
	int rc = sosie_io_pread(f->io, f->file, header, TREE_HEADER, 0, &got, err);

	if (rc == 0)
		memset(header + got, 0, TREE_HEADER - got);
	return rc;
}

int tree_file_open(struct tree_file *f, struct sosie_io *io, const char *path, const struct sosie_digest *ctx,
                   bool writable, struct sosie_err *err)
{
	uint8_t header[TREE_HEADER];
	int rc = open_as(f, io, path, SOSIE_READ | (writable ? SOSIE_WRITE : 0u), err);

	if (rc != 0)
		return rc;
	rc = read_header(f, header, err);
	if (rc == 0)
		rc = check_header(f, header, ctx, err);
	return rc == 0 ? 0 : abandon(f, path, rc, err);
}

int tree_file_open_or_create(struct tree_file *f, struct sosie_io *io, const char *path,
                             const struct sosie_digest *ctx, uint64_t volume_size, struct sosie_err *err)
{
	uint8_t header[TREE_HEADER];
	struct sosie_stat st;
	int rc = open_as(f, io, path, SOSIE_READ | SOSIE_WRITE | SOSIE_CREATE, err);

	if (rc != 0)
		return rc;
	rc = read_header(f, header, err);
	if (rc == 0 && sosie_all_zero(header, sizeof(header))) {
		/* New, or left so by a crash: what else it holds means nothing. A new one is not truncated:
		 * ext4 would write all of it out when it is closed (auto_da_alloc). */
		f->volume_size = volume_size;
		rc = sosie_io_fstat(io, f->file, &st, err);
		if (rc == 0 && st.size > 0)
			rc = sosie_io_truncate(io, f->file, 0, err);
		if (rc == 0)
			rc = tree_file_put_header(f, ctx, err);
	} else if (rc == 0) {
		rc = check_header(f, header, ctx, err);
	}
	return rc == 0 ? 0 : abandon(f, path, rc, err);
}

int tree_file_close(struct tree_file *f, struct sosie_err *err)
{
	int rc = sosie_io_close(f->io, f->file, err);

	f->file = NULL;
	return rc;
}

/* --- blocks
 * ---------------------------------------------------------------------------------------------------- */

int tree_file_read(struct tree_file *f, uint64_t offset, struct tree_block *out, struct sosie_err *err)
{
	size_t got = 0;
	int rc = sosie_io_pread(f->io, f->file, out, sizeof(*out), offset, &got, err);

	if (rc == 0)
		memset((uint8_t *)out + got, 0, sizeof(*out) - got);
	return rc;
}

int tree_file_write(struct tree_file *f, uint64_t offset, const struct tree_block *block,
                    struct sosie_err *err)
{
	return sosie_io_pwrite(f->io, f->file, block, sizeof(*block), offset, err);
}

int tree_file_data(struct tree_file *f, uint64_t offset, uint64_t end, uint64_t *start, uint64_t *stop,
                   struct sosie_err *err)
{
	struct sosie_stat st;
	int rc = sosie_io_fstat(f->io, f->file, &st, err);

	*start = *stop = end;
	if (rc != 0 || offset >= st.size || offset >= end)
		return rc;
	rc = sosie_io_next_data(f->io, f->file, offset, start, stop, err);
	if (rc != 0 || *start >= end || *start >= *stop)
		*start = *stop = end;
	else if (*stop > end)
		*stop = end;
	return rc;
}

int tree_file_zero(struct tree_file *f, uint64_t offset, uint64_t end, struct sosie_err *err)
{
	while (offset < end) {
		uint64_t start, stop;
		int rc = tree_file_data(f, offset, end, &start, &stop, err);

		if (rc == 0 && start < stop)
			rc = sosie_io_punch(f->io, f->file, start, stop - start, err);
		if (rc != 0)
			return rc;
		offset = stop;
	}
	return 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * Plain system calls. submit runs the request at once, reap tells of it.
 * No call follows a symbolic link in the last part of a path except an open with SOSIE_FOLLOW; no open blocks
 * on a FIFO; every descriptor is close-on-exec.
 */
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "engine/io/posix.h"

static struct posix_file *as_posix(struct sosie_file *file)
{
	return (struct posix_file *)file; /* file is its first member */
}

/* --- opening
 * --------------------------------------------------------------------------------------------------- */

static int open_flags(unsigned flags)
{
	int os = O_CLOEXEC | O_NOCTTY | O_NONBLOCK;

	os |= !(flags & SOSIE_WRITE) ? O_RDONLY : (flags & SOSIE_READ) ? O_RDWR : O_WRONLY;
	if (flags & SOSIE_CREATE)
		os |= O_CREAT;
	if (flags & SOSIE_EXCL)
		os |= O_EXCL;
	if (!(flags & SOSIE_FOLLOW))
		os |= O_NOFOLLOW;
	return os;
}

static int open_failed(int sys, struct sosie_err *err)
{
	if (sys == ELOOP)
		return sosie_err_set(err, SOSIE_ECONFIG, "cannot open: it is a symbolic link");
	if (sys == ENXIO || sys == EISDIR)
		return sosie_err_set(err, SOSIE_ECONFIG, "cannot open: not a regular file");
	return sosie_err_sys(err, sys, "cannot open");
}

static int check_kind(struct posix_file *f, unsigned flags, struct sosie_err *err)
{
	struct stat st;

	if (fstat(f->fd, &st) != 0)
		return sosie_err_sys(err, errno, "cannot look at the opened file");
	f->block = S_ISBLK(st.st_mode);
	if (S_ISREG(st.st_mode) || (f->block && (flags & SOSIE_DEVICE)))
		return 0;
	return sosie_err_set(err, SOSIE_ECONFIG, "cannot open: not a regular file%s",
	                     (flags & SOSIE_DEVICE) ? " or block device" : "");
}

/* O_NONBLOCK was for the open alone: a ring would give EAGAIN instead of waiting. */
static int make_blocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags < 0 ? -1 : fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
}

static bool same_file(int a, int b)
{
	struct stat x, y;

	return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino &&
	       x.st_rdev == y.st_rdev;
}

static uint32_t direct_alignment(int fd)
{
#ifdef STATX_DIOALIGN
	struct statx st;

	if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &st) == 0 && (st.stx_mask & STATX_DIOALIGN)) {
		uint32_t memory = st.stx_dio_mem_align, offset = st.stx_dio_offset_align;
		return memory > offset && offset ? memory : offset; /* 0: not for this file */
	}
#endif
	(void)fd;
	return 4096;
}

/* Whatever fails here means: not direct. */
static void open_direct(struct posix_file *f, const char *path, unsigned flags)
{
	int fd = open(path, (open_flags(flags) & ~(O_CREAT | O_EXCL)) | O_DIRECT);
	uint32_t align;

	if (fd < 0)
		return;
	align = direct_alignment(fd);
	if (align < 2 || (align & (align - 1)) != 0 || !same_file(f->fd, fd) || make_blocking(fd) != 0) {
		close(fd);
		return;
	}
	f->direct_fd = fd;
	f->align = align;
}

static struct posix_file *file_new(const char *path)
{
	struct posix_file *f = calloc(1, sizeof(*f));

	if (!f)
		return NULL;
	f->fd = f->direct_fd = -1;
	f->align = 1;
	f->file.path = strdup(path);
	if (!f->file.path) {
		free(f);
		return NULL;
	}
	return f;
}

/* Closes and frees; 0 or the errno of the first close that failed. EINTR is not a failure: Linux has closed.
 */
static int file_free(struct posix_file *f)
{
	int sys = 0;

	if (f->direct_fd >= 0 && close(f->direct_fd) != 0 && errno != EINTR)
		sys = errno;
	if (f->fd >= 0 && close(f->fd) != 0 && errno != EINTR && sys == 0)
		sys = errno;
	free(f->file.path);
	free(f);
	return sys;
}

static int posix_open(struct sosie_io *io, const char *path, unsigned flags, uint32_t mode,
                      struct sosie_file **out, struct sosie_err *err)
{
	struct posix_file *f = file_new(path);
	int rc;

	(void)io;
	if (!f)
		return sosie_err_sys(err, ENOMEM, "cannot open");
	do
		f->fd = open(path, open_flags(flags), (mode_t)mode);
	while (f->fd < 0 && errno == EINTR);
	if (f->fd < 0) {
		rc = open_failed(errno, err);
		goto free_file;
	}
	rc = check_kind(f, flags, err);
	if (rc != 0)
		goto free_file;
	if (make_blocking(f->fd) != 0) {
		rc = sosie_err_sys(err, errno, "cannot open");
		goto free_file;
	}
	if ((flags & SOSIE_TRUNC) && !f->block && ftruncate(f->fd, 0) != 0) {
		rc = sosie_err_sys(err, errno, "cannot cut to 0 bytes");
		goto free_file;
	}
	if (flags & SOSIE_DIRECT)
		open_direct(f, path, flags);
	*out = &f->file;
	return 0;

free_file:
	file_free(f);
	return rc;
}

static int posix_close(struct sosie_io *io, struct sosie_file *file, struct sosie_err *err)
{
	struct posix_file *f = as_posix(file);
	int sys;

	(void)io;
	assert(f->writes == 0 && !f->held.head);
	sys = file_free(f);
	return sys ? sosie_err_sys(err, sys, "cannot close") : 0;
}

/* --- attributes and extents
 * -------------------------------------------------------------------------------------- */

static enum sosie_file_kind kind_of(mode_t mode)
{
	if (S_ISREG(mode))
		return SOSIE_KIND_FILE;
	if (S_ISDIR(mode))
		return SOSIE_KIND_DIR;
	return S_ISBLK(mode) ? SOSIE_KIND_BLOCK : SOSIE_KIND_OTHER;
}

static void convert_stat(const struct stat *st, struct sosie_stat *out)
{
	*out = (struct sosie_stat){
	        .kind = kind_of(st->st_mode),
	        .size = (uint64_t)st->st_size,
	        .allocated = (uint64_t)st->st_blocks * 512,
	        .dev = st->st_dev,
	        .ino = st->st_ino,
	        .links = st->st_nlink,
	        .rdev = st->st_rdev,
	        .mtime_ms = (int64_t)st->st_mtim.tv_sec * 1000 + st->st_mtim.tv_nsec / 1000000,
	        .ctime_ns = (int64_t)st->st_ctim.tv_sec * 1000000000 + st->st_ctim.tv_nsec,
	        .mode = st->st_mode & 07777,
	        .uid = st->st_uid,
	        .align = 1,
	};
}

static int device_size(int fd, struct sosie_stat *out, struct sosie_err *err)
{
	uint64_t size = 0;

	if (ioctl(fd, BLKGETSIZE64, &size) != 0)
		return sosie_err_sys(err, errno, "cannot ask for the size of the device");
	out->size = out->allocated = size;
	return 0;
}

static int posix_fstat(struct sosie_io *io, struct sosie_file *file, struct sosie_stat *out,
                       struct sosie_err *err)
{
	struct posix_file *f = as_posix(file);
	struct stat st;

	(void)io;
	if (fstat(f->fd, &st) != 0)
		return sosie_err_sys(err, errno, "cannot look at the file");
	convert_stat(&st, out);
	out->align = f->align;
	return f->block ? device_size(f->fd, out, err) : 0;
}

static int posix_stat(struct sosie_io *io, const char *path, struct sosie_stat *out, struct sosie_err *err)
{
	struct stat st;
	int fd, rc;

	(void)io;
	if (lstat(path, &st) != 0)
		return sosie_err_sys(err, errno, "cannot look at the file");
	convert_stat(&st, out);
	if (!S_ISBLK(st.st_mode))
		return 0;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return sosie_err_sys(err, errno, "cannot open the device");
	rc = device_size(fd, out, err);
	close(fd);
	return rc;
}

static int posix_truncate(struct sosie_io *io, struct sosie_file *file, uint64_t size, struct sosie_err *err)
{
	int rc;

	(void)io;
	do
		rc = ftruncate(as_posix(file)->fd, (off_t)size);
	while (rc != 0 && errno == EINTR);
	return rc == 0 ? 0
	               : sosie_err_sys(err, errno, "cannot set the size to %llu bytes",
	                               (unsigned long long)size);
}

static int write_zeros(struct posix_file *f, uint64_t off, uint64_t len, struct sosie_err *err)
{
	static char zeros[1 << 18]; /* never written: all threads share it */

	while (len > 0) {
		struct sosie_req req = {
		        .op = SOSIE_OP_WRITE,
		        .file = &f->file,
		        .buf = zeros,
		        .len = len < sizeof(zeros) ? (size_t)len : sizeof(zeros),
		        .offset = off,
		};
		posix_transfer(&req);
		if (req.sys != 0)
			return sosie_err_sys(err, req.sys, "cannot write zeros at byte %llu",
			                     (unsigned long long)off);
		off += req.len;
		len -= req.len;
	}
	return 0;
}

/* On a block device this fallocate zeroes for certain or refuses; BLKDISCARD would promise nothing. */
static int posix_punch(struct sosie_io *io, struct sosie_file *file, uint64_t off, uint64_t len,
                       struct sosie_err *err)
{
	struct posix_file *f = as_posix(file);
	struct sosie_stat st;
	int rc = posix_fstat(io, file, &st, err);

	if (rc != 0 || off >= st.size || len == 0)
		return rc;
	if (len > st.size - off)
		len = st.size - off;
	do
		rc = fallocate(f->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)off, (off_t)len);
	while (rc != 0 && errno == EINTR);
	if (rc == 0)
		return 0;
	if (errno == EOPNOTSUPP || errno == ENOSYS || errno == EINVAL || errno == ENODEV)
		return write_zeros(f, off, len, err);
	return sosie_err_sys(err, errno, "cannot punch %llu bytes at byte %llu", (unsigned long long)len,
	                     (unsigned long long)off);
}

static int posix_next_data(struct sosie_io *io, struct sosie_file *file, uint64_t from, uint64_t *start,
                           uint64_t *end, struct sosie_err *err)
{
	struct posix_file *f = as_posix(file);
	struct sosie_stat st;
	off_t at;
	int rc = posix_fstat(io, file, &st, err);

	if (rc != 0)
		return rc;
	*start = *end = st.size;
	if (from >= st.size)
		return 0;
	at = f->block ? (off_t)from : lseek(f->fd, (off_t)from, SEEK_DATA);
	if (at < 0 && errno == ENXIO)
		return 0;
	if (at < 0 && errno != EINVAL)
		return sosie_err_sys(err, errno, "cannot look for data from byte %llu",
		                     (unsigned long long)from);
	*start = at < 0 ? from : (uint64_t)at;
	at = f->block || at < 0 ? -1 : lseek(f->fd, at, SEEK_HOLE);
	if (at >= 0 && (uint64_t)at < st.size)
		*end = (uint64_t)at;
	if (*start > *end)
		*start = *end; /* cut by another process in between */
	return 0;
}

static int posix_clone(struct sosie_io *io, struct sosie_file *src, struct sosie_file *dst,
                       struct sosie_err *err)
{
	struct sosie_stat from, to;
	int rc, target = as_posix(dst)->fd;

	if (ioctl(target, FICLONE, as_posix(src)->fd) != 0) {
		int sys = errno;
		if (sys == EOPNOTSUPP || sys == EXDEV || sys == EINVAL || sys == ENOTTY || sys == ENOSYS)
			return sosie_err_set(err, SOSIE_EUNSUPPORTED, "no reflink between these files: %s",
			                     strerrordesc_np(sys));
		return sosie_err_sys(err, sys, "cannot clone");
	}
	rc = posix_fstat(io, src, &from, err);
	if (rc == 0)
		rc = posix_fstat(io, dst, &to, err);
	if (rc == 0 && to.size > from.size) /* FICLONE leaves what lies behind the source's end */
		rc = posix_truncate(io, dst, from.size, err);
	return rc;
}

static int posix_lock(struct sosie_io *io, struct sosie_file *file, bool exclusive, struct sosie_err *err)
{
	int rc;

	(void)io;
	do
		rc = flock(as_posix(file)->fd, (exclusive ? LOCK_EX : LOCK_SH) | LOCK_NB);
	while (rc != 0 && errno == EINTR);
	if (rc != 0 && errno == EWOULDBLOCK)
		return sosie_err_set(err, SOSIE_EBUSY, "locked by another process");
	return rc == 0 ? 0 : sosie_err_sys(err, errno, "cannot lock");
}

/* --- names
 * ---------------------------------------------------------------------------------------------------------
 */

static int posix_mkdir(struct sosie_io *io, const char *path, uint32_t mode, struct sosie_err *err)
{
	(void)io;
	return mkdir(path, (mode_t)mode) == 0 ? 0 : sosie_err_sys(err, errno, "cannot make the folder");
}

static int posix_rename(struct sosie_io *io, const char *from, const char *to, struct sosie_err *err)
{
	(void)io;
	return rename(from, to) == 0 ? 0 : sosie_err_sys(err, errno, "cannot rename to %s", to);
}

static int posix_unlink(struct sosie_io *io, const char *path, struct sosie_err *err)
{
	(void)io;
	return unlink(path) == 0 ? 0 : sosie_err_sys(err, errno, "cannot remove the file");
}

static int posix_rmdir(struct sosie_io *io, const char *path, struct sosie_err *err)
{
	(void)io;
	return rmdir(path) == 0 ? 0 : sosie_err_sys(err, errno, "cannot remove the folder");
}

/* fchmodat cannot refuse links on these kernels: through a descriptor of the thing itself. */
static int posix_chmod(struct sosie_io *io, const char *path, uint32_t mode, struct sosie_err *err)
{
	struct stat st;
	int rc = -1, fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);

	(void)io;
	if (fd >= 0) {
		rc = fchmod(fd, (mode_t)mode) == 0 ? 0 : errno;
		close(fd);
	} else if (errno == EACCES && lstat(path, &st) == 0 && !S_ISLNK(st.st_mode)) {
		rc = chmod(path, (mode_t)mode) == 0 ? 0 : errno; /* our own file, not readable by us */
	} else {
		rc = errno;
	}
	return rc == 0 ? 0 : sosie_err_sys(err, rc, "cannot set the permissions");
}

static int posix_sync_dir(struct sosie_io *io, const char *path, struct sosie_err *err)
{
	int sys = 0, fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	(void)io;
	if (fd < 0)
		return sosie_err_sys(err, errno, "cannot open the folder");
	if (fsync(fd) != 0)
		sys = errno;
	if (close(fd) != 0 && errno != EINTR && sys == 0)
		sys = errno;
	return sys ? sosie_err_sys(err, sys, "cannot sync the folder") : 0;
}

static enum sosie_file_kind entry_kind(int dir_fd, const struct dirent *entry)
{
	struct stat st;

	switch (entry->d_type) {
	case DT_REG:
		return SOSIE_KIND_FILE;
	case DT_DIR:
		return SOSIE_KIND_DIR;
	case DT_BLK:
		return SOSIE_KIND_BLOCK;
	case DT_UNKNOWN:
		if (fstatat(dir_fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
			return kind_of(st.st_mode);
		return SOSIE_KIND_OTHER;
	default:
		return SOSIE_KIND_OTHER;
	}
}

static bool is_dots(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static int posix_list(struct sosie_io *io, const char *path, sosie_list_fn fn, void *arg,
                      struct sosie_err *err)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;
	int sys = errno;

	(void)io;
	if (!dir) {
		if (fd >= 0)
			close(fd);
		return sosie_err_sys(err, sys, "cannot read the folder");
	}
	while ((errno = 0, entry = readdir(dir)) != NULL)
		if (!is_dots(entry->d_name) && fn(arg, entry->d_name, entry_kind(fd, entry)) != 0)
			break;
	sys = entry ? 0 : errno;
	closedir(dir);
	return sys ? sosie_err_sys(err, sys, "cannot read the folder") : 0;
}

static int posix_space(struct sosie_io *io, const char *path, uint64_t *available, uint64_t *total,
                       struct sosie_err *err)
{
	struct statvfs st;

	(void)io;
	if (statvfs(path, &st) != 0)
		return sosie_err_sys(err, errno, "cannot ask for the free space");
	*available = (uint64_t)st.f_bavail * st.f_frsize;
	*total = (uint64_t)st.f_blocks * st.f_frsize;
	return 0;
}

/* --- requests
 * ------------------------------------------------------------------------------------------------------ */

struct posix_file *posix_file_of(const struct sosie_req *req)
{
	return as_posix(req->file);
}

int posix_descriptor(const struct sosie_req *req)
{
	struct posix_file *f = as_posix(req->file);
	uint64_t shape;

	if (f->direct_fd < 0 || req->op == SOSIE_OP_FSYNC || f->direct_refused)
		return f->fd;
	shape = (uint64_t)(uintptr_t)req->buf | req->len | req->offset | req->moved;
	return shape & (f->align - 1) ? f->fd : f->direct_fd;
}

bool posix_begin(struct sosie_req *req)
{
	req->sys = 0;
	req->got = 0;
	req->moved = 0;
	req->next = NULL;
	return req->op != SOSIE_OP_FSYNC && req->len == 0;
}

static long call_once(const struct sosie_req *req, int fd)
{
	const size_t left = req->len - req->moved, n = left < POSIX_STEP_MAX ? left : POSIX_STEP_MAX;
	char *at = (char *)req->buf + req->moved;
	const off_t offset = (off_t)(req->offset + req->moved);
	ssize_t result = 0;

	switch (req->op) {
	case SOSIE_OP_READ:
		result = pread(fd, at, n, offset);
		break;
	case SOSIE_OP_WRITE:
		result = pwrite(fd, at, n, offset);
		break;
	case SOSIE_OP_FSYNC:
		result = fsync(fd);
		break;
	}
	return result < 0 ? -errno : result;
}

bool posix_advance(struct sosie_req *req, long result)
{
	struct posix_file *f = as_posix(req->file);

	if (req->op != SOSIE_OP_FSYNC) {
		if (result == -EINVAL && f->direct_fd >= 0) {
			f->direct_refused = true;
			result = call_once(req, f->fd);
		} else if (result == -EAGAIN) {
			result = call_once(req, f->fd); /* blocks until there is something to tell */
		}
	}
	if (result == -EINTR)
		return false;
	if (result < 0)
		req->sys = (int)-result;
	else if (req->op == SOSIE_OP_WRITE && result == 0)
		req->sys = EIO; /* no progress and no reason */
	else if (req->op != SOSIE_OP_FSYNC)
		req->moved += (size_t)result;
	req->got = req->moved;
	return req->sys != 0 || result == 0 || req->moved == req->len;
}

void posix_transfer(struct sosie_req *req)
{
	if (posix_begin(req))
		return;
	while (!posix_advance(req, call_once(req, posix_descriptor(req))))
		;
}

bool posix_may_start(struct sosie_req *req)
{
	struct posix_file *f = as_posix(req->file);

	if (req->op == SOSIE_OP_READ)
		return true;
	if (f->held.head || (req->op == SOSIE_OP_FSYNC && f->writes > 0)) {
		req_list_push(&f->held, req);
		return false;
	}
	f->writes += req->op == SOSIE_OP_WRITE;
	return true;
}

void posix_release(struct sosie_req *req, struct req_list *ready)
{
	struct posix_file *f = as_posix(req->file);

	if (req->op != SOSIE_OP_WRITE)
		return;
	assert(f->writes > 0);
	f->writes--;
	while (f->held.head && (f->held.head->op == SOSIE_OP_WRITE || f->writes == 0)) {
		struct sosie_req *next = req_list_pop(&f->held);
		f->writes += next->op == SOSIE_OP_WRITE;
		req_list_push(ready, next);
	}
}

static int posix_buffers(struct sosie_io *io, void *base, size_t len, struct sosie_err *err)
{
	(void)io;
	(void)base;
	(void)len;
	(void)err;
	return 0;
}

static void posix_submit(struct sosie_io *io, struct sosie_req *req)
{
	struct posix_io *p = (struct posix_io *)io;

	posix_transfer(req);
	p->in_flight++;
	req_list_push(&p->done, req);
}

int posix_run_done(struct posix_io *p, unsigned min)
{
	const struct sosie_req *last =
	        p->done.tail; /* what callbacks submit is for the next call, unless min asks for more */
	bool past_last = false;
	int count = 0;

	while (p->done.head && !(past_last && (unsigned)count >= min)) {
		struct sosie_req *req = req_list_pop(&p->done);
		past_last = past_last || req == last;
		p->in_flight--;
		count++;
		req->done(req);
	}
	return count;
}

static int posix_reap(struct sosie_io *io, unsigned min, struct sosie_err *err)
{
	(void)err;
	return posix_run_done((struct posix_io *)io, min);
}

static void posix_destroy(struct sosie_io *io)
{
	assert(((struct posix_io *)io)->in_flight == 0);
	free(io);
}

const struct sosie_io_ops posix_ops = {
        .name = "posix",
        .destroy = posix_destroy,
        .open = posix_open,
        .close = posix_close,
        .fstat = posix_fstat,
        .truncate = posix_truncate,
        .punch = posix_punch,
        .next_data = posix_next_data,
        .clone = posix_clone,
        .lock = posix_lock,
        .stat = posix_stat,
        .mkdir = posix_mkdir,
        .rename = posix_rename,
        .unlink = posix_unlink,
        .rmdir = posix_rmdir,
        .chmod = posix_chmod,
        .sync_dir = posix_sync_dir,
        .list = posix_list,
        .space = posix_space,
        .buffers = posix_buffers,
        .submit = posix_submit,
        .reap = posix_reap,
};

int sosie_io_posix(struct sosie_io **out, struct sosie_err *err)
{
	struct posix_io *p = calloc(1, sizeof(*p));

	if (!p)
		return sosie_err_sys(err, ENOMEM, "cannot start I/O");
	p->io.ops = &posix_ops;
	*out = &p->io;
	return 0;
}

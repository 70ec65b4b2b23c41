/* SPDX-License-Identifier: MIT */
/*
 * Changes by the kernel's own difference of two read-only snapshots: BTRFS_IOC_SEND with a parent and no file
 * data, into a pipe. The kernel writes from a thread of its own in which all signals are blocked (an
 * interrupted call would be started again and write a second stream); the caller's thread reads until that
 * end is closed, also when the parser has given up, so neither waits for the other for ever.
 *
 * The stream names files by one path and no inode, so what it cannot tell is looked up first: a file that is
 * new, or another inode, has changed wholly; one with several names is compared by its extent items.
 *
 * The kernel tells the whole of a reserved (fallocated) extent when one block of it is written. So of longer
 * ranges those parts are left out again that are a hole, or reserved, in both snapshots: they read as zeros
 * in both.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/btrfs.h>
#include <linux/fs.h>
#include <linux/openat2.h>

#include "engine/source/mapping.h"
#include "sosie/thread.h"

#define PIPE_BYTES (1 << 20)
#define READ_BYTES 65536u
#define LONG_BYTES 65536u /* ranges from here on are looked at for holes */

struct sender {
	int snapshot_fd, pipe_fd;
	uint64_t parent;
	int sys; /* of the ioctl; read after joining */
};

static void *send_all(void *arg)
{
	struct sender *s = arg;
	struct btrfs_ioctl_send_args args = {
	        .send_fd = s->pipe_fd,
	        .parent_root = s->parent,
	        .flags = BTRFS_SEND_FLAG_NO_FILE_DATA,
	};

	s->sys = ioctl(s->snapshot_fd, BTRFS_IOC_SEND, &args) < 0 ? errno : 0;
	close(s->pipe_fd);
	return NULL;
}

/* Reads to the end of the pipe in any case; what the parser says first is the result. */
static int read_all(int fd, struct send_parser *p, struct sosie_err *err)
{
	uint8_t *buf = malloc(READ_BYTES), small[512];
	size_t size = buf ? READ_BYTES : sizeof(small);
	int rc = 0;

	for (;;) {
		uint8_t *to = buf ? buf : small;
		ssize_t n = read(fd, to, size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && rc == 0)
			rc = sosie_err_sys(err, errno, "cannot read the difference of two snapshots");
		if (n <= 0)
			break;
		if (rc == 0)
			rc = send_parser_feed(p, to, (size_t)n, err);
	}
	free(buf);
	return rc;
}

static int send_failed(int sys, struct sosie_err *err)
{
	sosie_err_sys(err, sys, "btrfs cannot tell the difference of two snapshots (BTRFS_IOC_SEND)");
	if (sys == EPERM)
		sosie_err_action(err, "it needs CAP_SYS_ADMIN and read-only snapshots: run as root, or use "
		                      "source: reflink");
	return -(int)err->code;
}

/* The ioctl's own failure explains a stream that is cut off, so it comes first. */
static int run_send(struct sender *s, struct send_parser *p, int *sys, struct sosie_err *err)
{
	pthread_t thread;
	int pipe_fds[2], rc;

	if (pipe2(pipe_fds, O_CLOEXEC) != 0)
		return sosie_err_sys(err, errno, "cannot make a pipe for the difference of two snapshots");
	(void)fcntl(pipe_fds[1], F_SETPIPE_SZ, PIPE_BYTES); /* only faster */
	s->pipe_fd = pipe_fds[1];
	*sys = sosie_thread_start(&thread, NULL, send_all, s);
	if (*sys != 0) {
		close(pipe_fds[1]);
		close(pipe_fds[0]);
		return sosie_err_sys(err, *sys, "cannot start a thread for the difference of two snapshots");
	}
	rc = read_all(pipe_fds[0], p, err);
	close(pipe_fds[0]);
	pthread_join(thread, NULL);
	*sys = s->sys;
	if (s->sys != 0)
		return send_failed(s->sys, err);
	return rc == 0 ? send_parser_end(p, err) : rc;
}

/* --- what stands at a path in both snapshots
 * ------------------------------------------------------------------------- */

struct pair {
	int old_fd, new_fd;
	struct stat old_st, new_st;
};

/* No symbolic link on the way: the stream names the real path. -1 with errno. */
static int open_inside(int snapshot_fd, const char *path, struct stat *st)
{
	struct open_how how = {.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY,
	                       .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS};
	struct stat top;
	long fd;

	do
		fd = syscall(SYS_openat2, snapshot_fd, path, &how, sizeof(how));
	while (fd < 0 && (errno == EINTR || errno == EAGAIN));
	if (fd < 0)
		return -1;
	if (fstat(snapshot_fd, &top) == 0 && fstat((int)fd, st) == 0 && st->st_dev == top.st_dev)
		return (int)fd;
	close((int)fd);
	errno = EXDEV; /* in a subvolume of its own: not part of the snapshot */
	return -1;
}

static void close_pair(const struct pair *p)
{
	if (p->old_fd >= 0)
		close(p->old_fd);
	if (p->new_fd >= 0)
		close(p->new_fd);
}

static int open_pair(int old_snapshot_fd, int new_snapshot_fd, const char *path, struct pair *p,
                     struct sosie_err *err)
{
	char shown[200];

	p->old_fd = -1;
	p->new_fd = open_inside(new_snapshot_fd, path, &p->new_st);
	if (p->new_fd < 0) {
		sosie_err_sys(err, errno, "cannot open \"%s\" in a snapshot",
		              sosie_escape(shown, sizeof(shown), path, strlen(path)));
		return sosie_err_action(err, "the volume must lie in the snapshot's own subvolume, with no "
		                             "symbolic link on the way");
	}
	p->old_fd = open_inside(old_snapshot_fd, path, &p->old_st);
	return 0;
}

static bool same_generation(const struct pair *p)
{
	long a = 0, b = 0; /* the kernel writes an int */
	int x, y;

	if (ioctl(p->old_fd, FS_IOC_GETVERSION, &a) != 0 || ioctl(p->new_fd, FS_IOC_GETVERSION, &b) != 0)
		return false;
	memcpy(&x, &a, sizeof(x));
	memcpy(&y, &b, sizeof(y));
	return x == y;
}

/* Before the stream: bounds, sizes, identity. *by_items: the stream cannot tell, or was not to be had. */
static int look_up(int old_snapshot_fd, int new_snapshot_fd, struct changes_file *f, bool by_items,
                   struct sosie_err *err)
{
	struct pair p;
	uint64_t a, b;
	int rc = open_pair(old_snapshot_fd, new_snapshot_fd, f->path, &p, err);

	if (rc != 0)
		return rc;
	if (p.old_fd < 0 || !S_ISREG(p.old_st.st_mode) || !S_ISREG(p.new_st.st_mode) ||
	    p.old_st.st_ino != p.new_st.st_ino || !same_generation(&p)) {
		changes_all(f->changes);
	} else {
		a = (uint64_t)p.old_st.st_size;
		b = (uint64_t)p.new_st.st_size;
		changes_limit(f->changes, a > b ? a : b);
		changes_add(f->changes, a < b ? a : b, a > b ? a : b);
		if (by_items || p.old_st.st_nlink != 1 || p.new_st.st_nlink != 1)
			rc = changes_by_items(p.old_fd, p.new_fd, f->changes, err);
	}
	close_pair(&p);
	return rc;
}

static int look_up_all(int old_snapshot_fd, int new_snapshot_fd, struct changes_file *files, unsigned count,
                       bool by_items, struct sosie_err *err)
{
	int rc = 0;

	for (unsigned i = 0; i < count && rc == 0; i++)
		rc = look_up(old_snapshot_fd, new_snapshot_fd, &files[i], by_items, err);
	return rc;
}

/* --- the snapshots
 * ------------------------------------------------------------------------------------------------- */

/* A root id means something on its own filesystem only. */
static int check_snapshots(int old_fd, int new_fd, uint64_t *parent, struct sosie_err *err)
{
	struct btrfs_ioctl_fs_info_args a = {0}, b = {0};
	struct btrfs_ioctl_get_subvol_info_args info = {0};
	int sys = mapping_ioctl(old_fd, BTRFS_IOC_FS_INFO, &a);

	if (sys == 0)
		sys = mapping_ioctl(new_fd, BTRFS_IOC_FS_INFO, &b);
	if (sys == 0)
		sys = mapping_ioctl(old_fd, BTRFS_IOC_GET_SUBVOL_INFO, &info);
	if (sys != 0)
		return mapping_failed(sys, "BTRFS_IOC_GET_SUBVOL_INFO", old_fd, err);
	if (memcmp(a.fsid, b.fsid, sizeof(a.fsid)) != 0)
		return sosie_err_set(err, SOSIE_EINTERNAL, "two snapshots of different filesystems");
	*parent = info.treeid;
	return 0;
}

/* --- from what the stream told to what is told
 * -------------------------------------------------------------------- */

/* At or behind pos. In doubt all is data. */
static uint64_t next_data(int fd, uint64_t pos)
{
	off_t at = lseek(fd, (off_t)pos, SEEK_DATA);

	if (at < 0)
		return errno == ENXIO ? UINT64_MAX : pos;
	return (uint64_t)at;
}

static uint64_t next_hole(int fd, uint64_t pos)
{
	off_t at = lseek(fd, (off_t)pos, SEEK_HOLE);

	return at < 0 || (uint64_t)at <= pos ? UINT64_MAX : (uint64_t)at;
}

/* Of [pos, end), what has data in one of both; their own ends bound it too. */
static void add_data(const struct pair *p, uint64_t pos, uint64_t end, struct changes *c)
{
	while (pos < end && pos <= INT64_MAX) {
		uint64_t a = next_data(p->old_fd, pos), b = next_data(p->new_fd, pos);
		uint64_t data = a < b ? a : b, hole;

		if (data >= end)
			return;
		hole = next_hole(a < b ? p->old_fd : p->new_fd, data);
		pos = hole < end ? hole : end;
		changes_add(c, data, pos);
	}
}

static int hand_over(int old_snapshot_fd, int new_snapshot_fd, struct changes_file *told,
                     struct changes_file *out, struct sosie_err *err)
{
	uint64_t at = 0, start, end;
	struct pair p;
	int rc;

	changes_seal(told->changes);
	if (changes_is_all(told->changes))
		changes_all(out->changes);
	if (changes_is_all(out->changes))
		return 0;
	rc = open_pair(old_snapshot_fd, new_snapshot_fd, out->path, &p, err);
	for (; rc == 0 && changes_next(told->changes, at, &start, &end); at = end)
		if (end - start < LONG_BYTES || p.old_fd < 0)
			changes_add(out->changes, start, end);
		else
			add_data(&p, start, end, out->changes);
	if (rc == 0)
		close_pair(&p);
	return rc;
}

/* The sets that the parser fills. */
static struct changes_file *make_told(const struct changes_file *files, unsigned count, struct sosie_err *err)
{
	struct changes_file *told = calloc(count ? count : 1, sizeof(*told));

	if (!told)
		sosie_err_set(err, SOSIE_ENOMEM, "no memory for the changes of %u volumes", count);
	for (unsigned i = 0; told && i < count; i++)
		told[i].path = files[i].path;
	return told;
}

static void free_told(struct changes_file *told, unsigned count)
{
	for (unsigned i = 0; told && i < count; i++)
		changes_free(told[i].changes);
	free(told);
}

/* Runs the stream into told, then over to files. */
static int by_stream(int old_fd, int new_fd, struct changes_file *told, struct changes_file *files,
                     unsigned count, int *sys, struct sosie_err *err)
{
	struct sender s = {.snapshot_fd = new_fd};
	struct send_parser *p = NULL;
	int rc = check_snapshots(old_fd, new_fd, &s.parent, err);

	for (unsigned i = 0; i < count && rc == 0; i++)
		rc = changes_new(CHANGES_MAX, &told[i].changes, err);
	if (rc == 0)
		rc = send_parser_new(told, count, &p, err);
	if (rc == 0)
		rc = look_up_all(old_fd, new_fd, files, count, false, err);
	if (rc == 0)
		rc = run_send(&s, p, sys, err);
	send_parser_free(p);
	for (unsigned i = 0; i < count && rc == 0; i++)
		rc = hand_over(old_fd, new_fd, &told[i], &files[i], err);
	return rc;
}

static int find_changes(int old_fd, int new_fd, struct changes_file *files, unsigned count,
                        struct sosie_err *err)
{
	struct changes_file *told = make_told(files, count, err);
	int sys = 0, rc = told ? 0 : -SOSIE_ENOMEM;

	if (rc == 0)
		rc = by_stream(old_fd, new_fd, told, files, count, &sys, err);
	free_told(told, count);
	/* Kernels before 5.17 do not send while a balance runs; what was added until then does no harm. */
	if (rc != 0 && sys == EAGAIN) {
		sosie_err_clear(err);
		rc = look_up_all(old_fd, new_fd, files, count, true, err);
	}
	return rc;
}

int changes_by_send(int old_snapshot_fd, int new_snapshot_fd, struct changes_file *files, unsigned count,
                    struct sosie_err *err)
{
	struct sosie_err spare;
	int rc = find_changes(old_snapshot_fd, new_snapshot_fd, files, count, err ? err : &spare);

	for (unsigned i = 0; i < count && rc != 0; i++)
		changes_all(files[i].changes);
	return rc;
}

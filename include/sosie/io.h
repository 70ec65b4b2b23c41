/* SPDX-License-Identifier: MIT */
/*
 * The one table of I/O operations under the engine. Back ends:
 *   uring    io_uring for reads, writes and fsync of files; everything else as posix
 *   threads  a pool of threads for the same, where io_uring is refused; chosen by SOSIE_IO=threads, or by
 * itself posix    plain system calls, submit runs the request at once; what sosie-receive links fault    a
 * filter over another: fails, shortens, delays or corrupts the n-th call sim      a disk in memory with its
 * own tree of files, that can lose power at any flush
 *
 * Paths are plain strings given to the back end as they are; the store only makes them from checked names. No
 * call follows a symbolic link in the last part. One instance belongs to one thread; files opened through it
 * too.
 *
 * Asynchronous requests are embedded in, and owned by, their submitter, who keeps request, buffer and file
 * alive until the completion has run. done runs exactly once, from sosie_io_reap and never from
 * sosie_io_submit. Short transfers, EINTR and EAGAIN are gone on with below: a completion is either whole
 * (result 0), or at the end of file (a read: got < len), or an error. After a failed fsync a file is lost:
 * never retry (measured: a later fsync returns OK and the data is gone).
 */
#ifndef SOSIE_IO_H
#define SOSIE_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sosie/err.h"

struct sosie_io;
struct sosie_file; /* opaque; each back end has its own */

enum sosie_open {
	SOSIE_READ = 1,       /* open for reading */
	SOSIE_WRITE = 2,      /* open for writing; both together: read and write */
	SOSIE_CREATE = 4,     /* create when missing */
	SOSIE_EXCL = 8,       /* with CREATE: fail with SOSIE_EEXISTS when there */
	SOSIE_TRUNC = 16,     /* cut to 0 */
	SOSIE_APPEND_OK = 32, /* reserved for writers that only append; hints only */
	SOSIE_DIRECT = 64,    /* bypass the page cache where file and filesystem can; else silently not */
	SOSIE_DEVICE = 128,   /* a block device is allowed (else only regular files: SOSIE_ECONFIG) */
	SOSIE_FOLLOW = 256,   /* follow a symbolic link: only for paths that the operator typed */
};

enum sosie_file_kind { SOSIE_KIND_FILE, SOSIE_KIND_DIR, SOSIE_KIND_BLOCK, SOSIE_KIND_OTHER };

struct sosie_stat {
	enum sosie_file_kind kind;
	uint64_t size;      /* bytes; of a block device its capacity */
	uint64_t allocated; /* bytes of disk */
	uint64_t dev, ino, links;
	uint64_t rdev; /* of a block device */
	int64_t mtime_ms, ctime_ns;
	uint32_t mode; /* permission bits */
	uint32_t uid;
	uint32_t align; /* what offsets, lengths and buffers of direct I/O must be multiples of; 1: not direct
	                 */
};

enum sosie_op { SOSIE_OP_READ, SOSIE_OP_WRITE, SOSIE_OP_FSYNC };

struct sosie_req {
	enum sosie_op op;
	struct sosie_file *file;
	void *buf; /* aligned to 4096 and from sosie_io_buffers for the fast path; any other memory works too
	            */
	size_t len;
	uint64_t offset;
	void (*done)(struct sosie_req *req); /* runs once, inside reap */
	/* Results, valid from done on. */
	int sys;    /* 0 or a positive errno */
	size_t got; /* bytes transferred; less than len only at the end of a file read */
	/* Of the back end. */
	size_t moved;
	struct sosie_req *next;
};

/* What a directory holds; return non-zero to stop. name is borrowed. "." and ".." are not told. */
typedef int (*sosie_list_fn)(void *arg, const char *name, enum sosie_file_kind kind);

struct sosie_io_ops {
	const char *name;
	void (*destroy)(struct sosie_io *io);
	int (*open)(struct sosie_io *io, const char *path, unsigned flags, uint32_t mode,
	            struct sosie_file **out, struct sosie_err *err);
	int (*close)(struct sosie_io *io, struct sosie_file *file,
	             struct sosie_err *err); /* frees file even on error */
	int (*fstat)(struct sosie_io *io, struct sosie_file *file, struct sosie_stat *out,
	             struct sosie_err *err);
	int (*truncate)(struct sosie_io *io, struct sosie_file *file, uint64_t size, struct sosie_err *err);
	int (*punch)(struct sosie_io *io, struct sosie_file *file, uint64_t off, uint64_t len,
	             struct sosie_err *err);
	int (*next_data)(struct sosie_io *io, struct sosie_file *file, uint64_t from, uint64_t *start,
	                 uint64_t *end, struct sosie_err *err);
	int (*clone)(struct sosie_io *io, struct sosie_file *src, struct sosie_file *dst,
	             struct sosie_err *err);
	int (*lock)(struct sosie_io *io, struct sosie_file *file, bool exclusive, struct sosie_err *err);
	int (*stat)(struct sosie_io *io, const char *path, struct sosie_stat *out, struct sosie_err *err);
	int (*mkdir)(struct sosie_io *io, const char *path, uint32_t mode, struct sosie_err *err);
	int (*rename)(struct sosie_io *io, const char *from, const char *to, struct sosie_err *err);
	int (*unlink)(struct sosie_io *io, const char *path, struct sosie_err *err);
	int (*rmdir)(struct sosie_io *io, const char *path, struct sosie_err *err);
	int (*chmod)(struct sosie_io *io, const char *path, uint32_t mode, struct sosie_err *err);
	int (*sync_dir)(struct sosie_io *io, const char *path, struct sosie_err *err);
	int (*list)(struct sosie_io *io, const char *path, sosie_list_fn fn, void *arg,
	            struct sosie_err *err);
	int (*space)(struct sosie_io *io, const char *path, uint64_t *free, uint64_t *total,
	             struct sosie_err *err);
	int (*buffers)(struct sosie_io *io, void *base, size_t len, struct sosie_err *err);
	void (*submit)(struct sosie_io *io, struct sosie_req *req);
	int (*reap)(struct sosie_io *io, unsigned min, struct sosie_err *err);
};

struct sosie_io {
	const struct sosie_io_ops *ops;
};

/* --- making one
 * ------------------------------------------------------------------------------------------------ */
/* uring where the kernel allows it, else threads; SOSIE_IO=uring|threads forces one. reason (may be NULL, of
 * size bytes) gets why: "io_uring", "threads: io_uring refused (Operation not permitted)", "threads:
 * SOSIE_IO". depth: requests in flight, 1 to 4096. */
int sosie_io_open(unsigned depth, struct sosie_io **out, char *reason, size_t size, struct sosie_err *err);
int sosie_io_uring(unsigned depth, struct sosie_io **out, struct sosie_err *err);
int sosie_io_threads(unsigned depth, struct sosie_io **out, struct sosie_err *err);
int sosie_io_posix(struct sosie_io **out, struct sosie_err *err);
void sosie_io_free(struct sosie_io *io); /* nothing may be in flight; NULL does nothing */

/* --- checked wrappers: each asserts the contract, calls the back end, and names the path in errors
 * ---------------- */
int sosie_io_openat(struct sosie_io *io, const char *path, unsigned flags, uint32_t mode,
                    struct sosie_file **out, struct sosie_err *err);
/* Closes and says whether the system did; NULL is fine. */
int sosie_io_close(struct sosie_io *io, struct sosie_file *file, struct sosie_err *err);
int sosie_io_fstat(struct sosie_io *io, struct sosie_file *file, struct sosie_stat *out,
                   struct sosie_err *err);
int sosie_io_stat(struct sosie_io *io, const char *path, struct sosie_stat *out, struct sosie_err *err);
int sosie_io_truncate(struct sosie_io *io, struct sosie_file *file, uint64_t size, struct sosie_err *err);
/* The range reads as zeros afterwards; punched where possible, else written. Offsets and lengths in bytes,
 * any alignment; the file's size does not change. */
int sosie_io_punch(struct sosie_io *io, struct sosie_file *file, uint64_t off, uint64_t len,
                   struct sosie_err *err);
/* The next extent with data at or after from: [*start, *end). None left: *start = *end = size of the file.
 * Where holes cannot be asked for (block devices), all is data. */
int sosie_io_next_data(struct sosie_io *io, struct sosie_file *file, uint64_t from, uint64_t *start,
                       uint64_t *end, struct sosie_err *err);
/* dst becomes a reflink of src (FICLONE). SOSIE_EUNSUPPORTED where there is no reflink; then dst is
 * unchanged. */
int sosie_io_clone(struct sosie_io *io, struct sosie_file *src, struct sosie_file *dst,
                   struct sosie_err *err);
/* flock(2), never waits: SOSIE_EBUSY when held by another. Gone with the file's close. */
int sosie_io_lock(struct sosie_io *io, struct sosie_file *file, bool exclusive, struct sosie_err *err);
int sosie_io_mkdir(struct sosie_io *io, const char *path, uint32_t mode,
                   struct sosie_err *err); /* SOSIE_EEXISTS */
int sosie_io_rename(struct sosie_io *io, const char *from, const char *to,
                    struct sosie_err *err); /* replaces */
int sosie_io_unlink(struct sosie_io *io, const char *path, struct sosie_err *err);
int sosie_io_rmdir(struct sosie_io *io, const char *path, struct sosie_err *err);
int sosie_io_chmod(struct sosie_io *io, const char *path, uint32_t mode, struct sosie_err *err);
int sosie_io_sync_dir(struct sosie_io *io, const char *path, struct sosie_err *err);
int sosie_io_list(struct sosie_io *io, const char *path, sosie_list_fn fn, void *arg, struct sosie_err *err);
int sosie_io_space(struct sosie_io *io, const char *path, uint64_t *free, uint64_t *total,
                   struct sosie_err *err);
/* Memory of len bytes (multiple of 4096) that will carry requests: registered with the ring. At most one
 * region an instance; a failure to register (memlock limit) is not an error. */
int sosie_io_buffers(struct sosie_io *io, void *base, size_t len, struct sosie_err *err);
void sosie_io_submit(struct sosie_io *io, struct sosie_req *req);
/* Waits until at least min completions have run (0: only looks); returns their number or a negative code. */
int sosie_io_reap(struct sosie_io *io, unsigned min, struct sosie_err *err);

/* --- made of the above
 * ------------------------------------------------------------------------------------------ */
/* Whole transfers, waiting. pread says what it got (less only at the end of the file). */
int sosie_io_pread(struct sosie_io *io, struct sosie_file *file, void *buf, size_t len, uint64_t off,
                   size_t *got, struct sosie_err *err);
int sosie_io_pwrite(struct sosie_io *io, struct sosie_file *file, const void *buf, size_t len, uint64_t off,
                    struct sosie_err *err);
int sosie_io_fsync(struct sosie_io *io, struct sosie_file *file, struct sosie_err *err);
/* Reads a regular file with one link, of at most max bytes, into malloc'd memory with a NUL behind it. */
int sosie_io_read_file(struct sosie_io *io, const char *path, size_t max, char **out, size_t *len,
                       struct sosie_err *err);
/* Durable and atomic: PATH.tmp, fsync, rename, fsync of the directory. */
int sosie_io_write_file(struct sosie_io *io, const char *path, const void *data, size_t len, uint32_t mode,
                        struct sosie_err *err);
/* mkdir unless it is a directory already; the parent is synced when made. */
int sosie_io_ensure_dir(struct sosie_io *io, const char *path, uint32_t mode, struct sosie_err *err);
/* Removes a tree of folders and files, whatever is there; missing is fine. Does not cross mounts or follow
 * links. */
int sosie_io_remove_tree(struct sosie_io *io, const char *path, struct sosie_err *err);
/* dst gets src's bytes: clone where possible, else a copy that keeps holes. *cloned says which. Not synced.
 * progress may be NULL. */
struct sosie_progress;
int sosie_io_copy(struct sosie_io *io, struct sosie_file *src, struct sosie_file *dst, bool *cloned,
                  struct sosie_progress *progress, struct sosie_err *err);
bool sosie_io_exists(struct sosie_io *io, const char *path);

/* --- test back ends (engine/io/fault.c, engine/io/sim.c): linked by tests only
 * -------------------------------------- */
enum sosie_fault { SOSIE_FAULT_NONE, SOSIE_FAULT_ERROR, SOSIE_FAULT_SHORT, SOSIE_FAULT_CORRUPT };
struct sosie_fault_plan {
	enum sosie_fault kind;
	uint64_t
	        at; /* the number of the call (from 0, counting calls that the kind applies to) that is hit */
	bool onwards;   /* and all after it (a full disk stays full) */
	int sys;        /* for ERROR: EIO, ENOSPC … */
	uint64_t calls; /* counted: out */
	uint64_t fired; /* counted: out */
};
/* Over next, which it does not own; plan is borrowed and may be changed between calls. Calls that count:
 * every operation that can fail (open, close, truncate, punch, clone, mkdir, rename, unlink, sync_dir, list,
 * stat and each submitted request). */
int sosie_io_fault(struct sosie_io *next, struct sosie_fault_plan *plan, struct sosie_io **out,
                   struct sosie_err *err);

struct sosie_disk; /* a simulated disk: outlives the io instances over it */
enum sosie_fate { SOSIE_FATE_KEPT, SOSIE_FATE_LOST, SOSIE_FATE_TORN, SOSIE_FATE_REORDERED };
struct sosie_disk *sosie_disk_new(uint64_t capacity, uint64_t seed, bool reflink);
void sosie_disk_free(struct sosie_disk *disk);
int sosie_io_sim(struct sosie_disk *disk, struct sosie_io **out, struct sosie_err *err);
/* Arms a power cut after the n-th operation from now (every write, truncate, rename, unlink, mkdir, fsync,
 * sync_dir … counts one); from then on every call fails with SOSIE_EIO. n = UINT64_MAX disarms. Operations
 * counted so far: sosie_disk_ops. */
void sosie_disk_cut_after(struct sosie_disk *disk, uint64_t n);
bool sosie_disk_is_cut(const struct sosie_disk *disk);
uint64_t sosie_disk_ops(const struct sosie_disk *disk);
/* What the disk shows when power is back: what was synced, and what was not in the given fate: kept as
 * issued; lost whole; torn (each unsynced write keeps a random set of its 512-byte sectors, names a random
 * prefix of their changes); reordered (a random subset of unsynced writes and name changes survives). Locks
 * are gone. All io instances of before must be freed first. */
void sosie_disk_restart(struct sosie_disk *disk, enum sosie_fate fate);

#endif

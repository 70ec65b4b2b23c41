/* SPDX-License-Identifier: MIT */
/* The plain system calls, for posix.c itself and for the back ends that only carry requests differently
 * (uring.c, threads.c). */
#ifndef SOSIE_IO_POSIX_H
#define SOSIE_IO_POSIX_H

#include <stdatomic.h>

#include "engine/io/file.h"

#define POSIX_STEP_MAX (1u << 30) /* bytes moved by one system call; any result fits an int */

/*
 * A file has one descriptor through the page cache and, when direct, a second one for the requests that are
 * aligned: so every request works, whatever its shape. flock, fsync and metadata use the first.
 *
 * An fsync never overtakes a write that was submitted before it: it waits in held until writes is 0, and what
 * arrives for the file meanwhile waits behind it. Both fields belong to the instance's thread.
 */
struct posix_file {
	struct sosie_file file;
	int fd, direct_fd; /* direct_fd is -1 when not direct */
	uint32_t align;    /* of direct I/O; 1 when not direct */
	bool block;        /* a block device */
	atomic_bool
	        direct_refused; /* the kernel refused an aligned direct request: the page cache from now on */
	unsigned writes;        /* started, not completed */
	struct req_list held;
};

struct posix_io {
	struct sosie_io io;
	struct req_list done; /* completed, their callbacks not yet run */
	unsigned in_flight;   /* submitted, callback not yet begun */
};

/* The table of posix, to be copied and changed by other back ends. */
extern const struct sosie_io_ops posix_ops;

/* The file of a request, and the descriptor for what is left of it. */
struct posix_file *posix_file_of(const struct sosie_req *req);
int posix_descriptor(const struct sosie_req *req);

/* Starts results; true when there is nothing to do (a transfer of 0 bytes). */
bool posix_begin(struct sosie_req *req);
/* Takes what a system call or a ring said (bytes, or a negative errno); true when the request is complete. */
bool posix_advance(struct sosie_req *req, long result);
/* The whole request, in the calling thread. */
void posix_transfer(struct sosie_req *req);

/* Runs the callbacks of what is in done now, and of more while fewer than min have run; returns their number.
 * Callbacks may submit and reap. */
int posix_run_done(struct posix_io *p, unsigned min);

/* Whether req may start now; if not it is held, and comes out of posix_release later. */
bool posix_may_start(struct sosie_req *req);
/* To be called for each completed request that had started: what may start because of it. */
void posix_release(struct sosie_req *req, struct req_list *ready);

#endif

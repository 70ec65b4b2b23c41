/* SPDX-License-Identifier: MIT */
/*
 * What a program that parses a peer's bytes may still do: for one that goes on with its own descriptors 0 to
 * 2 and files of its own. Disposable children have a stricter one (sandbox.h).
 *
 * Layers: no new privileges, no core file, no tracing; limits; all other descriptors closed; Landlock with
 * the paths given (Linux 5.13 and later); a list of system calls, any other kills (seccomp(2)). A kernel
 * without Landlock is served by the rest: then the list alone keeps it from sockets, processes and devices,
 * and files are bounded by the user's rights. Without seccomp nothing is entered: the caller must not go on.
 */
#ifndef SOSIE_CONFINE_H
#define SOSIE_CONFINE_H

#include <stddef.h>
#include <stdint.h>

#include "sosie/err.h"

enum sosie_confine_right {
	SOSIE_CONFINE_READ = 1,  /* read files, list folders */
	SOSIE_CONFINE_WRITE = 2, /* write files; make, rename and remove files and folders; no links */
};

/* A folder with all below it, or a file. A link is not followed in the last part and gives nothing; what
 * cannot be reached gives nothing. */
struct sosie_confine_path {
	const char *path;
	unsigned rights; /* of enum sosie_confine_right */
};

/* A system call by its number (SYS_…); when there are conditions, all must hold: (argument & mask) == value.
 */
#define SOSIE_CONFINE_WHEN 2u
struct sosie_confine_call {
	int number;
	unsigned when_count;
	struct {
		unsigned arg; /* from 0; each at most once */
		uint64_t mask, value;
	} when[SOSIE_CONFINE_WHEN];
};

#define SOSIE_CONFINE_PATHS 8u
struct sosie_confine {
	const struct sosie_confine_path *paths;
	size_t path_count; /* at most SOSIE_CONFINE_PATHS */
	const struct sosie_confine_call
	        *calls; /* beside those that every program needs (engine/base/calls.h) */
	size_t call_count;
	uint64_t memory_bytes; /* address space in all */
	uint64_t files;        /* open at once */
};

/*
 * Before the first thread and before the first byte of the peer. There is no way back; on an error the caller
 * ends the process. Builds with a sanitizer have no list of calls, no limit on memory or processes, and may
 * read /proc; builds that count coverage have neither list nor Landlock, because they write files as they
 * end.
 */
int sosie_confine_enter(const struct sosie_confine *rules, struct sosie_err *err);

enum sosie_confine_layer {
	SOSIE_CONFINE_LANDLOCK = 1, /* optional: not every kernel has it */
	SOSIE_CONFINE_SYSCALLS = 2,
	SOSIE_CONFINE_MEMORY = 4,
};
/* The layers that a program gets on this kernel in this build. */
unsigned sosie_confine_layers(void);

/* For "sosie store check" and logs: the Landlock interface of this kernel, 0: none. lacks, of size bytes,
 * gets what of it is missing here ("TCP, signals and abstract sockets"), empty when nothing is; 160 bytes
 * suffice.
 */
int sosie_confine_landlock(char *lacks, size_t size);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * What a disposable child process may do: compute, and talk over the descriptors that it was given. For code
 * that handles hostile bytes and may crash or never end. The parent sets limits on time itself (the child's
 * processor clock, a deadline) and treats the child's death as an answer.
 *
 * Layers: all other descriptors closed, memory shared with others (such as the parent's I/O rings, through
 * which it could act with the parent's rights) taken away, no core file, no new privileges, an end with the
 * parent's thread (but see SOSIE_SANDBOX_WAIT); a limit on memory; Landlock with nothing allowed (Linux 5.13
 * and later, see landlock(7)); a list of system calls, any other kills (seccomp(2)). The memory of the parent
 * at the time of the fork can still be read: what the child says must be checked so that none of it can
 * travel further.
 */
#ifndef SOSIE_SANDBOX_H
#define SOSIE_SANDBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "sosie/err.h"

enum sosie_sandbox_feature {
	SOSIE_SANDBOX_FILES = 1, /* positioned reads and writes, size, flush on the descriptors kept */
	SOSIE_SANDBOX_WAIT =
	        2, /* poll(2), for one that waits on several descriptors; and it does not end with
	              the thread that forked it: it must watch its parent itself (pidfd_open(2)) */
};

enum sosie_sandbox_layer {
	SOSIE_SANDBOX_LANDLOCK = 1, /* optional: not every kernel has it */
	SOSIE_SANDBOX_SYSCALLS = 2,
	SOSIE_SANDBOX_MEMORY = 4,
};

struct sosie_sandbox {
	pid_t parent;          /* who forked, from getpid before the fork */
	const int *keep;       /* descriptors that stay open, ascending */
	unsigned keep_count;   /* 0 is fine */
	const void *shared;    /* the one shared mapping that stays, page-aligned; NULL: none */
	size_t shared_bytes;   /* of it; a multiple of the page or rounded up to one */
	uint64_t memory_bytes; /* address space beyond what is mapped at the call */
	unsigned features;     /* of enum sosie_sandbox_feature */
};

/*
 * For a process forked just now, before its first thread: blocked or handled signals become as at the start
 * of a program, 0 to 2 lead to /dev/null unless kept, then all layers. There is no way back; on an error the
 * caller ends the process. Every layer but Landlock is needed.
 */
int sosie_sandbox_enter(const struct sosie_sandbox *rules, struct sosie_err *err);

/* The layers (enum sosie_sandbox_layer) that a child gets on this kernel in this build. Builds with a
 * sanitizer have Landlock only: its runtime needs more address space and calls than are allowed here. */
unsigned sosie_sandbox_layers(void);

bool sosie_sandbox_seccomp(void); /* the kernel can end a process at a call that is not allowed */

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Lists of system calls (seccomp(2)): what is on no list, and every call of another architecture's table,
 * ends the process. The one file that includes libseccomp is calls.c.
 */
#ifndef SOSIE_BASE_CALLS_H
#define SOSIE_BASE_CALLS_H

#include <stddef.h>

#include "sosie/confine.h"

/*
 * From here on this thread, and what it starts, makes only these calls, and those that every program needs to
 * compute and to end: read, write, memory of its own that is never executable, time, random numbers, its own
 * end. Needs process_shed before.
 */
int calls_restrict(const struct sosie_confine_call *calls, size_t count, struct sosie_err *err);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Landlock rule sets (Documentation/userspace-api/landlock.rst): everything that the kernel's interface can
 * forbid is forbidden, but for the rights given below paths. For this thread and what it starts: before the
 * first other thread. Reading attributes (stat) and walking a path are never forbidden.
 */
#ifndef SOSIE_BASE_LANDLOCK_H
#define SOSIE_BASE_LANDLOCK_H

#include <stddef.h>

#include "sosie/confine.h"

/* The interface that is used: the kernel's, at most what landlock_hold_to says. 0: the kernel has none. */
int landlock_version(void);

/* Confines the calling thread; without Landlock it does nothing. count may be 0: nothing is given then. A
 * path that cannot be reached gives nothing. */
int landlock_restrict(const struct sosie_confine_path *paths, size_t count, struct sosie_err *err);

/* What the version lacks, as one line; empty when nothing that is known here. */
const char *landlock_lacks(char *dst, size_t size, int version);

/* For tests: from now on this process uses no newer interface than this; 0: none. No program includes this
 * header (tests/check/includes.sh). */
void landlock_hold_to(int version);

#endif

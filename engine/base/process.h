/* SPDX-License-Identifier: MIT */
/* What every kind of confinement does to its own process: sandbox.c for disposable children, confine.c for
 * programs. */
#ifndef SOSIE_BASE_PROCESS_H
#define SOSIE_BASE_PROCESS_H

#include <stdint.h>

#include "sosie/err.h"

/* A sanitizer's runtime maps terabytes and makes calls of its own: no limit on memory and no list of calls.
 */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define PROCESS_UNDER_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define PROCESS_UNDER_SANITIZER 1
#endif
#endif
#ifndef PROCESS_UNDER_SANITIZER
#define PROCESS_UNDER_SANITIZER 0
#endif

/* No new privileges by exec, not to be traced by others of its user, no core file. No way back from the
 * first. */
int process_shed(struct sosie_err *err);

/* Both limits of a resource (setrlimit(2)) become value, or stay below it where they are. */
int process_limit(int resource, uint64_t value, struct sosie_err *err);

/* Those of descriptors 0 to 2 that are closed lead to /dev/null: what is opened next must not become one of
 * them. Without /dev/null they stay closed. */
void process_fill_standard(void);

#endif

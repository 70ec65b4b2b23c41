/* SPDX-License-Identifier: MIT */
/* Starting threads and children so that signals reach only who waits for them. */
#ifndef SOSIE_THREAD_H
#define SOSIE_THREAD_H

#include <pthread.h>
#include <sys/types.h>

/* pthread_create with all signals blocked in the new thread (pthread_sigmask(3)), so that they reach the
 * threads that there were before: 0 or an errno. how: NULL, or as there. */
int sosie_thread_start(pthread_t *thread, const pthread_attr_t *how, void *(*run)(void *), void *arg);
/* fork(2) with all signals blocked in the child until sosie_signals_reset: no handler of the parent's runs
 * there. */
pid_t sosie_fork(void);
/* In the child of a fork: every signal does what it does at the start of a program, and none is blocked.
 * Makes only calls that are safe there (signal-safety(7)). */
void sosie_signals_reset(void);

#endif

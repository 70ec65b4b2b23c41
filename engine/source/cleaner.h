/* SPDX-License-Identifier: MIT */
/*
 * btrfs gives removed snapshots back in a thread of the kernel's (btrfs-cleaner) that is woken with the
 * filesystem's transaction thread, each 30 s (btrfs(5), commit=). With a cut each second that is thirty
 * snapshots at once: measured, cuts took 3 s and writers waited 2 s then. So behind a cut that came after a
 * removal the transaction thread is woken: BTRFS_IOC_START_SYNC (Linux 5.17 and later; before that it only
 * commits), whose commit has little to do right behind the cut's own.
 *
 * For each filesystem of the process one commit at a time, waited for, and these take a third of the time at
 * most: where a filesystem cannot keep up with its writers, more commits would only make it worse. How long
 * the giving back itself takes is not known here.
 */
#ifndef ENGINE_SOURCE_CLEANER_H
#define ENGINE_SOURCE_CLEANER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct cleaner_filesystem;
/* Of one source; all zero at first. Its user's thread's, but for fs and fd while the thread runs. */
struct cleaner {
	bool removed; /* a snapshot, since the last call: set by the driver */
	bool started; /* thread is to be joined */
	pthread_t thread;
	struct cleaner_filesystem *fs;
	int fd;
};

/* A cut was made on the filesystem of top_fd; now_ns: CLOCK_MONOTONIC. Returns at once. True: the kernel is
 * being asked. Whatever fails costs the smoothness alone. */
bool cleaner_after_cut(struct cleaner *c, int top_fd, int64_t now_ns);
/* Waits for a call that is under way. */
void cleaner_end(struct cleaner *c);

#endif

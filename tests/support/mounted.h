/* SPDX-License-Identifier: MIT */
/*
 * A loop-mounted filesystem for one test. The mount lives in a mount namespace of the test process and the
 * image has no name, so nothing is left behind however the process ends, but for an empty folder in the
 * temporary directory when it crashes.
 */
#ifndef TESTS_MOUNTED_H
#define TESTS_MOUNTED_H

#include <stdbool.h>

struct mounted {
	char dir[96]; /* the mount point */
};
/* NULL when it can be done here, else the reason why not. Moves the process into a namespace of its own: call
 * it while there is one thread. */
const char *mounted_possible(const char *mkfs);
/* mkfs: "mkfs.xfs -q"; options: of mount, may be empty. False with a message printed. */
bool mounted_up(struct mounted *m, const char *mkfs, const char *options, unsigned mib);
void mounted_down(struct mounted *m);
/* A shell command, printf style; its exit status, output to stderr only when it fails. */
int mounted_run(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif

/* SPDX-License-Identifier: MIT */
/* A cgroup v2 folder for one test, which needs root; it is gone with cgroup_down, also where it was frozen.
 */
#ifndef TESTS_CGROUP_H
#define TESTS_CGROUP_H

#include <stdbool.h>

struct cgroup {
	char path[128]; /* empty: none */
};
/* False, with a message, where none can be made. */
bool cgroup_up(struct cgroup *g, const char *name);
/* Thaws it and waits for the end of what is in it (whoever calls has killed that). */
void cgroup_down(struct cgroup *g);
/* Writes text to a file of it; reads the beginning of one. */
void cgroup_put(const struct cgroup *g, const char *file, const char *text);
bool cgroup_says(const struct cgroup *g, const char *file, const char *word);

#endif

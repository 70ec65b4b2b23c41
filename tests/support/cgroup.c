/* SPDX-License-Identifier: MIT */
/* See cgroup.h. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/cgroup.h"

bool cgroup_up(struct cgroup *g, const char *name)
{
	static const char *const roots[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"};
	char procs[64];

	for (size_t i = 0; i < sizeof(roots) / sizeof(roots[0]); i++) {
		snprintf(procs, sizeof(procs), "%s/cgroup.procs", roots[i]);
		snprintf(g->path, sizeof(g->path), "%s/sosie-%.40s-%d", roots[i], name, (int)getpid());
		if (access(procs, W_OK) == 0 && mkdir(g->path, 0755) == 0)
			return true;
	}
	g->path[0] = '\0';
	printf("  skipped: no cgroup2 that may be written\n");
	return false;
}

void cgroup_down(struct cgroup *g)
{
	if (!g->path[0])
		return;
	cgroup_put(g, "cgroup.freeze", "0");
	for (unsigned i = 0; rmdir(g->path) != 0 && errno == EBUSY && i < 200; i++)
		poll(NULL, 0, 10);
	g->path[0] = '\0';
}

void cgroup_put(const struct cgroup *g, const char *file, const char *text)
{
	char path[200];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", g->path, file);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	(void)!write(fd, text, strlen(text));
	close(fd);
}

bool cgroup_says(const struct cgroup *g, const char *file, const char *word)
{
	char path[200], text[256];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", g->path, file);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = '\0';
	return strstr(text, word) != NULL;
}

/* SPDX-License-Identifier: MIT */
/* The keeper's bell: a FIFO in the inbox. The one place beside the posix back end that opens a path. */
#include "engine/inbox/internal.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* The FIFO opened for writing, or -1: no keeper has it open for reading, or there is none (as on a simulated
 * disk). */
static int bell_open(struct sosie_inbox *in)
{
	struct inbox_path p;
	struct sosie_stat st;
	struct stat real;
	const char *path = inbox_path_of(in, &p, "_inbox/notify");
	if (sosie_io_stat(in->io, path, &st, NULL) || st.kind != SOSIE_KIND_OTHER)
		return -1;
	int fd = open(path, O_WRONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
	if (fd >= 0 && (fstat(fd, &real) || !S_ISFIFO(real.st_mode))) {
		close(fd);
		return -1;
	}
	return fd;
}

bool sosie_inbox_keeper(struct sosie_inbox *in)
{
	int fd = bell_open(in);
	if (fd < 0)
		return false;
	close(fd);
	return true;
}

/* A full FIFO is as good: the keeper has not looked yet. */
void inbox_bell_ring(struct sosie_inbox *in)
{
	int fd = bell_open(in);
	if (fd < 0)
		return;
	ssize_t n = write(fd, "\n", 1);
	(void)n;
	close(fd);
}

/* SPDX-License-Identifier: MIT */
/* Rights, limits and standard descriptors of the own process. */
#include <errno.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "engine/base/process.h"

int process_shed(struct sosie_err *err)
{
	if (prctl(PR_SET_DUMPABLE, 0) != 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return sosie_err_sys(err, errno, "cannot confine a process");
	return process_limit(RLIMIT_CORE, 0, err);
}

int process_limit(int resource, uint64_t value, struct sosie_err *err)
{
	struct rlimit max;

	if (getrlimit((__rlimit_resource_t)resource, &max) != 0)
		return sosie_err_sys(err, errno, "cannot read the limits of a process");
	if (max.rlim_max > value)
		max.rlim_max = value;
	max.rlim_cur = max.rlim_max;
	if (setrlimit((__rlimit_resource_t)resource, &max) != 0)
		return sosie_err_sys(err, errno, "cannot limit a process");
	return 0;
}

void process_fill_standard(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd > STDERR_FILENO)
		close(fd);
}

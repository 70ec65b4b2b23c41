/* SPDX-License-Identifier: MIT */
/* The limit of open files. */
#include <sys/resource.h>

#include "tools/common/file_limit.h"

void file_limit_raise(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
	}
}

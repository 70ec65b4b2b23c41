/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_FILE_LIMIT_H
#define TOOLS_FILE_LIMIT_H

/* As many open files as the system lets this process have (getrlimit(2), RLIMIT_NOFILE): a daemon holds one
 * or more for each group. */
void file_limit_raise(void);

#endif

/* SPDX-License-Identifier: MIT */
/* sosied --config FILE: all groups of a file, until a signal; and --check-config. */
#ifndef TOOLS_SOSIED_DAEMON_H
#define TOOLS_SOSIED_DAEMON_H

#include "sosie/err.h"

int daemon_check(const char *file, struct sosie_err *err);
int daemon_run(const char *file, struct sosie_err *err);

#endif

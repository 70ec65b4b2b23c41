/* SPDX-License-Identifier: MIT */
/*
 * A wish to stop (SIGINT, SIGTERM, SIGHUP): the first signal sets a flag, a second one of the same kind ends
 * the process at once. Long work under the engine ends at its next read or write when it runs over the filter
 * that stop_io makes.
 */
#ifndef TOOLS_STOP_H
#define TOOLS_STOP_H

#include <stdbool.h>

#include "sosie/io.h"

/* Installs the handlers and ignores SIGPIPE; once, before threads start. System calls that wait return with
 * EINTR. */
void stop_install(void);
bool stop_wanted(void);
/* The same flag for interfaces that take a pointer (struct sosie_serve_options); read it with
 * __atomic_load_n. */
const bool *stop_flag(void);

/* A filter over next, which it does not own: once a stop is wanted every read and write fails (ECANCELED),
 * while opening, renaming, unlinking and fsync go on, so that callers can clean up behind themselves. */
int stop_io(struct sosie_io *next, struct sosie_io **out, struct sosie_err *err);

#endif

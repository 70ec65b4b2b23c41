/* SPDX-License-Identifier: MIT */
/* Writes the metrics file, on a thread of its own: the folder may hang, the keeper does not. */
#ifndef TOOLS_KEEPER_SCRIBE_H
#define TOOLS_KEEPER_SCRIBE_H

#include <stddef.h>

#include "sosie/err.h"

struct scribe;
/* path is copied. */
int scribe_start(const char *path, struct scribe **out, struct sosie_err *err);
/* Takes text (malloc'd) in the place of one that was not written yet. */
void scribe_take(struct scribe *s, char *text, size_t len);
/* Writes what is there yet, and ends. NULL is fine. */
void scribe_stop(struct scribe *s);

#endif

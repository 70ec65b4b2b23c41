/* SPDX-License-Identifier: MIT */
/*
 * The daemon's socket, STATE/control.sock (mode 0600): one line "status", one JSON document, end. A thread of
 * its own serves a few clients at once, each with a deadline, so that no client, however slow, blocks the
 * daemon or another client for good. STATE/lock holds a second daemon off.
 */
#ifndef TOOLS_SOSIED_CONTROL_H
#define TOOLS_SOSIED_CONTROL_H

#include <stddef.h>

#include "sosie/err.h"

struct control;
/* Takes the lock; the folder is made when missing. SOSIE_EBUSY: another daemon runs on it. */
int control_lock(const char *state, struct control **out, struct sosie_err *err);
/* answer: malloc'd text, freed here; called from the control's thread. */
int control_listen(struct control *c,
                   int (*answer)(void *arg, char **text, size_t *len, struct sosie_err *err), void *arg,
                   struct sosie_err *err);
void control_unlisten(struct control *c); /* NULL is fine; answer is not called any more */
void control_close(struct control *c);    /* NULL is fine; lets the lock go */

#endif

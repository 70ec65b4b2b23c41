/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_OWNER_H
#define TOOLS_OWNER_H

#include <stdbool.h>

#include "sosie/err.h"

/* For a program that writes into a store: root becomes the user that the store belongs to, so that all files
 * there stay that user's and its keeper can go on. Others, and root in its own store, stay who they are.
 * Before the first thread. root_again: owner_leave will be called. Sets the umask to 0027 in any case:
 * folders get setgid from the one above, and chmod, which a stricter umask would make necessary, takes it
 * away. */
int owner_become(const char *store, bool root_again, struct sosie_err *err);
int owner_leave(struct sosie_err *err);

#endif

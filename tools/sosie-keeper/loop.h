/* SPDX-License-Identifier: MIT */
/* The keeper's loop: pokes from receivers, a look at all inboxes every 2 s, settling, waiting uploads with
 * backoff. */
#ifndef TOOLS_KEEPER_LOOP_H
#define TOOLS_KEEPER_LOOP_H

#include "sosie/log.h"
#include "sosie/store.h"

/* Takes what is there and settles. 0 also when groups failed: those are logged. */
int loop_once(struct sosie_store *store, struct sosie_err *err);
/* Until stop says so; ends with all heads settled. One bad group or tenant does not end it. */
int loop_run(struct sosie_store *store, bool (*stop)(void), struct sosie_err *err);

#endif

/* SPDX-License-Identifier: MIT */
/* The keeper's loop: pokes from receivers, a look at all inboxes every 2 s, turns of tenants, settling,
 * waiting uploads with backoff; alarms and metrics. */
#ifndef TOOLS_KEEPER_LOOP_H
#define TOOLS_KEEPER_LOOP_H

#include "sosie/log.h"
#include "sosie/store.h"
#include "tools/sosie-keeper/herald.h"
#include "tools/sosie-keeper/scribe.h"

/* Where alarms and metrics go; each may be NULL. */
struct loop_outputs {
	struct herald *herald;
	struct scribe *scribe;
};

/* Takes what is there and settles. 0 also when groups failed: those are logged. */
int loop_once(struct sosie_store *store, const struct loop_outputs *outputs, struct sosie_err *err);
/* Until stop says so; ends with all heads settled. One bad group or tenant does not end it. */
int loop_run(struct sosie_store *store, const struct loop_outputs *outputs, bool (*stop)(void),
             struct sosie_err *err);

#endif

/* SPDX-License-Identifier: MIT */
/* Pins as pruning sees them: from the audit log itself, which is the truth. */
#ifndef SOSIE_STORE_PINS_H
#define SOSIE_STORE_PINS_H

#include "engine/store/core.h"
#include "sosie/retention.h"

/* Ascending, malloc'd; those whose unpinning has come of age by good_ms are left out. Under the group's lock:
 * also mends state/pins.json where a crash left it behind. SOSIE_ECORRUPT: the log lacks what its copy has.
 */
int pins_of_log(struct sosie_group *g, int64_t good_ms, struct sosie_pin **pins, unsigned *count,
                struct sosie_err *err);

#endif

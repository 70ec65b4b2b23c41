/* SPDX-License-Identifier: MIT */
/* Tells alarms to the operator's program, on a thread of its own: the keeper never waits for it. */
#ifndef TOOLS_KEEPER_HERALD_H
#define TOOLS_KEEPER_HERALD_H

#include <stddef.h>

#include "sosie/alarm.h"

struct herald;
/* program is copied. */
int herald_start(const char *program, int64_t repeat_ms, struct herald **out, struct sosie_err *err);
/* All alarms that there are, closed ones among them: what is new is told, what is gone counts as closed. */
void herald_alarms(struct herald *h, const struct sosie_alarm *list, size_t count);
/* Ends a run under way; what was not told is told by the next keeper. NULL is fine. */
void herald_stop(struct herald *h);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * "same" messages (docs/protocol.md) as a peer wrote them: JSON to a summary of fixed size, in a disposable
 * child (engine/store/confined.h), and the summary judged as if it were random bytes, in the keeper.
 */
#ifndef SOSIE_STORE_SAME_MESSAGE_H
#define SOSIE_STORE_SAME_MESSAGE_H

#include "sosie/digest.h"
#include "sosie/names.h"

#define SAME_BYTES (1u << 20)
#define SAME_GROUPS 16384u
#define SAME_TIME_MAX ((int64_t)1 << 53) /* ms */

struct same_group {
	struct sosie_name group;
	struct sosie_digest digest;
	uint64_t ago_ms;
};
struct same_summary {
	uint32_t has_clock, count;
	int64_t at_ms, plus_ms; /* the standby's clock in its last message, and from there to this one */
	struct same_group groups[SAME_GROUPS];
};
/* In the child. Groups that are odd are left out; SOSIE_ECORRUPT for a message that is. */
int same_get(const void *text, size_t len, struct same_summary *out, struct sosie_err *err);

/* What a message says. */
struct same_said {
	bool has_clock;
	int64_t at_ms, plus_ms;    /* both 0 to SAME_TIME_MAX, at_ms at least 1 */
	struct same_group *groups; /* malloc'd; names checked, ago_ms at most SAME_TIME_MAX */
	unsigned count;
};
/* In the parent, of a copy of a summary. */
int same_judge(const struct same_summary *s, struct same_said *out, struct sosie_err *err);

#endif

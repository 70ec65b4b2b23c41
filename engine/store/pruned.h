/* SPDX-License-Identifier: MIT */
/*
 * state/pruned.json: which points the standby has let go (docs/format.md). Durable before anything of them is
 * unlinked, so that a part that is missing is covered by it or is damage; every point that it does not name
 * has its segment, and can be made.
 */
#ifndef SOSIE_STORE_PRUNED_H
#define SOSIE_STORE_PRUNED_H

#include "engine/store/core.h"
#include "sosie/retention.h"

#define PRUNED_RANGES_MAX 65536u

struct pruned {
	struct sosie_pruned *ranges; /* ascending, disjoint, owned */
	size_t count;
};
/* A group that has pruned nothing has no file. SOSIE_ECORRUPT: then nothing may be pruned, and what is
 * missing cannot be told from what was let go. */
int pruned_read(struct sosie_group *g, struct pruned *out, struct sosie_err *err);
void pruned_fini(struct pruned *p);
/* The range that has the point, or NULL. */
const struct sosie_pruned *pruned_find(const struct pruned *p, uint64_t point);
/* Whether any point of [first, last] is gone. */
bool pruned_any(const struct pruned *p, uint64_t first, uint64_t last);
/* Adds the points, given as ascending, disjoint ranges of none that is there already; then durably written
 * with pruned_write. Neighbours of one day and reason become one range; so do all, when there are too many.
 */
int pruned_add(struct pruned *p, const struct sosie_pruned *ranges, size_t count, struct sosie_err *err);
int pruned_write(struct sosie_group *g, const struct pruned *p, struct sosie_err *err);
/* SOSIE_ENOTFOUND with what to do instead. */
int pruned_refuse(struct sosie_group *g, const struct pruned *p, uint64_t point, struct sosie_err *err);

#endif

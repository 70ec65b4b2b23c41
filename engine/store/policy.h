/* SPDX-License-Identifier: MIT */
/* What the files of the store share about policies (docs/format.md, "Policies"). */
#ifndef SOSIE_STORE_POLICY_H
#define SOSIE_STORE_POLICY_H

#include "engine/store/core.h"
#include "engine/store/retain.h"

/* The policy of the group as of good_ms (struct sosie_clock_state). */
int policy_of_group(struct sosie_group *g, int64_t good_ms, struct sosie_policy_view *out,
                    struct sosie_err *err);
void policy_rules(const struct sosie_policy_view *view, struct retain_policy *out);
/* When a generation is due: the group's own, else those of sosie.json. A policy that cannot be read counts as
 * none: folding is no matter of what stays. */
void policy_fold(struct sosie_group *g, struct sosie_policy *out);
/* Puts a quota whose time has come into tenant.json. */
int policy_ripen_quota(struct sosie_store *store, const char *tenant, int64_t good_ms, struct sosie_err *err);
/* Held shared from reading a policy until what it lets go is recorded, exclusively by who changes one. Waits
 * at most wait_ms, then SOSIE_EBUSY. */
int policy_lock(struct sosie_store *store, bool exclusive, int64_t wait_ms, struct sosie_file **out,
                struct sosie_err *err);
/* SOSIE_ECLOCK: what ("nothing is pruned"), and why. clock has jumped. */
int clock_refuse(const struct sosie_clock_state *clock, const char *what, struct sosie_err *err);
/* tenant.c: the one truth about a tenant's quota. */
int tenant_set_quota(struct sosie_store *store, const char *tenant, uint64_t quota, struct sosie_err *err);

#endif

/* SPDX-License-Identifier: MIT */
/* The objective for the age of a group's newest state: "rpo" of the policy that is in force for it. */
#include <stdlib.h>

#include "engine/store/quota.h"
#include "sosie/retention.h"

int group_objective(struct sosie_group *g, uint64_t *rpo_ms, struct sosie_err *err)
{
	struct sosie_policy_view *view = malloc(sizeof(*view));
	*rpo_ms = 0;
	int rc = view ? sosie_policy_view(g->store, g->tenant.s, g->name.s, view, err)
	              : sosie_err_set(err, SOSIE_ENOMEM, "no memory to read a policy");
	if (!rc && view->values[SOSIE_POLICY_RPO].set)
		*rpo_ms = view->values[SOSIE_POLICY_RPO].value;
	free(view);
	return rc;
}

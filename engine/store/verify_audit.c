/* SPDX-License-Identifier: MIT */
/* Verification of the audit logs: every entry's digest and its link to the one before. */
#include <string.h>

#include "engine/store/audit.h"
#include "engine/store/verify.h"

static int count(void *arg, const struct sosie_audit_entry *e)
{
	(void)e;
	++*(uint64_t *)arg;
	return 0;
}

static int verify_log(struct verify *w, const char *tenant, struct sosie_err *err)
{
	struct sosie_err failure;
	sosie_err_clear(&failure);
	int rc = sosie_audit_each(w->g->store, tenant, count, &w->v->audit_entries, &failure);
	if (rc == -SOSIE_EDENIED)
		w->v->audit_denied = true; /* the logs are the store's owner's alone */
	return rc == 0 || rc == -SOSIE_EDENIED
	               ? 0
	               : verify_failure(w, rc, failure.where[0] ? failure.where : "_audit", &failure, err);
}

int verify_audit(struct verify *w, struct sosie_err *err)
{
	int rc = verify_log(w, w->g->tenant.s, err);
	return rc ? rc : verify_log(w, NULL, err);
}

/* SPDX-License-Identifier: MIT */
/* What one process remembers of a group between calls. Everything in it is checked against the disk before it
 * is used. */
#include <stdlib.h>
#include <string.h>

#include "engine/store/core.h"

struct store_memo *memo_find(struct sosie_store *store, const char *tenant, const char *group)
{
	struct store_memo *m = store->memos;
	while (m && (strcmp(m->tenant.s, tenant) != 0 || strcmp(m->group.s, group) != 0))
		m = m->next;
	return m;
}

int memo_get(struct sosie_store *store, const char *tenant, const char *group, struct store_memo **out,
             struct sosie_err *err)
{
	*out = memo_find(store, tenant, group);
	if (*out)
		return 0;
	struct store_memo *m = calloc(1, sizeof(*m));
	if (!m)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory to work on %s/%s", tenant, group);
	int rc = sosie_name_set(&m->tenant, SOSIE_NAME_TENANT, tenant, err);
	if (!rc)
		rc = sosie_name_set(&m->group, SOSIE_NAME_GROUP, group, err);
	if (rc) {
		free(m);
		return rc;
	}
	m->next = store->memos;
	store->memos = m;
	*out = m;
	return 0;
}

void memo_drop_head(struct store_memo *memo)
{
	images_close(memo->set, NULL);
	memo->set = NULL;
	memo->mark_ino = memo->applied = 0;
}

void memo_free_all(struct sosie_store *store)
{
	while (store->memos) {
		struct store_memo *m = store->memos;
		store->memos = m->next;
		refusal_audit(store, m, true);
		memo_drop_head(m);
		free(m);
	}
}

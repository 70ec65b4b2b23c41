/* SPDX-License-Identifier: MIT */
/* Sessions of the workers: opened when one is needed, kept between cycles, all closed after an error (a part
 * may be open in any). */
#include <stdlib.h>
#include <string.h>

#include "engine/replicate/internal.h"

#define IDLE_MS 20000 /* after that a kept session is asked whether it lives before it is relied on */

int session_get(struct sosie_replicator *r, unsigned i, struct sosie_session **out, struct sosie_err *err)
{
	int64_t now = sosie_mono_ms(r->o.clock);
	int rc = 0;

	if (r->sessions[i] && now - r->session_used_ms[i] > IDLE_MS &&
	    sosie_session_ping(r->sessions[i], NULL) != 0) {
		sosie_session_close(r->sessions[i]);
		r->sessions[i] = NULL;
	}
	if (!r->sessions[i])
		rc = sosie_session_open(r->o.connector, r->o.clock, SOFTWARE, &r->sessions[i], err);
	if (rc != 0)
		r->sessions[i] = NULL;
	r->session_used_ms[i] = sosie_mono_ms(r->o.clock);
	*out = r->sessions[i];
	return rc;
}

void sessions_close(struct sosie_replicator *r)
{
	for (unsigned i = 0; i < STREAMS_MAX; i++) {
		sosie_session_close(r->sessions[i]);
		r->sessions[i] = NULL;
	}
}

uint64_t sessions_sent(const struct sosie_replicator *r)
{
	struct sosie_session_info info;
	uint64_t sum = 0;

	for (unsigned i = 0; i < STREAMS_MAX; i++) {
		if (!r->sessions[i])
			continue;
		sosie_session_info(r->sessions[i], &info);
		sum += info.sent;
	}
	return sum;
}

static void set_genesis(struct sosie_replicator *r, const struct sosie_store_id *store,
                        struct sosie_head *head)
{
	memset(head, 0, sizeof(*head));
	head->store = *store;
	head->epoch = 1;
	snprintf(head->tenant.s, sizeof(head->tenant.s), "%s", r->o.tenant);
	snprintf(head->group.s, sizeof(head->group.s), "%s", r->o.group);
	sosie_hash_start(r->hash, "sosie genesis1");
	sosie_hash_add(r->hash, store->b, sizeof(store->b));
	sosie_hash_add_text(r->hash, r->o.tenant);
	sosie_hash_add_text(r->hash, r->o.group);
	sosie_hash_end(r->hash, &head->digest);
}

static int check_identity(const struct sosie_replicator *r, const struct sosie_session_info *info,
                          const struct sosie_head *head, struct sosie_err *err)
{
	if (strcmp(info->tenant.s, r->o.tenant) != 0) {
		sosie_err_set(err, SOSIE_EAUTH, "the standby knows our key as tenant %s, not %s",
		              info->tenant.s, r->o.tenant);
		return sosie_err_action(err, "use the key that was registered for %s, or --to …/%s/%s",
		                        r->o.tenant, info->tenant.s, r->o.group);
	}
	if (strcmp(head->tenant.s, r->o.tenant) != 0 || strcmp(head->group.s, r->o.group) != 0 ||
	    memcmp(&head->store, &info->store, sizeof(head->store)) != 0)
		return sosie_err_set(err, SOSIE_EPROTO,
		                     "the standby's head statement is of another group or store: %s/%s",
		                     head->tenant.s, head->group.s);
	return 0;
}

static int ask(struct sosie_replicator *r, struct sosie_head *head, struct sosie_err *err)
{
	struct sosie_session_info info;
	struct sosie_session *s;
	char *text = NULL;
	size_t len = 0;
	int rc = session_get(r, 0, &s, err);

	if (rc == 0)
		rc = sosie_session_head(s, r->o.group, &text, &len, &r->keeper, err);
	if (rc != 0)
		return rc;
	sosie_session_info(s, &info);
	set_genesis(r, &info.store, head);
	if (text)
		rc = sosie_head_parse(text, len, head, err);
	free(text);
	return rc == 0 ? check_identity(r, &info, head, err) : rc;
}

int session_ask_head(struct sosie_replicator *r, struct sosie_head *head, struct sosie_err *err)
{
	bool kept = r->sessions[0] != NULL;
	int rc = ask(r, head, err);

	if (kept && (rc == -SOSIE_EPEER || rc == -SOSIE_ETIMEOUT)) {
		sessions_close(r);
		rc = ask(r, head, err);
	}
	return rc;
}

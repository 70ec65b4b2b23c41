/* SPDX-License-Identifier: MIT */
/* Sessions of the workers: taken from the pool when one is needed, given back at the cycle's end; closed
 * after an error that may have left a part open in one. */
#include <stdlib.h>
#include <string.h>

#include "engine/replicate/internal.h"

static uint64_t sent_by(struct sosie_session *s)
{
	struct sosie_session_info info;

	sosie_session_info(s, &info);
	return info.sent;
}

static void give(struct sosie_replicator *r, unsigned i, bool whole)
{
	struct sosie_session *s = r->sessions[i];

	if (!s)
		return;
	/* Workers may find theirs dead at the same time. */
	__atomic_add_fetch(&r->sent_bytes, sent_by(s) - r->session_mark[i], __ATOMIC_RELAXED);
	r->sessions[i] = NULL;
	pool_give(r->o.pool, s, whole);
}

int session_get(struct sosie_replicator *r, unsigned i, struct sosie_session **out, struct sosie_err *err)
{
	int64_t now = sosie_mono_ms(r->o.clock);
	bool fresh;
	int rc = 0;

	if (r->sessions[i] && now - r->session_used_ms[i] > IDLE_PING_MS &&
	    sosie_session_ping(r->sessions[i], NULL) != 0) {
		give(r, i, false);
		pool_flush(r->o.pool); /* none there was used later */
	}
	if (!r->sessions[i]) {
		rc = pool_take(r->o.pool, &r->sessions[i], &fresh, err);
		if (rc != 0)
			r->sessions[i] = NULL;
		else
			r->session_mark[i] = fresh ? 0 : sent_by(r->sessions[i]);
		if (i == 0)
			r->session_kept = rc == 0 && !fresh;
	}
	r->session_used_ms[i] = sosie_mono_ms(r->o.clock);
	*out = r->sessions[i];
	return rc;
}

void sessions_give(struct sosie_replicator *r, bool whole)
{
	for (unsigned i = 0; i < STREAMS_MAX; i++)
		give(r, i, whole);
}

uint64_t sessions_sent(const struct sosie_replicator *r)
{
	uint64_t sum = r->sent_bytes;

	for (unsigned i = 0; i < STREAMS_MAX; i++)
		if (r->sessions[i])
			sum += sent_by(r->sessions[i]) - r->session_mark[i];
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

int session_check_tenant(const struct sosie_session *s, const char *tenant, const char *standby,
                         struct sosie_err *err)
{
	struct sosie_session_info info;

	sosie_session_info(s, &info);
	if (strcmp(info.tenant.s, tenant) == 0)
		return 0;
	sosie_err_set(err, SOSIE_EAUTH, "the standby knows our key as tenant %s, not %s", info.tenant.s,
	              tenant);
	sosie_err_where(err, "%s", standby);
	return sosie_err_action(err, "use the key that was registered for %s, or name the tenant %s", tenant,
	                        info.tenant.s);
}

static int check_head(const struct sosie_replicator *r, const struct sosie_session_info *info,
                      const struct sosie_head *head, struct sosie_err *err)
{
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
		rc = session_check_tenant(s, r->o.tenant, r->o.standby, err);
	if (rc == 0)
		rc = sosie_session_head(s, r->o.group, &text, &len, &r->keeper, err);
	if (rc != 0)
		return rc;
	sosie_session_info(s, &info);
	set_genesis(r, &info.store, head);
	if (text)
		rc = trust_statement(r->o.pool, text, &len, err);
	if (text && rc == 0)
		rc = sosie_head_parse(text, len, head, err);
	free(text);
	return rc == 0 ? check_head(r, &info, head, err) : rc;
}

int session_ask_head(struct sosie_replicator *r, struct sosie_head *head, struct sosie_err *err)
{
	int rc = ask(r, head, err);

	/* One that was kept from before may have died meanwhile, and with it all that lie idle. */
	if (r->session_kept && (rc == -SOSIE_EPEER || rc == -SOSIE_ETIMEOUT)) {
		sessions_give(r, false);
		pool_flush(r->o.pool);
		rc = ask(r, head, err);
	}
	r->session_kept = false;
	return rc;
}

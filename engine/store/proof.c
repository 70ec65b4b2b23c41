/* SPDX-License-Identifier: MIT */
/*
 * Exported heads: the standby's signed word on where a chain ends now. Kept elsewhere (by the tenant, a
 * notary, with a time stamp), it shows later that history was not rewritten since: the chain must still have
 * that entry at that place, and each entry has the digest of the one before.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/store/chain.h"

static struct sosie_json *describe(const struct sosie_group *g)
{
	struct sosie_json *j = sosie_json_new();
	sosie_json_set_u64(j, "format", STORE_FORMAT);
	sosie_json_set_str(j, "kind", "exported-head");
	sosie_json_set_hex(j, "store", g->store->info.id.b, sizeof(g->store->info.id.b));
	sosie_json_set_str(j, "tenant", g->tenant.s);
	sosie_json_set_str(j, "group", g->name.s);
	sosie_json_set_u64(j, "epoch", chain_epoch(g->chain));
	sosie_json_set_u64(j, "point", chain_newest_point(g->chain));
	sosie_json_set_u64(j, "entries", chain_entries(g->chain));
	sosie_json_set_hex(j, "digest", chain_last(g->chain)->b, SOSIE_DIGEST_LEN);
	layout_set_time(j, "time", sosie_wall_ms(g->store->clock));
	return j;
}

int sosie_group_export_head(struct sosie_group *g, char **text, size_t *len, struct sosie_err *err)
{
	struct sosie_json *j = describe(g);
	*text = NULL;
	if (!g->store->signer) {
		sosie_json_free(j);
		sosie_err_set(err, SOSIE_ECONFIG, "the store has no key that could sign a head");
		return sosie_err_action(err, "make one: sosie store key %s", g->store->path);
	}
	int rc = sosie_json_text(j, 0, text, len, err);
	sosie_json_free(j);
	return rc ? rc : store_sign(g->store, SOSIE_SIGN_HEAD, text, len, err);
}

static int parse_names(const struct sosie_json *j, const struct sosie_group *g, struct sosie_err *err)
{
	const char *kind, *tenant, *group;
	struct sosie_store_id store;
	int rc = sosie_json_str(j, "kind", 16, &kind, err);
	if (!rc && strcmp(kind, "exported-head") != 0)
		return sosie_err_set(err, SOSIE_ECORRUPT, "it is no exported head");
	if (!rc)
		rc = sosie_json_hex(j, "store", store.b, sizeof(store.b), err);
	if (!rc)
		rc = sosie_json_str(j, "tenant", SOSIE_NAME_MAX, &tenant, err);
	if (!rc)
		rc = sosie_json_str(j, "group", SOSIE_NAME_MAX, &group, err);
	if (rc)
		return rc;
	if (memcmp(&store, &g->store->info.id, sizeof(store)) != 0 || strcmp(tenant, g->tenant.s) != 0 ||
	    strcmp(group, g->name.s) != 0)
		return sosie_err_set(err, SOSIE_ECONFIG, "the exported head is of another store or group");
	return 0;
}

static int parse(const char *text, size_t len, const struct sosie_group *g, struct sosie_exported_head *out,
                 struct sosie_err *err)
{
	static const char *const keys[] = {"format", "kind",    "store",  "tenant", "group", "epoch",
	                                   "point",  "entries", "digest", "time",   NULL};
	struct sosie_json *j = NULL;
	uint64_t format = 0;
	int rc = sosie_json_parse(text, len, STORE_SMALL_FILE, &j, err);
	if (!rc)
		rc = sosie_json_u64(j, "format", UINT32_MAX, &format, err);
	if (!rc && format > STORE_FORMAT)
		rc = sosie_err_set(err, SOSIE_ENEWER, "the exported head was written by a newer release");
	if (!rc)
		rc = sosie_json_only(j, keys, err);
	if (!rc)
		rc = parse_names(j, g, err);
	if (!rc)
		rc = sosie_json_u64(j, "epoch", INT64_MAX, &out->epoch, err);
	if (!rc)
		rc = sosie_json_u64(j, "point", INT64_MAX, &out->point, err);
	if (!rc)
		rc = sosie_json_u64(j, "entries", INT64_MAX, &out->entries, err);
	if (!rc)
		rc = sosie_json_hex(j, "digest", out->digest.b, SOSIE_DIGEST_LEN, err);
	if (!rc)
		rc = layout_json_time(j, "time", &out->time_ms, err);
	sosie_json_free(j);
	return rc;
}

static const struct sosie_digest *entry_at(const struct sosie_chain *chain, uint64_t entries)
{
	return entries ? &chain_entry(chain, entries - 1)->digest : &chain->genesis;
}

int sosie_group_check_head(struct sosie_group *g, const char *text, size_t len,
                           const struct sosie_public *standby, struct sosie_exported_head *out,
                           struct sosie_err *err)
{
	const struct sosie_public *key = standby                 ? standby
	                                 : g->store->has_standby ? &g->store->standby
	                                                         : NULL;
	unsigned which;
	memset(out, 0, sizeof(*out));
	if (!key)
		return sosie_err_set(err, SOSIE_ECONFIG,
		                     "the store has no standby.pub to check the exported head with");
	int rc = sosie_signed_check(text, len, SOSIE_SIGN_HEAD, key, 1, &which, err);
	if (!rc)
		rc = parse(text, sosie_signed_text(text, len), g, out, err);
	if (rc)
		return rc;
	if (out->entries > chain_entries(g->chain))
		return sosie_err_set(
		        err, SOSIE_ECORRUPT,
		        "history was cut: the exported head has %llu entries, the chain has %llu",
		        (unsigned long long)out->entries, (unsigned long long)chain_entries(g->chain));
	if (!sosie_digest_equal(entry_at(g->chain, out->entries), &out->digest))
		return sosie_err_set(err, SOSIE_ECORRUPT,
		                     "history was rewritten: entry %llu of the chain is not the one that the "
		                     "exported head names",
		                     (unsigned long long)out->entries);
	return 0;
}

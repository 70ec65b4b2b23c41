/* SPDX-License-Identifier: MIT */
/*
 * What is signed at the standby, and what must be signed by the source (docs/format.md, "Signatures").
 *
 * The standby's key signs the bodies of points and epochs (SOSIE_SIGN_ACCEPTANCE), each of which names the
 * entry before it, and statements. The private key lies in STORE/_private/standby, readable by the keeper's
 * user only, or behind an agent; STORE/standby.pub is what others pin.
 *
 * A source's manifests and "same" must be signed as soon as its tenant has, or had, a signing key for the
 * group: a key that was revoked does not open the way for unsigned ones.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/store/chain.h"
#include "sosie/audit.h"

/* --- the standby's key
 * ------------------------------------------------------------------------------------------------------ */

int store_read_standby(struct sosie_store *store, struct sosie_err *err)
{
	char path[STORE_PATH], *text = NULL;
	size_t len = 0;
	int rc = store_path(path, err, "%s/standby.pub", store->path);
	if (!rc && !sosie_io_exists(store->io, path))
		return 0;
	if (!rc)
		rc = sosie_io_read_file(store->io, path, SOSIE_PUBLIC_LINE, &text, &len, err);
	if (!rc)
		rc = sosie_public_parse(text, len, &store->standby, NULL, err);
	free(text);
	store->has_standby = !rc;
	return rc ? sosie_err_where(err, "%s", path) : 0;
}

bool sosie_store_standby(const struct sosie_store *store, struct sosie_public *out)
{
	*out = store->standby;
	return store->has_standby;
}

int sosie_store_sign(struct sosie_store *store, struct sosie_signer *signer, struct sosie_err *err)
{
	if (signer &&
	    (!store->has_standby || !sosie_public_equal(sosie_signer_public(signer), &store->standby))) {
		sosie_err_set(err, SOSIE_ECONFIG, "the signing key is not the one that %s/standby.pub names",
		              store->path);
		return sosie_err_action(err, "give the keeper the private half of that key, or see "
		                             "docs/operating.md, \"Signing keys\"");
	}
	store->signer = signer;
	return 0;
}

int store_sign(struct sosie_store *store, const char *name_space, char **text, size_t *len,
               struct sosie_err *err)
{
	char *made = NULL;
	size_t made_len = 0;
	if (!store->signer)
		return 0;
	int rc = sosie_sign(store->signer, name_space, *text, *len, &made, &made_len, err);
	if (rc)
		return sosie_err_wrap(err, "the standby's key cannot sign");
	free(*text);
	*text = made;
	*len = made_len;
	return 0;
}

/* --- entries of the chain
 * ------------------------------------------------------------------------------------------------------ */

static struct sosie_json *entry_begin(const struct sosie_group *g, const char *kind)
{
	struct sosie_json *j = sosie_json_new();
	sosie_json_set_u64(j, "format", STORE_FORMAT);
	sosie_json_set_str(j, "kind", kind);
	sosie_json_set_str(j, "tenant", g->tenant.s);
	sosie_json_set_str(j, "group", g->name.s);
	return j;
}

/* Takes j. */
static int entry_end(struct sosie_group *g, struct sosie_json *j, char **text, size_t *len,
                     struct sosie_err *err)
{
	sosie_json_set_hex(j, "previous", chain_last(g->chain)->b, SOSIE_DIGEST_LEN);
	int rc = sosie_json_text(j, 0, text, len, err);
	sosie_json_free(j);
	return rc ? rc : store_sign(g->store, SOSIE_SIGN_ACCEPTANCE, text, len, err);
}

int signing_acceptance(struct sosie_group *g, const struct acceptance *a, char **text, size_t *len,
                       struct sosie_err *err)
{
	struct sosie_json *j = entry_begin(g, "point");
	*text = NULL;
	sosie_json_set_u64(j, "epoch", a->epoch);
	sosie_json_set_u64(j, "point", a->point);
	layout_set_time(j, "time", a->time_ms);
	layout_set_time(j, "cut_time", a->cut_ms);
	sosie_json_set_hex(j, "manifest", a->manifest.b, SOSIE_DIGEST_LEN);
	sosie_json_set_hex(j, "upload", a->upload.b, sizeof(a->upload.b));
	sosie_json_set_str(j, "key", a->key);
	sosie_json_set_u64(j, "stored", a->stored);
	return entry_end(g, j, text, len, err);
}

int group_raise_epoch(struct sosie_group *g, uint64_t epoch, uint64_t point, const char *by,
                      const char *reason, struct sosie_err *err)
{
	int64_t now = sosie_wall_ms(g->store->clock);
	char *text = NULL;
	size_t len = 0;
	if (epoch <= chain_epoch(g->chain) || epoch > INT64_MAX)
		return sosie_err_set(err, SOSIE_EINTERNAL, "epoch %llu does not follow %llu",
		                     (unsigned long long)epoch, (unsigned long long)chain_epoch(g->chain));
	struct sosie_json *j = entry_begin(g, "epoch");
	sosie_json_set_u64(j, "epoch", epoch);
	sosie_json_set_u64(j, "point", point);
	layout_set_time(j, "time", now);
	sosie_json_set_str(j, "by", by);
	sosie_json_set_str(j, "reason", reason);
	int rc = entry_end(g, j, &text, &len, err);
	if (!rc && len > CHAIN_BODY_MAX)
		rc = sosie_err_set(err, SOSIE_EINTERNAL, "the reason of an epoch is too long");
	if (!rc)
		rc = chain_append(g->chain, CHAIN_EPOCH, chain_newest_point(g->chain), now, text,
		                  (uint32_t)len, NULL, err);
	if (!rc)
		g->chain->epoch = epoch;
	free(text);
	return rc;
}

/* --- what comes from the source
 * ------------------------------------------------------------------------------------------------------ */

/* The keys that may sign for point now; *had: there are or were any. */
static int living_keys(struct sosie_store *store, const char *tenant, const char *group,
                       struct sosie_public **out, unsigned *count, bool *had, struct sosie_err *err)
{
	struct sosie_signing_key *keys = NULL;
	unsigned all = 0;
	*out = NULL;
	*count = 0;
	int rc = sosie_signing_keys(store, tenant, group, &keys, &all, err);
	*had = all > 0;
	if (rc || all == 0)
		return rc;
	*out = calloc(all, sizeof(**out));
	if (!*out)
		rc = sosie_err_set(err, SOSIE_ENOMEM, "no memory for keys");
	for (unsigned i = 0; !rc && i < all; i++)
		if (keys[i].until == UINT64_MAX)
			memcpy((*out)[(*count)++].b, keys[i].key, SOSIE_PUBLIC_LEN);
	free(keys);
	return rc;
}

static int not_registered(const void *bytes, size_t len, struct sosie_err *err)
{
	struct sosie_public signer;
	char print[64] = "";
	if (!sosie_signed_by(bytes, len, &signer) || sosie_public_fingerprint(&signer, print, NULL))
		return sosie_err_set(err, SOSIE_EAUTH, "what stands behind it is no signature");
	return sosie_err_set(err, SOSIE_EAUTH, "signed by the key %s, and the group has no signing key",
	                     print);
}

int signing_check(struct sosie_store *store, const char *tenant, const char *group, const char *name_space,
                  const void *bytes, size_t len, bool *bad, struct sosie_err *err)
{
	struct sosie_public *keys = NULL;
	unsigned count = 0, which;
	bool had = false;
	*bad = false;
	int rc = living_keys(store, tenant, group, &keys, &count, &had, err);
	if (!rc && had && count == 0)
		rc = sosie_err_set(err, SOSIE_EAUTH, "every signing key of %s/%s is revoked", tenant, group);
	else if (!rc && had)
		rc = sosie_signed_check(bytes, len, name_space, keys, count, &which, err);
	else if (!rc && sosie_signed_text(bytes, len) < len)
		rc = not_registered(bytes, len, err); /* verify could say of it no more than that, for good */
	*bad = rc == -SOSIE_EAUTH;
	if (*bad) {
		sosie_err_wrap(err, "the upload's manifest");
		sosie_err_action(err,
		                 "sign with a key that is registered: at the standby, \"sosie key list "
		                 "%s\" shows them",
		                 tenant);
	}
	free(keys);
	return rc;
}

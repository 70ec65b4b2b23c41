/* SPDX-License-Identifier: MIT */
/* Verification of signatures: of the source over manifests, of the standby over acceptances and epochs. */
#include <stdlib.h>
#include <string.h>

#include "engine/store/verify.h"

int verify_keys_get(struct verify *w, struct sosie_err *err)
{
	struct verify_keys *k = &w->keys;
	const struct sosie_verify *v = w->v;
	memset(k, 0, sizeof(*k));
	if (v->source_keys || v->standby) {
		k->keys = v->source_keys;
		k->count = v->source_key_count;
		k->standby = v->standby;
		k->strict = true;
		return 0;
	}
	k->standby = w->g->store->has_standby ? &w->g->store->standby : NULL;
	int rc = sosie_signing_keys(w->g->store, w->g->tenant.s, w->g->name.s, &k->own, &k->count, err);
	k->keys = k->own;
	k->unknown = rc == -SOSIE_EDENIED || rc == -SOSIE_ECORRUPT;
	return k->unknown ? 0 : rc;
}

void verify_keys_free(struct verify *w)
{
	free(w->keys.own);
	w->keys.own = NULL;
}

static int unsigned_one(bool must, const char *what, struct sosie_err *err)
{
	return must ? sosie_err_set(err, SOSIE_EAUTH, "%s is not signed", what) : 0;
}

static const struct sosie_signing_key *find_key(const struct verify_keys *k,
                                                const struct sosie_public *signer)
{
	for (unsigned i = 0; i < k->count; i++)
		if (memcmp(k->keys[i].key, signer->b, SOSIE_PUBLIC_LEN) == 0)
			return &k->keys[i];
	return NULL;
}

int verify_source(struct verify *w, const struct chain_entry *e, const void *manifest, uint32_t len,
                  struct sosie_err *err)
{
	struct verify_keys *k = &w->keys;
	struct sosie_public signer;
	char print[64] = "?";
	unsigned which;
	if (sosie_signed_text(manifest, len) == len)
		return unsigned_one(k->strict || k->source_seen, "the manifest", err);
	k->source_seen = true;
	if (!sosie_signed_by(manifest, len, &signer))
		return sosie_err_set(err, SOSIE_EAUTH, "the signature of the manifest is damaged");
	int rc = sosie_signed_check(manifest, len, SOSIE_SIGN_MANIFEST, &signer, 1, &which, err);
	if (rc)
		return sosie_err_wrap(err, "the manifest");
	const struct sosie_signing_key *key = find_key(k, &signer);
	sosie_public_fingerprint(&signer, print, NULL);
	if (!key && k->unknown) {
		w->v->unattributed++;
		return 0;
	}
	if (!key)
		return sosie_err_set(err, SOSIE_EAUTH,
		                     "the manifest is signed by %s, which is no key of this group", print);
	if (e->point > key->until && (!key->until_ms || e->time_ms > key->until_ms))
		return sosie_err_set(err, SOSIE_EAUTH,
		                     "the manifest is signed by %s, which was revoked after point %llu",
		                     print, (unsigned long long)key->until);
	w->v->signed_points++;
	return 0;
}

int verify_standby(struct verify *w, const void *text, uint32_t len, struct sosie_err *err)
{
	struct verify_keys *k = &w->keys;
	unsigned which;
	if (sosie_signed_text(text, len) == len)
		return unsigned_one(k->strict || k->standby_seen, "the standby's entry", err);
	k->standby_seen = true;
	if (!k->standby)
		return sosie_err_set(err, SOSIE_EAUTH,
		                     "the standby's entry is signed, but the store has no standby.pub");
	int rc = sosie_signed_check(text, len, SOSIE_SIGN_ACCEPTANCE, k->standby, 1, &which, err);
	return rc ? sosie_err_wrap(err, "the standby's entry") : 0;
}

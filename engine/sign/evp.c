/* SPDX-License-Identifier: MIT */
/*
 * Ed25519 and SHA-512 over libcrypto's EVP. Raw keys; one call for the whole text, without a digest of its
 * own (EVP_SIGNATURE-ED25519(7)). libcrypto computes the public half from the seed itself and refuses
 * signatures whose second half is not reduced, so that nobody can make another out of a good one.
 *
 * A process that forks beside other threads copies the locks that they hold just then, for good. What
 * libcrypto fetches at its first use it takes such locks for: children that did that beside threads that make
 * keys hung, one after the other (measured). So all that a child will use is used once before the first fork.
 * What is left are locks that every key takes for some nanoseconds: 2 of 1000 children hung beside four such
 * threads on two processors. Those are the parent's to find (signer_fork.c).
 */
#include <pthread.h>
#include <stdlib.h>

#include <openssl/err.h>
#include <openssl/evp.h>

#include "engine/sign/evp.h"

struct evp_key {
	EVP_PKEY *pkey; /* its private half is wiped by libcrypto */
};

static pthread_once_t first_use = PTHREAD_ONCE_INIT;

static int refused(struct sosie_err *err, const char *what)
{
	return sosie_err_set(err, SOSIE_ENOMEM, "libcrypto cannot %s: no memory?", what);
}

int evp_sha512(const void *data, size_t len, uint8_t out[EVP_SHA512_LEN], struct sosie_err *err)
{
	unsigned got = 0;

	if (EVP_Digest(data, len, out, &got, EVP_sha512(), NULL) != 1 || got != EVP_SHA512_LEN)
		return refused(err, "compute SHA-512");
	return 0;
}

int evp_key_new(const uint8_t seed[EVP_SEED_LEN], struct evp_key **out, struct sosie_public *public,
                struct sosie_err *err)
{
	struct evp_key *k = calloc(1, sizeof(*k));
	size_t len = SOSIE_PUBLIC_LEN;

	*out = NULL;
	if (k)
		k->pkey = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, EVP_SEED_LEN);
	if (!k || !k->pkey || EVP_PKEY_get_raw_public_key(k->pkey, public->b, &len) != 1 ||
	    len != SOSIE_PUBLIC_LEN) {
		evp_key_free(k);
		return refused(err, "make an Ed25519 key");
	}
	*out = k;
	return 0;
}

void evp_key_free(struct evp_key *k)
{
	if (!k)
		return;
	EVP_PKEY_free(k->pkey);
	free(k);
}

int evp_key_sign(const struct evp_key *k, const void *data, size_t len, uint8_t sig[EVP_SIG_LEN],
                 struct sosie_err *err)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	size_t got = EVP_SIG_LEN;
	bool made = ctx && EVP_DigestSignInit(ctx, NULL, NULL, NULL, k->pkey) == 1 &&
	            EVP_DigestSign(ctx, sig, &got, data, len) == 1 && got == EVP_SIG_LEN;

	EVP_MD_CTX_free(ctx);
	return made ? 0 : refused(err, "sign");
}

/* --- forks
 * ---------------------------------------------------------------------------------------------------------
 */

/* A failure is found again, and told, in the child. */
static void use_once(void)
{
	static const uint8_t seed[EVP_SEED_LEN];
	struct sosie_public public;
	uint8_t sig[EVP_SIG_LEN];
	struct evp_key *key;

	if (evp_key_new(seed, &key, &public, NULL) == 0)
		(void)evp_key_sign(key, seed, sizeof(seed), sig, NULL);
	evp_key_free(key);
}

void evp_before_fork(void)
{
	pthread_once(&first_use, use_once);
}

int evp_verify(const struct sosie_public *key, const void *data, size_t len, const uint8_t sig[EVP_SIG_LEN],
               bool *good, struct sosie_err *err)
{
	EVP_PKEY *pkey = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, key->b, SOSIE_PUBLIC_LEN);
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	bool ready = pkey && ctx && EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, pkey) == 1;

	*good = false;
	if (ready) {
		ERR_set_mark();
		*good = EVP_DigestVerify(ctx, sig, EVP_SIG_LEN, data, len) == 1;
		ERR_pop_to_mark();
	}
	EVP_MD_CTX_free(ctx);
	EVP_PKEY_free(pkey);
	return ready ? 0 : refused(err, "check a signature");
}

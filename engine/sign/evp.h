/* SPDX-License-Identifier: MIT */
/*
 * What signatures need of libcrypto: Ed25519 (RFC 8032) and SHA-512. Any thread, except that a key belongs to
 * one. libcrypto's queue of errors is left as it was.
 */
#ifndef SOSIE_SIGN_EVP_H
#define SOSIE_SIGN_EVP_H

#include "sosie/sign.h"

#define EVP_SEED_LEN 32u
#define EVP_SIG_LEN 64u
#define EVP_SHA512_LEN 64u

/* Before the fork of a child that will make or use keys. */
void evp_before_fork(void);

int evp_sha512(const void *data, size_t len, uint8_t out[EVP_SHA512_LEN], struct sosie_err *err);

struct evp_key;
/* From its seed, which is copied; *public: its public half. */
int evp_key_new(const uint8_t seed[EVP_SEED_LEN], struct evp_key **out, struct sosie_public *public,
                struct sosie_err *err);
void evp_key_free(struct evp_key *k); /* wiped; NULL is fine */
int evp_key_sign(const struct evp_key *k, const void *data, size_t len, uint8_t sig[EVP_SIG_LEN],
                 struct sosie_err *err);

/* *good: whether sig is the key's over data; hostile. Only failures of our own are errors. */
int evp_verify(const struct sosie_public *key, const void *data, size_t len, const uint8_t sig[EVP_SIG_LEN],
               bool *good, struct sosie_err *err);

#endif

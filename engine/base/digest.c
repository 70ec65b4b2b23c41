/* SPDX-License-Identifier: MIT */
/*
 * SHA-256 over libcrypto's EVP: the algorithm is fetched once for the process and each object keeps its
 * context, because fetching and allocating cost more than hashing a leaf's header. The header of a leaf is 64
 * bytes: exactly one block of SHA-256. A refusal by libcrypto after a context could be made is a fault of
 * ours or of the machine: it ends the process.
 */
#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "sosie/bytes.h"
#include "sosie/digest.h"

#define DOMAIN_LEN 16

static_assert(sizeof(struct sosie_digest) == SOSIE_DIGEST_LEN, "digests lie in files as they are");
static_assert(SOSIE_DIGEST_LEN % 3 == 2, "its Base64 has one character of padding");
static_assert(sizeof("SHA256:") + SOSIE_BASE64_LEN(SOSIE_DIGEST_LEN) <= SOSIE_FINGERPRINT, "it has room");

struct sosie_hash {
	EVP_MD_CTX *ctx;
};

static pthread_once_t fetch_once = PTHREAD_ONCE_INIT;
static EVP_MD *sha256; /* fetched once, kept for the life of the process; NULL when libcrypto refused */

static void fetch_sha256(void)
{
	sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
}

bool sosie_digest_equal(const struct sosie_digest *a, const struct sosie_digest *b)
{
	return memcmp(a->b, b->b, SOSIE_DIGEST_LEN) == 0;
}

bool sosie_digest_is_zero(const struct sosie_digest *d)
{
	static const struct sosie_digest zero;

	return sosie_digest_equal(d, &zero);
}

struct sosie_hash *sosie_hash_new(void)
{
	struct sosie_hash *h = malloc(sizeof(*h));

	if (!h)
		return NULL;
	pthread_once(&fetch_once, fetch_sha256);
	h->ctx = sha256 ? EVP_MD_CTX_new() : NULL;
	if (!h->ctx || EVP_DigestInit_ex2(h->ctx, sha256, NULL) != 1) {
		sosie_hash_free(h);
		return NULL;
	}
	return h;
}

void sosie_hash_free(struct sosie_hash *h)
{
	if (!h)
		return;
	EVP_MD_CTX_free(h->ctx);
	free(h);
}

static void store_u64(uint8_t dst[8], uint64_t v)
{
	for (unsigned i = 0; i < 8; i++)
		dst[i] = (uint8_t)(v >> (8 * i));
}

static void put_domain(uint8_t dst[DOMAIN_LEN], const char *domain)
{
	size_t len = strlen(domain);

	assert(len <= DOMAIN_LEN);
	memset(dst, 0, DOMAIN_LEN);
	memcpy(dst, domain, len);
}

static void restart(struct sosie_hash *h)
{
	int ok = EVP_DigestInit_ex2(h->ctx, NULL, NULL);

	assert(ok == 1);
	(void)ok;
}

void sosie_hash_start(struct sosie_hash *h, const char *domain)
{
	uint8_t padded[DOMAIN_LEN];

	restart(h);
	if (!domain)
		return;
	put_domain(padded, domain);
	sosie_hash_add(h, padded, sizeof(padded));
}

void sosie_hash_plain(struct sosie_hash *h)
{
	restart(h);
}

void sosie_hash_add(struct sosie_hash *h, const void *data, size_t len)
{
	int ok = EVP_DigestUpdate(h->ctx, data, len);

	assert(ok == 1);
	(void)ok;
}

void sosie_hash_add_u64(struct sosie_hash *h, uint64_t v)
{
	uint8_t b[8];

	store_u64(b, v);
	sosie_hash_add(h, b, sizeof(b));
}

void sosie_hash_add_text(struct sosie_hash *h, const char *s)
{
	size_t len = strlen(s);

	sosie_hash_add_u64(h, len);
	sosie_hash_add(h, s, len);
}

void sosie_hash_end(struct sosie_hash *h, struct sosie_digest *out)
{
	unsigned len = 0;
	int ok = EVP_DigestFinal_ex(h->ctx, out->b, &len);

	assert(ok == 1 && len == SOSIE_DIGEST_LEN);
	(void)ok;
}

bool sosie_sha256(const void *data, size_t len, struct sosie_digest *out)
{
	struct sosie_hash *h = sosie_hash_new();

	if (!h)
		return false;
	sosie_hash_plain(h);
	sosie_hash_add(h, data, len);
	sosie_hash_end(h, out);
	sosie_hash_free(h);
	return true;
}

void sosie_fingerprint(char dst[SOSIE_FINGERPRINT], const struct sosie_digest *of_blob)
{
	static const char kind[] = "SHA256:";
	const size_t at = sizeof(kind) - 1;

	memcpy(dst, kind, at);
	sosie_base64(dst + at, of_blob->b, SOSIE_DIGEST_LEN);
	dst[at + SOSIE_BASE64_LEN(SOSIE_DIGEST_LEN) - 1] = '\0'; /* without the padding */
}

void sosie_context_volume(struct sosie_hash *h, const char *tenant, const char *group, const char *volume,
                          struct sosie_digest *out)
{
	sosie_hash_start(h, "sosie volume v1");
	sosie_hash_add_text(h, tenant);
	sosie_hash_add_text(h, group);
	sosie_hash_add_text(h, volume);
	sosie_hash_end(h, out);
}

/* One hash of a 64-byte header (domain, ctx, a, b) and a body. */
static void hash_block(struct sosie_hash *h, const char *domain, const struct sosie_digest *ctx, uint64_t a,
                       uint64_t b, const void *data, size_t len, struct sosie_digest *out)
{
	uint8_t header[DOMAIN_LEN + SOSIE_DIGEST_LEN + 16];

	put_domain(header, domain);
	memcpy(header + DOMAIN_LEN, ctx->b, SOSIE_DIGEST_LEN);
	store_u64(header + DOMAIN_LEN + SOSIE_DIGEST_LEN, a);
	store_u64(header + DOMAIN_LEN + SOSIE_DIGEST_LEN + 8, b);
	restart(h);
	sosie_hash_add(h, header, sizeof(header));
	sosie_hash_add(h, data, len);
	sosie_hash_end(h, out);
}

void sosie_digest_leaf(struct sosie_hash *h, const struct sosie_digest *ctx, uint64_t index, const void *data,
                       size_t len, struct sosie_digest *out)
{
	assert(len >= 1 && len <= SOSIE_LEAF);
	if (sosie_all_zero(data, len))
		memset(out, 0, sizeof(*out));
	else
		hash_block(h, "sosie leaf v1", ctx, index, len, data, len, out);
}

void sosie_digest_node(struct sosie_hash *h, const struct sosie_digest *ctx, unsigned level, uint64_t index,
                       const struct sosie_digest children[SOSIE_FANOUT], struct sosie_digest *out)
{
	const size_t len = SOSIE_FANOUT * sizeof(children[0]);

	assert(level >= 1);
	if (sosie_all_zero(children, len))
		memset(out, 0, sizeof(*out));
	else
		hash_block(h, "sosie node v1", ctx, level, index, children, len, out);
}

void sosie_digest_root(struct sosie_hash *h, const struct sosie_digest *ctx, uint64_t size,
                       const struct sosie_digest *top, struct sosie_digest *out)
{
	sosie_hash_start(h, "sosie root v1");
	sosie_hash_add(h, ctx->b, sizeof(ctx->b));
	sosie_hash_add_u64(h, size);
	sosie_hash_add(h, top->b, sizeof(top->b));
	sosie_hash_end(h, out);
}

bool sosie_all_zero(const void *data, size_t len)
{
	const uint8_t *p = data;
	const size_t head = len < 16 ? len : 16;

	for (size_t i = 0; i < head; i++)
		if (p[i] != 0)
			return false;
	/* The first 16 are zero, and each later byte equals the one 16 before it. */
	return len <= 16 || memcmp(p, p + 16, len - 16) == 0;
}

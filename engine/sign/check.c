/* SPDX-License-Identifier: MIT */
/* Signed texts: taken apart and checked. The bytes are hostile. */
#include <assert.h>
#include <string.h>

#include "engine/sign/internal.h"
#include "sosie/digest.h"

static_assert(SOSIE_DIGEST_LEN == SIGN_SHA256, "SHA-256 is the digest that there is already");

size_t sosie_signed_text(const void *bytes, size_t len)
{
	const char *text = bytes, *end = len > 0 ? memchr(text, '\n', len) : NULL;

	return end ? (size_t)(end - text) : len;
}

/* *text_len: of the text in front. */
static int take_apart(const void *bytes, size_t len, size_t *text_len, struct sshsig *s,
                      struct sosie_err *err)
{
	const size_t n = sosie_signed_text(bytes, len);

	*text_len = n;
	if (n == len)
		return sosie_err_set(err, SOSIE_EAUTH, "not signed");
	if (n == 0)
		return sosie_err_set(err, SOSIE_EAUTH, "a signature without a text");
	return sshsig_parse((const char *)bytes + n + 1, len - n - 1, s, err);
}

bool sosie_signed_by(const void *bytes, size_t len, struct sosie_public *out)
{
	struct sshsig s;
	size_t text_len;

	if (take_apart(bytes, len, &text_len, &s, NULL) != 0)
		return false;
	*out = s.key;
	return true;
}

static int by_stranger(const struct sosie_public *key, unsigned count, struct sosie_err *err)
{
	char name[SOSIE_FINGERPRINT];
	int rc = sosie_public_fingerprint(key, name, err);

	if (rc != 0)
		return rc;
	return sosie_err_set(err, SOSIE_EAUTH, "signed by the key %s, which %s", name,
	                     count == 0   ? "is not known: no key is"
	                     : count == 1 ? "is not the one that may sign this"
	                                  : "is none of those that may sign this");
}

static int verify(const void *text, size_t len, const struct sshsig *s, struct sosie_err *err)
{
	uint8_t digest[EVP_SHA512_LEN], data[SIGN_DATA_MAX];
	struct sosie_digest sha256;
	bool good = false;
	int rc;

	if (s->hash == SIGN_SHA256) {
		if (!sosie_sha256(text, len, &sha256))
			return sosie_err_set(err, SOSIE_ENOMEM, "no memory to check a signature");
		memcpy(digest, sha256.b, sizeof(sha256.b));
	} else if ((rc = evp_sha512(text, len, digest, err)) != 0) {
		return rc;
	}
	rc = evp_verify(&s->key, data, sshsig_data(s->name_space, s->hash, digest, data), s->sig, &good, err);
	if (rc != 0 || good)
		return rc;
	return sosie_err_set(err, SOSIE_EAUTH,
	                     "the signature is not of this text: one of them was changed or damaged");
}

int sosie_signed_check(const void *bytes, size_t len, const char *name_space, const struct sosie_public *keys,
                       unsigned count, unsigned *which, struct sosie_err *err)
{
	char shown[SIGN_NAMESPACE_MAX + 1];
	struct sshsig s;
	size_t text_len;
	unsigned i = 0;
	int rc = take_apart(bytes, len, &text_len, &s, err);

	if (rc != 0)
		return rc;
	while (i < count && !sosie_public_equal(&keys[i], &s.key))
		i++;
	if (i == count)
		return by_stranger(&s.key, count, err);
	if (strcmp(s.name_space, name_space) != 0)
		return sosie_err_set(err, SOSIE_EAUTH, "the signature is for another use: %s, not %s",
		                     sosie_escape(shown, sizeof(shown), s.name_space, strlen(s.name_space)),
		                     name_space);
	rc = verify(bytes, text_len, &s, err);
	if (rc == 0)
		*which = i;
	return rc;
}

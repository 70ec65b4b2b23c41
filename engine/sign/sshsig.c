/* SPDX-License-Identifier: MIT */
/*
 * SSHSIG (PROTOCOL.sshsig of OpenSSH), in the one form that we write and take. Strings as in RFC 4251:
 *
 *	blob:   "SSHSIG"  u32 version 1  string key blob  string namespace  string ""  string hash's name
 *	        string (string "ssh-ed25519", string 64 bytes)
 *	signed: "SSHSIG"  string namespace  string ""  string hash's name  string hash of the text
 *	armour: BEGIN line, the blob as Base64 in lines of 70 as ssh-keygen writes it, END line
 *
 * A signature has exactly one spelling: what is taken equals, byte for byte, what would be written. So
 * nobody can make a second signed text out of one without the key.
 */
#include <assert.h>
#include <string.h>

#include "engine/sign/internal.h"

#define MAGIC "SSHSIG"
#define VERSION 1u
#define LINE 70u
#define BLOB_MAX 256u

static const char first_line[] = "-----BEGIN SSH SIGNATURE-----\n";
static const char last_line[] = "-----END SSH SIGNATURE-----\n";
#define FIRST_LEN (sizeof(first_line) - 1)
#define LAST_LEN (sizeof(last_line) - 1)

static const struct {
	enum sign_hash hash;
	const char *name;
} hashes[] = {{SIGN_SHA512, "sha512"}, {SIGN_SHA256, "sha256"}};
#define HASHES (sizeof(hashes) / sizeof(hashes[0]))

static_assert(sizeof(MAGIC) - 1 + 4 + 4 + SIGN_BLOB_LEN + 4 + SIGN_NAMESPACE_MAX + 4 + 4 + 6 + 4 + 4 +
                              (sizeof(SIGN_TYPE) - 1) + 4 + EVP_SIG_LEN <=
                      BLOB_MAX,
              "the longest blob has room");
static_assert(FIRST_LEN + LAST_LEN + SOSIE_BASE64_LEN(BLOB_MAX) / LINE * (LINE + 1) + LINE + 1 + 2 <=
                      SOSIE_SIGNATURE_MAX,
              "the longest signature has room, the newline before it and a NUL too");

static const char *hash_name(enum sign_hash hash)
{
	size_t i = 0;

	while (i < HASHES && hashes[i].hash != hash)
		i++;
	assert(i < HASHES);
	return hashes[i].name;
}

bool sshsig_namespace_ok(const char *name_space)
{
	const size_t len = strnlen(name_space, SIGN_NAMESPACE_MAX + 1), begin = strlen(SIGN_PREFIX);

	if (len <= begin || len > SIGN_NAMESPACE_MAX || memcmp(name_space, SIGN_PREFIX, begin) != 0)
		return false;
	for (size_t i = 0; i < len; i++)
		if (name_space[i] <= ' ' || name_space[i] > '~')
			return false;
	return true;
}

/* --- writing
 * ------------------------------------------------------------------------------------------------------- */

static void put_text(struct sosie_writer *w, const char *text)
{
	sosie_put_ssh_string(w, text, strlen(text));
}

size_t sshsig_data(const char *name_space, enum sign_hash hash, const uint8_t *digest,
                   uint8_t dst[SIGN_DATA_MAX])
{
	struct sosie_writer w;

	sosie_writer_init(&w, dst, SIGN_DATA_MAX);
	sosie_put_bytes(&w, MAGIC, strlen(MAGIC));
	put_text(&w, name_space);
	put_text(&w, ""); /* reserved */
	put_text(&w, hash_name(hash));
	sosie_put_ssh_string(&w, digest, (size_t)hash);
	assert(!w.failed);
	return w.len;
}

static size_t make_blob(const struct sshsig *s, uint8_t dst[BLOB_MAX])
{
	uint8_t key[SIGN_BLOB_LEN];
	struct sosie_writer w;

	public_blob(&s->key, key);
	sosie_writer_init(&w, dst, BLOB_MAX);
	sosie_put_bytes(&w, MAGIC, strlen(MAGIC));
	sosie_put_ssh_u32(&w, VERSION);
	sosie_put_ssh_string(&w, key, sizeof(key));
	put_text(&w, s->name_space);
	put_text(&w, "");
	put_text(&w, hash_name(s->hash));
	sosie_put_ssh_u32(&w, (uint32_t)(4 + strlen(SIGN_TYPE) + 4 + EVP_SIG_LEN));
	put_text(&w, SIGN_TYPE);
	sosie_put_ssh_string(&w, s->sig, EVP_SIG_LEN);
	assert(!w.failed);
	return w.len;
}

size_t sshsig_armour(const struct sshsig *s, char dst[SOSIE_SIGNATURE_MAX])
{
	uint8_t blob[BLOB_MAX];
	char digits[SOSIE_BASE64_LEN(BLOB_MAX) + 1];
	struct sosie_writer w;
	size_t len = make_blob(s, blob), n;

	sosie_base64(digits, blob, len);
	len = SOSIE_BASE64_LEN(len);
	sosie_writer_init(&w, dst, SOSIE_SIGNATURE_MAX);
	sosie_put_bytes(&w, first_line, FIRST_LEN);
	for (size_t at = 0; at < len; at += n) {
		n = len - at < LINE ? len - at : LINE;
		sosie_put_bytes(&w, digits + at, n);
		sosie_put_u8(&w, '\n');
	}
	sosie_put_bytes(&w, last_line, LAST_LEN);
	assert(!w.failed);
	return w.len;
}

/* --- reading: everything is hostile
 * -------------------------------------------------------------------------------- */

static int damaged(struct sosie_err *err)
{
	return sosie_err_set(err, SOSIE_EAUTH, "the signature is damaged, or not written as ssh-keygen does");
}

static bool text_is(const void *text, size_t len, const char *want)
{
	return text && len == strlen(want) && memcmp(text, want, len) == 0;
}

static int parse_key(struct sosie_reader *r, struct sosie_public *key, struct sosie_err *err)
{
	size_t len;
	const void *blob = sosie_get_ssh_string(r, &len);

	if (!blob)
		return damaged(err);
	if (public_from_blob(blob, len, key, err) == 0)
		return 0;
	return sosie_err_set(err, SOSIE_EAUTH, "signed with something else than an %s key", SIGN_TYPE);
}

static int parse_hash(struct sosie_reader *r, enum sign_hash *hash, struct sosie_err *err)
{
	size_t len;
	const void *name = sosie_get_ssh_string(r, &len);
	char shown[32];

	if (!name)
		return damaged(err);
	for (size_t i = 0; i < HASHES; i++)
		if (text_is(name, len, hashes[i].name)) {
			*hash = hashes[i].hash;
			return 0;
		}
	return sosie_err_set(err, SOSIE_EAUTH, "signed with the hash %s; sha512 and sha256 are taken",
	                     sosie_escape(shown, sizeof(shown), name, len));
}

static int parse_bytes(struct sosie_reader *r, uint8_t sig[EVP_SIG_LEN], struct sosie_err *err)
{
	size_t len, type_len, sig_len;
	const void *whole = sosie_get_ssh_string(r, &len), *type, *bytes;
	struct sosie_reader in;

	sosie_reader_init(&in, whole, len);
	type = sosie_get_ssh_string(&in, &type_len);
	bytes = sosie_get_ssh_string(&in, &sig_len);
	if (!whole || !sosie_reader_done(&in) || !text_is(type, type_len, SIGN_TYPE) ||
	    sig_len != EVP_SIG_LEN)
		return damaged(err);
	memcpy(sig, bytes, EVP_SIG_LEN);
	return 0;
}

static int parse_blob(const uint8_t *blob, size_t len, struct sshsig *s, struct sosie_err *err)
{
	struct sosie_reader r;
	const void *magic, *name;
	size_t name_len, reserved_len;
	int rc;

	sosie_reader_init(&r, blob, len);
	magic = sosie_get_view(&r, strlen(MAGIC));
	if (!text_is(magic, strlen(MAGIC), MAGIC) || sosie_get_ssh_u32(&r) != VERSION)
		return damaged(err);
	rc = parse_key(&r, &s->key, err);
	if (rc != 0)
		return rc;
	name = sosie_get_ssh_string(&r, &name_len);
	if (!name || name_len > SIGN_NAMESPACE_MAX || memchr(name, '\0', name_len))
		return damaged(err);
	memcpy(s->name_space, name, name_len);
	s->name_space[name_len] = '\0';
	if (!sosie_get_ssh_string(&r, &reserved_len) || reserved_len != 0)
		return damaged(err);
	rc = parse_hash(&r, &s->hash, err);
	if (rc == 0)
		rc = parse_bytes(&r, s->sig, err);
	return rc == 0 && !sosie_reader_done(&r) ? damaged(err) : rc;
}

/* The armour's digits without their line ends; false when there are too many for any signature. */
static bool join_lines(const char *text, size_t len, char *dst, size_t size, size_t *out)
{
	*out = 0;
	for (size_t i = 0; i < len; i++) {
		if (text[i] == '\n')
			continue;
		if (*out == size)
			return false;
		dst[(*out)++] = text[i];
	}
	return true;
}

int sshsig_parse(const char *text, size_t len, struct sshsig *out, struct sosie_err *err)
{
	char digits[SOSIE_BASE64_LEN(BLOB_MAX)], again[SOSIE_SIGNATURE_MAX];
	uint8_t blob[BLOB_MAX];
	size_t digits_len, blob_len;
	int rc;

	if (len < FIRST_LEN || memcmp(text, first_line, FIRST_LEN) != 0)
		return sosie_err_set(err, SOSIE_EAUTH, "not signed");
	if (len < FIRST_LEN + LAST_LEN || memcmp(text + len - LAST_LEN, last_line, LAST_LEN) != 0)
		return damaged(err);
	if (!join_lines(text + FIRST_LEN, len - FIRST_LEN - LAST_LEN, digits, sizeof(digits), &digits_len) ||
	    !sosie_unbase64(digits, digits_len, blob, sizeof(blob), &blob_len))
		return damaged(err);
	rc = parse_blob(blob, blob_len, out, err);
	if (rc != 0)
		return rc;
	if (sshsig_armour(out, again) != len || memcmp(again, text, len) != 0)
		return damaged(err);
	return 0;
}

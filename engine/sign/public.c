/* SPDX-License-Identifier: MIT */
/* Ed25519 public keys as OpenSSH writes them: a blob (RFC 8709, section 4), and that as one line of text. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "engine/sign/internal.h"
#include "sosie/digest.h"

static_assert(sizeof(SIGN_TYPE " ") + SOSIE_BASE64_LEN(SIGN_BLOB_LEN) + 1 + KEYFILE_COMMENT_MAX <=
                      SOSIE_PUBLIC_LINE,
              "the line of a key that was made has room");

bool sosie_public_equal(const struct sosie_public *a, const struct sosie_public *b)
{
	return memcmp(a->b, b->b, SOSIE_PUBLIC_LEN) == 0;
}

/* --- the blob
 * ------------------------------------------------------------------------------------------------------ */

void public_blob(const struct sosie_public *key, uint8_t dst[SIGN_BLOB_LEN])
{
	struct sosie_writer w;

	sosie_writer_init(&w, dst, SIGN_BLOB_LEN);
	sosie_put_ssh_string(&w, SIGN_TYPE, strlen(SIGN_TYPE));
	sosie_put_ssh_string(&w, key->b, SOSIE_PUBLIC_LEN);
	assert(!w.failed && w.len == SIGN_BLOB_LEN);
}

static int other_type(const void *type, size_t len, struct sosie_err *err)
{
	char shown[48];

	sosie_err_set(err, SOSIE_EUNSUPPORTED, "a key of type %s cannot sign here; only %s can",
	              sosie_escape(shown, sizeof(shown), type, len), SIGN_TYPE);
	return sosie_err_action(err, "make one: sosie keygen");
}

int public_from_blob(const void *blob, size_t len, struct sosie_public *out, struct sosie_err *err)
{
	struct sosie_reader r;
	size_t type_len, key_len;
	const void *type, *key;

	sosie_reader_init(&r, blob, len);
	type = sosie_get_ssh_string(&r, &type_len);
	if (type && (type_len != strlen(SIGN_TYPE) || memcmp(type, SIGN_TYPE, type_len) != 0))
		return other_type(type, type_len, err);
	key = sosie_get_ssh_string(&r, &key_len);
	if (!sosie_reader_done(&r) || key_len != SOSIE_PUBLIC_LEN)
		return sosie_err_set(err, SOSIE_ECONFIG, "the bytes of the %s key are damaged", SIGN_TYPE);
	memcpy(out->b, key, SOSIE_PUBLIC_LEN);
	return 0;
}

/* --- the line
 * ------------------------------------------------------------------------------------------------------ */

/* The next word at *at, not NUL-terminated. */
static const char *next_word(const char **at, const char *end, size_t *len)
{
	const char *start;

	while (*at < end && (**at == ' ' || **at == '\t'))
		++*at;
	start = *at;
	while (*at < end && **at != ' ' && **at != '\t')
		++*at;
	*len = (size_t)(*at - start);
	return start;
}

static bool word_is(const char *word, size_t len, const char *want)
{
	return len == strlen(want) && memcmp(word, want, len) == 0;
}

/* Words with which lines of other keys begin. */
static bool known_type(const char *word, size_t len)
{
	static const char *const begins[] = {"ssh-", "ecdsa-sha2-", "sk-"};

	for (size_t i = 0; i < sizeof(begins) / sizeof(begins[0]); i++)
		if (len > strlen(begins[i]) && memcmp(word, begins[i], strlen(begins[i])) == 0)
			return true;
	return false;
}

static int no_line(struct sosie_err *err)
{
	sosie_err_set(err, SOSIE_ECONFIG, "not one OpenSSH public key line");
	return sosie_err_action(err, "give a file such as signing.pub: %s BASE64 COMMENT", SIGN_TYPE);
}

int sosie_public_parse(const char *line, size_t len, struct sosie_public *out, char comment[64],
                       struct sosie_err *err)
{
	const char *at = line, *end, *type, *text;
	size_t type_len, text_len, blob_len;
	uint8_t blob[SIGN_BLOB_LEN];

	while (len > 0 && (line[len - 1] == '\n' || line[len - 1] == '\r'))
		len--;
	end = line + len;
	if (len == 0 || memchr(line, '\n', len))
		return no_line(err);
	type = next_word(&at, end, &type_len);
	text = next_word(&at, end, &text_len);
	if (!known_type(type, type_len) || text_len == 0)
		return no_line(err);
	if (!word_is(type, type_len, SIGN_TYPE))
		return other_type(type, type_len, err);
	if (!sosie_unbase64(text, text_len, blob, sizeof(blob), &blob_len))
		return sosie_err_set(err, SOSIE_ECONFIG, "the Base64 of the %s key is damaged", SIGN_TYPE);
	while (at < end && (*at == ' ' || *at == '\t'))
		at++;
	if (comment)
		sosie_escape(comment, 64, at, (size_t)(end - at));
	return public_from_blob(blob, blob_len, out, err);
}

void sosie_public_line(const struct sosie_public *key, const char *comment, char dst[SOSIE_PUBLIC_LINE])
{
	uint8_t blob[SIGN_BLOB_LEN];
	size_t at;

	public_blob(key, blob);
	at = (size_t)snprintf(dst, SOSIE_PUBLIC_LINE, "%s ", SIGN_TYPE);
	sosie_base64(dst + at, blob, sizeof(blob));
	at += SOSIE_BASE64_LEN(sizeof(blob));
	if (!comment || !*comment)
		return;
	dst[at++] = ' ';
	sosie_escape(dst + at, SOSIE_PUBLIC_LINE - at, comment, strlen(comment));
}

/* --- what keys are called
 * ------------------------------------------------------------------------------------------ */

static int blob_digest(const struct sosie_public *key, struct sosie_digest *out, struct sosie_err *err)
{
	uint8_t blob[SIGN_BLOB_LEN];

	public_blob(key, blob);
	if (!sosie_sha256(blob, sizeof(blob), out))
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory to name a key");
	return 0;
}

int sosie_public_id(const struct sosie_public *key, char id[17], struct sosie_err *err)
{
	struct sosie_digest d;
	int rc = blob_digest(key, &d, err);

	id[0] = '\0';
	if (rc == 0)
		sosie_hex(id, d.b, 8);
	return rc;
}

int sosie_public_fingerprint(const struct sosie_public *key, char dst[64], struct sosie_err *err)
{
	struct sosie_digest d;
	int rc = blob_digest(key, &d, err);

	dst[0] = '\0';
	if (rc == 0)
		sosie_fingerprint(dst, &d);
	return rc;
}

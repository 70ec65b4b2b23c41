/* SPDX-License-Identifier: MIT */
/*
 * Private key files of OpenSSH (PROTOCOL.key, "openssh-key-v1"), Ed25519 only. Armour: BEGIN line, Base64 in
 * lines, END line. Inside, strings as in RFC 4251:
 *
 *	"openssh-key-v1" NUL  string cipher  string KDF  string its options  u32 1  string key blob  string
 *inner inner: u32 check  u32 check again  string "ssh-ed25519"  string public (32)  string seed and public
 *(64) string comment  bytes 1, 2, 3 … to a multiple of 8
 *
 * With a passphrase cipher is not "none", and inner cannot be read without it; the key blob can.
 *
 * Invariant: every buffer of ours that a seed has been in is wiped before its function returns, but for the
 * result.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/sign/internal.h"

#define MAGIC "openssh-key-v1" /* and its NUL */
#define LINE 70u
#define BLOCK 8u /* of cipher "none" */
#define DECODED_MAX (KEYFILE_MAX / 4 * 3)

static const char first_line[] = "-----BEGIN OPENSSH PRIVATE KEY-----\n";
static const char last_line[] = "-----END OPENSSH PRIVATE KEY-----";
#define FIRST_LEN (sizeof(first_line) - 1)
#define LAST_LEN (sizeof(last_line) - 1)

static int damaged(struct sosie_err *err)
{
	return sosie_err_set(err, SOSIE_ECONFIG, "the private key is damaged");
}

static bool text_is(const void *text, size_t len, const char *want)
{
	return text && len == strlen(want) && memcmp(text, want, len) == 0;
}

/* --- what stands inside
 * -------------------------------------------------------------------------------------------- */

static bool padding_ok(const struct sosie_reader *r)
{
	if (r->failed || r->left >= BLOCK)
		return false;
	for (size_t i = 0; i < r->left; i++)
		if (r->at[i] != i + 1)
			return false;
	return true;
}

/* The seed, when it is that of the public half that stands in front. */
static int parse_inner(const void *inner, size_t len, struct keyfile *out, struct sosie_err *err)
{
	size_t type_len, public_len, pair_len, comment_len;
	const void *type, *public, *pair;
	struct sosie_public made;
	struct evp_key *key;
	struct sosie_reader r;
	uint32_t check;
	int rc;

	sosie_reader_init(&r, inner, len);
	check = sosie_get_ssh_u32(&r);
	if (sosie_get_ssh_u32(&r) != check || len % BLOCK != 0)
		return damaged(err);
	type = sosie_get_ssh_string(&r, &type_len);
	public = sosie_get_ssh_string(&r, &public_len);
	pair = sosie_get_ssh_string(&r, &pair_len);
	sosie_get_ssh_string(&r, &comment_len);
	if (!padding_ok(&r) || !text_is(type, type_len, SIGN_TYPE) || public_len != SOSIE_PUBLIC_LEN ||
	    pair_len != EVP_SEED_LEN + SOSIE_PUBLIC_LEN)
		return damaged(err);
	rc = evp_key_new(pair, &key, &made, err);
	if (rc != 0)
		return rc;
	evp_key_free(key);
	if (!sosie_public_equal(&made, &out->key) || memcmp(public, made.b, SOSIE_PUBLIC_LEN) != 0 ||
	    memcmp((const uint8_t *)pair + EVP_SEED_LEN, made.b, SOSIE_PUBLIC_LEN) != 0)
		return damaged(err);
	memcpy(out->seed, pair, EVP_SEED_LEN);
	return 0;
}

static int parse_decoded(const uint8_t *bytes, size_t len, struct keyfile *out, struct sosie_err *err)
{
	size_t cipher_len, kdf_len, options_len, blob_len, inner_len;
	const void *magic, *cipher, *kdf, *blob, *inner;
	struct sosie_reader r;
	int rc;

	sosie_reader_init(&r, bytes, len);
	magic = sosie_get_view(&r, sizeof(MAGIC));
	if (!magic || memcmp(magic, MAGIC, sizeof(MAGIC)) != 0)
		return damaged(err);
	cipher = sosie_get_ssh_string(&r, &cipher_len);
	kdf = sosie_get_ssh_string(&r, &kdf_len);
	sosie_get_ssh_string(&r, &options_len);
	if (sosie_get_ssh_u32(&r) != 1)
		return damaged(err);
	blob = sosie_get_ssh_string(&r, &blob_len);
	inner = sosie_get_ssh_string(&r, &inner_len);
	if (!blob || !inner)
		return damaged(err);
	rc = public_from_blob(blob, blob_len, &out->key, err);
	if (rc != 0)
		return rc;
	out->kind = KEYFILE_LOCKED;
	if (!text_is(cipher, cipher_len, "none"))
		return 0; /* a tag of the cipher may stand behind */
	out->kind = KEYFILE_PRIVATE;
	if (!text_is(kdf, kdf_len, "none") || options_len != 0 || !sosie_reader_done(&r))
		return damaged(err);
	return parse_inner(inner, inner_len, out, err);
}

/* --- armour
 * -------------------------------------------------------------------------------------------------------- */

/* The length of the armour's body; false when the END line is missing or more stands behind it. */
static bool find_body(const char *text, size_t len, size_t *body_len)
{
	while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == '\r'))
		len--;
	if (len < LAST_LEN + 1 || memcmp(text + len - LAST_LEN, last_line, LAST_LEN) != 0 ||
	    text[len - LAST_LEN - 1] != '\n')
		return false;
	*body_len = len - LAST_LEN;
	return true;
}

static int parse_private(const char *body, size_t len, struct keyfile *out, struct sosie_err *err)
{
	char digits[KEYFILE_MAX];
	uint8_t bytes[DECODED_MAX];
	size_t n = 0, bytes_len;
	int rc;

	if (len > sizeof(digits))
		return damaged(err);
	for (size_t i = 0; i < len; i++)
		if (body[i] != '\n' && body[i] != '\r')
			digits[n++] = body[i];
	if (sosie_unbase64(digits, n, bytes, sizeof(bytes), &bytes_len))
		rc = parse_decoded(bytes, bytes_len, out, err);
	else
		rc = damaged(err);
	explicit_bzero(digits, sizeof(digits));
	explicit_bzero(bytes, sizeof(bytes));
	return rc;
}

static int other_format(struct sosie_err *err)
{
	sosie_err_set(err, SOSIE_EUNSUPPORTED, "a private key in another format than OpenSSH's own");
	return sosie_err_action(err, "make one: sosie keygen");
}

int keyfile_parse(const char *text, size_t len, struct keyfile *out, struct sosie_err *err)
{
	static const char any[] = "-----BEGIN ";
	size_t body_len;
	int rc;

	memset(out, 0, sizeof(*out));
	if (len >= FIRST_LEN && memcmp(text, first_line, FIRST_LEN) == 0) {
		if (!find_body(text + FIRST_LEN, len - FIRST_LEN, &body_len))
			return damaged(err);
		rc = parse_private(text + FIRST_LEN, body_len, out, err);
	} else if (len >= sizeof(any) - 1 && memcmp(text, any, sizeof(any) - 1) == 0) {
		rc = other_format(err);
	} else {
		out->kind = KEYFILE_PUBLIC;
		rc = sosie_public_parse(text, len, &out->key, NULL, err);
	}
	if (rc != 0)
		explicit_bzero(out, sizeof(*out));
	return rc;
}

/* --- writing
 * ------------------------------------------------------------------------------------------------------- */

static void put_inner(struct sosie_writer *w, const uint8_t seed[EVP_SEED_LEN],
                      const struct sosie_public *key, const char *comment, uint32_t check)
{
	sosie_put_ssh_u32(w, check);
	sosie_put_ssh_u32(w, check);
	sosie_put_ssh_string(w, SIGN_TYPE, strlen(SIGN_TYPE));
	sosie_put_ssh_string(w, key->b, SOSIE_PUBLIC_LEN);
	sosie_put_ssh_u32(w, EVP_SEED_LEN + SOSIE_PUBLIC_LEN);
	sosie_put_bytes(w, seed, EVP_SEED_LEN);
	sosie_put_bytes(w, key->b, SOSIE_PUBLIC_LEN);
	sosie_put_ssh_string(w, comment, strlen(comment));
	for (uint8_t i = 1; w->len % BLOCK != 0; i++)
		sosie_put_u8(w, i);
}

size_t keyfile_text(const uint8_t seed[EVP_SEED_LEN], const struct sosie_public *key, const char *comment,
                    uint32_t check, char dst[KEYFILE_TEXT])
{
	uint8_t inner[384], bytes[512], blob[SIGN_BLOB_LEN];
	char digits[SOSIE_BASE64_LEN(sizeof(bytes)) + 1];
	struct sosie_writer w;
	size_t len, n;

	sosie_writer_init(&w, inner, sizeof(inner));
	put_inner(&w, seed, key, comment, check);
	assert(!w.failed);
	len = w.len;
	public_blob(key, blob);
	sosie_writer_init(&w, bytes, sizeof(bytes));
	sosie_put_bytes(&w, MAGIC, sizeof(MAGIC));
	sosie_put_ssh_string(&w, "none", 4);
	sosie_put_ssh_string(&w, "none", 4);
	sosie_put_ssh_string(&w, "", 0);
	sosie_put_ssh_u32(&w, 1);
	sosie_put_ssh_string(&w, blob, sizeof(blob));
	sosie_put_ssh_string(&w, inner, len);
	assert(!w.failed);
	sosie_base64(digits, bytes, w.len);
	len = SOSIE_BASE64_LEN(w.len);
	sosie_writer_init(&w, dst, KEYFILE_TEXT);
	sosie_put_bytes(&w, first_line, FIRST_LEN);
	for (size_t at = 0; at < len; at += n) {
		n = len - at < LINE ? len - at : LINE;
		sosie_put_bytes(&w, digits + at, n);
		sosie_put_u8(&w, '\n');
	}
	sosie_put_bytes(&w, last_line, LAST_LEN);
	sosie_put_u8(&w, '\n');
	assert(!w.failed);
	explicit_bzero(inner, sizeof(inner));
	explicit_bzero(bytes, sizeof(bytes));
	explicit_bzero(digits, sizeof(digits));
	return w.len;
}

/* --- the file
 * ------------------------------------------------------------------------------------------------------ */

static int read_whole(int fd, char text[KEYFILE_MAX], size_t *len, struct sosie_err *err)
{
	ssize_t n;

	*len = 0;
	do {
		n = read(fd, text + *len, KEYFILE_MAX - *len);
		if (n > 0)
			*len += (size_t)n;
	} while ((n > 0 && *len < KEYFILE_MAX) || (n < 0 && errno == EINTR));
	if (n < 0)
		return sosie_err_sys(err, errno, "the key cannot be read");
	if (*len == KEYFILE_MAX)
		return sosie_err_set(err, SOSIE_ECONFIG, "no key: it has %u bytes or more", KEYFILE_MAX);
	return 0;
}

static int too_open(const char *path, mode_t mode, struct sosie_err *err)
{
	sosie_err_set(err, SOSIE_EDENIED,
	              "the private key may be read or written by others than its owner (mode %04o)",
	              (unsigned)(mode & 07777));
	return sosie_err_action(err, "chmod 600 %s; was it like that for long, then make another", path);
}

static int read_open(int fd, const char *path, struct keyfile *out, struct sosie_err *err)
{
	char text[KEYFILE_MAX];
	struct stat st;
	size_t len = 0;
	int rc;

	if (fstat(fd, &st) != 0)
		return sosie_err_sys(err, errno, "the key cannot be read");
	if (!S_ISREG(st.st_mode))
		return sosie_err_set(err, SOSIE_ECONFIG, "no key: not a regular file");
	rc = read_whole(fd, text, &len, err);
	if (rc == 0)
		rc = keyfile_parse(text, len, out, err);
	explicit_bzero(text, sizeof(text));
	if (rc == 0 && out->kind != KEYFILE_PUBLIC && (st.st_mode & 077) != 0) {
		explicit_bzero(out, sizeof(*out));
		rc = too_open(path, st.st_mode, err);
	}
	return rc;
}

int keyfile_read(const char *path, struct keyfile *out, struct sosie_err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY), rc;

	if (fd < 0)
		rc = sosie_err_sys(err, errno, "the key cannot be opened");
	else
		rc = read_open(fd, path, out, err);
	if (fd >= 0)
		close(fd);
	if (rc != 0)
		sosie_err_where(err, "%s", path);
	return rc;
}

/* SPDX-License-Identifier: MIT */
/*
 * One public key, from OpenSSH's one-line form (RFC 4253, section 6.6; RFC 5656; RFC
 * 8709). The line is a person's input: everything in it is checked, nothing of it is a path.
 */
#include <stdio.h>
#include <string.h>

#include "engine/store/keys.h"

#define BLOB_MAX 768u
#define RSA_BITS_MIN 3072u

static bool text_is(const uint8_t *text, size_t len, const char *want)
{
	return text && len == strlen(want) && memcmp(text, want, len) == 0;
}

static bool ecdsa_ok(struct sosie_reader *r, const char *type)
{
	static const struct {
		const char *type, *curve;
		size_t point;
	} curves[] = {{"ecdsa-sha2-nistp256", "nistp256", 65},
	              {"ecdsa-sha2-nistp384", "nistp384", 97},
	              {"ecdsa-sha2-nistp521", "nistp521", 133}};
	for (size_t i = 0; i < 3; i++) {
		if (strcmp(type, curves[i].type) != 0)
			continue;
		size_t len, point_len;
		const uint8_t *curve = sosie_get_ssh_string(r, &len);
		const uint8_t *point = sosie_get_ssh_string(r, &point_len);
		return text_is(curve, len, curves[i].curve) && point && point_len == curves[i].point &&
		       point[0] == 4;
	}
	return false;
}

static unsigned mpint_bits(const uint8_t *n, size_t len)
{
	unsigned bits;
	while (len && *n == 0) {
		n++;
		len--;
	}
	if (!len)
		return 0;
	bits = (unsigned)(len - 1) * 8;
	for (uint8_t top = *n; top; top = (uint8_t)(top >> 1))
		bits++;
	return bits;
}

static int check_blob(const char *type, const uint8_t *blob, size_t len, struct sosie_err *err)
{
	struct sosie_reader r;
	size_t n, m;
	bool ok = false;
	sosie_reader_init(&r, blob, len);
	const uint8_t *inner = sosie_get_ssh_string(&r, &n);
	if (!text_is(inner, n, type))
		return sosie_err_set(err, SOSIE_ECONFIG,
		                     "the key says it is %s, but its bytes are of another type", type);
	if (strcmp(type, "ssh-ed25519") == 0) {
		ok = sosie_get_ssh_string(&r, &n) && n == 32;
	} else if (strcmp(type, "ssh-rsa") == 0) {
		const uint8_t *e = sosie_get_ssh_string(&r, &n), *mod = sosie_get_ssh_string(&r, &m);
		ok = e && mod;
		if (ok && mpint_bits(mod, m) < RSA_BITS_MIN)
			return sosie_err_set(err, SOSIE_ECONFIG,
			                     "the RSA key has %u bits, at least %u are needed",
			                     mpint_bits(mod, m), RSA_BITS_MIN);
	} else {
		ok = ecdsa_ok(&r, type);
	}
	if (!ok || !sosie_reader_done(&r))
		return sosie_err_set(err, SOSIE_ECONFIG, "the bytes of the %s key are damaged", type);
	return 0;
}

static bool known_type(const char *type)
{
	return strcmp(type, "ssh-ed25519") == 0 || strcmp(type, "ssh-rsa") == 0 ||
	       strncmp(type, "ecdsa-sha2-nistp", 16) == 0;
}

/* The next word of a line, cut out; false when it is empty or too long. */
static bool take_word(const char **at, const char *end, char *dst, size_t size)
{
	const char *p = *at;
	while (p < end && (*p == ' ' || *p == '\t'))
		p++;
	const char *start = p;
	while (p < end && *p != ' ' && *p != '\t')
		p++;
	size_t len = (size_t)(p - start);
	*at = p;
	if (len == 0 || len >= size)
		return false;
	memcpy(dst, start, len);
	dst[len] = '\0';
	return true;
}

static int identify(struct sosie_key_info *k, const uint8_t *blob, size_t len, struct sosie_err *err)
{
	struct sosie_digest d;
	if (!sosie_sha256(blob, len, &d))
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory to read the key");
	sosie_hex(k->id, d.b, 8);
	sosie_fingerprint(k->fingerprint, &d);
	return 0;
}

int key_parse(const char *line, size_t len, struct sosie_key_info *k, struct sosie_err *err)
{
	uint8_t blob[BLOB_MAX];
	size_t blob_len = 0;
	memset(k, 0, sizeof(*k));
	while (len && (line[len - 1] == '\n' || line[len - 1] == '\r' || line[len - 1] == ' '))
		len--;
	const char *at = line, *end = line + len;
	if (memchr(line, '\n', len) || memchr(line, '\0', len) ||
	    !take_word(&at, end, k->type, sizeof(k->type)) || !known_type(k->type) ||
	    !take_word(&at, end, k->blob, sizeof(k->blob))) {
		sosie_err_set(err, SOSIE_ECONFIG, "not one OpenSSH public key line of a type that is taken");
		return sosie_err_action(
		        err, "give a file such as id_ed25519.pub: ssh-ed25519, ecdsa-sha2-nistp*, ssh-rsa");
	}
	if (!sosie_unbase64(k->blob, strlen(k->blob), blob, sizeof(blob), &blob_len))
		return sosie_err_set(err, SOSIE_ECONFIG, "the key's base64 is damaged");
	while (at < end && *at == ' ')
		at++;
	sosie_escape(k->comment, sizeof(k->comment), at, (size_t)(end - at));
	int rc = check_blob(k->type, blob, blob_len, err);
	return rc ? rc : identify(k, blob, blob_len, err);
}

bool key_ed25519(const struct sosie_key_info *k, uint8_t out[32])
{
	struct sosie_public key;
	char line[sizeof(k->type) + sizeof(k->blob) + 1];
	int n = snprintf(line, sizeof(line), "%s %s", k->type, k->blob);
	if (n < 0 || sosie_public_parse(line, (size_t)n, &key, NULL, NULL))
		return false;
	memcpy(out, key.b, sizeof(key.b));
	return true;
}

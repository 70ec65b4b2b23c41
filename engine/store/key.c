/* SPDX-License-Identifier: MIT */
/*
 * Public keys of a tenant's senders, from OpenSSH's one-line form (RFC 4253, section 6.6; RFC 5656; RFC
 * 8709). The line is a person's input: everything in it is checked, nothing of it is a path.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/store/core.h"

#define BLOB_MAX 768u
#define RSA_BITS_MIN 3072u

static const char base64_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static int base64_value(char c)
{
	const char *at = c ? strchr(base64_digits, c) : NULL;
	return at ? (int)(at - base64_digits) : -1;
}

/* Strict: padded to four, no other characters, no stray bits. */
static bool base64_decode(const char *text, size_t len, uint8_t *dst, size_t size, size_t *out)
{
	size_t pad = 0, n = 0;
	while (len > 0 && pad < 2 && text[len - 1 - pad] == '=')
		pad++;
	if (len == 0 || len % 4 != 0 || len / 4 * 3 - pad > size)
		return false;
	for (size_t i = 0; i < len; i += 4) {
		uint32_t v = 0;
		for (size_t k = 0; k < 4; k++) {
			bool padding = i + k >= len - pad;
			int d = padding ? 0 : base64_value(text[i + k]);
			if (d < 0)
				return false;
			v = v << 6 | (uint32_t)d;
		}
		for (size_t k = 0; k < 3 && n < len / 4 * 3 - pad; k++)
			dst[n++] = (uint8_t)(v >> (16 - 8 * k));
	}
	*out = n;
	return true;
}

static void base64_encode_bare(char *dst, const uint8_t *src, size_t len)
{
	uint32_t bits = 0, have = 0;
	for (size_t i = 0; i < len; i++) {
		bits = bits << 8 | src[i];
		for (have += 8; have >= 6; have -= 6)
			*dst++ = base64_digits[bits >> (have - 6) & 63];
	}
	if (have)
		*dst++ = base64_digits[bits << (6 - have) & 63];
	*dst = '\0';
}

/* SSH strings have a big-endian length. */
static const uint8_t *ssh_string(struct sosie_reader *r, size_t *len)
{
	uint8_t b[4];
	sosie_get_bytes(r, b, sizeof(b));
	*len = (size_t)b[0] << 24 | (size_t)b[1] << 16 | (size_t)b[2] << 8 | b[3];
	return r->failed ? NULL : sosie_get_view(r, *len);
}

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
		const uint8_t *curve = ssh_string(r, &len);
		const uint8_t *point = ssh_string(r, &point_len);
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
	const uint8_t *inner = ssh_string(&r, &n);
	if (!text_is(inner, n, type))
		return sosie_err_set(err, SOSIE_ECONFIG,
		                     "the key says it is %s, but its bytes are of another type", type);
	if (strcmp(type, "ssh-ed25519") == 0) {
		ok = ssh_string(&r, &n) && n == 32;
	} else if (strcmp(type, "ssh-rsa") == 0) {
		const uint8_t *e = ssh_string(&r, &n), *mod = ssh_string(&r, &m);
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
	char text[48];
	struct sosie_hash *h = sosie_hash_new();
	if (!h)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory to read the key");
	sosie_hash_plain(h);
	sosie_hash_add(h, blob, len);
	sosie_hash_end(h, &d);
	sosie_hash_free(h);
	sosie_hex(k->id, d.b, 8);
	base64_encode_bare(text, d.b, sizeof(d.b));
	snprintf(k->fingerprint, sizeof(k->fingerprint), "SHA256:%s", text);
	return 0;
}

static int parse_line(const char *line, size_t len, struct sosie_key_info *k, struct sosie_err *err)
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
	if (!base64_decode(k->blob, strlen(k->blob), blob, sizeof(blob), &blob_len))
		return sosie_err_set(err, SOSIE_ECONFIG, "the key's base64 is damaged");
	while (at < end && *at == ' ')
		at++;
	sosie_escape(k->comment, sizeof(k->comment), at, (size_t)(end - at));
	int rc = check_blob(k->type, blob, blob_len, err);
	return rc ? rc : identify(k, blob, blob_len, err);
}

static int write_key(struct sosie_store *store, const char *path, const struct sosie_key_info *k,
                     struct sosie_err *err)
{
	struct sosie_json *j = sosie_json_new();
	sosie_json_set_u64(j, "format", STORE_FORMAT);
	sosie_json_set_str(j, "use", "ssh");
	sosie_json_set_str(j, "type", k->type);
	sosie_json_set_str(j, "blob", k->blob);
	sosie_json_set_str(j, "comment", k->comment);
	sosie_json_set_str(j, "fingerprint", k->fingerprint);
	layout_set_time(j, "added", sosie_wall_ms(store->clock));
	return layout_write_json(store->io, path, j, 0640, err);
}

int sosie_key_add(struct sosie_store *store, const char *tenant, const char *line, size_t len,
                  struct sosie_key_info *out, struct sosie_err *err)
{
	char path[STORE_PATH];
	uint64_t quota;
	struct sosie_name name;
	int rc = sosie_name_set(&name, SOSIE_NAME_TENANT, tenant, err);
	if (!rc)
		rc = tenant_quota(store, tenant, &quota, err);
	if (!rc)
		rc = parse_line(line, len, out, err);
	if (!rc)
		rc = store_path(path, err, "%s/%s/_keys/%s.json", store->path, tenant, out->id);
	if (rc || sosie_io_exists(store->io, path))
		return rc;
	return write_key(store, path, out, err);
}

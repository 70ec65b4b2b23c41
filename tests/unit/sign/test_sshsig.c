/* SPDX-License-Identifier: MIT */
/*
 * Signed texts: round trips, both ways with ssh-keygen, and everything that must be refused: every byte
 * changed, every cut, other keys, other namespaces, more than one signature, lengths that lie.
 */
#include "tests/unit/sign/lab.h"

#include "engine/sign/internal.h"

/* --- keys
 * ----------------------------------------------------------------------------------------------------------
 */

/* RFC 8032, 7.1, test 1. */
static void test_seed_of_rfc8032_has_its_public_key(void **state)
{
	static const char seed_hex[] = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
	                  public_hex[] = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
	struct sosie_signer *s;
	uint8_t seed[32];
	char made[65];

	(void)state;
	assert_true(sosie_unhex(seed, sizeof(seed), seed_hex));
	OK(sosie_signer_seed(seed, &s, &err));
	sosie_hex(made, sosie_signer_public(s)->b, 32);
	assert_string_equal(made, public_hex);
	sosie_signer_close(s);
}

static void test_public_line_comes_back(void **state)
{
	struct sosie_signer *s = seeded(3);
	char line[SOSIE_PUBLIC_LINE], comment[64];
	struct sosie_public key;

	(void)state;
	sosie_public_line(sosie_signer_public(s), "me at x", line);
	OK(sosie_public_parse(line, strlen(line), &key, comment, &err));
	assert_true(sosie_public_equal(&key, sosie_signer_public(s)));
	assert_string_equal(comment, "me at x");
	sosie_public_line(&key, NULL, line);
	strcat(line, "\r\n");
	OK(sosie_public_parse(line, strlen(line), &key, comment, &err));
	assert_true(sosie_public_equal(&key, sosie_signer_public(s)));
	assert_string_equal(comment, "");
	assert_false(sosie_public_equal(&key, &(struct sosie_public){.b = {1}}));
	sosie_signer_close(s);
}

static void test_public_line_damaged_is_refused(void **state)
{
	struct sosie_signer *s = seeded(3);
	char line[SOSIE_PUBLIC_LINE], other[SOSIE_PUBLIC_LINE];
	struct sosie_public key;
	size_t len;

	(void)state;
	sosie_public_line(sosie_signer_public(s), NULL, line);
	len = strlen(line);
	for (size_t cut = 0; cut < len; cut++)
		assert_true(sosie_public_parse(line, cut, &key, NULL, &err) < 0);
	for (size_t at = 0; at < len; at++) {
		int rc;

		memcpy(other, line, len + 1);
		other[at] = (char)(other[at] ^ 1);
		rc = sosie_public_parse(other, len, &key, NULL, &err);
		if (rc == 0) /* another key, never the same one */
			assert_false(sosie_public_equal(&key, sosie_signer_public(s)));
	}
	REFUSED(SOSIE_ECONFIG, sosie_public_parse("", 0, &key, NULL, &err));
	REFUSED(SOSIE_ECONFIG, sosie_public_parse("# a comment", 11, &key, NULL, &err));
	memcpy(other, line, len);
	memcpy(other + len, "\nx", 3);
	REFUSED(SOSIE_ECONFIG, sosie_public_parse(other, len + 2, &key, NULL, &err));
	sosie_signer_close(s);
}

static void test_public_line_of_other_type_is_unsupported(void **state)
{
	static const char rsa[] = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAAQC7 x",
	                  security_key[] = "sk-ssh-ed25519@openssh.com AAAAGnNr x";
	struct sosie_public key;

	(void)state;
	REFUSED(SOSIE_EUNSUPPORTED, sosie_public_parse(rsa, sizeof(rsa) - 1, &key, NULL, &err));
	SAYS("ssh-rsa");
	SAYS("ssh-ed25519");
	REFUSED(SOSIE_EUNSUPPORTED,
	        sosie_public_parse(security_key, sizeof(security_key) - 1, &key, NULL, &err));
}

static void test_public_names_are_those_of_ssh_keygen(void **state)
{
	struct sosie_signer *s = seeded(4);
	char line[SOSIE_PUBLIC_LINE], print[64], told[256], id[17];

	(void)state;
	need("ssh-keygen");
	sosie_public_line(sosie_signer_public(s), "c", line);
	save("k.pub", line, strlen(line));
	OK(sosie_public_fingerprint(sosie_signer_public(s), print, &err));
	assert_int_equal(run("ssh-keygen -l -f k.pub >told"), 0);
	load("told", told, sizeof(told));
	assert_non_null(strstr(told, print));
	OK(sosie_public_id(sosie_signer_public(s), id, &err));
	assert_int_equal(run("[ \"$(cut -d' ' -f2 k.pub | base64 -d | sha256sum | cut -c1-16)\" = %s ]", id),
	                 0);
	sosie_signer_close(s);
}

/* --- what is taken
 * ------------------------------------------------------------------------------------------------- */

static void test_signed_text_checks_and_comes_apart(void **state)
{
	struct sosie_signer *s = seeded(1), *other = seeded(2);
	const struct sosie_public keys[3] = {*sosie_signer_public(other), *sosie_signer_public(s),
	                                     *sosie_signer_public(s)};
	struct sosie_public by;
	unsigned which = 77;
	size_t len;
	char *text = sign_text(s, NS, TEXT, &len);

	(void)state;
	assert_int_equal(strlen(text), len);
	assert_in_range(len, strlen(TEXT) + 200, strlen(TEXT) + SOSIE_SIGNATURE_MAX);
	assert_int_equal(sosie_signed_text(text, len), strlen(TEXT));
	assert_memory_equal(text, TEXT, strlen(TEXT));
	OK(sosie_signed_check(text, len, NS, keys, 3, &which, &err));
	assert_int_equal(which, 1);
	assert_true(sosie_signed_by(text, len, &by));
	assert_true(sosie_public_equal(&by, sosie_signer_public(s)));
	free(text);
	sosie_signer_close(s);
	sosie_signer_close(other);
}

static void test_signed_text_every_length_and_byte_of_text_checks(void **state)
{
	struct sosie_signer *s = seeded(1);
	char text[256], *made;
	size_t len;

	(void)state;
	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = (char)(i == '\n' ? 'n' : i);
	for (size_t n = 1; n <= sizeof(text); n += n < 4 ? 1 : 63) {
		OK(sosie_sign(s, NS, text, n, &made, &len, &err));
		assert_int_equal(sosie_signed_text(made, len), n);
		OK(check(made, len, NS, s));
		free(made);
	}
	sosie_signer_close(s);
}

static void test_longest_namespace_has_room(void **state)
{
	char ns[SIGN_NAMESPACE_MAX + 2] = SIGN_PREFIX, *text;
	struct sosie_signer *s = seeded(1);
	size_t len;

	(void)state;
	memset(ns + strlen(ns), 'x', SIGN_NAMESPACE_MAX - strlen(ns));
	text = sign_text(s, ns, TEXT, &len);
	OK(check(text, len, ns, s));
	free(text);
	ns[SIGN_NAMESPACE_MAX] = 'x';
	REFUSED(SOSIE_EINTERNAL, sosie_sign(s, ns, TEXT, strlen(TEXT), &text, &len, &err));
	sosie_signer_close(s);
}

static void test_sign_what_is_not_ours_is_refused(void **state)
{
	static const char *const foreign[] = {"", "file", "git", "sosie", "sosie-", "Sosie-x", "sosie-\n"};
	struct sosie_signer *s = seeded(1);
	char *text;
	size_t len;

	(void)state;
	for (size_t i = 0; i < sizeof(foreign) / sizeof(foreign[0]); i++)
		REFUSED(SOSIE_EINTERNAL, sosie_sign(s, foreign[i], TEXT, strlen(TEXT), &text, &len, &err));
	REFUSED(SOSIE_EINTERNAL, sosie_sign(s, NS, "", 0, &text, &len, &err));
	REFUSED(SOSIE_EINTERNAL, sosie_sign(s, NS, "a\nb", 3, &text, &len, &err));
	sosie_signer_close(s);
}

/* --- ssh-keygen
 * ---------------------------------------------------------------------------------------------------- */

static void test_ssh_keygen_verifies_ours(void **state)
{
	struct sosie_signer *s = seeded(1);
	char line[SOSIE_PUBLIC_LINE];
	size_t len;
	char *text = sign_text(s, NS, TEXT, &len);

	(void)state;
	need("ssh-keygen");
	sosie_public_line(sosie_signer_public(s), NULL, line);
	save("key", line, strlen(line));
	save("signed", text, len);
	/* As docs/format.md tells. */
	assert_int_equal(run("head -n 1 signed | tr -d '\\n' >text && sed 1d signed >text.sig"), 0);
	assert_int_equal(run("echo \"source namespaces=\\\"%s\\\" $(cat key)\" >allowed", NS), 0);
	assert_int_equal(
	        run("ssh-keygen -Y verify -f allowed -I source -n %s -s text.sig <text >out 2>&1", NS), 0);
	assert_int_equal(run("grep -q 'Good \"%s\" signature' out", NS), 0);
	assert_int_not_equal(
	        run("ssh-keygen -Y verify -f allowed -I source -n sosie-same -s text.sig <text >out 2>&1"),
	        0);
	assert_int_not_equal(run("echo >>text; ssh-keygen -Y verify -f allowed -I source -n %s -s text.sig "
	                         "<text >out 2>&1",
	                         NS),
	                     0);
	free(text);
	sosie_signer_close(s);
}

/* hash: of ssh-keygen -O hashalg. */
static void keygen_signs(const char *type, const char *hash)
{
	assert_int_equal(run("rm -f k k.pub && ssh-keygen -q -t %s -N '' -C me -f k", type), 0);
	assert_int_equal(run("printf '%%s' '%s' >t && ssh-keygen -q -Y sign -O hashalg=%s -f k -n %s t && "
	                     "{ cat t; echo; cat t.sig; } >signed && rm t.sig",
	                     TEXT, hash, NS),
	                 0);
}

static void test_signed_by_ssh_keygen_checks(void **state)
{
	static const char *const hashes[] = {"sha512", "sha256"};
	char text[2048], line[512];
	struct sosie_public key;
	unsigned which;
	size_t len;

	(void)state;
	need("ssh-keygen");
	for (unsigned i = 0; i < 2; i++) {
		keygen_signs("ed25519", hashes[i]);
		len = load("k.pub", line, sizeof(line));
		OK(sosie_public_parse(line, len, &key, NULL, &err));
		len = load("signed", text, sizeof(text));
		OK(sosie_signed_check(text, len, NS, &key, 1, &which, &err));
		text[3] ^= 1;
		REFUSED(SOSIE_EAUTH, sosie_signed_check(text, len, NS, &key, 1, &which, &err));
		SAYS("not of this text");
	}
}

static void test_signed_by_other_types_of_key_is_refused(void **state)
{
	struct sosie_signer *s = seeded(1);
	struct sosie_public key;
	char text[4096];
	size_t len;

	(void)state;
	need("ssh-keygen");
	keygen_signs("ecdsa", "sha512");
	len = load("signed", text, sizeof(text));
	REFUSED(SOSIE_EAUTH, check(text, len, NS, s));
	assert_false(sosie_signed_by(text, len, &key));
	keygen_signs("rsa", "sha512");
	len = load("signed", text, sizeof(text));
	REFUSED(SOSIE_EAUTH, check(text, len, NS, s));
	sosie_signer_close(s);
}

/* --- what is refused
 * ----------------------------------------------------------------------------------------------- */

static void test_check_names_the_reason(void **state)
{
	struct sosie_signer *s = seeded(1), *other = seeded(2);
	char print[64];
	unsigned which = 5;
	size_t len;
	char *text = sign_text(s, NS, TEXT, &len);

	(void)state;
	REFUSED(SOSIE_EAUTH, check(text, len, NS, other));
	OK(sosie_public_fingerprint(sosie_signer_public(s), print, &err));
	REFUSED(SOSIE_EAUTH, check(text, len, NS, other));
	SAYS(print);
	REFUSED(SOSIE_EAUTH, check(text, len, SOSIE_SIGN_SAME, s));
	SAYS("another use: sosie-manifest, not sosie-same");
	REFUSED(SOSIE_EAUTH, check(TEXT, strlen(TEXT), NS, s));
	SAYS("not signed");
	REFUSED(SOSIE_EAUTH, check(TEXT "\n", strlen(TEXT) + 1, NS, s));
	SAYS("not signed");
	REFUSED(SOSIE_EAUTH, check("", 0, NS, s));
	SAYS("not signed");
	REFUSED(SOSIE_EAUTH, check(text + strlen(TEXT), len - strlen(TEXT), NS, s));
	SAYS("without a text");
	REFUSED(SOSIE_EAUTH, sosie_signed_check(text, len, NS, sosie_signer_public(s), 0, &which, &err));
	SAYS("no key is");
	text[0] = '[';
	REFUSED(SOSIE_EAUTH, check(text, len, NS, s));
	SAYS("not of this text");
	free(text);
	sosie_signer_close(s);
	sosie_signer_close(other);
}

static void test_check_every_bit_flipped_is_refused(void **state)
{
	struct sosie_signer *s = seeded(1);
	unsigned refused = 0;
	size_t len;
	char *text = sign_text(s, NS, TEXT, &len);

	(void)state;
	for (size_t at = 0; at < len; at++)
		for (unsigned bit = 0; bit < 8; bit++) {
			text[at] = (char)(text[at] ^ (1 << bit));
			if (check(text, len, NS, s) == 0)
				fail_msg("byte %zu, bit %u: taken", at, bit);
			refused++;
			text[at] = (char)(text[at] ^ (1 << bit));
		}
	assert_int_equal(refused, len * 8);
	OK(check(text, len, NS, s));
	free(text);
	sosie_signer_close(s);
}

static void test_check_every_cut_and_anything_behind_is_refused(void **state)
{
	struct sosie_signer *s = seeded(1);
	struct sosie_public key;
	char more[4096];
	size_t len;
	char *text = sign_text(s, NS, TEXT, &len);

	(void)state;
	for (size_t cut = 0; cut < len; cut++) {
		assert_true(check(text, cut, NS, s) < 0);
		assert_false(sosie_signed_by(text, cut, &key));
	}
	for (unsigned byte = 0; byte < 256; byte++) {
		memcpy(more, text, len);
		more[len] = (char)byte;
		assert_true(check(more, len + 1, NS, s) < 0);
	}
	free(text);
	sosie_signer_close(s);
}

static void test_check_two_signatures_are_refused(void **state)
{
	struct sosie_signer *s = seeded(1), *other = seeded(2);
	char both[4096];
	size_t len, other_len, n = strlen(TEXT) + 1;
	char *text = sign_text(s, NS, TEXT, &len), *second = sign_text(other, NS, TEXT, &other_len);

	(void)state;
	memcpy(both, text, len);
	memcpy(both + len, second + n, other_len - n);
	assert_true(check(both, len + other_len - n, NS, s) < 0);
	assert_true(check(both, len + other_len - n, NS, other) < 0);
	memcpy(both + len, text + n, len - n);
	assert_true(check(both, 2 * len - n, NS, s) < 0);
	free(text);
	free(second);
	sosie_signer_close(s);
	sosie_signer_close(other);
}

/* The same signature in another spelling would be a second signed text of the same content. */
static void test_check_other_spellings_are_refused(void **state)
{
	struct sosie_signer *s = seeded(1);
	char other[4096];
	size_t len, first = strlen(TEXT) + 1 + strlen("-----BEGIN SSH SIGNATURE-----\n");
	char *text = sign_text(s, NS, TEXT, &len);

	(void)state;
	for (size_t at = first; at < len; at++) { /* a line end, a blank more */
		memcpy(other, text, at);
		memcpy(other + at + 1, text + at, len - at);
		other[at] = '\n';
		assert_true(check(other, len + 1, NS, s) < 0);
		other[at] = ' ';
		assert_true(check(other, len + 1, NS, s) < 0);
	}
	memcpy(other, text, first + 70); /* one less */
	memcpy(other + first + 70, text + first + 71, len - first - 71);
	assert_true(check(other, len - 1, NS, s) < 0);
	free(text);
	sosie_signer_close(s);
}

/* A blob in armour, as hostile as wanted. */
static size_t armoured(char *dst, const uint8_t *blob, size_t len)
{
	char digits[4096];
	size_t at = (size_t)sprintf(dst, "%s\n-----BEGIN SSH SIGNATURE-----\n", TEXT), n;

	sosie_base64(digits, blob, len);
	for (size_t i = 0; i < strlen(digits); i += n) {
		n = strlen(digits) - i < 70 ? strlen(digits) - i : 70;
		at += (size_t)sprintf(dst + at, "%.*s\n", (int)n, digits + i);
	}
	return at + (size_t)sprintf(dst + at, "-----END SSH SIGNATURE-----\n");
}

static size_t blob_of(const char *text, size_t len, uint8_t *blob, size_t size)
{
	const size_t first = strlen(TEXT) + 1 + 30, last = 28;
	char digits[1024];
	size_t n = 0, got;

	for (size_t i = first; i < len - last; i++)
		if (text[i] != '\n')
			digits[n++] = text[i];
	assert_true(sosie_unbase64(digits, n, blob, size, &got));
	return got;
}

static void test_check_lengths_and_fields_that_lie_are_refused(void **state)
{
	static const uint32_t lies[] = {0, 1, 31, 33, 0x7fffffff, 0x80000000, 0xfffffffc, 0xffffffff};
	struct sosie_signer *s = seeded(1);
	uint8_t blob[512], other[512];
	char text[4096];
	size_t len, blob_len;
	unsigned tried = 0;
	char *made = sign_text(s, NS, TEXT, &len);

	(void)state;
	blob_len = blob_of(made, len, blob, sizeof(blob));
	assert_int_equal(armoured(text, blob, blob_len), len);
	assert_memory_equal(text, made, len); /* the armour of this test is ours */
	for (size_t at = 0; at + 4 <= blob_len; at++)
		for (unsigned i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
			memcpy(other, blob, blob_len);
			for (unsigned k = 0; k < 4; k++)
				other[at + k] = (uint8_t)(lies[i] >> (24 - 8 * k));
			if (memcmp(other, blob, blob_len) == 0)
				continue;
			tried++;
			assert_true(check(text, armoured(text, other, blob_len), NS, s) < 0);
		}
	assert_true(tried > 1000);
	memcpy(other, blob, blob_len);
	other[blob_len] = 0; /* one byte behind the last field */
	assert_true(check(text, armoured(text, other, blob_len + 1), NS, s) < 0);
	for (size_t cut = 0; cut < blob_len; cut++)
		assert_true(check(text, armoured(text, blob, cut), NS, s) < 0);
	memset(other, 0xff, sizeof(other)); /* longer than any signature */
	assert_true(check(text, armoured(text, other, sizeof(other)), NS, s) < 0);
	free(made);
	sosie_signer_close(s);
}

/* A signature whose second half is S + L verifies too by the equation (RFC 8032, 5.1.7 forbids it). */
static void test_check_unreduced_signature_is_refused(void **state)
{
	static const uint8_t order[32] = {0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58,       0xd6,
	                                  0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, [31] = 0x10};
	struct sosie_signer *s = seeded(1);
	uint8_t blob[512];
	char text[4096];
	size_t len, blob_len;
	unsigned carry = 0;
	char *made = sign_text(s, NS, TEXT, &len);

	(void)state;
	blob_len = blob_of(made, len, blob, sizeof(blob));
	for (size_t i = 0; i < 32; i++) {
		carry += blob[blob_len - 32 + i] + (unsigned)order[i];
		blob[blob_len - 32 + i] = (uint8_t)carry;
		carry >>= 8;
	}
	assert_int_equal(carry, 0);
	REFUSED(SOSIE_EAUTH, check(text, armoured(text, blob, blob_len), NS, s));
	SAYS("not of this text");
	free(made);
	sosie_signer_close(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_seed_of_rfc8032_has_its_public_key),
	        cmocka_unit_test(test_public_line_comes_back),
	        cmocka_unit_test(test_public_line_damaged_is_refused),
	        cmocka_unit_test(test_public_line_of_other_type_is_unsupported),
	        cmocka_unit_test(test_public_names_are_those_of_ssh_keygen),
	        cmocka_unit_test(test_signed_text_checks_and_comes_apart),
	        cmocka_unit_test(test_signed_text_every_length_and_byte_of_text_checks),
	        cmocka_unit_test(test_longest_namespace_has_room),
	        cmocka_unit_test(test_sign_what_is_not_ours_is_refused),
	        cmocka_unit_test(test_ssh_keygen_verifies_ours),
	        cmocka_unit_test(test_signed_by_ssh_keygen_checks),
	        cmocka_unit_test(test_signed_by_other_types_of_key_is_refused),
	        cmocka_unit_test(test_check_names_the_reason),
	        cmocka_unit_test(test_check_every_bit_flipped_is_refused),
	        cmocka_unit_test(test_check_every_cut_and_anything_behind_is_refused),
	        cmocka_unit_test(test_check_two_signatures_are_refused),
	        cmocka_unit_test(test_check_other_spellings_are_refused),
	        cmocka_unit_test(test_check_lengths_and_fields_that_lie_are_refused),
	        cmocka_unit_test(test_check_unreduced_signature_is_refused),
	};
	return cmocka_run_group_tests(tests, lab_open, lab_close);
}

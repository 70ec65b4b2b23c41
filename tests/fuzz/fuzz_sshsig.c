/* SPDX-License-Identifier: MIT */
/*
 * Signed texts as a peer may send them, key files and public key lines as an operator may give them. The keys
 * of the seeds are known: a signed text that checks must be the very text that was signed. What is taken as a
 * key must be written again and taken again.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/sign/internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
	if (!ok)
		abort();
}

/* Ed25519 signs the same text in the same way each time, and a signature has one spelling. (No seed has a
 * signature of this key with SHA-256, and nobody can make one here.) */
static void signed_text(const uint8_t *data, size_t size)
{
	static const uint8_t seed[32] = {1};
	static struct sosie_signer *signer;
	struct sosie_public by;
	struct sosie_err err;
	unsigned which = 1;
	char *again;
	size_t len, text_len = sosie_signed_text(data, size);

	must(signer || sosie_signer_seed(seed, &signer, &err) == 0);
	must(text_len <= size);
	if (!sosie_signed_by(data, size, &by)) {
		must(sosie_signed_check(data, size, SOSIE_SIGN_MANIFEST, sosie_signer_public(signer), 1,
		                        &which, &err) == -SOSIE_EAUTH);
		return;
	}
	if (sosie_signed_check(data, size, SOSIE_SIGN_MANIFEST, sosie_signer_public(signer), 1, &which,
	                       &err) != 0)
		return;
	must(which == 0 && sosie_public_equal(&by, sosie_signer_public(signer)));
	must(sosie_sign(signer, SOSIE_SIGN_MANIFEST, (const char *)data, text_len, &again, &len, &err) == 0);
	must(len == size && memcmp(again, data, size) == 0);
	free(again);
}

static void key_file(const char *text, size_t len)
{
	char again[KEYFILE_TEXT], line[SOSIE_PUBLIC_LINE];
	struct keyfile file, same;
	struct sosie_err err;

	if (keyfile_parse(text, len, &file, &err) != 0) {
		must(err.code == SOSIE_ECONFIG || err.code == SOSIE_EUNSUPPORTED || err.code == SOSIE_ENOMEM);
		return;
	}
	if (file.kind == KEYFILE_PRIVATE) {
		must(keyfile_parse(again, keyfile_text(file.seed, &file.key, "c", 1, again), &same, &err) ==
		     0);
		must(memcmp(file.seed, same.seed, sizeof(file.seed)) == 0);
	} else {
		sosie_public_line(&file.key, NULL, line);
		must(keyfile_parse(line, strlen(line), &same, &err) == 0);
	}
	must(sosie_public_equal(&file.key, &same.key));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sosie_public key;
	char comment[64];

	signed_text(data, size);
	key_file((const char *)data, size);
	if (sosie_public_parse((const char *)data, size, &key, comment, NULL) == 0)
		must(strlen(comment) < sizeof(comment));
	return 0;
}

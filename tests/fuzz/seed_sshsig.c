/* SPDX-License-Identifier: MIT */
/* Writes the seed corpus of fuzz_sshsig: seed_sshsig tests/fuzz/corpus. Signed texts and keys of the seed
 * that fuzz_sshsig knows, and of another. (Files "keygen-…" are of ssh-keygen.) */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/sign/internal.h"

static const char *corpus;

static void save(const char *name, const void *bytes, size_t len)
{
	char path[4096];
	FILE *file;

	snprintf(path, sizeof(path), "%s/sshsig/%s", corpus, name);
	file = fopen(path, "wb");
	if (!file || fwrite(bytes, 1, len, file) != len || fclose(file) != 0) {
		perror(path);
		exit(1);
	}
}

static void save_signed(const char *name, uint8_t first, const char *name_space, const char *text)
{
	const uint8_t seed[32] = {first};
	struct sosie_signer *s;
	struct sosie_err err;
	size_t len;
	char *out;

	if (sosie_signer_seed(seed, &s, &err) != 0 ||
	    sosie_sign(s, name_space, text, strlen(text), &out, &len, &err) != 0) {
		fprintf(stderr, "seed_sshsig: %s\n", err.what);
		exit(1);
	}
	save(name, out, len);
	free(out);
	sosie_signer_close(s);
}

static void save_key(const char *name, uint8_t first, const char *comment)
{
	const uint8_t seed[32] = {first};
	char text[KEYFILE_TEXT], line[SOSIE_PUBLIC_LINE], path[64];
	struct sosie_signer *s;
	struct sosie_err err;

	if (sosie_signer_seed(seed, &s, &err) != 0)
		exit(1);
	save(name, text, keyfile_text(seed, sosie_signer_public(s), comment, 0x01020304, text));
	sosie_public_line(sosie_signer_public(s), comment, line);
	snprintf(path, sizeof(path), "%s.pub", name);
	save(path, line, strlen(line));
	sosie_signer_close(s);
}

int main(int argc, char **argv)
{
	if (argc != 2) {
		fprintf(stderr, "usage: seed_sshsig CORPUS\n");
		return 2;
	}
	corpus = argv[1];
	save_signed("manifest", 1, SOSIE_SIGN_MANIFEST, "{\"format\":1,\"kind\":\"segment\"}");
	save_signed("short", 1, SOSIE_SIGN_MANIFEST, "1");
	save_signed("other-use", 1, SOSIE_SIGN_HEAD, "{\"format\":1}");
	save_signed("other-key", 2, SOSIE_SIGN_MANIFEST, "{\"format\":1}");
	save_key("key", 1, "comment");
	save_key("key-bare", 2, "");
	return 0;
}

/* SPDX-License-Identifier: MIT */
/* Writes the seed corpus of fuzz_rdiff: seed_rdiff tests/fuzz/corpus. Deltas of librsync, and one with every
 * command. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/delta/rdiff_internal.h"
#include "sosie/bytes.h"

#define BASIS 8192u

static const char *corpus;
static uint8_t basis[BASIS], plain[2 * BASIS], delta[4 * BASIS];

static void save(const char *name, size_t basis_len, size_t plain_len, size_t len)
{
	const uint8_t head[4] = {(uint8_t)basis_len, (uint8_t)(basis_len >> 8), (uint8_t)plain_len,
	                         (uint8_t)(plain_len >> 8)};
	char path[4096];
	FILE *file;

	snprintf(path, sizeof(path), "%s/rdiff/%s", corpus, name);
	file = fopen(path, "wb");
	if (!file || fwrite(head, 1, 4, file) != 4 || fwrite(delta, 1, len, file) != len ||
	    fclose(file) != 0) {
		perror(path);
		exit(1);
	}
}

static void save_delta(struct rdiff *r, const char *name, size_t plain_len)
{
	static uint8_t sig[RDIFF_SIGNATURE_MAX];
	struct sosie_err err;
	size_t sig_len, len = 0;

	if (rdiff_signature(r, basis, BASIS, sig, &sig_len, &err) != 0 || sig_len == 0 ||
	    rdiff_delta(r, sig, sig_len, plain, plain_len, delta, sizeof(delta), &len, &err) != 0 ||
	    len == 0) {
		fprintf(stderr, "seed_rdiff: no delta for %s\n", name);
		exit(1);
	}
	save(name, BASIS, plain_len, len);
}

static void put_big_endian(struct sosie_writer *w, uint64_t v, unsigned width)
{
	for (unsigned i = width; i-- > 0;)
		sosie_put_u8(w, (uint8_t)(v >> (8 * i)));
}

static void save_every_command(void)
{
	struct sosie_writer w;
	size_t total = 0;

	sosie_writer_init(&w, delta, sizeof(delta));
	sosie_put_bytes(&w, "rs\x02\x36", 4);
	for (unsigned op = 1; op <= 84; op++) {
		unsigned len = op <= 64 ? op : 9;

		sosie_put_u8(&w, (uint8_t)op);
		if (op > 68)
			put_big_endian(&w, op, 1u << (op - 69) / 4);
		if (op > 64)
			put_big_endian(&w, len, 1u << (op > 68 ? (op - 69) % 4 : op - 65));
		if (op <= 68)
			sosie_put_bytes(&w, basis, len);
		total += len;
	}
	sosie_put_u8(&w, 0);
	save("every-command", BASIS, total, w.len);
}

int main(int argc, char **argv)
{
	struct sosie_err err;
	struct rdiff *r;

	if (argc != 2 || rdiff_new(&r, &err) != 0) {
		fprintf(stderr, "usage: seed_rdiff CORPUS\n");
		return 2;
	}
	corpus = argv[1];
	for (size_t i = 0; i < BASIS; i++)
		basis[i] = (uint8_t)(i * 7);
	memcpy(plain, basis, BASIS);
	save_delta(r, "same", BASIS);
	memset(plain + 3000, 'x', 100);
	save_delta(r, "changed", BASIS);
	memcpy(plain + 500, basis, BASIS);
	save_delta(r, "shifted", BASIS + 500);
	memset(plain, 'y', 700);
	save_delta(r, "new", 700);
	save_every_command();
	rdiff_free(r);
	return 0;
}

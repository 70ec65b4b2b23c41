/* SPDX-License-Identifier: MIT */
/*
 * Deltas as a peer may send them: u16 length of the basis, u16 length of the result, then the delta. Memory
 * has exactly these sizes. What is applied must be a delta of its own result.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/delta/rdiff_internal.h"
#include "sosie/bytes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t basis_len, plain_len;
	struct sosie_reader r;
	struct sosie_err err;
	uint8_t *basis, *plain;
	int rc;

	sosie_reader_init(&r, data, size);
	basis_len = sosie_get_u16(&r);
	plain_len = sosie_get_u16(&r);
	if (r.failed)
		return 0;
	basis = calloc(1, basis_len + 1);
	plain = malloc(plain_len + 1);
	if (!basis || !plain)
		abort();
	plain[plain_len] = 0x5a;
	for (size_t i = 0; i < basis_len; i++)
		basis[i] = (uint8_t)(i * 7);
	rc = rdiff_apply(r.at, r.left, basis, basis_len, plain, plain_len, &err);
	if (plain[plain_len] != 0x5a || (rc != 0 && err.code != SOSIE_ECORRUPT) ||
	    (rc == 0 && !rdiff_literals_match(r.at, r.left, basis_len, plain, plain_len)))
		abort();
	free(basis);
	free(plain);
	return 0;
}

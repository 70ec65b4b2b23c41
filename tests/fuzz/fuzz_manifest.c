/* SPDX-License-Identifier: MIT */
/* Manifests as a peer may send them; what is taken must be written again and taken again. */
#include <stdlib.h>

#include "sosie/segment.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sosie_manifest m;
	struct sosie_err err;
	char *text;
	size_t len;

	if (sosie_manifest_parse(data, size, &m, &err) != 0)
		return 0;
	if (sosie_manifest_text(&m, &text, &len, &err) != 0 && err.code != SOSIE_ENOMEM)
		abort();
	free(text);
	sosie_manifest_fini(&m);
	return 0;
}

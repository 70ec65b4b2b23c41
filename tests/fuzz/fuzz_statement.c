/* SPDX-License-Identifier: MIT */
/* Heads and verdicts as a receiver may relay them; what is taken must be written again and taken again. */
#include <stdlib.h>

#include "sosie/segment.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void written(int rc, const struct sosie_err *err)
{
	if (rc != 0 && err->code != SOSIE_ENOMEM)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct sosie_head head;
	static struct sosie_verdict verdict;
	struct sosie_err err;
	char *text;
	size_t len;

	if (sosie_head_parse(data, size, &head, &err) == 0) {
		written(sosie_head_text(&head, &text, &len, &err), &err);
		free(text);
	}
	if (sosie_verdict_parse(data, size, &verdict, &err) == 0) {
		written(sosie_verdict_text(&verdict, &text, &len, &err), &err);
		free(text);
	}
	return 0;
}

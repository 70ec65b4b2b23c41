/* SPDX-License-Identifier: MIT */
/* Manifests as a peer may send them; what is taken must be written again and taken again. A confined child
 * takes those that are written as we write them, and no other. */
#include <stdlib.h>

#include "engine/store/confined.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct confined *child(void)
{
	static struct confined_home *home;
	static struct confined *c;

	if (!c && (confined_home_new(&confined_kind, &home, NULL) != 0 ||
	           confined_get(home, "acme", &c, NULL) != 0))
		abort();
	return c;
}

static void compare_with_child(const uint8_t *data, size_t size, const struct sosie_manifest *here)
{
	struct sosie_manifest there;
	struct sosie_err err;
	int rc = confined_manifest(child(), data, size, &there, &err);
	bool ours = here && manifest_is_text(here, data, size, &err) == 0;

	if ((rc == 0) != ours)
		abort();
	sosie_manifest_fini(&there);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sosie_manifest m;
	struct sosie_err err;
	char *text;
	size_t len;

	if (sosie_manifest_parse(data, size, &m, &err) != 0) {
		compare_with_child(data, size, NULL);
		return 0;
	}
	compare_with_child(data, size, &m);
	if (sosie_manifest_text(&m, &text, &len, &err) != 0 && err.code != SOSIE_ENOMEM)
		abort();
	free(text);
	sosie_manifest_fini(&m);
	return 0;
}

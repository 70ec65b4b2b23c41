/* SPDX-License-Identifier: MIT */
/* The scan driver with what a test needs of its options; all is borrowed. */
#ifndef TESTS_SCAN_H
#define TESTS_SCAN_H

#include "sosie/source.h"

static inline int scan_source(const struct sosie_volume *volumes, unsigned count,
                              const struct sosie_hooks *hooks, const char *group, struct sosie_source **out,
                              struct sosie_err *err)
{
	const struct sosie_source_options o = {.kind = SOSIE_SOURCE_SCAN,
	                                       .volumes = volumes,
	                                       .count = count,
	                                       .hooks = hooks,
	                                       .group = group};
	char reason[200];

	return sosie_source_open(&o, out, reason, sizeof(reason), err);
}

#endif

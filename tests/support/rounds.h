/* SPDX-License-Identifier: MIT */
/* How often a test does what it does: SOSIE_ROUNDS is a number, or "full". */
#ifndef TESTS_ROUNDS_H
#define TESTS_ROUNDS_H

#include <stdlib.h>
#include <string.h>

static inline unsigned test_rounds(unsigned quick, unsigned full)
{
	const char *text = getenv("SOSIE_ROUNDS");
	unsigned long n = text ? strtoul(text, NULL, 10) : 0;

	if (text && strcmp(text, "full") == 0)
		return full;
	return n > 0 && n < 1u << 30 ? (unsigned)n : quick;
}

#endif

/* SPDX-License-Identifier: MIT */
/* How often a test does what it does: SOSIE_ROUNDS is a number, "full", or "few": enough to pass every path
 * once, for runs that look for races (tests/run). */
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
	if (text && strcmp(text, "few") == 0)
		return quick > 4 ? quick / 4 : 1;
	return n > 0 && n < 1u << 30 ? (unsigned)n : quick;
}

/* Where fewer would not reach what is tested: the bound of a list, a rare form. */
static inline unsigned test_rounds_least(unsigned quick, unsigned full)
{
	unsigned n = test_rounds(quick, full);

	return n > quick ? n : quick;
}

/* Of a sweep over all operations each so many-th is cut or fails: all in "full". */
static inline unsigned test_stride(unsigned quick, unsigned few)
{
	const char *text = getenv("SOSIE_ROUNDS");

	if (text && strcmp(text, "full") == 0)
		return 1;
	return text && strcmp(text, "few") == 0 ? few : quick;
}

#endif

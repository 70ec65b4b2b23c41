/* SPDX-License-Identifier: MIT */
/*
 * Runs a program that the operator has named, with a text on its standard input: in a process group of its
 * own, with a limit in time after which the whole group is killed, and with its output bounded. Never for
 * anything that a peer chose.
 */
#ifndef SOSIE_COMMAND_H
#define SOSIE_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sosie/err.h"

struct sosie_command {
	const char *program; /* a path, run without a shell and without arguments */
	const void *input;
	size_t input_len;
	uint64_t limit_ms;
	const bool *stop; /* set: the group is killed, SOSIE_EINTR; may be NULL */
};

/* 0 when it ended with 0. SOSIE_EHOOK: it could not be run, ended otherwise, or the limit had passed (the
 * message says which, with the beginning of what it wrote). Any thread. */
int sosie_command_run(const struct sosie_command *command, struct sosie_err *err);

#endif

/* SPDX-License-Identifier: MIT */
/* Asking the operator. */
#ifndef TOOLS_PROMPT_H
#define TOOLS_PROMPT_H

#include <stdbool.h>
#include <stddef.h>

#include "sosie/err.h"

/* True when somebody can be asked: standard input and output are terminals. */
bool prompt_possible(void);
/* Prints question on standard output and reads one line, without its end, into answer. *answered is false at
 * the end of the input. SOSIE_EINTR when a stop was wanted. */
int prompt_line(const char *question, char *answer, size_t size, bool *answered, struct sosie_err *err);

#endif

/* SPDX-License-Identifier: MIT */
/* Text that is fit for a terminal and a journal; shared by err.c and log.c. */
#ifndef SOSIE_BASE_TEXT_H
#define SOSIE_BASE_TEXT_H

#include <stddef.h>

/* Copies src: ASCII and well-formed UTF-8 without control characters as it is, every other byte as \xNN. Cut
 * to size, never inside a sequence. Returns the length written. size is at least 1. */
size_t sosie_text_clean(char *dst, size_t size, const char *src);

#endif

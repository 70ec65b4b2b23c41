/* SPDX-License-Identifier: MIT */
/*
 * Names that peers and people may choose. Tenant and group: a letter or digit, then letters, digits, '_' and
 * '-', 1 to 63 bytes. Volume and attachment: the same and '.'. ASCII only. Nothing of this set can leave a
 * folder, be hidden, be an option, or meet a name of the store's own (those start with '_' or have a '.'
 * where a tenant or group cannot).
 */
#ifndef SOSIE_NAMES_H
#define SOSIE_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sosie/err.h"

#define SOSIE_NAME_MAX 63

struct sosie_name {
	char s[SOSIE_NAME_MAX + 1];
};

enum sosie_name_kind { SOSIE_NAME_TENANT, SOSIE_NAME_GROUP, SOSIE_NAME_VOLUME, SOSIE_NAME_ATTACHMENT };

/* Checks and copies; SOSIE_ENAME with the allowed set in the message otherwise. */
int sosie_name_set(struct sosie_name *dst, enum sosie_name_kind kind, const char *text,
                   struct sosie_err *err);

/* "TENANT/GROUP" or, where group may be NULL, "TENANT". */
int sosie_name_pair(const char *text, struct sosie_name *tenant, struct sosie_name *group,
                    struct sosie_err *err);

/* Bytes with an optional K, M, G, T (powers of 1024): "8G". SOSIE_EUSAGE otherwise, also on overflow. */
int sosie_size_parse(const char *text, uint64_t *bytes, struct sosie_err *err);
/* Milliseconds from "100ms", "1s", "5m", "2h", "7d"; a bare number is seconds. */
int sosie_duration_parse(const char *text, uint64_t *ms, struct sosie_err *err);
/* "1.5 GiB", "312 KiB", "17 B"; "1 m 12 s", "0.4 s", "3 d 4 h". dst of 32 bytes suffices; return dst. */
const char *sosie_size_text(char *dst, size_t size, uint64_t bytes);
const char *sosie_duration_text(char *dst, size_t size, uint64_t ms);

#endif

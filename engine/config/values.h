/* SPDX-License-Identifier: MIT */
/* What config.c uses of values.c beside include/sosie/config.h. */
#ifndef SOSIE_CONFIG_VALUES_H
#define SOSIE_CONFIG_VALUES_H

#include "sosie/config.h"

/* A value as a message shows it: short, fit for a terminal. */
struct shown {
	char s[84];
};
struct shown config_show(const char *text);
/* A whole number, nothing around it. */
bool config_whole(const char *text, long min, long max, long *out);
/* From 1 to max; *out stays when text is NULL. */
int config_count(const char *text, long max, unsigned *out, struct sosie_err *err);

#endif

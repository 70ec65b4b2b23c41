/* SPDX-License-Identifier: MIT */
/* The scan driver. */
#ifndef ENGINE_SOURCE_SCAN_H
#define ENGINE_SOURCE_SCAN_H

#include "sosie/source.h"

/* Whether pause is used: only around a view command. Reading all takes too long to hold writers meanwhile. */
bool scan_pauses(const struct sosie_source_options *o);
int scan_open(const struct sosie_source_options *o, struct sosie_source **out, struct sosie_err *err);

#endif

/* SPDX-License-Identifier: MIT */
/* Lines on standard error, as the journal reads them: "<3>sosie-keeper: acme/erp: …" under systemd, plain on
 * a terminal. Only programs and the loops that decide call this; libraries return errors. Thread-safe. */
#ifndef SOSIE_LOG_H
#define SOSIE_LOG_H

#include "sosie/err.h"

enum sosie_log_level {
	SOSIE_LOG_ERROR = 3,
	SOSIE_LOG_WARNING = 4,
	SOSIE_LOG_NOTICE = 5,
	SOSIE_LOG_INFO = 6,
	SOSIE_LOG_DEBUG = 7
};

/* name is borrowed for good; lines above level are dropped; SOSIE_LOG=debug in the environment overrides. */
void sosie_log_init(const char *name, enum sosie_log_level level);
void sosie_log(enum sosie_log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void sosie_log_err(enum sosie_log_level level, const struct sosie_err *err);

#endif

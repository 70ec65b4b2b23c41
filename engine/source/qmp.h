/* SPDX-License-Identifier: MIT */
/*
 * As much of QEMU's monitor protocol as a pause needs (QEMU: docs/interop/qmp-spec.rst): greeting,
 * qmp_capabilities, query-status, stop, cont. One JSON object a line, at most 64 KiB; events are passed over;
 * each wait ends at its deadline.
 */
#ifndef ENGINE_SOURCE_QMP_H
#define ENGINE_SOURCE_QMP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sosie/err.h"

#define QMP_LINE_MAX (64u << 10)

struct qmp {
	int fd; /* -1: not connected */
	char *buf;
	size_t len;
	uint64_t number; /* of the last command */
	const char *path;
};
/* Deadlines: CLOCK_MONOTONIC, ns. SOSIE_ETIMEOUT when passed, SOSIE_EPROTO for what is no monitor. */
int qmp_open(struct qmp *q, const char *path, int64_t deadline_ns, struct sosie_err *err);
int qmp_running(struct qmp *q, bool *running, int64_t deadline_ns, struct sosie_err *err);
int qmp_command(struct qmp *q, const char *name, int64_t deadline_ns, struct sosie_err *err);
void qmp_close(struct qmp *q);

#endif

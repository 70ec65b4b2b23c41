/* SPDX-License-Identifier: MIT */
/*
 * Telling alarms to the operator's program: what sosied and sosie-keeper share. Each alarm is one JSON object
 * on the program's standard input: once when it was opened, again while it is open, once when it was closed.
 * Who keeps the alarms has a thread of its own for this, since a program may take its time.
 */
#ifndef SOSIE_TELLING_H
#define SOSIE_TELLING_H

#include "sosie/json.h"

#define SOSIE_TELLING_LIMIT_MS 30000 /* of one run */
#define SOSIE_TELLING_AGAIN_MS 30000 /* from a run that failed to the next */

/* Of one alarm. */
struct sosie_telling {
	int64_t due_ms; /* monotonic: when the program is told next */
	bool begun;     /* its opening was given to the program, or is being: only then its closing is told */
};

/* Runs the program with doc, which is freed; "format": 1 is its first member when it was made with
 * sosie_telling_doc. stop (may be NULL): ends it early, SOSIE_EINTR. */
struct sosie_json *sosie_telling_doc(void);
int sosie_telling_run(const char *program, struct sosie_json *doc, const bool *stop, struct sosie_err *err);
/*
 * After a run. told_closed: what the run was told; closed: what holds by now. True: all is told, forget the
 * alarm. Else due_ms is set: after repeat_ms where the program took it, after again_ms where it did not; what
 * was set when it was closed meanwhile stays.
 */
bool sosie_telling_settle(struct sosie_telling *t, bool told_closed, bool closed, bool taken, int64_t now_ms,
                          int64_t repeat_ms, int64_t again_ms);

#endif

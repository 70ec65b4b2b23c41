/* SPDX-License-Identifier: MIT */
/*
 * The guardian: a process of its own that undoes what its parent owes (thaw the writers, run view-done) when
 * the parent dies, even by kill -9, and thaws when the limit of a pause passes while the parent hangs or is
 * stopped: it has its own clock. It lives as long as its source, is started when something is owed for the
 * first time, and started again when it has died.
 *
 * Before writers are touched the parent says what it owes and until when; afterwards that it is undone. That
 * both undo is harmless for cgroups and monitors; a thaw command must bear being run twice.
 */
#ifndef ENGINE_SOURCE_GUARDIAN_H
#define ENGINE_SOURCE_GUARDIAN_H

#include <sys/types.h>

#include "sosie/clock.h"
#include "sosie/source.h"

/* How to undo; borrowed until guardian_stop, copied by the fork. */
struct guardian_job {
	enum sosie_pause_kind kind;
	const char *freeze_file; /* CGROUP: path of cgroup.freeze */
	const char *thaw;        /* COMMANDS */
	const char *note;      /* begins with "free" once it is undone (pause_note.h); empty or NULL: none */
	const char *view_done; /* NULL: none */
	char *const *env;      /* of both commands */
	uint64_t hook_limit_ms;
};

enum guardian_word {
	GUARDIAN_OWE_THAW = 1, /* with the deadline; QMP: with the monitor's socket */
	GUARDIAN_THAWED,
	GUARDIAN_OWE_VIEW,
	GUARDIAN_VIEW_DONE,
	GUARDIAN_RUNS,      /* a command's process group: ended before anything is undone */
	GUARDIAN_RUNS_THAW, /* the same of the thaw command: at the limit it is waited for */
	GUARDIAN_ENDED
};
struct guardian_message {
	int32_t word, pid;
	int64_t deadline_ns; /* CLOCK_MONOTONIC */
};

struct guardian {
	struct guardian_job job;
	pid_t pid;                    /* 0: none */
	int fd;                       /* our end of the socket, -1: none */
	bool thaw_owed, view_owed;    /* told again to a new one */
	struct guardian_message thaw; /* as last told */
	int monitor;                  /* QMP: borrowed, -1: none */
};
void guardian_init(struct guardian *g, const struct guardian_job *job);
/* Starts it when it does not run; from the return on it answers for the debt. monitor: -1 or a connected
 * QMP socket. */
int guardian_owe(struct guardian *g, enum guardian_word word, int64_t deadline_ns, int monitor,
                 struct sosie_err *err);
/* Any other word. False: it does not hear. Safe in the child of a fork. */
bool guardian_tell(const struct guardian *g, enum guardian_word word, pid_t pid);
void guardian_paid(struct guardian *g, enum guardian_word word); /* THAWED, VIEW_DONE */
/* Nothing is owed any more: waits for its end. */
void guardian_stop(struct guardian *g);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * The user's commands around a cut, and the guardian: a child that holds the read end of a pipe and runs what
 * is owed (thaw, view-done) when its parent dies without having done so, even by kill -9. One object a cut.
 *
 * Every command runs in a process group of its own and tells the guardian that group before it becomes the
 * shell; so the guardian can end a freeze that still runs before it thaws. The parent tells what is owed and
 * what is done.
 */
#ifndef ENGINE_SOURCE_HOOKS_H
#define ENGINE_SOURCE_HOOKS_H

#include <sys/types.h>

#include "sosie/source.h"

#define HOOK_OUTPUT_MAX (64u << 10)

struct hook_env {
	char *group, *volumes; /* "SOSIE_GROUP=…", "SOSIE_VOLUMES=…" */
	char **list;           /* the whole environment for execve: borrowed strings and the two above */
};
int hook_env_init(struct hook_env *env, const char *group, const struct sosie_volume *volumes, unsigned count,
                  struct sosie_err *err);
void hook_env_fini(struct hook_env *env);

struct guardian {
	pid_t pid; /* 0: none */
	int pipe;  /* write end, -1: none */
};
enum guardian_word {
	GUARDIAN_OWE_THAW = 1,
	GUARDIAN_THAWED,
	GUARDIAN_OWE_VIEW,
	GUARDIAN_VIEW_DONE,
	GUARDIAN_RUNS,
	GUARDIAN_ENDED
};
int guardian_start(struct guardian *g, const struct sosie_hooks *hooks, const struct hook_env *env,
                   struct sosie_err *err);
void guardian_tell(const struct guardian *g, enum guardian_word word, pid_t pid);
/* Nothing is owed any more: waits for its end. */
void guardian_stop(struct guardian *g);

/* Runs command; name ("freeze") for messages. output (may be NULL) gets what it wrote on standard output,
 * malloc'd with a NUL; what it writes on standard error ends in the message when it fails. SOSIE_EHOOK. */
int hook_run(const struct guardian *g, const struct hook_env *env, const char *name, const char *command,
             uint64_t limit_ms, char **output, struct sosie_err *err);

/* NAME=PATH lines into paths[volume count], malloc'd; each volume once, nothing else. */
int hook_view_parse(const char *text, const struct sosie_volume *volumes, unsigned count, char **paths,
                    struct sosie_err *err);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * The user's commands around a cut. Every command runs in a process group of its own and tells the guardian
 * that group before it becomes the shell; so the guardian can end a freeze that still runs before it thaws. A
 * freeze or view whose guardian has gone does not start.
 */
#ifndef ENGINE_SOURCE_HOOKS_H
#define ENGINE_SOURCE_HOOKS_H

#include "engine/source/guardian.h"
#include "sosie/source.h"

#define HOOK_OUTPUT_MAX (64u << 10)

struct hook_env {
	char *group, *volumes; /* "SOSIE_GROUP=…", "SOSIE_VOLUMES=…" */
	char **list;           /* the whole environment for execve: borrowed strings and the two above */
};
int hook_env_init(struct hook_env *env, const char *group, const struct sosie_volume *volumes, unsigned count,
                  struct sosie_err *err);
void hook_env_fini(struct hook_env *env);

/* Runs command; name: "freeze", "thaw", "view" or "view-done". output (may be NULL) gets what it wrote on
 * standard output, malloc'd with a NUL; what it writes on standard error ends in the message when it fails.
 * SOSIE_EHOOK. */
int hook_run(const struct guardian *g, const struct hook_env *env, const char *name, const char *command,
             uint64_t limit_ms, char **output, struct sosie_err *err);

/* NAME=PATH lines into paths[volume count], malloc'd; each volume once, nothing else. */
int hook_view_parse(const char *text, const struct sosie_volume *volumes, unsigned count, char **paths,
                    struct sosie_err *err);

#endif

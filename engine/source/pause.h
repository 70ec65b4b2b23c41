/* SPDX-License-Identifier: MIT */
/*
 * Holding a group's writers for a moment: a cgroup frozen, a machine stopped, or the user's freeze command.
 * The guardian is told before the first word, so that whatever happens to us, writers go on at the limit.
 *
 *   idle --hold--> held --let_go--> idle      (hold that fails has let go already)
 *
 * What another held before us is not let go by us, and counts as not held: he may let go at any time. Cgroups
 * are locked (flock on the folder) between hold and let go, so that two groups with one cgroup do not undo
 * each other's pause; a monitor of QEMU serves one at a time by itself. A note in the state folder
 * (pause_note.h) lets the next one undo what we and the guardian left when both died. All failures are
 * SOSIE_EHOOK: they say nothing about the standby. One thread at a time.
 */
#ifndef ENGINE_SOURCE_PAUSE_H
#define ENGINE_SOURCE_PAUSE_H

#include "engine/source/guardian.h"
#include "engine/source/hooks.h"
#include "engine/source/pause_note.h"
#include "engine/source/qmp.h"

#define PAUSE_LIMIT_MS 2000u
#define FREEZE_LIMIT_MS 30000u
#define HOOK_LIMIT_MS 60000u

struct pause {
	enum sosie_pause_kind kind;
	const char *target;
	uint64_t limit_ms;
	uint64_t grace_ms; /* the guardian waits so much longer: where a thread of ours keeps the limit too */
	struct sosie_hooks hooks;
	struct hook_env env;
	struct guardian guardian;
	char freeze_file[4096]; /* CGROUP */
	int lock_fd;            /* CGROUP: its folder, locked; -1: not */
	struct qmp qmp;
	struct pause_note note;
	bool held; /* to be undone by us */
	bool ours; /* false after hold: another held them, and hold has done nothing */
	int64_t begun_ns, deadline_ns;
};
/* Checks that hooks and kind fit together; nothing is started. hooks may be NULL. until_read: freeze lasts
 * until all is read, and has the hooks' own limit. */
int pause_init(struct pause *p, const struct sosie_source_options *o, bool until_read, struct sosie_err *err);
void pause_fini(struct pause *p);
/* Does nothing for NONE. Writers are held when it returns 0 and ours is set. */
int pause_hold(struct pause *p, struct sosie_err *err);
/* Before a source is opened: undoes what a process that died with its guardian has left held. *undone: it
 * did. What is not there any more is not held any more. */
int pause_undo_left(const struct sosie_source_options *o, bool *undone, struct sosie_err *err);
/* *passed: the limit was over before, or another has let go: writers may have run meanwhile. */
int pause_let_go(struct pause *p, bool *passed, struct sosie_err *err);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * A note that writers are held, for the case that we and the guardian die in one cut: whoever opens the
 * source next undoes it. It lies in the state folder:
 *
 *   STATE/pause    "held BOOT KIND TARGET\n" or "free BOOT KIND TARGET\n"
 *
 * BOOT is the kernel's boot_id: what was held before a restart of the machine is not any more. KIND is cgroup
 * (TARGET: its folder), qmp (TARGET: the socket) or commands (TARGET: -; the thaw command of today). It is
 * written before the first word to the writers, not flushed (a machine that goes down holds nobody), and only
 * its first four bytes change with each cut. Whoever holds keeps the file locked (flock), so that a living
 * holder's pause is not undone; the guardian frees the note when it has undone the pause itself.
 */
#ifndef ENGINE_SOURCE_PAUSE_NOTE_H
#define ENGINE_SOURCE_PAUSE_NOTE_H

#include "engine/source/guardian.h"
#include "sosie/source.h"

#define PAUSE_NOTE "pause"

struct pause_note {
	char path[4096]; /* empty: nothing is noted */
	int fd;          /* -1: not opened yet */
};
/* Nothing is opened or made. state may be NULL. */
int pause_note_init(struct pause_note *n, const char *state, struct sosie_err *err);
void pause_note_close(struct pause_note *n);
/* "held", with kind and target written anew when the file is opened; and "free", which cannot fail in a way
 * that matters: the pause is then undone once more. */
int pause_note_hold(struct pause_note *n, enum sosie_pause_kind kind, const char *target,
                    struct sosie_err *err);
void pause_note_free(const struct pause_note *n);

struct pause_left {
	enum sosie_pause_kind kind; /* NONE: nothing was left held */
	char target[4096];
	int fd; /* -1, or the note, locked */
};
/* What a dead holder has left held since this boot. A note that makes no sense is none. */
int pause_note_left(const char *state, struct pause_left *out, struct sosie_err *err);
/* undone: "free". Closes in any case. */
void pause_left_close(struct pause_left *left, bool undone);

#endif

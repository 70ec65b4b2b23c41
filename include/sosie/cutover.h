/* SPDX-License-Identifier: MIT */
/*
 * The standby takes over a group: plan, then run; run again continues or says that it is done (invariants I5,
 * I6).
 *
 *   planned -> materialised -> checked -> fenced -> activated -> done        state/cutover.json, durable
 * before and after each step
 *
 * Until fenced nothing is changed for the sender; the new epoch is durable in the chain, directory included,
 * before the first image appears under its final name.
 */
#ifndef SOSIE_CUTOVER_H
#define SOSIE_CUTOVER_H

#include "sosie/store.h"

enum sosie_cutover_step {
	SOSIE_CUTOVER_NONE,
	SOSIE_CUTOVER_PLANNED,
	SOSIE_CUTOVER_MATERIALISED,
	SOSIE_CUTOVER_CHECKED,
	SOSIE_CUTOVER_FENCED,
	SOSIE_CUTOVER_ACTIVATED,
	SOSIE_CUTOVER_DONE,
};
enum sosie_cutover_method { SOSIE_CUTOVER_RENAME, SOSIE_CUTOVER_CLONE, SOSIE_CUTOVER_COPY };

struct sosie_cutover {
	/* What was asked: point 0 = latest (until the epoch is raised the newest one now, then the one under
	 * way); into empty = live/E. */
	uint64_t point;
	char into[4096]; /* absolute; empty: live/E */
	/* What the plan found. */
	enum sosie_cutover_step step; /* how far an earlier run came */
	struct sosie_point chosen, newest;
	uint64_t from_epoch, to_epoch;
	enum sosie_cutover_method method;
	uint64_t bytes;             /* to copy, when method is copy */
	uint64_t segments;          /* to apply onto the generation */
	unsigned uploads_committed; /* durable but not accepted: would be lost */
	unsigned uploads_open;      /* incomplete: lost */
	int64_t age_ms;             /* now minus the chosen point's cut */
	int64_t lost_ms;            /* accepted history given up: newest cut minus chosen cut */
	int64_t same_ms; /* the source said then that nothing had changed since the chosen point; 0: it did
	                    not */
	char dir[4096];  /* where the images will be */
	/* What the run did. */
	struct sosie_image *images; /* malloc'd */
	unsigned image_count;
	int64_t elapsed_ms; /* RTO: from the call of run to usable images */
	bool already_done;
};

/* Opens the group. When only its inbox is there (no keeper ever ran), what is whole in it is accepted first:
 * the reason when that yields no group, or no point of what waited. */
int sosie_cutover_open(struct sosie_store *store, const char *tenant, const char *group,
                       struct sosie_group **out, struct sosie_err *err);
/* Takes the lock (waiting 5 s for a keeper to let go), accepts what is complete in the inbox when the latest
 * point is wanted (a failure there is no failure here), and fills in the plan. point, into are set by the
 * caller. SOSIE_EDIFFERENT: another point or folder was chosen before, and the epoch is raised (until then a
 * new choice replaces the old one). The lock is held until sosie_cutover_end. */
int sosie_cutover_plan(struct sosie_group *g, struct sosie_cutover *c, struct sosie_err *err);
int sosie_cutover_run(struct sosie_group *g, struct sosie_cutover *c, struct sosie_progress *progress,
                      struct sosie_err *err);
void sosie_cutover_end(struct sosie_group *g, struct sosie_cutover *c);
const char *sosie_cutover_step_name(enum sosie_cutover_step step);
const char *sosie_cutover_method_name(enum sosie_cutover_method method); /* "rename", "clone", "copy" */
/* Bytes a second that the place of the images takes, by a short timed write (under a second) of a file that
 * is removed again. After plan. */
int sosie_cutover_speed(struct sosie_group *g, const struct sosie_cutover *c, uint64_t *bytes_per_s,
                        struct sosie_err *err);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Alarms at the standby (docs/operating.md, "Alarms at the standby"): what a person has to know, by the
 * standby's own clock and eyes. One of each kind can be open for the store, a tenant or a group; what happens
 * again is counted. So however often a peer does something, there is a fixed number of them, and none pushes
 * another out.
 *
 * An alarm stays open until its cause is over, or until an operator closes it; each opening and closing is an
 * entry of the audit log. Any process that may write the store can open and close; reading takes no lock.
 */
#ifndef SOSIE_ALARM_H
#define SOSIE_ALARM_H

#include "sosie/audit.h"
#include "sosie/store.h"

/* Kinds are never renamed. */
#define SOSIE_ALARM_KIND_LIST(X)                                                                             \
	X(SOSIE_ALARM_LATE, "late") /* nothing accepted, and no "same", within the group's objective */      \
	X(SOSIE_ALARM_REFUSED, "refused") /* an upload was refused */                                        \
	X(SOSIE_ALARM_FORK, "fork")     /* an upload on another parent than the head, or of an old epoch */  \
	X(SOSIE_ALARM_QUOTA, "quota")   /* a tenant meets one of its limits */                               \
	X(SOSIE_ALARM_SPACE, "space")   /* less room than folding and a cutover need */                      \
	X(SOSIE_ALARM_CLOCK, "clock")   /* the wall clock has jumped */                                      \
	X(SOSIE_ALARM_DAMAGE, "damage") /* something that the store keeps is damaged */                      \
	X(SOSIE_ALARM_KEEPER, "keeper") /* the keeper cannot do its work */

enum sosie_alarm_kind {
#define SOSIE_X(id, name) id,
	SOSIE_ALARM_KIND_LIST(SOSIE_X)
#undef SOSIE_X
	        SOSIE_ALARM_KINDS
};
const char *sosie_alarm_kind_name(enum sosie_alarm_kind kind);

#define SOSIE_ALARM_TEXT 320u
#define SOSIE_ALARM_REASON 160u
#define SOSIE_ALARM_ID 24u
#define SOSIE_ALARMS_CLOSED 16u /* of a place are kept, the newest */

struct sosie_alarm {
	uint64_t number; /* unique in the store */
	enum sosie_alarm_kind kind;
	struct sosie_name tenant, group; /* empty: of the store, of the tenant */
	int64_t since_ms, seen_ms;       /* the cause, when it was seen last */
	int64_t closed_ms;               /* 0: open */
	uint64_t count;                  /* how often it was seen */
	char text[SOSIE_ALARM_TEXT + 1]; /* of the newest */
	char reason[SOSIE_ALARM_REASON +
	            1]; /* why it was closed; empty: its cause was over, or none was given */
};

/* "A17" */
const char *sosie_alarm_id(char dst[SOSIE_ALARM_ID], uint64_t number);
/* The alarm as every document, and the alarm program, has it. */
void sosie_alarm_json(struct sosie_json *obj, const struct sosie_alarm *a);

/*
 * Opens the alarm of this kind, or counts it once more where it is open, with the newer text; text NULL: its
 * cause is over, so it is closed if it is open. tenant and group NULL: the store's; group NULL: the tenant's.
 * Closing in this way waits while five of the same place were closed within a minute, so that nothing that
 * comes and goes fills the audit log. What is only counted is written with a delay, by sosie_alarm_flush and
 * sosie_store_close.
 */
int sosie_alarm_set(struct sosie_store *store, const char *tenant, const char *group,
                    enum sosie_alarm_kind kind, const char *text, struct sosie_err *err);
/* Writes counts that are in memory only: those older than ten seconds, or all. */
void sosie_alarm_flush(struct sosie_store *store, bool all);
/* An operator closes "A17". SOSIE_ENOTFOUND, SOSIE_EEXISTS: it is closed already; SOSIE_EREFUSED: this kind
 * closes when its cause is over, and not before. reason may be NULL. */
int sosie_alarm_close(struct sosie_store *store, const char *id, const char *reason, struct sosie_alarm *out,
                      struct sosie_err *err);

/* All of one place, in the order in which they were opened, closed ones among them; return non-zero to stop.
 * SOSIE_ECORRUPT: its file cannot be read. */
typedef int (*sosie_alarm_fn)(void *arg, const struct sosie_alarm *a);
int sosie_alarm_each(struct sosie_store *store, const char *tenant, const char *group, sosie_alarm_fn fn,
                     void *arg, struct sosie_err *err);
/* The same for a place and all below it. Goes on after a place that cannot be read, and returns its error. */
int sosie_alarm_walk(struct sosie_store *store, const char *tenant, const char *group, sosie_alarm_fn fn,
                     void *arg, struct sosie_err *err);
/* Grows whenever this process has read or written something new. */
uint64_t sosie_alarm_version(const struct sosie_store *store);

#endif

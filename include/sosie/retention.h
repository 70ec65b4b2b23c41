/* SPDX-License-Identifier: MIT */
/*
 * Retention at the standby (docs/operating.md, "Retention"): which points stay, and how the others go. It
 * goes by the standby's own numbers and times of acceptance only; nothing that a source says moves it.
 *
 * Whatever may let a point go that would have stayed waits for a delay, and can be cancelled until then.
 * Every change is in the audit log before it is in force.
 */
#ifndef SOSIE_RETENTION_H
#define SOSIE_RETENTION_H

#include "sosie/store.h"

/* --- policy ------------------------------------------------------------------------------------------------
 */
enum sosie_policy_key {
	SOSIE_POLICY_FLOOR_ALL,    /* ms: every point of so long; held whatever comes */
	SOSIE_POLICY_FLOOR_HOURLY, /* the newest point of each of so many hours (UTC) that have one */
	SOSIE_POLICY_FLOOR_DAILY,
	SOSIE_POLICY_FLOOR_WEEKLY, /* ISO weeks */
	SOSIE_POLICY_FLOOR_MONTHLY,
	SOSIE_POLICY_WISH_ALL, /* the same, kept while there is room */
	SOSIE_POLICY_WISH_HOURLY,
	SOSIE_POLICY_WISH_DAILY,
	SOSIE_POLICY_WISH_WEEKLY,
	SOSIE_POLICY_WISH_MONTHLY,
	SOSIE_POLICY_RPO,        /* ms: objective for the age of the newest point */
	SOSIE_POLICY_FOLD_BYTES, /* as in struct sosie_policy */
	SOSIE_POLICY_FOLD_POINTS,
	SOSIE_POLICY_DELAY, /* ms: how long what shortens waits */
	SOSIE_POLICY_QUOTA, /* bytes, 0: none; of a tenant only, and kept in its tenant.json */
	SOSIE_POLICY_KEYS,
};
enum sosie_policy_unit { SOSIE_POLICY_MS, SOSIE_POLICY_COUNT, SOSIE_POLICY_BYTES };
const char *sosie_policy_name(enum sosie_policy_key key); /* "floor.all" */
enum sosie_policy_unit sosie_policy_unit(enum sosie_policy_key key);
/* "floor.all=7d", "quota=500G", "wish.daily=30"; "KEY=inherit" takes the value of this level away: then
 * *inherit. SOSIE_EUSAGE names what is wrong. */
int sosie_policy_parse(const char *text, enum sosie_policy_key *key, uint64_t *value, bool *inherit,
                       struct sosie_err *err);
/* The value as people write it: "7 d", "30", "500 GiB". dst of 32 bytes suffices; returns dst. */
const char *sosie_policy_text(char *dst, size_t size, enum sosie_policy_key key, uint64_t value);

enum sosie_policy_level { SOSIE_LEVEL_DEFAULT, SOSIE_LEVEL_STORE, SOSIE_LEVEL_TENANT, SOSIE_LEVEL_GROUP };
struct sosie_policy_value {
	uint64_t value;
	bool set; /* given at some level, or a default that counts (fold_*, delay, quota) */
	enum sosie_policy_level level;
};
/* A change that waits. */
struct sosie_policy_change {
	char id[17]; /* for sosie_policy_cancel */
	enum sosie_policy_level level;
	enum sosie_policy_key key;
	uint64_t value;
	bool inherit;
	int64_t asked_ms, from_ms; /* in force from then on */
};
#define SOSIE_POLICY_PENDING_MAX 64u /* of a level */
struct sosie_policy_view {
	struct sosie_policy_value values[SOSIE_POLICY_KEYS];
	bool keeps_all;        /* no floor and no wish: nothing is ever pruned */
	bool wishes_all;       /* no wish: everything is kept while there is room */
	unsigned change_count; /* that wait, at this level and those above */
	struct sosie_policy_change changes[3 * SOSIE_POLICY_PENDING_MAX];
};
/* What holds now for the store (tenant and group NULL), a tenant (group NULL) or a group; the folders need
 * not be there. SOSIE_ECORRUPT: a policy file cannot be read; then nothing may be pruned. */
int sosie_policy_view(struct sosie_store *store, const char *tenant, const char *group,
                      struct sosie_policy_view *out, struct sosie_err *err);
/* One change at that level. At once when no point may go by it that would have stayed, else after the delay
 * of the policy that is in force (*from_ms: when). Replaces a change of the same key and level that waits. */
int sosie_policy_set(struct sosie_store *store, const char *tenant, const char *group,
                     enum sosie_policy_key key, uint64_t value, bool inherit, int64_t *from_ms,
                     struct sosie_err *err);
/* Removes a change that waits, wherever it is; SOSIE_ENOTFOUND. */
int sosie_policy_cancel(struct sosie_store *store, const char *id, struct sosie_policy_change *out,
                        struct sosie_err *err);

/* --- the clock --------------------------------------------------------------------------------------------
 */
struct sosie_clock_state {
	bool known;       /* the store has a note of the clock */
	bool jumped;      /* nothing is pruned, no change ripens, until it is accepted */
	int64_t good_ms;  /* wall time up to which changes ripen: now, or the last that is trusted */
	int64_t found_ms; /* when the jump was noted, by the wall clock then; 0: only just seen */
	char what[200];   /* "the clock went forward by 8 d while …", or empty */
};
/* Looks only. */
int sosie_clock_look(struct sosie_store *store, struct sosie_clock_state *out, struct sosie_err *err);
/* The keeper's and prune's: notes a jump durably (with an entry in the store's audit log), else the time,
 * when the note is some minutes old. */
int sosie_clock_note(struct sosie_store *store, struct sosie_clock_state *out, struct sosie_err *err);
/* An operator says that the clock is right now. */
int sosie_clock_accept(struct sosie_store *store, const char *reason, struct sosie_err *err);

/* --- pins --------------------------------------------------------------------------------------------------
 */
#define SOSIE_PINS_MAX 1000u /* of a group */
#define SOSIE_PIN_REASON 120u
struct sosie_pin {
	uint64_t point;
	int64_t since_ms, until_ms; /* 0: until it is unpinned */
	char reason[SOSIE_PIN_REASON + 1];
};
/* Those in force, ascending; malloc'd. From the group's copy of what the audit log says. */
int sosie_pins(struct sosie_group *g, struct sosie_pin **pins, unsigned *count, struct sosie_err *err);
/* Take the group's lock. Pinning again gives up an unpinning that waits; unpinning holds from *from_ms on.
 * SOSIE_ENOTFOUND: no such point, or not kept any more; no such pin. */
int sosie_pin_add(struct sosie_group *g, uint64_t point, const char *reason, struct sosie_err *err);
int sosie_pin_remove(struct sosie_group *g, uint64_t point, const char *reason, int64_t *from_ms,
                     struct sosie_err *err);

/* --- points ------------------------------------------------------------------------------------------------
 */
/* Why a point is kept, as bits. */
#define SOSIE_KEPT_NEWEST 0x1u
#define SOSIE_KEPT_PIN 0x2u
#define SOSIE_KEPT_CUTOVER 0x4u     /* a cutover under way or done is to it */
#define SOSIE_KEPT_WAY 0x8u         /* another kept point is reached through it */
#define SOSIE_KEPT_EVERYTHING 0x10u /* the policy lets nothing go */
#define SOSIE_KEPT_WISHED 0x20u     /* there is no wish: everything is wished */
#define SOSIE_KEPT_FLOOR_BIT 8u     /* and four more: all, hourly, daily, weekly, monthly */
#define SOSIE_KEPT_WISH_BIT 16u
#define SOSIE_KEPT_FLOOR (0x1fu << SOSIE_KEPT_FLOOR_BIT)
#define SOSIE_KEPT_WISH (0x1fu << SOSIE_KEPT_WISH_BIT)
struct sosie_kept {
	uint64_t point;
	int64_t time_ms; /* of acceptance, as retention counts it: never before that of an earlier point */
	unsigned by;     /* 0: goes with the next prune */
	bool space;      /* goes only because room is short */
};
/* All points that are there, ascending, and why each stays; malloc'd. */
int sosie_group_kept(struct sosie_group *g, struct sosie_kept **points, size_t *count, struct sosie_err *err);
/* "newest, floor.daily" */
#define SOSIE_KEPT_TEXT 160
const char *sosie_kept_text(char dst[SOSIE_KEPT_TEXT], unsigned by);

/* Points that went, as ranges: ascending, disjoint. */
struct sosie_pruned {
	uint64_t first, last;
	int64_t time_ms; /* of the newest of them */
	char why[24];    /* "policy" or "space" */
};
int sosie_group_pruned(struct sosie_group *g, struct sosie_pruned **ranges, size_t *count,
                       struct sosie_err *err);
/* 0, or SOSIE_ENOTFOUND: the point does not exist, or was pruned; says when, why, and which are the nearest
 * that are there. A record that cannot be read keeps nobody from trying. */
int sosie_group_reachable(struct sosie_group *g, uint64_t point, struct sosie_err *err);

/* --- pruning -----------------------------------------------------------------------------------------------
 */
struct sosie_prune {
	bool dry_run;
	bool more;              /* there is more to do: call again */
	bool looked;            /* sosie_keeper_retain: it was time to look */
	uint64_t points, bytes; /* that went, or would; bytes estimated */
	uint64_t generations;   /* that were made, or would have to be */
	bool keeps_all;         /* the policy lets nothing go */
};
/* One bounded step under the group's lock, which the caller holds; a dry run needs none. SOSIE_ECLOCK: the
 * clock has jumped. SOSIE_EBUSY: somebody waits for the group, or a policy is being changed: later again. */
int sosie_group_prune(struct sosie_group *g, struct sosie_prune *p, struct sosie_err *err);
/* The keeper's idle work for a group: cheap when nothing is due. Notes the clock, takes over ripe quotas,
 * prunes a step. */
int sosie_keeper_retain(struct sosie_store *store, const char *tenant, const char *group,
                        struct sosie_prune *out, struct sosie_err *err);

#endif

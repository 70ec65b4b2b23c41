/* SPDX-License-Identifier: MIT */
/* What files of the store share of limits, of what is watched, and of the reserve. */
#ifndef SOSIE_STORE_QUOTA_H
#define SOSIE_STORE_QUOTA_H

#include "engine/store/core.h"
#include "sosie/alarm.h"
#include "sosie/quota.h"

/* --- tenant.c, limits.c */
/* tenant.json, all members checked for being known. */
int tenant_document(struct sosie_store *store, const char *tenant, struct sosie_json **out,
                    struct sosie_err *err);
/* Puts the document, which tenant_document gave and somebody changed, in its place; frees it. Whoever changes
 * limits or quota holds the lock of policies. */
int tenant_rewrite(struct sosie_store *store, const char *tenant, struct sosie_json *document,
                   struct sosie_err *err);

/* --- quota.c: what an upload may, and what a tenant has spent */
/* The declared sizes against the limits; SOSIE_EQUOTA. */
int quota_manifest(struct sosie_group *g, const struct sosie_manifest *m, struct sosie_err *err);
/* May the tenant have another group? SOSIE_EQUOTA. */
int quota_group(struct sosie_store *store, const char *tenant, const char *group, struct sosie_err *err);
/* Is it the tenant's turn, after what it has spent? SOSIE_EPENDING says what it waits for; *wait_ms: until
 * then. */
int quota_turn(struct sosie_store *store, const char *tenant, int64_t *wait_ms, struct sosie_err *err);
/* Processor time that was spent for the tenant; whoever decodes for it elsewhere tells it here. */
void quota_spend(struct sosie_store *store, const char *tenant, uint64_t cpu_ns);
/* A point was accepted. */
void quota_point(struct sosie_store *store, const char *tenant);
/* A limit was met: alarm. */
void quota_met(struct sosie_store *store, const char *tenant, const struct sosie_err *why);
void quota_free(struct sosie_store *store);

/* --- objective.c */
/* How old the newest state of the group may be, by the policy: 0: it has no objective. */
int group_objective(struct sosie_group *g, uint64_t *rpo_ms, struct sosie_err *err);

/* --- space.c */
void space_free(struct sosie_store *store);

/* --- watch.c: what this process knows of a group between looks */
struct group_watch {
	struct group_watch *next;
	struct sosie_name tenant, group;
	/* As the chain was read last, and its files then. */
	bool known;
	int64_t chain_dir_ms;
	uint32_t chain_file;
	uint64_t chain_size;
	struct sosie_digest head;
	uint64_t point, epoch, volume_bytes;
	unsigned volumes;
	bool cut_over; /* nothing more is taken from a source */
	/* The newest state: by the wall clock, and when that was by the monotonic one, as far as it can be
	 * told. */
	int64_t cut_ms, fresh_ms, fresh_mono_ms,
	        age_ms;        /* age_ms: at the last look, -1: no point, or cut over */
	uint64_t objective_ms; /* 0: none */
	int64_t objective_at_ms;
	bool objective_known, late;
	uint64_t accepted, refused; /* since this process began */
	uint64_t journal_point, journal_bytes;
	bool journal_known;
};
struct watch_book {
	struct group_watch *first, **end;
	struct group_watch *found; /* last: groups are looked at in turn, the next is behind it */
};
/* Of the group, made and brought up to date where the chain has changed. */
int watch_get(struct sosie_store *store, const char *tenant, const char *group, struct group_watch **out,
              struct sosie_err *err);
/* After an acceptance, with the group open. */
void watch_take(struct sosie_group *g, const struct sosie_accept_result *r);
void watch_free(struct sosie_store *store);
/* What went wrong with a group: alarm of damage or of the keeper; 0 ends the latter. */
void watch_trouble(struct sosie_store *store, const char *tenant, const char *group, int rc,
                   const struct sosie_err *err);

#endif

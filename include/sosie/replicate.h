/* SPDX-License-Identifier: MIT */
/*
 * The source's loop: cut, find, read, digest, encode, send, commit, wait for accepted; with a state directory
 * that makes a kill at any instant cost nothing but the upload's unfinished record (docs/architecture.md,
 * "The source's state").
 */
#ifndef SOSIE_REPLICATE_H
#define SOSIE_REPLICATE_H

#include "sosie/channel.h"
#include "sosie/progress.h"
#include "sosie/sign.h"
#include "sosie/source.h"

/*
 * Sessions with one standby, shared by the groups that replicate to it: taken for a cycle, given back for the
 * next whoever it is. After a failure to connect, callers fail at once with the same error until the pause
 * before the next try is over (doubling from 1 s to 60 s, half of it by dice), so that a standby that is gone
 * is asked by one, not by all. Thread-safe.
 */
struct sosie_pool;
/* standby: for messages, USER@HOST:PORT. All borrowed while the pool lives. */
int sosie_pool_new(struct sosie_connector *connector, struct sosie_clock *clock, const char *standby,
                   struct sosie_pool **out, struct sosie_err *err);
/*
 * Who signs, and whose word counts; before the first session. signing: what sosie_signer_open takes; NULL:
 * manifests and "same" go unsigned, which a standby refuses once it has a signing key of this tenant.
 * standby_key: a file with the standby's public key: only statements signed by it count; NULL: what the
 * standby's receivers relay is believed.
 */
int sosie_pool_trust(struct sosie_pool *pool, const char *signing, const char *standby_key,
                     struct sosie_err *err);
void sosie_pool_free(struct sosie_pool *pool); /* none may be taken; NULL is fine */
/* Milliseconds until a connection is tried again; 0: any time. Looks only: waits for nothing. */
int64_t sosie_pool_pause_ms(struct sosie_pool *pool);
/* Closes one session that nobody has used for two minutes: a second or more when the standby hangs, so not
 * under a lock. True: there was one, and there may be more. */
bool sosie_pool_tidy(struct sosie_pool *pool);

/* Bytes a second over all who share it. Thread-safe. */
struct sosie_budget;
int sosie_budget_new(uint64_t bytes_per_second, struct sosie_clock *clock, struct sosie_budget **out,
                     struct sosie_err *err);
void sosie_budget_free(struct sosie_budget *b);

struct sosie_replicate_options {
	struct sosie_pool *pool;
	struct sosie_clock *clock;
	struct sosie_source *source;
	const struct sosie_volume *volumes;
	unsigned volume_count;
	const char *const
	        *attachments; /* files, named by their last part; folders: the regular files in them */
	unsigned attachment_count;
	const char *tenant, *group;
	const char *state;           /* directory of this group's state: made when missing */
	const char *standby;         /* for messages: USER@HOST:PORT */
	unsigned streams;            /* sessions with a worker each, 1 to 16 */
	int level;                   /* zstd's, -7 to 19; 0: automatic, by what is the bottleneck */
	uint64_t read_rate;          /* bytes a second over all workers, 0: no limit */
	struct sosie_budget *budget; /* shared with other groups, NULL: none */
	uint64_t accept_wait_ms;     /* for accepted after durable, default 30 s */
	/* Consents, each for this run only. */
	const char *const *accept_volumes; /* names */
	unsigned accept_volume_count;
	const char *const *drop_volumes; /* names that the standby has and that are not given any more */
	unsigned drop_volume_count;
	bool drop_missing; /* all of those (a configuration says what a group has) */
	bool allow_shrink, accept_standby_loss;
	struct sosie_progress *progress;
	const bool *stop;
	const bool *let_views_go; /* set when views must go at once: the cycle ends with SOSIE_ENOSPACE */
};

struct sosie_cycle_result {
	bool same;      /* nothing had changed: no point was made */
	uint64_t point; /* accepted, or the standby's newest when same */
	enum sosie_consistency consistency;
	uint64_t read_bytes, changed_bytes, wire_bytes;
	char new_volumes[200],
	        dropped_volumes[200]; /* "a, b", cut off where it is long; empty with the first point */
	char accepted_loss[512]; /* what the standby had lost, when --accept-standby-loss let it pass; else
	                            empty */
	bool compared, resumed;  /* digests were compared; an upload of before was gone on with */
	int64_t cut_mono_ms,
	        done_mono_ms; /* ours: their difference is what this point was old when accepted */
};

/* One replicator a group and process; takes the state's lock (SOSIE_EBUSY names the holder). Idle it holds a
 * few KiB and one descriptor. */
struct sosie_replicator;
int sosie_replicator_open(const struct sosie_replicate_options *options, struct sosie_replicator **out,
                          struct sosie_err *err);
/* One cycle; sessions go back to the pool. Errors of class retry: call again later; operator: do not.
 */
int sosie_replicator_cycle(struct sosie_replicator *r, struct sosie_cycle_result *out, struct sosie_err *err);

/* What "same" says of one group. */
struct sosie_same {
	struct sosie_name group;
	struct sosie_digest digest; /* of the head that still is what the volumes hold */
	uint64_t point;
	int64_t mono_ms; /* when that was seen */
};
/* True when surely nothing has changed since the accepted point, by looking only: nothing is sent and no view
 * made. Not while a cycle runs. */
bool sosie_replicator_unchanged(struct sosie_replicator *r, struct sosie_same *out);
/* Asks the standby for its head and judges it as a cycle would; sends nothing and makes no cut: for groups
 * that are only said to be the same, to which the inbox answers whatever the keeper has done since. 0: go on,
 * though what the head says may take a cycle to follow (then unchanged is false). Not while a cycle runs. */
int sosie_replicator_check(struct sosie_replicator *r, struct sosie_err *err);
/* One message (or, of thousands of groups, several one after the other) for groups of one tenant. */
int sosie_pool_same(struct sosie_pool *pool, const char *tenant, const struct sosie_same *list,
                    unsigned count, struct sosie_err *err);

/* What is recorded of the accepted point; cheap, not while a cycle runs. */
struct sosie_replicator_status {
	bool exists; /* there is one */
	uint64_t point;
	int64_t cut_wall_ms; /* of its cut, on this machine's clock; 0: not known */
	bool labelled;       /* consistency is known */
	enum sosie_consistency consistency;
	int64_t age_ms; /* of that cut now, by this machine's boot clock; -1: not known (another boot) */
	bool pending;   /* an upload is under way or waits for its verdict */
	struct sosie_view_id
	        view; /* the accepted view, kept: changes will be found without reading; empty: it is not */
};
void sosie_replicator_status(const struct sosie_replicator *r, struct sosie_replicator_status *out);
/* Views of this group go; what had to be sent is found by comparing digests here. Not while a cycle runs. */
int sosie_replicator_drop_views(struct sosie_replicator *r, struct sosie_err *err);
void sosie_replicator_close(struct sosie_replicator *r);

#endif

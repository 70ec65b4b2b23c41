/* SPDX-License-Identifier: MIT */
/*
 * What the files of engine/replicate share. One replicator, its volumes, the upload that is being made, and
 * the workers of one pass.
 *
 * Threads: the thread that calls sosie_replicator_cycle is worker 0; others live only inside pass_run. Locks,
 * in this order:
 *   - upload.lock: begin of an upload (held over its round trip), numbers of parts, their results, counters;
 *   - pass.lock: the cursor of a pass (pass.c);
 *   - lock: trees, journal, progress, everything that goes through the state folder's I/O.
 */
#ifndef ENGINE_REPLICATE_INTERNAL_H
#define ENGINE_REPLICATE_INTERNAL_H

#include <pthread.h>
#include <stdio.h>

#include "engine/replicate/level.h"
#include "engine/replicate/journal.h"
#include "engine/replicate/state.h"
#include "sosie/message.h"
#include "sosie/replicate.h"
#include "sosie/tree.h"

#define STREAMS_MAX 16u
#define SOFTWARE "sosie 0.1.0"
#define IDLE_PING_MS 20000 /* after that a session is asked whether it lives before it is relied on */
#define REDO_BYTES ((uint64_t)16 << 20) /* of redo.log, or points, after which the bases are fsynced */
#define REDO_POINTS 64u

/* The digest of a leaf of which nothing is known: differs from all, so that it is sent. (Not all ones: a
 * layer stores inverted.) */
extern const struct sosie_digest leaf_unknown;

struct volume {
	const struct sosie_volume *given;
	struct sosie_identity identity;
	struct sosie_digest ctx;
	const char *path;      /* to read from, of the view */
	uint64_t size;         /* in the view */
	const char *base_path; /* holds its content at the parent point (base view); NULL: nothing does */
	uint64_t base_size;    /* there */
	struct signatures *signatures; /* open with the tree; NULL: none are kept */
	struct sosie_tree *tree;       /* with its layer; while comparing: the base alone */
	bool signatures_told;          /* that they cannot be used */
	bool only_unknown; /* this cycle read it once already: only leaves that are unknown need reading */
	bool compare;      /* the standby has something under this name */
};

struct part {
	uint64_t length, records;
	struct sosie_digest digest;
};

struct counters {
	uint64_t plain, data, zero, discard;
};

struct upload {
	pthread_mutex_t lock;
	bool begun;
	unsigned part_count; /* numbers given so far */
	struct part *parts;  /* SOSIE_PARTS_MAX; of an open part: set when it ends */
	struct counters counters;
	struct journal journal;
	bool logged; /* so far; under the replicator's lock, as the journal */
};

/* What stat said of a file when it was looked at; sure: long enough after its last change that a later one
 * shows. */
struct seen_file {
	uint64_t dev, ino, size;
	int64_t mtime_ms, ctime_ns;
	bool sure;
};

struct attachment {
	char *path;  /* owned */
	bool follow; /* the operator named it: it may be a link */
	struct seen_file seen;
	struct sosie_manifest_attachment entry;
};

/* A configured path of attachments that is a folder, as it was when it was listed. */
struct attachment_folder {
	const char *path; /* of the options */
	struct seen_file seen;
};

/* A chunk of which it is not known what the standby has, though the view may tell it unchanged. */
struct doubtful {
	uint16_t volume;
	uint64_t chunk;
};

struct rate {
	pthread_mutex_t lock;
	uint64_t per_second;
	int64_t next_ns; /* when the next read may start */
};

/* Whether old content helps: a patch costs a read and an encoding more than data. */
struct patch_habit {
	unsigned misses; /* patches in a row that came out as data */
	unsigned rest;   /* records that go as data unasked */
};

struct sosie_replicator {
	struct sosie_replicate_options o;
	struct sosie_io *io; /* for what lies outside the state folder */
	struct state_dir dir;
	struct state state;
	struct redo_sync *redo_sync;           /* an fsync of the bases is under way */
	bool redo_checked;                     /* the bases hold what the state says */
	unsigned redo_points, redo_points_max; /* accepted since the last fsync was begun */
	uint64_t redo_cut;                     /* given back of redo.log by this process */
	struct sosie_hash *hash;
	struct sosie_digest group_ctx;
	struct volume *volumes;
	unsigned volume_count;
	struct attachment *attachments; /* found at the configured paths, kept between cycles */
	unsigned attachment_count;
	struct attachment_folder *folders;
	unsigned folder_count;
	bool attachments_known;       /* all of it is as measured last */
	uint64_t attachments_skipped; /* sum over the files left out, as last warned of; 0: none */
	struct sosie_digest attachments_digest;
	bool trees_open;
	bool resized;      /* a layer has another size than its base */
	bool layers_dirty; /* layers hold something that belongs to no pending upload */
	struct upload upload;
	struct rate rate;
	pthread_mutex_t lock;
	/* Views (views.c). */
	bool views_settled; /* ids in the state are of views that are there; what else there was is gone */
	bool pending_held;  /* the pending upload's view is there */
	bool state_unsaved; /* a save failed: what is on disk may be older than what is here */
	bool steady;        /* the last cycle ended well, with what is given now accepted */
	struct level levels[STREAMS_MAX];       /* of worker i, kept between cycles */
	struct patch_habit habits[STREAMS_MAX]; /* the same */
	struct rdiff
	        *rdiffs[STREAMS_MAX]; /* the same: what content has cost stays known; NULL: not needed yet */
	bool keeper;                  /* seen in the last answer */
	/* Of the cycle under way: made at its start, gone at its end. */
	struct sosie_session *sessions[STREAMS_MAX]; /* of the pool */
	int64_t session_used_ms[STREAMS_MAX];
	uint64_t session_mark[STREAMS_MAX]; /* bytes that a session had sent when it was taken */
	uint64_t sent_bytes;                /* by sessions that were given back or closed */
	bool session_kept;                  /* session 0 had been used before this cycle */
	bool part_at_risk;                  /* a part may be open in some session */
	bool holds_views;                   /* views are there that may have to go at once */
	bool views_emptied;                 /* a view was emptied while it was read */
	struct sosie_head *head;
	struct sosie_cycle_result *result;
	struct sosie_view_id view_id;  /* of the cut that is worked on; empty: none, or none that is kept */
	struct sosie_digest committed; /* of the pending upload's commit; zero: not known here */
	struct state_cut cut;          /* of that cut, or of the one that an upload was begun from */
	struct doubtful *doubtful;     /* ascending */
	size_t doubtful_count;
};

/* "acme/erp", for messages. */
const char *group_name(const struct sosie_replicator *r, char *dst, size_t size);
/* Every change of the state goes to the disk here: a save that failed is made good before the next cycle does
 * anything (views_settle), whatever comes of this one. */
int replicator_save(struct sosie_replicator *r, bool durable, struct sosie_err *err);
bool stop_asked(const struct sosie_replicator *r);
int stop_error(struct sosie_err *err);

/* pool.c. fresh: it has not been used before. */
int pool_take(struct sosie_pool *pool, struct sosie_session **out, bool *fresh, struct sosie_err *err);
/* whole: it can be used again; else it is closed. */
void pool_give(struct sosie_pool *pool, struct sosie_session *s, bool whole);
/* Closes the idle ones: the standby has been away. */
void pool_flush(struct sosie_pool *pool);
struct trust *pool_trust(struct sosie_pool *pool);
const char *pool_standby(const struct sosie_pool *pool); /* for messages */

/* trust.c: who signs what goes to a standby, and whose word from there counts. */
struct trust {
	struct sosie_signer *signer; /* NULL: nothing is signed */
	bool pinned;                 /* only statements signed by key count */
	struct sosie_public key;     /* the standby's */
};
/* Signs what goes to the standby, where there is a signer: *text (malloc'd) becomes a signed text. */
int trust_sign(struct sosie_pool *pool, const char *name_space, char **text, size_t *len,
               struct sosie_err *err);
/* A statement of the standby: *len becomes the length of its JSON. SOSIE_EAUTH: its key is pinned, and has
 * not signed this. */
int trust_statement(struct sosie_pool *pool, const char *text, size_t *len, struct sosie_err *err);
bool trust_pinned(struct sosie_pool *pool);

/* session.c: the session of worker i, taken from the pool when it is needed; all given back after a cycle. */
int session_get(struct sosie_replicator *r, unsigned i, struct sosie_session **out, struct sosie_err *err);
/* Refuses a standby that knows our key as another tenant's. */
int session_check_tenant(const struct sosie_session *s, const char *tenant, const char *standby,
                         struct sosie_err *err);
/* whole: no part is open in any; else they are closed. */
void sessions_give(struct sosie_replicator *r, bool whole);
uint64_t sessions_sent(const struct sosie_replicator *r); /* bytes, in this cycle */
/* Asks for the head; a session kept from before that has died meanwhile is opened anew, once. The genesis
 * where the standby says nothing. */
int session_ask_head(struct sosie_replicator *r, struct sosie_head *head, struct sosie_err *err);

/* judge.c: what the head means for the state. */
enum judgement { JUDGE_FRESH, JUDGE_COMPARE, JUDGE_GO_ON, JUDGE_PENDING_ACCEPTED };
int judge_head(const struct sosie_replicator *r, const struct sosie_head *head, enum judgement *out,
               struct sosie_err *err);

/* volumes.c: identities and sizes. */
int volumes_identify(struct sosie_replicator *r, struct sosie_err *err);
int volumes_measure(struct sosie_replicator *r, struct sosie_view *view, struct sosie_err *err);
/* Refuses a head with volumes that are neither given nor dropped with consent. */
int volumes_all_given(const struct sosie_replicator *r, const struct sosie_head *head, struct sosie_err *err);
/* What the point that is made now adds and drops, for the result. */
void volumes_note_changes(struct sosie_replicator *r);
/* The volumes as they are given, for the state. */
int volumes_list(const struct sosie_replicator *r, struct state_volumes *out, struct sosie_err *err);
/* True when the list has the names that are given, in that order. */
bool volumes_are(const struct sosie_replicator *r, const struct state_volumes *list);
/* True when names or sizes differ from those of the head. */
bool volumes_changed(const struct sosie_replicator *r);

/* views.c: which views are kept. The ids in the state decide; a view is removed only after a state that does
 * not name it is durable. */
int views_settle(struct sosie_replicator *r, struct sosie_err *err);
/* base NULL: all is told as changed. */
int views_cut(struct sosie_replicator *r, bool with_base, struct sosie_view **view, struct sosie_err *err);
/* Releases the view that is worked on; rc: how reading it ended. */
void views_release(struct sosie_replicator *r, struct sosie_view *view, int rc, struct sosie_err *hook_err);
/* What the driver tells, and doubtful chunks as data where it tells them unchanged. Called under the pass's
 * lock; in place of the driver's next. */
int views_next(struct sosie_replicator *r, struct sosie_view *view, unsigned volume, struct sosie_io *io,
               struct sosie_file *file, uint64_t from, struct sosie_extent *out, struct sosie_err *err);
/* After all was read: nobody gave the view's or its base's space back meanwhile; else what gone says, and
 * views_emptied. */
int views_whole(struct sosie_replicator *r,
                int (*gone)(const struct sosie_replicator *r, struct sosie_err *err), struct sosie_err *err);
/* The view that is worked on becomes the accepted one: the content is the accepted point's. */
int views_replace(struct sosie_replicator *r, struct sosie_err *err);
void views_drop(struct sosie_replicator *r, const struct sosie_view_id *id); /* empty is fine */
/* At a cycle's end: the view that was worked on goes if nothing needs it. */
void views_end(struct sosie_replicator *r);

/* trees.c */
int trees_open(struct sosie_replicator *r, struct sosie_err *err);
void trees_close(struct sosie_replicator *r);
int trees_resize(struct sosie_replicator *r, struct sosie_err *err);
/* New, empty base trees for the volumes marked compare, opened without a layer. */
int trees_create_bases(struct sosie_replicator *r, struct sosie_err *err);
/* Nodes above chunks are computed anew, of chunks near each other in one go: a refresh goes down from the
 * top. end: what was added last too. */
struct trees_refresh {
	struct sosie_tree *tree;
	uint64_t first, end; /* chunks; empty: none */
};
int trees_refresh_add(struct trees_refresh *f, struct sosie_tree *tree, uint64_t chunk,
                      struct sosie_err *err);
int trees_refresh_end(struct trees_refresh *f, struct sosie_err *err);

/* pending.c: the pending upload's ends. */
int pending_begin(struct sosie_replicator *r, struct sosie_session *s,
                  struct sosie_err *err); /* upload.lock held */
int pending_accepted(struct sosie_replicator *r, const struct sosie_head *head, struct sosie_err *err);
int pending_drop(struct sosie_replicator *r, struct sosie_err *err);

/* redo.c: the bases and redo.log. */
/* Once, before bases or layers are used: repairs them when the machine has been down; doubted when it cannot.
 */
int redo_settle(struct sosie_replicator *r, struct sosie_err *err);
/* The committed upload's layers into the bases, nothing flushed. SOSIE_ECORRUPT: redo.log is damaged. */
int redo_merge(struct sosie_replicator *r, struct sosie_err *err);
/* After a merge, before the save: begins an fsync of the bases when it is due, takes note of one that ended.
 */
void redo_accepted(struct sosie_replicator *r);
/* Now: redo.from follows, the state is to be saved. An error: they are doubted. */
int redo_sync_bases(struct sosie_replicator *r, struct sosie_err *err);
/* Waits for an fsync that is under way: before bases are removed. */
void redo_join(struct sosie_replicator *r);
/* Orderly close: the bases are durable afterwards, and the state says so. */
void redo_end(struct sosie_replicator *r);

/* cycle.c: as sosie_replicator_open; io (taken over; NULL: posix) for the state folder, boot
 * in place of the boot id: for tests. */
int replicator_open_on(const struct sosie_replicate_options *options, struct sosie_io *io, const char *boot,
                       struct sosie_replicator **out, struct sosie_err *err);

/* resume.c: goes on with the pending upload, or drops it. */
int resume_pending(struct sosie_replicator *r, bool *resumed, struct sosie_err *err);

/* verdict.c: waits for the keeper's word on a committed upload; accepted or differs: 0. committed: digest of
 * what was committed (sosie_commit_digest), zero when it is not known any more. An accepted one is kept as a
 * receipt where the standby's key is pinned. */
int verdict_wait(struct sosie_replicator *r, const struct sosie_upload_id *id,
                 const struct sosie_digest *committed, struct sosie_verdict *out, struct sosie_err *err);
int verdict_error(const struct sosie_replicator *r, const struct sosie_verdict *v, struct sosie_err *err);

/* commit.c */
int commit_point(struct sosie_replicator *r, enum sosie_consistency label, struct sosie_err *err);
/* Commits what is pending (again) and waits; accepted: the state says so. */
int commit_pending(struct sosie_replicator *r, struct sosie_err *err);
int commit_same(struct sosie_replicator *r, struct sosie_err *err);

/* comparison.c: fills base trees with digests of the view and marks unknown what differs at the standby. */
int compare_volumes(struct sosie_replicator *r, struct sosie_view *view, struct sosie_err *err);

/* attach.c */
int attachments_measure(struct sosie_replicator *r, struct sosie_err *err);
bool attachments_unchanged(struct sosie_replicator *r); /* by looking only */
void attachments_free(struct sosie_replicator *r);

/* same.c */
int same_send(struct sosie_pool *pool, struct sosie_session *s, struct sosie_clock *clock,
              const struct sosie_same *list, unsigned count, unsigned *taken, bool *keeper,
              struct sosie_err *err);

/* rate.c */
void rate_wait(struct sosie_replicator *r, uint64_t bytes);

/* --- a pass (pass.h has the workers' side)
 * ------------------------------------------------------------------------------------------------- */
enum pass_mode { PASS_SEND, PASS_DIGEST };
int pass_run(struct sosie_replicator *r, struct sosie_view *view, enum pass_mode mode, struct sosie_err *err);

/* sender.c: an entry with its digests, or without from the one on that makes the upload's log too large. The
 * replicator's lock is held. */
int upload_append(struct upload *u, struct journal_entry *e, const struct sosie_digest *block,
                  struct sosie_err *err);

/* sender.c: records, part, journal, layer. One a worker; here what a sender of attachments needs. */
struct sender;
int sender_new(struct sosie_replicator *r, unsigned number, struct sender **out, struct sosie_err *err);
void sender_free(struct sender *s);
int sender_attachments(struct sender *s, struct sosie_err *err);
/* Ends the part; 0 when none was opened. */
int sender_end(struct sender *s, struct sosie_err *err);

#endif

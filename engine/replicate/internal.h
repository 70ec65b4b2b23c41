/* SPDX-License-Identifier: MIT */
/*
 * What the files of engine/replicate share. One replicator, its volumes, the upload that is being made, and
 * the workers of one pass.
 *
 * Threads: the thread that calls sosie_replicator_cycle is worker 0; others live only inside pass_run. Locks,
 * in this order: upload.lock   begin of an upload, numbers of parts, their results, counters; held over
 * begin's round trip queue.lock    the cursor of a pass (pass.c) lock          trees, journal, progress:
 * everything that goes through the state folder's I/O
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

/* The digest of a leaf of which nothing is known: differs from all, so that it is sent. (Not all ones: a
 * layer stores inverted.) */
extern const struct sosie_digest leaf_unknown;

struct volume {
	const struct sosie_volume *given;
	struct sosie_identity identity;
	struct sosie_digest ctx;
	const char *path;        /* to read from, of the view */
	uint64_t size;           /* in the view */
	struct sosie_tree *tree; /* with its layer; while comparing: the base alone */
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
};

struct attachment {
	const char *path;
	struct sosie_manifest_attachment entry;
};

struct rate {
	pthread_mutex_t lock;
	uint64_t per_second;
	int64_t next_ms; /* when the next read may start */
};

struct sosie_replicator {
	struct sosie_replicate_options o;
	struct state_dir dir;
	struct state state;
	struct sosie_hash *hash;
	struct sosie_digest group_ctx;
	struct volume *volumes;
	unsigned volume_count;
	struct attachment *attachments;
	struct sosie_digest attachments_digest;
	bool trees_open;
	bool layers_dirty; /* layers hold something that belongs to no pending upload */
	struct upload upload;
	struct rate rate;
	pthread_mutex_t lock;
	struct sosie_session *sessions[STREAMS_MAX];
	int64_t session_used_ms[STREAMS_MAX];
	struct level levels[STREAMS_MAX]; /* of worker i, kept between cycles */
	bool keeper;                      /* seen in the last answer */
	/* Of the cycle under way. */
	struct sosie_head *head;
	struct sosie_cycle_result *result;
	uint64_t total_bytes;
};

/* "acme/erp", for messages. */
const char *group_name(const struct sosie_replicator *r, char *dst, size_t size);
bool stop_asked(const struct sosie_replicator *r);
int stop_error(struct sosie_err *err);

/* session.c: the session of worker i, opened when it is needed; all closed after an error. */
int session_get(struct sosie_replicator *r, unsigned i, struct sosie_session **out, struct sosie_err *err);
void sessions_close(struct sosie_replicator *r);
uint64_t sessions_sent(const struct sosie_replicator *r);
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
/* True when names or sizes differ from those of the head. */
bool volumes_changed(const struct sosie_replicator *r);
bool same_identity(const struct sosie_identity *a, const struct sosie_identity *b);

/* trees.c */
int trees_open(struct sosie_replicator *r, struct sosie_err *err);
void trees_close(struct sosie_replicator *r);
int trees_resize(struct sosie_replicator *r, struct sosie_err *err);
/* New, empty base trees for the volumes marked compare, opened without a layer. */
int trees_create_bases(struct sosie_replicator *r, struct sosie_err *err);

/* pending.c: the pending upload's ends. */
int pending_begin(struct sosie_replicator *r, struct sosie_session *s,
                  struct sosie_err *err); /* upload.lock held */
int pending_accepted(struct sosie_replicator *r, const struct sosie_head *head, struct sosie_err *err);
int pending_drop(struct sosie_replicator *r, struct sosie_err *err);

/* resume.c: goes on with the pending upload, or drops it. */
int resume_pending(struct sosie_replicator *r, bool *resumed, struct sosie_err *err);

/* verdict.c: waits for the keeper's word on a committed upload; accepted or differs: 0. */
int verdict_wait(struct sosie_replicator *r, const struct sosie_upload_id *id, struct sosie_verdict *out,
                 struct sosie_err *err);
int verdict_error(const struct sosie_replicator *r, const struct sosie_verdict *v, struct sosie_err *err);

/* commit.c */
int commit_point(struct sosie_replicator *r, enum sosie_consistency label, int64_t cut_mono_ms,
                 struct sosie_err *err);
/* Commits what is pending (again) and waits; accepted: the state says so. */
int commit_pending(struct sosie_replicator *r, struct sosie_err *err);
int commit_same(struct sosie_replicator *r, struct sosie_err *err);

/* compare.c: fills base trees with digests of the view and marks unknown what differs at the standby. */
int compare_volumes(struct sosie_replicator *r, struct sosie_view *view, struct sosie_err *err);

/* attach.c */
int attachments_measure(struct sosie_replicator *r, struct sosie_err *err);

/* rate.c */
void rate_wait(struct sosie_replicator *r, uint64_t bytes);

/* --- a pass and its workers
 * ------------------------------------------------------------------------------------------------- */
enum pass_mode { PASS_SEND, PASS_DIGEST };

struct pass {
	struct sosie_replicator *r;
	struct sosie_view *view;
	enum pass_mode mode;
	pthread_mutex_t lock; /* queue.lock */
	unsigned volume;      /* cursor: extent `at` of this volume has been handed out up to at.start */
	struct sosie_extent at;
	uint64_t covered; /* bytes of the volume handed out, rounded to leaves */
	bool failed;
	int rc; /* of the first that failed */
	struct sosie_err err;
};

struct piece {
	enum { PIECE_NONE, PIECE_SWITCH, PIECE_DATA, PIECE_HOLE } kind;
	unsigned volume;     /* SWITCH: open this one's file and ask again */
	uint64_t start, end; /* leaf-aligned, end may be the volume's */
};

struct worker;
int pass_run(struct sosie_replicator *r, struct sosie_view *view, enum pass_mode mode, struct sosie_err *err);
int pass_take(struct pass *p, struct sosie_io *io, struct sosie_file *file, unsigned volume,
              struct piece *out, struct sosie_err *err);

/* worker.c: reads and digests. */
int worker_new(struct pass *p, unsigned number, struct worker **out, struct sosie_err *err);
int worker_run(struct worker *w, struct sosie_err *err);
int worker_finish(struct worker *w, struct sosie_err *err); /* after release: attachments, end of the part */
void worker_free(struct worker *w);

/* sender.c: records, part, journal, layer. One a worker. */
struct sender;
int sender_new(struct sosie_replicator *r, unsigned number, struct sender **out, struct sosie_err *err);
void sender_free(struct sender *s);
int sender_data(struct sender *s, unsigned volume, uint64_t leaf, const struct sosie_digest *digest,
                const void *bytes, size_t len, struct sosie_err *err);
int sender_zero(struct sender *s, enum sosie_record_kind kind, unsigned volume, uint64_t leaf,
                struct sosie_err *err);
int sender_flush(struct sender *s, struct sosie_err *err);
int sender_attachments(struct sender *s, struct sosie_err *err);
/* Ends the part; 0 when none was opened. */
int sender_end(struct sender *s, struct sosie_err *err);

#endif

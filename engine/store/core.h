/* SPDX-License-Identifier: MIT */
/*
 * What the files of the store's core share beyond internal.h: the group's memo, readers of parts, the steps
 * of an acceptance.
 */
#ifndef SOSIE_STORE_CORE_H
#define SOSIE_STORE_CORE_H

#include "engine/store/confined.h"
#include "engine/store/internal.h"
#include "sosie/bytes.h"

#define STORE_BLOCK (1u << 20)
#define STORE_SMALL_FILE (64u << 10)
#define STORE_VERDICTS_KEPT 64u
#define STORE_REFUSALS_KEPT 100u
#define HEAD_CLEAN_BYTES (256ull << 20) /* applied bytes after which an open head is made durable */
#define KEEPER_UPLOADS 16u
#define UPLOAD_HEX 32u

/* --- layout.c
 * ---------------------------------------------------------------------------------------------------------
 */
/* A decimal number of at most 19 digits without leading zeros, followed by `rest`, from name. False:
 * something else. */
bool layout_number(const char *name, const char *rest, uint64_t *out);
/* Reads PATH as one JSON object with "format": SOSIE_ENEWER above STORE_FORMAT; missing: SOSIE_ENOTFOUND. */
int layout_read_json(struct sosie_io *io, const char *path, const char *const *keys, struct sosie_json **out,
                     struct sosie_err *err);
/* Durable. Frees json. */
int layout_write_json(struct sosie_io *io, const char *path, struct sosie_json *json, uint32_t mode,
                      struct sosie_err *err);
/* Atomic, never torn while the machine runs, not durable: for what can be made anew. */
int layout_put(struct sosie_io *io, const char *path, const void *data, size_t len, uint32_t mode,
               struct sosie_err *err);
/* Unlinks; missing is fine. */
int layout_remove(struct sosie_io *io, const char *path, struct sosie_err *err);
/* Reads a number that is a time text member. */
int layout_json_time(const struct sosie_json *obj, const char *key, int64_t *out, struct sosie_err *err);
void layout_set_time(struct sosie_json *obj, const char *key, int64_t ms);
/* Makes an absent folder and its sub-folders (NULL-terminated) at once: PATH.tmp, then rename. */
int layout_make_dirs(struct sosie_io *io, const char *path, const char *const *subs, uint32_t mode,
                     struct sosie_err *err);

/* --- memo.c: what a process remembers of a group between calls; never trusted against the disk
 * ----------------------------- */
struct refused_memo {
	uint64_t count;            /* refused, and not in the audit log yet */
	int64_t written_ms;        /* monotonic: the newest entry, or try to write one; 0: none */
	int64_t first_ms, last_ms; /* of those that are counted */
	char upload[UPLOAD_HEX + 1], key[17];
	enum sosie_code code; /* of the last one */
	char what[512];
};
/* Uploads that waited for room (room.c). */
#define ROOM_SEEN 8u
struct room_seen {
	bool there, may; /* may: wished points may go for it */
	struct sosie_upload_id upload;
	struct sosie_digest manifest;
};
struct room_memo {
	uint64_t need_bytes;           /* what one that waits needs; 0: none does */
	struct sosie_upload_id upload; /* which one */
	struct room_seen seen[ROOM_SEEN];
	unsigned next;
};
struct store_memo {
	struct store_memo *next;
	struct sosie_name tenant, group;
	bool started; /* outbox was looked through by this process */
	bool closed;  /* this process saw that the head is not open, and has not opened it since */
	/* The head, when this process holds it open: images as of `point`, mark.json is the file we wrote. */
	struct image_set *set; /* NULL: nothing known */
	uint64_t mark_ino, point, applied;
	int64_t mark_ctime_ns, touched_ms;
	/* Usage, valid while the newest point is `counted_point`. */
	bool counted;
	uint64_t counted_point, counted_generation, journal_bytes, since_bytes;
	/* No segment of a point above `swept_point`, the newest, is in the journal: it need not be listed. */
	bool swept;
	uint64_t swept_point;
	/* Pruning (prune.c): when it is looked at next (monotonic), when it is due next, whether it was
	 * broken off; what an upload that waits needs. */
	int64_t retain_ms, prune_ms;
	bool prune_more;
	struct room_memo room;
	/* Of "same" messages: the chain's end when the group was opened last for them, and its files then. */
	bool same_known;
	struct sosie_digest same_digest;
	int64_t same_noted_ms, chain_dir_ms;
	uint32_t chain_file;
	uint64_t chain_size;
	struct refused_memo refused;
};
struct store_memo *memo_find(struct sosie_store *store, const char *tenant,
                             const char *group); /* NULL: none */
int memo_get(struct sosie_store *store, const char *tenant, const char *group, struct store_memo **out,
             struct sosie_err *err);
void memo_drop_head(struct store_memo *memo); /* closes the set; what it had not written is lost */
void memo_free_all(struct sosie_store *store);

/* --- chain_cache.c: chains as groups that were closed had read them
 * ------------------------------------------------------------------------------------------ */
#define CHAINS_KEPT_BYTES (64ull << 20)
/* The caller's, as it was left: to be read on before it is believed. NULL: none is there, or lent out. */
struct sosie_chain *chain_cache_take(struct sosie_store *store, const char *tenant, const char *group);
/* Takes the chain (NULL is fine), and closes it when it is in doubt, too large, or shorter than the one there
 * is. */
void chain_cache_give(struct sosie_store *store, const char *tenant, const char *group,
                      struct sosie_chain *chain);
void chain_cache_free(struct sosie_store *store);

/* --- stream.c: a file read front to back with several requests in flight
 * ------------------------------------------------------ */
#define STREAM_BLOCKS 4u
struct stream_block {
	struct sosie_req req; /* first: done() casts */
	bool busy;
};
struct part_stream {
	struct sosie_io *io;
	struct sosie_file *file;
	uint64_t length, issued, at;
	uint8_t *ring, *scratch; /* STREAM_BLOCKS * STORE_BLOCK; SOSIE_RECORD_MAX */
	struct stream_block blocks[STREAM_BLOCKS];
};
void stream_start(struct part_stream *s, struct sosie_io *io, struct sosie_file *file, uint64_t length,
                  uint8_t *ring, uint8_t *scratch);
/* The next len bytes (at most SOSIE_RECORD_MAX), good until the next call; SOSIE_ECORRUPT when fewer are
 * left. */
int stream_need(struct part_stream *s, size_t len, const uint8_t **out, struct sosie_err *err);
void stream_skip(struct part_stream *s, size_t len);
void stream_stop(struct part_stream *s); /* waits for what is in flight */
/* The next whole record, by its own lengths; *len 0 at the end. Not skipped. */
int stream_record(struct part_stream *s, const uint8_t **out, size_t *len, struct sosie_err *err);

/* --- decoders.c: records decoded by several threads
 * ----------------------------------------------------------------------------------------------------------
 */
#define DECODE_LEAVES 512u
enum decode_state { JOB_QUEUED, JOB_BUSY, JOB_DONE };
struct decode_job {
	struct decode_job *next;
	enum decode_state state;
	/* Given: the parsed record, its payload and basis, room for SOSIE_RECORD_PLAIN_MAX bytes of content.
	 */
	struct sosie_record record;
	const uint8_t *payload;
	const uint8_t *basis; /* what sosie_record_basis says; NULL where the record needs none */
	uint8_t *plain;
	/* Results, valid when waited for: as sosie_decode's, and SOSIE_ENOMEM where a child could not be had.
	 */
	struct sosie_digest leaves[DECODE_LEAVES];
	int rc;
	struct sosie_err err;
};
struct decode_pool;
/* Whose records, and where their children live. All borrowed; home and clock for the pool's life. */
struct decode_place {
	struct confined_home *home;
	struct sosie_clock *clock;
	const char *tenant;
	const struct sosie_digest *group_ctx;
};
/* volumes: borrowed. threads: at most one for each processor, 4 at most; without, or where none can be had,
 * the waiting thread decodes. New, give, wait and free belong to one thread, the home's. */
int decode_pool_new(const struct decode_place *place, const struct sosie_extent_volume *volumes, bool threads,
                    struct decode_pool **out, struct sosie_err *err);
void decode_pool_give(struct decode_pool *pool, struct decode_job *job); /* the pool's until waited for */
void decode_pool_wait(struct decode_pool *pool, struct decode_job *job); /* one that was given */
/* Jobs that were given and not begun are dropped, those that are being decoded are finished. NULL is fine.
 * Returns the processor time of the children that it used, ns. */
int64_t decode_pool_free(struct decode_pool *pool);

/* --- images.c, apply.c
 * ----------------------------------------------------------------------------------------------------------
 */
enum images_mode { IMAGES_READ, IMAGES_UPDATE, IMAGES_CREATE };
struct image {
	struct sosie_name name;
	uint64_t size;
	struct sosie_digest ctx;
	struct sosie_file *file;
	struct sosie_tree *tree; /* opened when first needed */
	bool dirty, tree_dirty;  /* written since the last sync */
};
struct image_set {
	struct sosie_store *store;
	char dir[STORE_PATH], group_dir[STORE_PATH];
	struct sosie_name tenant;
	struct sosie_digest group_ctx;
	struct sosie_hash *hash;
	enum images_mode mode;
	unsigned count;
	struct image *images;
	bool names_dirty; /* files were made or removed since the last sync */
	bool bad_segment; /* the last failure of images_apply was the segment's fault */
	bool direct;      /* an image was made and is open around the page cache: reading back what was just
	                     written waits for the disk */
	bool bounded; /* images_apply refuses a segment that costs what no honest one does: for uploads, not
	                 for what was accepted once */
	uint64_t applied;  /* bytes written by the last images_apply */
	int64_t unpack_ns; /* processor time of the children that unpacked for the last images_apply */
};
int images_open_mode(struct sosie_group *g, const char *dir, const struct sosie_manifest *m,
                     enum images_mode mode, struct image_set **out, struct sosie_err *err);
/* Same volumes, names, order and sizes? */
bool images_match(const struct image_set *set, const struct sosie_manifest *m);
bool images_same_shape(const struct sosie_manifest *a, const struct sosie_manifest *b);
/* Closes the trees, so that other processes see them whole; images stay open (trap: one descriptor from write
 * to fsync). */
int images_park(struct image_set *set, struct sosie_err *err);
int images_tree(struct image_set *set, unsigned i, struct sosie_tree **out, struct sosie_err *err);
/* Unlinks images and trees in dir that m does not name. *removed may be NULL. */
int images_prune(struct sosie_io *io, const char *dir, const struct sosie_manifest *m, bool *removed,
                 struct sosie_err *err);
/* Images and trees of m from one folder to another: cloned or copied, each fsynced. */
int images_copy(struct sosie_io *io, const char *from, const char *to, const struct sosie_manifest *m,
                struct sosie_progress *progress, struct sosie_err *err);
/* One leaf read from the image and digested anew. */
int images_redigest_leaf(struct image_set *set, unsigned i, uint64_t leaf, struct sosie_err *err);
int apply_pool_get(struct sosie_store *store, struct apply_pool **out, struct sosie_err *err);
void apply_pool_free(struct apply_pool *pool);
uint8_t *apply_pool_ring(struct apply_pool *pool);
uint8_t *apply_pool_scratch(struct apply_pool *pool);

/* --- touched.c: a union of leaf ranges in bounded memory
 * ----------------------------------------------------------------------------------------------------------
 */
#define TOUCHED_UNIT_MAX ((uint64_t)1 << 40) /* above the leaves of any volume */
struct touched_range {
	uint64_t first, last; /* leaves [first, last) */
	uint32_t volume;
};
struct touched {
	struct touched_range *ranges; /* owned */
	size_t count, room, limit;
	uint64_t unit; /* a power of two; 1: the ranges are exactly what was added */
};
/* limit: ranges held at most, at least twice the number of volumes. */
void touched_init(struct touched *t, size_t limit);
void touched_fini(struct touched *t);
/* last at most 2^38 (SOSIE_VOLUME_MAX). */
int touched_add(struct touched *t, unsigned volume, uint64_t first, uint64_t last, struct sosie_err *err);
/* ranges become ascending, disjoint, none adjacent to another. */
void touched_order(struct touched *t);

/* --- head.c
 * ---------------------------------------------------------------------------------------------------------------------
 */
/* The set of the head made ready, in the shape of m. Head must be marked open. *reshaped: volumes or sizes
 * changed. */
int head_images(struct sosie_group *g, const struct sosie_manifest *m, struct image_set **out, bool *reshaped,
                struct sosie_err *err);
/* The head now is at the newest point of the chain; trees are given back. */
int head_advanced(struct sosie_group *g, uint64_t bytes, struct sosie_err *err);
/* Throws head/ away and builds it anew at the newest point. */
int head_rebuild(struct sosie_group *g, struct sosie_progress *progress, struct sosie_err *err);

/* --- journal.c
 * ------------------------------------------------------------------------------------------------------------------
 */
int journal_path(const char *group_dir, uint64_t point, unsigned part, char dst[STORE_PATH],
                 struct sosie_err *err);
/* Removes files with numbers above the chain's newest. */
int journal_drop_stale(struct sosie_group *g, struct sosie_err *err);
int journal_remove(struct sosie_group *g, uint64_t point, struct sosie_err *err);
/* Copies one part in: exactly length bytes of src, fsynced. */
int journal_take(struct sosie_group *g, uint64_t point, unsigned part, struct sosie_file *src,
                 uint64_t length, struct sosie_err *err);
int journal_sync(struct sosie_group *g, struct sosie_err *err);
/* Each file's point and bytes, in no order. */
int journal_files(struct sosie_group *g, void (*fn)(void *arg, uint64_t point, uint64_t bytes), void *arg,
                  struct sosie_err *err);
/* Removes the files of points for which gone says so. stop (may be NULL) is asked between files. */
int journal_sweep(struct sosie_group *g, bool (*gone)(void *arg, uint64_t point), bool (*stop)(void *arg),
                  void *arg, struct sosie_err *err);

/* --- tenant.c
 * -------------------------------------------------------------------------------------------------------------------
 */
int tenant_quota(struct sosie_store *store, const char *tenant, uint64_t *quota, struct sosie_err *err);
/* Journals of all groups, chains, allocated bytes of head/, and of generations where they are copies. */
int tenant_usage(struct sosie_store *store, const char *tenant, uint64_t *used, struct sosie_err *err);
int tenant_limits(struct sosie_store *store, const char *tenant, uint64_t quota, uint64_t used,
                  struct sosie_err *err);

/* --- group.c
 * --------------------------------------------------------------------------------------------------------------------
 */
/* Brings the chain up to date with the disk; repairs its end when the lock is held. */
int group_chain_again(struct sosie_group *g, struct sosie_err *err);
/* The same, and all of it is read, whatever is known of it. */
int group_chain_anew(struct sosie_group *g, struct sosie_err *err);
int group_make(struct sosie_store *store, const char *tenant, const char *group, struct sosie_err *err);

/* --- upload.c: what lies in the inbox
 * --------------------------------------------------------------------------------------------- */
struct upload {
	struct sosie_upload_id id;
	int64_t mtime_ms;
	char *manifest; /* text, owned; NULL until read */
	size_t manifest_len;
	char key[17]; /* empty when not known */
	bool beside;  /* an older one waits for room: this one is taken only if it builds on the head, too */
	int64_t wait_ms; /* of one that waits for its tenant's turn: how long, about */
};
int upload_inbox(const struct sosie_group *g, char dst[STORE_PATH], struct sosie_err *err);
/* Committed uploads, oldest first; malloc'd. A missing inbox is an empty one. */
int upload_list(struct sosie_group *g, struct upload **out, unsigned *count, struct sosie_err *err);
int upload_read(struct sosie_group *g, struct upload *u, struct sosie_err *err);
int upload_open_part(struct sosie_group *g, const struct upload *u, unsigned part, uint64_t length,
                     struct sosie_file **out, struct sosie_err *err);
int upload_remove(struct sosie_group *g, const struct upload *u, struct sosie_err *err);
/* Does its manifest lie in the inbox? */
bool upload_committed(struct sosie_group *g, const struct sosie_upload_id *id);

/* --- outbox.c
 * -------------------------------------------------------------------------------------------------------------------
 */
/* committed: digest of what was committed (sosie_commit_digest); zero: it could not be read. */
int outbox_verdict(struct sosie_group *g, const struct sosie_upload_id *id,
                   const struct sosie_digest *committed, enum sosie_verdict_kind kind,
                   const struct sosie_err *why, struct sosie_err *err);
int outbox_path(const struct sosie_group *g, const char *name, char dst[STORE_PATH], struct sosie_err *err);
/* At the keeper's start: head statement anew, what a crash tore removed. */
int outbox_start(struct sosie_group *g, struct sosie_err *err);
int outbox_trim(struct sosie_group *g, struct sosie_err *err);

/* --- refusals.c, answer.c, same.c
 * ------------------------------------------------------------------------------------------------- */
int refusal_add(struct sosie_group *g, const struct upload *u, const struct sosie_err *why,
                struct sosie_err *err);
/* Writes the audit entry about refusals that are counted and not written: when it is due, without
 * waiting for the log; or now: at the end. */
void refusal_audit(struct sosie_store *store, struct store_memo *memo, bool now);
/* Answers a comparison: UPLOAD.differs and verdict. *bad: it is the upload that is wrong. */
int answer_compare(struct sosie_group *g, const struct upload *u, const struct sosie_manifest *m, bool *bad,
                   struct sosie_err *err);
/* Must the group be opened for a "same"? Where its chain is as it was the last time, what came is noted here.
 */
bool same_waits(struct sosie_store *store, const char *tenant, struct store_memo *memo);
int same_take(struct sosie_group *g, struct sosie_err *err);
/* The time of the newest "same" in the inbox for a group whose chain ends with head, 0: none. */
int64_t same_newest(struct sosie_store *store, const char *tenant, const char *group,
                    const struct sosie_digest *head);

/* --- signing.c
 * ---------------------------------------------------------------------------------------------------------------------
 */
struct acceptance {
	uint64_t epoch, point, stored;
	int64_t time_ms, cut_ms;
	struct sosie_digest manifest;
	struct sosie_upload_id upload;
	const char *key; /* KEYID, empty when not known */
};
/* The acceptance that follows the chain's newest entry; signed where the store has a signer. malloc'd. */
int signing_acceptance(struct sosie_group *g, const struct acceptance *a, char **text, size_t *len,
                       struct sosie_err *err);
/* Whether a manifest or "same" is signed as it must be. *bad: it is not (SOSIE_EAUTH); other failures are
 * ours. */
int signing_check(struct sosie_store *store, const char *tenant, const char *group, const char *name_space,
                  const void *bytes, size_t len, bool *bad, struct sosie_err *err);

/* --- prune.c
 * ---------------------------------------------------------------------------------------------------------------------
 */
/* Whether points of the group that may go for want of room hold as much as that: for less none goes. */
bool prune_may_thin(struct sosie_group *g, uint64_t bytes);

/* --- room.c: room for an upload that waits
 * ----------------------------------------------------------------------------------------------------
 */
/* Reads the headers of all its records. SOSIE_ECORRUPT, SOSIE_EPROTO: they are not what the manifest says;
 * SOSIE_EBUSY: somebody waits for the group. *may: whether wished points may go for it. */
int room_check(struct sosie_group *g, const struct upload *u, const struct sosie_manifest *m,
               const struct sosie_digest *manifest, bool *may, struct sosie_err *err);
/* The next look at retention makes as much room, until it is forgotten or the upload is gone. False: nobody
 * in this process would. */
bool room_ask(struct sosie_group *g, const struct upload *u, uint64_t need);
void room_forget(struct sosie_group *g, const struct sosie_upload_id *id); /* NULL: whichever it is */
/* What is asked for, by *id; 0: nothing. */
uint64_t room_asked(struct sosie_group *g, struct sosie_upload_id *id);

/* --- accept.c
 * ---------------------------------------------------------------------------------------------------------------------
 */
enum accept_outcome { ACCEPT_POINT, ACCEPT_REPEAT, ACCEPT_ANSWERED, ACCEPT_REFUSED, ACCEPT_WAITING };
/* Takes one upload. Negative: the group cannot be worked on now. why: of a refusal or wait. */
int accept_upload(struct sosie_group *g, struct upload *u, enum accept_outcome *outcome,
                  struct sosie_err *why, struct sosie_err *err);

#endif

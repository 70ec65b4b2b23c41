/* SPDX-License-Identifier: MIT */
/*
 * What the files of engine/store (and engine/cutover) share: paths, the chain, the head, ways to make a
 * point's images. Nothing here leaves the engine.
 */
#ifndef SOSIE_STORE_INTERNAL_H
#define SOSIE_STORE_INTERNAL_H

#include "sosie/sign.h"
#include "sosie/store.h"
#include "sosie/tree.h"

#define STORE_FORMAT 1u
#define STORE_PATH 4096u

struct sosie_store {
	struct sosie_io *io;
	struct sosie_clock *clock;
	struct sosie_store_info info;
	char *path;
	struct sosie_file *keeper_lock; /* NULL unless this process is the keeper */
	struct store_memo *memos;       /* what this process knows of groups' heads and usage (memo.c) */
	struct same_table *sames;       /* "same" messages, for each tenant (same.c) */
	struct apply_pool *pool;        /* buffers for applying, made when first needed (apply.c) */
	struct sosie_signer *signer;    /* the standby's, borrowed; NULL: nothing is signed */
	struct sosie_public standby;    /* its public key, as the store says; has_standby: it has one */
	bool has_standby;
	struct audit_log *audits;   /* where audit logs end, and their keys (audit.c, keys.c) */
	struct confined_home *home; /* children that read what peers wrote, made when first needed */
	bool home_lent;             /* home is somebody else's: a test's, for many stores */
	struct alarm_book *alarms;  /* files of alarms as they were read last (alarm_file.c) */
	struct watch_book *watches; /* what is watched of groups (watch.c) */
	struct quota_meter *meters; /* what tenants have spent (quota.c) */
	struct space_memo *space;   /* the reserve as it was counted last (space.c) */
	struct kept_chain *chains;  /* as groups left them, newest first (chain_cache.c) */
	uint64_t chains_limit;      /* bytes of their entries */
};

struct sosie_group {
	struct sosie_store *store;
	struct sosie_name tenant, name;
	char dir[STORE_PATH]; /* STORE/TENANT/GROUP */
	struct sosie_chain *chain;
	struct sosie_file *lock; /* held, or NULL */
	struct sosie_file *want; /* held while waiting */
	struct sosie_hash *hash;
	int64_t wanted_ms; /* when state/want was last probed, and what was seen */
	bool wanted;
};

void same_free_all(struct sosie_store *store);
/* The store's home of children (confined.h), for its process and thread. */
int store_home(struct sosie_store *store, struct confined_home **out, struct sosie_err *err);

/* printf into a buffer of STORE_PATH; SOSIE_EINTERNAL when it does not fit. */
int store_path(char dst[STORE_PATH], struct sosie_err *err, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));

/* --- signing.c
 * ------------------------------------------------------------------------------------------------------ */
/* Appends an epoch entry, durably. */
int group_raise_epoch(struct sosie_group *g, uint64_t epoch, uint64_t point, const char *by,
                      const char *reason, struct sosie_err *err);
/* Signs *text (malloc'd) with the standby's key, where there is a signer; else leaves it. */
int store_sign(struct sosie_store *store, const char *name_space, char **text, size_t *len,
               struct sosie_err *err);
/* At opening: STORE/standby.pub, where it is there. */
int store_read_standby(struct sosie_store *store, struct sosie_err *err);

/* --- chain.c
 * ------------------------------------------------------------------------------------------------------ */
enum chain_kind { CHAIN_POINT = 1, CHAIN_EPOCH = 2, CHAIN_KEY = 3 };
struct chain_entry {
	unsigned kind; /* enum chain_kind, or of an audit log: enum sosie_audit_kind */
	uint64_t point;
	int64_t time_ms;
	struct sosie_digest previous, digest;
	uint32_t file, body_len; /* file number, length of the body */
	uint64_t offset;         /* of the entry in its file */
};
struct sosie_chain;
/* Reads all headers; repair (only under the lock): cuts off and keeps aside a torn entry at the very end.
 * Without repair it is only ignored. */
int chain_open(struct sosie_io *io, struct sosie_clock *clock, const char *dir,
               const struct sosie_digest *genesis, bool repair, struct sosie_chain **out,
               struct sosie_err *err);
/* Reads only what was appended since the chain was read last, and looks whether the rest is still there. When
 * it fails the chain is in doubt; SOSIE_ECORRUPT or SOSIE_ENOTFOUND then say: open it anew, all of it must be
 * read. */
int chain_read_on(struct sosie_chain *chain, bool repair, struct sosie_err *err);
bool chain_carried(const struct sosie_chain *chain); /* was it read on, and never whole since? */
void chain_close(struct sosie_chain *chain);
uint64_t chain_entries(const struct sosie_chain *chain);
const struct chain_entry *chain_entry(const struct sosie_chain *chain, uint64_t i);
const struct chain_entry *chain_find_point(const struct sosie_chain *chain, uint64_t point); /* NULL: none */
/* The body, malloc'd, its digest compared with the entry's (SOSIE_ECORRUPT). */
int chain_body(struct sosie_chain *chain, const struct chain_entry *e, void **out, struct sosie_err *err);
/* Appends durably: returns after fsync (and sync_dir for a new file). */
int chain_append(struct sosie_chain *chain, unsigned kind, uint64_t point, int64_t time_ms, const void *body,
                 uint32_t len, struct sosie_digest *digest, struct sosie_err *err);
uint64_t chain_newest_point(const struct sosie_chain *chain);
/* An append failed and the file could not be mended: its entry may be on the disk. */
bool chain_in_doubt(const struct sosie_chain *chain);
uint64_t chain_epoch(const struct sosie_chain *chain); /* 1 before any epoch entry */
/* Digest of the newest point or epoch entry, or the genesis. */
const struct sosie_digest *chain_head(const struct sosie_chain *chain);
/* Splits a point's body. acceptance and manifest are borrowed from body. */
int chain_point_body(const void *body, uint32_t len, const void **manifest, uint32_t *manifest_len,
                     const void **acceptance, uint32_t *acceptance_len, struct sosie_err *err);
/* Digest of the newest entry of any kind, or the genesis: what the next one names. */
const struct sosie_digest *chain_last(const struct sosie_chain *chain);

/* --- images.c: a set of VOLUME.raw and VOLUME.tree in one folder
 * ------------------------------------------------------ */
struct image_set;
/* Opens (create: makes missing ones, resizes and removes so that exactly the manifest's volumes are there)
 * the images in dir. previous volumes not in the manifest are unlinked only with create. direct: images
 * bypass the page cache. */
int images_open(struct sosie_group *g, const char *dir, const struct sosie_manifest *m, bool create,
                struct image_set **out, struct sosie_err *err);
int images_close(struct image_set *set, struct sosie_err *err);
/* Applies the parts of point n (journal files) in order: decodes, checks each record digest and part chain,
 * writes, keeps the trees. stop (may be NULL) is asked between records: true ends with SOSIE_EBUSY. */
int images_apply(struct image_set *set, const struct sosie_manifest *m, uint64_t point,
                 bool (*stop)(void *arg), void *arg, struct sosie_progress *progress, struct sosie_err *err);
/* SOSIE_ECORRUPT naming the volume when a tree's root is not the manifest's. */
int images_check_roots(struct image_set *set, const struct sosie_manifest *m, struct sosie_err *err);
/* Reads and digests the leaves that the records of points from to `to` touch, each once, and puts them into
 * the trees (settling). So too for what lies in the journal behind `to` and has no manifest: its leaf numbers
 * are looked at in all volumes. */
int images_redigest(struct image_set *set, struct sosie_group *g, uint64_t from, uint64_t to,
                    struct sosie_err *err);
int images_sync(struct image_set *set, struct sosie_err *err); /* fsync of all images and trees */
/* Makes dir (must not exist) hold point's images and trees: nearest generation cloned or copied, or nothing,
 * then segments applied, roots checked, synced (files and dir itself, not its name in the parent). On failure
 * dir is removed. */
int images_materialise(struct sosie_group *g, uint64_t point, const char *dir,
                       struct sosie_progress *progress, struct sosie_err *err);
/* The same; stop (may be NULL) is asked between records: true ends with SOSIE_EBUSY. */
int images_materialise_until(struct sosie_group *g, uint64_t point, const char *dir, bool (*stop)(void *arg),
                             void *arg, struct sosie_progress *progress, struct sosie_err *err);

/* --- head.c
 * ------------------------------------------------------------------------------------------------------- */
/* Brings head/ to the newest point whatever its state: nothing to do, settle, or rebuild. Under the lock. */
int head_ready(struct sosie_group *g, struct sosie_progress *progress, struct sosie_err *err);
/* Marks head open durably (when it was clean), so that it may be changed. */
int head_open_mark(struct sosie_group *g, struct sosie_err *err);
int head_void(struct sosie_group *g, struct sosie_err *err); /* durable: to be thrown away */
int head_clean(struct sosie_group *g,
               struct sosie_err *err); /* syncs images and marks clean at the newest point */
int head_state(struct sosie_group *g, int *state, uint64_t *point,
               struct sosie_err *err); /* SOSIE_HEAD_* of status */
/* generation.c: makes generations/N from head/ (which is at N and ready). */
int generation_make(struct sosie_group *g, struct sosie_progress *progress, struct sosie_err *err);
int generation_due(struct sosie_group *g, bool *due, struct sosie_err *err);
/* The same of an older point, out of the nearest generation before it and the journal. stop as above. */
int generation_make_at(struct sosie_group *g, uint64_t point, bool (*stop)(void *arg), void *arg,
                       struct sosie_progress *progress, struct sosie_err *err);
/* Its trees have the roots of the point's manifest: SOSIE_ECORRUPT, SOSIE_ENOTFOUND otherwise. Images are not
 * read. */
int generation_check(struct sosie_group *g, uint64_t point, struct sosie_err *err);
/* Numbers of those that are there, ascending; malloc'd. A group that has none has an empty list. */
int generation_list(struct sosie_group *g, uint64_t **list, size_t *count, struct sosie_err *err);
/* Takes away a generation, at once for who looks by its number, then its files; and what a crash left. */
int generation_remove(struct sosie_group *g, uint64_t point, struct sosie_err *err);
int generation_sweep(struct sosie_group *g, struct sosie_err *err);
/* journal.c */
int journal_part_path(const struct sosie_group *g, uint64_t point, unsigned part, char dst[STORE_PATH],
                      struct sosie_err *err);
/* outbox.c: head statement anew from the chain. */
int outbox_head(struct sosie_group *g, struct sosie_err *err);

/* keeper.c: as sosie_keeper_accept, but after limit_ms no further upload is begun, and no generation is made.
 * 0: no limit. */
int keeper_accept_within(struct sosie_store *store, const char *tenant, const char *group, int64_t limit_ms,
                         struct sosie_accept_result *out, struct sosie_err *err);

/*
 * Small files of state/, for who reads them:
 *   refusals   one line each, newest last, at most 100: "TIME UPLOAD CODE TEXT" (RFC 3339 time, 32 hex
 * digits, code name, free text) same.json  {"format":1,"time":TIME,"digest":hex64,"key":KEYID}: the newest
 * valid "same" A waiting upload's reason is in its verdict in the outbox. generations/N/generation.json:
 * {"format":1,"point":N,"manifest":hex64,"time":TIME}
 */
/* The newest refusal: text (may be cut), 0 in *time_ms when there is none. */
int refusal_newest(struct sosie_group *g, char *text, size_t size, int64_t *time_ms, struct sosie_err *err);
/* Bytes of the journal's files, and of those with a number above `after`. Either may be NULL. */
int journal_usage(struct sosie_group *g, uint64_t after, uint64_t *total, uint64_t *since,
                  struct sosie_err *err);

#endif

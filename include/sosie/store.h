/* SPDX-License-Identifier: MIT */
/*
 * The standby's store (docs/format.md, "Store"). Everything an operator's command or the keeper does goes
 * through here; nothing needs a network, and nothing but sosie_keeper_* needs a keeper.
 *
 * Readers take no lock: the chain only grows, generations and journal files never change. Whoever changes a
 * group holds its lock (state/lock, flock). A store handle and what was opened from it belong to one thread.
 *
 * Order of writes, everywhere: data, fsync, what refers to it, fsync, rename, fsync of the directory
 * (invariants I2, I3).
 */
#ifndef SOSIE_STORE_H
#define SOSIE_STORE_H

#include "sosie/clock.h"
#include "sosie/io.h"
#include "sosie/names.h"
#include "sosie/progress.h"
#include "sosie/segment.h"
#include "sosie/sign.h"

struct sosie_store;
struct sosie_policy {
	uint64_t fold_bytes; /* a generation is due when the journal since the newest exceeds this … */
	uint64_t
	        fold_points; /* … or that many points. Where the store cannot reflink both count eightfold. */
};
struct sosie_store_info {
	struct sosie_store_id id;
	struct sosie_policy policy;
	int64_t created_ms;
	bool reflink; /* probed at open */
	const char *path;
};

/* path must not exist or be an empty folder. Default policy: 1 GiB, 1000 points. */
int sosie_store_init(struct sosie_io *io, struct sosie_clock *clock, const char *path, struct sosie_err *err);
/* SOSIE_ENOTSTORE, SOSIE_ENEWER. io and clock are borrowed; path is copied. */
int sosie_store_open(struct sosie_io *io, struct sosie_clock *clock, const char *path,
                     struct sosie_store **out, struct sosie_err *err);
void sosie_store_close(struct sosie_store *store);
void sosie_store_info(const struct sosie_store *store, struct sosie_store_info *out);

/* The standby's public key (STORE/standby.pub); false: the store has none, and nothing of it is signed. */
bool sosie_store_standby(const struct sosie_store *store, struct sosie_public *out);
/* From now on what this handle accepts and says is signed. signer: borrowed until the store is closed; it
 * must have the private half of STORE/standby.pub (SOSIE_ECONFIG). NULL: nothing is signed, for a cutover in
 * a crisis without the key. */
int sosie_store_sign(struct sosie_store *store, struct sosie_signer *signer, struct sosie_err *err);

struct sosie_tenant_info {
	struct sosie_name name;
	uint64_t quota; /* bytes, 0: none */
	uint64_t used;  /* journal and working images, as the quota counts; 0 until a keeper counted */
	unsigned keys;
};
/* Makes the tenant's folders, FIFO and limits; SOSIE_EEXISTS when it is there (then a quota differing from
 * before is an error too). */
int sosie_tenant_add(struct sosie_store *store, const char *tenant, uint64_t quota, struct sosie_err *err);
int sosie_tenant_info(struct sosie_store *store, const char *tenant, struct sosie_tenant_info *out,
                      struct sosie_err *err);

struct sosie_key_info {
	char id[17];          /* key id: 16 hex digits */
	char fingerprint[64]; /* "SHA256:…" as ssh-keygen -l prints */
	char type[40];        /* "ssh-ed25519" … */
	char blob[1024];      /* base64 */
	char comment[64];
};
/* Names in order; return non-zero to stop. */
typedef int (*sosie_name_fn)(void *arg, const struct sosie_name *name);
int sosie_store_tenants(struct sosie_store *store, sosie_name_fn fn, void *arg, struct sosie_err *err);
int sosie_store_groups(struct sosie_store *store, const char *tenant, sosie_name_fn fn, void *arg,
                       struct sosie_err *err);

/* --- a group
 * -------------------------------------------------------------------------------------------------------- */
struct sosie_group;
/* SOSIE_ENOTFOUND names what is missing: store, tenant, group. Reads the chain's index; takes no lock. */
int sosie_group_open(struct sosie_store *store, const char *tenant, const char *group,
                     struct sosie_group **out, struct sosie_err *err);
void sosie_group_close(struct sosie_group *g);
/* Takes the group's lock and reads the chain again, waiting at most wait_ms; meanwhile state/want tells a
 * keeper to let go. Above that: SOSIE_EBUSY naming the holder (pid, program). */
int sosie_group_lock(struct sosie_group *g, const char *program, int64_t wait_ms, struct sosie_err *err);
void sosie_group_unlock(struct sosie_group *g);
/* True when somebody waits for the lock: long work under it stops at the next record. */
bool sosie_group_wanted(struct sosie_group *g);
void sosie_group_head(const struct sosie_group *g, struct sosie_head *out);

struct sosie_point {
	uint64_t point, epoch;
	int64_t cut_ms; /* on the standby's clock, never after accepted_ms */
	int64_t accepted_ms;
	enum sosie_consistency consistency;
	uint64_t stored; /* bytes of its parts */
	uint64_t plain;  /* bytes decoded */
	struct sosie_digest digest, manifest;
	bool verified; /* roots were compared when it was accepted: true for every point of this format */
};
uint64_t sosie_group_points(const struct sosie_group *g); /* number of the newest, 0: none */
int sosie_group_point(struct sosie_group *g, uint64_t point, struct sosie_point *out, struct sosie_err *err);
/* The parsed manifest of a point; the caller runs sosie_manifest_fini. */
int sosie_group_manifest(struct sosie_group *g, uint64_t point, struct sosie_manifest *out,
                         struct sosie_err *err);
/* The newest generation at or before point; 0: none. */
int sosie_group_generation(struct sosie_group *g, uint64_t point, uint64_t *generation,
                           struct sosie_err *err);

struct sosie_group_status {
	struct sosie_head head;
	struct sosie_point newest; /* zero when there is none */
	int64_t same_ms;           /* standby's time of the newest valid "same", 0: none */
	int64_t rpo_ms; /* now minus the later of the newest cut and same; -1 without a point, or when the
	                   epoch was raised since */
	uint64_t journal_bytes, generations, newest_generation, image_bytes;
	unsigned uploads_open, uploads_committed; /* in the inbox */
	uint64_t inbox_bytes;
	char waiting[512]; /* why a committed upload waits ("disk full …"), or empty */
	char refused[512]; /* the last refusal, or empty */
	int64_t refused_ms;
	enum { SOSIE_HEAD_CLEAN, SOSIE_HEAD_OPEN, SOSIE_HEAD_VOID, SOSIE_HEAD_NONE } head_state;
	bool keeper; /* one runs on this store */
	int keeper_pid;
	bool cut_over;  /* live images of the current epoch exist */
	char live[512]; /* where */
};
int sosie_group_status(struct sosie_group *g, struct sosie_group_status *out, struct sosie_err *err);

/* Groups that no keeper has made yet, in order: only their inbox is there. Return non-zero to stop. */
int sosie_inbox_groups(struct sosie_store *store, const char *tenant, sosie_name_fn fn, void *arg,
                       struct sosie_err *err);
/* The same for such a group, of which only uploads, waiting and keeper are known. SOSIE_ENOTFOUND: there is
 * no such inbox. */
int sosie_inbox_status(struct sosie_store *store, const char *tenant, const char *group,
                       struct sosie_group_status *out, struct sosie_err *err);

/* Whether a keeper runs on this store, and its process id (0: not known). */
int sosie_store_keeper(struct sosie_store *store, bool *running, int *pid, struct sosie_err *err);

/* --- checking and taking out
 * ------------------------------------------------------------------------------------------ */
struct sosie_signing_key; /* sosie/audit.h */
struct sosie_verify {
	bool full;      /* re-read every image byte */
	uint64_t point; /* 0: all; else only what this point needs */
	struct sosie_progress *progress;
	/* Who must have signed; both or neither. NULL: as the store says itself (its audit log, standby.pub).
	 */
	const struct sosie_signing_key *source_keys;
	unsigned source_key_count;
	const struct sosie_public *standby;
	/* Results. Of the points: signed well by a source's key, accepted under the standby's; and signed
	 * well by a key of which nothing is known, since the audit log cannot be read. */
	uint64_t signed_points, countersigned, unattributed;
	uint64_t entries, points, parts, part_bytes, generations, image_bytes;
	uint64_t audit_entries; /* whole ones, of the tenant's log and the store's; not looked at for one
	                           point */
	bool audit_denied;      /* they may not be read by this user */
	uint64_t damaged;       /* places */
	/* Called for each damaged place; what is a sentence naming file and offset. */
	void (*damage)(void *arg, const char *where, const char *what);
	void *arg;
};
/* 0 also when damage was found: damaged tells. Negative only when checking could not go on. Does not need the
 * lock and changes nothing. */
int sosie_group_verify(struct sosie_group *g, struct sosie_verify *v, struct sosie_err *err);

/* Where the chain ends now, signed by the standby (SOSIE_SIGN_HEAD): malloc'd. SOSIE_ECONFIG: no key. */
int sosie_group_export_head(struct sosie_group *g, char **text, size_t *len, struct sosie_err *err);
struct sosie_exported_head {
	uint64_t epoch, point, entries; /* of the chain, then */
	struct sosie_digest digest;     /* of its newest entry then */
	int64_t time_ms;
};
/* Whether the chain still has what it ended with when that head was exported. The entries' own digests are
 * checked by sosie_group_verify. SOSIE_EAUTH: not signed by standby (NULL: the store's own key);
 * SOSIE_ECORRUPT: history was cut or rewritten since. */
int sosie_group_check_head(struct sosie_group *g, const char *text, size_t len,
                           const struct sosie_public *standby, struct sosie_exported_head *out,
                           struct sosie_err *err);

struct sosie_image {
	struct sosie_name volume;
	uint64_t size;
	struct sosie_digest sha256; /* plain SHA-256 of all bytes when asked for, else zero */
	char path[4096];
};
/* Makes DIR/VOLUME.raw (and attachments/NAME) of a point: clone or copy of the nearest generation, segments
 * applied, roots compared, fsynced. DIR is made when missing; existing names there are never overwritten
 * (SOSIE_EEXISTS). *images malloc'd. Needs no lock. */
int sosie_group_export(struct sosie_group *g, uint64_t point, const char *dir,
                       struct sosie_progress *progress, struct sosie_image **images, unsigned *count,
                       struct sosie_err *err);

/* Reads all of image->path and fills in its plain SHA-256, as sha256sum prints it; holes are not read. */
int sosie_image_digest(struct sosie_store *store, struct sosie_image *image, struct sosie_progress *progress,
                       struct sosie_err *err);

/* --- the keeper
 * ---------------------------------------------------------------------------------------------------------
 */
struct sosie_accept_result {
	unsigned accepted, refused, waiting, answered; /* uploads; answered: comparisons */
	uint64_t point;                                /* newest after the call */
	struct sosie_err last;                         /* the last refusal or reason to wait */
	bool more;       /* uploads were left for the next call; among them one that waits */
	int64_t wait_ms; /* the last one waits for its tenant's turn, so long; 0: it does not */
};
/* Takes what is committed in the group's inbox, oldest first, at most 16 uploads in one call, makes it points
 * or refuses it, writes verdicts and head statement, makes a generation when due. Makes the group's folders
 * when the inbox is the first to name it. Returns a negative code only when the group cannot be worked on now
 * (lock, disk); a bad upload is a result. */
int sosie_keeper_accept(struct sosie_store *store, const char *tenant, const char *group,
                        struct sosie_accept_result *out, struct sosie_err *err);
/* The same for the oldest upload only: one step of a keeper that serves many. */
int sosie_keeper_step(struct sosie_store *store, const char *tenant, const char *group,
                      struct sosie_accept_result *out, struct sosie_err *err);
/* Tells a tenant's receivers their limits anew, where they are not what they should be: at a keeper's start,
 * and after each acceptance. */
int sosie_keeper_tenant(struct sosie_store *store, const char *tenant, struct sosie_err *err);
/* Ends a revocation of a key that was interrupted between its entry and the receivers' copy: part of the call
 * above, alone cheap enough for every look at the tenant. */
int sosie_keeper_keys(struct sosie_store *store, const char *tenant, struct sosie_err *err);
/* Idle work: makes an open head durable and marks it clean; takes new "same" messages of the tenant into
 * account. */
int sosie_keeper_settle(struct sosie_store *store, const char *tenant, const char *group,
                        struct sosie_err *err);
/* Takes a new "same" into account for this group, nothing else; cheap when there is none. */
int sosie_keeper_same(struct sosie_store *store, const char *tenant, const char *group,
                      struct sosie_err *err);
/* Groups of the tenant that have something committed in the inbox, or are new there. */
int sosie_keeper_due(struct sosie_store *store, const char *tenant, sosie_name_fn fn, void *arg,
                     struct sosie_err *err);
/* One keeper a store: takes keeper.lock until the store is closed. SOSIE_EBUSY names the other. */
int sosie_keeper_claim(struct sosie_store *store, struct sosie_err *err);

#endif

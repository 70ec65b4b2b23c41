/* SPDX-License-Identifier: MIT */
/*
 * The receiver's half of a store: one tenant's inbox to write to and outbox to read from (docs/format.md,
 * "Store"). No ring, no codec, no JSON.
 *
 * An upload is a set of files UPLOAD.* in _inbox/GROUP: UPLOAD.lock (empty, first made, last removed),
 * UPLOAD.key, UPLOAD.K for each part, UPLOAD.manifest: committed. Invariants:
 *   - a session that has an upload open holds a shared flock on its lock; who removes one holds it
 *     exclusively, so a live one never goes;
 *   - commits of one upload are serialised by an exclusive flock on UPLOAD.key;
 *   - what a commit tells as durable is: the parts' bytes, then the manifest's, then the folder, whose own
 *     name was made durable when it was new; the manifest's name appears after all that it refers to.
 *     Unsynced names of one folder are taken to become durable in the order they were made, as journalling
 *     filesystems do; where they do not, a commit that was not told may show its manifest without a part
 *     after a power loss, and the keeper refuses it as incomplete;
 *   - a file whose fsync failed is removed and never tried again (a later fsync would lie);
 *   - the bytes in the tenant's inbox are bounded by `upload_bytes`, idle uploads by `uploads`, folders and
 *     waiting commits by constants;
 *   - where there is no room, idle uploads of the same group go before a living one is refused.
 */
#ifndef SOSIE_INBOX_INTERNAL_H
#define SOSIE_INBOX_INTERNAL_H

#include "sosie/inbox.h"
#include "sosie/message.h"

#define INBOX_PATH 4096u
#define INBOX_STORE_MAX 3500u
/* A keeper of another user reads, changes and removes what receivers make, by the group that they share. A
 * folder keeps the inbox's setgid bit by itself (mkdir(2)). The umask must let them be. */
#define INBOX_FILE_MODE 0660u
#define INBOX_DIR_MODE 0770u
#define INBOX_ID_HEX 32u
#define INBOX_KEY_HEX 16u
#define INBOX_HOLDS 8u /* uploads that one session keeps locked */

struct inbox_limits {
	uint64_t upload_bytes; /* in the whole inbox of the tenant; 0: no limit */
	uint64_t uploads, parts;
};

struct inbox_hold {
	struct sosie_file *lock; /* NULL: free */
	struct sosie_name group;
	struct sosie_upload_id id;
};

struct inbox_part {
	struct sosie_file *file; /* NULL: none */
	struct sosie_name group;
	uint64_t written, durable;
	uint64_t room, counted; /* bytes that could be written when `counted` were; UINT64_MAX: no limit */
	char path[INBOX_PATH];
};

struct sosie_inbox {
	struct sosie_io *io;
	struct sosie_clock *clock;
	struct sosie_name tenant;
	struct sosie_store_id store;
	struct inbox_limits limits;
	char key[INBOX_KEY_HEX + 1];
	unsigned group_count; /* 0: the key is for all groups of the tenant */
	struct sosie_name groups[SOSIE_INBOX_GROUPS_MAX];
	char base[INBOX_STORE_MAX + SOSIE_NAME_MAX + 2]; /* STORE/TENANT */
	struct inbox_hold holds[INBOX_HOLDS];
	unsigned next_hold;
	struct inbox_part part;
};

struct inbox_path {
	char s[INBOX_PATH];
};

/* What a folder holds, as far as it can be ours: longer names are skipped. */
struct inbox_names {
	struct inbox_name {
		char s[SOSIE_NAME_MAX + 1];
		enum sosie_file_kind kind;
	} * list;
	size_t count, size;
	bool memory; /* there was not enough */
};

/* --- inbox_names.c */
/* STORE/TENANT/… into p; all arguments are bounded names, so that it always fits. */
const char *inbox_path_of(const struct sosie_inbox *in, struct inbox_path *p, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));
const char *inbox_group_dir(const struct sosie_inbox *in, struct inbox_path *p,
                            const struct sosie_name *group);
/* _inbox/GROUP/UPLOAD.suffix and _outbox/GROUP/UPLOAD.suffix */
const char *inbox_upload_file(const struct sosie_inbox *in, struct inbox_path *p,
                              const struct sosie_name *group, const struct sosie_upload_id *id,
                              const char *suffix);
const char *inbox_answer_file(const struct sosie_inbox *in, struct inbox_path *p,
                              const struct sosie_name *group, const struct sosie_upload_id *id,
                              const char *suffix);
/* The caller frees n->list, also after an error. A folder that is not there has no names. */
int inbox_names_of(struct sosie_inbox *in, const char *dir, struct inbox_names *n, struct sosie_err *err);
bool inbox_number(const char *s, size_t len, uint64_t *out); /* decimal digits, all of them */
/* UPLOAD.SUFFIX: false for anything else. *suffix points into name. */
bool inbox_upload_name(const char *name, struct sosie_upload_id *id, const char **suffix);
bool inbox_id_equal(const struct sosie_upload_id *a, const struct sosie_upload_id *b);

/* --- inbox_limits.c */
/* SOSIE_ENOTSTORE, SOSIE_ENEWER. */
int inbox_store_check(struct sosie_inbox *in, const char *store, struct sosie_err *err);
int inbox_limits_read(struct sosie_inbox *in, struct sosie_err *err); /* the store's id too */
/* UPLOAD.key: for the audit, trusted for nothing. Not flushed: see inbox_commit.c. */
int inbox_key_write(struct sosie_inbox *in, const char *path, struct sosie_err *err);
int inbox_key_check(struct sosie_inbox *in,
                    struct sosie_err *err); /* SOSIE_EAUTH: not registered (any more) */
/* The same, and whether the key is for this group: SOSIE_ENAME. First in all that names a group. */
int inbox_allowed(struct sosie_inbox *in, const struct sosie_name *group, struct sosie_err *err);

/* --- inbox_hold.c */
struct inbox_hold *inbox_hold_find(struct sosie_inbox *in, const struct sosie_name *group,
                                   const struct sosie_upload_id *id);
/* Takes over the locked file; the one held longest gives way when there are too many. */
void inbox_hold_add(struct sosie_inbox *in, const struct sosie_name *group, const struct sosie_upload_id *id,
                    struct sosie_file *lock);
void inbox_hold_release(struct sosie_inbox *in, struct inbox_hold *h);
/* Locks it shared; SOSIE_ENOTFOUND when path leads to another file by now. */
int inbox_hold_verify(struct sosie_inbox *in, const char *path, struct sosie_file *lock,
                      struct sosie_err *err);
/* The upload is there and cannot be removed while this session lives. */
int inbox_hold_take(struct sosie_inbox *in, const struct sosie_name *group, const struct sosie_upload_id *id,
                    struct sosie_err *err);
int inbox_no_upload(const struct sosie_name *group, const struct sosie_upload_id *id, struct sosie_err *err);
/* Its manifest lies in the inbox, or the keeper has already said what became of it. */
int inbox_is_committed(struct sosie_inbox *in, const struct sosie_name *group,
                       const struct sosie_upload_id *id, bool *yes, struct sosie_err *err);

/* inbox_commit.c: a new file of these bytes, flushed, that waits for its name. What is there under tmp goes:
 * it is of a session that died. */
int inbox_write_aside(struct sosie_inbox *in, const char *tmp, const void *data, size_t len,
                      struct sosie_err *err);
/* inbox_upload.c: removes the oldest idle upload of the group; false: there is none. */
bool inbox_make_room(struct sosie_inbox *in, const struct sosie_name *group);
void inbox_part_drop(struct sosie_inbox *in); /* inbox_part.c: closes the open part, as it is */
void inbox_bell_ring(struct sosie_inbox *in); /* inbox_bell.c */

#endif

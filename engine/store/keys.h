/* SPDX-License-Identifier: MIT */
/*
 * Keys of a tenant inside the store. The tenant's audit log says which there are; _keys/KEYID.json is a copy
 * of an SSH key that is not revoked, for receivers, who look whether it exists and no more.
 *
 * Stores of before the log have copies alone. Such a key counts as added when its file says, for SSH and all
 * groups; the first entry of the tenant's log that this release appends has them recorded before it.
 *
 * Locks: a group's before the log's.
 */
#ifndef SOSIE_STORE_KEYS_H
#define SOSIE_STORE_KEYS_H

#include "engine/store/audit.h"

/* What a signing key once was for: a group that an entry named. What the revocations told of it counts where
 * the key is not for the group any more: the newest point that it may have signed, and, where that could not
 * be read, the time up to which points were accepted. */
struct key_limit {
	struct sosie_name group;
	uint64_t until;
	int64_t until_ms; /* 0: the points were known each time */
};

/* limits never shrinks, ever_all never goes back: for what a key once was, a signature is needed for good. */
struct key_record {
	struct sosie_key key;     /* as it was added last */
	bool ever_all;            /* it was for all groups once */
	struct key_limit *limits; /* ascending by group */
	unsigned limit_count, limit_room;
};

/* One record for each key and use, in the order in which they were first added. */
struct key_fold {
	struct key_record *records;
	unsigned count, room;
	struct audit_stamp stamp; /* of the log when it was read */
};

/* --- key.c */
int key_parse(const char *line, size_t len, struct sosie_key_info *k, struct sosie_err *err);
bool key_ed25519(const struct sosie_key_info *k, uint8_t out[32]); /* false: another type, or damaged */

/* --- keys.c */
const char *key_use_name(enum sosie_key_use use);
/* What the log says; *out is the log's own and good until the next call. */
int keys_fold(struct sosie_store *store, struct audit_log *log, struct key_fold **out, struct sosie_err *err);
void keys_fold_free(struct key_fold *fold);
struct key_record *keys_find(const struct key_fold *fold, const char *id, enum sosie_key_use use);
bool keys_cover(const struct sosie_key *key, const char *group);
/* The key as it signs for the group; false: it is no signing key, or never was for it. Whoever needs to know
 * who may sign asks this. */
bool keys_signing(const struct key_record *r, const char *group, struct sosie_signing_key *out);
int keys_copy_path(const struct sosie_store *store, const char *tenant, const char *id, char dst[STORE_PATH],
                   struct sosie_err *err);
/* Copies without any entry, oldest first; malloc'd. */
int keys_found(struct sosie_store *store, const char *tenant, const struct key_fold *fold,
               struct sosie_key **out, unsigned *count, struct sosie_err *err);

/* --- keys_change.c */
/* Appends an entry for each of those. Under the log's lock. */
int keys_record_found(struct sosie_store *store, struct audit_log *log, struct sosie_err *err);
/* Removes copies of keys that are revoked: of a revocation that was interrupted. Cheap while the log is as it
 * was at the last time. A locked log is left for the next time: it may be that revocation's. */
int keys_mend(struct sosie_store *store, const char *tenant, struct sosie_err *err);

#endif

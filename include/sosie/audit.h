/* SPDX-License-Identifier: MIT */
/*
 * The audit log (docs/format.md, "Audit log"): what was decided at the standby besides points, as chained
 * entries that are only ever appended: one log for each tenant (STORE/TENANT/_audit), one for the store
 * itself (STORE/_audit). Points and epochs have their own chain in each group; reading both is the whole
 * history.
 *
 * The log is the truth about keys, pins and policies; other files that say the same are copies for those who
 * cannot read it (receivers), and made from it.
 *
 * Appending takes the log's lock (flock) for one write and one flush; any process that may write the store
 * can. Reading takes none.
 */
#ifndef SOSIE_AUDIT_H
#define SOSIE_AUDIT_H

#include "sosie/digest.h"
#include "sosie/json.h"
#include "sosie/store.h"

/* Kinds are never renamed or renumbered. Body members beyond "by", "uid" and "reason": see docs/format.md. */
#define SOSIE_AUDIT_KINDS(X)                                                                                 \
	X(SOSIE_AUDIT_COMMAND, 1, "command") /* an operator's command that changed something */              \
	X(SOSIE_AUDIT_TENANT, 2, "tenant")   /* a tenant was made, its quota set */                          \
	X(SOSIE_AUDIT_KEY_ADD, 3, "key-add")                                                                 \
	X(SOSIE_AUDIT_KEY_REVOKE, 4, "key-revoke")                                                           \
	X(SOSIE_AUDIT_POLICY, 5, "policy") /* set, or a change that waits was cancelled */                   \
	X(SOSIE_AUDIT_PIN, 6, "pin")                                                                         \
	X(SOSIE_AUDIT_UNPIN, 7, "unpin")                                                                     \
	X(SOSIE_AUDIT_PRUNE, 8, "prune")   /* before anything of the points goes */                          \
	X(SOSIE_AUDIT_REFUSE, 9, "refuse") /* a refused upload, or how many in a time */                     \
	X(SOSIE_AUDIT_CLOCK, 10, "clock")  /* a jump was found, or accepted */                               \
	X(SOSIE_AUDIT_ALARM, 11, "alarm")  /* raised, or closed */                                           \
	X(SOSIE_AUDIT_CUTOVER, 12, "cutover")

enum sosie_audit_kind {
#define SOSIE_X(id, number, name) id = (number),
	SOSIE_AUDIT_KINDS(SOSIE_X)
#undef SOSIE_X
};
const char *sosie_audit_name(enum sosie_audit_kind kind);

struct sosie_audit_entry {
	enum sosie_audit_kind kind;
	uint64_t number; /* 1, 2, 3 … in its log */
	int64_t time_ms; /* the standby's clock when it was appended */
	struct sosie_digest digest;
	const char *text; /* the body: JSON, NUL-terminated, borrowed until the call returns */
	size_t len;
};

/* Appends durably; body is freed whatever happens. tenant NULL: the store's own log. Adds "by" (the calling
 * user, and who it was before sudo) to the body. number of the entry in *number (may be NULL). */
int sosie_audit_append(struct sosie_store *store, const char *tenant, enum sosie_audit_kind kind,
                       struct sosie_json *body, uint64_t *number, struct sosie_err *err);
/* All entries in order; return non-zero to stop. A log that does not exist is empty. SOSIE_ECORRUPT: an entry
 * is damaged (what came before it was told). */
typedef int (*sosie_audit_fn)(void *arg, const struct sosie_audit_entry *entry);
int sosie_audit_each(struct sosie_store *store, const char *tenant, sosie_audit_fn fn, void *arg,
                     struct sosie_err *err);

/* --- the whole history: audit logs, and the acceptances and epochs in the chains of groups */
struct sosie_history {
	const char *tenant;             /* NULL: the store's own log */
	const char *group;              /* NULL: an audit log; else the chain of this group */
	const char *kind;               /* sosie_audit_name; of a chain: "acceptance", "epoch", "key" */
	struct sosie_audit_entry entry; /* of a chain kind is 0; number: its point; text: of a point its
	                                   acceptance, without the manifest; not NUL-terminated for sure */
};
typedef int (*sosie_history_fn)(void *arg, const struct sosie_history *entry);
/* In the order of their times, those from since_ms on, of one tenant; tenant NULL: of all, and the store's
 * own log. Return non-zero to stop. What cannot be read is passed over, and the first such place is the error
 * at the end: all else was told then. Holds the logs' entries since then, and the chains' indexes, in memory.
 */
int sosie_audit_history(struct sosie_store *store, const char *tenant, int64_t since_ms, sosie_history_fn fn,
                        void *arg, struct sosie_err *err);

/* --- keys, as the log says ----------------------------------------------------------------------------- */
#define SOSIE_KEYS_MAX 256u      /* of a tenant, revoked ones included */
#define SOSIE_KEY_GROUPS_MAX 64u /* that one key is for */
enum sosie_key_use { SOSIE_KEY_SSH = 1, SOSIE_KEY_SIGNING = 2 };
struct sosie_key {
	struct sosie_key_info info;
	enum sosie_key_use use;
	unsigned group_count; /* 0: all groups of the tenant */
	struct sosie_name groups[SOSIE_KEY_GROUPS_MAX];
	int64_t added_ms, revoked_ms; /* 0: not revoked */
};
/* One OpenSSH public key line; ssh-ed25519, ecdsa-sha2-*, ssh-rsa of at least 3072 bits; for signing
 * ssh-ed25519 only. group_count 0: for all groups of the tenant. The same key may be added for both uses.
 * Idempotent for the same key, use and groups; SOSIE_EEXISTS where it is registered for other groups. One
 * that was revoked is good again, from then on. */
int sosie_key_add(struct sosie_store *store, const char *tenant, const char *line, size_t len,
                  enum sosie_key_use use, const struct sosie_name *groups, unsigned group_count,
                  struct sosie_key_info *out, struct sosie_err *err);
/* In the order in which they were added first; *keys malloc'd, NULL when there is none. */
int sosie_keys(struct sosie_store *store, const char *tenant, struct sosie_key **keys, unsigned *count,
               struct sosie_err *err);
/* id: key id or "SHA256:…"; what it is used for is all revoked. From now on: a receiver refuses an SSH key at
 * its next step; of a signing key's points those that are accepted already stay good, no further one is.
 * Revoking twice is fine. reason may be NULL. SOSIE_EBUSY: a group that a signing key is for stayed locked
 * for a minute (one lock after the other is taken, and held until it is done): nothing is revoked then. */
int sosie_key_revoke(struct sosie_store *store, const char *tenant, const char *id, const char *reason,
                     struct sosie_err *err);

/* A signing key, for one group. */
struct sosie_signing_key {
	uint8_t key[32];  /* Ed25519, as struct sosie_public */
	uint64_t until;   /* the newest point of the group that it may have signed; UINT64_MAX: not revoked */
	int64_t until_ms; /* also points that were accepted by then: the revocation could not read which; or 0
	                   */
	char id[17];
};
/* The signing keys that are or were for this group; *keys malloc'd, NULL and 0 when there is none. */
int sosie_signing_keys(struct sosie_store *store, const char *tenant, const char *group,
                       struct sosie_signing_key **keys, unsigned *count, struct sosie_err *err);

#endif

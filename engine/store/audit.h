/* SPDX-License-Identifier: MIT */
/* What the writers of audit entries inside the store share (docs/format.md, "Audit log"). */
#ifndef SOSIE_STORE_AUDIT_H
#define SOSIE_STORE_AUDIT_H

#include "engine/store/chain.h"
#include "sosie/audit.h"

#define AUDIT_BODY_MAX (64u << 10)
#define AUDIT_TEXT_MAX 64u /* bytes of a user's name in an entry, NUL included */

/* What this process knows of a log between calls. The chain in it is only its end, and is believed as long as
 * the newest file is the one, and as long, as it was left. */
struct audit_log {
	struct audit_log *next;
	struct sosie_name tenant; /* empty: the store's own log */
	char dir[STORE_PATH];
	struct sosie_digest genesis;
	struct sosie_chain *chain; /* NULL: not known */
	uint64_t ino;              /* of the newest file */
	struct key_fold *keys;     /* keys.c: what the entries say of keys, or NULL */
	bool keys_mended;          /* copies of revoked keys were looked for since keys was read */
	int64_t refused_ms;        /* monotonic: the newest entry about refusals of the tenant, 0: none */
};

/* Where a log stands: its newest file, and how far that is whole. */
struct audit_stamp {
	uint32_t file; /* 0: there is none */
	uint64_t ino, size;
};

/* The log's memo, made when there is none. SOSIE_ENOTFOUND: there is no such tenant. */
int audit_log_get(struct sosie_store *store, const char *tenant, struct audit_log **out,
                  struct sosie_err *err);
/* The lock of the log; makes its folder. Closing *lock lets it go. SOSIE_EBUSY after wait_ms. */
#define AUDIT_WAIT_MS 10000
int audit_lock(struct sosie_store *store, struct audit_log *log, int64_t wait_ms, struct sosie_file **lock,
               struct sosie_err *err);
/* sosie_audit_append with a wait of one's own. */
int audit_append(struct sosie_store *store, struct audit_log *log, enum sosie_audit_kind kind,
                 struct sosie_json *body, int64_t wait_ms, uint64_t *number, struct sosie_err *err);
/* The same as sosie_audit_append, under the lock. */
int audit_append_locked(struct sosie_store *store, struct audit_log *log, enum sosie_audit_kind kind,
                        struct sosie_json *body, uint64_t *number, struct sosie_err *err);
/* Reads all entries, as sosie_audit_each does. *stamp: where the log stood then. */
int audit_read(struct sosie_store *store, const struct audit_log *log, chain_each_fn fn, void *arg,
               struct audit_stamp *stamp, struct sosie_err *err);
/* Where it stands now; size counts what is not whole too, so that it never equals a stamp of before then. */
int audit_stamp_now(struct sosie_store *store, const struct audit_log *log, struct audit_stamp *stamp,
                    struct sosie_err *err);
void audit_free_all(struct sosie_store *store);

#endif

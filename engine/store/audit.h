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
};

/* The log's memo, made when there is none. SOSIE_ENOTFOUND: there is no such tenant. */
int audit_log_get(struct sosie_store *store, const char *tenant, struct audit_log **out,
                  struct sosie_err *err);
/* The lock of the log; makes its folder. Closing *lock lets it go. */
int audit_lock(struct sosie_store *store, struct audit_log *log, struct sosie_file **lock,
               struct sosie_err *err);
/* The same as sosie_audit_append, under the lock. */
int audit_append_locked(struct sosie_store *store, struct audit_log *log, enum sosie_audit_kind kind,
                        struct sosie_json *body, uint64_t *number, struct sosie_err *err);
void audit_free_all(struct sosie_store *store);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * What a receiver may do at the standby: put uploads into one tenant's inbox and relay what the keeper left
 * in its outbox. Implemented by engine/inbox over the posix back end (no ring, no codec, no JSON); served to
 * the peer by transport/serve.c.
 *
 * Group names and upload ids come from the peer; both are checked types. Files are made as docs/format.md,
 * "Store" says. One thread.
 */
#ifndef SOSIE_INBOX_H
#define SOSIE_INBOX_H

#include "sosie/clock.h"
#include "sosie/io.h"
#include "sosie/names.h"
#include "sosie/segment.h"

struct sosie_inbox;
struct sosie_part_state;

/*
 * For a receiver, before it reads its peer's first byte (sosie/confine.h): from here on it can work in the
 * tenant's inbox, read its outbox and the store's sosie.json, and nothing else; descriptors above 2 are
 * closed. Where store or tenant are not usable it can open nothing, and sosie_inbox_open tells why. No way
 * back; on an error the caller ends without a word to the peer.
 */
int sosie_inbox_confine(const char *store, const char *tenant, struct sosie_err *err);

/* store: path of the store. key: the key id (16 hex digits) that authorized_keys names, recorded with uploads
 * as UPLOAD.key; checked to be registered at each open and at each later step, in the middle of a part too
 * (SOSIE_EAUTH when it is not there any more). */
int sosie_inbox_open(struct sosie_io *io, struct sosie_clock *clock, const char *store, const char *tenant,
                     const char *key, struct sosie_inbox **out, struct sosie_err *err);
void sosie_inbox_close(struct sosie_inbox *in);
/* The key is for these groups alone: all others are SOSIE_ENAME from now on. At most SOSIE_INBOX_GROUPS_MAX;
 * copied. */
#define SOSIE_INBOX_GROUPS_MAX 64u
void sosie_inbox_restrict(struct sosie_inbox *in, const struct sosie_name *groups, unsigned count);
void sosie_inbox_store_id(const struct sosie_inbox *in, struct sosie_store_id *out);
const struct sosie_name *sosie_inbox_tenant(const struct sosie_inbox *in);

/* True when a keeper has the notification FIFO open. */
bool sosie_inbox_keeper(struct sosie_inbox *in);
/* malloc'd text of the head statement, NULL when there is none. */
int sosie_inbox_head(struct sosie_inbox *in, const struct sosie_name *group, char **text, size_t *len,
                     struct sosie_err *err);
/* A new upload; makes the group's inbox folder when missing; removes the oldest idle uncommitted uploads
 * above the limit. */
int sosie_inbox_begin(struct sosie_inbox *in, const struct sosie_name *group, enum sosie_manifest_kind kind,
                      struct sosie_upload_id *out, struct sosie_err *err);
int sosie_inbox_join(struct sosie_inbox *in, const struct sosie_name *group, const struct sosie_upload_id *id,
                     bool *committed, struct sosie_part_state **parts, uint32_t *count,
                     struct sosie_err *err);
/* One part open at a time. Index below SOSIE_PARTS_MAX, SOSIE_EEXISTS when it is there; quota and disk full
 * as SOSIE_EQUOTA, SOSIE_ENOSPACE. */
int sosie_inbox_part(struct sosie_inbox *in, const struct sosie_name *group, const struct sosie_upload_id *id,
                     uint32_t index, struct sosie_err *err);
int sosie_inbox_data(struct sosie_inbox *in, const void *data, size_t len, struct sosie_err *err);
void sosie_inbox_written(const struct sosie_inbox *in, uint64_t *written, uint64_t *durable);
int sosie_inbox_sync(struct sosie_inbox *in, struct sosie_err *err); /* what was written is durable then */
int sosie_inbox_part_end(struct sosie_inbox *in, struct sosie_err *err); /* sync, close */
/* Durable when it returns; pokes the keeper. */
int sosie_inbox_commit(struct sosie_inbox *in, const struct sosie_name *group,
                       const struct sosie_upload_id *id, const void *manifest, size_t len,
                       struct sosie_err *err);
/* The verdict if it is there, else NULL. */
int sosie_inbox_verdict(struct sosie_inbox *in, const struct sosie_name *group,
                        const struct sosie_upload_id *id, char **text, size_t *len, struct sosie_err *err);
/* Up to size bytes of the differs file from offset. */
int sosie_inbox_differs(struct sosie_inbox *in, const struct sosie_name *group,
                        const struct sosie_upload_id *id, uint64_t offset, void *buf, size_t size,
                        size_t *got, uint64_t *total, struct sosie_err *err);
int sosie_inbox_same(struct sosie_inbox *in, const void *text, size_t len, struct sosie_err *err);

#endif

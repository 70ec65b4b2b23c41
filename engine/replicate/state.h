/* SPDX-License-Identifier: MIT */
/*
 * The source's state of one group, in a folder:
 *   lock             flock; pid inside
 *   state.json       durable, replaced whole: what was accepted, the volumes' identities, the pending upload
 *   state.now        the same, newer, never flushed: holds within the boot that it names, when its serial is
 *                    the higher one
 *   NAME.tree        digests of what the standby has accepted of volume NAME; the UNKNOWN digest: not known,
 *                    send it. Fsynced now and then only
 *   NAME.layer       over it: digests of what is being sent
 *   redo.log         what was sent in which part, and all changes of the trees since they were fsynced
 *                    (journal.h)
 *   pending.manifest the manifest of the pending upload, from just before commit on
 *   NAME.signatures  signatures.h
 *
 * Invariants:
 *   - The digest of a leaf seen through tree and layer is that of the standby's content once all valid
 *     records of the pending upload are applied, or UNKNOWN. A layer, or entries behind redo.bytes, without a
 *     pending upload in the state mean nothing.
 *   - Trees as last fsynced, plus redo.log from redo.from to redo.bytes, plus the entries of a committed
 *     upload that was accepted, are what the standby has: for state.json as for state.now. So state.json may
 *     be behind by "accepted": after a power cut it shows the upload as committed, and the head tells.
 *   - redo.log up to redo.bytes, and to the end of a committed logged upload, is durable before state.json
 *     says so. Nothing before the end that state.json names is cut off or overwritten.
 */
#ifndef ENGINE_REPLICATE_STATE_H
#define ENGINE_REPLICATE_STATE_H

#include "sosie/io.h"
#include "sosie/segment.h"
#include "sosie/source.h"

#define STATE_PATH_MAX 4096

struct state_volume {
	struct sosie_name name;
	struct sosie_identity identity; /* size: of the view that was sent */
	char path[4096];
};

struct state_volumes {
	struct state_volume *v; /* owned */
	unsigned count;
};

/* When, and how well, a cut was made. boot empty: not known (state of an older release). */
struct state_cut {
	int64_t wall_ms;         /* this machine's clock */
	int64_t standby_at_ms;   /* the standby's clock in its last message before */
	int64_t standby_plus_ms; /* from that message to the cut, by our monotonic clock */
	int64_t boot_ms;         /* CLOCK_BOOTTIME */
	char boot[40];           /* of the boot that it counts from */
	bool labelled;           /* consistency has been told */
	enum sosie_consistency consistency;
};

struct state_pending {
	bool present;
	struct sosie_view_id view; /* what is sent is read from; empty: from no view that is kept */
	struct state_cut cut;
	struct sosie_upload_id upload;
	struct sosie_digest base; /* head digest that it builds on */
	uint64_t epoch;
	bool committed;   /* commit may have been sent */
	bool logged;      /* redo.log has all that the layers have; else these are durable once committed */
	uint64_t log_end; /* committed, logged: where its entries end; they begin at redo.bytes */
	struct sosie_digest manifest;
	struct sosie_digest attachments;
	char boot[40]; /* boot id of the machine when the upload was begun or last gone on with */
	struct state_volumes volumes; /* in the order of the upload */
};

/* Of redo.log (journal.h). */
struct state_redo {
	char boot[40]; /* since which boot the trees are ahead of their last fsync; empty: they are not */
	uint64_t from, bytes; /* changes that the trees' last fsync does not cover: begin, end */
};

struct state {
	bool saved;            /* state.json is there and is this state's, or one before it */
	uint64_t serial;       /* of the newest save */
	uint64_t durable_from; /* redo.from in state.json, as far as known */
	struct state_redo redo;
	bool exists; /* false: tracking is lost, or this is the first run */
	struct sosie_store_id store;
	uint64_t epoch, point;
	struct sosie_digest digest, manifest;
	struct sosie_digest attachments; /* of the accepted point: attach.c */
	bool doubted; /* the standby refused roots made of these trees: digests are compared before more is
	                 sent */
	struct sosie_view_id view; /* holds what was accepted, and the trees say the same; empty: none */
	struct state_cut cut;      /* of the accepted point */
	struct state_volumes volumes;
	struct state_pending pending;
};

struct state_dir {
	struct sosie_io *io; /* posix unless a test gave one; everything in the folder goes through it */
	bool given;          /* a test did: there is no second instance for another thread */
	char boot[40];       /* this boot's id; empty: not known, then every save is durable */
	char path[STATE_PATH_MAX];
	const char *tenant, *group, *standby;
	struct sosie_file *lock;
	uint64_t dev, ino; /* of the lock: tells whether the folder is still the one that was opened */
	size_t made_from;  /* bytes of the path of the first folder that was made here; 0: none was */
};

/* Makes the folder, takes the lock: SOSIE_EBUSY names the holder. */
int state_dir_open(struct state_dir *d, struct sosie_err *err);
/* A folder that was made by the opening and holds nothing but the lock is taken away again. */
void state_dir_close(struct state_dir *d);
/* The folder was removed or replaced since it was opened. */
bool state_dir_gone(const struct state_dir *d);
/* dst holds STATE_PATH_MAX + 80. */
#define STATE_FILE_MAX (STATE_PATH_MAX + 80)
void state_file(const struct state_dir *d, char dst[STATE_FILE_MAX], const char *name, const char *ending);

int state_load(const struct state_dir *d, struct state *s, struct sosie_err *err);
/* durable: state.json is replaced, for sure also after a power cut. Else state.now is written and nothing
 * flushed: a power cut brings back state.json, a kill of the process does not. */
int state_save(const struct state_dir *d, struct state *s, bool durable, struct sosie_err *err);
/* PATH gets that content, whole or not at all after a kill. flushed: after a power cut too, whichever it is.
 */
int state_put(const struct state_dir *d, const char *path, const void *data, size_t len, bool flushed,
              struct sosie_err *err);
/* Nothing is known any more: state.json goes first. */
int state_forget(const struct state_dir *d, struct state *s, struct sosie_err *err);
void state_fini(struct state *s);
/* Removes layers and manifest of an upload that is not pending any more. */
int state_clean(const struct state_dir *d, struct sosie_err *err);
/* Removes the manifest only. */
int state_clean_upload(const struct state_dir *d, struct sosie_err *err);

const struct state_volume *state_volumes_find(const struct state_volumes *list, const char *name);
void state_boot_id(char dst[40]);
int64_t state_boot_ms(void); /* CLOCK_BOOTTIME */

#endif

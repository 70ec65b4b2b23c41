/* SPDX-License-Identifier: MIT */
/*
 * What a pass, its workers and their senders share (internal.h has what the rest of the cycle calls).
 *
 * A pass hands out *pieces*, whole leaves of one volume, in batches. A chunk's pieces all go into one batch,
 * so into one worker: its leaves are digested against one block of the tree, and no other part of the upload
 * changes the chunk meanwhile, which is what a delta needs.
 */
#ifndef ENGINE_REPLICATE_PASS_H
#define ENGINE_REPLICATE_PASS_H

#include "engine/replicate/internal.h"

#define BATCH_FULL 256u /* pieces after which only the chunk begun is ended */
#define BATCH_PIECES (BATCH_FULL + SOSIE_FANOUT)
#define BATCH_BYTES ((uint64_t)4 << 20) /* of data: a dense extent is cut at multiples of this */

struct piece {
	bool data;           /* to be read; else a hole */
	uint64_t start, end; /* bytes, on leaves; end may be the volume's */
};

struct batch {
	enum { BATCH_END, BATCH_SWITCH, BATCH_WORK } kind; /* SWITCH: open `volume` and ask again */
	unsigned volume;
	unsigned count;
	uint64_t bytes; /* of data */
	struct piece pieces[BATCH_PIECES];
};

struct worker;
struct seat {
	struct pass *pass;
	unsigned number;
	pthread_t thread;
	bool started;
};

struct pass {
	struct sosie_replicator *r;
	struct sosie_view *view;
	enum pass_mode mode;
	pthread_mutex_t lock; /* pass.lock of internal.h */
	unsigned volume;      /* cursor: extent `at` of this volume has been handed out up to covered */
	struct sosie_extent at;
	uint64_t covered; /* bytes of the volume handed out, rounded to leaves */
	uint64_t total;   /* bytes to read as far as is known; atomic */
	uint64_t done;    /* bytes read; under r->lock */
	bool failed;
	int rc; /* of the first that failed */
	struct sosie_err err;
	bool helped; /* the other seats were started */
	struct seat seats[STREAMS_MAX];
};

/* The cursor at the first volume. pass_run does it; tests do by themselves. */
void pass_init(struct pass *p, struct sosie_replicator *r, struct sosie_view *view, enum pass_mode mode);
void pass_fini(struct pass *p);
/* file: of `volume`, open (NULL: none). */
int pass_take(struct pass *p, struct sosie_io *io, struct sosie_file *file, unsigned volume,
              struct batch *out, struct sosie_err *err);

/* worker.c: reads. */
int worker_new(struct pass *p, unsigned number, struct worker **out, struct sosie_err *err);
int worker_run(struct worker *w, struct sosie_err *err);
/* Ends the part. Attachments follow in one of their own, once it is known that a point is made (commit.c). */
int worker_finish(struct worker *w, struct sosie_err *err);
void worker_free(struct worker *w);

/* --- leaves.c: a chunk of which some leaves were read
 * ------------------------------------------------------------------------------------- */
struct chunk_leaves {
	unsigned volume;
	uint64_t chunk;
	unsigned count;                          /* leaves of the chunk inside the volume */
	unsigned read;                           /* of these were read */
	unsigned data, zero;                     /* of these differ from the tree, with and without content */
	struct sosie_digest old[SOSIE_FANOUT];   /* as the tree has them */
	struct sosie_digest fresh[SOSIE_FANOUT]; /* of what was read */
	const uint8_t *bytes[SOSIE_FANOUT];      /* of what was read, else NULL */
	bool changed[SOSIE_FANOUT];
};
size_t leaf_bytes(const struct volume *v, uint64_t leaf);
int leaves_load(struct sosie_replicator *r, unsigned volume, uint64_t chunk, struct chunk_leaves *out,
                struct sosie_err *err);
/* len bytes from byte start of the volume on, all inside the chunk. */
void leaves_add(struct sosie_replicator *r, struct chunk_leaves *c, struct sosie_hash *hash, uint64_t start,
                uint64_t len, const uint8_t *bytes);
/* file: the volume's, of the io that the sender reads with. */
int leaves_send(struct sosie_replicator *r, const struct chunk_leaves *c, struct sender *s,
                struct sosie_file *file, struct sosie_err *err);

/* --- sender.c
 * ----------------------------------------------------------------------------------------------- */
/* What it reads old content with; borrowed, and used by it alone while it is inside a call. */
void sender_reads_with(struct sender *s, struct sosie_io *io);
/* A leaf with content; old: its digest in the tree. A patch where the content of before can be read and is
 * that. Leaves come ascending by (volume, leaf). */
int sender_leaf(struct sender *s, unsigned volume, uint64_t leaf, const struct sosie_digest *digest,
                const struct sosie_digest *old, const void *bytes, size_t len, struct sosie_err *err);
int sender_zero(struct sender *s, enum sosie_record_kind kind, unsigned volume, uint64_t leaf,
                struct sosie_err *err);
/* The chunk's changed leaves with content as a delta, if there is a signature of what the standby has. */
int sender_delta(struct sender *s, const struct chunk_leaves *c, bool *sent, struct sosie_err *err);
/* Keeps a signature of the chunk as it is now. */
int sender_sign(struct sender *s, const struct chunk_leaves *c, struct sosie_file *file,
                struct sosie_err *err);
int sender_flush(struct sender *s, struct sosie_err *err);

/* --- old.c: the content of before, from the base view. One a sender.
 * ------------------------------------------------------------------------------ */
struct old;
int old_new(struct sosie_replicator *r, struct sosie_io *io, struct old **out, struct sosie_err *err);
void old_free(struct old *o);
/* The content of ranges of one volume, whole leaves one after the other, zeros past the end that the volume
 * had; *bytes is good until the next call. NULL when it cannot be read, or is not what the digests say. */
int old_fetch(struct old *o, const struct sosie_range *ranges, unsigned count,
              const struct sosie_digest *digests, const void **bytes, struct sosie_err *err);

/* --- chunk_delta.c: signatures and deltas of one chunk, for a source without views. One a sender.
 * ------------------------------------------------------------ */
struct chunk_delta;
int chunk_delta_new(struct sosie_replicator *r, unsigned worker, struct chunk_delta **out,
                    struct sosie_err *err);
void chunk_delta_free(struct chunk_delta *d);
/* Does this volume take part? Only where no view of before can be kept. */
bool chunk_delta_serves(const struct sosie_replicator *r, const struct chunk_leaves *c);
/* The signature of what the standby has of the chunk, for a make that follows at once. */
int chunk_delta_find(struct chunk_delta *d, const struct chunk_leaves *c, bool *found, struct sosie_err *err);
/* *len 0: none. *delta is good until the next call. */
int chunk_delta_make(struct chunk_delta *d, const void *plain, size_t plain_len, const void **delta,
                     size_t *len, struct sosie_err *err);
int chunk_delta_sign(struct chunk_delta *d, const struct chunk_leaves *c, struct sosie_io *io,
                     struct sosie_file *file, struct sosie_err *err);

#endif

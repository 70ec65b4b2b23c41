/* SPDX-License-Identifier: MIT */
/* What the files of verify share. Damage is told and counted, and checking goes on; only what makes checking
 * impossible is an error. */
#ifndef SOSIE_STORE_VERIFY_H
#define SOSIE_STORE_VERIFY_H

#include "engine/store/pruned.h"
#include "sosie/audit.h"

/* Who must have signed. From the first signed entry of the chain on all must be: what was signed once does
 * not go back to being unsigned. */
struct verify_keys {
	struct sosie_signing_key *own;        /* malloc'd, from the audit log; NULL: the caller gave keys */
	const struct sosie_signing_key *keys; /* of sources */
	unsigned count;
	const struct sosie_public *standby; /* NULL: the store has no key */
	bool strict;                        /* keys were given: everything must be signed */
	bool unknown; /* the audit log cannot be read, which is told elsewhere: any source's key will do */
	bool source_seen, standby_seen; /* a signed one was met */
};

struct verify {
	struct sosie_group *g;
	struct sosie_io *io;
	struct sosie_verify *v;
	struct sosie_digest group_ctx;
	struct pruned gone;      /* as of the last look */
	uint8_t *ring, *scratch; /* for part_stream; ring is STREAM_BLOCKS * STORE_BLOCK, aligned to 4096 */
	uint8_t *chunk;          /* SOSIE_CHUNK, aligned to 4096 */
	struct verify_keys keys;
};

/* Tells one damaged place. */
void verify_damage(struct verify *w, const char *where, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));
/* What a failed call means: damage of the place, told (returns 0), or something that ends the checking
 * (returns rc). */
int verify_failure(struct verify *w, int rc, const char *where, const struct sosie_err *failure,
                   struct sosie_err *err);

/* verify_signatures.c */
int verify_keys_get(struct verify *w, struct sosie_err *err);
void verify_keys_free(struct verify *w);
/* The signature of the manifest of e, a point: SOSIE_EAUTH says what is wrong with it. */
int verify_source(struct verify *w, const struct chain_entry *e, const void *manifest, uint32_t len,
                  struct sosie_err *err);
/* That of an acceptance or epoch. */
int verify_standby(struct verify *w, const void *text, uint32_t len, struct sosie_err *err);

/* Was the point let go, also since the last look? */
bool verify_pruned(struct verify *w, uint64_t point);
/* All part files of a point against its manifest. */
int verify_parts(struct verify *w, uint64_t point, const struct sosie_manifest *m, struct sosie_err *err);
/* The tenant's audit log, and the store's. */
int verify_audit(struct verify *w, struct sosie_err *err);
/* Images and trees in dir against the manifest: sizes, trees in themselves, roots, and with v->full every
 * byte. still (may be NULL) is asked before damage is told: false ends the check silently, because the folder
 * was changed meanwhile by its owner. */
int verify_images(struct verify *w, const char *dir, const struct sosie_manifest *m, bool (*still)(void *arg),
                  void *arg, struct sosie_err *err);

#endif

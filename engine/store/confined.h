/* SPDX-License-Identifier: MIT */
/*
 * What peers' bytes steer is read in disposable children (sosie/child.h): payloads are unpacked there, JSON
 * is parsed there. What comes back is of fixed size, is copied, and is judged anew here: content by its
 * digests, a manifest by its checks and by being written again, byte for byte. So a child that its bytes have
 * taken over can refuse its own tenant's upload, and nothing else; no text of its making goes anywhere.
 *
 * Whose fault an end is: a child that ends by itself, computes too long, twice says nothing, or answers
 * nonsense, has met bytes that no honest source sends: SOSIE_ECORRUPT. One that cannot be started, or is
 * killed from outside three times in a row, is ours: SOSIE_ENOMEM, to be tried again later. Memory that runs
 * out inside is the bytes' doing unless this process cannot have that much either.
 *
 * Many slow answers are as bad as one: time beyond an allowance for each question adds up, and above a limit
 * the bytes are refused too. So no source keeps the keeper for hours by records of seconds.
 *
 * A child has bytes of one tenant only. Idle ones are kept for their tenant (CONFINED_IDLE of them,
 * CONFINED_REST_MS): a start costs milliseconds, a question microseconds.
 *
 * A home, and getting and putting, belong to one thread, which must live as long as the children are to; a
 * child that was got belongs to one thread at a time.
 */
#ifndef SOSIE_STORE_CONFINED_H
#define SOSIE_STORE_CONFINED_H

#include "engine/delta/manifest.h"
#include "engine/delta/unpack.h"
#include "engine/store/same_message.h"
#include "sosie/child.h"

#define CONFINED_IDLE 32u      /* children kept */
#define CONFINED_REST_MS 60000 /* how long an idle one is kept */
#define CONFINED_IN (1u << 20) /* bytes of a question: a payload, or a text */

/* What parent and child share; for tests whose child lies. */
struct confined_area {
	uint8_t in[CONFINED_IN];
	uint8_t basis[SOSIE_RECORD_PLAIN_MAX];
	union {
		uint8_t plain[SOSIE_RECORD_PLAIN_MAX];
		struct manifest_summary manifest;
		struct same_summary same;
	} out;
};
enum confined_op { CONFINED_UNPACK = 1, CONFINED_MANIFEST, CONFINED_SAME };
/* Words of a question; the answer's only one is an enum sosie_code. */
enum confined_word {
	CONFINED_WORD_OP,
	CONFINED_WORD_LEN, /* bytes in the area's in */
	CONFINED_WORD_KIND,
	CONFINED_WORD_ENCODING,
	CONFINED_WORD_BASIS_LEN,
	CONFINED_WORD_PLAIN_LEN,
	CONFINED_WORD_CODE = 0,
};
/* The child of this file. Tests put one of their own, with the same area, in its place. */
struct confined_kind {
	struct sosie_child_kind child;
	/* How much more than the allowance of each question all those of a child may take: processor time,
	 * and time that the keeper waits. */
	int64_t cpu_debt_ns, wait_debt_ms;
};
extern const struct confined_kind confined_kind;

struct confined_home;
/* kind is borrowed. */
int confined_home_new(const struct confined_kind *kind, struct confined_home **out, struct sosie_err *err);
void confined_home_free(struct confined_home *home); /* ends all that are idle; NULL is fine */
/* Ends those that were not used for CONFINED_REST_MS. now_ms: monotonic. */
void confined_home_rest(struct confined_home *home, int64_t now_ms);
unsigned confined_home_idle(const struct confined_home *home); /* how many are kept */

struct confined;
/* An idle child of the tenant, or the object for a new one, which starts when it is first needed. Goes back
 * by confined_put. */
int confined_get(struct confined_home *home, const char *tenant, struct confined **out,
                 struct sosie_err *err);
/* now_ms: monotonic. NULL is fine. */
void confined_put(struct confined_home *home, struct confined *c, int64_t now_ms);
/* Forks it now, if need be, without waiting for it. What fails here fails when it is used. */
void confined_start(struct confined *c);
/* Before the thread that started it ends, if that was not the home's. */
void confined_end(struct confined *c);
/* Processor time of it and of those before it that ended, ns. */
int64_t confined_cpu_ns(const struct confined *c);
pid_t confined_pid(const struct confined *c);        /* 0: none runs */
uint64_t confined_started(const struct confined *c); /* children so far */

/* As unpacker_run: plain gets p->plain_len bytes, of which nothing is known; only a failure of our own is no
 * SOSIE_ECORRUPT. */
int confined_unpack(struct confined *c, const struct packed *p, void *plain, struct sosie_err *err);
/* A manifest that was parsed in the child and is proven by its own text (engine/delta/manifest.h). */
int confined_manifest(struct confined *c, const void *text, size_t len, struct sosie_manifest *out,
                      struct sosie_err *err);
/* A "same" message, judged. Free *out's entries. */
int confined_same(struct confined *c, const void *text, size_t len, struct same_said *out,
                  struct sosie_err *err);

#endif

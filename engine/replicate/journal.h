/* SPDX-License-Identifier: MIT */
/*
 * redo.log: what was sent where and what it made of the trees, appended before it is sent (docs/format.md,
 * "The source's state"). One file holds, one behind the other,
 *   - [from, accepted): accepted uploads: all changes of the base trees since those were last fsynced
 *   - [accepted, end): the pending upload
 * and state.json says where these begin. Offsets only grow until the bases are synced with no upload pending.
 *
 * An entry is written for each chunk (256 leaves) that a record touches:
 *   - 0 u32 length of the entry
 *   - 4 u32 part
 *   - 8 u16 volume (its place in the upload; 65535: none)
 *   - 10 u16 facts
 *   - 12 u32 chunk
 *   - 16 u64 offset in the part behind the record
 *   - 24 32 bytes part chain after the record
 *   - 56 u64 check
 *   - 64 u64 sum
 *   - 72 leaves, then digests
 * facts: kind (1 data, 2 zero, 3 discard, 6 attachment, 7 a whole chunk as it is in the layer) in bits 13-15,
 * bit 12 "the volume's last leaf is among them", bit 9 "leaves and digests follow", below that the number of
 * leaves. check: over the chunk's 256 digests as the layer holds them after this record: tells after a kill
 * whether the layer has them. sum: over the rest of the entry. leaves: up to 32 of them: a byte each, else a
 * bitmap of 32 bytes; ascending. digests: of these leaves, for kinds 1 and 7; the other kinds make them zero.
 *
 * Invariants: replaying the entries of an upload in order gives every leaf of its layer; entries of an upload
 * that was begun to be logged and became too large carry no leaves (state_pending.logged is false then, and
 * the layers are fsynced instead). fsynced before commit; a kill loses nothing of it.
 */
#ifndef ENGINE_REPLICATE_JOURNAL_H
#define ENGINE_REPLICATE_JOURNAL_H

#include "sosie/io.h"
#include "sosie/segment.h"

#define JOURNAL_ATTACHMENT UINT16_MAX
#define JOURNAL_CHUNK ((enum sosie_record_kind)7) /* what a resume made of a chunk */
#define JOURNAL_UPLOAD_MAX ((uint64_t)64 << 20)   /* bytes of one upload with digests; larger: without */

struct journal_entry {
	uint32_t part;
	uint16_t volume;
	enum sosie_record_kind kind;
	bool last_leaf;
	bool logged; /* leaves and digests are in it */
	unsigned leaves;
	uint64_t chunk, end;
	struct sosie_digest chain;
	uint64_t check;
	uint8_t map[SOSIE_FANOUT / 8]; /* bit i of byte i / 8: leaf i is among them; if logged */
};

struct journal {
	struct sosie_io *io;
	struct sosie_file *file; /* NULL: closed */
	uint64_t start, size;    /* of the upload; of the file */
};

/* Opens it for an upload whose entries begin at `start`. fresh: what lies behind that goes, and start is
 * reduced to what is there. */
int journal_open(struct journal *j, struct sosie_io *io, const char *path, uint64_t start, bool fresh,
                 struct sosie_err *err);
void journal_close(struct journal *j);
/* block: the chunk's digests after the record; NULL where e is not logged. */
int journal_append(struct journal *j, const struct journal_entry *e,
                   const struct sosie_digest block[SOSIE_FANOUT], struct sosie_err *err);
int journal_flush(struct journal *j, struct sosie_err *err);
/* Entries of [from, to) in order, digests one for each leaf (NULL: zeros, or not logged); stops at the first
 * that is torn, and when fn returns non-zero, which it returns. *end (may be NULL): behind the last one told.
 */
typedef int (*journal_fn)(void *arg, const struct journal_entry *e, const struct sosie_digest *digests);
int journal_each(struct journal *j, uint64_t from, uint64_t to, journal_fn fn, void *arg, uint64_t *end,
                 struct sosie_err *err);
static inline bool journal_has(const struct journal_entry *e, unsigned leaf)
{
	return e->map[leaf / 8] >> (leaf % 8) & 1;
}
/* Bytes of the entry's leaves in a volume of that size. */
uint64_t journal_bytes(const struct journal_entry *e, uint64_t volume_size);
uint64_t journal_check(const struct sosie_digest block[SOSIE_FANOUT]);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * pending.log: what was sent where, appended before it is sent: 64 bytes for each chunk (256 leaves) that a
 * record touches. 0 u32 part   4 u16 volume (its place in the upload; 65535: an attachment record)   6 u16
 * facts   8 u64 chunk 16 u64 offset in the part behind the record   24 32 bytes part chain after the record
 * 56 u64 check facts: kind (1 data, 2 zero, 3 discard, 6 attachment) in bits 13-15, "the volume's last leaf
 * is among them" in bit 12, number of leaves below. check: over the chunk's 256 digests as the layer holds
 * them after this record: tells after a crash whether the layer has them. Not fsynced for each record: a kill
 * loses nothing of it, and after a restart of the machine it is not used.
 */
#ifndef ENGINE_REPLICATE_JOURNAL_H
#define ENGINE_REPLICATE_JOURNAL_H

#include "sosie/io.h"
#include "sosie/segment.h"

#define JOURNAL_ATTACHMENT UINT16_MAX
#define JOURNAL_ENTRY 64u

struct journal_entry {
	uint32_t part;
	uint16_t volume;
	enum sosie_record_kind kind;
	bool last_leaf;
	unsigned leaves;
	uint64_t chunk, end;
	struct sosie_digest chain;
	uint64_t check;
};

struct journal {
	struct sosie_io *io;
	struct sosie_file *file; /* NULL: closed */
	uint64_t size;
};

int journal_open(struct journal *j, struct sosie_io *io, const char *path, bool fresh, struct sosie_err *err);
void journal_close(struct journal *j);
int journal_append(struct journal *j, const struct journal_entry *e, struct sosie_err *err);
/* Entries in order; stops at the first that is torn, and when fn returns non-zero, which it returns. */
typedef int (*journal_fn)(void *arg, const struct journal_entry *e);
int journal_each(struct journal *j, journal_fn fn, void *arg, struct sosie_err *err);
/* Bytes of the entry's leaves in a volume of that size. */
uint64_t journal_bytes(const struct journal_entry *e, uint64_t volume_size);
uint64_t journal_check(const struct sosie_digest block[SOSIE_FANOUT]);

#endif

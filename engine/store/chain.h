/* SPDX-License-Identifier: MIT */
/* The chain in memory, shared by chain.c (asking, appending) and chain_scan.c (reading at open). */
#ifndef SOSIE_STORE_CHAIN_H
#define SOSIE_STORE_CHAIN_H

#include "engine/store/core.h"

#define CHAIN_HEADER 64u
#define CHAIN_TAIL SOSIE_DIGEST_LEN
#define CHAIN_BODY_MAX (2u << 20)
#define CHAIN_ENTRY_MAX (CHAIN_HEADER + CHAIN_BODY_MAX + CHAIN_TAIL)
#define CHAIN_ROTATE (64ull << 20)

/* Entries are in order; each has the digest of the one before. All but the newest file are never written
 * again. */
struct sosie_chain {
	struct sosie_io *io;
	struct sosie_clock *clock;
	struct sosie_hash *hash;
	char dir[STORE_PATH];
	struct sosie_digest genesis, head;
	struct chain_entry *entries;
	uint64_t count, room;
	uint32_t newest_file; /* 0: no file yet */
	uint64_t newest_size; /* of it, as far as it is whole */
	uint64_t newest_point, epoch;
	bool broken; /* an append failed and could not be undone: open anew */
};

int chain_file_path(const struct sosie_chain *c, uint32_t file, char dst[STORE_PATH], struct sosie_err *err);
/* Room for one more; takes the entry into account. */
int chain_take(struct sosie_chain *c, const struct chain_entry *e, struct sosie_err *err);
void chain_entry_digest(struct sosie_hash *h, const struct chain_entry *e, const void *body,
                        struct sosie_digest *out);
void chain_put_header(uint8_t dst[CHAIN_HEADER], const struct chain_entry *e);
/* False: not a header that could be one. */
bool chain_get_header(const uint8_t src[CHAIN_HEADER], struct chain_entry *e);
int chain_scan(struct sosie_chain *c, bool repair, struct sosie_err *err);

#endif

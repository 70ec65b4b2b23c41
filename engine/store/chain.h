/* SPDX-License-Identifier: MIT */
/*
 * Chained files, shared by chain.c (asking, appending), chain_scan.c (reading) and audit.c: the chain of a
 * group and the audit logs have the same bytes, and differ in what struct chain_format says.
 */
#ifndef SOSIE_STORE_CHAIN_H
#define SOSIE_STORE_CHAIN_H

#include "engine/store/core.h"

#define CHAIN_HEADER 64u
#define CHAIN_TAIL SOSIE_DIGEST_LEN
#define CHAIN_BODY_MAX (2u << 20)
#define CHAIN_ROTATE (64ull << 20)

struct chain_format {
	const char *magic;  /* 4 bytes, of each entry */
	const char *suffix; /* of the files' names */
	const char *name;   /* in messages: "chain" */
	unsigned kinds;     /* kinds are 1 to this */
	uint32_t body_max;
	bool counted; /* every entry has the next number; else it is that of points, which the others repeat
	               */
	bool kept;    /* chain->entries holds all of them */
};
extern const struct chain_format chain_of_group;

/* Given for each entry whose digest was compared with its body; non-zero stops. */
typedef int (*chain_each_fn)(void *arg, const struct chain_entry *e, const void *body);

/* Which file it was that was read. Whatever takes its place is another one, or shorter. */
struct chain_mark {
	uint64_t dev, ino;
	uint64_t size; /* of all but the newest, which are never written again */
};

/* Entries are in order; each has the digest of the one before. All but the newest file are never written
 * again. */
struct sosie_chain {
	struct sosie_io *io;
	struct sosie_clock *clock;
	struct sosie_hash *hash;
	const struct chain_format *format;
	char dir[STORE_PATH];
	struct sosie_digest genesis, head, end; /* end: of the last entry, whatever its kind */
	bool adrift;                            /* end is not known: the next entry is taken at its word */
	struct chain_entry *entries;            /* NULL unless the format keeps them */
	uint64_t count, room;
	uint32_t newest_file;         /* 0: no file yet */
	uint64_t newest_size;         /* of it, as far as it is whole */
	uint64_t newest_point, epoch; /* newest_point: the newest number, where all are counted */
	bool broken;                  /* an append failed and could not be undone: open anew */
	bool carried;                 /* of an earlier opening: only what came since was read now */
	struct chain_mark *marks;     /* of files 1 to mark_count, where entries are kept */
	uint32_t mark_count, mark_room;
};

/* Empty, nothing read. The chain is closed with chain_close. */
int chain_new(struct sosie_io *io, struct sosie_clock *clock, const char *dir,
              const struct sosie_digest *genesis, const struct chain_format *format, struct sosie_chain **out,
              struct sosie_err *err);
int chain_file_path(const struct sosie_chain *c, uint32_t file, char dst[STORE_PATH], struct sosie_err *err);
/* The number that an entry of this kind must have to come next. */
uint64_t chain_next_number(const struct sosie_chain *c, unsigned kind);
/* Takes the entry into account; where entries are kept, with room for it. */
int chain_take(struct sosie_chain *c, const struct chain_entry *e, struct sosie_err *err);
void chain_entry_digest(struct sosie_hash *h, const struct chain_entry *e, const void *body,
                        struct sosie_digest *out);
void chain_put_header(const struct chain_format *format, uint8_t dst[CHAIN_HEADER],
                      const struct chain_entry *e);
/* False: not a header that could be one. */
bool chain_get_header(const struct chain_format *format, const uint8_t src[CHAIN_HEADER],
                      struct chain_entry *e);
/* Reads all headers, each file, into an empty chain. */
int chain_scan(struct sosie_chain *c, bool repair, struct sosie_err *err);
/* Only as many files, from the newest back, as it takes to find the end: nothing is known of entries before
 * them, not even whether these files follow on them. */
int chain_scan_end(struct sosie_chain *c, bool repair, struct sosie_err *err);
/* As chain_scan without repair, and every body too. Returns what fn returned when it stopped. */
int chain_scan_each(struct sosie_chain *c, chain_each_fn fn, void *arg, struct sosie_err *err);
/* Goes on where the chain, of which all is known, ended before: what was read then is taken to be there still
 * when each file is the one that was read, none is shorter, and the last entry's digest stands in its place.
 * SOSIE_ECORRUPT or SOSIE_ENOTFOUND: it is not so, or what follows does not fit; the chain must be scanned
 * anew, and this one closed. */
int chain_scan_more(struct sosie_chain *c, bool repair, struct sosie_err *err);
/* Remembers which file the next one (after mark_count) is; files that are not marked are read anew. To be
 * called while newest_size is still of the one before. */
void chain_mark(struct sosie_chain *c, uint32_t file, const struct sosie_stat *st);
/* Number of the newest file in the folder, 0: none. */
int chain_newest_file(struct sosie_chain *c, uint32_t *number, struct sosie_err *err);

#endif

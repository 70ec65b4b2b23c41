/* SPDX-License-Identifier: MIT */
/*
 * What differs between two views of one volume, in bounded memory: a set of byte ranges. Ranges are added in
 * any order; when there are more than the set may hold, neighbours are joined across ever larger gaps, so the
 * set only grows in what it covers, never in memory. And the three ways to find out, none of which reads
 * data.
 *
 * All finders: too many ranges, never too few; what cannot be understood means "all".
 */
#ifndef ENGINE_SOURCE_CHANGES_H
#define ENGINE_SOURCE_CHANGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sosie/err.h"

#define CHANGES_MAX 65536u /* ranges held by one set */

struct changes;
/* max: ranges, 16 to CHANGES_MAX. */
int changes_new(unsigned max, struct changes **out, struct sosie_err *err);
void changes_free(struct changes *c);
void changes_add(struct changes *c, uint64_t start,
                 uint64_t end);      /* bytes, [start, end); empty does nothing */
void changes_all(struct changes *c); /* [0, UINT64_MAX) */
bool changes_is_all(const struct changes *c);
/* What is added from now on is cut off there (bytes); UINT64_MAX at first. Does not touch changes_all. */
void changes_limit(struct changes *c, uint64_t end);
/* No more is added from here on: sorted, joined where they touch. */
void changes_seal(struct changes *c);
/* The first range that ends behind from: false when there is none. Sealed sets only; ascending calls cost
 * O(1) each. */
bool changes_next(struct changes *c, uint64_t from, uint64_t *start, uint64_t *end);
uint64_t changes_bytes(const struct changes *c); /* covered, sealed; UINT64_MAX: all */

/* Both descriptors: files of the same filesystem that nobody writes to. Ranges are those of the new file; a
 * difference in size: from the smaller size on. */
/* FIEMAP (XFS): linux Documentation/filesystems/fiemap.rst. */
int changes_by_fiemap(int old_fd, int new_fd, struct changes *c, struct sosie_err *err);
/* btrfs: BTRFS_IOC_TREE_SEARCH_V2 over both files' extent items; needs CAP_SYS_ADMIN. */
int changes_by_items(int old_fd, int new_fd, struct changes *c, struct sosie_err *err);
/* Kept view against the live file, by filesystem: roughly what differs now. The file's dirty pages are
 * flushed first; what is written while this looks may be missing, and when the mapping makes no sense, all
 * differs. */
int changes_by_live(int kept_fd, int live_fd, struct changes *c, struct sosie_err *err);
/* True when both mappings are the same, flags included: same content, for files that only share and copy on
 * write. Chooses by filesystem. */
int changes_equal_mappings(int a_fd, int b_fd, bool *equal, struct sosie_err *err);

/* btrfs send, parent snapshot to snapshot, without file data. volumes: paths relative to the snapshots. One
 * set for each volume. new_snapshot_fd: the read-only snapshot's top folder. */
struct changes_file {
	const char *path;        /* relative to the snapshot, no leading slash */
	struct changes *changes; /* of this file */
};
int changes_by_send(int old_snapshot_fd, int new_snapshot_fd, struct changes_file *files, unsigned count,
                    struct sosie_err *err);
/* The parser alone (hostile-proof, fuzzed): feed the stream in pieces of any size, then end. */
struct send_parser;
int send_parser_new(struct changes_file *files, unsigned count, struct send_parser **out,
                    struct sosie_err *err);
int send_parser_feed(struct send_parser *p, const void *data, size_t len, struct sosie_err *err);
int send_parser_end(struct send_parser *p, struct sosie_err *err); /* the stream must be complete */
void send_parser_free(struct send_parser *p);

#endif

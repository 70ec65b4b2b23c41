/* SPDX-License-Identifier: MIT */
/*
 * Where a file's content lies on disk, as ascending pieces read in batches, and the comparison of two files
 * by it. Memory is one batch for each file, whatever the number of pieces. The kernel's answers are checked:
 * one that goes backwards, overlaps, is empty or does not advance makes the mapping "broken", and then all
 * counts as changed.
 */
#ifndef ENGINE_SOURCE_MAPPING_H
#define ENGINE_SOURCE_MAPPING_H

#include "engine/source/changes.h"

#define MAPPING_BATCH 512u

enum mapping_kind {
	MAPPING_HOLE,      /* reads as zeros, nothing is there */
	MAPPING_UNWRITTEN, /* reads as zeros, space is reserved */
	MAPPING_DATA,      /* the same place on disk, the same content */
	MAPPING_OPAQUE     /* says nothing about the content: counts as changed */
};

/* Content of start + n is that of the disk extent's plain byte inside + n. */
struct mapping_piece {
	uint64_t start, end; /* bytes of the file */
	enum mapping_kind kind;
	uint64_t disk, disk_bytes; /* the extent on disk; 0 where inside is the disk address itself */
	uint64_t inside;
	uint64_t plain_bytes, generation,
	        encoding; /* must be equal for equal content; 0 where there is none */
};

struct mapping;
struct mapping_ops {
	size_t raw_bytes; /* of the buffer for the kernel's answer */
	/* One flush of what is not on disk yet, before the first read. */
	int (*prepare)(struct mapping *m, struct sosie_err *err);
	/* Asks for the pieces from m->from on; puts each, moves m->from, or sets m->last or m->broken. */
	int (*fill)(struct mapping *m, struct sosie_err *err);
};
extern const struct mapping_ops mapping_fiemap, mapping_items;

struct mapping {
	const struct mapping_ops *ops;
	int fd;
	uint64_t ino, size; /* of the file */
	uint64_t from;      /* next to ask for */
	uint64_t known;     /* end of the last piece put */
	bool last, broken;
	bool live; /* the file is written meanwhile: pieces that overlap what is known are cut, not refused */
	unsigned count, next;
	void *raw; /* ops->raw_bytes, aligned for any type */
	struct mapping_piece pieces[MAPPING_BATCH];
};

/* For fill: one piece more, in ascending order. */
void mapping_put(struct mapping *m, const struct mapping_piece *piece);
enum mapping_manner {
	MAPPING_CONTENT, /* what may differ in content */
	MAPPING_EXACT,   /* reserved space that came, went or moved counts too */
	MAPPING_LIVE /* as CONTENT; the new file is written meanwhile: it says what it was at one instant or
	                another */
};
/* The common body of the finders. */
int mapping_compare(const struct mapping_ops *ops, int old_fd, int new_fd, enum mapping_manner manner,
                    struct changes *c, struct sosie_err *err);
/* errno of an ioctl that maps a file, told with the file's name. */
int mapping_failed(int sys, const char *call, int fd, struct sosie_err *err);
/* ioctl, again after EINTR: 0 or errno. */
int mapping_ioctl(int fd, unsigned long request, void *arg);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Mappings by FIEMAP (linux Documentation/filesystems/fiemap.rst). Flags: SHARED, LAST and MERGED say nothing
 * about content; UNWRITTEN reads as zeros; with any other flag, known or not, the place says nothing. The end
 * of the mapping is an empty answer, never the LAST flag.
 */
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include <linux/fiemap.h>
#include <linux/fs.h>

#include "engine/source/mapping.h"

#define BATCH MAPPING_BATCH
#define SAYS_NOTHING (FIEMAP_EXTENT_LAST | FIEMAP_EXTENT_SHARED | FIEMAP_EXTENT_MERGED)

/* The pages of a clone are clean; what some filesystem still has in flight is on disk after this. */
static int prepare(struct mapping *m, struct sosie_err *err)
{
	struct fiemap *f = m->raw;
	int sys;

	memset(f, 0, sizeof(*f));
	f->fm_length = 1;
	f->fm_flags = FIEMAP_FLAG_SYNC;
	f->fm_extent_count = 1;
	sys = mapping_ioctl(m->fd, FS_IOC_FIEMAP, f);
	return sys == 0 ? 0 : mapping_failed(sys, "FIEMAP", m->fd, err);
}

static enum mapping_kind kind_of(const struct fiemap_extent *e)
{
	uint32_t flags = e->fe_flags & ~(uint32_t)SAYS_NOTHING;

	if (flags == FIEMAP_EXTENT_UNWRITTEN)
		return MAPPING_UNWRITTEN;
	return flags == 0 && e->fe_physical != 0 ? MAPPING_DATA : MAPPING_OPAQUE;
}

static void put(struct mapping *m, const struct fiemap_extent *e)
{
	struct mapping_piece piece = {.start = e->fe_logical, .kind = kind_of(e), .inside = e->fe_physical};

	if (e->fe_length == 0 || e->fe_length > UINT64_MAX - e->fe_logical) {
		m->broken = true;
		return;
	}
	piece.end = e->fe_logical + e->fe_length;
	mapping_put(m, &piece);
	m->from = piece.end;
}

static int fill(struct mapping *m, struct sosie_err *err)
{
	struct fiemap *f = m->raw;
	int sys;

	if (m->from >= m->size) {
		m->last = true;
		return 0;
	}
	memset(f, 0, sizeof(*f));
	f->fm_start = m->from;
	f->fm_length = m->size - m->from;
	f->fm_extent_count = BATCH;
	sys = mapping_ioctl(m->fd, FS_IOC_FIEMAP, f);
	if (sys != 0)
		return mapping_failed(sys, "FIEMAP", m->fd, err);
	if (f->fm_mapped_extents > BATCH) {
		m->broken = true;
		return 0;
	}
	m->last = f->fm_mapped_extents == 0;
	for (uint32_t i = 0; i < f->fm_mapped_extents && !m->broken; i++)
		put(m, &f->fm_extents[i]);
	return 0;
}

const struct mapping_ops mapping_fiemap = {
        .raw_bytes = sizeof(struct fiemap) + BATCH * sizeof(struct fiemap_extent),
        .prepare = prepare,
        .fill = fill,
};

int changes_by_fiemap(int old_fd, int new_fd, struct changes *c, struct sosie_err *err)
{
	return mapping_compare(&mapping_fiemap, old_fd, new_fd, MAPPING_CONTENT, c, err);
}

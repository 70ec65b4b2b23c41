/* SPDX-License-Identifier: MIT */
/*
 * Mappings by btrfs' own file extent items (uapi linux/btrfs_tree.h), read with BTRFS_IOC_TREE_SEARCH_V2.
 * Where FIEMAP merges and forgets the offset inside a compressed extent, the items have all: address, offset
 * inside, length on disk and plain, generation, encoding. A missing item (NO_HOLES) and one with address 0
 * are holes. Inline content says nothing. Lengths in the kernel's answer are checked against the buffer.
 */
#include <endian.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <linux/btrfs.h>
#include <linux/btrfs_tree.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <linux/magic.h>

#include "engine/source/mapping.h"

#define ANSWER_BYTES 65536u
#define INLINE_HEAD offsetof(struct btrfs_file_extent_item, disk_bytenr)

/* Content that a clone copied into pages (inline extents) has no item yet: FIEMAP with SYNC flushes the whole
 * file and waits for its items, whatever the range asked for. */
static int prepare(struct mapping *m, struct sosie_err *err)
{
	struct fiemap f = {.fm_length = 1, .fm_flags = FIEMAP_FLAG_SYNC};
	struct statfs fs;
	int sys;

	if (fstatfs(m->fd, &fs) != 0)
		return mapping_failed(errno, "fstatfs", m->fd, err);
	if (fs.f_type != BTRFS_SUPER_MAGIC)
		return mapping_failed(EOPNOTSUPP, "the file is not on btrfs", m->fd, err);
	sys = mapping_ioctl(m->fd, FS_IOC_FIEMAP, &f);
	return sys == 0 ? 0 : mapping_failed(sys, "FIEMAP", m->fd, err);
}

static void put_inline(struct mapping *m, uint64_t offset, const struct btrfs_file_extent_item *item)
{
	struct mapping_piece piece = {.start = offset, .kind = MAPPING_OPAQUE};
	uint64_t len = le64toh(item->ram_bytes);

	piece.end = len < UINT64_MAX - offset ? offset + len : UINT64_MAX;
	if (len > 0)
		mapping_put(m, &piece);
}

static enum mapping_kind kind_of(const struct btrfs_file_extent_item *item)
{
	if (item->disk_bytenr == 0)
		return MAPPING_HOLE;
	if (item->type == BTRFS_FILE_EXTENT_PREALLOC)
		return MAPPING_UNWRITTEN;
	return item->type == BTRFS_FILE_EXTENT_REG ? MAPPING_DATA : MAPPING_OPAQUE;
}

static void put_regular(struct mapping *m, uint64_t offset, const struct btrfs_file_extent_item *item)
{
	uint64_t len = le64toh(item->num_bytes);
	struct mapping_piece piece = {
	        .start = offset,
	        .kind = kind_of(item),
	        .disk = le64toh(item->disk_bytenr),
	        .disk_bytes = le64toh(item->disk_num_bytes),
	        .inside = le64toh(item->offset),
	        .plain_bytes = le64toh(item->ram_bytes),
	        .generation = le64toh(item->generation),
	        .encoding = item->compression | (uint64_t)item->encryption << 8 |
	                    (uint64_t)le16toh(item->other_encoding) << 16,
	};

	if (len == 0 || len > UINT64_MAX - offset) {
		m->broken = true;
		return;
	}
	piece.end = offset + len;
	mapping_put(m, &piece);
}

static void put_item(struct mapping *m, uint64_t offset, const uint8_t *data, size_t len)
{
	struct btrfs_file_extent_item item = {0};

	if (len < INLINE_HEAD) {
		m->broken = true;
		return;
	}
	memcpy(&item, data, len < sizeof(item) ? len : sizeof(item));
	if (item.type == BTRFS_FILE_EXTENT_INLINE)
		put_inline(m, offset, &item);
	else if (len != sizeof(item))
		m->broken = true;
	else
		put_regular(m, offset, &item);
}

/* One answer: count headers, each followed by its item. */
static void take(struct mapping *m, const uint8_t *data, size_t size, uint32_t count)
{
	struct btrfs_ioctl_search_header h;
	size_t at = 0;

	for (uint32_t i = 0; i < count && !m->broken && !m->last; i++) {
		if (size - at < sizeof(h)) {
			m->broken = true;
			return;
		}
		memcpy(&h, data + at, sizeof(h));
		at += sizeof(h);
		if (h.len > size - at || h.objectid != m->ino || h.type != BTRFS_EXTENT_DATA_KEY ||
		    h.offset < m->from) {
			m->broken = true;
			return;
		}
		put_item(m, h.offset, data + at, h.len);
		at += h.len;
		if (h.offset == UINT64_MAX)
			m->last = true;
		else
			m->from = h.offset + 1;
	}
}

static int fill(struct mapping *m, struct sosie_err *err)
{
	struct btrfs_ioctl_search_args_v2 *args = m->raw;
	int sys;

	memset(args, 0, sizeof(*args));
	args->key.min_objectid = args->key.max_objectid = m->ino; /* tree 0: the file's own subvolume */
	args->key.min_type = args->key.max_type = BTRFS_EXTENT_DATA_KEY;
	args->key.min_offset = m->from;
	args->key.max_offset = args->key.max_transid = UINT64_MAX;
	args->key.nr_items = MAPPING_BATCH;
	args->buf_size = ANSWER_BYTES;
	sys = mapping_ioctl(m->fd, BTRFS_IOC_TREE_SEARCH_V2, args);
	if (sys == EOVERFLOW || (sys == 0 && args->key.nr_items > MAPPING_BATCH)) {
		m->broken = true;
		return 0;
	}
	if (sys != 0)
		return mapping_failed(sys, "BTRFS_IOC_TREE_SEARCH_V2", m->fd, err);
	m->last = args->key.nr_items == 0;
	if (!m->last)
		take(m, (const uint8_t *)m->raw + sizeof(*args), ANSWER_BYTES, args->key.nr_items);
	return 0;
}

const struct mapping_ops mapping_items = {
        .raw_bytes = sizeof(struct btrfs_ioctl_search_args_v2) + ANSWER_BYTES,
        .prepare = prepare,
        .fill = fill,
};

int changes_by_items(int old_fd, int new_fd, struct changes *c, struct sosie_err *err)
{
	return mapping_compare(&mapping_items, old_fd, new_fd, MAPPING_CONTENT, c, err);
}

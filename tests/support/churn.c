/* SPDX-License-Identifier: MIT */
/* See churn.h. Offsets and lengths lean to whole blocks, but not always: tails and unaligned ends are where
 * trackers of changes go wrong. */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <linux/btrfs.h>
#include <linux/falloc.h>
#include <linux/fs.h>

#include "tests/support/churn.h"

#define BLOCK 4096u
#define PIECE_MAX (256u * 1024u)
#define SIZE_MIN (1u << 20)

struct churn {
	int fd, direct_fd;
	uint64_t state, size_max;
	uint64_t done[CHURN_OPS];
	uint8_t *buf; /* PIECE_MAX, aligned to BLOCK */
};

static const char *const names[CHURN_OPS] = {"direct",  "buffered", "mapped", "allocate", "punch",
                                             "zero",    "collapse", "insert", "shrink",   "grow",
                                             "reflink", "dedupe",   "defrag", "flush"};

const char *churn_name(enum churn_op op)
{
	return names[op];
}

uint64_t churn_done(const struct churn *c, enum churn_op op)
{
	return c->done[op];
}

/* splitmix64: public domain, Steele, Lea and Flood 2014. */
static uint64_t next_number(struct churn *c)
{
	uint64_t z = c->state += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

uint64_t churn_random(struct churn *c, uint64_t bound)
{
	return next_number(c) % bound;
}

static uint64_t size_now(const struct churn *c)
{
	struct stat st;

	return fstat(c->fd, &st) == 0 ? (uint64_t)st.st_size : 0;
}

/* A range inside the file: of whole blocks, or of any bytes. */
static void pick(struct churn *c, bool blocks, uint64_t *offset, uint64_t *len)
{
	uint64_t size = size_now(c), most = churn_random(c, 4) == 0 ? PIECE_MAX : 4 * BLOCK;

	*offset = churn_random(c, size - BLOCK);
	*len = 1 + churn_random(c, most);
	if (blocks) {
		*offset &= ~(uint64_t)(BLOCK - 1);
		*len = (*len + BLOCK - 1) & ~(uint64_t)(BLOCK - 1);
	}
	if (*len > size - *offset)
		*len = blocks ? (size - *offset) & ~(uint64_t)(BLOCK - 1) : size - *offset;
	if (*len == 0) { /* the file's last, partial block */
		*offset -= BLOCK;
		*len = BLOCK;
	}
}

/* Noise, one value (compresses, dedupes), or zeros. */
static void fill(struct churn *c, uint64_t len)
{
	uint64_t kind = churn_random(c, 8), value = next_number(c);

	if (kind == 0)
		memset(c->buf, 0, len);
	else if (kind < 4)
		memset(c->buf, (int)(value & 3) + 1, len);
	else
		for (uint64_t i = 0; i < len; i += 8) {
			value = value * 6364136223846793005ull + 1442695040888963407ull;
			memcpy(c->buf + i, &value, len - i < 8 ? len - i : 8);
		}
}

static int write_all(int fd, const uint8_t *buf, uint64_t len, uint64_t offset)
{
	while (len > 0) {
		ssize_t n = pwrite(fd, buf, len, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? errno : EIO;
		buf += n;
		offset += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return 0;
}

static int do_write(struct churn *c, bool direct)
{
	uint64_t offset, len;

	pick(c, direct, &offset, &len);
	fill(c, len);
	return write_all(direct ? c->direct_fd : c->fd, c->buf, len, offset);
}

static int do_mapped(struct churn *c)
{
	uint64_t offset, len, skip;
	uint8_t *at;

	pick(c, false, &offset, &len);
	fill(c, len);
	skip = offset % BLOCK;
	at = mmap(NULL, len + skip, PROT_READ | PROT_WRITE, MAP_SHARED, c->fd, (off_t)(offset - skip));
	if (at == MAP_FAILED)
		return errno;
	memcpy(at + skip, c->buf, len);
	if (churn_random(c, 2) == 0)
		msync(at, len + skip, MS_SYNC);
	munmap(at, len + skip);
	return 0;
}

static int do_fallocate(struct churn *c, int mode, bool blocks)
{
	uint64_t offset, len;

	pick(c, blocks, &offset, &len);
	return fallocate(c->fd, mode, (off_t)offset, (off_t)len) == 0 ? 0 : errno;
}

static int do_shift(struct churn *c, bool insert)
{
	uint64_t offset, len, size = size_now(c);

	pick(c, true, &offset, &len);
	if (insert ? size + len > c->size_max : size < SIZE_MIN + len || offset + len >= size)
		return EINVAL;
	return fallocate(c->fd, insert ? FALLOC_FL_INSERT_RANGE : FALLOC_FL_COLLAPSE_RANGE, (off_t)offset,
	                 (off_t)len) == 0
	               ? 0
	               : errno;
}

static int do_truncate(struct churn *c, bool grow)
{
	uint64_t size = size_now(c), to;

	if (grow ? size >= c->size_max : size <= SIZE_MIN)
		return EINVAL;
	to = grow ? size + 1 + churn_random(c, c->size_max - size)
	          : size - 1 - churn_random(c, (size - SIZE_MIN) / 2 + 1);
	if (to < SIZE_MIN)
		to = SIZE_MIN;
	if (churn_random(c, 2) == 0)
		to &= ~(uint64_t)(BLOCK - 1);
	if (grow && churn_random(c, 2) == 0)
		return fallocate(c->fd, 0, (off_t)size, (off_t)(to > size ? to - size : 1)) == 0 ? 0 : errno;
	return ftruncate(c->fd, (off_t)to) == 0 ? 0 : errno;
}

/* Two ranges of the same length that do not overlap, both of whole blocks. */
static bool pick_two(struct churn *c, uint64_t *from, uint64_t *to, uint64_t *len)
{
	uint64_t other;

	pick(c, true, from, len);
	pick(c, true, to, &other);
	*len = *len < other ? *len : other;
	return *from + *len <= *to || *to + *len <= *from;
}

static int do_reflink(struct churn *c)
{
	uint64_t from, to, len;
	struct file_clone_range range;

	if (!pick_two(c, &from, &to, &len))
		return EINVAL;
	range = (struct file_clone_range){c->fd, from, len, to};
	return ioctl(c->fd, FICLONERANGE, &range) == 0 ? 0 : errno;
}

static int do_dedupe(struct churn *c)
{
	union {
		struct file_dedupe_range range;
		uint8_t room[sizeof(struct file_dedupe_range) + sizeof(struct file_dedupe_range_info)];
	} u;
	struct file_dedupe_range_info *info = u.range.info;
	uint64_t from, to, len;
	int rc;

	memset(&u, 0, sizeof(u));
	if (!pick_two(c, &from, &to, &len))
		return EINVAL;
	if (pread(c->fd, c->buf, len, (off_t)from) != (ssize_t)len)
		return EINVAL;
	rc = write_all(c->fd, c->buf, len, to);
	if (rc != 0)
		return rc;
	u.range.src_offset = from;
	u.range.src_length = len;
	u.range.dest_count = 1;
	info->dest_fd = c->fd;
	info->dest_offset = to;
	if (ioctl(c->fd, FIDEDUPERANGE, &u.range) != 0)
		return errno;
	return info->status == FILE_DEDUPE_RANGE_SAME ? 0 : EINVAL;
}

static int do_defrag(struct churn *c)
{
	struct btrfs_ioctl_defrag_range_args args = {.flags = BTRFS_DEFRAG_RANGE_START_IO,
	                                             .extent_thresh = 1u << 20};

	uint64_t offset, len;

	pick(c, true, &offset, &len);
	args.start = offset;
	args.len = churn_random(c, 2) == 0 ? UINT64_MAX - offset : len;
	if (churn_random(c, 3) == 0) {
		args.flags |= BTRFS_DEFRAG_RANGE_COMPRESS;
		args.compress_type = 1 + (uint32_t)churn_random(c, 3);
	}
	return ioctl(c->fd, BTRFS_IOC_DEFRAG_RANGE, &args) >= 0 ? 0 : errno;
}

static int run(struct churn *c, enum churn_op op)
{
	switch (op) {
	case CHURN_DIRECT:
	case CHURN_BUFFERED:
		return do_write(c, op == CHURN_DIRECT);
	case CHURN_MAPPED:
		return do_mapped(c);
	case CHURN_ALLOCATE:
		return do_fallocate(c, churn_random(c, 2) ? FALLOC_FL_KEEP_SIZE : 0, false);
	case CHURN_PUNCH:
		return do_fallocate(c, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, false);
	case CHURN_ZERO:
		return do_fallocate(c, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, churn_random(c, 2) == 0);
	case CHURN_COLLAPSE:
	case CHURN_INSERT:
		return do_shift(c, op == CHURN_INSERT);
	case CHURN_SHRINK:
	case CHURN_GROW:
		return do_truncate(c, op == CHURN_GROW);
	case CHURN_REFLINK:
		return do_reflink(c);
	case CHURN_DEDUPE:
		return do_dedupe(c);
	case CHURN_DEFRAG:
		return do_defrag(c);
	default:
		return (churn_random(c, 2) ? fsync(c->fd) : fdatasync(c->fd)) == 0 ? 0 : errno;
	}
}

int churn_step(struct churn *c)
{
	/* Writes come more often than the rest. */
	uint64_t n = churn_random(c, CHURN_OPS + 6);
	enum churn_op op = n < CHURN_OPS ? (enum churn_op)n : (enum churn_op)(n % 3);
	int rc = run(c, op);

	if (rc == 0)
		c->done[op]++;
	return rc == EOPNOTSUPP || rc == ENOTTY || rc == ENOSPC || rc == EINVAL || rc == ETXTBSY ? 0 : rc;
}

int churn_block(struct churn *c, uint64_t *offset)
{
	uint64_t value = next_number(c);

	*offset = churn_random(c, size_now(c) / BLOCK) * BLOCK;
	for (unsigned i = 0; i < BLOCK; i += 8)
		memcpy(c->buf + i, &value, 8);
	return write_all(c->direct_fd, c->buf, BLOCK, *offset);
}

struct churn *churn_open(const char *path, uint64_t seed, uint64_t size_max)
{
	struct churn *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->state = seed;
	c->size_max = size_max;
	c->buf = aligned_alloc(BLOCK, PIECE_MAX);
	c->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	c->direct_fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
	if (c->buf && c->fd >= 0 && c->direct_fd >= 0 &&
	    (size_now(c) >= SIZE_MIN || ftruncate(c->fd, (off_t)size_max) == 0))
		return c;
	churn_close(c);
	return NULL;
}

void churn_close(struct churn *c)
{
	int saved = errno;

	if (!c)
		return;
	if (c->fd >= 0)
		close(c->fd);
	if (c->direct_fd >= 0)
		close(c->direct_fd);
	free(c->buf);
	free(c);
	errno = saved;
}

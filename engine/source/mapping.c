/* SPDX-License-Identifier: MIT */
/*
 * The merge join of two mappings. Pieces of both are walked side by side; what is not surely the same content
 * is added to the set. A hole and an unwritten piece both read as zeros: the same. Nothing here trusts that
 * the kernel's answer ends, ascends or advances.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <linux/magic.h>

#include "engine/source/mapping.h"

int mapping_ioctl(int fd, unsigned long request, void *arg)
{
	int rc;

	do
		rc = ioctl(fd, request, arg);
	while (rc < 0 && errno == EINTR);
	return rc < 0 ? errno : 0;
}

int mapping_failed(int sys, const char *call, int fd, struct sosie_err *err)
{
	char link[64], path[PATH_MAX], shown[200];
	ssize_t len;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	len = readlink(link, path, sizeof(path));
	if (sys == ENOTTY)
		sys = EOPNOTSUPP;
	sosie_err_sys(err, sys, "cannot ask where a view's content lies: %s", call);
	if (len > 0)
		sosie_err_where(err, "%s", sosie_escape(shown, sizeof(shown), path, (size_t)len));
	if (sys == EPERM || sys == EACCES)
		sosie_err_action(err, "on btrfs this needs CAP_SYS_ADMIN: run as root, or use source: scan");
	else if (sys == EOPNOTSUPP)
		sosie_err_action(err, "the filesystem cannot tell: use source: scan");
	return -(err ? (int)err->code : SOSIE_EIO);
}

void mapping_put(struct mapping *m, const struct mapping_piece *piece)
{
	struct mapping_piece rest = *piece;

	if (m->last || m->broken)
		return;
	if (m->live && piece->start < m->known && piece->end > piece->start) {
		if (piece->end <= m->known)
			return;
		rest.inside += m->known - piece->start;
		rest.start = m->known;
		piece = &rest;
	}
	if (piece->end <= piece->start || piece->start < m->known || m->count == MAPPING_BATCH) {
		m->broken = true;
		return;
	}
	if (piece->start >= m->size) { /* reserved behind the end: no content */
		m->last = true;
		return;
	}
	m->known = piece->end;
	m->pieces[m->count++] = *piece;
}

static int mapping_open(const struct mapping_ops *ops, int fd, struct mapping **out, struct sosie_err *err)
{
	struct mapping *m = calloc(1, sizeof(*m));
	struct stat st;

	*out = m;
	if (m)
		m->raw = malloc(ops->raw_bytes);
	if (!m || !m->raw)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory to read where a view's content lies");
	m->ops = ops;
	m->fd = fd;
	if (fstat(fd, &st) != 0)
		return mapping_failed(errno, "fstat", fd, err);
	if (!S_ISREG(st.st_mode))
		return sosie_err_set(err, SOSIE_EUNSUPPORTED, "a view is no regular file");
	m->ino = st.st_ino;
	m->size = (uint64_t)st.st_size;
	return ops->prepare(m, err);
}

static void mapping_close(struct mapping *m)
{
	if (!m)
		return;
	free(m->raw);
	free(m);
}

/* The next batch; each call gets further or ends the mapping. */
static int refill(struct mapping *m, struct sosie_err *err)
{
	uint64_t from = m->from;
	int rc;

	m->count = m->next = 0;
	rc = m->ops->fill(m, err);
	if (rc == 0 && !m->last && m->from <= from)
		m->broken = true;
	return rc;
}

/* The piece that covers pos and ends behind it. */
static int piece_at(struct mapping *m, uint64_t pos, struct mapping_piece *out, struct sosie_err *err)
{
	const struct mapping_piece *p = NULL;

	for (;;) {
		int rc;

		while (m->next < m->count && m->pieces[m->next].end <= pos)
			m->next++;
		if (m->next < m->count || m->last || m->broken)
			break;
		rc = refill(m, err);
		if (rc != 0)
			return rc;
	}
	if (m->next < m->count)
		p = &m->pieces[m->next];
	if (p && p->start <= pos)
		*out = *p;
	else
		*out = (struct mapping_piece){
		        .start = pos, .end = p ? p->start : UINT64_MAX, .kind = MAPPING_HOLE};
	return 0;
}

static bool same_place(const struct mapping_piece *a, const struct mapping_piece *b, uint64_t pos)
{
	return a->disk == b->disk && a->disk_bytes == b->disk_bytes &&
	       a->inside + (pos - a->start) == b->inside + (pos - b->start) &&
	       a->plain_bytes == b->plain_bytes && a->generation == b->generation &&
	       a->encoding == b->encoding;
}

/* exact: nothing at all happened here, not only that the content is the same. */
static bool same_content(const struct mapping_piece *a, const struct mapping_piece *b, uint64_t pos,
                         bool exact)
{
	bool a_zero = a->kind == MAPPING_HOLE || a->kind == MAPPING_UNWRITTEN;
	bool b_zero = b->kind == MAPPING_HOLE || b->kind == MAPPING_UNWRITTEN;

	if (exact && a->kind == MAPPING_UNWRITTEN && b->kind == MAPPING_UNWRITTEN)
		return same_place(a, b, pos);
	if (a_zero || b_zero)
		return exact ? a->kind == b->kind : a_zero && b_zero;
	return a->kind == MAPPING_DATA && b->kind == MAPPING_DATA && same_place(a, b, pos);
}

static int join(struct mapping *a, struct mapping *b, bool exact, struct changes *c, struct sosie_err *err)
{
	uint64_t end = a->size < b->size ? a->size : b->size, pos = 0;
	struct mapping_piece x, y;
	int rc = 0;

	while (pos < end && !a->broken && !b->broken) {
		uint64_t next;

		rc = piece_at(a, pos, &x, err);
		if (rc == 0)
			rc = piece_at(b, pos, &y, err);
		if (rc != 0)
			return rc;
		next = x.end < y.end ? x.end : y.end;
		next = next < end ? next : end;
		if (!same_content(&x, &y, pos, exact))
			changes_add(c, pos, next);
		pos = next;
	}
	return 0;
}

/* A mapping that is broken, wherever that shows, tells nothing. */
static int compare(struct mapping *a, struct mapping *b, bool exact, struct changes *c, struct sosie_err *err)
{
	uint64_t longer = a->size > b->size ? a->size : b->size;
	int rc = join(a, b, exact, c, err);

	if (rc != 0 || a->broken || b->broken)
		changes_all(c);
	changes_add(c, a->size < b->size ? a->size : b->size, longer);
	return rc;
}

int mapping_compare(const struct mapping_ops *ops, int old_fd, int new_fd, enum mapping_manner manner,
                    struct changes *c, struct sosie_err *err)
{
	struct mapping *a = NULL, *b = NULL;
	struct sosie_err spare;
	int rc;

	err = err ? err : &spare;
	rc = mapping_open(ops, old_fd, &a, err);
	if (rc == 0)
		rc = mapping_open(ops, new_fd, &b, err);
	if (rc == 0) {
		b->live = manner == MAPPING_LIVE;
		rc = compare(a, b, manner == MAPPING_EXACT, c, err);
	}
	mapping_close(a);
	mapping_close(b);
	return rc;
}

static int ops_of(int fd, const struct mapping_ops **ops, struct sosie_err *err)
{
	struct statfs fs;

	if (fstatfs(fd, &fs) != 0)
		return sosie_err_sys(err, errno, "cannot tell a view's filesystem");
	*ops = fs.f_type == BTRFS_SUPER_MAGIC ? &mapping_items : &mapping_fiemap;
	return 0;
}

int changes_by_live(int kept_fd, int live_fd, struct changes *c, struct sosie_err *err)
{
	const struct mapping_ops *ops = NULL;
	int rc = ops_of(kept_fd, &ops, err);

	return rc == 0 ? mapping_compare(ops, kept_fd, live_fd, MAPPING_LIVE, c, err) : rc;
}

int changes_equal_mappings(int a_fd, int b_fd, bool *equal, struct sosie_err *err)
{
	const struct mapping_ops *ops = NULL;
	struct changes *c;
	int rc;

	*equal = false;
	rc = ops_of(a_fd, &ops, err);
	if (rc == 0)
		rc = changes_new(16, &c, err);
	if (rc != 0)
		return rc;
	rc = mapping_compare(ops, a_fd, b_fd, MAPPING_EXACT, c, err);
	changes_seal(c);
	*equal = rc == 0 && changes_bytes(c) == 0;
	changes_free(c);
	return rc;
}

/* SPDX-License-Identifier: MIT */
/*
 * The simulated disk as a back end: paths, descriptors, locks, the power cut. Relative paths begin at the
 * root, as absolute ones do; "." is skipped, ".." refused. Requests run in submit, in the order of their
 * submission, and are told in reap.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/io/sim_disk.h"

struct sim_file {
	struct sosie_file file;
	struct sim_inode *inode; /* counted in refs and opens */
	unsigned flags;
	enum { UNLOCKED, SHARED, EXCLUSIVE } lock;
	struct sim_file *next, **at; /* of the instance */
};

struct sim_io {
	struct sosie_io io;
	struct sosie_disk *disk;
	struct sim_file *files;
	struct req_list done;
	unsigned in_flight;
};

static struct sim_io *as_sim(struct sosie_io *io)
{
	return (struct sim_io *)io;
}

static struct sim_file *as_file(struct sosie_file *file)
{
	return (struct sim_file *)file;
}

/* --- the disk
 * ------------------------------------------------------------------------------------------------------ */

struct sosie_disk *sosie_disk_new(uint64_t capacity, uint64_t seed, bool reflink)
{
	struct sosie_disk *disk = sim_alloc(sizeof(*disk));

	disk->capacity = capacity / SIM_PAGE;
	disk->random = seed;
	disk->reflink = reflink;
	disk->cut_at = UINT64_MAX;
	disk->next_number = 2;
	disk->name_changes_end = &disk->name_changes;
	disk->root = sim_inode_new(disk, true, 0755);
	disk->root->refs = 1;
	disk->root->linked = true;
	return disk;
}

void sosie_disk_free(struct sosie_disk *disk)
{
	if (!disk)
		return;
	assert(disk->instances == 0);
	sim_inodes_free(disk);
	free(disk);
}

void sosie_disk_cut_after(struct sosie_disk *disk, uint64_t n)
{
	disk->cut_at = n > UINT64_MAX - disk->operations ? UINT64_MAX : disk->operations + n;
}

bool sosie_disk_is_cut(const struct sosie_disk *disk)
{
	return disk->operations >= disk->cut_at;
}

uint64_t sosie_disk_ops(const struct sosie_disk *disk)
{
	return disk->operations;
}

void sosie_disk_restart(struct sosie_disk *disk, enum sosie_fate fate)
{
	assert(disk->instances == 0);
	disk->cut_at = UINT64_MAX;
	for (struct sim_inode *inode = disk->inodes; inode; inode = inode->next)
		sim_data_restart(disk, inode, fate);
	sim_names_restart(disk, fate);
}

/* --- paths
 * ---------------------------------------------------------------------------------------------------------
 */

struct place {
	struct sim_inode *dir;   /* that holds the name; NULL for the root itself */
	struct sim_inode *inode; /* NULL when missing */
	char name[SIM_NAME_MAX + 1];
};

static int step(struct place *p, const char *part, size_t len)
{
	if (len > SIM_NAME_MAX)
		return ENAMETOOLONG;
	if (len == 2 && memcmp(part, "..", 2) == 0)
		return EINVAL;
	if (!p->inode)
		return ENOENT;
	if (!p->inode->dir)
		return ENOTDIR;
	p->dir = p->inode;
	memcpy(p->name, part, len);
	p->name[len] = '\0';
	p->inode = sim_folder_find(&p->dir->names, p->name);
	return 0;
}

/* 0 or an errno; the last part may be missing. */
static int resolve(const struct sosie_disk *disk, const char *path, struct place *p)
{
	*p = (struct place){.inode = disk->root};
	if (*path == '\0')
		return ENOENT;
	while (*path) {
		const size_t len = strcspn(path, "/");
		int sys = len == 0 || (len == 1 && *path == '.') ? 0 : step(p, path, len);
		if (sys != 0)
			return sys;
		path += len;
		path += *path == '/';
	}
	return 0;
}

static int power(const struct sosie_disk *disk, struct sosie_err *err)
{
	return sosie_disk_is_cut(disk) ? sosie_err_sys(err, EIO, "the simulated disk has no power") : 0;
}

/* Resolves for a call that is told as what; the thing must be there when must_exist. */
static int find(struct sosie_io *io, const char *path, bool must_exist, const char *what, struct place *p,
                struct sosie_err *err)
{
	const struct sosie_disk *disk = as_sim(io)->disk;
	int rc = power(disk, err), sys;

	if (rc != 0)
		return rc;
	sys = resolve(disk, path, p);
	if (sys == 0 && must_exist && !p->inode)
		sys = ENOENT;
	return sys == 0 ? 0 : sosie_err_sys(err, sys, "cannot %s", what);
}

/* A change has been made: it is one operation, and things have a new time. */
static void count(struct sosie_io *io, struct sim_inode *inode)
{
	inode->changed = ++as_sim(io)->disk->operations;
}

/* --- files
 * ---------------------------------------------------------------------------------------------------------
 */

static void change_size(struct sosie_disk *disk, struct sim_inode *inode, uint64_t size)
{
	if (inode->live.size == size)
		return;
	sim_map_resize(disk, &inode->live, size);
	sim_change_add(inode, SIM_SIZE, 0, size);
}

static void create(struct sosie_io *io, struct place *p, bool dir, uint32_t mode)
{
	struct sosie_disk *disk = as_sim(io)->disk;

	p->inode = sim_inode_new(disk, dir, mode);
	sim_names_change(disk, &(struct sim_setting){p->dir, p->name, p->inode}, 1);
	count(io, p->inode);
}

static struct sosie_file *file_open(struct sim_io *s, struct sim_inode *inode, const char *path,
                                    unsigned flags)
{
	struct sim_file *f = sim_alloc(sizeof(*f));

	f->file.path = strdup(path);
	if (!f->file.path)
		abort();
	f->inode = inode;
	f->flags = flags;
	inode->refs++;
	inode->opens++;
	f->next = s->files;
	f->at = &s->files;
	if (f->next)
		f->next->at = &f->next;
	s->files = f;
	return &f->file;
}

static void unlock(struct sim_file *f)
{
	if (f->lock == SHARED)
		f->inode->shared--;
	else if (f->lock == EXCLUSIVE)
		f->inode->exclusive = false;
	f->lock = UNLOCKED;
}

static void file_close(struct sosie_disk *disk, struct sim_file *f)
{
	unlock(f);
	*f->at = f->next;
	if (f->next)
		f->next->at = f->at;
	f->inode->opens--;
	sim_inode_forget(disk, f->inode);
	sim_inode_unref(disk, f->inode);
	free(f->file.path);
	free(f);
}

static int sim_open(struct sosie_io *io, const char *path, unsigned flags, uint32_t mode,
                    struct sosie_file **out, struct sosie_err *err)
{
	struct place p;
	int rc = find(io, path, !(flags & SOSIE_CREATE), "open", &p, err);

	if (rc != 0)
		return rc;
	if (p.inode && (flags & SOSIE_EXCL))
		return sosie_err_sys(err, EEXIST, "cannot open");
	if (p.inode && p.inode->dir)
		return sosie_err_set(err, SOSIE_ECONFIG, "cannot open: not a regular file");
	if (!p.inode)
		create(io, &p, false, mode);
	else if ((flags & SOSIE_TRUNC) && p.inode->live.size > 0) {
		change_size(as_sim(io)->disk, p.inode, 0);
		count(io, p.inode);
	}
	*out = file_open(as_sim(io), p.inode, path, flags);
	return 0;
}

static int sim_close(struct sosie_io *io, struct sosie_file *file, struct sosie_err *err)
{
	file_close(as_sim(io)->disk, as_file(file));
	return power(as_sim(io)->disk, err);
}

static void tell(const struct sim_inode *inode, struct sosie_stat *out)
{
	*out = (struct sosie_stat){
	        .kind = inode->dir ? SOSIE_KIND_DIR : SOSIE_KIND_FILE,
	        .size = inode->live.size,
	        .allocated = inode->live.count * SIM_PAGE,
	        .dev = 1,
	        .ino = inode->number,
	        .links = inode->linked ? 1 : 0,
	        .mtime_ms = (int64_t)inode->changed,
	        .ctime_ns = (int64_t)inode->changed * 1000000,
	        .mode = inode->mode,
	        .align = 1,
	};
}

static int sim_fstat(struct sosie_io *io, struct sosie_file *file, struct sosie_stat *out,
                     struct sosie_err *err)
{
	int rc = power(as_sim(io)->disk, err);

	if (rc == 0)
		tell(as_file(file)->inode, out);
	return rc;
}

static int sim_stat(struct sosie_io *io, const char *path, struct sosie_stat *out, struct sosie_err *err)
{
	struct place p;
	int rc = find(io, path, true, "look at the file", &p, err);

	if (rc == 0)
		tell(p.inode, out);
	return rc;
}

static int writable(struct sosie_io *io, const struct sim_file *f, const char *what, struct sosie_err *err)
{
	int rc = power(as_sim(io)->disk, err);

	if (rc != 0 || (f->flags & SOSIE_WRITE))
		return rc;
	return sosie_err_sys(err, EBADF, "cannot %s", what);
}

static int sim_truncate(struct sosie_io *io, struct sosie_file *file, uint64_t size, struct sosie_err *err)
{
	struct sim_inode *inode = as_file(file)->inode;
	int rc = writable(io, as_file(file), "set the size", err);

	if (rc != 0)
		return rc;
	change_size(as_sim(io)->disk, inode, size);
	count(io, inode);
	return 0;
}

static int sim_punch(struct sosie_io *io, struct sosie_file *file, uint64_t off, uint64_t len,
                     struct sosie_err *err)
{
	struct sim_inode *inode = as_file(file)->inode;
	int rc = writable(io, as_file(file), "punch", err);

	if (rc != 0)
		return rc;
	sim_map_punch(as_sim(io)->disk, &inode->live, off, len);
	sim_change_add(inode, SIM_PUNCH, off, len);
	count(io, inode);
	return 0;
}

static int sim_next_data(struct sosie_io *io, struct sosie_file *file, uint64_t from, uint64_t *start,
                         uint64_t *end, struct sosie_err *err)
{
	int rc = power(as_sim(io)->disk, err);

	if (rc == 0)
		sim_map_next_data(&as_file(file)->inode->live, from, start, end);
	return rc;
}

static int sim_clone(struct sosie_io *io, struct sosie_file *src, struct sosie_file *dst,
                     struct sosie_err *err)
{
	struct sosie_disk *disk = as_sim(io)->disk;
	struct sim_inode *from = as_file(src)->inode, *to = as_file(dst)->inode;
	int rc = writable(io, as_file(dst), "clone", err);
	struct sim_change *c;

	if (rc != 0)
		return rc;
	if (!disk->reflink)
		return sosie_err_set(err, SOSIE_EUNSUPPORTED,
		                     "no reflink between these files: Operation not supported");
	sim_map_copy(disk, &to->live, &from->live);
	c = sim_change_add(to, SIM_CLONE, 0, 0);
	sim_map_copy(disk, &c->clone, &from->live);
	count(io, to);
	return 0;
}

static int sim_lock(struct sosie_io *io, struct sosie_file *file, bool exclusive, struct sosie_err *err)
{
	struct sim_file *f = as_file(file);
	unsigned others = f->inode->shared - (f->lock == SHARED);
	int rc = power(as_sim(io)->disk, err);

	if (rc != 0)
		return rc;
	if ((f->inode->exclusive && f->lock != EXCLUSIVE) || (exclusive && others > 0)) {
		unlock(f); /* as flock(2): a conversion lets the old lock go first */
		return sosie_err_set(err, SOSIE_EBUSY, "locked by another process");
	}
	unlock(f);
	f->lock = exclusive ? EXCLUSIVE : SHARED;
	f->inode->exclusive = exclusive;
	f->inode->shared += !exclusive;
	return 0;
}

/* --- names
 * ---------------------------------------------------------------------------------------------------------
 */

static int sim_mkdir(struct sosie_io *io, const char *path, uint32_t mode, struct sosie_err *err)
{
	struct place p;
	int rc = find(io, path, false, "make the folder", &p, err);

	if (rc != 0)
		return rc;
	if (p.inode)
		return sosie_err_sys(err, EEXIST, "cannot make the folder");
	create(io, &p, true, mode);
	return 0;
}

/* Whether dir is inode or somewhere below it. */
static bool is_below(const struct sim_inode *inode, const struct sim_inode *dir)
{
	if (inode == dir)
		return true;
	for (size_t i = 0; i < inode->names.count; i++)
		if (inode->names.entries[i].inode->dir && is_below(inode->names.entries[i].inode, dir))
			return true;
	return false;
}

static int rename_refused(const struct place *from, const struct place *to)
{
	if (!from->dir || !to->dir)
		return EBUSY; /* the root */
	if (from->inode->dir && is_below(from->inode, to->dir))
		return EINVAL;
	if (!to->inode)
		return 0;
	if (from->inode->dir && !to->inode->dir)
		return ENOTDIR;
	if (!from->inode->dir && to->inode->dir)
		return EISDIR;
	return to->inode->names.count > 0 ? ENOTEMPTY : 0;
}

static int sim_rename(struct sosie_io *io, const char *from, const char *to, struct sosie_err *err)
{
	struct place a, b;
	int sys, rc = find(io, from, true, "rename", &a, err);

	if (rc == 0)
		rc = find(io, to, false, "rename", &b, err);
	if (rc != 0)
		return rc;
	if (a.inode == b.inode)
		return 0;
	sys = rename_refused(&a, &b);
	if (sys != 0)
		return sosie_err_sys(err, sys, "cannot rename to %s", to);
	sim_names_change(as_sim(io)->disk,
	                 (const struct sim_setting[2]){{a.dir, a.name, NULL}, {b.dir, b.name, a.inode}}, 2);
	count(io, a.inode);
	return 0;
}

static int remove_name(struct sosie_io *io, struct place *p)
{
	sim_names_change(as_sim(io)->disk, &(struct sim_setting){p->dir, p->name, NULL}, 1);
	count(io, p->dir);
	return 0;
}

static int sim_unlink(struct sosie_io *io, const char *path, struct sosie_err *err)
{
	struct place p;
	int rc = find(io, path, true, "remove the file", &p, err);

	if (rc != 0)
		return rc;
	if (p.inode->dir)
		return sosie_err_sys(err, EISDIR, "cannot remove the file");
	return remove_name(io, &p);
}

static int sim_rmdir(struct sosie_io *io, const char *path, struct sosie_err *err)
{
	struct place p;
	int rc = find(io, path, true, "remove the folder", &p, err);

	if (rc != 0)
		return rc;
	if (!p.inode->dir)
		return sosie_err_sys(err, ENOTDIR, "cannot remove the folder");
	if (!p.dir || p.inode->names.count > 0)
		return sosie_err_sys(err, p.dir ? ENOTEMPTY : EBUSY, "cannot remove the folder");
	return remove_name(io, &p);
}

static int sim_chmod(struct sosie_io *io, const char *path, uint32_t mode, struct sosie_err *err)
{
	struct place p;
	int rc = find(io, path, true, "set the permissions", &p, err);

	if (rc != 0)
		return rc;
	p.inode->mode = mode;
	sim_change_add(p.inode, SIM_MODE, 0, mode);
	count(io, p.inode);
	return 0;
}

static int find_folder(struct sosie_io *io, const char *path, const char *what, struct place *p,
                       struct sosie_err *err)
{
	int rc = find(io, path, true, what, p, err);

	if (rc == 0 && !p->inode->dir)
		rc = sosie_err_sys(err, ENOTDIR, "cannot %s", what);
	return rc;
}

static int sim_sync_dir(struct sosie_io *io, const char *path, struct sosie_err *err)
{
	struct place p;
	int rc = find_folder(io, path, "sync the folder", &p, err);

	if (rc != 0)
		return rc;
	sim_names_sync(as_sim(io)->disk, p.inode);
	sim_data_sync(as_sim(io)->disk, p.inode);
	as_sim(io)->disk->operations++;
	return 0;
}

/* The names as they were: fn may change the folder. */
static int sim_list(struct sosie_io *io, const char *path, sosie_list_fn fn, void *arg, struct sosie_err *err)
{
	struct place p;
	int rc = find_folder(io, path, "read the folder", &p, err);
	struct listed {
		char *name;
		bool dir;
	} * all;
	size_t n, told = 0;
	bool stop = false;

	if (rc != 0)
		return rc;
	n = p.inode->names.count;
	all = sim_alloc((n + 1) * sizeof(*all));
	for (size_t i = 0; i < n; i++) {
		all[i].name = strdup(p.inode->names.entries[i].name);
		all[i].dir = p.inode->names.entries[i].inode->dir;
		if (!all[i].name)
			abort();
	}
	for (; told < n; told++) {
		if (!stop)
			stop = fn(arg, all[told].name, all[told].dir ? SOSIE_KIND_DIR : SOSIE_KIND_FILE) != 0;
		free(all[told].name);
	}
	free(all);
	return 0;
}

static int sim_space(struct sosie_io *io, const char *path, uint64_t *available, uint64_t *total,
                     struct sosie_err *err)
{
	const struct sosie_disk *disk = as_sim(io)->disk;
	struct place p;
	int rc = find(io, path, true, "ask for the free space", &p, err);

	if (rc != 0)
		return rc;
	*available = disk->used < disk->capacity ? (disk->capacity - disk->used) * SIM_PAGE : 0;
	*total = disk->capacity * SIM_PAGE;
	return 0;
}

/* --- requests
 * ------------------------------------------------------------------------------------------------------ */

static int run_read(const struct sim_file *f, struct sosie_req *req)
{
	const struct sim_map *map = &f->inode->live;
	const uint64_t left = req->offset < map->size ? map->size - req->offset : 0;

	if (!(f->flags & SOSIE_READ))
		return EBADF;
	req->got = req->len < left ? req->len : (size_t)left;
	sim_map_read(map, req->offset, req->buf, req->got);
	return 0;
}

static int run_write(struct sosie_io *io, const struct sim_file *f, struct sosie_req *req)
{
	struct sim_change *c;

	if (!(f->flags & SOSIE_WRITE))
		return EBADF;
	req->got = sim_map_write(as_sim(io)->disk, &f->inode->live, req->offset, req->buf, req->len);
	if (req->got > 0) {
		c = sim_change_add(f->inode, SIM_WRITE, req->offset, req->got);
		c->data = sim_alloc(req->got);
		memcpy(c->data, req->buf, req->got);
	}
	count(io, f->inode);
	return req->got == req->len ? 0 : ENOSPC;
}

static int run(struct sosie_io *io, struct sosie_req *req)
{
	const struct sim_file *f = as_file(req->file);

	req->got = 0;
	if (sosie_disk_is_cut(as_sim(io)->disk))
		return EIO;
	switch (req->op) {
	case SOSIE_OP_READ:
		return req->len > 0 ? run_read(f, req) : 0;
	case SOSIE_OP_WRITE:
		return req->len > 0 ? run_write(io, f, req) : 0;
	case SOSIE_OP_FSYNC:
		sim_data_sync(as_sim(io)->disk, f->inode);
		as_sim(io)->disk->operations++;
		return 0;
	}
	return EINVAL;
}

static void sim_submit(struct sosie_io *io, struct sosie_req *req)
{
	req->sys = run(io, req);
	as_sim(io)->in_flight++;
	req_list_push(&as_sim(io)->done, req);
}

static int sim_reap(struct sosie_io *io, unsigned min, struct sosie_err *err)
{
	struct sim_io *s = as_sim(io);
	const struct sosie_req *last = s->done.tail;
	bool past_last = false;
	int n = 0;

	(void)err;
	while (s->done.head && !(past_last && (unsigned)n >= min)) {
		struct sosie_req *req = req_list_pop(&s->done);
		past_last = past_last || req == last;
		s->in_flight--;
		n++;
		req->done(req);
	}
	return n;
}

static int sim_buffers(struct sosie_io *io, void *base, size_t len, struct sosie_err *err)
{
	(void)io;
	(void)base;
	(void)len;
	(void)err;
	return 0;
}

/* Files that a simulated crash left open are closed here. */
static void sim_destroy(struct sosie_io *io)
{
	struct sim_io *s = as_sim(io);

	assert(s->in_flight == 0);
	while (s->files)
		file_close(s->disk, s->files);
	s->disk->instances--;
	free(s);
}

static const struct sosie_io_ops sim_ops = {
        .name = "sim",
        .destroy = sim_destroy,
        .open = sim_open,
        .close = sim_close,
        .fstat = sim_fstat,
        .truncate = sim_truncate,
        .punch = sim_punch,
        .next_data = sim_next_data,
        .clone = sim_clone,
        .lock = sim_lock,
        .stat = sim_stat,
        .mkdir = sim_mkdir,
        .rename = sim_rename,
        .unlink = sim_unlink,
        .rmdir = sim_rmdir,
        .chmod = sim_chmod,
        .sync_dir = sim_sync_dir,
        .list = sim_list,
        .space = sim_space,
        .buffers = sim_buffers,
        .submit = sim_submit,
        .reap = sim_reap,
};

int sosie_io_sim(struct sosie_disk *disk, struct sosie_io **out, struct sosie_err *err)
{
	struct sim_io *s = sim_alloc(sizeof(*s));

	(void)err;
	s->io.ops = &sim_ops;
	s->disk = disk;
	disk->instances++;
	*out = &s->io;
	return 0;
}

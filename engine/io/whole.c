/* SPDX-License-Identifier: MIT */
/* Whole transfers, files and trees, made of the back end's calls. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/io/file.h"

#define PATH_TEXT_MAX 4096

/* --- waiting for one request
 * ------------------------------------------------------------------------------------- */

struct waiting {
	struct sosie_req req;
	bool done;
};

static void wake(struct sosie_req *req)
{
	((struct waiting *)req)->done = true;
}

/* Other requests of the instance may complete meanwhile. A ring that fails still owns the request and its
 * buffer: there is no way on. */
static void run_and_wait(struct sosie_io *io, struct waiting *w)
{
	w->req.done = wake;
	sosie_io_submit(io, &w->req);
	while (!w->done) {
		int n = sosie_io_reap(io, 1, NULL);
		assert(n >= 0);
		(void)n;
	}
}

int sosie_io_pread(struct sosie_io *io, struct sosie_file *file, void *buf, size_t len, uint64_t off,
                   size_t *got, struct sosie_err *err)
{
	struct waiting w = {
	        .req = {.op = SOSIE_OP_READ, .file = file, .buf = buf, .len = len, .offset = off}};

	run_and_wait(io, &w);
	*got = w.req.got;
	if (w.req.sys == 0)
		return 0;
	sosie_err_sys(err, w.req.sys, "cannot read %zu bytes at byte %llu", len, (unsigned long long)off);
	sosie_err_where(err, "%s", file->path);
	return sosie_err_sys(NULL, w.req.sys, "read");
}

/* A request's buffer is not const, because reads share it; a write does not change it. */
static void *writable(const void *buf)
{
	union {
		const void *in;
		void *out;
	} u = {.in = buf};

	return u.out;
}

int sosie_io_pwrite(struct sosie_io *io, struct sosie_file *file, const void *buf, size_t len, uint64_t off,
                    struct sosie_err *err)
{
	struct waiting w = {
	        .req = {.op = SOSIE_OP_WRITE, .file = file, .buf = writable(buf), .len = len, .offset = off}};

	run_and_wait(io, &w);
	if (w.req.sys == 0)
		return 0;
	sosie_err_sys(err, w.req.sys, "cannot write %zu bytes at byte %llu", len, (unsigned long long)off);
	sosie_err_where(err, "%s", file->path);
	return sosie_err_sys(NULL, w.req.sys, "write");
}

int sosie_io_fsync(struct sosie_io *io, struct sosie_file *file, struct sosie_err *err)
{
	struct waiting w = {.req = {.op = SOSIE_OP_FSYNC, .file = file}};

	run_and_wait(io, &w);
	if (w.req.sys == 0)
		return 0;
	sosie_err_sys(err, w.req.sys, "cannot sync: what was written may be lost");
	sosie_err_where(err, "%s", file->path);
	return sosie_err_sys(NULL, w.req.sys, "fsync");
}

/* --- whole files
 * --------------------------------------------------------------------------------------------------- */

static int check_readable_whole(const struct sosie_stat *st, const char *path, size_t max,
                                struct sosie_err *err)
{
	int rc = 0;

	/* No link left: it was replaced after it was opened, and is whole. */
	if (st->links > 1)
		rc = sosie_err_set(err, SOSIE_ECORRUPT, "file has %llu names, one is allowed",
		                   (unsigned long long)st->links);
	else if (st->size > max)
		rc = sosie_err_set(err, SOSIE_ECORRUPT, "file of %llu bytes is longer than the %zu allowed",
		                   (unsigned long long)st->size, max);
	if (rc != 0)
		sosie_err_where(err, "%s", path);
	return rc;
}

int sosie_io_read_file(struct sosie_io *io, const char *path, size_t max, char **out, size_t *len,
                       struct sosie_err *err)
{
	struct sosie_file *file;
	struct sosie_stat st;
	char *text = NULL;
	int rc;

	*out = NULL;
	*len = 0;
	rc = sosie_io_openat(io, path, SOSIE_READ, 0, &file, err);
	if (rc != 0)
		return rc;
	rc = sosie_io_fstat(io, file, &st, err);
	if (rc == 0)
		rc = check_readable_whole(&st, path, max, err);
	if (rc != 0)
		goto close_file;
	text = malloc((size_t)st.size + 1);
	if (!text) {
		rc = sosie_err_sys(err, ENOMEM, "cannot read the file");
		goto close_file;
	}
	rc = sosie_io_pread(io, file, text, (size_t)st.size, 0, len, err);

close_file:
	if (rc == 0) {
		rc = sosie_io_close(io, file, err);
	} else {
		(void)sosie_io_close(io, file, NULL);
	}
	if (rc != 0) {
		free(text);
		*len = 0;
		return rc;
	}
	text[*len] = '\0';
	*out = text;
	return 0;
}

/* The folder that holds path. */
static int parent_of(const char *path, char dst[PATH_TEXT_MAX], struct sosie_err *err)
{
	const char *slash = strrchr(path, '/');
	size_t len = slash ? (size_t)(slash - path) : 0;

	if (len >= PATH_TEXT_MAX)
		return sosie_err_set(err, SOSIE_EIO, "path is too long");
	if (!slash) {
		memcpy(dst, ".", 2);
	} else if (len == 0) {
		memcpy(dst, "/", 2);
	} else {
		memcpy(dst, path, len);
		dst[len] = '\0';
	}
	return 0;
}

/* The permissions as asked, whatever the umask. Bits above them, such as the setgid bit that a folder has
 * from the one above, are asked for again. (chmod takes setgid away where the caller is not of that group:
 * programs that rely on it choose a umask that leaves nothing to be done here.) */
static int exact_mode(struct sosie_io *io, const char *path, uint32_t mode, struct sosie_err *err)
{
	struct sosie_stat st;
	int rc = sosie_io_stat(io, path, &st, err);

	return rc != 0 || (st.mode & 0777) == mode ? rc
	                                           : sosie_io_chmod(io, path, mode | (st.mode & 07000), err);
}

static int create_afresh(struct sosie_io *io, const char *path, uint32_t mode, struct sosie_file **out,
                         struct sosie_err *err)
{
	const unsigned flags = SOSIE_WRITE | SOSIE_CREATE | SOSIE_EXCL;
	int rc = sosie_io_openat(io, path, flags, mode, out, err);

	if (rc != -SOSIE_EEXISTS)
		return rc;
	rc = sosie_io_unlink(io, path, err); /* left by a crash */
	return rc != 0 ? rc : sosie_io_openat(io, path, flags, mode, out, err);
}

static int write_temporary(struct sosie_io *io, const char *path, const void *data, size_t len, uint32_t mode,
                           struct sosie_err *err)
{
	struct sosie_file *file;
	int rc = create_afresh(io, path, mode, &file, err);

	if (rc != 0)
		return rc;
	rc = sosie_io_pwrite(io, file, data, len, 0, err);
	if (rc == 0)
		rc = exact_mode(io, path, mode, err);
	if (rc == 0)
		rc = sosie_io_fsync(io, file, err);
	if (rc == 0)
		return sosie_io_close(io, file, err);
	(void)sosie_io_close(io, file, NULL);
	return rc;
}

int sosie_io_write_file(struct sosie_io *io, const char *path, const void *data, size_t len, uint32_t mode,
                        struct sosie_err *err)
{
	char temporary[PATH_TEXT_MAX], parent[PATH_TEXT_MAX];
	int n = snprintf(temporary, sizeof(temporary), "%s.tmp", path);
	int rc;

	if (n < 0 || (size_t)n >= sizeof(temporary))
		return sosie_err_set(err, SOSIE_EIO, "path is too long");
	rc = parent_of(path, parent, err);
	if (rc != 0)
		return rc;
	rc = write_temporary(io, temporary, data, len, mode, err);
	if (rc == 0)
		rc = sosie_io_rename(io, temporary, path, err);
	if (rc == 0)
		return sosie_io_sync_dir(io, parent, err);
	(void)sosie_io_unlink(io, temporary, NULL);
	return rc;
}

/* --- folders
 * ------------------------------------------------------------------------------------------------------- */

int sosie_io_ensure_dir(struct sosie_io *io, const char *path, uint32_t mode, struct sosie_err *err)
{
	char parent[PATH_TEXT_MAX];
	struct sosie_stat st;
	int rc = parent_of(path, parent, err);

	if (rc != 0)
		return rc;
	if (sosie_io_stat(io, path, &st, NULL) == 0 && st.kind == SOSIE_KIND_DIR)
		return 0;
	rc = sosie_io_mkdir(io, path, mode, err);
	if (rc != 0)
		return rc;
	rc = exact_mode(io, path, mode, err);
	return rc != 0 ? rc : sosie_io_sync_dir(io, parent, err);
}

bool sosie_io_exists(struct sosie_io *io, const char *path)
{
	struct sosie_stat st;

	return sosie_io_stat(io, path, &st, NULL) == 0;
}

/* The names of a folder, gathered before anything in it is removed. */
struct names {
	struct entry {
		struct entry *next;
		bool dir;
		char name[];
	} * head;
	bool no_memory;
};

static int gather(void *arg, const char *name, enum sosie_file_kind kind)
{
	struct names *names = arg;
	const size_t len = strlen(name);
	struct entry *e = malloc(sizeof(*e) + len + 1);

	if (!e) {
		names->no_memory = true;
		return 1;
	}
	memcpy(e->name, name, len + 1);
	e->dir = kind == SOSIE_KIND_DIR;
	e->next = names->head;
	names->head = e;
	return 0;
}

static void names_free(struct names *names)
{
	for (struct entry *e = names->head, *next; e; e = next) {
		next = e->next;
		free(e);
	}
}

static int missing_is_fine(int rc, struct sosie_err *err)
{
	if (rc != -SOSIE_ENOTFOUND)
		return rc;
	sosie_err_clear(err);
	return 0;
}

static int remove_folder(struct sosie_io *io, const char *path, uint64_t dev, struct sosie_err *err);

static int remove_entry(struct sosie_io *io, const char *folder, const struct entry *e, uint64_t dev,
                        struct sosie_err *err)
{
	const size_t size = strlen(folder) + strlen(e->name) + 2;
	char *path = malloc(size);
	int rc;

	if (!path)
		return sosie_err_sys(err, ENOMEM, "cannot remove the folder");
	snprintf(path, size, "%s/%s", folder, e->name);
	if (e->dir)
		rc = remove_folder(io, path, dev, err);
	else
		rc = missing_is_fine(sosie_io_unlink(io, path, err), err);
	free(path);
	return rc;
}

static int remove_folder(struct sosie_io *io, const char *path, uint64_t dev, struct sosie_err *err)
{
	struct names names = {NULL, false};
	struct sosie_stat st;
	int rc = sosie_io_stat(io, path, &st, err);

	if (rc != 0)
		return missing_is_fine(rc, err);
	if (st.dev != dev) {
		sosie_err_set(err, SOSIE_EBUSY, "not removed: something is mounted here");
		sosie_err_where(err, "%s", path);
		return -SOSIE_EBUSY;
	}
	rc = sosie_io_list(io, path, gather, &names, err);
	if (rc == 0 && names.no_memory)
		rc = sosie_err_sys(err, ENOMEM, "cannot remove the folder");
	for (const struct entry *e = names.head; e && rc == 0; e = e->next)
		rc = remove_entry(io, path, e, dev, err);
	names_free(&names);
	return rc != 0 ? rc : missing_is_fine(sosie_io_rmdir(io, path, err), err);
}

int sosie_io_remove_tree(struct sosie_io *io, const char *path, struct sosie_err *err)
{
	struct sosie_stat st;
	int rc = sosie_io_stat(io, path, &st, err);

	if (rc != 0)
		return missing_is_fine(rc, err);
	if (st.kind != SOSIE_KIND_DIR)
		return missing_is_fine(sosie_io_unlink(io, path, err), err);
	return remove_folder(io, path, st.dev, err);
}

/* SPDX-License-Identifier: MIT */
/*
 * The receiver's half of a store: one tenant's inbox to write to and outbox to read from (docs/format.md,
 * "Store"). No ring, no codec, no JSON.
 *
 * An upload is a set of files UPLOAD.* in _inbox/GROUP: UPLOAD.lock (empty, first made, last removed),
 * UPLOAD.key, UPLOAD.K for each part, UPLOAD.manifest: committed. Invariants:
 *   - a session that has an upload open holds a shared flock on its lock; who removes one holds it
 * exclusively, so a live one never goes;
 *   - commits of one upload are serialised by an exclusive flock on UPLOAD.key;
 *   - what is told as durable is: file, then directory; the manifest's name appears after all that it refers
 * to;
 *   - a file whose fsync failed is removed and never tried again (a later fsync would lie);
 *   - the bytes in the tenant's inbox are bounded by `upload_bytes`, idle uploads by `uploads`, folders and
 * waiting commits by constants.
 */
#include "sosie/inbox.h"
#include "sosie/bytes.h"
#include "sosie/message.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH_SIZE 4096u
#define STORE_PATH_MAX 3500u
#define FILE_MODE 0640u
#define DIR_MODE 0750u
#define ID_HEX 32u
#define KEY_HEX 16u
#define HOLDS 8u            /* uploads that one session keeps locked */
#define GROUPS_MAX 1024u    /* folders in a tenant's inbox */
#define COMMITTED_MAX 1024u /* uploads of a group that wait for the keeper */
#define NAMES_MAX 65536u    /* names in one folder that are looked at */
#define LIMITS_SIZE 4096u
#define RECOUNT_BYTES (64u << 20)
#define SAME_TRIES 200u
#define UPLOAD_BYTES_DEFAULT (1ull << 40)
#define UPLOADS_DEFAULT 4u
#define UPLOADS_MAX 64u

struct limits {
	uint64_t upload_bytes; /* in the whole inbox of the tenant; 0: no limit */
	uint64_t uploads, parts;
};

struct hold {
	struct sosie_file *lock; /* NULL: free */
	struct sosie_name group;
	struct sosie_upload_id id;
};

struct open_part {
	struct sosie_file *file; /* NULL: none */
	struct sosie_name group;
	bool named; /* its name in the folder is durable */
	uint64_t written, durable;
	uint64_t room, counted; /* bytes that could be written when `counted` were; UINT64_MAX: no limit */
	char path[PATH_SIZE];
};

struct sosie_inbox {
	struct sosie_io *io;
	struct sosie_clock *clock;
	struct sosie_name tenant;
	struct sosie_store_id store;
	struct limits limits;
	char key[KEY_HEX + 1];
	char base[STORE_PATH_MAX + SOSIE_NAME_MAX + 2]; /* STORE/TENANT */
	struct hold holds[HOLDS];
	unsigned next_hold;
	struct open_part part;
};

/* --- paths and names
 * ---------------------------------------------------------------------------------------------- */
struct path {
	char s[PATH_SIZE];
};

__attribute__((format(printf, 3, 4))) static const char *path_of(const struct sosie_inbox *in, struct path *p,
                                                                 const char *fmt, ...)
{
	va_list args;
	size_t base = strlen(in->base);
	memcpy(p->s, in->base, base);
	p->s[base] = '/';
	va_start(args, fmt);
	int n = vsnprintf(p->s + base + 1, sizeof p->s - base - 1, fmt, args);
	va_end(args);
	assert(n > 0 && (size_t)n < sizeof p->s - base - 1); /* all parts are bounded names */
	return p->s;
}

static const char *inbox_dir(const struct sosie_inbox *in, struct path *p, const struct sosie_name *group)
{
	return path_of(in, p, "_inbox/%s", group->s);
}

static const char *upload_file(const struct sosie_inbox *in, struct path *p, const struct sosie_name *group,
                               const struct sosie_upload_id *id, const char *suffix)
{
	char hex[ID_HEX + 1];
	sosie_hex(hex, id->b, sizeof id->b);
	return path_of(in, p, "_inbox/%s/%s.%s", group->s, hex, suffix);
}

static const char *answer_file(const struct sosie_inbox *in, struct path *p, const struct sosie_name *group,
                               const struct sosie_upload_id *id, const char *suffix)
{
	char hex[ID_HEX + 1];
	sosie_hex(hex, id->b, sizeof id->b);
	return path_of(in, p, "_outbox/%s/%s.%s", group->s, hex, suffix);
}

/* What a folder holds, as far as it can be ours: longer names are skipped. */
struct names {
	struct dir_name {
		char s[SOSIE_NAME_MAX + 1];
		enum sosie_file_kind kind;
	} * list;
	size_t count, size;
	bool memory; /* there was not enough */
};

static int names_add(void *arg, const char *name, enum sosie_file_kind kind)
{
	struct names *n = arg;
	size_t len = strlen(name);
	if (len > SOSIE_NAME_MAX)
		return 0;
	if (n->count == NAMES_MAX)
		return 1;
	if (n->count == n->size) {
		size_t size = n->size ? 2 * n->size : 64;
		struct dir_name *list = realloc(n->list, size * sizeof *list);
		n->memory = !list;
		if (!list)
			return 1;
		n->list = list;
		n->size = size;
	}
	memcpy(n->list[n->count].s, name, len + 1);
	n->list[n->count++].kind = kind;
	return 0;
}

/* The caller frees n->list, also after an error. A folder that is not there has no names. */
static int names_of(struct sosie_inbox *in, const char *dir, struct names *n, struct sosie_err *err)
{
	*n = (struct names){0};
	int rc = sosie_io_list(in->io, dir, names_add, n, err);
	if (rc == -SOSIE_ENOTFOUND)
		return 0;
	if (rc < 0 && !n->memory && n->count < NAMES_MAX)
		return rc;
	if (n->memory)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory to look at the inbox");
	if (n->count == NAMES_MAX) {
		sosie_err_set(err, SOSIE_EQUOTA, "the inbox of tenant %s holds too many files", in->tenant.s);
		return sosie_err_action(err, "see whether the standby's keeper runs: it empties the inbox");
	}
	return 0;
}

static bool number_parse(const char *s, size_t len, uint64_t *out)
{
	uint64_t v = 0;
	if (!len || len > 20)
		return false;
	for (size_t i = 0; i < len; i++)
		if (s[i] < '0' || s[i] > '9' || !sosie_mul_u64(v, 10, &v) ||
		    !sosie_add_u64(v, (uint64_t)(s[i] - '0'), &v))
			return false;
	*out = v;
	return true;
}

/* UPLOAD.SUFFIX: false for anything else. */
static bool upload_name(const char *name, struct sosie_upload_id *id, const char **suffix)
{
	char hex[ID_HEX + 1];
	if (strnlen(name, ID_HEX + 2) < ID_HEX + 2 || name[ID_HEX] != '.')
		return false;
	memcpy(hex, name, ID_HEX);
	hex[ID_HEX] = '\0';
	*suffix = name + ID_HEX + 1;
	return sosie_unhex(id->b, sizeof id->b, hex);
}

static bool id_equal(const struct sosie_upload_id *a, const struct sosie_upload_id *b)
{
	return !memcmp(a->b, b->b, sizeof a->b);
}

/* --- limits and keys
 * ---------------------------------------------------------------------------------------------- */
static int limits_bad(const char *path, struct sosie_err *err)
{
	sosie_err_set(err, SOSIE_ECORRUPT, "the limits for receivers are not readable");
	sosie_err_where(err, "%s", path);
	return sosie_err_action(err, "at the standby, start the keeper: it writes them anew");
}

static bool limit_line(struct sosie_inbox *in, const char *line, size_t len, bool *store)
{
	char hex[ID_HEX + 1];
	const char *eq = memchr(line, '=', len);
	if (!eq)
		return false;
	size_t name = (size_t)(eq - line), left = len - name - 1;
	const char *value = eq + 1;
	if (name == 5 && !memcmp(line, "store", 5)) {
		if (left != ID_HEX)
			return false;
		memcpy(hex, value, ID_HEX);
		hex[ID_HEX] = '\0';
		*store = true;
		return sosie_unhex(in->store.b, sizeof in->store.b, hex);
	}
	if (name == 12 && !memcmp(line, "upload_bytes", 12))
		return number_parse(value, left, &in->limits.upload_bytes);
	if (name == 7 && !memcmp(line, "uploads", 7))
		return number_parse(value, left, &in->limits.uploads);
	if (name == 5 && !memcmp(line, "parts", 5))
		return number_parse(value, left, &in->limits.parts);
	return true; /* of a later release */
}

static bool limits_parse(struct sosie_inbox *in, const char *text, size_t len)
{
	bool store = false;
	in->limits = (struct limits){UPLOAD_BYTES_DEFAULT, UPLOADS_DEFAULT, SOSIE_PARTS_MAX};
	while (len) {
		const char *end = memchr(text, '\n', len);
		size_t line = end ? (size_t)(end - text) : len;
		if (line && !limit_line(in, text, line, &store))
			return false;
		text += line + (end ? 1 : 0);
		len -= line + (end ? 1 : 0);
	}
	if (!in->limits.uploads || in->limits.uploads > UPLOADS_MAX)
		in->limits.uploads = in->limits.uploads ? UPLOADS_MAX : 1;
	if (!in->limits.parts || in->limits.parts > SOSIE_PARTS_MAX)
		in->limits.parts = in->limits.parts ? SOSIE_PARTS_MAX : 1;
	return store;
}

static int limits_read(struct sosie_inbox *in, struct sosie_err *err)
{
	struct path p;
	char *text;
	size_t len;
	const char *path = path_of(in, &p, "_outbox/limits");
	int rc = sosie_io_read_file(in->io, path, LIMITS_SIZE, &text, &len, err);
	if (rc == -SOSIE_ENOTFOUND) {
		sosie_err_set(err, SOSIE_ENOTFOUND, "the standby has no tenant %s in this store",
		              in->tenant.s);
		sosie_err_where(err, "%s", in->base);
		return sosie_err_action(err, "at the standby, add it: sosie tenant add");
	}
	if (rc)
		return rc;
	if (!limits_parse(in, text, len))
		rc = limits_bad(path, err);
	free(text);
	return rc;
}

static int key_check(struct sosie_inbox *in, struct sosie_err *err)
{
	struct path p;
	struct sosie_stat st;
	int rc = sosie_io_stat(in->io, path_of(in, &p, "_keys/%s.json", in->key), &st, err);
	if (rc != -SOSIE_ENOTFOUND)
		return rc;
	sosie_err_set(err, SOSIE_EAUTH, "key %s is not registered for tenant %s", in->key, in->tenant.s);
	return sosie_err_action(
	        err, "register the key at the standby, and remove it from authorized_keys if it was revoked");
}

int sosie_inbox_open(struct sosie_io *io, struct sosie_clock *clock, const char *store, const char *tenant,
                     const char *key, struct sosie_inbox **out, struct sosie_err *err)
{
	uint8_t key_bytes[KEY_HEX / 2];
	*out = NULL;
	if (!*store || strlen(store) > STORE_PATH_MAX)
		return sosie_err_set(err, SOSIE_EUSAGE, "the path of the store is empty or longer than %u",
		                     STORE_PATH_MAX);
	if (!sosie_unhex(key_bytes, sizeof key_bytes, key))
		return sosie_err_set(err, SOSIE_EUSAGE, "a key id is %u lower-case hexadecimal digits",
		                     KEY_HEX);
	struct sosie_inbox *in = calloc(1, sizeof *in);
	if (!in)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for an inbox");
	in->io = io;
	in->clock = clock;
	memcpy(in->key, key, KEY_HEX + 1);
	int rc = sosie_name_set(&in->tenant, SOSIE_NAME_TENANT, tenant, err);
	if (!rc) {
		snprintf(in->base, sizeof in->base, "%s/%s", store, in->tenant.s);
		rc = limits_read(in, err);
	}
	if (!rc)
		rc = key_check(in, err);
	if (rc) {
		free(in);
		return rc;
	}
	*out = in;
	return 0;
}

static void part_drop(struct sosie_inbox *in)
{
	sosie_io_close(in->io, in->part.file, NULL);
	in->part.file = NULL;
}

static void hold_release(struct sosie_inbox *in, struct hold *h)
{
	sosie_io_close(in->io, h->lock, NULL);
	h->lock = NULL;
}

void sosie_inbox_close(struct sosie_inbox *in)
{
	if (!in)
		return;
	part_drop(in);
	for (unsigned i = 0; i < HOLDS; i++)
		hold_release(in, &in->holds[i]);
	free(in);
}

void sosie_inbox_store_id(const struct sosie_inbox *in, struct sosie_store_id *out)
{
	*out = in->store;
}

const struct sosie_name *sosie_inbox_tenant(const struct sosie_inbox *in)
{
	return &in->tenant;
}

/* --- the keeper's bell
 * -------------------------------------------------------------------------------------------- */
/* The FIFO opened for writing, or -1: no keeper has it open for reading, or there is none (as on a simulated
 * disk). */
static int bell_open(struct sosie_inbox *in)
{
	struct path p;
	struct sosie_stat st;
	struct stat real;
	const char *path = path_of(in, &p, "_inbox/notify");
	if (sosie_io_stat(in->io, path, &st, NULL) || st.kind != SOSIE_KIND_OTHER)
		return -1;
	int fd = open(path, O_WRONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
	if (fd >= 0 && (fstat(fd, &real) || !S_ISFIFO(real.st_mode))) {
		close(fd);
		return -1;
	}
	return fd;
}

bool sosie_inbox_keeper(struct sosie_inbox *in)
{
	int fd = bell_open(in);
	if (fd < 0)
		return false;
	close(fd);
	return true;
}

/* A full FIFO is as good: the keeper has not looked yet. */
static void bell_ring(struct sosie_inbox *in)
{
	int fd = bell_open(in);
	if (fd < 0)
		return;
	ssize_t n = write(fd, "\n", 1);
	(void)n;
	close(fd);
}

/* --- uploads that this session has open
 * --------------------------------------------------------------------------- */
static struct hold *hold_find(struct sosie_inbox *in, const struct sosie_name *group,
                              const struct sosie_upload_id *id)
{
	for (unsigned i = 0; i < HOLDS; i++) {
		struct hold *h = &in->holds[i];
		if (h->lock && id_equal(&h->id, id) && !strcmp(h->group.s, group->s))
			return h;
	}
	return NULL;
}

/* Takes over the locked file; the one held longest gives way when there are too many. */
static void hold_add(struct sosie_inbox *in, const struct sosie_name *group, const struct sosie_upload_id *id,
                     struct sosie_file *lock)
{
	struct hold *h = &in->holds[in->next_hold];
	for (unsigned i = 0; i < HOLDS; i++)
		if (!in->holds[i].lock)
			h = &in->holds[i];
	if (h->lock)
		in->next_hold = (in->next_hold + 1) % HOLDS;
	hold_release(in, h);
	*h = (struct hold){lock, *group, *id};
}

static int no_upload(const struct sosie_name *group, const struct sosie_upload_id *id, struct sosie_err *err)
{
	char hex[ID_HEX + 1];
	sosie_hex(hex, id->b, sizeof id->b);
	return sosie_err_set(err, SOSIE_ENOTFOUND, "the standby has no upload %s of group %s", hex, group->s);
}

/* Between our open and our lock the upload may have been removed: the name must still lead to the file that
 * was locked. */
static int hold_verify(struct sosie_inbox *in, const char *path, struct sosie_file *lock,
                       struct sosie_err *err)
{
	struct sosie_stat named, locked;
	int rc = sosie_io_lock(in->io, lock, false, err);
	if (!rc)
		rc = sosie_io_fstat(in->io, lock, &locked, err);
	if (!rc)
		rc = sosie_io_stat(in->io, path, &named, err);
	if (!rc && (named.ino != locked.ino || named.dev != locked.dev))
		rc = sosie_err_set(err, SOSIE_ENOTFOUND, "the upload was removed");
	return rc;
}

/* The upload is there and cannot be removed while this session lives. */
static int hold_take(struct sosie_inbox *in, const struct sosie_name *group, const struct sosie_upload_id *id,
                     struct sosie_err *err)
{
	struct path p;
	struct sosie_file *lock;
	if (hold_find(in, group, id))
		return 0;
	const char *path = upload_file(in, &p, group, id, "lock");
	int rc = sosie_io_openat(in->io, path, SOSIE_READ | SOSIE_WRITE, FILE_MODE, &lock, err);
	if (rc)
		return rc == -SOSIE_ENOTFOUND ? no_upload(group, id, err) : rc;
	rc = hold_verify(in, path, lock, err);
	if (rc) {
		sosie_io_close(in->io, lock, NULL);
		return rc == -SOSIE_ENOTFOUND ? no_upload(group, id, err) : rc;
	}
	hold_add(in, group, id, lock);
	return 0;
}

/* Its manifest lies in the inbox, or the keeper has already said what became of it. */
static int is_committed(struct sosie_inbox *in, const struct sosie_name *group,
                        const struct sosie_upload_id *id, bool *yes, struct sosie_err *err)
{
	struct path p;
	struct sosie_stat st;
	int rc = sosie_io_stat(in->io, upload_file(in, &p, group, id, "manifest"), &st, err);
	if (rc == -SOSIE_ENOTFOUND)
		rc = sosie_io_stat(in->io, answer_file(in, &p, group, id, "verdict"), &st, err);
	*yes = !rc;
	return rc == -SOSIE_ENOTFOUND ? 0 : rc;
}

/* --- begin
 * -------------------------------------------------------------------------------------------------------- */
static int group_folder(struct sosie_inbox *in, const struct sosie_name *group, struct sosie_err *err)
{
	struct path dir, inbox;
	struct names names;
	struct sosie_stat st;
	size_t folders = 0;
	int rc = sosie_io_stat(in->io, inbox_dir(in, &dir, group), &st, err);
	if (rc != -SOSIE_ENOTFOUND)
		return rc;
	rc = names_of(in, path_of(in, &inbox, "_inbox"), &names, err);
	for (size_t i = 0; i < names.count; i++)
		folders += names.list[i].kind == SOSIE_KIND_DIR;
	free(names.list);
	if (!rc && folders >= GROUPS_MAX)
		return sosie_err_set(err, SOSIE_EQUOTA, "tenant %s has folders for %u groups already",
		                     in->tenant.s, GROUPS_MAX);
	if (!rc)
		rc = sosie_io_mkdir(in->io, dir.s, DIR_MODE, err);
	if (rc && rc != -SOSIE_EEXISTS)
		return rc;
	return sosie_io_sync_dir(in->io, inbox.s, err);
}

/* Removes all of an upload, its lock last. lock: held exclusively. */
static int upload_remove(struct sosie_inbox *in, const struct sosie_name *group,
                         const struct sosie_upload_id *id, const struct names *names, struct sosie_err *err)
{
	struct path p;
	int rc = 0;
	for (size_t i = 0; i < names->count && !rc; i++) {
		struct sosie_upload_id other;
		const char *suffix;
		if (!upload_name(names->list[i].s, &other, &suffix) || !id_equal(&other, id) ||
		    !strcmp(suffix, "lock"))
			continue;
		rc = sosie_io_unlink(in->io, upload_file(in, &p, group, id, suffix), err);
		rc = rc == -SOSIE_ENOTFOUND ? 0 : rc;
	}
	return rc ? rc : sosie_io_unlink(in->io, upload_file(in, &p, group, id, "lock"), err);
}

/* *removed false: a living session has it open, or it was committed meanwhile. */
static int upload_evict(struct sosie_inbox *in, const struct sosie_name *group,
                        const struct sosie_upload_id *id, const struct names *names, bool *removed,
                        struct sosie_err *err)
{
	struct path p;
	struct sosie_file *lock;
	bool committed = false;
	*removed = false;
	int rc = sosie_io_openat(in->io, upload_file(in, &p, group, id, "lock"), SOSIE_READ | SOSIE_WRITE,
	                         FILE_MODE, &lock, err);
	if (rc)
		return rc == -SOSIE_ENOTFOUND ? 0 : rc;
	rc = sosie_io_lock(in->io, lock, true, err);
	if (!rc)
		rc = is_committed(in, group, id, &committed, err);
	if (!rc && !committed) {
		rc = upload_remove(in, group, id, names, err);
		*removed = !rc;
	}
	sosie_io_close(in->io, lock, NULL);
	return rc == -SOSIE_EBUSY ? 0 : rc;
}

struct idle {
	struct sosie_upload_id id;
	int64_t mtime_ms;
	bool committed;
};

static int idle_order(const void *a, const void *b)
{
	const struct idle *x = a, *y = b;
	if (x->committed != y->committed)
		return x->committed ? 1 : -1;
	return (x->mtime_ms > y->mtime_ms) - (x->mtime_ms < y->mtime_ms);
}

static bool has_manifest(const struct names *names, const struct sosie_upload_id *id)
{
	for (size_t i = 0; i < names->count; i++) {
		struct sosie_upload_id other;
		const char *suffix;
		if (upload_name(names->list[i].s, &other, &suffix) && id_equal(&other, id) &&
		    !strcmp(suffix, "manifest"))
			return true;
	}
	return false;
}

/* The group's uploads, those not committed first, oldest first. The caller frees *out. */
static int uploads_of(struct sosie_inbox *in, const struct sosie_name *group, const struct names *names,
                      struct idle **out, size_t *open, size_t *committed, struct sosie_err *err)
{
	struct path p;
	size_t count = 0;
	*open = *committed = 0;
	*out = calloc(names->count + 1, sizeof **out);
	if (!*out)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory to look at the inbox");
	for (size_t i = 0; i < names->count; i++) {
		struct idle *u = &(*out)[count];
		struct sosie_stat st;
		const char *suffix;
		if (!upload_name(names->list[i].s, &u->id, &suffix) || strcmp(suffix, "lock"))
			continue;
		int rc = sosie_io_stat(in->io, upload_file(in, &p, group, &u->id, "lock"), &st, err);
		if (rc == -SOSIE_ENOTFOUND)
			continue;
		if (rc)
			return rc;
		u->mtime_ms = st.mtime_ms;
		u->committed = has_manifest(names, &u->id);
		*(u->committed ? committed : open) += 1;
		count++;
	}
	qsort(*out, count, sizeof **out, idle_order);
	return 0;
}

static int too_many(const struct sosie_name *group, size_t open, struct sosie_err *err)
{
	sosie_err_set(err, SOSIE_EBUSY, "group %s has %zu uploads that living sessions have open", group->s,
	              open);
	return sosie_err_action(err, "end the other sources of this group, or wait until they are done");
}

/* Makes room for one more upload: the oldest ones go that nobody has open. */
static int begin_room(struct sosie_inbox *in, const struct sosie_name *group, struct sosie_err *err)
{
	struct path p;
	struct names names;
	struct idle *uploads = NULL;
	size_t open = 0, committed = 0, total;
	int rc = names_of(in, inbox_dir(in, &p, group), &names, err);
	if (!rc)
		rc = uploads_of(in, group, &names, &uploads, &open, &committed, err);
	if (!rc && committed >= COMMITTED_MAX) {
		sosie_err_set(err, SOSIE_EBUSY, "group %s has %zu uploads that wait for the keeper", group->s,
		              committed);
		rc = sosie_err_action(err, "at the standby, see whether the keeper runs");
	}
	total = open;
	for (size_t i = 0; i < total && !rc && open >= in->limits.uploads; i++) {
		bool removed;
		rc = upload_evict(in, group, &uploads[i].id, &names, &removed, err);
		open -= !rc && removed;
	}
	free(uploads);
	free(names.list);
	return !rc && open >= in->limits.uploads ? too_many(group, open, err) : rc;
}

static int key_write(struct sosie_inbox *in, const char *path, struct sosie_err *err)
{
	struct sosie_file *f;
	int rc = sosie_io_openat(in->io, path, SOSIE_WRITE | SOSIE_CREATE | SOSIE_EXCL, FILE_MODE, &f, err);
	if (rc)
		return rc;
	rc = sosie_io_pwrite(in->io, f, in->key, KEY_HEX, 0, err);
	if (!rc)
		rc = sosie_io_fsync(in->io, f, err);
	int closed = sosie_io_close(in->io, f, rc ? NULL : err);
	return rc ? rc : closed;
}

int sosie_inbox_begin(struct sosie_inbox *in, const struct sosie_name *group, enum sosie_manifest_kind kind,
                      struct sosie_upload_id *out, struct sosie_err *err)
{
	struct path p;
	struct sosie_file *lock;
	(void)kind; /* both kinds are stored alike; the manifest says which it is */
	int rc = key_check(in, err);
	if (!rc)
		rc = limits_read(in, err);
	if (!rc)
		rc = group_folder(in, group, err);
	if (!rc)
		rc = begin_room(in, group, err);
	if (!rc)
		rc = sosie_random(in->clock, out->b, sizeof out->b, err);
	if (!rc)
		rc = sosie_io_openat(in->io, upload_file(in, &p, group, out, "lock"),
		                     SOSIE_READ | SOSIE_WRITE | SOSIE_CREATE | SOSIE_EXCL, FILE_MODE, &lock,
		                     err);
	if (rc)
		return rc;
	rc = hold_verify(in, p.s, lock, err);
	if (!rc)
		rc = key_write(in, upload_file(in, &p, group, out, "key"), err);
	if (rc) {
		sosie_io_unlink(in->io, upload_file(in, &p, group, out, "key"), NULL);
		sosie_io_unlink(in->io, upload_file(in, &p, group, out, "lock"), NULL);
		sosie_io_close(in->io, lock, NULL);
		return rc;
	}
	hold_add(in, group, out, lock);
	return 0;
}

/* --- join
 * ---------------------------------------------------------------------------------------------------------
 */
static int part_order(const void *a, const void *b)
{
	const struct sosie_part_state *x = a, *y = b;
	return (x->index > y->index) - (x->index < y->index);
}

/* How long a part is, once that is durable. One whose fsync fails is lost and goes. */
static int part_measure(struct sosie_inbox *in, const char *path, bool committed, uint64_t *size,
                        struct sosie_err *err)
{
	struct sosie_file *f;
	struct sosie_stat st;
	int rc = sosie_io_openat(in->io, path, committed ? SOSIE_READ : SOSIE_READ | SOSIE_WRITE, FILE_MODE,
	                         &f, err);
	if (rc)
		return rc;
	rc = sosie_io_fstat(in->io, f, &st, err);
	if (!rc && !committed) {
		rc = sosie_io_fsync(in->io, f, err);
		if (rc)
			sosie_io_unlink(in->io, path, NULL);
	}
	sosie_io_close(in->io, f, NULL);
	*size = rc ? 0 : st.size;
	return rc;
}

static int parts_measure(struct sosie_inbox *in, const struct sosie_name *group,
                         const struct sosie_upload_id *id, bool committed, const struct names *names,
                         struct sosie_part_state *parts, uint32_t *count, struct sosie_err *err)
{
	struct path p;
	for (size_t i = 0; i < names->count && *count < SOSIE_PARTS_MAX; i++) {
		struct sosie_upload_id other;
		const char *suffix;
		uint64_t index, size;
		if (!upload_name(names->list[i].s, &other, &suffix) || !id_equal(&other, id) ||
		    !number_parse(suffix, strlen(suffix), &index) || index >= SOSIE_PARTS_MAX)
			continue;
		int rc = part_measure(in, upload_file(in, &p, group, id, suffix), committed, &size, err);
		if (rc == -SOSIE_ENOTFOUND)
			continue; /* the keeper has taken it */
		if (rc)
			return rc;
		parts[(*count)++] = (struct sosie_part_state){(uint32_t)index, size};
	}
	qsort(parts, *count, sizeof *parts, part_order);
	return 0;
}

static int join_parts(struct sosie_inbox *in, const struct sosie_name *group,
                      const struct sosie_upload_id *id, bool committed, struct sosie_part_state **parts,
                      uint32_t *count, struct sosie_err *err)
{
	struct path dir;
	struct names names;
	int rc = names_of(in, inbox_dir(in, &dir, group), &names, err);
	*count = 0;
	*parts = rc ? NULL : calloc(SOSIE_PARTS_MAX, sizeof **parts);
	if (!rc && !*parts)
		rc = sosie_err_set(err, SOSIE_ENOMEM, "no memory for the list of parts");
	if (!rc)
		rc = parts_measure(in, group, id, committed, &names, *parts, count, err);
	if (!rc && *count && !committed)
		rc = sosie_io_sync_dir(in->io, dir.s, err);
	free(names.list);
	if (rc) {
		free(*parts);
		*parts = NULL;
		*count = 0;
	}
	return rc;
}

int sosie_inbox_join(struct sosie_inbox *in, const struct sosie_name *group, const struct sosie_upload_id *id,
                     bool *committed, struct sosie_part_state **parts, uint32_t *count, struct sosie_err *err)
{
	*parts = NULL;
	*count = 0;
	int rc = is_committed(in, group, id, committed, err);
	if (!rc && !*committed)
		rc = hold_take(in, group, id, err);
	return rc ? rc : join_parts(in, group, id, *committed, parts, count, err);
}

/* --- parts
 * -------------------------------------------------------------------------------------------------------- */
static int folder_bytes(struct sosie_inbox *in, const char *group, uint64_t *sum, struct sosie_err *err)
{
	struct path p;
	struct names names;
	int rc = names_of(in, path_of(in, &p, "_inbox/%s", group), &names, err);
	for (size_t i = 0; i < names.count && !rc; i++) {
		struct sosie_stat st;
		if (sosie_io_stat(in->io, path_of(in, &p, "_inbox/%s/%s", group, names.list[i].s), &st, NULL))
			continue; /* gone meanwhile */
		if (!sosie_add_u64(*sum, st.size, sum))
			*sum = UINT64_MAX;
	}
	free(names.list);
	return rc;
}

/* Counts what the inbox of the tenant holds, to know how much this part may still write. Other sessions write
 * too: so again after each RECOUNT_BYTES. */
static int room_count(struct sosie_inbox *in, struct sosie_err *err)
{
	struct path p;
	struct names names;
	uint64_t sum = 0, limit = in->limits.upload_bytes;
	in->part.counted = in->part.written;
	in->part.room = UINT64_MAX;
	if (!limit)
		return 0;
	int rc = names_of(in, path_of(in, &p, "_inbox"), &names, err);
	for (size_t i = 0; i < names.count && !rc; i++)
		if (names.list[i].kind == SOSIE_KIND_DIR)
			rc = folder_bytes(in, names.list[i].s, &sum, err);
	free(names.list);
	in->part.room = sum < limit ? limit - sum : 0;
	return rc;
}

static int refuse_committed(struct sosie_inbox *in, const struct sosie_name *group,
                            const struct sosie_upload_id *id, struct sosie_err *err)
{
	bool committed;
	int rc = is_committed(in, group, id, &committed, err);
	if (!rc && committed)
		rc = sosie_err_set(err, SOSIE_EEXISTS, "this upload of group %s is committed already",
		                   group->s);
	return rc;
}

int sosie_inbox_part(struct sosie_inbox *in, const struct sosie_name *group, const struct sosie_upload_id *id,
                     uint32_t index, struct sosie_err *err)
{
	struct open_part *part = &in->part;
	struct path p;
	char suffix[12];
	part_drop(in);
	if (index >= in->limits.parts)
		return sosie_err_set(err, SOSIE_EQUOTA, "part %u: an upload has at most %llu parts here",
		                     index, (unsigned long long)in->limits.parts);
	int rc = refuse_committed(in, group, id, err);
	if (!rc)
		rc = hold_take(in, group, id, err);
	if (rc)
		return rc;
	snprintf(suffix, sizeof suffix, "%u", index);
	const char *path = upload_file(in, &p, group, id, suffix);
	*part = (struct open_part){.group = *group};
	memcpy(part->path, path, strlen(path) + 1);
	rc = room_count(in, err);
	if (!rc)
		rc = sosie_io_openat(in->io, path, SOSIE_WRITE | SOSIE_CREATE | SOSIE_EXCL, FILE_MODE,
		                     &part->file, err);
	if (rc == -SOSIE_EEXISTS)
		return sosie_err_set(err, SOSIE_EEXISTS,
		                     "part %u of this upload of group %s is there already", index, group->s);
	return rc;
}

static int part_none(struct sosie_err *err)
{
	return sosie_err_set(err, SOSIE_EIO, "the part was lost with an earlier error of the disk");
}

static int room_check(struct sosie_inbox *in, size_t len, struct sosie_err *err)
{
	struct open_part *part = &in->part;
	int rc = part->written - part->counted >= RECOUNT_BYTES ? room_count(in, err) : 0;
	if (rc || part->room == UINT64_MAX || part->written - part->counted + len <= part->room)
		return rc;
	char size[32];
	sosie_err_set(err, SOSIE_EQUOTA, "the inbox of tenant %s is full: its limit is %s", in->tenant.s,
	              sosie_size_text(size, sizeof size, in->limits.upload_bytes));
	return sosie_err_action(err,
	                        "at the standby, raise the tenant's quota, or see whether the keeper runs");
}

int sosie_inbox_data(struct sosie_inbox *in, const void *data, size_t len, struct sosie_err *err)
{
	struct open_part *part = &in->part;
	if (!part->file)
		return part_none(err);
	int rc = room_check(in, len, err);
	if (!rc)
		rc = sosie_io_pwrite(in->io, part->file, data, len, part->written, err);
	if (!rc)
		part->written += len;
	return rc;
}

void sosie_inbox_written(const struct sosie_inbox *in, uint64_t *written, uint64_t *durable)
{
	*written = in->part.written;
	*durable = in->part.durable;
}

int sosie_inbox_sync(struct sosie_inbox *in, struct sosie_err *err)
{
	struct open_part *part = &in->part;
	struct path dir;
	if (!part->file)
		return part_none(err);
	int rc = sosie_io_fsync(in->io, part->file, err);
	if (rc) {
		part_drop(in);
		sosie_io_unlink(in->io, part->path, NULL);
		return rc;
	}
	if (!part->named)
		rc = sosie_io_sync_dir(in->io, inbox_dir(in, &dir, &part->group), err);
	if (rc)
		return rc;
	part->named = true;
	part->durable = part->written;
	return 0;
}

int sosie_inbox_part_end(struct sosie_inbox *in, struct sosie_err *err)
{
	int rc = sosie_inbox_sync(in, err);
	int closed = sosie_io_close(in->io, in->part.file, rc ? NULL : err);
	in->part.file = NULL;
	return rc ? rc : closed;
}

/* --- commit
 * ------------------------------------------------------------------------------------------------------- */
static int manifest_write(struct sosie_inbox *in, const char *tmp, const void *manifest, size_t len,
                          struct sosie_err *err)
{
	struct sosie_file *f;
	int rc = sosie_io_unlink(in->io, tmp, NULL); /* of a session that died here */
	if (rc && rc != -SOSIE_ENOTFOUND)
		return sosie_io_unlink(in->io, tmp, err);
	rc = sosie_io_openat(in->io, tmp, SOSIE_WRITE | SOSIE_CREATE | SOSIE_EXCL, FILE_MODE, &f, err);
	if (rc)
		return rc;
	rc = sosie_io_pwrite(in->io, f, manifest, len, 0, err);
	if (!rc)
		rc = sosie_io_fsync(in->io, f, err);
	int closed = sosie_io_close(in->io, f, rc ? NULL : err);
	rc = rc ? rc : closed;
	if (rc)
		sosie_io_unlink(in->io, tmp, NULL);
	return rc;
}

/* A commit that is told twice (the answer was lost) is the same commit; with other bytes it is refused. */
static int commit_again(struct sosie_inbox *in, const struct sosie_name *group,
                        const struct sosie_upload_id *id, const void *manifest, size_t len,
                        struct sosie_err *err)
{
	struct path p;
	char *there;
	size_t there_len;
	int rc = sosie_io_read_file(in->io, upload_file(in, &p, group, id, "manifest"), SOSIE_MANIFEST_MAX,
	                            &there, &there_len, err);
	if (rc == -SOSIE_ENOTFOUND)
		return 0; /* the keeper has taken it, and its verdict tells the rest */
	if (rc)
		return rc;
	bool same = there_len == len && !memcmp(there, manifest, len);
	free(there);
	if (!same)
		return sosie_err_set(err, SOSIE_EEXISTS,
		                     "this upload of group %s is committed with another manifest", group->s);
	return sosie_io_sync_dir(in->io, inbox_dir(in, &p, group), err);
}

static int commit_first(struct sosie_inbox *in, const struct sosie_name *group,
                        const struct sosie_upload_id *id, const void *manifest, size_t len,
                        struct sosie_err *err)
{
	struct path tmp, final, dir, inbox;
	struct sosie_file *key;
	bool committed;
	upload_file(in, &tmp, group, id, "manifest.tmp");
	upload_file(in, &final, group, id, "manifest");
	int rc = sosie_io_openat(in->io, upload_file(in, &dir, group, id, "key"), SOSIE_READ | SOSIE_WRITE,
	                         FILE_MODE, &key, err);
	if (rc)
		return rc == -SOSIE_ENOTFOUND ? no_upload(group, id, err) : rc;
	rc = sosie_io_lock(in->io, key, true, err);
	if (!rc)
		rc = is_committed(in, group, id, &committed, err);
	if (!rc && committed) {
		rc = commit_again(in, group, id, manifest, len, err);
		goto close_key;
	}
	if (!rc)
		rc = manifest_write(in, tmp.s, manifest, len, err);
	if (!rc)
		rc = sosie_io_rename(in->io, tmp.s, final.s, err);
	if (!rc)
		rc = sosie_io_sync_dir(in->io, inbox_dir(in, &inbox, group), err);
close_key:
	sosie_io_close(in->io, key, NULL);
	return rc;
}

int sosie_inbox_commit(struct sosie_inbox *in, const struct sosie_name *group,
                       const struct sosie_upload_id *id, const void *manifest, size_t len,
                       struct sosie_err *err)
{
	bool committed;
	if (!len || len > SOSIE_MANIFEST_MAX)
		return sosie_err_set(err, SOSIE_EPROTO, "a manifest of %zu bytes", len);
	int rc = key_check(in, err);
	if (!rc)
		rc = is_committed(in, group, id, &committed, err);
	if (!rc && !committed)
		rc = hold_take(in, group, id, err);
	if (!rc)
		rc = committed ? commit_again(in, group, id, manifest, len, err)
		               : commit_first(in, group, id, manifest, len, err);
	if (rc)
		return rc;
	struct hold *h = hold_find(in, group, id);
	if (h)
		hold_release(in, h);
	bell_ring(in);
	return 0;
}

/* --- the outbox
 * --------------------------------------------------------------------------------------------------- */
static int statement_read(struct sosie_inbox *in, const char *path, char **text, size_t *len,
                          struct sosie_err *err)
{
	int rc = sosie_io_read_file(in->io, path, SOSIE_STATEMENT_MAX, text, len, err);
	if (rc) {
		*text = NULL;
		*len = 0;
	}
	return rc == -SOSIE_ENOTFOUND ? 0 : rc;
}

int sosie_inbox_head(struct sosie_inbox *in, const struct sosie_name *group, char **text, size_t *len,
                     struct sosie_err *err)
{
	struct path p;
	return statement_read(in, path_of(in, &p, "_outbox/%s/head", group->s), text, len, err);
}

int sosie_inbox_verdict(struct sosie_inbox *in, const struct sosie_name *group,
                        const struct sosie_upload_id *id, char **text, size_t *len, struct sosie_err *err)
{
	struct path p;
	return statement_read(in, answer_file(in, &p, group, id, "verdict"), text, len, err);
}

int sosie_inbox_differs(struct sosie_inbox *in, const struct sosie_name *group,
                        const struct sosie_upload_id *id, uint64_t offset, void *buf, size_t size,
                        size_t *got, uint64_t *total, struct sosie_err *err)
{
	struct path p;
	struct sosie_file *f;
	struct sosie_stat st;
	*got = 0;
	int rc = sosie_io_openat(in->io, answer_file(in, &p, group, id, "differs"), SOSIE_READ, 0, &f, err);
	if (rc == -SOSIE_ENOTFOUND)
		return sosie_err_set(err, SOSIE_ENOTFOUND,
		                     "the standby has no list of differences for this upload of group %s",
		                     group->s);
	if (rc)
		return rc;
	rc = sosie_io_fstat(in->io, f, &st, err);
	*total = rc ? 0 : st.size;
	if (!rc && offset < st.size)
		rc = sosie_io_pread(in->io, f, buf,
		                    size < st.size - offset ? size : (size_t)(st.size - offset), offset, got,
		                    err);
	sosie_io_close(in->io, f, NULL);
	return rc;
}

/* Two sessions of one key may say "same" at once: one after the other, because both write by the same
 * temporary name. */
static int same_lock(struct sosie_inbox *in, struct sosie_file **lock, struct sosie_err *err)
{
	struct path p;
	int rc = sosie_io_openat(in->io, path_of(in, &p, "_inbox/lock.%s", in->key),
	                         SOSIE_READ | SOSIE_WRITE | SOSIE_CREATE, FILE_MODE, lock, err);
	if (rc)
		return rc;
	rc = sosie_io_lock(in->io, *lock, true, err);
	for (unsigned i = 0; rc == -SOSIE_EBUSY && i < SAME_TRIES; i++) {
		sosie_sleep_ms(in->clock, 5);
		rc = sosie_io_lock(in->io, *lock, true, err);
	}
	if (rc)
		sosie_io_close(in->io, *lock, NULL);
	return rc;
}

int sosie_inbox_same(struct sosie_inbox *in, const void *text, size_t len, struct sosie_err *err)
{
	struct path p;
	struct sosie_file *lock;
	if (!len || len > SOSIE_SAME_MAX)
		return sosie_err_set(err, SOSIE_EPROTO, "a \"same\" of %zu bytes", len);
	int rc = key_check(in, err);
	if (!rc)
		rc = same_lock(in, &lock, err);
	if (rc)
		return rc;
	rc = sosie_io_write_file(in->io, path_of(in, &p, "_inbox/same.%s", in->key), text, len, FILE_MODE,
	                         err);
	sosie_io_close(in->io, lock, NULL);
	if (!rc)
		bell_ring(in);
	return rc;
}

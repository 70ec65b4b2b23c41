/* SPDX-License-Identifier: MIT */
/*
 * The audit log: entries as in the chain of a group, in files of their own (docs/format.md, "Audit log").
 *
 * An entry is durable when sosie_audit_append returns; appenders follow on one another by a flock on `lock`
 * in the log's folder. Under it the end is looked for: in the newest file, which is read unless this process
 * left it as it is. What a crash tore at the very end is kept aside and cut off there.
 *
 * A new log's folder has its name made durable under the lock, before the first entry: whoever finds an entry
 * needs to flush its own only.
 */
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/store/keys.h"

#define LOCK_POLL_MS 5
#define DIR_MODE 0700u
#define LOCK_MODE 0600u

/* Kinds of later releases are entries too: what is not known must not be taken for a torn end. */
static const struct chain_format audit_format = {.magic = "SAUD",
                                                 .suffix = "audit",
                                                 .name = "audit log",
                                                 .kinds = UINT16_MAX,
                                                 .body_max = AUDIT_BODY_MAX,
                                                 .counted = true};

const char *sosie_audit_name(enum sosie_audit_kind kind)
{
	switch (kind) {
#define SOSIE_X(id, number, name)                                                                            \
	case id:                                                                                             \
		return name;
		SOSIE_AUDIT_KINDS(SOSIE_X)
#undef SOSIE_X
	}
	return "unknown";
}

/* --- logs
 * ------------------------------------------------------------------------------------------------------- */

static int log_fill(struct sosie_store *store, const char *tenant, struct audit_log *log,
                    struct sosie_err *err)
{
	char parent[STORE_PATH];
	struct sosie_hash *h;
	int rc = tenant ? sosie_name_set(&log->tenant, SOSIE_NAME_TENANT, tenant, err) : 0;
	if (!rc)
		rc = store_path(parent, err, "%s%s%s", store->path, tenant ? "/" : "", log->tenant.s);
	if (!rc)
		rc = store_path(log->dir, err, "%s/_audit", parent);
	if (!rc && !sosie_io_exists(store->io, parent))
		rc = sosie_err_set(err, SOSIE_ENOTFOUND, "the store %s has no tenant %s", store->path,
		                   log->tenant.s);
	if (rc)
		return rc;
	if (!(h = sosie_hash_new()))
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory to open the audit log %s", log->dir);
	sosie_hash_start(h, "sosie audit v1");
	sosie_hash_add(h, store->info.id.b, sizeof(store->info.id.b));
	sosie_hash_add_text(h, log->tenant.s);
	sosie_hash_end(h, &log->genesis);
	sosie_hash_free(h);
	return 0;
}

int audit_log_get(struct sosie_store *store, const char *tenant, struct audit_log **out,
                  struct sosie_err *err)
{
	struct audit_log *log = store->audits;
	while (log && strcmp(log->tenant.s, tenant ? tenant : "") != 0)
		log = log->next;
	*out = log;
	if (log)
		return 0;
	log = calloc(1, sizeof(*log));
	if (!log)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory to open an audit log");
	int rc = log_fill(store, tenant, log, err);
	if (rc) {
		free(log);
		return rc;
	}
	log->next = store->audits;
	store->audits = *out = log;
	return 0;
}

static void forget_end(struct audit_log *log)
{
	chain_close(log->chain);
	log->chain = NULL;
}

void audit_free_all(struct sosie_store *store)
{
	while (store->audits) {
		struct audit_log *log = store->audits;
		store->audits = log->next;
		forget_end(log);
		keys_fold_free(log->keys);
		free(log);
	}
}

/* --- the end of a log
 * ------------------------------------------------------------------------------------------- */

/* Is the newest file the one that this process has read or written to its end? */
static bool end_holds(struct sosie_store *store, const struct audit_log *log)
{
	struct sosie_chain *c = log->chain;
	char path[STORE_PATH];
	struct sosie_stat st;
	uint32_t newest;
	if (!c || c->broken || chain_newest_file(c, &newest, NULL) || newest != c->newest_file)
		return false;
	if (newest == 0)
		return true;
	return !chain_file_path(c, newest, path, NULL) && !sosie_io_stat(store->io, path, &st, NULL) &&
	       st.ino == log->ino && st.size == c->newest_size;
}

static int note_file(struct sosie_store *store, struct audit_log *log, struct sosie_err *err)
{
	char path[STORE_PATH];
	struct sosie_stat st;
	log->ino = 0;
	if (log->chain->newest_file == 0)
		return 0;
	int rc = chain_file_path(log->chain, log->chain->newest_file, path, err);
	if (!rc)
		rc = sosie_io_stat(store->io, path, &st, err);
	if (!rc)
		log->ino = st.ino;
	return rc;
}

/* Under the lock. */
static int find_end(struct sosie_store *store, struct audit_log *log, struct sosie_err *err)
{
	if (end_holds(store, log))
		return 0;
	forget_end(log);
	int rc = chain_new(store->io, store->clock, log->dir, &log->genesis, &audit_format, &log->chain, err);
	if (!rc)
		rc = chain_scan_end(log->chain, true, err);
	if (!rc)
		rc = note_file(store, log, err);
	if (rc)
		forget_end(log);
	return rc;
}

/* --- appending
 * -------------------------------------------------------------------------------------------------- */

static int make_folder(struct sosie_store *store, const struct audit_log *log, struct sosie_err *err)
{
	if (sosie_io_exists(store->io, log->dir))
		return 0;
	int rc = sosie_io_mkdir(store->io, log->dir, DIR_MODE, err);
	if (rc == -SOSIE_EEXISTS) /* another appender's */
		return 0;
	return rc ? rc : sosie_io_chmod(store->io, log->dir, DIR_MODE, err);
}

int audit_lock(struct sosie_store *store, struct audit_log *log, int64_t wait_ms, struct sosie_file **lock,
               struct sosie_err *err)
{
	const int64_t end = sosie_mono_ms(store->clock) + wait_ms;
	char path[STORE_PATH];
	*lock = NULL;
	int rc = store_path(path, err, "%s/lock", log->dir);
	if (!rc)
		rc = make_folder(store, log, err);
	if (!rc)
		rc = sosie_io_openat(store->io, path, SOSIE_READ | SOSIE_WRITE | SOSIE_CREATE, LOCK_MODE,
		                     lock, err);
	if (rc)
		return rc;
	rc = sosie_io_lock(store->io, *lock, true, err);
	while (rc == -SOSIE_EBUSY && sosie_mono_ms(store->clock) < end) {
		sosie_sleep_ms(store->clock, LOCK_POLL_MS);
		rc = sosie_io_lock(store->io, *lock, true, err);
	}
	if (!rc)
		return 0;
	sosie_io_close(store->io, *lock, NULL);
	*lock = NULL;
	if (rc != -SOSIE_EBUSY)
		return rc;
	sosie_err_set(err, SOSIE_EBUSY, "another process has held the audit log's lock for %lld s",
	              (long long)(wait_ms / 1000));
	sosie_err_where(err, "%s", path);
	return sosie_err_action(err, "find that process (fuser), let it go on or end it; then try again");
}

/* Who does it. What sudo says is the environment's word: whoever may write the store can say anything. */
static void add_by(struct sosie_json *body)
{
	char text[AUDIT_TEXT_MAX];
	const struct passwd *user = getpwuid(geteuid());
	const char *sudo = getenv("SUDO_USER");
	struct sosie_json *by = sosie_json_add_obj(body, "by");
	sosie_json_set_str(by, "user",
	                   user ? sosie_escape(text, sizeof(text), user->pw_name, strlen(user->pw_name))
	                        : NULL);
	sosie_json_set_u64(by, "uid", geteuid());
	if (sudo && *sudo)
		sosie_json_set_str(by, "sudo", sosie_escape(text, sizeof(text), sudo, strlen(sudo)));
}

/* The text of an entry. Frees body. */
static int body_text(struct sosie_json *body, char **text, size_t *len, struct sosie_err *err)
{
	*text = NULL;
	if (!body)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for an audit entry");
	add_by(body);
	int rc = sosie_json_text(body, 0, text, len, err);
	sosie_json_free(body);
	if (!rc && *len > AUDIT_BODY_MAX) {
		rc = sosie_err_set(err, SOSIE_ESIZE,
		                   "an audit entry of %zu bytes is longer than the %u allowed", *len,
		                   AUDIT_BODY_MAX);
		free(*text);
		*text = NULL;
	}
	return rc;
}

/* The folder's own name: before the first entry is told. */
static int sync_parent(struct sosie_store *store, const struct audit_log *log, struct sosie_err *err)
{
	char parent[STORE_PATH];
	int rc = store_path(parent, err, "%s%s%s", store->path, log->tenant.s[0] ? "/" : "", log->tenant.s);
	return rc ? rc : sosie_io_sync_dir(store->io, parent, err);
}

static int write_text(struct sosie_store *store, struct audit_log *log, enum sosie_audit_kind kind,
                      const char *text, size_t len, uint64_t *number, struct sosie_err *err)
{
	int rc = find_end(store, log, err);
	if (!rc && log->chain->newest_point == 0)
		rc = sync_parent(store, log, err);
	if (!rc)
		rc = chain_append(log->chain, kind, chain_next_number(log->chain, kind),
		                  sosie_wall_ms(store->clock), text, (uint32_t)len, NULL, err);
	if (!rc && number)
		*number = log->chain->newest_point;
	if (rc || note_file(store, log, NULL))
		forget_end(log);
	return rc;
}

int audit_append_locked(struct sosie_store *store, struct audit_log *log, enum sosie_audit_kind kind,
                        struct sosie_json *body, uint64_t *number, struct sosie_err *err)
{
	char *text;
	size_t len;
	int rc = body_text(body, &text, &len, err);
	if (!rc)
		rc = write_text(store, log, kind, text, len, number, err);
	free(text);
	return rc;
}

/* A tenant's log without an entry: keys that were registered before there were logs come first. */
static bool is_new(struct sosie_store *store, struct audit_log *log)
{
	return log->tenant.s[0] && !find_end(store, log, NULL) && log->chain->newest_point == 0;
}

int audit_append(struct sosie_store *store, struct audit_log *log, enum sosie_audit_kind kind,
                 struct sosie_json *body, int64_t wait_ms, uint64_t *number, struct sosie_err *err)
{
	struct sosie_file *lock;
	int rc = audit_lock(store, log, wait_ms, &lock, err);
	if (rc) {
		sosie_json_free(body);
		return rc;
	}
	if (is_new(store, log)) /* what cannot be recorded counts all the same: see keys.h */
		keys_record_found(store, log, NULL);
	rc = audit_append_locked(store, log, kind, body, number, err);
	sosie_io_close(store->io, lock, NULL);
	return rc;
}

int sosie_audit_append(struct sosie_store *store, const char *tenant, enum sosie_audit_kind kind,
                       struct sosie_json *body, uint64_t *number, struct sosie_err *err)
{
	struct audit_log *log;
	int rc = audit_log_get(store, tenant, &log, err);
	if (!rc)
		return audit_append(store, log, kind, body, AUDIT_WAIT_MS, number, err);
	sosie_json_free(body);
	return rc;
}

/* --- reading
 * ---------------------------------------------------------------------------------------------------- */

int audit_stamp_now(struct sosie_store *store, const struct audit_log *log, struct audit_stamp *stamp,
                    struct sosie_err *err)
{
	struct sosie_chain *c;
	char path[STORE_PATH];
	struct sosie_stat st;
	memset(stamp, 0, sizeof(*stamp));
	if (!sosie_io_exists(store->io, log->dir))
		return 0;
	int rc = chain_new(store->io, store->clock, log->dir, &log->genesis, &audit_format, &c, err);
	if (rc)
		return rc;
	rc = chain_newest_file(c, &stamp->file, err);
	if (!rc && stamp->file > 0) {
		rc = chain_file_path(c, stamp->file, path, err);
		if (!rc)
			rc = sosie_io_stat(store->io, path, &st, err);
		if (!rc) {
			stamp->ino = st.ino;
			stamp->size = st.size;
		}
	}
	chain_close(c);
	return rc;
}

int audit_read(struct sosie_store *store, const struct audit_log *log, chain_each_fn fn, void *arg,
               struct audit_stamp *stamp, struct sosie_err *err)
{
	struct sosie_chain *c;
	int rc = audit_stamp_now(store, log, stamp, err);
	if (rc || stamp->file == 0)
		return rc;
	rc = chain_new(store->io, store->clock, log->dir, &log->genesis, &audit_format, &c, err);
	if (rc)
		return rc;
	rc = chain_scan_each(c, fn, arg, err);
	if (c->newest_file != stamp->file)
		stamp->ino = 0; /* another file was begun meanwhile, whose inode was not looked at */
	stamp->file = c->newest_file;
	stamp->size = c->newest_size;
	chain_close(c);
	return rc;
}

struct reading {
	sosie_audit_fn fn;
	void *arg;
};

static int on_entry(void *arg, const struct chain_entry *e, const void *body)
{
	const struct reading *r = arg;
	const struct sosie_audit_entry told = {.kind = (enum sosie_audit_kind)e->kind,
	                                       .number = e->point,
	                                       .time_ms = e->time_ms,
	                                       .digest = e->digest,
	                                       .text = body,
	                                       .len = e->body_len};
	return r->fn(r->arg, &told) ? 1 : 0;
}

int sosie_audit_each(struct sosie_store *store, const char *tenant, sosie_audit_fn fn, void *arg,
                     struct sosie_err *err)
{
	struct reading r = {fn, arg};
	struct audit_stamp stamp;
	struct audit_log *log;
	int rc = audit_log_get(store, tenant, &log, err);
	if (!rc)
		rc = audit_read(store, log, on_entry, &r, &stamp, err);
	return rc < 0 ? rc : 0;
}

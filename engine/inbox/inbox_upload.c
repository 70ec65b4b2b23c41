/* SPDX-License-Identifier: MIT */
/*
 * A new upload. Happy path: key and limits still allow it, the group's folder is there under a durable name,
 * idle uploads above the limit have gone, then UPLOAD.lock (held) and UPLOAD.key. Neither is flushed: an
 * upload that is not committed need not survive a power loss, and what of one survives without its lock is
 * swept here.
 */
#include "engine/inbox/internal.h"

#include <stdlib.h>
#include <string.h>

#define GROUPS_MAX 1024u    /* folders in a tenant's inbox */
#define COMMITTED_MAX 1024u /* uploads of a group that wait for the keeper */

#define NAMED "named" /* in a group's folder: the folder's own name is durable */

static int folder_make(struct sosie_inbox *in, const char *dir, const char *inbox, bool *made,
                       struct sosie_err *err)
{
	struct inbox_names names;
	struct sosie_stat st;
	size_t folders = 0;
	*made = false;
	int rc = sosie_io_stat(in->io, dir, &st, err);
	if (rc != -SOSIE_ENOTFOUND)
		return rc;
	rc = inbox_names_of(in, inbox, &names, err);
	for (size_t i = 0; i < names.count; i++)
		folders += names.list[i].kind == SOSIE_KIND_DIR;
	free(names.list);
	if (!rc && folders >= GROUPS_MAX)
		return sosie_err_set(err, SOSIE_EQUOTA, "tenant %s has folders for %u groups already",
		                     in->tenant.s, GROUPS_MAX);
	if (!rc)
		rc = sosie_io_mkdir(in->io, dir, INBOX_DIR_MODE, err);
	*made = !rc;
	return rc == -SOSIE_EEXISTS ? 0 : rc;
}

static int folder_mark(struct sosie_inbox *in, const char *mark, struct sosie_err *err)
{
	struct sosie_file *f;
	int rc = sosie_io_openat(in->io, mark, SOSIE_WRITE | SOSIE_CREATE, INBOX_FILE_MODE, &f, err);
	return rc ? rc : sosie_io_close(in->io, f, err);
}

/* A commit syncs the folder; that helps only if the folder's own name survives. The marker is made after the
 * inbox was synced, so who finds it need not sync; who does not cannot know whether another session has yet.
 */
static int group_folder(struct sosie_inbox *in, const struct sosie_name *group, struct sosie_err *err)
{
	struct inbox_path dir, inbox, mark;
	struct sosie_stat st;
	bool made;
	inbox_group_dir(in, &dir, group);
	inbox_path_of(in, &inbox, "_inbox");
	int rc = sosie_io_stat(in->io, inbox_path_of(in, &mark, "_inbox/%s/" NAMED, group->s), &st, err);
	if (rc != -SOSIE_ENOTFOUND)
		return rc;
	rc = folder_make(in, dir.s, inbox.s, &made, err);
	if (rc)
		return rc;
	rc = sosie_io_sync_dir(in->io, inbox.s, err);
	if (rc && made)
		sosie_io_rmdir(in->io, dir.s,
		               NULL); /* what failed to sync is not tried again: a new one is */
	return rc ? rc : folder_mark(in, mark.s, err);
}

struct seen {
	struct sosie_upload_id id;
	size_t first, end; /* its names in the sorted list */
	int64_t mtime_ms;
	bool lock, committed;
};

static int idle_order(const void *a, const void *b)
{
	const struct seen *x = a, *y = b;
	return (x->mtime_ms > y->mtime_ms) - (x->mtime_ms < y->mtime_ms);
}

/* Removes what the list has of an upload, but not its lock. */
static int files_remove(struct sosie_inbox *in, const struct sosie_name *group, const struct seen *u,
                        const struct inbox_names *names, struct sosie_err *err)
{
	struct inbox_path p;
	int rc = 0;
	for (size_t i = u->first; i < u->end && !rc; i++) {
		struct sosie_upload_id id;
		const char *suffix;
		if (!inbox_upload_name(names->list[i].s, &id, &suffix) || !strcmp(suffix, "lock"))
			continue;
		rc = sosie_io_unlink(in->io, inbox_upload_file(in, &p, group, &id, suffix), err);
		rc = rc == -SOSIE_ENOTFOUND ? 0 : rc;
	}
	return rc;
}

/* *removed false: a living session has it open, or it was committed meanwhile. A verdict without a manifest
 * is no reason to keep it: the keeper has done with it, and a power loss has brought some of its files back.
 */
static int upload_evict(struct sosie_inbox *in, const struct sosie_name *group, const struct seen *u,
                        const struct inbox_names *names, bool *removed, struct sosie_err *err)
{
	struct inbox_path p, manifest;
	struct sosie_stat st;
	struct sosie_file *lock;
	*removed = false;
	int rc = sosie_io_openat(in->io, inbox_upload_file(in, &p, group, &u->id, "lock"),
	                         SOSIE_READ | SOSIE_WRITE, INBOX_FILE_MODE, &lock, err);
	if (rc)
		return rc == -SOSIE_ENOTFOUND ? 0 : rc;
	rc = sosie_io_lock(in->io, lock, true, err);
	if (!rc)
		rc = sosie_io_stat(in->io, inbox_upload_file(in, &manifest, group, &u->id, "manifest"), &st,
		                   err);
	if (rc == -SOSIE_ENOTFOUND) {
		rc = files_remove(in, group, u, names, err);
		if (!rc)
			rc = sosie_io_unlink(in->io, p.s, err);
		*removed = !rc;
	}
	sosie_io_close(in->io, lock, NULL);
	return rc == -SOSIE_EBUSY ? 0 : rc;
}

static int name_order(const void *a, const void *b)
{
	const struct inbox_name *x = a, *y = b;
	return strcmp(x->s, y->s);
}

/* The upload whose names follow u->end; sorted, they stand together. */
static bool upload_next(const struct inbox_names *names, struct seen *u)
{
	struct sosie_upload_id other;
	const char *suffix;
	size_t i = u->end;
	while (i < names->count && !inbox_upload_name(names->list[i].s, &u->id, &suffix))
		i++;
	u->first = i;
	u->lock = u->committed = false;
	while (i < names->count && inbox_upload_name(names->list[i].s, &other, &suffix) &&
	       inbox_id_equal(&other, &u->id)) {
		u->lock = u->lock || !strcmp(suffix, "lock");
		u->committed = u->committed || !strcmp(suffix, "manifest");
		i++;
	}
	u->end = i;
	return u->first < u->end;
}

/* The lock is the first file made and the last removed: without it (and without a manifest) these are what a
 * power loss left over. The listing may have missed a lock that was just made, so it is looked for again. */
static int orphan_remove(struct sosie_inbox *in, const struct sosie_name *group, const struct seen *u,
                         const struct inbox_names *names, struct sosie_err *err)
{
	struct inbox_path p;
	struct sosie_stat st;
	int rc = sosie_io_stat(in->io, inbox_upload_file(in, &p, group, &u->id, "lock"), &st, err);
	if (rc == -SOSIE_ENOTFOUND)
		rc = sosie_io_stat(in->io, inbox_upload_file(in, &p, group, &u->id, "manifest"), &st, err);
	return rc == -SOSIE_ENOTFOUND ? files_remove(in, group, u, names, err) : rc;
}

/* The group's uploads, those not committed first, oldest first. The caller frees *out. */
static int uploads_of(struct sosie_inbox *in, const struct sosie_name *group, struct inbox_names *names,
                      struct seen **out, size_t *open, size_t *committed, struct sosie_err *err)
{
	struct inbox_path p;
	struct sosie_stat st;
	size_t count = 0;
	int rc = 0;
	*out = calloc(names->count + 1, sizeof **out);
	if (!*out)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory to look at the inbox");
	if (names->count)
		qsort(names->list, names->count, sizeof *names->list, name_order);
	for (struct seen u = {.end = 0}; !rc && upload_next(names, &u);) {
		if (!u.lock && !u.committed) {
			rc = orphan_remove(in, group, &u, names, err);
			continue;
		}
		*committed += u.committed;
		if (u.committed)
			continue;
		rc = sosie_io_stat(in->io, inbox_upload_file(in, &p, group, &u.id, "lock"), &st, err);
		if (!rc) {
			u.mtime_ms = st.mtime_ms;
			(*out)[count++] = u;
		}
		rc = rc == -SOSIE_ENOTFOUND ? 0 : rc;
	}
	qsort(*out, count, sizeof **out, idle_order);
	*open = count;
	return rc;
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
	struct inbox_path p;
	struct inbox_names names;
	struct seen *uploads = NULL;
	size_t open = 0, committed = 0, total;
	int rc = inbox_names_of(in, inbox_group_dir(in, &p, group), &names, err);
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
		rc = upload_evict(in, group, &uploads[i], &names, &removed, err);
		open -= !rc && removed;
	}
	free(uploads);
	free(names.list);
	return !rc && open >= in->limits.uploads ? too_many(group, open, err) : rc;
}

/* The oldest upload of the group that nobody has open goes: what it holds is needed by one that lives. */
bool inbox_make_room(struct sosie_inbox *in, const struct sosie_name *group)
{
	struct inbox_path p;
	struct inbox_names names;
	struct seen *uploads = NULL;
	size_t open = 0, committed = 0;
	bool removed = false;
	int rc = inbox_names_of(in, inbox_group_dir(in, &p, group), &names, NULL);
	if (!rc)
		rc = uploads_of(in, group, &names, &uploads, &open, &committed, NULL);
	for (size_t i = 0; i < open && !rc && !removed; i++)
		rc = upload_evict(in, group, &uploads[i], &names, &removed, NULL);
	free(uploads);
	free(names.list);
	return removed;
}

static int upload_new(struct sosie_inbox *in, const struct sosie_name *group, struct sosie_upload_id *out,
                      struct sosie_err *err)
{
	struct inbox_path p;
	struct sosie_file *lock;
	int rc = sosie_random(in->clock, out->b, sizeof out->b, err);
	if (!rc)
		rc = sosie_io_openat(in->io, inbox_upload_file(in, &p, group, out, "lock"),
		                     SOSIE_READ | SOSIE_WRITE | SOSIE_CREATE | SOSIE_EXCL, INBOX_FILE_MODE,
		                     &lock, err);
	if (rc)
		return rc;
	rc = inbox_hold_verify(in, p.s, lock, err);
	if (!rc)
		rc = inbox_key_write(in, inbox_upload_file(in, &p, group, out, "key"), err);
	if (rc) {
		sosie_io_unlink(in->io, inbox_upload_file(in, &p, group, out, "key"), NULL);
		sosie_io_unlink(in->io, inbox_upload_file(in, &p, group, out, "lock"), NULL);
		sosie_io_close(in->io, lock, NULL);
		return rc;
	}
	inbox_hold_add(in, group, out, lock);
	return 0;
}

int sosie_inbox_begin(struct sosie_inbox *in, const struct sosie_name *group, enum sosie_manifest_kind kind,
                      struct sosie_upload_id *out, struct sosie_err *err)
{
	(void)kind; /* both kinds are stored alike; the manifest says which it is */
	int rc = inbox_allowed(in, group, err);
	if (!rc)
		rc = inbox_limits_read(in, err);
	if (!rc)
		rc = group_folder(in, group, err);
	if (!rc)
		rc = begin_room(in, group, err);
	if (!rc)
		rc = upload_new(in, group, out, err);
	while (rc == -SOSIE_ENOSPACE && inbox_make_room(in, group))
		rc = upload_new(in, group, out, err);
	return rc;
}

/* SPDX-License-Identifier: MIT */
/*
 * Commit: manifest under a temporary name, fsync, rename, fsync of the folder. That last one makes every name
 * of the upload durable: only then is it told. Commits of one upload are one after the other, by an exclusive
 * lock on UPLOAD.key.
 *
 * Three flushes for a small commit: the part (at its end), the manifest, the folder. UPLOAD.key has none of
 * its own: it is for the audit only, and is empty or missing after a power loss between commit and accept at
 * worst.
 */
#include "engine/inbox/internal.h"

#include "sosie/bytes.h"

#include <stdlib.h>
#include <string.h>

int inbox_write_aside(struct sosie_inbox *in, const char *tmp, const void *data, size_t len,
                      struct sosie_err *err)
{
	struct sosie_file *f;
	int rc = sosie_io_unlink(in->io, tmp, NULL); /* of a session that died here */
	if (rc && rc != -SOSIE_ENOTFOUND)
		return sosie_io_unlink(in->io, tmp, err);
	rc = sosie_io_openat(in->io, tmp, SOSIE_WRITE | SOSIE_CREATE | SOSIE_EXCL, INBOX_FILE_MODE, &f, err);
	if (rc)
		return rc;
	rc = sosie_io_pwrite(in->io, f, data, len, 0, err);
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
	struct inbox_path p;
	char *there;
	size_t there_len;
	int rc = sosie_io_read_file(in->io, inbox_upload_file(in, &p, group, id, "manifest"),
	                            SOSIE_MANIFEST_MAX, &there, &there_len, err);
	if (rc == -SOSIE_ENOTFOUND)
		return 0; /* the keeper has taken it, and its verdict tells the rest */
	if (rc)
		return rc;
	bool same = there_len == len && !memcmp(there, manifest, len);
	free(there);
	if (!same)
		return sosie_err_set(err, SOSIE_EEXISTS,
		                     "this upload of group %s is committed with another manifest", group->s);
	return sosie_io_sync_dir(in->io, inbox_group_dir(in, &p, group), err);
}

/* After a power loss in the middle of an upload the key may be gone or empty: who commits is named then. */
static int key_mend(struct sosie_inbox *in, struct sosie_file *key, struct sosie_err *err)
{
	char text[INBOX_KEY_HEX + 1];
	uint8_t id[INBOX_KEY_HEX / 2];
	size_t got;
	int rc = sosie_io_pread(in->io, key, text, INBOX_KEY_HEX, 0, &got, err);
	if (rc)
		return rc;
	text[got] = '\0';
	if (sosie_unhex(id, sizeof id, text))
		return 0;
	return sosie_io_pwrite(in->io, key, in->key, INBOX_KEY_HEX, 0, err);
}

/* The upload's lock is held: a key that is not there was lost with the power. */
static int key_lock(struct sosie_inbox *in, const struct sosie_name *group, const struct sosie_upload_id *id,
                    struct sosie_file **key, struct sosie_err *err)
{
	struct inbox_path p;
	int rc = sosie_io_openat(in->io, inbox_upload_file(in, &p, group, id, "key"),
	                         SOSIE_READ | SOSIE_WRITE | SOSIE_CREATE, INBOX_FILE_MODE, key, err);
	if (rc)
		return rc;
	rc = sosie_io_lock(in->io, *key, true, err);
	if (rc)
		sosie_io_close(in->io, *key, NULL);
	return rc;
}

static int commit_new(struct sosie_inbox *in, const struct sosie_name *group,
                      const struct sosie_upload_id *id, const void *manifest, size_t len,
                      struct sosie_err *err)
{
	struct inbox_path tmp, final, dir;
	inbox_upload_file(in, &tmp, group, id, "manifest.tmp");
	inbox_upload_file(in, &final, group, id, "manifest");
	int rc = inbox_write_aside(in, tmp.s, manifest, len, err);
	if (!rc)
		rc = sosie_io_rename(in->io, tmp.s, final.s, err);
	return rc ? rc : sosie_io_sync_dir(in->io, inbox_group_dir(in, &dir, group), err);
}

static int commit_first(struct sosie_inbox *in, const struct sosie_name *group,
                        const struct sosie_upload_id *id, const void *manifest, size_t len,
                        struct sosie_err *err)
{
	struct sosie_file *key;
	bool committed;
	int rc = key_lock(in, group, id, &key, err);
	if (rc)
		return rc;
	rc = inbox_is_committed(in, group, id, &committed, err);
	if (!rc && committed)
		rc = commit_again(in, group, id, manifest, len, err);
	else if (!rc)
		rc = key_mend(in, key, err);
	if (!rc && !committed)
		rc = commit_new(in, group, id, manifest, len, err);
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
	int rc = inbox_allowed(in, group, err);
	if (!rc)
		rc = inbox_is_committed(in, group, id, &committed, err);
	if (!rc && !committed)
		rc = inbox_hold_take(in, group, id, err);
	if (!rc)
		rc = committed ? commit_again(in, group, id, manifest, len, err)
		               : commit_first(in, group, id, manifest, len, err);
	if (rc)
		return rc;
	struct inbox_hold *h = inbox_hold_find(in, group, id);
	if (h)
		inbox_hold_release(in, h);
	inbox_bell_ring(in);
	return 0;
}

/* SPDX-License-Identifier: MIT */
/* The newest "same" of each key. */
#include "engine/inbox/internal.h"

#define SAME_TRIES 200u

/* Two sessions of one key may say "same" at once: one after the other, because both write by the same
 * temporary name. */
static int same_lock(struct sosie_inbox *in, struct sosie_file **lock, struct sosie_err *err)
{
	struct inbox_path p;
	int rc = sosie_io_openat(in->io, inbox_path_of(in, &p, "_inbox/lock.%s", in->key),
	                         SOSIE_READ | SOSIE_WRITE | SOSIE_CREATE, INBOX_FILE_MODE, lock, err);
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
	struct inbox_path tmp, final, dir;
	struct sosie_file *lock;
	if (!len || len > SOSIE_SAME_MAX)
		return sosie_err_set(err, SOSIE_EPROTO, "a \"same\" of %zu bytes", len);
	int rc = inbox_key_check(in, err);
	if (!rc)
		rc = same_lock(in, &lock, err);
	if (rc)
		return rc;
	inbox_path_of(in, &tmp, "_inbox/same.%s.tmp", in->key);
	inbox_path_of(in, &final, "_inbox/same.%s", in->key);
	rc = inbox_write_aside(in, tmp.s, text, len, err);
	if (!rc)
		rc = sosie_io_rename(in->io, tmp.s, final.s, err);
	if (!rc)
		rc = sosie_io_sync_dir(in->io, inbox_path_of(in, &dir, "_inbox"), err);
	sosie_io_close(in->io, lock, NULL);
	if (!rc)
		inbox_bell_ring(in);
	return rc;
}

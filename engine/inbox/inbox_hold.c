/* SPDX-License-Identifier: MIT */
/* Uploads that this session has open, and what is known of one: is it there, is it committed. */
#include "engine/inbox/internal.h"

#include "sosie/bytes.h"

#include <string.h>

void inbox_hold_release(struct sosie_inbox *in, struct inbox_hold *h)
{
	sosie_io_close(in->io, h->lock, NULL);
	h->lock = NULL;
}

struct inbox_hold *inbox_hold_find(struct sosie_inbox *in, const struct sosie_name *group,
                                   const struct sosie_upload_id *id)
{
	for (unsigned i = 0; i < INBOX_HOLDS; i++) {
		struct inbox_hold *h = &in->holds[i];
		if (h->lock && inbox_id_equal(&h->id, id) && !strcmp(h->group.s, group->s))
			return h;
	}
	return NULL;
}

/* Takes over the locked file; the one held longest gives way when there are too many. */
void inbox_hold_add(struct sosie_inbox *in, const struct sosie_name *group, const struct sosie_upload_id *id,
                    struct sosie_file *lock)
{
	struct inbox_hold *h = &in->holds[in->next_hold];
	for (unsigned i = 0; i < INBOX_HOLDS; i++)
		if (!in->holds[i].lock)
			h = &in->holds[i];
	if (h->lock)
		in->next_hold = (in->next_hold + 1) % INBOX_HOLDS;
	inbox_hold_release(in, h);
	*h = (struct inbox_hold){lock, *group, *id};
}

int inbox_no_upload(const struct sosie_name *group, const struct sosie_upload_id *id, struct sosie_err *err)
{
	char hex[INBOX_ID_HEX + 1];
	sosie_hex(hex, id->b, sizeof id->b);
	return sosie_err_set(err, SOSIE_ENOTFOUND, "the standby has no upload %s of group %s", hex, group->s);
}

/* Between our open and our lock the upload may have been removed: the name must still lead to the file that
 * was locked. */
int inbox_hold_verify(struct sosie_inbox *in, const char *path, struct sosie_file *lock,
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
int inbox_hold_take(struct sosie_inbox *in, const struct sosie_name *group, const struct sosie_upload_id *id,
                    struct sosie_err *err)
{
	struct inbox_path p;
	struct sosie_file *lock;
	if (inbox_hold_find(in, group, id))
		return 0;
	const char *path = inbox_upload_file(in, &p, group, id, "lock");
	int rc = sosie_io_openat(in->io, path, SOSIE_READ | SOSIE_WRITE, INBOX_FILE_MODE, &lock, err);
	if (rc)
		return rc == -SOSIE_ENOTFOUND ? inbox_no_upload(group, id, err) : rc;
	rc = inbox_hold_verify(in, path, lock, err);
	if (rc) {
		sosie_io_close(in->io, lock, NULL);
		return rc == -SOSIE_ENOTFOUND ? inbox_no_upload(group, id, err) : rc;
	}
	inbox_hold_add(in, group, id, lock);
	return 0;
}

/* Its manifest lies in the inbox, or the keeper has already said what became of it. */
int inbox_is_committed(struct sosie_inbox *in, const struct sosie_name *group,
                       const struct sosie_upload_id *id, bool *yes, struct sosie_err *err)
{
	struct inbox_path p;
	struct sosie_stat st;
	int rc = sosie_io_stat(in->io, inbox_upload_file(in, &p, group, id, "manifest"), &st, err);
	if (rc == -SOSIE_ENOTFOUND)
		rc = sosie_io_stat(in->io, inbox_answer_file(in, &p, group, id, "verdict"), &st, err);
	*yes = !rc;
	return rc == -SOSIE_ENOTFOUND ? 0 : rc;
}

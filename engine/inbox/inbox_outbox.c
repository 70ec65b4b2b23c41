/* SPDX-License-Identifier: MIT */
/* What the keeper left in the outbox, relayed as it is. */
#include "engine/inbox/internal.h"

#include <stdlib.h>

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
	struct inbox_path p;
	int rc = inbox_allowed(in, group, err);
	*text = NULL;
	*len = 0;
	return rc ? rc
	          : statement_read(in, inbox_path_of(in, &p, "_outbox/%s/head", group->s), text, len, err);
}

int sosie_inbox_verdict(struct sosie_inbox *in, const struct sosie_name *group,
                        const struct sosie_upload_id *id, char **text, size_t *len, struct sosie_err *err)
{
	struct inbox_path p;
	int rc = inbox_allowed(in, group, err);
	*text = NULL;
	*len = 0;
	return rc ? rc : statement_read(in, inbox_answer_file(in, &p, group, id, "verdict"), text, len, err);
}

int sosie_inbox_differs(struct sosie_inbox *in, const struct sosie_name *group,
                        const struct sosie_upload_id *id, uint64_t offset, void *buf, size_t size,
                        size_t *got, uint64_t *total, struct sosie_err *err)
{
	struct inbox_path p;
	struct sosie_file *f;
	struct sosie_stat st;
	*got = 0;
	int rc = inbox_allowed(in, group, err);
	if (rc)
		return rc;
	rc = sosie_io_openat(in->io, inbox_answer_file(in, &p, group, id, "differs"), SOSIE_READ, 0, &f, err);
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

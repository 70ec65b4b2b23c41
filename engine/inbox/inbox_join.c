/* SPDX-License-Identifier: MIT */
/* What is there of an upload: each part as long as it is once its bytes are durable. */
#include "engine/inbox/internal.h"

#include <stdlib.h>
#include <string.h>

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
	int rc = sosie_io_openat(in->io, path, committed ? SOSIE_READ : SOSIE_READ | SOSIE_WRITE,
	                         INBOX_FILE_MODE, &f, err);
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
                         const struct sosie_upload_id *id, bool committed, const struct inbox_names *names,
                         struct sosie_part_state *parts, uint32_t *count, struct sosie_err *err)
{
	struct inbox_path p;
	for (size_t i = 0; i < names->count && *count < SOSIE_PARTS_MAX; i++) {
		struct sosie_upload_id other;
		const char *suffix;
		uint64_t index, size;
		if (!inbox_upload_name(names->list[i].s, &other, &suffix) || !inbox_id_equal(&other, id) ||
		    !inbox_number(suffix, strlen(suffix), &index) || index >= SOSIE_PARTS_MAX)
			continue;
		int rc =
		        part_measure(in, inbox_upload_file(in, &p, group, id, suffix), committed, &size, err);
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
	struct inbox_path dir;
	struct inbox_names names;
	int rc = inbox_names_of(in, inbox_group_dir(in, &dir, group), &names, err);
	*count = 0;
	*parts = rc ? NULL : calloc(SOSIE_PARTS_MAX, sizeof **parts);
	if (!rc && !*parts)
		rc = sosie_err_set(err, SOSIE_ENOMEM, "no memory for the list of parts");
	if (!rc)
		rc = parts_measure(in, group, id, committed, &names, *parts, count, err);
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
	int rc = inbox_allowed(in, group, err);
	if (!rc)
		rc = inbox_is_committed(in, group, id, committed, err);
	if (!rc && !*committed)
		rc = inbox_hold_take(in, group, id, err);
	return rc ? rc : join_parts(in, group, id, *committed, parts, count, err);
}

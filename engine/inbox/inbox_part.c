/* SPDX-License-Identifier: MIT */
/*
 * The one open part of a session. Its bytes are durable by fsync of the file; its name becomes durable with
 * the commit. Bytes in the whole inbox of the tenant are bounded: counted at the start of a part and again on
 * the way.
 */
#include "engine/inbox/internal.h"

#include "sosie/bytes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RECOUNT_BYTES (64u << 20)

void inbox_part_drop(struct sosie_inbox *in)
{
	sosie_io_close(in->io, in->part.file, NULL);
	in->part.file = NULL;
}

static int folder_bytes(struct sosie_inbox *in, const char *group, uint64_t *sum, struct sosie_err *err)
{
	struct inbox_path p;
	struct inbox_names names;
	int rc = inbox_names_of(in, inbox_path_of(in, &p, "_inbox/%s", group), &names, err);
	for (size_t i = 0; i < names.count && !rc; i++) {
		struct sosie_stat st;
		if (sosie_io_stat(in->io, inbox_path_of(in, &p, "_inbox/%s/%s", group, names.list[i].s), &st,
		                  NULL))
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
	struct inbox_path p;
	struct inbox_names names;
	uint64_t sum = 0, limit = in->limits.upload_bytes;
	in->part.counted = in->part.written;
	in->part.room = UINT64_MAX;
	if (!limit)
		return 0;
	int rc = inbox_names_of(in, inbox_path_of(in, &p, "_inbox"), &names, err);
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
	int rc = inbox_is_committed(in, group, id, &committed, err);
	if (!rc && committed)
		rc = sosie_err_set(err, SOSIE_EEXISTS, "this upload of group %s is committed already",
		                   group->s);
	return rc;
}

int sosie_inbox_part(struct sosie_inbox *in, const struct sosie_name *group, const struct sosie_upload_id *id,
                     uint32_t index, struct sosie_err *err)
{
	struct inbox_part *part = &in->part;
	struct inbox_path p;
	char suffix[12];
	inbox_part_drop(in);
	if (index >= in->limits.parts)
		return sosie_err_set(err, SOSIE_EQUOTA, "part %u: an upload has at most %llu parts here",
		                     index, (unsigned long long)in->limits.parts);
	int rc = inbox_allowed(in, group, err);
	if (!rc)
		rc = refuse_committed(in, group, id, err);
	if (!rc)
		rc = inbox_hold_take(in, group, id, err);
	if (rc)
		return rc;
	snprintf(suffix, sizeof suffix, "%u", index);
	const char *path = inbox_upload_file(in, &p, group, id, suffix);
	*part = (struct inbox_part){.group = *group};
	memcpy(part->path, path, strlen(path) + 1);
	rc = room_count(in, err);
	if (!rc)
		rc = sosie_io_openat(in->io, path, SOSIE_WRITE | SOSIE_CREATE | SOSIE_EXCL, INBOX_FILE_MODE,
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
	struct inbox_part *part = &in->part;
	int rc = part->written - part->counted >= RECOUNT_BYTES ? room_count(in, err) : 0;
	if (rc || part->room == UINT64_MAX || part->written - part->counted + len <= part->room)
		return rc;
	char size[32];
	sosie_err_set(err, SOSIE_EQUOTA, "the inbox of tenant %s is full: its limit is %s", in->tenant.s,
	              sosie_size_text(size, sizeof size, in->limits.upload_bytes));
	return sosie_err_action(err,
	                        "at the standby, raise the tenant's quota, or see whether the keeper runs");
}

static int data_write(struct sosie_inbox *in, const void *data, size_t len, struct sosie_err *err)
{
	struct inbox_part *part = &in->part;
	int rc = room_check(in, len, err);
	if (!rc)
		rc = sosie_io_pwrite(in->io, part->file, data, len, part->written, err);
	if (!rc)
		part->written += len;
	return rc;
}

/* An upload that was left full of bytes does not keep the group's living one from its room. */
int sosie_inbox_data(struct sosie_inbox *in, const void *data, size_t len, struct sosie_err *err)
{
	if (!in->part.file)
		return part_none(err);
	int rc = data_write(in, data, len, err);
	while ((rc == -SOSIE_ENOSPACE || rc == -SOSIE_EQUOTA) && inbox_make_room(in, &in->part.group)) {
		rc = room_count(in, err);
		if (!rc)
			rc = data_write(in, data, len, err);
	}
	return rc;
}

void sosie_inbox_written(const struct sosie_inbox *in, uint64_t *written, uint64_t *durable)
{
	*written = in->part.written;
	*durable = in->part.durable;
}

int sosie_inbox_sync(struct sosie_inbox *in, struct sosie_err *err)
{
	struct inbox_part *part = &in->part;
	if (!part->file)
		return part_none(err);
	int rc = inbox_key_check(in, err);
	if (rc)
		return rc;
	rc = sosie_io_fsync(in->io, part->file, err);
	if (rc) {
		inbox_part_drop(in);
		sosie_io_unlink(in->io, part->path, NULL);
		return rc;
	}
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

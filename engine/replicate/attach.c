/* SPDX-License-Identifier: MIT */
/* Attachments: names, sizes and SHA-256 as they are now. One digest over all tells whether any changed since
 * the accepted point. */
#include <stdlib.h>
#include <string.h>

#include "engine/replicate/internal.h"

#define READ_BYTES (256u << 10)

static int set_name(struct attachment *a, struct sosie_err *err)
{
	const char *slash = strrchr(a->path, '/');
	int rc = sosie_name_set(&a->entry.name, SOSIE_NAME_ATTACHMENT, slash ? slash + 1 : a->path, err);

	return rc == 0 ? 0 : sosie_err_wrap(err, "attachment %.200s", a->path);
}

static int check_twice(const struct sosie_replicator *r, unsigned i, struct sosie_err *err)
{
	for (unsigned k = 0; k < i; k++)
		if (strcmp(r->attachments[k].entry.name.s, r->attachments[i].entry.name.s) == 0)
			return sosie_err_set(err, SOSIE_EUSAGE, "two attachments are named %s",
			                     r->attachments[i].entry.name.s);
	return 0;
}

static int measure(struct sosie_replicator *r, struct attachment *a, uint8_t *buf, struct sosie_err *err)
{
	struct sosie_io *io = r->dir.io;
	struct sosie_file *file;
	uint64_t size = 0;
	size_t got = 1;
	int rc = sosie_io_openat(io, a->path, SOSIE_READ | SOSIE_FOLLOW, 0, &file, err);

	if (rc != 0)
		return sosie_err_wrap(err, "attachment %s", a->entry.name.s);
	sosie_hash_start(r->hash, NULL);
	while (rc == 0 && got > 0 && size <= SOSIE_ATTACHMENTS_BYTES) {
		rc = sosie_io_pread(io, file, buf, READ_BYTES, size, &got, err);
		if (rc == 0)
			sosie_hash_add(r->hash, buf, got);
		size += rc == 0 ? got : 0;
	}
	sosie_hash_end(r->hash, &a->entry.sha256);
	a->entry.size = size;
	sosie_io_close(io, file, NULL);
	return rc;
}

static void sum_up(struct sosie_replicator *r)
{
	memset(&r->attachments_digest, 0, sizeof(r->attachments_digest));
	if (r->o.attachment_count == 0)
		return;
	sosie_hash_start(r->hash, "sosie attach set");
	for (unsigned i = 0; i < r->o.attachment_count; i++) {
		sosie_hash_add_text(r->hash, r->attachments[i].entry.name.s);
		sosie_hash_add_u64(r->hash, r->attachments[i].entry.size);
		sosie_hash_add(r->hash, r->attachments[i].entry.sha256.b, SOSIE_DIGEST_LEN);
	}
	sosie_hash_end(r->hash, &r->attachments_digest);
}

int attachments_measure(struct sosie_replicator *r, struct sosie_err *err)
{
	uint8_t *buf = r->o.attachment_count ? malloc(READ_BYTES) : NULL;
	uint64_t total = 0;
	int rc = 0;

	if (r->o.attachment_count && !buf)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for attachments");
	for (unsigned i = 0; rc == 0 && i < r->o.attachment_count; i++) {
		struct attachment *a = &r->attachments[i];

		a->path = r->o.attachments[i];
		rc = set_name(a, err);
		if (rc == 0)
			rc = check_twice(r, i, err);
		if (rc == 0)
			rc = measure(r, a, buf, err);
		total += rc == 0 ? a->entry.size : 0;
		if (rc == 0 && total > SOSIE_ATTACHMENTS_BYTES)
			rc = sosie_err_set(err, SOSIE_ESIZE,
			                   "attachments are larger than 64 MiB in all, with %s",
			                   a->entry.name.s);
	}
	free(buf);
	if (rc == 0)
		sum_up(r);
	return rc;
}

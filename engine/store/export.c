/* SPDX-License-Identifier: MIT */
/*
 * Export: the images and attachments of a point as plain files. All is made in DIR/.sosie-export-ID.tmp/ and
 * renamed at the end; that folder holds a locked file while its export lives, so that the next export can
 * take away what a killed one left. No name that exists is touched.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/store/core.h"
#include "engine/store/status.h"
#include "sosie/retention.h"

#define TEMP_PREFIX ".sosie-export-"
#define TEMP_SUFFIX ".tmp"

struct export
{
	struct sosie_group *g;
	struct sosie_io *io;
	uint64_t point;
	const char *dir;
	char temp[STORE_PATH], images[STORE_PATH], attachments[STORE_PATH];
	struct sosie_file *lock;
	struct sosie_manifest m;
	unsigned images_done, attachments_done; /* renamed to their final names */
	bool made_attachments;
	struct sosie_progress *progress;
};

/* The n-th file that the export makes: its temporary and its final name. */
static int file_paths(struct export *x, bool attachment, unsigned n, char from[STORE_PATH],
                      char to[STORE_PATH], struct sosie_err *err)
{
	const char *name = attachment ? x->m.attachments[n].name.s : x->m.volumes[n].name.s;
	int rc = store_path(from, err, attachment ? "%s/%s" : "%s/%s.raw",
	                    attachment ? x->attachments : x->images, name);

	return rc < 0 ? rc
	              : store_path(to, err, attachment ? "%s/attachments/%s" : "%s/%s.raw", x->dir, name);
}

static unsigned file_count(const struct export *x, bool attachment)
{
	return attachment ? x->m.attachment_count : x->m.volume_count;
}

static int refuse_existing(const char *path, struct sosie_err *err)
{
	sosie_err_set(err, SOSIE_EEXISTS, "%s exists already, and an export overwrites nothing", path);
	return sosie_err_action(err, "move it away, or choose another folder with --into");
}

static int check_names_free(struct export *x, bool attachment, struct sosie_err *err)
{
	char from[STORE_PATH], to[STORE_PATH];
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < file_count(x, attachment); i++) {
		rc = file_paths(x, attachment, i, from, to, err);
		if (rc == 0 && sosie_io_exists(x->io, to))
			rc = refuse_existing(to, err);
	}
	return rc;
}

/* --- the temporary folder
 * ------------------------------------------------------------------------------------------------ */

static int remove_stale(void *arg, const char *name, enum sosie_file_kind kind)
{
	const size_t len = strlen(name), prefix = strlen(TEMP_PREFIX), suffix = strlen(TEMP_SUFFIX);
	struct export *x = arg;
	struct sosie_file *lock = NULL;
	char dir[STORE_PATH], path[STORE_PATH];

	if (kind != SOSIE_KIND_DIR || len <= prefix + suffix || strncmp(name, TEMP_PREFIX, prefix) != 0 ||
	    strcmp(name + len - suffix, TEMP_SUFFIX) != 0)
		return 0;
	if (store_path(dir, NULL, "%s/%s", x->dir, name) < 0 || store_path(path, NULL, "%s/lock", dir) < 0)
		return 0;
	/* Its maker is dead when nobody holds the lock; a folder without one is just being made. */
	if (sosie_io_openat(x->io, path, SOSIE_READ | SOSIE_WRITE, 0, &lock, NULL) == 0 &&
	    sosie_io_lock(x->io, lock, true, NULL) == 0)
		(void)sosie_io_remove_tree(x->io, dir, NULL);
	(void)sosie_io_close(x->io, lock, NULL);
	return 0;
}

static int make_temp(struct export *x, struct sosie_err *err)
{
	char path[STORE_PATH];
	uint64_t id;
	int rc = sosie_random(x->g->store->clock, &id, sizeof(id), err);

	if (rc == 0)
		rc = store_path(x->temp, err, "%s/" TEMP_PREFIX "%016llx" TEMP_SUFFIX, x->dir,
		                (unsigned long long)id);
	if (rc == 0)
		rc = store_path(x->images, err, "%s/images", x->temp);
	if (rc == 0)
		rc = store_path(x->attachments, err, "%s/attachments", x->temp);
	if (rc == 0)
		rc = store_path(path, err, "%s/lock", x->temp);
	if (rc == 0)
		rc = sosie_io_mkdir(x->io, x->temp, 0700, err);
	if (rc == 0)
		rc = sosie_io_openat(x->io, path, SOSIE_READ | SOSIE_WRITE | SOSIE_CREATE | SOSIE_EXCL, 0600,
		                     &x->lock, err);
	return rc == 0 ? sosie_io_lock(x->io, x->lock, true, err) : rc;
}

/* --- attachments
 * ------------------------------------------------------------------------------------------------------------
 */

/* The attachment being put together: its chunks come in any order of records, all of one point. */
struct gather {
	uint8_t *bytes;  /* of all attachments, one after the other; at most SOSIE_ATTACHMENTS_BYTES */
	uint64_t *start; /* of each */
};

static int take_chunk(struct export *x, struct gather *gather, const struct sosie_record *record,
                      const uint8_t *payload, struct sosie_err *err)
{
	uint32_t index;
	uint64_t offset;
	const void *data;
	size_t len;
	int rc = sosie_attachment_parse(payload, record->payload_len, &index, &offset, &data, &len, err);

	if (rc < 0)
		return rc;
	if (index >= x->m.attachment_count || offset > x->m.attachments[index].size ||
	    len > x->m.attachments[index].size - offset)
		return sosie_err_set(err, SOSIE_ECORRUPT,
		                     "a piece of an attachment lies outside what the manifest lists");
	memcpy(gather->bytes + gather->start[index] + offset, data, len);
	return 0;
}

static int read_part(struct export *x, struct gather *gather, struct part_stream *s,
                     const struct sosie_extent_volume *volumes, struct sosie_record *record,
                     struct sosie_err *err)
{
	uint32_t ranges_len, payload_len;
	const uint8_t *bytes;
	size_t len;
	int rc;

	for (;;) {
		rc = stream_record(s, &bytes, &len, err);
		if (rc < 0 || len == 0)
			return rc;
		rc = sosie_record_lengths(bytes, &ranges_len, &payload_len, err);
		if (rc == 0)
			rc = sosie_record_parse(bytes, SOSIE_RECORD_HEADER + (size_t)ranges_len, volumes,
			                        x->m.volume_count, record, err);
		if (rc == 0 && record->kind == SOSIE_RECORD_ATTACHMENT)
			rc = take_chunk(x, gather, record, bytes + SOSIE_RECORD_HEADER, err);
		if (rc < 0)
			return rc;
		stream_skip(s, len);
	}
}

static int read_parts(struct export *x, struct gather *gather, uint8_t *ring, uint8_t *scratch,
                      const struct sosie_extent_volume *volumes, struct sosie_record *record,
                      struct sosie_err *err)
{
	char path[STORE_PATH];
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < x->m.part_count; i++) {
		struct sosie_file *file = NULL;
		struct part_stream s;
		rc = journal_part_path(x->g, x->point, i, path, err);
		if (rc == 0)
			rc = sosie_io_openat(x->io, path, SOSIE_READ, 0, &file, err);
		if (rc < 0)
			return rc;
		stream_start(&s, x->io, file, x->m.parts[i].length, ring, scratch);
		rc = read_part(x, gather, &s, volumes, record, err);
		stream_stop(&s);
		(void)sosie_io_close(x->io, file, NULL);
		if (rc < 0) {
			sosie_err_wrap(err, "point %llu", (unsigned long long)x->point);
			return sosie_err_where(err, "%s", path);
		}
	}
	return rc;
}

static int read_attachments(struct export *x, struct gather *gather, struct sosie_err *err)
{
	struct sosie_extent_volume *volumes = calloc(x->m.volume_count, sizeof(*volumes));
	struct sosie_record *record = malloc(sizeof(*record));
	uint8_t *ring = aligned_alloc(SOSIE_LEAF, STREAM_BLOCKS * STORE_BLOCK),
	        *scratch = malloc(SOSIE_RECORD_MAX);
	int rc = 0;

	if (!volumes || !record || !ring || !scratch)
		rc = sosie_err_sys(err, ENOMEM, "cannot read the attachments");
	for (unsigned i = 0; rc == 0 && i < x->m.volume_count; i++)
		volumes[i].size = x->m.volumes[i].size;
	if (rc == 0)
		rc = read_parts(x, gather, ring, scratch, volumes, record, err);
	free(volumes);
	free(record);
	free(ring);
	free(scratch);
	return rc;
}

static int write_attachment(struct export *x, const struct gather *gather, unsigned i, struct sosie_err *err)
{
	const struct sosie_manifest_attachment *a = &x->m.attachments[i];
	struct sosie_digest found;
	struct sosie_file *file = NULL;
	char path[STORE_PATH];
	int rc = store_path(path, err, "%s/%s", x->attachments, a->name.s);

	if (rc < 0)
		return rc;
	sosie_hash_start(x->g->hash, NULL);
	sosie_hash_add(x->g->hash, gather->bytes + gather->start[i], a->size);
	sosie_hash_end(x->g->hash, &found);
	if (!sosie_digest_equal(&found, &a->sha256)) {
		sosie_err_set(err, SOSIE_ECORRUPT,
		              "the attachment %s of point %llu is not what its SHA-256 says", a->name.s,
		              (unsigned long long)x->point);
		return sosie_err_action(err, "see what else is damaged: sosie verify %s/%s", x->g->tenant.s,
		                        x->g->name.s);
	}
	rc = sosie_io_openat(x->io, path, SOSIE_WRITE | SOSIE_CREATE | SOSIE_EXCL, 0600, &file, err);
	if (rc < 0)
		return rc;
	rc = sosie_io_pwrite(x->io, file, gather->bytes + gather->start[i], a->size, 0, err);
	if (rc == 0)
		rc = sosie_io_fsync(x->io, file, err);
	int closed = sosie_io_close(x->io, file, rc < 0 ? NULL : err);
	return rc < 0 ? rc : closed;
}

static int make_attachments(struct export *x, struct sosie_err *err)
{
	struct gather gather = {NULL, calloc((size_t)x->m.attachment_count + 1, sizeof(*gather.start))};
	uint64_t total = 0;
	int rc = 0;

	for (unsigned i = 0; gather.start && i < x->m.attachment_count; i++) {
		gather.start[i] = total;
		total += x->m.attachments[i].size; /* at most SOSIE_ATTACHMENTS_BYTES in all: checked by the
		                                      manifest's parser */
	}
	gather.bytes = calloc(1, total + 1);
	if (!gather.start || !gather.bytes)
		rc = sosie_err_sys(err, ENOMEM, "cannot read the attachments");
	if (rc == 0)
		rc = read_attachments(x, &gather, err);
	if (rc == 0)
		rc = sosie_io_mkdir(x->io, x->attachments, 0700, err);
	for (unsigned i = 0; rc == 0 && i < x->m.attachment_count; i++)
		rc = write_attachment(x, &gather, i, err);
	free(gather.start);
	free(gather.bytes);
	return rc;
}

/* --- into place
 * -----------------------------------------------------------------------------------------------------------------
 */

static int place(struct export *x, bool attachment, unsigned *done, struct sosie_err *err)
{
	char from[STORE_PATH], to[STORE_PATH];
	int rc = 0;

	for (*done = 0; *done < file_count(x, attachment); *done += 1) {
		rc = file_paths(x, attachment, *done, from, to, err);
		if (rc == 0 && sosie_io_exists(x->io, to))
			rc = refuse_existing(to, err);
		if (rc == 0)
			rc = sosie_io_chmod(x->io, from, 0600, err);
		if (rc == 0)
			rc = sosie_io_rename(x->io, from, to, err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int place_all(struct export *x, struct sosie_err *err)
{
	char attachments[STORE_PATH];
	int rc = store_path(attachments, err, "%s/attachments", x->dir);

	if (rc == 0 && x->m.attachment_count > 0) {
		x->made_attachments = !sosie_io_exists(x->io, attachments);
		rc = sosie_io_ensure_dir(x->io, attachments, 0700, err);
		if (rc == 0)
			rc = place(x, true, &x->attachments_done, err);
		if (rc == 0)
			rc = sosie_io_sync_dir(x->io, attachments, err);
	}
	if (rc == 0)
		rc = place(x, false, &x->images_done, err);
	return rc == 0 ? sosie_io_sync_dir(x->io, x->dir, err) : rc;
}

/* Takes away what a failed export had put into place. */
static void unplace(struct export *x, bool attachment, unsigned done)
{
	char from[STORE_PATH], to[STORE_PATH];

	for (unsigned i = 0; i < done; i++)
		if (file_paths(x, attachment, i, from, to, NULL) == 0)
			(void)sosie_io_unlink(x->io, to, NULL);
}

static void undo(struct export *x)
{
	char attachments[STORE_PATH];

	unplace(x, false, x->images_done);
	unplace(x, true, x->attachments_done);
	if (x->made_attachments && store_path(attachments, NULL, "%s/attachments", x->dir) == 0)
		(void)sosie_io_rmdir(x->io, attachments, NULL);
}

static int list_images(struct export *x, struct sosie_image **images, unsigned *count, struct sosie_err *err)
{
	char from[STORE_PATH];
	int rc = 0;

	*images = calloc(x->m.volume_count, sizeof(**images));
	if (!*images)
		return sosie_err_sys(err, ENOMEM, "cannot list the images");
	for (unsigned i = 0; rc == 0 && i < x->m.volume_count; i++) {
		(*images)[i].volume = x->m.volumes[i].name;
		(*images)[i].size = x->m.volumes[i].size;
		rc = file_paths(x, false, i, from, (*images)[i].path, err);
	}
	*count = x->m.volume_count;
	if (rc < 0) {
		free(*images);
		*images = NULL;
		*count = 0;
	}
	return rc;
}

static int export_to_dir(struct export *x, struct sosie_err *err)
{
	int rc = check_names_free(x, false, err);

	if (rc == 0)
		rc = check_names_free(x, true, err);
	if (rc == 0)
		rc = sosie_io_ensure_dir(x->io, x->dir, 0700, err);
	if (rc < 0)
		return rc;
	(void)sosie_io_list(x->io, x->dir, remove_stale, x, NULL);
	rc = make_temp(x, err);
	if (rc == 0)
		rc = images_materialise(x->g, x->point, x->images, x->progress, err);
	if (rc == 0 && x->m.attachment_count > 0)
		rc = make_attachments(x, err);
	if (rc == 0)
		rc = place_all(x, err);
	if (rc < 0)
		undo(x);
	if (x->temp[0])
		(void)sosie_io_remove_tree(x->io, x->temp, NULL);
	(void)sosie_io_close(x->io, x->lock, NULL);
	return rc;
}

static int check_point(struct sosie_group *g, uint64_t *point, struct sosie_err *err)
{
	const uint64_t newest = sosie_group_points(g);

	if (*point == 0)
		*point = newest;
	if (newest == 0) {
		sosie_err_set(err, SOSIE_ENOTFOUND, "%s/%s has no point yet: there is nothing to export",
		              g->tenant.s, g->name.s);
		return sosie_err_action(err, "see what the inbox holds: sosie status %s/%s", g->tenant.s,
		                        g->name.s);
	}
	return sosie_group_reachable(g, *point, err);
}

int sosie_group_export(struct sosie_group *g, uint64_t point, const char *dir,
                       struct sosie_progress *progress, struct sosie_image **images, unsigned *count,
                       struct sosie_err *err)
{
	struct export *x;
	int rc = check_point(g, &point, err);

	*images = NULL;
	*count = 0;
	if (rc == 0)
		rc = status_outside(g->store, dir, err);
	if (rc < 0)
		return rc;
	if (strlen(dir) + SOSIE_NAME_MAX + 80 > STORE_PATH)
		return sosie_err_set(err, SOSIE_ECONFIG,
		                     "the folder for the images has a path longer than %u bytes",
		                     STORE_PATH - SOSIE_NAME_MAX - 80);
	x = calloc(1, sizeof(*x));
	if (!x)
		return sosie_err_sys(err, ENOMEM, "cannot export");
	x->g = g;
	x->io = g->store->io;
	x->point = point;
	x->dir = dir;
	x->progress = progress;
	rc = sosie_group_manifest(g, point, &x->m, err);
	if (rc == 0) {
		rc = export_to_dir(x, err);
		if (rc == -SOSIE_ENOTFOUND) /* pruned while it was being exported? */
			(void)sosie_group_reachable(g, point, err);
		if (rc == 0)
			rc = list_images(x, images, count, err);
		sosie_manifest_fini(&x->m);
	}
	free(x);
	return rc;
}

/* --- plain digests
 * ------------------------------------------------------------------------------------------------------------------
 */

static int hash_range(struct sosie_store *store, struct sosie_file *file, struct sosie_hash *hash,
                      uint8_t *chunk, uint64_t from, uint64_t to, struct sosie_err *err)
{
	while (from < to) {
		const size_t len = to - from < SOSIE_CHUNK ? (size_t)(to - from) : SOSIE_CHUNK;
		size_t got;
		int rc = sosie_io_pread(store->io, file, chunk, len, from, &got, err);
		if (rc < 0)
			return rc;
		if (got < len)
			return sosie_err_set(err, SOSIE_EIO, "the file ends early, at %llu",
			                     (unsigned long long)(from + got));
		sosie_hash_add(hash, chunk, len);
		from += len;
	}
	return 0;
}

static void hash_zeros(struct sosie_hash *hash, uint64_t len)
{
	static const uint8_t zeros[1u << 16];

	for (; len > sizeof(zeros); len -= sizeof(zeros))
		sosie_hash_add(hash, zeros, sizeof(zeros));
	sosie_hash_add(hash, zeros, (size_t)len);
}

static int hash_file(struct sosie_store *store, struct sosie_image *image, struct sosie_file *file,
                     struct sosie_hash *hash, uint8_t *chunk, struct sosie_progress *progress,
                     struct sosie_err *err)
{
	uint64_t at = 0, start, end;
	int rc = 0;

	sosie_hash_start(hash, NULL);
	while (rc == 0 && at < image->size) {
		rc = sosie_io_next_data(store->io, file, at, &start, &end, err);
		if (rc < 0)
			break;
		start = start < image->size ? start : image->size;
		end = end < image->size ? end : image->size;
		if (end > start + 64 * (uint64_t)SOSIE_CHUNK)
			end = start + 64 * (uint64_t)SOSIE_CHUNK; /* so that progress is told */
		hash_zeros(hash, start - at);
		rc = hash_range(store, file, hash, chunk, start, end, err);
		at = end > start ? end : start;
		sosie_progress(progress, "digesting", at, image->size);
	}
	if (rc == 0)
		sosie_hash_end(hash, &image->sha256);
	return rc;
}

int sosie_image_digest(struct sosie_store *store, struct sosie_image *image, struct sosie_progress *progress,
                       struct sosie_err *err)
{
	struct sosie_file *file = NULL;
	struct sosie_hash *hash = sosie_hash_new();
	uint8_t *chunk = aligned_alloc(SOSIE_LEAF, SOSIE_CHUNK);
	int rc = hash && chunk ? 0 : sosie_err_sys(err, ENOMEM, "cannot digest %s", image->path);

	if (rc == 0)
		rc = sosie_io_openat(store->io, image->path, SOSIE_READ, 0, &file, err);
	if (rc == 0)
		rc = hash_file(store, image, file, hash, chunk, progress, err);
	(void)sosie_io_close(store->io, file, NULL);
	sosie_hash_free(hash);
	free(chunk);
	return rc;
}

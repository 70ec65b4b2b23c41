/* SPDX-License-Identifier: MIT */
/* The state folder: lock, cleaning, names. state_json.c reads and writes state.json. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "engine/replicate/state.h"

void state_file(const struct state_dir *d, char dst[STATE_FILE_MAX], const char *name, const char *ending)
{
	snprintf(dst, STATE_FILE_MAX, "%s/%s%s", d->path, name, ending);
}

/* The folder and those above it that are missing. */
static int ensure_path(struct state_dir *d, struct sosie_err *err)
{
	struct sosie_io *io = d->io;
	const char *path = d->path;
	char part[STATE_PATH_MAX];
	size_t len = strlen(path);

	d->made_from = 0;
	for (size_t i = 1; i <= len; i++) {
		int rc;

		if (path[i] != '/' && path[i] != '\0')
			continue;
		memcpy(part, path, i);
		part[i] = '\0';
		if (sosie_io_exists(io, part)) {
			if (i < len)
				continue;
		} else if (d->made_from == 0) {
			d->made_from = i;
		}
		rc = sosie_io_ensure_dir(io, part, 0700, err);
		if (rc != 0)
			return rc;
	}
	return 0;
}

static int tell_holder(const struct state_dir *d, const char *path, struct sosie_err *err)
{
	char *text = NULL;
	size_t len = 0;
	long pid = 0;

	if (sosie_io_read_file(d->io, path, 64, &text, &len, NULL) == 0)
		pid = strtol(text, NULL, 10);
	free(text);
	if (pid > 0)
		sosie_err_set(err, SOSIE_EBUSY, "%s/%s: another sosied replicates this group (process %ld)",
		              d->tenant, d->group, pid);
	else
		sosie_err_set(err, SOSIE_EBUSY, "%s/%s: another sosied replicates this group", d->tenant,
		              d->group);
	sosie_err_where(err, "%s", d->path);
	return sosie_err_action(err, "stop that one, or let it go on: one is enough");
}

static int take_lock(struct state_dir *d, struct sosie_err *err)
{
	struct sosie_stat st;
	char path[STATE_FILE_MAX], text[32];
	int rc, n;

	state_file(d, path, "lock", "");
	rc = sosie_io_openat(d->io, path, SOSIE_READ | SOSIE_WRITE | SOSIE_CREATE, 0600, &d->lock, err);
	if (rc != 0)
		return rc;
	rc = sosie_io_lock(d->io, d->lock, true, err);
	if (rc == 0) {
		n = snprintf(text, sizeof(text), "%ld\n", (long)getpid());
		rc = sosie_io_truncate(d->io, d->lock, 0, err);
		if (rc == 0)
			rc = sosie_io_pwrite(d->io, d->lock, text, (size_t)n, 0, err);
	}
	if (rc == 0)
		rc = sosie_io_fstat(d->io, d->lock, &st, err);
	if (rc == 0) {
		d->dev = st.dev;
		d->ino = st.ino;
	}
	if (rc == 0)
		return 0;
	sosie_io_close(d->io, d->lock, NULL);
	d->lock = NULL;
	return rc == -SOSIE_EBUSY ? tell_holder(d, path, err) : rc;
}

int state_dir_open(struct state_dir *d, struct sosie_err *err)
{
	int rc = d->io ? 0 : sosie_io_posix(&d->io, err);

	if (rc == 0)
		rc = ensure_path(d, err);
	if (rc == 0)
		rc = take_lock(d, err);
	if (rc != 0) {
		if (rc != -SOSIE_EBUSY)
			sosie_err_wrap(err, "state folder %s", d->path);
		if (rc == -SOSIE_EDENIED)
			sosie_err_action(err, "name a folder that may be written with --state DIR");
		state_dir_close(d);
	}
	return rc;
}

bool state_dir_gone(const struct state_dir *d)
{
	struct sosie_stat st;
	char path[STATE_FILE_MAX];
	int rc;

	state_file(d, path, "lock", "");
	rc = sosie_io_stat(d->io, path, &st, NULL);
	return rc == -SOSIE_ENOTFOUND || (rc == 0 && (st.dev != d->dev || st.ino != d->ino));
}

static int count_name(void *arg, const char *name, enum sosie_file_kind kind)
{
	(void)kind;
	*(unsigned *)arg += strcmp(name, "lock") != 0;
	return 0;
}

/* From the folder upwards, as far as they were made here and are empty. */
static void remove_made(const struct state_dir *d)
{
	char path[STATE_FILE_MAX];
	unsigned others = 0;
	int rc = sosie_io_list(d->io, d->path, count_name, &others, NULL);

	if (rc != 0 || others > 0 || state_dir_gone(d))
		return;
	state_file(d, path, "lock", "");
	rc = sosie_io_unlink(d->io, path, NULL);
	snprintf(path, sizeof(path), "%s", d->path);
	for (size_t i = strlen(path); rc == 0 && i >= d->made_from; i--) {
		if (path[i] != '/' && path[i] != '\0')
			continue;
		path[i] = '\0';
		rc = sosie_io_rmdir(d->io, path, NULL);
	}
}

void state_dir_close(struct state_dir *d)
{
	if (d->lock && d->made_from > 0)
		remove_made(d);
	if (d->lock)
		sosie_io_close(d->io, d->lock, NULL);
	d->lock = NULL;
	sosie_io_free(d->io);
	d->io = NULL;
}

/* --- cleaning
 * -------------------------------------------------------------------------------------------------------- */

static bool ends_with(const char *name, const char *ending)
{
	size_t n = strlen(name), e = strlen(ending);

	return n > e && strcmp(name + n - e, ending) == 0;
}

struct sweep {
	char names[64][SOSIE_NAME_MAX + 16];
	unsigned count;
	bool all; /* trees and signatures too */
};

static int note_name(void *arg, const char *name, enum sosie_file_kind kind)
{
	struct sweep *s = arg;
	bool ours = ends_with(name, ".layer") || strcmp(name, "pending.manifest") == 0 ||
	            strcmp(name, "pending.log") == 0 || /* an older release's */
	            (s->all && (ends_with(name, ".tree") || ends_with(name, ".signatures") ||
	                        strcmp(name, "redo.log") == 0));

	if (kind != SOSIE_KIND_FILE || !ours || strlen(name) >= sizeof(s->names[0]))
		return 0;
	memcpy(s->names[s->count++], name, strlen(name) + 1);
	return s->count == sizeof(s->names) / sizeof(s->names[0]);
}

static int sweep(const struct state_dir *d, bool all, struct sosie_err *err)
{
	struct sweep s = {.all = all};
	char path[STATE_FILE_MAX];
	int rc;

	do {
		s.count = 0;
		rc = sosie_io_list(d->io, d->path, note_name, &s, err);
		if (rc > 0)
			rc = 0;
		for (unsigned i = 0; rc == 0 && i < s.count; i++) {
			state_file(d, path, s.names[i], "");
			rc = sosie_io_unlink(d->io, path, err);
		}
	} while (rc == 0 && s.count > 0);
	return rc;
}

int state_clean(const struct state_dir *d, struct sosie_err *err)
{
	return sweep(d, false, err);
}

int state_clean_upload(const struct state_dir *d, struct sosie_err *err)
{
	char path[STATE_FILE_MAX];

	state_file(d, path, "pending", ".manifest");
	return sosie_io_exists(d->io, path) ? sosie_io_unlink(d->io, path, err) : 0;
}

static int unlink_there(const struct state_dir *d, const char *ending, struct sosie_err *err)
{
	char path[STATE_FILE_MAX];

	state_file(d, path, "state", ending);
	return sosie_io_exists(d->io, path) ? sosie_io_unlink(d->io, path, err) : 0;
}

int state_forget(const struct state_dir *d, struct state *s, struct sosie_err *err)
{
	/* In this order: state.json alone would be taken for the newest. */
	int rc = unlink_there(d, ".json", err);

	if (rc == 0)
		rc = sosie_io_sync_dir(d->io, d->path, err);
	if (rc == 0)
		rc = unlink_there(d, ".now", err);
	state_fini(s);
	return rc == 0 ? sweep(d, true, err) : rc;
}

int state_put(const struct state_dir *d, const char *path, const void *data, size_t len, bool flushed,
              struct sosie_err *err)
{
	char tmp[STATE_FILE_MAX + 8];
	struct sosie_file *f;
	int rc, rc_close;

	snprintf(tmp, sizeof(tmp), "%s.tmp", path);
	rc = sosie_io_openat(d->io, tmp, SOSIE_WRITE | SOSIE_CREATE | SOSIE_TRUNC, 0600, &f, err);
	if (rc != 0)
		return rc;
	rc = sosie_io_pwrite(d->io, f, data, len, 0, err);
	if (rc == 0 && flushed)
		rc = sosie_io_fsync(d->io, f, err);
	rc_close = sosie_io_close(d->io, f, rc == 0 ? err : NULL);
	rc = rc == 0 ? rc_close : rc;
	return rc == 0 ? sosie_io_rename(d->io, tmp, path, err) : rc;
}

/* --- small things
 * ------------------------------------------------------------------------------------------------------ */

const struct state_volume *state_volumes_find(const struct state_volumes *list, const char *name)
{
	for (unsigned i = 0; i < list->count; i++)
		if (strcmp(list->v[i].name.s, name) == 0)
			return &list->v[i];
	return NULL;
}

void state_fini(struct state *s)
{
	free(s->volumes.v);
	free(s->pending.volumes.v);
	*s = (struct state){0};
}

void state_boot_id(char dst[40])
{
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, dst, 36);

	dst[n == 36 ? 36 : 0] = '\0';
	if (fd >= 0)
		close(fd);
}

int64_t state_boot_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

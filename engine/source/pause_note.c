/* SPDX-License-Identifier: MIT */
/* See pause_note.h. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "engine/source/pause_note.h"

#define BOOT_SIZE 37u /* of /proc/sys/kernel/random/boot_id, with a NUL (random(4)) */
#define TEXT_SIZE (4096u + 64u)
#define LOCK_WAIT_MS 1000 /* a child that was being started keeps a dead holder's lock for a moment */

static const char *const kinds[] = {[SOSIE_PAUSE_NONE] = "none",
                                    [SOSIE_PAUSE_CGROUP] = "cgroup",
                                    [SOSIE_PAUSE_QMP] = "qmp",
                                    [SOSIE_PAUSE_COMMANDS] = "commands"};

static int note_failed(int sys, const char *path, struct sosie_err *err)
{
	int rc = sosie_err_sys(err, sys, "the note of a pause");

	sosie_err_where(err, "%s", path);
	sosie_err_action(err, "the state folder must be there and writable");
	return rc;
}

static int make_path(char dst[4096], const char *state, struct sosie_err *err)
{
	int n = snprintf(dst, 4096, "%s/" PAUSE_NOTE, state);

	if (n > 0 && n < 4096)
		return 0;
	sosie_err_set(err, SOSIE_ECONFIG, "the path of the state folder is too long");
	sosie_err_action(err, "it may have 4000 bytes");
	return -SOSIE_ECONFIG;
}

/* Of this boot; empty where there is none, which is equal to itself. */
static void boot_id(char dst[BOOT_SIZE])
{
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, dst, BOOT_SIZE - 1);

	dst[n == (ssize_t)BOOT_SIZE - 1 ? n : 0] = '\0';
	if (fd >= 0)
		close(fd);
	if (!dst[0])
		snprintf(dst, BOOT_SIZE, "unknown");
}

int pause_note_init(struct pause_note *n, const char *state, struct sosie_err *err)
{
	n->fd = -1;
	n->path[0] = '\0';
	return state ? make_path(n->path, state, err) : 0;
}

void pause_note_close(struct pause_note *n)
{
	if (n->fd >= 0)
		close(n->fd);
	n->fd = -1;
}

static int write_whole(struct pause_note *n, enum sosie_pause_kind kind, const char *target)
{
	char text[TEXT_SIZE], boot[BOOT_SIZE];
	int len;

	boot_id(boot);
	len = snprintf(text, sizeof(text), "free %s %s %s\n", boot, kinds[kind], target ? target : "-");
	if (len < 0 || (size_t)len >= sizeof(text))
		return ENAMETOOLONG;
	if (ftruncate(n->fd, 0) != 0)
		return errno;
	errno = ENOSPC; /* of a short write */
	return pwrite(n->fd, text, (size_t)len, 0) == len ? 0 : errno;
}

/* False with errno: a living process has it. */
static bool lock(int fd)
{
	for (int i = 0; flock(fd, LOCK_EX | LOCK_NB) != 0; i++) {
		if ((errno != EWOULDBLOCK && errno != EINTR) || i == LOCK_WAIT_MS)
			return false;
		poll(NULL, 0, 1);
	}
	return true;
}

static int open_note(struct pause_note *n, enum sosie_pause_kind kind, const char *target)
{
	int sys;

	n->fd = open(n->path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (n->fd < 0)
		return errno;
	sys = lock(n->fd) ? write_whole(n, kind, target) : errno;
	if (sys != 0)
		pause_note_close(n);
	return sys;
}

int pause_note_hold(struct pause_note *n, enum sosie_pause_kind kind, const char *target,
                    struct sosie_err *err)
{
	int sys = 0;

	if (!n->path[0])
		return 0;
	if (n->fd < 0)
		sys = open_note(n, kind, target);
	if (sys == 0 && pwrite(n->fd, "held", 4, 0) != 4)
		sys = errno;
	return sys == 0 ? 0 : note_failed(sys, n->path, err);
}

void pause_note_free(const struct pause_note *n)
{
	if (n->fd >= 0)
		(void)!pwrite(n->fd, "free", 4, 0);
}

/* --- what was left
 * ---------------------------------------------------------------------------------------- */

/* "held BOOT KIND TARGET\n" of this boot; the target absolute, or "-". */
static bool parse(const char *text, struct pause_left *out)
{
	char boot[BOOT_SIZE], head[64];
	const char *end = strchr(text, '\n');

	boot_id(boot);
	for (int k = SOSIE_PAUSE_CGROUP; end && k <= SOSIE_PAUSE_COMMANDS; k++) {
		int len = snprintf(head, sizeof(head), "held %s %s ", boot, kinds[k]);
		const char *target = text + len;

		if (strncmp(text, head, (size_t)len) != 0 ||
		    target[0] != (k == SOSIE_PAUSE_COMMANDS ? '-' : '/') ||
		    (size_t)(end - target) >= sizeof(out->target))
			continue;
		memcpy(out->target, target, (size_t)(end - target));
		out->target[end - target] = '\0';
		out->kind = (enum sosie_pause_kind)k;
		return true;
	}
	return false;
}

static bool read_left(struct pause_left *out)
{
	char text[TEXT_SIZE];
	ssize_t n = pread(out->fd, text, sizeof(text) - 1, 0);

	text[n > 0 ? n : 0] = '\0';
	return parse(text, out);
}

int pause_note_left(const char *state, struct pause_left *out, struct sosie_err *err)
{
	char path[4096];
	int rc;

	*out = (struct pause_left){.kind = SOSIE_PAUSE_NONE, .fd = -1};
	if (!state)
		return 0;
	rc = make_path(path, state, err);
	if (rc != 0)
		return rc;
	out->fd = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	if (out->fd < 0)
		return errno == ENOENT || errno == ENOTDIR ? 0 : note_failed(errno, path, err);
	/* Looked at again with the lock: who had it may have ended its pause. */
	if (read_left(out) && lock(out->fd) && read_left(out))
		return 0;
	out->kind = SOSIE_PAUSE_NONE;
	pause_left_close(out, false);
	return 0;
}

void pause_left_close(struct pause_left *left, bool undone)
{
	if (left->fd < 0)
		return;
	if (undone)
		(void)!pwrite(left->fd, "free", 4, 0);
	close(left->fd);
	left->fd = -1;
}

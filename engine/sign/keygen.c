/* SPDX-License-Identifier: MIT */
/*
 * Making a signing key. Each file is written whole under another name, flushed, and linked to its own, which
 * fails where something has that name; then the folder is flushed. The private half comes first: without
 * its public half it can still be used (ssh-keygen -y prints it), the other way round it cannot.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/sign/internal.h"
#include "sosie/clock.h"

#define PUBLIC_END ".pub"

/* Where the two files go. */
struct place {
	int dir;
	const char *path;                                   /* as the caller gave it, for messages */
	char name[NAME_MAX + 1], public_name[NAME_MAX + 1]; /* in dir */
};

static int open_place(const char *path, struct place *p, struct sosie_err *err)
{
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
	char dir[PATH_MAX];

	p->path = path;
	p->dir = -1;
	if (!*name || strlen(path) >= sizeof(dir) || strlen(name) + strlen(PUBLIC_END) > NAME_MAX)
		return sosie_err_set(err, SOSIE_EUSAGE, "no name for a key file: \"%.100s\"", path);
	snprintf(p->name, sizeof(p->name), "%s", name);
	snprintf(p->public_name, sizeof(p->public_name), "%s" PUBLIC_END, name);
	snprintf(dir, sizeof(dir), "%.*s", (int)(name - path), path);
	p->dir = open(*dir ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (p->dir >= 0)
		return 0;
	sosie_err_sys(err, errno, "the folder of the new key cannot be opened");
	return sosie_err_where(err, "%s", *dir ? dir : ".");
}

static int taken(const char *path, const char *end, struct sosie_err *err)
{
	sosie_err_set(err, SOSIE_EEXISTS, "%.200s%s is there already: a key is never overwritten", path, end);
	return sosie_err_action(err, "choose another file, or move that one away");
}

static int check_free(const struct place *p, struct sosie_err *err)
{
	struct stat st;

	if (fstatat(p->dir, p->name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return taken(p->path, "", err);
	if (fstatat(p->dir, p->public_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return taken(p->path, PUBLIC_END, err);
	return 0;
}

static bool write_all(int fd, const char *text, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, text, len);

		if (n < 0 && errno != EINTR)
			return false;
		if (n > 0) {
			text += n;
			len -= (size_t)n;
		}
	}
	return true;
}

/* 0 or an errno. The new file is durable, but not its name. */
static int fill_file(int dir, const char *name, mode_t mode, const char *text, size_t len)
{
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600), sys = 0;

	if (fd < 0)
		return errno;
	if (fchmod(fd, mode) != 0 || !write_all(fd, text, len) || fsync(fd) != 0)
		sys = errno;
	if (close(fd) != 0 && sys == 0)
		sys = errno;
	return sys;
}

/* A durable file of that name, which was free. end: of its name, for messages. */
static int make_file(const struct place *p, const char *name, const char *end, mode_t mode, const char *text,
                     size_t len, struct sosie_err *err)
{
	char other[64], digits[17];
	uint8_t random[8];
	int sys, rc = sosie_random(sosie_clock_real(), random, sizeof(random), err);

	if (rc != 0)
		return rc;
	sosie_hex(digits, random, sizeof(random));
	snprintf(other, sizeof(other), ".sosie-keygen.%s", digits);
	sys = fill_file(p->dir, other, mode, text, len);
	if (sys == 0 && linkat(p->dir, other, p->dir, name, 0) != 0)
		sys = errno;
	(void)unlinkat(p->dir, other, 0);
	if (sys == 0 && fsync(p->dir) != 0) {
		sys = errno;
		(void)unlinkat(p->dir, name, 0);
	}
	if (sys == EEXIST)
		return taken(p->path, end, err);
	if (sys == 0)
		return 0;
	sosie_err_sys(err, sys, "the new key cannot be written");
	return sosie_err_where(err, "%s%s", p->path, end);
}

static int make_both(const struct place *p, const uint8_t seed[EVP_SEED_LEN], const struct sosie_public *key,
                     const char *comment, struct sosie_err *err)
{
	char text[KEYFILE_TEXT], line[SOSIE_PUBLIC_LINE + 1];
	uint32_t check;
	size_t len;
	int rc = sosie_random(sosie_clock_real(), &check, sizeof(check), err);

	if (rc != 0)
		return rc;
	len = keyfile_text(seed, key, comment, check, text);
	rc = make_file(p, p->name, "", 0600, text, len, err);
	explicit_bzero(text, sizeof(text));
	if (rc != 0)
		return rc;
	sosie_public_line(key, comment, line);
	len = strlen(line);
	line[len++] = '\n';
	rc = make_file(p, p->public_name, PUBLIC_END, 0644, line, len, err);
	if (rc != 0) /* nobody has seen it yet */
		(void)unlinkat(p->dir, p->name, 0);
	return rc;
}

static int check_comment(const char *comment, struct sosie_err *err)
{
	const size_t len = strlen(comment);

	for (size_t i = 0; i < len; i++)
		if (comment[i] < ' ' || comment[i] > '~')
			return sosie_err_set(err, SOSIE_EUSAGE, "the comment of a key is printable ASCII");
	if (len > KEYFILE_COMMENT_MAX)
		return sosie_err_set(err, SOSIE_EUSAGE, "the comment of a key has at most %u characters",
		                     KEYFILE_COMMENT_MAX);
	return 0;
}

int sosie_keygen(const char *path, const char *comment, struct sosie_public *out, struct sosie_err *err)
{
	uint8_t seed[EVP_SEED_LEN];
	struct evp_key *key = NULL;
	struct place p = {.dir = -1};
	int rc = check_comment(comment, err);

	if (rc == 0)
		rc = open_place(path, &p, err);
	if (rc == 0)
		rc = check_free(&p, err);
	if (rc == 0)
		rc = sosie_random(sosie_clock_real(), seed, sizeof(seed), err);
	if (rc == 0)
		rc = evp_key_new(seed, &key, out, err);
	evp_key_free(key);
	if (rc == 0)
		rc = make_both(&p, seed, out, comment, err);
	explicit_bzero(seed, sizeof(seed));
	if (p.dir >= 0)
		close(p.dir);
	return rc;
}

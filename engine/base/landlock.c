/* SPDX-License-Identifier: MIT */
/* Landlock rule sets. The header of Debian 12 ends at interface 3, so newer rights are numbers here. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/landlock.h>

#include "engine/base/landlock.h"

/* The rule set of the newest interface used here (6, Linux 6.12); older kernels take its first bytes. */
struct landlock_rules {
	uint64_t files, network, scope;
};

#define ON_FILES (LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_READ_FILE)

static int held_to = INT_MAX;

void landlock_hold_to(int version)
{
	held_to = version;
}

int landlock_version(void)
{
	long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

	if (version < 0)
		return 0;
	return version < held_to ? (int)version : held_to;
}

static size_t everything(int version, struct landlock_rules *rules)
{
	unsigned files = version >= 5 ? 16 : version >= 3 ? 15 : version == 2 ? 14 : 13;

	rules->files = (UINT64_C(1) << files) - 1;
	rules->network = 3; /* bind and connect, TCP */
	rules->scope = 3;   /* abstract sockets, signals */
	return version >= 6 ? 24 : version >= 4 ? 16 : 8;
}

static uint64_t rights_of(unsigned rights, mode_t mode)
{
	uint64_t access = 0;

	if (rights & SOSIE_CONFINE_READ)
		access |= LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
	if (rights & SOSIE_CONFINE_WRITE)
		access |= LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_MAKE_REG |
		          LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |
		          LANDLOCK_ACCESS_FS_REMOVE_DIR;
	return S_ISDIR(mode) ? access : access & ON_FILES;
}

static int give(int rules, const struct sosie_confine_path *path, struct sosie_err *err)
{
	struct landlock_path_beneath_attr below = {0};
	struct stat st;
	int fd = open(path->path, O_PATH | O_NOFOLLOW | O_CLOEXEC), sys = 0;

	if (fd < 0)
		return 0;
	if (fstat(fd, &st) != 0) {
		sys = errno;
	} else if (!S_ISLNK(st.st_mode)) {
		below.parent_fd = fd;
		below.allowed_access = rights_of(path->rights, st.st_mode);
		if (syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &below, 0) != 0)
			sys = errno;
	}
	close(fd);
	if (sys == 0)
		return 0;
	sosie_err_sys(err, sys, "cannot name a path to Landlock");
	return sosie_err_where(err, "%s", path->path);
}

int landlock_restrict(const struct sosie_confine_path *paths, size_t count, struct sosie_err *err)
{
	struct landlock_rules rules;
	const int version = landlock_version();
	int fd, rc = 0;

	if (version < 1)
		return 0;
	fd = (int)syscall(SYS_landlock_create_ruleset, &rules, everything(version, &rules), 0);
	if (fd < 0)
		return sosie_err_sys(err, errno, "cannot confine a process with Landlock");
	for (size_t i = 0; rc == 0 && i < count; i++)
		rc = give(fd, &paths[i], err);
	if (rc == 0 && syscall(SYS_landlock_restrict_self, fd, 0) != 0)
		rc = sosie_err_sys(err, errno, "cannot confine a process with Landlock");
	close(fd);
	return rc;
}

const char *landlock_lacks(char *dst, size_t size, int version)
{
	static const struct {
		int since;
		const char *what;
	} steps[] = {
	        {1, "files and folders"},
	        {2, "moving between folders (always refused there)"},
	        {3, "cutting files"},
	        {4, "TCP"},
	        {5, "commands to devices (ioctl)"},
	        {6, "signals and abstract sockets"},
	};
	size_t at = 0;

	if (size > 0)
		dst[0] = '\0';
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		if (version >= steps[i].since || at >= size)
			continue;
		int n = snprintf(dst + at, size - at, "%s%s", at > 0 ? ", " : "", steps[i].what);
		at += n > 0 ? (size_t)n : 0;
	}
	return dst;
}

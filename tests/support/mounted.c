/* SPDX-License-Identifier: MIT */
/* See mounted.h. */
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "tests/support/mounted.h"

int mounted_run(const char *format, ...)
{
	char command[1024], whole[1200];
	va_list args;

	va_start(args, format);
	vsnprintf(command, sizeof(command), format, args);
	va_end(args);
	snprintf(whole, sizeof(whole), "out=$( { %s; } 2>&1 </dev/null) || { echo \"$out\" >&2; exit 1; }",
	         command);
	return system(whole);
}

const char *mounted_possible(const char *mkfs)
{
	static bool separate;

	if (geteuid() != 0)
		return "needs root";
	if (mounted_run("command -v %s", mkfs) != 0)
		return "needs mkfs for this filesystem";
	if (mounted_run("losetup -f") != 0)
		return "needs loop devices";
	if (!separate &&
	    (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0))
		return "needs a mount namespace";
	separate = true;
	return NULL;
}

bool mounted_up(struct mounted *m, const char *mkfs, const char *options, unsigned mib)
{
	int rc;

	snprintf(m->dir, sizeof(m->dir), "%s/sosie-mounted-XXXXXX",
	         getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
	if (!mkdtemp(m->dir))
		return false;
	rc = mounted_run("truncate -s %uM %s.img && %s %s.img && mount -o loop%s%s %s.img %s", mib, m->dir,
	                 mkfs, m->dir, options[0] ? "," : "", options, m->dir, m->dir);
	mounted_run("rm -f %s.img", m->dir); /* the loop device holds it */
	if (rc != 0)
		rmdir(m->dir);
	return rc == 0;
}

void mounted_down(struct mounted *m)
{
	if (umount2(m->dir, 0) != 0)
		umount2(m->dir, MNT_DETACH);
	rmdir(m->dir);
}

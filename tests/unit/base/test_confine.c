/* SPDX-License-Identifier: MIT */
/* What is said of a kernel's Landlock, and what confinement leaves; attacks on it are in tests/hostile. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/base/check.h"

#include "engine/base/landlock.h"
#include "engine/base/process.h"

static char folder[64];

static int make_folder(void **state)
{
	const char *tmp = getenv("TMPDIR");
	(void)state;
	snprintf(folder, sizeof(folder), "%.40s/sosie-confine-XXXXXX", tmp ? tmp : "/tmp");
	return mkdtemp(folder) ? 0 : -1;
}

static int drop_folder(void **state)
{
	char command[128];
	(void)state;
	snprintf(command, sizeof(command), "rm -rf %s", folder);
	return system(command);
}

static const char *below(const char *name)
{
	static char path[128];
	snprintf(path, sizeof(path), "%s/%s", folder, name);
	return path;
}

/* --- what is said
 * ---------------------------------------------------------------------------------------------------- */

static void test_landlock_lacks_names_what_a_version_does_not_have(void **state)
{
	char text[160], first[160];
	(void)state;
	assert_string_equal(landlock_lacks(text, sizeof(text), 6), "");
	assert_string_equal(landlock_lacks(text, sizeof(text), 7), "");
	assert_string_equal(landlock_lacks(text, sizeof(text), 5), "signals and abstract sockets");
	assert_string_equal(landlock_lacks(text, sizeof(text), 2),
	                    "cutting files, TCP, commands to devices (ioctl), signals and abstract sockets");
	landlock_lacks(text, sizeof(text), 0);
	assert_int_equal(strncmp(text, "files and folders, ", 19), 0);
	assert_non_null(strstr(text, "abstract sockets")); /* whole in 160 bytes */
	for (size_t size = 0; size < 20; size++) {
		memset(first, 'x', sizeof(first));
		landlock_lacks(first, size, 0);
		assert_int_equal(first[size], 'x');
	}
}

static void test_landlock_version_is_what_it_is_held_to(void **state)
{
	char text[160];
	(void)state;
	landlock_hold_to(0);
	assert_int_equal(sosie_confine_landlock(text, sizeof(text)), 0);
	assert_int_equal(strncmp(text, "files and folders, ", 19), 0);
	landlock_hold_to(INT_MAX);
	assert_true(sosie_confine_landlock(text, sizeof(text)) >= 0);
}

/* --- what is left
 * ---------------------------------------------------------------------------------------------------- */

typedef int (*inside_fn)(void);

/* The exit code of a child that runs inside() confined to reading below the folder and writing in its sub. */
static int confined(inside_fn inside, uint64_t files)
{
	char writable[128];
	snprintf(writable, sizeof(writable), "%s", below("sub"));
	const struct sosie_confine_path paths[] = {{folder, SOSIE_CONFINE_READ},
	                                           {writable, SOSIE_CONFINE_READ | SOSIE_CONFINE_WRITE},
	                                           {"/nothing/there", SOSIE_CONFINE_WRITE}};
	static const struct sosie_confine_call calls[] = {
	        {.number = SYS_openat}, {.number = SYS_close}, {.number = SYS_prlimit64}};
	const struct sosie_confine rules = {.paths = paths,
	                                    .path_count = 3,
	                                    .calls = calls,
	                                    .call_count = 3,
	                                    .memory_bytes = 64u << 20,
	                                    .files = files};
	pid_t child = fork();
	int status;
	assert_true(child >= 0);
	if (child == 0)
		_exit(sosie_confine_enter(&rules, NULL) ? 99 : inside());
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static int write_in_sub(void)
{
	int fd = open(below("sub/new"), O_WRONLY | O_CREAT, 0600);
	return fd >= 0 && write(fd, "x", 1) == 1 ? 7 : errno;
}

static int write_in_folder(void)
{
	return open(below("new"), O_WRONLY | O_CREAT, 0600) < 0 ? errno : 7;
}

static int read_in_folder(void)
{
	return open(below("old"), O_RDONLY) < 0 ? errno : 7;
}

static void test_confine_gives_each_path_its_rights(void **state)
{
	(void)state;
	assert_int_equal(mkdir(below("sub"), 0700), 0);
	close(open(below("old"), O_CREAT | O_WRONLY, 0600));
	assert_int_equal(confined(write_in_sub, 32), 7);
	assert_int_equal(confined(read_in_folder, 32), 7);
	assert_int_equal(confined(write_in_folder, 32),
	                 sosie_confine_layers() & SOSIE_CONFINE_LANDLOCK ? EACCES : 7);
}

static int leave_two(void)
{
	struct rlimit core, files;
	if (getrlimit(RLIMIT_CORE, &core) || getrlimit(RLIMIT_NOFILE, &files))
		return 1;
	return core.rlim_max == 0 && files.rlim_max == 5 && open(below("old"), O_RDONLY) == 3 ? 7 : 2;
}

/* Descriptor 3 is the first that is free: what was open above 2 is closed. */
static void test_confine_limits_and_closes(void **state)
{
	(void)state;
	close(open(below("old"), O_CREAT | O_WRONLY, 0600));
	int one = open(below("old"), O_RDONLY), two = open(below("old"), O_RDONLY);
	assert_true(one >= 3 && two > one);
	assert_int_equal(confined(leave_two, 5), 7);
	close(one);
	close(two);
}

static int opens_standard(void)
{
	return open(below("old"), O_RDONLY);
}

/* A file must not become standard error by being opened first. */
static void test_confine_fills_closed_standard_descriptors(void **state)
{
	int in = dup(0), out = dup(1), error = dup(2), got;
	(void)state;
	close(open(below("old"), O_CREAT | O_WRONLY, 0600));
	close(0);
	close(2);
	got = confined(opens_standard, 32);
	dup2(in, 0);
	dup2(out, 1);
	dup2(error, 2);
	close(in);
	close(out);
	close(error);
	assert_int_equal(got, 3);
}

static void test_limit_that_is_lower_stays(void **state)
{
	struct rlimit files = {.rlim_cur = 9, .rlim_max = 9};
	int status;
	(void)state;
	pid_t child = fork();
	if (child == 0) {
		setrlimit(RLIMIT_NOFILE, &files);
		int rc = process_limit(RLIMIT_NOFILE, 64, NULL);
		getrlimit(RLIMIT_NOFILE, &files);
		_exit(rc == 0 && files.rlim_max == 9 && files.rlim_cur == 9 ? 7 : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

#define IN_FOLDER(f) cmocka_unit_test_setup_teardown(f, make_folder, drop_folder)

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_landlock_lacks_names_what_a_version_does_not_have),
	        cmocka_unit_test(test_landlock_version_is_what_it_is_held_to),
	        IN_FOLDER(test_confine_gives_each_path_its_rights),
	        IN_FOLDER(test_confine_limits_and_closes),
	        IN_FOLDER(test_confine_fills_closed_standard_descriptors),
	        cmocka_unit_test(test_limit_that_is_lower_stays),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

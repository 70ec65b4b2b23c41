/* SPDX-License-Identifier: MIT */
/*
 * The sandbox from the inside: each test forks, enters, tries one thing and judges how the child ended. Where
 * a sanitizer takes layers away, the test asks for what is promised then.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/base/check.h"

#include "sosie/sandbox.h"

#define MEMORY (16u << 20)
#define ENTER_FAILED 99

typedef int (*inside_fn)(int fd);

static bool has(unsigned layer)
{
	return (sosie_sandbox_layers() & layer) != 0;
}

/* The wait status of a child that runs inside(fd) confined; its return value becomes the exit code. */
static int confined(inside_fn inside, int fd, unsigned features)
{
	const struct sosie_sandbox rules = {.parent = getpid(),
	                                    .keep = &fd,
	                                    .keep_count = fd >= 0,
	                                    .memory_bytes = MEMORY,
	                                    .features = features};
	struct sosie_err err;
	pid_t child = fork();
	int status;

	assert_true(child >= 0);
	if (child == 0) {
		if (sosie_sandbox_enter(&rules, &err) != 0)
			_exit(ENTER_FAILED);
		_exit(inside(fd));
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	return status;
}

static void assert_exit(int status, int code)
{
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), code);
}

static void assert_killed_by_filter(int status)
{
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGSYS);
}

/* --- what is allowed
 * ------------------------------------------------------------------------------------------------ */

static int allocates_and_answers(int fd)
{
	char *p = malloc(4 << 20), c;
	ssize_t got = read(fd, &c, 1);

	if (!p || got != 1)
		return 1;
	memset(p, c, 4 << 20);
	free(p);
	return write(fd, "b", 1) == 1 ? 7 : 2;
}

static void test_sandbox_allocation_and_given_socket_work(void **state)
{
	int pair[2];
	char c = 'a';

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	assert_int_equal(write(pair[0], &c, 1), 1);
	assert_exit(confined(allocates_and_answers, pair[1], 0), 7);
	assert_int_equal(read(pair[0], &c, 1), 1);
	assert_int_equal(c, 'b');
	close(pair[0]);
	close(pair[1]);
}

static int writes_file(int fd)
{
	return pwrite(fd, "x", 1, 4096) == 1 && fsync(fd) == 0 ? 7 : 1;
}

static void test_sandbox_file_calls_need_the_feature(void **state)
{
	int fd = memfd_create("sandbox", 0), status;

	(void)state;
	assert_true(fd >= 0);
	assert_exit(confined(writes_file, fd, SOSIE_SANDBOX_FILES), 7);
	assert_int_equal(lseek(fd, 0, SEEK_END), 4097);
	status = confined(writes_file, fd, 0);
	if (has(SOSIE_SANDBOX_SYSCALLS))
		assert_killed_by_filter(status);
	else /* RLIMIT_FSIZE: the write signals */
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGXFSZ);
	close(fd);
}

/* --- what is not
 * ---------------------------------------------------------------------------------------------------- */

static int opens(int fd)
{
	(void)fd;
	return open("/etc/passwd", O_RDONLY) < 0 ? 3 : 0;
}

static int makes_socket(int fd)
{
	(void)fd;
	return socket(AF_INET, SOCK_STREAM, 0) < 0 ? 3 : 0;
}

static int maps_code(int fd)
{
	(void)fd;
	return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED;
}

static int makes_code(int fd)
{
	void *p = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)fd;
	return p == MAP_FAILED ? 1 : mprotect(p, 4096, PROT_READ | PROT_EXEC);
}

static int forks(int fd)
{
	(void)fd;
	return (int)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL) < 0;
}

static int signals_parent(int fd)
{
	(void)fd;
	return kill(getppid(), 0) < 0;
}

static int makes_ring(int fd)
{
	(void)fd;
	return (int)syscall(SYS_io_uring_setup, 1, NULL) < 0;
}

static int ptraces(int fd)
{
	(void)fd;
	return (int)syscall(SYS_ptrace, 16, getppid(), 0, 0) < 0;
}

static void test_sandbox_forbidden_calls_kill(void **state)
{
	static const inside_fn tries[] = {opens, makes_socket,   maps_code,  makes_code,
	                                  forks, signals_parent, makes_ring, ptraces};
	unsigned killed = 0;

	(void)state;
	if (!has(SOSIE_SANDBOX_SYSCALLS)) {
		assert_exit(confined(opens, -1, 0), 3); /* no descriptor may be made, and Landlock */
		assert_exit(confined(makes_socket, -1, 0), 3);
		return;
	}
	for (size_t i = 0; i < sizeof(tries) / sizeof(tries[0]); i++) {
		assert_killed_by_filter(confined(tries[i], -1, 0));
		killed++;
	}
	assert_int_equal(killed, 8);
}

static int needs_too_much(int fd)
{
	(void)fd;
	return mmap(NULL, 4 * MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
	                               MAP_FAILED &&
	                       errno == ENOMEM
	               ? 7
	               : 0;
}

static void test_sandbox_memory_is_limited(void **state)
{
	(void)state;
	assert_exit(confined(needs_too_much, -1, 0), has(SOSIE_SANDBOX_MEMORY) ? 7 : 0);
}

static int aborts(int fd)
{
	(void)fd;
	abort();
}

static void test_sandbox_abort_ends_as_abort(void **state)
{
	int status;

	(void)state;
	status = confined(aborts, -1, 0);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGABRT);
	assert_false(WCOREDUMP(status));
}

/* --- what is not inherited
 * ------------------------------------------------------------------------------------------ */

static int other_descriptor; /* open in the parent */

static int uses_other_descriptor(int fd)
{
	char c;

	(void)fd;
	return read(other_descriptor, &c, 1) == -1 && errno == EBADF ? 7 : 0;
}

static void test_sandbox_other_descriptors_are_closed(void **state)
{
	int pair[2], high;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	high = fcntl(pair[0], F_DUPFD, 700);
	assert_true(high >= 700);
	assert_int_equal(write(pair[1], "abc", 3), 3);
	for (int i = 0; i < 2; i++) { /* one below and one above the descriptor kept */
		other_descriptor = i ? high : pair[0];
		assert_exit(confined(uses_other_descriptor, i ? pair[0] : high, 0), 7);
	}
	close(high);
	close(pair[0]);
	close(pair[1]);
}

#define PAGES (3 * 4096u)

static uint8_t *shared_kept, *shared_other;

static uint8_t *share(void)
{
	void *p = mmap(NULL, PAGES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert_true(p != MAP_FAILED);
	return p;
}

static void run_with_shared(uint8_t *touch, int *status)
{
	const struct sosie_sandbox rules = {
	        .parent = getpid(), .shared = shared_kept, .shared_bytes = PAGES - 1, .memory_bytes = MEMORY};
	struct sosie_err err;
	pid_t child = fork();

	assert_true(child >= 0);
	if (child == 0) {
		if (sosie_sandbox_enter(&rules, &err) != 0)
			_exit(ENTER_FAILED);
		touch[0] = touch[PAGES - 1] = 1;
		_exit(7);
	}
	assert_int_equal(waitpid(child, status, 0), child);
}

static void test_sandbox_shared_memory_is_taken_but_for_the_one_given(void **state)
{
	uint8_t *before = share();
	int status;

	(void)state;
	shared_kept = share();
	shared_other = share();
	run_with_shared(shared_kept, &status);
	assert_exit(status, 7);
	assert_int_equal(shared_kept[0] + shared_kept[PAGES - 1], 2);
	for (unsigned i = 0; i < 2; i++) {
		uint8_t *other = i ? before : shared_other;

		run_with_shared(other, &status);
		assert_false(WIFEXITED(status) && WEXITSTATUS(status) == 7);
		assert_int_equal(other[0] + other[PAGES - 1], 0);
	}
	munmap(before, PAGES);
	munmap(shared_kept, PAGES);
	munmap(shared_other, PAGES);
}

static volatile sig_atomic_t handled;

static void handle(int s)
{
	(void)s;
	handled = 1;
}

static int is_terminated_by_pipe(int fd)
{
	return write(fd, "x", 1) < 0 ? 1 : 0; /* the other end is closed: SIGPIPE */
}

static void test_sandbox_handled_and_blocked_signals_are_reset(void **state)
{
	const struct sigaction handler = {.sa_handler = handle}, standard = {.sa_handler = SIG_DFL};
	sigset_t pipe_signal;
	int ends[2], status;

	(void)state;
	assert_int_equal(pipe(ends), 0);
	close(ends[0]);
	sigaction(SIGPIPE, &handler, NULL);
	sigemptyset(&pipe_signal);
	sigaddset(&pipe_signal, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &pipe_signal, NULL);
	status = confined(is_terminated_by_pipe, ends[1], 0);
	pthread_sigmask(SIG_UNBLOCK, &pipe_signal, NULL);
	sigaction(SIGPIPE, &standard, NULL);
	close(ends[1]);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGPIPE);
	assert_int_equal(handled, 0);
}

static void test_sandbox_of_an_orphan_is_refused(void **state)
{
	const struct sosie_sandbox rules = {.parent = getppid(), .memory_bytes = MEMORY};
	struct sosie_err err;
	pid_t child = fork();
	int status;

	(void)state;
	if (child == 0)
		_exit(sosie_sandbox_enter(&rules, &err) == -SOSIE_EINTERNAL ? 7 : 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_exit(status, 7);
}

/* Whatever the kernel: the words belong to the number. */
static void test_landlock_says_what_the_kernel_cannot_forbid(void **state)
{
	char lacks[200], small[8];
	int abi = -1;
	(void)state;
	sosie_sandbox_landlock(&abi, lacks, sizeof(lacks));
	assert_int_equal(abi >= 1, (sosie_sandbox_layers() & SOSIE_SANDBOX_LANDLOCK) != 0);
	assert_int_equal(abi < 1, strstr(lacks, "access to files") != NULL);
	assert_int_equal(abi < 4, strstr(lacks, "TCP") != NULL);
	assert_int_equal(abi < 6, strstr(lacks, "signals") != NULL);
	assert_int_equal(abi >= 6, lacks[0] == '\0');
	sosie_sandbox_landlock(&abi, small, sizeof(small));
	assert_true(strncmp(small, lacks, strlen(small)) == 0 && strlen(small) < sizeof(small));
	(void)sosie_sandbox_seccomp();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_landlock_says_what_the_kernel_cannot_forbid),
	        cmocka_unit_test(test_sandbox_allocation_and_given_socket_work),
	        cmocka_unit_test(test_sandbox_file_calls_need_the_feature),
	        cmocka_unit_test(test_sandbox_forbidden_calls_kill),
	        cmocka_unit_test(test_sandbox_memory_is_limited),
	        cmocka_unit_test(test_sandbox_abort_ends_as_abort),
	        cmocka_unit_test(test_sandbox_other_descriptors_are_closed),
	        cmocka_unit_test(test_sandbox_shared_memory_is_taken_but_for_the_one_given),
	        cmocka_unit_test(test_sandbox_handled_and_blocked_signals_are_reset),
	        cmocka_unit_test(test_sandbox_of_an_orphan_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

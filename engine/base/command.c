/* SPDX-License-Identifier: MIT */
/*
 * One program of the operator's: posix_spawn (no memory is copied, whatever the size of the daemon), input
 * from a memory file (so that a program that does not read it never blocks us), output through one pipe that
 * is always emptied. What the program leaves running keeps nothing of ours: all our descriptors are
 * close-on-exec.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "sosie/clock.h"
#include "sosie/command.h"

#define TOLD_MAX 200u /* of its output in a message */
#define LOOK_MS 100   /* between looks at the stop flag */

extern char **environ;

struct child {
	pid_t pid;
	int pidfd, out; /* out: -1 after its end */
	char told[TOLD_MAX + 1];
	size_t told_len;
	bool late, stopped;
	int unwatched; /* errno: it could not be watched, so it was ended; 0: it was */
};

static int64_t now_ms(void)
{
	return sosie_mono_ms(sosie_clock_real());
}

static int input_file(const struct sosie_command *c)
{
	const char *at = c->input;
	size_t left = c->input_len;
	int fd = memfd_create("sosie-input", MFD_CLOEXEC);

	while (fd >= 0 && left > 0) {
		ssize_t n = write(fd, at, left);

		if (n <= 0) {
			close(fd);
			return -1;
		}
		at += n;
		left -= (size_t)n;
	}
	if (fd >= 0)
		lseek(fd, 0, SEEK_SET);
	return fd;
}

/* Returns an errno. */
static int spawn(const struct sosie_command *c, int in, int out, pid_t *pid)
{
	posix_spawn_file_actions_t files;
	posix_spawnattr_t how;
	char program[4096];
	char *argv[] = {program, NULL};
	sigset_t all, none;
	int rc;

	if (strlen(c->program) >= sizeof(program))
		return ENAMETOOLONG;
	memcpy(program, c->program, strlen(c->program) + 1);
	sigfillset(&all);
	sigemptyset(&none);
	rc = posix_spawn_file_actions_init(&files);
	if (rc != 0)
		return rc;
	rc = posix_spawnattr_init(&how);
	if (rc != 0)
		goto destroy_files;
	posix_spawnattr_setflags(&how,
	                         POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
	posix_spawnattr_setpgroup(&how, 0);
	posix_spawnattr_setsigdefault(&how, &all);
	posix_spawnattr_setsigmask(&how, &none);
	rc = posix_spawn_file_actions_adddup2(&files, in, 0);
	if (rc == 0)
		rc = posix_spawn_file_actions_adddup2(&files, out, 1);
	if (rc == 0)
		rc = posix_spawn_file_actions_adddup2(&files, out, 2);
	if (rc == 0)
		rc = posix_spawn(pid, program, &files, &how, argv, environ);
	posix_spawnattr_destroy(&how);

destroy_files:
	posix_spawn_file_actions_destroy(&files);
	return rc;
}

static void keep(struct child *k, const char *data, size_t n)
{
	size_t room = TOLD_MAX - k->told_len;

	memcpy(k->told + k->told_len, data, n < room ? n : room);
	k->told_len += n < room ? n : room;
}

/* Takes what is there; the end of the stream closes it. */
static void drain(struct child *k)
{
	char data[4096];

	while (k->out >= 0) {
		ssize_t n = read(k->out, data, sizeof(data));

		if (n > 0) {
			keep(k, data, (size_t)n);
			continue;
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		close(k->out);
		k->out = -1;
	}
}

static bool ended(const struct child *k)
{
	struct pollfd p = {.fd = k->pidfd, .events = POLLIN};

	return poll(&p, 1, 0) == 1;
}

static void watch(const struct sosie_command *c, struct child *k)
{
	const int64_t end = now_ms() + (int64_t)c->limit_ms;

	while (!ended(k)) {
		struct pollfd p[2] = {{.fd = k->pidfd, .events = POLLIN}, {.fd = k->out, .events = POLLIN}};
		const int64_t left = end - now_ms();

		k->stopped = c->stop && __atomic_load_n(c->stop, __ATOMIC_RELAXED);
		k->late = left <= 0;
		if (k->stopped || k->late) {
			kill(-k->pid, SIGKILL);
			return;
		}
		(void)poll(p, 2, left < LOOK_MS ? (int)left : LOOK_MS);
		drain(k);
	}
}

static int tell(const struct sosie_command *c, struct child *k, int status, struct sosie_err *err)
{
	char said[TOLD_MAX * 4 + 1];

	if (k->stopped)
		return sosie_err_set(err, SOSIE_EINTR, "%.200s: stopped", c->program);
	while (k->told_len > 0 && (k->told[k->told_len - 1] == '\n' || k->told[k->told_len - 1] == ' '))
		k->told_len--;
	sosie_escape(said, sizeof(said), k->told, k->told_len);
	if (k->unwatched) {
		sosie_err_set(err, SOSIE_EHOOK, "%.200s: cannot be watched, so it was ended: %s", c->program,
		              strerror(k->unwatched));
		sosie_err_action(err, "raise this process's limit of open files (LimitNOFILE)");
		return -SOSIE_EHOOK;
	}
	if (k->late)
		return sosie_err_set(err, SOSIE_EHOOK, "%.200s: not done after %llu ms, killed%s%.200s",
		                     c->program, (unsigned long long)c->limit_ms, said[0] ? ": " : "", said);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	return sosie_err_set(err, SOSIE_EHOOK, "%.200s: ended with %s %d%s%.200s", c->program,
	                     WIFSIGNALED(status) ? "signal" : "exit status",
	                     WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status),
	                     said[0] ? ": " : "", said);
}

static int attend(const struct sosie_command *c, struct child *k, struct sosie_err *err)
{
	int status = 0;

	k->pidfd = pidfd_open(k->pid, 0); /* close-on-exec (pidfd_open(2)) */
	if (k->pidfd < 0) {               /* no descriptor left */
		k->unwatched = errno;
		kill(-k->pid, SIGKILL);
	} else {
		watch(c, k);
		close(k->pidfd);
	}
	while (waitpid(k->pid, &status, 0) < 0 && errno == EINTR)
		;
	drain(k);
	return tell(c, k, status, err);
}

int sosie_command_run(const struct sosie_command *c, struct sosie_err *err)
{
	struct child k = {.pid = -1, .pidfd = -1, .out = -1};
	int ends[2] = {-1, -1}, in, rc;

	sosie_err_clear(err);
	in = input_file(c);
	if (in < 0 || pipe2(ends, O_CLOEXEC) != 0) {
		rc = sosie_err_sys(err, errno, "%.200s: cannot be given its input", c->program);
		if (in >= 0)
			close(in);
		return rc;
	}
	(void)fcntl(ends[0], F_SETFL, O_NONBLOCK);
	k.out = ends[0];
	rc = spawn(c, in, ends[1], &k.pid);
	close(in);
	close(ends[1]);
	if (rc != 0) {
		sosie_err_set(err, SOSIE_EHOOK, "%.200s: cannot be run: %s", c->program, strerror(rc));
		rc = sosie_err_action(err, "it must be an executable file that this user may run");
	} else {
		rc = attend(c, &k, err);
	}
	if (k.out >= 0)
		close(k.out);
	return rc;
}

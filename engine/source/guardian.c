/* SPDX-License-Identifier: MIT */
/*
 * The guardian's own process. It was forked from a program that may have threads, so it only makes calls that
 * are safe after such a fork: no allocation, no stdio, no locks. It holds nothing of its parent but the pipe
 * and standard error: above all not the lock of the state.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "engine/source/hooks.h"

struct guardian_message {
	int32_t word;
	int32_t pid;
};
_Static_assert(sizeof(struct guardian_message) <= 512, "one write to the pipe is whole (PIPE_BUF)");

struct duty {
	bool thaw, view;
	pid_t runs;
};

static void pause_ms(long ms)
{
	struct timespec ts = {ms / 1000, ms % 1000 * 1000000};

	nanosleep(&ts, NULL);
}

static void note(struct duty *d, const struct guardian_message *m)
{
	switch ((enum guardian_word)m->word) {
	case GUARDIAN_OWE_THAW:
		d->thaw = true;
		break;
	case GUARDIAN_THAWED:
		d->thaw = false;
		break;
	case GUARDIAN_OWE_VIEW:
		d->view = true;
		break;
	case GUARDIAN_VIEW_DONE:
		d->view = false;
		break;
	case GUARDIAN_RUNS:
		d->runs = m->pid;
		break;
	case GUARDIAN_ENDED:
		d->runs = d->runs == m->pid ? 0 : d->runs;
		break;
	}
}

static void run_owed(const char *command, char *const env[], uint64_t limit_ms)
{
	char shell[] = "/bin/sh", flag[] = "-c", *text;
	pid_t pid;

	memcpy(&text, &command, sizeof(text));
	char *const argv[] = {shell, flag, text, NULL};
	pid = _Fork();
	if (pid == 0) {
		setpgid(0, 0);
		for (int i = 1; i < 32; i++)
			signal(i, SIG_DFL);
		execve(shell, argv, env);
		_exit(127);
	}
	for (uint64_t waited = 0; pid > 0 && waitpid(pid, NULL, WNOHANG) == 0; waited += 20) {
		if (waited >= limit_ms) {
			kill(-pid, SIGKILL);
			return;
		}
		pause_ms(20);
	}
}

/* The command that ran when the parent died: ended, so that a freeze does not come after its thaw. */
static void end_running(pid_t group)
{
	if (group <= 1)
		return;
	kill(-group, SIGKILL);
	for (unsigned i = 0; i < 100 && kill(-group, 0) == 0; i++)
		pause_ms(20);
}

static _Noreturn void guard(int fd, const struct sosie_hooks *hooks, char *const env[])
{
	struct guardian_message m;
	struct duty d = {0};

	for (;;) {
		ssize_t n = read(fd, &m, sizeof(m));

		if (n < 0 && errno == EINTR)
			continue;
		if (n != (ssize_t)sizeof(m))
			break;
		note(&d, &m);
	}
	if (d.thaw || d.view)
		end_running(d.runs);
	if (d.thaw)
		run_owed(hooks->thaw, env, hooks->hook_limit_ms);
	if (d.view)
		run_owed(hooks->view_done, env, hooks->hook_limit_ms);
	_exit(0);
}

static _Noreturn void become_guardian(int fd, const struct sosie_hooks *hooks, char *const env[])
{
	sigset_t none;
	int null = open("/dev/null", O_RDWR);

	setsid();
	for (int i = 1; i < 32; i++)
		signal(i, i == SIGINT || i == SIGTERM || i == SIGHUP || i == SIGPIPE ? SIG_IGN : SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	/* Standard error stays: what thaw has to say goes where the daemon's own words went. */
	if (null < 0 || dup2(fd, 3) < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0)
		_exit(127);
	close_range(4, ~0u, 0);
	fcntl(3, F_SETFD, FD_CLOEXEC);
	guard(3, hooks, env);
}

int guardian_start(struct guardian *g, const struct sosie_hooks *hooks, const struct hook_env *env,
                   struct sosie_err *err)
{
	int ends[2];

	*g = (struct guardian){.pid = 0, .pipe = -1};
	if (!hooks->thaw && !hooks->view_done)
		return 0;
	if (pipe2(ends, O_CLOEXEC) != 0)
		return sosie_err_sys(err, errno, "no pipe for the guardian of hooks");
	g->pid = fork();
	if (g->pid == 0)
		become_guardian(ends[0], hooks, env->list);
	close(ends[0]);
	g->pipe = ends[1];
	if (g->pid > 0)
		return 0;
	g->pid = 0;
	close(ends[1]);
	g->pipe = -1;
	return sosie_err_sys(err, errno, "the guardian of hooks cannot be started");
}

void guardian_tell(const struct guardian *g, enum guardian_word word, pid_t pid)
{
	struct guardian_message m = {.word = (int32_t)word, .pid = pid};

	while (g->pipe >= 0 && write(g->pipe, &m, sizeof(m)) < 0 && errno == EINTR)
		;
}

void guardian_stop(struct guardian *g)
{
	if (g->pipe >= 0)
		close(g->pipe);
	while (g->pid > 0 && waitpid(g->pid, NULL, 0) < 0 && errno == EINTR)
		;
	*g = (struct guardian){.pid = 0, .pipe = -1};
}

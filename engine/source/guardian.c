/* SPDX-License-Identifier: MIT */
/*
 * The guardian's own process and the words to it, over a pair of packet sockets. It was forked from a program
 * that may have threads, so it only makes calls that are safe after such a fork: no allocation, no stdio, no
 * locks. It holds nothing of its parent but the socket, a descriptor of the parent's process and standard
 * error: above all not the lock of the state.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "engine/source/guardian.h"
#include "sosie/thread.h"

#define MONITOR_WAIT_MS 1000
#define MS 1000000ll

struct duty {
	const struct guardian_job *job;
	int socket, parent; /* parent: pidfd, -1 where there is none */
	int monitor;
	bool thaw, view, runs_thaw;
	int64_t deadline_ns;
	pid_t runs;
};

static void pause_ms(long ms)
{
	struct timespec ts = {ms / 1000, ms % 1000 * 1000000};

	nanosleep(&ts, NULL);
}

/* --- words -----------------------------------------------------------------------------------------------
 */

union control {
	struct cmsghdr header;
	char space[CMSG_SPACE(sizeof(int))];
};

static bool send_word(int fd, const struct guardian_message *m, int monitor)
{
	struct guardian_message copy = *m;
	struct iovec iov = {&copy, sizeof(copy)};
	union control control = {0};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t n;

	if (monitor >= 0) {
		struct cmsghdr *c = &control.header;

		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &monitor, sizeof(int));
		msg.msg_control = &control;
		msg.msg_controllen = sizeof(control);
	}
	do
		n = sendmsg(fd, &msg, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n == (ssize_t)sizeof(copy);
}

/* 1: a word; 0: nobody is there any more; -1: nothing now. */
static int receive_word(struct duty *d, struct guardian_message *m, int flags)
{
	struct iovec iov = {m, sizeof(*m)};
	union control control;
	struct msghdr msg = {
	        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
	ssize_t n = recvmsg(d->socket, &msg, flags | MSG_CMSG_CLOEXEC);
	struct cmsghdr *c;

	if (n < 0)
		return errno == EINTR || errno == EAGAIN ? -1 : 0;
	c = CMSG_FIRSTHDR(&msg);
	if (c && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof(int))) {
		if (d->monitor >= 0)
			close(d->monitor);
		memcpy(&d->monitor, CMSG_DATA(c), sizeof(int));
	}
	return n == (ssize_t)sizeof(*m) ? 1 : 0;
}

static void note(struct duty *d, const struct guardian_message *m)
{
	switch ((enum guardian_word)m->word) {
	case GUARDIAN_OWE_THAW:
		d->thaw = true;
		d->deadline_ns = m->deadline_ns;
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
	case GUARDIAN_RUNS_THAW:
		d->runs = m->pid;
		d->runs_thaw = m->word == GUARDIAN_RUNS_THAW;
		break;
	case GUARDIAN_ENDED:
		d->runs = d->runs == m->pid ? 0 : d->runs;
		break;
	}
	if (!d->thaw && d->monitor >= 0) {
		close(d->monitor);
		d->monitor = -1;
	}
}

/* --- undoing ---------------------------------------------------------------------------------------------
 */

static void run_owed(const char *command, const struct guardian_job *job)
{
	char shell[] = "/bin/sh", flag[] = "-c", *text;
	pid_t pid;

	memcpy(&text, &command, sizeof(text));
	char *const argv[] = {shell, flag, text, NULL};
	pid = _Fork();
	if (pid == 0) {
		setpgid(0, 0);
		sosie_signals_reset();
		execve(shell, argv, job->env);
		_exit(127);
	}
	for (uint64_t waited = 0; pid > 0 && waitpid(pid, NULL, WNOHANG) == 0; waited += 20) {
		if (waited >= job->hook_limit_ms) {
			kill(-pid, SIGKILL);
			while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
				;
			return;
		}
		pause_ms(20);
	}
}

/* A command that still runs is ended, so that a freeze does not come after its thaw. */
static void end_running(struct duty *d)
{
	pid_t group = d->runs;

	d->runs = 0;
	if (group <= 1)
		return;
	kill(-group, SIGKILL);
	for (unsigned i = 0; i < 100 && kill(-group, 0) == 0; i++)
		pause_ms(20);
}

static void thaw_cgroup(const char *file)
{
	int fd = open(file, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	while (write(fd, "0", 1) < 0 && errno == EINTR)
		;
	close(fd);
}

/* Waits for the answer: a monitor that sees the end of the connection first may drop what it has not read. */
static void continue_machine(int fd)
{
	static const char word[] = "{\"execute\":\"cont\",\"id\":\"guardian\"}\n", mark[] = "\"guardian\"";
	char buf[512];
	size_t kept = 0;
	int64_t end = sosie_clock_ns(CLOCK_MONOTONIC) + MONITOR_WAIT_MS * MS;

	if (fd < 0 || send(fd, word, sizeof(word) - 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		return;
	while (sosie_clock_ns(CLOCK_MONOTONIC) < end) {
		struct pollfd p = {fd, POLLIN, 0};
		ssize_t n;

		if (poll(&p, 1, 50) <= 0)
			continue;
		n = recv(fd, buf + kept, sizeof(buf) - kept, MSG_DONTWAIT);
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
			return;
		if (n < 0)
			continue;
		kept += (size_t)n;
		if (memmem(buf, kept, mark, sizeof(mark) - 1))
			return;
		if (kept > sizeof(mark)) {
			memmove(buf, buf + kept - sizeof(mark), sizeof(mark));
			kept = sizeof(mark);
		}
	}
}

static void free_note(const char *path)
{
	int fd = path && path[0] ? open(path, O_WRONLY | O_NOFOLLOW | O_CLOEXEC) : -1;

	if (fd < 0)
		return;
	(void)!pwrite(fd, "free", 4, 0);
	close(fd);
}

static void undo_thaw(struct duty *d)
{
	d->thaw = false;
	switch (d->job->kind) {
	case SOSIE_PAUSE_CGROUP:
		thaw_cgroup(d->job->freeze_file);
		break;
	case SOSIE_PAUSE_QMP:
		continue_machine(d->monitor);
		break;
	case SOSIE_PAUSE_COMMANDS:
		run_owed(d->job->thaw, d->job);
		break;
	case SOSIE_PAUSE_NONE:
		break;
	}
	free_note(d->job->note);
}

/* The limit has passed and the parent has not said that it thawed. */
static void at_limit(struct duty *d)
{
	if (d->runs && d->runs_thaw) { /* it is at it: its own limit, then ours */
		d->deadline_ns += (int64_t)d->job->hook_limit_ms * MS;
		d->runs_thaw = false;
		return;
	}
	end_running(d);
	undo_thaw(d);
}

static int wait_ms(const struct duty *d)
{
	int64_t left = d->deadline_ns - sosie_clock_ns(CLOCK_MONOTONIC);

	if (!d->thaw)
		return -1;
	if (left <= 0)
		return 0;
	return left > 3600000 * MS ? 3600000 : (int)((left + MS - 1) / MS);
}

static _Noreturn void guard(struct duty *d)
{
	struct guardian_message m;

	for (;;) {
		struct pollfd fds[2] = {{d->socket, POLLIN, 0}, {d->parent, POLLIN, 0}};
		int rc;

		poll(fds, 2, wait_ms(d));
		rc = receive_word(d, &m, MSG_DONTWAIT);
		if (rc > 0)
			note(d, &m);
		else if (rc == 0 || (fds[1].revents & POLLIN))
			break;
		else if (d->thaw && sosie_clock_ns(CLOCK_MONOTONIC) >= d->deadline_ns)
			at_limit(d);
	}
	/* From here on nobody's word is taken: a command about to start sees it and does not. */
	shutdown(d->socket, SHUT_RD);
	while (receive_word(d, &m, MSG_DONTWAIT) > 0)
		note(d, &m);
	if (d->thaw || d->view)
		end_running(d);
	if (d->thaw)
		undo_thaw(d);
	if (d->view)
		run_owed(d->job->view_done, d->job);
	_exit(0);
}

static _Noreturn void become_guardian(int fd, pid_t parent, const struct guardian_job *job)
{
	struct duty d = {.job = job, .socket = 3, .parent = -1, .monitor = -1};
	sigset_t none;
	int null;

	setsid();
	/* Not by way of the default: one of these could come in between. */
	for (int i = 1; i < 32; i++)
		signal(i, i == SIGINT || i == SIGTERM || i == SIGHUP || i == SIGPIPE ? SIG_IGN : SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	/* Standard error stays: what thaw has to say goes where the daemon's own words went. */
	if (fd < 3)
		_exit(127); /* the caller has made sure */
	if (fd != 3 && dup2(fd, 3) < 0)
		_exit(127);
	close_range(4, ~0u, 0);
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0)
		_exit(127);
	fcntl(3, F_SETFD, FD_CLOEXEC);
	d.parent = pidfd_open(parent, 0);
	if (d.parent < 0 && errno == ESRCH)
		shutdown(3, SHUT_RD); /* dead already: whatever it has said is done below */
	guard(&d);
}

/* --- the parent's side -----------------------------------------------------------------------------------
 */

void guardian_init(struct guardian *g, const struct guardian_job *job)
{
	*g = (struct guardian){.job = *job, .fd = -1, .monitor = -1};
}

/* A descriptor above the three that every process has. */
static int above_standard(int fd)
{
	int high = fd;

	if (fd < 3) {
		high = fcntl(fd, F_DUPFD_CLOEXEC, 3);
		close(fd);
	}
	return high;
}

static int start(struct guardian *g, struct sosie_err *err)
{
	int ends[2], child_end, sys;
	pid_t self = getpid();

	guardian_stop(g);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
		return sosie_err_sys(err, errno, "no socket for the guardian of a pause");
	g->fd = above_standard(ends[0]);
	child_end = above_standard(ends[1]);
	g->pid = child_end >= 0 && g->fd >= 0 ? fork() : -1;
	sys = errno;
	if (g->pid == 0)
		become_guardian(child_end, self, &g->job);
	if (child_end >= 0)
		close(child_end);
	if (g->pid > 0)
		return 0;
	g->pid = 0;
	guardian_stop(g);
	return sosie_err_sys(err, sys, "the guardian of a pause cannot be started");
}

static bool tell_debts(const struct guardian *g)
{
	const struct guardian_message view = {.word = GUARDIAN_OWE_VIEW};

	return (!g->thaw_owed || send_word(g->fd, &g->thaw, g->monitor)) &&
	       (!g->view_owed || send_word(g->fd, &view, -1));
}

int guardian_owe(struct guardian *g, enum guardian_word word, int64_t deadline_ns, int monitor,
                 struct sosie_err *err)
{
	int rc;

	if (word == GUARDIAN_OWE_THAW) {
		g->thaw = (struct guardian_message){.word = (int32_t)word, .deadline_ns = deadline_ns};
		g->monitor = monitor;
		g->thaw_owed = true;
	} else {
		g->view_owed = true;
	}
	if (g->fd >= 0 && tell_debts(g))
		return 0;
	rc = start(g, err);
	if (rc == 0 && !tell_debts(g))
		rc = sosie_err_sys(err, errno, "the guardian of a pause does not hear");
	return rc;
}

bool guardian_tell(const struct guardian *g, enum guardian_word word, pid_t pid)
{
	const struct guardian_message m = {.word = (int32_t)word, .pid = pid};

	return g->fd < 0 || send_word(g->fd, &m, -1);
}

void guardian_paid(struct guardian *g, enum guardian_word word)
{
	if (word == GUARDIAN_THAWED) {
		g->thaw_owed = false;
		g->monitor = -1;
	} else {
		g->view_owed = false;
	}
	guardian_tell(g, word, 0);
}

void guardian_stop(struct guardian *g)
{
	if (g->fd >= 0) {
		shutdown(g->fd, SHUT_RDWR); /* also where a child of ours still holds a copy */
		close(g->fd);
	}
	while (g->pid > 0 && waitpid(g->pid, NULL, 0) < 0 && errno == EINTR)
		;
	g->pid = 0;
	g->fd = -1;
}

/* SPDX-License-Identifier: MIT */
/*
 * The parent's side of disposable children: start, questions and answers, limits, end.
 *
 * Invariants:
 *  - Without an area there is no child.
 *  - pid is 0 or an unreaped child of ours, and then socket is open. Whatever is not the one expected answer
 *    in time ends it, by SIGKILL, and reaps it: no zombie, no late answer.
 *  - Nothing but the socket and the area is shared with the child.
 *
 * A question costs two system calls here: the wait for its answer ends each tick by the socket's own time
 * limit (SO_RCVTIMEO), and only then clocks are read.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <stdnoreturn.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "sosie/child.h"
#include "sosie/sandbox.h"
#include "sosie/thread.h"

#define SECOND INT64_C(1000000000) /* ns */
#define TICK (SOSIE_CHILD_TICK_MS * (SECOND / 1000))
#define LONG_TICK (10 * TICK) /* a longer one: the machine stood still, or had much else to do */
#define NO_SANDBOX 97         /* exit code of a child that could not confine itself */

struct sosie_child {
	const struct sosie_child_kind *kind;
	void *area; /* shared, NULL when idle; no fork inherits it: the child maps area_fd */
	int area_fd;
	int socket;
	pid_t pid;
	bool ready;        /* the child has said so */
	clockid_t clock;   /* its processor time */
	uint32_t number;   /* of the last question */
	int64_t waited_ns; /* for its answer */
	int status;        /* of the last child that ended, as wait gives it; -1: nobody can tell */
	uint64_t started;
	int64_t spent_ns; /* processor time of the children that ended */
	int64_t told_ns;  /* what sosie_child_cpu_ns said last */
};

/* --- the object
 * ------------------------------------------------------------------------------------------------- */

int sosie_child_new(const struct sosie_child_kind *kind, struct sosie_child **out, struct sosie_err *err)
{
	struct sosie_child *c = calloc(1, sizeof(*c));

	*out = NULL;
	if (!c)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for a child");
	c->kind = kind;
	c->area_fd = -1;
	c->socket = -1;
	*out = c;
	return 0;
}

/* Sealed, so that no child can cut it off under the parent's eyes (SIGBUS). */
static bool map_area(struct sosie_child *c)
{
	const size_t bytes = c->kind->area_bytes;
	void *area;

	c->area_fd = memfd_create(c->kind->name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (c->area_fd < 0 || ftruncate(c->area_fd, (off_t)bytes) != 0 ||
	    fcntl(c->area_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
		return false;
	area = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, c->area_fd, 0);
	if (area == MAP_FAILED)
		return false;
	c->area = area;
	return madvise(area, bytes, MADV_DONTFORK) == 0;
}

static void unmap_area(struct sosie_child *c)
{
	if (c->area)
		munmap(c->area, c->kind->area_bytes);
	if (c->area_fd >= 0)
		close(c->area_fd);
	c->area = NULL;
	c->area_fd = -1;
}

void *sosie_child_area(struct sosie_child *c)
{
	if (!c->area && !map_area(c))
		unmap_area(c);
	return c->area;
}

static int64_t nanoseconds(const struct timeval *t)
{
	return (int64_t)t->tv_sec * SECOND + (int64_t)t->tv_usec * 1000;
}

/* A child that has ended already keeps the status that it ended with. */
void sosie_child_end(struct sosie_child *c)
{
	struct rusage used;
	pid_t reaped;

	if (c->pid <= 0)
		return;
	close(c->socket);
	kill(c->pid, SIGKILL);
	do
		reaped = wait4(c->pid, &c->status, 0, &used);
	while (reaped < 0 && errno == EINTR);
	if (reaped == c->pid)
		c->spent_ns += nanoseconds(&used.ru_utime) + nanoseconds(&used.ru_stime);
	else /* somebody has the kernel reap children by itself (SIGCHLD ignored) */
		c->status = -1;
	c->socket = -1;
	c->pid = 0;
	c->ready = false;
}

void sosie_child_idle(struct sosie_child *c)
{
	sosie_child_end(c);
	unmap_area(c);
}

void sosie_child_free(struct sosie_child *c)
{
	if (!c)
		return;
	sosie_child_idle(c);
	free(c);
}

pid_t sosie_child_pid(const struct sosie_child *c)
{
	return c->pid;
}

uint64_t sosie_child_started(const struct sosie_child *c)
{
	return c->started;
}

/* --- time
 * ------------------------------------------------------------------------------------------------------- */

static int64_t clock_ns(clockid_t clock)
{
	struct timespec t;

	if (clock_gettime(clock, &t) != 0)
		return -1;
	return (int64_t)t.tv_sec * SECOND + t.tv_nsec;
}

/* The kernel rounds what it says at the end. */
int64_t sosie_child_cpu_ns(struct sosie_child *c)
{
	int64_t now = c->pid > 0 ? clock_ns(c->clock) : 0;

	now = c->spent_ns + (now > 0 ? now : 0);
	if (now > c->told_ns)
		c->told_ns = now;
	return c->told_ns;
}

/* --- starting
 * ---------------------------------------------------------------------------------------------------- */

/* Signals that what a child computes over can lead to; abort(3) is the only one that it may send itself. */
static const int own_signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS, SIGABRT};

static bool by_itself(int signal)
{
	for (size_t i = 0; i < sizeof(own_signals) / sizeof(*own_signals); i++)
		if (own_signals[i] == signal)
			return true;
	return false;
}

/* Who ends a service or presses ^C signals its children too: they go on until their parent has no more need
 * of them. */
static void ignore_others(void)
{
	sigset_t others;

	sigfillset(&others);
	for (size_t i = 0; i < sizeof(own_signals) / sizeof(*own_signals); i++)
		sigdelset(&others, own_signals[i]);
	(void)sigprocmask(SIG_SETMASK, &others, NULL);
}

static noreturn void run_child(const struct sosie_child *c, int socket, pid_t parent)
{
	const size_t bytes = c->kind->area_bytes;
	void *area = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, c->area_fd, 0);
	const struct sosie_sandbox rules = {.parent = parent,
	                                    .keep = &socket,
	                                    .keep_count = 1,
	                                    .shared = area,
	                                    .shared_bytes = bytes,
	                                    .memory_bytes = c->kind->memory_bytes};
	void (*const run)(int, void *) = c->kind->run;
	struct sosie_err err;

	if (area == MAP_FAILED || sosie_sandbox_enter(&rules, &err) != 0)
		_exit(NO_SANDBOX);
	ignore_others();
	run(socket, area);
	_exit(0);
}

/* Its signals are blocked until they are reset there. */
static pid_t fork_child(const struct sosie_child *c, int socket)
{
	pid_t parent = getpid(), child = sosie_fork();

	if (child == 0)
		run_child(c, socket, parent);
	return child;
}

static bool set_tick(int socket)
{
	const struct timeval tick = {.tv_usec = SOSIE_CHILD_TICK_MS * 1000};

	return setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &tick, sizeof(tick)) == 0;
}

bool sosie_child_start(struct sosie_child *c)
{
	int pair[2];

	if (c->pid > 0)
		return true;
	if (!sosie_child_area(c) || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
		return false;
	c->pid = set_tick(pair[0]) ? fork_child(c, pair[1]) : -1;
	close(pair[1]);
	if (c->pid < 0) {
		close(pair[0]);
		c->pid = 0;
		return false;
	}
	c->socket = pair[0];
	c->started++;
	if (clock_getcpuclockid(c->pid, &c->clock) == 0)
		return true;
	sosie_child_end(c);
	return false;
}

/* --- talking
 * ---------------------------------------------------------------------------------------------------- */

/* The socket says that the child is no more, or does not take what a living child would. One that lives (an
 * empty message looks the same) must not pass as killed by another than us. */
static enum sosie_child_result gone(struct sosie_child *c)
{
	struct pollfd p = {.fd = c->socket};
	bool closed = poll(&p, 1, 0) == 1 && (p.revents & POLLHUP) != 0;

	sosie_child_end(c);
	if (!closed)
		return SOSIE_CHILD_NONSENSE;
	return c->status != -1 && WIFSIGNALED(c->status) && !by_itself(WTERMSIG(c->status))
	               ? SOSIE_CHILD_KILLED
	               : SOSIE_CHILD_DIED;
}

/* Of a wait. Processor time counts from the first tick: what an answer took that came before is nothing. */
struct waiting {
	int64_t seen;    /* monotonic ns of the last tick; 0: none yet */
	int64_t cpu_end; /* of the child's clock */
};

/* At a tick. ANSWERED: the wait goes on. */
static enum sosie_child_result judge_wait(struct sosie_child *c, struct waiting *w, int64_t cpu_limit)
{
	const int64_t now = clock_ns(CLOCK_MONOTONIC), used = clock_ns(c->clock), since = now - w->seen;

	if (w->seen == 0)
		w->cpu_end = cpu_limit == INT64_MAX || used < 0 ? INT64_MAX : used + cpu_limit;
	c->waited_ns += w->seen == 0 ? TICK : since < LONG_TICK ? since : LONG_TICK;
	w->seen = now;
	if (used >= w->cpu_end)
		return SOSIE_CHILD_BUSY;
	return c->waited_ns >= c->kind->wall_ns ? SOSIE_CHILD_SILENT : SOSIE_CHILD_ANSWERED;
}

/* One message of the child's into *m. */
static enum sosie_child_result await(struct sosie_child *c, int64_t cpu_limit, struct sosie_child_message *m)
{
	enum sosie_child_result so_far = SOSIE_CHILD_ANSWERED;
	struct waiting waiting = {0};

	c->waited_ns = 0;
	while (so_far == SOSIE_CHILD_ANSWERED) {
		ssize_t got = recv(c->socket, m, sizeof(*m), MSG_TRUNC);

		if (got == (ssize_t)sizeof(*m))
			return SOSIE_CHILD_ANSWERED;
		if (got > 0)
			so_far = SOSIE_CHILD_NONSENSE;
		else if (got == 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR))
			return gone(c);
		else
			so_far = judge_wait(c, &waiting, cpu_limit);
	}
	sosie_child_end(c);
	return so_far;
}

/* The child's first word: it is confined. */
static enum sosie_child_result await_ready(struct sosie_child *c)
{
	enum sosie_child_result result = SOSIE_CHILD_ANSWERED;
	struct sosie_child_message m = {0};

	if (!c->ready)
		result = await(c, INT64_MAX, &m);
	c->ready = result == SOSIE_CHILD_ANSWERED && m.number == 0;
	if (c->ready)
		return SOSIE_CHILD_ANSWERED;
	sosie_child_end(c);
	return result == SOSIE_CHILD_KILLED ? SOSIE_CHILD_KILLED : SOSIE_CHILD_NONE;
}

enum sosie_child_result sosie_child_ask(struct sosie_child *c, struct sosie_child_message *m)
{
	enum sosie_child_result result = sosie_child_start(c) ? await_ready(c) : SOSIE_CHILD_NONE;

	if (result != SOSIE_CHILD_ANSWERED)
		return result;
	m->number = ++c->number;
	if (c->number == 0) /* 0 is the child's first word */
		m->number = ++c->number;
	if (send(c->socket, m, sizeof(*m), MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)sizeof(*m))
		return gone(c);
	result = await(c, c->kind->cpu_ns, m);
	if (result == SOSIE_CHILD_ANSWERED && m->number != c->number) {
		sosie_child_end(c);
		result = SOSIE_CHILD_NONSENSE;
	}
	return result;
}

int64_t sosie_child_waited_ms(const struct sosie_child *c)
{
	return c->waited_ns / (SECOND / 1000);
}

void sosie_child_take(const struct sosie_child *c, size_t offset, void *dst, size_t len)
{
	memcpy(dst, (const uint8_t *)c->area + offset, len);
	atomic_thread_fence(memory_order_seq_cst); /* what is judged is the copy, not the area read again */
}

const char *sosie_child_text(const struct sosie_child *c, enum sosie_child_result result, char *dst,
                             size_t size)
{
	if (result == SOSIE_CHILD_DIED && c->status != -1 && WIFSIGNALED(c->status))
		snprintf(dst, size, "ended by signal %d", WTERMSIG(c->status));
	else if (result == SOSIE_CHILD_DIED)
		snprintf(dst, size, "ended before it answered");
	else if (result == SOSIE_CHILD_BUSY)
		snprintf(dst, size, "took more than %lld ms of processor time",
		         (long long)(c->kind->cpu_ns / (SECOND / 1000)));
	else if (result == SOSIE_CHILD_NONSENSE)
		snprintf(dst, size, "gave an answer that is none");
	else if (result == SOSIE_CHILD_SILENT)
		snprintf(dst, size, "did not answer within %lld s", (long long)(c->kind->wall_ns / SECOND));
	else if (result == SOSIE_CHILD_KILLED)
		snprintf(dst, size, "was killed from outside");
	else if (c->status != -1 && WIFEXITED(c->status) && WEXITSTATUS(c->status) == NO_SANDBOX)
		snprintf(dst, size, "could not be confined (seccomp, limits, /proc)");
	else
		snprintf(dst, size, "could not be started");
	return dst;
}

/* --- the child's side
 * -------------------------------------------------------------------------------------------- */

void sosie_child_serve(int socket, void *area,
                       void (*answer)(void *arg, void *area, struct sosie_child_message *m), void *arg)
{
	struct sosie_child_message m = {0};

	while (write(socket, &m, sizeof(m)) == (ssize_t)sizeof(m) &&
	       read(socket, &m, sizeof(m)) == (ssize_t)sizeof(m))
		answer(arg, area, &m);
}

/* SPDX-License-Identifier: MIT */
/* Running one command: own process group, limit in time, bounded output. Commands are the operator's own,
 * never a peer's. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/source/hooks.h"
#include "sosie/bytes.h"
#include "sosie/thread.h"

#define ERROR_OUTPUT_MAX 1024u
#define ERROR_TEXT_MAX 300u

/* What a command has written, up to a bound; more is read and dropped, so that it never blocks on us. */
struct sink {
	int fd;
	char *buf;
	size_t len, size;
	bool cut;
};

struct running {
	pid_t pid;
	int pidfd;
	struct sink out, diag;
};

static int64_t now_ms(void)
{
	return sosie_clock_ns(CLOCK_MONOTONIC) / 1000000;
}

/* --- the child: only calls that are safe after a fork of a program with threads
 * --------------------------------------- */

static _Noreturn void become_shell(const struct guardian *g, const struct hook_env *env, const char *command,
                                   bool undoes, int out, int diag)
{
	char shell[] = "/bin/sh", flag[] = "-c", *text;
	int null = open("/dev/null", O_RDONLY);

	memcpy(&text, &command, sizeof(text)); /* execve does not change it */
	char *const argv[] = {shell, flag, text, NULL};

	setpgid(0, 0);
	sosie_signals_reset();
	if (!guardian_tell(g, undoes ? GUARDIAN_RUNS_THAW : GUARDIAN_RUNS, getpid()) && !undoes)
		_exit(127);
	if (null < 0 || dup2(null, 0) < 0 || dup2(out, 1) < 0 || dup2(diag, 2) < 0)
		_exit(127);
	close_range(3, ~0u, 0);
	execve(shell, argv, env->list);
	_exit(127);
}

/* --- the parent
 * ------------------------------------------------------------------------------------------------------ */

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void running_fini(struct running *r)
{
	close_fd(&r->pidfd);
	close_fd(&r->out.fd);
	close_fd(&r->diag.fd);
	free(r->out.buf);
	free(r->diag.buf);
}

static int sink_init(struct sink *s, size_t size, int *child_end)
{
	int ends[2];

	s->size = size;
	s->buf = malloc(size + 1);
	if (!s->buf || pipe2(ends, O_CLOEXEC) != 0)
		return -1;
	s->fd = ends[0];
	*child_end = ends[1];
	return fcntl(s->fd, F_SETFL, O_NONBLOCK);
}

static int start_command(struct running *r, const struct guardian *g, const struct hook_env *env,
                         const char *command, bool undoes)
{
	int out = -1, diag = -1, rc = -1;

	*r = (struct running){.pid = -1, .pidfd = -1, .out.fd = -1, .diag.fd = -1};
	if (sink_init(&r->out, HOOK_OUTPUT_MAX, &out) != 0 ||
	    sink_init(&r->diag, ERROR_OUTPUT_MAX, &diag) != 0)
		goto close_ends;
	r->pid = fork();
	if (r->pid == 0)
		become_shell(g, env, command, undoes, out, diag);
	if (r->pid < 0)
		goto close_ends;
	setpgid(r->pid, r->pid); /* whoever of the two comes first */
	r->pidfd = pidfd_open(r->pid, 0);
	rc = 0;

close_ends:
	close_fd(&out);
	close_fd(&diag);
	return rc;
}

static void drain(struct sink *s)
{
	char spare[4096];

	while (s->fd >= 0) {
		bool full = s->len == s->size;
		ssize_t n = full ? read(s->fd, spare, sizeof(spare))
		                 : read(s->fd, s->buf + s->len, s->size - s->len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0)
			close_fd(&s->fd);
		else if (full)
			s->cut = true;
		else
			s->len += (size_t)n;
	}
}

/* Until the command has ended (not until whatever it left behind has): false when the limit came first. */
static bool wait_end(struct running *r, int64_t deadline)
{
	for (;;) {
		struct pollfd fds[3] = {
		        {r->pidfd, POLLIN, 0}, {r->out.fd, POLLIN, 0}, {r->diag.fd, POLLIN, 0}};
		int64_t left = deadline - now_ms();

		if (left <= 0)
			return false;
		/* Without a pidfd (old kernel) look every 50 ms. */
		poll(fds, 3,
		     r->pidfd < 0 ? (left < 50 ? (int)left : 50) : (left > 60000 ? 60000 : (int)left));
		drain(&r->out);
		drain(&r->diag);
		siginfo_t info = {0};
		if (waitid(P_PID, (id_t)r->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
		    info.si_pid == r->pid)
			return true;
	}
}

static int reap(struct running *r, const struct guardian *g, bool kill_group)
{
	int status = 0;

	if (kill_group)
		kill(-r->pid, SIGKILL);
	while (waitpid(r->pid, &status, 0) < 0 && errno == EINTR)
		;
	guardian_tell(g, GUARDIAN_ENDED, r->pid);
	drain(&r->out);
	drain(&r->diag);
	r->out.buf[r->out.len] = '\0';
	r->diag.buf[r->diag.len] = '\0';
	return status;
}

static int fail(struct sosie_err *err, const struct running *r, const char *name, const char *command,
                const char *why)
{
	char said[ERROR_TEXT_MAX];
	size_t len = r->diag.len;

	while (len > 0 && (r->diag.buf[len - 1] == '\n' || r->diag.buf[len - 1] == ' '))
		len--;
	sosie_escape(said, sizeof(said), r->diag.buf, len);
	sosie_err_set(err, SOSIE_EHOOK, "the %s command %s%s%s", name, why, len ? ": " : "", said);
	sosie_err_where(err, "%s", command);
	return sosie_err_action(err, "run the command by hand; it must end with status 0");
}

static int judge(const struct running *r, const char *name, const char *command, int status, bool ended,
                 uint64_t limit_ms, struct sosie_err *err)
{
	char why[96], limit[32];

	if (!ended)
		snprintf(why, sizeof(why), "did not end within %s and was killed",
		         sosie_duration_text(limit, sizeof(limit), limit_ms));
	else if (WIFSIGNALED(status))
		snprintf(why, sizeof(why), "was ended by signal %d", WTERMSIG(status));
	else if (WEXITSTATUS(status) != 0)
		snprintf(why, sizeof(why), "failed with status %d", WEXITSTATUS(status));
	else if (r->out.cut)
		snprintf(why, sizeof(why), "wrote more than %u KiB", HOOK_OUTPUT_MAX >> 10);
	else
		return 0;
	return fail(err, r, name, command, why);
}

int hook_run(const struct guardian *g, const struct hook_env *env, const char *name, const char *command,
             uint64_t limit_ms, char **output, struct sosie_err *err)
{
	int64_t deadline = now_ms() + (int64_t)(limit_ms < INT32_MAX ? limit_ms : INT32_MAX);
	struct running r;
	bool ended;
	int rc, status;

	if (start_command(&r, g, env, command, strcmp(name, "thaw") == 0) != 0) {
		rc = sosie_err_sys(err, errno, "the %s command cannot be started", name);
		running_fini(&r);
		return rc;
	}
	ended = wait_end(&r, deadline);
	status = reap(&r, g, !ended);
	rc = judge(&r, name, command, status, ended, limit_ms, err);
	if (rc == 0 && output) {
		*output = r.out.buf;
		r.out.buf = NULL;
	}
	running_fini(&r);
	return rc;
}

/* --- environment
 * ------------------------------------------------------------------------------------------------------- */

extern char **environ;

static char *volumes_text(const struct sosie_volume *volumes, unsigned count)
{
	static const char key[] = "SOSIE_VOLUMES=";
	size_t size = sizeof(key), at = sizeof(key) - 1;
	char *text;

	for (unsigned i = 0; i < count; i++)
		size += strlen(volumes[i].name.s) + strlen(volumes[i].path) + 2;
	text = malloc(size);
	if (!text)
		return NULL;
	memcpy(text, key, sizeof(key));
	for (unsigned i = 0; i < count; i++)
		at += (size_t)snprintf(text + at, size - at, "%s=%s\n", volumes[i].name.s, volumes[i].path);
	return text;
}

int hook_env_init(struct hook_env *env, const char *group, const struct sosie_volume *volumes, unsigned count,
                  struct sosie_err *err)
{
	size_t n = 0, at = 0;

	while (environ && environ[n])
		n++;
	env->list = calloc(n + 3, sizeof(*env->list));
	env->volumes = volumes_text(volumes, count);
	if (asprintf(&env->group, "SOSIE_GROUP=%s", group) < 0)
		env->group = NULL;
	if (!env->list || !env->volumes || !env->group) {
		hook_env_fini(env);
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for the environment of hooks");
	}
	for (size_t i = 0; i < n; i++)
		if (strncmp(environ[i], "SOSIE_GROUP=", 12) != 0 &&
		    strncmp(environ[i], "SOSIE_VOLUMES=", 14) != 0)
			env->list[at++] = environ[i];
	env->list[at++] = env->group;
	env->list[at] = env->volumes;
	return 0;
}

void hook_env_fini(struct hook_env *env)
{
	free(env->list);
	free(env->volumes);
	free(env->group);
	*env = (struct hook_env){0};
}

/* --- lines of a view
 * ------------------------------------------------------------------------------------------------------- */

static int view_error(struct sosie_err *err, const char *reason, const char *text, size_t len)
{
	char shown[160];

	sosie_escape(shown, sizeof(shown), text, len);
	sosie_err_set(err, SOSIE_EHOOK, "the view command %s: \"%s\"", reason, shown);
	return sosie_err_action(
	        err,
	        "it prints one line NAME=/PATH for each volume and nothing else; send other output to >&2");
}

static int take_line(const char *line, size_t len, const struct sosie_volume *volumes, unsigned count,
                     char **paths, struct sosie_err *err)
{
	const char *equals = memchr(line, '=', len);
	size_t name_len = equals ? (size_t)(equals - line) : 0;

	if (!equals || len - name_len < 2 || equals[1] != '/' || len - name_len > 4096)
		return view_error(err, "printed a line that is not NAME=/PATH", line, len);
	for (unsigned i = 0; i < count; i++) {
		if (strlen(volumes[i].name.s) != name_len || memcmp(volumes[i].name.s, line, name_len) != 0)
			continue;
		if (paths[i])
			return view_error(err, "named a volume twice", line, len);
		paths[i] = strndup(equals + 1, len - name_len - 1);
		return paths[i] ? 0 : sosie_err_set(err, SOSIE_ENOMEM, "no memory for the path of a view");
	}
	return view_error(err, "named a volume that is not replicated", line, len);
}

int hook_view_parse(const char *text, const struct sosie_volume *volumes, unsigned count, char **paths,
                    struct sosie_err *err)
{
	for (const char *line = text; *line;) {
		size_t len = strcspn(line, "\n");
		int rc = len ? take_line(line, len, volumes, count, paths, err) : 0;

		if (rc != 0)
			return rc;
		line += len + (line[len] == '\n');
	}
	for (unsigned i = 0; i < count; i++)
		if (!paths[i])
			return view_error(err, "named no path for a volume", volumes[i].name.s,
			                  strlen(volumes[i].name.s));
	return 0;
}

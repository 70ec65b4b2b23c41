/* SPDX-License-Identifier: MIT */
/*
 * Holding writers: a cgroup that is really frozen, a monitor that is played here, commands; and the guardian,
 * when we are stopped, killed, or when it is killed itself. Cgroup tests need cgroup2 and root.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/source/pause.h"
#include "tests/support/cgroup.h"

struct place {
	char dir[64];
	struct cgroup group;
	pid_t writer;
	struct sosie_volume v;
	struct sosie_hooks hooks;
	struct sosie_source_options o;
	struct sosie_err err;
};

static int set_up(void **state)
{
	struct place *p = calloc(1, sizeof(*p));
	char text[128];

	assert_non_null(p);
	snprintf(p->dir, sizeof(p->dir), "%s/sosie-pause-XXXXXX",
	         getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
	assert_non_null(mkdtemp(p->dir));
	snprintf(text, sizeof(text), "v=%s/v", p->dir);
	assert_int_equal(sosie_volume_parse(text, &p->v, &p->err), 0);
	p->o = (struct sosie_source_options){.volumes = &p->v,
	                                     .count = 1,
	                                     .hooks = &p->hooks,
	                                     .tenant = "acme",
	                                     .group = "erp",
	                                     .tag = "0123abcd"};
	*state = p;
	return 0;
}

static void put(const char *dir, const char *name, const char *text)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return;
	(void)!write(fd, text, strlen(text));
	close(fd);
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
	(void)st;
	(void)kind;
	(void)at;
	return remove(path);
}

static int tear_down(void **state)
{
	struct place *p = *state;

	if (p->writer > 0) {
		cgroup_put(&p->group, "cgroup.freeze", "0");
		kill(p->writer, SIGKILL);
		waitpid(p->writer, NULL, 0);
	}
	cgroup_down(&p->group);
	nftw(p->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
	free(p);
	return 0;
}

/* Waits up to five seconds for what another process does. */
static bool until(bool (*is)(const struct place *), const struct place *p)
{
	for (unsigned i = 0; i < 500; i++) {
		if (is(p))
			return true;
		poll(NULL, 0, 10);
	}
	return false;
}

static void say(const struct place *p)
{
	char line[1200];

	print_message("  %s\n", sosie_err_line(&p->err, line, sizeof(line)));
}

/* --- cgroup ------------------------------------------------------------------------------------------------
 */

static bool frozen(const struct place *p)
{
	return cgroup_says(&p->group, "cgroup.events", "frozen 1");
}

static bool thawed(const struct place *p)
{
	return cgroup_says(&p->group, "cgroup.events", "frozen 0");
}

/* A cgroup with a process in it that is always at work. */
static bool need_cgroup(struct place *p)
{
	char pid[16];

	if (!cgroup_up(&p->group, "pause"))
		return false;
	p->writer = fork();
	if (p->writer == 0)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (p->writer == 0)
		poll(NULL, 0, 1);
	snprintf(pid, sizeof(pid), "%d", (int)p->writer);
	cgroup_put(&p->group, "cgroup.procs", pid);
	assert_true(cgroup_says(&p->group, "cgroup.events", "populated 1"));
	p->o.pause =
	        (struct sosie_pause){.kind = SOSIE_PAUSE_CGROUP, .target = p->group.path, .limit_ms = 60000};
	return true;
}

static void test_cgroup_frozen_between_hold_and_let_go(void **state)
{
	struct place *p = *state;
	struct pause pause;
	bool passed = true;

	if (!need_cgroup(p))
		skip();
	assert_int_equal(pause_init(&pause, &p->o, false, &p->err), 0);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(pause_hold(&pause, &p->err), 0);
		assert_true(frozen(p));
		assert_int_equal(pause_let_go(&pause, &passed, &p->err), 0);
		assert_false(passed);
		assert_true(until(thawed, p));
	}
	pause_fini(&pause);
}

static void test_cgroup_frozen_by_another_stays_frozen(void **state)
{
	struct place *p = *state;
	struct pause pause;
	bool passed;

	if (!need_cgroup(p))
		skip();
	cgroup_put(&p->group, "cgroup.freeze", "1");
	assert_true(until(frozen, p));
	assert_int_equal(pause_init(&pause, &p->o, false, &p->err), 0);
	assert_int_equal(pause_hold(&pause, &p->err), 0);
	assert_false(pause.ours);
	assert_int_equal(pause_let_go(&pause, &passed, &p->err), 0);
	pause_fini(&pause);
	assert_true(frozen(p));
}

static void test_cgroup_thawed_by_another_meanwhile_is_told(void **state)
{
	struct place *p = *state;
	struct pause pause;
	bool passed = false;

	if (!need_cgroup(p))
		skip();
	assert_int_equal(pause_init(&pause, &p->o, false, &p->err), 0);
	assert_int_equal(pause_hold(&pause, &p->err), 0);
	assert_true(pause.ours);
	cgroup_put(&p->group, "cgroup.freeze", "0");
	assert_true(until(thawed, p));
	assert_int_equal(pause_let_go(&pause, &passed, &p->err), 0);
	assert_true(passed);
	pause_fini(&pause);
}

/* Two groups, one cgroup: the second waits for the first, and does not take its pause for one of its own. */
static void test_cgroup_shared_is_held_by_one_at_a_time(void **state)
{
	struct place *p = *state;
	struct pause first, second;
	bool passed = true;

	if (!need_cgroup(p))
		skip();
	assert_int_equal(pause_init(&first, &p->o, false, &p->err), 0);
	p->o.pause.limit_ms = 100;
	assert_int_equal(pause_init(&second, &p->o, false, &p->err), 0);
	assert_int_equal(pause_hold(&first, &p->err), 0);
	assert_int_equal(pause_hold(&second, &p->err), 0);
	assert_true(first.ours && !second.ours);
	assert_int_equal(pause_let_go(&second, &passed, &p->err), 0);
	assert_true(frozen(p));
	assert_int_equal(pause_let_go(&first, &passed, &p->err), 0);
	assert_false(passed);
	second.limit_ms = 60000;
	assert_int_equal(pause_hold(&second, &p->err), 0);
	assert_true(second.ours && frozen(p));
	pause_fini(&second);
	pause_fini(&first);
	assert_true(until(thawed, p));
}

static void test_cgroup_missing_is_told(void **state)
{
	struct place *p = *state;
	struct pause pause;

	p->o.pause = (struct sosie_pause){.kind = SOSIE_PAUSE_CGROUP, .target = "/sys/fs/cgroup/sosie-none"};
	assert_int_equal(pause_init(&pause, &p->o, false, &p->err), 0);
	assert_int_equal(pause_hold(&pause, &p->err), -SOSIE_EHOOK);
	assert_int_equal(p->err.code, SOSIE_EHOOK);
	say(p);
	pause_fini(&pause);
}

static void test_limit_passed_guardian_thaws_and_we_are_told(void **state)
{
	struct place *p = *state;
	struct pause pause;
	bool passed = false;

	if (!need_cgroup(p))
		skip();
	p->o.pause.limit_ms = 100;
	assert_int_equal(pause_init(&pause, &p->o, false, &p->err), 0);
	assert_int_equal(pause_hold(&pause, &p->err), 0);
	assert_true(until(thawed, p));
	assert_true(sosie_clock_ns(CLOCK_MONOTONIC) >= pause.deadline_ns);
	assert_int_equal(pause_let_go(&pause, &passed, &p->err), 0);
	assert_true(passed);
	pause_fini(&pause);
}

/* Holds in a process of its own; told (may be NULL) gets its guardian's process when it holds. */
static pid_t hold_in_child_of(struct place *p, pid_t *guardian)
{
	int told[2];
	pid_t pid;

	assert_int_equal(pipe(told), 0);
	pid = fork();
	if (pid == 0) {
		struct pause pause;

		if (pause_init(&pause, &p->o, false, &p->err) == 0 && pause_hold(&pause, &p->err) == 0 &&
		    write(told[1], &pause.guardian.pid, sizeof(pid_t)) == (ssize_t)sizeof(pid_t))
			for (;;)
				poll(NULL, 0, 1000);
		_exit(1);
	}
	close(told[1]);
	if (guardian)
		assert_int_equal(read(told[0], guardian, sizeof(pid_t)), sizeof(pid_t));
	close(told[0]);
	return pid;
}

static pid_t hold_in_child(struct place *p)
{
	return hold_in_child_of(p, NULL);
}

static void test_stopped_in_a_pause_is_thawed_at_the_limit(void **state)
{
	struct place *p = *state;
	int64_t begun;
	int status;
	pid_t pid;

	if (!need_cgroup(p))
		skip();
	p->o.pause.limit_ms = 400;
	begun = sosie_clock_ns(CLOCK_MONOTONIC);
	pid = hold_in_child(p);
	assert_true(until(frozen, p));
	assert_int_equal(kill(pid, SIGSTOP), 0);
	assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
	assert_true(WIFSTOPPED(status));
	assert_true(until(thawed, p));
	assert_true(sosie_clock_ns(CLOCK_MONOTONIC) - begun >= 400000000);
	assert_int_equal(waitpid(pid, &status, WNOHANG), 0); /* still there, still stopped */
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void test_killed_in_a_pause_is_thawed_at_once(void **state)
{
	struct place *p = *state;
	pid_t pid;

	if (!need_cgroup(p))
		skip();
	pid = hold_in_child(p);
	assert_true(until(frozen, p));
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_true(until(thawed, p)); /* five seconds at most, and the limit is a minute */
}

static void test_guardian_killed_is_started_again(void **state)
{
	struct place *p = *state;
	struct pause pause;
	bool passed;
	pid_t first;

	if (!need_cgroup(p))
		skip();
	assert_int_equal(pause_init(&pause, &p->o, false, &p->err), 0);
	assert_int_equal(pause_hold(&pause, &p->err), 0);
	first = pause.guardian.pid;
	assert_true(first > 0);
	assert_int_equal(pause_let_go(&pause, &passed, &p->err), 0);
	kill(first, SIGKILL);
	while (recv(pause.guardian.fd, &(char){0}, 1, 0) > 0) /* the end of its socket is the end of it */
		;
	assert_int_equal(pause_hold(&pause, &p->err), 0);
	assert_true(pause.guardian.pid > 0 && pause.guardian.pid != first);
	assert_true(frozen(p));
	assert_int_equal(pause_let_go(&pause, &passed, &p->err), 0);
	assert_true(until(thawed, p));
	pause_fini(&pause);
}

/* --- monitor -----------------------------------------------------------------------------------------------
 */

enum manner { RIGHT, SILENT, REFUSES, NO_MONITOR, ENDLESS, CLOSES };
struct monitor {
	char path[128];
	enum manner manner;
	int listener;
	pthread_t thread;
	pthread_mutex_t lock;
	bool running;
	unsigned stops, conts;
};

static void answer(struct monitor *m, int fd, const char *line)
{
	const char *id = strstr(line, "\"id\":");
	char text[300];

	if (strstr(line, "\"stop\"") && m->manner == SILENT)
		return;
	pthread_mutex_lock(&m->lock);
	if (strstr(line, "\"stop\"")) {
		m->stops++;
		m->running = false;
	} else if (strstr(line, "\"cont\"")) {
		m->conts++;
		m->running = true;
	}
	if (m->manner == REFUSES && strstr(line, "\"stop\""))
		snprintf(text, sizeof(text),
		         "{\"error\":{\"class\":\"GenericError\",\"desc\":\"not\\tnow\"},%s\r\n", id);
	else if (strstr(line, "query-status"))
		snprintf(text, sizeof(text), "{\"return\":{\"status\":\"x\",\"running\":%s},%s\r\n",
		         m->running ? "true" : "false", id);
	else
		snprintf(text, sizeof(text),
		         "{\"event\":\"STOP\",\"timestamp\":{\"seconds\":1}}\r\n{\"return\":{},%s\r\n", id);
	pthread_mutex_unlock(&m->lock);
	(void)!send(fd, text, strlen(text), MSG_NOSIGNAL);
}

static void greet(const struct monitor *m, int fd)
{
	static const char junk[4096] = {'x'};
	const char *text = m->manner == NO_MONITOR ? "{\"hello\":1}\n" : "{\"QMP\":{\"version\":{}}}\r\n";

	for (unsigned i = 0; m->manner == ENDLESS && i < 64; i++)
		if (send(fd, junk, sizeof(junk), MSG_NOSIGNAL) < 0)
			return;
	if (m->manner != CLOSES)
		(void)!send(fd, text, strlen(text), MSG_NOSIGNAL);
}

static void serve(struct monitor *m, int fd)
{
	char buf[1024];
	size_t len = 0;
	ssize_t n;

	greet(m, fd);
	while (m->manner != CLOSES && (n = recv(fd, buf + len, sizeof(buf) - 1 - len, 0)) > 0) {
		char *end;

		len += (size_t)n;
		buf[len] = '\0';
		while ((end = strchr(buf, '\n')) != NULL) {
			*end = '\0';
			answer(m, fd, buf);
			len -= (size_t)(end + 1 - buf);
			memmove(buf, end + 1, len + 1);
		}
	}
	close(fd);
}

static void *monitor_main(void *arg)
{
	struct monitor *m = arg;
	int fd;

	while ((fd = accept4(m->listener, NULL, NULL, SOCK_CLOEXEC)) >= 0)
		serve(m, fd);
	return NULL;
}

static void monitor_up(struct monitor *m, struct place *p, enum manner manner)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};

	*m = (struct monitor){.manner = manner, .running = true};
	snprintf(m->path, sizeof(m->path), "%s/qmp", p->dir);
	memcpy(at.sun_path, m->path, strlen(m->path) + 1);
	unlink(m->path);
	pthread_mutex_init(&m->lock, NULL);
	m->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(m->listener, (const struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(listen(m->listener, 4), 0);
	assert_int_equal(pthread_create(&m->thread, NULL, monitor_main, m), 0);
	p->o.pause = (struct sosie_pause){.kind = SOSIE_PAUSE_QMP, .target = m->path, .limit_ms = 60000};
}

static void monitor_down(struct monitor *m)
{
	shutdown(m->listener, SHUT_RDWR);
	pthread_join(m->thread, NULL);
	close(m->listener);
	pthread_mutex_destroy(&m->lock);
}

static bool monitor_runs(struct monitor *m)
{
	bool running;

	pthread_mutex_lock(&m->lock);
	running = m->running;
	pthread_mutex_unlock(&m->lock);
	return running;
}

static void test_monitor_stopped_and_continued(void **state)
{
	struct place *p = *state;
	struct monitor m;
	struct pause pause;
	bool passed;

	monitor_up(&m, p, RIGHT);
	assert_int_equal(pause_init(&pause, &p->o, false, &p->err), 0);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(pause_hold(&pause, &p->err), 0);
		assert_false(monitor_runs(&m));
		assert_int_equal(pause_let_go(&pause, &passed, &p->err), 0);
		assert_true(!passed && monitor_runs(&m));
	}
	pause_fini(&pause);
	monitor_down(&m);
	assert_true(m.stops == 2 && m.conts == 2);
}

static void test_monitor_of_a_paused_machine_is_left_alone(void **state)
{
	struct place *p = *state;
	struct monitor m;
	struct pause pause;
	bool passed;

	monitor_up(&m, p, RIGHT);
	m.running = false;
	assert_int_equal(pause_init(&pause, &p->o, false, &p->err), 0);
	assert_int_equal(pause_hold(&pause, &p->err), 0);
	assert_false(pause.ours);
	assert_int_equal(pause_let_go(&pause, &passed, &p->err), 0);
	pause_fini(&pause);
	monitor_down(&m);
	assert_true(m.stops == 0 && m.conts == 0);
}

static void test_monitor_continued_by_another_meanwhile_is_told(void **state)
{
	struct place *p = *state;
	struct monitor m;
	struct pause pause;
	bool passed = false;

	monitor_up(&m, p, RIGHT);
	assert_int_equal(pause_init(&pause, &p->o, false, &p->err), 0);
	assert_int_equal(pause_hold(&pause, &p->err), 0);
	pthread_mutex_lock(&m.lock);
	m.running = true;
	pthread_mutex_unlock(&m.lock);
	assert_int_equal(pause_let_go(&pause, &passed, &p->err), 0);
	assert_true(passed);
	pause_fini(&pause);
	monitor_down(&m);
}

/* Never as a timeout or a lost peer: those are the standby's. */
static void test_monitor_that_misbehaves_is_told(void **state)
{
	static const struct {
		enum manner manner;
		const char *what;
	} cases[] = {{SILENT, "did not answer in time"},
	             {REFUSES, "refused"},
	             {NO_MONITOR, "no QEMU monitor"},
	             {ENDLESS, "a line of more than"},
	             {CLOSES, "closed the connection"}};
	struct place *p = *state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct monitor m;
		struct pause pause;

		monitor_up(&m, p, cases[i].manner);
		if (cases[i].manner == SILENT)
			p->o.pause.limit_ms = 300;
		assert_int_equal(pause_init(&pause, &p->o, false, &p->err), 0);
		assert_int_equal(pause_hold(&pause, &p->err), -SOSIE_EHOOK);
		say(p);
		assert_int_equal(p->err.code, SOSIE_EHOOK);
		assert_non_null(strstr(p->err.what, cases[i].what));
		pause_fini(&pause);
		monitor_down(&m);
		if (cases[i].manner == SILENT || cases[i].manner == REFUSES)
			assert_in_range(m.conts, 1,
			                2); /* it may have stopped all the same; the guardian too */
	}
}

static void test_monitor_continued_by_the_guardian(void **state)
{
	struct place *p = *state;

	for (unsigned killed = 0; killed < 2; killed++) {
		struct monitor m;
		bool stopped = false;
		pid_t pid;

		monitor_up(&m, p, RIGHT);
		p->o.pause.limit_ms = killed ? 60000 : 400; /* killed: at once, not at the limit */
		pid = hold_in_child(p);
		for (unsigned i = 0; i < 5000 && !stopped; i++) {
			stopped = !monitor_runs(&m);
			poll(NULL, 0, 1);
		}
		assert_true(stopped);
		kill(pid, killed ? SIGKILL : SIGSTOP);
		for (unsigned i = 0; i < 500 && !monitor_runs(&m); i++)
			poll(NULL, 0, 10);
		assert_true(monitor_runs(&m));
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		monitor_down(&m);
		assert_int_equal(m.stops, 1);
		assert_int_equal(m.conts, 1);
	}
}

/* --- what the dead have left held
 * ---------------------------------------------------------------------------- */

/* Whoever holds and its guardian die in one cut. */
static void hold_and_die(struct place *p)
{
	pid_t guardian = 0, pid = hold_in_child_of(p, &guardian);

	assert_true(guardian > 1);
	assert_int_equal(kill(guardian, SIGKILL), 0);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static const char *note_of(const struct place *p, char *text, size_t size)
{
	char path[128];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "%s/" PAUSE_NOTE, p->dir);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, size - 1);
	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = '\0';
	return text;
}

static void open_and_close(struct place *p)
{
	struct sosie_source *s;
	char reason[200];

	p->o.kind = SOSIE_SOURCE_SCAN;
	assert_int_equal(sosie_source_open(&p->o, &s, reason, sizeof(reason), &p->err), 0);
	s->ops->destroy(s);
}

static void test_cgroup_left_held_by_the_dead_is_thawed_at_open(void **state)
{
	struct place *p = *state;
	char text[512];
	pid_t pid;

	if (!need_cgroup(p))
		skip();
	p->o.state = p->dir;
	hold_and_die(p);
	assert_true(frozen(p));
	assert_int_equal(strncmp(note_of(p, text, sizeof(text)), "held ", 5), 0);
	open_and_close(p);
	assert_true(until(thawed, p));
	assert_int_equal(strncmp(note_of(p, text, sizeof(text)), "free ", 5), 0);
	cgroup_put(&p->group, "cgroup.freeze", "1"); /* another's now */
	assert_true(until(frozen, p));
	open_and_close(p);
	assert_true(frozen(p));
	cgroup_put(&p->group, "cgroup.freeze", "0");
	assert_true(until(thawed, p));
	pid = hold_in_child_of(p, &(pid_t){0}); /* its guardian lives: it frees the note too */
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_true(until(thawed, p));
	for (unsigned i = 0; i < 500 && strncmp(note_of(p, text, sizeof(text)), "free ", 5) != 0; i++)
		poll(NULL, 0, 10);
	assert_int_equal(strncmp(text, "free ", 5), 0);
}

static void test_machine_left_held_by_the_dead_is_continued_at_open(void **state)
{
	struct place *p = *state;
	struct monitor m;

	monitor_up(&m, p, RIGHT);
	p->o.state = p->dir;
	hold_and_die(p);
	assert_false(monitor_runs(&m));
	open_and_close(p);
	assert_true(monitor_runs(&m));
	open_and_close(p);
	hold_and_die(p);
	monitor_down(&m);
	assert_true(m.stops == 2 && m.conts == 1);
	open_and_close(p); /* the machine has gone: nothing to undo, and no error */
}

static void test_held_by_the_living_is_left_alone(void **state)
{
	struct place *p = *state;
	struct pause pause;
	bool undone = true, passed = true;

	if (!need_cgroup(p))
		skip();
	p->o.state = p->dir;
	assert_int_equal(pause_init(&pause, &p->o, false, &p->err), 0);
	assert_int_equal(pause_hold(&pause, &p->err), 0);
	assert_int_equal(pause_undo_left(&p->o, &undone, &p->err), 0);
	assert_false(undone);
	assert_true(frozen(p));
	assert_int_equal(pause_let_go(&pause, &passed, &p->err), 0);
	assert_false(passed);
	pause_fini(&pause);
}

/* Another boot, another word, no end: none of these is a note, and what is frozen stays so. */
static void test_note_that_makes_no_sense_is_none(void **state)
{
	struct place *p = *state;
	char text[512], other[600], path[128];
	bool undone = true;

	if (!need_cgroup(p))
		skip();
	p->o.state = p->dir;
	hold_and_die(p);
	note_of(p, text, sizeof(text));
	snprintf(path, sizeof(path), "%s/" PAUSE_NOTE, p->dir);
	for (unsigned i = 0; i < 4; i++) {
		snprintf(other, sizeof(other), "%s", text);
		if (i == 0)
			other[5] = other[5] == '0' ? '1' : '0'; /* of the boot's id */
		else if (i == 1)
			other[0] = 'H';
		else if (i == 2)
			*strchr(other, '\n') = ' ';
		else
			*strchr(other, '/') = '.';
		assert_string_not_equal(other, text);
		assert_int_equal(truncate(path, 0), 0);
		put(p->dir, PAUSE_NOTE, other);
		assert_int_equal(pause_undo_left(&p->o, &undone, &p->err), 0);
		assert_false(undone);
		assert_true(frozen(p));
	}
	assert_int_equal(truncate(path, 0), 0);
	put(p->dir, PAUSE_NOTE, text);
	assert_int_equal(pause_undo_left(&p->o, &undone, &p->err), 0);
	assert_true(undone && until(thawed, p));
}

/* --- scan under a pause
 * ------------------------------------------------------------------------------------- */

static enum sosie_consistency scan_once(struct place *p, char *reason, size_t size)
{
	struct sosie_source *s;
	struct sosie_view *view;
	enum sosie_consistency label;

	p->o.kind = SOSIE_SOURCE_SCAN;
	assert_int_equal(sosie_source_open(&p->o, &s, reason, size, &p->err), 0);
	assert_int_equal(s->ops->cut(s, NULL, &view, &p->err), 0);
	assert_false(frozen(p)); /* not while all is read, whatever the hooks */
	assert_int_equal(s->ops->release(view, false, &label, &p->err), 0);
	s->ops->destroy(s);
	return label;
}

static bool was_frozen(const struct place *p)
{
	char path[256], text[256];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "%s/seen", p->dir);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[n > 0 ? n : 0] = '\0';
	return strstr(text, "frozen 1") != NULL;
}

/* The pause is for the view command alone; a scan without one does not use it. */
static void test_scan_under_a_cgroup_pause(void **state)
{
	struct place *p = *state;
	char reason[200], view[600];

	if (!need_cgroup(p))
		skip();
	put(p->dir, "v", "content");
	assert_int_equal(scan_once(p, reason, sizeof(reason)), SOSIE_CONSISTENCY_FUZZY);
	print_message("  %s\n", reason);
	assert_non_null(strstr(reason, "scan: asked for; pause is not used: reading takes too long"));
	snprintf(view, sizeof(view), "cat %s/cgroup.events >%s/seen; echo v=%s/v", p->group.path, p->dir,
	         p->dir);
	p->hooks.view = view;
	assert_int_equal(scan_once(p, reason, sizeof(reason)), SOSIE_CONSISTENCY_CRASH);
	assert_string_equal(reason, "scan: asked for");
	assert_true(was_frozen(p));
}

static uint64_t limit_with(struct place *p, enum sosie_pause_kind kind, uint64_t pause_ms, uint64_t freeze_ms,
                           bool until_read)
{
	struct pause pause;
	uint64_t limit;

	p->hooks = (struct sosie_hooks){.freeze_limit_ms = freeze_ms};
	if (kind == SOSIE_PAUSE_COMMANDS || kind == SOSIE_PAUSE_NONE)
		p->hooks.freeze = p->hooks.thaw = "true";
	p->o.pause = (struct sosie_pause){.kind = kind, .target = "/x", .limit_ms = pause_ms};
	assert_int_equal(pause_init(&pause, &p->o, until_read, &p->err), 0);
	limit = pause.limit_ms;
	pause_fini(&pause);
	return limit;
}

/* NONE with commands given is COMMANDS: what the command line says. */
static void test_limit_is_the_given_one_or_by_how_long_writers_are_held(void **state)
{
	struct place *p = *state;

	assert_int_equal(limit_with(p, SOSIE_PAUSE_COMMANDS, 0, 0, true), 30000);
	assert_int_equal(limit_with(p, SOSIE_PAUSE_NONE, 0, 0, true), 30000);
	assert_int_equal(limit_with(p, SOSIE_PAUSE_COMMANDS, 0, 0, false), 2000);
	assert_int_equal(limit_with(p, SOSIE_PAUSE_NONE, 0, 0, false), 2000);
	assert_int_equal(limit_with(p, SOSIE_PAUSE_CGROUP, 0, 0, true), 2000);
	assert_int_equal(limit_with(p, SOSIE_PAUSE_QMP, 0, 0, false), 2000);
	assert_int_equal(limit_with(p, SOSIE_PAUSE_COMMANDS, 0, 7000, true), 7000);
	assert_int_equal(limit_with(p, SOSIE_PAUSE_NONE, 0, 7000, false), 7000);
	assert_int_equal(limit_with(p, SOSIE_PAUSE_COMMANDS, 500, 7000, true), 500);
}

static void test_hold_and_let_go_failed_the_worse_is_told(void **state)
{
	struct place *p = *state;
	struct pause pause;

	p->hooks = (struct sosie_hooks){.freeze = "false", .thaw = "true"};
	assert_int_equal(pause_init(&pause, &p->o, false, &p->err), 0);
	assert_int_equal(pause_hold(&pause, &p->err), -SOSIE_EHOOK);
	assert_non_null(strstr(p->err.what, "the freeze command failed"));
	pause_fini(&pause);
	p->hooks = (struct sosie_hooks){.freeze = "false", .thaw = "false"};
	assert_int_equal(pause_init(&pause, &p->o, false, &p->err), 0);
	assert_int_equal(pause_hold(&pause, &p->err), -SOSIE_EHOOK);
	say(p);
	assert_non_null(strstr(p->err.what, "the thaw command failed"));
	assert_non_null(strstr(p->err.action, "by hand, now"));
	pause_fini(&pause);
}

static void test_pause_words_and_contradictions(void **state)
{
	struct place *p = *state;
	struct sosie_pause pause;
	struct pause held;

	assert_int_equal(sosie_pause_parse("cgroup:/sys/fs/cgroup/x", &pause, &p->err), 0);
	assert_true(pause.kind == SOSIE_PAUSE_CGROUP && strcmp(pause.target, "/sys/fs/cgroup/x") == 0);
	assert_int_equal(sosie_pause_parse("qmp:/run/x", &pause, &p->err), 0);
	assert_true(pause.kind == SOSIE_PAUSE_QMP && strcmp(pause.target, "/run/x") == 0);
	assert_int_equal(sosie_pause_parse("qmp:x", &pause, &p->err), -SOSIE_EUSAGE);
	assert_int_equal(sosie_pause_parse("", &pause, &p->err), -SOSIE_EUSAGE);
	say(p);
	p->hooks = (struct sosie_hooks){.freeze = "true"};
	assert_int_equal(pause_init(&held, &p->o, false, &p->err), -SOSIE_EUSAGE);
	pause_fini(&held);
	p->hooks = (struct sosie_hooks){.freeze = "true", .thaw = "true"};
	p->o.pause = (struct sosie_pause){.kind = SOSIE_PAUSE_QMP, .target = "/x"};
	assert_int_equal(pause_init(&held, &p->o, false, &p->err), -SOSIE_EUSAGE);
	pause_fini(&held);
	p->hooks = (struct sosie_hooks){.freeze = NULL};
	p->o.pause.kind = SOSIE_PAUSE_COMMANDS;
	assert_int_equal(pause_init(&held, &p->o, false, &p->err), -SOSIE_EUSAGE);
	pause_fini(&held);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
	        CASE(test_pause_words_and_contradictions),
	        CASE(test_limit_is_the_given_one_or_by_how_long_writers_are_held),
	        CASE(test_hold_and_let_go_failed_the_worse_is_told),
	        CASE(test_cgroup_frozen_between_hold_and_let_go),
	        CASE(test_cgroup_frozen_by_another_stays_frozen),
	        CASE(test_cgroup_thawed_by_another_meanwhile_is_told),
	        CASE(test_cgroup_shared_is_held_by_one_at_a_time),
	        CASE(test_cgroup_missing_is_told),
	        CASE(test_limit_passed_guardian_thaws_and_we_are_told),
	        CASE(test_stopped_in_a_pause_is_thawed_at_the_limit),
	        CASE(test_killed_in_a_pause_is_thawed_at_once),
	        CASE(test_guardian_killed_is_started_again),
	        CASE(test_monitor_stopped_and_continued),
	        CASE(test_monitor_of_a_paused_machine_is_left_alone),
	        CASE(test_monitor_continued_by_another_meanwhile_is_told),
	        CASE(test_monitor_that_misbehaves_is_told),
	        CASE(test_monitor_continued_by_the_guardian),
	        CASE(test_cgroup_left_held_by_the_dead_is_thawed_at_open),
	        CASE(test_machine_left_held_by_the_dead_is_continued_at_open),
	        CASE(test_held_by_the_living_is_left_alone),
	        CASE(test_note_that_makes_no_sense_is_none),
	        CASE(test_scan_under_a_cgroup_pause),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

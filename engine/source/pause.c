/* SPDX-License-Identifier: MIT */
/* Holding writers: cgroup v2 (linux Documentation/admin-guide/cgroup-v2.rst, cgroup.freeze and
 * cgroup.events), QEMU's monitor, or commands; always with a guardian and a limit. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "engine/source/pause.h"

#define MS 1000000ll
#define UNDO_LIMIT_MS 2000

int sosie_pause_parse(const char *text, struct sosie_pause *out, struct sosie_err *err)
{
	*out = (struct sosie_pause){.kind = SOSIE_PAUSE_NONE};
	if (strncmp(text, "cgroup:/", 8) == 0)
		*out = (struct sosie_pause){.kind = SOSIE_PAUSE_CGROUP, .target = text + 7};
	else if (strncmp(text, "qmp:/", 5) == 0)
		*out = (struct sosie_pause){.kind = SOSIE_PAUSE_QMP, .target = text + 4};
	else
		return sosie_err_set(err, SOSIE_EUSAGE,
		                     "pause \"%.100s\" is not known; it is cgroup:/FOLDER or qmp:/SOCKET",
		                     text);
	return 0;
}

/* --- cgroup ----------------------------------------------------------------------------------------------
 */

static int cgroup_error(struct pause *p, struct sosie_err *err)
{
	sosie_err_where(err, "%s", p->target);
	return sosie_err_action(err, "name a cgroup v2 folder that holds the writers and that we may freeze");
}

static int cgroup_write(struct pause *p, const char *text, struct sosie_err *err)
{
	int fd = open(p->freeze_file, O_WRONLY | O_CLOEXEC), sys = 0;

	if (fd < 0 || write(fd, text, 1) != 1)
		sys = errno;
	if (fd >= 0)
		close(fd);
	if (sys == 0)
		return 0;
	sosie_err_sys(err, sys, "the cgroup cannot be %s", text[0] == '1' ? "frozen" : "thawed");
	return cgroup_error(p, err);
}

/* What cgroup.freeze says: the order that is in force. */
static int cgroup_ordered(struct pause *p, bool *frozen, struct sosie_err *err)
{
	char c = 0;
	int fd = open(p->freeze_file, O_RDONLY | O_CLOEXEC), sys = 0;

	if (fd < 0 || read(fd, &c, 1) != 1)
		sys = errno ? errno : EIO;
	if (fd >= 0)
		close(fd);
	*frozen = c == '1';
	if (sys == 0)
		return 0;
	sosie_err_sys(err, sys, "the cgroup of a pause cannot be used");
	return cgroup_error(p, err);
}

static bool events_say_frozen(int fd)
{
	char text[256];
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);

	if (n <= 0)
		return false;
	text[n] = '\0';
	return strstr(text, "frozen 1") != NULL;
}

/* False: another process or group of ours has it, until the limit. */
static bool cgroup_lock(struct pause *p, int64_t limit_ns)
{
	p->lock_fd = open(p->target, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	while (p->lock_fd >= 0 && flock(p->lock_fd, LOCK_EX | LOCK_NB) != 0) {
		if ((errno != EWOULDBLOCK && errno != EINTR) || sosie_clock_ns(CLOCK_MONOTONIC) >= limit_ns)
			return false;
		poll(NULL, 0, 1);
	}
	return true; /* one that cannot be opened: what follows says why */
}

static void cgroup_unlock(struct pause *p)
{
	if (p->lock_fd < 0)
		return;
	(void)flock(p->lock_fd, LOCK_UN); /* a child of a fork may have the descriptor for a moment yet */
	close(p->lock_fd);
	p->lock_fd = -1;
}

static int cgroup_prepare(struct pause *p, int64_t limit_ns, struct sosie_err *err)
{
	bool frozen = true;
	int rc = 0;

	if (cgroup_lock(p, limit_ns))
		rc = cgroup_ordered(p, &frozen, err);
	p->ours = rc == 0 && !frozen;
	if (!p->ours)
		cgroup_unlock(p);
	return rc;
}

static int events_open(const struct pause *p)
{
	char path[sizeof(p->freeze_file)];

	snprintf(path, sizeof(path), "%s/cgroup.events", p->target);
	return open(path, O_RDONLY | O_CLOEXEC);
}

static bool cgroup_frozen(const struct pause *p)
{
	int fd = events_open(p);
	bool frozen = fd >= 0 && events_say_frozen(fd);

	if (fd >= 0)
		close(fd);
	return frozen;
}

static int not_frozen(const struct pause *p, struct sosie_err *err)
{
	sosie_err_set(err, SOSIE_ETIMEOUT, "the cgroup was not frozen within %llu ms",
	              (unsigned long long)p->limit_ms);
	sosie_err_where(err, "%s", p->target);
	sosie_err_action(
	        err, "a process in it waits for a disk or a server and cannot be frozen meanwhile: look for "
	             "state D in ps -eo pid,stat,cgroup,cmd");
	return -SOSIE_ETIMEOUT;
}

/* cgroup.events wakes POLLPRI at each change. */
static int cgroup_wait(struct pause *p, struct sosie_err *err)
{
	int fd = events_open(p), rc = 0;

	if (fd < 0) {
		sosie_err_sys(err, errno, "the cgroup's events cannot be read");
		return cgroup_error(p, err);
	}
	while (rc == 0 && !events_say_frozen(fd)) {
		struct pollfd e = {fd, POLLPRI, 0};
		int64_t left = (p->deadline_ns - sosie_clock_ns(CLOCK_MONOTONIC)) / MS;

		if (left <= 0)
			rc = not_frozen(p, err);
		else
			poll(&e, 1, left > 1000 ? 1000 : (int)left + 1);
	}
	close(fd);
	return rc;
}

/* --- one word each
 * ------------------------------------------------------------------------------------------ */

/* What can be done before the clock runs: is it ours to hold? */
static int prepare(struct pause *p, struct sosie_err *err)
{
	int64_t limit_ns = sosie_clock_ns(CLOCK_MONOTONIC) + (int64_t)p->limit_ms * MS;
	int rc = 0;

	p->ours = true;
	if (p->kind == SOSIE_PAUSE_CGROUP) {
		rc = cgroup_prepare(p, limit_ns, err);
	} else if (p->kind == SOSIE_PAUSE_QMP) {
		rc = qmp_open(&p->qmp, p->target, limit_ns, err);
		if (rc == 0)
			rc = qmp_running(&p->qmp, &p->ours, limit_ns, err);
	}
	return rc;
}

static int say_hold(struct pause *p, struct sosie_err *err)
{
	uint64_t limit = p->limit_ms < p->hooks.hook_limit_ms ? p->limit_ms : p->hooks.hook_limit_ms;
	int rc = 0;

	switch (p->kind) {
	case SOSIE_PAUSE_CGROUP:
		rc = cgroup_write(p, "1", err);
		return rc == 0 ? cgroup_wait(p, err) : rc;
	case SOSIE_PAUSE_QMP:
		return qmp_command(&p->qmp, "stop", p->deadline_ns, err);
	case SOSIE_PAUSE_COMMANDS:
		return hook_run(&p->guardian, &p->env, "freeze", p->hooks.freeze, limit, NULL, err);
	case SOSIE_PAUSE_NONE:
		break;
	}
	return rc;
}

static int say_let_go(struct pause *p, struct sosie_err *err)
{
	switch (p->kind) {
	case SOSIE_PAUSE_CGROUP:
		return cgroup_write(p, "0", err);
	case SOSIE_PAUSE_QMP:
		return qmp_command(&p->qmp, "cont", sosie_clock_ns(CLOCK_MONOTONIC) + UNDO_LIMIT_MS * MS,
		                   err);
	case SOSIE_PAUSE_COMMANDS:
		return hook_run(&p->guardian, &p->env, "thaw", p->hooks.thaw, p->hooks.hook_limit_ms, NULL,
		                err);
	case SOSIE_PAUSE_NONE:
		break;
	}
	return 0;
}

/* Another may have let go what we hold. */
static bool still_held(struct pause *p)
{
	bool running = true;

	switch (p->kind) {
	case SOSIE_PAUSE_CGROUP:
		return cgroup_frozen(p);
	case SOSIE_PAUSE_QMP:
		return qmp_running(&p->qmp, &running, p->deadline_ns, NULL) == 0 && !running;
	case SOSIE_PAUSE_COMMANDS:
	case SOSIE_PAUSE_NONE:
		break;
	}
	return true;
}

static void forget(struct pause *p)
{
	p->guardian.monitor = -1;
	qmp_close(&p->qmp);
	cgroup_unlock(p);
}

/* Neither the standby nor a peer of it has failed, whatever the code of what went wrong. */
static int failed(struct sosie_err *err)
{
	if (err)
		err->code = SOSIE_EHOOK;
	return -SOSIE_EHOOK;
}

static int undo(struct pause *p, struct sosie_err *err)
{
	int rc;

	p->held = false;
	rc = say_let_go(p, err);
	if (rc != 0) /* still owed: the guardian does it at the limit, or when we end */
		sosie_err_action(err, "the volumes' writers may still be held: let them go by hand, now");
	else
		guardian_paid(&p->guardian, GUARDIAN_THAWED);
	if (rc == 0)
		pause_note_free(&p->note);
	forget(p);
	return rc == 0 ? 0 : failed(err);
}

int pause_let_go(struct pause *p, bool *passed, struct sosie_err *err)
{
	*passed = false;
	if (!p->held)
		return 0;
	*passed = sosie_clock_ns(CLOCK_MONOTONIC) >= p->deadline_ns || !still_held(p);
	return undo(p, err);
}

int pause_hold(struct pause *p, struct sosie_err *err)
{
	struct sosie_err undo_err = {0};
	int rc;

	if (p->kind == SOSIE_PAUSE_NONE)
		return 0;
	rc = prepare(p, err);
	if (rc == 0 && p->ours)
		rc = pause_note_hold(&p->note, p->kind, p->target, err);
	p->begun_ns = sosie_clock_ns(CLOCK_MONOTONIC);
	p->deadline_ns = p->begun_ns + (int64_t)p->limit_ms * MS;
	if (rc == 0 && p->ours)
		rc = guardian_owe(&p->guardian, GUARDIAN_OWE_THAW, p->deadline_ns + (int64_t)p->grace_ms * MS,
		                  p->qmp.fd, err);
	if (rc != 0 || !p->ours) {
		p->guardian.thaw_owed = false;
		pause_note_free(&p->note);
		forget(p);
		if (rc == 0)
			return 0;
		sosie_err_wrap(err, "pause");
		return failed(err);
	}
	p->held = true; /* let go also when it failed: it may have done half of its work */
	rc = say_hold(p, err);
	if (rc == 0)
		return 0;
	if (undo(p, &undo_err) != 0 && err) /* writers that are still held are worse than a cut that failed */
		*err = undo_err;
	return failed(err);
}

/* --- making one --------------------------------------------------------------------------------------------
 */

static int check(const struct sosie_hooks *h, enum sosie_pause_kind kind, struct sosie_err *err)
{
	if (!h->freeze != !h->thaw)
		return sosie_err_set(err, SOSIE_EUSAGE,
		                     "--freeze and --thaw come together: one without the other is given");
	if (h->view_done && !h->view)
		return sosie_err_set(err, SOSIE_EUSAGE, "--view-done without --view");
	if (kind == SOSIE_PAUSE_COMMANDS && !h->freeze)
		return sosie_err_set(err, SOSIE_EUSAGE,
		                     "a pause by commands, and no freeze and thaw commands");
	if (kind != SOSIE_PAUSE_COMMANDS && kind != SOSIE_PAUSE_NONE && h->freeze)
		return sosie_err_set(err, SOSIE_EUSAGE,
		                     "a freeze command and another pause: only one of them can be used");
	return 0;
}

static uint64_t limit_of(const struct sosie_source_options *o, const struct sosie_hooks *h, bool until_read,
                         enum sosie_pause_kind kind)
{
	if (o->pause.limit_ms)
		return o->pause.limit_ms;
	if (kind == SOSIE_PAUSE_COMMANDS && h->freeze_limit_ms)
		return h->freeze_limit_ms;
	return until_read && kind == SOSIE_PAUSE_COMMANDS ? FREEZE_LIMIT_MS : PAUSE_LIMIT_MS;
}

int pause_init(struct pause *p, const struct sosie_source_options *o, bool until_read, struct sosie_err *err)
{
	int rc, n;

	*p = (struct pause){.kind = o->pause.kind,
	                    .target = o->pause.target,
	                    .lock_fd = -1,
	                    .qmp.fd = -1,
	                    .note.fd = -1,
	                    .guardian.fd = -1};
	p->hooks = o->hooks ? *o->hooks : (struct sosie_hooks){0};
	rc = check(&p->hooks, p->kind, err);
	if (rc != 0)
		return rc;
	if (p->kind == SOSIE_PAUSE_NONE && p->hooks.freeze)
		p->kind = SOSIE_PAUSE_COMMANDS;
	p->limit_ms = limit_of(o, &p->hooks, until_read, p->kind);
	p->limit_ms = p->limit_ms < INT32_MAX ? p->limit_ms : INT32_MAX;
	p->hooks.hook_limit_ms = p->hooks.hook_limit_ms ? p->hooks.hook_limit_ms : HOOK_LIMIT_MS;
	p->grace_ms = until_read && p->kind == SOSIE_PAUSE_COMMANDS ? 1000 : 0;
	if (p->kind == SOSIE_PAUSE_CGROUP) {
		/* The longest of its files that are used, cgroup.events too. */
		n = snprintf(p->freeze_file, sizeof(p->freeze_file), "%s/cgroup.freeze", p->target);
		if (n < 0 || (size_t)n >= sizeof(p->freeze_file))
			return sosie_err_set(err, SOSIE_ECONFIG, "the path of the cgroup is too long");
	}
	rc = pause_note_init(&p->note, o->state, err);
	if (rc == 0)
		rc = hook_env_init(&p->env, o->group, o->volumes, o->count, err);
	if (rc == 0)
		guardian_init(&p->guardian, &(struct guardian_job){.kind = p->kind,
		                                                   .freeze_file = p->freeze_file,
		                                                   .note = p->note.path,
		                                                   .thaw = p->hooks.thaw,
		                                                   .view_done = p->hooks.view_done,
		                                                   .env = p->env.list,
		                                                   .hook_limit_ms = p->hooks.hook_limit_ms});
	return rc;
}

void pause_fini(struct pause *p)
{
	bool passed;

	pause_let_go(p, &passed, NULL);
	guardian_stop(&p->guardian);
	pause_note_close(&p->note);
	hook_env_fini(&p->env);
}

/* --- what was left held by the dead ------------------------------------------------------------------------
 */

/* A cgroup or a machine that is gone holds nobody. */
static int undo_one(struct pause *p, struct sosie_err *err)
{
	struct sosie_err why = {0};
	int rc = 0;

	if (p->kind == SOSIE_PAUSE_QMP)
		rc = qmp_open(&p->qmp, p->target, sosie_clock_ns(CLOCK_MONOTONIC) + UNDO_LIMIT_MS * MS, &why);
	if (rc == 0)
		rc = say_let_go(p, &why);
	if (why.sys == ENOENT || why.sys == ECONNREFUSED || why.sys == ENODEV)
		return 0;
	if (rc == 0)
		return 0;
	sosie_err_wrap(&why, "writers that were left held");
	sosie_err_action(&why, "the volumes' writers may still be held: let them go by hand, now");
	if (err)
		*err = why;
	return failed(err);
}

int pause_undo_left(const struct sosie_source_options *o, bool *undone, struct sosie_err *err)
{
	struct sosie_hooks hooks = o->hooks ? *o->hooks : (struct sosie_hooks){0};
	struct sosie_source_options as_left = *o;
	struct pause_left left;
	struct pause p;
	int rc = pause_note_left(o->state, &left, err);

	*undone = false;
	if (rc != 0 || left.kind == SOSIE_PAUSE_NONE)
		return rc;
	if (left.kind == SOSIE_PAUSE_COMMANDS &&
	    !hooks.thaw) { /* who took the command away has the word now */
		pause_left_close(&left, true);
		return 0;
	}
	if (left.kind != SOSIE_PAUSE_COMMANDS)
		hooks.freeze = hooks.thaw = NULL; /* what held then counts, not what would now */
	as_left.hooks = &hooks;
	as_left.pause = (struct sosie_pause){.kind = left.kind, .target = left.target};
	as_left.state = NULL;
	rc = pause_init(&p, &as_left, false, err);
	if (rc == 0)
		rc = undo_one(&p, err);
	*undone = rc == 0;
	forget(&p);
	pause_fini(&p);
	pause_left_close(&left, rc == 0);
	return rc;
}

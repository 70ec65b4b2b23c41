/* SPDX-License-Identifier: MIT */
/*
 * The daemon around the mirror: configuration, reload, systemd's words, the control socket. A reload that
 * cannot be done is told and leaves everything as it is.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sosie/log.h"
#include "tools/common/file_limit.h"
#include "tools/common/stop.h"
#include "tools/common/version.h"
#include "tools/sosied/connect.h"
#include "tools/sosied/control.h"
#include "tools/sosied/daemon.h"
#include "tools/sosied/leftover.h"
#include "tools/common/notify.h"

#define TICK_MS 250
/* ioprio_set(2): class "best effort", its last level; for this process and the threads that it starts: also
 * what is read to cut, to compare mappings and to keep the state. (The passes over volumes see to theirs in
 * every program: engine/replicate/pass.c.) */
#define IOPRIO_WHO_PROCESS 1
#define IOPRIO_BEST_EFFORT_LAST (2 << 13 | 7)

static volatile sig_atomic_t reload_wanted;

static void on_hangup(int number)
{
	(void)number;
	reload_wanted = 1;
}

static const char *plural(unsigned n)
{
	return n == 1 ? "" : "s";
}

int daemon_check(const char *file, struct sosie_err *err)
{
	struct sosie_config *c;
	int rc = sosie_config_load(file, &c, err);

	if (rc != 0)
		return rc;
	printf("%s: %u group%s, %u standby%s: ok\n", file, c->group_count, plural(c->group_count),
	       c->standby_count, plural(c->standby_count));
	sosie_config_free(c);
	return 0;
}

/* Production first. Each group has files open, a session of its own now and then. */
static void prepare(void)
{
	struct sigaction action = {.sa_handler = on_hangup};

	sigemptyset(&action.sa_mask);
	sigaction(SIGHUP, &action, NULL);
	(void)syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_BEST_EFFORT_LAST);
	file_limit_raise();
}

/* state: the folder that is locked, where the socket is. */
static int read_again(struct sosie_mirror *m, const char *file, const char *state, unsigned *groups,
                      struct sosie_err *err)
{
	struct sosie_config *c = NULL;
	int rc = sosie_config_load(file, &c, err);

	if (rc != 0)
		return rc;
	if (strcmp(c->state, state) != 0) {
		sosie_err_set(err, SOSIE_ECONFIG, "state cannot change while sosied runs: it is %s", state);
		sosie_err_where(err, "%s", file);
		sosie_config_free(c);
		return sosie_err_action(err, "restart it: systemctl restart sosied");
	}
	*groups = c->group_count;
	return sosie_mirror_reload(m, c, err);
}

static void reload(struct sosie_mirror *m, const char *file, const char *state)
{
	struct sosie_err err = {0};
	char line[1100];
	unsigned groups = 0;
	int rc;

	notify_reloading();
	rc = read_again(m, file, state, &groups, &err);
	if (rc == 0)
		sosie_log(SOSIE_LOG_NOTICE, "%s: read again, %u group%s", file, groups, plural(groups));
	else
		sosie_log(SOSIE_LOG_ERROR, "reload refused, the old configuration goes on: %s",
		          sosie_err_line(&err, line, sizeof(line)));
	sosie_mirror_config_alarm(m, file, rc == 0 ? NULL : line);
	notify(rc == 0 ? "READY=1\nSTATUS=mirroring"
	               : "READY=1\nSTATUS=mirroring; the last reload was refused");
}

static void loop(struct sosie_mirror *m, const char *file, const char *state)
{
	struct sosie_clock *clock = sosie_clock_real();
	int64_t every = notify_watchdog_ms(), told = 0;

	while (!stop_wanted()) {
		if (reload_wanted) {
			reload_wanted = 0;
			reload(m, file, state);
		}
		if (every > 0 && sosie_mono_ms(clock) - told >= every && sosie_mirror_alive(m)) {
			told = sosie_mono_ms(clock);
			notify("WATCHDOG=1");
		}
		sosie_sleep_ms(clock, every > 0 && every < TICK_MS ? every : TICK_MS);
	}
}

static int answer(void *arg, char **text, size_t *len, struct sosie_err *err)
{
	return sosie_mirror_status(*(struct sosie_mirror *const *)arg, text, len, err);
}

/* A second daemon is refused before anything of the first is touched; the socket answers when there is
 * something to tell. */
static int start(struct sosie_config *c, struct sosie_mirror **m, struct control **control,
                 struct sosie_err *err)
{
	const struct sosie_mirror_options o = {
	        .clock = sosie_clock_real(),
	        .connect = connect_standby,
	        .disconnect = disconnect_standby,
	        .stop = stop_flag(),
	};
	int rc = control_lock(c->state, control, err);

	if (rc != 0) {
		sosie_config_free(c);
		return rc;
	}
	(void)leftover_tell(c);
	rc = sosie_mirror_start(c, &o, m, err);
	return rc == 0 ? control_listen(*control, answer, m, err) : rc;
}

int daemon_run(const char *file, struct sosie_err *err)
{
	struct sosie_config *c;
	struct sosie_mirror *m = NULL;
	struct control *control = NULL;
	char state[4096];
	unsigned groups;
	int rc = sosie_config_load(file, &c, err);

	if (rc != 0)
		return rc;
	groups = c->group_count;
	snprintf(state, sizeof(state), "%s", c->state); /* the mirror takes c over */
	prepare();
	rc = start(c, &m, &control, err);
	if (rc == 0) {
		sosie_log(SOSIE_LOG_NOTICE, "sosied " SOSIE_VERSION ": %u group%s of %s", groups,
		          plural(groups), file);
		notify("READY=1\nSTATUS=mirroring");
		loop(m, file, state);
		notify("STOPPING=1");
	}
	control_unlisten(control);
	sosie_mirror_stop(m);
	control_close(control);
	return rc;
}

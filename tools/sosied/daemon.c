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
#include "tools/common/notify.h"

#define TICK_MS 250
/* ioprio_set(2): class "best effort", its last level; for this process and the threads that it starts. */
#define IOPRIO_WHO_PROCESS 1
#define IOPRIO_BEST_EFFORT_LAST (2 << 13 | 7)

static volatile sig_atomic_t reload_wanted;

static void on_hangup(int number)
{
	(void)number;
	reload_wanted = 1;
}

int daemon_check(const char *file, struct sosie_err *err)
{
	struct sosie_config *c;
	int rc = sosie_config_load(file, &c, err);

	if (rc != 0)
		return rc;
	printf("%s: %u group%s, %u standby%s: ok\n", file, c->group_count, c->group_count == 1 ? "" : "s",
	       c->standby_count, c->standby_count == 1 ? "" : "s");
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

static void reload(struct sosie_mirror *m, const char *file)
{
	struct sosie_config *c = NULL;
	struct sosie_err err = {0};
	char line[1100];
	unsigned groups = 0;
	int rc;

	notify_reloading();
	rc = sosie_config_load(file, &c, &err);
	if (rc == 0) {
		groups = c->group_count;
		rc = sosie_mirror_reload(m, c, &err);
	}
	if (rc == 0) {
		sosie_log(SOSIE_LOG_NOTICE, "%s: read again, %u groups", file, groups);
	} else {
		sosie_log(SOSIE_LOG_ERROR, "reload refused, the old configuration goes on: %s",
		          sosie_err_line(&err, line, sizeof(line)));
	}
	sosie_mirror_config_alarm(m, file, rc == 0 ? NULL : line);
	notify(rc == 0 ? "READY=1\nSTATUS=mirroring"
	               : "READY=1\nSTATUS=mirroring; the last reload was refused");
}

static void loop(struct sosie_mirror *m, const char *file)
{
	struct sosie_clock *clock = sosie_clock_real();
	int64_t every = notify_watchdog_ms(), told = 0;

	while (!stop_wanted()) {
		if (reload_wanted) {
			reload_wanted = 0;
			reload(m, file);
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
	char state[4096];
	int rc;

	snprintf(state, sizeof(state), "%s", c->state);
	rc = control_lock(state, control, err);
	if (rc != 0) {
		sosie_config_free(c);
		return rc;
	}
	rc = sosie_mirror_start(c, &o, m, err);
	return rc == 0 ? control_listen(*control, answer, m, err) : rc;
}

int daemon_run(const char *file, struct sosie_err *err)
{
	struct sosie_config *c;
	struct sosie_mirror *m = NULL;
	struct control *control = NULL;
	unsigned groups;
	int rc = sosie_config_load(file, &c, err);

	if (rc != 0)
		return rc;
	groups = c->group_count;
	prepare();
	rc = start(c, &m, &control, err);
	if (rc == 0) {
		sosie_log(SOSIE_LOG_NOTICE, "sosied " SOSIE_VERSION ": %u groups of %s", groups, file);
		notify("READY=1\nSTATUS=mirroring");
		loop(m, file);
		notify("STOPPING=1");
	}
	control_unlisten(control);
	sosie_mirror_stop(m);
	control_close(control);
	return rc;
}

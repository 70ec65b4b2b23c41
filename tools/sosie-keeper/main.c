/* SPDX-License-Identifier: MIT */
/* The standby's daemon: command line, signals, readiness; the loop is loop.c. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/common/file_limit.h"
#include "tools/common/notify.h"
#include "tools/common/options.h"
#include "tools/common/owner.h"
#include "tools/common/standby_key.h"
#include "tools/common/version.h"
#include "tools/sosie-keeper/loop.h"

#define IO_DEPTH 256u
#define ALARM_REPEAT_MS 300000u
#define ALARM_REPEAT_MIN_MS 1000u
#define ALARM_REPEAT_MAX_MS (7ull * 86400000)

static const struct option_spec specs[] = {
        {.name = "store", .value = "DIR", .env = "SOSIE_STORE", .help = "the store to keep"},
        {.name = "once", .help = "take what is there, settle, exit"},
        {.name = "on-alarm", .value = "PROGRAM", .help = "told of each alarm, as JSON on its input"},
        {.name = "alarm-repeat", .value = "TIME", .help = "told again while open (default: 5m)"},
        {.name = "metrics", .value = "FILE", .help = "for Prometheus, written each 15 s"},
};

static volatile sig_atomic_t stop_asked;

static void on_signal(int sig)
{
	(void)sig;
	stop_asked = 1;
}

static bool must_stop(void)
{
	return stop_asked != 0;
}

static void install_signals(void)
{
	struct sigaction sa = {.sa_handler = on_signal};
	sigemptyset(&sa.sa_mask);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	signal(SIGPIPE, SIG_IGN);
}

static int start_herald(const struct options *o, struct loop_outputs *out, struct sosie_err *err)
{
	const char *program = options_get(o, "on-alarm"), *repeat = options_get(o, "alarm-repeat");
	uint64_t ms = ALARM_REPEAT_MS;
	int rc = repeat ? sosie_duration_parse(repeat, &ms, err) : 0;
	if (!rc && (ms < ALARM_REPEAT_MIN_MS || ms > ALARM_REPEAT_MAX_MS))
		rc = options_usage(o, err, "--alarm-repeat takes 1s to 7d");
	if (!rc && program && options_has(o, "once"))
		rc = options_usage(o, err, "--on-alarm is for a keeper that stays, not for --once");
	if (!rc && repeat && !program)
		rc = options_usage(o, err, "--alarm-repeat goes with --on-alarm");
	if (rc || !program)
		return rc;
	if (program[0] != '/' || access(program, X_OK) != 0)
		return options_usage(
		        o, err, "--on-alarm takes the absolute path of a program, which %s is not", program);
	return herald_start(program, (int64_t)ms, &out->herald, err);
}

static int start_outputs(const struct options *o, struct loop_outputs *out, struct sosie_err *err)
{
	const char *metrics = options_get(o, "metrics");
	int rc = start_herald(o, out, err);
	return rc || !metrics ? rc : scribe_start(metrics, &out->scribe, err);
}

static int run(const struct options *o, const char *path, struct sosie_err *err)
{
	const bool once = options_has(o, "once");
	struct loop_outputs outputs = {.herald = NULL};
	struct sosie_io *io = NULL;
	struct sosie_store *store = NULL;
	struct sosie_signer *signer = NULL;
	char backend[128];
	int rc = owner_become(path, false, err);
	if (!rc)
		rc = sosie_io_open(IO_DEPTH, &io, backend, sizeof(backend), err);
	if (!rc)
		rc = sosie_store_open(io, sosie_clock_real(), path, &store, err);
	if (!rc)
		rc = sosie_keeper_claim(store, err);
	if (!rc)
		rc = standby_key_open(store, &signer, err);
	if (!rc && !signer)
		sosie_log(SOSIE_LOG_NOTICE,
		          "the store has no key of its own: nothing of it is signed (\"sosie store "
		          "key %s\" makes one)",
		          path);
	if (!rc)
		rc = start_outputs(o, &outputs, err);
	if (!rc) {
		sosie_log(SOSIE_LOG_INFO, "keeping %s (%s)", path, backend);
		notify("READY=1");
		rc = once ? loop_once(store, &outputs, err) : loop_run(store, &outputs, must_stop, err);
	}
	herald_stop(outputs.herald);
	scribe_stop(outputs.scribe);
	sosie_store_close(store);
	sosie_signer_close(signer);
	sosie_io_free(io);
	return rc;
}

static int fail(const struct sosie_err *err)
{
	sosie_log_err(SOSIE_LOG_ERROR, err);
	return sosie_code_exit(err->code);
}

int main(int argc, char **argv)
{
	struct options o;
	struct sosie_err err;
	const char *path = NULL;
	const size_t count = sizeof(specs) / sizeof(specs[0]);
	sosie_err_clear(&err);
	sosie_log_init("sosie-keeper", SOSIE_LOG_INFO);
	int rc = options_parse(&o, "sosie-keeper", specs, count, argc - 1, argv + 1, 0, 0, "", &err);
	if (!rc && o.help) {
		puts("Usage: sosie-keeper --store DIR [--once] [--on-alarm PROGRAM [--alarm-repeat TIME]]\n"
		     "                    [--metrics FILE]\nMakes what receivers take in into points "
		     "of a store.\n");
		options_print(specs, count);
	} else if (!rc && o.version) {
		puts("sosie-keeper " SOSIE_VERSION);
	} else {
		if (!rc)
			rc = options_need(&o, "store", &path, &err);
		install_signals();
		file_limit_raise(); /* an open head holds its images open: up to 256 files a group */
		if (!rc)
			rc = run(&o, path, &err);
	}
	options_fini(&o);
	return rc ? fail(&err) : 0;
}

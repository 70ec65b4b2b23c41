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

static const struct option_spec specs[] = {
        {.name = "store", .value = "DIR", .env = "SOSIE_STORE", .help = "the store to keep"},
        {.name = "once", .help = "take what is there, settle, exit"},
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

static int run(const char *path, bool once, struct sosie_err *err)
{
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
	if (!rc) {
		sosie_log(SOSIE_LOG_INFO, "keeping %s (%s)", path, backend);
		notify("READY=1");
		rc = once ? loop_once(store, err) : loop_run(store, must_stop, err);
	}
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
		puts("Usage: sosie-keeper --store DIR [--once]\nMakes what receivers take in into points "
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
			rc = run(path, options_has(&o, "once"), &err);
	}
	options_fini(&o);
	return rc ? fail(&err) : 0;
}

/* SPDX-License-Identifier: MIT */
/* The flag that signals set. */
#include <signal.h>
#include <string.h>

#include "tools/common/stop.h"

/* Written by the handler alone. */
static bool wanted;

static void on_signal(int number)
{
	(void)number;
	__atomic_store_n(&wanted, true,
	                 __ATOMIC_RELAXED); /* threads read it too; lock-free, so fit for a handler */
}

void stop_install(void)
{
	static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
	struct sigaction action;

	memset(&action, 0, sizeof(action));
	sigemptyset(&action.sa_mask);
	action.sa_handler = on_signal;
	action.sa_flags = (int)SA_RESETHAND; /* no SA_RESTART: a wait for the operator's answer ends */
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		struct sigaction old;
		/* What nohup(1) or the shell had ignored stays ignored. */
		if (sigaction(signals[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
			sigaction(signals[i], &action, NULL);
	}
	action.sa_handler = SIG_IGN;
	action.sa_flags = 0;
	sigaction(SIGPIPE, &action, NULL);
}

bool stop_wanted(void)
{
	return __atomic_load_n(&wanted, __ATOMIC_RELAXED);
}

const bool *stop_flag(void)
{
	return &wanted;
}

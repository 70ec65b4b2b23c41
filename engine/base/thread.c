/* SPDX-License-Identifier: MIT */
/* Signals of new threads and children. */
#include <signal.h>
#include <stddef.h>

#include "sosie/thread.h"

int sosie_thread_start(pthread_t *thread, const pthread_attr_t *how, void *(*run)(void *), void *arg)
{
	sigset_t all, before;
	int sys;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	sys = pthread_create(thread, how, run, arg);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return sys;
}

void sosie_signals_reset(void)
{
	const struct sigaction standard = {.sa_handler = SIG_DFL};
	sigset_t none;

	for (int s = 1; s < NSIG; s++)
		sigaction(s, &standard, NULL); /* SIGKILL, SIGSTOP and libc's own refuse: fine */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

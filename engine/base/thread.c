/* SPDX-License-Identifier: MIT */
/* Signals of new threads and children. */
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <unistd.h>

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

pid_t sosie_fork(void)
{
	sigset_t all, before;
	pid_t child;
	int sys;

	sigfillset(&all);
	sys = pthread_sigmask(SIG_SETMASK, &all, &before);
	if (sys != 0) {
		errno = sys;
		return -1;
	}
	child = fork();
	if (child == 0)
		return 0;
	sys = errno;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	errno = sys;
	return child;
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

/* SPDX-License-Identifier: MIT */
/* Threads that no signal reaches, children that begin as a program does; the machine's clocks in ns. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sosie/clock.h"
#include "sosie/thread.h"

static void *blocked(void *arg)
{
	pthread_sigmask(SIG_SETMASK, NULL, arg);
	return arg;
}

static void test_thread_started_has_all_signals_blocked_and_its_caller_not(void **state)
{
	sigset_t mask, before, after;
	pthread_t thread;

	(void)state;
	sigemptyset(&mask);
	sigaddset(&mask, SIGUSR2);
	pthread_sigmask(SIG_BLOCK, &mask, NULL);
	pthread_sigmask(SIG_SETMASK, NULL, &before);
	assert_int_equal(sosie_thread_start(&thread, NULL, blocked, &mask), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	pthread_sigmask(SIG_SETMASK, NULL, &after);
	assert_true(sigismember(&mask, SIGTERM) == 1 && sigismember(&mask, SIGINT) == 1);
	assert_true(sigismember(&mask, SIGCHLD) == 1 && sigismember(&mask, SIGUSR2) == 1);
	assert_true(sigismember(&after, SIGTERM) == 0 && sigismember(&after, SIGUSR2) == 1);
	for (int n = 1; n < NSIG; n++)
		assert_int_equal(sigismember(&before, n), sigismember(&after, n));
}

static void nothing(int number)
{
	(void)number;
}

static void test_signals_reset_in_a_child_do_what_they_do_at_the_start(void **state)
{
	sigset_t all, before;
	int status;
	pid_t pid;

	(void)state;
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	pid = fork();
	if (pid == 0) {
		struct sigaction now;

		signal(SIGTERM, SIG_IGN);
		signal(SIGHUP, nothing);
		sosie_signals_reset();
		if (sigaction(SIGHUP, NULL, &now) != 0 || now.sa_handler != SIG_DFL)
			_exit(1);
		raise(SIGTERM);
		_exit(2);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	sigprocmask(SIG_SETMASK, &before, NULL);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
}

static void test_clock_in_ns_is_that_in_ms(void **state)
{
	int64_t ms = sosie_mono_ms(sosie_clock_real()), ns = sosie_clock_ns(CLOCK_MONOTONIC);

	(void)state;
	assert_true(ns / 1000000 >= ms);
	assert_true(sosie_mono_ms(sosie_clock_real()) >= ns / 1000000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_thread_started_has_all_signals_blocked_and_its_caller_not),
	        cmocka_unit_test(test_signals_reset_in_a_child_do_what_they_do_at_the_start),
	        cmocka_unit_test(test_clock_in_ns_is_that_in_ms),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

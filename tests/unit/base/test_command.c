/* SPDX-License-Identifier: MIT */
/* An operator's program: its input, its output bounded, its limit, its group, a stop. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "sosie/clock.h"
#include "sosie/command.h"

static char folder[] = "/tmp/sosie-command-XXXXXX", program[64];

static void script(const char *text)
{
	FILE *f = fopen(program, "we");

	assert_non_null(f);
	fprintf(f, "#!/bin/sh\n%s\n", text);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(chmod(program, 0700), 0);
}

static int run(const char *input, uint64_t limit_ms, const bool *stop, struct sosie_err *err)
{
	const struct sosie_command c = {.program = program,
	                                .input = input,
	                                .input_len = strlen(input),
	                                .limit_ms = limit_ms,
	                                .stop = stop};

	return sosie_command_run(&c, err);
}

static void test_command_input_comes_back(void **state)
{
	struct sosie_err err;

	(void)state;
	script("read text; test \"$text\" = '{\"a\":1}'");
	assert_int_equal(run("{\"a\":1}\n", 10000, NULL, &err), 0);
	script("cat; echo over >&2; exit 1");
	assert_int_equal(run("{\"a\":1}", 10000, NULL, &err), -SOSIE_EHOOK);
	assert_non_null(strstr(err.what, ": {\"a\":1}over"));
}

static void test_command_endless_output_is_cut(void **state)
{
	struct sosie_err err;

	(void)state;
	script("head -c 3000000 /dev/zero | tr '\\0' x");
	assert_int_equal(run("", 10000, NULL, &err), 0);
	script("head -c 3000000 /dev/zero | tr '\\0' x; exit 1");
	assert_int_equal(run("", 10000, NULL, &err), -SOSIE_EHOOK);
	assert_int_equal(strspn(strstr(err.what, ": x") + 2, "x"), 200);
}

static void test_command_failure_tells_status_and_words(void **state)
{
	struct sosie_err err;

	(void)state;
	script("echo no such pager >&2; exit 3");
	assert_int_equal(run("", 10000, NULL, &err), -SOSIE_EHOOK);
	assert_non_null(strstr(err.what, "exit status 3: no such pager"));
	script("kill -9 $$");
	assert_int_equal(run("", 10000, NULL, &err), -SOSIE_EHOOK);
	assert_non_null(strstr(err.what, "signal 9"));
}

static void test_command_missing_program_is_told(void **state)
{
	struct sosie_err err;

	(void)state;
	unlink(program);
	assert_int_equal(run("", 10000, NULL, &err), -SOSIE_EHOOK);
	assert_non_null(strstr(err.what, "No such file"));
}

/* Its children too: the shell's child would go on for an hour. */
static void test_command_limit_kills_the_whole_group(void **state)
{
	struct sosie_err err;

	(void)state;
	script("sleep 3600 & echo $!; wait");
	assert_int_equal(run("", 300, NULL, &err), -SOSIE_EHOOK);
	assert_non_null(strstr(err.what, "not done after 300 ms"));
	assert_non_null(strstr(err.what, "killed: "));
	pid_t child = (pid_t)strtol(strstr(err.what, "killed: ") + 8, NULL, 10);
	assert_true(child > 1);
	for (int i = 0; i < 500 && kill(child, 0) == 0; i++) { /* until it is reaped by whom it fell to */
		char path[64], line[256] = "";
		snprintf(path, sizeof(path), "/proc/%d/stat", (int)child);
		FILE *f = fopen(path, "re");
		if (f && !fgets(line, sizeof(line), f))
			line[0] = '\0';
		if (f)
			fclose(f);
		if (strstr(line, ") Z"))
			return;
		sosie_sleep_ms(sosie_clock_real(), 10);
	}
	assert_int_not_equal(kill(child, 0), 0);
}

static void test_command_stop_ends_it(void **state)
{
	struct sosie_err err;
	const bool stop = true;

	(void)state;
	script("sleep 3600");
	assert_int_equal(run("", 100000, &stop, &err), -SOSIE_EINTR);
}

static int make(void **state)
{
	(void)state;
	if (!mkdtemp(folder))
		return -1;
	snprintf(program, sizeof(program), "%s/program", folder);
	return 0;
}

static int take_away(void **state)
{
	(void)state;
	unlink(program);
	return rmdir(folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_command_input_comes_back),
	        cmocka_unit_test(test_command_endless_output_is_cut),
	        cmocka_unit_test(test_command_failure_tells_status_and_words),
	        cmocka_unit_test(test_command_missing_program_is_told),
	        cmocka_unit_test(test_command_limit_kills_the_whole_group),
	        cmocka_unit_test(test_command_stop_ends_it),
	};
	return cmocka_run_group_tests(tests, make, take_away);
}

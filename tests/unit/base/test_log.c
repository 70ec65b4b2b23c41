/* SPDX-License-Identifier: MIT */
/* Log lines, caught through a pipe in the place of standard error. */
#include "tests/unit/base/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sosie/log.h"

static void caught(char *dst, size_t size, bool journal)
{
	struct sosie_err err;
	struct stat st;
	char stream[64];
	int fds[2], saved = dup(STDERR_FILENO);

	assert_int_equal(pipe(fds), 0);
	dup2(fds[1], STDERR_FILENO);
	assert_int_equal(fstat(STDERR_FILENO, &st), 0);
	snprintf(stream, sizeof(stream), "%llu:%llu", (unsigned long long)st.st_dev,
	         (unsigned long long)st.st_ino + !journal);
	setenv("JOURNAL_STREAM", stream, 1);
	sosie_log_init("sosie-test", SOSIE_LOG_NOTICE);
	sosie_log(SOSIE_LOG_INFO, "dropped");
	sosie_log(SOSIE_LOG_WARNING, "two\nlines %d", 5);
	sosie_err_set(&err, SOSIE_EIO, "broken");
	sosie_log_err(SOSIE_LOG_ERROR, &err);
	dup2(saved, STDERR_FILENO);
	close(saved);
	close(fds[1]);
	ssize_t n = read(fds[0], dst, size - 1);
	assert_true(n > 0);
	dst[n] = '\0';
	close(fds[0]);
}

static void test_log_plain_lines_are_escaped_and_filtered(void **state)
{
	char text[512];

	(void)state;
	unsetenv("SOSIE_LOG");
	caught(text, sizeof(text), false);
	assert_string_equal(text, "sosie-test: two\\x0alines 5\nsosie-test: broken\n");
}

static void test_log_under_journal_has_priorities_and_environment_wins(void **state)
{
	char text[512];

	(void)state;
	setenv("SOSIE_LOG", "debug", 1);
	caught(text, sizeof(text), true);
	assert_string_equal(
	        text, "<6>sosie-test: dropped\n<4>sosie-test: two\\x0alines 5\n<3>sosie-test: broken\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_log_plain_lines_are_escaped_and_filtered),
	        cmocka_unit_test(test_log_under_journal_has_priorities_and_environment_wins),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/* One question, one line. read(2) and not stdio: a signal ends the wait. */
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "tools/common/prompt.h"
#include "tools/common/stop.h"

bool prompt_possible(void)
{
	return isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
}

int prompt_line(const char *question, char *answer, size_t size, bool *answered, struct sosie_err *err)
{
	size_t at = 0;
	char c = 0;

	*answered = false;
	answer[0] = '\0';
	printf("%s", question);
	fflush(stdout);
	for (;;) {
		ssize_t n = read(STDIN_FILENO, &c, 1);
		if (n < 0 && errno == EINTR && !stop_wanted())
			continue;
		if (stop_wanted()) {
			putchar('\n');
			return sosie_err_set(err, SOSIE_EINTR, "interrupted");
		}
		if (n < 0)
			return sosie_err_sys(err, errno, "cannot read the answer");
		if (n == 0 || c == '\n')
			break;
		if (at + 1 < size)
			answer[at++] = c;
		else
			at = 0; /* longer than any answer can be: not one of them */
		answer[at] = '\0';
	}
	*answered = c == '\n';
	return 0;
}

/* SPDX-License-Identifier: MIT */
/* Chooses a back end. Apart from io.c, so that programs that must not link a ring do not. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sosie/io.h"

static void tell(char *reason, size_t size, const char *text, const char *detail)
{
	if (reason && size > 0)
		snprintf(reason, size, "%s%s", text, detail);
}

int sosie_io_open(unsigned depth, struct sosie_io **out, char *reason, size_t size, struct sosie_err *err)
{
	const char *forced = getenv("SOSIE_IO");
	struct sosie_err why;
	char detail[300];

	if (forced && strcmp(forced, "threads") == 0) {
		tell(reason, size, "threads: SOSIE_IO", "");
		return sosie_io_threads(depth, out, err);
	}
	if (forced && strcmp(forced, "uring") == 0) {
		tell(reason, size, "io_uring", ": SOSIE_IO");
		return sosie_io_uring(depth, out, err);
	}
	if (forced && forced[0] != '\0')
		return sosie_err_set(err, SOSIE_ECONFIG, "SOSIE_IO is \"%s\": it may be uring or threads",
		                     forced);
	sosie_err_clear(&why);
	if (sosie_io_uring(depth, out, &why) == 0) {
		tell(reason, size, "io_uring", "");
		return 0;
	}
	if (why.sys)
		snprintf(detail, sizeof(detail), "io_uring refused (%s)", strerrordesc_np(why.sys));
	else
		snprintf(detail, sizeof(detail), "%.290s", why.what);
	tell(reason, size, "threads: ", detail);
	return sosie_io_threads(depth, out, err);
}

/* SPDX-License-Identifier: MIT */
/* state/refusals: one line for each refused upload, newest last, at most STORE_REFUSALS_KEPT of them: "TIME
 * UPLOAD CODE TEXT". */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/store/core.h"

#define LINE_MAX_BYTES 1200u
#define FILE_MAX_BYTES (STORE_REFUSALS_KEPT * LINE_MAX_BYTES + LINE_MAX_BYTES)

static int read_lines(struct sosie_group *g, char path[STORE_PATH], char **text, size_t *len,
                      struct sosie_err *err)
{
	struct sosie_err mine;
	*text = NULL;
	*len = 0;
	sosie_err_clear(&mine);
	int rc = store_path(path, err, "%s/state/refusals", g->dir);
	if (!rc)
		rc = sosie_io_read_file(g->store->io, path, FILE_MAX_BYTES, text, len, &mine);
	if (rc && rc != -SOSIE_EINTERNAL && err)
		*err = mine;
	return rc == -SOSIE_ENOTFOUND ? 0 : rc;
}

/* Where the newest `keep` lines begin. */
static const char *newest_lines(const char *text, size_t len, unsigned keep)
{
	const char *at = text + len;
	unsigned lines = 0;
	while (at > text) {
		if (at[-1] == '\n' && lines++ == keep)
			break;
		at--;
	}
	return at;
}

int refusal_add(struct sosie_group *g, const struct sosie_upload_id *id, const struct sosie_err *why,
                struct sosie_err *err)
{
	char path[STORE_PATH], stamp[SOSIE_TIME_TEXT], hex[UPLOAD_HEX + 1], line[1100], *old, *all = NULL;
	size_t len;
	int rc = read_lines(g, path, &old, &len, err);
	if (rc)
		return rc;
	const char *kept = old ? newest_lines(old, len, STORE_REFUSALS_KEPT - 1) : "";
	sosie_time_text(stamp, sosie_wall_ms(g->store->clock));
	sosie_hex(hex, id->b, sizeof(id->b));
	sosie_err_line(why, line, sizeof(line));
	if (asprintf(&all, "%s%s %s %s %s\n", kept, stamp, hex, sosie_code_name(why->code), line) < 0)
		rc = sosie_err_set(err, SOSIE_ENOMEM, "no memory to note a refusal");
	else
		rc = layout_put(g->store->io, path, all, strlen(all), 0640, err);
	free(all);
	free(old);
	return rc;
}

int refusal_newest(struct sosie_group *g, char *text, size_t size, int64_t *time_ms, struct sosie_err *err)
{
	char path[STORE_PATH], stamp[SOSIE_TIME_TEXT], *lines;
	size_t len;
	*time_ms = 0;
	text[0] = '\0';
	int rc = read_lines(g, path, &lines, &len, err);
	if (rc || !lines)
		return rc;
	const char *line = newest_lines(lines, len, 1);
	const size_t fixed = SOSIE_TIME_TEXT - 1;
	if (strlen(line) > fixed + UPLOAD_HEX + 2) {
		memcpy(stamp, line, fixed);
		stamp[fixed] = '\0';
		const char *what = strchr(line + fixed + 1 + UPLOAD_HEX + 1, ' ');
		if (what && !sosie_time_parse(stamp, time_ms, NULL))
			sosie_escape(text, size, what + 1, strcspn(what + 1, "\n"));
	}
	free(lines);
	return 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * state/refusals: one line for each refused upload, newest last, at most STORE_REFUSALS_KEPT of them: "TIME
 * UPLOAD CODE TEXT".
 *
 * The audit log has them too, but the primary, who is not trusted, chooses how many there are: an entry tells
 * how many it stands for, and follows on the one before of the same group after ENTRY_MS, of the same tenant
 * after TENANT_MS. What is counted and not told yet is written by the keeper's idle work, or when the store
 * is closed; a crash loses that count, not the lines.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/store/audit.h"

#define ENTRY_MS 10000
#define TENANT_MS 1000
#define CLOSE_WAIT_MS 2000
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

static int add_line(struct sosie_group *g, const struct sosie_upload_id *id, const struct sosie_err *why,
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

/* --- the audit log
 * ---------------------------------------------------------------------------------------------- */

static struct sosie_json *entry_body(const struct store_memo *memo)
{
	const struct refused_memo *r = &memo->refused;
	struct sosie_json *j = sosie_json_new();
	sosie_json_set_str(j, "group", memo->group.s);
	sosie_json_set_u64(j, "count", r->count);
	sosie_json_set_time(j, "first", r->first_ms);
	sosie_json_set_time(j, "last", r->last_ms);
	sosie_json_set_str(j, "upload", r->upload);
	sosie_json_set_str(j, "key", r->key);
	sosie_json_set_str(j, "code", sosie_code_name(r->code));
	sosie_json_set_str(j, "what", r->what);
	return j;
}

static bool long_ago(int64_t now_ms, int64_t then_ms, int64_t pause_ms)
{
	return then_ms == 0 || now_ms - then_ms >= pause_ms;
}

void refusal_audit(struct sosie_store *store, struct store_memo *memo, bool now)
{
	struct refused_memo *r = &memo->refused;
	int64_t mono = sosie_mono_ms(store->clock);
	struct audit_log *log;
	mono = mono ? mono : 1;
	if (r->count == 0 || audit_log_get(store, memo->tenant.s, &log, NULL))
		return;
	if (!now && !(long_ago(mono, r->written_ms, ENTRY_MS) && long_ago(mono, log->refused_ms, TENANT_MS)))
		return;
	r->written_ms = log->refused_ms = mono;
	if (!audit_append(store, log, SOSIE_AUDIT_REFUSE, entry_body(memo), now ? CLOSE_WAIT_MS : 0, NULL,
	                  NULL))
		r->count = 0;
}

int refusal_add(struct sosie_group *g, const struct upload *u, const struct sosie_err *why,
                struct sosie_err *err)
{
	struct store_memo *memo;
	int rc = add_line(g, &u->id, why, err);
	if (memo_get(g->store, g->tenant.s, g->name.s, &memo, NULL))
		return rc;
	struct refused_memo *r = &memo->refused;
	r->last_ms = sosie_wall_ms(g->store->clock);
	if (r->count++ == 0)
		r->first_ms = r->last_ms;
	sosie_hex(r->upload, u->id.b, sizeof(u->id.b));
	memcpy(r->key, u->key, sizeof(r->key));
	r->code = why->code;
	snprintf(r->what, sizeof(r->what), "%s", why->what);
	refusal_audit(g->store, memo, false);
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

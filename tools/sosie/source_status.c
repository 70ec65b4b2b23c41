/* SPDX-License-Identifier: MIT */
/*
 * status --config, --state: asks the daemon of that file or folder over its socket and shows what it says, as
 * it is or as a table of 80 columns. Without a daemon: what the state folders of the file's groups know of
 * the accepted points.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "sosie/config.h"
#include "tools/common/stop.h"
#include "tools/sosie/command.h"

#define ANSWER_MAX (64u << 20)
#define ANSWER_S 10

/* --- the socket
 * ---------------------------------------------------------------------------------------------------- */

static int silent(struct sosie_err *err)
{
	sosie_err_set(err, SOSIE_ETIMEOUT, "sosied does not answer within %d s", ANSWER_S);
	return sosie_err_action(err, "look at what it does: journalctl -u sosied");
}

static int closed(struct sosie_err *err)
{
	sosie_err_set(err, SOSIE_EPEER, "sosied closed the connection");
	return sosie_err_action(err, "ask again; if it ended, journalctl -u sosied says why");
}

static int no_dial(int sys, const char *path, bool *absent, struct sosie_err *err)
{
	*absent = sys == ENOENT || sys == ECONNREFUSED;
	if (sys == EAGAIN)
		return silent(err);
	if (*absent)
		sosie_err_set(err, SOSIE_EPEER, "sosied is not running: nobody answers at its socket");
	else
		sosie_err_sys(err, sys, "sosied cannot be asked");
	sosie_err_where(err, "%s", path);
	if (*absent)
		return sosie_err_action(err, "start it: systemctl start sosied, or sosied --config FILE");
	if (sys == EACCES || sys == EPERM)
		return sosie_err_action(err, "ask as root or as the user of sosied");
	return -(int)err->code;
}

/* The descriptor. *absent: surely nobody is there. */
static int dial(const char *state, bool *absent, struct sosie_err *err)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	const struct timeval limit = {.tv_sec = ANSWER_S};
	int n = snprintf(to.sun_path, sizeof(to.sun_path), "%s/control.sock", state), fd;

	*absent = false;
	if (n < 0 || (size_t)n >= sizeof(to.sun_path))
		return sosie_err_set(err, SOSIE_ECONFIG,
		                     "the path of the state folder is too long for a socket");
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return sosie_err_sys(err, errno, "no socket");
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	if (connect(fd, (const struct sockaddr *)(const void *)&to, sizeof(to)) != 0) {
		int sys = errno;

		close(fd);
		return no_dial(sys, to.sun_path, absent, err);
	}
	return fd;
}

static int broken(int sys, struct sosie_err *err)
{
	if (sys == EAGAIN)
		return silent(err);
	if (sys == EINTR)
		return sosie_err_set(err, SOSIE_EINTR, "interrupted");
	if (sys == EPIPE || sys == ECONNRESET)
		return closed(err);
	return sosie_err_sys(err, sys, "sosied cannot be asked");
}

static int receive(int fd, char **text, size_t *len, struct sosie_err *err)
{
	size_t size = 0;

	*text = NULL;
	*len = 0;
	for (;;) {
		ssize_t n;

		if (size - *len < 65536) {
			char *bigger = size < ANSWER_MAX ? realloc(*text, size + (1u << 20)) : NULL;

			if (!bigger)
				return sosie_err_set(err, SOSIE_ENOMEM, "the daemon's answer is too long");
			*text = bigger;
			size += 1u << 20;
		}
		n = recv(fd, *text + *len, size - *len - 1, 0);
		if (n < 0 && errno == EINTR && !stop_wanted())
			continue;
		if (n < 0)
			return broken(errno, err);
		*len += (size_t)n;
		(*text)[*len] = '\0';
		if (n == 0)
			return *len > 0 ? 0 : closed(err);
	}
}

/* Null or missing members are none. */
static const char *word(const struct sosie_json *o, const char *key, const char *none)
{
	const char *text;

	return sosie_json_str(o, key, 4096, &text, NULL) == 0 ? text : none;
}

/* The daemon may answer with an error. */
static int take_error(const struct sosie_json *doc, struct sosie_err *err)
{
	struct sosie_json *e;
	int code;

	if (!sosie_json_has(doc, "error") || sosie_json_obj(doc, "error", &e, NULL) != 0)
		return 0;
	code = sosie_code_from_name(word(e, "code", ""));
	sosie_err_set(err, code > 0 ? (enum sosie_code)code : SOSIE_EPROTO, "sosied cannot tell: %s",
	              word(e, "what", "no reason given"));
	sosie_err_where(err, "%s", word(e, "where", ""));
	return sosie_err_action(err, "%s", word(e, "action", ""));
}

static int ask(const char *state, struct sosie_json **doc, char **text, bool *absent, struct sosie_err *err)
{
	static const char question[] = "status\n";
	size_t len = 0;
	int fd = dial(state, absent, err), rc = 0;

	*doc = NULL;
	*text = NULL;
	if (fd < 0)
		return fd;
	if (send(fd, question, sizeof(question) - 1, MSG_NOSIGNAL) != (ssize_t)sizeof(question) - 1)
		rc = broken(errno, err);
	if (rc == 0)
		rc = receive(fd, text, &len, err);
	close(fd);
	if (rc == 0 && sosie_json_parse(*text, len, ANSWER_MAX, doc, err) != 0)
		rc = sosie_err_wrap(err, "sosied's answer");
	return rc == 0 ? take_error(*doc, err) : rc;
}

/* --- the table
 * ----------------------------------------------------------------------------------------------------- */

static int64_t number(const struct sosie_json *o, const char *key)
{
	int64_t n;

	return sosie_json_i64(o, key, &n, NULL) == 0 ? n : -1;
}

static bool flag(const struct sosie_json *o, const char *key)
{
	bool b;

	return sosie_json_bool(o, key, &b, NULL) == 0 && b;
}

/* "0.4 s", "12 s", "3 m", "2 h", "5 d": short enough for a column. */
static const char *brief(char dst[16], int64_t ms)
{
	if (ms < 0)
		return "-";
	if (ms < 10000)
		snprintf(dst, 16, "%lld.%lld s", (long long)ms / 1000, (long long)ms % 1000 / 100);
	else if (ms < 600000)
		snprintf(dst, 16, "%lld s", (long long)ms / 1000);
	else if (ms < 36000000)
		snprintf(dst, 16, "%lld m", (long long)ms / 60000);
	else if (ms < 864000000)
		snprintf(dst, 16, "%lld h", (long long)ms / 3600000);
	else
		snprintf(dst, 16, "%lld d", (long long)ms / 86400000);
	return dst;
}

static const char *size_or_none(char dst[32], int64_t bytes)
{
	return bytes < 0 ? "-" : sosie_size_text(dst, 32, (uint64_t)bytes);
}

static bool needs_person(const struct sosie_json *g)
{
	const char *state = word(g, "state", "");

	return strcmp(state, "needs you") == 0 || strcmp(state, "fenced") == 0 ||
	       strcmp(state, "stopped") == 0;
}

#define DETAIL 76 /* columns, behind four blanks */

/* Broken between words. */
static void show_text(const char *text)
{
	size_t len;

	for (; *text; text += len + strspn(text + len, " ")) {
		len = strlen(text);
		if (len > DETAIL)
			for (len = DETAIL; len > 0 && text[len] != ' '; len--)
				;
		if (len == 0) /* one word that is longer */
			len = strcspn(text, " ");
		printf("    %.*s\n", (int)len, text);
	}
}

static void show_error(const struct sosie_json *o)
{
	struct sosie_json *e;
	const char *where;

	if (sosie_json_is_null(o, "error") || sosie_json_obj(o, "error", &e, NULL) != 0)
		return;
	where = word(e, "where", "");
	printf("    %s: %s%s%s%s\n", word(e, "code", "error"), word(e, "what", ""), where[0] ? " (" : "",
	       where, where[0] ? ")" : "");
	if (word(e, "action", "")[0])
		printf("    to do: %s\n", word(e, "action", ""));
}

static void show_detail(const struct sosie_json *g)
{
	char catch_up[16], predicted[16], measured[16], views[32];
	int64_t p = number(g, "stall_predicted_us"), m = number(g, "stall_measured_us");

	printf("    last change %.19s, catch-up %s, views %s\n", word(g, "last_change", "-"),
	       brief(catch_up, number(g, "catch_up_ms")), size_or_none(views, number(g, "view_bytes")));
	if (strcmp(word(g, "consistency", ""), "fuzzy") == 0)
		printf("    the newest point is fuzzy: its volumes, or blocks, are of different instants\n");
	if (m >= 0 || p >= 0) {
		snprintf(predicted, sizeof(predicted), p < 0 ? "-" : "%.1f ms", (double)p / 1000);
		snprintf(measured, sizeof(measured), m < 0 ? "-" : "%.1f ms", (double)m / 1000);
		printf("    stall predicted %s, measured %s", predicted, measured);
		if (number(g, "extents") >= 0)
			printf(", %lld extents", (long long)number(g, "extents"));
		printf("\n");
	}
	show_text(word(g, "driver_reason", ""));
	if (word(g, "untracked", NULL))
		printf("    all counts as changed: %s\n", word(g, "untracked", ""));
	show_error(g);
}

static void show_group(const struct sosie_json *g)
{
	char now[16], worst[16], backlog[32], point[24] = "-";

	if (number(g, "point") >= 0)
		snprintf(point, sizeof(point), "%lld", (long long)number(g, "point"));
	printf("%-22.22s %-12.12s %7s %8s%s %7s %10s %s\n", word(g, "group", "?"), word(g, "state", "?"),
	       point, brief(now, number(g, "rpo_ms")), flag(g, "late") ? "!" : " ",
	       brief(worst, number(g, "rpo_worst_hour_ms")),
	       size_or_none(backlog, number(g, "backlog_bytes")), word(g, "driver", "-"));
	show_detail(g);
}

/* Those that are not reached; the others need no line. */
static void show_standbys(const struct sosie_json *doc)
{
	struct sosie_json *list, *s;
	size_t count;
	char retry[16];

	if (sosie_json_arr(doc, "standbys", 100000, &list, &count, NULL) != 0)
		return;
	for (size_t i = 0; i < count; i++) {
		if (sosie_json_at(list, i, &s, NULL) != 0 || strcmp(word(s, "state", ""), "lost") != 0)
			continue;
		printf("\nstandby %s (%s): lost", word(s, "standby", "?"), word(s, "to", "?"));
		if (number(s, "retry_ms") > 0)
			printf(", tried again in %s\n", brief(retry, number(s, "retry_ms")));
		else
			printf(", tried again now\n");
		show_error(s);
	}
}

static void show_alarms(const struct sosie_json *doc)
{
	struct sosie_json *list, *a;
	size_t count;

	if (sosie_json_arr(doc, "alarms", 100000, &list, &count, NULL) != 0 || count == 0)
		return;
	printf("\nalarms\n");
	for (size_t i = 0; i < count; i++)
		if (sosie_json_at(list, i, &a, NULL) == 0)
			printf("  %.19s %s %s\n    %s\n", word(a, "since", "?"), word(a, "kind", "?"),
			       word(a, "about", "?"), word(a, "text", ""));
}

/* 0, or COMMAND_FOUND when something is late or waits for a person. */
static int show(const struct sosie_json *doc, bool print, struct sosie_err *err)
{
	struct sosie_json *list, *g;
	size_t count;
	int found = 0;

	if (sosie_json_arr(doc, "groups", 100000, &list, &count, err) != 0)
		return sosie_err_wrap(err, "sosied's answer");
	if (print)
		printf("%-22s %-12s %7s %8s  %7s %10s %s\n", "group", "state", "point", "RPO now", "worst",
		       "backlog", "driver");
	for (size_t i = 0; i < count; i++) {
		if (sosie_json_at(list, i, &g, err) != 0)
			return sosie_err_wrap(err, "sosied's answer");
		if (flag(g, "late") || needs_person(g))
			found = COMMAND_FOUND;
		if (print)
			show_group(g);
	}
	if (print)
		show_standbys(doc);
	if (print)
		show_alarms(doc);
	return found;
}

/* --- without a daemon
 * ---------------------------------------------------------------------------------------------- */

static char *read_small(const char *path, size_t *len)
{
	FILE *f = fopen(path, "re");
	char *text = f ? malloc(8u << 20) : NULL;

	*len = text ? fread(text, 1, 8u << 20, f) : 0;
	if (f)
		fclose(f);
	return text;
}

static void show_recorded(const struct sosie_config_group *g)
{
	char path[4200];
	struct sosie_json *doc = NULL, *accepted;
	size_t len;
	char *text;
	int64_t point = -1;

	snprintf(path, sizeof(path), "%.4095s/state.json", g->state);
	text = read_small(path, &len);
	if (text && sosie_json_parse(text, len, 8u << 20, &doc, NULL) == 0 &&
	    sosie_json_obj(doc, "accepted", &accepted, NULL) == 0)
		point = number(accepted, "point");
	if (point > 0)
		printf("  %s/%s: point %lld was accepted last\n", g->tenant.s, g->group.s, (long long)point);
	else
		printf("  %s/%s: no point is recorded\n", g->tenant.s, g->group.s);
	sosie_json_free(doc);
	free(text);
}

static void show_not_running(const struct sosie_config *config)
{
	printf("sosied is not running. What the state folders know:\n");
	for (unsigned i = 0; i < config->group_count; i++)
		show_recorded(&config->groups[i]);
	fflush(stdout);
}

/* --- the verb
 * ------------------------------------------------------------------------------------------------------ */

/* config: NULL, when only the folder is known. */
static int look(struct command *c, const char *state, const struct sosie_config *config,
                struct sosie_err *err)
{
	struct sosie_json *doc = NULL;
	char *text = NULL;
	bool absent;
	int rc = ask(state, &doc, &text, &absent, err);

	if (rc == 0)
		rc = show(doc, !c->json, err);
	if (rc >= 0 && c->json) {
		sosie_json_free(c->doc); /* the daemon's document is printed as it is */
		c->doc = NULL;
		c->printed = true;
		puts(text);
	}
	if (absent && config && !c->json)
		show_not_running(config);
	sosie_json_free(doc);
	free(text);
	fflush(stdout);
	return rc;
}

/* What passes is shown, and asked again. */
static int watch(struct command *c, const char *state, const struct sosie_config *config,
                 struct sosie_err *err)
{
	bool terminal = isatty(STDOUT_FILENO) != 0;
	char line[1100];
	int rc = 0;

	while (!stop_wanted()) {
		if (terminal)
			printf("\033[H\033[2J");
		rc = look(c, state, config, err);
		if (rc < 0 && sosie_code_class((enum sosie_code) - rc) != SOSIE_CLASS_RETRY)
			return rc;
		if (rc < 0 && !stop_wanted())
			printf("%s\n", sosie_err_line(err, line, sizeof(line)));
		fflush(stdout);
		sosie_sleep_ms(c->clock, 1000);
	}
	return rc > 0 ? rc : 0;
}

/* The daemon goes on with the file that it could read last. */
static int bad_file(struct sosie_err *err)
{
	char action[sizeof(err->action)];

	memcpy(action, err->action, sizeof(action));
	return sosie_err_action(err, "%.190s%ssosie status --state DIR asks a sosied that runs", action,
	                        action[0] ? "; " : "");
}

static int check_state(const char *state, struct sosie_err *err)
{
	struct stat st;

	if (stat(state, &st) == 0 && S_ISDIR(st.st_mode))
		return 0;
	sosie_err_set(err, SOSIE_ENOTFOUND, "there is no such state folder");
	sosie_err_where(err, "%.250s", state);
	return sosie_err_action(err, "name the folder that the file of sosied has as \"state\"");
}

int status_of_source(struct command *c, const char *file, const char *state, struct sosie_err *err)
{
	struct sosie_config *config = NULL;
	int rc;

	if (c->options.operand_count > 0)
		return options_usage(&c->options, err, "%s is about all groups of the source: none is named",
		                     file ? "--config" : "--state");
	if (file && sosie_config_load(file, &config, err) != 0)
		return bad_file(err);
	if (!file && check_state(state, err) != 0)
		return -(int)err->code;
	if (file)
		state = config->state;
	rc = options_has(&c->options, "watch") ? watch(c, state, config, err) : look(c, state, config, err);
	sosie_config_free(config);
	return rc;
}

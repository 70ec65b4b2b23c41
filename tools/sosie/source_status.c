/* SPDX-License-Identifier: MIT */
/*
 * status --config: asks the daemon of that file over its socket and shows what it says, as it is or as a
 * table of 80 columns. Without a daemon: what the state folders know of the accepted points.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
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

static int dial(const char *state, struct sosie_err *err)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	const struct timeval limit = {.tv_sec = ANSWER_S};
	int n = snprintf(to.sun_path, sizeof(to.sun_path), "%s/control.sock", state), fd;

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
		if (sys == ENOENT || sys == ECONNREFUSED)
			sosie_err_set(err, SOSIE_EPEER,
			              "sosied is not running: nobody answers at its socket");
		else
			sosie_err_sys(err, sys, "sosied cannot be asked");
		sosie_err_where(err, "%s/control.sock", state);
		return sosie_err_action(err, "start it: systemctl start sosied, or sosied --config FILE");
	}
	return fd;
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
			return sosie_err_set(err, SOSIE_ETIMEOUT, "sosied does not answer within %d s",
			                     ANSWER_S);
		*len += (size_t)n;
		(*text)[*len] = '\0';
		if (n == 0)
			return *len > 0 ? 0 : sosie_err_set(err, SOSIE_EPEER, "sosied closed the connection");
	}
}

static int ask(const char *state, struct sosie_json **doc, char **text, struct sosie_err *err)
{
	static const char question[] = "status\n";
	size_t len = 0;
	int fd = dial(state, err), rc = 0;

	*doc = NULL;
	*text = NULL;
	if (fd < 0)
		return fd;
	if (send(fd, question, sizeof(question) - 1, MSG_NOSIGNAL) != (ssize_t)sizeof(question) - 1)
		rc = sosie_err_sys(err, errno, "sosied cannot be asked");
	if (rc == 0)
		rc = receive(fd, text, &len, err);
	close(fd);
	return rc == 0 ? sosie_json_parse(*text, len, ANSWER_MAX, doc, err) : rc;
}

/* --- the table
 * ----------------------------------------------------------------------------------------------------- */

/* Null or missing members are "-". */
static const char *word(const struct sosie_json *o, const char *key, const char *none)
{
	const char *text;

	return sosie_json_str(o, key, 4096, &text, NULL) == 0 ? text : none;
}

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

static void show_detail(const struct sosie_json *g)
{
	char catch_up[16], predicted[16], measured[16], views[32];
	int64_t p = number(g, "stall_predicted_us"), m = number(g, "stall_measured_us");
	struct sosie_json *e;

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
	if (word(g, "driver_reason", NULL))
		printf("    %.76s\n", word(g, "driver_reason", ""));
	if (!sosie_json_is_null(g, "error") && sosie_json_obj(g, "error", &e, NULL) == 0) {
		printf("    %s: %s\n", word(e, "code", "error"), word(e, "what", ""));
		if (word(e, "action", "")[0])
			printf("    to do: %s\n", word(e, "action", ""));
	}
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
	struct sosie_json *list, *s, *e;
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
		if (!sosie_json_is_null(s, "error") && sosie_json_obj(s, "error", &e, NULL) == 0)
			printf("    %s: %s\n", word(e, "code", "error"), word(e, "what", ""));
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

static int look(struct command *c, const struct sosie_config *config, struct sosie_err *err)
{
	struct sosie_json *doc = NULL;
	char *text = NULL;
	int rc = ask(config->state, &doc, &text, err);

	if (rc == 0)
		rc = show(doc, !c->json, err);
	if (rc >= 0 && c->json) {
		sosie_json_free(c->doc); /* the daemon's document is printed as it is */
		c->doc = NULL;
		c->printed = true;
		puts(text);
	}
	if (rc == -SOSIE_EPEER && !c->json)
		show_not_running(config);
	sosie_json_free(doc);
	free(text);
	fflush(stdout);
	return rc;
}

static int watch(struct command *c, const struct sosie_config *config, struct sosie_err *err)
{
	bool terminal = isatty(STDOUT_FILENO) != 0;
	int rc = 0;

	while (!stop_wanted()) {
		if (terminal)
			printf("\033[H\033[2J");
		rc = look(c, config, err);
		if (rc < 0 && rc != -SOSIE_EPEER)
			return rc;
		sosie_sleep_ms(c->clock, 1000);
	}
	return rc > 0 ? rc : 0;
}

int status_of_source(struct command *c, const char *file, struct sosie_err *err)
{
	struct sosie_config *config;
	int rc;

	if (c->options.operand_count > 0)
		return options_usage(&c->options, err,
		                     "--config is about all groups of the source: none is named");
	rc = sosie_config_load(file, &config, err);
	if (rc != 0)
		return rc;
	rc = options_has(&c->options, "watch") ? watch(c, config, err) : look(c, config, err);
	sosie_config_free(config);
	return rc;
}

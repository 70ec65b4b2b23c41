/* SPDX-License-Identifier: MIT */
/* Log lines: each is one write(2), so that lines of several threads and processes do not mix. */
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/text.h"
#include "sosie/log.h"

/* Written by sosie_log_init alone, which runs before threads do. */
static struct {
	const char *name;
	atomic_int level;
	bool journal; /* standard error is the journal's: lines begin with their priority, see sd-daemon(3) */
} state = {.name = "sosie", .level = SOSIE_LOG_INFO};

/* $JOURNAL_STREAM is "device:inode" of what systemd connected; a redirected standard error is another one. */
static bool stderr_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	char own[64];
	struct stat st;

	if (!stream || fstat(STDERR_FILENO, &st) != 0)
		return false;
	snprintf(own, sizeof(own), "%llu:%llu", (unsigned long long)st.st_dev, (unsigned long long)st.st_ino);
	return strcmp(stream, own) == 0;
}

static enum sosie_log_level level_from_environment(enum sosie_log_level level)
{
	static const struct {
		const char *word;
		enum sosie_log_level level;
	} words[] = {
	        {"error", SOSIE_LOG_ERROR}, {"warning", SOSIE_LOG_WARNING}, {"notice", SOSIE_LOG_NOTICE},
	        {"info", SOSIE_LOG_INFO},   {"debug", SOSIE_LOG_DEBUG},
	};
	const char *wanted = getenv("SOSIE_LOG");

	for (size_t i = 0; wanted && i < sizeof(words) / sizeof(words[0]); i++)
		if (strcmp(wanted, words[i].word) == 0)
			return words[i].level;
	return level;
}

void sosie_log_init(const char *name, enum sosie_log_level level)
{
	state.name = name;
	state.level = (int)level_from_environment(level);
	state.journal = stderr_is_journal();
}

static void write_all(const char *text, size_t len)
{
	while (len > 0) {
		ssize_t n = write(STDERR_FILENO, text, len);
		if (n <= 0)
			return; /* nobody is left to be told */
		text += n;
		len -= (size_t)n;
	}
}

static void emit(enum sosie_log_level level, const char *raw)
{
	char line[2048];
	int head = 0;
	size_t at;

	if (state.journal)
		head = snprintf(line, sizeof(line), "<%d>", (int)level);
	head += snprintf(line + head, 128, "%s: ", state.name);
	at = strlen(line);
	at += sosie_text_clean(line + at, sizeof(line) - 1 - at, raw);
	line[at++] = '\n';
	write_all(line, at);
}

void sosie_log(enum sosie_log_level level, const char *fmt, ...)
{
	char raw[1536];
	va_list ap;

	if ((int)level > state.level)
		return;
	va_start(ap, fmt);
	if (vsnprintf(raw, sizeof(raw), fmt, ap) < 0)
		raw[0] = '\0';
	va_end(ap);
	emit(level, raw);
}

void sosie_log_err(enum sosie_log_level level, const struct sosie_err *err)
{
	char line[sizeof(err->what) + sizeof(err->where) + sizeof(err->action) + 8];

	sosie_log(level, "%s", sosie_err_line(err, line, sizeof(line)));
}

/* SPDX-License-Identifier: MIT */
/*
 * Single values: their ranges, their defaults, and the words about a wrong one. The same for the file and for
 * the command line, so that neither takes what the other refuses.
 */
#include "engine/config/values.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VIEW_BYTES_LEAST (1u << 20) /* "10" was meant to be 10%, not 10 bytes */

#define MS_S 1000ull
#define MS_M (60 * MS_S)
#define MS_H (60 * MS_M)
#define MS_D (24 * MS_H)
#define RATE_MIN 4096
#define STREAMS_MAX 16
#define STREAMS 2 /* measured on 2 cores: a fifth to a third less time than 1, for 5 % more CPU */

struct shown config_show(const char *text)
{
	struct shown out;
	size_t len = strlen(text);

	sosie_escape(out.s, sizeof(out.s) - 4, text, len < 72 ? len : 72);
	if (len > 72)
		strcat(out.s, "...");
	return out;
}

/* --- times -----------------------------------------------------------------------------------------------
 */

struct range {
	uint64_t standard, min, max;
	const char *allowed;
};
static const struct range ranges[] = {
        [SOSIE_TIME_INTERVAL] = {MS_S, 100, MS_D, "100ms to 1d"},
        [SOSIE_TIME_MAX_STALL] = {100, 0, MS_H, "1ms to 1h, or 0 for no limit"},
        [SOSIE_TIME_RPO] = {0, 0, 30 * MS_D, "a time from the interval on to 30d, or 0 for none"},
        [SOSIE_TIME_ACCEPT_WAIT] = {30 * MS_S, MS_S, MS_D, "1s to 1d"},
        [SOSIE_TIME_FREEZE_LIMIT] = {0, 100, MS_H, "100ms to 1h"}, /* 0: the driver's own */
        [SOSIE_TIME_HOOK_LIMIT] = {60 * MS_S, 100, MS_H, "100ms to 1h"},
        [SOSIE_TIME_ALARM_REPEAT] = {5 * MS_M, MS_S, 7 * MS_D, "1s to 7d"},
};

int sosie_config_time(enum sosie_config_time which, const char *text, uint64_t *ms, struct sosie_err *err)
{
	const struct range *r = &ranges[which];

	*ms = r->standard;
	if (!text)
		return 0;
	if (sosie_duration_parse(text, ms, NULL) != 0)
		return sosie_err_set(err, SOSIE_ECONFIG, "\"%s\" is no time: write %s", config_show(text).s,
		                     r->allowed);
	if (*ms < r->min || *ms > r->max)
		return sosie_err_set(err, SOSIE_ECONFIG, "%s is out of range: write %s", config_show(text).s,
		                     r->allowed);
	return 0;
}

int sosie_config_objective(const char *rpo_text, uint64_t rpo_ms, uint64_t interval_ms, struct sosie_err *err)
{
	if (rpo_ms == 0 || rpo_ms >= interval_ms)
		return 0;
	return sosie_err_set(err, SOSIE_ECONFIG,
	                     "%s is shorter than the interval, so it would never be met: write a longer one",
	                     config_show(rpo_text).s);
}

/* --- numbers ---------------------------------------------------------------------------------------------
 */

bool config_whole(const char *text, long min, long max, long *out)
{
	char *end;
	bool digit = text[0] >= '0' && text[0] <= '9';

	if (!digit && !(text[0] == '-' && text[1] >= '0' && text[1] <= '9'))
		return false;
	*out = strtol(text, &end, 10); /* what does not fit becomes LONG_MIN or LONG_MAX: out of range too */
	return !*end && *out >= min && *out <= max;
}

int config_count(const char *text, long max, unsigned *out, struct sosie_err *err)
{
	long value;

	if (!text)
		return 0;
	if (!config_whole(text, 1, max, &value))
		return sosie_err_set(err, SOSIE_ECONFIG, "\"%s\": write a whole number from 1 to %ld",
		                     config_show(text).s, max);
	*out = (unsigned)value;
	return 0;
}

int sosie_config_streams(const char *text, unsigned *streams, struct sosie_err *err)
{
	*streams = STREAMS;
	return config_count(text, STREAMS_MAX, streams, err);
}

int sosie_config_level(const char *text, int *level, struct sosie_err *err)
{
	long value;

	*level = 0;
	if (!text || strcmp(text, "auto") == 0)
		return 0;
	if (!config_whole(text, -7, 19, &value) || value == 0)
		return sosie_err_set(err, SOSIE_ECONFIG,
		                     "\"%s\": write auto, or a whole number from -7 to 19 other than 0",
		                     config_show(text).s);
	*level = (int)value;
	return 0;
}

int sosie_config_rate(const char *text, uint64_t *bytes_per_second, struct sosie_err *err)
{
	*bytes_per_second = 0;
	if (!text)
		return 0;
	if (sosie_size_parse(text, bytes_per_second, NULL) != 0)
		return sosie_err_set(err, SOSIE_ECONFIG,
		                     "\"%s\" is no size: write bytes a second, or with K, M, G or T: 200M",
		                     config_show(text).s);
	if (*bytes_per_second < RATE_MIN)
		return sosie_err_set(
		        err, SOSIE_ECONFIG,
		        "%s a second is too little: write 4K or more, or leave it out for no limit",
		        config_show(text).s);
	return 0;
}

bool sosie_config_view_space(const char *text, unsigned *percent, uint64_t *bytes)
{
	size_t len = strlen(text);
	char digits[4] = "";
	long whole;

	*percent = 0;
	*bytes = 0;
	if (len == 0 || text[len - 1] != '%')
		return sosie_size_parse(text, bytes, NULL) == 0 && *bytes >= VIEW_BYTES_LEAST;
	if (len <= sizeof(digits))
		memcpy(digits, text, len - 1);
	if (!config_whole(digits, 1, 90, &whole))
		return false;
	*percent = (unsigned)whole;
	return true;
}

/* --- choices ---------------------------------------------------------------------------------------------
 */

/* words: in the order of the enum, which begins with 0. */
static int choose(const char *text, const char *const *words, unsigned count, const char *allowed,
                  unsigned *out, struct sosie_err *err)
{
	*out = 0;
	if (!text)
		return 0;
	for (unsigned i = 0; i < count; i++)
		if (strcmp(text, words[i]) == 0) {
			*out = i;
			return 0;
		}
	return sosie_err_set(err, SOSIE_ECONFIG, "\"%s\": write %s", config_show(text).s, allowed);
}

int sosie_config_source(const char *text, enum sosie_source_kind *kind, struct sosie_err *err)
{
	static const char *const words[] = {[SOSIE_SOURCE_AUTO] = "auto",
	                                    [SOSIE_SOURCE_SCAN] = "scan",
	                                    [SOSIE_SOURCE_REFLINK] = "reflink",
	                                    [SOSIE_SOURCE_BTRFS] = "btrfs"};
	unsigned choice;
	int rc = choose(text, words, 4, "scan, reflink, btrfs or auto", &choice, err);

	*kind = (enum sosie_source_kind)choice;
	return rc;
}

int sosie_config_long_cut(const char *text, enum sosie_long_cut *out, struct sosie_err *err)
{
	static const char *const words[] = {[SOSIE_LONG_CUT_CUT] = "cut", [SOSIE_LONG_CUT_STOP] = "stop"};
	unsigned choice;
	int rc = choose(text, words, 2, "cut or stop", &choice, err);

	*out = (enum sosie_long_cut)choice;
	return rc;
}

/* SPDX-License-Identifier: MIT */
/* Sizes and durations as people write and read them. */
#include <stdio.h>
#include <string.h>

#include "sosie/bytes.h"
#include "sosie/names.h"

struct unit {
	const char *suffix;
	uint64_t factor;
};

static const struct unit size_units[] = {
        {"", 1}, {"K", 1ull << 10}, {"M", 1ull << 20}, {"G", 1ull << 30}, {"T", 1ull << 40},
};

static const struct unit duration_units[] = {
        {"", 1000}, {"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000},
};

/* Digits, then exactly one of the suffixes. */
static bool parse_with_unit(const char *text, const struct unit *units, size_t count, uint64_t *out)
{
	const char *at = text;
	uint64_t value = 0;

	for (; *at >= '0' && *at <= '9'; at++)
		if (!sosie_mul_u64(value, 10, &value) || !sosie_add_u64(value, (uint64_t)(*at - '0'), &value))
			return false;
	if (at == text)
		return false;
	for (size_t i = 0; i < count; i++)
		if (strcmp(at, units[i].suffix) == 0)
			return sosie_mul_u64(value, units[i].factor, out);
	return false;
}

int sosie_size_parse(const char *text, uint64_t *bytes, struct sosie_err *err)
{
	char shown[128];

	if (parse_with_unit(text, size_units, sizeof(size_units) / sizeof(size_units[0]), bytes))
		return 0;
	return sosie_err_set(err, SOSIE_EUSAGE,
	                     "\"%s\" is no size: write a whole number of bytes, or one with K, M, G or T",
	                     sosie_escape(shown, sizeof(shown), text, strlen(text)));
}

int sosie_duration_parse(const char *text, uint64_t *ms, struct sosie_err *err)
{
	char shown[128];

	if (parse_with_unit(text, duration_units, sizeof(duration_units) / sizeof(duration_units[0]), ms))
		return 0;
	return sosie_err_set(
	        err, SOSIE_EUSAGE,
	        "\"%s\" is no duration: write a whole number of seconds, or one with ms, s, m, h or d",
	        sosie_escape(shown, sizeof(shown), text, strlen(text)));
}

const char *sosie_size_text(char *dst, size_t size, uint64_t bytes)
{
	static const char *const names[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	unsigned unit = 0;
	uint64_t tenths;

	while (unit < 6 && bytes >> (10 * (unit + 1)))
		unit++;
	/* Whole units and tenths apart, so that nothing overflows; rounded to the nearest tenth. */
	const uint64_t one = 1ull << (10 * unit);
	tenths = bytes / one * 10 + (bytes % one * 10 + one / 2) / one;
	if (tenths >= 10240 && unit < 6) {
		tenths = 10;
		unit++;
	}
	if (tenths >= 1000 || tenths % 10 == 0)
		snprintf(dst, size, "%llu %s", (unsigned long long)((tenths + 5) / 10), names[unit]);
	else
		snprintf(dst, size, "%llu.%llu %s", (unsigned long long)(tenths / 10),
		         (unsigned long long)(tenths % 10), names[unit]);
	return dst;
}

/* "3 d 4 h", without the second part when it is 0. */
static void two_parts(char *dst, size_t size, uint64_t major, const char *major_unit, uint64_t minor,
                      const char *minor_unit)
{
	if (minor)
		snprintf(dst, size, "%llu %s %llu %s", (unsigned long long)major, major_unit,
		         (unsigned long long)minor, minor_unit);
	else
		snprintf(dst, size, "%llu %s", (unsigned long long)major, major_unit);
}

const char *sosie_duration_text(char *dst, size_t size, uint64_t ms)
{
	const uint64_t s = ms / 1000, tenth = ms % 1000 / 100;

	if (ms < 100 && ms > 0)
		snprintf(dst, size, "%llu ms", (unsigned long long)ms);
	else if (s < 60 && tenth)
		snprintf(dst, size, "%llu.%llu s", (unsigned long long)s, (unsigned long long)tenth);
	else if (s < 60)
		snprintf(dst, size, "%llu s", (unsigned long long)s);
	else if (s < 3600)
		two_parts(dst, size, s / 60, "m", s % 60, "s");
	else if (s < 86400)
		two_parts(dst, size, s / 3600, "h", s % 3600 / 60, "m");
	else
		two_parts(dst, size, s / 86400, "d", s % 86400 / 3600, "h");
	return dst;
}

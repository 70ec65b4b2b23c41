/* SPDX-License-Identifier: MIT */
/* The machine's clock, a virtual one, and times as text (proleptic Gregorian calendar, years 0000 to 9999).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "sosie/clock.h"

#define MS_PER_DAY 86400000
#define FIRST_MS (-62167219200000) /* 0000-01-01T00:00:00.000Z */
#define LAST_MS 253402300799999    /* 9999-12-31T23:59:59.999Z */

int64_t sosie_clock_ns(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static int64_t real_wall_ms(struct sosie_clock *clock)
{
	(void)clock;
	return sosie_clock_ns(CLOCK_REALTIME) / 1000000;
}

static int64_t real_mono_ms(struct sosie_clock *clock)
{
	(void)clock;
	return sosie_clock_ns(CLOCK_MONOTONIC) / 1000000;
}

static void real_sleep_ms(struct sosie_clock *clock, int64_t ms)
{
	struct timespec ts = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};

	(void)clock;
	if (ms > 0)
		(void)clock_nanosleep(CLOCK_MONOTONIC, 0, &ts, NULL);
}

static int real_random(struct sosie_clock *clock, void *dst, size_t len, struct sosie_err *err)
{
	uint8_t *at = dst;

	(void)clock;
	while (len > 0) {
		ssize_t n = getrandom(at, len, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return sosie_err_sys(err, errno, "cannot get random numbers from the system");
		at += n;
		len -= (size_t)n;
	}
	return 0;
}

static int64_t real_boot_ms(struct sosie_clock *clock)
{
	(void)clock;
	return sosie_clock_ns(CLOCK_BOOTTIME) / 1000000;
}

static void real_boot_id(struct sosie_clock *clock, char dst[SOSIE_BOOT_ID])
{
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, dst, SOSIE_BOOT_ID - 1) : 0;

	(void)clock;
	dst[n > 0 ? n : 0] = '\0';
	dst[strcspn(dst, "\n")] = '\0';
	if (fd >= 0)
		close(fd);
}

static const struct sosie_clock_ops real_ops = {
        .wall_ms = real_wall_ms,
        .mono_ms = real_mono_ms,
        .sleep_ms = real_sleep_ms,
        .random = real_random,
        .boot_ms = real_boot_ms,
        .boot_id = real_boot_id,
};

struct sosie_clock *sosie_clock_real(void)
{
	static struct sosie_clock real = {.ops = &real_ops};

	return &real;
}

static struct sosie_clock_virtual *as_virtual(struct sosie_clock *clock)
{
	return (struct sosie_clock_virtual *)clock; /* clock is its first member */
}

static int64_t virtual_now(struct sosie_clock *clock)
{
	return as_virtual(clock)->now_ms;
}

static int64_t virtual_wall(struct sosie_clock *clock)
{
	return as_virtual(clock)->now_ms + as_virtual(clock)->wall_skew_ms;
}

static int64_t virtual_boot(struct sosie_clock *clock)
{
	return as_virtual(clock)->now_ms - as_virtual(clock)->boot_at_ms;
}

static void virtual_boot_id(struct sosie_clock *clock, char dst[SOSIE_BOOT_ID])
{
	snprintf(dst, SOSIE_BOOT_ID, "virtual-%u", as_virtual(clock)->boots);
}

static void virtual_sleep(struct sosie_clock *clock, int64_t ms)
{
	if (ms > 0)
		as_virtual(clock)->now_ms += ms;
}

/* splitmix64 (Steele, Lea, Flood 2014): any seed will do, and the state is one word. */
static uint64_t next_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static int virtual_random(struct sosie_clock *clock, void *dst, size_t len, struct sosie_err *err)
{
	uint8_t *d = dst;

	(void)err;
	for (size_t i = 0; i < len; i++)
		d[i] = (uint8_t)next_random(&as_virtual(clock)->state);
	return 0;
}

static const struct sosie_clock_ops virtual_ops = {
        .wall_ms = virtual_wall,
        .mono_ms = virtual_now,
        .sleep_ms = virtual_sleep,
        .random = virtual_random,
        .boot_ms = virtual_boot,
        .boot_id = virtual_boot_id,
};

void sosie_clock_virtual_init(struct sosie_clock_virtual *c, int64_t start_ms, uint64_t seed)
{
	c->clock.ops = &virtual_ops;
	c->now_ms = start_ms;
	c->wall_skew_ms = 0;
	c->boot_at_ms = start_ms;
	c->boots = 0;
	c->state = seed;
}

int64_t sosie_wall_ms(struct sosie_clock *c)
{
	return c->ops->wall_ms(c);
}

int64_t sosie_mono_ms(struct sosie_clock *c)
{
	return c->ops->mono_ms(c);
}

int64_t sosie_boot_ms(struct sosie_clock *c)
{
	return c->ops->boot_ms(c);
}

void sosie_boot_id(struct sosie_clock *c, char dst[SOSIE_BOOT_ID])
{
	c->ops->boot_id(c, dst);
}

void sosie_sleep_ms(struct sosie_clock *c, int64_t ms)
{
	c->ops->sleep_ms(c, ms);
}

int sosie_random(struct sosie_clock *c, void *dst, size_t len, struct sosie_err *err)
{
	return c->ops->random(c, dst, len, err);
}

struct date {
	int64_t year;
	unsigned month, day; /* from 1 */
};

/* Days since 1970-01-01 to a date and back; years start in March so that the leap day is the last one.
 * (Hinnant, "chrono-compatible low-level date algorithms".) */
static struct date date_from_days(int64_t days)
{
	const int64_t z = days + 719468;
	const int64_t era = (z >= 0 ? z : z - 146096) / 146097;
	const unsigned day_of_era = (unsigned)(z - era * 146097);
	const unsigned year_of_era =
	        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
	const unsigned day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
	const unsigned m = (5 * day_of_year + 2) / 153;
	struct date d = {.day = day_of_year - (153 * m + 2) / 5 + 1, .month = m < 10 ? m + 3 : m - 9};

	d.year = era * 400 + year_of_era + (d.month <= 2 ? 1 : 0);
	return d;
}

static int64_t days_from_date(struct date d)
{
	const int64_t y = d.year - (d.month <= 2 ? 1 : 0);
	const int64_t era = (y >= 0 ? y : y - 399) / 400;
	const unsigned year_of_era = (unsigned)(y - era * 400);
	const unsigned day_of_year = (153 * (d.month > 2 ? d.month - 3 : d.month + 9) + 2) / 5 + d.day - 1;
	const unsigned day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;

	return era * 146097 + day_of_era - 719468;
}

static void put_digits(char *dst, unsigned width, unsigned value)
{
	while (width > 0) {
		dst[--width] = (char)('0' + value % 10);
		value /= 10;
	}
}

void sosie_time_text(char dst[SOSIE_TIME_TEXT], int64_t wall_ms)
{
	const int64_t ms = wall_ms < FIRST_MS ? FIRST_MS : wall_ms > LAST_MS ? LAST_MS : wall_ms;
	const int64_t days = (ms >= 0 ? ms : ms - (MS_PER_DAY - 1)) / MS_PER_DAY;
	const unsigned in_day = (unsigned)(ms - days * MS_PER_DAY);
	const struct date d = date_from_days(days);

	memcpy(dst, "0000-00-00T00:00:00.000Z", SOSIE_TIME_TEXT);
	put_digits(dst, 4, (unsigned)d.year);
	put_digits(dst + 5, 2, d.month);
	put_digits(dst + 8, 2, d.day);
	put_digits(dst + 11, 2, in_day / 3600000);
	put_digits(dst + 14, 2, in_day / 60000 % 60);
	put_digits(dst + 17, 2, in_day / 1000 % 60);
	put_digits(dst + 20, 3, in_day % 1000);
}

static unsigned get_digits(const char *src, unsigned width)
{
	unsigned v = 0;

	for (unsigned i = 0; i < width; i++)
		v = v * 10 + (unsigned)(src[i] - '0');
	return v;
}

/* As the pattern: a digit for each '0', else the same character; the same length. */
static bool looks_like_time(const char *text)
{
	static const char pattern[] = "0000-00-00T00:00:00.000Z";

	for (size_t i = 0; i < sizeof(pattern); i++) {
		bool digit = text[i] >= '0' && text[i] <= '9';
		if (pattern[i] == '0' ? !digit : text[i] != pattern[i])
			return false;
	}
	return true;
}

int sosie_time_parse(const char *text, int64_t *wall_ms, struct sosie_err *err)
{
	char again[SOSIE_TIME_TEXT], shown[128];

	if (looks_like_time(text)) {
		struct date d = {get_digits(text, 4), get_digits(text + 5, 2), get_digits(text + 8, 2)};
		int64_t seconds = get_digits(text + 11, 2) * 3600 + get_digits(text + 14, 2) * 60 +
		                  get_digits(text + 17, 2);
		int64_t ms = 0;
		if (d.month >= 1 && d.month <= 12)
			ms = days_from_date(d) * MS_PER_DAY + seconds * 1000 + get_digits(text + 20, 3);
		/* Days and hours that do not exist come back as others. */
		sosie_time_text(again, ms);
		if (strcmp(again, text) == 0) {
			*wall_ms = ms;
			return 0;
		}
	}
	return sosie_err_set(err, SOSIE_ECORRUPT, "\"%s\" is no time of the form 2026-11-22T03:27:00.123Z",
	                     sosie_escape(shown, sizeof(shown), text, strlen(text)));
}

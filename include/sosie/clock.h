/* SPDX-License-Identifier: MIT */
/* Time and randomness as seams: a whole replication runs in a test on one virtual clock with one seed. */
#ifndef SOSIE_CLOCK_H
#define SOSIE_CLOCK_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "sosie/err.h"

#define SOSIE_BOOT_ID 37 /* of /proc/sys/kernel/random/boot_id, with a NUL (random(4)) */

struct sosie_clock;
struct sosie_clock_ops {
	int64_t (*wall_ms)(struct sosie_clock *clock);           /* CLOCK_REALTIME, ms since 1970 */
	int64_t (*mono_ms)(struct sosie_clock *clock);           /* CLOCK_MONOTONIC */
	void (*sleep_ms)(struct sosie_clock *clock, int64_t ms); /* may return early on a signal */
	int (*random)(struct sosie_clock *clock, void *dst, size_t len,
	              struct sosie_err *err);          /* from getrandom(2) */
	int64_t (*boot_ms)(struct sosie_clock *clock); /* CLOCK_BOOTTIME: goes on while the machine sleeps */
	void (*boot_id)(struct sosie_clock *clock,
	                char dst[SOSIE_BOOT_ID]); /* of this boot; empty: not known */
};
struct sosie_clock {
	const struct sosie_clock_ops *ops;
};

/* A clock of the machine in nanoseconds: CLOCK_MONOTONIC, CLOCK_REALTIME … Thread-safe, also after a fork. */
int64_t sosie_clock_ns(clockid_t id);
/* The machine's clock and random numbers; static, thread-safe. */
struct sosie_clock *sosie_clock_real(void);

/* A virtual one: sleep advances it; random is seeded and not secret. Not thread-safe. */
struct sosie_clock_virtual {
	struct sosie_clock clock;
	int64_t now_ms;       /* all clocks */
	int64_t wall_skew_ms; /* the wall clock is that much ahead of it */
	int64_t boot_at_ms;   /* of now_ms, when the machine was started */
	unsigned boots;       /* number of the boot */
	uint64_t state;       /* generator */
};
void sosie_clock_virtual_init(struct sosie_clock_virtual *c, int64_t start_ms, uint64_t seed);

int64_t sosie_wall_ms(struct sosie_clock *c);
int64_t sosie_mono_ms(struct sosie_clock *c);
int64_t sosie_boot_ms(struct sosie_clock *c);
void sosie_boot_id(struct sosie_clock *c, char dst[SOSIE_BOOT_ID]);
void sosie_sleep_ms(struct sosie_clock *c, int64_t ms);
int sosie_random(struct sosie_clock *c, void *dst, size_t len, struct sosie_err *err);

/* RFC 3339 in UTC with milliseconds, "2026-11-22T03:27:00.123Z", NUL included in the 25 bytes. */
#define SOSIE_TIME_TEXT 25
void sosie_time_text(char dst[SOSIE_TIME_TEXT], int64_t wall_ms);
/* Exactly that form; SOSIE_ECORRUPT otherwise. */
int sosie_time_parse(const char *text, int64_t *wall_ms, struct sosie_err *err);

#endif

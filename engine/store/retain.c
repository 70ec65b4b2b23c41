/* SPDX-License-Identifier: MIT */
#include "engine/store/retain.h"

#include <time.h>

#define HOUR_MS 3600000
#define DAY_MS 86400000

static const unsigned each_kept[] = {SOSIE_KEPT_NEWEST, SOSIE_KEPT_PIN, SOSIE_KEPT_CUTOVER,
                                     SOSIE_KEPT_EVERYTHING};

int64_t retain_time(struct retain_clock *c, int64_t raw_ms)
{
	if (raw_ms <= c->now_ms && raw_ms > c->last_ms)
		c->last_ms = raw_ms;
	return c->last_ms;
}

static int64_t floor_div(int64_t a, int64_t b)
{
	return a / b - (a % b < 0);
}

static int64_t month_of(int64_t ms)
{
	const time_t seconds = (time_t)floor_div(ms, 1000);
	struct tm tm;

	return gmtime_r(&seconds, &tm) ? (int64_t)tm.tm_year * 12 + tm.tm_mon : INT64_MIN;
}

/* The number of the period that the time lies in. Weeks begin on Mondays; 1970-01-01 was a Thursday. */
static int64_t period_of(unsigned period, int64_t ms)
{
	switch (period) {
	case 0:
		return floor_div(ms, HOUR_MS);
	case 1:
		return floor_div(ms, DAY_MS);
	case 2:
		return floor_div(floor_div(ms, DAY_MS) + 3, 7);
	default:
		return month_of(ms);
	}
}

/* How far a rule has been used up, from the newest point back. */
struct slots {
	const struct retain_rule *rule;
	unsigned bit; /* of `all` in sosie_kept.by; the periods follow */
	uint64_t used[RETAIN_PERIODS];
	int64_t at[RETAIN_PERIODS]; /* the period that was met last */
};

static unsigned take(struct slots *s, int64_t time_ms, int64_t now_ms)
{
	const uint64_t age = time_ms < now_ms ? (uint64_t)now_ms - (uint64_t)time_ms : 0;
	unsigned by = age < s->rule->all_ms ? 1u << s->bit : 0;

	for (unsigned i = 0; i < RETAIN_PERIODS; i++) {
		if (s->used[i] == s->rule->last[i])
			continue;
		const int64_t period = period_of(i, time_ms);
		if (s->used[i] > 0 && period == s->at[i])
			continue;
		s->at[i] = period;
		s->used[i]++;
		by |= 1u << (s->bit + 1 + i);
	}
	return by;
}

void retain_points(struct sosie_kept *points, size_t count, const struct retain_policy *policy,
                   int64_t now_ms)
{
	struct slots floor = {.rule = &policy->floor, .bit = SOSIE_KEPT_FLOOR_BIT};
	struct slots wish = {.rule = &policy->wish, .bit = SOSIE_KEPT_WISH_BIT};

	for (size_t i = count; i-- > 0;) {
		struct sosie_kept *p = &points[i];
		if (i + 1 == count)
			p->by |= SOSIE_KEPT_NEWEST;
		if (!policy->floor.set && !policy->wish.set)
			p->by |= SOSIE_KEPT_EVERYTHING;
		if (policy->floor.set)
			p->by |= take(&floor, p->time_ms, now_ms);
		if (policy->wish.set)
			p->by |= take(&wish, p->time_ms, now_ms);
		else if (policy->floor.set)
			p->by |= SOSIE_KEPT_WISHED;
	}
}

unsigned retain_thin_rank(const struct sosie_kept *point)
{
	for (size_t i = 0; i < sizeof(each_kept) / sizeof(each_kept[0]); i++)
		if (point->by & each_kept[i])
			return 0;
	if (point->by & SOSIE_KEPT_FLOOR)
		return 0;
	for (unsigned i = RETAIN_PERIODS + 1; i-- > 0;)
		if (point->by & (1u << (SOSIE_KEPT_WISH_BIT + i)))
			return 2 + i;
	return point->by & SOSIE_KEPT_WISHED ? 1 : 0;
}

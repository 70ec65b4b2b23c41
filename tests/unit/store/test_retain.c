/* SPDX-License-Identifier: MIT */
/*
 * Which points stay, as properties over random points and policies: the floor stays, the newest stays, doing
 * it again changes nothing, time passing brings nothing back, and a flood within an hour takes no slot of an
 * earlier one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/store/retain.h"
#include "tests/support/rounds.h"

#define POINTS 200u
#define HOUR 3600000ll
#define DAY 86400000ll

static uint64_t seed = 20261122;

static uint64_t dice(uint64_t sides)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed % sides;
}

static void random_rule(struct retain_rule *r)
{
	memset(r, 0, sizeof(*r));
	r->set = dice(4) != 0;
	if (!r->set)
		return;
	r->all_ms = dice(3) ? dice(10 * DAY) : 0;
	for (unsigned i = 0; i < RETAIN_PERIODS; i++)
		r->last[i] = dice(2) ? dice(40) : 0;
}

/* Ascending times with bursts and long pauses; *now is at or behind the last. */
static size_t random_points(struct sosie_kept *p, int64_t *now)
{
	const size_t count = 1 + dice(POINTS);
	int64_t at = 1790000000000 + (int64_t)dice(400 * DAY);
	for (size_t i = 0; i < count; i++) {
		p[i] = (struct sosie_kept){.point = i + 1 + dice(2) * i, .time_ms = at};
		if (i && p[i].point <= p[i - 1].point)
			p[i].point = p[i - 1].point + 1;
		at += (int64_t)dice(dice(3) ? 10000 : dice(2) ? HOUR * 3 : DAY * 9);
	}
	*now = p[count - 1].time_ms + (int64_t)dice(3 * DAY);
	return count;
}

/* Those that stay, at the front; their number. */
static size_t survivors(const struct sosie_kept *p, size_t count, struct sosie_kept *out)
{
	size_t n = 0;
	for (size_t i = 0; i < count; i++)
		if (p[i].by)
			out[n++] = (struct sosie_kept){.point = p[i].point, .time_ms = p[i].time_ms};
	return n;
}

static void test_kept_points_are_floor_newest_and_stable(void **state)
{
	const unsigned rounds = test_rounds(4000, 40000);
	static struct sosie_kept a[POINTS], b[POINTS], floor_only[POINTS];
	uint64_t gone = 0;
	(void)state;
	for (unsigned round = 0; round < rounds; round++) {
		struct retain_policy policy, only;
		int64_t now;
		random_rule(&policy.floor);
		random_rule(&policy.wish);
		size_t count = random_points(a, &now);
		memcpy(floor_only, a, sizeof(a));
		retain_points(a, count, &policy, now);
		assert_true(a[count - 1].by & SOSIE_KEPT_NEWEST);
		only = policy;
		memset(&only.wish, 0, sizeof(only.wish));
		only.wish.set = true;
		retain_points(floor_only, count, &only, now);
		for (size_t i = 0; i < count; i++) {
			gone += !a[i].by;
			if (policy.floor.set && floor_only[i].by) {
				assert_true(a[i].by & (SOSIE_KEPT_FLOOR | SOSIE_KEPT_NEWEST));
				assert_int_equal(retain_thin_rank(&a[i]), 0);
			}
			if (!policy.floor.set && !policy.wish.set)
				assert_true(a[i].by & SOSIE_KEPT_EVERYTHING);
		}
		/* Again, of what stayed: all stay. */
		size_t n = survivors(a, count, b);
		retain_points(b, n, &policy, now);
		for (size_t i = 0; i < n; i++)
			assert_true(b[i].by != 0);
	}
	print_message("rounds: %u retention-properties, %llu points went\n", rounds,
	              (unsigned long long)gone);
	assert_true(gone > rounds);
}

static void test_time_passing_brings_nothing_back(void **state)
{
	static struct sosie_kept a[POINTS], b[POINTS];
	(void)state;
	for (unsigned round = 0; round < test_rounds(2000, 20000); round++) {
		struct retain_policy policy;
		int64_t now;
		random_rule(&policy.floor);
		random_rule(&policy.wish);
		size_t count = random_points(a, &now);
		memcpy(b, a, sizeof(a));
		retain_points(a, count, &policy, now);
		retain_points(b, count, &policy, now + (int64_t)dice(30 * DAY));
		for (size_t i = 0; i < count; i++)
			assert_false(b[i].by && !a[i].by);
	}
}

/* A flood of points in the hour of the newest: what was kept of earlier hours by count stays. */
static void test_flood_takes_no_slot_of_earlier_hours(void **state)
{
	static struct sosie_kept a[POINTS], b[2 * POINTS];
	uint64_t slots = 0;
	(void)state;
	for (unsigned round = 0; round < test_rounds(2000, 20000); round++) {
		struct retain_policy policy = {.wish = {.set = true}};
		int64_t now;
		for (unsigned i = 0; i < RETAIN_PERIODS; i++)
			policy.wish.last[i] = dice(30);
		size_t count = random_points(a, &now), flood = 1 + dice(POINTS);
		const int64_t hour = a[count - 1].time_ms / HOUR;
		memcpy(b, a, count * sizeof(*a));
		for (size_t i = 0; i < flood; i++)
			b[count + i] = (struct sosie_kept){.point = a[count - 1].point + 1 + i,
			                                   .time_ms = hour * HOUR + HOUR - 1};
		retain_points(a, count, &policy, hour * HOUR + HOUR);
		retain_points(b, count + flood, &policy, hour * HOUR + HOUR);
		for (size_t i = 0; i < count; i++) {
			if (a[i].time_ms / HOUR == hour || !(a[i].by & SOSIE_KEPT_WISH))
				continue;
			slots++;
			assert_int_equal(a[i].by & SOSIE_KEPT_WISH, b[i].by & SOSIE_KEPT_WISH);
		}
	}
	assert_true(slots > 1000);
}

static void expect(const struct sosie_kept *p, size_t count, const char *text)
{
	char got[64] = "";
	for (size_t i = 0; i < count; i++)
		got[i] = p[i].by & SOSIE_KEPT_WISH ? 'w' : p[i].by & SOSIE_KEPT_NEWEST ? 'n' : '.';
	assert_string_equal(got, text);
}

static void test_periods_are_hours_days_iso_weeks_and_months_in_utc(void **state)
{
	/* 2026-11-22 is a Sunday: the next day begins an ISO week; 2027-01-01 lies in the week of 2026-12-28.
	 */
	static const int64_t times[] = {
	        1795391999000, /* 2026-11-22T23:59:59Z */
	        1795392000000, /* 2026-11-23T00:00:00Z */
	        1795395599000, /* 2026-11-23T00:59:59Z */
	        1796083199000, /* 2026-11-30T23:59:59Z */
	        1796083200000, /* 2026-12-01T00:00:00Z */
	        1798502400000, /* 2026-12-29T00:00:00Z */
	        1798761600000, /* 2027-01-01T00:00:00Z */
	};
	static const char *const want[] = {"w.wwwww", "w.wwwww", "w.w.w.w", "...w.ww"};
	(void)state;
	for (unsigned period = 0; period < RETAIN_PERIODS; period++) {
		struct sosie_kept p[7] = {{0}};
		struct retain_policy policy = {.wish = {.set = true}};
		policy.wish.last[period] = 100;
		for (size_t i = 0; i < 7; i++)
			p[i] = (struct sosie_kept){.point = i + 1, .time_ms = times[i]};
		retain_points(p, 7, &policy, times[6]);
		expect(p, 7, want[period]);
	}
}

static void test_time_of_acceptance_never_goes_back_nor_ahead(void **state)
{
	struct retain_clock c = {.now_ms = 1000};
	(void)state;
	assert_int_equal(retain_time(&c, 500), 500);
	assert_int_equal(retain_time(&c, 100), 500);  /* the clock had gone back */
	assert_int_equal(retain_time(&c, 5000), 500); /* or far ahead: not believed */
	assert_int_equal(retain_time(&c, 600), 600);
	assert_int_equal(retain_time(&c, 1000), 1000);
}

static void test_thinning_takes_the_finest_first_and_never_the_floor(void **state)
{
	static const struct {
		unsigned by, rank;
	} cases[] = {
	        {SOSIE_KEPT_WISHED, 1},
	        {1u << SOSIE_KEPT_WISH_BIT, 2},
	        {3u << SOSIE_KEPT_WISH_BIT, 3},
	        {4u << SOSIE_KEPT_WISH_BIT, 4},
	        {0x1fu << SOSIE_KEPT_WISH_BIT, 6},
	        {SOSIE_KEPT_FLOOR | SOSIE_KEPT_WISH, 0},
	        {1u << SOSIE_KEPT_FLOOR_BIT | SOSIE_KEPT_WISHED, 0},
	        {SOSIE_KEPT_PIN | SOSIE_KEPT_WISHED, 0},
	        {SOSIE_KEPT_NEWEST | SOSIE_KEPT_WISHED, 0},
	        {SOSIE_KEPT_CUTOVER | SOSIE_KEPT_WISHED, 0},
	        {SOSIE_KEPT_EVERYTHING, 0},
	        {0, 0},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct sosie_kept p = {.by = cases[i].by};
		assert_int_equal(retain_thin_rank(&p), cases[i].rank);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_kept_points_are_floor_newest_and_stable),
	        cmocka_unit_test(test_time_passing_brings_nothing_back),
	        cmocka_unit_test(test_flood_takes_no_slot_of_earlier_hours),
	        cmocka_unit_test(test_periods_are_hours_days_iso_weeks_and_months_in_utc),
	        cmocka_unit_test(test_time_of_acceptance_never_goes_back_nor_ahead),
	        cmocka_unit_test(test_thinning_takes_the_finest_first_and_never_the_floor),
	};
	print_message("seed %llu\n", (unsigned long long)seed);
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/*
 * A set of byte ranges that never holds more than its bound. Adding appends; when the room is used up, all is
 * sorted and joined, and if more than half of the bound is left, the smallest gaps are given up: exactly as
 * many as are too many. So coverage only grows, and one pass pays for at least half a bound of additions.
 *
 * Invariants: count <= room <= max; every range has start < end; in_order: ranges ascend and do not touch.
 * One thread at a time.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "engine/source/changes.h"

#define MIN_RANGES 16u

struct span {
	uint64_t start, end;
};

struct changes {
	unsigned max;   /* the bound */
	unsigned room;  /* what is allocated */
	unsigned count; /* what is used */
	unsigned at;    /* where changes_next was */
	bool all, sealed, in_order;
	uint64_t limit; /* what is added at or behind it is dropped */
	struct span *spans;
};

int changes_new(unsigned max, struct changes **out, struct sosie_err *err)
{
	struct changes *c;

	assert(max >= MIN_RANGES && max <= CHANGES_MAX);
	*out = NULL;
	c = calloc(1, sizeof(*c));
	if (c)
		c->spans = calloc(MIN_RANGES, sizeof(*c->spans));
	if (!c || !c->spans) {
		free(c);
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for a set of %u ranges", max);
	}
	c->max = max;
	c->room = MIN_RANGES;
	c->in_order = true;
	c->limit = UINT64_MAX;
	*out = c;
	return 0;
}

void changes_free(struct changes *c)
{
	if (!c)
		return;
	free(c->spans);
	free(c);
}

void changes_limit(struct changes *c, uint64_t end)
{
	c->limit = end;
}

void changes_all(struct changes *c)
{
	assert(!c->sealed);
	c->all = true;
	c->spans[0] = (struct span){0, UINT64_MAX};
	c->count = 1;
	c->in_order = true;
}

bool changes_is_all(const struct changes *c)
{
	return c->all;
}

static int by_start(const void *a, const void *b)
{
	uint64_t x = ((const struct span *)a)->start, y = ((const struct span *)b)->start;

	return x < y ? -1 : x > y;
}

/* Sorts, and joins what touches or overlaps. */
static void put_in_order(struct changes *c)
{
	unsigned kept = 0;

	if (c->in_order || c->count == 0)
		return;
	qsort(c->spans, c->count, sizeof(*c->spans), by_start);
	for (unsigned i = 1; i < c->count; i++) {
		struct span *last = &c->spans[kept];

		if (c->spans[i].start > last->end)
			c->spans[++kept] = c->spans[i];
		else if (c->spans[i].end > last->end)
			last->end = c->spans[i].end;
	}
	c->count = kept + 1;
	c->in_order = true;
}

/* In order only: how many gaps are at most that long. */
static unsigned gaps_up_to(const struct changes *c, uint64_t length)
{
	unsigned n = 0;

	for (unsigned i = 1; i < c->count; i++)
		n += c->spans[i].start - c->spans[i - 1].end <= length;
	return n;
}

/* The length of the n-th smallest gap, n from 1: bisection, so that no memory is needed. */
static uint64_t nth_gap(const struct changes *c, unsigned n)
{
	uint64_t low = 0, high = UINT64_MAX;

	while (low < high) {
		uint64_t mid = low + (high - low) / 2;

		if (gaps_up_to(c, mid) >= n)
			high = mid;
		else
			low = mid + 1;
	}
	return low;
}

/* In order only: joins across the smallest gaps until target ranges are left. */
static void coalesce(struct changes *c, unsigned target)
{
	unsigned kept = 0, equal;
	uint64_t longest;

	if (c->count <= target)
		return;
	longest = nth_gap(c, c->count - target);
	/* Of the gaps of just that length, no more than are needed. */
	equal = c->count - target - (longest > 0 ? gaps_up_to(c, longest - 1) : 0);
	for (unsigned i = 1; i < c->count; i++) {
		uint64_t gap = c->spans[i].start - c->spans[kept].end;

		if (gap < longest || (gap == longest && equal > 0 && equal--))
			c->spans[kept].end = c->spans[i].end;
		else
			c->spans[++kept] = c->spans[i];
	}
	c->count = kept + 1;
}

/* Room for one more: a bigger array while that is allowed and to be had, else fewer ranges. */
static void make_room(struct changes *c)
{
	put_in_order(c);
	if (c->count <= c->room / 2)
		return;
	if (c->room < c->max) {
		unsigned room = c->room <= c->max / 2 ? c->room * 2 : c->max;
		struct span *spans = realloc(c->spans, room * sizeof(*spans));

		if (spans) {
			c->spans = spans;
			c->room = room;
			return;
		}
	}
	coalesce(c, c->room / 2);
}

void changes_add(struct changes *c, uint64_t start, uint64_t end)
{
	struct span *last = c->count > 0 ? &c->spans[c->count - 1] : NULL;

	assert(!c->sealed);
	end = end < c->limit ? end : c->limit;
	if (c->all || start >= end)
		return;
	if (start == 0 && end == UINT64_MAX) {
		changes_all(c);
		return;
	}
	if (last && start >= last->start && start <= last->end) {
		last->end = end > last->end ? end : last->end;
		return;
	}
	if (c->count == c->room)
		make_room(c); /* leaves all in order */
	if (c->count > 0 && start <= c->spans[c->count - 1].end)
		c->in_order = false;
	c->spans[c->count++] = (struct span){start, end};
}

void changes_seal(struct changes *c)
{
	put_in_order(c);
	c->sealed = true;
	c->at = 0;
}

/* The first range that ends behind from, by bisection. */
static unsigned find(const struct changes *c, uint64_t from)
{
	unsigned low = 0, high = c->count;

	while (low < high) {
		unsigned mid = low + (high - low) / 2;

		if (c->spans[mid].end > from)
			high = mid;
		else
			low = mid + 1;
	}
	return low;
}

bool changes_next(struct changes *c, uint64_t from, uint64_t *start, uint64_t *end)
{
	assert(c->sealed);
	if (c->at > 0 && c->spans[c->at - 1].end > from)
		c->at = find(c, from);
	while (c->at < c->count && c->spans[c->at].end <= from)
		c->at++;
	if (c->at == c->count)
		return false;
	*start = c->spans[c->at].start;
	*end = c->spans[c->at].end;
	return true;
}

uint64_t changes_bytes(const struct changes *c)
{
	uint64_t sum = 0;

	assert(c->sealed);
	if (c->all)
		return UINT64_MAX;
	for (unsigned i = 0; i < c->count; i++)
		sum += c->spans[i].end - c->spans[i].start; /* disjoint: no overflow */
	return sum;
}

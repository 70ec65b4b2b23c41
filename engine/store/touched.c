/* SPDX-License-Identifier: MIT */
/*
 * Which leaves something touched: a union of ranges in bounded memory, whatever is added. Ranges are kept as
 * they are while they fit; when they do not even after merging, both ends are rounded outward to a unit that
 * doubles until half of the room is free. What was added is always covered; what is covered besides is only
 * ever read in vain.
 */
#include <stdlib.h>

#include "engine/store/core.h"

#define TOUCHED_FIRST_ROOM 256u

static int compare_ranges(const void *a, const void *b)
{
	const struct touched_range *x = a, *y = b;
	if (x->volume != y->volume)
		return x->volume < y->volume ? -1 : 1;
	return x->first < y->first ? -1 : x->first > y->first;
}

static void round_outward(struct touched *t)
{
	const uint64_t mask = t->unit - 1;
	for (size_t i = 0; i < t->count; i++) {
		t->ranges[i].first &= ~mask;
		t->ranges[i].last = (t->ranges[i].last + mask) & ~mask;
	}
}

/* Of a sorted list; rounding keeps the order. */
static void merge(struct touched *t)
{
	size_t kept = 0;
	for (size_t i = 1; i < t->count; i++) {
		struct touched_range *end = &t->ranges[kept];
		const struct touched_range *r = &t->ranges[i];
		if (r->volume == end->volume && r->first <= end->last)
			end->last = r->last > end->last ? r->last : end->last;
		else
			t->ranges[++kept] = *r;
	}
	t->count = t->count ? kept + 1 : 0;
}

void touched_order(struct touched *t)
{
	if (t->count)
		qsort(t->ranges, t->count, sizeof(*t->ranges), compare_ranges);
	merge(t);
}

/* One volume's ranges become one in the end: the limit is above the number of volumes. */
static void shrink(struct touched *t)
{
	touched_order(t);
	while (t->count > t->limit / 2 && t->unit < TOUCHED_UNIT_MAX) {
		t->unit *= 2;
		round_outward(t);
		merge(t);
	}
}

static int grow(struct touched *t, struct sosie_err *err)
{
	size_t room = t->room ? 2 * t->room : TOUCHED_FIRST_ROOM;
	room = room > t->limit ? t->limit : room;
	struct touched_range *grown = reallocarray(t->ranges, room, sizeof(*grown));
	if (!grown)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory to list what segments touched");
	t->ranges = grown;
	t->room = room;
	return 0;
}

int touched_add(struct touched *t, unsigned volume, uint64_t first, uint64_t last, struct sosie_err *err)
{
	struct touched_range *newest = t->count ? &t->ranges[t->count - 1] : NULL;
	if (first >= last)
		return 0;
	if (newest && newest->volume == volume && first <= newest->last && last >= newest->first) {
		newest->first = first < newest->first ? first : newest->first;
		newest->last = last > newest->last ? last : newest->last;
		return 0;
	}
	if (t->count == t->room && t->room == t->limit)
		shrink(t);
	int rc = t->count == t->room ? grow(t, err) : 0;
	if (!rc)
		t->ranges[t->count++] = (struct touched_range){first, last, volume};
	return rc;
}

void touched_init(struct touched *t, size_t limit)
{
	*t = (struct touched){.limit = limit, .unit = 1};
}

void touched_fini(struct touched *t)
{
	free(t->ranges);
	*t = (struct touched){.limit = 0};
}

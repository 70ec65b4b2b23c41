/* SPDX-License-Identifier: MIT */
/*
 * Read budgets: a group's own, and one that groups share. Each read books its share of time on a line, and
 * waits until its place on both lines has come; what was not used is kept for 100 ms. Booked bytes are the
 * reader's, so readers are served in the order in which they asked. A wait ends at once when the cycle is to
 * end.
 */
#include <stdlib.h>

#include "engine/replicate/internal.h"

#define NS_PER_MS 1000000
#define BURST_NS ((int64_t)100 * NS_PER_MS)
#define NAP_MS 100

struct sosie_budget {
	struct rate rate;
	struct sosie_clock *clock;
};

int sosie_budget_new(uint64_t bytes_per_second, struct sosie_clock *clock, struct sosie_budget **out,
                     struct sosie_err *err)
{
	struct sosie_budget *b = calloc(1, sizeof(*b));

	*out = b;
	if (!b)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for a read budget");
	pthread_mutex_init(&b->rate.lock, NULL);
	b->rate.per_second = bytes_per_second;
	b->rate.next_ns = sosie_mono_ms(clock) * NS_PER_MS;
	b->clock = clock;
	return 0;
}

void sosie_budget_free(struct sosie_budget *b)
{
	if (!b)
		return;
	pthread_mutex_destroy(&b->rate.lock);
	free(b);
}

/* When a read of that many bytes may start, on the clock of now_ns. */
static int64_t book(struct rate *rate, int64_t now_ns, uint64_t bytes)
{
	int64_t start;

	if (rate->per_second == 0)
		return now_ns;
	pthread_mutex_lock(&rate->lock);
	if (rate->next_ns < now_ns - BURST_NS)
		rate->next_ns = now_ns - BURST_NS;
	start = rate->next_ns;
	rate->next_ns += (int64_t)((double)bytes * 1e9 / (double)rate->per_second);
	pthread_mutex_unlock(&rate->lock);
	return start;
}

static void wait_until(struct sosie_replicator *r, struct sosie_clock *clock, int64_t start_ns)
{
	for (;;) {
		int64_t left = (start_ns + NS_PER_MS - 1) / NS_PER_MS - sosie_mono_ms(clock);

		if (left <= 0 || stop_asked(r))
			return;
		sosie_sleep_ms(clock, left < NAP_MS ? left : NAP_MS);
	}
}

void rate_wait(struct sosie_replicator *r, uint64_t bytes)
{
	struct sosie_budget *b = r->o.budget;
	int64_t own = book(&r->rate, sosie_mono_ms(r->o.clock) * NS_PER_MS, bytes);
	int64_t shared = b ? book(&b->rate, sosie_mono_ms(b->clock) * NS_PER_MS, bytes) : 0;

	if (r->rate.per_second > 0)
		wait_until(r, r->o.clock, own);
	if (b && b->rate.per_second > 0)
		wait_until(r, b->clock, shared);
}

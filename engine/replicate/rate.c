/* SPDX-License-Identifier: MIT */
/* The read budget over all workers: each read books its share of time on one line; short bursts of 100 ms are
 * let through. */
#include "engine/replicate/internal.h"

#define BURST_MS 100
#define NAP_MS 100

void rate_wait(struct sosie_replicator *r, uint64_t bytes)
{
	struct rate *rate = &r->rate;
	int64_t now = sosie_mono_ms(r->o.clock), start;

	if (rate->per_second == 0)
		return;
	pthread_mutex_lock(&rate->lock);
	if (rate->next_ms < now - BURST_MS)
		rate->next_ms = now - BURST_MS;
	start = rate->next_ms;
	rate->next_ms += (int64_t)(bytes * 1000 / rate->per_second);
	pthread_mutex_unlock(&rate->lock);
	while (start > now && !stop_asked(r)) {
		sosie_sleep_ms(r->o.clock, start - now < NAP_MS ? start - now : NAP_MS);
		now = sosie_mono_ms(r->o.clock);
	}
}

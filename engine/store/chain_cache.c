/* SPDX-License-Identifier: MIT */
/*
 * Chains as the groups of one process left them. A chain only grows: who opens its group again reads what was
 * appended since (chain_read_on), not all of it each time, which for a group with a point a second would be
 * 140 MB after a day.
 *
 * A chain is here or with the one handle that took it. Entries of all chains here take chains_limit bytes at
 * most: those of groups that were not opened for the longest time go first, and a chain that alone is larger
 * is not kept: it is read whole at each opening, as every chain is once by each process.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/store/chain.h"

struct kept_chain {
	struct kept_chain *next;
	struct sosie_name tenant, group;
	struct sosie_chain *chain;
};

static uint64_t entry_bytes(const struct sosie_chain *c)
{
	return c->count * sizeof(*c->entries);
}

static void drop(struct kept_chain *k)
{
	chain_close(k->chain);
	free(k);
}

struct sosie_chain *chain_cache_take(struct sosie_store *store, const char *tenant, const char *group)
{
	for (struct kept_chain **at = &store->chains; *at; at = &(*at)->next) {
		struct kept_chain *k = *at;
		struct sosie_chain *chain = k->chain;
		if (strcmp(k->tenant.s, tenant) != 0 || strcmp(k->group.s, group) != 0)
			continue;
		*at = k->next;
		free(k);
		return chain;
	}
	return NULL;
}

/* From the first that does not fit on. */
static void evict(struct sosie_store *store)
{
	struct kept_chain **at = &store->chains;
	uint64_t bytes = 0;
	while (*at && (bytes += entry_bytes((*at)->chain)) <= store->chains_limit)
		at = &(*at)->next;
	while (*at) {
		struct kept_chain *k = *at;
		*at = k->next;
		drop(k);
	}
}

void chain_cache_give(struct sosie_store *store, const char *tenant, const char *group,
                      struct sosie_chain *chain)
{
	if (!chain)
		return;
	struct sosie_chain *other = chain_cache_take(store, tenant, group);
	if (other && (chain->broken || other->count > chain->count)) {
		struct sosie_chain *shorter = chain;
		chain = other;
		other = shorter;
	}
	chain_close(other);
	struct kept_chain *k = calloc(1, sizeof(*k));
	if (!k || chain->broken || entry_bytes(chain) > store->chains_limit ||
	    sosie_name_set(&k->tenant, SOSIE_NAME_TENANT, tenant, NULL) ||
	    sosie_name_set(&k->group, SOSIE_NAME_GROUP, group, NULL)) {
		free(k);
		chain_close(chain);
		return;
	}
	k->chain = chain;
	k->next = store->chains;
	store->chains = k;
	evict(store);
}

void chain_cache_free(struct sosie_store *store)
{
	while (store->chains) {
		struct kept_chain *k = store->chains;
		store->chains = k->next;
		drop(k);
	}
}

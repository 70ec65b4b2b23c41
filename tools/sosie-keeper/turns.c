/* SPDX-License-Identifier: MIT */
/* Turns of tenants and groups. Lists are short enough to be walked: each entry is looked at once a turn. */
#include "tools/sosie-keeper/turns.h"

#include <stddef.h>

static bool group_ready(const struct watched_group *g, int64_t now_ms)
{
	return g->due && g->retry_ms <= now_ms;
}

static struct watched_group *find_group(const struct watched_tenant *t, int64_t now_ms)
{
	struct watched_group *start = t->served && t->served->next ? t->served->next : t->groups;
	struct watched_group *g = start;

	if (!g || t->retry_ms > now_ms)
		return NULL;
	do {
		if (group_ready(g, now_ms))
			return g;
		g = g->next ? g->next : t->groups;
	} while (g != start);
	return NULL;
}

struct watched_group *turns_group(struct watched_tenant *t, int64_t now_ms)
{
	struct watched_group *g = find_group(t, now_ms);

	if (g)
		t->served = g;
	return g;
}

struct watched_tenant *turns_tenant(struct turns *t, int64_t now_ms)
{
	struct watched_tenant *start = t->served && t->served->next ? t->served->next : t->tenants;
	struct watched_tenant *x = start;

	if (!x)
		return NULL;
	do {
		if (x->look || find_group(x, now_ms)) {
			t->served = x;
			return x;
		}
		x = x->next ? x->next : t->tenants;
	} while (x != start);
	return NULL;
}

int64_t turns_next_ms(const struct turns *t, int64_t limit_ms)
{
	for (const struct watched_tenant *x = t->tenants; x; x = x->next)
		for (const struct watched_group *g = x->groups; g; g = g->next) {
			const int64_t at = g->retry_ms > x->retry_ms ? g->retry_ms : x->retry_ms;

			if (g->due && at < limit_ms)
				limit_ms = at;
		}
	return limit_ms;
}

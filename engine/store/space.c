/* SPDX-License-Identifier: MIT */
/* The reserve of the store's filesystem: what folding the largest group, and a cutover, need when uploads
 * have taken the rest. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/store/quota.h"

#define RESERVE_LEAST (64ull << 20)
#define RESERVE_SHARE 64 /* of a small filesystem: no more than that part of it */
#define COUNT_MS 60000   /* how long a count of working images holds */

struct space_memo {
	bool counted;
	int64_t counted_ms;
	uint64_t largest; /* working images, allocated bytes */
};

struct count {
	struct sosie_store *store;
	const char *tenant;
	char dir[STORE_PATH];
	uint64_t bytes, largest;
	int rc;
	struct sosie_err *err;
};

static int add_file(void *arg, const char *name, enum sosie_file_kind kind)
{
	struct count *c = arg;
	char path[STORE_PATH];
	struct sosie_stat st;
	if (kind == SOSIE_KIND_FILE && !store_path(path, NULL, "%s/%s", c->dir, name) &&
	    !sosie_io_stat(c->store->io, path, &st, NULL) &&
	    !sosie_add_u64(c->bytes, st.allocated, &c->bytes))
		c->bytes = UINT64_MAX;
	return 0;
}

static int add_group(void *arg, const struct sosie_name *name)
{
	struct count *c = arg;
	c->bytes = 0;
	c->rc = store_path(c->dir, c->err, "%s/%s/%s/head", c->store->path, c->tenant, name->s);
	if (!c->rc)
		sosie_io_list(c->store->io, c->dir, add_file, c, NULL); /* none yet: 0 */
	if (c->bytes > c->largest)
		c->largest = c->bytes;
	return c->rc;
}

static int add_tenant(void *arg, const struct sosie_name *name)
{
	struct count *c = arg;
	c->tenant = name->s;
	int rc = sosie_store_groups(c->store, name->s, add_group, c, c->err);
	c->rc = c->rc ? c->rc : rc;
	return c->rc;
}

static int count_largest(struct sosie_store *store, uint64_t *out, struct sosie_err *err)
{
	const int64_t now = sosie_mono_ms(store->clock);
	struct count c = {.store = store, .err = err};
	if (!store->space && !(store->space = calloc(1, sizeof(*store->space))))
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory to count the reserve");
	struct space_memo *memo = store->space;
	if (!memo->counted || now - memo->counted_ms >= COUNT_MS) {
		int rc = sosie_store_tenants(store, add_tenant, &c, err);
		if (rc || c.rc)
			return rc ? rc : c.rc;
		*memo = (struct space_memo){.counted = true, .counted_ms = now, .largest = c.largest};
	}
	*out = memo->largest;
	return 0;
}

int sosie_store_space(struct sosie_store *store, struct sosie_space *out, struct sosie_err *err)
{
	uint64_t largest = 0, least;
	memset(out, 0, sizeof(*out));
	int rc = sosie_io_space(store->io, store->path, &out->free_bytes, &out->total_bytes, err);
	if (!rc && !store->info.reflink)
		rc = count_largest(store, &largest, err);
	least = out->total_bytes / RESERVE_SHARE < RESERVE_LEAST ? out->total_bytes / RESERVE_SHARE
	                                                         : RESERVE_LEAST;
	if (!rc && !sosie_add_u64(largest, least, &out->reserve_bytes))
		out->reserve_bytes = UINT64_MAX;
	return rc;
}

void space_free(struct sosie_store *store)
{
	free(store->space);
	store->space = NULL;
}

/* Over when a tenth more than the reserve is free, so that it does not come and go. */
int sosie_keeper_watch_store(struct sosie_store *store, struct sosie_err *err)
{
	struct sosie_space s;
	char text[200], left[32], reserve[32];
	int rc = sosie_store_space(store, &s, err);
	if (rc)
		return rc;
	snprintf(text, sizeof(text),
	         "%s are free, %s are the reserve that a fold and a cutover need: uploads wait",
	         sosie_size_text(left, sizeof(left), s.free_bytes),
	         sosie_size_text(reserve, sizeof(reserve), s.reserve_bytes));
	if (s.free_bytes < s.reserve_bytes)
		return sosie_alarm_set(store, NULL, NULL, SOSIE_ALARM_SPACE, text, err);
	if (s.free_bytes - s.reserve_bytes >= s.reserve_bytes / 10)
		return sosie_alarm_set(store, NULL, NULL, SOSIE_ALARM_SPACE, NULL, err);
	return 0;
}

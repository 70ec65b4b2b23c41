/* SPDX-License-Identifier: MIT */
/* The keeper's steps: claim the store, find what is due, accept a group's uploads, settle what is idle. The
 * loop around them is the program's. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/store/keys.h"
#include "engine/store/quota.h"

#define CLAIM_TRIES 20
#define CLAIM_PAUSE_MS 10

#define PROGRAM "sosie-keeper"

#define ROUND_UPLOADS 16u /* of one group in one call, before others have their turn */
#define BESIDE_MAX 4u     /* uploads that are looked at behind one that waits */

/* "sosie status" holds the lock for an instant to see whether a keeper runs. */
static int claim_lock(struct sosie_store *store, struct sosie_file *f, struct sosie_err *err)
{
	int rc = sosie_io_lock(store->io, f, true, err);
	for (unsigned i = 0; rc == -SOSIE_EBUSY && i < CLAIM_TRIES; i++) {
		sosie_sleep_ms(store->clock, CLAIM_PAUSE_MS);
		rc = sosie_io_lock(store->io, f, true, err);
	}
	return rc;
}

int sosie_keeper_claim(struct sosie_store *store, struct sosie_err *err)
{
	char path[STORE_PATH], text[32] = "";
	struct sosie_file *f = NULL;
	size_t got = 0;
	if (store->keeper_lock)
		return 0;
	int rc = store_path(path, err, "%s/keeper.lock", store->path);
	if (!rc)
		rc = sosie_io_openat(store->io, path, SOSIE_READ | SOSIE_WRITE | SOSIE_CREATE, 0640, &f, err);
	if (!rc)
		rc = claim_lock(store, f, err);
	if (rc == -SOSIE_EBUSY) {
		sosie_io_pread(store->io, f, text, sizeof(text) - 1, 0, &got, NULL);
		sosie_err_set(err, SOSIE_EBUSY, "a keeper runs on the store %s: process %d", store->path,
		              atoi(text));
		rc = sosie_err_action(err, "one keeper serves a store; end that one first");
	}
	if (!rc)
		rc = sosie_io_truncate(store->io, f, 0, err);
	int n = snprintf(text, sizeof(text), "%d\n", (int)getpid());
	if (!rc)
		rc = sosie_io_pwrite(store->io, f, text, (size_t)n, 0, err);
	if (rc) {
		sosie_io_close(store->io, f, NULL);
		return rc;
	}
	store->keeper_lock = f;
	return 0;
}

static int start_group(struct sosie_group *g, struct store_memo *memo, struct sosie_err *err)
{
	int rc = memo->started ? 0 : outbox_start(g, err);
	memo->started |= !rc;
	return rc;
}

static void count(struct sosie_accept_result *out, enum accept_outcome outcome, const struct sosie_err *why)
{
	switch (outcome) {
	case ACCEPT_POINT:
	case ACCEPT_REPEAT:
		out->accepted++;
		break;
	case ACCEPT_ANSWERED:
		out->answered++;
		break;
	case ACCEPT_REFUSED:
		out->refused++;
		out->last = *why;
		break;
	case ACCEPT_WAITING:
		out->waiting++;
		out->last = *why;
		break;
	}
}

/* Is there time for another upload? The first is always taken. */
static bool goes_on(struct sosie_group *g, int64_t until_ms)
{
	return !sosie_group_wanted(g) && (until_ms == 0 || sosie_mono_ms(g->store->clock) < until_ms);
}

/* How much of what lies in the inbox is taken at once. */
struct share {
	int64_t until_ms; /* 0: for as long as it takes */
	unsigned uploads;
	bool fold; /* a generation too, when it is due */
};

/* One waits for room; those behind it build on it, and wait too. But what waits may be a claim of a sender
 * that is gone (its numbers are its word), which is not to keep the group from a living one that builds on
 * the same head: of those behind it the newest few are looked at. */
static int accept_beside(struct sosie_group *g, struct upload *list, unsigned n, int64_t until_ms,
                         struct sosie_accept_result *out, struct sosie_err *err)
{
	int rc = 0;
	for (unsigned i = 0; !rc && i < n && i < BESIDE_MAX && goes_on(g, until_ms); i++) {
		enum accept_outcome outcome = ACCEPT_WAITING;
		struct upload *u = &list[n - 1 - i];
		struct sosie_err why;
		u->beside = true;
		rc = accept_upload(g, u, &outcome, &why, err);
		if (!rc && outcome != ACCEPT_WAITING)
			count(out, outcome, &why);
		if (outcome == ACCEPT_POINT || u->wait_ms)
			break;
	}
	return rc;
}

static int accept_all(struct sosie_group *g, const struct share *share, struct sosie_accept_result *out,
                      struct sosie_err *err)
{
	struct upload *list;
	unsigned n, i = 0;
	int rc = upload_list(g, &list, &n, err);
	for (; !rc && i < n && i < share->uploads && goes_on(g, i ? share->until_ms : 0); i++) {
		enum accept_outcome outcome = ACCEPT_WAITING;
		struct sosie_err why;
		rc = accept_upload(g, &list[i], &outcome, &why, err);
		if (!rc)
			count(out, outcome, &why);
		out->wait_ms = list[i].wait_ms;
		if (!rc && outcome == ACCEPT_WAITING) {
			if (!out->wait_ms) /* else all of its tenant do */
				rc = accept_beside(g, list + i + 1, n - i - 1, share->until_ms, out, err);
			break;
		}
	}
	out->more = !rc && i < n;
	free(list);
	out->point = sosie_group_points(g);
	return rc;
}

int sosie_keeper_tenant(struct sosie_store *store, const char *tenant, struct sosie_err *err)
{
	uint64_t quota, used = 0;
	int rc = tenant_quota(store, tenant, &quota, err);
	if (!rc && quota)
		rc = tenant_usage(store, tenant, &used, err);
	if (!rc)
		rc = tenant_limits(store, tenant, quota, used, err);
	return rc ? rc : keys_mend(store, tenant, err);
}

int sosie_keeper_keys(struct sosie_store *store, const char *tenant, struct sosie_err *err)
{
	return keys_mend(store, tenant, err);
}

static int fold(struct sosie_group *g, struct sosie_accept_result *out)
{
	bool due = false;
	int rc = sosie_group_wanted(g) ? 0 : generation_due(g, &due, &out->last);
	return rc || !due ? rc : generation_make(g, NULL, &out->last);
}

static int work(struct sosie_group *g, struct store_memo *memo, const struct share *share,
                struct sosie_accept_result *out, struct sosie_err *err)
{
	int rc = start_group(g, memo, err), folded = 0;
	if (!rc)
		rc = accept_all(g, share, out, err);
	watch_take(g, out);
	if (!rc && out->accepted && share->fold)
		folded = fold(g, out); /* tried again after the next point; out->last says why not */
	if (!rc && (folded || out->accepted))
		watch_trouble(g->store, g->tenant.s, g->name.s, folded, &out->last);
	if (out->accepted + out->refused + out->answered) {
		sosie_keeper_tenant(g->store, g->tenant.s, NULL); /* no reason not to have accepted */
		outbox_trim(g, NULL);
	}
	return rc;
}

static int accept_share(struct sosie_store *store, const char *tenant, const char *group,
                        const struct share *share, struct sosie_accept_result *out, struct sosie_err *err)
{
	struct sosie_group *g = NULL;
	struct store_memo *memo;
	struct sosie_err mine;
	err = err ? err : &mine;
	memset(out, 0, sizeof(*out));
	int rc = quota_group(store, tenant, group, err);
	if (rc == -SOSIE_EQUOTA) {
		quota_met(store, tenant, err);
		out->waiting = 1;
		out->last = *err;
		return 0;
	}
	if (!rc)
		rc = memo_get(store, tenant, group, &memo, err);
	if (!rc)
		rc = group_make(store, tenant, group, err);
	if (!rc)
		rc = sosie_group_open(store, tenant, group, &g, err);
	if (!rc)
		rc = sosie_group_lock(g, PROGRAM, 0, err);
	if (!rc)
		rc = work(g, memo, share, out, err);
	sosie_group_close(g);
	if (rc)
		watch_trouble(store, tenant, group, rc, err);
	return rc;
}

int keeper_accept_within(struct sosie_store *store, const char *tenant, const char *group, int64_t limit_ms,
                         struct sosie_accept_result *out, struct sosie_err *err)
{
	const struct share share = {.until_ms = limit_ms ? sosie_mono_ms(store->clock) + limit_ms : 0,
	                            .uploads = limit_ms ? UINT_MAX : ROUND_UPLOADS,
	                            .fold = limit_ms == 0};
	return accept_share(store, tenant, group, &share, out, err);
}

int sosie_keeper_accept(struct sosie_store *store, const char *tenant, const char *group,
                        struct sosie_accept_result *out, struct sosie_err *err)
{
	return keeper_accept_within(store, tenant, group, 0, out, err);
}

int sosie_keeper_step(struct sosie_store *store, const char *tenant, const char *group,
                      struct sosie_accept_result *out, struct sosie_err *err)
{
	static const struct share one = {.uploads = 1, .fold = true};
	return accept_share(store, tenant, group, &one, out, err);
}

static int settle_head(struct sosie_group *g, struct store_memo *memo, struct sosie_err *err)
{
	uint64_t point;
	int state;
	if (memo->closed)
		return 0;
	int rc = head_state(g, &state, &point, err);
	if (!rc && state == SOSIE_HEAD_OPEN) {
		rc = sosie_group_lock(g, PROGRAM, 0, err);
		if (!rc)
			rc = head_clean(g, err);
		sosie_group_unlock(g);
	} else if (!rc) {
		memo_drop_head(memo); /* a cutover may have taken it: its images are not ours to hold open */
	}
	memo->closed = !rc;
	return rc;
}

int sosie_keeper_settle(struct sosie_store *store, const char *tenant, const char *group,
                        struct sosie_err *err)
{
	struct sosie_group *g = NULL;
	struct store_memo *memo;
	int rc = memo_get(store, tenant, group, &memo, err);
	if (!rc)
		refusal_audit(store, memo, false);
	if (store->home)
		confined_home_rest(store->home, sosie_mono_ms(store->clock));
	/* Opening reads the chain: not for nothing, for each group, every two seconds. */
	if (!rc && memo->closed && !same_waits(store, tenant, memo))
		return 0;
	if (!rc)
		rc = sosie_group_open(store, tenant, group, &g, err);
	if (!rc)
		rc = settle_head(g, memo, err);
	int same = g ? same_take(g, rc ? NULL : err) : 0;
	sosie_group_close(g);
	return rc ? rc : same;
}

int sosie_keeper_same(struct sosie_store *store, const char *tenant, const char *group, struct sosie_err *err)
{
	struct sosie_group *g = NULL;
	struct store_memo *memo;
	int rc = memo_get(store, tenant, group, &memo, err);
	if (rc || !same_waits(store, tenant, memo))
		return rc;
	rc = sosie_group_open(store, tenant, group, &g, err);
	if (!rc)
		rc = same_take(g, err);
	sosie_group_close(g);
	return rc;
}

struct due {
	struct sosie_store *store;
	const char *tenant;
	char dir[STORE_PATH];
	sosie_name_fn fn;
	void *arg;
	bool committed;
};

static int is_manifest(void *arg, const char *name, enum sosie_file_kind kind)
{
	size_t len = strlen(name);
	(void)kind;
	if (len != UPLOAD_HEX + 9 || strcmp(name + UPLOAD_HEX, ".manifest") != 0)
		return 0;
	((struct due *)arg)->committed = true;
	return 1;
}

static int look_group(void *arg, const char *name, enum sosie_file_kind kind)
{
	struct due *d = arg;
	struct sosie_name group;
	char path[STORE_PATH];
	if (kind != SOSIE_KIND_DIR || sosie_name_set(&group, SOSIE_NAME_GROUP, name, NULL))
		return 0;
	struct store_memo *memo = memo_find(d->store, d->tenant, name);
	d->committed = !memo || !memo->started;
	if (!d->committed && !store_path(path, NULL, "%s/%s", d->dir, name))
		sosie_io_list(d->store->io, path, is_manifest, d, NULL);
	return d->committed ? d->fn(d->arg, &group) : 0;
}

int sosie_keeper_due(struct sosie_store *store, const char *tenant, sosie_name_fn fn, void *arg,
                     struct sosie_err *err)
{
	struct due d = {.store = store, .tenant = tenant, .fn = fn, .arg = arg};
	int rc = store_path(d.dir, err, "%s/%s/_inbox", store->path, tenant);
	if (!rc)
		rc = sosie_io_list(store->io, d.dir, look_group, &d, err);
	return rc < 0 ? rc : 0;
}

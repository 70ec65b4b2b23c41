/* SPDX-License-Identifier: MIT */
/*
 * The group's lock: flock on state/lock, with "PID PROGRAM" inside for whoever has to be told. A waiter holds
 * state/want meanwhile; the holder of the lock probes that.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/store/core.h"

#define POLL_MS 20
#define PROBE_MS 50

static int open_state(struct sosie_group *g, const char *name, struct sosie_file **out, struct sosie_err *err)
{
	char path[STORE_PATH];
	int rc = store_path(path, err, "%s/state/%s", g->dir, name);
	return rc ? rc
	          : sosie_io_openat(g->store->io, path, SOSIE_READ | SOSIE_WRITE | SOSIE_CREATE, 0640, out,
	                            err);
}

static int held_by(struct sosie_group *g, struct sosie_file *f, struct sosie_err *err)
{
	char text[96] = "", shown[256];
	size_t got = 0;
	sosie_io_pread(g->store->io, f, text, sizeof(text) - 1, 0, &got, NULL);
	text[strcspn(text, "\n")] = '\0';
	sosie_err_set(err, SOSIE_EBUSY, "%s/%s is locked by process %s", g->tenant.s, g->name.s,
	              text[0] ? sosie_escape(shown, sizeof(shown), text, strlen(text)) : "(not named)");
	return sosie_err_action(err, "wait until it is done, or end that process");
}

static void wish(struct sosie_group *g)
{
	if (!g->want && open_state(g, "want", &g->want, NULL))
		return;
	sosie_io_lock(g->store->io, g->want, true, NULL);
}

static void unwish(struct sosie_group *g)
{
	sosie_io_close(g->store->io, g->want, NULL);
	g->want = NULL;
}

static int take(struct sosie_group *g, struct sosie_file *f, int64_t wait_ms, struct sosie_err *err)
{
	int64_t end = sosie_mono_ms(g->store->clock) + wait_ms;
	for (;;) {
		int rc = sosie_io_lock(g->store->io, f, true, err);
		if (rc != -SOSIE_EBUSY)
			return rc;
		if (sosie_mono_ms(g->store->clock) >= end)
			return held_by(g, f, err);
		wish(g);
		sosie_sleep_ms(g->store->clock, POLL_MS);
	}
}

static int sign(struct sosie_group *g, struct sosie_file *f, const char *program, struct sosie_err *err)
{
	char text[96];
	int n = snprintf(text, sizeof(text), "%d %.60s\n", (int)getpid(), program);
	int rc = sosie_io_truncate(g->store->io, f, 0, err);
	return rc ? rc : sosie_io_pwrite(g->store->io, f, text, (size_t)n, 0, err);
}

int group_chain_anew(struct sosie_group *g, struct sosie_err *err)
{
	char dir[STORE_PATH];
	struct sosie_digest genesis;
	struct sosie_chain *fresh;
	int rc = store_path(dir, err, "%s/chain", g->dir);
	if (rc)
		return rc;
	sosie_hash_start(g->hash, "sosie genesis1");
	sosie_hash_add(g->hash, g->store->info.id.b, sizeof(g->store->info.id.b));
	sosie_hash_add_text(g->hash, g->tenant.s);
	sosie_hash_add_text(g->hash, g->name.s);
	sosie_hash_end(g->hash, &genesis);
	rc = chain_open(g->store->io, g->store->clock, dir, &genesis, g->lock != NULL, &fresh, err);
	if (rc)
		return rc;
	chain_close(g->chain);
	g->chain = fresh;
	return 0;
}

/* What is odd about the known part is for a whole scan to judge; anything else failed for this call. */
int group_chain_again(struct sosie_group *g, struct sosie_err *err)
{
	if (!g->chain)
		g->chain = chain_cache_take(g->store, g->tenant.s, g->name.s);
	int rc = g->chain ? chain_read_on(g->chain, g->lock != NULL, err) : -SOSIE_ENOTFOUND;
	return rc == -SOSIE_ENOTFOUND || rc == -SOSIE_ECORRUPT ? group_chain_anew(g, err) : rc;
}

/* The lock holds as long as its name leads to it: a file that somebody removed would let a second holder in.
 */
static int check_name(struct sosie_group *g, struct sosie_file *f, struct sosie_err *err)
{
	char path[STORE_PATH];
	struct sosie_stat held, named;
	int rc = store_path(path, err, "%s/state/lock", g->dir);
	if (!rc)
		rc = sosie_io_fstat(g->store->io, f, &held, err);
	if (rc)
		return rc;
	if (!sosie_io_stat(g->store->io, path, &named, NULL) && named.ino == held.ino &&
	    named.dev == held.dev)
		return 0;
	sosie_err_set(err, SOSIE_EBUSY, "the lock of %s/%s was removed or replaced while it was taken",
	              g->tenant.s, g->name.s);
	return sosie_err_action(err, "leave %s alone, and try again", path);
}

int sosie_group_lock(struct sosie_group *g, const char *program, int64_t wait_ms, struct sosie_err *err)
{
	struct sosie_file *f = NULL;
	if (g->lock)
		return 0;
	int rc = open_state(g, "lock", &f, err);
	if (rc)
		return rc;
	rc = take(g, f, wait_ms, err);
	unwish(g);
	if (!rc)
		rc = check_name(g, f, err);
	if (!rc)
		rc = sign(g, f, program, err);
	if (rc) {
		sosie_io_close(g->store->io, f, NULL);
		return rc;
	}
	g->lock = f;
	rc = group_chain_again(g, err);
	if (rc)
		sosie_group_unlock(g);
	return rc;
}

void sosie_group_unlock(struct sosie_group *g)
{
	sosie_io_close(g->store->io, g->lock, NULL);
	g->lock = NULL;
}

bool sosie_group_wanted(struct sosie_group *g)
{
	int64_t now = sosie_mono_ms(g->store->clock);
	struct sosie_file *f = NULL;
	char path[STORE_PATH];
	if (g->wanted_ms && now - g->wanted_ms < PROBE_MS)
		return g->wanted;
	g->wanted_ms = now ? now : 1;
	g->wanted = false;
	if (store_path(path, NULL, "%s/state/want", g->dir) ||
	    sosie_io_openat(g->store->io, path, SOSIE_READ | SOSIE_WRITE, 0, &f, NULL))
		return false;
	g->wanted = sosie_io_lock(g->store->io, f, true, NULL) == -SOSIE_EBUSY;
	sosie_io_close(g->store->io, f, NULL);
	return g->wanted;
}

/* SPDX-License-Identifier: MIT */
/*
 * The reserve of free space. Blocks that a view holds and that the guest writes again cost space: long before
 * the guest would meet ENOSPC the views go. One thread for each filesystem, so that one that hangs hides
 * none; it looks again before what is free above the reserve could be gone, and ends when no group holds
 * views there any more.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "engine/mirror/internal.h"

#define NAP_MAX_MS 1000
#define NAP_MIN_MS 30
#define FILL_BYTES_MS 5000000 /* no guest fills a disk faster: 5 GB/s */
#define AGAIN_MS 500          /* while space stays short: a cut may have been under way */

static bool uses(const struct mirror_group *g, const struct mirror_fs *fs)
{
	for (unsigned i = 0; i < g->fs_count; i++)
		if (g->fs[i] == fs)
			return true;
	return false;
}

bool space_low(const struct mirror_group *g)
{
	for (unsigned i = 0; i < g->fs_count; i++)
		if (g->fs[i]->low)
			return true;
	return false;
}

/* --- one look
 * ----------------------------------------------------------------------------------------------------- */

static void let_go(struct mirror_group *g)
{
	if (g->driver[0] && strcmp(g->driver, "scan") != 0)
		__atomic_store_n(&g->let_views_go, true, __ATOMIC_RELAXED);
	heap_wake(g, false); /* to open another driver */
}

static void judge(struct mirror_fs *fs)
{
	uint64_t enough = fs->reserve_bytes + fs->reserve_bytes / 10;
	bool low = fs->free_bytes < (fs->low ? enough : fs->reserve_bytes);
	char is[32], reserve[32], text[600];

	if (low == fs->low)
		return;
	fs->low = low;
	fs->drops += low;
	sosie_size_text(is, sizeof(is), fs->free_bytes);
	sosie_size_text(reserve, sizeof(reserve), fs->reserve_bytes);
	snprintf(text, sizeof(text),
	         "%s free, below the %s of view_space: views are dropped, changes are found by "
	         "reading all",
	         is, reserve);
	alarm_set(fs->m, ALARM_SPACE, fs->path, low ? text : NULL);
	for (struct mirror_group *g = fs->m->groups; g; g = g->next)
		if (uses(g, fs) && low)
			let_go(g);
		else if (uses(g, fs) && g->rest_ms > mirror_now(g->m)) /* views may be held again */
			heap_wake(g, false);
}

static uint64_t reserve_of(const struct sosie_mirror *m, uint64_t total)
{
	const struct sosie_config *c = m->config->config;

	return c->view_bytes > 0 ? c->view_bytes : total / 100 * c->view_percent;
}

/* With the lock held. */
static void take(struct mirror_fs *fs, const struct statvfs *st)
{
	fs->free_bytes = (uint64_t)st->f_bavail * st->f_frsize;
	fs->total_bytes = (uint64_t)st->f_blocks * st->f_frsize;
	fs->reserve_bytes = reserve_of(fs->m, fs->total_bytes);
	fs->looked_ms = mirror_now(fs->m);
	judge(fs);
}

/* --- space that views hold: given back by this thread, because a cycle may be waiting for a standby
 * ------------------------------------------------------------------------------------------------------------
 */

struct holder {
	struct config_ref *ref;
	const struct sosie_config_group *config;
};

/* With the lock held. malloc'd; NULL where there is none. */
static struct holder *find_holders(struct mirror_fs *fs, unsigned *count)
{
	struct holder *list = calloc(fs->m->group_count + 1, sizeof(*list));

	*count = 0;
	for (struct mirror_group *g = fs->m->groups; list && g && *count < fs->m->group_count; g = g->next) {
		if (!uses(g, fs) || g->config->source == SOSIE_SOURCE_SCAN)
			continue;
		if (strcmp(g->driver, "scan") != 0)
			__atomic_store_n(&g->let_views_go, true, __ATOMIC_RELAXED);
		g->ref->refs++;
		list[(*count)++] = (struct holder){g->ref, g->config};
	}
	return list;
}

static void give_up(struct sosie_mirror *m, const struct sosie_config_group *c)
{
	char tag[SOSIE_MIRROR_TAG], line[1100];
	struct sosie_source_options o;
	struct sosie_err err = {0};

	if (sosie_mirror_source(c, tag, &o, &err) == 0 && sosie_source_give_up(&o, &err) == 0)
		return;
	pthread_mutex_lock(&m->lock);
	mirror_say(m, SOSIE_LOG_WARNING, "%s/%s: space that its views hold cannot be given back: %s",
	           c->tenant.s, c->group.s, sosie_err_line(&err, line, sizeof(line)));
	pthread_mutex_unlock(&m->lock);
}

/* With the lock held, which is let go meanwhile. */
static void give_up_all(struct mirror_fs *fs)
{
	struct sosie_mirror *m = fs->m;
	unsigned count;
	struct holder *list = find_holders(fs, &count);

	pthread_mutex_unlock(&m->lock);
	for (unsigned i = 0; i < count; i++)
		give_up(m, list[i].config);
	pthread_mutex_lock(&m->lock);
	for (unsigned i = 0; i < count; i++)
		config_ref_drop(list[i].ref);
	free(list);
	fs->given_up_ms = mirror_now(m);
}

/* --- the watcher
 * -------------------------------------------------------------------------------------------------- */

struct mount {
	uint64_t id, dev; /* numbers of mounts are given again: both */
	bool file;        /* what the path leads to is a regular file */
};

static bool mount_of(const char *path, struct mount *out)
{
	struct statx stx;

	if (statx(AT_FDCWD, path, 0, STATX_TYPE | STATX_MNT_ID, &stx) != 0)
		return false;
	out->dev = (uint64_t)stx.stx_dev_major << 32 | stx.stx_dev_minor;
	out->id = stx.stx_mask & STATX_MNT_ID ? stx.stx_mnt_id : out->dev;
	out->file = S_ISREG(stx.stx_mode);
	return true;
}

/* The folder of an absolute path. */
static void folder_of(const char *file, char path[4096])
{
	char *slash;

	snprintf(path, 4096, "%s", file);
	slash = strrchr(path, '/');
	if (slash)
		slash[slash == path] = '\0';
}

static bool is_there(const struct mirror_fs *fs)
{
	struct mount at;

	return mount_of(fs->path, &at) && at.id == fs->id;
}

/* With the lock held. Groups that lie elsewhere now find that at their next turn. */
static void leave(struct mirror_fs *fs)
{
	fs->gone = true;
	fs->low = false;
	alarm_set(fs->m, ALARM_SPACE, fs->path, NULL);
}

/* With the lock held. Groups that leave drop their views at their next turn. */
static bool is_used(const struct mirror_fs *fs)
{
	if (fs->finders > 0)
		return true;
	for (const struct mirror_group *g = fs->m->groups; g; g = g->next)
		if (!g->leaving && uses(g, fs))
			return true;
	return false;
}

static int64_t nap_ms(const struct mirror_fs *fs)
{
	uint64_t above = fs->free_bytes > fs->reserve_bytes ? fs->free_bytes - fs->reserve_bytes : 0,
	         ms = above / FILL_BYTES_MS;

	if (fs->looked_ms < 0 || ms > NAP_MAX_MS)
		return NAP_MAX_MS;
	return ms > NAP_MIN_MS ? (int64_t)ms : NAP_MIN_MS;
}

/* With the lock held, which is let go meanwhile. False: nobody needs this watcher any more. */
static bool watch_once(struct mirror_fs *fs)
{
	struct sosie_mirror *m = fs->m;
	struct statvfs st;
	bool there;
	int rc;

	pthread_mutex_unlock(&m->lock);
	there = is_there(fs);
	rc = statvfs(fs->path, &st);
	pthread_mutex_lock(&m->lock);
	if (!there || !is_used(fs))
		return false;
	if (rc == 0)
		take(fs, &st);
	if (rc == 0 && fs->low && (fs->given_up_ms == 0 || mirror_now(m) - fs->given_up_ms >= AGAIN_MS))
		give_up_all(fs);
	if (!fs->low)
		fs->given_up_ms = 0;
	return true;
}

static void *watcher_run(void *arg)
{
	struct mirror_fs *fs = arg;
	struct sosie_mirror *m = fs->m;

	pthread_mutex_lock(&m->lock);
	for (;;) {
		mirror_wait(m, &m->space_wake, mirror_now(m) + nap_ms(fs));
		if (m->stopping)
			break;
		if (!watch_once(fs)) {
			leave(fs);
			break;
		}
	}
	mirror_thread_ended(m);
	pthread_mutex_unlock(&m->lock);
	return NULL;
}

/* --- which filesystems a group's views lie on
 * ---------------------------------------------------------------------- */

/* With the lock held. */
static struct mirror_fs *find(struct sosie_mirror *m, const struct mount *at)
{
	struct mirror_fs *fs = m->filesystems;

	while (fs && (fs->gone || fs->id != at->id || fs->dev != at->dev))
		fs = fs->next;
	return fs;
}

/* With the lock held. Frees those that are gone (their watchers have ended) and in no group's list. */
static void forget_gone(struct sosie_mirror *m)
{
	struct mirror_fs **at = &m->filesystems;

	while (*at) {
		struct mirror_fs *fs = *at;
		bool used = !fs->gone || fs->finders > 0;

		for (const struct mirror_group *g = m->groups; g && !used; g = g->next)
			used = uses(g, fs);
		if (used) {
			at = &fs->next;
			continue;
		}
		*at = fs->next;
		free(fs);
	}
}

/* With the lock held. The caller is a finder of *out from then on. */
static int watch(struct sosie_mirror *m, const char *path, const struct mount *at, struct mirror_fs **out,
                 struct sosie_err *err)
{
	struct mirror_fs *fs;
	int rc;

	forget_gone(m);
	fs = *out = find(m, at);
	if (fs) {
		fs->finders++;
		return 0;
	}
	fs = calloc(1, sizeof(*fs));
	if (!fs)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for a filesystem");
	fs->m = m;
	fs->id = at->id;
	fs->dev = at->dev;
	fs->looked_ms = -1;
	fs->finders = 1;
	snprintf(fs->path, sizeof(fs->path), "%s", path);
	rc = m->stopping ? sosie_err_set(err, SOSIE_EINTR, "stopped")
	                 : mirror_thread(m, watcher_run, fs, err);
	if (rc != 0) {
		free(fs);
		return rc;
	}
	fs->next = m->filesystems;
	m->filesystems = *out = fs;
	return 0;
}

struct found {
	struct mirror_fs **list; /* becomes the group's */
	struct statvfs *space;   /* of each */
	unsigned count;
	bool missing;
	uint64_t first; /* mount of the first volume, 0: not there */
};

static void release(struct sosie_mirror *m, struct mirror_fs *fs)
{
	pthread_mutex_lock(&m->lock);
	fs->finders--;
	pthread_mutex_unlock(&m->lock);
}

static int find_volume(struct mirror_group *g, unsigned volume, struct found *f, struct sosie_err *err)
{
	const struct sosie_volume *v = &g->config->volumes[volume];
	struct mount at;
	char path[4096];
	struct statvfs st;
	int rc;

	if (!mount_of(v->path, &at)) {
		f->missing = true;
		return 0;
	}
	f->first = volume == 0 ? at.id : f->first;
	if (!at.file)
		return 0;
	folder_of(v->path, path);
	if (statvfs(path, &st) != 0) {
		f->missing = true;
		return 0;
	}
	pthread_mutex_lock(&g->m->lock);
	rc = watch(g->m, path, &at, &f->list[f->count], err);
	pthread_mutex_unlock(&g->m->lock);
	if (rc != 0)
		return rc;
	for (unsigned i = 0; i < f->count; i++)
		if (f->list[i] == f->list[f->count]) {
			release(g->m, f->list[i]);
			return 0;
		}
	f->space[f->count++] = st;
	return 0;
}

/* So that the first cut already knows. */
static void take_found(struct mirror_group *g, const struct found *f)
{
	pthread_mutex_lock(&g->m->lock);
	free(g->fs);
	g->fs = f->list;
	g->fs_count = f->count;
	for (unsigned i = 0; i < f->count; i++) {
		f->list[i]->finders--;
		if (!f->list[i]->gone)
			take(f->list[i], &f->space[i]);
	}
	pthread_mutex_unlock(&g->m->lock);
	g->fs_missing = f->missing;
	g->fs_mount = f->first;
}

/* The list may have become another: the source is opened, a volume was missing, something was mounted over
 * the first one, a filesystem went away. */
static bool is_doubtful(struct mirror_group *g)
{
	bool gone = false;
	struct mount at;

	if (!g->fs || !g->replicator || g->fs_missing)
		return true;
	pthread_mutex_lock(&g->m->lock);
	for (unsigned i = 0; i < g->fs_count; i++)
		gone = gone || g->fs[i]->gone;
	pthread_mutex_unlock(&g->m->lock);
	return gone || (mount_of(g->config->volumes[0].path, &at) && at.id != g->fs_mount);
}

int space_find(struct mirror_group *g, struct sosie_err *err)
{
	struct found f = {0};
	int rc = 0;

	if (!is_doubtful(g))
		return 0;
	f.list = calloc(g->config->volume_count + 1, sizeof(struct mirror_fs *));
	f.space = calloc(g->config->volume_count + 1, sizeof(*f.space));
	if (!f.list || !f.space)
		rc = sosie_err_set(err, SOSIE_ENOMEM, "no memory for a list of filesystems");
	for (unsigned i = 0; rc == 0 && i < g->config->volume_count; i++)
		rc = find_volume(g, i, &f, err);
	if (rc == 0)
		take_found(g, &f);
	for (unsigned i = 0; rc != 0 && i < f.count; i++)
		release(g->m, f.list[i]);
	if (rc != 0)
		free(f.list);
	free(f.space);
	return rc;
}

void space_forget(struct mirror_group *g)
{
	if (!g->fs)
		return;
	pthread_mutex_lock(&g->m->lock);
	free(g->fs);
	g->fs = NULL;
	g->fs_count = 0;
	pthread_mutex_unlock(&g->m->lock);
}

/* SPDX-License-Identifier: MIT */
/*
 * The scan driver: any file or block device; everything may have changed, holes are told as holes.
 *
 * A cut with --freeze runs freeze and stays frozen until release (with --view: until the view is made); a
 * watchdog thread thaws at the limit even when the reader hangs. The label is decided in release, after thaw:
 * within the limit `app`; a view without freeze `crash`; else `fuzzy`. Lock: view->lock guards frozen, passed
 * and done, and is held while thaw runs, so that thaw runs exactly once.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/source/hooks.h"
#include "sosie/source.h"

#define FREEZE_LIMIT_MS 30000u
#define HOOK_LIMIT_MS 60000u

struct scan {
	struct sosie_source base;
	const struct sosie_volume *volumes;
	unsigned count;
	struct sosie_hooks hooks;
	struct hook_env env;
	struct sosie_io *io; /* of cut only */
};

struct sosie_view {
	struct scan *scan;
	struct guardian guardian;
	char **paths; /* of the view; NULL each without one */
	uint64_t *sizes;
	bool view_owed;
	bool watched; /* the watchdog runs */
	pthread_t watchdog;
	pthread_mutex_t lock;
	pthread_cond_t ended;
	bool frozen, passed, done;
	struct timespec deadline; /* CLOCK_MONOTONIC */
	int thaw_rc;
	struct sosie_err thaw_err;
};

/* --- freeze and thaw
 * --------------------------------------------------------------------------------------------------- */

/* With the lock held. */
static void thaw(struct sosie_view *v)
{
	struct scan *s = v->scan;

	if (!v->frozen)
		return;
	v->frozen = false;
	v->thaw_rc = hook_run(&v->guardian, &s->env, "thaw", s->hooks.thaw, s->hooks.hook_limit_ms, NULL,
	                      &v->thaw_err);
	if (v->thaw_rc != 0)
		sosie_err_action(&v->thaw_err, "the volumes may still be frozen: thaw them by hand, now");
	else
		guardian_tell(&v->guardian, GUARDIAN_THAWED, 0);
}

static void *watch(void *arg)
{
	struct sosie_view *v = arg;

	pthread_mutex_lock(&v->lock);
	while (!v->done && pthread_cond_timedwait(&v->ended, &v->lock, &v->deadline) != ETIMEDOUT)
		;
	if (v->frozen && !v->done) {
		v->passed = true;
		thaw(v);
	}
	pthread_mutex_unlock(&v->lock);
	return NULL;
}

static void end_freeze(struct sosie_view *v)
{
	struct timespec now;

	pthread_mutex_lock(&v->lock);
	clock_gettime(CLOCK_MONOTONIC, &now);
	if (v->frozen && (now.tv_sec > v->deadline.tv_sec ||
	                  (now.tv_sec == v->deadline.tv_sec && now.tv_nsec >= v->deadline.tv_nsec)))
		v->passed =
		        true; /* all was frozen, but longer than was allowed: the watchdog only was late */
	v->done = true;
	thaw(v);
	pthread_cond_signal(&v->ended);
	pthread_mutex_unlock(&v->lock);
	if (v->watched)
		pthread_join(v->watchdog, NULL);
	v->watched = false;
}

static void set_deadline(struct sosie_view *v)
{
	uint64_t ms = v->scan->hooks.freeze_limit_ms;

	clock_gettime(CLOCK_MONOTONIC, &v->deadline);
	v->deadline.tv_sec += (time_t)(ms / 1000);
	v->deadline.tv_nsec += (long)(ms % 1000) * 1000000;
	if (v->deadline.tv_nsec >= 1000000000) {
		v->deadline.tv_nsec -= 1000000000;
		v->deadline.tv_sec++;
	}
}

static int freeze(struct sosie_view *v, struct sosie_err *err)
{
	const struct sosie_hooks *h = &v->scan->hooks;
	uint64_t limit = h->freeze_limit_ms < h->hook_limit_ms ? h->freeze_limit_ms : h->hook_limit_ms;
	int rc;

	if (!h->freeze)
		return 0;
	guardian_tell(&v->guardian, GUARDIAN_OWE_THAW, 0);
	v->frozen = true; /* thawed also when it failed: it may have done half of its work */
	set_deadline(v);
	rc = hook_run(&v->guardian, &v->scan->env, "freeze", h->freeze, limit, NULL, err);
	if (rc != 0)
		return rc;
	if (pthread_create(&v->watchdog, NULL, watch, v) != 0)
		return sosie_err_set(err, SOSIE_ENOMEM, "no thread to limit the freeze");
	v->watched = true;
	return 0;
}

/* --- view
 * ----------------------------------------------------------------------------------------------------------------
 */

static int make_view(struct sosie_view *v, struct sosie_err *err)
{
	struct scan *s = v->scan;
	char *text = NULL;
	int rc;

	if (!s->hooks.view)
		return 0;
	v->view_owed = s->hooks.view_done != NULL;
	if (v->view_owed)
		guardian_tell(&v->guardian, GUARDIAN_OWE_VIEW, 0);
	rc = hook_run(&v->guardian, &s->env, "view", s->hooks.view, s->hooks.hook_limit_ms, &text, err);
	if (rc == 0) {
		end_freeze(v);
		rc = hook_view_parse(text, s->volumes, s->count, v->paths, err);
	}
	free(text);
	return rc;
}

static int end_view(struct sosie_view *v, struct sosie_err *err)
{
	struct scan *s = v->scan;
	int rc;

	if (!v->view_owed)
		return 0;
	rc = hook_run(&v->guardian, &s->env, "view-done", s->hooks.view_done, s->hooks.hook_limit_ms, NULL,
	              err);
	guardian_tell(&v->guardian, GUARDIAN_VIEW_DONE, 0);
	return rc;
}

static const char *path_of(const struct sosie_view *v, unsigned i)
{
	return v->paths[i] ? v->paths[i] : v->scan->volumes[i].path;
}

static int measure(struct sosie_view *v, unsigned i, struct sosie_err *err)
{
	struct sosie_io *io = v->scan->io;
	struct sosie_file *file;
	struct sosie_stat st;
	int rc = sosie_io_openat(io, path_of(v, i), SOSIE_READ | SOSIE_DEVICE | SOSIE_FOLLOW, 0, &file, err);

	if (rc == 0) {
		rc = sosie_io_fstat(io, file, &st, err);
		sosie_io_close(io, file, NULL);
	}
	if (rc != 0)
		return sosie_err_wrap(err, "%s of volume %s", v->paths[i] ? "view" : "source",
		                      v->scan->volumes[i].name.s);
	v->sizes[i] = st.size;
	return 0;
}

/* --- the seam
 * --------------------------------------------------------------------------------------------------------------
 */

static void view_free(struct sosie_view *v)
{
	for (unsigned i = 0; v->paths && i < v->scan->count; i++)
		free(v->paths[i]);
	free(v->paths);
	free(v->sizes);
	pthread_cond_destroy(&v->ended);
	pthread_mutex_destroy(&v->lock);
	free(v);
}

static struct sosie_view *view_new(struct scan *s)
{
	struct sosie_view *v = calloc(1, sizeof(*v));
	pthread_condattr_t attr;

	if (!v)
		return NULL;
	v->scan = s;
	v->guardian.pipe = -1;
	pthread_mutex_init(&v->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&v->ended, &attr);
	pthread_condattr_destroy(&attr);
	v->paths = calloc(s->count, sizeof(*v->paths));
	v->sizes = calloc(s->count, sizeof(*v->sizes));
	if (v->paths && v->sizes)
		return v;
	view_free(v);
	return NULL;
}

static int scan_release(struct sosie_view *v, enum sosie_consistency *consistency, struct sosie_err *err)
{
	const struct sosie_hooks *h = &v->scan->hooks;
	int rc, rc_view;

	end_freeze(v);
	rc = v->thaw_rc;
	if (rc != 0 && err)
		*err = v->thaw_err;
	rc_view = end_view(v, rc == 0 ? err : NULL);
	guardian_stop(&v->guardian);
	if (v->passed || (!h->freeze && !h->view))
		*consistency = SOSIE_CONSISTENCY_FUZZY;
	else
		*consistency = h->freeze ? SOSIE_CONSISTENCY_APP : SOSIE_CONSISTENCY_CRASH;
	view_free(v);
	return rc != 0 ? rc : rc_view;
}

static int scan_cut(struct sosie_source *source, struct sosie_view **out, struct sosie_err *err)
{
	struct scan *s = (struct scan *)source;
	struct sosie_view *v = view_new(s);
	enum sosie_consistency ignored;
	int rc;

	*out = NULL;
	if (!v)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for a view");
	rc = guardian_start(&v->guardian, &s->hooks, &s->env, err);
	if (rc == 0)
		rc = freeze(v, err);
	if (rc == 0)
		rc = make_view(v, err);
	for (unsigned i = 0; rc == 0 && i < s->count; i++)
		rc = measure(v, i, err);
	if (rc != 0) {
		scan_release(v, &ignored, NULL);
		return rc;
	}
	*out = v;
	return 0;
}

static int scan_path(struct sosie_view *v, unsigned volume, const char **path, uint64_t *size,
                     struct sosie_err *err)
{
	if (volume >= v->scan->count)
		return sosie_err_set(err, SOSIE_EINTERNAL, "volume %u of %u", volume, v->scan->count);
	*path = path_of(v, volume);
	*size = v->sizes[volume];
	return 0;
}

static int shrank(const struct sosie_view *v, unsigned volume, struct sosie_err *err)
{
	sosie_err_set(err, SOSIE_ESHRUNK, "volume %s became smaller while it was read",
	              v->scan->volumes[volume].name.s);
	sosie_err_where(err, "%s", path_of(v, volume));
	return sosie_err_action(err, "nothing was committed; run again when its size no longer changes");
}

static int scan_next(struct sosie_view *v, unsigned volume, struct sosie_io *io, struct sosie_file *file,
                     uint64_t from, struct sosie_extent *out, struct sosie_err *err)
{
	uint64_t start, end, size = v->sizes[volume];
	int rc;

	*out = (struct sosie_extent){SOSIE_EXTENT_END, size, size};
	if (from >= size)
		return 0;
	rc = sosie_io_next_data(io, file, from, &start, &end, err);
	if (rc != 0)
		return rc;
	if (start >= end && end < size)
		return shrank(v, volume, err);
	if (start > from)
		*out = (struct sosie_extent){SOSIE_EXTENT_HOLE, from, start < size ? start : size};
	else
		*out = (struct sosie_extent){SOSIE_EXTENT_DATA, from, end < size ? end : size};
	return 0;
}

static void scan_destroy(struct sosie_source *source)
{
	struct scan *s = (struct scan *)source;

	if (!s)
		return;
	hook_env_fini(&s->env);
	sosie_io_free(s->io);
	free(s);
}

static const struct sosie_source_ops scan_ops = {
        .name = "scan",
        .cut = scan_cut,
        .path = scan_path,
        .next = scan_next,
        .release = scan_release,
        .destroy = scan_destroy,
};

static int check_hooks(const struct sosie_hooks *h, struct sosie_err *err)
{
	if (!h->freeze != !h->thaw)
		return sosie_err_set(err, SOSIE_EUSAGE,
		                     "--freeze and --thaw come together: one without the other is given");
	if (h->view_done && !h->view)
		return sosie_err_set(err, SOSIE_EUSAGE, "--view-done without --view");
	return 0;
}

int sosie_scan(const struct sosie_volume *volumes, unsigned count, const struct sosie_hooks *hooks,
               const char *group, struct sosie_clock *clock, struct sosie_source **out, struct sosie_err *err)
{
	struct scan *s = calloc(1, sizeof(*s));
	int rc;

	(void)clock; /* hooks run in real time, whatever the replication's clock is */
	*out = NULL;
	if (!s)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for the scan driver");
	s->base.ops = &scan_ops;
	s->volumes = volumes;
	s->count = count;
	s->hooks = hooks ? *hooks : (struct sosie_hooks){0};
	s->hooks.freeze_limit_ms = s->hooks.freeze_limit_ms ? s->hooks.freeze_limit_ms : FREEZE_LIMIT_MS;
	s->hooks.hook_limit_ms = s->hooks.hook_limit_ms ? s->hooks.hook_limit_ms : HOOK_LIMIT_MS;
	rc = check_hooks(&s->hooks, err);
	if (rc == 0)
		rc = hook_env_init(&s->env, group, volumes, count, err);
	if (rc == 0)
		rc = sosie_io_posix(&s->io, err);
	if (rc != 0)
		scan_destroy(&s->base);
	else
		*out = &s->base;
	return rc;
}

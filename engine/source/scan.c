/* SPDX-License-Identifier: MIT */
/*
 * The scan driver: any file or block device; everything may have changed, holes are told as holes.
 *
 * The freeze command holds the writers until release (with --view: until the view is made); a watchdog thread
 * lets them go at the limit even when the reader hangs. A pause (cgroup, monitor) is used around a view
 * command only: to read all takes too long to hold writers for it, so that without a view such a point is
 * fuzzy. The label is decided in release, afterwards: freeze within the limit `app`; a view `crash`; else
 * `fuzzy`. Lock: view->lock guards the pause, passed and done, and is held while writers are let go, so that
 * this happens exactly once. One view at a time.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/source/pause.h"
#include "engine/source/places.h"
#include "engine/source/scan.h"
#include "sosie/thread.h"

struct scan {
	struct sosie_source base;
	const struct sosie_volume *volumes;
	unsigned count;
	struct pause pause;
	char prefix[PREFIX_SIZE]; /* of leftover views; empty: none are looked for */
	struct sosie_io *io;      /* of cut only */
	bool viewed;              /* a view lives */
};

struct sosie_view {
	struct scan *scan;
	char **paths; /* of the view; NULL each without one */
	uint64_t *sizes;
	bool view_owed;
	bool watched; /* the watchdog runs */
	pthread_t watchdog;
	pthread_mutex_t lock;
	pthread_cond_t ended;
	bool passed, done;
	struct timespec deadline; /* CLOCK_MONOTONIC */
	int thaw_rc;
	struct sosie_err thaw_err;
};

/* --- holding writers
 * --------------------------------------------------------------------------------------------------- */

/* With the lock held. */
static void let_go(struct sosie_view *v)
{
	bool passed;
	int rc = pause_let_go(&v->scan->pause, &passed, &v->thaw_err);

	v->passed |= passed;
	v->thaw_rc = rc != 0 ? rc : v->thaw_rc;
}

static void *watch(void *arg)
{
	struct sosie_view *v = arg;

	pthread_mutex_lock(&v->lock);
	while (!v->done && pthread_cond_timedwait(&v->ended, &v->lock, &v->deadline) != ETIMEDOUT)
		;
	if (!v->done)
		let_go(v);
	pthread_mutex_unlock(&v->lock);
	return NULL;
}

static void end_freeze(struct sosie_view *v)
{
	pthread_mutex_lock(&v->lock);
	v->done = true;
	let_go(v);
	pthread_cond_signal(&v->ended);
	pthread_mutex_unlock(&v->lock);
	if (v->watched)
		pthread_join(v->watchdog, NULL);
	v->watched = false;
}

static int freeze(struct sosie_view *v, struct sosie_err *err)
{
	struct pause *p = &v->scan->pause;
	int rc = pause_hold(p, err);

	if (rc != 0 || p->kind == SOSIE_PAUSE_NONE)
		return rc;
	v->deadline = (struct timespec){p->deadline_ns / 1000000000, (long)(p->deadline_ns % 1000000000)};
	if (sosie_thread_start(&v->watchdog, NULL, watch, v) != 0)
		return sosie_err_set(err, SOSIE_ENOMEM, "no thread to limit the freeze");
	v->watched = true;
	return 0;
}

/* --- view
 * ----------------------------------------------------------------------------------------------------------------
 */

/* The watchdog may tell the guardian at the same time that the writers have been let go. */
static int owe_view(struct sosie_view *v, struct sosie_err *err)
{
	int rc;

	v->view_owed = true;
	pthread_mutex_lock(&v->lock);
	rc = guardian_owe(&v->scan->pause.guardian, GUARDIAN_OWE_VIEW, 0, -1, err);
	pthread_mutex_unlock(&v->lock);
	return rc;
}

static int make_view(struct sosie_view *v, struct sosie_err *err)
{
	struct scan *s = v->scan;
	const struct sosie_hooks *h = &s->pause.hooks;
	char *text = NULL;
	int rc;

	if (!h->view)
		return 0;
	rc = h->view_done ? owe_view(v, err) : 0;
	if (rc == 0)
		rc = hook_run(&s->pause.guardian, &s->pause.env, "view", h->view, h->hook_limit_ms, &text,
		              err);
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
	rc = hook_run(&s->pause.guardian, &s->pause.env, "view-done", s->pause.hooks.view_done,
	              s->pause.hooks.hook_limit_ms, NULL, err);
	guardian_paid(&s->pause.guardian, GUARDIAN_VIEW_DONE);
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

static enum sosie_consistency label_of(const struct sosie_view *v)
{
	const struct pause *p = &v->scan->pause;

	if (v->passed || (p->kind == SOSIE_PAUSE_NONE && !p->hooks.view))
		return SOSIE_CONSISTENCY_FUZZY;
	return p->kind == SOSIE_PAUSE_COMMANDS ? SOSIE_CONSISTENCY_APP : SOSIE_CONSISTENCY_CRASH;
}

/* Nothing of a scan can be kept. */
static int scan_release(struct sosie_view *v, bool keep, enum sosie_consistency *consistency,
                        struct sosie_err *err)
{
	int rc, rc_view;

	(void)keep;
	end_freeze(v);
	rc = v->thaw_rc;
	if (rc != 0 && err)
		*err = v->thaw_err;
	rc_view = end_view(v, rc == 0 ? err : NULL);
	*consistency = label_of(v);
	v->scan->viewed = false;
	view_free(v);
	return rc != 0 ? rc : rc_view;
}

static int scan_cut(struct sosie_source *source, const struct sosie_view_id *base, struct sosie_view **out,
                    struct sosie_err *err)
{
	struct scan *s = (struct scan *)source;
	struct sosie_view *v;
	enum sosie_consistency ignored;
	int rc;

	(void)base;
	*out = NULL;
	if (s->viewed)
		return sosie_err_set(err, SOSIE_EINTERNAL, "a second view of a scan while the first lives");
	v = view_new(s);
	if (!v)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for a view");
	s->viewed = true;
	rc = freeze(v, err);
	if (rc == 0)
		rc = make_view(v, err);
	for (unsigned i = 0; rc == 0 && i < s->count; i++)
		rc = measure(v, i, err);
	if (rc != 0) {
		scan_release(v, false, &ignored, NULL);
		return rc;
	}
	*out = v;
	return 0;
}

/* Leftovers of a driver that was used before. */
static int scan_settle(struct sosie_source *source, const struct sosie_view_id *ids, unsigned count,
                       bool *held, struct sosie_err *err)
{
	struct scan *s = (struct scan *)source;
	int rc = 0;

	for (unsigned i = 0; i < count; i++)
		held[i] = false;
	for (unsigned i = 0; s->prefix[0] && rc == 0 && i < s->count; i++) {
		struct place place;

		if (place_find(&s->volumes[i], &place, NULL) ==
		    0) /* one that is gone has no views to look for */
			rc = place_sweep(&place, s->prefix, ids, count, err);
	}
	return rc;
}

static int scan_drop(struct sosie_source *source, const struct sosie_view_id *id, struct sosie_err *err)
{
	struct scan *s = (struct scan *)source;
	int rc = 0;

	for (unsigned i = 0; s->prefix[0] && rc == 0 && i < s->count; i++) {
		struct place place;

		if (place_find(&s->volumes[i], &place, NULL) == 0)
			rc = place_remove(&place, s->prefix, id, err);
	}
	return rc;
}

static bool scan_unchanged(struct sosie_source *source, const struct sosie_view_id *id)
{
	(void)source;
	(void)id;
	return false;
}

static int scan_facts(struct sosie_source *source, struct sosie_cut_facts *out, struct sosie_err *err)
{
	(void)source;
	(void)err;
	*out = (struct sosie_cut_facts){.stall_us = -1, .last_us = -1, .last_predicted_us = -1};
	return 0;
}

static int scan_reopen(struct sosie_source *source, const struct sosie_view_id *base,
                       const struct sosie_view_id *id, struct sosie_view **view, struct sosie_err *err)
{
	(void)source;
	(void)base;
	*view = NULL;
	return sosie_err_set(err, SOSIE_ENOTFOUND, "the scan driver keeps no views, so none is called %s",
	                     id->s[0] ? id->s : "nothing");
}

static void scan_id(const struct sosie_view *view, struct sosie_view_id *out)
{
	(void)view;
	out->s[0] = '\0';
}

static const char *scan_base_path(struct sosie_view *view, unsigned volume, uint64_t *size)
{
	(void)view;
	(void)volume;
	*size = 0;
	return NULL;
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
	sosie_err_action(err, "nothing was committed; run again when its size no longer changes");
	return -SOSIE_ESHRUNK;
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
	pause_fini(&s->pause);
	sosie_io_free(s->io);
	free(s);
}

static const struct sosie_source_ops scan_ops = {
        .name = "scan",
        .settle = scan_settle,
        .unchanged = scan_unchanged,
        .facts = scan_facts,
        .cut = scan_cut,
        .reopen = scan_reopen,
        .id = scan_id,
        .path = scan_path,
        .base_path = scan_base_path,
        .next = scan_next,
        .release = scan_release,
        .drop = scan_drop,
        .destroy = scan_destroy,
};

bool scan_pauses(const struct sosie_source_options *o)
{
	bool holds = o->pause.kind == SOSIE_PAUSE_CGROUP || o->pause.kind == SOSIE_PAUSE_QMP;

	return !holds || (o->hooks && o->hooks->view);
}

int scan_open(const struct sosie_source_options *o, struct sosie_source **out, struct sosie_err *err)
{
	struct sosie_source_options used = *o;
	struct scan *s = calloc(1, sizeof(*s));
	int rc;

	*out = NULL;
	if (!s)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for the scan driver");
	if (!scan_pauses(o) && !(o->hooks && o->hooks->freeze)) /* both is refused below */
		used.pause = (struct sosie_pause){.kind = SOSIE_PAUSE_NONE};
	s->base.ops = &scan_ops;
	s->volumes = o->volumes;
	s->count = o->count;
	rc = pause_init(&s->pause, &used, true, err);
	if (rc == 0 && o->tenant && o->tag)
		rc = prefix_make(s->prefix, o, err);
	if (rc == 0)
		rc = sosie_io_posix(&s->io, err);
	if (rc != 0)
		scan_destroy(&s->base);
	else
		*out = &s->base;
	return rc;
}

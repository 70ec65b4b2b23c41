/* SPDX-License-Identifier: MIT */
/* Views that are kept, and what has changed between two of them. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/source/views.h"
#include "sosie/tree.h"

/* A changed range up to this is read without asking for holes in it: asking costs more than reading, and the
 * reader finds zeros by itself. */
#define SHORT_BYTES 65536u
#define COUNT_GOOD_NS 1000000000ll

/* --- stamps
 * -------------------------------------------------------------------------------------------------- */

static void stamp_fill(const struct stat *st, struct stamp *out)
{
	out->dev = st->st_dev;
	out->ino = st->st_ino;
	out->size = (uint64_t)st->st_size;
	out->ctime_ns = (int64_t)st->st_ctim.tv_sec * 1000000000 + st->st_ctim.tv_nsec;
}

bool stamp_of(const char *path, struct stamp *out)
{
	struct stat st;

	if (stat(path, &st) != 0 || !S_ISREG(st.st_mode))
		return false;
	stamp_fill(&st, out);
	return true;
}

static bool stamp_equal(const struct stamp *a, const struct stamp *b)
{
	return a->dev == b->dev && a->ino == b->ino && a->size == b->size && a->ctime_ns == b->ctime_ns;
}

bool stamp_is_quiet(const struct stamp *s, int64_t begun_ns)
{
	return s->ctime_ns < begun_ns - QUIET_NS;
}

void flush_before(int fd)
{
	(void)sync_file_range(
	        fd, 0, 0, SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
}

/* --- the source
 * ---------------------------------------------------------------------------------------------- */

static void stalls_names(const struct tracked *t, char name[VIEW_NAME_SIZE], char temporary[VIEW_NAME_SIZE])
{
	snprintf(name, VIEW_NAME_SIZE, "%s%c.stalls", t->prefix, t->ops->letter);
	snprintf(temporary, VIEW_NAME_SIZE, "~%s%c.stalls", t->prefix, t->ops->letter);
}

void tracked_use_stalls(struct tracked *t, const char *store)
{
	char name[VIEW_NAME_SIZE], temporary[VIEW_NAME_SIZE];
	int fd;

	snprintf(t->stalls_store, sizeof(t->stalls_store), "%s", store);
	if (store_open(store, false, false, &fd, NULL) != 0)
		return;
	stalls_names(t, name, temporary);
	stalls_load(&t->stalls, fd, name);
	t->saved = t->stalls;
	close(fd);
}

static void save_stalls(struct tracked *t)
{
	char name[VIEW_NAME_SIZE], temporary[VIEW_NAME_SIZE];
	int fd;

	if (store_open(t->stalls_store, false, false, &fd, NULL) != 0)
		return;
	stalls_names(t, name, temporary);
	stalls_save(&t->stalls, fd, name, temporary);
	t->saved = t->stalls;
	close(fd);
}

/* A group without views leaves nothing behind; what is known is written again after the next cut. */
static void remove_stalls(struct tracked *t)
{
	char name[VIEW_NAME_SIZE], temporary[VIEW_NAME_SIZE];
	int fd;

	t->worth_saving = false;
	stalls_init(&t->saved);
	if (store_open(t->stalls_store, false, false, &fd, NULL) != 0)
		return;
	stalls_names(t, name, temporary);
	(void)unlinkat(fd, name, 0);
	close(fd);
}

/* A file is renamed for it: worth it where the next prediction after a kill would be another one. */
static bool worth_saving(const struct tracked *t)
{
	int64_t now = stalls_predict(&t->stalls, t->extents), then = stalls_predict(&t->saved, t->extents);
	int64_t moved = now > then ? now - then : then - now;

	return !t->saved.known || moved > now / 8 || stalls_growing(&t->stalls) != stalls_growing(&t->saved);
}

void tracked_destroy(struct sosie_source *s)
{
	struct tracked *t = (struct tracked *)s;

	if (!t)
		return;
	if (t->worth_saving)
		save_stalls(t);
	for (unsigned i = 0; i < t->held_count; i++)
		free(t->held[i].stamps);
	free(t->held);
	cleaner_end(&t->cleaner);
	pause_fini(&t->pause);
	free(t->places);
	free(t);
}

static bool tracked_whole(const struct tracked *t, const struct sosie_view_id *id)
{
	char path[4096 + VIEW_NAME_SIZE];
	struct stamp stamp;

	if (!view_id_valid(id, t->ops->letter))
		return false;
	for (unsigned i = 0; i < t->count; i++) {
		t->ops->path_in(t, id, i, path, sizeof(path));
		if (!stamp_of(path, &stamp))
			return false;
	}
	return true;
}

void tracked_stamp(struct sosie_view *v, int64_t begun_ns)
{
	v->quiet = true;
	for (unsigned i = 0; i < v->source->count; i++) {
		struct stamp *stamp = &v->volumes[i].stamp;

		v->quiet &= stamp_of(v->source->volumes[i].path, stamp) && stamp_is_quiet(stamp, begun_ns);
	}
}

/* --- views that are held
 * ----------------------------------------------------------------------------------------------- */

static struct held *find_held(const struct tracked *t, const struct sosie_view_id *id)
{
	for (unsigned i = 0; i < t->held_count; i++)
		if (strcmp(t->held[i].id.s, id->s) == 0)
			return &t->held[i];
	return NULL;
}

static bool tracked_unchanged(struct sosie_source *s, const struct sosie_view_id *id)
{
	const struct tracked *t = (const struct tracked *)s;
	const struct held *h = find_held(t, id);

	if (!h || !h->stamps)
		return false;
	for (unsigned i = 0; i < t->count; i++) {
		struct stamp now;

		if (!stamp_of(t->volumes[i].path, &now) || !stamp_equal(&now, &h->stamps[i]))
			return false;
	}
	return true;
}

static void forget(struct tracked *t, struct held *h)
{
	free(h->stamps);
	*h = t->held[--t->held_count];
}

/* NULL: no memory. Then nothing is claimed of the view: not that it is unchanged, nor what it holds back. */
static struct held *hold(struct tracked *t, const struct sosie_view_id *id, bool made)
{
	struct held *h = find_held(t, id), *grown;

	if (h)
		return h;
	grown = realloc(t->held, (t->held_count + 1) * sizeof(*grown));
	if (!grown)
		return NULL;
	t->held = grown;
	h = &grown[t->held_count++];
	*h = (struct held){.id = *id, .made = made};
	return h;
}

static void remember(struct tracked *t, const struct sosie_view *v)
{
	struct held *h = hold(t, &v->id, v->made);

	if (!h || !v->quiet || h->stamps)
		return;
	h->stamps = calloc(t->count, sizeof(*h->stamps));
	for (unsigned i = 0; h->stamps && i < t->count; i++)
		h->stamps[i] = v->volumes[i].stamp;
}

/* Nothing is held any more but what is told next; what is known of those stays. */
static void hold_only(struct tracked *t, const struct sosie_view_id *ids, unsigned count, bool *held)
{
	for (unsigned k = t->held_count; k-- > 0;) {
		bool named = false;

		for (unsigned i = 0; i < count && !named; i++)
			named = strcmp(ids[i].s, t->held[k].id.s) == 0;
		if (!named || !tracked_whole(t, &t->held[k].id))
			forget(t, &t->held[k]);
	}
	for (unsigned i = 0; i < count; i++) {
		held[i] = tracked_whole(t, &ids[i]);
		if (held[i])
			(void)hold(t, &ids[i], false);
	}
}

static int tracked_settle(struct sosie_source *s, const struct sosie_view_id *ids, unsigned count, bool *held,
                          struct sosie_err *err)
{
	struct tracked *t = (struct tracked *)s;
	int rc = 0, one;

	for (unsigned i = 0; i < t->count; i++) {
		one = place_sweep(&t->places[i], t->prefix, ids, count, rc == 0 ? err : NULL);
		rc = rc == 0 ? one : rc;
	}
	hold_only(t, ids, count, held);
	if (count == 0)
		remove_stalls(t);
	return rc;
}

/* A view of before this object may have volumes that are not ours any more: those are found by listing. */
static int remove_listed(const struct tracked *t, const struct sosie_view_id *id, struct sosie_err *err)
{
	int rc = 0, one;

	for (unsigned i = 0; i < t->count; i++) {
		one = place_remove(&t->places[i], t->prefix, id, rc == 0 ? err : NULL);
		rc = rc == 0 ? one : rc;
	}
	return rc;
}

int tracked_drop(struct sosie_source *s, const struct sosie_view_id *id, struct sosie_err *err)
{
	struct tracked *t = (struct tracked *)s;
	struct held *h = find_held(t, id);
	bool made = h && h->made;

	t->cleaner.removed = true;
	if (h)
		forget(t, h);
	return made ? t->ops->remove(t, id, err) : remove_listed(t, id, err);
}

/* What a kept view holds back: what was found changed when that was last looked at (a cut, a backlog), before
 * that all of the volumes. What is written after the look is not in it. */
static uint64_t held_bytes(const struct tracked *t)
{
	uint64_t sum = 0;
	struct stat st;

	if (t->held_count == 0)
		return 0;
	for (unsigned i = 0; i < t->count; i++)
		if (stat(t->volumes[i].path, &st) == 0)
			sum += (uint64_t)st.st_blocks * 512;
	return t->last_bytes < sum ? t->last_bytes : sum;
}

/* On btrfs to count is to walk all extents: once for each cut is enough. A count serves one cut, and what is
 * asked within a second of either. */
static int count_extents(struct tracked *t, bool for_cut, struct sosie_err *err)
{
	int64_t now = sosie_clock_ns(CLOCK_MONOTONIC);
	bool fresh = t->counted_ns != 0 && now - t->counted_ns < COUNT_GOOD_NS;
	int rc;

	if (!t->ops->extents || (fresh && !(for_cut && t->count_served)))
		return 0;
	t->counted_ns = 0;
	rc = t->ops->extents(t, &t->extents, err);
	if (rc == 0)
		t->counted_ns = now;
	t->count_served = false;
	return rc;
}

static int tracked_facts(struct sosie_source *s, struct sosie_cut_facts *out, struct sosie_err *err)
{
	struct tracked *t = (struct tracked *)s;
	int rc = count_extents(t, false, err);

	*out = (struct sosie_cut_facts){.extents = rc == 0 ? t->extents : 0,
	                                .stall_us = rc == 0 ? stalls_predict(&t->stalls, t->extents) : -1,
	                                .last_us = t->stalls.last_us,
	                                .cuts = t->cuts,
	                                .last_predicted_us = t->stalls.last_predicted_us,
	                                .growing = stalls_growing(&t->stalls),
	                                .view_bytes = held_bytes(t)};
	memcpy(out->untracked, t->untracked, sizeof(out->untracked));
	return rc;
}

/* --- backlog
 * ------------------------------------------------------------------------------------------------- */

static int volume_backlog(const struct tracked *t, const struct sosie_view_id *id, unsigned i,
                          uint64_t *bytes, struct sosie_err *err)
{
	char path[4096 + VIEW_NAME_SIZE];
	struct changes *c = NULL;
	struct stat st = {0};
	int kept, live, rc;

	t->ops->path_in(t, id, i, path, sizeof(path));
	kept = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	live = open(t->volumes[i].path, O_RDONLY | O_CLOEXEC);
	if (kept < 0 || live < 0 || fstat(live, &st) != 0)
		rc = sosie_err_sys(err, errno, "volume %s cannot be compared with its view",
		                   t->volumes[i].name.s);
	else
		rc = changes_new(CHANGES_MAX, &c, err);
	if (rc == 0)
		rc = changes_by_live(kept, live, c, err);
	if (rc == 0) {
		changes_seal(c);
		*bytes = changes_bytes(c) < UINT64_MAX ? changes_bytes(c) : (uint64_t)st.st_size;
	}
	changes_free(c);
	if (kept >= 0)
		close(kept);
	if (live >= 0)
		close(live);
	return rc;
}

static int must_be_held(const struct tracked *t, const struct sosie_view_id *id, struct sosie_err *err)
{
	if (tracked_whole(t, id))
		return 0;
	return sosie_err_set(err, SOSIE_ENOTFOUND, "view %s is not held by driver %s",
	                     id->s[0] ? id->s : "(none)", t->base.ops->name);
}

static int tracked_backlog(struct sosie_source *s, const struct sosie_view_id *id, uint64_t *bytes,
                           struct sosie_err *err)
{
	struct tracked *t = (struct tracked *)s;
	int rc = must_be_held(t, id, err);

	*bytes = 0;
	for (unsigned i = 0; rc == 0 && i < t->count; i++) {
		uint64_t n = 0;

		rc = volume_backlog(t, id, i, &n, err);
		*bytes += n;
	}
	if (rc == 0)
		t->last_bytes = *bytes;
	return rc;
}

/* The limit of commands is the user's; of a cgroup or a machine it is ours. */
static const char *too_late_action(const struct tracked *t)
{
	bool commands = t->pause.kind == SOSIE_PAUSE_COMMANDS;

	if (!t->ops->extents)
		return commands ? "a longer freeze limit; or less dirty data: the snapshot waits for writes "
		                  "under way"
		                : "the disk was busy: the snapshot waits for writes under way. The next cut "
		                  "tries again";
	return commands ? "a longer freeze limit, or volumes with fewer extents (copy them to new files)"
	                : "volumes with fewer extents (copy them to new files), or a driver whose cut does "
	                  "not "
	                  "depend on them: source: btrfs";
}

int tracked_too_late(struct sosie_view *v, struct sosie_err *err)
{
	const struct pause *p = &v->source->pause;

	v->overran = true;
	if (sosie_clock_ns(CLOCK_MONOTONIC) < p->deadline_ns) {
		sosie_err_set(err, SOSIE_EHOOK,
		              "another let the writers go while they were to be held for a cut");
		sosie_err_action(err, "nobody else may thaw or continue them during a cut");
		return -SOSIE_EHOOK;
	}
	sosie_err_set(err, SOSIE_EHOOK, "writers could be held for %llu ms only, and the cut took longer",
	              (unsigned long long)p->limit_ms);
	sosie_err_action(err, "%s", too_late_action(v->source));
	return -SOSIE_EHOOK;
}

/* --- views
 * --------------------------------------------------------------------------------------------------- */

static void view_free(struct sosie_view *v)
{
	for (unsigned i = 0; v && v->volumes && i < v->source->count; i++) {
		free(v->volumes[i].path);
		free(v->volumes[i].base_path);
		changes_free(v->volumes[i].changes);
	}
	if (v)
		free(v->volumes);
	free(v);
}

static int view_new(struct tracked *t, struct sosie_view **out, struct sosie_err *err)
{
	struct sosie_view *v = calloc(1, sizeof(*v));
	int rc = 0;

	*out = NULL;
	if (!v)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for a view");
	v->source = t;
	v->volumes = calloc(t->count, sizeof(*v->volumes));
	if (!v->volumes)
		rc = sosie_err_set(err, SOSIE_ENOMEM, "no memory for a view");
	for (unsigned i = 0; rc == 0 && i < t->count; i++)
		rc = changes_new(CHANGES_MAX, &v->volumes[i].changes, err);
	if (rc != 0)
		view_free(v);
	else
		*out = v;
	return rc;
}

static int find_file(const struct tracked *t, const struct sosie_view_id *id, unsigned i, char **path,
                     uint64_t *size, struct sosie_err *err)
{
	char text[4096 + VIEW_NAME_SIZE];
	struct stamp stamp;

	*path = NULL;
	t->ops->path_in(t, id, i, text, sizeof(text));
	if (!stamp_of(text, &stamp)) {
		sosie_err_set(err, SOSIE_ENOTFOUND, "view %s of volume %s is not there", id->s,
		              t->volumes[i].name.s);
		sosie_err_where(err, "%s", text);
		return -SOSIE_ENOTFOUND;
	}
	*size = stamp.size;
	*path = strdup(text);
	return *path ? 0 : sosie_err_set(err, SOSIE_ENOMEM, "no memory for the path of a view");
}

static void tell_untracked(struct tracked *t, const struct sosie_err *why)
{
	if (!t->untracked[0])
		snprintf(t->untracked, sizeof(t->untracked), "%.*s", (int)sizeof(t->untracked) - 1,
		         why->what);
}

/* A base that lacks a volume (added to the group since) is none for that volume only. */
static int find_base(struct sosie_view *v, unsigned i, struct sosie_err *err)
{
	struct view_volume *f = &v->volumes[i];
	struct sosie_err why = {0};
	int rc = find_file(v->source, &v->base, i, &f->base_path, &f->base_size, &why);

	if (rc == -SOSIE_ENOTFOUND) {
		tell_untracked(v->source, &why);
		return 0;
	}
	if (rc != 0 && err)
		*err = why;
	return rc;
}

static int find_files(struct sosie_view *v, struct sosie_err *err)
{
	const struct tracked *t = v->source;
	bool based = view_id_valid(&v->base, t->ops->letter);
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < t->count; i++) {
		rc = find_file(t, &v->id, i, &v->volumes[i].path, &v->volumes[i].size, err);
		if (rc == 0 && based)
			rc = find_base(v, i, err);
	}
	return rc;
}

/* Nothing in comparing is worth a cut: what cannot be told has changed, and why is told. */
static void compare(struct sosie_view *v)
{
	struct tracked *t = v->source;
	struct sosie_err why = {0};
	uint64_t sum = 0, bytes;
	bool any = false;

	for (unsigned i = 0; i < t->count; i++)
		any |= v->volumes[i].base_path != NULL;
	if (any && t->ops->compare(t, v, &why) != 0)
		tell_untracked(t, &why);
	for (unsigned i = 0; i < t->count; i++) {
		struct view_volume *f = &v->volumes[i];

		if (!f->base_path)
			changes_all(f->changes);
		else if (f->size != f->base_size) /* the leaf at the old end too: it was a part of one */
			changes_add(f->changes, f->base_size < f->size ? f->base_size : f->size - 1, f->size);
		changes_seal(f->changes);
		bytes = changes_bytes(f->changes);
		sum = bytes > f->size ? sum + f->size : sum + bytes;
	}
	t->last_bytes = any ? sum : UINT64_MAX;
}

static int complete(struct sosie_view *v, const struct sosie_view_id *base, struct sosie_err *err)
{
	int rc;

	v->source->untracked[0] = '\0';
	v->label = view_id_label(&v->id);
	if (base)
		v->base = *base;
	rc = find_files(v, err);
	if (rc == 0)
		compare(v);
	return rc;
}

/* What the view cost, also where it came too late to be one. */
static void note_cut(struct tracked *t, const struct sosie_view *v, int64_t predicted)
{
	t->cuts++;
	t->worth_saving = true;
	t->counted_ns =
	        sosie_clock_ns(CLOCK_MONOTONIC); /* the facts that follow need no count of their own */
	t->count_served = true;
	stalls_note(&t->stalls, t->extents, predicted, v->held_us, v->cloning_us, v->rounds);
	if (worth_saving(t))
		save_stalls(t);
}

static int tracked_cut(struct sosie_source *s, const struct sosie_view_id *base, struct sosie_view **view,
                       struct sosie_err *err)
{
	struct tracked *t = (struct tracked *)s;
	struct sosie_view *v;
	int64_t predicted;
	int rc;

	*view = NULL;
	rc = count_extents(t, true, err);
	if (rc == 0)
		rc = view_new(t, &v, err);
	if (rc != 0)
		return rc;
	predicted = stalls_predict(&t->stalls, t->extents);
	rc = t->ops->take(t, v, err);
	if (rc == 0 || v->overran)
		note_cut(t, v, predicted);
	if (rc == 0) {
		v->made = true;
		rc = complete(v, base, err);
		if (rc != 0)
			t->ops->remove(t, &v->id, NULL);
	}
	if (rc == 0)
		*view = v;
	else
		view_free(v);
	return rc;
}

static int tracked_reopen(struct sosie_source *s, const struct sosie_view_id *base,
                          const struct sosie_view_id *id, struct sosie_view **view, struct sosie_err *err)
{
	struct tracked *t = (struct tracked *)s;
	struct sosie_view *v;
	int rc;

	*view = NULL;
	rc = must_be_held(t, id, err);
	if (rc == 0)
		rc = view_new(t, &v, err);
	if (rc != 0)
		return rc;
	v->id = *id;
	rc = complete(v, base, err);
	if (rc == 0)
		*view = v;
	else
		view_free(v);
	return rc;
}

static void view_id(const struct sosie_view *v, struct sosie_view_id *out)
{
	*out = v->id;
}

static int view_path(struct sosie_view *v, unsigned volume, const char **path, uint64_t *size,
                     struct sosie_err *err)
{
	if (volume >= v->source->count)
		return sosie_err_set(err, SOSIE_EINTERNAL, "volume %u of %u", volume, v->source->count);
	*path = v->volumes[volume].path;
	*size = v->volumes[volume].size;
	return 0;
}

static const char *view_base_path(struct sosie_view *v, unsigned volume, uint64_t *size)
{
	*size = v->volumes[volume].base_size;
	return v->volumes[volume].base_path;
}

/* The changed range at or behind from, widened to whole leaves, within the volume. False: none is left. */
static bool next_changed(struct view_volume *f, uint64_t from, uint64_t *start, uint64_t *end)
{
	/* A range that ends inside this leaf still covers all of it. */
	if (!changes_next(f->changes, from - from % SOSIE_LEAF, start, end) || *start >= f->size)
		return false;
	*start -= *start % SOSIE_LEAF;
	*start = *start > from ? *start : from;
	*end = *end >= f->size || f->size - *end < SOSIE_LEAF
	               ? f->size
	               : (*end + SOSIE_LEAF - 1) / SOSIE_LEAF * SOSIE_LEAF;
	return true;
}

static bool is_known(const struct view_volume *f, uint64_t from)
{
	return from >= f->asked && from < f->data_end;
}

/* Fills in what lies at from: data or a hole, and up to where. */
static int ask(struct view_volume *f, struct sosie_io *io, struct sosie_file *file, uint64_t from,
               struct sosie_err *err)
{
	int rc;

	if (is_known(f, from))
		return 0;
	rc = sosie_io_next_data(io, file, from, &f->data, &f->data_end, err);
	if (rc == 0 && f->data >= f->data_end && f->data_end >= f->size)
		f->data = f->data_end = f->size; /* a hole up to the end */
	f->asked = from;
	if (rc != 0)
		f->asked = f->data_end = 0;
	return rc;
}

static int view_next(struct sosie_view *v, unsigned volume, struct sosie_io *io, struct sosie_file *file,
                     uint64_t from, struct sosie_extent *out, struct sosie_err *err)
{
	struct view_volume *f = &v->volumes[volume];
	uint64_t start, end;
	int rc;

	*out = (struct sosie_extent){SOSIE_EXTENT_END, f->size, f->size};
	if (from >= f->size)
		return 0;
	if (!next_changed(f, from, &start, &end)) {
		*out = (struct sosie_extent){SOSIE_EXTENT_SAME, from, f->size};
		return 0;
	}
	if (start > from) {
		*out = (struct sosie_extent){SOSIE_EXTENT_SAME, from, start};
		return 0;
	}
	if (end - from <= SHORT_BYTES && !is_known(f, from)) {
		*out = (struct sosie_extent){SOSIE_EXTENT_DATA, from, end};
		return 0;
	}
	rc = ask(f, io, file, from, err);
	if (rc != 0)
		return rc;
	if (f->data >= f->data_end && f->data_end < f->size)
		return sosie_err_set(err, SOSIE_EIO, "view %s of volume %s became smaller: it was changed",
		                     v->id.s, v->source->volumes[volume].name.s);
	if (f->data > from)
		*out = (struct sosie_extent){SOSIE_EXTENT_HOLE, from, f->data < end ? f->data : end};
	else
		*out = (struct sosie_extent){SOSIE_EXTENT_DATA, from, f->data_end < end ? f->data_end : end};
	return 0;
}

static int view_release(struct sosie_view *v, bool keep, enum sosie_consistency *consistency,
                        struct sosie_err *err)
{
	int rc = 0;

	*consistency = v->label;
	if (keep)
		remember(v->source, v);
	else if (v->made)
		rc = v->source->ops->remove(v->source, &v->id, err);
	else
		rc = tracked_drop(&v->source->base, &v->id, err);
	view_free(v);
	return rc;
}

/* --- the seam
 * -------------------------------------------------------------------------------------------------------- */

static const struct sosie_source_ops tracked_seam = {
        .settle = tracked_settle,
        .unchanged = tracked_unchanged,
        .facts = tracked_facts,
        .cut = tracked_cut,
        .reopen = tracked_reopen,
        .id = view_id,
        .path = view_path,
        .base_path = view_base_path,
        .next = view_next,
        .release = view_release,
        .drop = tracked_drop,
        .backlog = tracked_backlog,
        .destroy = tracked_destroy,
};

int tracked_no_store(int rc, struct sosie_err *err)
{
	if (rc != -SOSIE_EDENIED)
		return rc;
	if (err)
		err->code = SOSIE_EUNSUPPORTED;
	return -SOSIE_EUNSUPPORTED;
}

int tracked_init(struct tracked *t, const struct sosie_source_options *o, const struct tracked_ops *ops,
                 struct sosie_err *err)
{
	int rc = pause_init(&t->pause, o, false, err);

	t->seam = tracked_seam;
	t->seam.name = ops->name;
	t->base.ops = &t->seam;
	t->ops = ops;
	t->volumes = o->volumes;
	t->count = o->count;
	t->last_bytes = UINT64_MAX;
	stalls_init(&t->stalls);
	if (rc == 0)
		rc = prefix_make(t->prefix, o, err);
	t->places = calloc(o->count, sizeof(*t->places));
	if (rc == 0 && !t->places)
		rc = sosie_err_set(err, SOSIE_ENOMEM, "no memory for a source");
	for (unsigned i = 0; rc == 0 && i < o->count; i++)
		rc = place_find(&o->volumes[i], &t->places[i], err);
	return rc;
}

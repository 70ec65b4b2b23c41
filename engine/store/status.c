/* SPDX-License-Identifier: MIT */
/*
 * What stands in a group's folders, for people. Reads only, takes no lock; whatever changes meanwhile makes a
 * number old, never wrong.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/cutover/internal.h"
#include "engine/store/core.h"
#include "engine/store/status.h"

#define UPLOADS_SEEN_MAX 65536u

/* --- inbox and outbox
 * --------------------------------------------------------------------------------------------------- */

struct seen_upload {
	struct sosie_upload_id id;
	bool committed;
	bool answered; /* its files are only not removed yet */
};

struct inbox_scan {
	struct sosie_io *io;
	const char *dir;
	struct seen_upload *list;
	size_t count, room;
	uint64_t bytes;
	bool no_memory;
};

static struct seen_upload *find_upload(struct inbox_scan *scan, const struct sosie_upload_id *id)
{
	for (size_t i = 0; i < scan->count; i++)
		if (memcmp(scan->list[i].id.b, id->b, sizeof(id->b)) == 0)
			return &scan->list[i];
	return NULL;
}

static struct seen_upload *add_upload(struct inbox_scan *scan, const struct sosie_upload_id *id)
{
	struct seen_upload *u = find_upload(scan, id);

	if (u || scan->count >= UPLOADS_SEEN_MAX)
		return u;
	if (scan->count == scan->room) {
		size_t room = scan->room ? 2 * scan->room : 16;
		struct seen_upload *grown = reallocarray(scan->list, room, sizeof(*grown));
		scan->no_memory = !grown;
		if (!grown)
			return NULL;
		scan->list = grown;
		scan->room = room;
	}
	u = &scan->list[scan->count++];
	u->id = *id;
	u->committed = u->answered = false;
	return u;
}

/* "HEX32.REST" */
static bool upload_name(const char *name, struct sosie_upload_id *id, const char **rest)
{
	char hex[UPLOAD_HEX + 1];

	if (strlen(name) < UPLOAD_HEX + 2 || name[UPLOAD_HEX] != '.')
		return false;
	memcpy(hex, name, UPLOAD_HEX);
	hex[UPLOAD_HEX] = '\0';
	*rest = name + UPLOAD_HEX + 1;
	return sosie_unhex(id->b, sizeof(id->b), hex);
}

static int scan_one(void *arg, const char *name, enum sosie_file_kind kind)
{
	struct inbox_scan *scan = arg;
	struct sosie_upload_id id;
	struct seen_upload *u;
	struct sosie_stat st;
	const char *rest;
	char path[STORE_PATH];

	if (kind != SOSIE_KIND_FILE || !upload_name(name, &id, &rest))
		return 0;
	u = add_upload(scan, &id);
	if (u && strcmp(rest, "manifest") == 0)
		u->committed = true;
	if (store_path(path, NULL, "%s/%s", scan->dir, name) == 0 &&
	    sosie_io_stat(scan->io, path, &st, NULL) == 0)
		scan->bytes += st.size;
	return scan->no_memory;
}

static int read_verdict(struct sosie_group *g, const char *dir, const char *name, struct sosie_verdict *out)
{
	char path[STORE_PATH];
	char *text = NULL;
	size_t len;
	int rc = store_path(path, NULL, "%s/%s", dir, name);

	if (rc == 0)
		rc = sosie_io_read_file(g->store->io, path, SOSIE_STATEMENT_MAX, &text, &len, NULL);
	if (rc == 0)
		rc = sosie_verdict_parse(text, sosie_signed_text(text, len), out, NULL);
	free(text);
	return rc;
}

struct verdict_scan {
	struct sosie_group *g;
	struct sosie_group_status *out;
	struct inbox_scan *inbox;
	const char *dir;
	struct sosie_verdict *verdict; /* scratch: it is large */
	int64_t waiting_ms;
};

static int scan_verdict(void *arg, const char *name, enum sosie_file_kind kind)
{
	struct verdict_scan *scan = arg;
	struct sosie_verdict *v = scan->verdict;
	struct sosie_upload_id id;
	struct seen_upload *u;
	const char *rest;

	if (kind != SOSIE_KIND_FILE || !upload_name(name, &id, &rest) || strcmp(rest, "verdict") != 0 ||
	    read_verdict(scan->g, scan->dir, name, v) < 0)
		return 0;
	u = find_upload(scan->inbox, &id);
	if (v->kind == SOSIE_VERDICT_WAITING && u && u->committed && v->time_ms >= scan->waiting_ms) {
		scan->waiting_ms = v->time_ms;
		snprintf(scan->out->waiting, sizeof(scan->out->waiting), "%s", v->error.what);
	}
	if (v->kind != SOSIE_VERDICT_WAITING && u)
		u->answered = true;
	return 0;
}

static void count_uploads(const struct inbox_scan *scan, struct sosie_group_status *out)
{
	for (size_t i = 0; i < scan->count; i++) {
		if (scan->list[i].answered)
			continue;
		out->uploads_committed += scan->list[i].committed;
		out->uploads_open += !scan->list[i].committed;
	}
}

int status_inbox(struct sosie_group *g, struct sosie_group_status *out, struct sosie_err *err)
{
	struct verdict_scan verdicts = {.g = g, .out = out};
	struct inbox_scan scan = {.io = g->store->io};
	char inbox[STORE_PATH], outbox[STORE_PATH];
	int rc = store_path(inbox, err, "%s/%s/_inbox/%s", g->store->path, g->tenant.s, g->name.s);

	if (rc == 0)
		rc = store_path(outbox, err, "%s/%s/_outbox/%s", g->store->path, g->tenant.s, g->name.s);
	if (rc < 0)
		return rc;
	scan.dir = inbox;
	verdicts.dir = outbox;
	verdicts.inbox = &scan;
	verdicts.verdict = malloc(sizeof(*verdicts.verdict));
	rc = sosie_io_list(g->store->io, inbox, scan_one, &scan, err);
	if (rc == -SOSIE_ENOTFOUND)
		rc = 0;
	if (rc >= 0 && verdicts.verdict)
		rc = sosie_io_list(g->store->io, outbox, scan_verdict, &verdicts, err);
	if (rc == -SOSIE_ENOTFOUND)
		rc = 0;
	if (scan.no_memory || !verdicts.verdict)
		rc = sosie_err_sys(err, ENOMEM, "cannot look through the inbox of %s/%s", g->tenant.s,
		                   g->name.s);
	if (rc >= 0) {
		out->inbox_bytes = scan.bytes;
		count_uploads(&scan, out);
		rc = 0;
	}
	free(verdicts.verdict);
	free(scan.list);
	return rc;
}

/* The group as far as its inbox needs it; there is no chain. */
static int inbox_group(struct sosie_store *store, const char *tenant, const char *group,
                       struct sosie_group **out, struct sosie_err *err)
{
	struct sosie_group *g = calloc(1, sizeof(*g));
	char dir[STORE_PATH];
	int rc = g ? 0 : sosie_err_sys(err, ENOMEM, "cannot look through the inbox of %s/%s", tenant, group);

	*out = g;
	if (rc < 0)
		return rc;
	g->store = store;
	rc = sosie_name_set(&g->tenant, SOSIE_NAME_TENANT, tenant, err);
	if (rc == 0)
		rc = sosie_name_set(&g->name, SOSIE_NAME_GROUP, group, err);
	if (rc == 0)
		rc = store_path(dir, err, "%s/%s/_inbox/%s", store->path, tenant, group);
	if (rc == 0 && !sosie_io_exists(store->io, dir))
		rc = sosie_err_set(err, SOSIE_ENOTFOUND,
		                   "the tenant %s has no group %s in the store %s, nor an inbox for it",
		                   tenant, group, store->path);
	return rc;
}

int sosie_inbox_status(struct sosie_store *store, const char *tenant, const char *group,
                       struct sosie_group_status *out, struct sosie_err *err)
{
	struct sosie_group *g;
	int rc = inbox_group(store, tenant, group, &g, err);

	memset(out, 0, sizeof(*out));
	out->rpo_ms = -1;
	out->head_state = SOSIE_HEAD_NONE;
	if (rc == 0)
		rc = status_inbox(g, out, err);
	if (rc == 0)
		rc = sosie_store_keeper(store, &out->keeper, &out->keeper_pid, err);
	free(g);
	return rc;
}

struct inbox_groups {
	struct sosie_store *store;
	const char *tenant;
	sosie_name_fn fn;
	void *arg;
};

static int only_in_inbox(void *arg, const struct sosie_name *name)
{
	const struct inbox_groups *all = arg;
	char dir[STORE_PATH];

	if (store_path(dir, NULL, "%s/%s/%s", all->store->path, all->tenant, name->s) < 0 ||
	    sosie_io_exists(all->store->io, dir))
		return 0;
	return all->fn(all->arg, name);
}

int sosie_inbox_groups(struct sosie_store *store, const char *tenant, sosie_name_fn fn, void *arg,
                       struct sosie_err *err)
{
	struct inbox_groups all = {store, tenant, fn, arg};
	char inbox[SOSIE_NAME_MAX + 16];
	int rc;

	snprintf(inbox, sizeof(inbox), "%s/_inbox", tenant);
	rc = sosie_store_groups(store, inbox, only_in_inbox, &all, err);
	return rc == -SOSIE_ENOTFOUND ? 0 : rc;
}

int status_outside(const struct sosie_store *store, const char *path, struct sosie_err *err)
{
	const size_t len = strlen(store->path);

	if (strncmp(path, store->path, len) != 0 || (path[len] != '/' && path[len] != '\0'))
		return 0;
	sosie_err_set(err, SOSIE_ECONFIG, "%s lies in the store, where only the store's own files may be",
	              path);
	return sosie_err_action(err, "choose a folder outside %s", store->path);
}

/* --- sizes
 * ------------------------------------------------------------------------------------------------------------------
 */

struct sizes {
	struct sosie_io *io;
	const char *dir;
	uint64_t size, allocated; /* of all files directly in dir */
};

static int add_sizes(void *arg, const char *name, enum sosie_file_kind kind)
{
	struct sizes *s = arg;
	struct sosie_stat st;
	char path[STORE_PATH];

	if (kind == SOSIE_KIND_FILE && store_path(path, NULL, "%s/%s", s->dir, name) == 0 &&
	    sosie_io_stat(s->io, path, &st, NULL) == 0) {
		s->size += st.size;
		s->allocated += st.allocated;
	}
	return 0;
}

static struct sizes folder_sizes(struct sosie_group *g, const char *dir)
{
	struct sizes s = {.io = g->store->io, .dir = dir};

	(void)sosie_io_list(g->store->io, dir, add_sizes, &s, NULL);
	s.dir = NULL;
	return s;
}

struct generation_scan {
	struct sosie_group *g;
	struct sosie_group_status *out;
	const char *dir;
	bool generations; /* count them, not only their bytes */
};

static int add_folder(void *arg, const char *name, enum sosie_file_kind kind)
{
	struct generation_scan *scan = arg;
	char path[STORE_PATH];
	uint64_t number;

	if (kind != SOSIE_KIND_DIR || store_path(path, NULL, "%s/%s", scan->dir, name) < 0)
		return 0;
	scan->out->image_bytes += folder_sizes(scan->g, path).allocated;
	if (!scan->generations || !layout_number(name, "", &number))
		return 0;
	scan->out->generations++;
	if (number > scan->out->newest_generation)
		scan->out->newest_generation = number;
	return 0;
}

static int measure(struct sosie_group *g, struct sosie_group_status *out, struct sosie_err *err)
{
	struct generation_scan scan = {.g = g, .out = out, .generations = true};
	char dir[STORE_PATH];
	int rc = store_path(dir, err, "%s/journal", g->dir);

	if (rc < 0)
		return rc;
	out->journal_bytes = folder_sizes(g, dir).size;
	rc = store_path(dir, err, "%s/head", g->dir);
	if (rc == 0) {
		out->image_bytes += folder_sizes(g, dir).allocated;
		rc = store_path(dir, err, "%s/generations", g->dir);
	}
	scan.dir = dir;
	if (rc == 0) {
		(void)sosie_io_list(g->store->io, dir, add_folder, &scan, NULL);
		scan.generations = false;
		rc = store_path(dir, err, "%s/live", g->dir);
	}
	if (rc == 0)
		(void)sosie_io_list(g->store->io, dir, add_folder, &scan, NULL);
	return rc;
}

/* --- keeper, cutover, times
 * ------------------------------------------------------------------------------------------------------ */

/* A keeper holds its lock as long as it lives. The shared lock that we take to see that is gone at once. */
int sosie_store_keeper(struct sosie_store *store, bool *running, int *pid, struct sosie_err *err)
{
	struct sosie_file *file = NULL;
	char path[STORE_PATH], text[32] = "";
	size_t got;
	int rc = store_path(path, err, "%s/keeper.lock", store->path);

	*running = false;
	*pid = 0;
	if (rc < 0)
		return rc;
	rc = sosie_io_openat(store->io, path, SOSIE_READ, 0, &file, err);
	if (rc < 0)
		return rc == -SOSIE_ENOTFOUND ? 0 : rc;
	*running = store->keeper_lock != NULL || sosie_io_lock(store->io, file, false, NULL) == -SOSIE_EBUSY;
	if (*running && sosie_io_pread(store->io, file, text, sizeof(text) - 1, 0, &got, NULL) == 0)
		*pid = (int)strtol(text, NULL, 10);
	(void)sosie_io_close(store->io, file, NULL);
	return 0;
}

static int look_for_cutover(struct sosie_group *g, struct sosie_group_status *out, struct sosie_err *err)
{
	struct cutover_record r;
	char dir[STORE_PATH];
	int rc = cutover_record_read(g, &r, err);

	if (rc < 0 || r.step < SOSIE_CUTOVER_ACTIVATED || r.to_epoch != out->head.epoch)
		return rc;
	rc = cutover_final_dir(g, &r, dir, err);
	if (rc < 0)
		return rc;
	out->cut_over = true;
	snprintf(out->live, sizeof(out->live), "%.511s", dir);
	return 0;
}

static int look_for_points(struct sosie_group *g, struct sosie_group_status *out, struct sosie_err *err)
{
	const uint64_t newest = sosie_group_points(g);
	int64_t fresh, now = sosie_wall_ms(g->store->clock);
	int rc;

	out->rpo_ms = -1;
	if (newest == 0)
		return 0;
	rc = sosie_group_point(g, newest, &out->newest, err);
	if (rc < 0)
		return rc;
	if (out->newest.epoch < out->head.epoch)
		return 0; /* cut over since: nothing more comes from the source, and no age tells of a loss */
	fresh = out->newest.cut_ms > out->same_ms ? out->newest.cut_ms : out->same_ms;
	out->rpo_ms = now > fresh ? now - fresh : 0;
	return 0;
}

int sosie_group_status(struct sosie_group *g, struct sosie_group_status *out, struct sosie_err *err)
{
	uint64_t head_point;
	int state = SOSIE_HEAD_NONE;
	int rc;

	memset(out, 0, sizeof(*out));
	sosie_group_head(g, &out->head);
	out->same_ms = status_same(g);
	rc = look_for_points(g, out, err);
	if (rc == 0)
		rc = measure(g, out, err);
	if (rc == 0)
		rc = status_inbox(g, out, err);
	if (rc == 0)
		rc = refusal_newest(g, out->refused, sizeof(out->refused), &out->refused_ms, err);
	if (rc == 0)
		rc = head_state(g, &state, &head_point, err);
	out->head_state = state == SOSIE_HEAD_CLEAN  ? SOSIE_HEAD_CLEAN
	                  : state == SOSIE_HEAD_OPEN ? SOSIE_HEAD_OPEN
	                  : state == SOSIE_HEAD_VOID ? SOSIE_HEAD_VOID
	                                             : SOSIE_HEAD_NONE;
	if (rc == 0)
		rc = sosie_store_keeper(g->store, &out->keeper, &out->keeper_pid, err);
	if (rc == 0)
		rc = look_for_cutover(g, out, err);
	return rc;
}

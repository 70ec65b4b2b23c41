/* SPDX-License-Identifier: MIT */
/*
 * What a cutover would do, before it does anything: the lock is taken, what is whole in the inbox is
 * accepted, the record of an earlier run is read. Once the epoch is raised the choice is made for good;
 * before that another choice replaces it, and "latest" is chosen anew.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/cutover/internal.h"
#include "engine/store/status.h"
#include "sosie/retention.h"

#define LOCK_WAIT_MS 5000
#define INBOX_MS 10000 /* of work on the inbox, after which no further upload is begun */

/* Takes in what is whole in the inbox, as far as time allows: who fills the inbox does not say how long a
 * takeover takes. Whatever comes of it, the cutover goes on with the points that there are; what was left is
 * counted in uploads_committed. */
static void accept_inbox(struct sosie_group *g)
{
	struct sosie_accept_result result;
	struct sosie_err ignored;

	(void)keeper_accept_within(g->store, g->tenant.s, g->name.s, INBOX_MS, &result, &ignored);
}

int sosie_cutover_open(struct sosie_store *store, const char *tenant, const char *group,
                       struct sosie_group **out, struct sosie_err *err)
{
	struct sosie_accept_result result = {0};
	struct sosie_group_status inbox;
	int rc = sosie_group_open(store, tenant, group, out, err);

	if (rc != -SOSIE_ENOTFOUND || sosie_inbox_status(store, tenant, group, &inbox, NULL) < 0 ||
	    inbox.uploads_committed == 0)
		return rc;
	rc = keeper_accept_within(store, tenant, group, INBOX_MS, &result, err);
	if (rc == 0 && result.point == 0 && result.last.code != SOSIE_OK) {
		*err = result.last;
		rc = -(int)err->code;
	}
	if (rc < 0)
		return sosie_err_wrap(err, "what waits in the inbox of %s/%s cannot be accepted", tenant,
		                      group);
	return sosie_group_open(store, tenant, group, out, err);
}

static int64_t not_negative(int64_t ms)
{
	return ms > 0 ? ms : 0;
}

/* Everything that follows from the chosen point. */
static int describe_points(struct sosie_group *g, struct sosie_cutover *c, uint64_t point,
                           struct sosie_err *err)
{
	struct sosie_group_status inbox;
	int rc = sosie_group_point(g, point, &c->chosen, err);

	if (rc == 0)
		rc = sosie_group_point(g, sosie_group_points(g), &c->newest, err);
	if (rc < 0)
		return rc;
	c->age_ms = not_negative(sosie_wall_ms(g->store->clock) - c->chosen.cut_ms);
	c->lost_ms = not_negative(c->newest.cut_ms - c->chosen.cut_ms);
	c->same_ms = point == c->newest.point ? status_same(g) : 0;
	if (c->same_ms <= c->chosen.cut_ms)
		c->same_ms = 0;
	memset(&inbox, 0, sizeof(inbox));
	if (status_inbox(g, &inbox, NULL) == 0) {
		c->uploads_committed = inbox.uploads_committed;
		c->uploads_open = inbox.uploads_open;
	}
	return 0;
}

static int refuse_other(const struct sosie_group *g, const struct cutover_record *r, struct sosie_err *err)
{
	sosie_err_set(err, SOSIE_EDIFFERENT,
	              "%s/%s was cut over to point %llu into %s (epoch %llu), and that choice is final",
	              g->tenant.s, g->name.s, (unsigned long long)r->point,
	              r->into[0] ? r->into : "the store's live folder", (unsigned long long)r->to_epoch);
	return sosie_err_action(err,
	                        "to get the images of another point: sosie export --point N --into DIR %s/%s",
	                        g->tenant.s, g->name.s);
}

/* The epoch is raised: finish, or be done. */
static int plan_continue(struct sosie_group *g, struct sosie_cutover *c, const struct cutover_record *r,
                         struct sosie_err *err)
{
	int rc;

	if ((c->point != 0 && c->point != r->point) || strcmp(c->into, r->into) != 0)
		return refuse_other(g, r, err);
	c->step = r->step;
	c->from_epoch = r->from_epoch;
	c->to_epoch = r->to_epoch;
	c->method = r->method;
	c->already_done = r->step == SOSIE_CUTOVER_DONE;
	rc = cutover_final_dir(g, r, c->dir, err);
	return rc < 0 ? rc : describe_points(g, c, r->point, err);
}

/* The device of the folder, or of the nearest one above it that exists. */
static int device_of(struct sosie_io *io, const char *path, uint64_t *dev, struct sosie_err *err)
{
	char at[STORE_PATH];
	struct sosie_stat st;
	int rc = store_path(at, err, "%s", path);

	while (rc == 0) {
		char *slash = strrchr(at, '/');
		rc = sosie_io_stat(io, at, &st, err);
		if (rc == 0 && st.kind != SOSIE_KIND_DIR)
			return sosie_err_set(err, SOSIE_ECONFIG, "%s is not a folder", at);
		if (rc != -SOSIE_ENOTFOUND || !slash || at[1] == '\0')
			break;
		slash[slash == at ? 1 : 0] = '\0';
		rc = 0;
	}
	*dev = rc == 0 ? st.dev : 0;
	return rc;
}

struct allocated {
	struct sosie_io *io;
	const char *dir;
	uint64_t bytes;
};

static int add_allocated(void *arg, const char *name, enum sosie_file_kind kind)
{
	struct allocated *a = arg;
	const size_t len = strlen(name);
	char path[STORE_PATH];
	struct sosie_stat st;

	if (kind == SOSIE_KIND_FILE && len > 4 && strcmp(name + len - 4, ".raw") == 0 &&
	    store_path(path, NULL, "%s/%s", a->dir, name) == 0 && sosie_io_stat(a->io, path, &st, NULL) == 0)
		a->bytes += st.allocated;
	return 0;
}

static uint64_t images_allocated(struct sosie_group *g, const char *dir)
{
	struct allocated a = {g->store->io, dir, 0};

	(void)sosie_io_list(g->store->io, dir, add_allocated, &a, NULL);
	return a.bytes;
}

/* Bytes to write when the images are made of the generation at or before the point; c->segments: how many
 * segments on top. */
static int cost_from_generation(struct sosie_group *g, struct sosie_cutover *c, uint64_t point,
                                uint64_t *bytes, struct sosie_err *err)
{
	char dir[STORE_PATH];
	uint64_t generation;
	int rc = sosie_group_generation(g, point, &generation, err);

	*bytes = 0;
	if (rc == 0 && generation > 0) {
		rc = store_path(dir, err, "%s/generations/%llu", g->dir, (unsigned long long)generation);
		if (rc == 0)
			*bytes = images_allocated(g, dir);
	}
	for (uint64_t n = generation + 1; rc == 0 && n <= point; n++) {
		struct sosie_point p;
		rc = sosie_group_point(g, n, &p, err);
		*bytes += rc == 0 ? p.plain : 0;
	}
	c->segments = rc == 0 ? point - generation : 0;
	return rc;
}

/* How the images come about, and what that costs. */
static int choose_method(struct sosie_group *g, struct sosie_cutover *c, bool latest, struct sosie_err *err)
{
	char head[STORE_PATH];
	uint64_t bytes = 0, head_point = 0, here = 0, there = 0;
	int state = SOSIE_HEAD_NONE;
	int rc = store_path(head, err, "%s/head", g->dir);

	if (rc == 0)
		rc = head_state(g, &state, &head_point, err);
	if (rc == 0 && c->into[0])
		rc = device_of(g->store->io, g->dir, &here, err);
	if (rc == 0 && c->into[0])
		rc = device_of(g->store->io, c->into, &there, err);
	if (rc < 0)
		return rc;
	if (latest && (state == SOSIE_HEAD_CLEAN || state == SOSIE_HEAD_OPEN))
		bytes = images_allocated(g, head);
	else
		rc = cost_from_generation(g, c, c->point, &bytes, err);
	if (latest && !c->into[0])
		c->method = SOSIE_CUTOVER_RENAME;
	else
		c->method =
		        here == there && g->store->info.reflink ? SOSIE_CUTOVER_CLONE : SOSIE_CUTOVER_COPY;
	c->bytes = c->method == SOSIE_CUTOVER_COPY ? bytes : 0;
	return rc;
}

static int check_into(const struct sosie_group *g, const char *into, struct sosie_err *err)
{
	if (!into[0])
		return 0;
	if (into[0] != '/' || strlen(into) + SOSIE_NAME_MAX + 64 > STORE_PATH)
		return sosie_err_set(err, SOSIE_ECONFIG,
		                     "the folder for the images must be an absolute path of at most %u bytes",
		                     STORE_PATH - SOSIE_NAME_MAX - 64);
	return status_outside(g->store, into, err);
}

/* Nothing is decided yet, or what an earlier run chose may still be changed. */
static int plan_new(struct sosie_group *g, struct sosie_cutover *c, const struct cutover_record *r,
                    struct sosie_err *err)
{
	struct cutover_record wanted;
	struct sosie_manifest m;
	const uint64_t newest = sosie_group_points(g);
	int rc;

	if (newest == 0) {
		sosie_err_set(err, SOSIE_ENOTFOUND, "%s/%s has no point yet: there is nothing to cut over to",
		              g->tenant.s, g->name.s);
		return sosie_err_action(err, "see what the inbox holds: sosie status %s/%s", g->tenant.s,
		                        g->name.s);
	}
	if (c->point == 0)
		c->point = newest;
	rc = sosie_group_reachable(g, c->point, err);
	if (rc == 0)
		rc = describe_points(g, c, c->point, err);
	if (rc < 0)
		return rc;
	c->from_epoch = chain_epoch(g->chain);
	c->to_epoch = c->from_epoch + 1;
	rc = choose_method(g, c, c->point == newest, err);
	if (rc < 0)
		return rc;
	memset(&wanted, 0, sizeof(wanted));
	wanted.to_epoch = c->to_epoch;
	memcpy(wanted.into, c->into, strlen(c->into) + 1);
	rc = cutover_final_dir(g, &wanted, c->dir, err);
	if (rc == 0)
		rc = sosie_group_manifest(g, c->point, &m, err);
	if (rc < 0)
		return rc;
	rc = cutover_names_free(g, &wanted, &m, err);
	sosie_manifest_fini(&m);
	if (r->step < SOSIE_CUTOVER_FENCED && r->point == c->point && strcmp(r->into, c->into) == 0)
		c->step = r->step;
	return rc;
}

static int plan_locked(struct sosie_group *g, struct sosie_cutover *c, struct sosie_err *err)
{
	struct cutover_record r;
	bool past = false;
	int rc = cutover_record_read(g, &r, err);

	if (rc == 0)
		rc = cutover_record_is_past(g, &r, &past, err);
	if (rc < 0)
		return rc;
	if (r.step >= SOSIE_CUTOVER_FENCED && !past)
		return plan_continue(g, c, &r, err);
	return plan_new(g, c, &r, err);
}

static void clear_results(struct sosie_cutover *c)
{
	const uint64_t point = c->point;
	char into[sizeof(c->into)];

	memcpy(into, c->into, sizeof(into));
	memset(c, 0, sizeof(*c));
	c->point = point;
	memcpy(c->into, into, sizeof(into));
}

int sosie_cutover_plan(struct sosie_group *g, struct sosie_cutover *c, struct sosie_err *err)
{
	struct cutover_record r;
	int rc = check_into(g, c->into, err);

	clear_results(c);
	if (rc == 0)
		rc = cutover_record_read(g, &r, err);
	if (rc < 0)
		return rc;
	if (c->point == 0 && r.step < SOSIE_CUTOVER_FENCED)
		accept_inbox(g);
	rc = sosie_group_lock(g, "sosie cutover", LOCK_WAIT_MS, err);
	if (rc < 0)
		return rc;
	rc = plan_locked(g, c, err);
	if (rc < 0)
		sosie_group_unlock(g);
	return rc;
}

void sosie_cutover_end(struct sosie_group *g, struct sosie_cutover *c)
{
	free(c->images);
	c->images = NULL;
	c->image_count = 0;
	if (g->lock)
		sosie_group_unlock(g);
}

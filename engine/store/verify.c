/* SPDX-License-Identifier: MIT */
/*
 * Verification of a group: chain, audit logs, journal, generations, head. Takes no lock and writes nothing,
 * so that another user may run it while a keeper works: what it looks at was durable when the group was
 * opened and never changes (chain up to there, journal, generations), or it is looked at again before damage
 * is told (head).
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/store/verify.h"

void verify_damage(struct verify *w, const char *where, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	if (vsnprintf(text, sizeof(text), fmt, ap) < 0)
		text[0] = '\0';
	va_end(ap);
	w->v->damaged++;
	if (w->v->damage)
		w->v->damage(w->v->arg, where, text);
}

int verify_failure(struct verify *w, int rc, const char *where, const struct sosie_err *failure,
                   struct sosie_err *err)
{
	switch (-rc) {
	case SOSIE_EIO:
		if (failure->sys == ECANCELED)
			break;
		verify_damage(w, where, "%s", failure->what);
		return 0;
	case SOSIE_ECORRUPT:
	case SOSIE_ENOTFOUND:
	case SOSIE_ECONFIG:
	case SOSIE_EAUTH:
	case SOSIE_EUNSUPPORTED:
		verify_damage(w, where, "%s", failure->what);
		return 0;
	default:
		break;
	}
	if (err)
		*err = *failure;
	return rc;
}

bool verify_pruned(struct verify *w, uint64_t point)
{
	struct pruned now;

	if (pruned_find(&w->gone, point))
		return true;
	if (pruned_read(w->g, &now, NULL) < 0)
		return false;
	pruned_fini(&w->gone);
	w->gone = now;
	return pruned_find(&w->gone, point) != NULL;
}

/* --- chain
 * ------------------------------------------------------------------------------------------------------------
 */

/* Where the walk along the chain stands. */
struct walk {
	struct sosie_digest previous; /* digest of the entry before */
	struct sosie_digest head;     /* of the newest entry of kind point or epoch before */
	uint64_t point, epoch;
	char where[STORE_PATH]; /* file of the entry */
	uint64_t offset;
};

static int acceptance_texts(struct verify *w, const struct sosie_json *a, struct sosie_err *err)
{
	const char *text;
	uint64_t format;
	int rc = sosie_json_u64(a, "format", STORE_FORMAT, &format, err);

	if (rc == 0)
		rc = sosie_json_str(a, "kind", 16, &text, err);
	if (rc == 0 && strcmp(text, "point") != 0)
		rc = sosie_err_set(err, SOSIE_ECORRUPT, "it is the acceptance of a \"%s\", not of a point",
		                   text);
	if (rc == 0)
		rc = sosie_json_str(a, "tenant", SOSIE_NAME_MAX, &text, err);
	if (rc == 0 && strcmp(text, w->g->tenant.s) != 0)
		rc = sosie_err_set(err, SOSIE_ECORRUPT, "it belongs to the tenant %s", text);
	if (rc == 0)
		rc = sosie_json_str(a, "group", SOSIE_NAME_MAX, &text, err);
	if (rc == 0 && strcmp(text, w->g->name.s) != 0)
		rc = sosie_err_set(err, SOSIE_ECORRUPT, "it belongs to the group %s", text);
	return rc;
}

static int acceptance_numbers(const struct sosie_json *a, const struct chain_entry *e,
                              const struct sosie_manifest *m, struct sosie_err *err)
{
	uint64_t epoch, point, stored, sum = 0;
	int64_t time_ms;
	int rc = sosie_json_u64(a, "epoch", INT64_MAX, &epoch, err);

	if (rc == 0)
		rc = sosie_json_u64(a, "point", INT64_MAX, &point, err);
	if (rc == 0)
		rc = sosie_json_u64(a, "stored", INT64_MAX, &stored, err);
	if (rc == 0)
		rc = layout_json_time(a, "time", &time_ms, err);
	for (unsigned i = 0; i < m->part_count; i++)
		sum += m->parts[i].length;
	if (rc == 0 && (point != e->point || epoch != m->epoch || time_ms != e->time_ms || stored != sum))
		rc = sosie_err_set(
		        err, SOSIE_ECORRUPT,
		        "point, epoch, time or size differ between acceptance, entry and manifest");
	return rc;
}

/* Older releases did not write it. */
static int check_previous(const struct sosie_json *doc, const struct chain_entry *e, struct sosie_err *err)
{
	struct sosie_digest named;
	int rc = sosie_json_has(doc, "previous")
	                 ? sosie_json_hex(doc, "previous", named.b, sizeof(named.b), err)
	                 : 0;

	if (rc == 0 && sosie_json_has(doc, "previous") && !sosie_digest_equal(&named, &e->previous))
		rc = sosie_err_set(err, SOSIE_ECORRUPT, "it was signed to follow another entry");
	return rc;
}

static int check_acceptance(struct verify *w, const struct chain_entry *e, const void *text, uint32_t len,
                            const struct sosie_manifest *m, const struct sosie_digest *manifest_digest,
                            struct sosie_err *err)
{
	struct sosie_json *a = NULL;
	struct sosie_digest named;
	int rc = sosie_json_parse(text, sosie_signed_text(text, len), STORE_SMALL_FILE, &a, err);

	if (rc == 0)
		rc = acceptance_texts(w, a, err);
	if (rc == 0)
		rc = acceptance_numbers(a, e, m, err);
	if (rc == 0)
		rc = sosie_json_hex(a, "manifest", named.b, sizeof(named.b), err);
	if (rc == 0 && !sosie_digest_equal(&named, manifest_digest))
		rc = sosie_err_set(err, SOSIE_ECORRUPT, "the acceptance names another manifest");
	if (rc == 0)
		rc = check_previous(a, e, err);
	sosie_json_free(a);
	if (rc == 0)
		rc = verify_standby(w, text, len, err);
	if (rc == 0)
		w->v->countersigned += sosie_signed_text(text, len) < len;
	return rc;
}

static int check_place(struct verify *w, const struct walk *walk, const struct chain_entry *e,
                       const struct sosie_manifest *m, struct sosie_err *err)
{
	if (m->kind != SOSIE_MANIFEST_SEGMENT || strcmp(m->tenant.s, w->g->tenant.s) != 0 ||
	    strcmp(m->group.s, w->g->name.s) != 0)
		return sosie_err_set(err, SOSIE_ECORRUPT, "the manifest is that of another group");
	if (!sosie_digest_equal(&m->parent, &walk->head))
		return sosie_err_set(err, SOSIE_ECORRUPT,
		                     "the manifest does not build on the entry before it");
	if (e->point != walk->point + 1 || m->epoch != walk->epoch)
		return sosie_err_set(err, SOSIE_ECORRUPT,
		                     "point %llu of epoch %llu follows point %llu of epoch %llu",
		                     (unsigned long long)e->point, (unsigned long long)m->epoch,
		                     (unsigned long long)walk->point, (unsigned long long)walk->epoch);
	return 0;
}

static int check_point_entry(struct verify *w, struct walk *walk, const struct chain_entry *e,
                             const void *body, struct sosie_err *err)
{
	const void *manifest, *acceptance;
	uint32_t manifest_len, acceptance_len;
	struct sosie_digest digest;
	struct sosie_manifest m;
	int rc = chain_point_body(body, e->body_len, &manifest, &manifest_len, &acceptance, &acceptance_len,
	                          err);

	memset(&m, 0, sizeof(m));
	if (rc == 0)
		rc = sosie_manifest_parse(manifest, sosie_signed_text(manifest, manifest_len), &m, err);
	if (rc < 0)
		return rc;
	sosie_manifest_digest(w->g->hash, manifest, sosie_signed_text(manifest, manifest_len), &digest);
	rc = check_place(w, walk, e, &m, err);
	if (rc == 0)
		rc = verify_source(w, e, manifest, manifest_len, err);
	if (rc == 0)
		rc = check_acceptance(w, e, acceptance, acceptance_len, &m, &digest, err);
	sosie_manifest_fini(&m);
	return rc;
}

static int check_epoch_entry(struct verify *w, struct walk *walk, const struct chain_entry *e,
                             const void *body, struct sosie_err *err)
{
	struct sosie_json *doc = NULL;
	uint64_t epoch = 0, point = 0;
	int rc = sosie_json_parse(body, sosie_signed_text(body, e->body_len), STORE_SMALL_FILE, &doc, err);

	if (rc == 0)
		rc = sosie_json_u64(doc, "epoch", INT64_MAX, &epoch, err);
	if (rc == 0)
		rc = sosie_json_u64(doc, "point", INT64_MAX, &point, err);
	if (rc == 0)
		rc = check_previous(doc, e, err);
	sosie_json_free(doc);
	if (rc == 0)
		rc = verify_standby(w, body, e->body_len, err);
	if (rc == 0 && (epoch <= walk->epoch || point > walk->point || e->point != walk->point))
		rc = sosie_err_set(err, SOSIE_ECORRUPT,
		                   "epoch %llu at point %llu follows epoch %llu at point %llu",
		                   (unsigned long long)epoch, (unsigned long long)point,
		                   (unsigned long long)walk->epoch, (unsigned long long)walk->point);
	if (rc == 0)
		walk->epoch = epoch;
	return rc;
}

static int check_entry(struct verify *w, struct walk *walk, const struct chain_entry *e,
                       struct sosie_err *err)
{
	void *body = NULL;
	int rc = 0;

	if (!sosie_digest_equal(&e->previous, &walk->previous))
		verify_damage(w, walk->where, "entry at offset %llu: it does not name the entry before it",
		              (unsigned long long)e->offset);
	rc = chain_body(w->g->chain, e, &body, err);
	if (rc == 0 && e->kind == CHAIN_POINT)
		rc = check_point_entry(w, walk, e, body, err);
	else if (rc == 0 && e->kind == CHAIN_EPOCH)
		rc = check_epoch_entry(w, walk, e, body, err);
	free(body);
	return rc;
}

static void advance(struct walk *walk, const struct chain_entry *e)
{
	walk->previous = e->digest;
	if (e->kind == CHAIN_POINT || e->kind == CHAIN_EPOCH)
		walk->head = e->digest;
	if (e->kind == CHAIN_POINT)
		walk->point = e->point;
}

static void genesis(struct verify *w, struct sosie_digest *out)
{
	struct sosie_hash *h = w->g->hash;

	sosie_hash_start(h, "sosie genesis1");
	sosie_hash_add(h, w->g->store->info.id.b, sizeof(w->g->store->info.id.b));
	sosie_hash_add_text(h, w->g->tenant.s);
	sosie_hash_add_text(h, w->g->name.s);
	sosie_hash_end(h, out);
}

static int verify_chain(struct verify *w, struct sosie_err *err)
{
	struct walk walk;
	struct sosie_err failure;
	int rc = 0;

	memset(&walk, 0, sizeof(walk));
	walk.epoch = 1;
	genesis(w, &walk.previous);
	walk.head = walk.previous;
	for (uint64_t i = 0; rc == 0 && i < chain_entries(w->g->chain); i++) {
		const struct chain_entry *e = chain_entry(w->g->chain, i);
		rc = store_path(walk.where, err, "%s/chain/%06u.chain", w->g->dir, e->file);
		if (rc < 0)
			return rc;
		rc = check_entry(w, &walk, e, &failure);
		if (rc < 0) {
			sosie_err_wrap(&failure, "entry at offset %llu", (unsigned long long)e->offset);
			rc = verify_failure(w, rc, walk.where, &failure, err);
		}
		advance(&walk, e);
		w->v->entries++;
		w->v->points += e->kind == CHAIN_POINT;
		sosie_progress(w->v->progress, "checking the chain", i + 1, chain_entries(w->g->chain));
	}
	return rc;
}

/* --- journal
 * ------------------------------------------------------------------------------------------------------------
 */

/* A manifest that cannot be read was told with its chain entry. */
static int manifest_of(struct verify *w, uint64_t point, struct sosie_manifest *m, bool *readable,
                       struct sosie_err *err)
{
	int rc = sosie_group_manifest(w->g, point, m, err);

	*readable = rc == 0;
	return rc == -SOSIE_ECORRUPT || rc == -SOSIE_EIO || rc == -SOSIE_ENOTFOUND ? 0 : rc;
}

static int verify_journal(struct verify *w, uint64_t first, uint64_t last, struct sosie_err *err)
{
	int rc = 0;

	for (uint64_t n = first; rc == 0 && n <= last; n++) {
		struct sosie_manifest m;
		bool readable;
		if (pruned_find(&w->gone, n))
			continue;
		rc = manifest_of(w, n, &m, &readable, err);
		if (rc < 0 || !readable)
			continue;
		rc = verify_parts(w, n, &m, err);
		sosie_manifest_fini(&m);
	}
	return rc;
}

/* --- generations and head
 * ----------------------------------------------------------------------------------------------- */

struct generation_check {
	struct verify *w;
	uint64_t point;
};

static bool generation_still_kept(void *arg)
{
	const struct generation_check *c = arg;

	return !verify_pruned(c->w, c->point);
}

static int verify_generation(struct verify *w, uint64_t generation, struct sosie_err *err)
{
	struct generation_check check = {w, generation};
	struct sosie_manifest m;
	struct sosie_json *doc = NULL;
	struct sosie_err failure;
	char dir[STORE_PATH], path[STORE_PATH];
	bool readable = false;
	int rc = store_path(dir, err, "%s/generations/%llu", w->g->dir, (unsigned long long)generation);

	if (rc == 0)
		rc = store_path(path, err, "%s/generation.json", dir);
	if (rc == 0)
		rc = manifest_of(w, generation, &m, &readable, err);
	if (rc < 0 || !readable)
		return rc;
	char *text = NULL;
	size_t len = 0;
	rc = sosie_io_read_file(w->io, path, STORE_SMALL_FILE, &text, &len, &failure);
	if (rc == 0)
		rc = sosie_json_parse(text, len, STORE_SMALL_FILE, &doc, &failure);
	sosie_json_free(doc);
	free(text);
	if (rc < 0)
		rc = generation_still_kept(&check) ? verify_failure(w, rc, path, &failure, err) : 0;
	w->v->generations++;
	if (rc == 0)
		rc = verify_images(w, dir, &m, generation_still_kept, &check, err);
	sosie_manifest_fini(&m);
	return rc;
}

struct generations {
	uint64_t *list; /* ascending */
	size_t count;
};

/* Points that stay while the one before them is gone are made of a generation of their own: without it they,
 * and those that follow up to the next one, cannot be made, whatever else is whole. */
static int verify_ways(struct verify *w, const struct generations *n, struct sosie_err *err)
{
	char where[STORE_PATH];
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < w->gone.count; i++) {
		const uint64_t point = w->gone.ranges[i].last + 1;
		bool there = point > sosie_group_points(w->g) || pruned_find(&w->gone, point) != NULL;
		for (size_t k = 0; !there && k < n->count; k++)
			there = n->list[k] == point;
		if (there || verify_pruned(w, point))
			continue;
		rc = store_path(where, err, "%s/generations/%llu", w->g->dir, (unsigned long long)point);
		if (rc == 0)
			verify_damage(
			        w, where,
			        "it is missing: point %llu cannot be made, since those before it were pruned",
			        (unsigned long long)point);
	}
	return rc;
}

/* A generation above what we know: made by a keeper since we opened the group, or of a point that the chain
 * has lost. */
static int verify_newer_generation(struct verify *w, uint64_t generation, struct sosie_err *err)
{
	struct sosie_group *again;
	char where[STORE_PATH];
	int rc = sosie_group_open(w->g->store, w->g->tenant.s, w->g->name.s, &again, err);

	if (rc < 0)
		return rc;
	if (sosie_group_points(again) < generation) {
		rc = store_path(where, err, "%s/generations/%llu", w->g->dir, (unsigned long long)generation);
		if (rc == 0)
			verify_damage(w, where, "the chain has no point %llu",
			              (unsigned long long)generation);
	}
	sosie_group_close(again);
	return rc;
}

static int verify_generations(struct verify *w, struct sosie_err *err)
{
	struct generations n = {0};
	int rc = generation_list(w->g, &n.list, &n.count, err);

	if (rc == 0)
		rc = verify_ways(w, &n, err);
	for (size_t i = 0; rc == 0 && i < n.count; i++)
		rc = pruned_find(&w->gone, n.list[i])        ? 0
		     : n.list[i] <= sosie_group_points(w->g) ? verify_generation(w, n.list[i], err)
		                                             : verify_newer_generation(w, n.list[i], err);
	free(n.list);
	return rc;
}

/* The head's mark as we first saw it: each change replaces the file. */
struct head_mark {
	struct verify *w;
	char path[STORE_PATH];
	struct sosie_stat seen;
};

static bool head_still_clean(void *arg)
{
	struct head_mark *mark = arg;
	struct sosie_stat now;

	return sosie_io_stat(mark->w->io, mark->path, &now, NULL) == 0 && now.ino == mark->seen.ino &&
	       now.ctime_ns == mark->seen.ctime_ns;
}

/* head/ says that it is clean only at rest; while it works it may be rebuilt at any time and is no point. */
static int verify_head(struct verify *w, struct sosie_err *err)
{
	struct head_mark mark = {.w = w};
	struct sosie_manifest m;
	char dir[STORE_PATH];
	uint64_t point = 0;
	int state = SOSIE_HEAD_NONE;
	bool readable = false;
	int rc = store_path(dir, err, "%s/head", w->g->dir);

	if (rc == 0)
		rc = store_path(mark.path, err, "%s/mark.json", dir);
	if (rc < 0 || sosie_io_stat(w->io, mark.path, &mark.seen, NULL) < 0)
		return rc;
	rc = head_state(w->g, &state, &point, err);
	if (rc < 0 || state != SOSIE_HEAD_CLEAN || point == 0 || point > sosie_group_points(w->g) ||
	    !head_still_clean(&mark))
		return rc == -SOSIE_ECORRUPT
		               ? 0
		               : rc; /* a mark that cannot be read makes the head void, no more */
	rc = manifest_of(w, point, &m, &readable, err);
	if (rc < 0 || !readable)
		return rc;
	rc = verify_images(w, dir, &m, head_still_clean, &mark, err);
	sosie_manifest_fini(&m);
	return rc;
}

/* --- all of it
 * --------------------------------------------------------------------------------------------------------------
 */

static int verify_one_point(struct verify *w, uint64_t point, struct sosie_err *err)
{
	uint64_t generation;
	int rc = sosie_group_generation(w->g, point, &generation, err);

	if (rc == 0)
		rc = verify_journal(w, generation + 1, point, err);
	return rc == 0 && generation > 0 ? verify_generation(w, generation, err) : rc;
}

static int verify_all(struct verify *w, struct sosie_err *err)
{
	int rc = verify_audit(w, err);
	if (rc == 0)
		rc = verify_journal(w, 1, sosie_group_points(w->g), err);
	if (rc == 0)
		rc = verify_generations(w, err);
	return rc == 0 && w->v->full ? verify_head(w, err) : rc;
}

/* A record that cannot be read is damage of its own: then every part that is missing is told too. */
static int read_record(struct verify *w, struct sosie_err *err)
{
	struct sosie_err failure;
	int rc = pruned_read(w->g, &w->gone, &failure);

	return rc == 0 ? 0 : verify_failure(w, rc, failure.where, &failure, err);
}

int sosie_group_verify(struct sosie_group *g, struct sosie_verify *v, struct sosie_err *err)
{
	struct verify w = {.g = g, .io = g->store->io, .v = v};
	int rc = 0;

	v->entries = v->points = v->parts = v->part_bytes = v->generations = v->image_bytes = v->damaged = 0;
	v->signed_points = v->countersigned = v->unattributed = 0;
	v->audit_entries = 0;
	v->audit_denied = false;
	/* Nothing is taken from what an earlier opening read. */
	if (chain_carried(g->chain))
		rc = group_chain_anew(g, err);
	if (rc == 0 && v->point > 0)
		rc = sosie_group_reachable(g, v->point, err);
	if (rc < 0)
		return rc;
	w.ring = aligned_alloc(SOSIE_LEAF, STREAM_BLOCKS * STORE_BLOCK);
	w.scratch = malloc(SOSIE_RECORD_MAX);
	w.chunk = aligned_alloc(SOSIE_LEAF, SOSIE_CHUNK);
	if (!w.ring || !w.scratch || !w.chunk)
		rc = sosie_err_sys(err, ENOMEM, "cannot verify %s/%s", g->tenant.s, g->name.s);
	sosie_context_group(g->hash, g->tenant.s, g->name.s, &w.group_ctx);
	if (rc == 0)
		rc = read_record(&w, err);
	if (rc == 0)
		rc = verify_keys_get(&w, err);
	if (rc == 0)
		rc = verify_chain(&w, err);
	verify_keys_free(&w);
	if (rc == 0)
		rc = v->point ? verify_one_point(&w, v->point, err) : verify_all(&w, err);
	pruned_fini(&w.gone);
	free(w.ring);
	free(w.scratch);
	free(w.chunk);
	return rc;
}

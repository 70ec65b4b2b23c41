/* SPDX-License-Identifier: MIT */
/*
 * Pruning (docs/operating.md, "Retention"). Under the group's lock, in this order:
 *
 *   generations  each point that stays and has lost the point before it gets one of its own; durable
 *   record       the points that go: audit entry, then state/pruned.json; durable
 *   unlink       their segments and generations
 *
 * Invariant, before, between and after: a point that the record does not name has its segment, and a
 * generation at it or at a point from which on to it none is named (or none from 1 on). So a crash leaves a
 * point reachable or recorded, and the next run takes away what is left of recorded ones. Nothing depends on
 * head/, which may be thrown away at any time; it is made clean before segments go that would settle it.
 *
 * Without reflink a generation is a full copy: there points are kept that another one is reached through,
 * until their segments outweigh such a copy.
 *
 * Cost: one pass over the chain's entries, the points that are there and the journal's names.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/cutover/internal.h"
#include "engine/store/pins.h"
#include "engine/store/policy.h"
#include "engine/store/pruned.h"
#include "engine/store/quota.h"
#include "sosie/audit.h"

#define BUDGET_MS 2000         /* of making generations, in one step */
#define LOOK_MS 60000          /* from one look at a group to the next */
#define DUE_MS 3600000         /* from one prune to the next */
#define AUDIT_RANGES_MAX 300u  /* in one entry */
#define QUOTA_HEADROOM 16u     /* a sixteenth of a quota is kept free of what is only wished */
#define PRUNE_SLACK (1u << 20) /* what pruning takes itself, and estimates miss */
#define RESERVE_MARGIN 4u      /* pruning for room begins a fourth above the reserve, at which uploads wait */

struct plan {
	struct sosie_group *g;
	struct pruned gone;
	struct sosie_kept *points;
	uint64_t *bytes; /* of each point's segment */
	size_t count;
	uint64_t *generations; /* numbers, ascending */
	size_t generation_count;
	uint64_t image_bytes; /* what a generation takes where it is a copy; 0 with reflink */
	struct sosie_policy_view *view;
	int64_t now_ms;
	bool of_log; /* pins from the log itself, not from its copy */
};

static bool group_wanted(void *arg)
{
	return sosie_group_wanted(arg);
}

/* --- what is there
 * ---------------------------------------------------------------------------------------------------- */

static struct sosie_kept *plan_find(const struct plan *p, uint64_t point)
{
	size_t low = 0, high = p->count;
	while (low < high) {
		size_t mid = low + (high - low) / 2;
		if (p->points[mid].point < point)
			low = mid + 1;
		else
			high = mid;
	}
	return low < p->count && p->points[low].point == point ? &p->points[low] : NULL;
}

static int plan_points(struct plan *p, struct sosie_err *err)
{
	const struct sosie_chain *chain = p->g->chain;
	struct retain_clock clock = {.now_ms = p->now_ms};
	const uint64_t newest = chain_newest_point(chain);
	p->points = calloc(newest + 1, sizeof(*p->points));
	p->bytes = calloc(newest + 1, sizeof(*p->bytes));
	if (!p->points || !p->bytes)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for %llu points",
		                     (unsigned long long)newest);
	for (uint64_t i = 0; i < chain_entries(chain); i++) {
		const struct chain_entry *e = chain_entry(chain, i);
		if (e->kind != CHAIN_POINT)
			continue;
		const int64_t time_ms = retain_time(&clock, e->time_ms);
		if (!pruned_find(&p->gone, e->point))
			p->points[p->count++] = (struct sosie_kept){.point = e->point, .time_ms = time_ms};
	}
	return 0;
}

static void add_bytes(void *arg, uint64_t point, uint64_t bytes)
{
	const struct plan *p = arg;
	const struct sosie_kept *k = plan_find(p, point);
	if (k)
		p->bytes[k - p->points] += bytes;
}

static bool has_generation(const struct plan *p, uint64_t point)
{
	for (size_t low = 0, high = p->generation_count; low < high;) {
		size_t mid = low + (high - low) / 2;
		if (p->generations[mid] == point)
			return true;
		if (p->generations[mid] < point)
			low = mid + 1;
		else
			high = mid;
	}
	return false;
}

struct allocated {
	struct sosie_io *io;
	const char *dir;
	uint64_t bytes;
};

static int add_allocated(void *arg, const char *name, enum sosie_file_kind kind)
{
	struct allocated *a = arg;
	char path[STORE_PATH];
	struct sosie_stat st;
	if (kind == SOSIE_KIND_FILE && !store_path(path, NULL, "%s/%s", a->dir, name) &&
	    !sosie_io_stat(a->io, path, &st, NULL))
		a->bytes += st.allocated;
	return 0;
}

/* What a full copy of the images takes, by those of the head or the newest generation. */
static uint64_t copy_bytes(struct plan *p)
{
	char dir[STORE_PATH];
	struct allocated a = {.io = p->g->store->io, .dir = dir};
	if (!store_path(dir, NULL, "%s/head", p->g->dir))
		(void)sosie_io_list(a.io, dir, add_allocated, &a, NULL);
	if (a.bytes == 0 && p->generation_count &&
	    !store_path(dir, NULL, "%s/generations/%llu", p->g->dir,
	                (unsigned long long)p->generations[p->generation_count - 1]))
		(void)sosie_io_list(a.io, dir, add_allocated, &a, NULL);
	return a.bytes ? a.bytes : UINT64_MAX;
}

/* --- what stays
 * ------------------------------------------------------------------------------------------------------- */

static int keep_pins(struct plan *p, struct sosie_err *err)
{
	struct sosie_pin *pins;
	unsigned count;
	int rc = p->of_log ? pins_of_log(p->g, p->now_ms, &pins, &count, err)
	                   : sosie_pins(p->g, &pins, &count, err);
	for (unsigned i = 0; !rc && i < count; i++) {
		struct sosie_kept *k = plan_find(p, pins[i].point);
		if (k)
			k->by |= SOSIE_KEPT_PIN;
	}
	if (!rc)
		free(pins);
	return rc;
}

static int keep_cutover(struct plan *p, struct sosie_err *err)
{
	struct cutover_record *r = calloc(1, sizeof(*r));
	int rc = r ? cutover_record_read(p->g, r, err)
	           : sosie_err_set(err, SOSIE_ENOMEM, "no memory to read the record of a cutover");
	struct sosie_kept *k = !rc && r->step != SOSIE_CUTOVER_NONE ? plan_find(p, r->point) : NULL;
	if (k)
		k->by |= SOSIE_KEPT_CUTOVER;
	free(r);
	return rc;
}

/* Where images are copied, a point whose predecessor goes is reached from the last that stays, or from a
 * generation between, as long as the segments on that way weigh less than a copy. */
static void keep_ways(struct plan *p)
{
	size_t last = SIZE_MAX; /* index of the point before that stays */
	for (size_t i = 0; i < p->count; i++) {
		uint64_t weight = 0;
		size_t k = i;
		if (!p->points[i].by)
			continue;
		while (k > 0 && k - 1 != last && !has_generation(p, p->points[k].point) &&
		       p->points[k - 1].point + 1 == p->points[k].point && weight <= p->image_bytes)
			weight += p->bytes[--k];
		const bool based =
		        has_generation(p, p->points[k].point) || p->points[k].point == 1 ||
		        (k > 0 && k - 1 == last && p->points[k - 1].point + 1 == p->points[k].point);
		for (; based && weight < p->image_bytes && k < i; k++)
			p->points[k].by |= SOSIE_KEPT_WAY;
		last = i;
	}
}

static uint64_t weight_of(const struct plan *p, size_t i)
{
	return p->bytes[i] + (has_generation(p, p->points[i].point) ? p->image_bytes : 0);
}

/* Lets go of what is only wished, the least first, until so many bytes are found. */
static void thin(struct plan *p, uint64_t bytes)
{
	uint64_t found = 0;
	for (size_t i = 0; i < p->count; i++)
		found += p->points[i].by ? 0 : weight_of(p, i);
	for (unsigned rank = 1; rank <= 2 + RETAIN_PERIODS; rank++)
		for (size_t i = 0; i < p->count && found < bytes; i++) {
			if (retain_thin_rank(&p->points[i]) != rank)
				continue;
			p->points[i].by = 0;
			p->points[i].space = true;
			found += weight_of(p, i);
		}
}

static void plan_fini(struct plan *p)
{
	pruned_fini(&p->gone);
	free(p->points);
	free(p->bytes);
	free(p->generations);
	free(p->view);
}

static int plan_make(struct plan *p, uint64_t short_bytes, struct sosie_err *err)
{
	struct sosie_group *g = p->g;
	struct retain_policy rules;
	int rc = pruned_read(g, &p->gone, err);
	p->view = malloc(sizeof(*p->view));
	if (!rc && !p->view)
		rc = sosie_err_set(err, SOSIE_ENOMEM, "no memory to read a policy");
	if (!rc)
		rc = policy_of_group(g, p->now_ms, p->view, err);
	if (!rc)
		rc = plan_points(p, err);
	if (!rc && !p->view->keeps_all) /* else nothing goes: nothing is weighed */
		rc = journal_files(g, add_bytes, p, err);
	if (!rc)
		rc = generation_list(g, &p->generations, &p->generation_count, err);
	if (!rc)
		rc = keep_pins(p, err);
	if (!rc)
		rc = keep_cutover(p, err);
	if (rc)
		return rc;
	p->image_bytes = g->store->info.reflink ? 0 : copy_bytes(p);
	policy_rules(p->view, &rules);
	retain_points(p->points, p->count, &rules, p->now_ms);
	if (short_bytes && !p->view->keeps_all)
		thin(p, short_bytes);
	if (!g->store->info.reflink)
		keep_ways(p);
	return 0;
}

/* Does the point stay without the one before it, so that it needs a generation? */
static bool loses_way(const struct plan *p, size_t i)
{
	const struct sosie_kept *k = &p->points[i];
	return k->by && k->point > 1 &&
	       (i == 0 || p->points[i - 1].point + 1 != k->point || !p->points[i - 1].by);
}

static void count_plan(const struct plan *p, struct sosie_prune *out)
{
	out->keeps_all = p->view->keeps_all;
	out->points = out->bytes = out->generations = 0;
	for (size_t i = 0; i < p->count; i++) {
		if (!p->points[i].by) {
			out->points++;
			out->bytes += weight_of(p, i);
		}
		if (loses_way(p, i) && !has_generation(p, p->points[i].point))
			out->generations++;
	}
}

/* --- generations
 * -------------------------------------------------------------------------------------------------------- */

/* A head that a cutover took, or that is void, is not made anew for a generation. */
static bool head_is_clean(struct sosie_group *g)
{
	uint64_t point;
	int state;
	return !head_state(g, &state, &point, NULL) && state == SOSIE_HEAD_CLEAN &&
	       point == chain_newest_point(g->chain);
}

/* From the oldest on, so that each is made from the one before. *made: of them. */
static int make_generations(struct plan *p, int64_t until_ms, uint64_t *made, struct sosie_err *err)
{
	struct sosie_group *g = p->g;
	int rc = 0;
	for (size_t i = 0; !rc && i < p->count; i++) {
		const uint64_t point = p->points[i].point;
		if (!loses_way(p, i) || has_generation(p, point))
			continue;
		if (*made > 0 && (sosie_mono_ms(g->store->clock) >= until_ms || sosie_group_wanted(g)))
			return sosie_err_set(err, SOSIE_EBUSY, "more generations are to be made");
		rc = point == chain_newest_point(g->chain) && head_is_clean(g)
		             ? generation_make(g, NULL, err)
		             : generation_make_at(g, point, group_wanted, g, NULL, err);
		*made += !rc;
	}
	return rc;
}

/* What is about to become the only way to a point must be good. */
static int check_generations(struct plan *p, struct sosie_err *err)
{
	int rc = 0;
	for (size_t i = 0; !rc && i < p->count; i++) {
		if (!loses_way(p, i) || i == 0 || p->points[i - 1].by ||
		    p->points[i - 1].point + 1 != p->points[i].point)
			continue; /* it lost its way before */
		rc = generation_check(p->g, p->points[i].point, err);
		if (rc == -SOSIE_ECORRUPT || rc == -SOSIE_ENOTFOUND) {
			sosie_err_wrap(err, "%s/%s: nothing is pruned: generation %llu is damaged",
			               p->g->tenant.s, p->g->name.s, (unsigned long long)p->points[i].point);
			rc = sosie_err_action(err, "see what else is: sosie verify --full %s/%s",
			                      p->g->tenant.s, p->g->name.s);
		}
	}
	return rc;
}

static int make_all(struct plan *p, int64_t until_ms, uint64_t *made, struct sosie_err *err)
{
	int rc = make_generations(p, until_ms, made, err);
	return rc ? rc : check_generations(p, err);
}

/* --- record
 * --------------------------------------------------------------------------------------------------------------
 */

/* The points that go as ranges; malloc'd. */
static int going_ranges(const struct plan *p, struct sosie_pruned **out, size_t *count, struct sosie_err *err)
{
	struct sosie_pruned *r = calloc(p->count + 1, sizeof(*r));
	size_t n = 0;
	*out = r;
	*count = 0;
	if (!r)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for the points to prune");
	for (size_t i = 0; i < p->count; i++) {
		const char *why = p->points[i].space ? "space" : "policy";
		if (p->points[i].by)
			continue;
		if (n > 0 && r[n - 1].last + 1 == p->points[i].point && strcmp(r[n - 1].why, why) == 0) {
			r[n - 1].last++;
			continue;
		}
		r[n] = (struct sosie_pruned){
		        .first = p->points[i].point, .last = p->points[i].point, .time_ms = p->now_ms};
		memcpy(r[n++].why, why, strlen(why) + 1);
	}
	*count = n;
	return 0;
}

/* Which upload it is that points make room for. */
static void tell_room(const struct plan *p, struct sosie_json *j)
{
	struct sosie_upload_id upload;
	char id[UPLOAD_HEX + 1];
	const uint64_t bytes = room_asked(p->g, &upload);
	if (!bytes)
		return;
	sosie_hex(id, upload.b, sizeof(upload.b));
	sosie_json_set_str(j, "upload", id);
	sosie_json_set_u64(j, "bytes", bytes);
}

static struct sosie_json *audit_body(const struct plan *p, const struct sosie_pruned *ranges, size_t count)
{
	struct sosie_json *j = sosie_json_new();
	sosie_json_set_str(j, "group", p->g->name.s);
	struct sosie_json *list = sosie_json_add_arr(j, "ranges");
	bool space = false;
	for (size_t i = 0; i < count; i++) {
		space |= strcmp(ranges[i].why, "space") == 0;
		struct sosie_json *obj = sosie_json_push_obj(list);
		sosie_json_set_u64(obj, "first", ranges[i].first);
		sosie_json_set_u64(obj, "last", ranges[i].last);
		sosie_json_set_str(obj, "why", ranges[i].why);
	}
	if (space)
		tell_room(p, j);
	struct sosie_json *policy = sosie_json_add_obj(j, "policy");
	for (unsigned i = 0; i <= SOSIE_POLICY_WISH_MONTHLY; i++)
		if (p->view->values[i].set)
			sosie_json_set_u64(policy, sosie_policy_name((enum sosie_policy_key)i),
			                   p->view->values[i].value);
	return j;
}

static int record(struct plan *p, struct sosie_err *err)
{
	struct sosie_pruned *ranges;
	size_t count;
	int rc = going_ranges(p, &ranges, &count, err);
	for (size_t i = 0; !rc && i < count; i += AUDIT_RANGES_MAX) {
		const size_t n = count - i < AUDIT_RANGES_MAX ? count - i : AUDIT_RANGES_MAX;
		rc = sosie_audit_append(p->g->store, p->g->tenant.s, SOSIE_AUDIT_PRUNE,
		                        audit_body(p, ranges + i, n), NULL, err);
	}
	if (!rc)
		rc = pruned_add(&p->gone, ranges, count, err);
	if (!rc)
		rc = pruned_write(p->g, &p->gone, err);
	free(ranges);
	return rc;
}

/* An open head is settled by the segments behind its mark. */
static int close_head(struct sosie_group *g, struct sosie_err *err)
{
	uint64_t point;
	int state;
	int rc = head_state(g, &state, &point, err);
	return rc || state != SOSIE_HEAD_OPEN ? rc : head_clean(g, err);
}

/* --- unlink
 * --------------------------------------------------------------------------------------------------------------
 */

struct sweeping {
	struct sosie_group *g;
	const struct pruned *gone;
};

static bool is_gone(void *arg, uint64_t point)
{
	const struct sweeping *s = arg;
	return pruned_find(s->gone, point) != NULL;
}

static bool sweeping_wanted(void *arg)
{
	const struct sweeping *s = arg;
	return sosie_group_wanted(s->g);
}

/* Takes away what there still is of recorded points. */
static int unlink_gone(struct plan *p, struct sosie_err *err)
{
	struct sweeping s = {p->g, &p->gone};
	struct store_memo *memo = memo_find(p->g->store, p->g->tenant.s, p->g->name.s);
	int rc = p->gone.count ? journal_sweep(p->g, is_gone, sweeping_wanted, &s, err) : 0;
	for (size_t i = 0; !rc && i < p->generation_count; i++)
		if (is_gone(&s, p->generations[i]))
			rc = generation_remove(p->g, p->generations[i], err);
	if (!rc)
		rc = generation_sweep(p->g, err);
	if (memo)
		memo->counted = false;
	return rc;
}

/* --- a step
 * --------------------------------------------------------------------------------------------------------------
 */

static int plan_and_record(struct plan *p, uint64_t short_bytes, int64_t until_ms, struct sosie_prune *out,
                           struct sosie_err *err)
{
	uint64_t made = 0;
	int rc = plan_make(p, short_bytes, err);
	if (rc)
		return rc;
	count_plan(p, out);
	out->generations = 0;
	if (out->points > 0)
		rc = close_head(p->g, err);
	if (!rc && out->points > 0)
		rc = make_all(p, until_ms, &made, err);
	if (!rc && out->points > 0)
		rc = record(p, err);
	out->generations = made;
	return rc;
}

static int prune_step(struct sosie_group *g, uint64_t short_bytes, int64_t now_ms, struct sosie_prune *out,
                      struct sosie_err *err)
{
	const int64_t until_ms = sosie_mono_ms(g->store->clock) + BUDGET_MS;
	struct plan p = {.g = g, .now_ms = now_ms, .of_log = true};
	struct sosie_file *lock = NULL;
	int rc = policy_lock(g->store, false, 0, &lock, err);
	if (!rc)
		rc = plan_and_record(&p, short_bytes, until_ms, out, err);
	sosie_io_close(g->store->io, lock, NULL);
	const bool recorded = !rc;
	if (!rc)
		rc = unlink_gone(&p, err);
	if (rc == -SOSIE_EBUSY)
		out->more = true;
	if (!recorded)
		out->points = out->bytes = 0;
	plan_fini(&p);
	return rc;
}

static int dry_run(struct sosie_group *g, uint64_t short_bytes, int64_t now_ms, struct sosie_prune *out,
                   struct sosie_err *err)
{
	struct plan p = {.g = g, .now_ms = now_ms};
	int rc = plan_make(&p, short_bytes, err);
	if (!rc)
		count_plan(&p, out);
	plan_fini(&p);
	return rc;
}

/* How many bytes are missing of what must stay free: of the disk, and of the tenant's quota. */
static int shortage(struct sosie_group *g, uint64_t *out, struct sosie_err *err)
{
	struct sosie_upload_id upload;
	struct sosie_space space;
	uint64_t quota, used, want = room_asked(g, &upload), need = want;
	*out = 0;
	int rc = sosie_store_space(g->store, &space, err);
	if (rc)
		return rc;
	if (!sosie_add_u64(need, space.reserve_bytes, &need) ||
	    !sosie_add_u64(need, space.reserve_bytes / RESERVE_MARGIN + PRUNE_SLACK, &need))
		need = UINT64_MAX;
	*out = need > space.free_bytes ? need - space.free_bytes : 0;
	rc = tenant_quota(g->store, g->tenant.s, &quota, err);
	if (rc || quota == 0)
		return rc;
	rc = tenant_usage(g->store, g->tenant.s, &used, err);
	if (!rc && !sosie_add_u64(used, want, &used))
		used = UINT64_MAX;
	const uint64_t allowed = quota - quota / QUOTA_HEADROOM;
	if (!rc && used > allowed && used - allowed > *out)
		*out = used - allowed;
	return rc;
}

int sosie_group_prune(struct sosie_group *g, struct sosie_prune *p, struct sosie_err *err)
{
	struct sosie_clock_state clock;
	const bool dry = p->dry_run;
	uint64_t short_bytes = 0;
	memset(p, 0, sizeof(*p));
	p->dry_run = dry;
	int rc = dry ? sosie_clock_look(g->store, &clock, err) : sosie_clock_note(g->store, &clock, err);
	if (!rc && clock.jumped)
		rc = clock_refuse(&clock, "nothing is pruned", err);
	if (!rc)
		rc = shortage(g, &short_bytes, err);
	if (rc)
		return rc;
	return dry ? dry_run(g, short_bytes, clock.good_ms, p, err)
	           : prune_step(g, short_bytes, clock.good_ms, p, err);
}

/* --- looking
 * -----------------------------------------------------------------------------------------------------------
 */

int sosie_group_kept(struct sosie_group *g, struct sosie_kept **points, size_t *count, struct sosie_err *err)
{
	struct sosie_clock_state clock;
	struct plan p = {.g = g};
	uint64_t short_bytes = 0;
	*points = NULL;
	*count = 0;
	int rc = sosie_clock_look(g->store, &clock, err);
	p.now_ms = clock.good_ms;
	if (!rc)
		rc = shortage(g, &short_bytes, err);
	if (!rc)
		rc = plan_make(&p, short_bytes, err);
	if (!rc) {
		*points = p.points;
		*count = p.count;
		p.points = NULL;
	}
	plan_fini(&p);
	return rc;
}

bool prune_may_thin(struct sosie_group *g, uint64_t bytes)
{
	struct sosie_clock_state clock;
	struct plan p = {.g = g};
	uint64_t found = 0;
	if (sosie_clock_look(g->store, &clock, NULL) || clock.jumped)
		return false;
	p.now_ms = clock.good_ms;
	if (!plan_make(&p, 0, NULL))
		for (size_t i = 0; i < p.count; i++)
			if (!p.points[i].by || retain_thin_rank(&p.points[i]) > 0)
				found += weight_of(&p, i);
	plan_fini(&p);
	return found >= bytes && found > 0;
}

const char *sosie_kept_text(char dst[SOSIE_KEPT_TEXT], unsigned by)
{
	static const struct {
		unsigned bit;
		const char *name;
	} words[] = {{SOSIE_KEPT_NEWEST, "newest"},
	             {SOSIE_KEPT_PIN, "pinned"},
	             {SOSIE_KEPT_CUTOVER, "cutover"},
	             {SOSIE_KEPT_WAY, "on the way to a later one"},
	             {SOSIE_KEPT_EVERYTHING, "everything"},
	             {SOSIE_KEPT_WISHED, "everything, while there is room"}};
	size_t len = 0;
	dst[0] = '\0';
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (by & words[i].bit)
			len += (size_t)snprintf(dst + len, SOSIE_KEPT_TEXT - len, "%s%s", len ? ", " : "",
			                        words[i].name);
	for (unsigned i = 0; i <= SOSIE_POLICY_WISH_MONTHLY; i++) {
		const unsigned bit = i < SOSIE_POLICY_WISH_ALL
		                             ? SOSIE_KEPT_FLOOR_BIT + i
		                             : SOSIE_KEPT_WISH_BIT + i - SOSIE_POLICY_WISH_ALL;
		if (by & (1u << bit))
			len += (size_t)snprintf(dst + len, SOSIE_KEPT_TEXT - len, "%s%s", len ? ", " : "",
			                        sosie_policy_name((enum sosie_policy_key)i));
		if (len >= SOSIE_KEPT_TEXT)
			break;
	}
	return dst;
}

/* --- the keeper
 * ------------------------------------------------------------------------------------------------------------
 */

/* Is there anything to look for? Without opening the group, which reads its chain. */
static int look(struct sosie_store *store, const char *tenant, const char *group, bool *something,
                struct sosie_err *err)
{
	struct sosie_policy_view *view = malloc(sizeof(*view));
	struct sosie_clock_state clock;
	char path[STORE_PATH];
	int rc = view ? sosie_clock_note(store, &clock, err)
	              : sosie_err_set(err, SOSIE_ENOMEM, "no memory to read a policy");
	if (!rc)
		rc = policy_ripen_quota(store, tenant, clock.good_ms, err);
	if (!rc)
		rc = sosie_policy_view(store, tenant, group, view, err);
	if (!rc)
		rc = store_path(path, err, "%s/%s/%s/state/pruned.json", store->path, tenant, group);
	/* What a crash left of a prune is finished also under a policy that keeps everything by now. */
	*something = !rc && !clock.jumped && (!view->keeps_all || sosie_io_exists(store->io, path));
	free(view);
	return rc;
}

static int retain_locked(struct sosie_group *g, struct store_memo *memo, struct sosie_prune *out,
                         struct sosie_err *err)
{
	const int64_t now = sosie_mono_ms(g->store->clock);
	uint64_t short_bytes = 0;
	int rc = shortage(g, &short_bytes, err);
	if (rc || (now < memo->prune_ms && !memo->prune_more && short_bytes == 0))
		return rc;
	rc = sosie_group_lock(g, "sosie-keeper", 0, err);
	if (!rc)
		rc = sosie_group_prune(g, out, err);
	out->looked = true;
	memo->prune_more = out->more;
	if (out->more)
		memo->retain_ms = 0; /* at the next idle moment */
	else if (!rc)
		memo->prune_ms = now + DUE_MS;
	sosie_group_unlock(g);
	return rc;
}

int sosie_keeper_retain(struct sosie_store *store, const char *tenant, const char *group,
                        struct sosie_prune *out, struct sosie_err *err)
{
	const int64_t now = sosie_mono_ms(store->clock);
	struct sosie_group *g = NULL;
	struct store_memo *memo;
	bool something = false;
	memset(out, 0, sizeof(*out));
	int rc = memo_get(store, tenant, group, &memo, err);
	if (rc || now < memo->retain_ms)
		return rc;
	out->looked = true;
	memo->retain_ms = now + LOOK_MS;
	rc = look(store, tenant, group, &something, err);
	if (!rc && something)
		rc = sosie_group_open(store, tenant, group, &g, err);
	if (g)
		rc = retain_locked(g, memo, out, err);
	sosie_group_close(g);
	if (out->points)
		sosie_keeper_tenant(store, tenant, NULL); /* receivers turn uploads away by it */
	return rc == -SOSIE_EBUSY ? 0 : rc;
}

/* SPDX-License-Identifier: MIT */
/*
 * Cutover: results of each way, refusals, and two sweeps over every I/O call: the process killed there, and
 * the power cut there in all four fates. After each the same cutover is run again and must end in the same
 * state; no image under its final name before the epoch is raised (I5), never a second epoch.
 */
#include "tests/support/make_upload.h"
#include "tests/support/rounds.h"
#include "tests/unit/cutover/builder.h"

#define POINTS 5
#define GENERATION 2
#define SEED 20261122u

struct way {
	const char *name;
	bool reflink;
	uint64_t point;   /* asked for; 0: the newest, by its number (there is no inbox to accept) */
	const char *into; /* "" live */
};

static const struct way ways[] = {
        {"latest live", true, 0, ""},    {"latest live, no reflink", false, 0, ""},
        {"older live", true, 3, ""},     {"latest into", false, 0, "/out"},
        {"older into", true, 4, "/out"},
};
#define WAYS (sizeof(ways) / sizeof(ways[0]))

static uint64_t way_point(const struct way *w)
{
	return w->point ? w->point : POINTS;
}

/* One whole run: open, plan, run. Everything is closed again. */
static int cut_over(struct build *b, struct sosie_io *io, const struct way *w, struct sosie_cutover *out,
                    struct sosie_err *err)
{
	static struct sosie_cutover c;
	struct sosie_store *store = NULL;
	struct sosie_group *g = NULL;
	int rc;

	memset(&c, 0, sizeof(c));
	c.point = way_point(w);
	snprintf(c.into, sizeof(c.into), "%s", w->into);
	rc = sosie_store_open(io, &b->clock.clock, "/store", &store, err);
	if (rc == 0)
		build_lend(store);
	if (rc == 0)
		rc = sosie_group_open(store, "acme", "erp", &g, err);
	if (rc == 0)
		rc = sosie_cutover_plan(g, &c, err);
	if (rc == 0) {
		rc = sosie_cutover_run(g, &c, NULL, err);
		if (out)
			*out = c;
		sosie_cutover_end(g, &c);
	}
	sosie_group_close(g);
	sosie_store_close(store);
	return rc;
}

static void image_path(const struct way *w, unsigned volume, char dst[128])
{
	snprintf(dst, 128, "%s/%s.raw", w->into[0] ? w->into : "/store/acme/erp/live/2",
	         build_volumes[volume].name);
}

static void build_genesis(struct build *b, struct sosie_digest *out)
{
	struct sosie_hash *h = sosie_hash_new();
	struct sosie_store_info info;

	assert_non_null(h);
	sosie_store_info(b->store, &info);
	sosie_hash_start(h, "sosie genesis1");
	sosie_hash_add(h, info.id.b, sizeof(info.id.b));
	sosie_hash_add_text(h, "acme");
	sosie_hash_add_text(h, "erp");
	sosie_hash_end(h, out);
	sosie_hash_free(h);
}

static uint64_t epoch_now(struct build *b)
{
	uint64_t epoch;

	build_open(b, b->io);
	epoch = chain_epoch(b->g->chain);
	build_close(b);
	return epoch;
}

/* What holds at every instant. */
static void assert_invariants(struct build *b, const struct way *w)
{
	const uint64_t epoch = epoch_now(b);
	char path[128];

	assert_in_range(epoch, 1, 2);
	for (unsigned v = 0; v < BUILD_VOLUMES; v++) {
		image_path(w, v, path);
		if (!sosie_io_exists(b->io, path))
			continue;
		assert_int_equal(epoch, 2);
		assert_image(b, path, v, way_point(w));
	}
}

static void assert_finished(struct build *b, const struct way *w)
{
	struct sosie_stat st;
	struct sosie_err err;
	char path[128];

	assert_int_equal(epoch_now(b), 2);
	for (unsigned v = 0; v < BUILD_VOLUMES; v++) {
		image_path(w, v, path);
		assert_image(b, path, v, way_point(w));
		must(sosie_io_stat(b->io, path, &st, &err), &err);
		assert_int_equal(st.mode & 0777, 0600);
	}
	if (w->into[0])
		assert_int_equal(build_count(b, w->into), BUILD_VOLUMES);
	else {
		assert_int_equal(build_count(b, "/store/acme/erp/live"), 1);
		assert_int_equal(build_count(b, "/store/acme/erp/live/2"), BUILD_VOLUMES);
	}
}

static void test_cutover_each_way_yields_images(void **state)
{
	struct sosie_cutover c;
	struct sosie_err err;
	struct build b;

	(void)state;
	for (size_t i = 0; i < WAYS; i++) {
		build_start(&b, SEED, ways[i].reflink, POINTS, GENERATION);
		must(cut_over(&b, b.io, &ways[i], &c, &err), &err);
		assert_false(c.already_done);
		assert_int_equal(c.step, SOSIE_CUTOVER_DONE);
		assert_finished(&b, &ways[i]);
		must(cut_over(&b, b.io, &ways[i], &c, &err), &err);
		assert_true(c.already_done);
		assert_finished(&b, &ways[i]);
		build_end(&b);
	}
}

static void test_cutover_latest_live_is_rename(void **state)
{
	struct sosie_cutover c;
	struct sosie_err err;
	struct build b;

	(void)state;
	build_start(&b, SEED, false, POINTS, 0);
	must(cut_over(&b, b.io, &ways[1], &c, &err), &err);
	assert_int_equal(c.method, SOSIE_CUTOVER_RENAME);
	assert_int_equal(c.bytes, 0);
	assert_false(sosie_io_exists(b.io, "/store/acme/erp/head"));
	build_end(&b);
}

static void test_cutover_other_choice_after_done_is_refused(void **state)
{
	const struct way other_point = {"", true, 2, ""}, other_dir = {"", true, 0, "/out"};
	struct sosie_err err;
	struct build b;

	(void)state;
	build_start(&b, SEED, true, POINTS, GENERATION);
	must(cut_over(&b, b.io, &ways[0], NULL, &err), &err);
	assert_int_equal(cut_over(&b, b.io, &other_point, NULL, &err), -SOSIE_EDIFFERENT);
	assert_non_null(strstr(err.what, "point 5"));
	assert_int_equal(cut_over(&b, b.io, &other_dir, NULL, &err), -SOSIE_EDIFFERENT);
	assert_finished(&b, &ways[0]);
	build_end(&b);
}

static void test_cutover_existing_file_is_not_overwritten(void **state)
{
	struct sosie_err err;
	struct build b;

	(void)state;
	build_start(&b, SEED, true, POINTS, GENERATION);
	must(sosie_io_ensure_dir(b.io, "/out", 0755, &err), &err);
	must(sosie_io_write_file(b.io, "/out/log.raw", "mine", 4, 0600, &err), &err);
	assert_int_equal(cut_over(&b, b.io, &ways[3], NULL, &err), -SOSIE_EEXISTS);
	assert_non_null(strstr(err.what, "/out/log.raw"));
	assert_int_equal(epoch_now(&b), 1);
	assert_int_equal(build_count(&b, "/out"), 1);
	build_end(&b);
}

static void test_cutover_without_point_or_into_store_is_refused(void **state)
{
	const struct way inside = {"", true, 0, "/store/x"}, beyond = {"", true, 9, ""};
	struct sosie_err err;
	struct build b;

	(void)state;
	build_start(&b, SEED, true, POINTS, 0);
	assert_int_equal(cut_over(&b, b.io, &inside, NULL, &err), -SOSIE_ECONFIG);
	assert_int_equal(cut_over(&b, b.io, &beyond, NULL, &err), -SOSIE_ENOTFOUND);
	build_end(&b);
	build_start(&b, SEED, true, 0, 0);
	assert_int_equal(cut_over(&b, b.io, &ways[0], NULL, &err), -SOSIE_ENOTFOUND);
	build_end(&b);
}

static void test_cutover_unfinished_other_choice_before_fence_is_allowed(void **state)
{
	struct sosie_fault_plan plan = {.kind = SOSIE_FAULT_NONE};
	struct sosie_io *faulty;
	struct sosie_err err;
	struct build b;
	uint64_t calls, at;

	(void)state;
	build_start(&b, SEED, true, POINTS, GENERATION);
	must(sosie_io_fault(b.io, &plan, &faulty, &err), &err);
	/* The first call at which the record is there and the epoch is not yet raised: found from behind. */
	for (at = 40; epoch_now(&b) == 1 && !sosie_io_exists(b.io, "/store/acme/erp/state/cutover.json");
	     at += 5) {
		plan = (struct sosie_fault_plan){
		        .kind = SOSIE_FAULT_ERROR, .at = at, .onwards = true, .sys = EIO};
		assert_true(cut_over(&b, faulty, &ways[4], NULL, &err) < 0);
	}
	calls = plan.calls;
	assert_true(calls > 0);
	assert_int_equal(epoch_now(&b), 1);
	sosie_io_free(faulty);
	must(cut_over(&b, b.io, &ways[0], NULL, &err), &err);
	assert_finished(&b, &ways[0]);
	build_end(&b);
}

/* One upload of the model with a few bytes changed, on the head that the store has now, for epoch 1. */
static struct make_upload upload_change(struct build *b, struct model *m, uint64_t seed)
{
	uint8_t bytes[5000];
	struct change change = {.volume = 0, .offset = 4096, .len = sizeof(bytes), .data = bytes};
	struct make_upload u = {.io = b->io,
	                        .clock = &b->clock.clock,
	                        .store = "/store",
	                        .model = m,
	                        .changes = &change,
	                        .change_count = 1,
	                        .epoch = 1};
	struct sosie_head *head = calloc(1, sizeof(*head));

	assert_non_null(head);
	memset(bytes, (int)seed, sizeof(bytes));
	if (b->g)
		sosie_group_head(b->g, head);
	else
		build_genesis(b, &head->digest);
	u.parent = head->digest;
	free(head);
	make_upload(&u);
	u.changes = NULL;
	return u;
}

static void start_with_inbox(struct build *b)
{
	struct sosie_err err;

	memset(b, 0, sizeof(*b));
	b->disk = sosie_disk_new(64u << 20, SEED, true);
	sosie_clock_virtual_init(&b->clock, BUILD_START_MS, SEED);
	must(sosie_io_sim(b->disk, &b->io, &err), &err);
	must(sosie_store_init(b->io, &b->clock.clock, "/store", &err), &err);
	must(sosie_store_open(b->io, &b->clock.clock, "/store", &b->store, &err), &err);
	build_lend(b->store);
	must(sosie_tenant_add(b->store, "acme", 0, &err), &err);
}

static void accept_all(struct build *b, struct sosie_accept_result *out)
{
	struct sosie_accept_result round;
	struct sosie_err err;

	memset(out, 0, sizeof(*out));
	do {
		must(sosie_keeper_accept(b->store, "acme", "erp", &round, &err), &err);
		out->accepted += round.accepted;
		out->refused += round.refused;
		out->waiting += round.waiting;
		out->point = round.point;
		out->last = round.last;
	} while (round.more && !round.waiting);
}

static void test_cutover_takes_in_what_is_whole_and_fences_the_rest(void **state)
{
	static struct sosie_group_status status;
	struct sosie_accept_result result;
	static struct sosie_cutover c;
	struct sosie_err err;
	struct model m;
	struct build b;

	(void)state;
	start_with_inbox(&b);
	model_init(&m, "acme", "erp");
	model_add(&m, "data", 100000);
	(void)upload_change(&b, &m, 1);
	accept_all(&b, &result);
	assert_int_equal(result.accepted, 1);
	must(sosie_group_open(b.store, "acme", "erp", &b.g, &err), &err);
	(void)upload_change(&b, &m, 2); /* whole, and nobody accepted it yet */
	must(sosie_group_status(b.g, &status, &err), &err);
	assert_int_equal(status.uploads_committed, 1);
	assert_false(status.keeper);
	memset(&c, 0, sizeof(c));
	must(sosie_cutover_plan(b.g, &c, &err), &err);
	assert_int_equal(c.chosen.point, 2);
	assert_int_equal(c.uploads_committed, 0);
	must(sosie_cutover_run(b.g, &c, NULL, &err), &err);
	sosie_cutover_end(b.g, &c);
	assert_true(sosie_io_exists(b.io, "/store/acme/erp/live/2/data.raw"));
	(void)upload_change(&b, &m, 3); /* the old writer goes on */
	accept_all(&b, &result);
	assert_int_equal(result.accepted, 0);
	assert_int_equal(result.refused, 1);
	assert_int_equal(result.last.code, SOSIE_EFENCED);
	must(sosie_group_status(b.g, &status, &err), &err);
	assert_true(status.cut_over);
	assert_string_equal(status.live, "/store/acme/erp/live/2");
	assert_true(status.refused[0] != '\0');
	assert_int_equal(status.uploads_committed, 0);
	model_fini(&m);
	build_end(&b);
}

static void test_cutover_of_a_first_upload_needs_no_keeper(void **state)
{
	static struct sosie_group_status status;
	static struct sosie_cutover c;
	struct sosie_err err;
	struct model m;
	struct build b;

	(void)state;
	start_with_inbox(&b);
	assert_int_equal(sosie_cutover_open(b.store, "acme", "erp", &b.g, &err), -SOSIE_ENOTFOUND);
	assert_int_equal(sosie_inbox_status(b.store, "acme", "erp", &status, &err), -SOSIE_ENOTFOUND);
	model_init(&m, "acme", "erp");
	model_add(&m, "data", 100000);
	(void)upload_change(&b, &m, 1);
	must(sosie_inbox_status(b.store, "acme", "erp", &status, &err), &err);
	assert_int_equal(status.uploads_committed, 1);
	assert_int_equal(sosie_group_open(b.store, "acme", "erp", &b.g, &err), -SOSIE_ENOTFOUND);
	must(sosie_cutover_open(b.store, "acme", "erp", &b.g, &err), &err);
	memset(&c, 0, sizeof(c));
	must(sosie_cutover_plan(b.g, &c, &err), &err);
	assert_int_equal(c.chosen.point, 1);
	assert_int_equal(c.same_ms, 0);
	must(sosie_cutover_run(b.g, &c, NULL, &err), &err);
	sosie_cutover_end(b.g, &c);
	assert_true(sosie_io_exists(b.io, "/store/acme/erp/live/2/data.raw"));
	must(sosie_group_status(b.g, &status, &err), &err);
	assert_true(status.cut_over);
	assert_int_equal(status.rpo_ms, -1);
	model_fini(&m);
	build_end(&b);
}

/* Each look at the clock takes half a second. */
static struct sosie_clock_ops slow_ops;
static const struct sosie_clock_ops *usual_ops;

static int64_t slow_mono_ms(struct sosie_clock *clock)
{
	((struct sosie_clock_virtual *)clock)->now_ms += 500;
	return usual_ops->mono_ms(clock);
}

/* Who fills the inbox does not say how long the takeover takes. */
static void test_cutover_leaves_what_takes_too_long_in_the_inbox(void **state)
{
	enum { WAITING = 40 };
	static struct sosie_cutover c;
	struct sosie_accept_result result;
	struct sosie_err err;
	struct model m;
	struct build b;

	(void)state;
	start_with_inbox(&b);
	model_init(&m, "acme", "erp");
	model_add(&m, "data", 100000);
	(void)upload_change(&b, &m, 1);
	accept_all(&b, &result);
	must(sosie_group_open(b.store, "acme", "erp", &b.g, &err), &err);
	for (unsigned i = 0; i < WAITING; i++) {
		b.clock.now_ms += 10; /* the oldest is the one that is accepted */
		(void)upload_change(&b, &m, 2 + i);
	}
	usual_ops = b.clock.clock.ops;
	slow_ops = *usual_ops;
	slow_ops.mono_ms = slow_mono_ms;
	b.clock.clock.ops = &slow_ops;
	memset(&c, 0, sizeof(c));
	must(sosie_cutover_plan(b.g, &c, &err), &err);
	b.clock.clock.ops = usual_ops;
	assert_int_equal(c.chosen.point, 2);
	assert_in_range(c.uploads_committed, 1, WAITING - 1);
	print_message("%u of %u uploads were left\n", c.uploads_committed, (unsigned)WAITING);
	must(sosie_cutover_run(b.g, &c, NULL, &err), &err);
	sosie_cutover_end(b.g, &c);
	accept_all(&b, &result);
	assert_int_equal(result.refused, c.uploads_committed);
	model_fini(&m);
	build_end(&b);
}

struct find {
	const char *dir;
	char *path;
};

static int see_temp(void *arg, const char *name, enum sosie_file_kind kind)
{
	struct find *f = arg;
	const size_t len = strlen(name);

	(void)kind;
	if (len < 4 || strcmp(name + len - 4, ".tmp") != 0)
		return 0;
	snprintf(f->path, 256, "%s/%s", f->dir, name);
	return 1;
}

static bool find_temp(struct build *b, const struct way *w, char path[256])
{
	struct find f = {w->into[0] ? w->into : "/store/acme/erp/live", path};
	struct sosie_err err;

	path[0] = '\0';
	must(sosie_io_list(b->io, f.dir, see_temp, &f, &err), &err);
	return path[0] != '\0';
}

static void test_cutover_killed_at_every_call_continues(void **state)
{
	uint64_t fired = 0;

	(void)state;
	for (size_t i = 0; i < WAYS; i++)
		for (uint64_t n = 0;; n += test_stride(1, 8)) {
			struct sosie_fault_plan plan = {
			        .kind = SOSIE_FAULT_ERROR, .at = n, .onwards = true, .sys = EIO};
			struct sosie_io *faulty;
			struct sosie_err err;
			struct build b;
			int rc;
			build_start(&b, SEED, ways[i].reflink, POINTS, GENERATION);
			must(sosie_io_fault(b.io, &plan, &faulty, &err), &err);
			rc = cut_over(&b, faulty, &ways[i], NULL, &err);
			sosie_io_free(faulty);
			assert_invariants(&b, &ways[i]);
			must(cut_over(&b, b.io, &ways[i], NULL, &err), &err);
			assert_finished(&b, &ways[i]);
			build_end(&b);
			fired += plan.fired > 0;
			if (plan.fired == 0) {
				must(rc, &err);
				break;
			}
		}
	print_message("rounds: %llu injected-faults\n", (unsigned long long)fired);
	assert_true(fired > 100);
}

static int cut_over_killed(struct build *b, const struct way *w, uint64_t at, uint64_t *fired)
{
	struct sosie_fault_plan plan = {.kind = SOSIE_FAULT_ERROR, .at = at, .onwards = true, .sys = EIO};
	struct sosie_io *faulty;
	struct sosie_err err;
	int rc;

	must(sosie_io_fault(b->io, &plan, &faulty, &err), &err);
	rc = cut_over(b, faulty, w, NULL, &err);
	sosie_io_free(faulty);
	*fired = plan.fired;
	return rc;
}

/* The first call whose failure leaves the epoch raised. */
static uint64_t call_after_fence(const struct way *w)
{
	uint64_t at = 0, fired, epoch = 1;

	for (; epoch == 1; at++) {
		struct build b;
		build_start(&b, SEED, w->reflink, POINTS, GENERATION);
		assert_true(cut_over_killed(&b, w, at, &fired) < 0);
		epoch = epoch_now(&b);
		build_end(&b);
	}
	return at - 1;
}

/* The epoch is raised, the temporary folder goes (somebody made room), and the run that makes it anew is
 * killed at every call. */
static void test_cutover_temporary_lost_after_fence_never_yields_half(void **state)
{
	uint64_t kills = 0, fired;

	(void)state;
	for (size_t i = 2; i < WAYS; i++) {
		const uint64_t fence = call_after_fence(&ways[i]);
		for (uint64_t n = 0;; n++) {
			struct sosie_err err;
			struct build b;
			char temp[256];
			build_start(&b, SEED, ways[i].reflink, POINTS, GENERATION);
			assert_true(cut_over_killed(&b, &ways[i], fence, &fired) < 0);
			assert_true(find_temp(&b, &ways[i], temp));
			must(sosie_io_remove_tree(b.io, temp, &err), &err);
			(void)cut_over_killed(&b, &ways[i], n, &fired);
			kills += fired > 0;
			assert_invariants(&b, &ways[i]);
			must(cut_over(&b, b.io, &ways[i], NULL, &err), &err);
			assert_finished(&b, &ways[i]);
			build_end(&b);
			if (fired == 0)
				break;
		}
	}
	print_message("killed at %llu calls\n", (unsigned long long)kills);
	assert_true(kills > 50);
}

/* Cuts the power after the n-th operation; false when the run ended before. */
static bool one_cut(const struct way *w, enum sosie_fate fate, uint64_t n)
{
	struct sosie_err err;
	struct build b;
	bool cut;

	build_start(&b, SEED + n, w->reflink, POINTS, GENERATION);
	sosie_disk_cut_after(b.disk, n);
	(void)cut_over(&b, b.io, w, NULL, &err);
	cut = sosie_disk_is_cut(b.disk);
	sosie_io_free(b.io);
	b.io = NULL;
	sosie_disk_cut_after(b.disk, UINT64_MAX);
	sosie_disk_restart(b.disk, fate);
	must(sosie_io_sim(b.disk, &b.io, &err), &err);
	assert_invariants(&b, w);
	must(cut_over(&b, b.io, w, NULL, &err), &err);
	assert_finished(&b, w);
	build_end(&b);
	return cut;
}

static void test_cutover_power_cut_at_every_operation_continues(void **state)
{
	static const enum sosie_fate fates[] = {SOSIE_FATE_KEPT, SOSIE_FATE_LOST, SOSIE_FATE_TORN,
	                                        SOSIE_FATE_REORDERED};
	/* In short each operation is cut in one of the fates, in full in all. */
	const uint64_t step = test_stride(4, 12);
	uint64_t cuts = 0;

	(void)state;
	for (size_t i = 0; i < WAYS; i++)
		for (size_t f = 0; f < 4; f++)
			for (uint64_t n = step == 1 ? 0 : f; one_cut(&ways[i], fates[f], n); n += step)
				cuts++;
	print_message("seed %u\nrounds: %llu simulated-power-cuts\n", SEED, (unsigned long long)cuts);
	assert_true(cuts > 1200 / step);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_cutover_each_way_yields_images),
	        cmocka_unit_test(test_cutover_latest_live_is_rename),
	        cmocka_unit_test(test_cutover_other_choice_after_done_is_refused),
	        cmocka_unit_test(test_cutover_existing_file_is_not_overwritten),
	        cmocka_unit_test(test_cutover_without_point_or_into_store_is_refused),
	        cmocka_unit_test(test_cutover_unfinished_other_choice_before_fence_is_allowed),
	        cmocka_unit_test(test_cutover_takes_in_what_is_whole_and_fences_the_rest),
	        cmocka_unit_test(test_cutover_of_a_first_upload_needs_no_keeper),
	        cmocka_unit_test(test_cutover_leaves_what_takes_too_long_in_the_inbox),
	        cmocka_unit_test(test_cutover_killed_at_every_call_continues),
	        cmocka_unit_test(test_cutover_temporary_lost_after_fence_never_yields_half),
	        cmocka_unit_test(test_cutover_power_cut_at_every_operation_continues),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/*
 * Views that are kept, with a driver that keeps copies: killed at every call of the state's I/O and at every
 * frame, lost views, refused and unfinished uploads, what is unchanged, ages and labels, views that have to
 * go.
 */
#include <errno.h>

#include "tests/unit/replicate/tracking.h"

#include "tests/support/rounds.h"

static void seed(uint64_t s)
{
	const char *text = getenv("SOSIE_SEED");

	rng_state = text ? strtoull(text, NULL, 0) : s;
	print_message("seed %llu\n", (unsigned long long)rng_state);
}

#define QUICK 7u /* from one call that fails to the next */

static struct harness *tracked_harness(unsigned streams)
{
	struct harness *h = harness_new(streams);

	memset(&tracked, 0, sizeof(tracked));
	h->make_source = make_tracking;
	add_volume(h, "a");
	add_volume(h, "b");
	set_size(h, 0, 3u << 20);
	set_size(h, 1, (2u << 20) + 4096 + 777);
	scribble(h, 0, 4096 * 3, 1u << 20);
	scribble(h, 1, 1u << 20, 600000);
	open_replicator(h);
	return h;
}

/* As a process that was killed and started again. */
static void restart(struct harness *h)
{
	tracked_kill(h);
	open_replicator(h);
}

static void write_noise(struct harness *h)
{
	for (unsigned i = 0; i < 4; i++)
		scribble(h, i & 1, rng() % (1u << 20), 300000);
}

/* One view, that of the accepted point; nothing has changed since. */
static void check_settled(struct harness *h)
{
	struct sosie_replicator_status status;
	struct sosie_same same;

	must(cycle(h), &h->err);
	assert_true(h->result.same && tracked.with_base && !h->result.compared);
	assert_true(h->result.read_bytes < TRACKED_LEAF); /* the last leaf of an odd size */
	assert_int_equal(tracked_views(h), 1);
	sosie_replicator_status(h->r, &status);
	assert_true(status.exists && status.view.s[0] && !status.pending);
	assert_int_equal(status.point, h->result.point);
	assert_true(sosie_replicator_unchanged(h->r, &same));
	assert_string_equal(same.group.s, GROUP);
	assert_int_equal(same.point, h->result.point);
}

static void test_cycle_with_a_base_reads_only_what_changed(void **state)
{
	struct harness *h = tracked_harness(1);

	(void)state;
	seed(1);
	must(cycle(h), &h->err);
	assert_false(tracked.with_base);
	scribble(h, 0, 8192, 4096);
	must(cycle(h), &h->err);
	assert_true(tracked.with_base);
	assert_int_equal(h->result.read_bytes, 4096 + 777);
	check_point(h, 2);
	check_settled(h);
	restart(h);
	scribble(h, 0, 8192, 4096);
	must(cycle(h), &h->err);
	assert_true(tracked.with_base);
	assert_true(h->result.read_bytes <= 2 * 4096 + 777); /* the old content too */
	check_point(h, 3);
	check_settled(h);
	harness_free(h);
}

static void test_unchanged_is_false_after_a_write_and_costs_no_view(void **state)
{
	struct harness *h = tracked_harness(1);
	struct sosie_same same;
	unsigned cuts;

	(void)state;
	seed(2);
	assert_false(sosie_replicator_unchanged(h->r, &same));
	must(cycle(h), &h->err);
	cuts = tracked.cuts;
	assert_true(sosie_replicator_unchanged(h->r, &same));
	must(sosie_pool_same(h->pool, TENANT, &same, 1, &h->err), &h->err);
	assert_int_equal(sosie_pool_same(h->pool, "other", &same, 1, &h->err), -SOSIE_EAUTH);
	scribble(h, 0, 4096, 512);
	assert_false(sosie_replicator_unchanged(h->r, &same));
	assert_int_equal(tracked.cuts, cuts);
	restart(h); /* until the standby's head was seen again */
	assert_false(sosie_replicator_unchanged(h->r, &same));
	must(cycle(h), &h->err);
	assert_true(sosie_replicator_unchanged(h->r, &same));
	must(sosie_io_remove_tree(h->io, h->state_path, &h->err), &h->err);
	assert_false(sosie_replicator_unchanged(h->r, &same));
	harness_free(h);
}

/* What an interrupted cycle leaves: at most the accepted view and the pending one, and the next goes on. */
static void go_on_and_check(struct harness *h, bool written)
{
	restart(h);
	if (written)
		scribble(h, 0, rng() % (2u << 20), 70000);
	must(cycle(h), &h->err);
	assert_false(h->result.compared);
	assert_true(tracked.with_base);
	assert_int_equal(h->refused, 0);
	if (h->result.resumed) {
		must(cycle(h), &h->err); /* what was written since */
		assert_false(h->result.compared);
	}
	check_point(h, h->result.point);
	check_settled(h);
}

/* A cycle whose n-th and all later calls of the state's I/O fail; then a kill, or (again) another cycle of
 * the same process before the kill, whose commit the keeper sees only afterwards. False: none failed. */
static bool cycle_with_fault(unsigned n, bool again)
{
	struct harness *h = tracked_harness(1);
	struct sosie_fault_plan plan = {.kind = SOSIE_FAULT_ERROR, .at = n, .onwards = true, .sys = EIO};
	struct sosie_io *real, *faulty;
	int rc;

	rng_state = n;
	must(cycle(h), &h->err);
	write_noise(h);
	real = h->r->dir.io;
	must(sosie_io_fault(real, &plan, &faulty, &h->err), &h->err);
	h->r->dir.io = faulty;
	rc = cycle(h);
	h->r->dir.io = real;
	sosie_io_free(faulty);
	if (plan.fired == 0) {
		must(rc, &h->err);
	} else {
		if (again) {
			h->keeper = false;
			rc = cycle(h);
			assert_true(rc == 0 || rc == -SOSIE_EPENDING || rc == -SOSIE_ENOKEEPER);
			h->keeper = true;
			keep(h);
		}
		go_on_and_check(h, n & 1);
	}
	harness_free(h);
	return plan.fired > 0;
}

static void test_killed_at_every_call_of_the_state_finds_its_views(void **state)
{
	unsigned fired = 0;

	(void)state;
	for (unsigned n = 0; cycle_with_fault(n, false); n += test_stride(QUICK, QUICK))
		fired++;
	print_message("%u calls\n", fired);
	assert_true(fired > 10);
}

static void test_failed_at_every_call_of_the_state_goes_on_then_killed_finds_its_views(void **state)
{
	unsigned fired = 0;

	(void)state;
	for (unsigned n = 0; cycle_with_fault(n, true); n += test_stride(QUICK, QUICK))
		fired++;
	print_message("%u calls\n", fired);
	assert_true(fired > 10);
}

/* A commit is sent only when a state that names it is durable: also by a later cycle. */
static void test_commit_after_a_failed_save_waits_for_the_state(void **state)
{
	struct harness *h = tracked_harness(1);
	char path[160];
	int rc;

	(void)state;
	seed(9);
	must(cycle(h), &h->err);
	write_noise(h);
	snprintf(path, sizeof(path), "%s/state.json.tmp", h->state_path);
	must(sosie_io_mkdir(h->io, path, 0700, &h->err), &h->err);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_not_equal(cycle(h), 0);
		assert_true(h->r->state.pending.committed && h->r->state_unsaved);
		assert_int_equal(h->accepted, 1);
	}
	must(sosie_io_rmdir(h->io, path, &h->err), &h->err);
	h->keeper = false;
	rc = cycle(h);
	assert_true(rc == -SOSIE_EPENDING || rc == -SOSIE_ENOKEEPER);
	tracked_kill(h);
	keep(h);
	assert_int_equal(h->accepted, 2);
	h->keeper = true;
	open_replicator(h);
	must(cycle(h), &h->err);
	assert_false(h->result.compared);
	check_point(h, 2);
	check_settled(h);
	harness_free(h);
}

static void test_killed_at_every_frame_resumes_from_the_view(void **state)
{
	unsigned cuts = 0, reopened = 0;

	(void)state;
	for (unsigned n = 0;; n++) {
		struct harness *h = tracked_harness(1 + n % 2);
		uint64_t sent, all;
		int rc;

		rng_state = n;
		must(cycle(h), &h->err);
		write_noise(h);
		sent = h->data_bytes;
		h->fail_at = (long)n;
		tracked.dead = true;
		rc = cycle(h);
		tracked.dead = false;
		h->fail_at = -1;
		if (rc == 0) {
			harness_free(h);
			break;
		}
		cuts++;
		tracked.reopened = 0;
		go_on_and_check(h, n & 2);
		all = h->data_bytes - sent;
		reopened += tracked.reopened > 0;
		assert_true(all < 4 * 300000 + 2 * (1u << 20) + 200000);
		harness_free(h);
	}
	print_message("%u cuts, %u finished from their view\n", cuts, reopened);
	assert_true(cuts > 5 && reopened > 2);
}

/* An upload was begun and not committed. */
static bool is_open(const struct harness *h)
{
	const struct state_pending *p = &h->r->state.pending;

	return p->present && !p->committed && p->view.s[0];
}

static void drop_on_disk(struct harness *h)
{
	char dir[128];

	snprintf(dir, sizeof(dir), "%s/views", h->dir);
	must(sosie_io_remove_tree(h->io, dir, &h->err), &h->err);
}

static void test_lost_view_costs_a_full_read_and_no_comparison(void **state)
{
	struct harness *h = tracked_harness(1);

	(void)state;
	seed(3);
	must(cycle(h), &h->err);
	scribble(h, 0, 8192, 4096);
	tracked_kill(h);
	drop_on_disk(h);
	open_replicator(h);
	must(cycle(h), &h->err);
	assert_false(tracked.with_base || h->result.compared);
	assert_true(h->result.changed_bytes <= 4096);
	check_point(h, 2);
	check_settled(h);
	harness_free(h);
}

/* The upload's view is gone, the accepted one is there: begun anew from that. With both gone: all is read,
 * what the standby has of the upload counts. */
static void test_pending_view_lost_makes_the_right_point(void **state)
{
	(void)state;
	for (unsigned both = 0; both < 2; both++) {
		struct harness *h = tracked_harness(1);

		seed(4);
		must(cycle(h), &h->err);
		write_noise(h);
		h->fail_at = 4;
		assert_int_equal(cycle(h), -SOSIE_EPEER);
		h->fail_at = -1;
		assert_true(is_open(h));
		tracked_drop(h->source, &h->r->state.pending.view, NULL);
		if (both)
			tracked_drop(h->source, &h->r->state.view, NULL);
		restart(h);
		/* Part of what had been sent goes back to what it was before. */
		punch(h, 0, 0, 1u << 20);
		must(cycle(h), &h->err);
		assert_int_equal(tracked.with_base, !both);
		assert_int_equal(h->result.resumed, both);
		assert_int_equal(h->refused, 0);
		check_point(h, 2);
		check_settled(h);
		harness_free(h);
	}
}

static void test_refused_upload_keeps_the_accepted_view_only(void **state)
{
	const uint64_t node =
	        4096 + 3 * 8192 + 32; /* block (1, 0) of the tree, the digest of the second MiB */
	struct harness *h = tracked_harness(1);
	char path[160], bytes[32];
	int fd;

	(void)state;
	seed(5);
	must(cycle(h), &h->err);
	snprintf(path, sizeof(path), "%s/a.tree", h->state_path);
	fd = open(path, O_RDWR | O_CLOEXEC);
	memset(bytes, 0x17, sizeof(bytes));
	assert_int_equal(pwrite(fd, bytes, sizeof(bytes), (off_t)node), (ssize_t)sizeof(bytes));
	close(fd);
	scribble(h, 0, 8192, 4096);
	must(cycle(h), &h->err);
	assert_int_equal(h->refused, 1);
	assert_true(h->result.compared && !tracked.with_base);
	check_point(h, 2);
	check_settled(h);
	harness_free(h);
}

static void test_finished_upload_has_the_age_and_label_of_its_cut(void **state)
{
	struct harness *h = tracked_harness(1);
	struct sosie_replicator_status status;
	struct sosie_point *point = calloc(1, sizeof(*point));
	struct sosie_group *g;
	struct sosie_clock *clock = sosie_clock_real();
	int64_t before;
	const struct state_cut *cut;

	(void)state;
	seed(6);
	tracked.label = SOSIE_CONSISTENCY_APP;
	must(cycle(h), &h->err);
	write_noise(h);
	before = sosie_wall_ms(clock);
	h->fail_at = 4;
	assert_int_equal(cycle(h), -SOSIE_EPEER);
	h->fail_at = -1;
	assert_true(is_open(h));
	sosie_sleep_ms(clock, 1); /* the clocks below tell whole milliseconds */
	h->r->state.pending.cut.wall_ms -= 3600000;
	h->r->state.pending.cut.standby_at_ms -= 3600000;
	h->r->state.pending.cut.boot_ms -= 3600000;
	must(state_save(&h->r->dir, &h->r->state, true, &h->err), &h->err);
	restart(h);
	tracked.label = SOSIE_CONSISTENCY_FUZZY;
	must(cycle(h), &h->err);
	assert_true(h->result.resumed);
	assert_int_equal(h->result.consistency, SOSIE_CONSISTENCY_APP);
	cut = &h->r->state.cut;
	assert_true(cut->standby_at_ms + cut->standby_plus_ms <= before - 3590000);
	assert_true(h->result.done_mono_ms - h->result.cut_mono_ms >= 3600000);
	must(sosie_group_open(h->store, TENANT, GROUP, &g, &h->err), &h->err);
	must(sosie_group_point(g, 2, point, &h->err), &h->err);
	assert_int_equal(point->consistency, SOSIE_CONSISTENCY_APP);
	assert_true(point->cut_ms <= before - 3590000);
	sosie_group_close(g);
	sosie_replicator_status(h->r, &status);
	assert_true(status.age_ms >= 3600000);
	restart(h);
	sosie_replicator_status(h->r, &status);
	assert_true(status.age_ms >= 3600000);
	snprintf(h->r->dir.boot, sizeof(h->r->dir.boot), "another");
	sosie_replicator_status(h->r, &status);
	assert_int_equal(status.age_ms, -1);
	free(point);
	harness_free(h);
}

static void test_views_let_go_end_the_cycle_then_all_is_compared_here(void **state)
{
	struct harness *h = tracked_harness(1);
	bool go = false;

	(void)state;
	seed(7);
	close_replicator(h);
	h->o.let_views_go = &go;
	open_replicator(h);
	must(cycle(h), &h->err);
	scribble(h, 0, 8192, 4096);
	go = true;
	assert_int_equal(cycle(h), -SOSIE_ENOSPACE);
	assert_non_null(strstr(h->err.what, "below its reserve"));
	assert_true(h->err.action[0]);
	must(sosie_replicator_drop_views(h->r, &h->err), &h->err);
	assert_int_equal(tracked_views(h), 0);
	go = false;
	must(cycle(h), &h->err);
	assert_false(tracked.with_base || h->result.compared);
	check_point(h, 2);
	check_settled(h);
	write_noise(h);
	h->fail_at = 4;
	assert_int_equal(cycle(h), -SOSIE_EPEER);
	h->fail_at = -1;
	assert_true(is_open(h));
	must(sosie_replicator_drop_views(h->r, &h->err), &h->err);
	punch(h, 0, 0, 1u << 20);
	must(cycle(h), &h->err);
	assert_true(h->result.resumed && !tracked.with_base);
	assert_int_equal(h->refused, 0);
	check_point(h, 3);
	check_settled(h);
	harness_free(h);
}

/* What fails for another reason says so. */
static void test_state_that_fails_while_views_are_to_go_is_told_as_that(void **state)
{
	struct harness *h = tracked_harness(1);
	struct sosie_fault_plan plan = {.kind = SOSIE_FAULT_ERROR, .onwards = true, .sys = EIO};
	struct sosie_io *real, *faulty;
	bool go = false;
	int rc;

	(void)state;
	seed(10);
	close_replicator(h);
	h->o.let_views_go = &go;
	open_replicator(h);
	must(cycle(h), &h->err);
	scribble(h, 0, 8192, 4096);
	real = h->r->dir.io;
	must(sosie_io_fault(real, &plan, &faulty, &h->err), &h->err);
	h->r->dir.io = faulty;
	go = true;
	rc = cycle(h);
	h->r->dir.io = real;
	sosie_io_free(faulty);
	assert_true(plan.fired > 0);
	assert_int_equal(rc, -SOSIE_EIO);
	assert_null(strstr(h->err.what, "views were let go"));
	go = false;
	must(cycle(h), &h->err);
	check_point(h, 2);
	harness_free(h);
}

static bool has_file(const struct harness *h, const char *name)
{
	char path[160];

	snprintf(path, sizeof(path), "%s/%s", h->state_path, name);
	return sosie_io_exists(h->io, path);
}

static void put_file(struct harness *h, const char *name)
{
	char path[160];

	snprintf(path, sizeof(path), "%s/%s", h->state_path, name);
	must(sosie_io_write_file(h->io, path, "x", 1, 0600, &h->err), &h->err);
}

static void test_volume_that_leaves_and_a_state_that_is_forgotten_take_their_files_along(void **state)
{
	struct harness *h = tracked_harness(1);

	(void)state;
	seed(11);
	must(cycle(h), &h->err);
	put_file(h, "a.signatures");
	put_file(h, "b.signatures");
	close_replicator(h);
	h->volume_count = 1;
	h->o.drop_missing = true;
	open_replicator(h);
	must(cycle(h), &h->err);
	assert_string_equal(h->result.dropped_volumes, "b");
	assert_true(has_file(h, "a.tree") && has_file(h, "a.signatures"));
	assert_false(has_file(h, "b.tree") || has_file(h, "b.layer") || has_file(h, "b.signatures"));
	must(state_forget(&h->r->dir, &h->r->state, &h->err), &h->err);
	assert_false(has_file(h, "a.tree") || has_file(h, "a.layer") || has_file(h, "a.signatures") ||
	             has_file(h, "redo.log"));
	harness_free(h);
}

static void test_volume_added_and_missing_dropped_follow(void **state)
{
	struct harness *h = tracked_harness(1);

	(void)state;
	seed(8);
	must(cycle(h), &h->err);
	close_replicator(h);
	add_volume(h, "c");
	set_size(h, 2, 1u << 20);
	scribble(h, 2, 0, 100000);
	open_replicator(h);
	must(cycle(h), &h->err);
	assert_true(tracked.with_base);
	check_point(h, 2);
	check_settled(h);
	close_replicator(h);
	h->volume_count = 1;
	h->o.drop_missing = true;
	open_replicator(h);
	must(cycle(h), &h->err);
	assert_string_equal(h->result.dropped_volumes, "b, c");
	check_point(h, 3);
	check_settled(h);
	harness_free(h);
}

static void test_folder_of_attachments_travels_by_name(void **state)
{
	struct harness *h = tracked_harness(1);
	char folder[128], path[160], link[160];
	const char *const list[] = {folder};
	struct sosie_same same;

	(void)state;
	close_replicator(h);
	snprintf(folder, sizeof(folder), "%s/nvram", h->dir);
	must(sosie_io_mkdir(h->io, folder, 0700, &h->err), &h->err);
	snprintf(path, sizeof(path), "%s/one.fd", folder);
	must(sosie_io_write_file(h->io, path, "1", 1, 0600, &h->err), &h->err);
	snprintf(link, sizeof(link), "%s/link", folder);
	assert_int_equal(symlink("/etc/passwd", link), 0);
	h->o.attachments = list;
	h->o.attachment_count = 1;
	open_replicator(h);
	must(cycle(h), &h->err);
	assert_int_equal(h->r->attachment_count, 1);
	must(cycle(h), &h->err);
	assert_true(h->result.same);
	snprintf(path, sizeof(path), "%s/another.fd", folder);
	must(sosie_io_write_file(h->io, path, "22", 2, 0600, &h->err), &h->err);
	assert_false(sosie_replicator_unchanged(h->r, &same));
	must(cycle(h), &h->err);
	assert_int_equal(h->result.point, 2);
	assert_int_equal(h->r->attachment_count, 2);
	assert_string_equal(h->r->attachments[0].entry.name.s, "another.fd");
	check_point(h, 2);
	harness_free(h);
}

static void test_pool_fails_at_once_while_the_standby_is_away(void **state)
{
	struct harness *h = tracked_harness(1);
	struct sosie_clock_virtual clock;
	struct sosie_pool *pool;
	int64_t pause;

	(void)state;
	close_replicator(h);
	sosie_clock_virtual_init(&clock, sosie_mono_ms(sosie_clock_real()), 1);
	must(sosie_pool_new(&h->connector, &clock.clock, "test", &pool, &h->err), &h->err);
	h->o.pool = pool;
	h->o.clock = &clock.clock;
	open_replicator(h);
	h->unreachable = true;
	assert_int_equal(sosie_replicator_cycle(h->r, &h->result, &h->err), -SOSIE_EPEER);
	assert_int_equal(h->connects, 1);
	pause = sosie_pool_pause_ms(pool);
	assert_in_range(pause, 500, 1000);
	sosie_sleep_ms(&clock.clock, pause - 1);
	assert_int_equal(sosie_replicator_cycle(h->r, &h->result, &h->err), -SOSIE_EPEER);
	assert_non_null(strstr(h->err.what, "the test's standby is away"));
	assert_int_equal(h->connects, 1);
	sosie_sleep_ms(&clock.clock, 1);
	h->unreachable = false;
	must(sosie_replicator_cycle(h->r, &h->result, &h->err), &h->err);
	assert_int_equal(h->connects, 2);
	must(sosie_replicator_cycle(h->r, &h->result, &h->err), &h->err);
	assert_int_equal(h->connects, 2); /* the session was kept */
	close_replicator(h);
	sosie_pool_free(pool);
	harness_free(h);
}

static long resident_kib(void)
{
	long pages = 0;
	FILE *f = fopen("/proc/self/statm", "re");

	assert_non_null(f);
	assert_int_equal(fscanf(f, "%*d %ld", &pages), 1);
	fclose(f);
	return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

static unsigned open_files(void)
{
	unsigned n = 0;

	for (int fd = 0; fd < 20000; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

#define IDLE_GROUPS 1000u

static void copy_volumes(struct state_volumes *dst, const struct state_volumes *src)
{
	dst->v = calloc(src->count, sizeof(*dst->v));
	assert_non_null(dst->v);
	memcpy(dst->v, src->v, src->count * sizeof(*dst->v));
	dst->count = src->count;
}

/* Each has been through a cycle; idle they hold their state and one descriptor. */
static void test_thousand_idle_replicators_are_small(void **state)
{
	struct harness *h = tracked_harness(1);
	struct sosie_replicator **list = calloc(IDLE_GROUPS, sizeof(*list));
	char(*names)[16] = calloc(IDLE_GROUPS, sizeof(*names));
	struct sosie_same same;
	unsigned files;
	long before;

	(void)state;
	must(cycle(h), &h->err);
	before = resident_kib();
	files = open_files();
	for (unsigned i = 0; i < IDLE_GROUPS; i++) {
		struct sosie_replicate_options o = h->o;
		char path[160];

		snprintf(names[i], sizeof(names[i]), "g%u", i);
		snprintf(path, sizeof(path), "%s/state-%u", h->dir, i);
		o.group = names[i];
		o.state = path;
		must(sosie_replicator_open(&o, &list[i], &h->err), &h->err);
		/* As after a cycle with two volumes. */
		copy_volumes(&list[i]->state.volumes, &h->r->state.volumes);
		assert_false(sosie_replicator_unchanged(list[i], &same));
	}
	print_message("%ld KiB each\n", (resident_kib() - before) / (long)IDLE_GROUPS);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	assert_true(resident_kib() - before < 60 * (long)IDLE_GROUPS);
#endif
	assert_int_equal(open_files() - files, IDLE_GROUPS);
	for (unsigned i = 0; i < IDLE_GROUPS; i++)
		sosie_replicator_close(list[i]);
	free(list);
	free(names);
	harness_free(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_thousand_idle_replicators_are_small),
	        cmocka_unit_test(test_cycle_with_a_base_reads_only_what_changed),
	        cmocka_unit_test(test_unchanged_is_false_after_a_write_and_costs_no_view),
	        cmocka_unit_test(test_killed_at_every_call_of_the_state_finds_its_views),
	        cmocka_unit_test(test_failed_at_every_call_of_the_state_goes_on_then_killed_finds_its_views),
	        cmocka_unit_test(test_commit_after_a_failed_save_waits_for_the_state),
	        cmocka_unit_test(test_killed_at_every_frame_resumes_from_the_view),
	        cmocka_unit_test(test_lost_view_costs_a_full_read_and_no_comparison),
	        cmocka_unit_test(test_pending_view_lost_makes_the_right_point),
	        cmocka_unit_test(test_refused_upload_keeps_the_accepted_view_only),
	        cmocka_unit_test(test_finished_upload_has_the_age_and_label_of_its_cut),
	        cmocka_unit_test(test_views_let_go_end_the_cycle_then_all_is_compared_here),
	        cmocka_unit_test(test_state_that_fails_while_views_are_to_go_is_told_as_that),
	        cmocka_unit_test(
	                test_volume_that_leaves_and_a_state_that_is_forgotten_take_their_files_along),
	        cmocka_unit_test(test_volume_added_and_missing_dropped_follow),
	        cmocka_unit_test(test_folder_of_attachments_travels_by_name),
	        cmocka_unit_test(test_pool_fails_at_once_while_the_standby_is_away),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

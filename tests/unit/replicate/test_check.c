/* SPDX-License-Identifier: MIT */
/* What an idle group does to see whether it may go on (check), views that are emptied while they are read,
 * what is known after a restart, sessions that lie idle. */
#include "tests/unit/replicate/tracking.h"

static struct harness *tracked_harness(void)
{
	struct harness *h = harness_new(1);

	memset(&tracked, 0, sizeof(tracked));
	h->make_source = make_tracking;
	add_volume(h, "a");
	add_volume(h, "b");
	set_size(h, 0, 1u << 20);
	set_size(h, 1, 1u << 20);
	scribble(h, 0, 4096 * 3, 100000);
	scribble(h, 1, 8192, 100000);
	open_replicator(h);
	must(cycle(h), &h->err);
	return h;
}

static void test_check_of_a_head_that_is_ours_sends_and_cuts_nothing(void **state)
{
	struct harness *h = tracked_harness();
	struct sosie_same same;
	unsigned cuts = tracked.cuts, connects = h->connects, frames = h->frames;

	(void)state;
	must(sosie_replicator_check(h->r, &h->err), &h->err);
	assert_int_equal(h->frames, frames + 1); /* the question */
	assert_int_equal(tracked.cuts, cuts);
	assert_int_equal(h->connects, connects);
	assert_true(sosie_replicator_unchanged(h->r, &same));
	harness_free(h);
}

static void test_check_of_a_later_epoch_is_fenced(void **state)
{
	struct harness *h = tracked_harness();
	struct sosie_same same;
	uint64_t sent = h->data_bytes;

	(void)state;
	assert_int_equal(h->r->state.epoch, 1);
	h->r->state.epoch = 0; /* as if the standby's had risen */
	assert_int_equal(sosie_replicator_check(h->r, &h->err), -SOSIE_EFENCED);
	assert_non_null(strstr(h->err.what, "has cut over"));
	assert_false(sosie_replicator_unchanged(h->r, &same)); /* not idle again until a person has seen it */
	assert_int_equal(cycle(h), -SOSIE_EFENCED);
	assert_int_equal(h->data_bytes, sent);
	harness_free(h);
}

static void test_check_of_a_lost_point_is_a_loss_of_a_lost_line_changes_nothing(void **state)
{
	struct harness *h = tracked_harness();
	struct sosie_same same;

	(void)state;
	h->fail_at = 0;
	h->unreachable = true;
	assert_int_equal(sosie_replicator_check(h->r, &h->err), -SOSIE_EPEER);
	h->unreachable = false;
	h->fail_at = -1;
	assert_true(sosie_replicator_unchanged(h->r, &same));
	h->r->state.point = 5;
	new_pool(h);
	h->r->o.pool = h->pool;
	assert_int_equal(sosie_replicator_check(h->r, &h->err), -SOSIE_ELOSS);
	assert_false(sosie_replicator_unchanged(h->r, &same));
	harness_free(h);
}

/* Nothing that was read from it counts: no commit, and the upload that was begun goes. */
static void check_emptied(struct harness *h)
{
	unsigned accepted = h->accepted;

	assert_int_equal(cycle(h), -SOSIE_ENOSPACE);
	assert_false(tracked.empty_view || tracked.empty_base); /* it was done */
	assert_non_null(strstr(h->err.what, "views were let go"));
	assert_int_equal(h->accepted, accepted);
	assert_false(h->r->state.pending.present);
	must(cycle(h), &h->err);
	assert_int_equal(h->refused, 0);
	check_point(h, h->result.point);
	must(cycle(h), &h->err);
	assert_true(h->result.same && tracked.with_base);
	assert_int_equal(tracked_views(h), 1);
}

static void test_view_emptied_while_read_commits_nothing(void **state)
{
	struct harness *h = tracked_harness();

	(void)state;
	scribble(h, 0, 8192, 70000);
	scribble(h, 1, 8192, 70000);
	tracked.empty_view = true;
	check_emptied(h);
	tracked.empty_view = true; /* nothing has changed: nor is that said */
	check_emptied(h);
	harness_free(h);
}

static void test_base_emptied_while_read_commits_nothing(void **state)
{
	struct harness *h = tracked_harness();

	(void)state;
	scribble(h, 1, 8192, 70000);
	tracked.empty_base = true;
	check_emptied(h);
	harness_free(h);
}

static void test_view_emptied_of_an_upload_gone_on_with_drops_it(void **state)
{
	struct harness *h = tracked_harness();

	(void)state;
	scribble(h, 0, 8192, 70000);
	h->fail_at = 4;
	assert_int_equal(cycle(h), -SOSIE_EPEER);
	h->fail_at = -1;
	assert_true(h->r->state.pending.present && h->r->pending_held);
	tracked.empty_view = true;
	check_emptied(h);
	assert_int_equal(tracked.reopened, 1);
	harness_free(h);
}

static void test_status_after_a_restart_has_cut_and_label(void **state)
{
	struct harness *h = tracked_harness();
	struct sosie_replicator_status st;
	int64_t before = sosie_wall_ms(sosie_clock_real());

	(void)state;
	tracked.label = SOSIE_CONSISTENCY_FUZZY;
	scribble(h, 0, 8192, 4096);
	must(cycle(h), &h->err);
	close_replicator(h);
	tracked.label = SOSIE_CONSISTENCY_CRASH;
	open_replicator(h);
	sosie_replicator_status(h->r, &st);
	assert_true(st.exists && st.labelled);
	assert_int_equal(st.consistency, SOSIE_CONSISTENCY_FUZZY);
	assert_in_range(st.cut_wall_ms, before, sosie_wall_ms(sosie_clock_real()));
	harness_free(h);
}

static struct sosie_clock_virtual late;

/* --- idle sessions
 * ---------------------------------------------------------------------------------------------- */

/* Channels that count. */
struct watched {
	struct sosie_channel base, *inner;
	unsigned number; /* in the order of opening */
};

static struct {
	unsigned opened, closed, asked; /* asked: frames to one that hangs */
	unsigned hung;                  /* the first so many answer nothing any more */
} watch;

static bool hangs(struct sosie_channel *ch)
{
	return ((struct watched *)ch)->number < watch.hung;
}

static int pass_send(struct sosie_channel *ch, const void *data, size_t len, struct sosie_err *err)
{
	watch.asked += hangs(ch);
	return hangs(ch) ? 0 : sosie_channel_send(((struct watched *)ch)->inner, data, len, err);
}

static int pass_recv(struct sosie_channel *ch, void *data, size_t size, size_t *got, int timeout_ms,
                     struct sosie_err *err)
{
	if (hangs(ch)) {
		*got = 0;
		sosie_sleep_ms(&late.clock, timeout_ms);
		return 0;
	}
	return sosie_channel_recv(((struct watched *)ch)->inner, data, size, got, timeout_ms, err);
}

static void pass_close(struct sosie_channel *ch)
{
	watch.closed++;
	sosie_channel_close(((struct watched *)ch)->inner);
	free(ch);
}

static const struct sosie_channel_ops watched_ops = {pass_send, pass_recv, pass_close};

static int connect_watched(struct sosie_connector *c, struct sosie_channel **out, struct sosie_err *err)
{
	struct watched *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	w->base.ops = &watched_ops;
	w->number = watch.opened++;
	*out = &w->base;
	return connect_link(c, &w->inner, err);
}

static struct sosie_pool *late_pool(struct harness *h)
{
	struct sosie_pool *pool;

	memset(&watch, 0, sizeof(watch));
	sosie_clock_virtual_init(&late, sosie_mono_ms(sosie_clock_real()), 1);
	h->connector.open = connect_watched;
	must(sosie_pool_new(&h->connector, &late.clock, "test", &pool, &h->err), &h->err);
	return pool;
}

static void test_pool_looking_for_its_pause_closes_nothing_tidying_does(void **state)
{
	struct harness *h = harness_new(1);
	struct sosie_pool *pool = late_pool(h);
	struct sosie_session *s;
	bool fresh;

	(void)state;
	must(pool_take(pool, &s, &fresh, &h->err), &h->err);
	pool_give(pool, s, true);
	assert_false(sosie_pool_tidy(pool));
	assert_int_equal(watch.closed, 0);
	sosie_sleep_ms(&late.clock, 121000);
	assert_int_equal(sosie_pool_pause_ms(pool), 0);
	assert_int_equal(watch.closed, 0);
	assert_true(sosie_pool_tidy(pool));
	assert_int_equal(watch.closed, 1);
	assert_false(sosie_pool_tidy(pool)); /* one at a time */
	sosie_pool_free(pool);
	harness_free(h);
}

#define IDLE_SESSIONS 8u

/* One answer is waited for, not one for each session that lies there. */
static void test_pool_of_a_standby_that_hangs_asks_one_session_and_connects_anew(void **state)
{
	struct harness *h = harness_new(1);
	struct sosie_pool *pool = late_pool(h);
	struct sosie_session *s[IDLE_SESSIONS];
	int64_t before;
	bool fresh;

	(void)state;
	for (unsigned i = 0; i < IDLE_SESSIONS; i++)
		must(pool_take(pool, &s[i], &fresh, &h->err), &h->err);
	for (unsigned i = 0; i < IDLE_SESSIONS; i++)
		pool_give(pool, s[i], true);
	sosie_sleep_ms(&late.clock, IDLE_PING_MS + 1);
	watch.hung = IDLE_SESSIONS;
	before = sosie_mono_ms(&late.clock);
	must(pool_take(pool, &s[0], &fresh, &h->err), &h->err);
	assert_true(fresh);
	assert_int_equal(watch.opened, IDLE_SESSIONS + 1);
	assert_int_equal(watch.closed, IDLE_SESSIONS);
	assert_int_equal(watch.asked, IDLE_SESSIONS); /* a ping, and "bye" from the others */
	assert_true(sosie_mono_ms(&late.clock) - before < 2 * 90000);
	pool_give(pool, s[0], true);
	sosie_pool_free(pool);
	harness_free(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_check_of_a_head_that_is_ours_sends_and_cuts_nothing),
	        cmocka_unit_test(test_check_of_a_later_epoch_is_fenced),
	        cmocka_unit_test(test_check_of_a_lost_point_is_a_loss_of_a_lost_line_changes_nothing),
	        cmocka_unit_test(test_view_emptied_while_read_commits_nothing),
	        cmocka_unit_test(test_base_emptied_while_read_commits_nothing),
	        cmocka_unit_test(test_view_emptied_of_an_upload_gone_on_with_drops_it),
	        cmocka_unit_test(test_status_after_a_restart_has_cut_and_label),
	        cmocka_unit_test(test_pool_looking_for_its_pause_closes_nothing_tidying_does),
	        cmocka_unit_test(test_pool_of_a_standby_that_hangs_asks_one_session_and_connects_anew),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

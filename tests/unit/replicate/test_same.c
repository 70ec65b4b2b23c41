/* SPDX-License-Identifier: MIT */
/* "same" from the source's list to what the standby's status shows: times, hostile messages, many groups. */
#include "sosie/bytes.h"
#include "tests/unit/replicate/harness.h"

#define MANY 12000u /* more than one message holds */

static struct harness *with_a_point(void)
{
	struct harness *h = harness_new(1);

	add_volume(h, "a");
	set_size(h, 0, 1u << 20);
	open_replicator(h);
	must(cycle(h), &h->err);
	return h;
}

static void head_of(struct harness *h, struct sosie_head *head)
{
	struct sosie_group *g;

	must(sosie_group_open(h->store, TENANT, GROUP, &g, &h->err), &h->err);
	sosie_group_head(g, head);
	sosie_group_close(g);
}

static int64_t status_same(struct harness *h)
{
	struct sosie_group_status *status = calloc(1, sizeof(*status));
	struct sosie_group *g;
	int64_t time;

	assert_non_null(status);
	must(sosie_group_open(h->store, TENANT, GROUP, &g, &h->err), &h->err);
	must(sosie_group_status(g, status, &h->err), &h->err);
	sosie_group_close(g);
	time = status->same_ms;
	free(status);
	return time;
}

/* What status shows after a message; around: what stands between kind and groups. */
static int64_t shown_after(struct harness *h, const char *around, const char *rest)
{
	struct sosie_head *head = calloc(1, sizeof(*head));
	char text[600], hex[65], path[200];
	int n;

	assert_non_null(head);
	head_of(h, head);
	sosie_hex(hex, head->digest.b, sizeof(head->digest.b));
	free(head);
	n = snprintf(text, sizeof(text),
	             "{\"format\":1,\"kind\":\"same\",%s\"groups\":[{\"group\":\"other\",\"digest\":\"%s\"},"
	             "{\"group\":\"" GROUP "\",\"digest\":\"%s\"%s}]}",
	             around, hex, hex, rest);
	snprintf(path, sizeof(path), "%s/" TENANT "/_inbox/same.0011223344556677", h->store_path);
	must(sosie_io_write_file(h->io, path, text, (size_t)n, 0640, &h->err), &h->err);
	/* As another process: nothing is remembered. */
	sosie_store_close(h->store);
	must(sosie_store_open(h->io, sosie_clock_real(), h->store_path, &h->store, &h->err), &h->err);
	must(sosie_keeper_same(h->store, TENANT, GROUP, &h->err), &h->err);
	return status_same(h);
}

/* Times are the standby's, bounded by the arrival, and never go back; what makes no sense is no message. */
static void test_same_tells_its_time_on_the_standbys_clock(void **state)
{
	static const char *const odd[] = {
	        "\"standby_clock\":{\"at_ms\":9223372036854775807,\"plus_ms\":9223372036854775807},",
	        "\"standby_clock\":{\"at_ms\":-5,\"plus_ms\":1},",
	        "\"standby_clock\":{\"at_ms\":1,\"plus_ms\":-9223372036854775807},",
	        "\"standby_clock\":7,",
	        "\"another\":1,",
	};
	struct harness *h = with_a_point();
	int64_t now = sosie_wall_ms(sosie_clock_real()), shown;
	char around[160];

	(void)state;
	for (unsigned i = 0; i < sizeof(odd) / sizeof(*odd); i++)
		assert_int_equal(shown_after(h, odd[i], ""), 0);
	assert_int_equal(shown_after(h, "", ",\"ago_ms\":9223372036854775807"), 0);
	assert_int_equal(shown_after(h, "", ",\"ago_ms\":9007199254740993"), 0);
	assert_int_equal(shown_after(h, "", ",\"ago_ms\":-1"), 0);
	snprintf(around, sizeof(around), "\"standby_clock\":{\"at_ms\":%lld,\"plus_ms\":2000},",
	         (long long)now - 10000);
	shown = shown_after(h, around, ",\"ago_ms\":500");
	assert_int_equal(shown, now - 8500);
	assert_int_equal(shown_after(h, around, ",\"ago_ms\":900"), shown);
	assert_int_equal(shown_after(h, around, ",\"ago_ms\":400"), shown + 100);
	snprintf(around, sizeof(around), "\"standby_clock\":{\"at_ms\":%lld,\"plus_ms\":0},",
	         (long long)now + 30000);
	shown = shown_after(h, around, "");
	assert_true(shown >= now && shown <= sosie_wall_ms(sosie_clock_real()));
	/* A time that has not come yet would be a word to show until then: nothing new is shown. */
	snprintf(around, sizeof(around), "\"standby_clock\":{\"at_ms\":%lld,\"plus_ms\":0},",
	         (long long)now + 3600000);
	assert_int_equal(shown_after(h, around, ""), shown);
	harness_free(h);
}

/* An older release names no clock: the arrival. */
static void test_same_without_a_clock_counts_from_its_arrival(void **state)
{
	struct harness *h = with_a_point();
	int64_t before = sosie_wall_ms(sosie_clock_real()), shown;

	(void)state;
	shown = shown_after(h, "\"cut_time\":\"2026-11-22T03:27:00.123Z\",", "");
	/* A file's time may lag by a tick of the kernel's. */
	assert_true(shown >= before - 20 && shown <= sosie_wall_ms(sosie_clock_real()));
	harness_free(h);
}

static void test_same_of_a_cycle_shows_in_status(void **state)
{
	struct harness *h = with_a_point();
	int64_t before = sosie_wall_ms(sosie_clock_real());

	(void)state;
	assert_int_equal(status_same(h), 0);
	must(cycle(h), &h->err);
	assert_true(h->result.same);
	assert_true(status_same(h) >= before - 20);
	harness_free(h);
}

/* How many reads the store has asked for, when the group is looked at so many times. */
static uint64_t reads_of(struct harness *h, struct sosie_store *store, const struct sosie_fault_plan *plan,
                         unsigned looks)
{
	uint64_t before = plan->calls;

	for (unsigned i = 0; i < looks; i++)
		must(sosie_keeper_same(store, TENANT, GROUP, &h->err), &h->err);
	return plan->calls - before;
}

/* More groups than one message holds are told in several; each is parsed once for all groups. */
static void test_same_of_many_groups_is_split_and_parsed_once(void **state)
{
	struct harness *h = with_a_point();
	struct sosie_same *list = calloc(MANY, sizeof(*list));
	struct sosie_head *head = calloc(1, sizeof(*head));
	unsigned frames = h->frames;
	int64_t before = sosie_wall_ms(sosie_clock_real());
	/* Counts reads and writes, changes none. */
	struct sosie_fault_plan plan = {.kind = SOSIE_FAULT_SHORT, .at = UINT64_MAX};
	struct sosie_store *store;
	struct sosie_io *io;

	(void)state;
	assert_non_null(list);
	assert_non_null(head);
	head_of(h, head);
	for (unsigned i = 0; i < MANY; i++) {
		snprintf(list[i].group.s, sizeof(list[i].group.s), "group-%05u", i);
		list[i].digest = head->digest;
		list[i].mono_ms = sosie_mono_ms(sosie_clock_real());
	}
	snprintf(list[MANY - 1].group.s, sizeof(list[0].group.s), GROUP);
	must(sosie_pool_same(h->pool, TENANT, list, MANY, &h->err), &h->err);
	assert_int_equal(h->frames - frames, 2);
	must(sosie_io_fault(h->io, &plan, &io, &h->err), &h->err);
	must(sosie_store_open(io, sosie_clock_real(), h->store_path, &store, &h->err), &h->err);
	assert_true(reads_of(h, store, &plan, 1) > 0);
	assert_true(status_same(h) >= before - 20);
	assert_int_equal(reads_of(h, store, &plan, 1000), 0);
	sosie_store_close(store);
	sosie_io_free(io);
	free(list);
	free(head);
	harness_free(h);
}

#define KEYS 64u

/* A look at a group costs the same with many keys: their messages are looked at once for all groups. */
static void test_same_of_many_keys_is_looked_at_once_for_all_groups(void **state)
{
	struct harness *h = with_a_point();
	struct sosie_fault_plan plan = {.kind = SOSIE_FAULT_ERROR, .at = UINT64_MAX};
	struct sosie_clock_virtual clock; /* stands: all looks are at one instant */
	struct sosie_store *store;
	struct sosie_io *io;
	char path[200];
	uint64_t first;

	(void)state;
	sosie_clock_virtual_init(&clock, sosie_wall_ms(sosie_clock_real()), 1);
	for (unsigned i = 0; i < KEYS; i++) {
		snprintf(path, sizeof(path), "%s/" TENANT "/_inbox/same.%016x", h->store_path, i);
		must(sosie_io_write_file(h->io, path, "{}", 2, 0640, &h->err), &h->err);
	}
	must(sosie_io_fault(h->io, &plan, &io, &h->err), &h->err);
	must(sosie_store_open(io, &clock.clock, h->store_path, &store, &h->err), &h->err);
	first = reads_of(h, store, &plan, 1);
	assert_true(first >= KEYS);
	assert_true(reads_of(h, store, &plan, 100) < 100 * KEYS / 4);
	clock.now_ms += 1000;
	assert_in_range(reads_of(h, store, &plan, 1), KEYS, first);
	/* A message that comes is not waited for. */
	must(sosie_io_unlink(h->io, path, &h->err), &h->err);
	snprintf(path, sizeof(path), "%s/" TENANT "/_inbox/same.%016x", h->store_path, KEYS);
	must(sosie_io_write_file(h->io, path, "{}", 2, 0640, &h->err), &h->err);
	assert_true(reads_of(h, store, &plan, 1) >= KEYS);
	assert_int_equal(plan.fired, 0);
	sosie_store_close(store);
	sosie_io_free(io);
	harness_free(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_same_tells_its_time_on_the_standbys_clock),
	        cmocka_unit_test(test_same_without_a_clock_counts_from_its_arrival),
	        cmocka_unit_test(test_same_of_a_cycle_shows_in_status),
	        cmocka_unit_test(test_same_of_many_groups_is_split_and_parsed_once),
	        cmocka_unit_test(test_same_of_many_keys_is_looked_at_once_for_all_groups),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/* Whole replications: I1 under random changes, interrupted uploads, lost state, lost standby, other writers.
 * SOSIE_ROUNDS: how many; seeds are printed. */
#include "tests/support/rounds.h"
#include "tests/unit/replicate/harness.h"

static void seed(uint64_t s)
{
	const char *text = getenv("SOSIE_SEED");

	rng_state = text ? strtoull(text, NULL, 0) : s;
	print_message("seed %llu\n", (unsigned long long)rng_state);
}

static struct harness *two_volumes(unsigned streams)
{
	struct harness *h = harness_new(streams);

	add_volume(h, "a");
	add_volume(h, "b");
	set_size(h, 0, 3u << 20);
	set_size(h, 1, (2u << 20) + 4096 + 777);
	scribble(h, 0, 4096 * 3, 1u << 20);
	scribble(h, 1, 1u << 20, 600000);
	return h;
}

static void change(struct harness *h)
{
	for (unsigned n = (unsigned)(rng() % 12); n > 0; n--) {
		unsigned i = (unsigned)(rng() % h->volume_count);
		uint64_t size = volume_size(h, i), off = rng() % size,
		         len = 1 + rng() % (rng() % 8 ? 9000 : 1500000);

		len = len < size - off ? len : size - off;
		switch (rng() % 6) {
		case 0:
			punch(h, i, off, len);
			break;
		case 1:
			if (rng() % 3 == 0)
				set_size(h, i, 1 + rng() % VOLUME_MAX_BYTES);
			break;
		default:
			scribble(h, i, off, (size_t)len);
		}
	}
}

static void test_replicate_random_changes_equal_points(void **state)
{
	unsigned rounds = test_rounds(12, 50);

	(void)state;
	for (unsigned streams = 1; streams <= 2; streams++) {
		struct harness *h = two_volumes(streams);
		uint64_t point = 0;

		seed(streams);
		h->o.allow_shrink = true;
		open_replicator(h);
		for (unsigned n = 0; n < rounds; n++) {
			must(cycle(h), &h->err);
			if (!h->result.same)
				point++;
			assert_int_equal(h->result.point, point);
			check_point(h, point);
			if (rng() % 3 == 0) {
				close_replicator(h);
				open_replicator(h);
			}
			change(h);
		}
		assert_true(point > rounds / 3);
		assert_int_equal(h->refused, 0);
		harness_free(h);
	}
}

static void test_cycle_without_change_says_same(void **state)
{
	struct harness *h = two_volumes(1);
	unsigned frames;

	(void)state;
	open_replicator(h);
	must(cycle(h), &h->err);
	assert_false(h->result.same);
	frames = h->frames;
	must(cycle(h), &h->err);
	assert_true(h->result.same);
	assert_int_equal(h->result.point, 1);
	assert_int_equal(h->result.changed_bytes, 0);
	assert_int_equal(h->frames - frames, 2); /* head, same */
	harness_free(h);
}

/* Cut the line at frame n, for every n until a run needs none: resumed, never compared, and equal. */
static void sweep_cuts(unsigned streams)
{
	unsigned cuts = 0, resumed = 0;

	for (unsigned n = 0;; n++) {
		struct harness *h = two_volumes(streams);
		int rc;

		rng_state = n;
		open_replicator(h);
		must(cycle(h), &h->err);
		for (unsigned i = 0; i < 4; i++) /* noise that does not compress: several records */
			scribble(h, i & 1, rng() % (1u << 20), 900000);
		h->fail_at = (long)n;
		rc = cycle(h);
		if (rc == 0) {
			h->fail_at = -1;
			harness_free(h);
			break;
		}
		cuts++;
		assert_int_equal(rc, -SOSIE_EPEER);
		h->fail_at = -1;
		if (n & 1) {
			close_replicator(h);
			open_replicator(h);
		}
		if (n & 2)
			scribble(h, 0, rng() % (2u << 20), 70000);
		must(cycle(h), &h->err);
		assert_false(h->result.compared);
		resumed += h->result.resumed;
		assert_int_equal(h->refused, 0);
		check_point(h, h->result.point);
		must(cycle(h), &h->err);
		assert_true(h->result.same);
		harness_free(h);
	}
	print_message("%u cuts, %u resumed\n", cuts, resumed);
	assert_true(cuts > 5 && resumed > 3);
}

static void test_upload_cut_anywhere_resumes(void **state)
{
	(void)state;
	sweep_cuts(1);
	sweep_cuts(2);
}

static void lose_state(struct harness *h)
{
	close_replicator(h);
	must(sosie_io_remove_tree(h->io, h->state_path, &h->err), &h->err);
	open_replicator(h);
}

static void test_state_lost_sends_differences_only(void **state)
{
	struct harness *h = two_volumes(1);
	uint64_t first;

	(void)state;
	seed(7);
	scribble(h, 0, 0, 3u << 20);
	open_replicator(h);
	must(cycle(h), &h->err);
	first = h->result.changed_bytes;
	lose_state(h);
	must(cycle(h), &h->err);
	assert_true(h->result.compared);
	assert_true(h->result.same);
	scribble(h, 0, 8192, 4096);
	punch(h, 1, 1u << 20, 8192);
	set_size(h, 1, 3u << 20);
	lose_state(h);
	must(cycle(h), &h->err);
	assert_true(h->result.compared);
	assert_false(h->result.same);
	assert_true(h->result.changed_bytes < first / 20);
	assert_int_equal(h->answered, 3); /* the first comparison found nothing to descend to */
	check_point(h, 2);
	must(cycle(h), &h->err);
	assert_true(h->result.same && !h->result.compared);
	harness_free(h);
}

static void damage(const struct harness *h, const char *name, uint64_t at)
{
	char path[160], bytes[32];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", h->state_path, name);
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	memset(bytes, 0x17, sizeof(bytes));
	assert_int_equal(pwrite(fd, bytes, sizeof(bytes), (off_t)at), (ssize_t)sizeof(bytes));
	close(fd);
}

/* A node of the source's tree is not what lies below it: the standby refuses the root, and the source does
 * not offer the same for ever. */
static void test_damaged_tree_is_refused_once_then_compared(void **state)
{
	const uint64_t node = 4096 + 3 * 8192 + 32; /* block (1, 0), the digest of the second MiB */
	struct harness *h = two_volumes(1);

	(void)state;
	seed(9);
	scribble(h, 0, 0, 3u << 20);
	open_replicator(h);
	must(cycle(h), &h->err);
	damage(h, "a.tree", node);
	scribble(h, 0, 8192, 4096);
	must(cycle(h), &h->err);
	assert_int_equal(h->refused, 1);
	assert_true(h->result.compared);
	assert_true(h->result.changed_bytes < 100000);
	check_point(h, 2);
	must(cycle(h), &h->err);
	assert_true(h->result.same && !h->result.compared);
	close_replicator(h);
	damage(h, "a.tree", node);
	scribble(h, 0, 8192, 4096);
	open_replicator(h);
	h->fail_at = 12; /* the line goes somewhere in the second try: the doubt outlives the process */
	assert_int_equal(cycle(h), -SOSIE_EPEER);
	assert_int_equal(h->refused, 2);
	h->fail_at = -1;
	close_replicator(h);
	open_replicator(h);
	must(cycle(h), &h->err);
	assert_true(h->result.compared);
	assert_int_equal(h->refused, 2);
	check_point(h, 3);
	harness_free(h);
}

static int see_manifest(void *arg, const char *name, enum sosie_file_kind kind)
{
	(void)kind;
	*(bool *)arg |= strlen(name) > 9 && strcmp(name + strlen(name) - 9, ".manifest") == 0;
	return 0;
}

static unsigned parts_lost;

static int unlink_parts(void *arg, const char *name, enum sosie_file_kind kind)
{
	struct harness *h = arg;
	char path[256];

	(void)kind;
	if (strlen(name) != 34 || name[32] != '.' || name[33] != '0')
		return 0;
	snprintf(path, sizeof(path), "%s/%s/_inbox/%s/%s", h->store_path, TENANT, GROUP, name);
	must(sosie_io_unlink(h->io, path, &h->err), &h->err);
	parts_lost++;
	return 0;
}

/* What a power loss at the standby may take: names of an upload that is not committed. */
static void lose_part(struct harness *h)
{
	bool committed = false;
	char dir[160];

	snprintf(dir, sizeof(dir), "%s/%s/_inbox/%s", h->store_path, TENANT, GROUP);
	must(sosie_io_list(h->io, dir, see_manifest, &committed, &h->err), &h->err);
	if (!committed)
		must(sosie_io_list(h->io, dir, unlink_parts, h, &h->err), &h->err);
}

/* The standby loses power in the middle of an upload: part 0 is gone with its name. Its number is not given
 * again, else what the journal says of the first part 0 would be taken for the second one's. */
static void test_part_lost_at_standby_then_cut_again_resumes(void **state)
{
	unsigned twice = 0;

	(void)state;
	parts_lost = 0;
	for (long n = 0; n < 400; n++) {
		struct harness *h = two_volumes(1);

		rng_state = (uint64_t)n;
		open_replicator(h);
		must(cycle(h), &h->err);
		for (unsigned i = 0; i < 4; i++)
			scribble(h, i & 1, rng() % (1u << 20), 900000);
		h->fail_at = 4 + n / 5;
		if (cycle(h) == 0) {
			harness_free(h);
			break;
		}
		lose_part(h);
		scribble(h, 0, 4096 * 3, 300000);
		h->fail_at = 4 + 2 * (n % 5);
		twice += cycle(h) != 0;
		h->fail_at = -1;
		must(cycle(h), &h->err);
		assert_int_equal(h->refused, 0);
		check_point(h, h->result.point);
		must(cycle(h), &h->err);
		assert_true(h->result.same);
		harness_free(h);
	}
	print_message("%u parts lost, cut again %u times\n", parts_lost, twice);
	assert_true(parts_lost > 3 && twice > 3);
}

static void say(const struct harness *h)
{
	char line[1200];

	print_message("  %s\n", sosie_err_line(&h->err, line, sizeof(line)));
	assert_true(h->err.what[0] && h->err.action[0]);
}

static void test_standby_lost_store_needs_consent(void **state)
{
	struct harness *h = two_volumes(1);
	uint64_t sent;

	(void)state;
	open_replicator(h);
	must(cycle(h), &h->err);
	close_replicator(h);
	sosie_store_close(h->store);
	must(sosie_io_remove_tree(h->io, h->store_path, &h->err), &h->err);
	make_store(h);
	open_replicator(h);
	sent = h->data_bytes;
	assert_int_equal(cycle(h), -SOSIE_ELOSS);
	say(h);
	assert_int_equal(h->data_bytes, sent);
	close_replicator(h);
	h->o.accept_standby_loss = true;
	open_replicator(h);
	must(cycle(h), &h->err);
	check_point(h, 1);
	harness_free(h);
}

static void test_second_sender_is_told_of_the_first(void **state)
{
	struct harness *h = two_volumes(1);
	char other[128], first[128];

	(void)state;
	snprintf(first, sizeof(first), "%s", h->state_path);
	snprintf(other, sizeof(other), "%s/other", h->dir);
	open_replicator(h);
	must(cycle(h), &h->err);
	close_replicator(h);
	snprintf(h->state_path, sizeof(h->state_path), "%.90s", other);
	open_replicator(h);
	scribble(h, 0, 0, 4096);
	must(cycle(h), &h->err);
	assert_true(h->result.compared);
	close_replicator(h);
	snprintf(h->state_path, sizeof(h->state_path), "%.90s", first);
	open_replicator(h);
	assert_int_equal(cycle(h), -SOSIE_EPARENT);
	say(h);
	harness_free(h);
}

static void test_state_in_use_names_the_holder(void **state)
{
	struct harness *h = two_volumes(1);
	struct sosie_replicator *second;

	(void)state;
	open_replicator(h);
	assert_int_equal(sosie_replicator_open(&h->o, &second, &h->err), -SOSIE_EBUSY);
	say(h);
	harness_free(h);
}

static void test_no_keeper_says_durable_then_goes_on(void **state)
{
	struct harness *h = two_volumes(1);
	uint64_t sent;

	(void)state;
	h->keeper = false;
	open_replicator(h);
	assert_int_equal(cycle(h), -SOSIE_ENOKEEPER);
	say(h);
	sent = h->data_bytes;
	assert_int_equal(cycle(h), -SOSIE_ENOKEEPER);
	assert_int_equal(h->data_bytes, sent);
	h->keeper = true;
	must(cycle(h), &h->err);
	assert_true(h->result.resumed);
	assert_int_equal(h->data_bytes, sent);
	check_point(h, 1);
	harness_free(h);
}

static void test_volume_shrunk_or_replaced_needs_consent(void **state)
{
	static const char *const names[] = {"a"};
	struct harness *h = two_volumes(1);
	char aside[160];

	(void)state;
	open_replicator(h);
	must(cycle(h), &h->err);
	set_size(h, 1, 1u << 20);
	assert_int_equal(cycle(h), -SOSIE_ESHRUNK);
	say(h);
	close_replicator(h);
	h->o.allow_shrink = true;
	open_replicator(h);
	must(cycle(h), &h->err);
	check_point(h, 2);
	snprintf(aside, sizeof(aside), "%s/aside", h->dir);
	assert_int_equal(rename(h->volumes[0].path, aside), 0);
	assert_int_equal(cycle(h), -SOSIE_ENOTFOUND);
	say(h);
	set_size(h, 0, 3u << 20);
	assert_int_equal(cycle(h), -SOSIE_EVOLUME);
	say(h);
	close_replicator(h);
	h->o.accept_volumes = names;
	h->o.accept_volume_count = 1;
	open_replicator(h);
	must(cycle(h), &h->err);
	check_point(h, 3);
	harness_free(h);
}

static void test_volume_left_out_or_renamed_needs_consent(void **state)
{
	static const char *const names[] = {"b"};
	struct harness *h = two_volumes(1);
	uint64_t sent;

	(void)state;
	open_replicator(h);
	must(cycle(h), &h->err);
	assert_string_equal(h->result.new_volumes, "");
	close_replicator(h);
	h->volume_count = 1;
	sent = h->data_bytes;
	open_replicator(h);
	assert_int_equal(cycle(h), -SOSIE_EVOLUME);
	assert_non_null(strstr(h->err.what, "volume b was replicated so far"));
	assert_non_null(strstr(h->err.action, "--drop-volume b"));
	assert_int_equal(h->data_bytes, sent);
	close_replicator(h);
	/* Nor by its other name, and nor when this source has lost what it knew. */
	must(sosie_io_remove_tree(h->io, h->state_path, &h->err), &h->err);
	add_volume(h, "c");
	set_size(h, 1, 1u << 20);
	open_replicator(h);
	assert_int_equal(cycle(h), -SOSIE_EVOLUME);
	assert_int_equal(h->data_bytes, sent);
	close_replicator(h);
	h->o.drop_volumes = names;
	h->o.drop_volume_count = 1;
	open_replicator(h);
	must(cycle(h), &h->err);
	assert_string_equal(h->result.new_volumes, "c");
	assert_string_equal(h->result.dropped_volumes, "b");
	check_point(h, 2);
	/* Once is enough. */
	close_replicator(h);
	h->o.drop_volume_count = 0;
	open_replicator(h);
	must(cycle(h), &h->err);
	assert_true(h->result.same);
	harness_free(h);
}

static void test_volume_dropped_then_cut_goes_on_without_second_consent(void **state)
{
	static const char *const names[] = {"b"};
	struct harness *h = two_volumes(1);

	(void)state;
	open_replicator(h);
	must(cycle(h), &h->err);
	close_replicator(h);
	h->volume_count = 1;
	h->o.drop_volumes = names;
	h->o.drop_volume_count = 1;
	h->keeper = false;
	open_replicator(h);
	assert_int_not_equal(cycle(h), 0);
	close_replicator(h);
	h->o.drop_volume_count = 0;
	h->keeper = true;
	open_replicator(h);
	must(cycle(h), &h->err);
	check_point(h, 2);
	harness_free(h);
}

static void test_volume_added_and_removed_follows(void **state)
{
	static const char *const names[] = {"b"};
	struct harness *h = two_volumes(1);

	(void)state;
	h->volume_count = 1;
	open_replicator(h);
	must(cycle(h), &h->err);
	close_replicator(h);
	h->volume_count = 2;
	open_replicator(h);
	must(cycle(h), &h->err);
	check_point(h, 2);
	assert_string_equal(h->result.new_volumes, "b");
	close_replicator(h);
	h->volume_count = 1;
	h->o.drop_volumes = names;
	h->o.drop_volume_count = 1;
	open_replicator(h);
	must(cycle(h), &h->err);
	check_point(h, 3);
	close_replicator(h);
	h->volume_count = 2;
	open_replicator(h);
	must(cycle(h), &h->err);
	check_point(h, 4);
	assert_int_equal(h->refused, 0);
	harness_free(h);
}

static void test_attachment_change_makes_a_point(void **state)
{
	struct harness *h = two_volumes(1);
	char path[128], out[160];
	const char *const list[] = {path};
	struct sosie_image *images;
	struct sosie_group *g;
	unsigned count;

	(void)state;
	snprintf(path, sizeof(path), "%s/vm.xml", h->dir);
	must(sosie_io_write_file(h->io, path, "<one/>", 6, 0600, &h->err), &h->err);
	h->o.attachments = list;
	h->o.attachment_count = 1;
	open_replicator(h);
	must(cycle(h), &h->err);
	must(cycle(h), &h->err);
	assert_true(h->result.same);
	must(sosie_io_write_file(h->io, path, "<second/>", 9, 0600, &h->err), &h->err);
	must(cycle(h), &h->err);
	assert_false(h->result.same);
	must(sosie_group_open(h->store, TENANT, GROUP, &g, &h->err), &h->err);
	snprintf(out, sizeof(out), "%s/export", h->dir);
	must(sosie_group_export(g, 2, out, NULL, &images, &count, &h->err), &h->err);
	strcat(out, "/attachments/vm.xml");
	compare_files(path, out);
	free(images);
	sosie_group_close(g);
	harness_free(h);
}

static long peak_kib(void)
{
	char line[256];
	long kib = 0;
	FILE *f = fopen("/proc/self/status", "re");

	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "VmHWM: %ld", &kib) == 1)
			break;
	fclose(f);
	return kib;
}

/* ext4's largest file is one block short of 16 TiB. */
static int truncate_huge(const struct harness *h)
{
	int fd = open_volume(h, 0);
	int rc = ftruncate(fd, ((off_t)16 << 40) - 4096);

	close(fd);
	return rc;
}

/* This process holds source, receiver and keeper at once: the bound is for all three. */
static void test_huge_sparse_volume_needs_little_memory(void **state)
{
	struct harness *h = harness_new(1);
	long before = peak_kib();

	(void)state;
	add_volume(h, "huge");
	if (truncate_huge(h) != 0) {
		print_message("skipped: this filesystem has no files of 16 TiB; set TMPDIR\n");
		harness_free(h);
		skip();
	}
	scribble(h, 0, 4096, 1u << 20);
	scribble(h, 0, ((uint64_t)9 << 40) + 12288, 5000);
	open_replicator(h);
	must(cycle(h), &h->err);
	assert_int_equal(h->result.point, 1);
	assert_true(h->result.read_bytes < 4u << 20);
	lose_state(h);
	must(cycle(h), &h->err);
	assert_true(h->result.compared && h->result.same);
	print_message("peak %ld KiB, %ld KiB before\n", peak_kib(), before);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	assert_true(peak_kib() < 128 << 10);
#endif
	harness_free(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        /* First: it looks at the peak of the whole process. */
	        cmocka_unit_test(test_huge_sparse_volume_needs_little_memory),
	        cmocka_unit_test(test_replicate_random_changes_equal_points),
	        cmocka_unit_test(test_cycle_without_change_says_same),
	        cmocka_unit_test(test_upload_cut_anywhere_resumes),
	        cmocka_unit_test(test_state_lost_sends_differences_only),
	        cmocka_unit_test(test_damaged_tree_is_refused_once_then_compared),
	        cmocka_unit_test(test_part_lost_at_standby_then_cut_again_resumes),
	        cmocka_unit_test(test_standby_lost_store_needs_consent),
	        cmocka_unit_test(test_second_sender_is_told_of_the_first),
	        cmocka_unit_test(test_state_in_use_names_the_holder),
	        cmocka_unit_test(test_no_keeper_says_durable_then_goes_on),
	        cmocka_unit_test(test_volume_shrunk_or_replaced_needs_consent),
	        cmocka_unit_test(test_volume_left_out_or_renamed_needs_consent),
	        cmocka_unit_test(test_volume_dropped_then_cut_goes_on_without_second_consent),
	        cmocka_unit_test(test_volume_added_and_removed_follows),
	        cmocka_unit_test(test_attachment_change_makes_a_point),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

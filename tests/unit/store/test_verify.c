/* SPDX-License-Identifier: MIT */
/* verify finds each kind of damage and names its place; export yields the images and attachments of each
 * point and overwrites nothing. */
#include "tests/unit/cutover/builder.h"

#define POINTS 5
#define GENERATION 2
#define SEED 4711u
#define GROUP "/store/acme/erp"

struct found {
	unsigned count;
	char where[256], what[512]; /* of the first */
};

static void on_damage(void *arg, const char *where, const char *what)
{
	struct found *f = arg;

	if (f->count++ > 0)
		return;
	snprintf(f->where, sizeof(f->where), "%s", where);
	snprintf(f->what, sizeof(f->what), "%s", what);
}

static struct sosie_verify verify(struct build *b, bool full, uint64_t point, struct found *f)
{
	struct sosie_verify v = {.full = full, .point = point, .damage = on_damage, .arg = f};
	struct sosie_err err;

	memset(f, 0, sizeof(*f));
	build_open(b, b->io);
	must(sosie_group_verify(b->g, &v, &err), &err);
	build_close(b);
	assert_int_equal(v.damaged, f->count);
	return v;
}

/* Flips one bit of a file in place. */
static void flip(struct build *b, const char *path, uint64_t offset)
{
	struct sosie_file *file;
	struct sosie_err err;
	uint8_t byte;
	size_t got;

	must(sosie_io_chmod(b->io, path, 0640, &err), &err);
	must(sosie_io_openat(b->io, path, SOSIE_READ | SOSIE_WRITE, 0, &file, &err), &err);
	must(sosie_io_pread(b->io, file, &byte, 1, offset, &got, &err), &err);
	assert_int_equal(got, 1);
	byte ^= 1;
	must(sosie_io_pwrite(b->io, file, &byte, 1, offset, &err), &err);
	must(sosie_io_close(b->io, file, &err), &err);
}

static void test_verify_whole_store_finds_nothing(void **state)
{
	struct sosie_verify v;
	struct found f;
	struct build b;

	(void)state;
	build_start(&b, SEED, true, POINTS, GENERATION);
	v = verify(&b, false, 0, &f);
	assert_int_equal(v.damaged, 0);
	assert_int_equal(v.points, POINTS);
	assert_int_equal(v.entries, POINTS);
	assert_int_equal(v.parts, POINTS);
	assert_int_equal(v.generations, 1);
	assert_int_equal(v.image_bytes, 0);
	assert_true(v.part_bytes > 0);
	v = verify(&b, true, 0, &f);
	assert_int_equal(v.damaged, 0);
	assert_true(v.image_bytes > 0);
	v = verify(&b, false, 1, &f);
	assert_int_equal(v.damaged, 0);
	assert_int_equal(v.parts, 1);
	assert_int_equal(v.generations, 0);
	build_end(&b);
}

static void test_verify_changed_chain_names_file_and_offset(void **state)
{
	struct found f;
	struct build b;

	(void)state;
	build_start(&b, SEED, true, POINTS, 0);
	flip(&b, GROUP "/chain/000001.chain", 64 + 40); /* in the first manifest */
	(void)verify(&b, false, 0, &f);
	assert_true(f.count >= 1);
	assert_string_equal(f.where, GROUP "/chain/000001.chain");
	assert_non_null(strstr(f.what, "offset 0"));
	build_end(&b);
}

static void test_verify_changed_part_names_record(void **state)
{
	struct found f;
	struct build b;

	(void)state;
	build_start(&b, SEED, true, POINTS, 0);
	flip(&b, GROUP "/journal/3.seg", 48 + 64 + 100); /* payload of the first record */
	(void)verify(&b, false, 0, &f);
	assert_int_equal(f.count, 1);
	assert_string_equal(f.where, GROUP "/journal/3.seg");
	assert_non_null(strstr(f.what, "record at offset 0"));
	flip(&b, GROUP "/journal/3.seg", 48 + 64 + 100);
	flip(&b, GROUP "/journal/3.seg", 0); /* the magic */
	(void)verify(&b, false, 0, &f);
	assert_int_equal(f.count, 1);
	assert_non_null(strstr(f.what, "magic"));
	build_end(&b);
}

/* The record behind one that is whole. */
static void test_verify_changed_part_of_packed_ranges_names_record(void **state)
{
	static const char path[] = GROUP "/journal/4.seg";
	uint32_t ranges_len, payload_len;
	struct sosie_file *file;
	struct sosie_err err;
	struct found f;
	struct build b;
	uint8_t head[SOSIE_RECORD_HEADER];
	char place[64];
	size_t got;

	(void)state;
	build_start(&b, SEED, true, POINTS, 0);
	must(sosie_io_openat(b.io, path, SOSIE_READ, 0, &file, &err), &err);
	must(sosie_io_pread(b.io, file, head, sizeof(head), 0, &got, &err), &err);
	must(sosie_io_close(b.io, file, &err), &err);
	must(sosie_record_lengths(head, &ranges_len, &payload_len, &err), &err);
	assert_int_equal(head[5], 0x80);
	flip(&b, path, 2 * (SOSIE_RECORD_HEADER + ranges_len) + payload_len + 100);
	(void)verify(&b, false, 0, &f);
	assert_int_equal(f.count, 1);
	snprintf(place, sizeof(place),
	         "record at offset %u:", SOSIE_RECORD_HEADER + ranges_len + payload_len);
	assert_non_null(strstr(f.what, place));
	build_end(&b);
}

static void test_verify_short_and_missing_parts_are_told(void **state)
{
	struct sosie_file *file;
	struct sosie_err err;
	struct found f;
	struct build b;

	(void)state;
	build_start(&b, SEED, true, POINTS, 0);
	must(sosie_io_openat(b.io, GROUP "/journal/2.seg", SOSIE_READ | SOSIE_WRITE, 0, &file, &err), &err);
	must(sosie_io_truncate(b.io, file, 500, &err), &err);
	must(sosie_io_close(b.io, file, &err), &err);
	must(sosie_io_unlink(b.io, GROUP "/journal/4.seg", &err), &err);
	(void)verify(&b, false, 0, &f);
	assert_int_equal(f.count, 2);
	assert_non_null(strstr(f.what, "500 bytes"));
	(void)verify(&b, false, 1, &f); /* point 1 needs neither */
	assert_int_equal(f.count, 0);
	build_end(&b);
}

static void test_verify_changed_generation_is_found(void **state)
{
	struct found f;
	struct build b;

	(void)state;
	build_start(&b, SEED, true, POINTS, GENERATION);
	flip(&b, GROUP "/generations/2/data.raw", 123456);
	(void)verify(&b, false, 0, &f);
	assert_int_equal(f.count, 0); /* bytes are read by --full only */
	(void)verify(&b, true, 0, &f);
	assert_int_equal(f.count, 1);
	assert_string_equal(f.where, GROUP "/generations/2/data.raw");
	assert_non_null(strstr(f.what, "4096 bytes at offset 122880"));
	flip(&b, GROUP "/generations/2/log.tree", 4096 + 5);
	(void)verify(&b, false, 0, &f);
	assert_int_equal(f.count, 1);
	assert_string_equal(f.where, GROUP "/generations/2/log.tree");
	build_end(&b);
}

static void test_verify_changed_head_is_found_when_clean_only(void **state)
{
	struct sosie_err err;
	struct found f;
	struct build b;

	(void)state;
	build_start(&b, SEED, false, POINTS, 0);
	flip(&b, GROUP "/head/data.raw", BUILD_MAX - 1); /* in the short last leaf */
	(void)verify(&b, false, 0, &f);
	assert_int_equal(f.count, 0);
	(void)verify(&b, true, 0, &f);
	assert_int_equal(f.count, 1);
	assert_string_equal(f.where, GROUP "/head/data.raw");
	build_open(&b, b.io);
	must(sosie_group_lock(b.g, "test", 0, &err), &err);
	must(head_void(b.g, &err), &err);
	build_close(&b);
	(void)verify(&b, true, 0, &f);
	assert_int_equal(f.count, 0);
	build_end(&b);
}

static void test_verify_unreadable_place_is_told_and_passed(void **state)
{
	struct sosie_fault_plan plan = {.kind = SOSIE_FAULT_NONE};
	struct sosie_io *real, *faulty;
	struct sosie_err err;
	struct build b;
	uint64_t told = 0, stopped = 0;

	(void)state;
	build_start(&b, SEED, true, POINTS, GENERATION);
	must(sosie_io_fault(b.io, &plan, &faulty, &err), &err);
	real = b.io;
	b.io = faulty;
	for (uint64_t n = 0;; n++) {
		struct found f = {0};
		struct sosie_verify v = {.full = true, .damage = on_damage, .arg = &f};
		build_open(&b, b.io);
		plan = (struct sosie_fault_plan){.kind = SOSIE_FAULT_ERROR, .at = n, .sys = EIO};
		int rc = sosie_group_verify(b.g, &v, &err);
		bool fired = plan.fired > 0;
		plan.kind = SOSIE_FAULT_NONE;
		build_close(&b);
		told += rc == 0 && v.damaged > 0;
		stopped += rc < 0;
		if (!fired)
			break;
	}
	print_message("unreadable at one call: told %llu times, stopped %llu\n", (unsigned long long)told,
	              (unsigned long long)stopped);
	assert_true(told > 20);
	assert_true(stopped < told / 2);
	b.io = real;
	sosie_io_free(faulty);
	build_end(&b);
}

static void assert_attachment(struct build *b, uint64_t n)
{
	struct sosie_err err;
	char want[64], *text;
	size_t len, want_len = build_attachment_text(n, want);

	must(sosie_io_read_file(b->io, "/out/attachments/vm.xml", 1000, &text, &len, &err), &err);
	assert_int_equal(len, want_len);
	assert_memory_equal(text, want, len);
	free(text);
}

static void test_export_each_point_yields_its_images(void **state)
{
	struct sosie_image *images;
	struct sosie_err err;
	struct build b;
	unsigned count;

	(void)state;
	build_start(&b, SEED, true, POINTS, GENERATION);
	for (uint64_t n = 1; n <= POINTS; n++) {
		build_open(&b, b.io);
		must(sosie_group_export(b.g, n, "/out", NULL, &images, &count, &err), &err);
		assert_int_equal(count, BUILD_VOLUMES);
		must(sosie_image_digest(b.store, &images[0], NULL, &err), &err);
		assert_false(sosie_digest_is_zero(&images[0].sha256));
		free(images);
		build_close(&b);
		assert_image(&b, "/out/data.raw", 0, n);
		assert_image(&b, "/out/log.raw", 1, n);
		assert_attachment(&b, n);
		assert_int_equal(build_count(&b, "/out"), BUILD_VOLUMES + 1);
		must(sosie_io_remove_tree(b.io, "/out", &err), &err);
	}
	build_end(&b);
}

static void test_export_existing_name_is_refused_and_nothing_left(void **state)
{
	struct sosie_image *images;
	struct sosie_err err;
	struct build b;
	unsigned count;

	(void)state;
	build_start(&b, SEED, true, POINTS, 0);
	must(sosie_io_ensure_dir(b.io, "/out", 0755, &err), &err);
	must(sosie_io_write_file(b.io, "/out/log.raw", "mine", 4, 0600, &err), &err);
	build_open(&b, b.io);
	assert_int_equal(sosie_group_export(b.g, 1, "/out", NULL, &images, &count, &err), -SOSIE_EEXISTS);
	assert_int_equal(sosie_group_export(b.g, POINTS + 1, "/out2", NULL, &images, &count, &err),
	                 -SOSIE_ENOTFOUND);
	build_close(&b);
	assert_int_equal(build_count(&b, "/out"), 1);
	assert_false(sosie_io_exists(b.io, "/out2"));
	build_end(&b);
}

static void test_export_failing_at_every_call_leaves_no_image(void **state)
{
	uint64_t fired = 0;

	(void)state;
	for (uint64_t n = 0;; n++) {
		struct sosie_fault_plan plan = {.kind = SOSIE_FAULT_NONE};
		struct sosie_image *images;
		struct sosie_io *real, *faulty;
		struct sosie_err err;
		struct build b;
		unsigned count;
		build_start(&b, SEED, true, 3, GENERATION);
		must(sosie_io_fault(b.io, &plan, &faulty, &err), &err);
		real = b.io;
		build_open(&b, faulty);
		plan = (struct sosie_fault_plan){.kind = SOSIE_FAULT_ERROR, .at = n, .sys = EIO};
		int rc = sosie_group_export(b.g, 3, "/out", NULL, &images, &count, &err);
		bool hit = plan.fired > 0;
		plan.kind = SOSIE_FAULT_NONE;
		build_close(&b);
		free(images);
		sosie_io_free(faulty);
		b.io = real;
		if (rc < 0) {
			assert_false(sosie_io_exists(b.io, "/out/data.raw"));
			assert_false(sosie_io_exists(b.io, "/out/log.raw"));
		} else {
			assert_image(&b, "/out/data.raw", 0, 3);
			assert_attachment(&b, 3);
		}
		build_end(&b);
		fired += hit;
		if (!hit)
			break;
	}
	print_message("export failed at %llu calls\n", (unsigned long long)fired);
	assert_true(fired > 40);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_verify_whole_store_finds_nothing),
	        cmocka_unit_test(test_verify_changed_chain_names_file_and_offset),
	        cmocka_unit_test(test_verify_changed_part_names_record),
	        cmocka_unit_test(test_verify_changed_part_of_packed_ranges_names_record),
	        cmocka_unit_test(test_verify_short_and_missing_parts_are_told),
	        cmocka_unit_test(test_verify_changed_generation_is_found),
	        cmocka_unit_test(test_verify_changed_head_is_found_when_clean_only),
	        cmocka_unit_test(test_verify_unreadable_place_is_told_and_passed),
	        cmocka_unit_test(test_export_each_point_yields_its_images),
	        cmocka_unit_test(test_export_existing_name_is_refused_and_nothing_left),
	        cmocka_unit_test(test_export_failing_at_every_call_leaves_no_image),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

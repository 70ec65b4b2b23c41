/* SPDX-License-Identifier: MIT */
/*
 * What a receiver may do by its rights, and more: the inbox is its own to write. Links that something less
 * confined planted, files that change under the keeper's hands, names that are no files, sizes and numbers
 * without measure. After each the earlier points are byte for byte what they were and can be exported,
 * nothing of another tenant was taken or touched, and the next upload is accepted.
 *
 * A back end over the posix one runs the attacker between the keeper's calls, so no race is left to luck.
 */
#include "tests/hostile/ground.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

#include "engine/io/posix.h"

static struct ground ground;

/* --- the attacker between two calls
 * --------------------------------------------------------------------------------- */

static struct {
	char suffix[24];      /* of the path whose opening is waited for */
	unsigned skip;        /* openings that pass before */
	void (*strike)(void); /* NULL: nothing waits */
	unsigned struck;
} trap;

static struct sosie_io_ops watched;

static bool ends_with(const char *text, const char *end)
{
	size_t len = strlen(text), n = strlen(end);
	return len >= n && strcmp(text + len - n, end) == 0;
}

static int watched_open(struct sosie_io *io, const char *path, unsigned flags, uint32_t mode,
                        struct sosie_file **out, struct sosie_err *err)
{
	void (*strike)(void) = trap.strike;
	if (strike && strstr(path, "/_inbox/") && ends_with(path, trap.suffix) && trap.skip-- == 0) {
		trap.strike = NULL;
		trap.struck++;
		strike();
	}
	return posix_ops.open(io, path, flags, mode, out, err);
}

static void wait_for(const char *suffix, unsigned skip, void (*strike)(void))
{
	snprintf(trap.suffix, sizeof(trap.suffix), "%s", suffix);
	trap.skip = skip;
	trap.strike = strike;
	trap.struck = 0;
}

/* --- an upload and its files
 * ---------------------------------------------------------------------------------------- */

static struct make_upload upload;
static struct model before; /* the source without the upload */

static const char *file_of(const char *suffix)
{
	char id[33];
	sosie_hex(id, upload.id.b, sizeof(upload.id.b));
	return in_store(&ground, "acme/_inbox/erp/%s.%s", id, suffix);
}

static void begin(void)
{
	static const struct change c[] = {{0, 12288, 50000, noise + 1234}, {1, 0, 5000, noise + 4321}};
	model_copy(&before, &ground.model);
	ground_upload(&ground, c, 2, &upload);
}

/* The upload counts for nothing: the source is as before. */
static void forget(void)
{
	model_fini(&ground.model);
	ground.model = before;
}

static void good_point(void)
{
	static const struct change c[] = {{0, 0, 9000, noise + 17}};
	ground_point(&ground, c, 1);
}

static void all_is_well(void)
{
	ground_same(&ground, true);
	good_point();
	ground_check_points(&ground);
	ground_same(&ground, true);
}

static void is_refused(enum sosie_code code)
{
	struct sosie_accept_result r = ground_accept(&ground);
	assert_int_equal(r.accepted, 0);
	assert_int_equal(r.refused, 1);
	assert_int_equal(r.last.code, code);
	assert_int_equal(r.point, ground.point_count);
	forget();
	all_is_well();
}

static void is_accepted(void)
{
	struct sosie_accept_result r = ground_accept(&ground);
	if (r.accepted != 1)
		fail_msg("not accepted: %s", r.last.what);
	model_fini(&before);
	ground_keep(&ground);
	all_is_well();
}

static int set_up(void **state)
{
	(void)state;
	memset(&trap, 0, sizeof(trap));
	ground_init(&ground);
	watched = posix_ops;
	watched.open = watched_open;
	ground.io->ops = &watched;
	put_text(in_store(&ground, "../secret"), "beside the store\n");
	ground_record(&ground);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	ground_fini(&ground);
	return 0;
}

/* --- instead of a part: something else
 * ------------------------------------------------------------------------------ */

static void be_symlink(const char *path)
{
	assert_int_equal(symlink(in_store(&ground, "acme/erp/journal/1.seg"), path), 0);
}

static void be_symlink_aside(const char *path)
{
	assert_int_equal(symlink(in_store(&ground, "globex/_inbox/crm/secret"), path), 0);
}

static void be_fifo(const char *path)
{
	assert_int_equal(mkfifo(path, 0660), 0);
}

static void be_folder(const char *path)
{
	assert_int_equal(mkdir(path, 0770), 0);
}

static void be_hard_link(const char *path)
{
	assert_int_equal(link(in_store(&ground, "acme/erp/journal/1.seg"), path), 0);
}

static void be_socket_like_device(const char *path)
{
	if (mknod(path, S_IFCHR | 0600, 0) != 0)
		be_fifo(path);
}

static void (*const disguises[])(const char *path) = {be_symlink, be_symlink_aside, be_fifo,
                                                      be_folder,  be_hard_link,     be_socket_like_device};
#define DISGUISES (sizeof(disguises) / sizeof(disguises[0]))

static void (*disguise)(const char *path);
static const char *disguised;

static void swap(void)
{
	const char *path = file_of(disguised);
	assert_int_equal(unlink(path), 0);
	disguise(path);
}

static void test_part_that_is_no_file_of_one_name_is_refused(void **state)
{
	(void)state;
	for (unsigned i = 0; i < DISGUISES; i++) {
		begin();
		disguise = disguises[i];
		disguised = "0";
		swap();
		is_refused(SOSIE_EPROTO);
	}
}

/* After the listing and the first look, before the copy. */
static void test_part_replaced_between_look_and_copy_is_refused(void **state)
{
	(void)state;
	for (unsigned i = 0; i < DISGUISES; i++) {
		begin();
		disguise = disguises[i];
		disguised = "0";
		wait_for(".0", 1, swap);
		is_refused(SOSIE_EPROTO);
		assert_int_equal(trap.struck, 1);
	}
}

/* A manifest that is no file is none; while it lies there others are taken. */
static void test_manifest_that_is_no_file_is_not_looked_at(void **state)
{
	(void)state;
	for (unsigned i = 0; i < DISGUISES; i++) {
		char path[GROUND_PATH];
		begin();
		disguise = disguises[i];
		disguised = "manifest";
		swap();
		strcpy(path, file_of("manifest"));
		struct sosie_accept_result r = ground_accept(&ground);
		assert_int_equal(r.accepted + r.refused + r.waiting, 0);
		forget();
		good_point();
		assert_int_equal(remove(path), 0);
		all_is_well();
	}
}

/* A folder in its place cannot be removed as a file: that is an error, once. */
static void test_manifest_replaced_after_the_listing_is_refused(void **state)
{
	(void)state;
	for (unsigned i = 0; i < DISGUISES; i++) {
		struct sosie_accept_result r;
		begin();
		disguise = disguises[i];
		disguised = "manifest";
		wait_for(".manifest", 0, swap);
		int rc = sosie_keeper_accept(ground.handle, "acme", "erp", &r, NULL);
		assert_int_equal(trap.struck, 1);
		assert_int_equal(r.accepted, 0);
		assert_true(disguise == be_folder ? rc < 0 : rc == 0 && r.refused == 1);
		forget();
		all_is_well();
	}
}

static void test_key_that_is_no_file_is_not_believed(void **state)
{
	(void)state;
	for (unsigned i = 0; i < DISGUISES; i++) {
		begin();
		disguises[i](file_of("key"));
		is_accepted();
	}
}

/* --- the group's folder
 * ---------------------------------------------------------------------------------------------- */

static void replace_folder(void)
{
	const char *folder = in_store(&ground, "acme/_inbox/erp");
	assert_int_equal(rename(folder, in_store(&ground, "acme/_inbox/aside")), 0);
	assert_int_equal(symlink(in_store(&ground, "globex/_inbox/crm"), folder), 0);
}

static void folder_back(void)
{
	const char *folder = in_store(&ground, "acme/_inbox/erp");
	assert_int_equal(unlink(folder), 0);
	assert_int_equal(rename(in_store(&ground, "acme/_inbox/aside"), folder), 0);
}

/* The other tenant's upload of the same id, committed, in its own inbox. */
static void plant_twin(void)
{
	char id[33];
	sosie_hex(id, upload.id.b, sizeof(upload.id.b));
	put_text(in_store(&ground, "globex/_inbox/crm/%s.manifest", id), "{}");
	put_text(in_store(&ground, "globex/_inbox/crm/%s.0", id), "the other tenant's part");
	ground_record(&ground);
}

static void test_group_folder_that_leads_to_another_tenant_takes_and_removes_nothing(void **state)
{
	struct sosie_accept_result r;
	(void)state;
	begin();
	plant_twin();
	replace_folder();
	assert_true(sosie_keeper_accept(ground.handle, "acme", "erp", &r, NULL) < 0);
	ground_same(&ground, true);
	folder_back();
	is_accepted();
}

static void test_group_folder_replaced_after_the_listing_takes_and_removes_nothing(void **state)
{
	struct sosie_accept_result r;
	(void)state;
	begin();
	plant_twin();
	wait_for(".manifest", 0, replace_folder);
	int rc = sosie_keeper_accept(ground.handle, "acme", "erp", &r, NULL);
	assert_int_equal(trap.struck, 1);
	assert_true(rc < 0 || r.accepted == 0);
	ground_same(&ground, true);
	folder_back();
	is_accepted();
}

/* --- writing on
 * ------------------------------------------------------------------------------------------------------ */

static int kept_open;
static uint8_t *mapped;
static size_t mapped_len;

static void keep_part_open(void)
{
	kept_open = open(file_of("0"), O_RDWR);
	mapped_len = (size_t)upload.part0_len;
	assert_true(kept_open >= 0);
	mapped = mmap(NULL, mapped_len, PROT_READ | PROT_WRITE, MAP_SHARED, kept_open, 0);
	assert_true(mapped != MAP_FAILED);
}

static void let_part_go(void)
{
	munmap(mapped, mapped_len);
	close(kept_open);
}

static void write_through_descriptor(void)
{
	assert_int_equal(pwrite(kept_open, "forged", 6, 200), 6);
}

static void write_through_mapping(void)
{
	memset(mapped + 200, 0x5a, 6);
}

static void cut_through_descriptor(void)
{
	assert_int_equal(ftruncate(kept_open, 100), 0);
}

static void test_part_written_after_commit_is_refused(void **state)
{
	static void (*const strikes[])(void) = {write_through_descriptor, write_through_mapping};
	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		begin();
		keep_part_open();
		wait_for(".0", 1, strikes[i]);
		is_refused(SOSIE_ECORRUPT);
		assert_int_equal(trap.struck, 1);
		let_part_go();
	}
}

static void test_part_cut_between_look_and_copy_is_refused(void **state)
{
	(void)state;
	begin();
	keep_part_open();
	wait_for(".0", 1, cut_through_descriptor);
	is_refused(SOSIE_EPROTO);
	assert_int_equal(trap.struck, 1);
	let_part_go();
}

/* What was accepted is the keeper's own copy. */
static void test_part_written_after_acceptance_changes_nothing(void **state)
{
	(void)state;
	begin();
	keep_part_open();
	struct sosie_accept_result r = ground_accept(&ground);
	assert_int_equal(r.accepted, 1);
	model_fini(&before);
	ground_keep(&ground);
	ground_record(&ground);
	write_through_descriptor();
	write_through_mapping();
	cut_through_descriptor();
	ground_same(&ground, false);
	let_part_go();
	all_is_well();
}

static void manifest_to_garbage(void)
{
	int fd = open(file_of("manifest"), O_WRONLY);
	assert_int_equal(pwrite(fd, "]]]]", 4, 0), 4);
	close(fd);
}

static void test_manifest_written_after_the_listing_is_refused(void **state)
{
	(void)state;
	begin();
	wait_for(".manifest", 0, manifest_to_garbage);
	struct sosie_accept_result r = ground_accept(&ground);
	assert_int_equal(trap.struck, 1);
	assert_int_equal(r.refused, 1);
	forget();
	all_is_well();
}

/* --- without measure
 * -------------------------------------------------------------------------------------------------- */

static void grow(const char *path, off_t size)
{
	int fd = open(path, O_WRONLY | O_CREAT, 0660);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, size), 0);
	close(fd);
}

/* Bytes behind the length that the manifest tells are ignored. */
static void test_giant_sparse_part_costs_only_its_length(void **state)
{
	(void)state;
	begin();
	grow(file_of("0"), (off_t)1 << 42);
	is_accepted();
}

static void test_giant_sparse_part_as_long_as_claimed_is_refused(void **state)
{
	static const struct change c[] = {{0, 0, 4096, noise}};
	(void)state;
	model_copy(&before, &ground.model);
	upload = (struct make_upload){.io = ground.io,
	                              .clock = sosie_clock_real(),
	                              .store = ground.store,
	                              .model = &ground.model,
	                              .changes = c,
	                              .change_count = 1,
	                              .claim_part = 1ull << 43};
	upload.parent = ground_head(&ground);
	make_upload(&upload);
	grow(file_of("0"), (off_t)1 << 43);
	is_refused(SOSIE_ENOSPACE);
}

static void test_giant_sparse_manifest_key_and_same_are_bounded(void **state)
{
	(void)state;
	begin();
	grow(file_of("key"), (off_t)1 << 42);
	grow(in_store(&ground, "acme/_inbox/same.0123456789abcdef"), (off_t)1 << 42);
	is_accepted();
	begin();
	grow(file_of("manifest"), (off_t)1 << 42);
	is_refused(SOSIE_ECORRUPT);
	OK(&ground, sosie_keeper_settle(ground.handle, "acme", "erp", &ground.err));
}

/* Empty files NAME, or of uploads with the numbers from 0 as ids. */
static void many(unsigned count, bool ids, const char *suffix)
{
	for (unsigned i = 0; i < count; i++)
		grow(ids ? in_store(&ground, "acme/_inbox/erp/%032x.%s", i, suffix)
		         : in_store(&ground, "acme/_inbox/erp/stray-%u%s", i, suffix),
		     0);
}

static void test_ten_thousand_stray_names_do_not_keep_an_upload(void **state)
{
	(void)state;
	begin();
	many(10000, false, "");
	many(1000, true, "0");
	is_accepted();
}

/* Each is refused and goes; the true one is taken in the end. */
static void test_thousands_of_empty_manifests_are_refused_and_removed(void **state)
{
	unsigned refused = 0, accepted = 0;
	struct sosie_accept_result r;
	(void)state;
	begin();
	many(5000, true, "manifest");
	do {
		r = ground_accept(&ground);
		refused += r.refused;
		accepted += r.accepted;
	} while (r.refused + r.accepted);
	assert_int_equal(refused, 5000);
	assert_int_equal(accepted, 1);
	model_fini(&before);
	ground_keep(&ground);
	all_is_well();
}

/* --- the tenant's inbox
 * ---------------------------------------------------------------------------------------------- */

static void test_same_that_is_no_file_is_not_read(void **state)
{
	const char *path = in_store(&ground, "acme/_inbox/same.0123456789abcdef");
	char kept[GROUND_PATH];
	(void)state;
	strcpy(kept, path);
	for (unsigned i = 0; i < DISGUISES; i++) {
		disguises[i](kept);
		OK(&ground, sosie_keeper_settle(ground.handle, "acme", "erp", &ground.err));
		OK(&ground, sosie_keeper_same(ground.handle, "acme", "erp", &ground.err));
		assert_int_equal(remove(kept), 0);
		all_is_well();
	}
}

static int note_group(void *arg, const struct sosie_name *name)
{
	(void)name;
	++*(unsigned *)arg;
	return 0;
}

/* A link where a group's folder would be, and names that no group has. */
static void test_folders_that_are_no_groups_are_not_looked_at(void **state)
{
	unsigned due = 0;
	(void)state;
	assert_int_equal(
	        symlink(in_store(&ground, "globex/_inbox/crm"), in_store(&ground, "acme/_inbox/crm")), 0);
	assert_int_equal(symlink("/", in_store(&ground, "acme/_inbox/root")), 0);
	assert_int_equal(mkdir(in_store(&ground, "acme/_inbox/-rf"), 0770), 0);
	assert_int_equal(mkdir(in_store(&ground, "acme/_inbox/_outbox"), 0770), 0);
	assert_int_equal(mkdir(in_store(&ground, "acme/_inbox/a\nb"), 0770), 0);
	OK(&ground, sosie_keeper_due(ground.handle, "acme", note_group, &due, &ground.err));
	assert_int_equal(due, 0);
	all_is_well();
}

#define ATTACK(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
	        ATTACK(test_part_that_is_no_file_of_one_name_is_refused),
	        ATTACK(test_part_replaced_between_look_and_copy_is_refused),
	        ATTACK(test_manifest_that_is_no_file_is_not_looked_at),
	        ATTACK(test_manifest_replaced_after_the_listing_is_refused),
	        ATTACK(test_key_that_is_no_file_is_not_believed),
	        ATTACK(test_group_folder_that_leads_to_another_tenant_takes_and_removes_nothing),
	        ATTACK(test_group_folder_replaced_after_the_listing_takes_and_removes_nothing),
	        ATTACK(test_part_written_after_commit_is_refused),
	        ATTACK(test_part_cut_between_look_and_copy_is_refused),
	        ATTACK(test_part_written_after_acceptance_changes_nothing),
	        ATTACK(test_manifest_written_after_the_listing_is_refused),
	        ATTACK(test_giant_sparse_part_costs_only_its_length),
	        ATTACK(test_giant_sparse_part_as_long_as_claimed_is_refused),
	        ATTACK(test_giant_sparse_manifest_key_and_same_are_bounded),
	        ATTACK(test_ten_thousand_stray_names_do_not_keep_an_upload),
	        ATTACK(test_thousands_of_empty_manifests_are_refused_and_removed),
	        ATTACK(test_same_that_is_no_file_is_not_read),
	        ATTACK(test_folders_that_are_no_groups_are_not_looked_at),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

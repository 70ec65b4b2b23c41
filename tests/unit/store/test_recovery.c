/* SPDX-License-Identifier: MIT */
/* What a restart finds: torn and damaged chains, stale journal files, heads left open, lost heads; and what
 * an acceptance costs. */
#include "tests/unit/store/lab.h"

#include <errno.h>

#include "engine/io/file.h"

#define CHAIN "/s/acme/erp/chain/000001.chain"
#define HEAD "/s/acme/erp/head"

static uint8_t noise[1u << 20];
static const struct change first_changes[] = {{0, 4096, 100000, noise}, {1, 0, 10000, noise + 77}};
static const struct change second_changes[] = {{0, 8192, 4096, noise + 5}, {1, 9000, 1000, noise}};
static const struct change third_changes[] = {{0, 4096, 60000, noise + 9}};

static void start_with(struct lab *l, bool packed)
{
	lab_init(l, 1u << 26, 0, true);
	l->packed = packed;
	lab_accept(l);
	model_add(&l->model, "root", 300000);
	model_add(&l->model, "data", 10000);
	lab_point(l, first_changes, 2);
	lab_point(l, second_changes, 2);
}

static void start(struct lab *l)
{
	start_with(l, false);
}

/* A new process on the same disk. */
static void again(struct lab *l)
{
	lab_close(l);
	lab_open(l);
}

static uint64_t size_of(struct lab *l, const char *path)
{
	struct sosie_stat st;
	OK(l, sosie_io_stat(l->io, path, &st, &l->err));
	return st.size;
}

static void write_at(struct lab *l, const char *path, uint64_t at, const void *bytes, size_t len)
{
	struct sosie_file *f;
	OK(l, sosie_io_chmod(l->io, path, 0640, &l->err));
	OK(l, sosie_io_openat(l->io, path, SOSIE_READ | SOSIE_WRITE, 0, &f, &l->err));
	OK(l, sosie_io_pwrite(l->io, f, bytes, len, at, &l->err));
	OK(l, sosie_io_fsync(l->io, f, &l->err));
	OK(l, sosie_io_close(l->io, f, &l->err));
}

static int saw_torn(void *arg, const char *name, enum sosie_file_kind kind)
{
	(void)kind;
	*(unsigned *)arg += strncmp(name, "torn-", 5) == 0;
	return 0;
}

static void test_torn_end_of_chain_is_kept_aside_and_cut_off(void **state)
{
	struct lab l;
	(void)state;
	for (int kind = 0; kind < 3; kind++) {
		uint8_t tail[700] = "SCHN\1\0";
		unsigned torn = 0;
		start(&l);
		uint64_t size = size_of(&l, CHAIN);
		if (kind == 1)
			memset(tail, 0, sizeof(tail));
		tail[8] = kind == 2 ? 40 : 0; /* a body that fits, with no digest that does */
		write_at(&l, CHAIN, size, tail, sizeof(tail));
		again(&l);
		lab_check_points(&l); /* a reader passes over it */
		assert_int_equal(size_of(&l, CHAIN), size + sizeof(tail));
		lab_point(&l, third_changes, 1);
		OK(&l, sosie_io_list(l.io, "/s/acme/erp/chain", saw_torn, &torn, &l.err));
		assert_int_equal(torn, 1);
		again(&l);
		lab_check_points(&l);
		lab_fini(&l);
	}
}

static void test_damage_inside_chain_is_reported_not_cut(void **state)
{
	struct lab l;
	struct sosie_group *g;
	struct sosie_accept_result r;
	unsigned reported = 0;
	(void)state;
	start(&l);
	uint64_t size = size_of(&l, CHAIN);
	for (uint64_t at = 0; at < 96; at++) {
		struct sosie_file *f;
		uint8_t byte;
		size_t got;
		OK(&l, sosie_io_openat(l.io, CHAIN, SOSIE_READ, 0, &f, &l.err));
		OK(&l, sosie_io_pread(l.io, f, &byte, 1, at, &got, &l.err));
		sosie_io_close(l.io, f, NULL);
		byte ^= 1;
		write_at(&l, CHAIN, at, &byte, 1);
		again(&l); /* a process that read it whole looks at its end only */
		int rc = sosie_group_open(l.store, "acme", "erp", &g, &l.err);
		if (!rc) { /* bytes that only the entry's digest covers */
			struct sosie_point p;
			rc = sosie_group_point(g, 1, &p, &l.err);
			sosie_group_close(g);
		} else {
			assert_true(sosie_keeper_accept(l.store, "acme", "erp", &r, &l.err) < 0);
		}
		/* The standby's time is not in the digest: the acceptance repeats it. */
		if (at < 24 || at >= 32) {
			assert_int_equal(rc, -SOSIE_ECORRUPT);
			reported++;
		}
		byte ^= 1;
		write_at(&l, CHAIN, at, &byte, 1);
	}
	again(&l);
	assert_int_equal(reported, 88);
	assert_int_equal(size_of(&l, CHAIN), size);
	lab_check_points(&l);
	lab_fini(&l);
}

static void test_stale_journal_file_is_removed_before_next_point(void **state)
{
	struct lab l;
	(void)state;
	start(&l);
	OK(&l, sosie_io_write_file(l.io, "/s/acme/erp/journal/3.seg", "stale", 5, 0440, &l.err));
	OK(&l, sosie_io_write_file(l.io, "/s/acme/erp/journal/3.7.seg", "stale", 5, 0440, &l.err));
	again(&l);
	lab_point(&l, third_changes, 1);
	assert_false(sosie_io_exists(l.io, "/s/acme/erp/journal/3.7.seg"));
	/* Of a keeper that knows its journal nobody else writes there. It fails once, and looks. */
	OK(&l, sosie_io_write_file(l.io, "/s/acme/erp/journal/4.seg", "stale", 5, 0440, &l.err));
	OK(&l, sosie_io_write_file(l.io, "/s/acme/erp/journal/4.7.seg", "stale", 5, 0440, &l.err));
	struct make_upload u = lab_upload(&l, third_changes, 1);
	struct sosie_accept_result r;
	make_upload(&u);
	assert_int_equal(sosie_keeper_accept(l.store, "acme", "erp", &r, &l.err), -SOSIE_EEXISTS);
	assert_int_equal(lab_accept(&l).accepted, 1);
	lab_keep_point(&l);
	assert_false(sosie_io_exists(l.io, "/s/acme/erp/journal/4.7.seg"));
	lab_check_points(&l);
	lab_fini(&l);
}

/* The inode tells whether head/root.raw is the old file or one built anew. */
static uint64_t head_inode(struct lab *l)
{
	struct sosie_stat st;
	OK(l, sosie_io_stat(l->io, HEAD "/root.raw", &st, &l->err));
	return st.ino;
}

static void settle_case(const char *what, bool packed, uint64_t damage_at, bool damaged, bool rebuilt)
{
	struct lab l;
	int state;
	uint64_t point;
	print_message("%s\n", what);
	start_with(&l, packed);
	lab_head_state(&l, &state, &point);
	assert_int_equal(state, SOSIE_HEAD_OPEN);
	uint64_t before = head_inode(&l);
	if (damaged)
		write_at(&l, HEAD "/root.raw", damage_at, "torn", 4);
	again(&l);
	OK(&l, sosie_keeper_settle(l.store, "acme", "erp", &l.err));
	lab_head_state(&l, &state, &point);
	assert_int_equal(state, SOSIE_HEAD_CLEAN);
	assert_int_equal(point, 2);
	assert_int_equal(head_inode(&l) != before, rebuilt);
	lab_compare_dir(&l, HEAD, &l.model);
	lab_point(&l, third_changes, 1);
	lab_fini(&l);
}

static void test_open_head_after_unclean_stop_is_settled_or_rebuilt(void **state)
{
	(void)state;
	settle_case("whole: kept", false, 0, false, false);
	settle_case("torn where point 2 wrote: built anew", false, 8192 + 100, true, true);
	settle_case("packed ranges, whole: kept", true, 0, false, false);
	settle_case("packed ranges, torn where point 2 wrote: built anew", true, 8192 + 100, true, true);
}

/* What a refused segment left in the journal, whose third record's ranges cannot be read: it was applied up
 * to there. Its first two tell what may be torn. */
static void test_journal_of_unreadable_ranges_is_settled_up_to_them(void **state)
{
	static const struct change changes[] = {
	        {0, 0, 4096, noise + 1}, {0, 65536, 4096, noise + 2}, {0, 131072, 4096, noise + 3}};
	struct lab l;
	(void)state;
	for (int torn = 0; torn < 2; torn++) {
		char path[256], id[33], *text;
		uint32_t ranges_len, payload_len;
		size_t len, at = 0;
		start_with(&l, true);
		uint64_t before = head_inode(&l);
		struct model kept = {0};
		model_copy(&kept, &l.model);
		struct make_upload u = lab_upload(&l, changes, 3);
		make_upload(&u);
		model_fini(&l.model);
		l.model = kept;
		sosie_hex(id, u.id.b, sizeof(u.id.b));
		snprintf(path, sizeof(path), "/s/acme/_inbox/erp/%s.0", id);
		OK(&l, sosie_io_read_file(l.io, path, 1 << 20, &text, &len, &l.err));
		for (int i = 0; i < 2; i++) {
			OK(&l, sosie_record_lengths(text + at, &ranges_len, &payload_len, &l.err));
			at += SOSIE_RECORD_HEADER + ranges_len + payload_len;
		}
		assert_true((text[at + 5] & 0x80) != 0);
		text[at + SOSIE_RECORD_HEADER] = (char)0x80; /* longer than need be */
		OK(&l, sosie_io_write_file(l.io, "/s/acme/erp/journal/3.seg", text, len, 0440, &l.err));
		OK(&l, sosie_io_remove_tree(l.io, "/s/acme/_inbox/erp", &l.err));
		free(text);
		if (torn)
			write_at(&l, HEAD "/root.raw", 65536, "torn", 4);
		again(&l);
		OK(&l, sosie_keeper_settle(l.store, "acme", "erp", &l.err));
		assert_int_equal(head_inode(&l) != before, torn);
		lab_compare_dir(&l, HEAD, &l.model);
		lab_point(&l, third_changes, 1);
		lab_check_points(&l);
		lab_fini(&l);
	}
}

/* Receivers welcome packed ranges by it: not before a keeper that reads them wrote it. */
static void test_limits_of_an_older_keeper_are_written_anew(void **state)
{
	static const char limits[] = "/s/acme/_outbox/limits";
	struct lab l;
	char *text, *at;
	size_t len;
	(void)state;
	start(&l);
	OK(&l, sosie_io_read_file(l.io, limits, 4096, &text, &len, &l.err));
	at = strstr(text, "\npacked=1\n");
	assert_non_null(at);
	OK(&l, sosie_io_write_file(l.io, limits, text, (size_t)(at + 1 - text), 0640, &l.err));
	free(text);
	OK(&l, sosie_keeper_tenant(l.store, "acme", &l.err));
	OK(&l, sosie_io_read_file(l.io, limits, 4096, &text, &len, &l.err));
	assert_non_null(strstr(text, "\npacked=1\n"));
	free(text);
	lab_fini(&l);
}

static void test_lost_or_unreadable_head_is_rebuilt(void **state)
{
	struct lab l;
	(void)state;
	for (int kind = 0; kind < 3; kind++) {
		start(&l);
		OK(&l, sosie_keeper_settle(l.store, "acme", "erp", &l.err));
		if (kind == 0)
			OK(&l, sosie_io_remove_tree(l.io, HEAD, &l.err));
		else if (kind == 1)
			OK(&l, sosie_io_write_file(l.io, HEAD "/mark.json", "{", 1, 0640, &l.err));
		else
			write_at(&l, HEAD "/root.tree", 4096 + 3 * 8192, "xxxxxxxx",
			         8); /* our own damage refuses nobody */
		again(&l);
		lab_point(&l, third_changes, 1);
		lab_compare_dir(&l, HEAD, &l.model);
		lab_check_points(&l);
		lab_fini(&l);
	}
}

/* Counts flushes under the table of operations. */
static const struct sosie_io_ops *real_ops;
static unsigned flushes;

static void counting_submit(struct sosie_io *io, struct sosie_req *req)
{
	flushes += req->op == SOSIE_OP_FSYNC;
	real_ops->submit(io, req);
}

static int counting_sync_dir(struct sosie_io *io, const char *path, struct sosie_err *err)
{
	flushes++;
	return real_ops->sync_dir(io, path, err);
}

static void test_small_accept_on_open_head_flushes_three_times(void **state)
{
	struct lab l;
	static struct sosie_io_ops counting;
	(void)state;
	start(&l);
	struct make_upload u = lab_upload(&l, third_changes, 1);
	make_upload(&u);
	real_ops = l.io->ops;
	counting = *real_ops;
	counting.submit = counting_submit;
	counting.sync_dir = counting_sync_dir;
	flushes = 0;
	l.io->ops = &counting;
	assert_int_equal(lab_accept(&l).accepted, 1);
	l.io->ops = real_ops;
	lab_keep_point(&l);
	print_message("flushes: %u\n", flushes);
	assert_in_range(flushes, 1, 3);
	lab_check_points(&l);
	lab_fini(&l);
}

/* Faults that hit some names only, under the table of operations. */
static struct sosie_io_ops failing;
static const char *fail_fsync, *fail_open, *fail_rename; /* parts of paths; NULL: none */
static unsigned failed;
static void (*saved_done)(struct sosie_req *req);

static bool hit(const char *part, const char *path)
{
	bool found = part && strstr(path, part);
	failed += found;
	return found;
}

static void fsync_was_done(struct sosie_req *req)
{
	req->sys = EIO;
	saved_done(req);
}

static void failing_submit(struct sosie_io *io, struct sosie_req *req)
{
	if (req->op == SOSIE_OP_FSYNC && hit(fail_fsync, req->file->path)) {
		saved_done = req->done;
		req->done = fsync_was_done;
	}
	real_ops->submit(io, req);
}

static int failing_open(struct sosie_io *io, const char *path, unsigned flags, uint32_t mode,
                        struct sosie_file **out, struct sosie_err *err)
{
	if (hit(fail_open, path))
		return sosie_err_sys(err, ENOSPC, "refused by the test");
	return real_ops->open(io, path, flags, mode, out, err);
}

static int failing_rename(struct sosie_io *io, const char *from, const char *to, struct sosie_err *err)
{
	if (hit(fail_rename, to))
		return sosie_err_sys(err, ENOSPC, "refused by the test");
	return real_ops->rename(io, from, to, err);
}

static void fail_names(struct lab *l, const char *fsync_of, const char *open_of, const char *rename_of)
{
	if (l->io->ops != &failing)
		real_ops = l->io->ops;
	failing = *real_ops;
	failing.submit = failing_submit;
	failing.open = failing_open;
	failing.rename = failing_rename;
	fail_fsync = fsync_of;
	fail_open = open_of;
	fail_rename = rename_of;
	failed = 0;
	l->io->ops = fsync_of || open_of || rename_of ? &failing : real_ops;
}

/* The entry may be on the disk though its fsync failed: whatever a restart finds, a point that the chain
 * names has its parts. */
static void test_chain_that_cannot_be_mended_keeps_parts(void **state)
{
	struct lab l;
	struct sosie_accept_result r;
	(void)state;
	for (int later = 0; later < 2; later++) {
		start(&l);
		struct make_upload u = lab_upload(&l, third_changes, 1);
		make_upload(&u);
		fail_names(&l, ".chain", ".chain.tmp", NULL);
		assert_true(sosie_keeper_accept(l.store, "acme", "erp", &r, &l.err) < 0);
		assert_true(failed >= 2);
		assert_true(sosie_io_exists(l.io, "/s/acme/erp/journal/3.seg"));
		fail_names(&l, NULL, NULL, NULL);
		if (later)
			again(&l);
		assert_int_equal(lab_accept(&l).accepted, 1);
		lab_keep_point(&l);
		again(&l);
		lab_check_points(&l);
		lab_fini(&l);
	}
}

/* With neither verdict nor head statement a sender would find its upload gone and nothing come of it. */
static void test_accepted_upload_stays_until_it_was_told(void **state)
{
	struct lab l;
	(void)state;
	start(&l);
	struct make_upload u = lab_upload(&l, third_changes, 1);
	make_upload(&u);
	fail_names(&l, NULL, NULL, "_outbox/erp/");
	assert_int_equal(lab_accept(&l).accepted, 1);
	assert_true(failed > 0);
	fail_names(&l, NULL, NULL, NULL);
	assert_int_equal(lab_accept(&l).accepted, 1); /* the repeat, told now */
	assert_int_equal(lab_accept(&l).accepted, 0);
	lab_keep_point(&l);
	lab_check_points(&l);
	lab_fini(&l);
}

/* The image's fsync failed and there was no room for a mark that says so: what the page cache shows is not
 * settled upon. */
static void test_head_whose_fsync_failed_is_void_without_room(void **state)
{
	struct lab l;
	int head;
	uint64_t point;
	(void)state;
	start(&l);
	uint64_t before = head_inode(&l);
	fail_names(&l, "head/root.raw", "mark.json.tmp", NULL);
	assert_true(sosie_keeper_settle(l.store, "acme", "erp", &l.err) < 0);
	assert_true(failed >= 2);
	fail_names(&l, NULL, NULL, NULL);
	lab_head_state(&l, &head, &point);
	assert_int_equal(head, SOSIE_HEAD_VOID);
	lab_point(&l, third_changes, 1);
	assert_int_not_equal(head_inode(&l), before);
	lab_compare_dir(&l, HEAD, &l.model);
	lab_check_points(&l);
	lab_fini(&l);
}

static void test_same_message_for_the_head_is_noted(void **state)
{
	struct lab l;
	char text[400], hex[65];
	struct sosie_digest head;
	(void)state;
	start(&l);
	head = lab_head(&l);
	for (int valid = 0; valid < 2; valid++) {
		head.b[0] ^= valid ? 0 : 1;
		sosie_hex(hex, head.b, sizeof(head.b));
		head.b[0] ^= valid ? 0 : 1;
		int n = snprintf(
		        text, sizeof(text),
		        "{\"format\":1,\"kind\":\"same\",\"groups\":[{\"group\":\"erp\",\"digest\":\"%s\"}],"
		        "\"cut_time\":\"2026-11-22T03:27:00.123Z\"}",
		        hex);
		OK(&l, sosie_io_write_file(l.io, "/s/acme/_inbox/same.0011223344556677", text, (size_t)n,
		                           0640, &l.err));
		again(&l);
		OK(&l, sosie_keeper_settle(l.store, "acme", "erp", &l.err));
		assert_int_equal(sosie_io_exists(l.io, "/s/acme/erp/state/same.json"), valid);
	}
	lab_fini(&l);
}

static void test_locked_group_names_its_holder_and_is_wanted(void **state)
{
	struct lab l;
	(void)state;
	start(&l);
	struct sosie_group *a = lab_group(&l), *b = lab_group(&l);
	OK(&l, sosie_group_lock(a, "holder", 0, &l.err));
	assert_false(sosie_group_wanted(a));
	assert_int_equal(sosie_group_lock(b, "waiter", 100, &l.err), -SOSIE_EBUSY);
	assert_non_null(strstr(l.err.what, "holder"));
	sosie_group_unlock(a);
	OK(&l, sosie_group_lock(b, "waiter", 100, &l.err));
	sosie_group_close(a);
	sosie_group_close(b);
	lab_fini(&l);
}

static int setup(void **state)
{
	(void)state;
	lab_noise(noise, sizeof(noise));
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_torn_end_of_chain_is_kept_aside_and_cut_off),
	        cmocka_unit_test(test_damage_inside_chain_is_reported_not_cut),
	        cmocka_unit_test(test_stale_journal_file_is_removed_before_next_point),
	        cmocka_unit_test(test_open_head_after_unclean_stop_is_settled_or_rebuilt),
	        cmocka_unit_test(test_journal_of_unreadable_ranges_is_settled_up_to_them),
	        cmocka_unit_test(test_limits_of_an_older_keeper_are_written_anew),
	        cmocka_unit_test(test_lost_or_unreadable_head_is_rebuilt),
	        cmocka_unit_test(test_small_accept_on_open_head_flushes_three_times),
	        cmocka_unit_test(test_chain_that_cannot_be_mended_keeps_parts),
	        cmocka_unit_test(test_accepted_upload_stays_until_it_was_told),
	        cmocka_unit_test(test_head_whose_fsync_failed_is_void_without_room),
	        cmocka_unit_test(test_same_message_for_the_head_is_noted),
	        cmocka_unit_test(test_locked_group_names_its_holder_and_is_wanted),
	};
	return cmocka_run_group_tests(tests, setup, NULL);
}

/* SPDX-License-Identifier: MIT */
/*
 * The inbox when the disk fails or the power goes: what a commit told as durable is there afterwards, whole,
 * and a new session can go on. Swept over every call and over every operation of a simulated disk in all four
 * fates.
 */
#include "tests/unit/base/check.h"

#include "sosie/bytes.h"
#include "sosie/inbox.h"
#include "sosie/message.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define KEY "0123456789abcdef"
#define PART_BYTES 150000u
#define STEP_BYTES 50000u
#define UPLOADS 2u
#define PARTS 2u
#define SEEDS 4u

static struct sosie_err error;
static char where[96]; /* the run of a sweep that is under way: told when it fails */

#define OK(call)                                                                                             \
	do {                                                                                                 \
		int rc_ = (call);                                                                            \
		if (rc_ < 0)                                                                                 \
			fail_msg("%s: %s (%s)", #call, error.what, error.where);                             \
	} while (0)

/* What was told to the source. */
struct told {
	struct sosie_upload_id id[UPLOADS];
	bool begun[UPLOADS], durable[UPLOADS], same;
};

static const struct sosie_name group = {"erp"};

static unsigned char content(unsigned upload, unsigned part, size_t at)
{
	return (unsigned char)(at * 31 + at / 4096 + upload * 7 + part * 3 + 1);
}

static const char *manifest_of(unsigned upload)
{
	return upload ? "{\"second\":2}" : "{\"first\":1}";
}

static void make_store(struct sosie_io *io, const char *dir)
{
	static const char limits[] = "store=000102030405060708090a0b0c0d0e0f\nuploads=2\n";
	static const char *const folders[] = {"", "/acme", "/acme/_inbox", "/acme/_outbox", "/acme/_keys"};
	char path[256];
	for (unsigned i = 0; i < 5; i++) {
		snprintf(path, sizeof path, "%s%s", dir, folders[i]);
		OK(sosie_io_ensure_dir(io, path, 0750, &error));
	}
	snprintf(path, sizeof path, "%s/acme/_outbox/limits", dir);
	OK(sosie_io_write_file(io, path, limits, sizeof limits - 1, 0640, &error));
	snprintf(path, sizeof path, "%s/acme/_keys/" KEY ".json", dir);
	OK(sosie_io_write_file(io, path, "{}", 2, 0640, &error));
	snprintf(path, sizeof path, "%s/sosie.json", dir);
	OK(sosie_io_write_file(io, path, "{\"format\":1}", 12, 0640, &error));
}

static int send_part(struct sosie_inbox *in, const struct sosie_upload_id *id, unsigned upload, unsigned part)
{
	unsigned char data[STEP_BYTES];
	int rc = sosie_inbox_part(in, &group, id, part, &error);
	for (size_t at = 0; !rc && at < PART_BYTES; at += STEP_BYTES) {
		for (size_t i = 0; i < STEP_BYTES; i++)
			data[i] = content(upload, part, at + i);
		rc = sosie_inbox_data(in, data, STEP_BYTES, &error);
		if (!rc && at == STEP_BYTES)
			rc = sosie_inbox_sync(in, &error);
	}
	return rc ? rc : sosie_inbox_part_end(in, &error);
}

static int send_upload(struct sosie_inbox *in, unsigned upload, struct told *told)
{
	struct sosie_upload_id *id = &told->id[upload];
	const char *manifest = manifest_of(upload);
	int rc = sosie_inbox_begin(in, &group, SOSIE_MANIFEST_SEGMENT, id, &error);
	told->begun[upload] = !rc;
	for (unsigned part = 0; !rc && part < PARTS; part++)
		rc = send_part(in, id, upload, part);
	if (!rc)
		rc = sosie_inbox_commit(in, &group, id, manifest, strlen(manifest), &error);
	told->durable[upload] = told->begun[upload] && !rc;
	return rc;
}

/* One session: two uploads, then a "same". */
static int session(struct sosie_io *io, const char *dir, struct sosie_clock *clock, struct told *told)
{
	struct sosie_inbox *in;
	memset(told, 0, sizeof *told);
	int rc = sosie_inbox_open(io, clock, dir, "acme", KEY, &in, &error);
	for (unsigned u = 0; !rc && u < UPLOADS; u++)
		rc = send_upload(in, u, told);
	if (!rc) {
		rc = sosie_inbox_same(in, "{\"same\":1}", 10, &error);
		told->same = !rc;
	}
	sosie_inbox_close(in);
	return rc;
}

/* --- judging */
static void path_of(char dst[512], const char *dir, const struct sosie_upload_id *id, const char *suffix)
{
	char hex[33];
	sosie_hex(hex, id->b, sizeof id->b);
	snprintf(dst, 512, "%s/acme/_inbox/erp/%s.%s", dir, hex, suffix);
}

/* malloc'd, NULL when it is not there. */
static char *file_of(struct sosie_io *io, const char *dir, const struct sosie_upload_id *id,
                     const char *suffix, size_t *len)
{
	char path[512], *text = NULL;
	path_of(path, dir, id, suffix);
	int rc = sosie_io_read_file(io, path, 1u << 20, &text, len, &error);
	if (rc == -SOSIE_ENOTFOUND)
		return NULL;
	OK(rc);
	return text;
}

static bool part_is_whole(struct sosie_io *io, const char *dir, const struct told *told, unsigned upload,
                          unsigned part)
{
	char suffix[8];
	size_t len, i = 0;
	snprintf(suffix, sizeof suffix, "%u", part);
	char *text = file_of(io, dir, &told->id[upload], suffix, &len);
	if (text && len == PART_BYTES)
		while (i < len && (unsigned char)text[i] == content(upload, part, i))
			i++;
	free(text);
	return i == PART_BYTES;
}

static bool is_whole(struct sosie_io *io, const char *dir, const struct told *told, unsigned upload)
{
	bool whole = true;
	size_t len;
	const char *manifest = manifest_of(upload);
	for (unsigned part = 0; part < PARTS; part++)
		whole = whole && part_is_whole(io, dir, told, upload, part);
	char *text = file_of(io, dir, &told->id[upload], "manifest", &len);
	whole = whole && text && len == strlen(manifest) && !memcmp(text, manifest, len);
	free(text);
	return whole;
}

static bool is_shown(struct sosie_io *io, const char *dir, const struct told *told, unsigned upload)
{
	size_t len;
	char *text = told->begun[upload] ? file_of(io, dir, &told->id[upload], "manifest", &len) : NULL;
	free(text);
	return text != NULL;
}

static bool key_is_there(struct sosie_io *io, const char *dir, const struct sosie_upload_id *id)
{
	size_t len = 0;
	char *text = file_of(io, dir, id, "key", &len);
	bool same = text && len == strlen(KEY) && !memcmp(text, KEY, len);
	free(text);
	return same;
}

static void same_is_whole(struct sosie_io *io, const char *dir, bool told)
{
	char path[256], *text;
	size_t len;
	snprintf(path, sizeof path, "%s/acme/_inbox/same." KEY, dir);
	int rc = sosie_io_read_file(io, path, 64, &text, &len, &error);
	if (rc == -SOSIE_ENOTFOUND && !told)
		return;
	OK(rc);
	assert_int_equal(len, 10);
	assert_memory_equal(text, "{\"same\":1}", 10);
	free(text);
}

/* After the trouble: what was told is told again, what was cut off can be joined or is gone, and new ones
 * work. */
static void goes_on(struct sosie_io *io, const char *dir, struct sosie_clock *clock, const struct told *told)
{
	struct sosie_inbox *in;
	struct told after = {0};
	OK(sosie_inbox_open(io, clock, dir, "acme", KEY, &in, &error));
	for (unsigned u = 0; u < UPLOADS && told->begun[u]; u++) {
		struct sosie_part_state *parts;
		uint32_t count;
		bool committed = false;
		const char *manifest = manifest_of(u);
		int rc = sosie_inbox_join(in, &group, &told->id[u], &committed, &parts, &count, &error);
		if (rc != -SOSIE_ENOTFOUND)
			OK(rc);
		free(parts);
		assert_true(committed || !told->durable[u]);
		if (told->durable[u]) {
			assert_int_equal(count, PARTS);
			OK(sosie_inbox_commit(in, &group, &told->id[u], manifest, strlen(manifest), &error));
		}
	}
	sosie_inbox_close(in);
	OK(session(io, dir, clock, &after));
	for (unsigned u = 0; u < UPLOADS; u++)
		assert_true(is_whole(io, dir, &after, u));
}

static int no_orphan(void *arg, const char *name, enum sosie_file_kind kind)
{
	struct {
		struct sosie_io *io;
		const char *dir;
		unsigned files;
	} *look = arg;
	char lock[512], manifest[512];
	(void)kind;
	if (strlen(name) < 33 || name[32] != '.')
		return 0;
	snprintf(lock, sizeof lock, "%s/%.32s.lock", look->dir, name);
	snprintf(manifest, sizeof manifest, "%s/%.32s.manifest", look->dir, name);
	assert_true(sosie_io_exists(look->io, lock) || sosie_io_exists(look->io, manifest));
	look->files++;
	return 0;
}

static void nothing_is_orphaned(struct sosie_io *io, const char *dir)
{
	char folder[256];
	struct {
		struct sosie_io *io;
		const char *dir;
		unsigned files;
	} look = {io, folder, 0};
	snprintf(folder, sizeof folder, "%s/acme/_inbox/erp", dir);
	OK(sosie_io_list(io, folder, no_orphan, &look, &error));
	assert_true(look.files >= UPLOADS * (PARTS + 3));
}

/* --- faults */
/* Returns how often the plan fired. */
static uint64_t fault_run(enum sosie_fault kind, int sys, bool onwards, uint64_t at)
{
	struct sosie_io *posix, *io;
	struct sosie_clock_virtual clock;
	struct sosie_fault_plan plan = {0};
	struct told told;
	char dir[64];
	/* In memory where there is such a place: the sweep asks for some ten thousand flushes. */
	snprintf(dir, sizeof dir, "%s/sosie-test-inbox-XXXXXX",
	         access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
	assert_non_null(mkdtemp(dir));
	snprintf(where, sizeof where, "fault %d (errno %d, onwards %d) at call %llu", (int)kind, sys, onwards,
	         (unsigned long long)at);
	OK(sosie_io_posix(&posix, &error));
	OK(sosie_io_fault(posix, &plan, &io, &error));
	make_store(posix, dir);
	sosie_clock_virtual_init(&clock, 1000, at + 1);
	plan = (struct sosie_fault_plan){.kind = kind, .at = at, .onwards = onwards, .sys = sys};
	int rc = session(io, dir, &clock.clock, &told);
	uint64_t fired = plan.fired;
	plan.kind = SOSIE_FAULT_NONE;
	if (!fired)
		assert_int_equal(rc, 0);
	for (unsigned u = 0; u < UPLOADS; u++) {
		assert_true(!told.durable[u] || is_whole(posix, dir, &told, u));
		assert_true(!told.durable[u] || key_is_there(posix, dir, &told.id[u]));
		assert_true(!is_shown(posix, dir, &told, u) || is_whole(posix, dir, &told, u));
	}
	same_is_whole(posix, dir, told.same);
	goes_on(posix, dir, &clock.clock, &told);
	nothing_is_orphaned(posix, dir);
	OK(sosie_io_remove_tree(posix, dir, &error));
	sosie_io_free(io);
	sosie_io_free(posix);
	*where = '\0';
	return fired;
}

static void fault_sweep(const char *name, enum sosie_fault kind, int sys, bool onwards, uint64_t least)
{
	uint64_t at = 0, all = 0, fired;
	while ((fired = fault_run(kind, sys, onwards, at)) > 0) {
		assert_true(onwards || fired == 1);
		all += fired;
		at++;
		assert_true(at < 1000);
	}
	print_message("%s: %llu runs hit, %llu faults fired\n", name, (unsigned long long)at,
	              (unsigned long long)all);
	print_message("rounds: %llu injected-faults\n", (unsigned long long)all);
	assert_true(at >= least);
}

static void test_inbox_fault_sweep_what_was_told_is_there(void **state)
{
	(void)state;
	fault_sweep("EIO once", SOSIE_FAULT_ERROR, EIO, false, 60);
	fault_sweep("disk full from then on", SOSIE_FAULT_ERROR, ENOSPC, true, 60);
	fault_sweep("short write", SOSIE_FAULT_SHORT, 0, false, 12);
}

/* --- power cuts */
struct tally {
	uint64_t cuts, told, unkeyed, unordered;
};

static void judge_after_cut(struct sosie_io *io, enum sosie_fate fate, const struct told *told,
                            struct tally *t)
{
	for (unsigned u = 0; u < UPLOADS; u++) {
		bool whole = told->begun[u] && is_whole(io, "/s", told, u);
		if (told->durable[u]) {
			assert_true(whole);
			t->told++;
			t->unkeyed += !key_is_there(io, "/s", &told->id[u]);
		} else if (is_shown(io, "/s", told, u) && !whole) {
			assert_int_equal(fate,
			                 SOSIE_FATE_REORDERED); /* the keeper refuses it: a part is missing */
			t->unordered++;
		}
	}
	same_is_whole(io, "/s", told->same);
}

/* False: the cut came too late for this session. */
static bool cut_run(enum sosie_fate fate, uint64_t seed, uint64_t at, struct tally *t)
{
	struct sosie_disk *disk = sosie_disk_new(1ull << 30, seed * 1000 + at + 1, false);
	struct sosie_clock_virtual clock;
	struct sosie_io *io;
	struct told told;
	snprintf(where, sizeof where, "power cut, fate %d, seed %llu, after operation %llu", (int)fate,
	         (unsigned long long)seed, (unsigned long long)at);
	OK(sosie_io_sim(disk, &io, &error));
	make_store(io, "/s");
	OK(sosie_io_sync_dir(io, "/", &error));
	sosie_clock_virtual_init(&clock, 1000, seed + 1);
	sosie_disk_cut_after(disk, at);
	int rc = session(io, "/s", &clock.clock, &told);
	bool cut = sosie_disk_is_cut(disk);
	assert_true(cut || !rc);
	sosie_disk_cut_after(disk, UINT64_MAX);
	sosie_io_free(io);
	sosie_disk_restart(disk, fate);
	OK(sosie_io_sim(disk, &io, &error));
	judge_after_cut(io, fate, &told, t);
	goes_on(io, "/s", &clock.clock, &told);
	nothing_is_orphaned(io, "/s");
	sosie_io_free(io);
	sosie_disk_free(disk);
	t->cuts += cut;
	*where = '\0';
	return cut;
}

static void test_inbox_power_cut_sweep_what_was_told_is_there(void **state)
{
	static const char *const names[] = {"kept", "lost", "torn", "reordered"};
	(void)state;
	for (unsigned fate = 0; fate < 4; fate++) {
		struct tally t = {0};
		for (uint64_t seed = 0; seed < (fate < 2 ? 1 : SEEDS); seed++)
			for (uint64_t at = 0; cut_run((enum sosie_fate)fate, seed, at, &t); at++)
				assert_true(at < 1000);
		print_message("%s (%u seeds): %llu cuts, %llu durable uploads whole, %llu without key, "
		              "%llu shown before their parts\n",
		              names[fate], fate < 2 ? 1 : SEEDS, (unsigned long long)t.cuts,
		              (unsigned long long)t.told, (unsigned long long)t.unkeyed,
		              (unsigned long long)t.unordered);
		print_message("rounds: %llu simulated-power-cuts\n", (unsigned long long)t.cuts);
		assert_true(t.cuts >= (fate < 2 ? 1 : SEEDS) * 30);
		assert_true(t.told >= 10);
		assert_true(fate != SOSIE_FATE_KEPT || !t.unkeyed);
	}
}

/* --- how many flushes a commit costs */
static unsigned flushes_file, flushes_folder;
static const struct sosie_io_ops *real_ops;

static void counting_submit(struct sosie_io *io, struct sosie_req *req)
{
	flushes_file += req->op == SOSIE_OP_FSYNC;
	real_ops->submit(io, req);
}

static int counting_sync_dir(struct sosie_io *io, const char *path, struct sosie_err *err)
{
	flushes_folder++;
	return real_ops->sync_dir(io, path, err);
}

static int small_upload(struct sosie_inbox *in)
{
	struct sosie_upload_id id;
	flushes_file = flushes_folder = 0;
	int rc = sosie_inbox_begin(in, &group, SOSIE_MANIFEST_SEGMENT, &id, &error);
	if (!rc)
		rc = sosie_inbox_part(in, &group, &id, 0, &error);
	if (!rc)
		rc = sosie_inbox_data(in, "record", 6, &error);
	if (!rc)
		rc = sosie_inbox_part_end(in, &error);
	return rc ? rc : sosie_inbox_commit(in, &group, &id, "{}", 2, &error);
}

static void test_inbox_small_commit_costs_three_flushes(void **state)
{
	struct sosie_disk *disk = sosie_disk_new(1u << 24, 1, false);
	struct sosie_io *io;
	struct sosie_inbox *in;
	struct sosie_clock_virtual clock;
	(void)state;
	OK(sosie_io_sim(disk, &io, &error));
	make_store(io, "/s");
	real_ops = io->ops;
	struct sosie_io_ops counting = *io->ops;
	counting.submit = counting_submit;
	counting.sync_dir = counting_sync_dir;
	io->ops = &counting;
	sosie_clock_virtual_init(&clock, 1000, 1);
	OK(sosie_inbox_open(io, &clock.clock, "/s", "acme", KEY, &in, &error));
	OK(small_upload(in)); /* the group is new: its folder's name too */
	assert_int_equal(flushes_file, 2);
	assert_int_equal(flushes_folder, 2);
	OK(small_upload(in));
	assert_int_equal(flushes_file, 2);
	assert_int_equal(flushes_folder, 1);
	sosie_inbox_close(in);
	io->ops = real_ops;
	sosie_io_free(io);
	sosie_disk_free(disk);
}

/* A commit mends a key that was lost with the power. */
static void test_inbox_key_lost_before_commit_is_written_again(void **state)
{
	struct sosie_disk *disk = sosie_disk_new(1u << 24, 1, false);
	struct sosie_clock_virtual clock;
	struct sosie_io *io;
	struct sosie_inbox *in;
	struct sosie_upload_id id[2];
	char path[512];
	(void)state;
	OK(sosie_io_sim(disk, &io, &error));
	make_store(io, "/s");
	sosie_clock_virtual_init(&clock, 1000, 1);
	OK(sosie_inbox_open(io, &clock.clock, "/s", "acme", KEY, &in, &error));
	for (unsigned i = 0; i < 2; i++)
		OK(sosie_inbox_begin(in, &group, SOSIE_MANIFEST_SEGMENT, &id[i], &error));
	path_of(path, "/s", &id[0], "key");
	OK(sosie_io_unlink(io, path, &error));
	OK(sosie_io_sync_dir(io, "/s/acme/_inbox/erp", &error));
	sosie_inbox_close(in);
	sosie_io_free(io);
	sosie_disk_restart(disk, SOSIE_FATE_LOST);
	OK(sosie_io_sim(disk, &io, &error));
	OK(sosie_inbox_open(io, &clock.clock, "/s", "acme", KEY, &in, &error));
	for (unsigned i = 0; i < 2; i++) {
		assert_false(key_is_there(io, "/s", &id[i])); /* the first is missing, the second empty */
		OK(sosie_inbox_commit(in, &group, &id[i], "{}", 2, &error));
		assert_true(key_is_there(io, "/s", &id[i]));
	}
	sosie_inbox_close(in);
	sosie_io_free(io);
	sosie_disk_free(disk);
}

static int tell_where(void **state)
{
	(void)state;
	if (*where)
		print_error("in the run: %s\n", where);
	*where = '\0';
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_teardown(test_inbox_fault_sweep_what_was_told_is_there, tell_where),
	        cmocka_unit_test_teardown(test_inbox_power_cut_sweep_what_was_told_is_there, tell_where),
	        cmocka_unit_test(test_inbox_small_commit_costs_three_flushes),
	        cmocka_unit_test(test_inbox_key_lost_before_commit_is_written_again),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/* The simulated disk: what each fate keeps, and that without a power cut it behaves as a real file system
 * does. */
#include "tests/unit/io/places.h"

#include <time.h>

#include "sosie/digest.h"

#define RW (SOSIE_READ | SOSIE_WRITE)

static struct sosie_io *start(struct sosie_disk *disk)
{
	struct sosie_io *io;

	OK(sosie_io_sim(disk, &io, &error));
	return io;
}

static struct sosie_io *restart(struct sosie_disk *disk, struct sosie_io *io, enum sosie_fate fate)
{
	sosie_io_free(io);
	sosie_disk_restart(disk, fate);
	return start(disk);
}

static void put(struct sosie_io *io, const char *path, int byte, size_t len, bool sync)
{
	struct sosie_file *f;
	char *data = malloc(len);

	memset(data, byte, len);
	OK(sosie_io_openat(io, path, RW | SOSIE_CREATE, 0600, &f, &error));
	OK(sosie_io_pwrite(io, f, data, len, 0, &error));
	if (sync)
		OK(sosie_io_fsync(io, f, &error));
	OK(sosie_io_close(io, f, &error));
	free(data);
}

/* The first byte of a file: 0 when it is empty, -1 when it is missing. */
static int first(struct sosie_io *io, const char *path)
{
	char *text;
	size_t len;
	int byte;

	if (!sosie_io_exists(io, path))
		return -1;
	OK(sosie_io_read_file(io, path, 1 << 20, &text, &len, &error));
	byte = len > 0 ? text[0] : 0;
	free(text);
	return byte;
}

static void test_sim_fsync_keeps_data_but_not_name(void **state)
{
	struct sosie_disk *disk = sosie_disk_new(1 << 24, 1, false);
	struct sosie_io *io = start(disk);

	(void)state;
	put(io, "/named", 'a', 10, true);
	OK(sosie_io_sync_dir(io, "/", &error));
	put(io, "/unnamed", 'b', 10, true);
	put(io, "/named", 'c', 10, false);
	io = restart(disk, io, SOSIE_FATE_LOST);
	assert_int_equal(first(io, "/named"), 'a');
	assert_int_equal(first(io, "/unnamed"), -1);
	put(io, "/empty", 'd', 10, false);
	OK(sosie_io_sync_dir(io, "/", &error));
	io = restart(disk, io, SOSIE_FATE_LOST);
	assert_int_equal(first(io, "/empty"), 0);
	put(io, "/empty", 'd', 10, false);
	io = restart(disk, io, SOSIE_FATE_KEPT);
	assert_int_equal(first(io, "/empty"), 'd');
	sosie_io_free(io);
	sosie_disk_free(disk);
}

/* How often, of 64 seeds, the old and the new content stand under the name after a rename that was not
 * synced. */
static void rename_outcomes(enum sosie_fate fate, bool sync, unsigned *old, unsigned *new)
{
	*old = *new = 0;
	for (uint64_t seed = 0; seed < 64; seed++) {
		struct sosie_disk *disk = sosie_disk_new(1 << 24, seed, false);
		struct sosie_io *io = start(disk);
		put(io, "/f", 'o', 10, true);
		OK(sosie_io_sync_dir(io, "/", &error));
		put(io, "/f.tmp", 'n', 10, true);
		OK(sosie_io_rename(io, "/f.tmp", "/f", &error));
		if (sync)
			OK(sosie_io_sync_dir(io, "/", &error));
		io = restart(disk, io, fate);
		*old += first(io, "/f") == 'o';
		*new += first(io, "/f") == 'n';
		assert_int_equal(*old + *new, seed + 1);
		sosie_io_free(io);
		sosie_disk_free(disk);
	}
}

static void test_sim_rename_without_sync_dir_old_name_may_come_back(void **state)
{
	unsigned old, new;

	(void)state;
	rename_outcomes(SOSIE_FATE_KEPT, false, &old, &new);
	assert_int_equal(new, 64);
	rename_outcomes(SOSIE_FATE_LOST, false, &old, &new);
	assert_int_equal(old, 64);
	rename_outcomes(SOSIE_FATE_TORN, false, &old, &new);
	assert_true(old > 5 && new > 5);
	rename_outcomes(SOSIE_FATE_REORDERED, false, &old, &new);
	assert_true(old > 5 && new > 5);
	for (int fate = SOSIE_FATE_KEPT; fate <= SOSIE_FATE_REORDERED; fate++) {
		rename_outcomes((enum sosie_fate)fate, true, &old, &new);
		assert_int_equal(new, 64);
	}
}

static void test_sim_torn_write_keeps_some_sectors_whole(void **state)
{
	struct sosie_disk *disk = sosie_disk_new(1 << 24, 77, false);
	struct sosie_io *io = start(disk);
	unsigned old = 0, new = 0;
	char *text;
	size_t len;

	(void)state;
	put(io, "/f", 'o', 65536, true);
	OK(sosie_io_sync_dir(io, "/", &error));
	put(io, "/f", 'n', 65536, false);
	io = restart(disk, io, SOSIE_FATE_TORN);
	OK(sosie_io_read_file(io, "/f", 65536, &text, &len, &error));
	for (size_t i = 0; i < len; i += 512) {
		for (size_t k = 0; k < 512; k++)
			assert_int_equal(text[i + k], text[i]);
		old += text[i] == 'o';
		new += text[i] == 'n';
	}
	assert_true(old > 20 && new > 20 && old + new == 128);
	free(text);
	sosie_io_free(io);
	sosie_disk_free(disk);
}

/* Of several unsynced writes a random subset survives, later ones without earlier ones too. */
static void test_sim_reordered_later_write_may_survive_alone(void **state)
{
	unsigned alone = 0, all = 0;

	(void)state;
	for (uint64_t seed = 0; seed < 64; seed++) {
		struct sosie_disk *disk = sosie_disk_new(1 << 24, seed, false);
		struct sosie_io *io = start(disk);
		struct sosie_file *f;
		char b[2];
		size_t got;
		put(io, "/f", 'o', 10000, true);
		OK(sosie_io_sync_dir(io, "/", &error));
		OK(sosie_io_openat(io, "/f", RW, 0, &f, &error));
		OK(sosie_io_pwrite(io, f, "1", 1, 0, &error));
		OK(sosie_io_pwrite(io, f, "2", 1, 1, &error));
		io = restart(disk, io, SOSIE_FATE_REORDERED); /* with the file left open */
		OK(sosie_io_openat(io, "/f", RW, 0, &f, &error));
		OK(sosie_io_pread(io, f, b, 2, 0, &got, &error));
		alone += memcmp(b, "o2", 2) == 0;
		all += memcmp(b, "12", 2) == 0;
		OK(sosie_io_close(io, f, &error));
		sosie_io_free(io);
		sosie_disk_free(disk);
	}
	assert_true(alone > 4 && all > 4);
}

static void test_sim_cut_everywhere_file_is_old_or_new(void **state)
{
	unsigned cuts = 0;

	(void)state;
	for (int fate = SOSIE_FATE_KEPT; fate <= SOSIE_FATE_REORDERED; fate++) {
		bool cut = true;
		for (uint64_t n = 0; cut; n++) {
			struct sosie_disk *disk = sosie_disk_new(1 << 24, n, false);
			struct sosie_io *io = start(disk);
			OK(sosie_io_write_file(io, "/f", "old", 3, 0600, &error));
			sosie_disk_cut_after(disk, n);
			int rc = sosie_io_write_file(io, "/f", "new", 3, 0600, &error);
			cut = rc != 0;
			cuts += cut;
			assert_true(!cut || (sosie_disk_is_cut(disk) && rc == -SOSIE_EIO));
			io = restart(disk, io, (enum sosie_fate)fate);
			assert_false(sosie_disk_is_cut(disk));
			assert_true(first(io, "/f") == 'n' || (cut && first(io, "/f") == 'o'));
			sosie_io_free(io);
			sosie_disk_free(disk);
			assert_true(n < 50);
		}
	}
	assert_true(cuts >= 4 * 4);
}

static void test_sim_full_disk_sparse_file_and_reflink(void **state)
{
	struct sosie_disk *disk = sosie_disk_new(16 * 4096, 1, true);
	struct sosie_io *io = start(disk);
	static char data[20 * 4096];
	struct sosie_file *a, *b;
	uint64_t available, total;
	bool cloned;

	(void)state;
	OK(sosie_io_openat(io, "/a", RW | SOSIE_CREATE, 0600, &a, &error));
	OK(sosie_io_truncate(io, a, 1ull << 50, &error));
	memset(data, 1, sizeof(data));
	OK(sosie_io_pwrite(io, a, data, 8 * 4096, 1ull << 49, &error));
	OK(sosie_io_openat(io, "/b", RW | SOSIE_CREATE, 0600, &b, &error));
	OK(sosie_io_copy(io, a, b, &cloned, NULL, &error));
	assert_true(cloned);
	OK(sosie_io_space(io, "/", &available, &total, &error));
	assert_int_equal(available, 8 * 4096);
	assert_int_equal(sosie_io_pwrite(io, b, data, 9 * 4096, 0, &error), -SOSIE_ENOSPACE);
	assert_int_equal(sosie_io_pwrite(io, b, data, 4096, 1ull << 49, &error), -SOSIE_ENOSPACE);
	OK(sosie_io_punch(io, b, 0, 4096, &error));
	OK(sosie_io_pwrite(io, b, data, 4096, 1ull << 49, &error));
	OK(sosie_io_close(io, a, &error));
	OK(sosie_io_close(io, b, &error));
	OK(sosie_io_unlink(io, "/b", &error));
	OK(sosie_io_unlink(io, "/a", &error));
	OK(sosie_io_space(io, "/", &available, &total, &error));
	assert_int_equal(available, total);
	sosie_io_free(io);
	sosie_disk_free(disk);
}

/* --- random walk: sim, restarted with everything kept, against the real file system
 * ----------------------------------- */

#define FILES 4
#define AREA 60000

struct walk {
	struct place real, sim;
	uint64_t seed;
	unsigned changed;
};

static void same_file(struct walk *w, const char *name)
{
	static char a[2 * AREA], b[2 * AREA];
	struct sosie_file *f, *g;
	struct sosie_stat s, t;
	size_t m, n;
	int rc = sosie_io_openat(w->real.io, in(&w->real, name), SOSIE_READ, 0, &f, &error);

	assert_int_equal(rc, sosie_io_openat(w->sim.io, in(&w->sim, name), SOSIE_READ, 0, &g, &error));
	if (rc != 0)
		return;
	OK(sosie_io_pread(w->real.io, f, a, sizeof(a), 0, &m, &error));
	OK(sosie_io_pread(w->sim.io, g, b, sizeof(b), 0, &n, &error));
	assert_int_equal(m, n);
	assert_memory_equal(a, b, n);
	OK(sosie_io_fstat(w->real.io, f, &s, &error));
	OK(sosie_io_fstat(w->sim.io, g, &t, &error));
	assert_true(s.size == t.size && s.mode == t.mode && s.links == t.links);
	OK(sosie_io_close(w->real.io, f, &error));
	OK(sosie_io_close(w->sim.io, g, &error));
}

static int change_file(struct place *p, const char *name, unsigned what, uint64_t off, uint64_t len,
                       const void *data)
{
	struct sosie_file *f;
	int rc = sosie_io_openat(p->io, in(p, name), RW | (what == 0 ? SOSIE_CREATE : 0), 0600, &f, &error);

	if (rc != 0)
		return rc;
	if (what <= 1)
		rc = sosie_io_pwrite(p->io, f, data, (size_t)len, off, &error);
	else if (what == 2)
		rc = sosie_io_truncate(p->io, f, off, &error);
	else if (what == 3)
		rc = sosie_io_punch(p->io, f, off, len, &error);
	else
		rc = sosie_io_fsync(p->io, f, &error);
	OK(sosie_io_close(p->io, f, &error));
	return rc;
}

static int change(struct place *p, unsigned what, const char *a, const char *b, uint64_t off, uint64_t len,
                  const void *data)
{
	switch (what) {
	case 5:
		return sosie_io_rename(p->io, in(p, a), in(p, b), &error);
	case 6:
		return sosie_io_unlink(p->io, in(p, a), &error);
	case 7:
		return sosie_io_sync_dir(p->io, p->dir, &error);
	case 8:
		return sosie_io_chmod(p->io, in(p, a), 0600 | (uint32_t)(off % 64), &error);
	case 9:
		return sosie_io_mkdir(p->io, in(p, off % 2 ? "sub" : a), 0700, &error);
	case 10:
		return sosie_io_rmdir(p->io, in(p, off % 2 ? "sub" : a), &error);
	default:
		return change_file(p, a, what, off, len, data);
	}
}

static void walk_step(struct walk *w)
{
	static const char *const names[FILES] = {"a", "b", "sub/c", "d"};
	static unsigned char data[AREA];
	const unsigned what = (unsigned)(next_random(&w->seed) % 11);
	const char *a = names[next_random(&w->seed) % FILES], *b = names[next_random(&w->seed) % FILES];
	const uint64_t off = next_random(&w->seed) % AREA, len = next_random(&w->seed) % AREA + 1;
	int rc;

	fill_random(&w->seed, data, (size_t)len);
	rc = change(&w->real, what, a, b, off, len, data);
	assert_int_equal(rc, change(&w->sim, what, a, b, off, len, data));
	w->changed += rc == 0;
	if (next_random(&w->seed) % 16 == 0) {
		sosie_io_free(w->sim.io);
		sosie_disk_restart(w->sim.disk, SOSIE_FATE_KEPT);
		w->sim.io = place_io(&w->sim);
	}
	for (unsigned i = 0; i < FILES; i++)
		same_file(w, names[i]);
}

static void test_sim_random_walk_kept_equals_posix(void **state)
{
	const char *given = getenv("SOSIE_SEED");
	struct walk w = {.seed = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL) * 2654435761u + 1};

	(void)state;
	print_message("         SOSIE_SEED=%llu\n", (unsigned long long)w.seed);
	place_open(&w.real, PLACE_POSIX);
	place_open(&w.sim, PLACE_SIM);
	for (unsigned i = 0; i < 600; i++)
		walk_step(&w);
	assert_true(w.changed > 100);
	place_close(&w.sim);
	place_close(&w.real);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_sim_fsync_keeps_data_but_not_name),
	        cmocka_unit_test(test_sim_rename_without_sync_dir_old_name_may_come_back),
	        cmocka_unit_test(test_sim_torn_write_keeps_some_sectors_whole),
	        cmocka_unit_test(test_sim_reordered_later_write_may_survive_alone),
	        cmocka_unit_test(test_sim_cut_everywhere_file_is_old_or_new),
	        cmocka_unit_test(test_sim_full_disk_sparse_file_and_reflink),
	        cmocka_unit_test(test_sim_random_walk_kept_equals_posix),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/*
 * Never too few: a volume under random operations (tests/support/churn), views cut from it again and again,
 * also in the middle of operations, and every set of changes against a byte comparison of the two views. On
 * XFS, btrfs, btrfs compressed, btrfs nodatacow; clones (FIEMAP, items) and snapshots (send). And not too
 * many: nothing written, nothing told; one block written, little told.
 *
 * SOSIE_ROUNDS: rounds for each filesystem, or full; SOSIE_SOAK_SECONDS: for so long instead. SOSIE_SEED: the
 * seed that is printed on failure.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/btrfs.h>
#include <linux/fs.h>

#include "engine/source/changes.h"
#include "tests/support/churn.h"
#include "tests/support/mounted.h"
#include "tests/support/rounds.h"

#define VOLUME_BYTES (16u << 20)
#define VIEWS 4u /* held at a time */
#define STEP (1u << 20)

struct flavour {
	const char *name, *mkfs, *options;
	bool btrfs, nodatacow;
};
static const struct flavour xfs = {"xfs", "mkfs.xfs", "", false, false};
static const struct flavour plain = {"btrfs", "mkfs.btrfs", "", true, false};
static const struct flavour zstd = {"btrfs zstd", "mkfs.btrfs", "compress-force=zstd", true, false};
static const struct flavour nocow = {"btrfs nodatacow", "mkfs.btrfs", "", true, true};

/* One cut: a clone, and on btrfs a snapshot too. */
struct view {
	int clone_fd, snapshot_fd, file_fd; /* file_fd: the volume in the snapshot */
	unsigned number;
};

struct burst {
	unsigned steps;
	int rc;
};

/* One at a time; what a failed test leaves of it is taken down behind it. */
static struct lab {
	const struct flavour *flavour; /* NULL: not open */
	bool writing, moving;          /* threads to be joined */
	pthread_t writer, mover;
	struct burst burst; /* of the writer's thread, until joined */
	struct mounted fs;
	struct churn *churn;
	int volume_fd, sub_fd, top_fd;
	uint64_t seed;
	unsigned round, cuts, compared;
	unsigned moved;     /* balance, xfs_fsr: how often one has run; read after joining */
	uint64_t differing; /* bytes that differed, of all comparisons */
	struct view views[VIEWS];
	uint8_t *a, *b; /* STEP each */
} the_lab;

/* --- set up */

static void open_lab(struct lab *l, const struct flavour *flavour, uint64_t seed)
{
	char path[256];

	memset(l, 0, sizeof(*l));
	l->flavour = flavour;
	l->seed = seed;
	for (unsigned i = 0; i < VIEWS; i++)
		l->views[i].clone_fd = l->views[i].snapshot_fd = l->views[i].file_fd = -1;
	assert_true(
	        mounted_up(&l->fs, flavour->btrfs ? "mkfs.btrfs -q" : "mkfs.xfs -q", flavour->options, 512));
	assert_int_equal(mounted_run("mkdir %s/.sosie", l->fs.dir), 0);
	assert_int_equal(
	        mounted_run(flavour->btrfs ? "btrfs subvolume create %s/sub" : "mkdir %s/sub", l->fs.dir), 0);
	if (flavour->nodatacow)
		assert_int_equal(mounted_run("chattr +C %s/sub %s/.sosie", l->fs.dir, l->fs.dir), 0);
	snprintf(path, sizeof(path), "%s/sub/vol.raw", l->fs.dir);
	l->churn = churn_open(path, seed, VOLUME_BYTES);
	assert_non_null(l->churn);
	l->volume_fd = open(path, O_RDWR | O_CLOEXEC);
	*strrchr(path, '/') = 0;
	l->sub_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	l->top_fd = open(l->fs.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	l->a = malloc(STEP);
	l->b = malloc(STEP);
	assert_true(l->volume_fd >= 0 && l->sub_fd >= 0 && l->top_fd >= 0 && l->a && l->b);
}

static void drop(struct lab *l, struct view *v)
{
	struct btrfs_ioctl_vol_args args = {0};
	char name[64];

	if (v->clone_fd < 0)
		return;
	close(v->clone_fd);
	snprintf(name, sizeof(name), ".sosie/v%u", v->number);
	assert_int_equal(unlinkat(l->top_fd, name, 0), 0);
	if (v->snapshot_fd >= 0) {
		close(v->file_fd);
		close(v->snapshot_fd);
		snprintf(args.name, sizeof(args.name), "snap%u", v->number);
		assert_int_equal(ioctl(l->top_fd, BTRFS_IOC_SNAP_DESTROY, &args), 0);
	}
	v->clone_fd = v->snapshot_fd = v->file_fd = -1;
}

static void join_writer(struct lab *l)
{
	if (l->writing)
		assert_int_equal(pthread_join(l->writer, NULL), 0);
	l->writing = false;
}

static void join_mover(struct lab *l)
{
	if (l->moving)
		assert_int_equal(pthread_join(l->mover, NULL), 0);
	l->moving = false;
}

static void close_lab(struct lab *l)
{
	join_writer(l);
	join_mover(l);
	for (unsigned i = 0; i < VIEWS; i++)
		drop(l, &l->views[i]);
	churn_close(l->churn);
	close(l->volume_fd);
	close(l->sub_fd);
	close(l->top_fd);
	free(l->a);
	free(l->b);
	mounted_down(&l->fs);
	l->flavour = NULL;
}

static int tear_down(void **state)
{
	(void)state;
	if (the_lab.flavour)
		close_lab(&the_lab);
	return 0;
}

/* --- a cut */

static int clone_volume(struct lab *l, unsigned number)
{
	char name[64];
	int fd;

	snprintf(name, sizeof(name), ".sosie/v%u", number);
	fd = openat(l->top_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ioctl(fd, FICLONE, l->volume_fd), 0);
	return fd;
}

static int snapshot(struct lab *l, unsigned number)
{
	struct btrfs_ioctl_vol_args_v2 args = {.fd = l->sub_fd, .flags = BTRFS_SUBVOL_RDONLY};
	int fd;

	snprintf(args.name, sizeof(args.name), "snap%u", number);
	assert_int_equal(ioctl(l->top_fd, BTRFS_IOC_SNAP_CREATE_V2, &args), 0);
	fd = openat(l->top_fd, args.name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

static struct view *cut(struct lab *l)
{
	struct view *v = &l->views[l->cuts % VIEWS];

	drop(l, v);
	v->number = l->cuts++;
	v->clone_fd = clone_volume(l, v->number);
	if (!l->flavour->btrfs)
		return v;
	v->snapshot_fd = snapshot(l, v->number);
	v->file_fd = openat(v->snapshot_fd, "vol.raw", O_RDONLY | O_CLOEXEC);
	assert_true(v->file_fd >= 0);
	return v;
}

/* --- the judge */

static uint64_t size_of(int fd)
{
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	return (uint64_t)st.st_size;
}

static size_t read_step(int fd, uint8_t *buf, uint64_t at)
{
	ssize_t n = pread(fd, buf, STEP, (off_t)at);

	assert_true(n >= 0);
	return (size_t)n;
}

static void byte_differs(struct lab *l, struct changes *c, uint64_t at, const char *finder)
{
	uint64_t start, end;

	l->differing++;
	if (changes_next(c, at, &start, &end) && start <= at)
		return;
	fail_msg("%s, %s: byte %lu differs and is not told; SOSIE_SEED=%lu, round %u", l->flavour->name,
	         finder, at, l->seed, l->round);
}

/* Every byte of the new file that is not the old one's, or that is behind its end, must be told. */
static void judge(struct lab *l, int old_fd, int new_fd, struct changes *c, const char *finder)
{
	uint64_t size = size_of(new_fd);

	l->compared++;
	for (uint64_t at = 0; at < size; at += STEP) {
		size_t n = read_step(new_fd, l->b, at), old = read_step(old_fd, l->a, at);

		assert_true(n == (size - at < STEP ? size - at : STEP));
		if (old >= n && memcmp(l->a, l->b, n) == 0)
			continue;
		for (size_t i = 0; i < n; i++)
			if (i >= old || l->a[i] != l->b[i])
				byte_differs(l, c, at + i, finder);
	}
}

typedef int finder_fn(int, int, struct changes *, struct sosie_err *);

static void must(struct lab *l, int rc, const struct sosie_err *err)
{
	char line[1200];

	if (rc != 0)
		fail_msg("%s: %s; SOSIE_SEED=%lu, round %u", l->flavour->name,
		         sosie_err_line(err, line, sizeof(line)), l->seed, l->round);
}

static struct changes *new_set(void)
{
	struct changes *c;

	assert_int_equal(changes_new(CHANGES_MAX, &c, NULL), 0);
	return c;
}

/* Bytes told. */
static uint64_t by_mapping(struct lab *l, finder_fn *find, int old_fd, int new_fd, const char *name)
{
	struct changes *c = new_set();
	struct sosie_err err;
	uint64_t bytes;

	must(l, find(old_fd, new_fd, c, &err), &err);
	changes_seal(c);
	judge(l, old_fd, new_fd, c, name);
	bytes = changes_bytes(c);
	changes_free(c);
	return bytes;
}

static uint64_t by_send(struct lab *l, const struct view *old, const struct view *new)
{
	struct changes_file file = {.path = "vol.raw", .changes = new_set()};
	struct sosie_err err;
	uint64_t bytes;

	must(l, changes_by_send(old->snapshot_fd, new->snapshot_fd, &file, 1, &err), &err);
	changes_seal(file.changes);
	judge(l, old->file_fd, new->file_fd, file.changes, "send");
	bytes = changes_bytes(file.changes);
	changes_free(file.changes);
	return bytes;
}

/* All the ways that the filesystem has; the most that one of them told. */
static uint64_t find_all(struct lab *l, const struct view *old, const struct view *new)
{
	uint64_t n = by_mapping(l, changes_by_fiemap, old->clone_fd, new->clone_fd, "fiemap"), most;

	if (!l->flavour->btrfs)
		return n;
	/* There FIEMAP tells all that is compressed, as defragmenting may make it: not counted. */
	most = by_mapping(l, changes_by_items, old->clone_fd, new->clone_fd, "items");
	n = by_mapping(l, changes_by_items, old->file_fd, new->file_fd, "items of snapshots");
	most = n > most ? n : most;
	n = by_send(l, old, new);
	return n > most ? n : most;
}

static void equal(struct lab *l, const struct view *a, const struct view *b, bool want)
{
	struct sosie_err err;
	bool got;

	must(l, changes_equal_mappings(a->clone_fd, b->clone_fd, &got, &err), &err);
	if (got != want)
		fail_msg("%s: mappings equal %d, want %d; SOSIE_SEED=%lu, round %u", l->flavour->name, got,
		         want, l->seed, l->round);
}

/* --- rounds */

static void *run_burst(void *arg)
{
	struct lab *l = arg;

	for (unsigned i = 0; i < l->burst.steps && l->burst.rc == 0; i++)
		l->burst.rc = churn_step(l->churn);
	return NULL;
}

static void check_burst(const struct lab *l)
{
	if (l->burst.rc != 0)
		fail_msg("%s: the writer: %s; SOSIE_SEED=%lu, round %u", l->flavour->name,
		         strerror(l->burst.rc), l->seed, l->round);
}

static void *run_move(void *arg)
{
	struct lab *l = arg;

	int rc = l->flavour->btrfs ? mounted_run("btrfs balance start -d %s", l->fs.dir)
	                           : mounted_run("xfs_fsr %s/sub/vol.raw", l->fs.dir);

	l->moved += rc == 0; /* refused while files are busy, or on a kernel that is */
	return NULL;
}

/* Operations, a cut behind or among them, and now and then content moved on disk meanwhile. */
static void busy_round(struct lab *l, bool move)
{
	const struct view *old = &l->views[(l->cuts - 1 - churn_random(l->churn, 3) % l->cuts) % VIEWS], *new;
	bool among = churn_random(l->churn, 2) == 0;

	l->burst = (struct burst){.steps = 1 + (unsigned)churn_random(l->churn, 24)};
	l->moving = move && pthread_create(&l->mover, NULL, run_move, l) == 0;
	l->writing = pthread_create(&l->writer, NULL, run_burst, l) == 0;
	assert_true(l->writing && l->moving == move);
	if (!among)
		join_writer(l);
	new = cut(l);
	find_all(l, old, new);
	join_writer(l);
	check_burst(l);
	join_mover(l);
}

/* Nothing written: nothing told. One block: little told, and the two are not the same instant. */
static void quiet_round(struct lab *l)
{
	const struct view *a = cut(l), *b, *c;
	uint64_t offset, told;

	b = cut(l);
	told = find_all(l, a, b);
	if (told != 0)
		fail_msg("%s: nothing written, %lu bytes told; SOSIE_SEED=%lu, round %u", l->flavour->name,
		         told, l->seed, l->round);
	equal(l, a, b, true);
	assert_int_equal(churn_block(l->churn, &offset), 0);
	c = cut(l);
	told = find_all(l, b, c);
	if (told == 0 || told > 256u * 1024u)
		fail_msg("%s: 4096 bytes written, %lu told; SOSIE_SEED=%lu, round %u", l->flavour->name, told,
		         l->seed, l->round);
	equal(l, b, c, false);
}

static uint64_t number(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text && strtoull(text, NULL, 10) > 0 ? strtoull(text, NULL, 10) : otherwise;
}

static void check_variety(const struct lab *l)
{
	char text[512];
	int len = 0;

	for (unsigned op = 0; op < CHURN_OPS; op++)
		len += snprintf(text + len, sizeof(text) - (size_t)len, " %s %lu",
		                churn_name((enum churn_op)op), churn_done(l->churn, (enum churn_op)op));
	print_message("  %s: seed %lu, %u rounds, %u cuts, %u comparisons, %u moves, %lu bytes differed:%s\n",
	              l->flavour->name, l->seed, l->round, l->cuts, l->compared, l->moved, l->differing,
	              text);
	assert_true(l->round > 0 && l->compared >= l->round && l->differing > 0);
	assert_true(l->moved > 0 || !l->flavour->btrfs || l->round < 24);
	for (unsigned op = 0; op < CHURN_OPS && l->round >= 24; op++) {
		bool xfs_only = op == CHURN_COLLAPSE || op == CHURN_INSERT;

		if (op != CHURN_DEFRAG ? !xfs_only || !l->flavour->btrfs : l->flavour->btrfs)
			assert_true(churn_done(l->churn, (enum churn_op)op) > 0);
	}
}

static void never_too_few(const struct flavour *flavour)
{
	const char *why = mounted_possible(flavour->mkfs);
	uint64_t soak = number("SOSIE_SOAK_SECONDS", 0) / 4;
	unsigned count = test_rounds(24, 100);
	time_t end = time(NULL) + (time_t)soak;
	struct lab *l = &the_lab;

	if (why) {
		print_message("  skipped: %s\n", why);
		skip();
	}
	open_lab(l, flavour, number("SOSIE_SEED", 20240117));
	cut(l);
	for (; soak > 0 ? time(NULL) < end : l->round < count; l->round++) {
		busy_round(l, l->round % 12 == 5);
		if (l->round % 6 == 3)
			quiet_round(l);
	}
	check_variety(l);
	close_lab(l);
}

static void test_changes_on_xfs_are_never_too_few(void **state)
{
	(void)state;
	never_too_few(&xfs);
}

static void test_changes_on_btrfs_are_never_too_few(void **state)
{
	(void)state;
	never_too_few(&plain);
}

static void test_changes_on_compressed_btrfs_are_never_too_few(void **state)
{
	(void)state;
	never_too_few(&zstd);
}

static void test_changes_on_nodatacow_btrfs_are_never_too_few(void **state)
{
	(void)state;
	never_too_few(&nocow);
}

/* --- what the stream's paths cannot tell */

static int snap(struct lab *l, const char *name)
{
	assert_int_equal(mounted_run("btrfs subvolume snapshot -r %s/sub %s/%s", l->fs.dir, l->fs.dir, name),
	                 0);
	return openat(l->top_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* Runs a command between two snapshots, in the subvolume; the changes of path. */
static int between(struct lab *l, const char *name, const char *command, const char *path, struct changes **c,
                   struct sosie_err *err)
{
	char a[32], b[32];
	struct changes_file file = {.path = path, .changes = new_set()};
	int old_fd, new_fd, rc;

	snprintf(a, sizeof(a), "%s-a", name);
	snprintf(b, sizeof(b), "%s-b", name);
	old_fd = snap(l, a);
	assert_int_equal(mounted_run("cd %s/sub && %s", l->fs.dir, command), 0);
	new_fd = snap(l, b);
	assert_true(old_fd >= 0 && new_fd >= 0);
	rc = changes_by_send(old_fd, new_fd, &file, 1, err);
	changes_seal(file.changes);
	*c = file.changes;
	close(old_fd);
	close(new_fd);
	return rc;
}

static uint64_t told(struct lab *l, const char *name, const char *command, const char *path)
{
	struct changes *c;
	struct sosie_err err;
	uint64_t bytes;

	must(l, between(l, name, command, path, &c, &err), &err);
	bytes = changes_bytes(c);
	changes_free(c);
	return bytes;
}

static const char make_tree[] =
        "mkdir -p d/e && for f in vol d/e/vol d/other; do head -c 3000000 /dev/urandom >$f; done && sync";

static void test_send_moved_and_remade_files_are_changed_wholly(void **state)
{
	struct lab *l = &the_lab;
	const char *why = mounted_possible("mkfs.btrfs");

	(void)state;
	if (why)
		skip();
	open_lab(l, &plain, 1);
	assert_true(told(l, "new", make_tree, "d/e/vol") == UINT64_MAX);
	assert_true(told(l, "touch", "touch d d/e vol d/e/vol; chmod 600 vol; echo x >y", "vol") == 0);
	assert_true(told(l, "neighbour", "echo x >>d/other", "d/e/vol") == 0);
	assert_true(told(l, "remade", "mv vol old; cp --reflink old vol; rm old", "vol") == UINT64_MAX);
	assert_true(told(l, "swapped", "mv vol t; mv d/other vol; mv t d/other", "vol") == UINT64_MAX);
	assert_true(told(l, "folder", "mv d q; mkdir d; mv q/e d/e", "d/e/vol") == UINT64_MAX);
	assert_true(told(l, "kept", "truncate -s 2999000 vol", "vol") <= 8192);
	assert_true(told(l, "grown", "truncate -s 4000000 vol", "vol") >= 4000000 - 2999000);
	/* The kernel may name either of two links; one has the change told. */
	assert_true(told(l, "link", "ln vol aaa; ln vol zzz", "vol") > 0);
	for (unsigned i = 0; i < 2; i++) {
		uint64_t n = told(l, i ? "zzz" : "aaa",
		                  "printf change | dd of=aaa bs=1 seek=8192 conv=notrunc", i ? "zzz" : "aaa");
		assert_true(n > 0 && n <= 65536);
	}
	close_lab(l);
}

static int without_rights(int old_fd, int new_fd)
{
	struct changes_file file = {.path = "vol", .changes = new_set()};
	struct sosie_err err;

	if (setgid(65534) != 0 || setuid(65534) != 0)
		return 1;
	if (changes_by_send(old_fd, new_fd, &file, 1, &err) != -SOSIE_EDENIED)
		return 2;
	if (!strstr(err.action, "CAP_SYS_ADMIN") || !changes_is_all(file.changes))
		return 3;
	changes_free(file.changes);
	return 0;
}

static void refused(int old_fd, int new_fd, const char *path, int want)
{
	struct changes_file file = {.path = path, .changes = new_set()};
	struct sosie_err err;

	assert_int_equal(changes_by_send(old_fd, new_fd, &file, 1, &err), -want);
	assert_true(changes_is_all(file.changes) && err.what[0] != 0);
	changes_free(file.changes);
}

static void test_send_that_is_not_possible_says_why_and_tells_all(void **state)
{
	struct lab *l = &the_lab;
	const char *why = mounted_possible("mkfs.btrfs");
	int a, b, status = 0;
	pid_t child;

	(void)state;
	if (why)
		skip();
	open_lab(l, &plain, 1);
	assert_int_equal(mounted_run("cd %s/sub && %s && chmod -R a+rX . && ln -s vol link && chmod a+rx %s",
	                             l->fs.dir, make_tree, l->fs.dir),
	                 0);
	a = snap(l, "a");
	b = snap(l, "b");
	assert_true(a >= 0 && b >= 0);
	refused(a, b, "gone", SOSIE_ENOTFOUND);
	refused(a, b, "link", SOSIE_EIO);
	refused(a, b, "d/../vol", SOSIE_EINTERNAL);
	refused(a, l->sub_fd, "vol", SOSIE_EDENIED); /* not read-only */
	child = fork();
	if (child == 0)
		_exit(without_rights(a, b));
	assert_true(child > 0 && waitpid(child, &status, 0) == child);
	assert_int_equal(status, 0);
	close(a);
	close(b);
	close_lab(l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_teardown(test_changes_on_xfs_are_never_too_few, tear_down),
	        cmocka_unit_test_teardown(test_changes_on_btrfs_are_never_too_few, tear_down),
	        cmocka_unit_test_teardown(test_changes_on_compressed_btrfs_are_never_too_few, tear_down),
	        cmocka_unit_test_teardown(test_changes_on_nodatacow_btrfs_are_never_too_few, tear_down),
	        cmocka_unit_test_teardown(test_send_moved_and_remade_files_are_changed_wholly, tear_down),
	        cmocka_unit_test_teardown(test_send_that_is_not_possible_says_why_and_tells_all, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

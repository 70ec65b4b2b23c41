/* SPDX-License-Identifier: MIT */
/*
 * The drivers reflink and btrfs on loop-mounted filesystems: views kept, found again, settled and dropped;
 * changes against a byte comparison; unchanged; labels, judged by numbered blocks; facts; a full disk; what
 * auto chooses. SOSIE_ROUNDS: cuts under the alternating writer (default 6, full 25).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/source/stalls.h"
#include "engine/source/views.h"
#include "sosie/source.h"
#include "tests/support/cgroup.h"
#include "tests/support/mounted.h"
#include "tests/support/order.h"
#include "tests/support/rounds.h"

#define VOLUME_BYTES (8u << 20)
#define BLOCK 4096u

struct flavour {
	const char *name, *mkfs, *options;
	enum sosie_source_kind kind;
	bool nodatacow;
};
static const struct flavour flavours[] = {
        {"reflink on xfs", "mkfs.xfs -q", "", SOSIE_SOURCE_REFLINK, false},
        {"reflink on btrfs", "mkfs.btrfs -q", "", SOSIE_SOURCE_REFLINK, false},
        {"reflink on btrfs nodatacow", "mkfs.btrfs -q", "", SOSIE_SOURCE_REFLINK, true},
        {"btrfs", "mkfs.btrfs -q", "", SOSIE_SOURCE_BTRFS, false},
};
#define FLAVOURS (sizeof(flavours) / sizeof(flavours[0]))

struct lab {
	const struct flavour *flavour;
	struct mounted fs;
	struct sosie_io *io;
	struct sosie_volume v[2];
	struct sosie_hooks hooks;
	struct sosie_source_options o;
	struct sosie_source *s;
	struct sosie_err err;
	char reason[512];
	uint64_t seed;
};

static const char *impossible;

#define NEED_MOUNTS()                                                                                        \
	do {                                                                                                 \
		if (impossible) {                                                                            \
			print_message("  skipped: %s\n", impossible);                                        \
			skip();                                                                              \
		}                                                                                            \
	} while (0)

static void line(const struct lab *l)
{
	char text[1200];

	print_message("  %s: %s\n", l->flavour->name, sosie_err_line(&l->err, text, sizeof(text)));
}

static void must(const struct lab *l, int rc, const char *what)
{
	if (rc == 0)
		return;
	print_message("  %s failed\n", what);
	line(l);
	fail();
}

static uint64_t next_random(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

static void random_block(struct lab *l, uint8_t *block)
{
	for (unsigned i = 0; i < BLOCK; i += 8) {
		uint64_t r = next_random(&l->seed);

		memcpy(block + i, &r, 8);
	}
}

static void put_block(struct lab *l, unsigned v, uint64_t at)
{
	uint8_t block[BLOCK];
	int fd = open(l->v[v].path, O_WRONLY | O_CLOEXEC);

	random_block(l, block);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, block, BLOCK, (off_t)at), BLOCK);
	close(fd);
}

static void make_volume(struct lab *l, unsigned i)
{
	char text[300];
	int fd;

	snprintf(text, sizeof(text), "v%u=%s/images/v%u.raw", i, l->fs.dir, i);
	assert_int_equal(sosie_volume_parse(text, &l->v[i], &l->err), 0);
	fd = open(l->v[i].path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, VOLUME_BYTES), 0);
	close(fd);
	for (uint64_t at = 0; at < VOLUME_BYTES / 2; at += 2 * BLOCK)
		put_block(l, i, at);
}

static void open_source(struct lab *l)
{
	must(l, sosie_source_open(&l->o, &l->s, l->reason, sizeof(l->reason), &l->err), "open");
}

/* Without a source yet. */
static void lab_up(struct lab *l, const struct flavour *flavour, unsigned volumes, unsigned mib)
{
	memset(l, 0, sizeof(*l));
	l->flavour = flavour;
	l->seed = 88172645463325252u;
	assert_true(mounted_up(&l->fs, flavour->mkfs, flavour->options, mib));
	assert_int_equal(mounted_run("mkdir %s/images%s", l->fs.dir, ""), 0);
	if (flavour->nodatacow)
		assert_int_equal(mounted_run("chattr +C %s/images", l->fs.dir), 0);
	assert_int_equal(sosie_io_posix(&l->io, &l->err), 0);
	for (unsigned i = 0; i < volumes; i++)
		make_volume(l, i);
	l->o = (struct sosie_source_options){.kind = flavour->kind,
	                                     .volumes = l->v,
	                                     .count = volumes,
	                                     .tenant = "acme",
	                                     .group = "erp",
	                                     .tag = "0123abcd"};
}

static void lab_down(struct lab *l)
{
	if (l->s)
		l->s->ops->destroy(l->s);
	sosie_io_free(l->io);
	mounted_down(&l->fs);
}

static const char *store_of(const struct lab *l, char *dst, size_t size)
{
	snprintf(dst, size, "%s/%s.sosie", l->fs.dir,
	         l->flavour->kind == SOSIE_SOURCE_BTRFS ? "" : "images/");
	return dst;
}

/* Names in .sosie that are views or temporaries. */
static unsigned views_left(const struct lab *l)
{
	char path[200];
	DIR *dir = opendir(store_of(l, path, sizeof(path)));
	struct dirent *e;
	unsigned n = 0;

	while (dir && (e = readdir(dir)) != NULL)
		n += e->d_name[0] != '.' && !strstr(e->d_name, "stalls");
	if (dir)
		closedir(dir);
	return n;
}

static uint8_t *slurp(const char *path, size_t *len)
{
	struct stat st;
	uint8_t *bytes;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	*len = (size_t)st.st_size;
	bytes = malloc(*len + 1);
	assert_non_null(bytes);
	assert_int_equal(read(fd, bytes, *len), st.st_size);
	close(fd);
	return bytes;
}

static void same_content(const char *a, const char *b)
{
	size_t len_a, len_b;
	uint8_t *x = slurp(a, &len_a), *y = slurp(b, &len_b);

	assert_int_equal(len_a, len_b);
	assert_memory_equal(x, y, len_a);
	free(x);
	free(y);
}

static struct sosie_view *cut(struct lab *l, const struct sosie_view_id *base)
{
	struct sosie_view *view;

	must(l, l->s->ops->cut(l->s, base, &view, &l->err), "cut");
	return view;
}

static enum sosie_consistency release(struct lab *l, struct sosie_view *view, bool keep,
                                      struct sosie_view_id *id)
{
	enum sosie_consistency label;

	if (id)
		l->s->ops->id(view, id);
	must(l, l->s->ops->release(view, keep, &label, &l->err), "release");
	return label;
}

static const char *path_of(struct lab *l, struct sosie_view *view, unsigned v, uint64_t *size)
{
	const char *path;

	must(l, l->s->ops->path(view, v, &path, size, &l->err), "path");
	return path;
}

/* Walks volume v of the view: extents tile it, what is told SAME is so. Returns the bytes that may differ. */
static uint64_t walk(struct lab *l, struct sosie_view *view, unsigned v)
{
	struct sosie_extent e = {SOSIE_EXTENT_SAME, 0, 0};
	struct sosie_file *file;
	uint64_t size, base_size, at = 0, changed = 0, same = 0;
	const char *path = path_of(l, view, v, &size), *base = l->s->ops->base_path(view, v, &base_size);
	size_t len, base_len = 0;
	uint8_t *now = slurp(path, &len), *then = base ? slurp(base, &base_len) : NULL;

	assert_int_equal(size, len);
	must(l, sosie_io_openat(l->io, path, SOSIE_READ, 0, &file, &l->err), "open of a view");
	for (;;) {
		must(l, l->s->ops->next(view, v, l->io, file, at, &e, &l->err), "next");
		if (e.kind == SOSIE_EXTENT_END)
			break;
		assert_true(e.start == at && e.end > at && e.end <= size);
		assert_true(e.end % BLOCK == 0 || e.end == size);
		if (e.kind == SOSIE_EXTENT_SAME) {
			assert_true(then && e.end <= base_len);
			assert_memory_equal(now + e.start, then + e.start, e.end - e.start);
			same += e.end - e.start;
		} else {
			changed += e.end - e.start;
		}
		for (uint64_t i = e.start; e.kind == SOSIE_EXTENT_HOLE && i < e.end; i++)
			assert_int_equal(now[i], 0);
		at = e.end;
	}
	assert_true(at == size && e.start == size && changed + same == size);
	sosie_io_close(l->io, file, NULL);
	free(now);
	free(then);
	return changed;
}

/* --- views -------------------------------------------------------------------------------------------------
 */

static void views_live(struct lab *l)
{
	struct sosie_view_id ids[3] = {{""}, {""}, {""}};
	struct sosie_view *view;
	bool held[3];
	uint64_t size;

	open_source(l);
	must(l, l->s->ops->settle(l->s, NULL, 0, NULL, &l->err), "settle");
	view = cut(l, NULL);
	same_content(path_of(l, view, 0, &size), l->v[0].path);
	same_content(path_of(l, view, 1, &size), l->v[1].path);
	assert_int_equal(walk(l, view, 0), size);
	release(l, view, true, &ids[0]);
	release(l, cut(l, &ids[0]), true, &ids[1]);
	release(l, cut(l, &ids[0]), false, &ids[2]);
	l->s->ops->destroy(l->s);
	open_source(l);
	must(l, l->s->ops->settle(l->s, ids, 3, held, &l->err), "settle");
	assert_true(held[0] && held[1] && !held[2]);
	must(l, l->s->ops->reopen(l->s, &ids[0], &ids[1], &view, &l->err), "reopen");
	assert_int_equal(walk(l, view, 1), 0);
	assert_int_equal(release(l, view, true, NULL), SOSIE_CONSISTENCY_CRASH);
	must(l, l->s->ops->settle(l->s, &ids[1], 1, held, &l->err), "settle");
	assert_true(held[0]);
	assert_int_equal(l->s->ops->reopen(l->s, NULL, &ids[0], &view, &l->err), -SOSIE_ENOTFOUND);
	view = cut(l, &ids[0]); /* a base that is gone: all has changed */
	assert_int_equal(walk(l, view, 0), VOLUME_BYTES);
	assert_null(l->s->ops->base_path(view, 0, &size));
	release(l, view, false, NULL);
	must(l, l->s->ops->drop(l->s, &ids[1], &l->err), "drop");
	must(l, l->s->ops->drop(l->s, &ids[1], &l->err), "drop again");
	assert_int_equal(views_left(l), 0);
}

static void test_views_kept_reopened_settled_and_dropped(void **state)
{
	(void)state;
	NEED_MOUNTS();
	for (size_t i = 0; i < FLAVOURS; i++) {
		struct lab l;

		lab_up(&l, &flavours[i], 2, 512);
		views_live(&l);
		lab_down(&l);
	}
}

static void change_some(struct lab *l)
{
	int fd = open(l->v[0].path, O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 65536, 16384), 0);
	assert_int_equal(pwrite(fd, "tail", 4, VOLUME_BYTES + 10000), 4);
	close(fd);
	for (unsigned i = 0; i < 10; i++)
		put_block(l, 0, next_random(&l->seed) % (VOLUME_BYTES / BLOCK) * BLOCK);
}

static void changes_told(struct lab *l)
{
	struct sosie_view_id a, b;
	struct sosie_view *view;
	uint64_t size, base_size, told;

	open_source(l);
	assert_int_equal(truncate(l->v[1].path, VOLUME_BYTES - 1000), 0);
	release(l, cut(l, NULL), true, &a);
	change_some(l);
	view = cut(l, &a);
	same_content(path_of(l, view, 0, &size), l->v[0].path);
	assert_int_equal(size, VOLUME_BYTES + 10004);
	assert_non_null(l->s->ops->base_path(view, 0, &base_size));
	assert_int_equal(base_size, VOLUME_BYTES);
	told = walk(l, view, 0);
	assert_true(told >= 10004 + 16384 + BLOCK && told < 1 << 20);
	assert_int_equal(walk(l, view, 1), 0);
	release(l, view, true, &b);
	must(l, l->s->ops->drop(l->s, &a, &l->err), "drop");
	assert_int_equal(truncate(l->v[0].path, VOLUME_BYTES / 4 + 5), 0);
	view = cut(l, &b);
	assert_true(walk(l, view, 0) >= 5);
	release(l, view, false, NULL);
}

static void test_changes_match_a_byte_comparison(void **state)
{
	(void)state;
	NEED_MOUNTS();
	for (size_t i = 0; i < FLAVOURS; i++) {
		struct lab l;

		lab_up(&l, &flavours[i], 2, 512);
		changes_told(&l);
		lab_down(&l);
	}
}

/* The freeze command kills whoever cuts: what was made for the cut is there, and is no view. */
static void test_killed_in_a_cut_leaves_what_settle_removes(void **state)
{
	(void)state;
	NEED_MOUNTS();
	for (size_t i = 0; i < FLAVOURS; i++) {
		struct lab l;
		struct sosie_view *view;
		pid_t pid;
		int status;

		lab_up(&l, &flavours[i], 2, 512);
		l.hooks = (struct sosie_hooks){.freeze = "kill -9 $PPID", .thaw = "true"};
		l.o.hooks = &l.hooks;
		open_source(&l);
		pid = fork();
		if (pid == 0) {
			l.s->ops->cut(l.s, NULL, &view, NULL);
			_exit(0);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		if (l.flavour->kind == SOSIE_SOURCE_REFLINK)
			assert_int_equal(views_left(&l), 2);
		must(&l, l.s->ops->settle(l.s, NULL, 0, NULL, &l.err), "settle");
		assert_int_equal(views_left(&l), 0);
		lab_down(&l);
	}
}

static void test_volume_added_has_no_base(void **state)
{
	(void)state;
	NEED_MOUNTS();
	for (size_t i = 0; i < FLAVOURS; i++) {
		struct lab l;
		struct sosie_view_id a;
		struct sosie_view *view;
		bool held;

		lab_up(&l, &flavours[i], 1, 512);
		open_source(&l);
		release(&l, cut(&l, NULL), true, &a);
		l.s->ops->destroy(l.s);
		make_volume(&l, 1);
		l.o.count = 2;
		open_source(&l);
		must(&l, l.s->ops->settle(l.s, &a, 1, &held, &l.err), "settle");
		assert_false(held);
		view = cut(&l, &a);
		assert_int_equal(walk(&l, view, 0), 0);
		assert_int_equal(walk(&l, view, 1), VOLUME_BYTES);
		release(&l, view, false, NULL);
		lab_down(&l);
	}
}

/* --- unchanged ---------------------------------------------------------------------------------------------
 */

static void write_buffered(struct lab *l, uint8_t *map)
{
	(void)map;
	put_block(l, 0, 5 * BLOCK);
}

static void write_direct(struct lab *l, uint8_t *map)
{
	void *block = aligned_alloc(BLOCK, BLOCK);
	int fd = open(l->v[0].path, O_WRONLY | O_DIRECT | O_CLOEXEC);

	(void)map;
	assert_true(fd >= 0 && block);
	random_block(l, block);
	assert_int_equal(pwrite(fd, block, BLOCK, 7 * BLOCK), BLOCK);
	close(fd);
	free(block);
}

static void write_mapped(struct lab *l, uint8_t *map)
{
	(void)l;
	map[3 * BLOCK] ^= 0x5a; /* dirty at an earlier cut already: the mapping has been writable */
}

static void write_size(struct lab *l, uint8_t *map)
{
	(void)map;
	assert_int_equal(truncate(l->v[0].path, VOLUME_BYTES + BLOCK), 0);
}

static void wait_ms(int ms)
{
	poll(NULL, 0, ms);
}

/* Cuts until the source says unchanged; how many it took. A write's ctime must be older than 20 ms. */
static unsigned cuts_until_unchanged(struct lab *l, struct sosie_view_id *id)
{
	for (unsigned n = 1; n <= 5; n++) {
		release(l, cut(l, NULL), true, id);
		if (l->s->ops->unchanged(l->s, id))
			return n;
		must(l, l->s->ops->drop(l->s, id, &l->err), "drop");
		wait_ms(40);
	}
	return 0;
}

static void unchanged_until_written(struct lab *l)
{
	static void (*const writes[])(struct lab *, uint8_t *) = {write_buffered, write_mapped, write_direct,
	                                                          write_mapped, write_size};
	struct sosie_view_id id, other;
	int fd = open(l->v[0].path, O_RDWR | O_CLOEXEC);
	uint8_t *map = mmap(NULL, VOLUME_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	unsigned cuts;

	assert_true(fd >= 0 && map != MAP_FAILED);
	map[3 * BLOCK] ^= 1;
	open_source(l);
	for (size_t i = 0; i < sizeof(writes) / sizeof(writes[0]); i++) {
		cuts = cuts_until_unchanged(l, &id);
		if (cuts == 0 || cuts > 2)
			print_message("  %s: unchanged after %u cuts, write %zu\n", l->flavour->name, cuts,
			              i);
		assert_in_range(cuts, 1, 2);
		for (unsigned k = 0; k < 3; k++) { /* other views come and go */
			release(l, cut(l, &id), true, &other);
			must(l, l->s->ops->drop(l->s, &other, &l->err), "drop");
			assert_true(l->s->ops->unchanged(l->s, &id));
		}
		assert_int_equal(mounted_run("sync -f %s", l->fs.dir), 0);
		assert_true(l->s->ops->unchanged(l->s, &id));
		writes[i](l, map);
		if (l->s->ops->unchanged(l->s, &id))
			print_message("  %s: write %zu is not seen\n", l->flavour->name, i);
		assert_false(l->s->ops->unchanged(l->s, &id));
		must(l, l->s->ops->drop(l->s, &id, &l->err), "drop");
	}
	munmap(map, VOLUME_BYTES);
	close(fd);
}

static void test_unchanged_until_any_kind_of_write(void **state)
{
	(void)state;
	NEED_MOUNTS();
	for (size_t i = 0; i < FLAVOURS; i++) {
		struct lab l;

		lab_up(&l, &flavours[i], 1, 512);
		unchanged_until_written(&l);
		lab_down(&l);
	}
}

/* It ends with the test, also with one that fails. */
static pid_t fork_writer(void)
{
	pid_t pid = fork();

	if (pid == 0 && prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)
		_exit(1);
	return pid;
}

/* How many writes have ended, shared with the writer. */
static uint64_t *counter_up(void)
{
	uint64_t *ended =
	        mmap(NULL, sizeof(*ended), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert_true(ended != MAP_FAILED);
	return ended;
}

/* Waits for a write that was begun and ended from now on. */
static void one_more_write(const uint64_t *ended)
{
	uint64_t now = __atomic_load_n(ended, __ATOMIC_ACQUIRE);

	for (unsigned i = 0; i < 30000 && __atomic_load_n(ended, __ATOMIC_ACQUIRE) < now + 2; i++)
		wait_ms(1);
	assert_true(__atomic_load_n(ended, __ATOMIC_ACQUIRE) >= now + 2);
}

/* A writer that never pauses for long: no view calls itself unchanged once a write has followed it. */
static void test_unchanged_never_while_written(void **state)
{
	uint64_t *ended = counter_up();

	(void)state;
	NEED_MOUNTS();
	for (size_t i = 0; i < FLAVOURS; i++) {
		struct lab l;
		unsigned changed = 0;
		pid_t pid;

		lab_up(&l, &flavours[i], 1, 512);
		open_source(&l);
		pid = fork_writer();
		while (pid == 0) {
			put_block(&l, 0, next_random(&l.seed) % (VOLUME_BYTES / BLOCK) * BLOCK);
			__atomic_add_fetch(ended, 1, __ATOMIC_RELEASE);
			wait_ms(3);
		}
		for (unsigned k = 0; k < 5; k++) {
			struct sosie_view_id id;

			release(&l, cut(&l, NULL), true, &id);
			one_more_write(ended);
			changed += !l.s->ops->unchanged(l.s, &id);
			must(&l, l.s->ops->drop(l.s, &id, &l.err), "drop");
		}
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		assert_int_equal(changed, 5);
		lab_down(&l);
	}
	munmap(ended, sizeof(*ended));
}

/* What was stamped is known to this process only: nothing is claimed that cannot be known. */
static void test_unchanged_after_restart(void **state)
{
	(void)state;
	NEED_MOUNTS();
	for (size_t i = 0; i < FLAVOURS; i++) {
		struct lab l;
		struct sosie_view_id id;
		bool held;

		lab_up(&l, &flavours[i], 1, 512);
		open_source(&l);
		assert_in_range(cuts_until_unchanged(&l, &id), 1, 2);
		l.s->ops->destroy(l.s);
		open_source(&l);
		must(&l, l.s->ops->settle(l.s, &id, 1, &held, &l.err), "settle");
		assert_true(held);
		assert_false(l.s->ops->unchanged(l.s, &id));
		assert_in_range(cuts_until_unchanged(&l, &id), 1, 2);
		lab_down(&l);
	}
}

/* --- labels ------------------------------------------------------------------------------------------------
 */

static void test_labels_by_volumes_and_pause(void **state)
{
	(void)state;
	NEED_MOUNTS();
	for (size_t i = 0; i < FLAVOURS; i++) {
		struct lab l;
		struct sosie_view_id id;
		struct sosie_view *view;

		lab_up(&l, &flavours[i], 2, 512);
		l.o.count = 1;
		open_source(&l);
		assert_int_equal(release(&l, cut(&l, NULL), false, NULL), SOSIE_CONSISTENCY_CRASH);
		l.s->ops->destroy(l.s);
		l.o.count = 2;
		open_source(&l);
		assert_int_equal(release(&l, cut(&l, NULL), false, NULL), SOSIE_CONSISTENCY_CRASH);
		l.s->ops->destroy(l.s);
		l.hooks = (struct sosie_hooks){.freeze = "true", .thaw = "true"};
		l.o.hooks = &l.hooks;
		open_source(&l);
		assert_int_equal(release(&l, cut(&l, NULL), true, &id), SOSIE_CONSISTENCY_APP);
		must(&l, l.s->ops->reopen(l.s, NULL, &id, &view, &l.err), "reopen");
		assert_int_equal(release(&l, view, false, NULL), SOSIE_CONSISTENCY_APP);
		l.s->ops->destroy(l.s);
		l.hooks.freeze = "sleep 0.2"; /* the limit of the pause is over when it is frozen */
		l.o.pause = (struct sosie_pause){.kind = SOSIE_PAUSE_COMMANDS, .limit_ms = 100};
		open_source(&l);
		assert_int_equal(l.s->ops->cut(l.s, NULL, &view, &l.err), -SOSIE_EHOOK);
		assert_int_equal(views_left(&l), 0);
		lab_down(&l);
	}
}

/* Numbers to two volumes in turn, each durable before the next. */
static _Noreturn void write_in_turn(struct lab *l, const struct order_map *map, uint64_t *ended)
{
	void *block = aligned_alloc(BLOCK, BLOCK);
	int fds[2] = {open(l->v[0].path, O_WRONLY | O_DIRECT | O_DSYNC),
	              open(l->v[1].path, O_WRONLY | O_DIRECT | O_DSYNC)};

	for (uint64_t n = 1; block && fds[0] >= 0 && fds[1] >= 0; n++) {
		order_block_make(block, map->seed, n);
		if (pwrite(fds[n % 2], block, BLOCK, (off_t)(order_slot(map, n) * BLOCK)) != BLOCK)
			break;
		__atomic_add_fetch(ended, 1, __ATOMIC_RELEASE);
	}
	_exit(1);
}

static bool judge(struct lab *l, struct sosie_view *view, const struct order_map *map, uint64_t *newest)
{
	struct order_verdict verdict;
	uint64_t *held[2], size;
	bool holds;

	for (unsigned v = 0; v < 2; v++) {
		size_t len;
		uint8_t *bytes = slurp(path_of(l, view, v, &size), &len);

		held[v] = calloc(map->slots, sizeof(uint64_t));
		for (uint64_t slot = 0; slot < map->slots; slot++)
			assert_true(order_block_read(bytes + slot * BLOCK, map->seed, &held[v][slot]));
		free(bytes);
	}
	holds = order_judge(map, false, held, &verdict);
	*newest = verdict.newest;
	free(held[0]);
	free(held[1]);
	return holds;
}

static void test_labels_under_a_writer_are_never_wrong(void **state)
{
	unsigned rounds = test_rounds(6, 25);
	uint64_t *ended = counter_up();

	(void)state;
	NEED_MOUNTS();
	for (size_t i = 0; i < FLAVOURS; i++) {
		unsigned labels[3] = {0, 0, 0}, broken = 0;
		struct order_map map;
		struct lab l;
		pid_t pid;

		lab_up(&l, &flavours[i], 2, 512);
		for (unsigned v = 0; v < 2; v++)
			assert_int_equal(truncate(l.v[v].path, 0) | truncate(l.v[v].path, VOLUME_BYTES), 0);
		order_map_init(&map, 4711 + i, VOLUME_BYTES / BLOCK);
		open_source(&l);
		pid = fork_writer();
		if (pid == 0)
			write_in_turn(&l, &map, ended);
		one_more_write(ended);
		for (unsigned k = 0; k < rounds; k++) {
			struct sosie_view *view = cut(&l, NULL);
			uint64_t newest = 0;
			bool holds = judge(&l, view, &map, &newest);
			enum sosie_consistency label = release(&l, view, false, NULL);

			labels[label]++;
			broken += !holds;
			assert_true(newest > 0);
			if (!holds && label != SOSIE_CONSISTENCY_FUZZY)
				print_message("  %s: seed %zu: not one instant, and labelled %d\n",
				              l.flavour->name, 4711 + i, (int)label);
			assert_true(holds || label == SOSIE_CONSISTENCY_FUZZY);
		}
		assert_int_equal(waitpid(pid, NULL, WNOHANG), 0); /* it wrote to the end */
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		print_message("  %s: %u crash, %u fuzzy, of those %u not one instant\n", l.flavour->name,
		              labels[SOSIE_CONSISTENCY_CRASH], labels[SOSIE_CONSISTENCY_FUZZY], broken);
		if (l.flavour->kind == SOSIE_SOURCE_BTRFS)
			assert_int_equal(labels[SOSIE_CONSISTENCY_CRASH], rounds);
		lab_down(&l);
	}
}

/* --- facts -------------------------------------------------------------------------------------------------
 */

static void test_facts_tell_extents_and_stalls(void **state)
{
	(void)state;
	NEED_MOUNTS();
	for (size_t i = 0; i < FLAVOURS; i++) {
		struct lab l;
		struct sosie_cut_facts before, after, again;
		struct sosie_view_id id;
		bool clones = flavours[i].kind == SOSIE_SOURCE_REFLINK;

		lab_up(&l, &flavours[i], 1, 512);
		assert_int_equal(mounted_run("sync -f %s", l.fs.dir), 0);
		open_source(&l);
		must(&l, l.s->ops->facts(l.s, &before, &l.err), "facts");
		assert_true(before.last_us == -1 && before.last_predicted_us == -1 && before.view_bytes == 0);
		assert_true(clones ? before.extents >= 400 : before.extents == 0);
		assert_int_equal(before.stall_us, clones ? (int64_t)before.extents * 15 : -1);
		release(&l, cut(&l, NULL), true, &id);
		must(&l, l.s->ops->facts(l.s, &after, &l.err), "facts");
		assert_true(after.last_us > 0 && after.stall_us > 0 && !after.growing);
		assert_int_equal(after.last_predicted_us, before.stall_us);
		assert_true(after.view_bytes > 0 && after.view_bytes <= VOLUME_BYTES);
		put_block(&l, 0, 0);
		release(&l, cut(&l, &id), true, &id);
		must(&l, l.s->ops->facts(l.s, &again, &l.err), "facts");
		assert_true(again.view_bytes < 1 << 20);
		print_message("  %s: %" PRIu64 " extents, predicted %" PRId64 " us, held %" PRId64 " us\n",
		              l.flavour->name, before.extents, again.last_predicted_us, again.last_us);
		l.s->ops->destroy(l.s);
		open_source(&l); /* a restart still knows what cuts cost */
		must(&l, l.s->ops->facts(l.s, &before, &l.err), "facts");
		assert_int_equal(before.stall_us, again.stall_us);
		lab_down(&l);
	}
}

/* A count is used again for what is asked at once, but no cut goes by the count of the one before it. */
static void test_extents_are_counted_for_each_cut(void **state)
{
	(void)state;
	NEED_MOUNTS();
	for (size_t i = 0; i < FLAVOURS; i++) {
		struct sosie_cut_facts before, after;
		struct lab l;

		if (flavours[i].kind != SOSIE_SOURCE_REFLINK)
			continue;
		lab_up(&l, &flavours[i], 1, 512);
		assert_int_equal(mounted_run("sync -f %s", l.fs.dir), 0);
		open_source(&l);
		release(&l, cut(&l, NULL), false, NULL);
		must(&l, l.s->ops->facts(l.s, &before, &l.err), "facts");
		for (uint64_t at = VOLUME_BYTES / 2; at < VOLUME_BYTES; at += 2 * BLOCK)
			put_block(&l, 0, at);
		assert_int_equal(mounted_run("sync -f %s", l.fs.dir), 0);
		release(&l, cut(&l, NULL), false, NULL);
		must(&l, l.s->ops->facts(l.s, &after, &l.err), "facts");
		assert_true(after.extents >= before.extents + 400);
		lab_down(&l);
	}
}

static void test_stalls_predict_and_see_growth(void **state)
{
	struct stalls s, loaded;
	char dir[] = "/tmp/sosie-stalls-XXXXXX", path[64];
	int fd;

	(void)state;
	stalls_init(&s);
	assert_int_equal(stalls_predict(&s, 0), -1);
	assert_int_equal(stalls_predict(&s, 100000), 1500000);
	for (unsigned i = 0; i < 12; i++) {
		stalls_note(&s, 10000, 0, 105000, 100000, 1); /* 10 us each, 5 ms on top */
		assert_false(stalls_growing(&s));
	}
	assert_int_equal(stalls_predict(&s, 20000), 205000);
	for (unsigned i = 0; i < 9; i++)
		stalls_note(&s, 20000 + i, 0, 205000, 200000, 1);
	assert_true(stalls_growing(&s));
	stalls_note(&s, 20100, 0, 605000, 600000,
	            3); /* three rounds at the same price: so will be the next */
	assert_in_range(stalls_predict(&s, 20000), 600000, 610000);
	assert_non_null(mkdtemp(dir));
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	stalls_save(&s, fd, "stalls", "~stalls");
	stalls_load(&loaded, fd, "stalls");
	assert_true(stalls_growing(&loaded));
	assert_int_equal(stalls_predict(&loaded, 20000), stalls_predict(&s, 20000));
	snprintf(path, sizeof(path), "%s/stalls", dir);
	assert_int_equal(truncate(path, 10), 0); /* damaged: as none */
	stalls_load(&loaded, fd, "stalls");
	assert_int_equal(stalls_predict(&loaded, 0), -1);
	close(fd);
	unlink(path);
	rmdir(dir);
}

/* Each round of clones holds the writers; under a pause there is one. */
static void test_facts_predict_the_sum_of_rounds(void **state)
{
	struct sosie_cut_facts facts;
	struct lab l;

	(void)state;
	NEED_MOUNTS();
	lab_up(&l, &flavours[0], 2, 512);
	assert_int_equal(mounted_run("sync -f %s", l.fs.dir), 0);
	open_source(&l);
	must(&l, l.s->ops->facts(l.s, &facts, &l.err), "facts");
	assert_int_equal(facts.stall_us, (int64_t)facts.extents * 15 * 2);
	release(&l, cut(&l, NULL), false, NULL);
	l.s->ops->destroy(l.s);
	mounted_run("rm %s/images/.sosie/*.stalls", l.fs.dir);
	l.hooks = (struct sosie_hooks){.freeze = "true", .thaw = "true"};
	l.o.hooks = &l.hooks;
	open_source(&l);
	must(&l, l.s->ops->facts(l.s, &facts, &l.err), "facts");
	assert_int_equal(facts.stall_us, (int64_t)facts.extents * 15);
	lab_down(&l);
}

/* --- a pause that cannot be trusted ------------------------------------------------------------------------
 */

/* Nobody is in the cgroup; who holds it first is another. */
static void test_pause_held_by_another_proves_nothing(void **state)
{
	unsigned fuzzy = 0, broken = 0;
	uint64_t *ended = counter_up();
	struct cgroup group;
	struct order_map map;
	struct lab l;
	bool possible;
	pid_t pid;

	(void)state;
	NEED_MOUNTS();
	lab_up(&l, &flavours[0], 2, 512);
	possible = cgroup_up(&group, "drivers");
	if (possible) {
		l.o.pause = (struct sosie_pause){.kind = SOSIE_PAUSE_CGROUP, .target = group.path};
		cgroup_put(&group, "cgroup.freeze", "1");
		for (unsigned v = 0; v < 2; v++)
			assert_int_equal(truncate(l.v[v].path, 0) | truncate(l.v[v].path, VOLUME_BYTES), 0);
		order_map_init(&map, 815, VOLUME_BYTES / BLOCK);
		open_source(&l);
		pid = fork_writer();
		if (pid == 0)
			write_in_turn(&l, &map, ended);
		one_more_write(ended);
		for (unsigned k = 0; k < 8; k++) {
			struct sosie_view *view = cut(&l, NULL);
			uint64_t newest = 0;
			bool holds = judge(&l, view, &map, &newest);
			enum sosie_consistency label = release(&l, view, false, NULL);

			fuzzy += label == SOSIE_CONSISTENCY_FUZZY;
			broken += !holds;
			assert_true(newest > 0 && (holds || label == SOSIE_CONSISTENCY_FUZZY));
		}
		assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		print_message("  %u of 8 fuzzy, %u not one instant\n", fuzzy, broken);
		assert_true(fuzzy > 0);
		assert_true(cgroup_says(&group, "cgroup.freeze", "1")); /* what was frozen stays so */
	}
	lab_down(&l);
	cgroup_down(&group);
	if (!possible)
		skip();
}

/* The clones take longer than the limit: no point, but the next prediction says so. A frozen filesystem holds
 * them until the guardian thaws, however fast the machine is. */
static void test_cut_that_overran_its_pause_is_learned_from(void **state)
{
	struct sosie_cut_facts facts = {.last_us = -1};
	struct sosie_view *view;
	char freeze[200], thaw[200];
	struct lab l;

	(void)state;
	NEED_MOUNTS();
	lab_up(&l, &flavours[0], 2, 512);
	snprintf(freeze, sizeof(freeze), "fsfreeze -f %s", l.fs.dir);
	snprintf(thaw, sizeof(thaw), "fsfreeze -u %s 2>/dev/null || true", l.fs.dir);
	l.hooks = (struct sosie_hooks){.freeze = freeze, .thaw = thaw};
	l.o.hooks = &l.hooks;
	l.o.pause.limit_ms = 500;
	assert_int_equal(mounted_run("sync -f %s", l.fs.dir), 0);
	open_source(&l);
	/* On a busy machine the freezing alone may take that long. */
	for (unsigned i = 0; i < 50 && facts.last_us < 0; i++) {
		assert_int_equal(l.s->ops->cut(l.s, NULL, &view, &l.err), -SOSIE_EHOOK);
		must(&l, l.s->ops->facts(l.s, &facts, &l.err), "facts");
	}
	line(&l);
	print_message("  %" PRIu64 " extents, held %" PRId64 " us, predicted next %" PRId64 " us\n",
	              facts.extents, facts.last_us, facts.stall_us);
	assert_non_null(strstr(l.err.what, "could be held for 500 ms only"));
	assert_true(facts.last_us >= 500000 && facts.cuts == 1);
	assert_true(facts.stall_us >= facts.last_us / 2 && facts.stall_us <= facts.last_us * 2);
	assert_int_equal(views_left(&l), 0);
	l.s->ops->destroy(l.s);
	l.hooks.freeze = l.hooks.thaw = "true";
	l.o.pause.limit_ms = 30000;
	open_source(&l);
	assert_int_equal(release(&l, cut(&l, NULL), false, NULL), SOSIE_CONSISTENCY_APP);
	lab_down(&l);
}

/* The clone, or the snapshot, fails, and the writers cannot be let go: that they may stand still is what is
 * told. The freeze command makes the first fail: a file without copy-on-write cannot be cloned to one with
 * it, and a folder that is gone takes no snapshot. */
static void test_let_go_that_failed_is_told_before_all_else(void **state)
{
	static const struct {
		size_t flavour;
		const char *freeze, *why;
	} cases[] = {{1, "truncate -s 0 images/v0.raw && chattr +C images/v0.raw", "cloning volume v0"},
	             {3, "rmdir .sosie", "cannot be snapshotted"}};

	(void)state;
	NEED_MOUNTS();
	for (size_t i = 0; i < 2 * sizeof(cases) / sizeof(cases[0]); i++) {
		const bool thaws = i % 2 == 0;
		struct sosie_view *view;
		struct lab l;
		char freeze[300];
		int rc;

		lab_up(&l, &flavours[cases[i / 2].flavour], 1, 512);
		snprintf(freeze, sizeof(freeze), "cd %s && %s", l.fs.dir, cases[i / 2].freeze);
		l.hooks = (struct sosie_hooks){
		        .freeze = freeze, .thaw = thaws ? "true" : "false", .freeze_limit_ms = 20000};
		l.o.hooks = &l.hooks;
		open_source(&l);
		rc = l.s->ops->cut(l.s, NULL, &view, &l.err);
		line(&l);
		assert_true(thaws ? rc != 0 : rc == -SOSIE_EHOOK);
		assert_non_null(strstr(l.err.what, thaws ? cases[i / 2].why : "the thaw command failed"));
		assert_true(thaws || strstr(l.err.action, "by hand, now") != NULL);
		lab_down(&l);
	}
}

/* --- what views hold
 * -----------------------------------------------------------------------------------------
 */

/* Something else stands where the base view's content should be, mounted over it. */
static void hide_base(struct lab *l, const struct sosie_view_id *id, bool hide)
{
	char store[200], at[300];
	const char *what = l->flavour->kind == SOSIE_SOURCE_BTRFS ? "" : ".v0";

	snprintf(at, sizeof(at), "%s/acme.erp.0123abcd.%s%s", store_of(l, store, sizeof(store)), id->s, what);
	if (!hide)
		assert_int_equal(mounted_run("umount %s && rm -r %s.other", at, l->fs.dir), 0);
	else if (what[0])
		assert_int_equal(
		        mounted_run("mkdir %s.other && mount -t tmpfs none %s.other && cp %s %s.other/f && "
		                    "mount --bind %s.other/f %s && umount -l %s.other",
		                    l->fs.dir, l->fs.dir, l->v[0].path, l->fs.dir, l->fs.dir, at, l->fs.dir),
		        0);
	else
		assert_int_equal(mounted_run("mkdir %s.other && mount -t tmpfs none %s && mkdir %s/images && "
		                             "cp %s %s/images/",
		                             l->fs.dir, at, at, l->v[0].path, at),
		                 0);
}

static void test_change_set_that_is_not_known_is_told(void **state)
{
	(void)state;
	NEED_MOUNTS();
	for (size_t i = 0; i < FLAVOURS; i++) {
		struct sosie_view_id a, gone = {"r0123456789abcde"};
		struct sosie_cut_facts facts;
		struct sosie_view *view;
		struct lab l;

		lab_up(&l, &flavours[i], 1, 512);
		open_source(&l);
		release(&l, cut(&l, NULL), true, &a);
		must(&l, l.s->ops->facts(l.s, &facts, &l.err), "facts");
		assert_string_equal(facts.untracked, ""); /* none was asked for */
		gone.s[0] = a.s[0];
		must(&l, l.s->ops->cut(l.s, &gone, &view, NULL),
		     "a cut whose base is gone, with no error asked for");
		release(&l, view, false, NULL);
		sosie_err_clear(&l.err);
		release(&l, cut(&l, &gone), false, NULL);
		assert_int_equal(l.err.code, SOSIE_OK);
		must(&l, l.s->ops->facts(l.s, &facts, &l.err), "facts");
		print_message("  %s: %s\n", l.flavour->name, facts.untracked);
		assert_non_null(strstr(facts.untracked, "is not there"));
		hide_base(&l, &a, true);
		view = cut(&l, &a);
		must(&l, l.s->ops->facts(l.s, &facts, &l.err), "facts");
		print_message("  %s: %s\n", l.flavour->name, facts.untracked);
		assert_true(facts.untracked[0] && !strstr(facts.untracked, "is not there"));
		assert_int_equal(walk(&l, view, 0), VOLUME_BYTES);
		release(&l, view, false, NULL);
		hide_base(&l, &a, false);
		view = cut(&l, &a);
		assert_int_equal(walk(&l, view, 0), 0);
		release(&l, view, false, NULL);
		must(&l, l.s->ops->facts(l.s, &facts, &l.err), "facts");
		assert_string_equal(facts.untracked, "");
		lab_down(&l);
	}
}

/* The kernel is asked behind a cut that came after a removal, and only there (test_cleaner.c has when). */
static void test_btrfs_asks_for_what_was_removed(void **state)
{
	struct sosie_view_id a, b;
	const struct tracked *t;
	struct lab l;

	(void)state;
	NEED_MOUNTS();
	lab_up(&l, &flavours[3], 1, 512);
	open_source(&l);
	t = (const struct tracked *)l.s;
	release(&l, cut(&l, NULL), true, &a);
	release(&l, cut(&l, &a), true, &b);
	assert_false(t->cleaner.started);
	must(&l, l.s->ops->drop(l.s, &a, &l.err), "drop");
	release(&l, cut(&l, &b), true, NULL);
	assert_true(t->cleaner.started);
	lab_down(&l);
}

/* Also what a volume has in a view that is not of the group any more. */
static void test_dropped_views_hold_nothing(void **state)
{
	(void)state;
	NEED_MOUNTS();
	for (size_t i = 0; i < FLAVOURS; i++) {
		struct sosie_view_id a, b;
		struct sosie_cut_facts facts;
		uint64_t behind;
		struct lab l;
		bool held;

		lab_up(&l, &flavours[i], 2, 512);
		open_source(&l);
		release(&l, cut(&l, NULL), true, &a);
		release(&l, cut(&l, &a), true, &b);
		must(&l, l.s->ops->drop(l.s, &a, &l.err), "drop");
		must(&l, l.s->ops->facts(l.s, &facts, &l.err), "facts");
		put_block(&l, 0, 0);
		must(&l, l.s->ops->backlog(l.s, &b, &behind, &l.err), "backlog");
		must(&l, l.s->ops->facts(l.s, &facts, &l.err), "facts");
		assert_true(facts.view_bytes > 0);
		must(&l, l.s->ops->drop(l.s, &b, &l.err), "drop");
		must(&l, l.s->ops->facts(l.s, &facts, &l.err), "facts");
		assert_int_equal(facts.view_bytes, 0);
		assert_int_equal(views_left(&l), 0);
		release(&l, cut(&l, NULL), true, &a);
		l.s->ops->destroy(l.s);
		l.o.count = 1;
		open_source(&l);
		must(&l, l.s->ops->settle(l.s, &a, 1, &held, &l.err), "settle");
		assert_true(held);
		must(&l, l.s->ops->drop(l.s, &a, &l.err), "drop");
		assert_int_equal(views_left(&l), 0);
		lab_down(&l);
	}
}

static uint64_t free_bytes(const struct lab *l)
{
	struct statfs fs;

	assert_int_equal(statfs(l->fs.dir, &fs), 0);
	return (uint64_t)fs.f_bfree * (uint64_t)fs.f_bsize;
}

/* Two volumes, written over since, while another reads both views; a third that is missing stands last. */
static void test_give_up_frees_space_of_views_that_are_open(void **state)
{
	(void)state;
	NEED_MOUNTS();
	for (size_t i = 0; i < FLAVOURS; i++) {
		struct sosie_volume given[3];
		struct sosie_source_options o;
		struct sosie_view *view;
		uint64_t size, before, after;
		struct lab l;
		int fds[2];

		lab_up(&l, &flavours[i], 2, 512);
		open_source(&l);
		for (unsigned v = 0; v < 2; v++)
			for (uint64_t at = 0; at < 4 * VOLUME_BYTES; at += BLOCK)
				put_block(&l, v, at);
		assert_int_equal(mounted_run("sync -f %s", l.fs.dir), 0);
		release(&l, cut(&l, NULL), true, NULL);
		view = cut(&l, NULL);
		for (unsigned v = 0; v < 2; v++) {
			fds[v] = open(path_of(&l, view, v, &size), O_RDONLY | O_CLOEXEC);
			assert_true(fds[v] >= 0);
			for (uint64_t at = 0; at < 4 * VOLUME_BYTES; at += BLOCK)
				put_block(&l, v, at);
		}
		assert_int_equal(mounted_run("sync -f %s", l.fs.dir), 0);
		before = free_bytes(&l);
		given[0] = l.v[0];
		given[1] = l.v[1];
		given[2] = l.v[1];
		snprintf(given[2].path, sizeof(given[2].path), "%s/images/missing", l.fs.dir);
		o = l.o;
		o.volumes = given;
		o.count = 3;
		must(&l, sosie_source_give_up(&o, &l.err), "give_up");
		after = free_bytes(&l);
		print_message("  %s: %" PRIu64 " KiB given back\n", l.flavour->name, (after - before) / 1024);
		assert_true(after >= before + 7 * VOLUME_BYTES);
		assert_int_equal(views_left(&l), 0);
		for (unsigned v = 0; v < 2; v++)
			close(fds[v]);
		(void)l.s->ops->release(view, false, &(enum sosie_consistency){0}, &l.err);
		lab_down(&l);
	}
}

/* --- backlog ----------------------------------------------------------------------------------------------
 */

static uint64_t backlog(struct lab *l, const struct sosie_view_id *id)
{
	struct sosie_cut_facts facts;
	uint64_t bytes;

	must(l, l->s->ops->backlog(l->s, id, &bytes, &l->err), "backlog");
	must(l, l->s->ops->facts(l->s, &facts, &l->err), "facts");
	assert_true(facts.view_bytes <= bytes &&
	            (facts.view_bytes > 0 || bytes == 0)); /* a hole holds nothing */
	return bytes;
}

static void backlog_grows(struct lab *l)
{
	struct sosie_view_id id, none = {""};
	uint64_t bytes, more;
	pid_t pid;

	open_source(l);
	release(l, cut(l, NULL), true, &id);
	assert_int_equal(backlog(l, &id), 0);
	for (unsigned i = 0; i < 3; i++)
		put_block(l, i % 2, (100 + 200 * i) * BLOCK);
	bytes = backlog(l, &id);
	print_message("  %s: 3 blocks: %" PRIu64 " bytes", l->flavour->name, bytes);
	assert_in_range(bytes, 3 * BLOCK, 256 * 1024);
	for (uint64_t at = VOLUME_BYTES / 2; at < VOLUME_BYTES; at += BLOCK)
		put_block(l, 1, at);
	more = backlog(l, &id);
	print_message(", 4 MiB more: %" PRIu64 "\n", more);
	assert_in_range(more, bytes + VOLUME_BYTES / 2 - BLOCK, bytes + VOLUME_BYTES / 2 + 256 * 1024);
	assert_int_equal(truncate(l->v[0].path, 2 * VOLUME_BYTES), 0);
	assert_true(backlog(l, &id) >= more + VOLUME_BYTES);
	pid = fork_writer();
	while (pid == 0)
		put_block(l, 0, next_random(&l->seed) % (2 * VOLUME_BYTES / BLOCK) * BLOCK);
	for (unsigned i = 0; i < 20; i++)
		assert_in_range(backlog(l, &id), more, 3 * VOLUME_BYTES);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	must(l, l->s->ops->drop(l->s, &id, &l->err), "drop");
	assert_int_equal(l->s->ops->backlog(l->s, &id, &bytes, &l->err), -SOSIE_ENOTFOUND);
	assert_int_equal(l->s->ops->backlog(l->s, &none, &bytes, &l->err), -SOSIE_ENOTFOUND);
}

static void test_backlog_is_what_differs_from_the_kept_view(void **state)
{
	(void)state;
	NEED_MOUNTS();
	for (size_t i = 0; i < FLAVOURS; i++) {
		struct lab l;

		lab_up(&l, &flavours[i], 2, 512);
		backlog_grows(&l);
		lab_down(&l);
	}
}

/* --- where it cannot be ------------------------------------------------------------------------------------
 */

static void fill(const struct lab *l)
{
	(void)mounted_run("dd if=/dev/zero of=%s/filler bs=64k 2>/dev/null; "
	                  "dd if=/dev/zero of=%s/filler2 bs=4k 2>/dev/null; sync -f %s; true",
	                  l->fs.dir, l->fs.dir, l->fs.dir);
}

/* Cuts on a full disk until one does not fit any more: told as such, nothing half made is left. */
static void test_no_space_is_told_and_cleaned_up(void **state)
{
	struct lab l;
	unsigned views = 0;
	int rc = 0;

	(void)state;
	NEED_MOUNTS();
	lab_up(&l, &flavours[0], 2, 320);
	open_source(&l);
	release(&l, cut(&l, NULL), true, NULL);
	views = views_left(&l);
	fill(&l);
	for (unsigned i = 0; rc == 0 && i < 3000; i++) {
		struct sosie_view *view;

		rc = l.s->ops->cut(l.s, NULL, &view, &l.err);
		if (rc != 0)
			break;
		release(&l, view, true, NULL);
		views += 2;
	}
	line(&l);
	assert_int_equal(rc, -SOSIE_ENOSPACE);
	assert_int_equal(views_left(&l), views);
	must(&l, l.s->ops->settle(l.s, NULL, 0, NULL, &l.err), "settle");
	assert_int_equal(views_left(&l), 0);
	lab_down(&l);
}

static void chosen(struct lab *l, enum sosie_source_kind kind, const char *driver, const char *reason)
{
	l->o.kind = kind;
	open_source(l);
	print_message("  %s: %s\n", l->flavour->mkfs, l->reason);
	assert_string_equal(l->s->ops->name, driver);
	assert_non_null(strstr(l->reason, reason));
	l->s->ops->destroy(l->s);
	l->s = NULL;
}

static void refused(struct lab *l, enum sosie_source_kind kind, int code)
{
	l->o.kind = kind;
	assert_int_equal(sosie_source_open(&l->o, &l->s, l->reason, sizeof(l->reason), &l->err), -code);
	assert_null(l->s);
	line(l);
}

/* As cuts of before would have told. */
static void grow_without_end(const struct lab *l)
{
	char path[200];
	struct stalls s;
	int fd = open(store_of(l, path, sizeof(path)), O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	assert_true(fd >= 0);
	stalls_init(&s);
	for (unsigned i = 0; i <= STALLS_GROWTH; i++)
		stalls_note(&s, 300 + i, 0, 300000, 300000, 1);
	stalls_save(&s, fd, "acme.erp.0123abcd.r.stalls", "~acme.erp.0123abcd.r.stalls");
	close(fd);
}

static void test_auto_takes_the_best_that_the_path_allows(void **state)
{
	static const struct flavour ext4 = {"ext4", "mkfs.ext4 -q", "", SOSIE_SOURCE_AUTO, false};
	struct lab l;
	char path[256];

	(void)state;
	NEED_MOUNTS();
	lab_up(&l, &ext4, 1, 128);
	chosen(&l, SOSIE_SOURCE_AUTO, "scan", "ext4 has no reflink");
	refused(&l, SOSIE_SOURCE_REFLINK, SOSIE_EUNSUPPORTED);
	refused(&l, SOSIE_SOURCE_BTRFS, SOSIE_EUNSUPPORTED);
	chosen(&l, SOSIE_SOURCE_SCAN, "scan", "asked for");
	assert_int_equal(views_left(&l), 0);
	lab_down(&l);

	lab_up(&l, &flavours[0], 2, 512);
	chosen(&l, SOSIE_SOURCE_AUTO, "reflink", "no file on btrfs");
	grow_without_end(&l);
	chosen(&l, SOSIE_SOURCE_AUTO, "reflink", "no file on btrfs");
	l.o.max_stall_us = 1000;
	chosen(&l, SOSIE_SOURCE_AUTO, "scan", "extents, growing");
	chosen(&l, SOSIE_SOURCE_REFLINK, "reflink", "asked for");
	l.hooks = (struct sosie_hooks){.view = "true"};
	l.o.hooks = &l.hooks;
	chosen(&l, SOSIE_SOURCE_AUTO, "scan", "view command");
	refused(&l, SOSIE_SOURCE_REFLINK, SOSIE_EUNSUPPORTED);
	l.o.hooks = NULL;
	assert_int_equal(mounted_run("chmod 755 %s/images/.sosie", l.fs.dir), 0);
	chosen(&l, SOSIE_SOURCE_AUTO, "scan", "not ours alone");
	refused(&l, SOSIE_SOURCE_REFLINK,
	        SOSIE_EUNSUPPORTED); /* with the place and the way out of the first */
	assert_non_null(strstr(l.err.where, "/images/.sosie"));
	assert_non_null(strstr(l.err.action, "mode 0700"));
	assert_int_equal(mounted_run("rm -r %s/images/.sosie && mount -o remount,ro %s", l.fs.dir, l.fs.dir),
	                 0);
	chosen(&l, SOSIE_SOURCE_AUTO, "scan", "Read-only");
	refused(&l, SOSIE_SOURCE_REFLINK, SOSIE_EUNSUPPORTED);
	assert_int_equal(mounted_run("mount -o remount,rw %s && rm %s", l.fs.dir, l.v[1].path), 0);
	refused(&l, SOSIE_SOURCE_AUTO, SOSIE_ENOTFOUND);
	lab_down(&l);

	lab_up(&l, &flavours[3], 2, 512);
	chosen(&l, SOSIE_SOURCE_AUTO, "btrfs", "subvolume 5");
	chosen(&l, SOSIE_SOURCE_REFLINK, "reflink", "asked for");
	assert_int_equal(mounted_run("btrfs subvolume create %s/sub && mv %s %s/sub/", l.fs.dir, l.v[1].path,
	                             l.fs.dir),
	                 0);
	snprintf(path, sizeof(path), "v1=%s/sub/v1.raw", l.fs.dir);
	assert_int_equal(sosie_volume_parse(path, &l.v[1], &l.err), 0);
	chosen(&l, SOSIE_SOURCE_AUTO, "reflink", "different subvolumes");
	refused(&l, SOSIE_SOURCE_BTRFS, SOSIE_EUNSUPPORTED);
	l.o.kind = SOSIE_SOURCE_AUTO; /* clones in two subvolumes, one label */
	open_source(&l);
	assert_int_equal(release(&l, cut(&l, NULL), false, NULL), SOSIE_CONSISTENCY_CRASH);
	lab_down(&l);
}

/* Groups with volumes in one folder, opened at the same instant: whoever comes second takes what is there. */
static void test_folder_of_views_made_by_several_at_once(void **state)
{
	(void)state;
	NEED_MOUNTS();
	for (size_t i = 0; i < 2; i++) {
		struct lab l;

		lab_up(&l, &flavours[i], 1, 512);
		for (unsigned round = 0; round < 10; round++) {
			pid_t pids[4];
			int status, go[2];
			char byte;

			assert_int_equal(pipe(go), 0);
			for (unsigned k = 0; k < 4; k++) {
				pids[k] = fork_writer();
				if (pids[k] != 0)
					continue;
				close(go[1]);
				l.o.tag = k % 2 ? "0123abcd" : "4567abcd";
				l.o.group = k / 2 ? "erp" : "crm";
				if (read(go[0], &byte, 1) != 0)
					_exit(2);
				if (sosie_source_open(&l.o, &l.s, l.reason, sizeof(l.reason), &l.err) != 0)
					line(&l);
				_exit(l.s ? 0 : 1);
			}
			close(go[0]);
			close(go[1]); /* all at once */
			for (unsigned k = 0; k < 4; k++) {
				assert_int_equal(waitpid(pids[k], &status, 0), pids[k]);
				assert_int_equal(status, 0);
			}
			assert_int_equal(
			        mounted_run("cd %s/images && rmdir .sosie && ! test -e .sosie~", l.fs.dir),
			        0);
		}
		lab_down(&l);
	}
}

/* Whoever made it died before it was ours alone. */
static void test_folder_of_views_left_half_made_is_used(void **state)
{
	struct lab l;

	(void)state;
	NEED_MOUNTS();
	lab_up(&l, &flavours[1], 1, 512);
	assert_int_equal(
	        mounted_run("cd %s/images && btrfs subvolume create .sosie~ && chmod 777 .sosie~", l.fs.dir),
	        0);
	open_source(&l);
	assert_int_equal(
	        mounted_run("cd %s/images && ! test -e .sosie~ && test $(stat -c %%a.%%i .sosie) = 700.256",
	                    l.fs.dir),
	        0);
	lab_down(&l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_views_kept_reopened_settled_and_dropped),
	        cmocka_unit_test(test_changes_match_a_byte_comparison),
	        cmocka_unit_test(test_killed_in_a_cut_leaves_what_settle_removes),
	        cmocka_unit_test(test_volume_added_has_no_base),
	        cmocka_unit_test(test_unchanged_until_any_kind_of_write),
	        cmocka_unit_test(test_unchanged_never_while_written),
	        cmocka_unit_test(test_unchanged_after_restart),
	        cmocka_unit_test(test_labels_by_volumes_and_pause),
	        cmocka_unit_test(test_labels_under_a_writer_are_never_wrong),
	        cmocka_unit_test(test_facts_tell_extents_and_stalls),
	        cmocka_unit_test(test_extents_are_counted_for_each_cut),
	        cmocka_unit_test(test_stalls_predict_and_see_growth),
	        cmocka_unit_test(test_facts_predict_the_sum_of_rounds),
	        cmocka_unit_test(test_pause_held_by_another_proves_nothing),
	        cmocka_unit_test(test_cut_that_overran_its_pause_is_learned_from),
	        cmocka_unit_test(test_let_go_that_failed_is_told_before_all_else),
	        cmocka_unit_test(test_change_set_that_is_not_known_is_told),
	        cmocka_unit_test(test_btrfs_asks_for_what_was_removed),
	        cmocka_unit_test(test_dropped_views_hold_nothing),
	        cmocka_unit_test(test_give_up_frees_space_of_views_that_are_open),
	        cmocka_unit_test(test_backlog_is_what_differs_from_the_kept_view),
	        cmocka_unit_test(test_folder_of_views_made_by_several_at_once),
	        cmocka_unit_test(test_folder_of_views_left_half_made_is_used),
	        cmocka_unit_test(test_no_space_is_told_and_cleaned_up),
	        cmocka_unit_test(test_auto_takes_the_best_that_the_path_allows),
	};

	impossible = mounted_possible("mkfs.xfs");
	if (!impossible)
		impossible = mounted_possible("mkfs.btrfs");
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/* One suite for all back ends: the same calls, the same results. */
#include "tests/unit/io/places.h"

#include "sosie/digest.h"

#define RW (SOSIE_READ | SOSIE_WRITE)
#define NEW (RW | SOSIE_CREATE | SOSIE_EXCL)

static void read_and_write(struct place *p)
{
	struct sosie_file *f;
	struct sosie_stat st;
	char b[100];
	size_t got;

	assert_int_equal(sosie_io_openat(p->io, in(p, "f"), RW, 0, &f, &error), -SOSIE_ENOTFOUND);
	assert_string_equal(error.where, in(p, "f"));
	OK(sosie_io_openat(p->io, in(p, "f"), NEW, 0600, &f, &error));
	OK(sosie_io_pwrite(p->io, f, "hello", 5, 9000, &error));
	OK(sosie_io_pwrite(p->io, f, NULL, 0, 20000, &error));
	OK(sosie_io_fstat(p->io, f, &st, &error));
	assert_true(st.size == 9005 && st.links == 1 && st.kind == SOSIE_KIND_FILE && st.mode == 0600);
	OK(sosie_io_pread(p->io, f, b, sizeof(b), 8998, &got, &error));
	assert_int_equal(got, 7);
	assert_memory_equal(b, "\0\0hello", 7);
	OK(sosie_io_pread(p->io, f, b, sizeof(b), 9005, &got, &error));
	assert_int_equal(got, 0);
	OK(sosie_io_pread(p->io, f, b, sizeof(b), 1ull << 40, &got, &error));
	assert_int_equal(got, 0);
	OK(sosie_io_truncate(p->io, f, 9002, &error));
	OK(sosie_io_truncate(p->io, f, 9100, &error));
	OK(sosie_io_pread(p->io, f, b, 100, 9000, &got, &error));
	assert_true(got == 100 && memcmp(b, "he", 2) == 0 && sosie_all_zero(b + 2, 98));
	OK(sosie_io_fsync(p->io, f, &error));
	OK(sosie_io_close(p->io, f, &error));
	assert_int_equal(sosie_io_openat(p->io, in(p, "f"), NEW, 0600, &f, &error), -SOSIE_EEXISTS);
	OK(sosie_io_openat(p->io, in(p, "f"), SOSIE_READ, 0, &f, &error));
	assert_true(sosie_io_pwrite(p->io, f, "x", 1, 0, &error) < 0);
	OK(sosie_io_close(p->io, f, &error));
	OK(sosie_io_openat(p->io, in(p, "f"), RW | SOSIE_TRUNC, 0, &f, &error));
	OK(sosie_io_fstat(p->io, f, &st, &error));
	assert_int_equal(st.size, 0);
	OK(sosie_io_close(p->io, f, &error));
	assert_int_equal(sosie_io_openat(p->io, p->dir, SOSIE_READ, 0, &f, &error), -SOSIE_ECONFIG);
	assert_int_equal(sosie_io_openat(p->io, p->dir, RW, 0, &f, &error), -SOSIE_ECONFIG);
}

struct flight {
	struct sosie_req req;
	struct flights *all;
};
struct flights {
	struct flight writes[64], sync;
	unsigned done, done_at_sync;
};

static void landed(struct sosie_req *req)
{
	struct flights *all = ((struct flight *)req)->all;

	assert_int_equal(req->sys, 0);
	if (req->op == SOSIE_OP_FSYNC)
		all->done_at_sync = all->done;
	else
		assert_int_equal(req->got, req->len);
	all->done++;
}

static void many_in_flight(struct place *p)
{
	static struct flights all;
	struct sosie_file *f;
	unsigned char *region = aligned_alloc(4096, 64 * 8192);
	unsigned reaped = 0;
	int n;

	memset(&all, 0, sizeof(all));
	OK(sosie_io_buffers(p->io, region, 64 * 8192, &error));
	OK(sosie_io_openat(p->io, in(p, "many"), NEW | SOSIE_DIRECT, 0600, &f, &error));
	for (unsigned i = 0; i < 64; i++) {
		memset(region + i * 8192, (int)i + 1, 8192);
		all.writes[i] = (struct flight){{.op = SOSIE_OP_WRITE,
		                                 .file = f,
		                                 .buf = region + i * 8192,
		                                 .len = 8192,
		                                 .offset = (uint64_t)i * 8192,
		                                 .done = landed},
		                                &all};
		sosie_io_submit(p->io, &all.writes[i].req);
		if (i == 31) {
			all.sync = (struct flight){{.op = SOSIE_OP_FSYNC, .file = f, .done = landed}, &all};
			sosie_io_submit(p->io, &all.sync.req);
		}
	}
	assert_int_equal(all.done, 0);
	while (reaped < 65) {
		OK(n = sosie_io_reap(p->io, 3, &error));
		assert_true(n >= 3 || reaped + (unsigned)n == 65);
		reaped += (unsigned)n;
	}
	assert_true(all.done == 65 && all.done_at_sync >= 32);
	OK(n = sosie_io_reap(p->io, 0, &error));
	assert_int_equal(n, 0);
	memset(region, 0, 64 * 8192);
	for (unsigned i = 0; i < 64; i++) {
		all.writes[i].req.op = SOSIE_OP_READ;
		sosie_io_submit(p->io, &all.writes[i].req);
	}
	OK(n = sosie_io_reap(p->io, 64, &error));
	assert_int_equal(n, 64);
	for (unsigned i = 0; i < 64 * 8192; i++)
		assert_int_equal(region[i], i / 8192 + 1);
	OK(sosie_io_close(p->io, f, &error));
	free(region);
}

/* A callback that submits the next and waits for a request of its own. */
struct chain {
	struct sosie_req req;
	struct sosie_io *io;
	char buf[16], other[16];
	unsigned left;
};

static void link_done(struct sosie_req *req)
{
	struct chain *c = (struct chain *)req;
	size_t got;

	assert_int_equal(req->sys, 0);
	OK(sosie_io_pread(c->io, req->file, c->other, 4, 0, &got, &error));
	assert_int_equal(got, 4);
	if (--c->left > 0)
		sosie_io_submit(c->io, req);
}

static void callbacks_submit_and_wait(struct place *p)
{
	struct chain c = {
	        .req = {.op = SOSIE_OP_READ, .len = 16, .done = link_done}, .io = p->io, .left = 20};

	OK(sosie_io_openat(p->io, in(p, "chain"), NEW, 0600, &c.req.file, &error));
	OK(sosie_io_pwrite(p->io, c.req.file, "0123456789abcdef", 16, 0, &error));
	c.req.buf = c.buf;
	sosie_io_submit(p->io, &c.req);
	for (unsigned i = 0; i < 100 && c.left > 0; i++)
		OK(sosie_io_reap(p->io, 1, &error));
	assert_int_equal(c.left, 0);
	assert_memory_equal(c.buf, "0123456789abcdef", 16);
	OK(sosie_io_close(p->io, c.req.file, &error));
}

/* Any shape of request on a direct file gives what a buffered one gives; the model is memory. */
static void direct_of_any_shape(struct place *p)
{
	enum { SIZE = 300000 };
	unsigned char *model = calloc(1, SIZE), *buf = aligned_alloc(4096, 1 << 17);
	uint64_t seed = 12345, size = 0;
	struct sosie_file *f;
	struct sosie_stat st;
	size_t got;

	OK(sosie_io_openat(p->io, in(p, "direct"), NEW | SOSIE_DIRECT, 0600, &f, &error));
	for (unsigned i = 0; i < 300; i++) {
		const bool aligned = next_random(&seed) & 1;
		uint64_t off = next_random(&seed) % 200000, len = next_random(&seed) % 60000 + 1;
		unsigned char *at = buf + (aligned ? 0 : next_random(&seed) % 100);
		if (aligned) {
			off &= ~4095ull;
			len = (len + 4095) & ~4095ull;
		}
		if (next_random(&seed) % 2) {
			fill_random(&seed, at, (size_t)len);
			memcpy(model + off, at, (size_t)len);
			OK(sosie_io_pwrite(p->io, f, at, (size_t)len, off, &error));
			size = off + len > size ? off + len : size;
		} else {
			OK(sosie_io_pread(p->io, f, at, (size_t)len, off, &got, &error));
			assert_int_equal(got, off >= size ? 0 : size - off < len ? size - off : len);
			assert_memory_equal(at, model + off, got);
		}
	}
	OK(sosie_io_fstat(p->io, f, &st, &error));
	assert_true(st.size == size && st.align >= 1);
	OK(sosie_io_close(p->io, f, &error));
	free(model);
	free(buf);
}

static void punch_and_copy(struct place *p)
{
	enum { SIZE = 5 * 1048576 + 777 };
	unsigned char *model = calloc(1, SIZE), *b = malloc(SIZE + 1);
	struct sosie_file *src, *dst;
	struct sosie_stat st;
	uint64_t seed = 99, start, end, data = 0;
	bool cloned;
	size_t got;

	OK(sosie_io_openat(p->io, in(p, "src"), NEW, 0600, &src, &error));
	fill_random(&seed, model + 8192, 300000);
	fill_random(&seed, model + SIZE - 5000, 5000);
	OK(sosie_io_pwrite(p->io, src, model + 8192, 300000, 8192, &error));
	OK(sosie_io_pwrite(p->io, src, model + SIZE - 5000, 5000, SIZE - 5000, &error));
	memset(model + 20001, 0, 100000);
	OK(sosie_io_punch(p->io, src, 20001, 100000, &error));
	memset(model + 5 * 1048576 + 100, 0, 677);
	OK(sosie_io_punch(p->io, src, 5 * 1048576 + 100, 1 << 30, &error));
	OK(sosie_io_punch(p->io, src, 1 << 30, 5, &error));
	OK(sosie_io_punch(p->io, src, 10, 20, &error));
	OK(sosie_io_openat(p->io, in(p, "dst"), NEW, 0600, &dst, &error));
	OK(sosie_io_pwrite(p->io, dst, model + 8192, 100000, SIZE, &error));
	OK(sosie_io_copy(p->io, src, dst, &cloned, NULL, &error));
	OK(sosie_io_fstat(p->io, dst, &st, &error));
	assert_int_equal(st.size, SIZE);
	assert_true(st.allocated < 600000);
	OK(sosie_io_pread(p->io, dst, b, SIZE + 1, 0, &got, &error));
	assert_int_equal(got, SIZE);
	assert_memory_equal(b, model, SIZE);
	for (uint64_t at = 0; at < SIZE; at = end) {
		OK(sosie_io_next_data(p->io, dst, at, &start, &end, &error));
		assert_true(sosie_all_zero(model + at, (size_t)(start - at)));
		data += end - start;
	}
	assert_true(data > 0 && data < 600000);
	OK(sosie_io_next_data(p->io, dst, SIZE + 5, &start, &end, &error));
	assert_true(start == SIZE && end == SIZE);
	OK(sosie_io_close(p->io, src, &error));
	OK(sosie_io_close(p->io, dst, &error));
	free(model);
	free(b);
}

static int count_names(void *arg, const char *name, enum sosie_file_kind kind)
{
	unsigned *n = arg;

	assert_true(name[0] != '.');
	n[kind]++;
	return 0;
}

static void names(struct place *p)
{
	unsigned n[4] = {0};
	struct sosie_stat st;
	uint64_t available, total;

	OK(sosie_io_mkdir(p->io, in(p, "d"), 0700, &error));
	assert_int_equal(sosie_io_mkdir(p->io, in(p, "d"), 0700, &error), -SOSIE_EEXISTS);
	OK(sosie_io_ensure_dir(p->io, in(p, "d"), 0700, &error));
	OK(sosie_io_ensure_dir(p->io, in(p, "d/e"), 0751, &error));
	OK(sosie_io_stat(p->io, in(p, "d/e"), &st, &error));
	assert_true(st.mode == 0751 && st.kind == SOSIE_KIND_DIR);
	OK(sosie_io_write_file(p->io, in(p, "d/a"), "one", 3, 0644, &error));
	OK(sosie_io_write_file(p->io, in(p, "d/b"), "two", 3, 0600, &error));
	OK(sosie_io_chmod(p->io, in(p, "d/b"), 0640, &error));
	OK(sosie_io_list(p->io, in(p, "d"), count_names, n, &error));
	assert_true(n[SOSIE_KIND_FILE] == 2 && n[SOSIE_KIND_DIR] == 1);
	OK(sosie_io_rename(p->io, in(p, "d/b"), in(p, "d/a"), &error));
	OK(sosie_io_sync_dir(p->io, in(p, "d"), &error));
	assert_false(sosie_io_exists(p->io, in(p, "d/b")));
	OK(sosie_io_stat(p->io, in(p, "d/a"), &st, &error));
	assert_int_equal(st.mode, 0640);
	assert_int_equal(sosie_io_rename(p->io, in(p, "none"), in(p, "x"), &error), -SOSIE_ENOTFOUND);
	assert_int_equal(sosie_io_unlink(p->io, in(p, "none"), &error), -SOSIE_ENOTFOUND);
	assert_int_equal(sosie_io_rmdir(p->io, in(p, "d"), &error), -SOSIE_EIO);
	assert_int_equal(sosie_io_rename(p->io, in(p, "d"), in(p, "d/e/x"), &error), -SOSIE_EIO);
	assert_int_equal(sosie_io_mkdir(p->io, in(p, "none/x"), 0700, &error), -SOSIE_ENOTFOUND);
	OK(sosie_io_space(p->io, p->dir, &available, &total, &error));
	assert_true(available > 0 && available <= total);
	OK(sosie_io_remove_tree(p->io, in(p, "d"), &error));
	OK(sosie_io_remove_tree(p->io, in(p, "d"), &error));
	assert_false(sosie_io_exists(p->io, in(p, "d")));
}

static void whole_files(struct place *p)
{
	char *text;
	size_t len;

	OK(sosie_io_write_file(p->io, in(p, "w"), "", 0, 0600, &error));
	OK(sosie_io_read_file(p->io, in(p, "w"), 0, &text, &len, &error));
	assert_true(len == 0 && text[0] == '\0');
	free(text);
	OK(sosie_io_write_file(p->io, in(p, "w.tmp"), "left by a crash", 15, 0600, &error));
	OK(sosie_io_write_file(p->io, in(p, "w"), "0123456789", 10, 0600, &error));
	assert_false(sosie_io_exists(p->io, in(p, "w.tmp")));
	OK(sosie_io_read_file(p->io, in(p, "w"), 10, &text, &len, &error));
	assert_string_equal(text, "0123456789");
	free(text);
	assert_int_equal(sosie_io_read_file(p->io, in(p, "w"), 9, &text, &len, &error), -SOSIE_ECORRUPT);
	assert_null(text);
	assert_int_equal(sosie_io_read_file(p->io, in(p, "no"), 9, &text, &len, &error), -SOSIE_ENOTFOUND);
}

static void locks(struct place *p)
{
	struct sosie_io *second = place_io(p);
	struct sosie_file *a, *b;

	OK(sosie_io_openat(p->io, in(p, "lock"), NEW, 0600, &a, &error));
	OK(sosie_io_openat(second, in(p, "lock"), RW, 0600, &b, &error));
	OK(sosie_io_lock(p->io, a, false, &error));
	OK(sosie_io_lock(second, b, false, &error));
	assert_int_equal(sosie_io_lock(second, b, true, &error), -SOSIE_EBUSY);
	OK(sosie_io_lock(p->io, a, true, &error));
	assert_int_equal(sosie_io_lock(second, b, false, &error), -SOSIE_EBUSY);
	OK(sosie_io_close(p->io, a, &error));
	OK(sosie_io_lock(second, b, true, &error));
	OK(sosie_io_close(second, b, &error));
	sosie_io_free(second);
}

static void run_on_all(void (*check)(struct place *p))
{
	unsigned ran = 0;

	for (int kind = 0; kind < PLACE_COUNT; kind++) {
		struct place p;
		place_open(&p, (enum place_kind)kind);
		print_message("         on %s\n", p.io->ops->name);
		check(&p);
		place_close(&p);
		ran++;
	}
	assert_int_equal(ran, PLACE_COUNT);
}

#define SUITE(name)                                                                                          \
	static void test_io_##name##_same_on_all_back_ends(void **state)                                     \
	{                                                                                                    \
		(void)state;                                                                                 \
		run_on_all(name);                                                                            \
	}
SUITE(read_and_write)
SUITE(many_in_flight)
SUITE(callbacks_submit_and_wait)
SUITE(direct_of_any_shape)
SUITE(punch_and_copy)
SUITE(names)
SUITE(whole_files)
SUITE(locks)

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_io_read_and_write_same_on_all_back_ends),
	        cmocka_unit_test(test_io_many_in_flight_same_on_all_back_ends),
	        cmocka_unit_test(test_io_callbacks_submit_and_wait_same_on_all_back_ends),
	        cmocka_unit_test(test_io_direct_of_any_shape_same_on_all_back_ends),
	        cmocka_unit_test(test_io_punch_and_copy_same_on_all_back_ends),
	        cmocka_unit_test(test_io_names_same_on_all_back_ends),
	        cmocka_unit_test(test_io_whole_files_same_on_all_back_ends),
	        cmocka_unit_test(test_io_locks_same_on_all_back_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

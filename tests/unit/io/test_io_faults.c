/* SPDX-License-Identifier: MIT */
/* The fault filter, and what the kernel itself refuses: short writes, links, FIFOs. */
#include "tests/unit/io/places.h"

#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define RW (SOSIE_READ | SOSIE_WRITE)

static int write_and_copy(struct place *p)
{
	struct sosie_file *src = NULL, *dst = NULL;
	bool cloned;
	int rc = sosie_io_write_file(p->io, in(p, "f"), "new", 3, 0600, &error);

	if (rc == 0)
		rc = sosie_io_openat(p->io, in(p, "f"), SOSIE_READ, 0, &src, &error);
	if (rc == 0)
		rc = sosie_io_openat(p->io, in(p, "g"), RW | SOSIE_CREATE, 0600, &dst, &error);
	if (rc == 0)
		rc = sosie_io_copy(p->io, src, dst, &cloned, NULL, &error);
	int closed = sosie_io_close(p->io, dst, rc == 0 ? &error : NULL);
	rc = rc == 0 ? closed : rc;
	closed = sosie_io_close(p->io, src, rc == 0 ? &error : NULL);
	return rc == 0 ? closed : rc;
}

/* f is the old or the new one whole, whatever fails; the sweep ends with the run that no fault hit. */
static void sweep(bool onwards, int sys, enum sosie_code code)
{
	struct place p;
	uint64_t at, fired = 1;

	place_open(&p, PLACE_FAULT);
	for (at = 0; fired > 0; at++) {
		char *text;
		size_t len;
		p.plan = (struct sosie_fault_plan){0};
		OK(sosie_io_write_file(p.io, in(&p, "f"), "old", 3, 0600, &error));
		p.plan = (struct sosie_fault_plan){
		        .kind = SOSIE_FAULT_ERROR, .at = at, .onwards = onwards, .sys = sys};
		int rc = write_and_copy(&p);
		fired = p.plan.fired;
		assert_true(onwards || fired <= 1);
		if (fired == 0)
			assert_int_equal(rc, 0);
		else if (rc != 0)
			assert_int_equal(rc, -(int)code);
		p.plan.kind = SOSIE_FAULT_NONE;
		OK(sosie_io_read_file(p.io, in(&p, "f"), 3, &text, &len, &error));
		assert_true(strcmp(text, "new") == 0 || (rc != 0 && strcmp(text, "old") == 0));
		free(text);
		assert_true(at < 200);
	}
	assert_true(at > 12);
	place_close(&p);
}

static void test_fault_sweep_file_is_old_or_new(void **state)
{
	(void)state;
	sweep(false, EIO, SOSIE_EIO);
	sweep(true, ENOSPC, SOSIE_ENOSPACE);
}

static void test_fault_short_and_corrupt_hit_the_request(void **state)
{
	char out[8192], b[8192];
	struct sosie_file *f;
	struct place p;
	size_t got;

	(void)state;
	memset(out, 7, sizeof(out));
	place_open(&p, PLACE_FAULT);
	OK(sosie_io_openat(p.io, in(&p, "f"), RW | SOSIE_CREATE, 0600, &f, &error));
	p.plan = (struct sosie_fault_plan){.kind = SOSIE_FAULT_SHORT};
	assert_int_equal(sosie_io_pwrite(p.io, f, out, sizeof(out), 0, &error), -SOSIE_ENOSPACE);
	OK(sosie_io_pread(p.io, f, b, sizeof(b), 0, &got, &error));
	assert_true(got == 4096 && p.plan.fired == 1 && p.plan.calls == 2);
	p.plan.at = 2;
	OK(sosie_io_pread(p.io, f, b, 4096, 0, &got, &error));
	assert_int_equal(got, 2048);
	p.plan = (struct sosie_fault_plan){.kind = SOSIE_FAULT_CORRUPT, .at = 1};
	OK(sosie_io_pread(p.io, f, b, 4096, 0, &got, &error));
	assert_memory_equal(b, out, 4096);
	OK(sosie_io_pread(p.io, f, b, 4096, 0, &got, &error));
	assert_memory_not_equal(b, out, 4096);
	p.plan = (struct sosie_fault_plan){.kind = SOSIE_FAULT_CORRUPT};
	OK(sosie_io_pwrite(p.io, f, out, 4096, 0, &error));
	OK(sosie_io_pread(p.io, f, b, 4096, 0, &got, &error));
	assert_memory_not_equal(b, out, 4096);
	assert_int_equal(out[2048], 7);
	OK(sosie_io_close(p.io, f, &error));
	place_close(&p);
}

/* A write that crosses the limit comes back short, and its rest is refused: exit code 0 when told as EFBIG.
 */
static int write_over_limit(enum place_kind kind, const char *path)
{
	static char data[100000];
	struct place p = {.kind = kind};
	struct sosie_file *f;
	struct sosie_stat st;
	const struct rlimit limit = {50001, 50001};

	p.io = place_io(&p);
	signal(SIGXFSZ, SIG_IGN);
	if (setrlimit(RLIMIT_FSIZE, &limit) != 0 ||
	    sosie_io_openat(p.io, path, RW | SOSIE_CREATE | SOSIE_TRUNC, 0600, &f, &error) != 0)
		return 1;
	if (sosie_io_pwrite(p.io, f, data, sizeof(data), 0, &error) != -SOSIE_ESIZE || error.sys != EFBIG)
		return 2;
	if (sosie_io_fstat(p.io, f, &st, &error) != 0 || st.size != 50001)
		return 3;
	if (sosie_io_close(p.io, f, &error) != 0)
		return 4;
	sosie_io_free(p.io);
	return 0;
}

static void test_write_cut_short_by_limit_is_an_error(void **state)
{
	static const enum place_kind kinds[] = {PLACE_POSIX, PLACE_URING, PLACE_THREADS};
	struct place p;

	(void)state;
	place_open(&p, PLACE_POSIX);
	for (unsigned i = 0; i < 3; i++) {
		int status = -1;
		pid_t pid = fork();
		if (pid == 0)
			_exit(write_over_limit(kinds[i], in(&p, "limited")));
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), 0);
	}
	place_close(&p);
}

static void test_open_links_and_fifos_are_refused(void **state)
{
	struct sosie_file *f;
	struct sosie_stat st;
	struct place p;
	char *text;
	size_t len;

	(void)state;
	place_open(&p, PLACE_POSIX);
	OK(sosie_io_write_file(p.io, in(&p, "real"), "x", 1, 0600, &error));
	assert_int_equal(symlink(in(&p, "real"), in(&p, "link")), 0);
	assert_int_equal(sosie_io_openat(p.io, in(&p, "link"), SOSIE_READ, 0, &f, &error), -SOSIE_ECONFIG);
	assert_int_equal(sosie_io_openat(p.io, in(&p, "link"), RW | SOSIE_CREATE, 0600, &f, &error),
	                 -SOSIE_ECONFIG);
	assert_true(sosie_io_chmod(p.io, in(&p, "link"), 0777, &error) < 0);
	OK(sosie_io_openat(p.io, in(&p, "link"), SOSIE_READ | SOSIE_FOLLOW, 0, &f, &error));
	OK(sosie_io_close(p.io, f, &error));
	OK(sosie_io_stat(p.io, in(&p, "link"), &st, &error));
	assert_int_equal(st.kind, SOSIE_KIND_OTHER);
	assert_int_equal(mkfifo(in(&p, "fifo"), 0600), 0);
	assert_int_equal(sosie_io_openat(p.io, in(&p, "fifo"), SOSIE_READ, 0, &f, &error), -SOSIE_ECONFIG);
	assert_int_equal(sosie_io_openat(p.io, in(&p, "fifo"), SOSIE_WRITE, 0, &f, &error), -SOSIE_ECONFIG);
	assert_int_equal(sosie_io_openat(p.io, "/dev/null", RW | SOSIE_DEVICE, 0, &f, &error),
	                 -SOSIE_ECONFIG);
	assert_int_equal(link(in(&p, "real"), in(&p, "second")), 0);
	assert_int_equal(sosie_io_read_file(p.io, in(&p, "real"), 9, &text, &len, &error), -SOSIE_ECORRUPT);
	place_close(&p);
}

static void test_open_chosen_by_environment(void **state)
{
	struct sosie_io *io;
	char reason[100];

	(void)state;
	setenv("SOSIE_IO", "threads", 1);
	OK(sosie_io_open(8, &io, reason, sizeof(reason), &error));
	assert_string_equal(io->ops->name, "threads");
	assert_string_equal(reason, "threads: SOSIE_IO");
	sosie_io_free(io);
	setenv("SOSIE_IO", "tape", 1);
	assert_int_equal(sosie_io_open(8, &io, NULL, 0, &error), -SOSIE_ECONFIG);
	unsetenv("SOSIE_IO");
	OK(sosie_io_open(8, &io, reason, sizeof(reason), &error));
	assert_true(strncmp(reason, "io_uring", 8) == 0 || strncmp(reason, "threads: ", 9) == 0);
	sosie_io_free(io);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_fault_sweep_file_is_old_or_new),
	        cmocka_unit_test(test_fault_short_and_corrupt_hit_the_request),
	        cmocka_unit_test(test_write_cut_short_by_limit_is_an_error),
	        cmocka_unit_test(test_open_links_and_fifos_are_refused),
	        cmocka_unit_test(test_open_chosen_by_environment),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

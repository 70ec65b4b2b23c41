/* SPDX-License-Identifier: MIT */
/* After the wish to stop, reads and writes end with ECANCELED from reap, never from submit; all else goes on.
 * Links tools/common/stop*.c. */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tools/common/stop.c"
#include "tools/common/stop_io.c"

struct place {
	struct sosie_disk *disk;
	struct sosie_io *sim, *io;
};

static void start(struct place *p)
{
	struct sosie_err err;

	wanted = false;
	stop_install();
	p->disk = sosie_disk_new(1u << 20, 1, false);
	assert_int_equal(sosie_io_sim(p->disk, &p->sim, &err), 0);
	assert_int_equal(stop_io(p->sim, &p->io, &err), 0);
}

static void end(struct place *p)
{
	sosie_io_free(p->io);
	sosie_io_free(p->sim);
	sosie_disk_free(p->disk);
}

static unsigned completions;

static void on_done(struct sosie_req *req)
{
	(void)req;
	completions++;
}

static void test_stop_reads_and_writes_end_everything_else_goes_on(void **state)
{
	struct sosie_file *file;
	struct sosie_err err;
	struct place p;
	char byte = 'x';
	size_t got;

	(void)state;
	start(&p);
	assert_int_equal(
	        sosie_io_openat(p.io, "/a", SOSIE_READ | SOSIE_WRITE | SOSIE_CREATE, 0600, &file, &err), 0);
	assert_int_equal(sosie_io_pwrite(p.io, file, &byte, 1, 0, &err), 0);
	assert_false(stop_wanted());
	raise(SIGINT);
	assert_true(stop_wanted());
	assert_true(*stop_flag());
	assert_true(sosie_io_pwrite(p.io, file, &byte, 1, 1, &err) < 0);
	assert_int_equal(err.sys, ECANCELED);
	assert_true(sosie_io_pread(p.io, file, &byte, 1, 0, &got, &err) < 0);
	assert_int_equal(sosie_io_fsync(p.io, file, &err), 0);
	assert_int_equal(sosie_io_close(p.io, file, &err), 0);
	assert_int_equal(sosie_io_rename(p.io, "/a", "/b", &err), 0);
	assert_int_equal(sosie_io_unlink(p.io, "/b", &err), 0);
	end(&p);
}

static void test_stop_refused_request_completes_in_reap(void **state)
{
	struct sosie_req req = {.op = SOSIE_OP_READ, .done = on_done};
	struct sosie_file *file;
	struct sosie_err err;
	struct place p;
	char byte;

	(void)state;
	start(&p);
	completions = 0;
	assert_int_equal(
	        sosie_io_openat(p.io, "/a", SOSIE_READ | SOSIE_WRITE | SOSIE_CREATE, 0600, &file, &err), 0);
	req.file = file;
	req.buf = &byte;
	req.len = 1;
	raise(SIGTERM);
	sosie_io_submit(p.io, &req);
	assert_int_equal(completions, 0);
	assert_int_equal(sosie_io_reap(p.io, 1, &err), 1);
	assert_int_equal(completions, 1);
	assert_int_equal(req.sys, ECANCELED);
	assert_int_equal(sosie_io_close(p.io, file, &err), 0);
	end(&p);
}

static void test_stop_second_signal_is_the_default(void **state)
{
	struct sigaction now;

	(void)state;
	wanted = false;
	stop_install();
	raise(SIGINT);
	assert_int_equal(sigaction(SIGINT, NULL, &now), 0);
	assert_true(now.sa_handler == SIG_DFL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_stop_reads_and_writes_end_everything_else_goes_on),
	        cmocka_unit_test(test_stop_refused_request_completes_in_reap),
	        cmocka_unit_test(test_stop_second_signal_is_the_default),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

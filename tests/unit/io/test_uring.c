/* SPDX-License-Identifier: MIT */
/* What the ring does when the kernel does not answer. Includes engine/io/uring.c, with its waiting in hand.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>
#include <liburing.h>

static unsigned waits, silent; /* so many waits end in time without an answer */

static int wait_in_hand(struct io_uring *ring, struct io_uring_cqe **cqe, unsigned wait,
                        struct __kernel_timespec *ts, sigset_t *mask)
{
	waits++;
	if (silent == 0)
		return io_uring_submit_and_wait_timeout(ring, cqe, wait, ts, mask);
	silent--;
	io_uring_submit(ring);
	return -ETIME;
}

#define io_uring_submit_and_wait_timeout wait_in_hand
#include "engine/io/uring.c"

#define READS 3u

static unsigned answered;

static void landed(struct sosie_req *req)
{
	answered += req->sys == 0 && req->got == req->len;
}

/* Silence is no error; an empty request goes out, once, comes back and is nobody's. */
static void test_uring_kernel_is_silent_is_kicked_and_goes_on(void **state)
{
	char path[] = "/tmp/sosie-uring-XXXXXX", block[4096] = "here", into[READS][4096];
	struct sosie_err err = {0};
	struct sosie_req reqs[READS];
	struct sosie_file *file;
	struct sosie_io *io;
	int fd = mkstemp(path);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(write(fd, block, sizeof(block)), sizeof(block));
	close(fd);
	if (sosie_io_uring(4, &io, &err) != 0) {
		unlink(path);
		print_message("%s\n", err.what);
		skip();
	}
	assert_int_equal(sosie_io_openat(io, path, SOSIE_READ, 0, &file, &err), 0);
	for (unsigned round = 0; round < 3; round++) {
		struct uring_io *u = as_uring(io);
		bool was_kicked = false;

		answered = 0;
		silent = round;
		for (unsigned i = 0; i < READS; i++) {
			reqs[i] = (struct sosie_req){.op = SOSIE_OP_READ,
			                             .file = file,
			                             .buf = into[i],
			                             .len = sizeof(into[i]),
			                             .done = landed};
			sosie_io_submit(io, &reqs[i]);
		}
		while (answered < READS) {
			/* By hand, as reap would when nothing comes. */
			if (silent > 0) {
				assert_int_equal(give(u, 1, &err), 0);
				assert_true(u->kicked);
				was_kicked = true;
			}
			assert_true(sosie_io_reap(io, 1, &err) >= 0);
		}
		assert_int_equal(was_kicked, round > 0);
		assert_int_equal(u->in_ring, 0);
		while (u->kicked)
			take_completions(u);
		for (unsigned i = 0; i < READS; i++)
			assert_memory_equal(into[i], block, sizeof(block));
	}
	assert_true(waits > 0);
	assert_int_equal(sosie_io_close(io, file, &err), 0);
	sosie_io_free(io);
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_uring_kernel_is_silent_is_kicked_and_goes_on)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/* When the kernel is asked to give removed snapshots back: ioctl(2) is ours here, and counts. */
#include <fcntl.h>
#include <linux/btrfs.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/source/cleaner.h"
#include "sosie/clock.h"

#define SECOND 1000000000ll
#define LATER (int64_t)(sosie_clock_ns(CLOCK_MONOTONIC) + 3600 * SECOND)

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned asked, waited;
static int open_fds; /* of what was asked last, while it ran */
static bool held, no_info;
static uint8_t filesystem;

static void nap(void)
{
	const struct timespec ts = {.tv_nsec = 2000000};

	nanosleep(&ts, NULL);
}

int ioctl(int fd, unsigned long request, ...)
{
	struct btrfs_ioctl_fs_info_args *info;
	bool wait = true;
	va_list ap;

	va_start(ap, request);
	info = va_arg(ap, void *);
	va_end(ap);
	if (request == BTRFS_IOC_FS_INFO) {
		memset(info->fsid, filesystem, sizeof(info->fsid));
		return no_info ? -1 : 0;
	}
	if (request == BTRFS_IOC_START_SYNC)
		*(uint64_t *)(void *)info = 7;
	else if (request != BTRFS_IOC_WAIT_SYNC || *(uint64_t *)(void *)info != 7)
		return -1;
	if (request == BTRFS_IOC_WAIT_SYNC) {
		pthread_mutex_lock(&lock);
		waited++;
		pthread_mutex_unlock(&lock);
		return 0;
	}
	pthread_mutex_lock(&lock);
	asked++;
	open_fds = fcntl(fd, F_GETFD);
	pthread_mutex_unlock(&lock);
	while (wait) {
		pthread_mutex_lock(&lock);
		wait = held;
		pthread_mutex_unlock(&lock);
		if (wait)
			nap();
	}
	return 0;
}

static void hold(bool on)
{
	pthread_mutex_lock(&lock);
	held = on;
	pthread_mutex_unlock(&lock);
}

static unsigned count(void)
{
	unsigned n;

	pthread_mutex_lock(&lock);
	n = asked;
	pthread_mutex_unlock(&lock);
	return n;
}

static int top;

/* A filesystem that no test before has used. */
static int setup(void **state)
{
	(void)state;
	filesystem++;
	asked = waited = 0;
	open_fds = -1;
	held = no_info = false;
	top = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return top >= 0 ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	return close(top);
}

static void test_cleaner_nothing_removed_asks_nothing(void **state)
{
	struct cleaner c = {0};

	(void)state;
	assert_false(cleaner_after_cut(&c, top, LATER));
	cleaner_end(&c);
	assert_int_equal(count(), 0);
}

static void test_cleaner_asks_once_for_what_was_removed(void **state)
{
	struct cleaner c = {.removed = true};

	(void)state;
	assert_true(cleaner_after_cut(&c, top, LATER));
	assert_false(c.removed);
	cleaner_end(&c);
	assert_int_equal(count(), 1);
	assert_int_equal(waited, 1);
	assert_int_equal(open_fds, FD_CLOEXEC); /* its own descriptor, still open, inherited by nobody */
	assert_int_equal(fcntl(c.fd, F_GETFD), -1);
	assert_false(cleaner_after_cut(&c, top, LATER));
	assert_int_equal(count(), 1);
}

/* Nor does a cut wait for it. */
static void test_cleaner_one_call_at_a_time_for_a_filesystem(void **state)
{
	struct cleaner one = {.removed = true}, two = {.removed = true}, elsewhere = {.removed = true};

	(void)state;
	hold(true);
	assert_true(cleaner_after_cut(&one, top, LATER));
	one.removed = true;
	assert_false(cleaner_after_cut(&one, top, LATER));
	assert_false(cleaner_after_cut(&two, top, LATER));
	assert_true(one.removed && two.removed); /* to be asked for at a later cut */
	filesystem += 100;
	assert_true(cleaner_after_cut(&elsewhere, top, LATER));
	filesystem -= 100;
	hold(false);
	cleaner_end(&one);
	cleaner_end(&elsewhere);
	assert_int_equal(count(), 2);
	assert_true(cleaner_after_cut(&two, top, LATER));
	cleaner_end(&two);
	assert_int_equal(count(), 3);
}

/* Twice what the last call took: that one took 900 ms and more, so it rests for longer than a second. */
static void test_cleaner_rests_after_a_call(void **state)
{
	struct cleaner c = {.removed = true};
	int64_t begun;

	(void)state;
	hold(true);
	assert_true(cleaner_after_cut(&c, top, sosie_clock_ns(CLOCK_MONOTONIC)));
	while (count() == 0)
		nap();
	begun = sosie_clock_ns(CLOCK_MONOTONIC); /* of the call: at this time, or before */
	for (unsigned i = 0; i < 450; i++)
		nap();
	hold(false);
	cleaner_end(&c);
	c.removed = true;
	assert_false(cleaner_after_cut(&c, top, begun + 900000000 + SECOND * 17 / 10));
	assert_true(cleaner_after_cut(&c, top, LATER));
	cleaner_end(&c);
	assert_int_equal(count(), 2);
}

static void test_cleaner_more_filesystems_than_it_knows(void **state)
{
	struct cleaner held_ones[64], c = {.removed = true};

	(void)state;
	hold(true);
	for (unsigned i = 0; i < 64; i++, filesystem++) {
		held_ones[i] = (struct cleaner){.removed = true};
		assert_true(cleaner_after_cut(&held_ones[i], top, LATER));
	}
	assert_false(cleaner_after_cut(&c, top, LATER)); /* all are busy */
	hold(false);
	for (unsigned i = 0; i < 64; i++)
		cleaner_end(&held_ones[i]);
	assert_true(cleaner_after_cut(&c, top, LATER)); /* one makes room */
	cleaner_end(&c);
	assert_int_equal(count(), 65);
}

static void test_cleaner_no_btrfs_does_no_harm(void **state)
{
	struct cleaner c = {.removed = true};

	(void)state;
	no_info = true;
	assert_false(cleaner_after_cut(&c, top, LATER));
	no_info = false;
	assert_false(cleaner_after_cut(&c, -1, LATER)); /* no descriptor to be had */
	assert_true(c.removed);
	cleaner_end(&c);
	assert_int_equal(count(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_setup_teardown(test_cleaner_nothing_removed_asks_nothing, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_cleaner_asks_once_for_what_was_removed, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_cleaner_one_call_at_a_time_for_a_filesystem, setup,
	                                        teardown),
	        cmocka_unit_test_setup_teardown(test_cleaner_rests_after_a_call, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_cleaner_more_filesystems_than_it_knows, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_cleaner_no_btrfs_does_no_harm, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

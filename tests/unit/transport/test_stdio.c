/* SPDX-License-Identifier: MIT */
/* The channel over two descriptors, here pipes: both ways, its limits in time, the end of the stream. */
#include "tests/unit/base/check.h"

#include "sosie/channel.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BULK (3u << 20) /* far more than two pipes hold */

struct ends {
	int to[2], from[2]; /* to: what the channel reads; from: what it writes */
	struct sosie_channel *ch;
	struct sosie_err err;
};

static void ends_open(struct ends *e, uint32_t stall_ms)
{
	assert_int_equal(pipe(e->to), 0);
	assert_int_equal(pipe(e->from), 0);
	assert_int_equal(sosie_stdio_channel(e->to[0], e->from[1], stall_ms, &e->ch, &e->err), 0);
}

static void shut(int *fd)
{
	if (*fd >= 0)
		assert_int_equal(close(*fd), 0);
	*fd = -1;
}

static void ends_close(struct ends *e)
{
	sosie_channel_close(e->ch);
	for (unsigned i = 0; i < 2; i++) {
		shut(&e->to[i]);
		shut(&e->from[i]);
	}
}

static void test_stdio_bytes_go_both_ways(void **state)
{
	struct ends e;
	char text[16] = "";
	size_t got;
	(void)state;
	ends_open(&e, 5000);
	assert_int_equal(sosie_channel_send(e.ch, "there", 5, &e.err), 0);
	assert_int_equal(read(e.from[0], text, sizeof text), 5);
	assert_memory_equal(text, "there", 5);
	assert_int_equal(write(e.to[1], "and back", 8), 8);
	assert_int_equal(sosie_channel_recv(e.ch, text, 3, &got, 5000, &e.err), 0);
	assert_int_equal(got, 3);
	assert_int_equal(sosie_channel_recv(e.ch, text + 3, sizeof text - 3, &got, -1, &e.err), 0);
	assert_int_equal(got, 5);
	assert_memory_equal(text, "and back", 8);
	ends_close(&e);
}

static void test_stdio_nothing_there_returns_at_its_limit(void **state)
{
	struct ends e;
	char byte;
	size_t got = 1;
	struct sosie_clock *clock = sosie_clock_real();
	(void)state;
	ends_open(&e, 5000);
	assert_int_equal(sosie_channel_recv(e.ch, &byte, 1, &got, 0, &e.err), 0);
	assert_int_equal(got, 0);
	int64_t before = sosie_mono_ms(clock);
	got = 1;
	assert_int_equal(sosie_channel_recv(e.ch, &byte, 1, &got, 30, &e.err), 0);
	assert_int_equal(got, 0);
	assert_true(sosie_mono_ms(clock) - before >= 29);
	ends_close(&e);
}

static void test_stdio_peer_that_takes_nothing_is_a_timeout(void **state)
{
	struct ends e;
	char *bulk = calloc(1, BULK);
	(void)state;
	ends_open(&e, 40);
	assert_int_equal(sosie_channel_send(e.ch, bulk, BULK, &e.err), -SOSIE_ETIMEOUT);
	ends_close(&e);
	free(bulk);
}

static void test_stdio_end_of_stream_is_told_after_the_last_byte(void **state)
{
	struct ends e;
	char text[8];
	size_t got;
	(void)state;
	ends_open(&e, 5000);
	assert_int_equal(write(e.to[1], "last", 4), 4);
	shut(&e.to[1]);
	assert_int_equal(sosie_channel_recv(e.ch, text, sizeof text, &got, 5000, &e.err), 0);
	assert_int_equal(got, 4);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(sosie_channel_recv(e.ch, text, sizeof text, &got, 5000, &e.err),
		                 -SOSIE_EPEER);
	assert_int_equal(sosie_channel_send(e.ch, "still", 5, &e.err), 0);
	shut(&e.from[0]);
	assert_int_equal(sosie_channel_send(e.ch, "x", 1, &e.err), -SOSIE_EPEER);
	ends_close(&e);
}

/* A peer that first sends all of its own, in one thread, and reads in another. */
struct peer {
	int fd;
	size_t moved;
	unsigned char next;
	bool in_order;
};

static void *peer_write(void *arg)
{
	struct peer *p = arg;
	unsigned char part[5000];
	while (p->moved < 200000) {
		for (size_t i = 0; i < sizeof part; i++)
			part[i] = p->next++;
		ssize_t n = write(p->fd, part, sizeof part);
		if (n != (ssize_t)sizeof part)
			return NULL;
		p->moved += sizeof part;
	}
	return NULL;
}

static void *peer_read(void *arg)
{
	struct peer *p = arg;
	unsigned char part[7000];
	p->in_order = true;
	while (p->moved < BULK) {
		ssize_t n = read(p->fd, part, sizeof part);
		if (n <= 0)
			return NULL;
		for (ssize_t i = 0; i < n; i++)
			p->in_order = p->in_order && part[i] == p->next++;
		p->moved += (size_t)n;
	}
	return NULL;
}

/* The reader starts only when the writer is through: while we send, what comes has to be kept. */
static void *peer_run(void *arg)
{
	struct peer *both = arg;
	peer_write(&both[0]);
	peer_read(&both[1]);
	return NULL;
}

static void test_stdio_both_sides_send_at_once_nothing_locks(void **state)
{
	struct ends e;
	pthread_t thread;
	unsigned char *bulk = malloc(BULK), got_bytes[3000], next = 0;
	size_t all = 0, got;
	(void)state;
	for (size_t i = 0; i < BULK; i++)
		bulk[i] = (unsigned char)i;
	ends_open(&e, 20000);
	struct peer both[2] = {{.fd = e.to[1]}, {.fd = e.from[0]}};
	assert_int_equal(pthread_create(&thread, NULL, peer_run, both), 0);
	assert_int_equal(sosie_channel_send(e.ch, bulk, BULK, &e.err), 0);
	while (all < 200000) {
		assert_int_equal(sosie_channel_recv(e.ch, got_bytes, sizeof got_bytes, &got, 20000, &e.err),
		                 0);
		assert_true(got > 0);
		for (size_t i = 0; i < got; i++)
			assert_int_equal(got_bytes[i], next++);
		all += got;
	}
	pthread_join(thread, NULL);
	assert_int_equal(both[0].moved, 200000);
	assert_int_equal(both[1].moved, BULK);
	assert_true(both[1].in_order);
	ends_close(&e);
	free(bulk);
}

static void test_stdio_close_puts_descriptors_back(void **state)
{
	struct ends e;
	(void)state;
	ends_open(&e, 1000);
	assert_true(fcntl(e.to[0], F_GETFL) & O_NONBLOCK);
	sosie_channel_close(e.ch);
	e.ch = NULL;
	assert_false(fcntl(e.to[0], F_GETFL) & O_NONBLOCK);
	assert_false(fcntl(e.from[1], F_GETFL) & O_NONBLOCK);
	ends_close(&e);
	assert_int_equal(sosie_stdio_channel(-1, -1, 1, &e.ch, &e.err), -SOSIE_EIO);
	assert_null(e.ch);
}

static int ignore_pipe(void **state)
{
	(void)state;
	signal(SIGPIPE, SIG_IGN);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_stdio_bytes_go_both_ways),
	        cmocka_unit_test(test_stdio_nothing_there_returns_at_its_limit),
	        cmocka_unit_test(test_stdio_peer_that_takes_nothing_is_a_timeout),
	        cmocka_unit_test(test_stdio_end_of_stream_is_told_after_the_last_byte),
	        cmocka_unit_test(test_stdio_both_sides_send_at_once_nothing_locks),
	        cmocka_unit_test(test_stdio_close_puts_descriptors_back),
	};
	return cmocka_run_group_tests(tests, ignore_pipe, NULL);
}

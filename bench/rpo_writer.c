/* SPDX-License-Identifier: MIT */
/*
 * A steady writer whose blocks tell when they were written: random 4 KiB blocks with O_DIRECT, each with a
 * number and the time it was issued, at a given rate; what a stall holds up is caught up afterwards.
 *
 * Usage: rpo_writer IMAGE LOG SECONDS MB_PER_SECOND [SEED]
 *
 * LOG becomes an array of 16 bytes for each number from 0: block (u64), time in ns of CLOCK_REALTIME (u64).
 * Prints: numbers seconds MB/s and the longest time that one write took, in ms.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define BLOCK 4096u
#define THREADS 4u
#define MAGIC 0x6f70726569736f73ull

struct entry {
	uint64_t block, ns;
};
struct shared {
	int fd;
	struct entry *log;
	uint64_t blocks, count, rate; /* rate: numbers a second */
	uint64_t begin_ns;            /* CLOCK_MONOTONIC */
	pthread_mutex_t lock;
	uint64_t next, state; /* under lock */
	uint64_t longest_ns;  /* under lock */
	int failed;           /* under lock: errno */
};

static uint64_t now_ns(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* xorshift64*: Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled". */
static uint64_t next_random(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 0x2545f4914f6cdd1dULL;
}

static void wait_until(uint64_t mono_ns)
{
	const struct timespec t = {(time_t)(mono_ns / 1000000000u), (long)(mono_ns % 1000000000u)};

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
		;
}

/* Takes the next number and its place; UINT64_MAX: done. */
static uint64_t take(struct shared *s, uint64_t *block)
{
	uint64_t n = UINT64_MAX;

	pthread_mutex_lock(&s->lock);
	if (s->next < s->count && !s->failed) {
		n = s->next++;
		*block = next_random(&s->state) % s->blocks;
	}
	pthread_mutex_unlock(&s->lock);
	return n;
}

static void *work(void *arg)
{
	struct shared *s = arg;
	uint64_t *words = aligned_alloc(BLOCK, BLOCK), block = 0, n, state = 88172645463325252ull;

	while (words && (n = take(s, &block)) != UINT64_MAX) {
		uint64_t began;

		for (unsigned i = 0; i < BLOCK / 8; i++)
			words[i] = next_random(&state) + n;
		wait_until(s->begin_ns + n * 1000000000u / s->rate);
		began = now_ns(CLOCK_MONOTONIC);
		words[0] = MAGIC;
		words[1] = n;
		words[2] = now_ns(CLOCK_REALTIME);
		s->log[n] = (struct entry){block, words[2]};
		int bad = pwrite(s->fd, words, BLOCK, (off_t)(block * BLOCK)) == (ssize_t)BLOCK ? 0
		          : errno                                                               ? errno
		                                                                                : EIO;
		uint64_t took = now_ns(CLOCK_MONOTONIC) - began;

		pthread_mutex_lock(&s->lock);
		s->longest_ns = took > s->longest_ns ? took : s->longest_ns;
		s->failed = s->failed ? s->failed : bad;
		pthread_mutex_unlock(&s->lock);
	}
	free(words);
	return NULL;
}

static int open_all(struct shared *s, char **argv)
{
	off_t size;
	int log = open(argv[2], O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	s->fd = open(argv[1], O_RDWR | O_DIRECT | O_CLOEXEC);
	if (s->fd < 0 || log < 0 || (size = lseek(s->fd, 0, SEEK_END)) < 0 ||
	    ftruncate(log, (off_t)(s->count * sizeof(struct entry))) != 0)
		return -1;
	s->blocks = (uint64_t)size / BLOCK;
	s->log = mmap(NULL, s->count * sizeof(struct entry), PROT_READ | PROT_WRITE, MAP_SHARED, log, 0);
	close(log);
	return s->log == MAP_FAILED || !s->blocks ? -1 : 0;
}

int main(int argc, char **argv)
{
	static struct shared s = {.lock = PTHREAD_MUTEX_INITIALIZER};
	pthread_t threads[THREADS];
	unsigned started = 0;

	if (argc < 5 || argc > 6 || strtoull(argv[3], NULL, 10) == 0 || strtoull(argv[4], NULL, 10) == 0) {
		fprintf(stderr, "usage: rpo_writer IMAGE LOG SECONDS MB_PER_SECOND [SEED]\n");
		return 2;
	}
	s.rate = strtoull(argv[4], NULL, 10) * 1000000u / BLOCK;
	s.count = s.rate * strtoull(argv[3], NULL, 10);
	s.state = (argc > 5 ? strtoull(argv[5], NULL, 10) : 1) * 2 + 1;
	if (open_all(&s, argv) != 0) {
		fprintf(stderr, "rpo_writer: %s or %s: %s\n", argv[1], argv[2], strerror(errno));
		return 1;
	}
	s.begin_ns = now_ns(CLOCK_MONOTONIC);
	while (started < THREADS && pthread_create(&threads[started], NULL, work, &s) == 0)
		started++;
	for (unsigned i = 0; i < started; i++)
		pthread_join(threads[i], NULL);
	if (s.failed || !started || s.next < s.count) {
		fprintf(stderr, "rpo_writer: %s: %s\n", argv[1], strerror(s.failed));
		return 1;
	}
	double seconds = (double)(now_ns(CLOCK_MONOTONIC) - s.begin_ns) / 1e9;
	printf("%llu %.2f %.2f %.1f\n", (unsigned long long)s.next, seconds,
	       (double)s.next * BLOCK / 1e6 / seconds, (double)s.longest_ns / 1e6);
	return 0;
}

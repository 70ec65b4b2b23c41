/* SPDX-License-Identifier: MIT */
/*
 * Signatures and deltas through the child: round trips, then what a child may do wrong: crawl over hostile
 * content, stop, be killed, die of memory. After each the object must go on, owe nobody a descriptor or a
 * zombie, and have cost a bounded time.
 */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/delta/rdiff_internal.h"
#include "sosie/sandbox.h"
#include "tests/support/rounds.h"

#define MIB RDIFF_REGION
#define PAGE 4096u

static uint64_t seed = 20261122;

static uint64_t next_random(uint64_t *s)
{
	*s = *s * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return *s >> 33;
}

static void fill(uint8_t *p, size_t len, uint64_t *s)
{
	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)next_random(s);
}

static int64_t now_ms(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static struct rdiff *make(void)
{
	struct rdiff *r;
	struct sosie_err err;

	assert_int_equal(rdiff_new(&r, &err), 0);
	return r;
}

static struct rdiff_counters counters(const struct rdiff *r)
{
	struct rdiff_counters c;

	rdiff_counters(r, &c);
	return c;
}

/* --- round trips
 * ---------------------------------------------------------------------------------------------------- */

struct work {
	uint8_t basis[MIB], plain[MIB], delta[MIB], result[MIB], sig[RDIFF_SIGNATURE_MAX];
	size_t basis_len, plain_len, sig_len, delta_len;
};

static void sign(struct rdiff *r, struct work *w)
{
	struct sosie_err err;

	assert_int_equal(rdiff_signature(r, w->basis, w->basis_len, w->sig, &w->sig_len, &err), 0);
}

static void diff(struct rdiff *r, struct work *w, size_t room)
{
	struct sosie_err err;

	memset(w->delta, 0xee, sizeof(w->delta));
	assert_int_equal(rdiff_delta(r, w->sig, w->sig_len, w->plain, w->plain_len, w->delta, room,
	                             &w->delta_len, &err),
	                 0);
	for (size_t i = room; i < sizeof(w->delta); i++)
		assert_int_equal(w->delta[i], 0xee);
}

static void apply(struct work *w)
{
	struct sosie_err err;

	memset(w->result, 0xee, sizeof(w->result));
	assert_int_equal(
	        rdiff_apply(w->delta, w->delta_len, w->basis, w->basis_len, w->result, w->plain_len, &err),
	        0);
	assert_memory_equal(w->result, w->plain, w->plain_len);
}

/* All pages, each with len random bytes in its middle replaced. */
static void change_pages(struct work *w, size_t len, uint64_t *s)
{
	memcpy(w->plain, w->basis, w->basis_len);
	w->plain_len = w->basis_len;
	for (size_t at = 0; at + PAGE <= w->plain_len; at += PAGE)
		fill(w->plain + at + 2000, len, s);
}

static void test_rdiff_changed_pages_come_back(void **state)
{
	struct rdiff *r = make();
	struct work *w = calloc(1, sizeof(*w));
	uint64_t s = seed;

	(void)state;
	w->basis_len = MIB;
	fill(w->basis, MIB, &s);
	change_pages(w, 100, &s);
	sign(r, w);
	assert_int_equal(w->sig_len, RDIFF_SIGNATURE_MAX);
	diff(r, w, MIB - 1);
	assert_in_range(w->delta_len, 1, MIB / 3);
	apply(w);
	free(w);
	rdiff_free(r);
}

static void test_rdiff_shifted_content_comes_back_small(void **state)
{
	struct rdiff *r = make();
	struct work *w = calloc(1, sizeof(*w));
	uint64_t s = seed;

	(void)state;
	w->basis_len = w->plain_len = MIB;
	fill(w->basis, MIB, &s);
	memcpy(w->plain + 1234, w->basis, MIB - 1234);
	sign(r, w);
	diff(r, w, MIB - 1);
	assert_in_range(w->delta_len, 1, 3000);
	apply(w);
	free(w);
	rdiff_free(r);
}

static void test_rdiff_any_lengths_come_back(void **state)
{
	struct rdiff *r = make();
	struct work *w = calloc(1, sizeof(*w));
	unsigned count = test_rounds(60, 2000);
	uint64_t s = seed;

	(void)state;
	for (unsigned i = 0; i < count; i++) {
		size_t cut;

		w->basis_len = 1 + next_random(&s) % (i % 3 ? 5000 : MIB);
		w->plain_len = 1 + next_random(&s) % (i % 3 ? 5000 : MIB - 100);
		fill(w->basis, w->basis_len, &s);
		fill(w->plain, w->plain_len, &s);
		cut = w->plain_len < w->basis_len ? w->plain_len : w->basis_len;
		memcpy(w->plain + w->plain_len - cut, w->basis + w->basis_len - cut, cut);
		w->plain[next_random(&s) % w->plain_len] ^= 1;
		sign(r, w);
		assert_true(rdiff_signature_fits(w->sig, w->sig_len));
		diff(r, w, MIB);
		assert_in_range(w->delta_len, 5, w->plain_len + w->plain_len / 100 + 32);
		apply(w);
	}
	assert_int_equal(counters(r).started, 1);
	free(w);
	rdiff_free(r);
}

static void test_rdiff_too_little_room_gives_none(void **state)
{
	struct rdiff *r = make();
	struct work *w = calloc(1, sizeof(*w));
	uint64_t s = seed;
	size_t whole;

	(void)state;
	w->basis_len = 10000;
	fill(w->basis, w->basis_len, &s);
	change_pages(w, 300, &s);
	sign(r, w);
	diff(r, w, MIB);
	whole = w->delta_len;
	assert_true(whole > 0);
	diff(r, w, whole);
	assert_int_equal(w->delta_len, whole);
	for (size_t room = 0; room < whole; room += 1 + whole / 20) {
		diff(r, w, room);
		assert_int_equal(w->delta_len, 0);
	}
	assert_int_equal(counters(r).started, 1);
	free(w);
	rdiff_free(r);
}

static void test_rdiff_foreign_signature_gives_none_unasked(void **state)
{
	static const uint8_t weak[] = {0x72, 0x73, 1, 0x36, 0, 0, 8, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0};
	struct rdiff *r = make();
	struct work *w = calloc(1, sizeof(*w));
	uint64_t s = seed;
	uint8_t good;

	(void)state;
	memcpy(w->sig, weak, sizeof(weak)); /* MD4, 1 byte of it */
	w->sig_len = sizeof(weak);
	w->plain_len = w->basis_len = 5000;
	diff(r, w, MIB);
	assert_int_equal(w->delta_len, 0);
	assert_int_equal(counters(r).started, 0);
	fill(w->basis, w->basis_len, &s);
	sign(r, w);
	for (size_t i = 0; i < RDIFF_SIGNATURE_HEADER; i++) {
		good = w->sig[i];
		w->sig[i] ^= 1;
		diff(r, w, MIB);
		assert_int_equal(w->delta_len, 0);
		w->sig[i] = good;
	}
	w->sig_len--;
	diff(r, w, MIB);
	assert_int_equal(w->delta_len, 0);
	w->sig_len++;
	diff(r, w, MIB);
	assert_true(w->delta_len > 0);
	free(w);
	rdiff_free(r);
}

static void test_rdiff_impossible_lengths_are_errors(void **state)
{
	struct rdiff *r = make();
	struct sosie_err err;
	static uint8_t region[MIB + 1], sig[RDIFF_SIGNATURE_MAX];
	size_t len = 1;

	(void)state;
	assert_int_equal(rdiff_signature(r, region, 0, sig, &len, &err), -SOSIE_EINTERNAL);
	assert_int_equal(len, 0);
	assert_int_equal(rdiff_signature(r, region, MIB + 1, sig, &len, &err), -SOSIE_EINTERNAL);
	assert_int_equal(rdiff_delta(r, sig, 100, region, MIB + 1, sig, 100, &len, &err), -SOSIE_EINTERNAL);
	rdiff_free(r);
	rdiff_free(NULL);
}

/* --- hostile content
 * ------------------------------------------------------------------------------------------------ */

#define VECTOR 12u
#define HALF 6u
#define COMBINATIONS 117649u /* 7^6 */
#define RABIN_KARP 0x08104225u

struct half_sum {
	uint32_t sum, number;
};

static int by_sum(const void *a, const void *b)
{
	uint32_t x = ((const struct half_sum *)a)->sum, y = ((const struct half_sum *)b)->sum;

	return (x > y) - (x < y);
}

static uint32_t half_of(unsigned number, const uint32_t *power, int *digits)
{
	uint32_t sum = 0;

	for (unsigned i = 0; i < HALF; i++, number /= 7) {
		digits[i] = (int)(number % 7) - 3;
		sum += (uint32_t)digits[i] * power[i];
	}
	return sum;
}

/* Twelve small differences that leave the weak sum of a block as it is: its multiplier is a constant, so two
 * halves with opposite sums are found by sorting. */
static void find_null_vector(int d[VECTOR])
{
	struct half_sum *first = calloc(COMBINATIONS, sizeof(*first)), *hit = NULL;
	uint32_t power[VECTOR] = {[VECTOR - 1] = 1};

	for (unsigned i = VECTOR - 1; i-- > 0;)
		power[i] = power[i + 1] * RABIN_KARP;
	for (unsigned i = 0; i < COMBINATIONS; i++)
		first[i] = (struct half_sum){half_of(i, power, d), i};
	qsort(first, COMBINATIONS, sizeof(*first), by_sum);
	for (unsigned i = 0; i < COMBINATIONS && !hit; i++) {
		struct half_sum want = {.sum = 0u - half_of(i, power + HALF, d + HALF)};

		if (i != COMBINATIONS / 2) /* all zero */
			hit = bsearch(&want, first, COMBINATIONS, sizeof(want), by_sum);
	}
	assert_non_null(hit);
	half_of(hit->number, power, d);
	free(first);
}

/* A basis of blocks that all differ and all have the weak sum of a block of 'A', and 1 MiB of 'A' to
 * search them for. */
static void make_hostile(struct work *w)
{
	int d[VECTOR];

	find_null_vector(d);
	w->basis_len = w->plain_len = MIB;
	memset(w->basis, 'A', MIB);
	memset(w->plain, 'A', MIB);
	for (unsigned b = 0; b < MIB / RDIFF_BLOCK; b++)
		for (unsigned bit = 0; bit < 12; bit++)
			for (unsigned i = 0; (b + 1) >> bit & 1 && i < VECTOR; i++)
				w->basis[b * RDIFF_BLOCK + bit * VECTOR + i] = (uint8_t)('A' + d[i]);
}

static void make_harmless(struct work *w)
{
	uint64_t s = seed;

	w->basis_len = 20000;
	fill(w->basis, w->basis_len, &s);
	change_pages(w, 50, &s);
}

static void test_rdiff_hostile_content_costs_its_budget(void **state)
{
	struct rdiff *r = make();
	struct work *w = calloc(1, sizeof(*w)), *h = calloc(1, sizeof(*h));
	unsigned asked;

	(void)state;
	make_harmless(w);
	make_hostile(h);
	sign(r, w);
	sign(r, h);
	assert_int_equal(h->sig_len, RDIFF_SIGNATURE_MAX);
	for (asked = 0; counters(r).refused == 0; asked++) {
		diff(r, h, MIB - 1);
		assert_int_equal(h->delta_len, 0);
		assert_in_range(asked, 0, 4);
	}
	assert_int_equal(asked, 4); /* three ends in a row; the fourth was not asked */
	sign(r, w);                 /* signatures have a budget of their own */
	assert_true(w->sig_len > 0);
	diff(r, w, MIB);
	assert_int_equal(w->delta_len, 0);
	while (counters(r).refused < 64) {
		diff(r, w, MIB);
		assert_int_equal(w->delta_len, 0);
	}
	diff(r, w, MIB);
	assert_true(w->delta_len > 0);
	apply(w);
	diff(r, h, MIB); /* debts are paid back by work, not by rest */
	diff(r, w, MIB);
	assert_int_equal(counters(r).refused, 64);
	assert_true(w->delta_len > 0);
	free(w);
	free(h);
	rdiff_free(r);
}

/* --- deaths
 * ----------------------------------------------------------------------------------------------------- */

struct asking {
	struct rdiff *r;
	struct work *w;
};

static void *ask_for_delta(void *arg)
{
	struct asking *a = arg;

	diff(a->r, a->w, MIB);
	return NULL;
}

static bool is_stopped(pid_t pid)
{
	siginfo_t info = {0};

	return waitid(P_PID, (id_t)pid, &info, WSTOPPED | WNOWAIT) == 0 && info.si_pid == pid;
}

/* Until the child has computed for 20 ms more: it is in the middle of a request that takes longer. */
static void wait_for_work(pid_t child)
{
	clockid_t clock;
	int64_t began;

	assert_int_equal(clock_getcpuclockid(child, &clock), 0);
	began = now_ms(clock);
	while (now_ms(clock) - began < 20)
		;
}

static void test_rdiff_child_killed_mid_request_gives_none_then_recovers(void **state)
{
	struct work *w = calloc(1, sizeof(*w));
	struct asking a = {.r = make(), .w = w};
	pthread_t thread;
	pid_t child;

	(void)state;
	make_hostile(w);
	sign(a.r, w);
	child = counters(a.r).child;
	assert_true(child > 0);
	assert_int_equal(pthread_create(&thread, NULL, ask_for_delta, &a), 0);
	wait_for_work(child);
	kill(child, SIGKILL);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(w->delta_len, 0);
	assert_int_equal(waitpid(child, NULL, WNOHANG), -1); /* reaped */
	make_harmless(w);
	sign(a.r, w);
	diff(a.r, w, MIB);
	assert_true(w->delta_len > 0);
	assert_int_equal(counters(a.r).started, 2);
	apply(w);
	free(w);
	rdiff_free(a.r);
}

static void test_rdiff_child_killed_between_requests_gives_none_then_recovers(void **state)
{
	struct rdiff *r = make();
	struct work *w = calloc(1, sizeof(*w));
	siginfo_t info;
	pid_t child;

	(void)state;
	make_harmless(w);
	sign(r, w);
	child = counters(r).child;
	assert_int_equal(kill(child, SIGKILL), 0);
	assert_int_equal(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT), 0);
	sign(r, w); /* would be SIGPIPE */
	assert_int_equal(w->sig_len, 0);
	sign(r, w);
	assert_true(w->sig_len > 0);
	assert_int_equal(counters(r).started, 2);
	free(w);
	rdiff_free(r);
}

static void test_rdiff_child_that_stands_still_ends_at_the_wall_limit(void **state)
{
	struct work *w = calloc(1, sizeof(*w));
	struct asking a = {.r = make(), .w = w};
	pid_t child;

	(void)state;
	make_harmless(w);
	sign(a.r, w);
	child = counters(a.r).child;
	assert_int_equal(kill(child, SIGSTOP), 0);
	assert_true(is_stopped(child));
	ask_for_delta(&a);
	assert_int_equal(w->delta_len, 0);
	assert_int_equal(waitpid(child, NULL, WNOHANG), -1);
	free(w);
	rdiff_free(a.r);
}

/* How librsync ends when memory runs out; that it can run out is the next test. */
static void test_rdiff_child_that_aborts_gives_none_then_recovers(void **state)
{
	struct rdiff *r = make();
	struct work *w = calloc(1, sizeof(*w));
	pid_t child;

	(void)state;
	make_harmless(w);
	sign(r, w);
	child = counters(r).child;
	assert_int_equal(kill(child, SIGABRT), 0);
	diff(r, w, MIB);
	assert_int_equal(w->delta_len, 0);
	assert_int_equal(waitpid(child, NULL, WNOHANG), -1);
	diff(r, w, MIB);
	assert_true(w->delta_len > 0);
	free(w);
	rdiff_free(r);
}

static unsigned long status_number(pid_t pid, const char *name)
{
	unsigned long value = ULONG_MAX;
	char path[64], line[256];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	f = fopen(path, "r");
	assert_non_null(f);
	while (value == ULONG_MAX && fgets(line, sizeof(line), f))
		if (strncmp(line, name, strlen(name)) == 0)
			value = strtoul(line + strlen(name), NULL, 10);
	fclose(f);
	assert_true(value != ULONG_MAX);
	return value;
}

static void test_rdiff_child_is_confined(void **state)
{
	bool strict = (sosie_sandbox_layers() & SOSIE_SANDBOX_SYSCALLS) != 0;
	struct rdiff *r = make();
	struct work *w = calloc(1, sizeof(*w));
	struct rlimit space, descriptors;
	pid_t child;

	(void)state;
	make_harmless(w);
	sign(r, w);
	child = counters(r).child;
	assert_int_equal(status_number(child, "NoNewPrivs:"), 1);
	assert_int_equal(status_number(child, "Seccomp:"), strict ? 2 : 0);
	assert_true(status_number(child, "Threads:") == 1 || !strict); /* TSan adds one */
	assert_int_equal(prlimit(child, RLIMIT_NOFILE, NULL, &descriptors), 0);
	assert_int_equal(descriptors.rlim_max, 0);
	assert_int_equal(prlimit(child, RLIMIT_AS, NULL, &space), 0);
	if (strict)
		assert_in_range(space.rlim_max, 1, (status_number(child, "VmSize:") << 10) + (64u << 20));
	free(w);
	rdiff_free(r);
}

/* --- leaks, threads
 * ------------------------------------------------------------------------------------------------- */

static unsigned open_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned count = 0;

	assert_non_null(dir);
	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

static void test_rdiff_thousand_requests_leak_nothing(void **state)
{
	unsigned before = open_descriptors(), count = test_rounds(1000, 1000), deaths = 0;
	struct work *w = calloc(1, sizeof(*w));
	struct rdiff *r = make();

	(void)state;
	make_harmless(w);
	for (unsigned i = 0; i < count; i++) {
		sign(r, w);
		if (i % 100 == 50) {
			assert_int_equal(kill(counters(r).child, SIGKILL), 0);
			deaths++;
		} else if (w->sig_len > 0) {
			diff(r, w, MIB);
		}
	}
	assert_true(deaths > 0 || count <= 50);
	assert_in_range(counters(r).started, deaths, deaths + 1);
	assert_int_equal(open_descriptors(), before + 2); /* shared memory, socket */
	rdiff_free(r);
	assert_int_equal(open_descriptors(), before);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no child at all */
	assert_int_equal(errno, ECHILD);
	free(w);
}

static void test_rdiff_idle_keeps_nothing_but_the_debt(void **state)
{
	unsigned before = open_descriptors();
	struct rdiff *r = make();
	struct work *w = calloc(1, sizeof(*w));

	(void)state;
	assert_int_equal(open_descriptors(), before);
	rdiff_idle(r); /* of one that was never asked */
	make_harmless(w);
	sign(r, w);
	rdiff_idle(r);
	rdiff_idle(r);
	assert_int_equal(open_descriptors(), before);
	assert_int_equal(counters(r).child, 0);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	sign(r, w);
	assert_true(w->sig_len > 0);
	assert_int_equal(counters(r).started, 2);
	for (unsigned i = 0; i < 3; i++) {
		sign(r, w);
		assert_int_equal(kill(counters(r).child, SIGKILL), 0);
		diff(r, w, MIB);
		assert_int_equal(w->delta_len, 0);
	}
	rdiff_idle(r);
	diff(r, w, MIB);
	assert_int_equal(w->delta_len, 0);
	assert_int_equal(counters(r).refused, 1);
	free(w);
	rdiff_free(r);
}

static void *work_and_restart(void *arg)
{
	uint64_t s = (uint64_t)(uintptr_t)arg + seed;
	struct work *w = calloc(1, sizeof(*w));
	struct rdiff *r = make();
	uintptr_t made = 0;

	for (unsigned i = 0; i < test_rounds(40, 400); i++) {
		w->basis_len = 5000 + next_random(&s) % 50000;
		fill(w->basis, w->basis_len, &s);
		change_pages(w, 60, &s);
		sign(r, w);
		if (w->sig_len > 0)
			diff(r, w, MIB);
		if (w->sig_len > 0 && w->delta_len > 0) {
			apply(w);
			made++;
		}
		if (i % 10 == 9) {
			rdiff_free(r); /* the other thread is at work while this one forks again */
			r = make();
		}
	}
	rdiff_free(r);
	free(w);
	return (void *)made;
}

static void test_rdiff_two_objects_in_two_threads_do_not_meet(void **state)
{
	pthread_t threads[2];
	void *made;

	(void)state;
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(
		        pthread_create(&threads[i], NULL, work_and_restart, (void *)(uintptr_t)(i + 1)), 0);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(pthread_join(threads[i], &made), 0);
		assert_true((uintptr_t)made >= test_rounds(40, 400) * 3 / 4);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_rdiff_changed_pages_come_back),
	        cmocka_unit_test(test_rdiff_shifted_content_comes_back_small),
	        cmocka_unit_test(test_rdiff_any_lengths_come_back),
	        cmocka_unit_test(test_rdiff_too_little_room_gives_none),
	        cmocka_unit_test(test_rdiff_foreign_signature_gives_none_unasked),
	        cmocka_unit_test(test_rdiff_impossible_lengths_are_errors),
	        cmocka_unit_test(test_rdiff_hostile_content_costs_its_budget),
	        cmocka_unit_test(test_rdiff_child_killed_mid_request_gives_none_then_recovers),
	        cmocka_unit_test(test_rdiff_child_killed_between_requests_gives_none_then_recovers),
	        cmocka_unit_test(test_rdiff_child_that_stands_still_ends_at_the_wall_limit),
	        cmocka_unit_test(test_rdiff_child_that_aborts_gives_none_then_recovers),
	        cmocka_unit_test(test_rdiff_child_is_confined),
	        cmocka_unit_test(test_rdiff_thousand_requests_leak_nothing),
	        cmocka_unit_test(test_rdiff_idle_keeps_nothing_but_the_debt),
	        cmocka_unit_test(test_rdiff_two_objects_in_two_threads_do_not_meet),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/* Decoders with and without threads: the same results, in whatever order they are waited for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/store/core.h"

#define JOBS 32u
#define LEAVES 64u
#define PLAIN ((size_t)LEAVES * SOSIE_LEAF)
#define SEED 20261122u

struct bench {
	struct confined_home *home;
	struct sosie_clock_virtual clock;
	struct sosie_digest group_ctx;
	struct sosie_extent_volume volume;
	struct sosie_hash *hash;
	struct sosie_encoder *encoder;
	struct decode_job *jobs;
	uint8_t *plain[JOBS], *payload[JOBS];
	struct sosie_digest leaves[JOBS][LEAVES];
};

/* Record i holds leaves [i * LEAVES, (i + 1) * LEAVES): half noise, half runs. */
static void make_record(struct bench *b, unsigned i)
{
	struct sosie_range range = {.leaf = (uint64_t)i * LEAVES, .leaves = LEAVES};
	struct sosie_err err;
	const void *record;
	uint32_t ranges_len, payload_len;
	size_t len;
	for (size_t at = 0; at < PLAIN; at++)
		b->plain[i][at] = at % 2 ? (uint8_t)rand() : (uint8_t)i;
	for (unsigned k = 0; k < LEAVES; k++)
		sosie_digest_leaf(b->hash, &b->volume.ctx, range.leaf + k,
		                  b->plain[i] + (size_t)k * SOSIE_LEAF, SOSIE_LEAF, &b->leaves[i][k]);
	assert_int_equal(sosie_encode_data(b->encoder, &range, 1, b->leaves[i], b->plain[i], PLAIN, &record,
	                                   &len, &err),
	                 0);
	assert_int_equal(sosie_record_lengths(record, &ranges_len, &payload_len, &err), 0);
	const size_t head = SOSIE_RECORD_HEADER + (size_t)ranges_len;
	assert_int_equal(sosie_record_parse(record, head, &b->volume, 1, &b->jobs[i].record, &err), 0);
	b->payload[i] = malloc(payload_len);
	b->jobs[i].plain = malloc(SOSIE_RECORD_PLAIN_MAX);
	assert_true(b->payload[i] && b->jobs[i].plain);
	memcpy(b->payload[i], (const uint8_t *)record + head, payload_len);
	b->jobs[i].payload = b->payload[i];
}

static void bench_init(struct bench *b)
{
	struct sosie_err err;
	memset(b, 0, sizeof(*b));
	srand(SEED);
	assert_int_equal(confined_home_new(&confined_kind, &b->home, &err), 0);
	sosie_clock_virtual_init(&b->clock, 1790000000000, SEED);
	b->hash = sosie_hash_new();
	b->jobs = calloc(JOBS, sizeof(*b->jobs));
	assert_true(b->hash && b->jobs);
	sosie_context_group(b->hash, "t", "g", &b->group_ctx);
	sosie_context_volume(b->hash, "t", "g", "v", &b->volume.ctx);
	b->volume.size = (uint64_t)JOBS * PLAIN;
	assert_int_equal(sosie_encoder_new(&b->group_ctx, 1, &b->encoder, &err), 0);
	for (unsigned i = 0; i < JOBS; i++) {
		b->plain[i] = malloc(PLAIN);
		assert_non_null(b->plain[i]);
		make_record(b, i);
	}
}

static void bench_fini(struct bench *b)
{
	for (unsigned i = 0; i < JOBS; i++) {
		free(b->plain[i]);
		free(b->payload[i]);
		free(b->jobs[i].plain);
	}
	free(b->jobs);
	sosie_encoder_free(b->encoder);
	sosie_hash_free(b->hash);
	confined_home_free(b->home);
}

static struct decode_pool *pool(struct bench *b, bool threads)
{
	const struct decode_place place = {
	        .home = b->home, .clock = &b->clock.clock, .tenant = "t", .group_ctx = &b->group_ctx};
	struct decode_pool *p;
	struct sosie_err err;
	assert_int_equal(decode_pool_new(&place, &b->volume, threads, &p, &err), 0);
	return p;
}

static void check_good(const struct bench *b, unsigned i)
{
	assert_int_equal(b->jobs[i].rc, 0);
	assert_memory_equal(b->jobs[i].plain, b->plain[i], PLAIN);
	assert_memory_equal(b->jobs[i].leaves, b->leaves[i], sizeof(b->leaves[i]));
}

static void test_jobs_with_and_without_threads_give_the_same(void **state)
{
	struct bench b;
	(void)state;
	bench_init(&b);
	for (unsigned round = 0; round < 8; round++) {
		struct decode_pool *p = pool(&b, round % 2);
		unsigned checked = 0;
		for (unsigned i = 0; i < JOBS; i++)
			memset(b.jobs[i].plain, 0xee, PLAIN);
		for (unsigned i = 0; i < JOBS; i++)
			decode_pool_give(p, &b.jobs[i]);
		for (unsigned i = 0; i < JOBS; i++, checked++) {
			unsigned which = round < 4 ? i : JOBS - 1 - i;
			decode_pool_wait(p, &b.jobs[which]);
			check_good(&b, which);
		}
		assert_int_equal(checked, JOBS);
		decode_pool_free(p);
	}
	bench_fini(&b);
}

static void test_job_damaged_fails_alone(void **state)
{
	struct bench b;
	(void)state;
	bench_init(&b);
	for (unsigned threads = 0; threads < 2; threads++) {
		const unsigned bad = 7 + threads;
		struct decode_pool *p = pool(&b, threads);
		b.payload[bad][b.jobs[bad].record.payload_len / 2] ^= 0x40;
		for (unsigned i = 0; i < JOBS; i++)
			decode_pool_give(p, &b.jobs[i]);
		for (unsigned i = 0; i < JOBS; i++) {
			decode_pool_wait(p, &b.jobs[i]);
			if (i != bad) {
				check_good(&b, i);
				continue;
			}
			assert_int_equal(b.jobs[i].rc, -SOSIE_ECORRUPT);
			assert_int_equal(b.jobs[i].err.code, SOSIE_ECORRUPT);
			assert_true(
			        sosie_all_zero(b.jobs[i].plain, PLAIN)); /* nothing half checked is left */
		}
		b.payload[bad][b.jobs[bad].record.payload_len / 2] ^= 0x40;
		decode_pool_free(p);
	}
	bench_fini(&b);
}

static void test_pool_freed_with_jobs_under_way_leaves_them(void **state)
{
	struct bench b;
	(void)state;
	bench_init(&b);
	for (unsigned round = 0; round < 20; round++) {
		struct decode_pool *p = pool(&b, round % 2 == 0);
		for (unsigned i = 0; i < JOBS; i++)
			decode_pool_give(p, &b.jobs[i]);
		for (unsigned i = 0; i < round % 5; i++)
			decode_pool_wait(p, &b.jobs[i]);
		decode_pool_free(p);
		for (unsigned i = 0; i < JOBS; i++)
			memset(b.jobs[i].plain, 0,
			       PLAIN); /* ours again: TSan sees a thread that still writes */
	}
	decode_pool_free(NULL);
	bench_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_jobs_with_and_without_threads_give_the_same),
	        cmocka_unit_test(test_job_damaged_fails_alone),
	        cmocka_unit_test(test_pool_freed_with_jobs_under_way_leaves_them),
	};
	printf("seed %u\n", SEED);
	return cmocka_run_group_tests_name("decoders", tests, NULL, NULL);
}

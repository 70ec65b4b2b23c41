/* SPDX-License-Identifier: MIT */
/*
 * What a pass hands out of extents that begin and end anywhere: against a model that looks at each leaf by
 * itself. SOSIE_ROUNDS: how many; seeds are printed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/replicate/pass.h"
#include "tests/support/rounds.h"

#define EXTENTS_MAX 4096u
#define LEAVES_MAX 8192u

struct told {
	struct sosie_source base;
	struct sosie_extent e[EXTENTS_MAX];
	unsigned count;
	uint64_t size;
};

static uint64_t rng_state;

static uint64_t rng(void)
{
	uint64_t z = rng_state += 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static struct told told;

static int told_next(struct sosie_view *view, unsigned volume, struct sosie_io *io, struct sosie_file *file,
                     uint64_t from, struct sosie_extent *out, struct sosie_err *err)
{
	(void)view, (void)volume, (void)io, (void)file, (void)err;
	*out = (struct sosie_extent){SOSIE_EXTENT_END, told.size, told.size};
	for (unsigned i = 0; i < told.count; i++)
		if (told.e[i].end > from) {
			*out = told.e[i];
			if (out->start < from)
				out->start = from;
			return 0;
		}
	return 0;
}

static const struct sosie_source_ops told_ops = {.name = "told", .next = told_next};

/* --- the model
 * ----------------------------------------------------------------------------------------------------- */

enum fate { FATE_SKIP, FATE_HOLE, FATE_READ, FATE_ANY };

static enum fate fate_of(const struct volume *v, enum pass_mode mode, uint64_t leaf)
{
	uint64_t start = leaf * SOSIE_LEAF, end = start + SOSIE_LEAF < v->size ? start + SOSIE_LEAF : v->size;
	unsigned holes = 0, data = 0, same = 0;

	for (unsigned i = 0; i < told.count; i++) {
		if (told.e[i].end <= start || told.e[i].start >= end)
			continue;
		holes += told.e[i].kind == SOSIE_EXTENT_HOLE;
		data += told.e[i].kind == SOSIE_EXTENT_DATA;
		same += told.e[i].kind == SOSIE_EXTENT_SAME;
	}
	if (mode == PASS_DIGEST) {
		data += same;
		same = 0;
	}
	if (data > 0 || (holes > 0 && same > 0))
		return FATE_READ;
	if (holes > 0)
		return holes == 1 ? FATE_HOLE : FATE_ANY; /* two holes that meet in it: either is right */
	if (end - start < SOSIE_LEAF || (v->base_path && v->base_size > start && v->base_size < end))
		return FATE_READ;
	return FATE_SKIP;
}

struct tally {
	uint8_t seen[LEAVES_MAX]; /* 1: as a hole, 2: to be read */
	uint64_t last_end, last_chunk;
	unsigned batches, reads, holes, skipped;
};

static void note_batch(struct tally *t, const struct volume *v, const struct batch *b)
{
	assert_true(b->count > 0 && b->count <= BATCH_PIECES);
	assert_true(t->batches == 0 || b->pieces[0].start / SOSIE_CHUNK > t->last_chunk);
	for (unsigned i = 0; i < b->count; i++) {
		const struct piece *p = &b->pieces[i];

		assert_true(p->start < p->end && p->end <= v->size);
		assert_int_equal(p->start % SOSIE_LEAF, 0);
		assert_true(p->end % SOSIE_LEAF == 0 || p->end == v->size);
		assert_true(p->start >= t->last_end);
		t->last_end = p->end;
		for (uint64_t leaf = p->start / SOSIE_LEAF; leaf * SOSIE_LEAF < p->end; leaf++) {
			assert_int_equal(t->seen[leaf], 0);
			t->seen[leaf] = p->data ? 2 : 1;
		}
	}
	t->last_chunk = (t->last_end - 1) / SOSIE_CHUNK;
	t->batches++;
}

static void compare(struct tally *t, const struct volume *v, enum pass_mode mode)
{
	for (uint64_t leaf = 0; leaf * SOSIE_LEAF < v->size; leaf++) {
		enum fate fate = fate_of(v, mode, leaf);
		enum fate got = t->seen[leaf] == 0 ? FATE_SKIP : t->seen[leaf] == 1 ? FATE_HOLE : FATE_READ;

		if (fate == FATE_ANY ? got == FATE_SKIP : fate != got)
			fail_msg("leaf %llu: handed out as %d, not %d", (unsigned long long)leaf, (int)got,
			         (int)fate);
		t->reads += got == FATE_READ;
		t->holes += got == FATE_HOLE;
		t->skipped += got == FATE_SKIP;
	}
}

static void run(struct volume *v, enum pass_mode mode, struct tally *t)
{
	struct sosie_replicator *r = calloc(1, sizeof(*r));
	struct batch *b = malloc(sizeof(*b));
	struct sosie_err err = {0};
	struct sosie_io *io;
	struct sosie_file *file;
	struct pass p;

	assert_true(r && b);
	memset(t, 0, sizeof(*t));
	r->volumes = v;
	r->volume_count = 1;
	r->o.streams = 1;
	r->o.source = &told.base;
	told.base.ops = &told_ops;
	assert_int_equal(sosie_io_posix(&io, &err), 0);
	assert_int_equal(sosie_io_openat(io, "/proc/self/exe", SOSIE_READ | SOSIE_FOLLOW, 0, &file, &err), 0);
	pass_init(&p, r, NULL, mode);
	assert_int_equal(pass_take(&p, io, NULL, 0, b, &err), 0);
	assert_int_equal(b->kind, BATCH_SWITCH);
	while (pass_take(&p, io, file, 0, b, &err) == 0 && b->kind == BATCH_WORK)
		note_batch(t, v, b);
	assert_int_equal(b->kind, BATCH_END);
	pass_fini(&p);
	compare(t, v, mode);
	sosie_io_close(io, file, NULL);
	sosie_io_free(io);
	free(b);
	free(r);
}

static void tell(enum sosie_extent_kind kind, uint64_t end)
{
	uint64_t start = told.count ? told.e[told.count - 1].end : 0;

	assert_true(told.count < EXTENTS_MAX && end > start);
	told.e[told.count++] = (struct sosie_extent){kind, start, end};
	told.size = end;
}

static void tell_random(uint64_t size, uint64_t longest)
{
	told.count = 0;
	for (uint64_t at = 0; at < size;) {
		uint64_t len = 1 + rng() % longest;

		if (rng() % 2)
			len = (len + SOSIE_LEAF - 1) / SOSIE_LEAF * SOSIE_LEAF;
		at = told.count + 1 == EXTENTS_MAX || at + len > size ? size : at + len;
		tell((enum sosie_extent_kind)(rng() % 3), at);
	}
}

/* --- tests
 * ---------------------------------------------------------------------------------------------------------
 */

static void test_pass_random_extents_hand_out_each_leaf_as_the_model_says(void **state)
{
	struct tally *t = malloc(sizeof(*t));
	unsigned reads = 0, holes = 0, skipped = 0, batches = 0, rounds = test_rounds(300, 6000);

	(void)state;
	assert_non_null(t);
	for (unsigned n = 0; n < rounds; n++) {
		struct volume v = {0};

		rng_state = n;
		v.size = 1 + rng() % (n % 3 ? 3000000 : LEAVES_MAX * SOSIE_LEAF);
		v.base_path = rng() % 2 ? "base" : NULL;
		v.base_size = rng() % 2 ? v.size : 1 + rng() % (v.size * 2);
		tell_random(v.size, n % 2 ? 9000 : 1500000);
		if (n % 100 == 0)
			print_message("seed %u and on\n", n);
		run(&v, n % 7 ? PASS_SEND : PASS_DIGEST, t);
		reads += t->reads;
		holes += t->holes;
		skipped += t->skipped;
		batches += t->batches;
	}
	assert_true(reads > 3 * rounds && holes > 3 * rounds && skipped > 3 * rounds && batches > rounds);
	free(t);
}

/* Thousands of single leaves: batches are bounded, and no chunk is in two of them. */
static void test_pass_scattered_leaves_come_in_batches_of_whole_chunks(void **state)
{
	struct tally *t = malloc(sizeof(*t));
	struct volume v = {.size = (uint64_t)LEAVES_MAX * SOSIE_LEAF};

	(void)state;
	assert_non_null(t);
	told.count = 0;
	for (uint64_t leaf = 0; leaf + 1 < 4094; leaf += 2) {
		tell(SOSIE_EXTENT_SAME, (leaf + 1) * SOSIE_LEAF);
		tell(SOSIE_EXTENT_DATA, (leaf + 2) * SOSIE_LEAF);
	}
	tell(SOSIE_EXTENT_SAME, v.size);
	run(&v, PASS_SEND, t);
	assert_int_equal(t->reads, 2047);
	assert_int_equal(t->batches, 8); /* 128 leaves a chunk: two chunks fill one */
	free(t);
}

static void test_pass_dense_extent_is_cut_at_multiples_of_batches(void **state)
{
	struct tally *t = malloc(sizeof(*t));
	struct volume v = {.size = (uint64_t)LEAVES_MAX * SOSIE_LEAF};

	(void)state;
	assert_non_null(t);
	told.count = 0;
	tell(SOSIE_EXTENT_DATA, v.size);
	run(&v, PASS_SEND, t);
	assert_int_equal(t->reads, LEAVES_MAX);
	assert_int_equal(t->batches, v.size / BATCH_BYTES);
	free(t);
}

static void test_pass_nothing_changed_hands_out_nothing(void **state)
{
	struct tally *t = malloc(sizeof(*t));
	struct volume v = {.size = 10 * SOSIE_CHUNK};

	(void)state;
	assert_non_null(t);
	told.count = 0;
	tell(SOSIE_EXTENT_SAME, v.size);
	run(&v, PASS_SEND, t);
	assert_int_equal(t->batches, 0);
	free(t);
}

static void test_pass_short_last_leaf_is_read_though_told_same(void **state)
{
	struct tally *t = malloc(sizeof(*t));
	struct volume v = {.size = 3 * SOSIE_LEAF + 5, .base_path = "base", .base_size = 2 * SOSIE_LEAF - 1};

	(void)state;
	assert_non_null(t);
	told.count = 0;
	tell(SOSIE_EXTENT_SAME, v.size);
	run(&v, PASS_SEND, t);
	assert_int_equal(t->reads, 2); /* the last one, and the one in which the base ended */
	assert_int_equal(t->seen[1], 2);
	assert_int_equal(t->seen[3], 2);
	free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_pass_random_extents_hand_out_each_leaf_as_the_model_says),
	        cmocka_unit_test(test_pass_scattered_leaves_come_in_batches_of_whole_chunks),
	        cmocka_unit_test(test_pass_dense_extent_is_cut_at_multiples_of_batches),
	        cmocka_unit_test(test_pass_nothing_changed_hands_out_nothing),
	        cmocka_unit_test(test_pass_short_last_leaf_is_read_though_told_same),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

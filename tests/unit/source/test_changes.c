/* SPDX-License-Identifier: MIT */
/* The bounded range set against a bitmap, and the join of two mappings against a plain model: also with
 * answers that a kernel should never give. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/source/mapping.h"
#include "tests/support/rounds.h"

#define UNITS 4096u

static uint64_t random_state;

static uint64_t below(uint64_t bound)
{
	random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
	return (random_state >> 33) % bound;
}

static struct changes *make(unsigned max)
{
	struct changes *c;

	assert_int_equal(changes_new(max, &c, NULL), 0);
	return c;
}

/* --- the set */

/* Every unit of the bitmap is covered; returns the ranges held. */
static unsigned check_cover(struct changes *c, const uint8_t *map, bool exact)
{
	uint64_t at = 0, start, end, behind = 0, sum = 0;
	unsigned held = 0;

	while (changes_next(c, at, &start, &end)) {
		assert_true(start < end && (held == 0 || start > behind));
		for (uint64_t i = behind; i < start && i < UNITS; i++)
			assert_false(map[i]);
		for (uint64_t i = start; exact && i < end; i++)
			assert_true(map[i]);
		at = behind = end;
		sum += end - start;
		held++;
	}
	for (uint64_t i = behind; i < UNITS; i++)
		assert_false(map[i]);
	assert_int_equal(changes_bytes(c), sum);
	return held;
}

static void one_set(unsigned max, unsigned adds)
{
	static uint8_t map[UNITS];
	struct changes *c = make(max);
	bool ascending = below(4) == 0;

	memset(map, 0, sizeof(map));
	for (unsigned i = 0; i < adds; i++) {
		uint64_t start = ascending ? (uint64_t)i * (UNITS - 16) / adds : below(UNITS - 16);
		uint64_t len = below(8) ? below(3) : below(16);

		memset(map + start, 1, len);
		changes_add(c, start, start + len);
	}
	changes_seal(c);
	assert_true(check_cover(c, map, adds < max / 2) <= max);
	changes_free(c);
}

static void test_set_random_additions_cover_the_bitmap_within_bounds(void **state)
{
	unsigned n = test_rounds(2000, 100000), done = 0;

	(void)state;
	for (random_state = 1; done < n; done++) {
		unsigned max = 16 + (unsigned)below(200);

		one_set(max, (unsigned)below(4 * max));
	}
	assert_int_equal(done, n);
}

static void test_set_when_full_gives_up_the_smallest_gaps_only(void **state)
{
	struct changes *c = make(16);
	uint64_t start, end;

	(void)state;
	/* 40 pairs: 1 apart inside, 1000 between. */
	for (uint64_t i = 0; i < 8; i++)
		for (uint64_t k = 0; k < 5; k++)
			changes_add(c, i * 1000 + 2 * k, i * 1000 + 2 * k + 1);
	changes_seal(c);
	for (uint64_t i = 0; i < 8; i++) {
		assert_true(changes_next(c, i * 1000, &start, &end));
		assert_int_equal(start, i * 1000);
		assert_true(end <= i * 1000 + 9);
	}
	assert_true(changes_bytes(c) <= 8 * 9);
	changes_free(c);
}

/* Equal gaps: no more are given up than needed, so a bound of n never collapses into one range. */
static void test_set_with_equal_gaps_keeps_at_least_half_its_ranges(void **state)
{
	struct changes *c = make(CHANGES_MAX);
	uint64_t at = 0, start, end, held = 0;

	(void)state;
	for (uint64_t i = 0; i < 200000; i++)
		changes_add(c, (i * 7919 % 200000) << 20, ((i * 7919 % 200000) << 20) + 4096);
	changes_seal(c);
	for (; changes_next(c, at, &start, &end); at = end)
		held++;
	print_message("  200000 scattered blocks are %u ranges\n", (unsigned)held);
	assert_true(held <= CHANGES_MAX && held >= CHANGES_MAX / 2);
	assert_true(changes_bytes(c) < 200000ull << 20);
	changes_free(c);
}

static void test_set_all_and_limit_and_edges_are_kept(void **state)
{
	struct changes *c = make(16);
	uint64_t start, end;

	(void)state;
	changes_add(c, 5, 5);
	changes_add(c, 6, 5);
	changes_add(c, UINT64_MAX - 1, UINT64_MAX);
	changes_limit(c, 100);
	changes_add(c, 90, UINT64_MAX);
	changes_add(c, 100, 200);
	changes_seal(c);
	assert_int_equal(changes_bytes(c), 11);
	assert_true(changes_next(c, 0, &start, &end) && start == 90 && end == 100);
	assert_true(changes_next(c, 100, &start, &end) && start == UINT64_MAX - 1);
	assert_true(changes_next(c, 99, &start, &end) && start == 90);
	assert_false(changes_next(c, UINT64_MAX, &start, &end));
	assert_false(changes_is_all(c));
	changes_free(c);
	c = make(16);
	changes_add(c, 1, 2);
	changes_all(c);
	changes_add(c, 3, 4);
	changes_seal(c);
	assert_true(changes_is_all(c) && changes_bytes(c) == UINT64_MAX);
	assert_true(changes_next(c, 77, &start, &end) && start == 0 && end == UINT64_MAX);
	changes_free(c);
}

/* --- the join, with mappings that are made up: the descriptor's file only gives the size */

struct fake {
	struct mapping_piece pieces[64];
	unsigned count;
	unsigned lie_at; /* the fill that misbehaves, from 1; 0: none */
	unsigned lie;
	unsigned fills;
};
static struct fake fakes[2];
static int fake_fds[2];

static int fake_prepare(struct mapping *m, struct sosie_err *err)
{
	(void)m;
	(void)err;
	return 0;
}

static int tell_lie(struct mapping *m, struct fake *f, struct sosie_err *err)
{
	struct mapping_piece p = {.start = m->known, .end = m->known + 1, .kind = MAPPING_DATA};

	switch (f->lie) {
	case 0: /* an empty answer that is not the end */
		return 0;
	case 1: /* an empty piece */
		p.end = p.start;
		break;
	case 2: /* back to the beginning */
		p.start = 0;
		break;
	case 3: /* from the end to the beginning */
		p.start = UINT64_MAX;
		p.end = 5;
		break;
	case 4: /* an error */
		return sosie_err_set(err, SOSIE_EIO, "told to");
	default: /* pieces, but no progress */
		m->pieces[0] = p;
		m->count = 1;
		return 0;
	}
	m->from++;
	mapping_put(m, &p);
	return 0;
}

/* A few pieces a call. */
static int fake_fill(struct mapping *m, struct sosie_err *err)
{
	struct fake *f = &fakes[m->fd == fake_fds[1]];
	unsigned put = 0;

	if (++f->fills == f->lie_at)
		return tell_lie(m, f, err);
	for (unsigned i = 0; i < f->count && put < 3; i++)
		if (f->pieces[i].start >= m->from) {
			mapping_put(m, &f->pieces[i]);
			m->from = f->pieces[i].end;
			put++;
		}
	if (put == 0)
		m->last = true;
	return 0;
}

static const struct mapping_ops fake_ops = {.raw_bytes = 1, .prepare = fake_prepare, .fill = fake_fill};

/* Random pieces; the second fake is the first with some of them replaced. */
static void make_pieces(struct fake *f, const struct fake *like)
{
	uint64_t at = 0;

	f->count = 0;
	while (at < UNITS - 200 && f->count < 60) {
		struct mapping_piece *p = &f->pieces[f->count++];

		at += below(3) ? 0 : below(100);
		*p = (struct mapping_piece){.start = at,
		                            .end = at + 1 + below(100),
		                            .kind = (enum mapping_kind)below(4),
		                            .disk = below(3),
		                            .inside = below(2) * 1000 + at,
		                            .generation = below(4) == 0};
		at = p->end;
	}
	if (!like)
		return;
	for (unsigned i = 0; i < f->count; i++)
		f->pieces[i] = i < like->count && below(4) ? like->pieces[i] : f->pieces[i];
	for (unsigned i = 1; i < f->count; i++) /* the replaced ones may overlap: cut the list there */
		if (f->pieces[i].start < f->pieces[i - 1].end)
			f->count = i;
}

/* What the file's unit is, as a number; opaque units are never equal to anything. */
static uint64_t content(const struct fake *f, uint64_t unit, uint64_t salt)
{
	for (unsigned i = 0; i < f->count; i++) {
		const struct mapping_piece *p = &f->pieces[i];

		if (unit < p->start || unit >= p->end)
			continue;
		if (p->kind == MAPPING_HOLE || p->kind == MAPPING_UNWRITTEN)
			return 0;
		if (p->kind == MAPPING_OPAQUE)
			return 1000000 + salt;
		return 1 + p->disk * 2 + p->generation + (p->inside + unit - p->start) * 16;
	}
	return 0;
}

static int make_file(off_t size)
{
	char name[] = "/tmp/sosie-changes-XXXXXX";
	int fd = mkstemp(name);

	assert_true(fd >= 0);
	assert_int_equal(unlink(name), 0);
	assert_int_equal(ftruncate(fd, size), 0);
	return fd;
}

static void set_up_fakes(uint64_t seed)
{
	random_state = seed;
	memset(fakes, 0, sizeof(fakes));
	make_pieces(&fakes[0], NULL);
	make_pieces(&fakes[1], below(8) ? &fakes[0] : NULL);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(ftruncate(fake_fds[i], (off_t)(UNITS - (below(2) ? below(300) : 0))), 0);
}

static void one_join(uint64_t seed, uint64_t *different)
{
	struct changes *c = make(CHANGES_MAX);
	uint64_t size[2], start = 0, end = 0;

	set_up_fakes(seed);
	for (unsigned i = 0; i < 2; i++)
		size[i] = (uint64_t)lseek(fake_fds[i], 0, SEEK_END);
	assert_int_equal(mapping_compare(&fake_ops, fake_fds[0], fake_fds[1], MAPPING_CONTENT, c, NULL), 0);
	changes_seal(c);
	assert_false(changes_is_all(c));
	for (uint64_t i = 0; i < UNITS; i++) {
		bool differs = i < size[0] && i < size[1]
		                       ? content(&fakes[0], i, 0) != content(&fakes[1], i, 1)
		                       : i < size[0] || i < size[1];
		bool told = changes_next(c, i, &start, &end) && start <= i;

		if (differs != told)
			fail_msg("seed %lu, unit %lu: differs %d, told %d", seed, i, differs, told);
		*different += differs;
	}
	changes_free(c);
}

static void test_join_random_mappings_tell_just_what_differs(void **state)
{
	unsigned n = test_rounds(500, 20000);
	uint64_t different = 0;

	(void)state;
	fake_fds[0] = make_file(UNITS);
	fake_fds[1] = make_file(UNITS);
	for (unsigned i = 0; i < n; i++)
		one_join(i, &different);
	assert_true(different > 0 && different < (uint64_t)n * UNITS);
	close(fake_fds[0]);
	close(fake_fds[1]);
}

static void one_lie(unsigned lie, unsigned who, unsigned at)
{
	struct changes *c = make(16);
	struct sosie_err err;
	int rc;

	for (uint64_t seed = lie; seed == lie || fakes[0].count <= 12 || fakes[1].count <= 12; seed++)
		set_up_fakes(seed);
	fakes[who].lie_at = at;
	fakes[who].lie = lie;
	rc = mapping_compare(&fake_ops, fake_fds[0], fake_fds[1], MAPPING_CONTENT, c, &err);
	assert_int_equal(rc, lie == 4 ? -SOSIE_EIO : 0);
	assert_true(fakes[who].fills >= at);
	changes_seal(c);
	assert_true(changes_is_all(c));
	changes_free(c);
}

static void test_join_with_answers_that_make_no_sense_tells_all(void **state)
{
	unsigned lies = 0;

	(void)state;
	fake_fds[0] = make_file(UNITS);
	fake_fds[1] = make_file(UNITS);
	for (unsigned lie = 0; lie < 6; lie++)
		for (unsigned who = 0; who < 2; who++)
			for (unsigned at = 2; at < 4; at++, lies++)
				one_lie(lie, who, at);
	assert_int_equal(lies, 24);
	close(fake_fds[0]);
	close(fake_fds[1]);
}

static void test_finders_on_what_has_no_mapping_say_so(void **state)
{
	struct changes *c = make(16);
	struct sosie_err err;
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC), memory = memfd_create("x", MFD_CLOEXEC);
	bool equal = true;

	(void)state;
	assert_true(null >= 0 && memory >= 0);
	assert_int_equal(changes_by_fiemap(null, null, c, &err), -SOSIE_EUNSUPPORTED);
	assert_int_equal(changes_by_fiemap(memory, memory, c, &err), -SOSIE_EUNSUPPORTED);
	assert_int_equal(changes_by_items(memory, memory, c, &err), -SOSIE_EUNSUPPORTED);
	assert_true(err.action[0] != 0);
	assert_int_equal(changes_equal_mappings(memory, memory, &equal, &err), -SOSIE_EUNSUPPORTED);
	assert_false(equal);
	close(null);
	close(memory);
	changes_free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_set_random_additions_cover_the_bitmap_within_bounds),
	        cmocka_unit_test(test_set_when_full_gives_up_the_smallest_gaps_only),
	        cmocka_unit_test(test_set_with_equal_gaps_keeps_at_least_half_its_ranges),
	        cmocka_unit_test(test_set_all_and_limit_and_edges_are_kept),
	        cmocka_unit_test(test_join_random_mappings_tell_just_what_differs),
	        cmocka_unit_test(test_join_with_answers_that_make_no_sense_tells_all),
	        cmocka_unit_test(test_finders_on_what_has_no_mapping_say_so),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

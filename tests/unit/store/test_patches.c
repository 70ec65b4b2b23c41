/* SPDX-License-Identifier: MIT */
/*
 * Segments of patches and deltas at the keeper: each builds on what all records before it made, whoever
 * decodes first; whatever fails, a head that was half changed is never built on.
 */
#include "tests/support/rounds.h"
#include "tests/unit/store/lab.h"

#define MIB (1u << 20)
#define EDITS 64u
#define CHAINED 86u /* 80 deltas read 80 MiB: below what is refused for a group of 11 MiB */

static uint8_t noise[8 * MIB];
static uint32_t seed_now = SEED;

static uint32_t rnd(uint32_t below)
{
	seed_now = seed_now * 1664525u + 1013904223u;
	return (uint32_t)((uint64_t)seed_now * below >> 32);
}

static int setup(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(noise); i++)
		noise[i] = (uint8_t)rnd(256);
	return 0;
}

/*
 * A disk that takes requests in any order, none before it is reaped: the simulated one's table of calls with
 * two replaced. What the store does not wait for, a read submitted later may come before.
 */
#define HELD 16384u
static struct {
	struct sosie_io_ops ops;
	const struct sosie_io_ops *kept;
	struct sosie_req *held[HELD];
	unsigned count;
	uint64_t overtaken;
} lazy;

static void lazy_submit(struct sosie_io *io, struct sosie_req *req)
{
	(void)io;
	assert_true(lazy.count < HELD);
	lazy.held[lazy.count++] = req;
}

static int lazy_reap(struct sosie_io *io, unsigned min, struct sosie_err *err)
{
	int count = 0;
	for (; lazy.count > 0 && (unsigned)count < min + rnd(2); count++) {
		unsigned i = rnd(lazy.count);
		struct sosie_req *req = lazy.held[i];
		lazy.overtaken += i;
		lazy.held[i] = lazy.held[--lazy.count];
		lazy.kept->submit(io, req);
		assert_int_equal(lazy.kept->reap(io, 1, err), 1);
	}
	return count;
}

static void lazy_disk(struct lab *l)
{
	lazy.kept = l->io->ops;
	lazy.ops = *lazy.kept;
	lazy.ops.submit = lazy_submit;
	lazy.ops.reap = lazy_reap;
	lazy.count = 0;
	l->io->ops = &lazy.ops;
}

/* Point 1: 3 MiB and a volume with a short end, all noise. */
static void first_point(struct lab *l)
{
	const struct change whole[] = {{0, 0, 3 * MIB, noise}, {1, 0, 10000, noise + 77}};
	model_add(&l->model, "root", 3 * MIB);
	model_add(&l->model, "data.1", 10000);
	lab_point(l, whole, 2);
}

static void lab_start(struct lab *l)
{
	lab_init(l, 1u << 28, 0, true);
	lab_accept(l);
	first_point(l);
}

/* Small edits close to each other, so that records of one segment build on one another; some zeros. */
static unsigned random_edits(const struct model *m, struct change changes[EDITS])
{
	unsigned count = 2 + rnd(EDITS - 2), near = rnd((uint32_t)m->volumes[0].size);
	for (unsigned i = 0; i < count; i++) {
		const unsigned v = rnd(6) ? 0 : 1;
		const uint64_t size = m->volumes[v].size;
		uint64_t at = rnd(2) ? rnd((uint32_t)size) : (near + rnd(20000)) % size;
		uint64_t len = 1 + rnd(rnd(8) ? 200 : 20000);
		bool zero = rnd(10) == 0;
		if (zero)
			at -= at % SOSIE_LEAF;
		len = len > size - at ? size - at : len;
		changes[i] = (struct change){v, at, len, zero ? NULL : noise + rnd(sizeof(noise) - 20000)};
	}
	return count;
}

static void accept_random(struct lab *l, enum make_as as, unsigned *patches, unsigned *deltas)
{
	struct change changes[EDITS];
	unsigned count = random_edits(&l->model, changes);
	struct make_upload u = lab_upload(l, changes, count);
	u.as = as;
	u.parts = 1 + rnd(3);
	u.packed = l->point_count % 2 != 0;
	make_upload(&u);
	struct sosie_accept_result r = lab_accept(l);
	if (r.accepted != 1)
		fail_msg("seed %u: not accepted: %s", SEED, r.last.what);
	lab_keep_point(l);
	lab_compare_dir(l, "/s/acme/erp/head", &l->model);
	*patches += u.patches;
	*deltas += u.deltas;
}

/* Records that overlap in every way, over generations and restarts: every point made anew is the source's. */
static void test_random_edits_as_patches_and_deltas_equal_the_source(void **state)
{
	unsigned patches = 0, deltas = 0, rounds = test_rounds_least(4, 40);
	(void)state;
	for (unsigned round = 0; round < rounds; round++) {
		struct lab l;
		lab_start(&l);
		if (round % 2 == 0)
			lazy_disk(&l);
		for (unsigned point = 0; point < 8; point++) {
			l.store->info.policy.fold_points = 3;
			accept_random(&l, (enum make_as)rnd(3), &patches, &deltas);
			if (rnd(3) == 0)
				OK(&l, sosie_keeper_settle(l.store, "acme", "erp", &l.err));
			if (rnd(3) == 0) {
				lab_close(&l);
				lab_open(&l);
				if (round % 2 == 0)
					lazy_disk(&l);
			}
		}
		lab_check_points(&l);
		lab_fini(&l);
	}
	print_message("%u patches, %u deltas, %llu requests overtaken\n", patches, deltas,
	              (unsigned long long)lazy.overtaken);
	assert_true(patches > 12 * rounds && deltas > 12 * rounds && lazy.overtaken > 25 * rounds);
}

/* The same leaf again and again, as patch over patch and as delta whose basis is the whole chunk; enough
 * bytes for decoders in threads. */
static void test_records_that_build_on_one_another_keep_their_order(void **state)
{
	static struct change changes[CHAINED];
	struct lab l;
	(void)state;
	for (int as = MAKE_PATCH; as <= MAKE_DELTA; as++) {
		lab_start(&l);
		lazy_disk(&l);
		model_add(&l.model, "big", 8 * MIB);
		for (unsigned i = 0; i < CHAINED; i++)
			changes[i] = i < 6 ? (struct change){2, (uint64_t)i * MIB, MIB, noise + i * MIB}
			                   : (struct change){0, 4096 * (i % 3) + 10 * (i % 300), 30,
			                                     noise + 31 * i};
		struct make_upload u;
		lab_point_as(&l, changes, CHAINED, (enum make_as)as, &u);
		assert_true(u.part0_len > 5 * MIB);
		assert_int_equal(as == MAKE_PATCH ? u.patches : u.deltas, CHAINED - 6);
		lab_compare_dir(&l, "/s/acme/erp/head", &l.model);
		lab_check_points(&l);
		lab_fini(&l);
	}
}

/* What lies behind the old end, and in holes, is zeros to build on. */
static void test_volumes_that_grow_and_shrink_build_on_zeros(void **state)
{
	struct lab l;
	struct make_upload u;
	(void)state;
	for (int as = MAKE_PATCH; as <= MAKE_DELTA; as++) {
		lab_start(&l);
		const struct change end[] = {{0, 3 * MIB - 100, 5000, noise + 9}, {1, 9990, 7000, noise + 5}};
		model_resize(&l.model, 0, 4 * MIB);
		model_resize(&l.model, 1, 17001);
		lab_point_as(&l, end, 2, (enum make_as)as, &u);
		assert_true(u.patches + u.deltas > 0);
		lab_compare_dir(&l, "/s/acme/erp/head", &l.model);
		const struct change less[] = {{0, 2 * MIB + 5, 50, noise + 99}};
		model_resize(&l.model, 0, 2 * MIB + 4500);
		lab_point_as(&l, less, 1, (enum make_as)as, &u);
		assert_int_equal(u.patches + u.deltas, 1);
		const struct change again[] = {{0, 2 * MIB + 4400, 300, noise + 1}};
		model_resize(&l.model, 0, 3 * MIB);
		lab_point_as(&l, again, 1, (enum make_as)as, NULL);
		lab_compare_dir(&l, "/s/acme/erp/head", &l.model);
		lab_check_points(&l);
		lab_fini(&l);
	}
}

/* A good record, then one made against something else: refused, and what the first did to the head is gone.
 */
static void test_segment_with_wrong_basis_is_refused_and_next_accepted(void **state)
{
	struct lab l;
	const struct change c[] = {
	        {0, 4100, 50, noise + 3}, {0, 2 * MIB + 77, 50, noise + 8}, {0, 4090, 9, noise}};
	(void)state;
	lab_start(&l);
	for (int as = MAKE_PATCH; as <= MAKE_DELTA; as++)
		for (int damage = 0; damage < 2; damage++) {
			struct model before;
			model_copy(&before, &l.model);
			struct make_upload u = lab_upload(&l, c, 3);
			u.as = (enum make_as)as;
			u.wrong_basis = damage == 0;
			u.flip = damage == 1;
			u.flip_at = 150; /* in the second record */
			make_upload(&u);
			assert_true(u.part0_len > u.flip_at);
			lab_expect_refused(&l, &u, SOSIE_ECORRUPT);
			model_fini(&l.model);
			l.model = before;
			struct make_upload good;
			lab_point_as(&l, c, 3, (enum make_as)as, &good);
			assert_true(good.patches + good.deltas > 0);
			lab_compare_dir(&l, "/s/acme/erp/head", &l.model);
			const struct change away[] = {{0, 4000, 300, noise + 4242 + 100 * as + 10 * damage},
			                              {0, 2 * MIB, 300, noise + 5242 + 100 * as}};
			lab_point(&l, away, 2);
		}
	lab_check_points(&l);
	lab_fini(&l);
}

static void flip(struct lab *l, const char *path, uint64_t at)
{
	struct sosie_file *f;
	uint8_t byte;
	size_t got;
	OK(l, sosie_io_openat(l->io, path, SOSIE_READ | SOSIE_WRITE, 0, &f, &l->err));
	OK(l, sosie_io_pread(l->io, f, &byte, 1, at, &got, &l->err));
	byte ^= 1;
	OK(l, sosie_io_pwrite(l->io, f, &byte, 1, at, &l->err));
	sosie_io_close(l->io, f, NULL);
}

/* It is our image that is wrong: the head is built anew and the segment accepted. */
static void test_head_damaged_under_a_patch_is_built_anew(void **state)
{
	struct lab l;
	(void)state;
	for (int as = MAKE_PATCH; as <= MAKE_DELTA; as++) {
		lab_start(&l);
		OK(&l, sosie_keeper_settle(l.store, "acme", "erp", &l.err));
		flip(&l, "/s/acme/erp/head/root.raw", 5000);
		const struct change c[] = {{0, 4100, 50, noise + 3}};
		struct make_upload u;
		lab_point_as(&l, c, 1, (enum make_as)as, &u);
		assert_int_equal(u.patches + u.deltas, 1);
		lab_compare_dir(&l, "/s/acme/erp/head", &l.model);
		lab_check_points(&l);
		lab_fini(&l);
	}
}

static void on_damage(void *arg, const char *where, const char *what)
{
	char *said = arg;
	snprintf(said, 512, "%s: %s", where, what);
}

static uint64_t damaged(struct lab *l, bool full, char said[512])
{
	struct sosie_verify v = {.full = full, .damage = on_damage, .arg = said};
	struct sosie_group *g = lab_group(l);
	said[0] = '\0';
	OK(l, sosie_group_verify(g, &v, &l->err));
	sosie_group_close(g);
	return v.damaged;
}

/* What a patch holds cannot be told without images; that its bytes are not those of the manifest can. */
static void test_verify_tells_of_a_damaged_patch(void **state)
{
	static const char part[] = "/s/acme/erp/journal/2.seg";
	struct lab l;
	struct make_upload u;
	char said[512];
	(void)state;
	for (int as = MAKE_PATCH; as <= MAKE_DELTA; as++) {
		lab_start(&l);
		const struct change c[] = {{0, 4100, 50, noise + 3}};
		lab_point_as(&l, c, 1, (enum make_as)as, &u);
		assert_int_equal(u.patches + u.deltas, 1);
		OK(&l, sosie_keeper_settle(l.store, "acme", "erp", &l.err));
		OK(&l, sosie_io_chmod(l.io, part, 0640, &l.err));
		assert_int_equal(damaged(&l, true, said), 0);
		flip(&l, part, u.part0_len - 20);
		assert_int_equal(damaged(&l, false, said), 1);
		assert_non_null(strstr(said, "2.seg"));
		assert_non_null(strstr(said, "patch or delta (1 records)"));
		flip(&l, part, u.part0_len - 20);
		assert_int_equal(damaged(&l, true, said), 0);
		lab_fini(&l);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_random_edits_as_patches_and_deltas_equal_the_source),
	        cmocka_unit_test(test_records_that_build_on_one_another_keep_their_order),
	        cmocka_unit_test(test_volumes_that_grow_and_shrink_build_on_zeros),
	        cmocka_unit_test(test_segment_with_wrong_basis_is_refused_and_next_accepted),
	        cmocka_unit_test(test_head_damaged_under_a_patch_is_built_anew),
	        cmocka_unit_test(test_verify_tells_of_a_damaged_patch),
	};
	printf("seed %u\n", SEED);
	return cmocka_run_group_tests_name("patches", tests, setup, NULL);
}

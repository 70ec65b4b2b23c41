/* SPDX-License-Identifier: MIT */
/*
 * The machine of the source goes down: the state folder lies on a simulated disk that keeps, loses, tears or
 * reorders what was not fsynced, and the next process finds another boot id. At each operation of a cycle:
 * the next cycle makes the right point, without a comparison and without reading all. SOSIE_ROUNDS: every
 * operation in place of every 17th.
 */
#include "tests/unit/replicate/tracking.h"

#include "tests/support/rounds.h"

#define QUICK 17u /* from one cut to the next */

struct machine {
	struct harness *h;
	struct sosie_disk *disk; /* NULL: the state folder is a real one */
	unsigned boots;
	unsigned points; /* after which the bases are fsynced */
};

static void power_on(struct machine *m)
{
	struct harness *h = m->h;
	struct sosie_io *io = NULL;
	char boot[40];

	snprintf(boot, sizeof(boot), "boot-%u", ++m->boots);
	h->o.volumes = h->volumes;
	h->o.volume_count = h->volume_count;
	h->source = make_tracking(h);
	h->o.source = h->source;
	if (m->disk)
		must(sosie_io_sim(m->disk, &io, &h->err), &h->err);
	must(replicator_open_on(&h->o, io, boot, &h->r, &h->err), &h->err);
	h->r->redo_points_max = m->points;
}

static void power_off(struct machine *m, enum sosie_fate fate)
{
	if (m->disk)
		sosie_disk_cut_after(m->disk, 0);
	tracked_kill(m->h);
	if (m->disk)
		sosie_disk_restart(m->disk, fate);
}

static void machine_new(struct machine *m, bool simulated, unsigned points, uint64_t seed)
{
	struct harness *h = harness_new(1);

	*m = (struct machine){.h = h, .points = points};
	memset(&tracked, 0, sizeof(tracked));
	rng_state = seed;
	if (simulated)
		m->disk = sosie_disk_new((uint64_t)256 << 20, seed + 1, false);
	add_volume(h, "a");
	add_volume(h, "b");
	set_size(h, 0, 3u << 20);
	set_size(h, 1, (2u << 20) + 4096 + 777);
	scribble(h, 0, 4096 * 3, 2u << 20);
	scribble(h, 1, 1u << 20, 600000);
	power_on(m);
}

static void machine_free(struct machine *m)
{
	power_off(m, SOSIE_FATE_KEPT);
	harness_free(m->h);
	sosie_disk_free(m->disk);
}

/* Scattered leaves, and a hole now and then. */
static void write_some(struct harness *h)
{
	for (unsigned i = 0; i < 12; i++)
		scribble(h, i & 1, rng() % 500 * 4096, 4096);
	if (rng() % 2)
		punch(h, 0, rng() % 400 * 4096, 4096 * 40);
}

static void cycle_logged(struct machine *m)
{
	write_some(m->h);
	must(cycle(m->h), &m->h->err);
	assert_true(m->h->r->state.redo.bytes > 0);
}

static void check_repaired(struct machine *m)
{
	struct harness *h = m->h;

	must(cycle(h), &h->err);
	assert_false(h->result.compared);
	assert_int_equal(h->refused, 0);
	if (h->result.resumed)
		must(cycle(h), &h->err);
	assert_true(tracked.with_base && !h->result.compared);
	assert_true(h->result.read_bytes < (1u << 20));
	check_point(h, h->result.point);
	cycle_logged(m);
	assert_int_equal(h->refused, 0);
	assert_true(tracked.with_base && !h->result.compared);
	check_point(h, h->result.point);
	assert_int_equal(tracked_views(h), 1);
	assert_false(h->r->state.doubted);
}

/* False: the power did not fail inside the cycle. */
static bool cut_in_cycle(uint64_t n, enum sosie_fate fate, unsigned points)
{
	struct machine m;
	bool cut;

	machine_new(&m, true, points, n * 4 + fate);
	must(cycle(m.h), &m.h->err);
	cycle_logged(&m);
	cycle_logged(&m);
	write_some(m.h);
	sosie_disk_cut_after(m.disk, n);
	tracked.dead = true; /* views stay as with the power gone; what is not named is removed later */
	(void)cycle(m.h);
	tracked.dead = false;
	cut = sosie_disk_is_cut(m.disk);
	power_off(&m, fate);
	power_on(&m);
	check_repaired(&m);
	/* Once more, in the middle of nothing. */
	power_off(&m, fate);
	power_on(&m);
	check_repaired(&m);
	machine_free(&m);
	return cut;
}

static void test_power_lost_anywhere_in_a_cycle_goes_on_from_the_log(void **state)
{
	unsigned cuts = 0, whole = 0;

	(void)state;
	for (unsigned fate = SOSIE_FATE_KEPT; fate <= SOSIE_FATE_REORDERED; fate++) {
		bool cut = true;

		for (uint64_t n = fate; cut; n += test_stride(QUICK, QUICK)) {
			print_message("fate %u, operation %llu\n", fate, (unsigned long long)n);
			cut = cut_in_cycle(n, (enum sosie_fate)fate, n & 1 ? 2 : 64);
			cuts += cut;
			whole += !cut;
		}
	}
	print_message("%u cuts in a cycle, %u behind one\n", cuts, whole);
	assert_true(cuts > 8 && whole == 4);
}

/* A repair that is interrupted is begun anew. */
static void test_power_lost_in_a_repair_repairs_again(void **state)
{
	unsigned cuts = 0;

	(void)state;
	for (unsigned n = 0;; n += test_stride(QUICK, QUICK)) {
		struct machine m;
		bool cut;

		machine_new(&m, true, 64, n);
		must(cycle(m.h), &m.h->err);
		for (unsigned i = 0; i < 3; i++)
			cycle_logged(&m);
		power_off(&m, SOSIE_FATE_TORN);
		power_on(&m);
		write_some(m.h);
		sosie_disk_cut_after(m.disk, n);
		tracked.dead = true;
		(void)cycle(m.h);
		tracked.dead = false;
		cut = sosie_disk_is_cut(m.disk);
		power_off(&m, n & 1 ? SOSIE_FATE_LOST : SOSIE_FATE_TORN);
		power_on(&m);
		check_repaired(&m);
		machine_free(&m);
		cuts += cut;
		if (!cut)
			break;
	}
	print_message("%u cuts\n", cuts);
	assert_true(cuts > 2);
}

static void damage(const struct harness *h, const char *name, off_t at)
{
	char path[160];
	uint8_t byte;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", h->state_path, name);
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &byte, 1, at), 1);
	byte ^= 0x40;
	assert_int_equal(pwrite(fd, &byte, 1, at), 1);
	close(fd);
}

static void test_damaged_log_after_a_reboot_compares_digests(void **state)
{
	(void)state;
	for (unsigned whole = 0; whole < 2; whole++) {
		struct machine m;

		machine_new(&m, false, 64, 7);
		must(cycle(m.h), &m.h->err);
		cycle_logged(&m);
		cycle_logged(&m);
		power_off(&m, SOSIE_FATE_KEPT);
		if (!whole)
			damage(m.h, "redo.log", 100);
		write_some(m.h);
		power_on(&m);
		must(cycle(m.h), &m.h->err);
		assert_int_equal(m.h->result.compared, !whole);
		assert_int_equal(m.h->refused, 0);
		check_point(m.h, 4);
		machine_free(&m);
	}
}

/* Leaves of a base that were not yet written back come from the log. */
static void test_stale_base_after_a_reboot_is_mended(void **state)
{
	const off_t leaf_block = 4096 + 8192 * 4; /* block (0, 0): behind one of each level above */
	struct machine m;

	(void)state;
	machine_new(&m, false, 64, 8);
	must(cycle(m.h), &m.h->err);
	scribble(m.h, 0, 4096 * 9, 4096);
	must(cycle(m.h), &m.h->err);
	power_off(&m, SOSIE_FATE_KEPT);
	damage(m.h, "a.tree", leaf_block + 32 * 9);
	damage(m.h, "a.tree", leaf_block - 8192);
	scribble(m.h, 0, 4096 * 9, 2048);
	power_on(&m);
	must(cycle(m.h), &m.h->err);
	assert_false(m.h->result.compared);
	assert_int_equal(m.h->refused, 0);
	check_point(m.h, 3);
	machine_free(&m);
}

/* Within one boot state.now holds; in the next one it does not. */
static void test_newer_state_holds_in_its_boot_only(void **state)
{
	struct state s;
	struct state_dir other;
	struct machine m;

	(void)state;
	machine_new(&m, false, 64, 9);
	must(cycle(m.h), &m.h->err);
	cycle_logged(&m);
	assert_int_equal(m.h->r->state.point, 2);
	other = m.h->r->dir;
	must(state_load(&other, &s, &m.h->err), &m.h->err);
	assert_true(s.point == 2 && !s.pending.present);
	state_fini(&s);
	snprintf(other.boot, sizeof(other.boot), "another");
	must(state_load(&other, &s, &m.h->err), &m.h->err);
	assert_true(s.point == 1 && s.pending.present && s.pending.committed && s.pending.logged);
	state_fini(&s);
	m.h->r->redo_checked = true;
	redo_end(m.h->r);
	must(state_load(&other, &s, &m.h->err), &m.h->err);
	assert_true(s.point == 2 && !s.pending.present && !s.redo.boot[0] && s.redo.bytes == 0);
	state_fini(&s);
	machine_free(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_power_lost_anywhere_in_a_cycle_goes_on_from_the_log),
	        cmocka_unit_test(test_power_lost_in_a_repair_repairs_again),
	        cmocka_unit_test(test_damaged_log_after_a_reboot_compares_digests),
	        cmocka_unit_test(test_stale_base_after_a_reboot_is_mended),
	        cmocka_unit_test(test_newer_state_holds_in_its_boot_only),
	};

	return cmocka_run_group_tests_name("replicate/power", tests, NULL, NULL);
}

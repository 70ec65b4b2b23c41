/* SPDX-License-Identifier: MIT */
/*
 * The file of signatures on the simulated disk: what is got back is what was put for the same content, or
 * nothing; whatever was torn, moved, damaged or of somebody else.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/replicate/signatures.h"
#include "tests/support/rounds.h"

#define PATH "/disk.signatures"
#define SLOT ((40u + RDIFF_SIGNATURE_MAX + 4095u) / 4096u * 4096u)
#define OK(call) assert_int_equal(call, 0)

static struct sosie_disk *disk;
static struct sosie_io *io;
static struct signatures *s;
static struct sosie_digest ctx, other_ctx, block[SOSIE_FANOUT];
static struct sosie_err err;
static uint8_t got[RDIFF_SIGNATURE_MAX], given[RDIFF_SIGNATURE_MAX];

static size_t sig_len(size_t region_len)
{
	return 12 + (region_len + RDIFF_BLOCK - 1) / RDIFF_BLOCK * (4 + RDIFF_STRONG);
}

/* Content and signature number n. */
static void content(unsigned n)
{
	for (unsigned i = 0; i < SOSIE_FANOUT; i++)
		memset(block[i].b, (int)(n * 31 + i), sizeof(block[i].b));
	for (size_t i = 0; i < sizeof(given); i++)
		given[i] = (uint8_t)(i * 7 + n);
}

static void put(uint64_t chunk, unsigned n, size_t region_len)
{
	content(n);
	OK(signatures_put(s, chunk, block, region_len, given, sig_len(region_len), &err));
}

/* Whether the signature is there; if so it must be the one that was put. */
static bool there(uint64_t chunk, unsigned n, size_t region_len)
{
	size_t len = 1;

	content(n);
	memset(got, 0, sizeof(got));
	OK(signatures_get(s, chunk, block, region_len, got, &len, &err));
	if (len == 0)
		return false;
	assert_int_equal(len, sig_len(region_len));
	assert_memory_equal(got, given, len);
	return true;
}

static void open_file(const struct sosie_digest *context)
{
	OK(signatures_open(io, PATH, context, &s, &err));
}

static void reopen(const struct sosie_digest *context)
{
	signatures_close(s);
	open_file(context);
}

static int setup(void **state)
{
	(void)state;
	memset(&ctx, 1, sizeof(ctx));
	memset(&other_ctx, 2, sizeof(other_ctx));
	disk = sosie_disk_new((uint64_t)64 << 20, 1, false);
	OK(sosie_io_sim(disk, &io, &err));
	open_file(&ctx);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	signatures_close(s);
	sosie_io_free(io);
	sosie_disk_free(disk);
	return 0;
}

static void test_signatures_put_comes_back_also_after_reopening(void **state)
{
	(void)state;
	put(0, 1, SOSIE_CHUNK);
	put(1, 2, SOSIE_CHUNK);
	put(40, 3, 5000);
	put(1, 4, SOSIE_CHUNK); /* over the older */
	for (unsigned i = 0; i < 2; i++, reopen(&ctx)) {
		assert_true(there(0, 1, SOSIE_CHUNK));
		assert_true(there(1, 4, SOSIE_CHUNK));
		assert_true(there(40, 3, 5000));
		assert_false(there(1, 2, SOSIE_CHUNK));
		assert_false(there(2, 1, SOSIE_CHUNK));  /* a hole */
		assert_false(there(41, 1, SOSIE_CHUNK)); /* behind the end */
	}
}

static void test_signatures_every_region_length_works(void **state)
{
	static const size_t lens[] = {1,
	                              RDIFF_BLOCK - 1,
	                              RDIFF_BLOCK,
	                              RDIFF_BLOCK + 1,
	                              SOSIE_CHUNK - RDIFF_BLOCK,
	                              SOSIE_CHUNK - 1,
	                              SOSIE_CHUNK};

	(void)state;
	for (unsigned i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		put(i, i, lens[i]);
		assert_true(there(i, i, lens[i]));
	}
}

static void test_signatures_of_other_content_or_length_are_none(void **state)
{
	size_t len = 1;

	(void)state;
	put(5, 1, 6000);
	assert_false(there(5, 2, 6000));
	assert_false(there(5, 1, 6001)); /* the same number of blocks */
	assert_false(there(5, 1, SOSIE_CHUNK));
	content(1);
	block[255].b[31] ^= 1;
	OK(signatures_get(s, 5, block, 6000, got, &len, &err));
	assert_int_equal(len, 0);
	OK(signatures_get(s, UINT64_MAX, block, 6000, got, &len, &err));
	assert_int_equal(len, 0);
	OK(signatures_get(s, 5, block, SOSIE_CHUNK + 1, got, &len, &err));
	assert_int_equal(len, 0);
	assert_true(there(5, 1, 6000));
}

static void test_signatures_impossible_put_is_an_error(void **state)
{
	(void)state;
	content(1);
	assert_int_equal(signatures_put(s, 0, block, 0, given, 12, &err), -SOSIE_EINTERNAL);
	assert_int_equal(signatures_put(s, 0, block, 512, given, sig_len(513), &err), -SOSIE_EINTERNAL);
	assert_int_equal(signatures_put(s, UINT64_MAX / 4096, block, 512, given, sig_len(512), &err),
	                 -SOSIE_EINTERNAL);
}

static void test_signatures_file_of_anything_else_is_replaced(void **state)
{
	struct sosie_file *file;
	struct sosie_stat st;
	unsigned replaced = 0;

	(void)state;
	for (unsigned byte = 0; byte < 4096; byte += byte < 64 ? 1 : 403) {
		uint8_t b;
		size_t n;

		put(3, 1, 9000);
		signatures_close(s);
		OK(sosie_io_openat(io, PATH, SOSIE_READ | SOSIE_WRITE, 0, &file, &err));
		OK(sosie_io_pread(io, file, &b, 1, byte, &n, &err));
		b ^= 1;
		OK(sosie_io_pwrite(io, file, &b, 1, byte, &err));
		OK(sosie_io_close(io, file, &err));
		open_file(&ctx);
		replaced += !there(3, 1, 9000);
		OK(sosie_io_stat(io, PATH, &st, &err));
		assert_int_equal(st.size, 4096);
	}
	assert_in_range(replaced, 64, 4096);
	put(3, 1, 9000);
	reopen(&other_ctx);
	assert_false(there(3, 1, 9000));
	signatures_close(s);
	OK(sosie_io_write_file(io, PATH, "short", 5, 0600, &err));
	open_file(&ctx);
	put(3, 1, 9000);
	reopen(&ctx);
	assert_true(there(3, 1, 9000));
}

static void test_signatures_slot_of_another_chunk_is_none(void **state)
{
	struct sosie_file *file;
	static uint8_t slot[SLOT];
	size_t n;

	(void)state;
	put(1, 1, SOSIE_CHUNK);
	put(2, 1, SOSIE_CHUNK);
	OK(sosie_io_openat(io, PATH, SOSIE_READ | SOSIE_WRITE, 0, &file, &err));
	OK(sosie_io_pread(io, file, slot, SLOT, 4096 + SLOT, &n, &err));
	OK(sosie_io_pwrite(io, file, slot, SLOT, 4096 + 2 * SLOT, &err));
	OK(sosie_io_close(io, file, &err));
	assert_true(there(1, 1, SOSIE_CHUNK));
	assert_false(there(2, 1, SOSIE_CHUNK));
}

static void test_signatures_damaged_slot_is_none(void **state)
{
	size_t used = 40 + sig_len(3000);
	struct sosie_file *file;
	unsigned none = 0;
	uint8_t b;
	size_t n;

	(void)state;
	put(1, 1, 3000);
	OK(sosie_io_openat(io, PATH, SOSIE_READ | SOSIE_WRITE, 0, &file, &err));
	for (size_t i = 0; i < used; i++) {
		OK(sosie_io_pread(io, file, &b, 1, 4096 + SLOT + i, &n, &err));
		b ^= (uint8_t)(1u << i % 8);
		OK(sosie_io_pwrite(io, file, &b, 1, 4096 + SLOT + i, &err));
		none += !there(1, 1, 3000);
		b ^= (uint8_t)(1u << i % 8);
		OK(sosie_io_pwrite(io, file, &b, 1, 4096 + SLOT + i, &err));
	}
	OK(sosie_io_close(io, file, &err));
	assert_int_equal(none, used);
	assert_true(there(1, 1, 3000));
}

static void test_signatures_put_is_one_write_and_no_flush(void **state)
{
	uint64_t before;

	(void)state;
	put(0, 1, SOSIE_CHUNK);
	before = sosie_disk_ops(disk);
	put(7, 2, SOSIE_CHUNK);
	put(7, 3, SOSIE_CHUNK);
	assert_int_equal(sosie_disk_ops(disk) - before, 2);
}

/* Power goes at a random place of a run of puts; after it every chunk has one of the signatures ever put for
 * it, or none (there() compares). */
static unsigned cut_once(uint64_t seed, enum sosie_fate fate)
{
	unsigned found = 0;

	sosie_disk_cut_after(disk, seed % 40);
	for (unsigned n = 0; n < 12; n++) {
		content(n);
		(void)signatures_put(s, n % 4, block, SOSIE_CHUNK, given, sig_len(SOSIE_CHUNK), &err);
	}
	signatures_close(s);
	sosie_io_free(io);
	sosie_disk_restart(disk, fate);
	OK(sosie_io_sim(disk, &io, &err));
	open_file(&ctx);
	for (unsigned n = 0; n < 12; n++)
		found += there(n % 4, n, SOSIE_CHUNK);
	assert_true(found <= 4);
	return found;
}

static void test_signatures_after_a_power_cut_are_whole_or_none(void **state)
{
	unsigned rounds = test_rounds(20, 500), found = 0, runs = 0;

	(void)state;
	for (unsigned i = 0; i < rounds; i++)
		for (unsigned fate = SOSIE_FATE_KEPT; fate <= SOSIE_FATE_REORDERED; fate++) {
			teardown(NULL);
			disk = sosie_disk_new((uint64_t)64 << 20, i * 4 + fate + 1, false);
			OK(sosie_io_sim(disk, &io, &err));
			open_file(&ctx);
			OK(sosie_io_sync_dir(io, "/", &err));
			found += cut_once(i * 7 + fate, (enum sosie_fate)fate);
			runs++;
		}
	print_message("%u power cuts, %u of %u signatures left\n", runs, found, runs * 4);
	assert_true(rounds == 0 || (found > 0 && found < runs * 4));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_setup_teardown(test_signatures_put_comes_back_also_after_reopening, setup,
	                                        teardown),
	        cmocka_unit_test_setup_teardown(test_signatures_every_region_length_works, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_signatures_of_other_content_or_length_are_none, setup,
	                                        teardown),
	        cmocka_unit_test_setup_teardown(test_signatures_impossible_put_is_an_error, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_signatures_file_of_anything_else_is_replaced, setup,
	                                        teardown),
	        cmocka_unit_test_setup_teardown(test_signatures_slot_of_another_chunk_is_none, setup,
	                                        teardown),
	        cmocka_unit_test_setup_teardown(test_signatures_damaged_slot_is_none, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_signatures_put_is_one_write_and_no_flush, setup,
	                                        teardown),
	        cmocka_unit_test_setup_teardown(test_signatures_after_a_power_cut_are_whole_or_none, setup,
	                                        teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

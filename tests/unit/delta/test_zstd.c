/* SPDX-License-Identifier: MIT */
/*
 * Frames that a hostile peer would send: bombs, large windows, several frames, skippable ones, lying sizes.
 * They are built by hand from RFC 8878 (an RLE block of 3 + 1 bytes stands for up to 128 KiB), so that zstd's
 * own encoder need not be misused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/delta/zstd.h"
#include "sosie/bytes.h"

#define MIB (1u << 20)
#define BLOCK (128u << 10)

static struct zstd_unpacker *unpacker;
static uint8_t frame[1 << 16], plain[MIB + 64];

/* A frame of `blocks` RLE blocks of 128 KiB. window: descriptor byte, or -1 for a single segment; content: 8
 * bytes, UINT64_MAX for none. */
static size_t make_frame(uint8_t *dst, int window, uint64_t content, unsigned blocks, unsigned extra_flags)
{
	struct sosie_writer w;

	sosie_writer_init(&w, dst, sizeof(frame) / 2);
	sosie_put_u32(&w, 0xfd2fb528u);
	sosie_put_u8(&w, (uint8_t)((content == UINT64_MAX ? 0u : 3u << 6) | (window < 0 ? 1u << 5 : 0u) |
	                           extra_flags));
	if (window >= 0)
		sosie_put_u8(&w, (uint8_t)window);
	if (content != UINT64_MAX)
		sosie_put_u64(&w, content);
	for (unsigned i = 0; i < blocks; i++) {
		uint32_t head = BLOCK << 3 | 1u << 1 | (i + 1 == blocks);

		sosie_put_u8(&w, (uint8_t)head);
		sosie_put_u16(&w, (uint16_t)(head >> 8));
		sosie_put_u8(&w, 'x');
	}
	assert_false(w.failed);
	return w.len;
}

static int unpack(size_t len, size_t plain_len)
{
	struct sosie_err err;
	int rc;

	memset(plain, 0xee, sizeof(plain));
	rc = zstd_unpack(unpacker, frame, len, plain, plain_len, &err);
	for (size_t i = plain_len; i < sizeof(plain); i++)
		assert_int_equal(plain[i], 0xee); /* never past the length declared */
	return rc;
}

static void test_unpack_hand_made_frame_is_taken(void **state)
{
	(void)state;
	assert_int_equal(unpack(make_frame(frame, -1, MIB, 8, 0), MIB), 0);
	assert_int_equal(plain[MIB - 1], 'x');
	assert_int_equal(unpack(make_frame(frame, 10 << 3, MIB, 8, 0), MIB),
	                 0); /* a window of exactly 1 MiB */
}

static void test_unpack_window_over_1_mib_is_refused(void **state)
{
	unsigned refused = 0;

	(void)state;
	for (int window = (10 << 3) + 1; window < 256; window++)
		refused += unpack(make_frame(frame, window, MIB, 8, 0), MIB) != 0;
	assert_int_equal(refused, 255 - (10 << 3));
}

static void test_unpack_bomb_is_refused(void **state)
{
	(void)state;
	/* 1 GiB in 32 KiB, honest or lying about it */
	assert_int_not_equal(unpack(make_frame(frame, 10 << 3, (uint64_t)1 << 29, 4096, 0), MIB), 0);
	assert_int_not_equal(unpack(make_frame(frame, 10 << 3, MIB, 4096, 0), MIB), 0);
	assert_int_not_equal(unpack(make_frame(frame, -1, (uint64_t)1 << 62, 8, 0), MIB), 0);
}

static void test_unpack_lying_or_missing_content_size_is_refused(void **state)
{
	(void)state;
	assert_int_not_equal(unpack(make_frame(frame, 10 << 3, UINT64_MAX, 8, 0), MIB), 0);
	assert_int_not_equal(unpack(make_frame(frame, 10 << 3, MIB, 7, 0), MIB), 0);
	assert_int_not_equal(unpack(make_frame(frame, 10 << 3, MIB, 9, 0), MIB), 0);
	assert_int_not_equal(unpack(make_frame(frame, 10 << 3, MIB - 1, 8, 0), MIB), 0);
	assert_int_not_equal(unpack(make_frame(frame, 10 << 3, MIB, 8, 0), MIB - 1), 0);
}

static void test_unpack_flags_reserved_or_dictionary_are_refused(void **state)
{
	(void)state;
	for (unsigned flag = 1; flag <= 16; flag <<= 1)
		assert_int_not_equal(unpack(make_frame(frame, -1, MIB, 8, flag), MIB),
		                     0); /* 4: checksum, missing */
}

static void test_unpack_second_skippable_or_trailing_is_refused(void **state)
{
	size_t len = make_frame(frame, -1, BLOCK * 4, 4, 0), twice;
	const uint8_t skippable[] = {0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0};

	(void)state;
	twice = len + make_frame(frame + len, -1, BLOCK * 4, 4, 0);
	assert_int_equal(unpack(len, BLOCK * 4), 0);
	assert_int_not_equal(unpack(twice, BLOCK * 4), 0);
	assert_int_not_equal(unpack(twice, BLOCK * 8), 0);
	assert_int_not_equal(unpack(len + 1, BLOCK * 4), 0);
	memcpy(frame + len, skippable, sizeof(skippable));
	assert_int_not_equal(unpack(len + sizeof(skippable), BLOCK * 4), 0);
	memmove(frame + sizeof(skippable), frame, len);
	memcpy(frame, skippable, sizeof(skippable));
	assert_int_not_equal(unpack(len + sizeof(skippable), BLOCK * 4), 0);
	assert_int_not_equal(unpack(sizeof(skippable), BLOCK * 4), 0);
}

static void test_unpack_every_cut_is_refused(void **state)
{
	size_t len = make_frame(frame, -1, MIB, 8, 0), refused = 0;

	(void)state;
	for (size_t cut = 0; cut < len; cut++)
		refused += unpack(cut, MIB) != 0;
	assert_int_equal(refused, len);
}

static void test_pack_all_levels_obey_the_decoders_limits(void **state)
{
	struct zstd_packer *p;
	struct sosie_err err;
	uint8_t *input = malloc(MIB), *out = malloc(MIB);
	size_t len;

	(void)state;
	for (size_t i = 0; i < MIB; i++)
		input[i] = (uint8_t)(i * i >> 9);
	for (int level = 1; level <= 19; level += 3) {
		assert_int_equal(zstd_packer_new(level, &p, &err), 0);
		for (size_t size = 64; size <= MIB; size *= 128) {
			assert_int_equal(zstd_pack(p, input, size, out, MIB, &len, &err), 0);
			assert_true(len > 0);
			assert_int_equal(zstd_unpack(unpacker, out, len, plain, size, &err), 0);
			assert_memory_equal(plain, input, size);
		}
		zstd_packer_free(p);
	}
	assert_int_equal(zstd_packer_new(0, &p, &err), -SOSIE_ECONFIG);
	assert_int_equal(zstd_packer_new(20, &p, &err), -SOSIE_ECONFIG);
	free(input);
	free(out);
}

static void test_patch_window_of_2_mib_is_the_largest(void **state)
{
	static uint8_t old[MIB];
	struct sosie_err err;
	unsigned refused = 0;

	(void)state;
	assert_int_equal(zstd_unpack_patch(unpacker, frame, make_frame(frame, 11 << 3, MIB, 8, 0), old, plain,
	                                   MIB, &err),
	                 0);
	assert_int_not_equal(unpack(make_frame(frame, 11 << 3, MIB, 8, 0), MIB), 0); /* no prefix: 1 MiB */
	for (int window = (11 << 3) + 1; window < 256; window++)
		refused += zstd_unpack_patch(unpacker, frame, make_frame(frame, window, MIB, 8, 0), old,
		                             plain, MIB, &err) == -SOSIE_ECORRUPT;
	assert_int_equal(refused, 255 - (11 << 3));
}

static void test_patch_frame_that_lies_or_trails_is_refused(void **state)
{
	static uint8_t old[MIB];
	struct sosie_err err;
	size_t len, refused = 0;
	const uint64_t lies[] = {UINT64_MAX, MIB - 1, MIB + 1, 0, (uint64_t)1 << 62};

	(void)state;
	for (unsigned i = 0; i < 5; i++) {
		len = make_frame(frame, 10 << 3, lies[i], 8, 0);
		refused += zstd_unpack_patch(unpacker, frame, len, old, plain, MIB, &err) == -SOSIE_ECORRUPT;
	}
	for (unsigned blocks = 7; blocks <= 9; blocks += 2) {
		len = make_frame(frame, 10 << 3, MIB, blocks, 0);
		refused += zstd_unpack_patch(unpacker, frame, len, old, plain, MIB, &err) == -SOSIE_ECORRUPT;
	}
	len = make_frame(frame, 10 << 3, MIB, 8, 0);
	refused += zstd_unpack_patch(unpacker, frame, len + 1, old, plain, MIB, &err) == -SOSIE_ECORRUPT;
	for (size_t cut = 0; cut < len; cut++)
		refused += zstd_unpack_patch(unpacker, frame, cut, old, plain, MIB, &err) == -SOSIE_ECORRUPT;
	assert_int_equal(refused, 5 + 2 + 1 + len);
}

static void test_unpack_upto_obeys_room(void **state)
{
	struct sosie_err err;
	size_t got;

	(void)state;
	assert_int_equal(zstd_unpack_upto(unpacker, frame, make_frame(frame, -1, BLOCK, 1, 0), plain, BLOCK,
	                                  &got, &err),
	                 0);
	assert_int_equal(got, BLOCK);
	assert_int_equal(zstd_unpack_upto(unpacker, frame, make_frame(frame, -1, BLOCK, 1, 0), plain,
	                                  BLOCK - 1, &got, &err),
	                 -SOSIE_ECORRUPT);
	assert_int_equal(got, 0);
	assert_int_equal(
	        zstd_unpack_upto(unpacker, frame, make_frame(frame, -1, 0, 0, 0), plain, BLOCK, &got, &err),
	        -SOSIE_ECORRUPT);
}

/* 256 pages of noise, 100 bytes changed in each: the matches lie 1 MiB back, whatever the level. */
static void test_pack_patch_reaches_back_at_all_levels(void **state)
{
	struct zstd_packer *p;
	struct sosie_err err;
	uint8_t *old = malloc(MIB), *now = malloc(MIB), *out = malloc(MIB);
	size_t len, most = 0;

	(void)state;
	for (size_t i = 0; i < MIB; i++)
		old[i] = now[i] = (uint8_t)(rand() >> 7);
	for (size_t page = 0; page < 256; page++)
		for (size_t i = 0; i < 100; i++)
			now[page * 4096 + page * 13 + i] ^= (uint8_t)(rand() >> 7);
	for (int level = -7; level <= 19; level++) {
		if (level == 0)
			continue;
		assert_int_equal(zstd_packer_new(level, &p, &err), 0);
		assert_int_equal(zstd_pack_patch(p, now, old, MIB, out, MIB, &len, &err), 0);
		most = len > most ? len : most;
		assert_true(len > 0 && len < MIB * 3 / 100);
		assert_int_equal(zstd_unpack_patch(unpacker, out, len, old, plain, MIB, &err), 0);
		assert_memory_equal(plain, now, MIB);
		assert_int_equal(zstd_pack(p, now, 4096, out, MIB, &len, &err), 0); /* no prefix is left */
		assert_int_equal(zstd_unpack(unpacker, out, len, plain, 4096, &err), 0);
		zstd_packer_free(p);
	}
	print_message("largest of 26 levels: %zu bytes for 1 MiB\n", most);
	free(old);
	free(now);
	free(out);
}

static int setup(void **state)
{
	struct sosie_err err;

	(void)state;
	return zstd_unpacker_new(&unpacker, &err);
}

static int teardown(void **state)
{
	(void)state;
	zstd_unpacker_free(unpacker);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_unpack_hand_made_frame_is_taken),
	        cmocka_unit_test(test_unpack_window_over_1_mib_is_refused),
	        cmocka_unit_test(test_unpack_bomb_is_refused),
	        cmocka_unit_test(test_unpack_lying_or_missing_content_size_is_refused),
	        cmocka_unit_test(test_unpack_flags_reserved_or_dictionary_are_refused),
	        cmocka_unit_test(test_unpack_second_skippable_or_trailing_is_refused),
	        cmocka_unit_test(test_unpack_every_cut_is_refused),
	        cmocka_unit_test(test_pack_all_levels_obey_the_decoders_limits),
	        cmocka_unit_test(test_patch_window_of_2_mib_is_the_largest),
	        cmocka_unit_test(test_patch_frame_that_lies_or_trails_is_refused),
	        cmocka_unit_test(test_unpack_upto_obeys_room),
	        cmocka_unit_test(test_pack_patch_reaches_back_at_all_levels),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}

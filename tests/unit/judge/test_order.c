/* SPDX-License-Identifier: MIT */
/* The judge of I4 itself: it takes every prefix that a writer can leave, and each single fault is found. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/order.h"

#define SLOTS 37u

static uint64_t volume0[SLOTS], volume1[SLOTS];
static uint64_t *const held[2] = {volume0, volume1};

static void write_up_to(const struct order_map *m, uint64_t last)
{
	memset(volume0, 0, sizeof(volume0));
	memset(volume1, 0, sizeof(volume1));
	for (uint64_t n = 1; n <= last; n++)
		held[n % 2][order_slot(m, n)] = n;
}

static void test_order_place_is_its_own_until_the_volume_is_full(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < 50; seed++)
		for (uint64_t slots = ORDER_SLOTS_MIN; slots < 80; slots++) {
			struct order_map m;
			bool used[80] = {false};

			order_map_init(&m, seed, slots);
			for (uint64_t n = 0; n < 2 * slots; n += 2) {
				uint64_t slot = order_slot(&m, n);

				assert_true(slot < slots && !used[slot]);
				assert_int_equal(order_slot(&m, n + 1), slot);
				assert_int_equal(order_slot(&m, n + 2 * slots), slot);
				used[slot] = true;
			}
		}
}

static void test_order_newest_at_agrees_with_writing(void **state)
{
	struct order_map m;

	(void)state;
	order_map_init(&m, 5, SLOTS);
	for (uint64_t last = 0; last < 5 * SLOTS; last++) {
		write_up_to(&m, last);
		for (unsigned v = 0; v < 2; v++)
			for (uint64_t slot = 0; slot < SLOTS; slot++)
				assert_int_equal(order_newest_at(&m, v, slot, last), held[v][slot]);
	}
}

static void test_order_judge_takes_prefix_refuses_any_gap(void **state)
{
	struct order_map m;
	struct order_verdict v;
	unsigned refused = 0;

	(void)state;
	order_map_init(&m, 9, SLOTS);
	for (uint64_t last = 1; last < 4 * SLOTS; last++) {
		write_up_to(&m, last);
		assert_true(order_judge(&m, false, held, &v));
		assert_int_equal(v.newest, last);
		/* Each place but the newest's goes back by one turn. */
		for (uint64_t n = last; n-- > 1 && n + 2 * SLOTS > last;) {
			held[n % 2][order_slot(&m, n)] = n > 2 * SLOTS ? n - 2 * SLOTS : 0;
			assert_false(order_judge(&m, false, held, &v));
			assert_int_equal(v.missing, 1);
			assert_int_equal(v.first, n);
			held[n % 2][order_slot(&m, n)] = n;
			refused++;
		}
	}
	assert_true(refused > 4000);
	write_up_to(&m, 0);
	assert_false(order_judge(&m, false, held, &v));
}

static void test_order_judge_buffered_excuses_the_open_batch_only(void **state)
{
	struct order_map m;
	struct order_verdict v;
	unsigned excused = 0, refused = 0;

	(void)state;
	order_map_init(&m, 11, SLOTS);
	for (uint64_t last = 2; last < 4 * SLOTS; last++) {
		uint64_t durable = (last - 1) / ORDER_BATCH * ORDER_BATCH;

		write_up_to(&m, last);
		assert_true(order_judge(&m, true, held, &v));
		for (uint64_t n = last; n-- > 1 && n + 2 * SLOTS > last;) {
			held[n % 2][order_slot(&m, n)] = n > 2 * SLOTS ? n - 2 * SLOTS : 0;
			assert_int_equal(order_judge(&m, true, held, &v), n > durable);
			held[n % 2][order_slot(&m, n)] = n;
			if (n > durable)
				excused++;
			else
				refused++;
		}
	}
	assert_true(excused > 100 && refused > 1000);
}

static void test_order_judge_refuses_number_out_of_place(void **state)
{
	struct order_map m;
	struct order_verdict v;

	(void)state;
	order_map_init(&m, 3, SLOTS);
	write_up_to(&m, 60);
	held[0][order_slot(&m, 10)] = 12;
	assert_false(order_judge(&m, false, held, &v));
	assert_int_equal(v.surplus, 1);
	assert_false(order_judge(&m, true, held, &v));
}

static void test_order_block_damage_is_found(void **state)
{
	unsigned char block[ORDER_BLOCK];
	uint64_t n;

	(void)state;
	memset(block, 0, sizeof(block));
	assert_true(order_block_read(block, 7, &n));
	assert_int_equal(n, 0);
	order_block_make(block, 7, 42);
	assert_int_equal(order_block_seed(block), 7);
	assert_true(order_block_read(block, 7, &n));
	assert_int_equal(n, 42);
	assert_false(order_block_read(block, 8, &n));
	for (size_t i = 0; i < sizeof(block); i++) {
		block[i] ^= 1;
		assert_false(order_block_read(block, 7, &n));
		block[i] ^= 1;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_order_place_is_its_own_until_the_volume_is_full),
	        cmocka_unit_test(test_order_newest_at_agrees_with_writing),
	        cmocka_unit_test(test_order_judge_takes_prefix_refuses_any_gap),
	        cmocka_unit_test(test_order_judge_buffered_excuses_the_open_batch_only),
	        cmocka_unit_test(test_order_judge_refuses_number_out_of_place),
	        cmocka_unit_test(test_order_block_damage_is_found),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

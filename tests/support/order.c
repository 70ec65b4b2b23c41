/* SPDX-License-Identifier: MIT */
/* Numbered blocks and the verdict over a copy of them. */
#include "tests/support/order.h"

#include <string.h>

#define MAGIC 0x31726564726f6573ull

struct header {
	uint64_t magic, seed, n;
};

/* splitmix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators". */
static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ull;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

static uint64_t gcd(uint64_t a, uint64_t b)
{
	while (b) {
		uint64_t rest = a % b;

		a = b;
		b = rest;
	}
	return a;
}

/* slot = turn * step + shift: a permutation, as step and slots have no common divisor. */
void order_map_init(struct order_map *m, uint64_t seed, uint64_t slots)
{
	*m = (struct order_map){.slots = slots, .seed = seed};
	m->step = mix(seed) % slots | 1;
	while (gcd(m->step, slots) != 1)
		m->step = (m->step + 1) % slots;
	m->shift = mix(seed + 1) % slots;
}

uint64_t order_slot(const struct order_map *m, uint64_t n)
{
	return (n / 2 % m->slots * m->step + m->shift) % m->slots; /* both below 2^24: no overflow */
}

uint64_t order_newest_at(const struct order_map *m, unsigned volume, uint64_t slot, uint64_t limit)
{
	uint64_t last, back;

	if (limit < volume)
		return 0;
	/* The newest turn of that volume, and how many turns before it the place had its own. */
	last = (limit - volume) / 2;
	back = (order_slot(m, 2 * last) + m->slots - slot) % m->slots;
	/* back = turns * step modulo slots: found by walking is too slow, so the inverse of step is used. */
	int64_t t = 0, next = 1, r = (int64_t)m->slots, s = (int64_t)m->step;
	while (s) {
		int64_t q = r / s, swap = r - q * s;

		r = s;
		s = swap;
		swap = t - q * next;
		t = next;
		next = swap;
	}
	uint64_t inverse = (uint64_t)(t < 0 ? t + (int64_t)m->slots : t);
	uint64_t turns = back * inverse % m->slots;

	return turns > last ? 0 : 2 * (last - turns) + volume;
}

void order_block_make(void *block, uint64_t seed, uint64_t n)
{
	uint64_t *words = block;
	const struct header head = {.magic = MAGIC, .seed = seed, .n = n};

	memcpy(words, &head, sizeof(head));
	for (size_t i = sizeof(head) / 8; i < ORDER_BLOCK / 8; i++)
		words[i] = mix(mix(seed ^ n) + i);
}

uint64_t order_block_seed(const void *block)
{
	struct header head;

	memcpy(&head, block, sizeof(head));
	return head.magic == MAGIC ? head.seed : 0;
}

bool order_block_read(const void *block, uint64_t seed, uint64_t *n)
{
	static const uint64_t zeros[ORDER_BLOCK / 8];
	uint64_t whole[ORDER_BLOCK / 8];
	struct header head;

	*n = 0;
	if (memcmp(block, zeros, sizeof(zeros)) == 0)
		return true;
	memcpy(&head, block, sizeof(head));
	if (head.magic != MAGIC || head.seed != seed || head.n == 0)
		return false;
	order_block_make(whole, seed, head.n);
	if (memcmp(block, whole, sizeof(whole)) != 0)
		return false;
	*n = head.n;
	return true;
}

bool order_judge(const struct order_map *m, bool buffered, uint64_t *const held[2], struct order_verdict *out)
{
	*out = (struct order_verdict){0};
	for (unsigned v = 0; v < 2; v++)
		for (uint64_t slot = 0; slot < m->slots; slot++) {
			out->newest = held[v][slot] > out->newest ? held[v][slot] : out->newest;
			out->present += held[v][slot] != 0;
		}
	if (out->newest == 0)
		return false;
	out->durable = buffered ? (out->newest - 1) / ORDER_BATCH * ORDER_BATCH : out->newest;
	for (unsigned v = 0; v < 2; v++)
		for (uint64_t slot = 0; slot < m->slots; slot++) {
			uint64_t must = order_newest_at(m, v, slot, out->durable);
			uint64_t may = order_newest_at(m, v, slot, out->newest);

			if (held[v][slot] < must) {
				out->missing++;
				out->first = !out->first || must < out->first ? must : out->first;
			} else if (held[v][slot] != must && held[v][slot] != may) {
				out->surplus++;
			}
		}
	return out->missing == 0 && out->surplus == 0;
}

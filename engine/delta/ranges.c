/* SPDX-License-Identifier: MIT */
/*
 * Ranges and the two ways to store them (docs/format.md, "Segment"): 16 bytes each, or packed. Packed, a list
 * of ranges has exactly one form: numbers are as short as they can be, a volume is named only where it
 * changes, and what decodes is ordered by construction.
 */
#include "engine/delta/record.h"

#define NUMBER_BYTES 8u /* 56 bits; no leaf number has more than 52 */
static_assert(RECORD_LEAF_LIMIT + (uint64_t)UINT32_MAX < UINT64_C(1) << 52, "sums of packed numbers fit");

bool record_ranges_ordered(const struct sosie_range *ranges, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		const struct sosie_range *r = &ranges[i], *before = i > 0 ? &ranges[i - 1] : NULL;

		if (r->leaves == 0 || r->leaf > RECORD_LEAF_LIMIT || r->volume >= SOSIE_VOLUMES_MAX)
			return false;
		if (before && r->volume < before->volume)
			return false;
		if (before && r->volume == before->volume && r->leaf < before->leaf + before->leaves)
			return false;
	}
	return true;
}

bool record_one_chunk(const struct sosie_range *ranges, unsigned count)
{
	const struct sosie_range *first = &ranges[0], *last = &ranges[count - 1];

	return first->volume == last->volume && last->leaves <= SOSIE_FANOUT &&
	       first->leaf / SOSIE_FANOUT == (last->leaf + last->leaves - 1) / SOSIE_FANOUT;
}

void record_put_ranges(struct sosie_writer *w, const struct sosie_range *ranges, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		sosie_put_u64(w, ranges[i].leaf);
		sosie_put_u32(w, ranges[i].leaves);
		sosie_put_u16(w, ranges[i].volume);
		sosie_put_u16(w, 0);
	}
}

/* --- packed
 * --------------------------------------------------------------------------------------------------- */

static void put_number(struct sosie_writer *w, uint64_t v)
{
	for (; v >= 0x80; v >>= 7)
		sosie_put_u8(w, (uint8_t)(v | 0x80));
	sosie_put_u8(w, (uint8_t)v);
}

/* False: cut short, longer than it need be, or above max. */
static bool get_number(struct sosie_reader *r, uint64_t max, uint64_t *out)
{
	*out = 0;
	for (unsigned i = 0; i < NUMBER_BYTES; i++) {
		uint8_t b = sosie_get_u8(r);

		*out |= (uint64_t)(b & 0x7f) << (7 * i);
		if (r->failed)
			return false;
		if (b < 0x80)
			return (b != 0 || i == 0) && *out <= max;
	}
	return false;
}

/* What a range is told apart from: the one before, or the begin of volume 0. */
struct place {
	uint64_t volume, end;
};

size_t record_pack_ranges(const struct sosie_range *ranges, unsigned count, void *dst, size_t size)
{
	struct place at = {0};
	struct sosie_writer w;

	sosie_writer_init(&w, dst, size);
	for (unsigned i = 0; i < count && !w.failed; i++) {
		const struct sosie_range *r = &ranges[i];

		if (r->volume != at.volume) {
			put_number(&w, 0);
			put_number(&w, r->volume - at.volume);
			at = (struct place){.volume = r->volume};
		}
		put_number(&w, r->leaves);
		put_number(&w, r->leaf - at.end);
		at.end = r->leaf + r->leaves;
	}
	return w.failed ? 0 : w.len;
}

static bool get_range(struct sosie_reader *r, struct place *at, struct sosie_range *out)
{
	uint64_t leaves, gap, step;

	if (!get_number(r, UINT32_MAX, &leaves))
		return false;
	if (leaves == 0) {
		if (!get_number(r, SOSIE_VOLUMES_MAX - 1, &step) || step == 0 ||
		    !get_number(r, UINT32_MAX, &leaves))
			return false;
		*at = (struct place){.volume = at->volume + step};
	}
	if (leaves == 0 || at->volume >= SOSIE_VOLUMES_MAX || !get_number(r, RECORD_LEAF_LIMIT, &gap) ||
	    at->end + gap > RECORD_LEAF_LIMIT)
		return false;
	*out = (struct sosie_range){
	        .leaf = at->end + gap, .leaves = (uint32_t)leaves, .volume = (uint16_t)at->volume};
	at->end = out->leaf + leaves;
	return true;
}

bool record_unpack_ranges(struct sosie_reader *r, struct sosie_range *ranges, unsigned count)
{
	struct place at = {0};

	for (unsigned i = 0; i < count; i++)
		if (!get_range(r, &at, &ranges[i]))
			return false;
	return sosie_reader_done(r);
}

/* SPDX-License-Identifier: MIT */
/* Entries of a comparison and of its answer, as bytes (docs/format.md, "Manifest", comparison). */
#include <assert.h>
#include <string.h>

#include "sosie/bytes.h"
#include "sosie/segment.h"
#include "sosie/tree.h"

#define ENTRY_HEAD 16u
static_assert(SOSIE_COMPARE_ENTRY == 8208 && SOSIE_DIFFERS_ENTRY == ENTRY_HEAD + 32, "docs/format.md");

static void put_place(struct sosie_writer *w, uint16_t volume, uint16_t level, uint64_t block)
{
	sosie_put_u16(w, volume);
	sosie_put_u16(w, level);
	sosie_put_u32(w, 0);
	sosie_put_u64(w, block);
}

/* Volume, level and block are bounded by what any group can have; the caller compares them with its own. */
static int get_place(struct sosie_reader *r, uint16_t *volume, uint16_t *level, uint64_t *block,
                     struct sosie_err *err)
{
	uint32_t zero;

	*volume = sosie_get_u16(r);
	*level = sosie_get_u16(r);
	zero = sosie_get_u32(r);
	*block = sosie_get_u64(r);
	if (r->failed || zero != 0 || *volume >= SOSIE_VOLUMES_MAX || *level >= SOSIE_TREE_LEVELS ||
	    (*block > 0 && *block >= (SOSIE_VOLUME_MAX / SOSIE_CHUNK) >> (8 * *level)))
		return sosie_err_set(err, SOSIE_ECORRUPT, "entry of a comparison with an impossible place");
	return 0;
}

void sosie_compare_put(uint8_t out[SOSIE_COMPARE_ENTRY], const struct sosie_compare_entry *e)
{
	struct sosie_writer w;

	sosie_writer_init(&w, out, SOSIE_COMPARE_ENTRY);
	put_place(&w, e->volume, e->level, e->block);
	sosie_put_bytes(&w, e->children, sizeof(e->children));
	assert(!w.failed && w.len == SOSIE_COMPARE_ENTRY);
}

int sosie_compare_get(const uint8_t in[SOSIE_COMPARE_ENTRY], struct sosie_compare_entry *e,
                      struct sosie_err *err)
{
	struct sosie_reader r;
	int rc;

	sosie_reader_init(&r, in, SOSIE_COMPARE_ENTRY);
	rc = get_place(&r, &e->volume, &e->level, &e->block, err);
	sosie_get_bytes(&r, e->children, sizeof(e->children));
	if (rc != 0)
		memset(e, 0, sizeof(*e));
	return rc;
}

void sosie_differs_put(uint8_t out[SOSIE_DIFFERS_ENTRY], const struct sosie_differs_entry *e)
{
	struct sosie_writer w;

	sosie_writer_init(&w, out, SOSIE_DIFFERS_ENTRY);
	put_place(&w, e->volume, e->level, e->block);
	sosie_put_bytes(&w, e->bitmap, sizeof(e->bitmap));
	assert(!w.failed && w.len == SOSIE_DIFFERS_ENTRY);
}

int sosie_differs_get(const uint8_t in[SOSIE_DIFFERS_ENTRY], struct sosie_differs_entry *e,
                      struct sosie_err *err)
{
	struct sosie_reader r;
	int rc;

	sosie_reader_init(&r, in, SOSIE_DIFFERS_ENTRY);
	rc = get_place(&r, &e->volume, &e->level, &e->block, err);
	sosie_get_bytes(&r, e->bitmap, sizeof(e->bitmap));
	if (rc == 0 && sosie_all_zero(e->bitmap, sizeof(e->bitmap)))
		rc = sosie_err_set(err, SOSIE_ECORRUPT,
		                   "answer to a comparison lists a block without a difference");
	if (rc != 0)
		memset(e, 0, sizeof(*e));
	return rc;
}

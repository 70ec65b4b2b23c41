/* SPDX-License-Identifier: MIT */
/*
 * Reads librsync deltas (docs/format.md, "Segment"), which are hostile: a few bytes can ask for terabytes, or
 * for what lies outside. Each command is checked whole before its bytes move; every command takes at least
 * one byte of input and gives at least one of output, so both lengths bound the work.
 */
#include <string.h>

#include "engine/delta/rdiff_internal.h"
#include "sosie/bytes.h"

#define DELTA_MAGIC 0x72730236u
#define LITERAL_SHORT_LAST 64u /* 1 to 64: the length itself */
#define LITERAL_LAST 68u       /* 65 to 68: a length of 1, 2, 4, 8 bytes */
#define COPY_LAST 84u          /* 69 to 84: position and length, each of 1, 2, 4, 8 bytes */

struct command {
	const uint8_t *literal; /* NULL: copy */
	uint64_t position;      /* in the basis, for a copy */
	uint64_t len;           /* 0: the end */
};
/* Takes one checked command, whose result stands at offset in the plain content; false stops. */
typedef bool (*command_fn)(void *arg, const struct command *c, size_t offset);

static uint64_t get_big_endian(struct sosie_reader *r, unsigned width)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < width; i++)
		v = v << 8 | sosie_get_u8(r);
	return v;
}

/* False when the command is none, is cut off, or is for 0 bytes. Bounds are the caller's. */
static bool get_command(struct sosie_reader *r, struct command *c)
{
	unsigned op = sosie_get_u8(r);

	*c = (struct command){0};
	if (r->failed || op > COPY_LAST)
		return false;
	if (op == 0)
		return true;
	if (op > LITERAL_LAST) {
		unsigned widths = op - LITERAL_LAST - 1;

		c->position = get_big_endian(r, 1u << widths / 4);
		c->len = get_big_endian(r, 1u << widths % 4);
		return !r->failed && c->len > 0;
	}
	c->len = op <= LITERAL_SHORT_LAST ? op : get_big_endian(r, 1u << (op - LITERAL_SHORT_LAST - 1));
	if (r->failed || c->len == 0 || c->len > r->left)
		return false;
	c->literal = sosie_get_view(r, (size_t)c->len);
	return c->literal != NULL;
}

static bool in_bounds(const struct command *c, size_t basis_len, size_t plain_left)
{
	if (c->len > plain_left)
		return false;
	return c->literal || (c->position <= basis_len && c->len <= basis_len - c->position);
}

static bool walk(const void *delta, size_t len, size_t basis_len, size_t plain_len, command_fn fn, void *arg)
{
	struct sosie_reader r;
	struct command c;
	size_t done = 0;

	sosie_reader_init(&r, delta, len);
	if (get_big_endian(&r, 4) != DELTA_MAGIC)
		return false;
	for (;;) {
		if (!get_command(&r, &c))
			return false;
		if (c.len == 0)
			return sosie_reader_done(&r) && done == plain_len;
		if (!in_bounds(&c, basis_len, plain_len - done) || !fn(arg, &c, done))
			return false;
		done += (size_t)c.len;
	}
}

struct application {
	const uint8_t *basis;
	uint8_t *plain;
};

static bool apply_command(void *arg, const struct command *c, size_t offset)
{
	const struct application *a = arg;

	memcpy(a->plain + offset, c->literal ? c->literal : a->basis + c->position, (size_t)c->len);
	return true;
}

int rdiff_apply(const void *delta, size_t len, const void *basis, size_t basis_len, void *plain,
                size_t plain_len, struct sosie_err *err)
{
	struct application a = {basis, plain};

	if (walk(delta, len, basis_len, plain_len, apply_command, &a))
		return 0;
	return sosie_err_set(err, SOSIE_ECORRUPT, "delta that is damaged or does not fit its basis");
}

static bool compare_literal(void *arg, const struct command *c, size_t offset)
{
	const uint8_t *plain = arg;

	return !c->literal || memcmp(plain + offset, c->literal, (size_t)c->len) == 0;
}

bool rdiff_literals_match(const void *delta, size_t len, size_t basis_len, const void *plain,
                          size_t plain_len)
{
	union {
		const void *in;
		void *arg;
	} content = {.in = plain}; /* compare_literal only reads */

	return walk(delta, len, basis_len, plain_len, compare_literal, content.arg);
}

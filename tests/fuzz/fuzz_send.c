/* SPDX-License-Identifier: MIT */
/* A btrfs send stream through its parser: as it is, and with every checksum mended so that the fuzzer gets
 * behind them. In one piece and in many the result is the same; a stream that is refused has changed
 * everything. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "engine/source/changes.h"
#include "tests/support/send_stream.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct result {
	int rc;
	bool all;
	uint64_t bytes[2], first[2];
};

static void parse(const uint8_t *data, size_t size, bool pieces, struct result *r)
{
	struct changes_file files[2] = {{.path = "d/vol"}, {.path = "vol"}};
	struct send_parser *p = NULL;
	struct sosie_err err;
	uint64_t end;

	memset(r, 0, sizeof(*r));
	if (changes_new(16, &files[0].changes, NULL) || changes_new(64, &files[1].changes, NULL) ||
	    send_parser_new(files, 2, &p, NULL))
		abort();
	for (size_t at = 0, n; at < size && r->rc == 0; at += n) {
		n = pieces ? 1 + (at * 7 + size) % 23 : size;
		n = n < size - at ? n : size - at;
		r->rc = send_parser_feed(p, data + at, n, &err);
	}
	if (r->rc == 0)
		r->rc = send_parser_end(p, &err);
	send_parser_free(p);
	r->all = true;
	for (unsigned i = 0; i < 2; i++) {
		changes_seal(files[i].changes);
		r->all = r->all && changes_is_all(files[i].changes);
		r->bytes[i] = changes_bytes(files[i].changes);
		(void)changes_next(files[i].changes, 0, &r->first[i], &end);
		changes_free(files[i].changes);
	}
	assert(r->rc == 0 || (r->rc == -SOSIE_EPROTO && r->all));
}

static void both_ways(const uint8_t *data, size_t size)
{
	struct result whole, pieces;

	parse(data, size, false, &whole);
	parse(data, size, true, &pieces);
	assert(memcmp(&whole, &pieces, sizeof(whole)) == 0);
}

/* Every command whose length fits gets its right checksum. */
static void mend(uint8_t *data, size_t size)
{
	size_t at = 17;

	while (at + 10 <= size) {
		uint8_t *h = data + at;
		size_t len = h[0] | (size_t)h[1] << 8 | (size_t)h[2] << 16 | (size_t)h[3] << 24;
		uint32_t crc;

		if (len > size - at - 10)
			return;
		memset(h + 6, 0, 4);
		crc = send_crc(h, len + 10);
		for (unsigned i = 0; i < 4; i++)
			h[6 + i] = (uint8_t)(crc >> 8 * i);
		at += len + 10;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *copy = calloc(1, size ? size : 1);

	if (!copy)
		return 0;
	if (size > 0)
		memcpy(copy, data, size);
	both_ways(copy, size);
	mend(copy, size);
	both_ways(copy, size);
	free(copy);
	return 0;
}

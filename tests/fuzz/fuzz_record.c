/* SPDX-License-Identifier: MIT */
/* Records as a peer may send them: lengths, header and ranges, payload, one after the other until the input
 * ends or is refused. A confined child must come to the same content or the same refusal. */
#include <stdlib.h>
#include <string.h>

#include "engine/store/confined.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define LEAVES 512

static struct {
	struct sosie_decoder *dec;
	struct sosie_extent_volume volumes[3];
	struct sosie_record record;
	struct sosie_digest leaves[LEAVES];
	uint8_t plain[SOSIE_RECORD_PLAIN_MAX], basis[SOSIE_RECORD_PLAIN_MAX];
	struct unpacker *unpacker;
	struct confined_home *home;
	struct confined *child;
	uint8_t there[SOSIE_RECORD_PLAIN_MAX];
} f;

/* The same group and volumes as seed_delta.c; what patches and deltas build on is 'o' everywhere. */
static void start(void)
{
	static const uint64_t sizes[] = {8 << 20, 5000, 1};
	struct sosie_hash *h = sosie_hash_new();
	struct sosie_digest group;

	if (!h)
		abort();
	sosie_context_group(h, "acme", "erp", &group);
	for (unsigned i = 0; i < 3; i++) {
		char name[2] = {(char)('a' + i), 0};

		sosie_context_volume(h, "acme", "erp", name, &f.volumes[i].ctx);
		f.volumes[i].size = sizes[i];
	}
	sosie_hash_free(h);
	memset(f.basis, 'o', sizeof(f.basis));
	if (sosie_decoder_new(&group, &f.dec, NULL) != 0 || unpacker_new(&f.unpacker, NULL) != 0 ||
	    confined_home_new(&confined_kind, &f.home, NULL) != 0 ||
	    confined_get(f.home, "acme", &f.child, NULL) != 0)
		abort();
}

/* What the record says to build on lies inside its volumes and is no more than a basis can be. */
static const void *basis(void)
{
	struct sosie_range ranges[SOSIE_RECORD_RANGES_MAX];
	size_t bytes, sum = 0;
	unsigned count = sosie_record_basis(&f.record, f.volumes, ranges, &bytes);

	for (unsigned i = 0; i < count; i++) {
		if (ranges[i].leaf * SOSIE_LEAF >= f.volumes[ranges[i].volume].size)
			abort();
		sum += sosie_range_bytes(&ranges[i], f.volumes[ranges[i].volume].size);
	}
	if (count > SOSIE_RECORD_RANGES_MAX || sum != bytes || bytes > sizeof(f.basis))
		abort();
	return count > 0 ? f.basis : NULL;
}

static void compare_with_child(const void *payload)
{
	struct sosie_range ranges[SOSIE_RECORD_RANGES_MAX];
	struct packed p = {.kind = f.record.kind,
	                   .encoding = f.record.encoding,
	                   .payload = payload,
	                   .payload_len = f.record.payload_len,
	                   .basis = basis(),
	                   .plain_len = f.record.plain_len};
	struct sosie_err err;
	int here, there;

	if (!record_is_packed(&f.record))
		return;
	sosie_record_basis(&f.record, f.volumes, ranges, &p.basis_len);
	here = unpacker_run(f.unpacker, &p, f.plain, &err);
	there = confined_unpack(f.child, &p, f.there, &err);
	if (here != there || (here == 0 && memcmp(f.plain, f.there, p.plain_len) != 0))
		abort();
}

/* One record; returns the bytes it took, 0 when refused. */
static size_t take(const uint8_t *data, size_t size)
{
	struct sosie_err err;
	uint32_t ranges_len, payload_len;
	unsigned leaf_count;
	size_t head;

	if (size < SOSIE_RECORD_HEADER || sosie_record_lengths(data, &ranges_len, &payload_len, &err) != 0)
		return 0;
	head = SOSIE_RECORD_HEADER + ranges_len;
	if (size < head || size - head < payload_len)
		return 0;
	if (sosie_record_parse(data, head, f.volumes, 3, &f.record, &err) != 0)
		return 0;
	if (sosie_decode(f.dec, &f.record, data + head, basis(), f.volumes, f.plain, f.leaves, &leaf_count,
	                 &err) == 0 &&
	    f.record.kind == SOSIE_RECORD_ATTACHMENT) {
		const void *bytes;
		uint32_t index;
		uint64_t offset;
		size_t len;

		(void)sosie_attachment_parse(f.plain, f.record.plain_len, &index, &offset, &bytes, &len,
		                             &err);
	}
	if (leaf_count > LEAVES)
		abort();
	compare_with_child(data + head);
	return head + payload_len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t at = 0, took;

	if (!f.dec)
		start();
	while (at < size && (took = take(data + at, size - at)) > 0)
		at += took;
	return 0;
}

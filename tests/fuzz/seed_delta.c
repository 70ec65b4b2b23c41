/* SPDX-License-Identifier: MIT */
/* Writes the seed corpora of fuzz_record, fuzz_manifest and fuzz_statement with the real encoders: seed_delta
 * tests/fuzz/corpus */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sosie/segment.h"

static const char *corpus;

static void check(int rc, const struct sosie_err *err)
{
	char line[1024];

	if (rc == 0)
		return;
	fprintf(stderr, "seed_delta: %s\n", sosie_err_line(err, line, sizeof(line)));
	exit(1);
}

static void save(const char *name, const void *data, size_t len)
{
	char path[4096];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", corpus, name);
	file = fopen(path, "wb");
	if (!file || fwrite(data, 1, len, file) != len || fclose(file) != 0) {
		perror(path);
		exit(1);
	}
}

static void data_records(struct sosie_encoder *enc, struct sosie_hash *h)
{
	static uint8_t plain[3 * SOSIE_LEAF];
	const struct sosie_range ranges[] = {{.leaf = 1, .leaves = 1, .volume = 0},
	                                     {.leaf = 1, .leaves = 1, .volume = 1}};
	const struct sosie_range tiny = {.leaf = 0, .leaves = 1, .volume = 2};
	struct sosie_digest ctx, leaves[2];
	struct sosie_err err;
	const void *out;
	size_t len;

	memset(plain, 's', sizeof(plain));
	sosie_context_volume(h, "acme", "erp", "a", &ctx);
	sosie_digest_leaf(h, &ctx, 1, plain, SOSIE_LEAF, &leaves[0]);
	sosie_context_volume(h, "acme", "erp", "b", &ctx);
	sosie_digest_leaf(h, &ctx, 1, plain, 5000 - SOSIE_LEAF, &leaves[1]);
	check(sosie_encode_data(enc, ranges, 2, leaves, plain, 5000, &out, &len, &err), &err);
	save("record/data-zstd", out, len);
	sosie_context_volume(h, "acme", "erp", "c", &ctx);
	sosie_digest_leaf(h, &ctx, 0, plain, 1, &leaves[0]);
	check(sosie_encode_data(enc, &tiny, 1, leaves, plain, 1, &out, &len, &err), &err);
	save("record/data-raw", out, len);
	check(sosie_encode_zero(enc, SOSIE_RECORD_ZERO, ranges, 2, &out, &len, &err), &err);
	save("record/zero", out, len);
	check(sosie_encode_zero(enc, SOSIE_RECORD_DISCARD, ranges, 1, &out, &len, &err), &err);
	save("record/discard", out, len);
	check(sosie_encode_attachment(enc, 0, 0, "<domain/>", 9, &out, &len, &err), &err);
	save("record/attachment", out, len);
}

/* Two leaves of 'o', which is what fuzz_record.c gives as old content, with `len` bytes of `with` from 4095
 * on. */
static void record_on_old(struct sosie_encoder *enc, struct sosie_hash *h, const char *name, uint8_t with,
                          size_t len, const void *delta, size_t delta_len)
{
	static uint8_t old[2 * SOSIE_LEAF], plain[2 * SOSIE_LEAF];
	const struct sosie_range range = {.leaf = 3, .leaves = 2, .volume = 0};
	struct sosie_digest ctx, leaves[2];
	struct sosie_err err;
	const void *out;
	size_t out_len;

	memset(old, 'o', sizeof(old));
	memcpy(plain, old, sizeof(plain));
	memset(plain + 4095, with, len);
	sosie_context_volume(h, "acme", "erp", "a", &ctx);
	for (unsigned i = 0; i < 2; i++)
		sosie_digest_leaf(h, &ctx, 3 + i, plain + i * SOSIE_LEAF, SOSIE_LEAF, &leaves[i]);
	if (delta)
		check(sosie_encode_delta(enc, &range, 1, leaves, plain, sizeof(plain), delta, delta_len, &out,
		                         &out_len, &err),
		      &err);
	else
		check(sosie_encode_patch(enc, &range, 1, leaves, plain, sizeof(plain), old, &out, &out_len,
		                         NULL, &err),
		      &err);
	if (((const uint8_t *)out)[4] == SOSIE_RECORD_DATA)
		exit(1);
	save(name, out, out_len);
}

static void records_on_old(struct sosie_encoder *enc, struct sosie_hash *h)
{
	/* copy 4095 from 0, 3 literal, copy 4094 from 0, end */
	static const uint8_t small[] = {0x72, 0x73, 0x02, 0x36, 70, 0,    0x0f, 0xff, 3,
	                                'n',  'n',  'n',  70,   0,  0x0f, 0xfe, 0};
	/* copy 4095 from 0, 1000 literal, copy 3097 from 0, end */
	static uint8_t packed[8 + 3 + 1000 + 5] = {0x72, 0x73, 0x02, 0x36, 70, 0, 0x0f, 0xff, 66, 0x03, 0xe8};
	static const uint8_t tail[] = {70, 0, 0x0c, 0x19, 0};

	memset(packed + 11, 'n', 1000);
	memcpy(packed + 1011, tail, sizeof(tail));
	record_on_old(enc, h, "record/patch", 'n', 3, NULL, 0);
	record_on_old(enc, h, "record/delta-raw", 'n', 3, small, sizeof(small));
	record_on_old(enc, h, "record/delta-zstd", 'n', 1000, packed, sizeof(packed));
}

static void packed_records(struct sosie_encoder *enc, struct sosie_hash *h)
{
	static uint8_t plain[3 * SOSIE_LEAF];
	const struct sosie_range ranges[] = {{.leaf = 1, .leaves = 1, .volume = 0},
	                                     {.leaf = 1999, .leaves = 1, .volume = 0},
	                                     {.leaf = 1, .leaves = 1, .volume = 1}};
	const struct sosie_range zeros[] = {{.leaf = 0, .leaves = 2000, .volume = 0},
	                                    {.leaf = 2040, .leaves = 1, .volume = 0},
	                                    {.leaf = 0, .leaves = 1, .volume = 2}};
	struct sosie_digest ctx, leaves[3];
	struct sosie_err err;
	const void *out;
	size_t len;

	memset(plain, 's', sizeof(plain));
	sosie_encoder_pack_ranges(enc, true);
	sosie_context_volume(h, "acme", "erp", "a", &ctx);
	sosie_digest_leaf(h, &ctx, 1, plain, SOSIE_LEAF, &leaves[0]);
	sosie_digest_leaf(h, &ctx, 1999, plain, SOSIE_LEAF, &leaves[1]);
	sosie_context_volume(h, "acme", "erp", "b", &ctx);
	sosie_digest_leaf(h, &ctx, 1, plain, 5000 - SOSIE_LEAF, &leaves[2]);
	check(sosie_encode_data(enc, ranges, 3, leaves, plain, 5000 + SOSIE_LEAF, &out, &len, &err), &err);
	save("record/packed-data", out, len);
	check(sosie_encode_zero(enc, SOSIE_RECORD_ZERO, zeros, 3, &out, &len, &err), &err);
	save("record/packed-zero", out, len);
	record_on_old(enc, h, "record/packed-patch", 'n', 3, NULL, 0);
	sosie_encoder_pack_ranges(enc, false);
}

static void save_manifest(const char *name, const struct sosie_manifest *m)
{
	struct sosie_err err;
	char *text;
	size_t len;

	check(sosie_manifest_text(m, &text, &len, &err), &err);
	save(name, text, len);
	free(text);
}

static void manifests(void)
{
	struct sosie_manifest_volume volumes[] = {{.name = {"a"}, .size = 8 << 20},
	                                          {.name = {"b.raw"}, .size = 5000}};
	struct sosie_manifest_part part = {.length = 100, .records = 1};
	struct sosie_manifest_attachment attachment = {.name = {"domain.xml"}, .size = 9};
	struct sosie_manifest_ask ask = {.volume = 0, .level = 0, .first = 1, .count = 7};
	struct sosie_manifest m = {
	        .kind = SOSIE_MANIFEST_SEGMENT,
	        .tenant = {"acme"},
	        .group = {"erp"},
	        .epoch = 1,
	        .cut_ms = 1795318020123,
	        .standby_at_ms = 1795318020000,
	        .standby_plus_ms = 120,
	        .volume_count = 2,
	        .attachment_count = 1,
	        .part_count = 1,
	        .volumes = volumes,
	        .attachments = &attachment,
	        .parts = &part,
	        .plain = 40,
	        .data = 31,
	        .software = "sosie 0.1.0",
	};

	save_manifest("manifest/segment", &m);
	m.attachment_count = m.part_count = 0;
	m.plain = m.data = 0;
	save_manifest("manifest/empty", &m);
	m.kind = SOSIE_MANIFEST_COMPARE;
	part.length = SOSIE_COMPARE_ENTRY;
	m.part_count = m.ask_count = 1;
	m.asks = &ask;
	save_manifest("manifest/compare", &m);
}

static void save_verdict(const char *name, const struct sosie_verdict *v)
{
	struct sosie_err err;
	char *text;
	size_t len;

	check(sosie_verdict_text(v, &text, &len, &err), &err);
	save(name, text, len);
	free(text);
}

static void statements(void)
{
	static struct sosie_verdict v;
	struct sosie_err err;
	char *text;
	size_t len;

	v.head = (struct sosie_head){
	        .tenant = {"acme"}, .group = {"erp"}, .epoch = 1, .time_ms = 1795318020123};
	check(sosie_head_text(&v.head, &text, &len, &err), &err);
	save("statement/head-new", text, len);
	free(text);
	v.head.point = 41;
	v.head.manifest.b[0] = 1;
	v.head.volume_count = 1;
	v.head.volumes[0].name = (struct sosie_name){"a"};
	v.head.volumes[0].size = 8 << 20;
	check(sosie_head_text(&v.head, &text, &len, &err), &err);
	save("statement/head", text, len);
	free(text);
	v.kind = SOSIE_VERDICT_ACCEPTED;
	save_verdict("statement/accepted", &v);
	v.kind = SOSIE_VERDICT_DIFFERS;
	save_verdict("statement/differs", &v);
	v.kind = SOSIE_VERDICT_REFUSED;
	v.error =
	        (struct sosie_err){.code = SOSIE_EPARENT, .what = "another parent", .action = "sosie status"};
	save_verdict("statement/refused", &v);
	v.kind = SOSIE_VERDICT_WAITING;
	save_verdict("statement/waiting", &v);
}

int main(int argc, char **argv)
{
	struct sosie_hash *h = sosie_hash_new();
	struct sosie_encoder *enc;
	struct sosie_digest group;
	struct sosie_err err;

	if (argc != 2 || !h) {
		fprintf(stderr, "usage: seed_delta CORPUS\n");
		return 2;
	}
	corpus = argv[1];
	sosie_context_group(h, "acme", "erp", &group);
	check(sosie_encoder_new(&group, 3, &enc, &err), &err);
	data_records(enc, h);
	records_on_old(enc, h);
	packed_records(enc, h);
	manifests();
	statements();
	sosie_encoder_free(enc);
	sosie_hash_free(h);
	return 0;
}

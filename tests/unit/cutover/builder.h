/* SPDX-License-Identifier: MIT */
/*
 * A store on a simulated disk with a group of two volumes and as many points as wanted, put together from the
 * engine's own parts without keeper and inbox. Contents follow from the seed and the number of the point, so
 * that a test knows every image at every point.
 */
#ifndef TESTS_CUTOVER_BUILDER_H
#define TESTS_CUTOVER_BUILDER_H

#include <errno.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/store/core.h"
#include "sosie/cutover.h"

#define BUILD_START_MS 1795318020000 /* 2026-11-22T03:27:00Z */
#define BUILD_VOLUMES 2u
#define BUILD_MAX 300000u

struct build {
	struct sosie_disk *disk;
	struct sosie_clock_virtual clock;
	struct sosie_io *io;
	struct sosie_store *store;
	struct sosie_group *g;
	uint64_t seed;
};

static const struct {
	const char *name;
	uint32_t size;
} build_volumes[BUILD_VOLUMES] = {{"data", BUILD_MAX}, {"log", 65536}};

static void must(int rc, const struct sosie_err *err)
{
	char line[1100];

	if (rc < 0)
		fail_msg("%d: %s", rc, sosie_err_line(err, line, sizeof(line)));
}

/* The leaf that point n changes in a volume: four leaves a point, the last one among them now and then. */
static bool build_changes(uint64_t n, uint32_t leaf, uint32_t leaves)
{
	for (uint32_t k = 0; k < 4; k++)
		if (leaf == (uint32_t)((n * 7 + k * 11) % leaves))
			return true;
	return false;
}

static void build_leaf(uint64_t seed, uint64_t n, unsigned volume, uint32_t leaf, uint8_t out[SOSIE_LEAF])
{
	uint64_t x = seed * 1000003 + n * 7919 + volume * 104729 + leaf + 1;

	for (unsigned i = 0; i < SOSIE_LEAF; i += 8) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		memcpy(out + i, &x, 8);
	}
}

/* The whole volume at point n. */
static void build_content(uint64_t seed, uint64_t n, unsigned volume, uint8_t *out)
{
	const uint32_t size = build_volumes[volume].size, leaves = (size + SOSIE_LEAF - 1) / SOSIE_LEAF;
	uint8_t leaf[SOSIE_LEAF];

	memset(out, 0, size);
	for (uint64_t p = 1; p <= n; p++)
		for (uint32_t i = 0; i < leaves; i++) {
			if (!build_changes(p, i, leaves))
				continue;
			build_leaf(seed, p, volume, i, leaf);
			memcpy(out + (size_t)i * SOSIE_LEAF, leaf,
			       size - i * SOSIE_LEAF < SOSIE_LEAF ? size - i * SOSIE_LEAF : SOSIE_LEAF);
		}
}

static void build_root(struct build *b, const struct sosie_digest *ctx, unsigned volume, const uint8_t *bytes,
                       struct sosie_digest *root)
{
	const uint32_t size = build_volumes[volume].size, leaves = (size + SOSIE_LEAF - 1) / SOSIE_LEAF;
	struct sosie_tree *tree;
	struct sosie_digest digest;
	struct sosie_err err;

	must(sosie_tree_create(b->io, "/scratch.tree", ctx, size, &tree, &err), &err);
	for (uint32_t i = 0; i < leaves; i++) {
		const size_t at = (size_t)i * SOSIE_LEAF,
		             len = size - at < SOSIE_LEAF ? size - at : SOSIE_LEAF;
		sosie_digest_leaf(b->g->hash, ctx, i, bytes + at, len, &digest);
		must(sosie_tree_put_leaves(tree, i, 1, &digest, &err), &err);
	}
	must(sosie_tree_root(tree, root, &err), &err);
	must(sosie_tree_close(tree, &err), &err);
	must(sosie_io_unlink(b->io, "/scratch.tree", &err), &err);
}

struct build_part {
	uint8_t *bytes;
	size_t len;
	struct sosie_manifest_part named;
	uint64_t data;
};

static void build_record(struct build *b, struct sosie_encoder *enc, struct build_part *part,
                         const struct sosie_digest *ctx, uint64_t n, unsigned volume, const uint8_t *content)
{
	const uint32_t size = build_volumes[volume].size, leaves = (size + SOSIE_LEAF - 1) / SOSIE_LEAF;
	struct sosie_range ranges[8];
	struct sosie_digest digests[8];
	static uint8_t plain[8 * SOSIE_LEAF];
	struct sosie_err err;
	unsigned count = 0;
	size_t len = 0, record_len;
	const void *record;

	for (uint32_t i = 0; i < leaves; i++) {
		const size_t at = (size_t)i * SOSIE_LEAF,
		             bytes = size - at < SOSIE_LEAF ? size - at : SOSIE_LEAF;
		if (!build_changes(n, i, leaves))
			continue;
		ranges[count] = (struct sosie_range){.leaf = i, .leaves = 1, .volume = (uint16_t)volume};
		sosie_digest_leaf(b->g->hash, ctx, i, content + at, bytes, &digests[count++]);
		memcpy(plain + len, content + at, bytes);
		len += bytes;
	}
	must(sosie_encode_data(enc, ranges, count, digests, plain, len, &record, &record_len, &err), &err);
	memcpy(part->bytes + part->len, record, record_len);
	sosie_part_link(b->g->hash, part->bytes + part->len, record_len, &part->named.digest);
	part->len += record_len;
	part->named.records++;
	part->named.length = part->len;
	part->data += len;
}

/* Each point carries one attachment, vm.xml, in two pieces. */
static size_t build_attachment_text(uint64_t n, char dst[64])
{
	return (size_t)snprintf(dst, 64, "<domain type='kvm'><point>%llu</point></domain>\n",
	                        (unsigned long long)n);
}

static void build_attachment(struct build *b, struct sosie_encoder *enc, struct build_part *part, uint64_t n,
                             struct sosie_manifest_attachment *named)
{
	char text[64];
	const size_t len = build_attachment_text(n, text);
	const void *record;
	size_t record_len;
	struct sosie_err err;

	must(sosie_name_set(&named->name, SOSIE_NAME_ATTACHMENT, "vm.xml", &err), &err);
	named->size = len;
	sosie_hash_start(b->g->hash, NULL);
	sosie_hash_add(b->g->hash, text, len);
	sosie_hash_end(b->g->hash, &named->sha256);
	for (unsigned i = 0; i < 2; i++) {
		const size_t from = i ? 10 : 0, to = i ? len : 10;
		must(sosie_encode_attachment(enc, 0, from, text + from, to - from, &record, &record_len,
		                             &err),
		     &err);
		memcpy(part->bytes + part->len, record, record_len);
		sosie_part_link(b->g->hash, record, record_len, &part->named.digest);
		part->len += record_len;
		part->named.records++;
		part->named.length = part->len;
	}
}

static void build_append(struct build *b, uint64_t n, const struct sosie_manifest *m, uint64_t stored)
{
	const int64_t now = sosie_wall_ms(&b->clock.clock);
	struct sosie_json *j = sosie_json_new();
	struct sosie_digest digest;
	struct sosie_upload_id upload = {{(uint8_t)n}};
	struct sosie_err err;
	char *manifest, *acceptance;
	size_t manifest_len, acceptance_len;

	must(sosie_manifest_text(m, &manifest, &manifest_len, &err), &err);
	sosie_manifest_digest(b->g->hash, manifest, manifest_len, &digest);
	sosie_json_set_u64(j, "format", 1);
	sosie_json_set_str(j, "kind", "point");
	sosie_json_set_str(j, "tenant", "acme");
	sosie_json_set_str(j, "group", "erp");
	sosie_json_set_u64(j, "epoch", m->epoch);
	sosie_json_set_u64(j, "point", n);
	layout_set_time(j, "time", now);
	layout_set_time(j, "cut_time", now - 500);
	sosie_json_set_hex(j, "manifest", digest.b, sizeof(digest.b));
	sosie_json_set_hex(j, "upload", upload.b, sizeof(upload.b));
	sosie_json_set_str(j, "key", "0123456789abcdef");
	sosie_json_set_u64(j, "stored", stored);
	must(sosie_json_text(j, 0, &acceptance, &acceptance_len, &err), &err);
	sosie_json_free(j);
	const size_t len = 4 + manifest_len + acceptance_len;
	uint8_t *body = malloc(len);
	struct sosie_writer w;
	assert_non_null(body);
	sosie_writer_init(&w, body, len);
	sosie_put_blob(&w, manifest, manifest_len);
	sosie_put_bytes(&w, acceptance, acceptance_len);
	must(chain_append(b->g->chain, CHAIN_POINT, n, now, body, (uint32_t)len, &digest, &err), &err);
	free(body);
	free(manifest);
	free(acceptance);
}

/* Adds point n (one above the newest). The group's lock is held. */
static void build_point(struct build *b, uint64_t n)
{
	struct build_part part = {.bytes = calloc(1, 1u << 20)};
	static uint8_t content[BUILD_MAX];
	struct sosie_manifest_volume volumes[BUILD_VOLUMES];
	struct sosie_manifest_attachment attachment = {0};
	struct sosie_manifest m = {.kind = SOSIE_MANIFEST_SEGMENT,
	                           .epoch = chain_epoch(b->g->chain),
	                           .volume_count = BUILD_VOLUMES,
	                           .part_count = 1,
	                           .attachment_count = 1,
	                           .attachments = &attachment,
	                           .volumes = volumes,
	                           .parts = &part.named,
	                           .parent = *chain_head(b->g->chain),
	                           .cut_ms = sosie_wall_ms(&b->clock.clock) - 500};
	struct sosie_digest group_ctx, ctx;
	struct sosie_encoder *enc;
	struct sosie_err err;
	char path[STORE_PATH];

	assert_non_null(part.bytes);
	memset(volumes, 0, sizeof(volumes));
	m.tenant = b->g->tenant;
	m.group = b->g->name;
	snprintf(m.software, sizeof(m.software), "builder");
	sosie_context_group(b->g->hash, "acme", "erp", &group_ctx);
	sosie_part_start(b->g->hash, &group_ctx, 0, &part.named.digest);
	must(sosie_encoder_new(&group_ctx, 1, &enc, &err), &err);
	for (unsigned v = 0; v < BUILD_VOLUMES; v++) {
		must(sosie_name_set(&volumes[v].name, SOSIE_NAME_VOLUME, build_volumes[v].name, &err), &err);
		volumes[v].size = build_volumes[v].size;
		sosie_context_volume(b->g->hash, "acme", "erp", build_volumes[v].name, &ctx);
		build_content(b->seed, n, v, content);
		build_record(b, enc, &part, &ctx, n, v, content);
		build_root(b, &ctx, v, content, &volumes[v].root);
	}
	build_attachment(b, enc, &part, n, &attachment);
	sosie_encoder_free(enc);
	m.plain = m.data = part.data;
	must(journal_part_path(b->g, n, 0, path, &err), &err);
	must(sosie_io_write_file(b->io, path, part.bytes, part.len, 0640, &err), &err);
	build_append(b, n, &m, part.len);
	b->clock.now_ms += 60000;
	free(part.bytes);
}

/* Children are kept for all stores of the program: sweeps open thousands. */
static void build_lend(struct sosie_store *store)
{
	static struct confined_home *home;
	struct sosie_err err;

	if (!home)
		must(confined_home_new(&confined_kind, &home, &err), &err);
	store->home = home;
	store->home_lent = true;
}

static void build_open(struct build *b, struct sosie_io *io)
{
	struct sosie_err err;

	must(sosie_store_open(io, &b->clock.clock, "/store", &b->store, &err), &err);
	build_lend(b->store);
	must(sosie_group_open(b->store, "acme", "erp", &b->g, &err), &err);
}

static void build_close(struct build *b)
{
	sosie_group_close(b->g);
	sosie_store_close(b->store);
	b->g = NULL;
	b->store = NULL;
}

/* A store with points 1 to `points`, a generation at `generation` (0: none), head clean; everything closed
 * but io. */
static void build_start(struct build *b, uint64_t seed, bool reflink, uint64_t points, uint64_t generation)
{
	struct sosie_err err;

	memset(b, 0, sizeof(*b));
	b->seed = seed;
	b->disk = sosie_disk_new(64u << 20, seed, reflink);
	sosie_clock_virtual_init(&b->clock, BUILD_START_MS, seed);
	must(sosie_io_sim(b->disk, &b->io, &err), &err);
	must(sosie_store_init(b->io, &b->clock.clock, "/store", &err), &err);
	must(sosie_store_open(b->io, &b->clock.clock, "/store", &b->store, &err), &err);
	build_lend(b->store);
	must(sosie_io_ensure_dir(b->io, "/store/acme", 0755, &err), &err);
	must(sosie_io_ensure_dir(b->io, "/store/acme/_inbox", 0755, &err), &err);
	must(sosie_io_ensure_dir(b->io, "/store/acme/_outbox", 0755, &err), &err);
	must(group_make(b->store, "acme", "erp", &err), &err);
	must(sosie_group_open(b->store, "acme", "erp", &b->g, &err), &err);
	must(sosie_group_lock(b->g, "builder", 0, &err), &err);
	for (uint64_t n = 1; n <= points; n++) {
		build_point(b, n);
		if (n == generation) {
			must(head_ready(b->g, NULL, &err), &err);
			must(generation_make(b->g, NULL, &err), &err);
		}
	}
	must(head_ready(b->g, NULL, &err), &err);
	must(head_clean(b->g, &err), &err);
	build_close(b);
}

static void build_end(struct build *b)
{
	build_close(b);
	sosie_io_free(b->io);
	sosie_disk_free(b->disk);
}

/* The file holds exactly the volume at point n. */
static void assert_image(struct build *b, const char *path, unsigned volume, uint64_t n)
{
	static uint8_t want[BUILD_MAX];
	struct sosie_err err;
	char *bytes;
	size_t len;

	must(sosie_io_read_file(b->io, path, BUILD_MAX + 1, &bytes, &len, &err), &err);
	assert_int_equal(len, build_volumes[volume].size);
	build_content(b->seed, n, volume, want);
	assert_memory_equal(bytes, want, len);
	free(bytes);
}

static int build_count_one(void *arg, const char *name, enum sosie_file_kind kind)
{
	(void)name;
	(void)kind;
	++*(unsigned *)arg;
	return 0;
}

static unsigned build_count(struct build *b, const char *dir)
{
	struct sosie_err err;
	unsigned n = 0;

	must(sosie_io_list(b->io, dir, build_count_one, &n, &err), &err);
	return n;
}

#endif

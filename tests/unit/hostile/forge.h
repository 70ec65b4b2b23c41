/* SPDX-License-Identifier: MIT */
/*
 * Segments of a hostile source that knows the format: records are put together by hand, with whatever fields
 * and payload, and everything above them (record digest, part chain, counters, roots, manifest) is made to
 * fit, so that only the lie itself can be what is refused. Fields of the manifest's text are replaced by
 * name.
 */
#ifndef TESTS_HOSTILE_FORGE_H
#define TESTS_HOSTILE_FORGE_H

#include "engine/delta/record.h"
#include "tests/unit/hostile/bench.h"

#define FORGE_BYTES (4u << 20)
#define FORGE_PARTS 4u
#define FORGE_EDITS 8u

struct forged_part {
	uint8_t *bytes;
	size_t len;
	uint64_t records;
	struct sosie_digest chain;
};
/* The n-th value of a member in the manifest's text becomes `text`. */
struct forge_edit {
	const char *member;
	unsigned nth;
	const char *text;
};
struct forge {
	struct bench *b;
	struct sosie_hash *hash;
	struct sosie_digest ctx, vctx[MODEL_VOLUMES];
	struct model model; /* the content that the manifest claims */
	struct forged_part parts[FORGE_PARTS];
	unsigned part_count;
	struct sosie_manifest m;
	struct sosie_manifest_volume volumes[SOSIE_VOLUMES_MAX];
	struct sosie_manifest_part list[FORGE_PARTS];
	struct sosie_manifest_attachment attachments[SOSIE_ATTACHMENTS_MAX];
	struct sosie_manifest_ask asks[16];
	struct forge_edit edits[FORGE_EDITS];
	unsigned edit_count;
	struct sosie_upload_id id;
	char *text;
	size_t text_len;
};

static inline void forge_edit(struct forge *f, const char *member, unsigned nth, const char *text)
{
	assert_true(f->edit_count < FORGE_EDITS);
	f->edits[f->edit_count++] = (struct forge_edit){member, nth, text};
}

static inline void forge_part(struct forge *f)
{
	struct forged_part *p = &f->parts[f->part_count];
	assert_true(f->part_count < FORGE_PARTS);
	p->bytes = malloc(FORGE_BYTES);
	assert_non_null(p->bytes);
	sosie_part_start(f->hash, &f->ctx, f->part_count++, &p->chain);
}

/* On the head of acme/erp, as the honest sender's next segment; one part, no record yet. */
static inline struct forge *forge_new(struct bench *b)
{
	struct forge *f = calloc(1, sizeof(*f));
	assert_non_null(f);
	f->b = b;
	f->hash = sosie_hash_new();
	assert_non_null(f->hash);
	model_copy(&f->model, &b->now[ERP]);
	sosie_context_group(f->hash, "acme", "erp", &f->ctx);
	for (unsigned i = 0; i < f->model.volume_count; i++)
		sosie_context_volume(f->hash, "acme", "erp", f->model.volumes[i].name.s, &f->vctx[i]);
	bench_head(b, ERP, &f->m.parent);
	OK(b, sosie_name_set(&f->m.tenant, SOSIE_NAME_TENANT, "acme", &b->err));
	OK(b, sosie_name_set(&f->m.group, SOSIE_NAME_GROUP, "erp", &b->err));
	f->m.epoch = 1;
	b->clock.now_ms += 10;
	f->m.cut_ms = f->m.standby_at_ms = b->clock.now_ms;
	snprintf(f->m.software, sizeof(f->m.software), "sosie test");
	OK(b, sosie_random(&b->clock.clock, f->id.b, sizeof(f->id.b), &b->err));
	forge_part(f);
	return f;
}

static inline void forge_free(struct forge *f)
{
	for (unsigned i = 0; i < f->part_count; i++)
		free(f->parts[i].bytes);
	sosie_hash_free(f->hash);
	model_fini(&f->model);
	free(f->text);
	free(f);
}

/* Bytes as one record of the newest part, whatever they are. */
static inline void forge_raw(struct forge *f, const void *bytes, size_t len)
{
	struct forged_part *p = &f->parts[f->part_count - 1];
	assert_true(p->len + len <= FORGE_BYTES);
	memcpy(p->bytes + p->len, bytes, len);
	p->len += len;
	p->records++;
	sosie_part_link(f->hash, bytes, len, &p->chain);
}

struct forged_record {
	enum sosie_record_kind kind;
	uint8_t encoding;
	const struct sosie_range *ranges;
	unsigned count;
	const uint8_t *plain; /* content that the digest is made of; NULL: no leaves */
	uint32_t plain_len;   /* as the header says */
	const void *payload;
	uint32_t payload_len;
};

/* Digest of the record as an honest sender of that content would make it. */
static inline void forge_digest(struct forge *f, const struct forged_record *r, struct sosie_digest *out)
{
	static struct sosie_digest leaves[2 * SOSIE_RECORD_RANGES_MAX];
	const uint8_t *at = r->plain;
	unsigned n = 0;
	if (r->kind == SOSIE_RECORD_ATTACHMENT) {
		record_attachment_digest(f->hash, &f->ctx, r->payload, r->payload_len, out);
		return;
	}
	for (unsigned i = 0; r->plain && i < r->count; i++)
		for (uint32_t k = 0; k < r->ranges[i].leaves; k++) {
			uint64_t size = f->model.volumes[r->ranges[i].volume].size,
			         start = (r->ranges[i].leaf + k) * SOSIE_LEAF;
			size_t len = start >= size               ? SOSIE_LEAF
			             : size - start < SOSIE_LEAF ? (size_t)(size - start)
			                                         : SOSIE_LEAF;
			assert_true(n < 2 * SOSIE_RECORD_RANGES_MAX);
			sosie_digest_leaf(f->hash, &f->vctx[r->ranges[i].volume], r->ranges[i].leaf + k, at,
			                  len, &leaves[n++]);
			at += len;
		}
	record_digest(f->hash, &f->ctx, r->kind, r->ranges, r->count, leaves, n, out);
}

static inline size_t forge_bytes(struct forge *f, const struct forged_record *r, uint8_t *dst, size_t size)
{
	struct sosie_digest digest;
	struct sosie_writer w;
	forge_digest(f, r, &digest);
	sosie_writer_init(&w, dst, size);
	sosie_put_bytes(&w, RECORD_MAGIC, 4);
	sosie_put_u8(&w, (uint8_t)r->kind);
	sosie_put_u8(&w, r->encoding);
	sosie_put_u16(&w, (uint16_t)r->count);
	sosie_put_u32(&w, r->plain_len);
	sosie_put_u32(&w, r->payload_len);
	sosie_put_bytes(&w, digest.b, sizeof(digest.b));
	record_put_ranges(&w, r->ranges, r->count);
	if (r->payload_len)
		sosie_put_bytes(&w, r->payload, r->payload_len);
	assert_false(w.failed);
	return w.len;
}

static inline void forge_record(struct forge *f, const struct forged_record *r)
{
	static uint8_t bytes[2 * SOSIE_RECORD_MAX];
	forge_raw(f, bytes, forge_bytes(f, r, bytes, sizeof(bytes)));
	f->m.plain += r->plain_len;
	if (r->kind != SOSIE_RECORD_ATTACHMENT)
		f->m.data += r->plain_len;
}

/* An honest raw record of the model's content now at these leaves of a volume. */
static inline void forge_leaves(struct forge *f, uint16_t volume, uint64_t leaf, uint32_t leaves)
{
	const struct model_volume *v = &f->model.volumes[volume];
	const struct sosie_range range = {.leaf = leaf, .leaves = leaves, .volume = volume};
	const uint32_t len = (uint32_t)sosie_range_bytes(&range, v->size);
	const uint8_t *plain = v->bytes + leaf * SOSIE_LEAF;
	forge_record(
	        f, &(struct forged_record){SOSIE_RECORD_DATA, RECORD_RAW, &range, 1, plain, len, plain, len});
}

/* --- the manifest's text ----------------------------------------------------------------------------------
 */

/* Where the value behind a colon ends: strings, lists and objects whole. */
static inline size_t json_value_len(const char *at)
{
	int depth = 0;
	bool text = false;
	for (size_t n = 0;; n++) {
		char c = at[n];
		assert_true(c != '\0');
		if (text) {
			n += c == '\\';
			text = c != '"';
			if (!text && depth == 0)
				return n + 1;
		} else if (c == '"') {
			text = true;
		} else if (c == '[' || c == '{') {
			depth++;
		} else if (c == ']' || c == '}') {
			if (depth-- == 0)
				return n;
			if (depth == 0)
				return n + 1;
		} else if (c == ',' && depth == 0) {
			return n;
		}
	}
}

/* malloc'd; NULL when the text has no such member so often, or has that value already. */
static inline char *json_replaced(const char *text, const char *member, unsigned nth, const char *value)
{
	char key[40], *out = NULL;
	const char *at = text;
	snprintf(key, sizeof(key), "\"%s\":", member);
	for (unsigned i = 0; at && i <= nth; i++) {
		at = strstr(at, key);
		at = at ? at + strlen(key) : NULL;
	}
	if (!at)
		return NULL;
	size_t old = json_value_len(at);
	if (strlen(value) == old && memcmp(at, value, old) == 0)
		return NULL;
	if (asprintf(&out, "%.*s%s%s", (int)(at - text), text, value, at + old) < 0)
		fail_msg("no memory");
	return out;
}

static inline void forge_text(struct forge *f)
{
	struct bench *b = f->b;
	f->m.volume_count = f->m.volume_count ? f->m.volume_count : f->model.volume_count;
	for (unsigned i = 0; i < f->model.volume_count; i++) {
		f->volumes[i].name = f->model.volumes[i].name;
		f->volumes[i].size = f->model.volumes[i].size;
		if (f->m.kind == SOSIE_MANIFEST_SEGMENT)
			model_root(&f->model, i, &f->volumes[i].root);
	}
	for (unsigned i = 0; i < f->part_count; i++)
		f->list[i] =
		        (struct sosie_manifest_part){f->parts[i].len, f->parts[i].records, f->parts[i].chain};
	f->m.volumes = f->volumes;
	f->m.parts = f->list;
	f->m.part_count = f->part_count;
	f->m.attachments = f->attachments;
	f->m.asks = f->asks;
	free(f->text);
	OK(b, sosie_manifest_text(&f->m, &f->text, &f->text_len, &b->err));
	for (unsigned i = 0; i < f->edit_count; i++) {
		const struct forge_edit *e = &f->edits[i];
		char *next = json_replaced(f->text, e->member, e->nth, e->text);
		if (!next)
			fail_msg("the manifest has no %s %u, or it is %s already", e->member, e->nth,
			         e->text);
		free(f->text);
		f->text = next;
	}
	f->text_len = strlen(f->text);
}

/* Into the inbox, as a receiver leaves it. */
static inline void forge_put(struct bench *b, const char *group, const struct sosie_upload_id *id,
                             const char *suffix, const void *bytes, size_t len)
{
	char path[300], hex[33];
	sosie_hex(hex, id->b, sizeof(id->b));
	snprintf(path, sizeof(path), "/s/acme/_inbox/%s", group);
	OK(b, sosie_io_ensure_dir(b->io, path, 0770, &b->err));
	snprintf(path, sizeof(path), "/s/acme/_inbox/%s/%s.%s", group, hex, suffix);
	OK(b, sosie_io_write_file(b->io, path, bytes, len, 0640, &b->err));
}

static inline void forge_send(struct forge *f)
{
	char suffix[16];
	if (!f->text)
		forge_text(f);
	for (unsigned i = 0; i < f->part_count; i++) {
		snprintf(suffix, sizeof(suffix), "%u", i);
		forge_put(f->b, "erp", &f->id, suffix, f->parts[i].bytes, f->parts[i].len);
	}
	forge_put(f->b, "erp", &f->id, "manifest", f->text, f->text_len);
}

/* --- what becomes of it ----------------------------------------------------------------------------------
 */

static inline void forge_refused(struct bench *b, const char *name)
{
	uint64_t before = bench_head(b, ERP, NULL);
	struct sosie_accept_result r = bench_keep(b, ERP);
	if (r.refused != 1 || r.accepted + r.waiting + r.answered != 0 || r.point != before)
		fail_msg("%s: not refused: %u accepted, %u waiting, %u answered", name, r.accepted, r.waiting,
		         r.answered);
	print_message("  %s: %s: %.90s\n", name, sosie_code_name(r.last.code), r.last.what);
}

static inline void forge_accepted(struct forge *f, const char *name)
{
	struct bench *b = f->b;
	uint64_t before = bench_head(b, ERP, NULL);
	struct sosie_accept_result r = bench_keep(b, ERP);
	if (r.accepted != 1 || r.point != before + 1)
		fail_msg("%s: not accepted: %s", name, r.last.what);
	bench_equal_point(b, ERP, r.point, &f->model);
	model_fini(&b->now[ERP]);
	model_copy(&b->now[ERP], &f->model);
	print_message("  %s: a point of what its manifest says\n", name);
}

#endif

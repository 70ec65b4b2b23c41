/* SPDX-License-Identifier: MIT */
/* See make_upload.h. */
#include "tests/support/make_upload.h"

#include "sosie/sign.h"
#include "sosie/bytes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(call)                                                                                          \
	do {                                                                                                 \
		struct sosie_err err_;                                                                       \
		sosie_err_clear(&err_);                                                                      \
		if (check((call), &err_, #call))                                                             \
			abort();                                                                             \
	} while (0)
#define ERR (&err_)

static int check(int rc, const struct sosie_err *err, const char *call)
{
	if (rc)
		fprintf(stderr, "make_upload: %s: %s\n", call, err->what);
	return rc;
}

static void *need(void *p)
{
	if (!p)
		abort();
	return p;
}

void model_init(struct model *m, const char *tenant, const char *group)
{
	memset(m, 0, sizeof(*m));
	snprintf(m->tenant, sizeof(m->tenant), "%s", tenant);
	snprintf(m->group, sizeof(m->group), "%s", group);
}

void model_fini(struct model *m)
{
	for (unsigned i = 0; i < m->volume_count; i++)
		free(m->volumes[i].bytes);
	memset(m, 0, sizeof(*m));
}

unsigned model_add(struct model *m, const char *volume, uint64_t size)
{
	struct model_volume *v = &m->volumes[m->volume_count];
	if (m->volume_count == MODEL_VOLUMES)
		abort();
	CHECK(sosie_name_set(&v->name, SOSIE_NAME_VOLUME, volume, ERR));
	v->size = size;
	v->bytes = need(calloc(1, size));
	return m->volume_count++;
}

void model_remove(struct model *m, unsigned volume)
{
	free(m->volumes[volume].bytes);
	m->volume_count--;
	memmove(&m->volumes[volume], &m->volumes[volume + 1],
	        (m->volume_count - volume) * sizeof(m->volumes[0]));
}

void model_resize(struct model *m, unsigned volume, uint64_t size)
{
	struct model_volume *v = &m->volumes[volume];
	v->bytes = need(realloc(v->bytes, size));
	if (size > v->size)
		memset(v->bytes + v->size, 0, size - v->size);
	v->size = size;
}

void model_copy(struct model *dst, const struct model *src)
{
	*dst = *src;
	for (unsigned i = 0; i < src->volume_count; i++) {
		dst->volumes[i].bytes = need(malloc(src->volumes[i].size));
		memcpy(dst->volumes[i].bytes, src->volumes[i].bytes, src->volumes[i].size);
	}
}

static void leaf_digest(struct sosie_hash *h, const struct sosie_digest *ctx, const struct model_volume *v,
                        uint64_t leaf, struct sosie_digest *out)
{
	uint64_t at = leaf * SOSIE_LEAF, left = v->size - at;
	sosie_digest_leaf(h, ctx, leaf, v->bytes + at, left < SOSIE_LEAF ? (size_t)left : SOSIE_LEAF, out);
}

static void level0(struct sosie_hash *h, const struct sosie_digest *ctx, const struct model_volume *v,
                   uint64_t block, struct sosie_digest out[SOSIE_FANOUT])
{
	memset(out, 0, SOSIE_FANOUT * sizeof(*out));
	for (uint64_t i = 0; i < SOSIE_FANOUT && (block * SOSIE_FANOUT + i) * SOSIE_LEAF < v->size; i++)
		leaf_digest(h, ctx, v, block * SOSIE_FANOUT + i, &out[i]);
}

/* Volumes of tests are below 256 MiB: one block of level 1. */
void model_root(const struct model *m, unsigned volume, struct sosie_digest *out)
{
	const struct model_volume *v = &m->volumes[volume];
	struct sosie_hash *h = need(sosie_hash_new());
	struct sosie_digest ctx, block[SOSIE_FANOUT], up[SOSIE_FANOUT], top;
	sosie_context_volume(h, m->tenant, m->group, v->name.s, &ctx);
	memset(up, 0, sizeof(up));
	for (uint64_t b = 0; b * SOSIE_CHUNK < v->size; b++) {
		level0(h, &ctx, v, b, block);
		sosie_digest_node(h, &ctx, 1, b, block, &up[b]);
	}
	for (unsigned level = 2; level <= 5; level++) {
		sosie_digest_node(h, &ctx, level, 0, up, &top);
		memset(up, 0, sizeof(up));
		up[0] = top;
	}
	sosie_digest_root(h, &ctx, v->size, &top, out);
	sosie_hash_free(h);
}

/* One part under construction. */
struct part {
	uint8_t *bytes;
	size_t len;
	uint64_t records;
	struct sosie_digest chain;
};
struct making {
	struct make_upload *u;
	struct sosie_hash *hash;
	struct sosie_encoder *encoder;
	struct sosie_digest group_ctx, ctx[MODEL_VOLUMES];
	struct sosie_manifest m;
	struct part *parts;
	uint8_t *old; /* what the volume under change held before the change */
};

static void add_bytes(struct making *k, struct part *p, const void *bytes, size_t len)
{
	p->bytes = need(realloc(p->bytes, p->len + len));
	memcpy(p->bytes + p->len, bytes, len);
	p->len += len;
	p->records++;
	sosie_part_link(k->hash, bytes, len, &p->chain);
}

/* librsync's format: copies from the same place of the chunk where 64 bytes are equal there, else literals.
 */
static size_t make_delta(uint8_t *dst, const uint8_t *plain, const uint8_t *old, size_t len, size_t in_chunk)
{
	struct sosie_writer w;
	sosie_writer_init(&w, dst, SOSIE_CHUNK * 2);
	sosie_put_u8(&w, 0x72);
	sosie_put_u8(&w, 0x73);
	sosie_put_u8(&w, 0x02);
	sosie_put_u8(&w, 0x36);
	for (size_t at = 0; at < len;) {
		size_t n = len - at < 64 ? len - at : 64;
		if (memcmp(plain + at, old + at, n) != 0) {
			sosie_put_u8(&w, (uint8_t)n);
			sosie_put_bytes(&w, plain + at, n);
		} else {
			while (at + n < len && n < 65535 && plain[at + n] == old[at + n])
				n++;
			sosie_put_u8(
			        &w, 69 + 2 * 4 +
			                    1); /* position of 4 bytes, length of 2, most significant first */
			for (unsigned k = 4; k-- > 0;)
				sosie_put_u8(&w, (uint8_t)((in_chunk + at) >> (8 * k)));
			sosie_put_u8(&w, (uint8_t)(n >> 8));
			sosie_put_u8(&w, (uint8_t)n);
		}
		at += n;
	}
	sosie_put_u8(&w, 0);
	if (w.failed)
		abort();
	return w.len;
}

static void encode_delta(struct making *k, const struct sosie_range *range,
                         const struct sosie_digest *digests, const uint8_t *plain, size_t plain_len,
                         const void **bytes, size_t *len, enum sosie_record_kind *kind)
{
	uint8_t *delta = need(malloc(SOSIE_CHUNK * 2));
	size_t n = make_delta(delta, plain, k->old + range->leaf * SOSIE_LEAF, plain_len,
	                      (size_t)(range->leaf * SOSIE_LEAF % SOSIE_CHUNK));
	CHECK(sosie_encode_delta(k->encoder, range, 1, digests, plain, plain_len, delta, n, bytes, len, ERR));
	*kind = (enum sosie_record_kind)((const uint8_t *)*bytes)[4];
	free(delta);
}

static void add_data(struct making *k, struct part *p, unsigned volume, uint64_t leaf, uint32_t leaves)
{
	const struct model_volume *v = &k->u->model->volumes[volume];
	struct sosie_range range = {.leaf = leaf, .leaves = leaves, .volume = (uint16_t)volume};
	struct sosie_digest digests[SOSIE_FANOUT];
	enum sosie_record_kind kind = SOSIE_RECORD_DATA;
	const uint8_t *plain = v->bytes + leaf * SOSIE_LEAF;
	const void *bytes;
	size_t len;
	uint64_t plain_len = sosie_range_bytes(&range, v->size);
	for (uint32_t i = 0; i < leaves; i++)
		leaf_digest(k->hash, &k->ctx[volume], v, leaf + i, &digests[i]);
	if (k->u->as == MAKE_DELTA)
		encode_delta(k, &range, digests, plain, plain_len, &bytes, &len, &kind);
	else if (k->u->as == MAKE_PATCH)
		CHECK(sosie_encode_patch(k->encoder, &range, 1, digests, plain, plain_len,
		                         k->old + leaf * SOSIE_LEAF, &bytes, &len, &kind, ERR));
	else
		CHECK(sosie_encode_data(k->encoder, &range, 1, digests, plain, plain_len, &bytes, &len, ERR));
	k->u->patches += kind == SOSIE_RECORD_PATCH;
	k->u->deltas += kind == SOSIE_RECORD_DELTA;
	add_bytes(k, p, bytes, len);
	k->m.plain += plain_len;
	k->m.data += plain_len;
}

static void add_zero(struct making *k, struct part *p, unsigned volume, uint64_t leaf, uint32_t leaves)
{
	struct sosie_range range = {.leaf = leaf, .leaves = leaves, .volume = (uint16_t)volume};
	const void *bytes;
	size_t len;
	CHECK(sosie_encode_zero(k->encoder, SOSIE_RECORD_ZERO, &range, 1, &bytes, &len, ERR));
	add_bytes(k, p, bytes, len);
	k->m.zero += sosie_range_bytes(&range, k->u->model->volumes[volume].size);
}

static void add_change(struct making *k, struct part *p, const struct change *c)
{
	struct model_volume *v = &k->u->model->volumes[c->volume];
	uint64_t first = c->offset / SOSIE_LEAF, last = (c->offset + c->len + SOSIE_LEAF - 1) / SOSIE_LEAF;
	if (k->u->wrong_basis)
		v->bytes[first * SOSIE_LEAF] ^= 0x5a;
	k->old = need(malloc(v->size));
	memcpy(k->old, v->bytes, v->size);
	if (c->data)
		memcpy(v->bytes + c->offset, c->data, c->len);
	else
		memset(v->bytes + c->offset, 0, c->len);
	for (uint64_t at = first, n; at < last; at += n) {
		n = k->u->as == MAKE_DELTA ? SOSIE_FANOUT - at % SOSIE_FANOUT : SOSIE_FANOUT;
		n = last - at < n ? last - at : n;
		if (c->data || c->offset % SOSIE_LEAF ||
		    (c->len % SOSIE_LEAF && c->offset + c->len < v->size))
			add_data(k, p, c->volume, at, (uint32_t)n);
		else
			add_zero(k, p, c->volume, at, (uint32_t)n);
	}
	free(k->old);
}

static void add_attachment(struct making *k, struct part *p)
{
	static struct sosie_manifest_attachment list[SOSIE_ATTACHMENTS_MAX];
	struct sosie_manifest_attachment *a = &list[0];
	const char *text = k->u->attachment;
	const void *bytes;
	size_t len;
	memset(list, 0, sizeof(list));
	k->m.attachments = list;
	if (text) {
		CHECK(sosie_name_set(&a->name, SOSIE_NAME_ATTACHMENT, "machine.xml", ERR));
		a->size = strlen(text);
		sosie_hash_plain(k->hash);
		sosie_hash_add(k->hash, text, a->size);
		sosie_hash_end(k->hash, &a->sha256);
		CHECK(sosie_encode_attachment(k->encoder, 0, 0, text, a->size, &bytes, &len, ERR));
		add_bytes(k, p, bytes, len);
		k->m.plain += a->size + 12;
		k->m.attachment_count = 1;
	}
	for (unsigned i = 0; i < k->u->empty_attachments; i++) {
		a = &list[k->m.attachment_count++];
		snprintf(a->name.s, sizeof(a->name.s), "empty-%u", i);
		sosie_hash_plain(k->hash);
		sosie_hash_end(k->hash, &a->sha256);
	}
}

static void start(struct making *k, struct make_upload *u, unsigned parts)
{
	memset(k, 0, sizeof(*k));
	k->u = u;
	k->hash = need(sosie_hash_new());
	k->parts = need(calloc(parts, sizeof(*k->parts)));
	sosie_context_group(k->hash, u->model->tenant, u->model->group, &k->group_ctx);
	for (unsigned i = 0; i < u->model->volume_count; i++)
		sosie_context_volume(k->hash, u->model->tenant, u->model->group, u->model->volumes[i].name.s,
		                     &k->ctx[i]);
	for (unsigned i = 0; i < parts; i++)
		sosie_part_start(k->hash, &k->group_ctx, i, &k->parts[i].chain);
	k->m.part_count = parts;
	CHECK(sosie_encoder_new(&k->group_ctx, 1, &k->encoder, ERR));
	CHECK(sosie_random(u->clock, u->id.b, sizeof(u->id.b), ERR));
}

static void put_file(struct make_upload *u, const char *suffix, const void *bytes, size_t len)
{
	char path[4096], id[33];
	sosie_hex(id, u->id.b, sizeof(u->id.b));
	snprintf(path, sizeof(path), "%s/%s/_inbox/%s", u->store, u->model->tenant, u->model->group);
	CHECK(sosie_io_ensure_dir(u->io, path, 0770, ERR));
	snprintf(path, sizeof(path), "%s/%s/_inbox/%s/%s.%s", u->store, u->model->tenant, u->model->group, id,
	         suffix);
	CHECK(sosie_io_write_file(u->io, path, bytes, len, 0640, ERR));
}

static void describe(struct making *k, struct sosie_manifest_volume *volumes,
                     struct sosie_manifest_part *parts)
{
	struct model *model = k->u->model;
	CHECK(sosie_name_set(&k->m.tenant, SOSIE_NAME_TENANT, model->tenant, ERR));
	CHECK(sosie_name_set(&k->m.group, SOSIE_NAME_GROUP, model->group, ERR));
	k->m.epoch = k->u->epoch ? k->u->epoch : 1;
	k->m.parent = k->u->parent;
	k->m.parent.b[5] ^= k->u->fuzzy_parent ? 1 : 0;
	k->m.cut_ms = k->m.standby_at_ms = sosie_wall_ms(k->u->clock);
	k->m.volume_count = model->volume_count;
	k->m.volumes = volumes;
	k->m.parts = parts;
	snprintf(k->m.software, sizeof(k->m.software), "sosie test");
	for (unsigned i = 0; i < model->volume_count; i++) {
		volumes[i].name = model->volumes[i].name;
		volumes[i].size = model->volumes[i].size;
		if (k->m.kind == SOSIE_MANIFEST_SEGMENT)
			model_root(model, i, &volumes[i].root);
	}
	volumes[0].root.b[0] ^= k->u->lie_root ? 1 : 0;
	for (unsigned i = 0; i < k->m.part_count; i++) {
		parts[i].length = k->parts[i].len;
		parts[i].records = k->parts[i].records;
		parts[i].digest = k->parts[i].chain;
	}
	k->m.plain -= k->u->plain_less;
	k->m.data -= k->u->plain_less;
	if (k->u->claim_part) {
		parts[0].length = k->u->claim_part;
		parts[0].records = k->u->claim_part / SOSIE_RECORD_HEADER;
	}
}

static void pad(char **text, size_t *len, size_t spaces)
{
	*text = need(realloc(*text, *len + spaces + 1));
	memset(*text + *len, ' ', spaces);
	*len += spaces;
}

static void commit(struct making *k)
{
	struct sosie_manifest_volume volumes[MODEL_VOLUMES] = {0};
	struct sosie_manifest_part parts[16] = {0};
	char *text = NULL, suffix[16];
	size_t len;
	describe(k, volumes, parts);
	CHECK(sosie_manifest_text(&k->m, &text, &len, ERR));
	pad(&text, &len, k->u->pad_manifest);
	if (k->u->signer) {
		char *made;
		CHECK(sosie_sign(k->u->signer, SOSIE_SIGN_MANIFEST, text, len, &made, &len, ERR));
		free(text);
		text = made;
	}
	k->u->part0_len = k->parts[0].len;
	if (k->u->flip && k->u->flip_at < k->parts[0].len)
		k->parts[0].bytes[k->u->flip_at] ^= 0x10;
	for (unsigned i = 0; i < k->m.part_count; i++) {
		snprintf(suffix, sizeof(suffix), "%u", i);
		put_file(k->u, suffix, k->parts[i].bytes ? (const void *)k->parts[i].bytes : "",
		         k->parts[i].len);
		free(k->parts[i].bytes);
	}
	put_file(k->u, "manifest", text, len);
	free(text);
	free(k->parts);
	sosie_encoder_free(k->encoder);
	sosie_hash_free(k->hash);
}

void make_upload(struct make_upload *u)
{
	struct making k;
	unsigned parts = u->parts ? u->parts : 1;
	start(&k, u, parts);
	for (unsigned i = 0; i < u->change_count; i++)
		add_change(&k, &k.parts[(uint64_t)i * parts / u->change_count], &u->changes[i]);
	add_attachment(&k, &k.parts[parts - 1]);
	commit(&k);
}

void make_compare(struct make_upload *u)
{
	struct making k;
	struct sosie_manifest_ask asks[MODEL_VOLUMES];
	uint8_t entry[SOSIE_COMPARE_ENTRY];
	start(&k, u, 1);
	k.m.kind = SOSIE_MANIFEST_COMPARE;
	for (unsigned i = 0; i < u->model->volume_count; i++) {
		const struct model_volume *v = &u->model->volumes[i];
		uint64_t blocks = (v->size + SOSIE_CHUNK - 1) / SOSIE_CHUNK;
		asks[i] = (struct sosie_manifest_ask){
		        .volume = (uint16_t)i, .level = 0, .first = 0, .count = blocks};
		for (uint64_t b = 0; b < blocks; b++) {
			struct sosie_compare_entry e = {.volume = (uint16_t)i, .block = b};
			level0(k.hash, &k.ctx[i], v, b, e.children);
			if (sosie_all_zero(e.children, sizeof(e.children)))
				continue;
			sosie_compare_put(entry, &e);
			add_bytes(&k, &k.parts[0], entry, sizeof(entry));
		}
	}
	k.m.asks = asks;
	k.m.ask_count = u->model->volume_count;
	commit(&k);
}

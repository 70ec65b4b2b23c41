/* SPDX-License-Identifier: MIT */
/*
 * Payloads to and from bytes (docs/protocol.md, "Session"): one put and one get for each type, in one table.
 * A get reads from a bounded reader only, and a payload that is not used up to its last byte is refused. A
 * bad name is told as SOSIE_ENAME (the session goes on), all else as SOSIE_EPROTO. Text of a peer is escaped
 * here, once.
 */
#include "sosie/message.h"
#include "sosie/bytes.h"

#include "verbs.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define PART_STATE_BYTES 12u

typedef struct sosie_message msg;

static void put_name(struct sosie_writer *w, const struct sosie_name *name)
{
	sosie_put_string(w, name->s);
}

/* 0, or SOSIE_ENAME; a string that is no string fails the reader. */
static int get_name(struct sosie_reader *r, enum sosie_name_kind kind, struct sosie_name *out,
                    struct sosie_err *err)
{
	char text[256];
	size_t len;
	const void *bytes = sosie_get_blob(r, sizeof text - 1, &len);
	if (!bytes || memchr(bytes, 0, len)) {
		r->failed = true;
		return 0;
	}
	memcpy(text, bytes, len);
	text[len] = '\0';
	return sosie_name_set(out, kind, text, err);
}

static int get_group(struct sosie_reader *r, struct sosie_name *out, struct sosie_err *err)
{
	return get_name(r, SOSIE_NAME_GROUP, out, err);
}

static bool get_bool(struct sosie_reader *r)
{
	uint8_t v = sosie_get_u8(r);
	if (v > 1)
		r->failed = true;
	return v == 1;
}

static void get_text(struct sosie_reader *r, char *dst, size_t size)
{
	char raw[512];
	assert(size <= sizeof raw);
	sosie_get_string(r, raw, size - 1);
	if (r->failed)
		raw[0] = '\0';
	sosie_escape(dst, size, raw, strlen(raw));
}

/* A blob that stands for "there is one": none when not present. */
static const void *get_optional(struct sosie_reader *r, bool present, size_t max, size_t *len)
{
	const void *blob = sosie_get_blob(r, max, len);
	if (!present && *len)
		r->failed = true;
	return present ? blob : NULL;
}

static void put_limited(struct sosie_writer *w, const void *blob, size_t len, size_t max)
{
	if (len > max)
		w->failed = true;
	else
		sosie_put_blob(w, blob, len);
}

static void put_hello(struct sosie_writer *w, const msg *m)
{
	sosie_put_u16(w, m->hello.lowest);
	sosie_put_u16(w, m->hello.highest);
	sosie_put_u64(w, m->hello.capabilities);
	sosie_put_string(w, m->hello.software);
}

static int get_hello(struct sosie_reader *r, msg *m, struct sosie_err *err)
{
	(void)err;
	m->hello.lowest = sosie_get_u16(r);
	m->hello.highest = sosie_get_u16(r);
	m->hello.capabilities = sosie_get_u64(r);
	get_text(r, m->hello.software, sizeof m->hello.software);
	if (!m->hello.lowest || m->hello.lowest > m->hello.highest)
		r->failed = true;
	return 0;
}

static void put_welcome(struct sosie_writer *w, const msg *m)
{
	char hex[2 * sizeof m->welcome.store.b + 1];
	sosie_hex(hex, m->welcome.store.b, sizeof m->welcome.store.b);
	sosie_put_u16(w, m->welcome.version);
	sosie_put_u64(w, m->welcome.capabilities);
	sosie_put_u64(w, m->welcome.time_ms);
	sosie_put_string(w, m->welcome.software);
	sosie_put_string(w, hex);
	put_name(w, &m->welcome.tenant);
}

static int get_welcome(struct sosie_reader *r, msg *m, struct sosie_err *err)
{
	char hex[2 * sizeof m->welcome.store.b + 1] = "";
	m->welcome.version = sosie_get_u16(r);
	m->welcome.capabilities = sosie_get_u64(r);
	m->welcome.time_ms = sosie_get_u64(r);
	get_text(r, m->welcome.software, sizeof m->welcome.software);
	sosie_get_string(r, hex, sizeof hex - 1);
	if (!r->failed && !sosie_unhex(m->welcome.store.b, sizeof m->welcome.store.b, hex))
		r->failed = true;
	return get_name(r, SOSIE_NAME_TENANT, &m->welcome.tenant, err);
}

static void put_head(struct sosie_writer *w, const msg *m)
{
	put_name(w, &m->head.group);
}

static int get_head(struct sosie_reader *r, msg *m, struct sosie_err *err)
{
	return get_group(r, &m->head.group, err);
}

static void put_statement(struct sosie_writer *w, const msg *m)
{
	sosie_put_u8(w, m->statement.present);
	sosie_put_u64(w, m->statement.time_ms);
	sosie_put_u8(w, m->statement.keeper);
	put_limited(w, m->statement.blob, m->statement.len, SOSIE_STATEMENT_MAX);
}

static int get_statement(struct sosie_reader *r, msg *m, struct sosie_err *err)
{
	(void)err;
	m->statement.present = get_bool(r);
	m->statement.time_ms = sosie_get_u64(r);
	m->statement.keeper = get_bool(r);
	m->statement.blob = get_optional(r, m->statement.present, SOSIE_STATEMENT_MAX, &m->statement.len);
	return 0;
}

static void put_begin(struct sosie_writer *w, const msg *m)
{
	put_name(w, &m->begin.group);
	sosie_put_u8(w, (uint8_t)m->begin.kind);
	sosie_put_bytes(w, m->begin.parent.b, sizeof m->begin.parent.b);
	sosie_put_u64(w, m->begin.epoch);
}

static int get_begin(struct sosie_reader *r, msg *m, struct sosie_err *err)
{
	int rc = get_group(r, &m->begin.group, err);
	uint8_t kind = sosie_get_u8(r);
	if (kind != SOSIE_UPLOAD_SEGMENT && kind != SOSIE_UPLOAD_COMPARE)
		r->failed = true;
	else
		m->begin.kind = (enum sosie_upload_kind)kind;
	sosie_get_bytes(r, m->begin.parent.b, sizeof m->begin.parent.b);
	m->begin.epoch = sosie_get_u64(r);
	return rc;
}

static void put_upload(struct sosie_writer *w, const msg *m)
{
	sosie_put_bytes(w, m->upload.id.b, sizeof m->upload.id.b);
	sosie_put_u8(w, m->upload.committed);
	sosie_put_u32(w, m->upload.part_count);
	if (m->upload.part_count > SOSIE_PARTS_MAX)
		w->failed = true;
	for (uint32_t i = 0; i < m->upload.part_count && !w->failed; i++) {
		sosie_put_u32(w, m->upload.parts[i].index);
		sosie_put_u64(w, m->upload.parts[i].durable);
	}
}

static int get_parts(struct sosie_reader *r, msg *m, uint32_t count, struct sosie_err *err)
{
	struct sosie_part_state *parts = calloc(count, sizeof *parts);
	if (!parts)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for the list of %u parts", count);
	m->upload.parts = parts;
	m->upload.part_count = count;
	for (uint32_t i = 0; i < count; i++) {
		parts[i].index = sosie_get_u32(r);
		parts[i].durable = sosie_get_u64(r);
		if (parts[i].index >= SOSIE_PARTS_MAX || (i && parts[i].index <= parts[i - 1].index))
			r->failed = true;
	}
	return 0;
}

static int get_upload(struct sosie_reader *r, msg *m, struct sosie_err *err)
{
	sosie_get_bytes(r, m->upload.id.b, sizeof m->upload.id.b);
	m->upload.committed = get_bool(r);
	uint32_t count = sosie_get_u32(r);
	if (count > SOSIE_PARTS_MAX || r->left != (size_t)count * PART_STATE_BYTES)
		r->failed = true;
	return r->failed || !count ? 0 : get_parts(r, m, count, err);
}

static void put_join(struct sosie_writer *w, const msg *m)
{
	put_name(w, &m->join.group);
	sosie_put_bytes(w, m->join.id.b, sizeof m->join.id.b);
}

static int get_join(struct sosie_reader *r, msg *m, struct sosie_err *err)
{
	int rc = get_group(r, &m->join.group, err);
	sosie_get_bytes(r, m->join.id.b, sizeof m->join.id.b);
	return rc;
}

static void put_part(struct sosie_writer *w, const msg *m)
{
	put_name(w, &m->part.group);
	sosie_put_bytes(w, m->part.id.b, sizeof m->part.id.b);
	sosie_put_u32(w, m->part.index);
}

static int get_part(struct sosie_reader *r, msg *m, struct sosie_err *err)
{
	int rc = get_group(r, &m->part.group, err);
	sosie_get_bytes(r, m->part.id.b, sizeof m->part.id.b);
	m->part.index = sosie_get_u32(r);
	if (m->part.index >= SOSIE_PARTS_MAX)
		r->failed = true;
	return rc;
}

static void put_nothing(struct sosie_writer *w, const msg *m)
{
	(void)w;
	(void)m;
}

static int get_nothing(struct sosie_reader *r, msg *m, struct sosie_err *err)
{
	(void)r;
	(void)m;
	(void)err;
	return 0;
}

static void put_data(struct sosie_writer *w, const msg *m)
{
	if (!m->data.len || m->data.len > SOSIE_DATA_MAX)
		w->failed = true;
	else
		sosie_put_bytes(w, m->data.bytes, m->data.len);
}

static int get_data(struct sosie_reader *r, msg *m, struct sosie_err *err)
{
	(void)err;
	m->data.len = r->left;
	if (!r->left || r->left > SOSIE_DATA_MAX)
		r->failed = true;
	else
		m->data.bytes = sosie_get_view(r, r->left);
	return 0;
}

static void put_ack(struct sosie_writer *w, const msg *m)
{
	sosie_put_u64(w, m->ack.written);
	sosie_put_u64(w, m->ack.durable);
}

static int get_ack(struct sosie_reader *r, msg *m, struct sosie_err *err)
{
	(void)err;
	m->ack.written = sosie_get_u64(r);
	m->ack.durable = sosie_get_u64(r);
	if (m->ack.durable > m->ack.written)
		r->failed = true;
	return 0;
}

static void put_part_end(struct sosie_writer *w, const msg *m)
{
	sosie_put_u64(w, m->part_end.length);
}

static int get_part_end(struct sosie_reader *r, msg *m, struct sosie_err *err)
{
	(void)err;
	m->part_end.length = sosie_get_u64(r);
	return 0;
}

static void put_commit(struct sosie_writer *w, const msg *m)
{
	put_name(w, &m->commit.group);
	sosie_put_bytes(w, m->commit.id.b, sizeof m->commit.id.b);
	put_limited(w, m->commit.manifest, m->commit.len, SOSIE_MANIFEST_MAX);
}

static int get_commit(struct sosie_reader *r, msg *m, struct sosie_err *err)
{
	int rc = get_group(r, &m->commit.group, err);
	sosie_get_bytes(r, m->commit.id.b, sizeof m->commit.id.b);
	m->commit.manifest = sosie_get_blob(r, SOSIE_MANIFEST_MAX, &m->commit.len);
	if (!m->commit.len)
		r->failed = true;
	return rc;
}

static void put_durable(struct sosie_writer *w, const msg *m)
{
	sosie_put_u8(w, m->durable.keeper);
}

static int get_durable(struct sosie_reader *r, msg *m, struct sosie_err *err)
{
	(void)err;
	m->durable.keeper = get_bool(r);
	return 0;
}

static void put_wait(struct sosie_writer *w, const msg *m)
{
	put_name(w, &m->wait.group);
	sosie_put_bytes(w, m->wait.id.b, sizeof m->wait.id.b);
	sosie_put_u32(w, m->wait.ms);
}

static int get_wait(struct sosie_reader *r, msg *m, struct sosie_err *err)
{
	int rc = get_group(r, &m->wait.group, err);
	sosie_get_bytes(r, m->wait.id.b, sizeof m->wait.id.b);
	m->wait.ms = sosie_get_u32(r);
	return rc;
}

static void put_verdict(struct sosie_writer *w, const msg *m)
{
	sosie_put_u8(w, m->verdict.present);
	sosie_put_u8(w, m->verdict.keeper);
	put_limited(w, m->verdict.blob, m->verdict.len, SOSIE_STATEMENT_MAX);
}

static int get_verdict(struct sosie_reader *r, msg *m, struct sosie_err *err)
{
	(void)err;
	m->verdict.present = get_bool(r);
	m->verdict.keeper = get_bool(r);
	m->verdict.blob = get_optional(r, m->verdict.present, SOSIE_STATEMENT_MAX, &m->verdict.len);
	return 0;
}

static void put_differs(struct sosie_writer *w, const msg *m)
{
	put_name(w, &m->differs.group);
	sosie_put_bytes(w, m->differs.id.b, sizeof m->differs.id.b);
	sosie_put_u64(w, m->differs.offset);
	sosie_put_u32(w, m->differs.len);
}

static int get_differs(struct sosie_reader *r, msg *m, struct sosie_err *err)
{
	int rc = get_group(r, &m->differs.group, err);
	sosie_get_bytes(r, m->differs.id.b, sizeof m->differs.id.b);
	m->differs.offset = sosie_get_u64(r);
	m->differs.len = sosie_get_u32(r);
	if (!m->differs.len || m->differs.len > SOSIE_DATA_MAX)
		r->failed = true;
	return rc;
}

static void put_bytes(struct sosie_writer *w, const msg *m)
{
	sosie_put_u64(w, m->bytes.total);
	put_limited(w, m->bytes.blob, m->bytes.len, SOSIE_DATA_MAX);
}

static int get_bytes(struct sosie_reader *r, msg *m, struct sosie_err *err)
{
	(void)err;
	m->bytes.total = sosie_get_u64(r);
	m->bytes.blob = sosie_get_blob(r, SOSIE_DATA_MAX, &m->bytes.len);
	if (m->bytes.len > m->bytes.total)
		r->failed = true;
	return 0;
}

static void put_same(struct sosie_writer *w, const msg *m)
{
	put_limited(w, m->same.blob, m->same.len, SOSIE_SAME_MAX);
}

static int get_same(struct sosie_reader *r, msg *m, struct sosie_err *err)
{
	(void)err;
	m->same.blob = sosie_get_blob(r, SOSIE_SAME_MAX, &m->same.len);
	if (!m->same.len)
		r->failed = true;
	return 0;
}

static void put_error(struct sosie_writer *w, const msg *m)
{
	sosie_put_string(w, sosie_code_name(m->error.code));
	sosie_put_u8(w, (uint8_t)sosie_code_class(m->error.code));
	sosie_put_string(w, m->error.what);
	sosie_put_string(w, m->error.action);
}

/* A code of a newer peer: what its class means. */
static int code_of_class(uint8_t class)
{
	switch (class) {
	case SOSIE_CLASS_RETRY:
		return SOSIE_EPEER;
	case SOSIE_CLASS_OPERATOR:
		return SOSIE_EREFUSED;
	default:
		return SOSIE_EPROTO;
	}
}

static int get_error(struct sosie_reader *r, msg *m, struct sosie_err *err)
{
	char code[33];
	(void)err;
	get_text(r, code, sizeof code);
	uint8_t class = sosie_get_u8(r);
	get_text(r, m->error.what, sizeof m->error.what);
	get_text(r, m->error.action, sizeof m->error.action);
	if (class == SOSIE_CLASS_NONE || class > SOSIE_CLASS_OPERATOR)
		r->failed = true;
	int known = sosie_code_from_name(code);
	m->error.code = (enum sosie_code)(known > 0 ? known : code_of_class(class));
	return 0;
}

static const struct codec {
	const char *name;
	void (*put)(struct sosie_writer *w, const msg *m);
	int (*get)(struct sosie_reader *r, msg *m, struct sosie_err *err);
} codecs[VERBS_TYPE_MAX + 1] = {
        [SOSIE_MSG_HELLO] = {"hello", put_hello, get_hello},
        [SOSIE_MSG_WELCOME] = {"welcome", put_welcome, get_welcome},
        [SOSIE_MSG_HEAD] = {"head", put_head, get_head},
        [SOSIE_MSG_STATEMENT] = {"statement", put_statement, get_statement},
        [SOSIE_MSG_BEGIN] = {"begin", put_begin, get_begin},
        [SOSIE_MSG_UPLOAD] = {"upload", put_upload, get_upload},
        [SOSIE_MSG_JOIN] = {"join", put_join, get_join},
        [SOSIE_MSG_PART] = {"part", put_part, get_part},
        [SOSIE_MSG_OK] = {"ok", put_nothing, get_nothing},
        [SOSIE_MSG_DATA] = {"data", put_data, get_data},
        [SOSIE_MSG_ACK] = {"ack", put_ack, get_ack},
        [SOSIE_MSG_PART_END] = {"part-end", put_part_end, get_part_end},
        [SOSIE_MSG_COMMIT] = {"commit", put_commit, get_commit},
        [SOSIE_MSG_DURABLE] = {"durable", put_durable, get_durable},
        [SOSIE_MSG_WAIT] = {"wait", put_wait, get_wait},
        [SOSIE_MSG_VERDICT] = {"verdict", put_verdict, get_verdict},
        [SOSIE_MSG_DIFFERS] = {"differs", put_differs, get_differs},
        [SOSIE_MSG_BYTES] = {"bytes", put_bytes, get_bytes},
        [SOSIE_MSG_SAME] = {"same", put_same, get_same},
        [SOSIE_MSG_PING] = {"ping", put_nothing, get_nothing},
        [SOSIE_MSG_ERROR] = {"error", put_error, get_error},
        [SOSIE_MSG_BYE] = {"bye", put_nothing, get_nothing},
};

static const struct codec *codec_of(enum sosie_message_type type)
{
	return type >= 1 && (unsigned)type <= VERBS_TYPE_MAX ? &codecs[type] : NULL;
}

const char *sosie_message_name(enum sosie_message_type type)
{
	const struct codec *c = codec_of(type);
	return c ? c->name : "unknown";
}

int sosie_message_encode(const struct sosie_message *m, void *buf, size_t size, size_t *len,
                         struct sosie_err *err)
{
	const struct codec *c = codec_of(m->type);
	struct sosie_writer w;
	*len = 0;
	if (!c)
		return sosie_err_set(err, SOSIE_EINTERNAL, "message type %u does not exist",
		                     (unsigned)m->type);
	sosie_writer_init(&w, buf, size);
	c->put(&w, m);
	if (w.failed)
		return sosie_err_set(err, SOSIE_EINTERNAL, "a \"%s\" message does not fit its limits",
		                     c->name);
	*len = w.len;
	return 0;
}

int sosie_message_parse(enum sosie_message_type type, const void *payload, size_t len,
                        struct sosie_message *out, struct sosie_err *err)
{
	const struct codec *c = codec_of(type);
	struct sosie_reader r;
	uint32_t request = out->request;
	memset(out, 0, sizeof *out);
	out->type = type;
	out->request = request;
	if (!c)
		return sosie_err_set(err, SOSIE_EPROTO, "message type %u does not exist", (unsigned)type);
	if (len > SOSIE_FRAME_MAX)
		return sosie_err_set(err, SOSIE_EPROTO, "\"%s\" message: %zu bytes are too many", c->name,
		                     len);
	sosie_reader_init(&r, payload, len);
	int rc = c->get(&r, out, err);
	if (rc != -SOSIE_ENOMEM && !sosie_reader_done(&r))
		rc = sosie_err_set(err, SOSIE_EPROTO,
		                   "\"%s\" message of %zu bytes: not what the protocol says", c->name, len);
	if (rc)
		sosie_message_fini(out);
	return rc;
}

void sosie_message_fini(struct sosie_message *m)
{
	if (m->type != SOSIE_MSG_UPLOAD)
		return;
	free(m->upload.parts);
	m->upload.parts = NULL;
	m->upload.part_count = 0;
}

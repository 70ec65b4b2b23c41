/* SPDX-License-Identifier: MIT */
/* Makes the corpora of fuzz_frame and fuzz_message: seed_transport DIR writes DIR/frame/ and DIR/message/,
 * one file for each type, a whole session as one stream, and damaged frames. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sosie/message.h"

static struct sosie_part_state parts[2] = {{0, 4096}, {3, 1}};
static uint8_t stream[1u << 16];
static size_t stream_len;
static unsigned files;

static void fill_later(struct sosie_message *m)
{
	static const struct sosie_name group = {"erp"};
	static const struct sosie_upload_id id = {{0xaa, 0xbb}};
	switch (m->type) {
	case SOSIE_MSG_PART_END:
		m->part_end.length = 10;
		break;
	case SOSIE_MSG_COMMIT:
		m->commit.group = group;
		m->commit.id = id;
		m->commit.manifest = "{\"format\":1}";
		m->commit.len = 12;
		break;
	case SOSIE_MSG_DURABLE:
		m->durable.keeper = true;
		break;
	case SOSIE_MSG_WAIT:
		m->wait.group = group;
		m->wait.id = id;
		m->wait.ms = 5000;
		break;
	case SOSIE_MSG_VERDICT:
		m->verdict.present = true;
		m->verdict.blob = "{}";
		m->verdict.len = 2;
		break;
	case SOSIE_MSG_DIFFERS:
		m->differs.group = group;
		m->differs.id = id;
		m->differs.len = 4096;
		break;
	case SOSIE_MSG_BYTES:
		m->bytes.total = 48;
		m->bytes.blob = "0123";
		m->bytes.len = 4;
		break;
	case SOSIE_MSG_SAME:
		m->same.blob = "{}";
		m->same.len = 2;
		break;
	case SOSIE_MSG_ERROR:
		m->error.code = SOSIE_EQUOTA;
		strcpy(m->error.what, "full");
		strcpy(m->error.action, "wait");
		break;
	default:
		break;
	}
}

static void fill(struct sosie_message *m)
{
	static const struct sosie_name group = {"erp"};
	static const struct sosie_upload_id id = {{0xaa, 0xbb}};
	switch (m->type) {
	case SOSIE_MSG_HELLO:
		m->hello.lowest = m->hello.highest = 1;
		m->hello.capabilities = 7;
		strcpy(m->hello.software, "sosie 0.1.0");
		break;
	case SOSIE_MSG_WELCOME:
		m->welcome.version = 1;
		m->welcome.time_ms = 1234;
		strcpy(m->welcome.tenant.s, "acme");
		break;
	case SOSIE_MSG_HEAD:
		m->head.group = group;
		break;
	case SOSIE_MSG_STATEMENT:
		m->statement.present = true;
		m->statement.blob = "{}";
		m->statement.len = 2;
		break;
	case SOSIE_MSG_BEGIN:
		m->begin.group = group;
		m->begin.kind = SOSIE_UPLOAD_SEGMENT;
		m->begin.epoch = 1;
		break;
	case SOSIE_MSG_UPLOAD:
		m->upload.id = id;
		m->upload.parts = parts;
		m->upload.part_count = 2;
		break;
	case SOSIE_MSG_JOIN:
		m->join.group = group;
		m->join.id = id;
		break;
	case SOSIE_MSG_PART:
		m->part.group = group;
		m->part.id = id;
		m->part.index = 2;
		break;
	case SOSIE_MSG_DATA:
		m->data.bytes = "some bytes";
		m->data.len = 10;
		break;
	case SOSIE_MSG_ACK:
		m->ack.written = 10;
		m->ack.durable = 3;
		break;
	default:
		fill_later(m);
	}
}

static void save(const char *dir, const char *kind, const char *name, const void *data, size_t len)
{
	char path[1024];
	snprintf(path, sizeof path, "%s/%s/%s", dir, kind, name);
	FILE *f = fopen(path, "wb");
	if (!f || fwrite(data, 1, len, f) != len || fclose(f)) {
		perror(path);
		exit(1);
	}
	files++;
}

static void seed_type(const char *dir, enum sosie_message_type type)
{
	struct sosie_message m = {.type = type, .request = 1};
	struct sosie_err err;
	uint8_t buf[4096];
	size_t len;
	fill(&m);
	buf[0] = (uint8_t)type;
	if (sosie_message_encode(&m, buf + 1, sizeof buf - 1, &len, &err))
		exit(1);
	save(dir, "message", sosie_message_name(type), buf, len + 1);
	const uint8_t head[12] = {
	        (uint8_t)len, (uint8_t)(len >> 8), 0, 0, (uint8_t)type, 0, 0, 0, 1, 0, 0, 0};
	memcpy(stream + stream_len, head, sizeof head);
	memcpy(stream + stream_len + sizeof head, buf + 1, len);
	save(dir, "frame", sosie_message_name(type), stream + stream_len, sizeof head + len);
	stream_len += sizeof head + len;
}

int main(int argc, char **argv)
{
	static const uint8_t too_long[12] = {1, 0, 0x14, 0, 20, 0, 0, 0, 1},
	                     no_request[12] = {0, 0, 0, 0, 20};
	if (argc != 2)
		return 2;
	for (unsigned t = SOSIE_MSG_HELLO; t <= SOSIE_MSG_BYE; t++)
		seed_type(argv[1], (enum sosie_message_type)t);
	save(argv[1], "frame", "session", stream, stream_len);
	save(argv[1], "frame", "cut", stream, stream_len - 5);
	save(argv[1], "frame", "too-long", too_long, sizeof too_long);
	save(argv[1], "frame", "no-request", no_request, sizeof no_request);
	printf("%u files\n", files);
	return 0;
}

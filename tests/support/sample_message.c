/* SPDX-License-Identifier: MIT */
/* Contract in sample_message.h. */
#include "tests/support/sample_message.h"

#include <string.h>

static struct sosie_part_state parts[3] = {{0, 5}, {2, 0}, {4095, UINT64_MAX}};

static void sample_later(struct sosie_message *m)
{
	struct sosie_name group = {"erp"};
	struct sosie_upload_id id = {{1, 2, 3}};
	switch (m->type) {
	case SOSIE_MSG_PART_END:
		m->part_end.length = 1;
		break;
	case SOSIE_MSG_COMMIT:
		m->commit.group = group;
		m->commit.id = id;
		m->commit.manifest = "{}";
		m->commit.len = 2;
		break;
	case SOSIE_MSG_DURABLE:
		m->durable.keeper = true;
		break;
	case SOSIE_MSG_WAIT:
		m->wait.group = group;
		m->wait.id = id;
		m->wait.ms = 30000;
		break;
	case SOSIE_MSG_VERDICT:
		m->verdict.present = true;
		m->verdict.keeper = true;
		m->verdict.blob = "v";
		m->verdict.len = 1;
		break;
	case SOSIE_MSG_DIFFERS:
		m->differs.group = group;
		m->differs.id = id;
		m->differs.offset = 8;
		m->differs.len = SOSIE_DATA_MAX;
		break;
	case SOSIE_MSG_BYTES:
		m->bytes.total = 10;
		m->bytes.blob = "12";
		m->bytes.len = 2;
		break;
	case SOSIE_MSG_SAME:
		m->same.blob = "{}";
		m->same.len = 2;
		break;
	case SOSIE_MSG_ERROR:
		m->error.code = SOSIE_EQUOTA;
		strcpy(m->error.what, "full");
		strcpy(m->error.action, "more");
		break;
	default:
		break;
	}
}

void sample_message(enum sosie_message_type type, struct sosie_message *m)
{
	struct sosie_name group = {"erp"};
	struct sosie_upload_id id = {{1, 2, 3}};
	memset(m, 0, sizeof *m);
	m->type = type;
	m->request = 7;
	switch (type) {
	case SOSIE_MSG_HELLO:
		m->hello.lowest = 1;
		m->hello.highest = 3;
		m->hello.capabilities = 7;
		strcpy(m->hello.software, "sosie 1");
		break;
	case SOSIE_MSG_WELCOME:
		m->welcome.version = 1;
		m->welcome.time_ms = 9;
		m->welcome.tenant = group;
		m->welcome.store.b[3] = 255;
		break;
	case SOSIE_MSG_HEAD:
		m->head.group = group;
		break;
	case SOSIE_MSG_STATEMENT:
		m->statement.present = true;
		m->statement.blob = "text";
		m->statement.len = 4;
		break;
	case SOSIE_MSG_BEGIN:
		m->begin.group = group;
		m->begin.kind = SOSIE_UPLOAD_COMPARE;
		m->begin.epoch = 4;
		break;
	case SOSIE_MSG_UPLOAD:
		m->upload.id = id;
		m->upload.parts = parts;
		m->upload.part_count = 3;
		break;
	case SOSIE_MSG_JOIN:
		m->join.group = group;
		m->join.id = id;
		break;
	case SOSIE_MSG_PART:
		m->part.group = group;
		m->part.id = id;
		m->part.index = 4095;
		break;
	case SOSIE_MSG_DATA:
		m->data.bytes = "abc";
		m->data.len = 3;
		break;
	case SOSIE_MSG_ACK:
		m->ack.written = 9;
		m->ack.durable = 9;
		break;
	default:
		sample_later(m);
	}
}

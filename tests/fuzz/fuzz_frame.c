/* SPDX-License-Identifier: MIT */
/* A stream of bytes as frames, through the wire's reader. The channel hands out pieces whose sizes vary, so
 * that frames are cut everywhere. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "sosie/message.h"

struct memory_channel {
	struct sosie_channel base;
	const uint8_t *at;
	size_t left;
	unsigned step;
};

static int memory_recv(struct sosie_channel *ch, void *dst, size_t size, size_t *got, int timeout_ms,
                       struct sosie_err *err)
{
	struct memory_channel *c = (struct memory_channel *)ch;
	size_t piece = 1 + c->step++ * 7 % 61;
	(void)timeout_ms;
	if (!c->left)
		return sosie_err_set(err, SOSIE_EPEER, "end");
	*got = piece < c->left ? piece : c->left;
	*got = *got < size ? *got : size;
	memcpy(dst, c->at, *got);
	c->at += *got;
	c->left -= *got;
	return 0;
}

static int memory_send(struct sosie_channel *ch, const void *data, size_t len, struct sosie_err *err)
{
	(void)ch;
	(void)data;
	(void)len;
	(void)err;
	return 0;
}

static void memory_close(struct sosie_channel *ch)
{
	(void)ch;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct sosie_channel_ops ops = {
	        .send = memory_send, .recv = memory_recv, .close = memory_close};
	struct memory_channel c = {{&ops}, data, size, (unsigned)size};
	struct sosie_wire *w;
	struct sosie_message m;
	struct sosie_err err;
	bool got = true;
	int rc = sosie_wire_new(&c.base, &w, &err);
	uint64_t used = 0;
	while (!rc && got) {
		rc = sosie_wire_recv(w, &m, &got, 0, &err);
		if (!rc && got) {
			assert(m.request && m.type >= 1 && m.type <= SOSIE_MSG_BYE);
			used += SOSIE_FRAME_HEADER;
			sosie_message_fini(&m);
		}
		if (rc == -SOSIE_ENAME)
			rc = 0, got = true;
	}
	if (w)
		assert(used <= sosie_wire_received(w) && sosie_wire_received(w) <= size);
	sosie_wire_free(w);
	return 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * Frames over a channel (docs/protocol.md, "Frame"):
 *   0 u32 payload length   4 u16 type   6 u16 zero   8 u32 request, not 0   12 payload
 *
 * Two buffers of one whole frame each, made once: memory does not grow with the peer. in[start, start + fill)
 * has come and is not used up; of it the first `used` bytes are the frame whose blobs the caller may still
 * look at. A header is judged as soon as its 12 bytes are there.
 */
#include "sosie/message.h"
#include "sosie/bytes.h"

#include "verbs.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define FRAME_WHOLE (SOSIE_FRAME_HEADER + SOSIE_FRAME_MAX)
#define READ_AHEAD (64u << 10) /* bytes behind the frame that is awaited which one read may bring */

struct sosie_wire {
	struct sosie_channel *ch;
	size_t start, fill, used;
	uint64_t sent, received;
	uint8_t *in, *out;
};

struct frame_header {
	uint32_t len, request;
	enum sosie_message_type type;
};

int sosie_wire_new(struct sosie_channel *ch, struct sosie_wire **out, struct sosie_err *err)
{
	struct sosie_wire *w = calloc(1, sizeof *w);
	*out = NULL;
	if (w) {
		w->ch = ch;
		w->in = malloc(FRAME_WHOLE + READ_AHEAD);
		w->out = malloc(FRAME_WHOLE);
	}
	if (!w || !w->in || !w->out) {
		sosie_wire_free(w);
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for a session's buffers");
	}
	*out = w;
	return 0;
}

void sosie_wire_free(struct sosie_wire *w)
{
	if (!w)
		return;
	free(w->in);
	free(w->out);
	free(w);
}

uint64_t sosie_wire_sent(const struct sosie_wire *w)
{
	return w->sent;
}

uint64_t sosie_wire_received(const struct sosie_wire *w)
{
	return w->received;
}

bool wire_is_partial(const struct sosie_wire *w)
{
	return w->fill > w->used;
}

int sosie_wire_send(struct sosie_wire *w, const struct sosie_message *m, struct sosie_err *err)
{
	struct sosie_writer head;
	size_t len;
	assert(m->request);
	int rc = sosie_message_encode(m, w->out + SOSIE_FRAME_HEADER, SOSIE_FRAME_MAX, &len, err);
	if (rc)
		return rc;
	sosie_writer_init(&head, w->out, SOSIE_FRAME_HEADER);
	sosie_put_u32(&head, (uint32_t)len);
	sosie_put_u16(&head, (uint16_t)m->type);
	sosie_put_u16(&head, 0);
	sosie_put_u32(&head, m->request);
	rc = sosie_channel_send(w->ch, w->out, SOSIE_FRAME_HEADER + len, err);
	if (!rc)
		w->sent += SOSIE_FRAME_HEADER + len;
	return rc;
}

static int header_parse(const struct sosie_wire *w, struct frame_header *out, struct sosie_err *err)
{
	struct sosie_reader r;
	sosie_reader_init(&r, w->in + w->start, SOSIE_FRAME_HEADER);
	out->len = sosie_get_u32(&r);
	uint16_t type = sosie_get_u16(&r);
	uint16_t zero = sosie_get_u16(&r);
	out->request = sosie_get_u32(&r);
	if (out->len > SOSIE_FRAME_MAX)
		return sosie_err_set(err, SOSIE_EPROTO, "a frame of %u bytes: at most %u are allowed",
		                     out->len, SOSIE_FRAME_MAX);
	if (!type || type > VERBS_TYPE_MAX || zero || !out->request)
		return sosie_err_set(err, SOSIE_EPROTO,
		                     "a frame header is not what the protocol says (type %u, request %u)",
		                     type, out->request);
	out->type = (enum sosie_message_type)type;
	return 0;
}

/* How many bytes the frame at start needs in all: what is known so far. */
static int frame_need(const struct sosie_wire *w, struct frame_header *head, size_t *need,
                      struct sosie_err *err)
{
	*need = SOSIE_FRAME_HEADER;
	if (w->fill < SOSIE_FRAME_HEADER)
		return 0;
	int rc = header_parse(w, head, err);
	*need += rc ? 0 : head->len;
	return rc;
}

/* One read of the channel: *more false when nothing came in time. */
static int frame_fill(struct sosie_wire *w, size_t need, bool *more, int timeout_ms, struct sosie_err *err)
{
	size_t got, room = need - w->fill + READ_AHEAD;
	if (w->start && w->start + w->fill + room > FRAME_WHOLE + READ_AHEAD) {
		memmove(w->in, w->in + w->start, w->fill);
		w->start = 0;
	}
	if (room > FRAME_WHOLE + READ_AHEAD - w->start - w->fill)
		room = FRAME_WHOLE + READ_AHEAD - w->start - w->fill;
	int rc = sosie_channel_recv(w->ch, w->in + w->start + w->fill, room, &got, timeout_ms, err);
	w->fill += got;
	w->received += got;
	*more = got > 0;
	return rc;
}

static void frame_drop(struct sosie_wire *w)
{
	w->start += w->used;
	w->fill -= w->used;
	w->used = 0;
	if (!w->fill)
		w->start = 0;
}

/* What is left of a limit that began at `began`: a peer that sends byte by byte does not stretch it. */
static int time_left(int64_t began, int timeout_ms)
{
	if (timeout_ms <= 0)
		return timeout_ms;
	int64_t left = began + timeout_ms - sosie_mono_ms(sosie_clock_real());
	return left > 0 ? (int)left : 0;
}

int sosie_wire_recv(struct sosie_wire *w, struct sosie_message *out, bool *got, int timeout_ms,
                    struct sosie_err *err)
{
	struct frame_header head = {0};
	int64_t began = timeout_ms > 0 ? sosie_mono_ms(sosie_clock_real()) : 0;
	bool more = true;
	size_t need;
	memset(out, 0, sizeof *out);
	*got = false;
	frame_drop(w);
	int rc = frame_need(w, &head, &need, err);
	while (!rc && more && w->fill < need) {
		rc = frame_fill(w, need, &more, time_left(began, timeout_ms), err);
		if (!rc)
			rc = frame_need(w, &head, &need, err);
	}
	if (rc || w->fill < need)
		return rc;
	w->used = need;
	out->request = head.request;
	rc = sosie_message_parse(head.type, w->in + w->start + SOSIE_FRAME_HEADER, head.len, out, err);
	*got = !rc;
	return rc;
}

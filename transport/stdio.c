/* SPDX-License-Identifier: MIT */
/*
 * A channel over two descriptors: the receiver's standard input and output. They are made non-blocking while
 * the channel lives and put back at close, so that no read or write can outlast its limit. What arrives while
 * a send waits is kept, up to KEEP_MAX; beyond that the sender of it waits.
 */
#include "sosie/channel.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define KEEP_MAX (256u << 10)

struct stdio_channel {
	struct sosie_channel base;
	int in, out, in_flags, out_flags;
	uint32_t stall_ms;
	size_t keep_at, keep_len;
	bool ended;
	uint8_t keep[KEEP_MAX];
};

static int64_t now_ms(void)
{
	return sosie_mono_ms(sosie_clock_real());
}

/* Reads once into dst: *got 0 when nothing is there; the end of the stream is remembered. */
static int read_once(struct stdio_channel *c, void *dst, size_t size, size_t *got, struct sosie_err *err)
{
	*got = 0;
	ssize_t n = read(c->in, dst, size);
	if (n > 0)
		*got = (size_t)n;
	else if (!n || errno == ECONNRESET || errno == EPIPE)
		c->ended = true;
	else if (errno != EAGAIN && errno != EINTR)
		return sosie_err_sys(err, errno, "read from the peer");
	return 0;
}

static int keep_more(struct stdio_channel *c, struct sosie_err *err)
{
	size_t got;
	if (c->keep_at) {
		memmove(c->keep, c->keep + c->keep_at, c->keep_len);
		c->keep_at = 0;
	}
	int rc = read_once(c, c->keep + c->keep_len, KEEP_MAX - c->keep_len, &got, err);
	c->keep_len += got;
	return rc;
}

/* Waits until there is room to write, or something to keep, at most ms. */
static int send_wait(struct stdio_channel *c, int64_t ms, struct sosie_err *err)
{
	bool reading = !c->ended && c->keep_len < KEEP_MAX;
	struct pollfd p[2] = {{c->out, POLLOUT, 0}, {reading ? c->in : -1, POLLIN, 0}};
	int n = poll(p, 2, (int)ms);
	if (n < 0 && errno != EINTR)
		return sosie_err_sys(err, errno, "wait for the peer");
	return n > 0 && p[1].revents ? keep_more(c, err) : 0;
}

static int stdio_send(struct sosie_channel *ch, const void *data, size_t len, struct sosie_err *err)
{
	struct stdio_channel *c = (struct stdio_channel *)ch;
	const uint8_t *at = data;
	int64_t limit = now_ms() + c->stall_ms;
	while (len) {
		ssize_t n = write(c->out, at, len);
		if (n > 0) {
			at += n;
			len -= (size_t)n;
			limit = now_ms() + c->stall_ms;
			continue;
		}
		if (n < 0 && errno != EAGAIN && errno != EINTR) {
			if (errno == EPIPE || errno == ECONNRESET)
				return sosie_err_set(err, SOSIE_EPEER, "the peer has closed the connection");
			return sosie_err_sys(err, errno, "write to the peer");
		}
		int64_t left = limit - now_ms();
		if (left <= 0)
			return sosie_err_set(err, SOSIE_ETIMEOUT, "the peer took no byte for %u ms",
			                     c->stall_ms);
		int rc = send_wait(c, left, err);
		if (rc)
			return rc;
	}
	return 0;
}

static int stdio_recv(struct sosie_channel *ch, void *data, size_t size, size_t *got, int timeout_ms,
                      struct sosie_err *err)
{
	struct stdio_channel *c = (struct stdio_channel *)ch;
	int64_t limit = now_ms() + (timeout_ms < 0 ? (int64_t)c->stall_ms : timeout_ms);
	if (c->keep_len) {
		*got = size < c->keep_len ? size : c->keep_len;
		memcpy(data, c->keep + c->keep_at, *got);
		c->keep_at += *got;
		c->keep_len -= *got;
		return 0;
	}
	for (;;) {
		int rc = c->ended ? 0 : read_once(c, data, size, got, err);
		if (rc || *got)
			return rc;
		if (c->ended)
			return sosie_err_set(err, SOSIE_EPEER, "the peer has closed the connection");
		int64_t left = limit - now_ms();
		if (left <= 0)
			return 0;
		struct pollfd p = {c->in, POLLIN, 0};
		if (poll(&p, 1, (int)left) < 0 && errno == EINTR)
			return 0; /* a signal: the caller looks at its stop flag */
	}
}

static void stdio_close(struct sosie_channel *ch)
{
	struct stdio_channel *c = (struct stdio_channel *)ch;
	fcntl(c->in, F_SETFL, c->in_flags);
	fcntl(c->out, F_SETFL, c->out_flags);
	free(c);
}

static const struct sosie_channel_ops stdio_ops = {
        .send = stdio_send, .recv = stdio_recv, .close = stdio_close};

int sosie_stdio_channel(int in, int out_fd, uint32_t stall_ms, struct sosie_channel **out,
                        struct sosie_err *err)
{
	struct stdio_channel *c = calloc(1, sizeof *c);
	*out = NULL;
	if (!c)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for a channel");
	*c = (struct stdio_channel){.base.ops = &stdio_ops, .in = in, .out = out_fd, .stall_ms = stall_ms};
	c->in_flags = fcntl(in, F_GETFL);
	c->out_flags = fcntl(out_fd, F_GETFL);
	if (c->in_flags < 0 || c->out_flags < 0 || fcntl(in, F_SETFL, c->in_flags | O_NONBLOCK) ||
	    fcntl(out_fd, F_SETFL, c->out_flags | O_NONBLOCK)) {
		int sys = errno;
		free(c);
		return sosie_err_sys(err, sys, "prepare descriptors %d and %d", in, out_fd);
	}
	*out = &c->base;
	return 0;
}

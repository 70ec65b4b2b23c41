/* SPDX-License-Identifier: MIT */
/*
 * The started command as a channel: sending, receiving, its end. Invariants (libssh2 1.10, measured: a rekey
 * stalls a session for ever otherwise):
 *   - a write that has begun is finished with the same buffer and length before anything else is called on
 *     the session. The one exception is a write that has not begun: with a peer's window of 0 libssh2 holds
 * no packet of ours, and only reading can open the window;
 *   - a read that has stopped in the middle of sending a window adjustment (`adjusting`) is finished before
 *     the next write;
 *   - a keepalive is sent only while neither is pending and the socket takes it at once.
 * What arrives while sending is kept, up to KEEP_MAX. The stall limit counts bytes that libssh2 took or gave.
 */
#include "ssh.h"

#include "sosie/bytes.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <libssh2.h>

#define CLOSE_MS 1000
#define KEEP_MAX (4u << 20)
#define READ_STEP (64u << 10)
#define COMMAND "sosie-receive"

int ssh_command_start(struct ssh_channel *c, int64_t until, struct sosie_err *err)
{
	int rc = 0, n;
	while (!rc && !(c->channel = libssh2_channel_open_session(c->session))) {
		if (libssh2_session_last_errno(c->session) == LIBSSH2_ERROR_EAGAIN)
			rc = ssh_setup_wait(c, until, "opening an SSH channel", err);
		else
			rc = ssh_error(c, SOSIE_EPEER, "open an SSH channel", err);
	}
	while (!rc && (n = libssh2_channel_exec(c->channel, COMMAND)) != 0) {
		if (n == LIBSSH2_ERROR_EAGAIN)
			rc = ssh_setup_wait(c, until, "starting the receiver", err);
		else
			rc = ssh_error(c, SOSIE_EPEER, "start the receiver", err);
	}
	return rc;
}

static void stderr_read(struct ssh_channel *c)
{
	char buf[1024];
	ssize_t n;
	while ((n = libssh2_channel_read_stderr(c->channel, buf, sizeof buf)) > 0) {
		size_t room = SSH_STDERR_MAX - c->stderr_len, take = (size_t)n < room ? (size_t)n : room;
		memcpy(c->stderr_text + c->stderr_len, buf, take);
		c->stderr_len += take;
		c->moved_ms = ssh_now_ms();
	}
	c->adjusting = n == LIBSSH2_ERROR_EAGAIN &&
	               (libssh2_session_block_directions(c->session) & LIBSSH2_SESSION_BLOCK_OUTBOUND);
}

/* One read: *got 0 when nothing is there now. Standard error is looked at only when there is no data. */
static int read_once(struct ssh_channel *c, void *dst, size_t size, size_t *got, struct sosie_err *err)
{
	ssize_t n = libssh2_channel_read(c->channel, dst, size);
	*got = n > 0 ? (size_t)n : 0;
	c->adjusting = n == LIBSSH2_ERROR_EAGAIN &&
	               (libssh2_session_block_directions(c->session) & LIBSSH2_SESSION_BLOCK_OUTBOUND);
	if (n > 0)
		c->moved_ms = ssh_now_ms();
	if (n < 0 && n != LIBSSH2_ERROR_EAGAIN) {
		c->dead = true;
		return ssh_error(c, SOSIE_EPEER, "the connection was lost", err);
	}
	if (n <= 0 && !c->adjusting)
		stderr_read(c);
	return 0;
}

/* The command has ended: its last words and its exit status make the message. */
static int ended(struct ssh_channel *c, struct sosie_err *err)
{
	char text[300];
	size_t len = c->stderr_len;
	while (len && (c->stderr_text[len - 1] == '\n' || c->stderr_text[len - 1] == '\r'))
		len--;
	for (size_t i = 0; i < len; i++)
		if (c->stderr_text[i] == '\n' || c->stderr_text[i] == '\r' || c->stderr_text[i] == '\t')
			c->stderr_text[i] = ' ';
	sosie_escape(text, sizeof text, c->stderr_text, len);
	int status = libssh2_channel_get_exit_status(c->channel);
	const char *host = c->options->target.host;
	if (*text)
		return sosie_err_set(err, SOSIE_EPEER, "the receiver at %s ended (exit status %d): %s", host,
		                     status, text);
	return sosie_err_set(err, SOSIE_EPEER, "the receiver at %s ended (exit status %d)", host, status);
}

/* End of the stream is known before its exit status is: gives that a moment. */
static int end_wait(struct ssh_channel *c, struct sosie_err *err)
{
	int64_t until = ssh_now_ms() + CLOSE_MS;
	char byte[64];
	size_t got;
	struct sosie_err ignored;
	while (ssh_now_ms() < until && libssh2_channel_wait_closed(c->channel) == LIBSSH2_ERROR_EAGAIN) {
		if (ssh_poll(c, ssh_wanted(c), until - ssh_now_ms(), &ignored) ||
		    read_once(c, byte, sizeof byte, &got, &ignored))
			break;
	}
	if (!c->dead)
		stderr_read(c);
	return ended(c, err);
}

/* Sent only where it cannot be cut in two: no other packet is pending and the socket has room. */
static void keepalive(struct ssh_channel *c)
{
	struct pollfd p = {c->fd, POLLOUT, 0};
	int next;
	if (!c->adjusting && poll(&p, 1, 0) == 1 && p.revents == POLLOUT)
		(void)libssh2_keepalive_send(c->session, &next);
}

static size_t keep_take(struct ssh_channel *c, void *dst, size_t size)
{
	size_t n = size < c->keep_len ? size : c->keep_len;
	if (!n)
		return 0;
	memcpy(dst, c->keep + c->keep_at, n);
	c->keep_at += n;
	c->keep_len -= n;
	if (!c->keep_len)
		c->keep_at = 0;
	return n;
}

static int keep_room(struct ssh_channel *c, struct sosie_err *err)
{
	if (c->keep_at) {
		memmove(c->keep, c->keep + c->keep_at, c->keep_len);
		c->keep_at = 0;
	}
	if (c->keep_size - c->keep_len >= READ_STEP)
		return 0;
	size_t size = c->keep_size ? 2 * c->keep_size : 2 * READ_STEP;
	uint8_t *keep = realloc(c->keep, size);
	if (!keep)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for what the standby sends");
	c->keep = keep;
	c->keep_size = size;
	return 0;
}

/* Takes in what has come, between whole writes; a read that has begun to send is finished. */
static int drain(struct ssh_channel *c, struct sosie_err *err)
{
	size_t got = 1;
	int rc = 0;
	while (!rc && got && c->keep_len + READ_STEP <= KEEP_MAX) {
		rc = keep_room(c, err);
		if (!rc)
			rc = read_once(c, c->keep + c->keep_len, READ_STEP, &got, err);
		if (!rc)
			c->keep_len += got;
	}
	return rc;
}

static int stalled(const struct ssh_channel *c, struct sosie_err *err)
{
	sosie_err_set(err, SOSIE_ETIMEOUT, "%s took no byte for %u ms", c->options->target.host,
	              c->options->stall_ms);
	return sosie_err_action(err, "see whether the standby or the line hangs");
}

static int send_wait(struct ssh_channel *c, struct sosie_err *err)
{
	int64_t left = c->moved_ms + c->options->stall_ms - ssh_now_ms();
	if (left <= 0)
		return stalled(c, err);
	return ssh_poll(c, ssh_wanted(c), left, err);
}

static int adjust_finish(struct ssh_channel *c, struct sosie_err *err)
{
	int rc = 0;
	while (!rc && c->adjusting) {
		rc = send_wait(c, err);
		if (!rc && c->keep_len + READ_STEP <= KEEP_MAX)
			rc = drain(c, err);
		else if (!rc)
			stderr_read(c);
	}
	return rc;
}

static bool window_closed(struct ssh_channel *c)
{
	return libssh2_channel_window_write(c->channel) == 0;
}

/* A write that returned EAGAIN. With the window closed nothing of it has begun, so reading is safe, and
 * needed: a peer that waits for us to read opens no window, and one that has ended never will. */
static int send_blocked(struct ssh_channel *c, struct sosie_err *err)
{
	int rc = 0;
	c->writing = !window_closed(c);
	if (!c->writing) {
		size_t before = c->keep_len;
		rc = drain(c, err);
		if (!rc && libssh2_channel_eof(c->channel) == 1)
			return end_wait(c, err);
		if (rc || c->keep_len != before || !window_closed(c))
			return rc ? rc : adjust_finish(c, err);
		if (!c->adjusting)
			keepalive(c);
	}
	rc = send_wait(c, err);
	return rc || c->writing ? rc : adjust_finish(c, err);
}

static int ssh_send(struct sosie_channel *ch, const void *data, size_t len, struct sosie_err *err)
{
	struct ssh_channel *c = (struct ssh_channel *)ch;
	const char *at = data;
	c->moved_ms = ssh_now_ms();
	int rc = c->dead || c->writing ? sosie_err_set(err, SOSIE_EPEER, "the connection was lost")
	                               : adjust_finish(c, err);
	while (!rc && len) {
		ssize_t n = libssh2_channel_write(c->channel, at, len);
		if (n > 0) {
			c->writing = false;
			c->moved_ms = ssh_now_ms();
			at += n;
			len -= (size_t)n;
		} else if (n == LIBSSH2_ERROR_EAGAIN || !n) {
			rc = send_blocked(c, err);
		} else {
			bool closed =
			        n == LIBSSH2_ERROR_CHANNEL_CLOSED || n == LIBSSH2_ERROR_CHANNEL_EOF_SENT;
			c->dead = !closed;
			c->writing = false;
			rc = closed ? end_wait(c, err)
			            : ssh_error(c, SOSIE_EPEER, "the connection was lost", err);
		}
	}
	return rc ? rc : drain(c, err);
}

static int recv_once(struct ssh_channel *c, void *data, size_t size, size_t *got, struct sosie_err *err)
{
	int rc = read_once(c, data, size, got, err);
	if (!rc && !*got && !c->adjusting && libssh2_channel_eof(c->channel) == 1)
		rc = end_wait(c, err);
	return rc;
}

static int ssh_recv(struct sosie_channel *ch, void *data, size_t size, size_t *got, int timeout_ms,
                    struct sosie_err *err)
{
	struct ssh_channel *c = (struct ssh_channel *)ch;
	int64_t until = ssh_now_ms() + (timeout_ms < 0 ? (int64_t)c->options->stall_ms : timeout_ms);
	*got = keep_take(c, data, size);
	if (*got)
		return 0;
	if (c->dead || c->writing)
		return sosie_err_set(err, SOSIE_EPEER, "the connection was lost");
	for (;;) {
		int rc = recv_once(c, data, size, got, err);
		if (rc || *got)
			return rc;
		int64_t left = until - ssh_now_ms();
		if (left <= 0)
			return timeout_ms ? ssh_stop_check(c, err) : 0;
		keepalive(c);
		rc = ssh_poll(c, ssh_wanted(c), left, err);
		if (rc)
			return rc;
	}
}

/* A clean end where that goes quickly; then the socket is shut, so that freeing finds nothing to wait for. */
static void goodbye(struct ssh_channel *c)
{
	int64_t until = ssh_now_ms() + CLOSE_MS / 2;
	struct sosie_err ignored;
	bool clean = c->channel && !c->dead && !c->writing && !c->adjusting;
	while (clean && libssh2_channel_send_eof(c->channel) == LIBSSH2_ERROR_EAGAIN && ssh_now_ms() < until)
		if (ssh_poll(c, ssh_wanted(c), until - ssh_now_ms(), &ignored))
			break;
	while (clean && libssh2_channel_close(c->channel) == LIBSSH2_ERROR_EAGAIN && ssh_now_ms() < until)
		if (ssh_poll(c, ssh_wanted(c), until - ssh_now_ms(), &ignored))
			break;
	if (c->fd >= 0)
		shutdown(c->fd, SHUT_RDWR);
}

void ssh_close(struct sosie_channel *ch)
{
	struct ssh_channel *c = (struct ssh_channel *)ch;
	goodbye(c);
	for (unsigned i = 0;
	     c->channel && i < 1000 && libssh2_channel_free(c->channel) == LIBSSH2_ERROR_EAGAIN; i++)
		continue;
	for (unsigned i = 0;
	     c->session && i < 1000 && libssh2_session_free(c->session) == LIBSSH2_ERROR_EAGAIN; i++)
		continue;
	if (c->fd >= 0)
		close(c->fd);
	free(c->keep);
	free(c);
}

const struct sosie_channel_ops ssh_channel_ops = {.send = ssh_send, .recv = ssh_recv, .close = ssh_close};

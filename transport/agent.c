/* SPDX-License-Identifier: MIT */
/* ssh-agent's protocol: u32 length (big endian), u8 type, body. Three message types are enough. Replies are
 * bounded to REPLY_MAX, keys to KEYS_MAX. */
#include "agent.h"

#include "sosie/clock.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define REPLY_MAX (256u << 10)
#define KEYS_MAX 32u
#define REQUEST_IDENTITIES 11
#define IDENTITIES_ANSWER 12
#define SIGN_REQUEST 13
#define SIGN_RESPONSE 14

struct agent {
	int fd;
	int64_t until_ms;
	unsigned count;
	struct {
		const uint8_t *blob;
		size_t len;
		char comment[128];
	} keys[KEYS_MAX];
	size_t list_len, reply_len;
	uint8_t list[REPLY_MAX], reply[REPLY_MAX];
};

struct cursor {
	const uint8_t *at;
	size_t left;
	bool failed;
};

static uint32_t be32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void be32_put(uint8_t *p, uint32_t v)
{
	for (unsigned i = 0; i < 4; i++)
		p[i] = (uint8_t)(v >> (24 - 8 * i));
}

static uint32_t take_u32(struct cursor *c)
{
	if (c->failed || c->left < 4) {
		c->failed = true;
		return 0;
	}
	uint32_t v = be32(c->at);
	c->at += 4;
	c->left -= 4;
	return v;
}

static const uint8_t *take_string(struct cursor *c, size_t *len)
{
	uint32_t n = take_u32(c);
	*len = 0;
	if (c->failed || n > c->left) {
		c->failed = true;
		return NULL;
	}
	const uint8_t *s = c->at;
	c->at += n;
	c->left -= n;
	*len = n;
	return s;
}

static int agent_wait(struct agent *a, short events, struct sosie_err *err)
{
	for (;;) {
		int64_t left = a->until_ms - sosie_mono_ms(sosie_clock_real());
		struct pollfd p = {a->fd, events, 0};
		if (left <= 0)
			return sosie_err_set(err, SOSIE_ETIMEOUT, "ssh-agent did not answer in time");
		int n = poll(&p, 1, (int)(left < 60000 ? left : 60000));
		if (n > 0)
			return 0;
		if (n < 0 && errno == EINTR)
			return sosie_err_set(err, SOSIE_EINTR, "interrupted while ssh-agent was asked");
	}
}

static int transfer(struct agent *a, uint8_t *data, size_t len, bool sending, struct sosie_err *err)
{
	while (len) {
		int rc = agent_wait(a, sending ? POLLOUT : POLLIN, err);
		if (rc)
			return rc;
		ssize_t n = sending ? send(a->fd, data, len, MSG_NOSIGNAL) : recv(a->fd, data, len, 0);
		if (!n || (n < 0 && errno != EAGAIN && errno != EINTR))
			return sosie_err_set(err, SOSIE_EPEER, "ssh-agent closed the connection");
		if (n > 0) {
			data += n;
			len -= (size_t)n;
		}
	}
	return 0;
}

/* One exchange: the reply's body after its type lands in into. */
static int exchange(struct agent *a, uint8_t *request, size_t len, uint8_t type, uint8_t *into, size_t *got,
                    struct sosie_err *err)
{
	uint8_t head[4];
	int rc = transfer(a, request, len, true, err);
	if (!rc)
		rc = transfer(a, head, sizeof head, false, err);
	if (rc)
		return rc;
	uint32_t n = be32(head);
	if (!n || n > REPLY_MAX)
		return sosie_err_set(err, SOSIE_EPROTO, "ssh-agent sent a reply of %u bytes", n);
	rc = transfer(a, into, n, false, err);
	if (!rc && into[0] != type)
		return sosie_err_set(err, SOSIE_EAUTH, "ssh-agent refused the request");
	*got = n;
	return rc;
}

int agent_open(int64_t until_ms, struct agent **out, struct sosie_err *err)
{
	const char *path = getenv("SSH_AUTH_SOCK");
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	*out = NULL;
	if (!path || !*path || strlen(path) >= sizeof addr.sun_path)
		return sosie_err_set(err, SOSIE_EAUTH, "no ssh-agent: SSH_AUTH_SOCK is not set");
	memcpy(addr.sun_path, path, strlen(path) + 1);
	struct agent *a = calloc(1, sizeof *a);
	if (!a)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory to ask ssh-agent");
	a->until_ms = until_ms;
	a->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (a->fd < 0 || connect(a->fd, (struct sockaddr *)&addr, sizeof addr)) {
		int sys = errno;
		agent_close(a);
		sosie_err_sys(err, sys, "connect to ssh-agent");
		return err ? -(int)(err->code = SOSIE_EAUTH) : -SOSIE_EAUTH;
	}
	*out = a;
	return 0;
}

void agent_close(struct agent *a)
{
	if (!a)
		return;
	if (a->fd >= 0)
		close(a->fd);
	free(a);
}

int agent_list(struct agent *a, unsigned *count, struct sosie_err *err)
{
	uint8_t request[5] = {0, 0, 0, 1, REQUEST_IDENTITIES};
	int rc = exchange(a, request, sizeof request, IDENTITIES_ANSWER, a->list, &a->list_len, err);
	a->count = *count = 0;
	if (rc)
		return rc;
	struct cursor c = {a->list + 1, a->list_len - 1, false};
	uint32_t n = take_u32(&c);
	for (uint32_t i = 0; i < n && i < KEYS_MAX; i++) {
		size_t len;
		a->keys[i].blob = take_string(&c, &a->keys[i].len);
		const uint8_t *comment = take_string(&c, &len);
		if (c.failed)
			return sosie_err_set(err, SOSIE_EPROTO, "ssh-agent's list of keys is not readable");
		sosie_escape(a->keys[i].comment, sizeof a->keys[i].comment, comment, len);
		a->count++;
	}
	*count = a->count;
	return 0;
}

void agent_key(const struct agent *a, unsigned i, const void **blob, size_t *len, const char **comment)
{
	*blob = a->keys[i].blob;
	*len = a->keys[i].len;
	*comment = a->keys[i].comment;
}

static int signature_take(struct agent *a, uint8_t **sig, size_t *sig_len, struct sosie_err *err)
{
	struct cursor c = {a->reply + 1, a->reply_len - 1, false};
	size_t whole_len, name_len, len;
	const uint8_t *whole = take_string(&c, &whole_len);
	struct cursor in = {whole, whole_len, c.failed};
	take_string(&in, &name_len);
	const uint8_t *bytes = take_string(&in, &len);
	if (in.failed || !len)
		return sosie_err_set(err, SOSIE_EPROTO, "ssh-agent's signature is not readable");
	*sig = malloc(len);
	if (!*sig)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for a signature");
	memcpy(*sig, bytes, len);
	*sig_len = len;
	return 0;
}

int agent_sign(struct agent *a, const void *blob, size_t blob_len, const void *data, size_t data_len,
               uint8_t **sig, size_t *sig_len, struct sosie_err *err)
{
	if (blob_len > REPLY_MAX || data_len > REPLY_MAX)
		return sosie_err_set(err, SOSIE_EINTERNAL, "too much to sign");
	size_t len = 4 + 1 + 4 + blob_len + 4 + data_len + 4;
	uint8_t *request = calloc(1, len), *at = request;
	if (!request)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory to ask ssh-agent");
	be32_put(at, (uint32_t)(len - 4));
	at[4] = SIGN_REQUEST;
	be32_put(at + 5, (uint32_t)blob_len);
	memcpy(at + 9, blob, blob_len);
	at += 9 + blob_len;
	be32_put(at, (uint32_t)data_len);
	memcpy(at + 4, data, data_len); /* then flags: 0 */
	int rc = exchange(a, request, len, SIGN_RESPONSE, a->reply, &a->reply_len, err);
	free(request);
	return rc ? rc : signature_take(a, sig, sig_len, err);
}

/* SPDX-License-Identifier: MIT */
/* ssh-agent's protocol: u32 length (big endian), u8 type, body. Three message types are enough. Replies are
 * bounded to REPLY_MAX, keys to KEYS_MAX. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "sosie/agent.h"
#include "sosie/bytes.h"
#include "sosie/clock.h"

#define REPLY_MAX (256u << 10)
#define KEYS_MAX 32u
#define REQUEST_IDENTITIES 11
#define IDENTITIES_ANSWER 12
#define SIGN_REQUEST 13
#define SIGN_RESPONSE 14

struct sosie_agent {
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

static int agent_wait(struct sosie_agent *a, short events, struct sosie_err *err)
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

static int transfer(struct sosie_agent *a, uint8_t *data, size_t len, bool sending, struct sosie_err *err)
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
static int exchange(struct sosie_agent *a, uint8_t *request, size_t len, uint8_t type, uint8_t *into,
                    size_t *got, struct sosie_err *err)
{
	uint8_t head[4];
	int rc = transfer(a, request, len, true, err);
	if (!rc)
		rc = transfer(a, head, sizeof head, false, err);
	if (rc)
		return rc;
	struct sosie_reader r;
	sosie_reader_init(&r, head, sizeof head);
	uint32_t n = sosie_get_ssh_u32(&r);
	if (!n || n > REPLY_MAX)
		return sosie_err_set(err, SOSIE_EPROTO, "ssh-agent sent a reply of %u bytes", n);
	rc = transfer(a, into, n, false, err);
	if (!rc && into[0] != type)
		return sosie_err_set(err, SOSIE_EAUTH, "ssh-agent refused the request");
	*got = n;
	return rc;
}

int sosie_agent_open(int64_t until_ms, struct sosie_agent **out, struct sosie_err *err)
{
	const char *path = getenv("SSH_AUTH_SOCK");
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	*out = NULL;
	if (!path || !*path || strlen(path) >= sizeof addr.sun_path)
		return sosie_err_set(err, SOSIE_EAUTH, "no ssh-agent: SSH_AUTH_SOCK is not set");
	memcpy(addr.sun_path, path, strlen(path) + 1);
	struct sosie_agent *a = calloc(1, sizeof *a);
	if (!a)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory to ask ssh-agent");
	a->until_ms = until_ms;
	a->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (a->fd < 0 || connect(a->fd, (struct sockaddr *)&addr, sizeof addr)) {
		int sys = errno;
		sosie_agent_close(a);
		sosie_err_sys(err, sys, "connect to ssh-agent");
		return err ? -(int)(err->code = SOSIE_EAUTH) : -SOSIE_EAUTH;
	}
	*out = a;
	return 0;
}

void sosie_agent_close(struct sosie_agent *a)
{
	if (!a)
		return;
	if (a->fd >= 0)
		close(a->fd);
	free(a);
}

int sosie_agent_list(struct sosie_agent *a, unsigned *count, struct sosie_err *err)
{
	uint8_t request[5] = {0, 0, 0, 1, REQUEST_IDENTITIES};
	int rc = exchange(a, request, sizeof request, IDENTITIES_ANSWER, a->list, &a->list_len, err);
	a->count = *count = 0;
	if (rc)
		return rc;
	struct sosie_reader r;
	sosie_reader_init(&r, a->list + 1, a->list_len - 1);
	uint32_t n = sosie_get_ssh_u32(&r);
	for (uint32_t i = 0; i < n && i < KEYS_MAX; i++) {
		size_t len;
		a->keys[i].blob = sosie_get_ssh_string(&r, &a->keys[i].len);
		const uint8_t *comment = sosie_get_ssh_string(&r, &len);
		if (r.failed)
			return sosie_err_set(err, SOSIE_EPROTO, "ssh-agent's list of keys is not readable");
		sosie_escape(a->keys[i].comment, sizeof a->keys[i].comment, comment, len);
		a->count++;
	}
	*count = a->count;
	return 0;
}

void sosie_agent_key(const struct sosie_agent *a, unsigned i, const void **blob, size_t *len,
                     const char **comment)
{
	*blob = a->keys[i].blob;
	*len = a->keys[i].len;
	*comment = a->keys[i].comment;
}

static int signature_take(struct sosie_agent *a, uint8_t **sig, size_t *sig_len, struct sosie_err *err)
{
	struct sosie_reader r;
	size_t whole_len, name_len, len;
	sosie_reader_init(&r, a->reply + 1, a->reply_len - 1);
	const uint8_t *whole = sosie_get_ssh_string(&r, &whole_len);
	sosie_reader_init(&r, whole, whole_len);
	sosie_get_ssh_string(&r, &name_len);
	const uint8_t *bytes = sosie_get_ssh_string(&r, &len);
	if (!whole || r.failed || !len)
		return sosie_err_set(err, SOSIE_EPROTO, "ssh-agent's signature is not readable");
	*sig = malloc(len);
	if (!*sig)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for a signature");
	memcpy(*sig, bytes, len);
	*sig_len = len;
	return 0;
}

int sosie_agent_sign(struct sosie_agent *a, const void *blob, size_t blob_len, const void *data,
                     size_t data_len, uint8_t **sig, size_t *sig_len, struct sosie_err *err)
{
	if (blob_len > REPLY_MAX || data_len > REPLY_MAX)
		return sosie_err_set(err, SOSIE_EINTERNAL, "too much to sign");
	size_t len = 4 + 1 + 4 + blob_len + 4 + data_len + 4;
	uint8_t *request = malloc(len);
	struct sosie_writer w;
	if (!request)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory to ask ssh-agent");
	sosie_writer_init(&w, request, len);
	sosie_put_ssh_u32(&w, (uint32_t)(len - 4));
	sosie_put_u8(&w, SIGN_REQUEST);
	sosie_put_ssh_string(&w, blob, blob_len);
	sosie_put_ssh_string(&w, data, data_len);
	sosie_put_ssh_u32(&w, 0); /* flags */
	int rc = exchange(a, request, len, SIGN_RESPONSE, a->reply, &a->reply_len, err);
	free(request);
	return rc ? rc : signature_take(a, sig, sig_len, err);
}

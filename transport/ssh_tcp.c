/* SPDX-License-Identifier: MIT */
/* From a host name to a connected socket: resolver and connect within the one deadline, the stop flag seen.
 */
#include "ssh.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct lookup {
	struct gaicb request;
	struct addrinfo hints;
	char host[256], service[8];
};

/* The resolver has no limit in time of its own: it runs aside. When it cannot be cancelled its memory stays
 * with it. */
/* An address in digits needs nobody's answer: no thread, no waiting. */
static bool resolve_digits(const struct sosie_target *t, struct addrinfo **out)
{
	const struct addrinfo hints = {.ai_family = AF_UNSPEC,
	                               .ai_socktype = SOCK_STREAM,
	                               .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
	char service[8];
	snprintf(service, sizeof service, "%u", t->port);
	return getaddrinfo(t->host, service, &hints, out) == 0;
}

static int resolve(struct ssh_channel *c, int64_t until, struct addrinfo **out, struct sosie_err *err)
{
	const struct sosie_target *t = &c->options->target;
	if (resolve_digits(t, out))
		return 0;
	struct lookup *l = calloc(1, sizeof *l);
	if (!l)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory to look up %s", t->host);
	memcpy(l->host, t->host, sizeof l->host);
	snprintf(l->service, sizeof l->service, "%u", t->port);
	l->hints = (struct addrinfo){.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
	l->request = (struct gaicb){.ar_name = l->host, .ar_service = l->service, .ar_request = &l->hints};
	struct gaicb *list[1] = {&l->request};
	const struct gaicb *wait[1] = {&l->request};
	int state = getaddrinfo_a(GAI_NOWAIT, list, 1, NULL), rc = 0;
	while (!state && !rc && (state = gai_error(&l->request)) == EAI_INPROGRESS) {
		struct timespec slice = {0, SSH_SLICE_MS * 1000000L};
		gai_suspend(wait, 1, &slice);
		state = 0;
		rc = ssh_stop_check(c, err);
		if (!rc && ssh_now_ms() >= until)
			rc = sosie_err_set(err, SOSIE_ETIMEOUT, "looking up %s took longer than %u ms",
			                   t->host, c->options->connect_ms);
	}
	if (rc && gai_cancel(&l->request) == EAI_NOTCANCELED)
		return rc;
	*out = l->request.ar_result;
	if (!rc && (state || !*out)) {
		sosie_err_set(err, SOSIE_EPEER, "%s: %s", t->host,
		              state ? gai_strerror(state) : "has no address");
		rc = sosie_err_action(err, "check the standby's host name");
	}
	free(l);
	return rc;
}

static void socket_set(int fd, uint32_t send_buffer)
{
	int one = 1, size = (int)send_buffer;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	if (send_buffer)
		setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
}

static int connect_one(struct ssh_channel *c, const struct addrinfo *a, int64_t until, struct sosie_err *err)
{
	struct pollfd p = {-1, POLLOUT, 0};
	int failed = 0, rc = 0;
	socklen_t len = sizeof failed;
	c->fd = p.fd = socket(a->ai_family, a->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, a->ai_protocol);
	if (c->fd < 0)
		return sosie_err_sys(err, errno, "make a socket");
	socket_set(c->fd, c->options->send_buffer);
	if (connect(c->fd, a->ai_addr, a->ai_addrlen) && errno != EINPROGRESS)
		failed = errno;
	while (!failed && !rc && poll(&p, 1, SSH_SLICE_MS) <= 0) {
		rc = ssh_stop_check(c, err);
		if (!rc && ssh_now_ms() >= until)
			failed = ETIMEDOUT;
	}
	if (!failed && !rc)
		getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &failed, &len);
	if (failed) {
		const char *why = strerrordesc_np(failed);
		sosie_err_set(err, failed == ETIMEDOUT ? SOSIE_ETIMEOUT : SOSIE_EPEER,
		              "connect to %s port %u: %s", c->options->target.host, c->options->target.port,
		              why ? why : "failed");
		rc = sosie_err_action(
		        err, "see whether the standby's sshd listens there and no firewall is between");
	}
	if (rc) {
		close(c->fd);
		c->fd = -1;
	}
	return rc;
}

int ssh_tcp_connect(struct ssh_channel *c, int64_t until, struct sosie_err *err)
{
	struct addrinfo *list = NULL;
	int rc = resolve(c, until, &list, err);
	if (rc)
		return rc;
	rc = -SOSIE_EPEER;
	for (const struct addrinfo *a = list; a && rc && rc != -SOSIE_EINTR; a = a->ai_next) {
		int64_t now = ssh_now_ms(), share = a->ai_next ? now + (until - now) / 2 : until;
		rc = connect_one(c, a, share, err);
	}
	freeaddrinfo(list);
	return rc;
}

/* SPDX-License-Identifier: MIT */
/* The dialogue with a QEMU monitor. Its bytes are taken as a stranger's: bounded lines, strict JSON. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "engine/source/guardian.h"
#include "engine/source/qmp.h"
#include "sosie/json.h"

static int told(const struct qmp *q, struct sosie_err *err)
{
	sosie_err_where(err, "%s", q->path);
	return sosie_err_action(err, "is it the monitor of a running QEMU, and free? "
	                             "(-qmp unix:SOCKET,server=on,wait=off)");
}

static int wait_for(const struct qmp *q, short events, int64_t deadline_ns, struct sosie_err *err)
{
	for (;;) {
		struct pollfd p = {q->fd, events, 0};
		int64_t left = (deadline_ns - sosie_clock_ns(CLOCK_MONOTONIC) + 999999) / 1000000;
		int n;

		if (left <= 0) {
			sosie_err_set(err, SOSIE_ETIMEOUT, "the QEMU monitor did not answer in time");
			return told(q, err);
		}
		n = poll(&p, 1, left > 60000 ? 60000 : (int)left);
		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return sosie_err_sys(err, errno, "waiting for the QEMU monitor");
	}
}

static int lost(const struct qmp *q, int sys, struct sosie_err *err)
{
	if (sys)
		sosie_err_sys(err, sys, "the QEMU monitor is lost");
	else
		sosie_err_set(err, SOSIE_EPEER, "the QEMU monitor closed the connection");
	return told(q, err);
}

static int send_all(struct qmp *q, const char *text, size_t len, int64_t deadline_ns, struct sosie_err *err)
{
	while (len > 0) {
		ssize_t n = send(q->fd, text, len, MSG_NOSIGNAL);
		int rc;

		if (n > 0) {
			text += n;
			len -= (size_t)n;
			continue;
		}
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return lost(q, errno, err);
		rc = wait_for(q, POLLOUT, deadline_ns, err);
		if (rc != 0)
			return rc;
	}
	return 0;
}

/* The next line as a document; the rest stays in the buffer. */
static int read_object(struct qmp *q, int64_t deadline_ns, struct sosie_json **out, struct sosie_err *err)
{
	for (;;) {
		char *end = memchr(q->buf, '\n', q->len);
		ssize_t n;
		int rc;

		if (end) {
			size_t line = (size_t)(end - q->buf);

			rc = sosie_json_parse(q->buf, line, QMP_LINE_MAX, out, err);
			q->len -= line + 1;
			memmove(q->buf, end + 1, q->len);
			return rc == 0 ? 0 : told(q, err);
		}
		if (q->len == QMP_LINE_MAX) {
			sosie_err_set(err, SOSIE_EPROTO, "a line of more than %u KiB from the QEMU monitor",
			              QMP_LINE_MAX >> 10);
			return told(q, err);
		}
		rc = wait_for(q, POLLIN, deadline_ns, err);
		if (rc != 0)
			return rc;
		n = recv(q->fd, q->buf + q->len, QMP_LINE_MAX - q->len, 0);
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
			return lost(q, n == 0 ? 0 : errno, err);
		q->len += n > 0 ? (size_t)n : 0;
	}
}

static int refused(struct qmp *q, const struct sosie_json *answer, const char *name, struct sosie_err *err)
{
	struct sosie_json *error;
	const char *text = "no reason given";
	char shown[200];

	if (sosie_json_obj(answer, "error", &error, NULL) == 0)
		sosie_json_str(error, "desc", 4096, &text, NULL);
	sosie_err_set(err, SOSIE_EPROTO, "the QEMU monitor refused \"%s\": %s", name,
	              sosie_escape(shown, sizeof(shown), text, strlen(text)));
	return told(q, err);
}

/* The answer to our command, events and other answers passed over; the caller frees it. */
static int ask(struct qmp *q, const char *name, int64_t deadline_ns, struct sosie_json **out,
               struct sosie_err *err)
{
	char text[128];
	int len = snprintf(text, sizeof(text), "{\"execute\":\"%s\",\"id\":%llu}\n", name,
	                   (unsigned long long)++q->number);
	int rc = send_all(q, text, (size_t)len, deadline_ns, err);

	while (rc == 0) {
		uint64_t id = 0;

		rc = read_object(q, deadline_ns, out, err);
		if (rc != 0)
			break;
		if (sosie_json_u64(*out, "id", UINT64_MAX >> 1, &id, NULL) == 0 && id == q->number) {
			if (sosie_json_has(*out, "return"))
				return 0;
			rc = refused(q, *out, name, err);
		}
		sosie_json_free(*out);
	}
	*out = NULL;
	return rc;
}

int qmp_command(struct qmp *q, const char *name, int64_t deadline_ns, struct sosie_err *err)
{
	struct sosie_json *answer;
	int rc = ask(q, name, deadline_ns, &answer, err);

	sosie_json_free(answer);
	return rc;
}

int qmp_running(struct qmp *q, bool *running, int64_t deadline_ns, struct sosie_err *err)
{
	struct sosie_json *answer, *state;
	int rc = ask(q, "query-status", deadline_ns, &answer, err);

	if (rc != 0)
		return rc;
	rc = sosie_json_obj(answer, "return", &state, err);
	if (rc == 0)
		rc = sosie_json_bool(state, "running", running, err);
	sosie_json_free(answer);
	return rc == 0 ? 0 : told(q, err);
}

static int greet(struct qmp *q, int64_t deadline_ns, struct sosie_err *err)
{
	struct sosie_json *greeting;
	bool right;
	int rc = read_object(q, deadline_ns, &greeting, err);

	if (rc != 0)
		return rc;
	right = sosie_json_has(greeting, "QMP");
	sosie_json_free(greeting);
	if (right)
		return qmp_command(q, "qmp_capabilities", deadline_ns, err);
	sosie_err_set(err, SOSIE_EPROTO, "what answers is no QEMU monitor");
	return told(q, err);
}

static int dial(struct qmp *q, struct sosie_err *err)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};

	if (strlen(q->path) >= sizeof(to.sun_path))
		return sosie_err_set(err, SOSIE_ECONFIG,
		                     "the path of the QEMU monitor is longer than %zu bytes",
		                     sizeof(to.sun_path) - 1);
	memcpy(to.sun_path, q->path, strlen(q->path) + 1);
	q->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (q->fd < 0)
		return sosie_err_sys(err, errno, "no socket for the QEMU monitor");
	if (connect(q->fd, (const struct sockaddr *)&to, sizeof(to)) == 0)
		return 0;
	sosie_err_sys(err, errno, "the QEMU monitor cannot be reached");
	return told(q, err);
}

int qmp_open(struct qmp *q, const char *path, int64_t deadline_ns, struct sosie_err *err)
{
	int rc;

	*q = (struct qmp){.fd = -1, .path = path};
	q->buf = malloc(QMP_LINE_MAX);
	if (!q->buf)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for the QEMU monitor");
	rc = dial(q, err);
	if (rc == 0)
		rc = greet(q, deadline_ns, err);
	if (rc != 0)
		qmp_close(q);
	return rc;
}

void qmp_close(struct qmp *q)
{
	if (q->fd >= 0)
		close(q->fd);
	free(q->buf);
	q->fd = -1;
	q->buf = NULL;
	q->len = 0;
}

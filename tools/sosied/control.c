/* SPDX-License-Identifier: MIT */
/*
 * control.h. One thread, poll(2), all descriptors non-blocking. The socket is made under a temporary name and
 * renamed, so that it is never there with a wider mode than 0600; the lock says who may.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "sosie/clock.h"
#include "sosie/json.h"
#include "sosie/thread.h"
#include "tools/sosied/control.h"

#define CLIENTS 16
#define ASK_MS 2000     /* to say what it wants */
#define ANSWER_MS 10000 /* to take the answer */
#define TICK_MS 200

struct client {
	int fd; /* -1: free */
	char line[64];
	size_t len;
	char *text;
	size_t text_len, sent;
	int64_t end_ms;
};

struct control {
	int lock, listener, wake;
	char path[108];
	pthread_t thread;
	bool running;
	int64_t rest_ms; /* nobody is accepted before then: descriptors have run out */
	struct client clients[CLIENTS];
	int (*answer)(void *arg, char **text, size_t *len, struct sosie_err *err);
	void *arg;
};

/* --- clients
 * ------------------------------------------------------------------------------------------------------- */

static void client_end(struct client *c)
{
	close(c->fd);
	free(c->text);
	*c = (struct client){.fd = -1};
}

static struct client *free_slot(struct control *c)
{
	for (size_t i = 0; i < CLIENTS; i++)
		if (c->clients[i].fd < 0)
			return &c->clients[i];
	return NULL;
}

/* Called while a slot is free: more clients wait in the listener's queue. */
static void client_new(struct control *c)
{
	struct client *k = free_slot(c);
	int64_t now = sosie_mono_ms(sosie_clock_real());
	int fd = accept4(c->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd >= 0)
		*k = (struct client){.fd = fd, .end_ms = now + ASK_MS};
	else if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
		c->rest_ms = now + TICK_MS;
}

/* {"error":{…}} in place of an answer. */
static char *error_text(const struct sosie_err *e, size_t *len)
{
	struct sosie_json *doc = sosie_json_new();
	char *text = NULL;

	*len = 0;
	if (doc) {
		sosie_json_set_u64(doc, "format", 1);
		(void)sosie_json_set_error(doc, "error", e);
		(void)sosie_json_text(doc, 0, &text, len, NULL);
	}
	sosie_json_free(doc);
	return text;
}

static void client_answer(struct control *c, struct client *k)
{
	struct sosie_err err = {0};
	int rc = 0;

	if (strcmp(k->line, "status") == 0)
		rc = c->answer(c->arg, &k->text, &k->text_len, &err);
	else
		rc = sosie_err_set(&err, SOSIE_EUSAGE, "not understood: this socket answers to \"status\"");
	if (rc != 0)
		k->text = error_text(&err, &k->text_len);
	k->end_ms = sosie_mono_ms(sosie_clock_real()) + ANSWER_MS;
	if (!k->text)
		client_end(k);
}

static void client_read(struct control *c, struct client *k)
{
	ssize_t n = recv(k->fd, k->line + k->len, sizeof(k->line) - 1 - k->len, 0);
	char *end;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		client_end(k);
		return;
	}
	k->len += (size_t)n;
	k->line[k->len] = '\0';
	end = memchr(k->line, '\n', k->len);
	if (end) {
		*end = '\0';
		client_answer(c, k);
	} else if (k->len == sizeof(k->line) - 1) {
		client_end(k);
	}
}

static void client_write(struct client *k)
{
	ssize_t n = send(k->fd, k->text + k->sent, k->text_len - k->sent, MSG_NOSIGNAL);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0)
		k->sent += (size_t)n;
	if (n < 0 || k->sent == k->text_len)
		client_end(k);
}

/* What is waited for; -1 as timeout: nothing ends by itself. The listener is left out while no slot is free.
 */
static int prepare(struct control *c, struct pollfd p[CLIENTS + 2])
{
	bool rests = sosie_mono_ms(sosie_clock_real()) < c->rest_ms;
	int timeout = rests ? TICK_MS : -1;

	p[0] = (struct pollfd){.fd = c->wake, .events = POLLIN};
	p[1] = (struct pollfd){.fd = rests || !free_slot(c) ? -1 : c->listener, .events = POLLIN};
	for (size_t i = 0; i < CLIENTS; i++) {
		p[i + 2] = (struct pollfd){.fd = c->clients[i].fd,
		                           .events = c->clients[i].text ? POLLOUT : POLLIN};
		timeout = c->clients[i].fd >= 0 ? TICK_MS : timeout;
	}
	return timeout;
}

static void client_step(struct control *c, struct client *k, const struct pollfd *p)
{
	if (p->revents && k->text)
		client_write(k);
	else if (p->revents)
		client_read(c, k);
	if (k->fd >= 0 && sosie_mono_ms(sosie_clock_real()) > k->end_ms)
		client_end(k);
}

static void *serve(void *arg)
{
	struct control *c = arg;

	for (;;) {
		struct pollfd p[CLIENTS + 2];
		int timeout = prepare(c, p);

		if (poll(p, CLIENTS + 2, timeout) < 0) {
			if (errno != EINTR)
				return NULL;
			continue;
		}
		if (p[0].revents)
			return NULL;
		for (size_t i = 0; i < CLIENTS; i++)
			if (p[i + 2].fd >= 0)
				client_step(c, &c->clients[i], &p[i + 2]);
		if (p[1].revents)
			client_new(c);
	}
}

/* --- beginning and end
 * --------------------------------------------------------------------------------------------- */

/* The folder and those above it. */
static int make_folder(const char *path, struct sosie_err *err)
{
	char part[4096];
	size_t len = strlen(path);

	if (len >= sizeof(part))
		return sosie_err_set(err, SOSIE_ECONFIG, "state: the path is too long");
	for (size_t i = 1; i <= len; i++) {
		if (path[i] != '/' && path[i] != '\0')
			continue;
		memcpy(part, path, i);
		part[i] = '\0';
		if (mkdir(part, 0700) != 0 && errno != EEXIST) {
			sosie_err_sys(err, errno, "the state folder cannot be made");
			return sosie_err_where(err, "%s", part);
		}
	}
	return 0;
}

static int take_lock(struct control *c, const char *state, struct sosie_err *err)
{
	char path[4200], text[32] = "";
	ssize_t n;

	snprintf(path, sizeof(path), "%s/lock", state);
	c->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (c->lock < 0) {
		sosie_err_sys(err, errno, "the state folder cannot be locked");
		return sosie_err_where(err, "%s", path);
	}
	if (flock(c->lock, LOCK_EX | LOCK_NB) != 0) {
		n = read(c->lock, text, sizeof(text) - 1);
		text[n > 0 ? n : 0] = '\0';
		sosie_err_set(err, SOSIE_EBUSY, "another sosied runs on this state folder (process %ld)",
		              strtol(text, NULL, 10));
		sosie_err_where(err, "%s", state);
		return sosie_err_action(
		        err, "stop that one first; systemctl reload, or SIGHUP, reads its file again");
	}
	n = snprintf(text, sizeof(text), "%ld\n", (long)getpid());
	if (ftruncate(c->lock, 0) != 0 || write(c->lock, text, (size_t)n) != n)
		return sosie_err_sys(err, errno, "%.300s cannot be written", path);
	return 0;
}

static int listen_at(struct control *c, struct sosie_err *err)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	char name[sizeof(at.sun_path)];

	snprintf(name, sizeof(name), "%.*s.new", (int)sizeof(name) - 5, c->path); /* fits: control_lock */
	unlink(name);
	memcpy(at.sun_path, name, strlen(name) + 1);
	c->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (c->listener < 0 ||
	    bind(c->listener, (const struct sockaddr *)(const void *)&at, sizeof(at)) != 0 ||
	    chmod(name, 0600) != 0 || listen(c->listener, CLIENTS) != 0 || rename(name, c->path) != 0) {
		sosie_err_sys(err, errno, "the control socket cannot be made");
		return sosie_err_where(err, "%s", c->path);
	}
	return 0;
}

int control_lock(const char *state, struct control **out, struct sosie_err *err)
{
	struct control *c = calloc(1, sizeof(*c));
	int rc, n;

	*out = NULL;
	if (!c)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for the control socket");
	c->lock = c->listener = c->wake = -1;
	for (size_t i = 0; i < CLIENTS; i++)
		c->clients[i].fd = -1;
	n = snprintf(c->path, sizeof(c->path), "%s/control.sock", state);
	if (n < 0 || (size_t)n + 5 > sizeof(c->path)) {
		free(c);
		sosie_err_set(err, SOSIE_ECONFIG,
		              "state: the path of the folder is too long for a socket in it");
		return sosie_err_action(err, "use one of at most 90 bytes");
	}
	rc = make_folder(state, err);
	if (rc == 0)
		rc = take_lock(c, state, err);
	if (rc != 0)
		control_close(c);
	else
		*out = c;
	return rc;
}

int control_listen(struct control *c,
                   int (*answer)(void *arg, char **text, size_t *len, struct sosie_err *err), void *arg,
                   struct sosie_err *err)
{
	int rc = listen_at(c, err);

	c->answer = answer;
	c->arg = arg;
	if (rc == 0 && (c->wake = eventfd(0, EFD_CLOEXEC)) < 0)
		rc = sosie_err_sys(err, errno, "no event descriptor");
	if (rc == 0 && sosie_thread_start(&c->thread, NULL, serve, c) != 0)
		rc = sosie_err_set(err, SOSIE_ENOMEM, "cannot start the control thread");
	c->running = rc == 0;
	return rc;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void control_unlisten(struct control *c)
{
	if (!c)
		return;
	if (c->running) {
		(void)eventfd_write(c->wake, 1);
		pthread_join(c->thread, NULL);
		unlink(c->path);
	}
	c->running = false;
	for (size_t i = 0; i < CLIENTS; i++)
		if (c->clients[i].fd >= 0)
			client_end(&c->clients[i]);
	close_fd(&c->listener);
	close_fd(&c->wake);
}

void control_close(struct control *c)
{
	if (!c)
		return;
	control_unlisten(c);
	close_fd(&c->lock); /* lets the lock go; its file stays */
	free(c);
}

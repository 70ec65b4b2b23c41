/* SPDX-License-Identifier: MIT */
/*
 * The parent of the child that holds a key: start, requests and replies, limits in time.
 *
 * Invariants:
 *  - child is 0 or an unreaped child of ours, and then socket is open. Whatever is not the one expected reply
 *    in time ends it, by SIGKILL, and reaps it: no zombie, no late reply.
 *  - The key is the one that was found at the opening, for as long as this object lives: another file at its
 *    path later is refused.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/sign/internal.h"
#include "sosie/clock.h"
#include "sosie/thread.h"

#define START_MS 2000 /* until the first word; some ms as a rule */
#define REPLY_MS 5000 /* a signature takes 0.1 ms */
#define STARTS 5u     /* of which each may hang: a lock that another thread held at the fork */
#define TRIES 2u      /* of a request: the child may have been killed since the last one */

struct signer_fork {
	struct sosie_public key;
	int socket;
	pid_t child;
	unsigned started;
	uint32_t number; /* of the last request */
	char path[];
};

static void end_child(struct signer_fork *f)
{
	if (f->child > 0) {
		close(f->socket);
		kill(f->child, SIGKILL);
		while (waitpid(f->child, NULL, 0) < 0 && errno == EINTR)
			;
	}
	f->socket = -1;
	f->child = 0;
}

/* --- talking
 * ------------------------------------------------------------------------------------------------------- */

/* One message of exactly len bytes, in time. */
static bool await(int socket, void *dst, size_t len, int64_t limit_ms)
{
	const int64_t until = sosie_mono_ms(sosie_clock_real()) + limit_ms;
	struct pollfd p = {.fd = socket, .events = POLLIN};

	for (;;) {
		int64_t left = until - sosie_mono_ms(sosie_clock_real());
		int ready = left > 0 ? poll(&p, 1, (int)left) : -1;

		if (left <= 0 || (ready < 0 && errno != EINTR))
			return false;
		if (ready > 0)
			return recv(socket, dst, len, MSG_DONTWAIT | MSG_TRUNC) == (ssize_t)len;
	}
}

static int fork_child(struct signer_fork *f, struct sosie_err *err)
{
	const pid_t parent = getpid();
	int pair[2];

	evp_before_fork();
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
		return sosie_err_sys(err, errno, "cannot start the process that holds a key");
	f->child = sosie_fork();
	if (f->child == 0)
		signer_child(f->path, pair[1], parent);
	close(pair[1]);
	f->socket = pair[0];
	if (f->child < 0) {
		const int sys = errno;

		close(pair[0]);
		f->child = 0;
		f->socket = -1;
		return sosie_err_sys(err, sys, "cannot start the process that holds a key");
	}
	f->started++;
	return 0;
}

/* The child's own error, its texts ended whatever it sent. */
static int child_error(struct signer_hello *hello, struct sosie_err *err)
{
	struct sosie_err *e = &hello->err;

	e->what[sizeof(e->what) - 1] = e->where[sizeof(e->where) - 1] = e->action[sizeof(e->action) - 1] =
	        '\0';
	if (e->code == SOSIE_OK)
		return sosie_err_set(err, SOSIE_EINTERNAL, "the process that holds a key told nothing");
	if (err)
		*err = *e;
	return -(int)e->code;
}

/* Starts the child; what it said is in *hello. No child is left when it is not one that can sign. */
static int start(struct signer_fork *f, struct signer_hello *hello, struct sosie_err *err)
{
	int rc;

	for (unsigned i = 0; i < STARTS; i++) {
		rc = fork_child(f, err);
		if (rc != 0)
			return rc;
		if (!await(f->socket, hello, sizeof(*hello), START_MS)) {
			end_child(f);
			continue;
		}
		if (hello->kind != KEYFILE_PRIVATE)
			end_child(f);
		return hello->kind == 0 ? child_error(hello, err) : 0;
	}
	return sosie_err_set(err, SOSIE_EAUTH, "the process that holds the key %.200s does not start",
	                     f->path);
}

/* After its end: anew, with the key that it had. */
static int start_again(struct signer_fork *f, struct sosie_err *err)
{
	struct signer_hello hello;
	struct sosie_err why;

	if (start(f, &hello, &why) != 0) {
		sosie_err_set(err, SOSIE_EAUTH,
		              "the process that held the signing key has ended, and another cannot start: %s",
		              why.what);
		return sosie_err_where(err, "%s", f->path);
	}
	if (f->child > 0 && sosie_public_equal(&hello.key, &f->key))
		return 0;
	end_child(f);
	sosie_err_set(err, SOSIE_EAUTH, "the file holds another key than when it was opened, or none");
	sosie_err_where(err, "%s", f->path);
	return sosie_err_action(err, "put the key back, or restart to sign with the new one");
}

static bool ask(struct signer_fork *f, const char *name_space, const uint8_t hash[EVP_SHA512_LEN],
                uint8_t sig[EVP_SIG_LEN])
{
	struct signer_request request = {.number = ++f->number};
	struct signer_reply reply;

	memcpy(request.name_space, name_space, strlen(name_space) + 1);
	memcpy(request.hash, hash, EVP_SHA512_LEN);
	if (send(f->socket, &request, sizeof(request), MSG_NOSIGNAL | MSG_DONTWAIT) !=
	            (ssize_t)sizeof(request) ||
	    !await(f->socket, &reply, sizeof(reply), REPLY_MS) || reply.number != request.number ||
	    reply.made != 1)
		return false;
	memcpy(sig, reply.sig, EVP_SIG_LEN);
	return true;
}

/* --- the signer
 * ---------------------------------------------------------------------------------------------------- */

static int fork_sign(void *of, const char *name_space, const uint8_t hash[EVP_SHA512_LEN],
                     uint8_t sig[EVP_SIG_LEN], struct sosie_err *err)
{
	struct signer_fork *f = of;

	for (unsigned i = 0; i < TRIES; i++) {
		int rc = f->child == 0 ? start_again(f, err) : 0;

		if (rc != 0)
			return rc;
		if (ask(f, name_space, hash, sig))
			return 0;
		end_child(f);
	}
	sosie_err_set(err, SOSIE_EAUTH, "the process that holds the signing key does not answer");
	return sosie_err_where(err, "%s", f->path);
}

static void fork_close(void *of)
{
	end_child(of);
	free(of);
}

const struct signer_ops signer_fork_ops = {.sign = fork_sign, .close = fork_close};

int signer_fork_open(const char *path, enum keyfile_kind *kind, struct sosie_public *key, void **out,
                     struct sosie_err *err)
{
	const size_t len = strlen(path) + 1;
	struct signer_fork *f = calloc(1, sizeof(*f) + len);
	struct signer_hello hello;
	int rc;

	*out = NULL;
	if (!f)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for a signer");
	memcpy(f->path, path, len);
	f->socket = -1;
	rc = start(f, &hello, err);
	if (rc != 0 || f->child == 0) {
		fork_close(f);
		f = NULL;
	}
	if (rc != 0)
		return rc;
	*kind = f ? KEYFILE_PRIVATE : KEYFILE_PUBLIC;
	*key = hello.key;
	if (f)
		f->key = hello.key;
	*out = f;
	return 0;
}

void signer_fork_counters(const void *of, struct signer_counters *out)
{
	const struct signer_fork *f = of;

	*out = (struct signer_counters){.child = f->child, .started = f->started};
}

/* SPDX-License-Identifier: MIT */
/*
 * The process that holds a private key: it reads the file itself, so that the parent never has the key; tells
 * the public half; enters the sandbox; signs. It signs no bytes that the parent chose: it is told a namespace
 * of ours and a hash, and puts them into the form of a signature itself.
 *
 * Invariants:
 *  - Nothing can read its memory but root (not dumpable), and it leaves no core.
 *  - Should it hang on a lock that another thread of the parent held at the fork (evp.c), then before it says
 *    that it is ready, because it has made one signature before that word; and the parent starts the next.
 *  - It ends when its socket is closed or its parent's process has ended, whichever comes first; not when the
 *    thread ends that forked it, nor by the signals that a terminal or a service manager sends to all
 *    processes at once: the parent may still want to sign.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "engine/sign/internal.h"
#include "sosie/sandbox.h"

#define MEMORY (16u << 20) /* beyond what it was forked with */

static int make_signature(const struct evp_key *key, const char *name_space, const uint8_t *hash,
                          uint8_t sig[EVP_SIG_LEN], struct sosie_err *err)
{
	uint8_t data[SIGN_DATA_MAX];
	const size_t len = sshsig_data(name_space, SIGN_SHA512, hash, data);

	return evp_key_sign(key, data, len, sig, err);
}

/* The key of the file, tried once; NULL when the file has a public half only. */
static int take_key(const char *path, enum keyfile_kind *kind, struct sosie_public *public,
                    struct evp_key **key, struct sosie_err *err)
{
	static const uint8_t hash[EVP_SHA512_LEN];
	uint8_t sig[EVP_SIG_LEN];
	struct keyfile file;
	int rc = keyfile_read(path, &file, err);

	if (rc != 0)
		return rc;
	*kind = file.kind;
	*public = file.key;
	if (file.kind == KEYFILE_PRIVATE) {
		rc = evp_key_new(file.seed, key, public, err);
		explicit_bzero(&file, sizeof(file));
	}
	return rc == 0 && *key ? make_signature(*key, SIGN_TRIAL, hash, sig, err) : rc;
}

static int confine(int socket, int watch, pid_t parent, struct sosie_err *err)
{
	const int keep[2] = {socket < watch ? socket : watch, socket < watch ? watch : socket};
	const struct sosie_sandbox rules = {.parent = parent,
	                                    .keep = keep,
	                                    .keep_count = 2,
	                                    .memory_bytes = MEMORY,
	                                    .features = SOSIE_SANDBOX_WAIT};
	static const int not_ours[] = {SIGINT, SIGQUIT, SIGTERM, SIGHUP};
	sigset_t blocked;
	int rc = sosie_sandbox_enter(&rules, err);

	sigemptyset(&blocked);
	for (size_t i = 0; i < sizeof(not_ours) / sizeof(not_ours[0]); i++)
		sigaddset(&blocked, not_ours[i]);
	if (rc == 0 && sigprocmask(SIG_SETMASK, &blocked, NULL) != 0)
		rc = sosie_err_sys(err, errno, "cannot block signals");
	return rc;
}

/* The next request; false: the parent has gone, or has closed. */
static bool next_request(int socket, int watch, struct signer_request *request)
{
	struct pollfd p[2] = {{.fd = socket, .events = POLLIN}, {.fd = watch, .events = POLLIN}};

	while (poll(p, 2, -1) < 0)
		if (errno != EINTR)
			return false;
	return p[1].revents == 0 && read(socket, request, sizeof(*request)) == (ssize_t)sizeof(*request);
}

static void serve(int socket, int watch, const struct evp_key *key)
{
	struct signer_request request;

	while (next_request(socket, watch, &request)) {
		struct signer_reply reply = {.number = request.number};

		if (sshsig_namespace_ok(request.name_space) &&
		    make_signature(key, request.name_space, request.hash, reply.sig, NULL) == 0)
			reply.made = 1;
		if (write(socket, &reply, sizeof(reply)) != (ssize_t)sizeof(reply))
			return;
	}
}

noreturn void signer_child(const char *path, int socket, pid_t parent)
{
	struct signer_hello hello;
	enum keyfile_kind kind = 0;
	struct evp_key *key = NULL;
	int watch, rc;

	memset(&hello, 0, sizeof(hello));
	(void)prctl(PR_SET_DUMPABLE, 0); /* before the key is here; a failure is told by the sandbox */
	watch = pidfd_open(parent, 0);
	if (watch < 0)
		rc = sosie_err_sys(&hello.err, errno, "cannot watch the parent");
	else
		rc = take_key(path, &kind, &hello.key, &key, &hello.err);
	if (rc == 0)
		rc = confine(socket, watch, parent, &hello.err);
	hello.kind = rc == 0 ? kind : 0;
	if (write(socket, &hello, sizeof(hello)) == (ssize_t)sizeof(hello) && rc == 0 && key)
		serve(socket, watch, key);
	_exit(0);
}

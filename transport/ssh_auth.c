/* SPDX-License-Identifier: MIT */
/*
 * Authentication by key: the key file first, where one is configured; the agent when there is none, or when
 * the file cannot sign (a passphrase). The host key has been judged before.
 */
#include "ssh.h"

#include "sosie/agent.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libssh2.h>

struct auth {
	char tried[300]; /* what was offered, for the error */
	bool usable;     /* something could be offered at all */
	bool locked;     /* the key file could not sign: missing, passphrase, public half, no key */
	bool agent;      /* one was asked */
	char why[160];   /* the key file could not sign */
};

static void tried_add(struct auth *a, const char *what)
{
	size_t at = strlen(a->tried);
	snprintf(a->tried + at, sizeof a->tried - at, "%s%s", at ? ", " : "", what);
}

/* 0: in. *refused: the other side says no to this key, or the key cannot be used; another one may be tried.
 */
static int auth_result(struct ssh_channel *c, int n, int64_t until, bool *refused, bool *again,
                       struct sosie_err *err)
{
	*again = n == LIBSSH2_ERROR_EAGAIN;
	if (*again)
		return ssh_setup_wait(c, until, "authentication", err);
	*refused = n == LIBSSH2_ERROR_AUTHENTICATION_FAILED || n == LIBSSH2_ERROR_PUBLICKEY_UNVERIFIED ||
	           n == LIBSSH2_ERROR_FILE || n == LIBSSH2_ERROR_METHOD_NOT_SUPPORTED ||
	           n == LIBSSH2_ERROR_KEYFILE_AUTH_FAILED;
	return !n || *refused ? 0 : ssh_error(c, SOSIE_EPEER, "authentication", err);
}

static int auth_file(struct ssh_channel *c, struct auth *a, int64_t until, bool *refused,
                     struct sosie_err *err)
{
	const char *identity = c->options->identity, *user = c->options->target.user;
	char path[4096], print[64], what[240];
	size_t len;
	bool again = true;
	int n = 0, rc = 0;
	snprintf(path, sizeof path, "%s.pub", identity);
	uint8_t *blob = ssh_public_key(path, &len);
	while (again && !rc) {
		n = libssh2_userauth_publickey_fromfile_ex(c->session, user, (unsigned)strlen(user),
		                                           blob ? path : NULL, identity, NULL);
		rc = auth_result(c, n, until, refused, &again, err);
	}
	if (!rc && *refused) {
		a->locked = n != LIBSSH2_ERROR_AUTHENTICATION_FAILED; /* it could not sign */
		a->usable = !a->locked;
		snprintf(a->why, sizeof a->why, "has a key that cannot be used here");
		if (blob)
			ssh_print_key(print, blob, len);
		snprintf(what, sizeof what, "key file %.100s%s%s", identity, blob ? " " : "",
		         blob ? print : "");
		if (a->usable)
			tried_add(a, what);
	}
	free(blob);
	return rc;
}

struct agent_signer {
	struct sosie_agent *agent;
	const void *blob;
	size_t len;
};

static LIBSSH2_USERAUTH_PUBLICKEY_SIGN_FUNC(sign_by_agent)
{
	struct agent_signer *s = *abstract;
	uint8_t *made = NULL;
	size_t made_len = 0;
	(void)session;
	if (sosie_agent_sign(s->agent, s->blob, s->len, data, data_len, &made, &made_len, NULL))
		return -1;
	*sig = made; /* libssh2 frees it by free(): no allocator of our own was given to the session */
	*sig_len = made_len;
	return 0;
}

static int auth_agent_key(struct ssh_channel *c, struct agent_signer *s, int64_t until, bool *refused,
                          struct sosie_err *err)
{
	void *abstract = s;
	bool again = true;
	int rc = 0;
	while (again && !rc) {
		int n = libssh2_userauth_publickey(c->session, c->options->target.user, s->blob, s->len,
		                                   sign_by_agent, &abstract);
		rc = auth_result(c, n, until, refused, &again, err);
	}
	return rc;
}

/* Offers the agent's keys: only the configured one when its public half is there. */
static int auth_agent(struct ssh_channel *c, struct auth *a, struct sosie_agent *agent, int64_t until,
                      bool *refused, struct sosie_err *err)
{
	char path[4096], print[64], what[220];
	const char *comment;
	size_t only_len = 0;
	unsigned count = 0;
	const char *identity = c->options->identity;
	int sys;
	bool given = identity && ssh_identity_of(identity, &sys) == SSH_IDENTITY_PUBLIC;
	snprintf(path, sizeof path, given ? "%s" : "%s.pub", identity ? identity : "");
	uint8_t *only = identity ? ssh_public_key(path, &only_len) : NULL;
	int rc = sosie_agent_list(agent, &count, err);
	for (unsigned i = 0; i < count && !rc && *refused; i++) {
		struct agent_signer s = {.agent = agent};
		sosie_agent_key(agent, i, &s.blob, &s.len, &comment);
		if (only && (s.len != only_len || memcmp(only, s.blob, s.len)))
			continue;
		a->usable = true;
		*refused = false;
		rc = auth_agent_key(c, &s, until, refused, err);
		ssh_print_key(print, s.blob, s.len);
		snprintf(what, sizeof what, "agent key %s (%.100s)", print, comment);
		if (*refused)
			tried_add(a, what);
	}
	free(only);
	return rc;
}

/* Why the file given as identity cannot sign, when that can be told by looking at it. */
static void look_at_identity(struct auth *a, const char *identity)
{
	int sys;
	switch (ssh_identity_of(identity, &sys)) {
	case SSH_IDENTITY_PRIVATE:
		return;
	case SSH_IDENTITY_PUBLIC:
		snprintf(a->why, sizeof a->why, "is the public half of a key, which cannot sign");
		break;
	case SSH_IDENTITY_LOCKED:
		snprintf(a->why, sizeof a->why, "has a passphrase");
		break;
	case SSH_IDENTITY_OTHER:
		snprintf(a->why, sizeof a->why, "is not a private key");
		break;
	case SSH_IDENTITY_UNREADABLE:
		snprintf(a->why, sizeof a->why, sys == ENOENT ? "does not exist" : "cannot be read: %s",
		         strerror(sys));
		break;
	}
	a->locked = true;
}

static const char *user_note(const struct sosie_target *t, char *dst, size_t size)
{
	dst[0] = '\0';
	if (t->user_assumed)
		snprintf(dst, size, "; no user was given in --to; %s, the local user, was tried", t->user);
	return dst;
}

static int no_key(const struct ssh_channel *c, const struct auth *a, struct sosie_err *err)
{
	const char *identity = c->options->identity;
	const struct sosie_target *t = &c->options->target;
	char note[160];
	user_note(t, note, sizeof note);
	if (identity)
		sosie_err_set(err, SOSIE_EAUTH, "no usable key for %s at %s: key file %.200s %s%s%s", t->user,
		              t->host, identity, a->why,
		              a->agent ? ", and the SSH agent does not have its key" : "", note);
	else
		sosie_err_set(err, SOSIE_EAUTH, "no key for %s at %s: --identity is not given%s%s", t->user,
		              t->host, a->agent ? ", and the SSH agent has no key" : "", note);
	return sosie_err_action(err,
	                        "give a private key without passphrase (Ed25519 or ECDSA) with "
	                        "--identity FILE%s",
	                        identity ? ", or load this one into an SSH agent: ssh-add" : "");
}

static int auth_refused(const struct ssh_channel *c, const struct auth *a, struct sosie_err *err)
{
	const struct sosie_target *t = &c->options->target;
	char note[160];
	if (!a->usable)
		return no_key(c, a, err);
	sosie_err_set(err, SOSIE_EAUTH, "%s does not accept our key for user %s: tried %s%s", t->host,
	              t->user, a->tried, user_note(t, note, sizeof note));
	if (t->user_assumed)
		return sosie_err_action(err,
		                        "name the user that receives at the standby: --to USER@%s…; if it is "
		                        "%s, register the key's public half there for the tenant",
		                        t->host, t->user);
	return sosie_err_action(err,
	                        "at the standby, register its public half for the tenant and put it into "
	                        "authorized_keys of %s "
	                        "(Ed25519 or ECDSA; RSA is not supported)",
	                        t->user);
}

int ssh_authenticate(struct ssh_channel *c, int64_t until, struct sosie_err *err)
{
	struct auth a = {.usable = false};
	struct sosie_agent *agent = NULL;
	bool refused = true;
	int rc = 0;
	if (c->options->identity) {
		look_at_identity(&a, c->options->identity);
		refused = a.locked;
		if (!a.locked)
			rc = auth_file(c, &a, until, &refused, err);
	}
	if (rc || !refused)
		return rc;
	if (!c->options->identity || a.locked) {
		rc = sosie_agent_open(until, &agent, err);
		if (!rc)
			rc = auth_agent(c, &a, agent, until, &refused, err);
		a.agent = agent != NULL;
		sosie_agent_close(agent);
	}
	if (rc && rc != -SOSIE_EAUTH)
		return rc;
	return refused ? auth_refused(c, &a, err) : 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * The algorithms that are offered, and the handshake. libssh2's own lists have arcfour, 3des, hmac-md5 and
 * group1: so all are set, both ways.
 */
#include "ssh.h"

#include <libssh2.h>

static const char kex_methods[] =
        "curve25519-sha256,curve25519-sha256@libssh.org,ecdh-sha2-nistp256,ecdh-sha2-nistp384,"
        "ecdh-sha2-nistp521,diffie-hellman-group16-sha512,diffie-hellman-group18-sha512,"
        "diffie-hellman-group14-sha256";

static const char crypt_methods[] = "aes128-ctr,aes256-ctr";

static const char mac_methods[] = "hmac-sha2-256,hmac-sha2-512";

static int methods_set(struct ssh_channel *c, const char *host_keys, struct sosie_err *err)
{
	const struct {
		int what;
		const char *list;
	} prefs[] = {
	        {LIBSSH2_METHOD_KEX, kex_methods},        {LIBSSH2_METHOD_HOSTKEY, host_keys},
	        {LIBSSH2_METHOD_CRYPT_CS, crypt_methods}, {LIBSSH2_METHOD_CRYPT_SC, crypt_methods},
	        {LIBSSH2_METHOD_MAC_CS, mac_methods},     {LIBSSH2_METHOD_MAC_SC, mac_methods},
	        {LIBSSH2_METHOD_COMP_CS, "none"},         {LIBSSH2_METHOD_COMP_SC, "none"},
	};
	for (size_t i = 0; i < sizeof prefs / sizeof prefs[0]; i++)
		if (libssh2_session_method_pref(c->session, prefs[i].what, prefs[i].list))
			return ssh_error(c, SOSIE_EUNSUPPORTED,
			                 "this libssh2 has none of the algorithms wanted", err);
	return 0;
}

static int handshake_known(struct ssh_channel *c, const struct ssh_known *k, int64_t until,
                           struct sosie_err *err)
{
	char host_keys[256];
	int n, rc;
	ssh_known_methods(k, &c->options->target, host_keys, sizeof host_keys);
	rc = methods_set(c, host_keys, err);
	while (!rc && (n = libssh2_session_handshake(c->session, c->fd)) != 0) {
		if (n == LIBSSH2_ERROR_EAGAIN)
			rc = ssh_setup_wait(c, until, "the SSH handshake", err);
		else if (n == LIBSSH2_ERROR_KEX_FAILURE || n == LIBSSH2_ERROR_KEY_EXCHANGE_FAILURE)
			rc = ssh_error(c, SOSIE_EPROTO,
			               "no SSH algorithm in common, or the key exchange failed", err);
		else
			rc = ssh_error(c, SOSIE_EPEER, "the SSH handshake", err);
	}
	return rc ? rc : ssh_known_verify(c, k, err);
}

int ssh_handshake(struct ssh_channel *c, int64_t until, struct sosie_err *err)
{
	struct ssh_known k = {.trusted = NULL};
	int rc = ssh_known_load(c, &k, err);
	if (!rc)
		rc = handshake_known(c, &k, until, err);
	ssh_known_free(&k);
	return rc;
}

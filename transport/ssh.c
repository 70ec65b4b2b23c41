/* SPDX-License-Identifier: MIT */
/*
 * A channel over SSH by libssh2, which only this file includes. Non-blocking throughout; every wait is poll()
 * on what libssh2_session_block_directions asks for, bounded by a limit, and looks at the stop flag each
 * SLICE_MS.
 *
 * Invariants (libssh2 1.10, measured: a rekey stalls a session for ever otherwise):
 *   - a write that has begun is finished with the same buffer and length before anything else is called on
 * the session. The one exception is a write that has not begun: with a peer's window of 0 libssh2 holds no
 * packet of ours, and only reading can open the window;
 *   - a read that has stopped in the middle of sending a window adjustment (`adjusting`) is finished before
 * the next write;
 *   - a keepalive is sent only while neither is pending and the socket takes it at once.
 * The host key is judged before anything of ours is told to the other side. What arrives while sending is
 * kept, up to KEEP_MAX. One deadline covers TCP connect to the started command; afterwards the stall limit
 * counts bytes that libssh2 took or gave.
 */
#include "agent.h"

#include "sosie/bytes.h"
#include "sosie/channel.h"
#include "sosie/digest.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <libssh2.h>

#define SLICE_MS 200
#define CLOSE_MS 1000
#define KEEP_MAX (4u << 20)
#define READ_STEP (64u << 10)
#define STDERR_MAX 400u
#define KNOWN_HOSTS_MAX (16u << 20)
#define PUBLIC_MAX 16384u
#define COMMAND "sosie-receive"

static const char kex_methods[] =
        "curve25519-sha256,curve25519-sha256@libssh.org,ecdh-sha2-nistp256,ecdh-sha2-nistp384,"
        "ecdh-sha2-nistp521,diffie-hellman-group16-sha512,diffie-hellman-group18-sha512,"
        "diffie-hellman-group14-sha256";
static const char crypt_methods[] = "aes128-ctr,aes256-ctr";
static const char mac_methods[] = "hmac-sha2-256,hmac-sha2-512";

struct ssh_connector {
	struct sosie_connector base;
	struct sosie_ssh_options options;
};

struct ssh_channel {
	struct sosie_channel base;
	const struct sosie_ssh_options *options;
	int fd;
	LIBSSH2_SESSION *session;
	LIBSSH2_CHANNEL *channel;
	bool writing;   /* a write was given up with its packet half sent: nothing may be called any more but
	                   free */
	bool adjusting; /* a read has to be finished before a write */
	bool dead;      /* the connection is lost */
	int64_t moved_ms; /* when a byte moved last */
	uint8_t *keep;
	size_t keep_at, keep_len, keep_size;
	size_t stderr_len;
	char stderr_text[STDERR_MAX];
};

/* --- waiting
 * ------------------------------------------------------------------------------------------------------ */
static int64_t now_ms(void)
{
	return sosie_mono_ms(sosie_clock_real());
}

static int stop_check(const struct ssh_channel *c, struct sosie_err *err)
{
	if (c->options->stop && *(const volatile bool *)c->options->stop)
		return sosie_err_set(err, SOSIE_EINTR, "interrupted");
	return 0;
}

static int poll_slice(const struct ssh_channel *c, short events, int64_t left, struct sosie_err *err)
{
	struct pollfd p = {c->fd, events, 0};
	int rc = stop_check(c, err);
	if (!rc && poll(&p, 1, (int)(left < SLICE_MS ? left : SLICE_MS)) < 0 && errno != EINTR)
		rc = sosie_err_sys(err, errno, "wait for %s", c->options->target.host);
	return rc;
}

static short wanted(const struct ssh_channel *c)
{
	int dir = libssh2_session_block_directions(c->session);
	short events = 0;
	if (dir & LIBSSH2_SESSION_BLOCK_INBOUND)
		events |= POLLIN;
	if (dir & LIBSSH2_SESSION_BLOCK_OUTBOUND)
		events |= POLLOUT;
	return events ? events : POLLIN;
}

/* While the connection is being made: waits a little, or says that the deadline has passed. */
static int setup_wait(struct ssh_channel *c, int64_t until, const char *step, struct sosie_err *err)
{
	int64_t left = until - now_ms();
	if (left > 0)
		return poll_slice(c, wanted(c), left, err);
	sosie_err_set(err, SOSIE_ETIMEOUT, "%s port %u: %s took longer than %u ms", c->options->target.host,
	              c->options->target.port, step, c->options->connect_ms);
	return sosie_err_action(err, "see whether the standby's sshd answers there");
}

static int ssh_error(struct ssh_channel *c, enum sosie_code code, const char *step, struct sosie_err *err)
{
	char *text = NULL, shown[256];
	int len = 0;
	libssh2_session_last_error(c->session, &text, &len, 0);
	sosie_escape(shown, sizeof shown, text ? text : "", text && len > 0 ? (size_t)len : 0);
	return sosie_err_set(err, code, "%s port %u: %s: %s", c->options->target.host,
	                     c->options->target.port, step, *shown ? shown : "connection lost");
}

/* --- TCP
 * ----------------------------------------------------------------------------------------------------------
 */
struct lookup {
	struct gaicb request;
	struct addrinfo hints;
	char host[256], service[8];
};

/* The resolver has no limit in time of its own: it runs aside. When it cannot be cancelled its memory stays
 * with it. */
static int resolve(struct ssh_channel *c, int64_t until, struct addrinfo **out, struct sosie_err *err)
{
	const struct sosie_target *t = &c->options->target;
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
		struct timespec slice = {0, SLICE_MS * 1000000L};
		gai_suspend(wait, 1, &slice);
		state = 0;
		rc = stop_check(c, err);
		if (!rc && now_ms() >= until)
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
	while (!failed && !rc && poll(&p, 1, SLICE_MS) <= 0) {
		rc = stop_check(c, err);
		if (!rc && now_ms() >= until)
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

static int tcp_connect(struct ssh_channel *c, int64_t until, struct sosie_err *err)
{
	struct addrinfo *list = NULL;
	int rc = resolve(c, until, &list, err);
	if (rc)
		return rc;
	rc = -SOSIE_EPEER;
	for (const struct addrinfo *a = list; a && rc && rc != -SOSIE_EINTR; a = a->ai_next) {
		int64_t now = now_ms(), share = a->ai_next ? now + (until - now) / 2 : until;
		rc = connect_one(c, a, share, err);
	}
	freeaddrinfo(list);
	return rc;
}

/* --- host keys
 * ---------------------------------------------------------------------------------------------------- */
static const struct host_key_type {
	const char *methods;
	int bits, type;
} host_key_types[] = {
        {"ssh-ed25519", LIBSSH2_KNOWNHOST_KEY_ED25519, LIBSSH2_HOSTKEY_TYPE_ED25519},
        {"ecdsa-sha2-nistp256", LIBSSH2_KNOWNHOST_KEY_ECDSA_256, LIBSSH2_HOSTKEY_TYPE_ECDSA_256},
        {"ecdsa-sha2-nistp384", LIBSSH2_KNOWNHOST_KEY_ECDSA_384, LIBSSH2_HOSTKEY_TYPE_ECDSA_384},
        {"ecdsa-sha2-nistp521", LIBSSH2_KNOWNHOST_KEY_ECDSA_521, LIBSSH2_HOSTKEY_TYPE_ECDSA_521},
        {"rsa-sha2-512,rsa-sha2-256", LIBSSH2_KNOWNHOST_KEY_SSHRSA, LIBSSH2_HOSTKEY_TYPE_RSA},
};
#define HOST_KEY_TYPES (sizeof host_key_types / sizeof host_key_types[0])

struct known {
	LIBSSH2_KNOWNHOSTS *trusted, *revoked;
};

/* One line of known_hosts. What libssh2 cannot read is skipped: it then makes no host known. */
static void known_line(struct known *k, const char *line, size_t len)
{
	static const char mark[] = "@revoked";
	size_t n = sizeof mark - 1;
	if (!len || *line != '@')
		(void)libssh2_knownhost_readline(k->trusted, line, len, LIBSSH2_KNOWNHOST_FILE_OPENSSH);
	else if (len > n && !memcmp(line, mark, n) && (line[n] == ' ' || line[n] == '\t'))
		(void)libssh2_knownhost_readline(k->revoked, line + n + 1, len - n - 1,
		                                 LIBSSH2_KNOWNHOST_FILE_OPENSSH);
}

static char *file_read(const char *path, size_t max, size_t *len)
{
	struct stat st;
	char *text = NULL;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	*len = 0;
	if (fd < 0)
		return NULL;
	if (!fstat(fd, &st) && S_ISREG(st.st_mode) && (size_t)st.st_size <= max &&
	    (text = malloc((size_t)st.st_size + 1))) {
		ssize_t n = 0;
		while (*len < (size_t)st.st_size &&
		       (n = read(fd, text + *len, (size_t)st.st_size - *len)) > 0)
			*len += (size_t)n;
		text[*len] = '\0';
	}
	close(fd);
	return text;
}

static int known_load(struct ssh_channel *c, struct known *k, struct sosie_err *err)
{
	size_t len;
	k->trusted = libssh2_knownhost_init(c->session);
	k->revoked = libssh2_knownhost_init(c->session);
	if (!k->trusted || !k->revoked)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for known hosts");
	char *text =
	        c->options->known_hosts ? file_read(c->options->known_hosts, KNOWN_HOSTS_MAX, &len) : NULL;
	if (!text)
		return 0; /* no file: no host is known */
	for (char *line = text; *line;) {
		size_t n = strcspn(line, "\n"), used = n;
		while (used && (line[used - 1] == '\r' || line[used - 1] == ' '))
			used--;
		known_line(k, line, used);
		line += n + (line[n] == '\n');
	}
	free(text);
	return 0;
}

static void known_free(struct known *k)
{
	if (k->trusted)
		libssh2_knownhost_free(k->trusted);
	if (k->revoked)
		libssh2_knownhost_free(k->revoked);
}

/* The name that known_hosts has for the target: HOST, or [HOST]:PORT for another port than 22. */
static void known_name(const struct sosie_target *t, char *dst, size_t size)
{
	if (t->port == 22)
		snprintf(dst, size, "%s", t->host);
	else
		snprintf(dst, size, "[%s]:%u", t->host, t->port);
}

static int known_check(LIBSSH2_KNOWNHOSTS *hosts, const char *name, int bits, const char *key, size_t len)
{
	struct libssh2_knownhost *found = NULL;
	return libssh2_knownhost_checkp(hosts, name, -1, key, len,
	                                LIBSSH2_KNOWNHOST_TYPE_PLAIN | LIBSSH2_KNOWNHOST_KEYENC_RAW | bits,
	                                &found);
}

/* As ssh does: a host on another port may also be listed by its bare name, but only a match counts there. */
static int known_judge(const struct known *k, const struct sosie_target *t, int bits, const char *key,
                       size_t len)
{
	char name[sizeof t->host + 16];
	known_name(t, name, sizeof name);
	if (known_check(k->revoked, name, bits, key, len) == LIBSSH2_KNOWNHOST_CHECK_MATCH ||
	    known_check(k->revoked, t->host, bits, key, len) == LIBSSH2_KNOWNHOST_CHECK_MATCH)
		return LIBSSH2_KNOWNHOST_CHECK_FAILURE;
	int rc = known_check(k->trusted, name, bits, key, len);
	if (rc == LIBSSH2_KNOWNHOST_CHECK_NOTFOUND && t->port != 22 &&
	    known_check(k->trusted, t->host, bits, key, len) == LIBSSH2_KNOWNHOST_CHECK_MATCH)
		rc = LIBSSH2_KNOWNHOST_CHECK_MATCH;
	return rc;
}

/* An entry of that type is there, whatever its key: no real key has these bytes. */
static bool known_has(const struct known *k, const struct sosie_target *t, int bits)
{
	char name[sizeof t->host + 16];
	known_name(t, name, sizeof name);
	return known_check(k->trusted, name, bits, "none", 4) == LIBSSH2_KNOWNHOST_CHECK_MISMATCH ||
	       (t->port != 22 &&
	        known_check(k->trusted, t->host, bits, "none", 4) == LIBSSH2_KNOWNHOST_CHECK_MISMATCH);
}

/* Types that the file has an entry for come first, so that a host with several keys shows the one that can be
 * compared. */
static void host_key_methods(const struct known *k, const struct sosie_target *t, char *dst, size_t size)
{
	size_t at = 0;
	dst[0] = '\0';
	for (unsigned pass = 0; pass < 2; pass++)
		for (size_t i = 0; i < HOST_KEY_TYPES; i++) {
			if (known_has(k, t, host_key_types[i].bits) != (pass == 0))
				continue;
			int n = snprintf(dst + at, size - at, "%s%s", at ? "," : "",
			                 host_key_types[i].methods);
			if (n > 0 && (size_t)n < size - at)
				at += (size_t)n;
		}
}

/* Base64 without padding, as ssh-keygen -l prints it. */
static void fingerprint_text(char dst[64], const uint8_t digest[32])
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	char *at = dst + 7;
	memcpy(dst, "SHA256:", 7);
	for (unsigned bit = 0; bit < 256; bit += 6) {
		unsigned byte = bit / 8,
		         v = (unsigned)digest[byte] << 8 | (byte + 1 < 32 ? digest[byte + 1] : 0u);
		*at++ = digits[v >> (10 - bit % 8) & 63];
	}
	*at = '\0';
}

static const char *file_shown(const struct sosie_ssh_options *o)
{
	return o->known_hosts ? o->known_hosts : "known_hosts (none is configured)";
}

static int host_key_refuse(const struct sosie_ssh_options *o, int verdict, bool other_type, const char *print,
                           struct sosie_err *err)
{
	char name[sizeof o->target.host + 16];
	known_name(&o->target, name, sizeof name);
	if (verdict == LIBSSH2_KNOWNHOST_CHECK_MISMATCH) {
		sosie_err_set(err, SOSIE_EHOSTKEY,
		              "the host key of %s has CHANGED: it is now %s, another than the one in %s",
		              name, print, file_shown(o));
		return sosie_err_action(err,
		                        "ask the standby's operator; if the change is theirs: ssh-keygen -R "
		                        "'%s' -f %s, then add the new key",
		                        name, file_shown(o));
	}
	if (verdict == LIBSSH2_KNOWNHOST_CHECK_FAILURE)
		return sosie_err_set(err, SOSIE_EHOSTKEY, "the host key %s of %s is revoked in %s", print,
		                     name, file_shown(o));
	sosie_err_set(err, SOSIE_EHOSTKEY, "the host key of %s is not known: it is %s, and %s has no %s",
	              name, print, file_shown(o),
	              other_type ? "key of that type for it, only others" : "line for it");
	return sosie_err_action(
	        err,
	        "compare it with what the standby's operator tells you, then: ssh-keyscan -p %u %s >> %s",
	        o->target.port, o->target.host, file_shown(o));
}

static int host_key_check(struct ssh_channel *c, const struct known *k, struct sosie_err *err)
{
	const struct sosie_ssh_options *o = c->options;
	size_t len;
	int type, bits = 0;
	char print[64];
	bool other = false;
	const char *key = libssh2_session_hostkey(c->session, &len, &type);
	const char *hash = libssh2_hostkey_hash(c->session, LIBSSH2_HOSTKEY_HASH_SHA256);
	if (!key || !hash)
		return ssh_error(c, SOSIE_EPROTO, "no host key", err);
	for (size_t i = 0; i < HOST_KEY_TYPES; i++) {
		if (host_key_types[i].type == type)
			bits = host_key_types[i].bits;
		other = other || known_has(k, &o->target, host_key_types[i].bits);
	}
	if (!bits)
		return sosie_err_set(err, SOSIE_EHOSTKEY, "%s has a host key of a type that is not accepted",
		                     o->target.host);
	int verdict = known_judge(k, &o->target, bits, key, len);
	if (verdict == LIBSSH2_KNOWNHOST_CHECK_MATCH)
		return 0;
	fingerprint_text(print, (const uint8_t *)hash);
	return host_key_refuse(o, verdict, other, print, err);
}

/* --- handshake
 * ---------------------------------------------------------------------------------------------------- */
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

static int handshake_known(struct ssh_channel *c, const struct known *k, int64_t until, struct sosie_err *err)
{
	char host_keys[256];
	int n, rc;
	host_key_methods(k, &c->options->target, host_keys, sizeof host_keys);
	rc = methods_set(c, host_keys, err);
	while (!rc && (n = libssh2_session_handshake(c->session, c->fd)) != 0) {
		if (n == LIBSSH2_ERROR_EAGAIN)
			rc = setup_wait(c, until, "the SSH handshake", err);
		else if (n == LIBSSH2_ERROR_KEX_FAILURE || n == LIBSSH2_ERROR_KEY_EXCHANGE_FAILURE)
			rc = ssh_error(c, SOSIE_EPROTO,
			               "no SSH algorithm in common, or the key exchange failed", err);
		else
			rc = ssh_error(c, SOSIE_EPEER, "the SSH handshake", err);
	}
	return rc ? rc : host_key_check(c, k, err);
}

static int handshake(struct ssh_channel *c, int64_t until, struct sosie_err *err)
{
	struct known k = {NULL, NULL};
	int rc = known_load(c, &k, err);
	if (!rc)
		rc = handshake_known(c, &k, until, err);
	known_free(&k);
	return rc;
}

/* --- authentication
 * ----------------------------------------------------------------------------------------------- */
struct auth {
	char tried[300]; /* what was offered, for the error */
	bool usable;     /* something could be offered at all */
	bool locked;     /* the key file could not be read: passphrase, or no key */
};

static void tried_add(struct auth *a, const char *what)
{
	size_t at = strlen(a->tried);
	snprintf(a->tried + at, sizeof a->tried - at, "%s%s", at ? ", " : "", what);
}

/* "SHA256:…" of a key blob. */
static void blob_print(char dst[64], const void *blob, size_t len)
{
	struct sosie_digest d;
	struct sosie_hash *h = sosie_hash_new();
	strcpy(dst, "?");
	if (!h)
		return;
	sosie_hash_plain(h);
	sosie_hash_add(h, blob, len);
	sosie_hash_end(h, &d);
	sosie_hash_free(h);
	fingerprint_text(dst, d.b);
}

static int digit64(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* The blob of IDENTITY.pub: "type base64 comment". malloc'd; NULL when there is no such file. */
static uint8_t *public_blob(const char *path, size_t *len)
{
	size_t text_len, at = 0;
	uint32_t bits = 0;
	unsigned have = 0;
	char *text = file_read(path, PUBLIC_MAX, &text_len);
	uint8_t *blob = text ? malloc(text_len + 1) : NULL;
	const char *s = blob ? strchr(text, ' ') : NULL;
	for (int d; s && (d = digit64(*++s)) >= 0;) {
		bits = bits << 6 | (uint32_t)d;
		have += 6;
		if (have >= 8) {
			have -= 8;
			blob[at++] = (uint8_t)(bits >> have);
		}
	}
	free(text);
	*len = at;
	if (at)
		return blob;
	free(blob);
	return NULL;
}

/* 0: in. *refused: the other side says no to this key, or the key cannot be used; another one may be tried.
 */
static int auth_result(struct ssh_channel *c, int n, int64_t until, bool *refused, bool *again,
                       struct sosie_err *err)
{
	*again = n == LIBSSH2_ERROR_EAGAIN;
	if (*again)
		return setup_wait(c, until, "authentication", err);
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
	uint8_t *blob = public_blob(path, &len);
	while (again && !rc) {
		n = libssh2_userauth_publickey_fromfile_ex(c->session, user, (unsigned)strlen(user),
		                                           blob ? path : NULL, identity, NULL);
		rc = auth_result(c, n, until, refused, &again, err);
	}
	if (!rc && *refused) {
		a->locked = n != LIBSSH2_ERROR_AUTHENTICATION_FAILED; /* it could not sign */
		a->usable = !a->locked;
		if (blob)
			blob_print(print, blob, len);
		snprintf(what, sizeof what, "key file %.100s%s%s%s", identity, blob ? " " : "",
		         blob ? print : "", a->locked ? " (not readable, or it has a passphrase)" : "");
		tried_add(a, what);
	}
	free(blob);
	return rc;
}

struct agent_signer {
	struct agent *agent;
	const void *blob;
	size_t len;
};

static LIBSSH2_USERAUTH_PUBLICKEY_SIGN_FUNC(sign_by_agent)
{
	struct agent_signer *s = *abstract;
	uint8_t *made = NULL;
	size_t made_len = 0;
	(void)session;
	if (agent_sign(s->agent, s->blob, s->len, data, data_len, &made, &made_len, NULL))
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
static int auth_agent(struct ssh_channel *c, struct auth *a, struct agent *agent, int64_t until,
                      bool *refused, struct sosie_err *err)
{
	char path[4096], print[64], what[220];
	const char *comment;
	size_t only_len = 0;
	unsigned count = 0;
	snprintf(path, sizeof path, "%s.pub", c->options->identity ? c->options->identity : "");
	uint8_t *only = c->options->identity ? public_blob(path, &only_len) : NULL;
	int rc = agent_list(agent, &count, err);
	for (unsigned i = 0; i < count && !rc && *refused; i++) {
		struct agent_signer s = {.agent = agent};
		agent_key(agent, i, &s.blob, &s.len, &comment);
		if (only && (s.len != only_len || memcmp(only, s.blob, s.len)))
			continue;
		a->usable = true;
		*refused = false;
		rc = auth_agent_key(c, &s, until, refused, err);
		blob_print(print, s.blob, s.len);
		snprintf(what, sizeof what, "agent key %s (%.100s)", print, comment);
		if (*refused)
			tried_add(a, what);
	}
	free(only);
	return rc;
}

static int auth_refused(const struct ssh_channel *c, const struct auth *a, struct sosie_err *err)
{
	const struct sosie_target *t = &c->options->target;
	if (!a->usable) {
		sosie_err_set(err, SOSIE_EAUTH, "no usable key for %s at %s: tried %s", t->user, t->host,
		              *a->tried ? a->tried : "ssh-agent, which has none");
		return sosie_err_action(
		        err,
		        "give a key file without passphrase (Ed25519 or ECDSA), or load the key: ssh-add");
	}
	sosie_err_set(err, SOSIE_EAUTH, "%s does not accept our key for user %s: tried %s", t->host, t->user,
	              a->tried);
	return sosie_err_action(err,
	                        "at the standby, register its public half for the tenant and put it into "
	                        "authorized_keys of %s "
	                        "(Ed25519 or ECDSA; RSA is not supported)",
	                        t->user);
}

static int authenticate(struct ssh_channel *c, int64_t until, struct sosie_err *err)
{
	struct auth a = {.usable = false};
	struct agent *agent = NULL;
	bool refused = true;
	int rc = 0;
	if (c->options->identity) {
		refused = false;
		rc = auth_file(c, &a, until, &refused, err);
	}
	if (rc || !refused)
		return rc;
	if (!c->options->identity || a.locked) {
		rc = agent_open(until, &agent, err);
		if (!rc)
			rc = auth_agent(c, &a, agent, until, &refused, err);
		else if (rc == -SOSIE_EAUTH)
			tried_add(&a, err->what);
		agent_close(agent);
	}
	if (rc && rc != -SOSIE_EAUTH)
		return rc;
	return refused ? auth_refused(c, &a, err) : 0;
}

static int command_start(struct ssh_channel *c, int64_t until, struct sosie_err *err)
{
	int rc = 0, n;
	while (!rc && !(c->channel = libssh2_channel_open_session(c->session))) {
		if (libssh2_session_last_errno(c->session) == LIBSSH2_ERROR_EAGAIN)
			rc = setup_wait(c, until, "opening an SSH channel", err);
		else
			rc = ssh_error(c, SOSIE_EPEER, "open an SSH channel", err);
	}
	while (!rc && (n = libssh2_channel_exec(c->channel, COMMAND)) != 0) {
		if (n == LIBSSH2_ERROR_EAGAIN)
			rc = setup_wait(c, until, "starting the receiver", err);
		else
			rc = ssh_error(c, SOSIE_EPEER, "start the receiver", err);
	}
	return rc;
}

/* --- reading
 * ------------------------------------------------------------------------------------------------------ */
static void stderr_read(struct ssh_channel *c)
{
	char buf[1024];
	ssize_t n;
	while ((n = libssh2_channel_read_stderr(c->channel, buf, sizeof buf)) > 0) {
		size_t room = STDERR_MAX - c->stderr_len, take = (size_t)n < room ? (size_t)n : room;
		memcpy(c->stderr_text + c->stderr_len, buf, take);
		c->stderr_len += take;
		c->moved_ms = now_ms();
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
		c->moved_ms = now_ms();
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
	int64_t until = now_ms() + CLOSE_MS;
	char byte[64];
	size_t got;
	struct sosie_err ignored;
	while (now_ms() < until && libssh2_channel_wait_closed(c->channel) == LIBSSH2_ERROR_EAGAIN) {
		if (poll_slice(c, wanted(c), until - now_ms(), &ignored) ||
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
	int64_t left = c->moved_ms + c->options->stall_ms - now_ms();
	if (left <= 0)
		return stalled(c, err);
	return poll_slice(c, wanted(c), left, err);
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

/* --- the channel
 * -------------------------------------------------------------------------------------------------- */
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
	c->moved_ms = now_ms();
	int rc = c->dead || c->writing ? sosie_err_set(err, SOSIE_EPEER, "the connection was lost")
	                               : adjust_finish(c, err);
	while (!rc && len) {
		ssize_t n = libssh2_channel_write(c->channel, at, len);
		if (n > 0) {
			c->writing = false;
			c->moved_ms = now_ms();
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
	int64_t until = now_ms() + (timeout_ms < 0 ? (int64_t)c->options->stall_ms : timeout_ms);
	*got = keep_take(c, data, size);
	if (*got)
		return 0;
	if (c->dead || c->writing)
		return sosie_err_set(err, SOSIE_EPEER, "the connection was lost");
	for (;;) {
		int rc = recv_once(c, data, size, got, err);
		if (rc || *got)
			return rc;
		int64_t left = until - now_ms();
		if (left <= 0)
			return timeout_ms ? stop_check(c, err) : 0;
		keepalive(c);
		rc = poll_slice(c, wanted(c), left, err);
		if (rc)
			return rc;
	}
}

/* A clean end where that goes quickly; then the socket is shut, so that freeing finds nothing to wait for. */
static void goodbye(struct ssh_channel *c)
{
	int64_t until = now_ms() + CLOSE_MS / 2;
	struct sosie_err ignored;
	bool clean = c->channel && !c->dead && !c->writing && !c->adjusting;
	while (clean && libssh2_channel_send_eof(c->channel) == LIBSSH2_ERROR_EAGAIN && now_ms() < until)
		if (poll_slice(c, wanted(c), until - now_ms(), &ignored))
			break;
	while (clean && libssh2_channel_close(c->channel) == LIBSSH2_ERROR_EAGAIN && now_ms() < until)
		if (poll_slice(c, wanted(c), until - now_ms(), &ignored))
			break;
	if (c->fd >= 0)
		shutdown(c->fd, SHUT_RDWR);
}

static void ssh_close(struct sosie_channel *ch)
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

static const struct sosie_channel_ops ssh_ops = {.send = ssh_send, .recv = ssh_recv, .close = ssh_close};

/* --- the connector
 * ------------------------------------------------------------------------------------------------ */
static pthread_once_t library_once = PTHREAD_ONCE_INIT;
static int library_state;

static void library_init(void)
{
	library_state = libssh2_init(0);
}

static int ssh_set_up(struct ssh_channel *c, struct sosie_err *err)
{
	int64_t until = now_ms() + c->options->connect_ms;
	int rc = tcp_connect(c, until, err);
	if (rc)
		return rc;
	c->session = libssh2_session_init();
	if (!c->session)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for an SSH session");
	libssh2_session_set_blocking(c->session, 0);
	rc = handshake(c, until, err);
	if (!rc)
		rc = authenticate(c, until, err);
	if (!rc)
		rc = command_start(c, until, err);
	if (!rc)
		libssh2_keepalive_config(c->session, 0, c->options->keepalive_s);
	return rc;
}

static int ssh_open(struct sosie_connector *base, struct sosie_channel **out, struct sosie_err *err)
{
	struct ssh_connector *connector = (struct ssh_connector *)base;
	struct sosie_err own;
	*out = NULL;
	err = err ? err : &own;
	pthread_once(&library_once, library_init);
	if (library_state)
		return sosie_err_set(err, SOSIE_EINTERNAL, "libssh2 cannot be initialised");
	struct ssh_channel *c = calloc(1, sizeof *c);
	if (!c)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for an SSH session");
	c->base.ops = &ssh_ops;
	c->options = &connector->options;
	c->fd = -1;
	int rc = ssh_set_up(c, err);
	if (rc) {
		c->dead = true;
		ssh_close(&c->base);
		return rc;
	}
	c->moved_ms = now_ms();
	*out = &c->base;
	return 0;
}

int sosie_ssh_connector(const struct sosie_ssh_options *options, struct sosie_connector **out,
                        struct sosie_err *err)
{
	struct ssh_connector *c = calloc(1, sizeof *c);
	*out = NULL;
	if (!c)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for an SSH connector");
	c->base.open = ssh_open;
	c->options = *options;
	if (!c->options.connect_ms)
		c->options.connect_ms = 20000;
	if (!c->options.stall_ms)
		c->options.stall_ms = 60000;
	if (!c->options.keepalive_s)
		c->options.keepalive_s = 15;
	*out = &c->base;
	return 0;
}

void sosie_ssh_connector_free(struct sosie_connector *c)
{
	free((struct ssh_connector *)c);
}

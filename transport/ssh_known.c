/* SPDX-License-Identifier: MIT */
/*
 * known_hosts and the judgement of a host key: it must be listed for the target and not revoked; unknown
 * means no. Which type of key is asked for first follows what the file has.
 */
#include "ssh.h"

#include "sosie/bytes.h"
#include "sosie/digest.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libssh2.h>

#define KNOWN_HOSTS_MAX (16u << 20)
#define KNOWN_LINE_MAX 8192u /* longer lines make no host known */

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

/* The name that known_hosts has for the target: HOST, or [HOST]:PORT for another port than 22. */
static void known_name(const struct sosie_target *t, char *dst, size_t size)
{
	if (t->port == 22)
		snprintf(dst, size, "%s", t->host);
	else
		snprintf(dst, size, "[%s]:%u", t->host, t->port);
}

/* Is the target among the names of a line, "NAME,NAME,…"? One whose names are hashed may be. */
static bool line_names(const char *names, const struct sosie_target *t)
{
	char name[sizeof t->host + 16];
	known_name(t, name, sizeof name);
	size_t len = strcspn(names, " \t");
	for (const char *end = names + len; names < end;) {
		size_t n = strcspn(names, ", \t");
		if ((n == strlen(name) && !memcmp(names, name, n)) ||
		    (n == strlen(t->host) && !memcmp(names, t->host, n)) || *names == '|')
			return true;
		names += n + (names + n < end);
	}
	return false;
}

/* "NAMES TYPE BASE64…": do the bytes of the key begin with its type? libssh2 looks at them only to compare,
 * and would take a damaged one for another key. */
static bool line_has_key(const char *line)
{
	const char *type = line + strcspn(line, " \t");
	uint8_t blob[KNOWN_LINE_MAX];
	type += strspn(type, " \t");
	size_t len = strcspn(type, " \t\n");
	const char *text = type + len + strspn(type + len, " \t");
	struct sosie_reader r;
	size_t got, n;
	if (!len || !sosie_unbase64(text, strcspn(text, " \t\n"), blob, sizeof blob, &got))
		return false;
	sosie_reader_init(&r, blob, got);
	const void *inner = sosie_get_ssh_string(&r, &n);
	if (!inner || n != len || memcmp(inner, type, len) || !r.left)
		return false;
	while (r.left && !r.failed) /* its fields fill it to the last byte */
		sosie_get_ssh_string(&r, &n);
	return sosie_reader_done(&r);
}

/* One line of known_hosts. What libssh2 cannot read is skipped: it then makes no host known. It takes the
 * last byte of a line that has no comment for the end of the line and drops it from the key: hence the
 * newline in its own copy. */
static void known_line(struct ssh_known *k, const struct sosie_target *t, const char *text, size_t text_len,
                       unsigned number)
{
	static const char mark[] = "@revoked";
	char line[KNOWN_LINE_MAX];
	size_t len = text_len + 1;
	if (len >= sizeof line)
		return;
	memcpy(line, text, text_len);
	line[text_len] = '\n';
	line[len] = '\0';
	size_t n = sizeof mark - 1;
	if (*line == '#' || *line == '\n')
		return;
	if (*line != '@' && !line_has_key(line))
		k->line = !k->line && line_names(line, t) ? number : k->line;
	else if (*line != '@')
		(void)libssh2_knownhost_readline(k->trusted, line, len, LIBSSH2_KNOWNHOST_FILE_OPENSSH);
	else if (len > n && !memcmp(line, mark, n) && (line[n] == ' ' || line[n] == '\t'))
		(void)libssh2_knownhost_readline(k->revoked, line + n + 1, len - n - 1,
		                                 LIBSSH2_KNOWNHOST_FILE_OPENSSH);
}

int ssh_known_load(struct ssh_channel *c, struct ssh_known *k, struct sosie_err *err)
{
	size_t len;
	k->trusted = libssh2_knownhost_init(c->session);
	k->revoked = libssh2_knownhost_init(c->session);
	if (!k->trusted || !k->revoked)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for known hosts");
	unsigned number = 1;
	errno = 0;
	char *text = c->options->known_hosts ? ssh_file_read(c->options->known_hosts, KNOWN_HOSTS_MAX, &len)
	                                     : NULL;
	k->sys = text ? 0 : errno;
	if (!text)
		return 0; /* no file: no host is known */
	for (char *line = text; *line; number++) {
		size_t n = strcspn(line, "\n"), used = n;
		while (used && (line[used - 1] == '\r' || line[used - 1] == ' '))
			used--;
		known_line(k, &c->options->target, line, used, number);
		line += n + (line[n] == '\n');
	}
	free(text);
	return 0;
}

void ssh_known_free(struct ssh_known *k)
{
	if (k->trusted)
		libssh2_knownhost_free(k->trusted);
	if (k->revoked)
		libssh2_knownhost_free(k->revoked);
}

static int known_check(LIBSSH2_KNOWNHOSTS *hosts, const char *name, int bits, const char *key, size_t len)
{
	struct libssh2_knownhost *found = NULL;
	return libssh2_knownhost_checkp(hosts, name, -1, key, len,
	                                LIBSSH2_KNOWNHOST_TYPE_PLAIN | LIBSSH2_KNOWNHOST_KEYENC_RAW | bits,
	                                &found);
}

/* As ssh does: a host on another port may also be listed by its bare name, but only a match counts there. */
static int known_judge(const struct ssh_known *k, const struct sosie_target *t, int bits, const char *key,
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
static bool known_has(const struct ssh_known *k, const struct sosie_target *t, int bits)
{
	char name[sizeof t->host + 16];
	known_name(t, name, sizeof name);
	return known_check(k->trusted, name, bits, "none", 4) == LIBSSH2_KNOWNHOST_CHECK_MISMATCH ||
	       (t->port != 22 &&
	        known_check(k->trusted, t->host, bits, "none", 4) == LIBSSH2_KNOWNHOST_CHECK_MISMATCH);
}

/* Types that the file has an entry for come first, so that a host with several keys shows the one that can be
 * compared. */
void ssh_known_methods(const struct ssh_known *k, const struct sosie_target *t, char *dst, size_t size)
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

static const char *known_hosts_shown(const struct sosie_ssh_options *o)
{
	return o->known_hosts ? o->known_hosts : "known_hosts (none is configured)";
}

static int host_key_changed(const struct sosie_ssh_options *o, const char *name, const char *print,
                            struct sosie_err *err)
{
	sosie_err_set(err, SOSIE_EHOSTKEY,
	              "the host key of %s has CHANGED: it is now %s, another than the one in %s", name, print,
	              known_hosts_shown(o));
	return sosie_err_action(err,
	                        "ask the standby's operator; if the change is theirs: ssh-keygen -R "
	                        "'%s' -f %s, then add the new key",
	                        name, known_hosts_shown(o));
}

/* What the file has instead of the key. */
static void host_key_missing(const struct sosie_ssh_options *o, const struct ssh_known *k, bool other_type,
                             char *dst, size_t size)
{
	const char *file = known_hosts_shown(o);
	if (k->sys == ENOENT)
		snprintf(dst, size, "there is no file %.200s", file);
	else if (k->sys)
		snprintf(dst, size, "%.200s cannot be read: %s", file, strerror(k->sys));
	else if (k->line)
		snprintf(dst, size, "line %u of %.200s cannot be read as a key", k->line, file);
	else
		snprintf(dst, size, "%.200s has no %s", file,
		         other_type ? "key of that type for it, only others" : "line for it");
}

static int host_key_refuse(const struct sosie_ssh_options *o, const struct ssh_known *k, int verdict,
                           bool other_type, const char *print, struct sosie_err *err)
{
	char name[sizeof o->target.host + 16], missing[320];
	known_name(&o->target, name, sizeof name);
	if (verdict == LIBSSH2_KNOWNHOST_CHECK_MISMATCH)
		return host_key_changed(o, name, print, err);
	if (verdict == LIBSSH2_KNOWNHOST_CHECK_FAILURE)
		return sosie_err_set(err, SOSIE_EHOSTKEY, "the host key %s of %s is revoked in %s", print,
		                     name, known_hosts_shown(o));
	host_key_missing(o, k, other_type, missing, sizeof missing);
	sosie_err_set(err, SOSIE_EHOSTKEY, "the host key of %s is not known: it is %s, and %s", name, print,
	              missing);
	return sosie_err_action(
	        err,
	        "compare it by telephone with the one that the standby's operator reads out; only "
	        "when they are the same: ssh-keyscan -p %u %s >> %s",
	        o->target.port, o->target.host, known_hosts_shown(o));
}

int ssh_known_verify(struct ssh_channel *c, const struct ssh_known *k, struct sosie_err *err)
{
	const struct sosie_ssh_options *o = c->options;
	size_t len;
	int type, bits = 0;
	char print[SOSIE_FINGERPRINT];
	struct sosie_digest digest;
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
	memcpy(digest.b, hash, sizeof digest.b);
	sosie_fingerprint(print, &digest);
	return host_key_refuse(o, k, verdict, other, print, err);
}

/* SPDX-License-Identifier: MIT */
/*
 * Signatures: one format everywhere, OpenSSH's SSHSIG with Ed25519 (PROTOCOL.sshsig of OpenSSH; RFC 8709, RFC
 * 8032), so that `ssh-keygen -Y verify` alone checks what sosie signs. A namespace for each kind of text: a
 * signature of one kind is worth nothing as another.
 *
 * What is signed travels as a *signed text*: the text, one newline, and the armoured signature over the text
 * (without that newline):
 *
 *	{"format":1,…}
 *	-----BEGIN SSH SIGNATURE-----
 *	U1NIU0lH…
 *	-----END SSH SIGNATURE-----
 *
 * The text is JSON and has no newline of its own, so the first one ends it. A signature has one spelling, the
 * one that ssh-keygen writes (Base64 in lines of 70): any other is refused, so that nobody can make a second
 * signed text out of one.
 *
 * A private key is held by a process of its own (engine/sign/signer_child.c), never by one that parses a
 * peer's bytes or talks to a network; or it stays behind an ssh-agent.
 */
#ifndef SOSIE_SIGN_H
#define SOSIE_SIGN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sosie/err.h"

#define SOSIE_PUBLIC_LEN 32u
#define SOSIE_PUBLIC_LINE 256u    /* bytes of a key as one line of text, comment and NUL included */
#define SOSIE_SIGNATURE_MAX 1024u /* bytes that a signature adds to its text */

/* Namespaces: each begins with "sosie-"; at most 63 printable characters. */
#define SOSIE_SIGN_MANIFEST "sosie-manifest" /* the source, over the manifest of an upload */
#define SOSIE_SIGN_SAME "sosie-same"         /* the source, over a "same" message */
#define SOSIE_SIGN_ACCEPTANCE                                                                                \
	"sosie-acceptance"                     /* the standby, over a point's or epoch's entry of the chain */
#define SOSIE_SIGN_STATEMENT "sosie-statement" /* the standby, over head statements and verdicts */
#define SOSIE_SIGN_HEAD "sosie-head"           /* the standby, over an exported head */

struct sosie_public {
	uint8_t b[SOSIE_PUBLIC_LEN]; /* Ed25519 */
};

/* "ssh-ed25519 BASE64 [COMMENT]", a line end behind it or not; another type is SOSIE_EUNSUPPORTED with a word
 * on what is taken, everything else that is no such line SOSIE_ECONFIG. comment: escaped, may be NULL. */
int sosie_public_parse(const char *line, size_t len, struct sosie_public *out, char comment[64],
                       struct sosie_err *err);
/* The line, without a line end. comment: escaped and cut, may be NULL. */
void sosie_public_line(const struct sosie_public *key, const char *comment, char dst[SOSIE_PUBLIC_LINE]);
/* Key id: the first 16 hex digits of the SHA-256 of the key blob, as for keys of senders. */
int sosie_public_id(const struct sosie_public *key, char id[17], struct sosie_err *err);
/* "SHA256:…" as ssh-keygen -l prints. */
int sosie_public_fingerprint(const struct sosie_public *key, char dst[64], struct sosie_err *err);
bool sosie_public_equal(const struct sosie_public *a, const struct sosie_public *b);

/* --- making keys: PATH (mode 0600, OpenSSH's own format, no passphrase) and PATH.pub, durable; neither may
 * exist (SOSIE_EEXISTS). comment: printable ASCII, at most 127 characters, else SOSIE_EUSAGE. */
int sosie_keygen(const char *path, const char *comment, struct sosie_public *out, struct sosie_err *err);

/* --- signing. A signer may be used by any thread: calls are serialised inside. */
struct sosie_signer;
/*
 * path: a private key file (OpenSSH's format, Ed25519, no passphrase, for its owner only): a child process
 * reads it, and only it has the key; it ends with the signer or with the calling process, not with the
 * calling thread. Or the public half (PATH.pub or any file with one public key line), or a private file with
 * a passphrase: then the agent at $SSH_AUTH_SOCK signs; that is tried once at opening. An agent has 5 s for
 * each answer.
 * SOSIE_ENOTFOUND, SOSIE_EDENIED (also: mode too open, said with the chmod), SOSIE_EUNSUPPORTED (another
 * type), SOSIE_ECONFIG (no key, or a damaged one), SOSIE_EAUTH (the agent lacks the key or is not there, or
 * no child can be started), SOSIE_ETIMEOUT (the agent does not answer).
 */
int sosie_signer_open(const char *path, struct sosie_signer **out, struct sosie_err *err);
/* A key in this process's own memory, from its 32-byte seed (RFC 8032, 5.1.5): for tests. */
int sosie_signer_seed(const uint8_t seed[32], struct sosie_signer **out, struct sosie_err *err);
void sosie_signer_close(struct sosie_signer *s);
const struct sosie_public *sosie_signer_public(const struct sosie_signer *s);
/* malloc'd signed text (and a NUL behind it, not counted). text has no newline and at least one byte, any
 * bytes otherwise. A child that died is started anew within the call, with the same file and key.
 * SOSIE_EAUTH: the signer is gone (no child can be started any more, the agent refuses); SOSIE_ETIMEOUT, or
 * SOSIE_EINTR at a signal: the agent has not answered. */
int sosie_sign(struct sosie_signer *s, const char *name_space, const char *text, size_t len, char **out,
               size_t *out_len, struct sosie_err *err);

/* --- checking. The bytes are hostile; nothing is allocated from their lengths. */
/* Length of the text in front of the signature; len itself when there is no newline: not signed at all. */
size_t sosie_signed_text(const void *bytes, size_t len);
/*
 * Whether bytes is a signed text with a good signature of one of count keys under this namespace. *which: its
 * index. Exactly one signature, nothing behind its last line, SHA-512 or SHA-256 as hash, version 1, key type
 * ssh-ed25519, nothing reserved. SOSIE_EAUTH: not signed, by another key (its fingerprint is named), for
 * another namespace, or damaged: the message says which.
 */
int sosie_signed_check(const void *bytes, size_t len, const char *name_space, const struct sosie_public *keys,
                       unsigned count, unsigned *which, struct sosie_err *err);
/* The key inside the signature, not checked at all: to find it in a list. False: not a signed text. */
bool sosie_signed_by(const void *bytes, size_t len, struct sosie_public *out);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * What the files of engine/sign share: the pieces of SSHSIG, key files, and the talk with the child that
 * holds a key.
 */
#ifndef SOSIE_SIGN_INTERNAL_H
#define SOSIE_SIGN_INTERNAL_H

#include <stdnoreturn.h>
#include <sys/types.h>

#include "engine/sign/evp.h"
#include "sosie/bytes.h"

#define SIGN_TYPE "ssh-ed25519"
#define SIGN_PREFIX "sosie-"     /* how every namespace of ours begins */
#define SIGN_NAMESPACE_MAX 63u   /* bytes of a namespace */
#define SIGN_BLOB_LEN 51u        /* of a public key: string SIGN_TYPE, string key */
#define SIGN_DATA_MAX 256u       /* of what is signed in the end: namespace, name of the hash, hash */
#define SIGN_TRIAL "sosie-trial" /* namespace of a signature that only shows that there is a signer */

/* --- public.c --------------------------------------------------------------------------------------------
 */
void public_blob(const struct sosie_public *key, uint8_t dst[SIGN_BLOB_LEN]);
/* A key blob, hostile. SOSIE_EUNSUPPORTED: of another type; SOSIE_ECONFIG: damaged. */
int public_from_blob(const void *blob, size_t len, struct sosie_public *out, struct sosie_err *err);

/* --- sshsig.c --------------------------------------------------------------------------------------------
 */
/* SHA-512 or SHA-256; the values are the lengths. */
enum sign_hash { SIGN_SHA256 = 32, SIGN_SHA512 = 64 };

/* What a signature says; the text is elsewhere. */
struct sshsig {
	struct sosie_public key;
	char name_space[SIGN_NAMESPACE_MAX + 1];
	enum sign_hash hash;
	uint8_t sig[EVP_SIG_LEN];
};
/* A namespace that we may sign for: SIGN_PREFIX and more, printable, at most SIGN_NAMESPACE_MAX. */
bool sshsig_namespace_ok(const char *name_space);
/* The bytes that an Ed25519 signature is over; their number. */
size_t sshsig_data(const char *name_space, enum sign_hash hash, const uint8_t *digest,
                   uint8_t dst[SIGN_DATA_MAX]);
/* The armoured signature, lines of 70, a line end behind the last; its length. */
size_t sshsig_armour(const struct sshsig *s, char dst[SOSIE_SIGNATURE_MAX]);
/* Exactly what sshsig_armour makes, hostile. SOSIE_EAUTH otherwise. */
int sshsig_parse(const char *text, size_t len, struct sshsig *out, struct sosie_err *err);

/* --- keyfile.c -------------------------------------------------------------------------------------------
 */
#define KEYFILE_MAX 16384u /* bytes of a key file that is read */
#define KEYFILE_COMMENT_MAX 127u
#define KEYFILE_TEXT 1024u /* bytes of one that is written */

enum keyfile_kind {
	KEYFILE_PRIVATE = 1,
	KEYFILE_LOCKED, /* a private key with a passphrase: only its public half is known */
	KEYFILE_PUBLIC, /* one public key line */
};
struct keyfile {
	enum keyfile_kind kind;
	struct sosie_public key;
	uint8_t seed[EVP_SEED_LEN]; /* PRIVATE; the caller wipes it */
};
/* The text of a key file; hostile. SOSIE_EUNSUPPORTED: another type or format; SOSIE_ECONFIG: damaged. Leaves
 * no copy of the seed elsewhere. */
int keyfile_parse(const char *text, size_t len, struct keyfile *out, struct sosie_err *err);
/* OpenSSH's format for a seed without a passphrase; the caller wipes dst. The length. check: any number. */
size_t keyfile_text(const uint8_t seed[EVP_SEED_LEN], const struct sosie_public *key, const char *comment,
                    uint32_t check, char dst[KEYFILE_TEXT]);
/* Reads and parses path: a regular file; what is private in it may be read by its owner only (SOSIE_EDENIED).
 */
int keyfile_read(const char *path, struct keyfile *out, struct sosie_err *err);

/* --- signer_child.c --------------------------------------------------------------------------------------
 */
/*
 * Parent and child talk over a socket that keeps the borders of messages. First the child says what the file
 * holds, or why it cannot go on; then it answers requests, one by one.
 */
struct signer_hello {
	uint32_t kind; /* enum keyfile_kind; 0: failed */
	struct sosie_public key;
	struct sosie_err err; /* failed */
};
struct signer_request {
	uint32_t number;
	char name_space[SIGN_NAMESPACE_MAX + 1];
	uint8_t hash[EVP_SHA512_LEN]; /* of the text */
};
struct signer_reply {
	uint32_t number; /* of the request */
	uint32_t made;   /* 1: there is a signature */
	uint8_t sig[EVP_SIG_LEN];
};
/* The child's whole life. parent: who forked. */
noreturn void signer_child(const char *path, int socket, pid_t parent);

/* --- signers ---------------------------------------------------------------------------------------------
 */
/* What signs: each fills in the bytes over sshsig_data(name_space, SIGN_SHA512, hash). */
struct signer_ops {
	int (*sign)(void *of, const char *name_space, const uint8_t hash[EVP_SHA512_LEN],
	            uint8_t sig[EVP_SIG_LEN], struct sosie_err *err);
	void (*close)(void *of);
};

/* signer_fork.c: *kind KEYFILE_PRIVATE: *out is the child's keeper; else only the key was found out. path is
 * copied. */
extern const struct signer_ops signer_fork_ops;
int signer_fork_open(const char *path, enum keyfile_kind *kind, struct sosie_public *key, void **out,
                     struct sosie_err *err);
/* signer_agent.c: nothing is asked yet; path is for messages. */
extern const struct signer_ops signer_agent_ops;
int signer_agent_open(const char *path, const struct sosie_public *key, void **out, struct sosie_err *err);

/* For tests: the child that holds the key now, 0: there is none; how many were started. */
struct signer_counters {
	pid_t child;
	unsigned started;
};
void signer_fork_counters(const void *of, struct signer_counters *out);
void signer_counters(const struct sosie_signer *s, struct signer_counters *out);

#endif

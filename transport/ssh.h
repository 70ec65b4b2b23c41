/* SPDX-License-Identifier: MIT */
/* What the files of the SSH channel share. Private to transport/ssh.c and its parts; needs no header of
 * libssh2. */
#ifndef SOSIE_TRANSPORT_SSH_H
#define SOSIE_TRANSPORT_SSH_H

#include "sosie/channel.h"

#define SSH_SLICE_MS 200
#define SSH_STDERR_MAX 400u

struct _LIBSSH2_SESSION;
struct _LIBSSH2_CHANNEL;
struct _LIBSSH2_KNOWNHOSTS;

struct ssh_channel {
	struct sosie_channel base;
	const struct sosie_ssh_options *options;
	int fd;
	struct _LIBSSH2_SESSION *session;
	struct _LIBSSH2_CHANNEL *channel;
	bool writing;   /* a write was given up with its packet half sent: nothing may be called any more but
	                   free */
	bool adjusting; /* a read has to be finished before a write */
	bool dead;      /* the connection is lost */
	int64_t moved_ms; /* when a byte moved last */
	uint8_t *keep;
	size_t keep_at, keep_len, keep_size;
	size_t stderr_len;
	char stderr_text[SSH_STDERR_MAX];
};

/* --- ssh_wait.c: all times are of the monotonic clock, in ms */
int64_t ssh_now_ms(void);
int ssh_stop_check(const struct ssh_channel *c, struct sosie_err *err); /* SOSIE_EINTR when the flag is set */
/* One poll of at most a slice, and of at most left ms. */
int ssh_poll(const struct ssh_channel *c, short events, int64_t left, struct sosie_err *err);
short ssh_wanted(const struct ssh_channel *c); /* what the session waits for, as events of poll() */
/* While the connection is being made: waits a little, or says that the deadline has passed. */
int ssh_setup_wait(struct ssh_channel *c, int64_t until, const char *step, struct sosie_err *err);
/* The session's last error, escaped; returns -code. */
int ssh_error(struct ssh_channel *c, enum sosie_code code, const char *step, struct sosie_err *err);

/* --- the steps to a channel, each bounded by until */
int ssh_tcp_connect(struct ssh_channel *c, int64_t until, struct sosie_err *err);
int ssh_handshake(struct ssh_channel *c, int64_t until, struct sosie_err *err); /* judges the host key too */
int ssh_authenticate(struct ssh_channel *c, int64_t until, struct sosie_err *err);
int ssh_command_start(struct ssh_channel *c, int64_t until, struct sosie_err *err);

/* --- ssh_channel.c */
extern const struct sosie_channel_ops ssh_channel_ops;
void ssh_close(struct sosie_channel *ch);

/* --- ssh_known.c */
struct ssh_known {
	struct _LIBSSH2_KNOWNHOSTS *trusted, *revoked;
	int sys;       /* errno when the file could not be read */
	unsigned line; /* of the target and without a readable key; 0: there is none */
};
int ssh_known_load(struct ssh_channel *c, struct ssh_known *k,
                   struct sosie_err *err); /* free it also after an error */
void ssh_known_free(struct ssh_known *k);
/* Types that the file has an entry for come first, so that a host with several keys shows the one that can be
 * compared. */
void ssh_known_methods(const struct ssh_known *k, const struct sosie_target *t, char *dst, size_t size);
int ssh_known_verify(struct ssh_channel *c, const struct ssh_known *k, struct sosie_err *err);

/* --- ssh_key.c */
/* A whole regular file of at most max bytes, malloc'd with a NUL behind it; NULL when it cannot be read. */
char *ssh_file_read(const char *path, size_t max, size_t *len);
/* "SHA256:…" of a key blob. */
void ssh_print_key(char dst[64], const void *blob, size_t len);
/* The blob of IDENTITY.pub: "type base64 comment". malloc'd; NULL when there is no such file, or no key in
 * it. */
uint8_t *ssh_public_key(const char *path, size_t *len);
/* What a file given as identity is, judged by its first bytes. */
enum ssh_identity {
	SSH_IDENTITY_PRIVATE,
	SSH_IDENTITY_PUBLIC,
	SSH_IDENTITY_LOCKED, /* a passphrase */
	SSH_IDENTITY_OTHER,
	SSH_IDENTITY_UNREADABLE,
};
enum ssh_identity ssh_identity_of(const char *path, int *sys);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * A client of ssh-agent (draft-miller-ssh-agent): lists keys and has data signed, with a limit in time. For
 * logins (transport/ssh_auth.c; libssh2's own client has no limit) and for signatures (sosie/sign.h). One
 * object belongs to one thread. The agent's words are hostile: every length in them is bounded.
 */
#ifndef SOSIE_AGENT_H
#define SOSIE_AGENT_H

#include <stddef.h>
#include <stdint.h>

#include "sosie/err.h"

struct sosie_agent;
/* The agent that SSH_AUTH_SOCK names (SOSIE_EAUTH: there is none); every later call ends by until_ms of the
 * monotonic clock (SOSIE_ETIMEOUT), or at a signal (SOSIE_EINTR). */
int sosie_agent_open(int64_t until_ms, struct sosie_agent **out, struct sosie_err *err);
void sosie_agent_close(struct sosie_agent *a); /* NULL is fine */
/* Asks for the keys, at most 32; then sosie_agent_key(i) for i below *count: blob and comment (escaped)
 * borrowed until the next sosie_agent_list or close. */
int sosie_agent_list(struct sosie_agent *a, unsigned *count, struct sosie_err *err);
void sosie_agent_key(const struct sosie_agent *a, unsigned i, const void **blob, size_t *len,
                     const char **comment);
/* The signature proper, without its algorithm name; malloc'd. SOSIE_EAUTH: the agent refuses, or lacks the
 * key of this blob. */
int sosie_agent_sign(struct sosie_agent *a, const void *blob, size_t blob_len, const void *data,
                     size_t data_len, uint8_t **sig, size_t *sig_len, struct sosie_err *err);

#endif

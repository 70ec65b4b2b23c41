/* SPDX-License-Identifier: MIT */
/* A client of ssh-agent (draft-miller-ssh-agent): lists keys and has data signed, with a limit in time that
 * libssh2's own client lacks. */
#ifndef TRANSPORT_AGENT_H
#define TRANSPORT_AGENT_H

#include "sosie/err.h"

#include <stddef.h>
#include <stdint.h>

struct agent;
/* The agent that SSH_AUTH_SOCK names; every later call ends by until_ms of the monotonic clock. */
int agent_open(int64_t until_ms, struct agent **out, struct sosie_err *err);
void agent_close(struct agent *a); /* NULL is fine */
/* Asks for the keys; then agent_key(i) for i below *count: blob and comment (escaped) borrowed until the next
 * agent_list or close. */
int agent_list(struct agent *a, unsigned *count, struct sosie_err *err);
void agent_key(const struct agent *a, unsigned i, const void **blob, size_t *len, const char **comment);
/* The signature proper, without its algorithm name; malloc'd. */
int agent_sign(struct agent *a, const void *blob, size_t blob_len, const void *data, size_t data_len,
               uint8_t **sig, size_t *sig_len, struct sosie_err *err);

#endif

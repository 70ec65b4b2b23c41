/* SPDX-License-Identifier: MIT */
/*
 * A channel: ordered bytes both ways with limits on time. SSH at the primary (transport/ssh.c and its parts),
 * standard input and output at the standby (transport/stdio.c), memory in tests (transport/pair.c). One
 * channel belongs to one thread.
 */
#ifndef SOSIE_CHANNEL_H
#define SOSIE_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sosie/clock.h"
#include "sosie/err.h"

struct sosie_channel;
struct sosie_channel_ops {
	/* Sends all len bytes, or fails (SOSIE_EPEER, SOSIE_ETIMEOUT when nothing moved for the channel's
	 * stall limit). What arrives meanwhile is kept for recv, so that two sides that both send do not
	 * lock. */
	int (*send)(struct sosie_channel *ch, const void *data, size_t len, struct sosie_err *err);
	/* Waits at most timeout_ms (0: looks only; -1: the stall limit) for at least one byte; *got = 0:
	 * nothing came in time. End of stream: SOSIE_EPEER, with what the other side wrote on its standard
	 * error in the message where there is any. */
	int (*recv)(struct sosie_channel *ch, void *data, size_t size, size_t *got, int timeout_ms,
	            struct sosie_err *err);
	void (*close)(struct sosie_channel *ch); /* frees it; never waits longer than a second */
};
struct sosie_channel {
	const struct sosie_channel_ops *ops;
};

int sosie_channel_send(struct sosie_channel *ch, const void *data, size_t len, struct sosie_err *err);
int sosie_channel_recv(struct sosie_channel *ch, void *data, size_t size, size_t *got, int timeout_ms,
                       struct sosie_err *err);
void sosie_channel_close(struct sosie_channel *ch); /* NULL is fine */

/* Who opens sessions: a worker asks for one of its own whenever it needs one. Thread-safe. */
struct sosie_connector {
	int (*open)(struct sosie_connector *c, struct sosie_channel **out, struct sosie_err *err);
};

/* [USER@]HOST[:PORT]/TENANT/GROUP or, with group NULL, the same without path. IPv6 in brackets. Port 22,
 * user: $USER or the system's. */
struct sosie_target {
	char user[64], host[256];
	uint16_t port;
	bool user_assumed; /* none was given: it is the local user's name */
};
int sosie_target_parse(const char *text, struct sosie_target *out, char *path, size_t path_size,
                       struct sosie_err *err);
/* USER@HOST:PORT, for messages; cut to size. Returns dst. */
#define SOSIE_TARGET_TEXT 400
const char *sosie_target_text(char *dst, size_t size, const struct sosie_target *target);

/* SSH over libssh2 (only transport/ssh.c and ssh_….c include it). All strings borrowed while the connector
 * lives. */
struct sosie_ssh_options {
	struct sosie_target target;
	const char *identity;    /* private key file, or NULL: the agent only */
	const char *known_hosts; /* must name the host; unknown or changed keys are refused before
	                            authentication */
	const bool *stop;        /* set by a signal handler: waits end with SOSIE_EINTR; may be NULL */
	uint32_t connect_ms;     /* from the first byte to the end of authentication, 20,000 */
	uint32_t stall_ms;       /* without a byte moving while something is due, 60,000 */
	uint32_t keepalive_s;    /* 15 */
	uint32_t send_buffer;    /* SO_SNDBUF, 0: the system's; tests use 4096 */
};
int sosie_ssh_connector(const struct sosie_ssh_options *options, struct sosie_connector **out,
                        struct sosie_err *err);
void sosie_ssh_connector_free(struct sosie_connector *c);

/* Descriptors 0 and 1, or any two. Not closed by close. */
int sosie_stdio_channel(int in, int out_fd, uint32_t stall_ms, struct sosie_channel **out,
                        struct sosie_err *err);

/* Two ends in memory, thread-safe against each other, for tests: bounded buffers of size bytes each way. */
int sosie_pair(size_t size, struct sosie_channel **a, struct sosie_channel **b, struct sosie_err *err);

#endif

/* SPDX-License-Identifier: MIT */
/* Waiting for a libssh2 session, in slices that look at the stop flag; and its last error as one of ours. */
#include "ssh.h"

#include "sosie/bytes.h"

#include <errno.h>
#include <poll.h>

#include <libssh2.h>

int64_t ssh_now_ms(void)
{
	return sosie_mono_ms(sosie_clock_real());
}

int ssh_stop_check(const struct ssh_channel *c, struct sosie_err *err)
{
	if (c->options->stop && __atomic_load_n(c->options->stop, __ATOMIC_RELAXED))
		return sosie_err_set(err, SOSIE_EINTR, "interrupted");
	return 0;
}

int ssh_poll(const struct ssh_channel *c, short events, int64_t left, struct sosie_err *err)
{
	struct pollfd p = {c->fd, events, 0};
	int rc = ssh_stop_check(c, err);
	if (!rc && poll(&p, 1, (int)(left < SSH_SLICE_MS ? left : SSH_SLICE_MS)) < 0 && errno != EINTR)
		rc = sosie_err_sys(err, errno, "wait for %s", c->options->target.host);
	return rc;
}

short ssh_wanted(const struct ssh_channel *c)
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
int ssh_setup_wait(struct ssh_channel *c, int64_t until, const char *step, struct sosie_err *err)
{
	int64_t left = until - ssh_now_ms();
	if (left > 0)
		return ssh_poll(c, ssh_wanted(c), left, err);
	sosie_err_set(err, SOSIE_ETIMEOUT, "%s port %u: %s took longer than %u ms", c->options->target.host,
	              c->options->target.port, step, c->options->connect_ms);
	return sosie_err_action(err, "see whether the standby's sshd answers there");
}

int ssh_error(struct ssh_channel *c, enum sosie_code code, const char *step, struct sosie_err *err)
{
	char *text = NULL, shown[256];
	int len = 0;
	libssh2_session_last_error(c->session, &text, &len, 0);
	sosie_escape(shown, sizeof shown, text ? text : "", text && len > 0 ? (size_t)len : 0);
	return sosie_err_set(err, code, "%s port %u: %s: %s", c->options->target.host,
	                     c->options->target.port, step, *shown ? shown : "connection lost");
}

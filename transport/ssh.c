/* SPDX-License-Identifier: MIT */
/*
 * The connector over SSH: TCP, handshake, host key, authentication, the started command; a file for each. The
 * host key is judged before anything of ours is told to the other side. All is non-blocking: every wait is
 * poll() on what libssh2_session_block_directions asks for, bounded by a limit, and looks at the stop flag
 * each SSH_SLICE_MS. One deadline covers TCP connect to the started command. libssh2 is known to
 * transport/ssh files only.
 */
#include "ssh.h"

#include <pthread.h>
#include <stdlib.h>

#include <libssh2.h>

struct ssh_connector {
	struct sosie_connector base;
	struct sosie_ssh_options options;
};

static pthread_once_t library_once = PTHREAD_ONCE_INIT;

static int library_state;

static void library_init(void)
{
	library_state = libssh2_init(0);
}

static int ssh_set_up(struct ssh_channel *c, struct sosie_err *err)
{
	int64_t until = ssh_now_ms() + c->options->connect_ms;
	int rc = ssh_tcp_connect(c, until, err);
	if (rc)
		return rc;
	c->session = libssh2_session_init();
	if (!c->session)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for an SSH session");
	libssh2_session_set_blocking(c->session, 0);
	rc = ssh_handshake(c, until, err);
	if (!rc)
		rc = ssh_authenticate(c, until, err);
	if (!rc)
		rc = ssh_command_start(c, until, err);
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
	c->base.ops = &ssh_channel_ops;
	c->options = &connector->options;
	c->fd = -1;
	int rc = ssh_set_up(c, err);
	if (rc) {
		c->dead = true;
		ssh_close(&c->base);
		return rc;
	}
	c->moved_ms = ssh_now_ms();
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

/* SPDX-License-Identifier: MIT */
/* The only file of sosied that knows SSH. */
#include "tools/common/stop.h"
#include "tools/sosied/connect.h"

void connect_limits(struct sosie_ssh_options *ssh)
{
	ssh->stop = stop_flag();
	ssh->connect_ms = 20000;
	ssh->stall_ms = 60000;
	ssh->keepalive_s = 15;
}

int connect_standby(void *arg, const struct sosie_config_standby *standby, struct sosie_connector **out,
                    struct sosie_err *err)
{
	struct sosie_ssh_options ssh = {
	        .target = standby->to,
	        .identity = standby->identity,
	        .known_hosts = standby->known_hosts,
	};

	(void)arg;
	connect_limits(&ssh);
	return sosie_ssh_connector(&ssh, out, err);
}

void disconnect_standby(void *arg, struct sosie_connector *connector)
{
	(void)arg;
	sosie_ssh_connector_free(connector);
}

/* SPDX-License-Identifier: MIT */
/* Connectors over SSH, as the mirror asks for them. */
#ifndef TOOLS_SOSIED_CONNECT_H
#define TOOLS_SOSIED_CONNECT_H

#include "sosie/mirror.h"

/* Times, and the flag that ends waits. */
void connect_limits(struct sosie_ssh_options *ssh);
/* For struct sosie_mirror_options; arg is not used. */
int connect_standby(void *arg, const struct sosie_config_standby *standby, struct sosie_connector **out,
                    struct sosie_err *err);
void disconnect_standby(void *arg, struct sosie_connector *connector);

#endif

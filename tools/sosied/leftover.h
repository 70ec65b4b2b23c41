/* SPDX-License-Identifier: MIT */
/* Groups that left the configuration while no daemon ran: what their views hold back would go unnoticed. */
#ifndef TOOLS_SOSIED_LEFTOVER_H
#define TOOLS_SOSIED_LEFTOVER_H

#include "sosie/config.h"

/* Logs a warning for each group below the state folder that keeps a view and that the configuration does not
 * name. Only tells: "sosie replicate" may keep its groups there too. Returns how many. */
unsigned leftover_tell(const struct sosie_config *config);

#endif

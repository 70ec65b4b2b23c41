/* SPDX-License-Identifier: MIT */
/* What systemd is told, sd_notify(3) by hand. Without $NOTIFY_SOCKET nothing is. */
#ifndef TOOLS_COMMON_NOTIFY_H
#define TOOLS_COMMON_NOTIFY_H

#include <stdint.h>

/* "READY=1", lines of assignments. Never blocks. */
void notify(const char *text);
/* "RELOADING=1" with the time that systemd wants beside it. */
void notify_reloading(void);
/* Milliseconds between two "WATCHDOG=1" that keep the watchdog content; 0: there is none for us. */
int64_t notify_watchdog_ms(void);

#endif

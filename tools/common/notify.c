/* SPDX-License-Identifier: MIT */
/* One datagram a message, to a socket in the filesystem or an abstract one. */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "sosie/log.h"
#include "tools/common/notify.h"

void notify(const char *text)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	size_t len = path ? strlen(path) : 0;
	int fd;

	if (len < 2 || len >= sizeof(to.sun_path) || (path[0] != '/' && path[0] != '@'))
		return;
	memcpy(to.sun_path, path, len);
	if (path[0] == '@')
		to.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	if (sendto(fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT,
	           (const struct sockaddr *)(const void *)&to,
	           (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)) < 0 &&
	    errno != EAGAIN)
		sosie_log(SOSIE_LOG_WARNING, "systemd could not be told: %s", strerror(errno));
	close(fd);
}

void notify_reloading(void)
{
	char text[80];
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	snprintf(text, sizeof(text), "RELOADING=1\nMONOTONIC_USEC=%lld",
	         (long long)ts.tv_sec * 1000000 + ts.tv_nsec / 1000);
	notify(text);
}

int64_t notify_watchdog_ms(void)
{
	const char *us = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
	char *end;
	long long limit;

	if (!us || (pid && strtol(pid, NULL, 10) != (long)getpid()))
		return 0;
	limit = strtoll(us, &end, 10);
	if (end == us || *end || limit < 1000)
		return 0;
	return limit / 1000 / 3 + 1;
}

/* SPDX-License-Identifier: MIT */
/* [USER@]HOST[:PORT][/PATH], as people type it. What cannot be a user or a host name is refused here, so that
 * nothing odd reaches a resolver, a log or a known_hosts file. */
#include "sosie/channel.h"

#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool word_valid(const char *s, size_t len, const char *extra)
{
	if (!len || s[0] == '-')
		return false;
	for (size_t i = 0; i < len; i++) {
		char c = s[i];
		bool alnum = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
		if (!alnum && (!c || !strchr(extra, c)))
			return false;
	}
	return true;
}

static int target_bad(const char *text, const char *why, struct sosie_err *err)
{
	char shown[200];
	sosie_err_set(err, SOSIE_EUSAGE, "target \"%s\": %s",
	              sosie_escape(shown, sizeof shown, text, strlen(text)), why);
	return sosie_err_action(err,
	                        "write it as [USER@]HOST[:PORT]/TENANT/GROUP, an IPv6 address in brackets");
}

static bool port_parse(const char *s, size_t len, uint16_t *port)
{
	uint32_t value = 0;
	if (!len || len > 5)
		return false;
	for (size_t i = 0; i < len; i++) {
		if (s[i] < '0' || s[i] > '9')
			return false;
		value = value * 10 + (uint32_t)(s[i] - '0');
	}
	if (!value || value > 65535)
		return false;
	*port = (uint16_t)value;
	return true;
}

static bool user_default(struct sosie_target *out)
{
	const char *name = getenv("USER");
	struct passwd entry, *found = NULL;
	char buf[4096];
	if (!name || !*name) {
		if (getpwuid_r(geteuid(), &entry, buf, sizeof buf, &found) || !found)
			return false;
		name = found->pw_name;
	}
	size_t len = strlen(name);
	if (len >= sizeof out->user || !word_valid(name, len, "._-$"))
		return false;
	memcpy(out->user, name, len + 1);
	return true;
}

/* host: what is left after user and path. */
static const char *host_parse(const char *host, size_t len, struct sosie_target *out)
{
	const char *name = host, *port = NULL, *end = host + len;
	size_t name_len;
	if (len && host[0] == '[') {
		const char *close = memchr(host, ']', len);
		if (!close)
			return "a bracket is not closed";
		name = host + 1;
		name_len = (size_t)(close - name);
		if (close + 1 < end && close[1] != ':')
			return "after the closing bracket only :PORT may follow";
		port = close + 1 < end ? close + 2 : NULL;
	} else {
		const char *colon = memchr(host, ':', len);
		name_len = colon ? (size_t)(colon - host) : len;
		port = colon ? colon + 1 : NULL;
		if (port && memchr(port, ':', (size_t)(end - port)))
			return "an IPv6 address needs brackets";
	}
	if (name_len >= sizeof out->host || !word_valid(name, name_len, name == host ? "._-" : ":.%_-"))
		return name_len ? "the host name has a character that host names do not have, or is too long"
		                : "the host is missing";
	memcpy(out->host, name, name_len);
	out->host[name_len] = '\0';
	if (port && !port_parse(port, (size_t)(end - port), &out->port))
		return "the port is not a number from 1 to 65535";
	return NULL;
}

int sosie_target_parse(const char *text, struct sosie_target *out, char *path, size_t path_size,
                       struct sosie_err *err)
{
	const char *slash = strchr(text, '/');
	size_t len = slash ? (size_t)(slash - text) : strlen(text);
	const char *at = memchr(text, '@', len);
	*out = (struct sosie_target){.port = 22};
	if (path_size)
		path[0] = '\0';
	if (slash) {
		size_t path_len = strlen(slash + 1);
		if (path_len >= path_size)
			return target_bad(
			        text, path_size ? "the path is too long" : "no path is expected here", err);
		memcpy(path, slash + 1, path_len + 1);
	}
	if (at) {
		size_t user_len = (size_t)(at - text);
		if (user_len >= sizeof out->user || !word_valid(text, user_len, "._-$"))
			return target_bad(
			        text, "the user is empty, too long or has a character that users do not have",
			        err);
		memcpy(out->user, text, user_len);
		out->user[user_len] = '\0';
	} else if (out->user_assumed = true, !user_default(out)) {
		return target_bad(text, "no user given, and the system does not say who you are", err);
	}
	const char *host = at ? at + 1 : text;
	const char *why = host_parse(host, len - (size_t)(host - text), out);
	return why ? target_bad(text, why, err) : 0;
}

const char *sosie_target_text(char *dst, size_t size, const struct sosie_target *target)
{
	bool address = strchr(target->host, ':') != NULL;

	snprintf(dst, size, "%s@%s%s%s:%u", target->user, address ? "[" : "", target->host,
	         address ? "]" : "", (unsigned)target->port);
	return dst;
}

/* SPDX-License-Identifier: MIT */
/*
 * The line of authorized_keys. Its command passes two readers: sshd takes it out of double quotes, in which
 * \" alone is special; then the login shell of the receiving user reads it, whichever that is. Between single
 * quotes sh, csh and fish agree on every character except the few that are refused here.
 */
#include <stdio.h>
#include <string.h>

#include "tools/sosie/command.h"

static bool can_be_quoted(const char *path)
{
	for (const char *at = path; *at; at++)
		if ((unsigned char)*at < 0x20 || *at == 0x7f || strchr("'\"\\!", *at))
			return false;
	return true;
}

static bool needs_quotes(const char *path)
{
	static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/._-+";

	return path[strspn(path, plain)] != '\0';
}

static int refuse(const char *what, const char *path, struct sosie_err *err)
{
	sosie_err_set(err, SOSIE_ECONFIG, "the path of %s cannot be quoted safely for a login shell", what);
	sosie_err_where(err, "%s", path);
	return sosie_err_action(
	        err, "use a path without quotes, backslash, exclamation mark and control characters");
}

/* " --group erp --group crm": names need no quotes. */
static void group_options(char *dst, size_t size, const struct sosie_key *key)
{
	size_t len = 0;

	dst[0] = '\0';
	for (unsigned i = 0; i < key->group_count && len < size; i++)
		len += (size_t)snprintf(dst + len, size - len, " --group %s", key->groups[i].s);
}

int authorized_keys_line(char *dst, size_t size, const char *receive, const char *store, const char *tenant,
                         const struct sosie_key *key, struct sosie_err *err)
{
	const char *quote = needs_quotes(receive) ? "'" : "";
	char comment[4 * sizeof(key->info.comment)], groups[SOSIE_KEY_GROUPS_MAX * (SOSIE_NAME_MAX + 10)];
	int n;

	if (!can_be_quoted(receive))
		return refuse("sosie-receive", receive, err);
	if (!can_be_quoted(store))
		return refuse("the store", store, err);
	sosie_escape(comment, sizeof(comment), key->info.comment, strlen(key->info.comment));
	group_options(groups, sizeof(groups), key);
	n = snprintf(dst, size, "restrict,command=\"%s%s%s --store '%s' --tenant %s --key %s%s\" %s %s%s%s",
	             quote, receive, quote, store, tenant, key->info.id, groups, key->info.type,
	             key->info.blob, comment[0] ? " " : "", comment);
	if (n < 0 || (size_t)n >= size)
		return sosie_err_set(err, SOSIE_EINTERNAL, "the line for authorized_keys is too long");
	return 0;
}

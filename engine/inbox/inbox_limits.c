/* SPDX-License-Identifier: MIT */
/*
 * What the standby allows: the tenant's limits, which the keeper writes as lines (docs/format.md, "Store"),
 * and the key, which is allowed as long as it is registered.
 */
#include "engine/inbox/internal.h"

#include "sosie/bytes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIMITS_SIZE 4096u
#define INBOX_STORE_FORMAT 1u
#define UPLOAD_BYTES_DEFAULT (1ull << 40)
#define UPLOADS_DEFAULT 4u
#define UPLOADS_MAX 64u

static int limits_bad(const char *path, struct sosie_err *err)
{
	sosie_err_set(err, SOSIE_ECORRUPT, "the limits for receivers are not readable");
	sosie_err_where(err, "%s", path);
	return sosie_err_action(err, "at the standby, start the keeper: it writes them anew");
}

static bool limit_line(struct sosie_inbox *in, const char *line, size_t len, bool *store)
{
	char hex[INBOX_ID_HEX + 1];
	const char *eq = memchr(line, '=', len);
	if (!eq)
		return false;
	size_t name = (size_t)(eq - line), left = len - name - 1;
	const char *value = eq + 1;
	if (name == 5 && !memcmp(line, "store", 5)) {
		if (left != INBOX_ID_HEX)
			return false;
		memcpy(hex, value, INBOX_ID_HEX);
		hex[INBOX_ID_HEX] = '\0';
		*store = true;
		return sosie_unhex(in->store.b, sizeof in->store.b, hex);
	}
	if (name == 12 && !memcmp(line, "upload_bytes", 12))
		return inbox_number(value, left, &in->limits.upload_bytes);
	if (name == 7 && !memcmp(line, "uploads", 7))
		return inbox_number(value, left, &in->limits.uploads);
	if (name == 5 && !memcmp(line, "parts", 5))
		return inbox_number(value, left, &in->limits.parts);
	return true; /* of a later release */
}

static bool limits_parse(struct sosie_inbox *in, const char *text, size_t len)
{
	bool store = false;
	in->limits = (struct inbox_limits){UPLOAD_BYTES_DEFAULT, UPLOADS_DEFAULT, SOSIE_PARTS_MAX};
	while (len) {
		const char *end = memchr(text, '\n', len);
		size_t line = end ? (size_t)(end - text) : len;
		if (line && !limit_line(in, text, line, &store))
			return false;
		text += line + (end ? 1 : 0);
		len -= line + (end ? 1 : 0);
	}
	if (!in->limits.uploads || in->limits.uploads > UPLOADS_MAX)
		in->limits.uploads = in->limits.uploads ? UPLOADS_MAX : 1;
	if (!in->limits.parts || in->limits.parts > SOSIE_PARTS_MAX)
		in->limits.parts = in->limits.parts ? SOSIE_PARTS_MAX : 1;
	return store;
}

int inbox_limits_read(struct sosie_inbox *in, struct sosie_err *err)
{
	struct inbox_path p;
	char *text;
	size_t len;
	const char *path = inbox_path_of(in, &p, "_outbox/limits");
	int rc = sosie_io_read_file(in->io, path, LIMITS_SIZE, &text, &len, err);
	if (rc == -SOSIE_ENOTFOUND) {
		sosie_err_set(err, SOSIE_ENOTFOUND, "the standby has no tenant %s in this store",
		              in->tenant.s);
		sosie_err_where(err, "%s", in->base);
		return sosie_err_action(err, "at the standby, add it: sosie tenant add");
	}
	if (rc)
		return rc;
	if (!limits_parse(in, text, len))
		rc = limits_bad(path, err);
	free(text);
	return rc;
}

/* "format" is the first member of sosie.json, as the keeper's side writes it: no JSON parser is needed to
 * read it. 0: it is not. */
static uint64_t store_format(const char *text, size_t len)
{
	static const char member[] = "\"format\"";
	uint64_t format = 0;
	size_t at = 0, digits = 0;
	while (at < len && strchr("{ \t\r\n", text[at]) && text[at])
		at++;
	if (len - at < sizeof member - 1 || memcmp(text + at, member, sizeof member - 1) != 0)
		return 0;
	at += sizeof member - 1;
	while (at < len && strchr(": \t\r\n", text[at]) && text[at])
		at++;
	while (at + digits < len && text[at + digits] >= '0' && text[at + digits] <= '9')
		digits++;
	return inbox_number(text + at, digits, &format) ? format : 0;
}

int inbox_store_check(struct sosie_inbox *in, const char *store, struct sosie_err *err)
{
	char path[INBOX_STORE_MAX + 16], *text = NULL;
	size_t len = 0;
	snprintf(path, sizeof path, "%s/sosie.json", store);
	int rc = sosie_io_read_file(in->io, path, LIMITS_SIZE, &text, &len, err);
	if (rc == -SOSIE_ENOTFOUND)
		return sosie_err_set(err, SOSIE_ENOTSTORE, "the standby's folder is not a store");
	if (rc)
		return rc;
	uint64_t format = store_format(text, len);
	free(text);
	if (!format)
		return sosie_err_set(err, SOSIE_ECORRUPT, "the standby's store does not say its format");
	if (format <= INBOX_STORE_FORMAT)
		return 0;
	sosie_err_set(err, SOSIE_ENEWER, "the standby's store is of format %llu, its sosie-receive knows %u",
	              (unsigned long long)format, INBOX_STORE_FORMAT);
	return sosie_err_action(err, "at the standby, install the release that the store was written with");
}

int inbox_key_check(struct sosie_inbox *in, struct sosie_err *err)
{
	struct inbox_path p;
	struct sosie_stat st;
	int rc = sosie_io_stat(in->io, inbox_path_of(in, &p, "_keys/%s.json", in->key), &st, err);
	if (rc != -SOSIE_ENOTFOUND)
		return rc;
	sosie_err_set(err, SOSIE_EAUTH, "key %s is not registered for tenant %s", in->key, in->tenant.s);
	return sosie_err_action(
	        err, "register the key at the standby, and remove it from authorized_keys if it was revoked");
}

int inbox_allowed(struct sosie_inbox *in, const struct sosie_name *group, struct sosie_err *err)
{
	bool named = in->group_count == 0;
	for (unsigned i = 0; i < in->group_count; i++)
		named = named || strcmp(in->groups[i].s, group->s) == 0;
	if (named)
		return inbox_key_check(in, err);
	/* A code that the session survives: other groups share it. */
	sosie_err_set(err, SOSIE_ENAME, "key %s of tenant %s is not for the group %s", in->key, in->tenant.s,
	              group->s);
	return sosie_err_action(err,
	                        "at the standby, register the key for this group: sosie key add --group");
}

int inbox_key_write(struct sosie_inbox *in, const char *path, struct sosie_err *err)
{
	struct sosie_file *f;
	int rc = sosie_io_openat(in->io, path, SOSIE_WRITE | SOSIE_CREATE | SOSIE_EXCL, INBOX_FILE_MODE, &f,
	                         err);
	if (rc)
		return rc;
	rc = sosie_io_pwrite(in->io, f, in->key, INBOX_KEY_HEX, 0, err);
	int closed = sosie_io_close(in->io, f, rc ? NULL : err);
	return rc ? rc : closed;
}

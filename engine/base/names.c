/* SPDX-License-Identifier: MIT */
/* The allowed set of names, checked byte by byte without the locale. */
#include <string.h>

#include "sosie/names.h"

static const char *kind_word(enum sosie_name_kind kind)
{
	switch (kind) {
	case SOSIE_NAME_TENANT:
		return "tenant";
	case SOSIE_NAME_GROUP:
		return "group";
	case SOSIE_NAME_VOLUME:
		return "volume";
	case SOSIE_NAME_ATTACHMENT:
		return "attachment";
	}
	return "name";
}

static bool may_have_dots(enum sosie_name_kind kind)
{
	return kind == SOSIE_NAME_VOLUME || kind == SOSIE_NAME_ATTACHMENT;
}

static bool is_letter_or_digit(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

static bool is_allowed(const char *text, size_t len, bool dots)
{
	if (len == 0 || len > SOSIE_NAME_MAX || !is_letter_or_digit(text[0]))
		return false;
	for (size_t i = 1; i < len; i++) {
		char c = text[i];
		if (!is_letter_or_digit(c) && c != '_' && c != '-' && !(dots && c == '.'))
			return false;
	}
	return true;
}

static int set_bounded(struct sosie_name *dst, enum sosie_name_kind kind, const char *text, size_t len,
                       struct sosie_err *err)
{
	char shown[4 * SOSIE_NAME_MAX + 1];

	if (!is_allowed(text, len, may_have_dots(kind)))
		return sosie_err_set(
		        err, SOSIE_ENAME,
		        "\"%s\" is no name for a %s: allowed are a letter or digit, then letters, digits, "
		        "%s'_' and '-', 1 to %d in all",
		        sosie_escape(shown, sizeof(shown), text, len), kind_word(kind),
		        may_have_dots(kind) ? "'.', " : "", SOSIE_NAME_MAX);
	memcpy(dst->s, text, len);
	dst->s[len] = '\0';
	return 0;
}

int sosie_name_set(struct sosie_name *dst, enum sosie_name_kind kind, const char *text, struct sosie_err *err)
{
	return set_bounded(dst, kind, text, strlen(text), err);
}

int sosie_name_pair(const char *text, struct sosie_name *tenant, struct sosie_name *group,
                    struct sosie_err *err)
{
	const char *slash = strchr(text, '/');
	size_t len = slash ? (size_t)(slash - text) : strlen(text);
	char shown[160];
	int rc;

	if (!group)
		return sosie_name_set(tenant, SOSIE_NAME_TENANT, text, err);
	if (!slash)
		return sosie_err_set(err, SOSIE_ENAME, "\"%s\" names no group: write it as TENANT/GROUP",
		                     sosie_escape(shown, sizeof(shown), text, len));
	rc = set_bounded(tenant, SOSIE_NAME_TENANT, text, len, err);
	if (rc == 0)
		rc = sosie_name_set(group, SOSIE_NAME_GROUP, slash + 1, err);
	return rc;
}

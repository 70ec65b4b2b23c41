/* SPDX-License-Identifier: MIT */
/* Paths in a tenant's folders, what a folder holds, names of an upload's files. */
#include "engine/inbox/internal.h"

#include "sosie/bytes.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAMES_MAX 65536u /* names in one folder that are looked at */

const char *inbox_path_of(const struct sosie_inbox *in, struct inbox_path *p, const char *fmt, ...)
{
	va_list args;
	size_t base = strlen(in->base);
	memcpy(p->s, in->base, base);
	p->s[base] = '/';
	va_start(args, fmt);
	int n = vsnprintf(p->s + base + 1, sizeof p->s - base - 1, fmt, args);
	va_end(args);
	assert(n > 0 && (size_t)n < sizeof p->s - base - 1); /* all parts are bounded names */
	return p->s;
}

const char *inbox_group_dir(const struct sosie_inbox *in, struct inbox_path *p,
                            const struct sosie_name *group)
{
	return inbox_path_of(in, p, "_inbox/%s", group->s);
}

const char *inbox_upload_file(const struct sosie_inbox *in, struct inbox_path *p,
                              const struct sosie_name *group, const struct sosie_upload_id *id,
                              const char *suffix)
{
	char hex[INBOX_ID_HEX + 1];
	sosie_hex(hex, id->b, sizeof id->b);
	return inbox_path_of(in, p, "_inbox/%s/%s.%s", group->s, hex, suffix);
}

const char *inbox_answer_file(const struct sosie_inbox *in, struct inbox_path *p,
                              const struct sosie_name *group, const struct sosie_upload_id *id,
                              const char *suffix)
{
	char hex[INBOX_ID_HEX + 1];
	sosie_hex(hex, id->b, sizeof id->b);
	return inbox_path_of(in, p, "_outbox/%s/%s.%s", group->s, hex, suffix);
}

static int names_add(void *arg, const char *name, enum sosie_file_kind kind)
{
	struct inbox_names *n = arg;
	size_t len = strlen(name);
	if (len > SOSIE_NAME_MAX)
		return 0;
	if (n->count == NAMES_MAX)
		return 1;
	if (n->count == n->size) {
		size_t size = n->size ? 2 * n->size : 64;
		struct inbox_name *list = realloc(n->list, size * sizeof *list);
		n->memory = !list;
		if (!list)
			return 1;
		n->list = list;
		n->size = size;
	}
	memcpy(n->list[n->count].s, name, len + 1);
	n->list[n->count++].kind = kind;
	return 0;
}

/* The caller frees n->list, also after an error. A folder that is not there has no names. */
int inbox_names_of(struct sosie_inbox *in, const char *dir, struct inbox_names *n, struct sosie_err *err)
{
	*n = (struct inbox_names){0};
	int rc = sosie_io_list(in->io, dir, names_add, n, err);
	if (rc == -SOSIE_ENOTFOUND)
		return 0;
	if (rc < 0 && !n->memory && n->count < NAMES_MAX)
		return rc;
	if (n->memory)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory to look at the inbox");
	if (n->count == NAMES_MAX) {
		sosie_err_set(err, SOSIE_EQUOTA, "the inbox of tenant %s holds too many files", in->tenant.s);
		return sosie_err_action(err, "see whether the standby's keeper runs: it empties the inbox");
	}
	return 0;
}

bool inbox_number(const char *s, size_t len, uint64_t *out)
{
	uint64_t v = 0;
	if (!len || len > 20)
		return false;
	for (size_t i = 0; i < len; i++)
		if (s[i] < '0' || s[i] > '9' || !sosie_mul_u64(v, 10, &v) ||
		    !sosie_add_u64(v, (uint64_t)(s[i] - '0'), &v))
			return false;
	*out = v;
	return true;
}

/* UPLOAD.SUFFIX: false for anything else. */
bool inbox_upload_name(const char *name, struct sosie_upload_id *id, const char **suffix)
{
	char hex[INBOX_ID_HEX + 1];
	if (strnlen(name, INBOX_ID_HEX + 2) < INBOX_ID_HEX + 2 || name[INBOX_ID_HEX] != '.')
		return false;
	memcpy(hex, name, INBOX_ID_HEX);
	hex[INBOX_ID_HEX] = '\0';
	*suffix = name + INBOX_ID_HEX + 1;
	return sosie_unhex(id->b, sizeof id->b, hex);
}

bool inbox_id_equal(const struct sosie_upload_id *a, const struct sosie_upload_id *b)
{
	return !memcmp(a->b, b->b, sizeof a->b);
}

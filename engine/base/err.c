/* SPDX-License-Identifier: MIT */
/* Error objects: fixed memory, no allocation, no locale. A text may be built from the object's own old text.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/text.h"
#include "sosie/err.h"

struct code_row {
	enum sosie_code code;
	const char *name;
	enum sosie_class class;
};

static const struct code_row code_rows[] = {
#define SOSIE_X(id, number, name, class) {id, name, SOSIE_CLASS_##class},
        SOSIE_CODES(SOSIE_X)
#undef SOSIE_X
};

#define CODE_ROWS (sizeof(code_rows) / sizeof(code_rows[0]))

static const struct code_row *find_row(enum sosie_code code)
{
	for (size_t i = 0; i < CODE_ROWS; i++)
		if (code_rows[i].code == code)
			return &code_rows[i];
	return NULL;
}

void sosie_err_clear(struct sosie_err *err)
{
	if (!err)
		return;
	err->code = SOSIE_OK;
	err->sys = 0;
	err->what[0] = err->where[0] = err->action[0] = '\0';
}

__attribute__((format(printf, 3, 0))) static void put_text(char *dst, size_t size, const char *fmt,
                                                           va_list ap)
{
	char raw[sizeof(((struct sosie_err *)NULL)->what)];

	if (vsnprintf(raw, sizeof(raw), fmt, ap) < 0)
		raw[0] = '\0';
	sosie_text_clean(dst, size, raw);
}

__attribute__((format(printf, 3, 0))) static void start(struct sosie_err *err, enum sosie_code code,
                                                        const char *fmt, va_list ap)
{
	char text[sizeof(err->what)];

	put_text(text, sizeof(text), fmt, ap);
	sosie_err_clear(err);
	err->code = code;
	memcpy(err->what, text, strlen(text) + 1);
}

int sosie_err_set(struct sosie_err *err, enum sosie_code code, const char *fmt, ...)
{
	va_list ap;

	if (err) {
		va_start(ap, fmt);
		start(err, code, fmt, ap);
		va_end(ap);
	}
	return -(int)code;
}

static enum sosie_code code_from_sys(int sys)
{
	switch (sys) {
	case ENOSPC:
	case EDQUOT:
		return SOSIE_ENOSPACE;
	case EFBIG:
		return SOSIE_ESIZE;
	case EACCES:
	case EPERM:
	case EROFS:
		return SOSIE_EDENIED;
	case ENOENT:
		return SOSIE_ENOTFOUND;
	case ENOMEM:
		return SOSIE_ENOMEM;
	case EOPNOTSUPP:
		return SOSIE_EUNSUPPORTED;
	case EEXIST:
		return SOSIE_EEXISTS;
	default:
		return SOSIE_EIO;
	}
}

int sosie_err_sys(struct sosie_err *err, int sys, const char *fmt, ...)
{
	enum sosie_code code = code_from_sys(sys);
	va_list ap;

	if (!err)
		return -(int)code;
	va_start(ap, fmt);
	start(err, code, fmt, ap);
	va_end(ap);
	err->sys = sys;

	const char *reason = strerrordesc_np(sys);
	size_t at = strlen(err->what);
	if (reason)
		snprintf(err->what + at, sizeof(err->what) - at, "%s%s", at ? ": " : "", reason);
	else
		snprintf(err->what + at, sizeof(err->what) - at, "%serror %d", at ? ": " : "", sys);
	return -(int)code;
}

int sosie_err_where(struct sosie_err *err, const char *fmt, ...)
{
	char text[sizeof(err->where)];
	va_list ap;

	if (!err)
		return -SOSIE_EINTERNAL;
	va_start(ap, fmt);
	put_text(text, sizeof(text), fmt, ap);
	va_end(ap);
	memcpy(err->where, text, strlen(text) + 1);
	return -(int)err->code;
}

int sosie_err_action(struct sosie_err *err, const char *fmt, ...)
{
	char text[sizeof(err->action)];
	va_list ap;

	if (!err)
		return -SOSIE_EINTERNAL;
	va_start(ap, fmt);
	put_text(text, sizeof(text), fmt, ap);
	va_end(ap);
	memcpy(err->action, text, strlen(text) + 1);
	return -(int)err->code;
}

int sosie_err_wrap(struct sosie_err *err, const char *fmt, ...)
{
	char context[sizeof(err->what)];
	char text[2 * sizeof(err->what) + 2];
	va_list ap;

	if (!err)
		return -SOSIE_EINTERNAL;
	va_start(ap, fmt);
	put_text(context, sizeof(context), fmt, ap);
	va_end(ap);
	snprintf(text, sizeof(text), "%s: %s", context, err->what);
	sosie_text_clean(err->what, sizeof(err->what), text);
	return -(int)err->code;
}

const char *sosie_code_name(enum sosie_code code)
{
	const struct code_row *row = find_row(code);

	return row ? row->name : "unknown";
}

enum sosie_class sosie_code_class(enum sosie_code code)
{
	const struct code_row *row = find_row(code);

	return row ? row->class : SOSIE_CLASS_FATAL;
}

const char *sosie_class_name(enum sosie_class class)
{
	switch (class) {
	case SOSIE_CLASS_NONE:
		return "none";
	case SOSIE_CLASS_USAGE:
		return "usage";
	case SOSIE_CLASS_RETRY:
		return "retry";
	case SOSIE_CLASS_FATAL:
		return "fatal";
	case SOSIE_CLASS_OPERATOR:
		return "operator";
	}
	return "fatal";
}

int sosie_code_exit(enum sosie_code code)
{
	switch (sosie_code_class(code)) {
	case SOSIE_CLASS_NONE:
		return 0;
	case SOSIE_CLASS_USAGE:
		return 2;
	case SOSIE_CLASS_OPERATOR:
		return 3;
	case SOSIE_CLASS_RETRY:
		return 4;
	case SOSIE_CLASS_FATAL:
		break;
	}
	return 1;
}

int sosie_code_from_name(const char *name)
{
	for (size_t i = 0; i < CODE_ROWS; i++)
		if (strcmp(code_rows[i].name, name) == 0)
			return (int)code_rows[i].code;
	return -1;
}

const char *sosie_err_line(const struct sosie_err *err, char *buf, size_t size)
{
	bool where = err->where[0] != '\0', action = err->action[0] != '\0';

	snprintf(buf, size, "%s%s%s%s%s%s", err->what, where ? " (" : "", err->where, where ? ")" : "",
	         action ? ": " : "", err->action);
	return buf;
}

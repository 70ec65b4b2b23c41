/* SPDX-License-Identifier: MIT */
/* Paths and small files of the store. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/store/core.h"

int store_path(char dst[STORE_PATH], struct sosie_err *err, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(dst, STORE_PATH, fmt, ap);
	va_end(ap);
	if (n < 0 || (unsigned)n >= STORE_PATH)
		return sosie_err_set(err, SOSIE_EINTERNAL, "a path in the store is longer than %u bytes",
		                     STORE_PATH - 1);
	return 0;
}

bool layout_number(const char *name, const char *rest, uint64_t *out)
{
	uint64_t v = 0;
	unsigned digits = 0;
	for (; name[digits] >= '0' && name[digits] <= '9'; digits++) {
		if (digits == 19)
			return false;
		v = v * 10 + (uint64_t)(name[digits] - '0');
	}
	if (digits == 0 || (name[0] == '0' && digits > 1) || strcmp(name + digits, rest) != 0)
		return false;
	*out = v;
	return true;
}

int layout_read_json(struct sosie_io *io, const char *path, const char *const *keys, struct sosie_json **out,
                     struct sosie_err *err)
{
	char *text = NULL;
	size_t len = 0;
	uint64_t format = 0;
	*out = NULL;
	int rc = sosie_io_read_file(io, path, STORE_SMALL_FILE, &text, &len, err);
	if (rc)
		return rc;
	rc = sosie_json_parse(text, len, STORE_SMALL_FILE, out, err);
	free(text);
	if (!rc)
		rc = sosie_json_u64(*out, "format", UINT32_MAX, &format, err);
	if (!rc && format > STORE_FORMAT) {
		sosie_err_set(err, SOSIE_ENEWER, "%s is of format %llu, this release knows up to %u", path,
		              (unsigned long long)format, STORE_FORMAT);
		rc = sosie_err_action(err, "use the release of sosie that wrote it, or a newer one");
	} else if (!rc) {
		rc = sosie_json_only(*out, keys, err);
	}
	if (rc) {
		sosie_err_where(err, "%s", path);
		sosie_json_free(*out);
		*out = NULL;
	}
	return rc;
}

int layout_write_json(struct sosie_io *io, const char *path, struct sosie_json *json, uint32_t mode,
                      struct sosie_err *err)
{
	char *text = NULL;
	size_t len = 0;
	int rc = sosie_json_text(json, 0, &text, &len, err);
	sosie_json_free(json);
	if (!rc)
		rc = sosie_io_write_file(io, path, text, len, mode, err);
	free(text);
	return rc;
}

int layout_put(struct sosie_io *io, const char *path, const void *data, size_t len, uint32_t mode,
               struct sosie_err *err)
{
	char tmp[STORE_PATH];
	struct sosie_file *f = NULL;
	int rc = store_path(tmp, err, "%s.tmp", path);
	if (!rc)
		rc = sosie_io_openat(io, tmp, SOSIE_WRITE | SOSIE_CREATE | SOSIE_TRUNC, mode, &f, err);
	if (rc)
		return rc;
	rc = sosie_io_pwrite(io, f, data, len, 0, err);
	int closed = sosie_io_close(io, f, rc ? NULL : err);
	if (!rc)
		rc = closed;
	if (!rc)
		rc = sosie_io_rename(io, tmp, path, err);
	return rc;
}

int layout_remove(struct sosie_io *io, const char *path, struct sosie_err *err)
{
	struct sosie_err mine;
	sosie_err_clear(&mine);
	int rc = sosie_io_unlink(io, path, &mine);
	if (rc == -SOSIE_ENOTFOUND)
		return 0;
	if (rc && err)
		*err = mine;
	return rc;
}

int layout_json_time(const struct sosie_json *obj, const char *key, int64_t *out, struct sosie_err *err)
{
	const char *text = NULL;
	int rc = sosie_json_str(obj, key, SOSIE_TIME_TEXT, &text, err);
	return rc ? rc : sosie_time_parse(text, out, err);
}

void layout_set_time(struct sosie_json *obj, const char *key, int64_t ms)
{
	char text[SOSIE_TIME_TEXT];
	sosie_time_text(text, ms);
	sosie_json_set_str(obj, key, text);
}

int layout_make_dirs(struct sosie_io *io, const char *path, const char *const *subs, uint32_t mode,
                     struct sosie_err *err)
{
	char tmp[STORE_PATH], sub[STORE_PATH], parent[STORE_PATH];
	int rc = store_path(tmp, err, "%s.tmp", path);
	if (!rc)
		rc = store_path(parent, err, "%s", path);
	if (!rc)
		rc = sosie_io_remove_tree(io, tmp, err);
	if (!rc)
		rc = sosie_io_mkdir(io, tmp, mode, err);
	for (; !rc && *subs; subs++) {
		rc = store_path(sub, err, "%s/%s", tmp, *subs);
		if (!rc)
			rc = sosie_io_mkdir(io, sub, mode, err);
	}
	if (!rc)
		rc = sosie_io_sync_dir(io, tmp, err);
	if (!rc)
		rc = sosie_io_rename(io, tmp, path, err);
	if (!rc) {
		char *slash = strrchr(parent, '/');
		if (slash && slash != parent)
			*slash = '\0';
		rc = sosie_io_sync_dir(io, parent, err);
	}
	return rc;
}

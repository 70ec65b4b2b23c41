/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/common/standby_key.h"

#define PATH_BYTES 4096
#define COMMENT "sosie standby"

static int path_of(char dst[PATH_BYTES], const char *store, const char *name, struct sosie_err *err)
{
	int n = snprintf(dst, PATH_BYTES, "%s/%s", store, name);

	return n > 0 && n < PATH_BYTES ? 0
	                               : sosie_err_set(err, SOSIE_ECONFIG, "the store's path is too long");
}

/* The public half as others read it: the private folder shows it to nobody. */
static int publish(struct sosie_io *io, const char *path, const struct sosie_public *key,
                   struct sosie_err *err)
{
	char line[SOSIE_PUBLIC_LINE + 1];

	sosie_public_line(key, COMMENT, line);
	strcat(line, "\n");
	return sosie_io_write_file(io, path, line, strlen(line), 0644, err);
}

static int make_private(const char *dir, const char *path, struct sosie_public *out, struct sosie_err *err)
{
	struct sosie_signer *left = NULL;
	int rc;

	if (mkdir(dir, 0700) != 0 && errno != EEXIST)
		return sosie_err_sys(err, errno, "cannot make %s", dir);
	rc = sosie_keygen(path, COMMENT, out, err);
	if (rc != -SOSIE_EEXISTS)
		return rc;
	rc = sosie_signer_open(path, &left, err);
	if (rc == 0)
		*out = *sosie_signer_public(left);
	sosie_signer_close(left);
	return rc;
}

int standby_key_make(struct sosie_io *io, const char *store, struct sosie_public *out, bool *made,
                     struct sosie_err *err)
{
	char dir[PATH_BYTES], key[PATH_BYTES], public[PATH_BYTES], *text = NULL;
	size_t len = 0;
	int rc = path_of(dir, store, "_private", err);

	*made = false;
	if (rc == 0)
		rc = path_of(key, store, "_private/standby", err);
	if (rc == 0)
		rc = path_of(public, store, "standby.pub", err);
	if (rc == 0 && sosie_io_exists(io, public)) {
		rc = sosie_io_read_file(io, public, SOSIE_PUBLIC_LINE, &text, &len, err);
		if (rc == 0)
			rc = sosie_public_parse(text, len, out, NULL, err);
		free(text);
		return rc;
	}
	if (rc == 0)
		rc = make_private(dir, key, out, err);
	if (rc == 0)
		rc = sosie_io_sync_dir(io, store, err);
	if (rc == 0)
		rc = publish(io, public, out, err);
	*made = rc == 0;
	return rc;
}

int standby_key_open(struct sosie_store *store, struct sosie_signer **out, struct sosie_err *err)
{
	struct sosie_store_info info;
	struct sosie_public key;
	char path[PATH_BYTES];
	int rc;

	*out = NULL;
	if (!sosie_store_standby(store, &key))
		return 0;
	sosie_store_info(store, &info);
	rc = path_of(path, info.path, "_private/standby", err);
	if (rc == 0 && access(path, F_OK) != 0 && errno == ENOENT)
		rc = path_of(path, info.path, "standby.pub", err);
	if (rc == 0)
		rc = sosie_signer_open(path, out, err);
	if (rc == 0)
		rc = sosie_store_sign(store, *out, err);
	if (rc == 0)
		return 0;
	sosie_signer_close(*out);
	*out = NULL;
	return sosie_err_wrap(err, "the standby's signing key");
}

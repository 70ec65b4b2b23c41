/* SPDX-License-Identifier: MIT */
/*
 * Signatures between source and standby (docs/protocol.md, "Signatures"): manifests and "same" are signed
 * with the source's key, and of the standby's statements only those count that its keeper's key has signed,
 * when that key is pinned. What relays them, sosie-receive, has neither key.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/replicate/internal.h"

#define KEY_FILE_MAX 4096u

static int read_key(const char *path, struct sosie_public *out, struct sosie_err *err)
{
	struct sosie_io *io = NULL;
	char *text = NULL;
	size_t len = 0;
	int rc = sosie_io_posix(&io, err);

	if (rc == 0)
		rc = sosie_io_read_file(io, path, KEY_FILE_MAX, &text, &len, err);
	if (rc == 0)
		rc = sosie_public_parse(text, len, out, NULL, err);
	free(text);
	sosie_io_free(io);
	if (rc == 0)
		return 0;
	sosie_err_wrap(err, "the standby's key");
	return sosie_err_where(err, "%s", path);
}

int sosie_pool_trust(struct sosie_pool *pool, const char *signing, const char *standby_key,
                     struct sosie_err *err)
{
	struct trust *t = pool_trust(pool);
	int rc = 0;

	if (standby_key)
		rc = read_key(standby_key, &t->key, err);
	t->pinned = standby_key && rc == 0;
	if (rc == 0 && signing)
		rc = sosie_signer_open(signing, &t->signer, err);
	return rc;
}

int trust_sign(struct sosie_pool *pool, const char *name_space, char **text, size_t *len,
               struct sosie_err *err)
{
	struct trust *t = pool_trust(pool);
	char *made = NULL;
	size_t made_len = 0;
	int rc;

	if (!t->signer)
		return 0;
	rc = sosie_sign(t->signer, name_space, *text, *len, &made, &made_len, err);
	if (rc != 0)
		return sosie_err_wrap(err, "what goes to %s cannot be signed", pool_standby(pool));
	free(*text);
	*text = made;
	*len = made_len;
	return 0;
}

int trust_statement(struct sosie_pool *pool, const char *text, size_t *len, struct sosie_err *err)
{
	const struct trust *t = pool_trust(pool);
	size_t plain = sosie_signed_text(text, *len);
	unsigned which;
	int rc = 0;

	if (t->pinned)
		rc = sosie_signed_check(text, *len, SOSIE_SIGN_STATEMENT, &t->key, 1, &which, err);
	*len = plain;
	if (rc == 0)
		return 0;
	sosie_err_wrap(err, "a statement of the standby is not its keeper's");
	sosie_err_where(err, "%s", pool_standby(pool));
	return sosie_err_action(err,
	                        "either standby_key is not that standby's (there: \"sosie card\"), or what "
	                        "receives there says what its keeper has not: call its operator");
}

bool trust_pinned(struct sosie_pool *pool)
{
	return pool_trust(pool)->pinned;
}

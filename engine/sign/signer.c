/* SPDX-License-Identifier: MIT */
/*
 * Signers: a table of two operations over whoever has the key (a child process, an agent, for tests this
 * process), and what is common: the hash of the text, the lock, and a check of every signature before it
 * leaves. A signer that is broken or lies is found here and not at the standby.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "engine/sign/internal.h"

struct sosie_signer {
	const struct signer_ops *ops;
	void *of;
	struct sosie_public key;
	pthread_mutex_t lock; /* of one signature; taken alone */
};

/* --- in this process
 * ----------------------------------------------------------------------------------------------- */

static int seed_sign(void *of, const char *name_space, const uint8_t hash[EVP_SHA512_LEN],
                     uint8_t sig[EVP_SIG_LEN], struct sosie_err *err)
{
	uint8_t data[SIGN_DATA_MAX];
	const size_t len = sshsig_data(name_space, SIGN_SHA512, hash, data);

	return evp_key_sign(of, data, len, sig, err);
}

static void seed_close(void *of)
{
	evp_key_free(of);
}

static const struct signer_ops signer_seed_ops = {.sign = seed_sign, .close = seed_close};

/* --- opening
 * ------------------------------------------------------------------------------------------------------- */

static int new_signer(struct sosie_signer **out, struct sosie_err *err)
{
	struct sosie_signer *s = calloc(1, sizeof(*s));

	*out = s;
	if (!s)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for a signer");
	pthread_mutex_init(&s->lock, NULL);
	return 0;
}

void sosie_signer_close(struct sosie_signer *s)
{
	if (!s)
		return;
	if (s->of)
		s->ops->close(s->of);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

int sosie_signer_seed(const uint8_t seed[32], struct sosie_signer **out, struct sosie_err *err)
{
	struct evp_key *key;
	int rc = new_signer(out, err);

	if (rc != 0)
		return rc;
	(*out)->ops = &signer_seed_ops;
	rc = evp_key_new(seed, &key, &(*out)->key, err);
	(*out)->of = key;
	if (rc != 0) {
		sosie_signer_close(*out);
		*out = NULL;
	}
	return rc;
}

const struct sosie_public *sosie_signer_public(const struct sosie_signer *s)
{
	return &s->key;
}

void signer_counters(const struct sosie_signer *s, struct signer_counters *out)
{
	memset(out, 0, sizeof(*out));
	if (s->ops == &signer_fork_ops)
		signer_fork_counters(s->of, out);
}

/* --- signing
 * ------------------------------------------------------------------------------------------------------- */

static int check_own(const struct sshsig *made, const uint8_t hash[EVP_SHA512_LEN], struct sosie_err *err)
{
	uint8_t data[SIGN_DATA_MAX];
	bool good = false;
	int rc = evp_verify(&made->key, data, sshsig_data(made->name_space, made->hash, hash, data),
	                    made->sig, &good, err);

	if (rc == 0 && !good)
		rc = sosie_err_set(err, SOSIE_EAUTH, "the signer's answer is no signature of its key");
	return rc;
}

static int make_signature(struct sosie_signer *s, const char *name_space, const char *text, size_t len,
                          struct sshsig *made, struct sosie_err *err)
{
	uint8_t hash[EVP_SHA512_LEN];
	int rc = evp_sha512(text, len, hash, err);

	made->key = s->key;
	made->hash = SIGN_SHA512;
	memcpy(made->name_space, name_space, strlen(name_space) + 1);
	if (rc != 0)
		return rc;
	pthread_mutex_lock(&s->lock);
	rc = s->ops->sign(s->of, name_space, hash, made->sig, err);
	pthread_mutex_unlock(&s->lock);
	return rc == 0 ? check_own(made, hash, err) : rc;
}

int sosie_sign(struct sosie_signer *s, const char *name_space, const char *text, size_t len, char **out,
               size_t *out_len, struct sosie_err *err)
{
	char armour[SOSIE_SIGNATURE_MAX];
	struct sshsig made;
	size_t armour_len;
	int rc;

	*out = NULL;
	*out_len = 0;
	if (!sshsig_namespace_ok(name_space) || len == 0 || len > SIZE_MAX - SOSIE_SIGNATURE_MAX ||
	    memchr(text, '\n', len))
		return sosie_err_set(err, SOSIE_EINTERNAL, "a text or a namespace that cannot be signed");
	rc = make_signature(s, name_space, text, len, &made, err);
	if (rc != 0)
		return rc;
	armour_len = sshsig_armour(&made, armour);
	*out = malloc(len + 1 + armour_len + 1);
	if (!*out)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory to sign");
	memcpy(*out, text, len);
	(*out)[len] = '\n';
	memcpy(*out + len + 1, armour, armour_len);
	*out_len = len + 1 + armour_len;
	(*out)[*out_len] = '\0';
	return 0;
}

/* A file with the public half alone: the agent has to sign. */
static int open_agent(struct sosie_signer *s, const char *path, struct sosie_err *err)
{
	static const char text[] = "trial";
	struct sshsig made;
	int rc;

	s->ops = &signer_agent_ops;
	rc = signer_agent_open(path, &s->key, &s->of, err);
	return rc == 0 ? make_signature(s, SIGN_TRIAL, text, sizeof(text) - 1, &made, err) : rc;
}

int sosie_signer_open(const char *path, struct sosie_signer **out, struct sosie_err *err)
{
	struct sosie_signer *s;
	enum keyfile_kind kind;
	int rc = new_signer(&s, err);

	*out = NULL;
	if (rc != 0)
		return rc;
	s->ops = &signer_fork_ops;
	rc = signer_fork_open(path, &kind, &s->key, &s->of, err);
	if (rc == 0 && kind != KEYFILE_PRIVATE)
		rc = open_agent(s, path, err);
	if (rc == 0)
		*out = s;
	else
		sosie_signer_close(s);
	return rc;
}

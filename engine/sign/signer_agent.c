/* SPDX-License-Identifier: MIT */
/* Signing by an ssh-agent: one connection for each signature, bounded in time, so that an agent that was
 * restarted is found again. What it answers is checked by the caller, as everybody's. */
#include <stdlib.h>
#include <string.h>

#include "engine/sign/internal.h"
#include "sosie/agent.h"
#include "sosie/clock.h"
#include "sosie/digest.h"

#define LIMIT_MS 5000

struct signer_agent {
	struct sosie_public key;
	char path[]; /* of the key's file, for messages */
};

static int ask(const struct signer_agent *a, const uint8_t *data, size_t len, uint8_t sig[EVP_SIG_LEN],
               struct sosie_err *err)
{
	uint8_t blob[SIGN_BLOB_LEN], *made = NULL;
	size_t made_len = 0;
	struct sosie_agent *agent;
	int rc = sosie_agent_open(sosie_mono_ms(sosie_clock_real()) + LIMIT_MS, &agent, err);

	if (rc != 0)
		return rc;
	public_blob(&a->key, blob);
	rc = sosie_agent_sign(agent, blob, sizeof(blob), data, len, &made, &made_len, err);
	sosie_agent_close(agent);
	if (rc == 0 && made_len != EVP_SIG_LEN)
		rc = sosie_err_set(err, SOSIE_EAUTH, "ssh-agent's signature has %zu bytes, not %u", made_len,
		                   EVP_SIG_LEN);
	if (rc == 0)
		memcpy(sig, made, EVP_SIG_LEN);
	free(made);
	return rc;
}

static int agent_sign(void *of, const char *name_space, const uint8_t hash[EVP_SHA512_LEN],
                      uint8_t sig[EVP_SIG_LEN], struct sosie_err *err)
{
	const struct signer_agent *a = of;
	uint8_t data[SIGN_DATA_MAX];
	char name[SOSIE_FINGERPRINT];
	struct sosie_err why;
	int rc = ask(a, data, sshsig_data(name_space, SIGN_SHA512, hash, data), sig, &why);

	if (rc == 0 || sosie_public_fingerprint(&a->key, name, err) != 0)
		return rc;
	if (rc == -SOSIE_ENOMEM || rc == -SOSIE_EINTR || rc == -SOSIE_ETIMEOUT)
		return sosie_err_set(err, why.code, "cannot sign: %s", why.what);
	sosie_err_set(err, SOSIE_EAUTH, "the agent does not sign with the key %s: %s", name, why.what);
	sosie_err_where(err, "%s", a->path);
	return sosie_err_action(err,
	                        "give a private key file without a passphrase, or load this one: ssh-add");
}

const struct signer_ops signer_agent_ops = {.sign = agent_sign, .close = free};

int signer_agent_open(const char *path, const struct sosie_public *key, void **out, struct sosie_err *err)
{
	const size_t len = strlen(path) + 1;
	struct signer_agent *a = calloc(1, sizeof(*a) + len);

	*out = a;
	if (!a)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for a signer");
	a->key = *key;
	memcpy(a->path, path, len);
	return 0;
}

/* SPDX-License-Identifier: MIT */
/* keygen: a signing key, for the primary or for the standby. Touches no store. */
#include <stdio.h>
#include <unistd.h>

#include "sosie/sign.h"
#include "tools/sosie/command.h"

/* Beside id_ed25519, with which sosied logs in. */
#define DEFAULT_FILE "/etc/sosie/signing_ed25519"

static const char *default_comment(char dst[128])
{
	char host[65] = "";

	if (gethostname(host, sizeof(host) - 1) != 0 || !host[0])
		snprintf(host, sizeof(host), "localhost");
	snprintf(dst, 128, "sosie-signing@%s", host);
	return dst;
}

/* The folder is not there, or not ours: says what to do. */
static int explain(const struct command *c, struct sosie_err *err)
{
	if (err->code == SOSIE_ENOTFOUND && !options_has(&c->options, "out"))
		return sosie_err_action(
		        err, "make the folder (mkdir -p /etc/sosie), or choose a file: --out FILE");
	if (err->code == SOSIE_EDENIED && !options_has(&c->options, "out"))
		return sosie_err_action(err, "run it as root, or choose a file: --out FILE");
	return -(int)err->code;
}

int verb_keygen(struct command *c, struct sosie_err *err)
{
	const char *out = options_get(&c->options, "out"), *comment = options_get(&c->options, "comment");
	char own[128], line[SOSIE_PUBLIC_LINE], id[17], print[64], public[COMMAND_PATH];
	struct sosie_public key;
	int rc;

	if (!out)
		out = DEFAULT_FILE;
	if (!comment)
		comment = default_comment(own);
	rc = sosie_keygen(out, comment, &key, err);
	if (rc < 0)
		return explain(c, err);
	rc = sosie_public_id(&key, id, err);
	if (rc == 0)
		rc = sosie_public_fingerprint(&key, print, err);
	if (rc < 0)
		return rc;
	sosie_public_line(&key, comment, line);
	snprintf(public, sizeof(public), "%s.pub", out);
	sosie_json_set_str(c->doc, "file", out);
	sosie_json_set_str(c->doc, "public_file", public);
	sosie_json_set_str(c->doc, "key", id);
	sosie_json_set_str(c->doc, "fingerprint", print);
	sosie_json_set_str(c->doc, "public", line);
	if (c->json)
		return 0;
	printf("Made the signing key %s, and its public half %s:\n\n%s\n\n", out, public, line);
	printf("Key %s, fingerprint %s\n", id, print);
	printf("The private half never leaves this machine. If it signs for a source: bring the public half\n"
	       "to the standby, compare the fingerprint by telephone, and register it there:\n"
	       "  sosie key add --for signing --store STORE TENANT FILE.pub\n");
	return 0;
}

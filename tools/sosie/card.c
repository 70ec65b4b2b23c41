/* SPDX-License-Identifier: MIT */
/*
 * card: what each side must type in of the other, with short fingerprints to compare by telephone; store key,
 * head: the standby's key and its signed word.
 */
#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sosie/bytes.h"
#include "sosie/digest.h"
#include "tools/common/owner.h"
#include "tools/common/standby_key.h"
#include "tools/sosie/command.h"

#define LINE_BYTES 4096u
#define HOST_KEYS "/etc/ssh/ssh_host_*_key.pub"
#define SHORT_BYTES 10u /* 80 bits: nobody finds a second key with them */
#define SHORT_TEXT (SHORT_BYTES * 2 + SHORT_BYTES / 2)

/* "3f2a 91bc …": the start of the SHA-256 over type and base64 of the key, comments left out, so that both
 * sides compute the same whatever is written behind. */
static int short_print(const char *line, char dst[SHORT_TEXT], struct sosie_err *err)
{
	struct sosie_hash *h = sosie_hash_new();
	struct sosie_digest d;
	char hex[2 * SHORT_BYTES + 1];
	const char *space = strchr(line, ' ');
	size_t len = space ? (size_t)(space + 1 - line) : 0, at = 0;

	if (!h || !space) {
		sosie_hash_free(h);
		return sosie_err_set(err, h ? SOSIE_ECONFIG : SOSIE_ENOMEM,
		                     h ? "not one public key line" : "no memory for a fingerprint");
	}
	len += strcspn(space + 1, " \r\n");
	sosie_hash_plain(h);
	sosie_hash_add(h, line, len);
	sosie_hash_end(h, &d);
	sosie_hash_free(h);
	sosie_hex(hex, d.b, SHORT_BYTES);
	for (size_t i = 0; i < 2 * SHORT_BYTES; i++) {
		if (i && i % 4 == 0)
			dst[at++] = ' ';
		dst[at++] = hex[i];
	}
	dst[at] = '\0';
	return 0;
}

/* The first line, without its end. */
static int read_line(struct command *c, const char *path, char line[LINE_BYTES], struct sosie_err *err)
{
	struct sosie_file *file = NULL;
	size_t len = 0;
	int rc = sosie_io_openat(c->io, path, SOSIE_READ | SOSIE_FOLLOW, 0, &file, err);

	if (rc == 0)
		rc = sosie_io_pread(c->io, file, line, LINE_BYTES - 1, 0, &len, err);
	(void)sosie_io_close(c->io, file, NULL);
	line[len] = '\0';
	line[strcspn(line, "\r\n")] = '\0';
	if (rc == 0 && strncmp(line, "-----BEGIN", 10) == 0) {
		sosie_err_set(err, SOSIE_ECONFIG, "%s is a private key, which must never leave its owner",
		              path);
		return sosie_err_action(err, "give the public half: %s.pub", path);
	}
	for (const char *p = line; rc == 0 && *p; p++)
		if ((unsigned char)*p < 0x20 || (unsigned char)*p > 0x7e)
			rc = sosie_err_set(err, SOSIE_ECONFIG, "%s is no public key line", path);
	return rc;
}

static int show_key(struct command *c, struct sosie_json *list, const char *what, const char *line,
                    struct sosie_err *err)
{
	char print[SHORT_TEXT];
	struct sosie_json *obj;
	int rc = short_print(line, print, err);

	if (rc != 0)
		return rc;
	obj = sosie_json_push_obj(list);
	sosie_json_set_str(obj, "what", what);
	sosie_json_set_str(obj, "key", line);
	sosie_json_set_str(obj, "short", print);
	if (!c->json)
		printf("%-12s %s\n%-12s %s\n", what, print, "", line);
	return 0;
}

static int show_file(struct command *c, struct sosie_json *list, const char *what, const char *path,
                     struct sosie_err *err)
{
	char line[LINE_BYTES];
	int rc = read_line(c, path, line, err);

	if (rc == 0)
		rc = show_key(c, list, what, line, err);
	return rc == 0 ? 0 : sosie_err_where(err, "%s", path);
}

static int primary(struct command *c, struct sosie_json *list, struct sosie_err *err)
{
	const char *path;
	int rc = command_open_io(c, err);

	for (size_t i = 0; rc == 0 && (path = options_nth(&c->options, "identity", i)) != NULL; i++)
		rc = show_file(c, list, "logs in", path, err);
	for (size_t i = 0; rc == 0 && (path = options_nth(&c->options, "signing", i)) != NULL; i++)
		rc = show_file(c, list, "signs", path, err);
	if (rc == 0 && !c->json)
		printf("\nAt the standby: sosie key add --for ssh, sosie key add --for signing; compare the\n"
		       "numbers by telephone before.\n");
	return rc;
}

static int host_keys(struct command *c, struct sosie_json *list, struct sosie_err *err)
{
	glob_t found;
	int rc = 0, n = glob(HOST_KEYS, 0, NULL, &found);

	for (size_t i = 0; n == 0 && rc == 0 && i < found.gl_pathc; i++)
		if (!strstr(found.gl_pathv[i], "_rsa_") && !strstr(found.gl_pathv[i], "_dsa_"))
			rc = show_file(c, list, "host", found.gl_pathv[i], err);
	if (n == 0)
		globfree(&found);
	return rc;
}

static int standby(struct command *c, struct sosie_json *list, struct sosie_err *err)
{
	struct sosie_store_info info;
	struct sosie_public key;
	char line[SOSIE_PUBLIC_LINE], id[33];
	int rc = command_open_store(c, err);

	if (rc != 0)
		return rc;
	sosie_store_info(c->store, &info);
	sosie_hex(id, info.id.b, sizeof(info.id.b));
	sosie_json_set_str(c->doc, "store", c->store_path);
	sosie_json_set_str(c->doc, "id", id);
	if (!c->json)
		printf("%-12s %s\n", "store", id);
	if (sosie_store_standby(c->store, &key)) {
		sosie_public_line(&key, "sosie standby", line);
		rc = show_key(c, list, "standby", line, err);
	} else if (!c->json) {
		printf("%-12s none: sosie store key %s makes one\n", "standby", c->store_path);
	}
	if (rc == 0)
		rc = host_keys(c, list, err);
	if (rc == 0 && !c->json)
		printf("\nAt the primary: the line of \"standby\" into a file that standby_key names, those "
		       "of\n"
		       "\"host\" into known_hosts (HOST in front); compare the numbers by telephone "
		       "before.\n");
	return rc;
}

int verb_card(struct command *c, struct sosie_err *err)
{
	struct sosie_json *list = sosie_json_add_arr(c->doc, "keys");

	if (options_get(&c->options, "identity") || options_get(&c->options, "signing"))
		return primary(c, list, err);
	return standby(c, list, err);
}

int verb_store_key(struct command *c, struct sosie_err *err)
{
	const char *path = c->options.operands[0];
	struct sosie_public key;
	char line[SOSIE_PUBLIC_LINE], full[COMMAND_PATH], print[SHORT_TEXT];
	bool made;
	int rc = owner_become(path, false, err);

	if (rc == 0)
		rc = command_open_io(c, err);
	command_full_path(path, full);
	if (rc == 0) /* only a store gets one */
		rc = sosie_store_open(c->io, c->clock, full, &c->store, err);
	if (rc == 0)
		rc = standby_key_make(c->io, full, &key, &made, err);
	if (rc == 0)
		sosie_public_line(&key, "sosie standby", line);
	if (rc == 0)
		rc = short_print(line, print, err);
	if (rc != 0)
		return rc;
	sosie_json_set_str(c->doc, "store", full);
	sosie_json_set_str(c->doc, "key", line);
	sosie_json_set_str(c->doc, "short", print);
	sosie_json_set_bool(c->doc, "made", made);
	if (!c->json)
		printf("%s\n%s: %s\n", line, made ? "Made just now. Start the keeper anew" : "It was there",
		       print);
	return 0;
}

int verb_head(struct command *c, struct sosie_err *err)
{
	const char *file = options_get(&c->options, "export");
	char *text = NULL;
	size_t len = 0;
	int rc = command_open_group(c, err);

	if (rc == 0)
		rc = sosie_group_export_head(c->group, &text, &len, err);
	if (rc == 0 && file && sosie_io_exists(c->io, file)) {
		rc = sosie_err_set(err, SOSIE_EEXISTS, "%s exists already", file);
		sosie_err_action(err,
		                 "choose another name: a head that was exported before is worth keeping");
	} else if (rc == 0 && file) {
		rc = sosie_io_write_file(c->io, file, text, len, 0644, err);
	}
	if (rc == 0) {
		sosie_json_set_str(c->doc, "head", text);
		sosie_json_set_str(c->doc, "file", file);
		if (!c->json && !file)
			fwrite(text, 1, len, stdout);
	}
	free(text);
	return rc;
}

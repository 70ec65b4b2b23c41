/* SPDX-License-Identifier: MIT */
/* store init, tenant add, key add: what is done once. */
#include <errno.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/sosie/command.h"

#define KEY_FILE_MAX (16u << 10)
#define LINE_MAX_BYTES (2 * COMMAND_PATH + 2048)

/* Copies are slow and take room: said when the store is made, not when they are first needed. */
static void say_reflink(bool reflink)
{
	if (reflink)
		printf("This filesystem shares blocks between files (reflink): a generation costs no "
		       "copy.\n");
	else
		printf("This filesystem cannot share blocks between files (no reflink): each generation\n"
		       "is a full copy of the images, so they are made more rarely. XFS and btrfs can.\n");
}

/* Says what to do about the folder above, which is not there or may not be written. */
static int explain_init(const char *path, struct sosie_err *err)
{
	const struct passwd *user = getpwuid(geteuid());
	const enum sosie_code code = err->code;
	char parent[COMMAND_PATH];
	struct stat st;
	char *slash;
	size_t len;

	(void)command_full_path(path, parent);
	for (len = strlen(parent); len > 1 && parent[len - 1] == '/'; len--)
		parent[len - 1] = '\0';
	slash = strrchr(parent, '/');
	if (!slash || (code != SOSIE_ENOTFOUND && code != SOSIE_EDENIED))
		return -(int)code;
	if (code == SOSIE_EDENIED && stat(parent, &st) == 0)
		slash = parent + strlen(parent); /* the folder is there: it is what denies */
	slash[slash == parent ? 1 : 0] = '\0';
	if (code == SOSIE_ENOTFOUND) {
		sosie_err_set(err, code, "the store cannot be made: the folder %.400s does not exist",
		              parent);
		return sosie_err_action(err, "make it first: mkdir -p %.200s", parent);
	}
	sosie_err_set(err, code, "the store cannot be made: the user %s may not write in %.400s",
	              user ? user->pw_name : "(without a name)", parent);
	return sosie_err_action(err, "run it as a user who may, or choose another folder");
}

int verb_store_init(struct command *c, struct sosie_err *err)
{
	const char *path = c->options.operands[0];
	struct sosie_store_info info;
	char resolved[PATH_MAX];
	int rc = command_open_io(c, err);

	if (rc == 0)
		rc = sosie_store_init(c->io, c->clock, path, err);
	if (rc < 0)
		return explain_init(path, err);
	if (!realpath(path, resolved))
		return sosie_err_sys(err, errno, "the new store %s cannot be reached", path);
	rc = sosie_store_open(c->io, c->clock, resolved, &c->store, err);
	if (rc < 0)
		return rc;
	sosie_store_info(c->store, &info);
	sosie_json_set_str(c->doc, "store", resolved);
	sosie_json_set_hex(c->doc, "id", info.id.b, sizeof(info.id.b));
	sosie_json_set_bool(c->doc, "reflink", info.reflink);
	sosie_json_set_str(c->doc, "io", c->io_reason);
	if (c->json)
		return 0;
	printf("Made the store %s\n", resolved);
	say_reflink(info.reflink);
	printf("Next: sosie tenant add --store %s TENANT --quota SIZE\n", resolved);
	return 0;
}

/* The tenant is there: when it is another quota that was wanted, says how it is changed. */
static int explain_tenant(struct command *c, uint64_t quota, struct sosie_err *err)
{
	struct sosie_tenant_info info;
	char had[40] = "none", wanted[40] = "none";

	if (sosie_tenant_info(c->store, c->tenant.s, &info, NULL) < 0 || info.quota == quota)
		return -(int)err->code;
	if (info.quota)
		(void)sosie_size_text(had, sizeof(had), info.quota);
	if (quota)
		(void)sosie_size_text(wanted, sizeof(wanted), quota);
	sosie_err_set(err, SOSIE_EEXISTS,
	              "the tenant %s is there already, with another quota: %s, and %s was asked for",
	              c->tenant.s, had, wanted);
	return sosie_err_action(err, "to change it: sosie tenant set %s quota=SIZE", c->tenant.s);
}

/* There is no tenant without a quota by mistake: "none" has to be typed. */
static int read_quota(struct command *c, uint64_t *quota, struct sosie_err *err)
{
	const char *text;
	int rc = options_need(&c->options, "quota", &text, err);

	*quota = 0;
	if (rc < 0)
		return rc;
	if (strcmp(text, "none") == 0)
		return 0;
	rc = sosie_size_parse(text, quota, err);
	if (rc == 0 && *quota == 0)
		rc = options_usage(&c->options, err, "--quota takes a size above 0, or none");
	return rc;
}

int verb_tenant_add(struct command *c, struct sosie_err *err)
{
	uint64_t quota;
	char size[32];
	int rc = read_quota(c, &quota, err);

	if (rc == 0)
		rc = sosie_name_set(&c->tenant, SOSIE_NAME_TENANT, c->options.operands[0], err);
	if (rc == 0)
		rc = command_open_store(c, err);
	if (rc == 0)
		rc = sosie_tenant_add(c->store, c->tenant.s, quota, err);
	if (rc == -SOSIE_EEXISTS)
		return explain_tenant(c, quota, err);
	if (rc < 0)
		return rc;
	sosie_json_set_str(c->doc, "store", c->store_path);
	sosie_json_set_str(c->doc, "tenant", c->tenant.s);
	if (quota)
		sosie_json_set_u64(c->doc, "quota", quota);
	else
		sosie_json_set_null(c->doc, "quota");
	if (c->json)
		return 0;
	printf("Made the tenant %s, %s%s\n", c->tenant.s,
	       quota ? "quota " : "WITHOUT a quota: its sources can fill the disk",
	       quota ? sosie_size_text(size, sizeof(size), quota) : "");
	printf("Next: sosie key add --for ssh --store %s %s FILE.pub\n", c->store_path, c->tenant.s);
	return 0;
}

static int refuse_private(const char *path, struct sosie_err *err)
{
	sosie_err_set(err, SOSIE_ECONFIG, "%s is a private key, which must never leave its owner", path);
	return sosie_err_action(err, "give the public half: %s.pub", path);
}

static int read_key_file(struct command *c, const char *path, char *text, size_t *len, struct sosie_err *err)
{
	struct sosie_file *file = NULL;
	int rc = sosie_io_openat(c->io, path, SOSIE_READ | SOSIE_FOLLOW, 0, &file, err);

	if (rc < 0)
		return sosie_err_wrap(err, "the public key");
	rc = sosie_io_pread(c->io, file, text, KEY_FILE_MAX, 0, len, err);
	(void)sosie_io_close(c->io, file, NULL);
	if (rc == 0 && *len == KEY_FILE_MAX)
		return sosie_err_set(err, SOSIE_ECONFIG, "%s is no public key: it is larger than %u bytes",
		                     path, KEY_FILE_MAX);
	if (rc == 0 && *len > 10 && memcmp(text, "-----BEGIN", 10) == 0)
		return refuse_private(path, err);
	return rc;
}

static void key_document(struct command *c, const struct sosie_key_info *key, const char *line)
{
	sosie_json_set_str(c->doc, "store", c->store_path);
	sosie_json_set_str(c->doc, "tenant", c->tenant.s);
	sosie_json_set_str(c->doc, "key", key->id);
	sosie_json_set_str(c->doc, "type", key->type);
	sosie_json_set_str(c->doc, "fingerprint", key->fingerprint);
	sosie_json_set_str(c->doc, "comment", key->comment);
	sosie_json_set_str(c->doc, "authorized_keys", line);
}

struct key_search {
	struct command *c;
	const char *id;
	char found[SOSIE_NAME_MAX + 1]; /* another tenant with the key, or empty */
};

static int has_key(void *arg, const struct sosie_name *tenant)
{
	struct key_search *search = arg;
	char path[COMMAND_PATH];

	if (strcmp(tenant->s, search->c->tenant.s) == 0 ||
	    snprintf(path, sizeof(path), "%s/%s/_keys/%s.json", search->c->store_path, tenant->s,
	             search->id) >= (int)sizeof(path) ||
	    !sosie_io_exists(search->c->io, path))
		return 0;
	snprintf(search->found, sizeof(search->found), "%s", tenant->s);
	return 1;
}

/* What works, and yet is likely not what was meant. */
static void warn_key(struct command *c, const struct sosie_key_info *key)
{
	struct key_search search = {.c = c, .id = key->id};

	if (strcmp(key->type, "ssh-rsa") == 0)
		fprintf(stderr, "sosie: warning: this is an RSA key, and sosied logs in with Ed25519 and "
		                "ECDSA keys only\n");
	if (sosie_store_tenants(c->store, has_key, &search, NULL) == 0 && search.found[0])
		fprintf(stderr,
		        "sosie: warning: the tenant %s has the same key: sshd takes the first line in\n"
		        "sosie: warning: authorized_keys that names it, so that only one of them is served\n",
		        search.found);
}

/* Registers the key of the text; key and line are its result. */
static int register_key(struct command *c, const char *text, size_t len, struct sosie_key_info *key,
                        char *line, size_t size, struct sosie_err *err)
{
	char receive[COMMAND_PATH];
	int rc;

	if (!command_beside("sosie-receive", receive))
		fprintf(stderr, "sosie: warning: there is no %s yet: the line needs it there\n", receive);
	memset(key, 0, sizeof(*key));
	rc = authorized_keys_line(line, size, receive, c->store_path, c->tenant.s, key,
	                          err); /* refuses before it registers */
	if (rc == 0)
		rc = sosie_key_add(c->store, c->tenant.s, text, len, key, err);
	return rc < 0 ? rc : authorized_keys_line(line, size, receive, c->store_path, c->tenant.s, key, err);
}

int verb_key_add(struct command *c, struct sosie_err *err)
{
	static char line[LINE_MAX_BYTES], text[KEY_FILE_MAX];
	const char *use;
	struct sosie_key_info key;
	size_t len = 0;
	int rc = options_need(&c->options, "for", &use, err);

	if (rc == 0 && strcmp(use, "ssh") != 0)
		rc = options_usage(&c->options, err, "--for takes ssh, not \"%s\"", use);
	if (rc == 0)
		rc = sosie_name_set(&c->tenant, SOSIE_NAME_TENANT, c->options.operands[0], err);
	if (rc == 0) /* as the caller, who can read the file */
		rc = command_open_io(c, err);
	if (rc == 0)
		rc = read_key_file(c, c->options.operands[1], text, &len, err);
	command_close(c);
	if (rc == 0)
		rc = command_open_store(c, err);
	if (rc == 0)
		rc = register_key(c, text, len, &key, line, sizeof(line), err);
	if (rc < 0)
		return rc;
	warn_key(c, &key);
	key_document(c, &key, line);
	if (c->json)
		return 0;
	printf("%s\n", line);
	(void)fflush(stdout);
	fprintf(stderr,
	        "sosie: key %s (%s) of the tenant %s is registered; the line %s belongs into\n"
	        "sosie: ~/.ssh/authorized_keys of the user that sources log in as\n",
	        key.id, key.fingerprint, c->tenant.s,
	        isatty(STDOUT_FILENO) ? "above" : "printed on standard output");
	return 0;
}

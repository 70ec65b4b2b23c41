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

#include "tools/common/owner.h"
#include "tools/common/standby_key.h"
#include "tools/sosie/command.h"

#define KEY_FILE_MAX (16u << 10)
#define LINE_MAX_BYTES (2 * COMMAND_PATH + SOSIE_KEY_GROUPS_MAX * (SOSIE_NAME_MAX + 10) + 2048)

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

static int audit_command(struct command *c, const char *tenant, const char *command, struct sosie_err *err)
{
	struct sosie_json *body = sosie_json_new();

	sosie_json_set_str(body, "command", command);
	return command_audit(c, tenant, SOSIE_AUDIT_COMMAND, body, err);
}

int verb_store_init(struct command *c, struct sosie_err *err)
{
	const char *path = c->options.operands[0];
	struct sosie_store_info info;
	struct sosie_public key;
	char resolved[PATH_MAX];
	bool made;
	int rc = command_open_io(c, err);

	if (rc == 0)
		rc = sosie_store_init(c->io, c->clock, path, err);
	if (rc < 0)
		return explain_init(path, err);
	if (!realpath(path, resolved))
		return sosie_err_sys(err, errno, "the new store %s cannot be reached", path);
	rc = standby_key_make(c->io, resolved, &key, &made, err);
	if (rc == 0)
		rc = sosie_store_open(c->io, c->clock, resolved, &c->store, err);
	if (rc < 0)
		return rc;
	sosie_store_info(c->store, &info);
	sosie_json_set_str(c->doc, "store", resolved);
	sosie_json_set_hex(c->doc, "id", info.id.b, sizeof(info.id.b));
	sosie_json_set_bool(c->doc, "reflink", info.reflink);
	sosie_json_set_str(c->doc, "io", c->io_reason);
	rc = audit_command(c, NULL, "store init", err);
	if (rc < 0)
		return sosie_err_wrap(err, "the store is made, but that is not in its audit log");
	if (c->json)
		return 0;
	printf("Made the store %s\n", resolved);
	say_reflink(info.reflink);
	printf("Its key signs what it accepts: \"sosie card --store %s\" shows what sources must pin.\n",
	       resolved);
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
	return sosie_err_action(err, "to change it: sosie tenant set --store %.120s %s quota=SIZE",
	                        c->store_path, c->tenant.s);
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

/* In its own log, and in the store's, which stays when its folder goes. */
static int audit_tenant(struct command *c, uint64_t quota, struct sosie_err *err)
{
	const char *const logs[] = {NULL, c->tenant.s};
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < 2; i++) {
		struct sosie_json *body = sosie_json_new();
		sosie_json_set_str(body, "tenant", c->tenant.s);
		sosie_json_set_u64(body, "quota", quota);
		rc = command_audit(c, logs[i], SOSIE_AUDIT_TENANT, body, err);
	}
	return rc < 0 ? sosie_err_wrap(err, "the tenant is made, but that is not in the audit log") : rc;
}

/* Of the receivers: it must be there, and only root can give it what is its. */
static int know_user(const char *user, struct sosie_err *err)
{
	if (!user)
		return 0;
	if (geteuid() != 0) {
		sosie_err_set(err, SOSIE_EDENIED, "--user sets owners and groups, which root can do only");
		return sosie_err_action(err, "run it as root; the store stays its owner's");
	}
	if (getpwnam(user))
		return 0;
	sosie_err_set(err, SOSIE_ENOTFOUND, "there is no user %.64s on this machine", user);
	return sosie_err_action(err,
	                        "run sosie-setup-standby, or useradd --system --user-group --shell /bin/sh "
	                        "--home-dir /nonexistent NAME");
}

static void keep_finding(void *arg, const struct sosie_finding *f)
{
	struct sosie_err *err = arg;

	if (f->mended || err->code)
		return;
	sosie_err_set(err, SOSIE_EDENIED, "%.200s %.200s", f->path, f->what);
	sosie_err_action(err, "%.250s", f->mend);
}

/* As root: the two sides get their owners and modes. */
static int set_apart(struct command *c, struct sosie_err *err)
{
	struct sosie_err first;
	struct sosie_check check = {
	        .tenant = c->tenant.s, .mend = true, .found = keep_finding, .arg = &first};
	int rc;

	sosie_err_clear(&first);
	rc = owner_leave(err);
	if (rc == 0)
		rc = sosie_store_check(c->store, &check, err);
	if (rc == 0 && first.code) {
		*err = first;
		rc = sosie_err_wrap(err, "the sides of the tenant %s are not apart", c->tenant.s);
	}
	return rc;
}

/* A tenant that is there gets a user where it has none yet; with the same one all is set again. */
static int add_user(struct command *c, uint64_t quota, const char *user, struct sosie_err *err)
{
	struct sosie_tenant_info info;
	char had[SOSIE_USER_MAX + 1];
	int rc = 0;

	if (!options_get(&c->options, "quota")) /* it may be missing for one that is there only */
		rc = sosie_tenant_user(c->store, c->tenant.s, had, err);
	if (rc == -SOSIE_ENOTFOUND)
		return read_quota(c, &quota, err);
	if (rc == 0)
		rc = sosie_tenant_add_user(c->store, c->tenant.s, quota, user, err);
	if (rc != -SOSIE_EEXISTS || !user)
		return rc;
	rc = sosie_tenant_info(c->store, c->tenant.s, &info, err);
	if (rc == 0 && options_get(&c->options, "quota") && info.quota != quota)
		return sosie_err_set(err, SOSIE_EEXISTS, "the tenant %s is there", c->tenant.s);
	return rc < 0 ? rc : sosie_tenant_set_user(c->store, c->tenant.s, user, err);
}

static void show_tenant(struct command *c, uint64_t quota, const char *user)
{
	char size[32];

	printf("Made the tenant %s, %s%s\n", c->tenant.s,
	       quota ? "quota " : "WITHOUT a quota: its sources can fill the disk",
	       quota ? sosie_size_text(size, sizeof(size), quota) : "");
	if (user)
		printf("Its receivers run as %s, apart from the keeper.\n", user);
	else
		printf("Receiver and keeper are the same user: fine for a try, not for production "
		       "(--user).\n");
	printf("Next: sosie key add --for ssh --store %s %s FILE.pub\n", c->store_path, c->tenant.s);
}

int verb_tenant_add(struct command *c, struct sosie_err *err)
{
	const char *quota_text = options_get(&c->options, "quota"), *user = options_get(&c->options, "user");
	struct sosie_tenant_info info;
	uint64_t quota = 0;
	int rc = quota_text || !user ? read_quota(c, &quota, err) : 0;

	if (rc == 0)
		rc = sosie_name_set(&c->tenant, SOSIE_NAME_TENANT, c->options.operands[0], err);
	if (rc == 0)
		rc = know_user(user, err);
	c->root_again = user != NULL;
	if (rc == 0)
		rc = command_open_store(c, err);
	if (rc == 0)
		rc = add_user(c, quota, user, err);
	if (rc == -SOSIE_EEXISTS && (quota_text || !user))
		return explain_tenant(c, quota, err);
	if (rc == 0 && !quota_text && (rc = sosie_tenant_info(c->store, c->tenant.s, &info, err)) == 0)
		quota = info.quota;
	if (rc == 0)
		rc = audit_tenant(c, quota, err);
	if (rc == 0 && user)
		rc = set_apart(c, err);
	if (rc < 0)
		return rc;
	if (sosie_tenant_info(c->store, c->tenant.s, &info, NULL) == 0)
		quota = info.quota;
	sosie_json_set_str(c->doc, "store", c->store_path);
	sosie_json_set_str(c->doc, "tenant", c->tenant.s);
	sosie_json_set_str(c->doc, "user", user);
	if (quota)
		sosie_json_set_u64(c->doc, "quota", quota);
	else
		sosie_json_set_null(c->doc, "quota");
	if (!c->json)
		show_tenant(c, quota, user);
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

static void key_document(struct command *c, const struct sosie_key *key, const char *line, const char *user)
{
	sosie_json_set_str(c->doc, "store", c->store_path);
	sosie_json_set_str(c->doc, "tenant", c->tenant.s);
	sosie_json_set_str(c->doc, "key", key->info.id);
	sosie_json_set_str(c->doc, "for", key->use == SOSIE_KEY_SIGNING ? "signing" : "ssh");
	sosie_json_set_str(c->doc, "type", key->info.type);
	sosie_json_set_str(c->doc, "fingerprint", key->info.fingerprint);
	sosie_json_set_str(c->doc, "comment", key->info.comment);
	command_groups_json(c->doc, key);
	sosie_json_set_str(c->doc, "authorized_keys", key->use == SOSIE_KEY_SSH ? line : NULL);
	sosie_json_set_str(c->doc, "user", user[0] ? user : NULL);
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

static int register_key(struct command *c, const char *text, size_t len, struct sosie_key *key,
                        struct sosie_err *err)
{
	return sosie_key_add(c->store, c->tenant.s, text, len, key->use, key->groups, key->group_count,
	                     &key->info, err);
}

/* Registers the key of the text, when there can be a line for it; key and line are its result. */
static int register_ssh(struct command *c, const char *text, size_t len, struct sosie_key *key, char *line,
                        size_t size, struct sosie_err *err)
{
	char receive[COMMAND_PATH];
	int rc;

	if (!command_beside("sosie-receive", receive))
		fprintf(stderr, "sosie: warning: there is no %s yet: the line needs it there\n", receive);
	rc = authorized_keys_line(line, size, receive, c->store_path, c->tenant.s, key,
	                          err); /* refuses before it registers */
	if (rc == 0)
		rc = register_key(c, text, len, key, err);
	return rc < 0 ? rc : authorized_keys_line(line, size, receive, c->store_path, c->tenant.s, key, err);
}

/* --for and --group. */
static int key_options(struct command *c, struct sosie_key *key, struct sosie_err *err)
{
	const char *use = options_get(&c->options, "for"), *name;
	char shown[80];
	int rc = 0;

	key->use = use && strcmp(use, "signing") == 0 ? SOSIE_KEY_SIGNING : SOSIE_KEY_SSH;
	if (use && key->use == SOSIE_KEY_SSH && strcmp(use, "ssh") != 0)
		return options_usage(&c->options, err, "--for takes ssh or signing, not \"%s\"",
		                     sosie_escape(shown, sizeof(shown), use, strlen(use)));
	for (size_t i = 0; rc == 0 && (name = options_nth(&c->options, "group", i)); i++) {
		if (i == SOSIE_KEY_GROUPS_MAX)
			return options_usage(&c->options, err, "--group may be given %u times",
			                     SOSIE_KEY_GROUPS_MAX);
		rc = sosie_name_set(&key->groups[key->group_count++], SOSIE_NAME_GROUP, name, err);
	}
	return rc;
}

static void say_registered(struct command *c, const struct sosie_key *key, const char *line, const char *user)
{
	if (key->use == SOSIE_KEY_SIGNING) {
		printf("Registered the signing key %s (%s) of the tenant %s\n", key->info.id,
		       key->info.fingerprint, c->tenant.s);
		return;
	}
	printf("%s\n", line);
	(void)fflush(stdout);
	fprintf(stderr, "sosie: key %s (%s) of the tenant %s is registered; the line %s belongs into\n",
	        key->info.id, key->info.fingerprint, c->tenant.s,
	        isatty(STDOUT_FILENO) ? "above" : "printed on standard output");
	if (user[0])
		fprintf(stderr, "sosie: " AUTHORIZED_KEYS_DIR "/%s, a file of root, mode 644\n", user);
	else
		fprintf(stderr, "sosie: ~/.ssh/authorized_keys of the user that sources log in as\n");
}

int verb_key_add(struct command *c, struct sosie_err *err)
{
	static char line[LINE_MAX_BYTES], text[KEY_FILE_MAX];
	static struct sosie_key key;
	char user[SOSIE_USER_MAX + 1] = "";
	size_t len = 0;
	int rc = key_options(c, &key, err);

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
		rc = key.use == SOSIE_KEY_SIGNING ? register_key(c, text, len, &key, err)
		                                  : register_ssh(c, text, len, &key, line, sizeof(line), err);
	if (rc == 0)
		rc = sosie_tenant_user(c->store, c->tenant.s, user, err);
	if (rc < 0)
		return rc;
	if (key.use == SOSIE_KEY_SSH)
		warn_key(c, &key.info);
	key_document(c, &key, line, user);
	if (!c->json)
		say_registered(c, &key, line, user);
	return 0;
}

/* SPDX-License-Identifier: MIT */
/* Opening what a verb works on, and showing what several verbs show. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sosie/bytes.h"
#include "sosie/cutover.h"
#include "tools/common/owner.h"
#include "tools/common/standby_key.h"
#include "tools/common/stop.h"
#include "tools/sosie/command.h"

#define DEPTH 32

int command_open_io(struct command *c, struct sosie_err *err)
{
	int rc = sosie_io_open(DEPTH, &c->base, c->io_reason, sizeof(c->io_reason), err);

	return rc < 0 ? rc : stop_io(c->base, &c->io, err);
}

int command_audit(struct command *c, const char *tenant, enum sosie_audit_kind kind, struct sosie_json *body,
                  struct sosie_err *err)
{
	struct sosie_store_info info;
	struct stat st;
	bool became = false;
	int rc;

	sosie_store_info(c->store, &info);
	if (geteuid() == 0 && stat(info.path, &st) == 0 && st.st_uid != 0) {
		/* Else a keeper could not append any more. */
		if (setegid(st.st_gid) != 0 || seteuid(st.st_uid) != 0) {
			sosie_json_free(body);
			return sosie_err_sys(err, errno, "cannot become user %u, who owns the store",
			                     (unsigned)st.st_uid);
		}
		became = true;
	}
	rc = sosie_audit_append(c->store, tenant, kind, body, NULL, err);
	if (became && (seteuid(0) != 0 || setegid(0) != 0) && rc == 0)
		rc = sosie_err_sys(err, errno, "cannot become root again");
	return rc;
}

void command_audit_try(struct command *c, const char *tenant, enum sosie_audit_kind kind,
                       struct sosie_json *body)
{
	struct sosie_err err;
	char line[1100];

	if (command_audit(c, tenant, kind, body, &err) == 0)
		return;
	progress_clear(&c->progress);
	fprintf(stderr, "sosie: warning: this is not in the audit log: %s\n",
	        sosie_err_line(&err, line, sizeof(line)));
}

const char *command_full_path(const char *path, char dst[COMMAND_PATH])
{
	char here[PATH_MAX];
	int n = -1;

	if (path[0] != '/' && getcwd(here, sizeof(here)))
		n = snprintf(dst, COMMAND_PATH, "%s/%s", here, path);
	if (n < 0 || n >= COMMAND_PATH)
		snprintf(dst, COMMAND_PATH, "%s", path);
	return dst;
}

const char *command_count(char dst[COMMAND_COUNT], uint64_t n, const char *what)
{
	snprintf(dst, COMMAND_COUNT, "%llu %s%s", (unsigned long long)n, what, n == 1 ? "" : "s");
	return dst;
}

/* Absolute where it can be; what is not there is told by who opens it. */
static int absolute_path(const char *path, char dst[COMMAND_PATH], struct sosie_err *err)
{
	char resolved[PATH_MAX], full[COMMAND_PATH];
	const char *found = realpath(path, resolved);

	if (!found && errno != ENOENT && errno != ENOTDIR) {
		sosie_err_sys(err, errno, "the store cannot be reached");
		return sosie_err_where(err, "%s", command_full_path(path, full));
	}
	if (!found)
		found = command_full_path(path, full);
	if (strlen(found) >= COMMAND_PATH)
		return sosie_err_set(err, SOSIE_ECONFIG, "the path of the store is longer than %d bytes",
		                     COMMAND_PATH - 1);
	memcpy(dst, found, strlen(found) + 1);
	return 0;
}

/* In a crisis a takeover goes on without the key, and says so. */
static void open_signer(struct command *c)
{
	struct sosie_err why = {0};
	char line[1100];

	if (standby_key_open(c->store, &c->signer, &why) == 0)
		return;
	sosie_json_set_error(c->doc, "not_signed", &why);
	fprintf(stderr, "sosie: what is done now is not signed: %s\n",
	        sosie_err_line(&why, line, sizeof(line)));
}

int command_open_store(struct command *c, struct sosie_err *err)
{
	const char *path;
	int rc = options_need(&c->options, "store", &path, err);

	if (rc == 0)
		rc = absolute_path(path, c->store_path, err);
	if (rc == 0 && c->verb->writes)
		rc = owner_become(c->store_path, c->root_again, err);
	if (rc == 0)
		rc = command_open_io(c, err);
	if (rc == 0)
		rc = sosie_store_open(c->io, c->clock, c->store_path, &c->store, err);
	if (rc == 0 && c->verb->signs)
		open_signer(c);
	return rc;
}

struct known_groups {
	char text[200];
	size_t len;
	unsigned count, more;
	const char *tenant;
};

static int on_known_group(void *arg, const struct sosie_name *name)
{
	struct known_groups *known = arg;
	const size_t need = strlen(known->tenant) + strlen(name->s) + 3;

	known->count++;
	if (known->more > 0 || known->len + need >= sizeof(known->text)) {
		known->more++;
		return 0;
	}
	known->len += (size_t)snprintf(known->text + known->len, sizeof(known->text) - known->len, "%s%s/%s",
	                               known->len > 0 ? ", " : "", known->tenant, name->s);
	return 0;
}

/* Adds the tenant's groups to the refusal of a name without one; what cannot be found out is left away. */
static void tell_groups(struct command *c, struct sosie_err *err)
{
	const char *tenant = c->options.operands[0];
	struct known_groups known = {.tenant = tenant};
	struct sosie_err ignored;
	char more[40] = "";

	if (strchr(tenant, '/') || sosie_name_set(&c->tenant, SOSIE_NAME_TENANT, tenant, &ignored) < 0 ||
	    !options_get(&c->options, "store") || command_open_store(c, &ignored) < 0 ||
	    sosie_store_groups(c->store, tenant, on_known_group, &known, &ignored) < 0 ||
	    sosie_inbox_groups(c->store, tenant, on_known_group, &known, &ignored) < 0)
		return;
	if (known.more > 0)
		snprintf(more, sizeof(more), ", and %u more", known.more);
	if (known.count > 0)
		sosie_err_action(err, "%s has: %s%s", tenant, known.text, more);
	else
		sosie_err_action(err, "%s has no group yet: one appears with its first upload", tenant);
}

int command_group_name(struct command *c, struct sosie_err *err)
{
	const int rc = sosie_name_pair(c->options.operands[0], &c->tenant, &c->name, err);

	if (rc < 0)
		tell_groups(c, err);
	return rc;
}

/* A group of which only the inbox is there: no keeper ever ran since its first upload. */
static int tell_inbox(struct command *c, struct sosie_err *err)
{
	static struct sosie_group_status inbox;
	char whole[COMMAND_COUNT];

	if (sosie_inbox_status(c->store, c->tenant.s, c->name.s, &inbox, NULL) < 0)
		return -(int)err->code;
	if (inbox.uploads_committed == 0) {
		sosie_err_set(err, SOSIE_ENOTFOUND, "%s/%s has no point yet: no upload is whole", c->tenant.s,
		              c->name.s);
		return sosie_err_action(err, "let the source finish the first; see \"sosie status\"");
	}
	sosie_err_set(err, SOSIE_ENOTFOUND, "%s/%s has no point yet: %s %s", c->tenant.s, c->name.s,
	              command_count(whole, inbox.uploads_committed, "whole upload"),
	              inbox.uploads_committed == 1 ? "waits" : "wait");
	return sosie_err_action(err, "run sosie-keeper --store %.150s --once, then the same command again",
	                        c->store_path);
}

int command_open_group(struct command *c, struct sosie_err *err)
{
	static struct command_alarms alarms;
	int rc = command_group_name(c, err);

	if (rc == 0)
		rc = command_open_store(c, err);
	if (rc < 0)
		return rc;
	sosie_json_set_str(c->doc, "store", c->store_path);
	sosie_json_set_str(c->doc, "tenant", c->tenant.s);
	sosie_json_set_str(c->doc, "group", c->name.s);
	if (c->verb->takes_inbox)
		rc = sosie_cutover_open(c->store, c->tenant.s, c->name.s, &c->group, err);
	else
		rc = sosie_group_open(c->store, c->tenant.s, c->name.s, &c->group, err);
	if (rc == -SOSIE_ENOTFOUND && !c->verb->takes_inbox)
		return tell_inbox(c, err);
	if (rc == 0 && command_alarms(c, c->tenant.s, c->name.s, &alarms, NULL) == 0)
		c->alarms = &alarms; /* what cannot be read is told by status */
	return rc;
}

void command_close(struct command *c)
{
	sosie_group_close(c->group);
	sosie_store_close(c->store);
	sosie_signer_close(c->signer);
	sosie_io_free(c->io);
	sosie_io_free(c->base);
	c->group = NULL;
	c->store = NULL;
	c->signer = NULL;
	c->io = c->base = NULL;
	if (c->root_again && geteuid() != 0)
		(void)owner_leave(NULL); /* a verb that failed before it did so itself */
}

int command_point(struct command *c, uint64_t *point, struct sosie_err *err)
{
	const char *text = options_get(&c->options, "point");
	unsigned long long number = 0;
	int rc;

	*point = 0;
	if (!text || strcmp(text, "latest") == 0)
		return 0;
	rc = options_number(&c->options, "point", 1, INT64_MAX, &number, NULL);
	*point = number;
	if (rc == 0)
		return 0;
	char shown[80];
	return options_usage(&c->options, err,
	                     "--point takes a point's number, from 1 on, or latest, not \"%s\"",
	                     sosie_escape(shown, sizeof(shown), text, strlen(text)));
}

/* The absolute form of a folder that need not exist, in a parent that does. */
static int resolve_folder(const char *path, char dst[COMMAND_PATH], struct sosie_err *err)
{
	char copy[COMMAND_PATH], resolved[PATH_MAX], full[COMMAND_PATH];
	size_t len = strlen(path);
	char *slash;
	int n;

	while (len > 1 && path[len - 1] == '/')
		len--;
	if (len >= sizeof(copy))
		return sosie_err_set(err, SOSIE_ECONFIG, "the path of the folder is longer than %d bytes",
		                     COMMAND_PATH - 1);
	memcpy(copy, path, len);
	copy[len] = '\0';
	if (realpath(copy, resolved)) {
		n = snprintf(dst, COMMAND_PATH, "%s", resolved);
		return n < COMMAND_PATH
		               ? 0
		               : sosie_err_set(err, SOSIE_ECONFIG, "the path of the folder is too long");
	}
	slash = strrchr(copy, '/');
	const char *name = slash ? slash + 1 : copy;
	if (errno != ENOENT || strcmp(name, "..") == 0 || strcmp(name, ".") == 0) {
		sosie_err_sys(err, errno, "the folder cannot be reached");
		return sosie_err_where(err, "%s", command_full_path(path, full));
	}
	if (slash)
		*slash = '\0';
	if (!realpath(slash == copy ? "/" : slash ? copy : ".", resolved)) {
		sosie_err_sys(err, errno, "the folder above %.300s cannot be reached",
		              command_full_path(path, full));
		return sosie_err_action(err, "make it first: only the last part of a path is made");
	}
	n = snprintf(dst, COMMAND_PATH, "%s/%s", strcmp(resolved, "/") == 0 ? "" : resolved, name);
	return n < COMMAND_PATH ? 0 : sosie_err_set(err, SOSIE_ECONFIG, "the path of the folder is too long");
}

int command_into(struct command *c, char dst[COMMAND_PATH], struct sosie_err *err)
{
	const char *into = options_get(&c->options, "into");

	dst[0] = '\0';
	return into ? resolve_folder(into, dst, err) : 0;
}

int64_t command_age_ms(struct command *c, int64_t wall_ms)
{
	const int64_t now = sosie_wall_ms(c->clock);

	return now > wall_ms ? now - wall_ms : 0;
}

void command_point_json(struct command *c, struct sosie_json *obj, const struct sosie_point *p)
{
	sosie_json_set_u64(obj, "point", p->point);
	sosie_json_set_time(obj, "cut_time", p->cut_ms);
	sosie_json_set_time(obj, "accepted_time", p->accepted_ms);
	sosie_json_set_i64(obj, "age_s", command_age_ms(c, p->cut_ms) / 1000);
	sosie_json_set_str(obj, "consistency", sosie_consistency_name(p->consistency));
	sosie_json_set_bool(obj, "verified", p->verified);
	struct sosie_json *alarms = sosie_json_add_arr(obj, "alarms");
	char id[SOSIE_ALARM_ID];
	for (unsigned i = 0; c->alarms && i < c->alarms->count; i++)
		sosie_json_push_str(alarms, sosie_alarm_id(id, c->alarms->list[i].number));
	sosie_json_set_u64(obj, "bytes", p->stored);
	sosie_json_set_hex(obj, "digest", p->digest.b, sizeof(p->digest.b));
}

const char *command_time(char dst[COMMAND_TIME], int64_t wall_ms)
{
	char text[SOSIE_TIME_TEXT];

	sosie_time_text(text, wall_ms);
	snprintf(dst, COMMAND_TIME, "%.10s %.8s UTC", text, text + 11);
	return dst;
}

static int digest_images(struct command *c, struct sosie_image *images, unsigned count, struct sosie_err *err)
{
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < count; i++)
		rc = sosie_image_digest(c->store, &images[i], &c->progress.report, err);
	progress_clear(&c->progress);
	return rc;
}

int command_images(struct command *c, struct sosie_image *images, unsigned count, bool digest,
                   struct sosie_err *err)
{
	struct sosie_json *list = sosie_json_add_arr(c->doc, "images");
	char hex[2 * SOSIE_DIGEST_LEN + 1], size[32];
	int rc = digest ? digest_images(c, images, count, err) : 0;

	if (rc < 0)
		return rc;
	for (unsigned i = 0; i < count; i++) {
		struct sosie_json *obj = sosie_json_push_obj(list);
		sosie_hex(hex, images[i].sha256.b, SOSIE_DIGEST_LEN);
		sosie_json_set_str(obj, "volume", images[i].volume.s);
		sosie_json_set_u64(obj, "size", images[i].size);
		sosie_json_set_str(obj, "path", images[i].path);
		sosie_json_set_str(obj, "sha256", digest ? hex : NULL);
		if (c->json)
			continue;
		printf("  %-16s %10s  %s\n", images[i].volume.s,
		       sosie_size_text(size, sizeof(size), images[i].size), images[i].path);
		if (digest)
			printf("  %-16s SHA-256 %s\n", "", hex);
	}
	return 0;
}

bool command_beside(const char *name, char dst[COMMAND_PATH])
{
	const ssize_t n = readlink("/proc/self/exe", dst, COMMAND_PATH - 1);
	char *slash;

	dst[n > 0 ? n : 0] = '\0';
	slash = strrchr(dst, '/');
	if (!slash || (size_t)(slash - dst) + strlen(name) + 2 > COMMAND_PATH) {
		snprintf(dst, COMMAND_PATH, "%s", name);
		return false;
	}
	memcpy(slash + 1, name, strlen(name) + 1);
	return access(dst, X_OK) == 0;
}

void command_program(const char *name, char dst[COMMAND_PATH])
{
	if (!command_beside(name, dst))
		snprintf(dst, COMMAND_PATH, "%s", name);
}

/* SPDX-License-Identifier: MIT */
/*
 * What the verbs of sosie share: one struct command for each run, filled in by main.c and command.c, and the
 * table of verbs. A verb returns 0, COMMAND_FINDINGS (exit 3), COMMAND_FOUND (done, and found something: exit
 * 5), COMMAND_SOME (some done: exit 6), or a negative code with err filled in.
 */
#ifndef TOOLS_SOSIE_COMMAND_H
#define TOOLS_SOSIE_COMMAND_H

#include "sosie/alarm.h"
#include "sosie/audit.h"
#include "sosie/door.h"
#include "sosie/quota.h"
#include "sosie/store.h"
#include "tools/common/document.h"
#include "tools/common/options.h"
#include "tools/common/progress.h"

#define COMMAND_FINDINGS 3 /* store check: a person must decide */
#define COMMAND_FOUND 5
#define COMMAND_SOME 6
#define COMMAND_PATH 4096

struct command;
struct command_alarms;
struct verb {
	const char *name;     /* "store init" */
	const char *schema;   /* of its document: "store-init" */
	const char *synopsis; /* behind "sosie " in --help */
	const char *summary;  /* one line in the overview */
	const char *text;     /* the rest of --help */
	const struct option_spec *specs;
	size_t spec_count;
	size_t min, max; /* operands */
	const char *operand_names;
	bool takes_inbox; /* accepts a first upload that waits without a keeper, instead of only telling of it
	                   */
	bool writes;      /* into the store: done as the store's owner */
	bool signs;       /* with the standby's key, where it can */
	const char *interrupted; /* what the same command does after an interruption */
	int (*run)(struct command *c, struct sosie_err *err);
};

struct command {
	const struct verb *verb;
	struct options options;
	bool json;
	bool printed;           /* the document has been printed already */
	bool root_again;        /* set before the store is opened: the verb goes on as root (owner_leave) */
	struct sosie_json *doc; /* NULL without --json; setters of json.h take that */
	struct sosie_clock *clock;
	struct sosie_io *base, *io; /* io stops when a signal asked to */
	char io_reason[160];
	char store_path[COMMAND_PATH];
	struct sosie_store *store;
	struct sosie_signer *signer; /* NULL: what is done is not signed */
	struct sosie_group *group;
	struct sosie_name tenant, name;
	struct command_alarms *alarms; /* of the group that is shown, or NULL */
	struct progress progress;
	char interrupted[256];  /* in place of the verb's text, when not empty */
	struct sosie_err *some; /* COMMAND_SOME: the first thing that failed */
};

/* Opens the ring, or threads. */
int command_open_io(struct command *c, struct sosie_err *err);
/* Opens --store (and the ring). */
int command_open_store(struct command *c, struct sosie_err *err);
/* Opens --store and the group that the first operand names, and says both in the document. */
int command_open_group(struct command *c, struct sosie_err *err);
void command_close(struct command *c);
/* Reads the first operand as TENANT/GROUP; a tenant alone is answered with the groups that it has. */
int command_group_name(struct command *c, struct sosie_err *err);
/* "--point N|latest": 0 for latest or not given. */
int command_point(struct command *c, uint64_t *point, struct sosie_err *err);
/* The absolute path that --into means; its parent must exist. Empty when not given. */
int command_into(struct command *c, char dst[COMMAND_PATH], struct sosie_err *err);

/* Open alarms of one place: at most one of each kind. */
struct command_alarms {
	unsigned count;
	struct sosie_alarm list[SOSIE_ALARM_KINDS];
};
/* group NULL: the tenant's; both NULL: the store's. */
int command_alarms(struct command *c, const char *tenant, const char *group, struct command_alarms *out,
                   struct sosie_err *err);
/* As the member "alarms" of obj; a line for each. */
void command_alarms_json(struct sosie_json *obj, const struct command_alarms *alarms);
void command_alarms_show(const struct command_alarms *alarms, const char *indent);
/* "groups" of a key: names, null when it is for all. */
void command_groups_json(struct sosie_json *obj, const struct sosie_key *key);
/* A point as every document shows it. Its "alarms" are the ids of what is open for the group that c works on:
 * that its content was verified when it was accepted does not say that it is clean. */
void command_point_json(struct command *c, struct sosie_json *obj, const struct sosie_point *p);
/* "1 point", "2 points" */
#define COMMAND_COUNT 64
const char *command_count(char dst[COMMAND_COUNT], uint64_t n, const char *what);
/* The path in full, for messages about what may not exist. */
const char *command_full_path(const char *path, char dst[COMMAND_PATH]);
/* "2026-11-22 03:27:00 UTC" */
#define COMMAND_TIME 32
const char *command_time(char dst[COMMAND_TIME], int64_t wall_ms);
/* "2 m 4 s ago"; now minus then, never negative. */
int64_t command_age_ms(struct command *c, int64_t wall_ms);
/* Computes digests when asked (--digest) and shows the images, as document and as a table. */
int command_images(struct command *c, struct sosie_image *images, unsigned count, bool digest,
                   struct sosie_err *err);
/* The path of a program of ours beside this one; false when nothing runnable is there. */
bool command_beside(const char *name, char dst[COMMAND_PATH]);
/* The same, else its bare name for a search in PATH. */
void command_program(const char *name, char dst[COMMAND_PATH]);

int verb_card(struct command *c, struct sosie_err *err);
int verb_head(struct command *c, struct sosie_err *err);
/* Appends to the audit log of the tenant, NULL: of the store, as the store's owner. Frees body. */
int command_audit(struct command *c, const char *tenant, enum sosie_audit_kind kind, struct sosie_json *body,
                  struct sosie_err *err);
/* The same where the work must not depend on it: what went wrong is a warning. */
void command_audit_try(struct command *c, const char *tenant, enum sosie_audit_kind kind,
                       struct sosie_json *body);

int verb_store_init(struct command *c, struct sosie_err *err);
int verb_store_key(struct command *c, struct sosie_err *err);
int verb_tenant_add(struct command *c, struct sosie_err *err);
int verb_tenant_set(struct command *c, struct sosie_err *err);
int verb_tenant_show(struct command *c, struct sosie_err *err);
int verb_alarm_list(struct command *c, struct sosie_err *err);
int verb_alarm_close(struct command *c, struct sosie_err *err);
int verb_key_add(struct command *c, struct sosie_err *err);
int verb_key_list(struct command *c, struct sosie_err *err);
int verb_key_revoke(struct command *c, struct sosie_err *err);
int verb_audit(struct command *c, struct sosie_err *err);
int verb_keygen(struct command *c, struct sosie_err *err);
int verb_store_check(struct command *c, struct sosie_err *err);
int verb_points(struct command *c, struct sosie_err *err);
int verb_verify(struct command *c, struct sosie_err *err);
int verb_export(struct command *c, struct sosie_err *err);
int verb_cutover(struct command *c, struct sosie_err *err);
int verb_status(struct command *c, struct sosie_err *err);
int verb_policy_show(struct command *c, struct sosie_err *err);
int verb_policy_set(struct command *c, struct sosie_err *err);
int verb_policy_cancel(struct command *c, struct sosie_err *err);
int verb_pin(struct command *c, struct sosie_err *err);
int verb_unpin(struct command *c, struct sosie_err *err);
int verb_pin_list(struct command *c, struct sosie_err *err);
int verb_prune(struct command *c, struct sosie_err *err);
int verb_clock_accept(struct command *c, struct sosie_err *err);
/* status --config FILE, --state DIR: of the source's daemon. One of both is given. */
int status_of_source(struct command *c, const char *file, const char *state, struct sosie_err *err);
/* policy.c: "wish.all = 3 d (group)"; returns dst. */
struct sosie_policy_change;
const char *policy_change_text(char *dst, size_t size, const struct sosie_policy_change *change);
/* Does not return when sosied could be run. */
int replicate_exec(char **argv, struct sosie_err *err);

/* authorized_keys.c: the line for one key (info and groups of it). SOSIE_ECONFIG when a path cannot be quoted
 * safely. */
int authorized_keys_line(char *dst, size_t size, const char *receive, const char *store, const char *tenant,
                         const struct sosie_key *key, struct sosie_err *err);

/* sshd's file of keys for the user of a tenant's receivers: root's, so that they cannot add to it. */
#define AUTHORIZED_KEYS_DIR "/etc/ssh/sosie/authorized_keys"

/* accounts.c: whether the user of a tenant's receivers can do what sshd's forced command needs, and nothing
 * else. found as in struct sosie_check. sshd_config: NULL for sshd's own. note (of size bytes) says what
 * could not be looked at, or is empty. */
void accounts_check(const char *user, const char *sshd_config,
                    void (*found)(void *arg, const struct sosie_finding *finding), void *arg, char *note,
                    size_t size);

#endif

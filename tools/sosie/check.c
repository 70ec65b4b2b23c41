/* SPDX-License-Identifier: MIT */
/* store check: who may do what in the store and at its door, and what the machine can confine. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sosie/confine.h"
#include "sosie/sandbox.h"
#include "tools/sosie/command.h"

struct shown {
	struct command *c;
	struct sosie_json *list;
	uint64_t accounts; /* findings beside the store's own */
	struct sosie_json *tenants;
	char note[320];
};

static void show(struct shown *s, const struct sosie_finding *f)
{
	struct sosie_json *obj = sosie_json_push_obj(s->list);

	sosie_json_set_str(obj, "code", f->code);
	sosie_json_set_str(obj, "path", f->path);
	sosie_json_set_str(obj, "what", f->what);
	sosie_json_set_str(obj, "mend", f->mend);
	sosie_json_set_bool(obj, "mended", f->mended);
	if (s->c->json)
		return;
	printf("%s %s [%s]\n", f->path, f->what, f->code);
	printf("    %s %s\n", f->mended ? "mended:" : "mend:", f->mend);
}

static void on_finding(void *arg, const struct sosie_finding *f)
{
	show(arg, f);
}

static void on_account(void *arg, const struct sosie_finding *f)
{
	struct shown *s = arg;

	s->accounts++;
	show(s, f);
}

static int on_tenant(void *arg, const struct sosie_name *tenant)
{
	struct shown *s = arg;
	struct sosie_json *obj = sosie_json_push_obj(s->tenants);
	char user[SOSIE_USER_MAX + 1];

	if (sosie_tenant_user(s->c->store, tenant->s, user, NULL) < 0)
		user[0] = '\0';
	sosie_json_set_str(obj, "tenant", tenant->s);
	sosie_json_set_str(obj, "user", user[0] ? user : NULL);
	if (user[0])
		accounts_check(user, options_get(&s->c->options, "sshd-config"), on_account, s, s->note,
		               sizeof(s->note));
	return 0;
}

/* Facts about the machine: what it lacks is no finding, for nobody can mend it here. */
static void show_machine(struct command *c)
{
	struct sosie_store_info info;
	char lacks[200], text[240];
	int abi = sosie_confine_landlock(lacks, sizeof(lacks));

	sosie_store_info(c->store, &info);
	struct sosie_json *kernel = sosie_json_add_obj(c->doc, "kernel");
	sosie_json_set_i64(kernel, "landlock", abi);
	sosie_json_set_str(kernel, "landlock_lacks", lacks);
	sosie_json_set_bool(kernel, "seccomp", sosie_sandbox_seccomp());
	sosie_json_set_bool(c->doc, "reflink", info.reflink);
	if (c->json)
		return;
	snprintf(text, sizeof(text), lacks[0] ? " (cannot forbid: %s)" : "%s", lacks);
	printf("Kernel: Landlock %d%s, seccomp: %s. Filesystem of the store: reflink: %s.\n", abi, text,
	       sosie_sandbox_seccomp() ? "yes" : "no", info.reflink ? "yes" : "no");
}

static void sum_up(struct command *c, const struct sosie_check *check, const struct shown *s)
{
	const uint64_t left = check->findings + s->accounts;
	char found[COMMAND_COUNT], mended[COMMAND_COUNT], tenants[COMMAND_COUNT];

	sosie_json_set_u64(c->doc, "looked", check->looked);
	sosie_json_set_u64(c->doc, "left", left);
	sosie_json_set_u64(c->doc, "mended", check->mended);
	sosie_json_set_str(c->doc, "note", s->note[0] ? s->note : NULL);
	if (c->json)
		return;
	if (s->note[0])
		printf("Note: %s\n", s->note);
	printf("%s, %u with receivers of a user of their own; %llu files and folders: %s%s%s\n",
	       command_count(tenants, check->tenants, "tenant"), check->users,
	       (unsigned long long)check->looked,
	       left ? command_count(found, left, "finding") : "nothing is left to mend",
	       check->mended ? ", mended: " : "",
	       check->mended ? command_count(mended, check->mended, "finding") : "");
}

/* STORE as the operand, in the place of --store. */
static int take_operand(struct command *c, struct sosie_err *err)
{
	const struct options *o = &c->options;

	for (size_t i = 0; i < o->given_count && o->operand_count > 0; i++)
		if (strcmp(o->specs[o->given_spec[i]].name, "store") == 0)
			return options_usage(o, err, "the store is given twice: as %s, and by --store",
			                     o->operands[0]);
	if (o->operand_count > 0 && setenv("SOSIE_STORE", o->operands[0], 1) != 0)
		return sosie_err_sys(err, errno, "cannot remember the store");
	return 0;
}

int verb_store_check(struct command *c, struct sosie_err *err)
{
	struct shown s = {.c = c};
	struct sosie_check check = {.mend = options_has(&c->options, "mend"), .found = on_finding, .arg = &s};
	int rc = take_operand(c, err);

	if (rc == 0 && check.mend && geteuid() != 0) {
		rc = sosie_err_set(err, SOSIE_EDENIED, "owners and groups can be mended by root only");
		sosie_err_action(err, "run it as root, or run the commands that it prints without --mend");
	}
	if (rc == 0)
		rc = command_open_store(c, err);
	if (rc < 0)
		return rc;
	sosie_json_set_str(c->doc, "store", c->store_path);
	s.list = sosie_json_add_arr(c->doc, "findings");
	rc = sosie_store_check(c->store, &check, err);
	s.tenants = sosie_json_add_arr(c->doc, "tenants");
	if (rc == 0)
		rc = sosie_store_tenants(c->store, on_tenant, &s, err);
	if (rc < 0)
		return rc;
	show_machine(c);
	sum_up(c, &check, &s);
	return check.findings + s.accounts > 0 ? COMMAND_FINDINGS : 0;
}

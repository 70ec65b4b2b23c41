/* SPDX-License-Identifier: MIT */
/* audit: the history of a tenant, or of the whole store, for people and as lines of JSON. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/sosie/command.h"

#define TEXT_SHOWN 300u
#define BODY_MAX (2u << 20)

struct audit {
	struct command *c;
	uint64_t entries;
	int rc;
	struct sosie_err *err;
};

/* --- for people
 * ------------------------------------------------------------------------------------------------- */

struct shown {
	const struct sosie_history *entry;
	const struct sosie_json *body;
};

/* Said already, or of no use to a person. */
static bool left_out(const struct sosie_history *e, const char *name)
{
	static const char *const names[] = {"format", "kind", "group", "time", "blob", "by"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return e->tenant && strcmp(name, "tenant") == 0;
}

static int show_member(void *arg, const char *name)
{
	const struct shown *s = arg;
	const struct sosie_json *body = s->body;
	char shown[TEXT_SHOWN];
	const char *text;
	int64_t number;
	bool yes;

	if (left_out(s->entry, name) || sosie_json_is_null(body, name))
		return 0;
	if (sosie_json_str(body, name, BODY_MAX, &text, NULL) == 0)
		printf(strpbrk(text, " =") || !*text ? " %s=\"%s\"" : " %s=%s", name,
		       sosie_escape(shown, sizeof(shown), text, strlen(text)));
	else if (sosie_json_i64(body, name, &number, NULL) == 0)
		printf(" %s=%lld", name, (long long)number);
	else if (sosie_json_bool(body, name, &yes, NULL) == 0)
		printf(" %s=%s", name, yes ? "yes" : "no");
	else
		printf(" %s=…", name); /* a list or an object: --json has it */
	return 0;
}

static void show_by(struct sosie_json *body)
{
	char shown[TEXT_SHOWN];
	struct sosie_json *by;
	const char *text;

	if (!sosie_json_has(body, "by"))
		return;
	if (sosie_json_str(body, "by", BODY_MAX, &text, NULL) == 0) /* of an epoch */
		printf(" by %s", sosie_escape(shown, sizeof(shown), text, strlen(text)));
	if (sosie_json_obj(body, "by", &by, NULL) < 0)
		return;
	if (sosie_json_str(by, "user", BODY_MAX, &text, NULL) == 0)
		printf(" by %s", sosie_escape(shown, sizeof(shown), text, strlen(text)));
	if (sosie_json_has(by, "sudo") && sosie_json_str(by, "sudo", BODY_MAX, &text, NULL) == 0)
		printf(" (sudo: %s)", sosie_escape(shown, sizeof(shown), text, strlen(text)));
}

/* An entry of a tenant's log may be about one of its groups. */
static const char *group_of(const struct sosie_history *e, const struct sosie_json *body)
{
	const char *text;

	if (e->group)
		return e->group;
	return sosie_json_has(body, "group") &&
	                       sosie_json_str(body, "group", SOSIE_NAME_MAX, &text, NULL) == 0
	               ? text
	               : NULL;
}

static void show_entry(const struct sosie_history *e, struct sosie_json *body)
{
	char time[COMMAND_TIME], shown[4 * SOSIE_NAME_MAX + 1], place[6 * SOSIE_NAME_MAX];
	const char *group = group_of(e, body);
	struct shown s = {e, body};

	snprintf(place, sizeof(place), "%s%s%s", e->tenant ? e->tenant : "(store)", group ? "/" : "",
	         group ? sosie_escape(shown, sizeof(shown), group, strlen(group)) : "");
	printf("%s  %s  %s %llu:", command_time(time, e->entry.time_ms), place, e->kind,
	       (unsigned long long)e->entry.number);
	(void)sosie_json_names(body, show_member, &s);
	show_by(body);
	printf("\n");
}

/* --- for programs
 * ----------------------------------------------------------------------------------------------- */

static int print_line(struct sosie_json *doc, const char *more, struct sosie_err *err)
{
	char *text = NULL;
	size_t len = 0;
	int rc = doc ? sosie_json_text(doc, 0, &text, &len, err) : sosie_err_sys(err, ENOMEM, "cannot print");

	sosie_json_free(doc);
	if (rc == 0 && more)
		printf("%.*s,\"body\":%s}\n", (int)len - 1, text, more);
	else if (rc == 0)
		printf("%s\n", text);
	if (rc == 0 && ferror(stdout))
		rc = sosie_err_sys(err, errno, "cannot print the result");
	free(text);
	return rc;
}

static int print_entry(struct audit *a, const struct sosie_history *e)
{
	struct sosie_json *doc = sosie_json_new();
	char *body = strndup(e->entry.text, e->entry.len);

	if (!body) {
		sosie_json_free(doc);
		return sosie_err_sys(a->err, ENOMEM, "cannot print");
	}
	for (char *at = body; *at;
	     at++) /* between members, where it means nothing; inside texts it cannot be */
		if (*at == '\n' || *at == '\r')
			*at = ' ';
	sosie_json_set_str(doc, "schema", "sosie/audit-entry/1");
	sosie_json_set_time(doc, "time", e->entry.time_ms);
	sosie_json_set_str(doc, "tenant", e->tenant);
	sosie_json_set_str(doc, "group", e->group);
	sosie_json_set_str(doc, "kind", e->kind);
	sosie_json_set_u64(doc, "number", e->entry.number);
	sosie_json_set_hex(doc, "digest", e->entry.digest.b, sizeof(e->entry.digest.b));
	int rc = print_line(doc, body, a->err);
	free(body);
	return rc;
}

/* The last line: whether that was all. */
static int print_end(struct audit *a, const struct sosie_err *failure)
{
	struct sosie_err err;
	struct sosie_json *doc = document_new("audit");

	sosie_json_set_str(doc, "store", a->c->store_path);
	sosie_json_set_bool(doc, "ok", !failure);
	sosie_json_set_u64(doc, "entries", a->entries);
	(void)sosie_json_set_error(doc, "error", failure);
	return print_line(doc, NULL, &err);
}

/* --- the verb
 * --------------------------------------------------------------------------------------------------- */

static int on_entry(void *arg, const struct sosie_history *e)
{
	struct audit *a = arg;
	struct sosie_json *body;

	a->rc = sosie_json_parse(e->entry.text, e->entry.len, BODY_MAX, &body, a->err);
	if (a->rc < 0) {
		sosie_err_wrap(a->err, "%s entry %llu", e->kind, (unsigned long long)e->entry.number);
		return 1;
	}
	if (a->c->json)
		a->rc = print_entry(a, e);
	else
		show_entry(e, body);
	sosie_json_free(body);
	a->entries++;
	return a->rc != 0;
}

/* A date, a time as --json prints it, or how long ago. */
static int since(struct command *c, int64_t *ms, struct sosie_err *err)
{
	const char *text = options_get(&c->options, "since");
	char full[SOSIE_TIME_TEXT], shown[80];
	uint64_t ago;

	*ms = 0;
	if (!text)
		return 0;
	snprintf(full, sizeof(full), "%.10sT00:00:00.000Z", text);
	if (sosie_time_parse(strlen(text) == 10 ? full : text, ms, NULL) == 0)
		return 0;
	*ms = sosie_wall_ms(c->clock);
	if (sosie_duration_parse(text, &ago, NULL) == 0 && ago <= (uint64_t)*ms) {
		*ms -= (int64_t)ago;
		return 0;
	}
	return options_usage(
	        &c->options, err,
	        "--since takes a date, a time such as 2026-11-22T03:27:00.000Z, or 7d, not \"%s\"",
	        sosie_escape(shown, sizeof(shown), text, strlen(text)));
}

int verb_audit(struct command *c, struct sosie_err *err)
{
	struct audit a = {.c = c, .err = err};
	const char *tenant = c->options.operand_count ? c->options.operands[0] : NULL;
	struct sosie_tenant_info info;
	int64_t from;
	int rc = since(c, &from, err);

	if (rc == 0 && tenant)
		rc = sosie_name_set(&c->tenant, SOSIE_NAME_TENANT, tenant, err);
	if (rc == 0)
		rc = command_open_store(c, err);
	if (rc == 0 && tenant) /* names a tenant that is not there */
		rc = sosie_tenant_info(c->store, c->tenant.s, &info, err);
	if (rc < 0)
		return rc;
	rc = sosie_audit_history(c->store, tenant, from, on_entry, &a, err);
	rc = a.rc < 0 ? a.rc : rc;
	if (c->json && print_end(&a, rc < 0 ? err : NULL) == 0) {
		sosie_json_free(c->doc); /* its lines are printed */
		c->doc = NULL;
		c->printed = true;
	}
	return rc;
}

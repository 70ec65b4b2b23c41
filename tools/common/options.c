/* SPDX-License-Identifier: MIT */
/* Table-driven parser of command lines. */
#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/common/options.h"

#define HELP_COLUMN 25
#define SHOWN 160

static const char *shown(char dst[SHOWN], const char *text)
{
	return sosie_escape(dst, SHOWN, text, strlen(text));
}

int options_usage(const struct options *o, struct sosie_err *err, const char *fmt, ...)
{
	char text[400];
	va_list ap;

	va_start(ap, fmt);
	if (vsnprintf(text, sizeof(text), fmt, ap) < 0)
		text[0] = '\0';
	va_end(ap);
	sosie_err_set(err, SOSIE_EUSAGE, "%s", text);
	sosie_err_action(err, "see %s --help", o->command);
	return -SOSIE_EUSAGE;
}

/* Index of the spec called name[0..len), or SIZE_MAX. */
static size_t find_spec(const struct options *o, const char *name, size_t len)
{
	for (size_t i = 0; i < o->spec_count; i++)
		if (strlen(o->specs[i].name) == len && memcmp(o->specs[i].name, name, len) == 0)
			return i;
	return SIZE_MAX;
}

static bool is_given(const struct options *o, size_t spec)
{
	for (size_t i = 0; i < o->given_count; i++)
		if (o->given_spec[i] == spec)
			return true;
	return false;
}

/* What stands in for a value: "--store --json" is a forgotten value, not a store called "--json". */
static bool looks_like_option(const char *text)
{
	return strncmp(text, "--", 2) == 0;
}

/* Takes one option at argv[*at]; *at is left at its last word. */
static int take_option(struct options *o, int argc, char *const *argv, int *at, struct sosie_err *err)
{
	const char *name = argv[*at] + 2, *equals = strchr(name, '=');
	const size_t len = equals ? (size_t)(equals - name) : strlen(name);
	const size_t spec = find_spec(o, name, len);
	const char *value = equals ? equals + 1 : NULL;
	char text[SHOWN];

	if (spec == SIZE_MAX)
		return options_usage(o, err, "unknown option %s",
		                     sosie_escape(text, sizeof(text), argv[*at], len + 2));
	const struct option_spec *s = &o->specs[spec];
	if (!s->many && is_given(o, spec))
		return options_usage(o, err, "--%s is given twice", s->name);
	if (!s->value && value)
		return options_usage(o, err, "--%s takes no value", s->name);
	if (s->value && !value) {
		if (*at + 1 >= argc || looks_like_option(argv[*at + 1]))
			return options_usage(o, err, "--%s needs a value: --%s %s", s->name, s->name,
			                     s->value);
		value = argv[++*at];
	}
	if (s->value && !*value)
		return options_usage(o, err, "the value of --%s is empty", s->name);
	o->given[o->given_count] = s->value ? value : "";
	o->given_spec[o->given_count++] = spec;
	return 0;
}

static int take_all(struct options *o, int argc, char *const *argv, struct sosie_err *err)
{
	bool only_operands = false;
	char text[SHOWN];

	for (int i = 0; i < argc; i++) {
		int rc = 0;
		if (only_operands || argv[i][0] != '-' || !argv[i][1])
			o->operands[o->operand_count++] = argv[i];
		else if (strcmp(argv[i], "--") == 0)
			only_operands = true;
		else if (argv[i][1] != '-')
			rc = options_usage(o, err, "unknown option %s", shown(text, argv[i]));
		else
			rc = take_option(o, argc, argv, &i, err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* --help and --version hold wherever they stand, whatever else is wrong. */
static bool look_for_help(struct options *o, int argc, char *const *argv)
{
	for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++) {
		o->help |= strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0;
		o->version |= strcmp(argv[i], "--version") == 0;
	}
	return o->help || o->version;
}

static int allocate(struct options *o, int argc, struct sosie_err *err)
{
	const size_t n = argc > 0 ? (size_t)argc : 1;

	o->given = calloc(n, sizeof(*o->given));
	o->given_spec = calloc(n, sizeof(*o->given_spec));
	o->operands = calloc(n, sizeof(*o->operands));
	if (!o->given || !o->given_spec || !o->operands)
		return sosie_err_sys(err, ENOMEM, "cannot read the command line");
	return 0;
}

int options_parse(struct options *o, const char *command, const struct option_spec *specs, size_t spec_count,
                  int argc, char *const *argv, size_t min, size_t max, const char *operand_names,
                  struct sosie_err *err)
{
	char text[SHOWN];
	int rc;

	memset(o, 0, sizeof(*o));
	o->command = command;
	o->specs = specs;
	o->spec_count = spec_count;
	rc = allocate(o, argc, err);
	if (rc < 0)
		return rc;
	if (look_for_help(o, argc, argv))
		return 0;
	rc = take_all(o, argc, argv, err);
	if (rc < 0)
		return rc;
	if (o->operand_count > max)
		return options_usage(o, err, "too much on the command line: \"%s\"",
		                     shown(text, o->operands[max]));
	if (o->operand_count < min)
		return options_usage(o, err, "something is missing on the command line: %s", operand_names);
	return 0;
}

void options_fini(struct options *o)
{
	free(o->given);
	free(o->given_spec);
	free(o->operands);
	memset(o, 0, sizeof(*o));
}

const char *options_nth(const struct options *o, const char *name, size_t i)
{
	const size_t spec = find_spec(o, name, strlen(name));

	assert(spec != SIZE_MAX);
	for (size_t k = 0; k < o->given_count; k++)
		if (o->given_spec[k] == spec && i-- == 0)
			return o->given[k];
	return NULL;
}

const char *options_get(const struct options *o, const char *name)
{
	const char *value = options_nth(o, name, 0);
	const char *env = o->specs[find_spec(o, name, strlen(name))].env;

	if (!value && env) {
		value = getenv(env);
		if (value && !*value)
			value = NULL;
	}
	return value;
}

bool options_has(const struct options *o, const char *name)
{
	return options_get(o, name) != NULL;
}

int options_need(const struct options *o, const char *name, const char **out, struct sosie_err *err)
{
	const struct option_spec *s = &o->specs[find_spec(o, name, strlen(name))];

	*out = options_get(o, name);
	if (*out)
		return 0;
	if (s->env)
		return options_usage(o, err, "--%s %s is missing (or set %s)", s->name, s->value, s->env);
	return options_usage(o, err, "--%s %s is missing", s->name, s->value);
}

int options_number(const struct options *o, const char *name, unsigned long long min, unsigned long long max,
                   unsigned long long *out, struct sosie_err *err)
{
	const char *text = options_get(o, name);
	unsigned long long value = 0;
	char quoted[SHOWN];

	if (!text)
		return 0;
	for (const char *at = text; *at; at++) {
		if (*at < '0' || *at > '9' || value > (max - (unsigned)(*at - '0')) / 10)
			goto refuse;
		value = value * 10 + (unsigned)(*at - '0');
	}
	if (*text && value >= min && value <= max) {
		*out = value;
		return 0;
	}
refuse:
	return options_usage(o, err, "--%s takes a whole number from %llu to %llu, not \"%s\"", name, min,
	                     max, shown(quoted, text));
}

void options_print(const struct option_spec *specs, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		char head[64];
		if (!specs[i].help)
			continue;
		snprintf(head, sizeof(head), "--%s%s%s", specs[i].name, specs[i].value ? " " : "",
		         specs[i].value ? specs[i].value : "");
		if (strlen(head) > HELP_COLUMN - 4)
			printf("  %s\n%*s%s", head, HELP_COLUMN, "", specs[i].help);
		else
			printf("  %-*s%s", HELP_COLUMN - 2, head, specs[i].help);
		if (specs[i].env)
			printf("%s[%s]",
			       strlen(specs[i].help) + strlen(specs[i].env) + HELP_COLUMN + 3 > 80
			               ? "\n                         "
			               : " ",
			       specs[i].env);
		putchar('\n');
	}
}

bool options_wants_json(int argc, char *const *argv)
{
	for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++)
		if (strcmp(argv[i], "--json") == 0)
			return true;
	return false;
}

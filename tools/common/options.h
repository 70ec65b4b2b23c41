/* SPDX-License-Identifier: MIT */
/*
 * The command line, by table. Long options only: --name VALUE, --name=VALUE, --flag; they stand before or
 * after the operands, "--" ends them. Every program's options look and fail alike: one line that names the
 * option, and the way to --help.
 */
#ifndef TOOLS_OPTIONS_H
#define TOOLS_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

#include "sosie/err.h"

struct option_spec {
	const char *name;  /* without the dashes */
	const char *value; /* what the value is called ("DIR"); NULL: a flag */
	const char *env; /* environment variable that stands in when the option is not given (and the variable
	                    not empty), or NULL */
	bool many;       /* may be given more than once */
	const char *help; /* one line for --help; NULL: not shown */
};

/* What was given. All texts are borrowed from argv and the environment. */
struct options {
	const char *command; /* "sosie points": for messages */
	const struct option_spec *specs;
	size_t spec_count;
	const char **given; /* pairs (index of) spec, value in the order of the command line */
	size_t *given_spec;
	size_t given_count;
	const char **operands;
	size_t operand_count;
	bool help, version; /* --help, --version: known everywhere; the rest is then not checked */
};

/* argv[0] is the first argument after the command. At least min and at most max operands; operand_names for
 * messages: "TENANT/GROUP". SOSIE_EUSAGE otherwise. options_fini in any case. */
int options_parse(struct options *o, const char *command, const struct option_spec *specs, size_t spec_count,
                  int argc, char *const *argv, size_t min, size_t max, const char *operand_names,
                  struct sosie_err *err);
void options_fini(struct options *o);

/* Value of the option (a flag: ""), from the command line, else from its environment variable; NULL when
 * neither. An option that is not in the table is our own bug. */
const char *options_get(const struct options *o, const char *name);
/* The i-th value of an option that may be given many times; NULL behind the last. */
const char *options_nth(const struct options *o, const char *name, size_t i);
bool options_has(const struct options *o, const char *name);
/* As options_get; SOSIE_EUSAGE naming the option and its variable when there is none. */
int options_need(const struct options *o, const char *name, const char **out, struct sosie_err *err);
/* Whole numbers in [min, max]; *out unchanged when the option is not given. */
int options_number(const struct options *o, const char *name, unsigned long long min, unsigned long long max,
                   unsigned long long *out, struct sosie_err *err);

/* SOSIE_EUSAGE with the way to --help: "TEXT: see sosie points --help". */
int options_usage(const struct options *o, struct sosie_err *err, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));
/* The table as --help shows it, to standard output; 80 columns. */
void options_print(const struct option_spec *specs, size_t count);
/* True when --json stands among the arguments (before "--"): also a command line that cannot be parsed is
 * answered in JSON. */
bool options_wants_json(int argc, char *const *argv);

#endif

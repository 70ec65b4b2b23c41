/* SPDX-License-Identifier: MIT */
/* What the tests of signatures share: a folder, ssh-keygen, seeds. */
#ifndef SOSIE_TESTS_SIGN_LAB_H
#define SOSIE_TESTS_SIGN_LAB_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <sys/stat.h>
#include <unistd.h>

#include "sosie/sign.h"

#define NS SOSIE_SIGN_MANIFEST
#define TEXT "{\"format\":1,\"kind\":\"segment\"}"
#define OK(call)                                                                                             \
	do {                                                                                                 \
		struct sosie_err *e_ = &err;                                                                 \
		sosie_err_clear(e_);                                                                         \
		if ((call) != 0)                                                                             \
			fail_msg("%s: %s (%s)", #call, e_->what, e_->where);                                 \
	} while (0)
#define REFUSED(code, call) assert_int_equal((call), -(int)(code))
/* The last error tells this. */
#define SAYS(text)                                                                                           \
	do {                                                                                                 \
		if (!strstr(err.what, text) && !strstr(err.action, text))                                    \
			fail_msg("not told: %s; but: %s: %s", text, err.what, err.action);                   \
	} while (0)

static struct sosie_err err;
static char dir[64];

static inline int lab_open(void **state)
{
	(void)state;
	unsetenv("SSH_AUTH_SOCK");
	strcpy(dir, "/tmp/sosie-test-sign-XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

__attribute__((format(printf, 1, 2))) static inline int run(const char *fmt, ...)
{
	char command[2048];
	int at = snprintf(command, sizeof(command), "cd %s && ", dir);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(command + at, sizeof(command) - (size_t)at, fmt, ap);
	va_end(ap);
	return system(command);
}

static inline int lab_close(void **state)
{
	(void)state;
	return run("rm -rf '%s'", dir);
}

/* A tool that a test cannot do without. */
static inline void need(const char *tool)
{
	const char *none = getenv("SOSIE_NO_SKIP");

	if (run("command -v %s >/dev/null", tool) == 0)
		return;
	print_message("needs %s\n", tool);
	if (none && strcmp(none, "1") == 0)
		fail_msg("%s is missing, and SOSIE_NO_SKIP allows no test to be skipped", tool);
	skip();
}

/* Borrowed until the next call. */
static inline const char *in_dir(const char *name)
{
	static char path[160];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

static inline size_t load(const char *name, char *dst, size_t size)
{
	FILE *f = fopen(in_dir(name), "rb");
	size_t len;

	assert_non_null(f);
	len = fread(dst, 1, size - 1, f);
	assert_true(feof(f) && !ferror(f));
	fclose(f);
	dst[len] = '\0';
	return len;
}

static inline void save(const char *name, const void *bytes, size_t len)
{
	FILE *f = fopen(in_dir(name), "wb");

	assert_non_null(f);
	assert_int_equal(fwrite(bytes, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
}

static inline struct sosie_signer *seeded(uint8_t first)
{
	uint8_t seed[32] = {first};
	struct sosie_signer *s;

	OK(sosie_signer_seed(seed, &s, &err));
	return s;
}

static inline char *sign_text(struct sosie_signer *s, const char *ns, const char *text, size_t *len)
{
	char *out;

	OK(sosie_sign(s, ns, text, strlen(text), &out, len, &err));
	return out;
}

static inline int check(const char *bytes, size_t len, const char *ns, const struct sosie_signer *s)
{
	unsigned which = 77;
	int rc;

	sosie_err_clear(&err);
	rc = sosie_signed_check(bytes, len, ns, sosie_signer_public(s), 1, &which, &err);
	assert_int_equal(which, rc == 0 ? 0 : 77);
	return rc;
}

#endif

/* SPDX-License-Identifier: MIT */
/*
 * The line of authorized_keys as its two readers take it: sshd's double quotes, then sh. A path comes back as
 * it was, or is refused. Links tools/sosie/authorized_keys.c.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tools/sosie/authorized_keys.c"

static struct sosie_key key(void)
{
	struct sosie_key k;

	memset(&k, 0, sizeof(k));
	snprintf(k.info.id, sizeof(k.info.id), "0123456789abcdef");
	snprintf(k.info.type, sizeof(k.info.type), "ssh-ed25519");
	snprintf(k.info.blob, sizeof(k.info.blob), "AAAAC3Nz");
	snprintf(k.info.comment, sizeof(k.info.comment), "backup@primary");
	return k;
}

/* What sshd runs: the text between the quotes, \" being a quote and every other byte itself. */
static void dequote(const char *line, char *command)
{
	const char *at = strstr(line, "command=\"");

	assert_non_null(at);
	for (at += strlen("command=\""); *at && *at != '"'; at++) {
		if (at[0] == '\\' && at[1] == '"')
			at++;
		*command++ = *at;
	}
	assert_int_equal(*at, '"');
	*command = '\0';
}

/* The words that sh sees, one a line. */
static void assert_shell_words(const char *line, const char *store)
{
	char command[4096], script[8192], out[4096], want[4096];
	size_t len;
	FILE *pipe;

	dequote(line, command);
	snprintf(script, sizeof(script), "set -- %s; printf '%%s\\n' \"$@\"", command);
	pipe = popen(script, "r");
	assert_non_null(pipe);
	len = fread(out, 1, sizeof(out) - 1, pipe);
	out[len] = '\0';
	assert_int_equal(pclose(pipe), 0);
	snprintf(want, sizeof(want),
	         "/usr/bin/sosie-receive\n--store\n%s\n--tenant\nacme\n--key\n0123456789abcdef\n", store);
	assert_string_equal(out, want);
}

static void test_authorized_keys_plain_path_is_the_documented_line(void **state)
{
	struct sosie_key k = key();
	struct sosie_err err;
	char line[4096];

	(void)state;
	assert_int_equal(authorized_keys_line(line, sizeof(line), "/usr/bin/sosie-receive", "/srv/sosie",
	                                      "acme", &k, &err),
	                 0);
	assert_string_equal(
	        line, "restrict,command=\"/usr/bin/sosie-receive --store '/srv/sosie' --tenant acme --key "
	              "0123456789abcdef\" ssh-ed25519 AAAAC3Nz backup@primary");
}

static void test_authorized_keys_groups_are_options_and_as_many_as_there_may_be_fit(void **state)
{
	struct sosie_key k = key();
	struct sosie_err err;
	char line[12000], last[160];

	(void)state;
	k.group_count = 2;
	snprintf(k.groups[0].s, sizeof(k.groups[0].s), "erp");
	snprintf(k.groups[1].s, sizeof(k.groups[1].s), "crm-2");
	assert_int_equal(authorized_keys_line(line, sizeof(line), "/r", "/srv/sosie", "acme", &k, &err), 0);
	assert_non_null(strstr(line, " --key 0123456789abcdef --group erp --group crm-2\" ssh-ed25519 "));
	k.group_count = SOSIE_KEY_GROUPS_MAX;
	for (unsigned i = 0; i < k.group_count; i++) {
		memset(k.groups[i].s, 'x', SOSIE_NAME_MAX);
		k.groups[i].s[SOSIE_NAME_MAX] = '\0';
		k.groups[i].s[0] = (char)('A' + i % 26);
	}
	assert_int_equal(authorized_keys_line(line, sizeof(line), "/r", "/srv/sosie", "acme", &k, &err), 0);
	snprintf(last, sizeof(last), " --group %s\" ssh-ed25519 ", k.groups[k.group_count - 1].s);
	assert_non_null(strstr(line, last));
}

static void test_authorized_keys_odd_paths_survive_both_readers(void **state)
{
	static const char *const stores[] = {"/srv/so sie",
	                                     "/srv/$HOME",
	                                     "/srv/`id`",
	                                     "/srv/a;b&c|d",
	                                     "/srv/(x){y}[z]*?",
	                                     "/srv/#~",
	                                     "/srv/d\xc3\xa9p\xc3\xb4t"};
	struct sosie_key k = key();
	struct sosie_err err;
	char line[4096];

	(void)state;
	for (size_t i = 0; i < sizeof(stores) / sizeof(stores[0]); i++) {
		assert_int_equal(authorized_keys_line(line, sizeof(line), "/usr/bin/sosie-receive", stores[i],
		                                      "acme", &k, &err),
		                 0);
		assert_shell_words(line, stores[i]);
	}
}

static void test_authorized_keys_unsafe_paths_are_refused(void **state)
{
	static const char *const stores[] = {"/srv/it's", "/srv/a\"b", "/srv/a\\b",
	                                     "/srv/a\nb", "/srv/a!b",  "/srv/a\x7f"};
	struct sosie_key k = key();
	struct sosie_err err;
	char line[4096];

	(void)state;
	for (size_t i = 0; i < sizeof(stores) / sizeof(stores[0]); i++) {
		assert_int_equal(authorized_keys_line(line, sizeof(line), "/usr/bin/sosie-receive", stores[i],
		                                      "acme", &k, &err),
		                 -SOSIE_ECONFIG);
		assert_int_equal(
		        authorized_keys_line(line, sizeof(line), stores[i], "/srv/sosie", "acme", &k, &err),
		        -SOSIE_ECONFIG);
		assert_true(err.action[0] != '\0');
	}
}

static void test_authorized_keys_comment_cannot_add_a_line(void **state)
{
	struct sosie_key k = key();
	struct sosie_err err;
	char line[4096];

	(void)state;
	snprintf(k.info.comment, sizeof(k.info.comment), "a\nssh-ed25519 AAAA evil");
	assert_int_equal(authorized_keys_line(line, sizeof(line), "/usr/bin/sosie-receive", "/srv/sosie",
	                                      "acme", &k, &err),
	                 0);
	assert_null(strchr(line, '\n'));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_authorized_keys_plain_path_is_the_documented_line),
	        cmocka_unit_test(test_authorized_keys_groups_are_options_and_as_many_as_there_may_be_fit),
	        cmocka_unit_test(test_authorized_keys_odd_paths_survive_both_readers),
	        cmocka_unit_test(test_authorized_keys_unsafe_paths_are_refused),
	        cmocka_unit_test(test_authorized_keys_comment_cannot_add_a_line),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/* What sshd says of a receivers' user (sshd -T), read; and its file of keys. Links tools/sosie/accounts.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tools/sosie/accounts.c"

static struct {
	unsigned count;
	char code[32], what[512], mend[512];
} last;

static void keep(void *arg, const struct sosie_finding *f)
{
	(void)arg;
	last.count++;
	snprintf(last.code, sizeof(last.code), "%s", f->code);
	snprintf(last.what, sizeof(last.what), "%s", f->what);
	snprintf(last.mend, sizeof(last.mend), "%s", f->mend);
}

static const struct account account = {"sosie-acme", keep, NULL};

/* As sshd prints it: keys in lower case, one a line. */
static const char *const lines[] = {
        "port 22",
        "usepam yes",
        "permitrootlogin no",
        "disableforwarding yes",
        "permittty no",
        "permituserrc no",
        "permituserenvironment no",
        "trustedusercakeys none",
        "permittunnel no",
        "authenticationmethods publickey",
        "passwordauthentication no",
        "kbdinteractiveauthentication no",
        "hostbasedauthentication no",
        "authorizedkeyscommand none",
        "clientaliveinterval 15",
        "authorizedkeysfile /etc/ssh/sosie/authorized_keys/%u",
};
#define LINES (sizeof(lines) / sizeof(lines[0]))

/* All lines, except that line `changed` has another value (NULL: is left out). */
static const char *answer(size_t changed, const char *value)
{
	static char text[2048];
	size_t at = 0;
	for (size_t i = 0; i < LINES; i++) {
		const int key = (int)strcspn(lines[i], " ");
		if (i != changed)
			at += (size_t)snprintf(text + at, sizeof(text) - at, "%s\n", lines[i]);
		else if (value)
			at += (size_t)snprintf(text + at, sizeof(text) - at, "%.*s %s\n", key, lines[i],
			                       value);
	}
	return text;
}

static void settings(size_t changed, const char *value)
{
	last.count = 0;
	check_settings(&account, answer(changed, value));
}

static void test_settings_as_meant_find_nothing(void **state)
{
	(void)state;
	settings(LINES, NULL);
	assert_int_equal(last.count, 0);
}

static void test_settings_each_other_value_is_found(void **state)
{
	unsigned tried = 0;
	(void)state;
	for (size_t i = 3; i < LINES - 2; i++, tried++) {
		settings(i, "other");
		assert_int_equal(last.count, 1);
		assert_string_equal(last.code, "sshd");
		assert_non_null(strstr(last.what, "other, meant is"));
		settings(i, NULL);
		assert_int_equal(last.count, 1);
		assert_non_null(strstr(last.what, "not told"));
	}
	assert_int_equal(tried, 11);
	settings(LINES - 2, "0");
	assert_int_equal(last.count, 1);
	assert_non_null(strstr(last.what, "ClientAliveInterval"));
}

static void test_settings_value_is_of_its_own_key_only(void **state)
{
	char value[8];
	(void)state;
	assert_false(value_of("permittty2 no\nxpermittty no\n", "PermitTTY", value, sizeof(value)));
	assert_true(value_of("a b\npermittty no\n", "PermitTTY", value, sizeof(value)));
	assert_string_equal(value, "no");
	assert_true(value_of("key 0123456789", "Key", value, sizeof(value))); /* cut, not beyond */
	assert_string_equal(value, "0123456");
	assert_false(value_of("", "Key", value, sizeof(value)));
}

static void test_environment_that_the_peer_may_set_is_found(void **state)
{
	static const char *const bad[] = {"*", "LD_PRELOAD", "LD_*", "?D_PRELOAD", "ENV", "LANG*"};
	char text[200];
	(void)state;
	last.count = 0;
	check_environment(&account, "acceptenv LANG\nacceptenv LC_*\nacceptenv COLORTERM\npermittty no\n");
	check_environment(&account, answer(LINES, NULL));
	assert_int_equal(last.count, 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		snprintf(text, sizeof(text), "acceptenv LANG\nacceptenv %s\npermittty no\n", bad[i]);
		last.count = 0;
		check_environment(&account, text);
		assert_int_equal(last.count, 1);
		assert_non_null(strstr(last.what, bad[i]));
	}
}

static void keys(const char *value)
{
	last.count = 0;
	check_keys(&account, answer(LINES - 1, value));
}

static void test_keys_in_a_place_of_the_users_own_are_found(void **state)
{
	static const char *const places[] = {".ssh/authorized_keys", "/home/%h/keys",
	                                     "/etc/keys/%u .ssh/authorized_keys", "none"};
	(void)state;
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		keys(places[i]);
		assert_int_equal(last.count, 1);
		assert_string_equal(last.code, "sshd-keys");
	}
	keys("/nonexistent/%u");
	assert_int_equal(last.count, 0);
}

static void test_keys_line_without_forced_command_is_found(void **state)
{
	char dir[] = "/tmp/sosie-keys.XXXXXX", path[64], pattern[64];
	FILE *f;
	(void)state;
	if (geteuid() != 0)
		skip();
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/sosie-acme", dir);
	snprintf(pattern, sizeof(pattern), "%s/%%u", dir);
	f = fopen(path, "w");
	assert_non_null(f);
	fputs("# a comment\n\nrestrict,command=\"x\" ssh-ed25519 AAAA\n", f);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(chmod(path, 0644), 0);
	keys(pattern);
	assert_int_equal(last.count, 0);
	f = fopen(path, "a");
	assert_non_null(f);
	fputs("ssh-ed25519 AAAA\n", f);
	assert_int_equal(fclose(f), 0);
	keys(pattern);
	assert_int_equal(last.count, 1);
	assert_non_null(strstr(last.what, "line 4"));
	assert_int_equal(chmod(path, 0664), 0);
	keys(pattern);
	assert_int_equal(last.count, 2);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(dir), 0);
}

static void test_shell_that_runs_no_command_is_found(void **state)
{
	static const char *const bad[] = {"/usr/sbin/nologin", "/bin/false", "/nonexistent/sh"};
	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		last.count = 0;
		check_shell(&account, bad[i]);
		assert_int_equal(last.count, 1);
		assert_string_equal(last.code, "user-shell");
	}
	last.count = 0;
	check_shell(&account, "/bin/sh");
	check_shell(&account, ""); /* passwd(5): /bin/sh */
	assert_int_equal(last.count, 0);
}

/* More than a pipe holds, and a failure. */
static void test_run_reads_all_and_tells_failure(void **state)
{
	static char text[256u << 10];
	char sh[] = "sh", c[] = "-c", many[] = "yes | head -c 200000", bad[] = "echo no >&2; exit 3";
	char *argv[] = {sh, c, many, NULL};
	(void)state;
	assert_true(run("/bin/sh", argv, text, sizeof(text)));
	assert_int_equal(strlen(text), 200000);
	argv[2] = bad;
	assert_false(run("/bin/sh", argv, text, sizeof(text)));
	assert_string_equal(text, "no\n");
	assert_false(run("/nonexistent", argv, text, sizeof(text)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_settings_as_meant_find_nothing),
	        cmocka_unit_test(test_settings_each_other_value_is_found),
	        cmocka_unit_test(test_settings_value_is_of_its_own_key_only),
	        cmocka_unit_test(test_environment_that_the_peer_may_set_is_found),
	        cmocka_unit_test(test_keys_in_a_place_of_the_users_own_are_found),
	        cmocka_unit_test(test_keys_line_without_forced_command_is_found),
	        cmocka_unit_test(test_shell_that_runs_no_command_is_found),
	        cmocka_unit_test(test_run_reads_all_and_tells_failure),
	};
	return cmocka_run_group_tests_name("accounts", tests, NULL, NULL);
}

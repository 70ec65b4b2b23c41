/* SPDX-License-Identifier: MIT */
/* The options of "sosie replicate": the same ranges and defaults as the configuration file's. Includes
 * tools/common/options.c and tools/sosied/options.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tools/common/options.c"
#include "tools/sosied/options.c"

static int parse(struct sosied_options *o, const char *option, const char *value, struct sosie_err *err)
{
	char words[9][64] = {"sosied",        "--to", "u@[fe80::1]:22/acme/erp",
	                     "--known-hosts", "/k",   "/srv/erp.raw"};
	char *argv[9];
	int argc = 6;

	if (option) {
		snprintf(words[argc++], 64, "--%s", option);
		snprintf(words[argc++], 64, "%s", value);
	}
	for (int i = 0; i < argc; i++)
		argv[i] = words[i];
	sosie_err_clear(err);
	int rc = sosied_options_parse(o, argc, argv, err);
	free(o->line.given);
	free(o->line.given_spec);
	free(o->line.operands);
	o->line = (struct options){0}; /* its words are ours */
	return rc;
}

static void test_replicate_options_defaults_are_the_files(void **state)
{
	struct sosied_options o;
	struct sosie_err err;

	(void)state;
	assert_int_equal(parse(&o, NULL, NULL, &err), 0);
	const struct sosie_config *c = sosied_options_config(&o);
	assert_int_equal(c->groups[0].interval_ms, 1000);
	assert_int_equal(c->groups[0].max_stall_ms, 100);
	assert_int_equal(c->groups[0].rpo_ms, 0);
	assert_int_equal(c->groups[0].streams, 2);
	assert_int_equal(c->groups[0].level, 0);
	assert_int_equal(c->groups[0].accept_wait_ms, 30000);
	assert_int_equal(c->groups[0].source, SOSIE_SOURCE_AUTO);
	assert_int_equal(c->view_percent, 10);
	assert_int_equal(c->alarm_repeat_ms, 300000);
	assert_string_equal(o.standby, "u@[fe80::1]:22");
	sosied_options_fini(&o);
}

static void test_replicate_options_out_of_range_are_refused(void **state)
{
	static const struct {
		const char *option, *value, *words;
	} list[] = {
	        {"interval", "0", "--interval: 0 is out of range: write 100ms to 1d"},
	        {"interval", "9223372036854775808ms", "--interval: "},
	        {"interval", "2d", "--interval: 2d is out of range"},
	        {"max-stall", "2h", "--max-stall: 2h is out of range"},
	        {"rpo", "500ms", "--rpo: 500ms is shorter than the interval"},
	        {"rpo", "31d", "--rpo: 31d is out of range"},
	        {"accept-wait", "10ms", "--accept-wait: 10ms is out of range"},
	        {"freeze-limit", "2h", "--freeze-limit: 2h is out of range"},
	        {"read-rate", "1", "--read-rate: 1 a second is too little"},
	        {"read-rate", "0", "--read-rate: 0 a second is too little"},
	        {"streams", "17", "--streams: \"17\": write a whole number from 1 to 16"},
	        {"streams", "0", "--streams: \"0\""},
	        {"view-space", "10", "--view-space takes 1% to 90%"},
	        {"level", "20", "--level: \"20\": write auto, or a whole number from -7 to 19"},
	        {"source", "magic", "--source: \"magic\": write scan, reflink, btrfs or auto"},
	        {"on-long-cut", "go", "--on-long-cut: \"go\": write cut or stop"},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(list); i++) {
		struct sosied_options o;
		struct sosie_err err;

		if (parse(&o, list[i].option, list[i].value, &err) != -SOSIE_EUSAGE)
			fail_msg("--%s %s is taken", list[i].option, list[i].value);
		if (!strstr(err.what, list[i].words))
			fail_msg("--%s %s: %s", list[i].option, list[i].value, err.what);
		sosied_options_fini(&o);
	}
}

static void test_replicate_options_edges_are_taken(void **state)
{
	static const char *const list[][2] = {{"interval", "100ms"}, {"interval", "1d"},   {"max-stall", "0"},
	                                      {"rpo", "1s"},         {"read-rate", "4K"},  {"level", "-7"},
	                                      {"streams", "16"},     {"source", "reflink"}};

	(void)state;
	for (size_t i = 0; i < COUNT(list); i++) {
		struct sosied_options o;
		struct sosie_err err;

		if (parse(&o, list[i][0], list[i][1], &err) != 0)
			fail_msg("--%s %s: %s", list[i][0], list[i][1], err.what);
		sosied_options_fini(&o);
	}
}

/* One group's options are no options of the daemon, and it says so. */
static void test_replicate_options_beside_config_are_refused(void **state)
{
	const char *const lines[][5] = {{"sosied", "--config", "/etc/x", "--once", NULL},
	                                {"sosied", "--config=/etc/x", "--accept-volume=erp", NULL},
	                                {"sosied", "--allow-shrink", "--check-config", "/etc/x", NULL}};

	(void)state;
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		struct sosied_options o;
		struct sosie_err err;
		char words[5][32], *argv[5];
		int argc = 0;

		for (; lines[i][argc]; argc++) {
			snprintf(words[argc], sizeof(words[0]), "%s", lines[i][argc]);
			argv[argc] = words[argc];
		}
		sosie_err_clear(&err);
		assert_int_equal(sosied_options_parse(&o, argc, argv, &err), -SOSIE_EUSAGE);
		assert_non_null(strstr(err.what, "does not go with --config"));
		sosied_options_fini(&o);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_replicate_options_defaults_are_the_files),
	        cmocka_unit_test(test_replicate_options_out_of_range_are_refused),
	        cmocka_unit_test(test_replicate_options_beside_config_are_refused),
	        cmocka_unit_test(test_replicate_options_edges_are_taken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/* The configuration file: what a good one becomes, and for each way to be wrong the line and the words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "sosie/config.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static char folder[64], file[96];

static int make_folder(void **state)
{
	(void)state;
	snprintf(folder, sizeof(folder), "/tmp/sosie-config-XXXXXX");
	if (!mkdtemp(folder))
		return -1;
	snprintf(file, sizeof(file), "%s/sosie.yaml", folder);
	return 0;
}

static int remove_folder(void **state)
{
	(void)state;
	unlink(file);
	return rmdir(folder);
}

static void write_bytes(const void *bytes, size_t len)
{
	FILE *f = fopen(file, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(bytes, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(chmod(file, 0600), 0);
}

/* Writes and loads; the result or NULL, err filled in. */
static struct sosie_config *load(const char *text, struct sosie_err *err)
{
	struct sosie_config *c = NULL;

	write_bytes(text, strlen(text));
	sosie_err_clear(err);
	if (sosie_config_load(file, &c, err) != 0)
		assert_null(c);
	return c;
}

static struct sosie_config *load_well(const char *text)
{
	struct sosie_err err;
	char line[1100];
	struct sosie_config *c = load(text, &err);

	if (!c)
		fail_msg("refused: %s", sosie_err_line(&err, line, sizeof(line)));
	return c;
}

/* The error must name FILE:LINE and hold each of the words. line 0: FILE only. */
static void refused_with(const struct sosie_err *err, const char *name, unsigned line, const char *words)
{
	char place[160], shown[1100];

	if (line)
		snprintf(place, sizeof(place), "%s:%u: ", file, line);
	else
		snprintf(place, sizeof(place), "%s: ", file);
	sosie_err_line(err, shown, sizeof(shown));
	if (err->code != SOSIE_ECONFIG || strncmp(err->what, place, strlen(place)) != 0 ||
	    !strstr(shown, words))
		fail_msg("%s: wanted \"%s ... %s\", got code %d: %s", name, place, words, (int)err->code,
		         shown);
}

static void refused(const char *name, const char *text, unsigned line, const char *words)
{
	struct sosie_err err;
	struct sosie_config *c = load(text, &err);

	if (c)
		fail_msg("%s: was taken", name);
	refused_with(&err, name, line, words);
}

/* --- what a good file becomes ----------------------------------------------------------------------------
 */

#define STANDBYS                                                                                             \
	"standbys:\n"                                                                                        \
	"  - name: bleu\n"                                                                                   \
	"    to: sosie@standby.example:2222\n"                                                               \
	"    known_hosts: /k\n"
/* Lines 1 to 4 are STANDBYS, 5 "groups:", 6 to 9 GROUP. */
#define GROUP                                                                                                \
	"  - name: acme/erp\n"                                                                               \
	"    standby: bleu\n"                                                                                \
	"    volumes:\n"                                                                                     \
	"      - path: /srv/erp.raw\n"
#define SMALL STANDBYS "groups:\n" GROUP

static void test_config_minimal_gets_defaults(void **state)
{
	struct sosie_config *c = load_well(SMALL);
	const struct sosie_config_group *g = &c->groups[0];

	(void)state;
	assert_string_equal(c->state, "/var/lib/sosie");
	assert_int_equal(c->view_percent, 10);
	assert_int_equal(c->view_bytes, 0);
	assert_int_equal(c->alarm_repeat_ms, 300000);
	assert_int_equal(c->read_rate, 0);
	assert_null(c->on_alarm);
	assert_null(c->metrics);
	assert_int_equal(c->standby_count, 1);
	assert_null(c->standbys[0].identity);
	assert_int_equal(c->standbys[0].cycles, 4);
	assert_int_equal(c->standbys[0].to.port, 2222);
	assert_int_equal(c->group_count, 1);
	assert_ptr_equal(g->standby, &c->standbys[0]);
	assert_string_equal(g->state, "/var/lib/sosie/standby.example_2222/acme/erp");
	assert_int_equal(g->source, SOSIE_SOURCE_AUTO);
	assert_int_equal(g->interval_ms, 1000);
	assert_int_equal(g->max_stall_ms, 100);
	assert_int_equal(g->on_long_cut, SOSIE_LONG_CUT_CUT);
	assert_int_equal(g->pause.kind, SOSIE_PAUSE_NONE);
	assert_int_equal(g->pause.limit_ms, 0); /* the driver's own default */
	assert_int_equal(g->hooks.freeze_limit_ms, 0);
	assert_int_equal(g->hooks.hook_limit_ms, 60000);
	assert_int_equal(g->rpo_ms, 0);
	assert_int_equal(g->streams, 2);
	assert_int_equal(g->level, 0);
	assert_int_equal(g->accept_wait_ms, 30000);
	assert_int_equal(g->volume_count, 1);
	assert_string_equal(g->volumes[0].name.s, "erp");
	assert_string_equal(g->volumes[0].path, "/srv/erp.raw");
	assert_false(g->volumes[0].opaque);
	assert_int_equal(g->attach_count, 0);
	sosie_config_free(c);
}

static const char full[] =
        "state: /s//x/./y/\nview_space: 50G\non_alarm: /etc/a\nalarm_repeat: 1m\nmetrics: "
        "/m.prom\nread_rate: 200M\n"
        "standbys:\n"
        "  - {name: bleu, to: 'sosie@[fe80::1]:22', identity: /id, known_hosts: /k, cycles: 64}\n"
        "  - {name: rouge, to: host.example, known_hosts: /k}\n"
        "groups:\n"
        "  - name: acme/erp\n    standby: rouge\n    source: reflink\n    interval: 100ms\n    max_stall: 0\n"
        "    on_long_cut: stop\n    pause: 'cgroup:/sys/fs/cgroup//erp'\n    rpo: 5s\n"
        "    volumes:\n      - {name: erp-0, path: /srv/0.raw, opaque: true}\n      - {name: erp-1, path: "
        "/srv/1.raw}\n"
        "    attach: [/a, /b]\n    streams: 16\n    level: -7\n    read_rate: 4K\n    accept_wait: 1d\n"
        "  - name: acme/qmp\n    standby: rouge\n    pause: \"qmp:/run/q.sock\"\n    level: auto\n"
        "    volumes: [{path: /srv/2.raw}]\n"
        "  - name: other/one\n    standby: bleu\n    source: scan\n    freeze: 'echo a: b'\n    thaw: "
        "\"x\\ny\"\n"
        "    freeze_limit: 7s\n    hook_limit: 8s\n    view: v\n    view_done: d\n"
        "    volumes: [{path: /srv/3.raw}]\n";

static void test_config_full_gets_each_value(void **state)
{
	struct sosie_config *c = load_well(full);
	const struct sosie_config_group *g = c->groups;

	(void)state;
	assert_string_equal(c->state, "/s/x/y");
	assert_int_equal(c->view_bytes, 50ull << 30);
	assert_string_equal(c->on_alarm, "/etc/a");
	assert_int_equal(c->alarm_repeat_ms, 60000);
	assert_string_equal(c->metrics, "/m.prom");
	assert_int_equal(c->read_rate, 200ull << 20);
	assert_int_equal(c->standby_count, 2);
	assert_string_equal(c->standbys[0].to.host, "fe80::1");
	assert_string_equal(c->standbys[0].identity, "/id");
	assert_int_equal(c->standbys[0].cycles, 64);
	assert_true(c->standbys[1].to.user_assumed && c->standbys[1].to.user[0]);
	assert_int_equal(c->group_count, 3);
	assert_ptr_equal(g[0].standby, &c->standbys[1]);
	assert_string_equal(g[2].state, "/s/x/y/fe80::1_22/other/one");
	assert_int_equal(g[0].source, SOSIE_SOURCE_REFLINK);
	assert_int_equal(g[0].interval_ms, 100);
	assert_int_equal(g[0].max_stall_ms, 0);
	assert_int_equal(g[0].on_long_cut, SOSIE_LONG_CUT_STOP);
	assert_int_equal(g[0].pause.kind, SOSIE_PAUSE_CGROUP);
	assert_string_equal(g[0].pause.target, "/sys/fs/cgroup/erp");
	assert_int_equal(g[0].rpo_ms, 5000);
	assert_int_equal(g[0].volume_count, 2);
	assert_true(g[0].volumes[0].opaque && !g[0].volumes[1].opaque);
	assert_string_equal(g[0].volumes[1].name.s, "erp-1");
	assert_int_equal(g[0].attach_count, 2);
	assert_string_equal(g[0].attach[1], "/b");
	assert_int_equal(g[0].streams, 16);
	assert_int_equal(g[0].level, -7);
	assert_int_equal(g[0].read_rate, 4096);
	assert_int_equal(g[0].accept_wait_ms, 86400000);
	assert_int_equal(g[1].pause.kind, SOSIE_PAUSE_QMP);
	assert_string_equal(g[1].pause.target, "/run/q.sock");
	assert_int_equal(g[2].pause.kind, SOSIE_PAUSE_COMMANDS);
	assert_int_equal(g[2].pause.limit_ms, 0); /* the one of the commands counts */
	assert_string_equal(g[2].hooks.freeze, "echo a: b");
	assert_string_equal(g[2].hooks.thaw, "x\ny");
	assert_int_equal(g[2].hooks.freeze_limit_ms, 7000);
	assert_int_equal(g[2].hooks.hook_limit_ms, 8000);
	assert_string_equal(g[2].hooks.view, "v");
	assert_string_equal(g[2].hooks.view_done, "d");
	sosie_config_free(c);
}

static void test_config_edges_of_ranges_are_taken(void **state)
{
	static const char *const good[] = {
	        "    interval: 1d\n",
	        "    max_stall: 1h\n",
	        "    rpo: 30d\n",
	        "    rpo: 0\n",
	        "    streams: 1\n",
	        "    level: 19\n",
	        "    accept_wait: 1s\n",
	        "    source: btrfs\n",
	        "    hook_limit: 100ms\n",
	        "    attach: []\n",
	        "    read_rate: 16777215T\n",
	        "    freeze: a\n    thaw: b\n    pause: commands\n    freeze_limit: 1h\n",
	};

	(void)state;
	for (size_t i = 0; i < COUNT(good); i++) {
		char text[1024];

		snprintf(text, sizeof(text), "%s%s", SMALL, good[i]);
		sosie_config_free(load_well(text));
	}
	sosie_config_free(load_well("view_space: 90%\n" SMALL));
	sosie_config_free(load_well("view_space: 1%\nalarm_repeat: 7d\n" SMALL));
}

static void test_config_user_defaults_to_ours(void **state)
{
	struct sosie_config *c;

	(void)state;
	assert_int_equal(setenv("USER", "someone", 1), 0);
	c = load_well("standbys: [{name: b, to: h, known_hosts: /k}]\ngroups:\n  - {name: a/b, standby: b, "
	              "volumes: "
	              "[{path: /x}]}\n");
	assert_string_equal(c->standbys[0].to.user, "someone");
	assert_int_equal(c->standbys[0].to.port, 22);
	sosie_config_free(c);
}

static void test_config_example_of_the_docs_loads(void **state)
{
	struct sosie_config *c = NULL;
	struct sosie_err err;
	struct stat st;

	(void)state;
	if (stat("docs/sosie.yaml.example", &st) != 0) {
		print_message("not run from the source folder\n");
		skip();
	}
	FILE *f = fopen("docs/sosie.yaml.example", "r");
	assert_non_null(f);
	char *text = calloc(1, (size_t)st.st_size + 1);
	assert_non_null(text);
	assert_int_equal(fread(text, 1, (size_t)st.st_size, f), st.st_size);
	fclose(f);
	c = load(text, &err);
	free(text);
	if (!c)
		fail_msg("%s", err.what);
	assert_int_equal(c->group_count, 2);
	assert_string_equal(c->groups[1].volumes[0].name.s, "files");
	sosie_config_free(c);
}

/* --- what is refused -------------------------------------------------------------------------------------
 */

struct fault {
	const char *name, *text;
	unsigned line;
	const char *words;
};

static void refuse_all(const struct fault *list, size_t count)
{
	for (size_t i = 0; i < count; i++)
		refused(list[i].name, list[i].text, list[i].line, list[i].words);
}

static void test_config_wrong_shape_names_line_and_allowed(void **state)
{
	static const struct fault list[] = {
	        {"empty file", "", 1, "the file is empty"},
	        {"comments only", "# nothing\n\n", 1, "the file is empty"},
	        {"a list", "- a\n", 1, "key: value"},
	        {"a word", "hello\n", 1, "key: value"},
	        {"unknown key", "stat: /x\n" SMALL, 1,
	         "\"stat\" is no key of the file: allowed are state, view_space"},
	        {"unknown key of a group", SMALL "    intervall: 1s\n", 10,
	         "\"intervall\" is no key of an entry of groups: allowed are name, standby, source"},
	        {"unknown key of a standby", STANDBYS "    port: 22\ngroups:\n" GROUP, 5,
	         "allowed are name, to, identity, known_hosts, signing, standby_key, cycles"},
	        {"unknown key of a volume", SMALL "        size: 1\n", 10, "allowed are name, path, opaque"},
	        {"merge key", SMALL "    <<: {a: b}\n", 10, "\"<<\" is no key"},
	        {"duplicate key", "state: /a\nstate: /b\n" SMALL, 2,
	         "state: given twice, first in line 1: keep one"},
	        {"duplicate key of a group", SMALL "    standby: bleu\n", 10, "given twice, first in line 7"},
	        {"list for a word", "state: [/a]\n" SMALL, 1, "state: takes one value, not a list"},
	        {"keys for a word", SMALL "    interval:\n      a: b\n", 11, "interval: takes one value"},
	        {"word for a list", SMALL "    attach: /a\n", 10, "attach: takes a list"},
	        {"keys for a list", STANDBYS "groups:\n  name: acme/erp\n", 6, "groups: takes a list"},
	        {"word for an entry", STANDBYS "groups:\n  - acme/erp\n", 6, "takes \"key: value\" pairs"},
	        {"list in a list", SMALL "    attach: [/a, [/b]]\n", 10, "takes one value"},
	        {"list as a key", "[a, b]: c\n" SMALL, 1, "a key must be a word"},
	        {"empty value", "state:\n" SMALL, 1, "state: no value"},
	        {"empty list entry", SMALL "    attach:\n      -\n", 11, "no value"},
	        {"empty quotes", "state: ''\n" SMALL, 1, "state: no value"},
	        {"null", SMALL "    interval: null\n", 10, "interval: no value"},
	        {"tilde", SMALL "    rpo: ~\n", 10, "rpo: no value"},
	        {"groups without a value", STANDBYS "groups:\n", 5, "groups: no value"},
	        {"no groups", STANDBYS, 1, "groups: missing"},
	        {"no standbys", "groups:\n" GROUP, 1, "standbys: missing"},
	        {"empty list", STANDBYS "groups: []\n", 5, "groups: an empty list"},
	        {"no volumes", STANDBYS "groups:\n  - name: acme/erp\n    standby: bleu\n", 6,
	         "volumes: missing"},
	        {"no path", SMALL "      - name: x\n", 10, "path: missing: an entry of volumes must have it"},
	        {"no known_hosts", "standbys:\n  - name: bleu\n    to: x\ngroups:\n" GROUP, 2,
	         "known_hosts: missing"},
	        {"second document", SMALL "---\nstate: /x\n", 10, "a second document"},
	        {"alias", "state: &a /x\nmetrics: *a\n" SMALL, 2, "an alias: write the value itself"},
	        {"tab", STANDBYS "groups:\n\t- name: acme/erp\n", 6, "indent with spaces, not tabs"},
	        {"open bracket", SMALL "    attach: [/a\n", 11, "no valid YAML"},
	        {"open quote", "state: \"/a\n", 2, "while scanning a quoted scalar from line 1 on"},
	        {"bad indent", STANDBYS "groups:\n  - name: acme/erp\n   standby: bleu\n", 7,
	         "no valid YAML"},
	        {"escaped NUL", "state: \"/a\\0b\"\n" SMALL, 1, "state: holds a NUL byte"},
	};

	(void)state;
	refuse_all(list, COUNT(list));
}

static void test_config_wrong_value_names_line_and_allowed(void **state)
{
	static const struct fault list[] = {
	        {"relative state", "state: var\n" SMALL, 1,
	         "state: \"var\" is relative: write a path that begins with /"},
	        {"dots", "state: /var/../x\n" SMALL, 1, "has a part \"..\""},
	        {"root", "state: /\n" SMALL, 1, "state: / is the root of all files"},
	        {"control in a path", "metrics: \"/a\\nb\"\n" SMALL, 1, "holds a control character"},
	        {"relative alarm", "on_alarm: alarm\n" SMALL, 1, "on_alarm: \"alarm\" is relative"},
	        {"view_space 0", "view_space: 0%\n" SMALL, 1, "view_space: \"0%\": write 1% to 90%"},
	        {"view_space 91", "view_space: 91%\n" SMALL, 1, "1% to 90%"},
	        {"view_space %", "view_space: '%'\n" SMALL, 1, "1% to 90%"},
	        {"view_space long", "view_space: 00000000000000000010%\n" SMALL, 1, "1% to 90%"},
	        {"view_space word", "view_space: much\n" SMALL, 1, "view_space: \"much\": write"},
	        {"view_space 0 bytes", "view_space: 0\n" SMALL, 1, "1% to 90%"},
	        {"alarm_repeat", "alarm_repeat: 10ms\n" SMALL, 1,
	         "alarm_repeat: 10ms is out of range: write 1s to 7d"},
	        {"read_rate", "read_rate: 1\n" SMALL, 1, "read_rate: 1 a second is too little"},
	        {"read_rate word", "read_rate: fast\n" SMALL, 1, "\"fast\" is no size"},
	        {"interval", SMALL "    interval: \"1x\"\n", 10,
	         "interval: \"1x\" is no time: write 100ms to 1d"},
	        {"interval low", SMALL "    interval: 99ms\n", 10,
	         "interval: 99ms is out of range: write 100ms to 1d"},
	        {"interval high", SMALL "    interval: 2d\n", 10, "out of range"},
	        {"interval huge", SMALL "    interval: 99999999999999999999d\n", 10, "is no time"},
	        {"interval negative", SMALL "    interval: -1s\n", 10, "is no time"},
	        {"max_stall", SMALL "    max_stall: 2h\n", 10, "max_stall: 2h is out of range"},
	        {"rpo", SMALL "    rpo: 31d\n", 10, "rpo: 31d is out of range"},
	        {"rpo under interval", SMALL "    rpo: 5s\n    interval: 10s\n", 10,
	         "rpo: 5s is shorter than the interval"},
	        {"accept_wait", SMALL "    accept_wait: 10ms\n", 10, "write 1s to 1d"},
	        {"source", SMALL "    source: magic\n", 10,
	         "source: \"magic\": write scan, reflink, btrfs or auto"},
	        {"source case", SMALL "    source: Scan\n", 10, "write scan, reflink"},
	        {"on_long_cut", SMALL "    on_long_cut: go\n", 10, "on_long_cut: \"go\": write cut or stop"},
	        {"streams 0", SMALL "    streams: 0\n", 10,
	         "streams: \"0\": write a whole number from 1 to 16"},
	        {"streams 17", SMALL "    streams: 17\n", 10, "from 1 to 16"},
	        {"streams 2x", SMALL "    streams: 2x\n", 10, "from 1 to 16"},
	        {"streams 1.5", SMALL "    streams: 1.5\n", 10, "from 1 to 16"},
	        {"streams huge", SMALL "    streams: 18446744073709551617\n", 10, "from 1 to 16"},
	        {"streams +", SMALL "    streams: +1\n", 10, "from 1 to 16"},
	        {"level 0", SMALL "    level: 0\n", 10,
	         "level: \"0\": write auto, or a whole number from -7 to 19"},
	        {"level 20", SMALL "    level: 20\n", 10, "from -7 to 19"},
	        {"level -8", SMALL "    level: -8\n", 10, "from -7 to 19"},
	        {"cycles", STANDBYS "    cycles: 65\ngroups:\n" GROUP, 5,
	         "cycles: \"65\": write a whole number from 1 to 64"},
	        {"pause", SMALL "    pause: vm:1\n", 10,
	         "pause: \"vm:1\": write cgroup:/DIR, qmp:/SOCKET or commands"},
	        {"pause relative", SMALL "    pause: cgroup:machine\n", 10,
	         "pause: \"cgroup:machine\": write cgroup:/DIR, qmp:/SOCKET"},
	        {"pause empty", SMALL "    pause: 'qmp:'\n", 10,
	         "pause: \"qmp:\": write cgroup:/DIR, qmp:/SOCKET"},
	        {"pause without commands", SMALL "    pause: commands\n", 10, "add freeze and thaw"},
	        {"pause and freeze", SMALL "    pause: cgroup:/c\n    freeze: a\n    thaw: b\n", 10,
	         "beside freeze and thaw"},
	        {"freeze alone", SMALL "    freeze: a\n", 10, "freeze: without thaw"},
	        {"thaw alone", SMALL "    thaw: a\n", 10, "thaw: without freeze"},
	        {"freeze_limit alone", SMALL "    freeze_limit: 1s\n", 10, "freeze_limit: without freeze"},
	        {"freeze_limit", SMALL "    freeze: a\n    thaw: b\n    freeze_limit: 2h\n", 12,
	         "100ms to 1h"},
	        {"hook_limit", SMALL "    hook_limit: 0\n", 10, "hook_limit: 0 is out of range"},
	        {"view_done alone", SMALL "    view_done: a\n", 10, "view_done: without view"},
	        {"view of btrfs", SMALL "    view: a\n    source: btrfs\n", 10, "view: is for source: scan"},
	        {"opaque", SMALL "        opaque: maybe\n", 10, "opaque: \"maybe\": write true or false"},
	        {"relative volume", SMALL "      - path: x.raw\n", 10, "path: \"x.raw\" is relative"},
	        {"volume name", SMALL "      - {path: /x, name: a/b}\n", 10,
	         "name: \"a/b\" is no name for a volume"},
	        {"volume default name", SMALL "      - path: /x/_y.raw\n", 10, "add a name of its own"},
	        {"relative attach", SMALL "    attach:\n      - /a\n      - b\n", 12,
	         "attach[1]: \"b\" is relative"},
	        {"attach twice", SMALL "    attach:\n      - /a/b\n      - /a//b\n", 12,
	         "is in the list twice"},
	        {"group without tenant",
	         STANDBYS "groups:\n  - {name: erp, standby: bleu, volumes: [{path: /x}]}\n", 6,
	         "name: \"erp\" names no group: write it as TENANT/GROUP"},
	        {"standby name", "standbys:\n  - {name: a/b, to: h, known_hosts: /k}\ngroups:\n" GROUP, 2,
	         "is no name for a standby"},
	        {"to with a path",
	         "standbys:\n  - name: b\n    to: h/acme/erp\n    known_hosts: /k\ngroups:\n" GROUP, 3,
	         "to: \"h/acme/erp\" has a path"},
	        {"to port", "standbys:\n  - name: b\n    to: h:99999\n    known_hosts: /k\ngroups:\n" GROUP,
	         3, "the port is not a number from 1 to 65535"},
	        {"known_hosts", "standbys:\n  - name: b\n    to: h\n    known_hosts: k\ngroups:\n" GROUP, 4,
	         "known_hosts: \"k\" is relative"},
	        {"identity", STANDBYS "    identity: id\ngroups:\n" GROUP, 5, "identity: \"id\" is relative"},
	};

	(void)state;
	refuse_all(list, COUNT(list));
}

#define OTHER(name, standby, path) "  - {name: " name ", standby: " standby ", volumes: [{path: " path "}]}\n"

static void test_config_contradictions_name_both(void **state)
{
	static const struct fault list[] = {
	        {"same group", SMALL OTHER("acme/erp", "bleu", "/y"), 10,
	         "name: acme/erp is an earlier group too"},
	        {"same standby", STANDBYS "  - {name: bleu, to: h, known_hosts: /k}\ngroups:\n" GROUP, 5,
	         "name: \"bleu\" names an earlier standby too"},
	        {"same volume name", SMALL "      - /y\n", 10, "takes \"key: value\" pairs"},
	        {"same volume default name", SMALL "      - path: /other/erp.img\n", 10,
	         "path: \"erp\" names an earlier volume"},
	        {"same volume given name", SMALL "      - {path: /y, name: erp}\n", 10,
	         "name: \"erp\" names an earlier volume"},
	        {"same path in a group", SMALL "      - {path: /srv//./erp.raw, name: again}\n", 10,
	         "path: \"/srv/erp.raw\" is volume erp of group acme/erp already"},
	        {"same path in two groups", SMALL OTHER("acme/b", "bleu", "/srv/erp.raw"), 10,
	         "is volume erp of group acme/erp already"},
	        {"no such standby", SMALL OTHER("acme/b", "rouge", "/y"), 10,
	         "standby: \"rouge\" is not among standbys: there is bleu"},
	        {"two tenants", SMALL OTHER("other/b", "bleu", "/y"), 10,
	         "bleu is the entry of tenant acme, and a key belongs to one tenant: add a standby entry of "
	         "its own"},
	        {"same cgroup",
	         SMALL "    pause: cgroup:/c/vm\n  - {name: acme/b, standby: bleu, pause: "
	               "\"cgroup:/c//vm/\", volumes: [{path: /y}]}\n",
	         11,
	         "pause: \"/c/vm\" is the target of group acme/erp already: a pause target belongs to one "
	         "group, because one group's cut would let go what another still holds"},
	        {"same monitor",
	         SMALL "    pause: qmp:/run/q\n"
	               "  - {name: acme/b, standby: bleu, pause: \"qmp:/run/r\", volumes: [{path: /y}]}\n"
	               "  - {name: acme/c, standby: bleu, pause: \"qmp:/run/q\", volumes: [{path: /z}]}\n",
	         12, "is the target of group acme/erp already"},
	};

	(void)state;
	refuse_all(list, COUNT(list));
}

/* Nine levels of nine aliases: 10^9 words if they were followed. */
static void test_config_alias_bomb_is_refused_at_once(void **state)
{
	char text[2048] = "state: /x\nmetrics: &a [l, l, l]\n";

	(void)state;
	for (char c = 'b'; c < 'j'; c++)
		snprintf(text + strlen(text), sizeof(text) - strlen(text),
		         "%c: &%c [*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c]\n", c, c, c - 1, c - 1, c - 1, c - 1,
		         c - 1, c - 1, c - 1, c - 1, c - 1);
	refused("bomb of lists", text, 2, "metrics: takes one value");
	snprintf(text, sizeof(text), "%s    attach: &a [/l]\n", SMALL);
	for (unsigned i = 0; i < 3; i++)
		snprintf(text + strlen(text), sizeof(text) - strlen(text),
		         "  - {name: acme/g%u, standby: bleu, volumes: [{path: /y%u}], attach: *a}\n", i, i);
	refused("bomb of groups", text, 11, "attach: an alias");
}

static void test_config_deep_nesting_is_refused(void **state)
{
	char text[20000];

	(void)state;
	memset(text, '[', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	refused("brackets", text, 1, "key: value");
	snprintf(text, 9, "state: ");
	memset(text + 7, '{', sizeof(text) - 8);
	refused("braces", text, 1, "state: takes one value");
}

static void test_config_bytes_that_are_no_text_are_refused(void **state)
{
	static const struct {
		const char *bytes;
		size_t len;
		unsigned line;
		const char *words;
	} list[] = {
	        {"state: /a\n#\xff\n", 13, 2, "byte \\xFF is no UTF-8"},
	        {"#\xc0\xaf\n", 4, 1, "byte \\xC0 is no UTF-8"},        /* overlong */
	        {"#\n#\xed\xa0\x80\n", 7, 2, "byte \\xED is no UTF-8"}, /* surrogate */
	        {"#\xf4\x90\x80\x80\n", 6, 1, "no UTF-8"},              /* above U+10FFFF */
	        {"#\xe2\x82", 3, 1, "no UTF-8"},                        /* cut off */
	        {"\xff\xfe"
	         "s\0",
	         4, 1, "no UTF-8"}, /* UTF-16 */
	        {"s\0t\0", 4, 1, "a control character (\\x00)"},
	        {"state: /a\nx\x07\n", 13, 2, "a control character (\\x07)"},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(list); i++) {
		struct sosie_config *c = NULL;
		struct sosie_err err = {0};

		write_bytes(list[i].bytes, list[i].len);
		assert_int_equal(sosie_config_load(file, &c, &err), -SOSIE_ECONFIG);
		refused_with(&err, list[i].words, list[i].line, list[i].words);
	}
	sosie_config_free(load_well("# caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80\n" SMALL));
}

static void load_refused(const char *path, const char *words)
{
	struct sosie_config *c = NULL;
	struct sosie_err err = {0};
	char line[1100];

	assert_int_equal(sosie_config_load(path, &c, &err), -SOSIE_ECONFIG);
	assert_null(c);
	sosie_err_line(&err, line, sizeof(line));
	if (!strstr(line, path) || !strstr(line, words))
		fail_msg("wanted %s and \"%s\": %s", path, words, line);
}

static void test_config_file_that_is_none_is_refused(void **state)
{
	char missing[128];

	(void)state;
	load_refused(folder, "is a folder");
	snprintf(missing, sizeof(missing), "%s/none", folder);
	load_refused(missing, "cannot be opened: No such file");
	unlink(file);
	assert_int_equal(mkfifo(file, 0600), 0);
	load_refused(file, "is a device, socket or pipe");
	assert_int_equal(unlink(file), 0);
}

static void test_config_file_unreadable_is_refused(void **state)
{
	(void)state;
	if (geteuid() == 0) {
		struct sosie_err err;
		struct sosie_config *c;

		/* root reads everything; a file of /proc that not even root may read stands in. */
		sosie_err_clear(&err);
		assert_int_equal(sosie_config_load("/proc/self/clear_refs", &c, &err), -SOSIE_ECONFIG);
		assert_non_null(strstr(err.what, "cannot be"));
		return;
	}
	write_bytes(SMALL, strlen(SMALL));
	assert_int_equal(chmod(file, 0), 0);
	load_refused(file, "cannot be opened: Permission denied");
}

static void load_taken(void)
{
	struct sosie_config *c = NULL;
	struct sosie_err err;
	char line[1200];

	sosie_err_clear(&err);
	if (sosie_config_load(file, &c, &err) != 0)
		fail_msg("%s", sosie_err_line(&err, line, sizeof(line)));
	sosie_config_free(c);
}

static void test_config_file_writable_for_others_is_refused(void **state)
{
	char wayout[160];

	(void)state;
	snprintf(wayout, sizeof(wayout), "chmod 600 %s", file);
	write_bytes(SMALL, strlen(SMALL));
	for (mode_t others = 0; others <= 077; others++) {
		assert_int_equal(chmod(file, 0600 | others), 0);
		if (others & 02)
			load_refused(file, "everybody may write it");
		else if (others & 020)
			load_refused(file, "its group may write it");
		else
			load_taken();
		if (others & 022)
			load_refused(file, wayout);
	}
}

static int load_as(uid_t user)
{
	struct sosie_config *c = NULL;
	int rc;

	assert_int_equal(seteuid(user), 0);
	rc = sosie_config_load(file, &c, NULL);
	assert_int_equal(seteuid(0), 0);
	sosie_config_free(c);
	return rc;
}

static void test_config_file_of_another_user_is_refused(void **state)
{
	char wayout[160];

	(void)state;
	if (geteuid() != 0) {
		print_message("not root: no file can be given away\n");
		skip();
	}
	write_bytes(SMALL, strlen(SMALL));
	assert_int_equal(chmod(file, 0644), 0);
	assert_int_equal(chown(file, 65534, 0), 0);
	load_refused(file, "belongs to user 65534");
	snprintf(wayout, sizeof(wayout), "chown 0 %s", file);
	load_refused(file, wayout);
	/* Its own user takes it, and one of root's; not one of a third. */
	assert_int_equal(chmod(folder, 0755), 0);
	assert_int_equal(load_as(65534), 0);
	assert_int_equal(chown(file, 0, 65534), 0);
	assert_int_equal(load_as(65534), 0);
	assert_int_equal(chown(file, 65533, 65534), 0);
	assert_int_equal(load_as(65534), -SOSIE_ECONFIG);
	assert_int_equal(chmod(folder, 0700), 0);
	assert_int_equal(unlink(file), 0);
}

/* SMALL and a comment that fills the file up to len. */
static char *padded(size_t len)
{
	char *text = malloc(len + 1);

	assert_non_null(text);
	memset(text, '#', len);
	memcpy(text, SMALL, strlen(SMALL));
	text[len] = '\0';
	return text;
}

static void test_config_file_at_limit_is_taken_above_refused(void **state)
{
	char *text = padded(1u << 20);
	struct sosie_err err;

	(void)state;
	sosie_config_free(load_well(text));
	free(text);
	text = padded((1u << 20) + 1);
	assert_null(load(text, &err));
	refused_with(&err, "large", 0, "1048577 bytes: at most 1048576");
	free(text);
	/* Endless, and of size 0 as far as stat knows: refused by kind. */
	load_refused("/dev/zero", "is a device");
}

static void test_config_long_value_and_long_lists_are_refused(void **state)
{
	size_t room = 1u << 19;
	char *text = malloc(room), *at;

	(void)state;
	assert_non_null(text);
	at = text + sprintf(text, "%s    attach: [/", SMALL);
	memset(at, 'a', 4096);
	sprintf(at + 4096, "]\n");
	refused("long value", text, 10, "4097 bytes: at most 4095");
	at = text + sprintf(text, "%s    attach: [", SMALL);
	for (unsigned i = 0; i < 257; i++)
		at += sprintf(at, "/a%u,", i);
	sprintf(at, "]\n");
	refused("long list", text, 10, "attach: 257 entries: at most 256");
	free(text);
}

static void test_config_thousand_groups_load(void **state)
{
	size_t room = 1u << 19;
	char *text = malloc(room), *at;
	struct sosie_config *c;

	(void)state;
	assert_non_null(text);
	at = text + sprintf(text, "%s", SMALL);
	for (unsigned i = 0; i < 1000; i++)
		at += sprintf(at, "  - {name: acme/g%u, standby: bleu, volumes: [{path: /v/%u}]}\n", i, i);
	c = load_well(text);
	assert_int_equal(c->group_count, 1001);
	assert_string_equal(c->groups[1000].volumes[0].path, "/v/999");
	sosie_config_free(c);
	sprintf(at, "  - {name: acme/g7, standby: bleu, volumes: [{path: /v/x}]}\n");
	refused("the last of them", text, 1010, "acme/g7 is an earlier group too");
	free(text);
}

/* Every file that is cut off anywhere, or has one byte changed, is taken or refused with its place, never
 * more. */
static void test_config_damaged_anywhere_is_told(void **state)
{
	size_t len = strlen(full);
	unsigned taken = 0, told = 0;
	char *text = strdup(full);

	(void)state;
	assert_non_null(text);
	for (size_t i = 0; i < 2 * len; i++) {
		struct sosie_err err;
		struct sosie_config *c;
		char place[160];

		memcpy(text, full, len + 1);
		text[i % len] = i < len ? '\0' : "[]{}:,*&!|>'\"%@`-\t\n x"[i % 22];
		c = load(text, &err);
		taken += c != NULL;
		snprintf(place, sizeof(place), "%s:", file);
		if (!c && (err.code != SOSIE_ECONFIG || strncmp(err.what, place, strlen(place)) != 0))
			fail_msg("byte %zu: %s", i, err.what);
		told += c == NULL;
		sosie_config_free(c);
	}
	free(text);
	assert_true(told > len && taken > 0);
}

static void test_config_state_path_is_safe(void **state)
{
	struct sosie_target to = {.host = "../x", .port = 22};
	char path[64];

	(void)state;
	assert_int_equal(sosie_config_state_path(path, sizeof(path), "/s", &to, "acme", "erp", NULL), 0);
	assert_string_equal(path, "/s/_._x_22/acme/erp");
	assert_int_equal(sosie_config_state_path(path, 10, "/s", &to, "acme", "erp", NULL), -SOSIE_ECONFIG);
	sosie_config_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_config_minimal_gets_defaults),
	        cmocka_unit_test(test_config_full_gets_each_value),
	        cmocka_unit_test(test_config_edges_of_ranges_are_taken),
	        cmocka_unit_test(test_config_user_defaults_to_ours),
	        cmocka_unit_test(test_config_example_of_the_docs_loads),
	        cmocka_unit_test(test_config_wrong_shape_names_line_and_allowed),
	        cmocka_unit_test(test_config_wrong_value_names_line_and_allowed),
	        cmocka_unit_test(test_config_contradictions_name_both),
	        cmocka_unit_test(test_config_alias_bomb_is_refused_at_once),
	        cmocka_unit_test(test_config_deep_nesting_is_refused),
	        cmocka_unit_test(test_config_bytes_that_are_no_text_are_refused),
	        cmocka_unit_test(test_config_file_that_is_none_is_refused),
	        cmocka_unit_test(test_config_file_unreadable_is_refused),
	        cmocka_unit_test(test_config_file_writable_for_others_is_refused),
	        cmocka_unit_test(test_config_file_of_another_user_is_refused),
	        cmocka_unit_test(test_config_file_at_limit_is_taken_above_refused),
	        cmocka_unit_test(test_config_long_value_and_long_lists_are_refused),
	        cmocka_unit_test(test_config_thousand_groups_load),
	        cmocka_unit_test(test_config_damaged_anywhere_is_told),
	        cmocka_unit_test(test_config_state_path_is_safe),
	};
	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}

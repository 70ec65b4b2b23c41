/* SPDX-License-Identifier: MIT */
/*
 * The real sosie-receive, started on pipes as sshd would. It is looked for in $SOSIE_BUILD, else three
 * folders above this program; when it is not there the tests are skipped, and counted so.
 */
#include "tests/unit/base/check.h"

#include "sosie/bytes.h"
#include "sosie/confine.h"
#include "sosie/message.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define KEY "0123456789abcdef"
#define BULK (9u << 20)
#define LIMIT_MS 20000

#define LEAKED 40

static char root[64], program[4096];
static int leak = -1; /* a descriptor that the next child inherits as LEAKED */

/* --- the store, as a keeper would have made it */
__attribute__((format(printf, 2, 3))) static void put(const char *name, const char *fmt, ...)
{
	char path[256];
	va_list ap;
	snprintf(path, sizeof path, "%s/acme/%s", root, name);
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	va_start(ap, fmt);
	assert_true(vfprintf(f, fmt, ap) >= 0);
	va_end(ap);
	assert_int_equal(fclose(f), 0);
}

static int shell(const char *text)
{
	char command[512];
	snprintf(command, sizeof command, "cd %s && %s", root, text);
	return system(command);
}

static int make_store(void **state)
{
	(void)state;
	signal(SIGPIPE, SIG_IGN);
	strcpy(root, "/tmp/sosie-test-receive-XXXXXX");
	assert_non_null(mkdtemp(root));
	assert_int_equal(shell("mkdir -p acme/_inbox acme/_outbox acme/_keys"), 0);
	put("../sosie.json", "{\"format\":1}");
	put("_keys/" KEY ".json", "{}");
	put("_outbox/limits", "store=000102030405060708090a0b0c0d0e0f\n");
	return 0;
}

static int drop_store(void **state)
{
	char command[128];
	(void)state;
	snprintf(command, sizeof command, "rm -rf %s", root);
	return system(command);
}

/* --- the program */
struct child {
	struct sosie_connector base;
	const char *tenant, *key;
	pid_t pid;
	int in, out, error; /* ours: its standard input, output, error */
	struct sosie_err err;
};

static void find_program(void)
{
	const char *build = getenv("SOSIE_BUILD");
	char self[3000];
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
	self[n > 0 ? n : 0] = '\0';
	for (unsigned up = 0; up < 4 && strrchr(self, '/'); up++)
		*strrchr(self, '/') = '\0';
	snprintf(program, sizeof program, "%s/sosie-receive", build ? build : self);
	if (access(program, X_OK))
		*program = '\0';
}

enum lack { LACKS_NOTHING, LACKS_LANDLOCK, LACKS_SECCOMP };
static enum lack lack; /* what the kernel seems to lack for the next child */

/* Calls that a kernel without it would refuse are refused. */
static void take_away(void)
{
	const bool landlock = lack == LACKS_LANDLOCK;
	struct sock_filter steps[] = {
	        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, landlock ? SYS_landlock_create_ruleset : SYS_seccomp, 4,
	                 0),
	        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_prctl, 0, 2),
	        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args)),
	        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, landlock ? UINT32_MAX : PR_SET_SECCOMP, 1, 0),
	        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
	};
	const struct sock_fprog filter = {sizeof steps / sizeof steps[0], steps};
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter))
		_exit(126);
}

static void run_child(const struct child *c, int in, int out, int error)
{
	dup2(in, 0);
	dup2(out, 1);
	dup2(error, 2);
	for (int fd = 3; fd < 64; fd++)
		if (fd != leak)
			close(fd);
	if (leak >= 0)
		dup2(leak, LEAKED);
	signal(SIGPIPE, SIG_DFL);
	if (lack)
		take_away();
	execl(program, program, "--store", root, "--tenant", c->tenant, "--key", c->key, (char *)NULL);
	_exit(127);
}

static void start(struct child *c, const char *tenant, const char *key)
{
	int in[2], out[2], error[2];
	if (!*program)
		skip();
	*c = (struct child){.tenant = tenant, .key = key};
	assert_int_equal(pipe(in) | pipe(out) | pipe(error), 0);
	c->pid = fork();
	assert_true(c->pid >= 0);
	if (!c->pid)
		run_child(c, in[0], out[1], error[1]);
	close(in[0]);
	close(out[1]);
	close(error[1]);
	c->in = in[1];
	c->out = out[0];
	c->error = error[0];
}

static int connector_open(struct sosie_connector *base, struct sosie_channel **out, struct sosie_err *err)
{
	struct child *c = (struct child *)base;
	return sosie_stdio_channel(c->out, c->in, LIMIT_MS, out, err);
}

static struct sosie_session *session_with(struct child *c)
{
	struct sosie_session *s;
	c->base.open = connector_open;
	int rc = sosie_session_open(&c->base, sosie_clock_real(), "sosie test", &s, &c->err);
	if (rc)
		fail_msg("%s", c->err.what);
	return s;
}

/* All that comes on fd until its end, within the limit. */
static size_t read_all(int fd, char *dst, size_t size)
{
	size_t len = 0;
	for (;;) {
		struct pollfd p = {fd, POLLIN, 0};
		assert_int_equal(poll(&p, 1, LIMIT_MS), 1);
		ssize_t n = read(fd, dst + len, size - 1 - len);
		assert_true(n >= 0);
		if (!n)
			break;
		len += (size_t)n;
	}
	dst[len] = '\0';
	return len;
}

/* Its exit status, with what it said in text. */
static int finish(struct child *c, char text[2048])
{
	int status;
	read_all(c->error, text, 2048);
	if (c->in >= 0)
		close(c->in);
	close(c->out);
	close(c->error);
	assert_int_equal(waitpid(c->pid, &status, 0), c->pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static const struct sosie_digest parent;

static void upload(struct sosie_session *s, struct sosie_upload_id *id)
{
	struct sosie_err err;
	char *data = calloc(1, BULK);
	assert_non_null(data);
	assert_int_equal(sosie_session_begin(s, "erp", SOSIE_UPLOAD_SEGMENT, &parent, 1, id, &err), 0);
	assert_int_equal(sosie_session_part(s, "erp", id, 0, &err), 0);
	for (size_t at = 0; at < BULK; at += 1u << 20)
		assert_int_equal(sosie_session_data(s, data + at, 1u << 20, &err), 0);
	assert_int_equal(sosie_session_part_end(s, BULK, &err), 0);
	assert_int_equal(sosie_session_durable(s), BULK);
	free(data);
}

static void test_receive_whole_session_commits_and_exits_0(void **state)
{
	struct child c;
	struct sosie_session_info info;
	struct sosie_upload_id id;
	char said[2048];
	bool keeper = true;
	(void)state;
	start(&c, "acme", KEY);
	struct sosie_session *s = session_with(&c);
	sosie_session_info(s, &info);
	assert_string_equal(info.tenant.s, "acme");
	upload(s, &id);
	assert_int_equal(sosie_session_commit(s, "erp", &id, "{}", 2, &keeper, &c.err), 0);
	assert_false(keeper);
	sosie_session_close(s); /* says bye */
	assert_int_equal(finish(&c, said), 0);
	assert_string_equal(said, "");
	assert_int_equal(shell("test $(cat acme/_inbox/erp/*.manifest) = '{}'"), 0);
	assert_int_equal(shell("test $(stat -c %s acme/_inbox/erp/*.0) = 9437184"), 0);
	assert_int_equal(shell("test $(cat acme/_inbox/erp/*.key) = " KEY), 0);
}

/* A keeper of another user in the same group reads and removes what is there. */
static void test_receive_what_it_makes_is_the_groups_too(void **state)
{
	struct child c;
	struct sosie_upload_id id;
	char said[2048];
	bool keeper;
	(void)state;
	assert_int_equal(shell("chmod 2770 acme/_inbox"), 0);
	start(&c, "acme", KEY);
	struct sosie_session *s = session_with(&c);
	upload(s, &id);
	assert_int_equal(sosie_session_commit(s, "erp", &id, "{}", 2, &keeper, &c.err), 0);
	assert_int_equal(sosie_session_same(s, "{}", 2, &keeper, &c.err), 0);
	sosie_session_close(s);
	assert_int_equal(finish(&c, said), 0);
	assert_int_equal(shell("test $(stat -c %a acme/_inbox/erp) = 2770"), 0);
	assert_int_equal(shell("test -z \"$(find acme/_inbox -type f ! -perm 660)\""), 0);
	assert_int_equal(shell("test $(find acme/_inbox -type f | wc -l) = 7"), 0);
}

/* The line of /proc/PID/status that begins with name. */
static void status_line(pid_t pid, const char *name, char line[128])
{
	char path[64];
	snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
	FILE *f = fopen(path, "r");
	assert_non_null(f);
	do
		assert_non_null(fgets(line, 128, f));
	while (strncmp(line, name, strlen(name)) != 0);
	fclose(f);
}

/* Nothing has been sent to it when the descriptor that somebody left open is closed. */
static void test_receive_confines_itself_before_the_first_byte(void **state)
{
	struct child c;
	int ends[2];
	char said[2048], line[128], byte;
	(void)state;
	assert_int_equal(pipe(ends), 0);
	leak = ends[1];
	start(&c, "acme", KEY);
	leak = -1;
	close(ends[1]);
	struct pollfd p = {ends[0], POLLIN, 0};
	assert_int_equal(poll(&p, 1, LIMIT_MS), 1);
	assert_int_equal(read(ends[0], &byte, 1), 0);
	close(ends[0]);
	struct sosie_session *s = session_with(&c);
	status_line(c.pid, "NoNewPrivs:", line);
	assert_non_null(strchr(line, '1'));
	status_line(c.pid, "Seccomp:", line);
	if (sosie_confine_layers() & SOSIE_CONFINE_SYSCALLS)
		assert_non_null(strchr(line, '2'));
	sosie_session_close(s);
	assert_int_equal(finish(&c, said), 0);
}

/* Nothing of the peer's is read by a program that is not confined. */
static void test_receive_without_seccomp_serves_nobody(void **state)
{
	struct child c;
	char said[2048], answer[64];
	(void)state;
	lack = LACKS_SECCOMP;
	start(&c, "acme", KEY);
	lack = LACKS_NOTHING;
	if (!(sosie_confine_layers() & SOSIE_CONFINE_SYSCALLS)) { /* a build that asks for none */
		sosie_session_close(session_with(&c));
		assert_int_equal(finish(&c, said), 0);
		return;
	}
	assert_int_equal(read_all(c.out, answer, sizeof answer), 0);
	assert_int_equal(finish(&c, said), 1);
	assert_non_null(strstr(said, "seccomp"));
}

/* The rest holds, and the source is not told. */
static void test_receive_without_landlock_goes_on_and_says_nothing(void **state)
{
	struct child c;
	struct sosie_upload_id id;
	char said[2048], line[128];
	bool keeper;
	(void)state;
	lack = LACKS_LANDLOCK;
	start(&c, "acme", KEY);
	lack = LACKS_NOTHING;
	struct sosie_session *s = session_with(&c);
	upload(s, &id);
	assert_int_equal(sosie_session_commit(s, "erp", &id, "{}", 2, &keeper, &c.err), 0);
	status_line(c.pid, "Seccomp_filters:", line);
	if (sosie_confine_layers() & SOSIE_CONFINE_SYSCALLS)
		assert_non_null(strchr(line, '2'));
	sosie_session_close(s);
	assert_int_equal(finish(&c, said), 0);
	assert_string_equal(said, "");
}

static void ask_everything(struct sosie_session *s, const struct sosie_upload_id *id)
{
	struct sosie_err err;
	struct sosie_part_state *parts;
	uint32_t count;
	size_t len;
	bool keeper, committed;
	char *text;
	void *bytes;
	assert_int_equal(sosie_session_head(s, "erp", &text, &len, &keeper, &err), 0);
	assert_string_equal(text, "head");
	free(text);
	assert_int_equal(sosie_session_join(s, "erp", id, &committed, &parts, &count, &err), 0);
	assert_int_equal(count, 1);
	free(parts);
	assert_int_equal(sosie_session_commit(s, "erp", id, "{}", 2, &keeper, &err), 0);
	assert_int_equal(sosie_session_wait(s, "erp", id, 20, &text, &len, &keeper, &err), 0);
	assert_null(text);
	assert_int_equal(sosie_session_differs(s, "erp", id, 100, &bytes, &len, &err), -SOSIE_ENOTFOUND);
	assert_int_equal(sosie_session_same(s, "{}", 2, &keeper, &err), 0);
	assert_int_equal(sosie_session_ping(s, &err), 0);
}

/* Every request, in an inbox with so many names that they are sorted in memory of their own. */
static void test_receive_confined_answers_every_request(void **state)
{
	struct child c;
	struct sosie_upload_id id;
	char said[2048], hex[33], name[64], *text;
	size_t len;
	bool keeper;
	void *bytes;
	(void)state;
	assert_int_equal(shell("mkdir -p acme/_inbox/erp acme/_outbox/erp && mkfifo acme/_inbox/notify"), 0);
	assert_int_equal(
	        shell("for i in $(seq 100 999); do : >acme/_inbox/erp/00000000000000000000000000000$i.0; "
	              "done"),
	        0);
	put("_outbox/erp/head", "head");
	start(&c, "acme", KEY);
	struct sosie_session *s = session_with(&c);
	upload(s, &id);
	assert_int_equal(shell("test $(ls acme/_inbox/erp | wc -l) = 4"), 0); /* orphans go */
	ask_everything(s, &id);
	sosie_hex(hex, id.b, sizeof id.b);
	snprintf(name, sizeof name, "_outbox/erp/%s.verdict", hex);
	put(name, "verdict");
	snprintf(name, sizeof name, "_outbox/erp/%s.differs", hex);
	put(name, "differs");
	assert_int_equal(sosie_session_wait(s, "erp", &id, 20, &text, &len, &keeper, &c.err), 0);
	assert_string_equal(text, "verdict");
	free(text);
	assert_int_equal(sosie_session_differs(s, "erp", &id, 100, &bytes, &len, &c.err), 0);
	assert_int_equal(len, 7);
	free(bytes);
	sosie_session_close(s);
	assert_int_equal(finish(&c, said), 0);
	assert_string_equal(said, "");
}

static void test_receive_sigterm_ends_it_with_an_error_to_the_source(void **state)
{
	struct child c;
	struct sosie_upload_id id;
	char said[2048];
	(void)state;
	start(&c, "acme", KEY);
	struct sosie_session *s = session_with(&c);
	upload(s, &id);
	assert_int_equal(kill(c.pid, SIGTERM), 0);
	assert_true(finish(&c, said) != 0);
	assert_non_null(strstr(said, "told to stop"));
	c.base.open = NULL;
	assert_true(sosie_session_ping(s, &c.err) < 0);
	sosie_session_close(s);
	assert_int_equal(shell("test $(stat -c %s acme/_inbox/erp/*.0) = 9437184"), 0);
	assert_int_not_equal(shell("ls acme/_inbox/erp/*.manifest 2>/dev/null"), 0);
}

static void test_receive_garbage_is_answered_with_an_error_and_ends(void **state)
{
	struct child c;
	char said[2048], answer[2048];
	unsigned char garbage[4096];
	(void)state;
	start(&c, "acme", KEY);
	for (size_t i = 0; i < sizeof garbage; i++)
		garbage[i] = (unsigned char)(255 - i * 7 % 251);
	assert_int_equal(write(c.in, garbage, sizeof garbage), sizeof garbage);
	size_t len = read_all(c.out, answer, sizeof answer);
	assert_true(len > SOSIE_FRAME_HEADER);
	assert_int_equal(answer[4], SOSIE_MSG_ERROR);
	assert_int_equal(answer[8], 1);
	assert_non_null(memmem(answer, len, "protocol", 8));
	assert_true(finish(&c, said) != 0);
	assert_int_equal(strncmp(said, "sosie-receive: ", 15), 0);
	assert_null(strchr(said, '\x1b'));
}

static void test_receive_end_of_input_before_hello_is_an_error(void **state)
{
	struct child c;
	char said[2048];
	(void)state;
	start(&c, "acme", KEY);
	close(c.in);
	c.in = -1;
	assert_true(finish(&c, said) != 0);
	assert_int_equal(strncmp(said, "sosie-receive: ", 15), 0);
}

static void refused_at_start(const char *tenant, const char *key, const char *why)
{
	struct child c;
	char said[2048], answer[2048];
	start(&c, tenant, key);
	close(c.in); /* a source that says nothing is told all the same */
	c.in = -1;
	read_all(c.out, answer, sizeof answer);
	assert_true(finish(&c, said) != 0);
	if (!strstr(said, why))
		fail_msg("\"%s\" does not say \"%s\"", said, why);
}

static void test_receive_wrong_key_is_refused(void **state)
{
	(void)state;
	refused_at_start("acme", "fedcba9876543210", "is not registered");
	refused_at_start("acme", "../../etc/passwd", "hexadecimal");
}

/* A source whose key was taken away must not try for ever: it hears the code, not only the end of the
 * session. */
static void test_receive_wrong_key_tells_the_source_to_stop(void **state)
{
	struct child c;
	struct sosie_session *session = NULL;
	char said[2048];
	(void)state;
	start(&c, "acme", "fedcba9876543210");
	c.base.open = connector_open;
	assert_int_equal(sosie_session_open(&c.base, sosie_clock_real(), "sosie test", &session, &c.err),
	                 -SOSIE_EAUTH);
	assert_non_null(strstr(c.err.what, "not registered"));
	assert_null(session);
	assert_true(finish(&c, said) != 0);
}

static void test_receive_newer_store_is_not_served(void **state)
{
	(void)state;
	put("../sosie.json", "{\n  \"format\": 2}");
	refused_at_start("acme", KEY, "of format 2");
	put("../sosie.json", "[]");
	refused_at_start("acme", KEY, "does not say its format");
}

static void test_receive_unknown_tenant_is_refused(void **state)
{
	(void)state;
	refused_at_start("nobody", KEY, "no tenant nobody");
	refused_at_start("../acme", KEY, "name");
}

#define STORE_TEST(f) cmocka_unit_test_setup_teardown(f, make_store, drop_store)

int main(void)
{
	const struct CMUnitTest tests[] = {
	        STORE_TEST(test_receive_whole_session_commits_and_exits_0),
	        STORE_TEST(test_receive_what_it_makes_is_the_groups_too),
	        STORE_TEST(test_receive_confines_itself_before_the_first_byte),
	        STORE_TEST(test_receive_without_seccomp_serves_nobody),
	        STORE_TEST(test_receive_without_landlock_goes_on_and_says_nothing),
	        STORE_TEST(test_receive_confined_answers_every_request),
	        STORE_TEST(test_receive_sigterm_ends_it_with_an_error_to_the_source),
	        STORE_TEST(test_receive_garbage_is_answered_with_an_error_and_ends),
	        STORE_TEST(test_receive_end_of_input_before_hello_is_an_error),
	        STORE_TEST(test_receive_wrong_key_is_refused),
	        STORE_TEST(test_receive_wrong_key_tells_the_source_to_stop),
	        STORE_TEST(test_receive_newer_store_is_not_served),
	        STORE_TEST(test_receive_unknown_tenant_is_refused),
	};
	find_program();
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/*
 * The SSH channel against a private sshd on a free loopback port, with throw-away keys in a folder of its
 * own. Without sshd or ssh-keygen the tests are skipped, and counted so. SOSIE_ROUNDS=full makes the soak
 * longer.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sosie/channel.h"
#include "tests/support/rounds.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* libssh2 1.10 leaks the host key's blob (51 bytes) at each rekey; nothing outside it can free that. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
	return "leak:libssh2.so\n";
}

static char dir[64], user[64];
static int port;
static pid_t sshd_pid;

__attribute__((format(printf, 2, 3))) static void write_text(const char *name, const char *fmt, ...)
{
	char path[128];
	va_list ap;
	snprintf(path, sizeof path, "%s/%s", dir, name);
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	va_start(ap, fmt);
	assert_true(vfprintf(f, fmt, ap) >= 0);
	va_end(ap);
	assert_int_equal(fclose(f), 0);
}

static void read_text(const char *name, char *dst, size_t size)
{
	char path[128];
	snprintf(path, sizeof path, "%s/%s", dir, name);
	FILE *f = fopen(path, "r");
	assert_non_null(f);
	dst[fread(dst, 1, size - 1, f)] = '\0';
	fclose(f);
	dst[strcspn(dst, "\n")] = '\0';
}

static int run(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static int run(const char *fmt, ...)
{
	char command[1024];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(command, sizeof command, fmt, ap);
	va_end(ap);
	return system(command);
}

static int free_port(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof a;
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
	close(fd);
	return ntohs(a.sin_port);
}

static bool port_answers(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
	                        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	                        .sin_port = htons((uint16_t)port)};
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	char byte;
	bool yes = !connect(fd, (struct sockaddr *)&a, sizeof a) && read(fd, &byte, 1) == 1;
	close(fd);
	return yes;
}

static void sshd_start(void)
{
	char config[96], log[96];
	port = free_port();
	write_text("sshd_config",
	           "ListenAddress 127.0.0.1:%d\nHostKey %s/host\nAuthorizedKeysFile "
	           "%s/authorized\nStrictModes no\nPidFile none\n"
	           "UsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin "
	           "prohibit-password\n"
	           "RekeyLimit 1M\nLogLevel DEBUG1\nMaxStartups 100\n",
	           port, dir, dir);
	snprintf(config, sizeof config, "%s/sshd_config", dir);
	snprintf(log, sizeof log, "%s/log", dir);
	sshd_pid = fork();
	if (!sshd_pid) {
		execl("/usr/sbin/sshd", "/usr/sbin/sshd", "-D", "-f", config, "-E", log, (char *)NULL);
		_exit(127);
	}
	for (int i = 0; i < 200 && !port_answers(); i++)
		poll(NULL, 0, 25); /* another process's start: there is no event to wait on */
}

static int setup(void **state)
{
	(void)state;
	signal(SIGPIPE, SIG_IGN);
	unsetenv("SSH_AUTH_SOCK");
	strcpy(dir, "/tmp/sosie-test-ssh-XXXXXX");
	assert_non_null(mkdtemp(dir));
	strncpy(user, getpwuid(geteuid())->pw_name, sizeof user - 1);
	if (access("/usr/sbin/sshd", X_OK) || run("command -v ssh-keygen >/dev/null"))
		return 0;
	if (!geteuid())
		mkdir("/run/sshd", 0755);
	assert_int_equal(run("cd %s && for k in host other client stranger; do ssh-keygen -q -t ed25519 -N "
	                     "'' -f $k; done",
	                     dir),
	                 0);
	assert_int_equal(run("cd %s && ssh-keygen -q -t ecdsa -N secret -f locked", dir), 0);
	sshd_start();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	if (sshd_pid > 0) {
		kill(sshd_pid, SIGTERM);
		waitpid(sshd_pid, NULL, 0);
	}
	return run("rm -rf %s", dir);
}

static void need_sshd(void)
{
	if (sshd_pid <= 0) {
		print_message("skipped: no sshd or ssh-keygen\n");
		skip();
	}
}

/* What the key `client` runs, whatever was asked for. */
static void command_is(const char *command)
{
	char key[512];
	read_text("client.pub", key, sizeof key);
	write_text("authorized", "restrict,command=\"%s\" %s\n", command, key);
}

static void known_is(const char *host_key)
{
	char key[512], name[64];
	snprintf(name, sizeof name, "%s.pub", host_key);
	read_text(name, key, sizeof key);
	write_text("known", "# a comment\nbroken line\n[127.0.0.1]:%d %s\n", port, key);
}

struct link {
	struct sosie_connector *connector;
	struct sosie_channel *ch;
	struct sosie_err err;
	char identity[96], known[96];
	struct sosie_ssh_options options;
};

static int link_open(struct link *l, const char *identity)
{
	snprintf(l->identity, sizeof l->identity, "%s/%s", dir, identity);
	snprintf(l->known, sizeof l->known, "%s/known", dir);
	l->options.identity = l->identity;
	l->options.known_hosts = l->known;
	strcpy(l->options.target.host, "127.0.0.1");
	strcpy(l->options.target.user, user);
	l->options.target.port = (uint16_t)port;
	sosie_err_clear(&l->err);
	assert_int_equal(sosie_ssh_connector(&l->options, &l->connector, &l->err), 0);
	return l->connector->open(l->connector, &l->ch, &l->err);
}

static void link_close(struct link *l)
{
	sosie_channel_close(l->ch);
	sosie_ssh_connector_free(l->connector);
	memset(l, 0, sizeof *l);
}

static void link_must(struct link *l)
{
	int rc = link_open(l, "client");
	if (rc)
		print_error("%s | %s\n", l->err.what, l->err.action);
	assert_int_equal(rc, 0);
}

static void recv_all(struct link *l, char *dst, size_t len)
{
	while (len) {
		size_t got;
		int rc = sosie_channel_recv(l->ch, dst, len, &got, 20000, &l->err);
		if (rc)
			print_error("%s\n", l->err.what);
		assert_int_equal(rc, 0);
		assert_true(got > 0);
		dst += got;
		len -= got;
	}
}

static void test_connect_known_host_and_key_echoes(void **state)
{
	struct link l = {0};
	char back[5];
	(void)state;
	need_sshd();
	command_is("cat");
	known_is("host");
	link_must(&l);
	assert_int_equal(sosie_channel_send(l.ch, "hello", 5, &l.err), 0);
	recv_all(&l, back, 5);
	assert_memory_equal(back, "hello", 5);
	link_close(&l);
}

static void test_connect_hashed_entry_is_known(void **state)
{
	struct link l = {0};
	(void)state;
	need_sshd();
	command_is("cat");
	known_is("host");
	assert_int_equal(run("ssh-keygen -q -H -f %s/known >/dev/null 2>&1; sed -i /broken/d %s/known; "
	                     "ssh-keygen -q -H -f %s/known >/dev/null 2>&1; grep -q '^|1|' %s/known",
	                     dir, dir, dir, dir),
	                 0);
	link_must(&l);
	link_close(&l);
}

static void test_connect_unknown_host_is_refused(void **state)
{
	struct link l = {0};
	(void)state;
	need_sshd();
	write_text("known", "%s", "");
	assert_int_equal(link_open(&l, "client"), -SOSIE_EHOSTKEY);
	assert_non_null(strstr(l.err.what, "SHA256:"));
	assert_non_null(strstr(l.err.what, "/known"));
	assert_non_null(strstr(l.err.action, "ssh-keyscan -p"));
	char print[256] = "", path[200];
	snprintf(path, sizeof path, "ssh-keygen -lf %s/host.pub | cut -d' ' -f2", dir);
	FILE *f = popen(path, "r");
	assert_non_null(f);
	assert_non_null(fgets(print, sizeof print, f));
	pclose(f);
	print[strcspn(print, "\n")] = '\0';
	assert_non_null(strstr(l.err.what, print));
	link_close(&l);
}

/* As ssh-keyscan writes it; at the end of the file with and without a newline. */
static void test_connect_known_line_without_comment_is_trusted(void **state)
{
	static const char *const ends[] = {"\n", "", "\r\n", " \n"};
	(void)state;
	need_sshd();
	for (unsigned i = 0; i < 4; i++) {
		struct link l = {0};
		char key[512];
		read_text("host.pub", key, sizeof key);
		char *comment = strchr(strchr(key, ' ') + 1, ' ');
		assert_non_null(comment);
		*comment = '\0';
		write_text("known", "[127.0.0.1]:%d %s%s", port, key, ends[i]);
		assert_int_equal(link_open(&l, "client"), 0);
		link_close(&l);
	}
}

static void test_connect_changed_host_is_refused(void **state)
{
	struct link l = {0};
	(void)state;
	need_sshd();
	known_is("other");
	assert_int_equal(link_open(&l, "client"), -SOSIE_EHOSTKEY);
	assert_non_null(strstr(l.err.what, "CHANGED"));
	assert_non_null(strstr(l.err.what, "/known"));
	link_close(&l);
}

static void test_connect_revoked_host_is_refused(void **state)
{
	struct link l = {0};
	char key[512];
	(void)state;
	need_sshd();
	read_text("host.pub", key, sizeof key);
	write_text("known", "[127.0.0.1]:%d %s\n@revoked [127.0.0.1]:%d %s\n", port, key, port, key);
	assert_int_equal(link_open(&l, "client"), -SOSIE_EHOSTKEY);
	assert_non_null(strstr(l.err.what, "revoked"));
	link_close(&l);
}

static void test_connect_strange_key_is_refused(void **state)
{
	struct link l = {0};
	(void)state;
	need_sshd();
	command_is("cat");
	known_is("host");
	assert_int_equal(link_open(&l, "stranger"), -SOSIE_EAUTH);
	assert_non_null(strstr(l.err.what, user));
	assert_non_null(strstr(l.err.what, "stranger SHA256:"));
	assert_non_null(strstr(l.err.action, "authorized_keys"));
	link_close(&l);
}

static void test_connect_locked_key_without_agent_is_refused(void **state)
{
	struct link l = {0};
	(void)state;
	char key[1024];
	need_sshd();
	known_is("host");
	read_text("locked.pub", key, sizeof key);
	write_text("authorized", "%s\n", key);
	assert_int_equal(link_open(&l, "locked"), -SOSIE_EAUTH);
	assert_non_null(strstr(l.err.what, "passphrase"));
	link_close(&l);
}

static void test_connect_key_in_agent_is_used(void **state)
{
	struct link l = {0};
	char sock[96], pid[32];
	(void)state;
	need_sshd();
	command_is("cat");
	known_is("host");
	assert_int_equal(run("cd %s && eval $(ssh-agent -a $PWD/agent) >/dev/null && echo $SSH_AGENT_PID "
	                     ">agent.pid && ssh-add -q client",
	                     dir),
	                 0);
	snprintf(sock, sizeof sock, "%s/agent", dir);
	setenv("SSH_AUTH_SOCK", sock, 1);
	assert_int_equal(run("cd %s && ssh-keygen -q -p -P '' -N secret -f client >/dev/null", dir), 0);
	int rc = link_open(&l, "client");
	if (rc)
		print_error("%s\n", l.err.what);
	unsetenv("SSH_AUTH_SOCK");
	assert_int_equal(run("cd %s && ssh-keygen -q -p -P secret -N '' -f client >/dev/null", dir), 0);
	read_text("agent.pid", pid, sizeof pid);
	kill((pid_t)atoi(pid), SIGTERM);
	assert_int_equal(rc, 0);
	link_close(&l);
}

static void test_recv_remote_ends_its_words_are_told(void **state)
{
	struct link l = {0};
	char byte;
	size_t got;
	(void)state;
	need_sshd();
	command_is("echo tenant unknown >&2; exit 3");
	known_is("host");
	link_must(&l);
	assert_int_equal(sosie_channel_recv(l.ch, &byte, 1, &got, 10000, &l.err), -SOSIE_EPEER);
	assert_non_null(strstr(l.err.what, "tenant unknown"));
	assert_non_null(strstr(l.err.what, "status 3"));
	link_close(&l);
}

static void test_send_remote_dies_ends_with_peer_lost(void **state)
{
	struct link l = {.options = {.stall_ms = 20000}};
	static char block[1 << 20];
	int rc = 0;
	(void)state;
	need_sshd();
	command_is("head -c 3000000 >/dev/null; echo gone >&2; exit 1");
	known_is("host");
	link_must(&l);
	for (int i = 0; i < 64 && !rc; i++)
		rc = sosie_channel_send(l.ch, block, sizeof block, &l.err);
	assert_int_equal(rc, -SOSIE_EPEER);
	assert_non_null(strstr(l.err.what, "gone"));
	link_close(&l);
}

static void test_send_peer_takes_nothing_times_out(void **state)
{
	struct link l = {.options = {.stall_ms = 700}};
	static char block[1 << 20];
	int rc = 0;
	(void)state;
	need_sshd();
	command_is("exec sleep 30");
	known_is("host");
	link_must(&l);
	for (int i = 0; i < 64 && !rc; i++)
		rc = sosie_channel_send(l.ch, block, sizeof block, &l.err);
	assert_int_equal(rc, -SOSIE_ETIMEOUT);
	link_close(&l);
}

static void test_recv_stop_set_is_interrupted(void **state)
{
	bool stop = false;
	struct link l = {.options = {.stop = &stop}};
	char byte;
	size_t got;
	(void)state;
	need_sshd();
	command_is("cat");
	known_is("host");
	link_must(&l);
	stop = true;
	assert_int_equal(sosie_channel_recv(l.ch, &byte, 1, &got, 20000, &l.err), -SOSIE_EINTR);
	link_close(&l);
}

static void test_connect_silent_server_times_out(void **state)
{
	struct link l = {.options = {.connect_ms = 500}};
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof a;
	int fd = socket(AF_INET, SOCK_STREAM, 0), real = port;
	(void)state;
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
	assert_int_equal(listen(fd, 4), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
	port = ntohs(a.sin_port);
	assert_int_equal(link_open(&l, "client"), -SOSIE_ETIMEOUT);
	port = real;
	link_close(&l);
	close(fd);
}

static uint8_t pattern(uint64_t i)
{
	return (uint8_t)((i * 2654435761u) >> 13 ^ i);
}

static void check_echo(struct link *l, uint64_t *received, int timeout_ms)
{
	static uint8_t back[256 << 10];
	size_t got;
	int rc = sosie_channel_recv(l->ch, back, sizeof back, &got, timeout_ms, &l->err);
	if (rc)
		print_error("after %llu bytes: %s\n", (unsigned long long)*received, l->err.what);
	assert_int_equal(rc, 0);
	assert_true(got || !timeout_ms);
	for (size_t i = 0; i < got; i++)
		if (back[i] != pattern(*received + i))
			fail_msg("byte %llu differs", (unsigned long long)(*received + i));
	*received += got;
}

static unsigned long rekeys(void)
{
	char command[160], text[32] = "";
	snprintf(command, sizeof command, "grep -c 'SSH2_MSG_NEWKEYS received' %s/log", dir);
	FILE *f = popen(command, "r");
	assert_non_null(f);
	assert_non_null(fgets(text, sizeof text, f));
	pclose(f);
	return strtoul(text, NULL, 10);
}

/* Both directions at once, a rekey each MiB, a send buffer so small that nearly every packet is cut. */
static void test_soak_rekey_full_duplex_never_stalls(void **state)
{
	struct link l = {.options = {.stall_ms = 20000, .send_buffer = 4096}};
	uint64_t total = (uint64_t)(test_rounds(64, 256) + 3) / 4 << 22, sent = 0, received = 0;
	static uint8_t block[256 << 10];
	(void)state;
	need_sshd();
	command_is("cat");
	known_is("host");
	unsigned long before = rekeys();
	link_must(&l);
	while (sent < total) {
		for (size_t i = 0; i < sizeof block; i++)
			block[i] = pattern(sent + i);
		int rc = sosie_channel_send(l.ch, block, sizeof block, &l.err);
		if (rc)
			print_error("after %llu bytes: %s\n", (unsigned long long)sent, l.err.what);
		assert_int_equal(rc, 0);
		sent += sizeof block;
		check_echo(&l, &received, 0);
		while (sent - received > (3u << 20))
			check_echo(&l, &received, 20000);
	}
	while (received < total)
		check_echo(&l, &received, 20000);
	link_close(&l);
	unsigned long done = rekeys() - before - 1;
	print_message("soak: %llu MiB each way, %lu rekeys\n", (unsigned long long)(total >> 20), done);
	assert_true(done >= total >> 22);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_connect_known_host_and_key_echoes),
	        cmocka_unit_test(test_connect_hashed_entry_is_known),
	        cmocka_unit_test(test_connect_unknown_host_is_refused),
	        cmocka_unit_test(test_connect_known_line_without_comment_is_trusted),
	        cmocka_unit_test(test_connect_changed_host_is_refused),
	        cmocka_unit_test(test_connect_revoked_host_is_refused),
	        cmocka_unit_test(test_connect_strange_key_is_refused),
	        cmocka_unit_test(test_connect_locked_key_without_agent_is_refused),
	        cmocka_unit_test(test_connect_key_in_agent_is_used),
	        cmocka_unit_test(test_connect_silent_server_times_out),
	        cmocka_unit_test(test_recv_remote_ends_its_words_are_told),
	        cmocka_unit_test(test_send_remote_dies_ends_with_peer_lost),
	        cmocka_unit_test(test_send_peer_takes_nothing_times_out),
	        cmocka_unit_test(test_recv_stop_set_is_interrupted),
	        cmocka_unit_test(test_soak_rekey_full_duplex_never_stalls),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}

/* SPDX-License-Identifier: MIT */
/*
 * Signers: the child that holds a key, what ends it and what does not, what it refuses, what its parent never
 * has; agents that have the key, lack it, lie, hang or end.
 */
#include "tests/unit/sign/lab.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "engine/sign/internal.h"
#include "sosie/sandbox.h"

static pid_t agent_pid;

static int teardown(void **state)
{
	if (agent_pid > 0)
		kill(agent_pid, SIGTERM);
	return lab_close(state);
}

/* A key file, made by another process: its seed has never been in this one. */
static const char *key_file(const char *name)
{
	struct sosie_public key;
	pid_t maker = fork();
	int status;

	if (maker == 0)
		_exit(sosie_keygen(in_dir(name), "c", &key, NULL) == 0 ? 0 : 1);
	assert_int_equal(waitpid(maker, &status, 0), maker);
	assert_int_equal(status, 0);
	return in_dir(name);
}

static struct sosie_signer *opened(const char *path)
{
	struct sosie_signer *s;

	OK(sosie_signer_open(path, &s, &err));
	return s;
}

static struct signer_counters counters(const struct sosie_signer *s)
{
	struct signer_counters c;

	signer_counters(s, &c);
	return c;
}

static void signs(struct sosie_signer *s)
{
	size_t len;
	char *text = sign_text(s, NS, TEXT, &len);

	OK(check(text, len, NS, s));
	free(text);
}

static int sign_fails(struct sosie_signer *s)
{
	size_t len = 7;
	char *text = dir;
	int rc;

	sosie_err_clear(&err);
	rc = sosie_sign(s, NS, TEXT, strlen(TEXT), &text, &len, &err);
	assert_null(text);
	return rc;
}

/* --- the child's life
 * ---------------------------------------------------------------------------------------------- */

static void test_signer_of_file_signs_and_is_reaped(void **state)
{
	struct sosie_signer *s = opened(key_file("a"));
	struct sosie_public key;
	char line[SOSIE_PUBLIC_LINE];
	pid_t child = counters(s).child;

	(void)state;
	OK(sosie_public_parse(line, load("a.pub", line, sizeof(line)), &key, NULL, &err));
	assert_true(sosie_public_equal(&key, sosie_signer_public(s)));
	assert_true(child > 0);
	for (unsigned i = 0; i < 3; i++)
		signs(s);
	assert_int_equal(counters(s).child, child);
	sosie_signer_close(s);
	assert_int_equal(waitpid(child, NULL, 0), -1);
	assert_int_equal(errno, ECHILD);
}

static void test_signer_killed_next_call_works(void **state)
{
	struct sosie_signer *s = opened(key_file("b"));

	(void)state;
	for (unsigned i = 1; i <= 3; i++) {
		pid_t child = counters(s).child;

		assert_int_equal(kill(child, SIGKILL), 0);
		signs(s);
		assert_int_equal(counters(s).started, i + 1);
		assert_int_equal(waitpid(child, NULL, WNOHANG), -1);
	}
	sosie_signer_close(s);
}

static void test_signer_that_hangs_is_replaced(void **state)
{
	struct sosie_signer *s = opened(key_file("h"));

	(void)state;
	assert_int_equal(kill(counters(s).child, SIGSTOP), 0);
	signs(s);
	assert_int_equal(counters(s).started, 2);
	sosie_signer_close(s);
}

static void test_signer_killed_and_file_another_is_refused(void **state)
{
	struct sosie_signer *s = opened(key_file("c"));

	(void)state;
	key_file("c2");
	assert_int_equal(run("mv c c1 && mv c2 c"), 0);
	signs(s); /* whoever has the key needs no file */
	kill(counters(s).child, SIGKILL);
	REFUSED(SOSIE_EAUTH, sign_fails(s));
	SAYS("another key");
	assert_int_equal(counters(s).child, 0);
	assert_int_equal(run("mv c c2"), 0);
	REFUSED(SOSIE_EAUTH, sign_fails(s));
	SAYS("cannot start");
	assert_int_equal(run("cp c.pub c"), 0); /* only the public half */
	REFUSED(SOSIE_EAUTH, sign_fails(s));
	assert_int_equal(run("mv c1 c"), 0);
	signs(s);
	sosie_signer_close(s);
}

static void test_signer_goes_on_after_signals_to_the_group(void **state)
{
	static const int sent[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
	struct sosie_signer *s = opened(key_file("d"));

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		assert_int_equal(kill(counters(s).child, sent[i]), 0);
		signs(s);
	}
	assert_int_equal(counters(s).started, 1);
	sosie_signer_close(s);
}

static void *open_there(void *path)
{
	return opened(path);
}

/* The death signal of the kernel is the thread's, not the process's. */
static void test_signer_outlives_the_thread_that_opened_it(void **state)
{
	char path[160];
	pthread_t thread;
	void *s;

	(void)state;
	strcpy(path, key_file("e"));
	assert_int_equal(pthread_create(&thread, NULL, open_there, path), 0);
	assert_int_equal(pthread_join(thread, &s), 0);
	signs(s);
	assert_int_equal(counters(s).started, 1);
	sosie_signer_close(s);
}

/* Nobody writes into that pipe: over when the test has ended, however it did. */
static noreturn void until_test_ends(int hold)
{
	char byte;

	_exit(read(hold, &byte, 1) == 0 ? 0 : 1);
}

/* Another process has a copy of the socket's end: its closing is not what the child waits for. */
static noreturn void parent_with_signer(const char *path, int out, int hold)
{
	struct sosie_signer *s;
	pid_t pids[2];

	if (sosie_signer_open(path, &s, NULL) != 0)
		_exit(1);
	pids[0] = counters(s).child;
	pids[1] = fork();
	if (pids[1] == 0)
		until_test_ends(hold);
	if (write(out, pids, sizeof(pids)) != (ssize_t)sizeof(pids))
		_exit(1);
	until_test_ends(hold);
}

static void test_signer_ends_with_its_process(void **state)
{
	const char *path = key_file("f");
	pid_t parent, pids[2];
	int ends[2], hold[2], status;

	(void)state;
	assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
	assert_int_equal(pipe(ends), 0);
	assert_int_equal(pipe(hold), 0);
	parent = fork();
	if (parent == 0) {
		close(hold[1]);
		parent_with_signer(path, ends[1], hold[0]);
	}
	close(ends[1]);
	close(hold[0]);
	assert_int_equal(read(ends[0], pids, sizeof(pids)), sizeof(pids));
	close(ends[0]);
	assert_int_equal(kill(parent, SIGKILL), 0);
	assert_int_equal(waitpid(parent, NULL, 0), parent);
	assert_int_equal(waitpid(pids[0], &status, 0), pids[0]); /* ours now */
	assert_true(WIFEXITED(status));
	assert_int_equal(waitpid(pids[1], NULL, WNOHANG), 0); /* it still had the socket */
	close(hold[1]);
	assert_int_equal(waitpid(pids[1], &status, 0), pids[1]);
	assert_int_equal(status, 0);
	prctl(PR_SET_CHILD_SUBREAPER, 0);
}

/* --- many threads
 * -------------------------------------------------------------------------------------------------- */

static void *sign_there(void *of)
{
	char *text;
	size_t len;
	long bad = 0;

	for (unsigned i = 0; i < 50; i++) {
		bad += sosie_sign(of, NS, TEXT, strlen(TEXT), &text, &len, NULL) != 0;
		free(text);
	}
	return bad ? of : NULL;
}

static void test_signer_is_used_by_many_threads(void **state)
{
	struct sosie_signer *s = opened(key_file("g"));
	pthread_t threads[4];
	void *bad;

	(void)state;
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, sign_there, s), 0);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(pthread_join(threads[i], &bad), 0);
		assert_null(bad);
	}
	assert_int_equal(counters(s).started, 1);
	sosie_signer_close(s);
}

#define BUSY 6u
#define OPENS 20u

static _Atomic bool busy;

/* Whatever locks libcrypto and malloc have, some of these hold them at the fork. */
static void *keep_busy(void *arg)
{
	const uint8_t seed[32] = {1};
	struct sosie_public key;
	struct evp_key *k;

	while (busy)
		if (evp_key_new(seed, &k, &key, NULL) == 0)
			evp_key_free(k);
	return arg;
}

/* Here and there a start is lost, as evp.c says; without the use before the fork one after the other is. */
static void test_signer_opens_beside_busy_threads(void **state)
{
	pthread_t threads[BUSY];
	char path[160];
	unsigned good = 0, started = 0;

	(void)state;
	strcpy(path, key_file("busy"));
	busy = true;
	for (unsigned i = 0; i < BUSY; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, keep_busy, NULL), 0);
	for (unsigned i = 0; i < OPENS && good == i && started < 2 * OPENS; i++) {
		struct sosie_signer *s = NULL;

		if (sosie_signer_open(path, &s, &err) == 0) {
			started += counters(s).started;
			good++;
		}
		sosie_signer_close(s);
	}
	busy = false;
	for (unsigned i = 0; i < BUSY; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(good, OPENS);
	assert_in_range(started, OPENS, 2 * OPENS - 1);
}

/* --- what the child refuses
 * ---------------------------------------------------------------------------------------- */

/* A child of our own, asked without the parent's code between. */
static pid_t raw_child(const char *path, int *socket)
{
	struct signer_hello hello;
	const pid_t parent = getpid();
	int pair[2];
	pid_t child;

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	child = fork();
	if (child == 0)
		signer_child(path, pair[1], parent);
	close(pair[1]);
	*socket = pair[0];
	assert_int_equal(read(*socket, &hello, sizeof(hello)), sizeof(hello));
	assert_int_equal(hello.kind, KEYFILE_PRIVATE);
	return child;
}

static bool raw_signs(int socket, const struct signer_request *request)
{
	struct signer_reply reply;

	assert_int_equal(write(socket, request, sizeof(*request)), sizeof(*request));
	assert_int_equal(read(socket, &reply, sizeof(reply)), sizeof(reply));
	assert_int_equal(reply.number, request->number);
	return reply.made == 1;
}

static void test_child_signs_for_our_namespaces_only(void **state)
{
	static const char *const foreign[] = {"", "git", "file", "sosie-", "sosie-a b", "xsosie-same"};
	struct signer_request request = {.number = 1, .name_space = SOSIE_SIGN_SAME};
	int socket, status;
	pid_t child = raw_child(key_file("raw"), &socket);

	(void)state;
	assert_true(raw_signs(socket, &request));
	for (size_t i = 0; i < sizeof(foreign) / sizeof(foreign[0]); i++) {
		request = (struct signer_request){.number = (uint32_t)i + 2};
		memcpy(request.name_space, foreign[i], strlen(foreign[i]));
		assert_false(raw_signs(socket, &request));
	}
	memset(request.name_space, 'x', sizeof(request.name_space)); /* no end */
	memcpy(request.name_space, "sosie-", 6);
	assert_false(raw_signs(socket, &request));
	close(socket);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void test_child_ends_at_a_message_of_other_length(void **state)
{
	struct signer_request request = {.number = 1, .name_space = SOSIE_SIGN_SAME};
	int socket;
	pid_t child = raw_child(key_file("raw2"), &socket);

	(void)state;
	assert_int_equal(write(socket, &request, sizeof(request) - 1), sizeof(request) - 1);
	assert_int_equal(waitpid(child, NULL, 0), child);
	close(socket);
}

static void test_child_is_confined(void **state)
{
	struct sosie_signer *s = opened(key_file("i"));
	pid_t child = counters(s).child;

	(void)state;
	assert_int_equal(run("grep -q '^NoNewPrivs:.*1$' /proc/%d/status", (int)child), 0);
	if (sosie_sandbox_layers() & SOSIE_SANDBOX_SYSCALLS)
		assert_int_equal(run("grep -q '^Seccomp:.*2$' /proc/%d/status", (int)child), 0);
	/* /dev/null three times, the socket, the parent's pidfd. */
	if (access("/proc/1/fd", R_OK) == 0)
		assert_int_equal(run("[ \"$(ls /proc/%d/fd | wc -l)\" -eq 5 ]", (int)child), 0);
	sosie_signer_close(s);
}

/* --- what the parent never has
 * ------------------------------------------------------------------------------------- */

#define MASK 0x5a
#define MAPPING_MAX (UINT64_C(1) << 28) /* larger ones are a sanitizer's */

static bool holds(const uint8_t *at, const uint8_t masked[EVP_SEED_LEN])
{
	for (unsigned k = 0; k < EVP_SEED_LEN; k++)
		if ((at[k] ^ MASK) != masked[k])
			return false;
	return true;
}

/* Whether the seed lies anywhere in the writable memory of this process. *bytes: how many were looked at. */
static bool memory_holds(const uint8_t masked[EVP_SEED_LEN], uint64_t *bytes)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	int mem = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
	uint8_t *page = malloc(65536 + EVP_SEED_LEN);
	unsigned long start, end;
	char line[512], mode[5];
	bool found = false;

	assert_true(maps && mem >= 0 && page);
	*bytes = 0;
	while (fgets(line, sizeof(line), maps)) {
		if (sscanf(line, "%lx-%lx %4s", &start, &end, mode) != 3 || mode[1] != 'w' ||
		    end - start > MAPPING_MAX)
			continue;
		for (unsigned long at = start; at < end; at += 65536) {
			ssize_t got = pread(mem, page, 65536 + EVP_SEED_LEN, (off_t)at);

			for (ssize_t i = 0; i + EVP_SEED_LEN <= got; i++)
				found = found || holds(page + i, masked);
			*bytes += got > 0 ? (uint64_t)got : 0;
		}
	}
	free(page);
	fclose(maps);
	close(mem);
	return found;
}

/* The seed of a file, masked, without having been here. */
static void masked_seed(const char *path, uint8_t masked[EVP_SEED_LEN])
{
	struct keyfile file;
	int ends[2];
	pid_t reader;

	assert_int_equal(pipe(ends), 0);
	reader = fork();
	if (reader == 0) {
		if (keyfile_read(path, &file, NULL) != 0)
			_exit(1);
		for (unsigned i = 0; i < EVP_SEED_LEN; i++)
			file.seed[i] ^= MASK;
		_exit(write(ends[1], file.seed, EVP_SEED_LEN) != EVP_SEED_LEN);
	}
	close(ends[1]);
	assert_int_equal(read(ends[0], masked, EVP_SEED_LEN), EVP_SEED_LEN);
	close(ends[0]);
	assert_int_equal(waitpid(reader, NULL, 0), reader);
}

static void test_parent_never_has_the_seed(void **state)
{
	const char *path = key_file("secret");
	struct sosie_signer *s = opened(path), *here;
	uint8_t masked[EVP_SEED_LEN], seed[EVP_SEED_LEN];
	uint64_t bytes;

	(void)state;
	masked_seed(path, masked);
	signs(s);
	kill(counters(s).child, SIGKILL);
	signs(s);
	assert_false(memory_holds(masked, &bytes));
	assert_true(bytes > 100000);
	/* That it would be found: a signer in this process. */
	for (unsigned i = 0; i < EVP_SEED_LEN; i++)
		seed[i] = masked[i] ^ MASK;
	OK(sosie_signer_seed(seed, &here, &err));
	explicit_bzero(seed, sizeof(seed));
	assert_true(sosie_public_equal(sosie_signer_public(s), sosie_signer_public(here)));
	assert_true(memory_holds(masked, &bytes));
	sosie_signer_close(here);
	sosie_signer_close(s);
}

/* --- opening what is no key
 * ---------------------------------------------------------------------------------------- */

static void test_open_what_cannot_sign_is_told(void **state)
{
	struct sosie_signer *s = (struct sosie_signer *)dir;
	const char *path;

	(void)state;
	REFUSED(SOSIE_ENOTFOUND, sosie_signer_open(in_dir("none"), &s, &err));
	assert_null(s);
	assert_string_equal(err.where, in_dir("none"));
	path = key_file("mode");
	assert_int_equal(chmod(path, 0644), 0);
	REFUSED(SOSIE_EDENIED, sosie_signer_open(path, &s, &err));
	SAYS("chmod 600");
	save("garbage", "garbage\n", 8);
	REFUSED(SOSIE_ECONFIG, sosie_signer_open(in_dir("garbage"), &s, &err));
	save("pem", "-----BEGIN PRIVATE KEY-----\n", 28);
	REFUSED(SOSIE_EUNSUPPORTED, sosie_signer_open(in_dir("pem"), &s, &err));
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* nobody is left */
}

/* --- agents
 * -------------------------------------------------------------------------------------------------------- */

static void agent_start(void)
{
	char text[64];

	need("ssh-agent");
	need("ssh-add");
	assert_int_equal(
	        run("rm -f agent && eval $(ssh-agent -a $PWD/agent) >/dev/null && echo $SSH_AGENT_PID "
	            ">agent.pid"),
	        0);
	load("agent.pid", text, sizeof(text));
	agent_pid = (pid_t)atoi(text);
	assert_true(agent_pid > 1);
	setenv("SSH_AUTH_SOCK", in_dir("agent"), 1);
}

static void agent_end(void)
{
	kill(agent_pid, SIGTERM);
	agent_pid = 0;
	unsetenv("SSH_AUTH_SOCK");
}

static void test_open_public_half_without_agent_is_refused(void **state)
{
	struct sosie_signer *s;

	(void)state;
	key_file("p");
	unsetenv("SSH_AUTH_SOCK");
	REFUSED(SOSIE_EAUTH, sosie_signer_open(in_dir("p.pub"), &s, &err));
	SAYS("SSH_AUTH_SOCK");
	SAYS("ssh-add");
	setenv("SSH_AUTH_SOCK", in_dir("nobody"), 1);
	REFUSED(SOSIE_EAUTH, sosie_signer_open(in_dir("p.pub"), &s, &err));
	unsetenv("SSH_AUTH_SOCK");
	need("ssh-keygen");
	assert_int_equal(run("ssh-keygen -q -p -P '' -N secret -f p >/dev/null"), 0);
	REFUSED(SOSIE_EAUTH, sosie_signer_open(in_dir("p"), &s, &err));
}

static void test_signer_of_agent_signs_until_it_lacks_the_key(void **state)
{
	struct sosie_signer *by_public, *by_locked;

	(void)state;
	key_file("q");
	agent_start();
	REFUSED(SOSIE_EAUTH, sosie_signer_open(in_dir("q.pub"), &by_public, &err));
	SAYS("ssh-add");
	assert_int_equal(run("ssh-add -q q && ssh-keygen -q -p -P '' -N secret -f q >/dev/null"), 0);
	by_public = opened(in_dir("q.pub"));
	by_locked = opened(in_dir("q"));
	assert_true(sosie_public_equal(sosie_signer_public(by_public), sosie_signer_public(by_locked)));
	signs(by_public);
	signs(by_locked);
	assert_int_equal(counters(by_public).started, 0);
	assert_int_equal(run("ssh-add -q -D 2>/dev/null"), 0);
	REFUSED(SOSIE_EAUTH, sign_fails(by_public));
	SAYS("ssh-add");
	agent_end();
	REFUSED(SOSIE_EAUTH, sign_fails(by_public));
	sosie_signer_close(by_public);
	sosie_signer_close(by_locked);
}

static int listening(const char *name)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(address.sun_path, in_dir(name));
	assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fd, 4), 0);
	setenv("SSH_AUTH_SOCK", in_dir(name), 1);
	return fd;
}

static void test_agent_that_hangs_times_out(void **state)
{
	struct sosie_signer *s;
	int fd = listening("hang");

	(void)state;
	key_file("r");
	REFUSED(SOSIE_ETIMEOUT, sosie_signer_open(in_dir("r.pub"), &s, &err));
	unsetenv("SSH_AUTH_SOCK");
	close(fd);
}

/* Answers each request with these bytes. */
struct liar {
	int fd;
	const uint8_t *bytes;
	size_t len;
};

static void *lie(void *arg)
{
	const struct liar *l = arg;
	uint8_t request[1024];

	int fd = accept(l->fd, NULL, NULL);

	if (read(fd, request, sizeof(request)) <= 0 || write(fd, l->bytes, l->len) != (ssize_t)l->len)
		fprintf(stderr, "the agent of this test was not asked\n");
	close(fd);
	return NULL;
}

static void test_agent_that_lies_is_found_out(void **state)
{
	uint8_t good_form[4 + 1 + 4 + 4 + 11 + 4 + 64] = {0, 0, 0, 88, 14, 0, 0, 0, 83, 0, 0, 0, 11};
	static const uint8_t refusal[] = {0, 0, 0, 1, 5}, huge[] = {0xff, 0xff, 0xff, 0xff, 14},
	                     lies[] = {0, 0, 0, 9, 14, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0},
	                     empty[] = {0, 0, 0, 0}, short_one[] = {0, 0, 0,   17, 14, 0, 0, 0,   12,  0,  0,
	                                                            0, 1, 'x', 0,  0,  0, 3, 'a', 'b', 'c'};
	const struct liar liars[] = {{.bytes = good_form, .len = sizeof(good_form)},
	                             {.bytes = refusal, .len = sizeof(refusal)},
	                             {.bytes = huge, .len = sizeof(huge)},
	                             {.bytes = lies, .len = sizeof(lies)},
	                             {.bytes = empty, .len = sizeof(empty)},
	                             {.bytes = short_one, .len = sizeof(short_one)}};
	struct sosie_signer *s;
	int fd = listening("liar");

	(void)state;
	memcpy(good_form + 13, "ssh-ed25519", 11);
	good_form[27] = 64;
	key_file("s");
	for (size_t i = 0; i < sizeof(liars) / sizeof(liars[0]); i++) {
		struct liar l = liars[i];
		pthread_t thread;

		l.fd = fd;
		assert_int_equal(pthread_create(&thread, NULL, lie, &l), 0);
		REFUSED(SOSIE_EAUTH, sosie_signer_open(in_dir("s.pub"), &s, &err));
		if (i == 0)
			SAYS("no signature of its key");
		pthread_join(thread, NULL);
	}
	unsetenv("SSH_AUTH_SOCK");
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        /* First: while libcrypto has no signature's method at hand yet in this process. */
	        cmocka_unit_test(test_signer_opens_beside_busy_threads),
	        cmocka_unit_test(test_signer_of_file_signs_and_is_reaped),
	        cmocka_unit_test(test_signer_killed_next_call_works),
	        cmocka_unit_test(test_signer_that_hangs_is_replaced),
	        cmocka_unit_test(test_signer_killed_and_file_another_is_refused),
	        cmocka_unit_test(test_signer_goes_on_after_signals_to_the_group),
	        cmocka_unit_test(test_signer_outlives_the_thread_that_opened_it),
	        cmocka_unit_test(test_signer_ends_with_its_process),
	        cmocka_unit_test(test_signer_is_used_by_many_threads),
	        cmocka_unit_test(test_child_signs_for_our_namespaces_only),
	        cmocka_unit_test(test_child_ends_at_a_message_of_other_length),
	        cmocka_unit_test(test_child_is_confined),
	        cmocka_unit_test(test_parent_never_has_the_seed),
	        cmocka_unit_test(test_open_what_cannot_sign_is_told),
	        cmocka_unit_test(test_open_public_half_without_agent_is_refused),
	        cmocka_unit_test(test_signer_of_agent_signs_until_it_lacks_the_key),
	        cmocka_unit_test(test_agent_that_hangs_times_out),
	        cmocka_unit_test(test_agent_that_lies_is_found_out),
	};
	return cmocka_run_group_tests(tests, lab_open, teardown);
}

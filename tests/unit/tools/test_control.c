/* SPDX-License-Identifier: MIT */
/* The daemon's socket and lock, and what systemd is told. Includes tools/sosied/control.c and
 * tools/common/notify.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sys/socket.h>

static int refusing_accept(int fd, struct sockaddr *at, socklen_t *len, int flags);
#define accept4 refusing_accept
#include "tools/sosied/control.c"
#undef accept4
#include "tools/common/notify.c"

static char folder[] = "/tmp/sosie-control-XXXXXX", state_path[64];

#define REFUSALS 4
static unsigned refusals; /* of the accept that runs out of descriptors; atomic: how often it is to come */
static int64_t refused_ms[REFUSALS];

static int refusing_accept(int fd, struct sockaddr *at, socklen_t *len, int flags)
{
	unsigned left = __atomic_load_n(&refusals, __ATOMIC_ACQUIRE);

	if (left == 0)
		return accept4(fd, at, len, flags);
	refused_ms[left - 1] = sosie_mono_ms(sosie_clock_real());
	__atomic_store_n(&refusals, left - 1, __ATOMIC_RELEASE);
	errno = EMFILE;
	return -1;
}

static int cannot_say(void *arg, char **text, size_t *len, struct sosie_err *err)
{
	(void)arg;
	(void)text;
	(void)len;
	sosie_err_set(err, SOSIE_EIO, "the moon is \"down\"");
	sosie_err_where(err, "/moon");
	return sosie_err_action(err, "wait");
}

static int say(void *arg, char **text, size_t *len, struct sosie_err *err)
{
	(void)err;
	*text = malloc(300000); /* more than a socket takes at once */
	memset(*text, *(const char *)arg, 300000);
	*len = 300000;
	return 0;
}

static int dial(void)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(to.sun_path, sizeof(to.sun_path), "%.60s/control.sock", state_path);
	assert_int_equal(connect(fd, (const struct sockaddr *)(const void *)&to, sizeof(to)), 0);
	return fd;
}

static size_t read_all(int fd)
{
	char data[4096];
	size_t total = 0;
	ssize_t n;

	while ((n = recv(fd, data, sizeof(data), 0)) > 0)
		total += (size_t)n;
	close(fd);
	return total;
}

static void test_control_status_is_answered_beside_silent_clients(void **state)
{
	char x = 'x';
	struct control *c;
	struct sosie_err err;
	int silent[4], asking;

	(void)state;
	assert_int_equal(control_lock(state_path, &c, &err), 0);
	assert_int_equal(control_listen(c, say, &x, &err), 0);
	for (size_t i = 0; i < 4; i++)
		silent[i] = dial();
	asking = dial();
	assert_int_equal(send(asking, "sta", 3, 0), 3); /* in two pieces */
	assert_int_equal(send(asking, "tus\n", 4, 0), 4);
	assert_int_equal(read_all(asking), 300000);
	asking = dial();
	assert_int_equal(send(asking, "drop\n", 5, 0), 5);
	assert_true(read_all(asking) > 0);
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(read_all(silent[i]), 0); /* their deadline ends them */
	control_close(c);
}

static void ask(int fd, const char *question)
{
	assert_int_equal(send(fd, question, strlen(question), 0), strlen(question));
}

/* More clients than slots: who comes later waits until one is free, and is answered. */
static void test_control_more_clients_than_slots_wait_their_turn(void **state)
{
	char x = 'x';
	struct control *c;
	struct sosie_err err;
	int silent[CLIENTS], asking[3];

	(void)state;
	assert_int_equal(control_lock(state_path, &c, &err), 0);
	assert_int_equal(control_listen(c, say, &x, &err), 0);
	for (size_t i = 0; i < CLIENTS; i++)
		silent[i] = dial();
	for (size_t i = 0; i < 3; i++) {
		asking[i] = dial();
		ask(asking[i], "status\n");
	}
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(read_all(asking[i]), 300000);
	for (size_t i = 0; i < CLIENTS; i++)
		assert_int_equal(read_all(silent[i]), 0);
	control_close(c);
}

/* No descriptor is left for a client: it is tried again now and then, not without end. */
static void test_control_accept_fails_rests_and_goes_on(void **state)
{
	char x = 'x';
	struct control *c;
	struct sosie_err err;
	int asking;

	(void)state;
	assert_int_equal(control_lock(state_path, &c, &err), 0);
	assert_int_equal(control_listen(c, say, &x, &err), 0);
	__atomic_store_n(&refusals, REFUSALS, __ATOMIC_RELEASE);
	asking = dial();
	ask(asking, "status\n");
	assert_int_equal(read_all(asking), 300000);
	assert_int_equal(__atomic_load_n(&refusals, __ATOMIC_ACQUIRE), 0);
	for (size_t i = REFUSALS - 1; i > 0; i--) /* the last is at 0 */
		assert_true(refused_ms[i - 1] - refused_ms[i] >= TICK_MS - 1);
	control_close(c);
}

static void tells(const char *question, const char *code, const char *what, const char *where)
{
	struct sosie_json *doc, *e;
	const char *text;
	char answer[2000];
	size_t len = 0;
	ssize_t n;
	int fd = dial();

	ask(fd, question);
	while ((n = recv(fd, answer + len, sizeof(answer) - len, 0)) > 0)
		len += (size_t)n;
	close(fd);
	assert_int_equal(sosie_json_parse(answer, len, sizeof(answer), &doc, NULL), 0);
	assert_int_equal(sosie_json_obj(doc, "error", &e, NULL), 0);
	assert_int_equal(sosie_json_str(e, "code", 100, &text, NULL), 0);
	assert_string_equal(text, code);
	assert_int_equal(sosie_json_str(e, "what", 600, &text, NULL), 0);
	assert_non_null(strstr(text, what));
	assert_int_equal(sosie_json_str(e, "where", 600, &text, NULL), 0);
	assert_string_equal(text, where);
	sosie_json_free(doc);
}

static void test_control_failure_is_told_as_it_is(void **state)
{
	struct control *c;
	struct sosie_err err;

	(void)state;
	assert_int_equal(control_lock(state_path, &c, &err), 0);
	assert_int_equal(control_listen(c, cannot_say, NULL, &err), 0);
	tells("status\n", "io", "the moon is \"down\"", "/moon");
	tells("drop\n", "usage", "not understood", "");
	control_close(c);
}

static void test_control_second_daemon_is_refused_until_the_first_ends(void **state)
{
	struct control *first, *second;
	struct sosie_err err;
	char wanted[64];

	(void)state;
	assert_int_equal(control_lock(state_path, &first, &err), 0);
	assert_int_equal(control_lock(state_path, &second, &err), -SOSIE_EBUSY);
	snprintf(wanted, sizeof(wanted), "process %ld", (long)getpid());
	assert_non_null(strstr(err.what, wanted));
	control_close(first);
	assert_int_equal(control_lock(state_path, &second, &err), 0);
	control_close(second);
}

static void test_control_stale_socket_is_replaced(void **state)
{
	char x = 'x', path[128];
	struct control *c;
	struct sosie_err err;
	struct stat st;
	FILE *f;

	(void)state;
	snprintf(path, sizeof(path), "%s/control.sock", state_path);
	f = fopen(path, "we");
	assert_non_null(f);
	fclose(f);
	assert_int_equal(control_lock(state_path, &c, &err), 0);
	assert_int_equal(control_listen(c, say, &x, &err), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_true(S_ISSOCK(st.st_mode));
	assert_int_equal(st.st_mode & 0777, 0600);
	control_close(c);
	assert_int_not_equal(stat(path, &st), 0);
}

static void test_control_long_path_is_told(void **state)
{
	char path[200];
	struct control *c;
	struct sosie_err err;

	(void)state;
	memset(path, 'a', sizeof(path));
	path[0] = '/';
	path[sizeof(path) - 1] = '\0';
	assert_int_equal(control_lock(path, &c, &err), -SOSIE_ECONFIG);
	assert_null(c);
}

static void receives(int fd, const char *wanted)
{
	char text[200] = "";
	ssize_t n = recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT);

	assert_true(n > 0);
	assert_memory_equal(text, wanted, strlen(wanted));
}

static void test_notify_path_and_abstract_name_get_the_words(void **state)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	char name[100];
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	(void)state;
	snprintf(at.sun_path, sizeof(at.sun_path), "%.40s/notify", folder);
	assert_int_equal(bind(fd, (const struct sockaddr *)(const void *)&at, sizeof(at)), 0);
	setenv("NOTIFY_SOCKET", at.sun_path, 1);
	notify("READY=1\nSTATUS=x");
	receives(fd, "READY=1\nSTATUS=x");
	notify_reloading();
	receives(fd, "RELOADING=1\nMONOTONIC_USEC=");
	close(fd);
	unlink(at.sun_path);
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	snprintf(name, sizeof(name), "@sosie-test-%ld", (long)getpid());
	memset(at.sun_path, 0, sizeof(at.sun_path));
	memcpy(at.sun_path + 1, name + 1, strlen(name) - 1);
	assert_int_equal(bind(fd, (const struct sockaddr *)(const void *)&at,
	                      (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name))),
	                 0);
	setenv("NOTIFY_SOCKET", name, 1);
	notify("WATCHDOG=1");
	receives(fd, "WATCHDOG=1");
	close(fd);
	unsetenv("NOTIFY_SOCKET");
	notify("READY=1"); /* nobody to tell */
}

static void test_notify_watchdog_is_a_third_and_only_ours(void **state)
{
	char pid[32];

	(void)state;
	unsetenv("WATCHDOG_USEC");
	assert_int_equal(notify_watchdog_ms(), 0);
	setenv("WATCHDOG_USEC", "60000000", 1);
	assert_int_equal(notify_watchdog_ms(), 20001);
	setenv("WATCHDOG_PID", "1", 1);
	assert_int_equal(notify_watchdog_ms(), 0);
	snprintf(pid, sizeof(pid), "%ld", (long)getpid());
	setenv("WATCHDOG_PID", pid, 1);
	assert_int_equal(notify_watchdog_ms(), 20001);
	setenv("WATCHDOG_USEC", "many", 1);
	assert_int_equal(notify_watchdog_ms(), 0);
}

static int make(void **state)
{
	(void)state;
	if (!mkdtemp(folder))
		return -1;
	snprintf(state_path, sizeof(state_path), "%s/a", folder);
	return 0;
}

static int take_away(void **state)
{
	char path[128];

	(void)state;
	snprintf(path, sizeof(path), "%s/lock", state_path);
	unlink(path);
	rmdir(state_path);
	return rmdir(folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_control_status_is_answered_beside_silent_clients),
	        cmocka_unit_test(test_control_more_clients_than_slots_wait_their_turn),
	        cmocka_unit_test(test_control_accept_fails_rests_and_goes_on),
	        cmocka_unit_test(test_control_failure_is_told_as_it_is),
	        cmocka_unit_test(test_control_second_daemon_is_refused_until_the_first_ends),
	        cmocka_unit_test(test_control_stale_socket_is_replaced),
	        cmocka_unit_test(test_control_long_path_is_told),
	        cmocka_unit_test(test_notify_path_and_abstract_name_get_the_words),
	        cmocka_unit_test(test_notify_watchdog_is_a_third_and_only_ours),
	};
	return cmocka_run_group_tests(tests, make, take_away);
}

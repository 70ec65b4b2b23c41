/* SPDX-License-Identifier: MIT */
/* The daemon's socket and lock, and what systemd is told. Links tools/sosied/{control,notify}.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tools/sosied/control.c"
#include "tools/common/notify.c"

static char folder[] = "/tmp/sosie-control-XXXXXX", state_path[64];

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
	assert_int_equal(read_all(asking), strlen("{\"error\":\"not understood\"}"));
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(read_all(silent[i]), 0); /* their deadline ends them */
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
	        cmocka_unit_test(test_control_second_daemon_is_refused_until_the_first_ends),
	        cmocka_unit_test(test_control_stale_socket_is_replaced),
	        cmocka_unit_test(test_control_long_path_is_told),
	        cmocka_unit_test(test_notify_path_and_abstract_name_get_the_words),
	        cmocka_unit_test(test_notify_watchdog_is_a_third_and_only_ours),
	};
	return cmocka_run_group_tests(tests, make, take_away);
}

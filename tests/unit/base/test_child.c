/* SPDX-License-Identifier: MIT */
/*
 * Disposable children that answer, and children that do all that one can do wrong: end, compute for ever, say
 * nothing, say something else, change what they have said. After each the object goes on with a new child and
 * owes nobody a descriptor or a zombie.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/base/check.h"

#include "sosie/child.h"
#include "sosie/sandbox.h"

#define MS INT64_C(1000000)
#define AREA 8192u

/* What the child of these tests is told to do, in word 0. */
enum deed {
	ADD,
	ABORT,
	EXIT,
	SPIN,
	STAND,
	OTHER_NUMBER,
	SHORT,
	LONG,
	EMPTY,
	TWICE,
	ANSWER_AND_DIE,
	OPEN_FILE,
	SCRIBBLE,
	LISTEN, /* to all signals from now on */
};

static void answer_wrongly(int socket, volatile uint8_t *area, struct sosie_child_message m)
{
	const uint8_t longer[sizeof(m) + 1] = {0};
	ssize_t said = 1;

	switch ((enum deed)m.word[0]) {
	case OTHER_NUMBER:
		m.number++;
		said = write(socket, &m, sizeof(m));
		break;
	case SHORT:
		said = write(socket, &m, sizeof(m) - 1);
		break;
	case LONG:
		said = write(socket, longer, sizeof(longer));
		break;
	case EMPTY:
		said = write(socket, &m, 0) + 1;
		break;
	case TWICE:
		said = write(socket, &m, sizeof(m)) + write(socket, &m, sizeof(m));
		break;
	case ANSWER_AND_DIE:
		said = write(socket, &m, sizeof(m));
		_exit(0);
	case SCRIBBLE:
		said = write(socket, &m, sizeof(m));
		for (;;)
			area[0]++;
	default:
		break;
	}
	if (said <= 0)
		_exit(9);
}

static void act(int socket, volatile uint8_t *area, const struct sosie_child_message *m)
{
	volatile unsigned counter = 0;
	sigset_t none;
	char more;

	switch ((enum deed)m->word[0]) {
	case ABORT:
		abort();
	case EXIT:
		_exit(3);
	case SPIN:
		for (;;)
			counter++;
	case STAND:
		for (;;)
			(void)!read(socket, &more, sizeof(more));
	case LISTEN:
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		(void)!write(socket, m, sizeof(*m));
		break;
	case OPEN_FILE:
		_exit(open("/etc/passwd", O_RDONLY) < 0 ? 4 : 0);
	default:
		answer_wrongly(socket, area, *m);
	}
}

static void run(int socket, void *shared)
{
	volatile uint8_t *area = shared;
	struct sosie_child_message m = {0};

	while (write(socket, &m, sizeof(m)) == (ssize_t)sizeof(m)) {
		for (;;) {
			if (read(socket, &m, sizeof(m)) != (ssize_t)sizeof(m))
				return;
			if (m.word[0] == ADD)
				break;
			act(socket, area, &m);
		}
		area[2] = (uint8_t)(area[0] + area[1]);
	}
}

static void run_nothing(int socket, void *area)
{
	(void)socket;
	(void)area;
}

static void run_wrong_start(int socket, void *area)
{
	struct sosie_child_message m = {.number = 7};

	(void)area;
	(void)!write(socket, &m, sizeof(m));
	(void)!read(socket, &m, sizeof(m));
}

#define KIND(function)                                                                                       \
	{                                                                                                    \
		.name = "test", .area_bytes = AREA, .memory_bytes = 16u << 20, .wall_ns = 10000 * MS,        \
		.cpu_ns = 5000 * MS, .run = (function)                                                       \
	}
static const struct sosie_child_kind patient = KIND(run);
static const struct sosie_child_kind hasty_wall = {.name = "test",
                                                   .area_bytes = AREA,
                                                   .memory_bytes = 16u << 20,
                                                   .wall_ns = 100 * MS,
                                                   .cpu_ns = 60000 * MS,
                                                   .run = run};
static const struct sosie_child_kind hasty_cpu = {.name = "test",
                                                  .area_bytes = AREA,
                                                  .memory_bytes = 16u << 20,
                                                  .wall_ns = 60000 * MS,
                                                  .cpu_ns = 50 * MS,
                                                  .run = run};
static const struct sosie_child_kind silent_start = KIND(run_nothing);
static const struct sosie_child_kind wrong_start = KIND(run_wrong_start);
static const struct sosie_child_kind impossible = {.name = "test",
                                                   .area_bytes = SIZE_MAX / 4,
                                                   .memory_bytes = 16u << 20,
                                                   .wall_ns = 100 * MS,
                                                   .cpu_ns = 100 * MS,
                                                   .run = run};

static struct sosie_child *make(const struct sosie_child_kind *kind)
{
	struct sosie_child *c;
	struct sosie_err err;

	assert_int_equal(sosie_child_new(kind, &c, &err), 0);
	return c;
}

static enum sosie_child_result ask(struct sosie_child *c, enum deed deed)
{
	struct sosie_child_message m = {.word = {deed}};

	return sosie_child_ask(c, &m);
}

static void assert_adds(struct sosie_child *c)
{
	uint8_t *area = sosie_child_area(c), sum = 0;

	assert_non_null(area);
	area[0] = 40;
	area[1] = 2;
	assert_int_equal(ask(c, ADD), SOSIE_CHILD_ANSWERED);
	sosie_child_take(c, 2, &sum, 1);
	assert_int_equal(sum, 42);
}

static unsigned descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned count = 0;

	assert_non_null(dir);
	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

static void assert_no_child(void)
{
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
}

static void test_child_answers_many_questions_and_leaves_nothing(void **state)
{
	unsigned before = descriptors();
	struct sosie_child *c = make(&patient);

	(void)state;
	assert_int_equal(descriptors(), before);
	for (unsigned i = 0; i < 1000; i++)
		assert_adds(c);
	assert_int_equal(sosie_child_started(c), 1);
	assert_true(sosie_child_cpu_ns(c) > 0);
	sosie_child_idle(c);
	assert_int_equal(descriptors(), before);
	assert_no_child();
	assert_adds(c);
	assert_int_equal(sosie_child_started(c), 2);
	sosie_child_free(c);
	sosie_child_free(NULL);
	assert_int_equal(descriptors(), before);
	assert_no_child();
}

static void test_child_that_goes_wrong_is_told_apart_and_replaced(void **state)
{
	static const struct {
		enum deed deed;
		enum sosie_child_result result;
	} deeds[] = {
	        {ABORT, SOSIE_CHILD_DIED},
	        {EXIT, SOSIE_CHILD_DIED},
	        {OTHER_NUMBER, SOSIE_CHILD_NONSENSE},
	        {SHORT, SOSIE_CHILD_NONSENSE},
	        {LONG, SOSIE_CHILD_NONSENSE},
	        {EMPTY, SOSIE_CHILD_NONSENSE},
	};
	struct sosie_child *c = make(&patient);
	unsigned checked = 0;

	(void)state;
	for (unsigned i = 0; i < sizeof(deeds) / sizeof(*deeds); i++, checked++) {
		char why[96];

		assert_adds(c);
		assert_int_equal(ask(c, deeds[i].deed), deeds[i].result);
		assert_int_equal(sosie_child_pid(c), 0);
		assert_no_child();
		assert_true(strlen(sosie_child_text(c, deeds[i].result, why, sizeof(why))) > 5);
		assert_adds(c);
	}
	assert_int_equal(sosie_child_started(c), checked + 1);
	sosie_child_free(c);
}

static void test_child_that_ends_by_a_signal_tells_which(void **state)
{
	struct sosie_child *c = make(&patient);
	char why[96];

	(void)state;
	assert_int_equal(ask(c, ABORT), SOSIE_CHILD_DIED);
	assert_string_equal(sosie_child_text(c, SOSIE_CHILD_DIED, why, sizeof(why)), "ended by signal 6");
	sosie_child_free(c);
}

/* The second answer of one question is no answer to the next. */
static void test_child_that_answers_twice_is_caught_at_the_next_question(void **state)
{
	struct sosie_child *c = make(&patient);

	(void)state;
	assert_int_equal(ask(c, TWICE), SOSIE_CHILD_ANSWERED);
	assert_int_equal(ask(c, ADD), SOSIE_CHILD_NONSENSE);
	assert_adds(c);
	sosie_child_free(c);
}

static void test_child_that_dies_behind_its_answer_is_replaced(void **state)
{
	struct sosie_child *c = make(&patient);
	siginfo_t info;

	(void)state;
	assert_int_equal(ask(c, ANSWER_AND_DIE), SOSIE_CHILD_ANSWERED);
	assert_int_equal(waitid(P_PID, (id_t)sosie_child_pid(c), &info, WEXITED | WNOWAIT), 0);
	assert_int_equal(ask(c, ADD), SOSIE_CHILD_DIED); /* would be SIGPIPE */
	assert_adds(c);
	sosie_child_free(c);
}

static void test_child_that_computes_for_ever_ends_at_its_time(void **state)
{
	struct sosie_child *c = make(&hasty_cpu);

	(void)state;
	assert_adds(c);
	assert_int_equal(ask(c, SPIN), SOSIE_CHILD_BUSY);
	assert_no_child();
	assert_true(sosie_child_cpu_ns(c) >= 50 * MS); /* those that ended count */
	assert_adds(c);
	sosie_child_free(c);
}

static void test_child_that_says_nothing_ends_at_the_wall_limit(void **state)
{
	struct sosie_child *c = make(&hasty_wall);

	(void)state;
	assert_adds(c);
	assert_int_equal(ask(c, STAND), SOSIE_CHILD_SILENT);
	assert_no_child();
	assert_adds(c);
	sosie_child_free(c);
}

static void test_child_killed_by_another_is_told_apart(void **state)
{
	struct sosie_child *c = make(&patient);
	siginfo_t info;
	pid_t child;

	(void)state;
	assert_adds(c);
	child = sosie_child_pid(c);
	assert_int_equal(kill(child, SIGKILL), 0);
	assert_int_equal(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT), 0);
	assert_int_equal(ask(c, ADD), SOSIE_CHILD_KILLED);
	assert_adds(c);
	sosie_child_free(c);
}

static const int stops[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGALRM, SIGPIPE};
#define STOPS (sizeof(stops) / sizeof(*stops))

/* "systemctl stop" and ^C reach all of a service: what its children were doing is finished. */
static void test_child_goes_on_when_its_service_is_told_to_stop(void **state)
{
	struct sosie_child *c = make(&patient);

	(void)state;
	assert_adds(c);
	for (unsigned i = 0; i < STOPS; i++) {
		assert_int_equal(kill(sosie_child_pid(c), stops[i]), 0);
		assert_adds(c);
	}
	assert_int_equal(sosie_child_started(c), 1);
	sosie_child_free(c);
}

/* They are no word about what it computed over. */
static void test_child_ended_by_such_a_signal_was_killed(void **state)
{
	struct sosie_child *c = make(&patient);
	siginfo_t info;

	(void)state;
	for (unsigned i = 0; i < STOPS; i++) {
		assert_int_equal(ask(c, LISTEN), SOSIE_CHILD_ANSWERED);
		assert_int_equal(kill(sosie_child_pid(c), stops[i]), 0);
		assert_int_equal(waitid(P_PID, (id_t)sosie_child_pid(c), &info, WEXITED | WNOWAIT), 0);
		assert_int_equal(ask(c, ADD), SOSIE_CHILD_KILLED);
	}
	assert_int_equal(sosie_child_started(c), STOPS);
	sosie_child_free(c);
}

struct asking {
	struct sosie_child *child;
	enum sosie_child_result result;
};

static void *ask_in_thread(void *arg)
{
	struct asking *a = arg;

	a->result = ask(a->child, STAND);
	return NULL;
}

/* In the middle of a question: it has been read when the child waits for the next. */
static void test_child_killed_while_it_works_is_told_apart(void **state)
{
	struct asking a = {.child = make(&patient)};
	pthread_t thread;
	pid_t child;

	(void)state;
	assert_adds(a.child);
	child = sosie_child_pid(a.child);
	assert_int_equal(pthread_create(&thread, NULL, ask_in_thread, &a), 0);
	assert_int_equal(kill(child, SIGKILL), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(a.result, SOSIE_CHILD_KILLED);
	sosie_child_free(a.child);
}

static void *start_in_thread(void *arg)
{
	assert_adds(arg);
	return NULL;
}

/* It ends with the thread that forked it. */
static void test_child_of_a_thread_that_ended_costs_a_start(void **state)
{
	struct sosie_child *c = make(&patient);
	pthread_t thread;
	siginfo_t info;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, start_in_thread, c), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(waitid(P_PID, (id_t)sosie_child_pid(c), &info, WEXITED | WNOWAIT), 0);
	assert_int_equal(ask(c, ADD), SOSIE_CHILD_KILLED);
	assert_adds(c);
	assert_int_equal(sosie_child_started(c), 2);
	sosie_child_free(c);
}

static void test_child_that_cannot_start_is_none(void **state)
{
	const struct sosie_child_kind *const kinds[] = {&silent_start, &wrong_start, &impossible};
	unsigned before = descriptors();

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		struct sosie_child *c = make(kinds[i]);

		assert_int_equal(ask(c, ADD), SOSIE_CHILD_NONE);
		assert_int_equal(ask(c, ADD), SOSIE_CHILD_NONE);
		assert_int_equal(sosie_child_pid(c), 0);
		sosie_child_free(c);
	}
	assert_no_child();
	assert_int_equal(descriptors(), before);
}

static void test_child_that_opens_a_file_does_not_get_it(void **state)
{
	struct sosie_child *c = make(&patient);
	char why[96];

	(void)state;
	assert_int_equal(ask(c, OPEN_FILE), SOSIE_CHILD_DIED);
	sosie_child_text(c, SOSIE_CHILD_DIED, why, sizeof(why));
	if (sosie_sandbox_layers() & SOSIE_SANDBOX_SYSCALLS)
		assert_string_equal(why, "ended by signal 31"); /* SIGSYS */
	sosie_child_free(c);
}

/* The area goes on changing under the parent: what was taken does not. */
static void test_child_that_changes_what_it_said_does_not_change_the_copy(void **state)
{
	struct sosie_child *c = make(&patient);
	volatile uint8_t *area = sosie_child_area(c);
	uint8_t taken[AREA], again[AREA];
	unsigned changed = 0;

	(void)state;
	assert_int_equal(ask(c, SCRIBBLE), SOSIE_CHILD_ANSWERED);
	while (changed < 100) {
		uint8_t first;

		sosie_child_take(c, 0, taken, AREA);
		memcpy(again, taken, AREA);
		for (first = taken[0]; area[0] == first;)
			;
		assert_memory_equal(again, taken, AREA);
		changed++;
	}
	sosie_child_free(c);
}

/* A child that could cut the area off would kill its parent. */
static void test_child_area_is_not_inherited_by_other_children(void **state)
{
	struct sosie_child *c = make(&patient);
	uint8_t *area = sosie_child_area(c);
	int status;
	pid_t pid;

	(void)state;
	area[0] = 1;
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(msync(area, AREA, MS_ASYNC) == 0 ? 1 : errno == ENOMEM ? 0 : 2); /* not mapped */
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	sosie_child_free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_child_answers_many_questions_and_leaves_nothing),
	        cmocka_unit_test(test_child_that_goes_wrong_is_told_apart_and_replaced),
	        cmocka_unit_test(test_child_that_ends_by_a_signal_tells_which),
	        cmocka_unit_test(test_child_that_answers_twice_is_caught_at_the_next_question),
	        cmocka_unit_test(test_child_that_dies_behind_its_answer_is_replaced),
	        cmocka_unit_test(test_child_that_computes_for_ever_ends_at_its_time),
	        cmocka_unit_test(test_child_that_says_nothing_ends_at_the_wall_limit),
	        cmocka_unit_test(test_child_killed_by_another_is_told_apart),
	        cmocka_unit_test(test_child_goes_on_when_its_service_is_told_to_stop),
	        cmocka_unit_test(test_child_ended_by_such_a_signal_was_killed),
	        cmocka_unit_test(test_child_killed_while_it_works_is_told_apart),
	        cmocka_unit_test(test_child_of_a_thread_that_ended_costs_a_start),
	        cmocka_unit_test(test_child_that_cannot_start_is_none),
	        cmocka_unit_test(test_child_that_opens_a_file_does_not_get_it),
	        cmocka_unit_test(test_child_that_changes_what_it_said_does_not_change_the_copy),
	        cmocka_unit_test(test_child_area_is_not_inherited_by_other_children),
	};

	return cmocka_run_group_tests_name("child", tests, NULL, NULL);
}

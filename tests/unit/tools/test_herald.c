/* SPDX-License-Identifier: MIT */
/* The keeper's herald: what is told, in whose turn, how often; with real programs where one runs. Includes
 * tools/sosie-keeper/herald.c. */
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

#include "tools/sosie-keeper/herald.c"

#define WAIT_MS 20000

static struct sosie_alarm alarm_of(uint64_t number, const char *tenant)
{
	struct sosie_alarm a = {.number = number,
	                        .kind = SOSIE_ALARM_REFUSED,
	                        .since_ms = 1790000000000,
	                        .seen_ms = 1790000000000};

	snprintf(a.tenant.s, sizeof(a.tenant.s), "%s", tenant);
	snprintf(a.text, sizeof(a.text), "text %llu", (unsigned long long)number);
	return a;
}

/* One without a thread. */
static struct herald *still(void)
{
	struct herald *h = calloc(1, sizeof(*h));

	assert_non_null(h);
	pthread_mutex_init(&h->lock, NULL);
	pthread_cond_init(&h->wake, NULL);
	h->repeat_ms = 1000;
	h->again_ms = 100;
	h->spacing_ms = 2000;
	return h;
}

/* What tell() does around the run. */
static uint64_t tell_at(struct herald *h, int64_t now, bool taken)
{
	int64_t until;
	struct told *t = pick(h, now, &until);

	if (!t)
		return 0;
	const uint64_t number = t->a.number;
	t->telling.begun = true;
	spacing_of(h, &t->a.tenant)->last_ms = now;
	if (sosie_telling_settle(&t->telling, t->a.closed_ms != 0, t->a.closed_ms != 0, taken, now,
	                         h->repeat_ms, h->again_ms))
		forget(find(h, number));
	return number;
}

static void test_herald_many_alarms_of_one_tenant_delay_no_other(void **state)
{
	struct herald *h = still();
	struct sosie_alarm list[102];
	int64_t until;

	(void)state;
	for (unsigned i = 0; i < 100; i++)
		list[i] = alarm_of(i + 1, "flood");
	list[100] = alarm_of(101, "acme");
	list[101] = alarm_of(102, "");
	herald_alarms(h, list, 102);
	bool acme = false, store = false;
	for (unsigned i = 0; i < 3; i++) {
		const uint64_t n = tell_at(h, 0, true);
		acme |= n == 101;
		store |= n == 102;
	}
	assert_true(acme && store);
	assert_int_equal(tell_at(h, 0, true), 0); /* the flood waits for its time */
	assert_null(pick(h, 0, &until));
	assert_int_equal(until, 1000); /* the store's own, again */
	assert_int_equal(tell_at(h, 1999, true), 102);
	assert_true(tell_at(h, 2000, true) < 101);
	herald_free(h);
}

static void test_herald_tenant_told_longest_ago_is_next(void **state)
{
	struct herald *h = still();
	const struct sosie_alarm list[] = {alarm_of(1, "a"), alarm_of(2, "b"), alarm_of(3, "c")};

	(void)state;
	herald_alarms(h, list, 3);
	spacing_of(h, &list[0].tenant)->last_ms = 20;
	spacing_of(h, &list[1].tenant)->last_ms = 30;
	spacing_of(h, &list[2].tenant)->last_ms = 10;
	assert_int_equal(tell_at(h, 5000, true), 3);
	assert_int_equal(tell_at(h, 5000, true), 1);
	assert_int_equal(tell_at(h, 5000, true), 2);
	herald_free(h);
}

static void test_herald_tells_again_while_open_and_once_when_closed(void **state)
{
	struct herald *h = still();
	struct sosie_alarm a = alarm_of(5, "");

	(void)state;
	herald_alarms(h, &a, 1);
	assert_int_equal(tell_at(h, 0, true), 5);
	assert_int_equal(tell_at(h, 999, true), 0);
	assert_int_equal(tell_at(h, 1000, false), 5); /* the program fails */
	assert_int_equal(tell_at(h, 1099, true), 0);
	assert_int_equal(tell_at(h, 1100, true), 5);
	a.closed_ms = 1790000001000;
	herald_alarms(h, &a, 1);
	assert_int_equal(tell_at(h, 1101, false), 5);
	assert_int_equal(tell_at(h, 1201, true), 5);
	assert_int_equal(tell_at(h, 100000, true), 0);
	herald_alarms(h, &a, 1); /* it stays in the history */
	assert_int_equal(tell_at(h, 200000, true), 0);
	assert_null(h->alarms);
	herald_free(h);
}

static void test_herald_alarm_closed_before_it_was_told_is_never_told(void **state)
{
	struct herald *h = still();
	struct sosie_alarm a = alarm_of(5, "acme");

	(void)state;
	herald_alarms(h, &a, 1);
	a.closed_ms = 1790000001000;
	herald_alarms(h, &a, 1);
	assert_int_equal(tell_at(h, 0, true), 0);
	assert_null(h->alarms);
	herald_free(h);
}

/* Pushed out of the history before this was looked at: it is closed all the same. */
static void test_herald_alarm_that_is_gone_counts_as_closed(void **state)
{
	struct herald *h = still();
	struct sosie_alarm a = alarm_of(5, "acme");

	(void)state;
	herald_alarms(h, &a, 1);
	assert_int_equal(tell_at(h, 0, true), 5);
	herald_alarms(h, NULL, 0);
	assert_true(h->alarms->a.closed_ms > 0);
	assert_int_equal(tell_at(h, 2000, true), 5);
	assert_null(h->alarms);
	herald_free(h);
}

/* --- with a program
 * ---------------------------------------------------------------------------------------------- */

struct place {
	char dir[64], program[128], told[128];
};

/* The program says that it began, runs a line, then writes down what it was told. */
static void place_make(struct place *p, const char *line)
{
	snprintf(p->dir, sizeof(p->dir), "/tmp/sosie-herald.XXXXXX");
	assert_non_null(mkdtemp(p->dir));
	snprintf(p->program, sizeof(p->program), "%s/program", p->dir);
	snprintf(p->told, sizeof(p->told), "%s/told", p->dir);
	FILE *f = fopen(p->program, "w");
	assert_non_null(f);
	fprintf(f, "#!/bin/sh\necho begun >>%s\n%s\ncat >>%s\necho >>%s\n", p->told, line, p->told, p->told);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(chmod(p->program, 0700), 0);
}

static void place_remove(struct place *p)
{
	unlink(p->program);
	unlink(p->told);
	rmdir(p->dir);
}

static void gets_told(const struct place *p, const char *text)
{
	const int64_t end = sosie_mono_ms(sosie_clock_real()) + WAIT_MS;
	char buffer[8192];

	for (;;) {
		FILE *f = fopen(p->told, "r");
		size_t n = f ? fread(buffer, 1, sizeof(buffer) - 1, f) : 0;
		if (f)
			fclose(f);
		buffer[n] = '\0';
		if (strstr(buffer, text))
			return;
		if (sosie_mono_ms(sosie_clock_real()) > end)
			fail_msg("not told: %s, but: %s", text, buffer);
		sosie_sleep_ms(sosie_clock_real(), 10);
	}
}

static void test_herald_program_gets_one_json_object(void **state)
{
	struct sosie_alarm a = alarm_of(17, "acme");
	struct sosie_err err;
	struct herald *h;
	struct place p = {.dir = ""};

	(void)state;
	place_make(&p, ":");
	assert_int_equal(herald_start(p.program, 3600000, &h, &err), 0);
	herald_alarms(h, &a, 1);
	gets_told(&p,
	          "{\"format\":1,\"id\":\"A17\",\"state\":\"open\",\"kind\":\"refused\",\"tenant\":\"acme\","
	          "\"group\":null,");
	gets_told(&p, "\"text\":\"text 17\",\"reason\":null}\n");
	herald_stop(h);
	place_remove(&p);
}

/* Its end does not wait for a program that hangs, and giving it alarms does not either. */
static void test_herald_program_hangs_nobody_waits(void **state)
{
	struct sosie_alarm a = alarm_of(1, "acme");
	struct sosie_err err;
	struct herald *h;
	struct place p = {.dir = ""};

	(void)state;
	place_make(&p, "sleep 1000");
	assert_int_equal(herald_start(p.program, 3600000, &h, &err), 0);
	herald_alarms(h, &a, 1);
	gets_told(&p, "begun");
	a.count = 2;
	herald_alarms(h, &a, 1);
	herald_stop(h);
	place_remove(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_herald_many_alarms_of_one_tenant_delay_no_other),
	        cmocka_unit_test(test_herald_tenant_told_longest_ago_is_next),
	        cmocka_unit_test(test_herald_tells_again_while_open_and_once_when_closed),
	        cmocka_unit_test(test_herald_alarm_closed_before_it_was_told_is_never_told),
	        cmocka_unit_test(test_herald_alarm_that_is_gone_counts_as_closed),
	        cmocka_unit_test(test_herald_program_gets_one_json_object),
	        cmocka_unit_test(test_herald_program_hangs_nobody_waits),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

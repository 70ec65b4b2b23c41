/* SPDX-License-Identifier: MIT */
/* Progress on a virtual clock: nothing for short work, one updating line on a terminal, a plain line every
 * ten seconds elsewhere. Links tools/common/progress.c. */
#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tools/common/progress.c"

struct shown {
	struct sosie_clock_virtual clock;
	struct progress p;
	FILE *out;
	char *text;
	size_t len;
};

static void start(struct shown *s, bool terminal)
{
	memset(s, 0, sizeof(*s));
	sosie_clock_virtual_init(&s->clock, 1000000, 1);
	s->out = open_memstream(&s->text, &s->len);
	assert_non_null(s->out);
	progress_init(&s->p, &s->clock.clock, s->out, terminal, false);
}

static void end(struct shown *s)
{
	fclose(s->out);
	free(s->text);
}

static unsigned count(const char *text, char c)
{
	unsigned n = 0;

	for (; *text; text++)
		n += *text == c;
	return n;
}

/* Work of ms milliseconds that reports every 10. */
static void work(struct shown *s, const char *step, unsigned ms)
{
	for (unsigned at = 0; at <= ms; at += 10, s->clock.now_ms += 10)
		sosie_progress(&s->p.report, step, (uint64_t)at << 20, (uint64_t)ms << 20);
	fflush(s->out);
}

static void test_progress_short_work_shows_nothing(void **state)
{
	struct shown s;

	(void)state;
	for (int terminal = 0; terminal < 2; terminal++) {
		start(&s, terminal);
		work(&s, "copying", 900);
		progress_clear(&s.p);
		fflush(s.out);
		assert_int_equal(s.len, 0);
		end(&s);
	}
}

static void test_progress_terminal_has_one_updating_line(void **state)
{
	struct shown s;

	(void)state;
	start(&s, true);
	work(&s, "copying", 3000);
	assert_int_equal(count(s.text, '\n'), 0);
	assert_in_range(count(s.text, '\r'), 8, 12);
	assert_non_null(strstr(s.text, "copying: "));
	assert_non_null(strstr(s.text, " %), "));
	assert_non_null(strstr(s.text, "/s, "));
	assert_non_null(strstr(s.text, " left"));
	progress_clear(&s.p);
	fflush(s.out);
	assert_int_equal(s.text[s.len - 1], '\r');
	end(&s);
}

static void test_progress_without_terminal_is_a_line_every_ten_seconds(void **state)
{
	struct shown s;

	(void)state;
	start(&s, false);
	work(&s, "reading", 35000);
	assert_int_equal(count(s.text, '\n'), 3);
	assert_int_equal(count(s.text, '\r'), 0);
	end(&s);
}

static void test_progress_many_short_steps_show_only_on_a_terminal(void **state)
{
	char step[16];
	struct shown s;

	(void)state;
	for (int terminal = 0; terminal < 2; terminal++) {
		start(&s, terminal);
		for (unsigned i = 0; i < 50; i++) {
			snprintf(step, sizeof(step), "volume-%u", i);
			work(&s, step, 400);
		}
		if (terminal)
			assert_in_range(count(s.text, '\r'), 50, 110);
		else
			assert_int_equal(s.len, 0);
		end(&s);
	}
}

static void test_progress_of_the_next_round_counts_from_its_own_start(void **state)
{
	struct shown s;

	(void)state;
	start(&s, false);
	s.clock.now_ms += 3600000; /* long idle before, and between: neither slows the rate down */
	work(&s, "reading", 9000);
	assert_int_equal(s.len, 0);
	s.clock.now_ms += 3600000;
	work(&s, "reading", 15000);
	assert_int_equal(count(s.text, '\n'), 1);
	assert_non_null(strstr(s.text, "1000 MiB/s, "));
	end(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_progress_short_work_shows_nothing),
	        cmocka_unit_test(test_progress_terminal_has_one_updating_line),
	        cmocka_unit_test(test_progress_without_terminal_is_a_line_every_ten_seconds),
	        cmocka_unit_test(test_progress_many_short_steps_show_only_on_a_terminal),
	        cmocka_unit_test(test_progress_of_the_next_round_counts_from_its_own_start),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

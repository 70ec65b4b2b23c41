/* SPDX-License-Identifier: MIT */
/* An error frame is the receiver's own word: it may say what happened to it, and nothing that the keeper or
 * the source decides. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "sosie/message.h"

struct liar {
	struct sosie_connector connector;
	struct sosie_channel *near, *far;
	struct sosie_err says;
	pthread_t thread;
};

static void *refuse(void *arg)
{
	struct liar *l = arg;
	const struct sosie_serve_options options = {
	        .clock = sosie_clock_real(), .software = "test", .hello_ms = 30000, .idle_ms = 300000};

	sosie_serve_refusal(l->far, &options, &l->says);
	sosie_channel_close(l->far);
	return NULL;
}

static int connect_liar(struct sosie_connector *c, struct sosie_channel **out, struct sosie_err *err)
{
	struct liar *l = (struct liar *)c;

	if (sosie_pair(1 << 16, &l->near, &l->far, err) != 0)
		return -(int)err->code;
	assert_int_equal(pthread_create(&l->thread, NULL, refuse, l), 0);
	*out = l->near;
	return 0;
}

/* What a source makes of it. */
static enum sosie_code heard(enum sosie_code code, struct sosie_err *err)
{
	struct liar l = {.connector = {.open = connect_liar}};
	struct sosie_session *s = NULL;
	int rc;

	sosie_err_set(&l.says, code, "stop this primary");
	rc = sosie_session_open(&l.connector, sosie_clock_real(), "test", &s, err);
	assert_true(rc < 0);
	assert_int_equal(rc, -(int)err->code);
	sosie_session_close(s);
	pthread_join(l.thread, NULL);
	return err->code;
}

static void test_receivers_word_about_itself_is_taken(void **state)
{
	static const enum sosie_code own[] = {SOSIE_ENOMEM, SOSIE_ETIMEOUT, SOSIE_EBUSY,     SOSIE_ENOSPACE,
	                                      SOSIE_EIO,    SOSIE_EPROTO,   SOSIE_ENOTFOUND, SOSIE_EAUTH,
	                                      SOSIE_EQUOTA, SOSIE_ENAME,    SOSIE_ENOTSTORE, SOSIE_ENEWER};
	struct sosie_err err;

	(void)state;
	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
		assert_int_equal(heard(own[i], &err), own[i]);
		assert_non_null(strstr(err.what, "stop this primary"));
	}
}

static void test_receivers_word_for_the_keeper_is_not_believed(void **state)
{
	static const enum sosie_code others[] = {
	        SOSIE_EFENCED,  SOSIE_EPARENT, SOSIE_ELOSS,   SOSIE_EREFUSED, SOSIE_EPENDING, SOSIE_ENOKEEPER,
	        SOSIE_EHOSTKEY, SOSIE_EVOLUME, SOSIE_ESHRUNK, SOSIE_ECONFIG,  SOSIE_ECONSENT, SOSIE_EUSAGE};
	struct sosie_err err;

	(void)state;
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		assert_int_equal(heard(others[i], &err), SOSIE_EPROTO);
		assert_non_null(strstr(err.what, "not its to say"));
		assert_non_null(strstr(err.what, sosie_code_name(others[i])));
	}
	/* It was told to end: that is not our end. */
	assert_int_equal(heard(SOSIE_EINTR, &err), SOSIE_EPEER);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_receivers_word_about_itself_is_taken),
	        cmocka_unit_test(test_receivers_word_for_the_keeper_is_not_believed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

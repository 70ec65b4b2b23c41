/* SPDX-License-Identifier: MIT */
/* The codec, the framing and the table of permitted types. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sosie/message.h"
#include "tests/support/sample_message.h"
#include "transport/verbs.h"

static size_t encode(const struct sosie_message *m, uint8_t *buf, size_t size)
{
	struct sosie_err err;
	size_t len;
	assert_int_equal(sosie_message_encode(m, buf, size, &len, &err), 0);
	return len;
}

static void test_message_each_type_round_trips(void **state)
{
	uint8_t one[4096], two[4096];
	unsigned checked = 0;
	(void)state;
	for (unsigned t = 1; t <= VERBS_TYPE_MAX; t++, checked++) {
		struct sosie_message m, back = {0};
		struct sosie_err err;
		sample_message((enum sosie_message_type)t, &m);
		size_t len = encode(&m, one, sizeof one);
		assert_int_equal(sosie_message_parse(m.type, one, len, &back, &err), 0);
		assert_int_equal(encode(&back, two, sizeof two), len);
		assert_memory_equal(one, two, len);
		sosie_message_fini(&back);
	}
	assert_int_equal(checked, 22);
}

static void test_message_every_other_length_is_refused(void **state)
{
	uint8_t buf[4096] = {0};
	unsigned refused = 0;
	(void)state;
	for (unsigned t = 1; t <= VERBS_TYPE_MAX; t++) {
		struct sosie_message m, back = {0};
		struct sosie_err err;
		sample_message((enum sosie_message_type)t, &m);
		size_t len = encode(&m, buf, sizeof buf);
		for (size_t n = 0; n <= len + 1; n++) {
			if (n == len || (t == SOSIE_MSG_DATA && n))
				continue;
			uint8_t *exact = malloc(n + 1); /* so that a sanitizer sees a read beyond */
			assert_non_null(exact);
			memcpy(exact + 1, buf, n);
			assert_int_equal(sosie_message_parse(m.type, exact + 1, n, &back, &err),
			                 -SOSIE_EPROTO);
			free(exact);
			refused++;
		}
	}
	print_message("%u lengths refused\n", refused);
	assert_true(refused > 400);
}

static void test_message_bad_name_is_told_as_name(void **state)
{
	static const char *const bad[] = {"", "../x", "_keys", "a/b", "-x", "a.b"};
	struct sosie_message m, back = {0};
	struct sosie_err err;
	uint8_t buf[256];
	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		sample_message(SOSIE_MSG_HEAD, &m);
		strcpy(m.head.group.s, bad[i]);
		size_t len = encode(&m, buf, sizeof buf);
		assert_int_equal(sosie_message_parse(SOSIE_MSG_HEAD, buf, len, &back, &err), -SOSIE_ENAME);
	}
}

static void test_message_limits_exceeded_are_not_encoded(void **state)
{
	struct sosie_message m;
	struct sosie_err err;
	size_t len, size = SOSIE_FRAME_MAX;
	uint8_t *buf = malloc(size), *big = calloc(1, SOSIE_DATA_MAX + 1);
	(void)state;
	sample_message(SOSIE_MSG_DATA, &m);
	m.data.bytes = big;
	m.data.len = SOSIE_DATA_MAX;
	assert_int_equal(sosie_message_encode(&m, buf, size, &len, &err), 0);
	m.data.len = SOSIE_DATA_MAX + 1;
	assert_int_equal(sosie_message_encode(&m, buf, size, &len, &err), -SOSIE_EINTERNAL);
	sample_message(SOSIE_MSG_SAME, &m);
	m.same.blob = big;
	m.same.len = SOSIE_SAME_MAX + 1;
	assert_int_equal(sosie_message_encode(&m, buf, size, &len, &err), -SOSIE_EINTERNAL);
	free(buf);
	free(big);
}

static void test_message_peer_text_is_escaped(void **state)
{
	struct sosie_message m, back = {0};
	struct sosie_err err;
	uint8_t buf[2048];
	(void)state;
	sample_message(SOSIE_MSG_ERROR, &m);
	strcpy(m.error.what, "x\033[2Jy\n");
	size_t len = encode(&m, buf, sizeof buf);
	assert_int_equal(sosie_message_parse(SOSIE_MSG_ERROR, buf, len, &back, &err), 0);
	assert_null(strchr(back.error.what, '\033'));
	assert_null(strchr(back.error.what, '\n'));
}

static void test_verbs_every_type_in_every_state_is_as_documented(void **state)
{
	static const uint8_t open[] = {3, 5, 7, 8, 13, 15, 17, 19, 20, 22}, part[] = {3, 10, 12, 20, 22};
	unsigned allowed = 0;
	(void)state;
	for (unsigned t = 0; t <= 40; t++) {
		enum sosie_message_type type = (enum sosie_message_type)t;
		assert_int_equal(verbs_allowed(SERVE_NEW, type), t == 1);
		assert_int_equal(verbs_allowed(SERVE_OPEN, type),
		                 t && memchr(open, (int)t, sizeof open) != NULL);
		assert_int_equal(verbs_allowed(SERVE_PART, type),
		                 t && memchr(part, (int)t, sizeof part) != NULL);
		assert_false(verbs_allowed(SERVE_END, type));
		for (unsigned s = 0; s < SERVE_STATES; s++)
			allowed += verbs_allowed((enum serve_state)s, type);
	}
	assert_int_equal(allowed, 16);
}

static int frame_judge(const uint8_t *bytes, size_t len, bool *got)
{
	struct sosie_channel *a, *b;
	struct sosie_wire *w;
	struct sosie_message m;
	struct sosie_err err;
	assert_int_equal(sosie_pair(4096, &a, &b, &err), 0);
	assert_int_equal(sosie_wire_new(b, &w, &err), 0);
	assert_int_equal(sosie_channel_send(a, bytes, len, &err), 0);
	int rc = sosie_wire_recv(w, &m, got, 0, &err);
	sosie_message_fini(&m);
	sosie_wire_free(w);
	sosie_channel_close(a);
	sosie_channel_close(b);
	return rc;
}

static void test_frame_bad_header_is_refused_at_once(void **state)
{
	const uint8_t good[12] = {0, 0, 0, 0, 20, 0, 0, 0, 1, 0, 0, 0};
	uint8_t bad[12];
	bool got;
	(void)state;
	assert_int_equal(frame_judge(good, 12, &got), 0);
	assert_true(got);
	assert_int_equal(frame_judge(good, 11, &got), 0);
	assert_false(got);
	memcpy(bad, good, 12);
	bad[0] = 1;
	bad[2] = 0x14; /* 1,310,721 */
	assert_int_equal(frame_judge(bad, 12, &got), -SOSIE_EPROTO);
	for (unsigned i = 4; i < 9; i++) {
		memcpy(bad, good, 12);
		bad[i] = i == 8 ? 0 : 99;
		assert_int_equal(frame_judge(bad, 12, &got), -SOSIE_EPROTO);
	}
}

static void test_target_forms_are_parsed_or_refused(void **state)
{
	struct sosie_target t;
	struct sosie_err err;
	char path[64];
	static const char *const bad[] = {"",    "@h",   "u@",    "h:0",  "h:65536", "h:x",
	                                  "-oX", "u@-h", "a:b:c", "[::1", "h h",     "u@h;x"};
	(void)state;
	assert_int_equal(sosie_target_parse("bob@st.example:2222/acme/erp", &t, path, sizeof path, &err), 0);
	assert_string_equal(t.user, "bob");
	assert_string_equal(t.host, "st.example");
	assert_int_equal(t.port, 2222);
	assert_string_equal(path, "acme/erp");
	assert_int_equal(sosie_target_parse("bob@[fe80::1%eth0]:22", &t, path, sizeof path, &err), 0);
	assert_string_equal(t.host, "fe80::1%eth0");
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		assert_int_equal(sosie_target_parse(bad[i], &t, path, sizeof path, &err), -SOSIE_EUSAGE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_message_each_type_round_trips),
	        cmocka_unit_test(test_message_every_other_length_is_refused),
	        cmocka_unit_test(test_message_bad_name_is_told_as_name),
	        cmocka_unit_test(test_message_limits_exceeded_are_not_encoded),
	        cmocka_unit_test(test_message_peer_text_is_escaped),
	        cmocka_unit_test(test_verbs_every_type_in_every_state_is_as_documented),
	        cmocka_unit_test(test_frame_bad_header_is_refused_at_once),
	        cmocka_unit_test(test_target_forms_are_parsed_or_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

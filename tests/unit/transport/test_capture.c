/* SPDX-License-Identifier: MIT */
/*
 * What was once said on the wire (tests/fixtures/capture-N.*, both ways) is still understood, and would be
 * said the same: each frame parses, and its message encodes to the same payload.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "sosie/bytes.h"
#include "sosie/message.h"

#define CAPTURES 1
#define TYPES (SOSIE_MSG_BYE + 1)

static uint8_t *read_capture(unsigned n, const char *side, size_t *len)
{
	char path[64];
	snprintf(path, sizeof path, "tests/fixtures/capture-%u.%s", n, side);
	FILE *f = fopen(path, "rb");
	if (!f)
		fail_msg("%s is missing (the test runs in the project's root)", path);
	const size_t room = 32u << 20;
	uint8_t *bytes = malloc(room);
	assert_non_null(bytes);
	*len = fread(bytes, 1, room, f);
	assert_true(*len > 0 && *len < room);
	fclose(f);
	return bytes;
}

static void check_frame(enum sosie_message_type type, const uint8_t *payload, size_t len)
{
	static uint8_t again[SOSIE_FRAME_MAX];
	struct sosie_message m;
	struct sosie_err err;
	size_t encoded = 0;
	sosie_err_clear(&err);
	if (sosie_message_parse(type, payload, len, &m, &err))
		fail_msg("type %d: %s", (int)type, err.what);
	assert_int_equal(sosie_message_encode(&m, again, sizeof again, &encoded, &err), 0);
	assert_int_equal(encoded, len);
	assert_memory_equal(again, payload, len);
	sosie_message_fini(&m);
}

static void check_side(unsigned n, const char *side, unsigned seen[TYPES])
{
	size_t len, at = 0;
	uint8_t *bytes = read_capture(n, side, &len);
	while (at < len) {
		struct sosie_reader r;
		assert_true(len - at >= SOSIE_FRAME_HEADER);
		sosie_reader_init(&r, bytes + at, SOSIE_FRAME_HEADER);
		uint32_t payload = sosie_get_u32(&r);
		uint16_t type = sosie_get_u16(&r);
		assert_true(payload <= SOSIE_FRAME_MAX && payload <= len - at - SOSIE_FRAME_HEADER);
		assert_true(type > 0 && type < TYPES);
		check_frame(type, bytes + at + SOSIE_FRAME_HEADER, payload);
		seen[type]++;
		at += SOSIE_FRAME_HEADER + payload;
	}
	free(bytes);
}

static void test_capture_of_each_format_is_understood(void **state)
{
	static const enum sosie_message_type said[] = {
	        SOSIE_MSG_HELLO,   SOSIE_MSG_WELCOME, SOSIE_MSG_HEAD, SOSIE_MSG_STATEMENT, SOSIE_MSG_BEGIN,
	        SOSIE_MSG_UPLOAD,  SOSIE_MSG_PART,    SOSIE_MSG_DATA, SOSIE_MSG_ACK,       SOSIE_MSG_PART_END,
	        SOSIE_MSG_COMMIT,  SOSIE_MSG_DURABLE, SOSIE_MSG_WAIT, SOSIE_MSG_VERDICT,   SOSIE_MSG_SAME,
	        SOSIE_MSG_DIFFERS, SOSIE_MSG_BYTES,   SOSIE_MSG_BYE,
	};
	(void)state;
	for (unsigned n = 1; n <= CAPTURES; n++) {
		unsigned seen[TYPES] = {0}, all = 0;
		check_side(n, "source", seen);
		check_side(n, "receiver", seen);
		for (unsigned i = 0; i < sizeof said / sizeof said[0]; i++)
			if (!seen[said[i]])
				fail_msg("capture %u has no %s", n, sosie_message_name(said[i]));
		for (unsigned i = 0; i < TYPES; i++)
			all += seen[i];
		print_message("capture %u: %u frames\n", n, all);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_capture_of_each_format_is_understood),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

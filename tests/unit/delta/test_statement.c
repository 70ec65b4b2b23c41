/* SPDX-License-Identifier: MIT */
/* Heads, verdicts and comparison entries: round trips, and what does not hold together is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sosie/segment.h"
#include "sosie/tree.h"

static struct sosie_head head, head_back;
static struct sosie_verdict verdict, verdict_back;

static void make(void)
{
	memset(&head, 0, sizeof(head));
	memset(&verdict, 0, sizeof(verdict));
	head = (struct sosie_head){
	        .tenant = {"acme"}, .group = {"erp"}, .epoch = 1, .point = 41, .time_ms = 1795318020123};
	head.store.b[2] = head.digest.b[4] = head.manifest.b[5] = 6;
	head.volume_count = SOSIE_VOLUMES_MAX;
	for (unsigned i = 0; i < SOSIE_VOLUMES_MAX; i++) {
		snprintf(head.volumes[i].name.s, sizeof(head.volumes[i].name.s), "v%u", i);
		head.volumes[i].size = i + 1;
	}
	verdict.upload.b[1] = 8;
	verdict.time_ms = head.time_ms;
}

static int head_trip(void)
{
	struct sosie_err err;
	char *text;
	size_t len;
	int rc = sosie_head_text(&head, &text, &len, &err);

	if (rc == 0)
		rc = sosie_head_parse(text, len, &head_back, &err);
	free(text);
	return rc;
}

static int verdict_trip(void)
{
	struct sosie_err err;
	char *text;
	size_t len;
	int rc = sosie_verdict_text(&verdict, &text, &len, &err);

	if (rc == 0)
		rc = sosie_verdict_parse(text, len, &verdict_back, &err);
	free(text);
	return rc;
}

static void test_head_round_trip_and_limits(void **state)
{
	(void)state;
	make();
	assert_int_equal(head_trip(), 0);
	assert_memory_equal(&head_back, &head, sizeof(head));
	head.volumes[1].name = head.volumes[0].name;
	assert_int_not_equal(head_trip(), 0);
	make();
	head.point = 0;
	assert_int_not_equal(head_trip(), 0); /* a manifest without a point */
	memset(&head.manifest, 0, sizeof(head.manifest));
	assert_int_not_equal(head_trip(), 0); /* volumes without a point */
	memset(head.volumes, 0, sizeof(head.volumes));
	head.volume_count = 0;
	assert_int_equal(head_trip(), 0);
	assert_memory_equal(&head_back, &head, sizeof(head));
	head.epoch = 0;
	assert_int_not_equal(head_trip(), 0);
}

static void test_verdict_each_kind_round_trip(void **state)
{
	(void)state;
	for (unsigned kind = 0; kind < 4; kind++) {
		make();
		verdict.kind = (enum sosie_verdict_kind)kind;
		if (kind == SOSIE_VERDICT_ACCEPTED || kind == SOSIE_VERDICT_DIFFERS) {
			verdict.head = head;
		} else {
			verdict.error.code = SOSIE_EPARENT;
			strcpy(verdict.error.what, "another \"parent\" \\ x");
			strcpy(verdict.error.action, "sosie status");
		}
		assert_int_equal(verdict_trip(), 0);
		assert_memory_equal(&verdict_back, &verdict, sizeof(verdict));
	}
}

static void test_verdict_long_broken_text_is_still_written(void **state)
{
	(void)state;
	make();
	verdict.kind = SOSIE_VERDICT_REFUSED;
	verdict.error.code = SOSIE_EQUOTA;
	memset(verdict.error.what, 0xe2, sizeof(verdict.error.what) - 1);
	assert_int_equal(verdict_trip(), 0);
	assert_int_equal(verdict_back.error.code, SOSIE_EQUOTA);
	assert_memory_equal(verdict_back.error.what, "\\xe2", 4);
}

static void test_verdict_hostile_text_is_escaped_and_unknown_code_kept(void **state)
{
	const char *text =
	        "{\"format\":1,\"kind\":\"verdict\",\"upload\":\"00000000000000000000000000000001\","
	        "\"verdict\":\"waiting\",\"time\":\"2026-11-22T03:27:00.123Z\","
	        "\"error\":{\"code\":\"of-tomorrow\",\"what\":\"\\u001b[2J\",\"action\":\"\"}}";
	struct sosie_err err;

	(void)state;
	assert_int_equal(sosie_verdict_parse(text, strlen(text), &verdict_back, &err), 0);
	assert_int_equal(verdict_back.error.code, SOSIE_EPENDING);
	assert_null(strchr(verdict_back.error.what, 0x1b));
	assert_int_not_equal(sosie_head_parse(text, strlen(text), &head_back, &err), 0);
	for (size_t len = 0; len < strlen(text); len++)
		assert_int_not_equal(sosie_verdict_parse(text, len, &verdict_back, &err), 0);
}

static void test_compare_entries_round_trip_and_bounds(void **state)
{
	static struct sosie_compare_entry e, back;
	static uint8_t bytes[SOSIE_COMPARE_ENTRY];
	struct sosie_differs_entry d = {.volume = 255,
	                                .level = 0,
	                                .block = SOSIE_VOLUME_MAX / SOSIE_CHUNK - 1},
	                           d_back;
	uint8_t small[SOSIE_DIFFERS_ENTRY];
	struct sosie_err err;

	(void)state;
	e = (struct sosie_compare_entry){.volume = 255, .level = 4, .block = 0};
	memset(e.children, 5, sizeof(e.children));
	sosie_compare_put(bytes, &e);
	assert_int_equal(sosie_compare_get(bytes, &back, &err), 0);
	assert_memory_equal(&back.children, &e.children, sizeof(e.children));
	assert_int_equal(back.level, 4);
	for (unsigned i = 1; i < 16; i++) { /* volume 255 aside, a set high bit is out of every bound */
		bytes[i] ^= 0x80;
		assert_int_not_equal(sosie_compare_get(bytes, &back, &err), 0);
		bytes[i] ^= 0x80;
	}
	sosie_differs_put(small, &d);
	assert_int_not_equal(sosie_differs_get(small, &d_back, &err), 0); /* no bit set */
	d.bitmap[31] = 0x80;
	sosie_differs_put(small, &d);
	assert_int_equal(sosie_differs_get(small, &d_back, &err), 0);
	assert_int_equal(d_back.block, d.block);
	d.block++;
	sosie_differs_put(small, &d);
	assert_int_not_equal(sosie_differs_get(small, &d_back, &err), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_head_round_trip_and_limits),
	        cmocka_unit_test(test_verdict_each_kind_round_trip),
	        cmocka_unit_test(test_verdict_long_broken_text_is_still_written),
	        cmocka_unit_test(test_verdict_hostile_text_is_escaped_and_unknown_code_kept),
	        cmocka_unit_test(test_compare_entries_round_trip_and_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

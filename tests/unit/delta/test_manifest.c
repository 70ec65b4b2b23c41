/* SPDX-License-Identifier: MIT */
/* Manifests: round trips, each limit (the most is taken, one more is refused), text edited by a hostile hand.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sosie/segment.h"
#include "sosie/tree.h"

#define MORE (SOSIE_PARTS_MAX + 1)

static struct sosie_manifest_volume volumes[SOSIE_VOLUMES_MAX + 1];
static struct sosie_manifest_attachment attachments[SOSIE_ATTACHMENTS_MAX + 1];
static struct sosie_manifest_part parts[MORE];
static struct sosie_manifest_ask asks[4];
static struct sosie_manifest m;

static void make(enum sosie_manifest_kind kind)
{
	memset(volumes, 0, sizeof(volumes));
	memset(attachments, 0, sizeof(attachments));
	memset(parts, 0, sizeof(parts));
	for (unsigned i = 0; i <= SOSIE_VOLUMES_MAX; i++) {
		snprintf(volumes[i].name.s, sizeof(volumes[i].name.s), "v%u", i);
		snprintf(attachments[i].name.s, sizeof(attachments[i].name.s), "a%u", i);
		volumes[i].size = 5 << 20;
	}
	parts[0] = (struct sosie_manifest_part){.length = SOSIE_RECORD_MAX, .records = 1};
	m = (struct sosie_manifest){.kind = kind,
	                            .tenant = {"acme"},
	                            .group = {"erp"},
	                            .volume_count = 1,
	                            .volumes = volumes,
	                            .part_count = 1,
	                            .parts = parts,
	                            .attachments = attachments,
	                            .asks = asks};
	m.parent.b[3] = 9;
	if (kind == SOSIE_MANIFEST_SEGMENT) {
		m.epoch = 3;
		m.cut_ms = 1795318020123;
		m.standby_at_ms = 1795318020000;
		m.standby_plus_ms = -5;
		m.consistency = SOSIE_CONSISTENCY_FUZZY;
		m.plain = m.data = 77;
		strcpy(m.software, "sosie 0.1.0");
	} else {
		parts[0].length = SOSIE_COMPARE_ENTRY;
		m.ask_count = 1;
		asks[0] = (struct sosie_manifest_ask){.volume = 0, .level = 0, .first = 0, .count = 5};
	}
}

static int text_code(void)
{
	struct sosie_err err;
	char *text;
	size_t len;
	int rc = sosie_manifest_text(&m, &text, &len, &err);

	free(text);
	return rc;
}

static void test_manifest_segment_round_trip(void **state)
{
	struct sosie_manifest back;
	struct sosie_err err;
	char *text;
	size_t len;

	(void)state;
	make(SOSIE_MANIFEST_SEGMENT);
	m.attachment_count = 2;
	attachments[1].size = SOSIE_ATTACHMENTS_BYTES;
	assert_int_equal(sosie_manifest_text(&m, &text, &len, &err), 0);
	assert_int_equal(sosie_manifest_parse(text, len, &back, &err), 0);
	assert_string_equal(back.tenant.s, "acme");
	assert_int_equal(back.epoch, 3);
	assert_int_equal(back.cut_ms, m.cut_ms);
	assert_int_equal(back.standby_at_ms, m.standby_at_ms);
	assert_int_equal(back.standby_plus_ms, -5);
	assert_int_equal(back.consistency, SOSIE_CONSISTENCY_FUZZY);
	assert_memory_equal(&back.parent, &m.parent, sizeof(m.parent));
	assert_memory_equal(back.volumes, volumes, sizeof(volumes[0]));
	assert_memory_equal(back.parts, parts, sizeof(parts[0]));
	assert_memory_equal(back.attachments, attachments, 2 * sizeof(attachments[0]));
	assert_string_equal(back.software, "sosie 0.1.0");
	sosie_manifest_fini(&back);
	free(text);
}

#define TAKEN(change)                                                                                        \
	do {                                                                                                 \
		make(kind);                                                                                  \
		change;                                                                                      \
		assert_int_equal(text_code(), 0);                                                            \
	} while (0)
#define REFUSED(change)                                                                                      \
	do {                                                                                                 \
		make(kind);                                                                                  \
		change;                                                                                      \
		assert_int_not_equal(text_code(), 0);                                                        \
	} while (0)

static void many_parts(unsigned count)
{
	m.part_count = count;
	for (unsigned i = 0; i < count; i++)
		parts[i] = parts[0];
}

static void test_manifest_segment_limits(void **state)
{
	const enum sosie_manifest_kind kind = SOSIE_MANIFEST_SEGMENT;

	(void)state;
	TAKEN(m.volume_count = SOSIE_VOLUMES_MAX);
	REFUSED(m.volume_count = SOSIE_VOLUMES_MAX + 1);
	REFUSED(m.volume_count = 0);
	TAKEN(many_parts(SOSIE_PARTS_MAX));
	REFUSED(many_parts(SOSIE_PARTS_MAX + 1));
	TAKEN((m.part_count = 0, m.plain = m.data = 0));
	TAKEN(m.attachment_count = SOSIE_ATTACHMENTS_MAX);
	REFUSED(m.attachment_count = SOSIE_ATTACHMENTS_MAX + 1);
	TAKEN((m.attachment_count = 2, attachments[0].size = SOSIE_ATTACHMENTS_BYTES));
	REFUSED((m.attachment_count = 2, attachments[0].size = SOSIE_ATTACHMENTS_BYTES,
	         attachments[1].size = 1));
	REFUSED((m.attachment_count = 1, attachments[0].size = SOSIE_ATTACHMENTS_BYTES + 1));
	REFUSED((m.attachment_count = 2, attachments[1].name = attachments[0].name));
	REFUSED((m.volume_count = 2, volumes[1].name = volumes[0].name));
	TAKEN(volumes[0].size = SOSIE_VOLUME_MAX);
	REFUSED(volumes[0].size = SOSIE_VOLUME_MAX + 1);
	REFUSED(volumes[0].size = 0);
	REFUSED(parts[0].length = SOSIE_RECORD_MAX + 1);
	TAKEN(parts[0].length = SOSIE_RECORD_HEADER);
	REFUSED(parts[0].length = SOSIE_RECORD_HEADER - 1);
	REFUSED(parts[0].records = 0);
	REFUSED(parts[0].records = INT64_MAX);
	TAKEN((parts[0].records = 0, parts[0].length = 0, m.plain = m.data = 0));
	TAKEN(m.data = m.plain);
	REFUSED(m.data = m.plain + 1);
	REFUSED(m.plain = 2 * SOSIE_RECORD_PLAIN_MAX);
	REFUSED(m.epoch = 0);
	REFUSED(m.tenant = (struct sosie_name){"../x"});
	REFUSED(m.group = (struct sosie_name){"a.b"});
	REFUSED(volumes[0].name = (struct sosie_name){"_x"});
}

static void test_manifest_compare_limits(void **state)
{
	const enum sosie_manifest_kind kind = SOSIE_MANIFEST_COMPARE;

	(void)state;
	TAKEN((void)0);
	TAKEN((parts[0].length = 0, parts[0].records = 0));
	REFUSED(parts[0].length = SOSIE_COMPARE_ENTRY + 1);
	REFUSED(m.part_count = 0);
	REFUSED((m.part_count = 2, parts[1] = parts[0]));
	REFUSED(m.ask_count = 0);
	REFUSED(asks[0].count = 6);
	REFUSED(asks[0].count = 0);
	TAKEN((asks[0].first = 4, asks[0].count = 1));
	REFUSED((asks[0].first = 5, asks[0].count = 1));
	REFUSED(asks[0].volume = 1);
	TAKEN((asks[0].level = 4, asks[0].count = 1));
	REFUSED((asks[0].level = 5, asks[0].count = 1));
}

/* The text with one piece replaced by another must be refused. */
static int edited(const char *from, const char *to)
{
	struct sosie_manifest back;
	struct sosie_err err;
	char *text, *at, *made;
	size_t len;
	int rc;

	make(SOSIE_MANIFEST_SEGMENT);
	assert_int_equal(sosie_manifest_text(&m, &text, &len, &err), 0);
	at = strstr(text, from);
	assert_non_null(at);
	made = malloc(len + strlen(to) + 1);
	if (!made)
		abort();
	snprintf(made, len + strlen(to) + 1, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
	assert_string_not_equal(made, text);
	rc = sosie_manifest_parse(made, strlen(made), &back, &err);
	assert_null(back.volumes);
	free(made);
	free(text);
	return rc;
}

static void test_manifest_edited_text_is_refused(void **state)
{
	(void)state;
	assert_int_equal(edited("\"format\":1", "\"format\":2"), -SOSIE_ENEWER);
	assert_int_not_equal(edited("\"format\":1", "\"format\":0"), 0);
	assert_int_not_equal(edited("\"format\":1", "\"format\":1,\"format\":1"), 0);
	assert_int_not_equal(edited("\"format\":1", "\"format\":1,\"x\":1"), 0);
	assert_int_not_equal(edited("\"format\":1", "\"format\":1,\"asks\":[]"), 0);
	assert_int_not_equal(edited("segment", "segments"), 0);
	assert_int_not_equal(edited("fuzzy", "fuzz"), 0);
	assert_int_not_equal(edited("sosie 0", "sosie\\n0"), 0);
	assert_int_not_equal(edited("\"plus_ms\":-5", "\"plus_ms\":-9223372036854775808"), 0);
	assert_int_not_equal(edited("\"plain\":77", "\"plain\":18446744073709551615"), 0);
	assert_int_not_equal(edited("\"root\":\"0", "\"root\":\"g"), 0);
	assert_int_not_equal(edited("\"epoch\":3", "\"epoch\":-3"), 0);
}

static void test_manifest_larger_than_1_mib_is_refused(void **state)
{
	struct sosie_manifest back;
	struct sosie_err err;
	char *text, *big = malloc(SOSIE_MANIFEST_MAX + 1);
	size_t len;

	(void)state;
	make(SOSIE_MANIFEST_SEGMENT);
	assert_int_equal(sosie_manifest_text(&m, &text, &len, &err), 0);
	memset(big, ' ', SOSIE_MANIFEST_MAX + 1);
	memcpy(big, text, len);
	assert_int_equal(sosie_manifest_parse(big, SOSIE_MANIFEST_MAX, &back, &err), 0);
	sosie_manifest_fini(&back);
	assert_int_not_equal(sosie_manifest_parse(big, SOSIE_MANIFEST_MAX + 1, &back, &err), 0);
	free(text);
	free(big);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_manifest_segment_round_trip),
	        cmocka_unit_test(test_manifest_segment_limits),
	        cmocka_unit_test(test_manifest_compare_limits),
	        cmocka_unit_test(test_manifest_edited_text_is_refused),
	        cmocka_unit_test(test_manifest_larger_than_1_mib_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

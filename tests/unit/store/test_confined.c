/* SPDX-License-Identifier: MIT */
/*
 * What is read in confined children: the same verdicts as in this process, also for damaged and swollen
 * bytes; whose fault each end of a child is; and children that lie, whose lies must not pass.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <linux/futex.h>

#include "engine/delta/record.h"
#include "engine/store/core.h"
#include "tests/support/rounds.h"

#define MS INT64_C(1000000)
#define MIB (1u << 20)
#define SEED 20261122u

static uint8_t noise[MIB], old[MIB], out[MIB], expected[MIB];

static struct confined_home *home_of(const struct confined_kind *kind)
{
	struct confined_home *home;
	struct sosie_err err;
	assert_int_equal(confined_home_new(kind, &home, &err), 0);
	return home;
}

static struct confined *get(struct confined_home *home, const char *tenant)
{
	struct confined *c;
	struct sosie_err err;
	assert_int_equal(confined_get(home, tenant, &c, &err), 0);
	return c;
}

static void assert_no_child(void)
{
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
}

/* --- records
 * ---------------------------------------------------------------------------------------------------- */

struct sample {
	struct sosie_record record;
	struct packed packed;
	uint8_t *payload; /* owned, of MIB bytes */
};

/* One range of the volume's first 64 leaves, with 100 bytes of each page changed. */
static void make_sample(struct sample *s, enum sosie_record_kind kind, bool raw)
{
	/* A librsync delta of one literal of 4 bytes and a copy of the rest. */
	static const uint8_t delta[] = {0x72, 0x73, 0x02, 0x36, 4,    'x',  'y',  'z', 'w',
	                                75,   0,    4,    0,    0x03, 0xff, 0xfc, 0};
	const struct sosie_range range = {.leaves = 64};
	const size_t plain = 64 * SOSIE_LEAF;
	struct sosie_extent_volume volume = {.size = MIB};
	struct sosie_digest ctx = {{0}}, leaves[64] = {{{0}}};
	struct sosie_encoder *enc;
	struct sosie_err err;
	const void *bytes;
	uint32_t ranges_len, payload_len;
	size_t len;
	assert_int_equal(sosie_encoder_new(&ctx, 1, &enc, &err), 0);
	for (size_t i = 0; i < plain; i++)
		expected[i] = kind == SOSIE_RECORD_DATA && i % 4 ? 7 : old[i];
	if (kind == SOSIE_RECORD_DELTA)
		memcpy(expected, "xyzw", 4);
	else
		for (size_t i = 0; i < plain; i += SOSIE_LEAF)
			memcpy(expected + i + 20, noise + i, 100);
	if (kind == SOSIE_RECORD_DELTA)
		assert_int_equal(sosie_encode_delta(enc, &range, 1, leaves, expected, plain, delta,
		                                    sizeof(delta), &bytes, &len, &err),
		                 0);
	else if (kind == SOSIE_RECORD_PATCH)
		assert_int_equal(sosie_encode_patch(enc, &range, 1, leaves, expected, plain, old, &bytes,
		                                    &len, NULL, &err),
		                 0);
	else
		assert_int_equal(sosie_encode_data(enc, &range, 1, leaves, raw ? noise : expected, plain,
		                                   &bytes, &len, &err),
		                 0);
	assert_int_equal(sosie_record_lengths(bytes, &ranges_len, &payload_len, &err), 0);
	assert_int_equal(
	        sosie_record_parse(bytes, SOSIE_RECORD_HEADER + ranges_len, &volume, 1, &s->record, &err), 0);
	assert_int_equal(s->record.kind, kind);
	s->payload = calloc(1, MIB);
	assert_non_null(s->payload);
	memcpy(s->payload, (const uint8_t *)bytes + SOSIE_RECORD_HEADER + ranges_len, payload_len);
	s->packed = (struct packed){.kind = kind,
	                            .encoding = s->record.encoding,
	                            .payload = s->payload,
	                            .payload_len = payload_len,
	                            .basis = kind == SOSIE_RECORD_DATA ? NULL : old,
	                            .basis_len = kind == SOSIE_RECORD_PATCH   ? plain
	                                         : kind == SOSIE_RECORD_DELTA ? MIB
	                                                                      : 0,
	                            .plain_len = plain};
	sosie_encoder_free(enc);
}

static int same_in_both(struct confined *c, struct unpacker *u, const struct packed *p)
{
	static uint8_t here[MIB];
	struct sosie_err err;
	int in_child = confined_unpack(c, p, out, &err), in_process = unpacker_run(u, p, here, NULL);
	assert_int_equal(in_child, in_process);
	if (in_child == 0)
		assert_memory_equal(out, here, p->plain_len);
	return in_child;
}

static void damage(struct sample *s, size_t *len)
{
	switch (rand() % 4) {
	case 0:
		*len = (size_t)rand() % (*len + 1);
		break;
	case 1:
		*len += (size_t)rand() % 16;
		break;
	default:
		for (int i = rand() % 4; i >= 0; i--)
			s->payload[(size_t)rand() % *len] ^= (uint8_t)(1 + rand() % 255);
	}
}

/* The same code from the child and from here for each of many damaged payloads. */
static void test_confined_records_get_the_verdict_of_this_process(void **state)
{
	static const enum sosie_record_kind kinds[] = {SOSIE_RECORD_DATA, SOSIE_RECORD_PATCH,
	                                               SOSIE_RECORD_DELTA};
	struct confined_home *home = home_of(&confined_kind);
	struct confined *c = get(home, "acme");
	unsigned refused = 0, taken = 0, rounds = test_rounds(300, 5000);
	struct unpacker *u;
	struct sosie_err err;
	(void)state;
	assert_int_equal(unpacker_new(&u, &err), 0);
	for (unsigned k = 0; k < 3; k++) {
		struct sample s;
		make_sample(&s, kinds[k], false);
		const size_t len = s.packed.payload_len;
		uint8_t *whole = malloc(len);
		assert_non_null(whole);
		memcpy(whole, s.payload, len);
		assert_int_equal(same_in_both(c, u, &s.packed), 0);
		assert_memory_equal(out, expected, s.packed.plain_len);
		for (unsigned i = 0; i < rounds; i++) {
			memcpy(s.payload, whole, len);
			s.packed.payload_len = len;
			damage(&s, &s.packed.payload_len);
			bool ok = same_in_both(c, u, &s.packed) == 0;
			taken += ok;
			refused += !ok;
		}
		free(whole);
		free(s.payload);
	}
	assert_true(refused > rounds);
	assert_int_equal(confined_started(c), 1); /* damage kills no child */
	assert_true(confined_cpu_ns(c) > 0);
	printf("%u refused, %u taken\n", refused, taken);
	unpacker_free(u);
	confined_put(home, c, 0);
	confined_home_free(home);
	assert_no_child();
}

/* 21 bytes that say 1 MiB of one byte, and 17 that copy the basis over and over. */
static void test_confined_bombs_end_at_their_length(void **state)
{
	static const uint8_t zstd[] = {0x28, 0xb5, 0x2f, 0xfd, 0xa4, 0, 0, 0, 0x40, 3, 0, 0x10, 'a'};
	uint8_t delta[4 + 3 * 100 + 1] = {0x72, 0x73, 0x02, 0x36};
	struct confined_home *home = home_of(&confined_kind);
	struct confined *c = get(home, "acme");
	struct packed p = {.kind = SOSIE_RECORD_DATA,
	                   .encoding = 1,
	                   .payload = zstd,
	                   .payload_len = sizeof(zstd),
	                   .plain_len = MIB};
	struct unpacker *u;
	struct sosie_err err;
	(void)state;
	assert_int_equal(unpacker_new(&u, &err), 0);
	assert_int_equal(same_in_both(c, u, &p), -SOSIE_ECORRUPT); /* 1 GiB said, 1 MiB allowed */
	p.plain_len = 4096;
	assert_int_equal(same_in_both(c, u, &p), -SOSIE_ECORRUPT);
	for (unsigned i = 0; i < 100; i++)
		memcpy(delta + 4 + 3 * i, (const uint8_t[]){69 + 1, 0, 0xff}, 3);
	p = (struct packed){.kind = SOSIE_RECORD_DELTA,
	                    .payload = delta,
	                    .payload_len = sizeof(delta),
	                    .basis = old,
	                    .basis_len = MIB,
	                    .plain_len = 4096};
	assert_int_equal(same_in_both(c, u, &p), -SOSIE_ECORRUPT);
	p.basis = NULL;
	assert_int_equal(confined_unpack(c, &p, out, &err), -SOSIE_EINTERNAL);
	p.basis = old;
	p.payload_len = MIB + 1;
	assert_int_equal(confined_unpack(c, &p, out, &err), -SOSIE_ECORRUPT);
	unpacker_free(u);
	confined_put(home, c, 0);
	confined_home_free(home);
}

/* --- manifests
 * -------------------------------------------------------------------------------------------------- */

static void make_text(char **text, size_t *len)
{
	struct sosie_manifest_volume volumes[] = {{.name = {"a"}, .size = 8 << 20},
	                                          {.name = {"b.raw"}, .size = 5000}};
	struct sosie_manifest_part part = {.length = 100, .records = 1};
	struct sosie_manifest_attachment attachment = {.name = {"domain.xml"}, .size = 9};
	const struct sosie_manifest m = {.tenant = {"acme"},
	                                 .group = {"erp"},
	                                 .epoch = 3,
	                                 .cut_ms = 1795318020123,
	                                 .standby_at_ms = 1795318020000,
	                                 .standby_plus_ms = 5,
	                                 .volume_count = 2,
	                                 .volumes = volumes,
	                                 .part_count = 1,
	                                 .parts = &part,
	                                 .attachment_count = 1,
	                                 .attachments = &attachment,
	                                 .plain = 77,
	                                 .data = 77,
	                                 .software = "a \"quoted\" \\ release"};
	struct sosie_err err;
	assert_int_equal(sosie_manifest_text(&m, text, len, &err), 0);
}

static void test_confined_manifest_is_the_one_of_this_process(void **state)
{
	struct confined_home *home = home_of(&confined_kind);
	struct confined *c = get(home, "acme");
	struct sosie_manifest m, here;
	struct sosie_err err;
	char *text, *again;
	size_t len, again_len;
	(void)state;
	make_text(&text, &len);
	assert_int_equal(confined_manifest(c, text, len, &m, &err), 0);
	assert_int_equal(sosie_manifest_parse(text, len, &here, &err), 0);
	assert_memory_equal(m.volumes, here.volumes, 2 * sizeof(*m.volumes));
	assert_int_equal(sosie_manifest_text(&m, &again, &again_len, &err), 0);
	assert_string_equal(again, text);
	sosie_manifest_fini(&m);
	sosie_manifest_fini(&here);
	free(again);
	free(text);
	confined_put(home, c, 0);
	confined_home_free(home);
}

/* Damaged ones: refused by both; or taken here and not written as sosie writes it. Never taken only there. */
static void test_confined_manifests_damaged_are_refused(void **state)
{
	struct confined_home *home = home_of(&confined_kind);
	struct confined *c = get(home, "acme");
	unsigned refused = 0, rounds = test_rounds(2000, 30000);
	struct sosie_manifest m, here;
	struct sosie_err err;
	char *text;
	size_t len;
	(void)state;
	make_text(&text, &len);
	for (unsigned i = 0; i < rounds; i++) {
		const size_t at = (size_t)rand() % len;
		const char was = text[at];
		text[at] = (char)(rand() % 3 ? ' ' + rand() % 95 : rand() % 256);
		int in_child = confined_manifest(c, text, len, &m, &err);
		int in_process = sosie_manifest_parse(text, len, &here, NULL);
		if (in_process)
			assert_int_not_equal(in_child, 0);
		if (in_child == 0)
			assert_memory_equal(m.volumes, here.volumes, 2 * sizeof(*m.volumes));
		refused += in_child != 0;
		sosie_manifest_fini(&m);
		sosie_manifest_fini(&here);
		text[at] = was;
	}
	assert_true(refused > rounds / 4 && refused < rounds);
	assert_int_equal(confined_started(c), 1);
	free(text);
	confined_put(home, c, 0);
	confined_home_free(home);
}

static void test_confined_manifest_written_otherwise_is_refused(void **state)
{
	struct confined_home *home = home_of(&confined_kind);
	struct confined *c = get(home, "acme");
	struct sosie_manifest m;
	struct sosie_err err;
	char *text;
	size_t len;
	(void)state;
	make_text(&text, &len);
	char *padded = malloc(len + 1);
	assert_non_null(padded);
	memcpy(padded, text, len);
	padded[len] = ' ';
	assert_int_equal(sosie_manifest_parse(padded, len + 1, &m, &err), 0);
	sosie_manifest_fini(&m);
	assert_int_equal(confined_manifest(c, padded, len + 1, &m, &err), -SOSIE_ECORRUPT);
	assert_non_null(strstr(err.what, "not written as sosie writes it"));
	assert_null(m.volumes);
	free(padded);
	free(text);
	confined_put(home, c, 0);
	confined_home_free(home);
}

/* JSON that is small and large in memory, or deep, or of one number. */
static void test_confined_json_bombs_are_refused(void **state)
{
	static const char *const pieces[] = {"{},", "[", "[[],[]],", "9", "\"\\u0001\","};
	struct confined_home *home = home_of(&confined_kind);
	struct confined *c = get(home, "acme");
	char *text = malloc(MIB + 1);
	struct sosie_manifest m;
	struct same_said said;
	struct sosie_err err;
	(void)state;
	assert_non_null(text);
	for (unsigned i = 0; i < sizeof(pieces) / sizeof(*pieces); i++) {
		const size_t len = strlen(pieces[i]);
		text[0] = '[';
		for (size_t at = 1; at < MIB; at++)
			text[at] = pieces[i][(at - 1) % len];
		memcpy(text + MIB - 4, ",{}]", 4);
		assert_int_equal(confined_manifest(c, text, MIB, &m, &err), -SOSIE_ECORRUPT);
		assert_int_equal(confined_same(c, text, MIB, &said, &err), -SOSIE_ECORRUPT);
		assert_null(said.groups);
	}
	assert_int_equal(confined_manifest(c, text, MIB + 1, &m, &err), -SOSIE_ECORRUPT);
	free(text);
	size_t len;
	make_text(&text, &len); /* it goes on */
	assert_int_equal(confined_manifest(c, text, len, &m, &err), 0);
	sosie_manifest_fini(&m);
	free(text);
	confined_put(home, c, 0);
	confined_home_free(home);
}

static void test_confined_same_message_keeps_what_is_in_order(void **state)
{
	static const char text[] =
	        "{\"format\":1,\"kind\":\"same\",\"standby_clock\":{\"at_ms\":5000,\"plus_ms\":7},\"groups\":"
	        "["
	        "{\"group\":\"erp\",\"digest\":"
	        "\"00000000000000000000000000000000000000000000000000000000000000ff\",\"ago_ms\":3},"
	        "{\"group\":\"../x\",\"digest\":"
	        "\"00000000000000000000000000000000000000000000000000000000000000ff\"},"
	        "{\"group\":\"crm\",\"digest\":\"00\"},"
	        "{\"group\":\"crm\",\"digest\":"
	        "\"0000000000000000000000000000000000000000000000000000000000000001\"}]}";
	struct confined_home *home = home_of(&confined_kind);
	struct confined *c = get(home, "acme");
	struct same_said said;
	struct sosie_err err;
	(void)state;
	assert_int_equal(confined_same(c, text, strlen(text), &said, &err), 0);
	assert_true(said.has_clock);
	assert_int_equal(said.at_ms, 5000);
	assert_int_equal(said.plus_ms, 7);
	assert_int_equal(said.count, 2);
	assert_string_equal(said.groups[0].group.s, "erp");
	assert_int_equal(said.groups[0].digest.b[31], 0xff);
	assert_int_equal(said.groups[0].ago_ms, 3);
	assert_string_equal(said.groups[1].group.s, "crm");
	free(said.groups);
	assert_int_equal(confined_same(c, text, strlen(text) - 1, &said, &err), -SOSIE_ECORRUPT);
	confined_put(home, c, 0);
	confined_home_free(home);
}

/* --- children that are not as they should be
 * -------------------------------------------------------------------- */

static struct confined_kind kind_of(void (*run)(int, void *))
{
	struct confined_kind kind = confined_kind;
	kind.child.run = run;
	kind.child.wall_ns = 60 * MS;
	kind.child.cpu_ns = 60000 * MS;
	return kind;
}

static void crash(void *arg, void *area, struct sosie_child_message *m)
{
	(void)arg;
	(void)area;
	(void)m;
	abort();
}

static void run_crash(int socket, void *area)
{
	sosie_child_serve(socket, area, crash, NULL);
}

/* In the middle: half of the answer lies in the area. */
static void crash_later(void *arg, void *area, struct sosie_child_message *m)
{
	memset(((struct confined_area *)area)->out.plain, 'x', MIB / 2);
	crash(arg, area, m);
}

static void run_crash_later(int socket, void *area)
{
	sosie_child_serve(socket, area, crash_later, NULL);
}

static void run_hang(int socket, void *area)
{
	struct sosie_child_message m = {0};
	(void)area;
	if (write(socket, &m, sizeof(m)) == (ssize_t)sizeof(m))
		while (read(socket, &m, sizeof(m)) == (ssize_t)sizeof(m))
			;
}

static void spin(void *arg, void *area, struct sosie_child_message *m)
{
	volatile unsigned counter = 0;
	(void)arg;
	(void)area;
	(void)m;
	for (;;)
		counter++;
}

static void run_spin(int socket, void *area)
{
	sosie_child_serve(socket, area, spin, NULL);
}

static void lie_code(void *arg, void *area, struct sosie_child_message *m)
{
	(void)arg;
	(void)area;
	m->word[CONFINED_WORD_CODE] = 0x80000000u;
}

static void run_lie_code(int socket, void *area)
{
	sosie_child_serve(socket, area, lie_code, NULL);
}

/* Each end of a child, at each question: the upload's fault, and the next question finds a new child. */
static void test_confined_child_that_ends_hangs_or_lies_refuses_the_bytes(void **state)
{
	void (*const runs[])(int, void *) = {run_crash, run_crash_later, run_spin, run_lie_code, run_hang};
	unsigned checked = 0;
	struct sample s;
	char *text;
	size_t len;
	(void)state;
	make_sample(&s, SOSIE_RECORD_PATCH, false);
	make_text(&text, &len);
	for (unsigned i = 0; i < sizeof(runs) / sizeof(*runs); i++, checked++) {
		struct confined_kind kind = kind_of(runs[i]);
		if (runs[i] == run_spin) {
			kind.child.wall_ns = 60000 * MS;
			kind.child.cpu_ns = 40 * MS;
		}
		struct confined_home *home = home_of(&kind);
		struct confined *c = get(home, "acme");
		struct sosie_manifest m;
		struct same_said said;
		struct sosie_err err;
		memset(out, 0x55, sizeof(out));
		assert_int_equal(confined_unpack(c, &s.packed, out, &err), -SOSIE_ECORRUPT);
		assert_true(strlen(err.what) > 20);
		for (size_t k = 0; k < sizeof(out); k++)
			assert_int_equal(out[k], 0x55);
		assert_int_equal(confined_pid(c), 0);
		assert_int_equal(confined_manifest(c, text, len, &m, &err), -SOSIE_ECORRUPT);
		assert_int_equal(confined_same(c, text, len, &said, &err), -SOSIE_ECORRUPT);
		/* Silence is tried twice: it may be the machine's. */
		assert_int_equal(confined_started(c), runs[i] == run_hang ? 6 : 3);
		confined_put(home, c, 0);
		assert_int_equal(confined_home_idle(home), 0);
		confined_home_free(home);
		assert_no_child();
	}
	assert_int_equal(checked, 5);
	free(text);
	free(s.payload);
}

/* Each answer in time, all of them together not. */
static void answer_slowly(void *arg, void *area, struct sosie_child_message *m)
{
	struct timespec now, end;
	(void)arg;
	(void)area;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
	do
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	while ((now.tv_sec - end.tv_sec) * 1000 + (now.tv_nsec - end.tv_nsec) / MS < 150);
	m->word[CONFINED_WORD_CODE] = 0;
}

static void run_slow(int socket, void *area)
{
	sosie_child_serve(socket, area, answer_slowly, NULL);
}

/* A thousand records of a second each would keep the keeper for a quarter of an hour. */
static void test_confined_answers_that_are_slow_all_the_time_are_refused(void **state)
{
	struct confined_kind kind = kind_of(run_slow);
	unsigned taken = 0;
	struct sosie_err err;
	struct sample s;
	int rc = 0;
	(void)state;
	kind.child.wall_ns = 60000 * MS;
	kind.cpu_debt_ns = 500 * MS; /* 100 beyond the allowance each */
	struct confined_home *home = home_of(&kind);
	struct confined *c = get(home, "acme");
	make_sample(&s, SOSIE_RECORD_DATA, false);
	while (taken < 50 && (rc = confined_unpack(c, &s.packed, out, &err)) == 0)
		taken++;
	assert_int_equal(rc, -SOSIE_ECORRUPT);
	assert_in_range(taken, 2, 5);
	assert_non_null(strstr(err.what, "far longer"));
	assert_int_equal(confined_pid(c), 0);
	assert_int_equal(confined_unpack(c, &s.packed, out, &err), 0);
	confined_put(home, c, 0);
	confined_home_free(home);
	free(s.payload);
}

/* Sleeps by one of the few calls that it has. */
static void answer_late(void *arg, void *area, struct sosie_child_message *m)
{
	const struct timespec late = {.tv_sec = 1, .tv_nsec = 200 * MS};
	uint32_t word = 0;
	(void)arg;
	(void)area;
	syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &late, NULL, 0);
	m->word[CONFINED_WORD_CODE] = 0;
}

static void run_late(int socket, void *area)
{
	sosie_child_serve(socket, area, answer_late, NULL);
}

static void test_confined_answers_that_sleep_are_refused(void **state)
{
	struct confined_kind kind = kind_of(run_late);
	struct sosie_err err;
	struct sample s;
	(void)state;
	kind.child.wall_ns = 60000 * MS;
	kind.wait_debt_ms = 40;
	struct confined_home *home = home_of(&kind);
	struct confined *c = get(home, "acme");
	make_sample(&s, SOSIE_RECORD_DATA, false);
	assert_int_equal(confined_unpack(c, &s.packed, out, &err), -SOSIE_ECORRUPT);
	assert_non_null(strstr(err.what, "far longer"));
	assert_true(confined_cpu_ns(c) < 500 * MS);
	confined_put(home, c, 0);
	confined_home_free(home);
	free(s.payload);
}

static void run_nothing(int socket, void *area)
{
	(void)socket;
	(void)area;
}

static void test_confined_child_that_cannot_start_is_our_own_fault(void **state)
{
	const struct confined_kind kind = kind_of(run_nothing);
	struct confined_home *home = home_of(&kind);
	struct confined *c = get(home, "acme");
	struct sosie_err err;
	struct sample s;
	(void)state;
	make_sample(&s, SOSIE_RECORD_DATA, false);
	assert_int_equal(confined_unpack(c, &s.packed, out, &err), -SOSIE_ENOMEM);
	assert_int_equal(sosie_code_class(err.code), SOSIE_CLASS_RETRY);
	assert_true(strlen(err.action) > 0);
	confined_put(home, c, 0);
	confined_home_free(home);
	free(s.payload);
}

struct killer {
	pid_t parent_thread;
	unsigned kills, wanted;
};

/* Kills the children of a thread as they come (proc(5), "children"). */
static void *kill_children(void *arg)
{
	struct killer *k = arg;
	char path[64], last[32] = "", text[32];
	snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)k->parent_thread);
	while (k->kills < k->wanted) {
		FILE *f = fopen(path, "r");
		if (f && fgets(text, sizeof(text), f) && strcmp(text, last) != 0 &&
		    kill((pid_t)strtol(text, NULL, 10), SIGKILL) == 0) {
			memcpy(last, text, sizeof(last));
			k->kills++;
		}
		if (f)
			fclose(f);
	}
	return NULL;
}

static int killed_times(unsigned wanted, struct sosie_err *err)
{
	struct confined_kind hanging = kind_of(run_hang);
	struct confined_home *home;
	struct sample s;
	struct killer k = {.parent_thread = (pid_t)syscall(SYS_gettid), .wanted = wanted};
	pthread_t thread;
	hanging.child.wall_ns = 2000 * MS;
	home = home_of(&hanging);
	make_sample(&s, SOSIE_RECORD_DATA, false);
	struct confined *c = get(home, "acme");
	assert_int_equal(pthread_create(&thread, NULL, kill_children, &k), 0);
	int rc = confined_unpack(c, &s.packed, out, err);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(k.kills, wanted);
	confined_put(home, c, 0);
	confined_home_free(home);
	free(s.payload);
	return rc;
}

/* Whoever kills it (the kernel, for memory): three times in a row is enough, and is no word about the bytes.
 */
static void test_confined_child_killed_from_outside_is_our_own_fault(void **state)
{
	struct sosie_err err;
	(void)state;
	if (access("/proc/thread-self/children", F_OK) != 0)
		skip(); /* a kernel without checkpoint and restore */
	assert_int_equal(killed_times(3, &err), -SOSIE_ENOMEM);
}

static void test_confined_child_killed_once_is_asked_again(void **state)
{
	struct confined_home *home = home_of(&confined_kind);
	struct confined *c = get(home, "acme");
	struct sosie_err err;
	struct sample s;
	siginfo_t info;
	(void)state;
	make_sample(&s, SOSIE_RECORD_PATCH, false);
	assert_int_equal(confined_unpack(c, &s.packed, out, &err), 0);
	assert_int_equal(kill(confined_pid(c), SIGKILL), 0);
	assert_int_equal(waitid(P_PID, (id_t)confined_pid(c), &info, WEXITED | WNOWAIT), 0);
	memset(out, 0, sizeof(out));
	assert_int_equal(confined_unpack(c, &s.packed, out, &err), 0);
	assert_memory_equal(out, expected, s.packed.plain_len);
	assert_int_equal(confined_started(c), 2);
	confined_put(home, c, 0);
	confined_home_free(home);
	free(s.payload);
}

/* A child that says "done" and then goes on writing: either the copy is what the digest says, or it is
 * refused. Nothing of the child's reaches the job otherwise. */
static void scribble(int socket, void *shared)
{
	struct confined_area *area = shared;
	struct sosie_child_message m = {0};
	struct unpacker *u;
	if (unpacker_new(&u, NULL))
		return;
	while (write(socket, &m, sizeof(m)) == (ssize_t)sizeof(m) &&
	       read(socket, &m, sizeof(m)) == (ssize_t)sizeof(m)) {
		const struct packed p = {.kind = (enum sosie_record_kind)m.word[CONFINED_WORD_KIND],
		                         .encoding = m.word[CONFINED_WORD_ENCODING],
		                         .payload = area->in,
		                         .payload_len = m.word[CONFINED_WORD_LEN],
		                         .plain_len = m.word[CONFINED_WORD_PLAIN_LEN]};
		unpacker_run(u, &p, area->out.plain, NULL);
		m.word[CONFINED_WORD_CODE] = 0;
		if (write(socket, &m, sizeof(m)) != (ssize_t)sizeof(m))
			return;
		for (unsigned i = 0; i < 200000; i++) /* while the parent copies and judges */
			((volatile uint8_t *)area->out.plain)[i % p.plain_len]++;
		if (read(socket, &m, sizeof(m)) != (ssize_t)sizeof(m))
			return;
		m.word[CONFINED_WORD_CODE] = SOSIE_ECORRUPT;
	}
}

static void test_confined_content_changed_behind_the_answer_never_passes(void **state)
{
	struct confined_kind kind = kind_of(scribble);
	struct sosie_clock_virtual clock;
	struct decode_job *job = calloc(1, sizeof(*job));
	struct sosie_digest ctx = {{0}};
	struct sosie_extent_volume volume = {.size = MIB};
	struct sosie_hash *h = sosie_hash_new();
	struct decode_pool *pool;
	struct sosie_err err;
	struct sample s;
	unsigned refused = 0, rounds = test_rounds(60, 500);
	(void)state;
	kind.child.wall_ns = 10000 * MS;
	struct confined_home *home = home_of(&kind);
	struct decode_place place = {
	        .home = home, .clock = &clock.clock, .tenant = "acme", .group_ctx = &ctx};
	sosie_clock_virtual_init(&clock, 1790000000000, SEED);
	assert_non_null(job);
	make_sample(&s, SOSIE_RECORD_DATA, false);
	job->record = s.record;
	job->payload = s.payload;
	job->plain = out;
	/* The digest that the content really has. */
	struct sosie_digest leaves[64];
	for (unsigned i = 0; i < 64; i++)
		sosie_digest_leaf(h, &volume.ctx, i, expected + (size_t)i * SOSIE_LEAF, SOSIE_LEAF,
		                  &leaves[i]);
	record_digest(h, &ctx, SOSIE_RECORD_DATA, s.record.ranges, 1, leaves, 64, &job->record.digest);
	assert_int_equal(decode_pool_new(&place, &volume, false, &pool, &err), 0);
	for (unsigned i = 0; i < rounds; i++) {
		memset(out, 0xee, sizeof(out));
		decode_pool_give(pool, job);
		decode_pool_wait(pool, job);
		if (job->rc == 0) {
			assert_memory_equal(out, expected, s.packed.plain_len);
			assert_memory_equal(job->leaves, leaves, sizeof(leaves));
			continue;
		}
		assert_int_equal(job->rc, -SOSIE_ECORRUPT);
		assert_true(sosie_all_zero(out, s.packed.plain_len));
		refused++;
	}
	assert_true(refused > 0);
	assert_true(decode_pool_free(pool) > 0); /* processor time was counted */
	confined_home_free(home);
	sosie_hash_free(h);
	free(s.payload);
	free(job);
}

/* --- tenants
 * ---------------------------------------------------------------------------------------------------- */

static pid_t use(struct confined_home *home, const char *tenant, const struct sample *s, int64_t now_ms)
{
	struct confined *c = get(home, tenant);
	struct sosie_err err;
	assert_int_equal(confined_unpack(c, &s->packed, out, &err), 0);
	pid_t pid = confined_pid(c);
	confined_put(home, c, now_ms);
	return pid;
}

static void test_confined_children_are_kept_for_their_tenant_and_for_a_while(void **state)
{
	struct confined_home *home = home_of(&confined_kind);
	struct sample s;
	char name[16];
	(void)state;
	make_sample(&s, SOSIE_RECORD_DATA, false);
	pid_t acme = use(home, "acme", &s, 1000), other = use(home, "other", &s, 1001);
	assert_int_not_equal(acme, other);
	assert_int_equal(use(home, "acme", &s, 1002), acme);
	assert_int_equal(use(home, "other", &s, 1003), other);
	assert_int_equal(confined_home_idle(home), 2);
	struct confined *first = get(home, "acme"), *second = get(home, "acme");
	assert_int_equal(confined_pid(first), acme);
	assert_int_equal(confined_pid(second), 0);
	confined_put(home, first, 1004);
	confined_start(second);
	confined_put(home, second, 1005); /* never asked: it may hold what we have locked */
	assert_int_equal(confined_home_idle(home), 2);
	confined_home_rest(home, 1003 + CONFINED_REST_MS);
	assert_int_equal(confined_home_idle(home), 2);
	confined_home_rest(home, 1004 + CONFINED_REST_MS);
	assert_int_equal(confined_home_idle(home), 1);
	assert_int_equal(use(home, "acme", &s, 1006), acme);
	for (unsigned i = 0; i < CONFINED_IDLE + 2; i++) {
		snprintf(name, sizeof(name), "t%u", i);
		use(home, name, &s, 1007 + i);
	}
	assert_int_equal(confined_home_idle(home), CONFINED_IDLE);
	assert_int_not_equal(use(home, "acme", &s, 2000), acme);
	confined_home_free(home);
	assert_no_child();
	confined_home_free(NULL);
	confined_put(NULL, NULL, 0);
	free(s.payload);
}

static int setup(void **state)
{
	(void)state;
	srand(SEED);
	for (size_t i = 0; i < MIB; i++) {
		noise[i] = (uint8_t)(rand() >> 7);
		old[i] = (uint8_t)(rand() >> 7);
	}
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_confined_records_get_the_verdict_of_this_process),
	        cmocka_unit_test(test_confined_bombs_end_at_their_length),
	        cmocka_unit_test(test_confined_manifest_is_the_one_of_this_process),
	        cmocka_unit_test(test_confined_manifests_damaged_are_refused),
	        cmocka_unit_test(test_confined_manifest_written_otherwise_is_refused),
	        cmocka_unit_test(test_confined_json_bombs_are_refused),
	        cmocka_unit_test(test_confined_same_message_keeps_what_is_in_order),
	        cmocka_unit_test(test_confined_child_that_ends_hangs_or_lies_refuses_the_bytes),
	        cmocka_unit_test(test_confined_answers_that_are_slow_all_the_time_are_refused),
	        cmocka_unit_test(test_confined_answers_that_sleep_are_refused),
	        cmocka_unit_test(test_confined_child_that_cannot_start_is_our_own_fault),
	        cmocka_unit_test(test_confined_child_killed_from_outside_is_our_own_fault),
	        cmocka_unit_test(test_confined_child_killed_once_is_asked_again),
	        cmocka_unit_test(test_confined_content_changed_behind_the_answer_never_passes),
	        cmocka_unit_test(test_confined_children_are_kept_for_their_tenant_and_for_a_while),
	};
	printf("seed %u\n", SEED);
	return cmocka_run_group_tests_name("confined", tests, setup, NULL);
}

/* SPDX-License-Identifier: MIT */
/*
 * What a holder of a key can try with many sessions, with time, and with the length of what it sends:
 * silence, bytes that drip, data without end, two senders on one upload in every order, keys of others,
 * floods of begun uploads, groups and answers. Time is the virtual clock's.
 */
#include "tests/unit/hostile/forge.h"
#include "tests/unit/hostile/wire.h"

#define MIB (1u << 20)

static struct sosie_message begin_of(const char *group)
{
	struct sosie_message m = {.type = SOSIE_MSG_BEGIN, .request = 3};
	snprintf(m.begin.group.s, sizeof(m.begin.group.s), "%s", group);
	m.begin.kind = SOSIE_UPLOAD_SEGMENT;
	m.begin.epoch = 1;
	return m;
}

static void add_hello(struct script *s)
{
	struct sosie_message m = {.type = SOSIE_MSG_HELLO, .request = 1};
	m.hello.lowest = m.hello.highest = SOSIE_PROTOCOL_VERSION;
	m.hello.capabilities = 7;
	script_message(s, &m);
}

static unsigned inbox_names(struct bench *b)
{
	return sosie_io_exists(b->io, "/s/acme/_inbox/erp") ? bench_names_in(b, "/s/acme/_inbox/erp") : 0;
}

/* --- time -------------------------------------------------------------------------------------------------
 */

/* Silence after each frame of a session: its end is the receiver's own limit. */
static void test_silence_after_any_frame_ends_the_session(void **state)
{
	struct bench *b = bench_new(BENCH_CAPACITY, 0);
	struct recording r = {.point = 0};
	struct script s = {.len = 0};
	(void)state;
	record(b, &r);
	for (unsigned frames = 0; frames < r.frames.count - 1; frames++) {
		struct play p = {.b = b, .script = &s, .recorded = &r.id, .end = PLAY_SILENT};
		script_clear(&s);
		for (unsigned i = 0; i < frames; i++) {
			size_t len;
			const uint8_t *bytes = script_piece(&r.frames, i, &len);
			script_add(&s, bytes, len);
		}
		play(&p);
		assert_int_equal(p.rc, -SOSIE_ETIMEOUT);
		assert_in_range(p.took_ms, frames ? 300000 : 30000, frames ? 340000 : 31000);
		if (after_session(b, &r))
			record(b, &r);
	}
	bench_intact(b);
	free(s.bytes);
	recording_free(&r);
	bench_free(b);
}

/* A byte a second: a frame has its limit as a whole. */
static void test_dripping_bytes_do_not_stretch_the_limit(void **state)
{
	struct bench *b = bench_new(BENCH_CAPACITY, 0);
	struct recording r = {.point = 0};
	struct play p = {.b = b, .recorded = &r.id, .end = PLAY_SLOW};
	struct play q;
	struct script hello = {.len = 0};
	(void)state;
	record(b, &r);
	p.script = &r.frames;
	q = p;
	play(&p); /* hello of some 40 bytes takes longer than its 30 s */
	assert_int_equal(p.rc, -SOSIE_ETIMEOUT);
	assert_in_range(p.took_ms, 30000, 32000);
	add_hello(&hello);
	hello.bytes[0] = 200; /* a payload that does not come */
	q.script = &hello;
	play(&q);
	assert_int_equal(q.rc, -SOSIE_ETIMEOUT);
	assert_in_range(q.took_ms, 30000, 32000);
	bench_intact(b);
	free(hello.bytes);
	recording_free(&r);
	bench_free(b);
}

/* Half a segment and nothing more, often: the oldest go, and nothing of them is left in the end. */
static void test_uploads_begun_and_left_are_bounded(void **state)
{
	const unsigned rounds = test_rounds_least(60, 1000);
	struct bench *b = bench_new(BENCH_CAPACITY, 0);
	struct recording r = {.point = 0};
	struct script s = {.len = 0};
	unsigned most = 0;
	(void)state;
	record(b, &r);
	for (unsigned i = 0; i < r.frames.count && i < 5; i++) { /* up to the first of the data */
		size_t len;
		const uint8_t *bytes = script_piece(&r.frames, i, &len);
		script_add(&s, bytes, len);
	}
	for (unsigned i = 0; i < rounds; i++) {
		struct play p = {.b = b, .script = &s, .recorded = &r.id};
		play(&p);
		bench_keep(b, ERP);
		most = inbox_names(b) > most ? inbox_names(b) : most;
	}
	print_message("%u uploads left half: at most %u names in the inbox\n", rounds, most);
	assert_in_range(most, 3 * KEEPER_UPLOADS, 3 * KEEPER_UPLOADS + 8);
	bench_intact(b);
	free(s.bytes);
	recording_free(&r);
	bench_free(b);
}

/* --- length -----------------------------------------------------------------------------------------------
 */

static void add_endless(struct script *s, const struct recording *r)
{
	static uint8_t much[100u << 10];
	struct sosie_message m = {.type = SOSIE_MSG_DATA, .request = 9};
	for (unsigned i = 0; i < 4; i++) { /* hello, head, begin, part */
		size_t len;
		const uint8_t *bytes = script_piece(&r->frames, i, &len);
		script_add(s, bytes, len);
	}
	memset(much, 0x55, sizeof(much));
	m.data.bytes = much;
	m.data.len = sizeof(much);
	script_message(s, &m);
}

static uint64_t bytes_free(struct bench *b)
{
	uint64_t left, total;
	OK(b, sosie_io_space(b->io, "/s", &left, &total, &b->err));
	return left;
}

static void endless(uint64_t quota, uint64_t capacity, const char *code)
{
	struct bench *b = bench_new(capacity, quota);
	struct recording r = {.point = 0};
	struct script s = {.len = 0};
	uint64_t before = bytes_free(b), least;
	uint8_t *noise = bench_noise(5, BENCH_LARGE);
	prepare(b, &r, &(struct change){0, 0, BENCH_LARGE, noise}, 1); /* larger than what may be left */
	free(noise);
	record_session(b, &r);
	wipe(b, "/s/acme/_inbox/erp");
	add_endless(&s, &r);
	struct play p = {.b = b, .script = &s, .recorded = &r.id, .end = PLAY_ENDLESS, .repeat = 1000};
	play(&p);
	least = bytes_free(b);
	assert_int_equal(p.errors, 1);
	assert_int_equal(strncmp(p.what, code, strlen(code)), 0);
	print_message("endless: %s; of %llu KiB free %llu were left\n", p.what,
	              (unsigned long long)before / 1024, (unsigned long long)least / 1024);
	if (quota)
		assert_true(before - least <= quota);
	bench_keep(b, ERP);
	/* What was left gives way to the honest sender's next upload, at its first try. */
	struct play honest = {.b = b, .script = &r.frames, .recorded = &r.id};
	play(&honest);
	if (honest.errors)
		fail_msg("the honest sender is told %s", honest.what);
	assert_true(after_session(b, &r));
	assert_true(bytes_free(b) + MIB >= before);
	bench_intact(b);
	free(s.bytes);
	recording_free(&r);
	bench_free(b);
}

static void test_data_without_end_stops_at_the_quota(void **state)
{
	(void)state;
	endless(16 * MIB, BENCH_CAPACITY, "quota");
}

static void test_data_without_end_on_a_full_disk_leaves_room_again(void **state)
{
	(void)state;
	endless(0, 48 * MIB, "no-space");
}

/* --- two at once ------------------------------------------------------------------------------------------
 */

/* What one sender does with an upload, step by step, at the inbox itself: sessions end when they like. */
struct sender {
	struct sosie_io *io;
	struct sosie_inbox *in;
	struct sosie_upload_id id;
	bool begun, sent;
	int commit; /* its result */
	uint32_t index;
	const struct recording *r;
};
#define STEPS 5u

static void sender_open(struct bench *b, struct sender *s, const struct recording *r)
{
	memset(s, 0, sizeof(*s));
	s->r = r;
	OK(b, sosie_io_sim(b->disk, &s->io, &b->err));
	OK(b, sosie_inbox_open(s->io, &b->clock.clock, "/s", "acme", b->keys[0], &s->in, &b->err));
}

static void sender_close(struct sender *s)
{
	sosie_inbox_close(s->in);
	sosie_io_free(s->io);
}

/* A step that is refused is only a step that was not made. */
static void sender_step(struct sender *s, const struct sosie_upload_id *other, unsigned step)
{
	static const struct sosie_name group = {"erp"};
	const struct recording *r = s->r;
	switch (step) {
	case 0:
		if (other)
			s->id = *other;
		else
			(void)sosie_inbox_begin(s->in, &group, SOSIE_MANIFEST_SEGMENT, &s->id, NULL);
		s->begun = true;
		break;
	case 1:
		(void)sosie_inbox_part(s->in, &group, &s->id, s->index, NULL);
		break;
	case 2:
		(void)sosie_inbox_data(s->in, r->part, r->part_len, NULL);
		break;
	case 3:
		(void)sosie_inbox_part_end(s->in, NULL);
		break;
	default:
		s->commit = sosie_inbox_commit(s->in, &group, &s->id, r->manifest, r->manifest_len, NULL);
		break;
	}
}

/* Bit i of `order`: whose the i-th step is. False: not five of each. */
static bool interleave(struct bench *b, unsigned order, bool one_upload, struct recording *r)
{
	struct sender s[2];
	unsigned done[2] = {0, 0};
	if (__builtin_popcount(order) != (int)STEPS)
		return false;
	sender_open(b, &s[0], r);
	sender_open(b, &s[1], r);
	for (unsigned i = 0; i < 2 * STEPS; i++) {
		const unsigned who = order >> i & 1;
		const bool joins = one_upload && s[1 - who].begun;
		sender_step(&s[who], joins ? &s[1 - who].id : NULL, done[who]++);
	}
	sender_close(&s[0]);
	sender_close(&s[1]);
	return true;
}

static void all_interleavings(bool one_upload)
{
	struct bench *b = bench_new(BENCH_CAPACITY, 0);
	struct recording r = {.point = 0};
	unsigned played = 0, points = 0;
	const unsigned stride = test_stride(3, 10);
	record(b, &r);
	for (unsigned order = 0; order < 1u << 2 * STEPS; order++) {
		if (order % stride || !interleave(b, order, one_upload, &r))
			continue;
		played++;
		if (after_session(b, &r)) {
			points++;
			record(b, &r);
		}
		/* The other's upload came too late, or was the same: never a point more. */
		bench_keep(b, ERP);
	}
	print_message("%s: %u orders of the steps, %u points\n", one_upload ? "one upload" : "one group",
	              played, points);
	assert_true(played >= 5 && points > 0);
	bench_intact(b);
	recording_free(&r);
	bench_free(b);
}

static void test_two_senders_of_one_upload_in_every_order(void **state)
{
	(void)state;
	all_interleavings(true);
}

static void test_two_senders_of_one_group_in_every_order(void **state)
{
	(void)state;
	all_interleavings(false);
}

/* --- keys -------------------------------------------------------------------------------------------------
 */

static void test_key_of_another_tenant_opens_nothing(void **state)
{
	static const char *const keys[] = {"", "..", "../../beta/_keys/x", "0000000000000000",
	                                   "ABCDEF0123456789"};
	static const char *const tenants[] = {"..", "beta/../acme", "_keys", "", "acme/erp", "nobody"};
	struct bench *b = bench_new(BENCH_CAPACITY, 0);
	struct sosie_inbox *in;
	(void)state;
	int rc = sosie_inbox_open(b->io, &b->clock.clock, "/s", "acme", b->keys[1], &in, &b->err);
	assert_int_equal(rc, -SOSIE_EAUTH);
	rc = sosie_inbox_open(b->io, &b->clock.clock, "/s", "beta", b->keys[0], &in, &b->err);
	assert_int_equal(rc, -SOSIE_EAUTH);
	for (unsigned i = 0; i < sizeof(keys) / sizeof(*keys); i++)
		assert_true(sosie_inbox_open(b->io, &b->clock.clock, "/s", "acme", keys[i], &in, &b->err) <
		            0);
	for (unsigned i = 0; i < sizeof(tenants) / sizeof(*tenants); i++)
		assert_true(sosie_inbox_open(b->io, &b->clock.clock, "/s", tenants[i], b->keys[0], &in,
		                             &b->err) < 0);
	bench_intact(b);
	bench_free(b);
}

/* --- floods -----------------------------------------------------------------------------------------------
 */

struct due {
	struct bench *b;
	unsigned groups;
	uint64_t most;
};

static int keep_one(void *arg, const struct sosie_name *name)
{
	struct due *d = arg;
	struct sosie_accept_result r;
	uint64_t calls = counted.calls;
	OK(d->b, sosie_keeper_accept(d->b->store, "acme", name->s, &r, &d->b->err));
	d->groups++;
	d->most = counted.calls - calls > d->most ? counted.calls - calls : d->most;
	return 0;
}

/* Ten thousand names of groups: as many folders as the receiver allows, each a bounded piece of the keeper's
 * work, and none of anybody else's. */
static void test_flood_of_groups_is_bounded(void **state)
{
	const unsigned groups = test_rounds_least(1200, 10000);
	struct bench *b = bench_new(BENCH_CAPACITY, 0);
	struct script s = {.len = 0};
	struct due due = {.b = b};
	unsigned refused = 0;
	(void)state;
	for (unsigned i = 0; i < groups;) {
		script_clear(&s);
		add_hello(&s);
		for (unsigned k = 0; k < PIECES - 2 && i < groups; k++, i++) {
			char name[32];
			snprintf(name, sizeof(name), "flood-%u", i);
			struct sosie_message m = begin_of(name);
			script_message(&s, &m);
		}
		struct play p = {.b = b, .script = &s};
		play(&p);
		refused += p.errors;
	}
	uint64_t calls = counted.calls;
	bench_honest(b, WEB);
	calls = counted.calls - calls;
	bench_unchanged_but(b, WEB);
	OK(b, sosie_keeper_due(b->store, "acme", keep_one, &due, &b->err));
	print_message("%u groups asked for, %u refused, %u for the keeper, each at most %llu calls\n", groups,
	              refused, due.groups, (unsigned long long)due.most);
	assert_in_range(due.groups, 900, 1024);
	assert_int_equal(refused, groups - due.groups);
	assert_true(due.most < 200);
	uint64_t again = counted.calls;
	bench_honest(b, WEB);
	again = counted.calls - again;
	assert_in_range(again, calls - 20, calls + 20);
	bench_intact_but(b, WEB);
	free(s.bytes);
	bench_free(b);
}

struct tally {
	unsigned verdicts, others;
};

static int tally_one(void *arg, const char *name, enum sosie_file_kind kind)
{
	struct tally *t = arg;
	(void)kind;
	if (strstr(name, ".verdict"))
		t->verdicts++;
	else
		t->others++;
	return 0;
}

/* Refused uploads, one by one and all at once: verdicts and the list of refusals keep their size. */
static void test_flood_of_refusals_is_bounded(void **state)
{
	const unsigned rounds = test_rounds_least(300, 3000);
	struct bench *b = bench_new(BENCH_CAPACITY, 0);
	struct tally t = {0, 0};
	char *text;
	size_t len;
	unsigned lines = 0;
	(void)state;
	for (unsigned i = 0; i < rounds; i++) {
		struct sosie_upload_id id;
		char manifest[700];
		OK(b, sosie_random(&b->clock.clock, id.b, sizeof(id.b), &b->err));
		memset(manifest, 1 + (int)(i % 255), sizeof(manifest));
		forge_put(b, "erp", &id, "manifest", manifest, sizeof(manifest));
		if (i % 7 == 0)
			bench_keep(b, ERP);
	}
	bench_keep(b, ERP);
	OK(b, sosie_io_list(b->io, "/s/acme/_outbox/erp", tally_one, &t, &b->err));
	assert_int_equal(t.verdicts, STORE_VERDICTS_KEPT);
	assert_int_equal(t.others, 1); /* head */
	OK(b, sosie_io_read_file(b->io, "/s/acme/erp/state/refusals", MIB, &text, &len, &b->err));
	for (size_t i = 0; i < len; i++) {
		lines += text[i] == '\n';
		assert_true(text[i] == '\n' || (text[i] >= ' ' && text[i] <= '~'));
	}
	free(text);
	print_message("%u refused: %u verdicts kept, %u lines of %zu bytes\n", rounds, t.verdicts, lines,
	              len);
	assert_int_equal(lines, STORE_REFUSALS_KEPT);
	assert_int_equal(inbox_names(b), 0);
	bench_intact(b);
	bench_free(b);
}

/* Hundreds of committed uploads of one group: the keeper takes sixteen, and others have their turn. */
static void test_flood_of_commits_lets_others_in_between(void **state)
{
	const unsigned uploads = 200;
	struct bench *b = bench_new(BENCH_CAPACITY, 0);
	unsigned refused = 0, rounds = 0;
	bool more = true;
	(void)state;
	for (unsigned i = 0; i < uploads; i++) {
		struct sosie_upload_id id;
		OK(b, sosie_random(&b->clock.clock, id.b, sizeof(id.b), &b->err));
		forge_put(b, "erp", &id, "manifest", "{}", 2);
	}
	for (; more; rounds++) {
		struct sosie_accept_result r = bench_keep(b, ERP);
		assert_in_range(r.refused, 1, 16);
		refused += r.refused;
		more = r.more;
		bench_honest(b, WEB);
	}
	print_message("%u uploads in %u rounds\n", refused, rounds);
	assert_int_equal(refused, uploads);
	assert_int_equal(rounds, (uploads + 15) / 16);
	bench_intact_but(b, WEB);
	bench_free(b);
}

/* Points of nothing at all: each is one, as honest ones are, and the hundredth costs what the first did. */
/* Calls, bytes, and names that folders told, of a hundred acceptances. */
struct cost {
	uint64_t calls, bytes, names;
};

static void tiny_point(struct bench *b, unsigned i, struct cost *sum)
{
	struct make_upload u = bench_upload(b, ERP, &b->now[ERP], NULL, 0);
	make_upload(&u);
	const uint64_t calls = counted.calls, bytes = counted.bytes, names = counted.names;
	bench_accepted(b, ERP, BENCH_KEPT + 1 + i);
	if (sum) {
		sum->calls += counted.calls - calls;
		sum->bytes += counted.bytes - bytes;
		sum->names += counted.names - names;
	}
}

/* The thousandth point after a generation makes another: none of those that are compared does. */
static void test_flood_of_tiny_points_costs_the_same_each(void **state)
{
	const unsigned points = test_rounds(2000, 6000);
	struct bench *b = bench_new(1ull << 30, 0);
	struct cost first = {0}, last = {0};
	(void)state;
	for (unsigned i = 0; i < points; i++)
		tiny_point(b, i,
		           i >= 100 && i < 200                     ? &first
		           : i >= points - 200 && i < points - 100 ? &last
		                                                   : NULL);
	print_message("%u tiny points: %llu calls each at first, %llu at last; %llu and %llu bytes moved, "
	              "%llu and %llu names read\n",
	              points, (unsigned long long)first.calls / 100, (unsigned long long)last.calls / 100,
	              (unsigned long long)first.bytes / 100, (unsigned long long)last.bytes / 100,
	              (unsigned long long)first.names / 100, (unsigned long long)last.names / 100);
	assert_true(last.calls / 100 <= first.calls / 100 + 2);
	assert_true(last.names / 100 <= first.names / 100 + 2);
	assert_true(last.bytes / 100 <= first.bytes / 100 + 64); /* numbers have more digits */
	bench_intact(b);
	bench_free(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_silence_after_any_frame_ends_the_session),
	        cmocka_unit_test(test_dripping_bytes_do_not_stretch_the_limit),
	        cmocka_unit_test(test_uploads_begun_and_left_are_bounded),
	        cmocka_unit_test(test_data_without_end_stops_at_the_quota),
	        cmocka_unit_test(test_data_without_end_on_a_full_disk_leaves_room_again),
	        cmocka_unit_test(test_two_senders_of_one_upload_in_every_order),
	        cmocka_unit_test(test_two_senders_of_one_group_in_every_order),
	        cmocka_unit_test(test_key_of_another_tenant_opens_nothing),
	        cmocka_unit_test(test_flood_of_groups_is_bounded),
	        cmocka_unit_test(test_flood_of_refusals_is_bounded),
	        cmocka_unit_test(test_flood_of_commits_lets_others_in_between),
	        cmocka_unit_test(test_flood_of_tiny_points_costs_the_same_each),
	};
	printf("seed %u\n", SEED);
	return cmocka_run_group_tests_name("hostile receivers", tests, NULL, NULL);
}

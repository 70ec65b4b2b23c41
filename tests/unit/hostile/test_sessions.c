/* SPDX-License-Identifier: MIT */
/*
 * A whole honest session, recorded, and everything that can be done to it on the wire: frames left out,
 * doubled, swapped, put in, cut at each byte; every number and every name in every message replaced. Whatever
 * the receiver and the keeper make of it is nothing at all or the honest point.
 */
#include "tests/support/sample_message.h"
#include "tests/unit/hostile/wire.h"

/* --- the engine: a mutation is a function of its number ---------------------------------------------------
 */

struct mutated {
	struct script script;
	char name[96];
};
enum mutation { MUTATION_DONE, MUTATION_NONE, MUTATION_END }; /* none: it would change nothing */
typedef enum mutation (*mutate_fn)(const struct recording *r, unsigned n, struct mutated *out);

static void expect_differs(const struct recording *r, const struct mutated *m)
{
	if (m->script.len == r->frames.len && memcmp(m->script.bytes, r->frames.bytes, m->script.len) == 0)
		fail_msg("%s: the mutation changes nothing", m->name);
}

/* Plays every mutation; the world goes on from one to the next, and is looked at whole at the end. */
static void play_all(const char *title, mutate_fn mutate, unsigned stride, unsigned least)
{
	struct bench *b = bench_new(BENCH_CAPACITY, 0);
	struct recording r = {.point = 0};
	struct mutated m = {.name = ""};
	unsigned played = 0, points = 0, errors = 0;
	enum mutation what;
	record(b, &r);
	for (unsigned n = 0; (what = mutate(&r, n, &m)) != MUTATION_END; n += stride) {
		if (what == MUTATION_DONE) {
			struct play p = {.b = b, .script = &m.script, .recorded = &r.id};
			expect_differs(&r, &m);
			play(&p);
			played++;
			errors += p.errors;
			if (after_session(b, &r)) {
				points++;
				record(b, &r);
			}
		}
		script_clear(&m.script);
	}
	print_message("%s: %u mutations, %u errors told, %u times the honest point\n", title, played, errors,
	              points);
	assert_true(played >= least && (errors > 0 || points > 0));
	bench_intact(b);
	free(m.script.bytes);
	recording_free(&r);
	bench_free(b);
}

static void copy_frames(const struct recording *r, unsigned from, unsigned to, struct script *out)
{
	for (unsigned i = from; i < to; i++) {
		size_t len;
		const uint8_t *bytes = script_piece(&r->frames, i, &len);
		script_add(out, bytes, len);
	}
}

static enum sosie_message_type type_of(const struct recording *r, unsigned frame)
{
	size_t len;
	return (enum sosie_message_type)script_piece(&r->frames, frame, &len)[4];
}

static void name_it(struct mutated *m, const char *what, const struct recording *r, unsigned frame)
{
	snprintf(m->name, sizeof(m->name), "%s %s (frame %u)", what, sosie_message_name(type_of(r, frame)),
	         frame);
}

/* --- frames -----------------------------------------------------------------------------------------------
 */

static enum mutation drop_frame(const struct recording *r, unsigned n, struct mutated *m)
{
	if (n == r->frames.count)
		return MUTATION_END;
	name_it(m, "without", r, n);
	copy_frames(r, 0, n, &m->script);
	copy_frames(r, n + 1, r->frames.count, &m->script);
	return MUTATION_DONE;
}

static enum mutation double_frame(const struct recording *r, unsigned n, struct mutated *m)
{
	if (n == r->frames.count)
		return MUTATION_END;
	name_it(m, "twice", r, n);
	copy_frames(r, 0, n + 1, &m->script);
	copy_frames(r, n, r->frames.count, &m->script);
	return MUTATION_DONE;
}

static enum mutation swap_frames(const struct recording *r, unsigned n, struct mutated *m)
{
	if (n + 1 == r->frames.count)
		return MUTATION_END;
	name_it(m, "behind its neighbour", r, n);
	copy_frames(r, 0, n, &m->script);
	copy_frames(r, n + 1, n + 2, &m->script);
	copy_frames(r, n, n + 1, &m->script);
	copy_frames(r, n + 2, r->frames.count, &m->script);
	return MUTATION_DONE;
}

/* Each pair of frames, not only neighbours. */
static enum mutation move_frame(const struct recording *r, unsigned n, struct mutated *m)
{
	const unsigned count = r->frames.count, from = n / count, to = n % count;
	if (from >= count)
		return MUTATION_END;
	if (to <= from + 1)
		return MUTATION_NONE;
	name_it(m, "late", r, from);
	copy_frames(r, 0, from, &m->script);
	copy_frames(r, from + 1, to, &m->script);
	copy_frames(r, from, from + 1, &m->script);
	copy_frames(r, to, count, &m->script);
	return MUTATION_DONE;
}

static enum mutation cut_at_byte(const struct recording *r, unsigned n, struct mutated *m)
{
	unsigned frame = 0;
	size_t len;
	if (n >= r->frames.len)
		return MUTATION_END;
	while (r->frames.ends[frame] <= n)
		frame++;
	name_it(m, "cut in", r, frame);
	copy_frames(r, 0, frame, &m->script);
	const uint8_t *bytes = script_piece(&r->frames, frame, &len);
	script_add(&m->script, bytes, len - (r->frames.ends[frame] - n));
	return MUTATION_DONE;
}

/* Every type, those that only receivers send among them, and numbers that are none, before every frame. */
static enum mutation insert_type(const struct recording *r, unsigned n, struct mutated *m)
{
	const unsigned type = n / (r->frames.count + 1) + 1, at = n % (r->frames.count + 1);
	struct sosie_message sample;
	if (type > SOSIE_MSG_BYE)
		return MUTATION_END;
	sample_message((enum sosie_message_type)type, &sample);
	snprintf(m->name, sizeof(m->name), "%s put in at %u", sosie_message_name(sample.type), at);
	copy_frames(r, 0, at, &m->script);
	script_message(&m->script, &sample);
	copy_frames(r, at, r->frames.count, &m->script);
	return MUTATION_DONE;
}

/* --- numbers ----------------------------------------------------------------------------------------------
 */

/* A field of a frame: its header's, or of a payload. Offsets count behind the group's name where there is
 * one. */
static const struct field {
	const char *name;
	unsigned type; /* 0: the header of any */
	bool after_group;
	unsigned offset, width;
	uint64_t max; /* the largest that is allowed */
} fields[] = {
        {"frame length", 0, false, 0, 4, SOSIE_FRAME_MAX},
        {"frame type", 0, false, 4, 2, SOSIE_MSG_BYE},
        {"frame zero", 0, false, 6, 2, 0},
        {"request", 0, false, 8, 4, UINT32_MAX},
        {"hello lowest", SOSIE_MSG_HELLO, false, 0, 2, 1},
        {"hello highest", SOSIE_MSG_HELLO, false, 2, 2, 1},
        {"hello capabilities", SOSIE_MSG_HELLO, false, 4, 8, 7},
        {"hello software length", SOSIE_MSG_HELLO, false, 12, 4, 63},
        {"head group length", SOSIE_MSG_HEAD, false, 0, 4, 63},
        {"begin group length", SOSIE_MSG_BEGIN, false, 0, 4, 63},
        {"begin kind", SOSIE_MSG_BEGIN, true, 0, 1, 2},
        {"begin parent", SOSIE_MSG_BEGIN, true, 1, 8, 0},
        {"begin epoch", SOSIE_MSG_BEGIN, true, 33, 8, INT64_MAX},
        {"part group length", SOSIE_MSG_PART, false, 0, 4, 63},
        {"part id", SOSIE_MSG_PART, true, 0, 8, 0},
        {"part index", SOSIE_MSG_PART, true, 16, 4, SOSIE_PARTS_MAX - 1},
        {"data bytes", SOSIE_MSG_DATA, false, 0, 8, 0},
        {"part-end length", SOSIE_MSG_PART_END, false, 0, 8, 1u << 20},
        {"join group length", SOSIE_MSG_JOIN, false, 0, 4, 63},
        {"join id", SOSIE_MSG_JOIN, true, 0, 8, 0},
        {"commit group length", SOSIE_MSG_COMMIT, false, 0, 4, 63},
        {"commit id", SOSIE_MSG_COMMIT, true, 0, 8, 0},
        {"commit manifest length", SOSIE_MSG_COMMIT, true, 16, 4, SOSIE_MANIFEST_MAX},
        {"wait group length", SOSIE_MSG_WAIT, false, 0, 4, 63},
        {"wait id", SOSIE_MSG_WAIT, true, 0, 8, 0},
        {"wait ms", SOSIE_MSG_WAIT, true, 16, 4, SOSIE_WAIT_MAX_MS},
        {"same length", SOSIE_MSG_SAME, false, 0, 4, SOSIE_SAME_MAX},
};
#define FIELDS (sizeof(fields) / sizeof(*fields))
#define VALUES 9u

static uint64_t value_of(const struct field *f, unsigned i)
{
	const uint64_t values[VALUES] = {0,          1,          f->max - 1, f->max,    f->max + 1,
	                                 1ull << 31, UINT32_MAX, 1ull << 63, UINT64_MAX};
	return values[i];
}

/* n counts frames, fields and values; fields that the frame does not have, and values that it has, are none.
 */
static enum mutation set_field(const struct recording *r, unsigned n, struct mutated *m)
{
	const struct field *f = &fields[n / VALUES % FIELDS];
	const unsigned frame = n / (VALUES * FIELDS);
	uint64_t value = value_of(f, n % VALUES);
	uint8_t bytes[4096];
	size_t len;
	if (frame == r->frames.count)
		return MUTATION_END;
	const uint8_t *honest = script_piece(&r->frames, frame, &len);
	assert_true(len < sizeof(bytes));
	memcpy(bytes, honest, len);
	if (f->type && f->type != bytes[4])
		return MUTATION_NONE;
	size_t at = f->offset + (f->type ? SOSIE_FRAME_HEADER : 0);
	at += f->after_group ? 4u + bytes[SOSIE_FRAME_HEADER] : 0;
	assert_true(at + f->width <= len);
	for (unsigned i = 0; i < f->width; i++)
		bytes[at + i] = (uint8_t)(value >> 8 * i);
	if (memcmp(bytes, honest, len) == 0)
		return MUTATION_NONE;
	snprintf(m->name, sizeof(m->name), "%s = %llu", f->name, (unsigned long long)value);
	copy_frames(r, 0, frame, &m->script);
	script_add(&m->script, bytes, len);
	copy_frames(r, frame + 1, r->frames.count, &m->script);
	return MUTATION_DONE;
}

/* --- names ------------------------------------------------------------------------------------------------
 */

static const struct {
	const char *bytes;
	size_t len; /* 0: strlen */
} bad_names[] = {
        {"", 0},
        {".", 0},
        {"..", 0},
        {"../crm", 0},
        {"../../beta/web", 0},
        {"/", 0},
        {"/etc/passwd", 0},
        {"erp/../crm", 0},
        {"erp/", 0},
        {"erp\0x", 5},
        {"\0", 1},
        {"_inbox", 0},
        {"_outbox", 0},
        {"_keys", 0},
        {"-rf", 0},
        {".hidden", 0},
        {"erp\n", 0},
        {"\x1b[2J", 0},
        {"\x7f", 0},
        {"caf\xc3\xa9", 0},
        {"\xff\xfe", 0},
        {"\xe2\x80\xae", 0},
        {"e rp", 0},
        {"erp.lock", 0},
        {"$(id)", 0},
        {"%s%n", 0},
        {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 0}, /* 64 */
};
#define BAD_NAMES (sizeof(bad_names) / sizeof(*bad_names))
#define LONG_NAMES 3u /* of 255, 256 and 65,536 bytes */

static const char *bad_name(unsigned i, size_t *len)
{
	static char longer[65536];
	static const size_t lengths[LONG_NAMES] = {255, 256, sizeof(longer)};
	if (i < BAD_NAMES) {
		*len = bad_names[i].len ? bad_names[i].len : strlen(bad_names[i].bytes);
		return bad_names[i].bytes;
	}
	memset(longer, 'a', sizeof(longer));
	*len = lengths[i - BAD_NAMES];
	return longer;
}

/* The frame with its first string replaced; where that is stands in front of it. */
static void replace_string(struct script *out, const uint8_t *frame, size_t len, size_t at, const char *name,
                           size_t name_len)
{
	static uint8_t bytes[1u << 18];
	struct sosie_writer w;
	const size_t old = frame[at], rest = at + 4 + old;
	sosie_writer_init(&w, bytes, sizeof(bytes));
	sosie_put_u32(&w, (uint32_t)(len - SOSIE_FRAME_HEADER - old + name_len));
	sosie_put_bytes(&w, frame + 4, at - 4);
	sosie_put_u32(&w, (uint32_t)name_len);
	sosie_put_bytes(&w, name, name_len);
	sosie_put_bytes(&w, frame + rest, len - rest);
	assert_false(w.failed);
	script_add(out, bytes, w.len);
}

static enum mutation set_name(const struct recording *r, unsigned n, struct mutated *m)
{
	static const unsigned with_group = 1u << SOSIE_MSG_HEAD | 1u << SOSIE_MSG_BEGIN |
	                                   1u << SOSIE_MSG_JOIN | 1u << SOSIE_MSG_PART |
	                                   1u << SOSIE_MSG_COMMIT | 1u << SOSIE_MSG_WAIT;
	const unsigned names = BAD_NAMES + LONG_NAMES, frame = n / names;
	size_t len, name_len;
	if (frame == r->frames.count)
		return MUTATION_END;
	const uint8_t *bytes = script_piece(&r->frames, frame, &len);
	const bool hello = bytes[4] == SOSIE_MSG_HELLO;
	if (!hello && !(with_group & 1u << bytes[4]))
		return MUTATION_NONE;
	const char *name = bad_name(n % names, &name_len);
	snprintf(m->name, sizeof(m->name), "name %u in frame %u", n % names, frame);
	copy_frames(r, 0, frame, &m->script);
	replace_string(&m->script, bytes, len, SOSIE_FRAME_HEADER + (hello ? 12u : 0u), name, name_len);
	copy_frames(r, frame + 1, r->frames.count, &m->script);
	return MUTATION_DONE;
}

/* --- tests ------------------------------------------------------------------------------------------------
 */

/* The engine itself: unchanged frames make the honest point. */
static void test_recording_played_as_it_is_makes_its_point(void **state)
{
	struct bench *b = bench_new(BENCH_CAPACITY, 0);
	struct recording r = {.point = 0};
	(void)state;
	record(b, &r);
	struct play p = {.b = b, .script = &r.frames, .recorded = &r.id};
	play(&p);
	assert_int_equal(p.rc, 0);
	assert_int_equal(p.errors, 0);
	assert_true(after_session(b, &r));
	bench_intact(b);
	recording_free(&r);
	bench_free(b);
}

static void test_frame_left_out_is_withstood(void **state)
{
	(void)state;
	play_all("left out", drop_frame, 1, 13);
}

static void test_frame_doubled_is_withstood(void **state)
{
	(void)state;
	play_all("doubled", double_frame, 1, 13);
}

static void test_frames_swapped_are_withstood(void **state)
{
	(void)state;
	play_all("swapped", swap_frames, 1, 12);
}

static void test_frame_moved_anywhere_is_withstood(void **state)
{
	(void)state;
	play_all("moved", move_frame, 1, 60);
}

static void test_session_cut_at_each_byte_is_withstood(void **state)
{
	(void)state;
	play_all("cut", cut_at_byte, test_stride(3, 16), 60);
}

static void test_every_type_anywhere_is_withstood(void **state)
{
	(void)state;
	play_all("put in", insert_type, test_stride(1, 4), 70);
}

static void test_every_number_of_every_message_is_withstood(void **state)
{
	(void)state;
	play_all("numbers", set_field, 1, 350);
}

static void test_every_name_of_every_message_is_withstood(void **state)
{
	(void)state;
	play_all("names", set_name, 1, 200);
}

/* Not only survived: what is no request at all ends the session there and then. `put_in` before each frame
 * but the first. */
static void expect_end(struct bench *b, struct recording *r, const void *put_in, size_t len, const char *name)
{
	struct script s = {.len = 0};
	for (unsigned at = 1; at < r->frames.count; at++) {
		struct play p = {.b = b, .script = &s, .recorded = &r->id};
		script_clear(&s);
		copy_frames(r, 0, at, &s);
		script_add(&s, put_in, len);
		copy_frames(r, at, r->frames.count, &s);
		play(&p);
		if (p.rc != -SOSIE_EPROTO || p.errors != 1)
			fail_msg("%s before frame %u: %d, %u errors", name, at, p.rc, p.errors);
		assert_int_equal(strncmp(p.what, "protocol", 8), 0);
		if (after_session(b, r))
			record(b, r);
	}
	free(s.bytes);
}

static void test_what_is_no_request_ends_the_session(void **state)
{
	static const enum sosie_message_type answers[] = {
	        SOSIE_MSG_WELCOME, SOSIE_MSG_STATEMENT, SOSIE_MSG_UPLOAD, SOSIE_MSG_OK,    SOSIE_MSG_ACK,
	        SOSIE_MSG_DURABLE, SOSIE_MSG_VERDICT,   SOSIE_MSG_BYTES,  SOSIE_MSG_ERROR, SOSIE_MSG_HELLO,
	};
	static const uint8_t headers[][SOSIE_FRAME_HEADER] = {
	        {0, 0, 0, 0, SOSIE_MSG_PING, 0, 0, 0, 0, 0, 0, 0},             /* request 0 */
	        {0, 0, 0, 0, SOSIE_MSG_PING, 0, 1, 0, 7, 0, 0, 0},             /* the zero field */
	        {0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0},                          /* type 0 */
	        {0, 0, 0, 0, SOSIE_MSG_BYE + 1, 0, 0, 0, 7, 0, 0, 0},          /* the first that is none */
	        {0, 0, 0, 0, 0xff, 0xff, 0, 0, 7, 0, 0, 0},                    /* the last */
	        {1, 0, 0x14, 0, SOSIE_MSG_DATA, 0, 0, 0, 7, 0, 0, 0},          /* a byte too long */
	        {0xff, 0xff, 0xff, 0xff, SOSIE_MSG_DATA, 0, 0, 0, 7, 0, 0, 0}, /* 4 GiB */
	};
	struct bench *b = bench_new(BENCH_CAPACITY, 0);
	struct recording r = {.point = 0};
	struct script one = {.len = 0};
	unsigned ran = 0;
	(void)state;
	record(b, &r);
	for (unsigned i = 0; i < sizeof(headers) / sizeof(*headers); i++, ran++)
		expect_end(b, &r, headers[i], SOSIE_FRAME_HEADER, "a header");
	for (unsigned i = 0; i < sizeof(answers) / sizeof(*answers); i++, ran++) {
		struct sosie_message m;
		sample_message(answers[i], &m);
		script_clear(&one);
		script_message(&one, &m);
		expect_end(b, &r, one.bytes, one.len, sosie_message_name(answers[i]));
	}
	print_message("no requests: %u, each before every frame\n", ran);
	bench_intact(b);
	free(one.bytes);
	recording_free(&r);
	bench_free(b);
}

/* What was recorded, again and again, also when its point is not the newest any more: never a point more. */
static void test_replayed_session_makes_no_second_point(void **state)
{
	struct bench *b = bench_new(BENCH_CAPACITY, 0);
	struct recording r = {.point = 0};
	(void)state;
	record(b, &r);
	for (unsigned i = 0; i < 6; i++) {
		struct play p = {.b = b, .script = &r.frames, .recorded = &r.id};
		uint64_t before = bench_head(b, ERP, NULL);
		play(&p);
		assert_int_equal(p.errors, 0);
		bench_keep(b, ERP);
		assert_int_equal(bench_head(b, ERP, NULL), before + (i == 0));
		if (i == 0) {
			model_fini(&b->now[ERP]);
			model_copy(&b->now[ERP], &r.next);
		}
		if (i == 2)
			bench_honest(b, ERP);
	}
	bench_equal_point(b, ERP, BENCH_KEPT + 1, &r.next);
	bench_intact(b);
	recording_free(&r);
	bench_free(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_recording_played_as_it_is_makes_its_point),
	        cmocka_unit_test(test_frame_left_out_is_withstood),
	        cmocka_unit_test(test_frame_doubled_is_withstood),
	        cmocka_unit_test(test_frames_swapped_are_withstood),
	        cmocka_unit_test(test_frame_moved_anywhere_is_withstood),
	        cmocka_unit_test(test_session_cut_at_each_byte_is_withstood),
	        cmocka_unit_test(test_every_type_anywhere_is_withstood),
	        cmocka_unit_test(test_every_number_of_every_message_is_withstood),
	        cmocka_unit_test(test_every_name_of_every_message_is_withstood),
	        cmocka_unit_test(test_what_is_no_request_ends_the_session),
	        cmocka_unit_test(test_replayed_session_makes_no_second_point),
	};
	printf("seed %u\n", SEED);
	return cmocka_run_group_tests_name("hostile sessions", tests, NULL, NULL);
}

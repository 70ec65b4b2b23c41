/* SPDX-License-Identifier: MIT */
/*
 * Manifests and comparisons of a hostile source: each number, name, list and digest in the text replaced;
 * times that lie; comparisons that ask for more than there is, and what an answer tells at most. The parts
 * are an honest segment's throughout.
 */
#include "tests/unit/hostile/forge.h"

#define MIB (1u << 20)
#define HEX64 "\"00000000000000000000000000000000000000000000000000000000000000ff\""

static void honest(struct forge *f)
{
	f->model.volumes[0].bytes[f->b->ticks++ % SOSIE_LEAF] ^= 1;
	forge_leaves(f, 0, 0, 1);
}

/* A segment with everything in its manifest that a manifest can have. */
static void full(struct forge *f)
{
	uint8_t payload[64] = {0};
	struct sosie_manifest_attachment *a = &f->attachments[f->m.attachment_count++];
	honest(f);
	memcpy(payload + 12, "<domain/>", 9);
	forge_record(f, &(struct forged_record){SOSIE_RECORD_ATTACHMENT, RECORD_RAW, NULL, 0, NULL, 21,
	                                        payload, 21});
	OK(f->b, sosie_name_set(&a->name, SOSIE_NAME_ATTACHMENT, "vm.xml", &f->b->err));
	a->size = 9;
	sosie_hash_plain(f->hash);
	sosie_hash_add(f->hash, "<domain/>", 9);
	sosie_hash_end(f->hash, &a->sha256);
}

/* --- members of a segment's manifest -----------------------------------------------------------------------
 */

static const struct member {
	const char *name;
	unsigned nth;
	enum { NUMBER, TEXT, NAME, HEX, LIST, OBJECT, TIME } kind;
	bool free; /* nobody is hurt by any value that is well formed: the source's word for people */
} members[] = {
        {"format", 0, NUMBER, false},   {"kind", 0, TEXT, false},
        {"tenant", 0, NAME, false},     {"group", 0, NAME, false},
        {"epoch", 0, NUMBER, false},    {"parent", 0, HEX, false},
        {"cut_time", 0, TIME, true},    {"standby_clock", 0, OBJECT, false},
        {"at_ms", 0, NUMBER, true},     {"plus_ms", 0, NUMBER, true},
        {"consistency", 0, TEXT, true}, {"volumes", 0, LIST, false},
        {"name", 0, NAME, false},       {"name", 1, NAME, false},
        {"size", 0, NUMBER, false},     {"size", 1, NUMBER, false},
        {"root", 0, HEX, false},        {"root", 1, HEX, false},
        {"attachments", 0, LIST, true}, {"name", 2, NAME, true},
        {"size", 2, NUMBER, false},     {"sha256", 0, HEX, false},
        {"parts", 0, LIST, false},      {"length", 0, NUMBER, false},
        {"records", 0, NUMBER, false},  {"digest", 0, HEX, false},
        {"counters", 0, OBJECT, false}, {"plain", 0, NUMBER, true},
        {"data", 0, NUMBER, true},      {"zero", 0, NUMBER, true},
        {"discard", 0, NUMBER, true},   {"software", 0, TEXT, true},
};
#define MEMBERS (sizeof(members) / sizeof(*members))

static const char *const any_values[] = {
        "null", "true", "[]", "{}", "\"\"", "0", "[[[[[[[[]]]]]]]]", "{\"a\":{\"b\":{}}}", "\"\\u0000\"",
};
static const char *const numbers[] = {
        "-1",
        "0",
        "1",
        "2",
        "3",
        "255",
        "256",
        "4095",
        "4096",
        "4097",
        "1048576",
        "1048577",
        "67108864",
        "67108865",
        "2147483648",
        "4294967295",
        "4503599627370496",
        "9007199254740992",
        "9007199254740993",
        "-9007199254740992",
        "-9007199254740993",
        "1125899906842624",
        "1125899906842625",
        "1152921504606846976",
        "1152921504606846977",
        "9223372036854775807",
        "9223372036854775808",
        "-9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "1e3",
        "1.0",
        "0.5",
        "1e400",
        "99999999999999999999999999999999999999999999",
};
static const char *const names[] = {
        "\"..\"",
        "\".\"",
        "\"/\"",
        "\"../crm\"",
        "\"../../beta/web\"",
        "\"/etc/passwd\"",
        "\"a/b\"",
        "\"a\\u0000b\"",
        "\"_inbox\"",
        "\"_keys\"",
        "\"-rf\"",
        "\".hidden\"",
        "\"a\\nb\"",
        "\"\\u001b[2J\"",
        "\"caf\\u00e9\"",
        "\"\\u202e\"",
        "\"\\ud800\"",
        "\"a b\"",
        "\"$(id)\"",
        "\"%s%n\"",
        "\"crm\"",
        "\"beta\"",
        "\"root\"",
        "\"data.0\"",
        "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"", /* 64 */
        "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
        "aaaaaaa"
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
        "aaaaaaaa"
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"",
};
static const char *const hexes[] = {
        HEX64,
        "\"00\"",
        "\"00000000000000000000000000000000000000000000000000000000000000FF\"",
        "\"zz000000000000000000000000000000000000000000000000000000000000ff\"",
        "\"0000000000000000000000000000000000000000000000000000000000000000ff\"",
};
static const char *const times[] = {
        "\"1970-01-01T00:00:00.000Z\"",   "\"0000-01-01T00:00:00.000Z\"",
        "\"9999-12-31T23:59:59.999Z\"",   "\"2026-13-01T00:00:00.000Z\"",
        "\"2026-02-30T00:00:00.000Z\"",   "\"2026-11-22T25:00:00.000Z\"",
        "\"99999-12-31T23:59:59.999Z\"",  "\"now\"",
        "\"2026-11-22T03:27:00.123+01\"",
};
static const char *const texts[] = {
        "\"compare\"", "\"Segment\"", "\"crash\"", "\"fuzzy\"", "\"\\n\"", "\"\\u001b[31m\"", "\"%n%n%n\"",
};

#define COUNT(list) (unsigned)(sizeof(list) / sizeof(*(list)))

static const char *value_of(const struct member *m, unsigned n)
{
	const char *const *list = m->kind == NUMBER ? numbers
	                          : m->kind == NAME ? names
	                          : m->kind == HEX  ? hexes
	                          : m->kind == TIME ? times
	                                            : texts;
	const unsigned count = m->kind == NUMBER ? COUNT(numbers)
	                       : m->kind == NAME ? COUNT(names)
	                       : m->kind == HEX  ? COUNT(hexes)
	                       : m->kind == TIME ? COUNT(times)
	                       : m->kind == TEXT ? COUNT(texts)
	                                         : 0;
	if (n < COUNT(any_values))
		return any_values[n];
	n -= COUNT(any_values);
	return n < count ? list[n] : NULL;
}

/* What came of one: refused; or, for members that are the source's own word, a point of the same content. */
static void expect_refused_or_same(struct forge *f, const struct member *m, const char *value)
{
	struct bench *b = f->b;
	uint64_t before = bench_head(b, ERP, NULL);
	struct sosie_accept_result r = bench_keep(b, ERP);
	if (r.refused == 1 && r.point == before)
		return;
	if (r.accepted != 1 || !m->free)
		fail_msg("%s %u = %s: %u refused, %u waiting, %u answered, %u accepted", m->name, m->nth,
		         value, r.refused, r.waiting, r.answered, r.accepted);
	bench_equal_point(b, ERP, r.point, &f->model);
	model_fini(&b->now[ERP]);
	model_copy(&b->now[ERP], &f->model);
}

static unsigned lies_of(struct bench *b, const struct member *m, unsigned *points)
{
	const char *value;
	unsigned ran = 0;
	for (unsigned n = 0; (value = value_of(m, n)) != NULL; n++) {
		struct forge *f = forge_new(b);
		uint64_t before = bench_head(b, ERP, NULL);
		full(f);
		forge_text(f);
		char *text = json_replaced(f->text, m->name, m->nth, value);
		if (text) {
			free(f->text);
			f->text = text;
			f->text_len = strlen(text);
			forge_send(f);
			expect_refused_or_same(f, m, value);
			*points += bench_head(b, ERP, NULL) > before;
			ran++;
		}
		forge_free(f);
	}
	return ran;
}

/* The forge's own proof: without a lie it makes a point. */
static void test_manifest_without_a_lie_is_accepted(void **state)
{
	struct bench *b = bench_new(BENCH_CAPACITY, 0);
	struct forge *f = forge_new(b);
	(void)state;
	full(f);
	forge_send(f);
	forge_accepted(f, "no lie");
	forge_free(f);
	bench_intact(b);
	bench_free(b);
}

static void test_every_member_of_a_manifest_is_checked(void **state)
{
	struct bench *b = bench_new(BENCH_CAPACITY, 0);
	unsigned ran = 0, points = 0;
	(void)state;
	for (unsigned i = 0; i < MEMBERS; i++) {
		unsigned before = points, n = lies_of(b, &members[i], &points);
		print_message("  %s %u: %u lies, %u of them a point of the same content\n", members[i].name,
		              members[i].nth, n, points - before);
		assert_true(n >= 8);
		ran += n;
	}
	print_message("members: %u lies, %u points\n", ran, points);
	assert_true(ran > 650 && points < ran / 4);
	bench_intact(b);
	bench_free(b);
}

/* The text as bytes: cut anywhere, a byte changed anywhere, members twice, unknown, very deep, very long. */
static void test_manifest_text_is_checked(void **state)
{
	static char deep[200000];
	struct bench *b = bench_new(BENCH_CAPACITY, 0);
	struct forge *f = forge_new(b);
	const unsigned stride = test_stride(7, 40);
	unsigned ran = 0;
	(void)state;
	full(f);
	forge_text(f);
	char *honest_text = f->text;
	const size_t len = f->text_len;
	for (size_t n = 1; n < 2 * len + 4; n += n < 2 * len ? stride : 1, ran++) {
		struct sosie_upload_id id;
		OK(b, sosie_random(&b->clock.clock, id.b, sizeof(id.b), &b->err));
		f->id = id;
		if (n < len) { /* cut */
			f->text = honest_text;
			f->text_len = n;
		} else {
			memcpy(deep, honest_text, len);
			f->text = deep;
			f->text_len = len;
			if (n < 2 * len)
				deep[n - len] = (char)(deep[n - len] ^ 0x80); /* no UTF-8 any more */
			else if (n == 2 * len || n == 2 * len + 1)
				memset(deep, n & 1 ? '[' : '{', f->text_len = sizeof(deep));
			else
				f->text_len = (size_t)snprintf(deep, sizeof(deep), "{\"format\":1,%s",
				                               honest_text + 1);
		}
		forge_send(f);
		struct sosie_accept_result r = bench_keep(b, ERP);
		if (r.refused != 1)
			fail_msg("manifest %zu of %zu: not refused", n, len);
	}
	f->text = honest_text;
	print_message("texts: %u\n", ran);
	assert_true(ran > 100 / (stride / 7 ? stride / 7 : 1));
	forge_free(f);
	bench_intact(b);
	bench_free(b);
}

/* A segment that is good for another group, uploaded for this one, and the other way round. */
static void test_segment_of_another_group_is_refused(void **state)
{
	struct bench *b = bench_new(BENCH_CAPACITY, 0);
	struct forge *f = forge_new(b);
	struct sosie_accept_result r;
	(void)state;
	honest(f);
	forge_text(f);
	forge_put(b, "crm", &f->id, "0", f->parts[0].bytes, f->parts[0].len);
	forge_put(b, "crm", &f->id, "manifest", f->text, f->text_len);
	r = bench_keep(b, CRM);
	assert_int_equal(r.refused, 1);
	assert_int_equal(r.point, BENCH_KEPT);
	forge_free(f);
	bench_intact(b);
	bench_free(b);
}

/* --- times
 * ------------------------------------------------------------------------------------------------------ */

static void check_times(struct bench *b, uint64_t points)
{
	struct sosie_group *g = bench_group(b, ERP);
	struct sosie_group_status *s = calloc(1, sizeof(*s));
	struct sosie_point p;
	int64_t accepted = 0;
	assert_non_null(s);
	for (uint64_t i = 1; i <= points; i++) {
		OK(b, sosie_group_point(g, i, &p, &b->err));
		assert_true(p.cut_ms >= 0 && p.cut_ms <= p.accepted_ms);
		assert_true(p.accepted_ms >= accepted && p.accepted_ms <= b->clock.now_ms);
		accepted = p.accepted_ms;
	}
	OK(b, sosie_group_status(g, s, &b->err));
	assert_true(s->rpo_ms >= 0 && s->rpo_ms <= b->clock.now_ms);
	assert_true(s->same_ms >= 0 && s->same_ms <= b->clock.now_ms);
	free(s);
	sosie_group_close(g);
}

/* Each mix of lies about the standby's clock: a point's time is never after its acceptance, and no other
 * point's time moves. */
static void test_lies_about_time_move_nothing(void **state)
{
	static const char *const at[] = {"0", "1", "1789999999999", "1790009999999", "9007199254740992"};
	static const char *const plus[] = {"-9007199254740992", "-1", "0", "86400000", "9007199254740992"};
	struct bench *b = bench_new(BENCH_CAPACITY, 0);
	struct sosie_point before[BENCH_KEPT], now;
	struct sosie_group *g = bench_group(b, ERP);
	uint64_t points = BENCH_KEPT;
	(void)state;
	for (uint64_t i = 0; i < BENCH_KEPT; i++)
		OK(b, sosie_group_point(g, i + 1, &before[i], &b->err));
	sosie_group_close(g);
	for (unsigned i = 0; i < COUNT(at) * COUNT(plus); i++) {
		struct forge *f = forge_new(b);
		honest(f);
		forge_edit(f, "at_ms", 0, at[i / COUNT(plus)]);
		if (strcmp(plus[i % COUNT(plus)], "0") != 0)
			forge_edit(f, "plus_ms", 0, plus[i % COUNT(plus)]);
		forge_edit(f, "cut_time", 0, i & 1 ? times[0] : times[2]);
		forge_send(f);
		forge_accepted(f, at[i / COUNT(plus)]);
		forge_free(f);
		check_times(b, ++points);
	}
	g = bench_group(b, ERP);
	for (uint64_t i = 0; i < BENCH_KEPT; i++) {
		OK(b, sosie_group_point(g, i + 1, &now, &b->err));
		assert_int_equal(now.cut_ms, before[i].cut_ms);
		assert_int_equal(now.accepted_ms, before[i].accepted_ms);
	}
	sosie_group_close(g);
	bench_intact(b);
	bench_free(b);
}

/* "same" may say what it wants: it is never in the future, and never of another tenant's or group's. */
static void test_lies_of_same_are_bounded(void **state)
{
	static const char *const clocks[] = {
	        "",
	        "\"standby_clock\":{\"at_ms\":0,\"plus_ms\":0},",
	        "\"standby_clock\":{\"at_ms\":-1,\"plus_ms\":0},",
	        "\"standby_clock\":{\"at_ms\":9007199254740992,\"plus_ms\":9007199254740992},",
	        "\"standby_clock\":{\"at_ms\":9223372036854775807,\"plus_ms\":9223372036854775807},",
	        "\"standby_clock\":{\"at_ms\":1790000000000,\"plus_ms\":-9223372036854775808},",
	        "\"standby_clock\":{},",
	        "\"standby_clock\":[],",
	};
	static const char *const agos[] = {"0", "-1", "9007199254740992", "9223372036854775807", "\"x\""};
	static const struct sosie_name erp = {"erp"};
	struct bench *b = bench_new(BENCH_CAPACITY, 0);
	struct sosie_digest head;
	struct sosie_inbox *in;
	char hex[65], text[600];
	unsigned ran = 0;
	(void)state;
	(void)erp;
	bench_head(b, ERP, &head);
	sosie_hex(hex, head.b, sizeof(head.b));
	OK(b, sosie_inbox_open(b->io, &b->clock.clock, "/s", "acme", b->keys[0], &in, &b->err));
	for (unsigned i = 0; i < COUNT(clocks) * COUNT(agos); i++, ran++) {
		int n = snprintf(
		        text, sizeof(text),
		        "{\"format\":1,\"kind\":\"same\",%s\"groups\":[{\"group\":\"erp\",\"digest\":"
		        "\"%s\",\"ago_ms\":%s},{\"group\":\"../web\",\"digest\":\"%s\"},{\"group\":"
		        "\"web\",\"digest\":\"%s\"}]}",
		        clocks[i / COUNT(agos)], hex, agos[i % COUNT(agos)], hex, hex);
		OK(b, sosie_inbox_same(in, text, (size_t)n, &b->err));
		b->clock.now_ms += 6000;
		OK(b, sosie_keeper_settle(b->store, "acme", "erp", &b->err));
		OK(b, sosie_keeper_settle(b->store, "beta", "web", &b->err));
		check_times(b, BENCH_KEPT);
	}
	sosie_inbox_close(in);
	struct sosie_group *g = bench_group(b, WEB);
	struct sosie_group_status *s = calloc(1, sizeof(*s));
	assert_non_null(s);
	OK(b, sosie_group_status(g, s, &b->err));
	assert_int_equal(s->same_ms, 0);
	free(s);
	sosie_group_close(g);
	print_message("same: %u lies\n", ran);
	bench_intact(b);
	bench_free(b);
}

/* --- comparisons
 * --------------------------------------------------------------------------------------------- */

/* Lists level-0 blocks of volume 0 as of the model, honest. */
static void compare(struct forge *f, unsigned level, uint64_t first, uint64_t count)
{
	f->m.kind = SOSIE_MANIFEST_COMPARE;
	f->asks[f->m.ask_count++] = (struct sosie_manifest_ask){
	        .volume = 0, .level = (uint16_t)level, .first = first, .count = count};
}

static void entry(struct forge *f, unsigned volume, unsigned level, uint64_t block, bool guess)
{
	uint8_t bytes[SOSIE_COMPARE_ENTRY];
	struct sosie_compare_entry e = {.volume = (uint16_t)volume, .level = (uint16_t)level, .block = block};
	for (unsigned i = 0; guess && i < BENCH_LARGE / SOSIE_LEAF; i++)
		sosie_digest_leaf(f->hash, &f->vctx[0], i, f->model.volumes[0].bytes + i * SOSIE_LEAF,
		                  SOSIE_LEAF, &e.children[i]);
	sosie_compare_put(bytes, &e);
	forge_raw(f, bytes, sizeof(bytes));
}

/* Bits set in the answer; its length is bounded by what was listed and what the group itself holds. */
static unsigned answered(struct forge *f, const char *name, unsigned entries)
{
	struct bench *b = f->b;
	char path[300], hex[33], *text;
	size_t len;
	unsigned bits = 0;
	struct sosie_accept_result r = bench_keep(b, ERP);
	if (r.answered != 1)
		fail_msg("%s: not answered: %s", name, r.last.what);
	sosie_hex(hex, f->id.b, sizeof(f->id.b));
	snprintf(path, sizeof(path), "/s/acme/_outbox/erp/%s.differs", hex);
	OK(b, sosie_io_read_file(b->io, path, MIB, &text, &len, &b->err));
	assert_true(len <= (entries + 2) * SOSIE_DIFFERS_ENTRY);
	for (size_t i = 0; i < len; i++)
		if (i % SOSIE_DIFFERS_ENTRY >= 16)
			bits += (unsigned)__builtin_popcount((uint8_t)text[i]);
	free(text);
	print_message("  %s: %u bits\n", name, bits);
	return bits;
}

/* An honest comparison says nothing differs; a guess of one leaf tells of that leaf, and of no other group.
 */
static void test_comparison_tells_of_the_own_group_only(void **state)
{
	struct bench *b = bench_new(BENCH_CAPACITY, 0);
	struct forge *f = forge_new(b);
	(void)state;
	compare(f, 0, 0, 1);
	entry(f, 0, 0, 0, true);
	forge_send(f);
	assert_int_equal(answered(f, "what the head holds", 1), 0);
	forge_free(f);

	f = forge_new(b);
	f->model.volumes[0].bytes[20000] ^= 1;
	compare(f, 0, 0, 1);
	entry(f, 0, 0, 0, true);
	forge_send(f);
	assert_int_equal(answered(f, "one leaf otherwise", 1), 1);
	forge_free(f);

	/* What another group of the tenant holds, under the name of this one: all of it differs. */
	f = forge_new(b);
	memcpy(f->model.volumes[0].bytes, b->now[CRM].volumes[0].bytes, BENCH_LARGE);
	compare(f, 0, 0, 1);
	entry(f, 0, 0, 0, true);
	forge_send(f);
	assert_true(answered(f, "the content of another group", 1) >= BENCH_LARGE / SOSIE_LEAF - 2);
	forge_free(f);

	/* With that group's own digests: they are bound to it. */
	f = forge_new(b);
	memcpy(f->model.volumes[0].bytes, b->now[CRM].volumes[0].bytes, BENCH_LARGE);
	sosie_context_volume(f->hash, "acme", "crm", "root", &f->vctx[0]);
	compare(f, 0, 0, 1);
	entry(f, 0, 0, 0, true);
	forge_send(f);
	assert_true(answered(f, "the digests of another group", 1) >= BENCH_LARGE / SOSIE_LEAF - 2);
	forge_free(f);
	bench_intact(b);
	bench_free(b);
}

static void two_entries(struct forge *f, unsigned volume, unsigned level, uint64_t first, uint64_t second)
{
	compare(f, 0, 0, 1);
	entry(f, volume, level, first, true);
	entry(f, volume, level, second, true);
}

static void compare_repeated(struct forge *f)
{
	two_entries(f, 0, 0, 0, 0);
}

static void compare_descending(struct forge *f)
{
	two_entries(f, 0, 0, 1, 0);
}

static void compare_not_asked(struct forge *f)
{
	two_entries(f, 0, 0, 0, 7);
}

static void compare_block_max(struct forge *f)
{
	two_entries(f, 0, 0, 0, UINT64_MAX);
}

static void compare_volume_max(struct forge *f)
{
	two_entries(f, UINT16_MAX, 0, 0, 1);
}

static void compare_level_max(struct forge *f)
{
	two_entries(f, 0, UINT16_MAX, 0, 1);
}

static void compare_level_lie(struct forge *f)
{
	compare(f, 0, 0, 1);
	entry(f, 0, 3, 0, true);
}

static void compare_digest(struct forge *f)
{
	compare(f, 0, 0, 1);
	entry(f, 0, 0, 0, true);
	f->parts[0].chain.b[3] ^= 1;
}

static void compare_cut_short(struct forge *f)
{
	compare(f, 0, 0, 1);
	entry(f, 0, 0, 0, true);
	forge_text(f);
	f->parts[0].len -= 1;
}

static void compare_asks_twice(struct forge *f)
{
	compare(f, 0, 0, 1);
	compare(f, 0, 0, 1);
	entry(f, 0, 0, 0, true);
}

static void compare_asks_descend(struct forge *f)
{
	compare(f, 1, 0, 1);
	compare(f, 0, 0, 1);
	entry(f, 0, 0, 0, true);
}

static const struct {
	const char *name;
	void (*forge)(struct forge *f);
} comparisons[] = {
        {"an entry twice", compare_repeated},
        {"entries descend", compare_descending},
        {"an entry that was not asked about", compare_not_asked},
        {"block 2^64 - 1", compare_block_max},
        {"volume 65,535", compare_volume_max},
        {"level 65,535", compare_level_max},
        {"an entry of another level", compare_level_lie},
        {"the part's digest", compare_digest},
        {"the part cut short", compare_cut_short},
        {"asks twice", compare_asks_twice},
        {"asks descend", compare_asks_descend},
};

static void test_lies_of_comparisons_are_refused(void **state)
{
	struct bench *b = bench_new(BENCH_CAPACITY, 0);
	unsigned ran = 0;
	(void)state;
	for (unsigned i = 0; i < COUNT(comparisons); i++, ran++) {
		struct forge *f = forge_new(b);
		comparisons[i].forge(f);
		forge_send(f);
		forge_refused(b, comparisons[i].name);
		forge_free(f);
	}
	assert_int_equal(ran, COUNT(comparisons));
	bench_intact(b);
	bench_free(b);
}

/* Each number of a comparison's manifest; an answer, where there is one, is short. */
static void test_every_number_of_a_comparison_is_checked(void **state)
{
	static const char *const asked[] = {"volume", "level", "first", "count", "size", "length", "records"};
	struct bench *b = bench_new(BENCH_CAPACITY, 0);
	unsigned ran = 0, told = 0;
	(void)state;
	for (unsigned i = 0; i < COUNT(asked) * COUNT(numbers); i++) {
		struct forge *f = forge_new(b);
		compare(f, 0, 0, 1);
		entry(f, 0, 0, 0, true);
		forge_text(f);
		char *text =
		        json_replaced(f->text, asked[i / COUNT(numbers)], 0, numbers[i % COUNT(numbers)]);
		if (text) {
			free(f->text);
			f->text = text;
			f->text_len = strlen(text);
			forge_send(f);
			struct sosie_accept_result r = bench_keep(b, ERP);
			assert_int_equal(r.refused + r.answered, 1);
			told += r.answered;
			ran++;
		}
		forge_free(f);
	}
	print_message("numbers of a comparison: %u lies, %u answered\n", ran, told);
	assert_true(ran > 200 && told < ran / 2);
	bench_intact(b);
	bench_free(b);
}

/* A wrong parent is the asker's loss: the answer names the head that it is about. */
static void test_comparison_with_a_wrong_parent_names_the_head(void **state)
{
	struct bench *b = bench_new(BENCH_CAPACITY, 0);
	struct sosie_verdict *v = calloc(1, sizeof(*v));
	struct forge *f = forge_new(b);
	char path[300], hex[33], *text;
	struct sosie_digest head;
	size_t len;
	(void)state;
	assert_non_null(v);
	compare(f, 0, 0, 1);
	entry(f, 0, 0, 0, true);
	f->m.parent.b[0] ^= 1;
	forge_send(f);
	struct sosie_accept_result r = bench_keep(b, ERP);
	assert_int_equal(r.refused + r.answered, 1);
	sosie_hex(hex, f->id.b, sizeof(f->id.b));
	snprintf(path, sizeof(path), "/s/acme/_outbox/erp/%s.verdict", hex);
	OK(b, sosie_io_read_file(b->io, path, MIB, &text, &len, &b->err));
	OK(b, sosie_verdict_parse(text, len, v, &b->err));
	bench_head(b, ERP, &head);
	if (r.answered)
		assert_true(sosie_digest_equal(&v->head.digest, &head));
	free(text);
	free(v);
	forge_free(f);
	bench_intact(b);
	bench_free(b);
}

/* A comparison after a cutover would make the keeper build working images anew, beside the tenant's live
 * ones, for a source that is over. */
static void test_comparison_after_a_cutover_is_refused(void **state)
{
	struct bench *b = bench_new(BENCH_CAPACITY, 0);
	struct sosie_group *g = bench_group(b, ERP);
	struct forge *f;
	(void)state;
	OK(b, sosie_group_lock(g, "test", 0, &b->err));
	OK(b, group_raise_epoch(g, 2, BENCH_KEPT, "operator", "drill", &b->err));
	OK(b, head_void(g, &b->err));
	OK(b, sosie_io_remove_tree(b->io, "/s/acme/erp/head", &b->err));
	sosie_group_close(g);
	f = forge_new(b);
	compare(f, 0, 0, 1);
	entry(f, 0, 0, 0, true);
	forge_send(f);
	forge_refused(b, "a comparison after a cutover");
	assert_int_equal(b->result.last.code, SOSIE_EFENCED);
	assert_false(sosie_io_exists(b->io, "/s/acme/erp/head"));
	forge_free(f);
	bench_unchanged_but(b, ERP);
	bench_free(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_manifest_without_a_lie_is_accepted),
	        cmocka_unit_test(test_every_member_of_a_manifest_is_checked),
	        cmocka_unit_test(test_manifest_text_is_checked),
	        cmocka_unit_test(test_segment_of_another_group_is_refused),
	        cmocka_unit_test(test_lies_about_time_move_nothing),
	        cmocka_unit_test(test_lies_of_same_are_bounded),
	        cmocka_unit_test(test_comparison_tells_of_the_own_group_only),
	        cmocka_unit_test(test_lies_of_comparisons_are_refused),
	        cmocka_unit_test(test_every_number_of_a_comparison_is_checked),
	        cmocka_unit_test(test_comparison_with_a_wrong_parent_names_the_head),
	        cmocka_unit_test(test_comparison_after_a_cutover_is_refused),
	};
	printf("seed %u\n", SEED);
	return cmocka_run_group_tests_name("hostile manifests", tests, NULL, NULL);
}

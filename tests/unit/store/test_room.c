/* SPDX-License-Identifier: MIT */
/*
 * Room for uploads that wait: wished points go for what lies in the inbox and for nothing else, whatever a
 * manifest or a record's header claims; and not for what is gone, refused or taken by then.
 */
#include "tests/unit/store/lab.h"

#include "engine/delta/record.h"
#include "engine/store/policy.h"
#include "engine/store/pruned.h"
#include "sosie/audit.h"
#include "sosie/bytes.h"
#include "sosie/quota.h"
#include "sosie/retention.h"

#define DAY 86400000ll
#define SERIES 12u
#define MIB (1u << 20)
#define BOMB (SOSIE_RECORD_HEADER + SOSIE_RANGE_BYTES + 1u)

static uint8_t noise[1u << 20];

/* SERIES points, all of them wished only. */
static void start(struct lab *l)
{
	enum sosie_policy_key key;
	uint64_t value;
	bool inherit;
	lab_init(l, 1u << 26, 0, true);
	lab_accept(l);
	model_add(&l->model, "root", 300000);
	for (unsigned i = 0; i < SERIES; i++) {
		const struct change change = {0, 8192u * i, 24576, noise + 777 * i};
		lab_point(l, &change, 1);
		l->clock.now_ms += 20 * 60000;
	}
	OK(l, sosie_policy_parse("wish.all=365d", &key, &value, &inherit, &l->err));
	OK(l, sosie_policy_set(l->store, "acme", "erp", key, value, inherit, NULL, &l->err));
	l->clock.now_ms += 7 * DAY + 1;
}

static unsigned gone(struct lab *l)
{
	struct sosie_group *g = lab_group(l);
	struct pruned p;
	unsigned n = 0;
	OK(l, pruned_read(g, &p, &l->err));
	for (unsigned i = 1; i <= l->point_count; i++)
		n += pruned_find(&p, i) != NULL;
	pruned_fini(&p);
	sosie_group_close(g);
	return n;
}

static void retain(struct lab *l)
{
	struct sosie_prune p;
	l->clock.now_ms += 61000;
	OK(l, sosie_keeper_retain(l->store, "acme", "erp", &p, &l->err));
}

static struct room_memo *memo(struct lab *l)
{
	struct store_memo *m = memo_find(l->store, "acme", "erp");
	assert_non_null(m);
	return &m->room;
}

/* --- an upload's files
 * ----------------------------------------------------------------------------------------------- */

static void path_of(const struct make_upload *u, const char *suffix, char dst[256])
{
	char id[UPLOAD_HEX + 1];
	sosie_hex(id, u->id.b, sizeof(u->id.b));
	snprintf(dst, 256, "/s/acme/_inbox/erp/%s.%s", id, suffix);
}

/* The manifest's first number behind these words becomes another one. */
static void edit(struct lab *l, const struct make_upload *u, const char *words, uint64_t value)
{
	char path[256], *text, *out = NULL;
	size_t len;
	path_of(u, "manifest", path);
	OK(l, sosie_io_read_file(l->io, path, MIB, &text, &len, &l->err));
	char *at = strstr(text, words);
	assert_non_null(at);
	at += strlen(words);
	if (asprintf(&out, "%.*s%llu%s", (int)(at - text), text, (unsigned long long)value,
	             at + strspn(at, "0123456789")) < 0)
		fail_msg("no memory");
	assert_string_not_equal(text, out);
	OK(l, sosie_io_write_file(l->io, path, out, strlen(out), 0660, &l->err));
	free(text);
	free(out);
}

/* A part of records of 65 bytes, each of which says that it holds 1 MiB, so much in all. */
static void put_bombs(struct lab *l, const struct make_upload *u, uint64_t claim)
{
	const unsigned count = (unsigned)((claim + MIB - 1) / MIB);
	const struct sosie_range range = {.leaves = 256};
	const size_t len = (size_t)count * BOMB;
	uint8_t *bytes = malloc(len);
	struct sosie_writer w;
	char path[256];
	assert_non_null(bytes);
	sosie_writer_init(&w, bytes, len);
	for (unsigned i = 0; i < count; i++) {
		sosie_put_bytes(&w, RECORD_MAGIC, 4);
		sosie_put_u8(&w, SOSIE_RECORD_DATA);
		sosie_put_u8(&w, RECORD_ZSTD);
		sosie_put_u16(&w, 1);
		sosie_put_u32(&w, i + 1 < count ? MIB : (uint32_t)(claim - (uint64_t)i * MIB));
		sosie_put_u32(&w, 1);
		sosie_put_bytes(&w, noise, 32);
		record_put_ranges(&w, &range, 1);
		sosie_put_bytes(&w, "x", 1);
	}
	assert_false(w.failed);
	path_of(u, "0", path);
	OK(l, sosie_io_write_file(l->io, path, bytes, len, 0660, &l->err));
	free(bytes);
	edit(l, u, "\"length\":", len);
	edit(l, u, "\"records\":", count);
	edit(l, u, "\"plain\":", claim);
	edit(l, u, "\"data\":", claim);
}

static struct make_upload small_upload(struct lab *l)
{
	static const struct change change = {0, 0, 4096, noise + 31};
	struct make_upload u = lab_upload(l, &change, 1);
	make_upload(&u);
	return u;
}

/* A little more content than the disk has room for. */
static uint64_t just_too_much(struct lab *l)
{
	struct sosie_space space;
	OK(l, sosie_store_space(l->store, &space, &l->err));
	return (space.free_bytes - space.reserve_bytes) / 65 * 64 + 40000;
}

/* Leaves the tenant that much of a quota. */
static void leave(struct lab *l, uint64_t bytes)
{
	struct sosie_tenant_info info;
	OK(l, sosie_tenant_info(l->store, "acme", &info, &l->err));
	OK(l, tenant_set_quota(l->store, "acme", info.used + bytes, &l->err));
}

static const struct change big[] = {{0, 0, 300000, noise + 31}};

/* An honest upload that waits, by the quota, until wished points have gone. */
static struct make_upload waiting_upload(struct lab *l)
{
	leave(l, 590000);
	struct make_upload u = lab_upload(l, big, 1);
	make_upload(&u);
	struct sosie_accept_result r = lab_accept(l);
	if (r.waiting != 1)
		fail_msg("accepted %u, refused %u: %s", r.accepted, r.refused, r.last.what);
	assert_int_not_equal(memo(l)->need_bytes, 0);
	return u;
}

static void manifest_of(struct lab *l, const struct make_upload *u, struct sosie_manifest *m)
{
	char path[256], *text;
	size_t len;
	path_of(u, "manifest", path);
	OK(l, sosie_io_read_file(l->io, path, MIB, &text, &len, &l->err));
	OK(l, sosie_manifest_parse(text, len, m, &l->err));
	free(text);
}

/* Each time as another one: what was seen is remembered. */
static int check(struct lab *l, struct sosie_group *g, const struct make_upload *u, struct sosie_manifest *m,
                 bool *may)
{
	static uint64_t number;
	struct upload upload = {.id = u->id};
	struct sosie_digest digest = {{0}};
	number++;
	memcpy(digest.b, &number, sizeof(number));
	return room_check(g, &upload, m, &digest, may, &l->err);
}

/* --- lies
 * ------------------------------------------------------------------------------------------------------- */

static void test_claim_that_no_record_bears_out_is_refused_and_no_point_goes(void **state)
{
	struct lab l;
	(void)state;
	for (int quota = 0; quota < 2; quota++) {
		start(&l);
		struct make_upload u = small_upload(&l);
		const uint64_t claim = quota ? 600000 : just_too_much(&l);
		if (quota)
			leave(&l, 590000);
		edit(&l, &u, "\"plain\":", claim);
		edit(&l, &u, "\"records\":", claim / MIB + 1 == 1 ? 2 : claim / MIB + 1);
		lab_expect_refused(&l, &u, SOSIE_ECORRUPT);
		retain(&l);
		assert_int_equal(gone(&l), 0);
		lab_check_points(&l);
		lab_fini(&l);
	}
}

/* The right number of records does not help: their headers are added up. */
static void test_claim_of_a_byte_more_than_the_records_have_is_refused(void **state)
{
	struct lab l;
	(void)state;
	start(&l);
	leave(&l, 590000);
	struct make_upload u = lab_upload(&l, big, 1);
	make_upload(&u);
	edit(&l, &u, "\"plain\":", 303105);
	lab_expect_refused(&l, &u, SOSIE_ECORRUPT);
	assert_int_equal(memo(&l)->need_bytes, 0);
	retain(&l);
	assert_int_equal(gone(&l), 0);
	lab_fini(&l);
}

static void test_claim_of_tiny_records_that_say_a_mebibyte_makes_no_room(void **state)
{
	struct lab l;
	(void)state;
	start(&l);
	struct make_upload u = small_upload(&l);
	const uint64_t claim = just_too_much(&l);
	put_bombs(&l, &u, claim);
	for (unsigned i = 0; i < 3; i++) {
		struct sosie_accept_result r = lab_accept(&l);
		assert_int_equal(r.waiting, 1);
		assert_int_equal(r.last.code, SOSIE_ENOSPACE);
		assert_int_equal(memo(&l)->need_bytes, 0);
		retain(&l);
	}
	assert_int_equal(gone(&l), 0);
	/* By a quota too: refused there, as what no wish can make room for. */
	leave(&l, claim - 10000);
	lab_expect_refused(&l, &u, SOSIE_EQUOTA);
	retain(&l);
	assert_int_equal(gone(&l), 0);
	lab_check_points(&l);
	lab_fini(&l);
}

/* No receiver of ours makes holes; one that was taken over may. */
static void test_claim_of_a_part_of_holes_makes_no_room(void **state)
{
	struct lab l;
	struct sosie_manifest m;
	struct sosie_file *f;
	char path[256];
	bool may = true;
	(void)state;
	start(&l);
	struct make_upload u = lab_upload(&l, big, 1);
	make_upload(&u);
	manifest_of(&l, &u, &m);
	struct sosie_group *g = lab_group(&l);
	OK(&l, check(&l, g, &u, &m, &may));
	assert_true(may);
	/* Its one record's header, and a hole of several times the volume's size. */
	const uint64_t length = SOSIE_RECORD_HEADER + SOSIE_RANGE_BYTES + MIB;
	uint8_t head[SOSIE_RECORD_HEADER];
	struct sosie_writer w;
	sosie_writer_init(&w, head, sizeof(head));
	sosie_put_bytes(&w, RECORD_MAGIC, 4);
	sosie_put_u8(&w, SOSIE_RECORD_DATA);
	sosie_put_u8(&w, RECORD_RAW);
	sosie_put_u16(&w, 1);
	sosie_put_u32(&w, MIB);
	sosie_put_u32(&w, MIB);
	path_of(&u, "0", path);
	OK(&l, sosie_io_write_file(l.io, path, head, w.len, 0660, &l.err));
	OK(&l, sosie_io_openat(l.io, path, SOSIE_READ | SOSIE_WRITE, 0, &f, &l.err));
	OK(&l, sosie_io_truncate(l.io, f, length, &l.err));
	OK(&l, sosie_io_close(l.io, f, &l.err));
	m.parts[0].length = length;
	m.parts[0].records = 1;
	m.plain = m.data = MIB;
	OK(&l, check(&l, g, &u, &m, &may));
	assert_false(may);
	sosie_manifest_fini(&m);
	sosie_group_close(g);
	lab_fini(&l);
}

static void test_claim_on_parts_that_are_not_there_makes_no_room(void **state)
{
	struct lab l;
	char path[256];
	(void)state;
	for (int shorter = 0; shorter < 2; shorter++) {
		start(&l);
		leave(&l, 590000);
		struct make_upload u = lab_upload(&l, big, 1);
		make_upload(&u);
		path_of(&u, "0", path);
		if (shorter)
			OK(&l, sosie_io_write_file(l.io, path, noise, 70, 0660, &l.err));
		else
			OK(&l, sosie_io_unlink(l.io, path, &l.err));
		lab_expect_refused(&l, &u, SOSIE_EPROTO);
		retain(&l);
		assert_int_equal(gone(&l), 0);
		lab_fini(&l);
	}
}

/* --- what was asked for
 * ---------------------------------------------------------------------------------------------- */

static void test_room_for_an_upload_that_is_gone_is_not_made(void **state)
{
	struct lab l;
	char path[256];
	(void)state;
	start(&l);
	struct make_upload u = waiting_upload(&l);
	path_of(&u, "manifest", path);
	OK(&l, sosie_io_unlink(l.io, path, &l.err));
	retain(&l);
	assert_int_equal(gone(&l), 0);
	assert_int_equal(memo(&l)->need_bytes, 0);
	lab_fini(&l);
}

static void test_room_for_an_upload_that_was_refused_is_not_made(void **state)
{
	struct lab l;
	(void)state;
	start(&l);
	struct make_upload u = waiting_upload(&l);
	edit(&l, &u, "\"epoch\":", 9);
	lab_expect_refused(&l, &u, SOSIE_EPROTO);
	assert_int_equal(memo(&l)->need_bytes, 0);
	retain(&l);
	assert_int_equal(gone(&l), 0);
	lab_fini(&l);
}

struct told {
	char upload[64];
	unsigned entries, with;
};

static int find_upload(void *arg, const struct sosie_audit_entry *e)
{
	struct told *t = arg;
	t->entries += e->kind == SOSIE_AUDIT_PRUNE;
	t->with +=
	        e->kind == SOSIE_AUDIT_PRUNE && strstr(e->text, t->upload) && strstr(e->text, "\"bytes\":");
	return 0;
}

static void test_points_that_go_for_an_upload_are_told_with_it(void **state)
{
	struct lab l;
	struct told t = {.entries = 0};
	char id[UPLOAD_HEX + 1];
	(void)state;
	start(&l);
	struct make_upload u = waiting_upload(&l);
	lab_accept(&l); /* looked at again: what was seen of it still holds */
	assert_int_not_equal(memo(&l)->need_bytes, 0);
	retain(&l);
	assert_in_range(gone(&l), 1, SERIES - 1);
	sosie_hex(id, u.id.b, sizeof(u.id.b));
	snprintf(t.upload, sizeof(t.upload), "\"upload\":\"%s\"", id);
	OK(&l, sosie_audit_each(l.store, "acme", find_upload, &t, &l.err));
	assert_int_equal(t.entries, 1);
	assert_int_equal(t.with, 1);
	assert_int_equal(lab_accept(&l).accepted, 1);
	assert_int_equal(memo(&l)->need_bytes, 0);
	lab_keep_point(&l);
	lab_fini(&l);
}

/* --- what headers say
 * ------------------------------------------------------------------------------------------------ */

static void test_honest_counts_are_what_the_headers_say(void **state)
{
	struct lab l;
	const struct change changes[] = {
	        {0, 100, 200000, noise + 5}, {0, 250000, 9, NULL}, {0, 260000, 40000, noise}};
	static const enum make_as ways[] = {MAKE_DATA, MAKE_PATCH, MAKE_DELTA};
	(void)state;
	start(&l);
	for (unsigned i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		struct sosie_manifest m;
		bool may = false;
		struct make_upload u = lab_upload(&l, changes, 3);
		u.as = ways[i];
		u.parts = 3;
		u.attachment = "machine";
		make_upload(&u);
		manifest_of(&l, &u, &m);
		struct sosie_group *g = lab_group(&l);
		OK(&l, check(&l, g, &u, &m, &may));
		assert_true(may);
		m.plain++;
		assert_int_equal(check(&l, g, &u, &m, &may), -SOSIE_ECORRUPT);
		assert_false(may);
		m.plain--;
		m.parts[0].records++;
		assert_int_equal(check(&l, g, &u, &m, &may), -SOSIE_ECORRUPT);
		m.parts[0].records -= 2;
		assert_int_equal(check(&l, g, &u, &m, &may), -SOSIE_ECORRUPT);
		m.parts[0].records++;
		OK(&l, check(&l, g, &u, &m, &may));
		for (unsigned p = 0; p < m.part_count; p++)
			for (unsigned cut = 1; cut < 3; cut++) {
				m.parts[p].length -= cut;
				assert_int_equal(check(&l, g, &u, &m, &may), -SOSIE_ECORRUPT);
				m.parts[p].length += cut;
			}
		sosie_manifest_fini(&m);
		sosie_group_close(g);
		assert_int_equal(lab_accept(&l).accepted, 1);
		lab_keep_point(&l);
	}
	lab_fini(&l);
}

/* Headers lie across the blocks that are read, at every distance from a block's end. */
static void test_small_records_across_blocks_are_all_counted(void **state)
{
	struct lab l;
	struct sosie_manifest m;
	bool may = true;
	(void)state;
	start(&l);
	struct make_upload u = small_upload(&l);
	put_bombs(&l, &u, 4000ull * MIB);
	manifest_of(&l, &u, &m);
	struct sosie_group *g = lab_group(&l);
	OK(&l, check(&l, g, &u, &m, &may));
	assert_false(may);
	m.plain++;
	assert_int_equal(check(&l, g, &u, &m, &may), -SOSIE_ECORRUPT);
	assert_non_null(strstr(l.err.what, "4194304000"));
	sosie_manifest_fini(&m);
	sosie_group_close(g);
	lab_fini(&l);
}

static int setup(void **state)
{
	(void)state;
	lab_noise(noise, sizeof(noise));
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_claim_that_no_record_bears_out_is_refused_and_no_point_goes),
	        cmocka_unit_test(test_claim_of_a_byte_more_than_the_records_have_is_refused),
	        cmocka_unit_test(test_claim_of_tiny_records_that_say_a_mebibyte_makes_no_room),
	        cmocka_unit_test(test_claim_of_a_part_of_holes_makes_no_room),
	        cmocka_unit_test(test_claim_on_parts_that_are_not_there_makes_no_room),
	        cmocka_unit_test(test_room_for_an_upload_that_is_gone_is_not_made),
	        cmocka_unit_test(test_room_for_an_upload_that_was_refused_is_not_made),
	        cmocka_unit_test(test_points_that_go_for_an_upload_are_told_with_it),
	        cmocka_unit_test(test_honest_counts_are_what_the_headers_say),
	        cmocka_unit_test(test_small_records_across_blocks_are_all_counted),
	};
	return cmocka_run_group_tests(tests, setup, NULL);
}

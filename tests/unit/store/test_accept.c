/* SPDX-License-Identifier: MIT */
/* Acceptance: chains of points, what is refused, what waits, comparisons; over a simulated disk. */
#include "sosie/audit.h"
#include "tests/unit/store/lab.h"

#define MIB (1u << 20)

static uint8_t noise[2 * MIB];

static void fill_noise(void)
{
	uint32_t x = SEED;
	for (size_t i = 0; i < sizeof(noise); i++) {
		x = x * 1664525u + 1013904223u;
		noise[i] = (uint8_t)(x >> 24);
	}
}

/* Two points over volumes of 3 MiB and 10,000 bytes. */
static void two_points(struct lab *l)
{
	model_add(&l->model, "root", 3 * MIB);
	model_add(&l->model, "data.1", 10000);
	const struct change first[] = {
	        {0, 4096, MIB + 100, noise}, {1, 0, 10000, noise + 77}, {0, 2 * MIB, 8192, noise}};
	const struct change second[] = {
	        {0, 8192, 4096, noise + 5}, {0, 16384, 65536, NULL}, {1, 9000, 1000, noise}};
	lab_point(l, first, 3);
	lab_point(l, second, 3);
}

static void test_points_in_a_row_equal_the_source(void **state)
{
	struct lab l;
	struct sosie_point p;
	(void)state;
	for (int reflink = 0; reflink < 2; reflink++) {
		lab_init(&l, 1u << 28, 0, reflink);
		lab_accept(&l);
		two_points(&l);
		const struct change overlap[] = {
		        {0, 0, 65536, noise}, {0, 4096, 4096, noise + 9}, {0, 0, 4096, NULL}};
		struct make_upload u = lab_upload(&l, overlap, 3);
		u.parts = 2;
		u.attachment = "<domain/>";
		make_upload(&u);
		assert_int_equal(lab_accept(&l).accepted, 1);
		lab_keep_point(&l);
		lab_check_points(&l);
		lab_compare_dir(&l, "/s/acme/erp/head", &l.model);
		struct sosie_group *g = lab_group(&l);
		OK(&l, sosie_group_point(g, 3, &p, &l.err));
		assert_int_equal(p.accepted_ms, l.clock.now_ms);
		assert_true(p.stored > 0 && p.plain >= 65536);
		sosie_group_close(g);
		lab_fini(&l);
	}
}

static void test_open_head_is_settled_when_idle(void **state)
{
	struct lab l;
	(void)state;
	lab_init(&l, 1u << 28, 0, true);
	lab_accept(&l);
	two_points(&l);
	int head;
	uint64_t point;
	lab_head_state(&l, &head, &point);
	assert_int_equal(head, SOSIE_HEAD_OPEN);
	assert_int_equal(point, 1);
	OK(&l, sosie_keeper_settle(l.store, "acme", "erp", &l.err));
	lab_head_state(&l, &head, &point);
	assert_int_equal(head, SOSIE_HEAD_CLEAN);
	assert_int_equal(point, 2);
	lab_check_points(&l);
	lab_fini(&l);
}

/* Copies of the upload's files, put back after it was accepted: as after a power cut that undid their
 * removal. */
static void test_upload_that_comes_again_is_a_repeat(void **state)
{
	struct lab l;
	struct sosie_verdict *v = calloc(1, sizeof(*v));
	char from[512], id[33], *text[2];
	size_t len[2];
	static const char *const suffix[] = {"0", "manifest"};
	(void)state;
	assert_non_null(v);
	lab_init(&l, 1u << 28, 0, false);
	lab_accept(&l);
	model_add(&l.model, "root", MIB);
	const struct change c[] = {{0, 0, 5000, noise}};
	struct make_upload u = lab_upload(&l, c, 1);
	make_upload(&u);
	sosie_hex(id, u.id.b, sizeof(u.id.b));
	for (int i = 0; i < 2; i++) {
		snprintf(from, sizeof(from), "/s/acme/_inbox/erp/%s.%s", id, suffix[i]);
		OK(&l, sosie_io_read_file(l.io, from, 1u << 24, &text[i], &len[i], &l.err));
	}
	assert_int_equal(lab_accept(&l).accepted, 1);
	lab_keep_point(&l);
	const struct change more[] = {{0, 8192, 5000, noise}};
	lab_point(&l, more, 1);
	for (int i = 0; i < 2; i++) {
		snprintf(from, sizeof(from), "/s/acme/_inbox/erp/%s.%s", id, suffix[i]);
		assert_false(sosie_io_exists(l.io, from));
		OK(&l, sosie_io_write_file(l.io, from, text[i], len[i], 0640, &l.err));
		free(text[i]);
	}
	struct sosie_accept_result r = lab_accept(&l);
	assert_int_equal(r.accepted, 1);
	assert_int_equal(r.point, 2);
	lab_verdict(&l, &u, v);
	assert_int_equal(v->kind, SOSIE_VERDICT_ACCEPTED);
	lab_check_points(&l);
	free(v);
	lab_fini(&l);
}

static void test_wrong_parent_epoch_root_are_refused_and_next_accepted(void **state)
{
	struct lab l;
	const struct change c[] = {{0, 4096, 9000, noise + 3}};
	(void)state;
	lab_init(&l, 1u << 28, 0, false);
	lab_accept(&l);
	two_points(&l);
	for (int i = 0; i < 4; i++) {
		static const enum sosie_code codes[] = {SOSIE_EPARENT, SOSIE_EPROTO, SOSIE_ECORRUPT,
		                                        SOSIE_ECORRUPT};
		struct model before;
		model_copy(&before, &l.model);
		struct make_upload u = lab_upload(&l, c, 1);
		u.fuzzy_parent = i == 0;
		u.epoch = i == 1 ? 2 : 1;
		u.lie_root = i == 2;
		u.flip = i == 3;
		u.flip_at = 500;
		make_upload(&u);
		lab_expect_refused(&l, &u, codes[i]);
		model_fini(&l.model);
		l.model = before;
	}
	const struct change after[] = {{0, 0, 4096, noise}};
	lab_point(&l, after, 1);
	lab_check_points(&l);
	char text[300];
	int64_t when;
	struct sosie_group *g = lab_group(&l);
	OK(&l, refusal_newest(g, text, sizeof(text), &when, &l.err));
	assert_non_null(strstr(text, "part"));
	assert_true(when > 0);
	sosie_group_close(g);
	lab_fini(&l);
}

static void test_lower_epoch_is_fenced(void **state)
{
	struct lab l;
	const struct change c[] = {{0, 0, 100, noise}};
	(void)state;
	lab_init(&l, 1u << 28, 0, false);
	lab_accept(&l);
	two_points(&l);
	struct sosie_group *g = lab_group(&l);
	OK(&l, sosie_group_lock(g, "test", 0, &l.err));
	OK(&l, group_raise_epoch(g, 2, 2, "operator", "drill", &l.err));
	sosie_group_close(g);
	struct make_upload u = lab_upload(&l, c, 1);
	make_upload(&u);
	lab_expect_refused(&l, &u, SOSIE_EFENCED);

	/* The holder of the old key reads the new head and claims the new epoch on it. */
	struct sosie_head *head = calloc(1, sizeof(*head));
	assert_non_null(head);
	g = lab_group(&l);
	sosie_group_head(g, head);
	sosie_group_close(g);
	assert_int_equal(head->epoch, 2);
	for (uint64_t epoch = 2; epoch <= 3; epoch++) {
		u = lab_upload(&l, c, 1);
		u.epoch = epoch;
		u.parent = head->digest;
		make_upload(&u);
		lab_expect_refused(&l, &u, SOSIE_EFENCED);
	}
	free(head);
	lab_fini(&l);
}

/* Every byte of a small part, one after the other. */
static void test_damaged_byte_anywhere_is_refused(void **state)
{
	struct lab l;
	static const uint8_t text[32] = "some text that is in a leaf";
	uint64_t fired = 0, len = 1;
	(void)state;
	lab_init(&l, 1u << 28, 0, true);
	lab_accept(&l);
	model_add(&l.model, "root", 65536);
	const struct change first[] = {{0, 0, 4096, noise}};
	lab_point(&l, first, 1);
	const struct change c[] = {{0, 8192, sizeof(text), text}};
	for (uint64_t at = 0; at < len; at++) {
		struct model before;
		model_copy(&before, &l.model);
		struct make_upload u = lab_upload(&l, c, 1);
		u.flip = true;
		u.flip_at = at;
		make_upload(&u);
		len = u.part0_len;
		lab_expect_refused(&l, &u, SOSIE_OK);
		model_fini(&l.model);
		l.model = before;
		fired++;
	}
	assert_true(fired > 80);
	print_message("damaged bytes: %llu\n", (unsigned long long)fired);
	lab_point(&l, c, 1);
	lab_check_points(&l);
	lab_fini(&l);
}

static void test_over_quota_is_refused(void **state)
{
	struct lab l;
	const struct change c[] = {{0, 0, 4096, noise}};
	(void)state;
	lab_init(&l, 1u << 28, 300000, false);
	lab_accept(&l);
	model_add(&l.model, "root", MIB);
	lab_point(&l, c, 1);
	const struct change large[] = {{0, 0, MIB, noise}};
	struct make_upload u = lab_upload(&l, large, 1);
	make_upload(&u);
	lab_expect_refused(&l, &u, SOSIE_EQUOTA);
	lab_fini(&l);
}

/* The records' content is what is written: a manifest that counts less of it would get past quota and space.
 */
static void test_more_content_than_counted_is_refused(void **state)
{
	struct lab l;
	const struct change c[] = {{0, 0, 4096, noise}};
	const struct change more[] = {{0, 0, MIB / 2, noise}, {0, MIB / 2, MIB / 2, noise}};
	(void)state;
	lab_init(&l, 1u << 28, 0, false);
	lab_accept(&l);
	model_add(&l.model, "root", MIB);
	lab_point(&l, c, 1);
	for (uint64_t less = 1; less <= MIB; less += MIB - 1) {
		struct make_upload u = lab_upload(&l, more, 2);
		u.plain_less = less;
		make_upload(&u);
		lab_expect_refused(&l, &u, SOSIE_ECORRUPT);
	}
	lab_point(&l, more, 2);
	lab_check_points(&l);
	lab_fini(&l);
}

/* It would wait for ever, and those behind it with it. */
static void test_claimed_part_that_is_not_there_does_not_wait_for_room(void **state)
{
	struct lab l;
	const struct change c[] = {{0, 0, MIB, noise}};
	(void)state;
	lab_init(&l, 16 * MIB, 0, false);
	lab_accept(&l);
	model_add(&l.model, "root", MIB);
	struct make_upload u = lab_upload(&l, c, 1);
	u.claim_part = 1ull << 50;
	make_upload(&u);
	lab_expect_refused(&l, &u, SOSIE_EPROTO);
	lab_point(&l, c, 1);
	lab_check_points(&l);
	lab_fini(&l);
}

/* As only a hostile receiver leaves it. */
static void test_folder_beside_an_upload_does_not_hold_the_group(void **state)
{
	struct lab l;
	const struct change c[] = {{0, 0, 4096, noise}};
	char path[300], id[33];
	(void)state;
	lab_init(&l, 1u << 28, 0, false);
	lab_accept(&l);
	model_add(&l.model, "root", MIB);
	for (int full = 0; full < 2; full++) {
		struct make_upload u = lab_upload(&l, c, 1);
		make_upload(&u);
		sosie_hex(id, u.id.b, sizeof(u.id.b));
		snprintf(path, sizeof(path), "/s/acme/_inbox/erp/%s.5", id);
		OK(&l, sosie_io_ensure_dir(l.io, path, 0750, &l.err));
		snprintf(path, sizeof(path), "/s/acme/_inbox/erp/%s.5/below", id);
		if (full)
			OK(&l, sosie_io_ensure_dir(l.io, path, 0750, &l.err));
		assert_int_equal(lab_accept(&l).accepted, 1);
		lab_keep_point(&l);
		struct sosie_accept_result r = lab_accept(&l);
		assert_int_equal(r.accepted + r.refused + r.waiting, 0);
	}
	lab_check_points(&l);
	lab_fini(&l);
}

/* A chain of manifests is the tenant's doing as well as its journal is. */
static void test_chain_counts_towards_the_quota(void **state)
{
	struct lab l;
	struct sosie_accept_result r = {0};
	unsigned points = 0;
	(void)state;
	lab_init(&l, 1u << 28, 100000, false);
	lab_accept(&l);
	model_add(&l.model, "root", MIB);
	while (points < 300 && !r.refused) {
		struct make_upload u = lab_upload(&l, NULL, 0);
		u.empty_attachments = 95; /* some 10,000 bytes */
		make_upload(&u);
		r = lab_accept(&l);
		points += (unsigned)r.accepted;
	}
	assert_int_equal(r.refused, 1);
	assert_int_equal(r.last.code, SOSIE_EQUOTA);
	assert_in_range(points, 1, 9);
	lab_fini(&l);
}

static void test_full_disk_waits_and_is_accepted_later(void **state)
{
	struct lab l;
	struct sosie_file *f;
	const struct change c[] = {{0, 0, MIB, noise}};
	(void)state;
	lab_init(&l, 16 * MIB, 0, false);
	lab_accept(&l);
	model_add(&l.model, "root", 2 * MIB);
	struct make_upload u = lab_upload(&l, c, 1);
	make_upload(&u);
	OK(&l, sosie_io_openat(l.io, "/s/ballast", SOSIE_WRITE | SOSIE_CREATE, 0600, &f, &l.err));
	for (uint64_t at = 0; !sosie_io_pwrite(l.io, f, noise, MIB / 4, at, NULL); at += MIB / 4)
		;
	OK(&l, sosie_io_close(l.io, f, &l.err));
	struct sosie_accept_result r = lab_accept(&l);
	assert_int_equal(r.waiting, 1);
	assert_int_equal(r.last.code, SOSIE_ENOSPACE);
	OK(&l, sosie_io_unlink(l.io, "/s/ballast", &l.err));
	assert_int_equal(lab_accept(&l).accepted, 1);
	lab_keep_point(&l);
	lab_check_points(&l);
	lab_fini(&l);
}

static void test_volumes_grow_shrink_come_and_go(void **state)
{
	struct lab l;
	(void)state;
	lab_init(&l, 1u << 28, 0, true);
	lab_accept(&l);
	two_points(&l);
	model_resize(&l.model, 1, 20001);
	const struct change grown[] = {{1, 9000, 11001, noise}};
	lab_point(&l, grown, 1);
	model_resize(&l.model, 1, 5001);
	model_resize(&l.model, 0, MIB);
	const struct change tail[] = {{1, 4096, 905, noise + 1}};
	lab_point(&l, tail, 1);
	model_resize(&l.model, 1, 30000);
	lab_point(&l, tail, 1);
	model_add(&l.model, "extra", 12345);
	const struct change extra[] = {{2, 0, 12345, noise + 2}};
	lab_point(&l, extra, 1);
	model_remove(&l.model, 0);
	const struct change rest[] = {{0, 0, 10, noise}};
	lab_point(&l, rest, 1);
	lab_compare_dir(&l, "/s/acme/erp/head", &l.model);
	assert_false(sosie_io_exists(l.io, "/s/acme/erp/head/root.raw"));
	lab_check_points(&l);
	lab_fini(&l);
}

static void test_generation_is_made_when_due_and_used(void **state)
{
	struct lab l;
	(void)state;
	lab_init(&l, 1u << 28, 0, true);
	lab_accept(&l);
	l.store->info.policy.fold_points = 1;
	two_points(&l);
	assert_true(sosie_io_exists(l.io, "/s/acme/erp/generations/2/generation.json"));
	lab_compare_dir(&l, "/s/acme/erp/generations/2", &l.model);
	const struct change c[] = {{0, 0, 10, noise}};
	lab_point(&l, c, 1);
	lab_check_points(&l);
	lab_fini(&l);
}

/* What the answer tells must be what the two models differ in. */
static void test_comparison_tells_exactly_what_differs(void **state)
{
	struct lab l;
	struct model source;
	char path[512], id[33], *text;
	size_t len, told = 0, differ = 0;
	(void)state;
	lab_init(&l, 1u << 28, 0, true);
	lab_accept(&l);
	two_points(&l);
	model_copy(&source, &l.model);
	source.volumes[0].bytes[4096 * 3] ^= 1;
	memset(source.volumes[0].bytes + 2 * MIB, 0, MIB); /* zero there, not here */
	source.volumes[1].bytes[9999] ^= 1;
	unsigned extra = model_add(&source, "new", 8192);
	memset(source.volumes[extra].bytes, 7, 8192);
	for (unsigned v = 0; v < source.volume_count; v++)
		for (uint64_t at = 0; at < source.volumes[v].size; at += 4096) {
			uint64_t n = source.volumes[v].size - at < 4096 ? source.volumes[v].size - at : 4096;
			differ += v == extra ||
			          memcmp(source.volumes[v].bytes + at, l.model.volumes[v].bytes + at, n) != 0;
		}
	struct make_upload u = lab_upload(&l, NULL, 0);
	u.model = &source;
	make_compare(&u);
	struct sosie_accept_result r = lab_accept(&l);
	if (r.answered != 1)
		fail_msg("not answered: %s", r.last.what);
	sosie_hex(id, u.id.b, sizeof(u.id.b));
	snprintf(path, sizeof(path), "/s/acme/_outbox/erp/%s.differs", id);
	OK(&l, sosie_io_read_file(l.io, path, MIB, &text, &len, &l.err));
	assert_int_equal(len % SOSIE_DIFFERS_ENTRY, 0);
	for (size_t at = 0; at < len; at += SOSIE_DIFFERS_ENTRY) {
		struct sosie_differs_entry e;
		OK(&l, sosie_differs_get((const uint8_t *)text + at, &e, &l.err));
		for (unsigned i = 0; i < 256; i++) {
			if (!(e.bitmap[i / 8] & 1u << i % 8))
				continue;
			uint64_t off = (e.block * 256 + i) * 4096, n = source.volumes[e.volume].size - off;
			n = n < 4096 ? n : 4096;
			assert_true(e.volume == extra ||
			            memcmp(source.volumes[e.volume].bytes + off,
			                   l.model.volumes[e.volume].bytes + off, n) != 0);
			told++;
		}
	}
	assert_int_equal(told, differ);
	assert_true(told > 4);
	free(text);
	model_fini(&source);
	lab_fini(&l);
}

static void test_second_keeper_and_newer_format_are_refused(void **state)
{
	struct lab l;
	struct sosie_io *io;
	struct sosie_store *other = NULL;
	static const char newer[] = "{\"format\":2}";
	(void)state;
	lab_init(&l, 1u << 28, 0, false);
	OK(&l, sosie_keeper_claim(l.store, &l.err));
	OK(&l, sosie_io_sim(l.disk, &io, &l.err));
	OK(&l, sosie_store_open(io, &l.clock.clock, "/s", &other, &l.err));
	assert_int_equal(sosie_keeper_claim(other, &l.err), -SOSIE_EBUSY);
	sosie_store_close(other);
	OK(&l, sosie_io_write_file(l.io, "/s/sosie.json", newer, sizeof(newer) - 1, 0644, &l.err));
	assert_int_equal(sosie_store_open(io, &l.clock.clock, "/s", &other, &l.err), -SOSIE_ENEWER);
	assert_int_equal(sosie_store_open(io, &l.clock.clock, "/nothing", &other, &l.err), -SOSIE_ENOTSTORE);
	sosie_io_free(io);
	lab_fini(&l);
}

static void test_key_of_ssh_keygen_gets_its_fingerprint(void **state)
{
	struct lab l;
	struct sosie_key_info k;
	/* A key of 32 zero bytes; the fingerprint is what ssh-keygen -lf prints. */
	static const char line[] =
	        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA ops@hq\n";
	(void)state;
	lab_init(&l, 1u << 28, 0, false);
	OK(&l, sosie_key_add(l.store, "acme", line, sizeof(line) - 1, SOSIE_KEY_SSH, NULL, 0, &k, &l.err));
	assert_string_equal(k.fingerprint, "SHA256:kmYcvdi2GkPeWxB6XLjrZB8JHsy2Hm8luHMFp9GMvqk");
	assert_string_equal(k.comment, "ops@hq");
	OK(&l, sosie_key_add(l.store, "acme", line, sizeof(line) - 1, SOSIE_KEY_SSH, NULL, 0, &k, &l.err));
	for (size_t cut = 1; cut < sizeof(line) - 9; cut++)
		assert_true(sosie_key_add(l.store, "acme", line, cut, SOSIE_KEY_SSH, NULL, 0, &k, &l.err) <
		            0);
	lab_fini(&l);
}

static int setup(void **state)
{
	(void)state;
	fill_noise();
	print_message("seed %u\n", SEED);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_points_in_a_row_equal_the_source),
	        cmocka_unit_test(test_open_head_is_settled_when_idle),
	        cmocka_unit_test(test_upload_that_comes_again_is_a_repeat),
	        cmocka_unit_test(test_wrong_parent_epoch_root_are_refused_and_next_accepted),
	        cmocka_unit_test(test_lower_epoch_is_fenced),
	        cmocka_unit_test(test_damaged_byte_anywhere_is_refused),
	        cmocka_unit_test(test_over_quota_is_refused),
	        cmocka_unit_test(test_more_content_than_counted_is_refused),
	        cmocka_unit_test(test_claimed_part_that_is_not_there_does_not_wait_for_room),
	        cmocka_unit_test(test_chain_counts_towards_the_quota),
	        cmocka_unit_test(test_folder_beside_an_upload_does_not_hold_the_group),
	        cmocka_unit_test(test_full_disk_waits_and_is_accepted_later),
	        cmocka_unit_test(test_volumes_grow_shrink_come_and_go),
	        cmocka_unit_test(test_generation_is_made_when_due_and_used),
	        cmocka_unit_test(test_comparison_tells_exactly_what_differs),
	        cmocka_unit_test(test_second_keeper_and_newer_format_are_refused),
	        cmocka_unit_test(test_key_of_ssh_keygen_gets_its_fingerprint),
	};
	return cmocka_run_group_tests(tests, setup, NULL);
}

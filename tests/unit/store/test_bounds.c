/* SPDX-License-Identifier: MIT */
/* What a hostile source can make the keeper do with few bytes, and where that ends. */
#include "tests/unit/store/lab.h"

#define MIB (1u << 20)
#define VOLUME (8u * MIB)
#define MANY 80u

static uint8_t noise[VOLUME];
static uint8_t other[MIB]; /* noise with a few bytes changed */
static struct change changes[MANY + 1];

static int setup(void **state)
{
	uint32_t x = SEED;
	(void)state;
	for (size_t i = 0; i < sizeof(noise); i++) {
		x = x * 1664525u + 1013904223u;
		noise[i] = (uint8_t)(x >> 24);
	}
	memcpy(other, noise, sizeof(other));
	memset(other + 5000, 7, 40);
	return 0;
}

static void start(struct lab *l, uint64_t size)
{
	const struct change whole[] = {{0, 0, size, noise}};
	lab_init(l, 1u << 28, 0, true);
	lab_accept(l);
	model_add(&l->model, "root", size);
	lab_point(l, whole, 1);
}

/* The disk's table of calls, with those that tell what is done to images replaced. */
static struct {
	struct sosie_io_ops ops;
	const struct sosie_io_ops *kept;
	uint64_t bytes_read;
	unsigned direct, buffered; /* opens of /s/made/root.raw */
} watched;

static void watch_submit(struct sosie_io *io, struct sosie_req *req)
{
	watched.bytes_read += req->op == SOSIE_OP_READ ? req->len : 0;
	watched.kept->submit(io, req);
}

static int watch_open(struct sosie_io *io, const char *path, unsigned flags, uint32_t mode,
                      struct sosie_file **out, struct sosie_err *err)
{
	if (strcmp(path, "/s/made/root.raw") == 0 && flags & SOSIE_WRITE) {
		watched.direct += (flags & SOSIE_DIRECT) != 0;
		watched.buffered += (flags & SOSIE_DIRECT) == 0;
	}
	return watched.kept->open(io, path, flags, mode, out, err);
}

static void watch(struct lab *l)
{
	memset(&watched, 0, sizeof(watched));
	watched.kept = l->io->ops;
	watched.ops = *watched.kept;
	watched.ops.submit = watch_submit;
	watched.ops.open = watch_open;
	l->io->ops = &watched.ops;
}

/* The cost of settling is that of what the images hold, not of what the segments say. */
static void test_settle_reads_once_what_is_touched_many_times(void **state)
{
	struct lab l;
	struct sosie_stat before, after;
	int head;
	uint64_t point;
	(void)state;
	start(&l, VOLUME);
	for (unsigned i = 0; i < 12; i++)
		changes[i] = (struct change){0, 0, VOLUME, i < 11 ? NULL : noise};
	lab_point(&l, changes, 12);
	lab_head_state(&l, &head, &point);
	assert_int_equal(head, SOSIE_HEAD_OPEN);
	OK(&l, sosie_io_stat(l.io, "/s/acme/erp/head/root.raw", &before, &l.err));
	lab_close(&l);
	lab_open(&l);
	watch(&l);
	OK(&l, sosie_keeper_settle(l.store, "acme", "erp", &l.err));
	/* The image once, the segment once, chain and trees. */
	print_message("read to settle: %llu KiB\n", (unsigned long long)watched.bytes_read / 1024);
	assert_in_range(watched.bytes_read, VOLUME, 3 * VOLUME);
	lab_head_state(&l, &head, &point);
	assert_int_equal(head, SOSIE_HEAD_CLEAN);
	OK(&l, sosie_io_stat(l.io, "/s/acme/erp/head/root.raw", &after, &l.err));
	assert_int_equal(before.ino, after.ino);
	lab_compare_dir(&l, "/s/acme/erp/head", &l.model);
	lab_fini(&l);
}

/* Offers `count` changes, and expects them to be refused for what message says; nothing is changed. */
static void expect_too_many(struct lab *l, unsigned count, enum make_as as, const char *message)
{
	struct sosie_verdict *v = calloc(1, sizeof(*v));
	struct model before;
	assert_non_null(v);
	model_copy(&before, &l->model);
	struct make_upload u = lab_upload(l, changes, count);
	u.as = as;
	make_upload(&u);
	lab_expect_refused(l, &u, SOSIE_ECORRUPT);
	lab_verdict(l, &u, v);
	assert_non_null(strstr(v->error.what, message));
	model_fini(&l->model);
	l->model = before;
	free(v);
}

/* Four times the volume and 64 MiB: 12 times 8 MiB. */
static void test_zeros_over_the_same_range_are_limited(void **state)
{
	struct lab l;
	(void)state;
	start(&l, VOLUME);
	for (unsigned i = 0; i <= 13; i++)
		changes[i] = (struct change){0, 0, VOLUME, NULL};
	expect_too_many(&l, 13, MAKE_DATA, "zero and discard records");
	changes[12] = (struct change){0, 100, 1, noise};
	lab_point(&l, changes, 13);
	lab_compare_dir(&l, "/s/acme/erp/head", &l.model);
	lab_check_points(&l);
	lab_fini(&l);
}

/* Twice the volume and 64 MiB: 66 times 1 MiB. */
static void test_deltas_of_the_same_chunk_are_limited(void **state)
{
	struct lab l;
	struct make_upload u;
	(void)state;
	start(&l, MIB);
	for (unsigned i = 0; i < 67; i++)
		changes[i] = (struct change){0, 4096u * (i % 3) + 10 * i, 30, noise + 31 * i + 1};
	expect_too_many(&l, 67, MAKE_DELTA, "deltas");
	lab_point_as(&l, changes, 66, MAKE_DELTA, &u);
	assert_int_equal(u.deltas, 66);
	lab_compare_dir(&l, "/s/acme/erp/head", &l.model);
	lab_check_points(&l);
	lab_fini(&l);
}

static void test_patches_of_the_same_chunk_are_limited(void **state)
{
	struct lab l;
	struct make_upload u;
	(void)state;
	start(&l, MIB);
	for (unsigned i = 0; i < 67; i++)
		changes[i] = (struct change){0, 0, MIB, i % 2 ? noise : other};
	expect_too_many(&l, 67, MAKE_PATCH, "patches");
	lab_point_as(&l, changes, 66, MAKE_PATCH, &u);
	assert_int_equal(u.patches, 66);
	lab_compare_dir(&l, "/s/acme/erp/head", &l.model);
	lab_check_points(&l);
	lab_fini(&l);
}

static void read_upload(struct lab *l, const struct make_upload *u, const char *suffix, char **bytes,
                        size_t *len)
{
	char path[512], id[33];
	sosie_hex(id, u->id.b, sizeof(u->id.b));
	snprintf(path, sizeof(path), "/s/acme/_inbox/erp/%s.%s", id, suffix);
	OK(l, sosie_io_read_file(l->io, path, 16 * MIB, bytes, len, &l->err));
}

/* The limits are for uploads: what an earlier release accepted can still be made. */
static void test_segment_beyond_the_limits_is_replayed_where_it_was_accepted(void **state)
{
	struct lab l;
	struct sosie_manifest m = {0};
	struct image_set *set;
	char *part, *text;
	size_t part_len, text_len;
	(void)state;
	start(&l, MIB);
	for (unsigned i = 0; i < 67; i++)
		changes[i] = (struct change){0, 4096u * (i % 3) + 10 * i, 30, noise + 31 * i + 1};
	struct make_upload u = lab_upload(&l, changes, 67);
	u.as = MAKE_DELTA;
	make_upload(&u);
	read_upload(&l, &u, "0", &part, &part_len);
	read_upload(&l, &u, "manifest", &text, &text_len);
	OK(&l, sosie_manifest_parse(text, text_len, &m, &l.err));
	OK(&l, sosie_io_write_file(l.io, "/s/acme/erp/journal/2.seg", part, part_len, 0440, &l.err));
	struct sosie_group *g = lab_group(&l);
	for (int bounded = 0; bounded < 2; bounded++) {
		OK(&l, images_materialise(g, 1, "/s/made", NULL, &l.err));
		OK(&l, images_open_mode(g, "/s/made", &m, IMAGES_UPDATE, &set, &l.err));
		set->bounded = bounded;
		int rc = images_apply(set, &m, 2, NULL, NULL, NULL, &l.err);
		assert_int_equal(rc, bounded ? -SOSIE_ECORRUPT : 0);
		assert_int_equal(set->bad_segment, bounded);
		OK(&l, images_close(set, &l.err));
		if (!bounded)
			lab_compare_dir(&l, "/s/made", &l.model);
		OK(&l, sosie_io_remove_tree(l.io, "/s/made", &l.err));
	}
	free(part);
	free(text);
	sosie_manifest_fini(&m);
	sosie_group_close(g);
	lab_fini(&l);
}

/* The first copy goes around the page cache; what builds on it must not wait for the disk at each read. */
static void test_replay_of_further_segments_is_buffered(void **state)
{
	const struct change c[] = {{0, 4100, 50, noise + 3}};
	struct lab l;
	(void)state;
	start(&l, MIB);
	watch(&l);
	struct sosie_group *g = lab_group(&l);
	OK(&l, images_materialise(g, 1, "/s/made", NULL, &l.err));
	assert_int_equal(watched.direct, 1);
	assert_int_equal(watched.buffered, 0);
	OK(&l, sosie_io_remove_tree(l.io, "/s/made", &l.err));
	sosie_group_close(g);
	lab_point_as(&l, c, 1, MAKE_DELTA, NULL);
	lab_point_as(&l, (const struct change[]){{0, 9000, 50, noise + 9}}, 1, MAKE_PATCH, NULL);
	g = lab_group(&l);
	OK(&l, images_materialise(g, 3, "/s/made", NULL, &l.err));
	assert_int_equal(watched.direct, 2);
	assert_int_equal(watched.buffered, 1);
	lab_compare_dir(&l, "/s/made", &l.model);
	sosie_group_close(g);
	lab_fini(&l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_settle_reads_once_what_is_touched_many_times),
	        cmocka_unit_test(test_zeros_over_the_same_range_are_limited),
	        cmocka_unit_test(test_deltas_of_the_same_chunk_are_limited),
	        cmocka_unit_test(test_patches_of_the_same_chunk_are_limited),
	        cmocka_unit_test(test_segment_beyond_the_limits_is_replayed_where_it_was_accepted),
	        cmocka_unit_test(test_replay_of_further_segments_is_buffered),
	};
	printf("seed %u\n", SEED);
	return cmocka_run_group_tests_name("bounds", tests, setup, NULL);
}

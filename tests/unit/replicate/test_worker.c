/* SPDX-License-Identifier: MIT */
/*
 * Reading and sending what a driver tells as changed: I1 under scattered ranges that begin and end anywhere,
 * patches from the base view, deltas where there is none, interrupted uploads. The driver here keeps views as
 * copies and compares them in units that are no leaves. SOSIE_ROUNDS: how many; seeds are printed.
 */
#include <errno.h>
#include <signal.h>
#include <sys/wait.h>

#include "engine/delta/rdiff_internal.h"
#include "engine/io/file.h"
#include "engine/replicate/pass.h"
#include "engine/replicate/signatures.h"
#include "tests/support/rounds.h"
#include "tests/unit/replicate/harness.h"

#define UNIT 1000u /* bytes in which views are compared */

/* --- the driver
 * ---------------------------------------------------------------------------------------------------- */

struct bytes {
	uint8_t *b;
	uint64_t size;
};

struct fake {
	struct sosie_source base;
	struct harness *h;
};

struct sosie_view {
	struct fake *f;
	struct sosie_view_id id;
	bool based;
	char path[4][160], base_path[4][160];
	struct bytes now[4], before[4];
};

static unsigned view_serial;
static bool cut_with_base;          /* the last view was */
static bool damage_base, lose_base; /* what base_path names is other content, or not there */

static struct bytes load(const char *path)
{
	struct bytes out;
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	out = (struct bytes){malloc((size_t)st.st_size + 1), (uint64_t)st.st_size};
	assert_non_null(out.b);
	assert_int_equal(read(fd, out.b, (size_t)st.st_size), st.st_size);
	close(fd);
	return out;
}

static void store(const char *path, const struct bytes *b)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, b->b, (size_t)b->size), (ssize_t)b->size);
	close(fd);
}

static void view_path(const struct harness *h, const char *id, unsigned i, char path[160])
{
	snprintf(path, 160, "%s/view-%s-%u", h->dir, id, i);
}

static void remove_view(const struct harness *h, const char *id)
{
	char path[160];

	for (unsigned i = 0; i < h->volume_count; i++) {
		view_path(h, id, i, path);
		unlink(path);
	}
}

static bool view_is_there(const struct harness *h, const char *id)
{
	char path[160];

	view_path(h, id, 0, path);
	return access(path, F_OK) == 0;
}

static int fake_settle(struct sosie_source *s, const struct sosie_view_id *ids, unsigned count, bool *held,
                       struct sosie_err *err)
{
	struct harness *h = ((struct fake *)s)->h;

	(void)err;
	for (unsigned n = 1; n <= view_serial; n++) {
		struct sosie_view_id id;
		bool named = false;

		snprintf(id.s, sizeof(id.s), "f%015u", n);
		for (unsigned i = 0; i < count; i++)
			named = named || strcmp(ids[i].s, id.s) == 0;
		if (!named)
			remove_view(h, id.s);
	}
	for (unsigned i = 0; i < count; i++)
		held[i] = ids[i].s[0] && view_is_there(h, ids[i].s);
	return 0;
}

static bool fake_unchanged(struct sosie_source *s, const struct sosie_view_id *id)
{
	(void)s, (void)id;
	return false;
}

static int fake_facts(struct sosie_source *s, struct sosie_cut_facts *out, struct sosie_err *err)
{
	(void)s, (void)err;
	*out = (struct sosie_cut_facts){.stall_us = -1, .last_us = -1, .last_predicted_us = -1};
	return 0;
}

static struct sosie_view *open_view(struct fake *f, const struct sosie_view_id *base,
                                    const struct sosie_view_id *id)
{
	struct sosie_view *v = calloc(1, sizeof(*v));

	assert_non_null(v);
	v->f = f;
	v->id = *id;
	v->based = base && base->s[0] && view_is_there(f->h, base->s);
	cut_with_base = base != NULL;
	for (unsigned i = 0; i < f->h->volume_count; i++) {
		view_path(f->h, id->s, i, v->path[i]);
		v->now[i] = load(v->path[i]);
		if (!v->based)
			continue;
		view_path(f->h, base->s, i, v->base_path[i]);
		v->before[i] = load(v->base_path[i]);
	}
	return v;
}

static int fake_cut(struct sosie_source *s, const struct sosie_view_id *base, struct sosie_view **view,
                    struct sosie_err *err)
{
	struct fake *f = (struct fake *)s;
	struct sosie_view_id id;
	char path[160];

	(void)err;
	snprintf(id.s, sizeof(id.s), "f%015u", ++view_serial);
	for (unsigned i = 0; i < f->h->volume_count; i++) {
		struct bytes b = load(f->h->volumes[i].path);

		view_path(f->h, id.s, i, path);
		store(path, &b);
		free(b.b);
	}
	*view = open_view(f, base, &id);
	return 0;
}

static int fake_reopen(struct sosie_source *s, const struct sosie_view_id *base,
                       const struct sosie_view_id *id, struct sosie_view **view, struct sosie_err *err)
{
	struct fake *f = (struct fake *)s;

	if (!view_is_there(f->h, id->s))
		return sosie_err_set(err, SOSIE_ENOTFOUND, "no view %s", id->s);
	*view = open_view(f, base, id);
	return 0;
}

static void fake_id(const struct sosie_view *view, struct sosie_view_id *out)
{
	*out = view->id;
}

static int fake_path(struct sosie_view *view, unsigned volume, const char **path, uint64_t *size,
                     struct sosie_err *err)
{
	(void)err;
	*path = view->path[volume];
	*size = view->now[volume].size;
	return 0;
}

static const char *fake_base_path(struct sosie_view *view, unsigned volume, uint64_t *size)
{
	*size = view->before[volume].size;
	if (!view->based)
		return NULL;
	if (lose_base)
		return "/nonexistent/base";
	return damage_base ? view->path[volume] : view->base_path[volume];
}

static enum sosie_extent_kind unit_kind(const struct sosie_view *v, unsigned volume, uint64_t at)
{
	const struct bytes *now = &v->now[volume], *before = &v->before[volume];
	uint64_t len = now->size - at < UNIT ? now->size - at : UNIT;

	if (v->based && at + len <= before->size && memcmp(now->b + at, before->b + at, (size_t)len) == 0)
		return SOSIE_EXTENT_SAME;
	return sosie_all_zero(now->b + at, (size_t)len) && at / UNIT % 5 ? SOSIE_EXTENT_HOLE
	                                                                 : SOSIE_EXTENT_DATA;
}

static int fake_next(struct sosie_view *view, unsigned volume, struct sosie_io *io, struct sosie_file *file,
                     uint64_t from, struct sosie_extent *out, struct sosie_err *err)
{
	uint64_t size = view->now[volume].size, at = from / UNIT * UNIT;

	(void)io, (void)file, (void)err;
	*out = (struct sosie_extent){SOSIE_EXTENT_END, size, size};
	if (from >= size)
		return 0;
	*out = (struct sosie_extent){unit_kind(view, volume, at), from, 0};
	while (at < size && unit_kind(view, volume, at) == out->kind)
		at += UNIT;
	out->end = at < size ? at : size;
	return 0;
}

static int fake_release(struct sosie_view *view, bool keep, enum sosie_consistency *consistency,
                        struct sosie_err *err)
{
	(void)err;
	*consistency = SOSIE_CONSISTENCY_CRASH;
	if (!keep)
		remove_view(view->f->h, view->id.s);
	for (unsigned i = 0; i < 4; i++) {
		free(view->now[i].b);
		free(view->before[i].b);
	}
	free(view);
	return 0;
}

static int fake_drop(struct sosie_source *s, const struct sosie_view_id *id, struct sosie_err *err)
{
	(void)err;
	remove_view(((struct fake *)s)->h, id->s);
	return 0;
}

static void fake_destroy(struct sosie_source *s)
{
	free(s);
}

static const struct sosie_source_ops fake_ops = {.name = "fake",
                                                 .settle = fake_settle,
                                                 .unchanged = fake_unchanged,
                                                 .facts = fake_facts,
                                                 .cut = fake_cut,
                                                 .reopen = fake_reopen,
                                                 .id = fake_id,
                                                 .path = fake_path,
                                                 .base_path = fake_base_path,
                                                 .next = fake_next,
                                                 .release = fake_release,
                                                 .drop = fake_drop,
                                                 .destroy = fake_destroy};

static struct sosie_source *fake_new(struct harness *h)
{
	struct fake *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	f->base.ops = &fake_ops;
	f->h = h;
	return &f->base;
}

static struct harness *tracked(unsigned streams, uint64_t size)
{
	struct harness *h = harness_new(streams);

	damage_base = lose_base = false;
	h->make_source = fake_new;
	add_volume(h, "a");
	set_size(h, 0, size);
	return h;
}

/* --- what was sent: the kinds of a point's records
 * ---------------------------------------------------------------------------------- */

struct kinds {
	unsigned of[8], packed; /* packed: records of packed ranges */
};

static void count_records(const char *path, struct kinds *k)
{
	struct bytes b = load(path);

	for (uint64_t at = 0; at < b.size;) {
		uint32_t ranges, payload;
		struct sosie_err err = {0};

		assert_true(at + SOSIE_RECORD_HEADER <= b.size);
		must(sosie_record_lengths(b.b + at, &ranges, &payload, &err), &err);
		k->of[b.b[at + 4] & 7]++;
		k->packed += b.b[at + 5] >> 7;
		at += SOSIE_RECORD_HEADER + ranges + payload;
	}
	free(b.b);
}

static struct kinds kinds_of(const struct harness *h, uint64_t point)
{
	struct kinds k = {.packed = 0};
	char path[200];

	for (unsigned part = 0; part < 64; part++) {
		if (part == 0)
			snprintf(path, sizeof(path), "%s/%s/%s/journal/%llu.seg", h->store_path, TENANT,
			         GROUP, (unsigned long long)point);
		else
			snprintf(path, sizeof(path), "%s/%s/%s/journal/%llu.%u.seg", h->store_path, TENANT,
			         GROUP, (unsigned long long)point, part);
		if (access(path, F_OK) == 0)
			count_records(path, &k);
	}
	return k;
}

static void add_kinds(struct kinds *sum, const struct kinds *k)
{
	for (unsigned i = 0; i < 8; i++)
		sum->of[i] += k->of[i];
}

static void write_at(const struct harness *h, unsigned i, uint64_t at, const void *data, size_t len)
{
	int fd = open_volume(h, i);

	assert_int_equal(pwrite(fd, data, len, (off_t)at), (ssize_t)len);
	close(fd);
}

static void read_at(const struct harness *h, unsigned i, uint64_t at, void *data, size_t len)
{
	int fd = open_volume(h, i);

	assert_int_equal(pread(fd, data, len, (off_t)at), (ssize_t)len);
	close(fd);
}

/* --- tests
 * ---------------------------------------------------------------------------------------------------------
 */

static void scatter(const struct harness *h)
{
	for (unsigned n = (unsigned)(rng() % 300); n > 0; n--) {
		unsigned i = (unsigned)(rng() % h->volume_count);
		uint64_t word = rng();

		write_at(h, i, rng() % (volume_size(h, i) - 8), &word, 8);
	}
}

static void shift(const struct harness *h)
{
	static uint8_t buf[300000];
	unsigned i = (unsigned)(rng() % h->volume_count);
	uint64_t size = volume_size(h, i), len = 1 + rng() % sizeof(buf), at;

	len = len + 200 < size ? len : size / 2;
	at = rng() % (size - len);
	read_at(h, i, at, buf, (size_t)len);
	at = at > 100 ? at - 100 : at;
	write_at(h, i, at, buf, (size_t)len);
}

static void change(const struct harness *h)
{
	unsigned i = (unsigned)(rng() % h->volume_count);
	uint64_t size = volume_size(h, i), off = rng() % size, len = 1 + rng() % 900000;

	len = len < size - off ? len : size - off;
	switch (rng() % 6) {
	case 0:
		punch(h, i, off, len);
		break;
	case 1:
		scribble(h, i, off, (size_t)len);
		break;
	case 2:
		set_size(h, i, 100 + rng() % VOLUME_MAX_BYTES);
		break;
	case 3:
		shift(h);
		break;
	default:
		scatter(h);
	}
}

static void replicate_changes(struct harness *h, unsigned cycles, struct kinds *sum)
{
	uint64_t point = 0;

	h->o.allow_shrink = true;
	open_replicator(h);
	for (unsigned n = 0; n < cycles; n++) {
		struct kinds k;

		must(cycle(h), &h->err);
		point += !h->result.same;
		assert_int_equal(h->result.point, point);
		assert_true(!h->make_source || cut_with_base == (n > 0));
		check_point(h, point);
		k = kinds_of(h, point);
		add_kinds(sum, &k);
		if (rng() % 4 == 0) {
			close_replicator(h);
			open_replicator(h);
		}
		change(h);
	}
	assert_int_equal(h->refused, 0);
}

static void run_random(bool with_views, struct kinds *sum)
{
	for (unsigned n = 0; n < test_rounds(2, 8); n++) {
		struct harness *h = tracked(1 + n % 2, 5u << 20);

		if (!with_views)
			h->make_source = NULL;
		rng_state = n + 77;
		print_message("seed %u\n", n + 77);
		add_volume(h, "b");
		set_size(h, 1, (1u << 20) + 555);
		scribble(h, 0, 0, 3u << 20);
		scribble(h, 1, 5000, 1u << 20);
		replicate_changes(h, 12, sum);
		harness_free(h);
	}
}

static void test_worker_random_changes_with_views_equal_points(void **state)
{
	struct kinds sum = {.packed = 0};

	(void)state;
	run_random(true, &sum);
	assert_true(sum.of[SOSIE_RECORD_PATCH] > 5);
	assert_true(sum.of[SOSIE_RECORD_DATA] > 5);
	assert_int_equal(sum.of[SOSIE_RECORD_DELTA], 0);
}

static void test_worker_random_changes_without_views_equal_points(void **state)
{
	struct kinds sum = {.packed = 0};

	(void)state;
	run_random(false, &sum);
	assert_true(sum.of[SOSIE_RECORD_DELTA] > 3);
	assert_int_equal(sum.of[SOSIE_RECORD_PATCH], 0);
}

static void test_worker_one_changed_leaf_reads_that_leaf_and_what_it_was(void **state)
{
	struct harness *h = tracked(2, 6u << 20);
	struct kinds k;

	(void)state;
	rng_state = 1;
	scribble(h, 0, 0, 6u << 20);
	open_replicator(h);
	must(cycle(h), &h->err);
	assert_int_equal(h->result.read_bytes, 6u << 20);
	write_at(h, 0, 4096 * 700 + 1500, "changed", 7);
	h->data_bytes = 0;
	must(cycle(h), &h->err);
	check_point(h, 2);
	assert_int_equal(h->result.read_bytes, 2 * 4096);
	assert_int_equal(h->result.changed_bytes, 4096);
	k = kinds_of(h, 2);
	assert_int_equal(k.of[SOSIE_RECORD_PATCH], 1);
	assert_int_equal(k.of[SOSIE_RECORD_DATA], 0);
	assert_true(h->data_bytes > 0 && h->data_bytes < 400);
	harness_free(h);
}

/* Every other leaf of the volume: the most reads that chunks can ask for. */
static void test_worker_alternating_leaves_are_sent_as_patches(void **state)
{
	struct harness *h = tracked(1, 6u << 20);
	struct kinds k;

	(void)state;
	rng_state = 2;
	for (unsigned leaf = 0; leaf < 1536; leaf++)
		write_at(h, 0, leaf * 4096 + 10, &(uint64_t){rng() | 1}, 8);
	open_replicator(h);
	must(cycle(h), &h->err);
	for (unsigned leaf = 0; leaf < 1536; leaf += 2)
		write_at(h, 0, leaf * 4096 + 2000, &(uint64_t){rng() | 1}, 8);
	must(cycle(h), &h->err);
	check_point(h, 2);
	assert_int_equal(h->result.changed_bytes, 768 * 4096);
	k = kinds_of(h, 2);
	assert_int_equal(k.of[SOSIE_RECORD_PATCH] + k.of[SOSIE_RECORD_DATA], 3);
	assert_true(k.of[SOSIE_RECORD_PATCH] > 0);
	harness_free(h);
}

/* The leaf held nothing before: there is nothing to patch. */
static void test_worker_leaf_that_was_zero_is_sent_as_data(void **state)
{
	struct harness *h = tracked(1, 2u << 20);
	struct kinds k;

	(void)state;
	rng_state = 3;
	scribble(h, 0, 0, 1u << 20);
	open_replicator(h);
	must(cycle(h), &h->err);
	scribble(h, 0, (1u << 20) + 8192, 4096);
	must(cycle(h), &h->err);
	check_point(h, 2);
	k = kinds_of(h, 2);
	assert_int_equal(k.of[SOSIE_RECORD_PATCH], 0);
	assert_int_equal(k.of[SOSIE_RECORD_DATA], 1);
	harness_free(h);
}

static void test_worker_base_with_other_content_sends_data(void **state)
{
	struct harness *h = tracked(1, 2u << 20);
	struct kinds k;

	(void)state;
	rng_state = 4;
	scribble(h, 0, 0, 2u << 20);
	open_replicator(h);
	must(cycle(h), &h->err);
	damage_base = true;
	write_at(h, 0, 4096 * 5, "x", 1);
	write_at(h, 0, 4096 * 300, "x", 1);
	must(cycle(h), &h->err);
	check_point(h, 2);
	k = kinds_of(h, 2);
	assert_int_equal(k.of[SOSIE_RECORD_PATCH], 0);
	assert_true(k.of[SOSIE_RECORD_DATA] > 0);
	damage_base = false;
	write_at(h, 0, 4096 * 300 + 99, "y", 1);
	must(cycle(h), &h->err);
	check_point(h, 3);
	k = kinds_of(h, 3);
	assert_int_equal(k.of[SOSIE_RECORD_PATCH], 1);
	assert_int_equal(h->refused, 0);
	harness_free(h);
}

/* Its space was given back meanwhile: what was told against it may not have been whole. */
static void test_worker_base_that_is_gone_makes_no_point(void **state)
{
	struct harness *h = tracked(1, 2u << 20);
	struct kinds k;

	(void)state;
	rng_state = 5;
	scribble(h, 0, 0, 2u << 20);
	open_replicator(h);
	must(cycle(h), &h->err);
	lose_base = true;
	write_at(h, 0, 4096 * 5, "x", 1);
	assert_int_equal(cycle(h), -SOSIE_ENOSPACE);
	assert_int_equal(h->accepted, 1);
	lose_base = false;
	must(cycle(h), &h->err);
	check_point(h, 2);
	k = kinds_of(h, 2);
	assert_true(k.of[SOSIE_RECORD_PATCH] + k.of[SOSIE_RECORD_DATA] > 0);
	assert_int_equal(h->refused, 0);
	harness_free(h);
}

/* Cut the line at frame n, until a run needs none; resumed from the same view, and equal. Every frame in the
 * full count, else every other one. */
static void sweep_cuts(unsigned streams)
{
	unsigned cuts = 0, resumed = 0, step = test_stride(2, 5);

	for (unsigned n = streams - 1;; n += step) {
		struct harness *h = tracked(streams, 6u << 20);
		int rc;

		rng_state = n;
		scribble(h, 0, 0, 4u << 20); /* the rest was zeros: data among the patches */
		open_replicator(h);
		must(cycle(h), &h->err);
		for (unsigned leaf = 0; leaf < 1536; leaf += 1 + (unsigned)(rng() % 3))
			scribble(h, 0, leaf * 4096, 3000);
		h->fail_at = (long)n;
		rc = cycle(h);
		h->fail_at = -1;
		if (rc == 0) {
			harness_free(h);
			break;
		}
		cuts++;
		close_replicator(h);
		open_replicator(h);
		must(cycle(h), &h->err);
		assert_false(h->result.compared);
		resumed += h->result.resumed;
		assert_int_equal(h->refused, 0);
		check_point(h, h->result.point);
		write_at(h, 0, 4096 * 9 + 5, "after", 5);
		must(cycle(h), &h->err);
		check_point(h, h->result.point);
		assert_int_equal(h->refused, 0);
		harness_free(h);
	}
	print_message("%u cuts, %u resumed\n", cuts, resumed);
	assert_true(cuts >= 8 / step && resumed >= 4 / step);
}

static void test_worker_upload_cut_anywhere_goes_on_with_patches(void **state)
{
	(void)state;
	for (unsigned streams = 1; streams <= 2; streams++)
		sweep_cuts(streams);
}

/* Without the line that a keeper of this release writes, the store is one of an older keeper. */
static void limits_are_of_an_older_keeper(const struct harness *h)
{
	char path[200], text[512];
	FILE *file;
	size_t len;
	char *at;

	snprintf(path, sizeof(path), "%s/%s/_outbox/limits", h->store_path, TENANT);
	file = fopen(path, "r+");
	assert_non_null(file);
	len = fread(text, 1, sizeof(text) - 1, file);
	text[len] = '\0';
	at = strstr(text, "packed=1\n");
	assert_non_null(at);
	memcpy(at, "ignore", 6);
	rewind(file);
	assert_int_equal(fwrite(text, 1, len, file), len);
	assert_int_equal(fclose(file), 0);
}

static void test_worker_packs_ranges_only_where_the_standby_reads_them(void **state)
{
	(void)state;
	for (int old = 0; old < 2; old++) {
		struct harness *h = tracked(1, 2u << 20);
		struct kinds k;

		rng_state = 3;
		scribble(h, 0, 0, 2u << 20);
		if (old)
			limits_are_of_an_older_keeper(h);
		open_replicator(h);
		must(cycle(h), &h->err);
		for (unsigned leaf = 1; leaf < 512; leaf += 3)
			write_at(h, 0, leaf * 4096 + 5, "here", 4);
		must(cycle(h), &h->err);
		check_point(h, 2);
		k = kinds_of(h, 2);
		assert_int_equal(k.of[SOSIE_RECORD_PATCH], 1);
		assert_int_equal(k.of[SOSIE_RECORD_DATA], 1); /* some of the leaves were zeros */
		assert_int_equal(k.packed, old ? 0 : 2);
		h->data_bytes = 0;
		for (unsigned leaf = 1; leaf < 512; leaf += 3)
			write_at(h, 0, leaf * 4096 + 5, "HERE", 4);
		must(cycle(h), &h->err);
		print_message("%llu bytes for 171 ranges\n", (unsigned long long)h->data_bytes);
		assert_true(old ? h->data_bytes > 171 * SOSIE_RANGE_BYTES
		                : h->data_bytes < 171 * SOSIE_RANGE_BYTES);
		harness_free(h);
	}
}

/* --- scan
 * ----------------------------------------------------------------------------------------------------------
 */

static struct harness *scanned(void)
{
	struct harness *h = tracked(1, 3u << 20);

	h->make_source = NULL;
	rng_state = 5;
	scribble(h, 0, 0, 3u << 20);
	open_replicator(h);
	must(cycle(h), &h->err);
	return h;
}

static void insert_bytes(const struct harness *h, uint64_t at, size_t len)
{
	uint8_t *buf = malloc(len + 10);

	assert_non_null(buf);
	memcpy(buf, "inserted ", 9);
	read_at(h, 0, at, buf + 9, len);
	write_at(h, 0, at, buf, len + 9);
	free(buf);
}

static void test_scan_first_copy_makes_no_signatures(void **state)
{
	struct harness *h = scanned();
	char path[160];

	(void)state;
	snprintf(path, sizeof(path), "%s/a.signatures", h->state_path);
	assert_int_not_equal(access(path, F_OK), 0);
	insert_bytes(h, 2000, 50000);
	must(cycle(h), &h->err);
	assert_int_equal(access(path, F_OK), 0);
	harness_free(h);
}

static void test_scan_shifted_content_goes_as_delta_from_the_second_change_on(void **state)
{
	struct harness *h = scanned();
	struct kinds k;

	(void)state;
	insert_bytes(h, (1u << 20) + 2000, 300000);
	must(cycle(h), &h->err);
	k = kinds_of(h, 2);
	assert_int_equal(k.of[SOSIE_RECORD_DELTA], 0);
	assert_true(k.of[SOSIE_RECORD_DATA] > 0);
	insert_bytes(h, (1u << 20) + 2000, 300000);
	h->data_bytes = 0;
	must(cycle(h), &h->err);
	check_point(h, 3);
	k = kinds_of(h, 3);
	assert_int_equal(k.of[SOSIE_RECORD_DELTA], 1);
	assert_int_equal(k.of[SOSIE_RECORD_DATA], 0);
	assert_true(h->data_bytes < 20000);
	assert_int_equal(h->refused, 0);
	harness_free(h);
}

/* A chunk with a hole in it is not read whole: its signature is made all the same. */
static void test_scan_chunk_with_a_hole_gets_a_signature(void **state)
{
	struct harness *h = scanned();
	struct kinds k;

	(void)state;
	punch(h, 0, 1u << 20, 262144);
	insert_bytes(h, (1u << 20) + 300000, 100000);
	must(cycle(h), &h->err);
	insert_bytes(h, (1u << 20) + 300000, 100000);
	must(cycle(h), &h->err);
	check_point(h, 3);
	k = kinds_of(h, 3);
	assert_int_equal(k.of[SOSIE_RECORD_DELTA], 1);
	harness_free(h);
}

/* Without the signatures it is data, and they come back. */
static void test_scan_lost_signatures_send_data(void **state)
{
	struct harness *h = scanned();
	char path[160];
	struct kinds k;

	(void)state;
	snprintf(path, sizeof(path), "%s/a.signatures", h->state_path);
	insert_bytes(h, 2000, 50000);
	must(cycle(h), &h->err);
	close_replicator(h);
	assert_int_equal(truncate(path, 5000), 0);
	open_replicator(h);
	insert_bytes(h, 2000, 50000);
	must(cycle(h), &h->err);
	check_point(h, 3);
	k = kinds_of(h, 3);
	assert_int_equal(k.of[SOSIE_RECORD_DELTA], 0);
	insert_bytes(h, 2000, 50000);
	must(cycle(h), &h->err);
	check_point(h, 4);
	k = kinds_of(h, 4);
	assert_int_equal(k.of[SOSIE_RECORD_DELTA], 1);
	harness_free(h);
}

/* Sends nothing and kills nobody: as long as the file is unusable changes go as data. */
static void check_as_data(struct harness *h, uint64_t point)
{
	struct kinds k;

	insert_bytes(h, 2000, 50000);
	must(cycle(h), &h->err);
	check_point(h, point);
	k = kinds_of(h, point);
	assert_true(k.of[SOSIE_RECORD_DELTA] == 0 && k.of[SOSIE_RECORD_DATA] > 0);
}

static void test_scan_signatures_that_cannot_be_opened_send_data(void **state)
{
	struct harness *h = scanned();
	char path[160];

	(void)state;
	snprintf(path, sizeof(path), "%s/a.signatures", h->state_path);
	must(sosie_io_mkdir(h->io, path, 0700, &h->err), &h->err);
	check_as_data(h, 2);
	check_as_data(h, 3);
	assert_true(h->r->volumes[0].signatures_told);
	must(sosie_io_rmdir(h->io, path, &h->err), &h->err);
	check_as_data(h, 4); /* makes the signature */
	insert_bytes(h, 2000, 50000);
	must(cycle(h), &h->err);
	check_point(h, 5);
	assert_int_equal(kinds_of(h, 5).of[SOSIE_RECORD_DELTA], 1);
	harness_free(h);
}

static void test_scan_signatures_that_cannot_be_read_or_written_send_data(void **state)
{
	struct sosie_fault_plan plan = {
	        .kind = SOSIE_FAULT_ERROR, .at = UINT64_MAX, .onwards = true, .sys = EIO};
	struct harness *h = scanned();
	struct signatures *s;
	struct sosie_io *faulty;
	char path[160];

	(void)state;
	check_as_data(h, 2); /* makes the signature */
	snprintf(path, sizeof(path), "%s/a.signatures", h->state_path);
	must(sosie_io_fault(h->io, &plan, &faulty, &h->err), &h->err);
	must(signatures_open(faulty, path, &h->r->volumes[0].ctx, &s, &h->err), &h->err);
	h->r->volumes[0].signatures = s;
	plan.at = 0;
	check_as_data(h, 3);
	assert_true(plan.fired >= 2); /* a get, and a put */
	assert_true(h->r->volumes[0].signatures_told);
	sosie_io_free(faulty);
	harness_free(h);
}

/* Until requests are refused: children that die of what they are asked. */
static void use_up_purse(struct rdiff *r)
{
	static uint8_t region[RDIFF_REGION], sig[RDIFF_SIGNATURE_MAX];
	struct rdiff_counters c;
	struct sosie_err err;
	siginfo_t info;
	size_t len;

	for (unsigned i = 0; i < 20; i++) {
		assert_int_equal(rdiff_signature(r, region, sizeof(region), sig, &len, &err), 0);
		rdiff_counters(r, &c);
		if (c.refused > 0)
			return;
		assert_true(c.child > 0);
		assert_int_equal(kill(c.child, SIGKILL), 0);
		assert_int_equal(waitid(P_PID, (id_t)c.child, &info, WEXITED | WNOWAIT), 0);
		assert_int_equal(rdiff_signature(r, region, sizeof(region), sig, &len, &err), 0);
		assert_int_equal(len, 0);
	}
	fail_msg("no request was refused");
}

/* What content has cost is remembered by the next cycle; a child is not kept for it. */
static void test_scan_cost_of_signatures_is_remembered_between_cycles(void **state)
{
	struct harness *h = scanned();
	struct rdiff_counters before, after;

	(void)state;
	insert_bytes(h, 2000, 50000);
	must(cycle(h), &h->err);
	assert_non_null(h->r->rdiffs[0]);
	rdiff_counters(h->r->rdiffs[0], &before);
	assert_true(before.started == 1 && before.child == 0 && before.refused == 0);
	use_up_purse(h->r->rdiffs[0]);
	rdiff_counters(h->r->rdiffs[0], &before);
	for (unsigned i = 1; i < 3; i++) { /* chunks that have no signature yet */
		insert_bytes(h, ((uint64_t)i << 20) + 2000, 50000);
		must(cycle(h), &h->err);
		rdiff_counters(h->r->rdiffs[0], &after);
		assert_int_equal(after.started, before.started);
		assert_int_equal(after.refused, before.refused + i);
		assert_int_equal(after.child, 0);
		check_point(h, 2 + i);
	}
	harness_free(h);
}

/* --- a ring that fails
 * --------------------------------------------------------------------------------------------- */

/* Reads are under way until they are reaped; the first reap fails. */
struct slow {
	struct sosie_io base;
	struct sosie_req *reqs[SOSIE_RECORD_RANGES_MAX];
	unsigned count, reaps, done;
	bool closed_early; /* the file was, while reads were under way */
};

static int slow_open(struct sosie_io *io, const char *path, unsigned flags, uint32_t mode,
                     struct sosie_file **out, struct sosie_err *err)
{
	(void)io, (void)flags, (void)mode, (void)err;
	*out = malloc(sizeof(**out));
	assert_non_null(*out);
	(*out)->path = strdup(path);
	assert_non_null((*out)->path);
	return 0;
}

static int slow_close(struct sosie_io *io, struct sosie_file *file, struct sosie_err *err)
{
	struct slow *s = (struct slow *)io;

	(void)err;
	s->closed_early = s->done < s->count;
	free(file->path);
	free(file);
	return 0;
}

static void slow_submit(struct sosie_io *io, struct sosie_req *req)
{
	struct slow *s = (struct slow *)io;

	s->reqs[s->count++] = req;
}

static int slow_reap(struct sosie_io *io, unsigned min, struct sosie_err *err)
{
	struct slow *s = (struct slow *)io;
	struct sosie_req *req;

	if (s->reaps++ == 0)
		return sosie_err_set(err, SOSIE_EIO, "the test's ring fails");
	assert_true(min > 0 && s->done < s->count);
	req = s->reqs[s->done++];
	memset(req->buf, 7, req->len);
	req->got = req->len;
	req->sys = 0;
	req->done(req);
	return 1;
}

static const struct sosie_io_ops slow_ops = {
        .name = "slow", .open = slow_open, .close = slow_close, .submit = slow_submit, .reap = slow_reap};

static void test_old_of_a_ring_that_failed_is_freed_after_its_reads(void **state)
{
	static const struct sosie_range ranges[] = {{.leaf = 0, .leaves = 2}, {.leaf = 5, .leaves = 1}};
	struct slow slow = {.base = {&slow_ops}};
	struct sosie_digest digests[3] = {0};
	struct harness *h = tracked(1, 1u << 20);
	struct old *old;
	const void *bytes;

	(void)state;
	open_replicator(h);
	h->r->volumes[0].base_path = "base";
	h->r->volumes[0].base_size = 1u << 20;
	must(old_new(h->r, &slow.base, &old, &h->err), &h->err);
	assert_int_equal(old_fetch(old, ranges, 2, digests, &bytes, &h->err), -SOSIE_EIO);
	assert_true(slow.count == 2 && slow.done == 0);
	old_free(old);
	assert_int_equal(slow.done, 2);
	assert_false(slow.closed_early);
	harness_free(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_worker_random_changes_with_views_equal_points),
	        cmocka_unit_test(test_worker_random_changes_without_views_equal_points),
	        cmocka_unit_test(test_worker_one_changed_leaf_reads_that_leaf_and_what_it_was),
	        cmocka_unit_test(test_worker_alternating_leaves_are_sent_as_patches),
	        cmocka_unit_test(test_worker_leaf_that_was_zero_is_sent_as_data),
	        cmocka_unit_test(test_worker_base_with_other_content_sends_data),
	        cmocka_unit_test(test_worker_base_that_is_gone_makes_no_point),
	        cmocka_unit_test(test_worker_upload_cut_anywhere_goes_on_with_patches),
	        cmocka_unit_test(test_worker_packs_ranges_only_where_the_standby_reads_them),
	        cmocka_unit_test(test_scan_first_copy_makes_no_signatures),
	        cmocka_unit_test(test_scan_shifted_content_goes_as_delta_from_the_second_change_on),
	        cmocka_unit_test(test_scan_chunk_with_a_hole_gets_a_signature),
	        cmocka_unit_test(test_scan_lost_signatures_send_data),
	        cmocka_unit_test(test_scan_signatures_that_cannot_be_opened_send_data),
	        cmocka_unit_test(test_scan_signatures_that_cannot_be_read_or_written_send_data),
	        cmocka_unit_test(test_scan_cost_of_signatures_is_remembered_between_cycles),
	        cmocka_unit_test(test_old_of_a_ring_that_failed_is_freed_after_its_reads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

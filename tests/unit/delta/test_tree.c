/* SPDX-License-Identifier: MIT */
/*
 * Trees of digests against a naive model: all leaf digests in memory, all nodes hashed anew for each
 * comparison. The model covers windows of a volume of up to 1 PiB, so that sparse sizes are met without
 * walking them.
 */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/delta/tree_path.h"

#define WINDOWS 4u
#define WINDOW_LEAVES (4u * SOSIE_FANOUT)
#define TIB ((uint64_t)1 << 40)

static struct sosie_io *io;
static struct sosie_hash *hash;
static struct sosie_digest ctx;
static char base_path[128], layer_path[160];

/* Windows of leaves, ascending, each beginning at a multiple of 256; all other leaves are zero. */
struct model {
	uint64_t size;
	uint64_t start[WINDOWS];
	struct sosie_digest leaf[WINDOWS][WINDOW_LEAVES];
};
static struct model model, saved;

static const uint64_t starts[WINDOWS] = {0, 65536 - 512, (uint64_t)3 << 24, ((uint64_t)1 << 32) - 512};

static void model_init(uint64_t size)
{
	memset(&model, 0, sizeof(model));
	model.size = size;
	memcpy(model.start, starts, sizeof(starts));
}

struct node {
	uint64_t index;
	struct sosie_digest digest;
};

/* The root by the definition: a list of non-zero digests of one level becomes that of the next. */
static struct sosie_digest model_root(void)
{
	static struct node nodes[WINDOWS * WINDOW_LEAVES];
	size_t count = 0;
	struct sosie_digest root, top = {{0}};

	for (unsigned w = 0; w < WINDOWS; w++)
		for (unsigned i = 0; i < WINDOW_LEAVES; i++)
			if (!sosie_digest_is_zero(&model.leaf[w][i]))
				nodes[count++] = (struct node){model.start[w] + i, model.leaf[w][i]};
	for (unsigned level = 1; level <= SOSIE_TREE_LEVELS; level++) {
		size_t made = 0;

		for (size_t i = 0; i < count;) {
			struct sosie_digest children[SOSIE_FANOUT] = {0};
			uint64_t parent = nodes[i].index / SOSIE_FANOUT;

			for (; i < count && nodes[i].index / SOSIE_FANOUT == parent; i++)
				children[nodes[i].index % SOSIE_FANOUT] = nodes[i].digest;
			nodes[made].index = parent;
			sosie_digest_node(hash, &ctx, level, parent, children, &nodes[made++].digest);
		}
		count = made;
	}
	if (count > 0)
		top = nodes[0].digest;
	sosie_digest_root(hash, &ctx, model.size, &top, &root);
	return root;
}

static struct sosie_digest *model_leaf(uint64_t leaf)
{
	for (unsigned w = 0; w < WINDOWS; w++)
		if (leaf >= model.start[w] && leaf - model.start[w] < WINDOW_LEAVES)
			return &model.leaf[w][leaf - model.start[w]];
	return NULL;
}

static void model_zero(uint64_t first, uint64_t end)
{
	for (unsigned w = 0; w < WINDOWS; w++)
		for (unsigned i = 0; i < WINDOW_LEAVES; i++)
			if (model.start[w] + i >= first && model.start[w] + i < end)
				memset(&model.leaf[w][i], 0, sizeof(model.leaf[w][i]));
}

static uint64_t model_next(uint64_t from)
{
	for (unsigned w = 0; w < WINDOWS; w++)
		for (unsigned i = 0; i < WINDOW_LEAVES; i++)
			if (model.start[w] + i >= from && !sosie_digest_is_zero(&model.leaf[w][i]))
				return model.start[w] + i;
	return UINT64_MAX;
}

static uint64_t number(uint64_t below)
{
	uint64_t v = (uint64_t)(unsigned)rand() << 40 ^ (uint64_t)(unsigned)rand() << 20 ^
	             (uint64_t)(unsigned)rand();

	return below ? v % below : 0;
}

static struct sosie_digest some_digest(void)
{
	struct sosie_digest d = {{0}};

	if (number(4) != 0)
		for (size_t i = 0; i < sizeof(d.b); i++)
			d.b[i] = (uint8_t)rand();
	return d;
}

#define OK(call)                                                                                             \
	do {                                                                                                 \
		struct sosie_err err_ = {0};                                                                 \
		int rc_ = (call);                                                                            \
		if (rc_ != 0)                                                                                \
			print_message("%s:%d: %s: %d %s (%s)\n", __FILE__, __LINE__, #call, rc_, err_.what,  \
			              err_.where);                                                           \
		assert_int_equal(rc_, 0);                                                                    \
	} while (0)

static struct sosie_tree *open_tree(bool layered)
{
	struct sosie_tree *t = NULL;

	if (layered)
		OK(sosie_tree_open_layer(io, base_path, layer_path, &ctx, &t, &err_));
	else
		OK(sosie_tree_open(io, base_path, &ctx, true, &t, &err_));
	return t;
}

static struct sosie_tree *fresh(uint64_t size)
{
	struct sosie_tree *t = NULL;

	unlink(base_path);
	unlink(layer_path);
	OK(sosie_tree_create(io, base_path, &ctx, size, &t, &err_));
	return t;
}

static void compare(struct sosie_tree *t)
{
	struct sosie_digest root, expected = model_root(), block[SOSIE_FANOUT];
	unsigned bad_level, blocks = 0;
	uint64_t bad_index, leaf, from = 0;

	assert_int_equal(sosie_tree_size(t), model.size);
	OK(sosie_tree_root(t, &root, &err_));
	assert_memory_equal(&root, &expected, sizeof(root));
	for (unsigned w = 0; w < WINDOWS; w++)
		for (unsigned b = 0; b < WINDOW_LEAVES / SOSIE_FANOUT; b++, blocks++) {
			OK(sosie_tree_get(t, 0, model.start[w] / SOSIE_FANOUT + b, block, &err_));
			assert_memory_equal(block, &model.leaf[w][b * SOSIE_FANOUT], sizeof(block));
		}
	assert_int_equal(blocks, WINDOWS * WINDOW_LEAVES / SOSIE_FANOUT);
	for (unsigned i = 0; i < 50; i++) {
		from = number(4) ? model_next(from) + 1 : starts[number(WINDOWS)] + number(WINDOW_LEAVES);
		OK(sosie_tree_next(t, from, &leaf, &err_));
		assert_int_equal(leaf, model_next(from));
	}
	OK(sosie_tree_check(t, &bad_level, &bad_index, &err_));
	assert_int_equal(bad_level, UINT_MAX);
}

static void put_some(struct sosie_tree *t)
{
	struct sosie_digest digests[600];
	unsigned w = (unsigned)number(WINDOWS), count = 1 + (unsigned)number(600);
	uint64_t first = model.start[w] + number(WINDOW_LEAVES - count), end = tree_leaves(model.size);

	if (first + count > end)
		return;
	for (unsigned i = 0; i < count; i++) {
		digests[i] = some_digest();
		*model_leaf(first + i) = digests[i];
	}
	OK(sosie_tree_put_leaves(t, first, count, digests, &err_));
}

static void zero_some(struct sosie_tree *t)
{
	uint64_t end = tree_leaves(model.size),
	         first = number(2) ? number(end) : starts[number(WINDOWS)] + number(700);
	uint64_t count = number(2) ? number(700) : number(UINT64_C(1) << number(38));

	if (first >= end)
		return;
	count = count < end - first ? count : end - first;
	model_zero(first, first + count);
	OK(sosie_tree_put_leaves(t, first, count, NULL, &err_));
}

static void resize_some(struct sosie_tree *t)
{
	static const uint64_t sizes[] = {TIB / 1024 + 5, 300 * TIB / 1024, 16 * TIB, 17 * TIB,
	                                 SOSIE_VOLUME_MAX};
	uint64_t size = sizes[number(5)];

	if (size < model.size)
		model_zero(tree_leaves(size), UINT64_MAX);
	model.size = size;
	OK(sosie_tree_resize(t, size, &err_));
}

static void step(struct sosie_tree **t, bool layered)
{
	uint64_t dice = number(100);

	if (dice < 60)
		put_some(*t);
	else if (dice < 80)
		zero_some(*t);
	else if (dice < 84)
		resize_some(*t);
	else if (dice < 88)
		OK(sosie_tree_refresh(*t, starts[number(WINDOWS)] / SOSIE_FANOUT, number(5), &err_));
	else if (dice < 90)
		OK(sosie_tree_refresh(*t, 0, SOSIE_VOLUME_MAX / SOSIE_CHUNK, &err_));
	else if (dice < 93)
		OK(sosie_tree_sync(*t, &err_));
	else if (dice < 96) {
		OK(sosie_tree_close(*t, &err_));
		*t = open_tree(layered);
	} else
		compare(*t);
}

static void test_tree_random_changes_match_the_model(void **state)
{
	struct sosie_tree *t;

	(void)state;
	model_init(17 * TIB);
	t = fresh(model.size);
	for (unsigned i = 0; i < 1500; i++)
		step(&t, false);
	compare(t);
	OK(sosie_tree_close(t, &err_));
}

static void copy_file(const char *from, const char *to)
{
	struct sosie_file *src, *dst;
	bool cloned;

	OK(sosie_io_openat(io, from, SOSIE_READ, 0, &src, &err_));
	OK(sosie_io_openat(io, to, SOSIE_WRITE | SOSIE_CREATE | SOSIE_TRUNC, 0600, &dst, &err_));
	OK(sosie_io_copy(io, src, dst, &cloned, NULL, &err_));
	OK(sosie_io_close(io, dst, &err_));
	OK(sosie_io_close(io, src, &err_));
}

static void test_layer_random_changes_merge_twice_match_the_model(void **state)
{
	struct sosie_tree *t;
	char copy[sizeof(layer_path) + 8];

	(void)state;
	snprintf(copy, sizeof(copy), "%s.copy", layer_path);
	model_init(17 * TIB);
	t = fresh(model.size);
	for (unsigned round = 0; round < 12; round++) {
		for (unsigned i = 0; i < 10; i++)
			put_some(t);
		OK(sosie_tree_close(t, &err_));
		saved = model;
		t = open_tree(true);
		for (unsigned i = 0; i < 60; i++)
			step(&t, true);
		compare(t);
		OK(sosie_tree_close(t, &err_));
		OK(sosie_tree_open(io, base_path, &ctx, true, &t, &err_)); /* the base did not move */
		{
			struct model changed = model;

			model = saved;
			compare(t);
			model = changed;
		}
		OK(sosie_tree_close(t, &err_));
		copy_file(layer_path, copy);
		OK(sosie_tree_merge(io, base_path, layer_path, &ctx, &err_));
		assert_int_equal(rename(copy, layer_path), 0);
		OK(sosie_tree_merge(io, base_path, layer_path, &ctx, &err_)); /* as after a crash */
		t = open_tree(true);
		compare(t);
		OK(sosie_tree_close(t, &err_));
		t = open_tree(false);
		compare(t);
	}
	OK(sosie_tree_close(t, &err_));
}

static void test_layer_huge_zero_masks_base_and_revert_brings_back_one_block(void **state)
{
	struct sosie_tree *t;
	struct sosie_digest block[SOSIE_FANOUT];

	(void)state;
	model_init(17 * TIB);
	t = fresh(model.size);
	for (unsigned i = 0; i < 30; i++)
		put_some(t);
	*model_leaf(5) = *model_leaf(65536) = (struct sosie_digest){{1}};
	OK(sosie_tree_put_leaves(t, 5, 1, model_leaf(5), &err_));
	OK(sosie_tree_put_leaves(t, 65536, 1, model_leaf(65536), &err_));
	OK(sosie_tree_close(t, &err_));
	saved = model;
	t = open_tree(true);
	OK(sosie_tree_put_leaves(t, 0, tree_leaves(model.size), NULL, &err_));
	model_zero(0, UINT64_MAX);
	compare(t);
	OK(sosie_tree_revert(t, 65536 / SOSIE_FANOUT, &err_));
	memcpy(model_leaf(65536), &saved.leaf[1][512], sizeof(block));
	compare(t);
	OK(sosie_tree_close(t, &err_));
	OK(sosie_tree_merge(io, base_path, layer_path, &ctx, &err_));
	t = open_tree(false);
	compare(t);
	OK(sosie_tree_close(t, &err_));
}

static void test_refresh_after_stale_nodes_rebuilds_them(void **state)
{
	struct sosie_tree *t;
	struct tree_block junk;
	unsigned bad_level;
	uint64_t bad_index;

	(void)state;
	model_init(17 * TIB);
	t = fresh(model.size);
	for (unsigned i = 0; i < 40; i++)
		put_some(t);
	memset(&junk, 0x5a, sizeof(junk));
	OK(sosie_tree_close(t, &err_));
	t = open_tree(false);
	for (unsigned k = 1; k < SOSIE_TREE_LEVELS; k++) /* torn: nodes wrong or lost, leaf blocks there */
		OK(tree_file_write(&t->base, tree_offset(k, 0), &junk, &err_));
	OK(sosie_tree_check(t, &bad_level, &bad_index, &err_));
	assert_int_not_equal(bad_level, UINT_MAX);
	OK(sosie_tree_close(t, &err_));
	t = open_tree(false);
	OK(sosie_tree_refresh(t, 0, SOSIE_VOLUME_MAX / SOSIE_CHUNK, &err_));
	/* Slots of children past 1 PiB are nobody's: refresh covers the largest volume. */
	OK(tree_seek(t, TREE_TOP, 0, &err_));
	memset(&t->level[TREE_TOP].block.d[64], 0, 192 * sizeof(struct sosie_digest));
	tree_touch(t, TREE_TOP);
	compare(t);
	OK(sosie_tree_close(t, &err_));
}

static void test_check_names_the_wrong_node(void **state)
{
	struct sosie_tree *t;
	struct sosie_digest leaf = {{7}};
	struct tree_block junk;
	unsigned bad_level;
	uint64_t bad_index;

	(void)state;
	t = fresh(17 * TIB);
	OK(sosie_tree_put_leaves(t, 1000, 1, &leaf, &err_));
	OK(sosie_tree_close(t, &err_));
	memset(&junk, 0x5a, sizeof(junk));
	t = open_tree(false);
	OK(tree_file_write(&t->base, tree_offset(0, 3), &junk, &err_));
	OK(sosie_tree_check(t, &bad_level, &bad_index, &err_));
	assert_int_equal(bad_level, 1);
	assert_int_equal(bad_index, 3);
	memset(&junk, 0, sizeof(junk));
	OK(sosie_tree_close(t, &err_));
	t = open_tree(false);
	junk.d[1000 % 256] = leaf;
	OK(tree_file_write(&t->base, tree_offset(0, 3), &junk, &err_));
	OK(sosie_tree_check(t, &bad_level, &bad_index, &err_));
	assert_int_equal(bad_level, UINT_MAX);
	OK(tree_file_write(&t->base, tree_offset(0, 70000), &junk, &err_)); /* under a zero slot */
	OK(sosie_tree_check(t, &bad_level, &bad_index, &err_));
	assert_int_equal(bad_level, 1);
	assert_int_equal(bad_index, 70000);
	OK(sosie_tree_close(t, &err_));
}

static void test_tree_limits_are_refused(void **state)
{
	struct sosie_tree *t;
	struct sosie_digest block[SOSIE_FANOUT] = {0}, other = {{9}};
	struct sosie_err err;

	(void)state;
	t = fresh(SOSIE_VOLUME_MAX);
	block[255] = other;
	OK(sosie_tree_put(t, SOSIE_VOLUME_MAX / SOSIE_CHUNK - 1, block, &err_));
	assert_int_equal(sosie_tree_put(t, SOSIE_VOLUME_MAX / SOSIE_CHUNK, block, &err), -SOSIE_ESIZE);
	assert_int_equal(sosie_tree_get(t, 4, 1, block, &err), -SOSIE_ESIZE);
	assert_int_equal(sosie_tree_get(t, 5, 0, block, &err), -SOSIE_ESIZE);
	assert_int_equal(sosie_tree_resize(t, SOSIE_VOLUME_MAX + 1, &err), -SOSIE_ESIZE);
	assert_int_equal(sosie_tree_put_leaves(t, 1, UINT64_MAX, NULL, &err), -SOSIE_ESIZE);
	OK(sosie_tree_resize(t, 4097, &err_));
	OK(sosie_tree_put_leaves(t, 1, 1, &other, &err_));
	assert_int_equal(sosie_tree_put_leaves(t, 2, 1, &other, &err), -SOSIE_ESIZE);
	OK(sosie_tree_close(t, &err_));
	assert_int_equal(sosie_tree_open(io, base_path, &other, true, &t, &err), -SOSIE_ECORRUPT);
	assert_int_equal(sosie_tree_create(io, base_path, &ctx, 1, &t, &err), -SOSIE_EEXISTS);
	OK(sosie_tree_open(io, base_path, &ctx, false, &t, &err_));
	assert_int_equal(sosie_tree_put(t, 0, block, &err), -SOSIE_EINTERNAL);
	OK(sosie_tree_close(t, &err_));
}

static void test_places_are_pre_order_and_go_back(void **state)
{
	unsigned level;
	uint64_t index;

	(void)state;
	assert_int_equal(tree_offset(4, 0), 4096);
	assert_int_equal(tree_offset(0, 0), 4096 + 4 * 8192);
	assert_int_equal(tree_offset(0, 255), 4096 + 259 * 8192);
	assert_int_equal(tree_offset(1, 1), 4096 + 260 * 8192);
	assert_int_equal(tree_offset(0, 256), 4096 + 261 * 8192);
	for (unsigned i = 0; i < 10000; i++) {
		unsigned k = (unsigned)number(5);
		uint64_t at = number(tree_leaf_blocks(4 - k));

		tree_locate((tree_offset(k, at) - 4096) / 8192, &level, &index);
		assert_int_equal(level, k);
		assert_int_equal(index, at);
	}
}

/* Sequential puts: one read, one hash and one write a block; a fault plan that never fires counts the I/O. */
static void test_tree_sequential_puts_cost_one_read_and_write_a_block(void **state)
{
	struct sosie_fault_plan plan = {.kind = SOSIE_FAULT_ERROR, .at = UINT64_MAX, .sys = 5};
	struct sosie_io *counted, *real = io;
	struct sosie_digest block[SOSIE_FANOUT];
	struct sosie_tree *t;
	uint64_t before;

	(void)state;
	OK(sosie_io_fault(real, &plan, &counted, &err_));
	io = counted;
	t = fresh((uint64_t)4 << 30);
	memset(block, 3, sizeof(block));
	before = plan.calls;
	for (uint64_t i = 0; i < 4096; i++)
		OK(sosie_tree_put(t, i, block, &err_));
	print_message("%llu calls for 4096 blocks\n", (unsigned long long)(plan.calls - before));
	assert_true(plan.calls > before);
	assert_true(plan.calls - before < 2 * 4096 + 64);
	before = plan.calls;
	OK(sosie_tree_put_leaves(t, 0, 4096 * 256, NULL, &err_));
	assert_true(plan.calls - before < 64);
	OK(sosie_tree_close(t, &err_));
	io = real;
	sosie_io_free(counted);
}

/* Every call that a short life of a tree makes fails once: an error is told, or nothing was needed; never a
 * wrong root. */
static void test_tree_each_io_fault_is_told(void **state)
{
	struct sosie_io *real = io;
	uint64_t at, faults = 0;
	bool fired = true;

	(void)state;
	for (at = 0; fired; at++) {
		struct sosie_fault_plan plan = {.kind = SOSIE_FAULT_ERROR, .at = at, .sys = 5};
		struct sosie_tree *t = NULL;
		struct sosie_digest d = {{4}};
		struct sosie_err err;
		int rc;

		unlink(base_path);
		OK(sosie_io_fault(real, &plan, &io, &err_));
		rc = sosie_tree_create(io, base_path, &ctx, TIB, &t, &err);
		if (rc == 0) {
			rc = sosie_tree_put_leaves(t, 0, 1, &d, &err);
			rc = rc ? rc : sosie_tree_put_leaves(t, 1 << 20, 1, &d, &err);
			rc = rc ? rc : sosie_tree_put_leaves(t, 0, 1 << 19, NULL, &err);
			rc = rc ? rc : sosie_tree_sync(t, &err);
			if (sosie_tree_close(t, rc ? NULL : &err) != 0 && rc == 0)
				rc = -1;
		}
		fired = plan.fired > 0;
		faults += plan.fired;
		assert_int_equal(rc != 0, fired);
		sosie_io_free(io);
	}
	io = real;
	print_message("%llu faults fired\n", (unsigned long long)faults);
	assert_true(faults > 10);
}

/* Base with leaves, a layer that zeroes much and sets some; both durable. */
static void prepare_merge(void)
{
	struct sosie_tree *t = NULL;

	model_init(TIB);
	OK(sosie_tree_create(io, "/base", &ctx, TIB, &t, &err_));
	for (unsigned i = 0; i < 20; i++)
		put_some(t);
	OK(sosie_tree_sync(t, &err_));
	OK(sosie_tree_close(t, &err_));
	OK(sosie_tree_open_layer(io, "/base", "/layer", &ctx, &t, &err_));
	model_zero(300, 70000);
	OK(sosie_tree_put_leaves(t, 300, 69700, NULL, &err_));
	for (unsigned i = 0; i < 5; i++)
		put_some(t);
	OK(sosie_tree_sync(t, &err_));
	OK(sosie_tree_close(t, &err_));
	OK(sosie_io_sync_dir(io, "/", &err_));
}

static int by_number(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

/* Changes of single blocks by put; their numbers ascending, each once. */
static size_t put_known(struct sosie_tree *t, uint64_t blocks[24])
{
	struct sosie_digest zeros[SOSIE_FANOUT] = {{{0}}};
	size_t count = 0;

	for (unsigned i = 0; i < 24; i++) {
		uint64_t leaf = model.start[number(WINDOWS)] + number(WINDOW_LEAVES);

		blocks[i] = leaf / SOSIE_FANOUT;
		if (leaf >= tree_leaves(model.size)) {
			blocks[i] = 0;
		} else if (number(3) == 0) {
			model_zero(blocks[i] * SOSIE_FANOUT, (blocks[i] + 1) * SOSIE_FANOUT);
			OK(sosie_tree_put(t, blocks[i], zeros, &err_));
		} else {
			*model_leaf(leaf) = some_digest();
			OK(sosie_tree_put_leaves(t, leaf, 1, model_leaf(leaf), &err_));
		}
	}
	qsort(blocks, 24, sizeof(*blocks), by_number);
	for (unsigned i = 0; i < 24; i++)
		if (i == 0 || blocks[i] != blocks[i - 1])
			blocks[count++] = blocks[i];
	return count;
}

/* Blocks known by number are merged as all are, and the layer is empty; again: nothing happens. */
static void test_merge_of_known_blocks_equals_the_model(void **state)
{
	struct sosie_disk *disk = sosie_disk_new((uint64_t)64 << 20, 5, false);
	struct sosie_io *real = io;
	struct sosie_tree *t = NULL;
	uint64_t blocks[24];
	size_t merged = 0;
	struct sosie_stat st;

	(void)state;
	OK(sosie_io_sim(disk, &io, &err_));
	prepare_merge();
	OK(sosie_tree_merge(io, "/base", "/layer", &ctx, &err_));
	for (unsigned round = 0; round < 8; round++) {
		size_t count;

		OK(sosie_tree_open_layer(io, "/base", "/layer", &ctx, &t, &err_));
		count = put_known(t, blocks);
		OK(sosie_tree_flush(t, &err_));
		OK(sosie_tree_close(t, &err_));
		merged += count;
		for (unsigned again = 0; again < 2; again++) {
			OK(sosie_tree_merge_blocks(io, "/base", "/layer", &ctx, blocks, count, &err_));
			OK(sosie_io_stat(io, "/layer", &st, &err_));
			assert_int_equal(st.size, 4096);
		}
		OK(sosie_tree_open(io, "/base", &ctx, true, &t, &err_));
		compare(t);
		OK(sosie_tree_close(t, &err_));
	}
	assert_true(merged > 20);
	blocks[1] = blocks[0];
	assert_int_equal(sosie_tree_merge_blocks(io, "/base", "/layer", &ctx, blocks, 2, NULL),
	                 -SOSIE_EINTERNAL);
	sosie_io_free(io);
	sosie_disk_free(disk);
	io = real;
}

/* Power is cut after each operation of a merge, in each fate; merging again gives the layered content. */
static void test_merge_cut_anywhere_and_run_again_is_whole(void **state)
{
	struct sosie_io *real = io;
	unsigned cuts = 0;

	(void)state;
	for (unsigned fate = SOSIE_FATE_KEPT; fate <= SOSIE_FATE_REORDERED; fate++) {
		bool cut = true;

		for (uint64_t n = 0; cut; n++) {
			struct sosie_disk *disk = sosie_disk_new((uint64_t)64 << 20, n + 1, false);
			struct sosie_tree *t;
			struct sosie_err err;

			OK(sosie_io_sim(disk, &io, &err_));
			prepare_merge();
			sosie_disk_cut_after(disk, n);
			(void)sosie_tree_merge(io, "/base", "/layer", &ctx, &err);
			cut = sosie_disk_is_cut(disk);
			cuts += cut;
			sosie_io_free(io);
			sosie_disk_restart(disk, (enum sosie_fate)fate);
			OK(sosie_io_sim(disk, &io, &err_));
			OK(sosie_tree_merge(io, "/base", "/layer", &ctx, &err_));
			OK(sosie_tree_open(io, "/base", &ctx, true, &t, &err_));
			compare(t);
			OK(sosie_tree_close(t, &err_));
			sosie_io_free(io);
			sosie_disk_free(disk);
		}
	}
	io = real;
	print_message("%u power cuts\n", cuts);
	assert_true(cuts > 40);
}

static int setup(void **state)
{
	const char *dir = getenv("TMPDIR");
	struct sosie_err err;

	(void)state;
	snprintf(base_path, sizeof(base_path), "%.80s/sosie-tree-%ld", dir ? dir : "/tmp", (long)getpid());
	snprintf(layer_path, sizeof(layer_path), "%s.layer", base_path);
	hash = sosie_hash_new();
	sosie_context_volume(hash, "acme", "erp", "disk", &ctx);
	return sosie_io_posix(&io, &err);
}

static int teardown(void **state)
{
	(void)state;
	unlink(base_path);
	unlink(layer_path);
	sosie_hash_free(hash);
	sosie_io_free(io);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_places_are_pre_order_and_go_back),
	        cmocka_unit_test(test_tree_limits_are_refused),
	        cmocka_unit_test(test_tree_random_changes_match_the_model),
	        cmocka_unit_test(test_layer_random_changes_merge_twice_match_the_model),
	        cmocka_unit_test(test_layer_huge_zero_masks_base_and_revert_brings_back_one_block),
	        cmocka_unit_test(test_refresh_after_stale_nodes_rebuilds_them),
	        cmocka_unit_test(test_check_names_the_wrong_node),
	        cmocka_unit_test(test_tree_sequential_puts_cost_one_read_and_write_a_block),
	        cmocka_unit_test(test_tree_each_io_fault_is_told),
	        cmocka_unit_test(test_merge_of_known_blocks_equals_the_model),
	        cmocka_unit_test(test_merge_cut_anywhere_and_run_again_is_whole),
	};
	const char *text = getenv("SOSIE_SEED");
	unsigned seed = text ? (unsigned)strtoul(text, NULL, 10) : 11;

	srand(seed);
	print_message("seed %u (SOSIE_SEED)\n", seed);
	return cmocka_run_group_tests(tests, setup, teardown);
}

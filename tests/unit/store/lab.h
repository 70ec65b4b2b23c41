/* SPDX-License-Identifier: MIT */
/* A store on a simulated disk with one tenant and one group, and helpers that fail the test with the error's
 * text. */
#ifndef TESTS_STORE_LAB_H
#define TESTS_STORE_LAB_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/store/core.h"
#include "tests/support/make_upload.h"

#define LAB_POINTS 16u
#define SEED 20261122u

struct lab {
	struct sosie_disk *disk;
	struct sosie_io *io;
	struct sosie_clock_virtual clock;
	struct sosie_store *store;
	struct model model;              /* the source now */
	struct model points[LAB_POINTS]; /* content of point i + 1 */
	unsigned point_count;
	struct sosie_signer *signer; /* of the source; NULL: nothing is signed */
	bool packed;                 /* uploads have packed ranges */
	struct sosie_err err;
};

#define OK(lab, call)                                                                                        \
	do {                                                                                                 \
		sosie_err_clear(&(lab)->err);                                                                \
		int rc_ = (call);                                                                            \
		if (rc_)                                                                                     \
			fail_msg("%s: %d %s", #call, rc_, (lab)->err.what);                                  \
	} while (0)

/* Children are kept for all stores of the program: sweeps open thousands. */
static inline void lab_lend_home(struct lab *l)
{
	static struct confined_home *home;
	if (!home)
		OK(l, confined_home_new(&confined_kind, &home, &l->err));
	l->store->home = home;
	l->store->home_lent = true;
}

/* Content that does not compress, the same in each run. */
static inline void lab_noise(uint8_t *noise, size_t size)
{
	uint32_t x = SEED;
	for (size_t i = 0; i < size; i++) {
		x = x * 1664525u + 1013904223u;
		noise[i] = (uint8_t)(x >> 24);
	}
	print_message("seed %u\n", SEED);
}

static inline void lab_open(struct lab *l)
{
	OK(l, sosie_io_sim(l->disk, &l->io, &l->err));
	OK(l, sosie_store_open(l->io, &l->clock.clock, "/s", &l->store, &l->err));
	lab_lend_home(l);
}

static inline void lab_close(struct lab *l)
{
	sosie_store_close(l->store);
	sosie_io_free(l->io);
	l->store = NULL;
	l->io = NULL;
}

static inline void lab_init(struct lab *l, uint64_t capacity, uint64_t quota, bool reflink)
{
	memset(l, 0, sizeof(*l));
	l->disk = sosie_disk_new(capacity, SEED, reflink);
	assert_non_null(l->disk);
	sosie_clock_virtual_init(&l->clock, 1790000000000, SEED);
	OK(l, sosie_io_sim(l->disk, &l->io, &l->err));
	OK(l, sosie_store_init(l->io, &l->clock.clock, "/s", &l->err));
	OK(l, sosie_store_open(l->io, &l->clock.clock, "/s", &l->store, &l->err));
	lab_lend_home(l);
	OK(l, sosie_tenant_add(l->store, "acme", quota, &l->err));
	model_init(&l->model, "acme", "erp");
}

static inline void lab_fini(struct lab *l)
{
	lab_close(l);
	for (unsigned i = 0; i < l->point_count; i++)
		model_fini(&l->points[i]);
	model_fini(&l->model);
	sosie_disk_free(l->disk);
}

static inline struct sosie_accept_result lab_accept(struct lab *l)
{
	struct sosie_accept_result r;
	OK(l, sosie_keeper_accept(l->store, "acme", "erp", &r, &l->err));
	return r;
}

static inline struct sosie_group *lab_group(struct lab *l)
{
	struct sosie_group *g = NULL;
	OK(l, sosie_group_open(l->store, "acme", "erp", &g, &l->err));
	return g;
}

static inline struct sosie_digest lab_head(struct lab *l)
{
	struct sosie_group *g = lab_group(l);
	struct sosie_digest d = *chain_head(g->chain);
	sosie_group_close(g);
	return d;
}

/* An upload on the head, filled in further by the caller before make_upload. */
static inline struct make_upload lab_upload(struct lab *l, const struct change *changes, unsigned count)
{
	struct make_upload u = {.io = l->io,
	                        .clock = &l->clock.clock,
	                        .store = "/s",
	                        .model = &l->model,
	                        .changes = changes,
	                        .change_count = count,
	                        .signer = l->signer,
	                        .packed = l->packed};
	u.parent = lab_head(l);
	l->clock.now_ms += 10;
	return u;
}

static inline void lab_keep_point(struct lab *l)
{
	assert_true(l->point_count < LAB_POINTS);
	model_copy(&l->points[l->point_count++], &l->model);
}

/* Uploads the changes and expects a point; what was sent as patches and deltas is in *u. */
static inline void lab_point_as(struct lab *l, const struct change *changes, unsigned count, enum make_as as,
                                struct make_upload *out)
{
	struct make_upload u = lab_upload(l, changes, count);
	u.as = as;
	make_upload(&u);
	if (out)
		*out = u;
	struct sosie_accept_result r = lab_accept(l);
	if (r.accepted != 1)
		fail_msg("not accepted: %s", r.last.what);
	lab_keep_point(l);
	assert_int_equal(r.point, l->point_count);
}

static inline void lab_point(struct lab *l, const struct change *changes, unsigned count)
{
	lab_point_as(l, changes, count, MAKE_DATA, NULL);
}

static inline void lab_compare_dir(struct lab *l, const char *dir, const struct model *m)
{
	for (unsigned i = 0; i < m->volume_count; i++) {
		char path[512];
		struct sosie_file *f;
		struct sosie_stat st;
		size_t got = 0;
		snprintf(path, sizeof(path), "%s/%s.raw", dir, m->volumes[i].name.s);
		OK(l, sosie_io_openat(l->io, path, SOSIE_READ, 0, &f, &l->err));
		OK(l, sosie_io_fstat(l->io, f, &st, &l->err));
		assert_int_equal(st.size, m->volumes[i].size);
		uint8_t *bytes = malloc(m->volumes[i].size + 1);
		assert_non_null(bytes);
		OK(l, sosie_io_pread(l->io, f, bytes, m->volumes[i].size, 0, &got, &l->err));
		assert_int_equal(got, m->volumes[i].size);
		assert_true(memcmp(bytes, m->volumes[i].bytes, got) == 0);
		free(bytes);
		sosie_io_close(l->io, f, NULL);
	}
}

/* Every accepted point, made anew, equals what the source held. */
static inline void lab_check_points(struct lab *l)
{
	struct sosie_group *g = lab_group(l);
	assert_int_equal(sosie_group_points(g), l->point_count);
	for (unsigned p = 1; p <= l->point_count; p++) {
		OK(l, images_materialise(g, p, "/s/made", NULL, &l->err));
		lab_compare_dir(l, "/s/made", &l->points[p - 1]);
		OK(l, sosie_io_remove_tree(l->io, "/s/made", &l->err));
	}
	sosie_group_close(g);
}

static inline void lab_verdict(struct lab *l, const struct make_upload *u, struct sosie_verdict *v)
{
	char path[512], id[33], *text;
	size_t len;
	sosie_hex(id, u->id.b, sizeof(u->id.b));
	snprintf(path, sizeof(path), "/s/acme/_outbox/erp/%s.verdict", id);
	OK(l, sosie_io_read_file(l->io, path, SOSIE_STATEMENT_MAX, &text, &len, &l->err));
	OK(l, sosie_verdict_parse(text, len, v, &l->err));
	free(text);
}

/* Expects the upload to be refused with the code, and nothing else to have changed. */
static inline void lab_expect_refused(struct lab *l, const struct make_upload *u, enum sosie_code code)
{
	struct sosie_verdict *v = calloc(1, sizeof(*v));
	assert_non_null(v);
	struct sosie_accept_result r = lab_accept(l);
	assert_int_equal(r.accepted, 0);
	assert_int_equal(r.refused, 1);
	lab_verdict(l, u, v);
	assert_int_equal(v->kind, SOSIE_VERDICT_REFUSED);
	if (code)
		assert_int_equal(v->error.code, code);
	assert_int_equal(r.point, l->point_count);
	free(v);
}

static inline void lab_head_state(struct lab *l, int *state, uint64_t *point)
{
	struct sosie_group *g = lab_group(l);
	OK(l, head_state(g, state, point, &l->err));
	sosie_group_close(g);
}

#endif

/* SPDX-License-Identifier: MIT */
/*
 * A real store in a real folder, with points of acme/erp and a second tenant, and a record of what no attack
 * may change. Helpers fail the test with the error's text.
 */
#ifndef TESTS_HOSTILE_GROUND_H
#define TESTS_HOSTILE_GROUND_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/store/core.h"
#include "tests/support/make_upload.h"

#define GROUND_POINTS 16u
#define GROUND_FILES 512u
#define GROUND_PATH 400u
#define MIB (1u << 20)

/* A file as it was: its first size bytes must stay. */
struct kept {
	char path[GROUND_PATH];
	uint64_t size, ino;
	mode_t mode;
	nlink_t links;
	struct sosie_digest digest;
};

struct ground {
	char work[128];  /* store and what lies beside it */
	char store[160]; /* its path */
	struct sosie_io *io;
	struct sosie_store *handle;
	struct model model;                 /* the source now */
	struct model points[GROUND_POINTS]; /* content of point i + 1 */
	unsigned point_count;
	struct kept kept[GROUND_FILES];
	unsigned kept_count;
	unsigned entries; /* files and folders of all kinds */
	struct sosie_err err;
};

#define OK(g, call)                                                                                          \
	do {                                                                                                 \
		sosie_err_clear(&(g)->err);                                                                  \
		int rc_ = (call);                                                                            \
		if (rc_)                                                                                     \
			fail_msg("%s: %d %s (%s)", #call, rc_, (g)->err.what, (g)->err.where);               \
	} while (0)

/* Paths in the store; four are good at a time. */
__attribute__((format(printf, 2, 3))) static inline const char *in_store(const struct ground *g,
                                                                         const char *fmt, ...)
{
	static char paths[4][GROUND_PATH];
	static unsigned next;
	char *path = paths[next++ % 4];
	int n = snprintf(path, GROUND_PATH, "%s/", g->store);
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(path + n, GROUND_PATH - (size_t)n, fmt, ap);
	va_end(ap);
	return path;
}

static inline void put_text(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

/* --- what must stay */

static struct ground *recording; /* nftw has no argument */

static inline void digest_file(const char *path, uint64_t size, struct sosie_digest *out)
{
	static char block[65536];
	struct sosie_hash *h = sosie_hash_new();
	FILE *f = fopen(path, "r");
	if (!f)
		fail_msg("%s is gone or cannot be read", path);
	sosie_hash_plain(h);
	while (size > 0) {
		size_t got = fread(block, 1, size < sizeof(block) ? (size_t)size : sizeof(block), f);
		if (got == 0)
			break;
		sosie_hash_add(h, block, got);
		size -= got;
	}
	fclose(f);
	sosie_hash_end(h, out);
	sosie_hash_free(h);
}

static inline int record_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
	struct ground *g = recording;
	(void)at;
	if (strstr(path, "/acme/_inbox/"))
		return 0;
	g->entries++;
	if (kind != FTW_F || !S_ISREG(st->st_mode))
		return 0;
	assert_true(g->kept_count < GROUND_FILES);
	struct kept *k = &g->kept[g->kept_count++];
	assert_true(strlen(path) < sizeof(k->path));
	strcpy(k->path, path);
	k->size = (uint64_t)st->st_size;
	k->ino = st->st_ino;
	k->mode = st->st_mode;
	k->links = st->st_nlink;
	digest_file(path, k->size, &k->digest);
	return 0;
}

/* Everything in the work folder but acme's inbox. */
static inline void ground_record(struct ground *g)
{
	g->kept_count = g->entries = 0;
	recording = g;
	assert_int_equal(nftw(g->work, record_one, 16, FTW_PHYS), 0);
	assert_true(g->kept_count > 10);
}

static unsigned counted;

static inline int count_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
	(void)st;
	(void)kind;
	(void)at;
	counted += !strstr(path, "/acme/_inbox/");
	return 0;
}

/* What a keeper changes as it goes on. */
static inline bool is_live(const char *path)
{
	return strstr(path, "/acme/_outbox/") || strstr(path, "/acme/erp/head/") ||
	       strstr(path, "/acme/erp/state/");
}

/* going: a keeper was at work since. */
static inline void ground_same(struct ground *g, bool going)
{
	for (unsigned i = 0; i < g->kept_count; i++) {
		const struct kept *k = &g->kept[i];
		struct sosie_digest now;
		struct stat st;
		if (going && is_live(k->path))
			continue;
		if (lstat(k->path, &st) != 0)
			fail_msg("%s is gone", k->path);
		if (st.st_ino != k->ino || st.st_mode != k->mode || st.st_nlink != k->links)
			fail_msg("%s is another file, or has another mode or number of names", k->path);
		bool grows = going && strstr(k->path, "/chain/");
		if ((uint64_t)st.st_size != k->size && !(grows && (uint64_t)st.st_size > k->size))
			fail_msg("%s has another size", k->path);
		digest_file(k->path, k->size, &now);
		if (!sosie_digest_equal(&now, &k->digest))
			fail_msg("%s has other bytes", k->path);
	}
	counted = 0;
	assert_int_equal(nftw(g->work, count_one, 16, FTW_PHYS), 0);
	if (going ? counted < g->entries : counted != g->entries)
		fail_msg("%u files and folders, not %u", counted, g->entries);
}

/* --- points */

static inline struct sosie_accept_result ground_accept(struct ground *g)
{
	struct sosie_accept_result r;
	OK(g, sosie_keeper_accept(g->handle, "acme", "erp", &r, &g->err));
	return r;
}

static inline struct sosie_digest ground_head(struct ground *g)
{
	struct sosie_group *group = NULL;
	OK(g, sosie_group_open(g->handle, "acme", "erp", &group, &g->err));
	struct sosie_digest d = *chain_head(group->chain);
	sosie_group_close(group);
	return d;
}

/* An upload on the head in the inbox, committed. */
static inline void ground_upload(struct ground *g, const struct change *changes, unsigned count,
                                 struct make_upload *u)
{
	*u = (struct make_upload){.io = g->io,
	                          .clock = sosie_clock_real(),
	                          .store = g->store,
	                          .model = &g->model,
	                          .changes = changes,
	                          .change_count = count};
	u->parent = ground_head(g);
	make_upload(u);
}

static inline void ground_keep(struct ground *g)
{
	assert_true(g->point_count < GROUND_POINTS);
	model_copy(&g->points[g->point_count++], &g->model);
}

static inline void ground_point(struct ground *g, const struct change *changes, unsigned count)
{
	struct make_upload u;
	ground_upload(g, changes, count, &u);
	struct sosie_accept_result r = ground_accept(g);
	if (r.accepted != 1)
		fail_msg("not accepted: %s", r.last.what);
	ground_keep(g);
}

static inline void compare_image(const struct sosie_image *image, const struct model_volume *v)
{
	uint8_t *bytes = malloc(v->size + 1);
	FILE *f = fopen(image->path, "r");
	assert_non_null(bytes);
	assert_non_null(f);
	assert_int_equal(fread(bytes, 1, v->size + 1, f), v->size);
	assert_memory_equal(bytes, v->bytes, v->size);
	fclose(f);
	free(bytes);
}

/* Each point can be exported and is what the source held; the store finds no damage. */
static inline void ground_check_points(struct ground *g)
{
	struct sosie_group *group = NULL;
	struct sosie_verify verify = {.full = true};
	char made[200];
	OK(g, sosie_group_open(g->handle, "acme", "erp", &group, &g->err));
	assert_int_equal(sosie_group_points(group), g->point_count);
	snprintf(made, sizeof(made), "%s.made", g->work);
	for (unsigned p = 1; p <= g->point_count; p++) {
		struct sosie_image *images = NULL;
		unsigned count = 0;
		OK(g, sosie_group_export(group, p, made, NULL, &images, &count, &g->err));
		assert_int_equal(count, g->points[p - 1].volume_count);
		for (unsigned i = 0; i < count; i++)
			compare_image(&images[i], &g->points[p - 1].volumes[i]);
		free(images);
		OK(g, sosie_io_remove_tree(g->io, made, &g->err));
	}
	OK(g, sosie_group_verify(group, &verify, &g->err));
	assert_int_equal(verify.damaged, 0);
	sosie_group_close(group);
}

/* --- beginning and end */

static uint8_t noise[MIB];

static inline void fill_noise(void)
{
	uint32_t x = 20261122u;
	for (size_t i = 0; i < sizeof(noise); i++) {
		x = x * 1664525u + 1013904223u;
		noise[i] = (uint8_t)(x >> 24);
	}
}

static inline void add_other_tenant(struct ground *g)
{
	OK(g, sosie_tenant_add(g->handle, "globex", 0, &g->err));
	OK(g, sosie_io_ensure_dir(g->io, in_store(g, "globex/_inbox/crm"), 0770, &g->err));
	put_text(in_store(g, "globex/_inbox/crm/secret"), "the other tenant's\n");
	put_text(in_store(g, "globex/_keys/fedcba9876543210.json"), "{\"key\":1}\n");
	put_text(in_store(g, "acme/_keys/0123456789abcdef.json"), "{\"key\":1}\n");
}

/* Two points of two volumes. */
static inline void ground_init(struct ground *g)
{
	const char *tmp = getenv("TMPDIR");
	const struct change first[] = {{0, 4096, 70000, noise}, {1, 0, 10000, noise + 77}};
	const struct change second[] = {{0, 8192, 4096, noise + 5}, {1, 9000, 1000, noise}};
	memset(g, 0, sizeof(*g));
	fill_noise();
	snprintf(g->work, sizeof(g->work), "%.90s/sosie-hostile-XXXXXX", tmp ? tmp : "/tmp");
	assert_non_null(mkdtemp(g->work));
	assert_int_equal(chmod(g->work, 0755), 0);
	snprintf(g->store, sizeof(g->store), "%s/store", g->work);
	OK(g, sosie_io_posix(&g->io, &g->err));
	OK(g, sosie_store_init(g->io, sosie_clock_real(), g->store, &g->err));
	OK(g, sosie_store_open(g->io, sosie_clock_real(), g->store, &g->handle, &g->err));
	OK(g, sosie_tenant_add(g->handle, "acme", 0, &g->err));
	add_other_tenant(g);
	model_init(&g->model, "acme", "erp");
	ground_accept(g);
	model_add(&g->model, "root", 256 << 10);
	model_add(&g->model, "data", 10000);
	ground_point(g, first, 2);
	ground_point(g, second, 2);
	OK(g, sosie_keeper_settle(g->handle, "acme", "erp", &g->err));
}

static inline void ground_fini(struct ground *g)
{
	sosie_store_close(g->handle);
	for (unsigned i = 0; i < g->point_count; i++)
		model_fini(&g->points[i]);
	model_fini(&g->model);
	sosie_io_remove_tree(g->io, g->work, NULL);
	sosie_io_free(g->io);
}

#endif

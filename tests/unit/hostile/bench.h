/* SPDX-License-Identifier: MIT */
/*
 * The attack bench: a store on a simulated disk with two tenants, acme (groups erp, which is attacked, and
 * crm) and beta (web), each group with points of every kind of record and a generation. A test attacks, then
 * calls bench_intact: whatever was tried, every point of before is there to the byte, verify finds nothing,
 * and honest senders of all three groups go on.
 *
 * Every call of the disk's table is counted: one round of the keeper for one group may cost BENCH_CALLS at
 * most, which is what another tenant waits for it.
 */
#ifndef TESTS_HOSTILE_BENCH_H
#define TESTS_HOSTILE_BENCH_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sosie/audit.h"
#include "engine/store/core.h"
#include "sosie/inbox.h"
#include "tests/support/make_upload.h"
#include "tests/support/rounds.h"

#define SEED 20261122u
#define BENCH_CAPACITY (1ull << 28)
#define BENCH_KEPT 4u     /* points of each group before the attack */
#define BENCH_CALLS 6000u /* of the disk's table, in one round of the keeper */
#define BENCH_START_MS 1790000000000
#define BENCH_SMALL 20001u  /* the second volume: its last leaf is short */
#define BENCH_LARGE 196608u /* the first */

enum bench_group { ERP, CRM, WEB, BENCH_GROUPS };
static const struct {
	const char *tenant, *group;
} bench_names[BENCH_GROUPS] = {{"acme", "erp"}, {"acme", "crm"}, {"beta", "web"}};

static const char *const bench_key_lines[2] = {
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE14WPoEr3FtWMsJ8hTbNckD/uEsXFjSUThaGy17cZHl acme\n",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA beta\n",
};

struct bench_file {
	char path[600];
	bool chain; /* may grow */
	enum bench_group of;
	uint64_t size;
	struct sosie_digest digest;
};
struct bench {
	struct sosie_disk *disk;
	struct sosie_io *io;
	struct sosie_clock_virtual clock;
	struct sosie_store *store;
	struct model now[BENCH_GROUPS]; /* what the honest senders hold */
	struct model kept[BENCH_GROUPS][BENCH_KEPT];
	struct bench_file *files; /* of journals, chains and generations before the attack */
	unsigned file_count, ticks;
	char keys[2][17]; /* of acme, of beta */
	struct sosie_accept_result result;
	struct sosie_err err;
};

#define OK(b, call)                                                                                          \
	do {                                                                                                 \
		int rc_ = (call);                                                                            \
		if (rc_)                                                                                     \
			fail_msg("%s: %d %s (%s)", #call, rc_, (b)->err.what, (b)->err.where);               \
	} while (0)

/* --- the disk's table, counted ------------------------------------------------------------------------- */

static struct {
	struct sosie_io_ops ops;
	const struct sosie_io_ops *kept;
	uint64_t calls, bytes, names;
} counted;

static int counted_open(struct sosie_io *io, const char *path, unsigned flags, uint32_t mode,
                        struct sosie_file **out, struct sosie_err *err)
{
	counted.calls++;
	return counted.kept->open(io, path, flags, mode, out, err);
}

static int counted_mkdir(struct sosie_io *io, const char *path, uint32_t mode, struct sosie_err *err)
{
	counted.calls++;
	return counted.kept->mkdir(io, path, mode, err);
}

static int counted_truncate(struct sosie_io *io, struct sosie_file *file, uint64_t size,
                            struct sosie_err *err)
{
	counted.calls++;
	return counted.kept->truncate(io, file, size, err);
}

static int counted_punch(struct sosie_io *io, struct sosie_file *file, uint64_t off, uint64_t len,
                         struct sosie_err *err)
{
	counted.calls++;
	return counted.kept->punch(io, file, off, len, err);
}

static int counted_rename(struct sosie_io *io, const char *from, const char *to, struct sosie_err *err)
{
	counted.calls++;
	return counted.kept->rename(io, from, to, err);
}

static int counted_unlink(struct sosie_io *io, const char *path, struct sosie_err *err)
{
	counted.calls++;
	return counted.kept->unlink(io, path, err);
}

static int counted_sync_dir(struct sosie_io *io, const char *path, struct sosie_err *err)
{
	counted.calls++;
	return counted.kept->sync_dir(io, path, err);
}

struct counted_names {
	sosie_list_fn fn;
	void *arg;
};

static int counted_name(void *arg, const char *name, enum sosie_file_kind kind)
{
	const struct counted_names *names = arg;
	counted.names++;
	return names->fn(names->arg, name, kind);
}

static int counted_list(struct sosie_io *io, const char *path, sosie_list_fn fn, void *arg,
                        struct sosie_err *err)
{
	struct counted_names names = {fn, arg};
	counted.calls++;
	return counted.kept->list(io, path, counted_name, &names, err);
}

/* The simulated disk's times are numbers of operations: here, ms since the bench began. */
static int counted_stat(struct sosie_io *io, const char *path, struct sosie_stat *out, struct sosie_err *err)
{
	counted.calls++;
	int rc = counted.kept->stat(io, path, out, err);
	if (!rc)
		out->mtime_ms += BENCH_START_MS;
	return rc;
}

static int counted_fstat(struct sosie_io *io, struct sosie_file *file, struct sosie_stat *out,
                         struct sosie_err *err)
{
	counted.calls++;
	int rc = counted.kept->fstat(io, file, out, err);
	if (!rc)
		out->mtime_ms += BENCH_START_MS;
	return rc;
}

static void counted_submit(struct sosie_io *io, struct sosie_req *req)
{
	counted.calls++;
	counted.bytes += req->op == SOSIE_OP_FSYNC ? 0 : req->len;
	counted.kept->submit(io, req);
}

static inline void bench_count(struct sosie_io *io)
{
	counted.kept = io->ops;
	counted.ops = *io->ops;
	counted.ops.open = counted_open;
	counted.ops.mkdir = counted_mkdir;
	counted.ops.truncate = counted_truncate;
	counted.ops.punch = counted_punch;
	counted.ops.rename = counted_rename;
	counted.ops.unlink = counted_unlink;
	counted.ops.sync_dir = counted_sync_dir;
	counted.ops.list = counted_list;
	counted.ops.stat = counted_stat;
	counted.ops.fstat = counted_fstat;
	counted.ops.submit = counted_submit;
	io->ops = &counted.ops;
}

/* --- keeper and honest senders -------------------------------------------------------------------------- */

static inline struct sosie_group *bench_group(struct bench *b, enum bench_group g)
{
	struct sosie_group *group = NULL;
	OK(b, sosie_group_open(b->store, bench_names[g].tenant, bench_names[g].group, &group, &b->err));
	return group;
}

static inline uint64_t bench_head(struct bench *b, enum bench_group g, struct sosie_digest *digest)
{
	struct sosie_group *group = bench_group(b, g);
	uint64_t point = sosie_group_points(group);
	if (digest)
		*digest = *chain_head(group->chain);
	sosie_group_close(group);
	return point;
}

/* One round for one group, as the keeper's loop does it. It may refuse; it may not fail, and not cost much.
 */
static inline struct sosie_accept_result bench_keep(struct bench *b, enum bench_group g)
{
	uint64_t calls = counted.calls;
	b->clock.now_ms += 5;
	OK(b,
	   sosie_keeper_accept(b->store, bench_names[g].tenant, bench_names[g].group, &b->result, &b->err));
	if (counted.calls - calls > BENCH_CALLS)
		fail_msg("a round of the keeper cost %llu calls: others wait for them",
		         (unsigned long long)(counted.calls - calls));
	return b->result;
}

static inline struct make_upload bench_upload(struct bench *b, enum bench_group g, struct model *model,
                                              const struct change *changes, unsigned count)
{
	struct make_upload u = {.io = b->io,
	                        .clock = &b->clock.clock,
	                        .store = "/s",
	                        .model = model,
	                        .changes = changes,
	                        .change_count = count};
	bench_head(b, g, &u.parent);
	b->clock.now_ms += 10;
	return u;
}

static inline void bench_accepted(struct bench *b, enum bench_group g, uint64_t point)
{
	struct sosie_accept_result r = bench_keep(b, g);
	if (r.accepted != 1 || r.point != point)
		fail_msg("an honest upload of %s/%s is not point %llu: %s", bench_names[g].tenant,
		         bench_names[g].group, (unsigned long long)point, r.last.what);
}

static inline uint8_t *bench_noise(uint32_t seed, size_t len)
{
	uint8_t *bytes = malloc(len);
	assert_non_null(bytes);
	for (size_t i = 0; i < len; i++) {
		seed = seed * 1664525u + 1013904223u;
		bytes[i] = (uint8_t)(seed >> 24);
	}
	return bytes;
}

/* --- comparing ------------------------------------------------------------------------------------------ */

static inline void bench_equal_dir(struct bench *b, const char *dir, const struct model *m)
{
	for (unsigned i = 0; i < m->volume_count; i++) {
		char path[512], *bytes;
		size_t len;
		snprintf(path, sizeof(path), "%s/%s.raw", dir, m->volumes[i].name.s);
		OK(b, sosie_io_read_file(b->io, path, 1u << 24, &bytes, &len, &b->err));
		assert_int_equal(len, m->volumes[i].size);
		if (memcmp(bytes, m->volumes[i].bytes, len) != 0)
			fail_msg("%s is not what its sender held", path);
		free(bytes);
	}
}

/* The point, made anew from generation and journal. */
static inline void bench_equal_point(struct bench *b, enum bench_group g, uint64_t point,
                                     const struct model *m)
{
	struct sosie_group *group = bench_group(b, g);
	OK(b, images_materialise(group, point, "/s/made", NULL, &b->err));
	bench_equal_dir(b, "/s/made", m);
	OK(b, sosie_io_remove_tree(b->io, "/s/made", &b->err));
	sosie_group_close(group);
}

/* The whole content again on whatever the head is by now; then its point is what this sender holds. */
static inline void bench_honest(struct bench *b, enum bench_group g)
{
	struct model *m = &b->now[g];
	struct change changes[MODEL_VOLUMES];
	uint64_t point = bench_head(b, g, NULL) + 1;
	m->volumes[0].bytes[b->ticks++ % m->volumes[0].size] ^= 0x33;
	for (unsigned i = 0; i < m->volume_count; i++) {
		void *all = malloc(m->volumes[i].size);
		assert_non_null(all);
		memcpy(all, m->volumes[i].bytes, m->volumes[i].size);
		changes[i] = (struct change){i, 0, m->volumes[i].size, all};
	}
	struct make_upload u = bench_upload(b, g, m, changes, m->volume_count);
	make_upload(&u);
	for (unsigned i = 0; i < m->volume_count; i++) {
		union {
			const void *in;
			void *mine;
		} data = {.in = changes[i].data};
		free(data.mine);
	}
	bench_accepted(b, g, point);
	bench_equal_point(b, g, point, m);
}

/* --- files of before ------------------------------------------------------------------------------------ */

struct bench_walk {
	struct bench *b;
	char dir[256];
	enum bench_group of;
	unsigned seen;
	bool keep; /* into b->files, else only counted */
};

static inline void bench_hash(struct bench *b, const char *path, uint64_t size, struct sosie_digest *out)
{
	struct sosie_hash *h = sosie_hash_new();
	char *bytes;
	size_t len;
	assert_non_null(h);
	OK(b, sosie_io_read_file(b->io, path, 1u << 26, &bytes, &len, &b->err));
	if (len < size)
		fail_msg("%s became shorter", path);
	sosie_hash_plain(h);
	sosie_hash_add(h, bytes, (size_t)size);
	sosie_hash_end(h, out);
	sosie_hash_free(h);
	free(bytes);
}

static inline void bench_note(struct bench_walk *w, const char *path)
{
	struct bench *b = w->b;
	struct sosie_stat st;
	b->files = realloc(b->files, (b->file_count + 1) * sizeof(*b->files));
	assert_non_null(b->files);
	struct bench_file *f = &b->files[b->file_count++];
	memset(f, 0, sizeof(*f));
	snprintf(f->path, sizeof(f->path), "%s", path);
	f->chain = strstr(path, "/chain/") != NULL;
	f->of = w->of;
	OK(b, sosie_io_stat(b->io, path, &st, &b->err));
	f->size = st.size;
	bench_hash(b, path, f->size, &f->digest);
}

static int bench_walk_one(void *arg, const char *name, enum sosie_file_kind kind)
{
	struct bench_walk *w = arg, below = *w;
	char path[600];
	snprintf(path, sizeof(path), "%s/%s", w->dir, name);
	assert_true(strlen(path) < sizeof(below.dir));
	if (kind == SOSIE_KIND_DIR) {
		snprintf(below.dir, sizeof(below.dir), "%.255s", path);
		below.seen = 0;
		OK(w->b, sosie_io_list(w->b->io, path, bench_walk_one, &below, &w->b->err));
		w->seen += below.seen;
		return 0;
	}
	w->seen++;
	if (w->keep)
		bench_note(w, path);
	return 0;
}

static inline unsigned bench_files_of(struct bench *b, enum bench_group g, bool keep)
{
	static const char *const folders[] = {"journal", "chain", "generations"};
	struct bench_walk w = {.b = b, .of = g, .keep = keep};
	for (unsigned i = 0; i < 3; i++) {
		snprintf(w.dir, sizeof(w.dir), "/s/%s/%s/%s", bench_names[g].tenant, bench_names[g].group,
		         folders[i]);
		OK(b, sosie_io_list(b->io, w.dir, bench_walk_one, &w, &b->err));
	}
	return w.seen;
}

/* What was there is there, to the byte; chains may only have grown; of groups that were not attacked (or
 * worked on by the test: `but`) nothing has grown. */
static inline void bench_unchanged_but(struct bench *b, enum bench_group but)
{
	unsigned seen[BENCH_GROUPS] = {0};
	assert_true(b->file_count > 20);
	for (unsigned i = 0; i < b->file_count; i++) {
		const struct bench_file *f = &b->files[i];
		struct sosie_digest now;
		struct sosie_stat st;
		OK(b, sosie_io_stat(b->io, f->path, &st, &b->err));
		if (st.size != f->size && !(f->chain && (f->of == ERP || f->of == but) && st.size > f->size))
			fail_msg("%s has another length", f->path);
		bench_hash(b, f->path, f->size, &now);
		if (!sosie_digest_equal(&now, &f->digest))
			fail_msg("%s was changed", f->path);
		seen[f->of]++;
	}
	for (unsigned g = CRM; g < BENCH_GROUPS; g++)
		if (g != but)
			assert_int_equal(bench_files_of(b, (enum bench_group)g, false), seen[g]);
}

static void bench_damage(void *arg, const char *where, const char *what)
{
	(void)arg;
	fail_msg("verify: %s: %s", where, what);
}

static inline void bench_verify(struct bench *b, enum bench_group g)
{
	struct sosie_group *group = bench_group(b, g);
	struct sosie_verify v = {.full = true, .damage = bench_damage};
	OK(b, sosie_group_verify(group, &v, &b->err));
	assert_int_equal(v.damaged, 0);
	assert_true(v.points >= BENCH_KEPT && v.generations >= 1 && v.image_bytes > 0);
	sosie_group_close(group);
}

static inline void bench_exported(struct bench *b, enum bench_group g)
{
	struct sosie_group *group = bench_group(b, g);
	struct sosie_image *images;
	unsigned count;
	OK(b, sosie_group_export(group, BENCH_KEPT, "/out", NULL, &images, &count, &b->err));
	assert_int_equal(count, 2);
	bench_equal_dir(b, "/out", &b->kept[g][BENCH_KEPT - 1]);
	free(images);
	OK(b, sosie_io_remove_tree(b->io, "/out", &b->err));
	sosie_group_close(group);
}

/* Forgets what the snapshot said of files that honest work has made since. */
static inline void bench_snapshot(struct bench *b)
{
	b->file_count = 0;
	for (unsigned g = 0; g < BENCH_GROUPS; g++)
		assert_true(bench_files_of(b, (enum bench_group)g, true) >= BENCH_KEPT + 2);
}

static int bench_count_one(void *arg, const char *name, enum sosie_file_kind kind)
{
	(void)kind;
	/* Alarms are the standby's own: one of a kind, however often something is tried. */
	*(unsigned *)arg += strcmp(name, "alarms.json") != 0 && strcmp(name, "alarms.lock") != 0;
	return 0;
}

static inline unsigned bench_names_in(struct bench *b, const char *dir)
{
	unsigned count = 0;
	OK(b, sosie_io_list(b->io, dir, bench_count_one, &count, &b->err));
	return count;
}

/* No name has appeared where a sender has none to make. */
static inline void bench_places(struct bench *b)
{
	assert_int_equal(bench_names_in(b, "/"), 2);  /* s, x */
	assert_int_equal(bench_names_in(b, "/s"), 3); /* sosie.json, acme, beta */
	/* tenant.json, _keys, _inbox, _outbox, _audit, web */
	assert_int_equal(bench_names_in(b, "/s/beta"), 6);
	assert_int_equal(bench_names_in(b, "/s/acme/_keys"), 1);
	assert_int_equal(bench_names_in(b, "/s/acme/erp"), 6);
	assert_int_equal(bench_names_in(b, "/s/acme/crm"), 6);
}

/* The end of every attack; `worked`: a group in which the test itself made points. */
static inline void bench_intact_but(struct bench *b, enum bench_group worked)
{
	bench_unchanged_but(b, worked);
	bench_places(b);
	for (unsigned g = 0; g < BENCH_GROUPS; g++) {
		for (unsigned p = 1; p <= BENCH_KEPT; p++)
			bench_equal_point(b, (enum bench_group)g, p, &b->kept[g][p - 1]);
		bench_exported(b, (enum bench_group)g);
		bench_verify(b, (enum bench_group)g);
	}
	for (unsigned g = 0; g < BENCH_GROUPS; g++)
		bench_honest(b, (enum bench_group)g);
	for (unsigned g = 0; g < BENCH_GROUPS; g++)
		bench_verify(b, (enum bench_group)g);
	bench_snapshot(b);
}

static inline void bench_intact(struct bench *b)
{
	bench_intact_but(b, ERP);
}

/* --- set-up --------------------------------------------------------------------------------------------- */

static inline void bench_point(struct bench *b, enum bench_group g, const struct change *c, unsigned count,
                               enum make_as as, const char *attachment)
{
	struct make_upload u = bench_upload(b, g, &b->now[g], c, count);
	u.as = as;
	u.attachment = attachment;
	make_upload(&u);
	bench_accepted(b, g, bench_head(b, g, NULL) + 1);
	model_copy(&b->kept[g][bench_head(b, g, NULL) - 1], &b->now[g]);
}

/* Data and an attachment; a patch; a delta (with a generation); zeros. */
static inline void bench_fill(struct bench *b, enum bench_group g)
{
	uint8_t *noise = bench_noise(SEED + g, BENCH_LARGE);
	const struct change all[] = {{0, 0, BENCH_LARGE, noise}, {1, 0, BENCH_SMALL, noise + 7}};
	const struct change some[] = {{0, 8192 + 100, 50, noise + 11}, {1, 20000, 1, noise + 3}};
	const struct change few[] = {{0, 40960 + 10, 30, noise + 17}};
	const struct change none[] = {{0, 65536, 8192, NULL}};
	model_init(&b->now[g], bench_names[g].tenant, bench_names[g].group);
	model_add(&b->now[g], "root", BENCH_LARGE);
	model_add(&b->now[g], "data.0", BENCH_SMALL);
	OK(b,
	   sosie_keeper_accept(b->store, bench_names[g].tenant, bench_names[g].group, &b->result, &b->err));
	bench_point(b, g, all, 2, MAKE_DATA, "<domain/>");
	bench_point(b, g, some, 2, MAKE_PATCH, NULL);
	bench_point(b, g, few, 1, MAKE_DELTA, NULL);
	bench_point(b, g, none, 1, MAKE_DATA, NULL);
	free(noise);
}

static inline void bench_key(struct bench *b, unsigned i, const char *tenant)
{
	struct sosie_key_info key;
	const char *line = bench_key_lines[i];
	OK(b, sosie_key_add(b->store, tenant, line, strlen(line), SOSIE_KEY_SSH, NULL, 0, &key, &b->err));
	memcpy(b->keys[i], key.id, sizeof(b->keys[i]));
}

/* quota: of acme, 0: none. */
static inline struct bench *bench_new(uint64_t capacity, uint64_t quota)
{
	static const char *const folders[] = {"/x", "/x/acme", "/x/acme/_inbox"};
	struct bench *b = calloc(1, sizeof(*b));
	assert_non_null(b);
	b->disk = sosie_disk_new(capacity, SEED, true);
	sosie_clock_virtual_init(&b->clock, BENCH_START_MS + 1000000, SEED);
	OK(b, sosie_io_sim(b->disk, &b->io, &b->err));
	bench_count(b->io);
	OK(b, sosie_store_init(b->io, &b->clock.clock, "/s", &b->err));
	OK(b, sosie_store_open(b->io, &b->clock.clock, "/s", &b->store, &b->err));
	OK(b, sosie_tenant_add(b->store, "acme", quota, &b->err));
	OK(b, sosie_tenant_add(b->store, "beta", 0, &b->err));
	bench_key(b, 0, "acme");
	bench_key(b, 1, "beta");
	for (unsigned i = 0; i < 3; i++) /* what senders prepare: not the standby's */
		OK(b, sosie_io_ensure_dir(b->io, folders[i], 0755, &b->err));
	b->store->info.policy.fold_points = 3;
	for (unsigned g = 0; g < BENCH_GROUPS; g++)
		bench_fill(b, (enum bench_group)g);
	b->store->info.policy.fold_points = 1u << 20;
	bench_snapshot(b);
	return b;
}

static inline void bench_free(struct bench *b)
{
	for (unsigned g = 0; g < BENCH_GROUPS; g++) {
		for (unsigned p = 0; p < BENCH_KEPT; p++)
			model_fini(&b->kept[g][p]);
		model_fini(&b->now[g]);
	}
	sosie_store_close(b->store);
	sosie_io_free(b->io);
	sosie_disk_free(b->disk);
	free(b->files);
	free(b);
}

#endif

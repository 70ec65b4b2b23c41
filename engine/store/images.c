/* SPDX-License-Identifier: MIT */
/*
 * A set of images and trees in one folder. Image files stay open from the first write to the fsync; trees are
 * opened when first needed and given back (flushed, closed) by images_park.
 *
 * CREATE brings the folder to the shape of a manifest: sizes are changed before anything is applied, and the
 * leaves at the old and the new end are digested anew, because a leaf's digest covers its length.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/store/core.h"

/* Buffered: small scattered writes dominate, and the page cache merges them until the fsync. */
static unsigned file_flags(enum images_mode mode)
{
	return mode == IMAGES_READ ? SOSIE_READ : SOSIE_READ | SOSIE_WRITE;
}

/* What is made anew is written once, in large pieces: around the page cache it costs half the system's time,
 * and leaves nothing for the fsync. */
static unsigned new_file_flags(uint64_t size)
{
	return SOSIE_READ | SOSIE_WRITE | SOSIE_CREATE | SOSIE_EXCL |
	       (size % SOSIE_LEAF == 0 ? SOSIE_DIRECT : 0u);
}

static int image_path(const struct image_set *set, unsigned i, const char *suffix, char dst[STORE_PATH],
                      struct sosie_err *err)
{
	return store_path(dst, err, "%s/%s.%s", set->dir, set->images[i].name.s, suffix);
}

int images_tree(struct image_set *set, unsigned i, struct sosie_tree **out, struct sosie_err *err)
{
	struct image *im = &set->images[i];
	char path[STORE_PATH];
	int rc = 0;
	if (!im->tree) {
		rc = image_path(set, i, "tree", path, err);
		if (!rc)
			rc = sosie_tree_open(set->store->io, path, &im->ctx, set->mode != IMAGES_READ,
			                     &im->tree, err);
		if (!rc && sosie_tree_size(im->tree) != im->size && set->mode != IMAGES_CREATE)
			rc = sosie_err_set(err, SOSIE_ECORRUPT, "%s is for a volume of %llu bytes, not %llu",
			                   path, (unsigned long long)sosie_tree_size(im->tree),
			                   (unsigned long long)im->size);
	}
	*out = im->tree;
	return rc;
}

int images_redigest_leaf(struct image_set *set, unsigned i, uint64_t leaf, struct sosie_err *err)
{
	struct image *im = &set->images[i];
	struct sosie_tree *tree;
	struct sosie_digest d;
	size_t got = 0;
	if (leaf * SOSIE_LEAF >= im->size)
		return 0;
	uint64_t left = im->size - leaf * SOSIE_LEAF;
	size_t len = left < SOSIE_LEAF ? (size_t)left : SOSIE_LEAF;
	uint8_t *block = aligned_alloc(SOSIE_LEAF, SOSIE_LEAF);
	int rc = block ? 0 : sosie_err_set(err, SOSIE_ENOMEM, "no memory to digest a leaf");
	if (!rc)
		rc = sosie_io_pread(set->store->io, im->file, block, len, leaf * SOSIE_LEAF, &got, err);
	if (!rc && got < len)
		rc = sosie_err_set(err, SOSIE_ECORRUPT, "the image of volume %s is shorter than it should be",
		                   im->name.s);
	if (!rc)
		rc = images_tree(set, i, &tree, err);
	if (!rc) {
		sosie_digest_leaf(set->hash, &im->ctx, leaf, block, len, &d);
		im->tree_dirty = true;
		rc = sosie_tree_put_leaves(tree, leaf, 1, &d, err);
	}
	free(block);
	return rc;
}

static int resize_image(struct image_set *set, unsigned i, struct sosie_err *err)
{
	struct image *im = &set->images[i];
	struct sosie_tree *tree;
	struct sosie_stat st;
	int rc = images_tree(set, i, &tree, err);
	if (!rc)
		rc = sosie_io_fstat(set->store->io, im->file, &st, err);
	if (rc)
		return rc;
	uint64_t old = sosie_tree_size(tree);
	if (st.size != im->size) {
		im->dirty = true;
		rc = sosie_io_truncate(set->store->io, im->file, im->size, err);
	}
	if (rc || old == im->size)
		return rc;
	im->tree_dirty = true;
	rc = sosie_tree_resize(tree, im->size, err);
	if (!rc && old % SOSIE_LEAF)
		rc = images_redigest_leaf(set, i, old / SOSIE_LEAF, err);
	if (!rc && im->size % SOSIE_LEAF)
		rc = images_redigest_leaf(set, i, im->size / SOSIE_LEAF, err);
	return rc;
}

static int make_image(struct image_set *set, unsigned i, const char *raw, const char *tree,
                      struct sosie_err *err)
{
	struct image *im = &set->images[i];
	struct sosie_io *io = set->store->io;
	set->names_dirty = im->dirty = im->tree_dirty = true;
	set->direct |= (new_file_flags(im->size) & SOSIE_DIRECT) != 0;
	int rc = layout_remove(io, raw, err);
	if (!rc)
		rc = layout_remove(io, tree, err);
	if (!rc)
		rc = sosie_io_openat(io, raw, new_file_flags(im->size), 0640, &im->file, err);
	if (!rc)
		rc = sosie_io_truncate(io, im->file, im->size, err);
	return rc ? rc : sosie_tree_create(io, tree, &im->ctx, im->size, &im->tree, err);
}

static int open_image(struct image_set *set, unsigned i, struct sosie_err *err)
{
	struct image *im = &set->images[i];
	struct sosie_io *io = set->store->io;
	char raw[STORE_PATH], tree[STORE_PATH];
	struct sosie_stat st;
	int rc = image_path(set, i, "raw", raw, err);
	if (!rc)
		rc = image_path(set, i, "tree", tree, err);
	if (rc)
		return rc;
	if (set->mode == IMAGES_CREATE && (!sosie_io_exists(io, raw) || !sosie_io_exists(io, tree)))
		return make_image(set, i, raw, tree, err);
	rc = sosie_io_openat(io, raw, file_flags(set->mode), 0, &im->file, err);
	if (!rc && set->mode == IMAGES_CREATE)
		return resize_image(set, i, err);
	if (!rc)
		rc = sosie_io_fstat(io, im->file, &st, err);
	if (!rc && st.size != im->size) {
		sosie_err_set(err, SOSIE_ECORRUPT, "the image of volume %s has %llu bytes, not %llu",
		              im->name.s, (unsigned long long)st.size, (unsigned long long)im->size);
		rc = sosie_err_where(err, "%s", raw);
	}
	return rc;
}

struct pruning {
	struct sosie_io *io;
	const char *dir;
	const struct sosie_manifest *m;
	bool removed;
	int rc;
	struct sosie_err *err;
};

static bool named(const struct sosie_manifest *m, const char *name, size_t len)
{
	for (unsigned i = 0; i < m->volume_count; i++)
		if (strlen(m->volumes[i].name.s) == len && memcmp(m->volumes[i].name.s, name, len) == 0)
			return true;
	return false;
}

static int prune_one(void *arg, const char *name, enum sosie_file_kind kind)
{
	struct pruning *p = arg;
	char path[STORE_PATH];
	const char *dot = strrchr(name, '.');
	if (kind != SOSIE_KIND_FILE || !dot || (strcmp(dot, ".raw") != 0 && strcmp(dot, ".tree") != 0) ||
	    named(p->m, name, (size_t)(dot - name)))
		return 0;
	p->removed = true;
	p->rc = store_path(path, p->err, "%s/%s", p->dir, name);
	if (!p->rc)
		p->rc = layout_remove(p->io, path, p->err);
	return p->rc != 0;
}

int images_prune(struct sosie_io *io, const char *dir, const struct sosie_manifest *m, bool *removed,
                 struct sosie_err *err)
{
	struct pruning p = {.io = io, .dir = dir, .m = m, .err = err};
	int rc;
	do {
		p.removed = false;
		rc = sosie_io_list(io, dir, prune_one, &p, err);
		rc = p.rc ? p.rc : rc < 0 ? rc : 0;
		if (removed)
			*removed |= p.removed;
	} while (!rc && p.removed);
	return rc;
}

static int make_set(struct sosie_group *g, const char *dir, const struct sosie_manifest *m,
                    enum images_mode mode, struct image_set **out, struct sosie_err *err)
{
	struct image_set *set = calloc(1, sizeof(*set));
	*out = set;
	if (set) {
		set->store = g->store;
		set->tenant = g->tenant;
		set->mode = mode;
		set->hash = sosie_hash_new();
		set->images = calloc(m->volume_count ? m->volume_count : 1, sizeof(*set->images));
	}
	if (!set || !set->hash || !set->images)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory to open the images in %s", dir);
	int rc = store_path(set->dir, err, "%s", dir);
	if (!rc)
		rc = store_path(set->group_dir, err, "%s", g->dir);
	sosie_context_group(set->hash, g->tenant.s, g->name.s, &set->group_ctx);
	for (set->count = 0; set->count < m->volume_count; set->count++) {
		struct image *im = &set->images[set->count];
		im->name = m->volumes[set->count].name;
		im->size = m->volumes[set->count].size;
		sosie_context_volume(set->hash, g->tenant.s, g->name.s, im->name.s, &im->ctx);
	}
	return rc;
}

int images_open_mode(struct sosie_group *g, const char *dir, const struct sosie_manifest *m,
                     enum images_mode mode, struct image_set **out, struct sosie_err *err)
{
	struct image_set *set;
	*out = NULL;
	int rc = make_set(g, dir, m, mode, &set, err);
	if (!rc && mode == IMAGES_CREATE)
		rc = images_prune(g->store->io, dir, m, &set->names_dirty, err);
	for (unsigned i = 0; !rc && i < set->count; i++)
		rc = open_image(set, i, err);
	if (rc) {
		images_close(set, NULL);
		return rc;
	}
	*out = set;
	return 0;
}

int images_open(struct sosie_group *g, const char *dir, const struct sosie_manifest *m, bool create,
                struct image_set **out, struct sosie_err *err)
{
	return images_open_mode(g, dir, m, create ? IMAGES_CREATE : IMAGES_READ, out, err);
}

bool images_match(const struct image_set *set, const struct sosie_manifest *m)
{
	if (set->count != m->volume_count)
		return false;
	for (unsigned i = 0; i < set->count; i++)
		if (set->images[i].size != m->volumes[i].size ||
		    strcmp(set->images[i].name.s, m->volumes[i].name.s) != 0)
			return false;
	return true;
}

bool images_same_shape(const struct sosie_manifest *a, const struct sosie_manifest *b)
{
	if (a->volume_count != b->volume_count)
		return false;
	for (unsigned i = 0; i < a->volume_count; i++)
		if (a->volumes[i].size != b->volumes[i].size ||
		    strcmp(a->volumes[i].name.s, b->volumes[i].name.s) != 0)
			return false;
	return true;
}

int images_park(struct image_set *set, struct sosie_err *err)
{
	int rc = 0;
	for (unsigned i = 0; i < set->count; i++) {
		int one = sosie_tree_close(set->images[i].tree, rc ? NULL : err);
		set->images[i].tree = NULL;
		rc = rc ? rc : one;
	}
	return rc;
}

int images_close(struct image_set *set, struct sosie_err *err)
{
	if (!set)
		return 0;
	int rc = images_park(set, err);
	for (unsigned i = 0; i < set->count; i++) {
		int one = sosie_io_close(set->store->io, set->images[i].file, rc ? NULL : err);
		rc = rc ? rc : one;
	}
	sosie_hash_free(set->hash);
	free(set->images);
	free(set);
	return rc;
}

static int wrong_root(struct image_set *set, unsigned i, struct sosie_err *err)
{
	sosie_err_set(err, SOSIE_ECORRUPT,
	              "the content of volume %s does not have the root digest of its manifest",
	              set->images[i].name.s);
	return sosie_err_where(err, "%s/%s.raw", set->dir, set->images[i].name.s);
}

int images_check_roots(struct image_set *set, const struct sosie_manifest *m, struct sosie_err *err)
{
	if (!images_match(set, m))
		return sosie_err_set(err, SOSIE_ECORRUPT, "the volumes in %s are not those of the manifest",
		                     set->dir);
	for (unsigned i = 0; i < set->count; i++) {
		struct sosie_tree *tree;
		struct sosie_digest root;
		int rc = images_tree(set, i, &tree, err);
		if (!rc)
			rc = sosie_tree_root(tree, &root, err);
		if (!rc && !sosie_digest_equal(&root, &m->volumes[i].root))
			rc = wrong_root(set, i, err);
		if (rc)
			return rc;
	}
	return 0;
}

struct fsync_req {
	struct sosie_req req;
	unsigned *left;
};

static void fsync_done(struct sosie_req *req)
{
	--*((struct fsync_req *)req)->left;
}

/* All images at once: the disk orders them. */
static int sync_files(struct image_set *set, struct sosie_err *err)
{
	struct fsync_req *reqs = calloc(set->count ? set->count : 1, sizeof(*reqs));
	unsigned left = 0;
	int rc = reqs ? 0 : sosie_err_set(err, SOSIE_ENOMEM, "no memory to sync the images in %s", set->dir);
	for (unsigned i = 0; !rc && i < set->count; i++) {
		if (!set->images[i].dirty)
			continue;
		reqs[i].req = (struct sosie_req){
		        .op = SOSIE_OP_FSYNC, .file = set->images[i].file, .done = fsync_done};
		reqs[i].left = &left;
		left++;
		sosie_io_submit(set->store->io, &reqs[i].req);
	}
	while (left) {
		int n = sosie_io_reap(set->store->io, 1, rc ? NULL : err);
		if (n < 0)
			return n; /* the requests are still the kernel's: not freed */
	}
	for (unsigned i = 0; !rc && i < set->count; i++)
		if (reqs[i].req.sys)
			rc = sosie_err_sys(err, reqs[i].req.sys, "cannot make %s/%s.raw durable", set->dir,
			                   set->images[i].name.s);
	free(reqs);
	return rc;
}

int images_sync(struct image_set *set, struct sosie_err *err)
{
	int rc = sync_files(set, err);
	for (unsigned i = 0; !rc && i < set->count; i++) {
		struct sosie_tree *tree;
		if (!set->images[i].tree_dirty)
			continue;
		rc = images_tree(set, i, &tree, err);
		if (!rc)
			rc = sosie_tree_sync(tree, err);
	}
	if (!rc && set->names_dirty)
		rc = sosie_io_sync_dir(set->store->io, set->dir, err);
	for (unsigned i = 0; !rc && i < set->count; i++)
		set->images[i].dirty = set->images[i].tree_dirty = false;
	if (!rc)
		set->names_dirty = false;
	return rc;
}

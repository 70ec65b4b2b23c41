/* SPDX-License-Identifier: MIT */
/* The trees of the volumes: opened with their layers, made new for volumes that the standby has nothing of.
 */
#include "engine/replicate/internal.h"
#include "engine/replicate/signatures.h"

#define REFRESH_GAP 64u

const struct sosie_digest leaf_unknown = {{0x5a, 0x5a, 0x5a, 0x5a, 0x5a, 0x5a, 0x5a, 0x5a, 0x5a, 0x5a, 0x5a,
                                           0x5a, 0x5a, 0x5a, 0x5a, 0x5a, 0x5a, 0x5a, 0x5a, 0x5a, 0x5a, 0x5a,
                                           0x5a, 0x5a, 0x5a, 0x5a, 0x5a, 0x5a, 0x5a, 0x5a, 0x5a, 0x5a}};

static bool tracked(const struct sosie_replicator *r, const char *name)
{
	return state_volumes_find(&r->state.volumes, name) ||
	       (r->state.pending.present && state_volumes_find(&r->state.pending.volumes, name));
}

/* A durable tree of an all-zero volume in place of whatever is there. */
static int create_base(struct sosie_replicator *r, struct volume *v, struct sosie_tree **out,
                       struct sosie_err *err)
{
	char path[STATE_FILE_MAX];
	int rc = 0;

	*out = NULL;
	redo_join(r);
	state_file(&r->dir, path, v->given->name.s, ".layer");
	if (sosie_io_exists(r->dir.io, path))
		rc = sosie_io_unlink(r->dir.io, path, err);
	state_file(&r->dir, path, v->given->name.s, ".tree");
	if (rc == 0 && sosie_io_exists(r->dir.io, path))
		rc = sosie_io_unlink(r->dir.io, path, err);
	if (rc == 0)
		rc = sosie_tree_create(r->dir.io, path, &v->ctx, v->size ? v->size : v->identity.size, out,
		                       err);
	if (rc == 0)
		rc = sosie_tree_sync(*out, err);
	if (rc == 0)
		rc = sosie_io_sync_dir(r->dir.io, r->dir.path, err);
	return rc;
}

static int open_one(struct sosie_replicator *r, struct volume *v, struct sosie_err *err)
{
	char base[STATE_FILE_MAX], layer[STATE_FILE_MAX];
	struct sosie_tree *fresh;
	int rc = 0;

	state_file(&r->dir, base, v->given->name.s, ".tree");
	state_file(&r->dir, layer, v->given->name.s, ".layer");
	if (!tracked(r, v->given->name.s)) {
		rc = create_base(r, v, &fresh, err);
		if (fresh) {
			int rc_close = sosie_tree_close(fresh, rc == 0 ? err : NULL);
			rc = rc == 0 ? rc_close : rc;
		}
	}
	if (rc == 0)
		rc = sosie_tree_open_layer(r->dir.io, base, layer, &v->ctx, &v->tree, err);
	if (rc == 0)
		return 0;
	v->tree = NULL;
	sosie_err_wrap(err, "digests of volume %s", v->given->name.s);
	if (rc == -SOSIE_ECORRUPT || rc == -SOSIE_ENOTFOUND) {
		sosie_err_where(err, "%.200s", base);
		sosie_err_action(err, "remove %.150s: digests are compared with the standby then",
		                 r->dir.path);
	}
	return rc;
}

int trees_open(struct sosie_replicator *r, struct sosie_err *err)
{
	int rc = 0;

	if (r->trees_open)
		return 0;
	r->trees_open = true;
	r->resized = false;
	for (unsigned i = 0; rc == 0 && i < r->volume_count; i++)
		rc = open_one(r, &r->volumes[i], err);
	if (rc != 0)
		trees_close(r);
	return rc;
}

/* What was not written is found by the journal's checks: nobody needs to hear of it. */
void trees_close(struct sosie_replicator *r)
{
	for (unsigned i = 0; i < r->volume_count; i++) {
		sosie_tree_close(r->volumes[i].tree, NULL);
		r->volumes[i].tree = NULL;
		signatures_close(r->volumes[i].signatures); /* opened when first needed (chunk_delta.c) */
		r->volumes[i].signatures = NULL;
	}
	r->trees_open = false;
}

int trees_resize(struct sosie_replicator *r, struct sosie_err *err)
{
	for (unsigned i = 0; i < r->volume_count; i++) {
		struct volume *v = &r->volumes[i];
		int rc;

		if (sosie_tree_size(v->tree) == v->size)
			continue;
		r->layers_dirty = r->resized = true;
		rc = sosie_tree_resize(v->tree, v->size, err);
		if (rc != 0)
			return rc;
	}
	return 0;
}

int trees_refresh_end(struct trees_refresh *f, struct sosie_err *err)
{
	int rc = f->end > f->first ? sosie_tree_refresh(f->tree, f->first, f->end - f->first, err) : 0;

	f->first = f->end = 0;
	return rc;
}

int trees_refresh_add(struct trees_refresh *f, struct sosie_tree *tree, uint64_t chunk, struct sosie_err *err)
{
	int rc;

	if (f->end > f->first && tree == f->tree && chunk + REFRESH_GAP >= f->first &&
	    chunk <= f->end + REFRESH_GAP) {
		f->first = chunk < f->first ? chunk : f->first;
		f->end = chunk >= f->end ? chunk + 1 : f->end;
		return 0;
	}
	rc = trees_refresh_end(f, err);
	*f = (struct trees_refresh){tree, chunk, chunk + 1};
	return rc;
}

int trees_create_bases(struct sosie_replicator *r, struct sosie_err *err)
{
	trees_close(r);
	for (unsigned i = 0; i < r->volume_count; i++) {
		int rc = create_base(r, &r->volumes[i], &r->volumes[i].tree, err);

		if (rc != 0)
			return rc;
	}
	return 0;
}

/* SPDX-License-Identifier: MIT */
/* A group: opening, and what its chain says. */
#include <stdlib.h>
#include <string.h>

#include "engine/store/core.h"

int group_make(struct sosie_store *store, const char *tenant, const char *group, struct sosie_err *err)
{
	static const char *const subs[] = {"journal", "chain", "generations", "live", "state", NULL};
	char dir[STORE_PATH];
	int rc = store_path(dir, err, "%s/%s/%s", store->path, tenant, group);
	if (!rc && !sosie_io_exists(store->io, dir))
		rc = layout_make_dirs(store->io, dir, subs, 0700, err);
	if (!rc)
		rc = store_path(dir, err, "%s/%s/_outbox/%s", store->path, tenant, group);
	return rc ? rc : sosie_io_ensure_dir(store->io, dir, 0750, err);
}

static int check_there(struct sosie_group *g, struct sosie_err *err)
{
	char dir[STORE_PATH];
	int rc = store_path(dir, err, "%s/%s", g->store->path, g->tenant.s);
	if (rc)
		return rc;
	if (!sosie_io_exists(g->store->io, dir)) {
		sosie_err_set(err, SOSIE_ENOTFOUND, "the store %s has no tenant %s", g->store->path,
		              g->tenant.s);
		return sosie_err_action(
		        err,
		        "see \"sosie status\" for those it has, or run \"sosie tenant add %s --quota SIZE\"",
		        g->tenant.s);
	}
	if (sosie_io_exists(g->store->io, g->dir))
		return 0;
	sosie_err_set(err, SOSIE_ENOTFOUND, "the tenant %s has no group %s in the store %s", g->tenant.s,
	              g->name.s, g->store->path);
	return sosie_err_action(err, "a group appears when its sender first connects; see \"sosie status\"");
}

int sosie_group_open(struct sosie_store *store, const char *tenant, const char *group,
                     struct sosie_group **out, struct sosie_err *err)
{
	*out = NULL;
	struct sosie_group *g = calloc(1, sizeof(*g));
	if (!g || !(g->hash = sosie_hash_new())) {
		free(g);
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory to open %s/%s", tenant, group);
	}
	g->store = store;
	int rc = sosie_name_set(&g->tenant, SOSIE_NAME_TENANT, tenant, err);
	if (!rc)
		rc = sosie_name_set(&g->name, SOSIE_NAME_GROUP, group, err);
	if (!rc)
		rc = store_path(g->dir, err, "%s/%s/%s", store->path, tenant, group);
	if (!rc)
		rc = check_there(g, err);
	if (!rc)
		rc = group_chain_again(g, err);
	if (rc) {
		sosie_group_close(g);
		return rc;
	}
	*out = g;
	return 0;
}

void sosie_group_close(struct sosie_group *g)
{
	if (!g)
		return;
	chain_cache_give(g->store, g->tenant.s, g->name.s, g->chain);
	sosie_io_close(g->store->io, g->want, NULL);
	sosie_group_unlock(g);
	sosie_hash_free(g->hash);
	free(g);
}

uint64_t sosie_group_points(const struct sosie_group *g)
{
	return chain_newest_point(g->chain);
}

/* The time of the newest entry that the head digest names. */
static int64_t head_time(const struct sosie_chain *chain)
{
	for (uint64_t i = chain_entries(chain); i > 0; i--)
		if (chain_entry(chain, i - 1)->kind != CHAIN_KEY)
			return chain_entry(chain, i - 1)->time_ms;
	return 0;
}

void sosie_group_head(const struct sosie_group *g, struct sosie_head *out)
{
	const struct chain_entry *e = chain_find_point(g->chain, chain_newest_point(g->chain));
	struct sosie_manifest m = {0};
	void *body = NULL;
	const void *text, *acceptance;
	uint32_t len, acceptance_len;
	memset(out, 0, sizeof(*out));
	out->store = g->store->info.id;
	out->tenant = g->tenant;
	out->group = g->name;
	out->epoch = chain_epoch(g->chain);
	out->point = chain_newest_point(g->chain);
	out->digest = *chain_head(g->chain);
	out->time_ms = head_time(g->chain);
	if (!e || chain_body(g->chain, e, &body, NULL))
		return;
	if (!chain_point_body(body, e->body_len, &text, &len, &acceptance, &acceptance_len, NULL)) {
		len = (uint32_t)sosie_signed_text(text, len);
		sosie_manifest_digest(g->hash, text, len, &out->manifest);
		if (!sosie_manifest_parse(text, len, &m, NULL)) {
			out->volume_count = m.volume_count;
			for (unsigned i = 0; i < m.volume_count; i++) {
				out->volumes[i].name = m.volumes[i].name;
				out->volumes[i].size = m.volumes[i].size;
			}
		}
		sosie_manifest_fini(&m);
	}
	free(body);
}

static int find_point(struct sosie_group *g, uint64_t point, const struct chain_entry **out,
                      struct sosie_err *err)
{
	*out = chain_find_point(g->chain, point);
	if (*out)
		return 0;
	sosie_err_set(err, SOSIE_ENOTFOUND, "%s/%s has no point %llu", g->tenant.s, g->name.s,
	              (unsigned long long)point);
	if (chain_newest_point(g->chain) == 0)
		return sosie_err_action(err, "it has no points yet");
	return sosie_err_action(err, "its points are 1 to %llu",
	                        (unsigned long long)chain_newest_point(g->chain));
}

static int read_acceptance(const void *text, size_t len, struct sosie_point *out, struct sosie_err *err)
{
	static const char *const keys[] = {"format", "kind",   "tenant",   "group",    "epoch",
	                                   "point",  "time",   "cut_time", "manifest", "upload",
	                                   "key",    "stored", "previous", NULL};
	struct sosie_json *j = NULL;
	int rc = sosie_json_parse(text, sosie_signed_text(text, len), STORE_SMALL_FILE, &j, err);
	if (!rc)
		rc = sosie_json_only(j, keys, err);
	if (!rc)
		rc = sosie_json_u64(j, "epoch", INT64_MAX, &out->epoch, err);
	if (!rc)
		rc = layout_json_time(j, "time", &out->accepted_ms, err);
	if (!rc)
		rc = layout_json_time(j, "cut_time", &out->cut_ms, err);
	if (!rc)
		rc = sosie_json_u64(j, "stored", INT64_MAX, &out->stored, err);
	sosie_json_free(j);
	return rc;
}

/* A point's manifest without its signature, and its acceptance with it, borrowed from *body, which the caller
 * frees also on error. */
static int point_texts(struct sosie_group *g, uint64_t point, const struct chain_entry **e, void **body,
                       const void **manifest, uint32_t *manifest_len, const void **acceptance,
                       uint32_t *acceptance_len, struct sosie_err *err)
{
	int rc = find_point(g, point, e, err);
	if (!rc)
		rc = chain_body(g->chain, *e, body, err);
	if (!rc)
		rc = chain_point_body(*body, (*e)->body_len, manifest, manifest_len, acceptance,
		                      acceptance_len, err);
	if (!rc)
		*manifest_len = (uint32_t)sosie_signed_text(*manifest, *manifest_len);
	return rc;
}

int sosie_group_point(struct sosie_group *g, uint64_t point, struct sosie_point *out, struct sosie_err *err)
{
	const struct chain_entry *e = NULL;
	struct sosie_manifest m = {0};
	void *body = NULL;
	const void *text = NULL, *acceptance = NULL;
	uint32_t len = 0, acceptance_len = 0;
	memset(out, 0, sizeof(*out));
	int rc = point_texts(g, point, &e, &body, &text, &len, &acceptance, &acceptance_len, err);
	if (!rc)
		rc = read_acceptance(acceptance, acceptance_len, out, err);
	if (!rc)
		rc = sosie_manifest_parse(text, len, &m, err);
	if (!rc) {
		out->point = point;
		out->digest = e->digest;
		out->consistency = m.consistency;
		out->plain = m.plain;
		out->verified = true;
		sosie_manifest_digest(g->hash, text, len, &out->manifest);
	}
	sosie_manifest_fini(&m);
	free(body);
	return rc;
}

int sosie_group_manifest(struct sosie_group *g, uint64_t point, struct sosie_manifest *out,
                         struct sosie_err *err)
{
	const struct chain_entry *e = NULL;
	void *body = NULL;
	const void *text = NULL, *acceptance;
	uint32_t len = 0, acceptance_len;
	memset(out, 0, sizeof(*out));
	int rc = point_texts(g, point, &e, &body, &text, &len, &acceptance, &acceptance_len, err);
	if (!rc)
		rc = sosie_manifest_parse(text, len, out, err);
	free(body);
	return rc;
}

struct nearest {
	uint64_t limit, best;
};

static int nearer(void *arg, const char *name, enum sosie_file_kind kind)
{
	struct nearest *n = arg;
	uint64_t number;
	if (kind == SOSIE_KIND_DIR && layout_number(name, "", &number) && number <= n->limit &&
	    number > n->best)
		n->best = number;
	return 0;
}

int sosie_group_generation(struct sosie_group *g, uint64_t point, uint64_t *generation, struct sosie_err *err)
{
	struct nearest n = {.limit = point};
	char dir[STORE_PATH];
	int rc = store_path(dir, err, "%s/generations", g->dir);
	if (!rc)
		rc = sosie_io_list(g->store->io, dir, nearer, &n, err);
	*generation = n.best;
	return rc < 0 ? rc : 0;
}

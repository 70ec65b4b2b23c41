/* SPDX-License-Identifier: MIT */
/* The objective for the age of a group's newest state: "rpo" of the nearest policy.json that has it
 * (docs/format.md, "Alarms"). */
#include "engine/store/quota.h"

#define RPO_MAX_MS ((uint64_t)1 << 45)

static int read_rpo(struct sosie_io *io, const char *path, bool *found, uint64_t *rpo_ms,
                    struct sosie_err *err)
{
	static const char *const keys[] = {"format", "values", "changes", NULL};
	struct sosie_json *j = NULL, *values;
	*found = false;
	if (!sosie_io_exists(io, path))
		return 0;
	int rc = layout_read_json(io, path, keys, &j, err);
	if (!rc)
		rc = sosie_json_obj(j, "values", &values, err);
	if (!rc && (*found = sosie_json_has(values, "rpo")))
		rc = sosie_json_u64(values, "rpo", RPO_MAX_MS, rpo_ms, err);
	sosie_json_free(j);
	return rc;
}

int group_objective(struct sosie_group *g, uint64_t *rpo_ms, struct sosie_err *err)
{
	char path[STORE_PATH];
	bool found = false;
	*rpo_ms = 0;
	int rc = store_path(path, err, "%s/policy.json", g->dir);
	if (!rc)
		rc = read_rpo(g->store->io, path, &found, rpo_ms, err);
	if (!rc && !found)
		rc = store_path(path, err, "%s/%s/policy.json", g->store->path, g->tenant.s);
	if (!rc && !found)
		rc = read_rpo(g->store->io, path, &found, rpo_ms, err);
	if (!rc && !found)
		rc = store_path(path, err, "%s/policy.json", g->store->path);
	return rc || found ? rc : read_rpo(g->store->io, path, &found, rpo_ms, err);
}

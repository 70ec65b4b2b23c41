/* SPDX-License-Identifier: MIT */
/* Are the volumes the ones recorded, all of them, and of what size: identity checks, shrinking, growing,
 * coming, going. */
#include <stdlib.h>
#include <string.h>

#include "engine/replicate/internal.h"

static void identity_text(char *dst, size_t size, const struct sosie_identity *id)
{
	if (id->device)
		snprintf(dst, size, "device %.120s", id->serial);
	else
		snprintf(dst, size, "inode %llu (generation %lu) on device %llu", (unsigned long long)id->ino,
		         (unsigned long)id->generation, (unsigned long long)id->dev);
}

static bool listed(const char *const *names, unsigned count, const char *name)
{
	for (unsigned i = 0; i < count; i++)
		if (strcmp(names[i], name) == 0)
			return true;
	return false;
}

static const struct sosie_identity *recorded(const struct sosie_replicator *r, const char *name)
{
	const struct state_volume *v = state_volumes_find(&r->state.pending.volumes, name);

	if (!r->state.pending.present || !v)
		v = state_volumes_find(&r->state.volumes, name);
	return v ? &v->identity : NULL;
}

static int check_identity(const struct sosie_replicator *r, const struct volume *v, struct sosie_err *err)
{
	const char *name = v->given->name.s;
	const struct sosie_identity *old = recorded(r, name);
	char was[192], is[192];

	if (!old || sosie_identity_same(old, &v->identity) ||
	    listed(r->o.accept_volumes, r->o.accept_volume_count, name))
		return 0;
	identity_text(was, sizeof(was), old);
	identity_text(is, sizeof(is), &v->identity);
	sosie_err_set(err, SOSIE_EVOLUME,
	              "volume %s is not the one that was replicated so far: it was %s, now it is %s", name,
	              was, is);
	sosie_err_where(err, "%s", v->given->path);
	return sosie_err_action(err,
	                        "if it is meant, say --accept-volume %s once (of a daemon's group: stop it, "
	                        "run sosie replicate --once with that, start it); nothing was sent",
	                        name);
}

int volumes_identify(struct sosie_replicator *r, struct sosie_err *err)
{
	for (unsigned i = 0; i < r->volume_count; i++) {
		struct volume *v = &r->volumes[i];
		int rc = sosie_volume_identify(r->io, v->given, &v->identity, err);

		if (rc == 0)
			rc = check_identity(r, v, err);
		if (rc != 0)
			return rc;
	}
	return 0;
}

static uint64_t head_size(const struct sosie_head *head, const char *name, bool *found)
{
	for (unsigned i = 0; i < head->volume_count; i++)
		if (strcmp(head->volumes[i].name.s, name) == 0) {
			*found = true;
			return head->volumes[i].size;
		}
	*found = false;
	return 0;
}

static int check_shrink(const struct sosie_replicator *r, const struct volume *v, struct sosie_err *err)
{
	char was[32], is[32];
	bool found;
	uint64_t before = head_size(r->head, v->given->name.s, &found);

	if (!found || v->size >= before || r->o.allow_shrink)
		return 0;
	sosie_size_text(was, sizeof(was), before);
	sosie_size_text(is, sizeof(is), v->size);
	sosie_err_set(err, SOSIE_ESHRUNK,
	              "volume %s shrank: the standby has %s (%llu bytes), it is %s (%llu bytes) now; nothing "
	              "was sent",
	              v->given->name.s, was, (unsigned long long)before, is, (unsigned long long)v->size);
	sosie_err_where(err, "%s", v->path);
	return sosie_err_action(err,
	                        "if it was made smaller on purpose, say --allow-shrink once (of a daemon's "
	                        "group: stop it, run sosie replicate --once with that, start it)");
}

int volumes_measure(struct sosie_replicator *r, struct sosie_view *view, struct sosie_err *err)
{
	for (unsigned i = 0; i < r->volume_count; i++) {
		struct volume *v = &r->volumes[i];
		int rc = r->o.source->ops->path(view, i, &v->path, &v->size, err);

		v->base_path = r->o.source->ops->base_path(view, i, &v->base_size);
		if (rc == 0 && (v->size == 0 || v->size > SOSIE_VOLUME_MAX))
			rc = sosie_err_set(err, SOSIE_ESIZE,
			                   "volume %s: its view has %llu bytes; 1 byte to 1 PiB are possible",
			                   v->given->name.s, (unsigned long long)v->size);
		if (rc == 0)
			rc = check_shrink(r, v, err);
		if (rc != 0)
			return rc;
		head_size(r->head, v->given->name.s, &v->compare);
		v->only_unknown = false;
		v->identity.size = v->size;
	}
	return 0;
}

int volumes_list(const struct sosie_replicator *r, struct state_volumes *out, struct sosie_err *err)
{
	struct state_volume *list = calloc(r->volume_count, sizeof(*list));

	if (!list)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for the list of volumes");
	for (unsigned i = 0; i < r->volume_count; i++) {
		list[i].name = r->volumes[i].given->name;
		list[i].identity = r->volumes[i].identity;
		memcpy(list[i].path, r->volumes[i].given->path, sizeof(list[i].path));
	}
	free(out->v);
	*out = (struct state_volumes){list, r->volume_count};
	return 0;
}

bool volumes_are(const struct sosie_replicator *r, const struct state_volumes *list)
{
	if (list->count != r->volume_count)
		return false;
	for (unsigned i = 0; i < list->count; i++)
		if (strcmp(list->v[i].name.s, r->volumes[i].given->name.s) != 0)
			return false;
	return true;
}

bool volumes_changed(const struct sosie_replicator *r)
{
	bool found;

	if (r->volume_count != r->head->volume_count)
		return true;
	for (unsigned i = 0; i < r->volume_count; i++)
		if (head_size(r->head, r->volumes[i].given->name.s, &found) != r->volumes[i].size || !found)
			return true;
	return false;
}

/* --- volumes that come and go
 * ------------------------------------------------------------------------------------------ */

static bool is_given(const struct sosie_replicator *r, const char *name)
{
	for (unsigned i = 0; i < r->volume_count; i++)
		if (strcmp(r->volumes[i].given->name.s, name) == 0)
			return true;
	return false;
}

/* A pending upload without it was begun with consent: that need not be said again to go on with it. */
static bool may_leave(const struct sosie_replicator *r, const char *name)
{
	const struct state_pending *p = &r->state.pending;

	return r->o.drop_missing || listed(r->o.drop_volumes, r->o.drop_volume_count, name) ||
	       (p->present && !state_volumes_find(&p->volumes, name));
}

int volumes_all_given(const struct sosie_replicator *r, const struct sosie_head *head, struct sosie_err *err)
{
	char group[160];

	for (unsigned i = 0; i < head->volume_count; i++) {
		const char *name = head->volumes[i].name.s;

		if (is_given(r, name) || may_leave(r, name))
			continue;
		sosie_err_set(err, SOSIE_EVOLUME,
		              "volume %s was replicated so far and is not given now; nothing was sent", name);
		sosie_err_where(err, "%s", group_name(r, group, sizeof(group)));
		return sosie_err_action(err, "give it again, or say --drop-volume %s once", name);
	}
	return 0;
}

static void add_name(char *list, size_t size, const char *name)
{
	size_t at = strlen(list);

	snprintf(list + at, size - at, "%s%s", at ? ", " : "", name);
}

void volumes_note_changes(struct sosie_replicator *r)
{
	struct sosie_cycle_result *out = r->result;
	bool found;

	if (r->head->point == 0)
		return;
	for (unsigned i = 0; i < r->volume_count; i++) {
		head_size(r->head, r->volumes[i].given->name.s, &found);
		if (!found)
			add_name(out->new_volumes, sizeof(out->new_volumes), r->volumes[i].given->name.s);
	}
	for (unsigned i = 0; i < r->head->volume_count; i++)
		if (!is_given(r, r->head->volumes[i].name.s))
			add_name(out->dropped_volumes, sizeof(out->dropped_volumes),
			         r->head->volumes[i].name.s);
}

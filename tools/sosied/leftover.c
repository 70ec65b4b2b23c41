/* SPDX-License-Identifier: MIT */
/* leftover.h. State folders are ROOT/HOST_PORT/TENANT/GROUP; what is in them is read as far as it makes
 * sense, and passed over where it does not. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sosie/json.h"
#include "sosie/log.h"
#include "sosie/mirror.h"
#include "tools/sosied/leftover.h"

#define PATH_SIZE 4096
#define STATE_MAX (8u << 20)
#define TOLD_MAX 100 /* lines in the log */

struct search {
	const struct sosie_config *config;
	unsigned found;
};

static bool is_configured(const struct sosie_config *c, const char *state)
{
	for (unsigned i = 0; i < c->group_count; i++)
		if (strcmp(c->groups[i].state, state) == 0)
			return true;
	return false;
}

static struct sosie_json *read_document(const char *folder, const char *name)
{
	char path[PATH_SIZE + 16], *text = malloc(STATE_MAX);
	struct sosie_json *doc = NULL;
	FILE *f;
	size_t len;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	f = text ? fopen(path, "re") : NULL;
	if (f) {
		len = fread(text, 1, STATE_MAX, f);
		fclose(f);
		if (sosie_json_parse(text, len, STATE_MAX, &doc, NULL) != 0)
			doc = NULL;
	}
	free(text);
	return doc;
}

static uint64_t serial_of(const struct sosie_json *doc)
{
	uint64_t serial;

	return doc && sosie_json_u64(doc, "serial", INT64_MAX, &serial, NULL) == 0 ? serial : 0;
}

/* The newer one of state.json and state.now (engine/replicate/state.h). One of another boot is told too: what
 * it names may lie there still. */
static struct sosie_json *read_state(const char *folder)
{
	struct sosie_json *durable = read_document(folder, "state.json"),
	                  *now = read_document(folder, "state.now");
	bool newer = now && (!durable || serial_of(now) > serial_of(durable));

	sosie_json_free(newer ? durable : now);
	return newer ? now : durable;
}

static bool keeps_view(const struct sosie_json *doc)
{
	struct sosie_json *pending;
	const char *view;

	if (sosie_json_str(doc, "view", SOSIE_VIEW_ID, &view, NULL) == 0 && view[0])
		return true;
	return sosie_json_obj(doc, "pending", &pending, NULL) == 0 &&
	       sosie_json_str(pending, "view", SOSIE_VIEW_ID, &view, NULL) == 0 && view[0];
}

/* The path of its first volume, fit for a log. */
static void first_volume(const struct sosie_json *doc, char *dst, size_t size)
{
	struct sosie_json *list, *v;
	const char *path;
	size_t count;

	snprintf(dst, size, "its volumes");
	if (sosie_json_arr(doc, "volumes", SOSIE_VOLUMES_MAX, &list, &count, NULL) == 0 && count > 0 &&
	    sosie_json_at(list, 0, &v, NULL) == 0 && sosie_json_str(v, "path", 4095, &path, NULL) == 0)
		sosie_escape(dst, size, path, strlen(path));
}

static void tell(const struct sosie_json *doc, const char *folder, const char *tenant, const char *group)
{
	char tag[SOSIE_MIRROR_TAG], volume[600], state[PATH_SIZE];
	struct sosie_config_group g = {.state = state};
	struct sosie_source_options o;

	snprintf(state, sizeof(state), "%s", folder);
	if (sosie_name_set(&g.tenant, SOSIE_NAME_TENANT, tenant, NULL) != 0 ||
	    sosie_name_set(&g.group, SOSIE_NAME_GROUP, group, NULL) != 0 ||
	    sosie_mirror_source(&g, tag, &o, NULL) != 0)
		return;
	first_volume(doc, volume, sizeof(volume));
	sosie_log(
	        SOSIE_LOG_WARNING,
	        "%s/%s: not in the configuration, but its state keeps a view, which holds space: if nobody "
	        "replicates it any more, remove %s.%s.%s.* in the folder .sosie beside %s (or at the top of "
	        "that filesystem), then %s",
	        tenant, group, tenant, group, tag, volume, folder);
}

static void judge(struct search *s, const char *folder, const char *tenant, const char *group)
{
	struct sosie_json *doc = is_configured(s->config, folder) ? NULL : read_state(folder);

	if (doc && keeps_view(doc) && s->found++ < TOLD_MAX)
		tell(doc, folder, tenant, group);
	sosie_json_free(doc);
}

/* depth: folders that are left to go down. above: the last name, which is the tenant at the bottom. */
static void walk(struct search *s, const char *folder, const char *above, unsigned depth)
{
	DIR *d = opendir(folder);
	struct dirent *e;

	while (d && (e = readdir(d)) != NULL) {
		char path[PATH_SIZE];
		int n;

		if (e->d_name[0] == '.')
			continue;
		n = snprintf(path, sizeof(path), "%s/%s", folder, e->d_name);
		if (n < 0 || (size_t)n >= sizeof(path))
			continue;
		if (depth > 1)
			walk(s, path, e->d_name, depth - 1);
		else
			judge(s, path, above, e->d_name);
	}
	if (d)
		closedir(d);
}

unsigned leftover_tell(const struct sosie_config *config)
{
	struct search s = {.config = config};

	walk(&s, config->state, "", 3);
	if (s.found > TOLD_MAX)
		sosie_log(SOSIE_LOG_WARNING, "%u more groups are not in the configuration and keep views",
		          s.found - TOLD_MAX);
	return s.found;
}

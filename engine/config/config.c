/* SPDX-License-Identifier: MIT */
/*
 * What the configuration file means: every text that yaml.c read is turned into its number, name or path and
 * checked, then what belongs together is checked against each other. The object borrows its texts from what
 * yaml.c holds, which lives as long.
 *
 * A message is "FILE:LINE: KEY: what is wrong: what is allowed".
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/config/values.h"
#include "engine/config/yaml.h"

#define VOLUMES_TOTAL_MAX 16384u /* of all groups: bounds what a file of 1 MiB can make us hold */

struct loaded {
	struct sosie_config config; /* first: what the caller has */
	struct config_yaml *yaml;
};

/* Where we are in the file, and who is told. */
struct place {
	const struct config_yaml *yaml;
	struct sosie_err *err;
	char at[64]; /* "", "groups[0].", "groups[0].volumes[1]." */
};

static int wrong(const struct place *p, const char *key, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));

/* key: of the value, "" for the mapping itself. */
static int wrong(const struct place *p, const char *key, const char *fmt, ...)
{
	char text[400], path[128];
	size_t len = strlen(p->at);
	va_list ap;

	snprintf(path, sizeof(path), "%.*s%s", (int)(len && !key[0] ? len - 1 : len), p->at, key);
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return sosie_err_set(p->err, SOSIE_ECONFIG, "%s:%u: %s%s%s", p->yaml->shown,
	                     config_yaml_line(p->yaml, path), key, key[0] ? ": " : "", text);
}

static struct place inside(const struct place *p, const char *list, unsigned index)
{
	struct place out = {.yaml = p->yaml, .err = p->err};

	snprintf(out.at, sizeof(out.at), "%.40s%s[%u].", p->at, list, index);
	return out;
}

/* --- single values -------------------------------------------------------------------------------------- */

/* Turns an error of another function into one of ours. */
static int wrong_as(const struct place *p, const char *key, const struct sosie_err *found)
{
	return wrong(p, key, "%s%s%s", found->what, found->action[0] ? ": " : "", found->action);
}

static int get_time(const struct place *p, const char *key, enum sosie_config_time which, const char *text,
                    uint64_t *out)
{
	struct sosie_err found = {0};

	return sosie_config_time(which, text, out, &found) == 0 ? 0 : wrong_as(p, key, &found);
}

static int get_rate(const struct place *p, const char *text, uint64_t *out)
{
	struct sosie_err found = {0};

	return sosie_config_rate(text, out, &found) == 0 ? 0 : wrong_as(p, "read_rate", &found);
}

static int get_bool(const struct place *p, const char *key, const char *text, bool *out)
{
	if (!text)
		return 0;
	*out = strcmp(text, "true") == 0;
	if (!*out && strcmp(text, "false") != 0)
		return wrong(p, key, "\"%s\": write true or false", config_show(text).s);
	return 0;
}

static bool has_control(const char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < 0x20 || *text == 0x7f)
			return true;
	return false;
}

/* "//" and "/./" and a "/" at the end go, so that one file has one way to be written. False: a part is "..".
 */
static bool tidy(char *path)
{
	char *to = path;
	const char *from = path;

	while (*from) {
		size_t len;

		from += strspn(from, "/");
		len = strcspn(from, "/");
		if (len == 2 && from[0] == '.' && from[1] == '.')
			return false;
		if (len && !(len == 1 && from[0] == '.')) {
			*to++ = '/';
			memmove(to, from, len);
			to += len;
		}
		from += len;
	}
	if (to == path)
		*to++ = '/';
	*to = '\0';
	return true;
}

/* text is tidied in place. */
static int get_path(const struct place *p, const char *key, char *text, char **out)
{
	if (!text)
		return 0;
	if (text[0] != '/')
		return wrong(p, key, "\"%s\" is relative: write a path that begins with /",
		             config_show(text).s);
	if (has_control(text))
		return wrong(p, key, "\"%s\" holds a control character: a path may not", config_show(text).s);
	if (!tidy(text))
		return wrong(p, key, "\"%s\" has a part \"..\": write the path without it",
		             config_show(text).s);
	if (strcmp(text, "/") == 0)
		return wrong(p, key, "/ is the root of all files: write a path below it");
	*out = text;
	return 0;
}

/* --- standbys ------------------------------------------------------------------------------------------- */

static int read_standby(const struct place *p, struct config_raw_standby *raw,
                        struct sosie_config_standby *out)
{
	struct sosie_err found;
	int rc;

	out->cycles = 4;
	/* A standby's own name follows the rules of a group's. */
	if (sosie_name_set(&out->name, SOSIE_NAME_GROUP, raw->name, NULL) != 0)
		return wrong(
		        p, "name",
		        "\"%s\" is no name for a standby: write a letter or digit, then letters, digits, '_' "
		        "and '-', 1 to %d in all",
		        config_show(raw->name).s, SOSIE_NAME_MAX);
	sosie_err_clear(&found);
	if (strchr(raw->to, '/'))
		return wrong(
		        p, "to",
		        "\"%s\" has a path: write [USER@]HOST[:PORT] only; tenant and group stand in the "
		        "group's name",
		        config_show(raw->to).s);
	if (sosie_target_parse(raw->to, &out->to, NULL, 0, &found) != 0)
		return wrong(p, "to", "%s: write [USER@]HOST[:PORT], an IPv6 address in brackets",
		             found.what);
	rc = get_path(p, "identity", raw->identity, &out->identity);
	if (rc == 0)
		rc = get_path(p, "known_hosts", raw->known_hosts, &out->known_hosts);
	if (rc == 0)
		rc = get_path(p, "signing", raw->signing, &out->signing);
	if (rc == 0)
		rc = get_path(p, "standby_key", raw->standby_key, &out->standby_key);
	if (rc == 0)
		rc = config_count(raw->cycles, 64, &out->cycles, &found) == 0 ? 0
		                                                              : wrong_as(p, "cycles", &found);
	return rc;
}

static int read_standbys(const struct place *top, struct config_raw *raw, struct sosie_config *c)
{
	c->standbys = calloc(raw->standbys_count, sizeof(*c->standbys));
	if (!c->standbys)
		return sosie_err_set(top->err, SOSIE_ENOMEM, "no memory for the list of standbys");
	for (unsigned i = 0; i < raw->standbys_count; i++) {
		struct place p = inside(top, "standbys", i);
		int rc = read_standby(&p, &raw->standbys[i], &c->standbys[i]);

		if (rc != 0)
			return rc;
		c->standby_count = i + 1;
		for (unsigned j = 0; j < i; j++)
			if (strcmp(c->standbys[j].name.s, c->standbys[i].name.s) == 0)
				return wrong(&p, "name",
				             "\"%s\" names an earlier standby too: give each its own name",
				             c->standbys[i].name.s);
	}
	return 0;
}

/* --- groups --------------------------------------------------------------------------------------------- */

static int read_volume(const struct place *p, struct config_raw_volume *raw, struct sosie_volume *out)
{
	struct sosie_err found;
	char *path = NULL;
	int rc = get_path(p, "path", raw->path, &path);

	if (rc != 0)
		return rc;
	sosie_err_clear(&found);
	if (!raw->name && sosie_volume_parse(path, out, &found) != 0)
		return wrong(p, "path", "%s: add a name of its own: {name: NAME, path: ...}", found.what);
	if (raw->name && sosie_name_set(&out->name, SOSIE_NAME_VOLUME, raw->name, &found) != 0)
		return wrong_as(p, "name", &found);
	if (strlen(path) >= sizeof(out->path))
		return wrong(p, "path", "longer than %zu bytes", sizeof(out->path) - 1);
	memcpy(out->path, path, strlen(path) + 1);
	return get_bool(p, "opaque", raw->opaque, &out->opaque);
}

static int read_volumes(const struct place *group, struct config_raw_group *raw,
                        struct sosie_config_group *out)
{
	out->volumes = calloc(raw->volumes_count, sizeof(*out->volumes));
	if (!out->volumes)
		return sosie_err_set(group->err, SOSIE_ENOMEM, "no memory for the list of volumes");
	for (unsigned i = 0; i < raw->volumes_count; i++) {
		struct place p = inside(group, "volumes", i);
		int rc = read_volume(&p, &raw->volumes[i], &out->volumes[i]);

		if (rc != 0)
			return rc;
		out->volume_count = i + 1;
		for (unsigned j = 0; j < i; j++)
			if (strcmp(out->volumes[j].name.s, out->volumes[i].name.s) == 0)
				return wrong(&p, raw->volumes[i].name ? "name" : "path",
				             "\"%s\" names an earlier volume of the group too: give each its "
				             "own name",
				             out->volumes[i].name.s);
	}
	return 0;
}

static int read_attach(const struct place *p, struct config_raw_group *raw, struct sosie_config_group *out)
{
	for (unsigned i = 0; i < raw->attach_count; i++) {
		char key[32];
		int rc;

		snprintf(key, sizeof(key), "attach[%u]", i);
		rc = get_path(p, key, raw->attach[i], &raw->attach[i]);
		if (rc != 0)
			return rc;
		for (unsigned j = 0; j < i; j++)
			if (strcmp(raw->attach[j], raw->attach[i]) == 0)
				return wrong(p, key, "\"%s\" is in the list twice: keep one",
				             config_show(raw->attach[i]).s);
	}
	out->attach = raw->attach;
	out->attach_count = raw->attach_count;
	return 0;
}

static int read_hooks(const struct place *p, const struct config_raw_group *raw,
                      struct sosie_config_group *out)
{
	struct sosie_hooks *h = &out->hooks;
	int rc;

	h->freeze = raw->freeze;
	h->thaw = raw->thaw;
	h->view = raw->view;
	h->view_done = raw->view_done;
	rc = get_time(p, "freeze_limit", SOSIE_TIME_FREEZE_LIMIT, raw->freeze_limit, &h->freeze_limit_ms);
	if (rc == 0)
		rc = get_time(p, "hook_limit", SOSIE_TIME_HOOK_LIMIT, raw->hook_limit, &h->hook_limit_ms);
	if (rc != 0)
		return rc;
	if (!h->freeze != !h->thaw)
		return wrong(p, h->freeze ? "freeze" : "thaw", "without %s: give both commands, or none",
		             h->freeze ? "thaw" : "freeze");
	if (raw->freeze_limit && !h->freeze)
		return wrong(p, "freeze_limit",
		             "without freeze and thaw it limits nothing: add them, or leave it out");
	if (h->view_done && !h->view)
		return wrong(p, "view_done", "without view: add the command that makes the view");
	if (h->view && (out->source == SOSIE_SOURCE_REFLINK || out->source == SOSIE_SOURCE_BTRFS))
		return wrong(p, "view",
		             "is for source: scan; %s makes views of its own: leave one of them out",
		             raw->source);
	return 0;
}

/* After the hooks. */
static int read_pause(const struct place *p, const struct config_raw_group *raw,
                      struct sosie_config_group *out)
{
	const char *text = raw->pause;
	bool commands = text ? strcmp(text, "commands") == 0 : out->hooks.freeze != NULL;
	char *target = NULL;
	int rc;

	out->pause = (struct sosie_pause){.kind = SOSIE_PAUSE_NONE};
	if (commands) {
		out->pause.kind = SOSIE_PAUSE_COMMANDS;
		if (!out->hooks.freeze)
			return wrong(p, "pause", "commands, but none are given: add freeze and thaw");
		return 0;
	}
	if (!text)
		return 0;
	if (sosie_pause_parse(text, &out->pause, NULL) != 0)
		return wrong(p, "pause", "\"%s\": write cgroup:/DIR, qmp:/SOCKET or commands",
		             config_show(text).s);
	if (out->hooks.freeze)
		return wrong(p, "pause",
		             "\"%s\" beside freeze and thaw: write pause: commands, or leave those out",
		             config_show(text).s);
	rc = get_path(p, "pause", raw->pause + (out->pause.target - text), &target);
	out->pause.target = target;
	return rc;
}

static int read_times(const struct place *p, const struct config_raw_group *raw,
                      struct sosie_config_group *out)
{
	struct sosie_err found = {0};
	int rc;

	rc = get_time(p, "interval", SOSIE_TIME_INTERVAL, raw->interval, &out->interval_ms);
	if (rc == 0)
		rc = get_time(p, "max_stall", SOSIE_TIME_MAX_STALL, raw->max_stall, &out->max_stall_ms);
	if (rc == 0)
		rc = get_time(p, "rpo", SOSIE_TIME_RPO, raw->rpo, &out->rpo_ms);
	if (rc == 0)
		rc = get_time(p, "accept_wait", SOSIE_TIME_ACCEPT_WAIT, raw->accept_wait,
		              &out->accept_wait_ms);
	if (rc == 0 && sosie_config_objective(raw->rpo, out->rpo_ms, out->interval_ms, &found) != 0)
		rc = wrong_as(p, "rpo", &found);
	return rc;
}

static int read_choices(const struct place *p, const struct config_raw_group *raw,
                        struct sosie_config_group *out)
{
	struct sosie_err found = {0};

	if (sosie_config_source(raw->source, &out->source, &found) != 0)
		return wrong_as(p, "source", &found);
	if (sosie_config_long_cut(raw->on_long_cut, &out->on_long_cut, &found) != 0)
		return wrong_as(p, "on_long_cut", &found);
	if (sosie_config_streams(raw->streams, &out->streams, &found) != 0)
		return wrong_as(p, "streams", &found);
	if (sosie_config_level(raw->level, &out->level, &found) != 0)
		return wrong_as(p, "level", &found);
	return get_rate(p, raw->read_rate, &out->read_rate);
}

static int read_names(const struct place *p, const struct config_raw_group *raw, const struct sosie_config *c,
                      struct sosie_config_group *out)
{
	char list[200] = "";
	struct sosie_err found;
	size_t len = 0;

	sosie_err_clear(&found);
	if (sosie_name_pair(raw->name, &out->tenant, &out->group, &found) != 0)
		return wrong_as(p, "name", &found);
	for (unsigned i = 0; i < c->standby_count; i++) {
		if (strcmp(c->standbys[i].name.s, raw->standby) == 0) {
			out->standby = &c->standbys[i];
			return 0;
		}
		if (len < sizeof(list))
			len += (size_t)snprintf(list + len, sizeof(list) - len, "%s%s", i ? ", " : "",
			                        c->standbys[i].name.s);
	}
	return wrong(p, "standby", "\"%s\" is not among standbys: there is %s", config_show(raw->standby).s,
	             list);
}

static int read_group(const struct place *p, struct config_raw_group *raw, const struct sosie_config *c,
                      struct sosie_config_group *out)
{
	char state[4096];
	int rc = read_names(p, raw, c, out);

	if (rc == 0)
		rc = read_choices(p, raw, out);
	if (rc == 0)
		rc = read_times(p, raw, out);
	if (rc == 0)
		rc = read_hooks(p, raw, out);
	if (rc == 0)
		rc = read_pause(p, raw, out);
	if (rc == 0)
		rc = read_volumes(p, raw, out);
	if (rc == 0)
		rc = read_attach(p, raw, out);
	if (rc != 0)
		return rc;
	if (sosie_config_state_path(state, sizeof(state), c->state, &out->standby->to, out->tenant.s,
	                            out->group.s, NULL) != 0)
		return wrong(p, "name", "the path of its state folder is too long: shorten state");
	out->state = strdup(state);
	return out->state ? 0 : sosie_err_set(p->err, SOSIE_ENOMEM, "no memory for a state folder's name");
}

/* --- groups against each other ---------------------------------------------------------------------------
 */

static int check_group_names(const struct place *p, const struct sosie_config *c, unsigned i)
{
	const struct sosie_config_group *g = &c->groups[i];

	for (unsigned j = 0; j < i; j++) {
		const struct sosie_config_group *other = &c->groups[j];

		if (strcmp(other->group.s, g->group.s) == 0 && strcmp(other->tenant.s, g->tenant.s) == 0)
			return wrong(p, "name", "%s/%s is an earlier group too: give each its own name",
			             g->tenant.s, g->group.s);
		if (other->standby == g->standby && strcmp(other->tenant.s, g->tenant.s) != 0)
			return wrong(p, "standby",
			             "%s is the entry of tenant %s, and a key belongs to one tenant: add a "
			             "standby "
			             "entry of its own for %s",
			             g->standby->name.s, other->tenant.s, g->tenant.s);
	}
	return 0;
}

struct use {
	const char *path;
	unsigned group, volume;
};

static int by_path(const void *a, const void *b)
{
	const struct use *x = a, *y = b;
	int order = strcmp(x->path, y->path);

	if (order == 0)
		order = x->group != y->group ? (x->group > y->group) - (x->group < y->group)
		                             : (x->volume > y->volume) - (x->volume < y->volume);
	return order;
}

/* What is wrong with a use that another has had before. */
typedef int collision(const struct place *top, const struct sosie_config *c, const struct use *first,
                      const struct use *again);

/* No two uses of one path. */
static int check_once(const struct place *top, const struct sosie_config *c, struct use *uses, unsigned n,
                      collision *wrong_twice)
{
	int rc = 0;

	qsort(uses, n, sizeof(*uses), by_path);
	for (unsigned i = 1; rc == 0 && i < n; i++)
		if (strcmp(uses[i - 1].path, uses[i].path) == 0)
			rc = wrong_twice(top, c, &uses[i - 1], &uses[i]);
	free(uses);
	return rc;
}

/* One group's cut would let go what another still holds. */
static int pause_twice(const struct place *top, const struct sosie_config *c, const struct use *first,
                       const struct use *again)
{
	const struct sosie_config_group *g = &c->groups[first->group];
	struct place p = inside(top, "groups", again->group);

	return wrong(&p, "pause",
	             "\"%s\" is the target of group %s/%s already: a pause target belongs to one group, "
	             "because one group's cut would let go what another still holds: put the volumes into "
	             "one group",
	             config_show(again->path).s, g->tenant.s, g->group.s);
}

static int volume_twice(const struct place *top, const struct sosie_config *c, const struct use *first,
                        const struct use *again)
{
	const struct sosie_config_group *g = &c->groups[first->group];
	struct place group = inside(top, "groups", again->group);
	struct place p = inside(&group, "volumes", again->volume);

	return wrong(&p, "path", "\"%s\" is volume %s of group %s/%s already: a volume is in one group, once",
	             config_show(again->path).s, g->volumes[first->volume].name.s, g->tenant.s, g->group.s);
}

static int check_pauses(const struct place *top, const struct sosie_config *c)
{
	struct use *uses = calloc(c->group_count + 1, sizeof(*uses));
	unsigned n = 0;

	if (!uses)
		return sosie_err_set(top->err, SOSIE_ENOMEM, "no memory to compare pauses");
	for (unsigned i = 0; i < c->group_count; i++)
		if (c->groups[i].pause.target)
			uses[n++] = (struct use){c->groups[i].pause.target, i, 0};
	return check_once(top, c, uses, n, pause_twice);
}

static int check_volume_paths(const struct place *top, const struct sosie_config *c, unsigned total)
{
	struct use *uses = calloc(total, sizeof(*uses));
	unsigned n = 0;

	if (!uses)
		return sosie_err_set(top->err, SOSIE_ENOMEM, "no memory to compare volumes");
	for (unsigned i = 0; i < c->group_count; i++)
		for (unsigned j = 0; j < c->groups[i].volume_count; j++)
			uses[n++] = (struct use){c->groups[i].volumes[j].path, i, j};
	return check_once(top, c, uses, n, volume_twice);
}

static int read_groups(const struct place *top, struct config_raw *raw, struct sosie_config *c)
{
	unsigned total = 0;

	c->groups = calloc(raw->groups_count, sizeof(*c->groups));
	if (!c->groups)
		return sosie_err_set(top->err, SOSIE_ENOMEM, "no memory for the list of groups");
	for (unsigned i = 0; i < raw->groups_count; i++) {
		struct place p = inside(top, "groups", i);
		int rc = 0;

		total += raw->groups[i].volumes_count; /* both bounded by yaml.c: no overflow */
		if (total > VOLUMES_TOTAL_MAX)
			return wrong(&p, "volumes",
			             "more than %u in all groups: run a second sosied for the rest",
			             VOLUMES_TOTAL_MAX);
		c->group_count = i + 1; /* also what a group that fails holds is freed */
		rc = read_group(&p, &raw->groups[i], c, &c->groups[i]);
		if (rc == 0)
			rc = check_group_names(&p, c, i);
		if (rc != 0)
			return rc;
	}
	if (check_pauses(top, c) != 0)
		return -(int)top->err->code;
	return check_volume_paths(top, c, total);
}

/* --- the whole -------------------------------------------------------------------------------------------
 */

static int get_view_space(const struct place *p, const char *text, struct sosie_config *c)
{
	if (!text || sosie_config_view_space(text, &c->view_percent, &c->view_bytes))
		return 0;
	return wrong(p, "view_space", "\"%s\": write 1%% to 90%%, or a size with K, M, G or T: 50G",
	             config_show(text).s);
}

static int read_top(const struct place *p, struct config_raw *raw, struct sosie_config *c)
{
	static char default_state[] = "/var/lib/sosie";
	int rc;

	c->state = default_state;
	c->view_percent = SOSIE_VIEW_PERCENT;
	rc = get_path(p, "state", raw->state, &c->state);
	if (rc == 0)
		rc = get_view_space(p, raw->view_space, c);
	if (rc == 0)
		rc = get_path(p, "on_alarm", raw->on_alarm, &c->on_alarm);
	if (rc == 0)
		rc = get_time(p, "alarm_repeat", SOSIE_TIME_ALARM_REPEAT, raw->alarm_repeat,
		              &c->alarm_repeat_ms);
	if (rc == 0)
		rc = get_path(p, "metrics", raw->metrics, &c->metrics);
	if (rc == 0)
		rc = get_rate(p, raw->read_rate, &c->read_rate);
	return rc;
}

int sosie_config_load(const char *path, struct sosie_config **out, struct sosie_err *err)
{
	struct sosie_err local;
	struct loaded *l = calloc(1, sizeof(*l));
	struct place top = {.err = err ? err : &local};
	int rc;

	*out = NULL;
	if (!l)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for the configuration");
	rc = config_yaml_load(path, &l->yaml, top.err);
	top.yaml = l->yaml;
	if (rc == 0)
		rc = read_top(&top, l->yaml->raw, &l->config);
	if (rc == 0)
		rc = read_standbys(&top, l->yaml->raw, &l->config);
	if (rc == 0)
		rc = read_groups(&top, l->yaml->raw, &l->config);
	if (rc != 0)
		sosie_config_free(&l->config);
	else
		*out = &l->config;
	return rc;
}

void sosie_config_free(struct sosie_config *c)
{
	struct loaded *l = (struct loaded *)c;

	if (!c)
		return;
	for (unsigned i = 0; i < c->group_count; i++) {
		free(c->groups[i].state);
		free(c->groups[i].volumes);
	}
	free(c->groups);
	free(c->standbys);
	config_yaml_free(l->yaml);
	free(l);
}

/* HOST in a file name: what could leave the folder or be hidden becomes '_'. */
static void host_name(char *dst, size_t size, const char *host)
{
	size_t i = 0;

	for (; host[i] && i + 1 < size; i++)
		dst[i] = host[i] == '/' || (i == 0 && host[i] == '.') ? '_' : host[i];
	dst[i] = '\0';
}

int sosie_config_state_path(char *dst, size_t size, const char *root, const struct sosie_target *to,
                            const char *tenant, const char *group, struct sosie_err *err)
{
	char host[sizeof(to->host)];
	int n;

	host_name(host, sizeof(host), to->host);
	n = snprintf(dst, size, "%s/%s_%u/%s/%s", root, host, (unsigned)to->port, tenant, group);
	if (n < 0 || (size_t)n >= size)
		return sosie_err_set(err, SOSIE_ECONFIG, "the path of the state folder of %s/%s is too long",
		                     tenant, group);
	return 0;
}

/* SPDX-License-Identifier: MIT */
/* sosied's command line: the table, and what each option means. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/sosied/options.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static const struct option_spec specs[] = {
        {"config", "FILE", NULL, false, "run as a daemon for all groups of FILE"},
        {"check-config", NULL, NULL, false, "only check that file, then end"},
        {"to", "[USER@]HOST[:PORT]/TENANT/GROUP", NULL, false, "the standby, and what it is to be there"},
        {"identity", "FILE", "SOSIE_IDENTITY", false, "private key; without one the SSH agent is asked"},
        {"known-hosts", "FILE", "SOSIE_KNOWN_HOSTS", false, "must name the standby's host key"},
        {"signing", "FILE", NULL, false, "key that signs what is sent (sosie keygen)"},
        {"standby-key", "FILE", NULL, false, "the standby's public key: only its word counts"},
        {"state", "DIR", NULL, false, "state of this group (default below)"},
        {"once", NULL, NULL, false, "one point, then end"},
        {"interval", "TIME", NULL, false, "from one point to the next (default 1s)"},
        {"source", "NAME", NULL, false, "auto (default), scan, reflink or btrfs"},
        {"max-stall", "TIME", NULL, false, "hold writers at most this long (default 100ms)"},
        {"on-long-cut", "WORD", NULL, false, "above it: cut (less often, default) or stop"},
        {"pause", "WAY", NULL, false, "cgroup:DIR or qmp:SOCKET holds the writers"},
        {"view-space", "N%|SIZE", NULL, false, "keep this much free (default 10%)"},
        {"rpo", "TIME", NULL, false, "objective; a later point is told as late"},
        {"read-rate", "SIZE", NULL, false, "read at most this much a second"},
        {"freeze", "CMD", NULL, false, "run before reading; needs --thaw"},
        {"thaw", "CMD", NULL, false, "run when all is read, always"},
        {"freeze-limit", "TIME", NULL, false, "thaw at the latest then (default 30s)"},
        {"view", "CMD", NULL, false, "makes a snapshot, prints NAME=/PATH lines"},
        {"view-done", "CMD", NULL, false, "removes the snapshot, always"},
        {"attach", "FILE", NULL, true, "keep this file with each point"},
        {"opaque", "NAME", NULL, true, "take a volume as bytes, whatever it looks like"},
        {"accept-volume", "NAME", NULL, true, "a volume was replaced on purpose"},
        {"drop-volume", "NAME", NULL, true, "a volume left the group on purpose"},
        {"allow-shrink", NULL, NULL, false, "volumes were made smaller on purpose"},
        {"accept-standby-loss", NULL, NULL, false, "go on from what the standby still has"},
        {"accept-wait", "TIME", NULL, false, "wait this long for accepted (default 30s)"},
        {"streams", "N", NULL, false, "SSH sessions with a worker each, 1 to 16 (default 2)"},
        {"level", "N", NULL, false, "compression, -7 to 19 (default auto)"},
};

void sosied_options_help(void)
{
	printf("Usage: sosie replicate --to [USER@]HOST[:PORT]/TENANT/GROUP [OPTION]...\n"
	       "                       [NAME=]VOLUME...\n"
	       "       sosied --config FILE\n"
	       "       sosied --check-config FILE\n\n"
	       "Replicates volumes (raw images, block devices) as one group to a standby.\n"
	       "NAME defaults to the file name without its ending.\n\n");
	options_print(specs, COUNT(specs));
	printf("\nState: /var/lib/sosie for root, else $XDG_STATE_HOME/sosie or\n"
	       "~/.local/state/sosie; below it HOST_PORT/TENANT/GROUP.\n\n"
	       "Exit: 0 done, 1 failed, 2 usage, 3 refused: needs you, 4 temporary: try again.\n");
}

/* What the configuration file would say of the value, of the option. */
static int as_usage(const struct sosied_options *o, const char *name, const struct sosie_err *found,
                    struct sosie_err *err)
{
	return options_usage(&o->line, err, "--%s: %s", name, found->what);
}

static int get_time(const struct sosied_options *o, const char *name, enum sosie_config_time which,
                    uint64_t *ms, struct sosie_err *err)
{
	struct sosie_err found = {0};

	if (sosie_config_time(which, options_get(&o->line, name), ms, &found) == 0)
		return 0;
	return as_usage(o, name, &found, err);
}

static int get_times(struct sosied_options *o, struct sosie_err *err)
{
	struct sosie_err found = {0};
	int rc = get_time(o, "interval", SOSIE_TIME_INTERVAL, &o->interval_ms, err);

	if (rc == 0)
		rc = get_time(o, "freeze-limit", SOSIE_TIME_FREEZE_LIMIT, &o->hooks.freeze_limit_ms, err);
	if (rc == 0)
		rc = get_time(o, "accept-wait", SOSIE_TIME_ACCEPT_WAIT, &o->replicate.accept_wait_ms, err);
	if (rc == 0)
		rc = get_time(o, "max-stall", SOSIE_TIME_MAX_STALL, &o->max_stall_ms, err);
	if (rc == 0)
		rc = get_time(o, "rpo", SOSIE_TIME_RPO, &o->rpo_ms, err);
	if (rc == 0 &&
	    sosie_config_objective(options_get(&o->line, "rpo"), o->rpo_ms, o->interval_ms, &found) != 0)
		rc = as_usage(o, "rpo", &found, err);
	return rc;
}

static int get_values(struct sosied_options *o, struct sosie_err *err)
{
	const struct options *line = &o->line;
	struct sosie_err found = {0};

	if (sosie_config_streams(options_get(line, "streams"), &o->replicate.streams, &found) != 0)
		return as_usage(o, "streams", &found, err);
	if (sosie_config_level(options_get(line, "level"), &o->replicate.level, &found) != 0)
		return as_usage(o, "level", &found, err);
	if (sosie_config_rate(options_get(line, "read-rate"), &o->replicate.read_rate, &found) != 0)
		return as_usage(o, "read-rate", &found, err);
	if (sosie_config_source(options_get(line, "source"), &o->source, &found) != 0)
		return as_usage(o, "source", &found, err);
	if (sosie_config_long_cut(options_get(line, "on-long-cut"), &o->on_long_cut, &found) != 0)
		return as_usage(o, "on-long-cut", &found, err);
	return 0;
}

static int get_view_space(struct sosied_options *o, struct sosie_err *err)
{
	const char *text = options_get(&o->line, "view-space");
	char quoted[64];

	o->view_percent = SOSIE_VIEW_PERCENT;
	if (!text || sosie_config_view_space(text, &o->view_percent, &o->view_bytes))
		return 0;
	return options_usage(&o->line, err, "--view-space takes 1%% to 90%%, or a size as 50G, not \"%s\"",
	                     sosie_escape(quoted, sizeof(quoted), text, strlen(text)));
}

static int get_mirror(struct sosied_options *o, struct sosie_err *err)
{
	const char *pause = options_get(&o->line, "pause");
	int rc = get_times(o, err);

	if (rc == 0)
		rc = get_values(o, err);
	if (rc == 0)
		rc = get_view_space(o, err);
	if (rc == 0 && pause && sosie_pause_parse(pause, &o->pause, err) != 0)
		rc = sosie_err_wrap(err, "--pause");
	return rc;
}

static int get_target(struct sosied_options *o, struct sosie_err *err)
{
	char path[256];
	const char *to;
	int rc = options_need(&o->line, "to", &to, err);

	if (rc == 0)
		rc = sosie_target_parse(to, &o->ssh.target, path, sizeof(path), err);
	if (rc == 0)
		rc = sosie_name_pair(path, &o->tenant, &o->group, err);
	if (rc != 0)
		return rc;
	sosie_target_text(o->standby, sizeof(o->standby), &o->ssh.target);
	o->ssh.identity = options_get(&o->line, "identity");
	o->signing = options_get(&o->line, "signing");
	o->standby_key = options_get(&o->line, "standby-key");
	return options_need(&o->line, "known-hosts", &o->ssh.known_hosts, err);
}

static int get_state(struct sosied_options *o, struct sosie_err *err)
{
	const char *given = options_get(&o->line, "state"), *xdg = getenv("XDG_STATE_HOME"),
	           *home = getenv("HOME");
	char root[3072], cwd[2048];
	int n;

	if (given && given[0] == '/') {
		n = snprintf(o->state, sizeof(o->state), "%s", given);
	} else if (given) {
		if (!getcwd(cwd, sizeof(cwd)))
			return sosie_err_set(
			        err, SOSIE_ECONFIG,
			        "the working directory has no path; give --state an absolute one");
		n = snprintf(o->state, sizeof(o->state), "%s/%s", cwd, given);
	} else {
		if (geteuid() == 0)
			snprintf(root, sizeof(root), "/var/lib/sosie");
		else if (xdg && xdg[0] == '/')
			snprintf(root, sizeof(root), "%s/sosie", xdg);
		else if (home && home[0] == '/')
			snprintf(root, sizeof(root), "%s/.local/state/sosie", home);
		else
			return options_usage(&o->line, err,
			                     "neither XDG_STATE_HOME nor HOME says where the state may be: "
			                     "give --state DIR");
		return sosie_config_state_path(o->state, sizeof(o->state), root, &o->ssh.target, o->tenant.s,
		                               o->group.s, err);
	}
	if (n < 0 || (size_t)n >= sizeof(o->state))
		return options_usage(&o->line, err, "the path of the state folder is too long");
	return 0;
}

static int get_volumes(struct sosied_options *o, struct sosie_err *err)
{
	size_t count = o->line.operand_count;

	o->volumes = calloc(count, sizeof(*o->volumes));
	if (!o->volumes)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for the list of volumes");
	for (size_t i = 0; i < count; i++) {
		int rc = sosie_volume_parse(o->line.operands[i], &o->volumes[i], err);

		if (rc != 0)
			return rc;
	}
	o->replicate.volumes = o->volumes;
	o->replicate.volume_count = (unsigned)count;
	return 0;
}

static struct sosie_volume *find_volume(struct sosied_options *o, const char *name)
{
	for (unsigned i = 0; i < o->replicate.volume_count; i++)
		if (strcmp(o->volumes[i].name.s, name) == 0)
			return &o->volumes[i];
	return NULL;
}

static int get_list(struct sosied_options *o, const char *option, const char ***out, unsigned *count,
                    struct sosie_err *err)
{
	size_t n = 0;

	while (options_nth(&o->line, option, n))
		n++;
	*out = calloc(n + 1, sizeof(**out));
	if (!*out)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for --%s", option);
	for (size_t i = 0; i < n; i++)
		(*out)[i] = options_nth(&o->line, option, i);
	*count = (unsigned)n;
	return 0;
}

static int get_lists(struct sosied_options *o, struct sosie_err *err)
{
	struct sosie_replicate_options *r = &o->replicate;
	const char *name;
	int rc = get_list(o, "attach", &o->attachments, &r->attachment_count, err);

	if (rc == 0)
		rc = get_list(o, "accept-volume", &o->accept_volumes, &r->accept_volume_count, err);
	r->attachments = o->attachments;
	if (rc == 0)
		rc = get_list(o, "drop-volume", &o->drop_volumes, &r->drop_volume_count, err);
	r->accept_volumes = o->accept_volumes;
	r->drop_volumes = o->drop_volumes;
	for (unsigned i = 0; rc == 0 && i < r->drop_volume_count; i++)
		if (find_volume(o, o->drop_volumes[i]))
			rc = options_usage(&o->line, err, "--drop-volume %s: that volume is given as well",
			                   o->drop_volumes[i]);
	for (unsigned i = 0; rc == 0 && i < r->accept_volume_count; i++)
		if (!find_volume(o, o->accept_volumes[i]))
			rc = options_usage(&o->line, err,
			                   "--accept-volume %s: no volume of that name is given",
			                   o->accept_volumes[i]);
	for (size_t i = 0; rc == 0 && (name = options_nth(&o->line, "opaque", i)) != NULL; i++) {
		struct sosie_volume *v = find_volume(o, name);

		if (!v)
			rc = options_usage(&o->line, err, "--opaque %s: no volume of that name is given",
			                   name);
		else
			v->opaque = true;
	}
	return rc;
}

/* --config FILE [--check-config], or --check-config FILE. */
static int get_daemon(struct sosied_options *o, struct sosie_err *err)
{
	const char *operand = o->line.operand_count > 0 ? o->line.operands[0] : NULL;

	o->check = options_has(&o->line, "check-config");
	o->config = options_get(&o->line, "config");
	if (o->line.operand_count > (o->check && !o->config ? 1u : 0u))
		return options_usage(&o->line, err, "with --config all groups and volumes stand in the file");
	if (!o->config)
		o->config = operand;
	return o->config ? 0 : options_usage(&o->line, err, "--check-config: which FILE?");
}

static bool wants_daemon(int argc, char *const *argv)
{
	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
		if (strcmp(argv[i], "--config") == 0 || strncmp(argv[i], "--config=", 9) == 0 ||
		    strcmp(argv[i], "--check-config") == 0)
			return true;
	return false;
}

/* Options of one group beside --config: its file says that. */
static int check_daemon(struct sosied_options *o, int argc, char *const *argv, struct sosie_err *err)
{
	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
		for (size_t k = 2; k < COUNT(specs) && strncmp(argv[i], "--", 2) == 0; k++) {
			size_t len = strlen(specs[k].name);

			if (strncmp(argv[i] + 2, specs[k].name, len) == 0 &&
			    (argv[i][2 + len] == '\0' || argv[i][2 + len] == '='))
				return options_usage(
				        &o->line, err,
				        "--%s does not go with --config: the file says that, and what is "
				        "allowed once is for sosie replicate --once, with the daemon "
				        "stopped",
				        specs[k].name);
		}
	return 0;
}

/* One cycle has no objective, no choice of when to cut and nobody who watches the filesystem. */
static int check_once(struct sosied_options *o, struct sosie_err *err)
{
	static const char *const of_the_loop[] = {"rpo", "view-space", "on-long-cut"};

	o->once = options_has(&o->line, "once");
	for (size_t i = 0; o->once && i < COUNT(of_the_loop); i++)
		if (options_get(&o->line, of_the_loop[i]))
			return options_usage(&o->line, err, "--%s is for the loop: leave it or --once out",
			                     of_the_loop[i]);
	return 0;
}

int sosied_options_parse(struct sosied_options *o, int argc, char *const *argv, struct sosie_err *err)
{
	const bool is_daemon = wants_daemon(argc, argv);
	int rc;

	*o = (struct sosied_options){0};
	if (is_daemon) {
		o->line.command = "sosied";
		rc = check_daemon(o, argc, argv, err);
		if (rc == 0)
			rc = options_parse(&o->line, "sosied", specs, 2, argc - 1, argv + 1, 0, 1, "FILE",
			                   err);
		return rc != 0 || o->line.help || o->line.version ? rc : get_daemon(o, err);
	}
	rc = options_parse(&o->line, "sosie replicate", specs, COUNT(specs), argc - 1, argv + 1, 1,
	                   SOSIE_VOLUMES_MAX, "[NAME=]VOLUME", err);
	if (rc != 0 || o->line.help || o->line.version)
		return rc;
	rc = check_once(o, err);
	if (rc != 0)
		return rc;
	o->hooks.freeze = options_get(&o->line, "freeze");
	o->hooks.thaw = options_get(&o->line, "thaw");
	o->hooks.view = options_get(&o->line, "view");
	o->hooks.view_done = options_get(&o->line, "view-done");
	o->replicate.allow_shrink = options_has(&o->line, "allow-shrink");
	o->replicate.accept_standby_loss = options_has(&o->line, "accept-standby-loss");
	rc = get_mirror(o, err);
	if (rc == 0)
		rc = get_target(o, err);
	if (rc == 0)
		rc = get_state(o, err);
	if (rc == 0)
		rc = get_volumes(o, err);
	if (rc == 0)
		rc = get_lists(o, err);
	o->replicate.tenant = o->tenant.s;
	o->replicate.group = o->group.s;
	o->replicate.state = o->state;
	o->replicate.standby = o->standby;
	return rc;
}

void sosied_options_fini(struct sosied_options *o)
{
	options_fini(&o->line);
	free(o->volumes);
	free(o->attachments);
	free(o->accept_volumes);
	free(o->drop_volumes);
}

/* --- as a configuration
 * ----------------------------------------------------------------------------------------- */

/* The configuration's strings are not const, and nobody changes them. */
static char *borrow(const char *text)
{
	char *s;

	memcpy(&s, &text, sizeof(s));
	return s;
}

static void fill_group(struct sosied_options *o, struct sosie_config_group *g)
{
	const struct sosie_replicate_options *r = &o->replicate;

	*g = (struct sosie_config_group){
	        .tenant = o->tenant,
	        .group = o->group,
	        .standby = &o->made_standby,
	        .state = o->state,
	        .source = o->source,
	        .interval_ms = o->interval_ms,
	        .max_stall_ms = o->max_stall_ms,
	        .on_long_cut = o->on_long_cut,
	        .pause = o->pause,
	        .hooks = o->hooks,
	        .rpo_ms = o->rpo_ms,
	        .volumes = o->volumes,
	        .volume_count = r->volume_count,
	        .attach_count = r->attachment_count,
	        .streams = r->streams,
	        .level = r->level,
	        .read_rate = r->read_rate,
	        .accept_wait_ms = r->accept_wait_ms,
	};
	memcpy(&g->attach, &o->attachments, sizeof(g->attach));
}

struct sosie_config *sosied_options_config(struct sosied_options *o)
{
	struct sosie_config_standby *s = &o->made_standby;
	uint64_t alarm_repeat_ms;

	(void)sosie_config_time(SOSIE_TIME_ALARM_REPEAT, NULL, &alarm_repeat_ms, NULL);
	*s = (struct sosie_config_standby){
	        .to = o->ssh.target,
	        .identity = borrow(o->ssh.identity),
	        .known_hosts = borrow(o->ssh.known_hosts),
	        .signing = borrow(o->signing),
	        .standby_key = borrow(o->standby_key),
	        .cycles = 1,
	};
	snprintf(s->name.s, sizeof(s->name.s), "standby");
	fill_group(o, &o->made_group);
	o->made = (struct sosie_config){
	        .state = o->state,
	        .view_percent = o->view_percent,
	        .view_bytes = o->view_bytes,
	        .alarm_repeat_ms = alarm_repeat_ms,
	        .standbys = s,
	        .standby_count = 1,
	        .groups = &o->made_group,
	        .group_count = 1,
	};
	return &o->made;
}

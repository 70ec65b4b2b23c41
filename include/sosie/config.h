/* SPDX-License-Identifier: MIT */
/*
 * What sosied is told to do: read from a YAML file (docs/man/sosie.yaml.5), or made of the options of
 * "sosie replicate". libcyaml is confined to engine/config/yaml.c.
 *
 * All paths are absolute. All lists and strings are owned by the object, which is not changed once loaded,
 * and may be read from any thread.
 */
#ifndef SOSIE_CONFIG_H
#define SOSIE_CONFIG_H

#include "sosie/channel.h"
#include "sosie/source.h"

enum sosie_long_cut { SOSIE_LONG_CUT_CUT, SOSIE_LONG_CUT_STOP };

struct sosie_config_standby {
	struct sosie_name name;
	struct sosie_target to; /* user is always set */
	char *identity;         /* NULL: the agent */
	char *known_hosts;
	char *signing;     /* key that signs what goes there; NULL: none */
	char *standby_key; /* file with the standby's public key; NULL: not pinned */
	unsigned cycles;   /* groups that replicate at the same time, 1 to 64; default 4 */
};

struct sosie_config_group {
	struct sosie_name tenant, group;
	const struct sosie_config_standby *standby;
	char *state; /* folder: STATE/HOST_PORT/TENANT/GROUP */
	enum sosie_source_kind source;
	uint64_t interval_ms;  /* 100 ms to 1 d, default 1 s */
	uint64_t max_stall_ms; /* default 100 ms; 0: no limit */
	enum sosie_long_cut on_long_cut;
	struct sosie_pause pause;
	struct sosie_hooks hooks;
	uint64_t rpo_ms; /* objective; 0: none */
	struct sosie_volume *volumes;
	unsigned volume_count;
	char **attach; /* files and folders */
	unsigned attach_count;
	unsigned streams;        /* 1 to 16, default 2 */
	int level;               /* zstd's; 0: automatic */
	uint64_t read_rate;      /* bytes a second, 0: no limit of its own */
	uint64_t accept_wait_ms; /* default 30 s */
};

struct sosie_config {
	char *state;
	unsigned view_percent; /* of a filesystem, when view_bytes is 0: default 10 */
	uint64_t view_bytes;
	char *on_alarm;           /* program, NULL: none */
	uint64_t alarm_repeat_ms; /* default 5 min */
	char *metrics;            /* file, NULL: none */
	uint64_t read_rate;       /* bytes a second over all groups, 0: no limit */
	struct sosie_config_standby *standbys;
	unsigned standby_count;
	struct sosie_config_group *groups;
	unsigned group_count;
};

/* Reads and checks all of it. SOSIE_ECONFIG names file, line, what is wrong and what is allowed, e.g.
 * "/etc/sosie/sosie.yaml:14: interval: \"1x\" is no time: write 100ms to 1d". */
int sosie_config_load(const char *path, struct sosie_config **out, struct sosie_err *err);
/* Only what sosie_config_load gave; NULL is fine. */
void sosie_config_free(struct sosie_config *c);

/* Values as the file and the options of "sosie replicate" have them: one set of ranges and defaults. Each
 * leaves *out at the default when text is NULL; else SOSIE_ECONFIG, with what is wrong and what is allowed in
 * err->what. */
enum sosie_config_time {
	SOSIE_TIME_INTERVAL,
	SOSIE_TIME_MAX_STALL,
	SOSIE_TIME_RPO, /* 0: none */
	SOSIE_TIME_ACCEPT_WAIT,
	SOSIE_TIME_FREEZE_LIMIT, /* default 0: as struct sosie_hooks says */
	SOSIE_TIME_HOOK_LIMIT,
	SOSIE_TIME_ALARM_REPEAT
};
int sosie_config_time(enum sosie_config_time which, const char *text, uint64_t *ms, struct sosie_err *err);
int sosie_config_rate(const char *text, uint64_t *bytes_per_second, struct sosie_err *err); /* default 0 */
int sosie_config_level(const char *text, int *level, struct sosie_err *err);                /* default 0 */
int sosie_config_streams(const char *text, unsigned *streams, struct sosie_err *err);
int sosie_config_source(const char *text, enum sosie_source_kind *kind, struct sosie_err *err);
int sosie_config_long_cut(const char *text, enum sosie_long_cut *choice, struct sosie_err *err);
/* rpo_text: for the message. An objective below the interval would never be met. */
int sosie_config_objective(const char *rpo_text, uint64_t rpo_ms, uint64_t interval_ms,
                           struct sosie_err *err);

#define SOSIE_VIEW_PERCENT 10 /* default */
/* "10%" (1 to 90) or a size above 0: one of the two is set, the other is 0. False: neither. */
bool sosie_config_view_space(const char *text, unsigned *percent, uint64_t *bytes);
/* The state folder of a group below root: ROOT/HOST_PORT/TENANT/GROUP, the host made fit for a file name.
 * SOSIE_ECONFIG when it does not fit into size. */
int sosie_config_state_path(char *dst, size_t size, const char *root, const struct sosie_target *to,
                            const char *tenant, const char *group, struct sosie_err *err);

#endif

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
	unsigned cycles; /* groups that replicate at the same time, 1 to 64; default 4 */
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

/* "10%" (1 to 90) or a size above 0: one of the two is set, the other is 0. False: neither. */
bool sosie_config_view_space(const char *text, unsigned *percent, uint64_t *bytes);
/* The state folder of a group below root: ROOT/HOST_PORT/TENANT/GROUP, the host made fit for a file name.
 * SOSIE_ECONFIG when it does not fit into size. */
int sosie_config_state_path(char *dst, size_t size, const char *root, const struct sosie_target *to,
                            const char *tenant, const char *group, struct sosie_err *err);

#endif

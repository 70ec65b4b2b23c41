/* SPDX-License-Identifier: MIT */
/*
 * The configuration file as it was written: every value a text, nothing but the shape checked (which keys,
 * given once, list or value, how many). What the texts mean is config.c's to check; where they stand is told
 * by path.
 */
#ifndef SOSIE_CONFIG_YAML_H
#define SOSIE_CONFIG_YAML_H

#include <stdbool.h>
#include <stddef.h>

#include "sosie/err.h"

#define CONFIG_FILE_MAX (1u << 20)
#define CONFIG_VALUE_MAX 4095u /* bytes of one value */
#define CONFIG_STANDBYS_MAX 256u
#define CONFIG_GROUPS_MAX 4096u
#define CONFIG_ATTACH_MAX 256u

/* NULL: the key is not there. Never an empty text. */
struct config_raw_standby {
	char *name, *to, *identity, *known_hosts, *signing, *standby_key, *cycles;
};
struct config_raw_volume {
	char *name, *path, *opaque;
};
struct config_raw_group {
	char *name, *standby, *source, *interval, *max_stall, *on_long_cut, *pause, *rpo, *streams, *level,
	        *read_rate, *accept_wait, *freeze, *thaw, *freeze_limit, *view, *view_done, *hook_limit;
	struct config_raw_volume *volumes;
	unsigned volumes_count;
	char **attach;
	unsigned attach_count;
};
struct config_raw {
	char *state, *view_space, *on_alarm, *alarm_repeat, *metrics, *read_rate;
	struct config_raw_standby *standbys;
	unsigned standbys_count;
	struct config_raw_group *groups;
	unsigned groups_count;
};

struct config_yaml {
	struct config_raw *raw;
	char *text; /* the file */
	size_t len;
	char shown[200]; /* the file's name for messages */
};

/* Reads the file: SOSIE_ECONFIG, with file and line where there is one, when it is no regular file, above
 * CONFIG_FILE_MAX, writable for its group or for all, another user's than ours and root's, not UTF-8, not
 * YAML, or of another shape. */
int config_yaml_load(const char *path, struct config_yaml **out, struct sosie_err *err);
void config_yaml_free(struct config_yaml *y); /* NULL is fine */

/* The line (from 1) of what stands at a path such as "groups[0].volumes[1].path"; of what holds it where that
 * is not there. */
unsigned config_yaml_line(const struct config_yaml *y, const char *path);

#endif

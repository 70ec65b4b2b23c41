/* SPDX-License-Identifier: MIT */
/*
 * The mirror: keeps every group of a configuration replicated for as long as the process lives. Scheduling,
 * retries, "same" for idle groups, the reserve of free space, alarms, status and metrics. Knows no network:
 * who makes connectors is given.
 *
 * Nothing of one group or standby holds another back: groups are looked at and replicated by a pool of
 * threads that grows while work waits, bounded for each standby by its `cycles`.
 */
#ifndef SOSIE_MIRROR_H
#define SOSIE_MIRROR_H

#include "sosie/config.h"
#include "sosie/replicate.h"

struct sosie_mirror_options {
	struct sosie_clock *clock;
	/* A connector for a standby of the configuration; freed by the second. */
	int (*connect)(void *arg, const struct sosie_config_standby *standby, struct sosie_connector **out,
	               struct sosie_err *err);
	void (*disconnect)(void *arg, struct sosie_connector *connector);
	void *arg;
	/* Frees a configuration that was taken over; NULL: sosie_config_free. */
	void (*free_config)(struct sosie_config *config);
	const bool *stop;
	/* Idle groups ask for the standby's head each time that this has passed; 0: 60 s, or 300 ms for each
	 * group of the mirror where that is longer. */
	uint64_t check_ms;
	uint64_t alarm_again_ms; /* from a failure of the alarm program to the next try; 0: 30 s */
	/* Told of each point, of the first look or cycle that finds nothing written, and of each error that
	 * is new: only news. From any thread, one at a time. result or error is NULL. May be NULL: then the
	 * log gets it. */
	void (*tell)(void *arg, const struct sosie_config_group *group,
	             const struct sosie_cycle_result *result, const struct sosie_err *error);
	/* For a foreground run of one group: its progress is told here too; the consents of this run
	 * (accept_volumes … accept_standby_loss) are taken from there. Both may be NULL: then a volume that
	 * is not configured any more is dropped, and nothing else is consented to. Borrowed. */
	struct sosie_progress *progress;
	const struct sosie_replicate_options *consents;
};

struct sosie_mirror;
/* config is taken over, also on failure. Starts the threads. */
int sosie_mirror_start(struct sosie_config *config, const struct sosie_mirror_options *options,
                       struct sosie_mirror **out, struct sosie_err *err);
/* A new configuration (taken over): groups that are the same go on untouched, changed ones after their cycle,
 * groups that are gone end and their views are removed. */
/* One thread at a time. On failure the old configuration goes on. */
int sosie_mirror_reload(struct sosie_mirror *m, struct sosie_config *config, struct sosie_err *err);
/* Opens (or, text NULL, closes) an alarm of kind "config" about a file: a reload that was refused. Any
 * thread.
 */
void sosie_mirror_config_alarm(struct sosie_mirror *m, const char *file, const char *text);
/* What the source of a group is opened with. group and tag are borrowed by *out; tag, made of the state
 * folder's path, tells its views from those of others. */
#define SOSIE_MIRROR_TAG 9
int sosie_mirror_source(const struct sosie_config_group *group, char tag[SOSIE_MIRROR_TAG],
                        struct sosie_source_options *out, struct sosie_err *err);
/* Status as JSON (docs/operating.md, "Status of the source"), malloc'd. Any thread. */
int sosie_mirror_status(struct sosie_mirror *m, char **text, size_t *len, struct sosie_err *err);
/* True while every thread of the mirror makes progress: what a watchdog may be told. */
bool sosie_mirror_alive(struct sosie_mirror *m);
/* Ends cycles at their next step, waits, frees. */
void sosie_mirror_stop(struct sosie_mirror *m);

#endif

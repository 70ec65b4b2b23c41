/* SPDX-License-Identifier: MIT */
/* sosied's command line, taken apart and checked. */
#ifndef TOOLS_SOSIED_OPTIONS_H
#define TOOLS_SOSIED_OPTIONS_H

#include "sosie/mirror.h"
#include "tools/common/options.h"

struct sosied_options {
	struct options line;
	struct sosie_ssh_options ssh;
	const char *signing, *standby_key; /* NULL: none */
	struct sosie_hooks hooks;
	struct sosie_replicate_options replicate; /* connector, source, clock, progress: the caller's */
	struct sosie_name tenant, group;
	char standby[SOSIE_TARGET_TEXT], state[4096];
	struct sosie_volume *volumes;
	const char **attachments, **accept_volumes, **drop_volumes;
	bool once;
	uint64_t interval_ms;
	enum sosie_source_kind source;
	uint64_t max_stall_ms, rpo_ms;
	enum sosie_long_cut on_long_cut;
	struct sosie_pause pause;
	unsigned view_percent;
	uint64_t view_bytes;
	/* with --config or --check-config: only these and line are set */
	const char *config;
	bool check;
	/* sosied_options_config */
	struct sosie_config made;
	struct sosie_config_standby made_standby;
	struct sosie_config_group made_group;
};

/* 0 with line.help or line.version set: nothing else is. sosied_options_fini in any case. */
int sosied_options_parse(struct sosied_options *o, int argc, char *const *argv, struct sosie_err *err);
void sosied_options_fini(struct sosied_options *o);
void sosied_options_help(void);
/* A configuration of one group made of the options; it lives in them. */
struct sosie_config *sosied_options_config(struct sosied_options *o);

#endif

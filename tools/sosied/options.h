/* SPDX-License-Identifier: MIT */
/* sosied's command line, taken apart and checked. */
#ifndef TOOLS_SOSIED_OPTIONS_H
#define TOOLS_SOSIED_OPTIONS_H

#include "sosie/replicate.h"
#include "tools/common/options.h"

struct sosied_options {
	struct options line;
	struct sosie_ssh_options ssh;
	struct sosie_hooks hooks;
	struct sosie_replicate_options replicate; /* connector, source, clock, progress: the caller's */
	struct sosie_name tenant, group;
	char standby[400], state[4096];
	struct sosie_volume *volumes;
	const char **attachments, **accept_volumes, **drop_volumes;
	bool once;
	uint64_t interval_ms;
};

/* 0 with line.help or line.version set: nothing else is. sosied_options_fini in any case. */
int sosied_options_parse(struct sosied_options *o, int argc, char *const *argv, struct sosie_err *err);
void sosied_options_fini(struct sosied_options *o);
void sosied_options_help(void);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * The source's loop: cut, find, read, digest, encode, send, commit, wait for accepted; with a state directory
 * that makes a kill at any instant cost nothing but the upload's unfinished record (docs/architecture.md,
 * "The source's state").
 */
#ifndef SOSIE_REPLICATE_H
#define SOSIE_REPLICATE_H

#include "sosie/channel.h"
#include "sosie/progress.h"
#include "sosie/source.h"

struct sosie_replicate_options {
	struct sosie_connector *connector;
	struct sosie_clock *clock;
	struct sosie_source *source;
	const struct sosie_volume *volumes;
	unsigned volume_count;
	const char *const *attachments; /* paths; names are their last parts */
	unsigned attachment_count;
	const char *tenant, *group;
	const char *state;       /* directory of this group's state: made when missing */
	const char *standby;     /* for messages: USER@HOST:PORT */
	unsigned streams;        /* sessions with a worker each, 1 to 16 */
	int level;               /* zstd's, -7 to 19; 0: automatic, by what is the bottleneck */
	uint64_t read_rate;      /* bytes a second over all workers, 0: no limit */
	uint64_t accept_wait_ms; /* for accepted after durable, default 30 s */
	/* Consents, each for this run only. */
	const char *const *accept_volumes; /* names */
	unsigned accept_volume_count;
	const char *const *drop_volumes; /* names that the standby has and that are not given any more */
	unsigned drop_volume_count;
	bool allow_shrink, accept_standby_loss;
	struct sosie_progress *progress;
	const bool *stop;
};

struct sosie_cycle_result {
	bool same;      /* nothing had changed: no point was made */
	uint64_t point; /* accepted, or the standby's newest when same */
	enum sosie_consistency consistency;
	uint64_t read_bytes, changed_bytes, wire_bytes;
	char new_volumes[200],
	        dropped_volumes[200]; /* "a, b", cut off where it is long; empty with the first point */
	char accepted_loss[512]; /* what the standby had lost, when --accept-standby-loss let it pass; else
	                            empty */
	bool compared, resumed;  /* digests were compared; an upload of before was gone on with */
	int64_t cut_ms, accepted_ms; /* on the standby's clock */
	int64_t cut_mono_ms,
	        done_mono_ms; /* ours: their difference is what this point was old when accepted */
};

/* One replicator a group and process; takes the state's lock (SOSIE_EBUSY names the holder). */
struct sosie_replicator;
int sosie_replicator_open(const struct sosie_replicate_options *options, struct sosie_replicator **out,
                          struct sosie_err *err);
/* One cycle; the connection is kept for the next. Errors of class retry: call again later; operator: do not.
 */
int sosie_replicator_cycle(struct sosie_replicator *r, struct sosie_cycle_result *out, struct sosie_err *err);
void sosie_replicator_close(struct sosie_replicator *r);

#endif

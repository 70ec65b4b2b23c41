/* SPDX-License-Identifier: MIT */
/*
 * sosied: the primary's daemon. With --config all groups of a file (daemon.c); else one group from the
 * command line, as "sosie replicate" runs it: one cycle with --once, or the mirror's loop until a signal or
 * until a person must decide. The only program that links libssh2.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sosie/log.h"
#include "tools/common/progress.h"
#include "tools/common/stop.h"
#include "tools/common/version.h"
#include "tools/sosied/connect.h"
#include "tools/sosied/daemon.h"
#include "tools/sosied/options.h"

#define NAP_MS 200

struct daemon {
	struct sosied_options options;
	struct progress progress;
	struct sosie_clock *clock;
	struct sosie_connector *connector;
	struct sosie_pool *pool;
	struct sosie_source *source;
	struct sosie_replicator *replicator;
	bool ended; /* atomic: failure says why the loop is to end */
	struct sosie_err failure;
};

/* --- what is told
 * ------------------------------------------------------------------------------------------------------- */

static void tell_point(struct daemon *d, const struct sosie_cycle_result *r)
{
	char changed[32], read[32], sent[32], took[32];

	progress_clear(&d->progress);
	sosie_size_text(changed, sizeof(changed), r->changed_bytes);
	sosie_size_text(read, sizeof(read), r->read_bytes);
	sosie_size_text(sent, sizeof(sent), r->wire_bytes);
	sosie_duration_text(took, sizeof(took), (uint64_t)(r->done_mono_ms - r->cut_mono_ms));
	if (r->accepted_loss[0])
		printf("went on after a loss at the standby, as --accept-standby-loss says: %s\n",
		       r->accepted_loss);
	if (r->same)
		printf("point %llu: unchanged, %s read, %s%s\n", (unsigned long long)r->point, read, took,
		       r->compared ? ", digests compared" : "");
	else
		printf("point %llu: %s changed of %s read, %s sent, %s, accepted%s%s%s%s%s%s%s\n",
		       (unsigned long long)r->point, changed, read, sent, took,
		       r->consistency == SOSIE_CONSISTENCY_FUZZY ? ", fuzzy" : "",
		       r->compared ? ", digests compared" : "", r->resumed ? ", resumed" : "",
		       r->new_volumes[0] ? ", new volume " : "", r->new_volumes,
		       r->dropped_volumes[0] ? ", dropped volume " : "", r->dropped_volumes);
	fflush(stdout);
}

static void tell_error(struct daemon *d, const struct sosie_err *err)
{
	progress_clear(&d->progress);
	sosie_log_err(sosie_code_class(err->code) == SOSIE_CLASS_RETRY ? SOSIE_LOG_WARNING : SOSIE_LOG_ERROR,
	              err);
}

/* --- the loop
 * ------------------------------------------------------------------------------------------------------------
 */

static int run_once(struct daemon *d, struct sosie_err *err)
{
	struct sosie_cycle_result result;
	int rc = sosie_replicator_cycle(d->replicator, &result, err);

	if (rc == 0)
		tell_point(d, &result);
	return rc;
}

/* From the mirror's threads, one at a time. What a person must decide ends the run. */
static void on_tell(void *arg, const struct sosie_config_group *group,
                    const struct sosie_cycle_result *result, const struct sosie_err *error)
{
	struct daemon *d = arg;

	(void)group;
	if (result) {
		tell_point(d, result);
	} else if (sosie_code_class(error->code) == SOSIE_CLASS_RETRY) {
		tell_error(d, error);
	} else if (!__atomic_load_n(&d->ended, __ATOMIC_ACQUIRE)) {
		progress_clear(&d->progress);
		d->failure = *error;
		__atomic_store_n(&d->ended, true, __ATOMIC_RELEASE);
	}
	/* Each cycle is a piece of work of its own: short ones show nothing. */
	progress_clear(&d->progress);
	progress_init(&d->progress, d->clock, stderr, isatty(STDERR_FILENO), false);
}

/* It lives in the options. */
static void keep_config(struct sosie_config *config)
{
	(void)config;
}

static int run_loop(struct daemon *d, struct sosie_err *err)
{
	const struct sosie_mirror_options o = {
	        .clock = d->clock,
	        .connect = connect_standby,
	        .disconnect = disconnect_standby,
	        .free_config = keep_config,
	        .stop = stop_flag(),
	        .arg = d,
	        .tell = on_tell,
	        .progress = &d->progress.report,
	        .consents = &d->options.replicate,
	};
	struct sosie_mirror *m;
	int rc = sosie_mirror_start(sosied_options_config(&d->options), &o, &m, err);

	if (rc != 0)
		return rc;
	while (!stop_wanted() && !__atomic_load_n(&d->ended, __ATOMIC_ACQUIRE))
		sosie_sleep_ms(d->clock, NAP_MS);
	sosie_mirror_stop(m);
	if (!d->ended)
		return 0;
	*err = d->failure;
	return -(int)err->code;
}

static int open_source(struct daemon *d, struct sosie_err *err)
{
	const struct sosie_config *c = sosied_options_config(&d->options);
	char tag[SOSIE_MIRROR_TAG], reason[200];
	struct sosie_source_options source;
	int rc = sosie_mirror_source(&c->groups[0], tag, &source, err);

	return rc == 0 ? sosie_source_open(&source, &d->source, reason, sizeof(reason), err) : rc;
}

static int open_all(struct daemon *d, struct sosie_err *err)
{
	struct sosied_options *o = &d->options;
	int rc;

	connect_limits(&o->ssh);
	rc = sosie_ssh_connector(&o->ssh, &d->connector, err);
	if (rc == 0)
		rc = sosie_pool_new(d->connector, d->clock, o->standby, &d->pool, err);
	if (rc == 0)
		rc = sosie_pool_trust(d->pool, o->signing, o->standby_key, err);
	if (rc == 0)
		rc = open_source(d, err);
	if (rc != 0)
		return rc;
	o->replicate.pool = d->pool;
	o->replicate.source = d->source;
	o->replicate.clock = d->clock;
	o->replicate.progress = &d->progress.report;
	o->replicate.stop = stop_flag();
	return sosie_replicator_open(&o->replicate, &d->replicator, err);
}

static void close_all(struct daemon *d)
{
	sosie_replicator_close(d->replicator);
	if (d->source)
		d->source->ops->destroy(d->source);
	sosie_pool_free(d->pool);
	sosie_ssh_connector_free(d->connector);
	sosied_options_fini(&d->options);
}

static int run(struct daemon *d, int argc, char **argv, struct sosie_err *err)
{
	int rc = sosied_options_parse(&d->options, argc, argv, err);

	if (rc != 0)
		return rc;
	if (d->options.line.help) {
		sosied_options_help();
		return 0;
	}
	if (d->options.line.version) {
		puts("sosied " SOSIE_VERSION);
		return 0;
	}
	if (d->options.config)
		return d->options.check ? daemon_check(d->options.config, err)
		                        : daemon_run(d->options.config, err);
	if (!d->options.once)
		return run_loop(d, err);
	rc = open_all(d, err);
	return rc == 0 ? run_once(d, err) : rc;
}

int main(int argc, char **argv)
{
	struct daemon d = {.clock = sosie_clock_real()};
	struct sosie_err err = {0};
	int rc;

	sosie_log_init("sosied", SOSIE_LOG_INFO);
	stop_install();
	progress_init(&d.progress, d.clock, stderr, isatty(STDERR_FILENO), false);
	rc = run(&d, argc, argv, &err);
	if (rc != 0)
		tell_error(&d, &err);
	close_all(&d);
	return rc == 0 ? 0 : sosie_code_exit((enum sosie_code) - rc);
}

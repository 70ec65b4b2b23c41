/* SPDX-License-Identifier: MIT */
/*
 * sosied: the primary's daemon, run as it is or through "sosie replicate". Wiring and the loop that decides:
 * again at once, again later (doubling from 1 s to 60 s, told once for each change of reason), or end because
 * a person must decide. The only program that links libssh2.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sosie/log.h"
#include "tools/common/progress.h"
#include "tools/common/stop.h"
#include "tools/common/version.h"
#include "tools/sosied/options.h"

#define BACKOFF_MIN_MS 1000
#define BACKOFF_MAX_MS 60000
#define NAP_MS 200

struct daemon {
	struct sosied_options options;
	struct progress progress;
	struct sosie_clock *clock;
	struct sosie_connector *connector;
	struct sosie_source *source;
	struct sosie_replicator *replicator;
	char reason[512]; /* told last */
	int64_t backoff_ms;
	bool idle; /* the last cycle found nothing changed, and that was told */
};

/* --- what is told
 * ------------------------------------------------------------------------------------------------------- */

static void tell_point(struct daemon *d, const struct sosie_cycle_result *r)
{
	char changed[32], read[32], sent[32], took[32];
	bool news = !r->same || d->options.once || r->compared || !d->idle;

	progress_clear(&d->progress);
	d->reason[0] = '\0';
	sosie_size_text(changed, sizeof(changed), r->changed_bytes);
	sosie_size_text(read, sizeof(read), r->read_bytes);
	sosie_size_text(sent, sizeof(sent), r->wire_bytes);
	sosie_duration_text(took, sizeof(took), (uint64_t)(r->done_mono_ms - r->cut_mono_ms));
	if (r->accepted_loss[0])
		printf("went on after a loss at the standby, as --accept-standby-loss says: %s\n",
		       r->accepted_loss);
	d->idle = r->same;
	if (!news)
		return; /* every second the same */
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
	d->idle = false;
	if (strcmp(d->reason, err->what) == 0)
		return;
	snprintf(d->reason, sizeof(d->reason), "%s", err->what);
	sosie_log_err(sosie_code_class(err->code) == SOSIE_CLASS_RETRY ? SOSIE_LOG_WARNING : SOSIE_LOG_ERROR,
	              err);
}

/* --- the loop
 * ------------------------------------------------------------------------------------------------------------
 */

static void nap(struct daemon *d, int64_t ms)
{
	int64_t end = sosie_mono_ms(d->clock) + ms, left;

	while (!stop_wanted() && (left = end - sosie_mono_ms(d->clock)) > 0)
		sosie_sleep_ms(d->clock, left < NAP_MS ? left : NAP_MS);
}

/* Half of the time fixed, half random: many sources do not come back in step. */
static void back_off(struct daemon *d)
{
	uint16_t dice = 0;

	d->backoff_ms = d->backoff_ms == 0 ? BACKOFF_MIN_MS : d->backoff_ms * 2;
	if (d->backoff_ms > BACKOFF_MAX_MS)
		d->backoff_ms = BACKOFF_MAX_MS;
	sosie_random(d->clock, &dice, sizeof(dice), NULL);
	nap(d, d->backoff_ms / 2 + d->backoff_ms / 2 * dice / UINT16_MAX);
}

static int run_once(struct daemon *d, struct sosie_err *err)
{
	struct sosie_cycle_result result;
	int rc;

	/* Each cycle is a piece of work of its own: short ones show nothing. */
	progress_clear(&d->progress);
	progress_init(&d->progress, d->clock, stderr, isatty(STDERR_FILENO), false);
	rc = sosie_replicator_cycle(d->replicator, &result, err);

	if (rc == 0)
		tell_point(d, &result);
	return rc;
}

static int run_loop(struct daemon *d, struct sosie_err *err)
{
	while (!stop_wanted()) {
		int64_t started = sosie_mono_ms(d->clock);
		int rc = run_once(d, err);

		if (rc == 0) {
			d->backoff_ms = 0;
			nap(d, (int64_t)d->options.interval_ms - (sosie_mono_ms(d->clock) - started));
			continue;
		}
		if (stop_wanted() && rc == -SOSIE_EINTR)
			break;
		if (sosie_code_class((enum sosie_code) - rc) != SOSIE_CLASS_RETRY)
			return rc;
		tell_error(d, err);
		back_off(d);
	}
	return 0;
}

static int open_all(struct daemon *d, struct sosie_err *err)
{
	struct sosied_options *o = &d->options;
	int rc;

	o->ssh.stop = stop_flag();
	o->ssh.connect_ms = 20000;
	o->ssh.stall_ms = 60000;
	o->ssh.keepalive_s = 15;
	rc = sosie_ssh_connector(&o->ssh, &d->connector, err);
	if (rc == 0)
		rc = sosie_scan(o->volumes, o->replicate.volume_count, &o->hooks, o->group.s, d->clock,
		                &d->source, err);
	if (rc != 0)
		return rc;
	o->replicate.connector = d->connector;
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
	rc = open_all(d, err);
	if (rc != 0)
		return rc;
	return d->options.once ? run_once(d, err) : run_loop(d, err);
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

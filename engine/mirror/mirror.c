/* SPDX-License-Identifier: MIT */
/* The mirror's beginning and end, its scheduler, its threads. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/mirror/internal.h"
#include "sosie/bytes.h"
#include "sosie/digest.h"
#include "sosie/log.h"
#include "sosie/thread.h"

#define TICK_MS 200
#define SAMPLE_MS 1000
#define ALIVE_MS 10000
#define SEND_ALIVE_MS 300000 /* a courier's message is bounded by the connection's own limits */
#define STOP_WAIT_MS 5000

int64_t mirror_now(const struct sosie_mirror *m)
{
	return sosie_mono_ms(m->clock);
}

/* Views of the group with that state folder are told from others' by it. */
static int view_tag(const char *state, char tag[SOSIE_MIRROR_TAG], struct sosie_err *err)
{
	struct sosie_hash *h = sosie_hash_new();
	struct sosie_digest d;

	if (!h)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for a digest");
	sosie_hash_start(h, "sosie view tag");
	sosie_hash_add_text(h, state);
	sosie_hash_end(h, &d);
	sosie_hash_free(h);
	sosie_hex(tag, d.b, (SOSIE_MIRROR_TAG - 1) / 2);
	return 0;
}

int sosie_mirror_source(const struct sosie_config_group *group, char tag[SOSIE_MIRROR_TAG],
                        struct sosie_source_options *out, struct sosie_err *err)
{
	*out = (struct sosie_source_options){
	        .kind = group->source,
	        .volumes = group->volumes,
	        .count = group->volume_count,
	        .hooks = &group->hooks,
	        .pause = group->pause,
	        .tenant = group->tenant.s,
	        .group = group->group.s,
	        .tag = tag,
	        .max_stall_us = group->max_stall_ms * 1000,
	        .state = group->state,
	};
	return view_tag(group->state, tag, err);
}

/* --- threads
 * ------------------------------------------------------------------------------------------------------- */

struct mirror_thread {
	struct mirror_thread *next;
	pthread_t id;
	void *(*run)(void *);
	void *arg;
	bool ended; /* it needs the mirror no more */
};
static _Thread_local struct mirror_thread *this_thread;

static void *run_thread(void *arg)
{
	this_thread = arg;
	return this_thread->run(this_thread->arg);
}

/* With the lock held: what has ended is waited for to its very end, which needs nothing of ours. A thread
 * that still ran its libraries' destructors while the process ends would leave their memory behind. */
static void join_ended(struct sosie_mirror *m)
{
	struct mirror_thread **at = &m->thread_list;

	while (*at) {
		struct mirror_thread *t = *at;

		if (!t->ended) {
			at = &t->next;
			continue;
		}
		*at = t->next;
		pthread_join(t->id, NULL);
		free(t);
	}
}

int mirror_thread(struct sosie_mirror *m, void *(*run)(void *), void *arg, struct sosie_err *err)
{
	struct mirror_thread *t = calloc(1, sizeof(*t));
	pthread_attr_t how;
	int rc = t ? pthread_attr_init(&how) : ENOMEM;

	join_ended(m);
	if (rc == 0) {
		t->run = run;
		t->arg = arg;
		pthread_attr_setstacksize(&how, MIRROR_STACK);
		rc = sosie_thread_start(&t->id, &how, run_thread, t);
		pthread_attr_destroy(&how);
	}
	if (rc != 0) {
		free(t);
		return sosie_err_set(err, SOSIE_ENOMEM, "cannot start a thread: %s", strerror(rc));
	}
	m->threads++;
	t->next = m->thread_list;
	m->thread_list = t;
	return 0;
}

void mirror_thread_ended(struct sosie_mirror *m)
{
	this_thread->ended = true;
	m->threads--;
	pthread_cond_broadcast(&m->ended);
}

int mirror_cond_init(pthread_cond_t *cond)
{
	pthread_condattr_t how;
	int rc = pthread_condattr_init(&how);

	if (rc == 0) {
		pthread_condattr_setclock(&how, CLOCK_MONOTONIC);
		rc = pthread_cond_init(cond, &how);
		pthread_condattr_destroy(&how);
	}
	return rc;
}

void mirror_wait(struct sosie_mirror *m, pthread_cond_t *cond, int64_t until_ms)
{
	struct timespec end;
	int64_t left = until_ms - mirror_now(m);

	if (until_ms == NEVER) {
		pthread_cond_wait(cond, &m->lock);
		return;
	}
	if (left <= 0)
		return;
	clock_gettime(CLOCK_MONOTONIC, &end);
	left += end.tv_nsec / 1000000 + 1;
	end.tv_sec += left / 1000;
	end.tv_nsec = left % 1000 * 1000000;
	pthread_cond_timedwait(cond, &m->lock, &end);
}

/* --- what is told
 * ------------------------------------------------------------------------------------------------- */

static void say_point(const struct mirror_group *g, const struct sosie_cycle_result *r)
{
	char changed[32], sent[32], took[32];
	bool notable = r->compared || r->resumed || r->new_volumes[0] || r->dropped_volumes[0] ||
	               r->point == 1 || g->told[0];

	if (r->accepted_loss[0])
		mirror_say(g->m, SOSIE_LOG_WARNING, "%s: went on after a loss at the standby: %s", g->label,
		           r->accepted_loss);
	if (r->same)
		return;
	sosie_size_text(changed, sizeof(changed), r->changed_bytes);
	sosie_size_text(sent, sizeof(sent), r->wire_bytes);
	sosie_duration_text(took, sizeof(took), (uint64_t)(r->done_mono_ms - r->cut_mono_ms));
	mirror_say(g->m, notable ? SOSIE_LOG_INFO : SOSIE_LOG_DEBUG,
	           "%s: point %llu accepted: %s changed, %s sent, %s%s%s%s%s%s%s%s", g->label,
	           (unsigned long long)r->point, changed, sent, took,
	           r->consistency == SOSIE_CONSISTENCY_FUZZY ? ", fuzzy" : "",
	           r->compared ? ", digests compared" : "", r->resumed ? ", resumed" : "",
	           r->new_volumes[0] ? ", new volume " : "", r->new_volumes,
	           r->dropped_volumes[0] ? ", dropped volume " : "", r->dropped_volumes);
}

static void say_failure(const struct mirror_group *g, const struct sosie_err *err)
{
	char line[1100], named[GROUP_LABEL + 2];

	snprintf(named, sizeof(named), "%s: ", g->label);
	sosie_err_line(err, line, sizeof(line));
	mirror_say(g->m,
	           sosie_code_class(err->code) == SOSIE_CLASS_RETRY ? SOSIE_LOG_WARNING : SOSIE_LOG_ERROR,
	           "%s%s", strncmp(line, named, strlen(named)) == 0 ? "" : named, line);
}

/* g->told belongs to the turn that calls. */
void mirror_tell(struct mirror_group *g, const struct sosie_cycle_result *r, const struct sosie_err *err)
{
	struct sosie_mirror *m = g->m;
	pthread_mutex_t *lock = m->o.tell ? &m->tell_lock : &m->lock;

	pthread_mutex_lock(lock);
	if (m->o.tell)
		m->o.tell(m->o.arg, g->config, r, err);
	else if (r)
		say_point(g, r);
	else
		say_failure(g, err);
	pthread_mutex_unlock(lock);
}

/* --- parts
 * ---------------------------------------------------------------------------------------------------------
 */

static void free_config(const struct sosie_mirror_options *o, struct sosie_config *config)
{
	if (o->free_config)
		o->free_config(config);
	else
		sosie_config_free(config);
}

int config_ref_new(struct sosie_mirror *m, struct sosie_config *config, struct config_ref **out,
                   struct sosie_err *err)
{
	struct config_ref *ref = calloc(1, sizeof(*ref));

	*out = ref;
	if (!ref) {
		free_config(&m->o, config);
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for the configuration");
	}
	ref->config = config;
	ref->free = m->o.free_config ? m->o.free_config : sosie_config_free;
	ref->refs = 1;
	return 0;
}

/* With the lock held; what is freed blocks on nothing. */
void config_ref_drop(struct config_ref *ref)
{
	if (ref && --ref->refs == 0) {
		ref->free(ref->config);
		free(ref);
	}
}

int budget_new(struct sosie_mirror *m, uint64_t rate, struct budget **out, struct sosie_err *err)
{
	struct budget *b = calloc(1, sizeof(*b));
	int rc = 0;

	*out = NULL;
	if (!b)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for a read budget");
	b->rate = rate;
	if (rate > 0)
		rc = sosie_budget_new(rate, m->clock, &b->budget, err);
	if (rc != 0)
		free(b);
	else
		*out = b;
	return rc;
}

void mirror_link(struct sosie_mirror *m, struct mirror_group *g)
{
	g->next = m->groups;
	m->groups = g;
	m->group_count++;
	g->standby->groups++;
	g->since_ms = mirror_now(m);
	heap_push(g, g->since_ms);
}

void mirror_recount(struct sosie_mirror *m)
{
	for (struct mirror_standby *s = m->standbys; s; s = s->next)
		s->shortest_ms = UINT64_MAX;
	for (struct mirror_group *g = m->groups; g; g = g->next) {
		if (g->leaving)
			continue;
		struct mirror_standby *s = g->new_standby ? g->new_standby : g->standby;
		uint64_t interval = g->new_config ? g->new_config->interval_ms : g->config->interval_ms;

		if (interval < s->shortest_ms)
			s->shortest_ms = interval;
	}
}

/* --- scheduler
 * ----------------------------------------------------------------------------------------------------- */

static void standby_alarm(struct mirror_standby *s, int64_t now)
{
	uint64_t limit = 60000;
	char what[600];

	if (s->lost_ms < 0 && !s->alarmed)
		return;
	for (const struct mirror_group *g = s->m->groups; g; g = g->next)
		if (g->standby == s && g->config->rpo_ms > 0 && g->config->rpo_ms < limit)
			limit = g->config->rpo_ms;
	if ((s->lost_ms >= 0 && now - s->lost_ms > (int64_t)limit) == s->alarmed)
		return;
	s->alarmed = !s->alarmed;
	snprintf(what, sizeof(what), "not reached: %.500s", s->error.what);
	alarm_set(s->m, ALARM_STANDBY, s->config->name.s, s->alarmed ? what : NULL);
}

static void sample_all(struct sosie_mirror *m, int64_t now)
{
	rpo_sample(m, now);
	for (struct mirror_standby *s = m->standbys; s; s = s->next)
		if (!s->leaving)
			standby_alarm(s, now);
}

static void begin_stop(struct sosie_mirror *m)
{
	__atomic_store_n(&m->stopping, true, __ATOMIC_RELAXED);
	for (struct mirror_group *g = m->groups; g; g = g->next)
		__atomic_store_n(&g->stop, true, __ATOMIC_RELAXED);
	for (struct mirror_standby *s = m->standbys; s; s = s->next)
		pthread_cond_broadcast(&s->wake);
	pthread_cond_broadcast(&m->work);
	pthread_cond_broadcast(&m->spare);
	pthread_cond_broadcast(&m->tick);
	pthread_cond_broadcast(&m->herald_wake);
	pthread_cond_broadcast(&m->crier_wake);
	pthread_cond_broadcast(&m->scribe_wake);
	pthread_cond_broadcast(&m->space_wake);
}

static void *scheduler_run(void *arg)
{
	struct sosie_mirror *m = arg;
	int64_t sampled = 0;

	pthread_mutex_lock(&m->lock);
	while (!m->stopping) {
		int64_t now = mirror_now(m);

		__atomic_store_n(&m->stamp_ms, now, __ATOMIC_RELAXED);
		if (m->o.stop && __atomic_load_n(m->o.stop, __ATOMIC_RELAXED)) {
			begin_stop(m);
			break;
		}
		mirror_grow(m, now);
		if (now - sampled >= SAMPLE_MS) {
			sampled = now;
			sample_all(m, now);
		}
		mirror_wait(m, &m->tick, now + TICK_MS);
	}
	mirror_thread_ended(m);
	pthread_mutex_unlock(&m->lock);
	return NULL;
}

bool sosie_mirror_alive(struct sosie_mirror *m)
{
	int64_t now = mirror_now(m);
	bool alive = now - __atomic_load_n(&m->stamp_ms, __ATOMIC_RELAXED) < ALIVE_MS;

	if (!alive || pthread_mutex_trylock(&m->lock) != 0)
		return alive; /* whoever holds the lock holds up the scheduler too: its stamp tells */
	for (struct mirror_standby *s = m->standbys; s; s = s->next)
		if (now - __atomic_load_n(&s->stamp_ms, __ATOMIC_RELAXED) >
		    (s->sending ? SEND_ALIVE_MS : ALIVE_MS))
			alive = false;
	pthread_mutex_unlock(&m->lock);
	return alive;
}

/* --- beginning and end
 * --------------------------------------------------------------------------------------------- */

static int init_locks(struct sosie_mirror *m, struct sosie_err *err)
{
	pthread_cond_t *conds[] = {&m->work,        &m->spare,      &m->tick,  &m->herald_wake,
	                           &m->scribe_wake, &m->space_wake, &m->ended, &m->crier_wake};
	int rc = pthread_mutex_init(&m->lock, NULL);

	if (rc == 0)
		rc = pthread_mutex_init(&m->tell_lock, NULL);
	for (size_t i = 0; rc == 0 && i < sizeof(conds) / sizeof(conds[0]); i++)
		rc = mirror_cond_init(conds[i]);
	return rc == 0 ? 0 : sosie_err_sys(err, rc, "cannot make a lock");
}

static struct mirror_standby *standby_of(struct sosie_mirror *m, const struct sosie_config_standby *config)
{
	struct mirror_standby *s = m->standbys;

	while (s && s->config != config)
		s = s->next;
	return s;
}

static int make_parts(struct sosie_mirror *m, struct sosie_err *err)
{
	struct sosie_config *c = m->config->config;
	int rc = heap_reserve(m, c->group_count, err);

	if (rc == 0)
		rc = budget_new(m, c->read_rate, &m->budgets, err);
	for (unsigned i = 0; rc == 0 && i < c->standby_count; i++) {
		struct mirror_standby *s;

		rc = standby_new(m, &c->standbys[i], m->config, &s, err);
		if (rc == 0) {
			s->next = m->standbys;
			m->standbys = s;
		}
	}
	for (unsigned i = 0; rc == 0 && i < c->group_count; i++) {
		const struct sosie_config_group *config = &c->groups[c->group_count - 1 - i];
		struct mirror_group *g;

		rc = group_new(m, standby_of(m, config->standby), config, m->config, &g, err);
		if (rc == 0)
			mirror_link(m, g);
	}
	mirror_recount(m);
	return rc;
}

static int start_threads(struct sosie_mirror *m, struct sosie_err *err)
{
	int rc;

	pthread_mutex_lock(&m->lock);
	rc = mirror_thread(m, scheduler_run, m, err);
	if (rc == 0)
		rc = mirror_thread(m, herald_run, m, err);
	if (rc == 0)
		rc = mirror_thread(m, crier_run, m, err);
	if (rc == 0)
		rc = mirror_thread(m, scribe_run, m, err);
	for (struct mirror_standby *s = m->standbys; rc == 0 && s; s = s->next)
		rc = standby_start(s, err);
	if (rc == 0)
		rc = mirror_thread(m, mirror_worker, m, err);
	m->workers += rc == 0;
	pthread_mutex_unlock(&m->lock);
	return rc;
}

int sosie_mirror_start(struct sosie_config *config, const struct sosie_mirror_options *options,
                       struct sosie_mirror **out, struct sosie_err *err)
{
	struct sosie_mirror *m = calloc(1, sizeof(*m));
	int rc;

	*out = NULL;
	if (!m) {
		free_config(options, config);
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for the mirror");
	}
	m->o = *options;
	m->clock = options->clock;
	m->lines_end = &m->lines;
	m->stamp_ms = mirror_now(m);
	m->started_wall_ms = sosie_wall_ms(m->clock);
	m->alarm_next = m->started_wall_ms > 0 ? (uint64_t)m->started_wall_ms : 0; /* above those of before */
	rc = config_ref_new(m, config, &m->config, err);
	if (rc == 0)
		rc = init_locks(m, err);
	if (rc != 0) {
		if (m->config)
			config_ref_drop(m->config);
		free(m);
		return rc;
	}
	rc = make_parts(m, err);
	if (rc == 0)
		rc = start_threads(m, err);
	if (rc != 0)
		sosie_mirror_stop(m);
	else
		*out = m;
	return rc;
}

static void free_lists(struct sosie_mirror *m)
{
	while (m->groups) {
		struct mirror_group *g = m->groups;

		m->groups = g->next;
		(void)group_close(g, false, NULL);
		group_free(g);
	}
	while (m->standbys) {
		struct mirror_standby *s = m->standbys;

		m->standbys = s->next;
		config_ref_drop(s->ref);
		standby_free(s);
	}
	while (m->budgets) {
		struct budget *b = m->budgets;

		m->budgets = b->next;
		sosie_budget_free(b->budget);
		free(b);
	}
	while (m->filesystems) {
		struct mirror_fs *fs = m->filesystems;

		m->filesystems = fs->next;
		free(fs);
	}
}

static void free_all(struct sosie_mirror *m)
{
	pthread_cond_t *conds[] = {&m->work,        &m->spare,      &m->tick,  &m->herald_wake,
	                           &m->scribe_wake, &m->space_wake, &m->ended, &m->crier_wake};

	free_lists(m);
	alarms_free(m);
	mirror_say_rest(m);
	config_ref_drop(m->config);
	free(m->heap);
	for (size_t i = 0; i < sizeof(conds) / sizeof(conds[0]); i++)
		pthread_cond_destroy(conds[i]);
	pthread_mutex_destroy(&m->lock);
	pthread_mutex_destroy(&m->tell_lock);
	free(m);
}

void sosie_mirror_stop(struct sosie_mirror *m)
{
	int64_t end;

	if (!m)
		return;
	end = mirror_now(m) + STOP_WAIT_MS;
	pthread_mutex_lock(&m->lock);
	begin_stop(m);
	while (m->threads > 0 && mirror_now(m) < end)
		mirror_wait(m, &m->ended, end);
	bool all = m->threads == 0;
	unsigned left = m->threads;
	join_ended(m);
	pthread_mutex_unlock(&m->lock);
	if (all)
		free_all(m);
	else /* a system call that does not come back: all that it may touch stays */
		sosie_log(SOSIE_LOG_WARNING, "%u thread%s left behind in the kernel or at the network", left,
		          left == 1 ? " is" : "s are");
}

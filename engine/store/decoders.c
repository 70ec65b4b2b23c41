/* SPDX-License-Identifier: MIT */
/*
 * Records decoded by several threads. Jobs are taken in the order in which they were given; a thread touches
 * nothing but its hand and the job, so what comes out does not depend on who decoded it or when. No I/O
 * here: io instances and trees belong to the thread that gives the jobs.
 *
 * Payloads that are not simply the content are unpacked in a confined child, one for each thread
 * (confined.h); what comes back is judged here, by its digests. The children belong to the giver's home: it
 * gets them, starts them (a child ends with the thread that forked it) and puts them back.
 *
 * The giver also decodes: when it waits for a job that nobody has begun, it does it itself. So a pool works
 * with any number of threads, none included (few records, or the machine gives no thread).
 *
 * The lock guards the queue, `stop` and every job's state; a job's other fields belong to whoever works on it
 * (JOB_BUSY: a thread of the pool, else the giver).
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/delta/record.h"
#include "engine/store/core.h"
#include "sosie/thread.h"

#define DECODE_THREADS_MAX 4u

/* What one thread decodes with. */
struct decode_hand {
	struct sosie_hash *hash;
	struct confined *child;
	int64_t cpu_ns;   /* of the child when it was got */
	uint64_t started; /* children of it that the giver had started when the thread began */
};
struct decode_worker {
	struct decode_pool *pool;
	struct decode_hand hand;
	pthread_t thread;
};
struct decode_pool {
	pthread_mutex_t lock;
	pthread_cond_t given, finished;
	struct decode_job *first, *last; /* JOB_QUEUED, oldest first */
	bool stop;
	struct decode_hand hand; /* the giver's */
	struct sosie_digest group_ctx;
	const struct sosie_extent_volume *volumes;
	struct confined_home *home;
	struct sosie_clock *clock;
	unsigned count;
	struct decode_worker workers[DECODE_THREADS_MAX];
};

/* --- one job
 * --------------------------------------------------------------------------------------------------- */

/* The content into job->plain; nothing of it is known to be right. */
static int unpack(const struct decode_pool *p, struct decode_hand *h, struct decode_job *job)
{
	const struct sosie_record *r = &job->record;
	struct sosie_range ranges[SOSIE_RECORD_RANGES_MAX];
	struct packed packed = {.kind = r->kind,
	                        .encoding = r->encoding,
	                        .payload = job->payload,
	                        .payload_len = r->payload_len,
	                        .basis = job->basis,
	                        .plain_len = r->plain_len};
	int rc = record_check_lengths(r, p->volumes, &job->err);
	if (rc)
		return rc;
	if (!record_is_packed(r)) {
		if (r->payload_len != r->plain_len)
			return sosie_err_set(&job->err, SOSIE_ECORRUPT, "record of an impossible length");
		memcpy(job->plain, job->payload, r->plain_len);
		return 0;
	}
	sosie_record_basis(r, p->volumes, ranges, &packed.basis_len);
	return confined_unpack(h->child, &packed, job->plain, &job->err);
}

static void decode(struct decode_pool *p, struct decode_hand *h, struct decode_job *job)
{
	unsigned leaves = 0;
	int rc = 0;
	sosie_err_clear(&job->err);
	if (record_has_content(job->record.kind) || job->record.kind == SOSIE_RECORD_ATTACHMENT)
		rc = unpack(p, h, job);
	if (!rc)
		rc = record_judge(h->hash, &p->group_ctx, &job->record, p->volumes, job->plain, job->leaves,
		                  &leaves, &job->err);
	if (rc)
		record_forget(&job->record, job->plain, job->leaves, leaves);
	job->rc = rc;
}

/* Under the lock. */
static struct decode_job *take(struct decode_pool *p)
{
	struct decode_job *job = p->first;
	p->first = job->next;
	if (!p->first)
		p->last = NULL;
	job->state = JOB_BUSY;
	return job;
}

static void *work(void *arg)
{
	struct decode_worker *w = arg;
	struct decode_pool *p = w->pool;
	pthread_mutex_lock(&p->lock);
	for (;;) {
		while (!p->first && !p->stop)
			pthread_cond_wait(&p->given, &p->lock);
		if (!p->first)
			break;
		struct decode_job *job = take(p);
		pthread_mutex_unlock(&p->lock);
		decode(p, &w->hand, job);
		pthread_mutex_lock(&p->lock);
		job->state = JOB_DONE;
		pthread_cond_signal(&p->finished);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

/* Signals are for the threads that were there before. */
static bool start_thread(struct decode_worker *w)
{
	return sosie_thread_start(&w->thread, NULL, work, w) == 0;
}

static int hand_init(const struct decode_pool *p, const char *tenant, struct decode_hand *h,
                     struct sosie_err *err)
{
	h->hash = sosie_hash_new();
	int rc = h->hash ? 0 : sosie_err_set(err, SOSIE_ENOMEM, "no memory to decode records");
	if (!rc)
		rc = confined_get(p->home, tenant, &h->child, err);
	if (!rc)
		h->cpu_ns = confined_cpu_ns(h->child);
	return rc;
}

static void hand_fini(struct decode_pool *p, struct decode_hand *h)
{
	confined_put(p->home, h->child, sosie_mono_ms(p->clock));
	sosie_hash_free(h->hash);
}

/* What cannot be had is done without. */
static void start_threads(struct decode_pool *p, const char *tenant)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	while (p->count < DECODE_THREADS_MAX && (long)p->count < cpus && cpus > 1) {
		struct decode_worker *w = &p->workers[p->count];
		bool ready = !hand_init(p, tenant, &w->hand, NULL);
		w->pool = p;
		if (ready)
			confined_start(w->hand.child);
		if (ready)
			w->hand.started = confined_started(w->hand.child);
		if (!ready || !start_thread(w)) {
			hand_fini(p, &w->hand);
			return;
		}
		p->count++;
	}
}

int decode_pool_new(const struct decode_place *place, const struct sosie_extent_volume *volumes, bool threads,
                    struct decode_pool **out, struct sosie_err *err)
{
	struct decode_pool *p = calloc(1, sizeof(*p));
	*out = NULL;
	if (!p)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory to decode records");
	p->home = place->home;
	p->clock = place->clock;
	p->group_ctx = *place->group_ctx;
	p->volumes = volumes;
	int rc = hand_init(p, place->tenant, &p->hand, err);
	if (rc) {
		hand_fini(p, &p->hand);
		free(p);
		return rc;
	}
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->given, NULL);
	pthread_cond_init(&p->finished, NULL);
	if (threads)
		start_threads(p, place->tenant);
	*out = p;
	return 0;
}

void decode_pool_give(struct decode_pool *p, struct decode_job *job)
{
	job->next = NULL;
	pthread_mutex_lock(&p->lock);
	job->state = JOB_QUEUED;
	if (p->last)
		p->last->next = job;
	else
		p->first = job;
	p->last = job;
	pthread_cond_signal(&p->given);
	pthread_mutex_unlock(&p->lock);
}

void decode_pool_wait(struct decode_pool *p, struct decode_job *job)
{
	pthread_mutex_lock(&p->lock);
	while (job->state != JOB_DONE) {
		if (job->state == JOB_BUSY) {
			pthread_cond_wait(&p->finished, &p->lock);
			continue;
		}
		struct decode_job *oldest = take(p);
		pthread_mutex_unlock(&p->lock);
		decode(p, &p->hand, oldest);
		pthread_mutex_lock(&p->lock);
		oldest->state = JOB_DONE;
	}
	pthread_mutex_unlock(&p->lock);
}

static void stop_threads(struct decode_pool *p)
{
	pthread_mutex_lock(&p->lock);
	p->stop = true;
	p->first = p->last = NULL;
	pthread_cond_broadcast(&p->given);
	pthread_mutex_unlock(&p->lock);
	for (unsigned i = 0; i < p->count; i++) {
		struct decode_hand *h = &p->workers[i].hand;
		pthread_join(p->workers[i].thread, NULL);
		if (confined_started(h->child) != h->started) /* by that thread: it does not outlive it */
			confined_end(h->child);
	}
}

int64_t decode_pool_free(struct decode_pool *p)
{
	if (!p)
		return 0;
	stop_threads(p);
	int64_t spent = confined_cpu_ns(p->hand.child) - p->hand.cpu_ns;
	for (unsigned i = 0; i < p->count; i++) {
		struct decode_hand *h = &p->workers[i].hand;
		spent += confined_cpu_ns(h->child) - h->cpu_ns;
		hand_fini(p, h);
	}
	hand_fini(p, &p->hand);
	pthread_cond_destroy(&p->finished);
	pthread_cond_destroy(&p->given);
	pthread_mutex_destroy(&p->lock);
	free(p);
	return spent;
}

/* SPDX-License-Identifier: MIT */
/*
 * Records decoded by several threads. Jobs are taken in the order in which they were given; a thread touches
 * nothing but its decoder and the job, so what comes out does not depend on who decoded it or when. No I/O
 * here: io instances and trees belong to the thread that gives the jobs.
 *
 * That thread also decodes: when it waits for a job that nobody has begun, it does it itself. So a pool works
 * with any number of threads, none included (few records, or the machine gives no thread).
 *
 * The lock guards the queue, `stop` and every job's state; a job's other fields belong to whoever works on it
 * (JOB_BUSY: a thread of the pool, else the giver).
 */
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "engine/store/core.h"
#include "sosie/thread.h"

#define DECODE_THREADS_MAX 4u

struct decode_worker {
	struct decode_pool *pool;
	struct sosie_decoder *decoder;
	pthread_t thread;
};
struct decode_pool {
	pthread_mutex_t lock;
	pthread_cond_t given, finished;
	struct decode_job *first, *last; /* JOB_QUEUED, oldest first */
	bool stop;
	struct sosie_decoder *decoder; /* the giver's */
	const struct sosie_extent_volume *volumes;
	unsigned count;
	struct decode_worker workers[DECODE_THREADS_MAX];
};

static void decode(struct decode_pool *p, struct sosie_decoder *decoder, struct decode_job *job)
{
	sosie_err_clear(&job->err);
	job->rc = sosie_decode(decoder, &job->record, job->payload, job->basis, p->volumes, job->plain,
	                       job->leaves, NULL, &job->err);
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
		decode(p, w->decoder, job);
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

/* What cannot be had is done without. */
static void start_threads(struct decode_pool *p, const struct sosie_digest *group_ctx)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	while (p->count < DECODE_THREADS_MAX && (long)p->count < cpus && cpus > 1) {
		struct decode_worker *w = &p->workers[p->count];
		w->pool = p;
		if (sosie_decoder_new(group_ctx, &w->decoder, NULL))
			return;
		if (!start_thread(w)) {
			sosie_decoder_free(w->decoder);
			return;
		}
		p->count++;
	}
}

int decode_pool_new(const struct sosie_digest *group_ctx, const struct sosie_extent_volume *volumes,
                    bool threads, struct decode_pool **out, struct sosie_err *err)
{
	struct decode_pool *p = calloc(1, sizeof(*p));
	*out = NULL;
	if (!p)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory to decode records");
	int rc = sosie_decoder_new(group_ctx, &p->decoder, err);
	if (rc) {
		free(p);
		return rc;
	}
	p->volumes = volumes;
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->given, NULL);
	pthread_cond_init(&p->finished, NULL);
	if (threads)
		start_threads(p, group_ctx);
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
		decode(p, p->decoder, oldest);
		pthread_mutex_lock(&p->lock);
		oldest->state = JOB_DONE;
	}
	pthread_mutex_unlock(&p->lock);
}

void decode_pool_free(struct decode_pool *p)
{
	if (!p)
		return;
	pthread_mutex_lock(&p->lock);
	p->stop = true;
	p->first = p->last = NULL;
	pthread_cond_broadcast(&p->given);
	pthread_mutex_unlock(&p->lock);
	for (unsigned i = 0; i < p->count; i++) {
		pthread_join(p->workers[i].thread, NULL);
		sosie_decoder_free(p->workers[i].decoder);
	}
	pthread_cond_destroy(&p->finished);
	pthread_cond_destroy(&p->given);
	pthread_mutex_destroy(&p->lock);
	sosie_decoder_free(p->decoder);
	free(p);
}

/* SPDX-License-Identifier: MIT */
/*
 * Requests carried by four threads, where io_uring is refused. Everything else is posix.
 * Queue and done are under lock; a request belongs to the thread that took it until it is in done. A file's
 * ordering (writes, held) is the instance's thread's alone: submit and reap.
 */
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "engine/io/posix.h"
#include "sosie/thread.h"

#define THREADS 4

struct threads_io {
	struct posix_io base;
	struct sosie_io_ops ops;
	pthread_t threads[THREADS];
	unsigned started;

	pthread_mutex_t lock;
	pthread_cond_t work, completed;
	struct req_list queue, done; /* under lock */
	bool stop;                   /* under lock */
};

static struct threads_io *as_threads(struct sosie_io *io)
{
	return (struct threads_io *)io;
}

static void *carry(void *arg)
{
	struct threads_io *t = arg;
	struct sosie_req *req;

	pthread_mutex_lock(&t->lock);
	for (;;) {
		while (!(req = req_list_pop(&t->queue)) && !t->stop)
			pthread_cond_wait(&t->work, &t->lock);
		if (!req)
			break;
		pthread_mutex_unlock(&t->lock);
		posix_transfer(req);
		pthread_mutex_lock(&t->lock);
		req_list_push(&t->done, req);
		pthread_cond_signal(&t->completed);
	}
	pthread_mutex_unlock(&t->lock);
	return NULL;
}

static void enqueue(struct threads_io *t, struct sosie_req *req)
{
	pthread_mutex_lock(&t->lock);
	req_list_push(&t->queue, req);
	pthread_cond_signal(&t->work);
	pthread_mutex_unlock(&t->lock);
}

static void threads_submit(struct sosie_io *io, struct sosie_req *req)
{
	struct threads_io *t = as_threads(io);

	t->base.in_flight++;
	if (posix_may_start(req))
		enqueue(t, req);
}

static struct req_list take_done(struct threads_io *t, bool wait)
{
	struct req_list got;

	pthread_mutex_lock(&t->lock);
	while (wait && !t->done.head)
		pthread_cond_wait(&t->completed, &t->lock);
	got = t->done;
	t->done = (struct req_list){NULL, NULL};
	pthread_mutex_unlock(&t->lock);
	return got;
}

/* Moves what has completed to base.done, and starts what waited for it. */
static void collect(struct threads_io *t, bool wait)
{
	struct req_list got = take_done(t, wait), ready = {NULL, NULL};
	struct sosie_req *req;

	while ((req = req_list_pop(&got)) != NULL) {
		posix_release(req, &ready);
		req_list_push(&t->base.done, req);
	}
	while ((req = req_list_pop(&ready)) != NULL)
		enqueue(t, req);
}

static int threads_reap(struct sosie_io *io, unsigned min, struct sosie_err *err)
{
	struct threads_io *t = as_threads(io);
	unsigned count = 0;

	(void)err;
	collect(t, false);
	for (;;) {
		count += (unsigned)posix_run_done(&t->base, 0);
		if (count >= min || t->base.in_flight == 0)
			return (int)count;
		if (!t->base.done.head)
			collect(t, true);
	}
}

static void stop_threads(struct threads_io *t)
{
	pthread_mutex_lock(&t->lock);
	t->stop = true;
	pthread_cond_broadcast(&t->work);
	pthread_mutex_unlock(&t->lock);
	while (t->started > 0)
		pthread_join(t->threads[--t->started], NULL);
}

static void threads_destroy(struct sosie_io *io)
{
	struct threads_io *t = as_threads(io);

	assert(t->base.in_flight == 0);
	stop_threads(t);
	pthread_cond_destroy(&t->completed);
	pthread_cond_destroy(&t->work);
	pthread_mutex_destroy(&t->lock);
	free(t);
}

static int start_threads(struct threads_io *t)
{
	int sys = 0;

	while (t->started < THREADS && sys == 0) {
		sys = sosie_thread_start(&t->threads[t->started], NULL, carry, t);
		t->started += sys == 0;
	}
	return sys;
}

int sosie_io_threads(unsigned depth, struct sosie_io **out, struct sosie_err *err)
{
	struct threads_io *t = calloc(1, sizeof(*t));
	int sys;

	assert(depth >= 1 && depth <= 4096);
	if (!t)
		return sosie_err_sys(err, ENOMEM, "cannot start I/O");
	t->ops = posix_ops;
	t->ops.name = "threads";
	t->ops.destroy = threads_destroy;
	t->ops.submit = threads_submit;
	t->ops.reap = threads_reap;
	t->base.io.ops = &t->ops;
	pthread_mutex_init(&t->lock, NULL);
	pthread_cond_init(&t->work, NULL);
	pthread_cond_init(&t->completed, NULL);
	sys = start_threads(t);
	if (sys != 0) {
		threads_destroy(&t->base.io);
		return sosie_err_sys(err, sys, "cannot start the threads of I/O");
	}
	*out = &t->base.io;
	return 0;
}

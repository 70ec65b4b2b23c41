/* SPDX-License-Identifier: MIT */
/*
 * Two channel ends in memory. Each direction is a ring of fixed size; one lock and one condition serve both.
 * What was sent before a close is still received, then the end of the stream is told. The memory goes with
 * the second close.
 */
#include "sosie/channel.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PAIR_STALL_MS 60000

struct ring {
	uint8_t *data;
	size_t at, fill;
	bool closed; /* its reader or its writer is gone */
};

struct pair_end {
	struct sosie_channel base;
	struct pair *pair;
	struct ring *in, *out;
};

struct pair {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	size_t size;
	unsigned ends;
	struct ring ring[2];
	struct pair_end end[2];
};

static void deadline_in(struct timespec *ts, int ms)
{
	clock_gettime(CLOCK_MONOTONIC, ts);
	ts->tv_sec += ms / 1000;
	ts->tv_nsec += (long)(ms % 1000) * 1000000L;
	if (ts->tv_nsec >= 1000000000L) {
		ts->tv_sec++;
		ts->tv_nsec -= 1000000000L;
	}
}

static size_t ring_put(struct ring *r, size_t size, const uint8_t *data, size_t len)
{
	size_t n = len < size - r->fill ? len : size - r->fill;
	size_t to = (r->at + r->fill) % size, first = n < size - to ? n : size - to;
	memcpy(r->data + to, data, first);
	memcpy(r->data, data + first, n - first);
	r->fill += n;
	return n;
}

static size_t ring_get(struct ring *r, size_t size, uint8_t *data, size_t len)
{
	size_t n = len < r->fill ? len : r->fill, first = n < size - r->at ? n : size - r->at;
	memcpy(data, r->data + r->at, first);
	memcpy(data + first, r->data, n - first);
	r->at = (r->at + n) % size;
	r->fill -= n;
	return n;
}

static int pair_send(struct sosie_channel *ch, const void *data, size_t len, struct sosie_err *err)
{
	struct pair_end *e = (struct pair_end *)ch;
	struct pair *p = e->pair;
	const uint8_t *at = data;
	struct timespec until;
	int rc = 0;
	deadline_in(&until, PAIR_STALL_MS);
	pthread_mutex_lock(&p->lock);
	while (len && !rc) {
		size_t n = e->out->closed ? 0 : ring_put(e->out, p->size, at, len);
		at += n;
		len -= n;
		if (n) {
			pthread_cond_broadcast(&p->changed);
			deadline_in(&until, PAIR_STALL_MS);
		} else if (e->out->closed) {
			rc = sosie_err_set(err, SOSIE_EPEER, "the other end is closed");
		} else if (pthread_cond_timedwait(&p->changed, &p->lock, &until) == ETIMEDOUT) {
			rc = sosie_err_set(err, SOSIE_ETIMEOUT, "the other end takes nothing");
		}
	}
	pthread_mutex_unlock(&p->lock);
	return rc;
}

static int pair_recv(struct sosie_channel *ch, void *data, size_t size, size_t *got, int timeout_ms,
                     struct sosie_err *err)
{
	struct pair_end *e = (struct pair_end *)ch;
	struct pair *p = e->pair;
	struct timespec until;
	int waited = 0, rc = 0;
	deadline_in(&until, timeout_ms < 0 ? PAIR_STALL_MS : timeout_ms);
	pthread_mutex_lock(&p->lock);
	while (!e->in->fill && !e->in->closed && timeout_ms && !waited)
		waited = pthread_cond_timedwait(&p->changed, &p->lock, &until);
	*got = ring_get(e->in, p->size, data, size);
	if (!*got && e->in->closed)
		rc = sosie_err_set(err, SOSIE_EPEER, "the other end closed");
	if (*got)
		pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->lock);
	return rc;
}

static void pair_free(struct pair *p)
{
	free(p->ring[0].data);
	free(p->ring[1].data);
	pthread_cond_destroy(&p->changed);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

static void pair_close(struct sosie_channel *ch)
{
	struct pair_end *e = (struct pair_end *)ch;
	struct pair *p = e->pair;
	pthread_mutex_lock(&p->lock);
	e->in->closed = e->out->closed = true;
	pthread_cond_broadcast(&p->changed);
	bool last = !--p->ends;
	pthread_mutex_unlock(&p->lock);
	if (last)
		pair_free(p);
}

static const struct sosie_channel_ops pair_ops = {.send = pair_send, .recv = pair_recv, .close = pair_close};

int sosie_pair(size_t size, struct sosie_channel **a, struct sosie_channel **b, struct sosie_err *err)
{
	struct pair *p = calloc(1, sizeof *p);
	pthread_condattr_t attr;
	*a = *b = NULL;
	if (!p)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for a pair of channels");
	pthread_mutex_init(&p->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&p->changed, &attr);
	pthread_condattr_destroy(&attr);
	p->size = size;
	p->ends = 2;
	for (unsigned i = 0; i < 2; i++) {
		p->ring[i].data = malloc(size);
		p->end[i] = (struct pair_end){{&pair_ops}, p, &p->ring[i], &p->ring[1 - i]};
	}
	if (!size || !p->ring[0].data || !p->ring[1].data) {
		pair_free(p);
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for a pair of channels");
	}
	*a = &p->end[0].base;
	*b = &p->end[1].base;
	return 0;
}

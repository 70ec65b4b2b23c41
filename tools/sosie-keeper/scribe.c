/* SPDX-License-Identifier: MIT */
/* The newest text to the metrics file. */
#include "tools/sosie-keeper/scribe.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "sosie/log.h"
#include "sosie/metrics.h"
#include "sosie/thread.h"

struct scribe {
	pthread_mutex_t lock;
	pthread_cond_t wake;
	pthread_t thread;
	char *path;
	char *text; /* to be written; NULL: nothing */
	size_t len;
	bool stopping;
};

static void write_text(const struct scribe *s, char *text, size_t len, bool *failing)
{
	const int sys = sosie_metrics_replace(s->path, text, len);

	if (sys != 0 && !*failing)
		sosie_log(SOSIE_LOG_ERROR, "the metrics file %s cannot be written: %s", s->path,
		          strerror(sys));
	*failing = sys != 0;
	free(text);
}

static void *scribe_run(void *arg)
{
	struct scribe *s = arg;
	bool failing = false;

	pthread_mutex_lock(&s->lock);
	while (s->text || !s->stopping) {
		char *text = s->text;
		const size_t len = s->len;

		if (!text) {
			pthread_cond_wait(&s->wake, &s->lock);
			continue;
		}
		s->text = NULL;
		pthread_mutex_unlock(&s->lock);
		write_text(s, text, len, &failing);
		pthread_mutex_lock(&s->lock);
	}
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

void scribe_take(struct scribe *s, char *text, size_t len)
{
	pthread_mutex_lock(&s->lock);
	free(s->text);
	s->text = text;
	s->len = len;
	pthread_cond_signal(&s->wake);
	pthread_mutex_unlock(&s->lock);
}

static void scribe_free(struct scribe *s)
{
	pthread_cond_destroy(&s->wake);
	pthread_mutex_destroy(&s->lock);
	free(s->text);
	free(s->path);
	free(s);
}

int scribe_start(const char *path, struct scribe **out, struct sosie_err *err)
{
	struct scribe *s = calloc(1, sizeof(*s));

	*out = NULL;
	if (!s)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for metrics");
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->wake, NULL);
	s->path = strdup(path);
	const int sys = s->path ? sosie_thread_start(&s->thread, NULL, scribe_run, s) : ENOMEM;
	if (sys != 0) {
		scribe_free(s);
		return sosie_err_sys(err, sys, "cannot start the thread that writes metrics");
	}
	*out = s;
	return 0;
}

void scribe_stop(struct scribe *s)
{
	if (!s)
		return;
	pthread_mutex_lock(&s->lock);
	s->stopping = true;
	pthread_cond_signal(&s->wake);
	pthread_mutex_unlock(&s->lock);
	pthread_join(s->thread, NULL);
	scribe_free(s);
}

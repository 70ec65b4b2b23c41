/* SPDX-License-Identifier: MIT */
/*
 * Sessions with one standby. Idle ones lie on a stack: the one used last is taken first, so that those not
 * needed any more grow old at the bottom and are closed.
 *
 *   connected --connecting fails--> broken: nobody tries, all fail with the same error
 *   broken --the pause is over--> one tries (trying), the others still fail
 *   trying --connects--> connected      trying --fails--> broken, twice the pause
 *
 * The lock is never held while the network is waited for.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "engine/replicate/internal.h"

#define IDLE_CLOSE_MS 120000 /* after that a session is closed */
#define PAUSE_FIRST_MS 1000
#define PAUSE_LAST_MS 60000
/* From one part of "same" to the next. The keeper keeps only the newest message of a key; it looks every
 * 250 ms, or after ten times what its last look took. */
#define SAME_PAUSE_MS 1000

struct idle {
	struct idle *next;
	struct sosie_session *session;
	int64_t used_ms;
};

struct sosie_pool {
	struct sosie_connector *connector;
	struct sosie_clock *clock;
	const char *standby;
	struct trust trust;   /* set before the first session */
	pthread_mutex_t lock; /* all below */
	struct idle *idle;    /* the one used last first */
	bool trying;
	int64_t pause_ms; /* 0: connected */
	int64_t pause_end_ms;
	struct sosie_err why; /* of the pause */
};

int sosie_pool_new(struct sosie_connector *connector, struct sosie_clock *clock, const char *standby,
                   struct sosie_pool **out, struct sosie_err *err)
{
	struct sosie_pool *p = calloc(1, sizeof(*p));

	*out = p;
	if (!p)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for sessions with %s", standby);
	p->connector = connector;
	p->clock = clock;
	p->standby = standby;
	pthread_mutex_init(&p->lock, NULL);
	return 0;
}

struct trust *pool_trust(struct sosie_pool *p)
{
	return &p->trust;
}

const char *pool_standby(const struct sosie_pool *p)
{
	return p->standby;
}

static void close_list(struct idle *list)
{
	while (list) {
		struct idle *i = list;

		list = i->next;
		sosie_session_close(i->session);
		free(i);
	}
}

void sosie_pool_free(struct sosie_pool *p)
{
	if (!p)
		return;
	close_list(p->idle);
	sosie_signer_close(p->trust.signer);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

/* Takes the sessions off the stack that nobody has used for long; under the lock. */
static struct idle *take_old(struct sosie_pool *p, int64_t now)
{
	struct idle **at = &p->idle, *old;

	while (*at && now - (*at)->used_ms <= IDLE_CLOSE_MS)
		at = &(*at)->next;
	old = *at;
	*at = NULL;
	return old;
}

int64_t sosie_pool_pause_ms(struct sosie_pool *p)
{
	int64_t now = sosie_mono_ms(p->clock), left = 0;

	pthread_mutex_lock(&p->lock);
	if (p->pause_ms > 0 && p->pause_end_ms > now)
		left = p->pause_end_ms - now;
	pthread_mutex_unlock(&p->lock);
	return left;
}

bool sosie_pool_tidy(struct sosie_pool *p)
{
	int64_t now = sosie_mono_ms(p->clock);
	struct idle **at = &p->idle, *old;

	pthread_mutex_lock(&p->lock);
	while (*at && now - (*at)->used_ms <= IDLE_CLOSE_MS)
		at = &(*at)->next;
	old = *at;
	if (old) {
		*at = old->next;
		old->next = NULL;
	}
	pthread_mutex_unlock(&p->lock);
	close_list(old);
	return old != NULL;
}

/* --- connecting
 * ----------------------------------------------------------------------------------------------- */

/* Under the lock. */
static bool may_try(struct sosie_pool *p, struct sosie_err *err)
{
	if (p->pause_ms == 0)
		return true;
	if (p->trying || sosie_mono_ms(p->clock) < p->pause_end_ms) {
		if (err)
			*err = p->why;
		return false;
	}
	p->trying = true;
	return true;
}

/* Under the lock. Several may fail at once when a standby goes: that is one failure. */
static void note_failure(struct sosie_pool *p, bool mine, const struct sosie_err *why)
{
	uint64_t dice = 0;

	p->why = *why;
	if (p->pause_ms > 0 && !mine)
		return;
	p->pause_ms = p->pause_ms == 0 ? PAUSE_FIRST_MS : p->pause_ms * 2;
	p->pause_ms = p->pause_ms < PAUSE_LAST_MS ? p->pause_ms : PAUSE_LAST_MS;
	if (sosie_random(p->clock, &dice, sizeof(dice), NULL) != 0)
		dice = 0;
	p->pause_end_ms =
	        sosie_mono_ms(p->clock) + p->pause_ms / 2 + (int64_t)(dice % (uint64_t)(p->pause_ms / 2 + 1));
}

static int connect_new(struct sosie_pool *p, struct sosie_session **out, struct sosie_err *err)
{
	struct sosie_err why = {0};
	bool mine;
	int rc;

	*out = NULL;
	pthread_mutex_lock(&p->lock);
	if (!may_try(p, err)) {
		rc = -(int)p->why.code;
		pthread_mutex_unlock(&p->lock);
		return rc;
	}
	mine = p->trying && p->pause_ms > 0;
	pthread_mutex_unlock(&p->lock);
	rc = sosie_session_open(p->connector, p->clock, SOFTWARE, out, &why);
	pthread_mutex_lock(&p->lock);
	if (mine)
		p->trying = false;
	if (rc == 0)
		p->pause_ms = 0;
	else if (rc != -SOSIE_EINTR)
		note_failure(p, mine, &why);
	pthread_mutex_unlock(&p->lock);
	if (rc == 0)
		return 0;
	*out = NULL;
	if (err)
		*err = why;
	return rc;
}

/* --- taking and giving
 * ------------------------------------------------------------------------------------------ */

static struct idle *pop(struct sosie_pool *p, bool *rested)
{
	int64_t now = sosie_mono_ms(p->clock);
	struct idle *old, *top;

	pthread_mutex_lock(&p->lock);
	old = take_old(p, now);
	top = p->idle;
	if (top)
		p->idle = top->next;
	pthread_mutex_unlock(&p->lock);
	close_list(old);
	*rested = top && now - top->used_ms > IDLE_PING_MS;
	return top;
}

int pool_take(struct sosie_pool *p, struct sosie_session **out, bool *fresh, struct sosie_err *err)
{
	struct idle *top;
	bool rested;

	*fresh = false;
	top = pop(p, &rested);
	if (top) {
		*out = top->session;
		free(top);
		if (!rested || sosie_session_ping(*out, NULL) == 0)
			return 0;
		/* A standby that hangs is waited for once: those below have rested for longer. */
		sosie_session_close(*out);
		pool_flush(p);
	}
	*fresh = true;
	return connect_new(p, out, err);
}

void pool_give(struct sosie_pool *p, struct sosie_session *s, bool whole)
{
	struct idle *i = whole ? malloc(sizeof(*i)) : NULL;

	if (!i) {
		sosie_session_close(s);
		return;
	}
	*i = (struct idle){.session = s, .used_ms = sosie_mono_ms(p->clock)};
	pthread_mutex_lock(&p->lock);
	i->next = p->idle;
	p->idle = i;
	pthread_mutex_unlock(&p->lock);
}

void pool_flush(struct sosie_pool *p)
{
	struct idle *list;

	pthread_mutex_lock(&p->lock);
	list = p->idle;
	p->idle = NULL;
	pthread_mutex_unlock(&p->lock);
	close_list(list);
}

/* --- same
 * ------------------------------------------------------------------------------------------------------- */

/* *s: to be given back, whatever came of it; NULL: none was had. */
static int take_and_send(struct sosie_pool *p, const char *tenant, const struct sosie_same *list,
                         unsigned count, struct sosie_session **s, bool *fresh, unsigned *taken,
                         struct sosie_err *err)
{
	bool keeper;
	int rc = pool_take(p, s, fresh, err);

	if (rc == 0)
		rc = session_check_tenant(*s, tenant, p->standby, err);
	return rc == 0 ? same_send(p, *s, p->clock, list, count, taken, &keeper, err) : rc;
}

int sosie_pool_same(struct sosie_pool *p, const char *tenant, const struct sosie_same *list, unsigned count,
                    struct sosie_err *err)
{
	struct sosie_session *s = NULL;
	unsigned at = 0, taken;
	bool fresh;
	int rc = 0;

	while (rc == 0 && at < count) {
		if (at > 0) {
			pool_give(p, s, true);
			sosie_sleep_ms(p->clock, SAME_PAUSE_MS);
		}
		rc = take_and_send(p, tenant, list + at, count - at, &s, &fresh, &taken, err);
		if ((rc == -SOSIE_EPEER || rc == -SOSIE_ETIMEOUT) && !fresh) {
			/* It had died meanwhile: once more, anew. */
			pool_give(p, s, false);
			pool_flush(p);
			rc = take_and_send(p, tenant, list + at, count - at, &s, &fresh, &taken, err);
		}
		at += rc == 0 ? taken : 0;
	}
	if (s)
		pool_give(p, s, rc == 0);
	return rc;
}

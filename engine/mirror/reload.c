/* SPDX-License-Identifier: MIT */
/*
 * A new configuration. All that can fail is made first; then one step under the lock says who stays, who
 * changes after its turn, who goes and who is new. A group is the same when tenant, name and state folder
 * are.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/mirror/internal.h"

struct plan {
	struct sosie_mirror *m;
	struct config_ref *ref;
	struct budget *budget;            /* NULL: the one in force stays */
	struct mirror_standby **standbys; /* of the new configuration, in its order */
	bool *standby_new;
	struct mirror_group **groups; /* the same, NULL where there is none yet */
	bool *group_new;
};

/* --- what is the same
 * ---------------------------------------------------------------------------------------------- */

static bool same_text(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

static bool same_standby(const struct sosie_config_standby *a, const struct sosie_config_standby *b)
{
	return strcmp(a->name.s, b->name.s) == 0 && strcmp(a->to.user, b->to.user) == 0 &&
	       strcmp(a->to.host, b->to.host) == 0 && a->to.port == b->to.port && a->cycles == b->cycles &&
	       same_text(a->identity, b->identity) && same_text(a->known_hosts, b->known_hosts) &&
	       same_text(a->signing, b->signing) && same_text(a->standby_key, b->standby_key);
}

static bool same_hooks(const struct sosie_hooks *a, const struct sosie_hooks *b)
{
	return same_text(a->freeze, b->freeze) && same_text(a->thaw, b->thaw) &&
	       same_text(a->view, b->view) && same_text(a->view_done, b->view_done) &&
	       a->freeze_limit_ms == b->freeze_limit_ms && a->hook_limit_ms == b->hook_limit_ms;
}

static bool same_lists(const struct sosie_config_group *a, const struct sosie_config_group *b)
{
	if (a->volume_count != b->volume_count || a->attach_count != b->attach_count)
		return false;
	for (unsigned i = 0; i < a->volume_count; i++)
		if (strcmp(a->volumes[i].name.s, b->volumes[i].name.s) != 0 ||
		    strcmp(a->volumes[i].path, b->volumes[i].path) != 0 ||
		    a->volumes[i].opaque != b->volumes[i].opaque)
			return false;
	for (unsigned i = 0; i < a->attach_count; i++)
		if (strcmp(a->attach[i], b->attach[i]) != 0)
			return false;
	return true;
}

static bool same_group(const struct sosie_config_group *a, const struct sosie_config_group *b)
{
	return a->source == b->source && a->interval_ms == b->interval_ms &&
	       a->max_stall_ms == b->max_stall_ms && a->on_long_cut == b->on_long_cut &&
	       a->pause.kind == b->pause.kind && a->pause.limit_ms == b->pause.limit_ms &&
	       same_text(a->pause.target, b->pause.target) && same_hooks(&a->hooks, &b->hooks) &&
	       a->rpo_ms == b->rpo_ms && a->streams == b->streams && a->level == b->level &&
	       a->read_rate == b->read_rate && a->accept_wait_ms == b->accept_wait_ms && same_lists(a, b);
}

static bool same_key(const struct sosie_config_group *a, const struct sosie_config_group *b)
{
	return strcmp(a->tenant.s, b->tenant.s) == 0 && strcmp(a->group.s, b->group.s) == 0 &&
	       strcmp(a->state, b->state) == 0;
}

/* --- the plan: standbys and groups are looked up under the lock, made without it
 * ------------------------------------------------- */

static struct mirror_standby *find_standby(struct sosie_mirror *m, const struct sosie_config_standby *config)
{
	struct mirror_standby *s;

	pthread_mutex_lock(&m->lock);
	for (s = m->standbys; s; s = s->next)
		if (!s->leaving && same_standby(s->config, config))
			break;
	pthread_mutex_unlock(&m->lock);
	return s;
}

static struct mirror_group *find_group(struct sosie_mirror *m, const struct sosie_config_group *config)
{
	struct mirror_group *g;

	pthread_mutex_lock(&m->lock);
	for (g = m->groups; g; g = g->next)
		if (!g->leaving && same_key(g->config, config))
			break;
	pthread_mutex_unlock(&m->lock);
	return g;
}

static int plan_standbys(struct plan *p, struct sosie_err *err)
{
	const struct sosie_config *c = p->ref->config;
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < c->standby_count; i++) {
		p->standbys[i] = find_standby(p->m, &c->standbys[i]);
		if (p->standbys[i])
			continue;
		rc = standby_new(p->m, &c->standbys[i], p->ref, &p->standbys[i], err);
		p->standby_new[i] = rc == 0;
	}
	return rc;
}

static int plan_groups(struct plan *p, struct sosie_err *err)
{
	const struct sosie_config *c = p->ref->config;
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < c->group_count; i++) {
		p->groups[i] = find_group(p->m, &c->groups[i]);
		if (p->groups[i])
			continue;
		rc = group_new(p->m, p->standbys[c->groups[i].standby - c->standbys], &c->groups[i], p->ref,
		               &p->groups[i], err);
		p->group_new[i] = rc == 0;
	}
	return rc;
}

static int plan_make(struct plan *p, struct sosie_err *err)
{
	const struct sosie_config *c = p->ref->config;
	int rc = 0;

	p->standbys = calloc(c->standby_count + 1, sizeof(struct mirror_standby *));
	p->standby_new = calloc(c->standby_count + 1, sizeof(bool));
	p->groups = calloc(c->group_count + 1, sizeof(struct mirror_group *));
	p->group_new = calloc(c->group_count + 1, sizeof(bool));
	if (!p->standbys || !p->standby_new || !p->groups || !p->group_new)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for the new configuration");
	if (p->m->budgets->rate != c->read_rate)
		rc = budget_new(p->m, c->read_rate, &p->budget, err);
	if (rc == 0)
		rc = plan_standbys(p, err);
	return rc == 0 ? plan_groups(p, err) : rc;
}

static void plan_undo(struct plan *p)
{
	const struct sosie_config *c = p->ref->config;

	for (unsigned i = 0; p->group_new && i < c->group_count; i++)
		if (p->group_new[i]) {
			pthread_mutex_lock(&p->m->lock);
			group_free(p->groups[i]);
			pthread_mutex_unlock(&p->m->lock);
		}
	for (unsigned i = 0; p->standby_new && i < c->standby_count; i++)
		if (p->standby_new[i]) {
			pthread_mutex_lock(&p->m->lock); /* couriers that were started drop theirs */
			config_ref_drop(p->ref);         /* never the last: ours is there */
			pthread_mutex_unlock(&p->m->lock);
			standby_free(p->standbys[i]);
		}
	if (p->budget)
		sosie_budget_free(p->budget->budget);
	free(p->budget);
}

static void plan_fini(struct plan *p)
{
	free(p->standbys);
	free(p->standby_new);
	free(p->groups);
	free(p->group_new);
}

/* --- the step, with the lock held
 * ----------------------------------------------------------------------------------------- */

static void change(struct plan *p, struct mirror_group *g, const struct sosie_config_group *config,
                   struct mirror_standby *s)
{
	if (!p->budget && !g->new_config && !g->changing && g->standby == s && same_group(g->config, config))
		return;
	if (g->new_config)
		config_ref_drop(g->new_ref);
	g->new_config = config;
	g->new_ref = p->ref;
	g->new_standby = s;
	p->ref->refs++;
	heap_wake(g, true);
}

static bool listed(struct mirror_group *const *list, unsigned count, const struct mirror_group *g)
{
	for (unsigned i = 0; i < count; i++)
		if (list[i] == g)
			return true;
	return false;
}

static void leave_the_rest(struct plan *p)
{
	const struct sosie_config *c = p->ref->config;

	for (struct mirror_group *g = p->m->groups; g; g = g->next) {
		if (g->leaving || listed(p->groups, c->group_count, g))
			continue;
		g->leaving = true;
		config_ref_drop(g->new_ref); /* what waits for its turn's end need not come any more */
		g->new_config = NULL;
		g->new_ref = NULL;
		g->new_standby = NULL;
		__atomic_store_n(&g->stop, true, __ATOMIC_RELAXED);
		heap_wake(g, true);
	}
	for (struct mirror_standby *s = p->m->standbys; s; s = s->next) {
		bool used = false;

		for (unsigned i = 0; i < c->standby_count; i++)
			used = used || p->standbys[i] == s;
		s->leaving = s->leaving || !used;
		pthread_cond_signal(&s->wake);
	}
}

/* A courier that cannot be started is no reason to stop half-way: the scheduler's next tick does not need it,
 * so all are started first. */
static int start_couriers(struct plan *p, struct sosie_err *err)
{
	const struct sosie_config *c = p->ref->config;

	for (unsigned i = 0; i < c->standby_count; i++) {
		int rc = p->standby_new[i] ? standby_start(p->standbys[i], err) : 0;

		if (rc == 0 && p->standby_new[i]) {
			p->standbys[i]->next = p->m->standbys;
			p->m->standbys = p->standbys[i];
			continue;
		}
		if (rc == 0)
			continue;
		for (unsigned k = 0; k < i; k++) /* those that run end by themselves */
			if (p->standby_new[k]) {
				p->standbys[k]->leaving = true;
				p->standby_new[k] = false;
				pthread_cond_signal(&p->standbys[k]->wake);
			}
		return rc;
	}
	return 0;
}

static void commit(struct plan *p)
{
	struct sosie_config *c = p->ref->config;
	struct config_ref *old = p->m->config;

	for (unsigned i = 0; i < c->group_count; i++)
		if (!p->group_new[i])
			change(p, p->groups[i], &c->groups[i],
			       p->standbys[c->groups[i].standby - c->standbys]);
	leave_the_rest(p);
	if (p->budget) {
		p->budget->next = p->m->budgets;
		p->m->budgets = p->budget;
	}
	for (unsigned i = 0; i < c->group_count; i++)
		if (p->group_new[i])
			mirror_link(p->m, p->groups[i]);
	mirror_recount(p->m);
	p->m->config = p->ref;
	config_ref_drop(old);
	alarms_tell_again(p->m);
	pthread_cond_broadcast(&p->m->scribe_wake);
}

int sosie_mirror_reload(struct sosie_mirror *m, struct sosie_config *config, struct sosie_err *err)
{
	struct plan p = {.m = m};
	int rc = config_ref_new(m, config, &p.ref, err);

	if (rc != 0)
		return rc;
	rc = plan_make(&p, err);
	pthread_mutex_lock(&m->lock);
	if (rc == 0)
		rc = heap_reserve(m, m->group_count + config->group_count, err);
	if (rc == 0)
		rc = start_couriers(&p, err);
	if (rc == 0)
		commit(&p);
	pthread_mutex_unlock(&m->lock);
	if (rc != 0) {
		plan_undo(&p);
		pthread_mutex_lock(&m->lock);
		config_ref_drop(p.ref);
		pthread_mutex_unlock(&m->lock);
	}
	plan_fini(&p);
	return rc;
}

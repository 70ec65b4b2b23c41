/* SPDX-License-Identifier: MIT */
/*
 * What the head that the standby shows means for what this source knows.
 *
 *   state            head                              judgement
 *   none             no point                          fresh: all is sent
 *   none             points, epoch 1                   compare digests
 *   none             epoch above 1                     fenced (with consent: as above)
 *   nothing accepted other store, other genesis        fresh
 *   any              other store, lower epoch          loss (with consent: forget, then as "none")
 *   any              higher epoch                      fenced
 *   any              manifest is the pending one       pending accepted
 *   any              the accepted digest               go on
 *   doubted          the accepted digest               compare digests (no point: fresh); but first what
 *                                                      is committed comes to its end
 *   any              unknown digest, point <= ours     loss
 *   any              unknown digest, point above ours  another sender
 */
#include <string.h>

#include "engine/replicate/internal.h"

static int error_loss(const struct sosie_replicator *r, const struct sosie_head *head, struct sosie_err *err)
{
	const struct state *s = &r->state;
	bool other = memcmp(&s->store, &head->store, sizeof(s->store)) != 0;
	char name[160];

	sosie_err_set(err, SOSIE_ELOSS,
	              "%s: the standby lost what it had accepted: point %llu (epoch %llu) was accepted, it "
	              "now shows point %llu "
	              "(epoch %llu)%s; nothing was sent",
	              group_name(r, name, sizeof(name)), (unsigned long long)s->point,
	              (unsigned long long)s->epoch, (unsigned long long)head->point,
	              (unsigned long long)head->epoch, other ? " of another store" : "");
	sosie_err_where(err, "%s", r->o.standby ? r->o.standby : "standby");
	return sosie_err_action(err,
	                        "ask the standby's operator what happened; --accept-standby-loss goes on "
	                        "from what is there%s",
	                        head->point ? " (digests are compared)" : "");
}

static int error_fenced(const struct sosie_replicator *r, const struct sosie_head *head,
                        struct sosie_err *err)
{
	char name[160], when[SOSIE_TIME_TEXT];

	sosie_time_text(when, head->time_ms);
	group_name(r, name, sizeof(name));
	if (r->state.exists)
		sosie_err_set(err, SOSIE_EFENCED,
		              "%s: the standby has cut over: it is in epoch %llu from point %llu on (told "
		              "%s), this source wrote epoch %llu; "
		              "nothing was sent",
		              name, (unsigned long long)head->epoch, (unsigned long long)head->point, when,
		              (unsigned long long)r->state.epoch);
	else
		sosie_err_set(err, SOSIE_EFENCED,
		              "%s: the standby has cut over: it is in epoch %llu from point %llu on (told "
		              "%s), and this source has no state of "
		              "its own; nothing was sent",
		              name, (unsigned long long)head->epoch, (unsigned long long)head->point, when);
	sosie_err_where(err, "%s", r->o.standby ? r->o.standby : "standby");
	return sosie_err_action(err, "stop using these volumes: the standby's are the ones in use; to come "
	                             "back, agree with its operator");
}

static int error_parent(const struct sosie_replicator *r, const struct sosie_head *head,
                        struct sosie_err *err)
{
	char name[160];

	sosie_err_set(err, SOSIE_EPARENT,
	              "%s: the standby is at point %llu, which this source did not send (its own last is "
	              "point %llu): "
	              "another sender?",
	              group_name(r, name, sizeof(name)), (unsigned long long)head->point,
	              (unsigned long long)r->state.point);
	sosie_err_where(err, "%s", r->o.standby ? r->o.standby : "standby");
	return sosie_err_action(err,
	                        "stop the other sender; if this source is the right one, remove %.120s: "
	                        "digests are compared then",
	                        r->dir.path);
}

static int judge_unknown(const struct sosie_replicator *r, const struct sosie_head *head, enum judgement *out,
                         struct sosie_err *err)
{
	if (head->epoch > 1 && !r->o.accept_standby_loss)
		return error_fenced(r, head, err);
	*out = head->point == 0 ? JUDGE_FRESH : JUDGE_COMPARE;
	return 0;
}

static int judge_loss(const struct sosie_replicator *r, const struct sosie_head *head, enum judgement *out,
                      struct sosie_err *err)
{
	struct sosie_err loss;

	if (r->state.point > 0 && !r->o.accept_standby_loss)
		return error_loss(r, head, err);
	if (r->state.point > 0) {
		error_loss(r, head, &loss);
		snprintf(r->result->accepted_loss, sizeof(r->result->accepted_loss), "%s", loss.what);
	}
	*out = head->point == 0 ? JUDGE_FRESH : JUDGE_COMPARE;
	return 0;
}

int judge_head(const struct sosie_replicator *r, const struct sosie_head *head, enum judgement *out,
               struct sosie_err *err)
{
	const struct state *s = &r->state;
	const struct state_pending *p = &s->pending;

	if (!s->exists)
		return judge_unknown(r, head, out, err);
	if (memcmp(&s->store, &head->store, sizeof(s->store)) != 0)
		return judge_loss(r, head, out, err);
	if (head->epoch > s->epoch)
		return error_fenced(r, head, err);
	*out = JUDGE_PENDING_ACCEPTED;
	if (p->present && p->committed && head->point > s->point &&
	    sosie_digest_equal(&head->manifest, &p->manifest))
		return 0;
	*out = JUDGE_GO_ON;
	if (head->epoch == s->epoch && head->point == s->point &&
	    sosie_digest_equal(&head->digest, &s->digest)) {
		if (s->doubted && !(p->present && p->committed))
			*out = head->point == 0 ? JUDGE_FRESH : JUDGE_COMPARE;
		return 0;
	}
	if (head->epoch < s->epoch || head->point <= s->point)
		return judge_loss(r, head, out, err);
	return error_parent(r, head, err);
}

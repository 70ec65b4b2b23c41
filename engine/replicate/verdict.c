/* SPDX-License-Identifier: MIT */
/* The keeper's word on a committed upload: waited for within a limit, turned into what the operator can act
 * on. */
#include <stdlib.h>
#include <string.h>

#include "engine/replicate/internal.h"

#define WAIT_STEP_MS 1000
#define NAP_MS 200

static int error_waiting(const struct sosie_replicator *r, const struct sosie_err *reason,
                         struct sosie_err *err)
{
	char name[160], limit[32];
	struct sosie_err copy = reason ? *reason : (struct sosie_err){0};

	group_name(r, name, sizeof(name));
	sosie_duration_text(limit, sizeof(limit), r->o.accept_wait_ms);
	if (copy.code != SOSIE_OK) {
		sosie_err_set(err, SOSIE_EPENDING,
		              "%s: durable at the standby, not accepted: its keeper waits: %s", name,
		              copy.what);
		sosie_err_action(err, "%s",
		                 copy.action[0]
		                         ? copy.action
		                         : "tell the standby's operator; the next run goes on from here");
	} else if (!r->keeper) {
		sosie_err_set(err, SOSIE_ENOKEEPER,
		              "%s: durable at the standby, but no keeper runs there: not accepted within %s",
		              name, limit);
		sosie_err_action(err, "start sosie-keeper at the standby; nothing has to be sent again");
	} else {
		sosie_err_set(err, SOSIE_EPENDING,
		              "%s: durable at the standby, but its keeper has not accepted it within %s",
		              name, limit);
		sosie_err_action(
		        err,
		        "run again later, or wait longer with --accept-wait; nothing has to be sent again");
	}
	sosie_err_where(err, "%s", r->o.standby ? r->o.standby : "standby");
	return -(int)(err ? err->code : SOSIE_EPENDING);
}

int verdict_error(const struct sosie_replicator *r, const struct sosie_verdict *v, struct sosie_err *err)
{
	enum sosie_code code = v->error.code;
	char name[160];

	if (code != SOSIE_EFENCED && code != SOSIE_EPARENT && code != SOSIE_EQUOTA)
		code = SOSIE_EREFUSED;
	group_name(r, name, sizeof(name));
	sosie_err_set(err, code, "%s: the standby refused the segment (%s): %s", name,
	              sosie_code_name(v->error.code), v->error.what);
	sosie_err_where(err, "%s", r->o.standby ? r->o.standby : "standby");
	if (v->error.action[0])
		return sosie_err_action(err, "%s", v->error.action);
	return sosie_err_action(
	        err, "the upload was dropped here; the next run begins a new one from the standby's head");
}

/* Is it about this very upload? The id is a receiver's to choose, and the bytes that it hands the keeper
 * under it: what the keeper signs names what it was given. Of an upload whose bytes are not known here any
 * more only an acceptance is believed, which names the manifest. */
static int fits(const struct sosie_replicator *r, const struct sosie_upload_id *id,
                const struct sosie_digest *committed, const struct sosie_verdict *v, struct sosie_err *err)
{
	const bool known = !sosie_digest_is_zero(committed), said = !sosie_digest_is_zero(&v->committed);

	if (memcmp(&v->upload, id, sizeof(*id)) == 0 &&
	    (known && said ? sosie_digest_equal(&v->committed, committed)
	                   : !trust_pinned(r->o.pool) || (!known && v->kind == SOSIE_VERDICT_ACCEPTED)))
		return 0;
	return sosie_err_set(err, SOSIE_EPROTO, "the standby's verdict is about another upload");
}

/* The keeper's signed word that it has the point: what a source can show when the standby denies it. One
 * file, the newest; not flushed, as the state that says "accepted" is not either. */
static int keep_receipt(struct sosie_replicator *r, const char *text, size_t len, struct sosie_err *err)
{
	char path[STATE_FILE_MAX];

	state_file(&r->dir, path, "receipt", "");
	return state_put(&r->dir, path, text, len, false, err);
}

static int ask(struct sosie_replicator *r, const struct sosie_upload_id *id,
               const struct sosie_digest *committed, uint32_t ms, struct sosie_verdict *out, bool *there,
               struct sosie_err *err)
{
	struct sosie_session *s;
	char *text = NULL;
	size_t len = 0, plain;
	int rc = session_get(r, 0, &s, err);

	*there = false;
	if (rc == 0)
		rc = sosie_session_wait(s, r->o.group, id, ms, &text, &len, &r->keeper, err);
	r->session_used_ms[0] = sosie_mono_ms(r->o.clock);
	if (rc != 0 || !text)
		return rc;
	plain = len;
	rc = trust_statement(r->o.pool, text, &plain, err);
	if (rc == 0)
		rc = sosie_verdict_parse(text, plain, out, err);
	if (rc == 0)
		rc = fits(r, id, committed, out, err);
	if (rc == 0 && out->kind == SOSIE_VERDICT_ACCEPTED && trust_pinned(r->o.pool))
		rc = keep_receipt(r, text, len, err);
	free(text);
	*there = rc == 0;
	return rc;
}

int verdict_wait(struct sosie_replicator *r, const struct sosie_upload_id *id,
                 const struct sosie_digest *committed, struct sosie_verdict *out, struct sosie_err *err)
{
	int64_t now = sosie_mono_ms(r->o.clock), end = now + (int64_t)r->o.accept_wait_ms;
	struct sosie_err reason = {0};
	bool there;

	for (;;) {
		int64_t left = end > now ? end - now : 0;
		int rc = ask(r, id, committed, (uint32_t)(left < WAIT_STEP_MS ? left : WAIT_STEP_MS), out,
		             &there, err);

		if (rc != 0)
			return rc;
		if (there && out->kind != SOSIE_VERDICT_WAITING)
			return 0;
		if (there)
			reason = out->error;
		now = sosie_mono_ms(r->o.clock);
		if (now >= end)
			return error_waiting(r, &reason, err);
		if (stop_asked(r))
			return stop_error(err);
		if (there) {
			sosie_sleep_ms(r->o.clock, NAP_MS);
			now = sosie_mono_ms(r->o.clock);
		}
	}
}

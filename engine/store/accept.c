/* SPDX-License-Identifier: MIT */
/*
 * Acceptance of one upload, under the group's lock.
 *
 * Happy path: manifest parsed and checked against the chain; head made ready; parts copied into the journal
 * and made durable; head marked open; segment applied to the head with every digest checked; roots compared;
 * entry appended to the chain (its fsync is the moment of acceptance); verdict, head statement; the upload's
 * files removed.
 *
 * Failures: before the head is touched nothing has changed but journal files above the chain's end. After it:
 * head void (durable), then those files removed. A root that does not fit may be our head's fault: the
 * segment gets a second try on a head built anew before it is refused.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/store/quota.h"

#define YIELD_MS 3000         /* how long a segment under way may keep a waiting command */
#define OPEN_IMAGES_MAX 2048u /* files that all open heads may hold between acceptances */

struct accept {
	struct sosie_group *g;
	struct upload *u;
	struct sosie_manifest m;
	struct sosie_digest digest;    /* of the manifest */
	struct sosie_digest committed; /* of all that was committed, signature included */
	size_t text_len;               /* of the manifest, without its signature */
	int64_t unpack_ns;             /* processor time of children that decoded for it */
	uint64_t point, stored, applied;
	bool refused; /* the failure is the upload's */
	bool touched; /* head was marked open for it */
	bool reshaped;
	bool rebuilt; /* head was built anew in this acceptance */
	struct image_set *set;
	int64_t wanted_ms; /* since when somebody waits for the lock; 0: nobody */
};

static int refuse(struct accept *a, int rc)
{
	a->refused = true;
	return rc;
}

/* --- checks against the chain
 * ---------------------------------------------------------------------------------------------- */

/* Codes that only the upload's bytes can lead to; anything else is ours and no reason to refuse. */
static bool upload_at_fault(int rc)
{
	return rc == -SOSIE_ECORRUPT || rc == -SOSIE_EPROTO || rc == -SOSIE_ECONFIG || rc == -SOSIE_ENAME ||
	       rc == -SOSIE_ENEWER || rc == -SOSIE_ESIZE || rc == -SOSIE_EUNSUPPORTED;
}

/* In a child of the tenant's. What passes is text that our own writer makes: later it is read from the chain
 * without one. */
static int parse_manifest(struct accept *a, size_t len, struct sosie_err *err)
{
	struct confined_home *home;
	struct confined *child;
	int rc = store_home(a->g->store, &home, err);
	if (!rc)
		rc = confined_get(home, a->g->tenant.s, &child, err);
	if (rc)
		return rc;
	rc = confined_manifest(child, a->u->manifest, len, &a->m, err);
	confined_put(home, child, sosie_mono_ms(a->g->store->clock));
	return rc;
}

/* Its digests: what a verdict is about, also one that says that the upload waits. */
static int know_manifest(struct accept *a, struct sosie_err *err)
{
	int rc = upload_read(a->g, a->u, err);
	if (rc)
		return upload_at_fault(rc) ? refuse(a, rc) : rc;
	a->text_len = sosie_signed_text(a->u->manifest, a->u->manifest_len);
	sosie_commit_digest(a->g->hash, a->u->manifest, a->u->manifest_len, &a->committed);
	sosie_manifest_digest(a->g->hash, a->u->manifest, a->text_len, &a->digest);
	return 0;
}

static int read_manifest(struct accept *a, struct sosie_err *err)
{
	struct sosie_group *g = a->g;
	int rc = parse_manifest(a, a->text_len, err);
	if (rc && !upload_at_fault(rc))
		return rc;
	if (!rc && (strcmp(a->m.tenant.s, g->tenant.s) != 0 || strcmp(a->m.group.s, g->name.s) != 0))
		rc = sosie_err_set(err, SOSIE_EPROTO, "the manifest is of %s/%s, it was uploaded for %s/%s",
		                   a->m.tenant.s, a->m.group.s, g->tenant.s, g->name.s);
	if (rc)
		return refuse(a, rc);
	for (unsigned i = 0; i < a->m.part_count; i++)
		if (!sosie_add_u64(a->stored, a->m.parts[i].length, &a->stored) || a->stored > INT64_MAX)
			return refuse(a, sosie_err_set(err, SOSIE_EPROTO,
			                               "the lengths of the parts do not add up"));
	return 0;
}

/* What was accepted before is not asked again: a key that was revoked since makes no refusal of a point. When
 * it cannot be told who may sign, that is ours, and the upload waits. */
static int check_signature(struct accept *a, struct sosie_err *err)
{
	bool bad;
	int rc = signing_check(a->g->store, a->g->tenant.s, a->g->name.s, SOSIE_SIGN_MANIFEST, a->u->manifest,
	                       a->u->manifest_len, &bad, err);
	return bad ? refuse(a, rc) : rc;
}

/* Was this very manifest accepted before? Its point would be the one that follows its parent. */
static int find_repeat(struct accept *a, bool *repeat, struct sosie_err *err)
{
	struct sosie_chain *chain = a->g->chain;
	uint64_t at = chain_entries(chain);
	struct sosie_point p;
	*repeat = false;
	while (at > 0 && !sosie_digest_equal(&chain_entry(chain, at - 1)->digest, &a->m.parent))
		at--;
	while (at < chain_entries(chain) && chain_entry(chain, at)->kind == CHAIN_KEY)
		at++;
	if (at == chain_entries(chain) || chain_entry(chain, at)->kind != CHAIN_POINT)
		return 0;
	int rc = sosie_group_point(a->g, chain_entry(chain, at)->point, &p, err);
	*repeat = !rc && sosie_digest_equal(&p.manifest, &a->digest);
	return rc;
}

/*
 * Epoch 1 is the source's. A cutover gives the next one to the standby's own images: from then on no upload
 * is taken, whatever epoch it claims (the number is the peer's word, and the head that names the new one can
 * be read by whoever holds the old key).
 */
static int check_fenced(struct accept *a, struct sosie_err *err)
{
	struct sosie_chain *chain = a->g->chain;
	char when[SOSIE_TIME_TEXT] = "an unknown time";
	uint64_t i = chain_entries(chain);
	while (i > 0 && chain_entry(chain, i - 1)->kind != CHAIN_EPOCH)
		i--;
	if (i == 0)
		return 0;
	sosie_time_text(when, chain_entry(chain, i - 1)->time_ms);
	sosie_err_set(err, SOSIE_EFENCED,
	              "%s/%s: the standby has cut over at %s: its own images are the writer, of epoch %llu; "
	              "nothing is taken from a source",
	              a->g->tenant.s, a->g->name.s, when, (unsigned long long)chain_epoch(chain));
	return refuse(a, sosie_err_action(err, "stop this primary; its volumes are not the truth any more. "
	                                       "Ask the standby's operator"));
}

static int check_epoch(struct accept *a, struct sosie_err *err)
{
	const uint64_t epoch = chain_epoch(a->g->chain);
	int rc = check_fenced(a, err);
	if (rc || a->m.epoch == epoch)
		return rc;
	return refuse(a,
	              sosie_err_set(err, SOSIE_EPROTO, "the segment is of epoch %llu, the standby is at %llu",
	                            (unsigned long long)a->m.epoch, (unsigned long long)epoch));
}

static int check_parent(struct accept *a, struct sosie_err *err)
{
	char theirs[9], ours[9];
	const struct sosie_digest *head = chain_head(a->g->chain);
	if (sosie_digest_equal(head, &a->m.parent))
		return 0;
	sosie_hex(theirs, a->m.parent.b, 4);
	sosie_hex(ours, head->b, 4);
	sosie_err_set(
	        err, SOSIE_EPARENT,
	        "%s/%s: segment offered on parent %s... but the head is %s... (point %llu): another writer?",
	        a->g->tenant.s, a->g->name.s, theirs, ours,
	        (unsigned long long)chain_newest_point(a->g->chain));
	return refuse(a, sosie_err_action(err, "run \"sosie status %s/%s\" at the standby", a->g->tenant.s,
	                                  a->g->name.s));
}

/* What is only wished may make room for all of the upload: it waits for that. Not *may: there is not so much
 * of it, and none goes in vain. */
static int room_may_come(struct accept *a, uint64_t need, uint64_t missing, bool *may, struct sosie_err *err)
{
	int rc = room_check(a->g, a->u, &a->m, &a->digest, may, err);
	if (rc)
		return upload_at_fault(rc) ? refuse(a, rc) : rc;
	*may = *may && prune_may_thin(a->g, missing) && room_ask(a->g, a->u, need);
	return 0;
}

static int check_quota(struct accept *a, struct sosie_err *err)
{
	uint64_t quota = 0, used, all, need;
	bool may = false;
	int rc = quota_manifest(a->g, &a->m, err);
	if (rc == -SOSIE_EQUOTA)
		return refuse(a, rc);
	if (!rc)
		rc = tenant_quota(a->g->store, a->g->tenant.s, &quota, err);
	if (rc || quota == 0)
		return rc;
	rc = tenant_usage(a->g->store, a->g->tenant.s, &used, err);
	if (rc)
		return rc;
	if (sosie_add_u64(used, a->m.plain, &all) && sosie_add_u64(all, a->stored, &all) &&
	    sosie_add_u64(all, a->u->manifest_len, &all) && all <= quota)
		return 0;
	if (sosie_add_u64(a->m.plain, a->stored, &need) && need < quota)
		rc = room_may_come(a, need, used > quota - need ? used - (quota - need) : 0, &may, err);
	if (rc)
		return rc;
	if (may) {
		sosie_err_set(
		        err, SOSIE_ENOSPACE,
		        "the tenant %s may use %llu bytes, has %llu: points that are only wished make room",
		        a->g->tenant.s, (unsigned long long)quota, (unsigned long long)used);
		return sosie_err_action(err, "the upload is kept and taken when there is room");
	}
	sosie_err_set(err, SOSIE_EQUOTA,
	              "the tenant %s may use %llu bytes, has %llu, and this segment may take %llu more",
	              a->g->tenant.s, (unsigned long long)quota, (unsigned long long)used,
	              (unsigned long long)(a->stored + a->m.plain + a->u->manifest_len));
	return refuse(a, sosie_err_action(err, "ask the standby's operator for a larger quota"));
}

/* What an upload claims must be there before it may wait for room: one that waits holds up those behind it.
 */
static int check_parts(struct accept *a, struct sosie_err *err)
{
	int rc = 0;
	for (unsigned i = 0; !rc && i < a->m.part_count; i++) {
		struct sosie_file *f = NULL;
		rc = upload_open_part(a->g, a->u, i, a->m.parts[i].length, &f, err);
		if (rc == -SOSIE_EPROTO)
			refuse(a, rc);
		sosie_io_close(a->g->store->io, f, NULL);
	}
	return rc;
}

static int check_space(struct accept *a, struct sosie_err *err)
{
	struct sosie_space space;
	uint64_t need = 0, all = UINT64_MAX;
	bool may;
	int rc = sosie_store_space(a->g->store, &space, err);
	if (rc)
		return rc;
	if (sosie_add_u64(a->stored, a->m.plain, &need) && sosie_add_u64(need, need / 64, &need) &&
	    sosie_add_u64(need, space.reserve_bytes, &all) && all <= space.free_bytes)
		return 0;
	const bool fits = a->stored <= space.total_bytes && a->m.plain <= space.total_bytes;
	if (fits)
		rc = room_may_come(a, need, all > space.free_bytes ? all - space.free_bytes : 0, &may, err);
	if (rc)
		return rc;
	sosie_err_set(err, SOSIE_ENOSPACE,
	              "the standby's disk has %llu bytes left, %llu of them in reserve, the segment may take "
	              "%llu",
	              (unsigned long long)space.free_bytes, (unsigned long long)space.reserve_bytes,
	              (unsigned long long)(a->stored + a->m.plain));
	if (!fits)
		return refuse(a, sosie_err_action(err, "the whole disk is smaller: it needs a larger one"));
	return sosie_err_action(err, "the upload is kept and taken when there is room");
}

/* --- taking in
 * --------------------------------------------------------------------------------------------------------------------
 */

static int copy_parts(struct accept *a, struct sosie_err *err)
{
	int rc = 0;
	for (unsigned i = 0; !rc && i < a->m.part_count; i++) {
		struct sosie_file *src = NULL;
		rc = upload_open_part(a->g, a->u, i, a->m.parts[i].length, &src, err);
		if (rc == -SOSIE_EPROTO)
			refuse(a, rc);
		if (!rc)
			rc = journal_take(a->g, a->point, i, src, a->m.parts[i].length, err);
		sosie_io_close(a->g->store->io, src, NULL);
	}
	return rc || a->m.part_count == 0 ? rc : journal_sync(a->g, err);
}

/* Quota and space were checked by the manifest's word: the records must keep to it. */
static bool exceeds(const struct accept *a)
{
	return a->set->applied > a->m.plain;
}

/* Asked between records: a command that waits gets the group when the segment takes too long. */
static bool must_yield(void *arg)
{
	struct accept *a = arg;
	if (exceeds(a))
		return true;
	if (!sosie_group_wanted(a->g)) {
		a->wanted_ms = 0;
		return false;
	}
	int64_t now = sosie_mono_ms(a->g->store->clock);
	if (!a->wanted_ms)
		a->wanted_ms = now ? now : 1;
	return now - a->wanted_ms > YIELD_MS;
}

static int apply(struct accept *a, bool *segment, struct sosie_err *err)
{
	*segment = false;
	int rc = head_open_mark(a->g, err);
	a->touched |= !rc;
	if (!rc)
		rc = head_images(a->g, &a->m, &a->set, &a->reshaped, err);
	*segment = rc == -SOSIE_ESIZE;
	if (rc == -SOSIE_ESIZE)
		sosie_err_action(err, "the standby's filesystem has no files that large; XFS has");
	if (rc)
		return rc;
	a->set->bounded = true;
	rc = images_apply(a->set, &a->m, a->point, must_yield, a, NULL, err);
	a->unpack_ns += a->set->unpack_ns;
	*segment = rc && a->set->bad_segment;
	a->applied = a->set->applied;
	if (exceeds(a)) {
		*segment = true;
		return sosie_err_set(err, SOSIE_ECORRUPT,
		                     "the records hold more than the %llu bytes that the manifest says",
		                     (unsigned long long)a->m.plain);
	}
	return rc ? rc : images_check_roots(a->set, &a->m, err);
}

static void head_was_damaged(struct accept *a, const struct sosie_err *first)
{
	char text[SOSIE_ALARM_TEXT + 1];
	snprintf(text, sizeof(text), "the working images were damaged, and were made anew: %.200s",
	         first->what);
	sosie_alarm_set(a->g->store, a->g->tenant.s, a->g->name.s, SOSIE_ALARM_DAMAGE, text, NULL);
}

/* A second try when it may be our head that is wrong. */
static int apply_surely(struct accept *a, struct sosie_err *err)
{
	bool segment;
	int rc = apply(a, &segment, err);
	if (rc == -SOSIE_ECORRUPT && !segment && !a->rebuilt && chain_newest_point(a->g->chain)) {
		struct sosie_err first = *err;
		rc = head_rebuild(a->g, NULL, err);
		a->rebuilt = true;
		if (rc == -SOSIE_ECORRUPT) /* what the images are made of */
			watch_trouble(a->g->store, a->g->tenant.s, a->g->name.s, rc, err);
		if (!rc)
			rc = apply(a, &segment, err);
		if (!rc) /* so it was ours that was wrong */
			head_was_damaged(a, &first);
	} else if (rc == -SOSIE_ECORRUPT && !segment && chain_newest_point(a->g->chain) == 0) {
		segment = true; /* there was nothing of ours before it */
	}
	if (rc && (segment || rc == -SOSIE_ECORRUPT))
		refuse(a, rc);
	return rc;
}

static int64_t cut_time(const struct accept *a, int64_t now)
{
	int64_t cut;
	if (a->m.standby_at_ms <= 0 || __builtin_add_overflow(a->m.standby_at_ms, a->m.standby_plus_ms, &cut))
		return now;
	return cut < 0 ? 0 : cut > now ? now : cut;
}

static int acceptance_text(struct accept *a, int64_t now, char **text, size_t *len, struct sosie_err *err)
{
	const struct acceptance said = {.epoch = a->m.epoch,
	                                .point = a->point,
	                                .stored = a->stored,
	                                .time_ms = now,
	                                .cut_ms = cut_time(a, now),
	                                .manifest = a->digest,
	                                .upload = a->u->id,
	                                .key = a->u->key};
	return signing_acceptance(a->g, &said, text, len, err);
}

/* A key that was revoked while the segment was applied signs nothing any more: a revocation does not wait for
 * a group that was made after it had looked which there are. */
static int check_key_again(struct accept *a, struct sosie_err *err)
{
	bool bad;
	int rc = signing_check(a->g->store, a->g->tenant.s, a->g->name.s, SOSIE_SIGN_MANIFEST, a->u->manifest,
	                       a->u->manifest_len, &bad, err);
	return bad ? refuse(a, rc) : rc;
}

static int append(struct accept *a, struct sosie_err *err)
{
	int64_t now = sosie_wall_ms(a->g->store->clock);
	char *text = NULL;
	size_t len = 0;
	struct sosie_writer w;
	int rc = acceptance_text(a, now, &text, &len, err);
	size_t size = 4 + a->u->manifest_len + len;
	uint8_t *body = rc ? NULL : malloc(size);
	if (!rc && !body)
		rc = sosie_err_set(err, SOSIE_ENOMEM, "no memory for an acceptance");
	if (!rc) {
		sosie_writer_init(&w, body, size);
		sosie_put_blob(&w, a->u->manifest, a->u->manifest_len);
		sosie_put_bytes(&w, text, len);
		rc = check_key_again(a, err);
	}
	if (!rc)
		rc = chain_append(a->g->chain, CHAIN_POINT, a->point, now, body, (uint32_t)size, NULL, err);
	free(body);
	free(text);
	return rc;
}

/* Do the open heads hold so many files that others may find none left? */
static bool crowded(const struct sosie_store *store)
{
	size_t files = 0;
	for (const struct store_memo *m = store->memos; m; m = m->next)
		files += m->set ? m->set->count : 0;
	return files > OPEN_IMAGES_MAX;
}

/* After the fsync nothing may turn the point into a refusal: failures here are mended by settling or at the
 * next start. */
static void after_acceptance(struct accept *a)
{
	struct store_memo *memo = memo_find(a->g->store, a->g->tenant.s, a->g->name.s);
	room_forget(a->g, NULL);
	if (memo) {
		memo->swept = true;
		memo->swept_point = a->point;
	}
	if (memo && memo->counted && memo->counted_point + 1 == a->point) {
		memo->counted_point = a->point;
		memo->journal_bytes += a->stored;
		memo->since_bytes += a->stored;
	}
	quota_point(a->g->store, a->g->tenant.s);
	bool clean = !head_advanced(a->g, a->applied, NULL) && memo &&
	             (a->reshaped || memo->applied >= HEAD_CLEAN_BYTES || crowded(a->g->store));
	/* An upload that goes while nothing says what became of it is taken for lost by its sender: it stays,
	 * and the next look at the inbox finds the repeat. */
	if (!outbox_head(a->g, NULL) &&
	    !outbox_verdict(a->g, &a->u->id, &a->committed, SOSIE_VERDICT_ACCEPTED, NULL, NULL))
		upload_remove(a->g, a->u, NULL);
	/* The sender has its answer: what takes long comes now. */
	if (clean)
		head_clean(a->g, NULL);
}

/* A journal with a file for each point is not listed for each point: only when an acceptance of ours has not
 * come to its end since, or another process may have changed the chain. */
static int drop_stale(struct accept *a, struct sosie_err *err)
{
	struct store_memo *memo = memo_find(a->g->store, a->g->tenant.s, a->g->name.s);
	const bool swept = memo && memo->swept && memo->swept_point == chain_newest_point(a->g->chain);
	if (memo)
		memo->swept = false;
	return swept ? 0 : journal_drop_stale(a->g, err);
}

static int accept_segment(struct accept *a, struct sosie_err *err)
{
	int rc = check_epoch(a, err);
	if (!rc)
		rc = check_parent(a, err);
	if (!rc)
		rc = check_quota(a, err);
	if (!rc)
		rc = check_parts(a, err);
	if (!rc)
		rc = check_space(a, err);
	if (!rc)
		rc = head_ready(a->g, NULL, err);
	if (!rc)
		rc = drop_stale(a, err);
	a->point = chain_newest_point(a->g->chain) + 1;
	if (!rc)
		rc = copy_parts(a, err);
	if (!rc)
		rc = apply_surely(a, err);
	if (!rc)
		rc = append(a, err);
	if (!rc) {
		after_acceptance(a);
		return 0;
	}
	/* The journal's files tell what the head may have suffered: they go only when the head is void. When
	 * the chain could not be mended its entry may be on the disk after all: the point's parts stay, until
	 * the chain, read anew, shows that it is not. */
	int undone = a->touched ? head_void(a->g, NULL) : 0;
	if (!undone && a->point && !chain_in_doubt(a->g->chain))
		journal_remove(a->g, a->point, NULL);
	return rc;
}

/* --- outcomes
 * ----------------------------------------------------------------------------------------------------------------------
 */

/* Which alarm a refusal is. */
static void tell_refusal(struct accept *a, const struct sosie_err *why)
{
	char line[SOSIE_ALARM_TEXT + 1];
	if (why->code == SOSIE_EQUOTA) {
		quota_met(a->g->store, a->g->tenant.s, why);
		return;
	}
	const bool fork = why->code == SOSIE_EPARENT || why->code == SOSIE_EFENCED;
	sosie_alarm_set(a->g->store, a->g->tenant.s, a->g->name.s,
	                fork ? SOSIE_ALARM_FORK : SOSIE_ALARM_REFUSED,
	                sosie_err_line(why, line, sizeof(line)), NULL);
}

static int conclude_refused(struct accept *a, const struct sosie_err *why, struct sosie_err *err)
{
	refusal_add(a->g, a->u, why, NULL);
	tell_refusal(a, why);
	int rc = outbox_verdict(a->g, &a->u->id, &a->committed, SOSIE_VERDICT_REFUSED, why, err);
	return rc ? rc : upload_remove(a->g, a->u, err);
}

static int conclude_repeat(struct accept *a, struct sosie_err *err)
{
	int rc = outbox_head(a->g, err);
	if (!rc)
		rc = outbox_verdict(a->g, &a->u->id, &a->committed, SOSIE_VERDICT_ACCEPTED, NULL, err);
	return rc ? rc : upload_remove(a->g, a->u, err);
}

/* After a cutover head/ is the live images': answering would build another one beside them, as large as the
 * group, for whoever still holds the old key. */
static int compare(struct accept *a, struct sosie_err *err)
{
	bool bad = false;
	int rc = check_fenced(a, err);
	if (!rc)
		rc = answer_compare(a->g, a->u, &a->m, &bad, err);
	if (rc && bad)
		refuse(a, rc);
	return rc ? rc : upload_remove(a->g, a->u, err);
}

static int decide(struct accept *a, enum accept_outcome *outcome, struct sosie_err *why)
{
	bool repeat = false;
	int rc = know_manifest(a, why);
	if (!rc)
		rc = quota_turn(a->g->store, a->g->tenant.s, &a->u->wait_ms, why);
	if (!rc)
		rc = read_manifest(a, why);
	if (rc)
		return rc;
	if (a->m.kind == SOSIE_MANIFEST_COMPARE) {
		*outcome = ACCEPT_ANSWERED;
		rc = check_signature(a, why);
		return rc ? rc : compare(a, why);
	}
	rc = find_repeat(a, &repeat, why);
	if (!rc && !repeat)
		rc = check_signature(a, why);
	if (rc)
		return rc;
	if (a->u->beside && !repeat && !sosie_digest_equal(chain_head(a->g->chain), &a->m.parent)) {
		*outcome = ACCEPT_WAITING;
		return 0;
	}
	*outcome = repeat ? ACCEPT_REPEAT : ACCEPT_POINT;
	return repeat ? conclude_repeat(a, why) : accept_segment(a, why);
}

int accept_upload(struct sosie_group *g, struct upload *u, enum accept_outcome *outcome,
                  struct sosie_err *why, struct sosie_err *err)
{
	struct accept a = {.g = g, .u = u};
	const int64_t began_ns = sosie_clock_ns(CLOCK_PROCESS_CPUTIME_ID);
	sosie_err_clear(why);
	room_forget(g, &u->id); /* it asks again when it still waits */
	int rc = decide(&a, outcome, why);
	quota_spend(g->store, g->tenant.s,
	            (uint64_t)(sosie_clock_ns(CLOCK_PROCESS_CPUTIME_ID) - began_ns + a.unpack_ns));
	if (rc && a.refused) {
		*outcome = ACCEPT_REFUSED;
		rc = conclude_refused(&a, why, err);
	} else if (rc == -SOSIE_ENOSPACE || rc == -SOSIE_EPENDING) {
		*outcome = ACCEPT_WAITING;
		if (rc == -SOSIE_EPENDING)
			quota_met(g->store, g->tenant.s, why);
		outbox_verdict(g, &u->id, &a.committed, SOSIE_VERDICT_WAITING, why,
		               NULL); /* a full disk may refuse this too */
		rc = 0;
	} else if (rc && err) {
		*err = *why;
	}
	sosie_manifest_fini(&a.m);
	free(u->manifest);
	u->manifest = NULL;
	return rc;
}

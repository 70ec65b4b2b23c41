/* SPDX-License-Identifier: MIT */
/*
 * The receiver's end of a session: one request after the other, each answered before the next is looked at.
 * It knows no disk: what it may do is struct sosie_inbox. States and their permitted types are verbs.c's.
 * Limits in time are the receiver's own: hello within hello_ms of the start, then no longer than idle_ms
 * between two whole frames; both by the clock seam, so a test can let them pass.
 *
 * Data is streamed without answers. When it cannot be stored (quota, disk full) the error is told once, with
 * the request of that frame; what follows of the part is dropped, and its part-end is answered with the same
 * error. Then the session is `open` again.
 */
#include "verbs.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define SLICE_MS 1000 /* how long one wait lasts at most before limits and stop are looked at */
#define POLL_MIN_MS 2
#define POLL_MAX_MS 50

struct serve {
	struct sosie_wire *wire;
	struct sosie_inbox *inbox;
	const struct sosie_serve_options *options;
	enum serve_state state;
	uint32_t request;        /* of the message that is being handled, 1 before the first */
	uint64_t acked;          /* bytes of the open part told as written */
	struct sosie_err failed; /* why the open part cannot go on; code SOSIE_OK while it can */
	void *scratch;           /* SOSIE_DATA_MAX bytes for differs, made when first needed */
};

static bool stopped(const struct serve *s)
{
	return s->options->stop && __atomic_load_n(s->options->stop, __ATOMIC_RELAXED);
}

static int64_t mono(const struct serve *s)
{
	return sosie_mono_ms(s->options->clock);
}

static int answer(struct serve *s, struct sosie_message *m, enum sosie_message_type type,
                  struct sosie_err *err)
{
	m->type = type;
	m->request = s->request;
	return sosie_wire_send(s->wire, m, err);
}

static int answer_error(struct serve *s, const struct sosie_err *why, struct sosie_err *err)
{
	struct sosie_message m = {.error = *why};
	return answer(s, &m, SOSIE_MSG_ERROR, err);
}

static int answer_ok(struct serve *s, struct sosie_err *err)
{
	struct sosie_message m = {0};
	return answer(s, &m, SOSIE_MSG_OK, err);
}

static int answer_durable(struct serve *s, struct sosie_err *err)
{
	struct sosie_message m = {.durable.keeper = sosie_inbox_keeper(s->inbox)};
	return answer(s, &m, SOSIE_MSG_DURABLE, err);
}

static int answer_ack(struct serve *s, uint64_t written, uint64_t durable, struct sosie_err *err)
{
	struct sosie_message m = {.ack = {written, durable}};
	s->acked = written;
	return answer(s, &m, SOSIE_MSG_ACK, err);
}

static int on_hello(struct serve *s, const struct sosie_message *in, struct sosie_err *err)
{
	struct sosie_message m = {
	        .welcome = {.version = SOSIE_PROTOCOL_VERSION,
	                    .capabilities = SOSIE_CAP_ATTACHMENTS | SOSIE_CAP_COMPARE | SOSIE_CAP_JOIN}};
	if (in->hello.lowest > SOSIE_PROTOCOL_VERSION || in->hello.highest < SOSIE_PROTOCOL_VERSION) {
		sosie_err_set(err, SOSIE_EUNSUPPORTED, "the source speaks protocol %u to %u, the standby %u",
		              in->hello.lowest, in->hello.highest, SOSIE_PROTOCOL_VERSION);
		return sosie_err_action(err,
		                        "install releases of sosie that have a protocol version in common");
	}
	if (sosie_inbox_reads_packed(s->inbox))
		m.welcome.capabilities |= SOSIE_CAP_PACKED;
	m.welcome.time_ms = (uint64_t)sosie_wall_ms(s->options->clock);
	strncpy(m.welcome.software, s->options->software, sizeof m.welcome.software - 1);
	sosie_inbox_store_id(s->inbox, &m.welcome.store);
	m.welcome.tenant = *sosie_inbox_tenant(s->inbox);
	s->state = SERVE_OPEN;
	return answer(s, &m, SOSIE_MSG_WELCOME, err);
}

static int on_head(struct serve *s, const struct sosie_message *in, struct sosie_err *err)
{
	char *text;
	size_t len;
	int rc = sosie_inbox_head(s->inbox, &in->head.group, &text, &len, err);
	if (rc)
		return rc;
	struct sosie_message m = {
	        .statement = {.present = text != NULL, .blob = text, .len = text ? len : 0}};
	m.statement.time_ms = (uint64_t)sosie_wall_ms(s->options->clock);
	m.statement.keeper = sosie_inbox_keeper(s->inbox);
	rc = answer(s, &m, SOSIE_MSG_STATEMENT, err);
	free(text);
	return rc;
}

static int on_begin(struct serve *s, const struct sosie_message *in, struct sosie_err *err)
{
	struct sosie_message m = {0};
	enum sosie_manifest_kind kind =
	        in->begin.kind == SOSIE_UPLOAD_COMPARE ? SOSIE_MANIFEST_COMPARE : SOSIE_MANIFEST_SEGMENT;
	int rc = sosie_inbox_begin(s->inbox, &in->begin.group, kind, &m.upload.id, err);
	return rc ? rc : answer(s, &m, SOSIE_MSG_UPLOAD, err);
}

static int on_join(struct serve *s, const struct sosie_message *in, struct sosie_err *err)
{
	struct sosie_message m = {.upload.id = in->join.id};
	int rc = sosie_inbox_join(s->inbox, &in->join.group, &in->join.id, &m.upload.committed,
	                          &m.upload.parts, &m.upload.part_count, err);
	if (rc)
		return rc;
	rc = answer(s, &m, SOSIE_MSG_UPLOAD, err);
	free(m.upload.parts);
	return rc;
}

static int on_part(struct serve *s, const struct sosie_message *in, struct sosie_err *err)
{
	int rc = sosie_inbox_part(s->inbox, &in->part.group, &in->part.id, in->part.index, err);
	if (rc)
		return rc;
	s->state = SERVE_PART;
	s->acked = 0;
	sosie_err_clear(&s->failed);
	return answer_ok(s, err);
}

static int part_store(struct serve *s, const struct sosie_message *in, struct sosie_err *err)
{
	uint64_t written, durable;
	int rc = sosie_inbox_data(s->inbox, in->data.bytes, in->data.len, err);
	if (rc)
		return rc;
	sosie_inbox_written(s->inbox, &written, &durable);
	return written - durable >= SYNC_EVERY - SOSIE_DATA_MAX ? sosie_inbox_sync(s->inbox, err) : 0;
}

static int on_data(struct serve *s, const struct sosie_message *in, struct sosie_err *err)
{
	uint64_t written, durable;
	if (s->failed.code)
		return 0;
	int rc = part_store(s, in, err);
	if (rc) {
		if (verbs_survives((enum sosie_code) - rc))
			s->failed = *err;
		return rc;
	}
	sosie_inbox_written(s->inbox, &written, &durable);
	return written - s->acked > ACK_EVERY - SOSIE_DATA_MAX ? answer_ack(s, written, durable, err) : 0;
}

static int part_end_failed(struct serve *s, struct sosie_err *err)
{
	sosie_inbox_part_end(s->inbox,
	                     NULL); /* what came before the failure is kept where it can be; a join tells */
	*err = s->failed;
	sosie_err_clear(&s->failed);
	return -(int)err->code;
}

static int on_part_end(struct serve *s, const struct sosie_message *in, struct sosie_err *err)
{
	uint64_t written, durable;
	s->state = SERVE_OPEN;
	if (s->failed.code)
		return part_end_failed(s, err);
	sosie_inbox_written(s->inbox, &written, &durable);
	if (written != in->part_end.length)
		return sosie_err_set(err, SOSIE_EPROTO, "part-end says %llu bytes, %llu came",
		                     (unsigned long long)in->part_end.length, (unsigned long long)written);
	int rc = sosie_inbox_part_end(s->inbox, err);
	return rc ? rc : answer_ack(s, written, written, err);
}

static int on_commit(struct serve *s, const struct sosie_message *in, struct sosie_err *err)
{
	int rc = sosie_inbox_commit(s->inbox, &in->commit.group, &in->commit.id, in->commit.manifest,
	                            in->commit.len, err);
	return rc ? rc : answer_durable(s, err);
}

/* Looks at the outbox at growing distances until a verdict is there or the time is over; nothing is read from
 * the peer meanwhile. */
static int verdict_await(struct serve *s, const struct sosie_message *in, char **text, size_t *len,
                         struct sosie_err *err)
{
	uint32_t ms = in->wait.ms < SOSIE_WAIT_MAX_MS ? in->wait.ms : SOSIE_WAIT_MAX_MS;
	int64_t until = mono(s) + ms, pause = POLL_MIN_MS;
	for (;;) {
		int rc = sosie_inbox_verdict(s->inbox, &in->wait.group, &in->wait.id, text, len, err);
		int64_t left = until - mono(s);
		if (rc || *text || left <= 0)
			return rc;
		if (stopped(s))
			return sosie_err_set(err, SOSIE_EINTR, "the receiver was told to stop");
		sosie_sleep_ms(s->options->clock, pause < left ? pause : left);
		pause = pause * 2 < POLL_MAX_MS ? pause * 2 : POLL_MAX_MS;
	}
}

static int on_wait(struct serve *s, const struct sosie_message *in, struct sosie_err *err)
{
	char *text = NULL;
	size_t len = 0;
	int rc = verdict_await(s, in, &text, &len, err);
	if (rc)
		return rc;
	struct sosie_message m = {.verdict = {.present = text != NULL, .blob = text, .len = text ? len : 0}};
	m.verdict.keeper = sosie_inbox_keeper(s->inbox);
	rc = answer(s, &m, SOSIE_MSG_VERDICT, err);
	free(text);
	return rc;
}

static int on_differs(struct serve *s, const struct sosie_message *in, struct sosie_err *err)
{
	struct sosie_message m = {0};
	if (!s->scratch)
		s->scratch = malloc(SOSIE_DATA_MAX);
	if (!s->scratch)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory to read differences");
	m.bytes.blob = s->scratch;
	int rc = sosie_inbox_differs(s->inbox, &in->differs.group, &in->differs.id, in->differs.offset,
	                             s->scratch, in->differs.len, &m.bytes.len, &m.bytes.total, err);
	return rc ? rc : answer(s, &m, SOSIE_MSG_BYTES, err);
}

static int on_same(struct serve *s, const struct sosie_message *in, struct sosie_err *err)
{
	int rc = sosie_inbox_same(s->inbox, in->same.blob, in->same.len, err);
	return rc ? rc : answer_durable(s, err);
}

static int on_ping(struct serve *s, const struct sosie_message *in, struct sosie_err *err)
{
	(void)in;
	return answer_ok(s, err);
}

static int on_bye(struct serve *s, const struct sosie_message *in, struct sosie_err *err)
{
	(void)in;
	s->state = SERVE_END;
	return answer_ok(s, err);
}

static int (*const handlers[VERBS_TYPE_MAX + 1])(struct serve *s, const struct sosie_message *in,
                                                 struct sosie_err *err) = {
        [SOSIE_MSG_HELLO] = on_hello,       [SOSIE_MSG_HEAD] = on_head,     [SOSIE_MSG_BEGIN] = on_begin,
        [SOSIE_MSG_JOIN] = on_join,         [SOSIE_MSG_PART] = on_part,     [SOSIE_MSG_DATA] = on_data,
        [SOSIE_MSG_PART_END] = on_part_end, [SOSIE_MSG_COMMIT] = on_commit, [SOSIE_MSG_WAIT] = on_wait,
        [SOSIE_MSG_DIFFERS] = on_differs,   [SOSIE_MSG_SAME] = on_same,     [SOSIE_MSG_PING] = on_ping,
        [SOSIE_MSG_BYE] = on_bye,
};

static int not_allowed(const struct serve *s, enum sosie_message_type type, struct sosie_err *err)
{
	return sosie_err_set(err, SOSIE_EPROTO, "\"%s\" is not allowed in state \"%s\"",
	                     sosie_message_name(type), verbs_state_name(s->state));
}

static int handle(struct serve *s, const struct sosie_message *m, struct sosie_err *err)
{
	if (!verbs_allowed(s->state, m->type))
		return not_allowed(s, m->type, err);
	assert(handlers[m->type]);
	return handlers[m->type](s, m, err);
}

/* The next message within the limit of its state. *got false: the peer closed between two requests. */
static int next_message(struct serve *s, struct sosie_message *m, bool *got, int64_t until,
                        struct sosie_err *err)
{
	int rc = 0;
	*got = false;
	while (!rc && !*got) {
		int64_t left = until - mono(s);
		if (stopped(s))
			return sosie_err_set(err, SOSIE_EINTR, "the receiver was told to stop");
		if (left <= 0)
			return sosie_err_set(err, SOSIE_ETIMEOUT, "no %s from the source within its limit",
			                     s->state == SERVE_NEW ? "hello" : "request");
		rc = sosie_wire_recv(s->wire, m, got, left < SLICE_MS ? (int)left : SLICE_MS, err);
		if (m->request)
			s->request = m->request;
	}
	if (rc == -SOSIE_EPEER && s->state == SERVE_OPEN && !wire_is_partial(s->wire)) {
		s->state = SERVE_END;
		return 0;
	}
	/* A bad name is the request's fault, not the session's: but only of a request that was allowed. */
	if (rc == -SOSIE_ENAME && !verbs_allowed(s->state, m->type))
		return not_allowed(s, m->type, err);
	return rc;
}

/* An error is told to the source; it ends the session unless it is one of those that do not. */
static int refuse(struct serve *s, int rc, struct sosie_err *err)
{
	struct sosie_err why = *err, lost;
	if (rc != -SOSIE_EPEER && answer_error(s, &why, &lost) && verbs_survives(why.code)) {
		*err = lost;
		return -(int)lost.code;
	}
	return verbs_survives(why.code) ? 0 : rc;
}

static int serve_run(struct serve *s, struct sosie_err *err)
{
	int64_t until = mono(s) + s->options->hello_ms;
	int rc = 0;
	while (!rc && s->state != SERVE_END) {
		struct sosie_message m;
		bool got;
		rc = next_message(s, &m, &got, until, err);
		if (!rc && got) {
			rc = handle(s, &m, err);
			sosie_message_fini(&m);
		}
		if (rc)
			rc = refuse(s, rc, err);
		if (s->state != SERVE_NEW)
			until = mono(s) + s->options->idle_ms;
	}
	return rc;
}

int sosie_serve(struct sosie_channel *ch, struct sosie_inbox *inbox,
                const struct sosie_serve_options *options, struct sosie_err *err)
{
	struct serve s = {.inbox = inbox, .options = options, .state = SERVE_NEW, .request = 1};
	struct sosie_err own;
	if (!err)
		err = &own;
	sosie_err_clear(&s.failed);
	int rc = sosie_wire_new(ch, &s.wire, err);
	if (!rc)
		rc = serve_run(&s, err);
	sosie_wire_free(s.wire);
	free(s.scratch);
	return rc;
}

void sosie_serve_refusal(struct sosie_channel *ch, const struct sosie_serve_options *options,
                         const struct sosie_err *why)
{
	struct serve s = {.options = options, .state = SERVE_NEW, .request = 1};
	struct sosie_message m;
	bool got = false;
	if (sosie_wire_new(ch, &s.wire, NULL))
		return;
	if (!next_message(&s, &m, &got, mono(&s) + options->hello_ms, NULL) && got) {
		s.request = m.request ? m.request : 1;
		sosie_message_fini(&m);
	}
	m = (struct sosie_message){.type = SOSIE_MSG_ERROR, .request = s.request, .error = *why};
	sosie_wire_send(s.wire, &m, NULL);
	sosie_wire_free(s.wire);
	free(s.scratch);
}

/* SPDX-License-Identifier: MIT */
/*
 * The source's end of a session: one request at a time, its answer awaited; only data streams. Acks come
 * unasked and are noted whenever the session listens: before each frame of data, and while another answer is
 * awaited. Reads happen only between whole writes.
 *
 * A session breaks once and stays broken: a lost or silent peer, an answer that is not allowed, or an error
 * that ends the session at the other side. Every later call then fails with SOSIE_EPEER and the reason.
 * Errors that a session survives (verbs.c) leave it usable.
 *
 * Silence: an answer is awaited ANSWER_MS; data is sent at most UNACKED_MAX beyond the last ack, then an ack
 * must come within STALL_MS (the receiver owes one every 8 MiB). This watches what the standby has taken, not
 * what TCP has.
 */
#include "verbs.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define SLICE_MS 1000
#define ANSWER_MS 90000
#define STALL_MS 60000
#define BYE_MS 1000
#define UNACKED_MAX (16u << 20)

struct sosie_session {
	struct sosie_channel *ch;
	struct sosie_wire *wire;
	struct sosie_clock *clock;
	uint32_t request; /* the last one used */
	bool part_open;
	uint64_t sent, written, durable; /* of the open part: sent by us, told by acks */
	bool part_failed;                /* the receiver said that it cannot store the open part */
	struct sosie_err part_err;
	bool broken;
	struct sosie_err why; /* of broken */
	struct sosie_session_info info;
};

static int session_break(struct sosie_session *s, int rc, const struct sosie_err *err)
{
	if (!s->broken)
		s->why = *err;
	s->broken = true;
	return rc;
}

static int session_usable(const struct sosie_session *s, struct sosie_err *err)
{
	if (!s->broken)
		return 0;
	sosie_err_set(err, SOSIE_EPEER, "the session has ended: %s", s->why.what);
	return sosie_err_action(err, "%s", s->why.action);
}

static uint32_t next_request(struct sosie_session *s)
{
	s->request = s->request == UINT32_MAX ? 1 : s->request + 1;
	return s->request;
}

static int request_send(struct sosie_session *s, struct sosie_message *m, enum sosie_message_type type,
                        struct sosie_err *err)
{
	m->type = type;
	m->request = next_request(s);
	int rc = sosie_wire_send(s->wire, m, err);
	return rc ? session_break(s, rc, err) : 0;
}

static int note_ack(struct sosie_session *s, const struct sosie_message *m, struct sosie_err *err)
{
	if (!s->part_open || m->ack.written > s->sent || m->ack.written < s->written ||
	    m->ack.durable < s->durable) {
		sosie_err_set(err, SOSIE_EPROTO, "the standby acknowledged what was not sent");
		return session_break(s, -SOSIE_EPROTO, err);
	}
	s->written = m->ack.written;
	s->durable = m->ack.durable;
	return 0;
}

/* What a receiver may say of itself. All that is decided by the keeper or by the source (fenced, refused,
 * loss …) counts only where it is judged or signed, so a receiver that says it is told as one. */
static const enum sosie_code receivers_codes[] = {
        SOSIE_ENOMEM,   SOSIE_EPEER,  SOSIE_ETIMEOUT,  SOSIE_EBUSY,        SOSIE_ENOSPACE,  SOSIE_EIO,
        SOSIE_ECORRUPT, SOSIE_EPROTO, SOSIE_ENOTFOUND, SOSIE_EUNSUPPORTED, SOSIE_EINTERNAL, SOSIE_EDENIED,
        SOSIE_EAUTH,    SOSIE_EQUOTA, SOSIE_EEXISTS,   SOSIE_ENOTSTORE,    SOSIE_ENEWER,    SOSIE_ENAME};

static void receivers_word(const struct sosie_err *told, struct sosie_err *out)
{
	bool may = false;
	for (size_t i = 0; i < sizeof receivers_codes / sizeof receivers_codes[0]; i++)
		may = may || told->code == receivers_codes[i];
	*out = *told;
	if (may)
		return;
	if (told->code == SOSIE_EINTR) { /* it ends, we do not */
		out->code = SOSIE_EPEER;
		return;
	}
	sosie_err_set(out, SOSIE_EPROTO, "the standby's receiver says \"%s\", which is not its to say: %s",
	              sosie_code_name(told->code), told->what);
	sosie_err_action(
	        out, "ask the standby's operator, by telephone, whether its receiver is what it should be");
}

/* An error from the other side: *err gets it. One that the session survives and that is not of the awaited
 * request belongs to data. */
static int note_error(struct sosie_session *s, const struct sosie_message *m, bool mine,
                      struct sosie_err *err)
{
	struct sosie_err word;
	receivers_word(&m->error, &word);
	if (err)
		*err = word;
	if (!verbs_survives(word.code))
		return session_break(s, -(int)word.code, err);
	if (mine)
		return -(int)word.code;
	if (!s->part_open) {
		sosie_err_set(err, SOSIE_EPROTO, "the standby answered a request that was not made");
		return session_break(s, -SOSIE_EPROTO, err);
	}
	s->part_failed = true;
	s->part_err = word;
	return 0;
}

/* One message, if one comes within ms. *mine: it is the answer of request `awaited` (0: none is awaited),
 * left in *m for the caller to fini. */
static int listen(struct sosie_session *s, uint32_t awaited, struct sosie_message *m, bool *mine, bool *got,
                  int ms, struct sosie_err *err)
{
	*mine = false;
	int rc = sosie_wire_recv(s->wire, m, got, ms, err);
	if (rc)
		return session_break(s, rc, err);
	if (!*got)
		return 0;
	*mine = awaited && m->request == awaited;
	if (m->type == SOSIE_MSG_ERROR)
		return note_error(s, m, *mine, err);
	if (m->type == SOSIE_MSG_ACK) {
		rc = note_ack(s, m, err);
		return rc;
	}
	if (*mine)
		return 0;
	sosie_message_fini(m);
	sosie_err_set(err, SOSIE_EPROTO, "the standby sent \"%s\" unasked", sosie_message_name(m->type));
	return session_break(s, -SOSIE_EPROTO, err);
}

static int answer_await(struct sosie_session *s, enum sosie_message_type type, int64_t limit_ms,
                        struct sosie_message *m, struct sosie_err *err)
{
	int64_t until = sosie_mono_ms(s->clock) + limit_ms;
	uint32_t awaited = s->request;
	bool mine = false, got;
	while (!mine) {
		int64_t left = until - sosie_mono_ms(s->clock);
		if (left <= 0) {
			sosie_err_set(err, SOSIE_ETIMEOUT, "the standby did not answer within %lld ms",
			              (long long)limit_ms);
			return session_break(s, -SOSIE_ETIMEOUT, err);
		}
		int rc = listen(s, awaited, m, &mine, &got, left < SLICE_MS ? (int)left : SLICE_MS, err);
		if (rc)
			return rc;
	}
	if (m->type == type)
		return 0;
	sosie_message_fini(m);
	sosie_err_set(err, SOSIE_EPROTO, "the standby answered \"%s\" where \"%s\" was due",
	              sosie_message_name(m->type), sosie_message_name(type));
	return session_break(s, -SOSIE_EPROTO, err);
}

/* A request and its answer, in *m both. The caller runs sosie_message_fini after success. */
static int ask(struct sosie_session *s, struct sosie_message *m, enum sosie_message_type type,
               enum sosie_message_type answer, struct sosie_err *err)
{
	int rc = session_usable(s, err);
	if (!rc)
		rc = request_send(s, m, type, err);
	return rc ? rc : answer_await(s, answer, ANSWER_MS, m, err);
}

static int group_set(struct sosie_name *dst, const char *group, struct sosie_err *err)
{
	return sosie_name_set(dst, SOSIE_NAME_GROUP, group, err);
}

static int text_copy(const void *blob, size_t len, char **text, size_t *out_len, struct sosie_err *err)
{
	char *copy = malloc(len + 1);
	if (!copy)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for %zu bytes of the standby's answer",
		                     len);
	if (len)
		memcpy(copy, blob, len);
	copy[len] = '\0';
	*text = copy;
	*out_len = len;
	return 0;
}

static void note_time(struct sosie_session *s, uint64_t standby_ms)
{
	s->info.standby_ms = standby_ms <= INT64_MAX ? (int64_t)standby_ms : INT64_MAX;
	s->info.mono_ms = sosie_mono_ms(s->clock);
}

static int say_hello(struct sosie_session *s, const char *software, struct sosie_err *err)
{
	struct sosie_message m = {
	        .hello = {.lowest = SOSIE_PROTOCOL_VERSION, .highest = SOSIE_PROTOCOL_VERSION}};
	uint64_t capabilities = SOSIE_CAP_ATTACHMENTS | SOSIE_CAP_COMPARE | SOSIE_CAP_JOIN;
	m.hello.capabilities = capabilities;
	strncpy(m.hello.software, software, sizeof m.hello.software - 1);
	int rc = ask(s, &m, SOSIE_MSG_HELLO, SOSIE_MSG_WELCOME, err);
	if (rc)
		return rc;
	if (m.welcome.version != SOSIE_PROTOCOL_VERSION)
		return sosie_err_set(err, SOSIE_EPROTO,
		                     "the standby chose protocol %u, which was not offered",
		                     m.welcome.version);
	note_time(s, m.welcome.time_ms);
	s->info.store = m.welcome.store;
	s->info.tenant = m.welcome.tenant;
	s->info.capabilities = m.welcome.capabilities & capabilities;
	return 0;
}

int sosie_session_open(struct sosie_connector *c, struct sosie_clock *clock, const char *software,
                       struct sosie_session **out, struct sosie_err *err)
{
	struct sosie_session *s = calloc(1, sizeof *s);
	struct sosie_err own;
	*out = NULL;
	err = err ? err : &own;
	if (!s)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for a session");
	s->clock = clock;
	int rc = c->open(c, &s->ch, err);
	if (!rc)
		rc = sosie_wire_new(s->ch, &s->wire, err);
	if (!rc)
		rc = say_hello(s, software, err);
	if (rc) {
		s->broken = true;
		sosie_session_close(s);
		return rc;
	}
	*out = s;
	return 0;
}

void sosie_session_close(struct sosie_session *s)
{
	struct sosie_message m = {0};
	struct sosie_err ignored;
	if (!s)
		return;
	if (!s->broken && !request_send(s, &m, SOSIE_MSG_BYE, &ignored) &&
	    !answer_await(s, SOSIE_MSG_OK, BYE_MS, &m, &ignored))
		sosie_message_fini(&m);
	sosie_wire_free(s->wire);
	sosie_channel_close(s->ch);
	free(s);
}

void sosie_session_info(const struct sosie_session *s, struct sosie_session_info *out)
{
	*out = s->info;
	out->sent = sosie_wire_sent(s->wire);
	out->received = sosie_wire_received(s->wire);
}

int sosie_session_head(struct sosie_session *s, const char *group, char **text, size_t *len, bool *keeper,
                       struct sosie_err *err)
{
	struct sosie_err own;
	struct sosie_message m = {0};
	err = err ? err : &own;
	*text = NULL;
	*len = 0;
	int rc = group_set(&m.head.group, group, err);
	if (!rc)
		rc = ask(s, &m, SOSIE_MSG_HEAD, SOSIE_MSG_STATEMENT, err);
	if (rc)
		return rc;
	note_time(s, m.statement.time_ms);
	*keeper = m.statement.keeper;
	return m.statement.present ? text_copy(m.statement.blob, m.statement.len, text, len, err) : 0;
}

int sosie_session_begin(struct sosie_session *s, const char *group, enum sosie_upload_kind kind,
                        const struct sosie_digest *parent, uint64_t epoch, struct sosie_upload_id *out,
                        struct sosie_err *err)
{
	struct sosie_err own;
	struct sosie_message m = {.begin = {.kind = kind, .parent = *parent, .epoch = epoch}};
	err = err ? err : &own;
	int rc = group_set(&m.begin.group, group, err);
	if (!rc)
		rc = ask(s, &m, SOSIE_MSG_BEGIN, SOSIE_MSG_UPLOAD, err);
	if (rc)
		return rc;
	*out = m.upload.id;
	sosie_message_fini(&m);
	return 0;
}

int sosie_session_join(struct sosie_session *s, const char *group, const struct sosie_upload_id *id,
                       bool *committed, struct sosie_part_state **parts, uint32_t *count,
                       struct sosie_err *err)
{
	struct sosie_err own;
	struct sosie_message m = {.join.id = *id};
	err = err ? err : &own;
	*parts = NULL;
	*count = 0;
	int rc = group_set(&m.join.group, group, err);
	if (!rc)
		rc = ask(s, &m, SOSIE_MSG_JOIN, SOSIE_MSG_UPLOAD, err);
	if (rc)
		return rc;
	*committed = m.upload.committed;
	*parts = m.upload.parts;
	*count = m.upload.part_count;
	return 0;
}

int sosie_session_part(struct sosie_session *s, const char *group, const struct sosie_upload_id *id,
                       uint32_t index, struct sosie_err *err)
{
	struct sosie_err own;
	struct sosie_message m = {.part = {.id = *id, .index = index}};
	err = err ? err : &own;
	assert(!s->part_open);
	int rc = group_set(&m.part.group, group, err);
	if (!rc)
		rc = ask(s, &m, SOSIE_MSG_PART, SOSIE_MSG_OK, err);
	if (rc)
		return rc;
	s->part_open = true;
	s->part_failed = false;
	s->sent = s->written = s->durable = 0;
	return 0;
}

static int part_end(struct sosie_session *s, uint64_t length, struct sosie_err *err)
{
	struct sosie_message m = {.part_end.length = length};
	int rc = ask(s, &m, SOSIE_MSG_PART_END, SOSIE_MSG_ACK, err);
	s->part_open = false;
	return rc;
}

/* The receiver cannot store the part: end it so that the session is usable again, and tell the reason. */
static int part_give_up(struct sosie_session *s, struct sosie_err *err)
{
	int rc = part_end(s, s->sent, err);
	if (s->broken)
		return rc;
	*err = s->part_err;
	return -(int)err->code;
}

/* Notes what has come; waits for an ack while too much is on the way. */
static int acks_take(struct sosie_session *s, struct sosie_err *err)
{
	int64_t until = sosie_mono_ms(s->clock) + STALL_MS;
	struct sosie_message m;
	bool mine, got = true;
	int rc = 0;
	while (!rc && !s->part_failed) {
		bool full = s->sent - s->written >= UNACKED_MAX;
		if (!got && !full)
			return 0;
		if (full && sosie_mono_ms(s->clock) >= until) {
			sosie_err_set(err, SOSIE_ETIMEOUT, "the standby acknowledged nothing for %d s",
			              STALL_MS / 1000);
			return session_break(s, -SOSIE_ETIMEOUT, err);
		}
		uint64_t before = s->written;
		rc = listen(s, 0, &m, &mine, &got, full ? SLICE_MS : 0, err);
		if (s->written != before)
			until = sosie_mono_ms(s->clock) + STALL_MS;
	}
	return rc;
}

int sosie_session_data(struct sosie_session *s, const void *data, size_t len, struct sosie_err *err)
{
	struct sosie_err own;
	const uint8_t *at = data;
	err = err ? err : &own;
	int rc = session_usable(s, err);
	assert(rc || s->part_open);
	while (!rc && len) {
		struct sosie_message m = {.data = {at, len < SOSIE_DATA_MAX ? len : SOSIE_DATA_MAX}};
		size_t n = m.data.len;
		rc = acks_take(s, err);
		if (!rc && s->part_failed)
			return part_give_up(s, err);
		if (!rc)
			rc = request_send(s, &m, SOSIE_MSG_DATA, err);
		if (!rc) {
			s->sent += n;
			at += n;
			len -= n;
		}
	}
	return rc;
}

uint64_t sosie_session_durable(const struct sosie_session *s)
{
	return s->durable;
}

int sosie_session_part_end(struct sosie_session *s, uint64_t length, struct sosie_err *err)
{
	struct sosie_err own;
	err = err ? err : &own;
	int rc = session_usable(s, err);
	if (rc)
		return rc;
	assert(s->part_open && length == s->sent);
	rc = part_end(s, length, err);
	if (!rc && s->durable != length) {
		sosie_err_set(err, SOSIE_EPROTO, "the standby ended a part of %llu bytes with %llu durable",
		              (unsigned long long)length, (unsigned long long)s->durable);
		return session_break(s, -SOSIE_EPROTO, err);
	}
	return rc;
}

int sosie_session_commit(struct sosie_session *s, const char *group, const struct sosie_upload_id *id,
                         const void *manifest, size_t len, bool *keeper, struct sosie_err *err)
{
	struct sosie_err own;
	struct sosie_message m = {.commit = {.id = *id, .manifest = manifest, .len = len}};
	err = err ? err : &own;
	int rc = group_set(&m.commit.group, group, err);
	if (!rc)
		rc = ask(s, &m, SOSIE_MSG_COMMIT, SOSIE_MSG_DURABLE, err);
	if (!rc)
		*keeper = m.durable.keeper;
	return rc;
}

int sosie_session_wait(struct sosie_session *s, const char *group, const struct sosie_upload_id *id,
                       uint32_t ms, char **text, size_t *len, bool *keeper, struct sosie_err *err)
{
	struct sosie_err own;
	struct sosie_message m = {.wait = {.id = *id, .ms = ms < SOSIE_WAIT_MAX_MS ? ms : SOSIE_WAIT_MAX_MS}};
	err = err ? err : &own;
	*text = NULL;
	*len = 0;
	int rc = group_set(&m.wait.group, group, err);
	if (!rc)
		rc = ask(s, &m, SOSIE_MSG_WAIT, SOSIE_MSG_VERDICT, err);
	if (rc)
		return rc;
	*keeper = m.verdict.keeper;
	return m.verdict.present ? text_copy(m.verdict.blob, m.verdict.len, text, len, err) : 0;
}

/* The piece at *done; the first one says how much there is in all. */
static int differs_piece(struct sosie_session *s, struct sosie_message *m, size_t max, uint8_t **whole,
                         size_t *total, size_t *done, struct sosie_err *err)
{
	int rc = ask(s, m, SOSIE_MSG_DIFFERS, SOSIE_MSG_BYTES, err);
	if (rc)
		return rc;
	if (m->bytes.total > max)
		return sosie_err_set(
		        err, SOSIE_EPROTO,
		        "the standby's list of differences has %llu bytes, at most %zu are expected",
		        (unsigned long long)m->bytes.total, max);
	if (!*whole) {
		*total = (size_t)m->bytes.total;
		*whole = malloc(*total + 1);
		if (!*whole)
			return sosie_err_set(err, SOSIE_ENOMEM,
			                     "no memory for a list of differences of %zu bytes", *total);
	}
	if (m->bytes.total != *total || m->bytes.len > *total - *done || (!m->bytes.len && *done < *total))
		return sosie_err_set(err, SOSIE_EPROTO,
		                     "the standby's list of differences changed while it was read");
	memcpy(*whole + *done, m->bytes.blob, m->bytes.len);
	*done += m->bytes.len;
	return 0;
}

int sosie_session_differs(struct sosie_session *s, const char *group, const struct sosie_upload_id *id,
                          size_t max, void **out, size_t *len, struct sosie_err *err)
{
	struct sosie_err own;
	struct sosie_name name;
	uint8_t *whole = NULL;
	size_t total = 0, done = 0;
	err = err ? err : &own;
	*out = NULL;
	*len = 0;
	int rc = group_set(&name, group, err);
	while (!rc && (!whole || done < total)) {
		struct sosie_message m = {.differs = {name, *id, done, SOSIE_DATA_MAX}};
		rc = differs_piece(s, &m, max, &whole, &total, &done, err);
	}
	if (rc) {
		free(whole);
		return rc;
	}
	*out = whole;
	*len = total;
	return 0;
}

int sosie_session_same(struct sosie_session *s, const void *text, size_t len, bool *keeper,
                       struct sosie_err *err)
{
	struct sosie_err own;
	struct sosie_message m = {.same = {text, len}};
	err = err ? err : &own;
	int rc = ask(s, &m, SOSIE_MSG_SAME, SOSIE_MSG_DURABLE, err);
	if (!rc)
		*keeper = m.durable.keeper;
	return rc;
}

int sosie_session_ping(struct sosie_session *s, struct sosie_err *err)
{
	struct sosie_err own;
	struct sosie_message m = {0};
	err = err ? err : &own;
	return ask(s, &m, SOSIE_MSG_PING, SOSIE_MSG_OK, err);
}

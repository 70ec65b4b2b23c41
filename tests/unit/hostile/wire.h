/* SPDX-License-Identifier: MIT */
/*
 * Sessions of a hostile source. An honest one is recorded through a channel that copies what the real client
 * sends; then its frames are played to a real receiver, changed. A script is a list of pieces: the receiver
 * gets one for each time that it asks for bytes, so that what it answered to those before is known. The
 * upload's id of the recording is replaced by the one that the receiver gave last.
 */
#ifndef TESTS_HOSTILE_WIRE_H
#define TESTS_HOSTILE_WIRE_H

#include <pthread.h>

#include "tests/unit/hostile/bench.h"

#include "sosie/message.h"

#define PIECES 64u

/* --- a script --------------------------------------------------------------------------------------------
 */

struct script {
	uint8_t *bytes;
	size_t len, room;
	size_t ends[PIECES]; /* of each piece */
	unsigned count;
};

static inline void script_add(struct script *s, const void *bytes, size_t len)
{
	assert_true(s->count < PIECES);
	if (s->len + len > s->room) {
		s->room = 2 * (s->len + len);
		s->bytes = realloc(s->bytes, s->room);
		assert_non_null(s->bytes);
	}
	if (len)
		memcpy(s->bytes + s->len, bytes, len);
	s->len += len;
	s->ends[s->count++] = s->len;
}

static inline const uint8_t *script_piece(const struct script *s, unsigned i, size_t *len)
{
	size_t from = i ? s->ends[i - 1] : 0;
	*len = s->ends[i] - from;
	return s->bytes + from;
}

static inline void script_clear(struct script *s)
{
	s->len = 0;
	s->count = 0;
}

static inline void script_message(struct script *s, const struct sosie_message *m)
{
	static uint8_t frame[SOSIE_FRAME_HEADER + SOSIE_FRAME_MAX];
	struct sosie_writer w;
	struct sosie_err err;
	size_t len;
	sosie_err_clear(&err);
	if (sosie_message_encode(m, frame + SOSIE_FRAME_HEADER, SOSIE_FRAME_MAX, &len, &err))
		fail_msg("%s", err.what);
	sosie_writer_init(&w, frame, SOSIE_FRAME_HEADER);
	sosie_put_u32(&w, (uint32_t)len);
	sosie_put_u16(&w, (uint16_t)m->type);
	sosie_put_u16(&w, 0);
	sosie_put_u32(&w, m->request);
	script_add(s, frame, SOSIE_FRAME_HEADER + len);
}

/* --- playing it -------------------------------------------------------------------------------------------
 */

enum play_end {
	PLAY_CLOSE,  /* the peer closes */
	PLAY_SILENT, /* nothing comes any more, and time passes */
	PLAY_SLOW,   /* each byte is followed by a second of nothing; at the end silence */
	PLAY_ENDLESS /* the last piece over and over, as often as `repeat` says */
};
struct play {
	struct sosie_channel base;
	struct bench *b;
	const struct script *script;
	enum play_end end;
	unsigned repeat;
	const struct sosie_upload_id *recorded; /* NULL: nothing is replaced */
	struct sosie_upload_id id;              /* the newest that the receiver gave */
	bool has_id, waited;
	unsigned piece;
	uint8_t *now; /* the piece under way, patched */
	size_t now_len, now_at;
	/* What came back. */
	unsigned answers, errors, calls;
	unsigned types[SOSIE_MSG_BYE + 1];
	uint64_t answer_bytes;
	char what[512];
	int rc;
	int64_t took_ms;
};

static int play_send(struct sosie_channel *ch, const void *data, size_t len, struct sosie_err *err)
{
	struct play *p = (struct play *)ch;
	const uint8_t *frame = data;
	(void)err;
	assert_true(len >= SOSIE_FRAME_HEADER && frame[4] <= SOSIE_MSG_BYE);
	p->answers++;
	p->answer_bytes += len;
	p->types[frame[4]]++;
	if (frame[4] == SOSIE_MSG_UPLOAD) {
		memcpy(p->id.b, frame + SOSIE_FRAME_HEADER, sizeof(p->id.b));
		p->has_id = true;
	}
	if (frame[4] == SOSIE_MSG_ERROR) {
		struct sosie_message m;
		p->errors++;
		assert_int_equal(sosie_message_parse(SOSIE_MSG_ERROR, frame + SOSIE_FRAME_HEADER,
		                                     len - SOSIE_FRAME_HEADER, &m, NULL),
		                 0);
		snprintf(p->what, sizeof(p->what), "%s: %.400s", sosie_code_name(m.error.code), m.error.what);
	}
	return 0;
}

static inline void play_patch(struct play *p)
{
	uint8_t *at = p->now;
	size_t left = p->now_len;
	while (p->recorded && p->has_id &&
	       (at = memmem(at, left, p->recorded->b, sizeof(p->recorded->b))) != NULL) {
		memcpy(at, p->id.b, sizeof(p->id.b));
		left = p->now_len - (size_t)(at - p->now);
	}
}

static inline bool play_next(struct play *p)
{
	const struct script *s = p->script;
	size_t len;
	if (p->end == PLAY_ENDLESS && p->piece == s->count && p->repeat) {
		p->repeat--;
		p->piece--;
	}
	if (p->piece == s->count)
		return false;
	const uint8_t *bytes = script_piece(s, p->piece++, &len);
	free(p->now);
	p->now = malloc(len + 1);
	assert_non_null(p->now);
	if (len)
		memcpy(p->now, bytes, len);
	p->now_len = len;
	p->now_at = 0;
	play_patch(p);
	return true;
}

static int play_recv(struct sosie_channel *ch, void *data, size_t size, size_t *got, int timeout_ms,
                     struct sosie_err *err)
{
	struct play *p = (struct play *)ch;
	*got = 0;
	p->calls++;
	while (p->now_at == p->now_len && play_next(p))
		;
	bool over = p->now_at == p->now_len;
	if (over && (p->end == PLAY_CLOSE || p->end == PLAY_ENDLESS))
		return sosie_err_set(err, SOSIE_EPEER, "the script is over");
	if (over || (p->end == PLAY_SLOW && !p->waited)) {
		p->waited = true;
		p->b->clock.now_ms += timeout_ms > 0 ? timeout_ms : 1;
		return 0;
	}
	size_t n = p->now_len - p->now_at;
	n = n < size ? n : size;
	n = p->end == PLAY_SLOW ? 1 : n;
	memcpy(data, p->now + p->now_at, n);
	p->now_at += n;
	*got = n;
	p->waited = false;
	return 0;
}

static void play_close(struct sosie_channel *ch)
{
	(void)ch;
}

static const struct sosie_channel_ops play_ops = {play_send, play_recv, play_close};

/* One session of acme's key, from hello to its end, with an instance of the disk's back end of its own. */
static inline void play(struct play *p)
{
	struct bench *b = p->b;
	struct sosie_serve_options options = {
	        .clock = &b->clock.clock, .software = "test", .hello_ms = 30000, .idle_ms = 300000};
	struct sosie_inbox *inbox;
	struct sosie_io *io;
	int64_t began = b->clock.now_ms;
	p->base.ops = &play_ops;
	OK(b, sosie_io_sim(b->disk, &io, &b->err));
	OK(b, sosie_inbox_open(io, &b->clock.clock, "/s", "acme", b->keys[0], &inbox, &b->err));
	p->rc = sosie_serve(&p->base, inbox, &options, &b->err);
	sosie_inbox_close(inbox);
	sosie_io_free(io);
	p->took_ms = b->clock.now_ms - began;
	free(p->now);
	p->now = NULL;
}

/* --- recording an honest one --------------------------------------------------------------------------- */

struct recording {
	struct script frames; /* each piece a frame */
	struct sosie_upload_id id;
	uint64_t point; /* that it makes */
	struct model next;
	char *part, *manifest;
	size_t part_len, manifest_len;
};

struct tap {
	struct sosie_channel base;
	struct sosie_connector connector;
	struct bench *b;
	struct script *frames;
	struct sosie_channel *near, *far;
	pthread_t receiver;
};

static void *tap_receive(void *arg)
{
	struct tap *t = arg;
	struct sosie_clock_virtual clock = t->b->clock;
	struct sosie_serve_options options = {
	        .clock = &clock.clock, .software = "test", .hello_ms = 30000, .idle_ms = 300000};
	struct sosie_inbox *inbox = NULL;
	struct sosie_io *io = NULL;
	if (sosie_io_sim(t->b->disk, &io, NULL) == 0 &&
	    sosie_inbox_open(io, &clock.clock, "/s", "acme", t->b->keys[0], &inbox, NULL) == 0)
		sosie_serve(t->far, inbox, &options, NULL);
	sosie_inbox_close(inbox);
	sosie_io_free(io);
	sosie_channel_close(t->far);
	t->b->clock.state = clock.state; /* ids are not given twice */
	return NULL;
}

static int tap_send(struct sosie_channel *ch, const void *data, size_t len, struct sosie_err *err)
{
	struct tap *t = (struct tap *)ch;
	script_add(t->frames, data, len);
	return sosie_channel_send(t->near, data, len, err);
}

static int tap_recv(struct sosie_channel *ch, void *data, size_t size, size_t *got, int timeout_ms,
                    struct sosie_err *err)
{
	return sosie_channel_recv(((struct tap *)ch)->near, data, size, got, timeout_ms, err);
}

static void tap_close(struct sosie_channel *ch)
{
	struct tap *t = (struct tap *)ch;
	sosie_channel_close(t->near);
	pthread_join(t->receiver, NULL);
}

static const struct sosie_channel_ops tap_ops = {tap_send, tap_recv, tap_close};

static int tap_open(struct sosie_connector *c, struct sosie_channel **out, struct sosie_err *err)
{
	struct tap *t = (struct tap *)((char *)c - offsetof(struct tap, connector));
	if (sosie_pair(1u << 20, &t->near, &t->far, err) ||
	    pthread_create(&t->receiver, NULL, tap_receive, t))
		fail_msg("no channel");
	t->base.ops = &tap_ops;
	*out = &t->base;
	return 0;
}

/* Everything that a source says in its life, once; data in two frames. */
static inline void record_session(struct bench *b, struct recording *r)
{
	static const char same[] = "{\"format\":1,\"kind\":\"same\",\"groups\":[]}";
	struct tap t = {.b = b, .frames = &r->frames, .connector.open = tap_open};
	struct sosie_session *s;
	struct sosie_part_state *parts;
	uint32_t count;
	char *text;
	size_t len, half = r->part_len / 2;
	bool keeper, committed;
	struct sosie_digest parent;
	bench_head(b, ERP, &parent);
	OK(b, sosie_session_open(&t.connector, sosie_clock_real(), "sosie test", &s, &b->err));
	OK(b, sosie_session_head(s, "erp", &text, &len, &keeper, &b->err));
	free(text);
	OK(b, sosie_session_begin(s, "erp", SOSIE_UPLOAD_SEGMENT, &parent, 1, &r->id, &b->err));
	OK(b, sosie_session_part(s, "erp", &r->id, 0, &b->err));
	OK(b, sosie_session_data(s, r->part, half, &b->err));
	OK(b, sosie_session_data(s, r->part + half, r->part_len - half, &b->err));
	OK(b, sosie_session_part_end(s, r->part_len, &b->err));
	OK(b, sosie_session_join(s, "erp", &r->id, &committed, &parts, &count, &b->err));
	assert_int_equal(count, 1);
	free(parts);
	OK(b, sosie_session_commit(s, "erp", &r->id, r->manifest, r->manifest_len, &keeper, &b->err));
	OK(b, sosie_session_wait(s, "erp", &r->id, 0, &text, &len, &keeper, &b->err));
	assert_null(text);
	OK(b, sosie_session_same(s, same, sizeof(same) - 1, &keeper, &b->err));
	OK(b, sosie_session_ping(s, &b->err));
	sosie_session_close(s);
}

struct wipe {
	struct bench *b;
	const char *dir;
	bool again;
};

static int wipe_one(void *arg, const char *name, enum sosie_file_kind kind)
{
	struct wipe *w = arg;
	char path[512];
	if (kind != SOSIE_KIND_FILE || strcmp(name, "named") == 0)
		return 0;
	snprintf(path, sizeof(path), "%s/%s", w->dir, name);
	OK(w->b, sosie_io_unlink(w->b->io, path, &w->b->err));
	w->again = true;
	return 1;
}

/* Takes away what lies in a group's folder: of a recording, which is not to be accepted. */
static inline void wipe(struct bench *b, const char *dir)
{
	struct wipe w = {.b = b, .dir = dir};
	do {
		w.again = false;
		if (sosie_io_list(b->io, dir, wipe_one, &w, &b->err) < 0)
			fail_msg("%s", b->err.what);
	} while (w.again);
}

static inline void recording_free(struct recording *r)
{
	model_fini(&r->next);
	free(r->frames.bytes);
	free(r->part);
	free(r->manifest);
	memset(r, 0, sizeof(*r));
}

/* What an honest sender makes of `changes` on the head of now, not yet told to anybody. */
static inline void prepare(struct bench *b, struct recording *r, const struct change *changes, unsigned count)
{
	char path[128], id[33];
	recording_free(r);
	model_copy(&r->next, &b->now[ERP]);
	struct make_upload u = bench_upload(b, ERP, &r->next, changes, count);
	u.store = "/x";
	make_upload(&u);
	sosie_hex(id, u.id.b, sizeof(u.id.b));
	snprintf(path, sizeof(path), "/x/acme/_inbox/erp/%s.0", id);
	OK(b, sosie_io_read_file(b->io, path, 1u << 24, &r->part, &r->part_len, &b->err));
	snprintf(path, sizeof(path), "/x/acme/_inbox/erp/%s.manifest", id);
	OK(b, sosie_io_read_file(b->io, path, 1u << 24, &r->manifest, &r->manifest_len, &b->err));
	wipe(b, "/x/acme/_inbox/erp");
	r->point = bench_head(b, ERP, NULL) + 1;
}

static inline void record(struct bench *b, struct recording *r)
{
	static const uint8_t text[] = "twelve bytes";
	uint8_t mine[sizeof(text)];
	memcpy(mine, text, sizeof(text));
	mine[0] = (uint8_t)(b->ticks++);
	mine[1] = (uint8_t)(b->ticks >> 8);
	const struct change c[] = {{0, 12288 + 5, sizeof(mine), mine}};
	prepare(b, r, c, 1);
	record_session(b, r);
	wipe(b, "/s/acme/_inbox/erp");
	assert_true(r->frames.count >= 13);
}

/* After a session: the keeper takes what came. What it accepts must be what the honest sender would have
 * made. Returns whether there is a point more. */
static inline bool after_session(struct bench *b, struct recording *r)
{
	struct sosie_accept_result result = bench_keep(b, ERP);
	if (result.point < r->point)
		return false;
	assert_int_equal(result.point, r->point);
	bench_equal_point(b, ERP, r->point, &r->next);
	model_fini(&b->now[ERP]);
	model_copy(&b->now[ERP], &r->next);
	return true;
}

#endif

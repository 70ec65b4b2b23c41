/* SPDX-License-Identifier: MIT */
/* Frames and messages (docs/protocol.md). One struct for each payload; encode and parse are inverses, parse
 * trusts nothing. */
#ifndef SOSIE_MESSAGE_H
#define SOSIE_MESSAGE_H

#include "sosie/channel.h"
#include "sosie/digest.h"
#include "sosie/names.h"
#include "sosie/segment.h"

#define SOSIE_PROTOCOL_VERSION 1u
#define SOSIE_FRAME_HEADER 12u
#define SOSIE_FRAME_MAX 1310720u
#define SOSIE_DATA_MAX (1u << 20)
#define SOSIE_WAIT_MAX_MS 30000u
#define SOSIE_SAME_MAX (1u << 20)

#define SOSIE_CAP_ATTACHMENTS 1u
#define SOSIE_CAP_COMPARE 2u
#define SOSIE_CAP_JOIN 4u
#define SOSIE_CAP_PACKED 8u /* records with packed ranges; welcomed only where the keeper reads them */

enum sosie_message_type {
	SOSIE_MSG_HELLO = 1,
	SOSIE_MSG_WELCOME,
	SOSIE_MSG_HEAD,
	SOSIE_MSG_STATEMENT,
	SOSIE_MSG_BEGIN,
	SOSIE_MSG_UPLOAD,
	SOSIE_MSG_JOIN,
	SOSIE_MSG_PART,
	SOSIE_MSG_OK,
	SOSIE_MSG_DATA,
	SOSIE_MSG_ACK,
	SOSIE_MSG_PART_END,
	SOSIE_MSG_COMMIT,
	SOSIE_MSG_DURABLE,
	SOSIE_MSG_WAIT,
	SOSIE_MSG_VERDICT,
	SOSIE_MSG_DIFFERS,
	SOSIE_MSG_BYTES,
	SOSIE_MSG_SAME,
	SOSIE_MSG_PING,
	SOSIE_MSG_ERROR,
	SOSIE_MSG_BYE,
};

struct sosie_part_state {
	uint32_t index;
	uint64_t durable;
};
enum sosie_upload_kind { SOSIE_UPLOAD_SEGMENT = 1, SOSIE_UPLOAD_COMPARE = 2 };

/* Any message; blobs are borrowed from the frame that was parsed, or from the caller when encoding. */
struct sosie_message {
	enum sosie_message_type type;
	uint32_t request;
	union {
		struct {
			uint16_t lowest, highest;
			uint64_t capabilities;
			char software[64];
		} hello;
		struct {
			uint16_t version;
			uint64_t capabilities, time_ms;
			char software[64];
			struct sosie_store_id store;
			struct sosie_name tenant;
		} welcome;
		struct {
			struct sosie_name group;
		} head;
		struct {
			bool present, keeper;
			uint64_t time_ms;
			const void *blob;
			size_t len;
		} statement;
		struct {
			struct sosie_name group;
			enum sosie_upload_kind kind;
			struct sosie_digest parent;
			uint64_t epoch;
		} begin;
		struct {
			struct sosie_upload_id id;
			bool committed;
			uint32_t part_count;
			struct sosie_part_state *parts;
		} upload;
		/* parts: parsed: malloc'd, sosie_message_fini frees; encoded: the caller's */
		struct {
			struct sosie_name group;
			struct sosie_upload_id id;
		} join;
		struct {
			struct sosie_name group;
			struct sosie_upload_id id;
			uint32_t index;
		} part;
		struct {
			const void *bytes;
			size_t len;
		} data;
		struct {
			uint64_t written, durable;
		} ack;
		struct {
			uint64_t length;
		} part_end;
		struct {
			struct sosie_name group;
			struct sosie_upload_id id;
			const void *manifest;
			size_t len;
		} commit;
		struct {
			bool keeper;
		} durable;
		struct {
			struct sosie_name group;
			struct sosie_upload_id id;
			uint32_t ms;
		} wait;
		struct {
			bool present, keeper;
			const void *blob;
			size_t len;
		} verdict;
		struct {
			struct sosie_name group;
			struct sosie_upload_id id;
			uint64_t offset;
			uint32_t len;
		} differs;
		struct {
			uint64_t total;
			const void *blob;
			size_t len;
		} bytes;
		struct {
			const void *blob;
			size_t len;
		} same;
		struct sosie_err error;
	};
};

/* One session's framing over a channel: buffers of fixed size, counters. Borrowed channel. */
struct sosie_wire;
int sosie_wire_new(struct sosie_channel *ch, struct sosie_wire **out, struct sosie_err *err);
void sosie_wire_free(struct sosie_wire *w);
int sosie_wire_send(struct sosie_wire *w, const struct sosie_message *m, struct sosie_err *err);
/* The next message, waiting at most timeout_ms (as sosie_channel_recv): *got false when none came. Blobs are
 * good until the next recv. A frame or payload that is not allowed: SOSIE_EPROTO. The caller runs
 * sosie_message_fini. */
int sosie_wire_recv(struct sosie_wire *w, struct sosie_message *out, bool *got, int timeout_ms,
                    struct sosie_err *err);
void sosie_message_fini(struct sosie_message *m);
uint64_t sosie_wire_sent(const struct sosie_wire *w); /* bytes of frames, before SSH */
uint64_t sosie_wire_received(const struct sosie_wire *w);
const char *sosie_message_name(enum sosie_message_type type);

/* For tests and fuzzing: one frame's payload to and from bytes. */
int sosie_message_encode(const struct sosie_message *m, void *buf, size_t size, size_t *len,
                         struct sosie_err *err);
int sosie_message_parse(enum sosie_message_type type, const void *payload, size_t len,
                        struct sosie_message *out, struct sosie_err *err);

/* --- the source's end: a session with requests that wait for their answers
 * --------------------------------------------- */
struct sosie_session;
/* Opens a channel, says hello, checks the answer. */
int sosie_session_open(struct sosie_connector *c, struct sosie_clock *clock, const char *software,
                       struct sosie_session **out, struct sosie_err *err);
void sosie_session_close(struct sosie_session *s); /* says bye when it can; NULL is fine */
struct sosie_session_info {
	struct sosie_store_id store;
	struct sosie_name tenant;
	uint64_t capabilities;
	int64_t standby_ms,
	        mono_ms; /* the standby's clock in its last message that named it, and ours then */
	uint64_t sent, received;
};
void sosie_session_info(const struct sosie_session *s, struct sosie_session_info *out);
/* Errors told by the receiver come back with their code, what and action; those that end the session make
 * every later call fail with SOSIE_EPEER. */
/* *text malloc'd with a NUL behind it, NULL when the standby has none; the caller frees. */
int sosie_session_head(struct sosie_session *s, const char *group, char **text, size_t *len, bool *keeper,
                       struct sosie_err *err);
int sosie_session_begin(struct sosie_session *s, const char *group, enum sosie_upload_kind kind,
                        const struct sosie_digest *parent, uint64_t epoch, struct sosie_upload_id *out,
                        struct sosie_err *err);
/* parts malloc'd, the caller frees. SOSIE_ENOTFOUND: no such upload. */
int sosie_session_join(struct sosie_session *s, const char *group, const struct sosie_upload_id *id,
                       bool *committed, struct sosie_part_state **parts, uint32_t *count,
                       struct sosie_err *err);
int sosie_session_part(struct sosie_session *s, const char *group, const struct sosie_upload_id *id,
                       uint32_t index, struct sosie_err *err);
/* Streams into the open part; looks at acks that came; SOSIE_ETIMEOUT when none came for the stall limit
 * though due (a rekey while a write is pending can stall it for ever). */
int sosie_session_data(struct sosie_session *s, const void *data, size_t len, struct sosie_err *err);
/* Bytes of the open part known to be durable. */
uint64_t sosie_session_durable(const struct sosie_session *s);
int sosie_session_part_end(struct sosie_session *s, uint64_t length, struct sosie_err *err);
int sosie_session_commit(struct sosie_session *s, const char *group, const struct sosie_upload_id *id,
                         const void *manifest, size_t len, bool *keeper, struct sosie_err *err);
/* *text NULL when no verdict came within ms. */
int sosie_session_wait(struct sosie_session *s, const char *group, const struct sosie_upload_id *id,
                       uint32_t ms, char **text, size_t *len, bool *keeper, struct sosie_err *err);
/* The whole differs file, malloc'd; at most max bytes. */
int sosie_session_differs(struct sosie_session *s, const char *group, const struct sosie_upload_id *id,
                          size_t max, void **out, size_t *len, struct sosie_err *err);
int sosie_session_same(struct sosie_session *s, const void *text, size_t len, bool *keeper,
                       struct sosie_err *err);
int sosie_session_ping(struct sosie_session *s, struct sosie_err *err);

/* --- the receiver's end
 * ------------------------------------------------------------------------------------------------ */
#include "sosie/inbox.h"
struct sosie_serve_options {
	struct sosie_clock *clock;
	const char *software;
	uint32_t hello_ms, idle_ms; /* 30,000 and 300,000 */
	const bool *stop;
};
/* Runs one session until it ends. 0: ended by bye or by the peer's close between requests. inbox is borrowed.
 */
int sosie_serve(struct sosie_channel *ch, struct sosie_inbox *inbox,
                const struct sosie_serve_options *options, struct sosie_err *err);
/* Where no inbox could be opened: answers the peer's hello with why, so that it knows whether to try again.
 * Never fails loudly. */
void sosie_serve_refusal(struct sosie_channel *ch, const struct sosie_serve_options *options,
                         const struct sosie_err *why);

#endif

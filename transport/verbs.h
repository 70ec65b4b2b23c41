/* SPDX-License-Identifier: MIT */
/* Which message a receiver takes in which state (docs/protocol.md, "Session"), and which errors a session
 * survives. */
#ifndef TRANSPORT_VERBS_H
#define TRANSPORT_VERBS_H

#include "sosie/message.h"

#define VERBS_TYPE_MAX 22u
#define ACK_EVERY (8u << 20)   /* bytes of data between two acks, at most */
#define SYNC_EVERY (64u << 20) /* bytes of data between two fsyncs of a part, at most */

enum serve_state { SERVE_NEW, SERVE_OPEN, SERVE_PART, SERVE_END };
#define SERVE_STATES 4u

bool verbs_allowed(enum serve_state state, enum sosie_message_type type);
const char *verbs_state_name(enum serve_state state);
/* True when an answer with that error leaves the session usable: both ends must agree. */
bool verbs_survives(enum sosie_code code);

/* transport/frame.c: bytes of a frame that is not whole yet are in the buffer. */
bool wire_is_partial(const struct sosie_wire *w);

#endif

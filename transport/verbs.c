/* SPDX-License-Identifier: MIT */
/*
 *            hello                 part
 *   ( new ) ───────→ ( open ) ───────────→ ( part )
 *                      │  ↑ ←─────────────  │  data, head, ping stay
 *                      │  └ part-end        │
 *                  bye └────→ ( end ) ←─────┘ bye, error
 *
 * Fail closed: a type that is not in a state's row ends the session.
 */
#include "verbs.h"

#define BIT(type) (1u << (type))

static const uint32_t allowed[SERVE_STATES] = {
        [SERVE_NEW] = BIT(SOSIE_MSG_HELLO),
        [SERVE_OPEN] = BIT(SOSIE_MSG_HEAD) | BIT(SOSIE_MSG_BEGIN) | BIT(SOSIE_MSG_JOIN) |
                       BIT(SOSIE_MSG_PART) | BIT(SOSIE_MSG_COMMIT) | BIT(SOSIE_MSG_WAIT) |
                       BIT(SOSIE_MSG_DIFFERS) | BIT(SOSIE_MSG_SAME) | BIT(SOSIE_MSG_PING) |
                       BIT(SOSIE_MSG_BYE),
        [SERVE_PART] = BIT(SOSIE_MSG_HEAD) | BIT(SOSIE_MSG_DATA) | BIT(SOSIE_MSG_PART_END) |
                       BIT(SOSIE_MSG_PING) | BIT(SOSIE_MSG_BYE),
        [SERVE_END] = 0,
};

bool verbs_allowed(enum serve_state state, enum sosie_message_type type)
{
	return type >= 1 && (unsigned)type <= VERBS_TYPE_MAX && (allowed[state] & BIT(type));
}

const char *verbs_state_name(enum serve_state state)
{
	static const char *const names[SERVE_STATES] = {"new", "open", "part", "end"};
	return names[state];
}

bool verbs_survives(enum sosie_code code)
{
	switch (code) {
	case SOSIE_ENOTFOUND:
	case SOSIE_EQUOTA:
	case SOSIE_EBUSY:
	case SOSIE_ENOSPACE:
	case SOSIE_ENAME:
	case SOSIE_EEXISTS:
		return true;
	default:
		return false;
	}
}

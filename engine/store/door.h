/* SPDX-License-Identifier: MIT */
/* One file or folder of the store against what it should be (sosie/door.h), for engine/store/check.c. */
#ifndef SOSIE_STORE_DOOR_H
#define SOSIE_STORE_DOOR_H

#include <sys/stat.h>

#include "engine/store/core.h"
#include "sosie/door.h"

enum door_rule {
	DOOR_STORE,
	DOOR_STORE_JSON,
	DOOR_OWN_FILE, /* for the keeper alone: locks, policies, alarms */
	DOOR_TENANT,
	DOOR_TENANT_JSON,
	DOOR_INBOX,
	DOOR_BELL,
	DOOR_INBOX_GROUP,
	DOOR_INBOX_FILE,
	DOOR_OUTBOX, /* and _keys, and the groups' folders in _outbox */
	DOOR_OUTBOX_FILE,
	DOOR_GROUP,
	DOOR_GROUP_DIR,
	DOOR_GROUP_FILE,
	DOOR_SECRET,    /* a private key */
	DOOR_OTHER_DIR, /* what is not ours: nobody else may change it */
	DOOR_OTHER_FILE,
};

/* The check under way. */
struct door {
	struct sosie_store *store;
	struct sosie_check *check;
	uid_t keeper;
	gid_t keeper_group;
	/* Of the tenant that is looked at. */
	bool apart; /* its receivers have a user of their own, which exists */
	uid_t user;
	gid_t group;
};

/* mend is printf's; the finding is counted and told. */
void door_found(struct door *d, const char *code, const char *path, bool mended, const char *what,
                const char *mend, ...) __attribute__((format(printf, 6, 7)));
/* The path as a shell takes it: between single quotes where it needs them. */
const char *door_quote(char dst[2 * STORE_PATH], const char *path);
/*
 * Looks at name in the folder dir (a descriptor), which is path in full. A descriptor (O_PATH) of what is
 * there and of the kind that the rule wants, to be closed; -1: it is not there (optional), or is something
 * else.
 */
int door_look(struct door *d, int dir, const char *name, const char *path, enum door_rule rule,
              bool optional);

#endif

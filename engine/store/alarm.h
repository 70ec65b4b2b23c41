/* SPDX-License-Identifier: MIT */
/* What alarm.c and alarm_file.c share: the alarms of one place (the store, a tenant, a group) and their file.
 */
#ifndef SOSIE_STORE_ALARM_H
#define SOSIE_STORE_ALARM_H

#include "engine/store/core.h"
#include "sosie/alarm.h"

#define ALARM_LIST_MAX (SOSIE_ALARM_KINDS + SOSIE_ALARMS_CLOSED)

struct held_alarm {
	struct sosie_alarm a;
	uint64_t unsaved; /* of a.count: not in the file yet */
};

/* One place, as its file was when this process looked last. At most one open alarm of each kind; in the order
 * of their numbers. */
struct alarm_place {
	struct alarm_place *next;
	struct sosie_name tenant, group;
	bool there, damaged; /* the file; damaged: it was kept aside, and that was not told yet */
	uint64_t ino, size;
	int64_t ctime_ns;
	uint64_t next_number; /* in the store's own file */
	unsigned count;
	struct held_alarm *list; /* count of them; NULL: none */
	int64_t unsaved_ms;      /* monotonic: since when there is something unsaved, 0: nothing */
};
struct alarm_book {
	struct alarm_place *places, **end;
	struct alarm_place *found; /* last: places are looked at in turn, the next is behind it */
	uint64_t version;
};

/* The place's memo, made when there is none. */
int alarm_place_get(struct sosie_store *store, const char *tenant, const char *group,
                    struct alarm_place **out, struct sosie_err *err);
/* Reads the file again where it has changed; what is unsaved is kept. SOSIE_ECORRUPT: it is damaged. */
int alarm_place_read(struct sosie_store *store, struct alarm_place *p, struct sosie_err *err);
/* Under the lock: the same, and a file that is damaged is kept aside as alarms.json.damaged. */
int alarm_place_ready(struct sosie_store *store, struct alarm_place *p, struct sosie_err *err);
/* Under the lock, durable; forgets the oldest closed ones above SOSIE_ALARMS_CLOSED. */
int alarm_place_write(struct sosie_store *store, struct alarm_place *p, struct sosie_err *err);
/* Adds an open alarm at the end; borrowed until the next change. NULL: no memory. */
struct held_alarm *alarm_place_add(struct alarm_place *p, uint64_t number, enum sosie_alarm_kind kind);
struct held_alarm *alarm_place_open(const struct alarm_place *p, enum sosie_alarm_kind kind); /* NULL: none */
/* The lock over all files of alarms. Closing *lock lets it go. */
int alarm_lock(struct sosie_store *store, struct sosie_file **lock, struct sosie_err *err);
void alarm_book_free(struct sosie_store *store);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Whose upload is next. Tenants take turns, and within a tenant its groups do: one upload a turn. So whatever
 * a tenant has waiting, another's upload waits for one step at most for each other tenant that has something.
 */
#ifndef TOOLS_KEEPER_TURNS_H
#define TOOLS_KEEPER_TURNS_H

#include <stdbool.h>
#include <stdint.h>

#include "sosie/err.h"
#include "sosie/names.h"

struct watched_group {
	struct watched_group *next;
	struct sosie_name name;
	bool due;                   /* something is there to be taken, or was when last looked at */
	int64_t retry_ms, delay_ms; /* not before; 0: at once */
	int64_t touched_ms;         /* last acceptance; 0: settled */
	int64_t told_ms;            /* when a refusal was logged last */
	unsigned untold;            /* refusals since */
	bool unwatched;             /* watching it failed, and that was logged */
	enum sosie_code not_pruned; /* why, as told last */
};
struct watched_tenant {
	struct watched_tenant *next;
	struct sosie_name name;
	int fifo; /* -1: none */
	struct watched_group *groups;
	struct watched_group *served; /* the last one; NULL: none yet */
	bool look;                    /* its inbox has to be looked at */
	int64_t retry_ms;             /* its limits let it have no turn before; 0: they do */
	bool same_due;                /* poked since the last look for "same" */
	int64_t same_ms;              /* the next look, at the earliest */
};
struct turns {
	struct watched_tenant *tenants;
	struct watched_tenant *served; /* the last one; NULL: none yet */
};

/* The tenant whose turn it is, marked as served: one whose inbox has to be looked at, or that has a group for
 * turns_group. NULL: none has anything now. */
struct watched_tenant *turns_tenant(struct turns *t, int64_t now_ms);
/* Its group whose turn it is, marked as served; NULL: none has anything now. */
struct watched_group *turns_group(struct watched_tenant *t, int64_t now_ms);
/* When the next turn may be taken that cannot be now: at most limit_ms. */
int64_t turns_next_ms(const struct turns *t, int64_t limit_ms);

#endif

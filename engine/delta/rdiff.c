/* SPDX-License-Identifier: MIT */
/*
 * The parent of the child that runs librsync (sosie/child.h): what is asked, budgets, what is taken.
 *
 * Invariants:
 *  - Nothing is taken from the area before it was copied, and no length beyond the request's own bound.
 *  - What a request costs is bounded by its budget; what many cost, by the debt: processor time beyond the
 *    allowance of each adds up, an end counts as a whole budget, and above the limit the next requests are
 *    answered "none" without the child. So three ends in a row cost REST requests, each further one REST
 *    more, and content that is slow all the time is held to the allowance.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "engine/delta/rdiff_internal.h"

#define MS INT64_C(1000000)     /* ns */
#define BUDGET (150 * MS)       /* processor time of a request */
#define ALLOWANCE (50 * MS)     /* of it free of debt: 1 MiB takes 2 to 15 ms */
#define DEBT_LIMIT (3 * BUDGET) /* then REST requests are refused */
#define REST 64u                /* requests */

static_assert(RDIFF_SIGNATURE_MAX <= RDIFF_REGION, "a signature fits into the area's out");

static const struct sosie_child_kind kind = {
        .name = "sosie-rdiff",
        .area_bytes = sizeof(struct rdiff_area),
        .memory_bytes = 64u << 20,
        .wall_ns = 2000 * MS,
        .cpu_ns = BUDGET,
        .run = rdiff_child_run,
};

struct purse {
	int64_t debt;  /* ns, at least 0 */
	unsigned rest; /* requests still to be refused */
};

struct rdiff {
	struct sosie_child *child;
	struct purse purse[RDIFF_OPS]; /* apart: signatures that succeed pay nothing of what deltas cost */
	uint64_t refused;
};

/* --- the object
 * ------------------------------------------------------------------------------------------------- */

int rdiff_new(struct rdiff **out, struct sosie_err *err)
{
	struct rdiff *r = calloc(1, sizeof(*r));
	int rc;

	*out = NULL;
	if (!r)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for librsync");
	rc = sosie_child_new(&kind, &r->child, err);
	if (rc != 0) {
		free(r);
		return rc;
	}
	*out = r;
	return 0;
}

void rdiff_idle(struct rdiff *r)
{
	sosie_child_idle(r->child);
}

void rdiff_free(struct rdiff *r)
{
	if (!r)
		return;
	sosie_child_free(r->child);
	free(r);
}

void rdiff_counters(const struct rdiff *r, struct rdiff_counters *out)
{
	*out = (struct rdiff_counters){.child = sosie_child_pid(r->child),
	                               .started = sosie_child_started(r->child),
	                               .refused = r->refused};
}

/* --- budgets
 * ---------------------------------------------------------------------------------------------------- */

static void charge(struct purse *p, int64_t ns)
{
	p->debt += ns;
	if (p->debt < 0)
		p->debt = 0;
	if (p->debt >= DEBT_LIMIT) {
		p->rest = REST;
		p->debt = DEBT_LIMIT - BUDGET; /* after the rest, one end more is enough */
	}
}

/* Asks the child; bytes that now lie in the area's out, 0 when nothing came of it. The caller has filled the
 * area's in and sig. */
static size_t ask(struct rdiff *r, struct sosie_child_message *m)
{
	struct purse *p = &r->purse[m->word[RDIFF_WORD_OP]];
	const int64_t began = sosie_child_cpu_ns(r->child);
	const uint32_t room = m->word[RDIFF_WORD_ROOM];

	if (sosie_child_ask(r->child, m) != SOSIE_CHILD_ANSWERED || m->word[RDIFF_WORD_OUT_LEN] > room) {
		sosie_child_end(r->child);
		charge(p, BUDGET);
		return 0;
	}
	charge(p, sosie_child_cpu_ns(r->child) - began - ALLOWANCE);
	return m->word[RDIFF_WORD_OUT_LEN];
}

/* The area when the child may be asked now, else NULL. */
static struct rdiff_area *may_ask(struct rdiff *r, enum rdiff_op op)
{
	struct purse *p = &r->purse[op];
	struct rdiff_area *area;

	if (p->rest > 0) {
		p->rest--;
		r->refused++;
		return NULL;
	}
	area = sosie_child_area(r->child);
	if (!area)
		charge(p, BUDGET);
	return area;
}

/* An answer that is none: the child is not what it was. */
static void distrust(struct rdiff *r, enum rdiff_op op)
{
	sosie_child_end(r->child);
	charge(&r->purse[op], BUDGET);
}

/* Out of the area, before it is looked at. */
static void take(const struct rdiff *r, void *dst, size_t len)
{
	sosie_child_take(r->child, offsetof(struct rdiff_area, out), dst, len);
}

/* --- what is made
 * ----------------------------------------------------------------------------------------------- */

static int check_region(size_t len, struct sosie_err *err)
{
	if (len == 0 || len > RDIFF_REGION)
		return sosie_err_set(err, SOSIE_EINTERNAL, "region of %zu bytes for librsync", len);
	return 0;
}

int rdiff_signature(struct rdiff *r, const void *region, size_t len, uint8_t sig[RDIFF_SIGNATURE_MAX],
                    size_t *sig_len, struct sosie_err *err)
{
	struct sosie_child_message m = {.word = {[RDIFF_WORD_OP] = RDIFF_OP_SIGNATURE,
	                                         [RDIFF_WORD_IN_LEN] = (uint32_t)len,
	                                         [RDIFF_WORD_ROOM] = RDIFF_SIGNATURE_MAX}};
	struct rdiff_area *area;
	size_t blocks = (len + RDIFF_BLOCK - 1) / RDIFF_BLOCK, made;
	int rc = check_region(len, err);

	*sig_len = 0;
	if (rc != 0 || !(area = may_ask(r, RDIFF_OP_SIGNATURE)))
		return rc;
	memcpy(area->in, region, len);
	made = ask(r, &m);
	if (made == 0)
		return 0;
	take(r, sig, made);
	if (made == RDIFF_SIGNATURE_HEADER + blocks * (4 + RDIFF_STRONG) && rdiff_signature_fits(sig, made))
		*sig_len = made;
	else
		distrust(r, RDIFF_OP_SIGNATURE);
	return 0;
}

int rdiff_delta(struct rdiff *r, const uint8_t *sig, size_t sig_len, const void *plain, size_t plain_len,
                void *dst, size_t room, size_t *len, struct sosie_err *err)
{
	struct sosie_child_message m = {
	        .word = {[RDIFF_WORD_OP] = RDIFF_OP_DELTA,
	                 [RDIFF_WORD_IN_LEN] = (uint32_t)plain_len,
	                 [RDIFF_WORD_SIG_LEN] = (uint32_t)sig_len,
	                 [RDIFF_WORD_ROOM] = room < RDIFF_REGION ? (uint32_t)room : RDIFF_REGION}};
	struct rdiff_area *area;
	size_t made, basis_max;
	int rc = check_region(plain_len, err);

	*len = 0;
	if (rc != 0 || !rdiff_signature_fits(sig, sig_len) || !(area = may_ask(r, RDIFF_OP_DELTA)))
		return rc;
	memcpy(area->in, plain, plain_len);
	memcpy(area->sig, sig, sig_len);
	made = ask(r, &m);
	if (made == 0)
		return 0;
	take(r, dst, made);
	basis_max = (sig_len - RDIFF_SIGNATURE_HEADER) / (4 + RDIFF_STRONG) * RDIFF_BLOCK;
	if (rdiff_literals_match(dst, made, basis_max, plain, plain_len))
		*len = made;
	else
		distrust(r, RDIFF_OP_DELTA);
	return 0;
}

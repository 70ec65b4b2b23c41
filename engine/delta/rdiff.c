/* SPDX-License-Identifier: MIT */
/*
 * The parent of the child that runs librsync: start, questions and answers, limits.
 *
 * Invariants:
 *  - Without an area there is no child.
 *  - child is 0 or an unreaped child of ours, and then socket is open. Whatever is not the one expected
 *    answer in time ends it, by SIGKILL, and reaps it: no zombie, no late answer.
 *  - Nothing is taken from the area before it was copied, and no length beyond the request's own bound.
 *  - What a request costs is bounded by its budget; what many cost, by the debt: processor time beyond the
 *    allowance of each adds up, an end counts as a whole budget, and above the limit the next requests are
 *    answered "none" without the child. So three ends in a row cost REST requests, each further one REST
 *    more, and content that is slow all the time is held to the allowance.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "engine/delta/rdiff_internal.h"
#include "sosie/sandbox.h"
#include "sosie/thread.h"

#define MS INT64_C(1000000)      /* ns */
#define WALL_LIMIT (2000 * MS)   /* of a request, and of a start */
#define BUDGET (150 * MS)        /* processor time of a request */
#define ALLOWANCE (50 * MS)      /* of it free of debt: 1 MiB takes 2 to 15 ms */
#define DEBT_LIMIT (3 * BUDGET)  /* then REST requests are refused */
#define REST 64u                 /* requests */
#define CHILD_MEMORY (64u << 20) /* beyond what it was forked with */

static_assert(RDIFF_SIGNATURE_MAX <= RDIFF_REGION, "a signature fits into the area's out");

struct purse {
	int64_t debt;  /* ns, at least 0 */
	unsigned rest; /* requests still to be refused */
};

struct rdiff {
	struct rdiff_area *area; /* shared, NULL when idle; no fork inherits it: the child maps area_fd */
	int area_fd;
	int socket;
	pid_t child;
	uint32_t number;               /* of the last request */
	struct purse purse[RDIFF_OPS]; /* apart: signatures that succeed pay nothing of what deltas cost */
	uint64_t started, refused;
};

/* --- the object
 * ------------------------------------------------------------------------------------------------- */

int rdiff_new(struct rdiff **out, struct sosie_err *err)
{
	struct rdiff *r = calloc(1, sizeof(*r));

	*out = NULL;
	if (!r)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for librsync");
	r->area_fd = -1;
	r->socket = -1;
	*out = r;
	return 0;
}

/* Sealed, so that no child can cut it off under the parent's eyes (SIGBUS). */
static bool map_area(struct rdiff *r)
{
	void *area;

	r->area_fd = memfd_create("sosie-rdiff", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (r->area_fd < 0 || ftruncate(r->area_fd, sizeof(*r->area)) != 0 ||
	    fcntl(r->area_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
		return false;
	area = mmap(NULL, sizeof(*r->area), PROT_READ | PROT_WRITE, MAP_SHARED, r->area_fd, 0);
	if (area == MAP_FAILED)
		return false;
	r->area = area;
	return madvise(area, sizeof(*r->area), MADV_DONTFORK) == 0;
}

static void unmap_area(struct rdiff *r)
{
	if (r->area)
		munmap(r->area, sizeof(*r->area));
	if (r->area_fd >= 0)
		close(r->area_fd);
	r->area = NULL;
	r->area_fd = -1;
}

static void end_child(struct rdiff *r)
{
	if (r->child > 0) {
		close(r->socket);
		kill(r->child, SIGKILL);
		while (waitpid(r->child, NULL, 0) < 0 && errno == EINTR)
			;
	}
	r->socket = -1;
	r->child = 0;
}

void rdiff_idle(struct rdiff *r)
{
	end_child(r);
	unmap_area(r);
}

void rdiff_free(struct rdiff *r)
{
	if (!r)
		return;
	rdiff_idle(r);
	free(r);
}

void rdiff_counters(const struct rdiff *r, struct rdiff_counters *out)
{
	*out = (struct rdiff_counters){.child = r->child, .started = r->started, .refused = r->refused};
}

/* --- time
 * ------------------------------------------------------------------------------------------------------- */

static int64_t clock_ns(clockid_t clock)
{
	struct timespec t;

	if (clock_gettime(clock, &t) != 0)
		return -1;
	return (int64_t)t.tv_sec * 1000 * MS + t.tv_nsec;
}

/* Processor time that the child has used, -1 when it cannot be told. */
static int64_t child_ns(const struct rdiff *r)
{
	clockid_t clock;

	return clock_getcpuclockid(r->child, &clock) == 0 ? clock_ns(clock) : -1;
}

/* When a wait ends. */
struct limits {
	int64_t wall_end;  /* monotonic ns */
	int64_t child_end; /* the child's processor ns */
};

/* Milliseconds, at least 1, in which neither limit can be passed; 0: one is. */
static int may_wait_ms(const struct rdiff *r, const struct limits *l)
{
	int64_t used = child_ns(r), wall = l->wall_end - clock_ns(CLOCK_MONOTONIC);
	int64_t left = l->child_end - used;

	left = wall < left ? wall : left;
	if (used < 0 || left <= 0)
		return 0;
	return (int)(left / MS) + 1;
}

/* --- talking
 * ---------------------------------------------------------------------------------------------------- */

static bool await(const struct rdiff *r, const struct limits *l, struct rdiff_reply *reply)
{
	struct pollfd p = {.fd = r->socket, .events = POLLIN};

	for (;;) {
		int ms = may_wait_ms(r, l), ready = ms > 0 ? poll(&p, 1, ms) : -1;

		if (ms == 0 || (ready < 0 && errno != EINTR))
			return false;
		if (ready > 0)
			return recv(r->socket, reply, sizeof(*reply), MSG_DONTWAIT | MSG_TRUNC) ==
			       (ssize_t)sizeof(*reply);
	}
}

static noreturn void run_child(int area_fd, int socket, pid_t parent)
{
	void *area = mmap(NULL, sizeof(struct rdiff_area), PROT_READ | PROT_WRITE, MAP_SHARED, area_fd, 0);
	const struct sosie_sandbox rules = {.parent = parent,
	                                    .keep = &socket,
	                                    .keep_count = 1,
	                                    .shared = area,
	                                    .shared_bytes = sizeof(struct rdiff_area),
	                                    .memory_bytes = CHILD_MEMORY};
	struct sosie_err err;

	if (area == MAP_FAILED || sosie_sandbox_enter(&rules, &err) != 0)
		_exit(1);
	rdiff_child_loop(socket, area);
}

/* Its signals are blocked until they are reset there. The child ends with the thread that forked it
 * (PR_SET_PDEATHSIG); if another uses the object later, that costs a new start. */
static pid_t fork_child(const struct rdiff *r, int socket)
{
	pid_t parent = getpid(), child = sosie_fork();

	if (child == 0)
		run_child(r->area_fd, socket, parent);
	return child;
}

static bool start_child(struct rdiff *r)
{
	const struct limits limits = {.wall_end = clock_ns(CLOCK_MONOTONIC) + WALL_LIMIT,
	                              .child_end = INT64_MAX};
	struct rdiff_reply ready;
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
		return false;
	r->child = fork_child(r, pair[1]);
	close(pair[1]);
	r->socket = pair[0];
	if (r->child < 0) {
		close(r->socket);
		r->socket = -1;
		r->child = 0;
		return false;
	}
	r->started++;
	return await(r, &limits, &ready) && ready.number == 0;
}

/* True with the length of what now lies in the area's out; *used: processor time that it took. */
static bool talk(struct rdiff *r, const struct rdiff_request *request, size_t *out_len, int64_t *used)
{
	struct limits limits = {.wall_end = clock_ns(CLOCK_MONOTONIC) + WALL_LIMIT};
	int64_t began = child_ns(r);
	struct rdiff_reply reply;

	limits.child_end = began + BUDGET;
	if (began < 0 || send(r->socket, request, sizeof(*request), MSG_NOSIGNAL | MSG_DONTWAIT) !=
	                         (ssize_t)sizeof(*request))
		return false;
	if (!await(r, &limits, &reply) || reply.number != request->number || reply.out_len > request->room)
		return false;
	*out_len = reply.out_len;
	*used = child_ns(r);
	*used = *used < began ? BUDGET : *used - began; /* cannot be told: it answered and died */
	return true;
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

/* Asks the child, started when there is none; 0 when nothing came of it. The caller has filled the area's in
 * and sig. */
static size_t ask(struct rdiff *r, struct rdiff_request *request)
{
	struct purse *p = &r->purse[request->op];
	size_t len = 0;
	int64_t used = 0;

	request->number = ++r->number;
	if (r->number == 0) /* 0 is the child's first word */
		request->number = ++r->number;
	if ((r->child == 0 && !start_child(r)) || !talk(r, request, &len, &used)) {
		end_child(r);
		charge(p, BUDGET);
		return 0;
	}
	charge(p, used - ALLOWANCE);
	return len;
}

/* Whether the child may be asked now; then the area is there. */
static bool may_ask(struct rdiff *r, enum rdiff_op op)
{
	struct purse *p = &r->purse[op];

	if (p->rest > 0) {
		p->rest--;
		r->refused++;
		return false;
	}
	if (r->area || map_area(r))
		return true;
	unmap_area(r);
	charge(p, BUDGET);
	return false;
}

/* An answer that is none: the child is not what it was. */
static void distrust(struct rdiff *r, enum rdiff_op op)
{
	end_child(r);
	charge(&r->purse[op], BUDGET);
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
	struct rdiff_request request = {
	        .op = RDIFF_OP_SIGNATURE, .in_len = (uint32_t)len, .room = RDIFF_SIGNATURE_MAX};
	size_t blocks = (len + RDIFF_BLOCK - 1) / RDIFF_BLOCK, made;
	int rc = check_region(len, err);

	*sig_len = 0;
	if (rc != 0 || !may_ask(r, RDIFF_OP_SIGNATURE))
		return rc;
	memcpy(r->area->in, region, len);
	made = ask(r, &request);
	if (made == 0)
		return 0;
	memcpy(sig, r->area->out, made);
	if (made == RDIFF_SIGNATURE_HEADER + blocks * (4 + RDIFF_STRONG) && rdiff_signature_fits(sig, made))
		*sig_len = made;
	else
		distrust(r, RDIFF_OP_SIGNATURE);
	return 0;
}

int rdiff_delta(struct rdiff *r, const uint8_t *sig, size_t sig_len, const void *plain, size_t plain_len,
                void *dst, size_t room, size_t *len, struct sosie_err *err)
{
	struct rdiff_request request = {.op = RDIFF_OP_DELTA,
	                                .in_len = (uint32_t)plain_len,
	                                .sig_len = (uint32_t)sig_len,
	                                .room = room < RDIFF_REGION ? (uint32_t)room : RDIFF_REGION};
	size_t made, basis_max;
	int rc = check_region(plain_len, err);

	*len = 0;
	if (rc != 0 || !rdiff_signature_fits(sig, sig_len) || !may_ask(r, RDIFF_OP_DELTA))
		return rc;
	memcpy(r->area->in, plain, plain_len);
	memcpy(r->area->sig, sig, sig_len);
	made = ask(r, &request);
	if (made == 0)
		return 0;
	memcpy(dst, r->area->out, made);
	basis_max = (sig_len - RDIFF_SIGNATURE_HEADER) / (4 + RDIFF_STRONG) * RDIFF_BLOCK;
	if (rdiff_literals_match(dst, made, basis_max, plain, plain_len))
		*len = made;
	else
		distrust(r, RDIFF_OP_DELTA);
	return 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * Disposable children: processes that compute over hostile bytes for their parent, in the sandbox
 * (sosie/sandbox.h), over one piece of memory that both have mapped (the area) and a socket that keeps the
 * borders of small messages of one size. Whatever is not the one expected answer in time ends the child; the
 * next question starts another, so that question and answer never lose step.
 *
 * The child may write to the area at any time: its parent copies out what it was told, within bounds of its
 * own, and judges the copy (sosie_child_take). A child that its bytes have taken over can still read the
 * memory that it was forked with, and compute until its limits end it: what it says must not travel further
 * unjudged.
 *
 * One object belongs to one thread at a time. A child ends with the thread that forked it; the next question
 * from another then costs a start.
 */
#ifndef SOSIE_CHILD_H
#define SOSIE_CHILD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "sosie/err.h"

#define SOSIE_CHILD_WORDS 6u

/* Question and answer. What the words mean is the kind's own. */
struct sosie_child_message {
	uint32_t number; /* of the question, 1 and up; 0: the child is ready for the first */
	uint32_t word[SOSIE_CHILD_WORDS];
};

struct sosie_child_kind {
	const char *name;        /* of the shared memory: "sosie-rdiff" */
	size_t area_bytes;       /* of the area */
	uint64_t memory_bytes;   /* address space of the child beyond what it was forked with */
	int64_t wall_ns, cpu_ns; /* what a question may take; a start: the first of them. The second is looked
	                            at each SOSIE_CHILD_TICK_MS, so that much more may be used */
	/* The child's life, after the sandbox is entered; the child ends when it returns. */
	void (*run)(int socket, void *area);
};
#define SOSIE_CHILD_TICK_MS 20

enum sosie_child_result {
	SOSIE_CHILD_ANSWERED,
	SOSIE_CHILD_DIED,     /* by a signal or exit of its own: what it computed over may have done that */
	SOSIE_CHILD_BUSY,     /* its processor time is used up */
	SOSIE_CHILD_NONSENSE, /* what it said is no answer to this question */
	SOSIE_CHILD_SILENT,   /* no answer in time, though it did not compute: it or the machine hangs */
	SOSIE_CHILD_KILLED,   /* by a signal that the sandbox does not let it send: somebody from outside, or
	                         the   kernel for want of memory */
	SOSIE_CHILD_NONE,     /* none could be started: no memory, no process, no sandbox */
};

struct sosie_child;
/* kind is borrowed. Nothing is started or mapped yet. */
int sosie_child_new(const struct sosie_child_kind *kind, struct sosie_child **out, struct sosie_err *err);
void sosie_child_free(struct sosie_child *c); /* ends the child; NULL is fine */
/* The area, mapped (zeroed) when it was not; good until sosie_child_idle. NULL: no memory. No other child
 * inherits it. */
void *sosie_child_area(struct sosie_child *c);
/* Forks a child when there is none, without waiting for it; true: there is one. */
bool sosie_child_start(struct sosie_child *c);
/* Asks the child, started when there is none, and waits: m->word are the question's, then the answer's. The
 * caller has filled the area. After any other result than ANSWERED the child is ended and reaped. */
enum sosie_child_result sosie_child_ask(struct sosie_child *c, struct sosie_child_message *m);
/* How long the last question's answer was waited for; 0: less than a tick. Time in which this process did not
 * run either (a machine that was suspended) does not count. */
int64_t sosie_child_waited_ms(const struct sosie_child *c);
/* Copies len bytes from the area's offset, so that no later write of the child's can change them. */
void sosie_child_take(const struct sosie_child *c, size_t offset, void *dst, size_t len);
void sosie_child_end(struct sosie_child *c);  /* by SIGKILL, reaped; none is fine */
void sosie_child_idle(struct sosie_child *c); /* the same, and gives back the area and descriptors */
/* Processor time of all its children so far, ns: never less than before. */
int64_t sosie_child_cpu_ns(struct sosie_child *c);
/* The words for a result that is not ANSWERED, of the last question: "ended by signal 11". Returns dst. */
const char *sosie_child_text(const struct sosie_child *c, enum sosie_child_result result, char *dst,
                             size_t size);

/* The child that runs now, 0 when none does, and how many were started: for tests and counters. */
pid_t sosie_child_pid(const struct sosie_child *c);
uint64_t sosie_child_started(const struct sosie_child *c);

/* For run: says that it is ready, then answers in place until the other end is closed. */
void sosie_child_serve(int socket, void *area,
                       void (*answer)(void *arg, void *area, struct sosie_child_message *m), void *arg);

#endif

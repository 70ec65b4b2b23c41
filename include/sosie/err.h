/* SPDX-License-Identifier: MIT */
/*
 * Errors: every function that can fail returns 0 or a negative enum sosie_code, and says the rest in an error
 * object that the caller owns. The object never allocates, so running out of memory can be told too.
 *
 * A message names the thing and the reason (what), the place (where) and the way out (action). Whoever
 * decides logs or prints it, once; libraries only fill it in.
 */
#ifndef SOSIE_ERR_H
#define SOSIE_ERR_H

#include <stdbool.h>
#include <stddef.h>

/* What a failure means for whoever called; drives retry loops and exit codes. */
enum sosie_class {
	SOSIE_CLASS_NONE,     /* no error */
	SOSIE_CLASS_USAGE,    /* the command line is wrong: exit 2 */
	SOSIE_CLASS_RETRY,    /* the same call may succeed later: exit 4 */
	SOSIE_CLASS_FATAL,    /* corrupt, protocol, I/O: exit 1 */
	SOSIE_CLASS_OPERATOR, /* a person must decide: exit 3 */
};

/* Codes are never renamed or renumbered: their names are part of --json. New ones go to the end of their row.
 */
#define SOSIE_CODES(X)                                                                                       \
	X(SOSIE_OK, 0, "ok", NONE)                                                                           \
	X(SOSIE_EUSAGE, 1, "usage", USAGE)         /* command line not understood */                         \
	X(SOSIE_ENOMEM, 10, "no-memory", RETRY)    /* out of memory */                                       \
	X(SOSIE_EPEER, 11, "peer-lost", RETRY)     /* connection refused, reset or closed */                 \
	X(SOSIE_ETIMEOUT, 12, "timeout", RETRY)    /* a limit in time has passed */                          \
	X(SOSIE_EBUSY, 13, "busy", RETRY)          /* a lock is held by someone who is named */              \
	X(SOSIE_ENOKEEPER, 14, "no-keeper", RETRY) /* durable at the standby, not accepted: no keeper */     \
	X(SOSIE_ENOSPACE, 15, "no-space", RETRY)   /* disk full */                                           \
	X(SOSIE_EINTR, 16, "interrupted", RETRY)   /* a signal asked to stop */                              \
	X(SOSIE_EPENDING, 17, "pending", RETRY)    /* durable at the standby, not yet accepted */            \
	X(SOSIE_EIO, 30, "io", FATAL)              /* the system refused a read, write, fsync … */         \
	X(SOSIE_ECORRUPT, 31, "corrupt", FATAL)    /* bytes are not what their digest says */                \
	X(SOSIE_EPROTO, 32, "protocol", FATAL)     /* the peer said something that is not allowed */         \
	X(SOSIE_ENOTFOUND, 33, "not-found", FATAL) /* no such file, store, tenant, group, point */           \
	X(SOSIE_EUNSUPPORTED, 34, "unsupported", FATAL)  /* this kernel, filesystem or build cannot */       \
	X(SOSIE_EHOOK, 35, "hook", FATAL)                /* a user's command failed or ran out of time */    \
	X(SOSIE_EINTERNAL, 36, "internal", FATAL)        /* our own fault; please report */                  \
	X(SOSIE_EDENIED, 50, "denied", OPERATOR)         /* permission denied by the system */               \
	X(SOSIE_EAUTH, 51, "auth", OPERATOR)             /* the standby does not know our key */             \
	X(SOSIE_EHOSTKEY, 52, "host-key", OPERATOR)      /* host key unknown or changed */                   \
	X(SOSIE_EFENCED, 53, "fenced", OPERATOR)         /* the standby has cut over: our epoch is over */   \
	X(SOSIE_EPARENT, 54, "other-writer", OPERATOR)   /* the head is not the one our segment builds on */ \
	X(SOSIE_ELOSS, 55, "standby-loss", OPERATOR)     /* the standby lacks what it had accepted */        \
	X(SOSIE_EVOLUME, 56, "volume-changed", OPERATOR) /* a volume is not the one recorded */              \
	X(SOSIE_ESHRUNK, 57, "volume-shrunk", OPERATOR)  /* a volume became smaller */                       \
	X(SOSIE_EFORMAT, 58, "volume-format", OPERATOR)  /* qcow2, VMDK, VHDX given as a raw volume */       \
	X(SOSIE_EQUOTA, 59, "quota", OPERATOR)           /* the tenant's quota is reached */                 \
	X(SOSIE_EREFUSED, 60, "refused", OPERATOR)       /* the standby refused the segment for good */      \
	X(SOSIE_EEXISTS, 61, "exists", OPERATOR)         /* would overwrite something */                     \
	X(SOSIE_EDIFFERENT, 62, "other-cutover", OPERATOR) /* another cutover is under way */                \
	X(SOSIE_ENOTSTORE, 63, "not-a-store", OPERATOR)    /* the folder is not a store */                   \
	X(SOSIE_ENEWER, 64, "newer-version", OPERATOR)     /* written by a newer release */                  \
	X(SOSIE_ENAME, 65, "name", OPERATOR)               /* a name outside the allowed set */              \
	X(SOSIE_ECONSENT, 66, "consent", OPERATOR)         /* needs the group's name typed, or --yes */      \
	X(SOSIE_ECONFIG, 67, "config", OPERATOR)           /* configuration that cannot work */              \
	X(SOSIE_ESIZE, 68, "size", OPERATOR)               /* a size that is not supported */                \
	X(SOSIE_ECLOCK, 79, "clock", OPERATOR)             /* the wall clock has jumped: nothing is pruned */

enum sosie_code {
#define SOSIE_X(id, number, name, class) id = (number),
	SOSIE_CODES(SOSIE_X)
#undef SOSIE_X
};

struct sosie_err {
	enum sosie_code code;
	int sys;          /* errno behind it, 0 when none */
	char what[512];   /* the thing and the reason; printable ASCII or UTF-8, foreign bytes escaped */
	char where[256];  /* file, address, group, or empty */
	char action[256]; /* what to do, or empty */
};

/* Makes err mean "no error". */
void sosie_err_clear(struct sosie_err *err);

/* Fills in code and a formatted what; where and action become empty. err may be NULL. Returns -code. */
int sosie_err_set(struct sosie_err *err, enum sosie_code code, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));

/* As sosie_err_set, with strerror(sys) at the end; the code is chosen from sys (ENOSPC and EDQUOT no-space,
 * EACCES and EPERM and EROFS denied, ENOENT not-found, ENOMEM no-memory, EOPNOTSUPP unsupported, EEXIST
 * exists, else io). */
int sosie_err_sys(struct sosie_err *err, int sys, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Adds the place, or the way out, to an error already set. Each returns -err->code; err may be NULL (then
 * -EINTERNAL). */
int sosie_err_where(struct sosie_err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int sosie_err_action(struct sosie_err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Puts "context: " before what. Returns -err->code. */
int sosie_err_wrap(struct sosie_err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The code's name ("fenced"), its class, the class's name ("operator"), and the exit code it leads to (0, 1,
 * 2, 3, 4). */
const char *sosie_code_name(enum sosie_code code);
enum sosie_class sosie_code_class(enum sosie_code code);
const char *sosie_class_name(enum sosie_class class);
int sosie_code_exit(enum sosie_code code);
/* The code of that name, or -1 when there is none. */
int sosie_code_from_name(const char *name);

/* One line for people: "what (where): action". Returns buf. */
const char *sosie_err_line(const struct sosie_err *err, char *buf, size_t size);

/* Copies a peer's text as printable ASCII, other bytes as \xNN, cut to size. Returns dst. */
const char *sosie_escape(char *dst, size_t size, const void *src, size_t len);

#endif

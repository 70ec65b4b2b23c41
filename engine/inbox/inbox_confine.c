/* SPDX-License-Identifier: MIT */
/*
 * What a receiver may do once a peer's bytes are near: work in one tenant's inbox, read its outbox, talk over
 * the descriptors that it was started with. The keys are only looked for (stat), so nothing is given there.
 *
 * The list of calls is what the posix back end, the channel and this folder use, and what glibc may make of
 * it in other releases. Who uses a new call there adds it here, else the receiver dies of SIGSYS (strace -f
 * tells at which); tests/unit/transport/test_receive_program.c asks every request of the real program. Left
 * out on purpose, though the back end has them: ioctl, chmod, cutting and punching of files.
 */
#include "engine/inbox/internal.h"

#include "sosie/confine.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

#define MEMORY_BYTES (256u << 20)
#define FILES 64u

#define CALL(name)                                                                                           \
	{                                                                                                    \
		.number = SYS_##name                                                                         \
	}
#define WORD UINT32_MAX

/* Only paths from the root or the own folder, never relative to a descriptor; no handles that are not checked
 * (O_PATH), no signals by files (O_ASYNC), no files without a name, and no cutting: to kernels before 6.2
 * Landlock lets a file be cut that may only be read. */
#define OPEN_FORBIDDEN (O_PATH | O_ASYNC | O_TRUNC | (O_TMPFILE & ~O_DIRECTORY))

static const struct sosie_confine_call receiver_calls[] = {
        {SYS_openat, 2, {{0, WORD, (uint32_t)AT_FDCWD}, {2, OPEN_FORBIDDEN, 0}}},
        {SYS_fcntl, 1, {{1, WORD, F_GETFL}}},
        {SYS_fcntl, 1, {{1, WORD, F_GETFD}}},
        {SYS_fcntl, 1, {{1, WORD, F_SETFD}}}, /* fdopendir */
        {SYS_fcntl, 2, {{1, WORD, F_SETFL}, {2, O_ASYNC, 0}}},
        CALL(close),
        CALL(pread64),
        CALL(pwrite64),
        CALL(writev), /* glibc's last words */
        CALL(fsync),
        CALL(fdatasync),
        CALL(flock),
        CALL(fstat),
        CALL(newfstatat),
        CALL(statx),
        CALL(getdents64),
        CALL(lseek),
        CALL(mkdirat),
        CALL(unlinkat),
        CALL(renameat2),
        CALL(ppoll),
        CALL(clock_nanosleep),
        CALL(nanosleep),
        CALL(sysinfo), /* qsort asks how much memory there is */
#ifdef SYS_renameat
        CALL(renameat),
#endif
#ifdef SYS_open /* what older interfaces have beside these */
        {SYS_open, 1, {{1, OPEN_FORBIDDEN, 0}}},
        CALL(stat),
        CALL(lstat),
        CALL(mkdir),
        CALL(rmdir),
        CALL(unlink),
        CALL(rename),
        CALL(poll),
#endif
};

int sosie_inbox_confine(const char *store, const char *tenant, struct sosie_err *err)
{
	enum { STORE, OUTBOX, INBOX, PLACES };
	char names[PLACES][INBOX_STORE_MAX + SOSIE_NAME_MAX + 16];
	const struct sosie_confine_path paths[PLACES] = {
	        [STORE] = {names[STORE], SOSIE_CONFINE_READ},
	        [OUTBOX] = {names[OUTBOX], SOSIE_CONFINE_READ},
	        [INBOX] = {names[INBOX], SOSIE_CONFINE_READ | SOSIE_CONFINE_WRITE},
	};
	struct sosie_confine rules = {.paths = paths,
	                              .calls = receiver_calls,
	                              .call_count = sizeof receiver_calls / sizeof receiver_calls[0],
	                              .memory_bytes = MEMORY_BYTES,
	                              .files = FILES};
	struct sosie_name name;
	/* Where one of them cannot be used nothing is given: sosie_inbox_open says why. */
	if (*store && strlen(store) <= INBOX_STORE_MAX &&
	    !sosie_name_set(&name, SOSIE_NAME_TENANT, tenant, NULL)) {
		snprintf(names[STORE], sizeof names[STORE], "%s/sosie.json", store);
		snprintf(names[OUTBOX], sizeof names[OUTBOX], "%s/%s/_outbox", store, name.s);
		snprintf(names[INBOX], sizeof names[INBOX], "%s/%s/_inbox", store, name.s);
		rules.path_count = PLACES;
	}
	return sosie_confine_enter(&rules, err);
}

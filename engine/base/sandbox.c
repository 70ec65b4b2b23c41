/* SPDX-License-Identifier: MIT */
/*
 * The sandbox of disposable children. The order matters: descriptors first (a copy of another's descriptor
 * keeps files locked and pipes open), then what still needs system calls, the list of system calls last.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <seccomp.h>

#include "sosie/sandbox.h"
#include "sosie/thread.h"

/* A sanitizer's runtime maps terabytes and makes calls of its own: no limit on memory and no list of calls.
 */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define UNDER_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define UNDER_SANITIZER 1
#endif
#endif
#ifndef UNDER_SANITIZER
#define UNDER_SANITIZER 0
#endif

/* --- descriptors and signals
 * ------------------------------------------------------------------------------------ */

static int close_others(const struct sosie_sandbox *rules, struct sosie_err *err)
{
	unsigned from = 0;
	int rc = 0, fd;

	for (unsigned i = 0; i < rules->keep_count && rc == 0; i++) {
		unsigned keep = (unsigned)rules->keep[i];

		assert(rules->keep[i] >= 0 && keep >= from);
		if (keep > from)
			rc = close_range(from, keep - 1, 0);
		from = keep + 1;
	}
	if (rc == 0)
		rc = close_range(from, ~0u, 0);
	if (rc != 0)
		return sosie_err_sys(err, errno, "cannot close the descriptors of a child");
	do /* without /dev/null they stay closed, which is as good */
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd > STDERR_FILENO)
		close(fd);
	return 0;
}

static int tie_to_parent(pid_t parent, struct sosie_err *err)
{
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || prctl(PR_SET_DUMPABLE, 0) != 0 ||
	    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return sosie_err_sys(err, errno, "cannot confine a child");
	if (getppid() != parent)
		return sosie_err_set(err, SOSIE_EINTERNAL, "the parent of a child has ended");
	return 0;
}

/* --- shared memory
 * ----------------------------------------------------------------------------------------------- */

/* From /proc/self/maps (proc(5)): "START-END rwxs …", s for shared. The kernel goes on behind the address
 * that it told last, so mappings may go while the list is read. */
static int unmap_shared(const struct sosie_sandbox *rules, struct sosie_err *err)
{
	uintptr_t start, end, kept = (uintptr_t)rules->shared;
	FILE *maps = fopen("/proc/self/maps", "re");
	bool line_start = true;
	char text[256], mode[5];
	int rc = maps ? 0 : -1;

	while (rc == 0 && fgets(text, sizeof(text), maps)) {
		if (line_start && sscanf(text, "%" SCNxPTR "-%" SCNxPTR " %4s", &start, &end, mode) == 3 &&
		    mode[3] == 's' && (kept == 0 || end <= kept || start >= kept + rules->shared_bytes))
			rc = (int)syscall(SYS_munmap, start, end - start);
		line_start = strchr(text, '\n') != NULL;
	}
	if (maps)
		rc = fclose(maps) == 0 ? rc : -1;
	return rc == 0 ? 0 : sosie_err_sys(err, errno, "cannot take shared memory from a child");
}

/* --- limits
 * ----------------------------------------------------------------------------------------------------- */

static int limit(int resource, uint64_t value, struct sosie_err *err)
{
	const struct rlimit max = {.rlim_cur = value, .rlim_max = value};

	if (setrlimit((__rlimit_resource_t)resource, &max) != 0)
		return sosie_err_sys(err, errno, "cannot limit a child");
	return 0;
}

/* Bytes of address space that the process has: /proc/self/statm, first number, in pages (proc(5)). */
static int mapped_bytes(uint64_t *out, struct sosie_err *err)
{
	char text[128] = "";
	uint64_t pages = 0;
	int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (fd >= 0)
		close(fd);
	if (got <= 0 || sscanf(text, "%" SCNu64, &pages) != 1)
		return sosie_err_set(err, SOSIE_EUNSUPPORTED,
		                     "cannot read the size of a child (/proc/self/statm)");
	*out = pages * (uint64_t)sysconf(_SC_PAGESIZE);
	return 0;
}

/* mapped: address space in use. */
static int limit_all(const struct sosie_sandbox *rules, uint64_t mapped, struct sosie_err *err)
{
	int rc = limit(RLIMIT_CORE, 0, err);

	if (rc == 0 && !UNDER_SANITIZER)
		rc = limit(RLIMIT_AS, mapped + rules->memory_bytes, err);
	if (rc == 0)
		rc = limit(RLIMIT_NOFILE, 0, err);
	if (rc == 0 && !(rules->features & SOSIE_SANDBOX_FILES))
		rc = limit(RLIMIT_FSIZE, 0, err);
	return rc;
}

/* --- Landlock
 * --------------------------------------------------------------------------------------------------- */

/* The rule set of the newest interface used here (6, Linux 6.12); older kernels take its first bytes. The
 * header of Debian 12 ends at interface 3. Source: Documentation/userspace-api/landlock.rst. */
struct landlock_rules {
	uint64_t files, network, scope;
};

static int landlock_version(void)
{
	return (int)syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
}

static size_t landlock_everything(int version, struct landlock_rules *rules)
{
	unsigned files = version >= 5 ? 16 : version >= 3 ? 15 : version == 2 ? 14 : 13;

	rules->files = (UINT64_C(1) << files) - 1;
	rules->network = 3; /* bind and connect, TCP */
	rules->scope = 3;   /* abstract sockets, signals */
	return version >= 6 ? 24 : version >= 4 ? 16 : 8;
}

static int forbid_files(struct sosie_err *err)
{
	struct landlock_rules rules;
	int version = landlock_version(), fd;
	long rc = -1;

	if (version < 1)
		return 0; /* a kernel without it: the list of calls has nothing that opens */
	fd = (int)syscall(SYS_landlock_create_ruleset, &rules, landlock_everything(version, &rules), 0);
	if (fd >= 0)
		rc = syscall(SYS_landlock_restrict_self, fd, 0);
	if (rc != 0)
		return sosie_err_sys(err, errno, "cannot confine a child with Landlock");
	close(fd);
	return 0;
}

/* --- system calls
 * ----------------------------------------------------------------------------------------------- */

/* What malloc, reading the time, a socket and the end of a process need. */
static const int calls_always[] = {
        SCMP_SYS(read),          SCMP_SYS(write),          SCMP_SYS(brk),
        SCMP_SYS(munmap),        SCMP_SYS(mremap),         SCMP_SYS(madvise),
        SCMP_SYS(futex),         SCMP_SYS(exit),           SCMP_SYS(exit_group),
        SCMP_SYS(rt_sigreturn),  SCMP_SYS(rt_sigprocmask), SCMP_SYS(getrandom),
        SCMP_SYS(clock_gettime), SCMP_SYS(gettimeofday),   SCMP_SYS(time),
        SCMP_SYS(getpid),        SCMP_SYS(gettid),         SCMP_SYS(restart_syscall),
};

static const int calls_files[] = {
        SCMP_SYS(pread64), SCMP_SYS(pwrite64),  SCMP_SYS(fsync),     SCMP_SYS(fdatasync),
        SCMP_SYS(fstat),   SCMP_SYS(fallocate), SCMP_SYS(ftruncate), SCMP_SYS(lseek),
};

static int allow_list(scmp_filter_ctx filter, const int *calls, size_t count)
{
	int rc = 0;

	for (size_t i = 0; i < count && rc == 0; i++)
		rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls[i], 0);
	return rc;
}

/* Memory that is never executable; and abort(3) may send its signal to this process, so that running out of
 * memory ends as what it is. */
static int allow_limited(scmp_filter_ctx filter)
{
	int rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
	                          SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));

	if (rc == 0)
		rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
		                      SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	if (rc == 0)
		rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 2,
		                      SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid(), 0),
		                      SCMP_A2(SCMP_CMP_EQ, SIGABRT, 0));
	return rc;
}

static int forbid_calls(const struct sosie_sandbox *rules, struct sosie_err *err)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
	int rc = -ENOMEM;

	if (filter)
		rc = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	if (rc == 0)
		rc = allow_list(filter, calls_always, sizeof(calls_always) / sizeof(calls_always[0]));
	if (rc == 0)
		rc = allow_limited(filter);
	if (rc == 0 && rules->features & SOSIE_SANDBOX_FILES)
		rc = allow_list(filter, calls_files, sizeof(calls_files) / sizeof(calls_files[0]));
	if (rc == 0)
		rc = seccomp_load(filter);
	seccomp_release(filter);
	return rc == 0 ? 0 : sosie_err_sys(err, -rc, "cannot confine a child with seccomp");
}

int sosie_sandbox_enter(const struct sosie_sandbox *rules, struct sosie_err *err)
{
	uint64_t mapped = 0;
	int rc = close_others(rules, err);

	sosie_signals_reset();
	if (rc == 0)
		rc = tie_to_parent(rules->parent, err);
	if (rc == 0)
		rc = unmap_shared(rules, err);
	if (rc == 0)
		rc = mapped_bytes(&mapped, err);
	if (rc == 0)
		rc = forbid_files(err);
	if (rc == 0)
		rc = limit_all(rules, mapped, err);
	if (rc == 0 && !UNDER_SANITIZER)
		rc = forbid_calls(rules, err);
	return rc;
}

unsigned sosie_sandbox_layers(void)
{
	unsigned layers = UNDER_SANITIZER ? 0 : SOSIE_SANDBOX_SYSCALLS | SOSIE_SANDBOX_MEMORY;

	return layers | (landlock_version() >= 1 ? SOSIE_SANDBOX_LANDLOCK : 0u);
}

void sosie_sandbox_landlock(int *abi, char *lacks, size_t size)
{
	static const struct {
		int since;
		const char *what;
	} steps[] = {{1, "access to files"},  {2, "moving files between folders"},
	             {3, "truncation"},       {4, "TCP"},
	             {5, "ioctl on devices"}, {6, "signals and abstract sockets"}};
	size_t at = 0;

	*abi = landlock_version() > 0 ? landlock_version() : 0;
	if (size > 0)
		lacks[0] = '\0';
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++)
		if (*abi < steps[i].since && at < size)
			at += (size_t)snprintf(lacks + at, size - at, "%s%s", at ? ", " : "", steps[i].what);
}

bool sosie_sandbox_seccomp(void)
{
	const uint32_t action = SECCOMP_RET_KILL_PROCESS;

	return syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0;
}

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
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/seccomp.h>

#include "engine/base/calls.h"
#include "engine/base/landlock.h"
#include "engine/base/process.h"
#include "sosie/sandbox.h"
#include "sosie/thread.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* --- descriptors and signals
 * ------------------------------------------------------------------------------------ */

static int close_others(const struct sosie_sandbox *rules, struct sosie_err *err)
{
	unsigned from = 0;
	int rc = 0;

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
	process_fill_standard();
	return 0;
}

/* The death signal is the parent *thread's* (PR_SET_PDEATHSIG(2const)). */
static int tie_to_parent(const struct sosie_sandbox *rules, struct sosie_err *err)
{
	if (!(rules->features & SOSIE_SANDBOX_WAIT) && prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)
		return sosie_err_sys(err, errno, "cannot confine a child");
	if (getppid() != rules->parent)
		return sosie_err_set(err, SOSIE_EINTERNAL, "the parent of a child has ended");
	return process_shed(err);
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
	int rc = 0;

	if (!PROCESS_UNDER_SANITIZER)
		rc = process_limit(RLIMIT_AS, mapped + rules->memory_bytes, err);
	if (rc == 0) /* poll(2) takes no more descriptors than that; the numbers below it are taken */
		rc = process_limit(RLIMIT_NOFILE,
		                   rules->features & SOSIE_SANDBOX_WAIT ? rules->keep_count : 0, err);
	if (rc == 0 && !(rules->features & SOSIE_SANDBOX_FILES))
		rc = process_limit(RLIMIT_FSIZE, 0, err);
	return rc;
}

/* --- system calls
 * ----------------------------------------------------------------------------------------------- */

static int forbid_calls(const struct sosie_sandbox *rules, struct sosie_err *err)
{
	static const struct sosie_confine_call files[] = {
	        {.number = SYS_pread64},   {.number = SYS_pwrite64}, {.number = SYS_fsync},
	        {.number = SYS_fdatasync}, {.number = SYS_fstat},    {.number = SYS_fallocate},
	        {.number = SYS_ftruncate}, {.number = SYS_lseek},
	};
	static const struct sosie_confine_call waits[] = {{.number = SYS_poll}, {.number = SYS_ppoll}};
	struct sosie_confine_call list[COUNT(files) + COUNT(waits)];
	size_t count = 0;

	for (size_t i = 0; (rules->features & SOSIE_SANDBOX_FILES) && i < COUNT(files); i++)
		list[count++] = files[i];
	for (size_t i = 0; (rules->features & SOSIE_SANDBOX_WAIT) && i < COUNT(waits); i++)
		list[count++] = waits[i];
	return calls_restrict(list, count, err);
}

int sosie_sandbox_enter(const struct sosie_sandbox *rules, struct sosie_err *err)
{
	uint64_t mapped = 0;
	int rc = close_others(rules, err);

	sosie_signals_reset();
	if (rc == 0)
		rc = tie_to_parent(rules, err);
	if (rc == 0)
		rc = unmap_shared(rules, err);
	if (rc == 0)
		rc = mapped_bytes(&mapped, err);
	if (rc == 0)
		rc = landlock_restrict(NULL, 0, err);
	if (rc == 0)
		rc = limit_all(rules, mapped, err);
	if (rc == 0 && !PROCESS_UNDER_SANITIZER)
		rc = forbid_calls(rules, err);
	return rc;
}

unsigned sosie_sandbox_layers(void)
{
	unsigned layers = PROCESS_UNDER_SANITIZER ? 0 : SOSIE_SANDBOX_SYSCALLS | SOSIE_SANDBOX_MEMORY;

	return layers | (landlock_version() >= 1 ? SOSIE_SANDBOX_LANDLOCK : 0u);
}

bool sosie_sandbox_seccomp(void)
{
	const uint32_t action = SECCOMP_RET_KILL_PROCESS;

	return syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0;
}

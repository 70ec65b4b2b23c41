/* SPDX-License-Identifier: MIT */
/* Lists of system calls. */
#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <seccomp.h>

#include "engine/base/calls.h"

/* What malloc, reading the time, a socket and the end of a process need. */
static const int calls_always[] = {
        SCMP_SYS(read),          SCMP_SYS(write),          SCMP_SYS(brk),
        SCMP_SYS(munmap),        SCMP_SYS(mremap),         SCMP_SYS(madvise),
        SCMP_SYS(futex),         SCMP_SYS(exit),           SCMP_SYS(exit_group),
        SCMP_SYS(rt_sigreturn),  SCMP_SYS(rt_sigprocmask), SCMP_SYS(getrandom),
        SCMP_SYS(clock_gettime), SCMP_SYS(gettimeofday),   SCMP_SYS(time),
        SCMP_SYS(getpid),        SCMP_SYS(gettid),         SCMP_SYS(restart_syscall),
};

static int allow(scmp_filter_ctx filter, const struct sosie_confine_call *call)
{
	struct scmp_arg_cmp when[SOSIE_CONFINE_WHEN];

	assert(call->when_count <= SOSIE_CONFINE_WHEN);
	for (unsigned i = 0; i < call->when_count; i++)
		when[i] = (struct scmp_arg_cmp){.arg = call->when[i].arg,
		                                .op = SCMP_CMP_MASKED_EQ,
		                                .datum_a = call->when[i].mask,
		                                .datum_b = call->when[i].value};
	return seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, call->number, call->when_count, when);
}

static int allow_all(scmp_filter_ctx filter, const struct sosie_confine_call *calls, size_t count)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < count; i++)
		rc = allow(filter, &calls[i]);
	return rc;
}

/* Memory that is never executable and no file's; and abort(3) may send its signal to this process, so that
 * running out of memory ends as what it is. */
static int allow_limited(scmp_filter_ctx filter)
{
	const uint64_t own = MAP_PRIVATE | MAP_ANONYMOUS, word = UINT32_MAX;
	const struct sosie_confine_call limited[] = {
	        {SCMP_SYS(mmap), 2, {{2, PROT_EXEC, 0}, {3, own | MAP_SHARED, own}}},
	        {SCMP_SYS(mprotect), 1, {{2, PROT_EXEC, 0}}},
	        {SCMP_SYS(tgkill), 2, {{0, word, (uint64_t)getpid()}, {2, word, SIGABRT}}},
	};

	return allow_all(filter, limited, sizeof(limited) / sizeof(limited[0]));
}

static int allow_always(scmp_filter_ctx filter)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < sizeof(calls_always) / sizeof(calls_always[0]); i++)
		rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls_always[i], 0);
	return rc;
}

int calls_restrict(const struct sosie_confine_call *calls, size_t count, struct sosie_err *err)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
	int rc = -ENOSYS; /* what no filter most likely means: this kernel cannot end a process so */

	if (filter)
		rc = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	if (rc == 0)
		rc = allow_always(filter);
	if (rc == 0)
		rc = allow_limited(filter);
	if (rc == 0)
		rc = allow_all(filter, calls, count);
	if (rc == 0)
		rc = seccomp_load(filter);
	seccomp_release(filter);
	if (rc == 0)
		return 0;
	sosie_err_set(err, SOSIE_EUNSUPPORTED, "the kernel takes no list of system calls (seccomp, error %d)",
	              -rc);
	return sosie_err_action(err, "use a kernel with CONFIG_SECCOMP_FILTER");
}

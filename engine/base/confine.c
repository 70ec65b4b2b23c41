/* SPDX-License-Identifier: MIT */
/*
 * The confinement of programs that go on running. The order matters: descriptors first (Landlock does not
 * bind what is open), then what still needs system calls, the list of calls last.
 */
#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <unistd.h>

#include "engine/base/calls.h"
#include "engine/base/landlock.h"
#include "engine/base/process.h"

#ifdef SOSIE_COVERAGE
static const bool counts_coverage = true;
#else
static const bool counts_coverage = false;
#endif

static int limit_all(const struct sosie_confine *rules, struct sosie_err *err)
{
	int rc = process_limit(RLIMIT_NOFILE, rules->files, err);

	if (rc == 0 && !PROCESS_UNDER_SANITIZER)
		rc = process_limit(RLIMIT_NPROC, 0, err);
	if (rc == 0 && !PROCESS_UNDER_SANITIZER)
		rc = process_limit(RLIMIT_AS, rules->memory_bytes, err);
	return rc;
}

/* LeakSanitizer looks at its own process in /proc as it ends. */
static int forbid_files(const struct sosie_confine *rules, struct sosie_err *err)
{
	struct sosie_confine_path all[SOSIE_CONFINE_PATHS + 1] = {{"/proc", SOSIE_CONFINE_READ}};

	assert(rules->path_count <= SOSIE_CONFINE_PATHS);
	for (size_t i = 0; i < rules->path_count; i++)
		all[i + 1] = rules->paths[i];
	if (PROCESS_UNDER_SANITIZER)
		return landlock_restrict(all, rules->path_count + 1, err);
	return landlock_restrict(all + 1, rules->path_count, err);
}

int sosie_confine_enter(const struct sosie_confine *rules, struct sosie_err *err)
{
	int rc = 0;

	if (close_range(STDERR_FILENO + 1, ~0u, 0) != 0)
		rc = sosie_err_sys(err, errno, "cannot close the descriptors of a process");
	process_fill_standard();
	if (rc == 0)
		rc = process_shed(err);
	if (rc == 0)
		rc = limit_all(rules, err);
	if (rc == 0 && !counts_coverage)
		rc = forbid_files(rules, err);
	if (rc == 0 && !counts_coverage && !PROCESS_UNDER_SANITIZER)
		rc = calls_restrict(rules->calls, rules->call_count, err);
	return rc;
}

unsigned sosie_confine_layers(void)
{
	unsigned layers = PROCESS_UNDER_SANITIZER ? 0 : SOSIE_CONFINE_MEMORY;

	if (!counts_coverage && !PROCESS_UNDER_SANITIZER)
		layers |= SOSIE_CONFINE_SYSCALLS;
	if (!counts_coverage && landlock_version() >= 1)
		layers |= SOSIE_CONFINE_LANDLOCK;
	return layers;
}

int sosie_confine_landlock(char *lacks, size_t size)
{
	const int version = landlock_version();

	landlock_lacks(lacks, size, version);
	return version;
}

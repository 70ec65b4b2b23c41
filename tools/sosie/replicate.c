/* SPDX-License-Identifier: MIT */
/* replicate: sosied in the foreground, with all arguments as they are. sosie itself links no network library.
 */
#include <errno.h>
#include <unistd.h>

#include "tools/sosie/command.h"

int replicate_exec(char **argv, struct sosie_err *err)
{
	char path[COMMAND_PATH];
	char name[] = "sosied";

	command_program("sosied", path);
	argv[0] = name;
	execvp(path, argv);
	if (errno == ENOENT) {
		sosie_err_set(err, SOSIE_ENOTFOUND, "the program sosied is neither beside sosie nor in PATH");
		return sosie_err_action(err, "install it: sosied does the replicating");
	}
	sosie_err_sys(err, errno, "cannot run sosied");
	return sosie_err_where(err, "%s", path);
}

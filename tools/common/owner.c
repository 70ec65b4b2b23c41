/* SPDX-License-Identifier: MIT */
/* Root as a store's owner, for good or for a while. */
#include <errno.h>
#include <grp.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/common/owner.h"

int owner_become(const char *store, bool root_again, struct sosie_err *err)
{
	struct stat st;
	gid_t saved_group = 0;
	uid_t saved_user = 0;

	umask(0027);
	if (geteuid() != 0 || stat(store, &st) != 0 || st.st_uid == 0)
		return 0;
	if (!root_again) {
		saved_group = st.st_gid;
		saved_user = st.st_uid;
	}
	if (setgroups(0, NULL) != 0 || setresgid(saved_group, st.st_gid, saved_group) != 0 ||
	    setresuid(saved_user, st.st_uid, saved_user) != 0)
		return sosie_err_sys(err, errno, "cannot become user %u, who owns the store %s",
		                     (unsigned)st.st_uid, store);
	return 0;
}

int owner_leave(struct sosie_err *err)
{
	if (seteuid(0) != 0 || setegid(0) != 0)
		return sosie_err_sys(err, errno, "cannot become root again");
	return 0;
}

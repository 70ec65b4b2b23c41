/* SPDX-License-Identifier: MIT */
/* cleaner.h. */
#include <fcntl.h>
#include <linux/btrfs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "engine/source/cleaner.h"
#include "sosie/clock.h"
#include "sosie/thread.h"

#define FILESYSTEMS 64u /* more than that at once go without */
#define REST_NS 1000000000ll
#define SHARE 2 /* and so many times what the last call took */

struct cleaner_filesystem {
	uint8_t id[BTRFS_FSID_SIZE];
	bool used, busy;
	int64_t next_ns; /* no call before */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct cleaner_filesystem filesystems[FILESYSTEMS];

/* With the lock held. One that is not used, or rests, makes room. */
static struct cleaner_filesystem *find(const uint8_t id[BTRFS_FSID_SIZE])
{
	struct cleaner_filesystem *room = NULL;

	for (unsigned i = 0; i < FILESYSTEMS; i++) {
		struct cleaner_filesystem *fs = &filesystems[i];

		if (fs->used && memcmp(fs->id, id, BTRFS_FSID_SIZE) == 0)
			return fs;
		if (!fs->busy && (!room || fs->next_ns < room->next_ns))
			room = fs;
	}
	if (room) {
		*room = (struct cleaner_filesystem){.used = true};
		memcpy(room->id, id, BTRFS_FSID_SIZE);
	}
	return room;
}

static struct cleaner_filesystem *begin(const uint8_t id[BTRFS_FSID_SIZE], int64_t now_ns)
{
	struct cleaner_filesystem *fs;

	pthread_mutex_lock(&lock);
	fs = find(id);
	if (fs && (fs->busy || now_ns < fs->next_ns))
		fs = NULL;
	if (fs)
		fs->busy = true;
	pthread_mutex_unlock(&lock);
	return fs;
}

static void end(struct cleaner_filesystem *fs, int64_t next_ns)
{
	pthread_mutex_lock(&lock);
	fs->busy = false;
	fs->next_ns = next_ns;
	pthread_mutex_unlock(&lock);
}

static void *ask(void *arg)
{
	const struct cleaner *c = arg;
	int64_t begun = sosie_clock_ns(CLOCK_MONOTONIC), now, rest;
	uint64_t transaction = 0;

	if (ioctl(c->fd, BTRFS_IOC_START_SYNC, &transaction) == 0 && transaction > 0)
		(void)ioctl(c->fd, BTRFS_IOC_WAIT_SYNC, &transaction); /* to know what it took */
	close(c->fd);
	now = sosie_clock_ns(CLOCK_MONOTONIC);
	rest = (now - begun) * SHARE;
	end(c->fs, now + (rest > REST_NS ? rest : REST_NS));
	return NULL;
}

bool cleaner_after_cut(struct cleaner *c, int top_fd, int64_t now_ns)
{
	struct btrfs_ioctl_fs_info_args info = {0};
	struct cleaner_filesystem *fs;

	if (!c->removed || ioctl(top_fd, BTRFS_IOC_FS_INFO, &info) != 0)
		return false;
	fs = begin(info.fsid, now_ns);
	if (!fs)
		return false;
	cleaner_end(c); /* an earlier call of this source has ended, or the filesystem would be busy */
	c->fs = fs;
	c->fd = fcntl(top_fd, F_DUPFD_CLOEXEC, 0);
	c->started = c->fd >= 0 && sosie_thread_start(&c->thread, NULL, ask, c) == 0;
	c->removed = !c->started;
	if (!c->started) {
		if (c->fd >= 0)
			close(c->fd);
		end(fs, now_ns + REST_NS);
	}
	return c->started;
}

void cleaner_end(struct cleaner *c)
{
	if (c->started)
		pthread_join(c->thread, NULL);
	c->started = false;
}

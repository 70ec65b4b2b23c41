/* SPDX-License-Identifier: MIT */
/* What the user names as a volume: parsing [NAME=]PATH, what it is (identity), and what it must not be
 * (another image format). */
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "sosie/source.h"
#include "sosie/tree.h"

#define BY_ID "/dev/disk/by-id"
#define PROBE_BYTES SOSIE_LEAF

/* --- [NAME=]PATH
 * ------------------------------------------------------------------------------------------------- */

/* The file name without folders and without its last ending. */
static void default_name(const char *path, char *dst, size_t size)
{
	const char *slash = strrchr(path, '/');
	char *dot;

	snprintf(dst, size, "%s", slash ? slash + 1 : path);
	dot = strrchr(dst, '.');
	if (dot && dot != dst)
		*dot = '\0';
}

static int set_absolute(const char *path, char *dst, size_t size, struct sosie_err *err)
{
	char cwd[4096];
	int n;

	if (path[0] == '/') {
		n = snprintf(dst, size, "%s", path);
	} else {
		if (!getcwd(cwd, sizeof(cwd)))
			return sosie_err_sys(err, errno, "the working directory has no path");
		n = snprintf(dst, size, "%s/%s", cwd, path);
	}
	if (n < 0 || (size_t)n >= size)
		return sosie_err_set(err, SOSIE_EUSAGE, "the path of a volume is longer than %zu bytes",
		                     size - 1);
	return 0;
}

int sosie_volume_parse(const char *text, struct sosie_volume *out, struct sosie_err *err)
{
	const char *equals = strchr(text, '='), *slash = strchr(text, '/'), *path = text;
	char name[4096];
	int rc;

	memset(out, 0, sizeof(*out));
	/* "a/b=c" is a path; "../b=/c" can only be meant as a name, and is refused as one. */
	if (equals && (!slash || equals < slash || equals[1] == '/')) {
		snprintf(name, sizeof(name), "%.*s", (int)(equals - text), text);
		path = equals + 1;
	} else {
		default_name(path, name, sizeof(name));
	}
	if (path[0] == '\0')
		return sosie_err_set(err, SOSIE_EUSAGE, "a volume without a path; write [NAME=]PATH");
	rc = sosie_name_set(&out->name, SOSIE_NAME_VOLUME, name, err);
	if (rc != 0) {
		if (path == text)
			sosie_err_action(err, "name the volume yourself: NAME=%.180s", path);
		return rc;
	}
	return set_absolute(path, out->path, sizeof(out->path), err);
}

/* --- identity
 * ---------------------------------------------------------------------------------------------------- */

/* Names that say what lies on a device, not which device it is. */
static bool names_content(const char *name)
{
	return strncmp(name, "lvm-pv-uuid-", 12) == 0 || name[0] == '.';
}

/* The first by-id name, in byte order, that leads to the device. */
static void find_by_id(dev_t rdev, char *dst, size_t size)
{
	DIR *dir = opendir(BY_ID);
	struct dirent *entry;

	dst[0] = '\0';
	if (!dir)
		return;
	while ((entry = readdir(dir)) != NULL) {
		char path[sizeof(BY_ID) + 257];
		struct stat st;

		snprintf(path, sizeof(path), BY_ID "/%s", entry->d_name);
		if (names_content(entry->d_name) || strlen(entry->d_name) >= size || stat(path, &st) != 0)
			continue;
		if (S_ISBLK(st.st_mode) && st.st_rdev == rdev && (!dst[0] || strcmp(entry->d_name, dst) < 0))
			memcpy(dst, entry->d_name, strlen(entry->d_name) + 1);
	}
	closedir(dir);
}

static void set_filesystem(int fd, struct sosie_identity *out)
{
	struct statfs fs;
	uint32_t id[2];

	if (fstatfs(fd, &fs) != 0)
		return;
	out->xfs = fs.f_type == XFS_SUPER_MAGIC;
	if (fs.f_type != EXT4_SUPER_MAGIC && fs.f_type != BTRFS_SUPER_MAGIC)
		return;
	static_assert(sizeof(fs.f_fsid) == sizeof(id), "two words (statfs(2))");
	memcpy(id, &fs.f_fsid, sizeof(id));
	out->filesystem = (uint64_t)id[0] << 32 | id[1];
}

/* What tells the file apart when its filesystem has another device number. Where it cannot be had, that
 * number decides alone. */
static void set_details(const char *path, struct sosie_identity *out)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;
	long generation = 0; /* the kernel fills in an int */

	if (fd < 0)
		return;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_dev == out->dev && st.st_ino == out->ino) {
		out->detailed = true;
		set_filesystem(fd, out);
		if (ioctl(fd, FS_IOC_GETVERSION, &generation) == 0)
			memcpy(&out->generation, &generation, sizeof(out->generation));
	}
	close(fd);
}

bool sosie_identity_same(const struct sosie_identity *a, const struct sosie_identity *b)
{
	if (a->device != b->device)
		return false;
	if (a->device)
		return strcmp(a->serial, b->serial) == 0;
	if (!a->detailed || !b->detailed)
		return a->dev == b->dev && a->ino == b->ino;
	if (a->ino != b->ino || a->generation != b->generation)
		return false;
	return a->dev == b->dev || (a->filesystem != 0 && a->filesystem == b->filesystem) ||
	       (a->xfs && b->xfs && a->generation != 0);
}

static void set_identity(const char *path, const struct sosie_stat *st, struct sosie_identity *out)
{
	memset(out, 0, sizeof(*out));
	out->device = st->kind == SOSIE_KIND_BLOCK;
	out->size = st->size;
	if (!out->device) {
		out->dev = st->dev;
		out->ino = st->ino;
		set_details(path, out);
		return;
	}
	find_by_id((dev_t)st->rdev, out->serial, sizeof(out->serial));
	if (!out->serial[0])
		snprintf(out->serial, sizeof(out->serial), "%u:%u", major((dev_t)st->rdev),
		         minor((dev_t)st->rdev));
}

/* --- other formats
 * ------------------------------------------------------------------------------------------------- */

struct format_magic {
	const char *name, *qemu; /* for people; for qemu-img -f */
	size_t at;
	const char *bytes;
};

static const struct format_magic format_magics[] = {
        {"qcow2", "qcow2", 0, "QFI\xfb"},
        {"VMDK", "vmdk", 0, "KDMV"},
        {"VMDK", "vmdk", 0, "COWD"},
        {"VMDK", "vmdk", 0, "# Disk DescriptorFile"},
        {"VHDX", "vhdx", 0, "vhdxfile"},
        {"VHD", "vpc", 0, "conectix"},
        {"VDI", "vdi", 64, "\x7f\x10\xda\xbe"},
};

static const struct format_magic *find_format(const uint8_t *head, size_t len)
{
	for (size_t i = 0; i < sizeof(format_magics) / sizeof(format_magics[0]); i++) {
		const struct format_magic *m = &format_magics[i];

		if (len >= m->at + strlen(m->bytes) && memcmp(head + m->at, m->bytes, strlen(m->bytes)) == 0)
			return m;
	}
	return NULL;
}

static int check_format(struct sosie_io *io, const struct sosie_volume *v, struct sosie_file *file,
                        struct sosie_err *err)
{
	static const uint8_t nothing[1];
	uint8_t head[PROBE_BYTES];
	const struct format_magic *m;
	size_t got = 0;
	int rc;

	if (v->opaque)
		return 0;
	rc = sosie_io_pread(io, file, head, sizeof(head), 0, &got, err);
	if (rc != 0)
		return rc;
	m = find_format(got ? head : nothing, got);
	if (!m)
		return 0;
	sosie_err_set(err, SOSIE_EFORMAT, "volume %s is a %s image, not raw bytes", v->name.s, m->name);
	sosie_err_where(err, "%s", v->path);
	return sosie_err_action(
	        err, "qemu-img convert -f %s -O raw %.80s %s.raw, or --opaque %s to take it as bytes",
	        m->qemu, v->path, v->name.s, v->name.s);
}

static int check_size(const struct sosie_volume *v, const struct sosie_stat *st, struct sosie_err *err)
{
	if (st->size > 0 && st->size <= SOSIE_VOLUME_MAX)
		return 0;
	sosie_err_set(err, SOSIE_ESIZE,
	              st->size == 0 ? "volume %s is empty" : "volume %s is larger than 1 PiB", v->name.s);
	sosie_err_where(err, "%s", v->path);
	return sosie_err_action(err, "a volume has 1 byte to 1 PiB; leave this one out");
}

int sosie_volume_identify(struct sosie_io *io, const struct sosie_volume *v, struct sosie_identity *out,
                          struct sosie_err *err)
{
	struct sosie_file *file;
	struct sosie_stat st;
	int rc = sosie_io_openat(io, v->path, SOSIE_READ | SOSIE_DEVICE | SOSIE_FOLLOW, 0, &file, err);

	if (rc != 0) {
		sosie_err_wrap(err, "volume %s", v->name.s);
		if (rc == -SOSIE_ENOTFOUND)
			sosie_err_action(err, "is it mounted, activated, spelled right? nothing was sent");
		return rc;
	}
	rc = sosie_io_fstat(io, file, &st, err);
	if (rc == 0)
		rc = check_size(v, &st, err);
	if (rc == 0)
		rc = check_format(io, v, file, err);
	if (rc == 0)
		set_identity(v->path, &st, out);
	sosie_io_close(io, file, NULL);
	return rc;
}

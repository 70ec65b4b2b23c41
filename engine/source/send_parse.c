/* SPDX-License-Identifier: MIT */
/*
 * The stream of "btrfs send", read only for what it says about the content of a few files. Format (btrfs
 * documentation, "Btrfs send stream format"; all little-endian):
 *
 *   header      "btrfs-stream\0", u32 version (1 to 3)
 *   command     u32 length of the attributes, u16 command, u32 CRC-32C (start 0, not inverted, this field as
 * 0) attribute   u16 type, u16 length, value; from version 2 on DATA has no length and fills the command
 *
 * Fed in pieces of any size; nothing but numbers and at most three paths of the command under way is kept. A
 * command counts once it is whole and its checksum is right. Damage is an error, and from then on everything
 * has changed; so it has with a version, a command or an attribute that is not known. The first command is
 * SNAPSHOT or SUBVOL (no parent: everything), the last is END with nothing behind it.
 *
 * A command that makes, moves or removes a name which is a file's path or a folder above it means the whole
 * file: another inode may stand there now.
 */
#include <assert.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "engine/source/changes.h"

#define MAGIC "btrfs-stream" /* with its zero byte */
#define STREAM_HEADER (sizeof(MAGIC) + 4u)
#define COMMAND_HEADER 10u
#define COMMAND_MAX ((16u << 20) + 65536u)
#define FALLOCATE_SHIFTS (0x08u | 0x20u) /* collapse, insert: all behind moves */

enum command {
	C_SUBVOL = 1,
	C_SNAPSHOT,
	C_MKFILE,
	C_MKDIR,
	C_MKNOD,
	C_MKFIFO,
	C_MKSOCK,
	C_SYMLINK,
	C_RENAME,
	C_LINK,
	C_UNLINK,
	C_RMDIR,
	C_SET_XATTR,
	C_REMOVE_XATTR,
	C_WRITE,
	C_CLONE,
	C_TRUNCATE,
	C_CHMOD,
	C_CHOWN,
	C_UTIMES,
	C_END,
	C_UPDATE_EXTENT,
	C_FALLOCATE,
	C_FILEATTR,
	C_ENCODED_WRITE,
	C_ENABLE_VERITY
};

enum attribute {
	A_SIZE = 4,
	A_PATH = 15,
	A_PATH_TO,
	A_PATH_LINK,
	A_FILE_OFFSET,
	A_DATA,
	A_CLONE_LEN = 24,
	A_FALLOCATE_MODE,
	A_UNENCODED_FILE_LEN = 27,
	A_LAST = 35
};

enum state { S_STREAM_HEADER, S_COMMAND_HEADER, S_TYPE, S_LENGTH, S_VALUE, S_ENDED, S_UNKNOWN, S_FAILED };

struct path {
	size_t len;
	char bytes[PATH_MAX];
};

struct send_parser {
	struct changes_file *files; /* borrowed */
	unsigned count;
	enum state state;
	uint32_t version;
	bool begun; /* SNAPSHOT or SUBVOL has come */

	/* The fixed part under way. */
	uint8_t fixed[STREAM_HEADER];
	size_t have;

	/* The command under way. */
	uint16_t command;
	uint32_t left; /* of its attributes */
	uint32_t crc_said, crc;
	uint64_t seen; /* bit for each attribute */
	uint64_t data_len, numbers[A_LAST + 1];
	struct path path, to, link;

	/* The attribute under way. */
	uint16_t type;
	uint32_t value_len, value_at;
	uint8_t number[8];

	uint32_t crc_table[256];
};

/* --- small things
 * ----------------------------------------------------------------------------------------------------- */

static void everything(struct send_parser *p)
{
	for (unsigned i = 0; i < p->count; i++)
		changes_all(p->files[i].changes);
}

static int damaged(struct send_parser *p, struct sosie_err *err, const char *why)
{
	p->state = S_FAILED;
	everything(p);
	sosie_err_set(err, SOSIE_EPROTO, "the kernel's difference of two snapshots cannot be read: %s", why);
	sosie_err_action(err, "the volumes are compared by digest instead; if it lasts use source: reflink");
	return -SOSIE_EPROTO;
}

static void fill_table(uint32_t *table)
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t v = i;

		for (unsigned bit = 0; bit < 8; bit++)
			v = v >> 1 ^ (v & 1 ? 0x82f63b78u : 0);
		table[i] = v;
	}
}

static void add_crc(struct send_parser *p, const uint8_t *data, size_t len)
{
	for (size_t i = 0; i < len; i++)
		p->crc = p->crc >> 8 ^ p->crc_table[(p->crc ^ data[i]) & 0xff];
}

static uint64_t little(const uint8_t *b, unsigned bytes)
{
	uint64_t v = 0;

	for (unsigned i = bytes; i > 0; i--)
		v = v << 8 | b[i - 1];
	return v;
}

static bool seen(const struct send_parser *p, enum attribute a)
{
	return p->seen >> a & 1;
}

/* Relative, no empty part, no "." or "..", no zero byte. Empty: the snapshot's top folder. */
static bool is_plain_path(const char *s, size_t len)
{
	size_t part = 0;

	if (memchr(s, 0, len))
		return false;
	for (size_t i = 0; i <= len && len > 0; i++) {
		size_t n = i - part;

		if (i < len && s[i] != '/')
			continue;
		if (n == 0 || (n == 1 && s[part] == '.') || (n == 2 && memcmp(s + part, "..", 2) == 0))
			return false;
		part = i + 1;
	}
	return true;
}

/* --- what a whole command means
 * --------------------------------------------------------------------------------------- */

static void range_changed(struct send_parser *p, uint64_t start, uint64_t len)
{
	uint64_t end = len < UINT64_MAX - start ? start + len : UINT64_MAX;

	for (unsigned i = 0; i < p->count; i++) {
		const char *name = p->files[i].path;

		if (strlen(name) == p->path.len && memcmp(name, p->path.bytes, p->path.len) == 0)
			changes_add(p->files[i].changes, start, end);
	}
}

/* The name itself, or a folder above. */
static void name_changed(struct send_parser *p, const struct path *path)
{
	for (unsigned i = 0; i < p->count; i++) {
		const char *name = p->files[i].path;
		size_t len = strlen(name);

		if (path->len == 0 || (path->len <= len && memcmp(name, path->bytes, path->len) == 0 &&
		                       (name[path->len] == 0 || name[path->len] == '/')))
			changes_all(p->files[i].changes);
	}
}

static void fallocated(struct send_parser *p)
{
	bool shifts = !seen(p, A_FALLOCATE_MODE) || p->numbers[A_FALLOCATE_MODE] & FALLOCATE_SHIFTS;

	range_changed(p, p->numbers[A_FILE_OFFSET], shifts ? UINT64_MAX : p->numbers[A_SIZE]);
}

#define BIT(a) (1ull << (a))

/* The attributes without which a command means nothing. */
static uint64_t needed(uint16_t command)
{
	switch (command) {
	case C_RENAME:
		return BIT(A_PATH) | BIT(A_PATH_TO);
	case C_SYMLINK:
	case C_LINK:
		return BIT(A_PATH) | BIT(A_PATH_LINK);
	case C_WRITE:
		return BIT(A_PATH) | BIT(A_FILE_OFFSET) | BIT(A_DATA);
	case C_CLONE:
		return BIT(A_PATH) | BIT(A_FILE_OFFSET) | BIT(A_CLONE_LEN);
	case C_TRUNCATE:
		return BIT(A_PATH) | BIT(A_SIZE);
	case C_UPDATE_EXTENT:
	case C_FALLOCATE:
		return BIT(A_PATH) | BIT(A_FILE_OFFSET) | BIT(A_SIZE);
	case C_ENCODED_WRITE:
		return BIT(A_PATH) | BIT(A_FILE_OFFSET) | BIT(A_UNENCODED_FILE_LEN);
	case C_END:
		return 0;
	default:
		return command <= C_ENABLE_VERITY ? BIT(A_PATH) : 0;
	}
}

static void apply(struct send_parser *p)
{
	uint64_t offset = p->numbers[A_FILE_OFFSET];

	switch (p->command) {
	case C_SNAPSHOT:
	case C_SET_XATTR:
	case C_REMOVE_XATTR:
	case C_CHMOD:
	case C_CHOWN:
	case C_UTIMES:
	case C_FILEATTR:
	case C_END:
		break;
	case C_RENAME:
		name_changed(p, &p->to);
		name_changed(p, &p->path);
		break;
	case C_LINK:
		name_changed(p, &p->link);
		name_changed(p, &p->path);
		break;
	case C_MKFILE:
	case C_MKDIR:
	case C_MKNOD:
	case C_MKFIFO:
	case C_MKSOCK:
	case C_SYMLINK:
	case C_UNLINK:
	case C_RMDIR:
	case C_ENABLE_VERITY:
		name_changed(p, &p->path);
		break;
	case C_WRITE:
		range_changed(p, offset, p->data_len);
		break;
	case C_CLONE:
		range_changed(p, offset, p->numbers[A_CLONE_LEN]);
		break;
	case C_UPDATE_EXTENT:
		range_changed(p, offset, p->numbers[A_SIZE]);
		break;
	case C_ENCODED_WRITE:
		range_changed(p, offset, p->numbers[A_UNENCODED_FILE_LEN]);
		break;
	case C_TRUNCATE:
		range_changed(p, p->numbers[A_SIZE], UINT64_MAX);
		break;
	case C_FALLOCATE:
		fallocated(p);
		break;
	default: /* SUBVOL: no parent; or not known */
		everything(p);
	}
}

static int end_command(struct send_parser *p, struct sosie_err *err)
{
	uint64_t want = needed(p->command);

	if (p->crc != p->crc_said)
		return damaged(p, err, "wrong checksum");
	if ((p->seen & want) != want)
		return damaged(p, err, "a command lacks what belongs to it");
	if (p->begun == (p->command == C_SNAPSHOT || p->command == C_SUBVOL))
		return damaged(p, err, "a snapshot begins in the middle, or not at all");
	p->begun = true;
	apply(p);
	p->state = p->command == C_END ? S_ENDED : S_COMMAND_HEADER;
	p->have = 0;
	return 0;
}

/* --- attributes
 * ------------------------------------------------------------------------------------------------------- */

static struct path *path_of(struct send_parser *p)
{
	if (p->type == A_PATH)
		return &p->path;
	if (p->type == A_PATH_TO)
		return &p->to;
	/* The text of a symbolic link is no path of the snapshot. */
	return p->type == A_PATH_LINK && p->command == C_LINK ? &p->link : NULL;
}

/* Length of an attribute that is kept as a number, else 0. */
static unsigned number_bytes(uint16_t type)
{
	switch (type) {
	case A_SIZE:
	case A_FILE_OFFSET:
	case A_CLONE_LEN:
	case A_UNENCODED_FILE_LEN:
		return 8;
	case A_FALLOCATE_MODE:
		return 4;
	default:
		return 0;
	}
}

static int end_attribute(struct send_parser *p, struct sosie_err *err)
{
	struct path *path = path_of(p);

	if (number_bytes(p->type) > 0)
		p->numbers[p->type] = little(p->number, number_bytes(p->type));
	if (path && !is_plain_path(path->bytes, path->len))
		return damaged(p, err, "a path that is none");
	p->have = 0;
	p->state = S_TYPE;
	return p->left > 0 ? 0 : end_command(p, err);
}

/* Type and length are known and checked against the command. */
static int begin_value(struct send_parser *p, struct sosie_err *err)
{
	struct path *path = path_of(p);
	unsigned bytes = number_bytes(p->type);

	if (p->value_len > p->left)
		return damaged(p, err, "an attribute is longer than its command");
	if (p->type == 0 || p->type > A_LAST) {
		everything(p);
	} else {
		if (seen(p, (enum attribute)p->type))
			return damaged(p, err, "an attribute twice in a command");
		p->seen |= BIT(p->type);
	}
	if (bytes > 0 && p->value_len != bytes)
		return damaged(p, err, "a number of the wrong length");
	if (path && p->value_len >= PATH_MAX)
		return damaged(p, err, "a path that is too long");
	if (path)
		path->len = p->value_len;
	if (p->type == A_DATA)
		p->data_len = p->value_len;
	p->value_at = 0;
	p->state = S_VALUE;
	return p->value_len > 0 ? 0 : end_attribute(p, err);
}

static int begin_type(struct send_parser *p, struct sosie_err *err)
{
	p->type = (uint16_t)little(p->fixed, 2);
	p->have = 0;
	p->state = S_LENGTH;
	if (p->version < 2 || p->type != A_DATA)
		return 0;
	p->value_len = p->left;
	return begin_value(p, err);
}

static void keep_value(struct send_parser *p, const uint8_t *data, size_t len)
{
	struct path *path = path_of(p);

	if (path)
		memcpy(path->bytes + p->value_at, data, len);
	else if (number_bytes(p->type) > 0)
		memcpy(p->number + p->value_at, data, len);
	p->value_at += (uint32_t)len;
}

/* --- headers
 * ----------------------------------------------------------------------------------------------------------
 */

static int begin_command(struct send_parser *p, struct sosie_err *err)
{
	static const uint8_t zero[4];

	p->left = (uint32_t)little(p->fixed, 4);
	p->command = (uint16_t)little(p->fixed + 4, 2);
	p->crc_said = (uint32_t)little(p->fixed + 6, 4);
	p->crc = 0;
	add_crc(p, p->fixed, 6);
	add_crc(p, zero, 4);
	p->seen = p->data_len = 0;
	p->have = 0;
	p->state = S_TYPE;
	if (p->left > COMMAND_MAX)
		return damaged(p, err, "a command that is too long");
	return p->left > 0 ? 0 : end_command(p, err);
}

static int begin_stream(struct send_parser *p, struct sosie_err *err)
{
	if (memcmp(p->fixed, MAGIC, sizeof(MAGIC)) != 0)
		return damaged(p, err, "it does not begin as one");
	p->version = (uint32_t)little(p->fixed + sizeof(MAGIC), 4);
	p->have = 0;
	p->state = S_COMMAND_HEADER;
	if (p->version >= 1 && p->version <= 3)
		return 0;
	everything(p);
	p->state = S_UNKNOWN;
	return 0;
}

/* The size of the fixed part that the state waits for; 0: the state has none. */
static size_t fixed_size(enum state state)
{
	switch (state) {
	case S_STREAM_HEADER:
		return STREAM_HEADER;
	case S_COMMAND_HEADER:
		return COMMAND_HEADER;
	case S_TYPE:
	case S_LENGTH:
		return 2;
	default:
		return 0;
	}
}

static int end_fixed(struct send_parser *p, struct sosie_err *err)
{
	switch (p->state) {
	case S_STREAM_HEADER:
		return begin_stream(p, err);
	case S_COMMAND_HEADER:
		return begin_command(p, err);
	case S_TYPE:
		return begin_type(p, err);
	default:
		p->value_len = (uint32_t)little(p->fixed, 2);
		p->have = 0;
		return begin_value(p, err);
	}
}

/* Takes what the fixed part still lacks. */
static int take_fixed(struct send_parser *p, const uint8_t *data, size_t len, size_t *used,
                      struct sosie_err *err)
{
	size_t size = fixed_size(p->state), n = size - p->have;
	bool attribute = p->state == S_TYPE || p->state == S_LENGTH;

	n = n < len ? n : len;
	if (attribute && n > p->left)
		return damaged(p, err, "an attribute is cut off");
	memcpy(p->fixed + p->have, data, n);
	p->have += n;
	*used = n;
	if (attribute) {
		add_crc(p, data, n);
		p->left -= (uint32_t)n;
	}
	if (p->have < size)
		return attribute && p->left == 0 ? damaged(p, err, "an attribute is cut off") : 0;
	return end_fixed(p, err);
}

static int take_value(struct send_parser *p, const uint8_t *data, size_t len, size_t *used,
                      struct sosie_err *err)
{
	size_t n = p->value_len - p->value_at;

	n = n < len ? n : len;
	add_crc(p, data, n);
	keep_value(p, data, n);
	p->left -= (uint32_t)n;
	*used = n;
	return p->value_at == p->value_len ? end_attribute(p, err) : 0;
}

/* --- for callers
 * ------------------------------------------------------------------------------------------------------ */

int send_parser_new(struct changes_file *files, unsigned count, struct send_parser **out,
                    struct sosie_err *err)
{
	struct send_parser *p;
	char shown[200];

	*out = NULL;
	for (unsigned i = 0; i < count; i++) {
		size_t len = strlen(files[i].path);

		if (len == 0 || len >= PATH_MAX || !is_plain_path(files[i].path, len))
			return sosie_err_set(err, SOSIE_EINTERNAL, "\"%s\" is no path inside a snapshot",
			                     sosie_escape(shown, sizeof(shown), files[i].path, len));
	}
	p = calloc(1, sizeof(*p));
	if (!p)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory to read the difference of two snapshots");
	p->files = files;
	p->count = count;
	fill_table(p->crc_table);
	*out = p;
	return 0;
}

int send_parser_feed(struct send_parser *p, const void *data, size_t len, struct sosie_err *err)
{
	const uint8_t *at = data;
	int rc = 0;

	if (p->state == S_FAILED)
		return damaged(p, err, "it was damaged before");
	while (rc == 0 && len > 0 && p->state != S_UNKNOWN) {
		size_t used = 0;

		if (p->state == S_ENDED)
			rc = damaged(p, err, "something follows its end");
		else if (p->state == S_VALUE)
			rc = take_value(p, at, len, &used, err);
		else
			rc = take_fixed(p, at, len, &used, err);
		assert(rc != 0 || used > 0);
		at += used;
		len -= used;
	}
	return rc;
}

int send_parser_end(struct send_parser *p, struct sosie_err *err)
{
	if (p->state == S_ENDED || p->state == S_UNKNOWN)
		return 0;
	return damaged(p, err, p->state == S_FAILED ? "it was damaged before" : "its end is missing");
}

void send_parser_free(struct send_parser *p)
{
	free(p);
}

/* SPDX-License-Identifier: MIT */
/* Makes streams like those of "btrfs send", right or wrong, for tests and seeds; the format stands in
 * engine/source/send_parse.c. The checksum here is computed bit by bit, on its own. */
#ifndef TESTS_SEND_STREAM_H
#define TESTS_SEND_STREAM_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct send_stream {
	uint8_t bytes[1u << 17];
	size_t len, command; /* command: where the one under way begins */
	unsigned version;
};

static inline void send_number(struct send_stream *s, uint64_t value, unsigned bytes)
{
	assert(s->len + bytes <= sizeof(s->bytes));
	for (unsigned i = 0; i < bytes; i++)
		s->bytes[s->len++] = (uint8_t)(value >> 8 * i);
}

static inline void send_bytes(struct send_stream *s, const void *data, size_t len)
{
	assert(s->len + len <= sizeof(s->bytes));
	if (len > 0)
		memcpy(s->bytes + s->len, data, len);
	s->len += len;
}

static inline void send_begin(struct send_stream *s, unsigned version)
{
	s->len = 0;
	s->version = version;
	send_bytes(s, "btrfs-stream", 13);
	send_number(s, version, 4);
}

static inline void send_command(struct send_stream *s, unsigned command)
{
	s->command = s->len;
	send_number(s, 0, 4);
	send_number(s, command, 2);
	send_number(s, 0, 4);
}

static inline uint32_t send_crc(const uint8_t *data, size_t len)
{
	uint32_t crc = 0;

	for (size_t i = 0; i < len; i++) {
		crc ^= data[i];
		for (unsigned bit = 0; bit < 8; bit++)
			crc = crc & 1 ? crc >> 1 ^ 0x82f63b78u : crc >> 1;
	}
	return crc;
}

/* Writes the command's length and checksum. */
static inline void send_close(struct send_stream *s)
{
	size_t end = s->len;
	uint32_t crc;

	s->len = s->command;
	send_number(s, end - s->command - 10, 4);
	s->len = s->command + 6;
	send_number(s, 0, 4);
	crc = send_crc(s->bytes + s->command, end - s->command);
	s->len = s->command + 6;
	send_number(s, crc, 4);
	s->len = end;
}

static inline void send_value(struct send_stream *s, unsigned type, const void *data, size_t len)
{
	send_number(s, type, 2);
	if (s->version < 2 || type != 19)
		send_number(s, len, 2);
	send_bytes(s, data, len);
}

static inline void send_text(struct send_stream *s, unsigned type, const char *text)
{
	send_value(s, type, text, strlen(text));
}

static inline void send_u64(struct send_stream *s, unsigned type, uint64_t value)
{
	send_number(s, type, 2);
	send_number(s, 8, 2);
	send_number(s, value, 8);
}

/* SNAPSHOT: what every difference begins with. */
static inline void send_snapshot(struct send_stream *s)
{
	static const uint8_t uuid[16] = {1};

	send_command(s, 2);
	send_text(s, 15, "snap2");
	send_value(s, 1, uuid, sizeof(uuid));
	send_u64(s, 2, 12);
	send_value(s, 20, uuid, sizeof(uuid));
	send_u64(s, 21, 10);
	send_close(s);
}

/* A command with a path, and numbers: pairs of type and value, ended by type 0. */
static inline void send_simple(struct send_stream *s, unsigned command, const char *path,
                               const uint64_t (*numbers)[2])
{
	send_command(s, command);
	send_text(s, 15, path);
	for (; numbers && (*numbers)[0]; numbers++)
		send_u64(s, (unsigned)(*numbers)[0], (*numbers)[1]);
	send_close(s);
}

/* A command with two paths. */
static inline void send_two(struct send_stream *s, unsigned command, const char *path, unsigned type,
                            const char *other)
{
	send_command(s, command);
	send_text(s, 15, path);
	send_text(s, type, other);
	send_close(s);
}

static inline void send_end(struct send_stream *s)
{
	send_command(s, 21);
	send_close(s);
}

#endif

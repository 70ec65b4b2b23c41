/* SPDX-License-Identifier: MIT */
/* Makes the corpora of fuzz_frame and fuzz_message: seed_transport DIR writes DIR/frame/ and DIR/message/,
 * one file for each type, a whole session as one stream, and damaged frames. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sosie/message.h"
#include "tests/support/sample_message.h"

static uint8_t stream[1u << 16];
static size_t stream_len;
static unsigned files;

static void save(const char *dir, const char *kind, const char *name, const void *data, size_t len)
{
	char path[1024];
	snprintf(path, sizeof path, "%s/%s/%s", dir, kind, name);
	FILE *f = fopen(path, "wb");
	if (!f || fwrite(data, 1, len, f) != len || fclose(f)) {
		perror(path);
		exit(1);
	}
	files++;
}

static void seed_type(const char *dir, enum sosie_message_type type)
{
	struct sosie_message m;
	struct sosie_err err;
	uint8_t buf[4096];
	size_t len;
	sample_message(type, &m);
	buf[0] = (uint8_t)type;
	if (sosie_message_encode(&m, buf + 1, sizeof buf - 1, &len, &err))
		exit(1);
	save(dir, "message", sosie_message_name(type), buf, len + 1);
	const uint8_t head[12] = {
	        (uint8_t)len, (uint8_t)(len >> 8), 0, 0, (uint8_t)type, 0, 0, 0, 7, 0, 0, 0};
	memcpy(stream + stream_len, head, sizeof head);
	memcpy(stream + stream_len + sizeof head, buf + 1, len);
	save(dir, "frame", sosie_message_name(type), stream + stream_len, sizeof head + len);
	stream_len += sizeof head + len;
}

int main(int argc, char **argv)
{
	static const uint8_t too_long[12] = {1, 0, 0x14, 0, 20, 0, 0, 0, 1},
	                     no_request[12] = {0, 0, 0, 0, 20};
	if (argc != 2)
		return 2;
	for (unsigned t = SOSIE_MSG_HELLO; t <= SOSIE_MSG_BYE; t++)
		seed_type(argv[1], (enum sosie_message_type)t);
	save(argv[1], "frame", "session", stream, stream_len);
	save(argv[1], "frame", "cut", stream, stream_len - 5);
	save(argv[1], "frame", "too-long", too_long, sizeof too_long);
	save(argv[1], "frame", "no-request", no_request, sizeof no_request);
	printf("%u files\n", files);
	return 0;
}

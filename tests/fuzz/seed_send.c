/* SPDX-License-Identifier: MIT */
/* Writes the hand-made part of fuzz_send's corpus: seed_send tests/fuzz/corpus. The files named real-… beside
 * them come from "btrfs send --no-data -p" and are not made here. */
#include <stdio.h>
#include <stdlib.h>

#include "tests/support/send_stream.h"

static struct send_stream stream;
static unsigned files;

static void save(const char *corpus, const char *name)
{
	char path[4096];
	FILE *file;

	snprintf(path, sizeof(path), "%s/send/%s", corpus, name);
	file = fopen(path, "wb");
	if (!file || fwrite(stream.bytes, 1, stream.len, file) != stream.len || fclose(file) != 0) {
		perror(path);
		exit(1);
	}
	files++;
}

/* Each command of a version, with all the attributes that commands look at. */
static void every_command(unsigned version)
{
	static const unsigned numbers[] = {4, 18, 24, 27};

	send_begin(&stream, version);
	send_snapshot(&stream);
	for (unsigned command = 3; command <= 26; command++) {
		if (command == 21)
			continue;
		send_command(&stream, command);
		send_text(&stream, 15, command % 2 ? "vol" : "d/vol");
		send_text(&stream, 16, "d");
		send_text(&stream, 17, "other");
		for (unsigned i = 0; i < sizeof(numbers) / sizeof(*numbers); i++)
			send_u64(&stream, numbers[i], 4096u * (i + 1));
		if (command == 15 || command == 25)
			send_value(&stream, 19, "data", 4);
		send_close(&stream);
	}
	send_end(&stream);
}

static void many_ranges(void)
{
	send_begin(&stream, 1);
	send_snapshot(&stream);
	for (uint64_t i = 0; i < 200; i++) {
		const uint64_t numbers[][2] = {{18, i * 37 % 200 << 16}, {4, 4096}, {0, 0}};

		send_simple(&stream, 22, "vol", numbers);
	}
	send_end(&stream);
}

int main(int argc, char **argv)
{
	if (argc != 2)
		return 2;
	every_command(1);
	save(argv[1], "commands-1");
	every_command(2);
	save(argv[1], "commands-2");
	every_command(3);
	save(argv[1], "commands-3");
	stream.len -= 3;
	save(argv[1], "cut");
	many_ranges();
	save(argv[1], "ranges");
	send_begin(&stream, 4);
	save(argv[1], "version-4");
	send_begin(&stream, 1);
	send_simple(&stream, 1, "full", NULL);
	send_end(&stream);
	save(argv[1], "full");
	printf("%u files\n", files);
	return 0;
}

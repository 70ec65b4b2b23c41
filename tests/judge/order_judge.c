/* SPDX-License-Identifier: MIT */
/*
 * Does I4 hold in a copy of what order_writer wrote?
 *
 *   order_judge direct|buffered IMAGE0 IMAGE1 [LEAST]
 *
 * Exit 0: yes, and the newest number is at least LEAST (default 1); 1: no, with the first number that is
 * missing, or the images are none of order_writer's (a torn block, another size); 2: usage. The last line is
 * "I4 holds: …" or "I4 broken: …".
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/order.h"

#define AT_ONCE 256u /* blocks read with one call */

static int complain(const char *path, const char *what)
{
	printf("I4 broken: %s: %s\n", path, what);
	return -1;
}

static int open_image(const char *path, uint64_t *slots)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) != 0)
		return complain(path, strerror(errno));
	*slots = (uint64_t)st.st_size / ORDER_BLOCK;
	if (st.st_size % (off_t)ORDER_BLOCK != 0 || *slots < ORDER_SLOTS_MIN || *slots > ORDER_SLOTS_MAX)
		return complain(path, "no volume of order_writer: 64 KiB to 64 GiB in blocks of 4 KiB");
	return fd;
}

/* seed 0: is taken from the first block that has one. */
static int read_image(int fd, const char *path, uint64_t slots, uint64_t *seed, uint64_t *held)
{
	static unsigned char buffer[AT_ONCE * ORDER_BLOCK];

	for (uint64_t at = 0; at < slots; at += AT_ONCE) {
		uint64_t n = slots - at < AT_ONCE ? slots - at : AT_ONCE;

		if (pread(fd, buffer, n * ORDER_BLOCK, (off_t)(at * ORDER_BLOCK)) !=
		    (ssize_t)(n * ORDER_BLOCK))
			return complain(path, "cannot be read to its end");
		for (uint64_t i = 0; i < n; i++) {
			const unsigned char *block = buffer + i * ORDER_BLOCK;

			*seed = *seed ? *seed : order_block_seed(block);
			if (!order_block_read(block, *seed, &held[at + i])) {
				printf("I4 broken: %s: block %llu is torn or foreign\n", path,
				       (unsigned long long)(at + i));
				return -1;
			}
		}
	}
	return 0;
}

static int verdict(const struct order_map *m, bool buffered, uint64_t *const held[2], uint64_t least)
{
	struct order_verdict v;
	bool holds = order_judge(m, buffered, held, &v) && v.newest >= least;

	printf("I4 %s: newest %llu (at least %llu wanted), all up to %llu must be there; %llu places hold a "
	       "number, "
	       "%llu lack one, %llu hold a wrong one; first missing %llu\n",
	       holds ? "holds" : "broken", (unsigned long long)v.newest, (unsigned long long)least,
	       (unsigned long long)v.durable, (unsigned long long)v.present, (unsigned long long)v.missing,
	       (unsigned long long)v.surplus, (unsigned long long)v.first);
	return holds ? 0 : 1;
}

int main(int argc, char **argv)
{
	bool buffered = argc > 1 && strcmp(argv[1], "buffered") == 0;
	uint64_t slots[2] = {0}, seed = 0, *held[2] = {NULL, NULL};
	struct order_map map;
	int rc = 0;

	if (argc < 4 || argc > 5 || (!buffered && strcmp(argv[1], "direct") != 0)) {
		fprintf(stderr, "usage: order_judge direct|buffered IMAGE0 IMAGE1 [LEAST]\n");
		return 2;
	}
	for (unsigned i = 0; rc == 0 && i < 2; i++) {
		int fd = open_image(argv[2 + i], &slots[i]);

		rc = fd < 0 ? -1 : 0;
		held[i] = calloc(slots[i] ? slots[i] : 1, sizeof(uint64_t));
		if (rc == 0 && held[i])
			rc = read_image(fd, argv[2 + i], slots[i], &seed, held[i]);
		if (!held[i])
			rc = complain(argv[2 + i], "no memory");
		if (fd >= 0)
			close(fd);
	}
	if (rc == 0 && slots[0] != slots[1])
		rc = complain(argv[3], "has another size than the first");
	if (rc == 0) {
		order_map_init(&map, seed, slots[0]);
		rc = verdict(&map, buffered, held, argc > 4 ? strtoull(argv[4], NULL, 10) : 1);
	}
	free(held[0]);
	free(held[1]);
	return rc == 0 ? 0 : 1;
}

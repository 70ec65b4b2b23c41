/* SPDX-License-Identifier: MIT */
/*
 * Overwrites COUNT blocks of 4 KiB of an image with noise, at places that hold data, chosen by SEED: the same
 * seed writes the same bytes at the same places of an equal image. Usage: scribble IMAGE COUNT SEED
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK 4096u

/* xorshift64*: Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled". */
static uint64_t next_random(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 0x2545f4914f6cdd1dULL;
}

/* A block that holds data, at random. */
static int64_t choose_block(int fd, uint64_t blocks, uint64_t *state)
{
	for (unsigned tries = 0; tries < 1000; tries++) {
		off_t at = (off_t)(next_random(state) % blocks * BLOCK);
		off_t data = lseek(fd, at, SEEK_DATA);
		if (data == at)
			return at;
		if (data < 0 && errno != ENXIO)
			return -1;
	}
	errno = ENODATA;
	return -1;
}

static int scribble(int fd, uint64_t blocks, uint64_t count, uint64_t seed)
{
	uint64_t state = seed * 2 + 1;
	uint64_t noise[BLOCK / sizeof(uint64_t)];

	for (uint64_t n = 0; n < count; n++) {
		int64_t at = choose_block(fd, blocks, &state);
		if (at < 0)
			return -1;
		for (size_t i = 0; i < sizeof(noise) / sizeof(*noise); i++)
			noise[i] = next_random(&state);
		if (pwrite(fd, noise, sizeof(noise), at) != (ssize_t)sizeof(noise))
			return -1;
	}
	return fsync(fd);
}

int main(int argc, char **argv)
{
	struct stat st;
	int fd, rc = 1;

	if (argc != 4) {
		fprintf(stderr, "usage: scribble IMAGE COUNT SEED\n");
		return 2;
	}
	fd = open(argv[1], O_RDWR | O_CLOEXEC);
	if (fd >= 0 && fstat(fd, &st) == 0 && st.st_size >= (off_t)BLOCK &&
	    scribble(fd, (uint64_t)st.st_size / BLOCK, strtoull(argv[2], NULL, 10),
	             strtoull(argv[3], NULL, 10)) == 0)
		rc = 0;
	if (rc != 0)
		fprintf(stderr, "scribble: %s: %s\n", argv[1], strerror(errno));
	if (fd >= 0 && close(fd) != 0)
		rc = 1;
	return rc;
}

/* SPDX-License-Identifier: MIT */
/*
 * Which is the newest block of rpo_writer's that an image of a point holds, and when was it issued?
 *
 * Usage: rpo_judge IMAGE LOG ACCEPTED_MS
 *
 * Looks at the places of the numbers issued before ACCEPTED_MS (milliseconds of CLOCK_REALTIME), newest
 * first, until one holds its number or, being written over, a newer one. Prints: number issued_ms age_ms, the
 * age being ACCEPTED_MS less issued_ms. Exit 3: the image holds none.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK 4096u
#define MAGIC 0x6f70726569736f73ull

struct entry {
	uint64_t block, ns;
};

static int complain(const char *path)
{
	fprintf(stderr, "rpo_judge: %s: %s\n", path, strerror(errno));
	return 1;
}

/* The number that the block holds, UINT64_MAX when it is none of the writer's. */
static uint64_t number_at(int fd, uint64_t block)
{
	uint64_t words[3];

	if (pread(fd, words, sizeof(words), (off_t)(block * BLOCK)) != (ssize_t)sizeof(words) ||
	    words[0] != MAGIC)
		return UINT64_MAX;
	return words[1];
}

static int judge(int fd, const struct entry *log, uint64_t count, uint64_t accepted_ms)
{
	for (uint64_t n = count; n-- > 0;) {
		uint64_t held;

		if (log[n].ns == 0 || log[n].ns / 1000000u > accepted_ms)
			continue; /* not issued, or later than this point */
		held = number_at(fd, log[n].block);
		if (held == UINT64_MAX || held < n || held >= count)
			continue;
		printf("%llu %llu %lld\n", (unsigned long long)held,
		       (unsigned long long)(log[held].ns / 1000000u),
		       (long long)accepted_ms - (long long)(log[held].ns / 1000000u));
		return 0;
	}
	return 3;
}

int main(int argc, char **argv)
{
	struct stat st;
	int image, file, rc;

	if (argc != 4) {
		fprintf(stderr, "usage: rpo_judge IMAGE LOG ACCEPTED_MS\n");
		return 2;
	}
	image = open(argv[1], O_RDONLY | O_CLOEXEC);
	if (image < 0)
		return complain(argv[1]);
	file = open(argv[2], O_RDONLY | O_CLOEXEC);
	if (file < 0 || fstat(file, &st) != 0)
		return complain(argv[2]);
	size_t count = (size_t)st.st_size / sizeof(struct entry);
	const struct entry *log = mmap(NULL, count * sizeof(*log), PROT_READ, MAP_SHARED, file, 0);
	if (log == MAP_FAILED)
		return complain(argv[2]);
	rc = judge(image, log, count, strtoull(argv[3], NULL, 10));
	close(image);
	close(file);
	return rc;
}

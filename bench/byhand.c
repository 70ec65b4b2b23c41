/* SPDX-License-Identifier: MIT */
/*
 * What the changed blocks of an image cost by hand: the 4 KiB blocks that differ between OLD and NEW,
 * gathered in order, 1 MiB of them at a time, compressed with zstd 3: alone, and with the old content of the
 * same blocks as prefix (one frame for each). No headers, no offsets: a bound for what a format can reach.
 *
 * Usage: byhand OLD NEW          prints: changed_bytes plain_bytes prefix_bytes
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <zstd.h>

#define BLOCK 4096u
#define GATHER (1u << 20)
#define LEVEL 3

struct sums {
	uint64_t changed, plain, prefix;
};
struct work {
	ZSTD_CCtx *zstd;
	unsigned char old[GATHER], new[GATHER];
	unsigned char *out;
	size_t out_size, gathered;
};

static int compress(struct work *w, bool with_prefix, uint64_t *sum)
{
	size_t n;

	ZSTD_CCtx_reset(w->zstd, ZSTD_reset_session_and_parameters);
	ZSTD_CCtx_setParameter(w->zstd, ZSTD_c_compressionLevel, LEVEL);
	if (with_prefix) {
		/* The window must reach from the end of the new content to the begin of the old. */
		ZSTD_CCtx_setParameter(w->zstd, ZSTD_c_windowLog, 22);
		ZSTD_CCtx_refPrefix(w->zstd, w->old, w->gathered);
	}
	n = ZSTD_compress2(w->zstd, w->out, w->out_size, w->new, w->gathered);
	if (ZSTD_isError(n)) {
		fprintf(stderr, "byhand: %s\n", ZSTD_getErrorName(n));
		return -1;
	}
	*sum += n;
	return 0;
}

static int flush(struct work *w, struct sums *s)
{
	int rc = 0;

	if (w->gathered) {
		s->changed += w->gathered;
		rc = compress(w, false, &s->plain);
		if (rc == 0)
			rc = compress(w, true, &s->prefix);
	}
	w->gathered = 0;
	return rc;
}

static int complain(const char *path)
{
	fprintf(stderr, "byhand: %s: %s\n", path, errno ? strerror(errno) : "shorter than the other");
	return -1;
}

static int compare(struct work *w, int fds[2], char **paths, uint64_t size, struct sums *s)
{
	static unsigned char at[2][GATHER];
	int rc = 0;

	for (uint64_t pos = 0; rc == 0 && pos < size; pos += GATHER) {
		size_t len = size - pos < GATHER ? (size_t)(size - pos) : GATHER;

		for (unsigned i = 0; i < 2; i++) {
			errno = 0;
			if (pread(fds[i], at[i], len, (off_t)pos) != (ssize_t)len)
				return complain(paths[i]);
		}
		for (size_t i = 0; rc == 0 && i + BLOCK <= len; i += BLOCK) {
			if (memcmp(at[0] + i, at[1] + i, BLOCK) == 0)
				continue;
			memcpy(w->old + w->gathered, at[0] + i, BLOCK);
			memcpy(w->new + w->gathered, at[1] + i, BLOCK);
			w->gathered += BLOCK;
			if (w->gathered == GATHER)
				rc = flush(w, s);
		}
	}
	return rc == 0 ? flush(w, s) : rc;
}

int main(int argc, char **argv)
{
	static struct work w;
	struct sums sums = {0};
	struct stat st = {0};
	int fds[2] = {-1, -1}, rc = 0;

	if (argc != 3) {
		fprintf(stderr, "usage: byhand OLD NEW\n");
		return 2;
	}
	w.zstd = ZSTD_createCCtx();
	w.out_size = ZSTD_compressBound(GATHER);
	w.out = malloc(w.out_size);
	for (unsigned i = 0; rc == 0 && i < 2; i++) {
		fds[i] = open(argv[1 + i], O_RDONLY | O_CLOEXEC);
		if (fds[i] < 0 || fstat(fds[i], &st) != 0)
			rc = complain(argv[1 + i]);
	}
	if (rc == 0 && w.zstd && w.out)
		rc = compare(&w, fds, argv + 1, (uint64_t)st.st_size, &sums);
	if (rc == 0)
		printf("%llu %llu %llu\n", (unsigned long long)sums.changed, (unsigned long long)sums.plain,
		       (unsigned long long)sums.prefix);
	free(w.out);
	ZSTD_freeCCtx(w.zstd);
	return rc == 0 ? 0 : 1;
}

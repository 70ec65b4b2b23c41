/* SPDX-License-Identifier: MIT */
/* How fast the place of the images takes data: a short timed write with its fsync, for the estimate that the
 * operator sees. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/cutover/internal.h"

#define BLOCK (1u << 20)
#define BLOCKS_MAX 64u
#define LIMIT_MS 500

static int write_for_a_while(struct sosie_group *g, struct sosie_file *file, void *block,
                             uint64_t *bytes_per_s, struct sosie_err *err)
{
	const int64_t start = sosie_mono_ms(g->store->clock);
	uint64_t bytes = 0;
	int rc = 0;

	while (rc == 0 && bytes < (uint64_t)BLOCKS_MAX * BLOCK &&
	       sosie_mono_ms(g->store->clock) - start < LIMIT_MS) {
		rc = sosie_io_pwrite(g->store->io, file, block, BLOCK, bytes, err);
		bytes += BLOCK;
	}
	if (rc == 0)
		rc = sosie_io_fsync(g->store->io, file, err);
	int64_t spent = sosie_mono_ms(g->store->clock) - start;
	*bytes_per_s = rc == 0 ? bytes * 1000 / (uint64_t)(spent > 0 ? spent : 1) : 0;
	return rc;
}

/* The folder itself or the nearest one above it that exists: where the images' filesystem can be written to
 * already. */
static void existing_dir(struct sosie_io *io, char path[STORE_PATH])
{
	char *slash;

	while (!sosie_io_exists(io, path) && (slash = strrchr(path, '/')) != NULL && slash != path)
		*slash = '\0';
}

int sosie_cutover_speed(struct sosie_group *g, const struct sosie_cutover *c, uint64_t *bytes_per_s,
                        struct sosie_err *err)
{
	struct sosie_io *io = g->store->io;
	struct sosie_file *file = NULL;
	char dir[STORE_PATH], path[STORE_PATH];
	uint8_t *block = malloc(BLOCK);
	uint64_t number;
	int rc = block ? store_path(dir, err, "%s", c->dir)
	               : sosie_err_sys(err, ENOMEM, "cannot measure the disk");

	*bytes_per_s = 0;
	if (rc == 0)
		rc = sosie_random(g->store->clock, &number, sizeof(number), err);
	if (rc < 0)
		goto free_block;
	for (size_t i = 0; i < BLOCK; i++)
		block[i] = (uint8_t)(i * 131u +
		                     (i >> 8) * 29u); /* not zeros: some filesystems do not write those */
	existing_dir(io, dir);
	rc = store_path(path, err, "%s/.sosie-speed-%016llx", dir, (unsigned long long)number);
	if (rc == 0)
		rc = sosie_io_openat(io, path, SOSIE_WRITE | SOSIE_CREATE | SOSIE_EXCL, 0600, &file, err);
	if (rc < 0)
		goto free_block;
	rc = write_for_a_while(g, file, block, bytes_per_s, err);
	(void)sosie_io_close(io, file, NULL);
	(void)sosie_io_unlink(io, path, NULL);
free_block:
	free(block);
	return rc;
}

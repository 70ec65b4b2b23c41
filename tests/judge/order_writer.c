/* SPDX-License-Identifier: MIT */
/*
 * Writes numbered blocks to two volumes in turn (tests/support/order.h) until SIGTERM.
 *
 *   order_writer direct|buffered VOLUME0 VOLUME1 LOG
 *
 * direct: O_DIRECT|O_DSYNC; buffered: fsync of both after every 8 numbers. LOG gets "ISSUED DURABLE" in 40
 * bytes, written over before each write (ISSUED) and after each that is known durable. Both volumes exist,
 * have the same size and hold zeros. Prints "wrote 1 to LAST" at the end.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/order.h"

#define SEED 1u /* of the blocks' content and places */

static volatile sig_atomic_t stop;

static void on_signal(int number)
{
	(void)number;
	stop = 1;
}

struct writer {
	int volumes[2], log;
	bool buffered;
	struct order_map map;
	uint64_t durable;
	void *block;
};

static int complain(const char *what)
{
	fprintf(stderr, "order_writer: %s: %s\n", what, strerror(errno));
	return -1;
}

static int note(struct writer *w, uint64_t issued)
{
	char line[64];

	snprintf(line, sizeof(line), "%019llu %019llu\n", (unsigned long long)issued,
	         (unsigned long long)w->durable);
	return pwrite(w->log, line, 40, 0) == 40 ? 0 : complain("log");
}

static int write_number(struct writer *w, uint64_t n)
{
	off_t at = (off_t)(order_slot(&w->map, n) * ORDER_BLOCK);

	order_block_make(w->block, w->map.seed, n);
	if (note(w, n) != 0)
		return -1;
	if (pwrite(w->volumes[n % 2], w->block, ORDER_BLOCK, at) != (ssize_t)ORDER_BLOCK)
		return complain("write");
	if (w->buffered && n % ORDER_BATCH != 0)
		return 0;
	if (w->buffered && (fsync(w->volumes[0]) != 0 || fsync(w->volumes[1]) != 0))
		return complain("fsync");
	w->durable = n;
	return note(w, n);
}

static int open_all(struct writer *w, char **argv)
{
	off_t sizes[2];

	for (unsigned i = 0; i < 2; i++) {
		w->volumes[i] =
		        open(argv[2 + i], O_RDWR | O_CLOEXEC | (w->buffered ? 0 : O_DIRECT | O_DSYNC));
		if (w->volumes[i] < 0 || (sizes[i] = lseek(w->volumes[i], 0, SEEK_END)) < 0)
			return complain(argv[2 + i]);
	}
	w->log = open(argv[4], O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	if (w->log < 0)
		return complain(argv[4]);
	if (sizes[0] != sizes[1] || sizes[0] / (off_t)ORDER_BLOCK < (off_t)ORDER_SLOTS_MIN ||
	    sizes[0] / (off_t)ORDER_BLOCK > (off_t)ORDER_SLOTS_MAX) {
		fprintf(stderr, "order_writer: the volumes must have one size, 64 KiB to 64 GiB\n");
		return -1;
	}
	order_map_init(&w->map, SEED, (uint64_t)sizes[0] / ORDER_BLOCK);
	w->block = aligned_alloc(ORDER_BLOCK, ORDER_BLOCK);
	return w->block ? 0 : complain("memory");
}

int main(int argc, char **argv)
{
	const struct sigaction action = {.sa_handler = on_signal};
	struct writer w = {.buffered = argc > 1 && strcmp(argv[1], "buffered") == 0};
	uint64_t n;
	int rc;

	if (argc != 5 || (!w.buffered && strcmp(argv[1], "direct") != 0)) {
		fprintf(stderr, "usage: order_writer direct|buffered VOLUME0 VOLUME1 LOG\n");
		return 2;
	}
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	rc = open_all(&w, argv);
	for (n = 1; rc == 0 && !stop; n++)
		rc = write_number(&w, n);
	if (rc == 0)
		printf("wrote 1 to %llu\n", (unsigned long long)(n - 1));
	free(w.block);
	return rc == 0 ? 0 : 1;
}

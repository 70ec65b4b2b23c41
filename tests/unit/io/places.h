/* SPDX-License-Identifier: MIT */
/* Back ends for tests, each with a folder of its own to work in. */
#ifndef SOSIE_TESTS_IO_PLACES_H
#define SOSIE_TESTS_IO_PLACES_H

#include "tests/unit/base/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sosie/io.h"

enum place_kind { PLACE_POSIX, PLACE_URING, PLACE_THREADS, PLACE_SIM, PLACE_FAULT, PLACE_COUNT };

struct place {
	enum place_kind kind;
	char dir[200]; /* no slash at the end */
	struct sosie_io *io, *under;
	struct sosie_fault_plan plan;
	struct sosie_disk *disk;
	char path_text[4][300];
	unsigned path_turn;
};

#define OK(call)                                                                                             \
	do {                                                                                                 \
		int rc_ = (call);                                                                            \
		if (rc_ < 0)                                                                                 \
			fail_msg("%s: %s (%s)", #call, error.what, error.where);                             \
	} while (0)

static struct sosie_err error;

/* A path in the place's folder; good for the next three calls. */
static inline const char *in(struct place *p, const char *name)
{
	char *text = p->path_text[p->path_turn++ % 4];

	snprintf(text, sizeof(p->path_text[0]), "%s/%s", p->dir, name);
	return text;
}

static inline struct sosie_io *place_io(struct place *p)
{
	struct sosie_io *io = NULL;

	switch (p->kind) {
	case PLACE_URING:
		OK(sosie_io_uring(4, &io, &error));
		break;
	case PLACE_THREADS:
		OK(sosie_io_threads(4, &io, &error));
		break;
	case PLACE_SIM:
		OK(sosie_io_sim(p->disk, &io, &error));
		break;
	case PLACE_FAULT:
	case PLACE_POSIX:
	case PLACE_COUNT:
		OK(sosie_io_posix(&io, &error));
		break;
	}
	return io;
}

static inline void place_open(struct place *p, enum place_kind kind)
{
	memset(p, 0, sizeof(*p));
	p->kind = kind;
	if (kind == PLACE_SIM) {
		p->disk = sosie_disk_new(1ull << 40, 1, false);
		snprintf(p->dir, sizeof(p->dir), "/t");
	} else {
		const char *tmp = getenv("TMPDIR");
		snprintf(p->dir, sizeof(p->dir), "%.150s/sosie-io-XXXXXX", tmp ? tmp : "/var/tmp");
		assert_non_null(mkdtemp(p->dir));
	}
	p->io = place_io(p);
	if (kind == PLACE_SIM)
		OK(sosie_io_mkdir(p->io, p->dir, 0700, &error));
	if (kind == PLACE_FAULT) {
		p->under = p->io;
		OK(sosie_io_fault(p->under, &p->plan, &p->io, &error));
	}
}

static inline void place_close(struct place *p)
{
	p->plan.kind = SOSIE_FAULT_NONE;
	OK(sosie_io_remove_tree(p->io, p->dir, &error));
	sosie_io_free(p->io);
	sosie_io_free(p->under);
	sosie_disk_free(p->disk);
}

static inline uint64_t next_random(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return *s;
}

static inline void fill_random(uint64_t *s, void *dst, size_t len)
{
	for (size_t i = 0; i < len; i++)
		((unsigned char *)dst)[i] = (unsigned char)(next_random(s) >> 24);
}

#endif

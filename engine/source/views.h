/* SPDX-License-Identifier: MIT */
/*
 * What reflink and btrfs share: views that are kept on disk under a name, change sets against a base, and
 * walking them. A driver adds how to take a view, where its files are, and how to compare two.
 *
 *   cut:     taking → named (durable) → compared → read → released: kept, or removed
 *   reopen:  named before → compared → read → released
 *
 * A source is used by one thread at a time; a view's next by any, one at a time.
 */
#ifndef ENGINE_SOURCE_VIEWS_H
#define ENGINE_SOURCE_VIEWS_H

#include "engine/source/changes.h"
#include "engine/source/cleaner.h"
#include "engine/source/pause.h"
#include "engine/source/places.h"
#include "engine/source/stalls.h"
#include "sosie/source.h"

#define QUIET_NS                                                                                             \
	20000000ll /* ctime advances in ticks of up to 10 ms: a change that recent may hide another */

/* What stat said of a volume. */
struct stamp {
	uint64_t dev, ino, size;
	int64_t ctime_ns;
};
bool stamp_of(const char *path, struct stamp *out);
/* Old enough to be trusted, where the cut was begun then (wall clock). */
bool stamp_is_quiet(const struct stamp *s, int64_t begun_ns);
/* What is dirty in the page cache goes to disk before writers are held, not meanwhile. */
void flush_before(int fd);

/* A view that is kept on disk, as far as we know. */
struct held {
	struct sosie_view_id id;
	bool made;            /* by this object: what it consists of is known by name */
	struct stamp *stamps; /* one for each volume, none so young that a write may hide; NULL: not known */
};

struct tracked;
struct tracked_ops {
	const char *name;
	char letter;
	/* Makes the view durable and fills in id, held and cloning time, and stamps where the driver uses
	 * them. On an error nothing is left. */
	int (*take)(struct tracked *t, struct sosie_view *v, struct sosie_err *err);
	/* Fills the sets of all volumes that have a base; one that cannot be told is set to all. The first
	 * error is returned. */
	int (*compare)(struct tracked *t, struct sosie_view *v, struct sosie_err *err);
	void (*path_in)(const struct tracked *t, const struct sosie_view_id *id, unsigned volume, char *dst,
	                size_t size);
	/* Removes a view that this object made, by its names. */
	int (*remove)(const struct tracked *t, const struct sosie_view_id *id, struct sosie_err *err);
	int (*extents)(struct tracked *t, uint64_t *out, struct sosie_err *err); /* NULL: do not matter */
};

struct tracked {
	struct sosie_source base;
	struct sosie_source_ops seam; /* base.ops: the same for all, but for the name */
	const struct tracked_ops *ops;
	const struct sosie_volume *volumes;
	unsigned count;
	struct place *places; /* one for each volume */
	char prefix[PREFIX_SIZE];
	struct pause pause;
	struct cleaner cleaner;      /* the btrfs driver's */
	struct stalls stalls, saved; /* saved: as the file has them */
	char stalls_store[4096];     /* the folder .sosie in which they are kept */
	struct held *held;
	unsigned held_count;
	uint64_t extents;    /* as last counted */
	int64_t counted_ns;  /* when that was, or when it had served a cut, CLOCK_MONOTONIC; 0: never */
	bool count_served;   /* a cut was made with it */
	char untracked[160]; /* why the last change set was not known; empty: it was */
	uint64_t cuts;       /* made, with a time measured */
	bool worth_saving;   /* there was a cut since views were last all removed */
	uint64_t last_bytes; /* of the last change set or backlog, the newest; UINT64_MAX: not known */
};

struct view_volume {
	char *path, *base_path; /* base_path NULL: no base */
	uint64_t size, base_size;
	struct changes *changes; /* sealed */
	struct stamp stamp;
	/* What the file was last asked: [asked, data) is a hole, [data, data_end) is data. The kernel walks
	 * all extents up to the next hole for each answer, so it is asked once for each run, not for each
	 * range. */
	uint64_t asked, data, data_end;
};
struct sosie_view {
	struct tracked *source;
	struct sosie_view_id id, base; /* base empty: none */
	enum sosie_consistency label;
	bool made; /* by this object; else found again */
	bool quiet;
	int64_t held_us, cloning_us; /* of all rounds */
	unsigned rounds;             /* of clones; 0 is 1 */
	bool overran;                /* the pause ended before the cut did: no cut, but times were measured */
	struct view_volume *volumes;
};

/* --- what drivers call */
int tracked_init(struct tracked *t, const struct sosie_source_options *o, const struct tracked_ops *ops,
                 struct sosie_err *err);
void tracked_use_stalls(struct tracked *t, const char *store); /* once its folder is known to be there */
void tracked_destroy(struct sosie_source *s);

/* Removes the view; stands in the seam too. */
int tracked_drop(struct sosie_source *s, const struct sosie_view_id *id, struct sosie_err *err);
/* What stat says of the volumes, after the cut: a write meanwhile is seen as one that is too young to be
 * trusted. begun_ns: wall clock before anything was flushed for the cut. */
void tracked_stamp(struct sosie_view *v, int64_t begun_ns);
/* The pause ended too late: the cut is no cut; what it took is noted all the same. */
int tracked_too_late(struct sosie_view *v, struct sosie_err *err);
/* For open, where the folder of views cannot be had: one that we may not use means that the driver does not
 * fit (SOSIE_EUNSUPPORTED), with what was told. */
int tracked_no_store(int rc, struct sosie_err *err);
/* The drivers. SOSIE_EUNSUPPORTED: what does not allow it, in err. */
int reflink_open(const struct sosie_source_options *o, struct sosie_source **out, struct sosie_err *err);
int btrfs_open(const struct sosie_source_options *o, struct sosie_source **out, char *reason, size_t size,
               struct sosie_err *err);

#endif

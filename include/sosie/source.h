/* SPDX-License-Identifier: MIT */
/*
 * Where changes come from: one seam, several drivers. A driver cuts (freezes a view of the whole group at one
 * instant), tells the ranges that may differ from what was accepted last, names what to read them from, and
 * lets the view go. Ranges may be too many, never too few.
 *
 * Driver of this release: scan (engine/source/scan.c): any file or block device; tells data and holes, the
 * replicator compares digests.
 */
#ifndef SOSIE_SOURCE_H
#define SOSIE_SOURCE_H

#include "sosie/clock.h"
#include "sosie/io.h"
#include "sosie/names.h"
#include "sosie/segment.h"

/* A volume as the user named it. */
struct sosie_volume {
	struct sosie_name name;
	char path[4096]; /* absolute */
	bool opaque;     /* taken as bytes even if it looks like qcow2, VMDK, VHDX */
};
/* [NAME=]PATH; NAME defaults to the file name without its ending. PATH is made absolute. */
int sosie_volume_parse(const char *text, struct sosie_volume *out, struct sosie_err *err);

/* What a volume is: recorded with the state; another one under the same name is refused until accepted. */
struct sosie_identity {
	bool device;
	uint64_t dev, ino; /* file */
	char serial[256];  /* device: by-id name, or "major:minor" when there is none */
	uint64_t size;
};
/* Opens PATH (files, devices; links followed), fills in identity; SOSIE_EFORMAT with the qemu-img command
 * when the bytes begin as another format and the volume is not opaque; SOSIE_ENOTFOUND vanished; SOSIE_ESIZE
 * when empty or above 1 PiB. */
int sosie_volume_identify(struct sosie_io *io, const struct sosie_volume *v, struct sosie_identity *out,
                          struct sosie_err *err);

/* The user's commands, run by /bin/sh -c in a process group of their own, with a time limit after which the
 * group is killed. Environment: SOSIE_GROUP, SOSIE_VOLUMES (NAME=PATH lines). */
struct sosie_hooks {
	const char *freeze, *thaw; /* frozen until all is read; both or none */
	uint64_t freeze_limit_ms;  /* thawed at the latest then; passed: the point is fuzzy. Default 30 s */
	const char *view,
	        *view_done;     /* view prints NAME=PATH lines: read these instead; view_done always runs */
	uint64_t hook_limit_ms; /* for each command, default 60 s */
};

enum sosie_extent_kind { SOSIE_EXTENT_DATA, SOSIE_EXTENT_HOLE, SOSIE_EXTENT_END };
struct sosie_extent {
	enum sosie_extent_kind kind;
	uint64_t start, end; /* bytes; END: both the volume's size */
};

struct sosie_source;
struct sosie_view;
struct sosie_source_ops {
	const char *name; /* "scan" */
	/* The instant. *view lives until release. */
	int (*cut)(struct sosie_source *s, struct sosie_view **view, struct sosie_err *err);
	/* What to read volume i from, and its size in the view. */
	int (*path)(struct sosie_view *view, unsigned volume, const char **path, uint64_t *size,
	            struct sosie_err *err);
	/* The next extent at or after from that may differ; holes told as holes. Uses a file that the caller
	 * opened from path. */
	int (*next)(struct sosie_view *view, unsigned volume, struct sosie_io *io, struct sosie_file *file,
	            uint64_t from, struct sosie_extent *out, struct sosie_err *err);
	/* All has been read: thaws, runs view_done, and decides the label. The view is gone afterwards, also
	 * on error (an error of a hook: SOSIE_EHOOK, and *consistency is valid all the same). */
	int (*release)(struct sosie_view *view, enum sosie_consistency *consistency, struct sosie_err *err);
	void (*destroy)(struct sosie_source *s);
};
struct sosie_source {
	const struct sosie_source_ops *ops;
};
/* volumes and hooks are borrowed. A watchdog thread thaws at the limit even if the reader hangs, and a helper
 * process does if we are killed. */
int sosie_scan(const struct sosie_volume *volumes, unsigned count, const struct sosie_hooks *hooks,
               const char *group, struct sosie_clock *clock, struct sosie_source **out,
               struct sosie_err *err);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Where changes come from: one seam, several drivers. A driver cuts (freezes a view of the whole group at one
 * instant), tells the ranges that may differ from a view that was kept, names what to read both from, and
 * lets views go. Ranges may be too many, never too few.
 *
 *   scan     any file or block device; no view of its own (or the user's hook's); all may have changed
 *   reflink  files on XFS or btrfs: a clone of each volume; changes: the mappings of two clones compared
 *   btrfs    files of one subvolume: a read-only snapshot; changes: the kernel's difference of two snapshots
 *
 * Views of reflink and btrfs live in folders ".sosie" beside the volumes and outlive the process. Whoever
 * calls keeps the ids of those that count (the accepted one, the pending one) in durable state of its own.
 */
#ifndef SOSIE_SOURCE_H
#define SOSIE_SOURCE_H

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
	/* Of a file, where detailed (states of older releases have none of it). Device numbers are given anew
	 * at each mount; inode and generation stay. */
	bool detailed;
	bool xfs; /* generations there are random, and its filesystem id is made of the device number */
	uint32_t generation; /* FS_IOC_GETVERSION, 0: not told */
	uint64_t filesystem; /* statfs's f_fsid where that is made of the UUID (ext2 to 4, btrfs), else 0 */
	char serial[256];    /* device: by-id name, or "major:minor" when there is none */
	uint64_t size;
};
/* The same file or device, also after it was mounted again. */
bool sosie_identity_same(const struct sosie_identity *a, const struct sosie_identity *b);
/* Opens PATH (files, devices; links followed), fills in identity; SOSIE_EFORMAT with the qemu-img command
 * when the bytes begin as another format and the volume is not opaque; SOSIE_ENOTFOUND vanished; SOSIE_ESIZE
 * when empty or above 1 PiB. */
int sosie_volume_identify(struct sosie_io *io, const struct sosie_volume *v, struct sosie_identity *out,
                          struct sosie_err *err);

/* The user's commands, run by /bin/sh -c in a process group of their own, with a time limit after which the
 * group is killed. Environment: SOSIE_GROUP, SOSIE_VOLUMES (NAME=PATH lines). */
struct sosie_hooks {
	const char *freeze, *thaw; /* frozen until all is read; both or none */
	/* From the first word of freeze; thawed at the latest then, and what was not done by then is fuzzy
	 * (scan) or fails (a cut). 0: 30 s for scan, else 2 s. */
	uint64_t freeze_limit_ms;
	const char *view,
	        *view_done;     /* view prints NAME=PATH lines: read these instead; view_done always runs */
	uint64_t hook_limit_ms; /* for each command; 0: 60 s */
};

/* How the group's writers are held for the instant of a cut; scan: only around the view command. Writers that
 * another holds already count as not held. A guardian process undoes it at the limit
 * even when we hang, are stopped (SIGSTOP) or are killed. */
enum sosie_pause_kind {
	SOSIE_PAUSE_NONE,
	SOSIE_PAUSE_CGROUP,  /* target: a cgroup v2 folder; cgroup.freeze, waits for cgroup.events */
	SOSIE_PAUSE_QMP,     /* target: a QEMU monitor socket; stop and cont */
	SOSIE_PAUSE_COMMANDS /* hooks.freeze and hooks.thaw */
};
struct sosie_pause {
	enum sosie_pause_kind kind;
	const char *target;
	uint64_t limit_ms; /* from the first word of it to its end; 0: for COMMANDS hooks.freeze_limit_ms,
	                      else 2 s; passed: the cut fails (SOSIE_EHOOK, as all that fails in a pause) */
};
/* "cgroup:DIR", "qmp:SOCKET"; target is borrowed from text. */
int sosie_pause_parse(const char *text, struct sosie_pause *out, struct sosie_err *err);

enum sosie_extent_kind {
	SOSIE_EXTENT_DATA, /* may differ; read it */
	SOSIE_EXTENT_HOLE, /* may differ; reads as zeros, need not be read */
	SOSIE_EXTENT_SAME, /* as in the base view: skip it */
	SOSIE_EXTENT_END
};
struct sosie_extent {
	enum sosie_extent_kind kind;
	uint64_t start, end; /* bytes; END: both the volume's size */
};

/* Names a view that is kept: a letter for the driver and 15 hex digits. Empty: none. */
#define SOSIE_VIEW_ID 17
struct sosie_view_id {
	char s[SOSIE_VIEW_ID];
};

/* What a driver knows of its cuts, for policy and status. */
struct sosie_cut_facts {
	uint64_t extents; /* of all volumes now; 0: does not matter to this driver */
	int64_t stall_us; /* predicted for a cut now, -1: not known yet */
	int64_t last_us;  /* measured at the last cut: how long writers were held, in all rounds of clones
	                     together, -1: none made */
	uint64_t cuts;    /* made by this source object, those that failed for their length too */
	int64_t last_predicted_us; /* what had been predicted for that one, -1: nothing */
	uint64_t
	        view_bytes;  /* what kept views hold back from the filesystem: what had changed when that was
	                        last looked at (cut or backlog, the newest); before that, all of the volumes */
	bool growing;        /* extents have grown at each of the last cuts, without end in sight */
	char untracked[160]; /* why the change set of the last view was not known, wholly or for a volume, so
	                        that all counts as changed; empty: it was, or none was asked for */
};

struct sosie_source;
struct sosie_view;
struct sosie_source_ops {
	const char *name; /* "scan" */
	/* Before anything else, and whenever views are to go: all views of this group, of whatever driver,
	 * that are not among ids (count may be 0) are removed. held[i]: ids[i] is one of this driver's and is
	 * whole. Empty ids are allowed. */
	int (*settle)(struct sosie_source *s, const struct sosie_view_id *ids, unsigned count, bool *held,
	              struct sosie_err *err);
	/* True when surely nothing was written to any volume since view id was cut: costs a stat for each
	 * volume. False in doubt. */
	bool (*unchanged)(struct sosie_source *s, const struct sosie_view_id *id);
	/* Costs no more than a few system calls for each volume, no data is read. */
	int (*facts)(struct sosie_source *s, struct sosie_cut_facts *out, struct sosie_err *err);
	/* The instant. base (NULL or empty: none): what changes are told against; where it is not held, all
	 * has changed. *view lives until release. */
	int (*cut)(struct sosie_source *s, const struct sosie_view_id *base, struct sosie_view **view,
	           struct sosie_err *err);
	/* A kept view again, to finish what was begun from it. SOSIE_ENOTFOUND. */
	int (*reopen)(struct sosie_source *s, const struct sosie_view_id *base,
	              const struct sosie_view_id *id, struct sosie_view **view, struct sosie_err *err);
	/* The view's id, durable on disk since cut returned; empty for a view that cannot be kept. */
	void (*id)(const struct sosie_view *view, struct sosie_view_id *out);
	/* What to read volume i from, and its size in the view. */
	int (*path)(struct sosie_view *view, unsigned volume, const char **path, uint64_t *size,
	            struct sosie_err *err);
	/* What holds volume i's content in the base view, its size there; NULL: there is none. */
	const char *(*base_path)(struct sosie_view *view, unsigned volume, uint64_t *size);
	/* The next extent at or after from; holes told as holes. Uses a file that the caller opened from
	 * path. Called under one lock for each view, from any thread. */
	int (*next)(struct sosie_view *view, unsigned volume, struct sosie_io *io, struct sosie_file *file,
	            uint64_t from, struct sosie_extent *out, struct sosie_err *err);
	/* All has been read: thaws, runs view_done, and decides the label. keep: the view stays on disk
	 * under its id; else it is removed. The object is gone afterwards, also on error (an error of a hook:
	 * SOSIE_EHOOK, and *consistency is valid all the same). */
	int (*release)(struct sosie_view *view, bool keep, enum sosie_consistency *consistency,
	               struct sosie_err *err);
	/* Removes a kept view; one that is not there is fine. */
	int (*drop)(struct sosie_source *s, const struct sosie_view_id *id, struct sosie_err *err);
	void (*destroy)(struct sosie_source *s); /* kept views stay */
	/* Bytes that differ now between kept view id and the live volumes, by their mappings: no data is read
	 * and no cut made, but what is dirty in the page cache is flushed, and it takes as long as reading
	 * all mappings does. What is written meanwhile may be missing. SOSIE_ENOTFOUND: not held. NULL: the
	 * driver cannot tell. */
	int (*backlog)(struct sosie_source *s, const struct sosie_view_id *id, uint64_t *bytes,
	               struct sosie_err *err);
};
struct sosie_source {
	const struct sosie_source_ops *ops;
	bool stands_in; /* auto chose it because clones would hold the writers too long: it reads all */
};

enum sosie_source_kind { SOSIE_SOURCE_AUTO, SOSIE_SOURCE_SCAN, SOSIE_SOURCE_REFLINK, SOSIE_SOURCE_BTRFS };
struct sosie_source_options {
	enum sosie_source_kind kind;
	const struct sosie_volume *volumes; /* borrowed, as all that is pointed to */
	unsigned count;
	const struct sosie_hooks *hooks; /* NULL: none */
	struct sosie_pause pause;
	const char *tenant, *group;
	const char *tag;       /* tells views of one state folder from another's: 8 hex digits */
	uint64_t max_stall_us; /* auto: a clone that would hold writers longer, and longer each time, is not
	                          chosen; 0: no matter */
	const char *state;     /* folder in which it is noted that writers are held, so that whoever opens the
	                          source next lets them go if all of us had died; NULL: not noted */
};
/* Opens the driver asked for (SOSIE_EUNSUPPORTED with the reason when the path does not allow it), or the
 * best that the path allows: btrfs, reflink, scan. reason gets why, for status: "btrfs: all volumes lie in
 * subvolume 257", "scan: ext4 has no reflink". The guardian of hooks and pauses is started at the first cut.
 */
int sosie_source_open(const struct sosie_source_options *options, struct sosie_source **out, char *reason,
                      size_t size, struct sosie_err *err);
/* All views of this group give their space back at once, also those that a cycle works on, whose reads then
 * fail: for when the filesystem runs full. Uses volumes, tenant, group and tag only; thread-safe, at any
 * time. */
int sosie_source_give_up(const struct sosie_source_options *options, struct sosie_err *err);

#endif

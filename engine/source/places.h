/* SPDX-License-Identifier: MIT */
/*
 * Where views lie and what they are called.
 *
 *   FOLDER/.sosie/TENANT.GROUP.TAG.ID.VOLUME    a clone: of reflink, beside its volume, mode 0400
 *   TOP/.sosie/TENANT.GROUP.TAG.ID              a snapshot: of btrfs, at the top of the volumes' subvolume
 *   …/.sosie/~TENANT.GROUP.TAG.…                half made, or a probe: removed by the next settle
 *   FOLDER/.sosie~                              the folder itself, half made (btrfs): used by whoever comes
 * next …/.sosie/TENANT.GROUP.TAG.r.stalls          what cuts have cost (stalls.h); b.stalls: snapshots
 *
 * On btrfs .sosie is a subvolume of its own: what comes and goes in it does not change the volumes' one, nor
 * lies in anybody's snapshots of that. It belongs to us and nobody else may enter it; else it is refused.
 */
#ifndef ENGINE_SOURCE_PLACES_H
#define ENGINE_SOURCE_PLACES_H

#include "sosie/source.h"

#define PREFIX_SIZE (2 * (SOSIE_NAME_MAX + 1) + 10) /* "TENANT.GROUP.TAG." */
#define VIEW_NAME_SIZE (PREFIX_SIZE + SOSIE_VIEW_ID + SOSIE_NAME_MAX + 2)
#define STORE_NAME ".sosie"

struct place {
	bool regular;      /* a file; nothing below is set for others */
	bool btrfs;        /* on btrfs */
	char store[4096];  /* …/.sosie beside the volume */
	char top[4096];    /* btrfs: the top folder of its subvolume; empty: cannot be reached */
	char inside[4096]; /* btrfs: the volume's path from there */
	uint64_t dev;      /* st_dev of the volume: one number for each subvolume */
};
/* Links are followed once, here. SOSIE_ENOTFOUND when the volume is missing. */
int place_find(const struct sosie_volume *v, struct place *out, struct sosie_err *err);

int prefix_make(char dst[PREFIX_SIZE], const struct sosie_source_options *o, struct sosie_err *err);
/* A new name: the driver's letter, the label's digit, 14 random ones. */
int view_id_make(struct sosie_view_id *id, char letter, enum sosie_consistency label, struct sosie_err *err);
bool view_id_valid(const struct sosie_view_id *id, char letter); /* letter 0: any driver's */
enum sosie_consistency view_id_label(const struct sosie_view_id *id);

/* The folder .sosie itself, made when it is missing and create is set. *fd to close. */
int store_open(const char *path, bool btrfs, bool create, int *fd, struct sosie_err *err);
/* The folder that .sosie lies in: a descriptor to close, or -1 with errno. */
int store_parent_open(const char *store);
/* A file, or a subvolume; missing is fine. */
int store_remove(int fd, const char *name, struct sosie_err *err);
/* The same by the path of its folder; one that is missing, or not ours, has nothing of ours. */
int store_remove_at(const char *store, bool btrfs, const char *name, struct sosie_err *err);
/* Where the volume's snapshots lie: TOP/.sosie; false when there is no such place. */
bool place_top_store(const struct place *p, char *dst, size_t size);

/* For each name of the group in the folders of a place, whatever the driver: a view's (id), or one half made
 * (id NULL). Goes on behind a failure; the first is told. Missing folders are fine. */
struct place_walk {
	int (*each)(const struct place_walk *w, const struct place *p, int fd, const char *name,
	            const struct sosie_view_id *id, struct sosie_err *err);
};
int place_walk(const struct place *p, const char *prefix, const struct place_walk *w, struct sosie_err *err);
/* Removes what begins with prefix, or "~" and prefix, and is no view among ids. Missing folders are fine. */
int place_sweep(const struct place *p, const char *prefix, const struct sosie_view_id *ids, unsigned count,
                struct sosie_err *err);
/* Removes what belongs to view id, of either driver. */
int place_remove(const struct place *p, const char *prefix, const struct sosie_view_id *id,
                 struct sosie_err *err);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * What the files of engine/cutover share: the record of a cutover, and where its images are at each step.
 *
 * Where the images are (E: the new epoch, ID: of the cutover):
 *   rename        head/ → live/E.tmp/ → live/E/
 *                 two renames of a folder, both after the fence
 *   clone, copy   live/E.tmp.part/ → live/E.tmp/ → live/E/
 *                 made before the fence, one rename of a folder after it
 *   --into DIR    DIR/.sosie-cutover-ID.tmp/VOLUME.raw → DIR/VOLUME.raw
 *                 made before the fence, renamed one by one after it
 *
 * So each step sees from the names alone what is done, and the trees stay beside the images until these are
 * checked.
 */
#ifndef SOSIE_CUTOVER_INTERNAL_H
#define SOSIE_CUTOVER_INTERNAL_H

#include "engine/store/internal.h"
#include "sosie/cutover.h"

struct cutover_record {
	enum sosie_cutover_step step; /* the last one that is durable; NONE: there is no record */
	char id[17];                  /* names the temporary folder */
	uint64_t point, from_epoch, to_epoch;
	enum sosie_cutover_method method;
	char into[4096];                /* absolute; empty: live/E */
	int64_t started_ms, updated_ms; /* standby's clock */
};

/* step NONE when there is no record. A step before fenced is told as fenced when the chain has the epoch: the
 * record is written after it. */
int cutover_record_read(struct sosie_group *g, struct cutover_record *out, struct sosie_err *err);
int cutover_record_write(struct sosie_group *g, struct cutover_record *r, struct sosie_err *err);
/* True when a finished cutover is over: points were accepted in its epoch, so that the next one is another.
 */
int cutover_record_is_past(struct sosie_group *g, const struct cutover_record *r, bool *past,
                           struct sosie_err *err);

/* live/E or DIR; and the temporary folder beside it or in it. */
int cutover_final_dir(const struct sosie_group *g, const struct cutover_record *r, char dst[STORE_PATH],
                      struct sosie_err *err);
int cutover_temp_dir(const struct sosie_group *g, const struct cutover_record *r, char dst[STORE_PATH],
                     struct sosie_err *err);
/* Where what will be the temporary folder is made: it gets its name when it is whole. */
int cutover_part_dir(const char *temp_dir, char dst[STORE_PATH], struct sosie_err *err);
/* SOSIE_EEXISTS when a name that the cutover will make is there and none of its own. */
int cutover_names_free(struct sosie_group *g, const struct cutover_record *r, const struct sosie_manifest *m,
                       struct sosie_err *err);

#endif
